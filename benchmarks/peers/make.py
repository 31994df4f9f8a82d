"""GNU make, one job a core; each step is a small shell pipeline."""

from __future__ import annotations

import os

from benchmarks.peers.peer import Peer

PEER = Peer(
    name="make",
    requirement="",
    files=("Makefile",),
    program="make",
    arguments=("--silent", f"--jobs={os.cpu_count() or 1}"),
    seconds_a_step=0.004,
)
