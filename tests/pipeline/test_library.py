"""A program reads documents by id, by name or all of them, and never damaged text."""

from __future__ import annotations

import shutil

import pytest

from pipeline.errors import UnknownName
from pipeline.library import Library
from pipeline.making import make_document
from pipeline.planning import DocumentPlan
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from store.errors import DocumentCorrupt, DocumentMissing, NameInvalid
from tests.pipeline.config_folder import write_config


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """Drafts and their essays."""
    write_config(tmp_path)
    workspace = Workspace(Roots(tmp_path / "data", tmp_path / "config"))
    for stage in (Stage.DRAFT, Stage.ESSAY):
        for plan in workspace.plan("first").rows[stage]:
            make_document(workspace.maker, plan, cohort="first")
    return workspace


@pytest.fixture
def library(workspace) -> Library:
    return Library(workspace.roots.data)


def first_row(workspace: Workspace, stage: Stage, name: str) -> DocumentPlan:
    return next(row for row in workspace.plan("first").rows[stage] if name in row.task_id)


def test_the_latest_document_of_a_name_and_the_one_of_an_id_are_the_same(library, workspace):
    row = first_row(workspace, Stage.ESSAY, "plain")

    latest = library.read_latest("essay", row.task_id)

    assert latest == library.read_document("essay", row.doc_id)
    assert library.read_prompt(latest) == library.read_raw(latest) == library.read_parsed(latest) != ""


def test_the_latest_follows_an_edit_of_the_template(library, workspace, tmp_path):
    before = first_row(workspace, Stage.DRAFT, "list")
    write_config(tmp_path, {"templates/draft/list.txt": "Another text."})
    edited = Workspace(workspace.roots)
    after = first_row(edited, Stage.DRAFT, "list")
    make_document(edited.maker, after, cohort="first")

    assert before.task_id == after.task_id
    assert library.read_latest("draft", before.task_id).doc_id == after.doc_id != before.doc_id


def test_a_copy_has_no_prompt_and_no_answer(library, workspace):
    document = library.read_latest("essay", first_row(workspace, Stage.ESSAY, "same").task_id)

    assert library.read_prompt(document) is None
    assert library.read_raw(document) is None
    assert library.read_parsed(document)


def test_a_walk_yields_every_document_and_no_pointer(library, workspace):
    expected = [(str(plan.stage), plan.doc_id) for plan in workspace.plan("first").walk() if plan.stage != "evaluation"]

    assert [(document.stage, document.doc_id) for document in library.walk()] == sorted(expected)
    assert list(library.walk_ids("essay")) == sorted(key for key in expected if key[0] == "essay")
    assert list(library.walk("export")) == []


def test_what_is_not_there_is_an_error(library):
    with pytest.raises(UnknownName, match="never"):
        library.read_latest("draft", "never")
    with pytest.raises(DocumentMissing):
        library.read_document("draft", "0" * 16)
    with pytest.raises(NameInvalid):
        library.read_document("draft", "_by_task")


def test_an_altered_text_is_an_error_and_not_a_text(library, workspace):
    row = first_row(workspace, Stage.ESSAY, "plain")
    path = workspace.data.documents.folder_of("essay", row.doc_id) / "parsed.txt"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[::-1])

    with pytest.raises(DocumentCorrupt):
        library.read_parsed(library.read_document("essay", row.doc_id))


def test_reading_needs_nothing_but_the_documents(library, workspace):
    row = first_row(workspace, Stage.ESSAY, "plain")
    for folder in (workspace.roots.config, workspace.roots.data / "calls", workspace.roots.data / "texts"):
        shutil.rmtree(folder)

    assert library.read_latest("essay", row.task_id).doc_id == row.doc_id
