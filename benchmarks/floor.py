"""The durable floor: a plain loop that hashes and writes what `daybook build` does, with plain calls of os.

    python -m benchmarks.floor CONFIG SAMPLE DATA      make three documents of each concept of CONFIG in DATA

SAMPLE is a data folder that Daybook made of one item: names and sizes of all files, and so the bytes, are taken
from it. What is written in which order, and what is flushed, stands here: ATTEMPT_STEPS, and `write_document`.

For each document, in the order of the stages of one item after the other:

    1. read the parent's parsed.txt (for a draft: the concept's file) and hash it
    2. the call's folder and the attempt's, and in it the request, flushed with its folders
    3. the attempt's other files as in ATTEMPT_STEPS
    4. the document's files in a staged folder, each flushed, metadata.json last; the staged folder flushed;
       renamed; the stage's folder flushed
    5. the pointer, staged and renamed, without a flush

One record goes to the journal for the attempt, without a flush, and one for the document, flushed before the pointer.

Each file's bytes are hashed once with BLAKE3. Not here, because no promise needs it: planning, rendering, JSON,
parsing, checking what is there, the scheduler, the task tables and the report.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from benchmarks.cohort_folder import STAGES

PLACE, APPEND = "place", "append"
# How each file of an attempt gets there. place: staged, flushed, renamed, folder flushed. append: written where it
# stays, flushed, folder flushed. Two flushes each.
ATTEMPT_STEPS = {"request.json": APPEND, "response.bin": APPEND, "outcome.json": PLACE}
FIRST_FILE = "request.json"  # with it, the names of the folders above become durable
LAST_FILE = "metadata.json"
ID_LENGTH = 16
NEW_FILE = os.O_CREAT | os.O_EXCL | os.O_WRONLY
RECORD_BYTES = 400  # of the journal, about


class Sample(NamedTuple):
    """The files of one document and of the attempt that answered its call, by name."""

    stage: str
    document: dict[str, bytes]
    attempt: dict[str, bytes]
    pointer: bytes


class Floor:
    """A data folder being filled."""

    def __init__(self, data: Path) -> None:
        self.data, self.staging = str(data), str(data / ".tmp")
        for folder in (data / ".tmp", data / "calls", *(data / "docs" / stage for stage in STAGES)):
            folder.mkdir(parents=True)
        self.journal = os.open(data / "journal", NEW_FILE | os.O_APPEND, 0o444)

    def make_chain(self, item: Path, samples: list[Sample]) -> None:
        source = str(item)
        for sample in samples:
            source = self.make_document(source, sample)

    def make_document(self, source: str, sample: Sample) -> str:
        """Make one document of a file; return the path of its text."""
        digest = blake3(_read(source) + sample.stage.encode()).hexdigest()
        if sample.attempt:
            self.write_attempt(digest, sample.attempt)
            self.append_record(digest)
        folder = self.write_document(digest, sample)
        return os.path.join(folder, "parsed.txt")

    def append_record(self, digest: str) -> None:
        os.write(self.journal, _stamp(b" " * RECORD_BYTES, digest))

    def write_attempt(self, digest: str, files: dict[str, bytes]) -> None:
        shard = f"{self.data}/calls/{digest[:2]}"
        call_folder = f"{shard}/{digest[:ID_LENGTH]}"
        folder = f"{call_folder}/0001"
        if not os.path.isdir(shard):
            os.mkdir(shard)
            _flush_folder(os.path.dirname(shard))
        os.mkdir(call_folder)
        os.mkdir(folder)
        for name, how in ATTEMPT_STEPS.items():
            path = f"{folder}/{name}"
            first_path = f"{self.staging}/{digest[:ID_LENGTH]}-{name}" if how == PLACE else path
            _write(first_path, _stamp(files[name], digest))
            if how == PLACE:
                os.rename(first_path, path)
            _flush_folder(folder)
            if name == FIRST_FILE:
                _flush_folder(call_folder)
                _flush_folder(shard)

    def write_document(self, digest: str, sample: Sample) -> str:
        doc_id = digest[:ID_LENGTH]
        staged, final = f"{self.staging}/{doc_id}", f"{self.data}/docs/{sample.stage}/{doc_id}"
        os.mkdir(staged)
        for name, content in sample.document.items():
            _write(f"{staged}/{name}", _stamp(content, doc_id))
        _flush_folder(staged)
        os.rename(staged, final)
        _flush_folder(os.path.dirname(final))
        self.append_record(digest)
        os.fsync(self.journal)
        self.write_pointer(doc_id, sample)
        return final

    def write_pointer(self, doc_id: str, sample: Sample) -> None:
        """Write a file that can be made again: renamed into its place, and not flushed."""
        name = blake3(doc_id.encode()).hexdigest()
        folder = f"{self.data}/docs/{sample.stage}/_by_task/{name[:2]}"
        os.makedirs(folder, exist_ok=True)
        staged = f"{self.staging}/{doc_id}-pointer"
        descriptor = os.open(staged, NEW_FILE, 0o444)
        os.write(descriptor, sample.pointer)
        os.close(descriptor)
        os.rename(staged, f"{folder}/{name}.json")


def _stamp(content: bytes, digest: str) -> bytes:
    """Return as many bytes, other ones for each document; hash them, as Daybook hashes every file."""
    stamped = digest[:ID_LENGTH].encode() + content[ID_LENGTH:]
    blake3(stamped).hexdigest()
    return stamped


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, NEW_FILE, 0o444)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)


def _flush_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def read_samples(data: Path) -> list[Sample]:
    """Return the one document of each stage, with its attempt. Raises ValueError if ATTEMPT_STEPS is out of date."""
    samples = []
    for stage in STAGES:
        folder = next((data / "docs" / stage).glob("[0-9a-z]*"))
        names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == LAST_FILE, name))
        document = {name: (folder / name).read_bytes() for name in names}
        call_id = json.loads(document[LAST_FILE])["call_id"]
        pointer = next((data / "docs" / stage / "_by_task").glob("*/*.json")).read_bytes()
        samples.append(Sample(stage, document, _read_attempt(data, call_id) if call_id else {}, pointer))
    return samples


def _read_attempt(data: Path, call_id: str) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in (data / "calls" / call_id[:2] / call_id / "0001").iterdir()}
    if files.keys() != ATTEMPT_STEPS.keys():
        raise ValueError(f"An attempt has the files {sorted(files)}; benchmarks/floor.py writes {list(ATTEMPT_STEPS)}.")
    return files


def make_all(config: Path, sample: Path, data: Path) -> None:
    samples, floor = read_samples(sample), Floor(data)
    for item in sorted((config / "concepts" / "paragraph").iterdir()):
        floor.make_chain(item, samples)


if __name__ == "__main__":
    make_all(*map(Path, sys.argv[1:]))
