"""Fetching: exports and attachments named in a list, or in a folder of Google Drive, downloaded side by side.

Nothing else in the archive opens a connection, and nothing is fetched because an export names it: only what the person
asked for. What came stays in the folder of downloads, from where `daybook import` takes it in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.archive.fetching.addresses import open_client
from pipeline.archive.fetching.download_folder import DownloadFolder
from pipeline.archive.fetching.drive import DRIVE_URL, LeftOut, list_folder
from pipeline.archive.fetching.transfer import DEFAULT_TRIES, FIRST_WAIT_SECONDS, Outcome, Transfer
from pipeline.archive.fetching.wanted import Wanted

DEFAULT_CONCURRENCY = 16
STALLED_SECONDS = 60.0  # without a byte


class Drive(NamedTuple):
    """A folder of Google Drive, and how to get at it."""

    folder_id: str
    token: str | None = None
    url: str = DRIVE_URL


@dataclass
class Progress:
    """How far a fetch has come. `bytes` counts what came now, not what an earlier run had."""

    files: int = 0
    done: int = 0
    bytes: int = 0
    bytes_expected: int = 0  # of the files whose size is known beforehand
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """By the bytes where all sizes are known, else by the files; None before anything has come."""
        if not self.done and not self.bytes:
            return None
        share = self.bytes / self.bytes_expected if self.bytes_expected else self.done / max(self.files, 1)
        return self.seconds * (1 - share) / share if 0 < share <= 1 else None


@dataclass
class FetchResult:
    """What a fetch ended with: an outcome for every file that was asked for, and what had no bytes to fetch."""

    outcomes: list[Outcome] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

    def count(self, status: str) -> int:
        return sum(outcome.status == status for outcome in self.outcomes)


def fetch(
    wanted: Sequence[Wanted],
    out: Path,
    *,
    drive: Drive | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    allow_private: bool = False,
    tries: int = DEFAULT_TRIES,
    first_wait_seconds: float = FIRST_WAIT_SECONDS,
    show: Callable[[Progress], None] = lambda _progress: None,
) -> FetchResult:
    """Fetch files into the folder `out`, so many at a time; what is there already is not fetched again.

    `show` is called about once a second. Raises DriveUnreadable, InputInvalid if another process fetches into `out`,
    WriteFailed if the disk refuses. Interrupted, the next one goes on where this one stopped.
    """
    folder = DownloadFolder(out)
    with folder.hold():
        return asyncio.run(
            _fetch_all(wanted, folder, drive, concurrency, allow_private, tries, first_wait_seconds, show)
        )


async def _fetch_all(
    wanted: Sequence[Wanted],
    folder: DownloadFolder,
    drive: Drive | None,
    concurrency: int,
    allow_private: bool,
    tries: int,
    first_wait_seconds: float,
    show: Callable[[Progress], None],
) -> FetchResult:
    result = FetchResult()
    headers = {"authorization": f"Bearer {drive.token}"} if drive and drive.token else {}
    async with open_client(connections=concurrency, seconds=STALLED_SECONDS, allow_private=allow_private) as client:
        files = list(dict.fromkeys(wanted))
        from_drive: list[Wanted] = []
        if drive:
            async for found in list_folder(client, drive.url, drive.folder_id, headers):
                if isinstance(found, LeftOut):
                    result.left_out.append(found)
                else:
                    from_drive.append(found)
        progress = result.progress
        progress.files = len(files) + len(from_drive)
        sizes = [file.size_bytes for file in (*files, *from_drive)]
        progress.bytes_expected = sum(size or 0 for size in sizes) if None not in sizes else 0

        def count(size: int) -> None:
            progress.bytes += size

        # A token goes to the place it is for, and to no address of a list.
        plain = Transfer(client, folder, {}, count, tries, first_wait_seconds)
        with_token = Transfer(client, folder, headers, count, tries, first_wait_seconds)
        jobs = [(plain, file) for file in files] + [(with_token, file) for file in from_drive]
        result.outcomes = await _run(jobs, concurrency, progress, show)
    return result


async def _run(
    jobs: Sequence[tuple[Transfer, Wanted]], concurrency: int, progress: Progress, show: Callable[[Progress], None]
) -> list[Outcome]:
    """Run every job, `concurrency` at a time, in their order; return the outcomes in that order."""
    outcomes: dict[int, Outcome] = {}
    waiting = iter(enumerate(jobs))

    async def work() -> None:
        for index, (transfer, file) in waiting:
            outcomes[index] = await transfer.fetch(file)
            progress.done += 1

    async def tell() -> None:
        while True:
            show(progress)
            await asyncio.sleep(1)

    telling = asyncio.create_task(tell())
    try:
        async with asyncio.TaskGroup() as group:
            for _worker in range(min(concurrency, len(jobs))):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        telling.cancel()
        show(progress)
    return [outcomes[index] for index in range(len(jobs))]
