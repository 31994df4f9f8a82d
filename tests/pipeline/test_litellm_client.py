"""litellm as the gateway uses it: one request, every byte kept, no key in any text, nothing at import.

An upgrade of litellm is accepted only when these pass.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.embedded import find_weights
from pipeline.gateway import Answer, Call, Transport, ask, interpret
from tests.provider_server import ProviderServer, Reply, Request, make_completion, reply_json

pytestmark = pytest.mark.xdist_group("litellm")  # its import costs four seconds in each process

KEY = "sk-test-0123456789abcdef+/="
KEY_NAME = "DAYBOOK_TEST_KEY"
COMPLETION = json.dumps(make_completion("Once")).encode()

# What a provider's chat endpoint is, for those that litellm does not ask as it asks OpenAI.
OWN_FORMATS: dict[str, Any] = {
    "anthropic/claude-3-5-haiku-latest": {
        "id": "m", "type": "message", "role": "assistant", "model": "loopback-1", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Once"}], "usage": {"input_tokens": 11, "output_tokens": 7},
    },
    "gemini/gemini-2.0-flash": {
        "candidates": [{"content": {"parts": [{"text": "Once"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18},
    },
    "ollama_chat/llama": {
        "model": "loopback-1", "message": {"role": "assistant", "content": "Once"}, "done": True, "done_reason": "stop",
        "prompt_eval_count": 11, "eval_count": 7,
    },
}  # fmt: skip
LIKE_OPENAI = ("openai", "openrouter", "deepseek", "mistral", "together_ai", "xai", "groq")


class Asked(NamedTuple):
    answer: Answer
    kept: bytes
    requests: list[Request]


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    with ProviderServer() as provider:
        yield provider


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(KEY_NAME, KEY)
    return KEY


def ask_provider(
    provider: ProviderServer,
    reply: Reply | Callable[[Request], Reply] | None = None,
    *,
    model: str = "openai/loopback",
    timeout_seconds: float = 20,
    key_env: str | None = KEY_NAME,
    **params: Any,
) -> Asked:
    if isinstance(reply, Reply):
        provider.reply = lambda _: reply
    elif reply is not None:
        provider.reply = reply
    api_base = provider.root if model in OWN_FORMATS else provider.api_base
    call = Call(({"role": "user", "content": "Write."},), model, "loopback", {"max_tokens": 9} | params, replicate=1)
    chunks: list[bytes] = []
    answer = ask(call, Transport(api_base, key_env, timeout_seconds), keep=chunks.append)
    return Asked(answer, b"".join(chunks), provider.requests)


def test_an_answer_is_the_bytes_that_came(provider: ProviderServer, key: str) -> None:
    answer, kept, requests = ask_provider(provider, Reply(body=COMPLETION))

    assert (answer.status, answer.text, answer.http_status) == ("ok", "Once", 200)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.model_reported) == (11, 7, "loopback-1")
    assert kept == COMPLETION
    assert interpret(kept) is not None
    assert len(requests) == 1


def test_what_is_sent_is_what_was_asked(provider: ProviderServer, key: str) -> None:
    schema = {"type": "object", "properties": {"score": {}, "reason": {}}, "required": ["reason", "score"]}

    asked = ask_provider(
        provider, Reply(body=COMPLETION), seed=7, temperature=0.5, stop=["END"], min_p=0.1, response_schema=schema
    )

    request = asked.requests[0]
    sent_schema = request.body.pop("response_format")["json_schema"]["schema"]
    assert request.body == {
        "model": "loopback", "messages": [{"role": "user", "content": "Write."}], "max_tokens": 9,
        "seed": 7, "temperature": 0.5, "stop": ["END"], "min_p": 0.1,
    }  # fmt: skip
    assert list(sent_schema["properties"]) == ["reason", "score"]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of a body that is not as the SDK expects
@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (reply_json({"error": {"message": "slow down"}}, status=429), "gen_error", "rate_limit"),
        (reply_json({"error": {"message": "x", "code": "insufficient_quota"}}, status=429), "gen_error", "budget"),
        (reply_json({"error": {"message": "pay"}}, status=402), "gen_error", "budget"),
        (reply_json({"error": {"message": "who?"}}, status=403), "gen_error", "auth"),
        (reply_json({"error": {"message": "what?"}}, status=400), "gen_error", "bad_request"),
        (reply_json({"error": {"message": "no such model"}}, status=404), "gen_error", "bad_request"),
        (reply_json({"error": {"message": "broken"}}, status=500), "gen_error", "transport"),
        (reply_json({"error": {"message": "overloaded"}}, status=529), "gen_error", "transport"),
        (
            reply_json({"error": {"message": "Conversation roles must alternate"}}, status=422),
            "gen_error",
            "bad_request",
        ),
        (Reply(307, b"elsewhere", {"location": "/v1/elsewhere"}), "gen_error", "bad_request"),
        (Reply(body=COMPLETION[:-30], missing_bytes=30), "gen_error", "cut_body"),
        (Reply(body=COMPLETION[:-30]), "gen_error", "bad_body"),
        (Reply(body=COMPLETION.replace(b"Once", b"On\xffce")), "gen_error", "bad_body"),
        (Reply(body=b"<html>busy</html>", content_type="text/html"), "gen_error", "bad_body"),
        (Reply(body=b"<html>busy</html>"), "gen_error", "bad_body"),
        (Reply(body=b"null"), "gen_error", "bad_body"),
        (Reply(body=b""), "gen_error", "bad_body"),
        (reply_json({"error": {"message": "a status of 200 around an error"}}), "gen_error", "provider"),
        (reply_json(make_completion("Once") | {"choices": []}), "gen_error", "no_choices"),
        (reply_json(make_completion(None)), "gen_error", "empty"),
        (reply_json(make_completion(" \n")), "gen_error", "empty"),
        (reply_json(make_completion("", reasoning_content="Hm.")), "truncated", "reasoning_only"),
        (reply_json(make_completion("Onc", finish="length")), "truncated", "max_tokens"),
        (reply_json(make_completion("Onc", finish="content_filter")), "gen_error", "refused"),
        (reply_json(make_completion("Onc", finish="network_error")), "gen_error", "provider"),
        (reply_json(make_completion("Onc", finish=None)), "gen_error", "unknown_finish"),
        (reply_json(make_completion("Once") | {"usage": "none of your business"}), "ok", None),
        (reply_json(make_completion("a\ud800b")), "ok", None),
    ],
)
def test_every_reply_is_one_request_and_one_status(
    provider: ProviderServer, key: str, reply: Reply, status: str, reason: str | None
) -> None:
    answer, kept, requests = ask_provider(provider, reply)

    assert (answer.status, answer.reason, answer.http_status) == (status, reason, reply.status)
    assert kept == reply.body
    assert len(requests) == 1
    assert answer.detail or status == "ok"


@pytest.mark.parametrize("model", [*OWN_FORMATS, *(f"{name}/loopback" for name in LIKE_OPENAI)])
def test_every_provider_in_use_passes_our_client(provider: ProviderServer, key: str, model: str) -> None:
    body = json.dumps(OWN_FORMATS[model]).encode() if model in OWN_FORMATS else COMPLETION

    answer, kept, requests = ask_provider(provider, Reply(body=body), model=model)

    assert (answer.status, answer.text, answer.prompt_tokens, answer.completion_tokens) == ("ok", "Once", 11, 7)
    assert kept == body
    assert len(requests) == 1


@pytest.mark.parametrize("model", ["anthropic/claude-3-5-haiku-latest", "openrouter/loopback", "openai/loopback"])
@pytest.mark.parametrize("status", [401, 429, 500])
def test_no_provider_is_asked_twice(provider: ProviderServer, key: str, model: str, status: int) -> None:
    answer, _, requests = ask_provider(provider, reply_json({"error": {"message": "no"}}, status=status), model=model)

    assert answer.http_status == status
    assert len(requests) == 1


def test_an_extra_body_is_sent_as_it_is(provider: ProviderServer, key: str) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "top_a": 0.5}

    asked = ask_provider(provider, Reply(body=COMPLETION), extra_body=extra, top_k=5)

    assert asked.requests[0].body == {
        "model": "loopback", "messages": [{"role": "user", "content": "Write."}], "max_tokens": 9, "top_k": 5, **extra
    }  # fmt: skip


def test_an_extra_body_cannot_make_a_stream_or_several_answers(provider: ProviderServer, key: str) -> None:
    asked = ask_provider(provider, extra_body={"stream": True, "n": 3})

    assert (asked.answer.reason, asked.requests) == ("bad_params", [])
    assert "n, stream cannot be sent" in (asked.answer.detail or "")


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "openai/gpt-5", "openai/o3"])
def test_openais_own_models_pass_our_client_too(provider: ProviderServer, key: str, model: str) -> None:
    asked = ask_provider(provider, Reply(body=COMPLETION), model=model)

    assert (asked.answer.status, len(asked.requests)) == ("ok", 1)
    assert asked.answer.sent is not None
    assert asked.answer.sent["body"]["model"] == model.partition("/")[2]


OTHER_PROVIDERS = ("hosted_vllm", "fireworks_ai", "perplexity", "cerebras", "deepinfra", "moonshot", "lm_studio")


@pytest.mark.parametrize("name", OTHER_PROVIDERS)
def test_providers_that_nobody_listed_are_found_to_pass_our_client(
    provider: ProviderServer, key: str, name: str
) -> None:
    asked = ask_provider(provider, Reply(body=COMPLETION), model=f"{name}/m1")

    assert (asked.answer.status, asked.kept, len(asked.requests)) == ("ok", COMPLETION, 1)


@pytest.mark.parametrize("name", ["cohere", "replicate", "azure"])
def test_a_provider_that_would_go_past_our_client_reaches_nobody(provider: ProviderServer, key: str, name: str) -> None:
    asked = ask_provider(provider, Reply(body=COMPLETION), model=f"{name}/m1")

    assert asked.answer.reason == "bad_request"
    assert "openai/<name>" in (asked.answer.detail or "")
    assert asked.requests == []


def test_a_length_in_a_format_of_its_own_is_truncated(provider: ProviderServer, key: str) -> None:
    model = "anthropic/claude-3-5-haiku-latest"

    asked = ask_provider(provider, reply_json(OWN_FORMATS[model] | {"stop_reason": "max_tokens"}), model=model)

    assert (asked.answer.status, asked.answer.text) == ("truncated", "Once")


def test_a_provider_that_would_pass_us_by_is_not_asked(provider: ProviderServer, key: str) -> None:
    answer, kept, requests = ask_provider(provider, model="bedrock/loopback")

    assert answer.reason == "bad_request"
    assert "openai/<name>" in (answer.detail or "")
    assert (kept, requests) == (b"", [])


# Keys


def test_a_key_that_the_provider_repeats_stands_nowhere(provider: ProviderServer, key: str) -> None:
    message = f"Incorrect API key provided: {KEY}; sk-test-0123456789abcdef%2B%2F%3D. Long: {'x' * 360} {KEY}"

    answer, kept, _ = ask_provider(provider, reply_json({"error": {"message": message}}, status=401))

    assert answer.reason == "auth"
    assert "0123456789abcdef" not in repr(answer)
    assert b"0123456789abcdef" not in kept
    assert b"Incorrect API key provided: <key*" in kept


def test_a_missing_key_names_its_variable_before_anything_is_sent(provider: ProviderServer) -> None:
    answer, _, requests = ask_provider(provider, key_env="DAYBOOK_NO_SUCH_KEY")

    assert answer.reason == "auth"
    assert "DAYBOOK_NO_SUCH_KEY" in (answer.detail or "")
    assert requests == []


def test_a_key_that_is_not_configured_is_not_taken_from_the_environment(
    provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    asked = ask_provider(provider, key_env=None)

    assert asked.answer.status == "ok"
    assert KEY not in str(asked.requests[0].headers)


# Faults on the way


def test_a_provider_that_says_nothing_is_left_at_the_timeout(provider: ProviderServer, key: str) -> None:
    is_over = threading.Event()

    def say_nothing(request: Request) -> Reply:
        is_over.wait(20)
        return Reply(body=COMPLETION)

    answer, kept, requests = ask_provider(provider, say_nothing, timeout_seconds=0.2)
    is_over.set()

    assert (answer.reason, answer.http_status) == ("transport", None)
    assert (kept, len(requests)) == (b"", 1)


def test_a_body_that_drips_is_left_at_the_deadline(provider: ProviderServer, key: str) -> None:
    """A byte every 20 ms never trips a read timeout; the whole exchange has one of its own."""
    answer, kept, requests = ask_provider(provider, Reply(body=b" " * 5000, drip_seconds=0.02), timeout_seconds=0.3)

    assert (answer.reason, answer.http_status, len(requests)) == ("transport", 200, 1)
    assert 0 < len(kept) < 5000
    assert kept == b" " * len(kept)


def test_a_body_without_end_is_cut(provider: ProviderServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.wire.MAX_RESPONSE_BYTES", 100_000)

    answer, kept, _ = ask_provider(provider, reply_json(make_completion("x" * 1_000_000)))

    assert answer.reason == "bad_body"
    assert 100_000 < len(kept) < 400_000


def test_a_refused_connection_is_told_from_one_that_broke_since_nothing_was_sent(key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        call = Call(({"role": "user", "content": "x"},), "openai/x", None, {"max_tokens": 9}, replicate=1)
        answer = ask(call, Transport(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"), keep=lambda _: None)

    assert (answer.reason, answer.http_status, answer.sent) == ("no_connection", None, None)


def test_a_full_disk_is_not_the_providers_error(provider: ProviderServer, key: str) -> None:
    def fill_disk(chunk: bytes) -> None:
        raise OSError("No space left on device")

    call = Call(({"role": "user", "content": "x"},), "openai/x", None, {"max_tokens": 9}, replicate=1)
    with pytest.raises(OSError, match="No space left"):
        ask(call, Transport(provider.api_base), keep=fill_disk)

    assert len(provider.requests) == 1


def test_calls_at_the_same_time_keep_their_own_bytes(provider: ProviderServer, key: str) -> None:
    def ask_number(number: int, results: dict[int, Asked]) -> None:
        call = Call(
            ({"role": "user", "content": f"number {number}"},), "openai/x", None, {"max_tokens": 9}, replicate=1
        )
        chunks: list[bytes] = []
        answer = ask(call, Transport(provider.api_base), keep=chunks.append)
        results[number] = Asked(answer, b"".join(chunks), [])

    results: dict[int, Asked] = {}
    threads = [threading.Thread(target=ask_number, args=(number, results)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(8):
        assert results[number].answer.text == f"number {number}"
        assert f"number {number}".encode() in results[number].kept


# Parameters


@pytest.mark.parametrize("name", ["mock_response", "api_base", "num_retries", "stream", "fallbacks", "extra_headers"])
def test_a_setting_of_litellm_is_no_param(provider: ProviderServer, key: str, name: str) -> None:
    params: dict[str, Any] = {name: "x"}

    answer, _, requests = ask_provider(provider, **params)

    assert answer.reason == "bad_params"
    assert name in (answer.detail or "")
    assert requests == []


def test_a_param_that_the_provider_does_not_know_is_not_dropped(provider: ProviderServer, key: str) -> None:
    answer, _, requests = ask_provider(provider, model="anthropic/claude-3-5-haiku-latest", seed=7)

    assert answer.reason == "bad_params"
    assert requests == []


def test_a_call_without_max_tokens_is_not_sent(provider: ProviderServer, key: str) -> None:
    answer, _, requests = ask_provider(provider, max_tokens=None)

    assert answer.reason == "bad_params"
    assert requests == []


# Import, and models inside this process

IMPORT = """
import os, sys
connects = []
def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        connects.append(args)
sys.addaudithook(note)
import pipeline.litellm_client
print(connects, os.environ.get("FROM_DOTENV"))
"""


@pytest.mark.slow
def test_the_import_connects_to_nothing_and_reads_no_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_DOTENV=read\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    finished = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert (finished.stdout, finished.stderr) == ("[] None\n", "")


@pytest.mark.xdist_group("embedded")
def test_a_local_model_answers_through_litellm_with_reproducible_bytes(capfd: pytest.CaptureFixture[str]) -> None:
    call = Call(
        ({"role": "user", "content": "Write."},), "local/smollm2-135m-instruct", None, {"max_tokens": 4, "seed": 7}, 1
    )
    chunks: list[bytes] = []

    answers = [ask(call, Transport(context_tokens=512, threads=1), keep=chunks.append) for _ in range(2)]

    assert answers[0] == answers[1] == interpret(chunks[0])
    assert (answers[0].status, answers[0].reason, answers[0].completion_tokens) == ("truncated", "max_tokens", 4)
    assert chunks[0] == chunks[1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.xdist_group("embedded")
def test_the_http_server_of_llama_cpp_is_asked_like_any_provider(tmp_path: Path) -> None:
    """A real peer: the same weights as the embedded model, behind HTTP, as a person would start it."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(find_weights("local/smollm2-135m-instruct"))
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_ctx, settings.cpuparams.n_threads, settings.verbosity = 512, 1, -1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings.port = free.getsockname()[1]
    server = xllamacpp.Server(settings)
    call = Call(({"role": "user", "content": "Write."},), "openai/smollm2", "here", {"max_tokens": 4, "seed": 7}, 1)
    chunks: list[bytes] = []

    answer = ask(call, Transport(f"{server.listening_address}/v1"), keep=chunks.append)
    refused = ask(
        replace(call, params={"max_tokens": 4, "temperature": "warm"}),
        Transport(f"{server.listening_address}/v1"),
        keep=lambda _: None,
    )

    assert (answer.status, answer.reason, answer.completion_tokens) == ("truncated", "max_tokens", 4)
    assert answer.text
    assert replace(answer, http_status=None, sent=None, response_headers=None) == interpret(b"".join(chunks))
    assert refused.status == "gen_error"
    assert refused.http_status is not None


@pytest.mark.xdist_group("embedded")
@pytest.mark.parametrize(
    ("model", "params", "reason"),
    [
        ("local/smollm2-135m-instruct", {"max_tokens": 600}, "context_overflow"),
        ("local/smollm2-135m-instruct", {"max_tokens": 4, "reasoning_effort": "low"}, "bad_params"),
        ("local/nowhere.gguf", {"max_tokens": 4}, "bad_request"),
    ],
)
def test_what_a_local_model_cannot_do_is_said_and_nothing_is_kept(
    model: str, params: dict[str, Any], reason: str
) -> None:
    chunks: list[bytes] = []
    call = Call(({"role": "user", "content": "Write."},), model, None, params, replicate=1)

    answer = ask(call, Transport(context_tokens=512, threads=1), keep=chunks.append)

    assert (answer.status, answer.reason, chunks) == ("gen_error", reason, [])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
def test_the_system_sees_no_connection_and_no_dotenv_at_the_import(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_DOTENV=read\n")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=connect,open,openat", "-o", str(trace), sys.executable, "-c"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    subprocess.run([*command, "import pipeline.litellm_client"], cwd=tmp_path, env=environment, check=True)

    calls = trace.read_text().splitlines()
    assert len(calls) > 1000
    assert [line for line in calls if "connect(" in line] == []
    assert [line for line in calls if '.env"' in line] == []
