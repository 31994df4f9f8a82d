"""Scores: from a judge's reply to a number on a scale. Pure; knows nothing of files, models or Luigi.

A wrong number is worse than none, so every form that is not understood is refused with a reason.
A judge's prose is read in this order:

    parse_prose_score
      drop_thinking            what a model thought aloud is no answer
      split_into_lines         the same signs for every writer: dashes, blanks, emphasis, lists, tables
      find_statements          lines that begin with an overall label ("Final Score:") and go on with a value
        read_value             one number, fraction, sum or rounding; a range or a choice is a problem
      choose_statement         one overall score among subtotals, repetitions, roundings and corrections
      find_sentence_score      only where no such line exists: "... which results in a score of 7/10."

A value is never rescaled: 7/10 is no score on a scale of 0 to 9, and 3/5 is a subtotal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pipeline.errors import InputInvalid, ParseError

LONGEST_LINE = 2_000  # characters read of a line: a score that stands later in one is prose
LONGEST_QUOTE = 300  # characters of a line kept in a score or an error
TOLERANCE = 1e-9


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


def parse_prose_score(reply: str, scale: Scale) -> Score:
    r"""Return the overall score that a judge states in prose, before the judge's own rounding.

    "**SCORE:** 6.5/10 (rounded to 7)" on 0-10 -> value 6.5, strategy "line_fraction_before_rounding".

    Among several overall scores the last one counts. Raises ParseError: empty, missing_score,
    score_out_of_range, scale_mismatch (a fraction of something else than the scale's highest score) or
    ambiguous_score (a range, a choice, or statements that cannot be reconciled).
    """
    answer = drop_thinking(reply)
    if not answer.strip():
        raise ParseError("empty", "The reply has no text outside its thinking. A line such as 'SCORE: 7' was expected.")
    lines = split_into_lines(answer)
    chosen = choose_statement(find_statements(lines, scale), scale)
    chosen = chosen or find_sentence_score(lines, scale) or find_lone_fraction(lines, scale)
    if chosen is None:
        raise _explain_no_score(lines, scale)
    return _accept(chosen, scale)


# --- the reply, made plain ---------------------------------------------------------------------------------------

THINKING_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE | re.ASCII)
THINKING_START = re.compile(r"^[ \t]*<think(?:ing)?>", re.IGNORECASE | re.ASCII | re.MULTILINE)


def drop_thinking(reply: str) -> str:
    """Return what follows the last closing thinking tag, up to a thought that begins a line and never ends."""
    ends = [match.end() for match in THINKING_END.finditer(reply)]
    answer = reply[ends[-1] :] if ends else reply
    unfinished = THINKING_START.search(answer)
    return answer[: unfinished.start()] if unfinished else answer


class Line(NamedTuple):
    """One line that is not empty."""

    number: int  # counted without the empty lines: two statements are adjacent if their numbers are
    raw: str
    text: str  # without marks
    is_item: bool  # in a list, indented or quoted: the place of subtotals
    cells: tuple[str, ...]  # of a table row, otherwise empty


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


# --- one value ---------------------------------------------------------------------------------------------------

DIGITS = r"[0-9]{1,9}(?:[.,][0-9]{1,9})?(?![0-9])"
OUT_OF = r" ?(?:points?|pts?)?(?: ?/ ?| out of (?:a possible |a total of |a maximum of )?(?:the )?| of (?=[0-9]))"
NUMBER = re.compile(
    rf"(?P<number>{DIGITS})"
    rf"(?:{OUT_OF}(?P<of>{DIGITS}|ten\b)|(?P<percent> ?%| percent\b))?"
    r"(?![0-9A-Za-z]|\.[0-9]|,[0-9]|/|\^)",
    re.IGNORECASE,
)
POINTS = re.compile(r" ?(?:points?|pts?)\b\.?", re.IGNORECASE)
ROUNDING = re.compile(r"round|≈|→|nearest", re.IGNORECASE)
BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
SCALE_IN_BRACKETS = re.compile(
    rf" ?(?:points? |pts? )?(?:[(\[] ?(?:on a scale (?:of|from) |out of |of |"
    rf"max(?:imum)?:? |/ ?|from |{DIGITS} ?(?:-|–|to) ?)"
    rf"|on a scale (?:of|from) )(?:{DIGITS} ?(?:-|–|to) ?)?"
    rf"(?P<high>{DIGITS})(?: ?(?:points?|pts?|scale|max))?(?: ?[)\]])?",
    re.IGNORECASE,
)
PART_NAME = re.compile(
    r" ?[(\[](?:for |in |the |core )*(?:concepts?|connections?|subtotal|partial|part|section)\b[^0-9()]*[)\]]",
    re.IGNORECASE,
)
ANOTHER_VALUE = re.compile(
    r" ?(?:[-–~/&,;+±]|\.\.+|…|to\b|or\b|and\b|and/or\b|versus\b|vs\b|\(? ?or\b)"
    r" ?(?:maybe |perhaps |possibly |even |a )?(?=[0-9])",
    re.IGNORECASE,
)
OPEN_END = re.compile(r" ?(?:\+|±|-$|–$|\.\.|…|\?|%|x\b|times\b)", re.IGNORECASE)
PLAIN_END = re.compile(
    r" ?(?:$|[.,;:!)\]}|(\[–=]|- |≈|→|because\b|since\b|as\b|due\b|based\b|given\b|overall\b|round)", re.IGNORECASE
)


class Value(NamedTuple):
    """A value as stated. A problem is the reason why it cannot be used, and then `number` means nothing."""

    number: float
    of: float | None = None  # the denominator
    form: str = "number"  # number, fraction or sum
    is_rounded: bool = False  # the judge rounds it on the same line; `number` is the exact value
    problem: str | None = None


def read_value(text: str, scale: Scale, *, strict: bool) -> Value | None:
    """Return the value that a text begins with, or None if it begins with none.

    `strict` demands that nothing but notes in brackets or punctuation follows a number without denominator.
    """
    text = text.lstrip(" ")
    total = _find_total_of_sum(text)
    if total is not None:
        value = read_value(total, scale, strict=strict)
        return value and value._replace(form="sum")
    opened = re.match(r"[(\[{<] ?", text)
    text = text[opened.end() :] if opened else text
    match = NUMBER.match(text)
    if match is None:
        return Value(0, problem="ambiguous_score") if re.match(r"[-–+~≈<>±]? ?[0-9]", text) else None
    rest = text[match.end() :]
    rest = re.sub(r"^ ?[)\]}>]", "", rest, count=1) if opened else rest
    return _read_rest(_number_of(match), rest, scale, strict=strict)


def _find_total_of_sum(text: str) -> str | None:
    """Return what follows the equals sign of "3 (concepts) + 3 (connections) = 6/10"."""
    flat = BRACKETED.sub(lambda match: "·" * len(match[0]), text)  # same length: positions stay true
    equals = flat.find("=")
    starts_with_addend = re.match(r"[0-9·]", flat) is not None
    if equals < 0 or not starts_with_addend or ("+" not in flat[:equals] and flat[:equals].strip(" ·")):
        return None
    last = equals
    while (following := re.match(r"= ?[0-9.]+ ?\+[^=]*=", flat[last:])) is not None:  # "(1+2) + 3 = 3 + 3 = 6"
        last += following.end() - 1
    return text[last + 1 :]


def _number_of(match: re.Match[str]) -> Value:
    of = match["of"]
    if of is not None:
        return Value(_to_float(match["number"]), 10.0 if of.lower() == "ten" else _to_float(of), "fraction")
    if match["percent"] is not None:
        return Value(_to_float(match["number"]), 100.0, "fraction")
    return Value(_to_float(match["number"]))


def _to_float(digits: str) -> float:
    """Return the number; a comma is a decimal comma, unless three digits follow as in 1,000."""
    return float(digits.replace(",", "") if re.search(r",[0-9]{3}$", digits) else digits.replace(",", "."))


def _read_rest(value: Value, rest: str, scale: Scale, *, strict: bool) -> Value | None:
    """Return the value in the light of what follows it: a rounding, another value, notes, or a stray word."""
    unsure = Value(value.number, value.of, value.form, problem="ambiguous_score")
    bracket = SCALE_IN_BRACKETS.match(rest) if value.of is None else None
    if bracket is not None:  # "7 (out of 10)"
        value, rest = value._replace(of=_to_float(bracket["high"]), form="fraction"), rest[bracket.end() :]
    points = POINTS.match(rest)
    rest = rest[points.end() :] if points else rest
    flat_rest = BRACKETED.sub("", rest)
    others = _find_other_values(value, rest, scale)
    if ROUNDING.search(rest.partition(". ")[0]) and others is not None:
        return _apply_rounding(value, others) or unsure
    if OPEN_END.match(rest) or OPEN_END.match(flat_rest) or (value.of is None and PART_NAME.match(rest)):
        return unsure
    if _offers_another(value, rest) or _offers_another(value, flat_rest):
        return unsure
    if value.of is None and any(not _is_same(other, value.number) for other in _find_fractions(rest, scale)):
        return unsure
    if value.of is None and not PLAIN_END.match(rest):
        return None if strict else unsure
    if value.of is None and strict and not re.fullmatch(r" ?[.!)\]]?", flat_rest):
        return None
    if any(not _is_same(other, value.number) for other in _find_labelled_fractions(rest, scale)):
        return unsure
    return value


ROUNDED_VALUE = re.compile(
    rf"(?:round(?:ed|s|ing)?(?: (?:up|down|off|it|here|therefore))*(?: to the nearest (?:whole|integer|half)(?: "
    rf"(?:number|point|integer))?)?(?: (?:to|as|from|at|is|gives|:|=|→))? ?|[≈→] ?)[(\[]? ?"
    rf"(?P<number>{DIGITS})(?:{OUT_OF}(?P<of>{DIGITS}))?",
    re.IGNORECASE,
)
EXACT_IN_BRACKETS = re.compile(
    rf" ?[(\[] ?(?:from |exact(?:ly)?:? |calculated:? )?(?P<number>{DIGITS})(?:{OUT_OF}(?P<of>{DIGITS}))?"
    r",? (?:is )?round",
    re.IGNORECASE,
)


def _find_other_values(value: Value, rest: str, scale: Scale) -> list[float] | None:
    """Return the values that are stated as roundings of this one, or None for a talk of rounding without a number."""
    matches = [*ROUNDED_VALUE.finditer(rest), *EXACT_IN_BRACKETS.finditer(rest)]
    of = value.of if value.of is not None else scale.high
    usable = [match for match in matches if match["of"] is None or _is_same(_to_float(match["of"]), of)]
    return [_to_float(match["number"]) for match in usable] or None


def _apply_rounding(value: Value, others: Sequence[float]) -> Value | None:
    """Return the exact one of a value and its roundings, or None if they are no roundings of one another."""
    for exact in (value.number, *others):
        if all(_is_same(exact, other) or is_rounding(exact, other) for other in (value.number, *others)):
            has_rounding = any(not _is_same(exact, other) for other in (value.number, *others))
            return value._replace(number=exact, is_rounded=has_rounding)
    return None


def is_rounding(exact: float, rounded: float) -> bool:
    """Tell whether `rounded` is `exact` in coarser steps: 6.5 to 7 or 6, 6.25 to 6.5."""
    to_whole = rounded == int(rounded) and exact != int(exact) and abs(exact - rounded) < 1
    to_half = (
        rounded * 2 == int(rounded * 2) and exact * 2 != int(exact * 2) and abs(exact - rounded) <= 0.25 + TOLERANCE
    )
    return to_whole or to_half


def _offers_another(value: Value, rest: str) -> bool:
    """Tell whether another value of the same kind follows: "7-8", "7/10 or 8/10", but not "7/10, 4/5 for concepts"."""
    link = ANOTHER_VALUE.match(rest)
    other = NUMBER.match(rest, link.end()) if link else None
    if link is None or other is None:
        return link is not None
    if value.of is None or re.search(r"\bor\b|\bto\b|[-–/+±~]$", link[0].strip(), re.IGNORECASE) is None:
        return other["of"] is None if value.of is None else _is_same(_number_of(other).of or -1, value.of)
    return other["of"] is None or _is_same(_number_of(other).of or -1, value.of)


def _find_fractions(text: str, scale: Scale) -> Iterator[float]:
    for match in NUMBER.finditer(text):
        value = _number_of(match)
        if value.of is not None and _is_same(value.of, scale.high):
            yield value.number


def _is_same(first: float, second: float) -> bool:
    return abs(first - second) <= TOLERANCE


# --- lines that state an overall score ---------------------------------------------------------------------------

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


def _read_closing_total(text: str, scale: Scale) -> Value | None:
    """Return the total of "Core Concepts (3/5) + Connections (3/5) = 6/10": the only full fraction, and the end."""
    total = CLOSING_TOTAL.search(text)
    fractions = list(_find_fractions(text, scale)) if total else []
    number = NUMBER.match(text, total.end()) if total else None
    is_total = number is not None and len(fractions) == 1 and text[number.end() :].strip(" .)") == ""
    return Value(fractions[0], scale.high, "sum") if is_total else None


def _read_scale_note(text: str, position: int) -> tuple[float | None, int]:
    """Return the highest score that a label's note names, as in "Score (0-10): 7", and where the note ends."""
    plain = PLAIN_NOTE.match(text, position)
    if plain is not None:
        return None, plain.end()
    note = SCALE_NOTE.match(text, position)
    if note is None or re.fullmatch(r" ?[0-9.,]+", note[0]):  # "Score 7 - good": a value, no note
        return None, position
    is_worded = re.match(r" ?(?:[(\[]|on |scale|max|out |from )", note[0], re.IGNORECASE) is not None
    return (_to_float(note["high"]), note.end()) if is_worded else (None, position)


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
    return (
        echoed is not None and _is_same(_to_float(echoed[1]), scale.low) and _is_same(_to_float(echoed[2]), scale.high)
    )


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
    full = [value for value in values if value.of is not None and _is_same(value.of, scale.high)]
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
    is_full = value.of is not None and _is_same(value.of, scale.high)
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


# --- one statement among several ---------------------------------------------------------------------------------


def choose_statement(statements: Sequence[Statement], scale: Scale) -> Statement | None:
    """Return the statement of the overall score, or None where all are subtotals.

    The last statement of the highest rank counts. What contradicts it afterwards, or a correction that
    does not say that it is one, is ambiguous. An exact value counts more than its later rounding.
    """
    fitting = [statement for statement in statements if not _is_mismatched(statement, scale)]
    mismatched = [statement for statement in statements if _is_mismatched(statement, scale)]
    certain = [statement for statement in fitting if statement.rank >= 2]
    if not certain:
        return _choose_item(fitting, mismatched)
    highest = max(statement.rank for statement in certain)
    chosen = [statement for statement in certain if statement.rank == highest][-1]
    _check_later_statements(chosen, certain)
    exact = _find_exact_statement(chosen, certain)
    _check_earlier_statements(chosen, certain, exact)
    _check_mismatched(exact or chosen, mismatched, scale)
    return exact or chosen


def _is_mismatched(statement: Statement, scale: Scale) -> bool:
    return statement.value.of is not None and not _is_same(statement.value.of, scale.high)


def _choose_item(items: Sequence[Statement], mismatched: Sequence[Statement]) -> Statement | None:
    """Return the only score in a list if the reply states no other. Raises ParseError if there are several."""
    if len(items) > 1 and not mismatched:
        raise ParseError(
            "ambiguous_score", f"{len(items)} scores stand in lists and none is overall; {_quote(items[-1])}."
        )
    return items[0] if items and not mismatched else None


def _check_later_statements(chosen: Statement, certain: Sequence[Statement]) -> None:
    for later in certain[certain.index(chosen) + 1 :]:
        if chosen.value.problem is None and not _agrees(chosen, later):
            raise _disagreement(chosen, later)


def _check_earlier_statements(chosen: Statement, certain: Sequence[Statement], exact: Statement | None) -> None:
    if chosen.value.problem is not None:
        return
    earlier = [other for other in certain if other.rank == chosen.rank and other.line.number < chosen.line.number]
    against = [other for other in earlier if other is not exact and not _agrees(other, chosen)]
    if not against:
        return
    numbers = [statement.value.number for statement in (*earlier, chosen)]
    is_sum = len(numbers) > 2 and _is_same(sum(numbers[:-1]), numbers[-1])
    is_breakdown = len(numbers) > 2 and _is_same(sum(numbers[1:]), numbers[0])
    is_adjacent = chosen.line.number - against[-1].line.number == 1 and _has_same_label(chosen, against[-1])
    if not is_sum and (is_breakdown or not (chosen.is_decisive or is_adjacent)):
        raise _disagreement(against[-1], chosen)


def _has_same_label(first: Statement, second: Statement) -> bool:
    return first.label.strip().lower() == second.label.strip().lower()


def _agrees(first: Statement, second: Statement) -> bool:
    """Tell whether the second says the same as the first, or rounds it."""
    if second.value.problem is not None or first.value.problem is not None:
        return False
    return _is_same(first.value.number, second.value.number) or is_rounding(first.value.number, second.value.number)


def _find_exact_statement(chosen: Statement, certain: Sequence[Statement]) -> Statement | None:
    """Return the overall score of which a later one is the rounding, such as "Total score: 6.5/10"."""
    if any(_agrees(chosen, later) and not _agrees(later, chosen) for later in certain[certain.index(chosen) + 1 :]):
        return chosen._replace(value=chosen.value._replace(is_rounded=True))
    for other in reversed(certain[: certain.index(chosen)]):
        is_overall = other.value.of is not None or other.is_qualified or chosen.line.number - other.line.number == 1
        is_usable = is_overall and chosen.value.problem is None and other.value.problem is None
        if is_usable and is_rounding(other.value.number, chosen.value.number):
            return other._replace(value=other.value._replace(is_rounded=True))
    return None


def _check_mismatched(chosen: Statement, mismatched: Sequence[Statement], scale: Scale) -> None:
    """Refuse a score if fractions of something else may be the overall score, or put it among the subtotals."""
    for other in mismatched:
        is_closing = other.line.number > chosen.line.number and other.is_decisive and not other.line.is_item
        if is_closing and not _is_same_share(other, chosen, scale):
            raise _mismatch(other, scale)
    if chosen.value.of is None:
        _check_number_among_fractions(chosen, mismatched, scale)


def _check_number_among_fractions(chosen: Statement, mismatched: Sequence[Statement], scale: Scale) -> None:
    for other in mismatched:
        is_same_number = other.is_qualified and _is_same(other.value.number, chosen.value.number)
        if (other.value.of or 0) > scale.high or is_same_number:
            raise _mismatch(other, scale)
    fractions = [other.value for other in mismatched]
    if not fractions or chosen.is_qualified or chosen.value.problem is not None:
        return
    is_above = chosen.value.number > max(value.of or 0 for value in fractions)
    is_last = chosen.line.number > mismatched[-1].line.number
    if not is_last or not (is_above or _is_same(sum(value.number for value in fractions), chosen.value.number)):
        raise ParseError("ambiguous_score", f"A number stands among subtotals; {_quote(chosen)}.")


def _is_same_share(first: Statement, second: Statement, scale: Scale) -> bool:
    of = first.value.of or 0
    return of > 0 and _is_same(first.value.number / of, second.value.number / scale.high)


# --- where no line states a score --------------------------------------------------------------------------------

SUBJECTS = r"text|response|essay|answer|submission|document|it|this"
SENTENCE_SCORE = re.compile(
    r"(?:\b(?:a|an|the|my|its|resulting) (?:score|rating|total)(?: of| is| at)"  # "a score of", never "novelty score:"
    r"|\b(?:final|overall|total|combined) (?:score|rating)(?: of| is| at)?"
    rf"|\b(?:{SUBJECTS}) (?:therefore |thus |only |overall )?"
    r"(?:earns|receives|merits|deserves|gets|scores|scored|earned|received)"
    r"|\b(?:score|rate|rated|scored|scoring) (?:this|it|the text|the response|the essay)(?: at| as)?)"
    r"(?: (?:a|an|the|therefore|thus|only|final|overall|total|score|rating|of)\b){0,6}[ :=]*(?=[0-9])",
    re.IGNORECASE,
)
PART_FOLLOWS = re.compile(r" (?:for|on|in|from)\b", re.IGNORECASE)  # "a score of 8/10 for novelty"
HEDGE = re.compile(
    r"\b(?:would|could|might|may|if|not|no|without|had|should|unless|maximum|max|most|least|possible|instead|rather|example|"
    r"concepts?|connections?|subtotal|section|part|between|another|previous|prior)\b|n't\b|n’t\b",
    re.IGNORECASE,
)


def find_sentence_score(lines: Sequence[Line], scale: Scale) -> Statement | None:
    """Return the score that sentences state in full, "... a score of 7/10"; they must agree."""
    found = [
        (line, number) for line in lines if not line.cells for number in _find_labelled_fractions(line.text, scale)
    ]
    if not found:
        return None
    line, number = found[-1]
    if any(not _is_same(other, number) for _, other in found):
        raise ParseError("ambiguous_score", f"Sentences state different scores; the last is {_shorten(line.raw)!r}.")
    return Statement(Value(number, scale.high, "fraction"), 2, "", line, line.raw, "sentence")


def _find_labelled_fractions(text: str, scale: Scale) -> Iterator[float]:
    """Yield the scores such as "score of 7/10" in a text, without those that a sentence only considers."""
    for sentence in re.split(r"(?<=[.!?;]) ", text):
        for label in SENTENCE_SCORE.finditer(sentence):
            match = NUMBER.match(sentence, label.end())
            if match is None or not _is_same(_number_of(match).of or -1, scale.high):
                continue
            is_hedged = HEDGE.search(sentence[max(0, label.start() - 200) : label.end() + 200])
            if not is_hedged and not PART_FOLLOWS.match(sentence, match.end()):
                yield _number_of(match).number


def find_lone_fraction(lines: Sequence[Line], scale: Scale) -> Statement | None:
    """Return the score of a last line that is nothing but "7/10"."""
    match = NUMBER.match(lines[-1].text) if lines else None
    value = _number_of(match) if match else None
    if match is None or value is None or value.of is None or not _is_same(value.of, scale.high):
        return None
    if lines[-1].cells or lines[-1].is_item or lines[-1].text[match.end() :].strip(" ."):
        return None
    return Statement(value, 2, "", lines[-1], lines[-1].raw, "lone")


# --- the outcome -------------------------------------------------------------------------------------------------


def _accept(chosen: Statement, scale: Scale) -> Score:
    value = chosen.value
    if value.problem == "ambiguous_score":
        raise ParseError("ambiguous_score", f"Expected one number from {scale}; {_quote(chosen)}.")
    if value.problem == "missing_score":
        raise ParseError("missing_score", f"Expected a number from {scale} in digits; {_quote(chosen)}.")
    if value.problem is not None or not scale.low <= value.number <= scale.high:
        raise ParseError("score_out_of_range", f"Expected a number from {scale}; {_quote(chosen)}.")
    strategy = f"{chosen.where}_{value.form}" + ("_before_rounding" if value.is_rounded else "")
    return Score(value.number, scale, strategy, _shorten(chosen.quote))


def _explain_no_score(lines: Sequence[Line], scale: Scale) -> ParseError:
    statements = find_statements(lines, scale)
    if statements:
        return _mismatch(statements[-1], scale)
    for line in reversed(lines):  # "... Score: 3/5" at the end of a sentence
        for label in re.finditer(r"\bscore\b[ :]*(?=[0-9])", line.text, re.IGNORECASE):
            match = NUMBER.match(line.text, label.end())
            of = _number_of(match).of if match else None
            if of is not None and not _is_same(of, scale.high):
                return ParseError("scale_mismatch", f"No score out of {scale.high:g}; found {_shorten(line.raw)!r}.")
    last_line = _shorten(lines[-1].raw)
    return ParseError(
        "missing_score", f"No line such as 'SCORE: <{scale}>' in the reply; its last line is {last_line!r}."
    )


def _mismatch(statement: Statement, scale: Scale) -> ParseError:
    return ParseError("scale_mismatch", f"Expected a score out of {scale.high:g}, never rescaled; {_quote(statement)}.")


def _disagreement(first: Statement, second: Statement) -> ParseError:
    quotes = f"{_shorten(first.quote)!r} and {_shorten(second.quote)!r}"
    return ParseError(
        "ambiguous_score", f"Two statements of the score differ and none says that it is final: {quotes}."
    )


def _quote(statement: Statement) -> str:
    return f"found {_shorten(statement.quote)!r}"


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"


# --- scores in JSON ----------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A JSON object that remembers whether a key came twice."""

    repeated_key: str | None = None


def _make_object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object()
    for key, item in pairs:
        if key in made:
            made.repeated_key = key
        made[key] = item
    return made


class _NoNumber(NamedTuple):
    """NaN or Infinity, which Python's reader would take for numbers."""

    text: str


# Whole numbers become floats at once: int() refuses more than 4,300 digits with an error of its own.
DECODER = json.JSONDecoder(object_pairs_hook=_make_object, parse_constant=_NoNumber, parse_int=float)
OBJECT_START = re.compile(r'\{(?=\s*["}])')  # any other brace is prose


def parse_json_score(reply: str, scale: Scale) -> Score:
    r"""Return the number "score" of the last whole JSON object in a reply that has one.

    '{"score": 7.5, "reason": "clear"}' -> value 7.5, strategy "json_object"

    The object may stand in a fence or between sentences. Raises ParseError: empty; invalid_json (none, a broken one,
    an array, a key that came twice); missing_score_field; score_not_a_number (also "7" in quotes, true, NaN: the
    prompt asked for a number, and a judge that gives something else is not understood); score_out_of_range.
    """
    if not reply.strip():
        raise ParseError("empty", 'The reply is empty. A JSON object with a number "score" was expected.')
    whole = reply.strip()
    text = whole if whole.startswith("{") and whole.endswith("}") else drop_thinking(reply)
    objects = list(_find_objects(text))
    if not objects:
        raise ParseError(
            "invalid_json", f'No JSON object with a number "score" in the reply; it begins {_shorten(whole)!r}.'
        )
    scored = [(found, quote) for found, quote in objects if "score" in found]
    if not scored:
        known = ", ".join(sorted(repr(key) for key in list(objects[-1][0])[:20])) or "none"
        raise ParseError("missing_score_field", f'The JSON object has no "score". Its keys: {known}.')
    found, quote = scored[-1]
    return Score(_read_number(found, scale), scale, "json_object", _shorten(" ".join(quote.split())))


def _find_objects(text: str) -> Iterator[tuple[_Object, str]]:
    """Yield the outermost objects. A broken one ends the search, since what it holds is not outermost."""
    position = 0
    while (start := OBJECT_START.search(text, position)) is not None:
        if text[max(position, start.start() - 100) : start.start()].rstrip().endswith("["):
            raise ParseError("invalid_json", "The reply is a JSON array. One object was expected.")
        try:
            found, end = DECODER.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            raise ParseError(
                "invalid_json", f"{error.msg} at character {error.pos} of the reply's JSON object."
            ) from error
        except RecursionError as error:
            raise ParseError("invalid_json", "The reply's JSON object is nested too deeply.") from error
        yield found, text[start.start() : min(end, start.start() + LONGEST_LINE)]
        position = end


def _read_number(found: _Object, scale: Scale) -> float:
    if found.repeated_key is not None:
        raise ParseError("invalid_json", f"The key {_shorten(found.repeated_key)!r} came twice in the JSON object.")
    number = found["score"]
    if not isinstance(number, float):  # a JSON true is a bool, and every JSON number is a float here
        raise ParseError(
            "score_not_a_number", f'"score" is {_shorten(repr(number))}. A number without quotes was expected.'
        )
    if not scale.low <= number <= scale.high:
        raise ParseError("score_out_of_range", f'"score" is {number:g}. A number from {scale} was expected.')
    return number
