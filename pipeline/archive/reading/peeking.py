"""The beginning of a file, whose length does not matter: enough to tell what it is."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import ijson
from ijson.common import ObjectBuilder

from pipeline.archive.reading.binaries import HEAD_BYTES, find_mime_type, has_binary_bytes
from pipeline.archive.reading.clean_values import Broken, decode_value
from pipeline.archive.reading.decoding import UTF_8, decode_pieces, find_encoding, read_fully
from pipeline.archive.reading.json_text import find_end_of_space
from pipeline.archive.reading.members import Member, Peek

PEEK_BYTES = 64 * 1024
PEEK_LINES = 32
PEEK_ELEMENTS = 32  # of an array, which may begin with many chats that are empty
PEEK_EVENTS = 2000  # of the streaming parser: an object with long texts is read further than one with short ones
PEEK_REACH_BYTES = 64 * 1024 * 1024  # for an image as text before the keys that tell
PEEK_CHARACTERS = 1000  # of a text in a peek's items

_CONSTANT = re.compile(r"(?<![^\s:,\[])(?:NaN|-?Infinity)(?![^\s,\]}])")  # which the streaming parser refuses
_LONG_NUMBER = re.compile(r"[0-9]{400,}+")  # so too
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


def peek(member: Member) -> Peek:
    """Return what a file's beginning shows. Reads 64 KiB, and more only where a text is longer than that."""
    with member.open() as stream:
        head = read_fully(stream, PEEK_BYTES)
        if _is_binary(head):
            return Peek("binary", (), head[:HEAD_BYTES].decode("latin-1"), member.name)
        pieces = decode_pieces(stream, Counter(), head=head)
        text = next(pieces, "")
        kind, items = _peek_at(text, pieces)
        return Peek(kind, items, text, member.name)


def _is_binary(head: bytes) -> bool:
    if find_mime_type(head):
        return True
    is_json = head.lstrip(b" \t\r\n\0")[:1] in (b"{", b"[", b'"')  # with stray NUL bytes, perhaps
    return not is_json and find_encoding(head) == UTF_8 and has_binary_bytes(head[:HEAD_BYTES])


def _peek_at(text: str, pieces: Iterator[str]) -> tuple[str, Sequence[Any]]:
    first = text[find_end_of_space(text, 0) :][:1]
    if not first:
        return "empty", ()
    if looks_like_lines(text):
        return "lines", _peek_at_lines(text)
    if first == '"':
        return _peek_at_wrapped(text)
    if first not in "[{":
        return "text", ()
    values = _build_beginning(itertools.chain([text], pieces))
    if not values:
        return "text", ()
    if len(values) > 1:  # the first is longer than the text of a peek, and others follow it
        return "lines", values
    return ("array", values[0][:PEEK_ELEMENTS]) if isinstance(values[0], list) else ("object", values)


def looks_like_lines(text: str) -> bool:
    """Whether there are several lines, of which the first or most are an object or a list by themselves."""
    lines = [line for line in text.split("\n", PEEK_LINES)[:PEEK_LINES] if line and not line.isspace()]
    if len(lines) < 2:
        return False
    found = [_is_container(line) for line in lines]
    return found[0] or 2 * sum(found) > len(found)


def _is_container(line: str) -> bool:
    return isinstance(_read_alone(line), dict | list)


def _read_alone(line: str) -> Any:
    """Return the value that a line is; None if it is none."""
    start = find_end_of_space(line, 0)
    try:
        value, end, _ = decode_value(line, start, Counter())
    except (Broken, ValueError):
        return None
    return value if find_end_of_space(line, end) == len(line) else None


def _peek_at_lines(text: str) -> Sequence[Any]:
    values = [_read_alone(line) for line in text.split("\n", PEEK_LINES)[:PEEK_LINES]]
    return [value for value in values if value is not None]


def _peek_at_wrapped(text: str) -> tuple[str, Sequence[Any]]:
    """Look into a JSON text that holds JSON, cut or whole."""
    inner = _read_alone(text) or _read_alone(_CUT_ESCAPE.sub("", text) + '"')
    if not isinstance(inner, str) or inner.lstrip()[:1] not in ("{", "["):
        return "text", ()
    return _peek_at(inner, iter(()))


def _build_beginning(pieces: Iterator[str]) -> list[Any]:
    """Return the values that a JSON text begins with, with what is behind its first PEEK_EVENTS events left out."""
    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events, multiple_values=True)
    builders: list[ObjectBuilder] = []
    depth = count = read = 0
    for piece in pieces:
        is_over = not _send(parser, piece)
        for event, value in events[: PEEK_EVENTS - count]:
            if depth == 0:
                builders.append(ObjectBuilder())
            builders[-1].event(event, _shorten(value))
            depth += _STEPS.get(event, 0)
        count, read = count + len(events), read + len(piece)
        del events[:]
        if is_over or count >= PEEK_EVENTS or read >= PEEK_REACH_BYTES or len(builders) > PEEK_LINES:
            break
    return [builder.value for builder in builders]


def _send(parser: Any, piece: str) -> bool:
    """Have a piece parsed; False where the JSON is broken, behind which no event comes."""
    if "NaN" in piece or "Infinity" in piece:
        piece = _CONSTANT.sub("null", piece)
    try:
        parser.send(_LONG_NUMBER.sub("0", piece).encode())
    except (ijson.JSONError, ValueError, StopIteration, SystemError):  # the last: its way to refuse long integers
        return False
    return True


def _shorten(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value[:PEEK_CHARACTERS] if isinstance(value, str) else value
