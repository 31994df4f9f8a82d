"""Scores: what a judge states is read, and what is unclear is refused."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputInvalid, ParseError
from pipeline.json_scores import parse_json_score
from pipeline.prose_scores import parse_prose_score
from pipeline.score_values import is_rounding
from pipeline.scores import Scale, format_score

ZERO_TO_TEN = Scale(0, 10)
ZERO_TO_NINE = Scale(0, 9)
CORPUS = Path(__file__).parents[3] / "shared" / "data" / "eval_responses"

# The two ways in which judges break a score down: points in brackets, or labelled lines in lists.
BRACKETS = """**REASONING:**
The text has a generator and a critic, but no economic argument.

**Core Concepts (3/5):**
- **Problem (1/1)**: "models are frozen" names the limit.
- **Mechanism (2/2 pts):** both halves are there.
- **Implications (0/1)**: absent.

**Connections Analysis (2.5/5 points):**
- Problem → Solution (0.5/1)
- Narrative Arc (2/2): flows well.
"""
LABELS = """### **Core Concepts**
1. **The Problem**
   - The limit is named.
   - **Score**: 0.5 (partial credit for the idea, the term is missing).
2. **The Solution**
   - **Score**: 0.
3. **The Mechanism**
   - **Score:** 2/2 (both parts)
   - **Total:** 2/2

**Total Core Concepts Score:** 0.5 + 0 + 2 = **2.5/5**

### Connections
**1. Problem → Solution**
- The link is clear. **Score: 1/1**
**Total for Connections**: **3/5**
"""


def value_of(reply: str, scale: Scale = ZERO_TO_TEN) -> float:
    return parse_prose_score(reply, scale).value


def refusal_of(reply: str, scale: Scale = ZERO_TO_TEN) -> str:
    with pytest.raises(ParseError) as refused:
        parse_prose_score(reply, scale)
    return refused.value.reason


# --- the closing line, in all the forms that judges give it ---

CLOSINGS = [
    # labels and emphasis
    ("SCORE: 7/10", 7),
    ("**SCORE:** 7/10", 7),
    ("**SCORE: 7/10**", 7),
    ("**SCORE**: 7/10", 7),
    ("### **SCORE: 7/10**", 7),
    ("### SCORE: 7/10", 7),
    ("***SCORE:*** `7/10`", 7),
    ("__SCORE:__ _7/10_", 7),
    ("**Final Score:** **8/10**", 8),
    ("#### Final Score: 8 / 10", 8),
    ("**Total Score: 8/10**", 8),
    ("TOTAL SCORE: 8/10", 8),
    ("**Overall Score:** 8/10", 8),
    ("**Final Overall Score:** 8/10", 8),
    ("Final Rating: 8/10", 8),
    ("**Overall Rating**: 8.5/10", 8.5),
    ("My final score: 8/10", 8),
    ("Therefore, the final score is 8/10.", 8),
    ("Thus, the total score is **8 out of 10**.", 8),
    ("**Step 3: Score:** 8/10", 8),
    ("3. **Final Score**: 8/10", 8),
    ("- **SCORE:** 8/10", 8),
    ("> **SCORE:** 8/10", 8),
    ("**Fidelity Score:** 6/10", 6),
    ("**SCORE:** Final Score: 6/10", 6),
    ("SCORE (0-10): 6", 6),
    ("Score (out of 10): 6", 6),
    ("Final Score (0–10 scale): 6", 6),
    ("SCORE out of 10: 6", 6),
    ("**Score for this response:** 6/10", 6),
    ('"SCORE: 6/10"', 6),
    ("<score>6/10</score>", 6),
    ("<strong>Final Score:</strong> 6/10<br>", 6),
    # separators and signs
    ("SCORE:7", 7),
    ("SCORE 7", 7),
    ("Score 7.", 7),
    ("Final Score - 6", 6),
    ("Final Score – 6", 6),
    ("Final Score — 6/10", 6),
    ("Final Score = 6", 6),
    ("Final Score → 6", 6),
    ("**SCORE:**\u00a07/10", 7),
    ("ＳＣＯＲＥ：７／１０", 7),
    ("SCORE：7", 7),
    ("SCORE: 7⁄10", 7),
    ("SCORE: 7\\/10", 7),
    ("SCORE: 7️⃣/10", 7),
    ("SCORE:\u200b 7", 7),
    (r"**SCORE:** $\boxed{7}$", 7),
    (r"$$\text{Final Score: } \boxed{\text{7/10}}$$", 7),
    (r"SCORE: $\frac{7}{10}$", 7),
    # numbers
    ("SCORE: 0", 0),
    ("SCORE: 0/10", 0),
    ("SCORE: 10/10", 10),
    ("SCORE: 7.0/10", 7),
    ("SCORE: 7/10.0", 7),
    ("SCORE: 6.25/10", 6.25),
    ("SCORE: 7,5", 7.5),
    ("SCORE: 7,5/10", 7.5),
    ("SCORE: 7½", 7.5),
    ("SCORE: 07/10", 7),
    ("SCORE: 7.", 7),
    ("SCORE: 7 points", 7),
    ("SCORE: 7 pts.", 7),
    ("SCORE: 7 out of 10", 7),
    ("SCORE: 7 of 10 points", 7),
    ("SCORE: 7 points out of 10", 7),
    ("SCORE: 7 out of a possible 10", 7),
    ("SCORE: seven? No: see below.\n**SCORE:** 7", 7),
    ("SCORE: [7]", 7),
    ("SCORE: [7/10]", 7),
    ("SCORE: <7>", 7),
    ("SCORE: (7/10)", 7),
    ("SCORE: ~~8/10~~ 7/10", 7),
    # notes on the same line
    ("**SCORE:** 8/10 (concepts 4/5, connections 4/5)", 8),
    ("**SCORE:** 3/10 (2 for Core Concepts, 1 for Connections)", 3),
    ("**SCORE:** 3 (2 for Core Concepts, 1 for Connections)", 3),
    ("**SCORE:** 7/10 (4/5 + 3/5)", 7),
    ("**SCORE:** 7 (4 + 3 = 7)", 7),
    ("**SCORE:** 7/10 (70%)", 7),
    ("**SCORE:** 7/10 - strong on concepts", 7),
    ("**SCORE:** 7/10, 4/5 for concepts and 3/5 for connections", 7),
    ("**SCORE:** 7 because the economics are missing", 7),
    ("**SCORE:** 7. The economics are missing.", 7),
    ("**SCORE:** 7/10 = 4/5 + 3/5", 7),
    ("**SCORE:** 7 = 4 + 3", 7),
    ("**SCORE:** 7/10. With the missing terms it could be 9/10.", 7),
    ("### SCORE: 7/10 (Partial Alignment)", 7),
    ("**SCORE:** 7 (out of 10)", 7),
    ("**SCORE:** 7 (0-10)", 7),
    ("**SCORE:** 7 (out of 10) - solid", 7),
    ("**SCORE: 7** (out of ten points)", 7),
    ("SCORE: 6 Partial alignment", 6),
    ("**SCORE: 6** Partial alignment. The economics are missing.", 6),
    ("Final Score: 6 Partial", 6),
    # sums
    ("**SCORE:** Core Concepts (3/5) + Connections (3/5) = **6/10**", 6),
    ("**SCORE:** Core Concepts: 3/5, Connections: 3/5, Total: 6/10", 6),
    ("**Final Score Calculation:** 3 + 3 = 6/10", 6),
    ("**Total Score:** 3 (Core Concepts) + 3 (Connections) = **6/10**", 6),
    ("**Final Score:** 4 + 3 = 7", 7),
    ("**Final Score:** 4/5 + 3/5 = 7/10", 7),
    ("**SCORE:** (4 + 3) = 7/10", 7),
    ("**SCORE:** (1+1+2) + (1+1+0+1) = 4 + 3 = 7/10", 7),
    ("**SCORE:** 3.5 (concepts) + 2.75 (connections) = 6.25 → 6/10", 6.25),
    ("Total: 3.5 + 3 = 6.5/10 (rounded up to 7)\n**SCORE:** 7", 6.5),
    # the judge's own rounding
    ("**SCORE:** 2.5/10 → Rounded to **3/10**", 2.5),
    ("**SCORE: 6.25/10** (Rounded to **6/10** per rubric guidelines)", 6.25),
    ("**SCORE:** 6.5 (rounded to 7)", 6.5),
    ("**SCORE:** 6.25 → 6", 6.25),
    ("**SCORE:** 6.5 -> 7/10", 6.5),
    ("**SCORE:** 6.5 ≈ 7/10", 6.5),
    ("**SCORE:** 6.5/10, rounded up to 7/10", 6.5),
    ("**SCORE:** 6.5/10 (rounds to 7 if whole numbers are needed)", 6.5),
    ("**SCORE:** 7/10 (rounded from 6.5)", 6.5),
    ("**SCORE:** 7/10 (6.5 rounded up)", 6.5),
    ("**SCORE:** 7/10 (rounded up)", 7),
    ("**Total Score: 6.5/10** → Rounded to **7/10** for clear mechanisms.\n\n**SCORE:** 7", 6.5),
    (
        "**TOTAL SCORE: 2.5/10**\n\nNotes.\n\n**SCORE:** 2.5 (rounded to **3**).\n*Note: strictly it is **2/10**.*",
        2.5,
    ),
    # label and value on two lines
    ("**SCORE:**\n5/10", 5),
    ("**Final Score**:  \n**4/10**", 4),
    ("### **Final Score**  \n\n**2/10**", 2),
    ("### Final Score\n**7**", 7),
    ("### **SCORE:**  \n**Total Score: 7/10**", 7),
    ("### **Final Score**  \n**Score: 4/10**", 4),
    ("## SCORE\n\n6.5 / 10 (rounded to 7)", 6.5),
    # totals without the word score, tables
    ("**Total**: 3/10", 3),
    ("**Overall:** 3/10", 3),
    ("| Part | Points |\n|---|---|\n| Core Concepts | 3/5 |\n| Connections | 4/5 |\n| **Total** | **7/10** |", 7),
    ("| **Total Score** | 4/5 | 3/5 | **7/10** |", 7),
    ("| Final Score | 7 |", 7),
    # more lines
    ("**SCORE:** 6/10\n\n**SCORE:** 6", 6),
    ("### **Total Score: 6/10**\nThe core is there.\n\n**SCORE:** 6/10", 6),
    ("### **SCORE:** 7/10\nClear enough.\n\n**Final Score: 7/10**", 7),
    ("SCORE: 7\nSCORE: 8", 8),
    ("Score: 7\nScore: 8", 8),
    ("Total Score: 5.5\nFinal Score: 6.5", 6.5),
    ("**SCORE:** 5/10\n\nOn reflection the arc deserves more.\n\n**SCORE:** 6/10", 6),
    ("**SCORE:** 8/10\n- **Core Concepts (4/5)**: fine.\n- **Connections (4/5)**: fine.\n\nA result of **8/10**.", 8),
    ("**SCORE:** 8/10\n**Breakdown**:\n- Score: 4 for concepts\n- **Score:** 4/5", 8),
    ("**SCORE:** 0-10\n\n**SCORE:** 4/10", 4),
    ("**SCORE:** 4/10\n\n*(Format: SCORE: 0-10)*", 4),
]


@pytest.mark.parametrize("before", ["", BRACKETS, LABELS], ids=["alone", "after-brackets", "after-labels"])
@pytest.mark.parametrize(("closing", "expected"), CLOSINGS)
def test_an_overall_score_is_read_alone_and_after_subtotals(closing: str, expected: float, before: str) -> None:
    assert value_of(f"{before}\n{closing}") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "after", ["\n\nThe text keeps the spirit; 1 point was lost (0/1).", "\n\n---\n**Summary**: 4/5 and 3/5."]
)
@pytest.mark.parametrize(
    "closing", ["**SCORE:** 7/10", "**SCORE:** 7", "### **Final Score**\n**7/10**", "Final Score: 3 + 4 = 7"]
)
def test_lines_after_the_score_change_nothing(closing: str, after: str) -> None:
    assert value_of(BRACKETS + closing + after) == 7


def test_line_ends_of_other_systems_change_nothing() -> None:
    assert value_of("**REASONING:**\r\nClear.\r\n\r\n**SCORE:**\r\n7/10\r\n") == 7


def test_a_score_in_a_sentence_counts_where_no_line_states_one() -> None:
    assert value_of(BRACKETS + "\nOverall the text earns a score of **5.5/10** here.") == 5.5
    assert value_of("The essay receives 7/10.") == 7


def test_a_last_line_with_nothing_but_a_full_fraction_counts() -> None:
    assert value_of(BRACKETS + "\n**5.5/10**") == 5.5


# --- thinking ---


@pytest.mark.parametrize("tag", ["think", "thinking", "THINK"])
def test_scores_in_thinking_are_ignored(tag: str) -> None:
    thought = f"<{tag}>Total score: 4 + 4 = 8? Wait.\n**SCORE:** 8/10\nSo the final score is 9/10.</{tag}>"

    assert value_of(f"{thought}\n\n**SCORE:** 7/10") == 7
    assert refusal_of(f"{thought}\n\nDone.") == "missing_score"
    assert refusal_of(thought) == "empty"


def test_thinking_without_its_opening_tag_is_ignored() -> None:
    assert value_of("Let me see. SCORE: 9/10\n</think>\nSCORE: 7/10") == 7


def test_a_thought_that_never_ends_holds_no_answer() -> None:
    assert refusal_of("<think>Let me see.\nSCORE: 9/10") == "empty"


# --- refusals ---

REFUSALS = [
    # no overall score
    ("", "empty"),
    (" \n\u3000", "empty"),
    ("I would say seven.", "missing_score"),
    ("SCORE: seven", "missing_score"),
    ("SCORE: N/A", "missing_score"),
    ("SCORE: 7\n\nSCORE: N/A", "missing_score"),
    ("SCORE: 0-10", "missing_score"),
    ("**SCORE:** [0-10]", "missing_score"),
    ("SCORE: <0-10>", "missing_score"),
    ("SCORE: X", "missing_score"),
    ("SCORE: X/10", "missing_score"),
    ("SCORE: [score]", "missing_score"),
    ("SCORE:", "missing_score"),
    ("SCORE:\n1. The problem is named.", "missing_score"),
    ("Score Justification\n5 aspects were checked.", "missing_score"),
    ("Score 3 aspects.", "missing_score"),
    ("Total: 7", "missing_score"),
    ("Core Concepts Score: 4", "missing_score"),
    ("Maximum Score: 10/10", "missing_score"),
    ("Novelty Score: 8/10", "missing_score"),
    ("The novelty score is 8/10.", "missing_score"),
    ("The text earns a score of 8/10 for novelty.", "missing_score"),
    ("Scores: 4 and 3", "missing_score"),
    ("With the missing terms the text would get a score of 8/10.", "missing_score"),
    # only fractions of something else
    ("Core Concepts Score: 3/5\nConnections score: 4/5", "scale_mismatch"),
    ("**Score:** 1/1\n**Score:** 2/2", "scale_mismatch"),
    ("SCORE: 4/5", "scale_mismatch"),
    ("SCORE: 70/100", "scale_mismatch"),
    ("SCORE: 70%", "scale_mismatch"),
    ("Final Score: 4/5 + 3/5 = 14/20", "scale_mismatch"),
    ("SCORE (0-5): 4", "scale_mismatch"),
    ("Score: 6\n\nFinal Score: 4/5", "scale_mismatch"),
    ("Final Score: 4/5\n\nSCORE: 4", "scale_mismatch"),
    (LABELS, "scale_mismatch"),
    # out of range
    ("SCORE: 11", "score_out_of_range"),
    ("SCORE: 10.5/10", "score_out_of_range"),
    ("Score: 100", "score_out_of_range"),
    ("Score: 456", "score_out_of_range"),
    ("Score: 1,000", "score_out_of_range"),
    ("SCORE: -3", "score_out_of_range"),
    ("SCORE: −3/10", "score_out_of_range"),
    ("Score -3", "score_out_of_range"),
    ("SCORE:\n-3", "score_out_of_range"),
    ("SCORE: 7\nSCORE: 12", "score_out_of_range"),
    # ranges and choices
    ("SCORE: 7-8", "ambiguous_score"),
    ("SCORE: 7–8/10", "ambiguous_score"),
    ("SCORE: 7 to 8", "ambiguous_score"),
    ("SCORE: 7/10 - 8/10", "ambiguous_score"),
    ("SCORE: 7/10 or 8/10", "ambiguous_score"),
    ("SCORE: 7/10 (or 8/10 if generous)", "ambiguous_score"),
    ("SCORE: 7 or 8", "ambiguous_score"),
    ("SCORE: 6/7", "scale_mismatch"),
    ("SCORE: 7±1", "ambiguous_score"),
    ("SCORE: 7+", "ambiguous_score"),
    ("SCORE: ~7", "ambiguous_score"),
    ("SCORE: 7.5.1", "ambiguous_score"),
    ("SCORE: 7/10/10", "ambiguous_score"),
    ("SCORE: 1e1", "ambiguous_score"),
    ("SCORE: 7⅓", "ambiguous_score"),
    ("SCORE: 5/10 → 7/10", "ambiguous_score"),
    ("SCORE: 4 (concepts) and 3 (connections) = 7/10", "ambiguous_score"),
    ("SCORE: 4 (concepts), 3 (connections)", "ambiguous_score"),
    ("SCORE: 4/5 + 3/5", "scale_mismatch"),
    ("SCORE: 4 + 3", "ambiguous_score"),
    ("SCORE: 4 (Core Concepts)", "ambiguous_score"),
    ("SCORE: 4 Core Concepts", "ambiguous_score"),
    ("SCORE: 6 Partial alignment, 2 of 5 ideas", "ambiguous_score"),
    ("SCORE: 6 Partial alignment, 7 with the missing terms", "ambiguous_score"),
    ("SCORE: 6 Minus two", "ambiguous_score"),
    ("SCORE: 8 Novelty\nSCORE: 6 Clarity", "ambiguous_score"),
    ("SCORE: 8\nSCORE: 6 Partial alignment", "ambiguous_score"),
    ("SCORE: 6 Out of twenty", "ambiguous_score"),
    ("SCORE: 6 For clarity", "ambiguous_score"),
    ("SCORE: 6 Aspects were checked", "ambiguous_score"),
    ("SCORE: 6 If generous", "ambiguous_score"),
    ("SCORE: 6 aspects were checked", "ambiguous_score"),
    ("SCORE: 7/10. Final score: 8/10", "ambiguous_score"),
    ("Score: 1 pt for the problem", "ambiguous_score"),
    ("| **Total Score** | 10 | 7 |", "ambiguous_score"),
    # statements that cannot be reconciled
    ("**Core Concepts**\nScore: 3\n\n**Connections**\nScore: 2", "ambiguous_score"),
    ("SCORE: 5\n\nConcepts\nSCORE: 3\n\nConnections\nSCORE: 2", "ambiguous_score"),
    ("SCORE: 7/10\n\nTotal Score: 3\n\nTotal Score: 4", "ambiguous_score"),
    ("SCORE: 7/10\n\n- Total: 6/10", "ambiguous_score"),
    ("Novelty\nScore: 8/10\n\nClarity\nScore: 6/10", "ambiguous_score"),
    ("- Score: 1\n- Score: 2", "ambiguous_score"),
    ("Problem\nScore: 2\n\nMechanism\nScore: 1/2", "ambiguous_score"),
    ("The text earns a score of 7/10.\nSo it gets a score of 8/10.", "ambiguous_score"),
]


@pytest.mark.parametrize(("reply", "reason"), REFUSALS)
def test_what_is_no_clear_overall_score_is_refused(reply: str, reason: str) -> None:
    assert refusal_of(reply) == reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("SCORE: 7/10", "scale_mismatch"),
        ("SCORE: 7/10\nSCORE: 7", "scale_mismatch"),
        ("SCORE: 7 (out of 10)", "scale_mismatch"),
        ("SCORE: 7 (0-10)", "scale_mismatch"),
        ("SCORE: 7 on a scale of 0 to 10", "scale_mismatch"),
        ("SCORE: 9.5", "score_out_of_range"),
        ("SCORE: 10", "score_out_of_range"),
    ],
)
def test_a_score_of_another_scale_is_refused_and_never_rescaled(reply: str, reason: str) -> None:
    assert refusal_of(reply, ZERO_TO_NINE) == reason


def test_the_same_forms_are_read_on_another_scale() -> None:
    assert value_of(BRACKETS + "SCORE: 8.5", ZERO_TO_NINE) == 8.5
    assert value_of(BRACKETS + "**Final Score:** 7/9", ZERO_TO_NINE) == 7
    assert refusal_of("SCORE: 0-9", ZERO_TO_NINE) == "missing_score"


def test_a_refusal_quotes_the_line() -> None:
    with pytest.raises(ParseError, match="7 or 8"):
        parse_prose_score("Fine.\n**SCORE:** 7 or 8", ZERO_TO_TEN)


# --- what is recorded ---


@pytest.mark.parametrize(
    ("reply", "strategy", "line"),
    [
        ("Fine.\n**SCORE:** 7/10\nMore.", "line_fraction", "**SCORE:** 7/10"),
        ("SCORE: 7", "line_number", "SCORE: 7"),
        ("**SCORE:**\n**7/10**", "next_line_fraction", "**SCORE:** **7/10**"),
        ("Score: 6.5 (rounded to 7)", "line_number_before_rounding", "Score: 6.5 (rounded to 7)"),
        ("Total score: 6.5/10\nSCORE: 7", "line_fraction_before_rounding", "Total score: 6.5/10"),
        ("Total Score: 3 + 4 = 7/10", "line_sum", "Total Score: 3 + 4 = 7/10"),
        ("| Total | 7/10 |", "table_fraction", "| Total | 7/10 |"),
        ("It earns a score of 7/10.", "sentence_fraction", "It earns a score of 7/10."),
        ("7/10", "lone_fraction", "7/10"),
    ],
)
def test_the_form_and_the_line_are_recorded(reply: str, strategy: str, line: str) -> None:
    score = parse_prose_score(reply, ZERO_TO_TEN)

    assert (score.strategy, score.line, score.scale) == (strategy, line, ZERO_TO_TEN)


# --- real replies ---


def read_corpus() -> list[tuple[str, float]]:
    table = CORPUS / "scores.csv"
    if not table.exists():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return [(row["file"], float(row["expected_score"])) for row in csv.DictReader(file)]


@pytest.mark.skipif(not CORPUS.exists(), reason="the folder of real evaluation responses is not beside this checkout")
def test_every_real_reply_gives_its_expected_score() -> None:
    rows = read_corpus()

    wrong = {
        name: score.value
        for name, expected in rows
        if abs((score := parse_prose_score((CORPUS / name).read_text("utf-8"), ZERO_TO_TEN)).value - expected) > 1e-9
    }

    assert len(rows) == 40
    assert wrong == {}


@pytest.mark.skipif(not CORPUS.exists(), reason="the folder of real evaluation responses is not beside this checkout")
def test_a_real_reply_that_was_cut_off_gives_its_score_or_none() -> None:
    """A reply that ends before its score has many subtotals, and none may pass for the score."""
    wrong = []
    for name, expected in read_corpus():
        lines = (CORPUS / name).read_text("utf-8").split("\n")
        for length in range(len(lines)):
            try:
                score = parse_prose_score("\n".join(lines[:length]), ZERO_TO_TEN)
            except ParseError:
                continue
            if abs(score.value - expected) > 1e-9:
                wrong.append((name, length, score))

    assert wrong == []


# --- hostile text ---

PIECES = [
    *'0 1 7 10 . , / + - = ( ) [ ] | : * # ~ < > { } " \\ → ≈ ½ % \n \r',
    *["SCORE", "Score", "Final", "Total", "Overall", " ", "\n", "\n- ", " of ", " out of ", "rounded to ", "</think>"],
    *["<think>", "N/A", "pts", '"score"', "```json", "NaN", "1e999", "９", "٣", "\u2028", "²", "10", "-3"],
]
HOSTILE = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


@settings(max_examples=300, deadline=None)
@given(HOSTILE, st.sampled_from([ZERO_TO_TEN, ZERO_TO_NINE, Scale(1, 5)]))
def test_any_text_gives_a_score_on_the_scale_or_a_parse_error(reply: str, scale: Scale) -> None:
    for parse in (parse_prose_score, parse_json_score):
        try:
            score = parse(reply, scale)
        except ParseError:
            continue
        assert scale.low <= score.value <= scale.high


@pytest.mark.parametrize(
    "reply",
    [
        "SCORE: " + "7" * 500_000,
        "SCORE: 7 " + "(" * 500_000,
        "SCORE: 7 " + "[(" * 250_000 + "= 1",
        "the " * 200_000,
        "score of " * 100_000,
        "<a" * 250_000,
        "~~" * 250_001,
        "- " * 250_000,
        " " * 500_000 + "x",
        "_ " * 250_000,
        "</think" * 70_000,
        "\n<think" * 20_000,
        "| 7 " * 100_000,
        "score 7/10 " * 50_000,
        "SCORE:\n" * 20_000,
        "SCORE: 7\n" * 20_000,
        "SCORE: 7\nSCORE: 6.5\n" * 10_000,
        r"\frac{" * 80_000,
        '{"score": ' * 50_000,
        "{" * 500_000,
        '{"score": 1}' * 40_000,
    ],
    ids=lambda reply: repr(reply[:16]),
)
def test_long_replies_take_linear_time(reply: str) -> None:
    started = time.process_time()
    details: list[str] = []

    for parse in (parse_prose_score, parse_json_score):
        try:
            parse(reply, ZERO_TO_TEN)
        except ParseError as refused:
            details.append(refused.detail)

    assert all(len(detail) < 2_000 for detail in details)
    assert time.process_time() - started < 10  # quadratic time would be minutes


# --- scores in JSON ---


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"score": 7}', 7),
        ('{"score": 7.5, "reason": "clear"}', 7.5),
        ('{"reason": "{not} \\"7\\" </think>", "score": 0}', 0),
        ('Here it is:\n```json\n{"score": 10}\n```\nThat is all.', 10),
        ('{"score": 3} was a draft, {"score": 4} is final, {"note": 1}', 4),
        ('<think>{"score": 9}</think>{"score": 4}', 4),
        ('In {braces} first. {"score": 4, "parts": {"score": 1}}', 4),
        ('{\n  "score": 1e0\n}', 1),
    ],
)
def test_the_last_whole_object_gives_the_score(reply: str, expected: float) -> None:
    score = parse_json_score(reply, ZERO_TO_TEN)

    assert (score.value, score.strategy) == (expected, "json_object")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        ("7", "invalid_json"),
        ("no object", "invalid_json"),
        ('{"score": 7', "invalid_json"),
        ("{'score': 7}", "invalid_json"),
        ('{"parts": {"score": 3}, "score": ', "invalid_json"),
        ('{"score": 7, "score": 8}', "invalid_json"),
        ('[{"score": 7}, {"score": 8}]', "invalid_json"),
        ('{"a":' * 100_000, "invalid_json"),
        ('{"rating": 7}', "missing_score_field"),
        ('{"parts": {"score": 3}}', "missing_score_field"),
        ("{}", "missing_score_field"),
        ('{"score": "7"}', "score_not_a_number"),
        ('{"score": true}', "score_not_a_number"),
        ('{"score": null}', "score_not_a_number"),
        ('{"score": [7]}', "score_not_a_number"),
        ('{"score": NaN}', "score_not_a_number"),
        ('{"score": Infinity}', "score_not_a_number"),
        ('{"score": 11}', "score_out_of_range"),
        ('{"score": -1}', "score_out_of_range"),
        ('{"score": 1e999}', "score_out_of_range"),
        ('{"score": ' + "9" * 5_000 + "}", "score_out_of_range"),
    ],
)
def test_any_other_json_is_refused(reply: str, reason: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse_json_score(reply, ZERO_TO_TEN)

    assert refused.value.reason == reason


@given(st.floats(0, 10), st.dictionaries(st.text(max_size=5).filter(lambda key: key != "score"), st.text(), max_size=3))
def test_every_number_on_the_scale_comes_back_from_json(value: float, other: dict[str, str]) -> None:
    assert parse_json_score(json.dumps({**other, "score": value}), ZERO_TO_TEN).value == value


# --- scales and numbers ---


@pytest.mark.parametrize("text", ["0-10", " 0 - 10 ", "0–10", "0 to 10"])
def test_a_scale_is_read_and_written_back(text: str) -> None:
    assert Scale.parse(text) == Scale(0, 10)
    assert str(Scale.parse(text)) == "0-10"
    assert str(Scale.parse("0.5-9.5")) == "0.5-9.5"


@pytest.mark.parametrize("text", ["", "10", "10-0", "5-5", "a-b", "0-10-20", "-1-5", "٠-٩", "0-" + "9" * 400])
def test_what_is_no_scale_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputInvalid, match="such as '0-10'"):
        Scale.parse(text)
    with pytest.raises(ValueError, match="such as '0-10'"):
        Scale.parse(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(7.0, "7"), (8.5, "8.5"), (6.25, "6.25"), (0, "0"), (-0.0, "0"), (10, "10"), (1e-7, "0.0000001")],
)
def test_a_score_is_written_as_the_shortest_decimal(value: float, text: str) -> None:
    assert format_score(value) == text


def test_a_rounding_has_coarser_steps_and_is_near() -> None:
    roundings = [(6.5, 7), (6.5, 6), (6.25, 6), (6.25, 6.5), (2.5, 3)]
    others = [(7, 6.5), (7, 8), (5.5, 6.5), (6.5, 8), (6.25, 7.5)]

    assert all(is_rounding(exact, rounded) for exact, rounded in roundings)
    assert not any(is_rounding(exact, rounded) for exact, rounded in others)
