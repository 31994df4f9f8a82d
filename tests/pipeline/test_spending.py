"""Spending: a known cost is kept, an unknown one is not zero, and a bound is never exceeded."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.gateway import Answer, Call, interpret
from pipeline.prices import Price
from pipeline.spending import Amount, bound_amount, cost_of_answer, count_answer, describe_cost, read_spending
from store.data_root import DataRoot
from tests.provider_server import make_completion

PRICE = Price(1.0, 10.0, "settings")  # a prompt token costs 1 millionth of a dollar, an answer token 10
RESERVED = Amount(1000, 0.5)
REQUEST = {"price": PRICE.as_record(), "reserved": RESERVED._asdict()}


@pytest.mark.parametrize(
    ("answer", "usd", "counted"),
    [
        (Answer("ok", prompt_tokens=100, completion_tokens=10), 0.0002, Amount(110, 0.0002)),
        (Answer("truncated", prompt_tokens=100, completion_tokens=10), 0.0002, Amount(110, 0.0002)),
        (Answer("gen_error", "refused", prompt_tokens=100, completion_tokens=0), 0.0001, Amount(100, 0.0001)),
        (Answer("ok", http_status=200), None, RESERVED),
        (Answer("ok", prompt_tokens=100), None, RESERVED),
        (Answer("gen_error", "rate_limit", http_status=429), 0.0, Amount(0, 0.0)),
        (Answer("gen_error", "transport", http_status=500), 0.0, Amount(0, 0.0)),
        (Answer("gen_error", "transport", http_status=504), None, RESERVED),
        (Answer("gen_error", "bad_body", http_status=200), None, RESERVED),
        (Answer("gen_error", "transport"), None, RESERVED),
        (Answer("gen_error", "no_connection"), 0.0, Amount(0, 0.0)),
        (Answer("gen_error", "key_in_prompt"), 0.0, Amount(0, 0.0)),
        (Answer("gen_error", "auth"), 0.0, Amount(0, 0.0)),
    ],
    ids=lambda value: f"{value.status} {value.reason} {value.http_status}" if isinstance(value, Answer) else "",
)
def test_an_answer_costs_what_it_took_and_counts_as_reserved_where_that_is_unknown(answer, usd, counted):
    assert cost_of_answer(answer, PRICE) == (None if usd is None else pytest.approx(usd))
    found = count_answer(answer, PRICE, reserved=RESERVED)
    assert (found.tokens, found.usd) == (counted.tokens, pytest.approx(counted.usd))


def test_cached_tokens_cost_less_where_the_price_says_so():
    answer = Answer("ok", prompt_tokens=100, completion_tokens=10, cached_tokens=80)

    assert cost_of_answer(answer, PRICE) == pytest.approx(200e-6)
    assert cost_of_answer(answer, replace(PRICE, cached_input_usd=0.25)) == pytest.approx((20 + 20 + 100) * 1e-6)


def test_no_more_tokens_are_cached_than_were_sent():
    answer = Answer("ok", prompt_tokens=100, completion_tokens=0, cached_tokens=10**9)

    assert cost_of_answer(answer, replace(PRICE, cached_input_usd=0.5)) == pytest.approx(50e-6)


LISTED = replace(PRICE, source="litellm 1.0")


@pytest.mark.parametrize(
    ("price", "usd", "source", "computed"),
    [
        (PRICE, 0.0002, "settings", 0.0002),
        (LISTED, 0.5, "provider", 0.0002),
        (None, 0.5, "provider", None),
        (Price(0.0, 0.0, "free"), 0.0, "free", 0.0),
    ],
)
def test_what_a_provider_reports_stands_beside_what_is_computed(price, usd, source, computed):
    answer = Answer("ok", prompt_tokens=100, completion_tokens=10, reported_usd=0.5)

    cost = describe_cost(answer, price)

    assert (cost["usd"], cost["source"]) == (None if usd is None else pytest.approx(usd), source)
    assert (cost["reported_usd"], cost["computed_usd"]) == (0.5, None if computed is None else pytest.approx(computed))


@pytest.mark.parametrize("cost", [None, -1, True, "0.5", {"usd": 1}, float("nan"), float("inf")])
def test_a_report_that_is_no_sum_is_none(cost):
    body = make_completion("text") | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": cost}}

    answer = interpret(json.dumps(body).encode())

    assert answer is not None
    assert answer.reported_usd is None
    assert "reported_usd" not in describe_cost(answer, PRICE)


def test_cost_and_cached_tokens_are_read_from_the_usage():
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "cost": 0.25, "prompt_tokens_details": {"cached_tokens": 8}}

    answer = interpret(json.dumps(make_completion("text") | {"usage": usage}).encode())

    assert answer is not None
    assert (answer.reported_usd, answer.cached_tokens) == (0.25, 8)


def test_without_a_price_the_tokens_are_known_and_the_cost_is_not():
    answer = Answer("ok", prompt_tokens=100, completion_tokens=10)

    assert cost_of_answer(answer, None) is None
    assert count_answer(answer, None, reserved=Amount(500, None)) == Amount(110, None)


@pytest.mark.parametrize("text", ["plain words", "ﷺ 汉字 🜁", "\ud800", "x" * 5000, ""])
def test_the_bound_of_a_prompt_is_a_token_for_each_byte(text):
    call = Call(({"role": "user", "content": text},), "openai/x", None, {"max_tokens": 50}, 1)

    bound = bound_amount(call, PRICE)

    assert bound.tokens >= len(text.encode(errors="replace")) + 50
    assert bound.usd is not None
    assert bound.usd >= 50 * 10 / 1e6


def test_an_attempt_whose_process_died_counts_with_its_response_or_as_reserved(tmp_path):
    ledger = DataRoot(tmp_path).calls
    silent, answered = ledger.begin("a" * 16, REQUEST), ledger.begin("a" * 16, REQUEST)
    answered.keep(json.dumps(make_completion("text")).encode())
    answered.seal()

    found = [read_spending(attempt, attempt.read_request()) for attempt in ledger.list_attempts("a" * 16)]

    assert [spending.usd for spending in found] == [None, pytest.approx((11 + 70) / 1e6)]
    assert [spending.most for spending in found] == [RESERVED, Amount(18, pytest.approx((11 + 70) / 1e6))]
    assert silent.number == 1


def test_a_later_price_does_not_change_what_was_paid(tmp_path):
    ledger = DataRoot(tmp_path).calls
    open_attempt = ledger.begin("a" * 16, {**REQUEST, "price": Price(99.0, 99.0, "settings").as_record()})
    outcome = {"status": "ok", "usage": {"prompt_tokens": 1, "completion_tokens": 1}, "cost": {"usd": 0.25}}
    attempt = open_attempt.finish(outcome)

    assert read_spending(attempt, attempt.read_request()).usd == 0.25
