"""two_workers: two builds of one cohort share a central scheduler that is killed twice; each call is asked once.

    provider        counts what it is asked, and answers after a while; every document is a call of its own
    scheduler       killed with SIGKILL when a third and two thirds of the calls are answered, and started again
    two builds      of the same cohort, both with many documents at work
    a third build   afterwards; it has nothing to make

What is checked are the promises of the design, as aims: the table says how fast they were kept.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from benchmarks.cohort_folder import COHORT, STAGES, WIDE_DOCUMENTS, Workplace, write_wide_config
from benchmarks.measure import ROOT, CommandFailed, measure_command
from benchmarks.provider import Counts, Provider, serve_provider
from benchmarks.results import Result, Row, Settings

DOCUMENTS, QUICK_DOCUMENTS = 10_000, 240
WORKERS = 2
CONCURRENCY = 64  # of each worker
LATENCY_SECONDS = 0.2
KILLS = 2
LOOK_SECONDS = 0.05
ESTIMATED_DOCUMENTS_A_SECOND = 25.0
INCOMPLETE = 30  # the exit code of a build that leaves documents to the next
ENVIRONMENT_LEFT_OUT = ("DAYBOOK_", "LUIGI_")


class Ended(NamedTuple):
    """A process that has ended. CPU is user and system time."""

    exit_code: int
    cpu_seconds: float
    output: str
    errors: str


@dataclass
class Running:
    """A process with its output in files, so that it never waits for a reader."""

    command: list[str]
    output: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __post_init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_LEFT_OUT)}
        environment = {**kept, "PYTHONPATH": str(ROOT), "BENCHMARK_KEY": "any"}
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors
        )

    def check_alive(self) -> None:
        if self.process.returncode is None and self.process.poll() is None:
            return
        raise CommandFailed(self.command, exit_code=self.process.returncode, errors=self._read(self.errors))

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def wait(self) -> Ended:
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Ended(self.process.returncode, cpu_seconds, self.read_output(), self._read(self.errors))

    def read_output(self) -> str:
        return self._read(self.output)

    def _read(self, file: IO[bytes]) -> str:
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


class Scheduler:
    """`daybook scheduler`, which keeps its port when it is killed and started again."""

    def __init__(self, place: Workplace) -> None:
        self._place, self.port, self.kills, self.cpu_seconds = place, 0, 0, 0.0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._running = Running(self._place.command("scheduler", "--port", str(self.port)))
        while not self._running.read_output().rstrip().endswith("}"):
            self._running.check_alive()
            time.sleep(LOOK_SECONDS)
        url = json.loads(self._running.read_output())["url"]
        self.port = int(url.rstrip("/").rpartition(":")[2])

    def restart(self) -> None:
        """Kill it as a crash would, and start it again."""
        self.stop(signal.SIGKILL)
        self.kills += 1
        self.start()

    def stop(self, number: int = signal.SIGTERM) -> None:
        self._running.process.send_signal(number)
        self.cpu_seconds += self._running.wait().cpu_seconds

    def kill(self) -> None:
        self._running.kill()


class Soak(NamedTuple):
    """What a run came to."""

    wall_seconds: float
    counts: Counts
    builds: list[Ended]
    kills: int
    scheduler_cpu_seconds: float
    provider_cpu_seconds: float
    later_build: dict[str, Any]  # what a build afterwards printed


class Found(NamedTuple):
    """What a data folder holds in the end."""

    documents: int
    attempts: int
    answered_attempts: int
    calls: int
    superseded: int
    leftovers: int  # in .tmp, of commits that did not come to their end


def estimate_seconds(settings: Settings) -> float:
    return sum(_sizes_of(settings)) / ESTIMATED_DOCUMENTS_A_SECOND


def run(settings: Settings) -> Result:
    """Run each size once: it is a test of endurance."""
    result = Result()
    for documents in _sizes_of(settings):
        folder = settings.work_folder / f"two_workers-{documents}"
        shutil.rmtree(folder, ignore_errors=True)
        with serve_provider(LATENCY_SECONDS) as provider:
            place = write_wide_config(folder, documents // WIDE_DOCUMENTS, api_base=provider.api_base)
            soak = _run_soak(place, provider, documents)
        found = _look_through(place.data)
        result.rows.append(_row(documents, soak, found))
        _hold_promises(result, documents, soak, found)
        result.notes += [_last_words(build) for build in soak.builds if build.exit_code]
        shutil.rmtree(folder)
    return result


def _sizes_of(settings: Settings) -> list[int]:
    sizes = settings.sizes or [QUICK_DOCUMENTS if settings.is_quick else DOCUMENTS]
    return [max(1, size // WIDE_DOCUMENTS) * WIDE_DOCUMENTS for size in sizes]


# Running


def _run_soak(place: Workplace, provider: Provider, documents: int) -> Soak:
    with _start(place) as (scheduler, builds):
        started = time.perf_counter()
        for number in range(1, KILLS + 1):
            _wait_for_answers(provider, documents * number // (KILLS + 1), builds)
            scheduler.restart()
        ended = [build.wait() for build in builds]
        wall_seconds = time.perf_counter() - started
        scheduler.stop()
    later = json.loads(measure_command(place.command("build", COHORT), environment={"BENCHMARK_KEY": "any"}).output)
    counts = provider.read_counts()
    provider.process.terminate()
    _, _, usage = os.wait4(provider.process.pid, 0)
    provider.process.returncode = 0
    provider_cpu_seconds = usage.ru_utime + usage.ru_stime
    return Soak(wall_seconds, counts, ended, scheduler.kills, scheduler.cpu_seconds, provider_cpu_seconds, later)


@contextmanager
def _start(place: Workplace) -> Iterator[tuple[Scheduler, list[Running]]]:
    scheduler = Scheduler(place)
    options = ["--scheduler", scheduler.url, "--concurrency", str(CONCURRENCY)]
    builds = [Running(place.command("build", COHORT, *options)) for _ in range(WORKERS)]
    try:
        yield scheduler, builds
    finally:
        scheduler.kill()
        for build in builds:
            build.kill()


def _wait_for_answers(provider: Provider, answers: int, builds: list[Running]) -> None:
    while provider.read_counts().answered < answers:
        for build in builds:
            build.check_alive()
        time.sleep(LOOK_SECONDS)


# Looking


def _look_through(data: Path) -> Found:
    documents = sum(len([path for path in (data / "docs" / stage).iterdir() if _is_document(path)]) for stage in STAGES)
    calls = [path for path in data.glob("calls/??/*") if path.is_dir()]
    attempts = [path for call in calls for path in call.iterdir() if path.is_dir()]
    outcomes = [path / "outcome.json" for path in attempts]
    answered = sum(path.exists() and json.loads(path.read_bytes())["status"] == "ok" for path in outcomes)
    superseded = len(list((data / "quarantine").glob("superseded/*")))
    leftovers = len([path for path in (data / ".tmp").glob("*") if (path / "metadata.json").exists()])
    return Found(documents, len(attempts), answered, len(calls), superseded, leftovers)


def _is_document(path: Path) -> bool:
    return not path.name.startswith("_") and (path / "metadata.json").exists()


# Showing


def _row(documents: int, soak: Soak, found: Found) -> Row:
    return {
        "documents": found.documents,
        "wall_seconds": round(soak.wall_seconds, 1),
        "documents a second": round(documents / soak.wall_seconds, 1),
        **{f"build {number} cpu_seconds": round(build.cpu_seconds, 1) for number, build in enumerate(soak.builds, 1)},
        "scheduler cpu_seconds": round(soak.scheduler_cpu_seconds, 1),
        "provider cpu_seconds": round(soak.provider_cpu_seconds, 1),
        "requests": soak.counts.requests,
        "answered": soak.counts.answered,
        "attempts": found.attempts,
        "made, as told": _count_told(soak),
        "asked again": soak.counts.requests - soak.counts.calls,
        "restarts": soak.kills,
        "exit codes": " ".join(str(build.exit_code) for build in soak.builds),
    }


def _count_told(soak: Soak) -> int:
    """Return how many documents the builds said they made."""
    printed = [json.loads(build.output) for build in soak.builds if build.output]
    return sum(made for one in printed for stage, made in one["made"].items() if stage in STAGES)


def _hold_promises(result: Result, documents: int, soak: Soak, found: Found) -> None:
    exact = {
        "documents there": found.documents,
        "calls that were asked": soak.counts.calls,
        "requests": soak.counts.requests,
        "requests answered": soak.counts.answered,
        "calls in the ledger": found.calls,
        "attempts in the ledger": found.attempts,
        "answered attempts": found.answered_attempts,
    }
    for what, measured in exact.items():
        _hold_exactly(result, f"{documents:,} documents, {what}", measured, documents)
    _hold_exactly(result, f"{documents:,} documents, requests of one call", soak.counts.most_of_a_call, 1)
    _hold_exactly(result, f"{documents:,} documents, superseded ones", found.superseded, 0)
    _hold_exactly(result, f"{documents:,} documents, half-made ones", found.leftovers, 0)
    _hold_exactly(result, f"{documents:,} documents, restarts", soak.kills, KILLS)
    bad_ends = [build for build in soak.builds if build.exit_code not in (0, INCOMPLETE)]
    _hold_exactly(result, f"{documents:,} documents, builds that broke", len(bad_ends), 0)
    later = soak.later_build
    _hold_exactly(result, f"{documents:,} documents, missing after a later build", later["missing"], 0)
    _hold_exactly(result, f"{documents:,} documents, calls of a later build", later["calls"], 0)


def _hold_exactly(result: Result, aim: str, measured: int, expected: int) -> None:
    result.aims.append({"aim": aim, "measured": measured, "limit": f"= {expected}", "met": _say(measured == expected)})


def _say(is_met: bool) -> str:
    return "yes" if is_met else "NO"


def _last_words(build: Ended) -> str:
    return f"A build ended with {build.exit_code}. Its last words: {build.errors[-1000:]}"
