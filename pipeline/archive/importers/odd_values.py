"""What is odd in an export: counted among the warnings of its conversation, and kept as it was."""

from __future__ import annotations

from typing import Any

from pipeline.archive.conversations import Conversation
from pipeline.archive.times import is_damaged_time, read_time

UNKNOWN_TYPE = "unknown_type"
DAMAGED_TIME = "damaged_time"
TIME_WITHOUT_ZONE = "time_without_zone"  # taken for UTC


def warn(conversation: Conversation, what: str) -> None:
    conversation.warnings[what] = conversation.warnings.get(what, 0) + 1


def read_noted_time(value: Any, conversation: Conversation, extra: dict[str, Any]) -> str | None:
    """Return a time in UTC. A damaged one is counted, and kept in `extra` of the conversation or message it is of."""
    time = read_time(value)
    if time is None and is_damaged_time(value):
        warn(conversation, DAMAGED_TIME)
        extra[DAMAGED_TIME] = value
    return time
