r"""Reading JSON, JSON lines and text of unknown origin, in bounded memory. The values that come out are clean.

    bytes ─_decode_pieces─▶ text, piece by piece ─_Text.take_value─▶ values

Clean: no lone surrogates (U+FFFD instead), no NaN or infinities (None instead), no integers beyond 64 bits (their
digits as text instead), nothing deeper than DEEPEST. What was changed is counted, and told at the end in a Skip with
`is_info`; what could not be read is a Skip where it stood, and reading goes on behind it.

The standard library's decoder tells where a value ends when it has read it, so a file is never parsed as a whole, and
each value stands or falls alone. Whether a value is clean is not looked for in Python: orjson writes it again, and
refuses nearly all that is not. Only what it refuses is read a second time, with care. A value that is broken is
left behind by following its brackets.
"""

from __future__ import annotations

import codecs
import io
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, BinaryIO, NamedTuple

import ijson
import orjson
from ijson.common import ObjectBuilder

from pipeline.archive.binaries import HEAD_BYTES, find_mime_type, has_binary_bytes
from pipeline.archive.conversations import Json
from pipeline.archive.members import Member, Peek, Skip
from pipeline.errors import PipelineError
from store.identity import hash_bytes

PIECE_BYTES = 1024 * 1024
DEEPEST = 200  # levels of lists and objects within a value
LARGEST = 256 * 1024 * 1024  # characters of one value; in memory it is several times as many bytes

PEEK_BYTES = 64 * 1024
PEEK_LINES = 32
PEEK_ELEMENTS = 4
PEEK_EVENTS = 2000  # of the streaming parser: an object with long texts is read further than one with short ones
PEEK_REACH_BYTES = 64 * 1024 * 1024  # for an image as text before the keys that tell
PEEK_CHARACTERS = 1000  # of a text in a peek's items

ORJSON_DEEPEST = 254  # it writes nothing that is deeper, which is how depth is measured
REPLACEMENT = "\ufffd"

_SPACE = re.compile(r"[ \t\r\n]*+")
_BETWEEN_BRACKETS = re.compile(r'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL)
_BRACKETS = re.compile(r"[\[{]++|[\]}]++")
_REST_OF_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_REST_OF_WORD = re.compile(r'[^\s,:"{}\[\]]*+')
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONSTANT = re.compile(r"(?<![^\s:,\[])(?:NaN|-?Infinity)(?![^\s,\]}])")  # which the streaming parser refuses
_LONG_NUMBER = re.compile(r"[0-9]{400,}+")  # so too
_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_STEPS = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


class Item(NamedTuple):
    """An element of an array, or a value of its own: index 0, or the number of its line among the filled ones."""

    index: int  # type: ignore[assignment]  # in the place of a tuple's method that nobody needs here
    value: Any


class Line(NamedTuple):
    """A value that stands on a line of its own."""

    number: int  # physical: from 1, empty lines counted
    value: Any


class UnreadableJson(PipelineError):
    """A file is not one usable JSON value. `reason` is a word of the coverage report."""

    def __init__(self, name: str, *, reason: str, place: str, detail: str) -> None:
        self.name, self.reason, self.place, self.detail = name, reason, place, detail
        super().__init__(f"{name} cannot be read as JSON ({reason}): {detail}.")


class _Broken(Exception):
    """The value here cannot be read. What follows it can."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason)


class _Cut(Exception):
    """The file ends within the value here, which begins at this byte."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(offset)


def peek(member: Member) -> Peek:
    """Return what a file's beginning shows. Reads 64 KiB, and more only where a text is longer than that."""
    with member.open() as stream:
        head = _read_fully(stream, PEEK_BYTES)
        if _is_binary(head):
            return Peek("binary", (), head[:HEAD_BYTES].decode("latin-1"), member.name)
        pieces = _decode_pieces(stream, Counter(), head=head)
        text = next(pieces, "")
        kind, items = _peek_at(text, pieces)
        return Peek(kind, items, text, member.name)


def read_items(member: Member, prefixes: Sequence[str] = ("item", "conversations.item")) -> Iterator[Item | Skip]:
    """Yield the elements of an array one by one; also one bare object, and JSON values each on its line.

    A prefix tells where an array may be: "item" is the file itself, "conversations.item" that key of an object.
    """
    notes: Counter[str] = Counter()
    with member.open() as stream:
        try:
            yield from _read_items(_Text(stream, notes), member, prefixes)
        except _Broken as broken:
            yield Skip(broken.reason, member.name, broken.detail)
        except _Cut as cut:
            yield Skip("truncated", member.name, f"the file ends within a value that begins at byte {cut.offset}")
    yield from _tell(notes, member.name)


def read_lines(member: Member) -> Iterator[Line | Skip]:
    """Yield the values of a file with one on each line. A broken line is a Skip, so is the last one if it is cut."""
    notes: Counter[str] = Counter()
    with member.open() as stream:
        for number, line, is_ended in _split_lines(_decode_pieces(stream, notes)):
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
        text = _Text(stream, notes)
        if not text.next_character():
            return None, [Skip("empty", member.name, is_info=True)]
        try:
            value = text.take_value()
            if (inner := _unwrap(value, member)) is not None:
                return read_value(inner)
        except _Broken as broken:
            raise UnreadableJson(member.name, reason=broken.reason, place=member.name, detail=broken.detail) from None
        except _Cut as cut:
            detail = f"the file ends within the value that begins at byte {cut.offset}"
            raise UnreadableJson(member.name, reason="truncated", place=member.name, detail=detail) from None
        skips = [*_check_end(text, member.name)]
    return value, [*skips, *_tell(notes, member.name)]


def read_text(member: Member) -> tuple[str, list[Skip]]:
    """Return a file as text, without byte order mark and NUL, and what was odd. Line ends stay as they are."""
    notes: Counter[str] = Counter()
    with member.open() as stream:
        text = "".join(_decode_pieces(stream, notes))
    return text, [*_tell(notes, member.name)]


def hash_record(value: Json) -> str:
    """Return the BLAKE3 digest of a clean value as JSON with sorted keys: 64 hex characters, whatever their order."""
    return hash_bytes(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


# The beginning of a file


def _is_binary(head: bytes) -> bool:
    if find_mime_type(head):
        return True
    is_json = head.lstrip(b" \t\r\n\0")[:1] in (b"{", b"[", b'"')  # with stray NUL bytes, perhaps
    return not is_json and find_encoding(head) == UTF_8 and has_binary_bytes(head[:HEAD_BYTES])


def _peek_at(text: str, pieces: Iterator[str]) -> tuple[str, Sequence[Any]]:
    first = text[_end_of(_SPACE, text, 0) :][:1]
    if not first:
        return "empty", ()
    if _looks_like_lines(text):
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


def _looks_like_lines(text: str) -> bool:
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
    start = _end_of(_SPACE, line, 0)
    try:
        value, end = _FAST.raw_decode(line, start)
    except (ValueError, RecursionError):
        return None
    return value if _end_of(_SPACE, line, end) == len(line) else None


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


# From bytes to text


class _Encoding(NamedTuple):
    name: str
    mark: bytes  # the byte order mark, if there is one


UTF_8 = _Encoding("utf-8", b"")
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    _Encoding("utf-32-le", codecs.BOM_UTF32_LE),
    _Encoding("utf-32-be", codecs.BOM_UTF32_BE),
    _Encoding("utf-8", codecs.BOM_UTF8),
    _Encoding("utf-16-le", codecs.BOM_UTF16_LE),
    _Encoding("utf-16-be", codecs.BOM_UTF16_BE),
)
_NUL_PATTERNS = {  # of the first four bytes, when they are one, two or four ASCII characters
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def find_encoding(head: bytes) -> _Encoding:
    """Return the encoding that a file's first bytes show, by its mark or by where its NUL bytes are; else UTF-8."""
    for encoding in _MARKS:
        if head.startswith(encoding.mark):
            return encoding
    nuls = tuple(byte == 0 for byte in head[:4])
    return _Encoding(_NUL_PATTERNS[nuls], b"") if nuls in _NUL_PATTERNS else UTF_8


def _decode_pieces(stream: BinaryIO, notes: Counter[str], *, head: bytes = b"") -> Iterator[str]:
    """Yield a file's text in pieces, none of them empty. Counts what is no text, and leaves out NUL."""
    data = head or _read_fully(stream, PIECE_BYTES)
    encoding = find_encoding(data)
    decoder = codecs.getincrementaldecoder(encoding.name)("strict")
    data = data[len(encoding.mark) :]
    while True:
        is_last = not data
        try:
            text = decoder.decode(data, is_last)
        except UnicodeDecodeError:
            text = _decode_anyway(decoder, encoding.name, data, is_last=is_last, notes=notes)
        if "\0" in text:
            notes["nul_removed"] += text.count("\0")
            text = text.replace("\0", "")
        if text:
            yield text
        if is_last:
            return
        data = _read_fully(stream, PIECE_BYTES)


def _decode_anyway(
    decoder: codecs.IncrementalDecoder, encoding: str, data: bytes, *, is_last: bool, notes: Counter[str]
) -> str:
    lenient = codecs.getincrementaldecoder(encoding)("replace")
    lenient.setstate(decoder.getstate())
    pending, _ = decoder.getstate()
    text = lenient.decode(data, is_last)
    decoder.setstate(lenient.getstate())
    notes["invalid_text"] += text.count(REPLACEMENT) - (pending + data).count(REPLACEMENT.encode(encoding))
    return text


def _read_fully(stream: BinaryIO, size_bytes: int) -> bytes:
    """Read that many bytes unless the file ends: a compressed file gives fewer at a time."""
    pieces, missing = [], size_bytes
    while missing and (data := stream.read(missing)):
        pieces.append(data)
        missing -= len(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# Arrays, objects and lines


def _read_items(text: _Text, member: Member, prefixes: Sequence[str]) -> Iterator[Item | Skip]:
    first = text.next_character()
    if not first:
        yield Skip("empty", member.name, is_info=True)
    elif _looks_like_lines(text.window):
        yield from _read_line_items(member)
    elif first == "[" and "item" in prefixes:
        yield from _read_array(text, member.name)
    elif first == "{" and (open_objects := _enter_array(text, prefixes)):
        yield from _read_array(text, member.name, open_objects)
    else:
        yield from _read_whole(member, prefixes)


def _read_line_items(member: Member) -> Iterator[Item | Skip]:
    index = 0
    for line in read_lines(member):
        yield line if isinstance(line, Skip) else Item(index, line.value)
        index += not (isinstance(line, Skip) and line.is_info)


def _read_array(text: _Text, name: str, open_objects: int = 0) -> Iterator[Item | Skip]:
    """Yield the elements of the array that begins here, and see that it and the objects around it end."""
    text.at += 1
    index = complete = 0
    while (character := text.next_character()) != "]":
        if character == ",":
            text.at += 1
            continue
        place, found = f"{name}[{index}]", None
        try:
            found = Item(index, text.take_value())
        except _Broken as broken:
            yield Skip(broken.reason, place, broken.detail)
        except _Cut as cut:
            yield Skip("truncated", place, f"the file ends within it, after {complete} items and {cut.offset} bytes")
            return
        if found:
            yield found
            complete += 1
        index += 1
    text.at += 1
    text.pass_rest(open_objects)
    yield from _check_end(text, name)


def _enter_array(text: _Text, prefixes: Sequence[str]) -> int:
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
        text = _Text(stream, Counter())
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


def _check_end(text: _Text, name: str) -> Iterator[Skip]:
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
    start = _end_of(_SPACE, line, 0)
    try:
        value, end = _decode(line, start, notes)
    except _Broken as broken:
        return Skip(broken.reason, place, broken.detail)
    except ValueError as error:
        if not is_ended and _is_cut(line, start):
            return Skip(
                "truncated_tail", place, "the last line is cut, as in a file that is being written", is_info=True
            )
        return Skip("malformed_line", place, _explain(error, start))
    if _end_of(_SPACE, line, end) != len(line):
        return Skip("malformed_line", place, f"there is more behind the value, from character {end + 1} on")
    return Line(number, value)


def _is_cut(line: str, start: int) -> bool:
    brackets = _Brackets()
    brackets.follow(line, start)
    return not (brackets.is_closed or brackets.is_word)


def _tell(notes: Counter[str], name: str) -> Iterator[Skip]:
    for reason in sorted(notes):
        yield Skip(reason, name, f"{notes[reason]} times", is_info=True)


# From text to values


class _Text:
    """A file's text, read piece by piece: `window[at:]` was read and is not used yet."""

    def __init__(self, stream: BinaryIO, notes: Counter[str]) -> None:
        self.window, self.at = "", 0
        self._stream, self._notes = stream, notes
        self._pieces = _decode_pieces(stream, notes)

    def read_on(self) -> bool:
        """Make the window longer, by as much as it has unused, and forget what was used. False at the file's end."""
        pieces = [self.window[self.at :]]
        wanted, found = max(len(pieces[0]), 1), 0
        while found < wanted and (piece := next(self._pieces, "")):
            pieces.append(piece)
            found += len(piece)
        if found:
            self.window, self.at = "".join(pieces), 0
        return bool(found)

    def next_character(self) -> str:
        """Go behind white space, and return the character there; "" at the file's end."""
        while True:
            self.at = _end_of(_SPACE, self.window, self.at)
            if self.at < len(self.window):
                return self.window[self.at]
            if not self.read_on():
                return ""

    def take_value(self) -> Any:
        """Return the value that begins here, clean, and go behind it. Raises _Broken, behind it then too; or _Cut."""
        if not self.next_character():
            raise _Cut(self.offset())
        if len(self.window) - self.at < PIECE_BYTES // 4:
            self.read_on()  # as most values are shorter, few are cut by the window
        if self.window[self.at] not in '"[{':
            self._find_end()  # 12 is no error, but may be the beginning of 123
        try:
            value, self.at = _decode(self.window, self.at, self._notes)
        except (_Broken, ValueError):
            value = self._take_whole_value()
        return value

    def take_key(self) -> str:
        """Return the key that begins here, and go behind its colon."""
        key = self.take_value()
        if self.next_character() == ":":
            self.at += 1
        return str(key)

    def pass_value(self) -> None:
        """Go behind the value that begins here. Raises _Cut."""
        self._follow(_Brackets())

    def pass_rest(self, open_objects: int) -> None:
        """Go behind the end of the objects that are open here. Raises _Cut."""
        if open_objects:
            self._follow(_Brackets(depth=open_objects))

    def offset(self) -> int:
        """Where this is in the file, in bytes; near it where the text is damaged, or not UTF-8."""
        return self._stream.tell() - len(self.window[self.at :].encode())

    def _follow(self, brackets: _Brackets) -> None:
        while True:
            self.at = brackets.follow(self.window, self.at)
            if brackets.is_closed:
                return
            if not self.read_on():
                if brackets.is_word:
                    return
                raise _Cut(self.offset())

    def _take_whole_value(self) -> Any:
        """Try again with all of the value in the window: now it is broken, if it is."""
        end = self._find_end()
        try:
            value, _ = _decode(self.window, self.at, self._notes)
        except ValueError as error:
            raise _Broken("malformed_item", _explain(error, self.at)) from None
        finally:
            self.at = end
        return value

    def _find_end(self) -> int:
        """Return where the value that begins here ends, having read as much as it takes."""
        brackets, reached = _Brackets(), self.at
        while True:
            reached = brackets.follow(self.window, reached)
            if brackets.is_closed:
                return reached
            if reached - self.at > LARGEST:
                self.at = reached
                self._follow(brackets)
                raise _Broken("too_large", f"it has over {LARGEST} characters")
            start = self.at
            if not self.read_on():
                if brackets.is_word:
                    return reached
                raise _Cut(self.offset())
            reached -= start


class _Brackets:
    """Follows a value to its end by its brackets and quotes alone, piece by piece."""

    def __init__(self, *, depth: int = 0) -> None:
        self.is_closed = self.is_word = self._is_in_string = False
        self._depth, self._is_begun = depth, depth > 0

    def follow(self, window: str, at: int) -> int:
        """Return where the value ends, or else how far it was followed in this window; `is_closed` tells which."""
        if not self._is_begun:
            at = self._begin(window, at)
        while at < len(window) and not self.is_closed:
            if self.is_word:
                at = _end_of(_REST_OF_WORD, window, at)
                self.is_closed = at < len(window)
            elif self._is_in_string:
                at = _end_of(_REST_OF_STRING, window, at)
                if window[at : at + 1] != '"':
                    return at  # a backslash at the window's end waits for what it escapes
                at = at + 1
                self._is_in_string, self.is_closed = False, self._depth == 0
            else:
                at = self._follow_brackets(window, _end_of(_BETWEEN_BRACKETS, window, at))
        return at

    def _begin(self, window: str, at: int) -> int:
        self._is_begun = True
        if window[at] in "[{":
            return at
        self._is_in_string = window[at] == '"'
        self.is_word = not self._is_in_string
        return at + 1  # of a word, too, so that a stray bracket or comma is left behind

    def _follow_brackets(self, window: str, at: int) -> int:
        run = _BRACKETS.match(window, at)
        if not run:  # the window's end, or a string that goes on behind it
            self._is_in_string = at < len(window)
            return at + 1 if self._is_in_string else at
        if window[at] in "[{":
            self._depth += len(run[0])
            return run.end()
        closed = min(len(run[0]), self._depth)
        self._depth -= closed
        self.is_closed = self._depth == 0
        return at + closed


# Clean values


def _decode(window: str, at: int, notes: Counter[str]) -> tuple[Any, int]:
    """Return the clean value that begins here, and where it ends. Raises JSONDecodeError; or _Broken: too deep."""
    try:
        value, end = _FAST.raw_decode(window, at)
        if _is_clean(value, window, at, end):
            return value, end
        return _decode_with_care(window, at, notes)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _Broken("too_deep", f"it has more than {DEEPEST} levels") from None
    except ValueError:  # an integer of thousands of digits, a number that is none
        return _decode_with_care(window, at, notes)


def _is_clean(value: Any, window: str, at: int, end: int) -> bool:
    """Whether orjson can write the value, and as many quotes come out as stood there: a lost key took some along."""
    for _ in range(ORJSON_DEEPEST - DEEPEST):
        value = [value]
    try:
        written = orjson.dumps(value)
    except TypeError:  # surrogates, integers beyond 64 bits, too many levels
        return False
    return written.count(b'"') == window.count('"', at, end) and window.find("\\u0022", at, end) < 0


def _read_finite(digits: str) -> float:
    if math.isfinite(number := float(digits)):
        return number
    raise ValueError("too large for a float")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Not strict: control characters within strings are read as they are.
_FAST = json.JSONDecoder(strict=False, parse_float=_read_finite, parse_constant=_refuse_constant)


def _decode_with_care(window: str, at: int, notes: Counter[str]) -> tuple[Any, int]:
    """Read what `_decode` reads, looking at each number, constant and key. Ten times as slow."""
    found: Counter[str] = Counter()

    def read_integer(digits: str) -> int | str:
        if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**64:
            return number
        found["huge_integer"] += 1
        return digits

    def read_float(digits: str) -> float | None:
        if math.isfinite(number := float(digits)):
            return number
        found["not_a_number"] += 1
        return None

    def read_constant(_name: str) -> None:
        found["not_a_number"] += 1

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        found["duplicate_key"] += len(pairs) - len(made)
        return made

    decoder = json.JSONDecoder(
        strict=False,
        parse_int=read_integer,
        parse_float=read_float,
        parse_constant=read_constant,
        object_pairs_hook=make_object,
    )
    value, end = decoder.raw_decode(window, at)
    holder = [value]
    _clean_texts(holder, found)
    notes.update(+found)
    return holder[0], end


def _clean_texts(holder: list[Any], found: Counter[str]) -> None:
    """Replace lone surrogates in all texts within, level by level. Raises _Broken if there are too many levels."""
    level: list[Any] = [holder]
    for _ in range(DEEPEST + 1):
        below = []
        for container in level:
            if isinstance(container, dict):
                _clean_keys(container, found)
            places = container.items() if isinstance(container, dict) else enumerate(container)
            for place, value in places:
                if isinstance(value, str):
                    container[place] = _clean_text(value, found)
                elif isinstance(value, dict | list):
                    below.append(value)
        level = below
    if level:
        raise _Broken("too_deep", f"it has more than {DEEPEST} levels")


def _clean_keys(container: dict[str, Any], found: Counter[str]) -> None:
    if all(map(str.isascii, container)):
        return
    pairs = [(_clean_text(key, found), value) for key, value in container.items()]
    container.clear()
    container.update(pairs)
    found["duplicate_key"] += len(pairs) - len(container)


def _clean_text(text: str, found: Counter[str]) -> str:
    if text.isascii():
        return text
    clean, count = _SURROGATE.subn(REPLACEMENT, text)
    found["lone_surrogate"] += count
    return clean


def _explain(error: ValueError, start: int) -> str:
    """Say what is wrong with a value, and where in it, without a word of it."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]}, at character {error.pos - start + 1} of it"
    return "it is no JSON"


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a match that begins here ends. These patterns match nothing, too."""
    found = pattern.match(text, at)
    assert found
    return found.end()
