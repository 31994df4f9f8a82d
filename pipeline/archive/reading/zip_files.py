"""ZIP files of unknown origin. Nothing is extracted: entries are read, one by one, within a budget.

What headers say of sizes is not believed: bytes are counted while they are read, and the budget is one for a source
with all the ZIPs in it. The names of entries are data. Links, devices, encrypted entries, and entries that share
their bytes with others are refused one by one; their neighbours are read.
"""

from __future__ import annotations

import io
import itertools
import operator
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, cast

from pipeline.archive.reading.binaries import HEAD_BYTES, find_mime_type, has_binary_bytes, is_zip
from pipeline.archive.reading.cut_zips import CutZip, FoundFile
from pipeline.archive.reading.entries import (
    DAMAGED_FILE,
    Entry,
    FileRefused,
    clean_name,
    find_common_folder,
    is_system_file,
    show_name,
)
from pipeline.archive.reading.members import Skip

GIB = 1024**3
PIECE_BYTES = 1024 * 1024
OPEN_ARCHIVES = 4  # at a time; of a ZIP within a ZIP that is not among them, the copy is made again
RATIO_FROM_BYTES = 1024 * 1024  # little files may be as regular as they like
DIRECTORY_BYTES = 1024  # of an entry, on the average: the limit of what is read before a single entry is known

_END = struct.Struct("<4s4H2LH")  # the record at a ZIP's end: signature, disks, entries, size and place of the list
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_PLACE = struct.Struct("<4sLQL")
_LONGEST_COMMENT = 0xFFFF
_LOCAL_HEADER_BYTES = 30
_IS_ENCRYPTED, _IS_UTF_8 = 0x1, 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound on what comes at once
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError, ValueError)

CUT_FILE = "truncated", "the ZIP ends within it, and its beginning is imported; get the ZIP anew"
NOTHING_OF_FILE = "truncated", "the ZIP ends within it, and its beginning is of no use; get the ZIP anew"

Open = Callable[[], BinaryIO]


class Budget(NamedTuple):
    """How much of a source is read at most."""

    member_bytes: int = 10 * GIB
    total_bytes: int = 64 * GIB
    ratio: int = 1000  # of a member's bytes to its packed bytes
    entries: int = 100_000
    depth: int = 2  # of ZIPs within ZIPs


TRUNCATED, DAMAGED = "truncated_zip", "damaged_zip"


class ZipUnreadable(Exception):
    """A ZIP that cannot be listed. `reason` is a word of the coverage report."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class Listing(NamedTuple):
    """What a ZIP holds: files to read, files that are refused, and names of files that nobody meant to export."""

    entries: Sequence[Entry]
    skips: Sequence[Skip]
    system_files: Sequence[str]
    why_cut: Skip | None = None  # what is wrong with its list, if that could not be read


class Meter:
    """Counts what is read of a source, against its budget."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._entries = self._bytes = 0

    def count_entries(self, count: int) -> None:
        self._entries += count
        if self._entries > self.budget.entries:
            raise ZipUnreadable("too_many_files", f"with it there are {self._entries}, over {self.budget.entries}")

    def count_bytes(self, count: int, place: str) -> None:
        self._bytes += count
        if self._bytes > self.budget.total_bytes:
            detail = f"with it the files have over {self.budget.total_bytes} bytes together"
            raise FileRefused(place, reason="source_too_large", detail=detail)


class ZipReader:
    """Lists and reads the ZIPs of one source."""

    def __init__(self, meter: Meter, *, temporary_folder: Path) -> None:
        self._meter, self._temporary_folder = meter, temporary_folder
        self._open: OrderedDict[str, tuple[BinaryIO, zipfile.ZipFile | CutZip]] = OrderedDict()

    def list_entries(self, open_zip: Open, *, place: str, folder: str = "") -> Listing:
        """Return what a ZIP holds, by its names below `folder`. `place` is its own. Raises ZipUnreadable."""
        try:
            archive = self._open_listed(open_zip, place)
        except _DAMAGE as error:
            raise ZipUnreadable(DAMAGED, f"its list of files cannot be read ({type(error).__name__})") from None
        infos = [info for info in archive.infolist() if not _is_folder(info)]
        self._meter.count_entries(len(infos))
        shared = _find_shared(infos, archive.start_dir)
        budget = self._meter.budget
        listed = [
            _Listed(
                info,
                partial(self._open_member, open_zip, place, info),
                _find_refusal(info, budget, is_shared=id(info) in shared),
            )
            for info in infos
        ]
        return _make_listing(listed, folder)

    def list_cut_entries(self, open_zip: Open, *, place: str, folder: str = "", why: ZipUnreadable) -> Listing:
        """Return what can be found in a ZIP that has no list of its files, and what that is not. Raises ZipUnreadable.

        The file that is cut is there with what the ZIP has of it, if that is text: an image that is cut is none.
        """
        archive = self._open_cut(open_zip, place)
        budget, meter = self._meter.budget, Meter(self._meter.budget)
        listed, listed_bytes = [], 0
        for found in archive.walk(lambda file: cast(BinaryIO, MeasuredFile(file, meter, place))):
            self._meter.count_entries(1)
            listed_bytes += found.data_at - found.info.header_offset
            if listed_bytes > budget.entries * DIRECTORY_BYTES:
                raise ZipUnreadable("too_many_files", "what it says of its files is too long to be read")
            if not _is_folder(found.info):
                refusal = found.refusal or _find_refusal(found.info, budget, is_shared=False)
                open_member = partial(self._open_found, open_zip, place, found)
                listed.append(_Listed(found.info, open_member, refusal, is_cut=found.next_at is None))
        rest = "its list is behind them" if archive.has_reached_list else "what is behind them is unknown"
        found_files = f"{len(listed)} of its files could be found without it, and {rest}"
        why_cut = Skip(why.reason, place, f"{why.detail}; {found_files}; get it anew")
        return _make_listing(listed, folder)._replace(why_cut=why_cut)

    def copy(self, open_file: Open) -> BinaryIO:
        """Return a copy of a file that can be read at any place. It is gone when it is closed."""
        with ExitStack() as stack:
            copy = stack.enter_context(TemporaryFile(dir=self._temporary_folder))
            with open_file() as file:
                shutil.copyfileobj(file, copy, PIECE_BYTES)
            copy.seek(0)
            stack.pop_all()  # the caller closes it
            return cast(BinaryIO, copy)

    def close(self) -> None:
        while self._open:
            self._close_oldest()

    def _open_member(
        self, open_zip: Open, zip_place: str, info: zipfile.ZipInfo, place: str, count: _Count
    ) -> BinaryIO:
        with _refusing(place):
            file = self._open_listed(open_zip, zip_place).open(info)
        return cast(BinaryIO, MeasuredFile(cast(BinaryIO, file), self._meter, place, count, info.compress_size))

    def _open_found(self, open_zip: Open, zip_place: str, found: FoundFile, place: str, count: _Count) -> BinaryIO:
        file = self._open_cut(open_zip, zip_place).open(found)
        return cast(BinaryIO, MeasuredFile(file, self._meter, place, count, found.info.compress_size))

    def _open_listed(self, open_zip: Open, place: str) -> zipfile.ZipFile:
        def read_list(file: BinaryIO) -> zipfile.ZipFile:
            _check_end(file, self._meter.budget)
            return zipfile.ZipFile(file)

        return cast(zipfile.ZipFile, self._hold(open_zip, place, read_list))

    def _open_cut(self, open_zip: Open, place: str) -> CutZip:
        return cast(CutZip, self._hold(open_zip, place, CutZip))

    def _hold(
        self, open_zip: Open, place: str, begin: Callable[[BinaryIO], zipfile.ZipFile | CutZip]
    ) -> zipfile.ZipFile | CutZip:
        if place in self._open:
            self._open.move_to_end(place)
            return self._open[place][1]
        file = open_zip()
        try:
            archive = begin(file)
        except BaseException:
            file.close()
            raise
        self._open[place] = file, archive
        if len(self._open) > OPEN_ARCHIVES:
            self._close_oldest()
        return archive

    def _close_oldest(self) -> None:
        _, (file, archive) = self._open.popitem(last=False)
        archive.close()
        file.close()


class _Count:
    """How many bytes of a file have been counted: opened again, it is not counted again."""

    bytes = 0


class _Listed(NamedTuple):
    """A file of a ZIP, before it has its name. `open_member` is given that, and a count."""

    info: zipfile.ZipInfo
    open_member: Callable[[str, _Count], BinaryIO]
    refusal: tuple[str, str] | None  # reason and detail
    is_cut: bool = False


class MeasuredFile(io.RawIOBase):
    """A file whose bytes count against the budget of its source while they are read."""

    def __init__(
        self, file: BinaryIO, meter: Meter, place: str, count: _Count | None = None, packed_bytes: int | None = None
    ) -> None:
        self._file, self._meter, self._place, self._packed_bytes = file, meter, place, packed_bytes
        self._count = count or _Count()
        self._position = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes. Raises FileRefused at a limit, and where the file is damaged."""
        if size is None or size < 0:
            return b"".join(iter(partial(self.read, PIECE_BYTES), b""))
        with _refusing(self._place):
            data = self._file.read(size)
        self._position += len(data)
        self._check()
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _check(self) -> None:
        budget, position = self._meter.budget, self._position
        if position > budget.member_bytes:
            raise FileRefused(self._place, reason="file_too_large", detail=f"it has over {budget.member_bytes} bytes")
        if self._packed_bytes is not None and position > max(RATIO_FROM_BYTES, budget.ratio * self._packed_bytes):
            detail = f"it unpacks to over {budget.ratio} times its packed bytes"
            raise FileRefused(self._place, reason="packed_too_tightly", detail=detail)
        if position > self._count.bytes:
            self._meter.count_bytes(position - self._count.bytes, self._place)
            self._count.bytes = position


@contextmanager
def _refusing(place: str) -> Iterator[None]:
    """Turn what is wrong with a ZIP's entry into FileRefused."""
    try:
        yield
    except _DAMAGE as error:
        detail = f"its bytes in the ZIP are not as the ZIP says ({type(error).__name__})"
        raise FileRefused(place, reason=DAMAGED_FILE, detail=detail) from None


def _make_listing(files: Sequence[_Listed], folder: str) -> Listing:
    names = [clean_name(_read_name(file.info)) for file in files]
    is_system = [is_system_file(name) for name in names]
    common = find_common_folder(list(itertools.compress(names, map(operator.not_, is_system))))
    entries, skips, system_files = [], [], []
    for file, full_name, is_left_out in zip(files, names, is_system, strict=True):
        name = full_name.removeprefix(common)
        open_member = partial(file.open_member, folder + name, _Count())
        refusal = file.refusal or (_look_at_cut(open_member) if file.is_cut else None)
        if is_left_out:
            system_files.append(folder + name)
            continue
        if refusal:
            skips.append(Skip(refusal[0], folder + name, refusal[1]))
        if not refusal or refusal == CUT_FILE:
            raw_name = show_name(_read_name(file.info))
            raw_name_if_odd = raw_name if raw_name != name else None
            size_bytes = None if file.is_cut else file.info.file_size
            entries.append(Entry(folder + name, raw_name_if_odd, size_bytes, open_member))
    return Listing(entries, skips, system_files)


def _look_at_cut(open_member: Open) -> tuple[str, str]:
    """Return what to say of a file that is cut: CUT_FILE if what is there of it is of use."""
    try:
        with open_member() as file:
            head = file.read(HEAD_BYTES)
    except FileRefused as error:
        return error.reason, error.detail
    is_text = not (find_mime_type(head) or has_binary_bytes(head))
    return CUT_FILE if head and (is_text or is_zip(head)) else NOTHING_OF_FILE


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return not info.file_size and info.orig_filename.endswith("/")


def _read_name(info: zipfile.ZipInfo) -> str:
    """Return the name as the ZIP has it: marked as UTF-8, or being it, or else in the code page of old ZIPs."""
    if info.flag_bits & _IS_UTF_8 or info.orig_filename.isascii():
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode()
    except UnicodeError:
        return info.orig_filename


def _find_shared(infos: Sequence[zipfile.ZipInfo], end: int) -> set[int]:
    """Return the ids of infos whose packed bytes reach into those of the next: a bomb lists few bytes many times."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    shared: set[int] = set()
    for info, following in itertools.pairwise([*ordered, None]):
        next_offset = following.header_offset if following else end
        if info and info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > next_offset:
            shared |= {id(info), id(following)}
    return shared


def _find_refusal(info: zipfile.ZipInfo, budget: Budget, *, is_shared: bool) -> tuple[str, str] | None:
    """Return (reason, detail) if an entry is not to be read."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "link", "it is a link, and links are not followed"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "special_file", "it is a device or the like, and no file"
    if info.flag_bits & _IS_ENCRYPTED:
        return "encrypted", "it needs a password; unpack it, and import the folder"
    if info.header_offset < 0:
        return "damaged", "the ZIP says that it begins before the ZIP does"
    if is_shared:
        return "overlapping", "it shares its bytes with another file of the ZIP"
    if info.compress_type not in _METHODS:
        return "unknown_packing", f"it is packed by method {info.compress_type}; unpack it, and import the folder"
    if info.file_size > budget.member_bytes:
        return "file_too_large", f"it has {info.file_size} bytes, over {budget.member_bytes}"
    return None


def _check_end(file: BinaryIO, budget: Budget) -> None:
    """See that a ZIP is whole, and that its list of files is one to be read. Raises ZipUnreadable."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise ZipUnreadable(TRUNCATED, "the list of its files, which is at the end, is missing")
    end_at = max(0, size_bytes - len(tail)) + at
    _, disk, first_disk, _, entries, list_bytes, list_at, _ = _END.unpack_from(tail, at)
    place_at = at - _END_64_PLACE.size
    if place_at >= 0 and tail[place_at:at].startswith(b"PK\6\7"):
        end_at = min(size_bytes, _END_64_PLACE.unpack_from(tail, place_at)[2])
        file.seek(end_at)
        record = file.read(_END_64.size)
        if len(record) == _END_64.size:
            _, _, _, _, disk, first_disk, _, entries, list_bytes, list_at = _END_64.unpack(record)
    if disk or first_disk:
        raise ZipUnreadable("split_zip", "it is one part of several; put them together, and import the whole")
    if entries > budget.entries or list_bytes > budget.entries * DIRECTORY_BYTES:
        raise ZipUnreadable("too_many_files", f"it lists {entries} files; {budget.entries} is the most")
    file.seek(0)
    if list_at + list_bytes < end_at and file.read(4) == b"PK\3\4":
        raise ZipUnreadable(TRUNCATED, "the list at its end is that of a ZIP within it, and its own is missing")
    file.seek(0)
