"""Files beside ChatGPT's conversations: what each is, by its shape, and what it adds to a conversation.

    user.json ─▶ account                message_feedback.json, shared_conversations.json ─▶ by conversation
    textdocs/ ─▶ texts of canvases      library_files.json, conversation_asset_file_names.json ─▶ names of files

The names are those of today's exports. A file is taken for what its shape says; its name is never asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipeline.archive.importers.chatgpt_attachments import TYPES, key_of
from pipeline.archive.importers.interface import Member, Peek, Skip
from pipeline.archive.importers.values import list_of, object_of, objects_of, text_of
from pipeline.archive.reading import UnreadableJson, peek, read_value

BEGINNING_BYTES = 4096  # of a file: enough to tell most conversations, of which there may be very many
LARGEST_SIDE_FILE = 256 * 1024 * 1024  # bytes; a list of all files of an account is far smaller
NEVER_JSON = frozenset(TYPES) - {"json", "txt", "md"} | {"dat"}  # not worth a look at their beginning
SHARD = re.compile(r"(?:^|/)conversations-(\d{1,6})\.json$")
TEXTDOCS = re.compile(r"(?:^|/)textdocs/[^/]+$")  # settles what a text with a title is, where its fields do not
TASK_PREFIX = "task_e_"


class SideFile(StrEnum):
    """What a file beside conversations is."""

    ACCOUNT = "account"
    MANIFEST = "list of what the export has"
    SHARED_LINKS = "shared links"
    ASSET_NAMES = "names of attachments"
    LIBRARY = "list of files"
    FEEDBACK = "ratings"
    CANVAS = "canvas document"
    GROUP_CHATS = "group chats, of which no form is known"
    VIEWER = "page that shows the same conversations"


def name_side_file(seen: Peek) -> SideFile | None:
    """Return what a file is, or None if it is no side file that is known."""
    if seen.kind == "text":
        return SideFile.VIEWER if "<html" in seen.text.lower() and "jsonData" in seen.text else None
    objects = objects_of(list(seen.items))
    if not objects:
        return None
    if seen.kind == "object":
        return _name_object(objects[0], is_in_textdocs=TEXTDOCS.search(seen.name) is not None)
    return next((kind for kind in map(_name_element, objects) if kind), None)


def _name_object(value: dict[str, Any], *, is_in_textdocs: bool) -> SideFile | None:
    if "mapping" in value or "messages" in value:
        return None
    if _names_assets(value):
        return SideFile.ASSET_NAMES
    if isinstance(value.get("id"), str) and "email" in value and _is_account(value):
        return SideFile.ACCOUNT
    if isinstance(value.get("content"), str) and (is_in_textdocs or "textdoc_type" in value or "textdoc_id" in value):
        return SideFile.CANVAS
    if any(list_shard_numbers(item) for item in value.values()):
        return SideFile.MANIFEST
    return SideFile.GROUP_CHATS if value.keys() == {"chats"} else None


def _names_assets(value: dict[str, Any]) -> bool:
    """Whether an object is a flat map of names. A file may have none."""
    is_flat = all(name.endswith(".dat") and isinstance(asset, str | None) for name, asset in value.items())
    return is_flat and any(isinstance(asset, str) for asset in value.values())


def _is_account(value: dict[str, Any]) -> bool:
    return value["id"].startswith("user-") or "chatgpt_plus_user" in value or "phone_number" in value


def list_shard_numbers(value: Any) -> list[int]:
    """Return the numbers of the files of conversations that a manifest's list names, as texts or in objects."""
    names = [
        name
        for item in list_of(value)
        for name in (item.values() if isinstance(item, dict) else [item])
        if isinstance(name, str)
    ]
    return [int(match[1]) for name in names if (match := SHARD.search(name))]


def _name_element(value: dict[str, Any]) -> SideFile | None:
    if "mapping" in value:
        return None
    if "file_id" in value and "file_name" in value:
        return SideFile.LIBRARY
    if "conversation_id" in value and "rating" in value:
        return SideFile.FEEDBACK
    if "conversation_id" in value and "id" in value and "title" in value:
        return SideFile.SHARED_LINKS
    return None


@dataclass(slots=True)
class SideFiles:
    """What the side files of one export say. Each value stands with the export that it is from."""

    account: str | None = None
    account_export: str | None = None
    asset_name_by_key: dict[str, str] = field(default_factory=dict)
    library: list[dict[str, Any]] = field(default_factory=list)
    library_exports: list[str] = field(default_factory=list)  # of both lists of files
    feedback_by_conversation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    feedback_exports: list[str] = field(default_factory=list)
    links_by_conversation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    links_exports: list[str] = field(default_factory=list)
    canvas_by_id: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    listed_shards: set[int] = field(default_factory=set)  # a hint: nobody has said what a manifest holds
    problems: list[Skip] = field(default_factory=list)


def read_side_files(members: Sequence[Member]) -> SideFiles:
    """Read the side files among an export's members. Of one kind, those nearest to its root count."""
    found = SideFiles()
    accounts: dict[str, str] = {}
    members_by_kind: dict[SideFile, list[Member]] = {}
    for member in members:
        if (kind := _find_kind(member)) is not None:
            members_by_kind.setdefault(kind, []).append(member)
    for kind, candidates in members_by_kind.items():
        for member in candidates if kind is SideFile.CANVAS else _keep_nearest(candidates):
            value = _read(member, found.problems)
            if kind is SideFile.ACCOUNT and (account := text_of(object_of(value).get("id"))):
                accounts.setdefault(account, member.export)
            else:
                _take(found, kind, value, member)
    if len(accounts) == 1:  # two at one place say nothing about whose conversations these are
        found.account, found.account_export = next(iter(accounts.items()))
    return found


def _find_kind(member: Member) -> SideFile | None:
    name = member.name.rpartition("/")[2]
    if not 0 < member.size_bytes <= LARGEST_SIDE_FILE or name.rpartition(".")[2].lower() in NEVER_JSON:
        return None
    with member.open() as stream:
        beginning = stream.read(BEGINNING_BYTES)
    if beginning.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")[:1] not in (b"{", b"["):
        return None
    return None if b'"mapping"' in beginning else name_side_file(peek(member))


def _keep_nearest(members: list[Member]) -> Iterable[Member]:
    depth = min(member.name.count("/") for member in members)
    return (member for member in members if member.name.count("/") == depth)


def _read(member: Member, problems: list[Skip]) -> Any:
    try:
        value, skips = read_value(member)
    except UnreadableJson as error:
        problems.append(Skip("unreadable_side_file", member.name, error.reason, is_info=True))
        return None
    problems += skips
    return value


def _take(found: SideFiles, kind: SideFile, value: Any, member: Member) -> None:
    if kind is SideFile.ASSET_NAMES:
        names = object_of(value).items()
        found.asset_name_by_key.update({key_of(asset): name for asset, name in names if isinstance(name, str)})
        found.library_exports.append(member.export)
    elif kind is SideFile.MANIFEST:
        found.listed_shards.update(number for item in object_of(value).values() for number in list_shard_numbers(item))
    elif kind is SideFile.LIBRARY:
        found.library += [entry for entry in objects_of(value) if text_of(entry.get("file_id"))]
        found.library_exports.append(member.export)
    elif kind is SideFile.FEEDBACK:
        _group(found.feedback_by_conversation, value)
        found.feedback_exports.append(member.export)
    elif kind is SideFile.SHARED_LINKS:
        _group(found.links_by_conversation, value)
        found.links_exports.append(member.export)
    elif kind is SideFile.CANVAS:
        document = object_of(value)
        stem = member.name.rpartition("/")[2].removesuffix(".json")
        canvas_id = text_of(document.get("textdoc_id")) or text_of(document.get("id")) or stem
        found.canvas_by_id[canvas_id] = (document, member.export)


def _group(by_conversation: dict[str, list[dict[str, Any]]], value: Any) -> None:
    for entry in objects_of(value):
        if conversation := text_of(entry.get("conversation_id")):
            by_conversation.setdefault(conversation, []).append(entry)


def list_tasks(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list that are tasks of Codex in the cloud."""
    for task in objects_of(value):
        if is_task(task):
            yield task


def is_task(value: Any) -> bool:
    task_id = object_of(value).get("id")
    return isinstance(task_id, str) and task_id.startswith(TASK_PREFIX) and isinstance(value.get("turns"), list)
