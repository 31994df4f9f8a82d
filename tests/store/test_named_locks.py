"""Locks by name: one at a time under a name, and nobody waits for another name."""

from __future__ import annotations

import threading

import pytest

from store.named_locks import NamedLocks


def test_what_has_the_same_name_happens_one_after_the_other():
    locks, order = NamedLocks(), []
    first_is_inside, first_may_leave = threading.Event(), threading.Event()

    def go_first() -> None:
        with locks.hold("a"):
            first_is_inside.set()
            first_may_leave.wait(10)
            order.append("first")

    def go_second() -> None:
        with locks.hold("a"):
            order.append("second")

    threads = [threading.Thread(target=go_first), threading.Thread(target=go_second)]
    threads[0].start()
    first_is_inside.wait(10)
    threads[1].start()
    with locks.hold("b"):
        order.append("another name")
    first_may_leave.set()
    for thread in threads:
        thread.join()

    assert order == ["another name", "first", "second"]


def test_a_name_is_free_again_after_an_error_and_takes_no_memory():
    locks = NamedLocks()

    with pytest.raises(ValueError, match="two"):
        fail_inside(locks)

    assert len(locks) == 0
    with locks.hold("a"):
        assert len(locks) == 1


def fail_inside(locks: NamedLocks) -> None:
    with locks.hold("a"):
        raise ValueError("one or two")
