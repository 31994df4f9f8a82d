"""Files beside Claude's chats: whose account it is, and the projects with their documents.

They hold no chats and are kept as they are. A chat that names its project gets the project's documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.archive.conversations import Attachment, Conversation, Json
from pipeline.archive.importers.claude_blocks import NOT_IN_EXPORT
from pipeline.archive.importers.inline_files import keep_inline
from pipeline.archive.importers.interface import Member
from pipeline.archive.importers.values import list_of, object_of, objects_of, rest_of, text_of
from pipeline.archive.reading import Item, read_items

MOST_SIBLINGS = 5000  # a folder with more is no export, and each of its files would look through all the others


class Found(NamedTuple):
    """What a side file says, and the export that is the file."""

    value: dict[str, Any]
    export: str


class SideFiles:
    """The files beside one file of an export, read when they are first asked for.

    A name tells which file is worth a look, and its shape what it is.
    """

    def __init__(self, file: Member, siblings: Sequence[Member]) -> None:
        self._siblings = siblings if len(siblings) <= MOST_SIBLINGS else ()
        folder = PurePosixPath(file.name).parent
        # Design chats stand in a folder of their own. What is around a ZIP is no part of its export.
        self._folders = (folder,) if folder.suffix.lower() == ".zip" else (folder, folder.parent)

    def find_account(self) -> Found | None:
        """Return the one user whose export this is. Another export in the same folder says nothing of it."""
        named = [member for member in self._siblings if "user" in _stem_of(member)]
        files = [member for member in named if PurePosixPath(member.name).parent in self._folders]
        users = [found for member in files for found in _read_objects(member) if is_user(found.value)]
        return users[0] if len(users) == 1 else None

    def find_project(self, project_id: str) -> Found | None:
        """Return a project from its own file, or from the list of all."""
        own = [member for member in self._siblings if _stem_of(member) == project_id.lower()]
        lists = [member for member in self._siblings if _stem_of(member).startswith("project")]
        for member in [*own, *lists]:
            for found in _read_objects(member):
                if found.value.get("uuid") == project_id and is_project(found.value):
                    return found
        return None


def _stem_of(member: Member) -> str:
    return PurePosixPath(member.name).stem.lower()


@lru_cache(maxsize=4)  # every design chat of an export asks for the same ones
def _read_objects(member: Member) -> list[Found]:
    """Return the objects of a file; none of it where it cannot be read."""
    items = read_items(member, ("item",))
    return [
        Found(item.value, member.export) for item in items if isinstance(item, Item) and isinstance(item.value, dict)
    ]


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
