"""Notes: what people write beside conversations: tags, a note, a title of their own.

    data/notes/<conversation_id>.json      {"conversation_id": …, "note": …, "tags": […], "title": …}

They are kept apart from what was imported, are part of no hash, and outlive everything that is derived: a
conversation that is deleted and made again has its notes still.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import InputInvalid
from store.data_root import DataRoot
from store.durable import place_file
from store.files import read_file
from store.identity import ID_FORM
from store.machine_locks import hold_machine_lock

FOLDER = "notes"
LOCK_FILE = ".lock"
# No blank, comma or quotation mark, so that a tag is one word on a command line; no + or - in front.
TAG_FORM = re.compile(r"[^\W_][\w.:/+-]{0,59}")
TAG_EXPECTED = "a letter or digit, then letters, digits and _ . : / + -, at most 60 together"


@dataclass(frozen=True)
class Note:
    """What is written beside one conversation. `title` stands in the place of the imported one."""

    tags: tuple[str, ...] = ()  # sorted
    text: str | None = None
    title: str | None = None

    def as_json(self) -> dict[str, object]:
        return {"tags": list(self.tags), "note": self.text, "title": self.title}


class Notes:
    """The folder data/notes."""

    def __init__(self, data: DataRoot) -> None:
        self.root = data.path / FOLDER
        self._temporary_folder = data.temporary_folder

    def read(self, conversation_id: str) -> Note:
        """Return what is written beside a conversation. Raises InputInvalid for a file that is no note."""
        path = self._path_of(conversation_id)
        try:
            return decode_note(read_file(path))
        except FileNotFoundError:
            return Note()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputInvalid(
                f"{path} cannot be read as a note: {error}. Expected what daybook tag and daybook note write. "
                "Correct it, or move it away."
            ) from error

    def list_changes(self) -> dict[str, int]:
        """Return {conversation_id: when its note was last written, in ns} with one scan."""
        changes = {}
        with suppress(FileNotFoundError):
            for path in self.root.iterdir():
                if path.suffix == ".json" and ID_FORM.fullmatch(path.stem):
                    changes[path.stem] = path.stat().st_ctime_ns
        return changes

    def change_tags(self, conversation_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Note:
        added, removed = set(map(check_tag, add)), set(map(check_tag, remove))
        return self._change(
            conversation_id, lambda note: replace(note, tags=tuple(sorted({*note.tags, *added} - removed)))
        )

    def set_text(self, conversation_id: str, text: str) -> Note:
        """Write the note; "" takes it away."""
        return self._change(conversation_id, lambda note: replace(note, text=_make_encodable(text) or None))

    def set_title(self, conversation_id: str, title: str) -> Note:
        """Write the title; "" brings the imported one back."""
        line = " ".join(_make_encodable(title).split())
        return self._change(conversation_id, lambda note: replace(note, title=line or None))

    def _change(self, conversation_id: str, change: Callable[[Note], Note]) -> Note:
        """Write a changed note durably; of two that change it at once neither is lost."""
        with hold_machine_lock(self.root / LOCK_FILE):
            note = change(self.read(conversation_id))
            content = {"conversation_id": conversation_id, **note.as_json()}
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            path = self._path_of(conversation_id)
            place_file(path, text.encode(), temporary_folder=self._temporary_folder, replace=True)
        return note

    def _path_of(self, conversation_id: str) -> Path:
        if not ID_FORM.fullmatch(conversation_id):
            raise InputInvalid(f"{conversation_id!r} is not a conversation's id. Expected 16 characters: 0-9 and a-z.")
        return self.root / f"{conversation_id}.json"


def check_tag(tag: str) -> str:
    if not TAG_FORM.fullmatch(tag):
        raise InputInvalid(f"{tag!r} is not a tag. Expected {TAG_EXPECTED}.")
    return tag


def _make_encodable(text: str) -> str:
    """Return a text without the half surrogate pairs that a command line makes of bytes that are no UTF-8."""
    return text.encode(errors="replace").decode()


def decode_note(content: bytes) -> Note:
    """Read what `Notes` wrote. Raises ValueError, TypeError or KeyError for anything else."""
    value = json.loads(content)
    text, title = value["note"], value["title"]
    if not all(field is None or isinstance(field, str) for field in (text, title)):
        raise ValueError("its note or title is no text")
    if not all(map(TAG_FORM.fullmatch, value["tags"])):
        raise ValueError(f"one of its tags is not {TAG_EXPECTED}")
    return Note(tuple(sorted(value["tags"])), text, title)
