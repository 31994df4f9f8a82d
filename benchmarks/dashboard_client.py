"""A worker with tasks that do nothing: python -m benchmarks.dashboard_client PORT TASKS CONCURRENCY."""

from __future__ import annotations

import json
import logging
import sys
from time import perf_counter
from typing import Any, ClassVar

import luigi

from pipeline.scheduler_client import SchedulerClient
from pipeline.scheduling import Factory


class CountingScheduler(SchedulerClient):
    """Counts what goes over the wire."""

    round_trips: ClassVar[int] = 0

    def _fetch(self, *arguments: Any) -> Any:
        CountingScheduler.round_trips += 1
        return super()._fetch(*arguments)


class CountingFactory(Factory):
    def create_remote_scheduler(self, url: str) -> CountingScheduler:
        return CountingScheduler(url)


class Nothing(luigi.Task):  # type: ignore[misc]
    number = luigi.IntParameter()
    done: ClassVar[set[int]] = set()

    def complete(self) -> bool:
        return self.number in self.done

    def run(self) -> None:
        self.done.add(self.number)

    async def run_async(self) -> None:
        self.run()


class Nothings(luigi.WrapperTask):  # type: ignore[misc]
    tasks = luigi.IntParameter()

    def requires(self) -> list[Nothing]:
        return [Nothing(number=number) for number in range(self.tasks)]


def main(port: int, tasks: int, concurrency: int) -> None:
    logging.disable(logging.CRITICAL)
    started = perf_counter()
    luigi.build(
        [Nothings(tasks=tasks)],
        worker_scheduler_factory=CountingFactory(concurrency, {}),
        scheduler_host="127.0.0.1",
        scheduler_port=port,
        workers=1,
        no_lock=True,
    )
    wall_seconds = perf_counter() - started
    assert len(Nothing.done) == tasks
    print(json.dumps({"wall_seconds": wall_seconds, "round_trips": CountingScheduler.round_trips}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
