"""How far a step is that counts things: one moving line in a terminal, a line every few seconds elsewhere.

A step that is over at once shows nothing. On standard error.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from pipeline.printing import format_duration

SECONDS_BEFORE_FIRST = 0.5
SECONDS_BETWEEN_UPDATES = 0.1
SECONDS_BETWEEN_LINES = 5.0


class StepDisplay:
    """Is called with the name of a step, how much of it is done, and of how much; 0: nobody knows."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._moves = stream, stream.isatty()
        self._step, self._started, self._next = "", 0.0, 0.0
        self._has_line = False

    def __call__(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step != self._step:
            self._step, self._started = step, now
            self._next = now + (SECONDS_BEFORE_FIRST if self._moves else SECONDS_BETWEEN_LINES)
        if not total:
            self._show(step)
        elif now >= self._next:
            self._next = now + (SECONDS_BETWEEN_UPDATES if self._moves else SECONDS_BETWEEN_LINES)
            self._show(describe_step(step, done, total, now - self._started))

    def stop(self) -> None:
        """Clear the moving line."""
        if self._has_line:
            print("\r\x1b[2K", end="", file=self._stream, flush=True)
            self._has_line = False

    def _show(self, text: str) -> None:
        if self._moves:
            text = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[2K{text}", end="", file=self._stream, flush=True)
            self._has_line = True
        else:
            print(text, file=self._stream, flush=True)


def describe_step(step: str, done: int, total: int, seconds: float) -> str:
    """Return how far a step is, `seconds` after it began.

    >>> describe_step("rendering", 50, 200, 5.0)
    'rendering: 50 of 200, 10 a second, 0:15 left'
    """
    text = f"{step}: {done:,} of {total:,}"
    if not done:
        return text
    rate = done / max(seconds, 1e-3)
    return f"{text}, {rate:,.0f} a second, {format_duration((total - done) / rate)} left"


def open_step_display() -> StepDisplay:
    return StepDisplay(sys.stderr)
