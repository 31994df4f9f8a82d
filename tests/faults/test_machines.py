"""Several machines and clocks at one store, and programs that meet a store that cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.data_root import DataRoot
from store.machine_locks import MachineLock
from tests.faults.children import die, run_child
from tests.faults.requirements import require_namespaces, require_program
from tests.faults.test_refusing_disks import immutable, read_only
from tests.programs import BIN, ROOT, run
from tests.test_command_line import build_against, folder  # noqa: F401

COUNT = 40
WRITE = """
import sys
from pathlib import Path
from store.data_root import DataRoot
data, name = DataRoot(Path(sys.argv[1])), sys.argv[2]
for number in range({count}):
    doc_id = f"{{number:016d}}"
    attempt = data.calls.begin(doc_id, {{"messages": [name]}})
    attempt.keep(f"{{name}} {{number}}".encode())
    attempt.finish({{"status": "ok"}})
    data.documents.commit("draft", doc_id, {{"raw.txt": f"{{name}} {{number}}".encode()}}, {{"digest": "1" * 64}})
"""


def write_as(root: Path, name: str, *command: str) -> subprocess.Popen[bytes]:
    """Start a writer of COUNT documents, through a command that changes where and when it thinks it is."""
    script = WRITE.format(count=COUNT)
    return subprocess.Popen(
        [*command, sys.executable, "-c", script, root, name], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def assert_that_nothing_is_lost(root: Path, names: list[str]) -> None:
    data = DataRoot(root)
    answers = sorted(f"{name} {number}" for name in names for number in range(COUNT))
    ids = [f"{number:016d}" for number in range(COUNT)]
    assert data.documents.list_ids("draft") == ids
    winners = [data.documents.read_deeply("draft", doc_id).read_text("raw.txt") for doc_id in ids]
    losers = [path.read_text() for path in (root / "quarantine").rglob("raw.txt")]
    assert sorted(winners + losers) == answers
    attempts = [attempt for call_id in ids for attempt in data.calls.list_attempts(call_id)]
    assert sorted((attempt.read_response() or b"").decode() for attempt in attempts) == answers
    assert {attempt.status for attempt in attempts} == {"ok"}


def test_two_machines_with_equal_pids_at_one_store_lose_nothing(tmp_path):
    """Each in namespaces of its own: a network without the other, and pids that begin with 1."""
    options = ("--net", "--pid", "--fork", "--uts")
    require_namespaces(*options)
    machines = [write_as(tmp_path, name, "unshare", *options) for name in ("one", "two")]

    assert [machine.wait(timeout=60) for machine in machines] == [0, 0]

    assert_that_nothing_is_lost(tmp_path, ["one", "two"])


def test_clocks_three_years_apart_change_neither_what_is_kept_nor_its_order(tmp_path):
    require_program("faketime")
    for name, offset in (("late", "+3y"), ("early", "-3y")):
        assert write_as(tmp_path, name, "faketime", "-f", offset).wait(timeout=60) == 0

    assert_that_nothing_is_lost(tmp_path, ["late", "early"])
    data = DataRoot(tmp_path)
    for number in range(COUNT):
        doc_id = f"{number:016d}"
        first, second = data.calls.list_attempts(doc_id)
        assert (first.read_request()["messages"], second.read_request()["messages"]) == (["late"], ["early"])
        assert data.calls.find_answer(doc_id) == first
        assert data.documents.read("draft", doc_id).read_text("raw.txt").startswith("late")


def test_the_lock_of_a_process_that_died_is_free_and_that_of_one_alive_is_not(tmp_path):
    path = tmp_path / "lock"
    run_child(lambda tell: (MachineLock.try_to_get(path), die()))

    lock = MachineLock.try_to_get(path)

    assert lock is not None
    assert run_child(lambda tell: tell(str(MachineLock.try_to_get(path)))).acknowledged == ["None"]
    lock.release()


def test_a_call_of_a_process_that_died_can_be_held_at_once(tmp_path):
    def hold_and_die(tell) -> None:
        with DataRoot(tmp_path).calls.hold("0" * 16):
            die()

    run_child(hold_and_die)

    with DataRoot(tmp_path).calls.hold("0" * 16):
        assert DataRoot(tmp_path).calls.list_attempts("0" * 16) == []


LINK_DOWN = """
import json, subprocess, sys
from pathlib import Path
from pipeline.making import Maker, make_document
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from tests.pipeline.test_making import COHORT, list_attempts, plan_of, write_config
from tests.provider_server import ProviderServer, reply_with_last_message

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with ProviderServer() as provider:
    settings = 'timeout_seconds = 3\\nretries = 1\\nbackoff_seconds = 0\\n'
    write_config(Path("config"), api_base=provider.api_base, settings=settings)
    workspace = Workspace(Roots(Path("data"), Path("config")))

    def pull_the_plug(request):
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
        return reply_with_last_message(request)

    provider.reply = pull_the_plug
    try:
        make_document(Maker(workspace.data), plan_of(workspace, Stage.DRAFT), cohort=COHORT)
    except Exception as error:
        print(json.dumps(str(error)))
    failed = list_attempts(workspace)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    provider.reply = reply_with_last_message
    make_document(Maker(workspace.data), plan_of(workspace, Stage.DRAFT), cohort=COHORT)
    print(json.dumps([[a.status, a.outcome["reason"], a.outcome["cost"]["usd"]] for a in failed]))
    print(json.dumps([attempt.status for attempt in list_attempts(workspace)]))
"""


@pytest.mark.slow
def test_a_link_that_goes_down_during_a_call_is_a_failed_attempt_of_unknown_cost(tmp_path):
    require_namespaces("--net")
    require_program("ip")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRIAL_KEY": "k"}

    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", LINK_DOWN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert result.returncode == 0, result.stderr
    _, failed, after = map(json.loads, result.stdout.splitlines())
    assert failed[0] in (["gen_error", "timeout", None], ["gen_error", "transport", None])
    assert len(failed) <= 2
    assert after == ["gen_error"] * len(failed) + ["ok"]


# The program at a store that cannot be written


@pytest.mark.slow
@pytest.mark.parametrize("prevent", [read_only, immutable])
def test_a_build_into_a_store_that_cannot_be_written_asks_nobody_and_says_why(prevent, folder, provider):  # noqa: F811
    build_against(folder, provider)

    with prevent(folder / "data"):
        result = subprocess.run([BIN / "daybook", "build", "trial"], cwd=folder, capture_output=True, text=True)

    assert result.returncode != 0
    assert provider.requests == []
    assert "Could not write" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    run(folder, "daybook", "build", "trial")
