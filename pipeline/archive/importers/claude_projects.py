"""Files beside Claude's chats: whose account it is, and the projects with their documents.

They hold no chats and are kept as they are. A chat that names its project gets the project's documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversations import Attachment, Conversation, Json
from pipeline.archive.importers.claude_blocks import NOT_IN_EXPORT
from pipeline.archive.importers.inline_files import keep_inline
from pipeline.archive.importers.interface import Member, Skip
from pipeline.archive.importers.values import list_of, object_of, objects_of, rest_of, text_of
from pipeline.archive.reading import read_items

MOST_SIBLINGS = 5000  # a folder with more is no export, and each of its files would look through all the others


class Found(NamedTuple):
    """What a side file says, and the export that is the file."""

    value: dict[str, Any]
    export: str


class SideFiles:
    """The files beside one file of an export, read when they are first asked for."""

    def __init__(self, siblings: Sequence[Member]) -> None:
        self._siblings = siblings if len(siblings) <= MOST_SIBLINGS else ()
        self._account: Found | None = None
        self._projects: dict[str, Found] | None = None
        self._is_account_read = False

    def find_account(self) -> Found | None:
        """Return the one user whose export this is."""
        if not self._is_account_read:
            users = [found for found in self._read("user") if is_user(found.value)]
            self._account = users[0] if len(users) == 1 else None
            self._is_account_read = True
        return self._account

    def find_project(self, project_id: str) -> Found | None:
        if self._projects is None:
            found = [each for each in self._read("project") if is_project(each.value)]
            self._projects = {each.value["uuid"]: each for each in found}
        return self._projects.get(project_id)

    def _read(self, word: str) -> Iterator[Found]:
        """Yield the objects of the siblings with this word in their name: the shape decides, the name saves looking."""
        for member in self._siblings:
            if word in member.name.lower() and member.name.lower().endswith(".json"):
                for item in read_items(member, ("item",)):
                    if not isinstance(item, Skip) and isinstance(item.value, dict):
                        yield Found(item.value, member.export)


def is_user(value: Json) -> bool:
    fields = object_of(value)
    return text_of(fields.get("uuid")) is not None and "email_address" in fields and "chat_messages" not in fields


def is_project(value: Json) -> bool:
    fields = object_of(value)
    has_content = isinstance(fields.get("docs"), list) or "prompt_template" in fields
    return text_of(fields.get("uuid")) is not None and has_content and "chat_messages" not in fields


def is_memory(value: Json) -> bool:
    fields = object_of(value)
    return "conversations_memory" in fields or ("account_uuid" in fields and "project_memories" in fields)


def attach_project(conversation: Conversation, project: dict[str, Any], extras: dict[str, bytes]) -> None:
    """Add a project's name and documents to a chat."""
    conversation.project_name = conversation.project_name or text_of(project.get("name"))
    for document in objects_of(list_of(project.get("docs"))):
        conversation.attachments.append(_read_document(document, extras))


def _read_document(document: dict[str, Any], extras: dict[str, bytes]) -> Attachment:
    text = document.get("content")
    if isinstance(text, str):
        attachment = keep_inline(extras, text.encode(), None, purpose="document", is_derived=True)
    else:
        attachment = Attachment(purpose="document", reason=NOT_IN_EXPORT)
    attachment.id, attachment.name = text_of(document.get("uuid")), text_of(document.get("filename"))
    attachment.extra = rest_of(document, ("uuid", "filename", "content"))
    return attachment
