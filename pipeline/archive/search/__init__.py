r"""Search: from what a person types to ranked hits with highlighted snippets.

    tide tables          both words                       "tide tables"      the words side by side
    tabl*                words that begin so              tide -moon         tide without moon
    tide OR ebb          at least one of the two

Everything is asked of the index. A query that cannot be meant is refused here, in words, before SQLite sees it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.archive.conversations import Role
from pipeline.archive.search.index_tables import WORD_BREAK, break_words
from pipeline.errors import InputInvalid, UnknownName

PLACES = ("messages", "documents")
MOST_TERMS = 64  # SQLite refuses some hundreds with an error of its own
SNIPPET_WORDS = 24
_BEGIN, _END = "\x01", "\x02"  # around what was found: no text of the index has them
_TERM = re.compile(r'\s*(?P<minus>-?)(?:"(?P<phrase>[^"]*)"(?P<star>\*?)|(?P<word>[^\s"]+))')
_WORD_CHARACTER = re.compile(r"[^\W_]")
# A date, with as much of it as is known: 2026, 2026-03, 2026-03-01, 2026-03-01T09, 2026-03-01T09:30.
_TIME_FORMATS = {4: "%Y", 7: "%Y-%m", 10: "%Y-%m-%d", 13: "%Y-%m-%dT%H", 16: "%Y-%m-%dT%H:%M", 19: "%Y-%m-%dT%H:%M:%S"}

Json = dict[str, Any]


@dataclass(frozen=True)
class Filters:
    """What a hit or a conversation has to have; None: anything."""

    provider: str | None = None
    role: str | None = None  # of messages only
    since: str | None = None
    until: str | None = None
    model: str | None = None  # `*` stands for any characters
    tag: str | None = None

    @property
    def is_about_messages(self) -> bool:
        """Whether no document of an experiment can have it."""
        return bool(self.provider or self.role or self.tag)


class Hit(NamedTuple):
    """What was found. `ranges` are those of the snippet's characters that the query found."""

    place: str
    relevance: float  # the higher, the better; to compare with that of another hit only
    snippet: str
    ranges: list[tuple[int, int]]
    facts: Json  # which message, conversation or document it is

    def as_json(self) -> Json:
        ranges = [list(found) for found in self.ranges]
        return {"in": self.place, **self.facts, "relevance": self.relevance, "snippet": self.snippet, "ranges": ranges}


# What a person types


def parse_query(query: str) -> str:
    """Return a query as an expression of FTS5. Raises InputInvalid.

    'tide "low water" tabl* -moon' -> '"tide" AND "low water" AND "tabl" * NOT "moon"'
    """
    wanted, unwanted = _split_terms(query)
    if not wanted:
        why = "It only says what is not wanted." if unwanted else "It is empty."
        raise _refuse(query, f"{why} Expected at least one word to look for.")
    if sum(map(len, wanted)) + len(unwanted) > MOST_TERMS:
        raise _refuse(query, f"Expected at most {MOST_TERMS} words and phrases.")
    groups = [group[0] if len(group) == 1 else f"({' OR '.join(group)})" for group in wanted]
    expression = " AND ".join(groups)
    return f"({expression}) NOT ({' OR '.join(unwanted)})" if unwanted else expression


def _split_terms(query: str) -> tuple[list[list[str]], list[str]]:
    """Return the terms that are wanted, those that OR joins in one group; and those that are not."""
    if query.count('"') % 2:
        raise _refuse(query, "Expected a second quotation mark: words side by side stand between two.")
    wanted: list[list[str]] = []
    unwanted: list[str] = []
    joins = False
    for match in _TERM.finditer(query.rstrip()):
        if match["word"] == "OR" and not match["minus"]:
            if joins or not wanted:
                raise _refuse(query, "Expected a word on each side of OR.")
            joins = True
            continue
        term = _quote_term(query, match)
        if match["minus"]:
            if joins:
                raise _refuse(query, "Expected a word on each side of OR, without a minus.")
            unwanted.append(term)
        elif joins:
            wanted[-1].append(term)
        else:
            wanted.append([term])
        joins = False
    if joins:
        raise _refuse(query, "Expected a word on each side of OR.")
    return wanted, unwanted


def _quote_term(query: str, match: re.Match[str]) -> str:
    """Return a word or a phrase so that FTS5 takes no character of it for one of its own language."""
    text = match["phrase"] if match["word"] is None else match["word"]
    is_prefix = bool(match["star"]) or (match["word"] is not None and text.endswith("*"))
    text = text.rstrip("*") if match["word"] is not None else text
    if not _WORD_CHARACTER.search(text):
        expected = "Expected letters or digits in each word; other characters are not looked for."
        raise _refuse(query, f"There is nothing to look for in {match[0].strip()!r}. {expected}")
    return f'"{break_words(text)}"' + (" *" if is_prefix else "")


def _refuse(query: str, problem: str) -> InputInvalid:
    return InputInvalid(f"The query {query!r} cannot be answered. {problem}")


def read_time_limit(text: str) -> str:
    """Return a date or time as the index compares it: in UTC, as long as it is known. Raises InputInvalid.

    "2026-03" -> "2026-03", "2026-03-01 09:30Z" -> "2026-03-01T09:30"
    """
    value = text.strip().replace(" ", "T").removesuffix("Z")
    try:
        datetime.strptime(value, _TIME_FORMATS[len(value)])
    except (KeyError, ValueError):
        raise InputInvalid(
            f"{text!r} is no date. Expected a year, a month, a day or a time in UTC, such as 2026, 2026-03, "
            "2026-03-01 or 2026-03-01T09:30."
        ) from None
    return value


class _Columns(NamedTuple):
    """What filters look at: when a row's time begins and ends, and its model."""

    begin: str
    end: str
    model: str


_COLUMNS = {
    "messages": _Columns(  # a message without a time has its conversation's
        "coalesce(messages.created, conversations.created, conversations.updated)",
        "coalesce(messages.created, conversations.updated, conversations.created)",
        "messages.model LIKE ? ESCAPE '\\'",
    ),
    "conversations": _Columns(
        "coalesce(conversations.created, conversations.updated)",
        "coalesce(conversations.updated, conversations.created)",
        "EXISTS (SELECT 1 FROM json_each(conversations.models) WHERE value LIKE ? ESCAPE '\\')",
    ),
    "documents": _Columns("documents.created_at", "documents.created_at", "documents.model LIKE ? ESCAPE '\\'"),
}


# Searching


def search(
    connection: sqlite3.Connection, query: str, filters: Filters, *, places: tuple[str, ...], limit: int
) -> list[Hit]:
    """Return the best hits, the best first: of messages and titles, of documents, or of both by their relevance.

    Raises InputInvalid for a query or filter that cannot be answered, UnknownName for a value that nothing has.
    """
    expression = parse_query(query)
    if filters.is_about_messages and "messages" not in places:
        raise InputInvalid(
            "Documents of experiments have no provider, role or tag. Expected these filters for messages only."
        )
    check_filters(connection, filters)
    found: list[tuple[float, str, int]] = []
    for table in _choose_tables(filters, places):
        found += [(rank, table, row_id) for row_id, rank in _rank(connection, table, expression, filters, limit)]
    return [_read_hit(connection, table, row_id, rank, expression) for rank, table, row_id in sorted(found)[:limit]]


def _choose_tables(filters: Filters, places: tuple[str, ...]) -> Iterator[str]:
    if "messages" in places:
        yield "messages"
        if not filters.role:
            yield "conversations"
    if "documents" in places and not filters.is_about_messages:
        yield "documents"


def _rank(
    connection: sqlite3.Connection, table: str, expression: str, filters: Filters, limit: int
) -> list[tuple[int, float]]:
    """Return (row, rank) of the best rows of a table; the lower a rank, the better."""
    conditions, values = list_conditions(table, filters)
    if not conditions:  # FTS5 sorts by itself, and no other table is looked at
        statement = f"SELECT rowid, rank FROM {table}_fts WHERE {table}_fts MATCH ? ORDER BY rank LIMIT ?"
        return connection.execute(statement, [expression, limit]).fetchall()
    join = "JOIN conversations USING (conversation_id)" if table == "messages" else ""
    statement = (
        f"SELECT found.row, found.rank FROM (SELECT rowid AS row, rank FROM {table}_fts WHERE {table}_fts MATCH ?)"
        f" AS found JOIN {table} ON {table}.rowid = found.row {join}"
        f" WHERE {' AND '.join(conditions)} ORDER BY found.rank LIMIT ?"
    )
    return connection.execute(statement, [expression, *values, limit]).fetchall()


def list_conditions(table: str, filters: Filters) -> tuple[list[str], list[str]]:
    """Return conditions on a table's rows with their values."""
    columns = _COLUMNS[table]
    since, until = (read_time_limit(text) if text else None for text in (filters.since, filters.until))
    tagged = "EXISTS (SELECT 1 FROM tags WHERE tags.conversation_id = conversations.conversation_id AND tag = ?)"
    pairs = [
        ("conversations.provider = ?", filters.provider),
        ("messages.role = ?", filters.role),
        (f"{columns.end} >= ?", since),
        (f"substr({columns.begin}, 1, {len(until or '')}) <= ?", until),  # all of the day or month that is named
        (columns.model, _as_like(filters.model) if filters.model else None),
        (tagged, filters.tag),
    ]
    asked = [(condition, value) for condition, value in pairs if value]
    return [condition for condition, _ in asked], [value for _, value in asked]


def _as_like(pattern: str) -> str:
    r"""'claude-3_*' -> 'claude-3\_%'"""
    return re.sub(r"[\\%_]", r"\\\g<0>", pattern).replace("*", "%")


def check_filters(connection: sqlite3.Connection, filters: Filters) -> None:
    """Raise UnknownName for a value that nothing in the index has: it is more likely mistyped than absent."""
    if filters.role and filters.role not in tuple(Role):
        raise UnknownName("role", filters.role, [str(role) for role in Role])
    known = {
        "provider": "SELECT DISTINCT provider FROM conversations",
        "tag": "SELECT DISTINCT tag FROM tags",
    }
    for name, statement in known.items():
        value = getattr(filters, name)
        if value and value not in (names := [row[0] for row in connection.execute(statement)]):
            raise UnknownName(name, value, names)
    if filters.model and not _is_model_known(connection, filters.model):
        raise UnknownName("model", filters.model, _list_models(connection))


def _is_model_known(connection: sqlite3.Connection, pattern: str) -> bool:
    like = _as_like(pattern)
    statement = (
        "SELECT 1 FROM conversations, json_each(models) WHERE value LIKE :like ESCAPE '\\'"
        " UNION ALL SELECT 1 FROM documents WHERE model LIKE :like ESCAPE '\\' LIMIT 1"
    )
    return connection.execute(statement, {"like": like}).fetchone() is not None


def _list_models(connection: sqlite3.Connection) -> list[str]:
    statement = (
        "SELECT value FROM conversations, json_each(models)"
        " UNION SELECT model FROM documents WHERE model IS NOT NULL ORDER BY 1"
    )
    return [row[0] for row in connection.execute(statement)]


# Hits


def _read_hit(connection: sqlite3.Connection, table: str, row_id: int, rank: float, expression: str) -> Hit:
    statement = (
        f"SELECT snippet({table}_fts, -1, ?, ?, '…', ?) FROM {table}_fts WHERE {table}_fts MATCH ? AND rowid = ?"
    )
    (marked,) = connection.execute(statement, [_BEGIN, _END, SNIPPET_WORDS, expression, row_id]).fetchone()
    snippet, ranges = read_marks(marked)
    facts = dict(_FACTS[table](connection, row_id))
    return Hit("documents" if table == "documents" else "messages", round(-rank, 4), snippet, ranges, facts)


def read_marks(marked: str) -> tuple[str, list[tuple[int, int]]]:
    r"""Return a snippet as one line without its marks, and where they stood.

    "low \x01tide\x02" -> ("low tide", [(4, 8)])
    """
    parts = re.split(f"([{_BEGIN}{_END}])", " ".join(marked.replace(WORD_BREAK, "").split()))
    text, ranges, begin = "", [], 0
    for part in parts:
        if part == _BEGIN:
            begin = len(text)
        elif part == _END:
            ranges.append((begin, len(text)))
        else:
            text += part
    return text, ranges


def _describe_message(connection: sqlite3.Connection, row_id: int) -> Json:
    return _read_row(
        connection,
        "SELECT conversation_id AS conversation, key AS message, provider, title, role, messages.model AS model,"
        " coalesce(messages.created, conversations.created) AS created, is_active, messages.is_gone AS is_gone, hidden"
        " FROM messages JOIN conversations USING (conversation_id) WHERE messages.id = ?",
        row_id,
    )


def _describe_conversation(connection: sqlite3.Connection, row_id: int) -> Json:
    return _read_row(
        connection,
        "SELECT conversation_id AS conversation, NULL AS message, provider, title, NULL AS role, NULL AS model,"
        " coalesce(updated, created) AS created, 1 AS is_active, is_gone, NULL AS hidden"
        " FROM conversations WHERE rowid = ?",
        row_id,
    )


def _describe_document(connection: sqlite3.Connection, row_id: int) -> Json:
    return _read_row(
        connection,
        "SELECT stage, doc_id, task_id, model, created_at AS created, score FROM documents WHERE rowid = ?",
        row_id,
    )


_FACTS = {"messages": _describe_message, "conversations": _describe_conversation, "documents": _describe_document}
_CLAIMS = ("is_active", "is_gone", "is_migrated")
_TEXTS = ("title", "note", "project_name")


def _read_row(connection: sqlite3.Connection, statement: str, *values: object) -> Json:
    cursor = connection.execute(statement, values)
    return as_object(cursor, cursor.fetchone())


def as_object(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Json:
    named = {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
    return {name: _read_value(name, value) for name, value in named.items()}


def _read_value(name: str, value: Any) -> Any:
    if name in _CLAIMS:
        return bool(value)
    return value.replace(WORD_BREAK, "") if name in _TEXTS and value is not None else value
