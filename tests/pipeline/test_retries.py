"""What is asked again, when, and by whose leave."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipeline.answers import Transport
from pipeline.retries import FAILURES_TO_OPEN, Again, Breaker, Breakers, Tries, classify, read_retry_after
from tests.provider_server import FAULTS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_FROM_NOW = 1e9


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def make_tries(clock: Clock | None = None, *, chance: float = 1.0, **settings: float) -> Tries:
    transport = replace(Transport(backoff_seconds=1, retries=4, deadline_seconds=1000), **settings)
    return Tries(transport, clock or Clock(), lambda: chance)


# When a call is asked again


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_says_when_it_is_asked_again(name: str) -> None:
    fault = FAULTS[name]

    assert classify(fault.status, fault.reason, was_sent=True).value == fault.again


@pytest.mark.parametrize("reason", ["bad_request", "bad_params", "context_overflow", "refused"])
def test_what_was_never_sent_is_tried_again_by_the_next_build(reason: str) -> None:
    assert classify("gen_error", reason, was_sent=False) is Again.NEXT_BUILD


def test_a_reason_of_tomorrow_is_tried_again_by_the_next_build() -> None:
    assert classify("gen_error", "tomorrow", was_sent=True) is Again.NEXT_BUILD


# How long to wait


def test_waits_double_and_end_with_the_tries() -> None:
    tries = make_tries()

    assert [tries.find_wait(Again.IN_THIS_RUN, None) for _ in range(5)] == [1, 2, 4, 8, None]


def test_waits_are_capped_and_by_chance_down_to_nothing() -> None:
    assert make_tries(backoff_seconds=500).find_wait(Again.IN_THIS_RUN, None) == 60
    assert make_tries(chance=0.0).find_wait(Again.IN_THIS_RUN, None) == 0


def test_what_the_provider_asks_for_is_waited_for_in_full() -> None:
    assert make_tries(chance=0.0).find_wait(Again.IN_THIS_RUN, 7.0) == 7
    assert make_tries(chance=0.5).find_wait(Again.IN_THIS_RUN, 7.0) == 7.5


def test_no_try_begins_after_the_deadline() -> None:
    clock = Clock()
    tries = make_tries(clock, deadline_seconds=10)

    clock.seconds += 5

    assert tries.find_wait(Again.IN_THIS_RUN, 6.0) is None
    assert tries.find_wait(Again.IN_THIS_RUN, 1.0) == 3


@pytest.mark.parametrize("again", [Again.NEVER, Again.NEXT_BUILD, Again.WHEN_NAMED])
def test_what_cannot_pass_is_not_tried_again(again: Again) -> None:
    assert make_tries().find_wait(again, None) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7), ("0", 0), (" 1.5 ", 1.5), ("121", 120), ("86400", 120), ("1e9", None), ("86401", None), ("-1", None),
        ("nan", None), ("inf", None), ("soon", None), ("", None),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW + timedelta(hours=3), usegmt=True), 120),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), None),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), None),
    ],
)  # fmt: skip
def test_retry_after_is_read_capped_and_refused_where_absurd(text: str, seconds: float | None) -> None:
    assert read_retry_after({"retry-after": text}, NOW) == seconds


def test_no_retry_after_is_none() -> None:
    assert read_retry_after({}, NOW) is None


# The breaker


def fail(breaker: Breaker, times: int = FAILURES_TO_OPEN) -> None:
    for _ in range(times):
        assert breaker.enter(0)
        breaker.leave(is_down=True)


def test_a_place_that_fails_often_in_a_row_is_left_alone() -> None:
    breaker = Breaker(Clock())

    fail(breaker)

    assert not breaker.enter(0)


def test_one_answer_in_between_keeps_the_breaker_closed() -> None:
    breaker = Breaker(Clock())

    fail(breaker, FAILURES_TO_OPEN - 1)
    breaker.leave(is_down=False)
    fail(breaker, FAILURES_TO_OPEN - 1)

    assert breaker.enter(0)


def test_after_the_pause_one_probe_goes_through_and_its_answer_closes_the_breaker() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker)

    clock.seconds += 3

    assert breaker.enter(LONG_FROM_NOW)
    assert not breaker.enter(0)
    breaker.leave(is_down=False)
    assert breaker.enter(0)
    assert breaker.enter(0)


def test_a_probe_that_fails_doubles_the_pause() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker)
    clock.seconds += 3
    fail(breaker, 1)

    clock.seconds += 3
    assert not breaker.enter(0)
    clock.seconds += 2
    assert breaker.enter(0)


def test_a_probe_that_ends_with_an_error_of_our_own_leaves_its_place_to_the_next() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker)
    clock.seconds += 3

    assert breaker.enter(0)
    breaker.leave(is_down=None)

    assert breaker.enter(0)


def test_calls_that_wait_go_on_when_the_probe_is_answered() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker)
    clock.seconds += 3
    assert breaker.enter(0)
    entered: list[bool] = []
    threads = [threading.Thread(target=lambda: entered.append(breaker.enter(clock.seconds + 60))) for _ in range(4)]
    for thread in threads:
        thread.start()

    breaker.leave(is_down=False)

    for thread in threads:
        thread.join(timeout=30)
    assert entered == [True] * 4


def test_each_place_has_a_breaker_of_its_own() -> None:
    breakers = Breakers()

    fail(breakers.of("here"))

    assert not breakers.of("here").enter(0)
    assert breakers.of("there").enter(0)
