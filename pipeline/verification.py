"""Verification: do the bytes of the store match what was recorded of them? It changes nothing.

verify
    Comparison    what is there with what was recorded of it
    judge         what was found: repairable, or lost
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.comparison import Comparison, Progress, Verification
from store.data_root import DataRoot


def verify(
    data: DataRoot,
    config_folder: Path,
    *,
    deep: bool,
    resume: bool = False,
    sources: Sequence[Callable[[str], bytes | None]] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
    workers: int | None = None,
) -> Verification:
    """Check a whole store. `workers` is the number of processes besides this one; None chooses."""
    comparison = Comparison(data, deep=deep, on_progress=on_progress)
    comparison.run(resume=resume, workers=workers)
    if comparison.findings:
        from pipeline.judging import judge  # brings parsers and models with it, which a sound store goes without

        comparison.found.findings = judge(comparison, config_folder, sources)
    comparison.found.seconds = time.monotonic() - comparison.started
    return comparison.found
