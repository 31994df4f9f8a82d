"""What is found complete once is found so with one look, until anything that it rests on has changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.completeness import CLOCK_TICK_NS, find_complete, read_record
from pipeline.making import make_document
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from store.errors import DocumentCorrupt, DocumentInvalid
from tests.pipeline.built_store import SCORED, copy_store
from tests.pipeline.config_folder import write_config

COHORT = "first"


@pytest.fixture
def roots(built, tmp_path) -> Roots:
    """A complete cohort, and its record."""
    roots = copy_store(built, tmp_path)
    time.sleep(2 * CLOCK_TICK_NS / 1e9)  # files that are newer than this are not trusted to have new time stamps
    build(roots)
    return roots


def build(roots: Roots) -> Workspace:
    workspace = Workspace(roots)
    workspace.write_tables(COHORT)
    for plan in workspace.find_missing(COHORT):
        make_document(workspace.maker, plan, cohort=COHORT)
    make_report(workspace, COHORT)
    workspace.record_completeness(COHORT)
    return workspace


def is_complete(roots: Roots) -> bool:
    return find_complete(roots, COHORT, Workspace(roots).data.documents) is not None


def a_document(roots: Roots) -> Path:
    return next((roots.data / "docs" / "essay").glob("[0-9a-z]*"))


def edit_a_template(roots: Roots) -> None:
    path = roots.config / "templates" / "essay" / "plain.txt"
    path.write_text(path.read_text() + "And briefly.\n")


def swap_two_letters_and_put_the_time_back(roots: Roots) -> None:
    path = roots.config / "templates" / "essay" / "plain.txt"
    found = path.stat()
    path.write_text(path.read_text().replace("Make", "Maek"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def remove_a_task_table(roots: Roots) -> None:
    (roots.data / "tasks" / COHORT / "essay_tasks.csv").unlink()


def remove_a_document(roots: Roots) -> None:
    a_document(roots).rename(roots.data / "moved-away")


def remove_the_report(roots: Roots) -> None:
    next((roots.data / "docs" / "report").glob("[0-9a-z]*")).rename(roots.data / "moved-away")


def remove_a_file_of_a_document(roots: Roots) -> None:
    (a_document(roots) / "parsed.txt").unlink()


def cut_the_record(roots: Roots) -> None:
    path = roots.data / "tasks" / COHORT / "complete.json"
    path.write_bytes(path.read_bytes()[:-20])


CHANGES = [
    edit_a_template,
    swap_two_letters_and_put_the_time_back,
    remove_a_task_table,
    remove_a_document,
    remove_the_report,
    remove_a_file_of_a_document,
    cut_the_record,
]


def test_a_complete_cohort_is_found_so(roots):
    assert is_complete(roots)


@pytest.mark.parametrize("change", CHANGES)
def test_after_any_change_a_closer_look_is_taken(change, roots):
    change(roots)

    assert not is_complete(roots)


@pytest.mark.parametrize("change", [remove_a_task_table, remove_a_document, remove_the_report, cut_the_record])
def test_building_again_makes_the_record_true_again(change, roots):
    change(roots)
    build(roots)

    assert is_complete(roots)


def test_an_incomplete_cohort_leaves_no_record(tmp_path):
    roots = Roots(tmp_path / "data", write_config(tmp_path, SCORED))
    workspace = Workspace(roots)
    workspace.write_tables(COHORT)
    make_report(workspace, COHORT)

    workspace.record_completeness(COHORT)

    assert read_record(roots, COHORT) is None


def test_a_configuration_edited_while_it_was_used_leaves_no_record(tmp_path):
    roots = Roots(tmp_path / "data", write_config(tmp_path, SCORED))
    time.sleep(2 * CLOCK_TICK_NS / 1e9)
    workspace = Workspace(roots)
    workspace.plan(COHORT)
    edit_a_template(roots)
    for plan in workspace.find_missing(COHORT):
        make_document(workspace.maker, plan, cohort=COHORT)
    make_report(workspace, COHORT)

    workspace.record_completeness(COHORT)

    assert read_record(roots, COHORT) is None


@pytest.mark.parametrize(("name", "error"), [("parsed.txt", DocumentCorrupt), ("metadata.json", DocumentInvalid)])
def test_a_document_that_lost_a_file_is_damaged_and_not_missing(name, error, roots):
    (a_document(roots) / name).unlink()

    with pytest.raises(error):
        Workspace(roots).find_missing(COHORT)


def test_documents_that_have_not_changed_since_are_not_opened_again(roots, monkeypatch):
    workspace = Workspace(roots)
    workspace.plan(COHORT)
    monkeypatch.setattr("store.documents.read_file", lambda path: pytest.fail(f"{path} was read"))

    assert workspace.find_missing(COHORT) == []
