"""Whether and when a call is asked again. Pure but for the clock; knows nothing of providers, files or HTTP.

    classify        what a failure means: asked again in this run, by the next build, or only when a person says so
    Tries           the tries of one call: how long to wait before the next, None when there is none
    Breaker         one place that calls go to: after many failures in a row one probe at a time finds out if it is back
    Refusals        places that let nobody in, as with a wrong key: after a few in a row this run leaves them alone

A try is money, so it takes three things: a failure that may pass, a try left, and time left.
"""

from __future__ import annotations

import email.utils
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from pipeline.answers import Transport

LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 120.0  # what providers ask for beyond it is cut to it: the next try will tell
ABSURD_RETRY_AFTER_SECONDS = 86_400.0  # beyond a day it is a mistake, and is not followed at all

FAILURES_TO_OPEN = 10  # in a row, of one place
REFUSALS_TO_LEAVE = 3  # in a row, of one place
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 60.0


class Again(Enum):
    """When a call is asked again after an attempt."""

    NEVER = "never"  # it is answered
    IN_THIS_RUN = "in this run"  # and by each next build
    NEXT_BUILD = "next build"  # its cure lies outside the call: a key, money, a setting of this machine
    WHEN_NAMED = "when named"  # by `build --retry`: the same request would have the same end


AGAIN_BY_REASON = {
    "rate_limit": Again.IN_THIS_RUN,
    "transport": Again.IN_THIS_RUN,
    "no_connection": Again.IN_THIS_RUN,
    "provider": Again.IN_THIS_RUN,
    "unknown_finish": Again.IN_THIS_RUN,
    "tool_calls": Again.IN_THIS_RUN,
    "no_choices": Again.IN_THIS_RUN,
    "empty": Again.IN_THIS_RUN,
    "bad_body": Again.IN_THIS_RUN,
    "cut_body": Again.IN_THIS_RUN,
    "auth": Again.NEXT_BUILD,
    "budget": Again.NEXT_BUILD,
    "key_in_prompt": Again.NEXT_BUILD,
    "bad_request": Again.WHEN_NAMED,
    "bad_params": Again.WHEN_NAMED,
    "context_overflow": Again.WHEN_NAMED,
    "refused": Again.WHEN_NAMED,
}
# What says that a place is down, and not only that one answer was bad.
DOWN_REASONS = frozenset({"transport", "no_connection"})
REFUSING_REASONS = frozenset({"auth", "budget"})


def classify(status: str, reason: str | None, *, was_sent: bool) -> Again:
    """Return when a call is asked again. A reason that nobody knows counts for the next build.

    What was never sent cost nothing, and its cure may be a setting of this machine: the next build tries again.
    """
    if status == "ok":
        return Again.NEVER
    if status == "truncated":
        return Again.WHEN_NAMED
    again = AGAIN_BY_REASON.get(reason or "", Again.NEXT_BUILD)
    return Again.NEXT_BUILD if again is Again.WHEN_NAMED and not was_sent else again


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that a provider asks to wait, at most LONGEST_RETRY_AFTER_SECONDS; None without a usable wish.

    "7" -> 7.0, "Wed, 21 Oct 2026 07:28:00 GMT" -> the seconds until then; negative and absurd values -> None.
    """
    text = headers.get("retry-after", "").strip()
    seconds = _read_seconds(text)
    if seconds is None:
        seconds = _read_seconds_until(text, now)
    if seconds is None or not 0 <= seconds <= ABSURD_RETRY_AFTER_SECONDS:
        return None
    return min(seconds, LONGEST_RETRY_AFTER_SECONDS)


def _read_seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _read_seconds_until(text: str, now: datetime) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()


@dataclass
class Tries:
    """The tries of one call in one run. `monotonic` gives seconds, `chance` a number from 0 to 1."""

    transport: Transport
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    failures: int = 0
    ends_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.ends_at = self.monotonic() + self.transport.deadline_seconds

    def find_wait(self, again: Again, retry_after: float | None) -> float | None:
        """Return the seconds to wait before the next try; None if there is to be none.

        Waits double from backoff_seconds, by chance between nothing and all of it, so that calls which failed
        together do not come back together. What the provider asks for is waited for in full, and a little more.
        """
        self.failures += 1
        if again is not Again.IN_THIS_RUN or self.failures > self.transport.retries:
            return None
        longest = min(LONGEST_BACKOFF_SECONDS, self.transport.backoff_seconds * 2.0 ** (self.failures - 1))
        seconds = (retry_after or 0.0) + longest * self.chance()
        return seconds if self.monotonic() + seconds < self.ends_at else None


class Breaker:
    """One place that calls go to. Closed, it lets every call through.

    After FAILURES_TO_OPEN failures in a row that say the place is down it opens: calls wait, after a pause one goes
    through as a probe, and its end closes the breaker for all or begins a pause twice as long.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._failures = 0
        self._pause_seconds = 0.0  # 0: closed
        self._opens_at = 0.0
        self._has_probe = False

    def enter(self, ends_at: float) -> bool:
        """Wait until a call may go through, at most until `ends_at`; return whether it may."""
        with self._changed:
            while self._pause_seconds:
                now = self._monotonic()
                if not self._has_probe and now >= self._opens_at:
                    self._has_probe = True
                    return True
                if now >= ends_at:
                    return False
                until = ends_at if self._has_probe else min(ends_at, self._opens_at)
                self._changed.wait(max(0.0, until - now))
            return True

    def leave(self, *, is_down: bool | None) -> None:
        """Note how a call ended; None if that says nothing about the place, as after an error of our own."""
        with self._changed:
            self._has_probe = False
            if is_down:
                self._note_failure()
            elif is_down is not None:
                self._failures, self._pause_seconds = 0, 0.0
            self._changed.notify_all()

    def _note_failure(self) -> None:
        self._failures += 1
        now = self._monotonic()
        if self._failures >= FAILURES_TO_OPEN and now >= self._opens_at:  # not for calls that were under way
            self._pause_seconds = min(LONGEST_PAUSE_SECONDS, self._pause_seconds * 2 or FIRST_PAUSE_SECONDS)
            self._opens_at = now + self._pause_seconds


class Refusals:
    """Places that refuse whatever they are asked, because of the key or of the account.

    After REFUSALS_TO_LEAVE in a row, without one answer in between, a place is left alone for the rest of the run. One
    is not enough: some providers refuse a single prompt with the status of a wrong key.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._in_a_row: defaultdict[str, int] = defaultdict(int)
        self._left: dict[str, str] = {}

    def note(self, place: str, reason: str | None, why: str) -> None:
        """Note how a call ended; `why` is what a person is told of it."""
        with self._guard:
            self._in_a_row[place] = self._in_a_row[place] + 1 if reason in REFUSING_REASONS else 0
            if self._in_a_row[place] >= REFUSALS_TO_LEAVE:
                self._left.setdefault(place, why)

    def find_why(self, place: str) -> str | None:
        """Return why a place is left alone; None if it is not."""
        with self._guard:
            return self._left.get(place)


class Breakers:
    """The breakers of a process, one for each place."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_place: defaultdict[str, Breaker] = defaultdict(Breaker)

    def of(self, place: str) -> Breaker:
        with self._guard:
            return self._by_place[place]
