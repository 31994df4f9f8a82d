"""Peers: other tools that do the work of chain3, each installed into an environment of its own.

A peer is a module with `PEER`; what the tool itself reads stands in workflows/. Every workflow does the same:
for each file of input/, three steps, each of which reads the 2 KB before it, hashes them and writes 2 KB.
"""

from __future__ import annotations

from benchmarks.peers import doit, joblib, make, redun, snakemake, stock_luigi
from benchmarks.peers.peer import Peer, PeerMissing

__all__ = ["PEERS", "Peer", "PeerMissing"]

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (stock_luigi.PEER, doit.PEER, redun.PEER, make.PEER, joblib.PEER, snakemake.PEER)
}
