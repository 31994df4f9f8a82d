"""Check workers: processes of their own that check batches of documents and calls, a core each.

They take their work from standard input and end with it: if this process is killed, so are they.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.checks import check_batch, read_results

BATCHES_AHEAD = 4  # for each worker, so that none waits while results are taken in
PACKAGE_FOLDER = str(Path(__file__).parent.parent)


class Batch(NamedTuple):
    """Work for one worker: `names` are (stage, doc_id) of documents, or call_ids."""

    kind: str  # documents or calls
    names: list[Any]
    deep: bool


@contextlib.contextmanager
def start_workers(root: Path, count: int) -> Iterator[CheckWorkers]:
    """Start processes besides this one; they end with the block. With none this process does it all."""
    with contextlib.ExitStack() as stack:
        yield CheckWorkers(root, [stack.enter_context(_Worker(root)) for _ in range(count)])


class CheckWorkers:
    """This process and those that it started."""

    def __init__(self, root: Path, workers: Sequence[_Worker]) -> None:
        self._root, self._workers = root, workers

    def check(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield each batch with its results, in order."""
        if not self._workers:
            for batch in batches:
                yield batch, check_batch(str(self._root), batch._asdict())
            return
        idle: queue.SimpleQueue[_Worker | _Here] = queue.SimpleQueue()
        idle.put(_Here(self._root))
        for worker in self._workers:
            idle.put(worker)
        with ThreadPoolExecutor(idle.qsize()) as pool:
            pending: deque[tuple[Batch, Future[list[Any]]]] = deque()
            for batch in batches:
                pending.append((batch, pool.submit(_check, idle, batch)))
                if len(pending) >= (len(self._workers) + 1) * BATCHES_AHEAD:
                    done, future = pending.popleft()
                    yield done, future.result()
            for done, future in pending:
                yield done, future.result()


def _check(idle: queue.SimpleQueue[_Worker | _Here], batch: Batch) -> list[Any]:
    worker = idle.get()
    try:
        return worker.check(batch)
    finally:
        idle.put(worker)


class _Here(NamedTuple):
    """This process, which has nothing else to do than take the results in."""

    root: Path

    def check(self, batch: Batch) -> list[Any]:
        return check_batch(str(self.root), batch._asdict())


class _Worker:
    """One process. If it dies, this process does its work."""

    def __init__(self, root: Path) -> None:
        self._root = root
        path = os.pathsep.join(filter(None, [PACKAGE_FOLDER, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.checks", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
            start_new_session=True,  # Ctrl-C is for this process; the worker's input then ends
        )

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def check(self, batch: Batch) -> list[Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(batch._asdict()) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line.endswith("\n"):
            return check_batch(str(self._root), batch._asdict())
        return read_results(batch.kind, json.loads(line))
