"""Locks for the processes of one machine, held through a file; the kernel releases those of a process that dies.

The file is never removed: whoever removed it could take away the lock that another just got.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import WriteFailed


class MachineLock:
    """A lock that is held until `release`. Each is independent of the others of its process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def wait_for(cls, path: Path) -> MachineLock:
        """Return the lock, once nobody else holds it. Waiting takes no CPU."""
        descriptor = _open_lock_file(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return cls(descriptor)

    @classmethod
    def try_to_get(cls, path: Path) -> MachineLock | None:
        """Return the lock; None if it is held already, be it by this process."""
        descriptor = _open_lock_file(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Let the next one have it. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def hold_machine_lock(path: Path) -> Iterator[None]:
    """Wait until nobody else holds the lock, and hold it until the block ends."""
    lock = MachineLock.wait_for(path)
    try:
        yield
    finally:
        lock.release()


def _open_lock_file(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise WriteFailed(path, problem=str(error)) from error
