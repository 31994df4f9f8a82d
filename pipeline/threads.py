"""Threads that the end of the process does not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(Executor):
    """Runs each function in a thread of its own, and uses threads again that have nothing to do.

    The threads of a ThreadPoolExecutor are joined when the program ends, so one model call of ten minutes
    would hold up Ctrl-C for as long. These just end. How many there are, the caller bounds.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._guard = threading.Lock()
        self._idle = 0  # threads that wait for work, less the work that waits for them

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                _fulfil(future, lambda: function(*args, **kwargs))

        with self._guard:
            self._work.put(run)
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._serve, daemon=True, name=self._name).start()
        return future

    def _serve(self) -> None:
        while True:
            self._work.get()()
            with self._guard:
                self._idle += 1


def _fulfil(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        result = function()
    except BaseException as error:  # SystemExit too: whoever awaits the result is to know
        future.set_exception(error)
    else:
        future.set_result(result)
