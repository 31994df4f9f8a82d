"""The order of system calls that makes a commit survive a power cut, and what happens when the disk refuses."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from store import durable, flushing
from store.data_root import DataRoot
from store.durable import NewFile, commit_folder, create_folder, place_file, rename_without_replacing
from store.errors import WriteFailed
from store.identity import hash_bytes
from tests.store.recorder import Event, find_volatile, record_system_calls

DOC_ID = "0123456789abcdef"
CALL_ID = "fedcba9876543210"
TEMPLATE = "a template"
FILES = {"prompt.txt": b"p", "raw.txt": b"r" * 5000, "parsed.txt": b"q", "extras/page.html": b"h"}
METADATA = {"digest": "0" * 64, "inputs": {}}


Acknowledge = Callable[[], None]  # called where a caller may rely on what was written so far


def commit_document(data: DataRoot, acknowledge: Acknowledge = lambda: None) -> None:
    data.documents.commit("draft", DOC_ID, FILES, METADATA)
    acknowledge()


def commit_staged_file(data: DataRoot, acknowledge: Acknowledge = lambda: None) -> None:
    with data.documents.stage_file([b"a" * 5000, b"b"]) as staged:
        data.documents.commit("draft", DOC_ID, {**FILES, "raw.txt": staged}, METADATA)
    acknowledge()


def commit_many(data: DataRoot, acknowledge: Acknowledge = lambda: None) -> None:
    data.documents.commit_all("draft", {f"{number:016d}": (FILES, METADATA) for number in range(3)})
    acknowledge()


def make_attempt(data: DataRoot, acknowledge: Acknowledge = lambda: None) -> None:
    attempt = data.calls.begin(CALL_ID, {"messages": []})
    acknowledge()
    attempt.keep(b"answer")
    attempt.keep(b" in two parts")
    attempt.seal()
    acknowledge()
    attempt.finish({"status": "ok"})
    acknowledge()


def keep_text(data: DataRoot, acknowledge: Acknowledge = lambda: None) -> None:
    data.texts.keep(TEMPLATE)
    acknowledge()


WRITERS = [commit_document, commit_staged_file, commit_many, make_attempt, keep_text]


@pytest.fixture(params=["alone", "shared"])
def flush_kind(request, monkeypatch) -> str:
    """Whether each file is synced by itself, or all that is written by one syncfs."""
    is_shared = request.param == "shared"
    monkeypatch.setattr(flushing, "SHARED_FROM", 1 if is_shared else 1_000_000)
    monkeypatch.setattr(durable, "BATCH_FROM", 2)
    monkeypatch.setattr(flushing, "can_share", lambda device: is_shared)
    monkeypatch.setattr(flushing, "_shared_by_device", {})
    return request.param


def list_broken_promises(write, data: DataRoot, monkeypatch, *, drop_flush: int | None = None) -> list[str]:
    """Return what could be lost in a power cut at any moment at which `write` acknowledges.

    The record of an attempt may be: it becomes durable with the commit that follows.
    """
    findings: list[str] = []
    with record_system_calls(monkeypatch, drop_flush=drop_flush) as events:
        write(data, lambda: findings.extend(find_volatile(events, root=data.path)))
        assert events
    return [finding for finding in findings if write is not make_attempt or ".journal" not in finding]


@pytest.mark.parametrize("write", WRITERS)
def test_nothing_that_was_acknowledged_could_be_lost_in_a_power_cut(write, flush_kind, tmp_path, monkeypatch):
    assert list_broken_promises(write, DataRoot(tmp_path / "data"), monkeypatch) == []


def make_store_with_folders(root: Path) -> DataRoot:
    """Return a store whose shared folders are there: each has its own flush when it is made."""
    for folder in ("docs/draft", f"calls/{CALL_ID[:2]}", f"texts/{hash_bytes(TEMPLATE.encode())[:2]}", ".tmp"):
        create_folder(root / folder)
    return make_store_with_journal(root)


def make_store_with_journal(root: Path) -> DataRoot:
    """Return a store that has a folder for its journal: making it would flush the name of docs/ once more."""
    create_folder(root / "journal")
    return DataRoot(root)


@pytest.mark.parametrize("write", WRITERS)
def test_every_single_flush_is_needed(write, flush_kind, tmp_path, monkeypatch):
    """Each flush is left out in turn: something is then volatile, so a missing one cannot go unseen."""
    make_store = make_store_with_folders if flush_kind == "shared" else make_store_with_journal
    data = make_store(tmp_path / "count")
    with record_system_calls(monkeypatch) as events:
        write(data)
    flushes = sum(event.name in ("fsync", "syncfs") for event in events)

    unseen = [
        number
        for number in range(flushes)
        if not list_broken_promises(write, make_store(tmp_path / f"without-{number}"), monkeypatch, drop_flush=number)
    ]

    assert flushes >= 2
    assert unseen == []


def test_a_document_appears_under_its_name_only_after_its_files_are_durable(tmp_path, monkeypatch):
    with record_system_calls(monkeypatch) as events:
        commit_document(DataRoot(tmp_path))

    final = str(tmp_path / "docs" / "draft" / DOC_ID)
    rename = next(index for index, event in enumerate(events) if event.target == final)
    staged = events[rename].path
    synced_before = [event.path for event in events[:rename] if event.name == "fsync"]
    assert {f"{staged}/{name}" for name in [*FILES, "metadata.json"]} <= set(synced_before)
    assert synced_before[-2:] == [f"{staged}/extras", staged]
    assert events[rename + 1] == Event("fsync", str(tmp_path / "docs" / "draft"))
    assert all(
        event.path.startswith(str(tmp_path / "journal")) or event.path == str(tmp_path)
        for event in events[rename + 2 :]
    )


def test_whoever_comes_second_flushes_the_name_of_the_first_before_relying_on_it(tmp_path, monkeypatch):
    """The other process may not have come to its last flush, and may never come to it."""
    commit_document(DataRoot(tmp_path))

    with record_system_calls(monkeypatch) as events:
        commit_document(DataRoot(tmp_path))

    assert Event("fsync", str(tmp_path / "docs" / "draft")) in events


def test_metadata_is_written_last(tmp_path, monkeypatch):
    with record_system_calls(monkeypatch) as events:
        commit_document(DataRoot(tmp_path))

    opened = [Path(event.path).name for event in events if event.name == "open" and ".journal" not in event.path]
    assert opened[-1] == "metadata.json"
    first_of_metadata = next(i for i, event in enumerate(events) if event.path.endswith("metadata.json"))
    others = [i for i, event in enumerate(events) if event.name == "fsync" and event.path.endswith(".txt")]
    assert max(others) < first_of_metadata


def test_a_request_is_durable_before_the_first_byte_of_its_answer(tmp_path, monkeypatch):
    with record_system_calls(monkeypatch) as events:
        make_attempt(DataRoot(tmp_path))

    first_byte = next(i for i, event in enumerate(events) if event.path.endswith("response.bin"))
    assert find_volatile(events[:first_byte], root=tmp_path) == []
    assert any(event.path.endswith("request.json") for event in events[:first_byte])


def make_attempt_without_sealing(data: DataRoot) -> None:
    attempt = data.calls.begin(CALL_ID, {"messages": []})
    attempt.keep(b"answer")
    attempt.finish({"status": "ok"})


@pytest.mark.parametrize("make", [make_attempt, make_attempt_without_sealing])
def test_an_answer_is_durable_before_its_outcome_is_written(make, tmp_path, monkeypatch):
    with record_system_calls(monkeypatch) as events:
        make(DataRoot(tmp_path))

    outcome = next(i for i, event in enumerate(events) if "outcome.json" in event.path)
    assert find_volatile(events[:outcome], root=tmp_path) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_sees_the_same_order(tmp_path):
    """What the recorder sees from inside is what strace sees from outside."""
    script = f"""
from pathlib import Path
from store.data_root import DataRoot
DataRoot(Path({str(tmp_path / "data")!r})).documents.commit("draft", {DOC_ID!r}, {FILES!r}, {METADATA!r})
"""
    log = tmp_path / "strace.log"
    calls = "openat,write,fsync,mkdir,renameat2"
    command = ["strace", "-y", "-e", f"trace={calls}", "-o", str(log), sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0 and "ptrace" in run.stderr:
        pytest.skip(f"strace may not trace here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr

    lines = [line for line in log.read_text().splitlines() if str(tmp_path / "data") in line]
    fsyncs = [re.search(r"fsync\(\d+<([^>]*)>", line) for line in lines]
    synced = [Path(match[1]).name for match in fsyncs if match]
    rename = next(i for i, line in enumerate(lines) if line.startswith("renameat2"))
    assert "RENAME_NOREPLACE" in lines[rename]
    assert set(synced) >= {"prompt.txt", "raw.txt", "parsed.txt", "page.html", "metadata.json", "extras", "draft"}
    assert re.search(r"fsync\(\d+<[^>]*/docs/draft>", lines[rename + 2])  # after it was opened
    assert not any("/docs/" in line for line in lines[rename + 3 :])


# When the disk refuses


def place(path: Path, content: bytes) -> None:
    place_file(path, content, temporary_folder=path.parent / ".tmp")


def refuse(code: int):
    def raise_error(*_arguments):
        raise OSError(code, os.strerror(code))

    return raise_error


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_refused_write_leaves_no_document_and_names_the_error(call, code, tmp_path, monkeypatch):
    data = DataRoot(tmp_path)
    create_folder(tmp_path / "docs" / "draft")
    create_folder(tmp_path / ".tmp")
    monkeypatch.setattr(os, call, refuse(code))

    with pytest.raises(WriteFailed, match=errno.errorcode[code]):
        commit_document(data)

    monkeypatch.undo()
    assert not data.documents.is_present("draft", DOC_ID)
    commit_document(data)
    assert data.documents.is_present("draft", DOC_ID)


def test_a_failed_fsync_is_never_repeated_on_the_same_file(tmp_path, monkeypatch):
    tried = []

    def fail_once_per_file(descriptor):
        tried.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    create_folder(tmp_path / ".tmp")
    monkeypatch.setattr(os, "fsync", fail_once_per_file)
    for _ in range(2):
        with pytest.raises(WriteFailed):
            place(tmp_path / "file", b"x")

    assert len(tried) == len(set(tried)) == 2


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real_write(descriptor, bytes(content[:3])))

    place(tmp_path / "file", b"0123456789")

    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_a_disk_that_takes_no_bytes_is_an_error_and_not_an_endless_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda descriptor, content: 0)

    with pytest.raises(WriteFailed):
        place(tmp_path / "file", b"x")


def test_a_disk_that_lies_about_what_it_took_is_found(tmp_path, monkeypatch):
    real_write = os.write

    def write_half_and_claim_all(descriptor, content):
        real_write(descriptor, bytes(content[: len(content) // 2]))
        return len(content)

    monkeypatch.setattr(os, "write", write_half_and_claim_all)

    with pytest.raises(WriteFailed, match="the disk holds 5"):
        place(tmp_path / "file", b"0123456789")


# Names and modes


def test_a_rename_never_replaces_even_an_empty_folder(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()

    with pytest.raises(FileExistsError):
        rename_without_replacing(tmp_path / "source", tmp_path / "target")


@pytest.mark.parametrize("make_target", [Path.mkdir, Path.touch, lambda path: path.symlink_to(path.parent)])
def test_without_the_flag_of_the_kernel_a_rename_still_replaces_nothing(make_target, tmp_path, monkeypatch):
    monkeypatch.setattr("store.durable._LIBC", object())
    (tmp_path / "source").mkdir()
    make_target(tmp_path / "target")

    with pytest.raises(FileExistsError):
        rename_without_replacing(tmp_path / "source", tmp_path / "target")

    rename_without_replacing(tmp_path / "source", tmp_path / "free")
    assert (tmp_path / "free").is_dir()


def test_commit_tells_when_somebody_else_was_faster(tmp_path):
    temporary = tmp_path / ".tmp"
    assert commit_folder({"file": b"first"}, tmp_path / "final", temporary_folder=temporary) is None

    loser = commit_folder({"file": b"second"}, tmp_path / "final", temporary_folder=temporary)

    assert (tmp_path / "final" / "file").read_bytes() == b"first"
    assert loser is not None
    assert (loser / "file").read_bytes() == b"second"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_are_read_only_whatever_the_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        commit_document(DataRoot(tmp_path))
    finally:
        os.umask(before)

    folder = tmp_path / "docs" / "draft" / DOC_ID
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o444}


def test_a_file_is_never_written_over(tmp_path):
    place(tmp_path / "file", b"first")

    with pytest.raises(WriteFailed, match="EEXIST"):
        NewFile(tmp_path / "file")


def test_placing_a_file_twice_keeps_the_first_unless_told_to_replace(tmp_path):
    assert place_file(tmp_path / "file", b"first", temporary_folder=tmp_path / ".tmp")
    assert not place_file(tmp_path / "file", b"second", temporary_folder=tmp_path / ".tmp")
    assert (tmp_path / "file").read_bytes() == b"first"

    assert place_file(tmp_path / "file", b"third", temporary_folder=tmp_path / ".tmp", replace=True)
    assert (tmp_path / "file").read_bytes() == b"third"
    assert list((tmp_path / ".tmp").iterdir()) == []
