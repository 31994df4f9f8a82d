"""What belongs into a bundle, and in which order: what others rest on comes first.

texts/   calls/   docs/      as in the data folder
tasks/   config/             the task tables and the configuration of the cohorts, if any were named
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import InputInvalid, UnknownName
from pipeline.lineages import DocumentKey, Lineages, read_lineages
from pipeline.removals import find_key
from pipeline.settings import Roots
from pipeline.stages import MADE_STAGES
from pipeline.task_tables import read_task_table, table_path
from store.data_root import DataRoot
from store.documents import METADATA_FILE
from store.errors import StoreError

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
FORMS = {
    "texts": re.compile(r"texts/(?P<hh>[0-9a-f]{2})/(?P<digest>(?P=hh)[0-9a-f]{62})\.txt"),
    "calls": re.compile(
        rf"calls/(?P<hh>[0-9a-z]{{2}})/(?P<call_id>(?P=hh)[0-9a-z]{{14}})/(?P<attempt>\d{{4,9}})/{_NAME}"
    ),
    "docs": re.compile(
        rf"docs/(?P<stage>[a-z][a-z0-9_]{{0,31}})/(?P<doc_id>[0-9a-z]{{16}})/(?P<name>(?:extras/)?{_NAME})"
    ),
    "tasks": re.compile(rf"tasks/(?P<cohort>{_NAME})/{_NAME}\.csv"),
    "config": re.compile(rf"config/(?:{_NAME}/){{0,5}}{_NAME}"),
}
KINDS = tuple(FORMS)  # in the order in which they are written and brought in
LONGEST_PATH = 200  # characters; a header of tar holds 255, in two parts
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Contents(NamedTuple):
    """The files of a bundle by their paths in it, and what was asked for and cannot be in it."""

    files: dict[str, Path]
    documents: dict[DocumentKey, Any]
    calls: set[str]
    missing: list[str]
    damaged: list[str]
    left_out: list[str]


def parse_path(path: str) -> tuple[str, re.Match[str]] | None:
    """Return the kind of a member and the parts of its path; None if a bundle cannot have such a path."""
    kind = path.partition("/")[0]
    match = FORMS[kind].fullmatch(path) if kind in FORMS and len(path) <= LONGEST_PATH else None
    return None if match is None or path.endswith(".") else (kind, match)


def sort_key(path: str) -> tuple[int, str]:
    return KINDS.index(path.partition("/")[0]), path


def _find_document(data: DataRoot, name: str) -> DocumentKey:
    try:
        return find_key(data, name)
    except UnknownName as error:
        raise UnknownName("cohort or document", name, error.known) from error


def find_contents(roots: Roots, names: list[str]) -> Contents:
    """Return what the cohorts and documents of these names are made of, down to the roots of their lineage.

    Raises UnknownName for a name that is neither; InputInvalid for a cohort that was never planned.
    """
    data = DataRoot(roots.data)
    cohorts = [name for name in names if _is_cohort(roots, name)]
    wanted = {_find_document(data, name) for name in names if name not in cohorts}
    for cohort in cohorts:
        wanted |= _list_documents(roots, cohort)
    lineages = read_lineages(data)
    wanted |= lineages.find_reports(wanted)
    contents = Contents({}, {}, set(), [], [], [])
    for key in sorted(lineages.find_ancestors(wanted)):
        _add_document(contents, data, lineages, key)
    _add_calls(contents, data, {key.doc_id for key in wanted} if cohorts else set())
    for cohort in cohorts:
        _add_files(contents, roots.data / "tasks" / cohort, "*.csv", prefix=f"tasks/{cohort}/")
    if cohorts:
        _add_files(contents, roots.config, "*", prefix="config/")
    return contents


def _is_cohort(roots: Roots, name: str) -> bool:
    return (roots.config / "cohorts" / f"{name}.toml").is_file() or (roots.data / "tasks" / name).is_dir()


def _list_documents(roots: Roots, cohort: str) -> set[DocumentKey]:
    """Return the documents of a cohort's task tables."""
    keys = set()
    for stage in MADE_STAGES:
        path = table_path(roots.data / "tasks", cohort, stage)
        for row in read_task_table(path) if path.exists() else ():
            keys.add(DocumentKey(str(stage), row["doc_id"]))
    if not keys:
        raise InputInvalid(f"Cohort {cohort!r} has no task tables. Run: daybook plan {cohort}")
    return keys


def _add_document(contents: Contents, data: DataRoot, lineages: Lineages, key: DocumentKey) -> None:
    """Add a document that passes the deep check, and the texts that its inputs name."""
    if key in lineages.unreadable:
        contents.damaged.append(lineages.unreadable[key])
    elif key not in lineages.metadata:
        contents.missing.append(str(key))
    else:
        try:
            document = data.documents.read_deeply(*key)
        except StoreError as error:
            contents.damaged.append(str(error))
            return
        contents.documents[key] = document.metadata
        for name in (*document.file_names, METADATA_FILE):
            contents.files[f"docs/{key}/{name}"] = document.folder / name
        for digest in _find_digests(document.metadata.get("inputs")):
            path = data.texts.root / digest[:2] / f"{digest}.txt"
            if path.is_file():
                contents.files[f"texts/{digest[:2]}/{digest}.txt"] = path


def _find_digests(value: Any) -> Iterator[str]:
    """Yield every text in inputs that has the form of a hash."""
    if isinstance(value, str):
        if _DIGEST.fullmatch(value):
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _find_digests(item)


def _add_calls(contents: Contents, data: DataRoot, planned: set[str]) -> None:
    """Add all attempts of the calls behind the documents, and of those made for planned documents that failed."""
    contents.calls.update(str(found["call_id"]) for found in contents.documents.values() if found.get("call_id"))
    for call_id in data.calls.walk():
        if call_id in contents.calls or (planned and _is_made_for(data, call_id, planned)):
            contents.calls.add(call_id)
            folder = data.calls.folder_of(call_id)
            _add_files(contents, folder, "*/*", prefix=f"calls/{call_id[:2]}/{call_id}/")


def _is_made_for(data: DataRoot, call_id: str, doc_ids: set[str]) -> bool:
    for attempt in data.calls.list_attempts(call_id):
        try:
            made_for = attempt.read_request().get("made_for") or {}
        except StoreError:
            continue  # its process died before it could send anything
        if made_for.get("doc_id") in doc_ids:
            return True
    return False


def _add_files(contents: Contents, folder: Path, pattern: str, *, prefix: str) -> None:
    paths = folder.rglob("*") if pattern == "*" else folder.glob(pattern)
    for path in sorted(paths):
        name = prefix + path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            continue
        if parse_path(name) is None:
            contents.left_out.append(name)
        else:
            contents.files[name] = path
