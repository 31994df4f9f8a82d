"""The way from a worker to a central scheduler: Luigi's protocol over connections that stay open.

Any scheduler of Luigi's will do. One of ours tells with each answer which of its starts gave it, its
`generation`; when that changes, the scheduler was started anew and knows what it had saved, which may be
old or nothing. The worker asks `was_restarted` and tells it everything again.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from luigi import configuration
from luigi.rpc import RemoteScheduler, RPCError
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_fixed

from pipeline.errors import InputInvalid, PipelineError

logger = logging.getLogger("daybook.scheduler")

GENERATION_HEADER = "X-Daybook-Generation"
RETRY_ATTEMPTS, RETRY_SECONDS = 15, 2  # where luigi.cfg says nothing: a scheduler may be away for half a minute


class SchedulerUnreachable(PipelineError):
    """A central scheduler did not answer."""

    def __init__(self, url: str, problem: object) -> None:
        self.url = url
        super().__init__(
            f"The scheduler at {url} does not answer: {problem}. Expected a running one: start it with "
            "`daybook scheduler`, or build without --scheduler. What was made is kept; the same command goes on."
        )


def check_url(url: str) -> str:
    """Return the URL of a scheduler. Raises InputInvalid."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputInvalid(f"{url!r} is no URL of a scheduler. Expected one such as http://127.0.0.1:8082/.")
    return url


class BadAnswer(OSError):
    """An answer came, and not the one that was asked for."""


class OpenConnections:
    """Luigi's fetcher: one connection for each thread, kept open, as a new one costs more than a call."""

    raises = (OSError, http.client.HTTPException)

    def __init__(self, note_generation: Callable[[str], None]) -> None:
        self._note_generation = note_generation
        self._local = threading.local()

    def fetch(self, full_url: str, body: dict[str, str] | None, timeout: float) -> str:
        """Return the text of an answer. Raises one of `raises`."""
        parts = urlsplit(full_url)
        content = urlencode(body or {})
        is_open = getattr(self._local, "connection", None) is not None
        try:
            return self._ask(parts, content, timeout)
        except BadAnswer:
            raise
        except self.raises:
            self._drop()
            if not is_open:
                raise
        return self._ask(parts, content, timeout)  # the server had closed it, as it does after a while

    def close(self) -> None:
        self._drop()

    def _ask(self, parts: SplitResult, content: str, timeout: float) -> str:
        connection = self._connect(parts, timeout)
        connection.request("POST", parts.path or "/", content, _make_headers(parts))
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != http.client.OK:
            raise BadAnswer(f"{answer.status} {answer.reason}: {text.strip()[:200]}")
        self._note_generation(answer.headers.get(GENERATION_HEADER, ""))
        return text

    def _connect(self, parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            assert parts.hostname is not None
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            connection = self._local.connection = kind(parts.hostname, parts.port, timeout=timeout)
        return connection

    def _drop(self) -> None:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = None


def _make_headers(parts: SplitResult) -> dict[str, str]:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if parts.username:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    return headers


class SchedulerClient(RemoteScheduler):  # type: ignore[misc]
    """Luigi's proxy of a scheduler that is elsewhere."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url
        self.is_waiting = False  # the scheduler gives no work yet: it waits for other workers to come back
        self.gives_up: Callable[[], bool] = lambda: False
        self._fetcher: OpenConnections = OpenConnections(self._note_generation)
        settings = configuration.get_config()
        self._rpc_retry_attempts = settings.getint("core", "rpc-retry-attempts", RETRY_ATTEMPTS)
        self._rpc_retry_wait = settings.getint("core", "rpc-retry-wait", RETRY_SECONDS)
        self._guard = threading.Lock()
        self._generation, self._was_restarted = "", False

    def check(self) -> None:
        """Raise SchedulerUnreachable unless the scheduler answers, now."""
        try:
            self._fetcher.fetch(f"{self._url}/api/has_task_history", {"data": json.dumps({})}, self._connect_timeout)
        except self._fetcher.raises as error:
            raise SchedulerUnreachable(self.url, error) from error

    def get_work(self, *arguments: Any, **facts: Any) -> dict[str, Any]:
        reply: dict[str, Any] = super().get_work(*arguments, **facts)
        self.is_waiting = bool(reply.get("is_waiting"))
        return reply

    def was_restarted(self) -> bool:
        """Return whether the scheduler was started anew since this was last asked."""
        with self._guard:
            was_restarted, self._was_restarted = self._was_restarted, False
            return was_restarted

    def _note_generation(self, generation: str) -> None:
        with self._guard:
            if self._generation and generation != self._generation:
                self._was_restarted = True
            self._generation = generation or self._generation

    def _get_retryer(self) -> Retrying:
        attempts = stop_after_attempt(self._rpc_retry_attempts)
        return Retrying(
            wait=wait_fixed(self._rpc_retry_wait),
            stop=lambda state: self.gives_up() or attempts(state),
            reraise=True,
            after=self._warn,
        )

    def _warn(self, state: RetryCallState) -> None:
        if state.attempt_number == 1:
            seconds = (self._rpc_retry_attempts - 1) * self._rpc_retry_wait
            logger.warning("The scheduler at %s does not answer; trying for %s s more.", self.url, seconds)


__all__ = ["RPCError", "SchedulerClient", "SchedulerUnreachable", "check_url"]
