"""A document that comes back, or from another store, is found by its task_id at once."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundles import export_bundle, import_bundle
from pipeline.removals import remove_document, undo_removal
from pipeline.settings import Roots
from store.data_root import DataRoot
from store.identity import digest_of, id_from_digest
from store.pointers import find_latest, verify_pointers

STAGE = "draft"


def commit(data: DataRoot, *, task_id: str, number: int) -> str:
    inputs = {"number": number}
    digest = digest_of(STAGE, inputs)
    doc_id = id_from_digest(digest)
    facts = {
        "digest": digest,
        "inputs": inputs,
        "task_id": task_id,
        "created_at": f"2026-11-2{number}T00:00:00.000000Z",
    }
    data.documents.commit(STAGE, doc_id, {"parsed.txt": b"text"}, {**facts, "parents": [], "call_id": None})
    return doc_id


def test_a_document_brought_back_is_the_latest_again(tmp_path):
    data = DataRoot(tmp_path / "data")
    commit(data, task_id="one", number=1)
    later = commit(data, task_id="one", number=2)
    remove_document(data, later, cascade=True)
    earlier = find_latest(data.documents, STAGE, "one")
    assert earlier is not None
    assert earlier.doc_id != later

    undo_removal(data)

    found = find_latest(data.documents, STAGE, "one")
    assert found is not None
    assert found.doc_id == later
    assert list(verify_pointers(data.documents)) == []


def test_a_document_of_a_bundle_is_the_latest_if_it_is(tmp_path: Path):
    source, data = DataRoot(tmp_path / "source"), DataRoot(tmp_path / "data")
    commit(data, task_id="one", number=1)
    later = commit(source, task_id="one", number=2)
    assert find_latest(data.documents, STAGE, "one") is not None
    export_bundle(Roots(source.path, tmp_path / "config"), [later], tmp_path / "b.tar")

    import_bundle(data, tmp_path / "b.tar")

    found = find_latest(data.documents, STAGE, "one")
    assert found is not None
    assert found.doc_id == later
    assert list(verify_pointers(data.documents)) == []
