"""Documents: finished, immutable folders docs/<stage>/<doc_id>/.

    docs/<stage>/<doc_id>/  prompt.txt raw.txt parsed.txt metadata.json extras/     (each where it applies)

metadata.json lists every other file with its size and BLAKE3, and carries a hash of itself. Three
questions can be asked of a document:

    present   is there a folder?                                        never trusted alone
    quick     does metadata.json parse, and has each listed file its size, and is no file unlisted?
    deep      quick, and do all bytes match their hashes?

A document that is present but fails raises DocumentInvalid or DocumentCorrupt at every level.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from store.durable import NewFile, commit_folder, commit_folders, create_folder, move_folder, stage_file
from store.errors import (
    DigestCollision,
    DocumentCorrupt,
    DocumentFileMissing,
    DocumentInvalid,
    DocumentMissing,
    StoreError,
    ValueNotEncodable,
)
from store.files import lock_folder, read_file
from store.flushing import Flush
from store.identity import (
    ID_FORM,
    check_file_name,
    check_id,
    check_stage,
    digest_of,
    encode_canonically,
    hash_bytes,
    hash_pieces,
    id_from_digest,
    new_hasher,
)
from store.journal import Event, Journal
from store.pointer_files import PointerFiles, pointer_of

METADATA_FILE = "metadata.json"
METADATA_SCHEMA = 1
PIECE_BYTES = 1 << 20  # of a file that is not read at once
READABLE_DEPTH = 2  # of an object written with a line for each field

_READABLE = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False)
_ESCAPED = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True)
class Document:
    """A committed document. `metadata` is the content of metadata.json."""

    stage: str
    doc_id: str
    folder: Path
    metadata: Mapping[str, Any]

    @property
    def file_names(self) -> list[str]:
        """The names of all files but metadata.json, sorted."""
        return sorted(self.metadata["files"])

    @property
    def content_id(self) -> str:
        """The hash of the map of files: equal for two documents whose files hold the same bytes."""
        return hash_bytes(encode_canonically(self.metadata["files"]))

    def read_bytes(self, name: str) -> bytes:
        """Return a file's bytes, checked against the record.

        Raises DocumentFileMissing if the document has no such file, DocumentCorrupt if it is gone or altered.
        """
        record = self.metadata["files"].get(check_file_name(name))
        if record is None:
            raise DocumentFileMissing(self.stage, self.doc_id, name, names=self.file_names)
        try:
            content = read_file(self.folder / name)
        except FileNotFoundError as error:
            raise DocumentCorrupt(self.stage, self.doc_id, name, expected="a file", found="none") from error
        if hash_bytes(content) != record["blake3"]:
            raise DocumentCorrupt(
                self.stage, self.doc_id, name, expected=record["blake3"][:12], found=hash_bytes(content)[:12]
            )
        return content

    def open(self, name: str) -> BinaryIO:
        """Return a file to read from, for one too big to be in memory; `check` tells whether its bytes are right."""
        self.file_blake3(name)
        return (self.folder / name).open("rb")

    def check(self, name: str) -> None:
        """Read a file piece by piece. Raises DocumentCorrupt if it is gone or altered."""
        expected = self.file_blake3(name)
        try:
            with self.open(name) as file:
                found = hash_pieces(iter(lambda: file.read(PIECE_BYTES), b""))
        except FileNotFoundError as error:
            raise DocumentCorrupt(self.stage, self.doc_id, name, expected="a file", found="none") from error
        if found != expected:
            raise DocumentCorrupt(self.stage, self.doc_id, name, expected=expected[:12], found=found[:12])

    def read_text(self, name: str) -> str:
        """Return a file's text: its bytes as UTF-8, newlines as they are."""
        return self.read_bytes(name).decode()

    def file_blake3(self, name: str) -> str:
        """Return the recorded hash of a file."""
        record = self.metadata["files"].get(check_file_name(name))
        if record is None:
            raise DocumentFileMissing(self.stage, self.doc_id, name, names=self.file_names)
        return str(record["blake3"])


class StagedFile(NamedTuple):
    """A file of a document to be, written already, because it is too big to be in memory."""

    file: NewFile
    size_bytes: int
    blake3: str


class Placement(NamedTuple):
    """Where a document from elsewhere goes; beside, if another one is in its place."""

    folder: Path
    is_beside: bool
    is_there: bool


class DocumentStore:
    """The folder data/docs. `temporary_folder` and `superseded_folder` are on the same filesystem."""

    def __init__(self, root: Path, *, temporary_folder: Path, superseded_folder: Path, journal: Journal) -> None:
        self.root = root
        self._journal = journal
        self._temporary_folder = temporary_folder
        self._superseded_folder = superseded_folder
        self.pointers = PointerFiles(root, temporary_folder=temporary_folder)

    def folder_of(self, stage: str, doc_id: str) -> Path:
        """Return where a document is or would be. Raises NameInvalid for anything but a stage and a doc_id."""
        return Path(f"{self.root}/{check_stage(stage)}/{check_id('doc_id', doc_id)}")

    def is_present(self, stage: str, doc_id: str) -> bool:
        """Whether the document is there and passes the quick check. Raises if it is present but invalid."""
        try:
            self.read(stage, doc_id)
        except DocumentMissing:
            return False
        return True

    def list_changes(self, stage: str) -> dict[str, int]:
        """Return {doc_id: when its folder last changed, in ns} of a stage, with one scan; other names are there too.

        A folder changes when a file of it is added, removed or replaced, and when it is itself moved or restored.
        """
        try:
            with os.scandir(self.root / check_stage(stage)) as entries:
                return {entry.name: entry.stat(follow_symlinks=False).st_ctime_ns for entry in entries}
        except FileNotFoundError:
            return {}

    def list_ids(self, stage: str) -> list[str]:
        """Return the doc_ids of a stage, sorted, with one scan of its folder. Other names are passed over."""
        try:
            return sorted(filter(ID_FORM.fullmatch, os.listdir(self.root / check_stage(stage))))
        except FileNotFoundError:
            return []

    def list_stages(self) -> list[str]:
        """Return the stages that have a folder, sorted."""
        try:
            with os.scandir(self.root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        except FileNotFoundError:
            return []

    def find_ids(self, prefix: str) -> list[tuple[str, str]]:
        """Return (stage, doc_id) of every document whose doc_id starts with `prefix`."""
        return [(stage, doc_id) for stage, doc_id in self.walk() if doc_id.startswith(prefix)]

    def read_metadata(self, stage: str, doc_id: str) -> Mapping[str, Any]:
        """Return what metadata.json says, with no look at the other files. Raises DocumentMissing, DocumentInvalid."""
        return _read_metadata(stage, doc_id, self.folder_of(stage, doc_id))

    def read(self, stage: str, doc_id: str, *, digest: str | None = None) -> Document:
        """Return a document after the quick check.

        Raises DocumentMissing; DocumentInvalid if metadata.json is absent or malformed; DocumentCorrupt
        if a file is absent, has another size or is not listed; DigestCollision if `digest` is given and
        the document was made from other inputs.
        """
        folder = self.folder_of(stage, doc_id)
        document = Document(stage, doc_id, folder, _read_metadata(stage, doc_id, folder))
        _check_sizes(document)
        if digest is not None and document.metadata["digest"] != digest:
            raise DigestCollision(stage, doc_id, planned=digest, found=document.metadata["digest"])
        return document

    def read_deeply(self, stage: str, doc_id: str, *, digest: str | None = None) -> Document:
        """Return a document after the deep check: as `read`, and every byte matches its hash."""
        document = self.read(stage, doc_id, digest=digest)
        for name in document.file_names:
            document.check(name)
        expected, found = document.metadata["self_blake3"], hash_metadata(document.metadata)
        if expected != found:
            raise DocumentCorrupt(stage, doc_id, METADATA_FILE, expected=str(expected)[:12], found=found[:12])
        return document

    @contextmanager
    def stage_file(self, pieces: Iterable[bytes]) -> Iterator[StagedFile]:
        """Write a file piece by piece, and yield it to be committed in the block; otherwise it is removed.

        Raises WriteFailed if the disk refuses.
        """
        hasher = new_hasher()
        with stage_file(self._temporary_folder) as file:
            for piece in pieces:
                hasher.update(piece)
                file.append(piece)
            yield StagedFile(file, file.size_bytes, hasher.hexdigest())

    def commit(
        self, stage: str, doc_id: str, files: Mapping[str, bytes | StagedFile], metadata: Mapping[str, Any]
    ) -> Document:
        """Write a document durably and return it. `metadata` is completed with files, schema and own hash.

        If another process committed the same doc_id first, its document is checked deeply and returned,
        and this one is kept under superseded/. Raises WriteFailed if the disk refuses.
        """
        final = self.folder_of(stage, doc_id)
        complete = complete_metadata(stage, doc_id, files, metadata)
        content, record = {name: _content_of(files[name]) for name in sorted(files)}, encode_readably(complete)
        pointer = pointer_of(complete)
        if pointer:
            self.pointers.withdraw(stage, pointer.task_id, before=pointer)
        document = Document(stage, doc_id, final, complete)
        loser = self._commit_folder(document, content, record)
        if loser is not None:
            document = self._keep_aside(document, record, loser)
        self._point_to(document)
        return document

    def _commit_folder(self, document: Document, content: Mapping[str, bytes | NewFile], record: bytes) -> Path | None:
        """Write a document's folder and its record in the journal; return where it lies if another one is there."""
        self._journal.open()  # before anything is in its place: then only a record is left to write
        facts = _describe_commit(document, record)
        acknowledge = partial(self._journal.append_with, event=Event.COMMITTED, **facts)
        return commit_folder(
            {**content, METADATA_FILE: record},  # last: a staged folder that has it is complete
            document.folder,
            temporary_folder=self._temporary_folder,
            acknowledge=acknowledge,
        )

    def _point_to(self, document: Document) -> None:
        if pointer := pointer_of(document.metadata):
            self.pointers.point(document.stage, pointer)

    def restore(self, stage: str, doc_id: str, files: Mapping[str, bytes]) -> Document:
        """Put a document back whose folder was moved away: all of its files, metadata.json as it was.

        Raises StoreError if they do not match their record, or if something is in its place.
        """
        final, record = self.folder_of(stage, doc_id), files[METADATA_FILE]
        metadata = json.loads(record)
        problem = find_metadata_problem(metadata, stage, doc_id)
        if problem:
            raise DocumentInvalid(stage, doc_id, problem=f"{METADATA_FILE} {problem}", folder=final)
        document = Document(stage, doc_id, final, metadata)
        for name in document.file_names:
            if hash_bytes(files[name]) != document.file_blake3(name):
                raise DocumentCorrupt(stage, doc_id, name, expected=document.file_blake3(name)[:12], found="others")
        content = {name: files[name] for name in document.file_names}
        staged = self._commit_folder(document, content, record)
        if staged is not None:
            raise DocumentInvalid(stage, doc_id, problem=f"it cannot be put back from {staged}", folder=final)
        self._point_to(document)
        return document

    def record(self, stage: str, doc_id: str) -> None:
        """Write a sound document into the journal that does not know it yet. Raises StoreError if it is not sound."""
        document = self.read_deeply(stage, doc_id)
        self._journal.append(Event.COMMITTED, **_describe_commit(document, read_file(document.folder / METADATA_FILE)))

    def commit_all(self, stage: str, drafts: Mapping[str, tuple[Mapping[str, bytes], Mapping[str, Any]]]) -> None:
        """Write documents durably, {doc_id: (files, metadata)}, with the flushes of one; each as `commit` does.

        For documents without a task_id, which have no pointer. What is acknowledged is all of them or none.
        """
        for _ in self.commit_in_steps(stage, drafts):
            pass

    def commit_in_steps(
        self, stage: str, drafts: Mapping[str, tuple[Mapping[str, bytes], Mapping[str, Any]]]
    ) -> Iterator[None]:
        """Do what `commit_all` does, which is done at the end; after the first step it mostly waits for the disk."""
        contents: dict[str, Mapping[str, bytes]] = {}
        written: dict[str, tuple[Document, bytes]] = {}
        for doc_id, (files, metadata) in drafts.items():
            complete = complete_metadata(stage, doc_id, files, metadata)
            assert pointer_of(complete) is None
            record = encode_readably(complete)
            contents[doc_id] = {**{name: files[name] for name in sorted(files)}, METADATA_FILE: record}
            written[doc_id] = Document(stage, doc_id, self.folder_of(stage, doc_id), complete), record
        if not contents:
            return
        self._journal.open()

        def acknowledge(flush: Flush, folders: Sequence[Path], placed: Iterable[str]) -> None:
            facts = [_describe_commit(*written[doc_id]) for doc_id in placed]
            self._journal.append_all_with(flush, folders, Event.COMMITTED, facts)

        folder, temporary_folder = self.root / check_stage(stage), self._temporary_folder
        losers = yield from commit_folders(folder, contents, temporary_folder=temporary_folder, acknowledge=acknowledge)
        for doc_id, loser in losers.items():
            self._keep_aside(*written[doc_id], loser)

    def _keep_aside(self, document: Document, record: bytes, loser: Path) -> Document:
        """Keep a document that came second; return the one that is there, checked deeply."""
        move_folder(loser, self._superseded_folder / document.stage / loser.name)
        self._journal.append(Event.SUPERSEDED, **_describe_commit(document, record), kept=loser.name)
        first = self.read_deeply(document.stage, document.doc_id, digest=document.metadata["digest"])
        self.record(document.stage, document.doc_id)  # whoever was faster may have died before
        return first

    @contextmanager
    def hold_stage(self, stage: str) -> Iterator[None]:
        """Let nobody else hold the stage until the block ends: no thread, and no process of this machine.

        Who looks again inside makes a document only once. It saves work; no promise rests on it.
        """
        folder = self.root / check_stage(stage)
        create_folder(folder)
        with lock_folder(folder):
            yield

    def place_of(self, stage: str, doc_id: str, metadata: bytes) -> Placement:
        """Return where a document that another store made would go; `metadata` are the bytes of its metadata.json.

        To its own place if that is free; beside the one that is there if that is another or is damaged.
        """
        final = self.folder_of(stage, doc_id)
        if not os.path.lexists(final):
            return Placement(final, is_beside=False, is_there=False)
        try:
            self.read_deeply(stage, doc_id)
            if read_file(final / METADATA_FILE) == metadata:
                return Placement(final, is_beside=False, is_there=True)
        except StoreError:
            pass  # damaged: the other one is a good copy
        beside = self._superseded_folder / stage / f"{doc_id}.{hash_bytes(metadata)[:16]}"
        return Placement(beside, is_beside=True, is_there=beside.is_dir())

    def bring_in(self, stage: str, doc_id: str, files: Mapping[str, bytes]) -> Placement:
        """Place a document that another store made, byte for byte and durably; return where, and if it was there.

        `files` has metadata.json too; `find_problem` has been asked. What is in the store already stays as it is.
        """
        metadata = files[METADATA_FILE]
        content = {name: files[name] for name in sorted(files) if name != METADATA_FILE}
        place = self.place_of(stage, doc_id, metadata)
        if place.is_there:
            return place
        document = Document(stage, doc_id, place.folder, json.loads(metadata))
        if place.is_beside:
            whole = {**content, METADATA_FILE: metadata}
            commit_folder(whole, place.folder, temporary_folder=self._temporary_folder)
            kept = place.folder
        elif (loser := self._commit_folder(document, content, metadata)) is not None:  # another process was faster
            place = self.place_of(stage, doc_id, metadata)
            kept = self._superseded_folder / stage / loser.name
            move_folder(loser, kept)
        else:
            self._point_to(document)
            return place
        self._journal.append(Event.SUPERSEDED, **_describe_commit(document, metadata), kept=kept.name)
        return place

    def walk(self) -> Iterator[tuple[str, str]]:
        """Yield (stage, doc_id) of every document, sorted."""
        for stage in self.list_stages():
            for doc_id in self.list_ids(stage):
                yield stage, doc_id


def _describe_commit(document: Document, record: bytes) -> dict[str, Any]:
    """Return what the journal keeps of a document; `record` is its metadata.json."""
    names = ("call_id", "attempt", "run_id")
    known = {name: document.metadata[name] for name in names if document.metadata.get(name) is not None}
    own = {"stage": document.stage, "doc_id": document.doc_id}
    return {**own, "content_id": document.content_id, "metadata_blake3": hash_bytes(record), **known}


def _content_of(content: bytes | StagedFile) -> bytes | NewFile:
    return content.file if isinstance(content, StagedFile) else content


def complete_metadata(
    stage: str, doc_id: str, files: Mapping[str, bytes | StagedFile], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return metadata with what the store itself vouches for: schema, names, files and own hash."""
    records = {check_file_name(name): _describe_file(content) for name, content in files.items()}
    complete = {**metadata, "schema": METADATA_SCHEMA, "stage": stage, "doc_id": doc_id, "files": records}
    return {**complete, "self_blake3": hash_metadata(complete)}


def _describe_file(content: bytes | StagedFile) -> dict[str, Any]:
    if isinstance(content, StagedFile):
        return {"blake3": content.blake3, "size_bytes": content.size_bytes}
    return {"blake3": hash_bytes(content), "size_bytes": len(content)}


def find_problem(stage: str, doc_id: str, files: Mapping[str, bytes]) -> str | None:
    """Return what is wrong with the files of a document from elsewhere, metadata.json among them; None if nothing is.

    The deep check, and more: that its inputs give its digest, and its digest its doc_id.
    """
    try:
        metadata = json.loads(files[METADATA_FILE])
    except (KeyError, ValueError, RecursionError) as error:
        return f"{METADATA_FILE} is absent or no JSON: {error}"
    if problem := find_metadata_problem(metadata, stage, doc_id):
        return f"{METADATA_FILE} {problem}"
    recorded = {name: (record["size_bytes"], record["blake3"]) for name, record in metadata["files"].items()}
    found = {name: (len(content), hash_bytes(content)) for name, content in files.items() if name != METADATA_FILE}
    if differing := sorted(name for name, _ in recorded.items() ^ found.items()):
        return f"{differing[0]} does not match its record"
    try:
        if metadata["self_blake3"] != hash_metadata(metadata):
            return f"{METADATA_FILE} does not match its own hash"
        if metadata["digest"] != digest_of(stage, metadata.get("inputs")):
            return "its digest does not follow from its inputs"
    except (ValueNotEncodable, RecursionError) as error:
        return f"{METADATA_FILE}: {error}"
    return None if id_from_digest(metadata["digest"]) == doc_id else "its doc_id does not follow from its digest"


def hash_metadata(metadata: Mapping[str, Any]) -> str:
    """Return the hash that metadata.json carries of itself: of all its fields but `self_blake3`."""
    return hash_bytes(encode_canonically({name: value for name, value in metadata.items() if name != "self_blake3"}))


def encode_readably(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object for people and diffs: sorted, a line for each field and for each field of a field.

    Never raises for a text: an answer may hold half a surrogate pair, which is written as an escape.
    """
    try:
        return _write_object(value, _READABLE, encode_basestring, depth=1).encode() + b"\n"
    except UnicodeEncodeError:
        return _write_object(value, _ESCAPED, encode_basestring_ascii, depth=1).encode() + b"\n"


def _write_object(
    value: Mapping[str, Any], encoder: json.JSONEncoder, write_text: Callable[[str], str], *, depth: int
) -> str:
    """`write_text` writes a text as `encoder` does, but sooner: most fields are short texts."""
    margin = "  " * depth
    lines = []
    for name in sorted(value):
        item = value[name]
        if isinstance(item, str):
            text = write_text(item)
        elif type(item) is int:
            text = str(item)
        elif depth < READABLE_DEPTH and isinstance(item, dict) and item:
            text = _write_object(item, encoder, write_text, depth=depth + 1)
        else:
            text = "null" if item is None else encoder.encode(item)
        lines.append(f"{margin}{write_text(name)}: {text}")
    return "{\n" + ",\n".join(lines) + f"\n{margin[2:]}}}"


def _read_when_there(folder: Path) -> bytes | None:
    """Return metadata.json; None if there is no folder. Raises OSError, FileNotFoundError for a folder without it.

    A folder that was not there at the first look, and is at the second, was committed in between.
    """
    try:
        return read_file(folder / METADATA_FILE)
    except FileNotFoundError:
        if not os.path.lexists(folder):
            return None
    return read_file(folder / METADATA_FILE)


def _read_metadata(stage: str, doc_id: str, folder: Path) -> dict[str, Any]:
    try:
        content = _read_when_there(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DocumentInvalid(stage, doc_id, problem=f"it has no {METADATA_FILE}", folder=folder) from error
    except OSError as error:
        raise DocumentInvalid(stage, doc_id, problem=f"{METADATA_FILE}: {error.strerror}", folder=folder) from error
    if content is None:
        raise DocumentMissing(stage, doc_id, folder=folder)
    try:
        metadata = json.loads(content)
    except ValueError as error:
        raise DocumentInvalid(stage, doc_id, problem=f"{METADATA_FILE} is not JSON: {error}", folder=folder) from error
    problem = find_metadata_problem(metadata, stage, doc_id)
    if problem:
        raise DocumentInvalid(stage, doc_id, problem=f"{METADATA_FILE} {problem}", folder=folder)
    return dict(metadata)


def find_metadata_problem(metadata: Any, stage: str, doc_id: str) -> str | None:
    """Return what makes a parsed metadata.json unusable: "has schema 7; …"; None if nothing does."""
    if not isinstance(metadata, dict):
        return "is not an object"
    if metadata.get("schema") != METADATA_SCHEMA:
        return f"has schema {metadata.get('schema')!r}; this version reads schema {METADATA_SCHEMA}"
    if (metadata.get("stage"), metadata.get("doc_id")) != (stage, doc_id):
        return f"belongs to {metadata.get('stage')}/{metadata.get('doc_id')}"
    if not isinstance(metadata.get("digest"), str) or not isinstance(metadata.get("self_blake3"), str):
        return "lacks its digest or its own hash"
    files = metadata.get("files")
    if not isinstance(files, dict) or not all(_is_file_record(name, record) for name, record in files.items()):
        return "has no usable list of files"
    return None


def _is_file_record(name: str, record: Any) -> bool:
    try:
        check_file_name(name)
    except StoreError:
        return False
    return (
        isinstance(record, dict) and isinstance(record.get("blake3"), str) and isinstance(record.get("size_bytes"), int)
    )


def _check_sizes(document: Document) -> None:
    found = _measure_files(str(document.folder))
    recorded = {name: record["size_bytes"] for name, record in document.metadata["files"].items()}
    if found == recorded:
        return
    for name in sorted(recorded.keys() | found.keys()):
        expected = f"{recorded[name]} bytes" if name in recorded else "no such file"
        present = f"{found[name]} bytes" if name in found else "no such file"
        if expected != present:
            raise DocumentCorrupt(document.stage, document.doc_id, name, expected=expected, found=present)


def _measure_files(folder: str, prefix: str = "") -> dict[str, int]:
    """Return {name: size in bytes} of all files below `folder` but metadata.json."""
    sizes: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                sizes |= _measure_files(entry.path, prefix=f"{prefix}{entry.name}/")
            elif prefix or entry.name != METADATA_FILE:
                sizes[prefix + entry.name] = entry.stat(follow_symlinks=False).st_size
    return sizes
