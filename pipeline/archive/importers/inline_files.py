"""Files that stand inside a record, as base64 or as data URLs: decoded once, named by their hash."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from pipeline.archive.conversations import Attachment, AttachmentStatus, Block, Kind
from store.identity import hash_bytes

DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
NAME_LENGTH = 32  # characters of the hash
DAMAGED = "its base64 cannot be decoded"
SUFFIXES = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
}


class InlineFile(NamedTuple):
    """A data URL, taken apart."""

    content: bytes
    mime_type: str | None


def decode_base64(data: str) -> bytes | None:
    """Return the bytes, or None for what is no base64. Line breaks, the URL alphabet and lost padding are read."""
    plain = "".join(data.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def decode_data_url(url: str) -> InlineFile | None:
    """Return what a data URL holds, or None for what is none."""
    match = DATA_URL.match(url)
    if not match:
        return None
    data = url[match.end() :]
    is_base64 = match[2].lower().endswith(";base64")
    content = decode_base64(data) if is_base64 else unquote_to_bytes(data)
    return None if content is None else InlineFile(content, match[1].lower() or None)


def keep_inline(extras: dict[str, bytes], content: bytes | None, mime_type: str | None, **facts: Any) -> Attachment:
    """Put bytes among the extras, and return the attachment that points at them; equal bytes are kept once.

    `content` None: they were damaged. `facts` are further fields of the attachment.
    """
    facts = {"purpose": "inline", **facts}
    if content is None:
        return Attachment(mime_type=mime_type, status=AttachmentStatus.MISSING, reason=DAMAGED, **facts)
    digest = hash_bytes(content)
    name = digest[:NAME_LENGTH] + SUFFIXES.get(mime_type or "", ".bin")
    extras[name] = content
    return Attachment(
        mime_type=mime_type,
        size_bytes=len(content),
        blake3=digest,
        status=AttachmentStatus.PRESENT,
        extra_file=name,
        **facts,
    )


def attach_url(extras: dict[str, bytes], url: str, **facts: Any) -> Attachment:
    """Return the attachment that a URL stands for: the bytes of a data URL, or else an address that is not fetched."""
    if url[:5].lower() != "data:":
        return Attachment(status=AttachmentStatus.EXTERNAL, url=url, **{"purpose": "link", **facts})
    inline = decode_data_url(url)
    return keep_inline(extras, inline and inline.content, inline and inline.mime_type, **facts)


def block_of(attachment: Attachment) -> Block:
    return Block(kind=Kind.ATTACHMENT, attachment=attachment)
