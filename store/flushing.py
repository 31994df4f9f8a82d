"""How written bytes reach the disk: each file by itself, or those of many threads with one flush.

    with open_flush(folder) as flush:
        ... write; flush.add_file(descriptor) after the last byte of each file ...
        flush.finish([folders with new names])        only now may anybody rely on what was written

A writer that is alone syncs each of its files and folders: it pays for its own bytes and for nobody else's.
From SHARED_FROM writers at a time on, one syncfs makes durable what all of them have written; it starts when
the one before has ended, and meanwhile the next ones gather. What a document costs falls with the number
that are made at a time: at sixteen, from 14 flushes to less than one.

syncfs takes everything of a filesystem that is not yet on disk, names and sizes included. Traps:

- Before Linux 5.8 it does not tell of failed writes: then, and on filesystems where a power cut has not been
  tried, every writer is alone.
- The kernel tells a descriptor of a failed write once, and the write may have been anybody's. So after a
  failure nothing is acknowledged any more in this process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

SHARED_FROM = 3  # writers at a time
SHARING_FILESYSTEMS = ("ext4", "xfs")  # tests/faults cuts the power of each. The st_dev of btrfs is that of no mount
FIRST_HONEST_KERNEL = (5, 8)

_LIBC = ctypes.CDLL(None, use_errno=True)


class Flush(Protocol):
    """What one writer does to make its bytes durable. Raises OSError if the disk refuses.

    `waits_for_files`: whether the disk is waited for at each file, or only at the end.
    """

    waits_for_files: bool

    def add_file(self, descriptor: int) -> None:
        """Take a file to which all bytes are written; it may be closed afterwards."""
        ...

    def finish(self, folders: Iterable[Path]) -> None:
        """Return when all files added, and all names in `folders`, are durable."""
        ...

    def finish_before(self, record: Callable[[], int], folders: Iterable[Path]) -> None:
        """As `finish`, and then what `record` writes, to the file whose descriptor it returns: never the other way."""
        ...


class SingleFlush:
    """Syncs each file and folder by itself."""

    waits_for_files = True

    def add_file(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def finish(self, folders: Iterable[Path]) -> None:
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def finish_before(self, record: Callable[[], int], folders: Iterable[Path]) -> None:
        self.finish(folders)
        self.add_file(record())


class _Waiter:
    """A thread that waits for a flush; when `turn` can be had, it is served or has to lead the next one."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()
        self.is_served = False


class SharedFlush:
    """One syncfs of a filesystem for all threads that wait for it."""

    waits_for_files = False

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._guard = threading.Lock()
        self._waiting: list[_Waiter] = []
        self._has_leader = False
        self._failure: OSError | None = None

    def add_file(self, descriptor: int) -> None:
        """Nothing: the flush takes all that is written."""

    def finish(self, folders: Iterable[Path]) -> None:  # noqa: ARG002  it takes all names too
        waiter = _Waiter()
        with self._guard:
            self._waiting.append(waiter)
            leads = not self._has_leader
            self._has_leader = True
        if not leads:
            waiter.turn.acquire()
        if not waiter.is_served:
            self._lead()
        if self._failure is not None:
            raise self._failure

    def finish_before(self, record: Callable[[], int], folders: Iterable[Path]) -> None:
        """One flush for both: these filesystems never keep a later change of names or sizes and lose an earlier one."""
        record()
        self.finish(folders)

    def _lead(self) -> None:
        """Flush for all that wait now, and hand the lead on to the first that came meanwhile."""
        with self._guard:
            served, self._waiting = self._waiting, []
        try:
            if self._failure is None:
                sync_filesystem(self._descriptor)
        except OSError as error:
            self._failure = error
        except BaseException as error:
            self._failure = OSError(errno.EINTR, f"a flush was interrupted: {error!r}")
            raise
        finally:
            self._hand_on(served)

    def _hand_on(self, served: list[_Waiter]) -> None:
        for waiter in served:
            waiter.is_served = True
            waiter.turn.release()
        with self._guard:
            if self._waiting:
                self._waiting[0].turn.release()
            else:
                self._has_leader = False


def sync_filesystem(descriptor: int) -> None:
    """Make durable everything that was written to the filesystem of `descriptor`. Raises OSError."""
    if _LIBC.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# Which of the two

_alone = SingleFlush()
_shared_by_device: dict[int, SharedFlush | None] = {}
_guard = threading.Lock()
_writers = 0


@contextmanager
def open_flush(folder: Path, *, is_batch: bool = False) -> Iterator[Flush]:
    """Yield what makes durable the bytes that the block writes to the filesystem of `folder`.

    `is_batch`: the block writes for many at once, so one flush is better also if it is the only writer.
    """
    global _writers
    with _guard:
        _writers += 1
        share = is_batch or _writers >= SHARED_FROM
    try:
        yield (share and _find_shared(folder)) or _alone
    finally:
        with _guard:
            _writers -= 1


def _find_shared(folder: Path) -> SharedFlush | None:
    """Return the flush that all writers of a filesystem share; None where every writer is to be alone."""
    device = folder.stat().st_dev
    if device not in _shared_by_device:
        with _guard:
            _shared_by_device.setdefault(device, SharedFlush(folder) if can_share(device) else None)
    return _shared_by_device[device]


def can_share(device: int) -> bool:
    """Whether syncfs keeps its promise on a filesystem: kernel and type are known to."""
    if not hasattr(_LIBC, "syncfs") or not Path("/proc/self/mountinfo").exists():
        return False
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    return release >= FIRST_HONEST_KERNEL and _find_filesystem_type(device) in SHARING_FILESYSTEMS


def _find_filesystem_type(device: int) -> str:
    """Return the type of the filesystem with that st_dev: "ext4"; "" if no mount has it. See proc(5), mountinfo."""
    numbers = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == numbers:
            return after.split()[0]
    return ""


def _forget_other_process() -> None:
    """A forked child has none of its parent's threads: whoever held a lock or led a flush is not there."""
    global _guard, _writers
    _guard, _writers = threading.Lock(), 0
    _shared_by_device.clear()


os.register_at_fork(after_in_child=_forget_other_process)
