"""JSON scores: the number "score" in a judge's JSON object. Pure; knows nothing of files, models or Luigi.

A judge that was asked for JSON and gives anything else is not understood; nothing is guessed.

    parse_json_score
      drop_thinking      unless the whole reply is the object
      _find_objects      the outermost ones; the last that has a "score" counts
      _read_number       a number without quotes, on the scale
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.errors import ParseError
from pipeline.reply_lines import LONGEST_LINE, drop_thinking
from pipeline.scores import Scale, Score, shorten


class _Object(dict[str, Any]):
    """A JSON object that remembers whether a key came twice."""

    repeated_key: str | None = None


def _make_object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object()
    for key, item in pairs:
        if key in made:
            made.repeated_key = key
        made[key] = item
    return made


class _NoNumber(NamedTuple):
    """NaN or Infinity, which Python's reader would take for numbers."""

    text: str


# Whole numbers become floats at once: int() refuses more than 4,300 digits with an error of its own.
DECODER = json.JSONDecoder(object_pairs_hook=_make_object, parse_constant=_NoNumber, parse_int=float)
OBJECT_START = re.compile(r'\{(?=\s*["}])')  # any other brace is prose


def parse_json_score(reply: str, scale: Scale) -> Score:
    r"""Return the number "score" of the last whole JSON object in a reply that has one.

    '{"score": 7.5, "reason": "clear"}' -> value 7.5, strategy "json_object"

    The object may stand in a fence or between sentences. Raises ParseError: empty; invalid_json (none, a broken one,
    an array, a key that came twice); missing_score_field; score_not_a_number (also "7" in quotes, true, NaN: the
    prompt asked for a number, and a judge that gives something else is not understood); score_out_of_range.
    """
    if not reply.strip():
        raise ParseError("empty", 'The reply is empty. A JSON object with a number "score" was expected.')
    whole = reply.strip()
    objects = list(_find_objects(_choose_text(reply)))
    if not objects:
        raise ParseError(
            "invalid_json", f'No JSON object with a number "score" in the reply; it begins {shorten(whole)!r}.'
        )
    scored = [(found, quote) for found, quote in objects if "score" in found]
    if not scored:
        known = ", ".join(sorted(repr(key) for key in list(objects[-1][0])[:20])) or "none"
        raise ParseError("missing_score_field", f'The JSON object has no "score". Its keys: {known}.')
    found, quote = scored[-1]
    return Score(_read_number(found, scale), scale, "json_object", shorten(" ".join(quote.split())))


def find_last_object(reply: str) -> dict[str, Any]:
    """Return the last whole JSON object in a reply. Raises ParseError: empty, invalid_json."""
    if not reply.strip():
        raise ParseError("empty", "The reply is empty. A JSON object was expected.")
    objects = [found for found, _ in _find_objects(_choose_text(reply))]
    if not objects:
        raise ParseError("invalid_json", f"No JSON object in the reply; it begins {shorten(reply.strip())!r}.")
    return objects[-1]


def _choose_text(reply: str) -> str:
    whole = reply.strip()
    return whole if whole.startswith("{") and whole.endswith("}") else drop_thinking(reply)


def _find_objects(text: str) -> Iterator[tuple[_Object, str]]:
    """Yield the outermost objects. A broken one ends the search, since what it holds is not outermost."""
    position = 0
    while (start := OBJECT_START.search(text, position)) is not None:
        if text[max(position, start.start() - 100) : start.start()].rstrip().endswith("["):
            raise ParseError("invalid_json", "The reply is a JSON array. One object was expected.")
        try:
            found, end = DECODER.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            raise ParseError(
                "invalid_json", f"{error.msg} at character {error.pos} of the reply's JSON object."
            ) from error
        except RecursionError as error:
            raise ParseError("invalid_json", "The reply's JSON object is nested too deeply.") from error
        yield found, text[start.start() : min(end, start.start() + LONGEST_LINE)]
        position = end


def _read_number(found: _Object, scale: Scale) -> float:
    if found.repeated_key is not None:
        raise ParseError("invalid_json", f"The key {shorten(found.repeated_key)!r} came twice in the JSON object.")
    number = found["score"]
    if not isinstance(number, float):  # a JSON true is a bool, and every JSON number is a float here
        raise ParseError(
            "score_not_a_number", f'"score" is {shorten(repr(number))}. A number without quotes was expected.'
        )
    if not scale.low <= number <= scale.high:
        raise ParseError("score_out_of_range", f'"score" is {number:g}. A number from {scale} was expected.')
    return number
