"""Building a cohort from the command line: Luigi schedules, a display shows how far it is.

build_cohort
    write task tables           before anything runs
    luigi.build(Cohort)         makes what is missing, many documents at a time; its scheduler is in this process
                                or, with a URL, a central one
    check completeness          by looking, whatever Luigi says
    make_report                 also of an incomplete cohort: then it says what is missing, and why
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import luigi

from pipeline.admissions import Meter
from pipeline.batches import Batches, open_batches
from pipeline.budgets import Caps
from pipeline.build_result import REPORT_PAGE, BuildResult
from pipeline.errors import BudgetReached, DocumentFailed, PlaceLeft
from pipeline.estimates import add_up, estimate_stages
from pipeline.making import Ask, parse_retry
from pipeline.planning import DocumentPlan
from pipeline.prices import PriceUnknown, find_price
from pipeline.report_document import make_report
from pipeline.scheduler_client import RPCError, SchedulerClient, SchedulerUnreachable, check_url
from pipeline.settings import Roots
from pipeline.stages import Stage, Status
from pipeline.tasks import TASKS, Cohort, DocumentTask, Made, find_workspace, make_factory, read_caps
from pipeline.workspace import Workspace
from store.data_root import DataRoot

NO_CAPS = Caps()


class Display(Protocol):
    """Where a build shows how far it is."""

    def start(self, cohort: str, missing: list[DocumentPlan], present_count: int, meter: Meter) -> None: ...
    def begin(self, plan: DocumentPlan) -> None: ...
    def made(self, plan: DocumentPlan, made: Made) -> None: ...
    def failed(self, plan: DocumentPlan, reason: str) -> None: ...
    def say(self, line: str) -> None: ...
    def stop(self) -> None: ...


class _CountingAsk:
    """Asks the model and counts how often."""

    def __init__(self, ask: Ask) -> None:
        self._ask, self.calls = ask, 0
        self._guard = threading.Lock()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self._guard:
            self.calls += 1
        return self._ask(*arguments, **options)


def build_cohort(
    roots: Roots,
    cohort: str,
    *,
    allow_missing: bool,
    display: Display,
    concurrency: int | None = None,
    caps: Caps = NO_CAPS,
    retry: str = "",
    scheduler_url: str | None = None,
    batches: Batches | None = None,
    ignores_batches: bool = False,
) -> BuildResult:
    """Make what is missing of a cohort, and its report; `concurrency` documents at a time, within `caps`.

    `retry` names the final statuses whose calls are asked again: "gen_error,truncated". `scheduler_url` names a
    central scheduler; without it one in this process is used. With `batches`, what they have brought is used, and
    calls are submitted and not asked. A call that is in a batch is not asked, unless the build `ignores_batches`.

    Raises PipelineError or StoreError if nothing could be started, or a document is damaged; SystemExit with
    130 or 143 after Ctrl-C or SIGTERM. SchedulerUnreachable is a PipelineError.
    """
    _configure_luigi(str(roots.data), str(roots.config))
    workspace = find_workspace()
    workspace.set_budget(caps or read_caps())
    ask = _CountingAsk(workspace.maker.ask)
    workspace.maker = replace(
        workspace.maker,
        ask=ask,
        retry=parse_retry(retry) or workspace.maker.retry,
        defer=batches.defer if batches else None,
        ignores_batches=ignores_batches,
    )
    workspace.write_tables(cohort)
    missing = workspace.find_missing(cohort)
    planned = sum(map(len, workspace.plan(cohort).documents.values()))
    result = BuildResult(cohort, present=planned - len(missing))
    started = time.monotonic()
    if batches:
        batches.check({plan.model_id: plan.model for plan in missing if plan.model}.values())
        batches.begin(workspace.maker)
    if missing:
        task = Cohort(name=cohort, allow_missing=allow_missing)
        with _show_making(workspace, cohort, missing, result, display):
            _run_luigi(task, concurrency, scheduler_url)
            if batches:
                batches.submit(cohort)
    result.seconds, result.calls = time.monotonic() - started, ask.calls
    if batches:
        result.batches = batches.describe()
        result.errors += batches.errors
    _finish(workspace, result)
    return result


@contextmanager
def _show_making(
    workspace: Workspace, cohort: str, missing: list[DocumentPlan], result: BuildResult, display: Display
) -> Iterator[None]:
    """Open the budget, show what happens until the block ends, and settle what was spent."""
    _open_budget(workspace, cohort, missing)
    display.start(cohort, missing, result.present, workspace.maker.admission.meter)
    try:
        with _follow_tasks(_Follower(result, display)):
            yield
    finally:
        display.stop()
        _close_budget(workspace, result)


def build_in_batches(roots: Roots, cohort: str, *, wait_seconds: float | None = None, **options: Any) -> BuildResult:
    """Build a cohort, its calls submitted as batches; with `wait_seconds` again whenever one has brought something.

    Raises BatchesBusy if another process works at batches; else as build_cohort.
    """
    with open_batches(DataRoot(roots.data)) as batches:
        result = build_cohort(roots, cohort, batches=batches, **options)
        while wait_seconds and result.is_waiting and not result.errors and batches.wait(wait_seconds):
            earlier, result = result, build_cohort(roots, cohort, batches=batches, **options)
            result.add_earlier(earlier)
        return result


def _run_luigi(cohort: Cohort, concurrency: int | None, scheduler_url: str | None) -> None:
    """Run a cohort. Raises SchedulerUnreachable if a central scheduler does not answer, or stays away in mid-run."""
    if scheduler_url is not None:
        SchedulerClient(check_url(scheduler_url)).check()
    try:
        luigi.build(
            [cohort],
            worker_scheduler_factory=make_factory(concurrency),
            local_scheduler=scheduler_url is None,
            scheduler_url=scheduler_url or "",
            workers=1,  # or [core] workers would go before `concurrency`
            no_lock=True,
        )
    except RPCError as error:
        raise SchedulerUnreachable(scheduler_url or "", error.sub_exception or error) from error


def _open_budget(workspace: Workspace, cohort: str, missing: list[DocumentPlan]) -> None:
    """Read what is spent, before anything is. Raises PriceUnknown, BudgetBusy."""
    budgets = workspace.maker.admission.budgets
    if budgets is None:
        return
    if budgets.caps.usd is not None:
        for model in {plan.model_id: plan.model for plan in missing if plan.model}.values():
            if find_price(model) is None:
                raise PriceUnknown(model)
    budgets.get(cohort)


def _close_budget(workspace: Workspace, result: BuildResult) -> None:
    """Note what was spent, and let other processes keep the budget."""
    meter, budgets = workspace.maker.admission.meter, workspace.maker.admission.budgets
    result.cost_usd = None if meter.unknown else round(meter.usd, 9)
    if budgets is None:
        return
    budget = budgets.get(result.cohort)
    result.is_budget_reached = budget.is_reached
    result.budget = {
        "usd": budgets.caps.usd,
        "tokens": budgets.caps.tokens,
        "spent_usd": None if budgets.caps.usd is None else round(budget.spent.usd or 0.0, 9),
        "spent_tokens": budget.spent.tokens,
        "reached": budget.is_reached,
    }
    budgets.close()


def _finish(workspace: Workspace, result: BuildResult) -> None:
    """Look what is there now, and make the report of it."""
    missing = workspace.find_missing(result.cohort)
    result.missing = len(missing)
    if result.budget is not None:
        result.budget["left"] = add_up(estimate_stages(workspace, missing).values()).as_json()
    if result.missing:
        seen = set()
        for outcome in workspace.list_outcomes(result.cohort):
            plan = outcome.plan
            if outcome.status != Status.OK and (plan.stage, plan.doc_id) not in seen:
                seen.add((plan.stage, plan.doc_id))
                result.failures.append(
                    {
                        "stage": str(plan.stage),
                        "doc_id": plan.doc_id,
                        "task_id": plan.task_id,
                        "status": outcome.status,
                        "reason": outcome.reason,
                    }
                )
    report = make_report(workspace, result.cohort)
    workspace.record_completeness(result.cohort)
    if report.metadata["run_id"] == workspace.maker.run_id:
        result.made[str(Stage.REPORT)] = 1
    result.report_doc_id, result.report_page = report.doc_id, str(report.folder / REPORT_PAGE)


class _Follower:
    """Shows and counts what Luigi's events tell of a build's tasks."""

    def __init__(self, result: BuildResult, display: Display) -> None:
        self._result = result
        self._display = display
        self._places_left: set[str] = set()

    def on_start(self, task: DocumentTask) -> None:
        self._display.begin(task.find_plan())

    def on_success(self, task: DocumentTask) -> None:
        plan, result = task.find_plan(), self._result
        if task.made is None:
            return self._display.failed(plan, "not made")  # allow_missing takes a failure for an end
        if task.made.run_id == task.workspace.maker.run_id:
            result.made[str(plan.stage)] = result.made.get(str(plan.stage), 0) + 1
            result.prompt_tokens += task.made.prompt_tokens
            result.completion_tokens += task.made.completion_tokens
        return self._display.made(plan, task.made)

    def on_failure(self, task: DocumentTask, error: BaseException) -> None:
        if isinstance(error, PlaceLeft):
            return self._say_left(error)
        if isinstance(error, DocumentFailed) and error.status == Status.SKIPPED:
            return None  # its call is in a batch, or goes into one: the result counts them
        if isinstance(error, DocumentFailed):
            return self._display.failed(task.find_plan(), f"{error.status}: {error.reason}")
        if isinstance(error, BudgetReached):
            return self._say_budget_reached(error)
        self._result.errors.append(str(error))
        return self._display.failed(task.find_plan(), str(error))

    def on_broken(self, _task: luigi.Task, error: BaseException) -> None:
        self._result.errors.append(str(error))

    def _say_left(self, error: PlaceLeft) -> None:
        if error.place not in self._places_left:
            self._places_left.add(error.place)
            self._display.say(error.reason)

    def _say_budget_reached(self, error: BudgetReached) -> None:
        if not self._result.is_budget_reached:
            self._display.say(str(error))
        self._result.is_budget_reached = True


@contextmanager
def _follow_tasks(follower: _Follower) -> Iterator[None]:
    """Let the follower hear Luigi's events until the block ends."""
    handlers = {
        luigi.Event.START: follower.on_start,
        luigi.Event.SUCCESS: follower.on_success,
        luigi.Event.FAILURE: follower.on_failure,
        luigi.Event.BROKEN_TASK: follower.on_broken,
    }
    heard = [(task_class, event, handler) for task_class in TASKS.values() for event, handler in handlers.items()]
    for task_class, event, handler in heard:
        task_class.event_handler(event)(handler)
    try:
        yield
    finally:
        for task_class, event, handler in heard:
            task_class.remove_event_handler(event, handler)


def _configure_luigi(data_root: str, config_root: str) -> None:
    """Hand the folders to the tasks, also those of child processes, and keep Luigi from printing over the display."""
    os.environ["DAYBOOK_DATA_ROOT"], os.environ["DAYBOOK_CONFIG_ROOT"] = data_root, config_root
    config = luigi.configuration.get_config()
    config.set("core", "no_configure_logging", "true")
    config.set("core", "autoload_range", "false")
    config.set("worker", "check_complete_on_run", "true")
    for name in ("luigi", "luigi-interface", "luigi-scheduler"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
