"""The central scheduler as processes and browsers meet it: what it refuses, what it shows, what survives a kill."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit

import luigi
import pytest
from luigi.rpc import RemoteScheduler
from luigi.scheduler import DISABLED, DONE, FAILED, PENDING, RUNNING, Scheduler
from luigi.worker import Worker

from pipeline import central_scheduler
from pipeline.central_scheduler import CentralScheduler
from pipeline.document_page import find_link
from pipeline.errors import InputInvalid
from pipeline.scheduler_client import SchedulerClient, SchedulerUnreachable, check_url
from pipeline.scheduler_server import choose_address
from pipeline.tasks import Cohort, Draft
from pipeline.worker import AsyncWorker
from tests.pipeline.luigi_runs import QUICK, add, ask_for_work, read_statuses, run_root
from tests.programs import run, run_json, start
from tests.provider_server import ProviderServer, Request, make_completion, reply_json
from tests.test_command_line import build_against, count_attempts, folder, list_documents
from tests.trial_folder import COHORT

__all__ = ["folder"]

CHROMIUM = shutil.which("chromium")
DASHBOARD = "static/visualiser/index.html"


class Server:
    """`daybook scheduler` in a process of its own; the same port and data after a restart."""

    def __init__(self, data: Path, *options: str, port: int = 0) -> None:
        self._data, self._options, self.port = data, options, port
        self.start()

    def start(self) -> None:
        command = ["daybook", "scheduler", "--data-root", str(self._data), "--json", "--port", str(self.port)]
        self.process = start(self._data.parent, *command, *self._options)
        said = "".join(iter(lambda: self.process.stdout.readline(), "}\n")) + "}"
        self.url = json.loads(said)["url"]
        self.port = int(urlsplit(self.url).port or 0)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.headers.items()), text

    def call(self, method: str, **facts: Any) -> Any:
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        status, _, text = self.ask("POST", f"/api/{method}", urlencode({"data": json.dumps(facts)}), **form)
        assert status == 200, text
        return json.loads(text)["response"]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("central") / "data")
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    yield server
    if server.process.poll() is None:
        server.stop(signal.SIGKILL)


def make_scheduler(**settings: Any) -> CentralScheduler:
    return CentralScheduler(find_link=find_link, **settings)


# Safety


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_others_can_reach_has_to_be_told_twice(host):
    with pytest.raises(InputInvalid, match="--allow-remote"):
        choose_address(host, 8082, allow_remote=False)

    assert choose_address(host, 8082, allow_remote=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_loopback_is_told_once(host):
    assert choose_address(host, 8082, allow_remote=False).host == host


@pytest.mark.slow
def test_the_command_refuses_such_an_address_and_a_port_that_is_taken(server, tmp_path):
    remote = run(tmp_path, "daybook", "scheduler", "--host", "0.0.0.0", code=1)
    taken = run(tmp_path, "daybook", "scheduler", "--port", str(server.port), code=1)

    assert "--allow-remote" in remote.stderr
    assert f"cannot listen on port {server.port}" in taken.stderr
    assert "Traceback" not in remote.stderr + taken.stderr


CONTROL = "/api/pause"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Origin": "http://evil.example"}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "http://127.0.0.1:1"}),
        ("POST", {"Host": "evil.example"}),
        ("POST", {"Host": "evil.example", "Origin": "http://evil.example"}),
        ("POST", {"Sec_Fetch_Site": "cross-site"}),
        ("POST", {"Sec_Fetch_Site": "same-site"}),
        ("OPTIONS", {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}),
        ("GET", {}),  # as an image on any page would ask
        ("GET", {"X_Requested_With": "XMLHttpRequest", "Origin": "http://evil.example"}),
    ],
    ids=str,
)
def test_another_origin_cannot_control_it(method, headers, server):
    status, answered, _ = server.ask(method, CONTROL, **headers)

    assert status == 403
    assert not [name for name in answered if name.lower().startswith("access-control")]
    assert server.call("is_paused") == {"paused": False}


def test_another_name_leads_to_no_page_at_all(server):
    status, _, text = server.ask("GET", f"/{DASHBOARD}", Host=f"evil.example:{server.port}")

    assert status == 403
    assert "evil.example" in text


def test_the_dashboards_own_requests_and_those_of_workers_are_answered(server):
    own = f"http://127.0.0.1:{server.port}"
    xhr = {"X_Requested_With": "XMLHttpRequest", "Sec_Fetch_Site": "same-origin"}

    assert server.ask("GET", "/api/is_paused", **xhr)[0] == 200
    assert server.ask("GET", "/api/is_paused", Origin=own, **xhr)[0] == 200
    assert server.ask("GET", "/api/is_paused", Host=f"localhost:{server.port}", **xhr)[0] == 200
    assert server.ask("POST", "/api/is_paused", urlencode({"data": "{}"}))[0] == 200


def test_every_answer_forbids_framing_and_allows_no_other_origin(server):
    for path in ("/", f"/{DASHBOARD}", "/static/visualiser/js/luigi.js", "/document/draft/0000000000000000", "/none"):
        _, headers, _ = server.ask("GET", path)

        assert headers["X-Frame-Options"] == "DENY"
        assert "Access-Control-Allow-Origin" not in headers


# Documents


@pytest.mark.slow
def test_a_document_has_a_page_that_can_run_nothing(folder):
    evil = "<script>alert(1)</script>\n<img src=x onerror=alert(2)>"
    for text in (folder / "config" / "concepts").rglob("*.txt"):
        text.write_text(evil)  # the echo repeats it
    built = run_json(folder, "build", COHORT)
    server = Server(folder / "data")
    doc_id = next((folder / "data" / "docs" / "draft").glob("[0-9a-z]*")).name

    page = server.ask("GET", f"/document/draft/{doc_id}")
    report = server.ask("GET", f"/document/report/{built['report']['doc_id']}/extras/report.html")
    server.stop()

    assert (page[0], report[0]) == (200, 200)
    assert "&lt;script&gt;alert(1)" in page[2]
    assert "<script>" not in page[2]
    assert "<img" not in page[2]
    for _, headers, _ in (page, report):
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "script-src" not in policy
    assert "\n<style>" in page[2]
    assert "unsafe-inline" not in page[1]["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/document/draft/0000000000000000",
        "/document/nonsense/0000000000000000",
        "/document/draft/..%2F..%2Fetc",
        "/document/draft/0000000000000000/../../secret",
        "/document/draft/short",
    ],
)
def test_what_is_no_document_is_not_found(path, server):
    assert server.ask("GET", path)[0] == 404


@pytest.mark.slow
def test_only_files_of_the_document_are_sent(folder):
    run(folder, "daybook", "plan", COHORT)
    run(folder, "daybook", "build", COHORT)
    server = Server(folder / "data")
    draft = next((folder / "data" / "docs" / "draft").glob("[0-9a-z]*"))

    sent = server.ask("GET", f"/document/draft/{draft.name}/prompt.txt")
    others = [server.ask("GET", f"/document/draft/{draft.name}/{name}")[0] for name in ("x.txt", "../x", "%2e%2e/x")]
    server.stop()

    assert sent[2].encode() == (draft / "prompt.txt").read_bytes()
    assert sent[1]["Content-Type"].startswith("text/plain")
    assert others == [404, 404, 404]


# What rows show


def test_readable_parameters_do_not_change_which_task_it_is():
    plain = Draft(doc_id="7k3f0q9x2m4b8z1c")
    readable = Draft(doc_id="7k3f0q9x2m4b8z1c", model="smollm2", row="tide-pool__what-if__smollm2__1")

    assert plain.task_id == readable.task_id
    assert "7k3f0q9x2m4b8z1c" in readable.task_id
    assert Cohort(name="demo").task_id == Cohort(name="demo", allow_missing=True).task_id


def test_a_row_shows_its_message_its_names_and_a_link_to_its_page():
    scheduler = make_scheduler()
    params = {"doc_id": "7k3f0q9x2m4b8z1c", "model": "smollm2", "row": "tide-pool__what-if", "allow_missing": "False"}
    add(scheduler, "essay", family="Essay", params=params, param_visibilities={"allow_missing": 1})
    scheduler.set_task_status_message("essay", "1 &lt; 2 tokens")

    row = scheduler.task_list(status="PENDING")["essay"]

    shown = {name: params[name] for name in ("doc_id", "model", "row")}
    assert row["params"] == {"message": "1 < 2 tokens", **shown}
    assert row["status_message"] == "1 &lt; 2 tokens"  # the dashboard takes it for HTML
    assert row["tracking_url"] == "../../document/essay/7k3f0q9x2m4b8z1c"


def test_a_cohort_shows_how_far_its_documents_are():
    scheduler = make_scheduler()
    names = [f"draft {n}" for n in range(200)]
    for n, name in enumerate(names):
        add(scheduler, name)
        ask_for_work(scheduler)
        add(scheduler, name, status=FAILED if n < 3 else DONE, expl="")
    add(scheduler, "report", family="Report", deps=names, params={"doc_id": "0000000000000000"})
    add(scheduler, "cohort", family="Cohort", deps=[*names, "report"], params={"name": "demo"})

    row = scheduler.task_list(status="PENDING")["cohort"]

    assert row["status_message"] == "197 of 200, 3 failed"
    assert row["params"]["message"] == "197 of 200, 3 failed"
    assert row["progress_percentage"] == 98
    assert row["tracking_url"] == "../../document/report/0000000000000000/extras/report.html"
    assert scheduler.get_task_status_message("cohort")["statusMessage"] == "197 of 200, 3 failed"
    assert scheduler.get_task_progress_percentage("report")["progressPercentage"] == 98


def test_of_too_many_tasks_the_newest_are_listed_with_how_many_there_are():
    scheduler = make_scheduler(max_shown_tasks=3)
    for n in range(10):
        add(scheduler, f"draft {n}")
    add(scheduler, "cohort", deps=["draft 0", "draft 1"])

    listed = scheduler.task_list(status="PENDING")

    assert listed.pop("num_tasks") == 11
    assert len(listed) == 3
    assert "cohort" in listed
    assert set(scheduler.task_list(status="PENDING", limit=False)) == {*(f"draft {n}" for n in range(10)), "cohort"}
    assert set(scheduler.task_list(status="PENDING", search="nothing")) == set()


@pytest.mark.parametrize("status", ["", "PENDING", "DONE"])
@pytest.mark.parametrize("upstream", ["", "UPSTREAM_FAILED"])
def test_where_few_are_listed_they_are_those_of_stock_luigi(status, upstream):
    listed = []
    for scheduler in (Scheduler(), make_scheduler()):
        add(scheduler, "fails")
        ask_for_work(scheduler)
        add(scheduler, "fails", status=FAILED, expl="")
        add(scheduler, "below", deps=["fails"])
        add(scheduler, "done", status=DONE)
        listed.append(set(scheduler.task_list(status=status, upstream_status=upstream)))

    assert listed[0] == listed[1]


@pytest.mark.slow
def test_a_built_cohorts_rows_have_tokens_and_attempts(folder):
    server = Server(folder / "data")
    run(folder, "daybook", "build", COHORT, "--scheduler", server.url)

    rows = server.call("task_list", status="DONE")
    server.stop()

    assert Counter(row["name"] for row in rows.values()) == {
        "Draft": 6, "Essay": 12, "Evaluation": 24, "Report": 1, "Cohort": 1
    }  # fmt: skip
    for row in rows.values():
        if row["name"] in ("Draft", "Essay", "Evaluation"):
            assert row["params"]["message"].endswith("tokens, attempt 1")
            assert row["params"]["model"] == "echo"
            assert row["params"]["row"].count("__") >= 2
        else:
            assert row["progress_percentage"] == 100


# State


def test_the_state_is_saved_at_a_stop_and_taken_up_again(own_server):
    own_server.call("add_task", task_id="draft", worker="w", family="Draft", params={"doc_id": "0" * 16})

    code = own_server.stop(signal.SIGTERM)
    own_server.start()

    assert code == 143
    assert own_server.call("task_list", status="PENDING")["draft"]["params"] == {"doc_id": "0" * 16}
    assert own_server.stop(signal.SIGINT) == 130


def test_the_state_of_a_new_worker_survives_a_kill(own_server, tmp_path):
    own_server.call("add_task", task_id="draft", worker="w")
    own_server.call("add_worker", worker="w", info=[])
    wait_until((tmp_path / "data" / ".scheduler-state.pickle").exists)

    own_server.stop(signal.SIGKILL)
    own_server.start()

    assert "draft" in own_server.call("task_list", status="PENDING")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch ran",))


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", pickle.dumps(("0.0.0", ({}, {}, {}))), pickle.dumps((luigi.__version__, Evil()))],
    ids=["empty", "nonsense", "another Luigi", "a program"],
)
def test_a_state_that_cannot_be_read_is_set_aside(content, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "state.pickle"
    state.write_bytes(content)
    scheduler = make_scheduler(state_path=str(state))

    scheduler.load()

    assert list(scheduler._state.get_active_tasks()) == []
    assert (tmp_path / "state.pickle.unreadable").read_bytes() == content
    assert "set aside" in caplog.text
    assert not (tmp_path / "ran").exists()
    scheduler.dump()
    scheduler.load()


def test_nobody_is_given_work_until_the_workers_of_the_saved_state_are_back(tmp_path):
    path = str(tmp_path / "state.pickle")
    before = make_scheduler(state_path=path)
    add(before, "draft", worker="first")
    before.add_worker("first", [])
    before.dump()
    after = make_scheduler(state_path=path)
    after.load()
    add(after, "draft", worker="second")

    early = after.get_work(worker="second", current_tasks=[])
    add(after, "draft", worker="first", status=RUNNING)
    after.add_worker("first", [])
    late = after.get_work(worker="second", current_tasks=[])

    assert (early["task_id"], early["is_waiting"]) == (None, True)
    assert early["n_pending_tasks"] == 1
    assert late["task_id"] is None  # the first runs it
    assert "is_waiting" not in late


def test_those_that_do_not_come_back_are_waited_for_some_seconds_only(tmp_path):
    path = str(tmp_path / "state.pickle")
    before = make_scheduler(state_path=path)
    add(before, "draft", worker="gone")
    before.add_worker("gone", [])
    before.dump()
    after = make_scheduler(state_path=path, return_seconds=0)
    after.load()
    add(after, "draft", worker="second")

    assert ask_for_work(after, "second") == "draft"


def test_those_that_come_back_slowly_are_waited_for(tmp_path, monkeypatch):
    """A worker with thousands of tasks takes longer to tell them again than one that is gone is waited for."""
    seconds = 0.0
    clock = SimpleNamespace(time=time.time, monotonic=lambda: seconds)
    monkeypatch.setattr(central_scheduler, "time", clock)
    after = restart_with_workers(tmp_path, "first", return_seconds=10)
    add(after, "draft", worker="second")

    for number in range(5):
        seconds += 9
        add(after, f"other {number}", worker="first", is_told_again=True)

    assert ask_for_work(after, "second") is None
    seconds += 11
    assert ask_for_work(after, "second") == "draft"


@pytest.mark.parametrize("told", [PENDING, FAILED])
def test_what_was_done_is_not_done_again_because_another_worker_tells_it_later(told, tmp_path):
    after = restart_with_workers(tmp_path, "first", "second")
    add(after, "draft", worker="first", status=DONE, is_told_again=True)
    after.add_worker("first", [])

    add(after, "draft", worker="second", status=told, is_told_again=True)
    after.add_worker("second", [])

    assert read_statuses(after) == {"draft": DONE}
    assert ask_for_work(after, "second") is None


def test_what_an_old_state_holds_for_done_is_made_if_a_worker_tells_that_it_is_not(tmp_path):
    after = restart_with_workers(tmp_path, "first", status=DONE)

    add(after, "draft", worker="first", status=PENDING, is_told_again=True)
    after.add_worker("first", [])

    assert ask_for_work(after, "first") == "draft"


def restart_with_workers(tmp_path: Path, *workers: str, status: str = PENDING, **settings: Any) -> CentralScheduler:
    """Return a scheduler with the saved state of one that knew these workers and the task `draft` of each."""
    path = str(tmp_path / "state.pickle")
    before = make_scheduler(state_path=path)
    for worker in workers:
        add(before, "draft", worker=worker, status=status)
        before.add_worker(worker, [])
    before.dump()
    after = make_scheduler(state_path=path, **settings)
    after.load()
    return after


def test_an_output_that_was_deleted_is_made_again_at_once():
    scheduler = make_scheduler()
    add(scheduler, "draft", status=DONE)
    add(scheduler, "draft")

    assert ask_for_work(scheduler) == "draft"


def test_a_new_run_tries_again_what_failed_too_often():
    scheduler = make_scheduler(retry_count=1)
    add(scheduler, "draft")
    ask_for_work(scheduler)
    add(scheduler, "draft", status=FAILED, expl="")
    assert read_statuses(scheduler) == {"draft": DISABLED}

    add(scheduler, "draft")
    assert read_statuses(scheduler) == {"draft": DISABLED}
    add(scheduler, "draft", worker="of a new run")

    assert read_statuses(scheduler) == {"draft": PENDING}


# Compatible both ways


class Note(luigi.Task):
    """Writes its name into a folder."""

    folder = luigi.Parameter()
    name = luigi.Parameter()

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{self.folder}/{self.name}")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write(self.name)


class Notes(luigi.WrapperTask):
    folder = luigi.Parameter()

    def requires(self) -> list[Note]:
        return [Note(folder=self.folder, name=f"n{number}") for number in range(4)]


@contextlib.contextmanager
def stock_server(tmp_path: Path) -> Iterator[str]:
    """Luigi's own server in a process."""
    code = (
        "import luigi.server as s, tornado.ioloop, luigi.scheduler\n"
        "print(s._init_api(luigi.scheduler.Scheduler(), 0, '127.0.0.1')[0][1], flush=True)\n"
        "tornado.ioloop.IOLoop.instance().start()"
    )
    wrapped = f"import asyncio\nasync def main():\n {code.splitlines()[0]}\n {code.splitlines()[1]}\n"
    wrapped += " await asyncio.Event().wait()\nasyncio.run(main())"
    process = subprocess.Popen([sys.executable, "-c", wrapped], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate()


def test_our_worker_works_with_luigis_server(tmp_path):
    with stock_server(tmp_path) as url:
        worker = run_root(Notes(folder=str(tmp_path / "out")), SchedulerClient(url))

    assert worker.run_succeeded
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize(("worker_class", "client"), [(Worker, RemoteScheduler), (AsyncWorker, SchedulerClient)])
def test_stock_and_own_workers_work_with_our_server(worker_class, client, server, tmp_path):
    worker = run_root(Notes(folder=str(tmp_path / "out")), client(server.url), worker_class, places=1)

    assert worker.run_succeeded
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.slow
def test_the_plain_luigi_command_uses_the_scheduler_of_luigi_cfg(folder):
    server = Server(folder / "data")
    settings = folder / "luigi.cfg"
    core = f"[core]\ndefault-scheduler-host = 127.0.0.1\ndefault-scheduler-port = {server.port}\n"
    settings.write_text(settings.read_text().replace("[core]\n", core))

    run(folder, "luigi", "--module", "pipeline", "Cohort", "--name", COHORT)
    rows = server.call("task_list", status="DONE")
    server.stop()

    assert len(rows) == 44
    assert len(list_documents(folder)) == 43


@pytest.mark.parametrize("url", ["localhost:8082", "ftp://host/", "http://", "http://host:no/", ""])
def test_what_is_no_url_is_explained(url):
    with pytest.raises(InputInvalid, match="Expected one such as http"):
        check_url(url)


def test_a_scheduler_that_is_not_there_is_said_at_once(folder):
    errors = run(folder, "daybook", "build", COHORT, "--scheduler", "http://127.0.0.1:1/", code=1).stderr

    assert "does not answer" in errors
    assert "daybook scheduler" in errors
    assert "Traceback" not in errors
    with pytest.raises(SchedulerUnreachable):
        SchedulerClient("http://127.0.0.1:1/").check()


# A scheduler that is killed


class Step(luigi.Task):
    """Waits in run until it may go on; tells which ran."""

    n = luigi.IntParameter()
    world = luigi.Parameter()
    ran: list[int] = []  # noqa: RUF012  of all tasks
    may_end = threading.Event()

    def complete(self) -> bool:
        return self.n in self.ran

    def requires(self) -> list[Step]:
        return [Step(n=self.n - 1, world=self.world)] if self.n % 3 else []

    def run(self) -> None:
        assert self.may_end.wait(60)
        self.ran.append(self.n)


class Steps(luigi.WrapperTask):
    world = luigi.Parameter()

    def requires(self) -> list[Step]:
        return [Step(n=n, world=self.world) for n in range(9)]


@pytest.mark.parametrize("state", ["kept", "lost"])
def test_a_worker_tells_a_restarted_scheduler_everything_again(state, own_server, tmp_path, monkeypatch):
    monkeypatch.setattr(Step, "ran", [])
    monkeypatch.setattr(Step, "may_end", threading.Event())

    def restart() -> None:
        wait_until(lambda: own_server.call("task_list", status="RUNNING"))
        own_server.stop(signal.SIGKILL)
        if state == "lost":
            (tmp_path / "data" / ".scheduler-state.pickle").unlink(missing_ok=True)
        own_server.start()
        Step.may_end.set()

    restarting = threading.Thread(target=restart)
    restarting.start()
    client = SchedulerClient(own_server.url)
    client._rpc_retry_wait = 0.2
    client._rpc_retry_attempts = 150
    worker = run_root(Steps(world=str(tmp_path)), client, **QUICK)
    restarting.join()

    assert sorted(Step.ran) == list(range(9))  # each once
    assert worker.run_succeeded
    assert set(Counter(row["status"] for row in own_server.call("task_list").values())) == {DONE}


class CountingClient(SchedulerClient):
    """Counts how often work was asked for."""

    asked = 0

    def get_work(self, *arguments: Any, **facts: Any) -> dict[str, Any]:
        self.asked += 1
        return super().get_work(*arguments, **facts)


def test_a_worker_stays_until_others_have_ended_what_was_asked_of_it_too(own_server, tmp_path, monkeypatch):
    monkeypatch.setattr(Step, "ran", [])
    monkeypatch.setattr(Step, "may_end", threading.Event())
    Step.may_end.set()
    first, child = Step(n=0, world=str(tmp_path)), Step(n=1, world=str(tmp_path))
    own_server.call("add_task", task_id=first.task_id, worker="other")
    assert own_server.call("get_work", worker="other", current_tasks=[])["task_id"] == first.task_id
    client, has_ended = CountingClient(own_server.url), threading.Event()

    def end_the_first() -> None:
        wait_until(lambda: client.asked >= 3 or has_ended.is_set())
        Step.ran.append(0)
        own_server.call("add_task", task_id=first.task_id, worker="other", status=DONE)

    ending = threading.Thread(target=end_the_first)
    ending.start()
    worker = run_root(child, client, **QUICK)
    has_ended.set()
    ending.join()

    assert worker.run_succeeded
    assert Step.ran == [0, 1]


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


@pytest.fixture
def slow_provider(folder, monkeypatch) -> Iterator[ProviderServer]:
    """A provider for the trial's drafts that answers each request after a while."""
    monkeypatch.setenv("TRIAL_KEY", "k")
    with ProviderServer() as provider:

        def answer(request: Request) -> Any:
            threading.Event().wait(0.3)
            return reply_json(make_completion(str(request.body["messages"][-1]["content"])))

        provider.reply = answer
        build_against(folder, provider)
        yield provider


@pytest.mark.slow
@pytest.mark.parametrize("state", ["kept", "lost"])
@pytest.mark.parametrize("asked", [1, 3])
def test_a_build_completes_although_the_scheduler_is_killed_and_pays_nothing_twice(state, asked, folder, slow_provider):
    server = Server(folder / "data")
    build = start(folder, "daybook", "build", COHORT, "--concurrency", "2", "--scheduler", server.url, "--json")
    wait_until(lambda: len(slow_provider.requests) >= asked)
    server.stop(signal.SIGKILL)
    if state == "lost":
        (folder / "data" / ".scheduler-state.pickle").unlink(missing_ok=True)
    server.start()

    output, errors = build.communicate(timeout=120)
    server.stop()

    assert build.returncode == 0, errors
    assert json.loads(output)["complete"]
    assert len(slow_provider.requests) == 6
    assert count_attempts(folder) == 42
    assert len(list_documents(folder)) == 43


@pytest.mark.slow
def test_two_builds_share_a_scheduler_that_is_killed_and_pay_nothing_twice(folder, slow_provider):
    server = Server(folder / "data")
    command = ["daybook", "build", COHORT, "--concurrency", "2", "--scheduler", server.url, "--json"]
    builds = [start(folder, *command) for _ in range(2)]
    wait_until(lambda: len(slow_provider.requests) >= 2)
    server.stop(signal.SIGKILL)
    server.start()

    for build in builds:
        build.communicate(timeout=120)
    server.stop()

    assert {build.returncode for build in builds} == {0}
    assert len(slow_provider.requests) == 6
    assert count_attempts(folder) == 42
    assert run_json(folder, "build", COHORT)["complete"]


@pytest.mark.slow
def test_a_scheduler_that_stays_away_ends_the_run_with_an_error_and_nothing_is_lost(folder, slow_provider):
    settings = folder / "luigi.cfg"
    settings.write_text(
        settings.read_text().replace("[core]\n", "[core]\nrpc_retry_attempts = 2\nrpc_retry_wait = 1\n")
    )
    server = Server(folder / "data")
    build = start(folder, "daybook", "build", COHORT, "--concurrency", "2", "--scheduler", server.url)
    wait_until(lambda: slow_provider.requests)
    server.stop(signal.SIGKILL)

    _, errors = build.communicate(timeout=120)

    assert build.returncode == 1
    assert "does not answer" in errors
    assert "Traceback" not in errors
    assert run_json(folder, "build", COHORT)["complete"]
    assert len(slow_provider.requests) == 6


# In a browser


def dump_page(url: str, profile: Path) -> str:
    """Return the page as Chromium has it once its scripts have run."""
    return subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", "--virtual-time-budget=10000", "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_dashboard_shows_rows_in_a_browser(tmp_path):
    server = Server(tmp_path / "data", "--max-shown-tasks", "5")
    for n in range(8):
        params = {"doc_id": f"{n:016d}", "model": "smollm2", "row": f"tide-pool__what-if__{n}"}
        server.call("add_task", task_id=f"essay {n}", worker="w", family="Essay", params=params)
    server.call("set_task_status_message", task_id="essay 7", status_message="12 + 3 tokens &lt;b&gt;")

    page = dump_page(server.url, tmp_path / "profile")
    server.stop()

    assert "tide-pool__what-if__7" in page
    assert "12 + 3 tokens &lt;b&gt;" in page
    assert "../../document/essay/0000000000000007" in page
    assert "8, the newest 5 listed" in page
    assert "tide-pool__what-if__0" not in page
    assert page.count("Too many") == 1  # in its template only: nothing is said to be left out
