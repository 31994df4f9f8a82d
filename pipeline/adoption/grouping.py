"""Things in groups, by a key; groups and things stay in the order in which they came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Thing = TypeVar("Thing")


def find_shared(things: Iterable[Thing], key_of: Callable[[Thing], object]) -> list[list[Thing]]:
    """Return the groups of two or more things that have the same key, in order."""
    return [group for group in group_by(things, key_of) if len(group) > 1]


def group_by(things: Iterable[Thing], key_of: Callable[[Thing], object]) -> list[list[Thing]]:
    """Return the things by their key; groups and things stay in the order in which they came."""
    groups: dict[object, list[Thing]] = {}
    for thing in things:
        groups.setdefault(key_of(thing), []).append(thing)
    return list(groups.values())
