"""Lines of a Claude Code session: what each is, and which other line it follows."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pipeline.archive.conversations import Json
from pipeline.archive.importers.values import list_of, object_of, text_of

TALK = ("user", "assistant", "system")
# Types of lines that say something beside the talk, each with fields of which one must be there, too.
OTHER_TYPES: dict[str, tuple[str, ...]] = {
    "summary": ("summary", "leafUuid", "message"),
    "file-history-snapshot": ("snapshot", "messageId"),
    "file-history-delta": ("sessionId", "messageId", "delta"),
    "queue-operation": ("operation", "sessionId"),
    "custom-title": ("customTitle",),
    "ai-title": ("aiTitle",),
    "agent-name": ("agentName",),
    "progress": ("data", "parentUuid"),
    "result": ("sessionId", "session_id", "duration_ms", "usage"),
}
NOISE = ("progress", "file-history-snapshot", "file-history-delta")  # most lines, and copies of what others say
LINKS = ("type", "uuid", "parentUuid", "logicalParentUuid", "sessionId", "isSidechain", "agentId")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Numbered(NamedTuple):
    """A line with its physical number, from 1. What is no object stands for itself."""

    number: int
    value: Any


def is_line(value: Json) -> bool:
    """Whether a value is a line of a session, whoever may have left out a field."""
    line = object_of(value)
    kind = line.get("type")
    if "projectHash" in line or "payload" in line:
        return False  # of another tool, which knows a sessionId, too
    if "parentUuid" in line or "leafUuid" in line:
        return True
    if "sessionId" in line and ("message" in line or isinstance(kind, str)):
        return True
    if kind in ("user", "assistant"):
        return any(name in line for name in ("uuid", "cwd", "version", "message"))
    return isinstance(kind, str) and any(name in line for name in OTHER_TYPES.get(kind, ()))


def is_wrapper(value: Json) -> bool:
    """Whether a value is what the web exports: an object whose loglines are lines, which may lack every id."""
    lines = object_of(value).get("loglines")
    return isinstance(lines, list) and (not lines or any(is_line(line) or _is_bare(line) for line in lines[:32]))


def is_message(line: dict[str, Any]) -> bool:
    """Whether a line is a message of the session: user, assistant, system, or another type that carries one."""
    return line.get("type") in TALK or isinstance(line.get("message"), dict)


def is_copied_summary(line: dict[str, Any]) -> bool:
    """Whether a line is the summary that ends a replay made for compaction: it has an id and a message."""
    return line.get("type") == "summary" and isinstance(line.get("message"), dict) and "uuid" in line


def is_well_formed(line: dict[str, Any]) -> bool:
    """Whether a message is complete. Of two lines with one id, the first complete one counts."""
    if line.get("type") == "system":
        return isinstance(line.get("content"), str | list) or isinstance(line.get("message"), dict)
    return isinstance(object_of(line.get("message")).get("content"), str | list)


def trim_line(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line as a record keeps it: of noise, only what links other lines."""
    if line.get("type") not in NOISE:
        return line
    return {name: line[name] for name in LINKS if name in line}


def session_of(line: dict[str, Any]) -> str | None:
    return text_of(line.get("sessionId")) or text_of(line.get("session_id"))


def calls_of(line: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tool calls of a line, as they are."""
    content = list_of(object_of(line.get("message")).get("content"))
    return [block for block in content if isinstance(block, dict) and block.get("type") == "tool_use"]


def words_of(line: dict[str, Any]) -> str:
    """Return the text of a message line."""
    content = object_of(line.get("message")).get("content")
    if isinstance(content, str):
        return content
    return "\n".join(text_of(object_of(block).get("text")) or "" for block in list_of(content))


def _is_bare(value: Json) -> bool:
    """Whether a value is a line that has nothing but its type and its message."""
    line = object_of(value)
    return line.get("type") in TALK or "role" in object_of(line.get("message"))
