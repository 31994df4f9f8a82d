"""From the bytes of a file to its text, piece by piece, whatever the encoding."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

PIECE_BYTES = 1024 * 1024
REPLACEMENT = "\ufffd"


class Encoding(NamedTuple):
    name: str
    mark: bytes  # the byte order mark, if there is one


UTF_8 = Encoding("utf-8", b"")
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    Encoding("utf-32-le", codecs.BOM_UTF32_LE),
    Encoding("utf-32-be", codecs.BOM_UTF32_BE),
    Encoding("utf-8", codecs.BOM_UTF8),
    Encoding("utf-16-le", codecs.BOM_UTF16_LE),
    Encoding("utf-16-be", codecs.BOM_UTF16_BE),
)
_NUL_PATTERNS = {  # of the first four bytes, when they are one, two or four ASCII characters
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def find_encoding(head: bytes) -> Encoding:
    """Return the encoding that a file's first bytes show, by its mark or by where its NUL bytes are; else UTF-8."""
    for encoding in _MARKS:
        if head.startswith(encoding.mark):
            return encoding
    nuls = tuple(byte == 0 for byte in head[:4])
    return Encoding(_NUL_PATTERNS[nuls], b"") if nuls in _NUL_PATTERNS else UTF_8


def decode_pieces(stream: BinaryIO, notes: Counter[str], *, head: bytes = b"") -> Iterator[str]:
    """Yield a file's text in pieces, none of them empty. Counts what is no text, and leaves out NUL."""
    data = head or read_fully(stream, PIECE_BYTES)
    encoding = find_encoding(data)
    decoder = codecs.getincrementaldecoder(encoding.name)("strict")
    data = data[len(encoding.mark) :]
    while True:
        is_last = not data
        try:
            text = decoder.decode(data, is_last)
        except UnicodeDecodeError:
            text = _decode_anyway(decoder, encoding.name, data, is_last=is_last, notes=notes)
        if "\0" in text:
            notes["nul_removed"] += text.count("\0")
            text = text.replace("\0", "")
        if text:
            yield text
        if is_last:
            return
        data = read_fully(stream, PIECE_BYTES)


def _decode_anyway(
    decoder: codecs.IncrementalDecoder, encoding: str, data: bytes, *, is_last: bool, notes: Counter[str]
) -> str:
    lenient = codecs.getincrementaldecoder(encoding)("replace")
    lenient.setstate(decoder.getstate())
    pending, _ = decoder.getstate()
    text = lenient.decode(data, is_last)
    decoder.setstate(lenient.getstate())
    notes["invalid_text"] += text.count(REPLACEMENT) - (pending + data).count(REPLACEMENT.encode(encoding))
    return text


def read_fully(stream: BinaryIO, size_bytes: int) -> bytes:
    """Read that many bytes unless the file ends: a compressed file gives fewer at a time."""
    pieces, missing = [], size_bytes
    while missing and (data := stream.read(missing)):
        pieces.append(data)
        missing -= len(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
