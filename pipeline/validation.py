"""Task tables checked: every mistake in a cohort's tables, or in one CSV file, before anything is made.

What is checked: duplicate ids; ids that do not follow from their rows; parents that are missing or of the wrong
stage; unknown templates, models and concepts; documents of the store that are damaged, or were made from other inputs
under the same id. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.edited_tables import TableReader, read_edits
from pipeline.errors import InputInvalid, Problem
from pipeline.planning import CohortPlan, DocumentPlan, plan_cohort
from pipeline.stages import MADE_STAGES, Stage
from pipeline.task_tables import format_task_table, is_written, read_written, table_path
from pipeline.workspace import Workspace
from store.documents import DocumentStore
from store.errors import DocumentMissing, StoreError

TABLE_SUFFIX = "_tasks.csv"


class CheckedTable(NamedTuple):
    """A task table that was checked. `is_edited`: its bytes are not those that this program wrote."""

    path: Path
    stage: Stage
    row_count: int
    is_edited: bool

    def as_json(self) -> dict[str, Any]:
        return {"file": str(self.path), "stage": self.stage, "rows": self.row_count, "edited": self.is_edited}


class Validation(NamedTuple):
    """What a check of task tables found."""

    name: str
    tables: list[CheckedTable]
    problems: list[Problem]

    @property
    def is_valid(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "valid": self.is_valid,
            "tables": [table.as_json() for table in self.tables],
            "problems": [problem._asdict() for problem in self.problems],
        }


def validate(workspace: Workspace, name: str) -> Validation:
    """Check the task tables of a cohort, or a CSV file. Raises UnknownName, InputInvalid, ConfigInvalid."""
    return _validate_file(workspace, Path(name)) if name.endswith(".csv") else _validate_cohort(workspace, name)


def _validate_cohort(workspace: Workspace, name: str) -> Validation:
    cohort = workspace.configuration.get_cohort(name)
    planned = plan_cohort(cohort)
    paths = _find_tables(workspace.data.tasks_folder, name)
    if not paths:
        raise InputInvalid(f"Cohort {name!r} has no task tables yet. Type daybook plan {name} to write them.")
    edited, stale = _sort_tables(planned, paths, read_written(workspace.data.tasks_folder / name))
    reader = TableReader(workspace.configuration, workspace.data.documents, planned)
    plan = read_edits(reader, planned, cohort, edited)
    if not edited:  # beside an edited table the others follow it when they are next written
        message = f"the config has changed since it was written. Type daybook plan {name} to write it anew."
        reader.problems.extend(Problem(path.name, None, message) for path in stale)
    tables = []
    for stage, path in paths.items():
        rows = plan.rows.get(stage, ())
        reader.problems.extend(_find_conflicts(workspace.data.documents, path.name, rows))
        tables.append(CheckedTable(path, stage, len(rows), stage in edited))
    return Validation(name, tables, reader.problems)


def _sort_tables(
    planned: CohortPlan, paths: Mapping[Stage, Path], written: Mapping[str, list[str]] | None
) -> tuple[dict[Stage, Path], list[Path]]:
    """Return the tables that a person edited, and those that this program wrote for another config."""
    edited, stale = {}, []
    for stage, path in paths.items():
        content = path.read_bytes() if path.is_file() else b""  # what is no file is told when its rows are read
        if content == format_task_table(planned.rows.get(stage, ())):
            continue
        if is_written(content, stage, written):
            stale.append(path)
        else:
            edited[stage] = path
    return edited, stale


def _validate_file(workspace: Workspace, path: Path) -> Validation:
    """Check one table; tables of earlier stages beside it are where its parents may be."""
    stage = next((stage for stage in MADE_STAGES if path.name == f"{stage}{TABLE_SUFFIX}"), None)
    if stage is None:
        names = ", ".join(f"{stage}{TABLE_SUFFIX}" for stage in MADE_STAGES)
        raise InputInvalid(f"{path} does not say of which stage it is. Expected a file named {names}.")
    if not path.is_file():
        raise InputInvalid(f"There is no file {path}. Expected a task table, or the name of a cohort.")
    cohort = workspace.configuration.cohorts.get(path.resolve().parent.name)
    planned = plan_cohort(cohort) if cohort else None
    reader = TableReader(workspace.configuration, workspace.data.documents, planned)
    for earlier in MADE_STAGES[: MADE_STAGES.index(stage)]:
        beside = path.with_name(f"{earlier}{TABLE_SUFFIX}")
        if beside.exists():
            reader.read(earlier, beside)
    reader.problems.clear()  # those of the tables beside it
    written = read_written(path.parent)
    table = _check_table(reader, stage, path, is_edited=not is_written(path.read_bytes(), stage, written))
    return Validation(str(path), [table], reader.problems)


def _find_tables(tasks_folder: Path, cohort: str) -> dict[Stage, Path]:
    paths = {stage: table_path(tasks_folder, cohort, stage) for stage in MADE_STAGES}
    return {stage: path for stage, path in paths.items() if path.exists()}


def _check_table(reader: TableReader, stage: Stage, path: Path, *, is_edited: bool) -> CheckedTable:
    plans = reader.read(stage, path)
    reader.problems.extend(_find_conflicts(reader.documents, path.name, plans))
    return CheckedTable(path, stage, len(plans), is_edited)


def _find_conflicts(documents: DocumentStore, file: str, plans: Sequence[DocumentPlan]) -> list[Problem]:
    """Return a problem for each document that is in the store and damaged, or was made from other inputs."""
    problems = []
    present = set(documents.list_ids(plans[0].stage)) if plans else set()
    for plan in {plan.doc_id: plan for plan in plans if plan.doc_id in present}.values():
        try:
            documents.read(plan.stage, plan.doc_id, digest=plan.digest)
        except DocumentMissing:
            continue
        except StoreError as error:
            problems.append(Problem(file, None, f"{plan.task_id}: {error}"))
    return problems
