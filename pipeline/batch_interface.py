"""A provider's batch interface, in OpenAI's form: files of requests that are answered within a day, for less.

    upload      POST {address}/files                 the requests, a line each -> a file id
    create      POST {address}/batches               -> the batch; from here on it costs money
    find        GET  {address}/batches               the batch that was made for us, if there is one
    read        GET  {address}/batches/{id}          how far it is
    download    GET  {address}/files/{id}/content    the answers, a line each

Source: OpenAI's API reference of files and batches, as of October 2026. litellm has functions for them too, but they
take no client of ours: what they send and receive could neither be kept nor counted. It writes the requests within.

Knows nothing of calls or of the store. Nothing is tried again here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from pipeline import wire
from pipeline.answers import find_message, read_json_object
from pipeline.errors import GatewayError, PipelineError
from pipeline.keys import KeyDropper, KeySource, drop_key_from_text, read_key
from pipeline.wire import Exchange

CONNECT_SECONDS = 30
REQUEST_SECONDS = 120
TRANSFER_SECONDS = 600  # of files
LARGEST_FILE_BYTES = 2**30
LISTED_A_PAGE = 100
LONGEST_MESSAGE = 400  # characters of a provider's message that an error repeats
ENDPOINT = "/v1/chat/completions"  # of each request, wherever the interface is
NAME_KEY = "daybook_batch"  # in the metadata of a batch

PASSING_STATUSES = frozenset({408, 409, 425, 429})  # and 500 and above
WITHOUT_LIST_STATUSES = frozenset({404, 405, 501})


class InterfaceFailed(PipelineError):
    """The provider did not do what was asked; it may be asked again later."""


class InterfaceRefused(InterfaceFailed):
    """The provider said that it will not do it."""

    def __init__(self, message: str, *, http_status: int) -> None:
        self.http_status = http_status
        super().__init__(message)


class ListUnknown(InterfaceFailed):
    """The provider does not say which batches it has."""


@dataclass(frozen=True)
class BatchInterface:
    """The batches at an address such as https://api.openai.com/v1, with the key in an environment variable, if any."""

    address: str
    key_source: KeySource

    def upload(self, name: str, content: bytes) -> str:
        """Return the id of the new file."""
        files = {"file": (name, content, "application/jsonl")}
        request = httpx.Request("POST", f"{self.address}/files", data={"purpose": "batch"}, files=files)
        return _read_id(self._send(request, seconds=TRANSFER_SECONDS), "file")

    def create(self, file_id: str, batch: str) -> dict[str, Any]:
        """Return the new batch of the requests in a file."""
        body = {
            "input_file_id": file_id,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {NAME_KEY: batch},
        }
        request = httpx.Request("POST", f"{self.address}/batches", json=body, headers={"idempotency-key": batch})
        created = self._send(request)
        _read_id(created, "batch")
        return created

    def find(self, file_id: str, batch: str) -> dict[str, Any] | None:
        """Return the batch that was made of a file or under our name; None if there is none. Raises ListUnknown."""
        for found in self._list():
            if found.get("input_file_id") == file_id or (found.get("metadata") or {}).get(NAME_KEY) == batch:
                _read_id(found, "batch")
                return found
        return None

    def read(self, provider_batch_id: str) -> dict[str, Any]:
        return self._send(httpx.Request("GET", f"{self.address}/batches/{provider_batch_id}"))

    def download(self, file_id: str) -> bytes:
        """Return the content of a file, whole."""
        exchange = self._exchange(
            httpx.Request("GET", f"{self.address}/files/{file_id}/content"), seconds=TRANSFER_SECONDS
        )
        return bytes(exchange.body)

    def _list(self) -> Iterator[dict[str, Any]]:
        """Yield the batches, the newest first."""
        after: dict[str, str] = {}
        while True:
            params: dict[str, str | int] = {"limit": LISTED_A_PAGE, **after}
            try:
                page = self._send(httpx.Request("GET", f"{self.address}/batches", params=params))
            except InterfaceRefused as error:
                if error.http_status in WITHOUT_LIST_STATUSES:
                    raise ListUnknown(str(error)) from error
                raise
            batches = page.get("data")
            if not isinstance(batches, list):
                raise ListUnknown(f"{self.address}: the list of batches has no data.")
            yield from (batch for batch in batches if isinstance(batch, dict))
            if not (page.get("has_more") and batches):
                return
            after = {"after": _read_id(batches[-1], "batch")}

    def _send(self, request: httpx.Request, *, seconds: float = REQUEST_SECONDS) -> dict[str, Any]:
        exchange = self._exchange(request, seconds=seconds)
        body = read_json_object(bytes(exchange.body))
        if body is None:
            raise InterfaceFailed(f"{_describe(request)}: the response is no JSON object. Run again later.")
        return body

    def _exchange(self, request: httpx.Request, *, seconds: float) -> Exchange:
        key = self.find_key()
        if key is not None:
            request.headers["authorization"] = f"Bearer {key}"
        exchange = wire.send(
            request,
            keep=_keep_nothing,
            connect_seconds=CONNECT_SECONDS,
            timeout_seconds=seconds,
            cleaner=KeyDropper(key),
            max_bytes=LARGEST_FILE_BYTES,
        )
        if exchange.http_status is not None and exchange.http_status >= 300:
            _raise_error(request, exchange, key)
        if exchange.failure is not None:
            message = drop_key_from_text(exchange.failure.message, key)
            raise InterfaceFailed(f"{_describe(request)}: {message.rstrip('.')}. Run again later.")
        return exchange

    def find_key(self) -> str | None:
        """Return the key; None if none is needed. Raises InterfaceFailed if it cannot be read."""
        try:
            return read_key(self.key_source)
        except GatewayError as error:
            raise InterfaceFailed(f"{self.address} needs a key. {error}") from error


def _raise_error(request: httpx.Request, exchange: Exchange, key: str | None) -> None:
    status = exchange.http_status or 0
    body = bytes(exchange.body)
    # The key is dropped before the message is cut: half a key is found by nobody.
    text = drop_key_from_text(find_message(body) or body.decode(errors="replace"), key)
    short = " ".join(text.split())[:LONGEST_MESSAGE].rstrip(".") or "an empty body"
    message = f"{_describe(request)}: HTTP {status}: {short}."
    if (status >= 500 and status not in WITHOUT_LIST_STATUSES) or status in PASSING_STATUSES:
        raise InterfaceFailed(f"{message} Run again later.")
    raise InterfaceRefused(message, http_status=status)


def _describe(request: httpx.Request) -> str:
    return f"{request.method} {request.url.copy_with(query=None)}"


def _read_id(value: Mapping[str, Any], kind: str) -> str:
    found = value.get("id")
    if not isinstance(found, str) or not found:
        raise InterfaceFailed(f"The {kind} that the provider told of has no id. Run again later.")
    return found


def _keep_nothing(_chunk: bytes) -> None:
    """What comes is kept as a whole by who asked for it."""
