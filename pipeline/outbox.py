"""What running tasks tell the scheduler about themselves: messages, progress, links. Sent from a thread of its own.

Each of these is a request to the central scheduler, which has one thread for everybody. So of several of
one kind only the newest is sent, at most once per interval; and no coroutine waits for it.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any

from luigi.worker import TaskStatusReporter

logger = logging.getLogger("luigi-interface")

SECONDS_BETWEEN_UPDATES = 1.0

Send = Callable[[], object]


class Outbox:
    """Updates that wait to be sent: {task id: {kind: send}}."""

    def __init__(self, seconds_between_updates: float = SECONDS_BETWEEN_UPDATES) -> None:
        self._seconds = seconds_between_updates
        self._waiting: dict[str, dict[Hashable, Send]] = {}
        self._guard = threading.Lock()  # of what waits, and of which reporters are closed
        self._sending = threading.Lock()
        self._has_work, self._is_closed = threading.Event(), threading.Event()
        threading.Thread(target=self._send_until_closed, daemon=True, name="daybook-outbox").start()

    def post(self, reporter: OutboxReporter, kind: Hashable, send: Send) -> None:
        """Let `send` be called soon, in the place of what waits of the same kind. Nothing is taken for a closed one."""
        with self._guard:
            if not reporter.is_closed:
                self._waiting.setdefault(reporter.task_id, {})[kind] = send
        self._has_work.set()

    def finish(self, reporter: OutboxReporter) -> None:
        """Send what waits for one task, and take nothing more.

        To be called before the task's result is told: to Luigi, a link that comes later means that it runs again.
        """
        with self._guard:
            reporter.is_closed = True
        self._send_updates(reporter.task_id)

    def close(self) -> None:
        self._is_closed.set()
        self._has_work.set()

    def _send_until_closed(self) -> None:
        while not self._is_closed.is_set():
            self._has_work.wait()
            self._has_work.clear()
            with self._guard:
                task_ids = list(self._waiting)
            for task_id in task_ids:
                self._send_updates(task_id)
            self._is_closed.wait(self._seconds)

    def _send_updates(self, task_id: str) -> None:
        with self._guard:
            if task_id not in self._waiting and not self._sending.locked():
                return
        with self._sending:
            with self._guard:
                updates = self._waiting.pop(task_id, {})
            for send in updates.values():
                _send_or_warn(send, task_id)


def _send_or_warn(send: Send, task_id: str) -> None:
    try:
        send()
    except Exception:  # whatever the way to a scheduler can raise; the task itself goes on
        logger.warning("An update of task %s did not reach the scheduler.", task_id, exc_info=True)


class OutboxReporter(TaskStatusReporter):  # type: ignore[misc]
    """Luigi's reporter of one task, which leaves everything in the outbox: quick and safe in any thread."""

    _numbers = itertools.count()

    def __init__(
        self, outbox: Outbox, scheduler: Any, task_id: str, worker_id: str, *, scheduler_messages: Any
    ) -> None:
        super().__init__(scheduler, task_id, worker_id, scheduler_messages)
        self.task_id, self.is_closed = task_id, False
        self._outbox = outbox

    def update_tracking_url(self, tracking_url: str) -> None:
        self._post("url", super().update_tracking_url, tracking_url)

    def update_status_message(self, message: str) -> None:
        self._post("message", super().update_status_message, message)

    def update_progress_percentage(self, percentage: float) -> None:
        self._post("progress", super().update_progress_percentage, percentage)

    def decrease_running_resources(self, decrease_resources: dict[str, int]) -> None:
        self._post(next(self._numbers), super().decrease_running_resources, decrease_resources)  # they add up

    def report_task_statistics(self, statistics: Any) -> None:
        self._post(next(self._numbers), super().report_task_statistics, statistics)

    def _post(self, kind: Hashable, send: Callable[[Any], object], value: Any) -> None:
        self._outbox.post(self, kind, functools.partial(send, value))
