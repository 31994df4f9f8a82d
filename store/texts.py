"""Texts that documents are made from (concepts, templates), each kept once under its hash.

    data/texts/<hh>/<digest>.txt        hh = first two characters of the BLAKE3 digest

Inputs name a text by its digest. The text itself is kept, so that two documents can be explained,
and a prompt rendered again, after the file in config/ has been edited.
"""

from __future__ import annotations

import re
from pathlib import Path

from store.durable import place_file
from store.errors import NameInvalid, TextMissing
from store.identity import hash_bytes

DIGEST_FORM = re.compile(r"[0-9a-f]{64}")


class TextStore:
    """The folder data/texts."""

    def __init__(self, root: Path, *, temporary_folder: Path) -> None:
        self.root, self._temporary_folder = root, temporary_folder
        self._kept: set[str] = set()

    def keep(self, text: str) -> str:
        """Keep a text durably and return its digest. Keeping it again costs one look."""
        content = text.encode()
        digest = hash_bytes(content)
        if digest not in self._kept:
            path = self._path(digest)
            if not path.exists():
                place_file(path, content, temporary_folder=self._temporary_folder)
            self._kept.add(digest)
        return digest

    def read(self, digest: str) -> str:
        """Return the text with that digest. Raises TextMissing if it is not kept or was altered."""
        try:
            content = self._path(digest).read_bytes()
        except FileNotFoundError as error:
            raise TextMissing(digest, problem="not kept in this store") from error
        if hash_bytes(content) != digest:
            raise TextMissing(digest, problem=f"its bytes were altered in {self._path(digest)}")
        return content.decode()

    def _path(self, digest: str) -> Path:
        if not DIGEST_FORM.fullmatch(digest):
            raise NameInvalid("text digest", digest, expected="64 characters of 0-9 and a-f")
        return self.root / digest[:2] / f"{digest}.txt"
