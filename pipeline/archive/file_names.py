"""Names of files that are made from titles and from what people called their attachments. Pure.

A name holds a-z, 0-9 and `-` only, and always ends in a short id: equal titles, titles that differ in case or in
Unicode form, names that Windows reserves, and names that lead out of a folder cannot collide or escape.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

SLUG_BYTES = 60
SHORT_ID_LENGTH = 10  # about 52 bits: with equal date and title on top, no two conversations share a name
SHORT_HASH_LENGTH = 8

_WRITTEN_OUT = re.compile("⟦U\\+[0-9A-F]{4,6}⟧")  # hidden characters, as clean_line shows them
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i"})
# A browser or a desktop would run what these hold, so they are placed as text.
_ACTIVE = "desktop hta htm html jse lnk mht mhtml scf shtml svg svgz url vbe webloc wsf xht xhtml xml xsl xslt"
_ACTIVE_EXTENSIONS = frozenset(_ACTIVE.split())


def make_slug(title: str) -> str:
    """Return a title as a part of a file name, at most SLUG_BYTES long.

    >>> make_slug("Smørrebrød: what's in it?"), make_slug("¿…?"), make_slug("../../etc/passwd"), make_slug("⟦U+202E⟧a")
    ('smorrebrod-what-s-in-it', 'untitled', 'etc-passwd', 'a')
    """
    shown = _WRITTEN_OUT.sub("", title[: 20 * SLUG_BYTES])
    plain = unicodedata.normalize("NFKD", shown).casefold().translate(_LETTERS)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    slug = re.sub("[^a-z0-9]+", "-", plain).strip("-")[:SLUG_BYTES].strip("-")
    return slug or "untitled"


def name_view(title: str | None, created: str | None, conversation_id: str) -> str:
    """Return the name of a view's file without its ending.

    >>> name_view("Harbour photo", "2025-03-01T09:00:00Z", "3f9a1c2b7d8e4f60")
    '2025-03-01-harbour-photo-3f9a1c2b7d'
    """
    date = created[:10] if created and _DATE.match(created) else "undated"
    short_id = re.sub("[^a-z0-9]", "", conversation_id.lower())[:SHORT_ID_LENGTH]
    return f"{date}-{make_slug(title or '')}-{short_id}"


class GivenName(NamedTuple):
    """What an attachment is called, and the hash of its bytes."""

    name: str
    blake3: str


def name_attachments(given: Iterable[GivenName]) -> dict[GivenName, str]:
    """Return the file name of each attachment of a conversation; those with equal names get a piece of their hash.

    >>> name_attachments([GivenName("Photo 1.PNG", "aa" * 32), GivenName("page.html", "bb" * 32)]).values()
    dict_values(['photo-1.png', 'page.html.txt'])
    """
    plain = {one: _name_attachment(one.name) for one in dict.fromkeys(given)}
    counts = Counter("".join(parts) for parts in plain.values())
    return {
        one: f"{stem}{extension}"
        if counts[stem + extension] == 1
        else f"{stem}-{one.blake3[:SHORT_HASH_LENGTH]}{extension}"
        for one, (stem, extension) in plain.items()
    }


def _name_attachment(name: str) -> tuple[str, str]:
    """Return stem and ending: ("photo-1", ".png")."""
    last = re.split(r"[/\\]", name)[-1]
    stem, dot, extension = last.rpartition(".")
    extension = extension.lower()
    if not dot or not stem or not _EXTENSION.fullmatch(extension):
        stem, extension = last, ""
    slug = make_slug(stem)
    slug = "file" if slug == "untitled" else slug
    if slug in _RESERVED:
        slug = f"file-{slug}"
    if extension in _ACTIVE_EXTENSIONS:
        return slug, f".{extension}.txt"
    return slug, f".{extension}" if extension else ""


_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
