"""Keys: read from the environment or a file when they are needed, and dropped from everything that is written.

    read_key(source)              the key, from a variable or from a file that only its owner can read
    KeyDropper.feed, end          a response on its way to the disk, each key in it replaced by a mark of equal length
    drop_key, drop_keys           the same for bytes, for a text, for plain JSON

A key is found in the forms in which servers repeat it: as it is, URL-encoded, escaped as in JSON, in any mixture of
these, and in base64 at any place in a longer text. The mark is as long as what it replaces, so a body keeps the length
that its header promised, and JSON stays JSON.
"""

from __future__ import annotations

import base64
import functools
import os
import re
import stat
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.answers import Transport
from pipeline.errors import GatewayError

SHORTEST_SECRET = 8  # characters; replacing shorter "keys", as local servers take, would garble every text
LONGEST_CHARACTER = len(rb"\u002d")  # bytes of one character of a key in its longest form
LONGEST_KEY_FILE = 10_000  # bytes; what is longer is another file
KEY_FORM = re.compile(r"[\x21-\x7e]+")  # what a header can hold, without blanks
OTHERS_PERMISSIONS = stat.S_IRWXG | stat.S_IRWXO


class KeySource(NamedTuple):
    """Where a key is: in an environment variable or, if that is not set, in a file. Neither: there is no key."""

    variable: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, transport: Transport) -> KeySource:
        return cls(transport.api_key_env, transport.api_key_file)


# Reading


def read_key(source: KeySource) -> str | None:
    """Return the key; None for a source that names none. Raises GatewayError auth, without any of what it read."""
    if source == KeySource():
        return None
    place, key = f"the environment variable {source.variable}", os.environ.get(source.variable or "", "").strip()
    if not key and source.file is not None:
        place = f"the key file {source.file}"
        key = _read_key_file(Path(source.file).expanduser(), place).strip()
    if not key:
        raise GatewayError("auth", f"A key is expected in {place}, which is not set or empty.")
    if not KEY_FORM.fullmatch(key):
        expected = "Expected the key alone: one line, without blanks and characters beyond ASCII."
        raise GatewayError("auth", f"What is in {place} can be no key. {expected}")
    return key


def read_keys(sources: Iterable[KeySource]) -> set[str]:
    """Return the keys that can be read and are secrets."""
    keys: set[str] = set()
    for source in set(sources):
        with suppress(GatewayError):  # said when a model needs it
            keys.add(read_key(source) or "")
    return {key for key in keys if _is_secret(key)}


def _read_key_file(path: Path, place: str) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise GatewayError("auth", f"{place} is no file.")
            if mode & OTHERS_PERMISSIONS:
                found = f"{stat.S_IMODE(mode):03o}"
                raise GatewayError("auth", f"Others may use {place}: its mode is {found}. Run: chmod 600 {path}")
            return file.read(LONGEST_KEY_FILE).decode(errors="replace")
    except OSError as error:
        raise GatewayError("auth", f"{place} cannot be read: {error.strerror}.") from error


def _is_secret(key: str | None) -> bool:
    return key is not None and len(key) >= SHORTEST_SECRET


# Dropping


class KeyDropper:
    """Drops a key from bytes that come in pieces. `count` says from how many places.

    What may be the beginning of the key is held back until the next piece has come, or the end.
    """

    def __init__(self, key: str | None) -> None:
        self.count = 0
        self._key = key if _is_secret(key) else None
        self._held_bytes = 0 if self._key is None else _longest_form(self._key) - 1
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be handed on."""
        if self._key is None:
            return chunk
        content = self._drop(self._held + chunk)
        ready = max(0, len(content) - self._held_bytes)
        self._held = content[ready:]
        return content[:ready]

    def end(self) -> bytes:
        """Return the rest; a key that was cut at the end of it is dropped too."""
        content, self._held = self._held, b""
        for length in range(len(self._key or "") - 1, SHORTEST_SECRET - 1, -1):
            beginning = (self._key or "")[:length].encode()
            if content.endswith(beginning):
                self.count += 1
                return content[:-length] + _mark(length)
        return content

    def _drop(self, content: bytes) -> bytes:
        assert self._key is not None
        content, count = _pattern_of(self._key).subn(_mark_match, content)
        self.count += count
        return content


def drop_key(content: bytes, key: str | None) -> bytes:
    """Return the bytes with marks in the places of the key."""
    if key is None or not _is_secret(key):
        return content
    return _pattern_of(key).sub(_mark_match, content)


def drop_key_from_text(text: str, key: str | None) -> str:
    if key is None:
        return text
    return drop_key(text.encode(errors="replace"), key).decode(errors="replace")


def drop_keys(value: Any, keys: Collection[str]) -> Any:
    """Return plain JSON with every key dropped from every text in it; `value` itself if there is none."""
    if isinstance(value, str):
        return functools.reduce(drop_key_from_text, keys, value)
    if isinstance(value, list | tuple):
        return [drop_keys(item, keys) for item in value]
    if isinstance(value, dict):
        return {drop_keys(name, keys): drop_keys(item, keys) for name, item in value.items()}
    return value


def holds_key(value: Any, keys: Collection[str]) -> bool:
    """Whether a text in plain JSON has one of the keys in it."""
    if isinstance(value, str):
        content = value.encode(errors="replace")
        return any(_pattern_of(key).search(content) for key in keys if _is_secret(key))
    if isinstance(value, list | tuple):
        return any(holds_key(item, keys) for item in value)
    if isinstance(value, dict):
        return any(holds_key(part, keys) for item in value.items() for part in item)
    return False


def _mark_match(match: re.Match[bytes]) -> bytes:
    return _mark(len(match[0]))


def _mark(length: int) -> bytes:
    return b"<key".ljust(length - 1, b"*") + b">"


def _longest_form(key: str) -> int:
    return LONGEST_CHARACTER * max(map(len, _list_forms(key)))


@functools.lru_cache(maxsize=64)
def _pattern_of(key: str) -> re.Pattern[bytes]:
    """Return what finds the key. It begins with one set of bytes, at which the search runs ten times as fast."""
    forms = _list_forms(key)
    starts = sorted({bytes([byte]) for form in forms for spelling in _spell(form[0]) for byte in spelling[:1]})
    found = [_begin(form[0]) + b"".join(map(_continue, form[1:])) for form in forms]
    return re.compile(b"[%s](?:%s)" % (b"".join(map(re.escape, starts)), b"|".join(found)))


def _list_forms(key: str) -> list[str]:
    """Return the key and what base64 makes of it, longest first.

    Base64 depends on where in a text the key begins, modulo three; at the ends its characters depend on what stands
    beside the key, so only those between count.
    """
    forms = {key}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + key.encode()).decode()
        first, end = -(-offset * 8 // 6), (offset + len(key)) * 8 // 6
        forms.add(encoded[first:end])
    return sorted(forms, key=lambda form: (-len(form), form))


def _begin(character: str) -> bytes:
    """Return what finds the rest of a character whose first byte has just been read."""
    spellings = [b"(?<=%s)%s" % (re.escape(found[:1]), _ignore_case(found[1:])) for found in _spell(character)]
    return b"(?:%s)" % b"|".join(spellings)


def _continue(character: str) -> bytes:
    return b"(?:%s)" % b"|".join(re.escape(found[:1]) + _ignore_case(found[1:]) for found in _spell(character))


def _spell(character: str) -> list[bytes]:
    """Return the ways to write a character: as it is, in an address, in JSON. Base64 has two alphabets."""
    found = []
    for variant in {"+": "+-", "/": "/_"}.get(character, character):
        found += [variant.encode(), b"%%%02x" % ord(variant), rb"\u%04x" % ord(variant)]
        if variant in '"\\/':
            found.append(b"\\" + variant.encode())
    return found


def _ignore_case(rest: bytes) -> bytes:
    """Return a pattern of the digits after a % or \\u, whose letters may be large."""
    if len(rest) == 1:
        return re.escape(rest)
    head, digits = (rest[:1], rest[1:]) if rest[:1] == b"u" else (b"", rest)
    return head + b"".join(b"[%c%c]" % (digit, digit - 32) if digit > 57 else bytes([digit]) for digit in digits)
