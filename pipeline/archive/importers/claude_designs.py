"""Design chats of Claude.ai: a project's chats about a canvas, each in a file of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from pipeline.archive.conversations import Attachment, Block, Conversation, Json, Kind, Message, Origin, Role, Usage
from pipeline.archive.importers.claude_blocks import NOT_IN_EXPORT, BlockReader
from pipeline.archive.importers.claude_messages import ROLE_BY_SENDER, read_chat_time
from pipeline.archive.importers.claude_projects import attach_project
from pipeline.archive.importers.inline_files import attach_url, block_of, keep_inline
from pipeline.archive.importers.interface import Parsed, Record
from pipeline.archive.importers.values import (
    count_of,
    first_text,
    id_of,
    list_of,
    object_of,
    objects_of,
    rest_and_odd_of,
    text_of,
)
from pipeline.archive.titles import choose_title
from pipeline.archive.trees import settle_tree

KNOWN = frozenset({"uuid", "title", "name", "created_at", "updated_at", "project", "messages"})
KNOWN_OF_MESSAGE = frozenset({"uuid", "role", "sender", "created_at", "updated_at", "content"})
KNOWN_OF_CONTENT = frozenset(
    {"content", "contentBlocks", "attachments", "authorName", "turnInputTokens", "turnOutputTokens"}
)

KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["uuid", "title", "name", "authorName", "id", "content", "text", "thinking"], str),
    **dict.fromkeys(["contentBlocks", "attachments"], list),
    "turnInputTokens": int,
    "turnOutputTokens": int,
    "hidden": bool,
}


def is_design_chat(value: Json) -> bool:
    """Whether a value is a design chat: messages in a project, with an object for content as far as they have any."""
    fields = object_of(value)
    if not isinstance(fields.get("messages"), list) or not isinstance(fields.get("project"), dict):
        return False
    contents = [message.get("content") for message in objects_of(fields["messages"])]
    said = [content for content in contents if content is not None]
    return "uuid" in fields and (not said or any(isinstance(content, dict) for content in said))


def parse_design_chat(record: Record, provider: str) -> Parsed:
    """Return the conversation of a design chat; its messages are a list."""
    chat, context = object_of(record.value), object_of(record.context)
    warnings: Counter[str] = Counter()
    extras: dict[str, bytes] = {}
    project = object_of(chat.get("project"))
    conversation = Conversation(
        provider,
        record.key,
        is_id_derived=id_of(chat.get("uuid")) != record.key,
        account=text_of(context.get("account")),
        project_id=text_of(project.get("uuid")),
        project_name=text_of(project.get("name")),
        flags=["design"],
        extra=_list_rest(chat, KNOWN),
        warnings=warnings,
    )
    if more := rest_and_odd_of(project, ("uuid", "name"), KIND_BY_FIELD):
        conversation.extra["project"] = more
    conversation.messages = list(_read_messages(list_of(chat.get("messages")), extras, warnings))
    times = [message.created for message in conversation.messages if message.created]
    conversation.created = read_chat_time(chat, "created_at", conversation.extra, warnings) or next(iter(times), None)
    conversation.updated = read_chat_time(chat, "updated_at", conversation.extra, warnings) or next(
        reversed(times), None
    )
    settle_tree(conversation, leaf=conversation.messages[-1].key if conversation.messages else None)
    attach_project(conversation, object_of(context.get("project")), extras)
    choose_title(conversation, (first_text(chat.get("title"), chat.get("name")), "provider"))
    return Parsed(conversation, extras)


def _read_messages(values: list[Any], extras: dict[str, bytes], warnings: Counter[str]) -> Iterator[Message]:
    reader, before = BlockReader(extras, warnings), None
    keys: Counter[str] = Counter()
    for place, value in enumerate(values):
        native_id = text_of(object_of(value).get("uuid"))
        key = native_id or f"message-{place}"
        keys[key] += 1
        if keys[key] > 1:
            warnings["duplicate_message_id"] += 1
            key = f"{key}~{keys[key]}"
        message = _read_message(key, value, reader, extras, warnings)
        message.parent, before = before, message.key
        yield message


def _read_message(
    key: str, value: Any, reader: BlockReader, extras: dict[str, bytes], warnings: Counter[str]
) -> Message:
    if not isinstance(value, dict):
        warnings["malformed_message"] += 1
        return Message(key, blocks=[reader.read_unknown(value, flag="malformed")])
    content = value.get("content")
    content = content if isinstance(content, dict) else {"content": content}
    role = ROLE_BY_SENDER.get(first_text(value.get("role"), value.get("sender")) or "", Role.UNKNOWN)
    message = Message(
        key,
        role=role,
        origin=Origin.HUMAN if role == Role.USER else None,
        native_id=None if value.get("uuid") == key else text_of(value.get("uuid")),
        author=text_of(content.get("authorName")),
        blocks=[*_read_blocks(content, reader), *_read_attachments(content, reader, extras)],
        usage=_read_usage(content, key),
        extra={**rest_and_odd_of(value, KNOWN_OF_MESSAGE, {"uuid": str}), **_list_rest(content, KNOWN_OF_CONTENT)},
    )
    if role == Role.UNKNOWN:
        warnings["unknown_sender"] += 1
        message.extra["sender"] = value.get("role", value.get("sender"))
    message.created = read_chat_time(value, "created_at", message.extra, warnings)
    message.updated = read_chat_time(value, "updated_at", message.extra, warnings)
    return message


def _read_blocks(content: dict[str, Any], reader: BlockReader) -> Iterator[Block]:
    """Yield the blocks; `content` repeats their text and stands in only where there are none."""
    items = list_of(content.get("contentBlocks"))
    if not items:
        yield from reader.read(content.get("content"))
    for item in items:
        fields = object_of(item)
        if fields.get("type") == "thinking":
            text = first_text(fields.get("text"), fields.get("thinking"))
            yield Block(Kind.THINKING, text=text, extra=_list_rest(fields, ("type", "text", "thinking")))
        elif fields.get("type") == "tool_call" and isinstance(fields.get("toolCall"), dict):
            yield from _read_call(fields["toolCall"], reader)
        elif item is not None:
            yield from reader.read([item])


def _read_call(call: dict[str, Any], reader: BlockReader) -> Iterator[Block]:
    name, call_id = text_of(call.get("name")), text_of(call.get("id"))
    extra = _list_rest(call, ("id", "name", "input", "output"))
    yield Block(Kind.TOOL_USE, tool_name=name, call_id=call_id, input=call.get("input"), extra=extra)
    if call.get("output") is not None:
        text, files, others = reader.read_result(call["output"])
        yield Block(
            Kind.TOOL_RESULT,
            text=text,
            tool_name=name,
            call_id=call_id,
            extra={"content": others} if others else {},
        )
        yield from files


def _read_attachments(content: dict[str, Any], reader: BlockReader, extras: dict[str, bytes]) -> Iterator[Block]:
    for item in list_of(content.get("attachments")):
        if not isinstance(item, dict):
            yield reader.read_unknown(item, flag="malformed")
            continue
        block = block_of(_read_attachment(item, extras))
        block.flags += ["hidden"] if item.get("hidden") is True else []
        yield block


def _read_attachment(item: dict[str, Any], extras: dict[str, bytes]) -> Attachment:
    text, kind = text_of(item.get("content")), text_of(item.get("type"))
    mime_type = kind if kind and "/" in kind else None
    if text and text.startswith("data:"):
        attachment = attach_url(extras, text, purpose="upload")
    elif text:
        attachment = keep_inline(extras, text.encode(), mime_type, purpose="upload")
    else:
        attachment = Attachment(mime_type=mime_type, purpose="upload", reason=NOT_IN_EXPORT)
    attachment.id, attachment.name = text_of(item.get("id")), text_of(item.get("name"))
    attachment.extra = _list_rest(item, ("id", "name", "content", "hidden"))
    return attachment


def _list_rest(record: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    return rest_and_odd_of(record, known, KIND_BY_FIELD)


def _read_usage(content: dict[str, Any], key: str) -> Usage | None:
    read, written = count_of(content.get("turnInputTokens")), count_of(content.get("turnOutputTokens"))
    if read is None and written is None:
        return None
    return Usage(input_tokens=read, output_tokens=written, usage_id=key)
