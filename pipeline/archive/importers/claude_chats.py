"""Chats of Claude.ai, from its export or its API: one value of a file becomes a conversation."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipeline.archive.conversations import Conversation
from pipeline.archive.importers.claude_artifacts import add_artifacts
from pipeline.archive.importers.claude_calls import pair_calls
from pipeline.archive.importers.claude_messages import (
    MessageReader,
    drop_empty,
    find_leaf,
    read_chat_time,
)
from pipeline.archive.importers.claude_projects import attach_project
from pipeline.archive.importers.interface import Parsed, Record
from pipeline.archive.importers.values import first_text, id_of, list_of, object_of, odd_of, rest_of, text_of
from pipeline.archive.titles import choose_title
from pipeline.archive.trees import settle_tree

PROVIDER = "claude"
KNOWN = frozenset(
    {"uuid", "name", "title", "created_at", "updated_at", "account", "model", "settings", "chat_messages"}
    | {"is_starred", "is_temporary", "project_uuid", "project", "current_leaf_message_uuid"}
)
KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["uuid", "name", "title", "model", "project_uuid", "current_leaf_message_uuid"], str),
    **dict.fromkeys(["account", "project"], dict),
    **dict.fromkeys(["is_starred", "is_temporary"], bool),
}
LONGEST_TITLE = 200  # characters of a summary in one line; longer ones are articles about the chat


def parse_chat(record: Record) -> Parsed:
    """Return the conversation of a chat, and the files that stood in it."""
    chat, context = object_of(record.value), object_of(record.context)
    warnings: Counter[str] = Counter()
    extras: dict[str, bytes] = {}
    conversation = _read_facts(chat, context, record.key, warnings)
    MessageReader(conversation, warnings, extras).read(list_of(chat.get("chat_messages")))
    leaf, is_guess = find_leaf(conversation, text_of(chat.get("current_leaf_message_uuid")))
    settle_tree(conversation, leaf=leaf)
    conversation.is_leaf_guessed = is_guess
    pair_calls(conversation.messages)
    add_artifacts(conversation.messages, extras, warnings)
    attach_project(conversation, object_of(context.get("project")), extras)
    summary = text_of(chat.get("summary"))
    choose_title(
        conversation,
        (first_text(chat.get("name"), chat.get("title")), "provider"),
        (summary if summary and _is_title(summary) else None, "summary"),
    )
    return Parsed(conversation, extras)


def _read_facts(chat: dict[str, Any], context: dict[str, Any], key: str, warnings: Counter[str]) -> Conversation:
    project = object_of(chat.get("project"))
    flags = ("starred", "is_starred"), ("temporary", "is_temporary")
    conversation = Conversation(
        PROVIDER,
        key,
        is_id_derived=id_of(chat.get("uuid")) != key,
        account=first_text(object_of(chat.get("account")).get("uuid"), context.get("account")),
        model=text_of(chat.get("model")),
        project_id=first_text(chat.get("project_uuid"), project.get("uuid")),
        project_name=text_of(project.get("name")),
        flags=[flag for flag, name in flags if chat.get(name) is True],
        settings=chat.get("settings") or None,
        warnings=warnings,
        extra=drop_empty(rest_of(chat, KNOWN) | odd_of(chat, KIND_BY_FIELD)),
    )
    if more := rest_of(project, ("uuid", "name")) | odd_of(project, {"uuid": str, "name": str}):
        conversation.extra["project"] = more
    conversation.created = read_chat_time(chat, "created_at", conversation.extra, warnings)
    conversation.updated = read_chat_time(chat, "updated_at", conversation.extra, warnings)
    return conversation


def _is_title(summary: str) -> bool:
    return "\n" not in summary.strip() and len(summary) <= LONGEST_TITLE
