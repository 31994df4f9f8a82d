"""Check workers: processes besides this one that check batches of documents and calls.

They take their work from standard input and end with it: if this process is killed, so are they. Each has some
batches ahead, so that none waits while this process checks a batch itself; threads would keep one another waiting.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.checks import check_batch, read_results

BATCHES_AHEAD = 2  # of each worker
BATCHES_KEPT = 32  # results of other processes, until their turn comes
PIECE_BYTES = 1 << 16
PACKAGE_FOLDER = str(Path(__file__).parent.parent)


class Batch(NamedTuple):
    """Work for one worker: `names` are (stage, doc_id) of documents, or call_ids."""

    kind: str  # documents or calls
    names: list[Any]
    deep: bool


class Slot:
    """A batch, and its results when they have come."""

    def __init__(self, batch: Batch, worker: Worker | None) -> None:
        self.batch, self.worker = batch, worker
        self.results: list[Any] | None = None


@contextlib.contextmanager
def start_workers(root: Path, count: int) -> Iterator[CheckWorkers]:
    """Start processes besides this one; they end with the block. With none this process does it all."""
    with contextlib.ExitStack() as stack:
        yield CheckWorkers(root, [stack.enter_context(Worker(root)) for _ in range(count)])


class CheckWorkers:
    """This process and those that it started."""

    def __init__(self, root: Path, workers: Sequence[Worker]) -> None:
        self._root, self._workers = root, workers

    def check(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Any]]]:
        """Yield each batch with its results, in order."""
        waiting = iter(batches)
        slots: deque[Slot] = deque()
        while True:
            for worker in self._workers:
                worker.take_results()
                while worker.has_room and len(slots) < BATCHES_KEPT and (batch := next(waiting, None)):
                    slots.append(Slot(batch, worker))
                    worker.send(slots[-1])
            while slots and slots[0].results is not None:
                yield slots[0].batch, slots[0].results
                slots.popleft()
            own = self._choose_own(slots, waiting)
            if own is not None:
                own.results = check_batch(str(self._root), own.batch._asdict())
            elif not slots:
                return
            elif slots[0].worker is not None:
                slots[0].worker.take_results(wait=True)

    def _choose_own(self, slots: deque[Slot], waiting: Iterator[Batch]) -> Slot | None:
        """Return what this process does next: what a worker left when it died, else the next batch; None to wait."""
        for slot in slots:
            if slot.results is None and (slot.worker is None or slot.worker.is_dead):
                return slot
        if len(slots) < BATCHES_KEPT and (batch := next(waiting, None)):
            slots.append(Slot(batch, None))
            return slots[-1]
        return None


class Worker:
    """One process. If it dies, this process does its work."""

    def __init__(self, root: Path) -> None:
        path = os.pathsep.join(filter(None, [PACKAGE_FOLDER, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.checks", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for this process; the worker's input then ends
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)  # a long batch is written in pieces, as there is room
        self._asked: deque[Slot] = deque()
        self._read = b""
        self.is_dead = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.terminate()
        self._process.wait()

    @property
    def has_room(self) -> bool:
        return not self.is_dead and len(self._asked) < BATCHES_AHEAD

    def send(self, slot: Slot) -> None:
        """Ask for the results of a slot; they come later."""
        self._asked.append(slot)
        rest = memoryview(json.dumps(slot.batch._asdict()).encode() + b"\n")
        while rest and not self.is_dead:
            answers, room, _ = select.select([self._output], [self._input], [])
            if answers:  # first: it may wait for them to be read, and read nothing itself until then
                self.take_results()
            if room:
                try:
                    rest = rest[os.write(self._input, rest) :]
                except BrokenPipeError:
                    self.is_dead = True

    def take_results(self, *, wait: bool = False) -> None:
        """Take in what has come; with `wait` at least one piece, unless it has died."""
        while not self.is_dead and (wait or select.select([self._output], [], [], 0)[0]):
            piece = os.read(self._output, PIECE_BYTES)
            self.is_dead = not piece
            *lines, self._read = (self._read + piece).split(b"\n")
            for line in lines:
                slot = self._asked.popleft()
                slot.results = read_results(slot.batch.kind, json.loads(line))
            wait = False
