"""CSV files that are safe to open in a spreadsheet: RFC 4180, UTF-8 without a mark, lines end with CR LF.

A spreadsheet runs a cell that starts with = + - @ (also after TAB, CR or LF, and in full-width form) as a
formula. Such text gets an apostrophe in front. Numbers never do, whether they come as numbers or as text
that is nothing but a number: -5 stays -5. Knows nothing of documents.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

Cell = str | int | float | None

FORMULA_START = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
FLOAT_DIGITS = 4  # fixed, so that the bytes do not depend on how a float prints


def write_csv(header: Sequence[str], lines: Iterable[Sequence[Cell]]) -> bytes:
    r"""Return a CSV file with a header row.

    >>> write_csv(["task_id", "score"], [["=1+1", -5], [None, 7.25]])
    b"task_id,score\r\n'=1+1,-5\r\n,7.2500\r\n"
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([format_cell(cell) for cell in line] for line in lines)
    return buffer.getvalue().encode()


def guard_text(text: str) -> str:
    """Return a text that no spreadsheet runs, from which `unguard_text` gives it back: also of one that is guarded."""
    return f"'{text}" if text.startswith("'") or FORMULA_START.match(text) else text


def unguard_text(cell: str) -> str:
    return cell.removeprefix("'")


def format_cell(cell: Cell) -> str:
    """Return a cell's text: empty for None, four decimals for floats, guarded if it could run as a formula."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.{FLOAT_DIGITS}f}"
    if isinstance(cell, int):
        return str(cell)
    is_formula = FORMULA_START.match(cell) and not PLAIN_NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell
