"""joblib.Memory: functions whose results are kept on disk, called one after the other."""

from __future__ import annotations

from benchmarks.peers.peer import Peer

PEER = Peer(
    name="joblib",
    requirement="joblib==1.6.0",
    files=("joblib_chain.py", "chain_step.py"),
    program="python",
    arguments=("joblib_chain.py",),
    outputs="cache/joblib/*/*/*/output.pkl",
    seconds_a_step=0.001,
)
