"""What leaves a store and what enters it is told in the journal, so a verification right after it is clean."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.backfill import backfill_store
from pipeline.bundles import export_bundle, import_bundle
from pipeline.comparison import Verification
from pipeline.errors import DocumentFailed
from pipeline.garbage import collect_garbage
from pipeline.making import make_document
from pipeline.removals import remove_document, undo_removal
from pipeline.settings import Roots
from pipeline.verification import verify
from pipeline.workspace import Workspace
from store.calls import IMPORTED_FILE
from store.data_root import DataRoot
from store.identity import digest_of, id_from_digest
from tests.pipeline.built_store import COHORT, build, copy_store
from tests.pipeline.test_backfill import VERSIONED, write_files
from tests.store.killed import is_killed_at

AGE, GRACE = timedelta(days=14), timedelta(days=30)
LATER = datetime.now(UTC) + timedelta(days=15)  # everything is old by then


@pytest.fixture
def roots(built, tmp_path) -> Roots:
    return copy_store(built, tmp_path)


@pytest.fixture
def data(roots) -> DataRoot:
    return DataRoot(roots.data)


@pytest.fixture(scope="module")
def bundle(built, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "first.tar"
    export_bundle(built, [COHORT], path)
    return path


def look(data_folder: Path, *, deep: bool = True) -> Verification:
    """Return what a new process finds."""
    return verify(DataRoot(data_folder), data_folder.parent / "config", deep=deep)


def assert_known_and_clean(data_folder: Path) -> None:
    """Nothing is damaged or missed, and the journal knows all there is."""
    found = look(data_folder)
    assert [judged.finding for judged in found.findings] == []
    assert (found.unrecorded_documents, found.unrecorded_attempts) == ([], [])


def collect(roots: Roots, **options: object):
    return collect_garbage(roots, apply=True, age=AGE, grace=GRACE, now=LATER, **options)  # type: ignore[arg-type]


def forget_the_cohort(roots: Roots) -> None:
    for path in (roots.data / "tasks" / COHORT).iterdir():
        path.unlink()


# Out, and back


def test_what_was_removed_is_not_missed_and_what_came_back_is_expected_again(roots, data):
    draft = data.documents.list_ids("draft")[0]

    removed = remove_document(data, draft, cascade=True)["removed"]
    assert_known_and_clean(roots.data)
    undo_removal(data)
    assert_known_and_clean(roots.data)

    stage, _, doc_id = removed[0].partition("/")
    shutil.rmtree(data.documents.folder_of(stage, doc_id))
    assert [judged.finding.kind for judged in look(roots.data).findings] == ["vanished"]


def test_what_was_collected_with_its_answers_is_not_missed_nor_when_it_is_back_or_deleted(roots, data):
    forget_the_cohort(roots)

    collect(roots, paid_answers=True)
    assert (list(data.documents.walk()), list(data.calls.walk())) == ([], [])
    assert_known_and_clean(roots.data)
    undo_removal(data)
    assert list(data.calls.walk()) != []
    assert_known_and_clean(roots.data)

    collect(roots, paid_answers=True)
    later = collect_garbage(roots, apply=True, age=AGE, grace=GRACE, now=LATER + 2 * GRACE, paid_answers=True)
    assert later["deleted"]["count"] > 10
    assert_known_and_clean(roots.data)


def test_damage_that_came_about_in_the_trash_is_found_when_it_is_back(roots, data):
    evaluation = data.documents.list_ids("evaluation")[0]
    entry = remove_document(data, evaluation, cascade=True)["entry"]
    raw = roots.data / "trash" / entry / "docs" / "evaluation" / evaluation / "raw.txt"
    raw.chmod(0o644)
    raw.write_bytes(raw.read_bytes()[::-1])

    undo_removal(data)

    kinds = {(judged.finding.kind, judged.finding.file) for judged in look(roots.data).findings}
    assert ("file_altered", "raw.txt") in kinds


def test_a_removed_document_that_was_made_again_is_expected_and_verified(roots, data):
    remove_document(data, data.documents.list_ids("draft")[0], cascade=True)

    build(roots)

    assert_known_and_clean(roots.data)
    shutil.rmtree(data.documents.folder_of("draft", data.documents.list_ids("draft")[0]))
    assert "vanished" in {judged.finding.kind for judged in look(roots.data).findings}


@pytest.mark.slow
def test_a_removal_or_a_return_that_is_killed_anywhere_leaves_nothing_that_seems_lost(roots, data, tmp_path):
    draft = data.documents.list_ids("draft")[0]
    for number in range(0, 400, 11):
        copy = copy_store(roots, tmp_path / str(number))

        was_killed = is_killed_at(number, lambda copy=copy: come_and_go(DataRoot(copy.data), draft))

        found = look(copy.data)
        assert [judged.finding for judged in found.findings] == []
        assert found.documents + len(list(copy.data.glob("trash/*/docs/*/*"))) == len(list(data.documents.walk()))
        if not was_killed:
            break
        shutil.rmtree(copy.data.parent)
    else:
        pytest.fail("it was killed at every number: the range is too short")


def come_and_go(data: DataRoot, draft: str) -> None:
    remove_document(data, draft, cascade=True)
    undo_removal(data)


@pytest.mark.slow
def test_a_collection_that_is_killed_anywhere_leaves_nothing_that_seems_lost(roots, tmp_path):
    forget_the_cohort(roots)
    for number in range(0, 800, 23):
        copy = copy_store(roots, tmp_path / str(number))

        was_killed = is_killed_at(number, lambda copy=copy: collect(copy, paid_answers=True))

        assert [judged.finding for judged in look(copy.data).findings] == []
        if not was_killed:
            break
        shutil.rmtree(copy.data.parent)
    else:
        pytest.fail("it was killed at every number: the range is too short")


# In


def test_what_a_bundle_brought_in_is_known_and_clean_and_would_be_missed(bundle, tmp_path):
    data = DataRoot(tmp_path / "data")

    import_bundle(data, bundle)

    assert_known_and_clean(data.path)
    call_id = next(data.calls.walk())
    shutil.rmtree(data.calls.folder_of(call_id))
    assert f"calls/{call_id[:2]}/{call_id}/0001" in {judged.finding.place for judged in look(data.path).findings}


@pytest.mark.slow
def test_an_import_that_is_killed_anywhere_leaves_a_store_that_is_clean(bundle, tmp_path):
    number = 0
    while True:
        data = DataRoot(tmp_path / str(number) / "data")
        was_killed = is_killed_at(number, lambda data=data: import_bundle(data, bundle))
        assert [judged.finding for judged in look(data.path).findings] == []
        if not was_killed:
            break
        number += 97
    assert number > 97


def test_an_attempt_under_another_number_than_it_had_is_no_damage(roots, data, bundle):
    """Its request and its outcome say the number that it had where it was made."""
    evaluation = data.documents.list_ids("evaluation")[0]
    call_id = data.documents.read("evaluation", evaluation).metadata["call_id"]
    folder = data.calls.folder_of(call_id) / "0001"
    request = json.loads((folder / "request.json").read_bytes())
    shutil.rmtree(folder)
    shutil.rmtree(data.journal.folder)
    other = {name: value for name, value in request.items() if name not in ("schema", "call_id", "attempt")}
    data.calls.begin(call_id, {**other, "run_id": "another"}).finish({"status": "gen_error", "reason": "timeout"})

    import_bundle(data, bundle)

    assert (folder.with_name("0002") / IMPORTED_FILE).exists()
    assert [judged.finding for judged in look(roots.data).findings] == []
    shutil.rmtree(data.journal.folder)  # without it each record is read by itself
    assert [judged.finding for judged in look(roots.data).findings] == []
    imported = folder.with_name("0002") / IMPORTED_FILE
    imported.chmod(0o644)
    imported.write_text("{")
    assert {judged.finding.kind for judged in look(roots.data).findings} == {"imported_invalid", "request_altered"}


def test_a_call_of_which_a_number_never_was_here_has_lost_nothing(roots, data, tmp_path):
    """Where it was made, its first attempt was torn by a crash; a bundle leaves that out."""
    evaluation = data.documents.list_ids("evaluation")[0]
    call_id = data.documents.read("evaluation", evaluation).metadata["call_id"]
    files = {path.name: path.read_bytes() for path in (data.calls.folder_of(call_id) / "0001").iterdir()}
    there = DataRoot(tmp_path / "there")
    for name in ("request.json", "outcome.json"):
        files[name] = files[name].replace(b'"attempt": 1', b'"attempt": 2')

    there.calls.bring_in(call_id, 2, files, origin={"bundle": "0" * 16})

    assert [judged.finding for judged in look(there.path).findings] == []


def test_what_an_old_store_gave_is_known_and_clean(data, tmp_path):
    new = DataRoot(tmp_path / "new" / "data")

    result = backfill_store(write_files(tmp_path / "old", VERSIONED), new)

    assert result["stages"]["draft"]["placed"] > 0
    assert_known_and_clean(new.path)
    shutil.rmtree(new.journal.folder)
    assert [judged.finding for judged in look(new.path).findings] == []


# Stores as they are


def test_a_store_from_before_the_journal_is_clean_and_says_that_nobody_vouches_for_it(roots, data):
    shutil.rmtree(data.journal.folder)

    found = look(roots.data)

    assert (found.state, found.findings) == ("clean", [])
    assert len(found.unrecorded_documents) == found.documents > 10


def test_every_folder_of_documents_is_checked_whatever_its_stage(roots, data):
    """Stages that no cohort has: a root by its bytes, and its child."""
    keys = []
    for stage in ("photograph", "caption"):
        parents = [
            {"stage": parent_stage, "doc_id": doc_id, "file": "text.txt", "blake3": blake3}
            for parent_stage, doc_id, blake3 in keys
        ]
        inputs = {"parents": [[parent["stage"], parent["doc_id"]] for parent in parents]}
        digest = digest_of(stage, inputs)
        metadata = {"digest": digest, "inputs": inputs, "parents": parents}
        made = data.documents.commit(stage, id_from_digest(digest), {"text.txt": stage.encode()}, metadata)
        keys.append((stage, made.doc_id, made.file_blake3("text.txt")))
    assert_known_and_clean(roots.data)

    text = data.documents.folder_of(*keys[0][:2]) / "text.txt"
    text.chmod(0o644)
    text.write_bytes(b"Photograph")

    found = {(judged.finding.kind, judged.finding.place.split("/")[1]) for judged in look(roots.data).findings}
    assert found == {("file_altered", "photograph"), ("parent_altered", "caption")}


def test_an_attempt_that_was_not_sent_because_it_held_a_key_is_no_damage(roots, monkeypatch):
    """Its request was recorded without the key, so it does not give the call_id."""
    monkeypatch.setenv("TRIAL_KEY", "secret-of-the-trial")
    models = roots.config / "models.toml"
    models.write_text(
        f'{models.read_text()}\n[keyed]\nmodel = "openai/keyed"\nmax_tokens = 5\napi_key_env = "TRIAL_KEY"\n'
    )
    concept = roots.config / "concepts" / "paragraph" / "tide.txt"
    concept.write_text("It is secret-of-the-trial.\n")
    workspace = Workspace(roots)
    plan = next(plan for plan in workspace.find_missing(COHORT) if plan.model)
    with pytest.raises(DocumentFailed, match="key_in_prompt"):
        make_document(workspace.maker, plan, cohort=COHORT)

    shutil.rmtree(workspace.data.journal.folder)

    assert [judged.finding for judged in look(roots.data).findings] == []


def test_a_table_that_a_person_edited_is_no_damage_and_stays(roots):
    table = roots.data / "tasks" / COHORT / "essay_tasks.csv"
    lines = table.read_text().splitlines(keepends=True)
    first, second = (line.split(",") for line in lines[1:3])
    table.write_text("".join([lines[0], ",".join([first[0], second[1], *first[2:]]), *lines[2:]]))

    assert [judged.finding for judged in look(roots.data).findings] == []
