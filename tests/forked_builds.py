"""Builds in processes that are forked from one that has imported everything: a tenth of the time of a new one.

    with ForkServer() as builds:
        build = builds.run(folder, "build", "one", "--batch")
        build = builds.run(folder, "build", "one", "--batch", die_at=7)

`die_at` ends the process with SIGKILL when it is about to do the seventh thing that matters to calls and batches: open
a connection, make a folder of theirs, or a file, be it still under its temporary name. What came before it, such as the
last file's rename, has happened. A build that reaches it has `code` -9.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

FILES = ("batch", "requests", "file", "asked", "refused", "submitted", "output", "finished", "response", "outcome")
ROOT = Path(__file__).parent.parent


class Build(NamedTuple):
    code: int
    output: str
    errors: str
    steps: int  # how many such things it did

    @property
    def result(self) -> Any:
        return json.loads(self.output)


class ForkServer:
    """The process that forks. Each run goes in a folder and has the environment of the test at that time."""

    def __enter__(self) -> ForkServer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_builds"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, folder: Path, *arguments: str, die_at: int = 0) -> Build:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        names = ("output", "errors", "steps")
        job = {"folder": str(folder), "arguments": [*arguments, "--json"], "die_at": die_at, "env": dict(os.environ)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        output, errors, steps = ((folder / f".{name}").read_text() for name in names)
        return Build(code, output, errors, len(steps))


def serve() -> None:
    import pipeline.building
    import pipeline.litellm_client  # noqa: F401  loaded once, here

    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(job)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(job: dict[str, Any]) -> None:
    from pipeline.cli import main

    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    for number, name in ((1, ".output"), (2, ".errors")):
        os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644), number)
    steps = os.open(".steps", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    numbers = itertools.count(1)  # `next` gives no two threads the same

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not _matters(event, arguments):
            return
        os.write(steps, b".")
        if next(numbers) == job["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    code = 70
    try:
        code = main(job["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _matters(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, _mode, flags = arguments
        return isinstance(path, str | os.PathLike) and bool(flags & os.O_CREAT) and _is_theirs(os.fspath(path))
    return event == "socket.connect" or (event == "os.mkdir" and _is_theirs(os.fspath(arguments[0])))


def _is_theirs(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return "data/batches" in path or "data/calls" in path or (folder == "data/.tmp" and name.startswith(FILES))


if __name__ == "__main__":
    serve()
