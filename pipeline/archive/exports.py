"""Exports: the imported bytes, kept for ever, and what one import brought.

    docs/export/<doc_id>/   content.bin     the bytes of a file or of a ZIP's member; equal bytes are one document
    docs/export/<doc_id>/   members.json    a set: the files of one import by name, in order, each with its document

Everything else in the archive follows from these. Nothing is ever written under the name that a file has: names
are data. The time of a set is later than that of every set before it, so that their order can be told for good. Its
metadata names no parents: members.json does, and a folder that is imported every day has thousands of files.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pipeline.archive.importers.interface import Member, Skip
from pipeline.errors import InputInvalid
from pipeline.stages import ArchiveStage, Status
from store.documents import PIECE_BYTES, DocumentStore, StagedFile
from store.identity import digest_of, encode_canonically, hash_bytes, id_from_digest, new_hasher

CONTENT_FILE = "content.bin"
MEMBERS_FILE = "members.json"
SET_KIND = "set"
READ_AT_ONCE_BYTES = 8 << 20  # a bigger file is read twice: to see whether it is there, and if not, to be written;
READ_ONCE_FROM_BYTES = 64 << 20  # but once from here on, if no export has its size: looking at all takes less long

TIME_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"

Json = dict[str, Any]
Open = Callable[[], BinaryIO]


class KeptFile(NamedTuple):
    """The bytes of a file in the store. `is_new`: they were not there before."""

    export: str
    blake3: str
    size_bytes: int
    is_new: bool


class SetMember(NamedTuple):
    """A file of a set, as members.json has it. `raw_name` is there where the name in the source is another one."""

    name: str
    size_bytes: int
    blake3: str
    export: str
    raw_name: str | None = None


class ExportSet(NamedTuple):
    """What one import brought."""

    doc_id: str
    created_at: str
    container: str  # file, zip, folder, stdin
    members: tuple[SetMember, ...]
    skips: tuple[Skip, ...]  # what its source had besides, and is not kept
    options: Mapping[str, Any] = {}  # of the import, where they are not as always


# Files


def keep_file(
    documents: DocumentStore,
    open_file: Open,
    *,
    on_read: Callable[[int], None] = lambda count: None,
    now: datetime | None = None,
) -> KeptFile:
    """Put a file's bytes into the store if they are not there; return where they are.

    `open_file` may be called twice for a big file; `on_read` is told the bytes of each read of the first time. What
    `open_file` raises goes on to the caller. Raises StoreError.
    """
    with open_file() as file:
        pieces = _list_pieces(file, on_read)
        start = _take(pieces, READ_AT_ONCE_BYTES)
        if sum(map(len, start)) < READ_AT_ONCE_BYTES:
            content = b"".join(start)
            return _keep(documents, content, hash_bytes(content), len(content), now)
        if _is_surely_new(documents, file):
            with documents.stage_file(chain(start, pieces)) as staged:
                return _keep(documents, staged, staged.blake3, staged.size_bytes, now)
        measured = _measure(chain(start, pieces))
    if documents.is_present(ArchiveStage.EXPORT, measured.export):
        return measured
    with open_file() as file, documents.stage_file(_list_pieces(file)) as staged:
        return _keep(documents, staged, staged.blake3, staged.size_bytes, now)  # it may have changed since


def _is_surely_new(documents: DocumentStore, file: BinaryIO) -> bool:
    """Whether a file is big, and no export has as many bytes. A wrong answer costs time, and nothing else."""
    try:
        size_bytes = os.fstat(file.fileno()).st_size
    except OSError:  # a member of a ZIP
        return False
    if size_bytes < READ_ONCE_FROM_BYTES:
        return False
    exports = documents.list_ids(ArchiveStage.EXPORT)
    contents = (documents.folder_of(ArchiveStage.EXPORT, export) / CONTENT_FILE for export in exports)
    return all(_size_of(path) != size_bytes for path in contents)


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:  # a set, or one that is damaged
        return None


def measure_file(open_file: Open) -> KeptFile:
    """Return where a file's bytes are or would be."""
    with open_file() as file:
        return _measure(_list_pieces(file))


def _measure(pieces: Iterable[bytes]) -> KeptFile:
    hasher, size_bytes = new_hasher(), 0
    for piece in pieces:
        hasher.update(piece)
        size_bytes += len(piece)
    blake3 = hasher.hexdigest()
    return KeptFile(identify_file(blake3, size_bytes).doc_id, blake3, size_bytes, is_new=False)


def _list_pieces(file: BinaryIO, on_read: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        on_read(len(piece))
        yield piece


def _take(pieces: Iterator[bytes], size_bytes: int) -> list[bytes]:
    """Return the first pieces: `size_bytes` together or a little more, or all there is."""
    taken: list[bytes] = []
    missing = size_bytes
    while missing > 0 and (piece := next(pieces, b"")):
        taken.append(piece)
        missing -= len(piece)
    return taken


class ExportIdentity(NamedTuple):
    """What an export is made from, and its name."""

    inputs: Json
    digest: str
    doc_id: str


def _identify(inputs: Json) -> ExportIdentity:
    digest = digest_of(ArchiveStage.EXPORT, inputs)
    return ExportIdentity(inputs, digest, id_from_digest(digest))


def identify_file(blake3: str, size_bytes: int) -> ExportIdentity:
    """Return the identity of the export of a file."""
    return _identify({"blake3": blake3, "size_bytes": size_bytes})


def _keep(
    documents: DocumentStore, content: bytes | StagedFile, blake3: str, size_bytes: int, now: datetime | None
) -> KeptFile:
    identity = identify_file(blake3, size_bytes)
    if documents.is_present(ArchiveStage.EXPORT, identity.doc_id):
        return KeptFile(identity.doc_id, blake3, size_bytes, is_new=False)
    metadata = {
        "created_at": (now or datetime.now(UTC)).strftime(TIME_FORM),
        "digest": identity.digest,
        "inputs": identity.inputs,
        "parents": [],
        "status": str(Status.OK),
    }
    documents.commit(ArchiveStage.EXPORT, identity.doc_id, {CONTENT_FILE: content}, metadata)
    return KeptFile(identity.doc_id, blake3, size_bytes, is_new=True)


class ExportReader:
    """Opens exports, each after a deep check, unless this process has written or checked it already."""

    def __init__(self, documents: DocumentStore, *, on_read: Callable[[int], None] | None = None) -> None:
        self._documents = documents
        self._on_read = on_read  # is told the bytes of each read
        self._sound: set[str] = set()

    def trust(self, export: str) -> None:
        self._sound.add(export)

    def open(self, export: str) -> BinaryIO:
        """Open the bytes of an export. Raises DocumentMissing, DocumentInvalid, DocumentCorrupt."""
        if export not in self._sound:
            self._documents.read_deeply(ArchiveStage.EXPORT, export)
            self._sound.add(export)
        path = self._documents.folder_of(ArchiveStage.EXPORT, export) / CONTENT_FILE
        return io.BufferedReader(_CountedFile(path, self._on_read)) if self._on_read else path.open("rb")

    def list_members(self, export_set: ExportSet) -> list[Member]:
        """Return the files of a set as importers see them: read from the store, and from nowhere else."""
        return [
            Member(member.name, member.size_bytes, member.blake3, member.export, partial(self.open, member.export))
            for member in export_set.members
        ]


class _CountedFile(io.FileIO):
    """A file that tells how many bytes are read of it."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        super().__init__(path)
        self._tell_read = on_read

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self._tell_read(count or 0)
        return count


# Sets


def keep_set(
    documents: DocumentStore,
    container: str,
    members: Sequence[SetMember],
    skips: Sequence[Skip] = (),
    *,
    options: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> tuple[ExportSet, bool]:
    """Put the record of an import into the store if it is not there; return it, and whether it is new.

    The same files under the same names in the same order, with the same options, are one set, whatever holds them.
    """
    listed = _describe_set(members, skips) | ({"options": dict(options)} if options else {})
    identity = _identify_set(listed)
    with documents.hold_stage(ArchiveStage.EXPORT):
        if documents.is_present(ArchiveStage.EXPORT, identity.doc_id):
            return read_set(documents, identity.doc_id), False
        created_at = _choose_time(documents, now or datetime.now(UTC))
        metadata = {
            "created_at": created_at,
            "digest": identity.digest,
            "inputs": identity.inputs,
            "kind": SET_KIND,
            "parents": [],
            "status": str(Status.OK),
        }
        files = {MEMBERS_FILE: _encode({"container": container, **listed})}
        documents.commit(ArchiveStage.EXPORT, identity.doc_id, files, metadata)
    return ExportSet(identity.doc_id, created_at, container, tuple(members), tuple(skips), options or {}), True


def identify_set(members: Sequence[SetMember], skips: Sequence[Skip]) -> str:
    """Return the doc_id of the set of some files."""
    return _identify_set(_describe_set(members, skips)).doc_id


def _identify_set(listed: Json) -> ExportIdentity:
    return _identify({"kind": SET_KIND, "members": hash_bytes(encode_canonically(listed))})


def _describe_set(members: Sequence[SetMember], skips: Sequence[Skip]) -> Json:
    described = [{name: value for name, value in member._asdict().items() if value is not None} for member in members]
    return {"members": described, "skips": [skip._asdict() for skip in skips]}


def describe_parent(export: str, blake3: str) -> Json:
    """Return how a document's metadata names an export that it was made from."""
    return {"stage": str(ArchiveStage.EXPORT), "doc_id": export, "file": CONTENT_FILE, "blake3": blake3}


def _choose_time(documents: DocumentStore, now: datetime) -> str:
    """Return the time of a new set: now, but after every other set, also when the clock has been put back."""
    latest = max((each.created_at for each in list_sets(documents)), default="")
    text = now.strftime(TIME_FORM)
    if text > latest:
        return text
    return (datetime.strptime(latest, TIME_FORM) + timedelta(microseconds=1)).strftime(TIME_FORM)


def _encode(record: Json) -> bytes:
    return (json.dumps(record, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()


def read_set(documents: DocumentStore, doc_id: str) -> ExportSet:
    """Return a set. Raises InputInvalid if the document is none; DocumentMissing and other StoreErrors."""
    document = documents.read(ArchiveStage.EXPORT, doc_id)
    if document.metadata.get("kind") != SET_KIND:
        raise InputInvalid(f"export/{doc_id} is a file, and no set. Expected the doc_id that daybook import printed.")
    record = json.loads(document.read_bytes(MEMBERS_FILE))
    members = tuple(SetMember(**member) for member in record["members"])
    skips = tuple(Skip(**skip) for skip in record["skips"])
    created_at, container = str(document.metadata["created_at"]), str(record["container"])
    return ExportSet(doc_id, created_at, container, members, skips, record.get("options", {}))


class ListedSet(NamedTuple):
    """A set, with its order among the others."""

    created_at: str
    doc_id: str


def list_sets(documents: DocumentStore) -> list[ListedSet]:
    """Return all sets in the order of their times. Raises DocumentInvalid for one that is damaged."""
    found = []
    for doc_id in documents.list_ids(ArchiveStage.EXPORT):
        if (documents.folder_of(ArchiveStage.EXPORT, doc_id) / MEMBERS_FILE).exists():  # most exports are files
            created_at = documents.read_metadata(ArchiveStage.EXPORT, doc_id)["created_at"]
            found.append(ListedSet(str(created_at), doc_id))
    return sorted(found)
