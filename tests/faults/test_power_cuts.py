"""The power is cut at every system call of a write, on real filesystems: what was acknowledged is there, and whole."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from store import flushing
from store.data_root import DataRoot
from store.errors import StoreError
from tests.faults.children import Acknowledge, Ending, die, run_child
from tests.faults.filesystems import Disk, flush_something_else, mounted
from tests.faults.system_calls import SystemCall, at_call, intercept
from tests.faults.writing import (
    CALL_ID,
    DIGEST,
    FLUSHES,
    WRITERS,
    commit_document,
    find_losses,
    flush_as,
    make_journal_folder,
    make_shared_folders,
    text_shard,
)

pytestmark = [pytest.mark.xdist_group("mounts")]  # one worker mounts, and the other goes on with the other tests
ACKNOWLEDGED = "acknowledged"
NONE = -1

Write = Callable[[DataRoot, Acknowledge], None]


@pytest.fixture(params=flushing.SHARING_FILESYSTEMS)
def sharing_disk(request, tmp_path) -> Iterator[Disk]:
    with mounted(request.param, tmp_path) as disk:
        yield disk


@pytest.fixture(params=["ext4", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("xfs", "btrfs"))])
def disk(request, tmp_path) -> Iterator[Disk]:
    with mounted(request.param, tmp_path) as disk:
        yield disk


def write_and_cut(
    disk: Disk,
    root: Path,
    write: Write,
    *,
    at: int,
    prepare: Callable[[DataRoot], None] = lambda data: None,
    meddle: bool = False,
    drop: int = NONE,
) -> Ending:
    """Let a child write, cut the power before its call number `at`, and return what it had acknowledged by then.

    `meddle`: another program's fsync comes just before the cut. `drop`: that flush of the store does nothing.
    """

    def cut(call: SystemCall) -> None:
        if meddle:
            flush_something_else(disk.folder)
        disk.cut_power()

    def work(tell: Acknowledge) -> None:
        prepare(DataRoot(root))
        with dropped_flush(drop), intercept(at_call(at, cut)):
            write(DataRoot(root), tell)
        if meddle:
            flush_something_else(disk.folder)
        disk.cut_power()

    ending = run_child(work, when_stopped=disk.keep_image)
    disk.restart()
    return ending


@contextmanager
def dropped_flush(number: int) -> Iterator[None]:
    """Let the flush with that number, counted from 0, do nothing and be reported as done."""
    count = itertools.count()

    def drop_one(real: Callable[[int], None]) -> Callable[[int], None]:
        return lambda descriptor: None if next(count) == number else real(descriptor)

    syncfs = drop_one(flushing.sync_filesystem)
    with patch.object(os, "fsync", drop_one(os.fsync)), patch.object(flushing, "sync_filesystem", syncfs):
        yield


def list_calls(root: Path, write: Write, prepare: Callable[[DataRoot], None] = lambda data: None) -> list[str]:
    """Return the system calls of a write, in order: "fsync file", "fsync folder", "rename folder", "syncfs"."""

    def work(tell: Acknowledge) -> None:
        prepare(DataRoot(root))
        with intercept(lambda call: tell(f"{call.name} {'folder' if Path(call.path).is_dir() else 'file'}")):
            write(DataRoot(root), lambda name: tell(ACKNOWLEDGED))

    return run_child(work).acknowledged


@pytest.mark.parametrize("meddle", [False, True], ids=["quiet", "meddled"])
@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_power_cut_at_any_system_call_loses_nothing_acknowledged(disk, write, flush, meddle, in_small_process):
    calls, losses = in_small_process(cut_at_each_call, disk, write, flush, meddle)

    assert len(calls) > 10
    assert losses == {}


def cut_at_each_call(disk: Disk, write: Write, flush: str, meddle: bool) -> tuple[list[str], dict[object, list[str]]]:
    """Return the system calls of a write, and what was lost by a cut before each of them."""
    with flush_as(flush):
        calls = [name for name in list_calls(disk.folder / "count", write) if name != ACKNOWLEDGED]
        losses = {}
        for number in range(len(calls) + 1):
            root = disk.folder / f"{number}"
            ending = write_and_cut(disk, root, write, at=number, meddle=meddle)
            if lost := find_losses(root, ending.acknowledged):
                losses[number, [*calls, "end"][number]] = lost
    return calls, losses


def list_telling_moments(calls: list[str]) -> list[int]:
    """Return the numbers of the calls after a rename, and of those after something was acknowledged."""
    moments, number = set(), 0
    for name in calls:
        if name == ACKNOWLEDGED:
            moments.add(number)
        else:
            number += 1
            if name.startswith("rename"):
                moments.add(number)
    return sorted(moments)


def is_unseen_by_design(kind: str, calls: list[str], number: int) -> bool:
    """Whether no power cut on this filesystem shows that a flush is missing.

    A folder's flush that another one follows: the journal that the later one writes holds the earlier names too.
    The flush before a rename on btrfs: the flush after the rename takes the files along, in one step with the name.
    test_durable.py asserts the order of calls for these.
    """
    name, later = calls[number], [call for call in calls[number + 1 :] if call != ACKNOWLEDGED]
    if name.startswith("syncfs"):
        return kind == "btrfs" and any(call.startswith("rename") for call in later[:2])
    return name == "fsync folder" and any(call.startswith("fsync") for call in later)


@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_flush_that_is_left_out_is_found(disk, write, flush, in_small_process):
    assert in_small_process(list_unseen, disk, write, flush) == []


def list_unseen(disk: Disk, write: Write, flush: str) -> list[str]:
    """Return the flushes that no power cut shows to be missing, but those of which none can."""
    prepare = {"alone": make_journal_folder, "shared": make_shared_folders}[flush]
    with flush_as(flush):
        calls = list_calls(disk.folder / "count", write, prepare)
        flushes = [number for number, name in enumerate(calls) if name.startswith(("fsync", "syncfs"))]
        return [
            calls[number]
            for drop, number in enumerate(flushes)
            if not is_unseen_by_design(disk.kind, calls, number) and not is_seen(disk, write, prepare, calls, drop)
        ]


def is_seen(disk: Disk, write: Write, prepare: Callable[[DataRoot], None], calls: list[str], drop: int) -> bool:
    """Whether some power cut shows that a flush is missing."""
    for meddle in (False, True):
        for number in list_telling_moments(calls):
            root = disk.folder / f"{drop}-{number}-{meddle}"
            ending = write_and_cut(disk, root, write, at=number, prepare=prepare, meddle=meddle, drop=drop)
            try:
                lost = find_losses(root, ending.acknowledged)
            except StoreError:
                return True
            if lost:
                return True
    return False


# Many writers


WRITER_THREADS = 6
DOCUMENTS = 30


def commit_many(data: DataRoot, acknowledge: Acknowledge) -> None:
    """Commit documents from many threads at once, each the attempt it stands on first."""

    def commit(doc_id: str) -> None:
        attempt = data.calls.begin(doc_id, {"messages": [doc_id]})
        attempt.keep(doc_id.encode())
        attempt.finish({"status": "ok"})
        acknowledge(f"attempt {doc_id}")
        data.documents.commit("draft", doc_id, {"parsed.txt": doc_id.encode()}, {"digest": DIGEST, "inputs": {}})
        acknowledge(f"document {doc_id}")

    with ThreadPoolExecutor(WRITER_THREADS) as threads:
        list(threads.map(commit, [f"{number:016d}" for number in range(DOCUMENTS)]))


def list_lost_of_many(root: Path, acknowledged: list[str]) -> list[str]:
    """Return what was acknowledged and is not there whole, and what is there and not whole."""
    data = DataRoot(root)
    present = {f"document {doc_id}" for doc_id in data.documents.list_ids("draft")}
    return [name for name in sorted(present | set(acknowledged)) if not is_whole(data, *name.split())]


def is_whole(data: DataRoot, kind: str, doc_id: str) -> bool:
    try:
        if kind == "document":
            return data.documents.read_deeply("draft", doc_id).read_text("parsed.txt") == doc_id
        answer = data.calls.find_answer(doc_id)
        return answer is not None and answer.read_response() == doc_id.encode()
    except StoreError:
        return False


def cut_at_flush(disk: Disk, root: Path, number: int, *, is_after: bool, flushes_work: bool = True) -> Ending:
    """Let many threads write, and cut the power before or after a shared flush; return what was acknowledged."""
    count = itertools.count()
    real = flushing.sync_filesystem

    def flush(descriptor: int) -> None:
        is_due = next(count) == number
        if is_due and not is_after:
            disk.cut_power()
        if flushes_work:
            real(descriptor)
        if is_due:
            disk.cut_power()

    def work(tell: Acknowledge) -> None:
        with patch.object(flushing, "sync_filesystem", flush):
            commit_many(DataRoot(root), tell)
        disk.cut_power()

    ending = run_child(work, when_stopped=disk.keep_image)
    disk.restart()
    return ending


def test_a_power_cut_around_a_flush_that_many_share_loses_nothing_acknowledged(sharing_disk, in_small_process):
    """Nothing is changed here: which writers share a flush is the store's own choice, on a disk it knows."""
    assert flushing.can_share(sharing_disk.folder.stat().st_dev)
    acknowledged, lost = in_small_process(cut_around_flushes, sharing_disk)

    assert lost == {}
    assert acknowledged > 100


def cut_around_flushes(disk: Disk) -> tuple[int, dict[object, list[str]]]:
    """Return how many writes were acknowledged, and what was lost by a cut before or after each fourth shared flush."""
    lost, acknowledged = {}, 0
    for number in range(1, 40, 4):
        for is_after in (False, True):
            root = disk.folder / f"{number}-{is_after}"
            ending = cut_at_flush(disk, root, number, is_after=is_after)
            acknowledged += len(ending.acknowledged)
            if losses := list_lost_of_many(root, ending.acknowledged):
                lost[number, is_after] = losses
    return acknowledged, lost


def test_a_shared_flush_that_does_nothing_is_found(sharing_disk):
    """So the test before this one would see a store that acknowledges before its flush."""
    root = sharing_disk.folder / "store"
    make_shared_folders(DataRoot(root))
    ending = cut_at_flush(sharing_disk, root, 39, is_after=True, flushes_work=False)

    assert ending.acknowledged
    assert list_lost_of_many(root, ending.acknowledged)


# What another process has not flushed yet


@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_that_another_process_made_and_did_not_flush_loses_nothing(disk, write, flush):
    def make_folders(data: DataRoot) -> None:
        for folder in ("docs/draft", f"calls/{CALL_ID[:2]}", f"texts/{text_shard()}"):
            (data.path / folder).mkdir(parents=True)

    root = disk.folder / "store"
    with flush_as(flush):
        ending = write_and_cut(disk, root, write, at=10_000, prepare=make_folders)

    assert ending.acknowledged
    assert find_losses(root, ending.acknowledged) == []


@pytest.mark.parametrize("flush", FLUSHES)
def test_who_is_told_of_anothers_document_can_rely_on_it(disk, flush):
    """The other process was killed between its rename and its last flush."""

    def leave_unflushed(data: DataRoot) -> None:
        make_shared_folders(data)
        other = run_child(lambda tell: commit_and_die_after_rename(data))
        assert other.signal == signal.SIGKILL

    root = disk.folder / "store"
    with flush_as(flush):
        ending = write_and_cut(disk, root, commit_document, at=10_000, prepare=leave_unflushed)

    assert ending.acknowledged == ["document"]
    assert find_losses(root, ending.acknowledged) == []


def commit_and_die_after_rename(data: DataRoot) -> None:
    renamed = []

    def act(call: SystemCall) -> None:
        if renamed:
            die()
        if call.name == "rename":
            renamed.append(call)

    with intercept(act):
        commit_document(data, lambda name: None)
