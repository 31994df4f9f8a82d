"""doit, one process: more of them take longer with steps this small."""

from __future__ import annotations

from benchmarks.peers.peer import Peer

PEER = Peer(
    name="doit",
    requirement="doit==0.37.0",
    files=("dodo.py", "chain_step.py"),
    program="doit",
    arguments=("--verbosity", "0"),
)
