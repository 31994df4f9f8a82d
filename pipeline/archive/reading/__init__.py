"""Reading JSON, JSON lines and text of unknown origin, in bounded memory. The values that come out are clean.

    bytes ─decoding─▶ text, piece by piece ─json_text─▶ values, one by one ─clean_values─▶ clean values

What could not be read is a Skip where it stood, and reading goes on behind it. What was changed in values is counted,
and told at the end in a Skip with `is_info`, one for each reason.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.archive.reading.clean_values import Broken, decode_value, explain_error, hash_pair, hash_record
from pipeline.archive.reading.decoding import decode_pieces
from pipeline.archive.reading.json_text import LARGEST, Cut, JsonText, find_end_of_space, is_cut
from pipeline.archive.reading.members import Member, Skip
from pipeline.archive.reading.neighbours import Neighbours
from pipeline.archive.reading.peeking import looks_like_lines, peek
from pipeline.errors import PipelineError

__all__ = [
    "Item",
    "Line",
    "UnreadableJson",
    "hash_pair",
    "hash_record",
    "peek",
    "read_items",
    "read_lines",
    "read_text",
    "read_value",
]

MOST_BROKEN = 1000  # elements of an array, behind which the rest of it is not looked at


@dataclass(slots=True)
class Item:
    """An element of an array, or a value of its own: index 0, or the number of its line among the filled ones."""

    index: int
    value: Any
    written: memoryview | None = field(default=None, compare=False, repr=False)  # while it was read, for `hash_pair`


class Line(NamedTuple):
    """A value that stands on a line of its own."""

    number: int  # physical: from 1, empty lines counted
    value: Any


class UnreadableJson(PipelineError):
    """A file is not one usable JSON value. `reason` is a word of the coverage report."""

    def __init__(self, name: str, *, reason: str, place: str, detail: str) -> None:
        self.name, self.reason, self.place, self.detail = name, reason, place, detail
        super().__init__(f"{name} cannot be read as JSON ({reason}): {detail}.")


def read_items(member: Member, prefixes: Sequence[str] = ("item", "conversations.item")) -> Iterator[Item | Skip]:
    """Yield the elements of an array one by one; also one bare object, and JSON values each on its line.

    A prefix tells where an array may be: "item" is the file itself, "conversations.item" that key of an object.
    """
    notes: Counter[str] = Counter()
    with member.open() as stream:
        try:
            yield from _read_items(JsonText(stream, notes), member, prefixes)
        except Broken as broken:
            yield Skip(broken.reason, member.name, broken.detail)
        except Cut as cut:
            yield Skip("truncated", member.name, f"the file ends within a value that begins at byte {cut.offset}")
    yield from _tell(notes, member.name)


def read_lines(member: Member) -> Iterator[Line | Skip]:
    """Yield the values of a file with one on each line. A broken line is a Skip, so is the last one if it is cut."""
    notes: Counter[str] = Counter()
    with member.open() as stream:
        for number, line, is_ended in _split_lines(decode_pieces(stream, notes)):
            place = f"{member.name}:{number}"
            if line is None:
                yield Skip("too_large", place, f"the line has over {LARGEST} characters")
            elif line and not line.isspace():
                yield _read_line(line, number, notes, place=place, is_ended=is_ended)
    yield from _tell(notes, member.name)


def read_value(member: Member) -> tuple[Any, list[Skip]]:
    """Return the one JSON value that a file is, and what was odd. None for an empty file. Raises UnreadableJson."""
    notes: Counter[str] = Counter()
    with member.open() as stream:
        text = JsonText(stream, notes)
        if not text.next_character():
            return None, [Skip("empty", member.name, is_info=True)]
        try:
            value = text.take_value()
            if (inner := _unwrap(value, member)) is not None:
                return read_value(inner)
        except Broken as broken:
            raise UnreadableJson(member.name, reason=broken.reason, place=member.name, detail=broken.detail) from None
        except Cut as cut:
            detail = f"the file ends within the value that begins at byte {cut.offset}"
            raise UnreadableJson(member.name, reason="truncated", place=member.name, detail=detail) from None
        skips = [*_check_end(text, member.name)]
    return value, [*skips, *_tell(notes, member.name)]


def read_text(member: Member) -> tuple[str, list[Skip]]:
    """Return a file as text, without byte order mark and NUL, and what was odd. Line ends stay as they are."""
    notes: Counter[str] = Counter()
    with member.open() as stream:
        text = "".join(decode_pieces(stream, notes))
    return text, [*_tell(notes, member.name)]


def _read_items(text: JsonText, member: Member, prefixes: Sequence[str]) -> Iterator[Item | Skip]:
    first = text.next_character()
    if not first:
        yield Skip("empty", member.name, is_info=True)
    elif looks_like_lines(text.window):
        yield from _read_line_items(member)
    elif first == "[" and "item" in prefixes:
        yield from _read_array(text, member.name)
    elif first == "{" and (open_objects := _enter_array(text, prefixes)):
        yield from _read_array(text, member.name, open_objects)
    else:
        yield from _read_whole(member, prefixes)


def _read_line_items(member: Member) -> Iterator[Item | Skip]:
    for index, line in enumerate(read_lines(member)):
        yield line if isinstance(line, Skip) else Item(index, line.value)


def _read_array(text: JsonText, name: str, open_objects: int = 0) -> Iterator[Item | Skip]:
    """Yield the elements of the array that begins here, and see that it and the objects around it end."""
    text.at += 1
    index = complete = 0
    neighbours = Neighbours()
    while (character := text.next_character()) != "]":
        if character == ",":
            text.at += 1
            continue
        place = f"{name}[{index}]"
        try:
            found = _take_element(text, index, place, neighbours)
        except Cut as cut:
            yield Skip("truncated", place, f"the file ends within it, after {complete} items and {cut.offset} bytes")
            return
        yield found
        if index - complete > MOST_BROKEN:
            yield Skip(
                "too_many_broken", f"{name}[{index + 1}]", f"{MOST_BROKEN} items before it are broken; not read on"
            )
            return
        index += 1
        complete += isinstance(found, Item)
    text.at += 1
    text.pass_rest(open_objects)
    yield from _check_end(text, name)


def _take_element(text: JsonText, index: int, place: str, neighbours: Neighbours) -> Item | Skip:
    try:
        value, _, written = text.take()
    except Broken as broken:
        neighbours.leave(text, broken)
        return Skip(broken.reason, place, broken.detail)
    neighbours.learn(value)
    return Item(index, value, written)


def _enter_array(text: JsonText, prefixes: Sequence[str]) -> int:
    """Go to the array that a prefix leads to; return how many objects are open there, 0 if there is no such array."""
    wanted = [prefix.split(".")[:-1] for prefix in prefixes]
    path: list[str] = []
    text.at += 1
    while character := text.next_character():
        if character == ",":
            text.at += 1
        elif character == "}" and path:
            text.at += 1
            path.pop()
        elif character != '"':
            return 0
        else:
            here = [*path, text.take_key()]
            character = text.next_character()
            if character == "[" and here in wanted:
                return len(here)
            if character == "{" and any(keys[: len(here)] == here for keys in wanted):
                text.at += 1
                path = here
            elif character:
                text.pass_value()
    return 0


def _read_whole(member: Member, prefixes: Sequence[str]) -> Iterator[Item | Skip]:
    with member.open() as stream:
        text = JsonText(stream, Counter())
        text.next_character()
        value = text.take_value()
        is_on_one_line = "\n" not in text.window[: text.at].strip()
        if is_on_one_line and text.next_character() in ("{", "["):
            yield from _read_line_items(member)  # of which the first is longer than what was looked at
            return
        if (inner := _unwrap(value, member)) is not None:
            yield from read_items(inner, prefixes)
        elif value is None:
            yield Skip("empty", member.name, is_info=True)
        else:
            yield Item(0, value)
        yield from _check_end(text, member.name)


def _unwrap(value: Any, member: Member) -> Member | None:
    """Return what a JSON text that holds JSON is a wrapper of: at one level, as the inner one is no text."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return None
    content = value.encode()
    return member._replace(open=lambda: io.BytesIO(content))


def _check_end(text: JsonText, name: str) -> Iterator[Skip]:
    if text.next_character():
        yield Skip("trailing_data", name, f"there is more behind the value, from byte {text.offset()} on")


def _split_lines(pieces: Iterator[str]) -> Iterator[tuple[int, str | None, bool]]:
    """Yield (number, line, whether it has an end): None for a line that is too long to be held."""
    number, size = 1, 0
    held: list[str] = []
    for piece in pieces:
        *ended, rest = piece.split("\n")
        for line in ended:
            yield number, _join(held, line, size), True
            number, held, size = number + 1, [], 0
        size += len(rest)
        held = [] if size > LARGEST else [*held, rest]
    if size:
        yield number, _join(held, "", size), False


def _join(held: list[str], line: str, size: int) -> str | None:
    if size + len(line) > LARGEST:
        return None
    return "".join([*held, line]) if held else line


def _read_line(line: str, number: int, notes: Counter[str], *, place: str, is_ended: bool) -> Line | Skip:
    start = find_end_of_space(line, 0)
    try:
        value, end, _ = decode_value(line, start, notes)
    except Broken as broken:
        return Skip(broken.reason, place, broken.detail)
    except ValueError as error:
        if not is_ended and is_cut(line, start):
            return Skip(
                "truncated_tail", place, "the last line is cut, as in a file that is being written", is_info=True
            )
        return Skip("malformed_line", place, explain_error(error, start))
    if find_end_of_space(line, end) != len(line):
        return Skip("malformed_line", place, f"there is more behind the value, from character {end + 1} on")
    return Line(number, value)


def _tell(notes: Counter[str], name: str) -> Iterator[Skip]:
    for reason in sorted(notes):
        yield Skip(reason, name, f"{notes[reason]} times", is_info=True)
