"""A sweep for keys over all that is written and said by builds whose providers repeat the key wherever they can."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.pipeline.test_central_scheduler import DASHBOARD, Server
from tests.programs import run
from tests.provider_server import ProviderServer, Reply, Request, answer_of, make_completion

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("keys in sinks")]

COHORT = "swept"
KEYS = {"by-variable": "sk-canary-one+/0123456789abcdefABCDEF", "by-file": "sk-canary-two_XYZ-9876543210fedcbaFEDCBA"}
LOGGING = """
[loggers]
keys = root
[handlers]
keys = out
[formatters]
keys = plain
[logger_root]
level = DEBUG
handlers = out
[handler_out]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(name)s %(levelname)s %(message)s
"""


def key_of(request: Request) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


def _text(make: Callable[[str], str]) -> Callable[[Request], bytes]:
    """Return what makes an answer whose text repeats the key."""
    return lambda request: json.dumps(make_completion(f"Once. {make(key_of(request))} The end.\nSCORE: 7")).encode()


def _codes(request: Request) -> bytes:
    codes = "".join(f"\\u{ord(character):04x}" for character in key_of(request))
    return _text(lambda _: "CODES")(request).replace(b"CODES", codes.encode())


def _answer(body: Callable[[Request], bytes], status: int = 200, **headers: str) -> Callable[[Request], Reply]:
    def reply(request: Request) -> Reply:
        key = key_of(request)
        named = {name.replace("_", "-"): value.replace("KEY", key) for name, value in headers.items()}
        return Reply(status, body(request), {"x-request-id": key, "x-seen": f"Bearer {key}", **named})

    return reply


def _error(make: Callable[[str], str]) -> Callable[[Request], bytes]:
    return lambda request: json.dumps({"error": {"message": make(key_of(request)), "code": key_of(request)}}).encode()


def _field(name: str) -> Callable[[Request], bytes]:
    return lambda request: json.dumps(answer_of(request) | {name: key_of(request)}).encode()


def _base64(key: str) -> str:
    return base64.b64encode(f"Authorization: Bearer {key}\n".encode()).decode()


ECHOES: list[Callable[[Request], Reply]] = [
    _answer(_text(str)),
    _answer(_text(lambda key: quote(key, safe=""))),
    _answer(_text(_base64)),
    _answer(_codes),
    _answer(_field("model")),
    _answer(_field("system_fingerprint")),
    _answer(lambda request: json.dumps(make_completion("Once", finish=key_of(request))).encode()),
    _answer(lambda request: json.dumps(make_completion("Once", reasoning_content=key_of(request))).encode()),
    _answer(lambda request: gzip.compress(_text(str)(request)), content_encoding="gzip"),
    _answer(lambda request: f"<html>{key_of(request)}</html>".encode()),
    _answer(_error(str)),
    _answer(_error(lambda key: f"slow down, {key}"), 429, retry_after="0"),
    _answer(_error(lambda key: "x" * 380 + key), 500),
    _answer(_error(_base64), 503),
    _answer(_error(str), 400),
    _answer(_error(str), 401),
    _answer(_error(str), 404),
    _answer(lambda _: b"", 307, location="http://127.0.0.1:9/v1?key=KEY", retry_after="KEY"),
    lambda request: Reply(body=_text(str)(request)[:-40], missing_bytes=40),
    lambda request: Reply(body=_text(str)(request).partition(b"canary")[0] + b"canary", missing_bytes=400),
    lambda request: Reply(body=_text(str)(request), drip_seconds=0.0002),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    key_file = tmp_path / "keys" / "two.key"
    key_file.parent.mkdir()
    key_file.write_text(KEYS["by-file"])
    key_file.chmod(0o600)
    monkeypatch.setenv("CANARY_KEY", KEYS["by-variable"])
    project = tmp_path / "project"
    with ProviderServer() as provider:
        turns, guard = itertools.cycle(ECHOES), threading.Lock()

        def reply(request: Request) -> Reply:
            with guard:
                return next(turns)(request)

        provider.reply = reply
        write_project(project, provider.api_base, key_file)
        yield project
        assert {key_of(request) for request in provider.requests} == set(KEYS.values())
        assert len(provider.requests) > 2 * len(ECHOES)


def write_project(project: Path, api_base: str, key_file: Path) -> None:
    model = f'model = "openai/loopback"\nmax_tokens = 50\nseed = 1\napi_base = "{api_base}"\nbackoff_seconds = 0\n'
    files = {
        "luigi.cfg": "[core]\nautoload_range = false\nno_lock = true\nlog_level = DEBUG\n",
        "logging.cfg": LOGGING,
        "config/concepts.csv": "concept_id,name\ntide,Tide\n",
        "config/templates.toml": (
            "[draft.plain]\n[draft.leaky]\n[essay.told]\n"
            '[evaluation.judge]\nparser = "score_last_line"\nscale = [0, 10]\n'
        ),
        "config/templates/draft/plain.txt": "Connect {{ concepts[0].name }}.\n",
        "config/templates/draft/leaky.txt": f"{{{{ concepts[0].name }}}} {KEYS['by-file']}\n",
        "config/templates/essay/told.txt": "Retell: {{ draft_block }}",
        "config/templates/evaluation/judge.txt": "Judge: {{ response }}\n",
        "config/models.toml": (
            f'[one]\n{model}endpoint = "one"\napi_key_env = "CANARY_KEY"\n'
            f'[two]\n{model}endpoint = "two"\napi_key_file = "{key_file}"\n'
        ),
        f"config/cohorts/{COHORT}.toml": (
            '[combos]\nlist = [["tide"]]\n'
            '[draft]\ntemplates = ["plain", "leaky"]\nmodels = ["one", "two"]\nreplicates = 8\n'
            '[essay]\ntemplates = ["told"]\nmodels = ["two"]\n[evaluation]\ntemplates = ["judge"]\nmodels = ["one"]\n'
        ),
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


def list_forms(key: str) -> set[bytes]:
    encoded = {base64.b64encode(before + key.encode())[4:-8] for before in (b"", b"x", b"xx")}
    address = {base64.urlsafe_b64encode(before + key.encode())[4:-8] for before in (b"", b"x", b"xx")}
    plain = key.encode()
    return {plain, plain[:14], plain[12:], quote(key, safe="").encode(), plain.hex().encode()} | encoded | address


def find_keys(content: bytes) -> set[bytes]:
    codes = re.sub(rb"\\u00([0-9a-fA-F]{2})", lambda match: bytes([int(match[1], 16)]), content)
    return {form for key in KEYS.values() for form in list_forms(key) if form in content or form in codes}


def ask_scheduler(server: Server, project: Path) -> str:
    """Return all that the scheduler has to say: its lists, errors, graphs, and the page and files of each document."""
    said = []
    for status in ("DONE", "FAILED", "PENDING", "RUNNING", "DISABLED"):
        tasks = server.call("task_list", status=status, upstream_status="")
        said.append(json.dumps(tasks))
        for task_id in tasks:
            said.append(json.dumps(server.call("fetch_error", task_id=task_id)))
            said.append(json.dumps(server.call("get_task_status_message", task_id=task_id)))
    for method in ("graph", "worker_list", "resource_list"):
        said.append(json.dumps(server.call(method)))
    for path in (DASHBOARD, *list_pages(project)):
        said.append(server.ask("GET", f"/{path}")[2])
    return "\n".join(said)


def list_pages(project: Path) -> Iterator[str]:
    for path in sorted(project.glob("data/docs/*/*")):
        if len(path.name) == 16:
            page = f"document/{path.parent.name}/{path.name}"
            yield page
            yield from (f"{page}/{file.relative_to(path)}" for file in path.rglob("*") if file.is_file())


def test_no_key_stands_in_anything_that_is_written_or_said(folder: Path) -> None:
    server = Server(folder / "data")
    said = {}
    try:
        luigi = ["luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--scheduler-url", server.url]
        said["luigi"] = say(folder, *luigi, "--logging-conf-file", "logging.cfg")
        for number in range(3):
            said[f"build {number}"] = say(folder, "daybook", "build", COHORT, "--scheduler", server.url)
        options = ["--json", "--allow-missing", "--retry", "gen_error"]
        said["build --json"] = say(folder, "daybook", "build", COHORT, *options)
        for command in ("status", "usage", "plan"):
            said[command] = say(folder, "daybook", command, *([COHORT] if command != "usage" else []), "--json")
        said["scheduler"] = ask_scheduler(server, folder)
    finally:
        server.process.terminate()
        said["scheduler's output"] = "".join(server.process.communicate(timeout=30))

    assert "luigi-interface DEBUG" in said["luigi"]
    assert "key_in_prompt" in said["luigi"]
    assert {name: find_keys(text.encode()) for name, text in said.items() if find_keys(text.encode())} == {}
    written = [path for path in folder.rglob("*") if path.is_file() and "config" not in path.relative_to(folder).parts]
    assert {path.name for path in written} >= {
        "request.json",
        "response.bin",
        "outcome.json",
        "metadata.json",
        "raw.txt",
    }
    assert (folder / "data" / ".scheduler-state.pickle") in written
    found = {str(path.relative_to(folder)): find_keys(path.read_bytes()) for path in written}
    assert {name: keys for name, keys in found.items() if keys} == {}
    assert_echoes_were_kept(folder)


def say(folder: Path, *command: str) -> str:
    """Return what a command writes to both of its streams, however it ends."""
    done = run(folder, *command, code=None)
    return done.stdout + done.stderr


def assert_echoes_were_kept(folder: Path) -> None:
    """The answers were kept and used, with marks in the places of the key: this is no sweep of an empty folder."""
    outcomes = [json.loads(path.read_bytes()) for path in folder.glob("data/calls/*/*/*/outcome.json")]
    assert sum(outcome["dropped_keys"] for outcome in outcomes) > 20
    assert any(b"<key****" in path.read_bytes() for path in folder.glob("data/docs/draft/*/raw.txt"))
    assert {"key_in_prompt", "auth", "rate_limit", "transport", "bad_body"} <= {
        outcome["reason"] for outcome in outcomes
    }
