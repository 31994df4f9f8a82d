"""Which message of a session follows which: as the lines say, through lines that are no messages, or in their order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from pipeline.archive.importers.values import text_of

BOUNDARY = "compact_boundary"


class Talk(NamedTuple):
    """A line that is a message, and the key that it has in its conversation."""

    key: str
    line: dict[str, Any]


class Ancestry:
    """Finds parents. `others`: lines that are no messages. `elsewhere`: ids of lines of other conversations."""

    def __init__(self, talk: Sequence[Talk], others: Sequence[dict[str, Any]], elsewhere: Collection[str]) -> None:
        self._talk, self._elsewhere = talk, frozenset(elsewhere)
        self._keys = {each.key for each in talk}
        self._next = {uuid: text_of(line.get("parentUuid")) for line in others if (uuid := text_of(line.get("uuid")))}
        self._is_linear = is_linear(talk)

    def find_parent(self, place: int) -> str | None:
        """Return the key of the message that the one at this place follows; None for the first of a branch."""
        line = self._talk[place].line
        before = self._talk[place - 1].key if place else None
        named = text_of(line.get("parentUuid")) or text_of(line.get("logicalParentUuid"))
        if named is None:
            return before if self._is_linear or "uuid" not in line or is_joint(line) else None
        if named in self._elsewhere:
            return None
        found = self.find_message(named)
        return before if found in (None, self._talk[place].key) else found

    def find_message(self, uuid: str | None) -> str | None:
        """Return the nearest message from a line on, upwards through lines that are none."""
        passed: list[str] = []
        seen: set[str] = set()
        step = uuid
        while step is not None and step not in self._keys and step not in seen:
            passed.append(step)
            seen.add(step)
            step = self._next.get(step)
        found = step if step in self._keys else None
        for each in passed:
            self._next[each] = found  # so that a long way is gone once
        return found


def is_joint(line: dict[str, Any]) -> bool:
    """Whether a line begins what follows a compaction, and so goes on from the line before it."""
    return line.get("subtype") == BOUNDARY or line.get("isCompactSummary") is True


def is_linear(talk: Sequence[Talk]) -> bool:
    """Whether the order of the lines is the tree: most lines name no parent, as early versions wrote them."""
    lines = [each.line for each in talk]
    boundary = next((place for place, line in enumerate(lines) if line.get("subtype") == BOUNDARY), len(lines))
    counted = lines[1:boundary]
    return sum(text_of(line.get("parentUuid")) is None for line in counted) * 2 > len(counted)
