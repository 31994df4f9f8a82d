"""Files of exports that are in memory, as importers see them, and the folder of samples."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.archive.conversations import Conversation
from pipeline.archive.importers.interface import Importer, Member, Parsed, Record, Skip
from store.identity import hash_bytes, id_of

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "chats"


def make_member(name: str, content: Any) -> Member:
    """Return a file with that content: bytes and text as they are, anything else as JSON."""
    if not isinstance(content, bytes | str):
        content = json.dumps(content)
    data = content.encode() if isinstance(content, str) else content
    digest = hash_bytes(data)
    export = id_of("export", {"blake3": digest, "size_bytes": len(data)})
    return Member(name, len(data), digest, export, lambda: io.BytesIO(data))


def read_zip(path: Path) -> list[Member]:
    with zipfile.ZipFile(path) as archive:
        return [make_member(info.filename, archive.read(info)) for info in archive.infolist() if not info.is_dir()]


def split_all(importer: Importer, file: Member, siblings: Sequence[Member] = ()) -> tuple[list[Record], list[Skip]]:
    """Return the records of a file and its skips. Without `siblings` the file is alone."""
    found = list(importer.split(file, siblings or [file]))
    return [item for item in found if isinstance(item, Record)], [item for item in found if isinstance(item, Skip)]


def parse_all(importer: Importer, file: Member, siblings: Sequence[Member] = ()) -> list[Parsed]:
    return [importer.parse(record) for record in split_all(importer, file, siblings)[0]]


def import_alone(importer: Importer, content: Any) -> Conversation:
    """Return the one conversation of a file that is alone."""
    (parsed,) = parse_all(importer, make_member("file", content))
    return parsed.conversation


def list_damaged(value: Any, odd: Any) -> Iterator[Any]:
    """Yield copies of JSON, in each of which another value below the top is replaced."""
    for name in range(len(value)) if isinstance(value, list) else list(value):
        inner = value[name]
        replacements = [odd, *(list_damaged(inner, odd) if isinstance(inner, dict | list) else ())]
        for replacement in replacements:
            copy = list(value) if isinstance(value, list) else dict(value)
            copy[name] = replacement
            yield copy
