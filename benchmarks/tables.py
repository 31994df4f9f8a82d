"""Rows as tables, in plain text and in Markdown. A key's end says its unit: _seconds, _bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.results import Row

MEGABYTE = 1_000_000


def format_text_table(rows: Sequence[Row]) -> str:
    """Return rows as columns of equal width, numbers to the right."""
    titles, cells = _format_rows(rows)
    widths = [max(len(line[column]) for line in [titles, *cells]) for column in range(len(titles))]
    numeric = [_is_numeric(rows, key) for key in rows[0]] if rows else []

    def format_line(line: Sequence[str]) -> str:
        padded = zip(line, widths, numeric, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in padded).rstrip()

    return "\n".join([format_line(titles), format_line(["-" * width for width in widths]), *map(format_line, cells)])


def format_markdown_table(rows: Sequence[Row]) -> str:
    """Return rows as a table of a Markdown page."""
    titles, cells = _format_rows(rows)
    ruler = ["---:" if _is_numeric(rows, key) else "---" for key in rows[0]] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in [titles, ruler, *cells])


def _format_rows(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    keys = list(rows[0]) if rows else []
    return [format_title(key) for key in keys], [[format_cell(key, row[key]) for key in keys] for row in rows]


def format_title(key: str) -> str:
    """cpu_seconds -> "cpu s", peak_bytes -> "peak MB"."""
    words = key.replace("_", " ")
    return words.removesuffix(" seconds") + " s" if key.endswith("_seconds") else words.replace(" bytes", " MB")


def format_cell(key: str, value: Any) -> str:
    """Return a value as a reader wants it: three digits, thousands apart, "-" for nothing."""
    if value is None:
        return "-"
    if key.endswith("_bytes"):
        return format_number(value / MEGABYTE)
    return format_number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def format_number(value: float) -> str:
    """0.01234 -> "0.0123", 12.34 -> "12.3", 12345.6 -> "12,346"."""
    if value and abs(value) < 100:
        return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"
    return f"{value:,.0f}"


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    return all(isinstance(row[key], int | float) or row[key] is None for row in rows)
