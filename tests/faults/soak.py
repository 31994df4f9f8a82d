"""A soak: everything that works at a store is killed at random moments, for as long as you like.

    python -m tests.faults.soak --minutes 30      `make soak`; --seed N for other moments

    a provider      in this process; a fifth of its replies are faults, and it counts what it sent to its end
    a scheduler     killed with SIGKILL, and started again at the same port
    two builds      of one cohort, killed and started again; when all its documents are there it grows
    a verification  killed too; one that comes to its end has to find nothing

In the end a build completes the cohort without any of them, and what must hold is looked at: `find_broken`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.programs import BIN, ROOT
from tests.provider_server import PASSING, Mixture, ProviderServer
from tests.test_paid_once import COHORT, FILES, MODEL, REPLICATES, answer, call_in, count_good_answers, read_attempts

STAGES = 3
GROWTH = 30  # replicates, whenever all documents are there
PAUSE_SECONDS = (0.5, 5.0)  # between two kills
START_SECONDS = 60  # for a scheduler to listen
FEWEST_FREE_BYTES = 10**9  # the soak ends when it has filled the disk so far
BUILDS = ("build 1", "build 2")
WEIGHTS = {"build 1": 4, "build 2": 4, "scheduler": 1, "verification": 2}  # how often each is killed


class Summary(NamedTuple):
    """What a soak did, and what does not hold; `broken` is empty if everything does."""

    seconds: float
    kills: dict[str, int]
    verifications: int  # that came to their end
    requests: int
    good_answers: int
    documents: int
    attempts: int
    broken: list[str]


class Process:
    """A command that is started again whenever it has ended or was killed."""

    def __init__(self, folder: Path, name: str, *words: str) -> None:
        self._folder, self._words = folder, words
        self._printed = folder / f"{name}.printed"
        self.start()

    def start(self) -> None:
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [BIN / "daybook", *self._words],
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )

    def find_exit_code(self) -> int | None:
        return self._process.poll()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def read(self) -> str:
        """Return what it has printed since it was started."""
        return self._printed.read_text(errors="replace")

    def read_url(self) -> str:
        """Wait until a scheduler listens, and return its address."""
        deadline = time.monotonic() + START_SECONDS
        while not (shown := self.read().strip()).endswith("}"):
            if time.monotonic() > deadline or self.find_exit_code() is not None:
                raise AssertionError(f"the scheduler does not listen: {shown}")
            time.sleep(0.05)
        return str(json.loads(shown)["url"])


class Soak:
    """One soak in a folder."""

    def __init__(self, folder: Path, provider: ProviderServer, seed: int) -> None:
        self.folder, self._provider, self._chance = folder, provider, random.Random(seed)
        self._replicates = GROWTH
        self._kills = Counter(dict.fromkeys(WEIGHTS, 0))
        self._verifications = 0
        self._broken: list[str] = []
        provider.reply = Mixture(PASSING, share=0.2, median_seconds=0.05, p99_seconds=0.5, seed=seed, answer=answer)
        for name, text in (FILES | {"config/models.toml": MODEL.format(api_base=provider.api_base)}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        self._set_replicates()

    def _set_replicates(self) -> None:
        path = self.folder / "config" / "cohorts" / f"{COHORT}.toml"
        text = FILES[f"config/cohorts/{COHORT}.toml"]
        staged = path.with_suffix(".staged")
        staged.write_text(text.replace(f"replicates = {REPLICATES}", f"replicates = {self._replicates}"))
        staged.replace(path)

    def run(self, seconds: float) -> Summary:
        started = time.monotonic()
        scheduler = Process(self.folder, "scheduler", "scheduler", "--port", "0", "--json")
        url = scheduler.read_url()
        scheduler.kill()
        port = url.rstrip("/").rpartition(":")[2]
        processes = {
            "scheduler": Process(self.folder, "scheduler", "scheduler", "--port", port, "--json"),
            **{name: Process(self.folder, name, "build", COHORT, "--scheduler", url) for name in BUILDS},
            "verification": Process(self.folder, "verification", "verify", "--json"),
        }
        try:
            while time.monotonic() < started + seconds and not self._broken and self._has_room():
                time.sleep(self._chance.uniform(*PAUSE_SECONDS))
                self._go_on(processes)
                self._kill_one(processes)
        finally:
            for process in processes.values():
                process.kill()
        return self._finish(time.monotonic() - started)

    def _has_room(self) -> bool:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize > FEWEST_FREE_BYTES

    def _go_on(self, processes: Mapping[str, Process]) -> None:
        """Start again what has ended by itself, and look at how it did."""
        for name, process in processes.items():
            code = process.find_exit_code()
            if code is None:
                continue
            if name == "verification":
                self._verifications += 1
                if code != 0:
                    self._broken.append(f"a verification beside the builds ended with {code}: {process.read()}")
            process.start()
        if self._count_documents() == STAGES * self._replicates:  # else builds that are killed would have nothing to do
            self._replicates += GROWTH
            self._set_replicates()

    def _kill_one(self, processes: Mapping[str, Process]) -> None:
        name = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        processes[name].kill()
        processes[name].start()
        self._kills[name] += 1

    def _finish(self, seconds: float) -> Summary:
        build = self._run_to_end("build", COHORT)
        if build.returncode != 0:
            self._broken.append(f"the last build ended with {build.returncode}: {build.stdout}{build.stderr}")
        attempts = read_attempts(self.folder)
        self._broken += self.find_broken(attempts)
        return Summary(
            seconds=round(seconds, 1),
            kills=dict(self._kills),
            verifications=self._verifications,
            requests=len(self._provider.requests),
            good_answers=sum(count_good_answers(self._provider).values()),
            documents=self._count_documents(),
            attempts=len(attempts),
            broken=self._broken,
        )

    def _run_to_end(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [str(BIN / "daybook"), *words, "--json"]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def _count_documents(self) -> int:
        return len([path for path in self.folder.glob("data/docs/[!r]*/*") if len(path.name) == 16])

    # What must hold

    def find_broken(self, attempts: list[tuple[Path, dict[str, Any] | None]]) -> list[str]:
        """Return what does not hold of a store whose cohort was completed; [] if everything does."""
        broken = []
        verified = self._run_to_end("verify", "--deep")
        if verified.returncode != 0:
            broken.append(f"verify --deep ended with {verified.returncode}: {verified.stdout}{verified.stderr}")
        calls = STAGES * self._replicates
        if self._count_documents() != calls:
            broken.append(f"{self._count_documents()} documents of {calls} are there")
        requested = Counter(call_of_request(request) for request in self._provider.requests)
        begun = Counter(call_in(path) for path, _ in attempts)
        broken += [f"{call} was asked and is not in the ledger" for call in requested - begun]
        answered = Counter(call_in(path) for path, outcome in attempts if outcome and outcome["status"] == "ok")
        broken += [f"{call} has {count} good answers in the ledger" for call, count in answered.items() if count != 1]
        # An answer is asked for again only where a process died before it had read it.
        died = Counter(call_in(path) for path, outcome in attempts if outcome is None)
        good = count_good_answers(self._provider)
        broken += [f"{call} was paid {count} times" for call, count in good.items() if count > 1 + died[call]]
        broken += [f"the answer to {call} is not in the ledger" for call in good if call not in answered]
        return broken


def call_of_request(request: Any) -> tuple[str, int]:
    return str(request.body["messages"][-1]["content"]), request.body["seed"]


def soak(folder: Path, *, seconds: float, seed: int = 1) -> Summary:
    os.environ.setdefault("TRIAL_KEY", "key-of-the-trial")
    with ProviderServer() as provider:
        return Soak(folder, provider, seed).run(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1, help="chooses the moments")
    parser.add_argument("--folder", type=Path, help="where the store is kept; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="daybook-soak-") as temporary:
        folder = arguments.folder or Path(temporary)
        summary = soak(folder, seconds=arguments.minutes * 60, seed=arguments.seed)
    print(json.dumps(summary._asdict(), indent=2))
    return 1 if summary.broken else 0


if __name__ == "__main__":
    sys.exit(main())
