"""Whatever is broken is found, named as what it is, and told apart from what it breaks further on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import check_workers, comparison
from pipeline.check_workers import Batch, CheckWorkers, start_workers
from pipeline.checks import check_document
from pipeline.repair import Repairer
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.verification import verify
from pipeline.workspace import Workspace
from store.documents import METADATA_FILE
from store.identity import hash_bytes
from store.journal import Event
from tests.pipeline.whole_store import (
    COHORT,
    find_attempt_folder,
    find_folder,
    flip,
    forge,
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
    """A copy of one store, so that it is made once."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


def place_of(workspace: Workspace, path: Path) -> str:
    return str(path.relative_to(workspace.data.path))


def own_findings(workspace: Workspace, place: str, **options) -> set[tuple[str, str, str]]:
    """Return what was found at a place, its files without the place."""
    found = tell(verify_store(reopen(workspace), **options))
    return {
        (kind, name.removeprefix(place).lstrip("/"), state) for kind, name, state in found if name.startswith(place)
    }


def test_a_whole_store_is_clean(workspace):
    for deep in (True, False):
        found = verify_store(workspace, deep=deep)
        assert (found.state, found.findings, found.unrecorded_documents) == ("clean", [], [])
        assert (found.documents, found.attempts) == (11, found.calls)
        assert found.unfinished_attempts == 0


# Documents

EVALUATION_DAMAGES: dict[str, tuple[Callable[[Path], object], set[tuple[str, str, str]]]] = {
    "a bit of the prompt": (lambda folder: flip(folder / "prompt.txt"), {("file_altered", "prompt.txt", "repairable")}),
    "a bit of the answer": (lambda folder: flip(folder / "raw.txt"), {("file_altered", "raw.txt", "repairable")}),
    "a bit of the parsed text": (
        lambda folder: flip(folder / "parsed.txt", 0),
        {("file_altered", "parsed.txt", "repairable")},
    ),
    "an empty file": (lambda folder: write_over(folder / "raw.txt", b""), {("file_altered", "raw.txt", "repairable")}),
    "a removed file": (lambda folder: (folder / "raw.txt").unlink(), {("file_missing", "raw.txt", "repairable")}),
    "an added file": (
        lambda folder: (folder / "extra.txt").write_bytes(b"x"),
        {("file_added", "extra.txt", "repairable")},
    ),
    "two swapped files": (
        lambda folder: swap(folder / "raw.txt", folder / "parsed.txt"),
        {("file_altered", "raw.txt", "repairable"), ("file_altered", "parsed.txt", "repairable")},
    ),
    "a link in the place of a file": (
        lambda folder: link(folder / "raw.txt"),
        {("file_altered", "raw.txt", "repairable")},
    ),
    "a bit of a value in the metadata": (
        lambda folder: replace_in(folder / METADATA_FILE, b'"replicate": 1', b'"replicate": 3'),
        {("metadata_altered", METADATA_FILE, "repairable")},
    ),
    "metadata cut short": (
        lambda folder: write_over(folder / METADATA_FILE, (folder / METADATA_FILE).read_bytes()[:100]),
        {("metadata_invalid", METADATA_FILE, "repairable")},
    ),
    "no metadata": (
        lambda folder: (folder / METADATA_FILE).unlink(),
        {("metadata_missing", METADATA_FILE, "repairable")},
    ),
    "an empty folder": (lambda folder: empty(folder), {("metadata_missing", METADATA_FILE, "repairable")}),
    "metadata of another schema": (
        lambda folder: forge(folder, schema=7),
        {("metadata_invalid", METADATA_FILE, "repairable")},
    ),
    "inputs forged with a hash that fits": (
        lambda folder: forge(folder, inputs={"replicate": 9}),
        {("inputs_altered", METADATA_FILE, "repairable")},
    ),
    "a score forged with a hash that fits": (
        lambda folder: forge(folder, score={"value": 10}),
        {("metadata_altered", METADATA_FILE, "repairable")},
    ),
    "the whole folder gone": (lambda folder: shutil.rmtree(folder), {("vanished", "", "repairable")}),
    "a file in the place of the folder": (
        lambda folder: (shutil.rmtree(folder), folder.write_bytes(b"x")),
        {("not_a_folder", "", "repairable")},
    ),
    "a link in the place of the folder": (
        lambda folder: (folder.rename(folder.with_name("moved")), folder.symlink_to("moved")),
        {("not_a_folder", "", "repairable")},
    ),
}


def swap(a: Path, b: Path) -> None:
    contents = a.read_bytes(), b.read_bytes()
    write_over(a, contents[1])
    write_over(b, contents[0])


def link(path: Path) -> None:
    moved = path.parent.parent / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) >= 1
    write_over(path, content.replace(old, new, 1))


@pytest.mark.parametrize("name", EVALUATION_DAMAGES)
def test_each_damage_of_a_document_is_named(workspace, name):
    damage, expected = EVALUATION_DAMAGES[name]
    folder = find_folder(workspace, Stage.EVALUATION)

    damage(folder)

    assert own_findings(workspace, place_of(workspace, folder)) == expected


@pytest.mark.parametrize("name", ["prompt.txt", "raw.txt", "parsed.txt", METADATA_FILE])
def test_a_flipped_bit_anywhere_in_a_document_is_found_and_its_file_named(workspace, name):
    folder = find_folder(workspace, Stage.EVALUATION)
    content = (folder / name).read_bytes()

    for position in range(0, len(content), 7):
        flip(folder / name, position)
        checked = check_document(str(workspace.data.path), "evaluation", folder.name, deep=True)
        assert [finding.file for finding in checked.findings] == [name], position
        write_over(folder / name, content)


def test_a_quick_verification_sees_sizes_and_not_bytes(workspace):
    folder = find_folder(workspace, Stage.EVALUATION)
    flip(folder / "raw.txt")
    assert own_findings(workspace, place_of(workspace, folder), deep=False) == set()

    write_over(folder / "raw.txt", b"")

    assert own_findings(workspace, place_of(workspace, folder), deep=False) == {
        ("file_altered", "raw.txt", "repairable")
    }


def test_two_documents_whose_folders_were_swapped_are_both_found(workspace):
    folders = [find_folder(workspace, Stage.DRAFT, name) for name in ("tide", "moat")]
    aside = folders[0].with_name("aside")
    folders[0].rename(aside)
    folders[1].rename(folders[0])
    aside.rename(folders[1])

    for folder in folders:
        assert ("metadata_invalid", METADATA_FILE, "repairable") in own_findings(workspace, place_of(workspace, folder))


def test_a_document_put_in_the_place_of_another_with_all_hashes_right_is_found(workspace):
    """Files, metadata, own hash and id agree; only the journal knows what was committed."""
    folder = find_folder(workspace, Stage.DRAFT, "tide")
    write_over(folder / "parsed.txt", b"forged")
    record = json.loads((folder / METADATA_FILE).read_bytes())["files"]
    forge(folder, files={**record, "parsed.txt": {"blake3": hash_bytes(b"forged"), "size_bytes": 6}})

    found = own_findings(workspace, place_of(workspace, folder))

    assert found == {("metadata_altered", METADATA_FILE, "repairable")}


def test_a_stray_name_among_the_documents_is_found(workspace):
    (workspace.data.documents.root / "draft" / "notes.txt").write_text("mine")

    assert tell(verify_store(workspace)) == {("not_a_document", "docs/draft/notes.txt", "repairable")}


# Children and parents


def parent_findings(workspace: Workspace, child: Path) -> set[tuple[str, str, str]]:
    return {one for one in own_findings(workspace, place_of(workspace, child)) if one[0].startswith("parent_")}


def test_a_missing_an_altered_and_a_stale_parent_are_told_apart(workspace):
    essay = find_folder(workspace, Stage.ESSAY, "tide__synthesis__small__1__plain")
    draft = find_folder(workspace, Stage.DRAFT, "tide")
    kept = draft.with_name("kept")
    shutil.copytree(draft, kept)

    flip(draft / "parsed.txt")
    assert parent_findings(workspace, essay) == {("parent_altered", "parsed.txt", "repairable")}

    shutil.rmtree(draft)
    assert parent_findings(workspace, essay) == {("parent_missing", "parsed.txt", "repairable")}

    metadata = json.loads((kept / METADATA_FILE).read_bytes())
    digest = {name: metadata[name] for name in ("digest", "inputs", "call_id", "attempt")}
    workspace.data.documents.commit("draft", draft.name, {"parsed.txt": b"made anew"}, digest)
    shutil.rmtree(kept)
    assert parent_findings(workspace, essay) == {("parent_stale", "parsed.txt", "lost")}


def test_a_child_of_a_parent_that_nobody_knows_any_more_has_lost_something(workspace):
    essay = find_folder(workspace, Stage.ESSAY, "tide__synthesis__small__1__plain")
    draft = find_folder(workspace, Stage.DRAFT, "tide")
    shutil.rmtree(draft)
    shutil.rmtree(workspace.data.journal.folder)

    found = verify_store(reopen(workspace))

    assert ("parent_missing", f"{place_of(workspace, essay)}/parsed.txt", "lost") in tell(found)
    assert found.state == "lost"


# Calls

ATTEMPT_DAMAGES: dict[str, tuple[Callable[[Path], object], set[tuple[str, str, str]]]] = {
    "a bit of the prompt that was sent": (
        lambda folder: replace_in(folder / "request.json", b"Combine", b"Cambine"),
        {("request_altered", "request.json", "lost")},
    ),
    "a bit of a field outside the identity": (
        lambda folder: replace_in(folder / "request.json", b'"pid": ', b'"pid": 1'),
        {("request_altered", "request.json", "lost")},
    ),
    "a request that is no JSON": (
        lambda folder: write_over(folder / "request.json", b"{"),
        {("request_invalid", "request.json", "lost")},
    ),
    "a removed request": (
        lambda folder: (folder / "request.json").unlink(),
        {("request_missing", "request.json", "lost")},
    ),
    "a bit of the response": (
        lambda folder: flip(folder / "response.bin"),
        {("response_altered", "response.bin", "lost")},
    ),
    "a response cut short": (
        lambda folder: write_over(folder / "response.bin", b"{"),
        {("response_altered", "response.bin", "lost")},
    ),
    "a removed response": (
        lambda folder: (folder / "response.bin").unlink(),
        {("response_missing", "response.bin", "lost")},
    ),
    "a bit of the text in the outcome": (
        lambda folder: replace_in(folder / "outcome.json", b"Combine", b"Cambine"),
        {("outcome_altered", "outcome.json", "repairable")},
    ),
    "an outcome that is no JSON": (
        lambda folder: write_over(folder / "outcome.json", b"{"),
        {("outcome_invalid", "outcome.json", "repairable")},
    ),
    "a removed outcome": (
        lambda folder: (folder / "outcome.json").unlink(),
        {("outcome_missing", "outcome.json", "repairable")},
    ),
    "the whole attempt gone": (lambda folder: shutil.rmtree(folder), {("vanished", "", "lost")}),
    "the whole call gone": (lambda folder: shutil.rmtree(folder.parent), {("vanished", "", "lost")}),
}


@pytest.mark.parametrize("name", ATTEMPT_DAMAGES)
def test_each_damage_of_an_attempt_is_named(workspace, name):
    damage, expected = ATTEMPT_DAMAGES[name]
    draft = find_folder(workspace, Stage.DRAFT, "tide")
    attempt = find_attempt_folder(workspace, draft)

    damage(attempt)

    assert own_findings(workspace, place_of(workspace, attempt)) == expected
    is_gone = not attempt.exists()
    assert (("answer_missing", "", "lost") in own_findings(workspace, place_of(workspace, draft))) is is_gone


def test_a_number_left_out_among_the_attempts_is_a_lost_attempt_without_a_journal_too(workspace):
    draft = find_folder(workspace, Stage.DRAFT, "tide")
    attempt = find_attempt_folder(workspace, draft)
    shutil.copytree(attempt, attempt.with_name("0003"))
    shutil.rmtree(workspace.data.journal.folder)

    found = own_findings(workspace, place_of(workspace, attempt.with_name("0002")))

    assert found == {("vanished", "", "lost")}


def test_what_a_killed_process_leaves_in_the_ledger_is_no_damage(workspace):
    call_id = "0123456789abcdef"
    workspace.data.calls.begin(call_id, {"messages": []})
    workspace.data.calls.begin(call_id, {"messages": []}).keep(b"half an ans")
    third = workspace.data.calls.folder_of(call_id) / "0003"
    third.mkdir()
    (workspace.data.calls.folder_of(call_id) / "0004").mkdir()
    (third.with_name("0004") / "request.json").write_bytes(b"")

    found = verify_store(workspace)

    assert found.state == "clean"
    assert found.unfinished_attempts == 4


# Texts, journal, tables, pointers


def test_an_altered_text_is_found(workspace):
    text = sorted(workspace.data.texts.root.glob("*/*.txt"))[0]
    flip(text)

    assert tell(verify_store(workspace)) == {("text_altered", place_of(workspace, text), "repairable")}


def test_a_torn_end_of_the_journal_is_told_and_is_no_damage(workspace):
    (path,) = workspace.data.journal.list_paths()
    write_over(path, path.read_bytes() + b'000000ff 12ab {"ev')

    found = verify_store(workspace)

    assert (found.state, found.torn_records) == ("clean", 1)


def test_damage_within_the_journal_is_found_and_the_rest_of_it_is_read(workspace):
    (path,) = workspace.data.journal.list_paths()
    flip(path, 100)
    shutil.rmtree(find_folder(workspace, Stage.EVALUATION))

    kinds = {kind for kind, _, _ in tell(verify_store(workspace))}

    assert {"journal_damaged", "vanished"} <= kinds


def test_documents_that_the_journal_does_not_know_are_counted(workspace):
    shutil.rmtree(workspace.data.journal.folder)

    found = verify_store(reopen(workspace))

    assert found.state == "clean"
    assert len(found.unrecorded_documents) == found.documents == 11


def test_a_document_that_was_moved_away_on_purpose_is_not_missed(workspace):
    """Nothing was made from a report."""
    folder = workspace.data.documents.folder_of(Stage.REPORT, workspace.report_id(COHORT))
    workspace.data.journal.append(Event.REMOVED, stage="report", doc_id=folder.name)
    shutil.rmtree(folder)

    assert not any(name == place_of(workspace, folder) for _, name, _ in tell(verify_store(reopen(workspace))))


def test_a_table_that_does_not_fit_the_store_is_found(workspace):
    draft = workspace.data.tasks_folder / "first" / "draft_tasks.csv"
    essay = draft.with_name("essay_tasks.csv")
    ids = [find_folder(workspace, Stage.DRAFT, name).name.encode() for name in ("tide", "moat")]
    write_over(essay, essay.read_bytes().replace(ids[0], ids[1]))
    essay.with_name("written.json").unlink()  # which says whose tables they are
    assert {(kind, name) for kind, name, _ in tell(verify_store(workspace))} == {
        ("table_invalid", "tasks/first/essay_tasks.csv")
    }

    write_over(draft, b"\xff")

    assert ("table_invalid", "tasks/first/draft_tasks.csv", "repairable") in tell(verify_store(workspace))


def test_pointers_to_nothing_and_broken_ones_are_found(workspace):
    folder = workspace.data.documents.root / "draft" / "_by_task" / "ab"
    folder.mkdir(parents=True)
    good = find_folder(workspace, Stage.DRAFT).name
    (folder / "1.json").write_text(json.dumps({"doc_id": good, "task_id": "t"}))
    (folder / "2.json").write_text(json.dumps({"doc_id": "0" * 16, "task_id": "t"}))
    (folder / "3.json").write_text('{"doc_id": ')

    assert tell(verify_store(workspace)) == {
        ("pointer_dangling", "docs/draft/_by_task/ab/2.json", "repairable"),
        ("pointer_invalid", "docs/draft/_by_task/ab/3.json", "repairable"),
    }


# Going on, being interrupted, many processes


def test_everything_is_found_in_one_run_and_an_unreadable_file_stops_nothing(workspace):
    """A folder in the place of a file gives an error when it is read, as a bad disk does."""
    essay, evaluation = find_folder(workspace, Stage.ESSAY, "plain"), find_folder(workspace, Stage.EVALUATION)
    (essay / "raw.txt").unlink()
    (essay / "raw.txt").mkdir()
    flip(evaluation / "raw.txt")
    flip(find_attempt_folder(workspace, evaluation) / "response.bin")

    found = tell(verify_store(workspace))

    assert ("unreadable", f"{place_of(workspace, essay)}/raw.txt", "repairable") in found
    assert ("file_altered", f"{place_of(workspace, evaluation)}/raw.txt", "repairable") in found
    assert any(kind == "response_altered" for kind, _, _ in found)


@pytest.mark.parametrize("place", ["docs/draft", "docs", "calls", "journal", "texts", "tasks"])
def test_a_folder_that_cannot_be_read_is_told_and_nothing_in_it_is_taken_for_gone(place, workspace, monkeypatch):
    """As another user meets it; a test that runs as root has to be told."""
    closed = str(workspace.data.path / place)
    real_list, real_look = os.listdir, os.lstat

    def refuse_inside(path):
        if os.fspath(path).startswith(closed) if isinstance(path, str | os.PathLike) else False:
            raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(os, "listdir", lambda path=".": (refuse_inside(path), real_list(path))[1])
    monkeypatch.setattr(os, "lstat", lambda path, **options: (refuse_inside(path), real_look(path, **options))[1])
    found = verify_store(workspace)

    assert ("unreadable", place, "lost") in tell(found)
    assert not {"vanished", "answer_missing", "parent_missing"} & {kind for kind, _, _ in tell(found)}
    assert all(repair.how != "set_aside" for repair in Repairer(workspace, found).plan())


def test_a_store_that_can_only_be_read_is_verified(workspace, monkeypatch):
    """As on a disk that is mounted to be read: no note can be written, and none removed."""

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)

    assert verify_store(workspace).state == "clean"


def test_a_document_of_a_later_version_is_told_and_no_repair_touches_it(workspace):
    """The journal of that version knows it: no bit has flipped."""
    essay = find_folder(workspace, Stage.ESSAY, "plain")
    shutil.rmtree(workspace.data.journal.folder)
    forge(essay, schema=7)

    found = verify_store(reopen(workspace))

    assert ("metadata_newer", f"{place_of(workspace, essay)}/metadata.json", "lost") in tell(found)
    ways = {repair.place: repair.how for repair in Repairer(reopen(workspace), found).plan()}
    assert ways[place_of(workspace, essay)] == "leave"


def test_an_unreadable_journal_file_costs_no_other(workspace):
    """A folder in its place gives an error when it is read, as a bad disk does."""
    (workspace.data.journal.folder / "20200101T000000-bad-1-00000000.journal").mkdir()

    found = verify_store(workspace)

    assert {(kind, state) for kind, _, state in tell(found)} == {("unreadable", "lost")}
    assert found.unrecorded_documents == []


def test_an_interrupted_verification_goes_on_where_it_was(workspace, monkeypatch):
    monkeypatch.setattr(comparison, "BATCH_SIZE", 1)
    flip(find_folder(workspace, Stage.DRAFT, "tide") / "raw.txt")
    flip(find_folder(workspace, Stage.EVALUATION, "moat") / "raw.txt")
    whole = tell(verify_store(workspace))
    seen: list[int] = []

    def interrupt(progress) -> None:
        seen.append(progress.done)
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_store(workspace, on_progress=interrupt)
    depths: list[tuple[str, bool]] = []

    real = CheckWorkers.check

    def spy(workers, batches):
        for batch, results in real(workers, batches):
            depths.extend(
                ("/".join(name[:2]) if batch.kind == "documents" else name[0], batch.deep) for name in batch.names
            )
            yield batch, results

    monkeypatch.setattr(CheckWorkers, "check", spy)
    found = verify_store(workspace, resume=True)

    assert tell(found) == whole
    damaged = f"draft/{find_folder(workspace, Stage.DRAFT, 'tide').name}"
    assert [deep for name, deep in depths[:7] if name != damaged] == [False] * 6
    assert dict(depths)[damaged]
    assert all(deep for _, deep in depths[7:])
    assert not (workspace.data.path / ".verification.json").exists()


def test_processes_find_what_one_alone_finds(workspace, monkeypatch):
    monkeypatch.setattr(comparison, "BATCH_SIZE", 2)
    flip(find_folder(workspace, Stage.DRAFT, "tide") / "raw.txt")
    flip(find_attempt_folder(workspace, find_folder(workspace, Stage.DRAFT, "moat")) / "response.bin")

    alone, together = verify_store(workspace, workers=0), verify_store(workspace, workers=3)

    assert tell(alone) == tell(together) != set()
    assert alone.size_bytes == together.size_bytes


def test_the_work_of_a_process_that_was_killed_is_done_by_this_one(workspace, monkeypatch):
    class Killed(check_workers.Worker):
        def __init__(self, root: Path) -> None:
            super().__init__(root)
            self._process.kill()
            self._process.wait()

    monkeypatch.setattr(check_workers, "Worker", Killed)

    assert verify_store(workspace, workers=2).documents == 11


def test_processes_end_with_the_one_that_started_them(workspace):
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writes, 2)
        os.close(reads)
        with start_workers(workspace.data.path, 2) as workers:
            next(workers.check(iter([Batch("calls", [], deep=True)] * 3)))
            os.kill(os.getpid(), 9)
    os.close(writes)
    os.waitpid(child, 0)

    assert os.read(reads, 1) == b""  # nobody has the other end any more: both processes have ended
    os.close(reads)


def test_a_verification_changes_nothing(workspace):
    before = {path: path.stat().st_mtime_ns for path in workspace.data.path.rglob("*")}
    flip(find_folder(workspace, Stage.DRAFT) / "raw.txt")
    changed = {path: path.stat().st_mtime_ns for path in workspace.data.path.rglob("*")}

    verify(workspace.data, workspace.roots.config, deep=True)

    assert {path: path.stat().st_mtime_ns for path in workspace.data.path.rglob("*")} == changed
    assert before.keys() == changed.keys()
