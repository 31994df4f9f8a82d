"""An importer of an invented format, to test what all importers have in common.

    [{"id": "n1", "updated": "2026-03-01T00:00:00Z", "lines": [{"id": "a", "by": "user", "text": "…"}]}]

`fail: true` in a notebook makes its parser fail, `lines` that is no list the splitter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.archive.conversations import Block, Conversation, Lineage, Message, Usage
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.reading import read_items


@dataclass
class NotebookImporter:
    """Reads notebooks. `parsed` counts how often a record was parsed."""

    name: str = "notebooks"
    provider: str = "notebooks"
    version: int = 1
    parsed: int = 0

    def recognise(self, peek: Peek) -> Recognition | None:
        first = next((item for item in peek.items if isinstance(item, dict)), {})
        if {"owner"} == first.keys():
            return Recognition("names the owner", is_artifact=True)
        if isinstance(first.get("lines"), list) and first.get("kind", "notebooks") == self.name:
            return Recognition("its items have lines")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        owner = next((_read_owner(sibling) for sibling in siblings if sibling.name == "owner.json"), None)
        for item in read_items(file):
            if isinstance(item, Skip):
                yield item
            elif isinstance(item.value, dict) and isinstance(item.value.get("lines"), list):
                yield Record(item.value["id"], f"{file.name}[{item.index}]", item.value, {"owner": owner})
            else:
                yield Skip("not_a_notebook", f"{file.name}[{item.index}]")

    def parse(self, record: Record) -> Parsed:
        self.parsed += 1
        value: Any = record.value
        context: Any = record.context
        if value.get("fail"):
            raise KeyError("a secret of the export")
        parent = None
        conversation = Conversation(self.provider, value["id"], account=context["owner"], updated=value.get("updated"))
        conversation.extra = {"version": self.version} if self.version > 1 else {}
        conversation.title = value.get("title")
        conversation.lineage = [Lineage("fork", native_id) for native_id in value.get("forks", [])]
        for line in value["lines"]:
            usage = Usage(output_tokens=line["tokens"], usage_id=line["id"]) if "tokens" in line else None
            blocks = [Block("text", text=line["text"])]
            conversation.messages.append(
                Message(
                    line["id"], parent, line["by"], created=line.get("at"), is_active=True, blocks=blocks, usage=usage
                )
            )
            parent = line["id"]
        conversation.active_leaf = parent
        extras = {"cover.bin": value["cover"].encode()} if "cover" in value else {}
        return Parsed(conversation, extras)


def _read_owner(member: Member) -> str:
    (item,) = (item.value for item in read_items(member) if not isinstance(item, Skip))
    return str(item["owner"])


def notebook(native_id: str, *texts: str, **fields: Any) -> dict[str, Any]:
    """Return a notebook with a line for each text."""
    lines = [
        {"id": f"{native_id}-{number}", "by": "assistant" if number % 2 else "user", "text": text}
        for number, text in enumerate(texts)
    ]
    return {"id": native_id, "lines": lines, **fields}
