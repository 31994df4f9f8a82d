"""Making one document: from its plan to a committed folder, paying for each answer once.

    make_document(plan)
        read_parents            deeply checked; a missing or damaged parent stops everything before a call
        render                  pure
        obtain_answer           an attempt in the call ledger answered? use it. Otherwise ask, keep every byte,
                                and ask again after a failure that may pass
        parse                   pure
        commit                  prompt, raw, parsed and metadata as one folder, durably

A failure is a status with a reason (`DocumentFailed`). What a failed try brought back stays in the ledger.

Several threads may make documents at once. Of those that make the same call, one asks, and the others
take its answer.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline import gateway
from pipeline.admissions import Admission, describe_purpose
from pipeline.answers import failed_answer
from pipeline.concepts import Concept
from pipeline.errors import DocumentFailed, GatewayError, InputInvalid, ParseError, PlaceLeft
from pipeline.gateway import Answer, Call, Transport
from pipeline.keys import KeySource, drop_keys, holds_key, read_keys
from pipeline.parsers import Parsed, parse_reply
from pipeline.planning import DocumentPlan
from pipeline.prices import Price
from pipeline.prompts import RenderFailed, render_prompt
from pipeline.response_schemas import check_reply
from pipeline.retries import DOWN_REASONS, Again, Breaker, Breakers, Refusals, Tries, classify, read_retry_after
from pipeline.spending import describe_cost
from pipeline.stages import Mode, Stage, Status
from store.calls import Attempt, call_id_of
from store.data_root import DataRoot
from store.documents import Document
from store.errors import CallInvalid, DocumentMissing

HALF_A_SURROGATE_PAIR = re.compile("[\ud800-\udfff]")  # Python joins whole pairs, so each one found is half
PROMPT_FILE, RAW_FILE, PARSED_FILE = "prompt.txt", "raw.txt", "parsed.txt"

Ask = Callable[..., Answer]
Defer = Callable[[DocumentPlan, Call], bool]  # whether it takes the call


RETRIED_STATUSES = (Status.GEN_ERROR, Status.TRUNCATED)


def parse_retry(text: str) -> frozenset[Status]:
    """Return the statuses that are to be tried again: "gen_error,truncated". Raises InputInvalid."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in RETRIED_STATUSES]:
        raise InputInvalid(
            f"{unknown[0]!r} cannot be retried. Expected {' or '.join(RETRIED_STATUSES)}, or both with a comma; "
            "an answer that could not be parsed has come, and asking again makes another replicate."
        )
    return frozenset(map(Status, names))


def new_run_id() -> str:
    """Return a name for one run of the program: its start in UTC and some chance, 20261121T104642-1a2b3c."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Maker:
    """What making needs besides a plan: the store, the way to the models, and who is running.

    `list_key_sources` gives where the keys are that no prompt may hold: those of all models, whichever is asked.
    `retry` holds the statuses whose calls are asked again although they are final. `stopping` is set when the run is
    to end: an answer that is under way is still taken, and no further request is sent. `defer` takes calls that are to
    be asked in a batch. A call that is in a batch already is not asked, unless the maker `ignores_batches`.
    """

    data: DataRoot
    run_id: str = field(default_factory=new_run_id)
    ask: Ask = gateway.ask
    admission: Admission = field(default_factory=Admission)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    breakers: Breakers = field(default_factory=Breakers)
    refusals: Refusals = field(default_factory=Refusals)
    list_key_sources: Callable[[], Collection[KeySource]] = tuple
    retry: frozenset[Status] = frozenset()
    defer: Defer | None = None
    ignores_batches: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)  # set: nothing more is sent


class Parent(NamedTuple):
    """A document that another is made from, and the file of it that is used."""

    document: Document
    file: str

    def as_record(self) -> dict[str, str]:
        blake3 = self.document.file_blake3(self.file)
        return {"stage": self.document.stage, "doc_id": self.document.doc_id, "file": self.file, "blake3": blake3}


class Reading(NamedTuple):
    """What was made of an answer: its attempt in the ledger, its text as it is stored, and what the parser found."""

    attempt: Attempt
    raw: bytes
    parsed: Parsed


class Content(NamedTuple):
    """What of a document follows from its plan, its parent and its answer; `fields` are of metadata.json."""

    files: dict[str, bytes]
    fields: dict[str, Any]


# Making


def make_document(maker: Maker, plan: DocumentPlan, *, cohort: str) -> Document:
    """Return the plan's document, making it if it is not there.

    Raises DocumentFailed if the answer is truncated, cannot be parsed or did not come; StoreError if a
    parent is missing or damaged (before any call), or the document is present but invalid.
    """
    documents = maker.data.documents
    try:
        return documents.read(plan.stage, plan.doc_id, digest=plan.digest)
    except DocumentMissing:
        pass
    parent = read_parent(maker.data, plan)
    if plan.mode is Mode.COPY:
        return _copy_parent(maker, plan, parent, cohort=cohort)
    prompt = _render(plan, parent)
    attempt = obtain_answer(maker, plan, prompt, cohort=cohort)
    content = compose_answered(plan, prompt, attempt)
    _keep_template_texts(maker.data, plan)
    metadata = {**_describe_plan(maker, plan, parent, cohort=cohort), **content.fields}
    return documents.commit(plan.stage, plan.doc_id, content.files, metadata)


def compose_answered(plan: DocumentPlan, prompt: str, attempt: Attempt) -> Content:
    """Return what an answer makes of a plan. Pure. Raises DocumentFailed if it cannot be parsed."""
    reading = parse_answer(plan, attempt)
    files = {PROMPT_FILE: prompt.encode(), RAW_FILE: reading.raw, PARSED_FILE: reading.parsed.text.encode()}
    sizes = {"raw_bytes": len(reading.raw), "parsed_bytes": len(files[PARSED_FILE])}
    return Content(files, {**_describe_answer(plan, attempt), **_describe_text(reading.parsed), **sizes})


def compose_copy(plan: DocumentPlan, parent: Parent) -> Content:
    """Return what a plan in mode copy makes of its parent. Pure. Raises DocumentFailed if it cannot be parsed."""
    try:
        parsed = parse_text(plan, parent.document.read_text(parent.file))
    except ParseError as error:
        raise _failure(plan, Status.PARSE_ERROR, str(error)) from error
    files = {PARSED_FILE: parsed.text.encode()}
    sizes = {"raw_bytes": None, "parsed_bytes": len(files[PARSED_FILE])}
    return Content(files, {**_describe_answer(plan, None), **_describe_text(parsed), **sizes})


def read_parent(data: DataRoot, plan: DocumentPlan) -> Parent | None:
    """Return what the plan is made from, after a deep check; None for a draft of concepts.

    Raises DocumentMissing, DocumentInvalid or DocumentCorrupt.
    """
    if plan.source_doc_id:
        return Parent(_read_source(data, plan.source_doc_id), PROMPT_FILE)
    if plan.parent is None:
        return None
    parent = data.documents.read_deeply(plan.parent.stage, plan.parent.doc_id, digest=plan.parent.digest)
    return Parent(parent, PARSED_FILE)


def _read_source(data: DataRoot, doc_id: str) -> Document:
    """Return the document, of whatever stage, whose prompt a draft reuses."""
    stage = next((stage for stage, found in data.documents.find_ids(doc_id) if found == doc_id), Stage.DRAFT)
    return data.documents.read_deeply(stage, doc_id)


def _copy_parent(maker: Maker, plan: DocumentPlan, parent: Parent | None, *, cohort: str) -> Document:
    assert parent is not None, "config refuses mode copy where there is no parent"
    content = compose_copy(plan, parent)
    metadata = {**_describe_plan(maker, plan, parent, cohort=cohort), **content.fields}
    return maker.data.documents.commit(plan.stage, plan.doc_id, content.files, metadata)


def _render(plan: DocumentPlan, parent: Parent | None) -> str:
    try:
        return render(plan, parent)
    except RenderFailed as error:
        raise _failure(plan, Status.GEN_ERROR, f"template_error: {error}") from error


def render(plan: DocumentPlan, parent: Parent | None) -> str:
    """Return the prompt of a plan. Pure. Raises RenderFailed."""
    if plan.source_doc_id:
        assert parent is not None
        return parent.document.read_text(parent.file)
    assert plan.template is not None
    return render_prompt(plan.template.file_name, plan.template.texts, _variables(plan, parent))


def _variables(plan: DocumentPlan, parent: Parent | None) -> dict[str, Any]:
    if plan.combo is not None:
        level = plan.combo.level
        return {
            "concepts": [
                {"name": concept.name, "content": concept.describe(level).text} for concept in plan.combo.concepts
            ]
        }
    assert parent is not None
    text = parent.document.read_text(parent.file)
    if plan.stage is Stage.ESSAY:
        return {"draft_block": text, "links_block": text}
    return {"response": text}


# The call


def build_call(plan: DocumentPlan, prompt: str) -> Call:
    """Return the request that a plan makes of its model."""
    assert plan.model is not None
    params = plan.model.params_of_replicate(plan.replicate)
    if plan.template and plan.template.response_schema is not None:
        params["response_schema"] = plan.template.response_schema
    messages = ({"role": "user", "content": prompt},)
    return Call(messages, plan.model.model, plan.model.endpoint, params, plan.replicate)


def obtain_answer(maker: Maker, plan: DocumentPlan, prompt: str, *, cohort: str) -> Attempt:
    """Return the attempt that answered the plan's call: the first good one of the ledger, or a new one.

    Raises DocumentFailed if the answer is truncated (it is kept, and not asked for again) or did not come;
    BudgetReached if the call might cost more than is left.
    """
    call = build_call(plan, prompt)
    call_id = call_id_of(call.as_identity())
    attempt = maker.data.calls.find_answer(call_id)
    if attempt is None:
        with maker.data.calls.hold(call_id):  # an attempt without an outcome is nobody's now: its process died
            attempts = salvage_attempts(maker, call, call_id)
            attempt = find_settled(attempts, maker.retry, run_id=maker.run_id)
            if attempt is None:
                _leave_to_batches(maker, plan, call, attempts)
                attempt = _ask_model(maker, plan, call, call_id, cohort=cohort)
    if attempt.status != Status.OK:
        raise _failure(plan, Status(str(attempt.status)), reason_of(attempt))
    return attempt


def _leave_to_batches(maker: Maker, plan: DocumentPlan, call: Call, attempts: Sequence[Attempt]) -> None:
    """Raise DocumentFailed if the call is in a batch, or is to be asked in one."""
    batch = find_batch(attempts)
    if batch is not None and not maker.ignores_batches:
        raise _failure(plan, Status.SKIPPED, describe_batch(batch))
    if holds_key(call.as_inputs(), _list_keys(maker, plan)):
        return  # asked at once, it is refused before it is sent
    if maker.defer is not None and maker.defer(plan, call):
        raise _failure(plan, Status.SKIPPED, "batch: its call goes into a batch.")


def find_batch(attempts: Sequence[Attempt]) -> str | None:
    """Return the batch in which a call is under way; None if it is in none."""
    for attempt in attempts:
        if attempt.outcome is None:
            with suppress(CallInvalid):  # its process died before it could send anything
                if batch := attempt.read_request().get("batch"):
                    return str(batch)
    return None


def describe_batch(batch: str) -> str:
    """Return why a call is not asked that is in a batch."""
    return (
        f"batch: its call is under way in batch {batch}. `daybook build COHORT --batch` collects what has come; "
        "--ignore-batches asks at once, and it may be paid for twice."
    )


def find_settled(attempts: Sequence[Attempt], retry: Collection[Status], *, run_id: str) -> Attempt | None:
    """Return the attempt that a call rests with; None if it is to be asked.

    The first good answer, so that a document made again is the same; else a truncated one; else the last failure, if
    it is final. What `retry` names is asked again, once a run.
    """
    telling = find_telling(attempts)
    if telling is None or telling.status == Status.OK:
        return telling
    if classify_attempt(telling) is not Again.WHEN_NAMED:
        return None
    is_asked_again = telling.status in retry and not any(_run_id_of(attempt) == run_id for attempt in attempts)
    return None if is_asked_again else telling


def find_telling(attempts: Sequence[Attempt]) -> Attempt | None:
    """Return the attempt that says how a call stands: the first good one, else a truncated one, else the last."""
    finished = [attempt for attempt in attempts if attempt.outcome is not None]
    for status in (Status.OK, Status.TRUNCATED):
        if paid := [attempt for attempt in finished if attempt.status == status]:
            return paid[0]
    return finished[-1] if finished else None


def classify_attempt(attempt: Attempt) -> Again:
    """Return when the call of a finished attempt is asked again."""
    outcome = attempt.outcome or {}
    return classify(str(attempt.status), outcome.get("reason"), was_sent=outcome.get("sent") is not None)


def _run_id_of(attempt: Attempt) -> str:
    return str((attempt.outcome or {}).get("run_id", ""))


def salvage_attempts(maker: Maker, call: Call, call_id: str) -> list[Attempt]:
    """Return a call's attempts; one whose process died after the answer had come gets its outcome now."""
    attempts = []
    for attempt in maker.data.calls.list_attempts(call_id):
        answer = _read_unfinished(maker, call, attempt)
        if answer is not None:
            price = Price.from_record(attempt.read_request().get("price"))
            outcome = describe_outcome(maker, answer, cost=describe_cost(answer, price), seconds=None)
            attempt = maker.data.calls.close_attempt(attempt, outcome)
        attempts.append(attempt)
    return attempts


def _read_unfinished(maker: Maker, call: Call, attempt: Attempt) -> Answer | None:
    if attempt.outcome is not None:
        return None
    response = attempt.read_response()
    answer = None if response is None else gateway.read_again(call, response)
    if answer is None:
        return None
    keys = read_keys(maker.list_key_sources())
    return answer.change_texts(lambda text: str(drop_keys(text, keys)))


def _ask_model(maker: Maker, plan: DocumentPlan, call: Call, call_id: str, *, cohort: str) -> Attempt:
    """Ask until there is an answer, a failure that does not pass, or no try or time left; return the last attempt.

    Raises DocumentFailed if the call was not asked at all: the provider is down or refuses this run (PlaceLeft), or
    the run is to end.
    """
    transport: Transport = plan.model.transport if plan.model else Transport()
    place = _place_of(call, transport)
    if (why := maker.refusals.find_why(place)) is not None:
        raise PlaceLeft(plan.stage, plan.doc_id, plan.task_id, status=Status.GEN_ERROR, place=place, why=why)
    tries, breaker = Tries(transport), maker.breakers.of(place)
    attempt = None
    while breaker.enter(tries.ends_at):
        if maker.stopping.is_set():
            breaker.leave(is_down=None)
            break
        attempt = _try_once(maker, plan, call, call_id, breaker, cohort=cohort)
        maker.refusals.note(place, (attempt.outcome or {}).get("reason"), reason_of(attempt))
        seconds = tries.find_wait(classify_attempt(attempt), _find_retry_after(maker, attempt))
        if seconds is None:
            return attempt
        maker.stopping.wait(seconds)
    if attempt is None:
        why = "the run was to end" if maker.stopping.is_set() else "it is down"
        detail = f"{place} was not asked, because {why}. Run again later."
        raise _failure(plan, Status.GEN_ERROR, f"transport: {detail}")
    return attempt


def _place_of(call: Call, transport: Transport) -> str:
    """Return what fails together: an endpoint, or a provider's own."""
    return call.endpoint or transport.api_base or call.model.partition("/")[0]


def _find_retry_after(maker: Maker, attempt: Attempt) -> float | None:
    headers = (attempt.outcome or {}).get("response_headers") or {}
    return read_retry_after(headers, maker.clock())


def _try_once(maker: Maker, plan: DocumentPlan, call: Call, call_id: str, breaker: Breaker, *, cohort: str) -> Attempt:
    is_down = None
    try:
        attempt = _make_attempt(maker, plan, call, call_id, cohort=cohort)
        is_down = (attempt.outcome or {}).get("reason") in DOWN_REASONS
        return attempt
    finally:
        breaker.leave(is_down=is_down)


def _make_attempt(maker: Maker, plan: DocumentPlan, call: Call, call_id: str, *, cohort: str) -> Attempt:
    """Ask once, keeping the request before and every byte of the answer as it comes."""
    transport: Transport = plan.model.transport if plan.model else Transport()
    keys = _list_keys(maker, plan)
    if holds_key(call.as_inputs(), keys):
        return _refuse_to_send(maker, plan, call, call_id, keys, cohort=cohort)
    with maker.admission.admit(plan, call, cohort=cohort) as ticket:
        request = {**call.as_inputs(), **_describe_asking(maker), **ticket.as_record()}
        attempt = maker.data.calls.begin(call_id, request)
        started = time.monotonic()
        answer = maker.ask(call, transport, keep=attempt.keep)
        attempt.seal()
        seconds = round(time.monotonic() - started, 3)
        finished = attempt.finish(describe_outcome(maker, answer, cost=ticket.describe_cost(answer), seconds=seconds))
        ticket.settle(answer)
    return finished


def _list_keys(maker: Maker, plan: DocumentPlan) -> set[str]:
    """Return the keys that no prompt may hold."""
    transport = plan.model.transport if plan.model else Transport()
    return read_keys([*maker.list_key_sources(), KeySource.of(transport)])


def _refuse_to_send(
    maker: Maker, plan: DocumentPlan, call: Call, call_id: str, keys: Collection[str], *, cohort: str
) -> Attempt:
    """Record, without the key, that a call was not sent because it holds one."""
    request: dict[str, Any] = drop_keys(call.as_inputs(), keys)
    request |= {**_describe_asking(maker), "made_for": describe_purpose(plan, cohort)}
    attempt = maker.data.calls.begin(call_id, request)
    detail = "The prompt or a parameter holds a key in use, so it is not sent. Remove it from the concept, template, "
    error = GatewayError("key_in_prompt", f"{detail}parent or model that it comes from, and change the key.")
    cost = {"usd": 0.0, "source": None}
    return attempt.finish(describe_outcome(maker, failed_answer(error), cost=cost, seconds=0.0))


def _describe_asking(maker: Maker) -> dict[str, Any]:
    return {"asked_at": _timestamp(maker), "run_id": maker.run_id, "pid": os.getpid()}


def describe_outcome(maker: Maker, answer: Answer, *, cost: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    return {
        "status": answer.status,
        "reason": answer.reason,
        "detail": answer.detail,
        "text": answer.text,
        "reasoning": answer.reasoning,
        "finish_reason": answer.finish_reason,
        "native_finish_reason": answer.native_finish_reason,
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.total_tokens,
            "cached_tokens": answer.cached_tokens,
        },
        "cost": cost,
        "model_reported": answer.model_reported,
        "system_fingerprint": answer.system_fingerprint,
        "http_status": answer.http_status,
        "sent": answer.sent,
        "response_headers": answer.response_headers,
        "dropped_keys": answer.dropped_keys,
        "seconds": seconds,
        "finished_at": _timestamp(maker),
        "run_id": maker.run_id,
    }


def reason_of(attempt: Attempt) -> str:
    """Return why an attempt gave no good answer: "context_overflow: the prompt has …"."""
    outcome = attempt.outcome or {}
    return ": ".join(str(part) for part in (outcome.get("reason"), outcome.get("detail")) if part)


# Parsing


def parse_answer(plan: DocumentPlan, attempt: Attempt) -> Reading:
    text = str((attempt.outcome or {}).get("text") or "")
    raw = encode_reply(text)
    try:
        return Reading(attempt, raw, parse_text(plan, raw.decode()))
    except ParseError as error:
        raise _failure(plan, Status.PARSE_ERROR, str(error)) from error


def encode_reply(text: str) -> bytes:
    """Return the bytes of raw.txt: UTF-8, with U+FFFD for half a surrogate pair, which UTF-8 cannot hold.

    The exact bytes of the answer are in the ledger's response.bin.
    """
    return HALF_A_SURROGATE_PAIR.sub("\ufffd", text).encode()


def parse_text(plan: DocumentPlan, text: str) -> Parsed:
    template = plan.template
    if template is None:
        return parse_reply(plan.parser, text)
    if template.response_schema is not None:
        check_reply(text, template.response_schema)
    return parse_reply(template.parser, text, scale=template.scale, min_lines=template.min_lines)


def _failure(plan: DocumentPlan, status: Status, reason: str) -> DocumentFailed:
    return DocumentFailed(plan.stage, plan.doc_id, plan.task_id, status=status, reason=reason)


# Metadata


def _describe_plan(maker: Maker, plan: DocumentPlan, parent: Parent | None, *, cohort: str) -> dict[str, Any]:
    return {
        "digest": plan.digest,
        "mode": plan.mode,
        "inputs": plan.inputs,
        "parent_doc_id": plan.parent_doc_id or plan.source_doc_id or None,
        "parents": [] if parent is None else [parent.as_record()],
        "task_id": plan.task_id,
        "cohort": cohort,
        "template_id": plan.template_id or None,
        "model_id": plan.model_id or None,
        "model": plan.model.model if plan.model else None,
        "combo_id": plan.combo_id or None,
        "concepts": _describe_concepts(plan),
        "replicate": plan.replicate,
        "status": Status.OK,
        "parser": plan.inputs["parser"],
        "created_at": _timestamp(maker),
        "run_id": maker.run_id,
    }


def _describe_concepts(plan: DocumentPlan) -> list[dict[str, Any]]:
    if plan.combo is None:
        return []
    return [_describe_concept(concept, plan.combo.level) for concept in plan.combo.concepts]


def _describe_concept(concept: Concept, level: str) -> dict[str, Any]:
    found, origin = concept.describe(level), concept.origin_at(level)
    facts = {"concept_id": concept.concept_id, "name": concept.name, "level": found.level, "text": found.text}
    return facts if origin is None else {**facts, "origin": origin}


def _describe_answer(plan: DocumentPlan, attempt: Attempt | None) -> dict[str, Any]:
    outcome: Mapping[str, Any] = (attempt.outcome if attempt else None) or {}
    usage = outcome.get("usage") or {}
    return {
        "call_id": attempt.call_id if attempt else None,
        "attempt": attempt.number if attempt else None,
        "finish_reason": outcome.get("finish_reason"),
        "model_reported": outcome.get("model_reported"),
        "system_fingerprint": outcome.get("system_fingerprint"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "cost_usd": (outcome.get("cost") or {}).get("usd"),
        "max_tokens": plan.model.params["max_tokens"] if plan.model else None,
    }


def _describe_text(parsed: Parsed) -> dict[str, Any]:
    if parsed.score is None:
        return {"score": None}
    score = parsed.score
    scale = [score.scale.low, score.scale.high]
    return {"score": {"value": score.value, "scale": scale, "strategy": score.strategy, "line": score.line}}


def _keep_template_texts(data: DataRoot, plan: DocumentPlan) -> None:
    """Keep the texts that the inputs name by hash, so that the prompt can be rendered again and compared."""
    if plan.template:
        for text in plan.template.texts.values():
            data.texts.keep(text)


def _timestamp(maker: Maker) -> str:
    return maker.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
