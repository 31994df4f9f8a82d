"""One file over HTTP: asked for, taken up where it stopped, checked, and placed whole or not at all."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import httpx

from pipeline.archive.fetching.addresses import AddressRefused
from pipeline.archive.fetching.download_folder import DownloadFolder, Part, Version, find_name, hash_file
from pipeline.archive.fetching.wanted import Wanted
from pipeline.retries import read_retry_after

OK, PARTIAL, NOT_MODIFIED, RANGE_NOT_SATISFIABLE = 200, 206, 304, 416
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
DEFAULT_TRIES = 6  # without a byte in between: who makes headway may be cut off as often as it takes
LONGEST_WAIT_SECONDS = 30.0
FIRST_WAIT_SECONDS = 0.5
CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<size>\d+|\*)|bytes \*/(?P<size_alone>\d+)")


class Outcome(NamedTuple):
    """What became of one wanted file: `fetched`, `unchanged` or `failed`. `may_pass`: asking again may help."""

    url: str
    status: str
    name: str | None = None
    size_bytes: int | None = None
    blake3: str | None = None
    reason: str | None = None
    may_pass: bool = False


class TransferFailed(Exception):
    """A file that cannot be had: trying again would end the same way."""


class TransferBroken(Exception):
    """A try that failed in a way that may pass; `wait_seconds` is what the server asked for."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Transfer:
    """Fetches files into a folder with one client. `count` hears of each piece's bytes."""

    client: httpx.AsyncClient
    folder: DownloadFolder
    headers: Mapping[str, str]
    count: Callable[[int], None]
    tries: int = DEFAULT_TRIES
    first_wait_seconds: float = FIRST_WAIT_SECONDS

    async def fetch(self, wanted: Wanted) -> Outcome:
        """Fetch a file, or see that it is there. Never raises for what a server or a network does."""
        failures = 0
        part = self.folder.part_of(wanted.url)
        while True:
            size_before = part.size_bytes
            try:
                return await self._try(wanted, part)
            except (TransferFailed, AddressRefused) as error:
                return Outcome(wanted.url, "failed", reason=str(error))
            except TransferBroken as error:
                failures = 1 if part.size_bytes > size_before else failures + 1
                if failures >= self.tries:
                    return Outcome(wanted.url, "failed", reason=f"{error} (tried {failures} times)", may_pass=True)
                await asyncio.sleep(self._find_wait(failures, error.wait_seconds))

    def _find_wait(self, failures: int, asked_seconds: float | None) -> float:
        longest = min(LONGEST_WAIT_SECONDS, self.first_wait_seconds * 2.0 ** (failures - 1))
        return (asked_seconds or 0.0) + longest * random.random()  # noqa: S311  no secret

    async def _try(self, wanted: Wanted, part: Part) -> Outcome:
        known = self.folder.find(wanted.url)
        if known and wanted.digest and known.digest == wanted.digest:
            return Outcome(wanted.url, "unchanged", known.name, known.size_bytes, known.blake3)
        conditions = {}
        if known and known.etag:
            conditions["if-none-match"] = known.etag
        elif known and known.last_modified:
            conditions["if-modified-since"] = known.last_modified
        version = part.read_version()
        if version and version.condition and part.size_bytes:
            conditions = {"range": f"bytes={part.size_bytes}-", "if-range": version.condition}
        try:
            async with self.client.stream("GET", wanted.url, headers={**self.headers, **conditions}) as response:
                if response.status_code == NOT_MODIFIED and known:
                    return Outcome(wanted.url, "unchanged", known.name, known.size_bytes, known.blake3)
                return await self._receive(wanted, part, response)
        except httpx.TooManyRedirects as error:
            raise TransferFailed("More than 10 redirects. Give the address of the file itself") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise TransferFailed(
                f"It leads to an address that is not http or https: {error}. Ask for another"
            ) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise TransferBroken(f"{type(error).__name__}: {error or 'the connection broke'}") from error

    async def _receive(self, wanted: Wanted, part: Part, response: httpx.Response) -> Outcome:
        version = Version(response.headers.get("etag"), response.headers.get("last-modified"))
        _check_status(response, part)
        total = _find_total(response, part)
        if response.status_code == OK:
            self.count(-part.size_bytes)
            part.begin(version)
        if response.status_code != RANGE_NOT_SATISFIABLE:  # it means that nothing is left to come
            _check_size(wanted, total)
            await self._append(part, response)
        if total is not None and part.size_bytes != total:
            raise TransferBroken(f"{part.size_bytes:,} of {total:,} bytes came")
        await asyncio.to_thread(_check_content, wanted, part)
        name = find_name(wanted.name, response.headers.get("content-disposition"), str(response.url))
        placed = await asyncio.to_thread(self.folder.place, part, wanted.url, name, version, wanted.digest)
        return Outcome(wanted.url, "fetched", placed.name, placed.size_bytes, placed.blake3)

    async def _append(self, part: Part, response: httpx.Response) -> None:
        with part.open() as file:
            async for piece in response.aiter_bytes():
                file.append(piece)
                self.count(len(piece))


def _check_status(response: httpx.Response, part: Part) -> None:
    status = response.status_code
    if status == OK or (status == RANGE_NOT_SATISFIABLE and _find_total(response, part) == part.size_bytes):
        return
    if status == PARTIAL:
        found = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if found and found["first"] is not None and int(found["first"]) == part.size_bytes:
            return
        part.drop()
        raise TransferBroken("The server sent another range than was asked for")
    if status == RANGE_NOT_SATISFIABLE:
        part.drop()
        raise TransferBroken("What the server has is shorter than what had come")
    if status in PASSING_STATUSES:
        raise TransferBroken(f"HTTP {status}", read_retry_after(response.headers, datetime.now(UTC)))
    raise TransferFailed(f"HTTP {status}{_explain_status(status)}")


def _explain_status(status: int) -> str:
    if status in (401, 403):
        return ": access is denied. Look at the token and at who may read the file, or ask for a new link"
    if status in (404, 410):
        return ": nothing is there. Exports are often kept for a day or a week only: ask for a new one"
    return ": the server refuses it. Open the address in a browser, or ask for a new link"


def _find_total(response: httpx.Response, part: Part) -> int | None:
    """Return how many bytes the whole file has, as the server says; None if it does not, or says it of coded bytes."""
    if response.headers.get("content-encoding", "identity") != "identity":
        return None
    found = CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found and (size := found["size_alone"] or found["size"]) and size != "*":
        return int(size)
    length = response.headers.get("content-length", "")
    if not length.isdigit():
        return None
    return int(length) + (part.size_bytes if response.status_code == PARTIAL else 0)


def _check_size(wanted: Wanted, total: int | None) -> None:
    if wanted.size_bytes is not None and total is not None and wanted.size_bytes != total:
        raise TransferFailed(
            f"The server has {total:,} bytes. Expected {wanted.size_bytes:,}, as the list says. Mend the list"
        )


def _check_content(wanted: Wanted, part: Part) -> None:
    """Hold a whole part to what the list says. What differs is dropped: it is no beginning of the right bytes."""
    if wanted.size_bytes is not None and part.size_bytes != wanted.size_bytes:
        found = part.size_bytes
        part.drop()
        raise TransferBroken(f"{found:,} bytes came. Expected {wanted.size_bytes:,}, as the list says")
    if wanted.digest is not None:
        kind, expected = wanted.digest.split(":")
        if (hashed := hash_file(part.path, kind)) != expected:
            part.drop()
            raise TransferBroken(f"Its {kind} is {hashed[:12]}…. Expected {expected[:12]}…, as the list says")
