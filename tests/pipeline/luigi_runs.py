"""Running Luigi's workers and schedulers in a test, and what is left to see afterwards."""

from __future__ import annotations

from collections import Counter
from typing import Any

import luigi
from luigi.execution_summary import _summary_dict

from pipeline.worker import AsyncWorker

QUICK = {"wait_interval": 0.05, "wait_jitter": 0.0, "ping_interval": 0.2}


def run_root(
    root: luigi.Task, scheduler: Any, worker_class: Any = AsyncWorker, *, places: int = 20, **settings: Any
) -> Any:
    """Run a task and all that it needs; return the worker."""
    with worker_class(scheduler=scheduler, worker_processes=places, **{**QUICK, **settings}) as worker:
        worker.add(root)
        worker.run()
    return worker


def summarize(worker: Any) -> dict[str, set[str]]:
    """Return {category of the summary: task ids}, without those that are empty."""
    return {name: {task.task_id for task in tasks} for name, tasks in _summary_dict(worker).items() if tasks}


def read_statuses(scheduler: Any) -> dict[str, str]:
    """Return {task id: status}."""
    return {task.id: task.status for task in scheduler._state.get_active_tasks()}


def count_statuses(scheduler: Any, family: str) -> dict[str, int]:
    tasks = scheduler._state.get_active_tasks()
    return dict(Counter(task.status for task in tasks if task.family == family))


def add(scheduler: Any, task_id: str, worker: str = "w", **facts: Any) -> None:
    scheduler.add_task(task_id=task_id, worker=worker, **facts)


def ask_for_work(scheduler: Any, worker: str = "w", *, running: tuple[str, ...] = (), **facts: Any) -> str | None:
    """Return the id of the task that a worker is given."""
    reply = scheduler.get_work(worker=worker, current_tasks=list(running), **facts)
    return None if reply["task_id"] is None else str(reply["task_id"])
