"""A server of files on this machine, for tests of fetching: ranges, ETags, and what goes wrong with both.

    with FileServer({"a.zip": content}) as server:
        server.faults["a.zip"] = [Fault(cut_after=1000), Fault(status=503)]    # of its first and second request
        fetch([Wanted(server.url("a.zip"))], folder, allow_private=True)

Drive's API is under /drive: `server.drive` has {folder_id: [file, …]}.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from store.identity import hash_bytes


@dataclass(frozen=True)
class Fault:
    """What one request meets. `cut_after` bytes of the body the connection ends."""

    status: int | None = None
    cut_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    ignores_range: bool = False
    wrong_range: bool = False
    stated_length: int | None = None


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]


class FileServer:
    """`files` may change while it serves: then the ETag changes, too."""

    def __init__(self, files: dict[str, bytes], *, latency_seconds: float = 0.0, has_etags: bool = True) -> None:
        self.files = files
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.redirects: dict[str, str] = {}
        self.drive: dict[str, list[dict[str, Any]]] = {}
        self.drive_page = 2
        self.token: str | None = None
        self.latency_seconds = latency_seconds
        self.has_etags = has_etags
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url(self, name: str) -> str:
        return f"{self.address}/{quote(name)}"

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    owner: FileServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        owner, parts = self.server.owner, urlsplit(self.path)
        owner.requests.append(Request(self.path, {name.lower(): value for name, value in self.headers.items()}))
        time.sleep(owner.latency_seconds)
        name = unquote(parts.path.lstrip("/"))
        if name.startswith("drive/files"):
            return self._answer_drive(name.removeprefix("drive/files").lstrip("/"), parse_qs(parts.query))
        if name in owner.redirects:
            return self._send(302, {"location": owner.redirects[name]}, b"")
        fault = owner.faults[name].pop(0) if owner.faults[name] else Fault()
        if fault.status is not None:
            return self._send(fault.status, fault.headers, b"no")
        if name not in owner.files:
            return self._send(404, {}, b"nothing here")
        return self._send_file(owner.files[name], fault)

    def _answer_drive(self, file_id: str, query: dict[str, list[str]]) -> None:
        owner = self.server.owner
        if owner.token and self.headers.get("authorization") != f"Bearer {owner.token}":
            return self._send(401, {}, b"{}")
        if file_id:
            return self._send_file(owner.files[file_id], Fault())
        fault = owner.faults["drive"].pop(0) if owner.faults["drive"] else Fault()
        if fault.status is not None:
            return self._send(fault.status, fault.headers, b"{}")
        folder = re.match(r"'(.*)' in parents", query["q"][0])
        files = owner.drive[folder[1]] if folder else []
        start = int(query.get("pageToken", ["0"])[0])
        page: dict[str, Any] = {"files": files[start : start + owner.drive_page]}
        if start + owner.drive_page < len(files):
            page["nextPageToken"] = str(start + owner.drive_page)
        return self._send(200, {"content-type": "application/json"}, json.dumps(page).encode())

    def _send_file(self, content: bytes, fault: Fault) -> None:
        etag = f'"{hash_bytes(content)[:12]}"'
        headers = {"etag": etag} if self.server.owner.has_etags else {}
        if self.headers.get("if-none-match") == etag:
            return self._send(304, headers, b"")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        is_same = self.headers.get("if-range", etag) == etag
        status, body = 200, content
        if asked and is_same and not fault.ignores_range:
            first = int(asked[1])
            if first >= len(content):
                return self._send(416, {"content-range": f"bytes */{len(content)}"}, b"")
            first = 0 if fault.wrong_range else first
            status, body = 206, content[first:]
            headers["content-range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return self._send(status, {**headers, **fault.headers}, body, fault)

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault = Fault()) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(fault.stated_length or len(body)))
        self.end_headers()
        self.wfile.write(body if fault.cut_after is None else body[: fault.cut_after])
        if fault.cut_after is not None:
            self.wfile.flush()
            self.close_connection = True
