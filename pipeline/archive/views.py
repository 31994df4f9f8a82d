"""Views: a conversation as all exports together show it. The newest observation wins, and nothing that one had is lost.

A conversation document is one observation: what one export said. A view merges all observations of one conversation;
it is a pure function of them, whatever the order in which they came.

    outline_views     {conversation_id: Outline}, without reading a conversation: equal outlines, equal views
    walk_views        the views, one at a time; `only` names those that are wanted
    find_view         one, by the start of its id or of the doc_id of a version
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from pipeline.archive.conversations import Conversation
from pipeline.workspace import Workspace


class View(NamedTuple):
    """One conversation now. `conversation_id` stays the same however often it is exported again."""

    conversation_id: str
    conversation: Conversation  # merged; messages that newer exports lack have `is_gone`
    versions: tuple[str, ...]  # doc_ids of the observations, the newest first
    is_gone: bool = False  # a newer full export of the account lacks it
    conflicts: tuple[str, ...] = ()  # in words, each with the message's key


class Outline(NamedTuple):
    """All that a view depends on. What has the outline of a view that was seen before need not be read again."""

    versions: tuple[str, ...]  # doc_ids of its observations, sorted
    is_gone: bool = False
    relatives: tuple[str, ...] = ()  # doc_ids of conversations from which it may have copied messages, sorted


def outline_views(workspace: Workspace) -> dict[str, Outline]:
    """Return {conversation_id: Outline} of every conversation, sorted by conversation_id."""
    raise NotImplementedError


def walk_views(workspace: Workspace, *, only: Collection[str] | None = None) -> Iterator[View]:
    """Yield the views, sorted by conversation_id; `only`: those with one of these conversation_ids."""
    raise NotImplementedError


def find_view(workspace: Workspace, prefix: str) -> View:
    """Return the view whose conversation_id, or a version's doc_id, starts with `prefix`.

    Raises UnknownName if none does, InputInvalid if several do.
    """
    raise NotImplementedError
