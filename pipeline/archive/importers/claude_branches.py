"""What is known at each message of a chat: it grows along every branch, and one branch knows nothing of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pipeline.archive.conversations import Message

Known = TypeVar("Known")


def follow_branches(messages: Sequence[Message], known_first: Known, learn: Callable[[Message, Known], Known]) -> None:
    """Call `learn` for each message, with what its parent returned, or `known_first` at a root.

    `learn` changes nothing that it is given, since siblings are given the same.
    """
    known_after: dict[str, Known] = {}
    for message in _list_parents_first(messages):
        known = known_after.get(message.parent or "", known_first)
        known_after[message.key] = learn(message, known)


def _list_parents_first(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield each message after its parent, where the tree has no cycle; without recursion, for chains are long."""
    keys = {message.key for message in messages}
    children: dict[str | None, list[Message]] = {}
    for message in messages:
        children.setdefault(message.parent if message.parent in keys else None, []).append(message)
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        message = waiting.pop()
        yield message
        waiting.extend(reversed(children.get(message.key, [])))
