"""History: what was tried for a document, and what happened in a store. Told from the ledger and the journal.

Every function returns plain JSON; the command line prints it as it is or as text.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pipeline.diagnosis import Diagnosis, diagnose
from pipeline.errors import InputInvalid, UnknownName
from pipeline.looking import find_document, find_planned
from pipeline.making import build_call, read_parent, reason_of, render
from pipeline.planning import DocumentPlan
from pipeline.prompts import RenderFailed
from pipeline.spending import read_spending
from pipeline.stages import Status
from pipeline.workspace import Workspace
from store.calls import Attempt, call_id_of
from store.data_root import DataRoot
from store.errors import StoreError
from store.journal import Record

AGE_FORM = re.compile(r"([0-9]+)([smhdw])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Json = dict[str, Any]


# The attempts of a document


def list_attempts(workspace: Workspace, prefix: str) -> Json:
    """Return all attempts at a document in order, made or not: how each ended, why, and what it cost.

    Raises UnknownName if no document, made or planned, begins like this.
    """
    tried = _find_call(workspace, prefix)
    attempts = workspace.data.calls.list_attempts(tried.call_id) if tried.call_id else []
    return {
        "stage": tried.stage,
        "doc_id": tried.doc_id,
        "status": str(tried.diagnosis.status) if tried.diagnosis.status else None,
        "reason": tried.diagnosis.reason,
        "call_id": tried.call_id or None,
        "attempts": [_describe_attempt(attempt, is_used=attempt.number == tried.used) for attempt in attempts],
    }


class _Tried(NamedTuple):
    """A document, made or planned: its call, "" for one that asks no model; the number of the attempt that was used."""

    stage: str
    doc_id: str
    call_id: str
    used: int
    diagnosis: Diagnosis


def _find_call(workspace: Workspace, prefix: str) -> _Tried:
    try:
        document = find_document(workspace, prefix)
    except UnknownName:
        plan = find_planned(workspace, prefix)
        if plan is None:
            raise
        call_id, diagnosis = _call_id_of_plan(workspace, plan), diagnose(workspace.data, plan)
        return _Tried(str(plan.stage), plan.doc_id, call_id, 0, diagnosis)
    call_id, used = str(document.metadata.get("call_id") or ""), int(document.metadata.get("attempt") or 0)
    return _Tried(document.stage, document.doc_id, call_id, used, Diagnosis(Status.OK, ""))


def _call_id_of_plan(workspace: Workspace, plan: DocumentPlan) -> str:
    """Return the call of a document that is not there; "" if it cannot be told yet, for want of a parent."""
    if plan.model is None:
        return ""
    try:
        return call_id_of(build_call(plan, render(plan, read_parent(workspace.data, plan))).as_identity())
    except (StoreError, RenderFailed):
        return ""


def _describe_attempt(attempt: Attempt, *, is_used: bool) -> Json:
    outcome = attempt.outcome or {}
    request = attempt.read_request()
    spending = read_spending(attempt, request)
    return {
        "attempt": attempt.number,
        "status": attempt.status,
        "reason": reason_of(attempt),
        "asked_at": request.get("asked_at"),
        "seconds": outcome.get("seconds"),
        "prompt_tokens": spending.prompt_tokens,
        "completion_tokens": spending.completion_tokens,
        "cost_usd": spending.usd,
        "run_id": outcome.get("run_id") or request.get("run_id"),
        "used": is_used,
    }


# The journal


def read_log(data: DataRoot, *, since: str = "", now: datetime | None = None) -> list[Json]:
    """Return the records of all processes by time. `since` is a time in UTC or an age: 2026-11-21T10:00, 3d, 45m."""
    first = _read_since(since, now or datetime.now(UTC))
    return [_describe_record(record) for record in data.journal.read()[0] if record.at >= first]


def _describe_record(record: Record) -> Json:
    return {"at": record.at, "event": record.event, **record.facts}


def _read_since(text: str, now: datetime) -> str:
    if not text:
        return ""
    try:
        if age := AGE_FORM.fullmatch(text):
            moment = now - timedelta(**{UNITS[age[2]]: int(age[1])})
        else:
            moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InputInvalid(
            f"{text!r} is no time. Expected one in UTC, such as 2026-11-21 or 2026-11-21T10:30, or an age such as "
            "45m, 6h, 3d or 2w."
        ) from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
