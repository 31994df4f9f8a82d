"""The gateway to models: one call in, one answer out, at most one request on the way. Knows nothing of files.

    echo/<anything>      answers with the prompt itself: nothing is loaded, nothing is sent, nothing is paid
    everything else      goes through litellm, local/... to a model inside this process (see embedded)

- An answer's bytes go to `keep` as they arrive, before anything interprets them.
- A failure is an Answer with a reason, not an exception.
- Nothing is tried again here: whether a second request is worth its price, the caller decides.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipeline.answers import (
    Answer,
    Call,
    Transport,
    WrittenRequest,
    decide_status,
    decode_body,
    failed_answer,
    interpret,
    read_json_object,
)
from pipeline.errors import GatewayError

__all__ = [
    "Answer",
    "Call",
    "Transport",
    "WrittenRequest",
    "ask",
    "check_batches",
    "decide_status",
    "interpret",
    "is_echo",
    "prepare",
    "read_again",
    "read_answer",
    "write_request",
]

ECHO_PREFIX = "echo/"


def ask(call: Call, transport: Transport, *, keep: Callable[[bytes], None]) -> Answer:
    """Return the model's answer to a call; `keep` receives the bytes of the response as they arrive.

    A model that fails gives an Answer with status gen_error. What `keep` raises is raised, as is KeyboardInterrupt.
    """
    try:
        _check_encodable(call)
        if is_echo(call.model):
            return _ask_echo(call, keep)
        return _ask_litellm(call, transport, keep)
    except GatewayError as error:
        return failed_answer(error)


def read_again(call: Call, response: bytes) -> Answer | None:
    """Return the answer in the kept bytes of a response; None if they are no whole answer.

    For the attempt of a process that died: nothing is sent. litellm is loaded only for the format of a provider
    that is not OpenAI's.
    """
    answer = interpret(response)
    if answer is not None or is_echo(call.model) or read_json_object(decode_body(response)) is None:
        return answer
    from pipeline import litellm_client

    return litellm_client.translate(call, response)


def check_batches(model: str) -> None:
    """Raise GatewayError if litellm knows no batches of the model's provider, or none that go through our client."""
    _import_litellm_client(model).check_batches(model)


def write_request(call: Call, transport: Transport) -> WrittenRequest:
    """Return the request that would be sent, to be sent in a batch. Raises GatewayError."""
    _check_encodable(call)
    written: WrittenRequest = _import_litellm_client(call.model).write_request(call, transport)
    return written


def read_answer(call: Call, transport: Transport, *, http_status: int, body: bytes) -> Answer:
    """Return what a response says that did not come by `ask`, as `ask` would."""
    if http_status == 200 and (answer := interpret(body)) is not None:
        return replace(answer, http_status=http_status)
    answered: Answer = _import_litellm_client(call.model).read_answer(
        call, transport, http_status=http_status, body=body
    )
    return answered


def is_echo(model: str) -> bool:
    """Does this model answer with its prompt?"""
    return model.startswith(ECHO_PREFIX)


def prepare(model: str) -> None:
    """Load now what asking the model needs, so that a later `ask` sends its request without delay."""
    if not is_echo(model):
        with contextlib.suppress(ImportError):  # `ask` says it
            importlib.import_module("pipeline.litellm_client")


def _check_encodable(call: Call) -> None:
    try:
        json.dumps(call.as_inputs(), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:  # UnicodeEncodeError is a ValueError
        detail = f"The call to {call.model} cannot be written as JSON in UTF-8: {error}. Correct its prompt or params."
        raise GatewayError("bad_request", detail) from error


def _ask_echo(call: Call, keep: Callable[[bytes], None]) -> Answer:
    response = encode_echo(call)
    keep(response)
    answer = interpret(response)
    assert answer is not None  # it is our own encoding
    return answer


def encode_echo(call: Call) -> bytes:
    """Return the response of an echo: the texts of the messages as a chat completion, tokens counted as words."""
    text = "\n\n".join(message["content"] for message in call.messages)
    words = len(text.split())
    body: dict[str, Any] = {
        "choices": [{"finish_reason": "stop", "index": 0, "message": {"content": text, "role": "assistant"}}],
        "model": call.model,
        "object": "chat.completion",
        "usage": {"completion_tokens": words, "prompt_tokens": words, "total_tokens": 2 * words},
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _ask_litellm(call: Call, transport: Transport, keep: Callable[[bytes], None]) -> Answer:
    answer: Answer = _import_litellm_client(call.model).complete(call, transport, keep=keep)
    return answer


def _import_litellm_client(model: str) -> Any:
    try:
        from pipeline import litellm_client  # four seconds of CPU, which echo and every offline command go without
    except ImportError as error:
        detail = f"{model} is asked through litellm, which cannot be imported: {error}. Install litellm."
        raise GatewayError("bad_request", detail) from error
    return litellm_client
