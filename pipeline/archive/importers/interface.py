"""What an importer is: it says whether a file is its provider's, splits it into records, and parses each.

    Peek ─recognise─▶ Recognition      File ─split─▶ Record, Skip, …      Record ─parse─▶ Parsed

A record holds all that its conversation is made from: `parse` reads no file, so that a record's hash, known before
it is parsed, says whether its conversation is there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pipeline.archive.conversations import Conversation, Json
from pipeline.archive.reading.members import Member, Peek, Skip

__all__ = ["Importer", "Member", "Parsed", "Peek", "Recognition", "Record", "Skip"]


class Recognition(NamedTuple):
    """Why a file is taken for what it is, in words for `daybook import --explain`. An artifact has no conversations."""

    reason: str
    is_artifact: bool = False  # a known side file: kept, and read by those that need it


@dataclass(slots=True)
class Record:
    """One conversation's share of a file. Equal values give equal conversations."""

    key: str  # the conversation's native id, or what stands for it
    place: str  # such as conversations.json[17] or lines 1-24
    value: Json  # what the file says of it
    context: Json = None  # what other files and the file's name add: resolved attachments, account, title
    sources: list[str] = field(default_factory=list)  # doc_ids of further exports that it needs, such as attachments
    written: memoryview | None = field(default=None, compare=False, repr=False)  # the value, as its Item has it


class Parsed(NamedTuple):
    """A conversation, and the bytes of attachments that stood inside its record: {name in extras/: bytes}."""

    conversation: Conversation
    extras: Mapping[str, bytes] = {}


class Importer(Protocol):
    """One provider's format. `version` goes up whenever equal records give another conversation."""

    name: str  # such as chatgpt, claude_code
    provider: str
    version: int

    def recognise(self, peek: Peek) -> Recognition | None: ...

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]: ...

    def parse(self, record: Record) -> Parsed: ...
