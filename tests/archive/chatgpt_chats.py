"""Conversations as ChatGPT exports them, made for tests: each node hangs on the one before unless it says otherwise."""

from __future__ import annotations

from typing import Any

from pipeline.archive.conversations import Block, Conversation, Kind, Message
from pipeline.archive.importers.chatgpt import ChatGptImporter
from tests.archive.members import import_alone

NOON = 1767268800  # 2026-01-01T12:00:00Z
IMPORTER = ChatGptImporter()


def make_text(*parts: Any) -> dict[str, Any]:
    return {"content_type": "text", "parts": list(parts)}


def make_message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    if isinstance(content, str):
        content = make_text(content)
    return {"author": {"role": role}, "create_time": NOON, "content": content, "metadata": {}, **fields}


def make_node(key: str, parent: str | None, message: Any) -> dict[str, Any]:
    message = {"id": key, **message} if isinstance(message, dict) else message
    return {"id": key, "parent": parent, "children": [], "message": message}


def make_chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a conversation of messages in a chain: root, m1, m2, …; the last is shown."""
    keys = ["root", *(f"m{number}" for number in range(1, len(messages) + 1))]
    mapping = {"root": make_node("root", None, None)}
    for parent, key, message in zip(keys, keys[1:], messages, strict=False):
        mapping[key] = make_node(key, parent, message)
        mapping[parent]["children"].append(key)
    return {
        "conversation_id": "chat-1",
        "title": "A chat",
        "create_time": NOON,
        "mapping": mapping,
        "current_node": keys[-1],
        **fields,
    }


def read_chat(*messages: dict[str, Any], **fields: Any) -> Conversation:
    return import_alone(IMPORTER, make_chat(*messages, **fields))


def read_message(role: str, content: Any, **fields: Any) -> Message:
    """Return the message that stands alone in a conversation."""
    (message,) = read_chat(make_message(role, content, **fields)).messages
    return message


def read_blocks_of(role: str, content: Any, **fields: Any) -> list[Block]:
    return read_message(role, content, **fields).blocks


def list_kinds(message: Message) -> list[str]:
    return [str(block.kind) for block in message.blocks]


def message_of(conversation: Conversation, key: str) -> Message:
    return next(message for message in conversation.messages if message.key == key)


def list_blocks(conversation: Conversation, kind: Kind) -> list[Block]:
    return [block for message in conversation.messages for block in message.blocks if block.kind == kind]
