"""Where the bytes of ChatGPT's attachments are: from what a message asks for to a file of the export.

An id is looked for as it is, then as `<id>.dat`, then as a name that begins with it and goes on with `-`, `_` or `.`:
first in the root, then in dalle-generations/, then in user-…/. A bare beginning is not enough: file-A1 begins
file-A12-x.png, too. At last a file with the attachment's name and size is taken.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversations import Attachment
from pipeline.archive.importers.chatgpt_attachments import key_of, list_stated_sizes, type_of_name
from pipeline.archive.importers.chatgpt_side_files import SideFiles, read_side_files
from pipeline.archive.importers.chatgpt_values import keep_rest
from pipeline.archive.importers.interface import Member
from pipeline.archive.importers.values import count_of, text_of

AFTER_AN_ID = "-_."
SHARD = re.compile(r"conversations-(\d{1,6})\.json")
PIECE_BYTES = 1024 * 1024
MAGIC = (  # beginnings of files that have no name, and their types
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
)
RIFF_TYPES = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
LIBRARY_FIELDS = frozenset({"file_id", "file_name", "mime_type", "file_size_bytes"})


class Asked(NamedTuple):
    """An attachment, and where it was asked for."""

    attachment: Attachment
    conversation: str
    messages: frozenset[str]  # ids of the message: the node's and its own
    sandbox_names: frozenset[str]  # of all files in the sandbox that the message names


class _Names:
    """Files by the last part of their names."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.count = len(members)
        self._members = members
        self._named = sorted((_last_part(member.name), number) for number, member in enumerate(members))

    def list_for(self, file_key: str) -> list[Member]:
        """Return the files that an id means."""
        found = [*self.list_named(file_key)] or [*self.list_named(f"{file_key}.dat")]
        return found or [member for mark in AFTER_AN_ID for member in self._list_beginning(f"{file_key}{mark}")]

    def list_named(self, name: str) -> Iterator[Member]:
        """Yield the files of that name in any folder, the later one of two with one path first."""
        start = bisect_left(self._named, (name, -1))
        stop = bisect_left(self._named, (name, len(self._members)))
        yield from (self._members[number] for _, number in reversed(self._named[start:stop]))

    def _list_beginning(self, beginning: str) -> Iterator[Member]:
        at = bisect_left(self._named, (beginning, -1))
        while at < len(self._named) and self._named[at][0].startswith(beginning):
            yield self._members[self._named[at][1]]
            at += 1


class ExportFiles:
    """The files of one export, and what its side files say. `folder` ends with `/`, or is empty."""

    def __init__(self, members: Sequence[Member], folder: str, all_names: _Names) -> None:
        self.side_files: SideFiles = read_side_files(members)
        self.is_alone = all_names.count <= 1
        self.shards = {number for member in members if (number := shard_number(member.name, folder)) is not None}
        self._folder = folder
        self._names, self._all_names = _Names(members), all_names
        self._library = _Library(self.side_files.library)

    def find(self, asked: Asked) -> dict[str, Any] | None:
        """Return what the export holds of an attachment; None if nothing. See `settle_attachment` for the fields."""
        attachment = asked.attachment
        is_sandbox = (attachment.id or "").startswith("sandbox:")
        entry, is_guess = self._library.join(asked) if is_sandbox else (self._library.get(attachment.id), False)
        file_id = text_of(entry.get("file_id")) if entry else None
        file_key = key_of(file_id) if file_id else None if is_sandbox else attachment.id
        found = _describe_entry(entry) if entry else {}
        if name := self.side_files.asset_name_by_key.get(file_key or ""):
            found.setdefault("name", name)
        if is_guess:
            found["is_guess"] = True
        sizes = list_stated_sizes(attachment) | {found[name] for name in ("listed_size_bytes",) if name in found}
        member = self._find_member(file_key, found.get("name") or attachment.name, sizes)
        if member is not None:
            _describe_member(found, member, attachment, file_key, entry or {})
            found["member"] = member.name.removeprefix(self._folder)
        return found or None

    def _find_member(self, file_key: str | None, name: str | None, sizes: set[int]) -> Member | None:
        candidates = self._names.list_for(file_key) if file_key else []
        if not candidates and file_key:
            candidates = self._all_names.list_for(file_key)  # an id means one file, in whatever part of an export
        if not candidates and name and sizes:
            same_name = self._names.list_named(_last_part(name))
            candidates = [member for member in same_name if member.size_bytes in sizes]
        return min(candidates, key=lambda member: (self._rank(member), member.size_bytes not in sizes), default=None)

    def _rank(self, member: Member) -> int:
        folder = member.name.removeprefix(self._folder).rpartition("/")[0]
        if not folder:
            return 0
        if folder == "dalle-generations":
            return 1
        return 2 if folder.startswith("user-") else 3


def shard_number(name: str, folder: str) -> int | None:
    """Return the number of a file that is one of conversations-000.json, conversations-001.json, …"""
    match = SHARD.fullmatch(name.removeprefix(folder))
    return int(match[1]) if match else None


class _Library:
    """The list of files of an account, by what joins them to attachments."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._by_key = {key_of(entry["file_id"]): entry for entry in entries}
        self._by_message = _group_by(entries, "origination_message_id")
        self._by_thread = _group_by(entries, "origination_thread_id")
        self._by_name = _group_by(entries, "file_name")

    def get(self, key: str | None) -> dict[str, Any] | None:
        return self._by_key.get(key) if key else None

    def join(self, asked: Asked) -> tuple[dict[str, Any] | None, bool]:
        """Return the entry of a file in a sandbox, and whether that is a guess. Where two fit, none is taken."""
        name = asked.attachment.name
        of_message = [entry for message in sorted(asked.messages) for entry in self._by_message.get(message, ())]
        others = [entry for entry in of_message if text_of(entry.get("file_name")) not in asked.sandbox_names]
        unnamed = asked.sandbox_names - {text_of(entry.get("file_name")) for entry in of_message}
        of_thread = self._by_thread.get(asked.conversation, [])
        for fitting in (
            [entry for entry in of_message if entry.get("file_name") == name],
            others if unnamed == {name} else [],  # the one file of the message that is called otherwise
            [entry for entry in of_thread if entry.get("file_name") == name],
        ):
            if fitting:
                return (fitting[0], False) if len(fitting) == 1 else (None, False)
        of_name = self._by_name.get(name or "", [])
        return (of_name[0], True) if len(of_name) == 1 else (None, False)


def _group_by(entries: list[dict[str, Any]], name: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if value := text_of(entry.get(name)):
            groups.setdefault(value, []).append(entry)
    return groups


def _describe_entry(entry: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "name": text_of(entry.get("file_name")),
        "mime_type": text_of(entry.get("mime_type")),
        "listed_size_bytes": count_of(entry.get("file_size_bytes")),
        "extra": keep_rest(entry, LIBRARY_FIELDS),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _describe_member(
    found: dict[str, Any],
    member: Member,
    attachment: Attachment,
    file_key: str | None,
    entry: dict[str, Any],
) -> None:
    name = _last_part(member.name)
    if file_key and name.startswith(file_key) and name != f"{file_key}.dat":
        rest = name[len(file_key) :].lstrip("-_")
        found["member_name"] = name if rest.startswith(".") or not rest else rest
    named = found.get("name") or attachment.name or found.get("member_name")
    if not (found.get("mime_type") or attachment.mime_type or type_of_name(named)) and (kind := _sniff(member)):
        found["mime_type"] = kind
    if digest := text_of(entry.get("sha256_digest")):
        found["is_digest_equal"] = _hash(member) == digest.lower()
    found.update(export=member.export, size_bytes=member.size_bytes, blake3=member.blake3)


def _hash(member: Member) -> str:
    hasher = hashlib.sha256()
    with member.open() as stream:
        while piece := stream.read(PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def _sniff(member: Member) -> str | None:
    with member.open() as stream:
        beginning = stream.read(16)
    if beginning[:4] == b"RIFF":
        return RIFF_TYPES.get(beginning[8:12])
    return next((kind for magic, kind in MAGIC if beginning.startswith(magic)), None)


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


class _Known(NamedTuple):
    members: Sequence[Member]
    by_name: list[Member]
    names: _Names
    files_by_folder: dict[str, ExportFiles]


# At most one: the import that is being split. Its files are asked for again with each of its shards.
_known: list[_Known] = []


def files_around(file: Member, siblings: Sequence[Member]) -> ExportFiles:
    """Return the files of the export that a file is from: those in its folder and below."""
    if not _known or _known[0].members is not siblings:
        by_name = sorted(siblings, key=lambda member: member.name)
        _known[:] = [_Known(siblings, by_name, _Names(by_name), {})]
    known = _known[0]
    folder = file.name[: file.name.rfind("/") + 1]
    if folder not in known.files_by_folder:
        known.files_by_folder[folder] = ExportFiles(_list_within(known.by_name, folder), folder, known.names)
    return known.files_by_folder[folder]


def _list_within(by_name: list[Member], folder: str) -> Sequence[Member]:
    """Return the files in a folder and below, by a search in the sorted names: there may be very many folders."""
    if not folder:
        return by_name
    start = bisect_left(by_name, folder, key=lambda member: member.name)
    stop = start
    while stop < len(by_name) and by_name[stop].name.startswith(folder):
        stop += 1
    return by_name[start:stop]
