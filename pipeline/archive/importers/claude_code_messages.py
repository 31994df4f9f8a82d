"""Messages of a Claude Code session: each line of the talk becomes one, and what stands between them its context."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.archive.conversations import Block, Kind, Message, Origin, Role
from pipeline.archive.importers.claude_blocks import BlockReader
from pipeline.archive.importers.claude_code_lines import is_copied_summary, session_of
from pipeline.archive.importers.claude_code_words import attribute
from pipeline.archive.importers.odd_values import read_odd_time
from pipeline.archive.importers.values import (
    SECRETS,
    count_of,
    first_text,
    flag_of,
    object_of,
    objects_of,
    rest_of,
    text_of,
    without_secrets,
)

ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
BOUNDARIES = ("compact_boundary", "microcompact_boundary")
SYNTHETIC = "<synthetic>"  # stands for a model where the program wrote an answer, such as an error of the API
KNOWN = frozenset(
    {"type", "uuid", "parentUuid", "logicalParentUuid", "timestamp", "sessionId", "session_id", "isSidechain"}
    | {"isMeta", "isCompactSummary", "isVisibleInTranscriptOnly", "isApiErrorMessage"}
    | {"message", "requestId", "content", "toolUseResult"}
)
KNOWN_OF_MESSAGE = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage"})
LONG_DATA = 256  # characters of base64: the block beside it holds the same bytes
BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+=*")


class LineReader:
    """Turns the lines of one conversation into messages. `constants`: fields that are the conversation's own."""

    def __init__(self, extras: dict[str, bytes], warnings: Counter[str], constants: dict[str, Any]) -> None:
        self._warnings, self._constants = warnings, constants
        self._blocks = BlockReader(extras, warnings)

    def read_message(self, key: str, line: dict[str, Any]) -> Message:
        """Return a line as a message, still without its parent and its usage."""
        body = _body_of(line)
        role = self._choose_role(line, body)
        message = Message(
            key,
            role=role,
            status=text_of(body.get("stop_reason")),
            end_turn=True if body.get("stop_reason") == "end_turn" else None,
            group=_group_of(line),
            blocks=self._read_blocks(line, role),
            extra=self._list_rest(line, body),
        )
        message.created = self._read_time(line, message)
        if role == Role.ASSISTANT:
            message.model = text_of(body.get("model")) if body.get("model") != SYNTHETIC else None
        elif role == Role.USER:
            _attribute_user(message, line)
        self._read_outcome(message, line)
        message.hidden = message.hidden or _find_hidden(message, line)
        return message

    def _read_time(self, line: dict[str, Any], message: Message) -> str | None:
        time, oddness = read_odd_time(line.get("timestamp"))
        if oddness:
            self._warnings[oddness] += 1
            message.extra["timestamp"] = line["timestamp"]
        return time

    def read_context(self, line: dict[str, Any]) -> Block:
        """Return what a line between messages gave to the model."""
        if line.get("type") == "queue-operation":
            text, raw, origin = (
                _find_words(line.get("content")),
                rest_of(line, ("type", "sessionId")),
                Origin.NOTIFICATION,
            )
        else:
            attachment = line.get("attachment")
            text, raw = _find_words(attachment), without_data(attachment)
            origin = Origin.RUNTIME_CONTEXT
        return Block(Kind.CONTEXT, text=text, raw=without_secrets(raw), origin=origin, flags=[str(line.get("type"))])

    def _choose_role(self, line: dict[str, Any], body: dict[str, Any]) -> Role:
        role = ROLES.get(str(line.get("type"))) or ROLES.get(str(body.get("role")))
        if is_copied_summary(line):
            return Role.SYSTEM
        if role is None:
            self._warnings["unknown_role"] += 1
        return role or Role.UNKNOWN

    def _read_blocks(self, line: dict[str, Any], role: Role) -> list[Block]:
        body = line.get("message")
        content = body.get("content") if isinstance(body, dict) else None
        if content is None and role == Role.SYSTEM:
            content = line.get("content")
            return self._blocks.read(content)
        if isinstance(content, str | list):
            return self._blocks.read(content)
        self._warnings["malformed_message"] += 1
        if isinstance(body, str):
            return [Block(Kind.TEXT, text=body, flags=["malformed"])]
        raw = body if body is not None else line
        return [self._blocks.read_unknown(raw, flag="malformed")]

    def _list_rest(self, line: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """Return fields of a line that are neither known nor those of the whole conversation."""
        rest = {
            name: value
            for name, value in rest_of(line, KNOWN).items()
            if value not in (False, "", [], {}) and (name not in self._constants or value != self._constants[name])
        }
        rest |= {name: value for name, value in rest_of(body, KNOWN_OF_MESSAGE).items() if value not in ([], {})}
        if body.get("model") == SYNTHETIC:
            rest["model"] = SYNTHETIC
        if line.get("isApiErrorMessage") is True:
            rest["isApiErrorMessage"] = True
        return rest

    def _read_outcome(self, message: Message, line: dict[str, Any]) -> None:
        """Add what the program recorded of a tool's run. It repeats the block, which alone is shown."""
        outcome = line.get("toolUseResult")
        if line.get("isApiErrorMessage") is True:
            for block in message.blocks:
                block.flags.append("error")
        if outcome is None:
            return
        results = [block for block in message.blocks if block.kind == Kind.TOOL_RESULT]
        if len(results) != 1:
            message.extra["toolUseResult"] = without_data(outcome)
            return
        (result,) = results
        result.extra["toolUseResult"] = without_data(outcome)
        fields = object_of(outcome)
        result.exit_code = _find_exit_code(fields)
        if result.is_error is None and result.exit_code is not None:
            result.is_error = result.exit_code != 0
        if flag_of(fields.get("interrupted")):
            result.flags.append("interrupted")
        if (agent := text_of(fields.get("agentId"))) and (session := session_of(line)):
            result.extra["sub_agent"] = f"{session}:agent-{agent}"  # the native id of its conversation


def _attribute_user(message: Message, line: dict[str, Any]) -> None:
    """Say who really wrote a message of the role user, and each of its blocks where they differ."""
    if message.blocks and all(block.kind == Kind.TOOL_RESULT or block.call_id for block in message.blocks):
        message.role = Role.TOOL
        return
    blocks: list[Block] = []
    for block in message.blocks:
        if block.kind == Kind.TEXT:
            blocks += attribute(block)
            continue
        block.origin = Origin.TOOL_RESULT if block.call_id else block.origin or Origin.HUMAN
        blocks.append(block)
    message.blocks = blocks
    message.origin = _choose_origin(blocks, line)
    for block in blocks:
        block.origin = None if block.origin == message.origin or _is_whole(line) else block.origin


def _choose_origin(blocks: Sequence[Block], line: dict[str, Any]) -> str:
    if line.get("isCompactSummary") is True:
        return Origin.COMPACTION_SUMMARY
    if "notification" in str(object_of(line.get("origin")).get("kind")):
        return Origin.NOTIFICATION
    origins = [block.origin for block in blocks if block.origin]
    if line.get("isMeta") is True:
        return next((origin for origin in origins if origin != Origin.HUMAN), Origin.RUNTIME_CONTEXT)
    return Origin.HUMAN if Origin.HUMAN in origins or not origins else origins[0]


def _is_whole(line: dict[str, Any]) -> bool:
    """Whether a line's own fields say whose it is, all of it."""
    return line.get("isCompactSummary") is True or line.get("isMeta") is True


def _find_hidden(message: Message, line: dict[str, Any]) -> str | None:
    if is_copied_summary(line) or line.get("isCompactSummary") is True:
        return "compaction summary"
    if line.get("isMeta") is True or line.get("isVisibleInTranscriptOnly") is True:
        return "meta"
    if message.role == Role.SYSTEM and (line.get("subtype") in BOUNDARIES or not _find_words(line.get("content"))):
        return "meta"
    by_origin = {Origin.NOTIFICATION: "notification", Origin.RUNTIME_CONTEXT: "context"}
    is_interrupt = any("interrupted" in block.flags for block in message.blocks)
    return None if is_interrupt or message.origin is None else by_origin.get(Origin(message.origin))


def _body_of(line: dict[str, Any]) -> dict[str, Any]:
    return object_of(line.get("message"))


def _group_of(line: dict[str, Any]) -> str | None:
    """Return what all lines of one answer share: the writer makes a line of each block."""
    answer = text_of(_body_of(line).get("id"))
    return "/".join(filter(None, (answer, text_of(line.get("requestId"))))) if answer else None


def _find_exit_code(outcome: dict[str, Any]) -> int | None:
    code = outcome.get("exitCode", outcome.get("exit_code"))
    return code if isinstance(code, int) and not isinstance(code, bool) else count_of(code)


def _find_words(value: Any) -> str | None:
    """Return the text of a value that may be one, or hold one."""
    if isinstance(value, list):
        texts = [text for item in value if (text := _find_words(item))]
        return "\n".join(texts) or None
    fields = object_of(value)
    return first_text(value, fields.get("text"), fields.get("content"), fields.get("message"), fields.get("prompt"))


def without_data(value: Any) -> Any:
    """Return JSON without long base64 data and secrets."""
    if isinstance(value, list):
        return [without_data(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _shorten(name, item) for name, item in value.items() if name not in SECRETS}


def _shorten(name: str, item: Any) -> Any:
    if name in ("data", "base64") and isinstance(item, str) and len(item) > LONG_DATA and BASE64.fullmatch(item):
        return f"({len(item)} characters of base64)"
    return without_data(item)


def list_usages(lines: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (key of the message, usage id, usage) of each answer once: of its line with most output, the last.

    An answer is known by its message's id and its request's. A line that lacks the request has that of the others.
    """
    best: dict[str, tuple[int, str, dict[str, Any]]] = {}
    group_by_answer = {text_of(_body_of(line).get("id")): _group_of(line) for _, line in lines if line.get("requestId")}
    for key, line in lines:
        usage = _body_of(line).get("usage")
        if not isinstance(usage, dict) or not usage:
            continue
        group = _group_of(line)
        if group and not line.get("requestId"):
            group = group_by_answer.get(group, group)
        usage_id = group or key
        written = count_of(usage.get("output_tokens")) or 0
        if usage_id not in best or written >= best[usage_id][0]:
            best[usage_id] = (written, key, usage)
    return [(key, usage_id, usage) for usage_id, (_, key, usage) in best.items()]


def list_texts(lines: Sequence[dict[str, Any]], kind: str, name: str) -> list[str]:
    """Return what all lines of a type say in one field."""
    return [text for line in objects_of(list(lines)) if line.get("type") == kind and (text := text_of(line.get(name)))]
