"""Content blocks of Claude's messages, as its chats, its sessions and its API share them.

Signatures and encrypted texts are of use to the provider alone: they stay in the export, and out of the conversation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pipeline.archive.conversations import Attachment, AttachmentStatus, Block, Kind
from pipeline.archive.importers.inline_files import attach_url, block_of, decode_base64, keep_inline
from pipeline.archive.importers.values import (
    count_of,
    first_text,
    flag_of,
    list_of,
    object_of,
    objects_of,
    rest_and_odd_of,
    rest_of,
    text_of,
    without_secrets,
)

NOT_IN_EXPORT = "not in the export"
FILE_TYPES = ("image", "document", "local_resource")
KNOWN_OF_FILE = frozenset(
    {"type", "source", "data", "mime_type", "media_type", "size_bytes"}
    | {"file_uuid", "uuid", "file_name", "name", "title"}
)
KNOWN_OF_SOURCE = frozenset({"type", "data", "media_type", "url", "file_id"})
CODE_FIELDS = ("code", "text", "content")
KNOWN_OF_TEXT_ITEM = ("type", "text", "uuid")  # of a tool's result
KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["thinking", "id", "name", "tool_use_id", "language", "file_uuid", "uuid", "file_name"], str),
    **dict.fromkeys(["title", "mime_type", "media_type", "data", "url", "file_id", "extracted_content"], str),
    **dict.fromkeys(["cut_off", "is_error"], bool),
    "citations": list,
    "source": dict,
    "size_bytes": int,
    "file_size": int,
}
COUNTS = ("size_bytes", "file_size")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")  # of a type: short enough for a report, and no text


class BlockReader:
    """Turns a message's content into blocks. Puts the files in it among the extras, and counts what was odd."""

    def __init__(self, extras: dict[str, bytes], warnings: Counter[str]) -> None:
        self.extras, self.warnings = extras, warnings
        self._readers: dict[str, Callable[[dict[str, Any]], Iterator[Block]]] = {
            "text": self._read_text,
            "thinking": self._read_thinking,
            "redacted_thinking": self._read_redacted,
            "tool_use": self._read_tool_use,
            "server_tool_use": self._read_tool_use,
            "mcp_tool_use": self._read_tool_use,
            "tool_result": self._read_tool_result,
            "image": self._read_file,
            "document": self._read_file,
            "voice_note": self._read_voice_note,
            "artifact": self._read_artifact,
            "code": self._read_code,
            "token_budget": self._read_budget,
        }

    def read(self, content: Any) -> list[Block]:
        """Return the blocks of a text, of a list of blocks, or of what a broken file has in their place."""
        if content is None or content == "":
            return []
        if isinstance(content, str):
            return [Block(Kind.TEXT, text=content)]
        items = content if isinstance(content, list) else [content]
        return [block for item in items for block in self._read_item(item)]

    def read_unknown(self, value: Any, *, flag: str = "unknown_type") -> Block:
        """Return what nobody knows as context: as it was, and with its text where it has an obvious one."""
        fields = object_of(value)
        text = first_text(value, *(fields.get(name) for name in ("text", "content", "message", "title")))
        return Block(Kind.CONTEXT, text=text, raw=without_secrets(value), flags=[flag])

    def read_result(self, content: Any) -> tuple[str | None, list[Block], list[Any]]:
        """Return what a tool gave back: its text, the files in it, and the items that hold more than a text."""
        texts: list[str] = []
        files: list[Block] = []
        others: list[Any] = []
        for item in content if isinstance(content, list) else [content]:
            if isinstance(item, str):
                texts.append(item)
            elif isinstance(item, dict) and item.get("type") in FILE_TYPES:
                files += self._read_file(item)
            elif isinstance(item, dict):
                texts += _tell_item(item)
                others += [] if _is_text_alone(item) else [without_secrets(item)]
            elif item is not None:
                others.append(item)
        return "\n".join(texts) if texts else None, files, others

    def _read_item(self, item: Any) -> Iterator[Block]:
        if isinstance(item, str):
            self.warnings["plain_string_in_content"] += 1
            yield Block(Kind.TEXT, text=item, flags=["plain_string"])
            return
        kind = text_of(object_of(item).get("type")) or ""
        if kind in self._readers:
            yield from self._readers[kind](item)
        elif kind.endswith("_tool_result"):
            yield from self._read_tool_result(item)
        else:
            self.warnings[f"unknown_block_type {kind}" if PLAIN_NAME.fullmatch(kind) else "unknown_block_type"] += 1
            yield self.read_unknown(item)

    def _read_text(self, item: dict[str, Any]) -> Iterator[Block]:
        if not isinstance(item.get("text"), str):
            self.warnings["malformed_block"] += 1
            yield self.read_unknown(item, flag="malformed")
            return
        yield Block(Kind.TEXT, text=item["text"], extra=list_rest(item, ("type", "text", "citations")))
        for citation in list_of(item.get("citations")):
            if citation is not None:
                yield _read_citation(citation)

    def _read_thinking(self, item: dict[str, Any]) -> Iterator[Block]:
        text = item["thinking"] if isinstance(item.get("thinking"), str) else None
        flags = ["cut_off"] if item.get("cut_off") is True else []
        summaries = [text_of(summary.get("summary")) for summary in objects_of(item.get("summaries"))]
        if not text and any(summaries):
            text, flags = "\n".join(filter(None, summaries)), [*flags, "summary"]
        yield Block(Kind.THINKING, text=text, flags=flags, extra=list_rest(item, ("type", "thinking", "cut_off")))

    def _read_redacted(self, item: dict[str, Any]) -> Iterator[Block]:
        yield Block(Kind.THINKING, flags=["redacted"], extra=rest_of(item, ("type", "data")))

    def _read_tool_use(self, item: dict[str, Any]) -> Iterator[Block]:
        yield Block(
            Kind.TOOL_USE,
            tool_name=text_of(item.get("name")),
            call_id=text_of(item.get("id")),
            input=item.get("input"),
            extra=list_rest(item, ("type", "name", "id", "input")),
        )

    def _read_tool_result(self, item: dict[str, Any]) -> Iterator[Block]:
        text, files, others = self.read_result(item.get("content"))
        is_failure = any(str(object_of(other).get("type")).endswith("_error") for other in others)
        result = Block(
            Kind.TOOL_RESULT,
            text=text,
            tool_name=text_of(item.get("name")),
            call_id=text_of(item.get("tool_use_id")),
            is_error=True if is_failure else flag_of(item.get("is_error")),
            extra=list_rest(item, ("type", "name", "tool_use_id", "content", "is_error")),
        )
        if others:
            result.extra["content"] = others
        yield result
        for block in files:
            block.call_id = result.call_id
            yield block

    def _read_file(self, item: dict[str, Any]) -> Iterator[Block]:
        source = object_of(item.get("source"))
        data, url = first_text(source.get("data"), item.get("data")), text_of(source.get("url"))
        mime_type = first_text(source.get("media_type"), item.get("mime_type"), item.get("media_type"))
        purpose = "document" if item.get("type") == "document" else "inline"
        if data and source.get("type") == "text":
            attachment = keep_inline(self.extras, data.encode(), mime_type or "text/plain", purpose=purpose)
        elif data:
            attachment = keep_inline(self.extras, decode_base64(data), mime_type, purpose=purpose)
        elif url:
            attachment = attach_url(self.extras, url)
        else:
            attachment = Attachment(mime_type=mime_type, purpose=purpose, reason=NOT_IN_EXPORT)
            attachment.size_bytes = count_of(item.get("size_bytes"))
        attachment.id = first_text(item.get("file_uuid"), item.get("uuid"), source.get("file_id"))
        attachment.name = first_text(item.get("file_name"), item.get("name"), item.get("title"))
        attachment.extra = {**list_rest(source, KNOWN_OF_SOURCE), **list_rest(item, KNOWN_OF_FILE)}
        yield block_of(attachment)

    def _read_voice_note(self, item: dict[str, Any]) -> Iterator[Block]:
        text = first_text(item.get("transcript"), item.get("text"), item.get("transcription"))
        if text:
            yield Block(Kind.TEXT, text=text, flags=["voice_note"], raw=without_secrets(item))
        else:
            yield from self._read_file(item)

    def _read_artifact(self, item: dict[str, Any]) -> Iterator[Block]:
        text = first_text(item.get("content"), item.get("text"), item.get("code"))
        facts: dict[str, Any] = {
            "id": first_text(item.get("version_uuid"), item.get("uuid"), item.get("id")),
            "name": first_text(item.get("title"), item.get("name")),
            "purpose": "artifact",
        }
        mime_type = first_text(item.get("artifact_type"), item.get("media_type"))
        if text:
            attachment = keep_inline(self.extras, text.encode(), mime_type, **facts)
        else:
            attachment = Attachment(mime_type=mime_type, status=AttachmentStatus.MISSING, reason=NOT_IN_EXPORT, **facts)
        yield Block(Kind.ATTACHMENT, attachment=attachment, raw=without_secrets(item))

    def _read_code(self, item: dict[str, Any]) -> Iterator[Block]:
        text = first_text(*(item.get(name) for name in CODE_FIELDS))
        raw = None if text else without_secrets(item)
        extra = {} if raw else list_rest(item, ("type", "language", *CODE_FIELDS))
        yield Block(Kind.CODE, text=text, language=text_of(item.get("language")), raw=raw, extra=extra)

    def _read_budget(self, item: dict[str, Any]) -> Iterator[Block]:
        yield Block(Kind.CONTEXT, raw=item)


def list_rest(record: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return what is not known, and of what is known that with another kind of value than can be read."""
    rest = rest_and_odd_of(record, known, KIND_BY_FIELD)
    for name in COUNTS:
        if name in rest and name in known and count_of(rest[name]) is not None:
            del rest[name]  # a count that is written as a text
    return rest


def _is_text_alone(item: dict[str, Any]) -> bool:
    """Whether an item of a tool's result is told by its text."""
    return item.get("type") == "text" and isinstance(item.get("text"), str) and not rest_of(item, KNOWN_OF_TEXT_ITEM)


def _tell_item(item: dict[str, Any]) -> list[str]:
    """Return an item of a tool's result as lines: what it found and where, and what that says."""
    heading = [part for part in (text_of(item.get("title")), text_of(item.get("url"))) if part]
    text = first_text(item.get("text"), item.get("content"), item.get("error_code"))
    return ([" ".join(heading)] if heading else []) + ([text] if text else [])


def _read_citation(citation: Any) -> Block:
    fields, details = object_of(citation), object_of(object_of(citation).get("details"))
    extra = rest_of(fields, ("encrypted_index",))
    if url := first_text(details.get("url"), fields.get("url")):
        extra["url"] = url
    title = first_text(details.get("title"), fields.get("title"), fields.get("document_title"))
    return Block(Kind.CITATION, text=title, extra=extra, raw=None if fields else citation)
