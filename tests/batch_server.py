"""A provider with a batch interface, for tests: a real HTTP server with OpenAI's files and batches.

    with BatchServer() as provider:
        write_paid_config(folder, provider.api_base, cohorts={"one": 3})
        ... build --batch ...
        provider.answer_batches()
        ... build --batch ...
        assert len(provider.batches) == 1

A batch stands still until the test says what becomes of it. `before` and `after` are called with the name of each
step of a client ("upload", "create", "list", "read", "download", "chat"): before it has an effect, and after it, before
the client hears of it. There a test can end the client's process.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.provider_server import make_completion

Json = dict[str, Any]
Steps = Callable[[str], None]


def answer_line(line: Json) -> Json:
    """Return the line that an ordinary answer to a request is in the output file: its last message."""
    body = make_completion(str(line["body"]["messages"][-1]["content"]))
    response = {"status_code": 200, "request_id": f"req-{line['custom_id']}", "body": body}
    return {"id": "batch_req_1", "custom_id": line["custom_id"], "response": response, "error": None}


def do_nothing(_step: str) -> None:
    """What a client does is of no interest."""


class BatchServer:
    """Serves from its own threads while the `with` block runs. `refuse` maps a step to the HTTP status it ends with."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Json] = {}
        self.steps: Counter[str] = Counter()
        self.keys: set[str | None] = set()
        self.before: Steps = do_nothing
        self.after: Steps = do_nothing
        self.refuse: dict[str, int] = {}
        self._guard = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that are killed
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def api_base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> BatchServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # What a test sees and decides

    def list_requests(self) -> list[Json]:
        """Return the requests of all batches that were created."""
        return [line for batch in self.batches.values() for line in self.read_lines(batch)]

    def read_lines(self, batch: Json) -> list[Json]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def answer_batches(
        self, answer: Callable[[Json], Json | bytes] = answer_line, *, status: str = "completed"
    ) -> None:
        """End every batch that has not ended. What `answer` makes of a request goes into one of the two files."""
        for batch in self.batches.values():
            if batch["status"] == "in_progress":
                self._answer(batch, [answer(line) for line in self.read_lines(batch)], status)

    def end_batches(self, status: str, **fields: Any) -> None:
        """End every batch that has not ended without any answer."""
        for batch in self.batches.values():
            if batch["status"] == "in_progress":
                batch.update(fields, status=status)

    def _answer(self, batch: Json, lines: list[Json | bytes], status: str) -> None:
        files: dict[str, list[bytes]] = {"output_file_id": [], "error_file_id": []}
        for line in lines:
            is_answer = isinstance(line, bytes) or (line["response"] or {}).get("status_code") == 200
            encoded = line if isinstance(line, bytes) else json.dumps(line).encode()
            files["output_file_id" if is_answer else "error_file_id"].append(encoded)
        for name, encoded_lines in files.items():
            if encoded_lines:
                batch[name] = self._add_file(b"\n".join(encoded_lines) + b"\n")
        batch["request_counts"]["completed"] = len(files["output_file_id"])
        batch["request_counts"]["failed"] = len(files["error_file_id"])
        batch["status"] = status

    # What a client asks

    def _add_file(self, content: bytes) -> str:
        with self._guard:
            file_id = f"file-{len(self.files) + 1}"
            self.files[file_id] = content
        return file_id

    def upload(self, content_type: str, body: bytes) -> Json:
        head = f"content-type: {content_type}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.iter_parts()}
        assert parts["purpose"].get_payload(decode=True) == b"batch"
        return {"id": self._add_file(parts["file"].get_payload(decode=True)), "object": "file"}

    def create(self, body: Json) -> Json:
        assert (body["endpoint"], body["completion_window"]) == ("/v1/chat/completions", "24h")
        with self._guard:
            batch = {
                "id": f"batch-{len(self.batches) + 1}",
                "object": "batch",
                "input_file_id": body["input_file_id"],
                "metadata": body.get("metadata"),
                "status": "in_progress",
                "output_file_id": None,
                "error_file_id": None,
                "request_counts": {"total": 0, "completed": 0, "failed": 0},
            }
            self.batches[str(batch["id"])] = batch
        return batch

    def list(self, query: dict[str, list[str]]) -> Json:
        """The newest first, two a page."""
        batches = list(self.batches.values())[::-1]
        if after := query.get("after"):
            batches = batches[[batch["id"] for batch in batches].index(after[0]) + 1 :]
        return {"object": "list", "data": batches[:2], "has_more": len(batches) > 2}


def _make_handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers["content-length"])))

        def _serve(self, body: bytes) -> None:
            address = urlsplit(self.path)
            match self.command, address.path.strip("/").split("/")[1:]:
                case "POST", ["files"]:
                    self._do("upload", lambda: server.upload(self.headers["content-type"], body))
                case "POST", ["batches"]:
                    self._do("create", lambda: server.create(json.loads(body)))
                case "GET", ["batches"]:
                    self._do("list", lambda: server.list(parse_qs(address.query)))
                case "GET", ["batches", batch]:
                    self._do("read", lambda: server.batches[batch])
                case "GET", ["files", file_id, "content"]:
                    self._do("download", lambda: server.files[file_id])
                case "POST", ["chat", "completions"]:
                    content = json.loads(body)["messages"][-1]["content"]
                    self._do("chat", lambda: make_completion(content))

        def _do(self, step: str, action: Callable[[], Json | bytes]) -> None:
            server.keys.add(self.headers.get("authorization"))
            server.steps[step] += 1
            server.before(step)
            if step in server.refuse:
                self._send(server.refuse[step], b'{"error": {"message": "no"}}')
                return
            result = action()
            server.after(step)
            self._send(200, result if isinstance(result, bytes) else json.dumps(result).encode())

        def _send(self, status: int, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:  # the client has gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
