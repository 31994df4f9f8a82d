"""A build up to the start of its first document: python -m benchmarks.add_phase DATA CONFIG COHORT."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pipeline.admissions import Meter
from pipeline.building import build_cohort
from pipeline.planning import DocumentPlan
from pipeline.settings import Roots
from pipeline.tasks import Made


class StopAtFirst:
    """A display that ends the process when the first document starts: by then every task is in the scheduler."""

    def __init__(self) -> None:
        self.missing = 0

    def start(self, cohort: str, missing: list[DocumentPlan], present_count: int, meter: Meter) -> None:  # noqa: ARG002
        self.missing = len(missing)

    def begin(self, plan: DocumentPlan) -> None:  # noqa: ARG002
        print(json.dumps({"missing": self.missing}), flush=True)
        os._exit(0)

    def made(self, plan: DocumentPlan, made: Made) -> None: ...
    def say(self, line: str) -> None: ...
    def failed(self, plan: DocumentPlan, reason: str) -> None: ...
    def stop(self) -> None: ...


if __name__ == "__main__":
    roots = Roots(Path(sys.argv[1]), Path(sys.argv[2]))
    build_cohort(roots, sys.argv[3], allow_missing=False, display=StopAtFirst())
