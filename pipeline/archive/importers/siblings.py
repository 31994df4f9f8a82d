"""Files beside a file: found by name for what names them, and told to `parse` as plain facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote

from pipeline.archive.conversations import Attachment, AttachmentStatus
from pipeline.archive.importers.interface import Member
from pipeline.archive.importers.values import object_of


class Siblings:
    """The files of one export, for look-ups from one of them. Most files ask for none, so nothing is sorted before."""

    def __init__(self, file: Member, members: Sequence[Member]) -> None:
        self._folder = _folder_of(file.name)
        self._others = [member for member in members if member.name != file.name]

    @cached_property
    def _by_name(self) -> dict[str, Member]:
        return {member.name: member for member in self._others}  # of two with one name, the later

    @cached_property
    def _by_base(self) -> dict[str, list[Member]]:
        return _group(self._by_name.values(), lambda member: _base_of(member.name))

    @cached_property
    def _by_stem(self) -> dict[str, list[Member]]:
        return _group(self.beside(), lambda member: _base_of(member.name).split(".")[0])

    def beside(self) -> list[Member]:
        """Return the files of the same folder."""
        return [member for member in self._by_name.values() if _folder_of(member.name) == self._folder]

    def find(self, name: str) -> Member | None:
        """Return the file that a name means: beside the asking one, or the only one of that name anywhere."""
        for spelling in dict.fromkeys([name, unquote(name)]):
            beside = self._by_name.get(f"{self._folder}/{spelling}".lstrip("/")) or self._by_name.get(spelling)
            same = self._by_base.get(_base_of(spelling), [])
            if beside or len(same) == 1:
                return beside or same[0]
        return None

    def find_by_id(self, file_id: str) -> Member | None:
        """Return the only file beside the asking one that is named by an id, with any ending."""
        same = self._by_stem.get(file_id, [])
        return same[0] if len(same) == 1 else None


def _group(members: Iterable[Member], name_of: Callable[[Member], str]) -> dict[str, list[Member]]:
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(name_of(member), []).append(member)
    return groups


class Found(NamedTuple):
    """What `parse` has to know of files beside its record's."""

    facts: dict[str, Any]  # by the name or id that was asked for
    exports: list[str]


def tell_files(found: Iterable[tuple[str, Member | None]]) -> Found:
    """Return the facts of the files that were found, for a record's context and sources."""
    there = {asked: member for asked, member in found if member}
    facts = {
        asked: {"export": member.export, "blake3": member.blake3, "size_bytes": member.size_bytes, "name": member.name}
        for asked, member in there.items()
    }
    return Found(facts, sorted({member.export for member in there.values()}))


def attach_file(context: Any, asked: str, *, reason: str, **facts: Any) -> Attachment:
    """Return the attachment for what a record names: with the facts of its file, or the reason why it has none."""
    known = object_of(object_of(object_of(context).get("files")).get(asked))
    if not known:
        return Attachment(status=AttachmentStatus.MISSING, reason=reason, **facts)
    facts = {"name": _base_of(str(known["name"])), **facts, "size_bytes": known["size_bytes"]}
    return Attachment(status=AttachmentStatus.PRESENT, blake3=known["blake3"], export=known["export"], **facts)


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _base_of(name: str) -> str:
    return name.rpartition("/")[2]
