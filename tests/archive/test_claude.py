"""Chats of Claude.ai become conversations: each field, block and side file, and the traps of real exports."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.archive.conversations import (
    Attachment,
    Block,
    Conversation,
    decode_conversation,
    encode_conversation,
)
from pipeline.archive.importers.claude import ClaudeImporter
from pipeline.archive.importers.claude_messages import ROOT
from pipeline.archive.importers.interface import Parsed
from pipeline.archive.reading import peek
from tests.archive.members import SAMPLES, import_alone, list_damaged, make_member, parse_all, read_zip, split_all

PIXEL = b"\x89PNG not really"
CLAUDE = ClaudeImporter()
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples in {SAMPLES}")


def say(uuid: str, sender: str, content: Any, parent: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a message as an export has it; a text stands for a content of one text block."""
    text = ""
    if isinstance(content, str) and content:
        text, content = content, [{"type": "text", "text": content, "citations": []}]
    message = {"uuid": uuid, "sender": sender, "text": text, "content": content, "created_at": "2026-01-01T00:00:00Z"}
    return {**message, **({"parent_message_uuid": parent} if parent else {}), **fields}


def make_chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    times = {"created_at": "2026-01-01T00:00:00.5Z", "updated_at": "2026-01-02T00:00:00Z"}
    return {"uuid": "c", "name": "Knots", **times, "chat_messages": list(messages), **fields}


def read(*messages: Any, **fields: Any) -> Conversation:
    return import_alone(CLAUDE, make_chat(*messages, **fields))


def read_parsed(*messages: Any) -> Parsed:
    (parsed,) = parse_all(CLAUDE, make_member("chat", make_chat(*messages)))
    return parsed


def read_blocks(*content: Any) -> list[Block]:
    (message,) = read(say("m", "assistant", list(content))).messages
    return message.blocks


def list_attachments(conversation: Conversation) -> list[Attachment]:
    return [block.attachment for message in conversation.messages for block in message.blocks if block.attachment]


def list_active(conversation: Conversation) -> list[str]:
    return [message.key for message in conversation.messages if message.is_active]


def parents_of(conversation: Conversation) -> dict[str, str | None]:
    return {message.key: message.parent for message in conversation.messages}


# Samples


@needs_samples
def test_the_official_export_has_the_counts_that_are_known():
    files = read_zip(SAMPLES / "claude_ai" / "composed_official.zip")
    chats = [file for file in files if not CLAUDE.recognise(peek(file)).is_artifact]
    parsed = [each for file in chats for each in parse_all(CLAUDE, file, files)]
    notes, void, old, design = (each.conversation for each in parsed)
    attachments = list_attachments(notes)

    assert [len(each.messages) for each in (notes, void, old, design)] == [5, 0, 2, 1]
    assert [message.role for message in notes.messages if message.is_active] == ["user", "assistant"] * 2
    assert len({message.key for message in notes.messages} - {message.parent for message in notes.messages}) == 2
    kinds = [block.kind for message in notes.messages for block in message.blocks]
    assert [kinds.count(kind) for kind in ("thinking", "tool_use", "tool_result")] == [1, 3, 3]
    assert [each.name for each in attachments if each.status == "missing"] == ["quay.jpg", "chart.pdf"]
    assert [each.extra["version"] for each in attachments if each.purpose == "artifact"] == [1, 2]
    assert parsed[0].extras[attachments[-1].extra_file] == b"# Log\nwind 12 kn\n"
    assert parsed[0].extras[attachments[0].extra_file] == b"wind 12 kn\nsea calm"
    assert [each.name for each in design.attachments] == ["engine.md"]
    assert {each.account for each in (notes, void, old, design)} == {notes.account}
    assert notes.account is not None


@needs_samples
def test_a_chat_of_the_api_ends_where_it_says():
    file = SAMPLES / "claude_ai" / "composed_api_detail.json"
    conversation = import_alone(CLAUDE, file.read_bytes())

    assert conversation.model == "claude-demo-1"
    assert len(conversation.messages) == 5
    assert [block.text for message in conversation.messages if message.is_active for block in message.blocks] == [
        "Pick a colour",
        "Blue.",
        "Why?",
        "It is calm.",
    ]
    assert [attachment.name for attachment in list_attachments(conversation)] == ["c.png"]
    assert not conversation.is_leaf_guessed


@needs_samples
def test_a_chat_with_a_title_and_texts_alone_is_read():
    conversation = import_alone(CLAUDE, (SAMPLES / "claude_ai" / "polylogue_minimal.json").read_bytes())

    assert (conversation.title, conversation.title_source) == ("Origin capability matrix", "provider")
    assert [block.text for block in conversation.messages[0].blocks] == ["Prove the parser claim."]


# What a file is


@pytest.mark.parametrize(
    ("content", "is_artifact"),
    [
        ([make_chat(say("m", "human", "hi"))], False),
        ({"conversations": [make_chat(say("m", "human", "hi"))]}, False),
        (make_chat(say("m", "human", "hi")), False),
        (json.dumps(make_chat(say("m", "human", "hi"))) + "\n" + json.dumps(make_chat()), False),
        ([make_chat()], False),
        ([{"uuid": "u", "full_name": "D", "email_address": "d@example.org"}], True),
        ([{"uuid": "p", "name": "Boat", "docs": []}], True),
        ({"uuid": "p", "name": "Boat", "prompt_template": ""}, True),
        ([{"account_uuid": "a", "conversations_memory": "Sails."}], True),
        ({"account_uuid": "a", "project_memories": {"p": "Engine."}}, True),
        ({"uuid": "d", "project": {"uuid": "p"}, "messages": [{"content": {"content": "draw"}}]}, False),
    ],
)
def test_a_file_is_known_by_its_shape(content, is_artifact):
    recognition = CLAUDE.recognise(peek(make_member("renamed.bin", content)))

    assert recognition is not None
    assert recognition.is_artifact == is_artifact


@pytest.mark.parametrize(
    "content",
    [
        [{"uuid": "c", "chat_messages": []}],  # an empty one without its other fields
        [{"uuid": "c", "name": "n", "chat_messages": []}],
        {"chat_messages": [1, "a"]},
        [{"id": "share-1", "conversation_id": "c", "title": "t"}],
        {"messages": [{"role": "user", "content": "hi"}]},
        {"mapping": {}},
        {"links": ["https://example.org/a.zip"]},
        [],
        {},
        "plain words",
    ],
)
def test_another_shape_is_not_taken_for_a_chat(content):
    assert CLAUDE.recognise(peek(make_member("conversations.json", content))) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest-1.json", {"files": [{"url": "https://example.org/x/1.zip?signature=a"}]}),
        ("renamed.json", {"parts": [{"url": "https://storage.example.org/projects-000.zip?signature=a"}]}),
        ("renamed.json", ["https://claude.ai/export/1.zip"]),
    ],
)
def test_a_list_of_an_exports_parts_says_what_to_do(name, content):
    file = make_member(name, content)
    recognition = CLAUDE.recognise(peek(file))
    records, skips = split_all(CLAUDE, file)

    assert recognition is not None
    assert not recognition.is_artifact
    assert records == []
    assert "download the listed parts" in skips[0].detail
    assert (skips[0].reason, skips[0].is_info) == ("parts_not_downloaded", False)
    assert "signature" not in skips[0].detail


def test_a_broken_element_does_not_stop_its_siblings():
    chats = [make_chat(uuid="a"), 42, {"uuid": "b", "title": "no messages"}, make_chat(uuid="d")]
    records, skips = split_all(CLAUDE, make_member("conversations.json", chats))

    assert [record.key for record in records] == ["a", "d"]
    assert [record.place for record in records] == ["conversations.json[0]", "conversations.json[3]"]
    assert [(skip.reason, skip.place) for skip in skips] == [
        ("not_a_conversation", "conversations.json[1]"),
        ("not_a_conversation", "conversations.json[2]"),
    ]


# Conversations


def test_fields_of_a_chat_find_their_places():
    conversation = read(
        account={"uuid": "a"},
        model="claude-x",
        settings={"enabled": True},
        is_starred=True,
        is_temporary=True,
        project_uuid="p",
        platform="WEB",
    )

    assert (conversation.provider, conversation.native_id, conversation.account) == ("claude", "c", "a")
    assert (conversation.created, conversation.updated) == ("2026-01-01T00:00:00.500000Z", "2026-01-02T00:00:00Z")
    assert (conversation.model, conversation.settings) == ("claude-x", {"enabled": True})
    assert conversation.flags == ["starred", "temporary"]
    assert conversation.project_id == "p"
    assert conversation.extra == {"platform": "WEB"}


def test_a_project_in_the_chat_names_it():
    conversation = read(project={"uuid": "p", "name": "Boat"})

    assert (conversation.project_id, conversation.project_name) == ("p", "Boat")


@pytest.mark.parametrize("value", ["2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.123456+00:00"])
def test_times_are_read_with_and_without_a_zone(value):
    assert read(created_at=value).created == "2026-01-01T00:00:00.123456Z"
    assert read(created_at=value[:26]).created == "2026-01-01T00:00:00.123456Z"


def test_a_time_without_a_zone_is_counted():
    conversation = read(say("m", "human", "hi", created_at="2026-01-01T00:00:01"), updated_at="2026-01-01")

    assert conversation.warnings == {"time_without_zone": 2}


def test_fields_with_another_kind_of_value_are_kept_as_they_were():
    odd = {"name": 5, "model": ["x"], "account": "me", "project": "p", "is_starred": "yes"}
    conversation = read(say("m", "human", "hi", files={"a": 1}, parent_message_uuid=3), **odd)

    assert conversation.extra == odd
    assert conversation.messages[0].extra == {"files": {"a": 1}, "parent_message_uuid": 3}


def test_an_id_may_be_a_number():
    conversation = read(uuid=17)

    assert (conversation.native_id, conversation.is_id_derived) == ("17", False)


def test_a_damaged_time_is_kept_and_counted():
    conversation = read(say("m", "human", "hi", created_at="2026-01-01T00:00:01.69+"), updated_at="soon")

    assert conversation.messages[0].created is None
    assert conversation.messages[0].extra["created_at"] == "2026-01-01T00:00:01.69+"
    assert conversation.extra["updated_at"] == "soon"
    assert conversation.warnings == {"damaged_time": 2}


@pytest.mark.parametrize(
    ("name", "summary", "title", "source"),
    [
        ("Knots", "short", "Knots", "provider"),
        ("", "short", "short", "summary"),
        ("", "**Overview**\n\nThe user asked", "hi there", "first_prompt"),
        (None, None, "hi there", "first_prompt"),
    ],
)
def test_a_title_is_the_providers_then_a_short_summary_then_the_first_prompt(name, summary, title, source):
    conversation = read(say("m", "human", "hi there"), name=name, summary=summary)

    assert (conversation.title, conversation.title_source) == (title, source)


def test_an_empty_chat_is_kept():
    conversation = read()

    assert (conversation.messages, conversation.active_leaf) == ([], None)
    assert not conversation.is_leaf_guessed


def test_a_chat_without_an_id_gets_the_same_one_when_it_has_grown():
    first, second = say("m", "human", "hi"), say("n", "assistant", "hello")
    short, long = (read(*messages, uuid=None) for messages in ([first], [first, second]))

    assert short.is_id_derived
    assert short.native_id == long.native_id


# Trees


def test_without_any_parent_the_order_is_the_tree():
    conversation = read(say("a", "human", "1"), say("b", "assistant", "2"), say("c", "human", "3"))

    assert parents_of(conversation) == {"a": None, "b": "a", "c": "b"}
    assert list_active(conversation) == ["a", "b", "c"]
    assert not conversation.is_leaf_guessed
    assert conversation.warnings == {}


def test_the_zero_id_means_no_parent():
    conversation = read(say("a", "human", "1", ROOT), say("b", "human", "edited", ROOT))

    assert parents_of(conversation) == {"a": None, "b": None}
    assert [message.variant for message in conversation.messages] == [0, 1]


def test_where_every_message_has_the_zero_id_the_order_is_the_tree():
    conversation = read(say("a", "human", "1", ROOT), say("b", "assistant", "2", ROOT), say("c", "human", "3"))

    assert parents_of(conversation) == {"a": None, "b": "a", "c": "b"}
    assert not conversation.is_leaf_guessed


def test_a_message_without_a_usable_parent_follows_the_one_before_it_and_is_counted():
    conversation = read(
        say("a", "human", "1", ROOT),
        say("b", "assistant", "2", "a"),
        say("c", "human", "3"),
        say("d", "human", "4", "x"),
    )

    assert parents_of(conversation) == {"a": None, "b": "a", "c": "b", "d": "c"}
    assert conversation.warnings == {"missing_parent": 2}


def test_without_a_declared_leaf_the_last_message_ends_the_path():
    conversation = read(
        say("a", "human", "1", ROOT), say("b", "assistant", "new", "a"), say("c", "assistant", "old", "a")
    )

    assert list_active(conversation) == ["a", "c"]
    assert conversation.is_leaf_guessed


@pytest.mark.parametrize(("leaf", "active"), [("b", ["a", "b"]), ("a", ["a"]), ("gone", ["a", "c"])])
def test_the_declared_leaf_is_obeyed_if_it_is_there(leaf, active):
    messages = [say("a", "human", "1", ROOT), say("b", "assistant", "2", "a"), say("c", "assistant", "3", "a")]
    conversation = read(*messages, current_leaf_message_uuid=leaf)

    assert list_active(conversation) == active
    assert conversation.is_leaf_guessed == (leaf == "gone")


def test_a_declared_leaf_on_a_circle_is_not_obeyed():
    messages = [say("a", "human", "1", "b"), say("b", "assistant", "2", "a"), say("c", "human", "3", ROOT)]
    conversation = read(*messages, current_leaf_message_uuid="b")

    assert list_active(conversation) == ["c"]
    assert conversation.is_leaf_guessed
    assert conversation.warnings == {"circle": 1}


def test_the_order_of_the_file_changes_nothing_where_the_leaf_is_declared():
    messages = [say("a", "human", "1", ROOT), say("b", "assistant", "2", "a"), say("c", "human", "3", "b")]
    one, other = (read(*order, current_leaf_message_uuid="c") for order in (messages, messages[::-1]))

    assert parents_of(one) == parents_of(other)
    assert set(list_active(one)) == set(list_active(other)) == {"a", "b", "c"}


def test_a_repeated_message_is_one_and_a_different_one_keeps_its_own_row():
    first, other = say("a", "human", "1"), say("a", "human", "not the same")
    conversation = read(first, copy.deepcopy(first), other)

    assert [(message.key, message.native_id) for message in conversation.messages] == [("a", None), ("a~2", "a")]
    assert conversation.warnings == {"duplicate_message_id": 1}


def test_a_message_that_is_named_like_a_derived_key_keeps_its_own():
    odd = [say("a~2", "human", "odd"), say("message-1", "human", "odd")]
    conversation = read(odd[1], say("", "human", "no id"), odd[0], say("a", "human", "1"), say("a", "human", "2"))

    assert [message.key for message in conversation.messages] == ["message-1", "message-1~", "a~2", "a", "a~2~"]


def test_many_messages_with_one_id_and_other_contents_keep_a_row_each():
    conversation = read(*(say("a", "human", str(number % 1_000)) for number in range(2_000)))

    assert [message.key for message in conversation.messages] == ["a", *(f"a~{n}" for n in range(2, 1_001))]


def test_a_chain_of_20000_messages_is_read():
    messages = [say(f"m{n}", "human", [{"type": "tool_use", "name": "t"}], f"m{n - 1}") for n in range(20_000)]
    messages[0]["parent_message_uuid"] = ROOT
    conversation = read(*messages)

    assert sum(message.is_active for message in conversation.messages) == 20_000


# Messages


@pytest.mark.parametrize(
    ("sender", "role", "origin"),
    [
        ("human", "user", "human"),
        ("assistant", "assistant", None),
        ("system", "system", None),
        ("elf", "unknown", None),
    ],
)
def test_a_sender_becomes_a_role(sender, role, origin):
    (message,) = read(say("m", sender, "hi")).messages

    assert (message.role, message.origin) == (role, origin)
    assert message.extra.get("sender") == (sender if role == "unknown" else None)


def test_a_role_in_the_place_of_a_sender_is_read():
    message = say("m", "", "hi", role="assistant")
    del message["sender"]

    assert read(message).messages[0].role == "assistant"


def test_fields_of_the_api_are_kept():
    (message,) = read(
        say("m", "assistant", "hi", index="0", truncated=True, stop_reason="stop_sequence", sync_sources=[], x=1)
    ).messages

    assert message.status == "stop_sequence"
    assert message.extra == {"index": "0", "truncated": True, "x": 1}


@pytest.mark.parametrize("content", [None, [], ""])
def test_text_stands_in_where_there_is_no_content(content):
    (message,) = read(say("m", "human", content, text="words")).messages

    assert [block.text for block in message.blocks] == ["words"]


def test_text_is_never_joined_to_content():
    (message,) = read(say("m", "human", "in blocks", text="in blocks, flat")).messages

    assert [block.text for block in message.blocks] == ["in blocks"]


@pytest.mark.parametrize("content", [[{"type": "text", "text": ""}], [None]])
def test_text_stands_in_where_no_block_has_a_word(content):
    (message,) = read(say("m", "human", content, text="only here")).messages

    assert [block.text for block in message.blocks] == ["only here"]


def test_a_text_with_other_words_than_content_is_kept_beside_it():
    conversation = read(say("m", "human", "in blocks", text="something else"))
    (message,) = conversation.messages

    assert ([block.text for block in message.blocks], message.extra) == (["in blocks"], {"text": "something else"})
    assert conversation.warnings == {"text_differs": 1}


def test_what_is_no_message_keeps_its_row():
    conversation = read(say("a", "human", "1"), 42, "words", None)

    assert [message.role for message in conversation.messages] == ["user", "unknown", "unknown", "unknown"]
    assert [message.blocks[0].raw for message in conversation.messages[1:]] == [42, "words", None]
    assert conversation.warnings == {"malformed_message": 3}


# Blocks


def test_a_text_has_its_citations_behind_it():
    source = {"uuid": "x", "start_index": 0, "end_index": 4, "details": {"type": "web", "url": "https://example.org"}}
    text, citation = read_blocks({"type": "text", "text": "Calm.", "citations": [source], "flags": None})

    assert (text.kind, text.text, text.extra) == ("text", "Calm.", {})
    assert (citation.kind, citation.extra["url"], citation.extra["end_index"]) == ("citation", "https://example.org", 4)


def test_thinking_keeps_its_times_and_not_its_signature():
    (block,) = read_blocks(
        {"type": "thinking", "thinking": "Well", "cut_off": True, "signature": "c2ln", "start_timestamp": "t0"}
    )

    assert (block.kind, block.text, block.flags) == ("thinking", "Well", ["cut_off"])
    assert block.extra == {"start_timestamp": "t0"}


def test_thinking_without_words_shows_its_summaries():
    (block,) = read_blocks({"type": "thinking", "thinking": "", "summaries": [{"summary": "Plan"}, {"summary": "Do"}]})

    assert (block.text, block.flags) == ("Plan\nDo", ["summary"])
    assert block.extra["summaries"] == [{"summary": "Plan"}, {"summary": "Do"}]


def test_a_call_and_its_result_keep_what_they_carry():
    call, result = read_blocks(
        {
            "type": "tool_use",
            "id": "t1",
            "name": "search",
            "input": {"q": 1},
            "integration_name": "Files",
            "icon": None,
        },
        {
            "type": "tool_result",
            "tool_use_id": "t1",
            "name": "search",
            "content": "found",
            "is_error": True,
            "meta": {"a": 1},
        },
    )

    assert (call.kind, call.tool_name, call.call_id, call.input) == ("tool_use", "search", "t1", {"q": 1})
    assert call.extra == {"integration_name": "Files"}
    assert (result.kind, result.call_id, result.text, result.is_error) == ("tool_result", "t1", "found", True)
    assert result.extra == {"meta": {"a": 1}}


def test_a_result_tells_texts_finds_and_files():
    content = [
        {"type": "text", "text": "one", "uuid": "x"},
        {"type": "knowledge", "title": "Tides", "url": "https://example.org", "text": "high", "metadata": {"a": 1}},
        {"type": "image", "file_uuid": "f"},
        {"type": "local_resource", "file_path": "/out/a.md", "name": "a.md", "mime_type": "text/markdown", "uuid": "r"},
    ]
    result, image, resource = read_blocks({"type": "tool_result", "tool_use_id": "t", "content": content})

    assert result.text == "one\nTides https://example.org\nhigh"
    assert result.extra["content"] == [content[1]]
    assert [(block.kind, block.call_id, block.attachment.id) for block in (image, resource)] == [
        ("attachment", "t", "f"),
        ("attachment", "t", "r"),
    ]
    assert resource.attachment.name == "a.md"
    assert {image.attachment.status, resource.attachment.status} == {"missing"}


def test_results_of_a_servers_search_are_read_without_what_is_encrypted():
    content = [{"type": "web_search_result", "title": "T", "url": "https://example.org", "encrypted_content": "NEVER"}]
    (result,) = read_blocks({"type": "web_search_tool_result", "tool_use_id": "t", "content": content})
    (failed,) = read_blocks(
        {"type": "web_search_tool_result", "content": {"type": "web_search_tool_result_error", "error_code": "limit"}}
    )

    assert (result.kind, result.text) == ("tool_result", "T https://example.org")
    assert "NEVER" not in json.dumps(result.extra)
    assert (failed.text, failed.is_error) == ("limit", True)


def test_images_with_bytes_are_kept_and_addresses_stay_addresses():
    data = base64.b64encode(PIXEL).decode()
    parsed = read_parsed(
        say(
            "m",
            "human",
            [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "no base64!"}},
                {
                    "type": "document",
                    "title": "a.txt",
                    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
                },
                {"type": "image"},
            ],
        )
    )
    inline, link, damaged, document, bare = list_attachments(parsed.conversation)

    assert parsed.extras[inline.extra_file] == PIXEL
    assert (link.status, link.url) == ("external", "https://example.org/a.png")
    assert (damaged.status, bool(damaged.reason)) == ("missing", True)
    assert (parsed.extras[document.extra_file], document.name, document.purpose) == (b"x", "a.txt", "document")
    assert (bare.status, bare.reason) == ("missing", "not in the export")
    assert data not in encode_conversation(parsed.conversation).decode()


def test_rarer_blocks_find_a_kind():
    voice, code, artifact, budget = read_blocks(
        {"type": "voice_note", "transcript": "spoken"},
        {"type": "code", "language": "python", "code": "1 + 1"},
        {"type": "artifact", "title": "Log", "content": "# Log"},
        {"type": "token_budget", "remaining": None},
    )

    assert (voice.kind, voice.text) == ("text", "spoken")
    assert (code.kind, code.text, code.language) == ("code", "1 + 1", "python")
    assert (artifact.kind, artifact.attachment.status, artifact.attachment.name) == ("attachment", "present", "Log")
    assert (budget.kind, budget.raw) == ("context", {"type": "token_budget", "remaining": None})


def test_an_unknown_block_is_kept_as_it_was_and_counted():
    odd = {"type": "hologram", "text": "a ship", "depth": 3}
    conversation = read(say("m", "assistant", [odd, 7, "bare words", {"type": "text", "text": None}]))
    hologram, seven, bare, malformed = conversation.messages[0].blocks

    assert (hologram.kind, hologram.text, hologram.raw, hologram.flags) == ("context", "a ship", odd, ["unknown_type"])
    assert (seven.kind, seven.raw) == ("context", 7)
    assert (bare.kind, bare.text) == ("text", "bare words")
    assert (malformed.kind, malformed.flags) == ("context", ["malformed"])
    assert conversation.warnings == {
        "unknown_block_type hologram": 1,
        "unknown_block_type": 1,
        "plain_string_in_content": 1,
        "malformed_block": 1,
    }


# Calls without ids


def call(name: str | None, call_id: str | None = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}}


def result(name: str | None, call_id: str | None = None) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "name": name, "content": "OK"}


def list_pairs(*messages: list[dict[str, Any]]) -> list[str | None]:
    """Return the call ids of all blocks, as letters in the order of their first appearance."""
    said = [say(f"m{number}", "assistant", content) for number, content in enumerate(messages)]
    ids = [block.call_id for message in read(*said).messages for block in message.blocks]
    known = list(dict.fromkeys(each for each in ids if each))
    return [None if each is None else "abcdefgh"[known.index(each)] for each in ids]


@pytest.mark.parametrize(
    ("messages", "pairs"),
    [
        ([[call("x"), result("x"), call("x"), result("x")]], "aabb"),
        ([[call("x"), call("x"), result("x"), result("x")]], "abba"),
        ([[call("x"), call("y"), result("x"), result("y")]], "abab"),
        ([[call("x"), call("y"), result(None), result(None)]], "abba"),
        ([[call("x")], [result("x")]], "aa"),
        ([[call("x", "t1"), call("x"), result("x"), result("x", "t1")]], "abba"),
        ([[call("x", "t1"), result("x")]], "aa"),
    ],
)
def test_a_result_without_an_id_belongs_to_the_nearest_open_call_of_its_tool(messages, pairs):
    assert list_pairs(*messages) == list(pairs)


def test_a_result_without_any_call_stays_alone():
    assert list_pairs([result("x")]) == [None]


def test_a_call_on_another_branch_is_not_answered():
    conversation = read(
        say("a", "human", "go", ROOT),
        say("b", "assistant", [call("x")], "a"),
        say("c", "assistant", [result("x")], "a"),
        say("d", "assistant", [result("x")], "b"),
    )
    ids = {message.key: message.blocks[0].call_id for message in conversation.messages}

    assert ids["b"] == ids["d"]
    assert ids["c"] is None


def test_a_call_is_answered_on_each_branch_that_follows_it():
    conversation = read(
        say("a", "assistant", [call("x")], ROOT),
        say("b", "assistant", [result("x")], "a"),
        say("c", "assistant", [result("x")], "a"),
    )

    assert len({message.blocks[0].call_id for message in conversation.messages}) == 1


def test_blocks_keep_their_order():
    kinds = [block.kind for block in read_blocks(call("x", "1"), result("x", "1"), {"type": "text", "text": "done"})]

    assert kinds == ["tool_use", "tool_result", "text"]


# Artifacts


def write(command: str, artifact_id: str = "note", **fields: Any) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": None,
        "name": "artifacts",
        "input": {"command": command, "id": artifact_id, **fields},
    }


def list_versions(parsed: Parsed) -> list[tuple[str, str]]:
    """Return name and text of each version of an artifact."""
    return [
        (str(each.name), parsed.extras[str(each.extra_file)].decode())
        for each in list_attachments(parsed.conversation)
        if each.purpose == "artifact"
    ]


def test_each_version_of_an_artifact_is_a_file():
    parsed = read_parsed(
        say("m", "assistant", [write("create", type="text/markdown", title="Note", content="# A\nold")]),
        say("n", "assistant", [write("update", old_str="old", new_str="new")]),
        say("o", "assistant", [write("rewrite", title="Notes", content="# B")]),
    )

    assert list_versions(parsed) == [("Note.md", "# A\nold"), ("Note.md", "# A\nnew"), ("Notes.md", "# B")]


@pytest.mark.parametrize(
    ("kind", "language", "name"),
    [
        ("application/vnd.ant.code", "python", "Note.py"),
        ("application/vnd.ant.react", None, "Note.jsx"),
        ("application/vnd.ant.mermaid", None, "Note.mmd"),
        ("image/svg+xml", None, "Note.svg"),
        ("text/html", None, "Note.html"),
        ("application/x-new", None, "Note"),
    ],
)
def test_an_artifact_is_named_by_what_it_is(kind, language, name):
    parsed = read_parsed(
        say("m", "assistant", [write("create", type=kind, language=language, title="Note", content="x")])
    )

    assert list_versions(parsed) == [(name, "x")]


@pytest.mark.parametrize("old", ["missing", "twice", "", None])
def test_an_update_that_does_not_fit_is_kept_and_the_next_one_goes_on(old):
    parsed = read_parsed(
        say("m", "assistant", [write("create", content="twice twice once")]),
        say("n", "assistant", [write("update", old_str=old, new_str="never")]),
        say("o", "assistant", [write("update", old_str="once", new_str="1")]),
    )

    assert [text for _, text in list_versions(parsed)] == ["twice twice once", "twice twice 1"]
    assert parsed.conversation.messages[1].blocks[0].flags == ["artifact_not_rebuilt"]
    assert parsed.conversation.warnings == {"artifact_not_rebuilt": 1}


def test_branches_write_their_own_versions():
    parsed = read_parsed(
        say("a", "assistant", [write("create", content="1")], ROOT),
        say("b", "assistant", [write("update", old_str="1", new_str="1b")], "a"),
        say("c", "assistant", [write("update", old_str="1", new_str="1c")], "a"),
        say("d", "assistant", [write("update", old_str="1b", new_str="1bd")], "b"),
    )

    assert [text for _, text in list_versions(parsed)] == ["1", "1b", "1c", "1bd"]


# Attachments


def test_the_text_of_an_upload_is_its_only_copy():
    upload = {"file_name": "log.md", "file_size": 999, "file_type": "text/markdown", "extracted_content": "wind ~ é"}
    parsed = read_parsed(say("m", "human", "see", attachments=[upload]))
    (attachment,) = list_attachments(parsed.conversation)

    assert parsed.extras[attachment.extra_file] == "wind ~ é".encode()
    assert (attachment.status, attachment.is_derived, attachment.mime_type) == ("present", True, "text/markdown")
    assert (attachment.size_bytes, attachment.extra["original_size_bytes"]) == (9, 999)


@pytest.mark.parametrize("fields", [{}, {"extracted_content": None}, {"extracted_content": ""}])
def test_an_upload_without_a_text_is_missing(fields):
    (attachment,) = list_attachments(
        read(
            say("m", "human", "see", attachments=[{"file_name": "a.pdf", "file_size": 5, "file_type": "pdf", **fields}])
        )
    )

    assert (attachment.status, attachment.reason) == ("missing", "the export has no text of it")
    assert (attachment.size_bytes, attachment.mime_type) == (5, "application/pdf")


def test_a_pasted_text_is_marked():
    paste = {"file_name": "", "file_size": 3, "file_type": "txt", "extracted_content": "abc"}
    (message,) = read(say("m", "human", "see", attachments=[paste])).messages

    assert message.blocks[-1].flags == ["paste"]
    assert message.blocks[-1].attachment.name is None


def test_files_that_two_lists_repeat_are_one_each():
    conversation = read(
        say(
            "m",
            "human",
            "see",
            files=[{"file_name": "a.png", "file_uuid": "1"}, {"file_name": "b.png"}, {"file_name": "b.png"}],
            files_v2=[
                {"file_name": "a.png", "file_uuid": "1", "size_bytes": 7},
                {"file_name": "b.png", "file_uuid": "2"},
            ],
        )
    )

    assert [(each.id, each.name, each.size_bytes) for each in list_attachments(conversation)] == [
        ("1", "a.png", 7),
        ("2", "b.png", None),
        (None, "b.png", None),
    ]


def test_a_file_that_one_list_has_by_its_name_alone_is_the_others():
    whole, named = {"file_name": "a.png", "file_uuid": "1"}, {"file_name": "a.png", "size_bytes": 7}
    one, other = (
        list_attachments(read(say("m", "human", "", files=files, files_v2=files_v2)))
        for files, files_v2 in ((["a.png"], [whole]), ([whole], [named]))
    )

    assert [(each.id, each.name, each.size_bytes) for each in one] == [("1", "a.png", None)]
    assert [(each.id, each.name, each.size_bytes) for each in other] == [("1", "a.png", 7)]


def test_equal_names_with_other_ids_are_two_files():
    conversation = read(
        say("m", "human", "", files=[{"file_name": "a", "file_uuid": "1"}], files_v2=[{"file_name": "a", "uuid": "2"}])
    )

    assert [each.id for each in list_attachments(conversation)] == ["1", "2"]


def test_addresses_of_a_file_are_kept_as_facts():
    item = {"file_kind": "image", "file_uuid": "1", "file_name": "a.png", "preview_url": "/api/a", "success": True}
    (attachment,) = list_attachments(read(say("m", "human", "see", files=[item])))

    assert (attachment.status, attachment.reason, attachment.url) == ("missing", "not in the export", None)
    assert attachment.extra == {"file_kind": "image", "preview_url": "/api/a", "success": True}


def test_what_is_no_attachment_keeps_its_place():
    conversation = read(say("m", "human", "see", attachments=[5], files=["a.png", None]))

    assert [each.name for each in list_attachments(conversation)] == ["a.png"]
    assert conversation.warnings == {"malformed_attachment": 2}


# Files beside the chats

USERS = make_member("users.json", [{"uuid": "acct", "email_address": "d@example.org", "full_name": "Demo"}])
DOCUMENT = {"uuid": "doc", "filename": "engine.md", "content": "# Engine", "created_at": "2026-01-01T00:00:00Z"}
PROJECT = {"uuid": "p", "name": "Boat", "prompt_template": "", "docs": [DOCUMENT, {"filename": "lost.md"}]}


@pytest.mark.parametrize(
    "project",
    [
        make_member("projects.json", [{**PROJECT, "uuid": "q", "name": "Car"}, PROJECT]),
        make_member("projects-000.zip/p.json", PROJECT),
    ],
)
def test_a_chat_that_names_its_project_gets_its_documents(project):
    file = make_member("conversations.json", [make_chat(project_uuid="p"), make_chat(uuid="d")])
    records, _ = split_all(CLAUDE, file, [file, USERS, project])
    (inside, outside) = (CLAUDE.parse(record) for record in records)
    present, missing = inside.conversation.attachments

    assert (inside.conversation.project_name, present.name) == ("Boat", "engine.md")
    assert inside.extras[present.extra_file] == b"# Engine"
    assert (missing.name, missing.status) == ("lost.md", "missing")
    assert outside.conversation.attachments == []
    assert records[0].sources == [project.export, USERS.export]


def test_the_one_user_beside_a_chat_is_its_account():
    file = make_member("chat.json", make_chat())
    other = make_member("more_users.json", [{"uuid": "other", "email_address": "e@example.org"}])

    assert [each.conversation.account for each in parse_all(CLAUDE, file, [file, USERS])] == ["acct"]
    assert [each.conversation.account for each in parse_all(CLAUDE, file, [file, USERS, other])] == [None]


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("2026.zip/design_chats/a.json", "acct"),
        ("2026.zip/conversations.json", "acct"),
        ("chat.json", None),
        ("2025.zip/conversations.json", None),
    ],
)
def test_the_account_of_another_export_is_not_a_chats(name, account):
    file, users = make_member(name, make_chat()), USERS._replace(name="2026.zip/users.json")

    assert [each.conversation.account for each in parse_all(CLAUDE, file, [file, users])] == [account]


def test_the_account_beside_a_zip_is_not_that_of_the_chats_in_it():
    file = make_member("2026.zip/conversations.json", make_chat())

    assert [each.conversation.account for each in parse_all(CLAUDE, file, [file, USERS])] == [None]


def test_a_chats_own_account_goes_first():
    file = make_member("chat.json", make_chat(account={"uuid": "own"}))
    (record,), _ = split_all(CLAUDE, file, [file, USERS])

    assert (record.context, record.sources) == (None, [])
    assert CLAUDE.parse(record).conversation.account == "own"


def test_nobodys_address_gets_into_a_conversation():
    file = make_member("chat.json", make_chat())
    (parsed,) = parse_all(CLAUDE, file, [file, USERS])

    assert "example.org" not in encode_conversation(parsed.conversation).decode()


# Design chats


def test_a_design_chat_is_a_conversation():
    blocks = [
        {"type": "thinking", "text": "hm"},
        {
            "type": "tool_call",
            "toolCall": {"id": "t", "name": "draw", "type": "x", "input": {"a": 1}, "output": "done"},
        },
        {"type": "text", "text": "here"},
    ]
    upload = {
        "id": "1",
        "name": "a.svg",
        "type": "image/svg+xml",
        "content": "<svg/>",
        "hidden": True,
        "path": "/a.svg",
    }
    messages = [
        {
            "uuid": "d1",
            "role": "user",
            "created_at": "2026-05-01T00:00:00Z",
            "content": {"content": "draw", "authorName": "D"},
        },
        {
            "uuid": "d2",
            "role": "assistant",
            "created_at": "2026-05-01T00:01:00Z",
            "content": {
                "content": "here",
                "contentBlocks": blocks,
                "attachments": [upload],
                "turnInputTokens": 12,
                "turnChanges": [1],
            },
        },
    ]
    chat = {"uuid": "design", "title": "Sail", "project": {"uuid": "p", "name": "Boat"}, "messages": messages}
    (parsed,) = parse_all(CLAUDE, make_member("design.json", chat))
    conversation = parsed.conversation
    asked, answered = conversation.messages

    assert (conversation.native_id, conversation.title, conversation.project_name) == ("design", "Sail", "Boat")
    assert (conversation.created, conversation.updated) == ("2026-05-01T00:00:00Z", "2026-05-01T00:01:00Z")
    assert (asked.author, asked.origin, [block.text for block in asked.blocks]) == ("D", "human", ["draw"])
    assert [block.kind for block in answered.blocks] == ["thinking", "tool_use", "tool_result", "text", "attachment"]
    assert (answered.blocks[1].input, answered.blocks[2].text, answered.blocks[2].call_id) == ({"a": 1}, "done", "t")
    assert parsed.extras[answered.blocks[4].attachment.extra_file] == b"<svg/>"
    assert answered.blocks[4].flags == ["hidden"]
    assert (answered.parent, answered.usage.input_tokens, answered.extra) == ("d1", 12, {"turnChanges": [1]})
    assert list_active(conversation) == ["d1", "d2"]


def test_odd_rows_of_a_design_chat_are_kept():
    messages = [{"uuid": "d", "content": {"content": "a"}}, {"uuid": "d", "content": None}]
    messages.append({"uuid": "e", "role": "critic", "content": "bare words"})
    chat = {"uuid": "design", "project": {}, "messages": [*messages, 5]}
    file = make_member("design.json", [chat])
    (conversation,) = (each.conversation for each in parse_all(CLAUDE, file))

    assert [message.key for message in conversation.messages] == ["d", "d~2", "e", "message-3"]
    assert [block.text for block in conversation.messages[2].blocks] == ["bare words"]
    assert conversation.messages[2].extra == {"sender": "critic"}
    assert conversation.warnings["malformed_message"] == 1


# Anything at all

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def damage(value: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of values like this one, with anything in the place of parts of it."""
    if isinstance(value, dict):
        fields = {name: st.one_of(damage(item), ANYTHING) for name, item in value.items()}
        return st.fixed_dictionaries({}, optional=fields)
    if isinstance(value, list):
        return st.lists(st.one_of(*(damage(item) for item in value), ANYTHING), max_size=5) if value else st.just([])
    return st.just(value)


BLOCKS = [
    call("artifacts"),
    write("create", content="x"),
    write("update", old_str="x", new_str="y"),
    result("artifacts"),
    {"type": "text", "text": "a", "citations": [{"details": {"url": "u"}}]},
    {"type": "thinking", "thinking": "", "summaries": [{"summary": "s"}]},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "tool_result", "content": [{"type": "image"}, {"type": "knowledge", "title": "t", "url": "u"}]},
    {"type": "voice_note"},
    {"type": "artifact"},
    {"type": "code"},
]
WHOLE = make_chat(
    say(
        "a",
        "human",
        BLOCKS,
        ROOT,
        attachments=[{"file_name": "f", "extracted_content": "x"}],
        files=[{"file_uuid": "1"}],
    ),
    say("b", "assistant", BLOCKS, "a", files_v2=[{"file_uuid": "1", "file_name": "f"}]),
    account={"uuid": "a"},
    project={"uuid": "p", "name": "n"},
    current_leaf_message_uuid="b",
)
DESIGN = {
    "uuid": "d",
    "title": "t",
    "project": {"uuid": "p"},
    "messages": [
        {
            "uuid": "1",
            "role": "user",
            "content": {
                "content": "c",
                "contentBlocks": [{"type": "tool_call", "toolCall": {"id": "t", "output": ["x"]}}],
                "attachments": [{"content": "data:text/plain,x"}],
            },
        }
    ],
}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.one_of(damage([WHOLE]), damage([DESIGN]), ANYTHING))
@example([WHOLE])
def test_no_chat_however_damaged_stops_the_import(content):
    file = make_member("conversations.json", content)
    CLAUDE.recognise(peek(file))
    records, _ = split_all(CLAUDE, file)

    for record in records:
        conversation = CLAUDE.parse(record).conversation
        keys = [message.key for message in conversation.messages]
        assert len(keys) == len(set(keys))
        content = encode_conversation(conversation)
        assert encode_conversation(decode_conversation(content)) == content


def test_equal_records_give_equal_bytes_whatever_the_order_of_keys():
    def turn(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turn(item) for name, item in reversed(value.items())}
        return [turn(item) for item in value] if isinstance(value, list) else value

    (one,), (other,) = (parse_all(CLAUDE, make_member("chat", each)) for each in (WHOLE, turn(WHOLE)))

    assert encode_conversation(one.conversation) == encode_conversation(other.conversation)
    assert one.extras == other.extras


BLOCKS = [
    {"type": "text", "text": "a", "citations": [{"uuid": "u", "details": {"url": "https://a"}}]},
    {"type": "thinking", "thinking": "a", "summaries": [{"summary": "b"}], "cut_off": True},
    {"type": "tool_use", "id": "t", "name": "draw", "input": {"a": 1}},
    {"type": "tool_result", "tool_use_id": "t", "name": "draw", "content": [{"type": "text", "text": "a"}]},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "file_uuid": "f"}], "is_error": False},
    {"type": "code", "code": "a", "language": "python", "start_timestamp": "x"},
    {"type": "document", "title": "a", "file_uuid": "b", "size_bytes": 3},
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["type"])
@pytest.mark.parametrize("odd", [71023, [71023], {"odd": 71023}], ids=["number", "list", "object"])
def test_any_field_with_another_kind_of_value_is_kept(block, odd):
    for damaged in list_damaged(block, odd):
        conversation = read(say("m", "assistant", [damaged]))

        is_count = odd == damaged.get("size_bytes") == 71023
        assert is_count or b"71023" in encode_conversation(conversation), damaged


@pytest.mark.parametrize("odd", [[71023], {"odd": 71023}], ids=["list", "object"])
def test_any_field_of_a_file_with_another_kind_of_value_is_kept(odd):
    upload = {"id": "a", "file_name": "a.txt", "file_size": 3, "file_type": "txt", "extracted_content": "words"}
    image = {"file_uuid": "f", "file_name": "a.png", "size_bytes": "3"}
    for damaged in [*list_damaged(upload, odd), *list_damaged(image, odd)]:
        fields = {"attachments": [damaged]} if "extracted_content" in damaged else {"files": [damaged]}
        conversation = read(say("m", "human", "see", **fields))

        assert b"71023" in encode_conversation(conversation), damaged


def test_of_two_lists_of_files_a_null_says_nothing():
    files, more = [{"file_name": "a.png", "file_uuid": None}], [{"file_name": "a.png", "file_uuid": "f"}]

    (attachment,) = list_attachments(read(say("m", "human", "see", files=files, files_v2=more)))

    assert (attachment.id, attachment.name) == ("f", "a.png")


@pytest.mark.parametrize("odd", [[71023], {"odd": 71023}], ids=["list", "object"])
def test_any_field_of_a_design_chats_message_with_another_kind_of_value_is_kept(odd):
    call = {"type": "tool_call", "toolCall": {"id": "t", "name": "draw", "input": {"a": 1}, "output": "done"}}
    upload = {"id": "1", "name": "a.txt", "content": "words", "hidden": True}
    content = {"contentBlocks": [call, {"type": "thinking", "text": "hm"}], "attachments": [upload], "authorName": "D"}
    for damaged in list_damaged(content, odd):
        chat = {"uuid": "design", "project": {}, "messages": [{"uuid": "d", "role": "assistant", "content": damaged}]}
        conversation = import_alone(CLAUDE, chat)

        assert b"71023" in encode_conversation(conversation), damaged
