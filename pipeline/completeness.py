"""A complete cohort is one check: what it held when it was last found complete, and whether that is still so.

    data/tasks/<cohort>/complete.json      derived: delete it at will

    stamp      of the configuration, of this code and of the task tables: sizes and times of their files
    folders    {stage: {doc_id: time at which the document's folder last changed}}, the report's too;
               all of them passed the quick check

Planning takes seconds for a hundred thousand documents. If nothing of the stamp has changed, the plan has
not, and one scan a stage tells whether each folder is there and unchanged: a folder's time changes when a
file in it is added, removed or replaced. Bytes that change within a file are found when it is next read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.settings import Roots
from store.documents import DocumentStore
from store.durable import place_file
from store.identity import hash_bytes

RECORD_FILE = "complete.json"
RECORD_SCHEMA = 1
# A file that changes twice within a tick of the clock of its filesystem can have the same time after both.
CLOCK_TICK_NS = 100_000_000
CODE_FOLDERS = tuple(Path(__file__).parent.parent / package for package in ("pipeline", "store"))

Folders = Mapping[str, Mapping[str, int]]


class CompletionRecord(NamedTuple):
    """What a cohort held when it was found complete."""

    stamp: str
    report_doc_id: str
    folders: Folders


class Stamp(NamedTuple):
    """The state of some files: a hash of their names, sizes and times; and when the newest of them changed."""

    digest: str
    newest_ns: int


def find_complete(roots: Roots, cohort: str, documents: DocumentStore) -> CompletionRecord | None:
    """Return the record of a cohort that is complete still; None if that takes a closer look."""
    record = read_record(roots, cohort)
    if record is None or record.stamp != stamp_cohort(roots, cohort, stamp_configuration(roots)):
        return None
    found = {stage: documents.list_changes(stage) for stage in record.folders}
    is_unchanged = all(folders.items() <= found[stage].items() for stage, folders in record.folders.items())
    return record if is_unchanged else None


def read_record(roots: Roots, cohort: str) -> CompletionRecord | None:
    """Return what was recorded last, true or not; None if nothing readable is there."""
    try:
        value = json.loads(_record_path(roots, cohort).read_bytes())
        if value["schema"] != RECORD_SCHEMA:
            return None
        return CompletionRecord(value["stamp"], value["report"], value["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(roots: Roots, cohort: str, record: CompletionRecord, *, temporary_folder: Path) -> None:
    content = {
        "schema": RECORD_SCHEMA,
        "stamp": record.stamp,
        "report": record.report_doc_id,
        "folders": record.folders,
    }
    place_file(
        _record_path(roots, cohort), json.dumps(content).encode(), temporary_folder=temporary_folder, replace=True
    )


def stamp_configuration(roots: Roots) -> Stamp:
    """Return the state of all that plans are made from: the configuration, and the code that reads it."""
    files = sorted(_describe_files(str(roots.config), suffix=""))
    for folder in CODE_FOLDERS:
        files += sorted(_describe_files(str(folder), suffix=".py"))
    return Stamp(hash_bytes(repr(files).encode()), max((changed for *_, changed in files), default=0))


def stamp_cohort(roots: Roots, cohort: str, configuration: Stamp) -> str:
    """Return the state of the configuration and of a cohort's task tables as one text."""
    tables = sorted(_describe_files(str(_record_path(roots, cohort).parent), suffix=".csv"))
    return hash_bytes(repr((configuration.digest, tables)).encode())


def _describe_files(folder: str, *, suffix: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield path, inode, size in bytes and times of last write and last change of all files below a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _describe_files(entry.path, suffix=suffix)
                elif entry.name.endswith(suffix):
                    found = entry.stat()
                    yield entry.path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    except FileNotFoundError:
        return


def _record_path(roots: Roots, cohort: str) -> Path:
    return roots.data / "tasks" / cohort / RECORD_FILE
