"""The scheduler that several runs share, and what it adds to the one within a process. Knows nothing of HTTP.

    it can be killed      its state is saved now and then. A new start first waits for the workers that the
                          state knows: until each has told again what it has to do and what it runs, or none of
                          them has said a word for some seconds, nobody is given work. What one has done stays
                          done, though another that knows it as pending tells it later. So no task runs twice
    it shows more         a task without a message or link of its own gets them when it is shown: how far
                          those are that it depends on, and the page of its document
    it hides nothing      no pause after a task was done, in which the loss of its output would not be seen;
                          and a new run may try what earlier runs failed too often

Each start has a name of its own, its `generation`. Workers see it change and tell everything again.
"""

from __future__ import annotations

import heapq
import html
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from luigi.scheduler import DISABLED, DONE, FAILED, PENDING, RUNNING

from pipeline.scheduler import ReadyScheduler, describe_counts

RETURN_SECONDS = 15.0  # for the workers of a saved state to come back; they notice within a ping of 5 seconds
FEWEST_GATHERED = 2  # a task with as many dependencies is shown as the sum of them

FindLink = Callable[[str, Mapping[str, str]], str | None]


class Progress(NamedTuple):
    """How far the dependencies of a task are."""

    done: int
    failed: int
    total: int

    @property
    def percentage(self) -> int:
        return 100 * self.done // self.total

    def __str__(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,} of {self.total:,}{failed}"


class CentralScheduler(ReadyScheduler):
    """Luigi's scheduler for workers of several processes. `find_link` says where a task's result can be seen."""

    def __init__(
        self, *, find_link: FindLink, return_seconds: float = RETURN_SECONDS, resources: Any = None, **settings: Any
    ) -> None:
        super().__init__(resources=resources, stable_done_cooldown_secs=0, record_task_history=False, **settings)
        self.generation = secrets.token_hex(8)
        self.has_new_worker = False  # since the state was saved
        self._find_link, self._return_seconds = find_link, return_seconds
        self._awaited: set[str] = set()
        self._wait_until = 0.0

    # Across a kill

    def load(self) -> None:
        super().load()
        workers = list(self._state.get_active_workers())
        for worker in workers:
            worker.last_active = time.time()  # it could not reach anybody meanwhile
        self._awaited = {worker.id for worker in workers}
        self._wait_until = time.monotonic() + self._return_seconds

    def dump(self) -> None:
        super().dump()
        self.has_new_worker = False

    def add_worker(self, worker: str, info: Any, **facts: Any) -> None:
        """Note a worker that has told all its tasks; it does so again when it has told them again."""
        super().add_worker(worker, info, **facts)
        self._awaited.discard(worker)
        self.has_new_worker = True

    def get_work(self, *arguments: Any, **facts: Any) -> dict[str, Any]:
        if not self._is_waiting():
            return super().get_work(*arguments, **facts)
        worker = facts["worker"]
        known = self._update_worker(worker, worker_reference={"host": facts.get("host")}, get_work=True)
        waiting = self._state.get_active_task_count_for_status(PENDING)
        return {**describe_counts(waiting, known.state), "task_id": None, "is_waiting": True}

    def _is_waiting(self) -> bool:
        return bool(self._awaited) and time.monotonic() < self._wait_until

    def add_task(self, task_id: str | None = None, *arguments: Any, is_told_again: bool = False, **facts: Any) -> None:
        """Note a task. What is told again is what a worker knew before this start: another may have done it since."""
        if facts["worker"] in self._awaited:  # it is coming back; with thousands of tasks that takes a while
            self._wait_until = time.monotonic() + self._return_seconds
        task = self._state.get_task(task_id)
        is_done_here = task is not None and task.status == DONE and getattr(task, "done_in", "") == self.generation
        if is_told_again and is_done_here and facts.get("status") != RUNNING:
            facts["status"] = DONE
        is_given_up = task is not None and task.status == DISABLED and task.scheduler_disable_time
        if is_given_up and facts["worker"] not in task.stakeholders:  # a new run
            self._state.re_enable(task, self._config)
        super().add_task(task_id, *arguments, **facts)
        if facts.get("status") == DONE and (task := self._state.get_task(task_id)):
            task.done_in = self.generation

    # What is shown

    def task_list(
        self,
        status: str = "",
        upstream_status: str = "",
        limit: bool = True,
        search: str | None = None,
        max_shown_tasks: int | None = None,
        **_facts: Any,
    ) -> dict[str, Any]:
        """Return the rows of some tasks. Of too many, the newest, and as `num_tasks` how many there are."""
        self.prune()
        found = self._find_tasks(status, upstream_status, (search or "").casefold().split())
        most = max_shown_tasks or self._config.max_shown_tasks
        if not limit or len(found) <= most:
            return self._serialize_tasks(found)
        newest = heapq.nlargest(most, found, key=lambda task: (len(task.deps) >= FEWEST_GATHERED, task.updated))
        return {**self._serialize_tasks(newest), "num_tasks": len(found)}

    def _find_tasks(self, status: str, upstream_status: str, words: list[str]) -> list[Any]:
        tasks = self._state.get_active_tasks_by_status(status) if status else self._state.get_active_tasks()
        found = [task for task in tasks if all(word in task.pretty_id.casefold() for word in words)]
        if not upstream_status:
            return found
        known: dict[str, str] = {}
        return [
            task for task in found if task.status != PENDING or self._upstream_status(task.id, known) == upstream_status
        ]

    def _serialize_tasks(self, tasks: list[Any]) -> dict[str, Any]:
        return {task.id: self._serialize_task(task.id, include_deps=False) for task in tasks}

    def _serialize_task(self, task_id: str, include_deps: bool = True, deps: Any = None) -> dict[str, Any]:
        row: dict[str, Any] = super()._serialize_task(task_id, include_deps, deps)
        task = self._state.get_task(task_id)
        row["tracking_url"] = row["tracking_url"] or self._link(task)
        progress = self._measure(task)
        if progress is not None:
            row["progress_percentage"] = progress.percentage
        message = row["status_message"] = self._say(task, progress)
        if message:  # among the parameters it is to be read without a click
            row["params"] = {"message": html.unescape(message), **row["params"]}
        return row

    def get_task_status_message(self, task_id: str) -> dict[str, Any]:
        task = self._state.get_task(task_id)
        return {"taskId": task_id, "statusMessage": self._say(task, self._measure(task)) if task else ""}

    def get_task_progress_percentage(self, task_id: str) -> dict[str, Any]:
        reply: dict[str, Any] = super().get_task_progress_percentage(task_id)
        progress = self._measure(self._state.get_task(task_id))
        return reply if progress is None else {**reply, "progressPercentage": progress.percentage}

    def _link(self, task: Any) -> str | None:
        link = self._find_link(task.family, task.params)
        if link is None and len(task.deps) >= FEWEST_GATHERED:  # a cohort has the page of its report
            gatherers = (dep for dep in self._list_deps(task) if dep and len(dep.deps) >= FEWEST_GATHERED)
            link = next((found for dep in gatherers if (found := self._find_link(dep.family, dep.params))), None)
        return link

    def _say(self, task: Any, progress: Progress | None) -> str | None:
        own: str | None = task.status_message
        return own if progress is None else ", ".join(filter(None, (str(progress), own)))

    def _measure(self, task: Any) -> Progress | None:
        """Return how far those are that a task gathers, but not those among them that only gather themselves."""
        if task is None or len(task.deps) < FEWEST_GATHERED:
            return None
        gathered = [dep for dep in self._list_deps(task) if dep is None or len(dep.deps) < FEWEST_GATHERED]
        statuses = [dep.status for dep in gathered if dep is not None]
        failed = sum(status in (FAILED, DISABLED) for status in statuses)
        return Progress(statuses.count(DONE), failed, len(gathered)) if gathered else None

    def _list_deps(self, task: Any) -> list[Any]:
        return [self._state.get_task(dep) for dep in task.deps]
