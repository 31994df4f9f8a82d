"""Leftovers: what processes that were killed have left in .tmp, and nobody will ever ask for.

A name that `unique_path` made says who made it: `name.host.pid.chance`. It is a leftover if

    its process is of another machine, or is not there,
    nobody holds it, as every process does with a file that it writes for long, and
    nothing in it has changed for LEAST_AGE, by the clock of the filesystem: else it may be of a process of another
    machine, which nobody here can see.

Locks and other files that are shared have no such names, and are never leftovers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from store.durable import HOST, delete_file, delete_folder, unique_path

LEAST_AGE = timedelta(days=7)  # a week: longer than anybody keeps a process stopped that is to go on
UNIQUE_FORM = re.compile(r"(?P<name>.+)\.(?P<host>[^.]*)\.(?P<pid>\d+)\.[0-9a-f]{12}")


class Leftover(NamedTuple):
    """A file or folder. `name` is that of what it was to become."""

    path: Path
    name: str
    size_bytes: int

    def list_files(self) -> list[str]:
        """Return the names of its files; of a file, none."""
        return [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]


def list_leftovers(temporary_folder: Path, *, now: datetime) -> list[Leftover]:
    """Return what is left by processes that are dead, sorted by its path. Changes nothing."""
    return sorted(_find_leftovers(temporary_folder, now - LEAST_AGE))


def _find_leftovers(temporary_folder: Path, changed_before: datetime) -> Iterator[Leftover]:
    for path in temporary_folder.glob("*"):
        match = UNIQUE_FORM.fullmatch(path.name)
        if match is None or _is_running(match["host"], int(match["pid"])):
            continue
        try:
            found = [each.lstat() for each in (path, *path.rglob("*"))]
        except FileNotFoundError:
            continue  # somebody has just taken it to its place
        changed = datetime.fromtimestamp(max(each.st_mtime for each in found), UTC)
        if changed < changed_before and not _is_held(path):
            yield Leftover(path, match["name"], sum(each.st_size for each in found))


def _is_running(host: str, pid: int) -> bool:
    """Whether a process of this machine may be the one; another may have its number by now."""
    if host != HOST:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is somebody else's
    return True


def _is_held(path: Path) -> bool:
    """Whether a process, of whichever machine, is writing a file. So it seems where there are no locks."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def read_clock(temporary_folder: Path) -> datetime:
    """Return the time of the filesystem, which may be another machine's."""
    probe = unique_path(temporary_folder, "clock")
    probe.mkdir(parents=True)
    try:
        return datetime.fromtimestamp(probe.stat().st_mtime, UTC)
    finally:
        with contextlib.suppress(OSError):
            probe.rmdir()


def delete_leftover(leftover: Leftover) -> None:
    """Delete a leftover for good. Raises WriteFailed."""
    delete = delete_folder if leftover.path.is_dir() else delete_file
    delete(leftover.path)
