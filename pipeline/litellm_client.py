"""The one module that knows litellm, which here only translates: it never touches the network.

    complete -> local/...:  litellm -> our provider -> embedded.generate
             -> others:     build_request   litellm writes the request, and our client stops it before it leaves
                            wire.send       one request, its bytes kept as they arrive
                            read_answer     answers.interpret; a format of another kind is read by litellm, to which
                                            our client plays back the bytes that came

litellm does much that a reproducible pipeline must not have: it fetches prices at import, reads .env files, sends a
request up to three times, drops parameters, and turns a broken body into "server error", so that the paid answer
would be thrown away and bought again. Hence:

- The environment is set before the import, the attributes right after it.
- While litellm translates, its thread cannot open a connection: a hook refuses it. So whatever a provider's module
  does past our client, nothing is sent, nothing is tried again, and the provider is refused with a reason.
- An OpenAI-like body is read by answers.interpret alone, as it will be if the process dies and the bytes are all
  that is left. Other bodies can be read again by `translate`, from the bytes alone, too.

Importing this module costs about four seconds of CPU and opens no connection.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline import embedded, wire
from pipeline.answers import (
    AS_ASKED,
    Answer,
    Call,
    Transport,
    WrittenRequest,
    decide_status,
    decode_body,
    failed_answer,
    find_message,
    find_native_finish,
    interpret,
    make_answer,
    make_encodable,
    read_json_object,
    response_format_of,
)
from pipeline.errors import GatewayError
from pipeline.keys import KeyDropper, KeySource, drop_key_from_text, drop_keys, read_key
from pipeline.wire import Exchange

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else prices are fetched at import, and again in mid-run
os.environ["LITELLM_MODE"] = "PRODUCTION"  # else a .env file in any folder above is read
os.environ["LITELLM_LOG"] = "ERROR"
# OpenAI's requests through litellm's own client, as all others: OpenAI's package takes 0.9 ms of CPU more a request.
os.environ["EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER"] = "True"

import httpx
import litellm
import openai
from litellm.llms.custom_httpx.http_handler import HTTPHandler
from litellm.llms.custom_llm import CustomLLM
from litellm.types.utils import OPENAI_COMPATIBLE_BATCH_AND_FILES_PROVIDERS, all_litellm_params

OPENAI_BASE = "https://api.openai.com/v1"  # said outright, or it would be taken from the environment
NO_KEY = "no-key"  # sent where no key is configured, or litellm would look for one in the environment

# Providers that litellm asks in its own way when they are given our kinds of client.
NOT_THROUGH_US = frozenset({"azure"})
ClientKind = Literal["handler", "sdk"]  # litellm's own client, or that of OpenAI's package

# Errors that say what is wrong with the call itself; another kind of client would make no difference.
BAD_CALL_ERRORS = frozenset({"UnsupportedParamsError", "ContextWindowExceededError"})

RENAMED_PARAMS = frozenset({"response_schema"})
# Parameters of litellm itself that are not in its own list, or that would make of one answer several or a stream.
NOT_SENT = frozenset({"model", "messages", "n", "stream", "stream_options", "timeout", "base_url", "extra_headers"})

BATCHED_PATH = "/chat/completions"
LONGEST_MESSAGE = 400  # characters of a provider's error message that a detail repeats
SENT_HEADERS = ("content-type", "anthropic-version", "anthropic-beta")  # an allow-list: others hold keys
KEPT_HEADERS = (
    "retry-after",
    "retry-after-ms",
    "date",
    "content-type",
    "content-encoding",
    "x-request-id",
    "request-id",
)
KEPT_HEADER_STARTS = ("x-ratelimit-", "anthropic-ratelimit-")

ADVICE_BY_REASON = {
    "rate_limit": "Run again later, or ask fewer at a time.",
    "budget": "The account has no money or quota left. Nothing more should be asked of it.",
    "transport": "Whether the request was answered and paid is not known. Run again later.",
    "no_connection": "Nothing was sent. Run again later, or check the address.",
    "auth": "Check the key that api_key_env or api_key_file names.",
    "key_in_prompt": "Nothing was sent. Remove the key from the prompt.",
    "bad_request": "Check the model's name and parameters in its settings.",
    "bad_params": "Remove the parameter from the model's settings.",
    "context_overflow": "Shorten the prompt or lower max_tokens.",
    "refused": "The provider's filter refused the prompt.",
    "bad_body": "The bytes are kept; they are no answer that can be read.",
    "cut_body": "The bytes that came are kept; the answer was cut on its way.",
    "no_choices": "Run again later.",
    "empty": "Run again later.",
    "unknown_finish": "Run again later.",
    "tool_calls": "Run again later.",
    "provider": "Run again later.",
}


def _silence_litellm() -> None:
    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.turn_off_message_logging = True
    litellm.callbacks, litellm.success_callback, litellm.failure_callback = [], [], []
    litellm.cache = None
    litellm.num_retries = None
    litellm.drop_params = False
    litellm.modify_params = False
    for name in ("LiteLLM", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they write requests and bodies, and those hold keys


def complete(call: Call, transport: Transport, *, keep: Callable[[bytes], None]) -> Answer:
    """Return the model's answer. Raises GatewayError where nothing was sent; a failed answer is an Answer."""
    if call.params.get("max_tokens") is None:
        raise GatewayError("bad_params", f"{call.model} has no max_tokens. Set it in the model's settings.")
    if call.model.startswith(embedded.PREFIX):
        return _complete_embedded(call, transport, keep)
    return _complete_remote(call, transport, keep)


# Models inside this process


@dataclass
class _EmbeddedJob:
    """One call on its way through litellm to the model in this process, and what became of it."""

    call: Call
    transport: Transport
    response: bytes | None = None
    failure: Exception | None = None


_current_job: ContextVar[_EmbeddedJob] = ContextVar("_current_job")


class _EmbeddedProvider(CustomLLM):  # type: ignore[misc]  # litellm brings no types
    """What litellm calls for local/... It takes the call as it was asked, not as litellm rewrote it."""

    def completion(self, *_: Any, **__: Any) -> Any:
        job = _current_job.get()
        try:
            job.response = _generate(job.call, job.transport)
        except Exception as error:
            job.failure = error
            raise
        return litellm.ModelResponse(**(read_json_object(job.response) or {}))


def _generate(call: Call, transport: Transport) -> bytes:
    return embedded.generate(
        call.model,
        call.messages,
        call.params,
        context_tokens=transport.context_tokens,
        threads=transport.threads,
        slots=transport.slots,
    )


def _complete_embedded(call: Call, transport: Transport, keep: Callable[[bytes], None]) -> Answer:
    job = _EmbeddedJob(call, transport)
    token = _current_job.set(job)
    try:
        litellm.completion(model=call.model, messages=_copy_messages(call), num_retries=0, max_retries=0)
    except Exception:
        if job.failure is not None:
            raise job.failure from None  # litellm makes a connection error of everything
        if job.response is None:
            raise
    finally:
        _current_job.reset(token)
    assert job.response is not None
    keep(job.response)
    answer = interpret(job.response)
    assert answer is not None  # it is our own encoding
    return answer


# Models behind HTTP


def _complete_remote(call: Call, transport: Transport, keep: Callable[[bytes], None]) -> Answer:
    key = read_key(KeySource.of(transport))
    request = build_request(call, transport, key=key)
    sent = _describe_sent(call, request, key)
    dropper = KeyDropper(key)
    exchange = wire.send(
        request,
        keep=keep,
        connect_seconds=transport.connect_seconds,
        timeout_seconds=transport.timeout_seconds,
        cleaner=dropper,
    )
    # A body that came compressed could not be cleaned, so what was read of it is.
    answer = _read_answer(call, transport, exchange, key).change_texts(lambda text: drop_key_from_text(text, key))
    is_sent = exchange.failure is None or exchange.failure.kind != "unreached"
    return replace(
        answer,
        http_status=exchange.http_status,
        sent=sent if is_sent else None,
        response_headers=drop_keys(_choose_headers(exchange.headers), [key] if key else []),
        dropped_keys=dropper.count,
    )


def check_batches(model: str) -> None:
    """Raise GatewayError if calls of the model cannot be submitted as a batch.

    litellm submits batches of some providers with clients of its own, and those of Anthropic not at all.
    """
    provider = _provider_of(model)
    if provider not in OPENAI_COMPATIBLE_BATCH_AND_FILES_PROVIDERS:
        known = ", ".join(sorted(OPENAI_COMPATIBLE_BATCH_AND_FILES_PROVIDERS))
        detail = f"Calls of {model} cannot be submitted as a batch. Providers whose batches are known: {known}."
        raise GatewayError("bad_request", detail)


def write_request(call: Call, transport: Transport) -> WrittenRequest:
    """Return the request of a call, to be sent in a batch. Raises GatewayError."""
    check_batches(call.model)
    request = build_request(call, transport, key=read_key(KeySource.of(transport)))
    address, _, _ = str(request.url).partition(BATCHED_PATH)
    body = read_json_object(request.content)
    if body is None or request.url.path != httpx.URL(address).path.rstrip("/") + BATCHED_PATH:
        detail = f"{call.model} is asked at {request.url.path}; in a batch only requests to {BATCHED_PATH} can be sent."
        raise GatewayError("bad_request", detail)
    return WrittenRequest(address, body)


def read_answer(call: Call, transport: Transport, *, http_status: int, body: bytes) -> Answer:
    """Return what a response that came in a batch says, also if it is one of an error."""
    exchange = Exchange(http_status=http_status, body=bytearray(body))
    return replace(_read_answer(call, transport, exchange, read_key(KeySource.of(transport))), http_status=http_status)


def translate(call: Call, response: bytes) -> Answer | None:
    """Return what the kept bytes of a response say, in the format of the call's provider; None if no whole answer.

    For the answer of a process that died. Nothing is sent, and no key is needed.
    """
    if (answer := interpret(response)) is not None:
        return answer
    body = decode_body(response)
    if read_json_object(body) is None:
        return None
    try:
        outcome = _play_back(call, Transport(), None, status=200, body=body)
    except GatewayError:
        return None
    if isinstance(outcome, Exception):
        return None
    return _answer_of(outcome, body)


# The request


def build_request(call: Call, transport: Transport, *, key: str | None) -> httpx.Request:
    """Return the request that litellm makes of a call. Raises GatewayError if it makes none, or not through us."""
    outcome = _translate(call, transport, key, _Script())
    if isinstance(outcome, httpx.Request):
        return outcome
    place = f"{call.model} at {call.endpoint}" if call.endpoint else call.model
    if not isinstance(outcome, Exception):  # an answer without a request: from a cache, or made up
        raise GatewayError("bad_request", f"{place}: litellm answered by itself. Its answer is not used.")
    message = drop_key_from_text(make_encodable(str(outcome)), key)
    claimed = getattr(outcome, "status_code", None)
    _, reason = decide_status(
        error_names=_names_of(outcome), http_status=claimed if isinstance(claimed, int) else None, error_text=message
    )
    if reason in (None, "transport", "provider"):  # nothing was sent, so nothing on the way can have failed
        reason = "bad_request"
    short = " ".join(message.split())[:LONGEST_MESSAGE].rstrip(".")
    advice = ADVICE_BY_REASON[str(reason)]
    if reason == "bad_request":
        advice += " A server with an OpenAI interface is asked as openai/<name> with api_base."
    raise GatewayError(str(reason), f"{place}: no request could be made: {short}. {advice}")


def _build_arguments(call: Call, transport: Transport, *, key: str | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        name: value for name, value in call.params.items() if value is not None and name not in RENAMED_PARAMS
    }
    if (schema := call.params.get("response_schema")) is not None:
        arguments["response_format"] = response_format_of(schema)
    return arguments | {
        "model": call.model,
        "messages": _copy_messages(call),
        "api_key": key or NO_KEY,
        "api_base": transport.api_base,
        "timeout": transport.timeout_seconds,
        "num_retries": 0,
        "max_retries": 0,
    }


def _check_params(call: Call) -> None:
    extra = call.params.get("extra_body")
    hidden = set(extra) & NOT_SENT if isinstance(extra, Mapping) else set()
    if reserved := sorted(set(call.params) & (NOT_SENT | set(all_litellm_params)) | hidden):
        detail = f"{call.model}: {', '.join(reserved)} cannot be sent to a model. Remove it from the model's settings."
        raise GatewayError("bad_params", detail)


def _describe_sent(call: Call, request: httpx.Request, key: str | None) -> dict[str, Any]:
    """Return the request as it is sent, without what may hold a key: most headers, and the query of the address."""
    address = request.url.copy_with(query=None, userinfo=b"", fragment=None)
    body = read_json_object(request.content)
    if body is not None and body.get("messages") == _copy_messages(call):
        body["messages"] = AS_ASKED
    headers = {name: request.headers[name] for name in SENT_HEADERS if name in request.headers}
    sent = {"method": request.method, "address": str(address), "headers": headers, "body": body}
    clean: dict[str, Any] = drop_keys(sent, [key] if key else [])
    return clean


def _choose_headers(headers: Mapping[str, str]) -> dict[str, str]:
    chosen = {name: headers[name] for name in KEPT_HEADERS if name in headers}
    return chosen | {name: value for name, value in headers.items() if name.startswith(KEPT_HEADER_STARTS)}


def _provider_of(model: str) -> str:
    try:
        return str(litellm.get_llm_provider(model)[1])
    except Exception as error:
        detail = f"litellm knows no provider for the model {model!r}. Expected provider/name, as in openai/gpt-4o-mini."
        raise GatewayError("bad_request", detail) from error


def _copy_messages(call: Call) -> list[dict[str, str]]:
    return [dict(message) for message in call.messages]  # litellm may change what it is given


# litellm, cut off from the network


@dataclass
class _Script:
    """What our client does with litellm's request: stop it, or play back a response if there is one."""

    status: int | None = None
    body: bytes = b""
    requests: int = 0
    went_past: bool = False  # litellm tried to open a connection of its own


class _Stopped(BaseException):
    """litellm's request on its way out. Not an Exception, or litellm would make an error of its own of it."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request


_current_script: ContextVar[_Script | None] = ContextVar("_current_script", default=None)


class _ScriptedTransport(httpx.BaseTransport):
    """The end of litellm's HTTP clients."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        script = _current_script.get()
        assert script is not None, "litellm is asked through _translate only"
        script.requests += 1
        if script.status is None:
            raise _Stopped(request)
        if script.requests > 1:
            raise httpx.RequestError("A response is played back once.")
        return httpx.Response(script.status, headers={"content-type": "application/json"}, content=script.body)


def _refuse_connections(event: str, _arguments: object) -> None:
    if event in ("socket.connect", "socket.getaddrinfo") and (script := _current_script.get()) is not None:
        script.went_past = True
        raise ConnectionRefusedError("litellm may not open connections.")


@contextmanager
def _follow(script: _Script) -> Iterator[None]:
    token = _current_script.set(script)
    try:
        yield
    finally:
        _current_script.reset(token)


def _translate(call: Call, transport: Transport, key: str | None, script: _Script) -> Any:
    """Return the request that litellm makes, or its response to what is played back, or what it raised.

    Providers take one of two kinds of client; which one is found out once, and trying is free.
    """
    _check_params(call)
    provider = _provider_of(call.model)
    if provider in NOT_THROUGH_US:
        raise _past_us(call, provider)
    arguments = _build_arguments(call, transport, key=key)
    if provider == "openai" and transport.api_base is None:
        arguments["api_base"] = OPENAI_BASE
    if (kind := _kind_by_provider.get(provider)) is not None:
        return _run_litellm(arguments, kind, script)
    first: Any = None
    kinds: tuple[ClientKind, ...] = ("handler", "sdk")
    for tried in kinds:
        script.requests = 0
        outcome = _run_litellm(arguments, tried, script)
        if script.requests:
            _kind_by_provider[provider] = tried
            return outcome
        if isinstance(outcome, Exception) and set(_names_of(outcome)) & BAD_CALL_ERRORS:
            return outcome
        first = outcome if first is None else first
    if script.went_past:
        raise _past_us(call, provider)
    return first


def _run_litellm(arguments: Mapping[str, Any], kind: ClientKind, script: _Script) -> Any:
    client = _handler() if kind == "handler" else _sdk(arguments["api_key"], arguments["api_base"] or OPENAI_BASE)
    with _follow(script):
        try:
            return litellm.completion(**arguments, client=client)
        except _Stopped as stopped:
            return stopped.request
        except Exception as error:  # whatever litellm raises becomes an answer
            return error


def _play_back(call: Call, transport: Transport, key: str | None, *, status: int, body: bytes) -> Any:
    """Return litellm's response to these bytes, or the error it makes of them."""
    return _translate(call, transport, key, _Script(status=status, body=body))


def _past_us(call: Call, provider: str) -> GatewayError:
    return GatewayError(
        "bad_request",
        f"Answers of provider {provider!r} ({call.model}) cannot be kept as they arrive, so it is not asked. "
        "For a server with an OpenAI interface, use openai/<name> with api_base.",
    )


def _names_of(error: BaseException) -> list[str]:
    names = [kind.__name__ for kind in type(error).__mro__ if kind not in (object, BaseException, Exception)]
    return names or [type(error).__name__]


_kind_by_provider: dict[str, ClientKind] = {}


@functools.cache
def _scripted_client() -> httpx.Client:
    return httpx.Client(transport=_ScriptedTransport())


@functools.cache
def _handler() -> Any:
    return HTTPHandler(client=_scripted_client())


@functools.lru_cache(maxsize=32)
def _sdk(api_key: str, api_base: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=api_base, http_client=_scripted_client(), max_retries=0)


# Reading what came


def _read_answer(call: Call, transport: Transport, exchange: Exchange, key: str | None) -> Answer:
    """Return the answer from the bytes if they can be read, else why there is none."""
    body = decode_body(bytes(exchange.body))
    if exchange.http_status == 200 and (exchange.failure is None or exchange.failure.kind != "too_long"):
        answer = interpret(body)
        if answer is not None:
            return answer  # whatever else went wrong: these bytes were paid for
    if exchange.failure is not None and not exchange.is_error:
        return _fail(call, exchange, key, names=[exchange.failure.kind], message=exchange.failure.message)
    assert exchange.http_status is not None
    outcome = _play_back(call, transport, key, status=exchange.http_status, body=body)
    message = find_message(body) or _begin(body) or "an empty body"
    if isinstance(outcome, Exception):
        is_error_object = bool((read_json_object(body) or {}).get("error"))
        names = ["error_object"] if is_error_object and exchange.http_status == 200 else _names_of(outcome)
        return _fail(call, exchange, key, names=names, message=message)
    if (answer := _answer_of(outcome, body)) is not None:
        return answer
    return _fail(call, exchange, key, names=["bad_body"], message=message)


def _answer_of(response: Any, body: bytes) -> Answer | None:
    """Return the answer of a provider with a format of its own, as litellm translates it."""
    if not getattr(response, "choices", None) or read_json_object(body) is None:
        return None
    choice = response.choices[0]
    native = (getattr(choice, "provider_specific_fields", None) or {}).get("native_finish_reason")
    usage = getattr(response, "usage", None)
    return make_answer(
        text=choice.message.content or "",
        reasoning=getattr(choice.message, "reasoning_content", None),
        finish=choice.finish_reason,
        native=find_native_finish(body) or native,
        usage=usage.model_dump() if usage is not None else {},
        model_reported=response.model,
        system_fingerprint=getattr(response, "system_fingerprint", None),
    )


def _fail(call: Call, exchange: Exchange, key: str | None, *, names: list[str], message: str) -> Answer:
    _, reason = decide_status(error_names=names, http_status=exchange.http_status, error_text=message)
    assert reason is not None
    place = f"{call.model} at {call.endpoint}" if call.endpoint else call.model
    came = "no response" if exchange.http_status is None else f"HTTP {exchange.http_status}"
    # The key is dropped before the message is cut: half a key is found by nobody.
    short = " ".join(drop_key_from_text(make_encodable(message), key).split())[:LONGEST_MESSAGE]
    detail = f"{place}: {came}: {short.rstrip('.')}. {ADVICE_BY_REASON[reason]}"
    return failed_answer(GatewayError(reason, drop_key_from_text(detail, key), http_status=exchange.http_status))


def _begin(body: bytes) -> str:
    return body[: 4 * LONGEST_MESSAGE].decode(errors="replace").strip()


sys.addaudithook(_refuse_connections)
_silence_litellm()
litellm.custom_provider_map = [{"provider": embedded.PREFIX.rstrip("/"), "custom_handler": _EmbeddedProvider()}]
