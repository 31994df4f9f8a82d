"""A Luigi scheduler that has the next task at hand instead of searching for it. Knows nothing of documents.

Luigi sorts and scans all pending tasks for each answer, so n tasks cost n² steps. ReadyScheduler keeps
indexes up to date as statuses change, and an answer costs as much as a heap's top:

    _unmet        {task id: how many of its dependencies are not DONE}
    _dependents   {task id: ids of the tasks that depend on it}
    _ready        {worker id: {needs: heap of its tasks that could run now}}     needs = its resources, as a set

    get_work
        prune, reset failures       what time alone has changed
        _settle                     queue what has become ready since the last answer
        _find_lost_task or _take    the best task that may run now
        _start                      it is RUNNING; Luigi's own record of it is filled in

Only the search is new. What a status means (retries, disabling, batches, priorities that dependencies
inherit) is decided by Luigi's code, in the superclass.

Among tasks of equal priority the one goes first whose own priority, before it inherited any, is higher;
then the one that was added first. A cohort's drafts inherit the priority of its evaluations, and yet an
essay that can be written goes before the next draft.

Trade-offs:

- One heap per set of needs: a task that lacks a resource holds up only tasks with exactly its needs.
- A task that waits for a resource reserves it against tasks of lower rank, or many small ones would
  starve it. One that needs more than the limit is passed over.
- Entries are never taken out of the middle of a heap. Each has a ticket, only the newest ticket of a
  task counts, and an entry with an old one is dropped when it comes to the top.
- The exact number of pending tasks is a walk over all of them; only an idle worker is told it, to
  decide whether to stay. A busy one is told an upper bound, which it does not use.
- With tasks that have a batch_method, Luigi's own scan answers: correct and slow. No task here has one.
- One lock around every public method: the ping thread and running tasks call a scheduler in this process too.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import luigi
from luigi.scheduler import DONE, FAILED, PENDING, RPC_METHODS, RUNNING, Scheduler, SimpleTaskState, Task

logger = logging.getLogger("luigi.scheduler")

ANYONE = "<any worker>"  # owns the heaps that assistants take from; no worker id looks like this
SHORTEST_PRUNE_SECONDS = 10.0  # between two walks over all tasks from get_work
PRUNE_SHARE = 0.02  # of the time at most, however many tasks there are

STATE_CLASSES = {  # all that a saved state is made of, beside numbers, texts and their collections
    ("collections", "deque"),
    *(("luigi.scheduler", name) for name in ("OrderedSet", "RetryPolicy", "Task", "Worker")),
}

Needs = frozenset[tuple[str, int]]


class Entry(NamedTuple):
    """A place in a heap. The least entry is the best task."""

    minus_priority: float
    minus_own_priority: float
    place: int
    ticket: int
    task_id: str


class Head(NamedTuple):
    """The best entry of one heap, and which heap that is."""

    entry: Entry
    owner: str
    needs: Needs


class StateUnpickler(pickle.Unpickler):
    """Reads a saved state and nothing else: a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STATE_CLASSES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a state")
        return super().find_class(module, name)


class ObservedState(SimpleTaskState):  # type: ignore[misc]
    """Luigi's table of tasks. Tells of every change of a status and every removal; saves itself whole or not at all."""

    def __init__(
        self, state_path: str, *, on_change: Callable[[Any, str], None], on_removal: Callable[[Any], None]
    ) -> None:
        super().__init__(state_path)
        self._on_change, self._on_removal = on_change, on_removal

    def set_status(self, task: Any, new_status: str, config: Any = None) -> None:
        before = task.status
        super().set_status(task, new_status, config)
        if task.status != before:
            self._on_change(task, before)

    def inactivate_tasks(self, delete_tasks: Collection[str]) -> None:
        removed = [self.get_task(task_id) for task_id in delete_tasks]
        super().inactivate_tasks(delete_tasks)
        for task in removed:
            self._on_removal(task)

    def inactivate_workers(self, delete_workers: Collection[str]) -> None:
        if delete_workers:  # Luigi walks over all tasks even where nobody is to be removed
            super().inactivate_workers(delete_workers)

    def dump(self) -> None:
        """Save the state. A process that dies at this leaves the last one as it was."""
        partial = Path(f"{self._state_path}.partial")
        try:
            with open(partial, "wb") as file:
                pickle.dump((luigi.__version__, self.get_state()), file, pickle.HIGHEST_PROTOCOL)
            partial.replace(self._state_path)
        except OSError as error:
            logger.warning("The scheduler's state could not be saved in %s: %s", self._state_path, error)

    def load(self) -> None:
        """Take up the saved state. One that cannot be read is set aside with a warning, and nothing is taken up."""
        path = Path(self._state_path)
        try:
            with open(path, "rb") as file:
                state = _read_state(file)
        except FileNotFoundError:
            return
        except Exception as error:  # a damaged pickle can raise anything
            aside = path.with_name(f"{path.name}.unreadable")
            path.replace(aside)
            logger.warning("The scheduler's state cannot be read and was set aside as %s: %s", aside, error)
            return
        self.set_state(state)
        self._status_tasks: dict[str, dict[str, Any]] = defaultdict(dict)
        for task in self.get_active_tasks():
            self._status_tasks[task.status][task.id] = task


class ReadyScheduler(Scheduler):  # type: ignore[misc]
    """Luigi's scheduler with ready-heaps. The call tree stands in the module's docstring."""

    _state: Any
    _make_task: Any  # Luigi sets it, and calls it for what get_task is to return if it has none

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        super().__init__(*args, **kwargs)
        metrics_collector = self._state._metrics_collector
        self._state = ObservedState(
            self._config.state_path, on_change=self._follow_change, on_removal=self._follow_removal
        )
        self._state._metrics_collector = metrics_collector
        self._make_new_task, self._make_task = self._make_task, self._find_or_make_task
        self._next_prune = time.monotonic() + SHORTEST_PRUNE_SECONDS
        self._clear_indexes()

    def _find_or_make_task(self, *, task_id: str, **facts: Any) -> Any:
        """Return a known task, or a new one. Luigi makes one for each dependency of a task, at each word about it."""
        known = self._state.get_task(task_id)
        return self._make_new_task(task_id=task_id, **facts) if known is None else known

    # Indexes

    def _clear_indexes(self) -> None:
        self._unmet: dict[str, int] = {}
        self._indexed_deps: dict[str, frozenset[str]] = {}
        self._dependents: dict[str, set[str]] = {}
        self._ready: dict[str, dict[Needs, list[Entry]]] = {}
        self._ticket_by_task: dict[str, int] = {}
        self._tickets = itertools.count()
        self._places = itertools.count()
        self._touched: dict[str, None] = {}  # to be looked at before the next answer; a dict, for its order
        self._retries: list[tuple[float, str]] = []  # heap: when a failed task may run again
        self._has_assistants = False

    def _index_deps(self, task: Any) -> None:
        """Count a task's unmet dependencies anew: they have changed."""
        known = self._indexed_deps.get(task.id, frozenset())
        for dep in known - task.deps:
            self._forget_dependent(dep, task.id)
        for dep in task.deps - known:
            self._dependents.setdefault(dep, set()).add(task.id)
        self._indexed_deps[task.id] = frozenset(task.deps)
        self._unmet[task.id] = sum(not self._is_done(dep) for dep in task.deps)

    def _forget_dependent(self, dep: str, task_id: str) -> None:
        dependents = self._dependents.get(dep, set())
        dependents.discard(task_id)
        if not dependents:
            self._dependents.pop(dep, None)

    def _is_done(self, task_id: str) -> bool:
        task = self._state.get_task(task_id)
        return task is not None and task.status == DONE

    def _is_ready(self, task: Any) -> bool:
        return task is not None and task.status == PENDING and not self._unmet.get(task.id, 0)

    def _follow_change(self, task: Any, before: str) -> None:
        if DONE in (before, task.status):
            self._shift_unmet(task.id, -1 if task.status == DONE else 1)
        if task.status == FAILED and self._config.retry_delay >= 0:
            heapq.heappush(self._retries, (task.retry, task.id))
        self._touched[task.id] = None

    def _follow_removal(self, task: Any) -> None:
        if task.status == DONE:
            self._shift_unmet(task.id, 1)  # to Luigi, a dependency that nobody knows is not met
        for dep in self._indexed_deps.pop(task.id, ()):
            self._forget_dependent(dep, task.id)
        self._unmet.pop(task.id, None)
        self._ticket_by_task.pop(task.id, None)

    def _shift_unmet(self, task_id: str, change: int) -> None:
        for dependent in self._dependents.get(task_id, ()):
            if dependent in self._unmet:
                self._unmet[dependent] += change
                if not self._unmet[dependent]:
                    self._touched[dependent] = None

    def _settle(self) -> None:
        """Queue each touched task that is ready, under a new ticket."""
        for task_id in self._touched:
            task = self._state.get_task(task_id)
            if self._is_ready(task):
                self._queue(task)
        self._touched.clear()

    def _queue(self, task: Any) -> None:
        self._ticket_by_task[task.id] = ticket = next(self._tickets)
        entry = Entry(-task.priority, -task.own_priority, task.place, ticket, task.id)
        needs = frozenset((task.resources or {}).items())
        owners = list(task.workers)
        if self._has_assistants and task.runnable:
            owners.append(ANYONE)
        for owner in owners:
            heapq.heappush(self._ready.setdefault(owner, {}).setdefault(needs, []), entry)

    # Luigi's methods after which an index has to follow

    def load(self) -> None:
        super().load()
        self._clear_indexes()
        for task in sorted(self._state.get_active_tasks(), key=lambda task: getattr(task, "place", 0)):
            task.place = next(self._places)
            self._index_deps(task)
            self._touched[task.id] = None
            if task.status == FAILED and task.retry:
                heapq.heappush(self._retries, (task.retry, task.id))

    def add_task(self, task_id: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().add_task(task_id, *args, **kwargs)
        task = self._state.get_task(task_id)
        if task is None:  # it came from a worker that was disabled
            return
        if task.id not in self._unmet or task.deps != self._indexed_deps[task.id]:
            self._index_deps(task)
        self._note_rank(task, kwargs.get("priority", 0))
        self._touched[task.id] = None  # its workers, resources or priority may be new

    def _note_rank(self, task: Any, own_priority: float) -> None:
        """Keep on the task, so that it is saved with it, its own priority and when it was first added."""
        if not hasattr(task, "own_priority"):
            task.own_priority, task.place = own_priority, next(self._places)
        task.own_priority = max(task.own_priority, own_priority)  # a result comes without a priority

    def _update_priority(self, task: Any, prio: float, worker: str) -> None:  # noqa: ARG002  Luigi's signature
        """Raise the priority of a task, and of all that it depends on, to at least `prio`.

        As Luigi does it, without its recursion, which a chain of some thousand tasks brings down.
        """
        waiting = [(task, prio)]
        while waiting:
            current, wanted = waiting.pop()
            raised = max(wanted, _read_priority(current))
            if raised != current.priority:
                current.priority = raised
                self._touched[current.id] = None
            deps = (self._state.get_task(dep) for dep in current.deps or ())
            waiting.extend((dep, raised) for dep in deps if dep is not None and raised > _read_priority(dep))

    # The answer to a worker

    def get_work(
        self,
        host: str | None = None,
        assistant: bool = False,
        current_tasks: Collection[str] | None = None,
        worker: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        assert worker is not None
        if self._state._task_batchers:
            batches: dict[str, Any] = super().get_work(
                host=host, assistant=assistant, current_tasks=current_tasks, worker=worker, **kwargs
            )
            return batches
        self._prune_if_due()
        self._reset_due_failures()
        known = self._update_worker(worker, worker_reference={"host": host}, get_work=True)
        if not known.enabled:
            return {**describe_counts(0, known.state), "task_id": None}
        if assistant:
            self._welcome_assistant(worker)
        self._settle()
        task = self._find_lost_task(worker, current_tasks)
        if task is None and not self._paused:
            task = self._take(worker, assistant=assistant)
        reply = self._count(worker, current_tasks, has_work=task is not None)
        if task is None:
            return {**reply, "task_id": None}
        self._start(task, worker, host)
        return {
            **reply,
            "task_id": task.id,
            "task_family": task.family,
            "task_module": task.module,
            "task_params": task.params,
        }

    def _prune_if_due(self) -> None:
        started = time.monotonic()
        if started < self._next_prune:
            return
        self.prune()
        workers = {known.id for known in self._state.get_active_workers()} | {ANYONE}
        self._ready = {owner: heaps for owner, heaps in self._ready.items() if owner in workers}
        self._next_prune = started + max(SHORTEST_PRUNE_SECONDS, (time.monotonic() - started) / PRUNE_SHARE)

    def _reset_due_failures(self) -> None:
        """Make failed tasks PENDING whose time has come."""
        now = time.time()
        while self._retries and self._retries[0][0] < now:
            _, task_id = heapq.heappop(self._retries)
            task = self._state.get_task(task_id)
            if task is None or task.status != FAILED:
                continue
            if task.retry >= now:  # it has failed once more since
                heapq.heappush(self._retries, (task.retry, task_id))
            else:
                self._state.set_status(task, PENDING, self._config)

    def _welcome_assistant(self, worker: str) -> None:
        self.add_worker(worker, [("assistant", True)])
        if not self._has_assistants:
            self._has_assistants = True
            self._touched.update((task.id, None) for task in self._state.get_active_tasks_by_status(PENDING))

    def _find_lost_task(self, worker: str, current_tasks: Collection[str] | None) -> Any:
        """Return a task that this worker was given and does not have, as when the reply was lost; None is usual."""
        if current_tasks is None:
            return None
        claimed = set(current_tasks)
        running = self._state.get_active_tasks_by_status(RUNNING)
        return next((task for task in running if task.worker_running == worker and task.id not in claimed), None)

    def _take(self, worker: str, *, assistant: bool) -> Any:
        """Return the best task that this worker may start now, taken out of its heap; None if there is none."""
        own = self._list_heads([worker, ANYONE] if assistant else [worker])
        if not any(head.needs for head in own):
            return self._pop(min(own)) if own else None
        used, reserved = self._used_resources(), defaultdict[str, int](int)
        for head in self._rank_heads(own, worker):
            task = self._state.get_task(head.entry.task_id)
            if not self._has_resources(task.resources, reserved):
                continue
            is_ours = worker in task.workers or (assistant and task.runnable)
            could_run = self._has_resources(task.resources, used)
            if is_ours and could_run:
                return self._pop(head)
            for resource, amount in head.needs:
                reserved[resource] += amount
                used[resource] += amount if could_run else 0  # its own worker may ask for it any moment
        return None

    def _rank_heads(self, own: list[Head], worker: str) -> list[Head]:
        """Return own heads and those that other workers have a place for, best first, each task once."""
        others = self._list_heads_with_a_place(worker)
        return sorted({head.entry.task_id: head for head in [*others, *own]}.values())

    def _list_heads_with_a_place(self, worker: str) -> list[Head]:
        """Return the heads of other living workers that run fewer tasks of higher rank than they have places.

        What such a worker runs of lower rank does not count: its place will be free one day, and the
        resource is to be free then.
        """
        alive = self._state.get_active_workers(last_get_work_gt=time.time() - self._config.worker_disconnect_delay)
        places = {other.id: other.info.get("workers", 1) for other in alive if other.id != worker and other.enabled}
        if not places:
            return []
        running = defaultdict[str, list[tuple[float, int]]](list)
        for task in self._state.get_active_tasks_by_status(RUNNING):
            running[task.worker_running].append((-_read_priority(task), getattr(task, "place", 0)))
        return [
            head
            for head in self._list_heads(places)
            if sum(rank < (head.entry.minus_priority, head.entry.place) for rank in running[head.owner])
            < places[head.owner]
        ]

    def _list_heads(self, owners: Iterable[str]) -> list[Head]:
        heads = []
        for owner in owners:
            heaps = self._ready.get(owner, {})
            for needs in list(heaps):
                entry = self._find_first_valid(heaps[needs], owner)
                if entry is None:
                    del heaps[needs]
                else:
                    heads.append(Head(entry, owner, needs))
        return heads

    def _find_first_valid(self, heap: list[Entry], owner: str) -> Entry | None:
        while heap:
            entry = heap[0]
            task = self._state.get_task(entry.task_id)
            is_newest = self._ticket_by_task.get(entry.task_id) == entry.ticket
            if is_newest and self._is_ready(task) and (owner == ANYONE or owner in task.workers):
                return entry
            heapq.heappop(heap)
        return None

    def _pop(self, head: Head) -> Any:
        heapq.heappop(self._ready[head.owner][head.needs])
        self._ticket_by_task.pop(head.entry.task_id, None)
        return self._state.get_task(head.entry.task_id)

    def _start(self, task: Any, worker: str, host: str | None) -> None:
        self.update_metrics_task_started(task)
        self._state.set_status(task, RUNNING, self._config)
        task.worker_running = worker
        task.resources_running = dict(task.resources or {})
        task.time_running = time.time()
        self._update_task_history(task, RUNNING, host=host)

    def _count(self, worker: str, current_tasks: Collection[str] | None, *, has_work: bool) -> dict[str, Any]:
        """Return the counters of a reply: exact ones for an idle worker, upper bounds for others."""
        if not has_work and not current_tasks:
            exact: dict[str, Any] = self.count_pending(worker)
            return exact
        waiting = sum(self._state.get_active_task_count_for_status(status) for status in (PENDING, FAILED))
        reply = describe_counts(waiting, self._state.get_worker(worker).state)
        if not has_work:  # the summary of a run names what other workers were running at its end
            reply["running_tasks"] = [
                {"task_id": task.id, "worker": task.worker_running}
                for task in self._state.get_active_tasks_by_status(RUNNING)
                if task.worker_running != worker and worker in task.workers
            ]
        return reply


def _read_state(file: BinaryIO) -> Any:
    version, state = StateUnpickler(file).load()
    if version != luigi.__version__:
        raise ValueError(f"Luigi {version} wrote it, and this is Luigi {luigi.__version__}")
    return state


def _read_priority(task: Any) -> float:
    """Return a task's priority; Luigi's default where a task's class has set something that is no number."""
    return task.priority if isinstance(task.priority, int | float) else Task.DEFAULT_PRIORITY


def describe_counts(waiting: int, worker_state: str) -> dict[str, Any]:
    return {
        "n_pending_tasks": waiting,
        "n_unique_pending": waiting,
        "n_pending_last_scheduled": waiting,
        "worker_state": worker_state,
        "running_tasks": [],
    }


def _hold_lock(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: ReadyScheduler, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return call


for _name in (*RPC_METHODS, "dump", "load", "resources"):
    setattr(ReadyScheduler, _name, _hold_lock(getattr(ReadyScheduler, _name)))
