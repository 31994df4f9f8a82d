"""Members: the files of an export, what their beginnings show, and what of them was not imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple


class Member(NamedTuple):
    """A file of an export: alone, or beside others in one ZIP or folder. `name` is data and never a path to open."""

    name: str  # with `/`, as the ZIP or folder has it, a prefix that all share taken off
    size_bytes: int
    blake3: str
    export: str  # doc_id of the export document that keeps the bytes
    open: Callable[[], BinaryIO]


class Peek(NamedTuple):
    """The beginning of a file: enough to tell whose it is. Nothing in it is complete but small items."""

    kind: str  # array, object, lines (JSON values, one a line), text, binary, empty
    items: Sequence[Any]  # of an array: its first elements; of lines: the first 32 values; of an object: itself, cut
    text: str  # the beginning, decoded, at most 64 KiB; of a binary: its first bytes as Latin-1
    name: str  # for ties only


class Skip(NamedTuple):
    """What was not imported, and why. `place` tells the line, index or path; `is_info`: normal, nothing was lost."""

    reason: str  # one word of the coverage report, such as malformed_line
    place: str
    detail: str = ""
    is_info: bool = False
