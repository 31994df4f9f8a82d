"""The tables of the index: what stands in them, and how documents and views are written into them.

    documents ─ parents                               every document of every stage, and what it was made from
    conversations ─ versions, messages, attachments   every view; `unreadable` names those that are damaged
    notes ─ tags                                      what people wrote beside them
    documents_fts, conversations_fts, messages_fts    the words of their texts

A row says nothing that the store does not say. Rows are deleted and written whole, so that the order in which
documents came leaves no trace: see `dump_tables`. Foreign keys tell programs that show tables where a row leads; nobody
is held to them, for a note outlives its conversation.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.archive.conversations import Attachment, AttachmentStatus, Block, Conversation, Kind, Message
from pipeline.archive.notes import Note
from pipeline.archive.views import Outline, View
from pipeline.lineages import DocumentKey
from pipeline.stages import ArchiveStage

SCHEMA_VERSION = 2  # goes up with every change of what is written below: an index with another one is made anew

# What FTS5 finds of a hit counts this much: in what was said, in thinking and tool calls; in a title, in a note.
MESSAGE_WEIGHTS, CONVERSATION_WEIGHTS = "3.0, 1.0", "4.0, 2.0"

_SCHEMA = """
CREATE TABLE documents (
    stage TEXT NOT NULL, doc_id TEXT NOT NULL,
    status TEXT, task_id TEXT, cohort TEXT, run_id TEXT, mode TEXT, replicate INTEGER,
    template_id TEXT, combo_id TEXT, model_id TEXT, model TEXT, model_reported TEXT,
    call_id TEXT, attempt INTEGER, finish_reason TEXT, max_tokens INTEGER,
    prompt_tokens INTEGER, completion_tokens INTEGER, total_tokens INTEGER, cost_usd REAL,
    score REAL, created_at TEXT, size_bytes INTEGER,
    problem TEXT,
    text TEXT,
    PRIMARY KEY (stage, doc_id)
);
CREATE INDEX documents_by_task_id ON documents (task_id, created_at);
CREATE TABLE parents (
    stage TEXT NOT NULL, doc_id TEXT NOT NULL, position INTEGER NOT NULL,
    parent_stage TEXT NOT NULL, parent_doc_id TEXT NOT NULL, used TEXT,
    PRIMARY KEY (stage, doc_id, position)
);
CREATE INDEX parents_by_parent ON parents (parent_stage, parent_doc_id);
CREATE TABLE conversations (
    conversation_id TEXT NOT NULL PRIMARY KEY,
    provider TEXT NOT NULL, account TEXT, native_id TEXT,
    title TEXT, title_source TEXT, imported_title TEXT, imported_title_source TEXT, note TEXT,
    created TEXT, updated TEXT, models TEXT NOT NULL, project_name TEXT, cwd TEXT,
    is_gone INTEGER NOT NULL, is_migrated INTEGER NOT NULL, conflicts INTEGER NOT NULL,
    messages INTEGER NOT NULL, active_messages INTEGER NOT NULL, gone_messages INTEGER NOT NULL,
    messages_by_role TEXT NOT NULL, active_messages_by_role TEXT NOT NULL,
    branches INTEGER NOT NULL,
    attachments_with_bytes INTEGER NOT NULL, attachments_without_bytes INTEGER NOT NULL,
    thinking_blocks INTEGER NOT NULL, tool_uses INTEGER NOT NULL, tool_results INTEGER NOT NULL,
    outline TEXT NOT NULL
);
CREATE TABLE versions (
    conversation_id TEXT NOT NULL REFERENCES conversations (conversation_id),
    position INTEGER NOT NULL, doc_id TEXT NOT NULL,
    PRIMARY KEY (conversation_id, position)
);
CREATE INDEX versions_by_doc_id ON versions (doc_id);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations (conversation_id),
    position INTEGER NOT NULL, key TEXT NOT NULL, parent TEXT,
    role TEXT NOT NULL, origin TEXT, author TEXT, model TEXT, created TEXT, status TEXT, hidden TEXT,
    is_active INTEGER NOT NULL, is_gone INTEGER NOT NULL, variant INTEGER NOT NULL,
    copy_of TEXT REFERENCES conversations (conversation_id),
    input_tokens INTEGER, output_tokens INTEGER, usage_id TEXT,
    text TEXT NOT NULL, work TEXT NOT NULL
);
CREATE UNIQUE INDEX messages_by_conversation ON messages (conversation_id, position);
CREATE TABLE attachments (
    conversation_id TEXT NOT NULL REFERENCES conversations (conversation_id),
    position INTEGER NOT NULL, message TEXT,
    native_id TEXT, name TEXT, mime_type TEXT, size_bytes INTEGER, purpose TEXT, status TEXT NOT NULL, reason TEXT,
    blake3 TEXT, export TEXT, extra_file TEXT, is_derived INTEGER NOT NULL, url TEXT,
    PRIMARY KEY (conversation_id, position)
);
CREATE INDEX attachments_by_blake3 ON attachments (blake3);
CREATE TABLE notes (
    conversation_id TEXT NOT NULL PRIMARY KEY REFERENCES conversations (conversation_id),
    title TEXT, note TEXT, changed_ns INTEGER NOT NULL
);
CREATE TABLE tags (
    conversation_id TEXT NOT NULL REFERENCES conversations (conversation_id),
    tag TEXT NOT NULL, PRIMARY KEY (conversation_id, tag)
);
CREATE INDEX tags_by_tag ON tags (tag);
CREATE TABLE unreadable (conversation_id TEXT NOT NULL PRIMARY KEY, problem TEXT NOT NULL);
CREATE TABLE stamps (folder TEXT NOT NULL PRIMARY KEY, changed_ns INTEGER NOT NULL);
"""
_WORDS = {  # {table: columns whose words are found, with the ranking}
    "documents": ("rowid", ("text",), "1.0"),
    "conversations": ("rowid", ("title", "note"), CONVERSATION_WEIGHTS),
    "messages": ("id", ("text", "work"), MESSAGE_WEIGHTS),
}
# Of no interest to anybody who compares two indexes: numbers that SQLite gives out, times of looking.
_NOT_DUMPED = {("messages", "id"), ("notes", "changed_ns")}
_DUMPED_TABLES = (
    "documents",
    "parents",
    "conversations",
    "versions",
    "messages",
    "attachments",
    "unreadable",
    "notes",
    "tags",
)

_METADATA_COLUMNS = (
    *("status", "task_id", "cohort", "run_id", "mode", "replicate", "template_id", "combo_id", "model_id", "model"),
    *("model_reported", "call_id", "attempt", "finish_reason", "max_tokens", "prompt_tokens", "completion_tokens"),
    *("total_tokens", "cost_usd", "created_at"),
)
_SAID = (Kind.TEXT, Kind.CODE)
# NUL would end a text within SQLite, \x01 and \x02 mark what was found, half a surrogate pair has no UTF-8.
# Chinese, Japanese and Thai write words without blanks: each character is a word here, found wherever it stands.
WORD_BREAK = "\u200b"
_UNSPACED = "\u0e00-\u0e7f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_BETWEEN_WORDS = re.compile(rf"(?<=[{_UNSPACED}])(?=\w)|(?<=\w)(?=[{_UNSPACED}])")
_UNSEARCHABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


def create_tables(connection: sqlite3.Connection) -> None:
    connection.executescript(_SCHEMA)
    for table, (key, columns, weights) in _WORDS.items():
        connection.executescript(_describe_words(table, key, columns, weights))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _describe_words(table: str, key: str, columns: tuple[str, ...], weights: str) -> str:
    """Return the SQL of a table's full-text index, which holds no text of its own, and of what keeps it true.

    Datasette knows such an index by the form content="table".
    """
    names = ", ".join(columns)
    new, old = (", ".join(f"{row}.{column}" for column in (key, *columns)) for row in ("new", "old"))
    add = f"INSERT INTO {table}_fts (rowid, {names}) VALUES ({new});"
    remove = f"INSERT INTO {table}_fts ({table}_fts, rowid, {names}) VALUES ('delete', {old});"
    return f"""
        CREATE VIRTUAL TABLE {table}_fts USING fts5 ({names}, content="{table}", content_rowid="{key}",
            tokenize='unicode61 remove_diacritics 2');
        INSERT INTO {table}_fts ({table}_fts, rank) VALUES ('rank', 'bm25({weights})');
        CREATE TRIGGER {table}_inserted AFTER INSERT ON {table} BEGIN {add} END;
        CREATE TRIGGER {table}_deleted AFTER DELETE ON {table} BEGIN {remove} END;
        CREATE TRIGGER {table}_updated AFTER UPDATE OF {names} ON {table} BEGIN {remove} {add} END;
    """


def find_fault(connection: sqlite3.Connection) -> str | None:
    """Return what is wrong with the file, its indexes or its full-text indexes; None if nothing is."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        return str(found)
    for table in _WORDS:  # 1: compare with the texts, too
        connection.execute(f"INSERT INTO {table}_fts ({table}_fts, rank) VALUES ('integrity-check', 1)")
    return None


# Documents


def write_document(
    connection: sqlite3.Connection, key: DocumentKey, metadata: Mapping[str, Any], text: str | None
) -> None:
    """Add a document that is not there; `text` is what it says, where it is one that says something."""
    row = {column: metadata.get(column) for column in _METADATA_COLUMNS}
    row |= {
        "stage": key.stage,
        "doc_id": key.doc_id,
        "score": (metadata.get("score") or {}).get("value"),
        "size_bytes": sum(record["size_bytes"] for record in metadata["files"].values()),
        "text": None if text is None else clean_text(text),
    }
    _insert(connection, "documents", row)
    for position, parent in enumerate(_list_parents(metadata)):
        _insert(connection, "parents", {"stage": key.stage, "doc_id": key.doc_id, "position": position, **parent})


def _list_parents(metadata: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for parent in metadata.get("parents") or ():
        yield {"parent_stage": parent["stage"], "parent_doc_id": parent["doc_id"], "used": parent.get("file")}
    for concept in metadata.get("concepts") or ():
        if origin := concept.get("origin"):
            used = f"concept {concept['concept_id']}"
            yield {"parent_stage": str(ArchiveStage.CONVERSATION), "parent_doc_id": origin["document"], "used": used}


def write_problem(connection: sqlite3.Connection, key: DocumentKey, problem: str) -> None:
    """Add a document that cannot be read."""
    _insert(connection, "documents", {"stage": key.stage, "doc_id": key.doc_id, "problem": problem})


def delete_document(connection: sqlite3.Connection, key: DocumentKey) -> None:
    for table in ("documents", "parents"):
        connection.execute(f"DELETE FROM {table} WHERE stage = ? AND doc_id = ?", key)


# Views


def write_view(connection: sqlite3.Connection, view: View, outline: str) -> None:
    """Add a view that is not there, with what people wrote beside it."""
    given = connection.execute("SELECT title, note FROM notes WHERE conversation_id = ?", [view.conversation_id])
    title, note = given.fetchone() or (None, None)
    conversation = view.conversation
    row = {
        "conversation_id": view.conversation_id,
        "provider": conversation.provider,
        "account": conversation.account,
        "native_id": conversation.native_id,
        "title": title or _clean(conversation.title),
        "title_source": "note" if title else conversation.title_source,
        "imported_title": _clean(conversation.title),
        "imported_title_source": conversation.title_source,
        "note": note,
        "created": conversation.created,
        "updated": conversation.updated,
        "models": json.dumps(list_models(conversation), ensure_ascii=False),
        "project_name": _clean(conversation.project_name),
        "cwd": _clean(conversation.cwd),
        "is_gone": view.is_gone,
        "is_migrated": conversation.is_migrated,
        "conflicts": len(view.conflicts),
        "outline": outline,
        **_count(conversation),
    }
    _insert(connection, "conversations", row)
    connection.executemany(
        "INSERT INTO versions VALUES (?, ?, ?)",
        [(view.conversation_id, position, doc_id) for position, doc_id in enumerate(view.versions)],
    )
    _insert_all(connection, "messages", _list_messages(view))
    _insert_all(connection, "attachments", _list_attachments(view))


def list_models(conversation: Conversation) -> list[str]:
    """Return the models of the answers, in the order in which they came; without any, the conversation's own."""
    models = dict.fromkeys(message.model for message in conversation.messages if message.model)
    return list(models) or ([conversation.model] if conversation.model else [])


def _count(conversation: Conversation) -> dict[str, Any]:
    messages = conversation.messages
    blocks = Counter(block.kind for message in messages for block in message.blocks)
    have_bytes = Counter(has_bytes(attachment) for _, attachment in walk_attachments(conversation))
    parents = {message.parent for message in messages}
    return {
        "messages": len(messages),
        "active_messages": sum(message.is_active for message in messages),
        "gone_messages": sum(message.is_gone for message in messages),
        "messages_by_role": _count_roles(messages),
        "active_messages_by_role": _count_roles([message for message in messages if message.is_active]),
        "branches": sum(message.key not in parents for message in messages),
        "attachments_with_bytes": have_bytes[True],
        "attachments_without_bytes": have_bytes[False],
        "thinking_blocks": blocks[Kind.THINKING],
        "tool_uses": blocks[Kind.TOOL_USE],
        "tool_results": blocks[Kind.TOOL_RESULT],
    }


def _count_roles(messages: list[Message]) -> str:
    return json.dumps(Counter(str(message.role) for message in messages), sort_keys=True)


def has_bytes(attachment: Attachment) -> bool:
    """Whether the store has the bytes, be they in conflict with what the export says of them."""
    return attachment.status in (AttachmentStatus.PRESENT, AttachmentStatus.CONFLICT)


def walk_attachments(conversation: Conversation) -> Iterator[tuple[str | None, Attachment]]:
    """Yield (a message's key, its attachment), and then those of no message."""
    for message in conversation.messages:
        for block in message.blocks:
            if block.attachment is not None:
                yield message.key, block.attachment
    for attachment in conversation.attachments:
        yield None, attachment


def _list_messages(view: View) -> Iterator[dict[str, Any]]:
    for position, message in enumerate(view.conversation.messages):
        said, work = split_texts(message)
        usage = message.usage
        yield {
            "conversation_id": view.conversation_id,
            "position": position,
            "key": message.key,
            "parent": message.parent,
            "role": str(message.role),
            "origin": message.origin,
            "author": _clean(message.author),
            "model": message.model,
            "created": message.created,
            "status": message.status,
            "hidden": message.hidden,
            "is_active": message.is_active,
            "is_gone": message.is_gone,
            "variant": message.variant,
            "copy_of": message.copy_of,
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "usage_id": usage.usage_id if usage else None,
            "text": said,
            "work": work,
        }


def split_texts(message: Message) -> tuple[str, str]:
    """Return what a message says, and what it did: thinking, tool calls and results, context, names of files."""
    said = [block.text for block in message.blocks if block.kind in _SAID and block.text]
    work = [text for block in message.blocks if block.kind not in _SAID for text in _list_texts(block)]
    return clean_text("\n\n".join(said)), clean_text("\n\n".join(work))


def _list_texts(block: Block) -> Iterator[str]:
    if block.tool_name:
        yield block.tool_name
    if block.input is not None:
        yield block.input if isinstance(block.input, str) else json.dumps(block.input, ensure_ascii=False)
    if block.text:
        yield block.text
    if block.attachment is not None and block.attachment.name:
        yield block.attachment.name


def _list_attachments(view: View) -> Iterator[dict[str, Any]]:
    for position, (message, attachment) in enumerate(walk_attachments(view.conversation)):
        yield {
            "conversation_id": view.conversation_id,
            "position": position,
            "message": message,
            "native_id": _clean(attachment.id),
            "name": _clean(attachment.name),
            "mime_type": _clean(attachment.mime_type),
            "size_bytes": attachment.size_bytes,
            "purpose": attachment.purpose,
            "status": str(attachment.status),
            "reason": _clean(attachment.reason),
            "blake3": attachment.blake3,
            "export": attachment.export,
            "extra_file": attachment.extra_file,
            "is_derived": attachment.is_derived,
            "url": _clean(attachment.url),
        }


def delete_view(connection: sqlite3.Connection, conversation_id: str) -> None:
    for table in ("conversations", "versions", "messages", "attachments", "unreadable"):
        connection.execute(f"DELETE FROM {table} WHERE conversation_id = ?", [conversation_id])


def write_unreadable(connection: sqlite3.Connection, conversation_id: str, problem: str) -> None:
    """Tell that a view cannot be read; what was known of it before stays."""
    connection.execute("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", [conversation_id, problem])


def encode_outline(outline: Outline) -> str:
    """Return an outline as the index keeps it, to compare it with a later one."""
    return json.dumps(outline)


# Notes


def write_note(connection: sqlite3.Connection, conversation_id: str, note: Note, *, changed_ns: int) -> None:
    """Put what people wrote beside a conversation in the place of what is there."""
    delete_note(connection, conversation_id)
    title, text = _clean(note.title), _clean(note.text)
    connection.execute("INSERT INTO notes VALUES (?, ?, ?, ?)", [conversation_id, title, text, changed_ns])
    connection.executemany("INSERT INTO tags VALUES (?, ?)", [(conversation_id, tag) for tag in note.tags])
    _show_note(connection, conversation_id, title, text)


def delete_note(connection: sqlite3.Connection, conversation_id: str) -> None:
    for table in ("notes", "tags"):
        connection.execute(f"DELETE FROM {table} WHERE conversation_id = ?", [conversation_id])
    _show_note(connection, conversation_id, None, None)


def _show_note(connection: sqlite3.Connection, conversation_id: str, title: str | None, note: str | None) -> None:
    connection.execute(
        "UPDATE conversations SET title = coalesce(:title, imported_title), note = :note,"
        " title_source = CASE WHEN :title IS NULL THEN imported_title_source ELSE 'note' END"
        " WHERE conversation_id = :conversation_id",
        {"title": title, "note": note, "conversation_id": conversation_id},
    )


# All tables


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    _insert_all(connection, table, iter([row]))


def _insert_all(connection: sqlite3.Connection, table: str, rows: Iterator[Mapping[str, Any]]) -> None:
    first = next(rows, None)
    if first is not None:
        names = ", ".join(first)
        places = ", ".join(f":{name}" for name in first)
        statement = f"INSERT INTO {table} ({names}) VALUES ({places})"
        connection.execute(statement, first)
        connection.executemany(statement, rows)


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def clean_text(text: str) -> str:
    r"""Return a text as SQLite can hold and mark it: "a\x00b" -> "a\ufffdb"."""
    return break_words(_UNSEARCHABLE.sub("\ufffd", text))


def break_words(text: str) -> str:
    """Return a text with an invisible break between words that stand without a blank: what is indexed, and asked."""
    if text.isascii() or not _UNSPACED_CHARACTER.search(text):
        return text
    return _BETWEEN_WORDS.sub(WORD_BREAK, text)


def dump_tables(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield all that the index says, a JSON line each, in an order of its own: equal for two that say the same."""
    for table in _DUMPED_TABLES:
        names = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        columns = ", ".join(name for name in names if (table, name) not in _NOT_DUMPED)
        for row in connection.execute(f"SELECT {columns} FROM {table} ORDER BY {columns}"):
            yield json.dumps([table, *row], ensure_ascii=False)
    for table in _WORDS:
        connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{table}_words USING fts5vocab (main, {table}_fts, col)"
        )
        for row in connection.execute(f"SELECT * FROM temp.{table}_words ORDER BY term, col"):
            yield json.dumps([f"{table}_fts", *row], ensure_ascii=False)
