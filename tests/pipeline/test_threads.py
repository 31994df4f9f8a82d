"""Threads that are used again, give results and errors back, and do not hold up the end of the program."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pipeline.threads import DaemonThreads


def test_results_and_errors_come_back():
    threads = DaemonThreads("t")

    assert threads.submit(divmod, 7, 2).result(10) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(10)


def test_work_that_waits_for_other_work_gets_a_thread_of_its_own():
    threads, started = DaemonThreads("t"), threading.Barrier(20)

    waiting = [threads.submit(started.wait, 10) for _ in range(20)]

    assert {future.result(10) for future in waiting} == set(range(20))


def test_a_thread_without_work_is_used_again():
    threads = DaemonThreads("used-again")
    for _ in range(500):
        threads.submit(int).result(10)

    # A result may be read just before its thread is free, hence not always one.
    assert sum(thread.name == "used-again" for thread in threading.enumerate()) < 100


def test_the_program_ends_while_a_thread_works():
    code = (
        "import threading\nfrom pipeline.threads import DaemonThreads\n"
        "DaemonThreads('t').submit(threading.Event().wait)\nprint('over')"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert (result.returncode, result.stdout) == (0, "over\n")
