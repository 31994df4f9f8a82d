"""The one module that knows litellm: one request per call, its answer's bytes kept at the wire.

    complete -> local/...:  litellm -> our provider -> embedded.generate
             -> others:     litellm -> our HTTP client -> CapturingTransport -> the network

litellm does much that a reproducible pipeline must not have: it fetches prices at import, reads .env files, sends a
request up to three times, drops parameters, and turns a broken body into "server error", so that the paid answer
would be thrown away and bought again. Hence:

- The environment is set before the import, the attributes right after it.
- Retries are off, and the transport refuses a second request of one call whatever litellm's reasons are.
- The bytes go to `keep` as they arrive. An OpenAI-like body is read by answers.interpret, as it will be if the
  process dies here and the bytes are all that is left; other bodies are read as litellm translates them.
- A provider whose requests do not pass the transport is refused before anything is sent.

Importing this module costs about four seconds of CPU and opens no connection.
"""

from __future__ import annotations

import base64
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from pipeline import embedded
from pipeline.answers import (
    Answer,
    Call,
    Transport,
    decide_status,
    failed_answer,
    interpret,
    make_answer,
    make_encodable,
    read_json_object,
    response_format_of,
)
from pipeline.errors import GatewayError

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else prices are fetched at import, and again in mid-run
os.environ["LITELLM_MODE"] = "PRODUCTION"  # else a .env file in any folder above is read
os.environ["LITELLM_LOG"] = "ERROR"

import httpx
import litellm
import openai
from litellm.llms.custom_httpx.http_handler import HTTPHandler
from litellm.llms.custom_llm import CustomLLM
from litellm.types.utils import all_litellm_params

OPENAI_BASE = "https://api.openai.com/v1"  # said outright, since the SDK would take it from the environment
NO_KEY = "no-key"  # sent where no key is configured, or litellm would look for one in the environment

# Providers whose requests were seen to pass our client, by the kind of client they take. For a model of ollama_chat
# litellm also asks /api/show once, past our client; that generates nothing.
OPENAI_PROVIDERS = frozenset({"openai"})
HANDLER_PROVIDERS = frozenset(
    {"anthropic", "openrouter", "deepseek", "mistral", "together_ai", "xai", "groq", "gemini", "ollama_chat"}
)

RENAMED_PARAMS = frozenset({"response_schema"})
# Parameters of litellm itself that are not in its own list, or that would make of one answer several or a stream.
NOT_SENT = frozenset({"model", "messages", "n", "stream", "stream_options", "timeout", "base_url", "extra_headers"})

MAX_RESPONSE_BYTES = 64 * 2**20  # a hundred times the longest answer any model gives; bounds memory and disk
LONGEST_MESSAGE = 400  # characters of a provider's error message that a detail repeats
SHORTEST_SECRET = 8  # characters; replacing shorter "keys", as local servers take, would garble every text

ADVICE_BY_REASON = {
    "rate_limit": "Run again later, or ask fewer at a time.",
    "budget": "The account has no money or quota left. Nothing more should be asked of it.",
    "transport": "Whether the request was answered and paid is not known. Run again later.",
    "auth": "Check the key in the variable that api_key_env names.",
    "bad_request": "Check the model's name and parameters in its settings.",
    "bad_params": "Remove the parameter from the model's settings.",
    "context_overflow": "Shorten the prompt or lower max_tokens.",
    "refused": "The provider's filter refused the prompt.",
    "bad_body": "The bytes are kept; they are no answer that can be read.",
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
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its errors repeat bodies, and those repeat keys


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
    key = _read_key(call, transport)
    arguments = _build_arguments(call, transport, key=key)
    capture = Capture(keep, secret=key, timeout_seconds=transport.timeout_seconds)
    token = _current_capture.set(capture)
    response, error = None, None
    try:
        response = litellm.completion(**arguments)
    except Exception as raised:  # whatever litellm raises becomes an answer
        error = raised
    finally:
        _current_capture.reset(token)
        capture.close()
    if capture.keep_error is not None:
        raise capture.keep_error
    return _read_answer(call, capture, response=response, error=error)


def _read_key(call: Call, transport: Transport) -> str | None:
    if transport.api_key_env is None:
        return None
    key = os.environ.get(transport.api_key_env, "").strip()
    if not key:
        detail = f"{call.model} needs a key in the environment variable {transport.api_key_env}, which is not set."
        raise GatewayError("auth", detail)
    return key


def _build_arguments(call: Call, transport: Transport, *, key: str | None) -> dict[str, Any]:
    _check_params(call)
    api_key = key or NO_KEY
    arguments: dict[str, Any] = {
        name: value for name, value in call.params.items() if value is not None and name not in RENAMED_PARAMS
    }
    if (schema := call.params.get("response_schema")) is not None:
        arguments["response_format"] = response_format_of(schema)
    return arguments | {
        "model": call.model,
        "messages": _copy_messages(call),
        "api_key": api_key,
        "api_base": transport.api_base,
        "timeout": transport.timeout_seconds,
        "num_retries": 0,
        "max_retries": 0,
        "client": _choose_client(call, api_key=api_key, api_base=transport.api_base),
    }


def _check_params(call: Call) -> None:
    if reserved := sorted(set(call.params) & (NOT_SENT | set(all_litellm_params))):
        detail = f"{call.model}: {', '.join(reserved)} cannot be sent to a model. Remove it from the model's settings."
        raise GatewayError("bad_params", detail)


def _choose_client(call: Call, *, api_key: str, api_base: str | None) -> Any:
    """Return the client that makes the provider's requests pass our transport."""
    provider = _provider_of(call.model)
    if provider in OPENAI_PROVIDERS:
        return _openai_client(api_key, api_base or OPENAI_BASE)
    if provider in HANDLER_PROVIDERS:
        return _handler()
    known = ", ".join(sorted(OPENAI_PROVIDERS | HANDLER_PROVIDERS))
    raise GatewayError(
        "bad_request",
        f"Answers of provider {provider!r} ({call.model}) cannot be kept as they arrive, so it is not asked. "
        f"Known: {known}. For a server with an OpenAI interface, use openai/<name> with api_base.",
    )


def _provider_of(model: str) -> str:
    try:
        return str(litellm.get_llm_provider(model)[1])
    except Exception as error:
        detail = f"litellm knows no provider for the model {model!r}. Expected provider/name, as in openai/gpt-4o-mini."
        raise GatewayError("bad_request", detail) from error


def _copy_messages(call: Call) -> list[dict[str, str]]:
    return [dict(message) for message in call.messages]  # litellm may change what it is given


@functools.cache
def _http_client() -> httpx.Client:
    return httpx.Client(transport=CapturingTransport(httpx.HTTPTransport(limits=httpx.Limits(max_connections=None))))


@functools.cache
def _handler() -> Any:
    return HTTPHandler(client=_http_client())


@functools.lru_cache(maxsize=32)
def _openai_client(api_key: str, api_base: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=api_key, base_url=api_base, http_client=_http_client(), max_retries=0)


def _forget_clients_of_parent() -> None:
    """Begin anew in a forked child: parent and child would read from the same connections."""
    for cached in (_http_client, _handler, _openai_client):
        cached.cache_clear()


# Capture at the wire


class Capture:
    """What came over the wire for one call."""

    def __init__(self, keep: Callable[[bytes], None], *, secret: str | None, timeout_seconds: float) -> None:
        self.secret = secret
        self.deadline = time.monotonic() + timeout_seconds
        self.requests = 0
        self.http_status: int | None = None
        self.body = bytearray()
        self.failure: GatewayError | None = None
        self.keep_error: BaseException | None = None
        self._keep = keep

    def begin(self) -> None:
        """Count a request. Raises httpx.RequestError for a second one: every request may be paid."""
        if self.requests:
            raise httpx.RequestError("A call sends one request only.")
        self.requests += 1

    def take(self, chunk: bytes) -> None:
        """Keep bytes of the response. Raises httpx.ReadTimeout after the deadline, however steadily they drip."""
        self.body += chunk
        if not self._is_error:
            self._hand_on(chunk)
        if time.monotonic() > self.deadline:
            raise httpx.ReadTimeout("The whole answer took longer than timeout_seconds.")
        if len(self.body) > MAX_RESPONSE_BYTES:
            self.failure = GatewayError(
                "bad_body", f"The response has more than {MAX_RESPONSE_BYTES} bytes. Its first part is kept."
            )
            raise httpx.ReadError("The response is too long.")

    def close(self) -> None:
        """Keep the body of an error, without the key that some providers repeat in it.

        Only now, since the key could lie across two chunks; nobody paid for these bytes.
        """
        if self._is_error and self.body and self.keep_error is None:
            self._hand_on(_redact(bytes(self.body), self.secret))

    @property
    def _is_error(self) -> bool:
        return self.http_status is not None and self.http_status >= 400

    def _hand_on(self, content: bytes) -> None:
        try:
            self._keep(content)
        except BaseException as error:
            self.keep_error = error  # a full disk is not the provider's error, which litellm would make of it
            raise


_current_capture: ContextVar[Capture] = ContextVar("_current_capture")


class CapturingTransport(httpx.BaseTransport):
    """An HTTP transport that hands each response to the capture of the call it belongs to."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        capture = _current_capture.get()
        capture.begin()
        request.headers["accept-encoding"] = "identity"  # or the bytes kept would be gzip
        response = self._inner.handle_request(request)
        capture.http_status = response.status_code
        assert isinstance(response.stream, httpx.SyncByteStream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_CapturedStream(response.stream, capture),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._inner.close()


class _CapturedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, capture: Capture) -> None:
        self._stream, self._capture = stream, capture

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._capture.take(chunk)
            yield chunk

    def close(self) -> None:
        self._stream.close()


# Reading what came


def _read_answer(call: Call, capture: Capture, *, response: Any, error: Exception | None) -> Answer:
    """Return the answer from the bytes if they can be read, else from litellm's response or error."""
    body = bytes(capture.body)
    if capture.failure is not None:
        return _fail(capture, capture.failure)
    if capture.http_status == 200 and (answer := interpret(body)) is not None:
        return replace(answer, http_status=200)  # whatever litellm made of it: these bytes were paid for
    if error is not None:
        return _fail(capture, _translate_error(call, capture, error))
    if not body:
        detail = f"{call.model} answered past our HTTP client: its bytes could not be kept, so none of it is used."
        return _fail(capture, GatewayError("bad_body", detail))
    return _translate_response(call, capture, response)


def _translate_error(call: Call, capture: Capture, error: Exception) -> GatewayError:
    message = _find_message(bytes(capture.body)) or str(error)
    names = [kind.__name__ for kind in type(error).__mro__ if kind not in (object, BaseException, Exception)]
    http_status = capture.http_status
    claimed = http_status if http_status is not None else getattr(error, "status_code", None)
    _, reason = decide_status(
        error_names=names or [type(error).__name__],
        http_status=claimed if isinstance(claimed, int) else None,
        error_text=message,
    )
    assert reason is not None
    if reason == "bad_body" and (read_json_object(bytes(capture.body)) or {}).get("error"):
        reason = "provider"  # a status of 200 around an error
    return GatewayError(reason, _describe_failure(call, capture, reason, message), http_status=http_status)


def _translate_response(call: Call, capture: Capture, response: Any) -> Answer:
    """Return the answer of a provider with a format of its own, as litellm translates it."""
    if not getattr(response, "choices", None) or read_json_object(bytes(capture.body)) is None:
        detail = _describe_failure(call, capture, "bad_body", "The response is no chat completion.")
        return _fail(capture, GatewayError("bad_body", detail))
    choice = response.choices[0]
    message = choice.message
    native = (getattr(choice, "provider_specific_fields", None) or {}).get("native_finish_reason")
    usage = getattr(response, "usage", None)
    answer = make_answer(
        text=message.content or "",
        reasoning=getattr(message, "reasoning_content", None),
        finish=choice.finish_reason,
        native=native,
        usage=usage.model_dump() if usage is not None else {},
        model_reported=response.model,
        system_fingerprint=getattr(response, "system_fingerprint", None),
    )
    return replace(answer, http_status=capture.http_status)


def _fail(capture: Capture, error: GatewayError) -> Answer:
    answer = failed_answer(error)
    detail = _redact((answer.detail or "").encode(errors="replace"), capture.secret).decode(errors="replace")
    return replace(answer, detail=detail, http_status=capture.http_status)


def _describe_failure(call: Call, capture: Capture, reason: str, message: str) -> str:
    place = f"{call.model} at {call.endpoint}" if call.endpoint else call.model
    came = "no response" if capture.http_status is None else f"HTTP {capture.http_status}"
    # Redacted before it is cut: half a key is found by nobody.
    clean = _redact(make_encodable(message).encode(), capture.secret).decode(errors="replace")
    short = " ".join(clean.split())[:LONGEST_MESSAGE]
    return f"{place}: {came}: {short.rstrip('.')}. {ADVICE_BY_REASON[reason]}"


def _find_message(body: bytes) -> str | None:
    """Return the message of an error body: {"error": {"message": …}}, {"error": …} or {"message": …}."""
    found = read_json_object(body) or {}
    error = found.get("error", found)
    message = error.get("message") if isinstance(error, Mapping) else error
    extra = f" ({error['code']})" if isinstance(error, Mapping) and isinstance(error.get("code"), str) else ""
    return message + extra if isinstance(message, str) and message else None


def _redact(content: bytes, secret: str | None) -> bytes:
    """Return the bytes without the key, also where it stands URL-encoded or in base64."""
    if secret is None or len(secret) < SHORTEST_SECRET:
        return content
    plain = secret.encode()
    forms = {plain, quote(secret, safe="").encode(), base64.b64encode(plain), base64.urlsafe_b64encode(plain)}
    for form in sorted(forms, key=len, reverse=True):
        content = content.replace(form, b"<key>")
    return content


os.register_at_fork(after_in_child=_forget_clients_of_parent)
_silence_litellm()
litellm.custom_provider_map = [{"provider": embedded.PREFIX.rstrip("/"), "custom_handler": _EmbeddedProvider()}]
