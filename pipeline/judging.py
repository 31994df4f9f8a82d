"""Judging: what of that which a comparison has found can be mended, and what is lost.

It looks for the bytes themselves, in all places that `repair` takes them from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.checks import Finding
from pipeline.comparison import LOST, OF_ANOTHER, REPAIRABLE, WHOLE_DOCUMENT, Comparison, Judged, Key, Verification
from pipeline.gateway import Call, read_again
from pipeline.sources import Source, find_attempt_files, find_files, find_text
from store.calls import Attempt
from store.data_root import DataRoot
from store.errors import StoreError
from store.identity import hash_bytes
from store.journal import Record

ALWAYS_REPAIRABLE = frozenset(
    {"file_added", "not_a_document", "journal_damaged", "pointer_invalid", "pointer_dangling", "table_invalid"}
)


class Judging(NamedTuple):
    """What judging needs: what was found, and where bytes can be had from."""

    comparison: Comparison
    config_folder: Path
    sources: Sequence[Source]

    @property
    def data(self) -> DataRoot:
        return self.comparison.data

    @property
    def found(self) -> Verification:
        return self.comparison.found


def judge(comparison: Comparison, config_folder: Path, sources: Sequence[Source]) -> list[Judged]:
    """Return the findings with their states, by place. What was made of something else follows that."""
    run = Judging(comparison, config_folder, sources)
    findings = comparison.findings
    own = [Judged(finding, _judge_one(run, finding)) for finding in findings if finding.kind not in OF_ANOTHER]
    worst: dict[str, str] = {}
    for finding, state in own:
        worst[finding.place] = LOST if LOST in (state, worst.get(finding.place)) else state
    others = [
        Judged(finding, LOST if finding.kind == "parent_stale" else worst.get(find_cause(finding), LOST))
        for finding in findings
        if finding.kind in OF_ANOTHER
    ]
    return sorted(own + others, key=lambda one: one.finding[1:3] + one.finding[:1])


def find_cause(finding: Finding) -> str:
    """Return the place of the document or the attempt that a finding is about which is not where it was found."""
    return finding.detail.partition(":")[0]


def _judge_one(run: Judging, finding: Finding) -> str:
    if finding.kind in ALWAYS_REPAIRABLE:
        return REPAIRABLE
    area, *rest = finding.place.split("/")
    if finding.kind == "metadata_newer":
        return LOST  # to this version: nothing here can read it
    if area == "texts":
        found = find_text(run.config_folder, Path(finding.place).stem) is not None
    elif area == "docs" and len(rest) == 2:
        found = _can_mend_document(run, finding, (rest[0], rest[1]))
    elif area == "calls" and len(rest) == 3:
        found = _can_mend_attempt(run, finding)
    else:
        found = False
    return REPAIRABLE if found else LOST


def _can_mend_document(run: Judging, finding: Finding, key: Key) -> bool:
    is_whole = not finding.file or finding.kind in WHOLE_DOCUMENT
    record_blake3 = find_record_blake3(run.found, key) if is_whole else None
    if (record_blake3 is not None) == is_whole:
        files = find_files(run.data, *key, record_blake3=record_blake3, sources=run.sources)
        if files is not None:
            return True
    return _can_make_again(run, key)


def find_record_blake3(found: Verification, key: Key) -> str | None:
    """Return the hash of the metadata.json that a document had when it was committed; None if nobody knows."""
    record = found.committed.get(key)
    return None if record is None else str(record.facts.get("metadata_blake3"))


def _can_mend_attempt(run: Judging, finding: Finding) -> bool:
    key = attempt_at(finding.place)
    wanted = list_wanted_files(run.data, run.found, key, [finding])
    if wanted and find_attempt_files(run.data, *key, wanted, sources=run.sources) is not None:
        return True
    return finding.file == "outcome.json" and _can_interpret_again(run, finding.place)


def list_wanted_files(
    data: DataRoot, found: Verification, key: tuple[str, int], findings: Iterable[Finding]
) -> dict[str, str]:
    """Return {name: blake3} of the files of an attempt that findings tell of; {} if the hash of one is not known."""
    record = found.attempted.get(key)
    known = dict((record.facts.get("files") or {}) if record else {})
    with suppress(StoreError):
        outcome = data.calls.read_attempt(*key).outcome or {}
        if outcome.get("response_blake3"):
            known.setdefault("response.bin", outcome["response_blake3"])
    names = {finding.file for finding in findings}
    if "" in names:
        return known if record else {}
    return {name: known[name] for name in names} if names <= known.keys() else {}


def _can_make_again(run: Judging, key: Key) -> bool:
    """Whether the journal names the answer that a document was made from, and it is there; or it needed none."""
    record = run.found.committed.get(key)
    if record is None:
        return False
    call_id = record.facts.get("call_id")
    return call_id is None or (str(call_id), int(record.facts.get("attempt") or 0)) in run.comparison.answered


def _can_interpret_again(run: Judging, place: str) -> bool:
    return find_outcome_source(run.data, place, run.found.attempted.get(attempt_at(place))) is not None


def attempt_at(place: str) -> tuple[str, int]:
    """calls/01/0123456789abcdef/0002 -> ("0123456789abcdef", 2); 0 for the folder of the call"""
    _, _, call_id, *number = place.split("/")
    return call_id, int(number[0]) if number else 0


class OutcomeSource(NamedTuple):
    """An attempt whose outcome can be made again from the bytes of its response."""

    attempt: Attempt
    call: Call


def find_outcome_source(data: DataRoot, place: str, record: Record | None) -> OutcomeSource | None:
    """Return what the outcome of the attempt at calls/<hh>/<call_id>/<number> can be made from; None if it cannot.

    The response must hold a whole answer, and be the one that the journal has recorded, if `record` is there.
    """
    _, _, call_id, number = place.split("/")
    attempt = Attempt(call_id, int(number), data.path / place, None)
    try:
        request = attempt.read_request()
        response = attempt.read_response()
        fields = ("model", "endpoint", "params", "replicate")
        call = Call(tuple(request["messages"]), *(request[name] for name in fields))
    except (StoreError, KeyError, TypeError, OSError):
        return None
    recorded = (record.facts.get("files") or {}).get("response.bin") if record else None
    if response is None or (recorded and hash_bytes(response) != recorded) or read_again(call, response) is None:
        return None
    return OutcomeSource(attempt, call)
