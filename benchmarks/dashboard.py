"""dashboard: tasks that do nothing through a central scheduler of its own process; what bounds the rate.

Every task is added, asked for, and reported done: the round trips are what is measured. Server and client are
processes of their own, so the CPU time of each says which of them is the bound: the one near the wall time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.measure import ROOT, Measurement, measure_python
from benchmarks.results import Result, Row, Settings

SERVER = [sys.executable, "-m", "pipeline.cli", "scheduler"]  # port and data folder follow
TASKS, QUICK_TASKS = 5_000, 1_000
CONCURRENCY = 64
TASKS_A_SECOND = 200.0  # the aim
ESTIMATED_TASKS_A_SECOND = 120.0
START_SECONDS = 30.0


class ServerMissing(Exception):
    """The scheduler did not come up."""


class ServedRun(NamedTuple):
    client: Measurement
    server_cpu_seconds: float
    server_peak_bytes: int


def estimate_seconds(settings: Settings) -> float:
    sizes = settings.sizes or [QUICK_TASKS if settings.is_quick else TASKS]
    return settings.repeat * sum(sizes) / ESTIMATED_TASKS_A_SECOND


def run(settings: Settings) -> Result:
    result = Result()
    for tasks in settings.sizes or [QUICK_TASKS if settings.is_quick else TASKS]:
        runs = sorted((_row(tasks, _run_served(tasks)) for _ in range(settings.repeat)), key=_wall_seconds)
        row = runs[len(runs) // 2]
        result.rows.append(row)
        result.hold(
            f"{tasks:,} tasks, tasks a second", measured=row["tasks a second"], limit=TASKS_A_SECOND, at_least=True
        )
    return result


def _wall_seconds(row: Row) -> float:
    return float(row["wall_seconds"])


def _row(tasks: int, served: ServedRun) -> Row:
    printed = json.loads(served.client.output)
    wall_seconds = printed["wall_seconds"]
    bound = max(served.server_cpu_seconds, served.client.cpu_seconds)
    return {
        "tasks": tasks,
        "wall_seconds": round(wall_seconds, 3),
        "tasks a second": round(tasks / wall_seconds, 1),
        "server cpu_seconds": round(served.server_cpu_seconds, 2),
        "client cpu_seconds": round(served.client.cpu_seconds, 2),
        "round trips a task": round(printed["round_trips"] / tasks, 2),
        "server peak_bytes": served.server_peak_bytes,
        "bound": "server" if bound == served.server_cpu_seconds else "client",
    }


def _run_served(tasks: int) -> ServedRun:
    """Run the tasks against a server of their own; its CPU time is that of its whole life, its start included."""
    port = _find_port()
    with _start_server(port) as server:
        client = measure_python("benchmarks.dashboard_client", str(port), str(tasks), str(CONCURRENCY))
        server.send_signal(signal.SIGTERM)
        _, _, usage = os.wait4(server.pid, 0)
        server.returncode = 0
    return ServedRun(client, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@contextlib.contextmanager
def _start_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory() as data:
        command = [*SERVER, "--port", str(port), "--data-root", data]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, server)
            yield server
        finally:
            if server.returncode is None:
                server.kill()
                server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ServerMissing(f"{' '.join(SERVER)} {port} did not listen within {START_SECONDS:.0f} s.")


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
