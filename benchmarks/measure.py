"""Running a command as a child and measuring it. Knows nothing of what it measures.

Peak memory is that of the largest process of the tree. It is never below what the measuring process itself
takes when it starts the child, so that one imports nothing big.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


class CommandFailed(Exception):
    """A command that is measured ended badly: its time says nothing."""

    def __init__(self, command: Sequence[str], *, exit_code: int, errors: str) -> None:
        self.exit_code = exit_code
        super().__init__(f"{' '.join(command)} ended with {exit_code}. Its last words:\n{errors[-2000:]}")


class Measurement(NamedTuple):
    """One run. `cpu_seconds` is user and system time of the process and all its children that it waited for."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    is_stopped: bool  # at its time limit: then the numbers say only where it was stopped
    output: str


def measure_command(
    command: Sequence[str],
    *,
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    limit_seconds: float | None = None,
) -> Measurement:
    """Run a command to its end or its limit. Raises CommandFailed if it ends with anything but 0."""
    os.sync()  # what an earlier run left to be written is not this one's to pay for
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**_environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,  # so that its children, too, can be stopped
        )
        stopped, usage, exit_code = _wait(process, limit_seconds)
        wall_seconds = perf_counter() - started
        if exit_code and not stopped:
            errors.seek(0)
            raise CommandFailed(command, exit_code=exit_code, errors=errors.read().decode(errors="replace"))
        output.seek(0)
        return Measurement(
            wall_seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * MAXRSS_UNIT_BYTES,
            stopped,
            output.read().decode(errors="replace"),
        )


def measure_python(module: str, *arguments: str) -> Measurement:
    """Run a module with this interpreter."""
    return measure_command([sys.executable, "-m", module, *arguments])


def _environment() -> dict[str, str]:
    """Return this environment without what would change which folders Daybook uses."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAYBOOK_", "LUIGI_"))}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _wait(process: subprocess.Popen[bytes], limit_seconds: float | None) -> tuple[bool, resource.struct_rusage, int]:
    """Wait for a process; return whether it was stopped, what it used, and its exit code."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit_seconds, stop) if limit_seconds is not None else None
    if timer:
        timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    if timer:
        timer.cancel()
        timer.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return stopped.is_set(), usage, process.returncode


def repeat_measuring(repeat: int, measure: Callable[[int], Measurement]) -> list[Measurement]:
    """Return the measurements of `repeat` runs, which get their numbers; one that is stopped is the last."""
    found: list[Measurement] = []
    while len(found) < repeat and not any(one.is_stopped for one in found):
        found.append(measure(len(found)))
    return found


def median_of(runs: Sequence[Measurement]) -> Measurement:
    """Return the medians, each by itself; a run that was stopped stands for all."""
    stopped = [run for run in runs if run.is_stopped]
    if stopped:
        return stopped[0]
    return Measurement(
        statistics.median(run.wall_seconds for run in runs),
        statistics.median(run.cpu_seconds for run in runs),
        int(statistics.median(run.peak_bytes for run in runs)),
        False,
        runs[-1].output,
    )
