"""Values of ChatGPT's exports, whose fields may be absent, null or of another type than last year."""

from __future__ import annotations

import json
import math
from typing import Any

DEEPEST_INPUT = 100  # levels of a tool call's input; what is deeper stays text
LONGEST_INTEGER = 18  # digits; what is longer may not fit into 64 bits


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str | None:
    """Return a text that says something, or None."""
    return value if isinstance(value, str) and value else None


def whole_number_of(value: Any) -> int | None:
    """Return an integer that is not a boolean; JSON writes some of them as 4.0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def list_objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in list_of(value) if isinstance(item, dict)]


def keep_rest(fields: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the fields that are not known and say something."""
    return {
        name: value
        for name, value in fields.items()
        if name not in known and value is not None and value != "" and value != [] and value != {}
    }


def read_json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text holds, with plain values only; None if it is anything else."""
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")) or _is_too_deep(stripped):
        return None
    try:
        value = json.loads(stripped, parse_int=_read_integer, parse_float=_read_float, parse_constant=lambda _: None)
        if "\\u" in stripped:
            json.dumps(value, ensure_ascii=False).encode()  # an escape may stand for half a character
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _is_too_deep(text: str) -> bool:
    if text.count("{") + text.count("[") <= DEEPEST_INPUT:
        return False
    depth = deepest = 0
    for character in text:  # brackets within strings count, too: the price is an input that stays text
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest > DEEPEST_INPUT


def _read_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits


def _read_float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
