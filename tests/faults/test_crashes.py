"""A process is killed at every system call of a write; many are killed while they write, and race for one id."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from store.data_root import DataRoot
from tests.faults.children import Acknowledge, Ending, die, run_child, start_child, wait_for
from tests.faults.requirements import require_program
from tests.faults.system_calls import SystemCall, at_call, intercept
from tests.faults.writing import DIGEST, FLUSHES, WRITERS, find_losses, flush_as

Write = Callable[[DataRoot, Acknowledge], None]
PASSED_OVER = {"close"}  # a crash before it is the crash after the call ahead of it


def write_and_die(root: Path, write: Write, number: int, *, after_half: bool = False) -> Ending:
    """Let a child write and kill it at its call with that number; `after_half`: when half of its bytes are written."""
    real_write = os.write

    def act(call: SystemCall) -> None:
        if after_half and call.name == "write":
            real_write(call.descriptor, call.content[: len(call.content) // 2])
        die()

    def work(tell: Acknowledge) -> None:
        with intercept(at_call(number, act)):
            write(DataRoot(root), tell)

    return run_child(work)


def list_calls(root: Path, write: Write) -> list[str]:
    def work(tell: Acknowledge) -> None:
        with intercept(lambda call: tell(call.name)):
            write(DataRoot(root), lambda name: None)

    return run_child(work).acknowledged


@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("write", WRITERS)
def test_a_crash_at_any_system_call_loses_nothing_and_the_next_one_goes_on(write, flush, tmp_path, in_small_process):
    crashes, losses = in_small_process(crash_at_each_call, tmp_path, write, flush)

    assert crashes > 10
    assert losses == {}


def crash_at_each_call(folder: Path, write: Write, flush: str) -> tuple[int, dict[object, list[str]]]:
    """Return the number of crashes, and what was lost by each; after each one the same write has to work."""
    with flush_as(flush):
        calls = list_calls(folder / "count", write)
        crashes = [(number, False) for number in range(len(calls)) if calls[number] not in PASSED_OVER]
        crashes += [(number, True) for number, name in enumerate(calls) if name == "write"]

        losses = {}
        for number, after_half in crashes:
            root = folder / f"{number}-{after_half}"
            ending = write_and_die(root, write, number, after_half=after_half)
            assert not ending.is_done
            after_crash = find_losses(root, ending.acknowledged)
            again = run_child(lambda tell, root=root: write(DataRoot(root), tell))
            if lost := after_crash + find_losses(root, ending.acknowledged):
                losses[number, calls[number], after_half] = lost
            assert again.is_done
    return len(crashes), losses


SEEN_AS = {name: name for name in ("write", "fsync", "syncfs", "mkdir", "unlink", "fchmod")}
SEEN_AS |= {"open": "openat", "rename": "renameat2", "replace": "rename"}


@pytest.mark.parametrize("flush", FLUSHES)
@pytest.mark.parametrize("write", WRITERS)
def test_no_system_call_that_changes_the_store_goes_past_the_tests(write, flush, tmp_path):
    """What the tests stand before is what strace sees; so none of the crashes and power cuts is left out."""
    require_program("strace")
    root, log = tmp_path / "data", tmp_path / "strace.log"
    script = (
        "from tests.faults.writing import *\n"
        f"with flush_as({flush!r}): {write.__name__}(DataRoot(Path({str(root)!r})), lambda name: None)\n"
    )
    options = ["-f", "-y", "-e", f"trace={','.join(SEEN_AS.values())}", "-e", "signal=none", "-o", str(log)]
    traced = subprocess.run(["strace", *options, sys.executable, "-c", script], capture_output=True, text=True)
    assert traced.returncode == 0, traced.stderr

    def work(tell: Acknowledge) -> None:
        with flush_as(flush), intercept(lambda call: is_look_at_folder(call) or tell(call.name)):
            write(DataRoot(root.with_name("told")), lambda name: None)

    told = run_child(work).acknowledged
    lines = [line for line in log.read_text().splitlines() if str(tmp_path) in line and "O_DIRECTORY" not in line]
    seen = [re.search(r"^\d+ +(\w+)\(", line)[1] for line in lines if "mkdir" not in line or " = 0" in line]
    assert Counter(SEEN_AS[name] for name in told if name in SEEN_AS) == Counter(seen)


def is_look_at_folder(call: SystemCall) -> bool:
    """Whether a call opens a folder, be it to flush it."""
    return call.name == "open" and Path(call.path).is_dir()


# Many at once

WRITERS_AT_ONCE = 6
PREFIX = "writer"


def write_forever(root: Path, writer: int, tell: Acknowledge) -> None:
    """Make attempts and documents of shared ids until killed; tell each that is acknowledged."""
    data, chance = DataRoot(root), random.Random(writer + os.getpid())
    while True:
        doc_id = f"{chance.randrange(400):016d}"
        if data.documents.is_present("draft", doc_id):
            continue
        answer = f"{writer} {os.getpid()} {doc_id}"
        attempt = data.calls.begin(doc_id, {"messages": [answer]})
        attempt.keep(answer.encode())
        attempt.seal()
        tell(f"{doc_id} {attempt.number} {answer}")
        attempt.finish({"status": "ok"})
        data.documents.commit("draft", doc_id, {"raw.txt": answer.encode()}, {"digest": DIGEST, "inputs": {}})
        tell(doc_id)


@pytest.mark.slow
def test_writers_that_are_killed_at_random_lose_nothing_and_damage_nothing(tmp_path):
    chance, acknowledged, kills = random.Random(7), [], 0
    ends_at = time.monotonic() + 12
    running = {
        number: start_child(lambda tell, number=number: write_forever(tmp_path, number, tell))
        for number in range(WRITERS_AT_ONCE)
    }
    while time.monotonic() < ends_at:
        time.sleep(chance.uniform(0.02, 0.2))
        number = chance.choice(sorted(running))
        os.kill(running[number].pid, 9)
        acknowledged += wait_for(running[number]).acknowledged
        kills += 1
        running[number] = start_child(lambda tell, number=number: write_forever(tmp_path, number, tell))
    for child in running.values():
        os.kill(child.pid, 9)
        acknowledged += wait_for(child).acknowledged

    data = DataRoot(tmp_path)
    assert kills > 30
    assert {name for name in acknowledged if " " not in name} <= set(data.documents.list_ids("draft"))
    for doc_id in data.documents.list_ids("draft"):
        data.documents.read_deeply("draft", doc_id)
    for told in (name.split(" ", 2) for name in acknowledged if " " in name):
        assert data.calls.read_attempt(told[0], int(told[1])).read_response() == told[2].encode()
    for call_id in data.calls.walk():
        data.calls.list_attempts(call_id)


def commit_all(root: Path, writer: int, count: int, tell: Acknowledge) -> None:
    data = DataRoot(root)
    for number in range(count):
        content = {"raw.txt": f"{writer} wrote {number}".encode()}
        data.documents.commit("draft", f"{number:016d}", content, {"digest": DIGEST, "inputs": {}})
        tell(str(number))


@pytest.mark.slow
def test_six_processes_race_for_two_hundred_ids_and_every_answer_is_kept(tmp_path):
    children = [
        start_child(lambda tell, number=number: commit_all(tmp_path, number, 200, tell))
        for number in range(WRITERS_AT_ONCE)
    ]

    assert all(wait_for(child).is_done for child in children)

    data = DataRoot(tmp_path)
    ids = data.documents.list_ids("draft")
    winners = [data.documents.read_deeply("draft", doc_id).read_text("raw.txt") for doc_id in ids]
    losers = [path.read_text() for path in (tmp_path / "quarantine").rglob("raw.txt")]
    assert len(winners) == 200
    assert sorted(winners + losers) == sorted(f"{w} wrote {n}" for w in range(WRITERS_AT_ONCE) for n in range(200))
    assert list((tmp_path / ".tmp").iterdir()) == []
