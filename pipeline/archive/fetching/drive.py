"""A folder of Google Drive, listed with its API (v3: files.list, https://developers.google.com/drive/api/reference).

A folder in a folder is looked into. Documents, sheets and slides of Google's own have no bytes to download, and are
named as left out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from pipeline.archive.fetching.wanted import Wanted
from pipeline.errors import PipelineError
from pipeline.retries import read_retry_after

DRIVE_URL = "https://www.googleapis.com/drive/v3"
FIELDS = "nextPageToken,files(id,name,mimeType,size,md5Checksum)"
FOLDER_TYPE = "application/vnd.google-apps.folder"
GOOGLES_OWN = "application/vnd.google-apps."
PAGE_FILES = 1000
TRIES = 6
DENIED = (401, 403, 404)


class DriveUnreadable(PipelineError):
    """A folder that the API does not list."""


class LeftOut(NamedTuple):
    """A file that has no bytes to fetch."""

    name: str
    reason: str


async def list_folder(
    client: httpx.AsyncClient, base_url: str, folder_id: str, headers: Mapping[str, str]
) -> AsyncIterator[Wanted | LeftOut]:
    """Yield every file below a folder. Raises DriveUnreadable."""
    waiting, seen = [folder_id], set[str]()
    while waiting:
        folder = waiting.pop()
        if folder in seen:
            continue
        seen.add(folder)
        async for file in _list_files(client, base_url, folder, headers):
            if file.get("mimeType") == FOLDER_TYPE:
                waiting.append(str(file["id"]))
            else:
                yield _read_file(file, base_url)


async def _list_files(
    client: httpx.AsyncClient, base_url: str, folder: str, headers: Mapping[str, str]
) -> AsyncIterator[dict[str, Any]]:
    token: str | None = None
    while True:
        escaped = folder.replace("\\", "\\\\").replace("'", "\\'")
        query = {"q": f"'{escaped}' in parents and trashed=false", "fields": FIELDS, "pageSize": str(PAGE_FILES)}
        page = await _get_page(
            client, f"{base_url}/files", {**query, **({"pageToken": token} if token else {})}, headers
        )
        for file in page.get("files", []):
            yield file
        token = page.get("nextPageToken")
        if not token:
            return


async def _get_page(
    client: httpx.AsyncClient, url: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> dict[str, Any]:
    problem = ""
    for number in range(TRIES):
        try:
            response = await client.get(url, params=query, headers=headers)
        except httpx.HTTPError as error:
            problem, wait = f"{type(error).__name__}: {error}", 0.0
        else:
            if response.status_code in DENIED:
                raise DriveUnreadable(_describe_denial(response.status_code))
            if response.is_success:
                return _read_page(response)
            problem = f"HTTP {response.status_code}"
            wait = read_retry_after(response.headers, datetime.now(UTC)) or 0.0
        await asyncio.sleep(wait + min(30.0, 0.5 * 2.0**number) * random.random())  # noqa: S311  no secret
    raise DriveUnreadable(f"The folder cannot be listed: {problem} (tried {TRIES} times). Try again later.")


def _describe_denial(status: int) -> str:
    return (
        f"HTTP {status}: the folder is not there for this token. Expected a token that may read it "
        "(scope drive.readonly), in DAYBOOK_DRIVE_TOKEN or in the file that --token-file names."
    )


def _read_page(response: httpx.Response) -> dict[str, Any]:
    try:
        page = response.json()
    except ValueError:
        page = None
    files = page.get("files", []) if isinstance(page, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, dict) and "id" in file for file in files):
        raise DriveUnreadable("The answer is not Google Drive's. Look at --drive-url.")
    return {"files": files, "nextPageToken": page.get("nextPageToken")}


def _read_file(file: Mapping[str, Any], base_url: str) -> Wanted | LeftOut:
    name = str(file.get("name") or file["id"])
    kind = str(file.get("mimeType", ""))
    if kind.startswith(GOOGLES_OWN):
        return LeftOut(name, f"{kind.removeprefix(GOOGLES_OWN)}: Google's own kind, which has no bytes to fetch")
    size, md5 = file.get("size"), file.get("md5Checksum")
    return Wanted(
        f"{base_url}/files/{quote(str(file['id']), safe='')}?alt=media",
        name,
        int(size) if isinstance(size, str) and size.isdigit() else None,
        f"md5:{md5}" if md5 else None,
    )
