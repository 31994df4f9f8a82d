"""The trash: folders taken out of the store, whole, until they are brought back or deleted.

    trash/<entry>/entry.json                       when, why, and which folders; durable before the first one moves
    trash/<entry>/docs/<stage>/<doc_id>/           as they were
    trash/<entry>/calls/<hh>/<call_id>/
    trash/.deleting/                               what is being deleted

The journal is told before the first folder moves, and after the last has come back. A folder moves by one durable
rename, so it lies in its place or in the trash, never in both and never in part. A
process that dies between two moves leaves an entry of which some folders are still in their place; bringing the
entry back is then right as it always is. What is deleted leaves its entry first, also by a rename, so nothing that
was deleted in part can be brought back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from store.durable import delete_folder, move_folder, place_file, unique_path
from store.errors import NameInvalid, TrashInvalid
from store.files import read_file
from store.journal import Event, Journal

ENTRY_FILE = "entry.json"
ENTRY_SCHEMA = 1
ENTRY_FORM = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{4}")  # their order is that of time
TIME_FORM = "%Y%m%dT%H%M%S.%fZ"
FOLDER_FORM = re.compile(r"docs/[a-z][a-z0-9_]{0,31}/[0-9a-z]{16}|calls/[0-9a-z]{2}/[0-9a-z]{16}")


class TrashEntry(NamedTuple):
    """What was thrown away at one time. `folders` are named from the data folder, in the order in which they moved."""

    entry_id: str
    thrown_at: datetime
    reason: str
    folders: tuple[str, ...]
    folder: Path

    def list_present(self) -> list[str]:
        """Return the folders that lie in the trash: not those that never moved, came back or were deleted."""
        return [name for name in self.folders if (self.folder / name).is_dir()]


class Restored(NamedTuple):
    """What came back, and what did not because something else is in its place; that stays in the trash."""

    back: list[str]
    occupied: list[str]


class Trash:
    """The folder data/trash."""

    def __init__(self, root: Path, *, data_folder: Path, temporary_folder: Path, journal: Journal) -> None:
        self.root, self._data_folder, self._temporary_folder = root, data_folder, temporary_folder
        self._journal = journal

    def throw_away(
        self, folders: Sequence[str], *, reason: str, now: datetime, record: Mapping[str, Any] | None = None
    ) -> TrashEntry:
        """Move folders into a new entry, in their order: children before parents, so that no parent goes first.

        A folder that is gone already is passed over.
        """
        entry_id = f"{now.astimezone(UTC).strftime(TIME_FORM)}-{os.urandom(2).hex()}"
        entry = TrashEntry(entry_id, now, reason, tuple(map(_check_folder, folders)), self.root / entry_id)
        content = {
            **(record or {}),
            "schema": ENTRY_SCHEMA,
            "entry": entry_id,
            "reason": reason,
            "folders": list(entry.folders),
        }
        encoded = json.dumps(content, indent=2, sort_keys=True).encode() + b"\n"
        place_file(entry.folder / ENTRY_FILE, encoded, temporary_folder=self._temporary_folder)
        present = [name for name in entry.folders if (self._data_folder / name).is_dir()]
        self._journal.append_all(Event.REMOVED, self._describe(present, self._data_folder, kept=f"trash/{entry_id}"))
        for name in present:
            move_folder(self._data_folder / name, entry.folder / name)
        return entry

    def _describe(self, names: Sequence[str], folder: Path, **facts: str) -> Iterator[dict[str, Any]]:
        """Yield what the journal calls each document and each attempt in these folders."""
        for name in names:
            area, first, second = name.split("/")
            if area == "docs":
                yield {"place": name, "stage": first, "doc_id": second, **facts}
            else:
                for number in sorted(int(path.name) for path in (folder / name).iterdir() if path.name.isdecimal()):
                    yield {"place": f"{name}/{number:04d}", "call_id": second, "attempt": number, **facts}

    def list_entries(self) -> list[TrashEntry]:
        """Return all entries, the oldest first. Raises TrashInvalid if the record of one cannot be read."""
        names = sorted(path.name for path in self.root.glob("*/") if ENTRY_FORM.fullmatch(path.name))
        return [self.read_entry(name) for name in names if (self.root / name / ENTRY_FILE).exists()]

    def read_entry(self, entry_id: str) -> TrashEntry:
        """Return one entry. Raises NameInvalid, TrashInvalid."""
        if not ENTRY_FORM.fullmatch(entry_id):
            raise NameInvalid("entry of the trash", entry_id, expected="a name such as 20260131T120000.000000Z-0a1b")
        folder = self.root / entry_id
        try:
            content = json.loads(read_file(folder / ENTRY_FILE))
            if content["schema"] != ENTRY_SCHEMA:
                raise TrashInvalid(entry_id, problem=f"its schema is {content['schema']!r}, not {ENTRY_SCHEMA}")
            folders, reason = tuple(map(_check_folder, content["folders"])), str(content["reason"])
        except FileNotFoundError as error:
            raise TrashInvalid(entry_id, problem="there is no such entry") from error
        except (OSError, ValueError, KeyError, TypeError, NameInvalid) as error:
            raise TrashInvalid(entry_id, problem=f"{ENTRY_FILE} cannot be read: {error}") from error
        thrown_at = datetime.strptime(entry_id.partition("-")[0], TIME_FORM).replace(tzinfo=UTC)
        return TrashEntry(entry_id, thrown_at, reason, folders, folder)

    def restore(self, entry: TrashEntry) -> Restored:
        """Move an entry's folders back, parents before children. What meets another folder stays in the trash."""
        restored = Restored([], [])
        for name in reversed(entry.list_present()):
            try:
                move_folder(entry.folder / name, self._data_folder / name)
                restored.back.append(name)
            except FileExistsError:
                restored.occupied.append(name)
        self._journal.append_all(Event.RESTORED, self._describe(restored.back, self._data_folder))
        self._remove_if_empty(entry)
        return restored

    def delete(self, entry: TrashEntry, may_delete: Callable[[str], bool]) -> list[str]:
        """Delete for good those folders of an entry of which `may_delete` says so; return their names."""
        deleted = []
        for name in entry.list_present():
            if may_delete(name):
                move_folder(entry.folder / name, unique_path(self._deleting, entry.entry_id))
                deleted.append(name)
        self._remove_if_empty(entry)
        self.finish_deleting()
        return deleted

    def finish_deleting(self) -> None:
        """Delete what left its entry already, also before a crash."""
        if self._deleting.is_dir():
            for path in sorted(self._deleting.iterdir()):
                delete_folder(path)

    @property
    def _deleting(self) -> Path:
        return self.root / ".deleting"

    def _remove_if_empty(self, entry: TrashEntry) -> None:
        if not entry.list_present():
            move_folder(entry.folder, unique_path(self._deleting, entry.entry_id))
            self.finish_deleting()


def _check_folder(name: str) -> str:
    """Return a name that can only be a document's or a call's folder; raise NameInvalid otherwise."""
    if not isinstance(name, str) or not FOLDER_FORM.fullmatch(name):
        raise NameInvalid("folder of the store", name, expected="docs/<stage>/<doc_id> or calls/<hh>/<call_id>")
    return name
