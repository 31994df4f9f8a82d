"""What an importer is: it says whether a file is its provider's, splits it into records, and parses each.

    Peek ─recognise─▶ Recognition      File ─split─▶ Record, Skip, …      Record ─parse─▶ Parsed

A record holds all that its conversation is made from: `parse` reads no file, so that a record's hash, known before
it is parsed, says whether its conversation is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple, Protocol

from pipeline.archive.conversations import Conversation, Json


class Member(NamedTuple):
    """A file of an export: alone, or beside others in one ZIP or folder. `name` is data and never a path to open."""

    name: str  # with `/`, as the ZIP or folder has it, a prefix that all share taken off
    size_bytes: int
    blake3: str
    export: str  # doc_id of the export document that keeps the bytes
    open: Callable[[], BinaryIO]


class Peek(NamedTuple):
    """The beginning of a file: enough to tell whose it is. Nothing in it is complete but `items`."""

    kind: str  # array, object, lines (JSON values, one a line), text, binary, empty
    items: Sequence[Any]  # of an array: its first elements; of lines: the first 32 values; of an object: itself, cut
    text: str  # the beginning, decoded, at most 64 KiB
    name: str  # for ties only


class Recognition(NamedTuple):
    """Why a file is taken for what it is, in words for `daybook import --explain`. An artifact has no conversations."""

    reason: str
    is_artifact: bool = False  # a known side file: kept, and read by those that need it


class Skip(NamedTuple):
    """What was not imported, and why. `place` tells the line, index or path; `is_info`: normal, nothing was lost."""

    reason: str  # one word of the coverage report, such as malformed_line
    place: str
    detail: str = ""
    is_info: bool = False


@dataclass(slots=True)
class Record:
    """One conversation's share of a file. Equal values give equal conversations."""

    key: str  # the conversation's native id, or what stands for it
    place: str  # such as conversations.json[17] or lines 1-24
    value: Json  # what the file says of it
    context: Json = None  # what other files and the file's name add: resolved attachments, account, title
    sources: list[str] = field(default_factory=list)  # doc_ids of further exports that it needs, such as attachments


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
