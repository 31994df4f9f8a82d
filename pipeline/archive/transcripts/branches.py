"""Branches: the messages of a conversation as a tree, taken apart into paths with numbers that stay. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pipeline.archive.conversations import Conversation, Message


class Tree:
    """The messages of a conversation with their children, and its branches.

    A branch begins with a root or with a later child of a message, and goes on with first children. So it never
    changes its beginning; a newer export can only add to its end, and add branches.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.messages = {message.key: message for message in conversation.messages}
        self.order = {message.key: number for number, message in enumerate(conversation.messages)}
        self.parents = self._link(conversation.messages)
        self.children: dict[str | None, list[Message]] = defaultdict(list)
        for message in sorted(conversation.messages, key=lambda each: (each.variant, self.order[each.key])):
            self.children[self.parents[message.key]].append(message)
        self.branches = self._list_branches()
        self.branch_by_key = {key: number for number, chain in enumerate(self.branches, 1) for key in chain}
        self.active_path = self._find_active_path(conversation)

    def _link(self, messages: Sequence[Message]) -> dict[str, str | None]:
        """Return each message's parent; None for a root, which is also where a circle is cut."""
        parents: dict[str, str | None] = {}
        for message in messages:
            path: dict[str, None] = {}
            key: str | None = message.key
            while key in self.messages and key not in parents and key not in path:
                path[key] = None
                key = self.messages[key].parent
            for step in reversed(path):
                parents[step] = key if key in parents else None
                key = step
        return parents

    def _list_branches(self) -> list[list[str]]:
        """Return the keys of each branch, by the time at which it begins."""
        heads = [message for siblings in self.children.values() for message in siblings[1:]]
        roots = self.children.get(None, [])
        heads.sort(key=lambda head: (self._time_of(head), self.order[head.key]))
        return [list(self._follow(head)) for head in [*roots[:1], *heads]]

    def _follow(self, head: Message) -> Iterator[str]:
        message: Message | None = head
        while message:
            yield message.key
            message = next(iter(self.children.get(message.key, ())), None)

    def _time_of(self, message: Message) -> str:
        """Return when a message was written; without a time of its own, when what it follows was."""
        key: str | None = message.key
        while key is not None:
            if created := self.messages[key].created:
                return created
            key = self.parents[key]
        return ""

    def path_to(self, key: str | None) -> list[str]:
        """Return the keys from the root to a message."""
        path = []
        while key in self.parents:
            path.append(key)
            key = self.parents[key]
        return path[::-1]

    def _find_active_path(self, conversation: Conversation) -> list[str]:
        marked = [message.key for message in conversation.messages if message.is_active]
        return self.path_to(conversation.active_leaf) or marked or (self.branches[0] if self.branches else [])

    def path_of_branch(self, number: int) -> list[str]:
        """Return the keys from the root through a branch to its end."""
        chain = self.branches[number - 1]
        return [*self.path_to(chain[0])[:-1], *chain]
