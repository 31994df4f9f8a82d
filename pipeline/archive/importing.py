"""Importing: from paths to conversations, in two steps, of which the second can be done again at any time.

    keep_path             a path ─▶ its files as exports, and a set that names them
    make_conversations    each set, in the order of time ─▶ each file: peek, recognise, split
                              ─▶ each record: there already? else parse ─▶ conversation document

Bytes first: nothing is parsed that is not in the store. What fails, fails alone: a member, a line, a record becomes a
Skip with its type and place, and all others are imported. A record whose document is there is not parsed again; a set
whose record table has nothing missing is not looked into at all. Sets that came before are completed first, so that a
document is always made from the first set that has its record, whatever was interrupted or deleted in between.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple, Protocol

from pipeline.archive.conversation_documents import (
    CONVERSATION_VERSION,
    Composed,
    RecordIdentity,
    compose,
    identify_record,
    read_facts,
)
from pipeline.archive.coverage import NOT_RECOGNISED, Coverage, FileCoverage, SetCoverage
from pipeline.archive.exports import (
    ExportReader,
    ExportSet,
    KeptFile,
    Open,
    SetMember,
    identify_set,
    keep_file,
    keep_set,
    list_sets,
    measure_file,
    read_set,
)
from pipeline.archive.importers.interface import Importer, Member, Peek, Recognition, Record, Skip
from pipeline.archive.importers.known import IMPORTERS
from pipeline.archive.importers.options import Options, configure
from pipeline.archive.reading import peek
from pipeline.archive.reading.entries import DAMAGED_FILE
from pipeline.archive.reading.sources import Source, open_source
from pipeline.archive.record_tables import (
    Completed,
    RecordRow,
    RecordTable,
    read_completed,
    read_files,
    read_table,
    write_completed,
    write_table,
)
from pipeline.errors import InputInvalid, PipelineError
from pipeline.stages import ArchiveStage
from store.data_root import DataRoot
from store.documents import DocumentStore
from store.errors import StoreError, WriteFailed
from store.machine_locks import hold_machine_lock

WHOLE_CONTAINERS = ("zip", "folder")  # a file alone may be a part of an export
EMPTY = "empty"
WITHOUT_RECORDS = ("binary", EMPTY)  # kinds of files that are no text: attachments, mostly
EMPTY_JSON = ("[]", "{}", "null")  # exports write these for what an account never used
LONGEST_EMPTY = 100  # characters, nearly all of them space
LOCK_FILE = "import.lock"
BATCH_DOCUMENTS = 128  # that share their flushes
BATCH_BYTES = 16 << 20
COLLECT_EACH = 256  # records, after which circles among the objects of Python are looked for
SHOWN_KEYS = 12  # of a file that nobody recognises
SHOWN_KEY_CHARACTERS = 40


class Watcher(Protocol):
    """Is told how far an import is."""

    def begin(self, step: str, total_bytes: int | None) -> None: ...

    def read(self, count: int) -> None: ...

    def make(self, count: int) -> None: ...


class Unwatched:
    """For imports that nobody watches."""

    def begin(self, step: str, total_bytes: int | None) -> None: ...

    def read(self, count: int) -> None: ...

    def make(self, count: int) -> None: ...


class KeptSet(NamedTuple):
    """A set, the path that brought it, and whether it is new."""

    export_set: ExportSet
    source: str
    is_new: bool

    def cover(self, files: list[FileCoverage]) -> SetCoverage:
        """Return the coverage of the set, with what became of its files."""
        return SetCoverage(self.export_set.doc_id, self.source, self.is_new, list(self.export_set.skips), files)


def import_paths(
    data: DataRoot,
    paths: Sequence[str],
    *,
    options: Options | None = None,
    watcher: Watcher | None = None,
    importers: Sequence[Importer] = IMPORTERS,
) -> Coverage:
    """Import paths: files, ZIPs, folders, or "-" for standard input. Raises StoreError if the disk refuses."""
    watcher = watcher or Unwatched()
    data.check_usable()
    reader = ExportReader(data.documents, on_read=watcher.read)
    kept: list[KeptSet] = []
    unread: list[Skip] = []
    for path in paths:
        try:
            kept.append(keep_path(data, path, options=options, reader=reader, watcher=watcher))
        except (PipelineError, OSError) as error:
            unread.append(describe_failure(error, "unreadable_path", path))
    coverage = make_conversations(data, kept, reader=reader, watcher=watcher, importers=importers)
    return replace(coverage, unread=unread)


def import_again(
    data: DataRoot, *, watcher: Watcher | None = None, importers: Sequence[Importer] = IMPORTERS
) -> Coverage:
    """Make every conversation that is missing, from the exports that are kept."""
    return make_conversations(data, [], watcher=watcher, importers=importers)


# Bytes first


def keep_path(
    data: DataRoot,
    path: str,
    *,
    options: Options | None = None,
    reader: ExportReader | None = None,
    watcher: Watcher | None = None,
) -> KeptSet:
    """Put the files of a path into the store, and the set that names them.

    Raises PipelineError or OSError if the path cannot be opened, StoreError if the disk refuses.
    """
    watcher = watcher or Unwatched()
    with open_source(path, temporary_folder=data.temporary_folder) as source:
        watcher.begin("keeping", source.size_bytes)
        keep = partial(keep_file, data.documents, on_read=watcher.read)
        kept, refused = _list_files(source, keep)
        skips = [*source.skips, *refused]
        members = [member for member, _ in kept]
        export_set, is_new = keep_set(data.documents, source.container, members, skips, options=options)
    for member, is_new_file in kept:
        if is_new_file and reader is not None:
            reader.trust(member.export)
    return KeptSet(export_set, path, is_new)


def identify_path(data: DataRoot, path: str) -> str:
    """Return the doc_id of the set that a path would be. Writes nothing, and reads every byte."""
    with open_source(path, temporary_folder=data.temporary_folder) as source:
        files, refused = _list_files(source, measure_file)
        return identify_set([member for member, _ in files], [*source.skips, *refused])


def _list_files(source: Source, keep: Callable[[Open], KeptFile]) -> tuple[list[tuple[SetMember, bool]], list[Skip]]:
    """Return the files of a source, whether each is new in the store, and those that could not be read.

    A ZIP with a damaged file is one of them, so that no byte of an export is lost.
    """
    files: list[tuple[SetMember, bool]] = []
    refused: list[Skip] = []
    waiting = list(source.entries)  # grows at its end
    for entry in waiting:
        try:
            kept = keep(entry.open)
        except WriteFailed:
            raise
        except Exception as error:  # whatever is wrong with a file must not stop its siblings
            refused.append(describe_failure(error, "unreadable_file", entry.name))
            if refused[-1].reason == DAMAGED_FILE and entry.within and entry.within not in waiting:
                waiting.append(entry.within)
            continue
        member = SetMember(entry.name, kept.size_bytes, kept.blake3, kept.export, entry.raw_name)
        files.append((member, kept.is_new))
    return files, refused


def describe_failure(error: Exception, reason: str, place: str) -> Skip:
    """Return a skip for what went wrong: with the words of the error if it has some of its own, else with its type.

    Never with the text of another error, which may hold a piece of the export.
    """
    own_reason, own_place, detail = (getattr(error, name, None) for name in ("reason", "place", "detail"))
    if isinstance(error, PipelineError) and isinstance(own_reason, str):
        return Skip(own_reason, str(own_place or place), str(detail or ""))
    if isinstance(error, InputInvalid) and reason == "unreadable_path":
        return Skip(reason, place, str(error))
    if isinstance(error, OSError) and error.strerror:
        return Skip(reason, place, error.strerror)
    return Skip(reason, place, type(error).__name__)


# Conversations, from what is kept


def make_conversations(
    data: DataRoot,
    asked: Sequence[KeptSet],
    *,
    reader: ExportReader | None = None,
    watcher: Watcher | None = None,
    importers: Sequence[Importer] = IMPORTERS,
) -> Coverage:
    """Make the conversations that are missing of all sets, in the order of time, and tell what became of `asked`.

    Raises StoreError if the disk refuses.
    """
    watcher = watcher or Unwatched()
    reader = reader or ExportReader(data.documents, on_read=watcher.read)
    asked_by_id = {each.export_set.doc_id: each for each in asked}
    found: dict[str, SetCoverage] = {}
    with hold_machine_lock(data.temporary_folder / LOCK_FILE):
        known = _read_completed(data, importers)
        present = _Present(data)
        completed = []
        for listed in list_sets(data.documents):
            kept = asked_by_id.get(listed.doc_id)
            if listed.doc_id in known and (covered := _cover_known(data, listed.doc_id, kept)) is not None:
                found |= covered
                completed.append(listed.doc_id)
                continue
            each = kept or KeptSet(read_set(data.documents, listed.doc_id), "", is_new=False)
            making = SetMaking(data, each.export_set, present.ids, reader=reader, watcher=watcher, importers=importers)
            files = making.make()
            if making.is_final:
                completed.append(listed.doc_id)
            if kept or making.was_made:
                found[listed.doc_id] = each.cover(files)
        _write_completed(data, importers, completed)
    earlier = [each for set_id, each in found.items() if set_id not in asked_by_id]
    return Coverage([found[set_id] for set_id in asked_by_id], earlier)


class _Present:
    """The conversation documents that are there; listed when they are first asked for."""

    def __init__(self, data: DataRoot) -> None:
        self._data = data

    @cached_property
    def ids(self) -> set[str]:
        return set(self._data.documents.list_ids(ArchiveStage.CONVERSATION))


def _cover_known(data: DataRoot, set_id: str, kept: KeptSet | None) -> dict[str, SetCoverage] | None:
    """Return the coverage of a set of which nothing is missing, if it was asked for; None if that cannot be told."""
    if kept is None:
        return {}
    files = read_files(data.tasks_folder, set_id)
    return None if files is None else {set_id: kept.cover([_as_unchanged(file) for file in files])}


def _read_completed(data: DataRoot, importers: Sequence[Importer]) -> frozenset[str]:
    """Return the sets of which nothing was missing when they were last looked at, and nothing has changed since."""
    completed = read_completed(data.tasks_folder)
    if completed and completed.importers == list_versions(importers) and completed.changed_ns == _changed_ns(data):
        return frozenset(completed.set_ids)
    return frozenset()


def _write_completed(data: DataRoot, importers: Sequence[Importer], set_ids: Sequence[str]) -> None:
    completed = Completed(list_versions(importers), _changed_ns(data), set_ids)
    if completed != read_completed(data.tasks_folder):
        write_completed(data.tasks_folder, completed, temporary_folder=data.temporary_folder)


def _changed_ns(data: DataRoot) -> int:
    """Return when a conversation document last came or went."""
    try:
        return (data.documents.root / ArchiveStage.CONVERSATION).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def is_made(data: DataRoot, set_id: str | None, importers: Sequence[Importer] = IMPORTERS) -> bool:
    """Whether nothing is missing of the conversations of a set, or of all sets."""
    present = set(data.documents.list_ids(ArchiveStage.CONVERSATION))
    set_ids = [set_id] if set_id else [each.doc_id for each in list_sets(data.documents)]
    versions = list_versions(importers)
    tables = (read_table(data.tasks_folder, each) for each in set_ids)
    return all(table is not None and _is_complete(table, versions, present) for table in tables)


def list_versions(importers: Sequence[Importer]) -> dict[str, int]:
    """Return the versions of all that decides which documents a set gives."""
    versions = {importer.name: importer.version for importer in importers}
    return {**versions, str(ArchiveStage.CONVERSATION): CONVERSATION_VERSION}


def _is_complete(table: RecordTable, versions: Mapping[str, int], present: Set[str]) -> bool:
    return table.importers == versions and all(row.doc_id in present for row in table.rows)


class SetMaking:
    """Makes the conversations of one set that are missing. `present`: the documents that are there; it is added to."""

    def __init__(
        self,
        data: DataRoot,
        export_set: ExportSet,
        present: set[str],
        *,
        reader: ExportReader,
        watcher: Watcher,
        importers: Sequence[Importer],
    ) -> None:
        self._data, self._set, self._present = data, export_set, present
        self._reader, self._watcher = reader, watcher
        self._versions = list_versions(importers)
        self._importers = configure(importers, export_set.options)
        self._blake3s = {member.export: member.blake3 for member in export_set.members}
        self._rows: list[RecordRow] = []
        self._record_count = 0
        self.is_final = True  # False: an export could not be read, so it is tried again next time
        self.was_made = False

    def make(self) -> list[FileCoverage]:
        """Return what became of each file."""
        table = read_table(self._data.tasks_folder, self._set.doc_id)
        if table is not None and _is_complete(table, self._versions, self._present):
            return [_as_unchanged(file) for file in table.files]
        self.was_made = True
        members = self._reader.list_members(self._set)
        self._watcher.begin("reading", sum(member.size_bytes for member in members))
        with _collecting_rarely():
            files = self._make_files(members, table)
        if self.is_final:
            order = self._set.created_at
            made = RecordTable(self._versions, files, self._rows, self._is_whole(files), self._set.options, order)
            write_table(self._data.tasks_folder, self._set.doc_id, made, temporary_folder=self._data.temporary_folder)
        return files

    def _is_whole(self, files: Sequence[FileCoverage]) -> bool:
        has_lost = any(not skip.is_info for skip in self._set.skips) or any(file.skipped for file in files)
        return self._set.container in WHOLE_CONTAINERS and not has_lost

    def _make_files(self, members: Sequence[Member], table: RecordTable | None) -> list[FileCoverage]:
        rows_before: dict[int, list[RecordRow]] = {}
        for row in table.rows if table else ():
            rows_before.setdefault(row.file, []).append(row)
        files = []
        with DocumentWriter(self._data.documents, self._watcher) as self._writer:
            for number, member in enumerate(members):
                importer, file = self._recognise(member)
                if table and self._is_file_complete(table.files[number], file, rows_before.get(number, [])):
                    file = _as_unchanged(table.files[number])
                    self._rows += rows_before.get(number, [])
                elif importer is not None and not file.is_artifact:
                    self._make_file(importer, file, number, member, members)
                files.append(file)
        return files

    def _is_file_complete(self, before: FileCoverage, now: FileCoverage, rows: Sequence[RecordRow]) -> bool:
        is_same_importer = (before.importer, before.version) == (now.importer, now.version)
        return is_same_importer and all(row.doc_id in self._present for row in rows)

    def _recognise(self, member: Member) -> tuple[Importer | None, FileCoverage]:
        """Return whose a file is, and its coverage, empty but for that."""
        file = FileCoverage(member.name, member.export, member.size_bytes)
        try:
            seen = peek(member)
            found = ask_importers(seen, self._importers)
        except Exception as error:  # whatever is wrong with a file must not stop its siblings
            self._note_failure(file, error, "unreadable_file", member.name)
            return None, file
        if found is None:
            kind = EMPTY if is_empty(seen) else seen.kind
            file.is_artifact = kind in WITHOUT_RECORDS
            file.reason = kind if file.is_artifact else NOT_RECOGNISED
            file.keys = list_keys(seen)
            return None, file
        importer, recognition = found
        file.importer, file.version = importer.name, importer.version
        file.reason, file.is_artifact = recognition.reason, recognition.is_artifact
        return importer, file

    def _make_file(
        self, importer: Importer, file: FileCoverage, number: int, member: Member, members: Sequence[Member]
    ) -> None:
        try:
            for item in importer.split(member, members):
                if isinstance(item, Skip):
                    file.add_skip(item)
                else:
                    file.seen += 1
                    self._make_record(importer, file, number, member, item)
        except WriteFailed:
            raise
        except Exception as error:  # the records before it are good
            self._note_failure(file, error, "unreadable_file", member.name)

    def _note_failure(self, file: FileCoverage, error: Exception, reason: str, place: str) -> None:
        file.add_skip(describe_failure(error, reason, place))
        if isinstance(error, StoreError):
            self.is_final = False  # an export or a conversation document is damaged or gone: it may come back

    def _make_record(self, importer: Importer, file: FileCoverage, number: int, member: Member, record: Record) -> None:
        self._record_count += 1
        if self._record_count % COLLECT_EACH == 0:
            gc.collect(1)
        try:
            identity = identify_record(importer, record)
            if identity.doc_id in self._present:
                if self._writer.is_writing(identity.doc_id):
                    self._writer.finish()
                facts = read_facts(self._data.documents, identity.doc_id)
                file.unchanged += 1
            else:
                composed = self._compose(identity, importer, member, record)
                facts = composed.facts
                self._writer.write(composed, file)
                self._present.add(identity.doc_id)
        except WriteFailed:
            raise
        except Exception as error:  # the other records are good
            file.seen -= 1
            self._note_failure(file, error, "unreadable_record", record.place)
        else:
            self._rows.append(RecordRow(identity.doc_id, number, record.place, facts))

    def _compose(self, identity: RecordIdentity, importer: Importer, member: Member, record: Record) -> Composed:
        parsed = importer.parse(record)
        created_at = self._set.created_at
        return compose(importer, identity, record, parsed, member=member, blake3s=self._blake3s, created_at=created_at)


@contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Leave it to this module when circles of objects are looked for, until the block ends.

    A record is thousands of objects and has no circles; looking through them again and again is 3 % of an import.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def ask_importers(seen: Peek, importers: Sequence[Importer]) -> tuple[Importer, Recognition] | None:
    """Return the first importer that takes a file for its provider's, and why."""
    for importer in importers:
        if recognition := importer.recognise(seen):
            return importer, recognition
    return None


def is_empty(seen: Peek) -> bool:
    """Whether a file holds nothing, or JSON that does."""
    return seen.kind == EMPTY or (len(seen.text) <= LONGEST_EMPTY and "".join(seen.text.split()) in EMPTY_JSON)


def list_keys(seen: Peek) -> list[str]:
    """Return the keys of the first object of a file, cut."""
    first = next((item for item in seen.items if isinstance(item, dict)), {})
    return [str(key)[:SHOWN_KEY_CHARACTERS] for key in first][:SHOWN_KEYS]


def _as_unchanged(file: FileCoverage) -> FileCoverage:
    """Return the coverage of a file of which nothing was missing."""
    return replace(file, imported=0, unchanged=file.imported + file.unchanged)


class DocumentWriter:
    """Commits conversation documents in batches, and waits for the disk in a thread beside the parsing.

    A batch has the flushes of one document.
    """

    def __init__(self, documents: DocumentStore, watcher: Watcher) -> None:
        self._documents, self._watcher = documents, watcher
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="daybook-import")
        self._batch: dict[str, tuple[Composed, FileCoverage]] = {}  # not under way yet
        self._size_bytes = 0
        self._under_way: list[tuple[Future[None], dict[str, tuple[Composed, FileCoverage]]]] = []

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._thread:
            if kind is None or not issubclass(kind, StoreError):
                self.finish()

    def write(self, composed: Composed, file: FileCoverage) -> None:
        """Have a document committed with its batch, and counted when it is. Raises StoreError."""
        self._batch[composed.identity.doc_id] = composed, file
        self._size_bytes += composed.size_bytes
        if len(self._batch) >= BATCH_DOCUMENTS or self._size_bytes >= BATCH_BYTES:
            self._begin()

    def is_writing(self, doc_id: str) -> bool:
        return doc_id in self._batch or any(doc_id in batch for _, batch in self._under_way)

    def finish(self) -> None:
        """Wait until all is committed. Raises StoreError."""
        self._begin()
        self._wait()

    def _begin(self) -> None:
        """Hand the batch to the thread, when that has ended the one before: so no more than two are in memory."""
        self._wait()
        if self._batch:
            drafts = {doc_id: (composed.files, composed.metadata) for doc_id, (composed, _) in self._batch.items()}
            steps = self._documents.commit_in_steps(ArchiveStage.CONVERSATION, drafts)
            next(steps)
            future = self._thread.submit(next, steps, None)
            self._under_way.append((future, self._batch))
            self._batch, self._size_bytes = {}, 0

    def _wait(self) -> None:
        while self._under_way:
            future, batch = self._under_way.pop()
            future.result()
            for _, file in batch.values():
                file.imported += 1
            self._watcher.make(len(batch))
