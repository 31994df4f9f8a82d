"""A file too big to be in memory becomes part of a document as any other: whole, durably, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from store import durable, flushing
from store.data_root import DataRoot
from store.documents import PIECE_BYTES, Document
from store.errors import DocumentCorrupt, WriteFailed
from store.identity import hash_bytes

DOC_ID = "0123456789abcdef"
METADATA = {"digest": "1" * 64, "inputs": {}}
PIECES = [b"a" * PIECE_BYTES, b"", b"b" * 17]
CONTENT = b"".join(PIECES)


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return DataRoot(tmp_path)


def commit_pieces(data: DataRoot, doc_id: str = DOC_ID) -> Document:
    with data.documents.stage_file(PIECES) as staged:
        return data.documents.commit("export", doc_id, {"content.bin": staged, "note.txt": b"beside"}, METADATA)


def test_a_staged_file_is_a_file_of_the_document_with_its_size_and_hash(data):
    document = commit_pieces(data)

    record = data.documents.read_deeply("export", DOC_ID).metadata["files"]["content.bin"]
    assert record == {"blake3": hash_bytes(CONTENT), "size_bytes": len(CONTENT)}
    assert document.read_bytes("content.bin") == CONTENT
    assert (document.folder / "content.bin").stat().st_mode & 0o777 == 0o444
    with document.open("content.bin") as file:
        assert file.read() == CONTENT


def test_nothing_is_left_of_a_staged_file_whether_it_was_committed_or_not(data):
    commit_pieces(data)
    with data.documents.stage_file(PIECES) as staged:
        assert staged.blake3 == hash_bytes(CONTENT)

    assert list(data.temporary_folder.iterdir()) == []


def test_a_source_that_breaks_off_leaves_no_document_and_no_file(data):
    def break_off():
        yield b"the beginning"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output"), data.documents.stage_file(break_off()):
        pass

    assert list(data.temporary_folder.iterdir()) == []
    assert data.documents.list_ids("export") == []


def test_the_slower_of_two_is_kept_beside(data):
    commit_pieces(data)

    second = commit_pieces(data)

    assert second.read_bytes("content.bin") == CONTENT
    (kept,) = (data.path / "quarantine" / "superseded" / "export").iterdir()
    assert (kept / "content.bin").read_bytes() == CONTENT


def test_a_full_disk_is_told_as_such_and_leaves_no_document(data, monkeypatch):
    def refuse(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(WriteFailed, match="No space left"):
        commit_pieces(data)

    assert data.documents.list_ids("export") == []
    assert list(data.temporary_folder.iterdir()) == []


@pytest.mark.parametrize("place", [0, PIECE_BYTES + 3])
def test_a_flipped_bit_anywhere_in_a_big_file_is_found(data, place):
    path = commit_pieces(data).folder / "content.bin"
    content = bytearray(CONTENT)
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)

    with pytest.raises(DocumentCorrupt, match=r"content\.bin"):
        data.documents.read_deeply("export", DOC_ID)


def test_a_file_that_is_being_staged_is_held_so_that_nobody_takes_it_for_left_behind(data):
    with data.documents.stage_file([b"a"]):
        (staged,) = data.temporary_folder.iterdir()

        with staged.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# Many documents with the flushes of one


def commit_many(data: DataRoot, text: bytes, doc_ids: list[str]) -> None:
    data.documents.commit_all("conversation", {doc_id: ({"a.txt": text}, METADATA) for doc_id in doc_ids})


def test_documents_that_are_committed_together_are_documents_as_any_other(data):
    doc_ids = [f"{number:016d}" for number in range(5)]
    commit_many(data, b"x", doc_ids)

    together = data.documents.read_deeply("conversation", doc_ids[3])
    alone = data.documents.commit("conversation", "9" * 16, {"a.txt": b"x"}, METADATA)
    assert data.documents.list_ids("conversation") == sorted([*doc_ids, "9" * 16])
    assert {**together.metadata, "doc_id": "", "self_blake3": ""} == {**alone.metadata, "doc_id": "", "self_blake3": ""}
    assert list(data.temporary_folder.iterdir()) == []


def test_of_two_batches_the_faster_documents_stay_and_the_slower_are_kept_beside(data):
    first, shared = f"{1:016d}", f"{2:016d}"
    commit_many(data, b"faster", [shared])
    commit_many(data, b"slower", [first, shared])

    assert data.documents.read_deeply("conversation", shared).read_bytes("a.txt") == b"faster"
    assert data.documents.read_deeply("conversation", first).read_bytes("a.txt") == b"slower"
    (kept,) = (data.path / "quarantine" / "superseded" / "conversation").iterdir()
    assert (kept / "a.txt").read_bytes() == b"slower"


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_commit_in_steps_is_one_only_at_its_end_which_another_thread_may_reach(is_shared, data, monkeypatch):
    monkeypatch.setattr(flushing, "can_share", lambda device: is_shared)
    monkeypatch.setattr(flushing, "_shared_by_device", {})
    doc_ids = [f"{number:016d}" for number in range(durable.BATCH_FROM)]
    steps = data.documents.commit_in_steps("conversation", {each: ({"a.txt": b"x"}, METADATA) for each in doc_ids})

    next(steps)
    before = data.documents.list_ids("conversation"), len(list(data.temporary_folder.iterdir()))
    with ThreadPoolExecutor(1) as thread:
        thread.submit(list, steps).result()

    assert before == ([], len(doc_ids) if is_shared else 0)  # written so far as nothing waits for each file
    assert [data.documents.read_deeply("conversation", each).doc_id for each in doc_ids] == doc_ids
    assert data.documents.list_ids("conversation") == doc_ids


def test_no_documents_are_no_work(data):
    commit_many(data, b"x", [])

    assert list(data.path.iterdir()) == []
