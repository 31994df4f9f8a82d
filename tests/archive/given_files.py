"""Files that exist in memory only, given to what reads members of an export."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from pipeline.archive.reading.members import Member


class TricklingFile(io.RawIOBase):
    """A file that gives a few bytes at a time, as a compressed one may."""

    def __init__(self, content: bytes, step_bytes: int) -> None:
        self._file, self._step_bytes = io.BytesIO(content), step_bytes

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        asked = self._step_bytes if size is None or size < 0 else min(size, self._step_bytes)
        return self._file.read(asked)


def give(content: bytes | str, name: str = "given.json", *, step_bytes: int | None = None) -> Member:
    """Return a member with this content; with `step_bytes`, a read gives no more than that."""
    data = content.encode() if isinstance(content, str) else content

    def open_file() -> BinaryIO:
        return cast(BinaryIO, TricklingFile(data, step_bytes)) if step_bytes else io.BytesIO(data)

    return Member(name, len(data), "0" * 64, "0" * 16, open_file)
