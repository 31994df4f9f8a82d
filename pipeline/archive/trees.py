"""Trees of messages: parents that are there, no circles, one active path. Nothing here recurses: chains are long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.archive.conversations import Conversation, Message
from pipeline.archive.times import order_of


def settle_tree(conversation: Conversation, *, leaf: str | None, links: Mapping[str, str | None] | None = None) -> None:
    """Make a tree of a conversation's messages, and tell its active path. The messages keep their order.

    `links` gives the parents of nodes that are no messages: a message below one goes to the nearest message above it.
    A parent that is nowhere becomes None, and a circle is opened at its message that stands first; both are counted
    in the conversation's warnings. The path leads to `leaf`, wherever that is, if it is there; otherwise to the end
    with the latest time, then with the longest path, then with the last place in the file, and was guessed.
    """
    messages = {message.key: message for message in conversation.messages}
    for message in conversation.messages:
        if message.parent is not None and message.parent not in messages:
            message.parent = _find_message(message.parent, messages, links or {}, conversation)
    _open_circles(conversation, messages)
    _number_variants(conversation)
    if leaf is not None and leaf not in messages:
        leaf = _find_message(leaf, messages, links or {})
    conversation.is_leaf_guessed = bool(messages) and leaf is None
    conversation.active_leaf = _guess_leaf(conversation, messages) if leaf is None else leaf
    active = set(_walk_up(conversation.active_leaf, messages))
    for message in conversation.messages:
        message.is_active = message.key in active


def _find_message(
    key: str, messages: dict[str, Message], links: Mapping[str, str | None], conversation: Conversation | None = None
) -> str | None:
    """Return the nearest message at or above a node; None if there is none. Counts a node that is nowhere."""
    seen: set[str] = set()
    above: str | None = key
    while above is not None and above not in messages:
        if above in seen or above not in links:
            if conversation:
                _warn(conversation, "circle" if above in seen else "missing_parent")
            return None
        seen.add(above)
        above = links[above]
    return above


def _open_circles(conversation: Conversation, messages: dict[str, Message]) -> None:
    if _are_parents_first(conversation.messages):
        return
    places = {message.key: place for place, message in enumerate(conversation.messages)}
    settled: set[str] = set()
    for message in conversation.messages:
        path: list[str] = []
        on_path: set[str] = set()
        key: str | None = message.key
        while key is not None and key not in settled and key not in on_path:
            path.append(key)
            on_path.add(key)
            key = messages[key].parent
        if key in on_path:
            circle = path[path.index(key) :]
            messages[min(circle, key=places.__getitem__)].parent = None
            _warn(conversation, "circle")
        settled |= on_path


def _are_parents_first(messages: list[Message]) -> bool:
    """Whether every message stands behind its parent, and no key twice, as nearly always. Then there is no circle."""
    seen: set[str | None] = {None}
    for message in messages:
        if message.parent not in seen or message.key in seen:
            return False
        seen.add(message.key)
    return True


def _number_variants(conversation: Conversation) -> None:
    """Number the children of each parent by their times, those without one last, then by their order in the file."""
    siblings: dict[str | None, list[Message]] = {}
    for message in conversation.messages:
        message.variant = 0  # of an only child, as nearly all are
        siblings.setdefault(message.parent, []).append(message)
    for children in siblings.values():
        if len(children) > 1:
            children.sort(key=lambda message: (message.created is None, order_of(message.created)))
            for number, message in enumerate(children):
                message.variant = number


def _guess_leaf(conversation: Conversation, messages: dict[str, Message]) -> str | None:
    """Return the end of the path that is probably shown; None if there are no messages."""
    parents = {message.parent for message in conversation.messages}
    depths = _count_depths(messages)
    best, best_rank = None, ("", -1)
    for message in conversation.messages:
        rank = (order_of(message.created), depths[message.key])
        if message.key not in parents and rank >= best_rank:
            best, best_rank = message.key, rank
    return best


def _count_depths(messages: dict[str, Message]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for first in messages:
        path = []
        key: str | None = first
        while key is not None and key not in depths:
            path.append(key)
            key = messages[key].parent
        depth = depths[key] if key is not None else 0
        for key in reversed(path):
            depth += 1
            depths[key] = depth
    return depths


def _walk_up(leaf: str | None, messages: dict[str, Message]) -> Iterator[str]:
    while leaf is not None:
        yield leaf
        leaf = messages[leaf].parent


def _warn(conversation: Conversation, reason: str) -> None:
    conversation.warnings[reason] = conversation.warnings.get(reason, 0) + 1
