"""What can go wrong in the store.

StoreError
├── NameInvalid          a stage, doc_id, call_id or file name could not be a safe path
├── ValueNotEncodable    inputs hold something that has no canonical encoding
├── DocumentMissing      a doc_id has no folder
├── DocumentFileMissing  a document has no file of that name
├── DocumentInvalid      the folder has no readable metadata.json; never treated as missing
├── DocumentCorrupt      a file's bytes do not match their recorded size or hash
├── DigestCollision      two different inputs share one doc_id
├── CallInvalid          an attempt's record cannot be read
├── BatchInvalid         a batch's record cannot be read
├── TrashInvalid         an entry of the trash is absent, or its record cannot be read
├── TextMissing          a text that inputs name is not kept
├── NoRoom               less is free than is to be kept free; nothing was sent
├── WriteFailed          the disk refused; nothing was committed
└── StoreNotUsable       the data folder cannot hold a durable store
"""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """Base of every error of the store."""


class NameInvalid(StoreError):
    """A stage, doc_id, call_id or file name could not be a safe path."""

    def __init__(self, kind: str, name: object, *, expected: str) -> None:
        self.kind, self.name, self.expected = kind, name, expected
        super().__init__(f"{name!r} is not a {kind}. Expected {expected}.")


class ValueNotEncodable(StoreError):
    """Inputs hold something that has no canonical encoding."""

    def __init__(self, place: str, value: object, *, expected: str) -> None:
        self.place, self.value, self.expected = place, value, expected
        super().__init__(f"{place} is {value!r} ({type(value).__name__}), which has no canonical encoding. {expected}")


class DocumentMissing(StoreError):
    """A doc_id has no folder."""

    def __init__(self, stage: str, doc_id: str, *, folder: Path) -> None:
        self.stage, self.doc_id, self.folder = stage, doc_id, folder
        super().__init__(f"Document {stage}/{doc_id} is not in the store: there is no folder {folder}.")


class DocumentFileMissing(StoreError):
    """A document has no file of that name."""

    def __init__(self, stage: str, doc_id: str, name: str, *, names: list[str]) -> None:
        self.stage, self.doc_id, self.name, self.names = stage, doc_id, name, names
        super().__init__(f"Document {stage}/{doc_id} has no file {name}. It has: {', '.join(names) or 'none'}.")


class DocumentInvalid(StoreError):
    """A document's folder has no readable metadata.json. It is damaged, not missing."""

    def __init__(self, stage: str, doc_id: str, *, problem: str, folder: Path) -> None:
        self.stage, self.doc_id, self.problem, self.folder = stage, doc_id, problem, folder
        super().__init__(
            f"Document {stage}/{doc_id} is present but invalid: {problem} (in {folder}). It is not made again, "
            "because that might cost a call and change its children: daybook repair shows what can be done."
        )


class DocumentCorrupt(StoreError):
    """A file's bytes do not match their recorded size or hash."""

    def __init__(self, stage: str, doc_id: str, name: str, *, expected: str, found: str) -> None:
        self.stage, self.doc_id, self.name, self.expected, self.found = stage, doc_id, name, expected, found
        super().__init__(
            f"Document {stage}/{doc_id}: {name} does not match its record (expected {expected}, found {found}). "
            "It is not made again by itself: daybook repair shows what can be done."
        )


class DigestCollision(StoreError):
    """Two different inputs share one doc_id. Nothing is overwritten and no suffix is added."""

    def __init__(self, stage: str, doc_id: str, *, planned: str, found: str) -> None:
        self.stage, self.doc_id, self.planned, self.found = stage, doc_id, planned, found
        super().__init__(
            f"Document {stage}/{doc_id} was made from other inputs: its digest is {found}, the plan's is {planned}."
        )


class CallInvalid(StoreError):
    """An attempt's record cannot be read."""

    def __init__(self, call_id: str, attempt: str, *, problem: str) -> None:
        self.call_id, self.attempt, self.problem = call_id, attempt, problem
        super().__init__(f"Call {call_id}, attempt {attempt}: {problem}. Its files are kept as they are.")


class BatchInvalid(StoreError):
    """A batch's record cannot be read."""

    def __init__(self, batch: str, *, problem: str) -> None:
        self.batch, self.problem = batch, problem
        super().__init__(f"Batch {batch}: {problem}. Its files are kept as they are.")


class TextMissing(StoreError):
    """A text that a document's inputs name is not kept, or not with those bytes."""

    def __init__(self, digest: str, *, problem: str) -> None:
        self.digest, self.problem = digest, problem
        super().__init__(f"Text {digest}: {problem}.")


class TrashInvalid(StoreError):
    """An entry of the trash is absent, or its record cannot be read."""

    def __init__(self, entry_id: str, *, problem: str) -> None:
        self.entry_id, self.problem = entry_id, problem
        super().__init__(f"Entry {entry_id} of the trash: {problem}. Its folders are kept as they are.")


class WriteFailed(StoreError):
    """The disk refused a write. Nothing was committed; what was written lies in the temporary folder."""

    def __init__(self, path: Path, *, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(
            f"Could not write {path}: {problem}. Nothing was committed; make room, mend the disk or allow writing."
        )


class NoRoom(StoreError):
    """Less is free on the store's filesystem than is to be kept free. Nothing was sent, so nothing was paid."""

    def __init__(self, root: Path, *, what: str, free: int, reserve: int) -> None:
        self.root, self.what, self.free, self.reserve = root, what, free, reserve
        super().__init__(
            f"The filesystem of {root} has {free:,} {what} free; {reserve:,} are to be kept free, so that no answer is "
            "lost for lack of room. Nothing was sent. Make room, or lower the reserve in luigi.cfg, section [store]."
        )


class StoreNotUsable(StoreError):
    """The data folder cannot hold a durable store."""

    def __init__(self, root: Path, *, problem: str) -> None:
        self.root, self.problem = root, problem
        super().__init__(f"The data folder {root} cannot be used: {problem}.")
