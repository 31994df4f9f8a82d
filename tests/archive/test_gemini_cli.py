"""Sessions of the Gemini command line: files that are written anew at every turn, and newer ones of lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.conversations import AttachmentStatus, Conversation, Kind, Origin, Role, encode_conversation
from pipeline.archive.importers.gemini_cli import GeminiCliImporter
from pipeline.archive.reading import peek
from tests.archive.members import SAMPLES, import_alone, make_member, parse_all, split_all

IMPORTER = GeminiCliImporter()
HEAD = {"sessionId": "s1", "projectHash": "p", "startTime": "2026-05-01T10:00:00Z", "kind": "main"}


def import_messages(*messages: Any, **facts: Any) -> Conversation:
    return import_alone(IMPORTER, {**HEAD, **facts, "messages": list(messages)})


def import_lines(*lines: Any) -> Conversation:
    return import_alone(IMPORTER, "".join(json.dumps(line) + "\n" for line in [HEAD, *lines]))


def user(text: str, message_id: str = "u1", **facts: Any) -> dict[str, Any]:
    return {"id": message_id, "type": "user", "content": text, **facts}


def gemini(text: str, message_id: str = "g1", **facts: Any) -> dict[str, Any]:
    return {"id": message_id, "type": "gemini", "content": text, **facts}


def call_of(**facts: Any) -> dict[str, Any]:
    return {"id": "c1", "name": "read_file", "args": {"file_path": "a.txt"}, **facts}


def response_of(**facts: Any) -> list[dict[str, Any]]:
    return [{"functionResponse": {"id": "c1", "name": "read_file", "response": facts}}]


def read_sample(name: str) -> Conversation:
    path = SAMPLES / "gemini_cli" / name
    if not path.exists():
        pytest.skip("the samples are not beside this repository")
    return parse_all(IMPORTER, make_member(name, path.read_bytes()))[0].conversation


def test_the_composed_sample_has_all_that_its_readme_counts():
    conversation = read_sample("composed_session.json")

    human, answer, notice = conversation.messages
    assert (human.blocks[0].text, human.extra["content"]) == ("read @a.txt", [{"text": "read a.txt"}])
    kinds = [block.kind for block in answer.blocks]
    assert kinds == [Kind.THINKING, Kind.TEXT, Kind.TOOL_USE, Kind.TOOL_RESULT]
    assert answer.blocks[0].text == "**Reading** Open the file."
    assert (answer.usage.input_tokens, answer.usage.cached_tokens, answer.usage.output_tokens) == (100, 40, 9)
    assert answer.usage.reasoning_tokens == 7
    assert answer.usage.input_includes_cached
    assert (notice.role, notice.hidden) == (Role.SYSTEM, "notice")
    assert (conversation.cwd, conversation.updated) == ("/repo/app", "2026-05-01T10:01:00Z")


def test_the_sample_of_another_project_has_a_content_that_is_a_list_of_texts():
    conversation = read_sample("polylogue_gemini-cli-session.json")

    assert [(message.role, message.blocks[0].text) for message in conversation.messages] == [
        (Role.USER, "Prove the parser claim."),
        (Role.ASSISTANT, "The production route parsed this witness."),
    ]
    assert (conversation.title, conversation.title_source) == ("Origin capability matrix", "summary")


@pytest.mark.parametrize(
    "value",
    [
        {"sessionId": "s", "messages": []},
        {"projectHash": "p", "messages": []},
        {"sessionId": "s", "type": "user", "uuid": "u", "message": {"role": "user", "content": "hi"}},
    ],
)
def test_what_lacks_the_session_or_the_project_is_nobodys(value):
    assert IMPORTER.recognise(peek(make_member("session-1.json", value))) is None


def test_an_empty_session_is_kept_and_one_without_messages_keeps_what_it_has():
    empty, other = import_messages(), import_alone(IMPORTER, json.dumps({**HEAD, "mesages": [1]}, indent=1))

    assert (empty.native_id, empty.messages) == ("s1", [])
    assert (other.native_id, other.messages) == ("s1", [])
    assert other.extra["mesages"] == [1]


@pytest.mark.parametrize("content", ["hi", ["hi"], [{"text": "hi"}], [{"text": "hi"}, {"thoughtSignature": "c2ln"}]])
def test_a_content_of_any_form_is_read(content):
    (message,) = import_messages({"id": "u1", "type": "user", "content": content}).messages

    assert [(block.kind, block.text) for block in message.blocks] == [(Kind.TEXT, "hi")]
    assert message.origin == Origin.HUMAN


def test_what_is_shown_goes_before_what_was_sent_and_equal_words_are_kept_once():
    other, same = import_messages(
        user("with the file's words", displayContent=["@a.txt"]), user("hi", "u2", displayContent=[{"text": "hi"}])
    ).messages

    assert (other.blocks[0].text, other.extra["content"]) == ("@a.txt", "with the file's words")
    assert (same.blocks[0].text, same.extra) == ("hi", {})


def test_a_call_that_failed_is_an_error():
    calls = [
        call_of(status="success", result=response_of(output="hi\n")),
        call_of(status="error", result=response_of(output="hm")),
        call_of(status="success", result=response_of(error="no such file")),
        call_of(status="cancelled", result=response_of()),
        call_of(status="success", resultDisplay="shown"),
        call_of(status="success", result=[{"functionResponse": {"response": "plain"}}]),
        call_of(status="success", result=response_of(brand="new")),
    ]
    (message,) = import_messages(gemini("", toolCalls=calls)).messages

    results = [block for block in message.blocks if block.kind == Kind.TOOL_RESULT]
    assert [(result.text, result.is_error) for result in results] == [
        ("hi\n", False),
        ("hm", True),
        ("no such file", True),
        ("", None),
        ("shown", False),
        ("plain", False),
        ("", False),
    ]
    assert results[6].extra == {"responses": [{"brand": "new"}]}
    assert results[3].flags == ["interrupted"]
    assert {block.call_id for block in message.blocks} == {"c1"}


def test_a_call_keeps_what_it_shows():
    call = call_of(status="success", result=response_of(output="hi"), displayName="ReadFile", resultDisplay={"a": 1})
    (message,) = import_messages(gemini("", toolCalls=[call])).messages

    use = message.blocks[0]
    assert (use.tool_name, use.input) == ("read_file", {"file_path": "a.txt"})
    assert use.extra == {"displayName": "ReadFile", "resultDisplay": {"a": 1}}


def test_tokens_that_usage_has_no_place_for_are_kept():
    (message,) = import_messages(gemini("x", tokens={"input": 1, "tool": 2, "total": 3})).messages

    assert (message.usage.input_tokens, message.usage.usage_id) == (1, "s1/g1")
    assert message.extra == {"tokens": {"tool": 2, "total": 3}}


def test_notices_are_system_messages_and_hidden():
    conversation = import_messages(*({"type": kind, "content": "x"} for kind in ("info", "error", "warning")))

    assert [(message.role, message.hidden) for message in conversation.messages] == [(Role.SYSTEM, "notice")] * 3
    assert [message.blocks[0].flags for message in conversation.messages] == [[], ["error"], ["warning"]]


def test_a_message_of_an_unknown_type_is_kept_raw_and_counted():
    conversation = import_messages({"id": "x", "type": "brand_new", "content": "words"})

    (message,) = conversation.messages
    assert message.role == Role.UNKNOWN
    assert message.blocks[0].text == "words"
    assert message.blocks[1].raw == {"id": "x", "type": "brand_new", "content": "words"}
    assert conversation.warnings == {"unknown_type": 1}


def test_a_picture_within_a_message_is_an_attachment():
    content = [{"text": "see"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]
    file = make_member("f", {**HEAD, "messages": [{"id": "u", "type": "user", "content": content}]})
    (parsed,) = parse_all(IMPORTER, file)

    attachment = parsed.conversation.messages[0].blocks[1].attachment
    assert attachment.status == AttachmentStatus.PRESENT
    assert parsed.extras == {attachment.extra_file: b"\x89PNG\r\n\x1a\n"}
    assert b"iVBOR" not in encode_conversation(parsed.conversation)


def test_keys_are_the_ids_and_those_without_one_are_named_by_content():
    conversation = import_messages(user("hi"), {"type": "info", "content": "x"}, gemini("ho"))

    first, notice, last = conversation.messages
    assert (first.key, last.key) == ("u1", "g1")
    assert len(notice.key) == 20
    assert (notice.parent, last.parent) == ("u1", notice.key)


def test_of_messages_with_one_id_equal_ones_are_one_and_others_are_counted():
    conversation = import_messages(user("hi"), user("ho"), user("hi"), {"type": "user"}, {"type": "user"})

    assert [message.key for message in conversation.messages][:2] == ["u1", "u1~2"]
    assert [message.native_id for message in conversation.messages] == [None, "u1", None, None]
    assert conversation.warnings == {"duplicate_id": 2}


# Sessions of lines


def test_lines_are_a_session_too():
    conversation = import_lines(user("hi"), gemini("hel"), gemini("hello"), {"$set": {"summary": "Greetings"}})

    assert [message.blocks[0].text for message in conversation.messages] == ["hi", "hello"]
    assert (conversation.title, conversation.native_id) == ("Greetings", "s1")


def test_lines_that_were_rewound_stay_beside_the_path():
    conversation = import_lines(
        user("hi"), gemini("hello"), user("more", "u2"), {"$rewindTo": "u2"}, user("other", "u3")
    )

    active = [message.key for message in conversation.messages if message.is_active]
    parents = {message.key: message.parent for message in conversation.messages}
    assert active == ["u1", "g1", "u3"]
    assert parents["u2"] == "g1"


def test_a_session_rewound_to_its_beginning_has_no_active_path():
    conversation = import_lines(user("hi"), gemini("ho"), {"$rewindTo": "u1"})

    assert [message.is_active for message in conversation.messages] == [False, False]
    assert conversation.active_leaf is None


def test_lines_without_ids_follow_each_other_and_a_rewind_to_nowhere_changes_nothing():
    notice = {"type": "info", "content": "x"}
    conversation = import_lines(user("hi"), notice, notice, {"$rewindTo": "nowhere"}, {"$rewindTo": [1]}, gemini("ho"))

    assert [message.is_active for message in conversation.messages] == [True] * 4
    assert conversation.messages[3].parent == conversation.messages[2].key


def test_a_cut_last_line_is_no_loss():
    content = "".join(json.dumps(line) + "\n" for line in [HEAD, user("hi")]) + '{"id": "g1", "ty'
    records, skips = split_all(IMPORTER, make_member("f", content))

    assert [skip.reason for skip in skips if skip.is_info] == ["truncated_tail"]
    assert len(IMPORTER.parse(records[0]).conversation.messages) == 1


# What lies beside the sessions

SETUP = {"role": "user", "parts": [{"text": "This is the Gemini CLI. We are setting up the context for our chat."}]}
CONTENTS = [
    SETUP,
    {"role": "model", "parts": [{"text": "Got it."}]},
    {"role": "user", "parts": [{"text": "list the files"}]},
    {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "ls", "args": {"path": "."}}}]},
    {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "ls", "response": {"output": "a.txt"}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "ls", "response": {"error": "no such folder"}}}]},
]


def test_the_log_of_prompts_is_kept_and_no_session():
    entry = {"sessionId": "s1", "messageId": 0, "type": "user", "message": "hi", "timestamp": "2026-05-01T10:00:00Z"}
    recognition = IMPORTER.recognise(peek(make_member("renamed", [entry, entry])))

    assert recognition is not None
    assert recognition.is_artifact


@pytest.mark.parametrize("content", [CONTENTS, {"history": CONTENTS, "authType": "oauth"}], ids=["list", "history"])
def test_a_checkpoint_is_a_conversation_that_begins_with_what_the_program_says(content):
    assert IMPORTER.recognise(peek(make_member("renamed", content))) is not None
    conversation = import_alone(IMPORTER, content)
    messages = conversation.messages
    (call,), (answer,), (failed,) = (message.blocks for message in messages[3:])

    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant", "tool", "tool"]
    assert [message.hidden for message in messages] == ["context", None, None, None, None, None]
    assert (conversation.title, conversation.is_id_derived) == ("list the files", True)
    assert (call.tool_name, call.call_id, call.input) == ("ls", "c1", {"path": "."})
    assert (answer.text, answer.call_id, answer.is_error) == ("a.txt", "c1", None)
    assert (failed.text, failed.is_error) == ("no such folder", True)


def test_a_later_checkpoint_of_one_chat_is_the_same_conversation():
    early, late = (import_alone(IMPORTER, contents) for contents in (CONTENTS[:4], CONTENTS))

    assert early.native_id == late.native_id
    assert [message.key for message in early.messages] == [message.key for message in late.messages[:4]]


def test_a_list_of_contents_that_begins_otherwise_is_no_checkpoint():
    assert IMPORTER.recognise(peek(make_member("x", [{"role": "user", "parts": [{"text": "hi"}]}]))) is None


def test_of_a_file_that_is_cut_the_whole_messages_are_read_and_it_counts_as_older():
    whole = json.dumps({**HEAD, "lastUpdated": "2026-05-02T10:00:00Z", "messages": [user("a"), gemini("b")]})
    (record,), (skip,) = split_all(IMPORTER, make_member("s.json", whole[:-8]))
    conversation = IMPORTER.parse(record).conversation

    assert (skip.reason, skip.place, skip.is_info) == ("truncated", "s.json[1]", False)
    assert (conversation.native_id, [message.key for message in conversation.messages]) == ("s1", ["u1"])
    assert (conversation.warnings, conversation.updated) == ({"partial": 1}, None)
