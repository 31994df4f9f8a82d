"""Binaries are told by their first bytes."""

from __future__ import annotations

import pytest

from pipeline.archive.reading.binaries import find_mime_type, has_binary_bytes, is_zip


@pytest.mark.parametrize(
    ("head", "mime_type"),
    [
        (b"PK\x03\x04rest", "application/zip"),
        (b"\x89PNG\r\n\x1a\nrest", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF1234WEBPVP8 ", "image/webp"),
        (b"RIFF1234WAVEfmt ", "audio/wav"),
        (b"RIFF1234OTHR", None),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"\0\0\0\x18ftypisom", "video/mp4"),
        (b"%PDF-1.7", "application/pdf"),
        (b"SQLite format 3\0", "application/vnd.sqlite3"),
        (b"{}", None),
        (b"", None),
    ],
)
def test_a_type_is_proven_or_not_said(head, mime_type):
    assert find_mime_type(head) == mime_type
    assert is_zip(head) == (mime_type == "application/zip")


@pytest.mark.parametrize("text", [b"", b"words\r\n\tx\f", "Übung 表 😀".encode(), b"\x1b[31mred\x1b[0m", b"caf\xe9"])
def test_texts_are_not_binary(text):
    assert not has_binary_bytes(text)


def test_a_few_control_characters_make_no_binary_but_many_do():
    assert not has_binary_bytes(b"x" * 99 + b"\0")
    assert has_binary_bytes(b"x" * 9 + b"\0")
