"""Records the system calls of a piece of code, in order, and finds what would not survive a power cut."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from store import durable, flushing


class Event(NamedTuple):
    """`name` is open, write, fsync, syncfs, mkdir or rename; `target` is the new name of a rename."""

    name: str
    path: str
    target: str = ""


@contextmanager
def record_system_calls(monkeypatch: pytest.MonkeyPatch, *, drop_flush: int | None = None) -> Iterator[list[Event]]:
    """Yield the list that fills while the block runs. `drop_flush` leaves out that fsync or syncfs, counted from 0."""
    events: list[Event] = []
    paths: dict[int, str] = {}
    flushes = itertools.count()
    real_open, real_write, real_fsync, real_mkdir = os.open, os.write, os.fsync, os.mkdir
    real_replace, real_rename = os.replace, durable.rename_without_replacing
    real_syncfs = flushing.sync_filesystem

    def record_open(path, flags, *arguments, **options):
        descriptor = real_open(path, flags, *arguments, **options)
        paths[descriptor] = os.fspath(path)
        if flags & os.O_CREAT:
            events.append(Event("open", os.fspath(path)))
        return descriptor

    def record_write(descriptor, content):
        events.append(Event("write", paths.get(descriptor, "?")))
        return real_write(descriptor, content)

    def record_fsync(descriptor):
        if next(flushes) != drop_flush:
            real_fsync(descriptor)
            events.append(Event("fsync", paths[descriptor]))

    def record_syncfs(descriptor):
        if next(flushes) != drop_flush:
            real_syncfs(descriptor)
            events.append(Event("syncfs", "everything"))

    def record_mkdir(path, *arguments, **options):
        real_mkdir(path, *arguments, **options)
        events.append(Event("mkdir", os.fspath(path)))

    def record_replace(source, target):
        real_replace(source, target)
        events.append(Event("rename", os.fspath(source), os.fspath(target)))

    def record_rename(source, target):
        real_rename(source, target)
        events.append(Event("rename", str(source), str(target)))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", record_open)
        patch.setattr(os, "write", record_write)
        patch.setattr(os, "fsync", record_fsync)
        patch.setattr(os, "mkdir", record_mkdir)
        patch.setattr(flushing, "sync_filesystem", record_syncfs)
        patch.setattr(os, "replace", record_replace)
        patch.setattr(durable, "rename_without_replacing", record_rename)
        yield events


def find_volatile(events: list[Event], *, root: Path) -> list[str]:
    """Return what a power cut after the last event could lose or empty, as sentences; [] if all is durable.

    A file's bytes are durable if it is flushed after its last write, and before it gets its final name.
    A name is durable if the folder that holds it is flushed after the name came. What lies in .tmp at the
    end needs no name.
    """
    findings = []
    for index, event in enumerate(events):
        later = events[index + 1 :]
        if event.name == "write" and not _is_synced_before_rename(event.path, later):
            findings.append(f"the bytes of {event.path}")
        if event.name in ("mkdir", "open", "rename"):
            path = Path(event.target or event.path)
            moved = _first_rename(str(path), later)
            if moved is not None:
                later = later[:moved]
            if _is_temporary(path, root):
                continue
            if not any(_flushes(event, str(path.parent)) for event in later):
                findings.append(f"the name {path}")
    return findings


def _is_synced_before_rename(path: str, later: list[Event]) -> bool:
    for event in later:
        if _flushes(event, path):
            return True
        if event.name == "rename" and (path + "/").startswith(event.path + "/"):
            return False
    return False


def _flushes(event: Event, path: str) -> bool:
    return event.name == "syncfs" or (event.name == "fsync" and event.path == path)


def _first_rename(path: str, later: list[Event]) -> int | None:
    """Return when a path, or a folder above it, is renamed."""
    for index, event in enumerate(later):
        if event.name == "rename" and (path + "/").startswith(event.path + "/"):
            return index
    return None


def _is_temporary(path: Path, root: Path) -> bool:
    """Whether a name is that of .tmp, or of something right below it: nothing is promised of those."""
    return root / ".tmp" in (path, path.parent)
