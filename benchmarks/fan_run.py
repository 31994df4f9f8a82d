"""One run of fan, in a process of its own: python -m benchmarks.fan_run steady|heavy TASKS CONCURRENCY."""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import random
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import ClassVar

import luigi

from pipeline.scheduling import Factory

STEADY_SECONDS = 0.2
HEAVY_MEDIAN_SECONDS, HEAVY_SIGMA, HEAVY_SEED = 0.3, 1.0, 1


class Wait(luigi.Task):  # type: ignore[misc]
    """A pretended model call."""

    number = luigi.IntParameter()
    lengths: ClassVar[list[float]] = []
    started: ClassVar[list[int]] = []
    ended: ClassVar[set[int]] = set()

    def complete(self) -> bool:
        return self.number in self.ended

    def run(self) -> None:
        asyncio.run(self.run_async())

    async def run_async(self) -> None:
        self.started.append(self.number)
        await asyncio.sleep(self.lengths[self.number])
        self.ended.add(self.number)


class Fan(luigi.WrapperTask):  # type: ignore[misc]
    def requires(self) -> list[Wait]:
        return [Wait(number=number) for number in range(len(Wait.lengths))]


def draw_lengths(kind: str, tasks: int) -> list[float]:
    """Return the length of each task in seconds, the same in every run."""
    if kind == "steady":
        return [STEADY_SECONDS] * tasks
    chance = random.Random(HEAVY_SEED)  # noqa: S311  lengths, not secrets
    return [HEAVY_MEDIAN_SECONDS * chance.lognormvariate(0, HEAVY_SIGMA) for _ in range(tasks)]


def ideal_seconds(lengths: Sequence[float], concurrency: int) -> float:
    """Return when the last task ends if each starts, in order, as soon as one of the places is free.

    >>> ideal_seconds([3, 1, 1, 1], 2)
    3.0
    """
    places = [0.0] * concurrency
    for length in lengths:
        heapq.heapreplace(places, places[0] + length)
    return max(places)


def main(kind: str, tasks: int, concurrency: int) -> None:
    logging.disable(logging.CRITICAL)
    Wait.lengths[:] = draw_lengths(kind, tasks)
    started = perf_counter()
    factory = Factory(concurrency, {})
    luigi.build([Fan()], worker_scheduler_factory=factory, local_scheduler=True, workers=1, no_lock=True)
    wall_seconds = perf_counter() - started
    assert len(Wait.ended) == tasks
    ideal = ideal_seconds([Wait.lengths[number] for number in Wait.started], concurrency)
    print(json.dumps({"wall_seconds": wall_seconds, "ideal_seconds": ideal}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
