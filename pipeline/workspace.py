"""A data folder and a config folder together: what is planned, and how it stands."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pipeline.admissions import open_admission
from pipeline.budgets import Budgets, Caps
from pipeline.completeness import (
    CLOCK_TICK_NS,
    CompletionRecord,
    Stamp,
    find_complete,
    read_record,
    stamp_cohort,
    stamp_configuration,
    write_record,
)
from pipeline.configuration import Configuration, load_configuration
from pipeline.diagnosis import diagnose
from pipeline.edited_tables import plan_edited
from pipeline.errors import EditedTablesInvalid, PlanStale, TaskTableInvalid, UnknownName
from pipeline.keys import KeySource
from pipeline.making import Maker
from pipeline.planning import CohortPlan, DocumentPlan, RowOutcome, plan_cohort, plan_report
from pipeline.settings import Roots, find_reserve
from pipeline.stages import Stage, Status
from pipeline.task_tables import (
    accept_tables,
    find_cohorts_of,
    find_edited_tables,
    set_tables_aside,
    table_path,
    write_task_tables,
)
from store.data_root import DataRoot
from store.errors import WriteFailed

MISSING = "missing"  # the place of a status in counts and tables, for what was never tried


class PlannedDocument(NamedTuple):
    """A plan, and the cohort in whose name it is made."""

    cohort: str
    plan: DocumentPlan


class Workspace:
    """Everything a command or task needs. The configuration is read once, on first use."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.data = DataRoot(roots.data, reserve=find_reserve())
        self.maker = Maker(self.data, admission=open_admission(self.data), list_key_sources=lambda: self.key_sources)
        self._plans: dict[str, CohortPlan] = {}
        self._report_ids: dict[str, str] = {}  # of cohorts; each is hashed from all rows
        self._configuration_stamp = Stamp("", 0), 0  # before the configuration was read, and when that was, in ns
        self._checked: dict[str, defaultdict[str, dict[str, int]]] = {}
        self._written: set[str] = set()  # cohorts whose task tables this process has written

    @cached_property
    def configuration(self) -> Configuration:
        self._configuration_stamp = stamp_configuration(self.roots), time.time_ns()
        return load_configuration(self.roots.config, data_root=self.roots.data)

    @cached_property
    def key_sources(self) -> frozenset[KeySource]:
        """Where the keys of all models of the configuration are."""
        return frozenset(KeySource.of(model.transport) for model in self.configuration.models.values())

    def plan(self, cohort: str) -> CohortPlan:
        """Return a cohort's plan: what its config gives, or what its task tables ask for that a person edited.

        Raises UnknownName, ConfigInvalid, TaskTableInvalid, EditedTablesInvalid.
        """
        if cohort not in self._plans:
            asked = self.configuration.get_cohort(cohort)
            planned = plan_cohort(asked)
            if tables := find_edited_tables(planned, self.data.tasks_folder):
                planned = plan_edited(
                    planned, asked, tables, configuration=self.configuration, documents=self.data.documents
                )
            self._plans[cohort] = planned
        return self._plans[cohort]

    def plan_without_tables(self, cohort: str) -> None:
        """Plan a cohort from its config alone, for as long as this process runs: its tables cannot be read.

        Raises UnknownName, ConfigInvalid.
        """
        self._plans[cohort] = plan_cohort(self.configuration.get_cohort(cohort))

    def accept_tables(self, cohort: str) -> None:
        """Take a cohort's task tables for edited that no record says who wrote."""
        self.configuration.get_cohort(cohort)
        accept_tables(self.data.tasks_folder, cohort, temporary_folder=self.data.temporary_folder)

    def set_tables_aside(self, cohort: str) -> list[Path]:
        """Move a cohort's edited task tables to the quarantine, so that the config's are written; return where to."""
        self.configuration.get_cohort(cohort)
        self._plans.pop(cohort, None)
        return set_tables_aside(self.data.tasks_folder, cohort, self.data.path / "quarantine" / "tables")

    def set_budget(self, caps: Caps) -> None:
        """Let the documents of each cohort cost so much in all, and begin to count what is spent anew."""
        if self.maker.admission.budgets:
            self.maker.admission.budgets.close()
        budgets = Budgets(self.data, caps, self.plan) if caps else None
        self.maker = replace(self.maker, admission=open_admission(self.data, budgets))

    def write_tables(self, cohort: str) -> None:
        """Write a cohort's task tables, once in this process: before anything of it runs."""
        if cohort not in self._written:
            self.data.check_usable()
            write_task_tables(self.plan(cohort), self.data.tasks_folder, temporary_folder=self.data.temporary_folder)
            self._written.add(cohort)

    def list_planned_cohorts(self) -> list[str]:
        """Return the cohorts that have task tables, sorted."""
        folders = self.data.tasks_folder.glob("*/")
        return sorted(folder.name for folder in folders if table_path(folder.parent, folder.name, Stage.DRAFT).exists())

    def get_plan(self, stage: Stage, doc_id: str) -> PlannedDocument:
        """Return the plan of a document that a task table asks for.

        Raises UnknownName if none does, PlanStale if the config has changed since.
        """
        for cohort in list(self._plans):  # other threads plan too
            if plan := self._plans[cohort].find(stage, doc_id):
                return PlannedDocument(cohort, plan)
        cohorts = find_cohorts_of(self.data.tasks_folder, stage, doc_id)
        for cohort in cohorts:
            if cohort in self.configuration.cohorts and (plan := self.plan(cohort).find(stage, doc_id)):
                return PlannedDocument(cohort, plan)
        if cohorts:
            raise PlanStale(stage, doc_id, cohort=cohorts[0])
        raise UnknownName(f"{stage} in the task tables", doc_id, self.list_planned_cohorts())

    def find_missing(self, cohort: str) -> list[DocumentPlan]:
        """Return the documents of a cohort that are not there, parents before children.

        One scan a stage. What is there is checked quickly if its folder has changed since it was checked last.
        Raises DocumentInvalid, DocumentCorrupt, DigestCollision.
        """
        checked = self._checked.setdefault(cohort, self._read_checked(cohort))
        missing = []
        for stage, planned in self.plan(cohort).documents.items():
            changes = self.data.documents.list_changes(stage)
            for document in planned.values():
                changed = changes.get(document.doc_id)
                if changed is None:
                    missing.append(document)
                elif checked[stage].get(document.doc_id) != changed:
                    self.data.documents.read(stage, document.doc_id, digest=document.digest)
                    checked[stage][document.doc_id] = changed
        return missing

    def _read_checked(self, cohort: str) -> defaultdict[str, dict[str, int]]:
        """Return {stage: {doc_id: when its folder had last changed as it was checked}}."""
        record = read_record(self.roots, cohort)
        return defaultdict(dict, {} if record is None else {stage: dict(ids) for stage, ids in record.folders.items()})

    def find_complete(self, cohort: str) -> CompletionRecord | None:
        """Return the record of a cohort that was found complete and has not changed since."""
        return find_complete(self.roots, cohort, self.data.documents)

    def record_completeness(self, cohort: str) -> None:
        """Record that a cohort is complete, if it is, so that the next look at it is short."""
        report_doc_id = self.report_id(cohort)
        reported = self.data.documents.list_changes(Stage.REPORT).get(report_doc_id)
        stamp, looked_ns = self._configuration_stamp
        is_settled = stamp.newest_ns + CLOCK_TICK_NS < looked_ns and stamp == stamp_configuration(self.roots)
        if reported is None or not is_settled or self.find_missing(cohort):
            return
        checked = self._checked[cohort]
        folders: dict[str, dict[str, int]] = {Stage.REPORT: {report_doc_id: reported}}
        for stage, planned in self.plan(cohort).documents.items():
            folders[stage] = {doc_id: checked[stage][doc_id] for doc_id in planned}
        record = CompletionRecord(stamp_cohort(self.roots, cohort, stamp), report_doc_id, folders)
        with suppress(WriteFailed):  # it saves the next look some time, and a store may be mounted to be read
            write_record(self.roots, cohort, record, temporary_folder=self.data.temporary_folder)

    def list_outcomes(self, cohort: str) -> Iterator[RowOutcome]:
        """Yield what became of each row of a cohort, in table order."""
        missing = {(plan.stage, plan.doc_id) for plan in self.find_missing(cohort)}
        found: dict[tuple[Stage, str], tuple[str, str]] = {}
        for rows in self.plan(cohort).rows.values():
            for row in rows:
                key = row.stage, row.doc_id
                if key not in missing:
                    yield RowOutcome(row, Status.OK, "")
                    continue
                if key not in found:
                    diagnosis = diagnose(self.data, row)
                    found[key] = (str(diagnosis.status or MISSING), diagnosis.reason)
                yield RowOutcome(row, *found[key])

    def report_id(self, cohort: str) -> str:
        """Return the doc_id of the report of the complete cohort."""
        if cohort not in self._report_ids:
            self._report_ids[cohort] = plan_report(self.plan(cohort))
        return self._report_ids[cohort]

    def find_cohort_of_report(self, doc_id: str) -> str:
        """Return the cohort whose complete report has this doc_id. Raises UnknownName."""
        for cohort in self.configuration.cohorts:
            with suppress(TaskTableInvalid, EditedTablesInvalid):  # said to who asks for that cohort
                if self.report_id(cohort) == doc_id:
                    return cohort
        raise UnknownName("report of a complete cohort", doc_id, [])

    def is_settled(self, plan: DocumentPlan) -> bool:
        """Whether this run can do no more for a document: it is there, or has failed for good or in this run."""
        diagnosis = diagnose(self.data, plan)
        is_asked_again = not diagnosis.is_final or diagnosis.status in self.maker.retry
        if diagnosis.status in (Status.GEN_ERROR, Status.TRUNCATED) and diagnosis.run_id and is_asked_again:
            return diagnosis.run_id == self.maker.run_id
        if diagnosis.status is Status.SKIPPED and plan.parent is not None:
            return self.is_settled(plan.parent)
        return diagnosis.status is not None


def count_statuses(outcomes: Iterable[RowOutcome]) -> dict[Stage, Counter[str]]:
    """Return {stage: {status: documents}} of a cohort's rows; each document counts once."""
    counts: dict[Stage, Counter[str]] = {}
    for stage, _, status in dict.fromkeys((row.plan.stage, row.plan.doc_id, row.status) for row in outcomes):
        counts.setdefault(stage, Counter())[status] += 1
    return counts
