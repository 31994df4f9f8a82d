"""Task tables: the documents that a cohort asks for, as CSV files that people and programs read.

    data/tasks/<cohort>/<stage>_tasks.csv     written before anything runs; a row for each name of a document
    data/tasks/<cohort>/written.json          {stage: BLAKE3 of the tables that this program wrote there last}

A table whose bytes the program wrote is the program's: it is written anew when the config has changed. A table with
other bytes was edited by a person: it is taken as it is, and never overwritten.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import TaskTableInvalid
from pipeline.stages import MADE_STAGES, Stage
from store.durable import move_folder, place_file, unique_path
from store.identity import hash_bytes

if TYPE_CHECKING:  # reading a table takes no plan, and planning brings Jinja2 with it
    from pipeline.planning import CohortPlan, DocumentPlan

WRITTEN_FILE = "written.json"
WRITTEN_SCHEMA = 1
EDITABLE_MODE = 0o644  # a person may edit a table

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
CUT_ROW = f"has not {len(TABLE_COLUMNS)} cells"


def write_task_tables(plan: CohortPlan, tasks_folder: Path, *, temporary_folder: Path) -> list[Path]:
    """Write data/tasks/<cohort>/<stage>_tasks.csv for each stage; return their paths.

    Equal tables stay untouched, as do those of the stages that a person edited.
    """
    folder = tasks_folder / plan.name
    tables = {stage: format_task_table(rows) for stage, rows in plan.rows.items() if stage not in plan.edited}
    _record_written(folder, tables, temporary_folder)
    for stage, content in tables.items():
        path = table_path(tasks_folder, plan.name, stage)
        if not path.exists() or path.read_bytes() != content:
            place_file(path, content, temporary_folder=temporary_folder, replace=True)
            path.chmod(EDITABLE_MODE)
    paths = [table_path(tasks_folder, plan.name, stage) for stage in plan.rows]
    _remove_other_tables(folder, keep=paths)
    return paths


def _record_written(folder: Path, tables: Mapping[Stage, bytes], temporary_folder: Path) -> None:
    """Record what is about to be written beside what was written last: a crash may leave either."""
    written = read_written(folder) or {}
    hashes = {stage: hash_bytes(content) for stage, content in tables.items()}
    if all(digest in written.get(stage, ()) for stage, digest in hashes.items()) and (folder / WRITTEN_FILE).exists():
        return
    both = written | {str(stage): [digest, *written.get(stage, ())][:2] for stage, digest in hashes.items()}
    content = json.dumps({"schema": WRITTEN_SCHEMA, "tables": both}, indent=2, sort_keys=True).encode() + b"\n"
    place_file(folder / WRITTEN_FILE, content, temporary_folder=temporary_folder, replace=True)


def read_written(folder: Path) -> dict[str, list[str]] | None:
    """Return {stage: hashes of the tables that this program wrote last}; None if nothing readable is there."""
    try:
        value = json.loads((folder / WRITTEN_FILE).read_bytes())
        if value["schema"] != WRITTEN_SCHEMA:
            return None
        return {str(stage): [str(digest) for digest in hashes] for stage, hashes in value["tables"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_written(content: bytes, stage: Stage, written: Mapping[str, list[str]] | None) -> bool:
    """Whether a table is one that this program wrote, as the record of `read_written` has it."""
    return hash_bytes(content) in (written or {}).get(stage, ())


def find_edited_tables(plan: CohortPlan, tasks_folder: Path) -> dict[Stage, Path]:
    """Return the tables of a cohort that a person edited.

    Raises TaskTableInvalid for one that is not what the plan gives where no record says who wrote it.
    """
    written = read_written(tasks_folder / plan.name)
    edited = {}
    for stage in MADE_STAGES:
        path = table_path(tasks_folder, plan.name, stage)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        if hash_bytes(content) in (written or {}).get(stage, ()) or content == format_task_table(
            plan.rows.get(stage, ())
        ):
            continue
        if written is None:
            raise TaskTableInvalid(
                path,
                problem=f"it is not what the config gives, and no {WRITTEN_FILE} beside it says who wrote it. Type "
                f"daybook plan {plan.name} --from-config to write it from the config (this one is kept in "
                f"data/quarantine), or daybook plan {plan.name} --as-edited to take it as it is.",
            )
        edited[stage] = path
    return edited


def accept_tables(tasks_folder: Path, cohort: str, *, temporary_folder: Path) -> None:
    """Record that the tables of a cohort that lie there were not written by this program."""
    if read_written(tasks_folder / cohort) is None:
        content = json.dumps({"schema": WRITTEN_SCHEMA, "tables": {}}).encode() + b"\n"
        place_file(tasks_folder / cohort / WRITTEN_FILE, content, temporary_folder=temporary_folder, replace=True)


def set_tables_aside(tasks_folder: Path, cohort: str, aside_folder: Path) -> list[Path]:
    """Move the tables of a cohort that this program did not write to another folder; return their new places."""
    written = read_written(tasks_folder / cohort)
    moved = []
    for stage in MADE_STAGES:
        path = table_path(tasks_folder, cohort, stage)
        if path.exists() and not is_written(path.read_bytes(), stage, written):
            place = unique_path(aside_folder / cohort, path.name)
            move_folder(path, place)
            moved.append(place)
    return moved


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
    rows = []
    for number, row in enumerate(read_table_rows(path), start=2):
        if row is None:
            raise TaskTableInvalid(path, problem=f"line {number} {CUT_ROW}. Plan the cohort again.")
        rows.append(row)
    return rows


def read_table_rows(path: Path) -> list[dict[str, str] | None]:
    """Return the rows of a task table, None for one with other than nine cells.

    Raises TaskTableInvalid if it is no CSV or a column is missing.
    """
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        missing = [column for column in TABLE_COLUMNS if column not in (reader.fieldnames or [])]
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaskTableInvalid(path, problem=f"it is not CSV in UTF-8: {error}. Plan the cohort again.") from error
    except OSError as error:
        raise TaskTableInvalid(path, problem=f"it cannot be read: {error.strerror}. Plan the cohort again.") from error
    if missing:
        raise TaskTableInvalid(path, problem=f"the columns {', '.join(missing)} are missing. Plan the cohort again.")
    return [None if None in row or None in row.values() else row for row in rows]


def find_cohorts_of(tasks_folder: Path, stage: Stage, doc_id: str) -> list[str]:
    """Return the names of the cohorts whose task tables ask for a document, sorted."""
    return [
        path.parent.name
        for path in sorted(tasks_folder.glob(f"*/{stage}_tasks.csv"))
        if any(row["doc_id"] == doc_id for row in read_task_table(path))
    ]
