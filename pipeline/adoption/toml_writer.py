"""Writing TOML: tables of texts, numbers and lists of them. Reading is the matter of others."""

from __future__ import annotations

import re
from collections.abc import Mapping

TomlValue = str | int | float | list[str] | list[int]
TomlSettings = dict[str, TomlValue]

BARE_TOML_KEY = re.compile(r"[A-Za-z0-9_-]+")
TOML_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def encode_toml_table(path: tuple[str, ...], settings: Mapping[str, TomlValue]) -> str:
    """Return a table without a newline at its end; an empty path gives the keys alone.

    >>> print(encode_toml_table(("draft", "v1.2"), {"min_lines": 3, "label": 'the "short" one'}))
    [draft."v1.2"]
    min_lines = 3
    label = "the \\"short\\" one"
    """
    header = [f"[{'.'.join(map(encode_toml_key, path))}]"] if path else []
    return "\n".join(
        [*header, *(f"{encode_toml_key(key)} = {encode_toml_value(value)}" for key, value in settings.items())]
    )


def encode_toml_key(key: str) -> str:
    return key if BARE_TOML_KEY.fullmatch(key) else encode_toml_value(key)


def encode_toml_value(value: TomlValue) -> str:
    """Return a text, a number or a list of them in TOML; any text comes back the same when it is read."""
    if isinstance(value, str):
        return '"' + "".join(map(_escape_character, value)) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(encode_toml_value, value))}]"
    return repr(value)


def as_toml_comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in text.split("\n"))


def _escape_character(character: str) -> str:
    if character < " " or character == "\x7f":
        return TOML_ESCAPES.get(character, f"\\u{ord(character):04x}")
    return TOML_ESCAPES.get(character, character)
