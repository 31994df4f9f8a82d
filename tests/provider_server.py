"""A model provider on this machine, for tests: a real HTTP server with OpenAI's chat completions.

    with ProviderServer() as provider:
        provider.reply = lambda request: Reply(429, b'{"error": {"message": "slow down"}}')
        ask(call, Transport(api_base=provider.api_base), keep=chunks.append)
        assert len(provider.requests) == 1

Without a `reply` of the test's own it answers with the last message. Every request is recorded.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

REPORTED_MODEL = "loopback-1"


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]  # names in lowercase
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the provider sends. `missing_bytes` more are promised than come: the body is cut."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    missing_bytes: int = 0


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


class ProviderServer:
    """Serves from its own threads while the `with` block runs."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.reply: Callable[[Request], Reply] = reply_with_last_message
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
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


def _make_handler(provider: ProviderServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept open, as by real providers

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, json.loads(content))
            provider.requests.append(request)
            self._send(provider.reply(request))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("content-type", reply.content_type)
            self.send_header("content-length", str(len(reply.body) + reply.missing_bytes))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            with contextlib.suppress(ConnectionError):  # the client has gone, as after a signal
                self.end_headers()
                self.wfile.write(reply.body)
            self.close_connection = reply.missing_bytes > 0

        def log_message(self, *_: Any) -> None:
            """Say nothing: the test has the requests."""

    return Handler
