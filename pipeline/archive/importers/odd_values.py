"""What is odd in an export: counted among the warnings of its conversation, and kept as it was."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.archive.conversations import Conversation
from pipeline.archive.times import is_damaged_time, lacks_zone, read_time

UNKNOWN_TYPE = "unknown_type"
DAMAGED_TIME = "damaged_time"
TIME_WITHOUT_ZONE = "time_without_zone"  # taken for UTC


class ReadTime(NamedTuple):
    """A time in UTC, if it can be read, and what is odd about it."""

    time: str | None
    oddness: str | None  # DAMAGED_TIME, TIME_WITHOUT_ZONE


def warn(conversation: Conversation, what: str) -> None:
    conversation.warnings[what] = conversation.warnings.get(what, 0) + 1


def read_odd_time(value: Any) -> ReadTime:
    time = read_time(value)
    if time is None:
        return ReadTime(None, DAMAGED_TIME if is_damaged_time(value) else None)
    return ReadTime(time, TIME_WITHOUT_ZONE if lacks_zone(value) else None)


def read_noted_time(value: Any, conversation: Conversation, extra: dict[str, Any]) -> str | None:
    """Return a time in UTC. An odd one is counted, and kept in `extra` of the conversation or message it is of."""
    time, oddness = read_odd_time(value)
    if oddness:
        warn(conversation, oddness)
        extra[oddness] = value if oddness not in extra else [*_as_list(extra[oddness]), value]
    return time


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
