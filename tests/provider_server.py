"""A model provider on this machine, for tests: a real HTTP server with OpenAI's chat completions.

    with ProviderServer() as provider:
        provider.reply = lambda request: Reply(429, b'{"error": {"message": "slow down"}}')
        ask(call, Transport(api_base=provider.api_base), keep=chunks.append)
        assert len(provider.requests) == 1

Without a `reply` of the test's own it answers with the last message. Every request is recorded, and every reply
that was sent to its end. FAULTS has what real providers were seen to do wrong, each with what is to be made of it.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

REPORTED_MODEL = "loopback-1"


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]  # names in lowercase
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the provider sends. `missing_bytes` more are promised than come: the body is cut.

    It begins after `wait_seconds`; with `drip_seconds` the body goes byte by byte, with that pause after each.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    missing_bytes: int = 0
    wait_seconds: float = 0
    drip_seconds: float = 0


class Fault(NamedTuple):
    """Something that a provider does, and what is to be made of it."""

    make_reply: Callable[[Request], Reply]
    status: str
    reason: str | None
    again: str  # when the call is asked again: a value of retries.Again


def make_completion(text: str | None, *, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": REPORTED_MODEL,
        "system_fingerprint": "fp_1",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }


def reply_json(body: Any, *, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body).encode())


def reply_with_last_message(request: Request) -> Reply:
    return reply_json(make_completion(str(request.body["messages"][-1]["content"])))


def answer_of(request: Request) -> dict[str, Any]:
    """Return the completion that an ordinary answer would be."""
    return make_completion(str(request.body["messages"][-1]["content"]))


def _encode(request: Request, **changes: Any) -> bytes:
    return json.dumps(answer_of(request) | changes).encode()


def _refuse(status: int, message: str, **headers: str) -> Callable[[Request], Reply]:
    body = json.dumps({"error": {"message": message}}).encode()
    return lambda _: Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def _finish(text: str | None, finish: str | None, **message: Any) -> Callable[[Request], Reply]:
    return lambda _: reply_json(make_completion(text, finish=finish, **message))


TOOL = {"name": "f", "arguments": "{}"}


def _echo_key(request: Request) -> Reply:
    return _refuse(401, f"Incorrect API key: {request.headers.get('authorization', '')}")(request)


FAULTS: dict[str, Fault] = {
    "429": Fault(_refuse(429, "slow down"), "gen_error", "rate_limit", "in this run"),
    "429 with Retry-After": Fault(_refuse(429, "wait", retry_after="0"), "gen_error", "rate_limit", "in this run"),
    "429 without money": Fault(_refuse(429, "insufficient_quota"), "gen_error", "budget", "next build"),
    "400": Fault(_refuse(400, "what?"), "gen_error", "bad_request", "when named"),
    "401 with the key": Fault(_echo_key, "gen_error", "auth", "next build"),
    "402": Fault(_refuse(402, "pay"), "gen_error", "budget", "next build"),
    "500": Fault(_refuse(500, "broken"), "gen_error", "transport", "in this run"),
    "502": Fault(_refuse(502, "bad gateway"), "gen_error", "transport", "in this run"),
    "529": Fault(_refuse(529, "overloaded"), "gen_error", "transport", "in this run"),
    "cut body": Fault(
        lambda request: Reply(body=_encode(request)[:-30], missing_bytes=30), "gen_error", "cut_body", "in this run"
    ),
    "bad JSON": Fault(lambda request: Reply(body=_encode(request)[:-30]), "gen_error", "bad_body", "in this run"),
    "bad UTF-8": Fault(
        lambda request: Reply(body=_encode(request).replace(b'"content": "', b'"content": "\xff')),
        "gen_error", "bad_body", "in this run",
    ),
    "HTML": Fault(
        lambda _: Reply(body=b"<html>busy</html>", content_type="text/html"), "gen_error", "bad_body", "in this run"
    ),
    "no choices": Fault(
        lambda request: Reply(body=_encode(request, choices=[])), "gen_error", "no_choices", "in this run"
    ),
    "null content": Fault(_finish(None, "stop"), "gen_error", "empty", "in this run"),
    "blank content": Fault(_finish(" \n", "stop"), "gen_error", "empty", "in this run"),
    "tool calls": Fault(
        _finish(None, "tool_calls", tool_calls=[{"id": "1", "type": "function", "function": TOOL}]),
        "gen_error", "tool_calls", "in this run",
    ),
    "network error": Fault(_finish("Onc", "network_error"), "gen_error", "provider", "in this run"),
    "unknown finish": Fault(_finish("Onc", "tomorrow"), "gen_error", "unknown_finish", "in this run"),
    "length": Fault(_finish("Onc", "length"), "truncated", "max_tokens", "when named"),
    "content filter": Fault(_finish("Onc", "content_filter"), "gen_error", "refused", "when named"),
    "lone surrogate": Fault(_finish("a\ud800b", "stop"), "ok", None, "never"),
    "wrong usage": Fault(
        lambda request: Reply(body=_encode(request, usage={"prompt_tokens": -1, "completion_tokens": "many"})),
        "ok", None, "never",
    ),
    "other model": Fault(lambda request: Reply(body=_encode(request, model="another-model")), "ok", None, "never"),
    "slow drip": Fault(lambda request: Reply(body=_encode(request), drip_seconds=0.0005), "ok", None, "never"),
    "gzip": Fault(
        lambda request: Reply(body=gzip.compress(_encode(request)), headers={"content-encoding": "gzip"}),
        "ok", None, "never",
    ),
    "10 MB": Fault(_finish("x" * 10_000_000, "stop"), "ok", None, "never"),
}  # fmt: skip
PASSING = [name for name, fault in FAULTS.items() if fault.again == "in this run"]


class Mixture:
    """An ordinary answer after a heavy-tailed latency, and for a part of the requests one of some faults.

    Latencies are log-normal: half of them are below `median_seconds`, and one in a hundred is above `p99_seconds`.
    """

    def __init__(
        self,
        faults: Sequence[str],
        *,
        share: float,
        median_seconds: float,
        p99_seconds: float,
        seed: int,
        answer: Callable[[Request], Reply] = reply_with_last_message,
    ) -> None:
        self._faults, self._share, self._answer = faults, share, answer
        self._mean, self._spread = math.log(median_seconds), math.log(p99_seconds / median_seconds) / 2.326
        self._random, self._guard = random.Random(seed), threading.Lock()

    def __call__(self, request: Request) -> Reply:
        with self._guard:
            seconds = self._random.lognormvariate(self._mean, self._spread)
            name = self._random.choice(self._faults) if self._random.random() < self._share else None
        reply = FAULTS[name].make_reply(request) if name else self._answer(request)
        return replace(reply, wait_seconds=seconds)


class ProviderServer:
    """Serves from its own threads while the `with` block runs."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answered: list[tuple[Request, Reply]] = []
        self.connections: set[tuple[str, int]] = set()  # the clients' addresses
        self.reply: Callable[[Request], Reply] = reply_with_last_message
        self._server = _Server(("127.0.0.1", 0), _make_handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def api_base(self) -> str:
        return f"{self.root}/v1"

    def __enter__(self) -> ProviderServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # connections that may come at once

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that are killed or give up leave their connections broken."""


def _make_handler(provider: ProviderServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept open, as by real providers

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, json.loads(content))
            provider.connections.add(self.client_address)
            provider.requests.append(request)
            reply = provider.reply(request)
            time.sleep(reply.wait_seconds)
            if self._send(reply):
                provider.answered.append((request, reply))

        def _send(self, reply: Reply) -> bool:
            """Return whether all of it was sent."""
            self.close_connection = reply.missing_bytes > 0
            self.send_response(reply.status)
            self.send_header("content-type", reply.content_type)
            self.send_header("content-length", str(len(reply.body) + reply.missing_bytes))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            try:
                self.end_headers()
                for start in range(0, len(reply.body), 1 if reply.drip_seconds else len(reply.body)):
                    self.wfile.write(reply.body[start : start + 1] if reply.drip_seconds else reply.body)
                    time.sleep(reply.drip_seconds)
            except ConnectionError:  # the client has gone, as after a signal
                self.close_connection = True
                return False
            return True

        def log_message(self, *_: Any) -> None:
            """Say nothing: the test has the requests."""

    return Handler
