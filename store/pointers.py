"""Pointers: the latest document of a task_id, found without looking at all the others.

    find_latest        through the pointer if it is true; else by a scan of the stage, which mends the pointer
    point_to           a document that came by another way than a commit, such as out of a backup
    rebuild_pointers   from the documents alone: the same bytes every time, in any order
    verify_pointers    where pointers and documents do not agree

A pointer is true if it is whole and the document that it names says the same of itself. store/pointer_files.py has
their place, their form and how a commit keeps them. A document goes by one task_id, that of its first making; under
which names a cohort asks for it, its task tables say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from store.documents import Document, DocumentStore
from store.errors import DocumentMissing, StoreError
from store.pointer_files import Pointer, pointer_of, read_pointer


class Drift(NamedTuple):
    """A pointer that is not what the documents ask for. `path` is below data/docs.

    `problem`: missing, damaged, stale (it names another document than the latest), or stray (nothing asks for it).
    """

    stage: str
    path: str
    problem: str
    task_id: str | None
    doc_id: str | None  # of the latest document; None for a stray


class PointerCounts(NamedTuple):
    """What a rebuild of the pointers did. `unreadable` documents have no metadata that could be read."""

    kept: int
    written: int
    removed: int
    unreadable: int


class LatestDocuments(NamedTuple):
    """What a scan of a stage found: the pointer of each task_id, and the documents that could not be read."""

    pointers: dict[str, Pointer]
    unreadable: list[str]


def find_latest(documents: DocumentStore, stage: str, task_id: str) -> Document | None:
    """Return the latest document of a task_id; None if there is none.

    Raises DocumentInvalid or DocumentCorrupt if it is there and damaged.
    """
    pointer = documents.pointers.read(stage, task_id)
    if pointer is None or not _is_true(documents, stage, pointer):
        documents.pointers.withdraw(stage, task_id)
        pointer = scan_stage(documents, stage).pointers.get(task_id)
        if pointer is None:
            return None
        documents.pointers.point(stage, pointer)
    return documents.read(stage, pointer.doc_id)


def point_to(documents: DocumentStore, stage: str, doc_id: str) -> None:
    """Let the pointer of a document's task_id name it, if it is the latest. Raises DocumentMissing, DocumentInvalid."""
    pointer = pointer_of(documents.read_metadata(stage, doc_id))
    if pointer:
        documents.pointers.point(stage, pointer)


def withdraw_from(documents: DocumentStore, stage: str, doc_id: str) -> None:
    """Remove the pointer to a document that is about to leave; the next look-up scans. Nothing fails for one."""
    with contextlib.suppress(StoreError):
        pointer = pointer_of(documents.read_metadata(stage, doc_id))
        if pointer and documents.pointers.read(stage, pointer.task_id) == pointer:
            documents.pointers.withdraw(stage, pointer.task_id)


def scan_stage(documents: DocumentStore, stage: str) -> LatestDocuments:
    """Return what the pointers of a stage have to be, from the metadata of all its documents."""
    latest: dict[str, Pointer] = {}
    unreadable = []
    for doc_id in documents.list_ids(stage):
        try:
            pointer = pointer_of(documents.read_metadata(stage, doc_id))
        except DocumentMissing:  # moved away since it was listed
            continue
        except StoreError:
            unreadable.append(doc_id)
            continue
        if pointer and (pointer.task_id not in latest or latest[pointer.task_id].rank < pointer.rank):
            latest[pointer.task_id] = pointer
    return LatestDocuments(latest, unreadable)


def rebuild_pointers(documents: DocumentStore) -> PointerCounts:
    """Make every pointer what the documents ask for, and remove what nothing asks for. Raises OSError.

    Writers may be at work: a pointer that is true and later than what the scan saw is kept.
    """
    kept = written = removed = unreadable = 0
    for stage in documents.list_stages():
        found = scan_stage(documents, stage)
        expected = {documents.pointers.path_of(stage, task_id): pointer for task_id, pointer in found.pointers.items()}
        unreadable += len(found.unreadable)
        for path, pointer in sorted(expected.items()):
            present = read_pointer(path, pointer.task_id)
            is_later = present and present.rank > pointer.rank and _is_true(documents, stage, present)
            if is_later or _holds(path, pointer):
                kept += 1
            else:
                documents.pointers.write(path, pointer.encode())
                written += 1
        for path in documents.pointers.list_paths(stage):
            if path not in expected:  # one that a writer made a moment ago is answered by a scan
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    removed += 1
    return PointerCounts(kept, written, removed, unreadable)


def verify_pointers(documents: DocumentStore) -> Iterator[Drift]:
    """Yield every pointer that is not what the documents ask for. Changes nothing."""
    for stage in documents.list_stages():
        latest = scan_stage(documents, stage).pointers
        expected = {documents.pointers.path_of(stage, task_id): pointer for task_id, pointer in latest.items()}
        for path, pointer in sorted(expected.items()):
            if not _holds(path, pointer):
                problem = _describe_drift(documents, stage, pointer)
                shown = str(path.relative_to(documents.root))
                yield Drift(stage, shown, problem, pointer.task_id, pointer.doc_id)
        for path in documents.pointers.list_paths(stage):
            if path not in expected:
                yield Drift(stage, str(path.relative_to(documents.root)), "stray", None, None)


def _describe_drift(documents: DocumentStore, stage: str, pointer: Pointer) -> str:
    if not documents.pointers.path_of(stage, pointer.task_id).exists():
        return "missing"
    present = documents.pointers.read(stage, pointer.task_id)
    return "damaged" if present is None else "stale"


def _holds(path: Path, pointer: Pointer) -> bool:
    """Whether a file is this pointer, byte for byte."""
    try:
        return path.read_bytes() == pointer.encode()
    except OSError:
        return False


def _is_true(documents: DocumentStore, stage: str, pointer: Pointer) -> bool:
    """Whether the document that a pointer names says the same of itself."""
    try:
        return pointer_of(documents.read_metadata(stage, pointer.doc_id)) == pointer
    except StoreError:
        return False
