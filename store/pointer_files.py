"""Pointers as files: small, derived, and never trusted.

    docs/<stage>/_by_task/<hh>/<key>.json     {"created_at": …, "doc_id": …, "task_id": …}
                                              key = BLAKE3 of the task_id, hh = its first two characters

A pointer names the latest document of a task_id: the one with the highest created_at, of equals the one with the
highest doc_id. Around each commit

    withdraw    the pointer to an earlier document of the task_id, before the rename of the new document
    point       to the new document, after the commit is acknowledged

so a process that dies in between leaves no pointer, not an old one; store/pointers.py answers what has no pointer by
a scan. Nothing here is flushed, because all of it can be made again: after a power cut a pointer may be gone or empty.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from store.durable import place_derived_file
from store.files import read_file
from store.identity import ID_FORM, check_stage, hash_bytes

POINTERS_FOLDER = "_by_task"  # no doc_id has this form, so every list of documents passes it over


class Pointer(NamedTuple):
    """The latest document of a task_id."""

    task_id: str
    doc_id: str
    created_at: str

    @property
    def rank(self) -> tuple[str, str]:
        """What decides between two documents of one task_id: the higher one is the latest."""
        return self.created_at, self.doc_id

    def encode(self) -> bytes:
        return json.dumps(self._asdict(), sort_keys=True).encode() + b"\n"


def pointer_of(metadata: Any) -> Pointer | None:
    """Return the pointer that a document's metadata asks for; None for one without a task_id or a time."""
    task_id, doc_id, created_at = (metadata.get(name) for name in Pointer._fields)
    if not (isinstance(task_id, str) and isinstance(doc_id, str) and isinstance(created_at, str)):
        return None
    return Pointer(task_id, doc_id, created_at)


class PointerFiles:
    """The pointers of all stages, below data/docs."""

    def __init__(self, root: Path, *, temporary_folder: Path) -> None:
        self.root, self._temporary_folder = root, temporary_folder

    def path_of(self, stage: str, task_id: str) -> Path:
        return Path(f"{self.root}/{check_stage(stage)}/{POINTERS_FOLDER}/{_name_file(task_id)}")

    def read(self, stage: str, task_id: str) -> Pointer | None:
        """Return the pointer of a task_id; None if there is none, or one that cannot be one."""
        return read_pointer(self.path_of(stage, task_id), task_id)

    def withdraw(self, stage: str, task_id: str, *, before: Pointer | None = None) -> None:
        """Remove a pointer; with `before` only if that is later than what it names.

        Nothing rests on a pointer, so nothing fails for one.
        """
        path = self.path_of(stage, task_id)
        if before is None or _is_later(before, path):
            with contextlib.suppress(OSError):
                path.unlink()

    def point(self, stage: str, pointer: Pointer) -> None:
        """Write a pointer, whole or not at all, unless there is one to a later document."""
        path = self.path_of(stage, pointer.task_id)
        if _is_later(pointer, path):
            with contextlib.suppress(OSError):
                self.write(path, pointer.encode())

    def write(self, path: Path, content: bytes) -> None:
        """Put `content` at `path`, whatever is there. Raises OSError."""
        place_derived_file(path, content, temporary_folder=self._temporary_folder)

    def list_paths(self, stage: str) -> Iterator[Path]:
        """Yield every file below a stage's pointers, a pointer or not, sorted."""
        folder = self.root / check_stage(stage) / POINTERS_FOLDER
        yield from sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


@functools.lru_cache(maxsize=256)  # a commit asks twice
def _name_file(task_id: str) -> str:
    key = hash_bytes(task_id.encode())
    return f"{key[:2]}/{key}.json"


def _is_later(pointer: Pointer, path: Path) -> bool:
    present = read_pointer(path, pointer.task_id)
    return present is None or present.rank < pointer.rank


def read_pointer(path: Path, task_id: str) -> Pointer | None:
    """Return the pointer in a file; None unless it is a whole pointer of this task_id."""
    try:
        value = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return None
    pointer = pointer_of(value) if isinstance(value, dict) else None
    return pointer if pointer and pointer.task_id == task_id and ID_FORM.fullmatch(pointer.doc_id) else None
