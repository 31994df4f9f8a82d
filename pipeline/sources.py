"""Sources: where the bytes of a damaged document can be had from again, without asking a model.

    kept aside       the same document or attempt in quarantine/
    the ledger       prompt.txt from what was asked, raw.txt from the answer
    its own files    parsed.txt, by parsing raw.txt again; of a copy, by parsing the parent's text
    given            whatever the caller can find by hash, such as a bundle

Only bytes that match the recorded hash are taken, so a wrong source can do no harm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.making import PARSED_FILE, PROMPT_FILE, RAW_FILE, encode_reply
from pipeline.parsers import parse_reply
from pipeline.scores import Scale
from pipeline.stages import Mode
from store.calls import Attempt
from store.data_root import DataRoot
from store.documents import METADATA_FILE
from store.errors import StoreError
from store.identity import hash_bytes

Source = Callable[[str], bytes | None]  # the BLAKE3 of a file -> its bytes


def find_files(
    data: DataRoot, stage: str, doc_id: str, *, record_blake3: str | None, sources: Sequence[Source] = ()
) -> dict[str, bytes] | None:
    """Return all files of a document with the bytes of its record; None if one is nowhere to be had.

    `record_blake3` is that of its metadata.json, if the one in its folder is not to be relied on.
    """
    try:
        if record_blake3 is None:
            record = (data.documents.folder_of(stage, doc_id) / METADATA_FILE).read_bytes()
        else:
            kept = _read_each(list_kept_copies(data, stage, doc_id), METADATA_FILE)
            found = _take(record_blake3, [*kept, *_ask(sources, record_blake3)])
            if found is None:
                return None
            record = found
        metadata = json.loads(record)
        files = {name: find_bytes(data, metadata, name, sources=sources) for name in metadata["files"]}
    except (OSError, ValueError, KeyError, TypeError, StoreError):
        return None
    whole = {name: content for name, content in files.items() if content is not None}
    return {**whole, METADATA_FILE: record} if len(whole) == len(files) else None


def find_attempt_files(
    data: DataRoot, call_id: str, number: int, blake3s: Mapping[str, str], *, sources: Sequence[Source] = ()
) -> dict[str, bytes] | None:
    """Return files of an attempt, given by their hashes; None if one is nowhere to be had."""
    kept = sorted((data.quarantine_folder / "damaged").glob(f"*/{number:04d}"))
    found = {}
    for name, blake3 in blake3s.items():
        own = data.calls.folder_of(call_id) / f"{number:04d}"
        content = _take(blake3, [*_read_each([own, *kept], name), *_ask(sources, blake3)])
        if content is None:
            return None
        found[name] = content
    return found


def find_bytes(
    data: DataRoot, metadata: Mapping[str, Any], name: str, *, sources: Sequence[Source] = ()
) -> bytes | None:
    """Return the bytes that a document's file had, by its record; None if they are nowhere to be had."""
    blake3 = metadata["files"][name]["blake3"]
    found = _take(blake3, _list_candidates(data, metadata, name))
    return _take(blake3, _ask(sources, blake3)) if found is None else found


def _take(blake3: str, candidates: Iterable[bytes]) -> bytes | None:
    return next((found for found in candidates if hash_bytes(found) == blake3), None)


def _ask(sources: Sequence[Source], blake3: str) -> Iterator[bytes]:
    for source in sources:
        if (found := source(blake3)) is not None:
            yield found


def _read_each(folders: Iterable[Path], name: str) -> Iterator[bytes]:
    for folder in folders:
        try:
            yield (folder / name).read_bytes()
        except OSError:
            continue


def _list_candidates(data: DataRoot, metadata: Mapping[str, Any], name: str) -> Iterator[bytes]:
    stage, doc_id = metadata["stage"], metadata["doc_id"]
    yield from _read_each([data.documents.folder_of(stage, doc_id), *list_kept_copies(data, stage, doc_id)], name)
    attempts = list(_list_attempts(data, metadata))
    for attempt in attempts:
        if name == PROMPT_FILE:
            yield from _read_prompts(attempt)
        else:
            yield from _read_answers(attempt)
    if name == PARSED_FILE:
        for text in _list_replies(data, metadata, attempts):
            yield from _parse(metadata, text)


def list_kept_copies(data: DataRoot, stage: str, doc_id: str) -> list[Path]:
    """Return the folders in quarantine/ that hold another copy of a document."""
    superseded = data.quarantine_folder / "superseded" / stage
    damaged = data.quarantine_folder / "damaged"
    return sorted([*superseded.glob(f"{doc_id}.*"), *damaged.glob(f"*/{doc_id}")])


def _list_attempts(data: DataRoot, metadata: Mapping[str, Any]) -> Iterator[Attempt]:
    """Yield the attempts of a document's call: one that was brought in may have another number here."""
    try:
        folder = data.calls.folder_of(str(metadata["call_id"]))
        numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    except (StoreError, OSError, KeyError):
        return
    for number in numbers:
        try:
            yield data.calls.read_attempt(folder.name, number)
        except StoreError:
            continue


def _read_prompts(attempt: Attempt) -> Iterator[bytes]:
    try:
        messages = attempt.read_request().get("messages")
    except StoreError:
        return
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            yield message["content"].encode(errors="replace")


def _read_answers(attempt: Attempt) -> Iterator[bytes]:
    """Yield the text of an answer, and the bytes as they came, which is what old stores kept."""
    yield encode_reply(str((attempt.outcome or {}).get("text") or ""))
    with suppress(StoreError):
        yield attempt.read_response() or b""


def _list_replies(data: DataRoot, metadata: Mapping[str, Any], attempts: Sequence[Attempt]) -> Iterator[bytes]:
    """Yield the texts of which parsed.txt may have been parsed."""
    for attempt in attempts:
        yield from _read_answers(attempt)
    if RAW_FILE in metadata["files"]:
        yield from _list_candidates(data, metadata, RAW_FILE)
    if metadata.get("mode") == Mode.COPY:
        for parent in metadata.get("parents") or []:
            try:
                yield data.documents.read(parent["stage"], parent["doc_id"]).read_bytes(parent["file"])
            except (StoreError, KeyError, TypeError, OSError):
                continue


def _parse(metadata: Mapping[str, Any], text: bytes) -> Iterator[bytes]:
    parser = metadata.get("parser") or {}
    try:
        scale = Scale(*parser["scale"]) if parser.get("scale") else None
        parsed = parse_reply(
            str(parser.get("name")), text.decode(), scale=scale, min_lines=parser.get("min_lines") or 0
        )
    except (PipelineError, UnicodeDecodeError, TypeError, ValueError):
        return
    yield parsed.text.encode()


def find_text(config_folder: Path, digest: str) -> bytes | None:
    """Return the file of the templates whose bytes have this hash; None if there is none."""
    for path in sorted((config_folder / "templates").rglob("*")):
        if path.is_file() and hash_bytes(content := path.read_bytes()) == digest:
            return content
    return None
