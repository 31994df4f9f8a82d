"""The elements of an array have much in common: so the next one is found behind one that is broken.

Behind a missing or stray quote brackets lead nowhere: what looks like text is none, and the other way round. An
element is then known by its first key, and by having most of the keys of its neighbours.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from json import JSONDecodeError
from typing import Any

from pipeline.archive.reading.clean_values import Broken, decode_value
from pipeline.archive.reading.json_text import Cut, JsonText

NEAR = 64 * 1024 * 1024  # characters in which a neighbour is looked for
MOST_CANDIDATES = 1000  # of a window

_TOKEN = re.compile(r'(?P<key>"(?:[^"\\]|\\.)*+")(?=\s*+:)|"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)
_STEPS = {"{": 1, "[": 1, "}": -1, "]": -1}


class Neighbours:
    """What is known of the elements of an array."""

    def __init__(self) -> None:
        self._likeness: Likeness | None = None
        self._barren_until = 0  # characters from the file's start: before that, no neighbour was found

    def learn(self, value: Any) -> None:
        """Take an element that is whole as the model, if it is the first."""
        if self._likeness is None and isinstance(value, dict) and value:
            self._likeness = Likeness(list(value))

    def leave(self, text: JsonText, broken: Broken) -> None:
        """Go behind the broken element that begins here: to its neighbour, or where brackets lead. Raises Cut."""
        if broken.place is not None and self._go_to_next(text, text.at + broken.place):
            return
        start = text.offset()
        try:
            text.pass_value()
        except Cut:
            raise Cut(start) from None

    def _go_to_next(self, text: JsonText, error_at: int) -> bool:
        if text.forgotten + text.at < self._barren_until:
            return False
        if self._likeness is None:
            self.learn(_find_model(text, error_at))
        if self._likeness is None:
            self._barren_until = text.forgotten + len(text.window)
            return False
        reached = text.at + 1
        while True:
            for found in self._likeness.find_all(text.window, reached):
                try:
                    value = decode_value(text.window, found.end(), Counter()).value
                except JSONDecodeError as error:
                    if text.may_be_cut(error):
                        reached = found.start()  # it is tried again, with more of it
                        break
                except Broken:
                    continue
                else:
                    if self._likeness.fits(value):
                        text.at = found.end()
                        return True
                reached = found.end()
            start = text.at
            if len(text.window) - start > NEAR or not text.read_on():
                self._barren_until = text.forgotten + len(text.window)
                return False
            reached -= start


class Likeness:
    """The keys of an element, as far as they are known."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def find_all(self, window: str, at: int) -> Iterator[re.Match[str]]:
        """Yield where elements may begin, by their first key: each match goes from a comma to an element."""
        if self._keys:
            first_key = re.escape(json.dumps(self._keys[0], ensure_ascii=False))
            start = re.compile(rf",[ \t\r\n]*+(?={{[ \t\r\n]*+{first_key})")
            yield from itertools.islice(start.finditer(window, at), MOST_CANDIDATES)

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict) and 4 * len(value.keys() & self._keys) >= 3 * len(self._keys)


def _find_model(text: JsonText, error_at: int) -> Any:
    """Where the first element is broken: return the longest of those with the keys that it has so far."""
    so_far = Likeness(list_keys(text.window, text.at, error_at))
    longest: tuple[int, Any] = 0, None
    for found in so_far.find_all(text.window, text.at + 1):
        with suppress(Broken, JSONDecodeError):
            value, end, _ = decode_value(text.window, found.end(), Counter())
            if so_far.fits(value):
                longest = max(longest, (end - found.end(), value), key=lambda each: each[0])
    return longest[1]


def list_keys(window: str, at: int, end: int) -> list[str]:
    """Return the keys of the object that begins here, as far as it goes before `end`."""
    depth, keys = 0, []
    for token in _TOKEN.finditer(window, at, end):
        if token["key"] and depth == 1:
            keys.append(json.loads(token["key"], strict=False))
        depth += _STEPS.get(token[0], 0)
    return keys
