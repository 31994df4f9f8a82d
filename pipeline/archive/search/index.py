"""The index: data/index.sqlite, made from documents, views and notes; delete it at will.

    ask_index     answer a question with the index as it should be: brought up to date, mended, or made anew
    update_index  only bring it up to date

A document never changes, so the index compares ids: it reads what is new and forgets what is no longer there; a view is
read again when its outline has changed, a note when its file has. Whether anything can have changed at all is told by
the times of a few folders. The index is made anew, beside, and moved into place, if it is missing, of another schema
or damaged: whenever the file is not as the last writer left it, all of it is checked.

One process writes at a time, behind a lock. Who finds the lock taken reads what is there, which SQLite's write-ahead
log keeps whole meanwhile. A second lock, held for an instant, keeps readers from opening the file while another one is
moved into its place: they would read the log of one file as that of the other.

Nothing but queries rests on the index: what a person asks to see, or makes concepts from, is read from the store.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.archive.notes import Notes
from pipeline.archive.search.index_tables import (
    SCHEMA_VERSION,
    create_tables,
    delete_document,
    delete_note,
    delete_view,
    encode_outline,
    find_fault,
    write_document,
    write_note,
    write_problem,
    write_unreadable,
    write_view,
)
from pipeline.archive.views import Outline, View, outline_views, walk_views
from pipeline.completeness import CLOCK_TICK_NS
from pipeline.errors import PipelineError
from pipeline.lineages import DocumentKey
from pipeline.making import PARSED_FILE, RAW_FILE
from pipeline.stages import MADE_STAGES, ArchiveStage
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.durable import unique_path
from store.errors import DocumentMissing, StoreError
from store.machine_locks import MachineLock, hold_machine_lock

INDEX_FILE = "index.sqlite"
LEFT_FILE = ".index.json"  # how the last writer left the index: its inode, size and time
WRITER_LOCK, DOOR_LOCK = ".index.lock", ".index.door"
BUSY_SECONDS = 30.0
WAITING = "another process is making the index; waiting for it"
PRIMARY_CODE = 0xFF  # of an error's code; what stands above tells more
FAILURES = (sqlite3.Error, UnicodeDecodeError)  # the second where a text is damaged, or the message about it
NO_DAMAGE = (  # too busy, no space, no permission
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT),
)
LOOK_AGAIN = 0  # the place of a folder's time, if more may have changed than it tells
RECORD_TABLES = "tasks/archive"  # the place of the record tables among the folders that are looked at
ON_WHICH_VIEWS_DEPEND = {ArchiveStage.EXPORT, ArchiveStage.CONVERSATION, RECORD_TABLES}

Answer = TypeVar("Answer")
Question = Callable[[sqlite3.Connection], Answer]
Watch = Callable[[str, int, int], None]  # is told a step, how much of it is done, and of how much; 0: nobody knows


def watch_nothing(step: str, done: int, total: int) -> None:
    """Show nothing of how far the index is."""


class IndexUnusable(PipelineError):
    """The index was made anew and still gives no answer."""

    def __init__(self, path: Path, *, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"The index {path} cannot be used: {problem}. Delete it: it is made anew from the store.")


class Archive(NamedTuple):
    """What an index is made from besides documents: the views. `watch` is told how far it is."""

    outline: Callable[[], Mapping[str, Outline]]
    walk: Callable[[Collection[str]], Iterable[View]]
    watch: Watch = watch_nothing

    @classmethod
    def of(cls, workspace: Workspace, watch: Watch = watch_nothing) -> Archive:
        return cls(partial(outline_views, workspace), lambda only: walk_views(workspace, only=only), watch)


class Places(NamedTuple):
    """Where the parts of an index are."""

    file: Path
    left: Path
    writer_lock: Path
    door_lock: Path

    @classmethod
    def of(cls, data: DataRoot) -> Places:
        return cls(*(data.path / name for name in (INDEX_FILE, LEFT_FILE, WRITER_LOCK, DOOR_LOCK)))

    @property
    def logs(self) -> list[Path]:
        """What SQLite writes beside the file."""
        return [self.file.with_name(f"{INDEX_FILE}-{kind}") for kind in ("wal", "shm")]


# Asking


def ask_index(workspace: Workspace, question: Question[Answer], *, watch: Watch = watch_nothing) -> Answer:
    """Return what `question` makes of the index, which is brought up to date before. Raises IndexUnusable."""
    return ask_index_of(workspace.data, Archive.of(workspace, watch), question)


def ask_index_of(data: DataRoot, archive: Archive, question: Question[Answer]) -> Answer:
    places = Places.of(data)
    with _say_if_unusable(places):
        try:
            _bring_up_to_date(data, archive, must_wait=False)
            return _ask(places, question)
        except FAILURES as error:
            if not _is_damage(error):
                raise
        places.left.unlink(missing_ok=True)  # so that the whole file is checked
        _bring_up_to_date(data, archive, must_wait=True)
        return _ask(places, question)


@contextmanager
def _say_if_unusable(places: Places) -> Iterator[None]:
    try:
        yield
    except (OSError, *FAILURES) as error:
        raise IndexUnusable(places.file, problem=str(error)) from error


def _ask(places: Places, question: Question[Answer]) -> Answer:
    with closing(_open(places)) as connection:
        return question(connection)


def _is_damage(error: Exception) -> bool:
    """Whether an error may come from what is in the file, which is cured by making it anew."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & PRIMARY_CODE not in NO_DAMAGE


def _open(places: Places) -> sqlite3.Connection:
    with hold_machine_lock(places.door_lock):
        connection = sqlite3.connect(places.file, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log, too
        except FAILURES:
            connection.close()
            raise
    return connection


# Bringing up to date


def update_index(workspace: Workspace) -> None:
    """Make the index say what the store says; wait for another process that is at it. Raises IndexUnusable."""
    with _say_if_unusable(Places.of(workspace.data)):
        _bring_up_to_date(workspace.data, Archive.of(workspace), must_wait=True)


def _bring_up_to_date(data: DataRoot, archive: Archive, *, must_wait: bool) -> None:
    places = Places.of(data)
    lock = MachineLock.try_to_get(places.writer_lock)
    if lock is None:
        if not must_wait and _has_schema(places):
            return
        archive.watch(WAITING, 0, 0)
        lock = MachineLock.wait_for(places.writer_lock)
    try:
        _mend(places, data, archive)
    finally:
        lock.release()


def _mend(places: Places, data: DataRoot, archive: Archive) -> None:
    """Update the index if it can be trusted, else make it anew. Its writer's lock is held."""
    if not _is_sound(places):
        _make_anew(places, data, archive)
        return
    try:
        with closing(_open(places)) as connection:
            if _refresh(connection, data, archive):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except FAILURES as error:
        if not _is_damage(error):
            raise
        _make_anew(places, data, archive)
    _note_how_it_is_left(places)


def _is_sound(places: Places) -> bool:
    if not _has_schema(places):
        return False
    if _describe_file(places) == _read_left(places):
        return True
    try:
        with closing(_open(places)) as connection:
            return find_fault(connection) is None
    except FAILURES as error:
        if not _is_damage(error):
            raise
        return False


def _has_schema(places: Places) -> bool:
    try:
        with closing(_open_what_is_there(places)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            return bool(version == SCHEMA_VERSION)
    except (FileNotFoundError, *FAILURES):
        return False


def _open_what_is_there(places: Places) -> sqlite3.Connection:
    places.file.stat()  # connecting makes a file that is not there
    return _open(places)


def _describe_file(places: Places) -> list[int] | None:
    try:
        found = places.file.stat()
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_size, found.st_ctime_ns]


def _read_left(places: Places) -> object:
    try:
        return json.loads(places.left.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []


def _note_how_it_is_left(places: Places) -> None:
    left = _describe_file(places)
    if left != _read_left(places):
        partial_path = unique_path(places.left.parent, LEFT_FILE)
        partial_path.write_text(json.dumps(left))
        partial_path.replace(places.left)


def _make_anew(places: Places, data: DataRoot, archive: Archive) -> None:
    """Make the index beside, and move it to its place."""
    data.temporary_folder.mkdir(parents=True, exist_ok=True)
    beside = unique_path(data.temporary_folder, INDEX_FILE)
    try:
        with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")  # a crash leaves a file that nobody reads
            connection.execute("PRAGMA synchronous = OFF")
            create_tables(connection)
            _refresh(connection, data, archive)
            connection.execute("PRAGMA journal_mode = WAL")
        _flush(beside)
        with hold_machine_lock(places.door_lock):
            for log in places.logs:  # of the file that goes
                log.unlink(missing_ok=True)
            beside.replace(places.file)
    finally:
        for path in (beside, *(beside.with_name(f"{beside.name}-{kind}") for kind in ("wal", "shm"))):
            path.unlink(missing_ok=True)
    _note_how_it_is_left(places)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What has changed


def _refresh(connection: sqlite3.Connection, data: DataRoot, archive: Archive) -> bool:
    """Write the difference between the store and the index in one transaction; return whether there was any."""
    before = connection.total_changes
    with _transaction(connection):
        known = dict(connection.execute("SELECT folder, changed_ns FROM stamps"))
        looked_ns = time.time_ns()
        stamps = _stamp_folders(data)
        changed = {folder for folder in known.keys() | stamps.keys() if known.get(folder) != stamps.get(folder)}
        _refresh_notes(connection, Notes(data))
        for stage in sorted(changed - {RECORD_TABLES}):
            _refresh_documents(connection, data, stage, archive.watch)
        if changed & ON_WHICH_VIEWS_DEPEND:
            _refresh_views(connection, archive)
        for folder in sorted(changed):
            is_settled = stamps.get(folder, 0) + CLOCK_TICK_NS < looked_ns and not _has_problem(connection, folder)
            _write_stamp(connection, folder, stamps.get(folder) if is_settled else LOOK_AGAIN, known)
    return connection.total_changes > before


def _write_stamp(connection: sqlite3.Connection, folder: str, stamp: int | None, known: Mapping[str, int]) -> None:
    if stamp is None:
        connection.execute("DELETE FROM stamps WHERE folder = ?", [folder])
    elif known.get(folder) != stamp:
        connection.execute("INSERT OR REPLACE INTO stamps VALUES (?, ?)", [folder, stamp])


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _stamp_folders(data: DataRoot) -> dict[str, int]:
    """Return {folder: when it last changed, in ns}: when a document came or went, when a record table was written."""
    stamps = {}
    for stage in data.documents.list_stages():
        with suppress(FileNotFoundError):
            stamps[stage] = (data.documents.root / stage).stat().st_mtime_ns
    tables = data.path / RECORD_TABLES
    with suppress(FileNotFoundError):
        stamps[RECORD_TABLES] = max(folder.stat().st_mtime_ns for folder in (tables, *tables.iterdir()))
    return stamps


def _has_problem(connection: sqlite3.Connection, folder: str) -> bool:
    """Whether something there could not be read, which may be mended without a trace in the folder's time."""
    statement = "SELECT 1 FROM documents WHERE stage = ? AND problem IS NOT NULL UNION ALL SELECT 1 FROM unreadable"
    return connection.execute(statement, [folder]).fetchone() is not None


def _refresh_documents(connection: sqlite3.Connection, data: DataRoot, stage: str, watch: Watch) -> None:
    """Write what has come and delete what has gone; a document that could not be read is tried again."""
    present = set(data.documents.list_ids(stage))
    rows = connection.execute("SELECT doc_id, problem IS NOT NULL FROM documents WHERE stage = ?", [stage])
    known: dict[str, int] = dict(rows)
    readable = {doc_id for doc_id, is_problem in known.items() if not is_problem}
    for doc_id in sorted(known.keys() - (present & readable)):
        delete_document(connection, DocumentKey(stage, doc_id))
    new = sorted(present - readable)
    for number, doc_id in enumerate(new):
        watch(f"indexing {stage} documents", number, len(new))
        _index_document(connection, data, DocumentKey(stage, doc_id))


def _index_document(connection: sqlite3.Connection, data: DataRoot, key: DocumentKey) -> None:
    try:
        if key.stage in MADE_STAGES:
            document = data.documents.read(*key)
            name = next((name for name in (PARSED_FILE, RAW_FILE) if name in document.file_names), None)
            write_document(connection, key, document.metadata, document.read_text(name) if name else None)
        else:
            write_document(connection, key, data.documents.read_metadata(*key), None)
    except DocumentMissing:
        pass  # thrown away since the scan
    except StoreError as error:
        write_problem(connection, key, str(error))


def _refresh_views(connection: sqlite3.Connection, archive: Archive) -> None:
    outlines = {conversation_id: encode_outline(outline) for conversation_id, outline in archive.outline().items()}
    known = dict(connection.execute("SELECT conversation_id, outline FROM conversations"))
    changed = {key for key, outline in outlines.items() if known.get(key) != outline}
    for conversation_id in sorted(known.keys() - outlines.keys()):
        delete_view(connection, conversation_id)
    connection.execute("DELETE FROM unreadable")
    waiting = deque(sorted(changed))
    while waiting:
        try:
            for view in archive.walk(set(waiting)):
                archive.watch("indexing conversations", len(changed) - len(waiting), len(changed))
                while waiting and waiting[0] <= view.conversation_id:  # some may have gone meanwhile
                    waiting.popleft()
                delete_view(connection, view.conversation_id)
                write_view(connection, view, outlines[view.conversation_id])
            waiting.clear()
        except StoreError as error:  # views come in order: it is the first of those that have not come
            write_unreadable(connection, waiting.popleft(), str(error))


def _refresh_notes(connection: sqlite3.Connection, notes: Notes) -> None:
    changes = notes.list_changes()
    known = dict(connection.execute("SELECT conversation_id, changed_ns FROM notes"))
    for conversation_id in sorted(known.keys() - changes.keys()):
        delete_note(connection, conversation_id)
    for conversation_id, changed_ns in sorted(changes.items() - known.items()):
        write_note(connection, conversation_id, notes.read(conversation_id), changed_ns=changed_ns)
