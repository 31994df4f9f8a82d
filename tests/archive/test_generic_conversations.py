"""Lists of messages with a role and content, and Grok's exports: no provider, and nothing lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.conversations import AttachmentStatus, Conversation, Kind, Origin, Role, encode_conversation
from pipeline.archive.importers.generic import GenericImporter
from pipeline.archive.reading import peek
from tests.archive.members import import_alone, list_damaged, make_member, parse_all, split_all

IMPORTER = GenericImporter()


def import_messages(*messages: Any, **facts: Any) -> Conversation:
    return import_alone(IMPORTER, {"messages": list(messages), **facts})


def blocks_of(content: Any) -> list[tuple[str, str | None]]:
    (message,) = import_messages({"role": "user", "content": content}).messages
    return [(block.kind, block.text) for block in message.blocks]


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "hi"}]},
        [{"messages": [{"role": "user", "content": ["hi"]}]}],
        {"conversations": [{"messages": [{"role": "user", "content": "hi"}]}]},
        {"responses": [{"response": {"sender": "human", "message": "hi"}}]},
        {
            "conversations": [
                {"conversation": {"id": "c"}, "responses": [{"response": {"sender": "human", "message": "hi"}}]}
            ]
        },
    ],
)
def test_messages_with_a_role_and_content_are_a_conversation(value):
    file = make_member("f", value)

    (parsed,) = parse_all(IMPORTER, file)

    assert IMPORTER.recognise(peek(file)) is not None
    assert parsed.conversation.provider == "unknown"
    assert [(message.role, message.blocks[0].text) for message in parsed.conversation.messages] == [(Role.USER, "hi")]


@pytest.mark.parametrize(
    "value", [{"messages": []}, {"messages": [{"role": "user"}]}, {"messages": ["hi"]}, {"role": "user"}]
)
def test_lists_without_roles_and_content_are_nobodys(value):
    assert IMPORTER.recognise(peek(make_member("f", value))) is None


def test_lines_of_conversations_are_one_each_and_the_bad_ones_are_named():
    lines = [{"id": "a", "messages": [{"role": "user", "content": "hi"}]}, {"other": 1}]
    content = "\n".join(map(json.dumps, [*lines, {"id": "b", "messages": []}]))

    records, skips = split_all(IMPORTER, make_member("f", content))

    assert [record.key for record in records] == ["a", "b"]
    assert [(skip.reason, skip.place) for skip in skips] == [("not_recognised", "f[1]")]


def test_title_times_and_model_are_read_and_the_rest_is_kept():
    conversation = import_messages(
        {"role": "assistant", "content": "hi", "rating": 5},
        id="c1",
        title="Boats",
        created_at="2026-03-01T10:00:00Z",
        updated_at=1772359200,
        model="m",
        folder="x",
    )

    assert (conversation.native_id, conversation.title, conversation.title_source) == ("c1", "Boats", "provider")
    assert (conversation.created, conversation.updated) == ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z")
    assert (conversation.model, conversation.messages[0].model) == ("m", "m")
    assert conversation.extra == {"folder": "x"}
    assert conversation.messages[0].extra == {"rating": 5}


def test_roles_of_any_spelling_are_read_and_an_unknown_one_is_kept():
    roles = ["Human", "AI", "system", "tool", "narrator"]
    conversation = import_messages(*({"role": role, "content": "x"} for role in roles))

    assert [message.role for message in conversation.messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.SYSTEM,
        Role.TOOL,
        Role.UNKNOWN,
    ]
    assert [message.hidden for message in conversation.messages] == [None, None, "context", None, None]
    assert conversation.messages[0].origin == Origin.HUMAN
    assert conversation.messages[4].extra == {"role": "narrator"}


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        ("hi", [(Kind.TEXT, "hi")]),
        (["hi", "ho"], [(Kind.TEXT, "hi"), (Kind.TEXT, "ho")]),
        ([{"type": "text", "text": "hi"}, {"text": "ho"}], [(Kind.TEXT, "hi"), (Kind.TEXT, "ho")]),
        ({"content_type": "text", "parts": ["hi"]}, [(Kind.TEXT, "hi")]),
        ([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}], [(Kind.THINKING, "hm")]),
        ([{"type": "tool_use", "name": "x", "id": "1", "input": {}}], [(Kind.TOOL_USE, None)]),
        (
            [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "y"}]}],
            [(Kind.TOOL_RESULT, "y")],
        ),
        ([{"type": "brand_new", "text": "words"}], [(Kind.TEXT, "words")]),
        ([{"type": "brand_new", "value": 1}], [(Kind.CONTEXT, None)]),
        ([42], [(Kind.CONTEXT, None)]),
        ("", []),
        (None, []),
    ],
)
def test_a_content_of_any_form_is_read(content, blocks):
    assert blocks_of(content) == blocks


def test_pictures_are_attachments():
    content = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
    ]
    (parsed,) = parse_all(IMPORTER, make_member("f", {"messages": [{"role": "user", "content": content}]}))

    attachments = [block.attachment for block in parsed.conversation.messages[0].blocks]
    assert [attachment.status for attachment in attachments] == [
        AttachmentStatus.PRESENT,
        AttachmentStatus.EXTERNAL,
        AttachmentStatus.PRESENT,
    ]
    assert list(parsed.extras.values()) == [b"\x89PNG\r\n\x1a\n"]


def test_calls_and_their_results_are_joined():
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "boats"}'}}
    conversation = import_messages(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": "a ketch"},
    )

    use, result = (message.blocks[0] for message in conversation.messages)
    assert (use.kind, use.tool_name, use.input, use.call_id) == (Kind.TOOL_USE, "look", {"at": "boats"}, "c1")
    assert (result.kind, result.tool_name, result.text, result.call_id) == (Kind.TOOL_RESULT, "look", "a ketch", "c1")


def test_a_conversation_without_an_id_has_one_of_its_first_prompt_and_grows():
    short = import_messages({"role": "user", "content": "hi"})
    grown = import_messages({"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"})
    other = import_messages({"role": "user", "content": "ho"})

    assert short.native_id == grown.native_id != other.native_id
    assert short.is_id_derived
    assert short.is_append_only
    assert grown.messages[0].key == short.messages[0].key


def test_ids_of_messages_are_their_keys():
    conversation = import_messages(
        {"role": "user", "content": "hi", "id": "m1"}, {"role": "user", "content": "ho", "id": "m2"}
    )

    assert [message.key for message in conversation.messages] == ["m1", "m2"]
    assert not conversation.is_append_only


def test_an_export_of_grok_is_a_tree_with_its_times():
    def response(message_id: str, sender: str, text: str, parent: str | None, milliseconds: int) -> dict[str, Any]:
        time = {"$date": {"$numberLong": str(milliseconds)}}
        return {
            "response": {
                "_id": message_id,
                "sender": sender,
                "message": text,
                "parent_response_id": parent,
                "create_time": time,
                "model": "grok-demo",
                "steps": [1],
            }
        }

    responses = [
        response("a", "human", "Which knot?", None, 1772359200000),
        response("c", "ASSISTANT", "A cleat hitch.", "a", 1772359202000),
        response("b", "ASSISTANT", "A bowline.", "a", 1772359201000),
    ]
    conversation = import_alone(
        IMPORTER,
        {"conversations": [{"conversation": {"id": "g1", "title": "Knots", "starred": True}, "responses": responses}]},
    )

    assert (conversation.native_id, conversation.title) == ("g1", "Knots")
    assert [(message.key, message.parent, message.is_active) for message in conversation.messages] == [
        ("a", None, True),
        ("c", "a", True),
        ("b", "a", False),
    ]
    assert conversation.messages[0].created == "2026-03-01T10:00:00Z"
    assert conversation.messages[1].model == "grok-demo"
    assert conversation.messages[1].extra == {"steps": [1]}
    assert conversation.extra == {"starred": True}


def test_ids_may_be_numbers_and_a_number_alone_is_no_id_of_a_conversation():
    messages = [{"id": 1, "role": "user", "content": "hi"}, {"id": 2, "parent_id": 1, "role": "bot", "content": "ho"}]
    one, other = (import_messages(*messages, id=number) for number in (1, 2))

    assert [(message.key, message.parent) for message in one.messages] == [("1", None), ("2", "1")]
    assert one.is_id_derived
    assert one.native_id != other.native_id
    assert one.extra == {"id": 1}


def test_what_is_no_message_keeps_its_place_and_what_nobody_knows_is_counted():
    conversation = import_messages({"role": "user", "content": [{"type": "new", "a": 1}]}, "bare words", None, 5)

    assert [message.blocks[0].text for message in conversation.messages] == [None, "bare words", None]
    assert conversation.warnings == {"unknown_role": 2, "unknown_type": 2}


def test_what_stands_under_a_second_name_is_kept():
    message = {"role": "user", "author": "Ann", "content": "hi", "text": "other", "id": "a", "uuid": "a"}
    conversation = import_messages(message, title="Boats", summary="of boats")

    assert conversation.extra == {"summary": "of boats"}
    assert conversation.messages[0].extra == {"author": "Ann", "text": "other"}


def test_what_a_result_has_besides_words_is_kept():
    content = [{"type": "tool_result", "content": [{"type": "text", "text": "y"}, {"type": "chart", "points": [1]}]}]
    (message,) = import_messages({"role": "user", "content": content}).messages

    assert message.blocks[0].extra == {"content": [{"type": "chart", "points": [1]}]}


def test_a_time_without_a_zone_is_counted():
    conversation = import_messages({"role": "user", "content": "hi"}, created_at="2026-03-01T10:00:00")

    assert (conversation.created, conversation.warnings) == ("2026-03-01T10:00:00Z", {"time_without_zone": 1})


PARTS = [
    {"type": "tool_use", "id": "t", "name": "draw", "input": {"a": 1}},
    {"type": "tool_result", "tool_use_id": "t", "content": "a", "is_error": False},
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part["type"])
@pytest.mark.parametrize("odd", [[71023], {"odd": 71023}], ids=["list", "object"])
def test_any_field_of_a_part_with_another_kind_of_value_is_kept(part, odd):
    for damaged in list_damaged(part, odd):
        conversation = import_messages({"role": "assistant", "content": [damaged]})

        assert b"71023" in encode_conversation(conversation), damaged


def test_calls_that_are_none_are_kept():
    calls = [5, {"id": "t", "index": 3, "function": {"name": ["x"], "arguments": "{}"}}]
    unknown, call = import_messages({"role": "assistant", "content": None, "tool_calls": calls}).messages[0].blocks

    assert (unknown.raw, call.call_id, call.extra) == (5, "t", {"index": 3, "name": ["x"]})


@pytest.mark.parametrize("value", [{"messages": None}, {"messages": "words"}, {"responses": {}}])
def test_what_has_no_list_is_skipped(value):
    file = make_member("f", [{"messages": [{"role": "user", "content": "hi"}]}, value])

    records, skips = split_all(IMPORTER, file)

    assert (len(records), [skip.place for skip in skips]) == (1, ["f[1]"])
