"""A central scheduler for the benchmark: python -m benchmarks.dashboard_server PORT."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import luigi.server

from pipeline.scheduler import ReadyScheduler

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        scheduler = ReadyScheduler(state_path=str(Path(folder) / "state.pickle"))
        luigi.server.run(api_port=int(sys.argv[1]), address="127.0.0.1", scheduler=scheduler)
