"""Prose scores: the overall score that a judge states in prose. Pure; knows nothing of files, models or Luigi.

A wrong number is worse than none, so every form that is not understood is refused with a reason. A value is
never rescaled: 7/10 is no score on a scale of 0 to 9, and 3/5 is a subtotal.

    parse_prose_score
      drop_thinking, split_into_lines     the answer in plain signs (reply_lines)
      find_statements                     every line that states an overall score, with a rank (score_statements)
      choose_statement                    one of them, or None where all are subtotals
        _choose_item                        only scores in lists: one is the score, several are parts
        _check_later_statements             may repeat or round it, never contradict it
        _find_exact_statement               6.5 counts, its rounding to 7 does not
        _check_earlier_statements           may be parts that add up to it, or what it says that it corrects
        _check_mismatched                   fractions of something else: subtotals, unless they could be the score
      find_sentence_score                 only where no line states a score: "... earns a score of 7/10."
      find_lone_fraction                  only where no sentence does: the last line is "7/10"
      _explain_no_score                   the reason, if there is none at all
      _accept                             the number, if it is on the scale; or else the reason

In words: leave out fractions of something else; take the last statement of the highest rank; go back to the exact
value if it is a rounding; refuse if any other statement contradicts it.

    Total Score: 5.5 / Final Score: 6.5        6.5   a higher rank
    Score: 7 / Score: 8                        8     a correction, on the next line and with the same label
    Total score: 6.5/10 / SCORE: 7             6.5   before rounding
    Concepts / Score: 3 / Connections / Score: 2     refused: two parts, and no overall score
    SCORE: 7/10 / Total Score: 4               refused: the later statement contradicts
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import ParseError
from pipeline.reply_lines import Line, drop_thinking, split_into_lines
from pipeline.score_statements import Statement, find_lone_fraction, find_sentence_score, find_statements
from pipeline.score_values import NUMBER, is_rounding, is_same, number_of
from pipeline.scores import Scale, Score, shorten


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
    return statement.value.of is not None and not is_same(statement.value.of, scale.high)


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
    is_sum = len(numbers) > 2 and is_same(sum(numbers[:-1]), numbers[-1])
    is_breakdown = len(numbers) > 2 and is_same(sum(numbers[1:]), numbers[0])
    is_adjacent = chosen.line.number - against[-1].line.number == 1 and _has_same_label(chosen, against[-1])
    is_correction = (chosen.is_decisive or is_adjacent) and not chosen.value.has_verdict  # "7 Novelty", "6 Clarity"
    if not is_sum and (is_breakdown or not is_correction):
        raise _disagreement(against[-1], chosen)


def _has_same_label(first: Statement, second: Statement) -> bool:
    return first.label.strip().lower() == second.label.strip().lower()


def _agrees(first: Statement, second: Statement) -> bool:
    """Tell whether the second says the same as the first, or rounds it."""
    if second.value.problem is not None or first.value.problem is not None:
        return False
    return is_same(first.value.number, second.value.number) or is_rounding(first.value.number, second.value.number)


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
        is_same_number = other.is_qualified and is_same(other.value.number, chosen.value.number)
        if (other.value.of or 0) > scale.high or is_same_number:
            raise _mismatch(other, scale)
    fractions = [other.value for other in mismatched]
    if not fractions or chosen.is_qualified or chosen.value.problem is not None:
        return
    is_above = chosen.value.number > max(value.of or 0 for value in fractions)
    is_last = chosen.line.number > mismatched[-1].line.number
    if not is_last or not (is_above or is_same(sum(value.number for value in fractions), chosen.value.number)):
        raise ParseError("ambiguous_score", f"A number stands among subtotals; {_quote(chosen)}.")


def _is_same_share(first: Statement, second: Statement, scale: Scale) -> bool:
    of = first.value.of or 0
    return of > 0 and is_same(first.value.number / of, second.value.number / scale.high)


def _accept(chosen: Statement, scale: Scale) -> Score:
    value = chosen.value
    if value.problem == "ambiguous_score":
        raise ParseError("ambiguous_score", f"Expected one number from {scale}; {_quote(chosen)}.")
    if value.problem == "missing_score":
        raise ParseError("missing_score", f"Expected a number from {scale} in digits; {_quote(chosen)}.")
    if value.problem is not None or not scale.low <= value.number <= scale.high:
        raise ParseError("score_out_of_range", f"Expected a number from {scale}; {_quote(chosen)}.")
    strategy = f"{chosen.where}_{value.form}" + ("_before_rounding" if value.is_rounded else "")
    return Score(value.number, scale, strategy, shorten(chosen.quote))


def _explain_no_score(lines: Sequence[Line], scale: Scale) -> ParseError:
    statements = find_statements(lines, scale)
    if statements:
        return _mismatch(statements[-1], scale)
    for line in reversed(lines):  # "... Score: 3/5" at the end of a sentence
        for label in re.finditer(r"\bscore\b[ :]*(?=[0-9])", line.text, re.IGNORECASE):
            match = NUMBER.match(line.text, label.end())
            of = number_of(match).of if match else None
            if of is not None and not is_same(of, scale.high):
                return ParseError("scale_mismatch", f"No score out of {scale.high:g}; found {shorten(line.raw)!r}.")
    last_line = shorten(lines[-1].raw)
    return ParseError(
        "missing_score", f"No line such as 'SCORE: <{scale}>' in the reply; its last line is {last_line!r}."
    )


def _mismatch(statement: Statement, scale: Scale) -> ParseError:
    return ParseError("scale_mismatch", f"Expected a score out of {scale.high:g}, never rescaled; {_quote(statement)}.")


def _disagreement(first: Statement, second: Statement) -> ParseError:
    quotes = f"{shorten(first.quote)!r} and {shorten(second.quote)!r}"
    return ParseError(
        "ambiguous_score", f"Two statements of the score differ and none says that it is final: {quotes}."
    )


def _quote(statement: Statement) -> str:
    return f"found {shorten(statement.quote)!r}"
