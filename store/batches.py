"""Batches: calls that a provider answers together, later and for less. What was submitted must never be so twice.

    batches/<batch>/  batch.json  requests.jsonl  file.json  asked.json  submitted.json  output.jsonl  finished.json

Each file is durable before the next step is taken, so the files tell how far a batch has come, whenever its process
died:

    batch.json        the intent: for which calls, at which address. Its attempts are begun after it
    requests.jsonl    what is sent, a line a call. Without it nothing was: its attempts are closed again
    file.json         the provider has the requests, under this file id
    asked.json        the provider is about to be asked for the batch. From here on it may be there, and paid
    refused.json      the provider said that there will be no such batch; nothing follows but finished.json
    submitted.json    the provider's id of the batch
    output.jsonl      the lines that came, as they came; errors.jsonl: those of calls that failed
    finished.json     each of its attempts has its outcome

Only asked.json is ever written again, when the provider is asked a second time because it has no such batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store.documents import encode_readably
from store.durable import place_file
from store.errors import BatchInvalid
from store.files import read_file
from store.identity import check_id

INTENT, REQUESTS, UPLOADED, ASKED = "batch.json", "requests.jsonl", "file.json", "asked.json"
REFUSED, SUBMITTED, OUTPUT, ERRORS, FINISHED = (
    "refused.json",
    "submitted.json",
    "output.jsonl",
    "errors.jsonl",
    "finished.json",
)


class BatchStore:
    """The folder data/batches."""

    def __init__(self, root: Path, *, temporary_folder: Path) -> None:
        self.root, self._temporary_folder = root, temporary_folder

    def folder_of(self, batch: str) -> Path:
        return self.root / check_id("batch", batch)

    def record(self, batch: str, name: str, record: Mapping[str, Any], *, replace: bool = False) -> None:
        """Write one of a batch's records durably; one that is there stays, unless it is to be replaced."""
        path = self.folder_of(batch) / name
        place_file(path, encode_readably(dict(record)), temporary_folder=self._temporary_folder, replace=replace)

    def keep(self, batch: str, name: str, content: bytes) -> None:
        """Keep bytes durably, once."""
        place_file(self.folder_of(batch) / name, content, temporary_folder=self._temporary_folder)

    def find_record(self, batch: str, name: str) -> dict[str, Any] | None:
        """Return one of a batch's records; None if it has not come so far. Raises BatchInvalid."""
        content = self.find_content(batch, name)
        if content is None:
            return None
        try:
            value = json.loads(content)
        except ValueError as error:
            raise BatchInvalid(batch, problem=f"{name} cannot be read: {error}") from error
        if not isinstance(value, dict):
            raise BatchInvalid(batch, problem=f"{name} is not an object")
        return value

    def get_record(self, batch: str, name: str) -> dict[str, Any]:
        """Return one of a batch's records. Raises BatchInvalid if it is not there."""
        if (record := self.find_record(batch, name)) is None:
            raise BatchInvalid(batch, problem=f"it has no {name}")
        return record

    def find_content(self, batch: str, name: str) -> bytes | None:
        """Return the bytes of one of a batch's files; None if it is not there. Raises BatchInvalid."""
        try:
            return read_file(self.folder_of(batch) / name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BatchInvalid(batch, problem=f"{name} cannot be read: {error}") from error

    def has(self, batch: str, name: str) -> bool:
        return (self.folder_of(batch) / name).exists()

    def list_unfinished(self) -> list[str]:
        """Return the batches whose attempts have not all an outcome, the oldest first."""
        batches = [path.parent.name for path in self.root.glob(f"*/{INTENT}") if not (path.parent / FINISHED).exists()]
        return sorted(batches, key=lambda batch: (self.get_record(batch, INTENT).get("created_at", ""), batch))
