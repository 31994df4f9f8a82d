"""Claude.ai: chats of its export in all forms and of its API, and the files beside them.

conversations.json  [chat, …], or one chat            ─▶ a conversation each   (claude_chats)
design_chats/….json design chat                       ─▶ a conversation each   (claude_designs)
users, projects, memories                             ─▶ kept; what a chat needs of them goes into its record
a list of addresses where the export can be fetched   ─▶ a skip that says so
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.archive.conversations import Json
from pipeline.archive.importers.claude_chats import PROVIDER, parse_chat
from pipeline.archive.importers.claude_designs import is_design_chat, parse_design_chat
from pipeline.archive.importers.claude_projects import SideFiles, is_memory, is_project, is_user
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.values import id_of, list_of, object_of, objects_of, text_of
from pipeline.archive.reading import Item, hash_record, read_items

LOOKED_AT = 32  # values of a peek
DEEPEST_ADDRESS = 4  # levels of a list of addresses
ZIP_ADDRESS = re.compile(r"https?://[^?#]*\.zip(?:[?#]|$)", re.IGNORECASE)
PART_ADDRESS = re.compile(
    r"https?://(?:[^/?#]*(?:claude|anthropic)[^?#]*|[^?#]*/(?:conversations|projects|memories|design|users|data)[\w.-]*)\.zip",
    re.IGNORECASE,
)
SHOWN_KEYS = 8


class ClaudeImporter:
    """Reads what Claude.ai gives out."""

    name = "claude"
    provider = PROVIDER
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        for value in _list_values(peek):
            if is_chat(value):
                return Recognition("objects with chat_messages, of sender and content: chats of Claude")
            if is_design_chat(value):
                return Recognition("messages whose content is an object, in a project: a design chat of Claude")
            if is_user(value):
                return Recognition("uuid and email_address: the account of a Claude export", is_artifact=True)
            if is_project(value):
                return Recognition("uuid with docs or prompt_template: projects of Claude", is_artifact=True)
            if is_memory(value):
                return Recognition("conversations_memory or project_memories: memories of Claude", is_artifact=True)
        if _is_manifest(peek):
            return Recognition("addresses of ZIP files and no chats: the list of a Claude export's parts")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        beside = SideFiles(file, siblings)
        for item in read_items(file):
            yield item if isinstance(item, Skip) else _make_record(item, f"{file.name}[{item.index}]", beside)

    def parse(self, record: Record) -> Parsed:
        if is_design_chat(record.value):
            return parse_design_chat(record, self.provider)
        return parse_chat(record)


def is_chat(value: Json) -> bool:
    """Whether a value is a chat. An empty one needs the fields that every export writes."""
    fields = object_of(value)
    messages = fields.get("chat_messages")
    if not isinstance(messages, list):
        return False
    if not messages:
        return {"uuid", "created_at"} <= fields.keys() and ("name" in fields or "title" in fields)
    return any({"sender", "role", "text", "content"} & message.keys() for message in objects_of(messages))


def _list_values(peek: Peek) -> list[Any]:
    """Return the first objects of a file, also of a list within an object."""
    values = objects_of(list(peek.items))[:LOOKED_AT]
    return values + [inner for value in values for inner in objects_of(value.get("conversations"))[:LOOKED_AT]]


def _is_manifest(peek: Peek) -> bool:
    addresses = [address for value in peek.items for address in _list_addresses(value, DEEPEST_ADDRESS)]
    parts = [address for address in addresses if ZIP_ADDRESS.match(address)]
    is_named = "manifest" in peek.name.lower()
    return bool(parts) and (is_named or any(PART_ADDRESS.match(address) for address in parts))


def _list_addresses(value: Json, levels: int) -> Iterator[str]:
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        yield value
    elif levels and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _list_addresses(inner, levels - 1)


def _make_record(item: Item, place: str, beside: SideFiles) -> Record | Skip:
    chat = object_of(item.value)
    if not isinstance(chat.get("chat_messages"), list) and not is_design_chat(chat):
        return _refuse(item.value, place)
    key = id_of(chat.get("uuid")) or _derive_id(chat)
    context, sources = _look_beside(chat, beside)
    return Record(key, place, chat, context or None, sources, item.written)


def _look_beside(chat: dict[str, Any], beside: SideFiles) -> tuple[dict[str, Any], list[str]]:
    """Return what files beside a chat say of it, and the exports that these are."""
    context: dict[str, Any] = {}
    sources: list[str] = []
    project_id = text_of(chat.get("project_uuid")) or text_of(object_of(chat.get("project")).get("uuid"))
    if project_id and (project := beside.find_project(project_id)):
        context["project"] = {name: project.value.get(name) for name in ("name", "docs")}
        sources.append(project.export)
    if not object_of(chat.get("account")) and (account := beside.find_account()):
        context["account"] = account.value["uuid"]
        sources.append(account.export)
    return context, sources


def _refuse(value: Json, place: str) -> Skip:
    if any(ZIP_ADDRESS.match(address) for address in _list_addresses(value, DEEPEST_ADDRESS)):
        detail = "the file lists the parts of an export and holds no chats: download the listed parts, import those"
        return Skip("parts_not_downloaded", place, detail)
    keys = ", ".join(sorted(object_of(value))[:SHOWN_KEYS]) or type(value).__name__
    return Skip("not_a_conversation", place, f"no chat_messages; found {keys}")


def _derive_id(chat: dict[str, Any]) -> str:
    """Return an id for a chat without one, from what a later export of it still begins with."""
    first = object_of(next(iter(list_of(chat.get("chat_messages")) or list_of(chat.get("messages"))), None))
    begin = [first.get(name) for name in ("uuid", "sender", "created_at", "text", "content")]
    return f"derived-{hash_record([chat.get('created_at'), begin])[:32]}"
