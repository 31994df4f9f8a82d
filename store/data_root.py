"""The data folder: where documents, calls and texts lie, on one filesystem.

data/docs/  data/calls/  data/batches/  data/texts/  data/tasks/  data/quarantine/  data/trash/
data/bundles/  data/.tmp/
"""

from __future__ import annotations

from pathlib import Path

from store.batches import BatchStore
from store.calls import CallLedger
from store.documents import DocumentStore
from store.errors import StoreNotUsable
from store.texts import TextStore
from store.trash import Trash


class DataRoot:
    """Everything that programs write. Making one writes nothing; folders appear with the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary_folder = path / ".tmp"
        self.tasks_folder = path / "tasks"
        self.documents = DocumentStore(
            path / "docs", temporary_folder=self.temporary_folder, superseded_folder=path / "quarantine" / "superseded"
        )
        self.calls = CallLedger(path / "calls", temporary_folder=self.temporary_folder)
        self.batches = BatchStore(path / "batches", temporary_folder=self.temporary_folder)
        self.texts = TextStore(path / "texts", temporary_folder=self.temporary_folder)
        self.trash = Trash(path / "trash", data_folder=path, temporary_folder=self.temporary_folder)

    def check_usable(self) -> None:
        """Raise StoreNotUsable if the data folder is no folder or its parts lie on different filesystems.

        A rename from .tmp to docs is atomic only within one filesystem.
        """
        if self.path.exists() and not self.path.is_dir():
            raise StoreNotUsable(self.path, problem="it is not a folder")
        stores = (self.documents, self.calls, self.batches, self.texts, self.trash)
        parts = [self.path, self.temporary_folder, *(store.root for store in stores)]
        devices = {part.stat().st_dev: part for part in parts if part.exists()}
        if len(devices) > 1:
            places = ", ".join(str(part) for part in devices.values())
            raise StoreNotUsable(self.path, problem=f"its parts lie on different filesystems: {places}")
