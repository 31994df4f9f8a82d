"""Conversations made by hand, and a store that keeps them as their documents."""

from __future__ import annotations

import functools
import struct
import zlib
from pathlib import Path
from typing import Any

from pipeline.archive.conversations import Attachment, Block, Conversation, Message, encode_conversation
from pipeline.archive.transcripts import Format, TranscriptTemplate, read_template
from pipeline.archive.views import Outline, View
from store.data_root import DataRoot
from store.documents import DocumentStore
from store.identity import digest_of, hash_bytes, id_from_digest

CONVERSATION_ID = "3f9a1c2b7d8e4f60"


def make_png(width: int, height: int, colour: tuple[int, int, int] = (40, 110, 160)) -> bytes:
    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def say(key: str, text: str | None = None, **fields: Any) -> Message:
    """Return a message on the active path: of the user if its key starts with u, of the assistant otherwise."""
    role = fields.pop("role", "user" if key.startswith("u") else "assistant")
    blocks = fields.pop("blocks", None) or ([Block("text", text)] if text is not None else [])
    origin = fields.pop("origin", "human" if role == "user" else None)
    return Message(key, role=role, origin=origin, blocks=blocks, is_active=fields.pop("is_active", True), **fields)


def chain(*messages: Message) -> list[Message]:
    """Link messages that name no parent to the one before them."""
    previous = None
    for message in messages:
        message.parent = message.parent or previous
        previous = message.key
    return list(messages)


def make_conversation(*messages: Message, **fields: Any) -> Conversation:
    title = fields.pop("title", "Harbour photo")
    created, updated = fields.pop("created", "2025-03-01T09:00:00Z"), fields.pop("updated", "2025-03-01T09:14:30.5Z")
    return Conversation(
        fields.pop("provider", "chatgpt"),
        fields.pop("native_id", "c-1"),
        title=title,
        created=created,
        updated=updated,
        messages=list(messages),
        **fields,
    )


def make_view(*messages: Message, conversation_id: str = CONVERSATION_ID, **fields: Any) -> View:
    conversation = make_conversation(*messages, **fields)
    return View(conversation_id, conversation, versions=(id_of_version(conversation),))


def id_of_version(conversation: Conversation) -> str:
    return id_from_digest(digest_of("conversation", _inputs_of(conversation)))


def _inputs_of(conversation: Conversation) -> dict[str, Any]:
    record = hash_bytes(encode_conversation(conversation))
    return {"provider": conversation.provider, "key": conversation.native_id, "record": record}


def outline_of(view: View) -> Outline:
    return Outline(tuple(sorted(view.versions)), view.is_gone)


def open_documents(folder: Path) -> DocumentStore:
    return DataRoot(folder / "data").documents


def keep(documents: DocumentStore, view: View, extras: dict[str, bytes] | None = None) -> View:
    """Commit a view's only version, so that a transcript finds its parent."""
    inputs = _inputs_of(view.conversation)
    files = {"conversation.json": encode_conversation(view.conversation)}
    files |= {f"extras/{name}": content for name, content in (extras or {}).items()}
    digest = digest_of("conversation", inputs)
    created_at = "2026-05-01T10:00:00.000000Z"
    metadata = {"digest": digest, "inputs": inputs, "created_at": created_at}
    documents.commit("conversation", view.versions[0], files, metadata)
    return view


def keep_file(documents: DocumentStore, name: str, content: bytes, **fields: Any) -> Attachment:
    """Commit the bytes of an attachment as an export, and return the attachment."""
    inputs = {"blake3": hash_bytes(content), "size_bytes": len(content)}
    digest = digest_of("export", inputs)
    doc_id = id_from_digest(digest)
    if not documents.is_present("export", doc_id):
        documents.commit("export", doc_id, {"content.bin": content}, {"digest": digest, "inputs": inputs})
    return Attachment(
        name=name, status="present", blake3=inputs["blake3"], export=doc_id, size_bytes=len(content), **fields
    )


@functools.cache
def read_shipped_template(form: Format) -> TranscriptTemplate:
    """Return the template as it is shipped, checked once."""
    return read_template(Path("there is no such folder"), form)
