"""Attachments of ChatGPT's messages: what a message asks for, each file once, whatever names it how often.

    image and audio pointers in content ─┐
    metadata.attachments ────────────────┼─▶ one Attachment each, with a key ─settle_attachment─▶ status, bytes
    images of code that ran ─────────────┤
    sandbox:/mnt/data/… in an answer ────┘

A key is the file's id without scheme, or what stands for it: `name:…` or `sandbox:/mnt/data/…`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from pipeline.archive.conversations import Attachment, AttachmentStatus, Block, Kind
from pipeline.archive.importers.chatgpt_values import keep_rest
from pipeline.archive.importers.inline_files import attach_url
from pipeline.archive.importers.values import count_of, object_of, text_of

SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # file-service:// of old, sediment:// now
ADDRESS = re.compile(r"^https?://", re.IGNORECASE)
# In a Markdown link the name may hold spaces; elsewhere a space ends it.
SANDBOX_LINK = re.compile(r"\]\(sandbox:(/mnt/data/[^()\n]+(?:\([^()\n]*\)[^()\n]*)*)\)")
SANDBOX_NAME = re.compile(r"sandbox:(/mnt/data/(?:[^\s()\[\]<>\"'`]|\([^\s()]*\))+)")
AFTER_A_NAME = ".,;:!?)*_"  # punctuation of the sentence, not of the name

POINTER_FIELDS = frozenset({"content_type", "asset_pointer", "size_bytes", "width", "height", "format"})
COUNTS = frozenset({"size", "size_bytes", "width", "height"})
ENTRY_FIELDS = frozenset({"id", "file_id", "name", "size", "mime_type", "width", "height"})

# The table of Python's mimetypes differs between machines and releases, and a conversation's bytes must not.
TYPES = {
    "aac": "audio/aac",
    "csv": "text/csv",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "m4a": "audio/mp4",
    "md": "text/markdown",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "py": "text/x-python",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}

NOT_IN_EXPORT = "not_in_export"


def key_of(asked: str) -> str:
    """Return an id as the export's files and lists have it.

    >>> key_of("sediment://file_00ff#page=2"), key_of("file-AbC.dat")
    ('file_00ff', 'file-AbC')
    """
    return SCHEME.sub("", asked).partition("#")[0].removesuffix(".dat")


class Attachments:
    """The attachments of one message, as blocks in the order in which they were met first."""

    def __init__(self) -> None:
        self.blocks: dict[str, Block] = {}

    def add_pointer(self, part: dict[str, Any]) -> Block | None:
        """Take an object with `asset_pointer`; return its block if the file is new to the message."""
        asked = text_of(part.get("asset_pointer"))
        if asked is None:
            return None
        attachment = self._find(key_of(asked), asked)
        attachment.size_bytes = attachment.size_bytes or count_of(part.get("size_bytes"))
        attachment.width = attachment.width or count_of(part.get("width"))
        attachment.height = attachment.height or count_of(part.get("height"))
        if attachment.mime_type is None and (form := text_of(part.get("format"))):
            attachment.mime_type = TYPES.get(form.lower())
        metadata = object_of(part.get("metadata"))
        attachment.name = attachment.name or text_of(metadata.get("file_name")) or text_of(metadata.get("name"))
        attachment.extra.update(keep_rest(part, POINTER_FIELDS) | _keep_odd(part, POINTER_FIELDS))
        return self._new_block(key_of(asked), attachment)

    def add_entry(self, entry: dict[str, Any]) -> Block | None:
        """Take an item of metadata.attachments: it has the name, a pointer to the same file has the size."""
        asked, name = text_of(entry.get("id")) or text_of(entry.get("file_id")), text_of(entry.get("name"))
        key = key_of(asked) if asked else f"name:{name}"
        attachment = self._find(key, asked)
        attachment.name = name or attachment.name
        attachment.mime_type = text_of(entry.get("mime_type")) or attachment.mime_type
        attachment.width = attachment.width or count_of(entry.get("width"))
        attachment.height = attachment.height or count_of(entry.get("height"))
        size_bytes = count_of(entry.get("size"))
        if attachment.size_bytes is None:
            attachment.size_bytes = size_bytes
        elif size_bytes is not None and size_bytes != attachment.size_bytes:
            attachment.extra["uploaded_size_bytes"] = size_bytes  # a picture is made smaller after its upload
        attachment.extra.update(keep_rest(entry, ENTRY_FIELDS) | _keep_odd(entry, ENTRY_FIELDS))
        return self._new_block(key, attachment)

    def add_sandbox_files(self, text: str) -> list[Block]:
        """Take the files that an answer says are in its sandbox."""
        blocks = []
        for path in find_sandbox_paths(text):
            key = f"sandbox:{path}"
            attachment = self._find(key, key)
            attachment.name = path.rpartition("/")[2]
            if block := self._new_block(key, attachment):
                blocks.append(block)
        return blocks

    def _find(self, key: str, asked: str | None) -> Attachment:
        block = self.blocks.get(key)
        if block is not None and block.attachment is not None:
            return block.attachment
        if asked and ADDRESS.match(asked):
            return Attachment(status=AttachmentStatus.EXTERNAL, url=asked, purpose="link")
        return Attachment(id=key if asked else None, reason=NOT_IN_EXPORT)

    def _new_block(self, key: str, attachment: Attachment) -> Block | None:
        if key in self.blocks:
            return None
        self.blocks[key] = Block(Kind.ATTACHMENT, attachment=attachment)
        return self.blocks[key]


def _keep_odd(record: dict[str, Any], fields: frozenset[str]) -> dict[str, Any]:
    """Return the fields that are known, with another kind of value than can be read."""
    return {
        name: value for name, value in record.items() if name in fields and value is not None and _is_odd(name, value)
    }


def _is_odd(name: str, value: Any) -> bool:
    return count_of(value) is None if name in COUNTS else not isinstance(value, str)


def find_sandbox_paths(text: str) -> list[str]:
    """Return the paths of files in the sandbox, each once, in the order of the text.

    >>> find_sandbox_paths("[a](sandbox:/mnt/data/my%20file.md), sandbox:/mnt/data/b.csv.")
    ['/mnt/data/my file.md', '/mnt/data/b.csv']
    """
    if "sandbox:" not in text:
        return []
    links = [(match.start(1), match[1]) for match in SANDBOX_LINK.finditer(text)]
    names = [(match.start(1), match[1].rstrip(AFTER_A_NAME)) for match in SANDBOX_NAME.finditer(text)]
    starts = {start for start, _ in links}
    found = sorted(links + [(start, name) for start, name in names if start not in starts])
    return list(dict.fromkeys(unquote(path) for _, path in found if path.rstrip("/") != "/mnt/data"))


def key_in_context(node: str, attachment: Attachment) -> str:
    """Return the key of an attachment in a record's context. A sandbox belongs to a message, a file's id does not."""
    if attachment.id is None:
        return f"name:{attachment.name}"
    return f"{node}/{attachment.id}" if attachment.id.startswith("sandbox:") else attachment.id


def settle_attachment(attachment: Attachment, found: dict[str, Any], extras: dict[str, bytes]) -> None:
    """Say what became of the bytes, from what the record's context found for this attachment.

    Those that stand in the place of an address go into `extras`.
    """
    if (attachment.id or "").startswith("data:"):
        _settle_data_url(attachment, extras)
        return
    attachment.name = found.get("name") or attachment.name or found.get("member_name")
    attachment.mime_type = found.get("mime_type") or attachment.mime_type or type_of_name(attachment.name)
    if (extra := found.get("extra")) is not None:
        attachment.extra["library"] = extra
    if found.get("is_guess"):
        attachment.extra["is_guess"] = True  # joined by its name alone
    if found.get("export") is None:
        attachment.size_bytes = found.get("listed_size_bytes") or attachment.size_bytes
        return
    attachment.reason = _find_conflict(attachment, found)
    attachment.status = AttachmentStatus.CONFLICT if attachment.reason else AttachmentStatus.PRESENT
    if attachment.size_bytes is not None and attachment.size_bytes != found["size_bytes"]:
        attachment.extra["stated_size_bytes"] = attachment.size_bytes
    attachment.size_bytes, attachment.blake3 = found["size_bytes"], found["blake3"]
    attachment.export, attachment.extra["member"] = found["export"], found["member"]


def _settle_data_url(attachment: Attachment, extras: dict[str, bytes]) -> None:
    inline = attach_url(extras, attachment.id or "")
    if inline.status != AttachmentStatus.EXTERNAL:
        attachment.status, attachment.reason, attachment.blake3 = inline.status, inline.reason, inline.blake3
        attachment.size_bytes, attachment.mime_type = inline.size_bytes, inline.mime_type
        attachment.extra_file = inline.extra_file
    attachment.id = None  # it was the bytes once more


def _find_conflict(attachment: Attachment, found: dict[str, Any]) -> str | None:
    """Return what a file contradicts. A digest says more than a size; of several sizes one is enough."""
    if (is_digest_equal := found.get("is_digest_equal")) is not None:
        return None if is_digest_equal else "sha256_differs"
    sizes = list_stated_sizes(attachment) | ({found["listed_size_bytes"]} if "listed_size_bytes" in found else set())
    return "size_differs" if sizes and found["size_bytes"] not in sizes else None


def list_stated_sizes(attachment: Attachment) -> set[int]:
    """Return the sizes that the message states for a file, in bytes."""
    sizes = {attachment.size_bytes, attachment.extra.get("uploaded_size_bytes")}
    return {size for size in sizes if size is not None}


def type_of_name(name: str | None) -> str | None:
    return TYPES.get(name.rpartition(".")[2].lower()) if name else None


def collect_pointers(value: Any, attachments: Attachments) -> list[Block]:
    """Take a pointer, an object that holds one, or a list of them; return the blocks of those that are new."""
    blocks = []
    for item in value if isinstance(value, list) else [value]:
        asked = item if isinstance(item, dict) else {"asset_pointer": item}
        if block := attachments.add_pointer(asked):
            blocks.append(block)
    return blocks
