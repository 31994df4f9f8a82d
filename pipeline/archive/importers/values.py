"""Values of an export, whose shapes nobody promises: each function takes anything, and gives one kind of thing."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.archive.conversations import Json

# What only its provider can read: opaque, long, and never to be shown.
SECRETS = frozenset({"encrypted_content", "thoughtSignature", "thoughtSignatures", "signature"})
SURROGATES = re.compile("[\ud800-\udfff]")
LONGEST_NUMBER = 4300  # digits; Python refuses longer ones
DEEPEST = 200  # levels of JSON inside a text; a call's arguments have three or four


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, or nothing."""
    return [item for item in list_of(value) if isinstance(item, dict)]


def text_of(value: Any) -> str | None:
    """Return a text that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def id_of(value: Any) -> str | None:
    """Return an id, also one that is written as a number; or None."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text_of(value)


def odd_of(record: dict[str, Any], kind_by_name: Mapping[str, type]) -> dict[str, Any]:
    """Return the fields that are there with another kind of value than is known: nothing can be read from them."""
    odd = {}
    for name, kind in kind_by_name.items():
        found = record.get(name)
        if found is not None and type(found) is not kind and not isinstance(found, kind):  # the first is faster
            odd[name] = found
    return odd


def first_text(*values: Any) -> str | None:
    """Return the first text that is not empty, or None."""
    return next((value for value in values if isinstance(value, str) and value), None)


def count_of(value: Any) -> int | None:
    """Return a count, also one that is written as a text (`"300"`) or as 300.0; or None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def flag_of(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def rest_of(record: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return what an importer does not know, as it was and without secrets. None says nothing and is left out."""
    return {
        name: without_secrets(value)
        for name, value in record.items()
        if name not in known and name not in SECRETS and value is not None
    }


def rest_and_odd_of(record: dict[str, Any], known: Collection[str], kind_by_name: Mapping[str, type]) -> dict[str, Any]:
    """Return what `rest_of` returns, and of the fields that are known those with another kind of value."""
    rest = {}
    for name, value in record.items():
        if value is None or name in SECRETS:
            continue
        kind = kind_by_name.get(name) if name in known else None
        if name not in known or (kind is not None and not isinstance(value, kind)):
            rest[name] = without_secrets(value)
    return rest


def without_secrets(value: Any) -> Any:
    """Return JSON with nothing in it that only its provider can read."""
    if isinstance(value, dict):
        return {name: without_secrets(item) for name, item in value.items() if name not in SECRETS}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return value


def parse_embedded(text: str) -> Json:
    """Return the JSON that stands in a text, such as the arguments of a call.

    Lone surrogates become U+FFFD, NaN and Infinity None, integers beyond 64 bits texts. Raises ValueError for all else.
    """
    try:
        value = json.loads(text, parse_constant=lambda _: None, parse_int=_read_integer)
        clean: Json = clean_value(value)
    except RecursionError as error:
        raise ValueError("too deep") from error
    return clean


def _read_integer(digits: str) -> int | str:
    if len(digits) > LONGEST_NUMBER:
        return digits
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else digits


def clean_value(value: Any, levels: int = DEEPEST) -> Any:
    """Return JSON without lone surrogates and infinities. Raises ValueError beyond so many levels."""
    if levels == 0:
        raise ValueError("too deep")
    if isinstance(value, str):
        return SURROGATES.sub("\ufffd", value)
    if isinstance(value, float):
        return value if value - value == 0 else None  # 1e999 is read as infinite
    if isinstance(value, list):
        return [clean_value(item, levels - 1) for item in value]
    if isinstance(value, dict):
        return {SURROGATES.sub("\ufffd", name): clean_value(item, levels - 1) for name, item in value.items()}
    return value
