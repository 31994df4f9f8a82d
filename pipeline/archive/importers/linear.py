"""Conversations that are a list: their messages have no ids, and a longer list with an equal beginning has grown.

A message's key is a hash of its content; equal messages count up: `3f09…`, `3f09…~2`. So a message keeps its key when
another one before it changes, and a copy in a fork has the key of what it was copied from.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.archive.conversations import Block, Conversation, Json, Kind, Message
from pipeline.archive.reading import hash_record
from pipeline.archive.trees import settle_tree

DUPLICATE_ID = "duplicate_id"
KEY_LENGTH = 20  # of 64 hex characters: equal for one of 10^12 pairs only if a conversation had 10^6 messages


def derive_id(*content: Json) -> str:
    """Return an id for a conversation whose source has none: a hash of what it begins with."""
    return hash_record(list(content))[:32]


def chain_messages(messages: list[Message]) -> None:
    """Make each message the child of the one before it, with its place as a key until it gets another."""
    for place, message in enumerate(messages):
        message.key = message.key or str(place)
        message.parent = messages[place - 1].key if place else None


def settle_list(conversation: Conversation, *, has_ids: bool = False) -> None:
    """Chain the messages, give each its key, and make the last one the leaf."""
    chain_messages(conversation.messages)
    give_keys(conversation, has_ids=has_ids)
    settle_tree(conversation, leaf=conversation.messages[-1].key if conversation.messages else None)
    fill_times(conversation)


def settle_path(conversation: Conversation, *, leaf: str | None) -> None:
    """Make a tree with the path to `leaf`; None: every turn was taken back, and there is no active path."""
    settle_tree(conversation, leaf=leaf)
    if leaf is None:
        conversation.active_leaf, conversation.is_leaf_guessed = None, False
        for message in conversation.messages:
            message.is_active = False


def give_keys(conversation: Conversation, *, has_ids: bool = False) -> dict[str, str]:
    """Give each message its key, also where others name it; return {key before: key}.

    `has_ids`: a native id is the key of the first message that has it; others get `id~2`, …, and are counted.
    """
    seen: Counter[str] = Counter()
    keys: dict[str, str] = {}
    for message in conversation.messages:
        named = message.native_id if has_ids else None
        key = named or hash_message(message)[:KEY_LENGTH]
        seen[key] += 1
        if named and seen[key] > 1:
            conversation.warnings[DUPLICATE_ID] = conversation.warnings.get(DUPLICATE_ID, 0) + 1
        keys[message.key] = key if seen[key] == 1 else f"{key}~{seen[key]}"
    for message in conversation.messages:
        message.key = keys[message.key]
        message.parent = keys.get(message.parent) if message.parent else None
        message.native_id = None if message.native_id == message.key else message.native_id
    for link in conversation.lineage:
        link.message = keys.get(link.message) if link.message else None
    return keys


def hash_message(message: Message) -> str:
    """Return the hash of what a message says. Times, models and where it came from are no part of it."""
    return hash_record(
        [message.role, message.author, [_describe(block) for block in message.blocks if _is_said(block)]]
    )


def fill_times(conversation: Conversation) -> None:
    """Where the source gives no times of the conversation, take those of its first and last message that have one."""
    times = [message.created for message in conversation.messages if message.created]
    if times:
        conversation.created = conversation.created or times[0]
        conversation.updated = conversation.updated or times[-1]


def _is_said(block: Block) -> bool:
    return block.kind != Kind.CONTEXT or block.origin is None  # settings beside what a person wrote may change


def _describe(block: Block) -> Any:
    file = block.attachment
    return [
        block.kind,
        block.text,
        block.tool_name,
        block.call_id,
        block.input,
        block.is_error,
        file and (file.id or file.name or file.url or file.blake3),
        block.raw,
    ]
