r"""Clean JSON values, from text and to a hash.

Clean: no lone surrogates (U+FFFD instead), no NaN or infinities (None instead), no integers beyond 64 bits (their
digits as text instead), nothing deeper than DEEPEST. What was changed is counted in notes, by its reason.

Whether a value is clean is not looked for in Python: orjson writes it again, and refuses what is not. Only what it
refuses is read a second time, with care. What was written is given along with the value, for the hash of its record.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NamedTuple

import orjson

from pipeline.archive.conversations import Json
from pipeline.archive.reading.decoding import REPLACEMENT
from store.identity import hash_bytes, hash_pieces

DEEPEST = 200  # levels of lists and objects within a value
TOO_DEEP = f"it has more than {DEEPEST} levels"
ORJSON_DEEPEST = 254  # it writes nothing that is deeper, which is how depth is measured
LIFT = ORJSON_DEEPEST - DEEPEST  # lists around a value that make one that is too deep too deep for orjson
LONGEST_KEPT = 16 << 20  # bytes of a value as it was written: a longer one is written again, and not held beside itself

_SURROGATE = re.compile("[\ud800-\udfff]")


class Broken(Exception):
    """A value cannot be read. `reason` is a word of the coverage report; `place`: in the value, if it is known."""

    def __init__(self, reason: str, detail: str, place: int | None = None) -> None:
        self.reason, self.detail, self.place = reason, detail, place
        super().__init__(f"{reason}: {detail}")


class Decoded(NamedTuple):
    """A clean value, and where it ends in the window."""

    value: Any
    end: int
    written: memoryview | None = None  # as hash_record writes it; None if it was not written, or is long


def decode_value(window: str, at: int, notes: Counter[str]) -> Decoded:
    """Return the clean value that begins here. Raises JSONDecodeError; or Broken: too deep."""
    try:
        if found := _decode_fast(window, at):
            return found
        return Decoded(*_decode_with_care(window, at, notes))
    except RecursionError:
        raise Broken("too_deep", TOO_DEEP) from None


def hash_record(value: Json) -> str:
    """Return the BLAKE3 digest of a clean value as JSON with sorted keys: 64 hex characters, whatever their order."""
    return hash_bytes(_write(value))


def hash_pair(value: Json, context: Json, written: memoryview | None) -> str:
    """Return hash_record({"value": value, "context": context}); `written` is the value, if it was written already."""
    if written is None:
        return hash_record({"value": value, "context": context})
    return hash_pieces((b'{"context":', _write(context), b',"value":', written, b"}"))


def _write(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _decode_fast(window: str, at: int) -> Decoded | None:
    """Return the value and its end, if it is clean. Raises JSONDecodeError, RecursionError."""
    try:
        value, end = _FAST.raw_decode(window, at)
    except orjson.JSONDecodeError:  # a number that is too large for a float
        return None
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of thousands of digits, or what is no number
        return None
    lifted = value
    for _ in range(LIFT):
        lifted = [lifted]
    try:
        written = _write(lifted)
    except TypeError:  # surrogates, integers beyond 64 bits, too many levels
        return None
    if written.count(b'"') != window.count('"', at, end) or _has_escaped_quote(window, at, end):
        return None  # a key that stood there twice took some quotes along
    return Decoded(value, end, memoryview(written)[LIFT:-LIFT] if len(written) <= LONGEST_KEPT else None)


def _has_escaped_quote(window: str, at: int, end: int) -> bool:
    """Whether a quote is written in a way that hides it from counting."""
    return window.find("0022", at, end) >= 0 and window.find("\\u0022", at, end) >= 0  # the first alone is faster


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# Not strict: control characters within strings are read as they are. Numbers are given to orjson, since it refuses what
# is too large for a float, and no function in Python is called for each.
_FAST = json.JSONDecoder(strict=False, parse_float=orjson.loads, parse_constant=_refuse_constant)


def _decode_with_care(window: str, at: int, notes: Counter[str]) -> tuple[Any, int]:
    """Read what `decode_value` reads, looking at each number, constant and key. Some times as slow."""
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
    """Replace lone surrogates in all texts within, level by level. Raises Broken if there are too many levels."""
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
        raise Broken("too_deep", TOO_DEEP)


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


def explain_error(error: ValueError, start: int) -> str:
    """Say what is wrong with a value, and where in it, without a word of it."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]}, at character {error.pos - start + 1} of it"
    return "it is no JSON"
