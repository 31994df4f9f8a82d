"""Preflight: before a call is paid for, is there room for its answer, and may the folders be written?

That the disk takes bytes is then shown by the request itself, which is durable before anything is sent.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from store.errors import NoRoom, StoreNotUsable

MEGABYTE = 1_000_000
GOOD_SECONDS = 1.0  # how long one look holds for a process
WRITTEN_FOLDERS = ("", ".tmp", "calls", "docs", "journal")


class Reserve(NamedTuple):
    """What is to stay free on the store's filesystem for everybody who may write to it."""

    size_bytes: int
    inodes: int


NO_RESERVE = Reserve(0, 0)


class Preflight:
    """Looks at the filesystem of a data folder, at most once a second while all is well."""

    def __init__(self, root: Path, reserve: Reserve) -> None:
        self._root, self._reserve = root, reserve
        self._good_until = 0.0

    def check(self) -> None:
        """Raise NoRoom if less than the reserve is free, StoreNotUsable if a folder cannot be written."""
        now = time.monotonic()
        if now < self._good_until:
            return
        self._check_folders()
        self._check_room()
        self._good_until = now + GOOD_SECONDS

    def _check_folders(self) -> None:
        folders = [self._root / name for name in WRITTEN_FOLDERS]
        for folder in [*folders, *(self._root / "docs").glob("*/")]:
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise StoreNotUsable(self._root, problem=f"{folder} cannot be written. Nothing was sent")

    def _check_room(self) -> None:
        if not self._root.exists():  # the first write makes it
            return
        found = os.statvfs(self._root)
        free = Reserve(found.f_bavail * found.f_frsize, found.f_favail)
        if free.size_bytes < self._reserve.size_bytes:
            megabytes = [size // MEGABYTE for size in (free.size_bytes, self._reserve.size_bytes)]
            raise NoRoom(self._root, what="MB", free=megabytes[0], reserve=megabytes[1])
        if found.f_files and free.inodes < self._reserve.inodes:  # 0: the filesystem makes them as it needs them
            raise NoRoom(self._root, what="inodes", free=free.inodes, reserve=self._reserve.inodes)
