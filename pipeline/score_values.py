"""Score values: the one value that a text begins with, or why it is none. Knows nothing of lines and labels.

The forms:

    7   7.5   7,5   7 points   (7)   7 because ...     number; a note may follow, another number like it may not
    7 Partial alignment                                number; such a note has no digits and counts nothing
    7/10   7 out of 10   7 (out of 10)   70%           fraction; `of` is the denominator, never used to rescale
    4 + 3 = 7   3/5 (concepts) + 4/5 = 7/10            sum; only the total after the "=" counts
    6.5 (rounded to 7)   7 (rounded from 6.5)          the exact number, with `is_rounded`
    7-8   7 or 8   ~7   7+   4 + 3   7 (concepts)      a value with the problem ambiguous_score
    seven   N/A                                        None: no value

    read_value
      _find_total_of_sum         a sum is read again from its total on
      number_of                  the number or fraction itself
      _read_rest                 what follows may name the scale, round, offer another value, or be a note
        _find_other_values         the roundings, which _apply_rounding compares
        _offers_another            a range or a choice
        _is_verdict                "6 Partial alignment"
        find_labelled_fractions    a second score in the sentences of the note
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.scores import Scale

TOLERANCE = 1e-9
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
COUNTED_OR_COMPARED = re.compile(  # what makes the words after a number more than a note: "6 Aspects", "6 Minus two"
    r"^ (?:for|in|on|from|of|out|per|to|and|with|at|by|than)\b"
    r"|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|half|third|quarter|dozen|hundred|percent|percentage|"
    r"points?|pts?|stars?|marks?|core|aspects?|items?|criteri(?:on|a)|elements?|ideas|terms|problems|errors|times|words?|"
    r"lines?|scale|or|plus|minus|less|more|fewer|higher|lower|above|below|versus|vs|subtract|deduct|add)\b",
    re.IGNORECASE,
)


class Value(NamedTuple):
    """A value as stated. A problem is the reason why it cannot be used, and then `number` means nothing."""

    number: float
    of: float | None = None  # the denominator
    form: str = "number"  # number, fraction or sum
    is_rounded: bool = False  # the judge rounds it on the same line; `number` is the exact value
    has_verdict: bool = False  # words without punctuation follow, which may also name a part: "6 Clarity"
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
    return _read_rest(number_of(match), rest, scale, strict=strict)


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


def _read_rest(value: Value, rest: str, scale: Scale, *, strict: bool) -> Value | None:
    """Return the value in the light of what follows it: a rounding, another value, notes, or a stray word."""
    unsure = Value(value.number, value.of, value.form, problem="ambiguous_score")
    bracket = SCALE_IN_BRACKETS.match(rest) if value.of is None else None
    if bracket is not None:  # "7 (out of 10)"
        value, rest = value._replace(of=to_float(bracket["high"]), form="fraction"), rest[bracket.end() :]
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
    if value.of is None and any(not is_same(other, value.number) for other in find_fractions(rest, scale)):
        return unsure
    has_verdict = value.of is None and _is_verdict(rest)
    if value.of is None and not has_verdict and not PLAIN_END.match(rest):
        return None if strict else unsure
    if value.of is None and strict and not re.fullmatch(r" ?[.!)\]]?", flat_rest):
        return None
    if any(not is_same(other, value.number) for other in find_labelled_fractions(rest, scale)):
        return unsure
    return value._replace(has_verdict=has_verdict)


def _find_other_values(value: Value, rest: str, scale: Scale) -> list[float] | None:
    """Return the values that are stated as roundings of this one, or None for a talk of rounding without a number."""
    matches = [*ROUNDED_VALUE.finditer(rest), *EXACT_IN_BRACKETS.finditer(rest)]
    of = value.of if value.of is not None else scale.high
    usable = [match for match in matches if match["of"] is None or is_same(to_float(match["of"]), of)]
    return [to_float(match["number"]) for match in usable] or None


def _apply_rounding(value: Value, others: Sequence[float]) -> Value | None:
    """Return the exact one of a value and its roundings, or None if they are no roundings of one another."""
    for exact in (value.number, *others):
        if all(is_same(exact, other) or is_rounding(exact, other) for other in (value.number, *others)):
            has_rounding = any(not is_same(exact, other) for other in (value.number, *others))
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
        return other["of"] is None if value.of is None else is_same(number_of(other).of or -1, value.of)
    return other["of"] is None or is_same(number_of(other).of or -1, value.of)


def _is_verdict(rest: str) -> bool:
    """Tell whether only a verdict in words follows: "6 Partial alignment", but not "6 Aspects" or "6 Good, then 7"."""
    is_capitalised = re.match(r" [A-Z][a-z]", rest) is not None  # in small letters it may be the noun that is counted
    has_value = re.search(r"[\d/+=±%~≈→<>?]", rest) is not None
    return is_capitalised and not has_value and not COUNTED_OR_COMPARED.search(rest) and not HEDGE.search(rest)


def find_labelled_fractions(text: str, scale: Scale) -> Iterator[float]:
    """Yield the scores such as "score of 7/10" in a text, without those that a sentence only considers."""
    for sentence in re.split(r"(?<=[.!?;]) ", text):
        for label in SENTENCE_SCORE.finditer(sentence):
            match = NUMBER.match(sentence, label.end())
            if match is None or not is_same(number_of(match).of or -1, scale.high):
                continue
            is_hedged = HEDGE.search(sentence[max(0, label.start() - 200) : label.end() + 200])
            if not is_hedged and not PART_FOLLOWS.match(sentence, match.end()):
                yield number_of(match).number


def find_fractions(text: str, scale: Scale) -> Iterator[float]:
    for match in NUMBER.finditer(text):
        value = number_of(match)
        if value.of is not None and is_same(value.of, scale.high):
            yield value.number


def number_of(match: re.Match[str]) -> Value:
    of = match["of"]
    if of is not None:
        return Value(to_float(match["number"]), 10.0 if of.lower() == "ten" else to_float(of), "fraction")
    if match["percent"] is not None:
        return Value(to_float(match["number"]), 100.0, "fraction")
    return Value(to_float(match["number"]))


def to_float(digits: str) -> float:
    """Return the number; a comma is a decimal comma, unless three digits follow as in 1,000."""
    return float(digits.replace(",", "") if re.search(r",[0-9]{3}$", digits) else digits.replace(",", "."))


def is_same(first: float, second: float) -> bool:
    return abs(first - second) <= TOLERANCE
