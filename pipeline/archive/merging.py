"""Merging: what several exports say of one conversation, as one. Pure, and the same in whatever order they came.

    relate     equal, superset, subset or conflict: by the messages, never by bytes
    merge      the newest observation, with what only older ones have

The newest is the one with the latest update; of equals the one with the later messages, then with more of them. A
message that the newest lacks stays and is marked as gone. Of a message with two contents the newer is shown, unless
it is only the beginning of the older one; both stay in their documents, and a conflict says so. Bytes of an attachment
that one export has are never lost again. Where messages have no ids, an equal beginning is growth, and anything else is
another version that stands alone. What was migrated from Markdown gives way to a real export.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

from pipeline.archive.conversations import Attachment, AttachmentStatus, Block, Conversation, Lineage, Message
from pipeline.archive.times import order_of
from pipeline.archive.trees import settle_tree
from store.identity import hash_bytes

DERIVED_TITLES = (None, "first_prompt", "file_name")  # give way to the title that the provider has
STATUS_RANK: dict[str, int] = {AttachmentStatus.PRESENT: 2, AttachmentStatus.CONFLICT: 1}
MERGING_VERSION = 2  # raise it when the same observations give another view
FILLED_FIELDS = ("account", "created", "updated", "model", "project_id", "project_name", "gizmo_id", "cwd", "usage")


class Observation(NamedTuple):
    """A conversation as one export shows it, and the document that has it."""

    doc_id: str
    conversation: Conversation


class Merged(NamedTuple):
    """One conversation; `versions` are the doc_ids, the newest first."""

    conversation: Conversation
    versions: tuple[str, ...]
    conflicts: tuple[str, ...] = ()


class Relation(StrEnum):
    """How an observation is to another one."""

    EQUAL = "equal"
    SUPERSET = "superset"
    SUBSET = "subset"
    CONFLICT = "conflict"


# Comparing


def hash_message(message: Message) -> str:
    """Return a hash of what a message says: role, parent, time and blocks; no ids of attachments, nothing volatile."""
    content = [message.role, message.parent, message.created, [_plain_block(block) for block in message.blocks]]
    return hash_bytes(json.dumps(_normalise(content), sort_keys=True).encode())


def _plain_block(block: Block) -> list[Any]:
    return [block.kind, block.text, block.tool_name, block.input, block.is_error]


def _normalise(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_normalise(item) for item in value]
    if isinstance(value, dict):
        return {_normalise(key): _normalise(item) for key, item in value.items()}
    return value


def relate(one: Conversation, other: Conversation) -> Relation:
    """Return how `one` is to `other`."""
    mine = {(message.key, hash_message(message)) for message in one.messages}
    theirs = {(message.key, hash_message(message)) for message in other.messages}
    if mine == theirs:
        return Relation.EQUAL
    if mine > theirs:
        return Relation.SUPERSET
    return Relation.SUBSET if mine < theirs else Relation.CONFLICT


# Order


def order_observations(observations: Iterable[Observation]) -> list[Observation]:
    """Return observations, the newest first."""
    ordered = sorted(observations, key=_rank, reverse=True)
    return sorted(ordered, key=lambda each: each.conversation.is_migrated)


def _rank(observation: Observation) -> tuple[str, str, int, str]:
    conversation = observation.conversation
    latest = max((order_of(message.created) for message in conversation.messages), default="")
    return order_of(conversation.updated) or latest, latest, len(conversation.messages), observation.doc_id


# Merging


def merge(observations: Sequence[Observation]) -> Merged:
    """Return one conversation from the observations of it. They are not changed."""
    ordered = order_observations(observations)
    real = [each for each in ordered if not each.conversation.is_migrated] or ordered
    newest = _find_longest(real) if real[0].conversation.is_append_only else real[0]
    ordered.remove(newest)
    versions = (newest.doc_id, *(each.doc_id for each in ordered))
    if len(observations) == 1:
        return Merged(_copy(newest, is_alone=True), versions)
    merged = _copy(newest)
    conflicts: list[str] = []
    for each in (each for each in real if each is not newest):
        conflicts += _add(merged, _copy(each), each.doc_id)
    _settle(merged, newest.conversation)
    return Merged(merged, versions, tuple(conflicts))


def _find_longest(ordered: Sequence[Observation]) -> Observation:
    """Return the longest one that begins as the newest does: it has grown from it, whatever the times say."""
    start = _list_hashes(ordered[0].conversation)
    grown = [each for each in ordered if _list_hashes(each.conversation)[: len(start)] == start]
    return max(grown, key=lambda each: (len(each.conversation.messages), *_rank(each)))


def _list_hashes(conversation: Conversation) -> list[str]:
    return [hash_message(message) for message in conversation.messages]


def _copy(observation: Observation, *, is_alone: bool = False) -> Conversation:
    """Return a conversation of its own, whose attachments tell in which document their bytes are."""
    if not any(attachment.extra_file for attachment in iter_attachments(observation.conversation)) and is_alone:
        return observation.conversation  # nothing will change in it
    conversation = deepcopy(observation.conversation)
    for attachment in iter_attachments(conversation):
        if attachment.extra_file:
            attachment.extra_document = observation.doc_id
    return conversation


def iter_attachments(conversation: Conversation) -> Iterator[Attachment]:
    """Yield the attachments of a conversation and of all its messages."""
    yield from conversation.attachments
    for message in conversation.messages:
        for block in message.blocks:
            if block.attachment is not None:
                yield block.attachment


def _add(merged: Conversation, older: Conversation, doc_id: str) -> list[str]:
    """Add to the merged conversation what only an older observation has; return the conflicts."""
    if merged.is_append_only and not _is_beginning(older, merged):
        return [f"version {doc_id} has another beginning, and stands alone"]
    _fill_fields(merged, older)
    _fill_attachments(merged.attachments, older.attachments)
    merged.attachments += _list_missing(merged.attachments, older.attachments)
    _add_lineage(merged.lineage, older.lineage)
    present = {message.key: index for index, message in enumerate(merged.messages)}
    conflicts = _compare_keys(merged, older, doc_id)
    for message in older.messages:
        index = present.get(message.key)
        if index is None:
            message.is_gone, message.is_active = True, False
            merged.messages.append(message)
        elif conflict := _merge_message(merged.messages, index, message):
            conflicts.append(f"message {message.key}: {conflict} (version {doc_id})")
    return conflicts


def _add_lineage(newer: list[Lineage], older: list[Lineage]) -> None:
    """Add the links that only an older observation has, and the message of a link that is known without one."""
    for link in older:
        same = [known for known in newer if (known.kind, known.native_id) == (link.kind, link.native_id)]
        for known in same:
            known.message = known.message or link.message
        if not same or (link.message is not None and link not in same):
            newer.append(link)


def _compare_keys(merged: Conversation, older: Conversation, doc_id: str) -> list[str]:
    """Return a conflict if each has messages that the other lacks; what is gone from older ones is no conflict."""
    newer_keys = {message.key for message in merged.messages if not message.is_gone}
    older_keys = {message.key for message in older.messages}
    lost = [message.key for message in older.messages if message.key not in newer_keys]
    if not lost or not newer_keys - older_keys:
        return []
    return [f"message {lost[0]}: {len(lost)} are only in version {doc_id}, and the newest has others that it lacks"]


def _is_beginning(older: Conversation, newer: Conversation) -> bool:
    return _list_hashes(newer)[: len(older.messages)] == _list_hashes(older)


def _fill_fields(merged: Conversation, older: Conversation) -> None:
    for name in FILLED_FIELDS:
        if getattr(merged, name) is None:
            setattr(merged, name, getattr(older, name))
    if merged.title_source in DERIVED_TITLES and older.title_source not in DERIVED_TITLES:
        merged.title, merged.title_source = older.title, older.title_source
    if merged.settings is None:
        merged.settings = older.settings


def _merge_message(messages: list[Message], index: int, older: Message) -> str | None:
    """Fill a message from an older observation of it; return the conflict, if there is one."""
    newer = messages[index]
    conflict = None
    begins_there = older.parent is None and newer.parent is not None  # the newer one has what is before it, too
    if hash_message(newer) != hash_message(replace(older, parent=newer.parent) if begins_there else older):
        if _is_cut(newer, older):
            older.parent, older.is_active, older.is_gone = newer.parent, newer.is_active, newer.is_gone
            messages[index], newer, older = older, older, newer
        elif not _is_cut(older, newer):
            conflict = "another content in an older export; the newer one is shown"
    _fill_attachments(_attachments_of(newer), _attachments_of(older))
    if newer.usage is None:
        newer.usage = older.usage
    return conflict


def _is_cut(message: Message, whole: Message) -> bool:
    """Whether a message is only the beginning of another one: it was exported while it was written."""
    text, whole_text = _text_of(message), _text_of(whole)
    return len(text) < len(whole_text) and whole_text.startswith(text) and message.role == whole.role


def _text_of(message: Message) -> str:
    return "\n".join(block.text for block in message.blocks if block.text)


def _attachments_of(message: Message) -> list[Attachment]:
    return [block.attachment for block in message.blocks if block.attachment is not None]


def _fill_attachments(newer: list[Attachment], older: list[Attachment]) -> None:
    """Give attachments without bytes those that an older export had."""
    for position, attachment in enumerate(newer):
        found = _find_attachment(older, attachment, position)
        if found is not None and _status_rank(found) > _status_rank(attachment):
            for name in ("status", "reason", "blake3", "export", "extra_file", "extra_document", "is_derived"):
                setattr(attachment, name, getattr(found, name))
            for name in ("name", "mime_type", "size_bytes", "width", "height"):
                if getattr(attachment, name) is None:
                    setattr(attachment, name, getattr(found, name))


def _find_attachment(attachments: list[Attachment], wanted: Attachment, position: int) -> Attachment | None:
    """Return the same attachment of another observation: by id, else by name and size, else at the same position."""
    for attachment in attachments:
        if wanted.id is not None and attachment.id == wanted.id:
            return attachment
    if wanted.id is not None:
        return None
    for attachment in attachments:
        if wanted.name is not None and (attachment.name, attachment.size_bytes) == (wanted.name, wanted.size_bytes):
            return attachment
    at_position = attachments[position] if position < len(attachments) else None
    return at_position if at_position and (at_position.id, at_position.name) == (None, wanted.name) else None


def _list_missing(newer: list[Attachment], older: list[Attachment]) -> list[Attachment]:
    known = {(attachment.id, attachment.name, attachment.blake3) for attachment in newer}
    names = {attachment.id or attachment.name for attachment in newer}
    return [
        attachment
        for attachment in older
        if (attachment.id, attachment.name, attachment.blake3) not in known
        and (attachment.id or attachment.name) not in names
    ]


def _status_rank(attachment: Attachment) -> int:
    return STATUS_RANK.get(attachment.status, 0)


def _settle(merged: Conversation, newest: Conversation) -> None:
    """Link the tree again, with the active path of the newest observation."""
    warnings = dict(merged.warnings)
    settle_tree(merged, leaf=newest.active_leaf)
    merged.warnings, merged.is_leaf_guessed = warnings, newest.is_leaf_guessed
