"""Many writers, few flushes: whoever is served has been flushed, and a failed flush is nobody's success."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import flushing
from store.data_root import DataRoot
from store.errors import WriteFailed
from store.flushing import SharedFlush, SingleFlush, can_share, open_flush

WRITERS = 12


class HeldSyncfs:
    """Stands for the system call: each call waits until it is let through, and may be told to fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.failure: BaseException | None = None
        self.entered, self.let_through = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, _descriptor: int) -> None:
        self.calls += 1
        self.entered.release()
        assert self.let_through.acquire(timeout=30)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def syncfs(monkeypatch) -> HeldSyncfs:
    held = HeldSyncfs()
    monkeypatch.setattr(flushing, "sync_filesystem", held)
    return held


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to that in 30 s")


def test_those_who_come_while_a_flush_is_under_way_share_the_next_one(tmp_path, syncfs):
    flush = SharedFlush(tmp_path)
    with ThreadPoolExecutor(WRITERS) as threads:
        first = threads.submit(flush.finish, [])
        assert syncfs.entered.acquire(timeout=30)
        others = [threads.submit(flush.finish, []) for _ in range(WRITERS - 1)]
        wait_until(lambda: len(flush._waiting) == WRITERS - 1)

        syncfs.let_through.release()
        first.result(timeout=30)
        assert syncfs.entered.acquire(timeout=30)
        assert not any(other.done() for other in others)  # the flush that was under way may have missed their bytes

        syncfs.let_through.release()
        for other in others:
            other.result(timeout=30)
    assert syncfs.calls == 2


def test_a_failed_flush_fails_all_that_waited_for_it_and_all_that_come_later(tmp_path, syncfs):
    """The kernel tells of a lost write once, and does not say whose it was."""
    flush = SharedFlush(tmp_path)
    with ThreadPoolExecutor(WRITERS) as threads:
        first = threads.submit(flush.finish, [])
        assert syncfs.entered.acquire(timeout=30)
        others = [threads.submit(flush.finish, []) for _ in range(WRITERS - 1)]
        wait_until(lambda: len(flush._waiting) == WRITERS - 1)
        syncfs.failure = OSError(errno.EIO, os.strerror(errno.EIO))
        syncfs.let_through.release(WRITERS)

        for writer in [first, *others]:
            with pytest.raises(OSError, match="Input/output"):
                writer.result(timeout=30)
    syncfs.failure = None
    with pytest.raises(OSError, match="Input/output"):
        flush.finish([])
    assert syncfs.calls == 1


def test_a_flush_that_is_interrupted_fails_all_that_waited_for_it(tmp_path, syncfs):
    """Nobody knows what it had come to; and nobody waits for ever for a leader that is gone."""
    flush = SharedFlush(tmp_path)
    with ThreadPoolExecutor(WRITERS) as threads:
        first = threads.submit(flush.finish, [])
        assert syncfs.entered.acquire(timeout=30)
        other = threads.submit(flush.finish, [])
        wait_until(lambda: len(flush._waiting) == 1)
        syncfs.failure = KeyboardInterrupt()
        syncfs.let_through.release(WRITERS)

        with pytest.raises(KeyboardInterrupt):
            first.result(timeout=30)
        try:
            with pytest.raises(OSError, match="interrupted"):
                other.result(timeout=5)
        finally:
            for waiter in flush._waiting:  # so that a failure of this test does not hang it
                waiter.turn.release()


def test_a_writer_that_is_alone_syncs_its_own_files_only(tmp_path):
    with open_flush(tmp_path) as flush:
        assert isinstance(flush, SingleFlush)


@pytest.mark.skipif(
    not can_share(Path(__file__).stat().st_dev), reason="no filesystem here on which flushes are shared"
)
def test_from_the_third_writer_on_flushes_are_shared():
    here = Path(__file__).parent
    with open_flush(here) as first, open_flush(here) as second, open_flush(here) as third:
        assert isinstance(first, SingleFlush)
        assert isinstance(second, SingleFlush)
        assert isinstance(third, SharedFlush)
    with open_flush(here) as later:
        assert isinstance(later, SingleFlush)


def test_flushes_are_not_shared_where_syncfs_hides_errors(monkeypatch):
    monkeypatch.setattr(flushing.platform, "release", lambda: "5.7.19-generic")

    assert not can_share(Path(__file__).stat().st_dev)


def test_flushes_are_not_shared_on_a_filesystem_that_nobody_knows():
    assert not can_share(os.makedev(4095, 1))


def test_documents_of_many_threads_are_all_there_and_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(flushing, "SHARED_FROM", 1)
    monkeypatch.setattr(flushing, "can_share", lambda device: True)
    data = DataRoot(tmp_path)
    ids = [f"{number:016d}" for number in range(60)]

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(lambda i: data.documents.commit("draft", i, {"parsed.txt": i.encode()}, {"digest": "0"}), ids))

    assert data.documents.list_ids("draft") == ids
    assert [data.documents.read_deeply("draft", i).read_text("parsed.txt") for i in ids] == ids
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_a_disk_that_refuses_a_shared_flush_leaves_no_document(tmp_path, monkeypatch):
    monkeypatch.setattr(flushing, "SHARED_FROM", 1)
    monkeypatch.setattr(flushing, "can_share", lambda device: True)
    monkeypatch.setattr(flushing, "_shared_by_device", {})

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = DataRoot(tmp_path)
    (tmp_path / "docs" / "draft").mkdir(parents=True)
    (tmp_path / ".tmp").mkdir()
    monkeypatch.setattr(flushing, "sync_filesystem", refuse)
    with pytest.raises(WriteFailed, match="ENOSPC"):
        data.documents.commit("draft", "0" * 16, {"parsed.txt": b"x"}, {"digest": "0"})

    assert not data.documents.is_present("draft", "0" * 16)


def test_a_forked_child_can_write_although_its_parent_was_flushing(tmp_path, syncfs, monkeypatch):
    monkeypatch.setattr(flushing, "SHARED_FROM", 1)
    monkeypatch.setattr(flushing, "can_share", lambda device: True)
    monkeypatch.setattr(flushing, "_shared_by_device", {})

    def write() -> None:
        with open_flush(tmp_path) as flush:
            flush.finish([tmp_path])

    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(write)
        assert syncfs.entered.acquire(timeout=30)
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(flushing, "sync_filesystem", lambda descriptor: None)
            write()
            os._exit(0)
        syncfs.let_through.release()
        writer.result(timeout=30)
    assert os.waitpid(child, 0)[1] == 0
