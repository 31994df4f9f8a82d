"""Sources: where an import comes from: a file, a ZIP, a folder or standard input, as a list of files."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple, cast

from pipeline.archive.members import Skip


class Entry(NamedTuple):
    """A file of a source. `name` is data and never a path to open; `raw_name` is given where the source has another."""

    name: str
    raw_name: str | None
    size_bytes: int | None  # as the source says, which may be wrong
    open: Callable[[], BinaryIO]


class Source(NamedTuple):
    """The files of a source in order, and what of it is not among them."""

    container: str  # file, zip, folder, stdin
    entries: Sequence[Entry]
    skips: Sequence[Skip]
    size_bytes: int | None


@contextmanager
def open_source(path: str, *, temporary_folder: Path) -> Iterator[Source]:
    """Yield what a path holds; "-" is standard input. Raises OSError."""
    if path == "-":
        temporary_folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=temporary_folder) as folder:
            spooled = Path(folder) / "stdin"
            with spooled.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            yield _list_files("stdin", [("-", spooled)])
    elif Path(path).is_dir():
        files = sorted(each for each in Path(path).rglob("*") if each.is_file())
        yield _list_files("folder", [(str(each.relative_to(path)), each) for each in files])
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            entries = [
                Entry(info.filename, None, info.file_size, partial(_open_member, archive, info)) for info in infos
            ]
            yield Source("zip", entries, [], sum(info.file_size for info in infos))
    else:
        yield _list_files("file", [(Path(path).name, Path(path))])


def _list_files(container: str, files: Sequence[tuple[str, Path]]) -> Source:
    entries = [Entry(name, None, path.stat().st_size, partial(_open_file, path)) for name, path in files]
    return Source(container, entries, [], sum(entry.size_bytes or 0 for entry in entries))


def _open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    return cast(BinaryIO, archive.open(info))
