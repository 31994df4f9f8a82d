"""The file of a bundle: a tar archive, compressed or not, that any tar program can unpack.

    MANIFEST.jsonl      first: one line about the bundle, then one for each member, in their order: path, size, hash
    …                   the members, each with the header that its line of the manifest gives, and no other

Nothing of a header is interpreted on reading. It is compared with the one that this module would have written for
the manifest's next line, so a link, a device, another path, a lying size, a duplicate or an extra member is the same
mistake: it differs. How many bytes are read at most is known before they are: the manifest has a limit, and the
members have the sizes that it says. The hash of the manifest is the name of the bundle and vouches for all its bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.errors import BundleInvalid, InputInvalid
from store.durable import NewFile, place_new_file
from store.files import read_file
from store.identity import hash_bytes

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd  # the same module, for earlier Pythons

MANIFEST = "MANIFEST.jsonl"
BUNDLE_SCHEMA = 1
MANIFEST_LIMIT = 256 * 2**20  # bytes: about 1,500,000 members
LINE_LIMIT = 4096  # bytes of a member's line
MEMBER_LIMIT = 2**30  # bytes; a document is held in memory while it is written
BLOCK = 512  # bytes, of tar
END = bytes(2 * BLOCK)
MODE = 0o444
WINDOW_LOG_MAX = 27  # a frame may ask for 128 MB of memory at most
SUFFIXES = (".tar.zst", ".tar.gz", ".tar")
ZSTD_MAGIC, GZIP_MAGIC = b"\x28\xb5\x2f\xfd", b"\x1f\x8b"
BROKEN = (EOFError, OSError, zlib.error, zstd.ZstdError)

Json = dict[str, Any]


class Member(NamedTuple):
    """A file of a bundle, as the manifest has it."""

    path: str
    size_bytes: int
    blake3: str


class Manifest(NamedTuple):
    """What a bundle says that it holds. `bundle_id` is the hash of the manifest's bytes."""

    about: Json
    members: list[Member]
    bundle_id: str
    content: bytes

    @property
    def size_bytes(self) -> int:
        """The bytes of all members."""
        return sum(member.size_bytes for member in self.members)


def make_manifest(about: Json, members: Iterable[Member]) -> Manifest:
    """Return the manifest of members in the order in which they are to be written."""
    listed = list(members)
    lines: list[Json] = [{**about, "schema": BUNDLE_SCHEMA, "members": len(listed)}]
    lines += [member._asdict() for member in listed]
    content = b"".join(json.dumps(line, sort_keys=True, separators=(",", ":")).encode() + b"\n" for line in lines)
    return Manifest(lines[0], listed, hash_bytes(content), content)


# Writing


def check_output(path: Path) -> None:
    """Raise InputInvalid unless a bundle can be written to `path`."""
    if not path.name.endswith(SUFFIXES) or path.name in SUFFIXES:
        raise InputInvalid(f"{path.name!r} has no suffix of a bundle. Expected one of {', '.join(SUFFIXES)}.")
    if path.exists():
        raise InputInvalid(f"{path} exists already. Name another file, or move it away.")


def write_archive(path: Path, manifest: Manifest, file_of: Callable[[Member], Path]) -> int:
    """Write a bundle durably and return its bytes; equal members give equal bytes.

    Raises InputInvalid if `path` exists, or if a file is no longer as the manifest says.
    """
    check_output(path)
    try:
        with place_new_file(path) as file:
            with _compress(path, file) as stream:
                _write_member(stream, MANIFEST, manifest.content)
                for member in manifest.members:
                    content = read_file(file_of(member))
                    if (len(content), hash_bytes(content)) != (member.size_bytes, member.blake3):
                        raise InputInvalid(f"{file_of(member)} changed while it was exported. Export again.")
                    _write_member(stream, member.path, content)
                stream.write(END)
            return file.size_bytes
    except FileExistsError as error:
        raise InputInvalid(f"{path} exists already. Name another file, or move it away.") from error


class _Sink:
    """What a compressor writes to."""

    def __init__(self, file: NewFile) -> None:
        self._file = file

    def write(self, content: bytes) -> int:
        self._file.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""


@contextmanager
def _compress(path: Path, file: NewFile) -> Iterator[Any]:
    sink: Any = _Sink(file)
    if path.name.endswith(".tar.zst"):
        with zstd.ZstdFile(sink, "wb") as stream:
            yield stream
    elif path.name.endswith(".tar.gz"):
        with gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0) as stream:
            yield stream
    else:
        yield sink


def _write_member(stream: Any, path: str, content: bytes) -> None:
    stream.write(encode_header(path, len(content)))
    stream.write(content)
    stream.write(bytes(-len(content) % BLOCK))


def encode_header(path: str, size_bytes: int) -> bytes:
    """Return the one header that a member of a bundle may have: a plain file. Raises ValueError for too long a path."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = size_bytes, MODE
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


# Reading


class Archive:
    """A bundle that is open for reading; it can be read several times over and is the same file each time."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, file

    @contextmanager
    def read(self) -> Iterator[tuple[Manifest, Iterator[tuple[Member, bytes]]]]:
        """Yield the manifest and, once, each member with its bytes, their hash checked. Raises BundleInvalid."""
        self._file.seek(0)
        try:
            with self._decompress() as stream:
                manifest = self._read_manifest(stream)
                yield manifest, self._read_members(stream, manifest)
        except BROKEN as error:
            raise BundleInvalid(self.path, problem=f"it cannot be read to its end: {error}") from error

    @contextmanager
    def _decompress(self) -> Iterator[IO[bytes]]:
        magic = self._file.read(len(ZSTD_MAGIC))
        self._file.seek(0)
        if magic == ZSTD_MAGIC:
            options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
            with zstd.ZstdFile(self._file, "rb", options=options) as unpacked:
                yield unpacked  # type: ignore[misc]  # it reads as a file does
        elif magic.startswith(GZIP_MAGIC):
            with gzip.GzipFile(fileobj=self._file, mode="rb") as unzipped:
                yield unzipped  # type: ignore[misc]  # it reads as a file does
        else:
            yield self._file

    def _read_manifest(self, stream: IO[bytes]) -> Manifest:
        header = self._take(stream, BLOCK)
        size = _read_size(header)
        if size is None or size > MANIFEST_LIMIT or header != encode_header(MANIFEST, size):
            raise BundleInvalid(
                self.path, problem=f"it does not begin with a {MANIFEST} of at most {MANIFEST_LIMIT} bytes"
            )
        content = self._take_padded(stream, size)
        try:
            about, *members = [_read_line(line) for line in content.splitlines()]
            if about.get("schema") != BUNDLE_SCHEMA:
                problem = f"its schema is {about.get('schema')!r}; this version reads schema {BUNDLE_SCHEMA}"
                raise BundleInvalid(self.path, problem=problem)
            manifest = Manifest(about, [_read_member(line) for line in members], hash_bytes(content), content)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BundleInvalid(self.path, problem=f"{MANIFEST} cannot be read: {error}") from error
        if about.get("members") != len(manifest.members):
            raise BundleInvalid(self.path, problem=f"{MANIFEST} is cut: it lists {len(manifest.members)} members")
        return manifest

    def _read_members(self, stream: IO[bytes], manifest: Manifest) -> Iterator[tuple[Member, bytes]]:
        for member in manifest.members:
            if self._take(stream, BLOCK) != encode_header(member.path, member.size_bytes):
                problem = f"where {MANIFEST} has {member.path} there is something else"
                raise BundleInvalid(self.path, problem=problem)
            content = self._take_padded(stream, member.size_bytes)
            if hash_bytes(content) != member.blake3:
                raise BundleInvalid(self.path, problem=f"{member.path} does not match its hash")
            yield member, content
        if self._take(stream, len(END)) != END or stream.read(1):
            raise BundleInvalid(self.path, problem=f"it holds more than {MANIFEST} lists")

    def _take_padded(self, stream: IO[bytes], size_bytes: int) -> bytes:
        content = self._take(stream, size_bytes)
        if any(self._take(stream, -size_bytes % BLOCK)):
            raise BundleInvalid(self.path, problem="there are bytes between two members")
        return content

    def _take(self, stream: IO[bytes], size_bytes: int) -> bytes:
        content = bytearray()
        while len(content) < size_bytes:
            more = stream.read(min(size_bytes - len(content), 2**20))  # memory for what is there, not for what is said
            if not more:
                raise BundleInvalid(self.path, problem="it ends in the middle")
            content += more
        return bytes(content)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a bundle. Raises InputInvalid if there is no such file."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise InputInvalid(
                f"{path} cannot be opened: {error.strerror}. Expected what daybook export wrote."
            ) from error
        yield Archive(path, file)


def _read_size(header: bytes) -> int | None:
    digits = header[124:135]  # where tar has a member's size, in octal
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else None


def _read_line(line: bytes) -> Json:
    if len(line) > LINE_LIMIT:
        raise ValueError(f"a line has more than {LINE_LIMIT} bytes")
    value = json.loads(line)
    if not isinstance(value, dict):
        raise TypeError("a line is no object")
    return value


def _read_member(line: Json) -> Member:
    member = Member(**line)
    if not isinstance(member.path, str) or not isinstance(member.blake3, str):
        raise TypeError(f"{line} names no member")
    if type(member.size_bytes) is not int or not 0 <= member.size_bytes <= MEMBER_LIMIT:
        raise ValueError(f"{member.path!r} has a size of {member.size_bytes!r}; expected at most {MEMBER_LIMIT} bytes")
    encode_header(member.path, member.size_bytes)  # raises ValueError for a path that no header holds
    return member
