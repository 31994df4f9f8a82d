"""Sources: where the bytes of a damaged document can be had from again, without asking a model.

    kept aside       the same document in quarantine/
    given            whatever the caller can find by hash, such as a bundle
    the ledger       prompt.txt from what was asked, raw.txt from the answer
    its own files    parsed.txt, by parsing raw.txt again; of a copy, by parsing the parent's text

Only bytes that match the recorded hash are taken, so a wrong source can do no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.making import PARSED_FILE, PROMPT_FILE, RAW_FILE, encode_reply
from pipeline.parsers import parse_reply
from pipeline.scores import Scale
from pipeline.stages import Mode
from store.calls import Attempt
from store.data_root import DataRoot
from store.errors import StoreError
from store.identity import hash_bytes

Source = Callable[[str], bytes | None]  # the BLAKE3 of a file -> its bytes


def find_bytes(
    data: DataRoot, metadata: Mapping[str, Any], name: str, *, sources: Sequence[Source] = ()
) -> bytes | None:
    """Return the bytes that a document's file had, by its record; None if they are nowhere to be had."""
    blake3 = metadata["files"][name]["blake3"]
    for source in sources:
        found = source(blake3)
        if found is not None and hash_bytes(found) == blake3:
            return found
    return next((found for found in _list_candidates(data, metadata, name) if hash_bytes(found) == blake3), None)


def _list_candidates(data: DataRoot, metadata: Mapping[str, Any], name: str) -> Iterator[bytes]:
    own = data.documents.folder_of(metadata["stage"], metadata["doc_id"])
    for folder in [own, *list_kept_copies(data, metadata["stage"], metadata["doc_id"])]:
        try:
            yield (folder / name).read_bytes()
        except OSError:
            continue
    attempt = find_attempt(data, metadata)
    if name == PROMPT_FILE and attempt is not None:
        yield from _read_prompts(attempt)
    if name == RAW_FILE and attempt is not None:
        yield _read_raw(attempt)
    if name == PARSED_FILE:
        for text in _list_replies(data, metadata, attempt):
            yield from _parse(metadata, text)


def list_kept_copies(data: DataRoot, stage: str, doc_id: str) -> list[Path]:
    """Return the folders in quarantine/ that hold another copy of a document."""
    superseded = data.quarantine_folder / "superseded" / stage
    damaged = data.quarantine_folder / "damaged"
    return sorted([*superseded.glob(f"{doc_id}.*"), *damaged.glob(f"*/{doc_id}")])


def find_attempt(data: DataRoot, metadata: Mapping[str, Any]) -> Attempt | None:
    """Return the attempt that a document was made from; None if it has none or it cannot be read."""
    if not metadata.get("call_id") or not metadata.get("attempt"):
        return None
    try:
        return data.calls.read_attempt(str(metadata["call_id"]), int(metadata["attempt"]))
    except (StoreError, ValueError):
        return None


def _read_prompts(attempt: Attempt) -> Iterator[bytes]:
    try:
        messages = attempt.read_request().get("messages")
    except StoreError:
        return
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            yield message["content"].encode(errors="replace")


def _read_raw(attempt: Attempt) -> bytes:
    return encode_reply(str((attempt.outcome or {}).get("text") or ""))


def _list_replies(data: DataRoot, metadata: Mapping[str, Any], attempt: Attempt | None) -> Iterator[bytes]:
    """Yield the texts of which parsed.txt may have been parsed."""
    if attempt is not None:
        yield _read_raw(attempt)
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
