"""Parsers: each clause of each rule, and the frame that they share."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputInvalid, ParseError, UnknownName
from pipeline.parsers import PARSERS, Parsed, parse_reply
from pipeline.scores import Scale

TEXT_PARSERS = sorted(name for name, parser in PARSERS.items() if not parser.gives_score)
SCALE = Scale(0, 10)


def text_of(parser_name: str, reply: str) -> str:
    return parse_reply(parser_name, reply).text


def refusal_of(parser_name: str, reply: str, *, min_lines: int = 0) -> str:
    with pytest.raises(ParseError) as refused:
        parse_reply(parser_name, reply, scale=SCALE, min_lines=min_lines)
    return refused.value.reason


def outcome_of(parser_name: str, reply: str) -> Parsed | tuple[str, str]:
    try:
        return parse_reply(parser_name, reply, scale=SCALE)
    except ParseError as refused:
        return refused.reason, refused.detail


# --- identity ---


@pytest.mark.parametrize("reply", ["", " \n", "a\r\nb\r", "\ufeffé\u2028", "<essay>a</essay>"])
def test_identity_changes_nothing(reply: str) -> None:
    assert text_of("identity", reply) == reply


# --- essay_block ---


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Before <essay>\n A\n\nB \n</essay> after", "A\n\nB"),
        ("<ESSAY>A</Essay>", "A"),
        ("<essay>A</essay><essay>B</essay>", "A"),
        ("<essay>A", "A"),
        ("</essay><essay> A\n", "A"),
        ("<essay></essay>", ""),
        ("<essay>A<essay>B</essay>C</essay>", "A<essay>B"),
        ("<essay lang='en'>A</essay> <essay>B</essay>", "B"),
        ("<essays>A</essays><essay>B</essay >", "B</essay >"),
    ],
)
@pytest.mark.parametrize("parser_name", ["essay_block", "essay_block_lenient"])
def test_the_first_essay_block_is_taken_and_stripped(parser_name: str, reply: str, expected: str) -> None:
    assert text_of(parser_name, reply) == expected


@pytest.mark.parametrize(
    "reply", ["", "An essay.", "<essay lang='en'>A</essay>", "< essay >A", "</essay>", "<eſſay>A</eſſay>"]
)
def test_a_reply_without_an_essay_tag_is_refused(reply: str) -> None:
    assert refusal_of("essay_block", reply) == "missing_essay_block"


# --- essay_block_lenient ---


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("  An essay.\n", "An essay."),
        ("", ""),
        ("<thinking>I will write <essay>no</essay>.</thinking><essay>A</essay>", "A"),
        ('<thinking type="deep">\nplan\n</thinking>\nAn essay.', "An essay."),
        ("<Thinking>a</THINKING>An essay.", "An essay."),
        ("a<thinking>1</thinking>b<thinking>2</thinking>c", "abc"),
        ("<essay>A<thinking>why</thinking>B</essay>", "AB"),
        ("<thinking>never closed <essay>A</essay>", "A"),
        ("<thinking>never closed", "<thinking>never closed"),
        ("<thinking>1</thinking>a<thinking>2", "a<thinking>2"),
        ("<thinking>1<thinking>2</thinking>3", "3"),
        ("<thinking-aloud>a</thinking-aloud>", "<thinking-aloud>a</thinking-aloud>"),
        ("a</thinking>b", "a</thinking>b"),
    ],
)
def test_thinking_is_removed_and_a_missing_tag_is_forgiven(reply: str, expected: str) -> None:
    assert text_of("essay_block_lenient", reply) == expected


# --- essay_idea_last ---


def idea(body: str, attributes: str = "") -> str:
    return f"<essay-idea{attributes}>\n{body}\n</essay-idea>\n"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (idea("A"), "A"),
        (idea("A") + idea("B"), "B"),
        (idea("A", ' stage="2"') + idea("B", ' stage="1"'), "A"),
        (idea("A", ' stage="9"') + idea("B", ' stage="10"') + idea("C", ' stage="2"'), "B"),
        (idea("A", ' stage="2"') + idea("B", ' stage="02"'), "B"),
        (idea("A", ' stage="0"') + idea("B"), "A"),
        (idea("A", ' stage="one"') + idea("B"), "B"),
        (idea("A", ' title="x" stage="3" tone="dry"') + idea("B", ' substage="7"'), "A"),
        (idea("A", f' stage="{"9" * 5000}"') + idea("B", ' stage="8"'), "A"),
        (idea("  A  \n\n\n B\n"), "  A  \n\n\n B\n"),
        (idea(""), ""),
        ("Here:\n" + idea("A") + "Done.", "A"),
        ("<essay-idea>\r\nA\r\nB\r\n</essay-idea>", "A\r\nB"),
        (idea("A") + "<essay-idea>\ncut off", "A"),
        ("<essay-idea>A</essay-idea>\n" + idea("B"), "B"),
        (idea("an inline </essay-idea> stays"), "an inline </essay-idea> stays"),
    ],
)
def test_the_idea_of_the_highest_stage_or_the_last_is_taken_verbatim(reply: str, expected: str) -> None:
    assert text_of("essay_idea_last", reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "A",
        idea("A").upper(),
        "<essay-idea>A</essay-idea>",
        "<essay-idea>\nA</essay-idea>",
        "<essay-idea>\nA",
        "<essay-ideas>\nA\n</essay-idea>",
    ],
)
def test_a_reply_without_an_idea_block_is_refused(reply: str) -> None:
    assert refusal_of("essay_idea_last", reply) == "missing_essay_idea_block"


# --- scores ---


@pytest.mark.parametrize(
    ("parser_name", "reply", "text"),
    [
        ("score_last_line", "Fine.\n**SCORE:** 7/10", "7\n"),
        ("score_last_line", "SCORE: 8.5", "8.5\n"),
        ("json_score", '{"score": 6.25}', "6.25\n"),
        ("json_score", '{"score": 7.0}', "7\n"),
    ],
)
def test_the_parsed_text_of_a_score_is_the_number_and_a_newline(parser_name: str, reply: str, text: str) -> None:
    parsed = parse_reply(parser_name, reply, scale=SCALE)

    assert parsed.text == text
    assert parsed.score is not None
    assert parsed.score.value == float(text)


@pytest.mark.parametrize("parser_name", TEXT_PARSERS)
def test_a_text_parser_gives_no_score_and_needs_no_scale(parser_name: str) -> None:
    reply = "<essay>A</essay>\n" + idea("SCORE: 7")

    assert parse_reply(parser_name, reply).score is None
    assert parse_reply(parser_name, reply) == parse_reply(parser_name, reply, scale=SCALE)


# --- the frame ---


def test_the_parsers_have_names_versions_and_rules() -> None:
    expected = {"identity", "essay_block", "essay_block_lenient", "essay_idea_last", "score_last_line", "json_score"}

    assert set(PARSERS) == expected
    for name, parser in PARSERS.items():
        assert (parser.name, parser.version) == (name, 1)
        assert parser.rule.endswith(".")
        assert "\n" not in parser.rule


def test_an_unknown_parser_is_refused_with_the_known_names() -> None:
    with pytest.raises(UnknownName, match=r"'essay_blok'.*essay_block.*score_last_line"):
        parse_reply("essay_blok", "")


@pytest.mark.parametrize("parser_name", ["score_last_line", "json_score"])
def test_a_score_parser_without_a_scale_is_refused(parser_name: str) -> None:
    with pytest.raises(InputInvalid, match="scale"):
        parse_reply(parser_name, "SCORE: 7")


def test_too_few_lines_with_text_are_refused() -> None:
    reply = "<essay>\nA\n \n\nB\n</essay>"

    assert parse_reply("essay_block", reply, min_lines=2).text == "A\n \n\nB"
    assert refusal_of("essay_block", reply, min_lines=3) == "too_few_lines"
    assert refusal_of("identity", "", min_lines=1) == "too_few_lines"


def test_lines_are_counted_in_the_reply_where_the_parsed_text_is_a_number() -> None:
    reply = "REASONING: fine.\n\nSCORE: 7"

    assert parse_reply("score_last_line", reply, scale=SCALE, min_lines=2).text == "7\n"
    assert refusal_of("score_last_line", reply, min_lines=3) == "too_few_lines"


TAGS = [
    *("<essay>", "</essay>", "<ESSAY>", "<thinking>", "<thinking ", "</thinking>", "<essay-idea>", "\n</essay-idea>"),
    *('<essay-idea stage="1">\n', '<essay-idea stage="', '"', ">", "<", "\n", "\r\n", " ", "a"),
]
HOSTILE = st.one_of(st.text(), st.lists(st.sampled_from(TAGS), max_size=30).map("".join))


@settings(max_examples=300, deadline=None)
@given(HOSTILE, st.sampled_from(sorted(PARSERS)))
def test_any_text_is_parsed_or_refused_with_a_parse_error(reply: str, parser_name: str) -> None:
    assert outcome_of(parser_name, reply) == outcome_of(parser_name, reply)


@pytest.mark.parametrize(
    "reply",
    [
        "<essay>" * 50_000,
        "<thinking>" * 50_000,
        "<thinking " * 50_000,
        "<thinking>a</thinking>" * 20_000,
        "<essay-idea>\n" * 50_000,
        "<essay-idea " * 50_000,
        idea("A", ' stage="1"') * 20_000,
        "<essay-idea" + " " * 500_000 + ">\n",
        "<essay-idea>" + " " * 500_000,
        "</essay-idea>\n" * 50_000,
        "a " * 500_000,
    ],
    ids=lambda reply: repr(reply[:16]),
)
def test_long_replies_take_linear_time(reply: str) -> None:
    started = time.process_time()
    details: list[str] = []

    for parser_name in TEXT_PARSERS:
        try:
            parse_reply(parser_name, reply)
        except ParseError as refused:
            details.append(refused.detail)

    assert all(len(detail) < 2_000 for detail in details)
    assert time.process_time() - started < 10  # quadratic time would be minutes
