"""Luigi's own tests of its scheduler and worker, run against this package's.

They come from Luigi's source distribution, are fetched when this test runs and are no part of this
project. Each runs in a pytest of its own, where the plugin own_classes has replaced Luigi's classes.
What fails is run once more with the replacement, for some of them measure seconds, and once with
Luigi's own classes: what fails there too says nothing about this package.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from tests.luigis_tests.differences import DOES_NOT_APPLY, NEED_OWN_PROCESS, NOT_RUN
from tests.luigis_tests.luigis_sources import ROOT, fetch_luigis_tests, fetch_packages

FEWEST_TESTS = 700  # of Luigi 3.8.1, all files together
SCHEDULES = re.compile(
    r"\b(Scheduler|Worker|TaskProcess|build|luigi\.run|luigi_run|run_locally\w*|run_with_retcodes)\("
)
SECONDS = 480  # before what hangs is ended
PROCESSES = 4  # these tests mostly sleep


class LuigisTests(NamedTuple):
    """Where Luigi's tests and what they import lie."""

    folder: Path
    packages: Path

    def list_files(self) -> list[str]:
        """Return the names of the files that make a scheduler or a worker, or have a task run."""
        files = sorted((self.folder / "test").glob("*_test.py"))
        return [file.name for file in files if SCHEDULES.search(file.read_text()) and file.name not in NOT_RUN]

    def run_together(self, tests: Iterable[str], *, with_own_classes: bool = True) -> dict[str, bool]:
        """Return {test: whether it passed}, without those that were skipped."""
        if not (tests := list(tests)):  # for no name pytest would run all it finds
            return {}
        left_out = [f"--deselect=test/{test}" for test in [*NEED_OWN_PROCESS, *NOT_RUN]]
        outcomes = self.folder / "outcomes.xml"
        done = self._run([*left_out, f"-n{PROCESSES}", f"--junitxml={outcomes}"], tests, with_own_classes)
        assert done.returncode in (0, 1), done.stdout[-5000:] + done.stderr[-5000:]
        cases = [case for case in ElementTree.parse(outcomes).iter("testcase") if case.find("skipped") is None]
        return {name_of(case): case.find("failure") is None and case.find("error") is None for case in cases}

    def run_apart(self, tests: Iterable[str], *, with_own_classes: bool = True) -> dict[str, bool]:
        """Return the same of tests that get a process each, two at a time."""

        def passes(test: str) -> bool:
            return self._run(["-n0"], [test], with_own_classes).returncode == 0

        tests = list(tests)
        with ThreadPoolExecutor(2) as threads:
            return dict(zip(tests, threads.map(passes, tests), strict=True))

    def _run(
        self, options: list[str], tests: Iterable[str], with_own_classes: bool
    ) -> subprocess.CompletedProcess[str]:
        plugin = ["-p", "tests.luigis_tests.own_classes"] if with_own_classes else []
        names = [f"test/{test}" for test in tests]
        command = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "no:cacheprovider", "-q"]
        folders = [str(ROOT), str(self.packages)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return subprocess.run(
            [*command, *plugin, *options, *names],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": os.pathsep.join(folders)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


def name_of(case: ElementTree.Element) -> str:
    """Return a test's name as in differences.py, from junit's "test.rpc_test.RPCTest" and "test_ping"."""
    parts = case.attrib["classname"].removeprefix("test.").split(".")
    return "::".join([f"{parts[0]}.py", *parts[1:], case.attrib["name"]])


def list_failed(outcomes: dict[str, bool]) -> list[str]:
    return [test for test, has_passed in outcomes.items() if not has_passed]


@pytest.fixture
def luigis_tests(request: pytest.FixtureRequest, tmp_path: Path) -> LuigisTests:
    cache = request.config.cache.mkdir("luigis_tests")
    folder = fetch_luigis_tests(cache, tmp_path)
    (folder / "pytest.ini").write_text("[pytest]\n")  # or pytest would look for settings in the folders above
    return LuigisTests(folder, fetch_packages(cache))


@pytest.mark.slow
def test_luigis_own_tests_pass_but_for_the_differences_that_are_listed(luigis_tests):
    outcomes = luigis_tests.run_together(luigis_tests.list_files())
    outcomes_apart = luigis_tests.run_apart(NEED_OWN_PROCESS)

    failed = list_failed(luigis_tests.run_together(list_failed(outcomes)))
    failed_apart = list_failed(outcomes_apart)
    fails_in_luigi = {
        *list_failed(luigis_tests.run_together(failed, with_own_classes=False)),
        *list_failed(luigis_tests.run_apart(failed_apart, with_own_classes=False)),
    }

    print(f"{len(outcomes) + len(outcomes_apart)} tests ran; with Luigi's classes fail too: {sorted(fails_in_luigi)}")
    found = {*failed, *failed_apart}
    unlisted = found - fails_in_luigi - set(DOES_NOT_APPLY)
    assert sorted(unlisted) == [], "A difference from Luigi that differences.py does not list."
    # Whether a listed test also fails with Luigi's own classes depends on the load: some of them wait for a second.
    assert sorted(set(DOES_NOT_APPLY) - found) == [], "They pass here."
    assert len(outcomes) + len(outcomes_apart) >= FEWEST_TESTS
