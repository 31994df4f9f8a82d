"""Estimates: what is missing of a cohort takes in calls, tokens and dollars, before anything is spent.

Prompt tokens    of a prompt that can be rendered already: its bytes by the bytes a token that this store has seen of
                 the model, else by four. Of one whose parent is not there: the template, and the parent's answer
Answer tokens    low, expected and high: the shortest, the mean and max_tokens. Shortest and mean are those of the
                 store's documents of the same model and template, else of the model; without any, 0 and max_tokens
Dollars          the two, at the prices known now. None if a model's price is not known

No tokenizer is used: each model has its own, and loading one takes longer than all else here. An estimate is no
promise, and says nothing of attempts that fail; what is promised is a budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, NamedTuple

from pipeline.making import build_call, find_batch, read_parent, render
from pipeline.planning import DocumentPlan
from pipeline.prices import find_price
from pipeline.prompts import RenderFailed
from pipeline.stages import Mode, Status
from pipeline.workspace import Workspace
from store.calls import call_id_of
from store.errors import StoreError

BYTES_PER_TOKEN = 4.0  # of English prose; the usual rule of thumb of model providers
HISTORY_DOCUMENTS = 300  # of each stage; ids are hashes, so the first are a fair sample


class Range(NamedTuple):
    low: float
    expected: float
    high: float

    def plus(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def as_usd(self) -> dict[str, float]:
        return {name: round(value, 6) for name, value in self._asdict().items()}


NOTHING = Range(0.0, 0.0, 0.0)


@dataclass
class Estimate:
    """What calls take together. `usd` leaves out those of `unpriced` models."""

    calls: int = 0
    prompt_tokens: Range = NOTHING
    completion_tokens: Range = NOTHING
    usd: Range = NOTHING
    unpriced: set[str] = field(default_factory=set)

    def add(self, other: Estimate) -> None:
        self.calls += other.calls
        self.prompt_tokens = self.prompt_tokens.plus(other.prompt_tokens)
        self.completion_tokens = self.completion_tokens.plus(other.completion_tokens)
        self.usd = self.usd.plus(other.usd)
        self.unpriced |= other.unpriced

    def as_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "prompt_tokens": round(self.prompt_tokens.expected),
            "completion_tokens": round(self.completion_tokens.high),
            "expected_completion_tokens": round(self.completion_tokens.expected),
            "cost_usd": None if self.unpriced else self.usd.as_usd(),
            "unpriced_models": sorted(self.unpriced),
        }


def estimate_stages(workspace: Workspace, missing: Iterable[DocumentPlan]) -> dict[str, Estimate]:
    """Return {stage: what the missing documents of the stage take}; calls answered, or in a batch, take nothing."""
    estimator = _Estimator(workspace)
    estimates: dict[str, Estimate] = {}
    for plan in missing:
        stage = estimates.setdefault(str(plan.stage), Estimate())
        if plan.mode is Mode.LLM:
            stage.add(estimator.estimate(plan))
    return estimates


def add_up(estimates: Iterable[Estimate]) -> Estimate:
    total = Estimate()
    for estimate in estimates:
        total.add(estimate)
    return total


class _Estimator:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._history = _History(workspace)
        self._counted: set[str] = set()  # calls; two documents may need the same one

    def estimate(self, plan: DocumentPlan) -> Estimate:
        """Return what a document takes that a model has to write."""
        assert plan.model is not None
        prompt_tokens = self._estimate_prompt(plan)
        if prompt_tokens is None:
            return Estimate()
        answer_tokens = self._history.estimate_answer(plan)
        price = find_price(plan.model)
        if price is None:
            return Estimate(1, prompt_tokens, answer_tokens, unpriced={plan.model_id})
        usd = Range(*(price.cost_of(*tokens) for tokens in zip(prompt_tokens, answer_tokens, strict=True)))
        return Estimate(1, prompt_tokens, answer_tokens, usd)

    def _estimate_prompt(self, plan: DocumentPlan) -> Range | None:
        """Return the tokens of a document's prompt; None if its call is answered, in a batch, or counted already."""
        try:
            prompt = render(plan, read_parent(self._workspace.data, plan))
        except (StoreError, RenderFailed):
            return self._guess_prompt(plan)
        call_id = call_id_of(build_call(plan, prompt).as_identity())
        attempts = self._workspace.data.calls.list_attempts(call_id)
        if call_id in self._counted or find_batch(attempts) or any(found.status == Status.OK for found in attempts):
            return None
        self._counted.add(call_id)
        tokens = len(prompt.encode()) / self._history.bytes_per_token(plan)
        return Range(tokens, tokens, tokens)

    def _guess_prompt(self, plan: DocumentPlan) -> Range:
        texts = plan.template.texts.values() if plan.template else []
        tokens = sum(len(text.encode()) for text in texts) / self._history.bytes_per_token(plan)
        parent = plan.parent
        while parent is not None and parent.model is None:  # a copy is as long as what it copies
            parent = parent.parent
        answer = NOTHING if parent is None else self._history.estimate_answer(parent)
        return Range(tokens, tokens, tokens).plus(answer)


class _Seen(NamedTuple):
    """What one document of the store took."""

    prompt_bytes: int
    prompt_tokens: int
    completion_tokens: int


class _History:
    """What the documents of the store took, each stage read when it is first asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._documents = workspace.data.documents
        self._seen: dict[tuple[str, str, str], list[_Seen]] = {}  # by stage, model string and template_id
        self._read: set[str] = set()

    def estimate_answer(self, plan: DocumentPlan) -> Range:
        assert plan.model is not None
        most = float(plan.model.params["max_tokens"])
        lengths = [min(seen.completion_tokens, most) for seen in self._find(plan)]
        return Range(min(lengths), mean(lengths), most) if lengths else Range(0.0, most, most)

    def bytes_per_token(self, plan: DocumentPlan) -> float:
        found = self._find(plan)
        tokens = sum(seen.prompt_tokens for seen in found)
        return sum(seen.prompt_bytes for seen in found) / tokens if tokens else BYTES_PER_TOKEN

    def _find(self, plan: DocumentPlan) -> list[_Seen]:
        assert plan.model is not None
        self._read_stage(str(plan.stage))
        model = plan.model.model
        exact = self._seen.get((str(plan.stage), model, plan.template_id))
        return exact or [seen for key, found in self._seen.items() if key[1] == model for seen in found]

    def _read_stage(self, stage: str) -> None:
        if stage in self._read:
            return
        self._read.add(stage)
        for doc_id in self._documents.list_ids(stage)[:HISTORY_DOCUMENTS]:
            metadata = self._documents.read(stage, doc_id).metadata
            prompt = (metadata.get("files") or {}).get("prompt.txt")
            counts = metadata.get("prompt_tokens"), metadata.get("completion_tokens")
            if prompt and counts[0] is not None and counts[1] is not None:
                key = stage, str(metadata.get("model")), str(metadata.get("template_id") or "")
                self._seen.setdefault(key, []).append(_Seen(int(prompt["size_bytes"]), counts[0], counts[1]))
