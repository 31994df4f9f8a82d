"""Tokens of a Codex session. It counts up as it goes, says its totals again and again, and may begin anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.archive.conversations import Usage
from pipeline.archive.importers.values import count_of, object_of

FIELDS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cached_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}
Total = dict[str, int]


class UsageCounter:
    """Takes the counts in the order of the file.

    A total replaces the one before it, unless it is smaller: then the session was resumed, and the two are added. What
    an ancestor used before a fork is its own, so `leave_behind` makes the present total the zero.
    """

    def __init__(self) -> None:
        self.before: Total = {}  # of segments that ended with a restart
        self.now: Total = {}
        self.inherited: Total = {}

    def add(self, payload: dict[str, Any]) -> None:
        """Take a token_count. Without `info` it is about rate limits only."""
        info = payload.get("info")
        if isinstance(info, dict):
            total = _read(info.get("total_token_usage"))
            last = _read(info.get("last_token_usage"))
            self._take(total) if total else self._take(_sum([self.now, last]))
        elif "info" not in payload:
            self._take(_read(payload))

    def leave_behind(self) -> None:
        self.inherited = _sum([self.before, self.now])

    def usage(self) -> Usage | None:
        total = _sum([self.before, self.now])
        own = {name: count - self.inherited.get(name, 0) for name, count in total.items()}
        return Usage(**own, input_includes_cached=True) if any(own.values()) else None  # type: ignore[arg-type]

    def _take(self, total: Total) -> None:
        if not total:
            return
        if any(count < self.now.get(name, 0) for name, count in total.items()):
            self.before = _sum([self.before, self.now])
        self.now = total


def _read(value: Any) -> Total:
    record = object_of(value)
    counts = {name: count_of(record.get(theirs)) for name, theirs in FIELDS.items()}
    return {name: count for name, count in counts.items() if count is not None}


def _sum(totals: Iterable[Total]) -> Total:
    result: Total = {}
    for total in totals:
        for name, count in total.items():
            result[name] = result.get(name, 0) + count
    return result
