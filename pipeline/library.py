"""The library: reading documents from a program, without config, plans or models.

    library = Library(Path("data"))
    essay = library.read_latest("essay", "dmn+flywheel__synthesis__smollm2__1__plain__smollm2__1")
    print(library.read_parsed(essay))

docs/reading.md has the promises of each function.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UnknownName
from pipeline.making import PARSED_FILE, PROMPT_FILE, RAW_FILE
from store.data_root import DataRoot
from store.documents import Document
from store.pointers import find_latest


class Library:
    """The documents of a data folder. Of what is on disk it changes nothing but pointers that are not true."""

    def __init__(self, data_root: Path) -> None:
        self._documents = DataRoot(data_root).documents

    def read_document(self, stage: str, doc_id: str) -> Document:
        """Return a document after the quick check, with no scan.

        Raises NameInvalid, DocumentMissing; DocumentInvalid or DocumentCorrupt if it is damaged.
        """
        return self._documents.read(stage, doc_id)

    def read_latest(self, stage: str, task_id: str) -> Document:
        """Return the latest document of a task_id: the one with the highest created_at, of equals the highest doc_id.

        Raises UnknownName if there is none, DocumentInvalid or DocumentCorrupt if it is damaged.
        """
        document = find_latest(self._documents, stage, task_id)
        if document is None:
            raise UnknownName(f"task_id of stage {stage}", task_id, [])
        return document

    def read_prompt(self, document: Document) -> str | None:
        """Return what the model was asked; None for a document that asked none. Raises DocumentCorrupt."""
        return _read_text(document, PROMPT_FILE)

    def read_raw(self, document: Document) -> str | None:
        """Return what the model answered; None for a document that asked none. Raises DocumentCorrupt."""
        return _read_text(document, RAW_FILE)

    def read_parsed(self, document: Document) -> str | None:
        """Return the parsed text, which children are made from. Raises DocumentCorrupt."""
        return _read_text(document, PARSED_FILE)

    def walk(self, stage: str | None = None) -> Iterator[Document]:
        """Yield every document, or every one of a stage, sorted by stage and doc_id.

        Raises DocumentInvalid or DocumentCorrupt at a damaged one; `walk_ids` goes on past it.
        """
        for found_stage, doc_id in self.walk_ids(stage):
            yield self._documents.read(found_stage, doc_id)

    def walk_ids(self, stage: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield (stage, doc_id) of every document, sorted, from names alone."""
        for found_stage in self._documents.list_stages() if stage is None else [stage]:
            for doc_id in self._documents.list_ids(found_stage):
                yield found_stage, doc_id


def _read_text(document: Document, name: str) -> str | None:
    return document.read_text(name) if name in document.file_names else None
