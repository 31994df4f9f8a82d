"""Conversations: the neutral form of a chat, whoever exported it.

    Conversation ─ messages: a tree with parent links ─ blocks: text, thinking, tool calls, attachments, …

Importers fill these records; everything after them (views, transcripts, search) reads nothing else. Times are
texts in UTC, `2026-03-01T09:00:02.123456Z`, or None. Texts hold no lone surrogates. A field that an importer does
not know goes into `extra` as it was, so that nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import orjson

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


class Role(StrEnum):
    """Whose a message is, as the source says it."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"
    UNKNOWN = "unknown"


class Origin(StrEnum):
    """Who really wrote a message of the role `user`."""

    HUMAN = "human"
    TOOL_RESULT = "tool_result"
    RUNTIME_CONTEXT = "runtime_context"  # environment, instructions, reminders
    COMMAND = "command"  # slash commands and their output
    COMPACTION_SUMMARY = "compaction_summary"
    NOTIFICATION = "notification"


class Kind(StrEnum):
    """What a block is."""

    TEXT = "text"
    THINKING = "thinking"
    TOOL_USE = "tool_use"
    TOOL_RESULT = "tool_result"
    CODE = "code"  # shown as code, and not an identifiable call
    CITATION = "citation"
    ATTACHMENT = "attachment"
    CONTEXT = "context"  # given to the model, not said by anybody; also what no importer knows


class AttachmentStatus(StrEnum):
    """What became of the bytes of an attachment."""

    PRESENT = "present"
    MISSING = "missing"
    DENIED = "denied"
    CONFLICT = "conflict"  # there, but not with the hash or size that the export states
    EXTERNAL = "external"  # an address only


@dataclass(slots=True)
class Usage:
    """Tokens that a provider counted. `usage_id` names the answer, so that copies of it are counted once."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None  # read from a cache
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_includes_cached: bool = False
    usage_id: str | None = None


@dataclass(slots=True)
class Attachment:
    """A file of a message. Where its bytes are: `export` (doc_id of the export that is the file) or `extra_file`."""

    id: str | None = None  # as the export gives it
    name: str | None = None
    mime_type: str | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    purpose: str | None = None  # upload, generated, inline, link, artifact, document
    status: str = AttachmentStatus.MISSING
    reason: str | None = None  # why there are no bytes, or what is in conflict
    blake3: str | None = None  # of the bytes, where they are there
    export: str | None = None
    extra_file: str | None = None  # its name in extras/ of the conversation's document, for bytes from inside a record
    extra_document: str | None = None  # doc_id of the conversation's document that has extra_file; set by views only
    is_derived: bool = False  # the bytes are text extracted from the original, not the original
    url: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Block:
    """A piece of a message."""

    kind: str
    text: str | None = None
    language: str | None = None
    tool_name: str | None = None
    call_id: str | None = None  # joins a tool_use and its tool_result
    input: Json = None
    is_error: bool | None = None  # None: not known
    exit_code: int | None = None
    flags: list[str] = field(default_factory=list)  # recap, redacted, interrupted, error, unknown_type, paste, …
    origin: str | None = None  # where it differs from the message's
    attachment: Attachment | None = None
    raw: Json = None  # the block as it was, where its type is unknown
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Message:
    """A node of the tree. `key` is unique in the conversation; `native_id` is given where it differs from it."""

    key: str
    parent: str | None = None
    role: str = Role.UNKNOWN
    origin: str | None = None  # of the role user only
    native_id: str | None = None
    author: str | None = None  # the name of a tool or a person
    model: str | None = None
    created: str | None = None
    updated: str | None = None
    status: str | None = None  # as the source has it: in_progress, interrupted, …
    end_turn: bool | None = None
    hidden: str | None = None  # why the provider would not show it; None: it would
    is_active: bool = False  # on the active path
    variant: int = 0  # among the children of one parent: by creation, then by order in the file
    group: str | None = None  # messages with one group are one answer of the model, in pieces
    is_gone: bool = False  # a newer export lacks it; set by views only
    copy_of: str | None = None  # conversation_id of the conversation that has it first: a fork; set by views only
    blocks: list[Block] = field(default_factory=list)
    usage: Usage | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Lineage:
    """A link to another conversation: fork, resume, sub_agent, compaction, branch."""

    kind: str
    native_id: str
    message: str | None = None


@dataclass(slots=True)
class Conversation:
    """One chat, as one export shows it. Identified by provider, account if known, and native_id."""

    provider: str
    native_id: str
    is_id_derived: bool = False  # the source has none; made from content
    account: str | None = None
    title: str | None = None
    title_source: str | None = None  # provider, summary, first_prompt, file_name
    created: str | None = None
    updated: str | None = None
    model: str | None = None  # the default one
    project_id: str | None = None
    project_name: str | None = None
    gizmo_id: str | None = None
    flags: list[str] = field(default_factory=list)  # archived, starred, temporary, read_only
    cwd: str | None = None
    git: dict[str, Any] = field(default_factory=dict)  # branch, commit, url
    settings: Json = None  # system prompt and run settings, as they were
    active_leaf: str | None = None  # a message's key
    is_leaf_guessed: bool = False
    is_migrated: bool = False  # from Markdown of an earlier tool; gives way to the real export
    is_append_only: bool = False  # the source has no message ids: an equal beginning is growth
    lineage: list[Lineage] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)  # of no message: documents of the conversation
    usage: Usage | None = None  # where only a total is known
    warnings: dict[str, int] = field(default_factory=dict)  # what was odd, and how often
    extra: dict[str, Any] = field(default_factory=dict)


_NESTED = {
    "messages": Message,
    "blocks": Block,
    "attachments": Attachment,
    "attachment": Attachment,
    "usage": Usage,
    "lineage": Lineage,
}


_NAMES: dict[Any, frozenset[str]] = {
    kind: frozenset(known.name for known in fields(kind)) for kind in (Conversation, *_NESTED.values())
}


def to_json(record: Any) -> dict[str, Any]:
    """Return a record of this module as plain JSON, without the fields that say nothing: None, False, []."""
    return _TO_JSON[type(record)](record)


def _nested_to_json(value: Any) -> Any:
    return [_TO_JSON[type(item)](item) for item in value] if isinstance(value, list) else to_json(value)


def _says_something(name: str, value: Any) -> bool:
    """Whether a value that is empty tells more than its absence."""
    if name in ("is_error", "end_turn", "input"):
        return True  # False: known to have worked, known to go on
    return value is not None and value is not False and value != [] and value != {} and name != "variant"


def _compile_to_json(kind: Any) -> Callable[[Any], dict[str, Any]]:
    """Return `to_json` for one kind of record, with lines for each field: a loop over them takes twice as long."""
    lines = ["def to_json(record):", "    plain = {}"]
    for each in fields(kind):
        name, default = each.name, each.default_factory() if callable(each.default_factory) else each.default
        is_other = f"value != {default!r}" if default in (False, [], {}) else "value is not None"
        lines += [
            f"    value = record.{name}",
            "    if value:",
            f"        plain[{name!r}] = {'nested_to_json(value)' if name in _NESTED else 'value'}",
            f"    elif {is_other} and says_something({name!r}, value):",
            f"        plain[{name!r}] = value",
        ]
    names: dict[str, Any] = {"nested_to_json": _nested_to_json, "says_something": _says_something}
    exec("\n".join([*lines, "    return plain"]), names)  # noqa: S102  of the names of our own fields
    to_json_of_kind: Callable[[Any], dict[str, Any]] = names["to_json"]
    return to_json_of_kind


_TO_JSON = {kind: _compile_to_json(kind) for kind in _NAMES}


def encode_conversation(conversation: Conversation) -> bytes:
    """Return conversation.json: sorted keys, UTF-8, a line for each field and each message.

    Raises ValueError or TypeError for what is no plain JSON, such as a lone surrogate.
    """
    plain = to_json(conversation)
    pieces = [b"{\n  "]  # joined once: each copy of all messages takes as long as writing a tenth of them
    for name in sorted(plain):
        if len(pieces) > 1:
            pieces.append(b",\n  ")
        if name == "messages":
            pieces += (b'"messages": [\n    ', b",\n    ".join(map(_write, plain[name])), b"\n  ]")
        else:
            pieces += (_write(name), b": ", _write(plain[name]))
    return b"".join((*pieces, b"\n}\n"))


def decode_conversation(content: bytes) -> Conversation:
    """Read what `encode_conversation` wrote."""
    conversation: Conversation = _from_json(Conversation, orjson.loads(content))
    return conversation


def _write(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _from_json(kind: Any, plain: dict[str, Any]) -> Any:
    names = _NAMES[kind]
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if name not in names:
            continue  # written by a later version
        nested = _NESTED.get(name)
        if nested and isinstance(value, list):
            value = [_from_json(nested, item) for item in value]
        elif nested and isinstance(value, dict):
            value = _from_json(nested, value)
        values[name] = value
    return kind(**values)
