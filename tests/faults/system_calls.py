"""Stands between the store and the kernel: at any system call of a write, something else can happen first.

    with intercept(lambda call: events.append(call)):
        data.documents.commit(...)              each open, write, fsync, ... of the store is told first

What is told is compared with what strace sees, so that no call of the store can go past it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from store import durable, flushing

WATCHED = ("open", "write", "fsync", "fchmod", "close", "mkdir", "unlink", "rename", "replace")


class SystemCall(NamedTuple):
    """`path` is a file's name, or the old name of a rename."""

    name: str
    path: str
    content: bytes = b""  # of a write
    descriptor: int = -1


Before = Callable[[SystemCall], None]  # called before each system call; may raise OSError in its place


@contextmanager
def intercept(before: Before) -> Iterator[None]:
    """Call `before` ahead of each system call that the store makes while the block runs, in this process only."""
    watcher = _Watcher(before)
    with ExitStack() as patches:
        for name in WATCHED:
            patches.enter_context(patch.object(os, name, watcher.wrap(name, getattr(os, name))))
        rename = watcher.wrap("rename", durable.rename_without_replacing)
        patches.enter_context(patch.object(durable, "rename_without_replacing", rename))
        syncfs = watcher.wrap("syncfs", flushing.sync_filesystem)
        patches.enter_context(patch.object(flushing, "sync_filesystem", syncfs))
        yield


class _Watcher:
    def __init__(self, before: Before) -> None:
        self._before = before
        self._paths: dict[int, str] = {}

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._before(self._describe(name, arguments))
            result = real(*arguments, **options)
            if name == "open":
                self._paths[result] = os.fspath(arguments[0])
            return result

        return call

    def _describe(self, name: str, arguments: tuple[Any, ...]) -> SystemCall:
        target = arguments[0]
        if not isinstance(target, int):
            return SystemCall(name, os.fspath(target))
        content = bytes(arguments[1]) if name == "write" else b""
        return SystemCall(name, self._paths.get(target, ""), content, target)


def at_call(number: int, act: Before) -> Before:
    """Return what lets all system calls pass but the one with that number, counted from 0: that one meets `act`."""
    seen = 0

    def count(call: SystemCall) -> None:
        nonlocal seen
        seen += 1
        if seen == number + 1:
            act(call)

    return count
