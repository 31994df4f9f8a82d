"""Child processes that die: each does a piece of work, tells what was acknowledged, and may be killed at any call."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

LIMIT_SECONDS = 60  # after which a child is killed: it hangs
FAILED = 70  # exit status of a child whose work raised

Acknowledge = Callable[[str], None]
Work = Callable[[Acknowledge], None]


class Ending(NamedTuple):
    """What became of a child: what it acknowledged before it ended, and whether it came to its end."""

    acknowledged: list[str]
    is_done: bool
    signal: int


def die() -> NoReturn:
    """End this process as a kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")


def run_child(work: Work, *, when_stopped: Callable[[], None] = lambda: None) -> Ending:
    """Run `work` in a forked child and return how it ended. An exception of the work is one of the test.

    A child that stops itself is looked after by `when_stopped`, and then killed.
    """
    return wait_for(start_child(work), when_stopped=when_stopped)


class Child(NamedTuple):
    pid: int
    pipe: int


def start_child(work: Work) -> Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work_and_exit(work, writing)
    os.close(writing)
    return Child(pid, reading)


def _work_and_exit(work: Work, pipe: int) -> NoReturn:
    signal.alarm(LIMIT_SECONDS)
    write = os.write  # the real one, while that of `os` may be watched
    status = 0
    try:
        work(lambda name: _tell(write, pipe, name))
    except BaseException:
        with contextlib.suppress(OSError):
            _tell(write, pipe, traceback.format_exc())
        status = FAILED
    os._exit(status)


def _tell(write: Callable[[int, bytes], int], pipe: int, text: str) -> None:
    write(pipe, json.dumps(text).encode() + b"\n")


def wait_for(child: Child, *, when_stopped: Callable[[], None] = lambda: None) -> Ending:
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        when_stopped()
        os.kill(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
    with os.fdopen(child.pipe, "rb") as pipe:  # what a child tells fits into the pipe
        told = [json.loads(line) for line in pipe]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FAILED:
        raise AssertionError(f"the child failed: {told[-1]}")
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    assert ended_by != signal.SIGALRM, f"the child hung for {LIMIT_SECONDS} s after {told[-1:]}"
    return Ending(told, ended_by == 0, ended_by)
