"""Rebuild: make what is deterministic again, from what is on disk and with no model, and compare byte for byte.

    rebuild_document
        read_plan              inputs in metadata.json, templates in data/texts: also after config/ was edited
        render                 against prompt.txt
        build_call             against the call_id
        read_again             response.bin of the ledger, or raw.txt where the ledger has no such attempt
        compose                against raw.txt, parsed.txt, and the score, tokens and sizes in metadata.json
    rebuild_report             against every file of the report

What was made by another version of this code is told and not compared: that code is not here.
"""

from __future__ import annotations

import csv
import functools
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

from pipeline import gateway
from pipeline.answers import Call
from pipeline.byte_differences import ByteDifference, find_first_difference
from pipeline.errors import DocumentFailed
from pipeline.making import (
    PARSED_FILE,
    PROMPT_FILE,
    RAW_FILE,
    Content,
    Parent,
    build_call,
    compose_answered,
    compose_copy,
    make_document,
    read_parent,
    render,
)
from pipeline.planning import CohortPlan, DocumentPlan, GivenPlan, RowOutcome
from pipeline.prompts import RenderFailed
from pipeline.recorded_plans import find_other_version, read_plan
from pipeline.report_document import SUMMARY_FILE, identify_report, report_row
from pipeline.reports import render_report
from pipeline.spreadsheets import FORMULA_START
from pipeline.stages import ARCHIVE_STAGES, Mode, Stage
from pipeline.task_tables import read_task_table, table_path
from pipeline.workspace import Workspace
from store.calls import Attempt, call_id_of
from store.data_root import DataRoot
from store.documents import METADATA_FILE, Document, hash_metadata
from store.errors import CallInvalid, DocumentMissing, StoreError, TextMissing
from store.files import read_file
from store.identity import hash_bytes

DOCUMENTS_TABLE = "extras/documents.csv"
Json = dict[str, Any]


class Outcome(StrEnum):
    """What a rebuild of a document found."""

    SAME = "same"
    DIFFERENT = "different"  # the bytes on disk are not those that follow from what it was made from
    DAMAGED = "damaged"  # it, its parent or its answer cannot be read, or is not what was recorded
    IMPOSSIBLE = "impossible"  # something that it was made from is not here
    OTHER_VERSION = "other_version"  # made by another version of a stage, parser or report
    MISSING = "missing"  # a task table asks for it, and it is not there


FAILURES = (Outcome.DIFFERENT, Outcome.DAMAGED, Outcome.IMPOSSIBLE)


class Finding(NamedTuple):
    """What a rebuild of a document found; `file`, `place` say where it is different."""

    stage: str
    doc_id: str
    outcome: Outcome
    reason: str = ""
    file: str = ""
    place: ByteDifference | None = None
    is_from_raw: bool = False  # parsed from raw.txt, because the ledger does not have the answer

    def as_json(self) -> Json:
        place = self.place._asdict() if self.place else dict.fromkeys(ByteDifference._fields)
        shown = {"stage": self.stage, "doc_id": self.doc_id, "outcome": str(self.outcome), "reason": self.reason}
        return {**shown, "file": self.file or None, **place}


class _Different(Exception):
    """A part of a document is not what follows from what it was made from."""

    def __init__(self, file: str, reason: str, place: ByteDifference | None = None) -> None:
        self.file, self.reason, self.place = file, reason, place


class _Impossible(Exception):
    """Something that a document was made from is not here."""


# One document


def rebuild(data: DataRoot, stage: str, doc_id: str) -> Finding:
    """Return what a rebuild of a document finds. Writes nothing, asks nobody."""
    try:
        document = Document(stage, doc_id, data.documents.folder_of(stage, doc_id), {})
        document = replace(document, metadata=data.documents.read_metadata(stage, doc_id))
        if version := find_other_version(document.metadata):
            return Finding(stage, doc_id, Outcome.OTHER_VERSION, f"made by {version}")
        is_from_raw = _rebuild_report(data, document) if stage == Stage.REPORT else _rebuild_made(data, document)
        _compare_record(document)
    except DocumentMissing as error:
        outcome = Outcome.MISSING if error.doc_id == doc_id else Outcome.IMPOSSIBLE
        return Finding(stage, doc_id, outcome, str(error))
    except _Different as found:
        return Finding(stage, doc_id, Outcome.DIFFERENT, found.reason, found.file, found.place)
    except (_Impossible, TextMissing) as error:
        return Finding(stage, doc_id, Outcome.IMPOSSIBLE, str(error))
    except (StoreError, OSError) as error:
        return Finding(stage, doc_id, Outcome.DAMAGED, str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"metadata.json does not say what the document was made from: {type(error).__name__}: {error}"
        return Finding(stage, doc_id, Outcome.DAMAGED, reason)
    return Finding(stage, doc_id, Outcome.SAME, is_from_raw=is_from_raw)


def _rebuild_made(data: DataRoot, document: Document) -> bool:
    """Raise _Different where a draft, essay or evaluation is not what is made again.

    Returns whether the answer had to be taken from raw.txt.
    """
    plan = read_plan(document.metadata, data.texts)
    if plan.digest != document.metadata["digest"] or plan.doc_id != document.doc_id:
        raise _Different(METADATA_FILE, f"its inputs give the id {plan.doc_id}")
    parent = _read_recorded_parent(data, document)
    try:
        if plan.mode is Mode.COPY:
            assert parent is not None
            _compare(document, compose_copy(plan, parent))
            return False
        prompt = render(plan, parent)
        _compare_file(document, PROMPT_FILE, prompt.encode())
        call = build_call(plan, prompt)
        _compare_value(document, "call_id", call_id_of(call.as_identity()))
        attempt = _read_answer(data, document, call)
        _compare(document, compose_answered(plan, prompt, attempt or _answer_from_raw(document)))
    except RenderFailed as error:
        raise _Different(PROMPT_FILE, f"its template can no longer be rendered: {error}") from error
    except DocumentFailed as error:
        raise _Different(PARSED_FILE, f"its answer can no longer be parsed: {error.reason}") from error
    return attempt is None


def _read_recorded_parent(data: DataRoot, document: Document) -> Parent | None:
    """Return the parent with the bytes that were used. Raises StoreError if it is missing or has others."""
    records = document.metadata["parents"]
    if not records:
        return None
    (record,) = records
    parent = data.documents.read(record["stage"], record["doc_id"])
    _check_parent(parent, record)
    return Parent(parent, record["file"])


def _check_parent(parent: Document, record: Mapping[str, str]) -> None:
    """Raise DocumentCorrupt if a parent is damaged, _Different if its bytes are not those that were used."""
    name = record["file"]
    found = hash_bytes(parent.read_bytes(name))
    if found != record["blake3"]:
        place = f"{name} of its parent {parent.stage}/{parent.doc_id}"
        raise _Different(METADATA_FILE, f"{place} is {found[:12]}…; it was {record['blake3'][:12]}… when it was used")


def _read_answer(data: DataRoot, document: Document, call: Call) -> Attempt | None:
    """Return the attempt with its text read from the bytes of the response once more; None if it is not there."""
    call_id, number = document.metadata["call_id"], document.metadata["attempt"]
    attempt = data.calls.read_attempt(call_id, int(number))
    if attempt.outcome is None and not attempt.folder.exists():
        return None
    response = attempt.read_response()
    if attempt.outcome is None or response is None:
        raise CallInvalid(call_id, str(number), problem="it has no outcome.json or no response.bin")
    answer = gateway.read_again(call, response)
    if answer is None:
        raise CallInvalid(call_id, str(number), problem="response.bin is no whole answer")
    usage = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.total_tokens,
    }
    again = {"text": answer.text, "finish_reason": answer.finish_reason, "usage": usage}
    return replace(attempt, outcome={**attempt.outcome, **again})


def _answer_from_raw(document: Document) -> Attempt:
    """Return what stands for the answer where the ledger is not here: raw.txt, and what metadata.json says of it."""
    metadata = document.metadata
    usage = {name: metadata.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    outcome = {
        "text": document.read_text(RAW_FILE),
        "usage": usage,
        "cost": {"usd": metadata.get("cost_usd")},
        **{name: metadata.get(name) for name in ("finish_reason", "model_reported", "system_fingerprint")},
    }
    return Attempt(str(metadata["call_id"]), int(metadata["attempt"]), document.folder, outcome)


# Comparing


def _compare(document: Document, content: Content) -> None:
    for name, rebuilt in content.files.items():
        _compare_file(document, name, rebuilt)
    for name, value in content.fields.items():
        _compare_value(document, name, value)


def _compare_file(document: Document, name: str, rebuilt: bytes) -> None:
    try:
        stored = read_file(document.folder / name)
    except FileNotFoundError:
        raise _Different(name, "the file is not there") from None
    place = find_first_difference(stored, rebuilt)
    if place:
        raise _Different(name, f"byte {place.offset:,}, line {place.line:,}", place)


def _compare_value(document: Document, name: str, rebuilt: Any) -> None:
    stored = document.metadata.get(name)
    if stored != rebuilt:
        raise _Different(METADATA_FILE, f"{name} is {stored!r}; made again it is {rebuilt!r}")


def _compare_record(document: Document) -> None:
    """Raise _Different if metadata.json is not what its own hash says, or a file is not what it says."""
    if hash_metadata(document.metadata) != document.metadata["self_blake3"]:
        raise _Different(METADATA_FILE, "it does not match its own hash")
    for name in document.file_names:
        if hash_bytes(read_file(document.folder / name)) != document.file_blake3(name):
            raise _Different(name, "it does not match its recorded hash")


# Reports


def _rebuild_report(data: DataRoot, document: Document) -> bool:
    """Raise _Different where a report is not what its documents give. Its rows are those of its documents.csv."""
    metadata = document.metadata
    outcomes = _read_rows(document.read_text(DOCUMENTS_TABLE))
    if identify_report(outcomes).digest != metadata["digest"]:
        raise _Different(DOCUMENTS_TABLE, "its rows are not those that the report was made of")
    read = functools.cache(data.documents.read)
    for record in metadata["parents"]:
        _check_parent(read(record["stage"], record["doc_id"]), record)
    # reports made before the title was recorded begin their summary with it
    title = metadata.get("title") or document.read_text(SUMMARY_FILE).partition("\n")[0]
    for name, rebuilt in render_report(title, [report_row(outcome) for outcome in outcomes], read).items():
        _compare_file(document, name, rebuilt)
    return False


def _read_rows(table: str) -> list[RowOutcome]:
    rows = []
    for cells in csv.DictReader(io.StringIO(table, newline="")):
        row = {name: _remove_guard(text) for name, text in cells.items()}
        given = GivenPlan.of(Stage(row["stage"]), row["doc_id"], row["task_id"], metadata=row)
        rows.append(RowOutcome(given, row["status"], row["reason"]))
    return rows


def _remove_guard(text: str) -> str:
    """Return a cell as it was before spreadsheets.format_cell put an apostrophe in front."""
    return text[1:] if text.startswith("'") and FORMULA_START.match(text[1:]) else text


# Many documents


class Rebuild(NamedTuple):
    """What a rebuild of many documents found. `made` are those that were missing and are there now."""

    scope: str
    findings: list[Finding]
    made: list[tuple[str, str]]

    @property
    def is_same(self) -> bool:
        return not any(finding.outcome in FAILURES for finding in self.findings)

    def as_json(self) -> Json:
        counts: dict[str, Counter[str]] = {}
        for finding in self.findings:
            counts.setdefault(finding.stage, Counter())[finding.outcome] += 1
        return {
            "scope": self.scope,
            "same": self.is_same,
            "documents": {
                stage: {str(word): count[word] for word in Outcome} for stage, count in sorted(counts.items())
            },
            "answers_not_in_ledger": sum(finding.is_from_raw for finding in self.findings),
            "made": [{"stage": stage, "doc_id": doc_id} for stage, doc_id in self.made],
            "findings": [finding.as_json() for finding in self.findings if finding.outcome is not Outcome.SAME],
        }


def rebuild_all(data: DataRoot, archived: Iterable[Finding] = ()) -> Rebuild:
    """Rebuild every document of the store and compare it. `archived`: what a rebuild of the archive has found."""
    documents = ((stage, doc_id) for stage, doc_id in data.documents.walk() if stage not in ARCHIVE_STAGES)
    return Rebuild("all", [*rebuild_documents(data, documents), *archived], [])


def rebuild_cohort(workspace: Workspace, cohort: str, *, makes_missing: bool) -> Rebuild:
    """Rebuild the documents that a cohort asks for, and its reports, and compare them.

    `makes_missing`: make first what is not there and can be made without a model.
    """
    made = make_without_model(workspace, workspace.plan(cohort)) if makes_missing else []
    documents = [*_list_asked(workspace, cohort), *_list_reports(workspace.data, cohort)]
    return Rebuild(cohort, rebuild_documents(workspace.data, documents), made)


def rebuild_documents(data: DataRoot, documents: Iterable[tuple[str, str]]) -> list[Finding]:
    return [rebuild(data, stage, doc_id) for stage, doc_id in documents]


def _list_asked(workspace: Workspace, cohort: str) -> Iterator[tuple[str, str]]:
    """Yield what the task tables ask for, each once; without tables, what the config asks for."""
    paths = {stage: table_path(workspace.data.tasks_folder, cohort, stage) for stage in Stage}
    tables = {stage: read_task_table(path) for stage, path in paths.items() if path.exists()}
    if not tables:
        yield from ((str(plan.stage), plan.doc_id) for plan in workspace.plan(cohort).walk())
    for stage, rows in tables.items():
        yield from ((str(stage), doc_id) for doc_id in dict.fromkeys(row["doc_id"] for row in rows))


def _list_reports(data: DataRoot, cohort: str) -> Iterator[tuple[str, str]]:
    for doc_id in data.documents.list_ids(Stage.REPORT):
        try:
            if data.documents.read_metadata(Stage.REPORT, doc_id).get("cohort") == cohort:
                yield Stage.REPORT, doc_id
        except StoreError:  # nobody knows whose it is; --all and verify name it
            continue


# What can be made without a model


def make_without_model(workspace: Workspace, plan: CohortPlan) -> list[tuple[str, str]]:
    """Make what is missing of a cohort and follows from the ledger or a parent; return what was made."""
    maker = replace(workspace.maker, ask=_refuse)
    made = []
    for document in workspace.find_missing(plan.name):
        if _can_be_made(workspace.data, document):
            try:
                make_document(maker, document, cohort=plan.name)
            except DocumentFailed:  # its answer cannot be parsed: build and status say so
                continue
            made.append((str(document.stage), document.doc_id))
    return made


def _can_be_made(data: DataRoot, plan: DocumentPlan) -> bool:
    try:
        parent = read_parent(data, plan)
        if plan.mode is Mode.COPY:
            return True
        call = build_call(plan, render(plan, parent))
    except (DocumentMissing, RenderFailed):
        return False
    return data.calls.find_answer(call_id_of(call.as_identity())) is not None


def _refuse(*_arguments: Any, **_options: Any) -> Any:
    raise AssertionError("a rebuild asks no model")
