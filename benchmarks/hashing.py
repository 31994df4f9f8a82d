"""Hashing alone: reads every file below a folder and hashes it with BLAKE3, in a plain loop.

    python -m benchmarks.hashing FOLDER PROCESSES      {"files": 21000, "size_bytes": 61000000}

Each process takes every so-manieth sub-folder. Nothing is parsed and nothing compared.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from blake3 import blake3

PIECE_BYTES = 1 << 20


def hash_share(folder: Path, share: int, processes: int) -> tuple[int, int]:
    """Return how many files and bytes one process has hashed."""
    files = size_bytes = 0
    for number, (parent, names, file_names) in enumerate(os.walk(folder)):
        names.sort()
        for name in file_names if number % processes == share else []:
            files, size_bytes = files + 1, size_bytes + _hash_file(f"{parent}/{name}")
    return files, size_bytes


def _hash_file(path: str) -> int:
    hasher, size_bytes = blake3(), 0
    descriptor = os.open(path, os.O_RDONLY)
    while content := os.read(descriptor, PIECE_BYTES):
        hasher.update(content)
        size_bytes += len(content)
    os.close(descriptor)
    hasher.hexdigest()
    return size_bytes


def hash_all(folder: Path, processes: int) -> None:
    ways = [os.pipe() for _ in range(processes)]
    for share, (_, writes) in enumerate(ways):
        if os.fork() == 0:
            os.write(writes, json.dumps(hash_share(folder, share, processes)).encode())
            os._exit(0)
    shares = [json.loads(os.read(reads, 1000)) for reads, _ in ways]
    for _ in ways:
        os.wait()
    print(json.dumps({"files": sum(files for files, _ in shares), "size_bytes": sum(size for _, size in shares)}))


if __name__ == "__main__":
    hash_all(Path(sys.argv[1]), int(sys.argv[2]))
