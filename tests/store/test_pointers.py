"""The latest document of a task_id is found fast where the pointer is true, and found anyway where it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from store.data_root import DataRoot
from store.durable import commit_folder
from store.errors import DocumentCorrupt, DocumentInvalid
from store.identity import hash_bytes
from store.pointers import find_latest, point_to, rebuild_pointers, scan_stage, verify_pointers

TASK_ID = "tide__plain__echo__1"
OLD, NEW, OTHER = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture
def data(tmp_path) -> DataRoot:
    """Two documents of one task_id, and one of another."""
    data = DataRoot(tmp_path / "data")
    commit(data, OLD, day=1)
    commit(data, NEW, day=2)
    commit(data, OTHER, day=1, task_id="other")
    return data


def commit(data: DataRoot, doc_id: str, *, day: int, task_id: object = TASK_ID):
    metadata = {"digest": "1" * 64, "task_id": task_id, "created_at": f"2026-01-0{day}T00:00:00.000000Z"}
    return data.documents.commit("draft", doc_id, {"parsed.txt": doc_id.encode()}, metadata)


def pointer_path(data: DataRoot, task_id: str = TASK_ID) -> Path:
    key = hash_bytes(task_id.encode())
    return data.path / "docs" / "draft" / "_by_task" / key[:2] / f"{key}.json"


def write_pointer(data: DataRoot, content: bytes, task_id: str = TASK_ID) -> None:
    path = pointer_path(data, task_id)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def make_pointer(doc_id: str, *, day: int, task_id: str = TASK_ID) -> bytes:
    created_at = f"2026-01-0{day}T00:00:00.000000Z"
    return json.dumps({"created_at": created_at, "doc_id": doc_id, "task_id": task_id}).encode() + b"\n"


def read_pointers(data: DataRoot) -> dict[str, bytes]:
    paths = (data.path / "docs").glob("*/_by_task/*/*")
    return {str(path.relative_to(data.path)): path.read_bytes() for path in paths}


def latest_id(data: DataRoot, task_id: str = TASK_ID) -> str | None:
    document = find_latest(data.documents, "draft", task_id)
    return document and document.doc_id


def test_each_commit_leaves_a_pointer_to_the_latest_document_of_its_task_id(data):
    assert pointer_path(data).read_bytes() == make_pointer(NEW, day=2)
    assert latest_id(data) == NEW
    assert latest_id(data, "other") == OTHER


def test_an_older_document_that_is_committed_later_does_not_move_the_pointer_back(data):
    commit(data, "0" * 16, day=1)

    assert latest_id(data) == NEW
    assert pointer_path(data).read_bytes() == make_pointer(NEW, day=2)


def test_of_two_documents_of_one_moment_the_higher_doc_id_is_the_latest(data):
    commit(data, "9" * 16, day=3)
    commit(data, "z" * 16, day=3)
    commit(data, "5" * 16, day=3)

    assert scan_stage(data.documents, "draft").pointers[TASK_ID].doc_id == "z" * 16
    assert latest_id(data) == "z" * 16


def test_a_true_pointer_is_answered_without_a_look_at_the_other_documents(data, monkeypatch):
    looked: list[str] = []
    read = data.documents.read_metadata
    monkeypatch.setattr(
        data.documents, "read_metadata", lambda stage, doc_id: looked.append(doc_id) or read(stage, doc_id)
    )

    assert latest_id(data) == NEW
    assert looked == [NEW]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty, as after a power cut"),
        pytest.param(make_pointer(NEW, day=2)[:40], id="half a pointer"),
        pytest.param(b"\xff\x00garbage", id="garbage"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"[]", id="no object"),
        pytest.param(make_pointer("f" * 16, day=9), id="a document that is not there"),
        pytest.param(make_pointer("../../../x", day=9), id="a path"),
        pytest.param(make_pointer(OTHER, day=1), id="a document of another task_id"),
        pytest.param(make_pointer(OLD, day=3), id="a time that the document does not have"),
        pytest.param(make_pointer(OTHER, day=1, task_id="other"), id="the pointer of another task_id"),
    ],
)
def test_a_pointer_that_is_not_true_is_answered_by_a_scan_and_mended(content, data):
    write_pointer(data, content)

    assert latest_id(data) == NEW
    assert pointer_path(data).read_bytes() == make_pointer(NEW, day=2)


def test_without_any_pointer_everything_is_found_and_the_pointer_is_there_again(data):
    shutil.rmtree(data.path / "docs" / "draft" / "_by_task")

    assert latest_id(data) == NEW
    assert pointer_path(data).exists()
    assert not pointer_path(data, "other").exists()


def test_a_pointer_to_a_document_that_was_moved_away_leads_to_the_one_before(data):
    shutil.rmtree(data.path / "docs" / "draft" / NEW)

    assert latest_id(data) == OLD


def test_a_task_id_of_which_nothing_is_left_has_no_document_and_no_pointer(data):
    shutil.rmtree(data.path / "docs" / "draft" / OTHER)

    assert latest_id(data, "other") is None
    assert latest_id(data, "never") is None
    assert not pointer_path(data, "other").exists()


def test_a_process_that_dies_between_commit_and_pointer_leaves_no_old_pointer(data, monkeypatch):
    def die(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(data.documents.pointers, "point", die)
    with pytest.raises(KeyboardInterrupt):
        commit(data, "d" * 16, day=3)

    assert not pointer_path(data).exists()
    assert latest_id(DataRoot(data.path)) == "d" * 16


def test_a_document_is_committed_although_its_pointer_cannot_be_written(data):
    shutil.rmtree(data.path / "docs" / "draft" / "_by_task")
    (data.path / "docs" / "draft" / "_by_task").write_bytes(b"in the way")

    document = commit(data, "d" * 16, day=3)

    assert data.documents.read("draft", document.doc_id).doc_id == document.doc_id
    assert latest_id(data) == "d" * 16


def test_a_damaged_latest_document_is_an_error_and_not_an_older_one(data):
    (data.path / "docs" / "draft" / NEW / "parsed.txt").unlink()

    with pytest.raises(DocumentCorrupt):
        latest_id(data)
    shutil.rmtree(data.path / "docs" / "draft" / "_by_task")
    with pytest.raises(DocumentCorrupt):
        latest_id(data)


@pytest.mark.parametrize("task_id", [None, 7, "", "Gezeiten \u00fc"])
def test_any_task_id_can_be_committed(task_id, tmp_path):
    data = DataRoot(tmp_path)

    document = commit(data, OLD, day=1, task_id=task_id)

    if isinstance(task_id, str):
        assert latest_id(data, task_id) == document.doc_id


def test_the_loser_of_a_race_points_to_the_winner(data, tmp_path):
    content = {name: (data.path / "docs" / "draft" / NEW / name).read_bytes() for name in ("parsed.txt",)}
    pointer_path(data).unlink()

    document = data.documents.commit(
        "draft", NEW, content, {"digest": "1" * 64, "task_id": TASK_ID, "created_at": "2026-01-09T00:00:00.000000Z"}
    )

    assert document.metadata["created_at"] == "2026-01-02T00:00:00.000000Z"
    assert pointer_path(data).read_bytes() == make_pointer(NEW, day=2)


# Rebuild and verify


def test_a_rebuild_gives_the_same_bytes_every_time_and_those_of_the_commits(data):
    written = read_pointers(data)
    shutil.rmtree(data.path / "docs" / "draft" / "_by_task")

    first = rebuild_pointers(data.documents)
    rebuilt = read_pointers(data)
    second = rebuild_pointers(data.documents)

    assert read_pointers(data) == rebuilt == written
    assert first == (0, 2, 0, 0)
    assert second == (2, 0, 0, 0)


def test_verify_names_every_kind_of_drift_and_a_rebuild_ends_it(data):
    commit(data, "d" * 16, day=1, task_id="damaged")
    commit(data, "e" * 16, day=1, task_id="missing")
    write_pointer(data, make_pointer(OLD, day=1))
    write_pointer(data, b"{", "damaged")
    pointer_path(data, "missing").unlink()
    write_pointer(data, make_pointer(OLD, day=1, task_id="never"), "never")

    drifts = {(drift.problem, drift.task_id, drift.doc_id) for drift in verify_pointers(data.documents)}
    rebuild_pointers(data.documents)

    assert drifts == {
        ("stale", TASK_ID, NEW),
        ("damaged", "damaged", "d" * 16),
        ("missing", "missing", "e" * 16),
        ("stray", None, None),
    }
    assert list(verify_pointers(data.documents)) == []
    assert latest_id(data) == NEW


def test_verify_changes_nothing(data):
    write_pointer(data, b"{")
    before = read_pointers(data)

    list(verify_pointers(data.documents))

    assert read_pointers(data) == before


def test_a_document_whose_metadata_cannot_be_read_is_counted_and_does_not_stop_a_rebuild(data):
    path = data.path / "docs" / "draft" / OLD / "metadata.json"
    path.unlink()
    path.write_bytes(b"{")

    counts = rebuild_pointers(data.documents)

    assert counts.unreadable == 1
    assert latest_id(data) == NEW
    with pytest.raises(DocumentInvalid):
        data.documents.read_metadata("draft", OLD)


def test_a_folder_that_came_by_another_way_than_a_commit_can_be_pointed_to(data):
    """As from a restored backup: no pointer was written for it."""
    source = data.path / "docs" / "draft" / OLD
    metadata = json.loads((source / "metadata.json").read_bytes()) | {"task_id": "restored", "doc_id": "d" * 16}
    files = {"parsed.txt": (source / "parsed.txt").read_bytes(), "metadata.json": json.dumps(metadata).encode()}
    commit_folder(files, data.path / "docs" / "draft" / ("d" * 16), temporary_folder=data.temporary_folder)

    assert [drift.problem for drift in verify_pointers(data.documents)] == ["missing"]
    point_to(data.documents, "draft", "d" * 16)
    assert list(verify_pointers(data.documents)) == []
