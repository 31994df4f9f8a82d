"""The worker by itself: many tasks in flight, each with a status, an error and a progress of its own."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import threading
import time
from collections import Counter
from typing import Any, ClassVar

import luigi
import luigi.interface
import luigi.worker
import pytest
from luigi import execution_summary
from luigi.event import Event
from luigi.execution_summary import LuigiRunResult
from luigi.scheduler import DISABLED, DONE, FAILED, Scheduler
from luigi.worker import TaskProcess, TaskStatusReporter, Worker

from pipeline.scheduler import ReadyScheduler
from pipeline.scheduling import Factory, populate_unknown_statuses
from tests.pipeline.luigi_runs import count_statuses, read_statuses, run_root, summarize

made: Counter[tuple[str, int]] = Counter()
in_flight: Counter[str] = Counter()
most_in_flight: Counter[str] = Counter()


class Call(luigi.Task):
    """A pretended model call."""

    test = luigi.Parameter()  # keeps the calls of different tests apart
    n = luigi.IntParameter()
    seconds = luigi.FloatParameter(default=0.0)
    fail_every = luigi.IntParameter(default=0)
    provider = luigi.Parameter(default="")

    @property
    def resources(self) -> dict[str, int]:
        return {self.provider: 1} if self.provider else {}

    def complete(self) -> bool:
        return made[self.test, self.n] > 0

    def run(self) -> None:
        asyncio.run(self.run_async())

    async def run_async(self) -> None:
        key = self.provider or self.test
        in_flight[key] += 1
        most_in_flight[key] = max(most_in_flight[key], in_flight[key])
        await asyncio.sleep(self.seconds)
        in_flight[key] -= 1
        if self.fail_every and self.n % self.fail_every == 0:
            raise RuntimeError(f"call {self.n} failed")
        made[self.test, self.n] += 1


class Calls(luigi.WrapperTask):
    test = luigi.Parameter()
    count = luigi.IntParameter()
    seconds = luigi.FloatParameter(default=0.0)
    fail_every = luigi.IntParameter(default=0)
    providers = luigi.ListParameter(default=[""])

    def requires(self) -> list[Call]:
        providers = itertools.cycle(self.providers)
        facts = {"test": self.test, "seconds": self.seconds, "fail_every": self.fail_every}
        return [Call(n=n, provider=next(providers), **facts) for n in range(self.count)]


def test_each_task_has_a_status_of_its_own():
    scheduler = ReadyScheduler()
    root = Calls(test="statuses", count=100, fail_every=30)

    worker = run_root(root, scheduler)

    assert count_statuses(scheduler, "Call") == {DONE: 96, FAILED: 4}
    found = summarize(worker)
    assert (len(found["completed"]), len(found["failed"])) == (96, 4)
    assert found["upstream_failure"] == {root.task_id}
    assert not worker.run_succeeded
    explanation = scheduler._state.get_task(Call(test="statuses", n=30, fail_every=30).task_id).expl
    assert "call 30 failed" in explanation
    assert "Traceback" in explanation


def test_luigis_own_worker_can_run_an_async_task():
    run_root(Calls(test="way back", count=3), Scheduler(), Worker, places=1)

    assert [made["way back", n] for n in range(3)] == [1, 1, 1]


def test_as_many_are_in_flight_as_there_are_places():
    run_root(Calls(test="places", count=30, seconds=0.02), ReadyScheduler(), places=7)

    assert most_in_flight["places"] == 7


def test_resources_cap_what_is_in_flight():
    scheduler = ReadyScheduler(resources={"openai": 4, "anthropic": 3})

    run_root(Calls(test="caps", count=40, seconds=0.02, providers=["openai", "anthropic", "nobody"]), scheduler)

    assert count_statuses(scheduler, "Call") == {DONE: 40}
    # A resource that nobody limits has the limit 1: Luigi's rule.
    assert [most_in_flight[name] for name in ("openai", "anthropic", "nobody")] == [4, 3, 1]


def test_two_workers_share_a_cap_and_make_nothing_twice():
    scheduler = ReadyScheduler(resources={"shared": 5})
    root = Calls(test="two workers", count=60, seconds=0.02, providers=["shared"])
    settings: dict[str, Any] = {"keep_alive": True, "no_install_shutdown_handler": True}
    threads = [
        threading.Thread(target=run_root, args=(root, scheduler), kwargs={**settings, "worker_id": f"w{k}"})
        for k in range(2)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [made["two workers", n] for n in range(60)] == [1] * 60
    assert most_in_flight["shared"] == 5


# Failing, retrying, time limits


class Flaky(luigi.Task):
    """Fails some times, then works."""

    name = luigi.Parameter()
    failures = luigi.IntParameter()
    tries: ClassVar[Counter[str]] = Counter()

    def complete(self) -> bool:
        return self.tries[self.name] > self.failures

    async def run_async(self) -> None:
        self.tries[self.name] += 1
        if self.tries[self.name] <= self.failures:
            raise RuntimeError("not yet")


def test_a_failed_task_is_tried_again_after_the_retry_delay():
    worker = run_root(Flaky(name="retry", failures=2), ReadyScheduler(retry_delay=0.1), keep_alive=True)

    assert Flaky.tries["retry"] == 3
    assert LuigiRunResult(worker).status == luigi.LuigiStatusCode.SUCCESS_WITH_RETRY


def test_a_task_that_fails_too_often_is_disabled_and_not_waited_for():
    scheduler = ReadyScheduler(retry_delay=0.02, retry_count=3)
    task = Flaky(name="disabled", failures=99)

    run_root(task, scheduler, keep_alive=True)

    assert Flaky.tries["disabled"] == 3
    assert read_statuses(scheduler) == {task.task_id: DISABLED}


class Hanging(luigi.Task):
    """Waits far too long, and cleans up when it is told to end."""

    worker_timeout = 0.1
    cleaned_up: ClassVar[list[str]] = []

    def complete(self) -> bool:
        return False

    async def run_async(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            self.cleaned_up.append(self.task_id)


class Stubborn(luigi.Task):
    """Does not end when it is told to, as when a thread waits for a provider."""

    worker_timeout = 0.1
    may_end = threading.Event()

    def complete(self) -> bool:
        return False

    async def run_async(self) -> None:
        waiting = asyncio.get_running_loop().run_in_executor(None, self.may_end.wait, 60)
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue


class HangingThread(luigi.Task):
    worker_timeout = 0.1
    may_end = threading.Event()

    def complete(self) -> bool:
        return False

    def run(self) -> None:
        self.may_end.wait(60)


class Plain(luigi.Task):
    """A task without run_async."""

    n = luigi.IntParameter()
    threads: ClassVar[dict[int, threading.Thread]] = {}

    def complete(self) -> bool:
        return self.n in self.threads

    def run(self) -> None:
        self.threads[self.n] = threading.current_thread()


class AllKinds(luigi.WrapperTask):
    def requires(self) -> list[luigi.Task]:
        return [Hanging(), Stubborn(), HangingThread(), Plain(n=0)]


def test_a_time_limit_ends_every_kind_of_run_and_frees_its_place():
    scheduler = ReadyScheduler()
    started = time.monotonic()
    heard = []
    luigi.Task.event_handler(Event.TIMEOUT)(lambda task, _message: heard.append(type(task)))

    run_root(AllKinds(), scheduler, places=3, stop_seconds=0.3)
    HangingThread.may_end.set()
    Stubborn.may_end.set()

    statuses = read_statuses(scheduler)
    assert time.monotonic() - started < 5
    assert [statuses[kind().task_id] for kind in (Hanging, Stubborn, HangingThread)] == [FAILED] * 3
    assert statuses[Plain(n=0).task_id] == DONE
    assert Hanging.cleaned_up == [Hanging().task_id]
    assert "timed out after 0.1 seconds" in scheduler._state.get_task(HangingThread().task_id).expl
    assert set(heard) == {Hanging, Stubborn, HangingThread}


def test_a_task_without_run_async_runs_in_a_thread():
    run_root(Plain(n=1), ReadyScheduler())

    assert Plain.threads[1] is not threading.main_thread()


class Yielding(luigi.Task):
    def complete(self) -> bool:
        return False

    async def run_async(self) -> Any:
        yield Plain(n=9)


def test_a_coroutine_that_yields_is_an_error_that_says_what_to_do():
    scheduler = ReadyScheduler()

    run_root(Yielding(), scheduler)

    explanation = scheduler._state.get_task(Yielding().task_id).expl
    assert "Yielding.run_async is no coroutine" in explanation
    assert "run(), which may yield" in explanation


class Leaving(luigi.Task):
    """Raises what would end an event loop."""

    def complete(self) -> bool:
        return False

    async def run_async(self) -> None:
        raise SystemExit(7)


def test_a_task_that_wants_to_end_the_program_only_fails():
    scheduler = ReadyScheduler()

    run_root(Leaving(), scheduler)

    assert read_statuses(scheduler) == {Leaving().task_id: FAILED}


class Interrupting(luigi.Task):
    """Raises in its thread what Luigi's TaskProcess lets pass."""

    def complete(self) -> bool:
        return False

    def run(self) -> None:
        raise KeyboardInterrupt


class ClosedDoor:
    """A task_process_context that cannot be entered."""

    def __init__(self, _process: TaskProcess) -> None: ...

    def __enter__(self) -> None:
        raise PermissionError("the door is closed")

    def __exit__(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("root", "settings", "error"),
    [
        (Interrupting(), {}, "KeyboardInterrupt"),
        (Plain(n=2), {"task_process_context": f"{__name__}.ClosedDoor"}, "the door is closed"),
    ],
)
def test_a_thread_that_dies_has_failed_and_is_not_waited_for(root, settings, error):
    scheduler, heard = ReadyScheduler(), []
    luigi.Task.event_handler(Event.PROCESS_FAILURE)(lambda task, _message: heard.append(task))

    settings = {**settings, "no_install_shutdown_handler": True}  # only a main thread may install one
    running = threading.Thread(target=run_root, args=(root, scheduler), kwargs=settings, daemon=True)
    running.start()
    running.join(timeout=20)  # it would wait for ever

    assert not running.is_alive()
    assert read_statuses(scheduler) == {root.task_id: FAILED}
    assert error in scheduler._state.get_task(root.task_id).expl
    assert heard == [root]


def test_events_come_on_the_main_thread_and_once_each():
    heard: list[tuple[str, int]] = []

    def note(name: str) -> Any:
        def hear(*_: Any) -> None:
            assert threading.current_thread() is threading.main_thread()
            heard.append((name, 1))

        return hear

    names = (Event.START, Event.SUCCESS, Event.FAILURE, Event.PROCESSING_TIME)
    handlers = {name: Call.event_handler(name)(note(name)) for name in names}
    run_root(Calls(test="events", count=10, fail_every=4), ReadyScheduler())
    for name, handler in handlers.items():
        Call.remove_event_handler(name, handler)

    counts = Counter(name for name, _ in heard)
    assert counts == {Event.START: 10, Event.SUCCESS: 7, Event.FAILURE: 3, Event.PROCESSING_TIME: 7}


# What tasks tell


class Talking(luigi.Task):
    """Reports what it does, as a long task would."""

    n = luigi.IntParameter()
    finished: ClassVar[set[int]] = set()
    longest_wait: ClassVar[list[float]] = [0.0]

    def complete(self) -> bool:
        return self.n in self.finished

    async def run_async(self) -> None:
        for step in range(10):
            self.set_status_message(f"step {step}")
            self.set_progress_percentage(step * 10)
            self.set_tracking_url(f"file:report-{self.n}")
            before = time.monotonic()
            await asyncio.sleep(0.01)
            self.longest_wait[0] = max(self.longest_wait[0], time.monotonic() - before)
        self.finished.add(self.n)


class Talk(luigi.WrapperTask):
    def requires(self) -> list[Talking]:
        return [Talking(n=n) for n in range(20)]


class SlowScheduler(ReadyScheduler):
    """Answers as slowly as a busy central scheduler."""

    wait = threading.Event().wait

    def add_task(self, *args: Any, **kwargs: Any) -> None:
        self.wait(0.03)
        super().add_task(*args, **kwargs)

    def set_task_status_message(self, *args: Any, **kwargs: Any) -> None:
        self.wait(0.03)
        super().set_task_status_message(*args, **kwargs)


def test_what_tasks_tell_arrives_and_a_slow_scheduler_holds_up_no_coroutine():
    scheduler = SlowScheduler()

    run_root(Talk(), scheduler)

    tasks = [scheduler._state.get_task(Talking(n=n).task_id) for n in range(20)]
    assert {task.status for task in tasks} == {DONE}  # no link that came late has set one back to RUNNING
    assert {(task.status_message, task.progress_percentage) for task in tasks} == {("step 9", 90)}
    assert tasks[3].tracking_url == "file:report-3"
    assert Talking.longest_wait[0] < 0.3


# The summary, and the factory


class Link(luigi.Task):
    """One link of a chain that breaks at its first."""

    n = luigi.IntParameter()

    def requires(self) -> list[Link]:
        return [Link(n=self.n - 1)] if self.n else []

    def complete(self) -> bool:
        return False

    async def run_async(self) -> None:
        raise RuntimeError("the chain breaks")


def test_the_summary_of_a_long_chain_is_made_without_recursion(monkeypatch):
    monkeypatch.setattr(execution_summary, "_populate_unknown_statuses", populate_unknown_statuses)
    worker = run_root(Link(n=1500), ReadyScheduler())

    found = summarize(worker)

    assert (len(found["failed"]), len(found["upstream_failure"])) == (1, 1500)
    assert LuigiRunResult(worker).status == luigi.LuigiStatusCode.FAILED


@pytest.mark.parametrize(("workers", "places"), [(1, 24), (3, 3), (0, 0)])
def test_the_factory_gives_as_many_places_as_workers_says_or_else_its_own_number(workers, places):
    factory = Factory(concurrency=24, resources={"llm_local": 2})
    scheduler = factory.create_local_scheduler()

    with factory.create_worker(scheduler, workers) as worker:
        assert worker.worker_processes == places
    assert scheduler._resources["llm_local"] == 2


# What of Luigi is used although it is private


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Worker._create_task_process, ["self", "task"]),
        (Worker._purge_children, ["self"]),
        (Worker._add_task, ["self", "args", "kwargs"]),
        (Worker._start_phasing_out, ["self"]),
        (Worker.__exit__, ["self", "type", "value", "traceback"]),
        (TaskStatusReporter.__init__, ["self", "scheduler", "task_id", "worker_id", "scheduler_messages"]),
        (execution_summary._populate_unknown_statuses, ["set_tasks"]),
        (execution_summary._depth_first_search, ["set_tasks", "current_task", "visited"]),
        (execution_summary.summary, ["worker"]),
        (luigi.interface._schedule_and_run, ["tasks", "worker_scheduler_factory", "override_defaults"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_luigi_still_has(method, parameters):
    assert list(inspect.signature(method).parameters) == parameters


def test_luigis_worker_still_has_the_attributes_that_are_used():
    worker = Worker(Scheduler(), worker_processes=3)

    assert (worker.worker_processes, worker._running_tasks) == (3, {})
    for name in ("_config", "_id", "_scheduler", "_task_result_queue"):
        assert hasattr(worker, name)
    for name in ("timeout", "check_unfulfilled_deps", "check_complete_on_run", "wait_interval"):
        assert hasattr(worker._config, name)


def test_luigis_task_process_still_reports_once_through_its_queue():
    source = inspect.getsource(TaskProcess.run)

    assert source.count("self.result_queue.put((self.task.task_id, status, expl, missing, new_deps))") == 1
    assert set(TaskProcess.forward_reporter_attributes.values()) == {
        "set_tracking_url",
        "set_status_message",
        "set_progress_percentage",
        "decrease_running_resources",
        "scheduler_messages",
    }


def test_luigis_worker_still_stops_children_before_it_waits_for_a_result():
    source = inspect.getsource(Worker._handle_next_task)

    assert source.index("self._purge_children()") < source.index("self._task_result_queue.get(timeout=")


def test_the_luigi_command_still_asks_its_module_for_the_factory_at_each_run():
    assert "_WorkerSchedulerFactory()" in inspect.getsource(luigi.interface._schedule_and_run)


# Speed


def test_waiting_is_shared():
    started = time.monotonic()

    run_root(Calls(test="shared waiting", count=400, seconds=0.1), ReadyScheduler(), places=100)

    assert time.monotonic() - started < 4  # 0.4 s at best; 40 s one after the other


@pytest.mark.slow
def test_the_cost_of_a_task_does_not_grow_with_their_number():
    def measure(count: int) -> float:
        started = time.process_time()
        run_root(Calls(test=f"cost of {count}", count=count), ReadyScheduler(), places=100)
        return (time.process_time() - started) / count

    small, large = measure(500), measure(4000)

    assert large < 2 * small  # stock: about eight times
