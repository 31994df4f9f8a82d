"""Conversations of no provider that is known: `{"messages": [{"role": …, "content": …}]}`, and Grok's exports.

    {"messages": [{"role", "content"}], "title"?, "id"?, "created_at"?}         also a list or lines of them
    {"conversation": {"id", "title", …}, "responses": [{"response": {…}}]}      Grok; also {"conversations": [these]}

What is not read is kept in `extra`, as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pipeline.archive.conversations import Block, Conversation, Json, Kind, Message, Origin, Role
from pipeline.archive.importers.inline_files import attach_url, block_of, decode_base64, keep_inline
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.linear import chain_messages, derive_id, fill_times, give_keys
from pipeline.archive.importers.odd_values import UNKNOWN_TYPE, read_noted_time, warn
from pipeline.archive.importers.values import (
    first_text,
    id_of,
    list_of,
    object_of,
    objects_of,
    odd_of,
    parse_embedded,
    rest_and_odd_of,
    rest_of,
    text_of,
    without_secrets,
)
from pipeline.archive.reading import read_items
from pipeline.archive.titles import choose_title
from pipeline.archive.trees import settle_tree

ROLES = {
    **dict.fromkeys(["user", "human", "customer", "prompter"], Role.USER),
    **dict.fromkeys(["assistant", "ai", "model", "bot", "chatbot", "gpt", "grok", "agent"], Role.ASSISTANT),
    **dict.fromkeys(["system", "developer"], Role.SYSTEM),
    **dict.fromkeys(["tool", "function"], Role.TOOL),
}
IDS = ("id", "uuid", "_id", "conversation_id", "session_id", "chat_id")
TITLES = ("title", "name", "summary")
CREATED = ("created_at", "create_time", "createdAt", "created", "timestamp", "date")
UPDATED = ("updated_at", "modify_time", "update_time", "updatedAt", "updated")
MODELS = ("model", "model_slug", "model_name")
MESSAGE_IDS = ("id", "uuid", "_id", "message_id", "responseId", "response_id")
PARENTS = ("parent_response_id", "parentResponseId", "parent_id", "parent_message_id")
SPEAKERS = ("role", "sender", "author", "from")
CONTENTS = ("content", "message", "text", "value", "parts")
CALL_KINDS: dict[str, type] = {"tool_calls": list, "function_call": dict, "tool_call_id": str}
CALL_FIELDS = ("id", "type", "function", "name", "arguments")
PART_FIELDS = ("type", "id", "name", "input", "tool_use_id", "content", "is_error")
KIND_BY_PART_FIELD: dict[str, type] = {
    **dict.fromkeys(["id", "name", "tool_use_id", "type"], str),
    "is_error": bool,
    "function": dict,
}
WORD_KINDS: dict[str, type] = {"model": str, "name": str, "thinking_trace": str}
UNKNOWN_ROLE = "unknown_role"
TEXT_PIECES = frozenset({"text", "input_text", "output_text"})


class _Field(NamedTuple):
    """Names that mean one thing, and what makes something of its value, or None."""

    names: Sequence[str]
    read: Callable[[Any], Any]


def _take_any(value: Any) -> Any:
    return value


HEAD_FIELDS = (
    *(_Field(IDS, text_of), _Field(TITLES, text_of), _Field(MODELS, text_of)),
    *(_Field(CREATED, _take_any), _Field(UPDATED, _take_any)),
)
MESSAGE_FIELDS = (
    *(_Field(MESSAGE_IDS, id_of), _Field(PARENTS, id_of), _Field(CREATED, _take_any)),
    *(_Field(SPEAKERS, lambda value: value or None), _Field(CONTENTS, _take_any)),
)


class GenericImporter:
    """Lists of messages with a role and content, whoever wrote them."""

    name = "generic"
    provider = "unknown"
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        if peek.kind not in ("object", "array", "lines"):
            return None
        values = [object_of(value) for value in peek.items]
        values += [item for value in values for item in objects_of(value.get("conversations"))]
        if any(any(map(_is_response, list_of(value.get("responses")))) for value in values):
            return Recognition("conversations with responses, as Grok exports them")
        if any(any(map(_is_message, list_of(value.get("messages")))) for value in values):
            return Recognition("messages with a role and content")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:  # noqa: ARG002
        for item in read_items(file):
            if isinstance(item, Skip):
                yield item
                continue
            place = f"{file.name}[{item.index}]"
            value = item.value
            if any(isinstance(object_of(value).get(name), list) for name in ("messages", "responses")):
                yield make_record(value, place)
            else:
                yield Skip("not_recognised", place, "no list of messages with a role and content")

    def parse(self, record: Record) -> Parsed:
        conversation = Conversation(self.provider, record.key)
        return read_conversation(conversation, object_of(record.value), context=object_of(record.context))


def make_record(value: dict[str, Any], place: str) -> Record:
    """Return the record of a conversation: with its id, or one that is made of its first words."""
    head = {**value, **object_of(value.get("conversation"))}
    native_id = _first_of(head, IDS)
    if native_id:
        return Record(native_id, place, value)
    messages = messages_of(value)
    first = next((message for message in messages if ROLES.get(_speaker_of(message)) == Role.USER), None)
    said = first or (messages[0] if messages else {})
    content = [without_secrets(said.get(name)) for name in (*CONTENTS, *CREATED)]
    numbers = [found] if (found := _first_id(head, IDS)) else []  # many tools count from 1, so a number alone is no id
    key = derive_id("generic", *numbers, _first_of(head, CREATED), *content)
    return Record(key, place, value, {"is_id_derived": True})


def messages_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a conversation, also what is none, as content; Grok wraps each once more."""
    if isinstance(value.get("messages"), list):
        return [_as_message(item) for item in value["messages"] if item is not None]
    items = [_as_message(item) for item in list_of(value.get("responses")) if item is not None]
    return [object_of(item.get("response")) or item for item in items]


def _as_message(item: Json) -> dict[str, Any]:
    return item if isinstance(item, dict) else {"content": item}


def read_conversation(conversation: Conversation, value: dict[str, Any], *, context: dict[str, Any]) -> Parsed:
    """Fill a conversation from an object with messages."""
    head = {**value, **object_of(value.get("conversation"))}
    conversation.is_id_derived = bool(context.get("is_id_derived"))
    conversation.model = _first_of(head, MODELS)
    known = {*_list_read(head, HEAD_FIELDS), "messages", "responses", "conversation"}
    conversation.extra = rest_of(head, known)
    conversation.created = _find_time(head, CREATED, conversation, conversation.extra)
    conversation.updated = _find_time(head, UPDATED, conversation, conversation.extra)
    extras: dict[str, bytes] = {}
    parents: list[str | None] = []
    for item in messages_of(value):
        conversation.messages.append(_read_message(item, conversation, extras))
        parents.append(_first_id(item, PARENTS))
    conversation.is_append_only = not any(message.native_id for message in conversation.messages)
    _link(conversation, parents)
    choose_title(conversation, (_first_of(head, TITLES), "provider"))
    return Parsed(conversation, extras)


def _link(conversation: Conversation, parents: list[str | None]) -> None:
    """Make a tree of the messages that name their parents, and a list of those that do not."""
    messages = conversation.messages
    chain_messages(messages)
    if any(parents):
        place_by_id = {message.native_id: message.key for message in messages if message.native_id}
        for message, parent in zip(messages, parents, strict=True):
            message.parent = place_by_id.get(parent) if parent else None
    keys = give_keys(conversation, has_ids=True)
    last = keys[str(len(messages) - 1)] if messages else None
    settle_tree(conversation, leaf=None if any(parents) else last)
    fill_times(conversation)


def _is_message(value: Any) -> bool:
    record = object_of(value)
    return isinstance(record.get("role"), str) and any(name in record for name in (*CONTENTS, *CALL_KINDS))


def _is_response(value: Any) -> bool:
    record = object_of(object_of(value).get("response")) or object_of(value)
    return bool(_speaker_of(record)) and any(name in record for name in CONTENTS)


def _first_of(record: dict[str, Any], names: Sequence[str]) -> str | None:
    return first_text(*(record.get(name) for name in names))


def _first_id(record: dict[str, Any], names: Sequence[str]) -> str | None:
    return first_text(*(id_of(record.get(name)) for name in names))


def _list_read(record: dict[str, Any], fields: Sequence[_Field]) -> set[str]:
    """Return the names of what is read. Of a field's names the first counts; another may say something else."""
    read: set[str] = set()
    for field in fields:
        there = [name for name in field.names if field.read(record.get(name)) is not None]
        read.update(name for name in there if record[name] == record[there[0]])
    return read


def _find_time(
    record: dict[str, Any], names: Sequence[str], conversation: Conversation, extra: dict[str, Any]
) -> str | None:
    found = (_unwrap_time(record[name]) for name in names if record.get(name) is not None)
    return read_noted_time(next(found, None), conversation, extra)


def _unwrap_time(value: Any) -> Any:
    """Take a time out of MongoDB's form, `{"$date": {"$numberLong": "1735689600000"}}`."""
    inner = object_of(value).get("$date", value)
    return object_of(inner).get("$numberLong", inner)


def _find_speaker(message: dict[str, Any]) -> Any:
    return next((message[name] for name in SPEAKERS if message.get(name)), "")


def _speaker_of(message: dict[str, Any]) -> str:
    speaker = _find_speaker(message)
    name = speaker if isinstance(speaker, str) else object_of(speaker).get("role")
    return name.lower() if isinstance(name, str) else ""


def _read_message(item: dict[str, Any], conversation: Conversation, extras: dict[str, bytes]) -> Message:
    role = ROLES.get(_speaker_of(item), Role.UNKNOWN)
    message = Message("", role=role, native_id=_first_id(item, MESSAGE_IDS), author=text_of(item.get("name")))
    message.origin = Origin.HUMAN if role == Role.USER else None
    message.hidden = "context" if role == Role.SYSTEM else None
    message.model = text_of(item.get("model")) or (conversation.model if role == Role.ASSISTANT else None)
    message.extra = rest_of(item, {*_list_read(item, MESSAGE_FIELDS), *CALL_KINDS, *WORD_KINDS})
    message.extra.update(odd_of(item, CALL_KINDS | WORD_KINDS))
    message.created = _find_time(item, CREATED, conversation, message.extra)
    if role == Role.UNKNOWN:
        message.extra["role"] = _speaker_of(item) or _find_speaker(item)
        warn(conversation, UNKNOWN_ROLE)
    content = next((item[name] for name in CONTENTS if item.get(name) is not None), None)
    blocks = _read_content(content, extras)
    if role == Role.TOOL:
        blocks = _as_result(blocks, item)
    thought = text_of(item.get("thinking_trace"))
    message.blocks = [*([Block(Kind.THINKING, thought)] if thought else []), *blocks, *_read_calls(item)]
    for block in message.blocks:
        if UNKNOWN_TYPE in block.flags:
            warn(conversation, UNKNOWN_TYPE)
    return message


def _as_result(blocks: list[Block], item: dict[str, Any]) -> list[Block]:
    text = "\n".join(block.text for block in blocks if block.kind == Kind.TEXT and block.text)
    name, call_id = text_of(item.get("name")), text_of(item.get("tool_call_id"))
    others = [block for block in blocks if block.kind != Kind.TEXT]
    if any(block.kind == Kind.TOOL_RESULT for block in others):
        return blocks
    return [Block(Kind.TOOL_RESULT, text, tool_name=name, call_id=call_id), *others]


def _read_calls(item: dict[str, Any]) -> Iterator[Block]:
    calls = list_of(item.get("tool_calls"))
    if isinstance(item.get("function_call"), dict):
        calls = [*calls, item["function_call"]]
    for call in calls:
        if not isinstance(call, dict):
            if unknown := _keep_unknown(call):
                yield unknown
            continue
        function = object_of(call.get("function")) or call
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            with suppress(ValueError):  # what is no JSON stays a text
                arguments = parse_embedded(arguments)
        yield Block(
            Kind.TOOL_USE,
            tool_name=text_of(function.get("name")),
            call_id=text_of(call.get("id")),
            input=without_secrets(arguments),
            extra=rest_and_odd_of(call, CALL_FIELDS, KIND_BY_PART_FIELD) | odd_of(function, {"name": str}),
        )


def _read_content(content: Json, extras: dict[str, bytes]) -> list[Block]:
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        content = content["parts"]
    pieces = content if isinstance(content, list) else [content]
    return [block for piece in pieces if piece is not None and (block := _read_piece(piece, extras))]


def _read_piece(piece: Json, extras: dict[str, bytes]) -> Block | None:
    if isinstance(piece, str):
        return Block(Kind.TEXT, piece) if piece else None
    part = object_of(piece)
    kind = text_of(part.get("type"))
    text = text_of(part.get("text"))
    if text and (kind in TEXT_PIECES or kind is None):
        return Block(Kind.TEXT, text, extra=rest_of(part, {"type", "text"}))
    if kind == "thinking" and isinstance(part.get("thinking"), str):
        return Block(Kind.THINKING, part["thinking"])
    if kind == "tool_use":
        name, call_id = text_of(part.get("name")), text_of(part.get("id"))
        extra = rest_and_odd_of(part, PART_FIELDS, KIND_BY_PART_FIELD)
        return Block(
            Kind.TOOL_USE, tool_name=name, call_id=call_id, input=without_secrets(part.get("input")), extra=extra
        )
    if kind == "tool_result":
        return _read_result(part)
    return _read_file(part, extras) or _keep_unknown(piece)


def _read_result(part: dict[str, Any]) -> Block:
    content = part.get("content")
    texts = [content] if isinstance(content, str) else [text_of(item.get("text")) for item in objects_of(content)]
    is_error = part.get("is_error") if isinstance(part.get("is_error"), bool) else None
    words = "\n".join(text for text in texts if text)
    others = [item for item in list_of(content) if not text_of(object_of(item).get("text"))]
    extra = rest_and_odd_of(part, PART_FIELDS, KIND_BY_PART_FIELD)
    others += [] if content is None or isinstance(content, str | list) else [content]
    if others:
        extra["content"] = without_secrets(others)
    return Block(Kind.TOOL_RESULT, words, call_id=text_of(part.get("tool_use_id")), is_error=is_error, extra=extra)


def _read_file(part: dict[str, Any], extras: dict[str, bytes]) -> Block | None:
    url = first_text(part.get("image_url"), object_of(part.get("image_url")).get("url"), part.get("url"))
    if url:
        return block_of(attach_url(extras, url))
    source = object_of(part.get("source"))
    data = text_of(source.get("data"))
    if data:
        return block_of(keep_inline(extras, decode_base64(data), text_of(source.get("media_type"))))
    return None


def _keep_unknown(piece: Json) -> Block | None:
    if piece in ({}, [], ""):
        return None
    part = object_of(piece)
    text = first_text(part.get("text"), part.get("content"))
    kind = Kind.TEXT if text else Kind.CONTEXT
    return Block(kind, text, flags=[UNKNOWN_TYPE], raw=without_secrets(piece))
