"""What the store is asked to write in the tests of faults, and what must hold of it afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from store import flushing
from store.data_root import DataRoot
from store.durable import create_folder
from store.identity import hash_bytes
from store.journal import list_expected
from tests.faults.children import Acknowledge

DOC_ID = "0123456789abcdef"
CALL_ID = "fedcba9876543210"
DIGEST = "1" * 64
ANSWER = [b"an answer ", b"in two parts"]
TEXT = "a template\n"
FILES = {"prompt.txt": b"p" * 100, "raw.txt": b"r" * 9000, "parsed.txt": b"q", "extras/page.html": b"h"}
REQUEST = {"messages": [{"role": "user", "content": "Grüße"}], "model": "m", "replicate": 1}


def commit_document(data: DataRoot, acknowledge: Acknowledge) -> None:
    data.documents.commit("draft", DOC_ID, FILES, {"digest": DIGEST, "inputs": {}})
    acknowledge("document")


def make_attempt(data: DataRoot, acknowledge: Acknowledge) -> None:
    attempt = data.calls.begin(CALL_ID, REQUEST)
    acknowledge("request")
    for chunk in ANSWER:
        attempt.keep(chunk)
    attempt.seal()
    acknowledge("response")
    attempt.finish({"status": "ok"})
    acknowledge("outcome")


def keep_text(data: DataRoot, acknowledge: Acknowledge) -> None:
    data.texts.keep(TEXT)
    acknowledge("text")


WRITERS = [commit_document, make_attempt, keep_text]
FLUSHES = ["alone", "shared"]


@contextmanager
def flush_as(kind: str) -> Iterator[None]:
    """Have each writer sync its own files, or all of them share syncfs, however many they are."""
    shared_from = {"alone": 1_000_000, "shared": 1}[kind]
    with patch.multiple(
        flushing, SHARED_FROM=shared_from, can_share=lambda device: kind == "shared", _shared_by_device={}
    ):
        yield


def make_shared_folders(data: DataRoot) -> None:
    """Make the folders that many writes share: each is flushed when it is made."""
    for folder in ("docs/draft", f"calls/{CALL_ID[:2]}", f"texts/{text_shard()}", ".tmp"):
        create_folder(data.path / folder)
    make_journal_folder(data)


def make_journal_folder(data: DataRoot) -> None:
    """Make the folder of the journal. It is flushed when it is made, which an attempt does not need."""
    create_folder(data.journal.folder)


def text_shard() -> str:
    return hash_bytes(TEXT.encode())[:2]


# What must hold afterwards


def find_losses(root: Path, acknowledged: Sequence[str]) -> list[str]:
    """Return what was acknowledged and is not there, and what is there and not whole; [] if nothing is lost.

    Raises what the store raises, if it cannot read what is there.
    """
    data = DataRoot(root)
    losses = []
    if data.documents.is_present("draft", DOC_ID):
        document = data.documents.read_deeply("draft", DOC_ID)
        if {name: document.read_bytes(name) for name in document.file_names} != FILES:
            losses.append("the document holds other bytes")
    elif "document" in acknowledged:
        losses.append("the document is gone")
    text = root / "texts" / text_shard() / f"{hash_bytes(TEXT.encode())}.txt"
    if ("text" in acknowledged or text.exists()) and data.texts.read(hash_bytes(TEXT.encode())) != TEXT:
        losses.append("the text is another")
    return losses + _find_lost_records(data, acknowledged) + _find_lost_parts(data, acknowledged)


def _find_lost_records(data: DataRoot, acknowledged: Sequence[str]) -> list[str]:
    """The journal knows every document that was acknowledged, and none that is not there."""
    expected = list_expected(data.journal.read()[0])
    losses = [
        f"the journal tells of {doc_id}" for stage, doc_id in expected if not data.documents.is_present(stage, doc_id)
    ]
    if "document" in acknowledged and ("draft", DOC_ID) not in expected:
        losses.append("the journal does not know the document")
    return losses


def _find_lost_parts(data: DataRoot, acknowledged: Sequence[str]) -> list[str]:
    attempts = data.calls.list_attempts(CALL_ID)
    if not attempts:
        return [f"the {part} is gone" for part in ("request", "response", "outcome") if part in acknowledged]
    losses = []
    attempt = attempts[0]
    if any(attempt.read_request()[name] != REQUEST[name] for name in REQUEST):
        losses.append("the request is another")
    response = attempt.read_response()
    if "response" in acknowledged and response != b"".join(ANSWER):
        losses.append("the response is gone")
    if not b"".join(ANSWER).startswith(response or b""):
        losses.append("the response is another")
    if "outcome" in acknowledged and attempt.status != "ok":
        losses.append("the outcome is gone")
    return losses


def list_temporary(root: Path) -> list[str]:
    """Return the names in .tmp."""
    try:
        return sorted(os.listdir(root / ".tmp"))
    except FileNotFoundError:
        return []
