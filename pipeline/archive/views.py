"""Views: a conversation as all exports together show it. The newest observation wins, and nothing that one had is lost.

A conversation document is one observation: what one export said. A view merges all observations of one conversation;
it is a pure function of them, whatever the order in which they came.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.archive.conversations import Conversation


class View(NamedTuple):
    """One conversation now. `conversation_id` stays the same however often it is exported again."""

    conversation_id: str
    conversation: Conversation  # merged; messages that newer exports lack have `is_gone`
    versions: tuple[str, ...]  # doc_ids of the observations, the newest first
    is_gone: bool = False  # a newer full export of the account lacks it
    conflicts: tuple[str, ...] = ()  # in words, each with the message's key
