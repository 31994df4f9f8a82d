"""Comparison: what is there with what was recorded of it. Findings only; what they mean for repair is for others.

    compare
        list documents and calls
        read the journal           what should be there, while the processes start that check
        check                      each document and each call against its own record (see checks)
        compare_with_journal       what has vanished, what was replaced together with its record
        compare_with_parents       each child against the bytes that it consumed: missing, altered or stale
    miss_parents               those that were moved away
        check_derived              texts, pointers, task tables

An unreadable file is one finding, and the rest is checked. Where a deep comparison has come to is noted in
data/.verification.json; one that resumes reads only the records of what was checked before, and deeply again what
was found damaged.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

from pipeline.check_workers import Batch, CheckWorkers, start_workers
from pipeline.checks import CheckedCall, CheckedDocument, Finding, check_document, check_text
from pipeline.errors import TaskTableInvalid
from pipeline.task_tables import read_task_table, read_written
from store.data_root import DataRoot
from store.durable import place_file
from store.errors import StoreError
from store.files import read_file
from store.identity import ID_FORM, hash_bytes
from store.journal import Event, Gap, Record, list_attempted, list_expected
from store.pointer_files import POINTERS_FOLDER

BATCH_SIZE = 32  # documents or calls: some milliseconds of work
FEWEST_FOR_WORKERS = 1000  # below, starting processes takes longer than the work
NOTE_SECONDS = 5.0  # between notes of where it is
SHARD_CHARACTERS = 2  # of a call_id: calls/<hh>/
NOTE_FILE, NOTE_SCHEMA = ".verification.json", 1
REPAIRABLE, LOST = "repairable", "lost"

WHOLE_DOCUMENT = frozenset(
    {"vanished", "metadata_missing", "metadata_invalid", "metadata_newer", "metadata_altered", "inputs_altered"}
)
OF_ANOTHER = frozenset({"parent_missing", "parent_altered", "parent_stale", "answer_missing"})

Key = tuple[str, str]  # stage, doc_id
Recorded = dict[str, dict[str, tuple[str, dict[str, str]]]]  # call_id: {number: (status, {file: blake3})}


class Judged(NamedTuple):
    """A finding, and whether `daybook repair` can mend it."""

    finding: Finding
    state: str


class Progress(NamedTuple):
    """How far a verification is: of `total` documents and calls."""

    done: int
    total: int
    size_bytes: int
    seconds: float

    @property
    def seconds_left(self) -> float:
        return self.seconds / self.done * (self.total - self.done) if self.done else 0.0


class Known(NamedTuple):
    """What comparing needs of a checked document; hashes are cut to 16 hex digits, for a million of these."""

    metadata_blake3: str
    files: Mapping[str, str]
    parents: list[list[str]]
    call: tuple[str, int]
    damaged: frozenset[str]  # its files; {""} is the whole document


@dataclass
class Verification:
    """What was found."""

    deep: bool
    documents: int = 0
    calls: int = 0
    attempts: int = 0
    unfinished_attempts: int = 0  # without an outcome: their process died, or they are under way
    size_bytes: int = 0  # read
    seconds: float = 0.0
    torn_records: int = 0  # at the end of a journal file: a process was cut off
    findings: list[Judged] = field(default_factory=list)
    unrecorded_documents: list[Key] = field(default_factory=list)  # sound, and unknown to the journal
    unrecorded_attempts: list[tuple[str, int]] = field(default_factory=list)
    committed: dict[Key, Record] = field(default_factory=dict)
    attempted: dict[tuple[str, int], Record] = field(default_factory=dict)

    @property
    def state(self) -> str:
        states = {judged.state for judged in self.findings}
        return LOST if LOST in states else REPAIRABLE if states else "clean"

    def as_json(self) -> dict[str, Any]:
        return {
            "level": "deep" if self.deep else "quick",
            "state": self.state,
            "documents": self.documents,
            "calls": self.calls,
            "attempts": self.attempts,
            "unfinished_attempts": self.unfinished_attempts,
            "unrecorded_documents": len(self.unrecorded_documents),
            "torn_records": self.torn_records,
            "size_bytes": self.size_bytes,
            "seconds": round(self.seconds, 3),
            "findings": [{**judged.finding._asdict(), "state": judged.state} for judged in self.findings],
        }


class Comparison:
    """One comparison, under way or done: `found` has what was counted, `findings` what was found."""

    def __init__(self, data: DataRoot, *, deep: bool, on_progress: Callable[[Progress], None]) -> None:
        self.data, self.on_progress = data, on_progress
        self.found = Verification(deep)
        self.findings: list[Finding] = []
        self.known: dict[Key, Known] = {}
        self.attempts: dict[tuple[str, int], dict[str, str]] = {}  # (call_id, number): hashes of its files
        self.answered: set[tuple[str, int]] = set()
        self.committed: dict[Key, list[str]] = {}  # the hashes of metadata.json that were committed
        self.started = time.monotonic()

    def run(self, *, resume: bool, workers: int | None) -> None:
        """Compare everything. `workers` is the number of processes besides this one; None chooses."""
        note = _Note.read(self.data) if resume and self.found.deep else _Note()
        documents, calls = _list_documents(self.data, self.findings), _list_calls(self.data, self.findings)
        if workers is None:
            is_much = len(documents) + len(calls) >= FEWEST_FOR_WORKERS
            workers = (os.cpu_count() or 1) - 1 if is_much else 0
        with start_workers(self.data.path, workers) as checkers:
            records, gaps = _read_journal(self.data, self.findings)  # after the listing: what comes now is not missed
            self.committed, recorded = _index_journal(records)
            self._check_all(checkers, documents, calls, recorded, note)
        self._check_texts()
        compare_with_journal(self, records, gaps)
        compare_with_parents(self)
        miss_parents(self, records)
        check_derived(self)
        with suppress(OSError):  # a store that is only read can have no note either
            _Note.path_of(self.data).unlink(missing_ok=True)

    def _check_all(
        self, checkers: CheckWorkers, documents: list[Key], calls: list[str], recorded: Recorded, note: _Note
    ) -> None:
        total = len(documents) + len(calls)
        done, noted = 0, time.monotonic()
        try:
            for batch, results in checkers.check(self._batches(documents, calls, recorded, note)):
                for result in results:
                    (self.take_document if batch.kind == "documents" else self.take_call)(result)
                done += len(results)
                note = note.at(batch, self.findings)
                self.on_progress(Progress(done, total, self.found.size_bytes, time.monotonic() - self.started))
                if time.monotonic() - noted > NOTE_SECONDS:
                    self._write(note)
                    noted = time.monotonic()
        except BaseException:
            self._write(note)
            raise

    def _write(self, note: _Note) -> None:
        """Write where it is; without a note, where nothing can be written, the next one begins anew."""
        if self.found.deep:
            with suppress(StoreError):
                note.write(self.data)

    def _batches(self, documents: list[Key], calls: list[str], recorded: Recorded, note: _Note) -> Iterator[Batch]:
        deep = self.found.deep

        def is_deep(place: str, position: str, last: str) -> bool:
            return deep and (position > last or place in note.places)

        by_depth = groupby(documents, lambda key: is_deep(f"docs/{key[0]}/{key[1]}", "/".join(key), note.document))
        for depth, keys in by_depth:
            known = ((*key, self.committed.get(key, [])) for key in keys)
            yield from (Batch("documents", part, depth) for part in _split(known))
        for depth, names in groupby(calls, lambda name: is_deep(f"calls/{name[:2]}/{name}", name, note.call)):
            attempts = ((name, recorded.get(name, {})) for name in names)
            yield from (Batch("calls", part, depth) for part in _split(attempts))

    def take_document(self, checked: CheckedDocument) -> None:
        self.found.documents += 1
        self.found.size_bytes += checked.size_bytes
        self.findings += checked.findings
        damaged = {"" if finding.kind in WHOLE_DOCUMENT else finding.file for finding in checked.findings}
        self.known[checked.stage, checked.doc_id] = Known(
            checked.metadata_blake3[:16],
            {intern(name): blake3[:16] for name, blake3 in checked.files.items()},
            checked.parents,
            (checked.call_id, checked.attempt),
            frozenset(damaged),
        )

    def take_call(self, checked: CheckedCall) -> None:
        self.found.calls += 1
        self.found.size_bytes += checked.size_bytes
        self.findings += checked.findings
        for attempt in checked.attempts:
            self.found.attempts += 1
            self.found.unfinished_attempts += not attempt.status
            self.attempts[checked.call_id, attempt.number] = {n: blake3[:16] for n, blake3 in attempt.files.items()}
            if attempt.status == "ok":
                self.answered.add((checked.call_id, attempt.number))

    def _check_texts(self) -> None:
        shards = _list_readable(self.data, "texts", self.findings)
        names = (name for shard in shards for name in _list_readable(self.data, f"texts/{shard}", self.findings))
        for digest in (name.removesuffix(".txt") for name in names if name.endswith(".txt") and self.found.deep):
            findings, size_bytes = check_text(str(self.data.path), digest)
            self.findings += findings
            self.found.size_bytes += size_bytes


def _split(names: Iterable[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for name in names:
        part.append(name)
        if len(part) == BATCH_SIZE:
            yield part
            part = []
    if part:
        yield part


class _Note(NamedTuple):
    """Where a deep verification has come to, in the order of the names, and where it has found damage."""

    document: str = ""  # stage/doc_id
    call: str = ""
    places: frozenset[str] = frozenset()  # of documents and calls

    @staticmethod
    def path_of(data: DataRoot) -> Path:
        return data.path / NOTE_FILE

    @classmethod
    def read(cls, data: DataRoot) -> _Note:
        """Return the note of a verification that did not end; an empty one if there is none that can be read."""
        try:
            value = json.loads(cls.path_of(data).read_bytes())
            if value["schema"] != NOTE_SCHEMA:
                return cls()
            return cls(str(value["document"]), str(value["call"]), frozenset(value["places"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def at(self, batch: Batch, findings: Iterable[Finding]) -> _Note:
        places = frozenset("/".join(finding.place.split("/")[:3]) for finding in findings)
        if batch.kind == "documents":
            return _Note(max(self.document, "/".join(batch.names[-1][:2])), self.call, places)
        return _Note(self.document, max(self.call, batch.names[-1][0]), places)

    def write(self, data: DataRoot) -> None:
        value = {"schema": NOTE_SCHEMA, **self._asdict(), "places": sorted(self.places)}
        path, content = self.path_of(data), json.dumps(value).encode()
        place_file(path, content, temporary_folder=data.temporary_folder, replace=True)


def _list_documents(data: DataRoot, findings: list[Finding]) -> list[Key]:
    """Return (stage, doc_id) of all documents, sorted; other names are findings, but for pointers."""
    keys: list[Key] = []
    for stage in _list_stages(data, findings):
        for name in _list_readable(data, f"docs/{stage}", findings):
            if ID_FORM.fullmatch(name):
                keys.append((stage, name))
            elif not name.startswith("_"):
                findings.append(Finding("not_a_document", f"docs/{stage}/{name}", "", "its name is no doc_id"))
    return keys


def _list_stages(data: DataRoot, findings: list[Finding]) -> list[str]:
    return [name for name in _list_readable(data, "docs", findings) if not name.startswith(".")]


def _list_calls(data: DataRoot, findings: list[Finding]) -> list[str]:
    shards = [name for name in _list_readable(data, "calls", findings) if len(name) == SHARD_CHARACTERS]
    return [
        name for shard in shards for name in _list_readable(data, f"calls/{shard}", findings) if ID_FORM.fullmatch(name)
    ]


def _list_readable(data: DataRoot, place: str, findings: list[Finding]) -> list[str]:
    """Return the names in a folder, sorted; none, and a finding, if it cannot be read."""
    try:
        return sorted(os.listdir(data.path / place))
    except FileNotFoundError:
        return []
    except OSError as error:
        is_stray = isinstance(error, NotADirectoryError) and "/" in place  # a file in the place of a stage or shard
        if not is_stray:
            findings.append(Finding("unreadable", place, "", str(error)))
        return []


def _read_journal(data: DataRoot, findings: list[Finding]) -> tuple[list[Record], list[Gap]]:
    def tell(path: Path, error: OSError) -> None:
        findings.append(Finding("unreadable", f"journal/{path.name}", "", str(error)))

    closed: list[Finding] = []
    _list_readable(data, "journal", closed)
    if closed:
        findings += closed
        return [], []
    return data.journal.read(on_unreadable=tell)


# The journal against the folders


def _index_journal(records: list[Record]) -> tuple[dict[Key, list[str]], Recorded]:
    """Return the hashes of each document's metadata.json at its commits, and what is known of each call's attempts."""
    committed: dict[Key, list[str]] = {}
    recorded: Recorded = {}
    for record in records:
        facts = record.facts
        if record.event == Event.COMMITTED:
            key = str(facts.get("stage")), str(facts.get("doc_id"))
            committed.setdefault(key, []).append(str(facts.get("metadata_blake3")))
        elif record.event == Event.ATTEMPTED and facts.get("files"):
            attempts = recorded.setdefault(str(facts.get("call_id")), {})
            attempts[str(facts.get("attempt"))] = (str(facts.get("status") or ""), facts["files"])
    return committed, recorded


def compare_with_journal(run: Comparison, records: list[Record], gaps: list[Gap]) -> None:
    for gap in gaps:
        if gap.is_tail:
            run.found.torn_records += 1
        else:
            detail = f"{gap.size_bytes} bytes at {gap.offset} are no whole record"
            run.findings.append(Finding("journal_damaged", f"journal/{gap.path.name}", "", detail))
    expected = list_expected(records)
    run.found.committed = expected
    _compare_documents(run, expected)
    _compare_attempts(run, records)


def _compare_documents(run: Comparison, expected: dict[Key, Record]) -> None:
    for (stage, doc_id), record in expected.items():
        place = f"docs/{stage}/{doc_id}"
        if (stage, doc_id) not in run.known and not _is_there(run, place):
            detail = f"committed at {record.at}; its folder is gone"
            run.findings.append(Finding("vanished", place, "", detail))
    for key, known in run.known.items():
        hashes = run.committed.get(key)
        if hashes is None:
            if not known.damaged:
                run.found.unrecorded_documents.append(key)
        elif not known.damaged and known.metadata_blake3 not in [blake3[:16] for blake3 in hashes]:
            detail = "its record is sound in itself, and is not the one that was committed"
            run.findings.append(Finding("metadata_altered", f"docs/{key[0]}/{key[1]}", "metadata.json", detail))
            run.known[key] = known._replace(damaged=frozenset({""}))


def _is_there(run: Comparison, place: str) -> bool:
    """Whether something lies at a place; where the disk does not say, nothing is taken for gone."""
    try:
        os.lstat(run.data.path / place)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _compare_attempts(run: Comparison, records: list[Record]) -> None:
    told = {(finding.place, finding.file) for finding in run.findings}
    for (call_id, number), last in list_attempted(records).items():
        key = call_id, int(number)
        run.found.attempted[key] = last
        place = f"calls/{call_id[:2]}/{call_id}/{key[1]:04d}"
        found = run.attempts.get(key)
        if found is None and not _is_there(run, place):
            run.findings.append(Finding("vanished", place, "", f"attempted at {last.at}; its folder is gone"))
        elif found is not None:
            for name, blake3 in sorted((last.facts.get("files") or {}).items()):
                if found.get(name) != blake3[:16] and found.get(name) != "" and (place, name) not in told:
                    kind = f"{name.partition('.')[0]}_{'altered' if name in found else 'missing'}"
                    run.findings.append(Finding(kind, place, name, "it is not what the journal recorded"))
    _find_number_gaps(run, records)
    run.found.unrecorded_attempts = sorted(run.answered - run.found.attempted.keys())


def _find_number_gaps(run: Comparison, records: list[Record]) -> None:
    """Attempts are numbered from 1: a number that is left out and that the journal does not know is a lost attempt.

    A call of which attempts were brought in is passed over: the store they came from may not have had every number.
    """
    told: dict[str, set[int]] = {}
    brought_in = set()
    for record in records:
        call_id, number = str(record.facts.get("call_id")), record.facts.get("attempt")
        if "doc_id" not in record.facts and isinstance(number, int):
            told.setdefault(call_id, set()).add(number)
            if record.facts.get("origin") is not None:
                brought_in.add(call_id)
    highest: dict[str, int] = {}
    for call_id, number in run.attempts:
        highest[call_id] = max(number, highest.get(call_id, 0))
    for call_id, last in highest.items():
        known = told.get(call_id, set()) if call_id not in brought_in else range(last)
        for number in range(1, last):
            place = f"calls/{call_id[:2]}/{call_id}/{number:04d}"
            is_known = (call_id, number) in run.attempts or number in known
            if not is_known and not _is_there(run, place):
                run.findings.append(Finding("vanished", place, "", f"attempt {last} is there, and {number} is not"))


# Children against what they were made from


def compare_with_parents(run: Comparison) -> None:
    """Every child against the bytes of the parents and of the attempt that it consumed.

    What a damaged record says of them is not followed.
    """
    for (stage, doc_id), known in list(run.known.items()):
        if "" in known.damaged:
            continue
        place = f"docs/{stage}/{doc_id}"
        for parent_stage, parent_id, file, blake3 in known.parents:
            problem = _find_parent_problem(run, (parent_stage, parent_id), file, blake3)
            if problem:
                kind, why = problem
                run.findings.append(Finding(kind, place, file, f"docs/{parent_stage}/{parent_id}: {why}"))
        call_id, attempt = known.call
        source = f"calls/{call_id[:2]}/{call_id}/{attempt:04d}"
        if call_id and known.call not in run.attempts and not _is_there(run, source):
            run.findings.append(
                Finding("answer_missing", place, "", f"{source}: the attempt that it was made from is gone")
            )


def _find_parent_problem(run: Comparison, key: Key, file: str, blake3: str) -> tuple[str, str] | None:
    parent = run.known.get(key)
    if parent is None and _is_there(run, f"docs/{key[0]}/{key[1]}"):  # made after its stage was listed, or unreadable
        run.take_document(check_document(str(run.data.path), *key, deep=run.found.deep))
        parent = run.known.get(key)
    if parent is None:
        return "parent_missing", "it is not in the store"
    if "" in parent.damaged or file in parent.damaged:
        return "parent_altered", "its bytes are not as they were recorded, or cannot be read"
    if parent.files.get(file) != blake3[:16]:
        return "parent_stale", "it is sound, and holds other bytes than were consumed"
    return None


def miss_parents(run: Comparison, records: list[Record]) -> None:
    """A document that was moved away, such as to quarantine, is missed while anything made from it is here."""
    told = {finding.place for finding in run.findings}
    missing = {finding.detail.partition(":")[0] for finding in run.findings if finding.kind == "parent_missing"}
    for record in records:
        key = str(record.facts.get("stage")), str(record.facts.get("doc_id"))
        if record.event == Event.COMMITTED and "/".join(["docs", *key]) in missing - told:
            run.found.committed[key] = record  # the last one counts
    for place in sorted(missing - told):
        _, stage, doc_id = place.split("/")
        if (stage, doc_id) in run.found.committed:
            run.findings.append(Finding("vanished", place, "", "it was moved away; what was made from it is here"))


# Texts, pointers and task tables


def check_derived(run: Comparison) -> None:
    for stage in _list_stages(run.data, []):
        for place, content in _read_pointers(run, f"docs/{stage}/{POINTERS_FOLDER}"):
            _check_pointer(run, stage, place, content)
    for cohort in _list_readable(run.data, "tasks", run.findings):
        for name in _list_readable(run.data, f"tasks/{cohort}", run.findings):
            if name.endswith("_tasks.csv"):
                _check_table(run, run.data.tasks_folder / cohort / name)


def _read_pointers(run: Comparison, place: str) -> Iterator[tuple[str, bytes]]:
    root = str(run.data.path)
    for shard in _list_names(f"{root}/{place}"):
        for name in _list_names(f"{root}/{place}/{shard}"):
            path = f"{place}/{shard}/{name}"
            try:
                yield path, read_file(f"{root}/{path}")
            except OSError as error:
                run.findings.append(Finding("pointer_invalid", path, "", f"it cannot be read: {error}"))


def _list_names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # a look-up goes without pointers too
        return []


def _check_pointer(run: Comparison, stage: str, place: str, content: bytes) -> None:
    try:
        doc_id = str(json.loads(content.decode())["doc_id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        run.findings.append(Finding("pointer_invalid", place, "", f"it cannot be read: {error}"))
        return
    is_expected = (stage, doc_id) in run.known or (stage, doc_id) in run.found.committed  # it may have vanished
    if not is_expected and not os.path.lexists(f"{run.data.documents.root}/{stage}/{doc_id}"):
        run.findings.append(Finding("pointer_dangling", place, "", f"it names {stage}/{doc_id}, which is not there"))


def _check_table(run: Comparison, path: Path) -> None:
    """A row's parent is the one that the row's document was made from.

    What a person edited is held to the config by `daybook validate`.
    """
    place = str(path.relative_to(run.data.path))
    stage = path.name.removesuffix("_tasks.csv")
    written = read_written(path.parent)
    try:
        rows = read_task_table(path)
        if written is not None and hash_bytes(path.read_bytes()) not in written.get(stage, ()):
            return
    except (TaskTableInvalid, OSError) as error:
        run.findings.append(Finding("table_invalid", place, "", str(error)))
        return
    for row in rows:
        known, parent = run.known.get((stage, row["doc_id"])), row["parent_doc_id"]
        if known and known.parents and parent and parent not in {part[1] for part in known.parents}:
            detail = f"{row['task_id']}: the row's parent is {parent}, the document was made from {known.parents[0][1]}"
            run.findings.append(Finding("table_invalid", place, "", detail))
