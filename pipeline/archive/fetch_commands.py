"""The command `daybook fetch`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command_line import EXIT_SKIPPED, add_command, print_result, read_whole_number, roots_of
from pipeline.errors import InputInvalid

if TYPE_CHECKING:
    from pipeline.archive.fetching import FetchResult, Progress

TOKEN_VARIABLE, URL_VARIABLE = "DAYBOOK_DRIVE_TOKEN", "DAYBOOK_DRIVE_URL"
HIGHEST_CONCURRENCY = 64
PLAIN_SECONDS = 30  # between two lines of progress where no terminal shows them


def add_fetch(commands: Any) -> None:
    parser = add_command(commands, "fetch", _fetch, "download exports and attachments, to be imported afterwards")
    parser.add_argument("urls", nargs="*", metavar="URL", help="an address to download")
    parser.add_argument(
        "--list", metavar="FILE", type=Path, help="a list: an address a line, or CSV with url,name,size_bytes,digest"
    )
    parser.add_argument("--drive", metavar="FOLDER_ID", help="a folder of Google Drive, with all folders in it")
    parser.add_argument(
        "--drive-url", metavar="URL", help=f"where Google Drive's API is, else {URL_VARIABLE}, else Google's own"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help=f"the file with Drive's access token, where {TOKEN_VARIABLE} has none"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="the folder for downloads, else downloads in the data folder"
    )
    parser.add_argument(
        "--concurrency", metavar="N", type=_read_concurrency, default=16, help="files at a time, 1 to 64; 16 by default"
    )
    parser.add_argument(
        "--allow-private", action="store_true", help="connect to addresses of this machine and this network, too"
    )


def _read_concurrency(text: str) -> int:
    refusal = f"is no number of files. Expected 1 to {HIGHEST_CONCURRENCY}."
    return read_whole_number(text, 1, HIGHEST_CONCURRENCY, refusal=refusal)


def _fetch(arguments: argparse.Namespace) -> int:
    from pipeline.archive.fetching import Drive, fetch
    from pipeline.archive.fetching.drive import DRIVE_URL
    from pipeline.archive.fetching.wanted import Wanted, check_url, read_list
    from pipeline.keys import KeySource, read_key

    wanted = [Wanted(check_url(url, "the command line")) for url in arguments.urls]
    if arguments.list:
        wanted += read_list(arguments.list)
    if not wanted and not arguments.drive:
        raise InputInvalid("Nothing to fetch. Name an address, a list (--list FILE) or a folder (--drive FOLDER_ID).")
    drive = None
    if arguments.drive:
        base_url = arguments.drive_url or os.environ.get(URL_VARIABLE) or DRIVE_URL
        token = read_key(KeySource(TOKEN_VARIABLE, arguments.token_file))
        drive = Drive(arguments.drive, token, check_url(base_url, "--drive-url").rstrip("/"))
    out = arguments.out or roots_of(arguments).data / "downloads"
    result = fetch(
        wanted,
        out,
        drive=drive,
        concurrency=arguments.concurrency,
        allow_private=arguments.allow_private,
        show=_show_nothing if arguments.json else _Display().show,
    )
    print_result(arguments, _describe(result, out), lambda _value: _format(result, out))
    return EXIT_SKIPPED if result.count("failed") or result.left_out else 0


def _show_nothing(_progress: Progress) -> None:
    pass


class _Display:
    """A line on a terminal that changes; where there is none, a line now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next_at = float(PLAIN_SECONDS)

    def show(self, progress: Progress) -> None:
        if self._is_terminal:
            end = "\n" if progress.done == progress.files else ""
            sys.stderr.write(f"\r\x1b[K{_format_progress(progress)}{end}")
            sys.stderr.flush()
        elif progress.seconds >= self._next_at:
            self._next_at += PLAIN_SECONDS
            print(_format_progress(progress), file=sys.stderr, flush=True)


def _format_progress(progress: Progress) -> str:
    rate = progress.bytes / max(progress.seconds, 0.001)
    left = "" if progress.seconds_left is None else f", {_format_seconds(progress.seconds_left)} left"
    return (
        f"{progress.done:,} of {progress.files:,} files, {_format_bytes(progress.bytes)}, {_format_bytes(rate)}/s{left}"
    )


def _format_bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


def _format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _describe(result: FetchResult, out: Path) -> dict[str, Any]:
    return {
        "folder": str(out),
        "fetched": result.count("fetched"),
        "unchanged": result.count("unchanged"),
        "failed": result.count("failed"),
        "left_out": [left._asdict() for left in result.left_out],
        "bytes": result.progress.bytes,
        "seconds": round(result.progress.seconds, 3),
        "files": [outcome._asdict() for outcome in result.outcomes],
    }


def _format(result: FetchResult, out: Path) -> str:
    lines = [f"{outcome.url}: {outcome.reason}" for outcome in result.outcomes if outcome.status == "failed"]
    lines += [f"left out: {left.name}: {left.reason}" for left in result.left_out]
    counts = ", ".join(f"{result.count(status):,} {status}" for status in ("fetched", "unchanged", "failed"))
    left_out = f", {len(result.left_out):,} left out" if result.left_out else ""
    lines.append(
        f"{counts}{left_out}; {_format_bytes(result.progress.bytes)} in {_format_seconds(result.progress.seconds)}."
    )
    failed = [outcome for outcome in result.outcomes if outcome.status == "failed"]
    if any(outcome.may_pass for outcome in failed):
        lines.append("The same command goes on where this one stopped.")
    if for_good := sum(not outcome.may_pass for outcome in failed):
        lines.append(f"{for_good:,} will fail again as asked for: beside each stands what would help.")
    if result.count("fetched"):
        lines.append(f"Next: daybook import {out}")
    return "\n".join(lines)
