"""Score statements: where a reply states an overall score. Finds them all; which one counts is not decided here.

A line states an overall score if it begins with an overall label and goes on with a value:

    **SCORE:** 7/10   Final score = 7   Total Score (0-10): 7     line: label, note on the scale, separator, value
    ## Final Score / **7/10**                                     next_line: the label alone, then the value
    | **Total** | 4/5 | 3/5 | 7/10 |                              table: the label is the first cell
    It therefore earns a score of 7/10.                           sentence: only where no line states a score
    7/10                                                          lone: the last line, only where no sentence does

Each statement of a line or table has a rank, by its label and its value:

    3   the last word           "Final Score: 7", "Overall Rating: 7"; "SCORE: 7/10" outside lists; "Total Score: 7/10"
    2   overall, if nothing     "SCORE: 7" outside lists, "- Score: 7/10" in one; "Total Score: 7"; "Total: 7/10", which
        ranks higher            without the word score needs its denominator
    1   more likely a part      "- Score: 1" in a list, where judges put the scores of parts

    find_statements
      _read_line                 up to the value
        _read_scale_note           "Score (0-10): 7"
        _is_template_line          "SCORE: 0-10", the prompt's own line repeated, is no statement
        read_value
        _read_closing_total        "Concepts (3/5) + Connections (3/5) = 6/10"
        _read_next_line
      _read_table_row
      _make_statement, _rank
    find_sentence_score
    find_lone_fraction
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.errors import ParseError
from pipeline.reply_lines import LONGEST_LINE, Line
from pipeline.score_values import (
    DIGITS,
    NUMBER,
    Value,
    find_fractions,
    find_labelled_fractions,
    is_same,
    number_of,
    read_value,
    to_float,
)
from pipeline.scores import Scale, shorten

FILLERS = (
    r"the|my|our|this|thus|therefore|hence|so|consequently|accordingly|and|in conclusion|in summary|"
    r"step [0-9]\b:?|fidelity|evaluation|evaluator|verification|rubric|numeric|numerical|"
    r"assigned|given|awarded|resulting|"
    r"calculated|computed|adjusted|revised|corrected|rounded|raw|exact|unrounded|recommended|text|response|essay|judge"
)
STRONG_NOUNS = r"score|rating|grade"
WEAK_NOUNS = r"total|overall|final|points|result|verdict|assessment|sum|tally|marks?"
LABEL = re.compile(
    rf"(?P<words>(?:(?:{FILLERS}|final|overall|total|grand|combined|cumulative|aggregate|composite)"
    rf"(?![A-Za-z])[ ,]*){{0,7}})"
    rf"(?:(?P<strong>{STRONG_NOUNS})|(?P<weak>{WEAK_NOUNS}))\b"
    r"(?: (?:awarded|assigned|given)| (?:for|of) (?:fidelity|(?:the|this) "
    r"(?:text|response|essay|answer|submission|document))"
    r"|(?P<account> (?:breakdown|calculation|computation|summary|justification|explanation)))?",
    re.IGNORECASE,
)
SCALE_NOTE = re.compile(
    rf" ?(?:[(\[] ?)?(?:on a scale (?:of|from) |scale:? |max(?:imum)?:? |out of |from |/ ?|of )?"
    rf"(?:(?P<low>{DIGITS}) ?(?:-|–|to) ?)?(?P<high>{DIGITS})(?: ?(?:points?|pts?|scale|max))?"
    r"(?: ?[)\]])?(?= ?(?:[:=|–-]|$))",
    re.IGNORECASE,
)
CLOSING_TOTAL = re.compile(r"(?:=|\btotal(?: score)?:?) ?(?=[0-9.,]+ ?(?:/|out of) ?[0-9.]+[ .)]*$)", re.IGNORECASE)
PLAIN_NOTE = re.compile(r" ?[(\[](?:final|overall|total|exact|rounded|unrounded|sum)[)\]]", re.IGNORECASE)
SEPARATOR = re.compile(r" ?(?P<sign>:=|[:=|→]|-{1,2}|–|is\b|of\b|was\b|)(?: ?[:=](?!=))? ?", re.IGNORECASE)
REFUSAL = re.compile(
    r"(?:n/?a|none|null|not applicable|unscorable|cannot|withheld|unable|zero|one|two|three|"
    r"four|five|six|seven|eight|nine|ten)\b",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(r"[<\[({]? ?(?:score|number|value|x|n|y|z)\b ?[>\])}]?(?: ?/ ?[0-9]+)?[ .]*$", re.IGNORECASE)


class Statement(NamedTuple):
    """One overall score as a reply states it."""

    value: Value
    rank: int  # 3: closes the reply. 2: an overall score unless something contradicts. 1: more likely a subtotal
    label: str
    line: Line
    quote: str
    where: str  # line, next_line, table, sentence or lone

    @property
    def is_decisive(self) -> bool:
        """Whether the label itself says that this is the last word: the prompt's own SCORE, or a final score."""
        has_last_word = re.search(r"\b(?:final|overall|revised|corrected)\b", self.label, re.IGNORECASE) is not None
        return has_last_word or self.is_asked_label

    @property
    def is_asked_label(self) -> bool:
        return self.label.strip() == "SCORE"

    @property
    def is_qualified(self) -> bool:
        return self.is_decisive or "total" in self.label.lower()


def find_statements(lines: Sequence[Line], scale: Scale) -> list[Statement]:
    """Return every overall score that a line or a pair of lines states, in order."""
    found: list[Statement] = []
    for line in lines:
        label = LABEL.match(line.text)
        if label is None:
            continue
        following = lines[line.number + 1] if line.number + 1 < len(lines) else None
        statement = _read_table_row(line, label, scale) if line.cells else _read_line(line, label, following, scale)
        if statement is not None:
            found.append(statement)
    return found


def _read_line(line: Line, label: re.Match[str], following: Line | None, scale: Scale) -> Statement | None:
    text = line.text[:LONGEST_LINE]
    while True:
        note, rest = _read_scale_note(text, label.end())
        separator = SEPARATOR.match(text, rest)
        assert separator is not None  # it may be empty
        inner = LABEL.match(text, separator.end())  # "SCORE: Final Score 7/10"
        if inner is None or not separator["sign"]:
            break
        label = inner
    remainder = text[separator.end() :]
    if not remainder:
        return _read_next_line(line, label, following, note, scale) if following else None
    if _is_template_line(remainder, scale):
        return None
    if _has_minus(text, separator):
        value: Value | None = Value(-1, problem="score_out_of_range")
    else:
        value = read_value(remainder, scale, strict=not separator["sign"])
    value = value or _read_closing_total(remainder, scale)
    if value is None and REFUSAL.match(remainder) and separator["sign"] and not line.is_item:
        value = Value(0, problem="missing_score")
    return _make_statement(value, note, label, line, quote=line.raw, where="line", scale=scale)


def _read_scale_note(text: str, position: int) -> tuple[float | None, int]:
    """Return the highest score that a label's note names, as in "Score (0-10): 7", and where the note ends."""
    plain = PLAIN_NOTE.match(text, position)
    if plain is not None:
        return None, plain.end()
    note = SCALE_NOTE.match(text, position)
    if note is None or re.fullmatch(r" ?[0-9.,]+", note[0]):  # "Score 7 - good": a value, no note
        return None, position
    is_worded = re.match(r" ?(?:[(\[]|on |scale|max|out |from )", note[0], re.IGNORECASE) is not None
    return (to_float(note["high"]), note.end()) if is_worded else (None, position)


def _has_minus(text: str, separator: re.Match[str]) -> bool:
    """Tell whether the value is negative: "Score: -3" and "Score -3", but not "Score - 3"."""
    if separator["sign"] in {"-", "--"}:
        is_attached = re.match(r" -[0-9]", text[separator.start() : separator.end() + 1]) is not None
        return is_attached or text[separator.end()] == "-"
    return re.match(r"[-–] ?[0-9]", text[separator.end() :]) is not None


def _is_template_line(remainder: str, scale: Scale) -> bool:
    """Tell whether the line is the prompt's own, echoed: "0-10", "[0-10]", "X", "<score>"."""
    if PLACEHOLDER.match(remainder):
        return True
    echoed = re.match(rf"[<\[({{]? ?({DIGITS}) ?(?:-|–|to) ?({DIGITS}) ?[>\])}}]?[ .]*$", remainder)
    return echoed is not None and is_same(to_float(echoed[1]), scale.low) and is_same(to_float(echoed[2]), scale.high)


def _read_closing_total(text: str, scale: Scale) -> Value | None:
    """Return the total of "Core Concepts (3/5) + Connections (3/5) = 6/10": the only full fraction, and the end."""
    total = CLOSING_TOTAL.search(text)
    fractions = list(find_fractions(text, scale)) if total else []
    number = NUMBER.match(text, total.end()) if total else None
    is_total = number is not None and len(fractions) == 1 and text[number.end() :].strip(" .)") == ""
    return Value(fractions[0], scale.high, "sum") if is_total else None


def _read_next_line(
    line: Line, label: re.Match[str], following: Line, note: float | None, scale: Scale
) -> Statement | None:
    text = following.text[:LONGEST_LINE]
    if following.cells or _is_template_line(text, scale) or re.match(r" *[0-9]{1,2}[.)] ", following.raw):
        return None
    is_negative = re.match(r"-[0-9]", text) is not None
    value = Value(-1, problem="score_out_of_range") if is_negative else read_value(text, scale, strict=True)
    quote = f"{line.raw} {following.raw}"
    return _make_statement(value, note, label, line, quote=quote, where="next_line", scale=scale)


def _read_table_row(line: Line, label: re.Match[str], scale: Scale) -> Statement | None:
    """Return the score of "| Total | 7/10 |"; among several cells only a single full fraction counts."""
    if label.end() < len(line.cells[0]) and not SCALE_NOTE.fullmatch(line.cells[0], label.end()):
        return None
    note, _ = _read_scale_note(line.cells[0], label.end())
    values = [value for cell in line.cells[1:] if (value := read_value(cell, scale, strict=True)) is not None]
    full = [value for value in values if value.of is not None and is_same(value.of, scale.high)]
    if len(values) > 1 and len(full) != 1:
        has_numbers_only = all(value.of is None for value in values)
        values = [Value(0, problem="ambiguous_score")] if full or has_numbers_only else values[:1]
    value = full[0] if len(full) == 1 else (values[0] if values else None)
    return _make_statement(value, note, label, line, quote=line.raw, where="table", scale=scale)


def _make_statement(
    value: Value | None, note: float | None, label: re.Match[str], line: Line, *, quote: str, where: str, scale: Scale
) -> Statement | None:
    if value is None:
        return None
    if note is not None and value.of is None:
        value = value._replace(of=note, form="fraction" if value.form == "number" else value.form)
    is_full = value.of is not None and is_same(value.of, scale.high)
    if label["weak"] and not is_full and (value.of is None or value.problem):
        return None  # "Total: 4" counts anything
    if label["account"] and not is_full:
        return None  # "Score Breakdown: 3/5" begins with a part
    rank = _rank(label, is_full=is_full, is_item=line.is_item and not line.cells)
    return Statement(value, rank, label[0], line, quote, where)


def _rank(label: re.Match[str], *, is_full: bool, is_item: bool) -> int:
    if label["weak"] or label["account"]:
        return 2
    if re.search(r"final|overall", label["words"], re.IGNORECASE):
        return 3
    is_plain = "total" not in label["words"].lower()
    if is_item and is_plain:
        return 2 if is_full else 1
    return 3 if is_full else 2


def find_sentence_score(lines: Sequence[Line], scale: Scale) -> Statement | None:
    """Return the score that sentences state in full, "... a score of 7/10"; they must agree."""
    found = [(line, number) for line in lines if not line.cells for number in find_labelled_fractions(line.text, scale)]
    if not found:
        return None
    line, number = found[-1]
    if any(not is_same(other, number) for _, other in found):
        raise ParseError("ambiguous_score", f"Sentences state different scores; the last is {shorten(line.raw)!r}.")
    return Statement(Value(number, scale.high, "fraction"), 2, "", line, line.raw, "sentence")


def find_lone_fraction(lines: Sequence[Line], scale: Scale) -> Statement | None:
    """Return the score of a last line that is nothing but "7/10"."""
    match = NUMBER.match(lines[-1].text) if lines else None
    value = number_of(match) if match else None
    if match is None or value is None or value.of is None or not is_same(value.of, scale.high):
        return None
    if lines[-1].cells or lines[-1].is_item or lines[-1].text[match.end() :].strip(" ."):
        return None
    return Statement(value, 2, "", lines[-1], lines[-1].raw, "lone")
