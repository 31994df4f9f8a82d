"""How far an import is: one moving line in a terminal, a line every few seconds elsewhere. On standard error."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from pipeline.printing import format_duration

SECONDS_BETWEEN_UPDATES = 0.1
SECONDS_BETWEEN_LINES = 5.0
MEGABYTE = 1_000_000


class ImportDisplay:
    """Shows bytes, records, rate and time left of the step under way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._moves = stream, stream.isatty()
        self._interval = SECONDS_BETWEEN_UPDATES if self._moves else SECONDS_BETWEEN_LINES
        self._step, self._total_bytes = "", 0
        self._read_bytes = self._made = 0
        self._started = self._next = time.monotonic()

    def begin(self, step: str, total_bytes: int | None) -> None:
        """Begin a step, such as "keeping". `total_bytes`: None if nobody knows."""
        self._step, self._total_bytes = step, total_bytes or 0
        self._read_bytes = self._made = 0
        self._started = time.monotonic()
        self._next = self._started + self._interval

    def read(self, count: int) -> None:
        self._read_bytes += count
        self._update()

    def make(self, count: int) -> None:
        self._made += count
        self._update()

    def stop(self) -> None:
        """Clear the moving line."""
        if self._moves:
            print("\r\x1b[2K", end="", file=self._stream, flush=True)

    def describe(self, seconds: float) -> str:
        """Return how far the step is, `seconds` after it began: "reading: 512 of 1,024 MB, 31 MB/s, 0:16 left"."""
        rate = self._read_bytes / max(seconds, 1e-3)
        parts = [f"{self._step}: {self._read_bytes / MEGABYTE:,.0f}"]
        if self._total_bytes:
            parts[0] += f" of {self._total_bytes / MEGABYTE:,.0f}"
        parts[0] += " MB"
        if self._made:
            parts.append(f"{self._made:,} conversations")
        megabytes = rate / MEGABYTE
        parts.append(f"{megabytes:,.0f} MB/s" if megabytes >= 10 else f"{megabytes:.1f} MB/s")
        if self._total_bytes > self._read_bytes > 0:  # attachments are not read twice, others are
            parts.append(f"{format_duration((self._total_bytes - self._read_bytes) / rate)} left")
        return ", ".join(parts)

    def _update(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._interval
        text = self.describe(now - self._started)
        if self._moves:
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[2K{text}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)


def open_display() -> ImportDisplay:
    return ImportDisplay(sys.stderr)
