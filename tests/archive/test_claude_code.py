"""Sessions of Claude Code become conversations: each line, block and file, and the traps of real ones."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.archive.conversations import (
    Attachment,
    Block,
    Conversation,
    Message,
    decode_conversation,
    encode_conversation,
)
from pipeline.archive.importers.claude_code import ClaudeCodeImporter
from pipeline.archive.importers.interface import Parsed
from pipeline.archive.reading import peek
from tests.archive.members import SAMPLES, make_member, parse_all, split_all

S, A = "5e551011-0000-4000-8000-000000000001", "a11ce570-0000-4000-8000-000000000002"
PIXEL = base64.b64encode(b"\x89PNG not really").decode()
CLAUDE_CODE = ClaudeCodeImporter()
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples in {SAMPLES}")


def line(kind: str, uuid: str | None, parent: str | None, content: Any = "words", **fields: Any) -> dict[str, Any]:
    """Return a line as version 2 writes it. `body` among the fields replaces parts of its message."""
    body = {"role": kind, "content": content, **fields.pop("body", {})}
    number = sum(map(ord, uuid or "")) % 60
    whole = {
        "parentUuid": parent,
        "isSidechain": False,
        "cwd": "/repo",
        "sessionId": S,
        "version": "2.1.0",
        "gitBranch": "main",
        "type": kind,
        "message": body,
        "uuid": uuid,
        "timestamp": f"2026-02-01T10:00:{number:02}.000Z",
        **fields,
    }
    return {name: value for name, value in whole.items() if name != "uuid" or value is not None}


def user(uuid: str | None, parent: str | None, content: Any = "words", **fields: Any) -> dict[str, Any]:
    return line("user", uuid, parent, content, **fields)


def assistant(uuid: str | None, parent: str | None, content: Any = "words", **fields: Any) -> dict[str, Any]:
    return line("assistant", uuid, parent, content, **fields)


def system(uuid: str, parent: str | None, **fields: Any) -> dict[str, Any]:
    whole = {"type": "system", "uuid": uuid, "parentUuid": parent, "sessionId": S, "content": "note", **fields}
    return {name: value for name, value in whole.items() if value is not None or name == "parentUuid"}


def boundary(uuid: str, logical: str | None) -> dict[str, Any]:
    return system(
        uuid, None, subtype="compact_boundary", logicalParentUuid=logical, compactMetadata={"trigger": "auto"}
    )


def write(*lines: Any) -> str:
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines)


def read_all(*lines: Any, name: str = "session.jsonl") -> list[Conversation]:
    return [each.conversation for each in parse_all(CLAUDE_CODE, make_member(name, write(*lines)))]


def read(*lines: Any, name: str = "session.jsonl") -> Conversation:
    (conversation,) = read_all(*lines, name=name)
    return conversation


def read_parsed(*lines: Any) -> Parsed:
    (parsed,) = parse_all(CLAUDE_CODE, make_member("session.jsonl", write(*lines)))
    return parsed


def read_message(content: Any, kind: str = "user", **fields: Any) -> Message:
    (message,) = read(line(kind, "m", None, content, **fields)).messages
    return message


def parents_of(conversation: Conversation) -> dict[str, str | None]:
    return {message.key: message.parent for message in conversation.messages}


def list_active(conversation: Conversation) -> list[str]:
    return [message.key for message in conversation.messages if message.is_active]


def list_attachments(conversation: Conversation) -> list[Attachment]:
    return [block.attachment for message in conversation.messages for block in message.blocks if block.attachment]


def list_links(conversation: Conversation) -> list[tuple[str, str, str | None]]:
    return [(link.kind, link.native_id, link.message) for link in conversation.lineage]


# Samples


@needs_samples
def test_the_composed_session_has_the_counts_that_are_known():
    file = make_member("composed.jsonl", (SAMPLES / "claude_code" / "composed_session.jsonl").read_bytes())
    parsed = parse_all(CLAUDE_CODE, file)
    session, agent = (each.conversation for each in parsed)
    messages = session.messages + agent.messages
    usages = [message.usage for message in messages if message.usage]

    assert (len(messages), len(list_active(session)), len(agent.messages)) == (16, 13, 1)
    assert session.title == "Retry for flaky test"
    assert sum(usage.input_tokens or 0 for usage in usages) == 30
    assert sum(usage.cached_tokens or 0 for usage in usages) == 4200
    assert sum(usage.output_tokens or 0 for usage in usages) == 63
    assert session.warnings == {"duplicate_uuid": 1, "not_an_object": 1}
    assert [each.status for each in list_attachments(session)] == ["present"]
    assert [block.is_error for each in messages for block in each.blocks if block.kind == "tool_result"] == [True]
    assert len({message.group for message in messages[1:4]}) == 1
    assert agent.native_id == f"{session.native_id}:agent-ab12"
    assert "conflicting" not in encode_conversation(session).decode()
    _, skips = split_all(CLAUDE_CODE, file)
    assert [(skip.reason, skip.place, skip.is_info) for skip in skips] == [
        ("truncated_tail", "composed.jsonl:24", True)
    ]


@needs_samples
def test_a_replay_made_for_compaction_is_linked_to_its_session_and_hidden():
    folder = SAMPLES / "claude_code"
    files = [make_member(file.name, file.read_bytes()) for file in sorted(folder.glob("polylogue_*"))]
    replay, session = (parse_all(CLAUDE_CODE, file)[0].conversation for file in files)

    assert (len(session.messages), session.lineage) == (2, [])
    assert list_links(replay) == [("compaction", session.native_id, None)]
    assert [message.hidden for message in replay.messages] == ["compaction copy"] * 2 + ["compaction summary"]
    assert replay.native_id != session.native_id


@needs_samples
def test_a_session_whose_lines_name_no_parents_is_a_list():
    (parsed,) = parse_all(
        CLAUDE_CODE, make_member("a", (SAMPLES / "claude_code" / "simonw_sample_session.jsonl").read_bytes())
    )
    messages = parsed.conversation.messages

    assert [message.role for message in messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "user",
        "assistant",
    ]
    assert len(list_active(parsed.conversation)) == 7
    assert sum(block.kind == "tool_use" for message in messages for block in message.blocks) == 2
    assert (parsed.conversation.title, parsed.conversation.title_source) == (
        "Test session for JSONL parsing",
        "summary",
    )


# What a file is


@pytest.mark.parametrize(
    "value",
    [
        {"parentUuid": None},
        {"leafUuid": "x"},
        {"sessionId": S, "type": "anything"},
        {"type": "summary", "summary": "s"},
        {"type": "file-history-snapshot", "snapshot": {}},
        {"type": "queue-operation", "operation": "enqueue"},
        {"type": "custom-title", "customTitle": "t"},
        {"type": "progress", "data": {}},
        {"type": "user", "uuid": "u"},
        {"type": "user", "cwd": "/"},
        {"type": "assistant", "version": "2"},
        {"type": "assistant", "message": "words"},
        {"loglines": [{"type": "user", "message": {"role": "user", "content": "hi"}}]},
        {"loglines": [{"message": {"role": "user", "content": "hi"}}]},
    ],
)
def test_a_line_is_known_by_its_shape(value):
    recognition = CLAUDE_CODE.recognise(peek(make_member("renamed", write(value))))

    assert recognition is not None
    assert not recognition.is_artifact


@pytest.mark.parametrize(
    "value",
    [
        {"type": "user"},
        {"type": "user", "text": "hi"},
        {"type": "result"},
        {"sessionId": S, "projectHash": "x", "messages": []},
        {"type": "response_item", "payload": {}},
        {"timestamp": "t", "type": "event_msg", "payload": {}, "sessionId": S},
        {"loglines": [1]},
        {"role": "user", "content": "hi"},
        {"sessionId": S, "user": "a web page's"},
        [{"content": "words", "status": "published", "id": 1}],
        42,
    ],
)
def test_another_shape_is_not_taken_for_a_session(value):
    content = write(value) if not isinstance(value, list) else value

    assert CLAUDE_CODE.recognise(peek(make_member("session.jsonl", content))) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sessions-index.json", {"version": 1, "entries": [{"sessionId": S, "fullPath": "/x"}]}),
        ("bridge-pointer.json", {"sessionId": S, "environmentId": "e"}),
        ("history.jsonl", write({"display": "hi", "pastedContents": {}, "project": "/repo", "sessionId": S}) * 2),
        ("todos/a.json", [{"content": "do it", "status": "pending", "activeForm": "Doing it"}]),
        (f"{S}/tool-results/x.txt", "a long text"),
        (f"{S}/subagents/workflows/w1/journal.jsonl", write({"type": "started", "key": "k"})),
    ],
)
def test_files_beside_the_sessions_are_kept_and_not_read(name, content):
    recognition = CLAUDE_CODE.recognise(peek(make_member(name, content)))

    assert recognition is not None
    assert recognition.is_artifact


def test_a_file_without_a_message_is_told_and_nothing_is_lost():
    lines = [{"type": "summary", "summary": "s", "leafUuid": "x"}, {"type": "file-history-snapshot", "snapshot": {}}]
    records, skips = split_all(CLAUDE_CODE, make_member("a.jsonl", write(*lines)))

    assert records == []
    assert [(skip.reason, skip.is_info) for skip in skips] == [("no_messages", True)]


def test_a_broken_line_is_skipped_with_its_place_and_the_others_are_read():
    file = make_member("a.jsonl", write(user("u1", None), "", "{broken", assistant("a1", "u1")))
    (record,), (skip,) = split_all(CLAUDE_CODE, file)

    assert (skip.place, skip.is_info) == ("a.jsonl:3", False)
    assert record.place == "a.jsonl:1-4"
    assert len(CLAUDE_CODE.parse(record).conversation.messages) == 2


# Lines


def test_fields_of_the_lines_find_their_places():
    conversation = read(
        user("u1", None, slug="s"), assistant("a1", "u1", cwd="C:\\repo", timestamp="2026-02-01T11:00:00Z")
    )

    assert (conversation.provider, conversation.native_id) == ("claude_code", S)
    assert (conversation.cwd, conversation.git) == ("/repo", {"branch": "main"})
    assert (conversation.created[:13], conversation.updated) == ("2026-02-01T10", "2026-02-01T11:00:00Z")
    assert conversation.extra == {"version": "2.1.0", "slug": "s"}
    assert [message.extra for message in conversation.messages] == [{}, {"cwd": "C:\\repo"}]


def test_a_session_ends_with_its_latest_message_within_a_second_too():
    times = ["2026-02-01T10:00:00Z", "2026-02-01T10:00:00.5Z"]
    conversation = read(user("u1", None, timestamp=times[0]), assistant("a1", "u1", timestamp=times[1]))

    assert (conversation.created, conversation.updated) == (times[0], "2026-02-01T10:00:00.500000Z")


def test_an_empty_branch_says_nothing():
    assert read(user("u1", None, gitBranch="")).git == {}


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        ([{"type": "summary", "summary": "S", "leafUuid": "x"}], ("S", "summary")),
        (
            [{"type": "summary", "summary": "S", "leafUuid": "x"}, {"type": "agent-name", "agentName": "N"}],
            ("N", "provider"),
        ),
        ([{"type": "ai-title", "aiTitle": "I"}, {"type": "agent-name", "agentName": "N"}], ("I", "provider")),
        ([{"type": "custom-title", "customTitle": "C"}, {"type": "ai-title", "aiTitle": "I"}], ("C", "provider")),
        ([{"type": "custom-title", "customTitle": t} for t in "AB"], ("B", "provider")),
        ([{"type": "custom-title", "customTitle": "C", "sessionId": A}], ("fix it", "first_prompt")),
        (
            [
                {"type": "summary", "summary": "other", "leafUuid": "x"},
                {"type": "summary", "summary": "own", "leafUuid": "u1"},
            ],
            ("own", "summary"),
        ),
        ([{"type": "summary", "summary": t, "leafUuid": "x"} for t in "AB"], ("A", "summary")),
        ([{"type": "last-prompt", "lastPrompt": "L"}], ("fix it", "first_prompt")),
    ],
)
def test_titles_have_their_order(titles, expected):
    conversation = read(*titles, user("u1", None, "fix it"))

    assert (conversation.title, conversation.title_source) == expected


def test_noise_is_counted_and_leaves_no_trace_in_the_record():
    noise = {"type": "progress", "uuid": "p", "parentUuid": "u1", "sessionId": S, "data": {"message": {"text": "COPY"}}}
    file = make_member("a.jsonl", write(user("u1", None), noise, {"type": "mode", "mode": "plan"}))
    (record,), _ = split_all(CLAUDE_CODE, file)

    assert "COPY" not in json.dumps(record.value)
    assert CLAUDE_CODE.parse(record).conversation.extra["lines_beside"] == {"progress": 1, "mode": 1}


def test_pull_requests_are_kept():
    link = {"type": "pr-link", "prUrl": "https://example.org/1", "prNumber": 1, "sessionId": S}

    assert read(user("u1", None), link).extra["pull_requests"] == [{"prUrl": "https://example.org/1", "prNumber": 1}]


def test_lines_of_no_known_type_and_values_that_are_no_lines_are_kept_and_counted():
    conversation = read(user("u1", None), "42", '"text"', "[1]", {"type": "hologram", "depth": 3, "sessionId": S})

    assert [each["value"] for each in conversation.extra["other_values"]] == [42, "text", [1]]
    assert conversation.extra["unknown_lines"] == [
        {"line": 5, "value": {"type": "hologram", "depth": 3, "sessionId": S}}
    ]
    assert conversation.warnings == {"not_an_object": 3, "unknown_line_type": 1}


@pytest.mark.parametrize("content", ["", []])
def test_an_empty_message_keeps_its_row(content):
    assert read_message(content).blocks == []


def test_an_unknown_type_with_a_message_is_a_message():
    conversation = read(user("u1", None), line("hologram", "h", "u1", "words", body={"role": "assistant"}))

    assert [message.role for message in conversation.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("broken", "kind", "text"),
    [
        ({"message": "only words"}, "text", "only words"),
        ({"message": {"role": "user"}}, "context", None),
        ({"message": None}, "context", None),
        ({"mesage": {"content": "misspelled"}, "message": None}, "context", None),
    ],
)
def test_a_broken_message_keeps_its_row(broken, kind, text):
    conversation = read(user("u1", None), {**user("u2", "u1"), **broken})

    assert [(block.kind, block.text, block.flags) for block in conversation.messages[1].blocks] == [
        (kind, text, ["malformed"])
    ]
    assert conversation.warnings == {"malformed_message": 1}


def test_the_first_complete_line_of_an_id_wins():
    conversation = read(
        {**user("u1", None), "message": None},
        user("u1", None, "good"),
        user("u1", None, "late"),
        assistant("a1", "u1"),
        assistant("a1", "u1"),
    )

    assert [message.blocks[0].text for message in conversation.messages] == ["good", "words"]
    assert conversation.warnings == {"duplicate_uuid": 2}


def test_null_where_a_truth_belongs_is_none():
    nulls = dict.fromkeys(("isSidechain", "isMeta", "isCompactSummary", "isApiErrorMessage"))

    assert read_message("hi", **nulls).hidden is None


def test_an_answer_that_the_program_wrote_names_no_model():
    message = read_message("API Error", "assistant", body={"model": "<synthetic>"}, isApiErrorMessage=True)

    assert (message.model, message.extra["model"]) == (None, "<synthetic>")
    assert message.blocks[0].flags == ["error"]


def test_several_models_stay_with_their_messages():
    lines = [assistant("a", None, body={"model": "x"}), assistant("b", "a", body={"model": "y"})]

    assert [message.model for message in read(*lines).messages] == ["x", "y"]


# Blocks


def test_blocks_find_their_kinds():
    content = [
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "NEVER"},
        {"type": "text", "text": "see", "citations": []},
        {"type": "tool_use", "id": "t", "name": "TodoWrite", "input": {"todos": ["odd"]}, "caller": {"type": "direct"}},
        {"type": "server_tool_use", "id": "w", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "w", "content": []},
        "plain",
    ]
    message = read_message(content, "assistant")

    assert [block.kind for block in message.blocks] == [
        "thinking",
        "thinking",
        "text",
        "tool_use",
        "tool_use",
        "tool_result",
        "text",
    ]
    assert message.blocks[1].flags == ["redacted"]
    assert message.blocks[3].input == {"todos": ["odd"]}
    assert message.blocks[3].extra == {"caller": {"type": "direct"}}
    assert not {"c2ln", "NEVER"} & set(json.dumps([block.extra for block in message.blocks]).split('"'))


def test_images_become_files_of_the_conversation():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "shot"}, image]}
    parsed = read_parsed(user("u1", None, [{"type": "text", "text": "look"}, image]), user("u2", "u1", [result]))
    asked, shown = list_attachments(parsed.conversation)

    assert parsed.extras == {asked.extra_file: base64.b64decode(PIXEL)}
    assert asked.blake3 == shown.blake3
    assert parsed.conversation.messages[1].role == "tool"
    assert [block.call_id for block in parsed.conversation.messages[1].blocks] == ["t", "t"]
    assert PIXEL not in encode_conversation(parsed.conversation).decode()


def result_of(outcome: Any, **fields: Any) -> Block:
    block = {"type": "tool_result", "tool_use_id": "t", "content": "out", **fields}
    message = read_message([block], toolUseResult=outcome)
    return message.blocks[0]


@pytest.mark.parametrize(
    ("outcome", "fields", "is_error", "exit_code"),
    [
        (None, {}, None, None),
        ({"stdout": "out"}, {}, None, None),
        ({"stdout": "out"}, {"is_error": True}, True, None),
        ({"exitCode": 0}, {}, False, 0),
        ({"exitCode": 2}, {}, True, 2),
        ({"exitCode": True}, {}, None, None),
        ("Error: no", {"is_error": True}, True, None),
        ([1], {}, None, None),
        ({"filePath": None, "structuredPatch": None}, {}, None, None),
    ],
)
def test_an_outcome_is_known_only_where_it_is_said(outcome, fields, is_error, exit_code):
    block = result_of(outcome, **fields)

    assert (block.text, block.is_error, block.exit_code) == ("out", is_error, exit_code)
    assert block.extra.get("toolUseResult") == outcome


def test_an_interrupted_run_says_so():
    assert result_of({"interrupted": True}).flags == ["interrupted"]


def test_bytes_that_the_program_recorded_twice_are_kept_once():
    block = result_of({"type": "image", "file": {"base64": PIXEL * 40, "type": "image/png"}})

    assert block.extra["toolUseResult"]["file"] == {
        "base64": f"({len(PIXEL) * 40} characters of base64)",
        "type": "image/png",
    }


# Whose words they are


@pytest.mark.parametrize(
    ("text", "origin", "hidden"),
    [
        ("fix it", "human", None),
        ("<command-name>/status</command-name>", "command", None),
        ("<command-message>x</command-message>", "command", None),
        ("<local-command-stdout>ok</local-command-stdout>", "command", None),
        ("<local-command-stderr>no</local-command-stderr>", "command", None),
        ("<bash-input>ls</bash-input>", "command", None),
        ("<bash-stdout>a</bash-stdout>", "command", None),
        ("<local-command-caveat>x</local-command-caveat>", "runtime_context", "context"),
        ("Caveat: The messages below were generated", "runtime_context", "context"),
        ("<system-reminder>be nice</system-reminder>", "runtime_context", "context"),
        ("<task-notification>done</task-notification>", "notification", "notification"),
        ("[Request interrupted by user]", "notification", None),
        ("[Request interrupted by user for tool use]", "notification", None),
    ],
)
@pytest.mark.parametrize("as_blocks", [False, True])
def test_words_of_the_program_are_no_persons(text, origin, hidden, as_blocks):
    message = read_message([{"type": "text", "text": text}] if as_blocks else text)

    assert (message.role, message.origin, message.hidden) == ("user", origin, hidden)
    assert message.blocks[0].text == text


@pytest.mark.parametrize(
    ("fields", "origin", "hidden"),
    [
        ({"isMeta": True}, "runtime_context", "meta"),
        ({"isCompactSummary": True}, "compaction_summary", "compaction summary"),
        ({"isVisibleInTranscriptOnly": True}, "human", "meta"),
        ({"origin": {"kind": "human"}}, "human", None),
        ({"origin": {"kind": "task-notification"}}, "notification", "notification"),
    ],
)
def test_a_line_may_say_whose_words_they_are(fields, origin, hidden):
    message = read_message("words", **fields)

    assert (message.origin, message.hidden) == (origin, hidden)
    if "origin" not in fields:
        assert message.blocks[0].origin is None


def test_a_reminder_behind_a_persons_words_is_split_off():
    message = read_message("fix it\n\n<system-reminder>a</system-reminder>\n<system-reminder>b</system-reminder>\n")

    assert message.origin == "human"
    assert [(block.kind, block.text, block.origin) for block in message.blocks] == [
        ("text", "fix it", None),
        ("context", "<system-reminder>a</system-reminder>", "runtime_context"),
        ("context", "<system-reminder>b</system-reminder>", "runtime_context"),
    ]


def test_results_and_words_in_one_line_keep_the_role_and_their_own_origins():
    message = read_message(
        [{"type": "tool_result", "tool_use_id": "t", "content": "x"}, {"type": "text", "text": "and?"}]
    )

    assert (message.role, message.origin) == ("user", "human")
    assert [block.origin for block in message.blocks] == ["tool_result", None]


def test_pasted_matter_that_is_not_there_is_flagged_and_no_title():
    conversation = read(user("u1", None, "[Pasted text #1 +20 lines]"), user("u2", "u1", "explain it"))

    assert conversation.messages[0].blocks[0].flags == ["paste"]
    assert conversation.messages[0].origin == "human"
    assert conversation.title == "explain it"


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({"content": "Conversation compacted", "subtype": "compact_boundary"}, "meta"),
        ({"content": "Context microcompacted", "subtype": "microcompact_boundary"}, "meta"),
        ({"content": "Login expired", "level": "warning"}, None),
        ({"content": "", "subtype": "turn_duration"}, "meta"),
        ({"content": "Login expired", "isMeta": True}, "meta"),
    ],
)
def test_system_lines_are_hidden_unless_they_are_notices(fields, hidden):
    (message,) = read(system("s", None, **fields)).messages

    assert (message.role, message.hidden) == ("system", hidden)


def test_context_between_messages_goes_to_the_message_that_it_follows():
    todo = {
        "type": "attachment",
        "uuid": "t",
        "parentUuid": "u1",
        "attachment": {"type": "todo", "content": "two left"},
    }
    queued = {"type": "queue-operation", "operation": "enqueue", "content": "<task-notification>x", "sessionId": S}
    taken = {"type": "queue-operation", "operation": "dequeue", "sessionId": S}
    late = {**todo, "uuid": "t2", "attachment": {"content": "late"}}
    conversation = read(user("u1", None), todo, assistant("a1", "t"), queued, taken, late)
    asked, answered = conversation.messages

    assert [(block.kind, block.text, block.origin) for block in asked.blocks[1:]] == [
        ("context", "two left", "runtime_context"),
        ("context", "late", "runtime_context"),
    ]
    assert [(block.kind, block.text, block.origin) for block in answered.blocks[1:]] == [
        ("context", "<task-notification>x", "notification")
    ]
    assert answered.parent == "u1"
    assert conversation.extra["lines_beside"] == {"queue-operation": 1}


# Answers in pieces


def piece(uuid: str, parent: str, out: int, answer: str | None = "msg_7", **usage: int) -> dict[str, Any]:
    body = {"id": answer, "model": "x", "usage": {"input_tokens": 4, "output_tokens": out, **usage}}
    return assistant(uuid, parent, requestId="req_7", body=body)


def test_an_answer_in_pieces_is_one_group_and_its_usage_counts_once():
    conversation = read(user("u", None), piece("x1", "u", 2), piece("x2", "x1", 88), piece("x3", "x2", 88))
    messages = conversation.messages

    assert [message.group for message in messages] == [None] + ["msg_7/req_7"] * 3
    assert [message.usage.output_tokens if message.usage else None for message in messages] == [None, None, None, 88]
    assert messages[3].usage.usage_id == "msg_7/req_7"


def test_one_message_id_of_two_requests_is_two_answers():
    lines = [piece("x1", "u", 5), piece("x2", "x1", 7), piece("x3", "x2", 9, "msg_9"), piece("x4", "x3", 11, "msg_9")]
    lines[1]["requestId"] = "req_8"
    del lines[2]["requestId"]  # it has that of the other line of its answer
    conversation = read(*lines)

    assert [message.usage and message.usage.usage_id for message in conversation.messages] == [
        "msg_7/req_7",
        "msg_7/req_8",
        None,
        "msg_9/req_7",
    ]


def test_the_largest_output_counts_wherever_it_stands():
    conversation = read(piece("x1", "u", 88), piece("x2", "x1", 2))

    assert [message.usage and message.usage.output_tokens for message in conversation.messages] == [88, None]


def test_answers_without_an_id_count_each():
    conversation = read(piece("x1", "u", 1, None), piece("x2", "x1", 2, None))

    assert [(message.usage.usage_id, message.group) for message in conversation.messages] == [
        ("x1", None),
        ("x2", None),
    ]


def test_cached_tokens_are_not_part_of_the_input():
    numbers = {"cache_read_input_tokens": 500, "cache_creation_input_tokens": 7, "service_tier": "standard"}
    (message,) = read(piece("x1", "u", 1, **numbers)).messages

    assert (message.usage.cached_tokens, message.usage.cache_write_tokens) == (500, 7)
    assert (message.usage.input_tokens, message.usage.input_includes_cached) == (4, False)
    assert message.extra["usage"] == {"service_tier": "standard"}


# Trees


def test_a_rewind_is_a_branch_and_the_last_line_ends_the_path():
    conversation = read(
        user("u1", None), assistant("a1", "u1"), user("u2", "a1"), assistant("a2", "u2"), user("u3", "a1")
    )

    assert list_active(conversation) == ["u1", "a1", "u3"]
    assert [message.variant for message in conversation.messages] == [0, 0, 0, 0, 1]
    assert not conversation.is_leaf_guessed


def test_lines_without_parents_are_a_list():
    lines = [user("u1", None), assistant("a1", None), user("u2", None)]

    assert parents_of(read(*lines)) == {"u1": None, "a1": "u1", "u2": "a1"}


def test_a_second_root_among_linked_lines_stays_one():
    lines = [user("u1", None), assistant("a1", "u1"), user("u2", None), assistant("a2", "u2")]

    assert parents_of(read(*lines)) == {"u1": None, "a1": "u1", "u2": None, "a2": "u2"}


def test_no_parent_behind_a_compaction_makes_no_list():
    lines = [user("u1", None), assistant("a1", "u1"), boundary("b", "a1"), user("u2", None), user("u3", None)]

    assert parents_of(read(*lines)) == {"u1": None, "a1": "u1", "b": "a1", "u2": None, "u3": None}


@pytest.mark.parametrize("logical", ["a1", "gone", None])
def test_a_compaction_joins_what_is_before_and_behind_it(logical):
    conversation = read(
        user("u1", None),
        assistant("a1", "u1"),
        boundary("b", logical),
        user("cs", "b", isCompactSummary=True),
        user("u2", "cs"),
    )

    assert list_active(conversation) == ["u1", "a1", "b", "cs", "u2"]


def test_a_compaction_joins_the_branch_that_it_names():
    conversation = read(user("u1", None), assistant("a1", "u1"), assistant("a2", "u1"), boundary("b", "a1"))

    assert list_active(conversation) == ["u1", "a1", "b"]


def test_a_parent_that_is_no_message_is_walked_through():
    lines = [
        user("u1", None),
        {"type": "progress", "uuid": "p1", "parentUuid": "u1", "sessionId": S, "data": {}},
        {"type": "attachment", "uuid": "p2", "parentUuid": "p1", "sessionId": S, "attachment": {}},
        assistant("a1", "p2"),
        assistant("a2", "p1"),
        {"type": "progress", "uuid": "p3", "parentUuid": None, "sessionId": S, "data": {}},
        user("u2", "p3"),
        user("u3", "nowhere"),
    ]

    assert parents_of(read(*lines)) == {"u1": None, "a1": "u1", "a2": "u1", "u2": "a2", "u3": "u2"}


def test_a_line_without_an_id_follows_the_line_before_it():
    conversation = read(
        user("u1", None), assistant("a1", "u1"), user(None, None), user("u2", None), assistant("a2", "u2")
    )

    assert parents_of(conversation) == {"u1": None, "a1": "u1", "line-3": "a1", "u2": None, "a2": "u2"}


def test_a_line_that_is_its_own_parent_follows_the_line_before_it():
    conversation = read(user("u1", None), assistant("a1", "a1"), user("u2", "a1"))

    assert list_active(conversation) == ["u1", "a1", "u2"]


def test_a_chain_of_20000_lines_is_read():
    lines = [user("m0", None)] + [assistant(f"m{n}", f"m{n - 1}") for n in range(1, 20_000)]

    assert len(list_active(read(*lines))) == 20_000


def test_lines_behind_many_that_are_no_messages_find_the_nearest_message():
    noise = [{"type": "progress", "uuid": f"p{n}", "parentUuid": f"p{n - 1}", "data": {}} for n in range(5_000)]
    talk = [user(f"m{n}", "p4999") for n in range(5_000)]
    conversation = read(user("p-1", None), *noise, *talk)

    assert {message.parent for message in conversation.messages[1:]} == {"p-1"}


# Sub-agents


def task(uuid: str, parent: str, call: str, prompt: str, **fields: Any) -> dict[str, Any]:
    use = {"type": "tool_use", "id": call, "name": "Task", "input": {"prompt": prompt, "description": f"Task {call}"}}
    return assistant(uuid, parent, [use], **fields)


def test_a_sidechain_is_a_conversation_of_its_own_linked_to_the_call_that_began_it():
    session, agent = read_all(
        user("u1", None),
        task("t1", "u1", "c1", "look around"),
        user("s1", None, "look around", isSidechain=True),
        assistant("s2", "s1", isSidechain=True),
        task("t2", "t1", "c2", "another"),
        user("u2", "t2"),
    )

    assert list_active(session) == ["u1", "t1", "t2", "u2"]
    assert list_active(agent) == ["s1", "s2"]
    assert agent.native_id == f"{S}:agent-s1"
    assert list_links(agent) == [("sub_agent", S, "t1")]
    assert (agent.title, agent.title_source) == ("Task c1", "summary")
    assert [message.origin for message in agent.messages] == [None, None]


def test_the_result_of_a_call_tells_its_agent():
    result = {"type": "tool_result", "tool_use_id": "c2", "content": "done"}
    session, agent = read_all(
        task("t1", None, "c1", "same"),
        task("t2", "t1", "c2", "same"),
        user("s1", None, "same", isSidechain=True, agentId="ab12"),
        user("r", "t2", [result], toolUseResult={"agentId": "ab12", "totalTokens": 5}),
    )

    assert list_links(agent) == [("sub_agent", S, "t2")]
    assert session.messages[-1].blocks[0].extra["sub_agent"] == agent.native_id == f"{S}:agent-ab12"


def test_the_last_call_before_it_began_an_agent_that_nothing_else_tells():
    times = {name: f"2026-02-01T10:00:0{number}Z" for number, name in enumerate(("t1", "t2", "x", "s1", "t3"))}
    _, agent = read_all(
        task("t1", None, "c1", "x", timestamp=times["t1"]),
        task("t2", "t1", "c2", "y", timestamp=times["t2"]),
        assistant("x", "t2", [{"type": "tool_use", "id": "c9", "name": "Bash", "input": {}}], timestamp=times["x"]),
        user("s1", None, "changed", isSidechain=True, timestamp=times["s1"]),
        task("t3", "x", "c3", "z", timestamp=times["t3"]),
    )

    assert list_links(agent) == [("sub_agent", S, "t2")]


def test_as_many_agents_as_calls_each_find_their_own():
    calls = [task(f"t{n}", f"t{n - 1}", f"c{n}", f"look {n}") for n in range(1_000)]
    sides = [user(f"s{n}", None, f"look {n}", isSidechain=True) for n in range(1_000)]
    _, *agents = read_all(*calls, *sides)

    assert [list_links(agent) for agent in agents] == [[("sub_agent", S, f"t{n}")] for n in range(1_000)]


def test_lines_of_a_sidechain_without_ids_stay_together():
    _, agent = read_all(
        user("u1", None),
        user("s1", None, isSidechain=True),
        assistant(None, None, isSidechain=True),
        user("u2", "u1"),
    )

    assert [message.key for message in agent.messages] == ["s1", "line-3"]


def test_two_sidechains_are_two_conversations():
    lines = [user(name, parent, isSidechain=True) for name, parent in (("s1", None), ("r1", None), ("s2", "s1"))]
    _, one, other = read_all(user("u1", None), *lines)

    assert ([message.key for message in one.messages], [message.key for message in other.messages]) == (
        ["s1", "s2"],
        ["r1"],
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (f"{S}/subagents/agent-ab12.jsonl", {"isSidechain": True, "agentId": "ab12"}),
        ("agent-ab12.jsonl", {"isSidechain": True}),
        ("agent-ab12.jsonl", {}),
        ("renamed.jsonl", {"isSidechain": True, "agentId": "ab12"}),
        ("renamed.jsonl", {"agentId": "ab12"}),
    ],
)
def test_an_agents_own_file_is_its_conversation(name, fields):
    conversation = read(user("s1", None, "look", **fields), assistant("s2", "s1", **fields), name=name)

    assert conversation.native_id == f"{S}:agent-ab12"
    assert list_links(conversation) == [("sub_agent", S, None)]
    assert list_active(conversation) == ["s1", "s2"]


@pytest.mark.parametrize(
    ("name", "fields", "native_id"),
    [
        ("agent-acompact-77.jsonl", {}, f"{S}:agent-acompact-77"),
        ("renamed.jsonl", {"agentId": "acompact-77", "isSidechain": True}, f"{S}:agent-acompact-77"),
    ],
)
def test_a_replay_is_known_by_its_name_or_its_agent(name, fields, native_id):
    conversation = read(user("r1", None, "again", **fields), piece("r2", "r1", 9) | fields, name=name)

    assert conversation.native_id == native_id
    assert list_links(conversation) == [("compaction", S, None)]
    assert {message.hidden for message in conversation.messages} == {"compaction copy"}
    assert [message.usage for message in conversation.messages] == [None, None]


# Several sessions in a file


def test_a_resumed_session_and_its_ancestor_are_two_linked_conversations():
    ancestor, session = read_all(
        user("u1", None, sessionId=A),
        assistant("a1", "u1", sessionId=A),
        user("u2", "a1", logicalParentUuid=None),
        assistant("a2", "u2"),
        user("u3", "a1"),
        {"type": "custom-title", "customTitle": "Later", "sessionId": S},
        name=f"{S}.jsonl",
    )

    assert (ancestor.native_id, [message.key for message in ancestor.messages]) == (A, ["u1", "a1"])
    assert (session.native_id, session.title) == (S, "Later")
    assert parents_of(session) == {"u2": None, "a2": "u2", "u3": None}
    assert list_links(session) == [("resume", A, "a1")]
    assert ancestor.lineage == []


def test_what_names_no_session_goes_where_it_belongs():
    nameless = {name: value for name, value in assistant("a1", "u1").items() if name != "sessionId"}
    after = {name: value for name, value in user(None, None).items() if name != "sessionId"}
    ancestor, session = read_all(
        user("u1", None, sessionId=A),
        user("u2", "u1"),
        nameless,
        after,
        {"type": "summary", "summary": "of the ancestor", "leafUuid": "u1"},
        {"type": "mode", "mode": "plan", "sessionId": "of no message here"},
    )

    assert [message.key for message in ancestor.messages] == ["u1", "a1", "line-4"]
    assert [message.key for message in session.messages] == ["u2"]
    assert ancestor.title == "of the ancestor"
    assert session.extra["lines_beside"] == {"mode": 1}


def test_independent_sessions_in_a_file_are_two_conversations():
    one, other = read_all(user("u1", None, sessionId=A), user("u2", None))

    assert [each.native_id for each in (one, other)] == [A, S]
    assert one.lineage == other.lineage == []


def test_a_session_that_goes_on_from_anothers_compaction_is_linked_to_it():
    _, session = read_all(user("u1", None, sessionId=A), boundary("b", "u1"), user("u2", "b"))

    assert list_links(session) == [("compaction", A, "u1")]
    assert parents_of(session) == {"b": None, "u2": "b"}


def test_a_fork_names_where_it_comes_from():
    lines = [
        user("u1", None, forkedFrom={"sessionId": A, "messageUuid": "x1"}),
        assistant("a1", "u1", forkedFrom={"sessionId": A, "messageUuid": "x2"}),
        user("u2", "a1"),
    ]

    assert list_links(read(*lines)) == [("fork", A, "x2")]


def test_a_file_named_after_its_session_owns_the_lines_that_name_none():
    lines = [user("u1", None), user("u2", None, sessionId=A), {"type": "ai-title", "aiTitle": "T"}]
    titles = {each.native_id: each.title_source for each in read_all(*lines, name=f"{S}.jsonl")}

    assert titles == {S: "provider", A: "first_prompt"}


def test_a_file_of_another_name_belongs_to_the_last_session_in_it():
    lines = [user("u1", None), user("u2", None, sessionId=A), {"type": "ai-title", "aiTitle": "T"}]
    titles = {each.native_id: each.title_source for each in read_all(*lines, name="my-work.jsonl")}

    assert titles == {S: "first_prompt", A: "provider"}


def test_a_session_without_an_id_is_named_by_its_file_or_by_its_beginning():
    bare = {name: value for name, value in user("u1", None).items() if name != "sessionId"}
    named, first, grown = (
        read(bare, name=f"{S}.jsonl"),
        read(bare, name="a.jsonl"),
        read(bare, bare | {"uuid": "u2"}, name="b.jsonl"),
    )

    assert (named.native_id, named.is_id_derived) == (S, False)
    assert first.native_id == grown.native_id
    assert first.is_id_derived


# The web's export


def bare(role: str, text: str) -> dict[str, Any]:
    return {"type": role, "timestamp": "2026-02-01T10:00:00Z", "message": {"role": role, "content": text}}


def test_loglines_without_ids_are_a_list():
    content = {"title": "On the web", "id": "w1", "loglines": [bare("user", "hi"), bare("assistant", "ho"), 5]}
    (parsed,) = parse_all(CLAUDE_CODE, make_member("web.json", content))
    conversation = parsed.conversation

    assert (conversation.native_id, conversation.title, conversation.is_append_only) == ("w1", "On the web", True)
    assert parents_of(conversation) == {"line-1": None, "line-2": "line-1"}
    assert len(list_active(conversation)) == 2
    assert conversation.warnings == {"not_an_object": 1}


def test_loglines_may_have_ids_and_stand_in_a_list():
    content = [{"loglines": [user("u1", None), assistant("a1", "u1")]}, {"loglines": [bare("user", "hi")]}]
    one, other = (each.conversation for each in parse_all(CLAUDE_CODE, make_member("web.json", content)))

    assert (one.native_id, one.is_append_only, len(one.messages)) == (S, False, 2)
    assert other.is_id_derived


def test_empty_loglines_are_told():
    records, skips = split_all(CLAUDE_CODE, make_member("web.json", {"loglines": []}))

    assert records == []
    assert [(skip.reason, skip.is_info) for skip in skips] == [("no_messages", True)]


def test_one_line_in_a_pretty_file_and_a_list_of_lines_are_read():
    pretty = make_member("a.json", json.dumps(user("u1", None), indent=2))
    listed = make_member("b.json", [user("u1", None), assistant("a1", "u1")])

    assert [len(each.conversation.messages) for file in (pretty, listed) for each in parse_all(CLAUDE_CODE, file)] == [
        1,
        2,
    ]


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
IDS = st.sampled_from(["a", "b", "c", S, A])


def damage(value: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of values like this one, with anything in the place of parts of it."""
    if isinstance(value, dict):
        fields = {
            name: st.one_of(IDS if "uuid" in name.lower() else damage(item), ANYTHING) for name, item in value.items()
        }
        return st.fixed_dictionaries({}, optional=fields)
    if isinstance(value, list):
        return st.lists(st.one_of(*(damage(item) for item in value), ANYTHING), max_size=5) if value else st.just([])
    return st.just(value)


BLOCKS = [
    {"type": "text", "text": "[Image #1] x <system-reminder>y</system-reminder>"},
    {"type": "tool_use", "id": "c", "name": "Task", "input": {"prompt": "p"}},
    {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "t"}]},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
]
LINES = [
    user("a", None, BLOCKS, toolUseResult={"exitCode": 1, "agentId": "x"}, isMeta=True, forkedFrom={"sessionId": A}),
    assistant("b", "a", BLOCKS, body={"id": "m", "model": "x", "usage": {"output_tokens": 1}}, requestId="r"),
    user("c", None, isSidechain=True, agentId="x"),
    user("c", None, sessionId=A),
    boundary("b", "a"),
    {"type": "summary", "summary": "s", "leafUuid": "a", "uuid": "c", "message": {"content": "x"}},
    {"type": "attachment", "uuid": "c", "parentUuid": "a", "attachment": {"content": "x"}},
    {"type": "queue-operation", "content": "x"},
    {"type": "pr-link", "prUrl": "u"},
    {"loglines": [{"type": "user", "message": {"content": "x"}}]},
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    st.lists(st.one_of(*(damage(each) for each in LINES), ANYTHING), max_size=8), st.sampled_from(["a", "agent-x", S])
)
@example(LINES, "a")
def test_no_session_however_damaged_stops_the_import(lines, stem):
    file = make_member(f"{stem}.jsonl", write(*map(json.dumps, lines)))
    CLAUDE_CODE.recognise(peek(file))
    records, _ = split_all(CLAUDE_CODE, file)
    read_lines = [number for record in records for number, _ in record.value["lines"]]  # type: ignore[index]

    assert len(read_lines) == len(set(read_lines)) or any(
        "loglines" in each for each in lines if isinstance(each, dict)
    )
    for record in records:
        conversation = CLAUDE_CODE.parse(record).conversation
        keys = [message.key for message in conversation.messages]
        assert len(keys) == len(set(keys))
        content = encode_conversation(conversation)
        assert encode_conversation(decode_conversation(content)) == content


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(LINES[:9]), min_size=1, max_size=8))
def test_every_line_goes_into_one_conversation(lines):
    """Or into none, where no line is a message."""
    records, skips = split_all(CLAUDE_CODE, make_member("a.jsonl", write(*lines)))
    numbers = sorted(number for record in records for number, _ in record.value["lines"])  # type: ignore[index]

    assert numbers == list(range(1, len(lines) + 1)) or [skip.reason for skip in skips] == ["no_messages"]
