"""Luigi with the scheduler and worker of this package, for `luigi.build` and for the plain `luigi` command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import luigi.configuration
from luigi import execution_summary, interface

from pipeline.scheduler import ReadyScheduler
from pipeline.scheduler_client import SchedulerClient
from pipeline.worker import AsyncWorker


class Factory(interface._WorkerSchedulerFactory):  # type: ignore[misc]
    """Makes what a run needs.

    `concurrency` is how many tasks are in flight if --workers does not say; `resources` are limits for the
    scheduler in this process that [resources] in luigi.cfg leaves open.
    """

    def __init__(self, concurrency: int, resources: Mapping[str, int]) -> None:
        self._concurrency, self._resources = concurrency, resources

    def create_local_scheduler(self) -> ReadyScheduler:
        configured = luigi.configuration.get_config().getintdict("resources")
        # It ends with the run: nothing to prune for, and no history to keep.
        return ReadyScheduler(
            resources={**self._resources, **configured}, prune_on_get_work=False, record_task_history=False
        )

    def create_remote_scheduler(self, url: str) -> Any:
        if not url.startswith(("http://", "https://")):  # a Unix socket
            return super().create_remote_scheduler(url)
        return SchedulerClient(url)

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> AsyncWorker:
        # Without --workers Luigi says 1. With 0 it announces tasks and runs none.
        places = self._concurrency if worker_processes == 1 else worker_processes
        return AsyncWorker(scheduler=scheduler, worker_processes=places, assistant=assistant)


def install(make_factory: Callable[[], Factory]) -> None:
    """Let the `luigi` command, and whatever else names no factory, take what `make_factory` returns."""
    interface._WorkerSchedulerFactory = make_factory
    execution_summary._populate_unknown_statuses = populate_unknown_statuses


def populate_unknown_statuses(set_tasks: dict[str, Any]) -> None:
    """Find out, for the summary, why tasks are still pending.

    Luigi's own search goes down the dependencies by recursion, which fails below a thousand. Here those of
    a task are done before the task, so that Luigi's function finds them visited and goes down no further.
    """
    pending = set_tasks["still_pending_not_ext"]
    visited: set[Any] = set()
    for start in pending:
        stack = [(start, False)]
        while stack:
            task, are_dependencies_done = stack.pop()
            if are_dependencies_done:
                execution_summary._depth_first_search(set_tasks, task, visited)
            elif task not in visited:
                visited.add(task)
                if task in pending:
                    stack.append((task, True))
                    stack.extend((dependency, False) for dependency in task._requires())
