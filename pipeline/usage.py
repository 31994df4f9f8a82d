"""Usage: what was asked of models, what it took and cost, and what was saved. Told from the ledger and the documents.

An attempt is counted once, for the document that it was made for; a call, once in each group that an attempt of it is
in. Saved is what a document's answer cost if it was there already: asked for another document, or by an earlier run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.spending import Spending, read_spending
from pipeline.stages import MADE_STAGES, Status
from store.calls import Attempt
from store.data_root import DataRoot

GROUPINGS = ("model", "template", "stage", "cohort", "run", "day")
NO_NAME = "–"  # of a prompt that has no template, or an attempt without a record of its purpose

Json = dict[str, Any]


@dataclass
class Usage:
    """What the attempts of one group took, and what was saved."""

    calls: set[str] = field(default_factory=set)
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    unknown_costs: int = 0
    failed_attempts: int = 0
    failed_usd: float = 0.0
    failed_unknown_costs: int = 0
    unfinished: int = 0
    reused: int = 0
    saved_usd: float = 0.0
    saved_unknown_costs: int = 0

    def add_attempt(self, call_id: str, status: str | None, spending: Spending) -> None:
        self.calls.add(call_id)
        self.attempts += 1
        self.prompt_tokens += spending.prompt_tokens or 0
        self.completion_tokens += spending.completion_tokens or 0
        self.usd += spending.usd or 0.0
        self.unknown_costs += spending.usd is None
        self.unfinished += status is None
        if status not in (None, Status.OK):
            self.failed_attempts += 1
            self.failed_usd += spending.usd or 0.0
            self.failed_unknown_costs += spending.usd is None

    def add_reuse(self, usd: float | None) -> None:
        self.reused += 1
        self.saved_usd += usd or 0.0
        self.saved_unknown_costs += usd is None

    def as_json(self) -> Json:
        """Return the counts; a cost is that of the attempts whose cost is known, the others are counted beside it."""
        return {
            "calls": len(self.calls),
            "attempts": self.attempts,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": round(self.usd, 9),
            "unknown_costs": self.unknown_costs,
            "failed_attempts": self.failed_attempts,
            "failed_cost_usd": round(self.failed_usd, 9),
            "failed_unknown_costs": self.failed_unknown_costs,
            "unfinished_attempts": self.unfinished,
            "reused": self.reused,
            "saved_usd": round(self.saved_usd, 9),
            "saved_unknown_costs": self.saved_unknown_costs,
        }


class _Made(NamedTuple):
    """What is known of an attempt besides its numbers."""

    model: str
    template: str
    stage: str
    cohort: str
    run: str
    day: str
    doc_id: str
    usd: float | None


def describe_usage(data: DataRoot, by: str) -> Json:
    """Return {"by": …, "groups": {name: counts}, "total": counts}; `by` is one of GROUPINGS."""
    groups: dict[str, Usage] = {}
    total = Usage()
    made: dict[tuple[str, int], _Made] = {}
    for attempt, request in _walk_attempts(data):
        spending = read_spending(attempt, request)
        known = _describe_attempt(request, spending)
        made[attempt.call_id, attempt.number] = known
        for usage in (groups.setdefault(getattr(known, by), Usage()), total):
            usage.add_attempt(attempt.call_id, attempt.status, spending)
    for metadata in _walk_documents(data):
        found = made.get((str(metadata["call_id"]), int(metadata["attempt"])))
        if found is not None and _is_reuse(metadata, found):
            for usage in (groups.setdefault(_group_of(metadata, by), Usage()), total):
                usage.add_reuse(found.usd)
    counts = {name: groups[name].as_json() for name in sorted(groups)}
    return {"by": by, "groups": counts, "total": total.as_json()}


def _walk_attempts(data: DataRoot) -> Iterator[tuple[Attempt, Json]]:
    """Yield each attempt with its request."""
    for call_id in data.calls.walk():
        for attempt in data.calls.list_attempts(call_id):
            yield attempt, attempt.read_request()


def _walk_documents(data: DataRoot) -> Iterator[Mapping[str, Any]]:
    """Yield the metadata of each document that an answer stands behind."""
    for stage in MADE_STAGES:
        for doc_id in data.documents.list_ids(stage):
            metadata = data.documents.read(stage, doc_id).metadata
            if metadata.get("call_id"):
                yield metadata


def _describe_attempt(request: Json, spending: Spending) -> _Made:
    made_for = request.get("made_for") or {}
    return _Made(
        model=str(request["model"]),
        template=made_for.get("template_id") or NO_NAME,
        stage=made_for.get("stage") or NO_NAME,
        cohort=made_for.get("cohort") or NO_NAME,
        run=str(request["run_id"]),
        day=str(request["asked_at"])[:10],
        doc_id=made_for.get("doc_id") or "",
        usd=spending.usd,
    )


def _is_reuse(metadata: Mapping[str, Any], made: _Made) -> bool:
    return (metadata["doc_id"], metadata["run_id"]) != (made.doc_id, made.run)


def _group_of(metadata: Mapping[str, Any], by: str) -> str:
    """Return the group that a document's saving belongs to."""
    if by == "day":
        return str(metadata["created_at"])[:10]
    key = {"model": "model", "template": "template_id", "stage": "stage", "cohort": "cohort", "run": "run_id"}[by]
    return str(metadata[key] or NO_NAME)
