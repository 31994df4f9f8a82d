"""Record tables: which records of a set gave which conversations. Derived; delete them at will.

    data/tasks/archive/<set_id>/records.csv      a row a record that has a conversation
    data/tasks/archive/<set_id>/coverage.json    what became of each file, the importers' versions
    data/tasks/archive/completed.json            the sets of which nothing was missing, and when that was seen

With them a second import of the same bytes needs no look into them, and views are grouped without reading a
conversation. A table that cannot be read, or whose hash does not match, counts as not there, and is made again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.archive.conversation_documents import Facts
from pipeline.archive.coverage import FileCoverage
from pipeline.spreadsheets import guard_text, unguard_text
from store.durable import place_derived_file
from store.files import read_file
from store.identity import hash_bytes

FOLDER = "archive"
RECORDS_FILE = "records.csv"
COVERAGE_FILE = "coverage.json"
COMPLETED_FILE = "completed.json"
SCHEMA = 1
COLUMNS = ("doc_id", "file", "place", *Facts._fields)

Json = dict[str, Any]


class RecordRow(NamedTuple):
    """A record that has a conversation document. `file` is its number in the set."""

    doc_id: str
    file: int
    place: str
    facts: Facts


class RecordTable(NamedTuple):
    """The table of a set. `importers` are the versions of all importers that were asked."""

    importers: Mapping[str, int]
    files: list[FileCoverage]
    rows: list[RecordRow]
    is_whole: bool  # a ZIP or folder of which nothing was skipped or refused: what it lacks, its source lacks
    options: Mapping[str, Any] = {}  # of the import
    created_at: str = ""  # of the set


def folder_of(tasks_folder: Path, set_id: str) -> Path:
    return tasks_folder / FOLDER / set_id


class Completed(NamedTuple):
    """Sets of which nothing was missing, as long as importers and folder are as they were.

    `changed_ns`: when a name last came into the folder of all conversations, or went.
    """

    importers: Mapping[str, int]
    changed_ns: int
    set_ids: Sequence[str]


def read_completed(tasks_folder: Path) -> Completed | None:
    try:
        return Completed(**json.loads(read_file(tasks_folder / FOLDER / COMPLETED_FILE)))
    except (OSError, ValueError, TypeError):
        return None


def write_completed(tasks_folder: Path, completed: Completed, *, temporary_folder: Path) -> None:
    content = json.dumps(completed._asdict(), sort_keys=True).encode() + b"\n"
    place_derived_file(tasks_folder / FOLDER / COMPLETED_FILE, content, temporary_folder=temporary_folder)


def list_tables(tasks_folder: Path) -> list[str]:
    """Return the ids of the sets that have a table, sorted."""
    return sorted(folder.name for folder in (tasks_folder / FOLDER).glob("*/"))


def write_table(tasks_folder: Path, set_id: str, table: RecordTable, *, temporary_folder: Path) -> None:
    """Write a table in the place of the one that is there. Raises OSError."""
    folder = folder_of(tasks_folder, set_id)
    records = _encode_rows(table.rows)
    coverage = {
        "schema": SCHEMA,
        "set": set_id,
        "importers": dict(table.importers),
        "whole": table.is_whole,
        "options": dict(table.options),
        "created_at": table.created_at,
        "records_blake3": hash_bytes(records),
        "files": [file.as_json() for file in table.files],
    }
    place_derived_file(folder / RECORDS_FILE, records, temporary_folder=temporary_folder)
    content = json.dumps(coverage, ensure_ascii=False, indent=1).encode() + b"\n"
    place_derived_file(folder / COVERAGE_FILE, content, temporary_folder=temporary_folder)


def _encode_rows(rows: Iterable[RecordRow]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # so that a place with either of them is quoted
    writer.writerow(COLUMNS)
    for row in rows:
        relatives = json.dumps(row.facts.relatives, ensure_ascii=False) if row.facts.relatives else ""
        cells = (*row[:-1], *row.facts[:-1], relatives)
        writer.writerow([guard_text(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue().encode()


def read_table(tasks_folder: Path, set_id: str) -> RecordTable | None:
    """Return the table of a set; None if there is none that can be used."""
    try:
        coverage = _read_coverage(tasks_folder, set_id)
        records = read_file(folder_of(tasks_folder, set_id) / RECORDS_FILE)
        if coverage["records_blake3"] != hash_bytes(records):
            return None
        options, created_at = coverage.get("options", {}), coverage.get("created_at", "")
        files, rows = _decode_files(coverage), _decode_rows(records)
        return RecordTable(coverage["importers"], files, rows, coverage["whole"], options, created_at)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_files(tasks_folder: Path, set_id: str) -> list[FileCoverage] | None:
    """Return what became of each file of a set, without the rows of its table; None if there is none."""
    try:
        return _decode_files(_read_coverage(tasks_folder, set_id))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_coverage(tasks_folder: Path, set_id: str) -> Json:
    coverage: Json = json.loads(read_file(folder_of(tasks_folder, set_id) / COVERAGE_FILE))
    if coverage["schema"] != SCHEMA:
        raise ValueError("another form of coverage")
    return coverage


def _decode_files(coverage: Json) -> list[FileCoverage]:
    return [FileCoverage.from_json(file) for file in coverage["files"]]


def _decode_rows(content: bytes) -> list[RecordRow]:
    reader = csv.reader(io.StringIO(content.decode(), newline=""))
    if next(reader) != list(COLUMNS):
        raise ValueError("another form of table")
    return [_decode_row(*map(unguard_text, cells)) for cells in reader]


def _decode_row(doc_id: str, file: str, place: str, *facts: str) -> RecordRow:
    conversation_id, provider, account, native_id, importer, version, *times, first_prompt, links = facts
    created, updated = times
    relatives = tuple(json.loads(links)) if links else ()
    known = Facts(
        conversation_id, provider, account, native_id, importer, int(version), created, updated, first_prompt, relatives
    )
    return RecordRow(doc_id, int(file), place, known)
