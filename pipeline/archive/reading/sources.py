"""Sources: where an import comes from: a file, a ZIP, a folder or standard input, as a list of files.

A ZIP within a ZIP or folder is listed as the file that it is, and then what is in it, below its name as if it were a
folder. Links are not followed. What an operating system or a tool put there is left out, and counted.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from pipeline.archive.reading.binaries import is_zip
from pipeline.archive.reading.entries import Entry, FileRefused, clean_name, is_system_file, is_tool_folder, show_name
from pipeline.archive.reading.members import Skip
from pipeline.archive.reading.zip_files import (
    DAMAGED,
    TRUNCATED,
    Budget,
    Listing,
    MeasuredFile,
    Meter,
    Open,
    ZipReader,
    ZipUnreadable,
)
from pipeline.errors import InputInvalid

STDIN = "-"
SMALLEST_ZIP_BYTES = 22
WHOLE_ZIP_BYTES = 64 * 1024 * 1024  # a bigger ZIP within a folder or ZIP is no attachment: only what is in it is listed

# A ZIP that holds one of these is a document or a program, and not a ZIP to the person who made it.
_DOCUMENT_SIGNS = {"[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"}


class Source(NamedTuple):
    """The files of an import. `skips`: what it has besides. `size_bytes`: of all files, as far as it is known."""

    container: str  # file, zip, folder, stdin
    entries: Sequence[Entry]
    skips: Sequence[Skip]
    size_bytes: int | None


@contextmanager
def open_source(path: str, *, temporary_folder: Path, budget: Budget | None = None) -> Iterator[Source]:
    """Open a path, or "-" for standard input; its entries can be read until this is left. Raises InputInvalid."""
    meter = Meter(budget or Budget())
    temporary_folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(ZipReader(meter, temporary_folder=temporary_folder)))
        yield _Gathering(reader, meter, stack).gather(path)


class _Gathering:
    """Gathers the files of one source."""

    def __init__(self, reader: ZipReader, meter: Meter, stack: ExitStack) -> None:
        self._reader, self._meter, self._stack = reader, meter, stack
        self._entries: list[Entry] = []
        self._skips: list[Skip] = []
        self._notes: dict[str, list[str]] = {}

    def gather(self, path: str) -> Source:
        if path == STDIN:
            container = "stdin"
            self._add_container(self._hold_standard_input())
        elif Path(path).is_dir():
            container = "folder"
            self._add_folder(Path(path))
        elif Path(path).is_file():
            found = self._add_container(_enter_file(Path(path), Path(path).name))
            container = "zip" if found else "file"
        else:
            raise InputInvalid(
                f"There is no file or folder {path!r}. Expected an export: a file, a ZIP, a folder, or -."
            )
        self._note_duplicates()
        return Source(container, self._entries, [*self._skips, *self._list_notes()], _add_sizes(self._entries))

    def _hold_standard_input(self) -> Entry:
        measured = cast(BinaryIO, MeasuredFile(sys.stdin.buffer, self._meter, STDIN))
        copy = self._stack.enter_context(self._reader.copy(lambda: measured))
        return Entry(STDIN, None, copy.seek(0, os.SEEK_END), lambda: cast(BinaryIO, _Rewound(copy)))

    def _add_container(self, entry: Entry) -> bool:
        """Add what is in a file if it is a ZIP, else the file; tell whether it is a ZIP."""
        listing = self._list_zip(entry, entry.open, folder="") if _looks_like_zip(entry) else None
        is_kept = listing is None or listing.why_cut is not None
        if is_kept:
            self._entries.append(entry)
        if listing:
            self._add_listing(listing, depth=1, within=None if is_kept else entry)
        return listing is not None

    def _add_listing(self, listing: Listing, *, depth: int, within: Entry | None) -> None:
        self._skips += listing.skips
        self._notes.setdefault("system_file", []).extend(listing.system_files)
        for entry in listing.entries:
            self._add(entry._replace(within=within), partial(self._reader.copy, entry.open), depth=depth)

    def _add(self, entry: Entry, open_zip: Open, *, depth: int) -> None:
        """Add a file, and what is in it if it is a ZIP. `depth`: in how many ZIPs it is."""
        if not _looks_like_zip(entry):
            self._entries.append(entry)
            return
        if depth > self._meter.budget.depth:
            self._entries.append(entry)
            self._skips.append(
                Skip("nested_too_deep", entry.name, f"it is a ZIP within {depth} others; not looked into")
            )
            return
        listing = self._list_zip(entry, open_zip, folder=entry.name + "/")
        is_kept = listing is None or listing.why_cut is not None or (entry.size_bytes or 0) <= WHOLE_ZIP_BYTES
        if is_kept:
            self._entries.append(entry)
        if listing:
            self._add_listing(listing, depth=depth + 1, within=None if is_kept else entry)

    def _list_zip(self, entry: Entry, open_zip: Open, *, folder: str) -> Listing | None:
        """Return what a ZIP holds; None if it is to be taken as the file that it is."""
        try:
            listing = self._read_list(entry, open_zip, folder)
        except (ZipUnreadable, FileRefused) as error:
            self._skips.append(Skip(error.reason, entry.name, error.detail))
            return None
        if listing.why_cut:
            self._skips.append(listing.why_cut)
        names = {inner.name.removeprefix(folder) for inner in listing.entries}
        return None if names & _DOCUMENT_SIGNS else listing

    def _read_list(self, entry: Entry, open_zip: Open, folder: str) -> Listing:
        try:
            return self._reader.list_entries(open_zip, place=entry.name, folder=folder)
        except ZipUnreadable as error:
            if error.reason not in (TRUNCATED, DAMAGED):
                raise
            return self._reader.list_cut_entries(open_zip, place=entry.name, folder=folder, why=error)

    def _add_folder(self, root: Path) -> None:
        for path, name in self._walk(root):
            if is_system_file(name):
                self._notes.setdefault("system_file", []).append(name)
            else:
                entry = _enter_file(path, name)
                self._add(entry, entry.open, depth=0)

    def _walk(self, root: Path) -> Iterator[tuple[Path, str]]:
        """Yield the files below a folder, in the order of their names."""
        for folder, folders, files in os.walk(root, onerror=self._note_unreadable):
            relative = Path(folder).relative_to(root)
            kept = [name for name in sorted(folders) if not self._is_left_out(Path(folder, name), relative / name)]
            folders[:] = kept
            for name in sorted(files):
                if not self._is_left_out(Path(folder, name), relative / name):
                    yield Path(folder, name), (relative / name).as_posix()

    def _is_left_out(self, path: Path, relative: Path) -> bool:
        """Whether a file or folder is a link, a tool's own, or none at all; tells so."""
        mode = path.lstat().st_mode
        place = clean_name(relative.as_posix())
        if stat.S_ISDIR(mode) and is_tool_folder(path.name):
            self._notes.setdefault("tool_folder", []).append(place)
        elif stat.S_ISLNK(mode):
            self._skips.append(Skip("link", place, "it is a link, and links are not followed"))
        elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            self._skips.append(Skip("special_file", place, "it is a device or the like, and no file"))
        else:
            return False
        return True

    def _note_unreadable(self, error: OSError) -> None:
        self._skips.append(Skip("unreadable_folder", clean_name(Path(error.filename).name), type(error).__name__))

    def _note_duplicates(self) -> None:
        counts = Counter(entry.name for entry in self._entries)
        self._notes["duplicate_name"] = [name for name, count in counts.items() if count > 1]

    def _list_notes(self) -> Iterator[Skip]:
        for reason, names in self._notes.items():
            if names:
                more = f"and {len(names) - 1} more" if len(names) > 1 else ""
                yield Skip(reason, names[0], more, is_info=True)


class _Rewound(io.RawIOBase):
    """A file from its beginning, beside others that read the same one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = self._position if whence == os.SEEK_CUR else 0
        self._position = self._file.seek(0, os.SEEK_END) + offset if whence == os.SEEK_END else start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        self._file.seek(self._position)
        data = self._file.read(-1 if size is None else size)
        self._position += len(data)
        return data


def _enter_file(path: Path, raw: str) -> Entry:
    name = clean_name(raw)
    return Entry(name, None if name == raw else show_name(raw), path.stat().st_size, partial(_open_file, path))


def _open_file(path: Path) -> BinaryIO:
    return open(path, "rb")


def _looks_like_zip(entry: Entry) -> bool:
    if entry.size_bytes is not None and entry.size_bytes < SMALLEST_ZIP_BYTES:
        return False
    try:
        with entry.open() as file:
            return is_zip(file.read(SMALLEST_ZIP_BYTES))
    except (FileRefused, OSError):  # is told when it is read
        return False


def _add_sizes(entries: Sequence[Entry]) -> int | None:
    sizes = [entry.size_bytes for entry in entries if entry.size_bytes is not None]
    return sum(sizes) if len(sizes) == len(entries) else None
