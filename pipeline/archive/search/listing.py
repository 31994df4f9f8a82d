"""Lists of conversations, and one conversation in full: as plain JSON, for people and programs."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from pipeline.archive.conversations import to_json
from pipeline.archive.notes import Note
from pipeline.archive.search import Filters, as_object, check_filters, list_conditions
from pipeline.archive.views import View

Json = dict[str, Any]

_NO_LIMIT = -1  # as SQLite has it


def list_conversations(connection: sqlite3.Connection, filters: Filters, *, limit: int | None = None) -> list[Json]:
    """Return the conversations that have what the filters ask for, the latest first."""
    check_filters(connection, filters)
    conditions, values = list_conditions("conversations", filters)
    cursor = connection.execute(
        "SELECT conversations.*, (SELECT json_group_array(tag) FROM (SELECT tag FROM tags"
        " WHERE tags.conversation_id = conversations.conversation_id ORDER BY tag)) AS tags,"
        " (SELECT json_group_array(doc_id) FROM (SELECT doc_id FROM versions"
        " WHERE versions.conversation_id = conversations.conversation_id ORDER BY position)) AS versions"
        f" FROM conversations {'WHERE' if conditions else ''} {' AND '.join(conditions)}"
        " ORDER BY coalesce(updated, created) IS NULL, coalesce(updated, created) DESC, conversation_id LIMIT ?",
        [*values, _NO_LIMIT if limit is None else limit],
    )
    return [_describe_row(as_object(cursor, row)) for row in cursor]


def _describe_row(row: Json) -> Json:
    return {
        "id": row["conversation_id"],
        **{name: row[name] for name in ("provider", "account", "native_id", "title", "title_source")},
        **{name: row[name] for name in ("created", "updated")},
        "models": json.loads(row["models"]),
        "project": row["project_name"],
        "messages": {
            "all": {"total": row["messages"], **json.loads(row["messages_by_role"])},
            "active": {"total": row["active_messages"], **json.loads(row["active_messages_by_role"])},
            "gone": row["gone_messages"],
        },
        "branches": row["branches"],
        "attachments": {
            "with_bytes": row["attachments_with_bytes"],
            "without_bytes": row["attachments_without_bytes"],
        },
        **{name: row[name] for name in ("thinking_blocks", "tool_uses", "tool_results")},
        **{name: row[name] for name in ("is_gone", "is_migrated", "conflicts")},
        "versions": json.loads(row["versions"]),
        "tags": json.loads(row["tags"]),
        "note": row["note"],
    }


def list_unreadable(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return (conversation_id, problem) of the conversations that could not be read."""
    return connection.execute("SELECT conversation_id, problem FROM unreadable ORDER BY 1").fetchall()


def describe_view(view: View, note: Note) -> Json:
    """Return the whole neutral structure of a conversation, with what is known of it besides."""
    conversation = to_json(view.conversation)
    if note.title:
        conversation |= {"title": note.title, "title_source": "note"}
    return {
        "id": view.conversation_id,
        "versions": list(view.versions),
        "is_gone": view.is_gone,
        "conflicts": list(view.conflicts),
        "tags": list(note.tags),
        "note": note.text,
        **conversation,
    }
