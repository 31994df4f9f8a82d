"""ZIPs whose list of files is missing or damaged: read from the start, by the header in front of each file.

A ZIP has its list at the end, so a download that stopped has none. In front of each file there is a header too, with
its name and, mostly, its size; where the size was not known yet (flag 0x8), it stands behind the file. A packed file
says itself where it ends; one that is not packed ends in front of a record that has its size. Where no header
follows, the walk ends: what looks like one behind damage may belong to a ZIP within a file.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

from pipeline.archive.reading.entries import FileRefused

PIECE_BYTES = 64 * 1024

_HEADER = struct.Struct("<4s5H3L2H")  # signature, version, flags, method, time, date, CRC, two sizes, two lengths
_FILE, _BEHIND, _LISTS = b"PK\3\4", b"PK\7\b", (b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\b")
_IS_ENCRYPTED, _IS_SIZED_BEHIND, _IS_UTF_8 = 0x1, 0x8, 0x800
_SIZE_IN_FIELD, _SIZE_FIELD = 0xFFFFFFFF, 1  # of a ZIP with 64 bits
_BEHIND_FORMS = (struct.Struct("<3L"), struct.Struct("<L2Q"))  # CRC, packed size, size; a signature may be in front
_LONGEST_BEHIND = 24
_BEHIND_AND_NEXT = _LONGEST_BEHIND + 4  # with the signature of what follows
_CUT_BEHIND = re.compile(rb"P(?:K(?:\x07(?:\x08.{0,19})?)?)?\Z", re.DOTALL)

Measure = Callable[[BinaryIO], BinaryIO]


class FoundFile(NamedTuple):
    """A file of a ZIP without a list."""

    info: zipfile.ZipInfo  # compress_size: of what is there of it
    data_at: int
    next_at: int | None  # where the next one should begin; None: the ZIP ends within this one, or its end is not found
    crc: int | None = None  # where it is known
    refusal: tuple[str, str] | None = None  # reason and detail, if it is damaged


class Behind(NamedTuple):
    """What stands behind a file."""

    crc: int
    length: int


class CutZip:
    """Walks a ZIP without a list, and opens what was found. Closes its file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = file.seek(0, os.SEEK_END)
        self.has_reached_list = False  # so that no file is behind those that were found

    def walk(self, measure: Measure) -> Iterator[FoundFile]:
        """Yield the files in order. `measure` watches over those that are read to see where they end."""
        at: int | None = len(_BEHIND) if self._read(0, 4) == _BEHIND else 0  # the mark of a ZIP that was to be split
        while at is not None and (header := self._read_header(at)):
            found = self._find_end(*header, measure)
            yield found
            at = found.next_at
        self.has_reached_list = at is not None and self._read(at, 4) in _LISTS

    def open(self, found: FoundFile) -> BinaryIO:
        return cast(BinaryIO, UnpackedFile(self._file, found))

    def close(self) -> None:
        self._file.close()

    def _read(self, at: int, length: int) -> bytes:
        if at >= self._end:  # it may be beyond what can be sought
            return b""
        self._file.seek(at)
        return self._file.read(length)

    def _read_header(self, at: int) -> tuple[zipfile.ZipInfo, int] | None:
        """Return what is in front of a file, and where the file begins; None if that is not there, or cut."""
        head = self._read(at, _HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_FILE):
            return None
        _, _, flags, method, _, _, crc, packed, size, name_length, field_length = _HEADER.unpack(head)
        data_at = at + _HEADER.size + name_length + field_length
        names = self._read(at + _HEADER.size, name_length + field_length)
        if data_at > self._end:
            return None
        name = names[:name_length].decode("utf-8" if flags & _IS_UTF_8 else "cp437", errors="replace")
        info = zipfile.ZipInfo(name)
        info.header_offset, info.flag_bits, info.compress_type, info.CRC = at, flags, method, crc
        info.compress_size, info.file_size = _read_sizes(names[name_length:], packed, size)
        return info, data_at

    def _find_end(self, info: zipfile.ZipInfo, data_at: int, measure: Measure) -> FoundFile:
        if not info.flag_bits & _IS_SIZED_BEHIND:
            end = data_at + info.compress_size
            if end <= self._end:
                return FoundFile(info, data_at, end, info.CRC)
        elif info.flag_bits & _IS_ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            end = data_at + info.compress_size
            if behind := self._read_behind(end, info.compress_size, info.file_size):
                return FoundFile(info, data_at, end + behind.length)
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            return self._unpack_to_end(info, data_at, measure)
        else:
            end, behind = self._look_for_end(data_at)
            info.compress_size = info.file_size = end - data_at
            if behind:
                return FoundFile(info, data_at, end + behind.length, behind.crc)
            return FoundFile(info, data_at, None)
        info.compress_size = self._end - data_at
        return FoundFile(info, data_at, None)

    def _unpack_to_end(self, info: zipfile.ZipInfo, data_at: int, measure: Measure) -> FoundFile:
        info.compress_size = self._end - data_at
        cut = FoundFile(info, data_at, None)
        unpacked = UnpackedFile(self._file, cut)
        measured = measure(cast(BinaryIO, unpacked))
        try:
            while measured.read(PIECE_BYTES):
                pass
        except FileRefused as error:
            return cut._replace(refusal=(error.reason, error.detail))
        if not unpacked.is_ended:
            return cut
        info.compress_size, info.file_size = unpacked.packed_bytes, unpacked.tell()
        end = data_at + info.compress_size
        if behind := self._read_behind(end, info.compress_size, info.file_size):
            return FoundFile(info, data_at, end + behind.length, behind.crc)
        if end + _LONGEST_BEHIND > self._end:  # the ZIP ends there, and the file is whole
            return FoundFile(info, data_at, self._end)
        return cut._replace(refusal=("damaged", "its size, which stands behind it, is another one"))

    def _look_for_end(self, data_at: int) -> tuple[int, Behind | None]:
        """Return where a file that is not packed ends: in front of a record that says how long it is, or with the ZIP.

        What may be the beginning of such a record, at the end of the ZIP, is none of its bytes.
        """
        at, window = data_at, b""
        while piece := self._read(at + len(window), PIECE_BYTES):
            window += piece
            here = window.find(_BEHIND)
            while here >= 0:
                length = at + here - data_at
                if behind := _parse_behind(window[here : here + _BEHIND_AND_NEXT], length, length):
                    return at + here, behind
                here = window.find(_BEHIND, here + 1)
            at += max(0, len(window) - _BEHIND_AND_NEXT)
            window = window[-_BEHIND_AND_NEXT:]
        cut_record = _CUT_BEHIND.search(window)
        return (at + cut_record.start() if cut_record else self._end), None

    def _read_behind(self, at: int, packed: int, size: int) -> Behind | None:
        return _parse_behind(self._read(at, _BEHIND_AND_NEXT), packed, size)


class UnpackedFile(io.RawIOBase):
    """A file of a ZIP without a list, unpacked while it is read. Raises EOFError, zlib.error and zipfile.BadZipFile.

    One that is cut, or whose end is not known yet, simply ends where the bytes do.
    """

    def __init__(self, file: BinaryIO, found: FoundFile) -> None:
        self._file, self._found = file, found
        self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS) if found.info.compress_type else None
        self._taken = self._position = self._crc = 0
        self.is_ended = False

    @property
    def packed_bytes(self) -> int:
        """How many bytes of the ZIP the file has, once it is ended."""
        return self._taken - (len(self._decompressor.unused_data) if self._decompressor else 0)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(PIECE_BYTES), b""))
        data = self._unpack(size) if self._decompressor else self._take(size)
        self._position += len(data)
        self._crc = zlib.crc32(data, self._crc)
        if size and not data:
            self._check_end()
        return data

    def _take(self, size: int) -> bytes:
        self._file.seek(self._found.data_at + self._taken)
        data = self._file.read(min(size, PIECE_BYTES, self._found.info.compress_size - self._taken))
        self._taken += len(data)
        return data

    def _unpack(self, size: int) -> bytes:
        assert self._decompressor is not None
        while size and not self._decompressor.eof:
            packed = self._decompressor.unconsumed_tail or self._take(PIECE_BYTES)
            data = self._decompressor.decompress(packed, size)
            if data or not packed:
                return data
        return b""

    def _check_end(self) -> None:
        self.is_ended = self._decompressor is None or self._decompressor.eof
        info, is_whole = self._found.info, self._found.next_at is not None
        if is_whole and not (self.is_ended and self._position == info.file_size):
            raise EOFError
        if self._found.crc not in (None, self._crc):
            raise zipfile.BadZipFile


def _read_sizes(fields: bytes, packed: int, size: int) -> tuple[int, int]:
    """Return the packed size and the size of a file; where they need 64 bits they stand in a field of their own."""
    at = 0
    while at + 4 <= len(fields):
        kind, length = struct.unpack_from("<2H", fields, at)
        if kind == _SIZE_FIELD and length >= 16 and at + 20 <= len(fields):
            long_size, long_packed = struct.unpack_from("<2Q", fields, at + 4)
            return long_packed if packed == _SIZE_IN_FIELD else packed, long_size if size == _SIZE_IN_FIELD else size
        at += 4 + length
    return packed, size


def _parse_behind(content: bytes, packed: int, size: int) -> Behind | None:
    """Return what stands behind a file of that packed size and that size; None if it is no such thing.

    Sizes of nothing have many readings, so what follows must be the beginning of another file or of the list.
    """
    for start in (len(_BEHIND), 0) if content.startswith(_BEHIND) else (0,):
        for form in _BEHIND_FORMS:
            end = start + form.size
            if len(content) >= end and form.unpack_from(content, start)[1:] == (packed, size):
                following = content[end : end + 4]
                if any(signature.startswith(following) for signature in (_FILE, *_LISTS)):
                    return Behind(form.unpack_from(content, start)[0], end)
    return None
