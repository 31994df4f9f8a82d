"""The data folder: where documents, calls and texts lie, on one filesystem.

data/docs/  data/calls/  data/batches/  data/texts/  data/tasks/  data/journal/  data/quarantine/
data/trash/  data/bundles/  data/.tmp/
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from store.batches import BatchStore
from store.calls import CallLedger
from store.documents import DocumentStore, encode_readably
from store.durable import commit_folder, move_folder, unique_path
from store.errors import StoreNotUsable
from store.journal import Event, Journal
from store.preflight import NO_RESERVE, Preflight, Reserve
from store.texts import TextStore
from store.trash import Trash


class DataRoot:
    """Everything that programs write. Making one writes nothing; folders appear with the first write.

    No call begins while less than `reserve` is free.
    """

    def __init__(self, path: Path, *, reserve: Reserve = NO_RESERVE) -> None:
        self.path = path
        self.temporary_folder = path / ".tmp"
        self.tasks_folder = path / "tasks"
        self.quarantine_folder = path / "quarantine"
        self.journal = Journal(path / "journal")
        self.documents = DocumentStore(
            path / "docs",
            temporary_folder=self.temporary_folder,
            superseded_folder=self.quarantine_folder / "superseded",
            journal=self.journal,
        )
        self.calls = CallLedger(
            path / "calls",
            temporary_folder=self.temporary_folder,
            journal=self.journal,
            preflight=Preflight(path, reserve),
        )
        self.batches = BatchStore(path / "batches", temporary_folder=self.temporary_folder)
        self.texts = TextStore(path / "texts", temporary_folder=self.temporary_folder)
        self.trash = Trash(
            path / "trash", data_folder=path, temporary_folder=self.temporary_folder, journal=self.journal
        )

    def set_aside(self, place: str, reason: Mapping[str, Any], **names: str | int) -> Path:
        """Move what lies at `place`, a path below the data folder, into quarantine with its reason; return where it is.

        `names` are what the journal calls it: stage and doc_id, or call_id and attempt. Moving it back undoes it.
        """
        source = self.path / place
        wrapper = unique_path(self.quarantine_folder / "damaged", source.name)
        content = encode_readably({"schema": 1, "place": place, "at": _now(), **reason})
        commit_folder({"reason.json": content}, wrapper, temporary_folder=self.temporary_folder)
        move_folder(source, wrapper / source.name)
        kept = str(wrapper.relative_to(self.path))
        self.journal.append(Event.QUARANTINED, place=place, kept=kept, **names)
        return wrapper

    def check_usable(self) -> None:
        """Raise StoreNotUsable if the data folder is no folder or its parts lie on different filesystems.

        A rename from .tmp to docs is atomic only within one filesystem.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StoreNotUsable(self.path, problem="it is not a folder")
        stores = (self.documents, self.calls, self.batches, self.texts, self.trash)
        parts = [self.path, self.temporary_folder, self.journal.folder, *(store.root for store in stores)]
        devices = {part.stat().st_dev: part for part in parts if part.exists()}
        if len(devices) > 1:
            places = ", ".join(str(part) for part in devices.values())
            raise StoreNotUsable(self.path, problem=f"its parts lie on different filesystems: {places}")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
