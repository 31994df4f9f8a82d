"""The attachments of a view as files: where their bytes lie in the store, what they are called beside a transcript.

A picture is what its first bytes say, whatever its name or type claims; small ones can stand in a page as data.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from pipeline.archive.conversation_documents import EXTRAS_FOLDER
from pipeline.archive.conversations import Attachment, AttachmentStatus, Conversation
from pipeline.archive.exports import CONTENT_FILE
from pipeline.archive.file_names import GivenName, name_attachments
from pipeline.archive.readable_texts import clean_line, clean_text
from pipeline.archive.transcripts.markdown_texts import clean_address
from pipeline.archive.transcripts.pieces import ShownAttachment, cut_text
from pipeline.archive.views import View
from pipeline.stages import ArchiveStage
from store.documents import Document, DocumentStore

INLINE_BYTES = 32 * 1024  # of a picture that stands in the page itself
PREVIEW_BYTES = 24 * 1024
PREVIEW_LINES = 60
LARGEST_SIDE = 20_000  # pixels that a page believes

_SIZES = ((2**30, "GB"), (2**20, "MB"), (2**10, "KB"))
_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}
_ENDINGS = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
}
_TEXT_TYPES = re.compile(r"text/|application/(?:json|xml|x-yaml|toml|javascript|vnd\.ant\.)")
_TEXT_NAMES = re.compile(
    r"\.(?:bat|c|cfg|conf|cpp|cs|css|csv|diff|go|h|html?|ini|java|jsx?|json|jsonl|kt|log|lua|md|patch|php|pl|py|r|rb|rs|"
    r"rst|sh|sql|svg|swift|tex|toml|tsv|tsx?|txt|xml|ya?ml)$",
    re.IGNORECASE,
)


class AttachmentFile(NamedTuple):
    """The bytes of an attachment: a file of a document, and its name in the folder beside the transcript."""

    name: str
    stage: str
    doc_id: str
    file: str
    blake3: str
    size_bytes: int


class AttachmentFiles:
    """What a transcript needs to know of the attachments of a view. `folder` lies beside the transcript."""

    def __init__(self, documents: DocumentStore, view: View, *, folder: str) -> None:
        self._documents = documents
        self._versions = view.versions
        self._folder = folder
        self._read: dict[tuple[str, str], Document] = {}
        self._given = {
            id(attachment): GivenName(_name_file(attachment), attachment.blake3)
            for attachment in _list_attachments(view.conversation)
            if attachment.blake3 and (attachment.export or attachment.extra_file)
        }
        self._names = name_attachments(self._given.values())
        self.placed: dict[str, AttachmentFile] = {}  # by name: those that a page links to

    def show(self, attachment: Attachment) -> ShownAttachment:
        """Return how an attachment is shown, and remember its file if the page links to it."""
        name = _name_of(attachment)
        file = self._locate(attachment)
        url = clean_address(clean_line(attachment.url)) if attachment.url else None
        if file is None:
            return ShownAttachment(name, _describe(attachment), _explain(attachment), None, url=url)
        head = self._read_head(file, max(PREVIEW_BYTES, INLINE_BYTES) + 1)
        picture = _find_picture(head)
        preview, more = _preview(attachment, file, head) if picture is None else (None, "")
        data_url = None
        if file.size_bytes <= INLINE_BYTES and (kind := picture or _find_drawing(attachment, head)):
            data_url = f"data:{kind};base64,{base64.b64encode(head).decode()}"
        self.placed[file.name] = file
        return ShownAttachment(
            name,
            _describe(attachment, size_bytes=file.size_bytes),
            _explain(attachment),
            f"{quote(self._folder)}/{quote(file.name)}",
            is_image=picture is not None or data_url is not None,
            data_url=data_url,
            width=_read_side(attachment.width),
            height=_read_side(attachment.height),
            preview=preview,
            more=more,
            url=url,
        )

    def _locate(self, attachment: Attachment) -> AttachmentFile | None:
        """Return the file with an attachment's bytes; None if no document of this view has them."""
        given = self._given.get(id(attachment))
        if given is None:
            return None
        for stage, doc_id, file in self._list_places(attachment):
            record = self._open(stage, doc_id).metadata["files"].get(file)
            if record and record["blake3"] == given.blake3:
                return AttachmentFile(self._names[given], stage, doc_id, file, given.blake3, record["size_bytes"])
        return None

    def _list_places(self, attachment: Attachment) -> Iterator[tuple[str, str, str]]:
        if attachment.export:
            yield ArchiveStage.EXPORT, attachment.export, CONTENT_FILE
        if attachment.extra_file:
            file = EXTRAS_FOLDER + attachment.extra_file.removeprefix(EXTRAS_FOLDER)
            for doc_id in self._versions:
                yield ArchiveStage.CONVERSATION, doc_id, file

    def _open(self, stage: str, doc_id: str) -> Document:
        if (stage, doc_id) not in self._read:
            self._read[stage, doc_id] = self._documents.read(stage, doc_id)
        return self._read[stage, doc_id]

    def _read_head(self, file: AttachmentFile, size_bytes: int) -> bytes:
        with (self._open(file.stage, file.doc_id).folder / file.file).open("rb") as stream:
            return stream.read(size_bytes)


def _list_attachments(conversation: Conversation) -> Iterator[Attachment]:
    for message in conversation.messages:
        for block in message.blocks:
            if block.attachment:
                yield block.attachment
    yield from conversation.attachments


def _name_of(attachment: Attachment) -> str:
    """Return a name for people; what stood inside a message often has none."""
    purpose = clean_line(attachment.purpose or "")
    if purpose == "inline":
        purpose = "picture" if (attachment.mime_type or "").startswith("image/") else ""
    return clean_line(attachment.name or "") or purpose or "file"


def _name_file(attachment: Attachment) -> str:
    """Return a name for the file: one that has no ending gets that of its type, so that programs know it."""
    name = _name_of(attachment)
    if attachment.is_derived and not _TEXT_NAMES.search(name):
        return f"{name}.txt"  # the words of a PDF are no PDF
    return name if re.search(r"\.\w{1,8}$", name) else name + _ENDINGS.get((attachment.mime_type or "").lower(), "")


def _describe(attachment: Attachment, *, size_bytes: int | None = None) -> str:
    """Return type and size: "image/png, 12 KB"."""
    size = size_bytes if size_bytes is not None else attachment.size_bytes
    parts = [clean_line(attachment.mime_type or ""), format_size(size) if size is not None else ""]
    parts += ["text taken from the original"] if attachment.is_derived else []
    return ", ".join(part for part in parts if part)


def format_size(size_bytes: int) -> str:
    """(800) -> "800 bytes", (12_345) -> "12.1 KB" """
    if size_bytes < 1024:
        return f"{size_bytes} byte{'s' * (size_bytes != 1)}"
    scale, unit = next(size for size in _SIZES if size_bytes >= size[0])
    return f"{size_bytes / scale:.1f}".removesuffix(".0") + f" {unit}"


def _explain(attachment: Attachment) -> str:
    """Return why there are no bytes, or what is wrong with them; "" if all is well."""
    if attachment.status == AttachmentStatus.PRESENT:
        return ""
    return clean_line(attachment.reason or "").replace("_", " ") or clean_line(attachment.status)


def _read_side(pixels: Any) -> int | None:
    return pixels if isinstance(pixels, int) and 0 < pixels <= LARGEST_SIDE else None


def _find_picture(head: bytes) -> str | None:
    """Return the type of a picture that every browser shows."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _PICTURES.items() if head.startswith(magic)), None)


def _find_drawing(attachment: Attachment, content: bytes) -> str | None:
    """Return the type of a drawing. Within <img> nothing in it runs; as a file of its own it would."""
    is_named = attachment.mime_type == "image/svg+xml" or (attachment.name or "").lower().endswith(".svg")
    return "image/svg+xml" if is_named and b"<svg" in content[:2048] else None


def _preview(attachment: Attachment, file: AttachmentFile, head: bytes) -> tuple[str | None, str]:
    """Return the beginning of a text, and what follows it; None for what is no text."""
    is_text = attachment.is_derived or _TEXT_TYPES.match(attachment.mime_type or "")
    if not is_text and not _TEXT_NAMES.search(_name_of(attachment)):
        return None, ""
    text = head[:PREVIEW_BYTES].decode(errors="replace")
    if "\0" in text or text.count("\ufffd") > 1:
        return None, ""
    shown, more = cut_text(clean_text(text.rstrip("\ufffd")).strip("\n"), lines=PREVIEW_LINES)
    if file.size_bytes > PREVIEW_BYTES:
        more = f"the file goes on to {format_size(file.size_bytes)}"
    return shown or None, more


def as_records(files: Mapping[str, AttachmentFile]) -> list[dict[str, Any]]:
    """Return files as they stand in the metadata of a transcript."""
    return [files[name]._asdict() for name in sorted(files)]
