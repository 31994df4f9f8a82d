"""Reading whole files with as few system calls as it takes: at each one a thread hands the interpreter on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def read_file(path: Path | str) -> bytes:
    """Return the bytes of a file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):
            content += more
    finally:
        os.close(descriptor)
    return content


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds a folder, and hold it until the block ends.

    The kernel lets go of it when the process dies. Where the filesystem has no such locks, nothing is held.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
