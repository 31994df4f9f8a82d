"""Builds that can be killed at any step of what matters to calls and batches.

    build = Builds().run(folder, "build", "one", "--batch")
    build = Builds().run(folder, "build", "one", "--batch", die_at=7)

`die_at` ends the process with SIGKILL when it is about to do the seventh thing that matters to calls and batches: open
a connection, make a folder of theirs, or a file, be it still under its temporary name. What came before it, such as the
last file's rename, has happened. A build that reaches it has `code` -9.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.programs import start

FILES = ("batch", "requests", "file", "asked", "refused", "submitted", "output", "finished", "response", "outcome")


class Build(NamedTuple):
    code: int
    output: str
    errors: str
    steps: int  # how many such things it did

    @property
    def result(self) -> Any:
        return json.loads(self.output)


class Builds:
    def run(self, folder: Path, *arguments: str, die_at: int = 0) -> Build:
        before = f"{watch_steps.__module__}:{watch_steps.__name__}"
        process = start(folder, "daybook", *arguments, "--json", before=before, DIE_AT=str(die_at))
        output, errors = process.communicate()
        return Build(process.returncode, output, errors, len((folder / ".steps").read_text()))


def watch_steps() -> None:
    """Write a dot to .steps for each thing that matters, and die at the one with the number DIE_AT."""
    steps = os.open(".steps", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    die_at = int(os.environ["DIE_AT"])
    numbers = itertools.count(1)  # `next` gives no two threads the same

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not _matters(event, arguments):
            return
        os.write(steps, b".")
        if next(numbers) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _matters(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, _mode, flags = arguments
        return isinstance(path, str | os.PathLike) and bool(flags & os.O_CREAT) and _is_theirs(os.fspath(path))
    return event == "socket.connect" or (event == "os.mkdir" and _is_theirs(os.fspath(arguments[0])))


def _is_theirs(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return "data/batches" in path or "data/calls" in path or (folder == "data/.tmp" and name.startswith(FILES))
