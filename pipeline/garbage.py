"""Garbage: what nothing asks for any more. Two steps, with a grace time between them.

    find_garbage      what could go; changes nothing
    collect_garbage   1. moves it into the trash, from where `daybook undo` brings it back
                      2. deletes for good what has lain in the trash longer than the grace time, and what processes
                         that were killed have left in .tmp, unless it may hold an answer

Only what cohorts ask for can become garbage: nothing asks for an export, and it is kept for ever with all that was
made from it. A document is kept if a root names it, or anything that was made from it. Roots are everything that has
the form of a doc_id in a task table, in the record of a complete cohort, in a lock file or in config/pins.txt, and
every document that was made, restored or brought in a short while ago; and a report over roots alone. A pin that
cannot be read stops everything, and while a document cannot be read, nothing is taken for garbage.

An answer was paid for. Calls move only if `paid_answers` says so, and only what was paid for nowhere else is
deleted only then: a document whose answer is in the ledger can be made again for nothing, others cannot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import ConfigInvalid, InputInvalid, Problem
from pipeline.lineages import DocumentKey, Lineages, read_lineages
from pipeline.removals import measure_folder, throw_away
from pipeline.settings import Roots
from pipeline.spending import read_spending
from pipeline.stages import ARCHIVE_STAGES, Mode
from store.calls import Attempt
from store.data_root import DataRoot
from store.errors import StoreError
from store.identity import ID_FORM
from store.leftovers import Leftover, delete_leftover, list_leftovers, read_clock
from store.machine_locks import MachineLock
from store.trash import TrashEntry

PINS_FILE = "pins.txt"
GARBAGE_REASON = "gc"
ANSWER_FILES = frozenset({"raw.txt", "parsed.txt"})  # of a document that is being made
ANSWERLESS_FILES = frozenset(
    {"staged", "index.sqlite"}
)  # bytes of an export, and what is derived; of others nobody knows

_NAMED_ID = re.compile(rb"(?<![0-9a-z])[0-9a-z]{16}(?![0-9a-z])")

Json = dict[str, Any]


class Amount(NamedTuple):
    """How many folders, their bytes, and what their answers cost; `unknown_costs` counts those not known."""

    folders: int
    size_bytes: int
    usd: float
    unknown_costs: int

    def as_json(self) -> Json:
        return {
            "count": self.folders,
            "bytes": self.size_bytes,
            "cost_usd": round(self.usd, 9),
            "unknown_costs": self.unknown_costs,
        }


class Garbage(NamedTuple):
    """What could go. `documents` has children before parents; `calls` are the paid answers nothing asks for."""

    documents: list[DocumentKey]
    calls: list[str]
    document_amount: Amount
    call_amount: Amount
    unreadable: dict[DocumentKey, str]


def find_garbage(roots: Roots, *, now: datetime, age: timedelta) -> Garbage:
    """Return what no root reaches and is older than `age`. Changes nothing. Raises ConfigInvalid for a bad pin."""
    data = DataRoot(roots.data)
    lineages = read_lineages(data)
    named = read_roots(roots)
    newest = now - age
    rooted = {key for key in lineages.metadata if key.doc_id in named or _is_recent(data, lineages, key, newest)}
    kept = lineages.find_ancestors(rooted | lineages.find_reports(rooted))
    # A document that cannot be read cannot say what it was made from: then nothing is known to be unasked for.
    unasked = {key for key in lineages.metadata.keys() - kept if key.stage not in ARCHIVE_STAGES}
    documents = [] if lineages.unreadable else _order(lineages, unasked)
    calls = list(_find_unasked_calls(data, lineages, named, newest, without=set(documents)))
    document_amount = _measure_documents(data, lineages, documents)
    return Garbage(documents, calls, document_amount, _measure_calls(data, calls), lineages.unreadable)


def collect_garbage(
    roots: Roots,
    *,
    apply: bool,
    age: timedelta,
    grace: timedelta,
    paid_answers: bool = False,
    now: datetime | None = None,
) -> Json:
    """Do both steps, or without `apply` only say what they would do.

    Raises InputInvalid if another process is at it.
    """
    now, data = now or datetime.now(UTC), DataRoot(roots.data)
    lock = MachineLock.try_to_get(data.temporary_folder / "gc.lock") if apply else None
    if apply and lock is None:
        raise InputInvalid("Another process collects garbage in this data folder. Wait until it has ended.")
    try:
        named = read_roots(roots)
        garbage = find_garbage(roots, now=now, age=age)
        overdue = _find_overdue(data, now - grace, paid_answers=paid_answers)
        leftovers = _find_leftovers(data, min(now, read_clock(data.temporary_folder)) if apply else now)
        if apply and read_roots(roots) != named:
            raise InputInvalid("A cohort was planned or a pin set at the same moment. Run the command again.")
        thrown = _throw_away(data, garbage, paid_answers=paid_answers, now=now) if apply else None
        if apply:
            _delete_overdue(data, overdue)
            for leftover in leftovers.deletable:
                delete_leftover(leftover)
    finally:
        if lock is not None:
            lock.release()
    return {
        "applied": apply,
        "entry": thrown.entry_id if thrown else None,
        "documents": {**garbage.document_amount.as_json(), "ids": [str(key) for key in garbage.documents]},
        "paid_answers": {**garbage.call_amount.as_json(), "ids": garbage.calls, "included": paid_answers},
        "deleted": _describe_overdue(overdue),
        "leftovers": {
            "names": [leftover.path.name for leftover in leftovers.deletable],
            "bytes": sum(leftover.size_bytes for leftover in leftovers.deletable),
            "kept": [leftover.path.name for leftover in leftovers.kept],
        },
        "unreadable": sorted(map(str, garbage.unreadable)),
    }


# What is kept


def read_roots(roots: Roots) -> set[str]:
    """Return every doc_id that a task table, a record of a complete cohort, a lock file or a pin names."""
    paths = [*sorted((roots.data / "tasks").rglob("*")), *sorted((roots.config / "cohorts").glob("*.lock"))]
    named = {found.decode() for path in paths if path.is_file() for found in _NAMED_ID.findall(path.read_bytes())}
    return named | read_pins(roots.config / PINS_FILE)


def read_pins(path: Path) -> set[str]:
    """Return the doc_ids of config/pins.txt: one a line, a stage before it if you like, # begins a comment.

    Raises ConfigInvalid, because a pin that is no whole doc_id would protect nothing.
    """
    pins, problems = set(), []
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except UnicodeDecodeError as error:
        raise ConfigInvalid(
            [Problem(path.name, None, f"it is not UTF-8: {error}. Expected a doc_id a line.")]
        ) from error
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        doc_id = text.rpartition("/")[2]
        if text and ID_FORM.fullmatch(doc_id):
            pins.add(doc_id)
        elif text:
            problems.append(
                Problem(path.name, number, f"{text!r} is no whole doc_id. Expected 16 characters of 0-9a-z.")
            )
    if problems:
        raise ConfigInvalid(problems)
    return pins


def _is_recent(data: DataRoot, lineages: Lineages, key: DocumentKey, newest: datetime) -> bool:
    """Whether a document was made, or its folder was moved or changed, after `newest`."""
    try:
        changed = datetime.fromtimestamp(data.documents.folder_of(*key).stat().st_ctime, UTC)
    except FileNotFoundError:
        return True  # it has just been moved by somebody else
    return max(changed, _read_time(lineages.metadata[key].get("created_at"))) > newest


def _read_time(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _order(lineages: Lineages, keys: set[DocumentKey]) -> list[DocumentKey]:
    """Return documents with children before parents, else sorted."""
    ordered: dict[DocumentKey, None] = {}
    for key in sorted(keys):
        for each in lineages.list_descendants(key):
            if each in keys:
                ordered.setdefault(each)
    return list(ordered)


def _find_unasked_calls(
    data: DataRoot, lineages: Lineages, named: set[str], newest: datetime, *, without: set[DocumentKey]
) -> Iterator[str]:
    """Yield the calls that belong to no kept document, to no planned one and to none in the trash, and are old."""
    kept = {metadata.get("call_id") for key, metadata in lineages.metadata.items() if key not in without}
    kept |= {metadata.get("call_id") for metadata in _read_trashed_metadata(data)}
    for call_id in data.calls.walk():
        if call_id in kept or lineages.unreadable:
            continue
        changed = datetime.fromtimestamp(_newest_change(data.calls.folder_of(call_id)), UTC)
        if changed <= newest and not _is_made_for(data.calls.list_attempts(call_id), named):
            yield call_id


def _newest_change(folder: Path) -> float:
    return max((path.lstat().st_ctime for path in (folder, *folder.rglob("*"))), default=0.0)


def _is_made_for(attempts: list[Attempt], named: set[str]) -> bool:
    """Whether an attempt was made for a document that is planned still, though it could not be made."""
    for attempt in attempts:
        try:
            made_for = attempt.read_request().get("made_for") or {}
        except StoreError:
            return True  # it cannot say for what: keep it
        if made_for.get("doc_id") in named:
            return True
    return False


def _read_trashed_metadata(data: DataRoot) -> Iterator[Mapping[str, Any]]:
    for entry in data.trash.list_entries():
        for name in entry.list_present():
            if metadata := _read_metadata_in(entry.folder / name):
                yield metadata


def _read_metadata_in(folder: Path) -> Json | None:
    """Return what a document in the trash says of itself; None if it is a call, or cannot be read."""
    try:
        content = json.loads((folder / "metadata.json").read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


# What it is worth


def _measure_documents(data: DataRoot, lineages: Lineages, keys: list[DocumentKey]) -> Amount:
    size_bytes = sum(measure_folder(data.documents.folder_of(*key)) for key in keys)
    costs = [lineages.metadata[key].get("cost_usd") for key in keys if lineages.metadata[key].get("call_id")]
    return Amount(len(keys), size_bytes, sum(cost or 0.0 for cost in costs), costs.count(None))


def _measure_calls(data: DataRoot, call_ids: list[str]) -> Amount:
    size_bytes = sum(measure_folder(data.calls.folder_of(call_id)) for call_id in call_ids)
    costs = [_cost_of(attempt) for call_id in call_ids for attempt in data.calls.list_attempts(call_id)]
    return Amount(len(call_ids), size_bytes, sum(cost or 0.0 for cost in costs), costs.count(None))


def _cost_of(attempt: Attempt) -> float | None:
    return read_spending(attempt, attempt.read_request()).usd


# The two steps


def _throw_away(data: DataRoot, garbage: Garbage, *, paid_answers: bool, now: datetime) -> TrashEntry | None:
    folders = [f"docs/{key}" for key in garbage.documents]
    if paid_answers:
        folders += [f"calls/{call_id[:2]}/{call_id}" for call_id in garbage.calls]
    amount = {"documents": garbage.document_amount.as_json(), "paid_answers": garbage.call_amount.as_json()}
    if not folders:
        return None
    return throw_away(data, folders, reason=GARBAGE_REASON, now=now, record=amount)


class Overdue(NamedTuple):
    """Of an entry of the trash that has lain longer than the grace time: what may be deleted, and what was paid for."""

    entry: TrashEntry
    deletable: list[str]
    paid: list[str]
    amount: Amount  # of what may be deleted


def _find_overdue(data: DataRoot, thrown_before: datetime, *, paid_answers: bool) -> list[Overdue]:
    found = []
    for entry in data.trash.list_entries():
        if entry.thrown_at < thrown_before:
            present = entry.list_present()
            paid = [name for name in present if not paid_answers and _is_only_copy(data, entry.folder / name)]
            deletable = [name for name in present if name not in paid]
            found.append(Overdue(entry, deletable, paid, _measure_trashed(entry, deletable)))
    return found


def _measure_trashed(entry: TrashEntry, names: list[str]) -> Amount:
    size_bytes = sum(measure_folder(entry.folder / name) for name in names)
    costs = [cost for name in names for cost in _list_costs(entry.folder / name)]
    return Amount(len(names), size_bytes, sum(cost or 0.0 for cost in costs), costs.count(None))


def _list_costs(folder: Path) -> list[float | None]:
    """Return what the answers in a folder of the trash have cost: of a document the one that it was made from."""
    if metadata := _read_metadata_in(folder):
        return [metadata.get("cost_usd")] if metadata.get("call_id") else []
    try:
        attempts = DataRoot(folder.parents[2]).calls.list_attempts(folder.name)  # an entry is laid out as a store is
        return [_cost_of(attempt) for attempt in attempts]
    except StoreError:
        return [None]


def _is_only_copy(data: DataRoot, folder: Path) -> bool:
    """Whether a folder in the trash holds an answer that is not in the ledger; so does what cannot be read."""
    metadata = _read_metadata_in(folder)
    if metadata is None:
        return True  # a call, or something damaged
    if metadata.get("mode") == Mode.COPY:
        return False
    try:
        attempt = data.calls.read_attempt(str(metadata["call_id"]), int(metadata["attempt"]))
        return attempt.outcome is None or attempt.read_response() is None
    except (StoreError, KeyError, TypeError, ValueError):
        return True


class Leftovers(NamedTuple):
    """What lies in .tmp and nobody is at. `kept`: what may hold an answer that is nowhere else."""

    deletable: list[Leftover]
    kept: list[Leftover]


def _find_leftovers(data: DataRoot, now: datetime) -> Leftovers:
    found = Leftovers([], [])
    for leftover in list_leftovers(data.temporary_folder, now=now):
        (found.kept if _may_hold_answer(data, leftover) else found.deletable).append(leftover)
    return found


def _may_hold_answer(data: DataRoot, leftover: Leftover) -> bool:
    if not leftover.path.is_dir():
        return leftover.name not in ANSWERLESS_FILES
    return not ANSWER_FILES.isdisjoint(leftover.list_files()) and _is_only_copy(data, leftover.path)


def _delete_overdue(data: DataRoot, overdue: list[Overdue]) -> None:
    for each in overdue:
        data.trash.delete(each.entry, set(each.deletable).__contains__)


def _describe_overdue(overdue: list[Overdue]) -> Json:
    return {
        "entries": [each.entry.entry_id for each in overdue],
        "count": sum(len(each.deletable) for each in overdue),
        "bytes": sum(each.amount.size_bytes for each in overdue),
        "cost_usd": round(sum(each.amount.usd for each in overdue), 9),
        "unknown_costs": sum(each.amount.unknown_costs for each in overdue),
        "kept_paid": sum(len(each.paid) for each in overdue),
    }
