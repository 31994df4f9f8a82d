"""Reading TOML files that people write, so that every mistake is found at once, with its line.

    file = TomlFile.read(path, name="models.toml", problems=problems)
    for table in file.tables():
        max_tokens = table.integer("max_tokens", required=True, low=1)

Readers never raise for a wrong value: they add a Problem and return the default.
"""

from __future__ import annotations

import difflib
import math
import re
import sys
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.errors import Problem

ID_FORM = re.compile(r"(?!.*__)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ID_EXPECTED = "letters, digits, '.', '_' and '-', starting with a letter or digit, without '__', at most 100"
HIGHEST_INTEGER = 2**63 - 1  # TOML promises no more, and seeds are hashed as eight bytes

_KEY = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEY_LINE = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=")
_HEADER_LINE = re.compile(rf"\s*(\[\[?\s*{_KEY}(?:\s*\.\s*{_KEY})*\s*\]\]?)")
_ERROR_LINE = re.compile(r"\(at line (\d+)")

Place = tuple[str | int, ...]


def suggest(name: str, known: Iterable[str]) -> str:
    """Return how to go on after an unknown name: the nearest one, or all of them if they are few.

    ("essy", ["essay", "draft"]) -> "Did you mean 'essay'?"
    """
    names = sorted(str(other) for other in known)  # a Stage shows as its value
    listed = f"Known: {', '.join(names[:12]) or 'none'}{' …' if len(names) > 12 else ''}."
    return _name_nearest(name, names) or listed


def _name_nearest(name: str, names: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, [str(other) for other in names], n=1)
    return f"Did you mean {nearest[0]!r}?" if nearest else ""


class TomlFile:
    """A TOML file's data, and the line on which each of its tables and keys stands."""

    def __init__(
        self, name: str, data: dict[str, Any] | None, lines: dict[Place, int], problems: list[Problem]
    ) -> None:
        """`data` is None if the file cannot be read."""
        self.name, self.data, self.lines, self.problems = name, data or {}, lines, problems
        self.is_readable = data is not None

    @classmethod
    def read(cls, path: Path, *, name: str, problems: list[Problem]) -> TomlFile:
        """Return the file's content; empty, with a Problem, if it is absent or not TOML.

        Texts come back in NFC, as identities hold them: two forms of one text are one value, here and in what is sent.
        """
        try:
            text = unicodedata.normalize("NFC", path.read_bytes().decode("utf-8-sig"))
            data = tomllib.loads(text)
            return cls(name, data, _find_lines(text, data), problems)
        except FileNotFoundError:
            problems.append(Problem(name, None, "the file does not exist."))
        except UnicodeDecodeError as error:
            problems.append(Problem(name, None, f"the file is not UTF-8: {error}."))
        except tomllib.TOMLDecodeError as error:
            match = _ERROR_LINE.search(str(error))
            problems.append(Problem(name, int(match[1]) if match else None, f"not TOML: {error}."))
        return cls(name, None, {}, problems)

    def report(self, place: Place, message: str) -> None:
        """Add a mistake at a key or table, or at the nearest one around it."""
        while place and place not in self.lines:
            place = place[:-1]
        self.problems.append(Problem(self.name, self.lines.get(place), message))

    def table(self, *place: str | int) -> Table:
        """Return the table at a place; an empty one if there is none."""
        value: Any = self.data
        for key, below in zip_longest(place, place[1:]):
            value = value[key] if isinstance(key, int) else value.get(key, {})
            if not isinstance(value, list if isinstance(below, int) else dict):
                what = f"number {key + 1}" if isinstance(key, int) else key
                self.report(place, f"{what} is {value!r}. Expected a table.")
                value = {}
        return Table(self, place, value)

    def count_tables(self, key: str) -> int:
        """Return how many tables an array of tables has, such as [[rules]]; 0 if it is absent."""
        value = self.data.get(key, [])
        if isinstance(value, list):
            return len(value)
        self.report((key,), f"{key} is {value!r}. Expected tables, each below a line [[{key}]].")
        return 0

    def tables(self, *place: str) -> Iterator[tuple[str, Table]]:
        """Yield (name, table) of each table below a place, in file order."""
        for name in self.table(*place).data:
            yield name, self.table(*place, name)


class Table:
    """One table of a TOML file; each reader checks one key."""

    def __init__(self, file: TomlFile, place: Place, data: dict[str, Any]) -> None:
        self.file, self.place, self.data = file, place, data

    @property
    def line(self) -> int | None:
        return self.file.lines.get(self.place)

    def report(self, key: str | None, message: str) -> None:
        """Add a mistake at one of the table's keys, or at the table."""
        self.file.report(self.place if key is None else (*self.place, key), message)

    def check_keys(self, known: Iterable[str]) -> None:
        """Report every key that is not known, with the nearest known one."""
        known = list(known)
        for key in self.data:
            if key not in known:
                self.report(key, f"unknown key {key!r}. {suggest(key, known)}")

    def text(self, key: str, *, default: str = "", required: bool = False) -> str:
        return str(self._typed(key, (str,), "a text in quotes", default, required))

    def choice(self, key: str, choices: Sequence[str], *, default: str) -> str:
        value = self.text(key, default=default)
        if value not in choices:
            expected = f"Expected one of: {', '.join(choices)}. {_name_nearest(value, choices)}"
            self.report(key, f"{key} is {value!r}. {expected}".rstrip())
            return default
        return value

    def integer(self, key: str, *, default: int = 0, low: int = 0, required: bool = False) -> int:
        expected = f"a whole number of at least {low}"
        value = self._typed(key, (int,), expected, default, required)
        if key in self.data and not low <= value <= HIGHEST_INTEGER:
            self.report(key, f"{key} is {value!r}. Expected {expected}.")
            return default
        return int(value)

    def number(self, key: str, *, low: float = -math.inf) -> float | None:
        expected = "a number" if low == -math.inf else f"a number of at least {low:g}"
        value = self._typed(key, (int, float), expected, None, False)
        if value is not None and not (low <= value and is_finite_number(value)):
            self.report(key, f"{key} is {value!r}. Expected {expected}.")
            return None
        return None if value is None else float(value)

    def names(self, key: str) -> list[str]:
        """Return a list of texts; [] if the key is absent."""
        value = self._typed(key, (list,), 'a list of names, such as ["a", "b"]', [], False)
        if not all(isinstance(item, str) for item in value):
            self.report(key, f'{key} is {value!r}. Expected a list of names, such as ["a", "b"].')
            return []
        return list(value)

    def _typed(self, key: str, types: tuple[type, ...], expected: str, default: Any, required: bool) -> Any:
        if key not in self.data:
            if required:
                self.report(None, f"the key {key!r} is missing. Expected {key} = {expected}.")
            return default
        value = self.data[key]
        if not isinstance(value, types) or isinstance(value, bool):
            self.report(key, f"{key} is {value!r}. Expected {expected}.")
            return default
        return value


def is_finite_number(value: object) -> bool:
    """Whether a value is a number that an identity can hold: neither true, nor nan, nor inf."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_config_id(file: TomlFile, place: Place, kind: str, name: str) -> bool:
    """Whether a name can be an id in config/; reports it if not."""
    if ID_FORM.fullmatch(name):
        return True
    file.report(place, f"{name!r} is not a {kind} id. Expected {ID_EXPECTED}.")
    return False


def _find_lines(text: str, data: dict[str, Any]) -> dict[Place, int]:
    """Return {place: line} of the tables and keys of a TOML text. tomllib itself keeps no lines.

    A line within a list may look like a table; it is none if `data` has nothing there.
    """
    lines: dict[Place, int] = {}
    table: Place = ()
    for number, line in _list_lines_outside_texts(text):
        if header := _HEADER_LINE.match(line):
            place = _place_of_header(header[1], lines)
            table = place if _is_there(place, data) else table
        elif key := _KEY_LINE.match(line):
            place = (*table, *_keys_of(f"{key[1]} = 0"))
        else:
            continue
        if _is_there(place, data):
            for depth in range(1, len(place) + 1):
                lines.setdefault(place[:depth], number)
    return lines


def _list_lines_outside_texts(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of the lines that do not begin within a text of several lines."""
    open_mark = ""
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would also count U+2028, unlike tomllib
        if not open_mark:
            yield number, line
            open_mark = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
        elif open_mark in line:
            open_mark = ""


def _place_of_header(header: str, lines: dict[Place, int]) -> Place:
    """Return where a header's keys lead: the last table of each array on the way, a new one for [[...]]."""
    place: Place = ()
    *above, last = _keys_of(header) or ("",)
    for key in above:
        place = (*place, key)
        if count := _count_tables(place, lines):
            place = (*place, count - 1)
    place = (*place, last)
    return (*place, _count_tables(place, lines)) if header.startswith("[[") else place


def _count_tables(place: Place, lines: dict[Place, int]) -> int:
    count = 0
    while (*place, count) in lines:
        count += 1
    return count


def _is_there(place: Place, data: Any) -> bool:
    for key in place:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _keys_of(snippet: str) -> Place:
    """Return the keys of a header or key line, as tomllib reads them: '[a."b.c"]' -> ("a", "b.c")."""
    keys: list[str | int] = []
    try:
        value: Any = tomllib.loads(snippet)
    except tomllib.TOMLDecodeError:  # a line within a text of several lines
        return ()
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        keys.append(key)
        value = value[0] if isinstance(value, list) else value
    return tuple(keys)
