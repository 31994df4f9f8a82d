"""Names derived from content: equal inputs give equal ids, on every machine. Knows nothing of files.

    inputs (plain JSON) -> canonical bytes -> BLAKE3 digest (64 hex) -> doc_id (16 base36)

The canonical bytes start with the record type and IDENTITY_VERSION, so a draft and an essay never
share an id, and a change of the scheme can never be mistaken for a change of content.
"""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from blake3 import blake3

from store.errors import NameInvalid, ValueNotEncodable

IDENTITY_VERSION = 1  # changes every id: only together with new pinned ids in the tests

ID_LENGTH = 16
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
DIGEST_BASE36_LENGTH = 50  # 36**50 > 2**256: every digest has this many characters, zeros in front
BEYOND_ID = 36 ** (DIGEST_BASE36_LENGTH - ID_LENGTH)

ID_FORM = re.compile(r"[0-9a-z]{16}")
STAGE_FORM = re.compile(r"[a-z][a-z0-9_]{0,31}")
# One folder level at most (extras/), no leading dot or dash, no name that some filesystem refuses.
FILE_NAME_FORM = re.compile(r"(?:extras/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

TEXT = frozenset((str,))
CONTAINERS = (dict, list, tuple)
SCALARS = frozenset((str, int, float, bool, type(None)))
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

Json = dict[str, Any] | list[Any] | str | int | float | bool | None


def hash_bytes(content: bytes) -> str:
    """Return the BLAKE3 digest as 64 hex characters."""
    return blake3(content).hexdigest()


def new_hasher() -> blake3:
    """Return a hasher to `update` piece by piece; its `hexdigest` is that of `hash_bytes`."""
    return blake3()


def hash_pieces(pieces: Iterable[bytes | memoryview]) -> str:
    """Return what `hash_bytes` returns of all pieces together."""
    hasher = blake3()
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


def encode_canonically(value: Json) -> bytes:
    """Return the one encoding of `value`: sorted keys, no spaces, UTF-8, strings in NFC.

    {"b": 1.0, "a": "é"} -> b'{"a":"\\xc3\\xa9","b":1.0}'

    Floats are written in their shortest form that reads back the same, which is equal on every
    platform. Texts whose exact bytes matter go in by their hash, so NFC never merges two of them.
    Raises ValueNotEncodable for NaN, infinities, lone surrogates, other types and keys that NFC merges.
    """
    return (_has_only_text_keys(value) and _encode_normal(value)) or _encode_normalised(value)


def encode_parsed(value: Json) -> bytes:
    """Return what `encode_canonically` does, sooner, of a value that json.loads gave."""
    return _encode_normal(value) or _encode_normalised(value)


def _encode_normal(value: Any) -> bytes | None:
    """Return the encoding of a value that is normal already, as nearly all are; None of one that may not be.

    If the whole text is in NFC, so is each string in it. A key that is no text is not seen here.
    """
    try:
        text = _ENCODER.encode(value)
        content = text.encode()
    except (ValueError, TypeError):  # NaN, lone surrogates, other types: _normalise tells where
        return None
    return content if "-0.0" not in text and unicodedata.is_normalized("NFC", text) else None


def _encode_normalised(value: Any) -> bytes:
    return _ENCODER.encode(_normalise(value, "inputs")).encode()


def _has_only_text_keys(value: Any) -> bool:
    if isinstance(value, dict):
        if not TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif not isinstance(value, CONTAINERS):
        return True
    return all(_has_only_text_keys(item) for item in value if type(item) not in SCALARS)


def _normalise(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _normalise_text(value, place)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueNotEncodable(place, value, expected="Expected a finite number.")
        return 0.0 if value == 0 else value  # -0.0 and 0.0 are one number
    if isinstance(value, list | tuple):
        return [_normalise(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return _normalise_object(value, place)
    raise ValueNotEncodable(place, value, expected="Expected plain JSON: null, true, number, text, list or object.")


def _normalise_object(value: dict[Any, Any], place: str) -> dict[str, Any]:
    normal: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValueNotEncodable(f"A key of {place}", key, expected="Expected text.")
        name = _normalise_text(key, f"A key of {place}")
        if name in normal:
            raise ValueNotEncodable(f"A key of {place}", key, expected="Two keys differ only in Unicode form.")
        normal[name] = _normalise(item, f"{place}.{key}")
    return normal


def _normalise_text(text: str, place: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueNotEncodable(place, text, expected="Expected text without lone surrogates.") from error
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True)
class Encoded:
    """A value with its canonical encoding, for one that stands in the inputs of many records."""

    value: Json
    encoding: bytes


PARTS = (Encoded, GeneratorType)  # a record with one of these is encoded field by field


def encode_once(value: Json) -> Encoded:
    return Encoded(value, encode_canonically(value))


def digest_of(record_type: str, inputs: Json | dict[str, Any]) -> str:
    """Return the whole digest (64 hex characters) of a record's inputs.

    A field of `inputs` may be Encoded; or a generator, which is hashed as the list of what it yields and need
    not fit into memory.
    """
    if not (isinstance(inputs, dict) and any(isinstance(value, PARTS) for value in inputs.values())):
        return hash_bytes(encode_canonically([record_type, IDENTITY_VERSION, inputs]))
    hasher = blake3(_encode_head(record_type))
    for number, name in enumerate(sorted(inputs)):
        hasher.update(_encode_name(name, is_first=number == 0))
        for part in _encode_field(inputs[name]):
            hasher.update(part)
    return hasher.update(b"}]").hexdigest()


@functools.lru_cache(maxsize=64)
def _encode_head(record_type: str) -> bytes:
    return encode_canonically([record_type, IDENTITY_VERSION])[:-1] + b",{"


@functools.lru_cache(maxsize=256)
def _encode_name(name: str, *, is_first: bool) -> bytes:
    return (b"" if is_first else b",") + encode_canonically(name) + b":"


@functools.lru_cache(maxsize=1024, typed=True)  # typed: True is not 1
def _encode_scalar(value: str | int | None) -> bytes:
    return encode_canonically(value)


def _encode_field(value: Any) -> Iterator[bytes]:
    if isinstance(value, Encoded):
        yield value.encoding
    elif value is None or isinstance(value, str | int):
        yield _encode_scalar(value)
    elif isinstance(value, GeneratorType):
        yield b"["
        for number, item in enumerate(value):
            yield (b"," if number else b"") + encode_canonically(item)
        yield b"]"
    else:
        yield encode_canonically(value)


def id_from_digest(digest: str) -> str:
    """Return the first 16 characters of a digest written in base36 with a fixed length.

    About 80 bits: among a million documents a collision has a probability below 1e-12, and is
    found, because the whole digest stands in the document's metadata.
    """
    number, characters = int(digest, 16) // BEYOND_ID, []
    for _ in range(ID_LENGTH):
        number, remainder = divmod(number, 36)
        characters.append(BASE36[remainder])
    return "".join(reversed(characters))


def id_of(record_type: str, inputs: Json) -> str:
    """Return the id that `inputs` define: 16 lowercase base36 characters.

    >>> id_of("draft", {"b": 1, "a": 2}) == id_of("draft", {"a": 2, "b": 1})
    True
    """
    return id_from_digest(digest_of(record_type, inputs))


def check_id(kind: str, value: str) -> str:
    """Return `value` if it has the form of an id; raise NameInvalid otherwise."""
    if not isinstance(value, str) or not ID_FORM.fullmatch(value):
        raise NameInvalid(kind, value, expected="16 characters of 0-9 and a-z")
    return value


def check_stage(value: str) -> str:
    """Return `value` if it could be a stage; raise NameInvalid otherwise."""
    if not isinstance(value, str) or not STAGE_FORM.fullmatch(value):
        raise NameInvalid("stage", value, expected="a lowercase word such as draft")
    return value


def check_file_name(value: str) -> str:
    """Return `value` if it can name a file of a document; raise NameInvalid otherwise."""
    if not isinstance(value, str) or not FILE_NAME_FORM.fullmatch(value) or value.endswith("."):
        raise NameInvalid("file name", value, expected="letters, digits, '.', '_' and '-', at most one folder: extras/")
    return value
