"""Files that are no text: which they are, by their first bytes."""

from __future__ import annotations

HEAD_BYTES = 4096  # enough for every answer here

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # the second of an empty one, the third of a split one
_STARTS = (
    *((start, "application/zip") for start in _ZIP_STARTS),
    (b"\x1f\x8b", "application/gzip"),
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"BZh", "application/x-bzip2"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"\x7fELF", "application/x-executable"),
)
_RIFF_TYPES = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
_BRAND_TYPES = {b"heic": "image/heic", b"mif1": "image/heif", b"avif": "image/avif", b"M4A ": "audio/mp4"}
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\f\r\x1b") + b"\x7f"
_MOST_CONTROLS = 0.02  # a share of them that no text has, and that every binary without a known start exceeds


def find_mime_type(head: bytes) -> str | None:
    """Return the MIME type that a file's first bytes prove; None if they prove none."""
    for start, mime_type in _STARTS:
        if head.startswith(start):
            return mime_type
    if head[:4] == b"RIFF":
        return _RIFF_TYPES.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRAND_TYPES.get(head[8:12], "video/mp4")
    return None


def is_zip(head: bytes) -> bool:
    """Whether a file begins as a ZIP does; it need not be whole."""
    return head.startswith(_ZIP_STARTS)


def has_binary_bytes(head: bytes) -> bool:
    """Whether a file has more control characters than any text in an encoding of single bytes or UTF-8."""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls > _MOST_CONTROLS * len(head)
