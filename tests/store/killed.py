"""Killing a piece of code with SIGKILL at one of its system calls, chosen by number."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from store import durable, flushing

CHANGING_CALLS = ("write", "fsync", "mkdir", "unlink", "rmdir", "replace", "ftruncate")


def is_killed_at(number: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process of its own that dies just before its `number`-th changing system call, from 0.

    Return False if it ended before it got so far; what it raises fails the test.
    """
    process = os.fork()
    if process == 0:
        _count_calls(number)
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the act failed; its traceback is above"
    return False


def _count_calls(number: int) -> None:
    left = number

    def die_or_call(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*arguments, **options)

        return call

    for name in CHANGING_CALLS:
        setattr(os, name, die_or_call(getattr(os, name)))
    durable.rename_without_replacing = die_or_call(durable.rename_without_replacing)
    flushing.sync_filesystem = die_or_call(flushing.sync_filesystem)
