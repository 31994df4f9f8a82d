"""The folder that downloads go to: whole files under their names, and what is known of each.

    DIR/<name>              whole and durable files only; none is ever replaced
    DIR/.fetched.jsonl      a line for each file: where it came from, its size and hash; later lines win
    DIR/.parts/<key>.part   what has come so far, with <key>.json: which version of the file it is of

A part belongs to an address and to one version of what is there (ETag or Last-Modified): another version never goes on
where the first one stopped.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pipeline.errors import InputInvalid
from store.durable import create_folder, place_written_file
from store.errors import WriteFailed
from store.identity import hash_bytes, new_hasher

LOG_FILE, PARTS_FOLDER = ".fetched.jsonl", ".parts"
LONGEST_NAME = 180  # bytes; leaves room for the hash that tells two files of one name apart
PIECE_BYTES = 1 << 20

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)


class Fetched(NamedTuple):
    """What the log says of a file."""

    url: str
    name: str
    size_bytes: int
    blake3: str
    etag: str | None = None
    last_modified: str | None = None
    digest: str | None = None  # that the list gave, and that was right


class Version(NamedTuple):
    """Which version of an address's content a part is of."""

    etag: str | None = None
    last_modified: str | None = None

    @property
    def condition(self) -> str | None:
        """What If-Range may hold: a strong ETag, or a date; None if the version cannot be told from another."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class Part:
    """A file on its way. `version` is None for one that has not begun."""

    def __init__(self, folder: Path, url: str) -> None:
        key = hash_bytes(url.encode())[:32]
        self.path = folder / f"{key}.part"
        self._version_path = folder / f"{key}.json"

    @property
    def size_bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read_version(self) -> Version | None:
        """Return the version that the part is of; None if that is not known, and it has to begin again."""
        try:
            found = json.loads(self._version_path.read_bytes())
            return Version(found["etag"], found["last_modified"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, version: Version) -> None:
        """Drop what is there, and note of which version the bytes to come are."""
        self.drop()
        self._version_path.write_text(json.dumps(version._asdict()))

    def drop(self) -> None:
        """Begin from nothing: the version goes first, without which the bytes mean nothing."""
        self._version_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def open(self) -> PartFile:
        return PartFile(self.path)


class PartFile:
    """A part that is being appended to."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def append(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            raise WriteFailed(Path(self._file.name), problem=error.strerror or str(error)) from error


class DownloadFolder:
    """A folder of downloads, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts = path / PARTS_FOLDER
        create_folder(self._parts)
        self.known = self._read_log()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes of this machine away until the block ends. Raises InputInvalid if one is at work."""
        descriptor = os.open(self._parts, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise InputInvalid(f"Another process fetches into {self.path}. Wait for its end, or use --out.") from error
        finally:
            os.close(descriptor)

    def part_of(self, url: str) -> Part:
        return Part(self._parts, url)

    def find(self, url: str) -> Fetched | None:
        """Return what is known of an address, if its file is there with its size."""
        known = self.known.get(url)
        if known is None:
            return None
        with suppress(OSError):
            if (self.path / known.name).stat().st_size == known.size_bytes:
                return known
        return None

    def place(self, part: Part, url: str, name: str, version: Version, digest: str | None) -> Fetched:
        """Give a whole part its name, durably. A name that other bytes have gets a piece of this one's hash."""
        hashed, size = hash_file(part.path, "blake3"), part.size_bytes
        for candidate in (name, add_to_name(name, hashed[:8]), add_to_name(name, hashed)):
            target = self.path / candidate
            if place_written_file(part.path, target):
                break
            if target.is_file() and target.stat().st_size == size and hash_file(target, "blake3") == hashed:
                break  # the same bytes are there already
        else:
            problem = "every name for this download is taken by other bytes; move them away, or use --out"
            raise WriteFailed(self.path / name, problem=problem)
        part.drop()
        fetched = Fetched(url, candidate, size, hashed, version.etag, version.last_modified, digest)
        self._append_log(fetched)
        return fetched

    def _append_log(self, fetched: Fetched) -> None:
        line = json.dumps(fetched._asdict(), ensure_ascii=False).encode() + b"\n"
        descriptor = os.open(self.path / LOG_FILE, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            if _is_cut(descriptor):
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, "the disk took a part of the line")
            os.fsync(descriptor)
        except OSError as error:
            raise WriteFailed(self.path / LOG_FILE, problem=error.strerror or str(error)) from error
        finally:
            os.close(descriptor)
        self.known[fetched.url] = fetched

    def _read_log(self) -> dict[str, Fetched]:
        """Read the log. A line that a crash cut short is of a file that will be looked at again."""
        known: dict[str, Fetched] = {}
        try:
            lines = (self.path / LOG_FILE).read_bytes().split(b"\n")
        except FileNotFoundError:
            return known
        for line in lines:
            with suppress(ValueError, TypeError):
                fetched = Fetched(**json.loads(line))
                known[fetched.url] = fetched
        return known


def _is_cut(log: int) -> bool:
    """Whether the last line of a log has no end, since a crash or a full disk has cut it."""
    size_bytes = os.fstat(log).st_size
    return size_bytes > 0 and os.pread(log, 1, size_bytes - 1) != b"\n"


def hash_file(path: Path, kind: str) -> str:
    """Return the hex digest of a file: blake3, sha256 or md5."""
    hasher: Any = new_hasher() if kind == "blake3" else hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hasher.update(piece)
    return str(hasher.hexdigest())


def find_name(wanted: str | None, disposition: str | None, url: str) -> str:
    """Return the name for a download: as the list says, else as the server does, else from the address."""
    from email.message import Message  # knows the forms of RFC 6266 and RFC 2231

    named = None
    if disposition and not wanted:
        header = Message()
        header["content-disposition"] = disposition
        named = header.get_filename()
    return make_safe_name(wanted or named or unquote(urlsplit(url).path.rsplit("/", 1)[-1]))


def make_safe_name(name: str) -> str:
    """Return a name that is one file in one folder on every system. "../a b?.zip" -> "a b_.zip"."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    safe = _UNSAFE.sub("_", last).strip(" .")
    if _RESERVED.match(safe):
        safe = f"_{safe}"
    stem, dot, suffix = safe.rpartition(".")
    if len(safe.encode()) > LONGEST_NAME:
        kept = (f".{suffix}" if dot and len(suffix) <= 16 else "").encode()
        safe = (stem or safe).encode()[: LONGEST_NAME - len(kept)].decode(errors="ignore") + kept.decode()
    return safe or "download"


def add_to_name(name: str, mark: str) -> str:
    """Return "export-1f2e3d4c.zip" for "export.zip"."""
    stem, _dot, suffix = name.rpartition(".")
    return f"{stem}-{mark}.{suffix}" if stem else f"{name}-{mark}"
