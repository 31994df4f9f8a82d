"""Parsers: from a reply's text to a document's parsed text and, for judges, a score.

Each parser is pure and has a version, which is part of the doc_id: a rule that gives another result
for any reply needs a higher version. Knows nothing of files, models or Luigi.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pipeline.errors import InputInvalid, ParseError, UnknownName
from pipeline.json_scores import parse_json_score
from pipeline.prose_scores import parse_prose_score
from pipeline.scores import Scale, Score, format_score

# ASCII, because without it "ſ" and the Kelvin sign would pass for the letters s and k in a tag.
IGNORE_CASE = re.IGNORECASE | re.ASCII
ESSAY_START = re.compile(r"<essay>", IGNORE_CASE)
ESSAY_END = re.compile(r"</essay>", IGNORE_CASE)
THINKING_START = re.compile(r"<thinking(?=[\s>])", IGNORE_CASE)
THINKING_END = re.compile(r"</thinking>", IGNORE_CASE)
IDEA_START = re.compile(r"<essay-idea(?=[\s>])")
IDEA_END = "\n</essay-idea>"
LINE_END = re.compile(r"[ \t]*(\r?)\n")
STAGE = re.compile(r'(?:^|\s)stage="([0-9]+)"')


class Parsed(NamedTuple):
    """What a parser makes of a reply."""

    text: str
    score: Score | None = None


class Parser(NamedTuple):
    """A named rule. `function` takes the reply and, for a judge, the scale."""

    name: str
    version: int
    gives_score: bool
    rule: str  # one line for people
    function: Callable[[str, Scale | None], Parsed]


def parse_reply(parser_name: str, reply: str, *, scale: Scale | None = None, min_lines: int = 0) -> Parsed:
    r"""Return the parsed text of a reply, and its score if the parser gives one.

    parse_reply("score_last_line", "**SCORE:** 7/10", scale=Scale(0, 10)).text -> "7\n"

    `min_lines` is the least number of lines with text: of the parsed text, or of the reply for a score.
    Raises ParseError if the reply has not the expected form, UnknownName for an unknown parser, and
    InputInvalid if a parser that gives a score gets no scale.
    """
    parser = PARSERS.get(parser_name)
    if parser is None:
        raise UnknownName("parser", parser_name, list(PARSERS))
    if parser.gives_score and scale is None:
        raise InputInvalid(f"Parser {parser_name!r} needs the scale of the scores, such as '0-10'.")
    parsed = parser.function(reply, scale)
    lines = count_lines(reply if parser.gives_score else parsed.text)
    if lines < min_lines:
        raise ParseError("too_few_lines", f"{lines} lines with text; at least {min_lines} were expected.")
    return parsed


def count_lines(text: str) -> int:
    """Return how many lines have more than blanks."""
    return sum(1 for line in text.splitlines() if line.strip())


def keep_text(reply: str) -> str:
    """Return the reply, unchanged."""
    return reply


def read_essay_block(reply: str) -> str:
    """Return the inside of the first <essay>…</essay>, stripped; without a closing tag, all that follows the first tag.

    Raises ParseError missing_essay_block.
    """
    start = ESSAY_START.search(reply)
    if start is None:
        raise ParseError("missing_essay_block", "The reply has no <essay> tag. Expected <essay>…</essay>.")
    end = ESSAY_END.search(reply, start.end())
    return reply[start.end() : end.start() if end else len(reply)].strip()


def read_essay_block_leniently(reply: str) -> str:
    """Return the essay block of the reply without its thinking; without a tag, all the rest, stripped."""
    rest = remove_thinking(reply)
    return read_essay_block(rest) if ESSAY_START.search(rest) else rest.strip()


def remove_thinking(reply: str) -> str:
    """Return the reply without every <thinking …>…</thinking>. An unclosed one stays."""
    kept: list[str] = []
    position = 0
    for start, inside in _find_start_tags(THINKING_START, reply):
        if start < position:  # a tag inside what is already removed
            continue
        end = THINKING_END.search(reply, inside)
        if end is None:
            break
        kept.append(reply[position:start])
        position = end.end()
    return "".join(kept) + reply[position:]


def _find_start_tags(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Yield where each start tag begins and ends. Linear: without a ">" ahead no further tag can end."""
    position = 0
    while (start := pattern.search(text, position)) is not None:
        end = text.find(">", start.end())
        if end < 0:
            return
        yield start.start(), end + 1
        position = end + 1


def read_last_idea(reply: str) -> str:
    """Return the body of the <essay-idea> block with the highest stage="N"; of equals, and without any stage, the last.

    Raises ParseError missing_essay_idea_block.
    """
    ideas = list(_find_ideas(reply))
    if not ideas:
        detail = "The reply has no <essay-idea …> block. Expected the tags on lines of their own around the text."
        raise ParseError("missing_essay_idea_block", detail)
    return max(enumerate(ideas), key=lambda numbered: (numbered[1].stage, numbered[0]))[1].body


class _Idea(NamedTuple):
    stage: tuple[int, str]  # of a number without leading zeros: its length and digits, which sort as the number does
    body: str


def _find_ideas(reply: str) -> Iterator[_Idea]:
    position = 0
    for start, inside in _find_start_tags(IDEA_START, reply):
        line_end = LINE_END.match(reply, inside)
        if start < position or line_end is None:
            continue
        end = reply.find(IDEA_END, line_end.end())
        if end < 0:
            return
        body = reply[line_end.end() : end]
        yield _Idea(_read_stage(reply[start:inside]), body.removesuffix("\r") if line_end[1] else body)
        position = end + len(IDEA_END)


def _read_stage(tag: str) -> tuple[int, str]:
    """Return a key that sorts by the stage; a block without one comes first."""
    stage = STAGE.search(tag[:-1])
    if stage is None:
        return (-1, "")
    digits = stage[1].lstrip("0")
    return (len(digits), digits)


def _text_parser(name: str, version: int, rule: str, read: Callable[[str], str]) -> Parser:
    return Parser(name, version, gives_score=False, rule=rule, function=lambda reply, _scale: Parsed(read(reply)))


def _score_parser(name: str, version: int, rule: str, read: Callable[[str, Scale], Score]) -> Parser:
    def parse(reply: str, scale: Scale | None) -> Parsed:
        assert scale is not None  # parse_reply has checked it
        score = read(reply, scale)
        return Parsed(f"{format_score(score.value)}\n", score)

    return Parser(name, version, gives_score=True, rule=rule, function=parse)


PARSERS: Mapping[str, Parser] = MappingProxyType(
    {
        parser.name: parser
        for parser in (
            _text_parser("identity", 1, "The reply, unchanged.", keep_text),
            _text_parser("essay_block", 1, "The inside of the first <essay>…</essay>.", read_essay_block),
            _text_parser(
                "essay_block_lenient",
                1,
                "As essay_block, without <thinking>; without a tag the whole text.",
                read_essay_block_leniently,
            ),
            _text_parser(
                "essay_idea_last",
                1,
                "The body of the <essay-idea> with the highest stage, or the last.",
                read_last_idea,
            ),
            _score_parser(
                "score_last_line", 1, "The last overall score that the reply states in prose.", parse_prose_score
            ),
            _score_parser(
                "json_score", 1, 'The number "score" of the last JSON object in the reply.', parse_json_score
            ),
        )
    }
)
