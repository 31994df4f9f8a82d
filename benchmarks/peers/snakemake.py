"""Snakemake, one job a core. At the smallest size only: it takes about a twentieth of a second a step."""

from __future__ import annotations

from benchmarks.peers.peer import Peer

PEER = Peer(
    name="snakemake",
    requirement="snakemake==9.27.1",
    files=("Snakefile",),
    program="snakemake",
    arguments=("--cores", "all", "--quiet", "all"),
    only_smallest=True,
    seconds_a_step=0.05,
)
