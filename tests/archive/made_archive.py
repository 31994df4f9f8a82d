"""An archive of made views: conversation documents that are really there, and the views that stand for them.

archive = MadeArchive(tmp_path); archive.put(make_view("Tides", user="When is low tide?"))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.made_views import outline_made
from pipeline.archive.conversations import Block, Conversation, Kind, Message, encode_conversation
from pipeline.archive.notes import Notes
from pipeline.archive.search import PLACES, Filters, Hit, search
from pipeline.archive.search.index import Answer, Archive, ask_index_of
from pipeline.archive.search.index_tables import dump_tables
from pipeline.archive.views import View
from store.data_root import DataRoot
from store.durable import delete_folder
from store.identity import digest_of, hash_bytes, id_from_digest

STAGE = "conversation"


class MadeArchive:
    """A data folder in which views come and go, and its index."""

    def __init__(self, folder: Path) -> None:
        self.data = DataRoot(folder)
        self.views: dict[str, View] = {}
        self.notes = Notes(self.data)
        self.walked: list[str] = []  # conversation_ids of all views that the index has read
        self.source = Archive(lambda: outline_made(self.views), self._walk)

    def _walk(self, only: Any) -> Any:
        for conversation_id in sorted(only):
            self.walked.append(conversation_id)
            yield self.views[conversation_id]

    def put(self, view: View) -> View:
        """Let a view be there, in the place of an earlier one, with a document for each of its versions."""
        if view.conversation_id in self.views:
            self.remove(view.conversation_id)
        for doc_id in view.versions:
            commit_conversation(self.data, doc_id, view.conversation)
        self.views[view.conversation_id] = view
        return view

    def remove(self, conversation_id: str) -> None:
        for doc_id in self.views.pop(conversation_id).versions:
            delete_folder(self.data.documents.folder_of(STAGE, doc_id))

    def ask(self, question: Callable[[Any], Answer]) -> Answer:
        return ask_index_of(self.data, self.source, question)

    def search(self, query: str, *, places: tuple[str, ...] = PLACES, limit: int = 20, **filters: str) -> list[Hit]:
        return self.ask(lambda index: search(index, query, Filters(**filters), places=places, limit=limit))

    def find(self, query: str, **filters: str) -> set[str]:
        """Return the titles of the conversations that have hits."""
        return {hit.facts["title"] for hit in self.search(query, **filters)}

    def dump(self) -> list[str]:
        return self.ask(lambda index: list(dump_tables(index)))

    def dump_anew(self, folder: Path) -> list[str]:
        """Return the dump of an index that is made in one go of what is there now."""
        other = MadeArchive(folder)
        other.views = self.views
        folder.mkdir()
        for name in ("docs", "notes"):
            if (self.data.path / name).exists():
                (folder / name).symlink_to((self.data.path / name).resolve())
        return other.dump()


def commit_conversation(data: DataRoot, doc_id: str, conversation: Conversation) -> None:
    inputs = {"provider": conversation.provider, "key": conversation.native_id}
    metadata = {"digest": digest_of(STAGE, inputs), "inputs": inputs, "parents": [], "status": "ok"}
    data.documents.commit(STAGE, doc_id, {"conversation.json": encode_conversation(conversation)}, metadata)


def make_view(title: str | None, *, version: int = 1, provider: str = "chatgpt", **texts: str) -> View:
    """Return a conversation of one path: the names of `texts` are roles, a number behind them makes them differ."""
    conversation = Conversation(provider, native_id=str(title), title=title, title_source="provider")
    for name, text in texts.items():
        parent = conversation.messages[-1].key if conversation.messages else None
        blocks = [Block(Kind.TEXT, text=text)]
        message = Message(name, parent, name.rstrip("0123456789"), is_active=True, blocks=blocks)
        conversation.messages.append(message)
    return View(make_id(f"{title}"), conversation, (make_id(f"{title} {version}"),))


def make_id(name: str) -> str:
    return id_from_digest(hash_bytes(name.encode()))
