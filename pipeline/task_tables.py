"""Task tables: the documents that a cohort asks for, as CSV files that people and programs read.

data/tasks/<cohort>/<stage>_tasks.csv     written before anything runs; a row for each name of a document
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import TaskTableInvalid
from pipeline.planning import CohortPlan, DocumentPlan
from pipeline.stages import Stage
from store.durable import place_file

TABLE_COLUMNS = (
    "doc_id",
    "parent_doc_id",
    "task_id",
    "template_id",
    "model_id",
    "combo_id",
    "replicate",
    "mode",
    "source_doc_id",
)


def write_task_tables(plan: CohortPlan, tasks_folder: Path, *, temporary_folder: Path) -> list[Path]:
    """Write data/tasks/<cohort>/<stage>_tasks.csv for each stage; return their paths. Equal tables stay untouched."""
    paths = []
    for stage, rows in plan.rows.items():
        path = table_path(tasks_folder, plan.name, stage)
        content = format_task_table(rows)
        if not path.exists() or path.read_bytes() != content:
            place_file(path, content, temporary_folder=temporary_folder, replace=True)
        paths.append(path)
    _remove_other_tables(tasks_folder / plan.name, keep=paths)
    return paths


def _remove_other_tables(folder: Path, *, keep: list[Path]) -> None:
    """Remove the tables of stages that the cohort no longer has: they would still be read as plans."""
    for path in folder.glob("*_tasks.csv"):
        if path not in keep:
            path.unlink()


def table_path(tasks_folder: Path, cohort: str, stage: Stage) -> Path:
    return tasks_folder / cohort / f"{stage}_tasks.csv"


def format_task_table(rows: Iterable[DocumentPlan]) -> bytes:
    """Return a task table as CSV: UTF-8, one header row, lines end in LF."""
    content = io.BytesIO()
    text = io.TextIOWrapper(content, "utf-8", newline="")  # StringIO would take four bytes a character
    writer = csv.DictWriter(text, TABLE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.as_row() for row in rows)
    text.flush()
    return content.getvalue()


def read_task_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a task table. Raises TaskTableInvalid if it is no CSV, a column is missing or a row is cut."""
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        missing = [column for column in TABLE_COLUMNS if column not in (reader.fieldnames or [])]
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaskTableInvalid(path, problem=f"it is not CSV in UTF-8: {error}. Plan the cohort again.") from error
    if missing:
        raise TaskTableInvalid(path, problem=f"the columns {', '.join(missing)} are missing. Plan the cohort again.")
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            problem = f"line {number} has not {len(TABLE_COLUMNS)} cells. Plan the cohort again."
            raise TaskTableInvalid(path, problem=problem)
    return rows


def find_cohorts_of(tasks_folder: Path, stage: Stage, doc_id: str) -> list[str]:
    """Return the names of the cohorts whose task tables ask for a document, sorted."""
    return [
        path.parent.name
        for path in sorted(tasks_folder.glob(f"*/{stage}_tasks.csv"))
        if any(row["doc_id"] == doc_id for row in read_task_table(path))
    ]
