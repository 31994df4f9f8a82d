"""Bringing a bundle in: read whole and checked first, then read again and placed.

    check       every member is where and what the manifest says, every document passes the deep check, every
                attempt belongs to its call, the disk has room; nothing is written
    place       texts, calls, documents, each whole or not at all; every hash is checked again on the way

So a bundle with one wrong byte changes nothing, and nothing needs to be unpacked anywhere. An import that was
killed has placed some whole documents; the same import goes on, and a repeated one changes nothing.

What meets other content under its name stays beside it, and both are kept:

    a document      quarantine/superseded/<stage>/<doc_id>.<hash>
    an attempt      under the next free number of its call, with imported.json
    task tables     bundles/<bundle>/tasks/<cohort>/, where they and the configuration always are
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.bundles.archives import MANIFEST, MEMBER_LIMIT, Archive, Manifest, Member, open_archive
from pipeline.bundles.contents import KINDS, parse_path, sort_key
from pipeline.errors import BundleInvalid
from store.data_root import DataRoot
from store.documents import METADATA_FILE, find_problem
from store.durable import commit_folder, delete_folder, place_file
from store.identity import hash_bytes
from store.machine_locks import hold_machine_lock

RESERVE_BYTES = 64 * 2**20  # of the disk stay free
SHORT_ID = 16  # characters of a bundle's hash that name its folder

Json = dict[str, Any]


class Group(NamedTuple):
    """What is placed as one: a text, an attempt, a document, or all task tables and config files."""

    kind: str
    parts: dict[str, str]
    name: str
    files: dict[str, bytes]


@dataclass
class Outcome:
    """What became of the groups of a bundle."""

    counts: dict[str, dict[str, int]] = field(
        default_factory=lambda: {kind: {"placed": 0, "present": 0, "kept_beside": 0} for kind in KINDS}
    )
    kept_beside: list[Json] = field(default_factory=list)

    def count(self, kind: str, what: str) -> None:
        self.counts[kind][what] += 1

    def keep_beside(self, kind: str, name: str, place: str) -> None:
        self.count(kind, "kept_beside")
        self.kept_beside.append({"name": name, "place": place})


def import_bundle(data: DataRoot, path: Path, *, dry_run: bool = False) -> Json:
    """Check a bundle and bring in what is not there; return what was placed, what was there, what was kept beside.

    Raises BundleInvalid before anything is placed; WriteFailed if the disk refuses, and the same command goes on.
    """
    data.check_usable()
    with open_archive(path) as archive:
        manifest = _check(archive, data.path)
        outcome = Outcome()
        with _be_alone(data, dry_run=dry_run), archive.read() as (again, members):
            if again.bundle_id != manifest.bundle_id:
                raise BundleInvalid(path, problem="it changed while it was read")
            placing = _Placing(data, manifest, outcome, dry_run=dry_run)
            for group in _read_groups(path, members):
                placing.place(group)
    return {
        "file": str(path),
        "bundle": manifest.bundle_id,
        "dry_run": dry_run,
        "about": {name: manifest.about.get(name) for name in ("names", "documents", "calls")},
        "counts": outcome.counts,
        "kept_beside": outcome.kept_beside,
        "config": str(placing.record_folder) if placing.has_record else None,
    }


def _be_alone(data: DataRoot, *, dry_run: bool) -> AbstractContextManager[None]:
    """Wait until no other import places anything: two at once would bring an attempt in twice."""
    return nullcontext() if dry_run else hold_machine_lock(data.temporary_folder / "import.lock")


# Checking


def _check(archive: Archive, data_folder: Path) -> Manifest:
    """Read a bundle to its end and return its manifest if everything in it is sound."""
    with archive.read() as (manifest, members):
        _check_paths(archive.path, manifest)
        _check_room(archive.path, manifest, data_folder)
        for group in _read_groups(archive.path, members):
            if problem := _find_group_problem(group):
                raise BundleInvalid(archive.path, problem=f"{group.name}: {problem}")
    return manifest


def _check_paths(path: Path, manifest: Manifest) -> None:
    last: tuple[int, str] | None = None
    for member in manifest.members:
        if parse_path(member.path) is None:
            raise BundleInvalid(path, problem=f"{member.path!r} is no path that a bundle may hold")
        if last is not None and sort_key(member.path) <= last:
            raise BundleInvalid(path, problem=f"{member.path} is listed twice or out of order")
        last = sort_key(member.path)


def _check_room(path: Path, manifest: Manifest, data_folder: Path) -> None:
    existing = next(folder for folder in (data_folder, *data_folder.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if manifest.size_bytes + RESERVE_BYTES > free:
        problem = f"it holds {manifest.size_bytes:,} bytes, and the disk of {data_folder} has {free:,} left"
        raise BundleInvalid(path, problem=problem)


def _find_group_problem(group: Group) -> str | None:
    if group.kind == "texts":
        (content,) = group.files.values()
        return None if hash_bytes(content) == group.parts["digest"] else "its bytes are not those of its name"
    if group.kind == "calls":
        return _find_attempt_problem(group)
    if group.kind == "docs":
        return find_problem(group.parts["stage"], group.parts["doc_id"], group.files)
    return None


def _find_attempt_problem(group: Group) -> str | None:
    """Return what is wrong with an attempt. One whose process died may lack everything but a request."""
    for name in ("request.json", "outcome.json"):
        if name in group.files:
            try:
                record = json.loads(group.files[name])
                if record["call_id"] != group.parts["call_id"]:
                    return f"{name} belongs to call {record['call_id']!r}"
            except (ValueError, KeyError, TypeError, RecursionError):
                return f"{name} is no record of an attempt"
            recorded, response = record.get("response_blake3"), group.files.get("response.bin")
            if name == "outcome.json" and recorded != (None if response is None else hash_bytes(response)):
                return "response.bin is not what outcome.json recorded"
    return None


def _read_groups(path: Path, members: Iterable[tuple[Member, bytes]]) -> Iterator[Group]:
    for name, found in itertools.groupby(members, key=lambda each: _group_name(each[0].path)):
        files: dict[str, bytes] = {}
        size_bytes, parts = 0, {}
        for member, content in found:
            size_bytes += member.size_bytes
            if size_bytes > MEMBER_LIMIT:
                raise BundleInvalid(path, problem=f"{name} has more than {MEMBER_LIMIT:,} bytes")
            parsed = parse_path(member.path)
            assert parsed is not None, "the paths of the manifest were checked"
            parts = parsed[1].groupdict()
            files[member.path.removeprefix(name + "/") if name else member.path] = content
        yield Group(name.partition("/")[0] if name else "config", parts, name, files)


def _group_name(path: str) -> str:
    """docs/essay/<doc_id>/raw.txt -> docs/essay/<doc_id>; task tables and config files are one group, ''."""
    depth = {"texts": 3, "calls": 4, "docs": 3}.get(path.partition("/")[0], 0)
    return "/".join(path.split("/")[:depth])


# Placing


class _Placing:
    """Placing the groups of one bundle, or only saying what would become of them."""

    def __init__(self, data: DataRoot, manifest: Manifest, outcome: Outcome, *, dry_run: bool) -> None:
        self._data, self._manifest, self._outcome, self._dry_run = data, manifest, outcome, dry_run
        self.record_folder = data.path / "bundles" / manifest.bundle_id[:SHORT_ID]
        self.has_record = False

    def place(self, group: Group) -> None:
        {"texts": self._place_text, "calls": self._place_attempt, "docs": self._place_document}.get(
            group.kind, self._place_record
        )(group)

    def _place_text(self, group: Group) -> None:
        ((_, content),) = group.files.items()
        path = self._data.path / group.name
        is_there = path.exists()
        if not is_there and not self._dry_run:
            place_file(path, content, temporary_folder=self._data.temporary_folder)
        self._outcome.count("texts", "present" if is_there else "placed")

    def _place_attempt(self, group: Group) -> None:
        calls, call_id, number = self._data.calls, group.parts["call_id"], int(group.parts["attempt"])
        if calls.find_attempt_with(call_id, group.files) is not None:
            self._outcome.count("calls", "present")
        elif self._dry_run:
            is_taken = (calls.folder_of(call_id) / group.parts["attempt"]).exists()
            self._count_attempt(group, "the next free attempt" if is_taken else None)
        else:
            origin = {"bundle": self._manifest.bundle_id}
            placed = calls.bring_in(call_id, number, group.files, origin=origin)
            self._count_attempt(group, f"attempt {placed:04d}" if placed != number else None)

    def _count_attempt(self, group: Group, place: str | None) -> None:
        if place is None:
            self._outcome.count("calls", "placed")
        else:
            self._outcome.keep_beside("calls", group.name, place)

    def _place_document(self, group: Group) -> None:
        documents, stage, doc_id = self._data.documents, group.parts["stage"], group.parts["doc_id"]
        if self._dry_run:
            placed = documents.place_of(stage, doc_id, group.files[METADATA_FILE])
        else:
            placed = documents.bring_in(stage, doc_id, group.files)
        if placed.is_beside:
            self._outcome.keep_beside("docs", group.name, str(placed.folder))
        else:
            self._outcome.count("docs", "present" if placed.is_there else "placed")

    def _place_record(self, group: Group) -> None:
        """Keep task tables and configuration in a folder of the bundle; tables go to their place, too."""
        self.has_record, is_there = True, self.record_folder.exists()
        if not self._dry_run and not is_there:
            files = {**group.files, MANIFEST: self._manifest.content}
            loser = commit_folder(files, self.record_folder, temporary_folder=self._data.temporary_folder)
            if loser is not None:
                delete_folder(loser)  # another process brings the same bundle in
        for name in group.files:
            if name.startswith("config/"):
                self._outcome.count("config", "present" if is_there else "placed")
        tables = {name: content for name, content in group.files.items() if name.startswith("tasks/")}
        for _, names in itertools.groupby(sorted(tables), key=lambda name: name.split("/")[1]):
            self._place_tables({name: tables[name] for name in names})

    def _place_tables(self, tables: dict[str, bytes]) -> None:
        """Place the task tables of one cohort, unless one of them differs from one that is there."""
        found = {name: path.read_bytes() for name in tables if (path := self._data.path / name).exists()}
        differs = any(tables[name] != content for name, content in found.items())
        for name, content in tables.items():
            if differs and found.get(name) != content:
                self._outcome.keep_beside("tasks", name, str(self.record_folder / name))
            elif name in found:
                self._outcome.count("tasks", "present")
            else:
                if not self._dry_run:
                    place_file(self._data.path / name, content, temporary_folder=self._data.temporary_folder)
                self._outcome.count("tasks", "placed")
