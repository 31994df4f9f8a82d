"""The central scheduler as a server: Luigi's own, dashboard included, behind a guard.

    serve
        load the state           one that cannot be read is set aside
        listen                   on loopback, or where it was told twice
        save, prune              now and then, until a signal comes; the state is saved once more

There is no password, so whoever reaches the port may control the runs. The guard keeps out what a browser
brings along from other pages:

    Host        an address or a name that was chosen here: another name that leads here is an attack (DNS rebinding)
    Origin      none (a worker), or this server
    Sec-Fetch   not from another site
    GET /api    only the dashboard's own, which has a header that no other page can send without being asked

Answers allow no other origin to read them, and no page to frame them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import luigi.server
import tornado.httpserver
import tornado.httputil
import tornado.ioloop
import tornado.netutil
import tornado.web

from pipeline.central_scheduler import CentralScheduler
from pipeline.document_page import Page, find_link, find_page
from pipeline.errors import InputInvalid, PipelineError
from pipeline.scheduler_client import GENERATION_HEADER
from pipeline.settings import Roots
from store.data_root import DataRoot

SHORTEST_SAVE_SECONDS = 10.0  # between two saves of the state
SAVE_SHARE = 0.02  # of the time at most, however many tasks there are
LOOK_SECONDS = 1.0  # how often it is looked whether a save is due
PRUNE_SECONDS = 60.0
STATE_FILE = ".scheduler-state.pickle"
NO_OTHER_ORIGINS = SimpleNamespace(enabled=False)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PortNotFree(PipelineError):
    """The scheduler cannot listen where it was told to."""


@dataclass(frozen=True)
class Address:
    """Where the server listens. `names` are what it may be called by, besides any numeric address."""

    host: str
    port: int
    names: frozenset[str]

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"


def choose_address(host: str, port: int, *, allow_remote: bool) -> Address:
    """Return where to listen. Raises InputInvalid for a host beyond this machine unless `allow_remote` says so too."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise InputInvalid(f"--host {host!r} is no address of this machine: {error}. Expected 127.0.0.1.") from error
    names = {"localhost", host.lower()}
    if not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found):
        if not allow_remote:
            raise InputInvalid(
                f"--host {host} can be reached from other machines, and there is no password: whoever reaches the "
                "port can stop and change runs. Expected 127.0.0.1. If that is what you want, add --allow-remote."
            )
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return Address(host, port, frozenset(names))


# Guard


def find_problem(request: tornado.httputil.HTTPServerRequest, names: frozenset[str]) -> str | None:
    """Return why a request is refused; None if it is not."""
    headers = request.headers
    host = headers.get("Host", "")
    if not _is_known(urlsplit(f"//{host}").hostname, names):
        return f"This server does not go by the name {host!r}."
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "Requests from pages of other origins are refused."
    if not request.path.startswith("/api/"):
        return None
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "Requests from pages of other sites are refused."
    if request.method != "POST" and headers.get("X-Requested-With") != "XMLHttpRequest":
        return "Expected POST, as workers send it, or GET with the header X-Requested-With: XMLHttpRequest."
    return None


def _is_known(name: str | None, names: frozenset[str]) -> bool:
    if name is None:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True  # rebinding needs a name


class Guard(tornado.httputil.HTTPServerConnectionDelegate):
    """Passes requests on to an application, or refuses them."""

    def __init__(self, application: tornado.web.Application, names: frozenset[str]) -> None:
        self._application, self._names = application, names

    def start_request(self, server_conn: object, request_conn: Any) -> Any:  # noqa: ARG002  Tornado's signature
        return GuardedRequest(self._application, self._names, request_conn)


class GuardedRequest(tornado.httputil.HTTPMessageDelegate):
    """One request: it is judged when its headers are there, before its body."""

    def __init__(self, application: tornado.web.Application, names: frozenset[str], connection: Any) -> None:
        self._application, self._names, self._connection = application, names, connection
        self._delegate: Any = None

    def headers_received(self, start_line: Any, headers: tornado.httputil.HTTPHeaders) -> Any:
        request = tornado.httputil.HTTPServerRequest(
            connection=self._connection, start_line=start_line, headers=headers
        )
        problem = find_problem(request, self._names)
        if problem is None:
            self._delegate = self._application.find_handler(request)
        else:
            self._delegate = self._application.get_handler_delegate(request, Refusal, {"problem": problem})
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        if self._delegate is not None:
            self._delegate.on_connection_close()


class Refusal(tornado.web.RequestHandler):
    """Answers 403 with the reason."""

    def initialize(self, problem: str) -> None:
        self._problem = problem

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(self._problem + "\n")


class CallHandler(luigi.server.RPCHandler):  # type: ignore[misc]
    """Luigi's handler of a worker's call. No other origin is ever allowed, whatever luigi.cfg says.

    Luigi reads the settings of that anew for each call, which takes longer than the call.
    """

    def __init__(self, *arguments: Any, **facts: Any) -> None:
        tornado.web.RequestHandler.__init__(self, *arguments, **facts)
        self._cors_config = NO_OTHER_ORIGINS


# Pages


class DocumentHandler(tornado.web.RequestHandler):
    """Shows a document of the store, read in a thread: the one thread of the server is for the workers."""

    def initialize(self, data: DataRoot) -> None:
        self._data = data

    async def get(self, stage: str, doc_id: str, file_name: str | None = None) -> None:
        page: Page = await asyncio.to_thread(find_page, self._data, stage, doc_id, file_name)
        self.set_status(page.http_status)
        for name, value in page.headers.items():
            self.set_header(name, value)
        self.finish(page.content)


class ScriptHandler(tornado.web.RequestHandler):
    """The script of Luigi's dashboard, and what is added to it."""

    def get(self) -> None:
        package = resources.files("luigi").joinpath("static", "visualiser", "js", "luigi.js")
        addition = resources.files("pipeline").joinpath("pages", "dashboard.js")
        self.set_header("Content-Type", "text/javascript; charset=UTF-8")
        self.finish(package.read_text("utf-8") + addition.read_text("utf-8"))


def make_application(scheduler: CentralScheduler, data: DataRoot) -> tornado.web.Application:
    """Return Luigi's server with pages of documents, and with safe headers on all that it sends."""
    application: tornado.web.Application = luigi.server.app(scheduler)
    route = r"/document/([a-z]+)/([0-9a-z]{16})(?:/([A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)?))?"
    calls = (r"/api/(.*)", CallHandler, {"scheduler": scheduler})
    script = (r"/static/visualiser/js/luigi.js", ScriptHandler)
    application.add_handlers(r".*", [calls, script, (route, DocumentHandler, {"data": data})])
    application.add_transform(_make_headers(scheduler.generation))
    return application


def _make_headers(generation: str) -> type[tornado.web.OutputTransform]:
    class Headers(tornado.web.OutputTransform):
        def __init__(self, request: tornado.httputil.HTTPServerRequest) -> None:
            pass

        def transform_first_chunk(
            self,
            status_code: int,
            headers: tornado.httputil.HTTPHeaders,
            chunk: bytes,
            finishing: bool,  # noqa: ARG002  Tornado's signature
        ) -> tuple[int, tornado.httputil.HTTPHeaders, bytes]:
            headers["X-Frame-Options"] = "DENY"
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
            headers[GENERATION_HEADER] = generation
            return status_code, headers, chunk

    return Headers


# Serving


def serve_data_root(
    roots: Roots,
    address: Address,
    *,
    state_file: str | None,
    max_shown_tasks: int,
    on_start: Callable[[str], object],
) -> int:
    """Serve until SIGINT or SIGTERM, and return its number; `on_start` is told the URL.

    Raises PortNotFree; StoreNotUsable or InputInvalid where the state could not be saved.
    """
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # a page that is not there is no news
    data = DataRoot(roots.data)
    data.check_usable()
    scheduler = CentralScheduler(
        find_link=find_link,
        state_path=str(_choose_state_path(data, state_file)),
        max_shown_tasks=max_shown_tasks,
        max_graph_nodes=max_shown_tasks,
    )
    return asyncio.run(_serve(scheduler, data, address, on_start))


def _choose_state_path(data: DataRoot, state_file: str | None) -> Path:
    if state_file is None:
        data.path.mkdir(parents=True, exist_ok=True)
        return data.path / STATE_FILE
    path = Path(state_file)
    if path.is_dir() or not path.parent.is_dir():
        raise InputInvalid(f"--state-file {state_file!r} cannot be written. Expected a file in a folder that exists.")
    return path


async def _serve(
    scheduler: CentralScheduler, data: DataRoot, address: Address, on_start: Callable[[str], object]
) -> int:
    sockets = _listen(address)
    scheduler.load()
    server = tornado.httpserver.HTTPServer(Guard(make_application(scheduler, data), address.names))
    server.add_sockets(sockets)
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, _note_signal, stopped, number)
    saver = Saver(scheduler)
    for callback, seconds in ((saver.save_if_due, LOOK_SECONDS), (scheduler.prune, PRUNE_SECONDS)):
        tornado.ioloop.PeriodicCallback(callback, seconds * 1000).start()
    on_start(Address(address.host, sockets[0].getsockname()[1], address.names).url)
    try:
        return await stopped
    finally:
        server.stop()
        scheduler.dump()


def _note_signal(stopped: asyncio.Future[int], number: int) -> None:
    if not stopped.done():
        stopped.set_result(number)


def _listen(address: Address) -> list[socket.socket]:
    try:
        return tornado.netutil.bind_sockets(address.port, address=address.host)
    except OSError as error:
        raise PortNotFree(
            f"The scheduler cannot listen on port {address.port} of {address.host}: {error.strerror or error}. "
            "Expected a free port: another scheduler may be running. Choose another with --port."
        ) from error


class Saver:
    """Saves the state at intervals: longer ones where a save takes long, at once when a worker is new."""

    def __init__(self, scheduler: CentralScheduler) -> None:
        self._scheduler = scheduler
        self._next = time.monotonic() + SHORTEST_SAVE_SECONDS
        self._shortest = time.monotonic()

    def save_if_due(self) -> None:
        started = time.monotonic()
        if started < (self._shortest if self._scheduler.has_new_worker else self._next):
            return
        self._scheduler.dump()
        seconds = time.monotonic() - started
        self._shortest = started + seconds / SAVE_SHARE
        self._next = max(self._shortest, started + SHORTEST_SAVE_SECONDS)
