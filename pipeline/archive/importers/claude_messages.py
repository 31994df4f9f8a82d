"""Messages of Claude.ai: a chat's tree of messages, each with its blocks and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pipeline.archive.conversations import (
    Attachment,
    AttachmentStatus,
    Block,
    Conversation,
    Kind,
    Message,
    Origin,
    Role,
)
from pipeline.archive.importers.claude_blocks import NOT_IN_EXPORT, BlockReader, list_rest
from pipeline.archive.importers.inline_files import block_of, keep_inline
from pipeline.archive.importers.odd_values import TIME_WITHOUT_ZONE
from pipeline.archive.importers.values import (
    count_of,
    first_text,
    list_of,
    object_of,
    rest_and_odd_of,
    text_of,
)
from pipeline.archive.reading import hash_record
from pipeline.archive.times import is_damaged_time, lacks_zone, read_time

ROOT = "00000000-0000-4000-8000-000000000000"  # stands for no parent
ROLE_BY_SENDER = {
    "human": Role.USER,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "tool": Role.TOOL,
}
KNOWN = frozenset(
    {"uuid", "sender", "role", "text", "content", "model", "stop_reason", "created_at", "updated_at"}
    | {"attachments", "files", "files_v2", "parent_message_uuid"}
)
KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["uuid", "sender", "role", "text", "model", "stop_reason", "parent_message_uuid"], str),
    **dict.fromkeys(["attachments", "files", "files_v2"], list),
}
KNOWN_OF_ATTACHMENT = ("id", "file_name", "file_size", "extracted_content")
KNOWN_OF_FILE = ("file_uuid", "uuid", "file_name", "size_bytes", "file_size")
MIME_TYPE_BY_WORD = {
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


class MessageReader:
    """Turns the messages of one chat into ours."""

    def __init__(self, conversation: Conversation, warnings: Counter[str], extras: dict[str, bytes]) -> None:
        self._conversation, self._warnings, self._extras = conversation, warnings, extras
        self._blocks = BlockReader(extras, warnings)
        self._values: dict[str, Any] = {}  # by key
        self._contents: dict[str, set[str]] = {}  # of messages with one id: the hashes of what they say

    def read(self, values: list[Any]) -> None:
        """Add a message for each value, in their order, with its parent where the chat has a tree."""
        for place, value in enumerate(values):
            key = self._choose_key(value, place)
            if key is not None:
                self._values[key] = value
                self._conversation.messages.append(self._read_message(key, value))
        self._link_parents()

    def _choose_key(self, value: Any, place: int) -> str | None:
        """Return a key that no other message has, or None for an exact repetition."""
        uuid = text_of(object_of(value).get("uuid"))
        if uuid is None:
            return self._make_unique(f"message-{place}")
        if uuid not in self._values:
            return uuid
        contents = self._contents.setdefault(uuid, {hash_record(self._values[uuid])})
        content = hash_record(value)
        if content in contents:
            return None
        contents.add(content)
        self._warnings["duplicate_message_id"] += 1
        return self._make_unique(f"{uuid}~{len(contents)}")

    def _make_unique(self, key: str) -> str:
        while key in self._values:  # somebody named a message like this
            key += "~"
        return key

    def _read_message(self, key: str, value: Any) -> Message:
        if not isinstance(value, dict):
            self._warnings["malformed_message"] += 1
            return Message(key, blocks=[self._blocks.read_unknown(value, flag="malformed")])
        sender = first_text(value.get("sender"), value.get("role"))
        role = ROLE_BY_SENDER.get(sender or "", Role.UNKNOWN)
        uuid = text_of(value.get("uuid"))
        message = Message(
            key,
            role=role,
            origin=Origin.HUMAN if role == Role.USER else None,
            native_id=uuid if uuid != key else None,
            model=text_of(value.get("model")),
            status=text_of(value.get("stop_reason")),
            blocks=[*self._read_content(value), *self._read_attachments(value), *self._read_files(value)],
            extra=drop_empty(rest_and_odd_of(value, KNOWN, KIND_BY_FIELD)),
        )
        self._keep_other_text(value, message)
        if role == Role.UNKNOWN:
            self._warnings["unknown_sender"] += 1
            message.extra["sender"] = value.get("sender", value.get("role"))
        message.created = read_chat_time(value, "created_at", message.extra, self._warnings)
        message.updated = read_chat_time(value, "updated_at", message.extra, self._warnings)
        return message

    def _read_content(self, value: dict[str, Any]) -> list[Block]:
        """Return the blocks of `content`; `text` repeats them in short and stands in only where there are none."""
        content = value.get("content")
        return self._blocks.read(value.get("text") if _says_nothing(content) else content)

    def _keep_other_text(self, value: dict[str, Any], message: Message) -> None:
        """Keep a `text` that has not the words of `content`, of which it should be a copy."""
        text = text_of(value.get("text"))
        if text is None:
            return
        has_words = False
        for block in message.blocks:
            if block.kind == Kind.TEXT and block.text:
                has_words = True
                if block.text == text or block.text.strip() in text:
                    return
        if has_words:
            message.extra["text"] = text
            self._warnings["text_differs"] += 1

    def _read_attachments(self, value: dict[str, Any]) -> Iterator[Block]:
        for item in list_of(value.get("attachments")):
            if isinstance(item, dict):
                yield self._read_attachment(item)
            else:
                yield self._count_malformed(item)

    def _read_attachment(self, item: dict[str, Any]) -> Block:
        """Return an upload: the text that was extracted from it is the only copy that the export has."""
        name, text = text_of(item.get("file_name")), item.get("extracted_content")
        mime_type = _find_mime_type(text_of(item.get("file_type")) or "")
        extra = list_rest(item, KNOWN_OF_ATTACHMENT)
        facts: dict[str, Any] = {"id": text_of(item.get("id")), "name": name, "extra": extra}
        size_bytes = count_of(item.get("file_size"))
        if isinstance(text, str) and text:
            attachment = keep_inline(self._extras, text.encode(), mime_type, purpose="upload", is_derived=True, **facts)
            if size_bytes is not None:
                attachment.extra["original_size_bytes"] = size_bytes
        else:
            attachment = Attachment(
                mime_type=mime_type,
                size_bytes=size_bytes,
                purpose="upload",
                status=AttachmentStatus.MISSING,
                reason="the export has no text of it",
                **facts,
            )
        block = block_of(attachment)
        block.flags += [] if name else ["paste"]
        return block

    def _read_files(self, value: dict[str, Any]) -> Iterator[Block]:
        """Yield uploads without bytes. `files` and `files_v2` repeat each other."""
        merged = [*list_of(value.get("files"))]
        places = _FilePlaces(merged)
        for item in list_of(value.get("files_v2")):
            twin = places.find(item)
            if twin is None:
                merged.append(item)
            else:
                said = {name: found for name, found in object_of(merged[twin]).items() if found is not None}
                merged[twin] = {**object_of(item), **said}
        for item in merged:
            yield self._read_file(item)

    def _read_file(self, item: Any) -> Block:
        if isinstance(item, str):
            item = {"file_name": item}
        if not isinstance(item, dict):
            return self._count_malformed(item)
        return block_of(
            Attachment(
                id=_id_of_file(item),
                name=text_of(item.get("file_name")),
                size_bytes=count_of(item.get("size_bytes", item.get("file_size"))),
                purpose="upload",
                reason=NOT_IN_EXPORT,
                extra=list_rest(item, KNOWN_OF_FILE),
            )
        )

    def _count_malformed(self, item: Any) -> Block:
        self._warnings["malformed_attachment"] += 1
        return self._blocks.read_unknown(item, flag="malformed")

    def _link_parents(self) -> None:
        """Give each message its parent: as the export says, or the message before it where it says nothing."""
        messages = self._conversation.messages
        named = {message.key: _find_parent(self._values[message.key]) for message in messages}
        is_linear = not (set(named.values()) - {None, ROOT}) and not _are_first_prompts(messages, named)
        for place, message in enumerate(messages):
            parent = named[message.key]
            if parent == ROOT and not is_linear:
                continue
            if parent in named:
                message.parent = parent
            elif place:
                message.parent = messages[place - 1].key
                if not is_linear:
                    self._warnings["missing_parent"] += 1


def find_leaf(conversation: Conversation, declared: str | None) -> tuple[str | None, bool]:
    """Return the key of the message that a chat ends with, and whether it is a guess.

    The declared one, if the way from it to a root is sound; otherwise the last one of the file.
    """
    messages = conversation.messages
    parents = {message.key: message.parent for message in messages}
    if declared in parents and _has_root(declared, parents):
        return declared, False
    is_linear = all(message.parent == before.key for before, message in pairwise(messages))
    return (messages[-1].key if messages else None), not is_linear


def read_time_of(record: dict[str, Any], name: str, extra: dict[str, Any], warnings: Counter[str]) -> str | None:
    """Return a time. A damaged one is counted, and kept in `extra` as it was."""
    value = record.get(name)
    time = read_time(value)
    if time is None and is_damaged_time(value):
        warnings["damaged_time"] += 1
        extra[name] = value
    return time


def read_chat_time(record: dict[str, Any], name: str, extra: dict[str, Any], warnings: Counter[str]) -> str | None:
    """Return a time, as `read_time_of` does; one that has no zone is counted."""
    time = read_time_of(record, name, extra, warnings)
    if time != record.get(name) and lacks_zone(record.get(name)):
        warnings[TIME_WITHOUT_ZONE] += 1
    return time


def drop_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that say something: exports write many of them as empty texts and lists."""
    return {name: value for name, value in fields.items() if value not in ("", [], {})}


def _are_first_prompts(messages: list[Message], named: dict[str, str | None]) -> bool:
    """Whether there is nothing but versions of the first prompt: an answer is never the first message."""
    return ROOT in named.values() and all(message.role == Role.USER for message in messages)


def _says_nothing(content: Any) -> bool:
    """Whether there are no blocks, or only texts without a word."""
    if not isinstance(content, list):
        return content in (None, "")
    for item in content:
        is_empty = item.get("type") == "text" and item.get("text") == "" if isinstance(item, dict) else not item
        if not is_empty:
            return False
    return True


def _find_parent(value: Any) -> str | None:
    return text_of(object_of(value).get("parent_message_uuid"))


def _has_root(key: str, parents: dict[str, str | None]) -> bool:
    seen: set[str] = set()
    step: str | None = key
    while step is not None and step not in seen:
        seen.add(step)
        step = parents.get(step)
    return step is None


def _find_mime_type(word: str) -> str | None:
    return word if "/" in word else MIME_TYPE_BY_WORD.get(word.lower())


def _id_of_file(item: dict[str, Any]) -> str | None:
    return first_text(item.get("file_uuid"), item.get("uuid"))


class _FilePlaces:
    """Where each file stands in a list: by its id, or by its name where one of two has no id."""

    def __init__(self, items: list[Any]) -> None:
        self._by_id: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        self._without_id: dict[str, int] = {}
        for place, item in enumerate(items):
            fields = {"file_name": item} if isinstance(item, str) else object_of(item)
            file_id, name = _id_of_file(fields), text_of(fields.get("file_name"))
            if file_id:
                self._by_id.setdefault(file_id, place)
            if name:
                self._by_name.setdefault(name, place)
            if name and not file_id:
                self._without_id.setdefault(name, place)

    def find(self, item: Any) -> int | None:
        fields = object_of(item)
        file_id, name = _id_of_file(fields), text_of(fields.get("file_name")) or ""
        if file_id is None:
            return self._by_name.get(name)
        return self._by_id.get(file_id, self._without_id.get(name))
