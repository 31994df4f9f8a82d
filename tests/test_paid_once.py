"""Three hundred calls to a provider of many faults: every document is made, and every answer is asked for once.

The provider is a real server, the build a real process, and it is killed at random moments.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import BIN, run_json
from tests.provider_server import FAULTS, PASSING, Mixture, ProviderServer, Reply, Request, make_completion, reply_json

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("paid once")]

COHORT = "many"
REPLICATES = 100  # of one draft; each has an essay, and each essay an evaluation
FILES = {
    "luigi.cfg": "[daybook]\nconcurrency = 16\n[core]\nautoload_range = false\nno_lock = true\n",
    "config/concepts.csv": "concept_id,name\ntide,Tide\n",
    "config/concepts/paragraph/tide.txt": "Water that comes and goes.\n",
    "config/templates.toml": (
        '[draft.plain]\n[essay.told]\n[evaluation.judge]\nparser = "score_last_line"\nscale = [0, 10]\n'
    ),
    "config/templates/draft/plain.txt": "Connect {{ concepts[0].name }}.\n",
    "config/templates/essay/told.txt": "Retell: {{ draft_block }}",
    "config/templates/evaluation/judge.txt": "Judge: {{ response }}\n",
    f"config/cohorts/{COHORT}.toml": (
        f'[combos]\nlist = [["tide"]]\n[draft]\ntemplates = ["plain"]\nmodels = ["server"]\nreplicates = {REPLICATES}\n'
        '[essay]\ntemplates = ["told"]\nmodels = ["server"]\n[evaluation]\ntemplates = ["judge"]\nmodels = ["server"]\n'
    ),
}
MODEL = (
    '[server]\nmodel = "openai/loopback"\nmax_tokens = 50\nseed = 1\nendpoint = "here"\n'
    'api_base = "{api_base}"\napi_key_env = "TRIAL_KEY"\nretries = 8\nbackoff_seconds = 0.05\n'
)


def answer(request: Request) -> Reply:
    """An answer of its own for every call: replicates differ in their seed only."""
    content, seed = str(request.body["messages"][-1]["content"]), request.body["seed"]
    return reply_json(make_completion(f"{content.strip()} [{seed}]\nSCORE: 7"))


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    monkeypatch.setenv("TRIAL_KEY", "key-of-the-trial")
    with ProviderServer() as server:
        server.reply = Mixture(PASSING, share=0.2, median_seconds=0.05, p99_seconds=0.5, seed=20, answer=answer)
        yield server


@pytest.fixture
def folder(tmp_path: Path, provider: ProviderServer) -> Path:
    for name, text in (FILES | {"config/models.toml": MODEL.format(api_base=provider.api_base)}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def call_of(request: Request) -> tuple[str, int]:
    return str(request.body["messages"][-1]["content"]), request.body["seed"]


def count_good_answers(provider: ProviderServer) -> Counter[tuple[str, int]]:
    """Return how many good answers the provider sent to their end, by call."""
    return Counter(call_of(request) for request, reply in provider.answered if reply.body == answer(request).body)


def read_attempts(folder: Path) -> list[tuple[Path, dict[str, object] | None]]:
    """Return the folder and the outcome of every attempt; None for one whose process died.

    A request that a kill cut short was never sent, and is no attempt.
    """
    requests = folder.glob("data/calls/*/*/*/request.json")
    attempts = sorted(path.parent for path in requests if path.read_bytes().endswith(b"\n}\n"))
    outcomes = [path / "outcome.json" for path in attempts]
    return [(path.parent, json.loads(path.read_bytes()) if path.exists() else None) for path in outcomes]


def assert_every_document_is_made(folder: Path) -> None:
    for stage in ("draft", "essay", "evaluation"):
        assert len([path for path in folder.glob(f"data/docs/{stage}/*") if len(path.name) == 16]) == REPLICATES


def test_every_document_is_made_and_every_request_is_an_attempt(folder: Path, provider: ProviderServer) -> None:
    result = run_json(folder, "build", COHORT)

    attempts = read_attempts(folder)
    assert result["complete"]
    assert_every_document_is_made(folder)
    assert len(provider.requests) == len(provider.answered) == len(attempts) == result["calls"]
    assert len(attempts) > 330  # a fifth of the replies were faults
    assert Counter(outcome["status"] for _, outcome in attempts if outcome)["ok"] == 3 * REPLICATES
    assert set(count_good_answers(provider).values()) == {1}
    assert len(count_good_answers(provider)) == 3 * REPLICATES
    assert run_json(folder, "build", COHORT)["calls"] == 0


def test_ten_kills_lose_no_answer_that_had_arrived(folder: Path, provider: ProviderServer) -> None:
    chance = random.Random(10)

    for _ in range(10):
        build_and_kill(folder, provider, after=chance.randint(3, 25), chance=chance)
    result = run_json(folder, "build", COHORT)

    assert result["complete"]
    assert_every_document_is_made(folder)
    attempts = read_attempts(folder)
    answered = [attempt for attempt in attempts if attempt[1] is not None]
    died = [path for path, outcome in attempts if outcome is None]
    good_by_call = count_good_answers(provider)
    died_by_call = Counter(call_in(path) for path in died)
    assert len(answered) <= len(provider.answered) <= len(provider.requests) <= len(attempts)
    assert Counter(outcome["status"] for _, outcome in attempts if outcome)["ok"] == 3 * REPLICATES == len(good_by_call)
    # An answer is asked for again only where the process died before it had read it.
    assert all(count <= 1 + died_by_call[call] for call, count in good_by_call.items())
    assert run_json(folder, "build", COHORT)["calls"] == 0


def build_and_kill(folder: Path, provider: ProviderServer, *, after: int, chance: random.Random) -> None:
    """Start a build and kill it at some moment after `after` further requests."""
    expected = len(provider.requests) + after
    process = subprocess.Popen(
        [BIN / "daybook", "build", COHORT],
        cwd=folder,
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while len(provider.requests) < expected and process.poll() is None:
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)
    threading.Event().wait(chance.random() / 10)
    assert process.poll() is None, process.stderr and process.stderr.read()
    process.kill()
    process.communicate()


def call_in(attempt_folder: Path) -> tuple[str, int]:
    request = json.loads((attempt_folder / "request.json").read_bytes())
    return request["messages"][-1]["content"], request["params"]["seed"]


@pytest.mark.parametrize("options", [[], ["--allow-missing"]])
def test_a_wrong_key_stops_a_build_after_few_calls_and_is_said_once(
    folder: Path, provider: ProviderServer, options: list[str]
) -> None:
    provider.reply = FAULTS["401 with the key"].make_reply

    done = subprocess.run(
        [BIN / "daybook", "build", COHORT, *options], cwd=folder, env=os.environ, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert len(provider.requests) <= 2 + 16  # two refusals, and what is on its way when the third is noted
    assert done.stderr.count("here is not asked again in this run.") == 1
    assert len(read_attempts(folder)) == len(provider.requests)
