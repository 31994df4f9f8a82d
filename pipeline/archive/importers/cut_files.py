"""Files that should be one JSON value, and are cut or broken: what is whole in them is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.archive.importers.interface import Member, Skip
from pipeline.archive.importers.values import object_of
from pipeline.archive.reading import Item, UnreadableJson, peek, read_items, read_value

PARTIAL = "partial"  # a warning
PARTIAL_KEY = "$partial"  # of a record


class ReadFile(NamedTuple):
    """The value of a file, or the whole elements of its array, and what was odd. `is_whole`: all of it was read."""

    value: Any
    elements: list[Any]
    skips: list[Skip]
    is_whole: bool


def read_file(file: Member, prefixes: Sequence[str]) -> ReadFile:
    """Read a file; where that fails, the elements of the array in it that a prefix leads to.

    Raises UnreadableJson if there are none.
    """
    try:
        value, skips = read_value(file)
    except UnreadableJson:
        found = list(read_items(file, prefixes))
        elements = [item.value for item in found if isinstance(item, Item)]
        if not elements:
            raise
        return ReadFile(None, elements, [item for item in found if isinstance(item, Skip)], is_whole=False)
    return ReadFile(value, [], skips, is_whole=True)


def read_beginning(file: Member, names: Sequence[str]) -> dict[str, Any]:
    """Return some fields of the object that a file begins with. Long texts in them are cut."""
    items = peek(file).items
    begin = object_of(items[0]) if items else {}
    return {name: begin[name] for name in names if name in begin}
