"""Markdown of earlier tools: who speaks, whose conversation it is, and that it gives way to the real export."""

from __future__ import annotations

import pytest

from pipeline.archive.conversations import Conversation, Origin, Role, encode_conversation
from pipeline.archive.importers.markdown_folder import MarkdownImporter
from pipeline.archive.importers.provider_names import name_provider
from pipeline.archive.reading import peek
from tests.archive.members import import_alone, make_member, parse_all

IMPORTER = MarkdownImporter()
BODY = "## User\n\nWhich knot?\n\n## Assistant\n\nA bowline.\n"


def import_text(text: str) -> Conversation:
    return import_alone(IMPORTER, text)


def turns_of(text: str) -> list[tuple[str, str | None]]:
    return [(message.role, message.blocks[0].text) for message in import_text(text).messages]


def recognises(text: str) -> bool:
    return IMPORTER.recognise(peek(make_member("a.md", text))) is not None


EXPECTED = [(Role.USER, "Which knot?"), (Role.ASSISTANT, "A bowline.")]


@pytest.mark.parametrize(
    "text",
    [
        BODY,
        "# You\nWhich knot?\n# ChatGPT\nA bowline.\n",
        "#### You:\n\nWhich knot?\n\n#### ChatGPT:\n\nA bowline.\n",
        "### 🧑 User\n\nWhich knot?\n\n### 🤖 Assistant (gpt-demo)\n\nA bowline.\n",
        "## **User** (me) — 2026-03-01 10:00\n\nWhich knot?\n\n## 2. Assistant (gpt-demo) @ 10:01\n\nA bowline.\n",
        "## Human - 2026-03-01 10:00\n\nWhich knot?\n\n---\n\n## Claude - 2026-03-01 10:01\n\nA bowline.\n\n---\n",
        "**User:**\n\nWhich knot?\n\n**Assistant:**\n\nA bowline.\n",
        "**You**: Which knot?\n\n**Gemini**: A bowline.\n",
        "##### You said:\n\nWhich knot?\n\n###### ChatGPT said:\n\nA bowline.\n",
        "## User\r\n\r\nWhich knot?\r\n\r\n## Assistant\r\n\r\nA bowline.\r\n",
        "---\ntitle: Knots\n---\n# Knots\n\n## Prompt:\nWhich knot?\n\n## Response:\nA bowline.\n",
    ],
)
def test_headings_and_labels_of_many_tools_tell_who_speaks(text):
    assert recognises(text)
    assert turns_of(text) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "# A manual\n\n## User guide\n\ntext\n\n## Assistant settings\n\ntext\n",
        "## User\n\nonly one of them\n",
        "plain words, User: and Assistant:\n",
        "```\n## User\n\n## Assistant\n```\n",
        "---\ntitle: A note\n---\n## User\n\ntext\n",
    ],
)
def test_other_markdown_is_nobodys(text):
    assert not recognises(text)


def test_one_speaker_is_enough_with_a_provider_in_the_front_matter():
    assert recognises("---\nprovider: chatgpt\n---\n## User\n\ntext\n")


def test_a_transcript_that_daybook_made_is_an_artifact():
    facts = "title: a\nconversation_id: b\nprovider: chatgpt\nnative_id: c\nmessages: 2\nversions: 1"

    assert IMPORTER.recognise(peek(make_member("a.md", f"---\n{facts}\n---\n{BODY}"))).is_artifact


def test_headings_within_code_and_of_another_level_belong_to_the_words():
    answer = "```md\n# User\n```\n\n## User\n\nis a heading of mine"
    text = f"# User\n\nshow me\n\n# Assistant\n\n{answer}\n\n# User\n\nthanks\n"

    assert turns_of(text) == [
        (Role.USER, "show me"),
        (Role.ASSISTANT, answer),
        (Role.USER, "thanks"),
    ]


def test_times_and_models_beside_a_name_are_read():
    text = "## User (2026-03-01 10:00)\n\na\n\n## ChatGPT (gpt-demo · 2026-03-01)\n\nb\n\n## Assistant\n\nc\n"
    conversation = import_text(f"---\nmodel: gpt-other\n---\n{text}")

    assert [message.created for message in conversation.messages] == [
        "2026-03-01T10:00:00Z",
        "2026-03-01T00:00:00Z",
        None,
    ]
    assert [message.model for message in conversation.messages] == [None, "gpt-demo", "gpt-other"]


def test_systems_and_tools_speak_too():
    conversation = import_text("## System\n\nBe brief.\n\n## User\n\na\n\n## Tool output\n\nb\n\n## Assistant\n\nc\n")

    assert [(message.role, message.hidden) for message in conversation.messages] == [
        (Role.SYSTEM, "context"),
        (Role.USER, None),
        (Role.TOOL, None),
        (Role.ASSISTANT, None),
    ]
    assert conversation.messages[1].origin == Origin.HUMAN


@pytest.mark.parametrize(
    ("facts", "provider", "native_id"),
    [
        ("provider: ChatGPT\nconversation_id: c-1", "chatgpt", "c-1"),
        ("source: https://chatgpt.com/c/68a0c1de-1111", "chatgpt", "68a0c1de-1111"),
        ("chat_link: https://chat.openai.com/g/g-abc/c/68a0c1de-2222", "chatgpt", "68a0c1de-2222"),
        ("url: https://claude.ai/chat/0198c5a4-3333\nid: another", "claude", "0198c5a4-3333"),
        ("service: openai\nuuid: u-1", "chatgpt", "u-1"),
        ("source: claude code\nsession_id: 2024", "claude_code", "2024"),
        ("provider: Le Chat\nid: x", "le_chat", "x"),
    ],
)
def test_the_front_matter_tells_whose_conversation_it_is(facts, provider, native_id):
    conversation = import_text(f"---\n{facts}\n---\n{BODY}")

    assert (conversation.provider, conversation.native_id) == (provider, native_id)
    assert conversation.is_migrated
    assert not conversation.is_id_derived


def test_lines_above_the_first_message_tell_it_too():
    above = "# Knots\n\n**User:** me  \n**Created:** 2026-03-01T10:00:00Z  \n- **Link**: https://chatgpt.com/c/68a0c1de-4444\n"
    conversation = import_text(f"{above}\n{BODY}")

    assert (conversation.provider, conversation.native_id) == ("chatgpt", "68a0c1de-4444")
    assert (conversation.title, conversation.created) == ("Knots", "2026-03-01T10:00:00Z")
    assert "front_matter" not in conversation.extra


def test_facts_in_brackets_are_read():
    time = "2025-06-08T12:37:50+00:00"
    text = f"# Knots [created:: {time}]\n\n## Human [created:: {time}]\n\na\n\n## Gemini [created:: {time}]\n\nb\n"
    conversation = import_text(text)

    assert (conversation.title, conversation.created) == ("Knots", "2025-06-08T12:37:50Z")
    assert [message.created for message in conversation.messages] == ["2025-06-08T12:37:50Z"] * 2
    assert (conversation.provider, conversation.messages[1].model) == ("gemini", None)


def test_without_an_id_one_is_made_of_the_beginning():
    conversations = [import_text(text) for text in (BODY, BODY + "\n## User\n\nthanks\n", BODY.replace("knot", "bend"))]

    ids = [conversation.native_id for conversation in conversations]
    assert ids[0] == ids[1] != ids[2]
    assert conversations[0].is_id_derived
    assert conversations[1].messages[0].key == conversations[0].messages[0].key


def test_the_name_of_the_speaker_tells_the_provider_where_the_front_matter_does_not():
    assert import_text(BODY).provider == "unknown"
    assert import_text(BODY.replace("Assistant", "ChatGPT")).provider == "chatgpt"


@pytest.mark.parametrize(
    ("text", "title", "source"),
    [
        (f"---\ntitle: 'Knots: a talk'\n---\n# Other\n\n{BODY}", "Knots: a talk", "provider"),
        (f"---\ntitle: 2024\n---\n{BODY}", "2024", "provider"),
        (f"# Knots #\n\nabout them\n\n{BODY}", "Knots", "provider"),
        (BODY, "file", "file_name"),
    ],
)
def test_the_title_is_in_the_front_matter_else_a_heading_else_the_name_of_the_file(text, title, source):
    conversation = import_text(text)

    assert (conversation.title, conversation.title_source) == (title, source)


def test_times_and_all_else_of_the_front_matter_are_kept():
    facts = 'create_time: 2026-03-01T10:00:00+01:00\nmodified: 2026-03-02\ntags: [a, no]\nodd: "\\ud83d"'
    conversation = import_text(f"---\n{facts}\n---\nA word before.\n\n{BODY}")

    assert (conversation.created, conversation.updated) == ("2026-03-01T09:00:00Z", "2026-03-02T00:00:00Z")
    assert conversation.extra["front_matter"]["tags"] == ["a", "no"]
    assert conversation.extra["preamble"] == "A word before."
    assert encode_conversation(conversation)


@pytest.mark.parametrize("facts", ["a: &x [1]\nb: *x", "{broken", "- a list", "? [1]\n: b", "!!python/object:x.y {}"])
def test_front_matter_that_cannot_be_read_is_text(facts):
    text = f"---\n{facts}\n---\n{BODY}"

    assert turns_of(text) == EXPECTED
    assert "front_matter" not in import_text(text).extra


def test_a_long_line_costs_no_more_than_its_length():
    assert turns_of(BODY + "# " + "a #" * 100_000 + "\n")[0] == EXPECTED[0]


def test_a_file_in_another_encoding_is_read():
    (parsed,) = parse_all(IMPORTER, make_member("a.md", BODY.encode("utf-16")))

    assert len(parsed.conversation.messages) == 2


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("ChatGPT", "chatgpt"),
        ("OpenAI", "chatgpt"),
        ("Claude.ai", "claude"),
        ("https://www.chatgpt.com/c/1", "chatgpt"),
        ("https://example.org/claude", "unknown"),
        ("", "unknown"),
        ("x" * 41, "unknown"),
    ],
)
def test_providers_have_the_names_that_the_importers_give_them(said, name):
    assert name_provider(said) == name
