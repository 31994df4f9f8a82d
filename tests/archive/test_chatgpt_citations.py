"""Citations of ChatGPT: marks leave the text, and what they stand for is kept."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.archive.conversations import Block, Kind
from tests.archive.chatgpt_chats import read_blocks_of, read_message

MARK = "\ue200cite\ue202turn0search3\ue202turn0search7\ue201"


def read_cited(text: str, **metadata: Any) -> tuple[str | None, list[Block]]:
    """Return the text of an answer and its citations."""
    words, *citations = read_blocks_of("assistant", text, metadata=metadata)
    assert {block.kind for block in citations} <= {Kind.CITATION}
    return words.text, citations


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Lisbon {MARK}. More", "Lisbon. More"),
        (f"Lisbon{MARK}", "Lisbon"),
        (f"One {MARK} two", "One two"),
        (f"One {MARK}two", "One two"),
        ("Cut \ue200url\ue201 and \ue200entity\ue201 marks", "Cut and marks"),
        (
            'Odd \ue200entity\ue202["a"]\ue201 and \ue200entity\ue202[1,2]\ue201 and \ue200entity\ue202no\ue201',
            "Odd and and",
        ),
        (f"One {MARK} {MARK}.", "One."),
        ("Cut short \ue200cite\ue202turn0sea", "Cut short"),
        ("See \ue200url\ue202the guide\ue202turn0search1\ue201 now", "See the guide now"),
        ('In \ue200entity\ue202["city","Paris","capital"]\ue201 now', "In Paris now"),
        ("A 【3†source】 and 【12:0†lines 1-4】.", "A and."),
        ("No 【brackets】 † here", "No 【brackets】 † here"),
    ],
)
def test_marks_leave_the_text_and_words_stay(text, left):
    assert read_cited(text)[0] == left


def test_the_tokens_of_a_mark_are_kept():
    _, (citation,) = read_cited(f"Lisbon {MARK}.")

    assert citation.extra == {"mark": MARK, "tokens": ["cite", "turn0search3", "turn0search7"]}


def test_a_mark_finds_its_sources_by_its_words_and_not_by_offsets():
    reference = {
        "type": "grouped_webpages",
        "matched_text": MARK,
        "start_idx": 900,
        "end_idx": 990,
        "items": [{"title": "Port guide", "url": "https://example.org/1"}],
        "fallback_items": [{"title": "Chart", "url": "https://example.org/2"}],
    }

    text, (citation,) = read_cited(f"Lisbon {MARK}.", content_references=[reference])

    assert text == "Lisbon."
    assert (citation.text, citation.extra["url"]) == ("Port guide", "https://example.org/1")
    assert citation.extra["urls"] == ["https://example.org/1", "https://example.org/2"]
    assert citation.extra["source"] == reference


def test_a_mark_that_stands_for_words_is_replaced_by_them():
    reference = {"type": "alt_text", "matched_text": MARK, "alt": "(see the chart)"}

    assert read_cited(f"Deep {MARK}.", content_references=[reference])[0] == "Deep (see the chart)."


def test_an_old_mark_is_joined_to_the_citation_at_its_place():
    citations = [
        {"start_ix": 5, "end_ix": 15, "metadata": {"title": "Guide", "url": "https://example.org", "text": "…"}},
        {"start_ix": 500, "end_ix": 510, "metadata": {"title": "Edited away", "url": "https://example.org/2"}},
    ]

    text, found = read_cited("Deep 【3†source】.", citations=citations)

    assert text == "Deep."
    assert [(block.text, block.extra["url"]) for block in found] == [
        ("Guide", "https://example.org"),
        ("Edited away", "https://example.org/2"),
    ]


@pytest.mark.parametrize("place", [{}, {"start_ix": 0}, {"end_ix": 3}, {"start_ix": 5, "end_ix": 2}, {"start_ix": "0"}])
def test_a_citation_without_a_place_is_cited_without_a_mark(place):
    text, (citation,) = read_cited("Plain words", citations=[{**place, "metadata": {"url": "https://example.org"}}])

    assert (text, citation.extra["url"]) == ("Plain words", "https://example.org")
    assert "mark" not in citation.extra


def test_sources_without_a_mark_are_cited_and_footnotes_that_repeat_them_are_not():
    references = [
        {"type": "webpage", "matched_text": " ", "title": "Page", "url": "https://example.org"},
        {"type": "sources_footnote", "matched_text": " ", "sources": [{"title": "Page", "url": "https://example.org"}]},
    ]

    picture = {"type": "image_v2", "matched_text": " ", "images": [1]}

    message = read_message("assistant", "Plain words.", metadata={"content_references": [*references, picture]})

    words, *found = message.blocks
    assert words.text == "Plain words."
    assert [block.extra["url"] for block in found] == ["https://example.org"]
    assert message.extra["metadata"]["content_references"] == [references[1], picture]


def test_marks_that_never_end_take_no_time():
    text = "【1†" * 200_000  # if each were followed to the end of the text, this test would not end

    assert read_cited(text)[0] == text


def test_what_a_tool_or_a_person_says_keeps_its_marks():
    for role in ("tool", "user"):
        (block,) = read_blocks_of(role, "Found 【0†link】")
        assert block.text == "Found 【0†link】"
