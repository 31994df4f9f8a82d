"""ZIPs for tests: good ones, and such as a person with bad intentions would make."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, bytes]


def make_zip(files: Files, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def add_entry(archive: zipfile.ZipFile, name: str, data: bytes = b"", *, mode: int = 0o100644) -> None:
    """Add an entry whose kind is told by its mode: 0o120777 is a link, 0o020666 a device."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3  # Unix
    info.external_attr = mode << 16
    archive.writestr(info, data)


def change_lists(content: bytes, offset: int, form: str, value: int) -> bytes:
    """Return a ZIP with a field changed in every record of its list of files."""
    changed = bytearray(content)
    at = changed.find(b"PK\x01\x02")
    while at >= 0:
        struct.pack_into(form, changed, at + offset, value)
        at = changed.find(b"PK\x01\x02", at + 4)
    return bytes(changed)


def encrypt(content: bytes) -> bytes:
    """Return a ZIP whose list says that all its files are encrypted."""
    return change_lists(content, 8, "<H", 0x1)


def lie_about_size(content: bytes, size_bytes: int) -> bytes:
    """Return a ZIP whose list gives all its files that size."""
    return change_lists(content, 24, "<L", size_bytes)


def repeat_entry(content: bytes, count: int) -> bytes:
    """Return a ZIP that lists its one file many times: little bytes that unpack to many."""
    start, end = content.index(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    record = content[start:end]
    last = bytearray(content[end:])
    struct.pack_into("<2H2L", last, 8, count, count, count * len(record), start)
    return content[:start] + record * count + bytes(last)


def write_zip(path: Path, files: Files) -> Path:
    path.write_bytes(make_zip(files))
    return path
