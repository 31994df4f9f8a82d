"""Luigi's view: every target is one document's folder, and completeness is its presence.

    luigi --module pipeline Cohort --name demo --local-scheduler       everything, the report included
    luigi --module pipeline Cohort --name demo --show-all              with a row for what is there, too
    luigi --module pipeline Essay --doc-id 2m4b8z1c7k3f0q9x …          one document and what it needs

    Cohort -> Report -> Evaluation -> Essay -> Draft

Many documents are made at once. Each is made by synchronous code in a thread, and its task is a coroutine
that waits for the thread; `run` makes the same document under stock Luigi. There is no barrier between
stages: a later stage has the higher priority, so an essay that can be written goes before the next draft.

`doc_id` must be among the first three parameter names of every task in the alphabet: Luigi builds its
own task_id from those, so no two documents are ever taken for one.
"""

from __future__ import annotations

import asyncio
import functools
import html
import math
import operator
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterVisibility

from pipeline.budgets import Caps
from pipeline.errors import DocumentFailed, InputInvalid, PipelineError, PlaceLeft
from pipeline.making import make_document, parse_retry
from pipeline.planning import DocumentPlan
from pipeline.printing import format_usd
from pipeline.report_document import identify_report, make_report
from pipeline.scheduling import Factory
from pipeline.settings import HIGHEST_CONCURRENCY, SECTION, Roots, find_roots
from pipeline.stages import Stage
from pipeline.threads import DaemonThreads
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.documents import Document
from store.identity import check_id

REPORT_SHOWN_MISSING = 5  # names of missing documents in an error message
MESSAGE_CHARACTERS = 200  # of a reason in the dashboard, where it travels with every row
DEFAULT_CONCURRENCY = 16
LOCAL_MODELS = "llm_local"  # the resource of models in this process, limited to their slots; see limit_resources

_making = DaemonThreads("daybook-making")


class CohortIncomplete(PipelineError):
    """A run ended and documents are missing; Luigi itself does not always notice."""

    def __init__(self, cohort: str, missing: list[DocumentPlan]) -> None:
        self.cohort, self.missing = cohort, missing
        shown = ", ".join(plan.task_id for plan in missing[:REPORT_SHOWN_MISSING])
        more = f" and {len(missing) - REPORT_SHOWN_MISSING} more" if len(missing) > REPORT_SHOWN_MISSING else ""
        super().__init__(f"Cohort {cohort!r} is not complete: {len(missing)} documents are missing: {shown}{more}.")


class daybook(luigi.Config):  # type: ignore[misc]  # noqa: N801  the class name is the section name in luigi.cfg
    """Where data and config lie; on the command line --daybook-data-root, --daybook-config-root."""

    data_root = luigi.Parameter(default="", description="Folder that programs write; default data.")
    config_root = luigi.Parameter(default="", description="Folder that a person edits; default config.")
    concurrency = luigi.NumericalParameter(
        var_type=int,
        min_value=1,
        max_value=HIGHEST_CONCURRENCY,
        right_op=operator.le,
        default=DEFAULT_CONCURRENCY,
        description="Documents at work at the same time; --workers goes before it, unless it is 1.",
    )
    retry = luigi.Parameter(
        default="", description="Final statuses that are tried again: gen_error, truncated, or both with a comma."
    )
    budget_usd = luigi.OptionalFloatParameter(
        default=None, description="What the documents of a cohort may cost in all, in US dollars; default no cap."
    )
    budget_tokens = luigi.OptionalIntParameter(
        default=None, description="What the documents of a cohort may take in all, in tokens; default no cap."
    )


def read_settings() -> daybook:
    """Return the settings. Raises InputInvalid for one that Luigi cannot read."""
    try:
        return daybook()
    except ValueError as error:
        raise InputInvalid(
            f"[daybook] cannot be used: {error.__cause__ or error}. Expected as concurrency a whole number "
            f"from 1 to {HIGHEST_CONCURRENCY}, as budget_usd dollars, as budget_tokens a whole number. "
            "Correct it in luigi.cfg or on the command line."
        ) from error


def read_caps() -> Caps:
    """Return the budget of the settings. Raises InputInvalid for one that nothing can be made of."""
    settings = read_settings()
    for name in ("budget_usd", "budget_tokens"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise InputInvalid(
                f"[daybook] {name} is {value}. Expected a number above 0. "
                "Correct it in luigi.cfg or on the command line."
            )
    return Caps(settings.budget_usd, settings.budget_tokens)


def find_workspace() -> Workspace:
    """Return the workspace of this process's settings; the same one each time.

    Every task asks several times, and Luigi takes long to read settings: they are read again only when
    what they depend on has changed.
    """
    sources = (str(Path.cwd()), *map(os.environ.get, ("DAYBOOK_DATA_ROOT", "DAYBOOK_CONFIG_ROOT", "LUIGI_CONFIG_PATH")))
    return _find_workspace(sources, CmdlineParser.get_instance())


@functools.lru_cache(maxsize=1)
def _find_workspace(_sources: tuple[str | None, ...], _command_line: Any) -> Workspace:
    settings = read_settings()
    workspace = _open_workspace(
        find_roots(_unless_from_file(settings, "data_root"), _unless_from_file(settings, "config_root"))
    )
    workspace.set_budget(read_caps())
    if retry := parse_retry(str(settings.retry)):
        workspace.maker = replace(workspace.maker, retry=retry)
    return workspace


def _unless_from_file(settings: daybook, key: str) -> str | None:
    """Return what the command line named. A value from luigi.cfg comes after the environment; see settings.py."""
    value = str(getattr(settings, key))
    return None if value == luigi.configuration.get_config().get(SECTION, key, "") else value


@functools.cache
def _open_workspace(roots: Roots) -> Workspace:
    return Workspace(roots)


def make_factory(concurrency: int | None = None) -> Factory:
    """Return what makes scheduler and worker; `concurrency` goes before the setting."""
    return Factory(concurrency or read_settings().concurrency, limit_resources())


def limit_resources() -> dict[str, int]:
    """Return the limits of resources that luigi.cfg need not name: models in this process have their slots."""
    try:
        models = find_workspace().configuration.models.values()
    except PipelineError:  # said in full when a task needs the configuration
        return {}
    return {LOCAL_MODELS: max((model.transport.slots for model in models), default=1)}


class DocumentTarget(luigi.Target):  # type: ignore[misc]
    """A document's folder. It exists if the document is there and passes the quick check.

    Raises DocumentInvalid or DocumentCorrupt for one that is there and damaged: it is not "not done".
    """

    def __init__(self, data: DataRoot, stage: str, doc_id: str) -> None:
        self.stage, self.doc_id = stage, doc_id
        self.path = str(data.documents.folder_of(stage, doc_id))
        self._data = data

    def exists(self) -> bool:
        return self._data.documents.is_present(self.stage, self.doc_id)


class Made(NamedTuple):
    """What a document took."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None  # None: nobody knows
    run_id: str | None  # of the run that made it: another than this one if that was faster

    @classmethod
    def of(cls, document: Document) -> Made:
        metadata = document.metadata
        tokens = metadata["prompt_tokens"] or 0, metadata["completion_tokens"] or 0
        return cls(*tokens, metadata.get("cost_usd"), metadata.get("run_id"))


class DocumentTask(luigi.Task):  # type: ignore[misc]
    """Makes one document. `allow_missing` takes a failure for an end, so that a report can be made without it."""

    stage: ClassVar[Stage]

    allow_missing = luigi.BoolParameter(default=False, significant=False, visibility=ParameterVisibility.HIDDEN)
    doc_id = luigi.Parameter(description="16 characters of 0-9 and a-z, as in the task tables.")
    model = luigi.Parameter(default="", significant=False, description="To be seen in the dashboard; changes nothing.")
    row = luigi.Parameter(default="", significant=False, description="To be seen in the dashboard; changes nothing.")

    @classmethod
    @functools.cache
    def get_params(cls) -> Any:
        """Luigi looks through the whole class for them about ten times a task, and they never change."""
        return super().get_params()

    made: Made | None = None  # what this process made; Luigi has one object a task

    @functools.cached_property
    def workspace(self) -> Workspace:
        return find_workspace()

    @property
    def resources(self) -> dict[str, int]:
        """One of llm_<provider>, where [resources] in luigi.cfg limits it; always of llm_local."""
        try:
            model = self.find_plan().model
        except PipelineError:  # Luigi also asks tasks whose requires() has just raised it
            return {}
        name = f"llm_{model.model.partition('/')[0]}" if model else ""
        return {name: 1} if name == LOCAL_MODELS or name in _list_limited_resources() else {}

    def output(self) -> DocumentTarget:
        return DocumentTarget(self.workspace.data, self.stage, check_id("doc_id", self.doc_id))

    def complete(self) -> bool:
        if self.made is not None:  # committed durably a moment ago: Luigi asks four times more about each document
            return True
        if self.output().exists():
            return True
        return self.allow_missing and self.workspace.is_settled(self.find_plan())

    def find_plan(self) -> DocumentPlan:
        return self.workspace.get_plan(self.stage, self.doc_id).plan

    def requires(self) -> list[DocumentTask]:
        parent = self.find_plan().parent
        return [] if parent is None else [task_of(parent, allow_missing=self.allow_missing)]

    async def run_async(self) -> None:
        stopping = threading.Event()
        making = asyncio.get_running_loop().run_in_executor(_making, self._make, stopping)
        try:
            await asyncio.shield(making)
        except asyncio.CancelledError:
            # The answer is under way and perhaps paid for: if it comes soon, it is kept and the document made.
            stopping.set()
            await making

    def run(self) -> None:
        self._make(threading.Event())

    def _make(self, stopping: threading.Event) -> None:
        cohort, plan = self.workspace.get_plan(self.stage, self.doc_id)
        try:
            document = make_document(replace(self.workspace.maker, stopping=stopping), plan, cohort=cohort)
        except DocumentFailed as error:
            self._tell(f"{error.status}: {error.reason}")
            if not self.allow_missing or isinstance(error, PlaceLeft):  # it was not tried, so that is no end
                raise
        else:
            self.made = Made.of(document)
            self._tell(describe_making(document))

    def _tell(self, message: str) -> None:
        """Show a message in the dashboard, which takes it for HTML. There is nowhere to show it outside of a run."""
        tell = self.set_status_message
        if tell is not None and message:
            tell(html.escape(message[:MESSAGE_CHARACTERS]))


class Draft(DocumentTask):
    """A text that a model wrote about a combination of concepts."""

    stage = Stage.DRAFT
    priority = 1


class Essay(DocumentTask):
    """What became of a draft."""

    stage = Stage.ESSAY
    priority = 2


class Evaluation(DocumentTask):
    """A judge's score of an essay or draft."""

    stage = Stage.EVALUATION
    priority = 3


@functools.cache
def _list_limited_resources() -> frozenset[str]:
    return frozenset(luigi.configuration.get_config().getintdict("resources"))


TASKS: dict[Stage, type[DocumentTask]] = {task.stage: task for task in (Draft, Essay, Evaluation)}


def task_of(plan: DocumentPlan, *, allow_missing: bool = False) -> DocumentTask:
    model = plan.model_id or str(plan.mode)
    return TASKS[plan.stage](doc_id=plan.doc_id, allow_missing=allow_missing, model=model, row=plan.task_id)


def describe_making(document: Document) -> str:
    """Return what a document took, as the dashboard shows it: "1,204 + 311 tokens, attempt 1"."""
    metadata = document.metadata
    parts = []
    if metadata.get("total_tokens") is not None:
        parts.append(f"{metadata['prompt_tokens'] or 0:,} + {metadata['completion_tokens'] or 0:,} tokens")
    if metadata.get("cost_usd"):  # neither unknown nor free
        parts.append(format_usd(metadata["cost_usd"]))
    if metadata.get("attempt") is not None:
        parts.append(f"attempt {metadata['attempt']}")
    return ", ".join(parts)


class Report(luigi.Task):  # type: ignore[misc]
    """The report of a cohort that is complete."""

    doc_id = luigi.Parameter(description="As `daybook plan` prints it.")

    def output(self) -> DocumentTarget:
        return DocumentTarget(find_workspace().data, Stage.REPORT, check_id("doc_id", self.doc_id))

    def requires(self) -> list[DocumentTask]:
        workspace = find_workspace()
        missing = workspace.find_missing(workspace.find_cohort_of_report(self.doc_id))
        return [task_of(plan) for plan in missing]

    def run(self) -> None:
        workspace = find_workspace()
        cohort = workspace.find_cohort_of_report(self.doc_id)
        check_complete(workspace, cohort)
        make_report(workspace, cohort)


class Cohort(luigi.Task):  # type: ignore[misc]
    """All documents of one experiment, and its report.

    Planned when the task is first asked: the task tables are on disk before anything runs.
    """

    allow_missing = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="Make the report without the documents that cannot be made.",
    )
    name = luigi.Parameter(description="The name of a file in config/cohorts, without .toml.")
    show_all = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="Schedule what is there too, to see it in the dashboard.",
    )
    _has_run = False

    def complete(self) -> bool:
        workspace = find_workspace()
        if self.show_all and not self._has_run:
            return False  # or Luigi would not look at the documents of a complete cohort
        if workspace.find_complete(self.name):
            return True
        workspace.write_tables(self.name)
        missing = workspace.find_missing(self.name)
        if not missing:
            return workspace.data.documents.is_present(Stage.REPORT, workspace.report_id(self.name))
        if not (self.allow_missing and all(workspace.is_settled(plan) for plan in missing)):
            return False
        return workspace.data.documents.is_present(
            Stage.REPORT, identify_report(workspace.list_outcomes(self.name)).doc_id
        )

    def requires(self) -> Iterator[luigi.Task]:
        workspace = find_workspace()
        workspace.write_tables(self.name)
        if not self.allow_missing:
            yield Report(doc_id=workspace.report_id(self.name))
        for plan in reversed(self._list_scheduled(workspace)):  # Luigi looks at the last first
            yield task_of(plan, allow_missing=self.allow_missing)

    def run(self) -> None:
        workspace = find_workspace()
        if not self.allow_missing:
            check_complete(workspace, self.name)
        make_report(workspace, self.name)
        workspace.record_completeness(self.name)
        self._has_run = True

    def _list_scheduled(self, workspace: Workspace) -> list[DocumentPlan]:
        if self.show_all:
            return list(workspace.plan(self.name).walk())
        return workspace.find_missing(self.name)


def check_complete(workspace: Workspace, cohort: str) -> None:
    """Raise CohortIncomplete unless every document of a cohort is there."""
    missing = workspace.find_missing(cohort)
    if missing:
        raise CohortIncomplete(cohort, missing)
