"""Many documents at once, as a person starts it: how many, in which order, and what a signal leaves."""

# ruff: noqa: F811  the fixture `folder` is another module's

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import BIN, run, run_json
from tests.provider_server import ProviderServer, Reply, Request, make_completion, reply_json
from tests.test_command_line import build_against, count_attempts, folder, list_documents, read_texts  # noqa: F401
from tests.trial_folder import COHORT

pytestmark = pytest.mark.slow  # each test starts programs and waits for a server

LUIGI = ["luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler"]
BUILD = ["daybook", "build", COHORT]


@pytest.fixture
def provider(folder, monkeypatch) -> Iterator[ProviderServer]:
    """The provider that the trial's six drafts are asked of."""
    monkeypatch.setenv("TRIAL_KEY", "k")
    with ProviderServer() as server:
        build_against(folder, server)
        yield server


class Meeting:
    """Answers requests once `expected` of them have come, or after a while; and counts how many met."""

    def __init__(self, expected: int) -> None:
        self._all_are_here = threading.Condition()
        self.expected, self.here, self.most = expected, 0, 0

    def __call__(self, request: Request) -> Reply:
        with self._all_are_here:
            self.here += 1
            self.most = max(self.most, self.here)
            self._all_are_here.notify_all()
            self._all_are_here.wait_for(lambda: self.most >= self.expected, timeout=2)
            self.here -= 1
        return reply_json(make_completion(str(request.body["messages"][-1]["content"])))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (BUILD, 6),
        ([*BUILD, "--concurrency", "3"], 3),
        ([*LUIGI, "--daybook-concurrency", "3"], 3),
        ([*LUIGI, "--workers", "4"], 4),
    ],
    ids=["build", "build --concurrency 3", "luigi concurrency 3", "luigi --workers 4"],
)
def test_as_many_calls_are_in_flight_as_were_asked_for(command, expected, folder, provider):
    provider.reply = meeting = Meeting(expected)

    run(folder, *command)

    assert meeting.most == expected
    assert len(provider.requests) == 6
    assert len(list_documents(folder)) == 43


def test_a_provider_can_be_limited_in_luigi_cfg(folder, provider):
    config = folder / "luigi.cfg"
    config.write_text(config.read_text() + "\n[resources]\nllm_openai = 2\n")
    provider.reply = meeting = Meeting(expected=3)

    run(folder, *BUILD)

    assert meeting.most == 2


def test_what_can_be_finished_is_finished_before_more_is_begun(folder):
    lines = run(folder, *BUILD, "--concurrency", "1").stderr.splitlines()

    stages = [line.split()[1] for line in lines if line.startswith("[")]
    assert stages == ["draft", *["essay", "evaluation", "evaluation"] * 2] * 6


def test_an_essay_starts_when_its_draft_is_there_however_many_drafts_are_missing(folder, provider):
    essay_is_there = threading.Event()

    def answer_one_draft_first(request: Request) -> Reply:
        if len(provider.requests) > 1:  # all drafts but the first wait for a document of the first's essay
            while not (list(folder.glob("data/docs/evaluation/*")) or essay_is_there.wait(0.05)):
                assert time.monotonic() < deadline
        return reply_json(make_completion(str(request.body["messages"][-1]["content"])))

    deadline = time.monotonic() + 60
    provider.reply = answer_one_draft_first

    assert run_json(folder, "build", COHORT)["complete"]


def test_a_failed_document_holds_up_only_its_descendants(folder, provider):
    """The one that fails is the first to be answered, and everything else is still made."""

    def answer(request: Request) -> Reply:
        if len(provider.requests) == 1:
            return Reply(400, b'{"error": {"message": "broken"}}')
        return reply_json(make_completion(str(request.body["messages"][-1]["content"])))

    provider.reply = answer

    result = run_json(folder, "build", COHORT, code=30)

    assert result["made"] == {"draft": 5, "essay": 10, "evaluation": 20, "report": 1}
    statuses = [failure["status"] for failure in result["failures"]]
    assert (statuses.count("gen_error"), statuses.count("skipped")) == (1, 6)


def test_documents_that_make_the_same_call_pay_for_it_once(folder, provider):
    """Two templates of one text and two parsers: two documents, one call."""
    templates = folder / "config" / "templates"
    (templates / "draft" / "again.txt").write_text((templates / "draft" / "what-if.txt").read_text())
    settings = folder / "config" / "templates.toml"
    settings.write_text(settings.read_text() + "\n[draft.again]\nmin_lines = 1\n")
    cohort = folder / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text(cohort.read_text().replace('"what-if"]', '"what-if", "again"]'))
    provider.reply = Meeting(6)

    result = run_json(folder, "build", COHORT)

    assert (result["made"]["draft"], len(provider.requests)) == (9, 6)


def test_stock_luigi_makes_the_same_documents_one_at_a_time(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "folder"
    subprocess.run(["cp", "-r", str(folder), str(other)], check=True)
    code = (
        "import luigi.interface, luigi.retcodes\nstock = luigi.interface._WorkerSchedulerFactory\nimport pipeline\n"
        "assert luigi.interface._WorkerSchedulerFactory is not stock\nluigi.interface._WorkerSchedulerFactory = stock\n"
        f"luigi.retcodes.run_with_retcodes({LUIGI[1:]!r})"
    )

    stock = subprocess.run([BIN / "python", "-c", code], cwd=other, capture_output=True, text=True)
    run(folder, *LUIGI)

    assert stock.returncode == 0, stock.stderr
    assert "Running Worker with 1 processes" in stock.stderr
    assert read_texts(folder) == read_texts(other)
    assert len(list_documents(other)) == 43


def test_one_place_and_many_make_the_same_bytes(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "folder"
    subprocess.run(["cp", "-r", str(folder), str(other)], check=True)

    run(folder, *BUILD, "--concurrency", "1")
    run(other, *BUILD, "--concurrency", "64")

    assert read_texts(folder) == read_texts(other)


@pytest.mark.parametrize("present", ["nothing", "one draft is missing", "everything"])
def test_show_all_schedules_what_is_there_and_makes_only_what_is_missing(present, folder):
    if present != "nothing":
        run(folder, *BUILD)
    if present == "one draft is missing":
        shutil.rmtree(next((folder / "data" / "docs" / "draft").glob("[0-9a-z]*")))
    attempts = count_attempts(folder)

    shown = run(folder, *LUIGI, "--show-all").stderr
    plain = run(folder, *LUIGI).stderr

    assert "Scheduled 44 tasks" in shown  # 42 documents, the report and the cohort
    made = {"nothing": 44, "one draft is missing": 2, "everything": 1}[present]  # the cohort itself always runs
    assert f"* {made} ran successfully" in shown
    assert "Scheduled 1 tasks" in plain
    assert count_attempts(folder) == (attempts or 42)


# Signals


def start(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BIN / command[0], *command[1:]],
        cwd=folder,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str], number: int) -> tuple[float, str]:
    """Return how many seconds the process took to end after a signal, and what it wrote."""
    started = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    return time.monotonic() - started, output + errors


def wait_for_requests(provider: ProviderServer, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(provider.requests) < count:
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [BUILD, LUIGI], ids=["build", "luigi"])
def test_a_signal_ends_a_run_soon_although_no_answer_comes(command, number, code, folder, provider):
    may_answer = threading.Event()
    provider.reply = lambda _: may_answer.wait(60) and reply_json(make_completion("late"))
    process = start(folder, command)
    wait_for_requests(provider, 6)

    seconds, output = stop(process, number)
    may_answer.set()

    assert process.returncode == code, output
    assert seconds < 5
    assert "Traceback" not in output
    assert "Exception" not in output
    assert count_attempts(folder) == 6  # that they were asked is known
    assert list_documents(folder) == set()


def test_an_answer_that_comes_soon_after_a_signal_is_kept_and_its_document_made(folder, provider):
    may_answer = threading.Event()
    provider.reply = lambda _: may_answer.wait(60) and reply_json(make_completion("soon"))
    process = start(folder, BUILD)
    wait_for_requests(provider, 6)
    threading.Timer(0.5, may_answer.set).start()

    _, output = stop(process, signal.SIGINT)

    assert process.returncode == 130, output
    assert "the same command goes on from there" in output
    outcomes = [json.loads(path.read_bytes())["status"] for path in folder.glob("data/calls/*/*/*/outcome.json")]
    assert outcomes == ["ok"] * 6
    assert len(list_documents(folder)) == 6  # the drafts, and nothing that would have been begun
    assert run_json(folder, "build", COHORT)["complete"]
    assert len(provider.requests) == 6


def test_a_second_signal_ends_at_once(folder, provider):
    may_answer = threading.Event()
    provider.reply = lambda _: may_answer.wait(60) and reply_json(make_completion("late"))
    process = start(folder, BUILD)
    wait_for_requests(provider, 6)
    process.send_signal(signal.SIGINT)
    threading.Event().wait(0.3)

    seconds, output = stop(process, signal.SIGINT)
    may_answer.set()

    assert process.returncode == 130, output
    assert seconds < 2.5


@pytest.mark.parametrize("value", ["0", "5000", "many"])
def test_a_concurrency_in_luigi_cfg_that_cannot_be_used_is_explained(value, folder):
    config = folder / "luigi.cfg"
    config.write_text(config.read_text().replace("concurrency = 16", f"concurrency = {value}"))

    errors = run(folder, *BUILD, code=1).stderr

    assert "as concurrency a whole number from 1 to 4096" in errors
    assert "luigi.cfg" in errors
    assert value in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("value", ["0", "-1", "5000", "many"])
def test_a_concurrency_that_is_no_number_from_1_is_refused(value, folder):
    assert "whole number from 1" in run(folder, *BUILD, "--concurrency", value, code=2).stderr


def test_a_document_is_made_in_a_thread_so_that_the_event_loop_is_free(folder, monkeypatch):
    run(folder, "daybook", "plan", COHORT)
    doc_id = (folder / "data" / "tasks" / COHORT / "draft_tasks.csv").read_text().splitlines()[1].split(",")[0]
    monkeypatch.chdir(folder)
    from pipeline.tasks import Draft

    threads: list[threading.Thread] = []
    monkeypatch.setattr(Draft, "_make", lambda *_: threads.append(threading.current_thread()))

    asyncio.run(Draft(doc_id=doc_id).run_async())

    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon
