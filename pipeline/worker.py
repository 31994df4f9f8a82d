"""A Luigi worker with many tasks in flight in one process. Knows nothing of documents.

Three threads, with one duty each:

    main thread    all that is Luigi's: asks for work, looks for dependencies, fires events, tells results.
                   The only one that waits for a scheduler
    event loop     coroutines of tasks that have `async def run_async(self)`, and nothing else
    outbox         what running tasks tell about themselves

A task without run_async runs in a thread, one at a time. Nothing is forked: a fork is slow with much in
memory, and where threads hold locks its child may wait for ever.

A central scheduler that was started anew may have forgotten everything. The main thread notices at its next
turn and tells it all again, what runs here first, so that nobody else is given it.

A stop, by Ctrl-C or SIGTERM: no new task starts; every coroutine is cancelled and has STOP_SECONDS to
end; the summary is logged; the process ends with 130 or 143, whatever its threads still do. A second
signal raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from luigi import execution_summary
from luigi.scheduler import DONE, RUNNING
from luigi.worker import GetWorkResponse, Worker

from pipeline.outbox import Outbox, OutboxReporter
from pipeline.scheduler_client import RPCError, SchedulerClient
from pipeline.task_runs import CoroutineRun, ResultQueue, TaskRun, ThreadRun

logger = logging.getLogger("luigi-interface")

STOP_SECONDS = 3.0  # for what is in flight when a signal comes; the whole exit is to take less than 5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class EventLoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True, name="daybook-event-loop")
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Cancel what still runs, wait for it at most `seconds`, and end the loop.

        If something does not end in time the loop is left unclosed, for a thread that still reports to it.
        """
        try:
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop).result(timeout=seconds)
            has_ended = True
        except TimeoutError:
            has_ended = False
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=seconds)
        if has_ended and not self._thread.is_alive():
            self.loop.close()

    async def _cancel_all(self) -> None:
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


class AsyncWorker(Worker):  # type: ignore[misc]
    """Luigi's worker with coroutines and threads for processes; `worker_processes` of them at a time."""

    _task_result_queue: Any

    def __init__(
        self,
        scheduler: Any = None,
        worker_id: str | None = None,
        worker_processes: int = 1,
        assistant: bool = False,
        *,
        stop_seconds: float = STOP_SECONDS,
        **settings: Any,
    ) -> None:
        super().__init__(scheduler, worker_id, worker_processes, assistant, **settings)
        self._task_result_queue.close()
        self._task_result_queue = ResultQueue()
        self._stop_seconds = self._exit_seconds = stop_seconds
        self._event_loop = EventLoopThread()
        self._outbox = Outbox()
        self._gate = threading.Semaphore(1)
        self._limited_threads: list[ThreadRun] = []
        self._stop_signal: int | None = None
        self._told_tasks: dict[str, dict[str, Any]] = {}  # what a central scheduler would have to be told again
        if isinstance(scheduler, SchedulerClient):
            scheduler.gives_up = lambda: self._stop_signal is not None

    def __exit__(self, *exception: Any) -> bool:
        handled: bool = super().__exit__(*exception)
        self._event_loop.close(self._exit_seconds)
        self._outbox.close()
        return handled

    def run(self) -> bool:
        """Return whether all tasks succeeded. Raises SystemExit with 128 + its number after a signal."""
        succeeded = False
        with self._stop_on_signals():
            try:
                succeeded = super().run()
                self._exit_seconds = 0.1 if self._stop_signal else self._stop_seconds  # a stop has waited already
            except RPCError:
                if self._stop_signal is None:
                    raise
        if self._stop_signal is not None:
            logger.info(execution_summary.summary(self))
            code = 128 + self._stop_signal
            atexit.register(_end_at_once, code)
            raise SystemExit(code)
        return succeeded

    # Signals

    @contextlib.contextmanager
    def _stop_on_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # no other may install handlers
            yield
            return
        before = {number: signal.signal(number, self._note_signal) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        """Leave word only: the interrupted main thread may hold the lock that anything more would wait for."""
        if self._stop_signal is not None:
            raise KeyboardInterrupt
        self._stop_signal = number
        self._start_phasing_out()
        self._task_result_queue.put(None)

    # What Luigi's worker calls. These names are private there; tests hold every release to them

    def _create_task_process(self, task: Any) -> TaskRun:
        messages = queue.SimpleQueue[Any]() if task.accepts_messages else None
        reporter = OutboxReporter(self._outbox, self._scheduler, task.task_id, self._id, scheduler_messages=messages)
        results = self._task_result_queue
        if hasattr(task, "run_async"):
            return CoroutineRun(
                task,
                reporter,
                self._config,
                loop=self._event_loop.loop,
                results=results,
                stop_seconds=self._stop_seconds,
            )
        run = ThreadRun(super()._create_task_process(task), reporter, gate=self._gate, results=results)
        if run.worker_timeout:
            self._limited_threads.append(run)
        return run

    def _purge_children(self) -> None:
        """Stop what has to be stopped; Luigi calls this at every turn.

        Coroutines keep their time limits themselves, so unlike Luigi this need not look at all that runs.
        """
        if self._stop_signal is not None:
            for run in self._running_tasks.values():
                run.terminate()
        self._tell_again_if_forgotten()
        for run in self._limited_threads:
            run.check_time_limit()
        self._limited_threads = [run for run in self._limited_threads if run.is_alive()]

    def _add_task(self, *args: Any, **kwargs: Any) -> None:
        run = self._running_tasks.get(kwargs["task_id"])
        if run is not None:  # this is its result
            self._outbox.finish(run.status_reporter)
        super()._add_task(*args, **kwargs)
        if isinstance(self._scheduler, SchedulerClient):
            task = self._scheduled_tasks[kwargs["task_id"]]
            facts = {**kwargs, "param_visibilities": task._get_param_visibilities()}
            self._told_tasks.setdefault(task.task_id, facts).update(status=kwargs["status"], expl=kwargs.get("expl"))

    # A central scheduler that was started anew

    def _get_work(self) -> GetWorkResponse:
        reply = super()._get_work()
        if not self._tell_again_if_forgotten() or self._stop_requesting_work:
            return reply
        is_done = self._told_tasks.get(reply.task_id, {}).get("status") == DONE  # given out of an old state
        return self._get_work() if is_done or reply.task_id is None else reply

    def _keep_alive(self, get_work_response: GetWorkResponse) -> bool:
        """Stay while other workers may still be told again, or run what was asked of this one too.

        Only with a central scheduler of ours, which notices that another worker has died.
        """
        is_needed = isinstance(self._scheduler, SchedulerClient) and (
            self._scheduler.is_waiting or bool(get_work_response.running_tasks)
        )
        return (is_needed and not self._stop_requesting_work) or super()._keep_alive(get_work_response)

    def _tell_again_if_forgotten(self) -> bool:
        """Return whether the scheduler was started anew; it then knows all again that it needs to go on."""
        if not (isinstance(self._scheduler, SchedulerClient) and self._scheduler.was_restarted()):
            return False
        logger.info("The scheduler was started anew; it is told of %d tasks again.", len(self._told_tasks))
        for task_id, told in sorted(self._told_tasks.items(), key=lambda item: item[0] not in self._running_tasks):
            facts = _describe_again(told, is_running=task_id in self._running_tasks)
            self._scheduler.add_task(**facts, is_told_again=True)  # Luigi's own server passes over the last
        self._scheduler.add_worker(self._id, self._worker_info)
        return True


def _describe_again(told: dict[str, Any], *, is_running: bool) -> dict[str, Any]:
    """Return what add_task is to be told: what it was told first, with the newest status."""
    if is_running:
        return {**told, "status": RUNNING, "expl": None}
    if told["status"] == DONE:
        return {**told, "deps": None, "runnable": False, "expl": None}
    return told


def _end_at_once(code: int) -> None:
    """End the process without waiting for model calls that threads still make. Registered last, so it is called first.

    What they bring back is lost; that they were made is in the call ledger.
    """
    atexit.unregister(_end_at_once)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
