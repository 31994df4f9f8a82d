"""Scores: a number on a judge's scale, and how it was read. Pure; knows nothing of replies, files or models.

The modules that read one:

    prose_scores         the score that a judge states in prose
      reply_lines          a reply's lines in plain signs, without what the model thought aloud
      score_values         one value: a number, a fraction, a sum, or an exact number and its rounding
      score_statements     where a reply states an overall score
    json_scores          the number "score" of a JSON object
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from pipeline.errors import InputInvalid

LONGEST_QUOTE = 300  # characters of a line kept in a score or an error


class ScaleInvalid(InputInvalid, ValueError):
    """A scale is not written as "low-high"."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"Scale {text!r} is not usable. Expected two numbers, the lower one first, such as '0-10'.")


class Scale(NamedTuple):
    """The lowest and the highest score that a judge may give."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Return the scale written as "0-10", "0–10" or "0 to 10". Raises ScaleInvalid."""
        match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(?:-|–|to)\s*(\d{1,9}(?:\.\d{1,9})?)\s*", text, re.ASCII)
        if not match or float(match[1]) >= float(match[2]):
            raise ScaleInvalid(text)
        return cls(float(match[1]), float(match[2]))

    def __str__(self) -> str:
        return f"{format_score(self.low)}-{format_score(self.high)}"


class Score(NamedTuple):
    """A judge's overall score, and how it was read."""

    value: float
    scale: Scale
    strategy: str  # the form that matched, such as "line_fraction" or "next_line_number"
    line: str  # where it was read, so that a reader can check


def format_score(value: float) -> str:
    """Return the shortest plain decimal.

    >>> format_score(7.0), format_score(8.5), format_score(6.25)
    ('7', '8.5', '6.25')
    """
    text = format(Decimal(repr(float(value))), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def shorten(text: str) -> str:
    """Return the text as a score or an error quotes it."""
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"
