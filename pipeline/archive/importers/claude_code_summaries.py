"""Summaries of sessions that stand in files of other sessions, and which session each is of.

Claude Code writes what a session was about at the beginning of a later one's file, in the same folder:
`{"type": "summary", "summary": "…", "leafUuid": "…"}`, where the leaf is a line of the session that is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pipeline.archive.importers.claude_code_lines import Numbered
from pipeline.archive.importers.interface import Member
from pipeline.archive.importers.values import object_of, parse_embedded, text_of
from store.errors import StoreError

HEAD_BYTES = 256 * 1024  # of a file, where summaries of other sessions stand
PIECE_BYTES = 1 << 20
LONGEST_FIELD = 256  # bytes of `"uuid": "…"`, which may be cut between two pieces
UUID_FIELD = re.compile(rb'"uuid"\s*:\s*"([^"\\]{1,200})"')


class Elsewhere(NamedTuple):
    """What other files say of a session's summaries."""

    summary: str | None  # the session's, from another file
    foreign: list[str]  # leaves of its own file's summaries that are lines of other sessions, sorted


class _Folder(NamedTuple):
    """Of the files of one folder: the summaries by their leaves, and those leaves that a line is found for."""

    summary_by_leaf: dict[str, str]
    found: frozenset[str]


class Summaries:
    """Looks up summaries. The files of an export are read once for all that ask, for they are asked for one by one."""

    def __init__(self) -> None:
        self._siblings: Sequence[Member] = ()
        self._folders: dict[str, _Folder] = {}

    def look_up(self, lines: Sequence[Numbered], file: Member, siblings: Sequence[Member]) -> Elsewhere:
        """Return what the files beside a session's say of it, and of the summaries in it."""
        if siblings is not self._siblings:
            self._siblings, self._folders = siblings, {}
        name = _folder_of(file)
        if name not in self._folders:
            self._folders[name] = _read_folder([member for member in siblings if _folder_of(member) == name])
        folder = self._folders[name]
        if not folder.summary_by_leaf:
            return Elsewhere(None, [])
        values = [object_of(line.value) for line in lines]
        own = {uuid: None for value in values if (uuid := text_of(value.get("uuid")))}  # in the order of the file
        leaves = {leaf for value in values if (leaf := text_of(value.get("leafUuid")))}
        said = [folder.summary_by_leaf[uuid] for uuid in own if uuid in folder.summary_by_leaf]
        return Elsewhere(said[-1] if said else None, sorted((leaves & folder.found) - own.keys()))


def _folder_of(member: Member) -> str:
    return member.name.rpartition("/")[0]


def _read_folder(members: Sequence[Member]) -> _Folder:
    summary_by_leaf: dict[str, str] = {}
    sessions: list[Member] = []
    for member in sorted(members, key=lambda member: member.name):
        head = next(_read_pieces(member, HEAD_BYTES), b"")
        sessions += [member] if b'"uuid"' in head else []
        for leaf, summary in _list_summaries(head):
            summary_by_leaf.setdefault(leaf, summary)
    if not summary_by_leaf:
        return _Folder({}, frozenset())
    found = {leaf for member in sessions for leaf in _list_uuids(member) if leaf in summary_by_leaf}
    return _Folder(summary_by_leaf, frozenset(found))


def _read_pieces(member: Member, size_bytes: int) -> Iterator[bytes]:
    """Yield a file's bytes; of one that cannot be read, which its own import tells, what can be."""
    with suppress(StoreError, OSError), member.open() as stream:
        while piece := stream.read(size_bytes):
            yield piece


def _list_summaries(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.split(b"\n"):
        value = _read_line(line) if b"leafUuid" in line else {}
        leaf, summary = text_of(value.get("leafUuid")), text_of(value.get("summary"))
        if leaf and summary and value.get("type") == "summary":
            yield leaf, summary


def _read_line(line: bytes) -> dict[str, Any]:
    try:
        return object_of(parse_embedded(line.decode("utf-8", "replace")))
    except ValueError:  # cut, or damaged, which the file's own import tells
        return {}


def _list_uuids(member: Member) -> Iterator[str]:
    before = b""
    for piece in _read_pieces(member, PIECE_BYTES):
        text = before + piece
        for found in UUID_FIELD.finditer(text):
            yield found[1].decode("utf-8", "replace")
        before = text[-LONGEST_FIELD:]
