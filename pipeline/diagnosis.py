"""How a planned document stands: told from the store alone, without changing anything.

A document that is not there has no stored status. The pure steps of making are done again (render the
prompt, look its call up in the ledger, parse the answer), so a status can never disagree with the bytes,
and a mended parser changes it at once.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.errors import DocumentFailed, ParseError
from pipeline.making import (
    Parent,
    build_call,
    classify_attempt,
    describe_batch,
    find_batch,
    find_telling,
    parse_answer,
    parse_text,
    read_parent,
    reason_of,
    render,
)
from pipeline.planning import DocumentPlan
from pipeline.prompts import RenderFailed
from pipeline.retries import Again
from pipeline.stages import Mode, Status
from store.calls import Attempt, call_id_of
from store.data_root import DataRoot
from store.errors import DocumentMissing


class Diagnosis(NamedTuple):
    """How a document stands. `status` is None if it was never tried; `run_id` is of the last attempt, if any.

    `is_final`: its call is not asked again by itself, only when `build --retry` names the status.
    """

    status: Status | None
    reason: str
    run_id: str = ""
    is_final: bool = False


def diagnose(data: DataRoot, plan: DocumentPlan) -> Diagnosis:
    """Return how a planned document stands, without changing anything.

    Raises StoreError if the document or its parent is present but invalid.
    """
    if data.documents.is_present(plan.stage, plan.doc_id):
        return Diagnosis(Status.OK, "")
    if plan.parent is not None and not data.documents.is_present(plan.parent.stage, plan.parent.doc_id):
        return _diagnose_orphan(data, plan.parent)
    try:
        parent = read_parent(data, plan)
        if plan.mode is Mode.COPY:
            return _diagnose_copy(plan, parent)
        prompt = render(plan, parent)
    except RenderFailed as error:
        return Diagnosis(Status.GEN_ERROR, f"template_error: {error}")
    except DocumentMissing as error:
        return Diagnosis(Status.SKIPPED, str(error))
    attempts = data.calls.list_attempts(call_id_of(build_call(plan, prompt).as_identity()))
    return _diagnose_attempts(plan, attempts)


def _diagnose_orphan(data: DataRoot, parent: DocumentPlan) -> Diagnosis:
    found = diagnose(data, parent)
    if found.status is None:
        return Diagnosis(None, "")
    root = found.reason if found.status is Status.SKIPPED else f"its {parent.stage} is {found.status}: {found.reason}"
    return Diagnosis(Status.SKIPPED, root, found.run_id)


def _diagnose_copy(plan: DocumentPlan, parent: Parent | None) -> Diagnosis:
    assert parent is not None, "config refuses mode copy where there is no parent"
    try:
        parse_text(plan, parent.document.read_text(parent.file))
    except ParseError as error:
        return Diagnosis(Status.PARSE_ERROR, str(error))
    return Diagnosis(None, "")


def _diagnose_attempts(plan: DocumentPlan, attempts: list[Attempt]) -> Diagnosis:
    attempt = find_telling(attempts)
    if (attempt is None or attempt.status != Status.OK) and (batch := find_batch(attempts)):
        return Diagnosis(Status.SKIPPED, describe_batch(batch))
    if attempt is None:
        return Diagnosis(None, "")
    run_id = str((attempt.outcome or {}).get("run_id", ""))
    if attempt.status != Status.OK:
        is_final = classify_attempt(attempt) is Again.WHEN_NAMED
        return Diagnosis(Status(str(attempt.status)), reason_of(attempt), run_id, is_final)
    try:
        parse_answer(plan, attempt)
    except DocumentFailed as error:
        return Diagnosis(Status.PARSE_ERROR, error.reason, run_id)
    return Diagnosis(None, "", run_id)  # answered, and not committed yet
