"""Views: a conversation as all exports together show it. The newest observation wins, and nothing that one had is lost.

A conversation document is one observation: what one export said. A view merges all observations of one conversation;
it is a pure function of them, whatever the order in which they came.

    outline_views     {conversation_id: Outline}, without reading a conversation: equal outlines, equal views
    walk_views        the views, one at a time; `only` names those that are wanted
    find_view         one, by the start of its id or of the doc_id of a version
    count_usage       what models were asked for in all, each answer counted once
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from pipeline.archive.catalogue import Catalogue, Group, read_catalogue
from pipeline.archive.conversation_documents import read_conversation
from pipeline.archive.conversations import Conversation, Lineage, Message, Usage
from pipeline.archive.merging import MERGING_VERSION, Merged, Observation, hash_message, merge
from pipeline.errors import InputInvalid, UnknownName
from pipeline.workspace import Workspace
from store.data_root import DataRoot

SHOWN_NAMES = 8
TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


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
    origins: tuple[str, ...] = ()  # doc_ids of older conversations from which it may have copied messages
    version: int = MERGING_VERSION
    replays: tuple[str, ...] = ()  # native ids of the replays that it is linked to


def outline_views(workspace: Workspace) -> dict[str, Outline]:
    """Return {conversation_id: Outline} of every conversation, sorted by conversation_id."""
    catalogue = read_catalogue(workspace.data)
    return {group.conversation_id: _outline(catalogue, group) for group in catalogue.groups.values()}


def _outline(catalogue: Catalogue, group: Group) -> Outline:
    origins = tuple(doc_id for origin in catalogue.list_origins(group) for doc_id in origin.doc_ids)
    return Outline(group.doc_ids, group.is_gone, origins, replays=tuple(catalogue.list_replays(group)))


def walk_views(workspace: Workspace, *, only: Collection[str] | None = None) -> Iterator[View]:
    """Yield the views, sorted by conversation_id; `only`: those with one of these conversation_ids."""
    catalogue = read_catalogue(workspace.data)
    for group in catalogue.groups.values():
        if only is None or group.conversation_id in only:
            yield _read_view(workspace.data, catalogue, group)


def find_view(workspace: Workspace, prefix: str) -> View:
    """Return the view whose conversation_id, or a version's doc_id, starts with `prefix`.

    Raises UnknownName if none does, InputInvalid if several do.
    """
    catalogue = read_catalogue(workspace.data)
    found = _find_groups(catalogue, prefix)
    if not found:
        raise UnknownName("conversation", prefix, list(catalogue.groups)[:SHOWN_NAMES])
    if len(found) > 1:
        shown = ", ".join(group.conversation_id for group in found[:SHOWN_NAMES])
        raise InputInvalid(
            f"{prefix!r} begins the ids of {len(found)} conversations. Expected more characters: {shown}."
        )
    return _read_view(workspace.data, catalogue, found[0])


def _find_groups(catalogue: Catalogue, prefix: str) -> list[Group]:
    every = {**catalogue.groups, **catalogue.replays}
    if exact := every.get(prefix):
        return [exact]
    return [
        group
        for group in every.values()
        if prefix and any(name.startswith(prefix) for name in (group.conversation_id, *group.doc_ids, *group.older))
    ]


# One view


def _read_view(data: DataRoot, catalogue: Catalogue, group: Group) -> View:
    merged = _merge_group(data, group)
    conversation = merged.conversation
    if group.account and conversation.account is None:
        conversation = replace(conversation, account=group.account)
    if replays := [Lineage("compaction", native_id) for native_id in catalogue.list_replays(group)]:
        conversation = replace(conversation, lineage=[*conversation.lineage, *replays])
    for origin in catalogue.list_origins(group):
        mark_copies(conversation, _merge_group(data, origin).conversation, origin.conversation_id)
    return View(group.conversation_id, conversation, merged.versions, group.is_gone, merged.conflicts)


def _merge_group(data: DataRoot, group: Group) -> Merged:
    return merge([Observation(doc_id, read_conversation(data.documents, doc_id)) for doc_id in group.doc_ids])


def mark_copies(conversation: Conversation, origin: Conversation, conversation_id: str) -> None:
    """Mark the messages of a conversation that were copied from an older one: the same id, and the same content."""
    known = {_id_of(message): message for message in origin.messages}
    for message in conversation.messages:
        original = known.get(_id_of(message))
        if message.copy_of is None and original is not None and _says_the_same(message, original):
            message.copy_of = conversation_id


def _id_of(message: Message) -> str:
    return message.native_id or message.key


def _says_the_same(message: Message, original: Message) -> bool:
    """Whether two messages have the same content. Times do not count: some forks give copies their own."""
    alone, original_alone = (replace(each, parent=None, created=None) for each in (message, original))
    return hash_message(alone) == hash_message(original_alone)


# Usage


def count_usage(views: Iterable[View]) -> dict[tuple[str, str], Usage]:
    """Return {(provider, model): Usage} of all views together. What has one usage_id is one answer, counted once.

    Of several records of one answer the one with the most output counts: the others were written before its end.
    """
    answers: dict[tuple[str, str, str], Usage] = {}
    totals: dict[tuple[str, str], Usage] = {}
    for view in views:
        conversation = view.conversation
        provider = str(conversation.provider)
        measured = [message for message in conversation.messages if message.usage and not message.copy_of]
        if not measured and conversation.usage is not None:
            _add_usage(totals, (provider, conversation.model or ""), conversation.usage)
        for message in measured:
            assert message.usage is not None
            model = message.model or conversation.model or ""
            if message.usage.usage_id is None:
                _add_usage(totals, (provider, model), message.usage)
                continue
            key = provider, model, message.usage.usage_id
            before = answers.get(key)
            if before is None or (message.usage.output_tokens or 0) > (before.output_tokens or 0):
                answers[key] = message.usage
    for (provider, model, _), usage in answers.items():
        _add_usage(totals, (provider, model), usage)
    return totals


def _add_usage(totals: dict[tuple[str, str], Usage], key: tuple[str, str], usage: Usage) -> None:
    total = totals.setdefault(key, Usage(input_includes_cached=usage.input_includes_cached))
    for name in TOKENS:
        value = getattr(usage, name)
        if value is not None:
            setattr(total, name, (getattr(total, name) or 0) + value)
