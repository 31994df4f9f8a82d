"""HTTP as calls need it: one request, and the bytes of its response handed on as they arrive.

    send(request) -> Exchange       from any thread; the request itself runs on one event loop, with hundreds of others

Knows nothing of models, of litellm or of files. Nothing is sent twice, no redirect is followed, and a failure is
a value: what had arrived before it is kept and returned.

One event loop in a thread of its own serves the whole process, so that a stock Luigi worker, the command line and a
test all send the same way. A client holds few connections: the pool of an httpx client looks through all its
connections at every step, and with 256 on one client a request cost 5.6 ms of CPU, with 16 a client 2.5 ms.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import httpx

REQUESTS_A_CLIENT = 8  # at a time; see above
MAX_RESPONSE_BYTES = 64 * 2**20  # a hundred times the longest answer any model gives; bounds memory and disk
ERROR_STATUS = 400  # from here on a response is no answer, and nobody pays for it

Keep = Callable[[bytes], None]
# unreached: no connection, so nothing was sent. connection: it broke before the response began.
FailureKind = Literal["timeout", "unreached", "connection", "cut", "too_long"]
T = TypeVar("T")

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # below it they write addresses and headers, which hold keys


class Cleaner(Protocol):
    """Changes bytes on their way, piece by piece; `end` gives what it held back."""

    def feed(self, chunk: bytes) -> bytes: ...
    def end(self) -> bytes: ...


@dataclass(frozen=True)
class Failure:
    """Why an exchange did not come to its end."""

    kind: FailureKind
    message: str


@dataclass
class Exchange:
    """One request and what came back. `http_status` is None if no response began.

    `headers` has lowercase names. `body` holds the bytes as they came: with whatever content encoding the server used.
    """

    http_status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    failure: Failure | None = None
    keep_error: BaseException | None = None

    @property
    def is_error(self) -> bool:
        return self.http_status is not None and self.http_status >= ERROR_STATUS


def send(
    request: httpx.Request,
    *,
    keep: Keep,
    connect_seconds: float,
    timeout_seconds: float,
    cleaner: Cleaner,
    max_bytes: int | None = None,
) -> Exchange:
    """Return what came of a request; `keep` receives the body's bytes as they arrive, as the cleaner hands them on.

    `timeout_seconds` bounds the whole exchange, however steadily the bytes drip, and `max_bytes` the body. What `keep`
    raises is raised.
    """
    request.headers["accept-encoding"] = "identity"  # or the bytes kept would be compressed
    seconds = {"connect": connect_seconds, "read": timeout_seconds, "write": timeout_seconds, "pool": None}
    request.extensions = {**request.extensions, "timeout": seconds}
    exchange = Exchange()
    _loop().run(_run_exchange(request, exchange, keep, cleaner, timeout_seconds, max_bytes or MAX_RESPONSE_BYTES))
    if exchange.keep_error is not None:
        raise exchange.keep_error  # a full disk is not the provider's error
    return exchange


async def _run_exchange(
    request: httpx.Request,
    exchange: Exchange,
    keep: Keep,
    cleaner: Cleaner,
    timeout_seconds: float,
    max_bytes: int,
) -> None:
    lane = _lanes().choose()
    try:
        async with asyncio.timeout(timeout_seconds):
            await _receive(lane.client, request, exchange, keep, cleaner, max_bytes)
    except TimeoutError:
        exchange.failure = Failure("timeout", f"The whole answer took longer than {timeout_seconds:g} s")
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        exchange.failure = Failure("unreached", f"{type(error).__name__}: {error}")
    except httpx.TimeoutException as error:
        exchange.failure = Failure("timeout", f"{type(error).__name__}: {error}")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        kind: FailureKind = "connection" if exchange.http_status is None else "cut"
        exchange.failure = Failure(kind, f"{type(error).__name__}: {error}")
    finally:
        lane.requests -= 1
    if exchange.keep_error is None:
        _hand_on(cleaner.end(), exchange, keep)


async def _receive(
    client: httpx.AsyncClient, request: httpx.Request, exchange: Exchange, keep: Keep, cleaner: Cleaner, max_bytes: int
) -> None:
    response = await client.send(request, stream=True)
    try:
        exchange.headers = {name.lower(): value for name, value in response.headers.items()}
        exchange.http_status = response.status_code
        async for chunk in response.aiter_raw():
            if not _hand_on(cleaner.feed(chunk), exchange, keep):
                return
            if len(exchange.body) > max_bytes:
                message = f"The response has more than {max_bytes} bytes. Its first part is kept"
                exchange.failure = Failure("too_long", message)
                return
    finally:
        await response.aclose()


def _hand_on(chunk: bytes, exchange: Exchange, keep: Keep) -> bool:
    exchange.body += chunk
    try:
        if chunk:
            keep(chunk)
    except BaseException as error:
        exchange.keep_error = error
        return False
    return True


# Clients


@dataclass(eq=False)
class _Lane:
    """A client and how many requests it has under way."""

    client: httpx.AsyncClient
    requests: int = 0


class _Lanes:
    """The clients of this process; used on the event loop only. They honour HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""

    def __init__(self) -> None:
        self._lanes: list[_Lane] = []
        self._certificates = httpx.create_ssl_context()  # takes 20 ms: once, not once a client
        self._limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)

    def choose(self) -> _Lane:
        """Return the first lane with room, so that connections are used again; a new one if all are full."""
        lane = next((lane for lane in self._lanes if lane.requests < REQUESTS_A_CLIENT), None)
        if lane is None:
            client = httpx.AsyncClient(verify=self._certificates, limits=self._limits, follow_redirects=False)
            lane = _Lane(client)
            self._lanes.append(lane)
        lane.requests += 1
        return lane


class _Loop:
    """An event loop in a daemon thread: a process that ends does not wait for it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="daybook-wire").start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine; if the waiting is interrupted, the coroutine is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


_starting = threading.Lock()


def _loop() -> _Loop:
    with _starting:
        return _make_loop()


@functools.cache
def _make_loop() -> _Loop:
    return _Loop()


@functools.cache
def _lanes() -> _Lanes:
    return _Lanes()


def _forget_what_the_parent_had() -> None:
    """Begin anew in a forked child: the loop's thread stayed behind, and both would read from the same connections."""
    global _starting
    _starting = threading.Lock()
    _make_loop.cache_clear()
    _lanes.cache_clear()


os.register_at_fork(after_in_child=_forget_what_the_parent_had)
