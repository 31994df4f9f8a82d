"""Where two files begin to differ, for people. Pure."""

from __future__ import annotations

from typing import NamedTuple

BYTES_BEFORE, BYTES_SHOWN = 20, 60  # of an excerpt: before the first byte that differs, and in all
END = "(the end)"


class ByteDifference(NamedTuple):
    """The first difference: `offset` in bytes from 0, `line` from 1, and what either side has around it."""

    offset: int
    line: int
    stored: str
    rebuilt: str


def find_first_difference(stored: bytes, rebuilt: bytes) -> ByteDifference | None:
    r"""Return where two files begin to differ; None if they are equal.

    >>> find_first_difference(b"one\ntwo\n", b"one\nsix\n")
    ByteDifference(offset=4, line=2, stored='one\ntwo\n', rebuilt='one\nsix\n')
    """
    if stored == rebuilt:
        return None
    offset = _find_offset(stored, rebuilt)
    line = stored.count(b"\n", 0, offset) + 1
    return ByteDifference(offset, line, _quote(stored, offset), _quote(rebuilt, offset))


def _find_offset(a: bytes, b: bytes) -> int:
    """Return the length of the common start, by halves: comparing slices is fast, comparing bytes is not."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _quote(content: bytes, offset: int) -> str:
    if offset >= len(content):
        return content[max(0, offset - BYTES_BEFORE) :].decode(errors="backslashreplace") + END
    start = max(0, offset - BYTES_BEFORE)
    return content[start : start + BYTES_SHOWN].decode(errors="backslashreplace")
