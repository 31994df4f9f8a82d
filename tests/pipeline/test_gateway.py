"""The gateway: one reading of an answer, and the model that answers with its prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pipeline.answers import order_schema
from pipeline.gateway import Answer, Call, Transport, ask, decide_status, interpret
from tests.provider_server import make_completion


def make_call(*texts: str, model: str = "echo/plain", **params: Any) -> Call:
    messages = tuple({"role": "user", "content": text} for text in texts)
    return Call(messages, model, None, {"max_tokens": 10} | params, replicate=1)


def interpret_body(body: Any) -> Answer | None:
    return interpret(json.dumps(body).encode())


# decide_status


@pytest.mark.parametrize(
    ("names", "http_status", "message", "reason"),
    [
        (["RateLimitError"], 429, "slow down", "rate_limit"),
        (["RateLimitError"], 429, "You exceeded your quota (insufficient_quota)", "budget"),
        (["BadRequestError"], 400, "Your credit balance is too low", "budget"),
        (["APIError"], 402, "", "budget"),
        (["PaymentRequiredError", "BadRequestError"], 402, "", "budget"),
        (["BudgetExceededError"], None, "", "budget"),
        (["AuthenticationError"], 401, "", "auth"),
        (["APIError"], 403, "", "auth"),
        (["BadRequestError"], 400, "", "bad_request"),
        (["NotFoundError"], 404, "", "bad_request"),
        (["APIError"], 413, "", "bad_request"),
        (["UnprocessableEntityError"], 422, "", "bad_request"),
        (["APIError"], 307, "", "bad_request"),
        (["LiteLLMUnknownProvider", "BadRequestError"], None, "", "bad_request"),
        (["UnsupportedParamsError", "BadRequestError"], 400, "", "bad_params"),
        (["ContextWindowExceededError", "BadRequestError"], 400, "", "context_overflow"),
        (["ContentPolicyViolationError", "BadRequestError"], 400, "", "refused"),
        (["InternalServerError"], 500, "", "transport"),
        (["APIError"], 529, "", "transport"),
        (["Timeout", "APIConnectionError"], 408, "", "transport"),
        (["Timeout", "APIConnectionError"], 200, "", "transport"),
        (["APIConnectionError"], None, "", "transport"),
        (["MidStreamFallbackError", "ServiceUnavailableError"], None, "", "transport"),
        (["InternalServerError"], 200, "", "bad_body"),
        (["AttributeError"], None, "", "provider"),
        ([], 500, "", "transport"),
    ],
)
def test_an_error_has_one_reason(names: list[str], http_status: int | None, message: str, reason: str) -> None:
    verdict = decide_status(error_names=names, http_status=http_status, error_text=message)

    assert verdict == ("gen_error", reason)


@pytest.mark.parametrize(
    ("finish", "native", "text", "reasoning", "verdict"),
    [
        ("stop", None, "Once", None, ("ok", None)),
        ("stop", "end_turn", "Once", None, ("ok", None)),
        ("stop", "STOP", "Once", "thoughts", ("ok", None)),
        ("length", None, "Once", None, ("truncated", "max_tokens")),
        ("length", None, "", None, ("truncated", "max_tokens")),
        ("stop", "max_tokens", "Once", None, ("truncated", "max_tokens")),
        ("length", "MAX_TOKENS", "", "thoughts", ("truncated", "reasoning_only")),
        ("stop", None, "  \n", "thoughts", ("truncated", "reasoning_only")),
        ("stop", None, "  \n", None, ("gen_error", "empty")),
        ("stop", None, None, None, ("gen_error", "empty")),
        ("content_filter", None, "Once", None, ("gen_error", "refused")),
        ("stop", "refusal", "", None, ("gen_error", "refused")),
        ("stop", "SAFETY", "Once", None, ("gen_error", "refused")),
        ("stop", "error", "Once", None, ("gen_error", "provider")),
        ("stop", "MALFORMED_RESPONSE", "Once", None, ("gen_error", "provider")),
        ("stop", "a word of tomorrow", "Once", None, ("gen_error", "unknown_finish")),
        ("tool_calls", None, "", None, ("gen_error", "tool_calls")),
        (None, None, "Once", None, ("gen_error", "unknown_finish")),
    ],
)
def test_a_finish_reason_has_one_status(
    finish: str | None, native: str | None, text: str | None, reasoning: str | None, verdict: tuple[str, str | None]
) -> None:
    assert decide_status(finish=finish, native=native, text=text, reasoning=reasoning) == verdict


def test_an_answer_without_choices_has_a_reason_of_its_own() -> None:
    assert decide_status(has_choice=False) == ("gen_error", "no_choices")


# interpret


def test_a_completion_is_read_as_it_was_reported() -> None:
    answer = interpret_body(make_completion("Once", reasoning_content="Hm."))

    assert answer == Answer(
        "ok",
        text="Once",
        reasoning="Hm.",
        finish_reason="stop",
        prompt_tokens=11,
        completion_tokens=7,
        total_tokens=18,
        model_reported="loopback-1",
        system_fingerprint="fp_1",
    )


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"<html>busy</html>",
        b'{"choices": [{"mess',
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        b"[1, 2]",
        b"[" * 100_000,
        b'{"error": {"message": "no"}}',
        b'{"error": {"message": "no"}, "choices": []}',
        b'{"choices": "none"}',
        b'{"choices": [null]}',
        b'{"choices": [{"text": "an old completion"}]}',
        b'{"content": [{"type": "text", "text": "a format of another provider"}]}',
    ],
)
def test_what_is_no_completion_is_not_interpreted(response: bytes) -> None:
    assert interpret(response) is None


def test_tokens_that_are_no_counts_are_unknown_and_not_zero() -> None:
    body = make_completion("Once") | {"usage": {"prompt_tokens": "many", "completion_tokens": -1, "total_tokens": True}}

    answer = interpret_body(body)

    assert answer is not None
    assert (answer.prompt_tokens, answer.completion_tokens, answer.total_tokens) == (None, None, None)


def test_a_missing_usage_is_unknown() -> None:
    answer = interpret_body(make_completion("Once") | {"usage": None})

    assert answer is not None
    assert (answer.status, answer.total_tokens) == ("ok", None)


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    response = json.dumps(make_completion("a\ud800b \U0001f30a")).encode()

    answer = interpret(response)

    assert answer is not None
    assert answer.text == "a\ufffdb \U0001f30a"


@pytest.mark.parametrize("text", ["", "a\r\nb", "\ufeffx", "a\u2028b", "a\x00b", " a "])
def test_a_text_is_neither_trimmed_nor_normalised(text: str) -> None:
    answer = interpret_body(make_completion(text))

    assert answer is not None
    assert answer.text == text


def test_a_text_in_parts_is_joined() -> None:
    body = make_completion(None)
    body["choices"][0]["message"]["content"] = [
        {"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "On"}, {"type": "text", "text": "ce"}
    ]  # fmt: skip

    answer = interpret_body(body)

    assert answer is not None
    assert answer.text == "Once"


def test_a_refusal_in_a_field_of_its_own_is_refused() -> None:
    answer = interpret_body(make_completion(None, refusal="I cannot help with that."))

    assert answer is not None
    assert (answer.status, answer.reason) == ("gen_error", "refused")


def test_an_error_inside_a_choice_is_an_error() -> None:
    body = make_completion("Half an ans")
    body["choices"][0]["error"] = {"code": 502, "message": "provider disconnected"}

    answer = interpret_body(body)

    assert answer is not None
    assert (answer.status, answer.reason) == ("gen_error", "provider")


# echo


def test_an_echo_answers_with_the_prompt_verbatim() -> None:
    chunks: list[bytes] = []

    answer = ask(make_call("  Write about\r\nthe sea. é \n"), Transport(), keep=chunks.append)

    assert (answer.status, answer.text) == ("ok", "  Write about\r\nthe sea. é \n")
    assert (answer.prompt_tokens, answer.completion_tokens) == (5, 5)
    assert interpret(b"".join(chunks)) == answer


def test_an_echo_gives_equal_bytes_for_equal_calls() -> None:
    chunks: list[bytes] = []

    for _ in range(2):
        ask(make_call("one", "two"), Transport(), keep=chunks.append)

    assert chunks[0] == chunks[1]
    assert b"one\\n\\ntwo" in chunks[0]


def test_an_echo_needs_no_litellm() -> None:
    script = (
        "import sys\n"
        "from pipeline.gateway import Call, Transport, ask\n"
        "call = Call(({'role': 'user', 'content': 'x'},), 'echo/x', None, {}, 1)\n"
        "assert ask(call, Transport(), keep=lambda chunk: None).text == 'x'\n"
        "print(sorted(sys.modules.keys() & {'litellm', 'httpx', 'openai', 'xllamacpp'}))\n"
    )

    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert finished.stdout == "[]\n"


def test_a_call_that_is_no_utf_8_is_refused_before_anything_is_sent() -> None:
    chunks: list[bytes] = []

    answer = ask(make_call("a\ud800b"), Transport(), keep=chunks.append)

    assert (answer.status, answer.reason) == ("gen_error", "bad_request")
    assert chunks == []


def test_what_keep_raises_is_raised() -> None:
    def fill_disk(chunk: bytes) -> None:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        ask(make_call("x"), Transport(), keep=fill_disk)


# identity


def test_the_inputs_of_a_call_are_its_five_fields_as_plain_json() -> None:
    call = make_call("Write.", seed=7, stop=["END"])

    inputs = call.as_inputs()

    assert inputs == {
        "messages": [{"role": "user", "content": "Write."}],
        "model": "echo/plain",
        "endpoint": None,
        "params": {"max_tokens": 10, "seed": 7, "stop": ["END"]},
        "replicate": 1,
    }
    assert json.loads(json.dumps(inputs)) == inputs


def test_the_order_of_a_schema_follows_from_its_content() -> None:
    score, reason = {"type": "integer"}, {"type": "string", "maxLength": 9}
    first = {
        "type": "object",
        "properties": {"score": score, "note": {}, "reason": reason},
        "required": ["reason", "score"],
    }
    second = {
        "required": ["reason", "score"],
        "properties": {"reason": reason, "note": {}, "score": score},
        "type": "object",
    }

    assert json.dumps(order_schema(first)) == json.dumps(order_schema(second))
    assert list(order_schema(first)["properties"]) == ["reason", "score", "note"]


def test_only_the_order_of_a_schema_changes() -> None:
    item = {
        "type": "object",
        "properties": {"properties": {"enum": ["z", "a"]}, "a": {}},
        "required": ["properties", "x"],
    }
    schema = {"type": "array", "items": item, "minItems": 1}

    assert order_schema(schema) == schema
