"""Luigi as it comes: LocalTarget files, its own scheduler and worker."""

from __future__ import annotations

from benchmarks.peers.peer import Peer

PEER = Peer(
    name="luigi",
    requirement="luigi==3.8.1",
    files=("luigi_chain.py", "chain_step.py"),
    program="python",
    arguments=("-m", "luigi", "--module", "luigi_chain", "Chains", "--local-scheduler", "--log-level", "WARNING"),
    changed_steps=0,  # it asks only whether an output exists
    seconds_a_step=0.01,
)
