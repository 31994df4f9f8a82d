"""Garbage is what nothing names and nobody made lately; it goes in two steps, and paid answers only when told to."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.errors import ConfigInvalid, DocumentFailed
from pipeline.garbage import collect_garbage
from pipeline.history_printing import format_garbage
from pipeline.removals import remove_document, undo_removal
from pipeline.settings import Roots
from store.data_root import DataRoot
from store.durable import HOST
from tests.pipeline.built_store import COHORT, build, copy_store, make_roots, read_tree
from tests.pipeline.whole_store import write_over
from tests.store.killed import is_killed_at

AGE, GRACE = timedelta(days=14), timedelta(days=30)
LATER = datetime.now(UTC) + timedelta(days=15)  # everything is old by then
MUCH_LATER = LATER + timedelta(days=31)


@pytest.fixture
def roots(built, tmp_path) -> Roots:
    return copy_store(built, tmp_path)


@pytest.fixture
def data(roots) -> DataRoot:
    return DataRoot(roots.data)


def forget_the_cohort(roots: Roots) -> None:
    for path in (roots.data / "tasks" / COHORT).iterdir():
        path.unlink()


def collect(roots: Roots, *, apply: bool = True, now: datetime = LATER, **options):
    return collect_garbage(roots, apply=apply, age=AGE, grace=GRACE, now=now, **options)


def test_without_apply_nothing_is_changed_and_bytes_and_dollars_are_told(roots):
    forget_the_cohort(roots)
    before = read_tree(roots.data)

    told = collect(roots, apply=False)

    assert read_tree(roots.data) == before
    assert told["documents"]["count"] == len(told["documents"]["ids"]) > 10
    assert told["documents"]["bytes"] == sum(
        len(content) for name, content in before.items() if name.startswith("docs/")
    )
    assert told["paid_answers"]["cost_usd"] == 0.0
    assert told["entry"] is None


def test_what_a_task_table_names_is_kept_with_all_it_was_made_from(roots):
    assert collect(roots)["documents"]["ids"] == []


def test_an_evaluation_in_a_table_keeps_its_essay_and_draft(roots):
    tables = roots.data / "tasks" / COHORT
    for stage in ("draft", "essay"):
        (tables / f"{stage}_tasks.csv").unlink()
    table = tables / "evaluation_tasks.csv"
    table.write_text(re.sub(r"^(\w{16}),\w{16},", r"\1,,", table.read_text(), flags=re.MULTILINE))

    assert [name for name in collect(roots)["documents"]["ids"] if name.startswith("draft")] == []


@pytest.mark.parametrize("place", ["config/pins.txt", "config/cohorts/first.lock"])
def test_what_a_pin_or_a_lock_names_is_kept(place, roots, data):
    essay = data.documents.list_ids("essay")[0]
    draft = data.documents.read("essay", essay).metadata["parent_doc_id"]
    forget_the_cohort(roots)
    (roots.config.parent / place).write_text(
        f"essay/{essay}  # the best\n" if "pins" in place else f"essay {essay} 91ab\n"
    )

    collect(roots)

    assert list(data.documents.walk()) == [("draft", draft), ("essay", essay)]


def test_a_pin_that_is_no_whole_doc_id_stops_everything(roots):
    forget_the_cohort(roots)
    (roots.config / "pins.txt").write_text("# mine\nessay/7k3f\n")

    with pytest.raises(ConfigInvalid, match=r"pins.txt, line 2: 'essay/7k3f'"):
        collect(roots)


def test_pins_that_are_no_text_stop_everything(roots):
    (roots.config / "pins.txt").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigInvalid, match=r"pins.txt: it is not UTF-8"):
        collect(roots)


def test_what_was_made_lately_is_kept(roots):
    forget_the_cohort(roots)

    told = collect(roots, now=datetime.now(UTC) + timedelta(days=13))

    assert told["documents"]["ids"] == told["paid_answers"]["ids"] == []


def test_what_was_restored_lately_is_kept_although_it_was_made_long_ago(roots, data):
    """Its record is of 2020; its folder was touched now."""
    metadata = {"digest": "1" * 64, "inputs": {}, "parents": [], "created_at": "2020-01-01T00:00:00.000000Z"}
    data.documents.commit("draft", "0" * 16, {"raw.txt": b"x"}, metadata)

    told = collect(roots, now=datetime.now(UTC))

    assert told["documents"]["ids"] == []


def test_garbage_comes_back_with_undo(roots, data):
    forget_the_cohort(roots)
    before = read_tree(roots.data / "docs")

    entry = collect(roots)["entry"]
    gone = list(data.documents.walk())
    undo_removal(data, entry)

    assert gone == []
    assert read_tree(roots.data / "docs") == before


def test_nothing_is_deleted_before_the_grace_time_is_over(roots, data):
    forget_the_cohort(roots)
    collect(roots)

    told = collect(roots, now=LATER + GRACE - timedelta(seconds=1))

    assert told["deleted"]["count"] == 0
    assert len(data.trash.list_entries()) == 1


def test_after_the_grace_time_what_can_be_made_again_is_deleted_for_good(roots, data):
    forget_the_cohort(roots)
    calls = read_tree(roots.data / "calls")
    collect(roots)

    told = collect(roots, now=MUCH_LATER)

    assert told["deleted"]["count"] > 10
    assert data.trash.list_entries() == []
    assert read_tree(roots.data / "calls") == calls


def test_paid_answers_are_only_counted_without_their_flag(roots):
    forget_the_cohort(roots)
    calls = read_tree(roots.data / "calls")

    collect(roots)
    collect(roots, now=MUCH_LATER)
    told = collect(roots, now=MUCH_LATER + AGE + GRACE)

    assert read_tree(roots.data / "calls") == calls
    assert told["paid_answers"]["count"] == len(list(DataRoot(roots.data).calls.walk())) > 0
    assert told["paid_answers"]["included"] is False


def test_with_their_flag_paid_answers_go_the_same_two_steps(roots, data):
    forget_the_cohort(roots)
    calls = read_tree(roots.data / "calls")

    first = collect(roots, paid_answers=True)
    moved = read_tree(roots.data / "calls")
    collect(roots, now=MUCH_LATER)
    kept = [entry.list_present() for entry in data.trash.list_entries()]
    collect(roots, now=MUCH_LATER, paid_answers=True)

    assert calls
    assert moved == {}
    assert first["paid_answers"]["included"]
    assert [name for entry in kept for name in entry if name.startswith("calls/")]
    assert data.trash.list_entries() == []


def test_dollars_are_told_of_what_is_deleted_for_good(roots, data):
    """Of a document the price of its answer; of a call that of its attempts, which are in no ledger any more."""
    forget_the_cohort(roots)
    outcome = next(data.calls.root.glob("*/*/*/outcome.json"))
    write_over(outcome, json.dumps(json.loads(outcome.read_bytes()) | {"cost": {"usd": 0.25}}).encode())
    facts = {"mode": "llm", "call_id": outcome.parent.parent.name, "attempt": 1, "cost_usd": 2.5}
    data.documents.commit("draft", "0" * 16, {}, {"digest": "1" * 64, "inputs": {}, "parents": [], **facts})
    collect(roots, paid_answers=True)

    told = collect(roots, apply=False, now=MUCH_LATER, paid_answers=True)
    shown = format_garbage(told)

    assert (told["deleted"]["cost_usd"], told["deleted"]["unknown_costs"]) == (2.75, 0)
    assert "from the trash" in shown
    assert "$2.75\nNothing was changed. The same command with --apply does it." in shown


def test_the_only_copy_of_an_answer_is_not_deleted_without_the_flag(roots, data):
    """A document whose answer is not in the ledger cannot be made again for nothing."""
    metadata = {"digest": "1" * 64, "inputs": {}, "parents": [], "mode": "llm", "call_id": None, "attempt": None}
    data.documents.commit("draft", "0" * 16, {"raw.txt": b"paid"}, metadata)
    collect(roots)

    told = collect(roots, now=MUCH_LATER)

    assert told["deleted"]["kept_paid"] == 1
    assert [entry.list_present() for entry in data.trash.list_entries()] == [["docs/draft/" + "0" * 16]]


def test_the_attempts_of_a_planned_document_that_failed_are_kept(tmp_path):
    """No answer to an evaluation has a score."""
    roots = make_roots(tmp_path, {"templates/evaluation/clarity.txt": "No score: {{ response }}"})
    with pytest.raises(DocumentFailed, match="parse_error"):
        build(roots)
    calls = read_tree(roots.data / "calls")

    collect(roots, paid_answers=True)

    assert read_tree(roots.data / "calls") == calls


def test_the_answer_behind_a_document_in_the_trash_is_kept(roots, data):
    evaluation = data.documents.list_ids("evaluation")[0]
    call_id = data.documents.read("evaluation", evaluation).metadata["call_id"]
    remove_document(data, evaluation, cascade=True)
    forget_the_cohort(roots)

    collect(roots, paid_answers=True)

    assert list(data.calls.walk()) == [call_id]


def test_a_document_that_cannot_be_read_stops_the_collection_and_is_named(roots, data):
    forget_the_cohort(roots)
    essay = data.documents.list_ids("essay")[0]
    (data.documents.folder_of("essay", essay) / "metadata.json").chmod(0o644)
    (data.documents.folder_of("essay", essay) / "metadata.json").write_bytes(b"{")

    told = collect(roots, paid_answers=True)

    assert told["unreadable"] == [f"essay/{essay}"]
    assert told["documents"]["ids"] == told["paid_answers"]["ids"] == []
    assert told["entry"] is None


def test_a_collection_that_is_killed_loses_nothing_that_is_asked_for(roots, tmp_path):
    """The drafts and essays stay planned; the evaluations and the report are garbage."""
    (roots.data / "tasks" / COHORT / "evaluation_tasks.csv").unlink()
    before = read_tree(roots.data / "docs")
    for number in range(0, 200, 9):
        copy = copy_store(roots, tmp_path / str(number))

        was_killed = is_killed_at(number, lambda copy=copy: collect(copy))
        after = read_tree(copy.data / "docs")
        data = DataRoot(copy.data)
        for entry in data.trash.list_entries():
            data.trash.restore(entry)

        assert {name for name in before if name.startswith(("draft", "essay"))} <= after.keys()
        assert read_tree(copy.data / "docs") == before
        if not was_killed:
            break
    else:
        pytest.fail("it was killed at every number: the range is too short")


# What killed processes left in .tmp

DEAD = 2**30  # no process has that number
OLD = 8  # days


def leave(data: DataRoot, name: str, files: dict[str, bytes] | bytes, *, host=HOST, pid=DEAD, days=OLD) -> Path:
    """Put a file or folder into .tmp as a process leaves it that was killed some days ago."""
    path = data.temporary_folder / f"{name}.{host}.{pid}.{'0a' * 6}"
    path.parent.mkdir(exist_ok=True)
    if isinstance(files, bytes):
        path.write_bytes(files)
    else:
        path.mkdir()
        for file, content in files.items():
            (path / file).write_bytes(content)
    for each in (*path.glob("*"), path):
        os.utime(each, times=(time.time() - days * 86400,) * 2)
    return path


def collect_now(roots: Roots, *, apply: bool = True):
    return collect(roots, apply=apply, now=datetime.now(UTC))


@pytest.mark.parametrize("host", [HOST, "elsewhere"])
def test_what_dead_processes_left_is_named_and_deleted(host, roots, data):
    left = [
        leave(data, "0" * 16, {"conversation.json": b"{}"}, host=host),
        leave(data, "staged", b"of an export", host=host),
    ]

    told = collect_now(roots, apply=False)["leftovers"]

    assert told["names"] == sorted(path.name for path in left)
    assert told["bytes"] >= len(b"{}of an export")
    assert all(path.exists() for path in left)
    assert collect_now(roots)["leftovers"] == told
    assert not any(path.exists() for path in left)
    assert collect_now(roots)["leftovers"]["names"] == []


def test_what_a_living_process_may_be_at_is_no_leftover(roots, data):
    of_this_process = leave(data, "0" * 16, {"conversation.json": b"{}"}, pid=os.getpid())
    young = leave(data, "1" * 16, {"conversation.json": b"{}"}, host="elsewhere", days=6)
    lock = data.temporary_folder / "import.lock"
    lock.touch()
    os.utime(lock, times=(0, 0))
    held = leave(data, "staged", b"of an export that is long in coming", host="elsewhere")
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert collect_now(roots)["leftovers"]["names"] == []

    assert all(path.exists() for path in (of_this_process, young, lock, held))


def test_an_answer_that_is_in_no_ledger_is_never_deleted_from_among_the_leftovers(roots, data):
    document = data.documents.read("draft", data.documents.list_ids("draft")[0])
    files = {path.name: path.read_bytes() for path in document.folder.iterdir() if path.is_file()}
    known = leave(data, document.doc_id, files)
    kept = [
        leave(data, "0" * 16, {"prompt.txt": b"p", "raw.txt": b"an answer"}),
        leave(data, "response.bin", b"an answer"),
    ]

    told = collect_now(roots)["leftovers"]

    assert told["names"] == [known.name]
    assert told["kept"] == sorted(path.name for path in kept)
    assert all(path.exists() for path in kept)
