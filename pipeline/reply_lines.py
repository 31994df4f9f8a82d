"""Reply lines: the same signs for every writer of dashes, blanks, emphasis, lists and tables. Knows nothing of scores.

Each line is kept as written, too:

    "> **Final Score** — ７／１０"  ->  text "Final Score – 7/10", an item
    "| **Total** | 7/10 |"         ->  cells ("Total", "7/10")
"""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST_LINE = 2_000  # characters read of a line: a score that stands later in one is prose
THINKING_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE | re.ASCII)
THINKING_START = re.compile(r"^[ \t]*<think(?:ing)?>", re.IGNORECASE | re.ASCII | re.MULTILINE)
PLAIN_SIGNS = str.maketrans(
    {
        **{chr(0xFF01 + offset): chr(0x21 + offset) for offset in range(94)},  # full-width forms of ASCII
        **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000\t", " "),
        **dict.fromkeys(
            "\u200b\u200c\u200d\u2060\ufeff\ufe0e\ufe0f\u20e3", ""
        ),  # also the parts of a boxed emoji digit
        **dict.fromkeys("\u2010\u2011\u2212", "-"),
        **dict.fromkeys("\u2012\u2014\u2015", "\u2013"),  # a long dash separates, a short one may be a minus sign
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("→⇒➜➔⟶", "→"),
        **dict.fromkeys("“”„", '"'),
        "≃": "≈",
        "≅": "≈",
    }
)
MARKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"~~[^~]*~~"), " "),  # struck out
    (re.compile(r"\\d?frac\{([0-9.]{1,9})\}\{([0-9.]{1,9})\}"), r"\1/\2"),
    (re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm) ?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\boxed ?\{([^{}]*)\}"), r"\1"),  # once more: the box around a text
    (re.compile(r"\\(?:rightarrow|to|implies)\b|--?>|=>"), "→"),
    (re.compile(r"\\approx\b|~="), "≈"),
    (re.compile(r"<((?:final|overall|total)?[-_ ]?score)>", re.IGNORECASE), r"\1: "),
    (re.compile(r"</?[A-Za-z][^<>]*>"), " "),
    (re.compile(r"\\[()\[\]]|[\\$*#`\"]"), ""),
    (re.compile(r"_"), " "),
    (re.compile(r"(?<=[0-9])½"), ".5"),
    (re.compile(r"(?<=[0-9])¼"), ".25"),
    (re.compile(r"(?<=[0-9])¾"), ".75"),
    (re.compile(r" {2,}"), " "),
)
ITEM_MARK = re.compile(r"(?: *(?:[-+•◦▪‣·>–]|\*|[0-9]{1,2}[.)]) )+|(?: *>)+")


class Line(NamedTuple):
    """One line that is not empty."""

    number: int  # counted without the empty lines: two statements are adjacent if their numbers are
    raw: str
    text: str  # without marks
    is_item: bool  # in a list, indented or quoted: the place of subtotals
    cells: tuple[str, ...]  # of a table row, otherwise empty


def drop_thinking(reply: str) -> str:
    """Return what follows the last closing thinking tag, up to a thought that begins a line and never ends."""
    ends = [match.end() for match in THINKING_END.finditer(reply)]
    answer = reply[ends[-1] :] if ends else reply
    unfinished = THINKING_START.search(answer)
    return answer[: unfinished.start()] if unfinished else answer


def split_into_lines(answer: str) -> list[Line]:
    """Return the lines that are not empty, each as written and in plain signs."""
    lines: list[Line] = []
    for raw in re.split(r"[\n\r\u2028\u2029\x85]+", answer):
        if raw.strip():
            lines.append(_make_line(len(lines), raw))
    return lines


def _make_line(number: int, raw: str) -> Line:
    signs = raw.translate(PLAIN_SIGNS)
    mark = ITEM_MARK.match(signs)
    is_item = mark is not None or len(signs) - len(signs.lstrip(" ")) >= 2
    text = signs[mark.end() :] if mark else signs
    if text.lstrip().startswith("|"):
        cells = tuple(remove_marks(cell) for cell in text[:LONGEST_LINE].strip(" |").split("|"))
        return Line(number, raw.strip(), " ".join(cells), is_item=True, cells=cells)
    return Line(number, raw.strip(), remove_marks(text), is_item, cells=())


def remove_marks(text: str) -> str:
    """Return the text without emphasis, headings, tags and formulas.

    >>> remove_marks("### **Final Score:** **8/10**")
    'Final Score: 8/10'
    """
    for pattern, plain in MARKS:
        text = pattern.sub(plain, text)
    return text.strip()
