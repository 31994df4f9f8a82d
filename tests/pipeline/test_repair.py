"""What is damaged is mended from what is on disk: no model is asked, nothing is deleted, every byte is as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundles import export_bundle, open_source
from pipeline.errors import BundleInvalid
from pipeline.repair import Repaired, Repairer
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from store.documents import METADATA_FILE
from store.errors import DocumentCorrupt, DocumentInvalid
from store.identity import hash_bytes
from store.journal import Event, read_records
from tests.pipeline.test_verification import ATTEMPT_DAMAGES, EVALUATION_DAMAGES
from tests.pipeline.whole_store import (
    COHORT,
    find_attempt_folder,
    find_folder,
    flip,
    make_store,
    reopen,
    tell,
    verify_store,
    write_over,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make_store(folder)
    return folder


@pytest.fixture
def workspace(made, tmp_path) -> Workspace:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


def report_folder(workspace: Workspace) -> Path:
    return workspace.data.documents.folder_of(Stage.REPORT, workspace.report_id(COHORT))


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("a model was asked")


def open_repairer(workspace: Workspace, **options: Any) -> Repairer:
    """Return what repairs a store, as a new process; to ask a model fails the test."""
    fresh = reopen(workspace)
    fresh.maker = replace(fresh.maker, ask=refuse)
    return Repairer(fresh, verify_store(fresh), **options)


def repair(workspace: Workspace, **options: Any) -> list[Repaired]:
    repairer = open_repairer(workspace, **options)
    return list(repairer.apply(repairer.plan()))


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def list_hashes(workspace: Workspace) -> set[str]:
    """Return the hashes of all files of the data folder, wherever they lie, but for pointers."""
    paths = (path for path in workspace.data.path.rglob("*") if path.is_file() and "_by_task" not in path.parts)
    return {hash_bytes(path.read_bytes()) for path in paths}


def count_attempts(workspace: Workspace) -> int:
    return len(list(workspace.data.calls.root.glob("*/*/*/request.json")))


@pytest.mark.parametrize("name", EVALUATION_DAMAGES)
def test_each_damage_of_a_document_is_mended_from_the_ledger(workspace, name):
    folder = find_folder(workspace, Stage.EVALUATION)
    texts = {name: content for name, content in read_files(folder).items() if name != METADATA_FILE}
    content_id = workspace.data.documents.read("evaluation", folder.name).content_id
    attempts = count_attempts(workspace)
    EVALUATION_DAMAGES[name][0](folder)
    left = list_hashes(workspace)

    done = repair(workspace)

    assert all(one.problem == "" and one.repair.cost_usd == 0 for one in done)
    assert verify_store(reopen(workspace)).findings == [] or name == "a link in the place of the folder"
    assert {name: content for name, content in read_files(folder).items() if name != METADATA_FILE} == texts
    assert workspace.data.documents.read_deeply("evaluation", folder.name).content_id == content_id
    assert count_attempts(workspace) == attempts
    assert left <= list_hashes(workspace)  # what was there before is there still, somewhere


def test_a_dry_run_changes_nothing(workspace):
    flip(find_folder(workspace, Stage.EVALUATION) / "raw.txt")
    shutil.rmtree(find_folder(workspace, Stage.ESSAY, "plain"))
    before = read_files(workspace.data.path)

    repairs = open_repairer(workspace).plan()

    assert {repair.how for repair in repairs} == {"restore", "make_again"}
    assert read_files(workspace.data.path) == before


def test_a_restored_document_is_the_same_to_the_last_byte(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    before = read_files(folder)
    for name in ("prompt.txt", "raw.txt", "parsed.txt"):
        flip(folder / name)

    (done,) = repair(workspace)

    assert (done.repair.how, done.problem) == ("restore", "")
    assert read_files(folder) == before


def test_a_copy_is_mended_from_its_parent(workspace):
    folder = find_folder(workspace, Stage.ESSAY, "same")
    before = read_files(folder)
    flip(folder / "parsed.txt")

    (done,) = repair(workspace)

    assert done.repair.how == "restore"
    assert read_files(folder) == before


def test_a_chain_of_which_all_is_gone_is_made_again_parents_first(workspace):
    folders = [find_folder(workspace, stage, "tide") for stage in (Stage.DRAFT, Stage.ESSAY, Stage.EVALUATION)]
    before = [read_files(folder)["parsed.txt"] for folder in folders]
    for folder in folders:
        shutil.rmtree(folder)

    done = repair(workspace)

    assert [one.repair.how for one in done] == ["make_again"] * 3
    assert [read_files(folder)["parsed.txt"] for folder in folders] == before
    assert verify_store(reopen(workspace)).state == "clean"


def test_a_report_is_made_again(workspace):
    (folder,) = (workspace.data.documents.root / "report").glob("[0-9a-z]*")
    before = read_files(folder)
    flip(folder / "extras" / "report.html", 500)

    done = repair(workspace)

    assert [(one.repair.how, one.problem) for one in done] == [("make_again", "")]
    assert read_files(folder)["extras/report.html"] == before["extras/report.html"]


def test_what_is_set_aside_lies_in_quarantine_with_its_reason_and_can_be_moved_back(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    flip(folder / "raw.txt")
    damaged = read_files(folder)

    repair(workspace)

    (wrapper,) = (workspace.data.path / "quarantine" / "damaged").iterdir()
    reason = json.loads((wrapper / "reason.json").read_bytes())
    assert reason["place"] == f"docs/draft/{folder.name}"
    assert [(finding["kind"], finding["file"]) for finding in reason["findings"]] == [("file_altered", "raw.txt")]
    assert read_files(wrapper / folder.name) == damaged
    last = [record for record in workspace.data.journal.read()[0] if record.event == Event.QUARANTINED]
    assert [(record.facts["doc_id"], record.facts["kept"]) for record in last] == [
        (folder.name, f"quarantine/damaged/{wrapper.name}")
    ]


def test_a_document_that_was_set_aside_comes_back_when_its_bytes_are_found_later(workspace, bundle):
    """Its children are here, so it is missed, although it was moved away on purpose."""
    essay = find_folder(workspace, Stage.ESSAY, "plain")
    shutil.rmtree(find_attempt_folder(workspace, essay).parent)
    write_over(essay / METADATA_FILE, b"{}")
    repair(workspace)
    assert ("vanished", f"docs/essay/{essay.name}", "lost") in tell(verify_store(reopen(workspace)))

    with open_source(bundle) as source:
        fresh = reopen(workspace)
        repairer = Repairer(fresh, verify_store(fresh, sources=(source,)), (source,))
        done = list(repairer.apply(repairer.plan()))

    assert [each.problem for each in done] == ["", ""]
    assert verify_store(reopen(workspace)).state == "clean"


def test_a_document_beyond_repair_is_set_aside_and_its_price_is_told(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    attempt = find_attempt_folder(workspace, folder)
    journal = workspace.data.journal
    record = next(one for one in journal.read()[0] if one.facts.get("call_id") == attempt.parent.name)
    journal.append(Event.ATTEMPTED, **{**record.facts, "usd": 0.25})
    flip(folder / "raw.txt")
    shutil.rmtree(attempt.parent)

    done = {one.repair.place: one.repair for one in repair(workspace)}

    mended = done[f"docs/draft/{folder.name}"]
    assert (mended.how, mended.cost_usd) == ("set_aside", 0.25)
    assert mended.is_loss
    assert not folder.exists()
    assert done[str(attempt.relative_to(workspace.data.path))].how == "leave"


def test_bytes_that_a_source_has_are_taken_and_others_are_not(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    before = read_files(folder)
    flip(folder / "raw.txt")
    shutil.rmtree(find_attempt_folder(workspace, folder).parent)
    by_hash = {hash_bytes(content): content for content in before.values()}
    place = f"docs/draft/{folder.name}"

    def plan(source) -> str:
        return next(one.how for one in open_repairer(workspace, sources=[source]).plan() if one.place == place)

    assert plan(lambda _: b"something else") == "set_aside"
    assert plan(by_hash.get) == "restore"

    repair(workspace, sources=[by_hash.get])
    assert read_files(folder) == before


def test_a_copy_that_was_superseded_is_a_source(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    before = read_files(folder)
    shutil.copytree(folder, workspace.data.quarantine_folder / "superseded" / "draft" / f"{folder.name}.host.1.ab")
    shutil.rmtree(find_attempt_folder(workspace, folder).parent)
    flip(folder / "raw.txt")

    repair(workspace)

    assert read_files(folder) == before


@pytest.mark.parametrize("name", [name for name in ATTEMPT_DAMAGES if "outcome" in name])
def test_an_outcome_is_read_again_from_the_bytes_of_the_response(workspace, name):
    attempt = find_attempt_folder(workspace, find_folder(workspace, Stage.DRAFT))
    text = json.loads((attempt / "outcome.json").read_bytes())["text"]
    ATTEMPT_DAMAGES[name][0](attempt)

    (done,) = repair(workspace)

    assert (done.repair.how, done.problem) == ("interpret_again", "")
    outcome = json.loads((attempt / "outcome.json").read_bytes())
    assert (outcome["status"], outcome["text"]) == ("ok", text)
    assert verify_store(reopen(workspace)).state == "clean"


@pytest.mark.parametrize("name", [name for name in ATTEMPT_DAMAGES if "outcome" not in name])
def test_what_is_left_of_a_damaged_attempt_stays_where_it_answers_the_call(workspace, name):
    attempt = find_attempt_folder(workspace, find_folder(workspace, Stage.DRAFT))
    ATTEMPT_DAMAGES[name][0](attempt)
    before = read_files(attempt) if attempt.exists() else None

    done = repair(workspace)

    assert {one.repair.how for one in done} == {"leave"}
    assert (read_files(attempt) if attempt.exists() else None) == before


def test_an_outcome_of_which_the_response_is_broken_too_is_set_aside_so_that_the_call_can_be_made(workspace):
    attempt = find_attempt_folder(workspace, find_folder(workspace, Stage.DRAFT))
    write_over(attempt / "outcome.json", b"{")
    write_over(attempt / "response.bin", b"no answer")

    (done,) = repair(workspace)

    assert done.repair.how == "set_aside"
    assert workspace.data.calls.list_attempts(attempt.parent.name) == []


def test_a_damaged_journal_keeps_every_whole_record(workspace):
    (path,) = workspace.data.journal.list_paths()
    records = read_records(path)[0]
    flip(path, 100)

    repair(workspace)

    after, gaps = workspace.data.journal.read()
    assert gaps == []
    kept = [(record.event, record.at, record.facts) for record in after]
    assert all((record.event, record.at, record.facts) in kept for record in records[1:])
    assert verify_store(reopen(workspace)).state == "clean"


def test_sound_documents_that_the_journal_does_not_know_are_recorded(workspace):
    shutil.rmtree(workspace.data.journal.folder)

    (done,) = repair(workspace)

    assert done.repair.how == "record"
    shutil.rmtree(find_folder(workspace, Stage.EVALUATION))
    assert any(kind == "vanished" for kind, _, _ in tell(verify_store(reopen(workspace))))


def test_tables_texts_pointers_and_stray_names_are_mended(workspace):
    table = workspace.data.tasks_folder / COHORT / "draft_tasks.csv"
    before, text = table.read_bytes(), sorted(workspace.data.texts.root.glob("*/*.txt"))[0]
    write_over(table, b"\xff")
    flip(text)
    pointer = workspace.data.documents.root / "draft" / "_by_task" / "ab" / "1.json"
    pointer.parent.mkdir(parents=True)
    pointer.write_text("{")
    (workspace.data.documents.root / "draft" / "notes.txt").write_text("mine")

    done = repair(workspace)

    assert {(one.repair.place.split("/")[0], one.repair.how, one.problem) for one in done} == {
        ("tasks", "rewrite", ""),
        ("texts", "restore", ""),
        ("docs", "set_aside", ""),
        ("pointers", "rewrite", ""),
    }
    assert table.read_bytes() == before
    assert verify_store(reopen(workspace)).state == "clean"


def test_a_damaged_table_is_no_reason_to_give_a_document_up(workspace):
    """Tables are derived: documents are made again in the same run, also those that nobody else could plan."""
    shutil.rmtree(find_folder(workspace, Stage.ESSAY, "plain"))
    shutil.rmtree(report_folder(workspace))
    write_over(workspace.data.tasks_folder / COHORT / "essay_tasks.csv", b"doc_id,\n")

    repairer = open_repairer(workspace)
    repairs = repairer.plan()

    assert {repair.how for repair in repairs} == {"make_again", "rewrite"}
    assert [done.problem for done in repairer.apply(repairs)] == [""] * len(repairs)
    assert verify_store(reopen(workspace)).state == "clean"


def test_a_report_is_not_called_made_while_its_documents_are_missing(workspace):
    """Over what is there another report would be made, and the one that vanished would be as missing as before."""
    essay, report = find_folder(workspace, Stage.ESSAY, "plain"), report_folder(workspace)
    shutil.rmtree(report)
    repairer = open_repairer(workspace)
    repairs = repairer.plan()
    shutil.rmtree(essay)

    (done,) = repairer.apply(repairs)

    assert essay.name in done.problem
    assert not report.exists()


def test_a_child_of_a_parent_that_nobody_knows_is_left_and_told(workspace):
    """As when one stage of an old store was brought in without the one before it."""
    draft = find_folder(workspace, Stage.DRAFT, "tide")
    shutil.rmtree(draft)
    shutil.rmtree(workspace.data.journal.folder)

    repairs = open_repairer(workspace).plan()

    left = {repair.place.split("/")[1] for repair in repairs if repair.how == "leave"}
    assert left == {"essay", "report"}
    assert all(repair.is_loss for repair in repairs if repair.how == "leave")


def test_one_repair_that_fails_does_not_stop_the_next(workspace):
    folders = [find_folder(workspace, Stage.DRAFT, name) for name in ("tide", "moat")]
    for folder in folders:
        flip(folder / "raw.txt")
    repairer = open_repairer(workspace)
    repairs = repairer.plan()
    shutil.rmtree(workspace.data.path / repairs[0].place)

    done = list(repairer.apply(repairs))

    assert [bool(one.problem) for one in done] == [True, False]


def test_a_document_is_not_put_back_with_other_bytes_or_over_another(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    files = read_files(folder)

    with pytest.raises(DocumentInvalid, match="put back"):
        workspace.data.documents.restore("draft", folder.name, files)
    shutil.rmtree(folder)
    with pytest.raises(DocumentCorrupt):
        workspace.data.documents.restore("draft", folder.name, {**files, "raw.txt": b"other"})

    assert not folder.exists()
    workspace.data.documents.restore("draft", folder.name, files)
    assert read_files(folder) == files


def test_a_document_whose_making_would_take_another_call_is_not_made(workspace):
    """The parent holds other bytes now, so its prompt is another: the answer in the ledger is not one to it."""
    draft, essay = find_folder(workspace, Stage.DRAFT, "tide"), find_folder(workspace, Stage.ESSAY, "tide__synthesis")
    metadata = json.loads((draft / METADATA_FILE).read_bytes())
    shutil.rmtree(draft)
    shutil.rmtree(essay)
    workspace.data.documents.commit("draft", draft.name, {"parsed.txt": b"made anew"}, metadata)
    attempts = count_attempts(workspace)

    done = {one.repair.place: one for one in repair(workspace)}

    assert "was not asked" in done[f"docs/essay/{essay.name}"].problem
    assert count_attempts(workspace) == attempts


# From a bundle


@pytest.fixture
def bundle(made, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "first.tar.zst"
    export_bundle(Roots(made / "data", made / "config"), [COHORT], path)
    return path


@pytest.mark.parametrize("name", ATTEMPT_DAMAGES)
def test_a_damaged_attempt_has_its_bytes_again_from_a_bundle(workspace, bundle, name):
    attempt = find_attempt_folder(workspace, find_folder(workspace, Stage.DRAFT))
    before = read_files(attempt)
    ATTEMPT_DAMAGES[name][0](attempt)
    left = list_hashes(workspace)

    with open_source(bundle) as source:
        found = verify_store(reopen(workspace), sources=(source,))
        done = repair(workspace, sources=[source])

    assert {one.state for one in found.findings if one.finding.place.startswith("calls/")} == {"repairable"}
    assert {(one.repair.how, one.problem) for one in done} == {("restore", "")}
    assert read_files(attempt) == before
    assert verify_store(reopen(workspace)).state == "clean"
    assert left <= list_hashes(workspace)


@pytest.mark.parametrize("name", EVALUATION_DAMAGES)
def test_a_damaged_document_is_the_same_to_the_last_byte_from_a_bundle(workspace, bundle, name):
    folder = find_folder(workspace, Stage.EVALUATION)
    before = read_files(folder)
    EVALUATION_DAMAGES[name][0](folder)

    with open_source(bundle) as source:
        done = repair(workspace, sources=[source])

    assert all(one.problem == "" for one in done)
    assert read_files(folder) == before


def test_an_unreadable_bundle_is_no_source(tmp_path):
    (tmp_path / "b.tar").write_bytes(b"no bundle")

    with pytest.raises(BundleInvalid), open_source(tmp_path / "b.tar"):
        pass


# Pointers


def test_pointers_that_name_nothing_or_are_torn_are_made_again(workspace):
    documents = workspace.data.documents
    torn, dangling = sorted((documents.root / "draft" / "_by_task").glob("*/*.json"))[:2]
    before = {path: path.read_bytes() for path in (torn, dangling)}
    write_over(torn, before[torn][:20])
    write_over(dangling, before[dangling].replace(json.loads(before[dangling])["doc_id"].encode(), b"0" * 16))

    (done,) = repair(workspace)

    assert (done.repair.how, done.repair.place, done.problem) == ("rewrite", "pointers", "")
    assert {path: path.read_bytes() for path in (torn, dangling)} == before


def test_after_a_document_is_set_aside_no_pointer_names_it(workspace):
    folder = find_folder(workspace, Stage.DRAFT)
    shutil.rmtree(find_attempt_folder(workspace, folder).parent)
    write_over(folder / METADATA_FILE, b"{")

    repair(workspace)

    assert not folder.exists()
    assert not [kind for kind, _, _ in tell(verify_store(reopen(workspace))) if kind.startswith("pointer")]


def test_a_table_that_a_person_edited_is_not_taken_for_damage(workspace):
    table = workspace.data.tasks_folder / COHORT / "draft_tasks.csv"
    edited = b"".join(table.read_bytes().splitlines(keepends=True)[:2])
    write_over(table, edited)

    assert repair(workspace) == []
    assert table.read_bytes() == edited
