"""What providers do wrong, and what is left of it: attempts in the ledger, bytes kept, documents made or not."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline import gateway
from pipeline.diagnosis import diagnose
from pipeline.errors import DocumentFailed, InputInvalid, PlaceLeft
from pipeline.making import Maker, make_document, parse_retry
from pipeline.stages import Stage, Status
from tests.pipeline.test_litellm_client import OWN_FORMATS
from tests.pipeline.test_making import COHORT, list_attempts, make, plan_of, refuse_to_ask, workspace, write_config
from tests.provider_server import FAULTS, Reply, answer_of, make_completion, reply_json

__all__ = ["workspace"]
pytestmark = [
    pytest.mark.xdist_group("litellm"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),  # of a body that is not as the SDK expects
]
KEY = "key-of-the-trial"
FAILING = {name: fault for name, fault in FAULTS.items() if fault.status != "ok"}


def reply_in_turn(provider, *replies):
    """Answer the first requests with these replies, and all later ones as an ordinary provider."""
    waiting = list(replies)
    provider.reply = lambda request: waiting.pop(0)(request) if waiting else reply_json(answer_of(request))


def settle(tmp_path, provider, settings: str) -> None:
    write_config(tmp_path / "config", api_base=provider.api_base, settings=settings)


def make_draft(workspace, **options):
    return make(workspace, plan_of(workspace, Stage.DRAFT), **options)


def fail_draft(workspace, **options) -> DocumentFailed:
    with pytest.raises(DocumentFailed) as caught:
        make_draft(workspace, **options)
    return caught.value


# Which faults are tried again, and when


@pytest.mark.parametrize("name", [name for name in FAILING if FAILING[name].again == "in this run"])
def test_a_fault_that_may_pass_is_tried_again_and_both_attempts_are_kept(name, workspace, provider):
    fault = FAULTS[name]
    reply_in_turn(provider, fault.make_reply)

    document = make_draft(workspace)

    first, second = list_attempts(workspace)
    assert (first.status, first.outcome["reason"], second.status) == (fault.status, fault.reason, "ok")
    assert document.metadata["attempt"] == 2
    assert first.read_response() == fault.make_reply(provider.requests[0]).body
    assert len(provider.requests) == 2


@pytest.mark.parametrize("name", [name for name in FAILING if FAILING[name].again == "next build"])
def test_a_fault_whose_cure_lies_elsewhere_is_left_to_the_next_build(name, workspace, provider):
    reply_in_turn(provider, FAULTS[name].make_reply)

    assert fail_draft(workspace).status == FAULTS[name].status
    assert len(provider.requests) == 1

    assert make_draft(workspace).metadata["attempt"] == 2


@pytest.mark.parametrize("name", [name for name in FAILING if FAILING[name].again == "when named"])
def test_a_final_fault_is_asked_again_only_when_its_status_is_named(name, workspace, provider):
    fault = FAULTS[name]
    reply_in_turn(provider, fault.make_reply)
    failures = [fail_draft(workspace, run_id=f"run-{run}") for run in (1, 2)]
    others = {Status.GEN_ERROR, Status.TRUNCATED} - {Status(fault.status)}
    failures.append(fail_draft(workspace, run_id="run-3", retry=others))

    assert {failure.status for failure in failures} == {fault.status}
    assert len(provider.requests) == 1
    assert diagnose(workspace.data, plan_of(workspace, Stage.DRAFT)).is_final

    document = make_draft(workspace, run_id="run-4", retry=frozenset({Status(fault.status)}))
    assert document.metadata["attempt"] == 2


def test_what_is_named_is_asked_again_once_a_run(workspace, provider):
    provider.reply = FAULTS["length"].make_reply
    retry = frozenset({Status.TRUNCATED})
    fail_draft(workspace, run_id="run-1")

    for _ in range(3):
        fail_draft(workspace, run_id="run-2", retry=retry)

    assert len(provider.requests) == 2


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.status == "ok"])
def test_an_odd_answer_is_an_answer_and_is_asked_for_once(name, workspace, provider):
    reply_in_turn(provider, FAULTS[name].make_reply)

    document = make_draft(workspace)

    assert document.metadata["attempt"] == 1
    assert list_attempts(workspace)[0].read_response() == FAULTS[name].make_reply(provider.requests[0]).body
    assert len(provider.requests) == 1


def test_only_statuses_of_attempts_can_be_retried():
    assert parse_retry(" gen_error, truncated") == {Status.GEN_ERROR, Status.TRUNCATED}
    assert parse_retry("") == frozenset()
    with pytest.raises(InputInvalid, match="'parse_error' cannot be retried"):
        parse_retry("gen_error,parse_error")


# How often


@pytest.mark.parametrize("name", ["500", "502", "529", "429"])
def test_a_storm_ends_with_the_retries_and_every_request_is_an_attempt(name, workspace, provider, tmp_path):
    settle(tmp_path, provider, "retries = 2\nbackoff_seconds = 0\n")
    provider.reply = FAULTS[name].make_reply

    fail_draft(workspace)

    attempts = list_attempts(workspace)
    assert [attempt.outcome["reason"] for attempt in attempts] == [FAULTS[name].reason] * 3
    assert len(provider.requests) == 3
    assert [attempt.read_response() for attempt in attempts] == [provider.answered[0][1].body] * 3


@pytest.mark.parametrize("retry_after", ["0", "1e9", "-5", "nonsense", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_wish_to_wait_is_recorded_and_no_absurd_one_is_followed(retry_after, workspace, provider):
    refusal = Reply(429, b'{"error": {"message": "wait"}}', {"retry-after": retry_after})
    reply_in_turn(provider, lambda _: refusal)

    make_draft(workspace)

    assert list_attempts(workspace)[0].outcome["response_headers"]["retry-after"] == retry_after
    assert len(provider.requests) == 2


def test_a_wish_to_wait_beyond_the_deadline_ends_the_tries(workspace, provider, tmp_path):
    settle(tmp_path, provider, "deadline_seconds = 5\nbackoff_seconds = 0\n")
    provider.reply = lambda _: Reply(429, b'{"error": {"message": "wait"}}', {"retry-after": "60"})

    fail_draft(workspace)

    assert len(provider.requests) == 1


@pytest.mark.slow
def test_a_provider_that_is_down_is_left_alone_but_for_probes(workspace, provider, tmp_path):
    """Six calls of five tries each would be thirty requests; ten failures in a row open the breaker."""
    settle(tmp_path, provider, "retries = 4\nbackoff_seconds = 0\ndeadline_seconds = 1\n")
    cohort = tmp_path / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text(cohort.read_text().replace('models = ["server"]', 'models = ["server"]\nreplicates = 6', 1))
    provider.reply = FAULTS["500"].make_reply
    maker = Maker(workspace.data)

    reasons = []
    for plan in workspace.plan(COHORT).rows[Stage.DRAFT]:
        with pytest.raises(DocumentFailed) as caught:
            make_document(maker, plan, cohort=COHORT)
        reasons.append(caught.value.reason)

    assert len(reasons) == 6
    assert any("was not asked, because it is down" in reason for reason in reasons)
    assert len(provider.requests) < 20


@pytest.mark.parametrize(("status", "reason"), [(401, "auth"), (403, "auth"), (402, "budget")])
def test_a_provider_that_lets_nobody_in_is_left_alone_after_three_calls(status, reason, workspace, provider, tmp_path):
    plans = plan_replicates(workspace, tmp_path, 9)
    provider.reply = lambda _: Reply(status, b'{"error": {"message": "no"}}')
    maker = Maker(workspace.data)

    failures = [fail(maker, plan) for plan in plans]

    assert len(provider.requests) == 3
    assert [isinstance(failure, PlaceLeft) for failure in failures] == [False] * 3 + [True] * 6
    assert all(failure.reason.startswith(f"{reason}: ") for failure in failures)
    assert failures[-1].reason.endswith("here is not asked again in this run.")
    fail(Maker(workspace.data), plans[-1])
    assert len(provider.requests) == 4  # the next run asks anew


def test_a_key_that_is_not_set_is_told_after_three_attempts(workspace, provider, tmp_path, monkeypatch):
    monkeypatch.delenv("TRIAL_KEY")
    plans = plan_replicates(workspace, tmp_path, 6)
    maker = Maker(workspace.data)

    failures = [fail(maker, plan) for plan in plans]

    assert [isinstance(failure, PlaceLeft) for failure in failures] == [False] * 3 + [True] * 3
    assert len(list_attempts(workspace)) == 3


def test_answers_in_between_keep_a_place_that_refuses_some(workspace, provider, tmp_path):
    plans = plan_replicates(workspace, tmp_path, 9)
    refuse = FAULTS["401 with the key"].make_reply
    reply_in_turn(provider, *([refuse, refuse, lambda request: reply_json(answer_of(request))] * 3))
    maker = Maker(workspace.data)

    made = 0
    for plan in plans:
        with contextlib.suppress(DocumentFailed):
            made += make_document(maker, plan, cohort=COHORT) is not None

    assert (made, len(provider.requests)) == (3, 9)


def plan_replicates(workspace, tmp_path, count: int):
    cohort = tmp_path / "config" / "cohorts" / f"{COHORT}.toml"
    models = 'models = ["server"]'
    cohort.write_text(cohort.read_text().replace(models, f"{models}\nreplicates = {count}", 1))
    return workspace.plan(COHORT).rows[Stage.DRAFT]


def fail(maker: Maker, plan) -> DocumentFailed:
    with pytest.raises(DocumentFailed) as caught:
        make_document(maker, plan, cohort=COHORT)
    return caught.value


def test_a_run_that_is_to_end_takes_what_is_under_way_and_sends_nothing_more(workspace, provider, tmp_path):
    settle(tmp_path, provider, "backoff_seconds = 60\n")
    stopping = threading.Event()

    def fail_and_stop(request):
        stopping.set()
        return FAULTS["500"].make_reply(request)

    provider.reply = fail_and_stop
    failures = [fail_draft(workspace, stopping=stopping) for _ in range(2)]

    assert len(provider.requests) == 1
    assert "was not asked, because the run was to end" in failures[1].reason


# Timeouts


def test_a_timeout_is_an_attempt_and_an_answer_after_it_overwrites_nothing(workspace, provider, tmp_path):
    settle(tmp_path, provider, "timeout_seconds = 1\nbackoff_seconds = 0\n")
    is_over = threading.Event()

    def answer_late(request):
        is_over.wait(30)
        return reply_json(make_completion("too late"))

    reply_in_turn(provider, answer_late)

    document = make_draft(workspace)
    is_over.set()

    first, second = list_attempts(workspace)
    assert (first.outcome["reason"], first.outcome["http_status"], second.status) == ("transport", None, "ok")
    assert first.read_response() is None
    assert document.read_text("raw.txt") == "Connect Tide.\n"


def test_bytes_that_came_before_a_timeout_are_kept(workspace, provider, tmp_path):
    settle(tmp_path, provider, "timeout_seconds = 1\nretries = 0\n")
    provider.reply = lambda _: Reply(body=b" " * 100_000, drip_seconds=0.01)

    fail_draft(workspace)

    (attempt,) = list_attempts(workspace)
    assert attempt.outcome["reason"] == "transport"
    assert attempt.read_response().strip() == b""
    assert attempt.outcome["response_bytes"] > 0


def test_nobody_at_the_address_costs_nothing_and_every_try_is_kept(workspace, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        base = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        write_config(tmp_path / "config", api_base=base, settings="retries = 2\nbackoff_seconds = 0\n")
        failure = fail_draft(workspace)

    assert failure.reason.startswith("no_connection")
    assert [attempt.outcome["http_status"] for attempt in list_attempts(workspace)] == [None] * 3
    assert [attempt.outcome["cost"]["usd"] for attempt in list_attempts(workspace)] == [0.0] * 3


# What is recorded


def test_the_request_as_it_was_sent_stands_beside_the_request_as_asked(workspace, provider):
    make_draft(workspace)

    (attempt,) = list_attempts(workspace)
    assert attempt.outcome["sent"] == {
        "method": "POST",
        "address": f"{provider.api_base}/chat/completions",
        "headers": {"content-type": "application/json"},
        "body": {"model": "loopback", "messages": "as asked", "max_tokens": 50},
    }
    assert attempt.read_request()["messages"] == provider.requests[0].body["messages"]


def test_other_models_and_wrong_counts_are_recorded_as_they_were_reported(workspace, provider):
    reply_in_turn(provider, FAULTS["other model"].make_reply)
    make_draft(workspace)

    outcome = list_attempts(workspace)[0].outcome
    assert (outcome["model_reported"], outcome["system_fingerprint"]) == ("another-model", "fp_1")


def test_counts_that_are_none_are_unknown_and_not_zero(workspace, provider):
    reply_in_turn(provider, FAULTS["wrong usage"].make_reply)

    metadata = make_draft(workspace).metadata

    assert (metadata["prompt_tokens"], metadata["completion_tokens"], metadata["total_tokens"]) == (None, None, None)


def test_a_key_that_the_provider_repeats_is_in_no_file_and_no_message(workspace, provider, tmp_path):
    provider.reply = FAULTS["401 with the key"].make_reply

    failure = fail_draft(workspace)

    assert KEY in provider.requests[0].headers["authorization"]
    assert KEY not in str(failure)
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.name == "response.bin" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_reasoning_is_kept_apart_from_the_answer(workspace, provider):
    provider.reply = lambda _: reply_json(make_completion("Once", reasoning_content="Hm."))

    document = make_draft(workspace)

    assert document.read_text("raw.txt") == "Once"
    assert list_attempts(workspace)[0].outcome["reasoning"] == "Hm."


# A process that died when the answer was on disk


def remove_outcome_and_document(document, attempt) -> None:
    for path in (*document.folder.iterdir(), attempt.folder / "outcome.json"):
        path.unlink()
    document.folder.rmdir()


@pytest.mark.parametrize("model", OWN_FORMATS)
def test_an_answer_in_a_format_of_its_own_is_read_from_its_bytes_alone(model, workspace, provider, tmp_path):
    models = tmp_path / "config" / "models.toml"
    models.write_text(models.read_text().replace("openai/loopback", model).replace(provider.api_base, provider.root))
    provider.reply = lambda _: reply_json(OWN_FORMATS[model])
    document = make_draft(workspace)
    (attempt,) = list_attempts(workspace)
    outcome = dict(attempt.outcome)
    remove_outcome_and_document(document, attempt)

    again = make_draft(workspace, ask=refuse_to_ask)

    assert again.read_text("raw.txt") == "Once"
    found = list_attempts(workspace)[0].outcome
    assert {name for name in outcome if found[name] != outcome[name]} <= {
        "seconds", "finished_at", "run_id", "sent", "response_headers", "http_status",
    }  # fmt: skip


def test_a_compressed_answer_is_read_from_its_bytes_alone(workspace, provider):
    reply_in_turn(provider, FAULTS["gzip"].make_reply)
    document = make_draft(workspace)
    (attempt,) = list_attempts(workspace)
    assert gzip.decompress(attempt.read_response())
    remove_outcome_and_document(document, attempt)

    assert make_draft(workspace, ask=refuse_to_ask).read_text("raw.txt") == "Connect Tide.\n"


@pytest.mark.parametrize("model", OWN_FORMATS)
def test_a_cut_answer_in_any_format_is_no_answer(model):
    body = json.dumps(OWN_FORMATS[model]).encode()
    call = gateway.Call(({"role": "user", "content": "x"},), model, None, {"max_tokens": 9}, 1)

    for length in range(0, len(body), 7):
        assert gateway.read_again(call, body[:length]) is None
    assert gateway.read_again(call, body) is not None


def test_an_error_in_a_format_of_its_own_is_no_answer():
    model = "anthropic/claude-3-5-haiku-latest"
    call = gateway.Call(({"role": "user", "content": "x"},), model, None, {"max_tokens": 9}, 1)

    assert gateway.read_again(call, b'{"type": "error", "error": {"type": "overloaded_error", "message": "x"}}') is None


@pytest.mark.parametrize(
    ("model", "change", "status", "reason"),
    [
        ("gemini/gemini-2.0-flash", {"finishReason": "SAFETY"}, "gen_error", "refused"),
        ("gemini/gemini-2.0-flash", {"finishReason": "MALFORMED_RESPONSE"}, "gen_error", "provider"),
        ("gemini/gemini-2.0-flash", {"finishReason": "TOMORROW"}, "gen_error", "unknown_finish"),
        ("gemini/gemini-2.0-flash", {"finishReason": "MAX_TOKENS"}, "truncated", "max_tokens"),
        ("anthropic/claude-3-5-haiku-latest", {"stop_reason": "refusal"}, "gen_error", "refused"),
        ("anthropic/claude-3-5-haiku-latest", {"stop_reason": "tomorrow"}, "gen_error", "unknown_finish"),
        ("ollama_chat/llama", {"done_reason": "length"}, "truncated", "max_tokens"),
        ("ollama_chat/llama", {"done_reason": "load"}, "gen_error", "unknown_finish"),
    ],
)
def test_the_providers_own_word_decides_in_its_own_format(model, change, status, reason):
    body = json.loads(json.dumps(OWN_FORMATS[model]))
    (body["candidates"][0] if "candidates" in body else body).update(change)
    call = gateway.Call(({"role": "user", "content": "x"},), model, None, {"max_tokens": 9}, 1)

    answer = gateway.read_again(call, json.dumps(body).encode())

    assert answer is not None
    assert (answer.status, answer.reason) == (status, reason)


# On the way


ASK = """
import os, sys
from pipeline.gateway import Call, Transport, ask
call = Call(({"role": "user", "content": "Once"},), "openai/x", None, {"max_tokens": 9}, 1)
answer = ask(call, Transport(sys.argv[1], timeout_seconds=20), keep=lambda chunk: None)
print(answer.status, answer.reason or "", answer.text, sep="|")
"""


def ask_in_process(api_base: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    settings = {**clean, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
    command = [sys.executable, "-c", ASK, api_base]
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_a_proxy_of_the_environment_is_used(provider):
    assert ask_in_process("http://provider.invalid/v1", HTTP_PROXY=provider.root) == "ok||Once"
    assert provider.requests[0].path == "http://provider.invalid/v1/chat/completions"


@pytest.mark.slow
def test_a_host_that_is_excepted_is_asked_past_the_proxy(provider):
    nobody = "http://127.0.0.1:9"

    assert ask_in_process(provider.api_base, HTTP_PROXY=nobody, NO_PROXY="127.0.0.1") == "ok||Once"
    assert ask_in_process(provider.api_base, HTTP_PROXY=nobody).startswith("gen_error|no_connection")
    assert len(provider.requests) == 1


ASK_OFTEN = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pipeline.gateway import Call, Transport, ask
call = Call(({"role": "user", "content": "Once"},), "openai/x", None, {"max_tokens": 9}, 1)
sizes = []
def ask_one(number):
    kept = []
    answer = ask(call, Transport(sys.argv[1], timeout_seconds=60), keep=lambda chunk: kept.append(len(chunk)))
    assert answer.status == "ok"
    sizes.append(sum(kept))
    assert max(kept) < 1_000_000
with ThreadPoolExecutor(4) as threads:
    list(threads.map(ask_one, range(12)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    list(threads.map(ask_one, range(36)))
print(min(sizes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_answers_of_ten_megabytes_are_kept_in_pieces_and_leave_nothing_in_memory(provider):
    reply = FAULTS["10 MB"].make_reply(None)
    provider.reply = lambda _: reply
    command = [sys.executable, "-c", ASK_OFTEN, provider.api_base]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    size, growth = map(int, finished.stdout.split())
    assert size > 10_000_000
    assert growth * 1024 < 100 * 2**20  # 36 such answers more; ru_maxrss is in KiB
