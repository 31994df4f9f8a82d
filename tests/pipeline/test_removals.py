"""A document is removed with what was made from it or not at all, and comes back whole."""

from __future__ import annotations

import pytest

from pipeline.errors import InputInvalid, UnknownName
from pipeline.removals import list_removals, remove_document, undo_removal
from pipeline.settings import Roots
from store.data_root import DataRoot
from tests.pipeline.built_store import build, copy_store, read_tree


@pytest.fixture
def roots(built, tmp_path) -> Roots:
    return copy_store(built, tmp_path)


@pytest.fixture
def data(roots) -> DataRoot:
    return DataRoot(roots.data)


def test_a_document_with_children_is_not_removed_alone(data):
    essay = data.documents.list_ids("essay")[0]

    with pytest.raises(InputInvalid, match="--cascade"):
        remove_document(data, essay, cascade=False)
    assert data.documents.is_present("essay", essay)


def test_with_cascade_the_descendants_go_first_and_all_come_back(data):
    before = read_tree(data.path / "docs")
    draft = data.documents.list_ids("draft")[0]

    removed = remove_document(data, f"draft/{draft}", cascade=True)
    left = read_tree(data.path / "docs")
    restored = undo_removal(data)

    stages = [name.partition("/")[0] for name in removed["removed"]]
    assert stages[-1] == "draft"
    assert stages.index("essay") > max(index for index, stage in enumerate(stages) if stage == "report")
    for name in removed["removed"]:
        assert not any(path.startswith(f"{name}/") for path in left)
    assert sorted(restored["restored"]) == sorted(removed["removed"])
    assert read_tree(data.path / "docs") == before


def test_every_descendant_is_found_and_nothing_else_goes(data):
    draft = data.documents.list_ids("draft")[0]
    others = {key for key in data.documents.walk() if key[0] == "draft" and key[1] != draft}

    removed = remove_document(data, draft, cascade=True)

    for stage, doc_id in data.documents.walk():
        parents = {parent["doc_id"] for parent in data.documents.read(stage, doc_id).metadata["parents"]}
        assert not parents & {name.rpartition("/")[2] for name in removed["removed"]}
    assert others <= set(data.documents.walk())


def test_a_removed_document_is_made_again_without_a_call(roots, data):
    evaluation = data.documents.list_ids("evaluation")[0]
    calls = read_tree(data.path / "calls")
    raw = data.documents.read("evaluation", evaluation).read_bytes("raw.txt")

    remove_document(data, evaluation, cascade=True)
    build(roots)

    assert data.documents.read("evaluation", evaluation).read_bytes("raw.txt") == raw
    assert read_tree(data.path / "calls") == calls


def test_what_was_made_again_meanwhile_stays_and_so_does_what_was_removed(roots, data):
    evaluation = data.documents.list_ids("evaluation")[0]
    removed = remove_document(data, evaluation, cascade=True)
    build(roots)

    restored = undo_removal(data, removed["entry"])

    assert f"evaluation/{evaluation}" in restored["occupied"]
    assert list_removals(data)[0]["entry"] == removed["entry"]


def test_a_damaged_document_can_be_removed(data):
    essay = data.documents.list_ids("essay")[0]
    (data.documents.folder_of("essay", essay) / "metadata.json").chmod(0o644)
    (data.documents.folder_of("essay", essay) / "metadata.json").write_bytes(b"")

    removed = remove_document(data, essay, cascade=True)

    assert f"essay/{essay}" in removed["removed"]


def test_an_unknown_document_or_entry_is_named_with_those_that_there_are(data):
    with pytest.raises(UnknownName, match="zzzz"):
        remove_document(data, "zzzz", cascade=True)
    with pytest.raises(InputInvalid, match="The trash is empty"):
        undo_removal(data)


def test_a_beginning_of_several_doc_ids_is_not_enough(data):
    shared = next(
        letter for letter in "0123456789abcdefghijklmnopqrstuvwxyz" if len(data.documents.find_ids(letter)) > 1
    )

    with pytest.raises(InputInvalid, match="Expected more characters"):
        remove_document(data, shared, cascade=True)
