"""Captures of a browser: a provider's own answer, wrapped with what the page showed of it.

    {"provenance": {…}, "session": {"turns": […], "attachments": […]}, "raw_provider_payload": {…}}

The payload is the provider's own format, so the provider's own importer reads it; the turns are read only where there
is none. Bytes of attachments stand in the session, as base64.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.archive.conversations import Attachment, AttachmentStatus, Conversation
from pipeline.archive.importers.generic import make_record, read_conversation
from pipeline.archive.importers.inline_files import decode_base64, keep_inline
from pipeline.archive.importers.interface import Importer, Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.provider_names import name_provider
from pipeline.archive.importers.values import first_text, list_of, object_of, objects_of, rest_of, text_of
from pipeline.archive.reading import peek as peek_at
from pipeline.archive.reading import read_items
from store.identity import hash_bytes

SESSION_IDS = ("provider_session_id", "native_id", "conversation_id", "id", "session_id")
SESSION_KEYS = frozenset({"turns", "attachments"})
FILE_IDS = ("id", "attachment_id", "provider_attachment_id", "file_id")
LINK_NAMES = ("name", "file_name", "filename")


class BrowserCaptureImporter:
    """Captures. `natives` are the importers that may know the payload."""

    name = "browser_capture"
    provider = "unknown"

    def __init__(self, natives: Sequence[Importer]) -> None:
        self.natives = tuple(natives)
        # It goes up with that of any importer whose work is in a capture's conversations.
        self.version = 2 + sum(native.version for native in self.natives)

    def recognise(self, peek: Peek) -> Recognition | None:
        values = [value for value in peek.items if isinstance(value, dict)]
        if any(_is_capture(value) for value in values):
            return Recognition("provenance with a session or a raw_provider_payload")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        for item in read_items(file):
            if isinstance(item, Skip):
                yield item
                continue
            place = f"{file.name}[{item.index}]"
            capture = object_of(item.value)
            records = list(self._split_payload(capture, file, siblings, place=place))
            if not any(isinstance(record, Record) for record in records):
                records.append(_make_turns_record(capture, place))
            yield from records

    def _split_payload(
        self, capture: dict[str, Any], file: Member, siblings: Sequence[Member], *, place: str
    ) -> Iterator[Record | Skip]:
        payload = capture.get("raw_provider_payload")
        if not isinstance(payload, dict | list) or not payload:
            return
        inner = _make_member(file, payload)
        native = self._find_native(peek_at(inner))
        if native is None:
            yield Skip("payload_not_recognised", place, "raw_provider_payload has no known form; the turns are read")
            return
        for record in native.split(inner, siblings):
            if isinstance(record, Record):
                yield replace(record, place=place, context=_wrap(native, record, capture))
            else:
                yield record._replace(place=place)

    def _find_native(self, peek: Peek) -> Importer | None:
        for native in self.natives:
            found = native.recognise(peek)
            if found:
                return None if found.is_artifact else native
        return None

    def parse(self, record: Record) -> Parsed:
        context = object_of(record.context)
        native = next((native for native in self.natives if native.name == context.get("native")), None)
        if native is None:
            value, inner = object_of(record.value), object_of(context.get("context"))
            conversation = Conversation(text_of(context.get("provider")) or self.provider, record.key)
            parsed = read_conversation(conversation, value, context=inner)
        else:
            parsed = native.parse(replace(record, context=context.get("context")))
        extras = dict(parsed.extras)
        if context.get("capture"):
            parsed.conversation.extra["capture"] = context["capture"]
        _fill_attachments(parsed.conversation, objects_of(context.get("files")), extras)
        return Parsed(parsed.conversation, extras)


def _is_capture(value: dict[str, Any]) -> bool:
    session = object_of(value.get("session"))
    has_turns = isinstance(session.get("turns"), list)
    return isinstance(value.get("provenance"), dict) and (has_turns or "raw_provider_payload" in value)


def _make_member(file: Member, payload: Any) -> Member:
    content = json.dumps(payload, ensure_ascii=False).encode()
    return Member(file.name, len(content), hash_bytes(content), file.export, lambda: io.BytesIO(content))


def _wrap(native: Importer, record: Record, capture: dict[str, Any]) -> dict[str, Any]:
    return {"native": native.name, "context": record.context, **_tell_capture(capture)}


def _tell_capture(capture: dict[str, Any]) -> dict[str, Any]:
    session = object_of(capture.get("session"))
    files: list[Any] = []
    others: list[Any] = []
    for file in list_of(session.get("attachments")):
        (files if text_of(object_of(file).get("inline_base64")) else others).append(file)
    about = {"provenance": capture.get("provenance"), "session": rest_of(session, SESSION_KEYS), "attachments": others}
    return {"files": files, "capture": {name: value for name, value in about.items() if value}}


def _make_turns_record(capture: dict[str, Any], place: str) -> Record | Skip:
    """Return the record of what the page showed, as messages."""
    session = object_of(capture.get("session"))
    turns = objects_of(session.get("turns"))
    if not turns:
        return Skip("empty_capture", place, "neither a payload nor turns")
    value = {**rest_of(session, SESSION_KEYS), "messages": turns}
    record = make_record(value, place)
    native_id = first_text(*(session.get(name) for name in SESSION_IDS))
    provenance = object_of(capture.get("provenance"))
    named = first_text(session.get("provider"), provenance.get("provider"), provenance.get("source_url"))
    context = {
        "provider": name_provider(named),
        "context": None if native_id else record.context,
        **_tell_capture(capture),
    }
    return replace(record, key=native_id or record.key, context=context)


def _fill_attachments(conversation: Conversation, files: list[dict[str, Any]], extras: dict[str, bytes]) -> None:
    """Give attachments without bytes those that the session has: by id, or by name. The others are of no message."""
    others = list(files)
    for attachment in [block.attachment for message in conversation.messages for block in message.blocks]:
        file = next((file for file in files if attachment and _is_same_file(attachment, file)), None)
        if attachment is None or file is None:
            continue
        others = [other for other in others if other is not file]
        if attachment.status not in (AttachmentStatus.PRESENT, AttachmentStatus.CONFLICT):
            kept = _read_file(file, extras)
            attachment.status, attachment.reason = kept.status, kept.reason
            attachment.blake3, attachment.extra_file = kept.blake3, kept.extra_file
            attachment.size_bytes = kept.size_bytes
            attachment.mime_type = attachment.mime_type or kept.mime_type
    conversation.attachments += [_read_file(file, extras) for file in others]


def _read_file(file: dict[str, Any], extras: dict[str, bytes]) -> Attachment:
    attachment = keep_inline(extras, decode_base64(file["inline_base64"]), _mime_type_of(file))
    attachment.id = first_text(*(file.get(name) for name in FILE_IDS))
    attachment.name = first_text(*(file.get(name) for name in LINK_NAMES))
    attachment.extra = rest_of(file, {"inline_base64", "mime_type", "mimeType", *FILE_IDS, *LINK_NAMES})
    return attachment


def _mime_type_of(file: dict[str, Any]) -> str | None:
    return first_text(file.get("mime_type"), file.get("mimeType"))


def _is_same_file(attachment: Attachment, file: dict[str, Any]) -> bool:
    ids = {text_of(file.get(name)) for name in FILE_IDS}
    names = {_base(name) for key in LINK_NAMES if (name := text_of(file.get(key)))}
    own = {_base(name) for name in (attachment.name, attachment.id, attachment.url) if name}
    return (attachment.id is not None and attachment.id in ids) or bool(names & own)


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]
