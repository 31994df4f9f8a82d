"""fetch: files over HTTP from a server on this machine that answers after 50 ms, one at a time and 16 at a time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Result, Row, Settings

if TYPE_CHECKING:
    from pipeline.archive.fetching.wanted import Wanted

FILES, QUICK_FILES, FILE_BYTES = 320, 64, 20_000
LATENCY_SECONDS = 0.05
CONCURRENCIES = (1, 16)
FASTER = 10.0  # times, 16 at a time against one


def estimate_seconds(settings: Settings) -> float:
    return _count_files(settings) * LATENCY_SECONDS * settings.repeat * 1.2


def run(settings: Settings) -> Result:
    from pipeline.archive.fetching.wanted import Wanted
    from tests.archive.file_server import FileServer

    result = Result()
    files = {f"{number}.bin": number.to_bytes(4) * (FILE_BYTES // 4) for number in range(_count_files(settings))}
    with FileServer(files, latency_seconds=LATENCY_SECONDS) as server:
        wanted = [Wanted(server.url(name), name) for name in files]
        for concurrency in CONCURRENCIES:
            runs = [_fetch(wanted, settings.work_folder / "fetch", concurrency) for _run in range(settings.repeat)]
            seconds = sorted(runs)[len(runs) // 2]
            result.rows.append(_row(concurrency, len(files), seconds))
    alone, together = (row["wall_seconds"] for row in result.rows)
    result.hold(
        f"{len(files)} files, 16 at a time, times faster", measured=alone / together, limit=FASTER, at_least=True
    )
    return result


def _count_files(settings: Settings) -> int:
    return QUICK_FILES if settings.is_quick else FILES


def _fetch(wanted: Sequence[Wanted], folder: Path, concurrency: int) -> float:
    from pipeline.archive.fetching import fetch

    shutil.rmtree(folder, ignore_errors=True)
    fetched = fetch(wanted, folder, concurrency=concurrency, allow_private=True)
    assert fetched.count("fetched") == len(wanted), "not all files came"
    return fetched.progress.seconds


def _row(concurrency: int, files: int, seconds: float) -> Row:
    return {
        "at a time": concurrency,
        "files": files,
        "latency_seconds": LATENCY_SECONDS,
        "ideal_seconds": files * LATENCY_SECONDS / concurrency,
        "wall_seconds": seconds,
        "files a second": files / seconds,
    }
