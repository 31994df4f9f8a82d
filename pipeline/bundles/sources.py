"""A bundle as a source of bytes: for a store in which some are damaged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.bundles.archives import open_archive


@contextmanager
def open_source(path: Path) -> Iterator[Callable[[str], bytes | None]]:
    """Yield what returns the bytes that have a hash; None if the bundle does not hold them.

    The bundle is read once and unpacked into one nameless file. Raises InputInvalid, BundleInvalid.
    """
    places: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryFile() as unpacked:
        with open_archive(path) as archive, archive.read() as (_, members):
            for member, content in members:
                if member.blake3 not in places:
                    places[member.blake3] = unpacked.tell(), len(content)
                    unpacked.write(content)

        def find(blake3: str) -> bytes | None:
            if blake3 not in places:
                return None
            position, size_bytes = places[blake3]
            unpacked.seek(position)
            return unpacked.read(size_bytes)

        yield find
