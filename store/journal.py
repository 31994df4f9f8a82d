"""The journal: what happened to documents and calls, in order. It knows what should be there, which a look cannot tell.

    data/journal/<time>-<host>-<pid>-<chance>.journal        a file for each process; only ever appended to

    0000005b 4a1f… {"at":"2026-11-21T10:46:42.123456Z","event":"committed",…}\\n
    length   blake3 payload: one JSON object in ASCII; length in bytes, as 8 hex digits

A record is written after what it tells of is durable, so what it says is true. That a document was committed is durable
when `append` returns; a power cut between the two leaves a document without a record, which is a good document all the
same. What was attempted becomes durable with the commit that follows: the ledger has it in any case.

Clocks differ between machines, and are set. A process that finds a later time in the journal than its own writes that
beside it, as `after`: the order of all records is then that of what happened, and not of the clocks.

Only what somebody removes is told before it moves: a crash in between leaves a document that nobody vouches for, and
not one that seems to have vanished.

A reader passes over bytes that are no whole record, wherever a crash has cut one, and finds the next.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from store.durable import AppendedFile
from store.errors import WriteFailed
from store.files import read_file
from store.flushing import Flush
from store.identity import hash_bytes

SUFFIX = ".journal"
TIME_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"
FILES_LOOKED_AT = 64  # when a process begins its own, for the time of the last record
LAST_BYTES = 1 << 13  # of each of these: some records
HEAD_BYTES = 8 + 1 + 64 + 1
HEAD = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{64}) (?=\{)")

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_HOST = "".join(character for character in os.uname().nodename if character.isalnum())[:32]


class Event(StrEnum):
    """What a record tells of."""

    ATTEMPTED = "attempted"  # an attempt has its outcome
    COMMITTED = "committed"  # a document is there
    SUPERSEDED = "superseded"  # a document that came second is kept aside
    QUARANTINED = "quarantined"  # a document or an attempt was moved away, because it is damaged
    REMOVED = "removed"  # a document or an attempt is moved away, because somebody wants it
    RESTORED = "restored"  # what was removed is back: what was told of it before holds again


class Record(NamedTuple):
    """One record. `facts` has all of its fields but event and at, such as stage and doc_id."""

    event: str
    at: str
    facts: dict[str, Any]


class Gap(NamedTuple):
    """Bytes of a journal file that are no whole record."""

    path: Path
    offset: int
    size_bytes: int
    is_tail: bool  # nothing follows: a process was cut off while it wrote its last record


class Journal:
    """The folder data/journal, and the file in it that this process appends to, made with its first record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.Lock()
        self._file: AppendedFile | None = None
        self._pid = 0
        self._newest = ""  # what was recorded last when this process began, by whatever clock

    def append(self, event: Event, **facts: Any) -> None:
        """Append a record; it is durable when this returns, as are all before it. Raises WriteFailed."""
        self.append_all(event, [facts])

    def append_all(self, event: Event, facts: Iterable[Mapping[str, Any]]) -> None:
        """Append a record for each; they are durable when this returns. Raises WriteFailed."""
        listed = list(facts)
        if listed:
            with self._writing() as file:
                file.append(b"".join(self._encode(event, each) for each in listed))

    def append_with(self, flush: Flush, folders: Sequence[Path], *, event: Event, **facts: Any) -> None:
        """Make the names in `folders` durable, and a record that tells of them. Raises WriteFailed."""
        with self._writing() as file:
            file.append_with(flush, self._encode(event, facts), folders)

    def append_all_with(
        self, flush: Flush, folders: Sequence[Path], event: Event, facts: Iterable[Mapping[str, Any]]
    ) -> None:
        """As `append_with`, with a record for each."""
        with self._writing() as file:
            file.append_with(flush, b"".join(self._encode(event, each) for each in facts), folders)

    def append_unflushed(self, event: Event, **facts: Any) -> None:
        """Append a record that becomes durable with the next. Raises WriteFailed."""
        with self._writing() as file:
            file.append_unflushed(self._encode(event, facts))

    @contextmanager
    def _writing(self) -> Iterator[AppendedFile]:
        try:
            yield self.open()
        except WriteFailed:
            with self._guard:
                self._file = None  # a file that the disk has refused is not trusted again: the next record begins one
            raise

    def open(self) -> AppendedFile:
        """Return the file of this process, made if it has none. Raises WriteFailed."""
        with self._guard:
            if self._file is None or self._pid != os.getpid():  # a forked child writes its own
                self._newest = self._find_newest()
                self._file, self._pid = AppendedFile(self.folder / _new_name()), os.getpid()
            return self._file

    def _find_newest(self) -> str:
        """Return when the last record was written; it may be in the future, where a clock was fast."""
        paths = self.list_paths()[-FILES_LOOKED_AT:]  # those of a fast clock are among the last by their names
        return max((_place_in_time(record)[0] for path in paths for record in _read_last(path)), default="")

    def _encode(self, event: Event, facts: Mapping[str, Any]) -> bytes:
        at = datetime.now(UTC).strftime(TIME_FORM)
        after = {"after": self._newest} if self._newest > at else {}
        return encode_record({"event": event, "at": at, **after, **facts})

    def list_paths(self) -> list[Path]:
        """Return the files of all processes, by name, which begins with the time of their start."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def read(self, *, on_unreadable: Callable[[Path, OSError], None] | None = None) -> tuple[list[Record], list[Gap]]:
        """Return the records of all processes by time, and the bytes that are none.

        A file that the disk cannot read is handed to `on_unreadable`, and the others are read; without it, OSError.
        """
        found = []
        for path in self.list_paths():
            try:
                found.append(read_records(path))
            except OSError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(path, error)
        records = [record for part, _ in found for record in part]
        records.sort(key=_place_in_time)  # stable: records of one process and time keep their order
        return records, [gap for _, gaps in found for gap in gaps]


def _place_in_time(record: Record) -> tuple[str, bool, str]:
    """Return what orders the records of all processes: when it was written, and not before what it came after."""
    after = record.facts.get("after")
    is_later = isinstance(after, str) and after >= record.at
    return str(after) if is_later else record.at, is_later, record.at


def _read_last(path: Path) -> list[Record]:
    """Return the last records of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            return [record for _, _, record in _find_records(file.read())]
    except OSError:
        return []


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{_HOST}-{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"


def encode_record(content: dict[str, Any]) -> bytes:
    payload = _ENCODER.encode(content).encode()
    return _encode_head(payload) + payload + b"\n"


def _encode_head(payload: bytes) -> bytes:
    return b"%08x %s " % (len(payload), hash_bytes(payload).encode())


def read_records(path: Path) -> tuple[list[Record], list[Gap]]:
    """Return the whole records of a file in order, and the bytes between them. Raises OSError."""
    content = read_file(path)
    if (whole := _read_whole(content)) is not None:
        return whole, []
    records: list[Record] = []
    gaps: list[Gap] = []
    position = 0
    for start, end, record in _find_records(content):
        if start > position:
            gaps.append(Gap(path, position, start - position, is_tail=False))
        records.append(record)
        position = end
    if position < len(content):
        gaps.append(Gap(path, position, len(content) - position, is_tail=True))
    return records, gaps


def _read_whole(content: bytes) -> list[Record] | None:
    """Return the records of a file that holds nothing else, which nearly every file is; None for another. Quick."""
    payloads = []
    for line in content.split(b"\n")[:-1]:
        payload = line[HEAD_BYTES:]
        if line[:HEAD_BYTES] != _encode_head(payload):
            return None
        payloads.append(payload)
    if not content.endswith(b"\n"):
        return None
    try:
        values = json.loads(b"[%s]" % b",".join(payloads))
        records = [Record(str(value.pop("event")), str(value.pop("at")), value) for value in values]
    except (ValueError, KeyError, AttributeError):
        return None
    return records if len(records) == len(payloads) else None


def _find_records(content: bytes) -> Iterator[tuple[int, int, Record]]:
    """Yield where each whole record begins and ends, and the record."""
    position = 0
    while head := HEAD.search(content, position):
        end = head.end() + int(head[1], 16)
        payload = content[head.end() : end]
        record = _read_payload(payload) if hash_bytes(payload) == head[2].decode() else None
        if record is None:
            position = head.start() + 1  # a record can begin within what looked like one
            continue
        has_line_end = content[end : end + 1] == b"\n"  # without it the record is whole all the same
        position = end + has_line_end
        yield head.start(), position, record


def _read_payload(payload: bytes) -> Record | None:
    try:
        content = json.loads(payload)
        return Record(str(content.pop("event")), str(content.pop("at")), content)
    except (ValueError, KeyError, AttributeError):
        return None


def list_expected(records: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """Return {(stage, doc_id): its last record} of the documents that should be there. `records` are in order."""
    documents = (record for record in records if "doc_id" in record.facts and record.event != Event.SUPERSEDED)
    return _follow(documents, "stage", "doc_id", made=Event.COMMITTED)


def list_attempted(records: Iterable[Record]) -> dict[tuple[str, str], Record]:
    """Return {(call_id, number): its last record} of the attempts that should be there. `records` are in order."""
    attempts = (record for record in records if "doc_id" not in record.facts)
    return _follow(attempts, "call_id", "attempt", made=Event.ATTEMPTED)


def _follow(records: Iterable[Record], *names: str, made: Event) -> dict[tuple[str, str], Record]:
    present: dict[tuple[str, str], Record] = {}
    removed: dict[tuple[str, str], Record] = {}
    for record in records:
        first, second = (str(record.facts.get(name)) for name in names)
        key = first, second
        if record.event == made:
            present[key] = record
        elif record.event in (Event.QUARANTINED, Event.REMOVED) and key in present:
            removed[key] = present.pop(key)
        elif record.event == Event.RESTORED and key in removed:
            present.setdefault(key, removed[key])
    return present
