"""Spending: what an attempt took and cost, and what it may have cost at most. Told from the ledger.

    outcome.json tells the cost          that, at the price of its day, or as the provider reported it
    no outcome, but a whole response     what the response says that it took, at the price in request.json
    neither                              unknown; at most what was reserved for it before it was sent

An attempt that the provider refused, or that was never sent, costs nothing. One whose connection broke may have been
paid: its cost is unknown, and against a budget it counts with what was reserved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.gateway import Answer, Call, interpret
from pipeline.prices import FREE, FROM_SETTINGS, Price
from store.calls import Attempt

PROVIDER = "provider"  # the source of a cost that the provider reported
OVERHEAD_TOKENS = 64  # of a chat's format around the messages, at most
# If there is no HTTP status either.
NOT_SENT_REASONS = frozenset({"auth", "bad_params", "bad_request", "batch", "key_in_prompt", "no_connection"})
PERHAPS_PAID_STATUSES = frozenset({408, 499, 504, 524})  # a machine on the way gave up, and the provider perhaps not


class Amount(NamedTuple):
    """Tokens, prompt and answer together, and dollars; None where no price is known."""

    tokens: int
    usd: float | None


class Spending(NamedTuple):
    """What an attempt took. None: unknown. `most` is what it counts against a budget."""

    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None
    most: Amount


def bound_prompt_tokens(call: Call) -> int:
    """Return a number of tokens that a call's prompt cannot exceed: no token is shorter than a byte."""
    schema = call.params.get("response_schema")
    parts = [message["content"] for message in call.messages] + ([json.dumps(schema)] if schema is not None else [])
    return sum(len(part.encode(errors="replace")) for part in parts) + OVERHEAD_TOKENS


def bound_amount(call: Call, price: Price | None) -> Amount:
    """Return the most that a call can take: to be reserved before it is sent."""
    prompt_tokens, completion_tokens = bound_prompt_tokens(call), int(call.params.get("max_tokens") or 0)  # type: ignore[arg-type]
    usd = None if price is None else price.cost_of(prompt_tokens, completion_tokens)
    return Amount(prompt_tokens + completion_tokens, usd)


def describe_cost(answer: Answer, price: Price | None) -> dict[str, Any]:
    """Return the field `cost` of an outcome: {"usd": 0.0021, "source": "settings"}; usd is None if it is unknown.

    Where the provider reported a cost, that and what the price makes of the tokens stand beside it, whichever counts.
    """
    source = None if price is None else price.source
    if answer.reported_usd is None:
        return {"usd": cost_of_answer(answer, price), "source": source}
    return {
        "usd": cost_of_answer(answer, price),
        "source": PROVIDER if _is_report_taken(answer, price) else source,
        "reported_usd": answer.reported_usd,
        "computed_usd": _compute_cost(answer, price),
    }


def cost_of_answer(answer: Answer, price: Price | None) -> float | None:
    """Return what an answer cost in dollars; None if that is not known."""
    if _is_report_taken(answer, price):
        return answer.reported_usd
    return _compute_cost(answer, price)


def _is_report_taken(answer: Answer, price: Price | None) -> bool:
    """Whether the cost that a provider reported counts: it goes before a table, and not before what a person set."""
    return answer.reported_usd is not None and (price is None or price.source not in (FROM_SETTINGS, FREE))


def _compute_cost(answer: Answer, price: Price | None) -> float | None:
    if price is not None and price.is_free:
        return 0.0
    if answer.prompt_tokens is not None and answer.completion_tokens is not None:
        if price is None:
            return None
        cached_tokens = answer.cached_tokens or 0
        return price.cost_of(answer.prompt_tokens, answer.completion_tokens, cached_tokens=cached_tokens)
    return None if is_perhaps_paid(answer.status, answer.reason, answer.http_status) else 0.0


def is_perhaps_paid(status: str, reason: str | None, http_status: int | None) -> bool:
    """Whether an answer that names no tokens may have been paid all the same."""
    if status != "gen_error":
        return True
    if http_status is None:
        return reason not in NOT_SENT_REASONS
    return http_status < 400 or http_status in PERHAPS_PAID_STATUSES


def count_answer(answer: Answer, price: Price | None, *, reserved: Amount) -> Amount:
    """Return what an answer counts against a budget: what it took, or what was reserved where that is unknown."""
    return _count(
        answer.prompt_tokens,
        answer.completion_tokens,
        cost_of_answer(answer, price),
        reserved=reserved,
        is_perhaps_paid=is_perhaps_paid(answer.status, answer.reason, answer.http_status),
    )


def _count(
    prompt_tokens: int | None,
    completion_tokens: int | None,
    usd: float | None,
    *,
    reserved: Amount,
    is_perhaps_paid: bool,
) -> Amount:
    if prompt_tokens is not None and completion_tokens is not None:
        return Amount(prompt_tokens + completion_tokens, usd)
    return reserved if is_perhaps_paid else Amount(0, 0.0)


def read_spending(attempt: Attempt, request: Mapping[str, Any]) -> Spending:
    """Return what an attempt took; `request` is its request.json."""
    price = Price.from_record(request.get("price"))
    reserved = Amount(**(request.get("reserved") or {"tokens": 0, "usd": None}))
    if attempt.outcome is None:
        response = attempt.read_response()
        answer = None if response is None else interpret(response)
        if answer is None:
            return Spending(None, None, 0.0 if price is not None and price.is_free else None, reserved)
        cost = cost_of_answer(answer, price)
        counted = count_answer(answer, price, reserved=reserved)
        return Spending(answer.prompt_tokens, answer.completion_tokens, cost, counted)
    outcome = attempt.outcome
    usage = outcome.get("usage") or {}
    prompt_tokens, completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    usd = (outcome.get("cost") or {}).get("usd")
    paid = is_perhaps_paid(str(outcome.get("status")), outcome.get("reason"), outcome.get("http_status"))
    counted = _count(prompt_tokens, completion_tokens, usd, reserved=reserved, is_perhaps_paid=paid)
    return Spending(prompt_tokens, completion_tokens, usd, counted)
