"""Checkpoints of the Gemini command line: what `/chat save` writes, as the model was given it.

    checkpoint-<tag>.json    [{"role", "parts"}, …], of newer versions {"history": [these], …}

The first messages tell the model where it is. A checkpoint has no id and no times; a later one of the same chat
begins with the same messages. Knows nothing of sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.archive.conversations import Block, Conversation, Kind, Message, Origin, Role
from pipeline.archive.importers.interface import Record
from pipeline.archive.importers.linear import derive_id, settle_list
from pipeline.archive.importers.odd_values import UNKNOWN_TYPE, warn
from pipeline.archive.importers.values import list_of, object_of, objects_of, rest_of, text_of, without_secrets
from pipeline.archive.titles import choose_title

PROVIDER = "gemini_cli"
SETUP = ("This is the Gemini CLI.", "<session_context>")  # what the program says first, in the name of the user
ROLES = {"user": Role.USER, "model": Role.ASSISTANT}

ReadPiece = Callable[[Any], Block | None]


def is_checkpoint(value: Any) -> bool:
    """Whether a value is a checkpoint. A bare list is one only if it begins with what this program says."""
    if isinstance(value, dict):
        return any(map(_is_content, list_of(value.get("history"))))
    contents = list_of(value)
    return bool(contents) and _is_content(contents[0]) and _is_setup(contents[0])


def make_checkpoint_record(value: Any, place: str) -> Record:
    begin: list[Any] = []
    for content in _contents_of(value):
        begin.append(without_secrets(content))
        if object_of(content).get("role") == "user" and not _is_setup(content):
            break
    return Record(derive_id(PROVIDER, begin), place, value, {"is_checkpoint": True})


def parse_checkpoint(record: Record, read_piece: ReadPiece) -> Conversation:
    """Return the conversation of a checkpoint. `read_piece` makes a block of a part."""
    conversation = Conversation(PROVIDER, record.key, is_id_derived=True, is_append_only=True)
    conversation.extra = rest_of(object_of(record.value), ("history",))
    for content in _contents_of(record.value):
        conversation.messages.append(_read_content(content, conversation, read_piece))
    settle_list(conversation)
    choose_title(conversation)
    return conversation


def _contents_of(value: Any) -> Sequence[Any]:
    return list_of(object_of(value).get("history")) if isinstance(value, dict) else list_of(value)


def _is_content(value: Any) -> bool:
    content = object_of(value)
    return content.get("role") in ROLES and isinstance(content.get("parts"), list)


def _is_setup(value: Any) -> bool:
    parts = objects_of(object_of(value).get("parts"))
    return bool(parts) and (text_of(parts[0].get("text")) or "").lstrip().startswith(SETUP)


def _read_content(value: Any, conversation: Conversation, read_piece: ReadPiece) -> Message:
    content = object_of(value)
    message = Message(
        "", role=ROLES.get(str(content.get("role")), Role.UNKNOWN), extra=rest_of(content, ("role", "parts"))
    )
    message.blocks = [block for part in list_of(content.get("parts")) if (block := read_piece(part))]
    if not _is_content(value):
        warn(conversation, UNKNOWN_TYPE)
        message.blocks.append(Block(Kind.CONTEXT, flags=[UNKNOWN_TYPE], raw=without_secrets(value)))
    elif (
        message.role == Role.USER and message.blocks and all(block.kind == Kind.TOOL_RESULT for block in message.blocks)
    ):
        message.role = Role.TOOL
    elif message.role == Role.USER and _is_setup(value):
        message.origin, message.hidden = Origin.RUNTIME_CONTEXT, "context"
    elif message.role == Role.USER:
        message.origin = Origin.HUMAN
    return message
