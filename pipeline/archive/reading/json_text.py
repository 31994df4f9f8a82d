r"""JSON as text that is longer than memory: a window that moves along it, and takes one value after another.

The standard library's decoder tells where a value ends when it has read it, so a file is never parsed as a whole, and
each value stands or falls alone. One that is broken is left behind by following its brackets.
"""

from __future__ import annotations

import re
from collections import Counter
from json import JSONDecodeError
from typing import Any, BinaryIO

from pipeline.archive.reading.clean_values import Broken, Decoded, decode_value, explain_error
from pipeline.archive.reading.decoding import PIECE_BYTES, decode_pieces

LARGEST = 256 * 1024 * 1024  # characters of one value; in memory it is several times as many bytes
LONGEST_WORD = 16  # of what an error may be about that begins before the window's end: -Infinity, \\ud83d

_SPACE = re.compile(r"[ \t\r\n]*+")
_BETWEEN_BRACKETS = re.compile(r'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.DOTALL)
_BRACKETS = re.compile(r"[\[{]++|[\]}]++")
_REST_OF_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_REST_OF_WORD = re.compile(r'[^\s,:"{}\[\]]*+')


class Cut(Exception):
    """The file ends within the value here, which begins at this byte."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(offset)


class JsonText:
    """A file's text, read piece by piece: `window[at:]` was read and is not used yet."""

    def __init__(self, stream: BinaryIO, notes: Counter[str]) -> None:
        self.window, self.at = "", 0
        self.forgotten = 0  # characters before the window
        self._stream, self._notes = stream, notes
        self._pieces = decode_pieces(stream, notes)

    def read_on(self) -> bool:
        """Make the window longer, by as much as it has unused, and forget what was used. False at the file's end."""
        pieces = [self.window[self.at :]]
        wanted, found = max(len(pieces[0]), 1), 0
        while found < wanted and (piece := next(self._pieces, "")):
            pieces.append(piece)
            found += len(piece)
        if found:
            self.forgotten += self.at
            self.window, self.at = "".join(pieces), 0
        return bool(found)

    def next_character(self) -> str:
        """Go behind white space, and return the character there; "" at the file's end."""
        while True:
            self.at = find_end_of_space(self.window, self.at)
            if self.at < len(self.window):
                return self.window[self.at]
            if not self.read_on():
                return ""

    def take_value(self) -> Any:
        """Return the value that begins here, clean, and go behind it. Raises Broken or Cut, and stays here then."""
        return self.take().value

    def take(self) -> Decoded:
        """Do what `take_value` does, and tell how the value was written."""
        if not self.next_character():
            raise Cut(self.offset())
        if len(self.window) - self.at < PIECE_BYTES // 4:
            self.read_on()  # as most values are shorter, few are cut by the window
        if self.window[self.at] not in '"[{':
            self._hold_word()
        while True:
            try:
                decoded = decode_value(self.window, self.at, self._notes)
                self.at = decoded.end
                return decoded
            except JSONDecodeError as error:
                if not self.may_be_cut(error):
                    raise Broken("malformed_item", explain_error(error, self.at), error.pos - self.at) from None
                if len(self.window) - self.at > LARGEST:
                    raise Broken("too_large", f"it has over {LARGEST} characters") from None
                if not self.read_on():
                    if is_cut(self.window, self.at):
                        raise Cut(self.offset()) from None
                    raise Broken("malformed_item", explain_error(error, self.at)) from None

    def take_key(self) -> str:
        """Return the key that begins here, and go behind its colon."""
        key = self.take_value()
        if self.next_character() == ":":
            self.at += 1
        return str(key)

    def pass_value(self) -> None:
        """Go behind the value that begins here, by its brackets. Raises Cut."""
        self._follow(Brackets())

    def pass_rest(self, open_objects: int) -> None:
        """Go behind the end of the objects that are open here. Raises Cut."""
        if open_objects:
            self._follow(Brackets(depth=open_objects))

    def offset(self) -> int:
        """Where this is in the file, in bytes; near it where the text is damaged, or not UTF-8."""
        return max(0, self._stream.tell() - len(self.window[self.at :].encode()))

    def _follow(self, brackets: Brackets) -> None:
        while True:
            self.at = brackets.follow(self.window, self.at)
            if brackets.is_closed:
                return
            if not self.read_on():
                if brackets.is_word:
                    return
                raise Cut(self.offset())

    def _hold_word(self) -> None:
        """See that all of the word here is in the window: 12 is no error, but may be the beginning of 123."""
        while _end_of(_REST_OF_WORD, self.window, self.at) == len(self.window) and self.read_on():
            pass

    def may_be_cut(self, error: JSONDecodeError) -> bool:
        """Whether an error may come from the window's end: a text without its end, or half a word or escape there."""
        return error.pos > len(self.window) - LONGEST_WORD or error.msg.startswith("Unterminated")


class Brackets:
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


def is_cut(window: str, at: int) -> bool:
    """Whether a window ends within the value that begins here."""
    brackets = Brackets()
    brackets.follow(window, at)
    return not (brackets.is_closed or brackets.is_word)


def find_end_of_space(text: str, at: int) -> int:
    """Return where the white space ends that begins here; it may be none."""
    return _end_of(_SPACE, text, at)


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a match that begins here ends. These patterns match nothing, too."""
    found = pattern.match(text, at)
    assert found
    return found.end()
