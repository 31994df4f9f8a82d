"""Limits: no more than allowed, all of what is allowed, and nothing that a killed process could keep."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.limits import LATENESS_SECONDS, MINUTE, USED_SHARE, Limiter, Limits

SERVER = "openai/loopback"

# Asks `count` times, and prints a line for each.
ASKER = """
import sys
from pathlib import Path
from pipeline.limits import Limiter, Limits

limiter = Limiter(Path(sys.argv[1]), minute=float(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    with limiter.admit("openai/loopback", Limits(requests_per_minute=int(sys.argv[4])), tokens=1):
        print("asked", flush=True)
"""
# Takes the only place, and the turn behind it, and keeps them.
HOLDER = """
import sys, threading, time
from pathlib import Path
from pipeline.limits import Limiter, Limits

limiter, limits = Limiter(Path(sys.argv[1])), Limits(concurrency=1)

def wait_for_a_second_place():
    with limiter.admit("openai/loopback", limits, tokens=1):
        pass

with limiter.admit("openai/loopback", limits, tokens=1):
    threading.Thread(target=wait_for_a_second_place, daemon=True).start()
    print("held", flush=True)
    time.sleep(600)
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def read_state(folder: Path) -> dict[str, dict[str, int]]:
    (path,) = folder.glob("*/*/state.json")
    state: dict[str, dict[str, int]] = json.loads(path.read_text())
    return state


def ask_once(limiter: Limiter, limits: Limits, *, tokens: int = 1) -> None:
    """Ask, or fail if that is not possible soon."""
    asked = threading.Event()

    def ask() -> None:
        with limiter.admit(SERVER, limits, tokens=tokens):
            asked.set()

    threading.Thread(target=ask, daemon=True).start()
    assert asked.wait(timeout=30)


def test_two_processes_together_ask_no_faster_than_allowed(tmp_path):
    """Whatever else the machine does, it only makes them slower."""
    minute, count, allowed = 6.0, 12, 60
    started = time.monotonic()
    processes = [start(ASKER, tmp_path, minute, count, allowed) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    seconds = time.monotonic() - started

    assert [output.count("asked") for output in outputs] == [count, count]
    assert seconds >= (2 * count - 1) * minute / (USED_SHARE * allowed) - LATENESS_SECONDS * minute / MINUTE


def test_threads_never_hold_more_places_than_there_are_and_use_all(tmp_path):
    """Two limiters know of each other by the folder only, as two processes do."""
    limiters, limits = [Limiter(tmp_path), Limiter(tmp_path)], Limits(concurrency=3)
    here: set[int] = set()
    most: list[int] = []
    three_met = threading.Event()

    def ask(number: int) -> None:
        with limiters[number % 2].admit(SERVER, limits, tokens=1):
            here.add(number)
            most.append(len(here))
            if len(here) == 3:
                three_met.set()
            three_met.wait(timeout=20)
            here.discard(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert max(most) == 3
    assert len(most) == 12


def test_a_killed_process_leaves_its_place_and_its_turn(tmp_path):
    holder = start(HOLDER, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    ask_once(Limiter(tmp_path), Limits(concurrency=1))


def test_an_error_on_the_way_gives_the_place_back(tmp_path):
    limiter, limits = Limiter(tmp_path), Limits(concurrency=1)
    with pytest.raises(ZeroDivisionError), limiter.admit(SERVER, limits, tokens=1):
        raise ZeroDivisionError

    ask_once(limiter, limits)


def test_tokens_that_have_no_room_wait_until_the_window_has_passed(tmp_path):
    limiter, limits = Limiter(tmp_path, minute=1.0), Limits(tokens_per_minute=100)
    started = time.monotonic()

    ask_once(limiter, limits, tokens=60)
    ask_once(limiter, limits, tokens=60)

    assert time.monotonic() - started >= 1.0


def test_tokens_that_were_not_used_are_given_back(tmp_path):
    limiter, limits = Limiter(tmp_path), Limits(tokens_per_minute=100)
    with limiter.admit(SERVER, limits, tokens=90) as passage:
        passage.settle(10)

    ask_once(limiter, limits, tokens=90)  # it would wait for a minute, were 90 tokens counted still

    assert sum(read_state(tmp_path)["tokens"].values()) == 100


def test_a_request_above_the_limit_is_let_through_when_nothing_else_is_counted(tmp_path):
    ask_once(Limiter(tmp_path), Limits(tokens_per_minute=100), tokens=5000)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"last_request": "x"}', '{"last_request": 1e12, "tokens": {"1000000000000": 5000}}'],
    ids=["empty", "cut", "no object", "no number", "of before a restart of the machine"],
)
def test_a_state_that_says_nothing_usable_is_void(content, tmp_path):
    limiter, limits = Limiter(tmp_path), Limits(requests_per_minute=1, tokens_per_minute=100)
    ask_once(limiter, Limits(tokens_per_minute=100))
    (path,) = tmp_path.glob("*/*/state.json")
    path.write_text(content)

    ask_once(limiter, limits, tokens=100)


def test_servers_are_limited_each_by_itself(tmp_path):
    limiter, limits = Limiter(tmp_path), Limits(concurrency=1)

    with limiter.admit("openai/other", limits, tokens=1):
        ask_once(limiter, limits)


def test_without_limits_nothing_is_written(tmp_path):
    ask_once(Limiter(tmp_path), Limits())

    assert list(tmp_path.glob("*/*/state*")) == []


def test_the_first_request_of_a_process_goes_ahead_of_its_others(tmp_path):
    """It takes longest on its way, and those behind it would arrive together with it."""
    limiter, limits = Limiter(tmp_path), Limits(requests_per_minute=6000)
    order: list[str] = []

    def ask() -> None:
        with limiter.admit(SERVER, limits, tokens=1):
            order.append("later")

    with limiter.admit(SERVER, limits, tokens=1):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        threads[0].join(timeout=0.5)  # time for a mistake to show
        order.append("first")
    for thread in threads:
        thread.join()

    assert order == ["first", *["later"] * 4]
