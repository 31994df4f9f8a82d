"""A conversation's title is the provider's, else what a person said first."""

from __future__ import annotations

import pytest

from pipeline.archive.conversations import Block, Conversation, Kind, Message, Origin, Role
from pipeline.archive.titles import choose_title


def ask(text: str | None, **facts: object) -> Message:
    return Message("m", role=Role.USER, blocks=[Block(Kind.TEXT, text=text)], **facts)


def title_of(*messages: Message, candidates: tuple[tuple[str | None, str], ...] = ()) -> tuple[str | None, str | None]:
    conversation = Conversation("p", "c", messages=list(messages))
    choose_title(conversation, *candidates)
    return conversation.title, conversation.title_source


def test_the_first_candidate_with_letters_is_the_title():
    candidates = ((None, "provider"), (" \n", "provider"), ("Tides\nand moons / a", "summary"), ("No", "file_name"))

    assert title_of(ask("Hello"), candidates=candidates) == ("Tides\nand moons / a", "summary")


def test_without_one_the_first_prompt_is_it():
    assert title_of(ask("  Which knot\n\nfor a line? ")) == ("Which knot for a line?", "first_prompt")


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("word " * 40, ("word " * 16).strip()),
        ("x" * 200, "x" * 80),
        ("a" * 79 + " bcd", "a" * 79),
        ("a" * 80 + " bcd", "a" * 80),
        ("é" * 80, "é" * 80),
        ("a" * 40 + " " + "b" * 39 + " c", "a" * 40 + " " + "b" * 39),
    ],
)
def test_a_long_prompt_is_cut_at_a_word(prompt, title):
    assert title_of(ask(prompt)) == (title, "first_prompt")


@pytest.mark.parametrize(
    "other",
    [
        ask("reminder", origin=Origin.RUNTIME_CONTEXT),
        ask("result", origin=Origin.TOOL_RESULT),
        ask("instructions", hidden="context"),
        ask(" "),
        ask(None),
        Message("m", role=Role.ASSISTANT, blocks=[Block(Kind.TEXT, text="answer")]),
        Message("m", role=Role.USER, blocks=[Block(Kind.ATTACHMENT, text="a picture")]),
        Message("m", role=Role.USER, blocks=[Block(Kind.TEXT, text="[Pasted text #1]", flags=["paste"])]),
        Message("m", role=Role.USER, blocks=[Block(Kind.TEXT, text="reminder", origin=Origin.RUNTIME_CONTEXT)]),
    ],
)
def test_only_a_persons_own_words_count(other):
    assert title_of(other) == (None, None)
    assert title_of(other, ask("Hello", origin=Origin.HUMAN)) == ("Hello", "first_prompt")


def test_words_on_the_active_path_go_before_others():
    assert title_of(ask("abandoned"), ask("asked", is_active=True)) == ("asked", "first_prompt")
