"""What goes to a model and what comes back: Call, Transport, Answer, and the one reading of an answer.

Pure: knows nothing of files, of HTTP or of any provider's library.

    response bytes -> interpret -> decide_status -> Answer

docs/statuses.md has the table of decide_status; a test holds the two to each other.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from pipeline.errors import GatewayError
from store.identity import hash_bytes

AS_ASKED = "as asked"  # in the record of the body sent, for messages that litellm left as they were
Json = dict[str, Any] | list[Any] | str | int | float | bool | None
AnswerStatus = Literal["ok", "truncated", "gen_error"]


@dataclass(frozen=True)
class Call:
    """One request to a model, complete: two calls with equal fields are the same call.

    `params` holds every sampling parameter as it is sent; a seed in it is already shifted by the replicate.
    """

    messages: tuple[dict[str, str], ...]
    model: str
    endpoint: str | None
    params: Mapping[str, Json]
    replicate: int

    def as_inputs(self) -> dict[str, Any]:
        """Return the five fields as plain JSON, as request.json holds them."""
        return {
            "messages": [dict(message) for message in self.messages],
            "model": self.model,
            "endpoint": self.endpoint,
            "params": dict(self.params),
            "replicate": self.replicate,
        }

    def as_identity(self) -> dict[str, Any]:
        """Return what call_id hashes: the five fields, each message's text by the hash of its bytes.

        Two prompts that differ in Unicode form only are two calls: a model may tell them apart.
        """
        messages = [
            {**message, "content": hash_bytes(message["content"].encode(errors="surrogatepass"))}
            for message in self.messages
        ]
        return {**self.as_inputs(), "messages": messages}


@dataclass(frozen=True)
class Transport:
    """How a model is reached. Nothing here is part of an identity: none of it may change what is written.

    The key is in an environment variable or in a file; see keys.
    `context_tokens`, `threads` and `slots` are for models that run inside this process: the longest prompt and
    answer together, the CPU threads (0 = half of the cores), and how many calls they answer at a time.

    `timeout_seconds` bounds one attempt, `deadline_seconds` all attempts of a call with the waits between them.
    `retries` is how often a call is tried again, `backoff_seconds` the longest first wait; each later one doubles.
    """

    api_base: str | None = None
    api_key_env: str | None = None
    timeout_seconds: float = 600
    context_tokens: int = 8192
    threads: int = 0
    slots: int = 1
    connect_seconds: float = 10
    deadline_seconds: float = 3600
    retries: int = 4
    backoff_seconds: float = 1
    api_key_file: str | None = None


@dataclass(frozen=True)
class WrittenRequest:
    """A call as its provider takes it: the JSON body of a chat completion at an address, "https://host/v1"."""

    address: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What became of one request. `reason` is a short fixed code, `detail` a sentence for people.

    Model names, tokens, cost and finish reasons are as the provider reported them; None where it was silent. `sent` is
    the request as it went out, None if nothing did; `response_headers` are those that tell of limits and request ids.
    `prompt_tokens` has `cached_tokens` in it, those that the provider had read before. `dropped_keys` counts the places
    of the response in which a mark stands for the key.
    """

    status: AnswerStatus
    reason: str | None = None
    detail: str | None = None
    text: str = ""
    reasoning: str | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    model_reported: str | None = None
    system_fingerprint: str | None = None
    http_status: int | None = None
    sent: Mapping[str, Any] | None = None
    response_headers: Mapping[str, str] | None = None
    cached_tokens: int | None = None
    reported_usd: float | None = None
    dropped_keys: int = 0

    def change_texts(self, change: Callable[[str], str]) -> Answer:
        """Return the answer with every text of it changed."""
        texts = {name: change(value) for name, value in vars(self).items() if isinstance(value, str)}
        return replace(self, **texts)  # type: ignore[arg-type]  # a status stays one: it holds no key


class Verdict(NamedTuple):
    status: AnswerStatus
    reason: str | None


OK = Verdict("ok", None)

# How providers say why a model stopped. What is in none of these is an error and never ok.
FINISHED = frozenset(
    {"stop", "STOP", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "COMPLETE", "completed"}
)
AT_TOKEN_LIMIT = frozenset(
    {"length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
REFUSED = frozenset(
    {"content_filter", "refusal", "sensitive", "safety", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT",
     "SPII", "LANGUAGE", "IMAGE_SAFETY", "ERROR_TOXIC"}
)  # fmt: skip
FAILED = frozenset(
    {"error", "network_error", "ERROR", "abort", "cancelled", "MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL", "OTHER"}
)
CALLED_TOOLS = frozenset({"tool_calls", "tool_use", "TOOL_CALL", "function_call", "UNEXPECTED_TOOL_CALL"})

# By the names of an exception's classes. Looked at in this order: the first are subclasses of BadRequestError.
REASON_BY_ERROR_NAME = {
    "PaymentRequiredError": "budget",
    "UnsupportedParamsError": "bad_params",
    "ContextWindowExceededError": "context_overflow",
    "ContentPolicyViolationError": "refused",
    "BudgetExceededError": "budget",
    # What became of the exchange itself; see wire.Failure.
    "timeout": "transport",
    "key_in_prompt": "key_in_prompt",  # found before anything was sent
    "unreached": "no_connection",
    "connection": "transport",
    "cut": "cut_body",
    "too_long": "bad_body",
    "bad_body": "bad_body",
    "error_object": "provider",  # a status of 200 around an error
}
REASON_BY_HTTP_STATUS = {401: "auth", 402: "budget", 403: "auth", 408: "transport", 425: "transport", 429: "rate_limit"}
# Where there was no HTTP status.
REASON_BY_FALLBACK_NAME = {
    "Timeout": "transport",
    "RateLimitError": "rate_limit",
    "AuthenticationError": "auth",
    "PermissionDeniedError": "auth",
    "BadRequestError": "bad_request",
    "NotFoundError": "bad_request",
    "UnprocessableEntityError": "bad_request",
    "APIConnectionError": "transport",
    "InternalServerError": "transport",
    "ServiceUnavailableError": "transport",
}
NO_MONEY_WORDS = ("insufficient_quota", "billing", "credit balance")  # a 429 or 400 that waiting does not cure

DETAILS = {
    "max_tokens": "The answer stopped at the token limit. Raise max_tokens in the model's settings, or ask for less.",
    "reasoning_only": "The model only reasoned and wrote no answer. Raise max_tokens in the model's settings.",
    "refused": "The model or its provider's filter refused to answer.",
    "empty": "The model gave an empty answer. Ask again, or look at the prompt.",
    "no_choices": "The response is whole and holds no answer: its list of choices is empty. Ask again.",
    "provider": "The provider says that the answer is not finished: finish reason {stopped!r}. Ask again later.",
    "unknown_finish": "The finish reason is {stopped!r}, which says nothing about the answer. Ask again.",
    "tool_calls": "The model called a tool instead of answering: finish reason {stopped!r}. Ask again.",
}


def decide_status(
    *,
    error_names: Sequence[str] = (),
    http_status: int | None = None,
    error_text: str = "",
    has_choice: bool = True,
    finish: str | None = None,
    native: str | None = None,
    text: str | None = None,
    reasoning: str | None = None,
) -> Verdict:
    """Return the status of an answer and why.

    `error_names` are the class names of the exception, most special first; () if there was none. `native` is the
    provider's own finish reason where it is known, `finish` the one translated for us; the native one decides.
    """
    if error_names or (http_status is not None and http_status >= 300):  # a redirect is not followed
        return Verdict("gen_error", _decide_error(error_names, http_status, error_text))
    if not has_choice:
        return Verdict("gen_error", "no_choices")
    return _decide_finish(native or finish, is_blank=not (text or "").strip(), has_reasoning=bool(reasoning))


def _decide_error(names: Sequence[str], http_status: int | None, error_text: str) -> str:
    is_out_of_money = any(word in error_text.lower() for word in NO_MONEY_WORDS)
    if is_out_of_money and http_status in (400, 429):
        return "budget"
    for name, reason in REASON_BY_ERROR_NAME.items():
        if name in names:
            return reason
    if http_status is None or "Timeout" in names:
        return next((reason for name, reason in REASON_BY_FALLBACK_NAME.items() if name in names), "provider")
    if http_status in REASON_BY_HTTP_STATUS:
        return REASON_BY_HTTP_STATUS[http_status]
    if http_status >= 500:
        return "transport"
    return "bad_request" if http_status >= 300 else "bad_body"


def _decide_finish(stopped: str | None, *, is_blank: bool, has_reasoning: bool) -> Verdict:
    if stopped in REFUSED:
        return Verdict("gen_error", "refused")
    if stopped in FAILED:
        return Verdict("gen_error", "provider")
    if stopped in CALLED_TOOLS:
        return Verdict("gen_error", "tool_calls")
    if stopped not in FINISHED and stopped not in AT_TOKEN_LIMIT:
        return Verdict("gen_error", "unknown_finish")
    if is_blank and has_reasoning:
        return Verdict("truncated", "reasoning_only")
    if stopped in AT_TOKEN_LIMIT:
        return Verdict("truncated", "max_tokens")
    return Verdict("gen_error", "empty") if is_blank else OK


def failed_answer(error: GatewayError) -> Answer:
    """Return the answer that says why there is none."""
    return Answer("gen_error", error.reason, error.detail, http_status=error.http_status)


def interpret(response: bytes) -> Answer | None:
    """Return what a chat completion says; None if the bytes are not a whole one.

    Source: the body of OpenAI's /v1/chat/completions, as of October 2026, which most providers and the models
    inside this process give too. It may be compressed. Only the first choice is read. Lone surrogates become U+FFFD,
    since a text with one cannot be written as UTF-8; the bytes keep them.
    """
    body = read_json_object(decode_body(response))
    choices = body.get("choices") if body is not None else None
    if body is None or not isinstance(choices, list):
        return None
    if not choices:
        return None if body.get("error") else _answer_from(body, choice={}, has_choice=False)
    choice = choices[0]
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return None
    return _answer_from(body, choice=choice, has_choice=True)


GZIP_START = b"\x1f\x8b"
LONGEST_DECODED = 2**26  # bytes


def decode_body(content: bytes) -> bytes:
    """Return the bytes of a body that a server compressed with gzip although it was asked not to.

    Told by their first bytes, so that it needs no headers. What is not gzip, cut or too long stays as it is: then it
    is no JSON, and so no answer.
    """
    if not content.startswith(GZIP_START):
        return content
    decoder = zlib.decompressobj(wbits=31)  # 31: with gzip's header and checksum
    try:
        decoded = decoder.decompress(content, LONGEST_DECODED)
    except zlib.error:
        return content
    return decoded if decoder.eof else content


def find_native_finish(content: bytes) -> str | None:
    """Return why the model stopped in the provider's own word, from a body in another format than OpenAI's.

    Source: bodies of Anthropic (stop_reason), Gemini (finishReason, blockReason of the prompt), Ollama (done_reason)
    and Cohere (finish_reason), as of October 2026.
    """
    body = read_json_object(content) or {}
    feedback, candidates = body.get("promptFeedback"), body.get("candidates")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        return "SAFETY"
    if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
        return _text_or_none(candidates[0].get("finishReason"))
    words = (_text_or_none(body.get(name)) for name in ("stop_reason", "done_reason", "finish_reason"))
    return next((word for word in words if word), None)


def read_json_object(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object that UTF-8 bytes hold; None if they do not."""
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return value if isinstance(value, dict) else None


def find_message(body: bytes) -> str | None:
    """Return the message of an error body: {"error": {"message": …}}, {"error": …} or {"message": …}."""
    found = read_json_object(body) or {}
    error = found.get("error", found)
    message = error.get("message") if isinstance(error, Mapping) else error
    extra = f" ({error['code']})" if isinstance(error, Mapping) and isinstance(error.get("code"), str) else ""
    return message + extra if isinstance(message, str) and message else None


def _answer_from(body: dict[str, Any], *, choice: dict[str, Any], has_choice: bool) -> Answer:
    message = choice.get("message", {})
    text = _text_of(message.get("content"))
    is_refusal = bool(message.get("refusal")) and not text.strip()
    finish = "refusal" if is_refusal else _text_or_none(choice.get("finish_reason"))
    native = "error" if choice.get("error") else _text_or_none(choice.get("native_finish_reason"))
    usage = body.get("usage")
    return make_answer(
        text=text,
        reasoning=_text_or_none(message.get("reasoning_content")) or _text_or_none(message.get("reasoning")),
        finish=finish,
        native=native,
        usage=usage if isinstance(usage, dict) else {},
        model_reported=_text_or_none(body.get("model")),
        system_fingerprint=_text_or_none(body.get("system_fingerprint")),
        has_choice=has_choice,
    )


def make_answer(
    *,
    text: str,
    reasoning: str | None,
    finish: str | None,
    native: str | None,
    usage: Mapping[str, Any],
    model_reported: str | None,
    system_fingerprint: str | None,
    has_choice: bool = True,
) -> Answer:
    """Return the answer that these parts make, with the status that follows from them."""
    status, reason = decide_status(has_choice=has_choice, finish=finish, native=native, text=text, reasoning=reasoning)
    return Answer(
        status,
        reason,
        None if reason is None else DETAILS[reason].format(stopped=native or finish),
        make_encodable(text),
        None if reasoning is None else make_encodable(reasoning),
        finish,
        native,
        _count_or_none(usage.get("prompt_tokens")),
        _count_or_none(usage.get("completion_tokens")),
        _count_or_none(usage.get("total_tokens")),
        model_reported,
        system_fingerprint,
        cached_tokens=_count_or_none((usage.get("prompt_tokens_details") or {}).get("cached_tokens")),
        reported_usd=_dollars_or_none(usage.get("cost")),
    )


def _text_of(content: Any) -> str:
    """Return the text of a message's content, which some providers give as a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _text_or_none(value: Any) -> str | None:
    return make_encodable(value) if isinstance(value, str) and value else None


def _count_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _dollars_or_none(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < math.inf else None


def make_encodable(text: str) -> str:
    """Return the text with lone surrogates replaced by U+FFFD; pairs of them become their character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def order_schema(schema: Json) -> Any:
    """Return a JSON schema whose key order follows from its content alone.

    Properties come in the order of `required`, then by name; all else by name. A model writes the properties in
    the order of the schema, and a call's identity sorts keys: without one fixed order, two calls with the same
    identity could be asked differently. To have the reason before the score, write required = ["reason", "score"].
    """
    if isinstance(schema, list):
        return [order_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    ordered = {key: order_schema(schema[key]) for key in sorted(schema)}
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict):
        names = [name for name in required if name in properties] if isinstance(required, list) else []
        names += sorted(set(properties) - set(names))
        ordered["properties"] = {name: order_schema(properties[name]) for name in names}
    return ordered


def response_format_of(schema: Json) -> dict[str, Any]:
    """Return the request's `response_format` that makes a model answer in JSON of that schema."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": order_schema(schema)},
    }
