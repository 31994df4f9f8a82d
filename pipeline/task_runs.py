"""One run of one task, in the places of Luigi's TaskProcess: a coroutine, or a thread.

    CoroutineRun, for a task with run_async
        start               this thread: are the dependencies there? Luigi's event START
        _launch             event loop: run_async, within its time limit
        _conclude           main thread again: is the task complete? Luigi's events; the result

    ThreadRun, for any other task: Luigi's own TaskProcess.run in a thread, so that yields, external
    tasks and process contexts are as in stock Luigi

What looks things up, fires events or asks a scheduler never runs on the event loop: one coroutine that
waits for a disk holds up all of them.

Neither can be ended by force. A coroutine is cancelled and has some seconds to end; a thread is not even
that. Then the task is reported as FAILED, and whatever comes of it later is not heard.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from luigi.event import Event
from luigi.scheduler import DONE, FAILED
from luigi.worker import TaskException, TaskProcess

from pipeline.outbox import OutboxReporter

logger = logging.getLogger("luigi-interface")

Result = tuple[str, str, Any, list[str], list[Any]]  # task id, status, explanation, missing, new dependencies
Conclusion = Callable[[], Result | None]


class TaskRun(Protocol):
    """What a worker needs to know of a run."""

    task: Any
    status_reporter: OutboxReporter

    def start(self) -> None: ...
    def terminate(self) -> None: ...
    def is_alive(self) -> bool: ...


class TaskStopped(Exception):
    """A run was ended before its time, by a time limit (`is_late`) or by a signal."""

    def __init__(self, message: str, *, is_late: bool) -> None:
        self.is_late = is_late
        super().__init__(message)


class ResultQueue:
    """What a worker reads results from.

    Besides a result it takes a conclusion, which its reader calls for the result; and None, which only
    wakes the reader. Putting is safe in a signal handler, where other queues may wait for ever.
    """

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Result | Conclusion | None] = queue.SimpleQueue()

    def put(self, item: Result | Conclusion | None) -> None:
        self._items.put(item)

    def get(self, timeout: float | None = None) -> Result:
        """Return the next result. Raises queue.Empty after `timeout` seconds, or when woken."""
        item = self._items.get(timeout=timeout)
        result = item() if callable(item) else item
        if result is None:
            raise queue.Empty
        return result

    def close(self) -> None:
        """Luigi closes its queues; there is nothing to do."""


class CoroutineRun:
    """One run of a task with run_async."""

    use_multiprocessing = True  # to Luigi: start it, and go on
    exitcode = None
    timeout_time = None  # the time limit is kept on the event loop

    def __init__(
        self,
        task: Any,
        reporter: OutboxReporter,
        worker_settings: Any,
        *,
        loop: asyncio.AbstractEventLoop,
        results: ResultQueue,
        stop_seconds: float,
    ) -> None:
        self.task, self.status_reporter = task, reporter
        self.worker_timeout = worker_settings.timeout if task.worker_timeout is None else task.worker_timeout
        self._settings, self._loop, self._results, self._stop_seconds = worker_settings, loop, results, stop_seconds
        self._job: asyncio.Task[BaseException | None] | None = None
        self._stopped: TaskStopped | None = None
        self._missing: list[str] = []
        self._is_concluded = False
        self._started = time.time()

    def start(self) -> None:
        try:
            self._check_dependencies()
            self.task.trigger_event(Event.START, self.task)
        except Exception as error:  # a dependency's complete() and handlers of events may raise anything
            self._results.put(functools.partial(self._conclude, error))
            return
        for source, target in TaskProcess.forward_reporter_attributes.items():
            setattr(self.task, target, getattr(self.status_reporter, source))
        self._started = time.time()
        self._loop.call_soon_threadsafe(self._launch)

    def is_alive(self) -> bool:
        return not self._is_concluded

    def terminate(self) -> None:
        """Ask the coroutine to end. Its result comes the usual way, after `stop_seconds` at the latest."""
        stopped = TaskStopped(f"Task {self.task.task_id} was cancelled.", is_late=False)
        self._loop.call_soon_threadsafe(self._stop, stopped)

    def _check_dependencies(self) -> None:
        if self._settings.check_unfulfilled_deps:
            self._missing = [dep.task_id for dep in self.task.deps() if not dep.complete()]
        if self._missing:
            raise RuntimeError(f"Unfulfilled dependencies at run time: {', '.join(self._missing)}")

    # On the event loop

    def _launch(self) -> None:
        self._job = self._loop.create_task(self._run_within_limit())
        self._job.add_done_callback(self._report)  # also of a job that is cancelled before its first step
        if self._stopped:
            self._job.cancel()

    def _stop(self, stopped: TaskStopped) -> None:
        if self._stopped is not None:  # a second cancel would end its clean-up
            return
        self._stopped = stopped
        if self._job is not None:
            self._job.cancel()
        self._loop.call_later(self._stop_seconds, self._give_up)

    def _give_up(self) -> None:
        if self._job is None or not self._job.done():
            self._results.put(functools.partial(self._conclude, self._stopped))

    async def _run_within_limit(self) -> BaseException | None:
        """Return the error that the task raised; None if it raised none."""
        seconds = self.worker_timeout
        late = TaskStopped(f"Task {self.task.task_id} timed out after {seconds} seconds.", is_late=True)
        timer = self._loop.call_later(seconds, self._stop, late) if seconds else None
        try:
            await self._make_coroutine()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit too, which would end the loop and with it every other task
            return error
        finally:
            if timer:
                timer.cancel()
        return None

    def _make_coroutine(self) -> Any:
        coroutine = self.task.run_async()
        if not inspect.isawaitable(coroutine):
            name = type(self.task).__name__
            raise TypeError(f"{name}.run_async is no coroutine. Dynamic requirements are for run(), which may yield.")
        return coroutine

    def _report(self, job: asyncio.Task[BaseException | None]) -> None:
        if job.cancelled():
            self._results.put(functools.partial(self._conclude, self._stopped or _cancelled_by_itself(self.task)))
        else:
            self._results.put(functools.partial(self._conclude, job.result()))

    # On the main thread

    def _conclude(self, error: BaseException | None) -> Result | None:
        """Return the result, with Luigi's events on the way; None if it was given before."""
        if self._is_concluded:
            return None
        self._is_concluded = True
        for target in TaskProcess.forward_reporter_attributes.values():
            setattr(self.task, target, None)
        try:
            if error is not None:
                raise error
            status, explanation = DONE, self._succeed()
        except TaskStopped as stopped:
            status, explanation = FAILED, str(stopped)
            logger.info(explanation)
            self.task.trigger_event(Event.TIMEOUT if stopped.is_late else Event.PROCESS_FAILURE, self.task, explanation)
        except BaseException as raised:  # as Luigi does: what a task raises is its result
            logger.error("Task %s failed.", self.task, exc_info=True)
            self.task.trigger_event(Event.FAILURE, self.task, raised)
            status, explanation = FAILED, self.task.on_failure(raised)
        return self.task.task_id, status, explanation, self._missing, []

    def _succeed(self) -> Any:
        if self._settings.check_complete_on_run and not self.task.complete():
            raise TaskException("Task finished running, but complete() is still returning false.")
        self.task.trigger_event(Event.PROCESSING_TIME, self.task, time.time() - self._started)
        explanation = self.task.on_success()
        self.task.trigger_event(Event.SUCCESS, self.task)
        return explanation


def _cancelled_by_itself(task: Any) -> TaskStopped:
    return TaskStopped(f"Task {task.task_id} was cancelled.", is_late=False)


class ThreadRun:
    """One run of a task without run_async. Such tasks run one at a time: they pass `gate`."""

    use_multiprocessing = True
    exitcode = None

    def __init__(
        self, process: Any, reporter: OutboxReporter, *, gate: threading.Semaphore, results: ResultQueue
    ) -> None:
        self.task, self.worker_timeout = process.task, process.worker_timeout
        self.timeout_time: float | None = None  # set behind the gate: waiting there is not the task's fault
        self.status_reporter = process.status_reporter = reporter
        process.use_multiprocessing = False  # or it would seed `random` anew, for the whole process
        process.result_queue = self
        self._process, self._gate, self._results = process, gate, results
        self._guard = threading.RLock()
        self._is_reported = self._is_inside = False

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name=f"daybook-{self.task.task_id}").start()

    def is_alive(self) -> bool:
        return not self._is_reported

    def terminate(self) -> None:
        """Report the task as failed; its thread may run on."""
        self._fail(f"Task {self.task.task_id} was cancelled; its thread may still run.")

    def check_time_limit(self) -> None:
        """Report the task as failed if it has taken too long."""
        if self.timeout_time is not None and time.time() > self.timeout_time and self.is_alive():
            explanation = (
                f"Task {self.task.task_id} timed out after {self.worker_timeout} seconds; its thread may still run."
            )
            self.task.trigger_event(Event.TIMEOUT, self.task, explanation)
            self._fail(explanation)

    def put(self, result: Result) -> None:
        """Hand on the first result. Luigi's TaskProcess takes this object for its result queue."""
        is_result = result[1] is not None  # a KeyboardInterrupt, on its way to _run, leaves one without a status
        with self._guard:
            if self._is_reported or not is_result:
                return
            self._is_reported = True
            if self._is_inside:
                self._gate.release()
        self._results.put(result)

    def _fail(self, explanation: str) -> None:
        self.put((self.task.task_id, FAILED, explanation, [], []))

    def _run(self) -> None:
        self._gate.acquire()
        with self._guard:
            if self._is_reported:  # cancelled while it waited
                self._gate.release()
                return
            self._is_inside = True
        if self.worker_timeout:
            self.timeout_time = time.time() + self.worker_timeout
        try:
            self._process.run()
        except BaseException as error:  # what a process would die of: a KeyboardInterrupt, a task_process_context
            explanation = f"Task {self.task.task_id} ended unexpectedly with {error!r}."
            logger.error(explanation, exc_info=True)
            self.task.trigger_event(Event.PROCESS_FAILURE, self.task, explanation)
            self._fail(explanation)
