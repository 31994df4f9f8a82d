"""The disk refuses: full, broken, read-only, too many files open. Nothing half-done is taken for done."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from store.data_root import DataRoot
from store.errors import DocumentInvalid, StoreNotUsable, WriteFailed
from tests.faults.children import Acknowledge, run_child
from tests.faults.filesystems import cut_power, mounted, mounted_tmpfs, run
from tests.faults.requirements import require, require_mounts, require_program, require_root
from tests.faults.system_calls import SystemCall, at_call, intercept
from tests.faults.test_crashes import Write, list_calls
from tests.faults.writing import (
    ANSWER,
    DIGEST,
    DOC_ID,
    FILES,
    FLUSHES,
    WRITERS,
    commit_document,
    find_losses,
    flush_as,
    make_attempt,
)

REFUSALS = {
    "open": [errno.EMFILE],
    "write": [errno.ENOSPC, errno.EIO],
    "fsync": [errno.EIO],
    "syncfs": [errno.EIO],
    "mkdir": [errno.ENOSPC],
    "rename": [errno.EROFS],
    "close": [errno.EIO],
}


def refuse(code: int, flushed: list[str]):
    def act(call: SystemCall) -> None:
        flushed.append(call.path)
        raise OSError(code, os.strerror(code))

    return act


def write_and_tell(root: Path, write: Write, tell: Acknowledge) -> None:
    """Write, and tell what was acknowledged; or "refused", where the store said so."""
    try:
        write(DataRoot(root), tell)
    except WriteFailed:
        tell("refused")


@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_system_call_that_fails_fails_the_write_and_the_next_one_works(write, flush, tmp_path, in_small_process):
    """Each call in turn, with each error that the kernel may give; a write that goes on all the same lost nothing."""
    refused, wrong = in_small_process(refuse_each_call, tmp_path, write, flush)

    assert refused > 10
    assert wrong == {}


def refuse_each_call(folder: Path, write: Write, flush: str) -> tuple[int, dict[object, object]]:
    """Return how often a call was refused, and what was wrong after it."""
    refused, wrong = 0, {}
    with flush_as(flush):
        for number, name in enumerate(list_calls(folder / "count", write)):
            for code in REFUSALS.get(name, []):
                refused += 1
                if found := refuse_call(folder / f"{number}-{code}", write, number, name, code):
                    wrong[number, name, code] = found
    return refused, wrong


def refuse_call(root: Path, write: Write, number: int, name: str, code: int) -> object:
    """Refuse one call of a write, write again, and return what is wrong then; None or [] if nothing is."""

    def work(tell: Acknowledge) -> None:
        with intercept(at_call(number, refuse(code, []))):
            write_and_tell(root, write, tell)

    ending = run_child(work)
    again = run_child(lambda tell: write_and_tell(root, write, tell))
    if lost := find_losses(root, ending.acknowledged):
        return lost
    if "refused" in again.acknowledged:
        return "refused again"
    return "not reported" if name != "close" and "refused" not in ending.acknowledged else None


@pytest.mark.parametrize("name", ["fsync", "syncfs"])
@pytest.mark.parametrize("write", WRITERS)
def test_a_flush_that_failed_is_never_tried_again_and_what_it_was_of_is_written_anew(write, name, tmp_path):
    kind = "alone" if name == "fsync" else "shared"
    with flush_as(kind):
        calls = list_calls(tmp_path / "count", write)
    for number in [number for number, call in enumerate(calls) if call == name]:
        failed: list[str] = []
        seen: list[SystemCall] = []
        data = DataRoot(tmp_path / f"{number}")
        with flush_as(kind), intercept(at_call(number, refuse(errno.EIO, failed))), intercept(seen.append):
            with pytest.raises(WriteFailed):
                write(data, lambda told: None)
            before = len(seen)
            with suppress(WriteFailed):
                write(data, lambda told: None)

        assert len(failed) == 1
        tried_again = [call for call in seen if call.name == name and call.path == failed[0]]
        if name == "syncfs":
            assert not [call for call in seen[before:] if call.name == "syncfs"]
        elif Path(failed[0]).is_file():
            assert len(tried_again) == 1


# Real filesystems


@pytest.mark.parametrize(
    "options",
    [f"size={size}k" for size in range(4, 68, 4)] + [f"nr_inodes={count}" for count in range(2, 22, 2)],
)
def test_a_full_disk_leaves_no_half_document_and_works_again_when_there_is_room(options, tmp_path):
    with mounted_tmpfs(tmp_path / "mounted", options) as folder:
        ending = run_child(
            lambda tell: (write_and_tell(folder, make_attempt, tell), write_and_tell(folder, commit_document, tell))
        )
        assert find_losses(folder, ending.acknowledged) == []
        assert "refused" in ending.acknowledged or {"outcome", "document"} <= set(ending.acknowledged)

        run("mount", "-o", "remount,size=1m,nr_inodes=200", folder)
        again = run_child(lambda tell: (make_attempt(DataRoot(folder), tell), commit_document(DataRoot(folder), tell)))

        assert {"outcome", "document"} <= set(again.acknowledged)
        assert find_losses(folder, [*ending.acknowledged, "document"]) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("flush", FLUSHES)
def test_nothing_is_acknowledged_any_more_when_the_disk_under_the_filesystem_fails(kind, flush, tmp_path):
    """The image lies on another filesystem, which is shut down: the kernel's own errors reach the store."""
    (tmp_path / "under").mkdir()
    with (
        mounted("xfs", tmp_path / "under") as under,
        mounted(kind, tmp_path, image_folder=under.folder) as disk,
        flush_as(flush),
    ):

        def commit_and_break(tell: Acknowledge) -> None:
            data = DataRoot(disk.folder)
            for number in range(20):
                if number == 10:
                    cut_power(under.folder)
                try:
                    commit_numbered(data, number)
                    tell(f"{number:016d}")
                except WriteFailed:
                    tell("refused")

        ending = run_child(commit_and_break)
        disk.unmount()
        under.restart()
        disk.mount()

        data = DataRoot(disk.folder)
        acknowledged = [name for name in ending.acknowledged if name != "refused"]
        assert acknowledged == [f"{number:016d}" for number in range(10)]
        assert ending.acknowledged[10:] == ["refused"] * 10
        assert [data.documents.read_deeply("draft", doc_id).doc_id for doc_id in acknowledged] == acknowledged


def commit_numbered(data: DataRoot, number: int) -> None:
    content = os.urandom(40_000)
    data.documents.commit("draft", f"{number:016d}", {"raw.txt": content}, {"digest": DIGEST, "inputs": {}})


def test_a_limit_of_file_size_cuts_no_file_silently(tmp_path):
    """The kernel writes what fits, says so, and refuses the rest."""

    def work(tell: Acknowledge) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        write_and_tell(tmp_path, commit_document, tell)

    assert run_child(work).acknowledged == ["refused"]
    assert not DataRoot(tmp_path).documents.is_present("draft", DOC_ID)


@pytest.mark.parametrize("write", WRITERS)
def test_too_many_open_files_make_no_document_with_fewer_files(write, tmp_path):
    for spare in range(6):
        root = tmp_path / str(spare)
        ending = run_child(lambda tell, root=root, spare=spare: write_with_few_files(root, write, spare, tell))

        assert find_losses(root, ending.acknowledged) == []
        assert ending.acknowledged[-1:] == ["refused"] or spare > 0


def write_with_few_files(root: Path, write, spare: int, tell: Acknowledge) -> None:
    data = DataRoot(root)
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.close(descriptor)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    while descriptor <= highest:  # fill the gaps, so that the limit says how many more there can be
        descriptor = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor + 1 + spare, descriptor + 1 + spare))
    try:
        write(data, tell)
    except WriteFailed:
        tell("refused")


# Stores that cannot be written


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    require_mounts("tmpfs")
    folder.mkdir(exist_ok=True)
    run("mount", "--bind", folder, folder)
    try:
        run("mount", "-o", "remount,bind,ro", folder)
        yield
    finally:
        run("umount", folder)


@contextmanager
def immutable(folder: Path) -> Iterator[None]:
    require_root()
    require_program("chattr")
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["chattr", "+i", folder], capture_output=True, text=True)
    require(made.returncode == 0, f"chattr +i is refused here: {made.stderr.strip()}")
    try:
        yield
    finally:
        run("chattr", "-i", folder)


@pytest.mark.parametrize("prevent", [read_only, immutable])
@pytest.mark.parametrize("write", WRITERS)
def test_a_store_that_cannot_be_written_says_so(prevent, write, tmp_path):
    data = DataRoot(tmp_path / "data")
    refused = pytest.raises((WriteFailed, StoreNotUsable), match=r"EROFS|EPERM|cannot be written")
    with prevent(data.path), refused:
        write(data, lambda name: None)

    write(data, lambda name: None)


def test_a_store_of_somebody_else_says_so(tmp_path):
    require_root()
    tmp_path.chmod(0o755)
    (tmp_path / "data").mkdir(0o755)

    def work(tell: Acknowledge) -> None:
        os.chdir(tmp_path)
        os.setuid(65534)  # nobody
        write_and_tell(Path("data"), commit_document, tell)

    assert run_child(work).acknowledged == ["refused"]


# What is in the place of a document


@pytest.mark.parametrize("kind", ["empty folder", "file", "link to a folder", "link to nothing"])
def test_whatever_is_in_the_place_of_a_document_is_reported_and_left_alone(kind, tmp_path):
    data = DataRoot(tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    final = data.documents.folder_of("draft", DOC_ID)
    final.parent.mkdir(parents=True)
    put = {
        "empty folder": final.mkdir,
        "file": final.touch,
        "link to a folder": lambda: final.symlink_to(elsewhere),
        "link to nothing": lambda: final.symlink_to(tmp_path / "nothing"),
    }
    put[kind]()

    with pytest.raises(DocumentInvalid):
        commit_document(data, lambda name: None)

    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "nothing").exists()
    assert [path.read_bytes() for path in (data.path / "quarantine").rglob("raw.txt")] == [FILES["raw.txt"]]
    assert os.path.lexists(final)


def test_an_answer_is_kept_although_its_document_cannot_be_committed(tmp_path):
    data = DataRoot(tmp_path)
    make_attempt(data, lambda name: None)
    (tmp_path / "docs").touch()

    with pytest.raises(WriteFailed):
        commit_document(data, lambda name: None)

    assert data.calls.find_answer("fedcba9876543210").read_response() == b"".join(ANSWER)
