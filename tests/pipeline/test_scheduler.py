"""The scheduler by itself: what it answers to workers. The same as stock Luigi, see also test_random_graphs."""

from __future__ import annotations

import inspect
import threading
import time
from typing import Any

import luigi.scheduler
import pytest
from luigi.metrics import NoMetricsCollector
from luigi.scheduler import DISABLED, DONE, FAILED, PENDING, RPC_METHODS, RUNNING, Scheduler, SimpleTaskState

from pipeline.scheduler import ObservedState, ReadyScheduler
from tests.pipeline.luigi_runs import add, ask_for_work, read_statuses

BOTH = pytest.mark.parametrize("scheduler_class", [Scheduler, ReadyScheduler])


def take_all(scheduler: Any) -> list[str]:
    """Return the tasks in the order in which one worker is given them, each done before the next."""
    order = []
    while (task_id := ask_for_work(scheduler)) is not None:
        order.append(task_id)
        add(scheduler, task_id, status=DONE)
    return order


# Order


@BOTH
def test_a_dependency_goes_before_what_depends_on_it(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "essay", deps=["draft"])
    add(scheduler, "draft")

    assert take_all(scheduler) == ["draft", "essay"]


@BOTH
def test_priority_decides_and_then_age(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "first")
    add(scheduler, "second")
    add(scheduler, "urgent", priority=5)

    assert take_all(scheduler) == ["urgent", "first", "second"]


@BOTH
def test_a_dependency_of_something_urgent_is_urgent(scheduler_class):
    scheduler = scheduler_class()
    for task_id in ("first", "second", "third"):
        add(scheduler, task_id)
    assert ask_for_work(scheduler) == "first"

    add(scheduler, "urgent", deps=["third"], priority=5)

    assert ask_for_work(scheduler, running=("first",)) == "third"


def test_what_can_be_finished_goes_before_what_would_be_begun():
    """Drafts inherit the priority of their evaluations; a ready evaluation goes first all the same."""
    scheduler = ReadyScheduler()
    for n in (1, 2):
        add(scheduler, f"draft {n}", priority=1)
        add(scheduler, f"essay {n}", deps=[f"draft {n}"], priority=2)
        add(scheduler, f"evaluation {n}", deps=[f"essay {n}"], priority=3)

    assert take_all(scheduler) == ["draft 1", "essay 1", "evaluation 1", "draft 2", "essay 2", "evaluation 2"]


def test_a_priority_reaches_down_a_chain_of_thousands():
    scheduler = ReadyScheduler()
    for n in range(3000):
        add(scheduler, f"link {n}", deps=[f"link {n - 1}"] if n else [])

    add(scheduler, "end", deps=["link 2999"], priority=7)

    assert {task.priority for task in scheduler._state.get_active_tasks()} == {7}


# Resources


@BOTH
def test_a_task_that_lacks_a_resource_is_neither_lost_nor_in_the_way(scheduler_class):
    scheduler = scheduler_class(resources={"a": 1, "b": 1})
    add(scheduler, "a1", resources={"a": 1}, priority=9)
    add(scheduler, "a2", resources={"a": 1}, priority=8)
    add(scheduler, "too big", resources={"a": 5}, priority=7)
    add(scheduler, "b1", resources={"b": 1})
    add(scheduler, "free")

    given = [ask_for_work(scheduler, running=tuple(ids)) for ids in ([], ["a1"], ["a1", "b1"], ["a1", "b1", "free"])]
    add(scheduler, "a1", status=DONE)

    assert given == ["a1", "b1", "free", None]
    assert ask_for_work(scheduler, running=("b1", "free")) == "a2"


def test_many_small_tasks_do_not_starve_a_big_one():
    scheduler = ReadyScheduler(resources={"a": 2})
    add(scheduler, "small 0", resources={"a": 1}, priority=9)
    add(scheduler, "big", resources={"a": 2}, priority=5)
    for n in range(1, 5):
        add(scheduler, f"small {n}", resources={"a": 1})

    assert ask_for_work(scheduler) == "small 0"
    assert ask_for_work(scheduler, running=("small 0",)) is None  # half of `a` is free, and kept
    add(scheduler, "small 0", status=DONE)
    assert ask_for_work(scheduler) == "big"


@BOTH
def test_an_urgent_task_of_another_worker_keeps_its_resource(scheduler_class):
    scheduler = scheduler_class(resources={"a": 1})
    add(scheduler, "urgent", worker="other", resources={"a": 1}, priority=5)
    add(scheduler, "mine", resources={"a": 1})
    add(scheduler, "busy", worker="third", resources={"a": 1}, priority=9)
    assert ask_for_work(scheduler, "third") == "busy"
    assert ask_for_work(scheduler, "other") is None

    add(scheduler, "busy", worker="third", status=DONE)

    assert ask_for_work(scheduler) is None
    assert ask_for_work(scheduler, "other") == "urgent"


@BOTH
@pytest.mark.parametrize(("own_priority", "given"), [(4, None), (10, "mine")])
def test_a_worker_busy_with_less_urgent_work_keeps_a_resource_and_one_busy_with_more_does_not(
    own_priority, given, scheduler_class
):
    scheduler = scheduler_class(resources={"a": 1})
    add(scheduler, "running", worker="other", priority=own_priority)
    assert ask_for_work(scheduler, "other") == "running"
    add(scheduler, "urgent", worker="other", resources={"a": 1}, priority=5)
    add(scheduler, "mine", resources={"a": 1}, priority=1)

    assert ask_for_work(scheduler) == given


@BOTH
def test_what_another_worker_could_start_right_now_is_as_good_as_taken(scheduler_class):
    scheduler = scheduler_class(resources={"a": 2})
    ask_for_work(scheduler, "other")  # it is alive
    add(scheduler, "first", resources={"a": 1})
    add(scheduler, "second", resources={"a": 1})
    add(scheduler, "urgent", worker="other", resources={"a": 1}, priority=10)
    scheduler.add_worker("w", {"workers": 2})

    assert ask_for_work(scheduler) == "first"
    assert ask_for_work(scheduler, running=("first",)) is None
    assert ask_for_work(scheduler, "other") == "urgent"


@BOTH
def test_a_priority_that_is_no_number_counts_as_none(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "t")
    scheduler._state.get_task("t").priority = "high"

    add(scheduler, "t", priority=5)

    assert scheduler._state.get_task("t").priority == 5


@BOTH
def test_a_limit_that_is_raised_in_mid_run_counts(scheduler_class):
    scheduler = scheduler_class(resources={"a": 1})
    add(scheduler, "a1", resources={"a": 1})
    add(scheduler, "a2", resources={"a": 1})
    assert {ask_for_work(scheduler), ask_for_work(scheduler, running=("a1",))} == {"a1", None}

    scheduler.update_resource("a", 2)

    assert ask_for_work(scheduler, running=("a1",)) == "a2"


# What happens to a task


@BOTH
def test_a_reply_that_was_lost_is_given_again(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "t")

    assert ask_for_work(scheduler) == "t"
    assert ask_for_work(scheduler) == "t"
    assert ask_for_work(scheduler, running=("t",)) is None


@BOTH
def test_a_task_that_is_no_longer_done_holds_back_what_depends_on_it(scheduler_class):
    scheduler = scheduler_class(stable_done_cooldown_secs=0)
    add(scheduler, "draft", status=DONE)
    add(scheduler, "essay", deps=["draft"])

    add(scheduler, "draft")  # it was deleted

    assert ask_for_work(scheduler) == "draft"
    assert ask_for_work(scheduler, running=("draft",)) is None
    add(scheduler, "draft", status=DONE)
    assert ask_for_work(scheduler) == "essay"


@BOTH
def test_a_failed_task_comes_back_when_its_time_has_come(scheduler_class):
    scheduler = scheduler_class(retry_delay=0, prune_on_get_work=True)
    add(scheduler, "t")
    assert ask_for_work(scheduler) == "t"
    add(scheduler, "t", status=FAILED)
    while time.time() <= scheduler._state.get_task("t").retry:
        pass  # the clock moves on within a microsecond

    assert ask_for_work(scheduler) == "t"


@BOTH
def test_a_failed_task_is_not_given_before_its_time(scheduler_class):
    scheduler = scheduler_class(retry_delay=900, prune_on_get_work=True)
    add(scheduler, "t")
    assert ask_for_work(scheduler) == "t"

    add(scheduler, "t", status=FAILED)

    assert ask_for_work(scheduler) is None


@BOTH
def test_a_task_that_fails_too_often_is_disabled_and_can_be_enabled_again(scheduler_class):
    scheduler = scheduler_class(retry_count=2, retry_delay=-1)
    add(scheduler, "t")
    for _ in range(2):
        assert ask_for_work(scheduler) == "t"
        add(scheduler, "t", status=FAILED)
        scheduler.forgive_failures("t")

    assert read_statuses(scheduler) == {"t": DISABLED}
    assert ask_for_work(scheduler) is None


@BOTH
def test_a_task_marked_as_done_in_the_dashboard_frees_what_depends_on_it(scheduler_class):
    scheduler = scheduler_class(retry_delay=900)
    add(scheduler, "draft")
    add(scheduler, "essay", deps=["draft"])
    assert ask_for_work(scheduler) == "draft"
    add(scheduler, "draft", status=FAILED)

    scheduler.mark_as_done("draft")

    assert ask_for_work(scheduler) == "essay"


@BOTH
def test_a_dependency_found_while_running_is_waited_for(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "t")
    assert ask_for_work(scheduler) == "t"
    add(scheduler, "found")

    add(scheduler, "t", status=PENDING, new_deps=["found"])

    assert take_all(scheduler) == ["found", "t"]


# Workers


@BOTH
def test_an_assistant_may_run_any_task(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "t")

    assert ask_for_work(scheduler, "assistant", assistant=True) == "t"


@BOTH
def test_a_paused_scheduler_gives_nothing(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "t")
    scheduler.pause()

    assert ask_for_work(scheduler) is None
    scheduler.unpause()
    assert ask_for_work(scheduler) == "t"


@BOTH
def test_a_disabled_worker_is_given_nothing_and_told_so(scheduler_class):
    scheduler = scheduler_class()
    add(scheduler, "t")
    scheduler.disable_worker("w")

    reply = scheduler.get_work(worker="w", current_tasks=[])

    assert (reply["task_id"], reply["worker_state"]) == (None, "disabled")


@BOTH
def test_a_worker_that_has_died_loses_its_tasks_to_another(scheduler_class):
    scheduler = scheduler_class(worker_disconnect_delay=-1, retry_delay=0)
    add(scheduler, "t", worker="dead")
    assert ask_for_work(scheduler, "dead") == "t"

    scheduler.prune()
    scheduler._state.get_task("t").retry = 0.0
    scheduler.prune()
    add(scheduler, "t", worker="living")

    assert ask_for_work(scheduler, "living") == "t"


def test_batches_are_left_to_luigi():
    replies = []
    for scheduler in (Scheduler(), ReadyScheduler()):
        scheduler.add_task_batcher(worker="w", task_family="F", batched_args=["n"])
        for n in ("1", "2"):
            add(scheduler, f"F_{n}", family="F", params={"n": n}, batchable=True)
        replies.append(scheduler.get_work(worker="w", current_tasks=[])["batch_task_ids"])

    assert replies[0] == replies[1] == ["F_1", "F_2"]


@BOTH
def test_an_idle_worker_is_told_how_many_tasks_wait(scheduler_class):
    scheduler = scheduler_class(retry_delay=900)
    for task_id in ("fails", "waits"):
        add(scheduler, task_id, deps=["fails"] if task_id == "waits" else [])
    assert ask_for_work(scheduler) == "fails"
    add(scheduler, "fails", status=FAILED)

    reply = scheduler.get_work(worker="w", current_tasks=[])

    assert (reply["n_pending_tasks"], reply["n_unique_pending"]) == (2, 2)


# State, threads, metrics


def test_the_state_survives_a_restart_with_its_order(tmp_path):
    settings = {"state_path": str(tmp_path / "state.pickle")}
    before = ReadyScheduler(**settings)
    for n in (1, 2):
        add(before, f"draft {n}", priority=1)
        add(before, f"essay {n}", deps=[f"draft {n}"], priority=2)
    before.dump()

    after = ReadyScheduler(**settings)
    after.load()

    assert take_all(after) == ["draft 1", "essay 1", "draft 2", "essay 2"]


def test_a_state_that_cannot_be_saved_leaves_the_last_one(tmp_path):
    path = tmp_path / "state.pickle"
    scheduler = ReadyScheduler(state_path=str(path))
    add(scheduler, "t")
    scheduler.dump()
    saved = path.read_bytes()
    (tmp_path / "state.pickle.partial").mkdir()

    scheduler.dump()

    assert path.read_bytes() == saved


def test_what_is_over_leaves_nothing_in_the_indexes():
    scheduler = ReadyScheduler(remove_delay=-1, worker_disconnect_delay=-1)
    for n in range(20):
        add(scheduler, f"draft {n}")
        add(scheduler, f"essay {n}", deps=[f"draft {n}"])
    take_all(scheduler)

    scheduler.prune()
    scheduler._next_prune = 0.0
    ask_for_work(scheduler, "another")

    assert read_statuses(scheduler) == {}
    assert (scheduler._unmet, scheduler._dependents, scheduler._indexed_deps, scheduler._ready) == ({}, {}, {}, {})


def test_other_threads_may_call_it_while_a_worker_does():
    scheduler = ReadyScheduler()
    is_over, errors = threading.Event(), []

    def disturb() -> None:
        while not is_over.is_set():
            try:
                scheduler.ping(worker="pinger")
                scheduler.task_list(PENDING)
                scheduler.worker_list()
                scheduler.prune()
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=disturb)
    thread.start()
    for n in range(300):
        add(scheduler, f"t{n}")
    order = take_all(scheduler)
    is_over.set()
    thread.join()

    assert (errors, len(order)) == ([], 300)


def test_starts_are_counted():
    class Counting(NoMetricsCollector):
        started = 0

        def handle_task_started(self, _task: Any) -> None:
            Counting.started += 1

    scheduler = ReadyScheduler()
    scheduler._state._metrics_collector = Counting()
    for n in range(3):
        add(scheduler, f"t{n}")

    take_all(scheduler)

    assert Counting.started == 3


# What of Luigi is used although it is private


@pytest.mark.parametrize(
    "name",
    [
        "_update_priority", "_update_worker", "_has_resources", "_used_resources", "_update_task_history",
        "update_metrics_task_started", "count_pending", "prune", "load", "dump", "resources", "add_worker",
    ],
)  # fmt: skip
def test_luigis_scheduler_still_has(name):
    assert callable(getattr(Scheduler, name))


def test_luigis_scheduler_still_has_the_attributes_that_are_used():
    scheduler = Scheduler()

    assert isinstance(scheduler._state, SimpleTaskState)
    assert scheduler._state._task_batchers == {}
    assert scheduler._state._metrics_collector is not None
    assert scheduler._paused is False
    assert scheduler._config.worker_disconnect_delay > 0
    assert scheduler._config.retry_delay > 0


def test_luigi_still_calls_what_is_overridden():
    parameters = {
        Scheduler._update_priority: ["self", "task", "prio", "worker"],
        Scheduler.get_work: ["self", "host", "assistant", "current_tasks", "worker", "kwargs"],
        SimpleTaskState.set_status: ["self", "task", "new_status", "config"],
        SimpleTaskState.inactivate_tasks: ["self", "delete_tasks"],
        SimpleTaskState.inactivate_workers: ["self", "delete_workers"],
        SimpleTaskState.dump: ["self"],
    }

    assert {method: list(inspect.signature(method).parameters) for method in parameters} == parameters


def test_every_change_of_a_status_goes_through_the_state():
    """Nothing in Luigi sets `task.status` past set_status, or an index would go wrong unseen."""
    source = inspect.getsource(luigi.scheduler)

    assert source.count("task.status = ") == source.count("task.status = new_status") == 1


def test_every_public_method_holds_the_lock():
    methods = [getattr(ReadyScheduler, name) for name in RPC_METHODS]

    assert all(hasattr(method, "__wrapped__") for method in methods)


def test_a_task_of_luigis_has_the_fields_that_are_read():
    scheduler = Scheduler()
    add(scheduler, "t", deps=["d"], resources={"a": 1}, priority=3)
    ask_for_work(scheduler)
    task = scheduler._state.get_task("t")

    assert (task.id, task.deps, task.resources, task.priority, task.status) == ("t", {"d"}, {"a": 1}, 3, PENDING)
    for name in ("workers", "runnable", "family", "module", "params", "worker_running", "retry", "time"):
        assert hasattr(task, name)
    assert isinstance(ReadyScheduler()._state, ObservedState)
    assert RUNNING == "RUNNING"


def test_no_object_is_made_for_a_task_that_is_known(monkeypatch):
    """A cohort depends on all its documents, and a word about it would make an object for each."""
    made: list[str] = []
    make = luigi.scheduler.Task.__init__

    def note_and_make(task: Any, task_id: str, *args: Any, **facts: Any) -> None:
        made.append(task_id)
        make(task, task_id, *args, **facts)

    monkeypatch.setattr(luigi.scheduler.Task, "__init__", note_and_make)
    scheduler = ReadyScheduler()

    add(scheduler, "draft")
    for status in (PENDING, RUNNING, DONE):
        add(scheduler, "cohort", deps=["draft", "essay"], status=status)

    assert sorted(made) == ["cohort", "draft", "essay"]


@pytest.mark.slow
def test_the_cost_of_an_answer_does_not_grow_with_what_waits():
    def measure(count: int) -> float:
        scheduler = ReadyScheduler()
        for n in range(count):
            add(scheduler, f"t{n}")
        ask_for_work(scheduler)
        started = time.process_time()
        for n in range(500):
            ask_for_work(scheduler, running=tuple(f"t{m}" for m in range(n, n + 1)))
            add(scheduler, f"t{n}", status=DONE)
        return time.process_time() - started

    few, many = min(measure(1_000) for _ in range(3)), min(measure(10_000) for _ in range(3))

    assert many < 3 * few  # stock: about ten times
