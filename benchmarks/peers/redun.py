"""redun with its database in a file, as it sets itself up."""

from __future__ import annotations

from benchmarks.peers.peer import Peer

PEER = Peer(
    name="redun",
    requirement="redun==0.44.1",
    files=("redun_chain.py", "chain_step.py"),
    program="redun",
    arguments=("run", "redun_chain.py", "main"),
    seconds_a_step=0.15,
)
