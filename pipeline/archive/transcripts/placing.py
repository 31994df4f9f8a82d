"""Placing: transcripts as files in a folder for people, with their attachments and an index.

    DIR/index.html
    DIR/<provider>/<year>/<name>.html  <name>.md  <name>.files/…
    DIR/.daybook/manifest.json         every file that was placed, with its hash; and what the index shows

A file that is not in the manifest, or is not as it was placed, is somebody's: it is neither written over nor removed,
and is named. What was placed and no longer belongs is removed: another name after a change of title, a branch that is
gone, a conversation that the archive no longer has. What a command did not ask for stays.

In this order, so that a kill at any point and a repetition end well:

    1. the manifest, with the hashes of what will be placed beside those of what is there
    2. the files, a batch at a time: write under .daybook/, flush, rename
    3. removals
    4. the manifest as it then is
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipeline.archive.file_names import make_slug
from pipeline.archive.transcripts import Format, file_of, folder_of
from pipeline.archive.transcripts.index_page import IndexEntry
from pipeline.errors import InputInvalid
from store.data_root import DataRoot
from store.documents import Document
from store.errors import DocumentCorrupt, WriteFailed
from store.files import lock_folder
from store.flushing import sync_filesystem
from store.identity import hash_bytes, new_hasher

OWN_FOLDER = ".daybook"
MANIFEST_FILE = "manifest.json"
MANIFEST_SCHEMA = 1
INDEX_FILE = "index.html"
CHANGED = "somebody changed it"
NO_FOLDER = "a file lies where its folder would be"
NOT_OURS = "somebody else put it there"
CHANGED_AND_STALE = "it no longer belongs here, but somebody changed it"
BATCH_FILES, BATCH_BYTES = 500, 256 * 1024 * 1024  # written before they are flushed together
PIECE_BYTES = 1024 * 1024

Json = dict[str, Any]
ViewKey = tuple[str, str, int | None]  # conversation_id, format, and the number of a branch that was asked for


class PlacedView(NamedTuple):
    """A transcript that lies in the folder."""

    conversation_id: str
    format: str
    branch: int | None
    paths: tuple[str, ...]  # its own first, then those of its attachments
    entry: IndexEntry

    @property
    def key(self) -> ViewKey:
        return self.conversation_id, self.format, self.branch


class PlacedFile(NamedTuple):
    """A file as it was placed. `blake3s`: what it may hold after a kill; one otherwise."""

    blake3s: tuple[str, ...]
    size_bytes: int
    mtime_ns: int


class Manifest(NamedTuple):
    files: dict[str, PlacedFile]
    views: dict[ViewKey, PlacedView]


class WantedFile(NamedTuple):
    """A file that should lie in the folder. `source`: the file that has its bytes, or the bytes."""

    blake3: str
    size_bytes: int
    mtime_ns: int | None  # None: as it is when it is written
    source: Path | bytes


class Refusal(NamedTuple):
    """A file that was left as it is, and why."""

    path: str
    reason: str


class Stamp(NamedTuple):
    """What changes with a file, as a look at its folder tells it."""

    size_bytes: int
    mtime_ns: int


class Placement(NamedTuple):
    """What placing did."""

    written: list[str]
    unchanged: int
    removed: list[str]
    refusals: list[Refusal]


def place_transcripts(
    data: DataRoot,
    folder: Path,
    documents: Iterable[Document],
    *,
    asked: Collection[ViewKey],
    known_ids: Collection[str],
    write_page: Callable[[Sequence[IndexEntry]], bytes],
) -> Placement:
    """Bring a folder up to date with transcripts.

    `asked` are the keys of the views that a command asked for: of these nothing stays but what is in `documents`.
    `known_ids` are all conversations of the archive: views of others go, too.
    """
    own = folder / OWN_FOLDER
    _make_folder(folder, own)
    with lock_folder(own), _name_failure(folder):
        _clear(own)
        before = _read_manifest(own / MANIFEST_FILE)
        views, wanted = _collect(data, documents)
        kept = {
            key: view
            for key, view in before.views.items()
            if key not in asked and key not in views and view.conversation_id in known_ids
        }
        views = dict(sorted({**kept, **views}.items(), key=lambda item: str(item[0])))
        index = write_page([view.entry for view in views.values()])
        wanted[INDEX_FILE] = WantedFile(hash_bytes(index), len(index), None, index)
        staying = {path for view in kept.values() for path in view.paths} - wanted.keys()
        return _Placer(folder, before).bring(Manifest(before.files, views), wanted, staying)


def _make_folder(folder: Path, own: Path) -> None:
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputInvalid(
            f"{folder} is no folder to write in: {error.strerror}. Name another one with --out."
        ) from error


@contextlib.contextmanager
def _name_failure(folder: Path) -> Iterator[None]:
    """Let what the disk refuses be told like every other failure; what was placed until then is kept."""
    try:
        yield
    except OSError as error:
        raise WriteFailed(folder, problem=error.strerror or str(error)) from error


def _clear(own: Path) -> None:
    """Remove what a run that was killed has left under way."""
    for path in own.iterdir():
        if path.name.endswith(".new"):
            path.unlink()


def _collect(data: DataRoot, documents: Iterable[Document]) -> tuple[dict[ViewKey, PlacedView], dict[str, WantedFile]]:
    """Return the views to place and their files, by path."""
    views: dict[ViewKey, PlacedView] = {}
    wanted: dict[str, WantedFile] = {}
    for document in documents:
        metadata = document.metadata
        if lacks_branch(metadata):
            continue
        form = Format(metadata["format"])
        place = PurePosixPath(make_slug(metadata["provider"]), metadata["name"][:4].replace("unda", "undated"))
        path = str(place / f"{metadata['name']}.{form}")
        mtime_ns = _read_time(metadata["updated"])
        record = metadata["files"][file_of(form)]
        wanted[path] = WantedFile(record["blake3"], record["size_bytes"], mtime_ns, document.folder / file_of(form))
        paths = [path]
        for one in metadata["attachments"]:
            attachment_path = str(place / folder_of(metadata["name"]) / one["name"])
            source = data.documents.folder_of(one["stage"], one["doc_id"]) / one["file"]
            wanted[attachment_path] = WantedFile(one["blake3"], one["size_bytes"], mtime_ns, source)
            paths.append(attachment_path)
        entry = _enter(metadata, path)
        view = PlacedView(metadata["conversation_id"], str(form), metadata["branch"], tuple(paths), entry)
        views[view.key] = view
    return views, wanted


def lacks_branch(metadata: Mapping[str, Any]) -> bool:
    """Whether a transcript is of a branch that its conversation does not have."""
    return metadata["branch"] is not None and metadata["is_empty"]


def _enter(metadata: Mapping[str, Any], path: str) -> IndexEntry:
    return IndexEntry(
        path,
        metadata["title"],
        metadata["provider"],
        metadata["created"],
        metadata["updated"],
        tuple(metadata["models"]),
        metadata["project"],
        metadata["messages"],
        metadata["beginning"],
        metadata["is_gone"],
    )


def _read_time(time: str | None) -> int | None:
    """Return nanoseconds since 1970; None without a time that can be read."""
    if time is None:
        return None
    try:
        moment = datetime.fromisoformat(time.replace("Z", "+00:00"))
    except ValueError:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


class _Placer:
    """Writes and removes files of one folder."""

    def __init__(self, folder: Path, before: Manifest) -> None:
        self.folder = folder
        self.own = folder / OWN_FOLDER
        self.before = before
        self.files = dict(before.files)
        self.seen: dict[str, Stamp | None] = {}
        self.refusals: dict[str, str] = {}  # path: why

    def bring(self, after: Manifest, wanted: Mapping[str, WantedFile], staying: Collection[str]) -> Placement:
        to_write = [path for path, file in wanted.items() if self._is_to_write(path, file)]
        stale = [path for path in self.before.files if path not in wanted and path not in staying]
        removable = [path for path in stale if self._is_removable(path)]
        if to_write or removable:
            self._write_manifest(after.views, upcoming={path: wanted[path] for path in to_write})
        unchanged = len(wanted) - len(to_write) - len(self.refusals.keys() & wanted.keys())
        written = list(self._write_all({path: wanted[path] for path in to_write}))
        removed = [path for path in removable if self._remove(path)]
        self._write_manifest(after.views, upcoming={})
        return Placement(written, unchanged, removed, [Refusal(*item) for item in sorted(self.refusals.items())])

    # What is there

    def _is_to_write(self, path: str, file: WantedFile) -> bool:
        placed = self.files.get(path)
        found = self._see(path)
        if found is None and self._has_room(path):
            return True
        if found is None:
            self._refuse(path, NO_FOLDER)
            return False
        if placed and placed.blake3s == (file.blake3,) and found == (placed.size_bytes, placed.mtime_ns):
            return False
        blake3 = _hash_file(self.folder / path)
        if blake3 == file.blake3:
            self.files[path] = PlacedFile((blake3,), *found)
            return False
        if placed and blake3 in placed.blake3s:
            return True
        self._refuse(path, CHANGED if placed else NOT_OURS)
        return False

    def _has_room(self, path: str) -> bool:
        """Whether all that a path leads through are folders, as far as they are there."""
        parents = [self.folder / parent for parent in PurePosixPath(path).parents]
        return all(parent.is_dir() for parent in parents if os.path.lexists(parent))

    def _is_removable(self, path: str) -> bool:
        if self._see(path) is None:
            self.files.pop(path)
            return False
        if _hash_file(self.folder / path) in self.files[path].blake3s:
            return True
        self._refuse(path, CHANGED_AND_STALE)
        return False

    def _see(self, path: str) -> Stamp | None:
        self.seen[path] = _look(self.folder / path)
        return self.seen[path]

    def _has_changed_since(self, path: str) -> bool:
        """Whether somebody changed a file after it was looked at; then it is refused."""
        if _look(self.folder / path) == self.seen[path]:
            return False
        self._refuse(path, CHANGED)
        return True

    def _refuse(self, path: str, reason: str) -> None:
        self.refusals[path] = reason

    # Changing it

    def _write_all(self, files: Mapping[str, WantedFile]) -> Iterator[str]:
        for batch in _split(files):
            staged = {path: self._stage(number, files[path]) for number, path in enumerate(batch)}
            _flush(self.own)
            for path, new in staged.items():
                if self._has_changed_since(path):
                    new.unlink()
                    continue
                found = _look(new)
                assert found is not None
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                new.replace(self.folder / path)
                self.files[path] = PlacedFile((files[path].blake3,), *found)
                yield path

    def _stage(self, number: int, file: WantedFile) -> Path:
        new = self.own / f"{number}.new"
        if isinstance(file.source, bytes):
            new.write_bytes(file.source)
        else:
            _copy(file.source, new, file.blake3)
        if file.mtime_ns is not None:
            os.utime(new, ns=(file.mtime_ns, file.mtime_ns))
        return new

    def _remove(self, path: str) -> bool:
        """Remove a file, and the folders that are then empty."""
        if self._has_changed_since(path):
            return False
        target = self.folder / path
        target.unlink()
        del self.files[path]
        for parent in target.relative_to(self.folder).parents:
            if parent == Path():
                break
            with contextlib.suppress(OSError):  # something else lies there
                (self.folder / parent).rmdir()
        return True

    def _write_manifest(self, views: Mapping[ViewKey, PlacedView], *, upcoming: Mapping[str, WantedFile]) -> None:
        files = dict(self.files)
        for path, file in upcoming.items():
            earlier = files[path].blake3s if path in files else ()
            files[path] = PlacedFile((file.blake3, *earlier), file.size_bytes, 0)
        content = _encode_manifest(Manifest(files, dict(views)))
        target, new = self.own / MANIFEST_FILE, self.own / "manifest.new"
        if target.exists() and target.read_bytes() == content:
            return
        new.write_bytes(content)
        _flush(self.own)
        new.replace(target)
        _flush(self.own)


def _split(files: Mapping[str, WantedFile]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for path, file in files.items():
        batch.append(path)
        size += file.size_bytes
        if len(batch) == BATCH_FILES or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _look(path: Path) -> Stamp | None:
    """Return size and time of what lies at a path; None if nothing does."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stamp(found.st_size, found.st_mtime_ns)


def _hash_file(path: Path) -> str:
    """Return the hash of a file's bytes; "" for what is no plain file, so that it is nobody's but its owner's."""
    if path.is_symlink() or not path.is_file():
        return ""
    hasher = new_hasher()
    with path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            hasher.update(piece)
    return hasher.hexdigest()


def _copy(source: Path, target: Path, blake3: str) -> None:
    """Copy a file of the store. Raises DocumentCorrupt if its bytes are not those that were recorded."""
    shutil.copyfile(source, target)
    if (found := _hash_file(target)) != blake3:
        raise DocumentCorrupt(
            source.parent.parent.name, source.parent.name, source.name, expected=blake3[:12], found=found[:12]
        )


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem(descriptor)
    finally:
        os.close(descriptor)


# The manifest


def _encode_manifest(manifest: Manifest) -> bytes:
    """Return JSON with a line for each file and each view."""
    files = [f"{_write(path)}: {_write(list(file))}" for path, file in sorted(manifest.files.items())]
    views = [_write(_view_as_json(view)) for view in manifest.views.values()]
    head = f'{{"schema": {MANIFEST_SCHEMA},\n"files": {{\n'
    return (head + ",\n".join(files) + '\n},\n"views": [\n' + ",\n".join(views) + "\n]}\n").encode()


def _write(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _view_as_json(view: PlacedView) -> Json:
    return {**view._asdict(), "entry": view.entry._asdict()}


def _read_manifest(path: Path) -> Manifest:
    """Return what was placed; nothing if this is a new folder."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Manifest({}, {})
    try:
        return _decode_manifest(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputInvalid(
            f"{path} cannot be read: {error}. It says which files were placed here. Remove it and "
            "render again: files that are as they would be written are taken over, others are left alone."
        ) from error


def _decode_manifest(plain: Json) -> Manifest:
    if plain["schema"] != MANIFEST_SCHEMA:
        raise ValueError(f"its schema is {plain['schema']!r}, expected {MANIFEST_SCHEMA}")
    files = {
        _check_path(name): PlacedFile(tuple(map(str, blake3s)), int(size_bytes), int(mtime_ns))
        for name, (blake3s, size_bytes, mtime_ns) in plain["files"].items()
    }
    views = [_read_view(view) for view in plain["views"]]
    return Manifest(files, {view.key: view for view in views})


def _read_view(plain: Json) -> PlacedView:
    entry = IndexEntry(**{**plain["entry"], "models": tuple(plain["entry"]["models"])})
    return PlacedView(**{**plain, "paths": tuple(map(_check_path, plain["paths"])), "entry": entry})


def _check_path(path: str) -> str:
    """Return the path of a placed file. Raises ValueError for one that leads out of the folder."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0] == OWN_FOLDER:
        raise ValueError(f"{path!r} is no path within the folder")
    return path
