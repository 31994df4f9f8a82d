"""A document is there whole or not at all, never changes, and says so when it is damaged."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from store.data_root import DataRoot
from store.documents import Document, hash_metadata
from store.errors import (
    DigestCollision,
    DocumentCorrupt,
    DocumentFileMissing,
    DocumentInvalid,
    DocumentMissing,
    NameInvalid,
    StoreNotUsable,
)
from store.identity import hash_bytes

DOC_ID = "0123456789abcdef"
DIGEST = "1" * 64
BYTES = {
    "raw.txt": b"line\r\nno newline \xef\xbb\xbf\xe2\x80\xa8\x00 at the end",
    "parsed.txt": b"",
    "extras/a.csv": b"x",
}


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return DataRoot(tmp_path)


@pytest.fixture
def document(data) -> Document:
    return data.documents.commit("draft", DOC_ID, BYTES, {"digest": DIGEST, "inputs": {"a": "é"}})


def test_bytes_come_out_as_they_went_in(data, document):
    found = data.documents.read_deeply("draft", DOC_ID)

    assert {name: found.read_bytes(name) for name in found.file_names} == BYTES
    assert found.read_text("raw.txt") == BYTES["raw.txt"].decode()


def test_metadata_lists_every_file_with_size_and_hash_and_carries_its_own_hash(document):
    metadata = json.loads((document.folder / "metadata.json").read_bytes())

    assert metadata["files"]["extras/a.csv"] == {"blake3": hash_bytes(b"x"), "size_bytes": 1}
    assert metadata["self_blake3"] == hash_metadata(metadata)
    assert (metadata["schema"], metadata["stage"], metadata["doc_id"]) == (1, "draft", DOC_ID)


def test_metadata_is_sorted_readable_utf8_with_a_newline_at_the_end(document):
    text = (document.folder / "metadata.json").read_text(encoding="utf-8")

    assert text.endswith("}\n")
    assert '  "inputs": {\n    "a": "é"\n  },' in text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_no_absolute_path_is_written(document, tmp_path):
    assert str(tmp_path) not in (document.folder / "metadata.json").read_text()


def test_the_content_id_depends_on_the_bytes_alone(data, document):
    other = data.documents.commit("essay", "f" * 16, BYTES, {"digest": "2" * 64, "inputs": {}})
    different = data.documents.commit("essay", "e" * 16, {"raw.txt": b"x"}, {"digest": "3" * 64, "inputs": {}})

    assert document.content_id == other.content_id != different.content_id


# What is missing, and what is damaged


def test_a_missing_document_is_not_present_and_raises_when_read(data):
    assert not data.documents.is_present("draft", DOC_ID)
    with pytest.raises(DocumentMissing) as caught:
        data.documents.read("draft", DOC_ID)

    assert (caught.value.stage, caught.value.doc_id) == ("draft", DOC_ID)
    assert caught.value.folder == data.path / "docs" / "draft" / DOC_ID
    assert f"draft/{DOC_ID}" in str(caught.value)


def test_a_file_that_a_document_does_not_have_is_named_with_those_it_has(document):
    with pytest.raises(DocumentFileMissing) as caught:
        document.read_bytes("prompt.txt")

    assert (caught.value.name, caught.value.names) == ("prompt.txt", sorted(BYTES))


def damage(folder: Path, name: str, content: bytes | None) -> None:
    path = folder / name
    if path.exists():
        path.chmod(0o644)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


METADATA_DAMAGES = {
    "gone": None,
    "empty": b"",
    "cut": b'{"schema": 1',
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "of another version": b'{"schema": 2}',
    "of another document": json.dumps({"schema": 1, "stage": "draft", "doc_id": "f" * 16}).encode(),
    "without its own hash": json.dumps({"schema": 1, "stage": "draft", "doc_id": DOC_ID, "digest": DIGEST}).encode(),
    "without files": json.dumps(
        {"schema": 1, "stage": "draft", "doc_id": DOC_ID, "digest": DIGEST, "self_blake3": ""}
    ).encode(),
    "with a file outside": json.dumps(
        {
            "schema": 1,
            "stage": "draft",
            "doc_id": DOC_ID,
            "digest": DIGEST,
            "self_blake3": "",
            "files": {"../../x": {"blake3": "", "size_bytes": 1}},
        }
    ).encode(),
}


@pytest.mark.parametrize("kind", METADATA_DAMAGES)
def test_a_document_whose_metadata_is_damaged_raises_and_never_counts_as_missing(kind, data, document):
    damage(document.folder, "metadata.json", METADATA_DAMAGES[kind])

    with pytest.raises(DocumentInvalid) as caught:
        data.documents.is_present("draft", DOC_ID)

    assert (caught.value.stage, caught.value.doc_id) == ("draft", DOC_ID)
    assert "metadata.json" in caught.value.problem
    assert str(document.folder) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("raw.txt", b"short", "5 bytes"),
        ("raw.txt", None, "no such file"),
        ("extras/a.csv", None, "no such file"),
        ("unlisted.txt", b"new", "3 bytes"),
        ("extras/unlisted", b"", "0 bytes"),
    ],
)
def test_the_quick_check_finds_files_cut_gone_and_added(name, content, found, data, document):
    damage(document.folder, name, content)

    with pytest.raises(DocumentCorrupt) as caught:
        data.documents.is_present("draft", DOC_ID)

    assert (caught.value.name, caught.value.found) == (name, found)


@pytest.mark.parametrize("name", [name for name in BYTES if BYTES[name]])
def test_the_deep_check_finds_one_flipped_bit_in_any_file(name, data, document):
    damage(document.folder, name, bytes([BYTES[name][0] ^ 1]) + BYTES[name][1:])

    assert data.documents.is_present("draft", DOC_ID)
    with pytest.raises(DocumentCorrupt) as caught:
        data.documents.read_deeply("draft", DOC_ID)
    assert caught.value.name == name
    with pytest.raises(DocumentCorrupt):
        data.documents.read("draft", DOC_ID).read_bytes(name)


def test_the_deep_check_finds_a_change_of_metadata(data, document):
    text = (document.folder / "metadata.json").read_bytes()
    damage(document.folder, "metadata.json", text.replace(DIGEST.encode(), b"2" * 64))

    with pytest.raises(DocumentCorrupt) as caught:
        data.documents.read_deeply("draft", DOC_ID)

    assert caught.value.name == "metadata.json"


def test_a_file_in_the_place_of_a_document_is_invalid_and_not_missing(data):
    folder = data.documents.folder_of("draft", DOC_ID)
    folder.parent.mkdir(parents=True)
    folder.write_bytes(b"")

    with pytest.raises(DocumentInvalid):
        data.documents.is_present("draft", DOC_ID)


def test_other_inputs_under_one_doc_id_fail_loudly(data, document):
    with pytest.raises(DigestCollision) as caught:
        data.documents.read("draft", DOC_ID, digest="2" * 64)

    assert (caught.value.planned, caught.value.found) == ("2" * 64, DIGEST)


# Borders


@pytest.mark.parametrize("stage", ["../x", "Draft", "", "a/b"])
def test_no_path_can_be_built_from_anything_but_a_stage(stage, data):
    with pytest.raises(NameInvalid):
        data.documents.folder_of(stage, DOC_ID)


@pytest.mark.parametrize("doc_id", ["../x", "", "0123456789ABCDEF", DOC_ID + "/..", DOC_ID + "\n"])
def test_no_path_can_be_built_from_anything_but_a_doc_id(doc_id, data):
    with pytest.raises(NameInvalid):
        data.documents.read("draft", doc_id)


def test_no_file_can_be_written_outside_a_document(data):
    with pytest.raises(NameInvalid):
        data.documents.commit("draft", DOC_ID, {"../../escape": b"x"}, {"digest": DIGEST, "inputs": {}})


def test_a_scan_lists_documents_and_passes_over_everything_else(data, document):
    stage_folder = data.path / "docs" / "draft"
    (stage_folder / "_by_task").mkdir()
    (stage_folder / "notes.txt").write_bytes(b"")
    (stage_folder / f"{DOC_ID}-luigi-tmp-1").mkdir()

    assert data.documents.list_ids("draft") == [DOC_ID]
    assert data.documents.list_ids("essay") == []
    assert list(data.documents.walk()) == [("draft", DOC_ID)]
    assert data.documents.find_ids("0123") == [("draft", DOC_ID)]


def test_a_data_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_bytes(b"")

    with pytest.raises(StoreNotUsable, match="not a folder"):
        DataRoot(tmp_path / "data").check_usable()


def test_a_temporary_folder_on_another_filesystem_is_refused(tmp_path):
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another filesystem here")
    (tmp_path / ".tmp").symlink_to(shm)

    with pytest.raises(StoreNotUsable, match="different filesystems"):
        DataRoot(tmp_path).check_usable()


# Races


def test_the_second_of_two_commits_changes_nothing_and_is_kept(data, document):
    second = data.documents.commit("draft", DOC_ID, {"raw.txt": b"another answer"}, {"digest": DIGEST, "inputs": {}})

    assert second.read_bytes("raw.txt") == BYTES["raw.txt"]
    (kept,) = (data.path / "quarantine" / "superseded" / "draft").glob("[0-9a-z]*")
    assert (kept / "raw.txt").read_bytes() == b"another answer"
    assert (kept / "metadata.json").exists()


def test_the_loser_of_a_race_learns_that_the_winner_is_damaged(data, document):
    damage(document.folder, "raw.txt", b"\0" * len(BYTES["raw.txt"]))

    with pytest.raises(DocumentCorrupt):
        data.documents.commit("draft", DOC_ID, BYTES, {"digest": DIGEST, "inputs": {}})


def commit_many(root: Path, number: int, start) -> None:
    data = DataRoot(root)
    start.wait()
    for index in range(30):
        content = {"raw.txt": f"{number} wrote {index}".encode()}
        data.documents.commit("draft", f"{index:016d}", content, {"digest": DIGEST, "inputs": {}})


def test_of_many_processes_on_one_id_one_wins_and_no_answer_is_lost(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    processes = [context.Process(target=commit_many, args=(tmp_path, number, start)) for number in range(3)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0

    data = DataRoot(tmp_path)
    winners = [
        data.documents.read_deeply("draft", doc_id).read_text("raw.txt") for doc_id in data.documents.list_ids("draft")
    ]
    losers = [path.read_text() for path in (tmp_path / "quarantine").rglob("raw.txt")]
    assert len(winners) == 30
    assert sorted(winners + losers) == sorted(f"{number} wrote {index}" for number in range(3) for index in range(30))
    assert list((tmp_path / ".tmp").iterdir()) == []
