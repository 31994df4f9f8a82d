"""Codex sessions of all generations: what each line becomes, and what the display log only repeats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.conversations import (
    AttachmentStatus,
    Conversation,
    Kind,
    Message,
    Origin,
    Role,
    Usage,
    encode_conversation,
)
from pipeline.archive.importers.codex import CodexImporter
from pipeline.archive.importers.interface import Parsed
from pipeline.archive.reading import peek
from tests.archive.members import SAMPLES, make_member, parse_all, split_all

PNG = "data:image/png;base64,iVBORw0KGgo="
META = {"id": "session-1", "timestamp": "2026-03-05T07:00:00Z", "cwd": "/repo"}


def import_file(content: str | bytes, name: str = "rollout.jsonl") -> Parsed:
    (parsed,) = parse_all(CodexImporter(), make_member(name, content))
    return parsed


def import_lines(*lines: Any) -> Conversation:
    return import_file("".join(json.dumps(line) + "\n" for line in lines)).conversation


def envelope(kind: str, payload: Any, second: float | None = None) -> dict[str, Any]:
    time = {} if second is None else {"timestamp": f"2026-03-05T07:{int(second) // 60:02}:{second % 60:06.3f}Z"}
    return {**time, "type": kind, "payload": payload}


def meta(**facts: Any) -> dict[str, Any]:
    return envelope("session_meta", {**META, **facts})


def item(kind: str, **facts: Any) -> dict[str, Any]:
    return envelope("response_item", {"type": kind, **facts})


def event(kind: str, **facts: Any) -> dict[str, Any]:
    return envelope("event_msg", {"type": kind, **facts})


def said(role: str, text: str, **facts: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": kind, "text": text}], **facts)


def tell(conversation: Conversation) -> list[tuple[str, str, str | None]]:
    """Return the role, kind and text of each block."""
    return [(message.role, block.kind, block.text) for message in conversation.messages for block in message.blocks]


def totals(second: float, inputs: int, outputs: int) -> dict[str, Any]:
    counts = {"input_tokens": inputs, "cached_input_tokens": inputs // 2, "output_tokens": outputs}
    return envelope("event_msg", {"type": "token_count", "info": {"total_token_usage": counts}}, second)


# The samples


@pytest.fixture
def samples():
    folder = SAMPLES / "codex"
    if not folder.is_dir():
        pytest.skip("the samples are not beside this repository")
    return folder


def read_sample(samples, name: str) -> Parsed:
    return import_file((samples / name).read_bytes(), name)


def test_the_sample_of_the_third_generation_has_all_that_its_readme_counts(samples):
    parsed = read_sample(samples, "composed_g3.jsonl")

    conversation = parsed.conversation
    kinds = [block.kind for message in conversation.messages for block in message.blocks]
    humans = [message for message in conversation.messages if message.origin == Origin.HUMAN]
    context = [message for message in conversation.messages if message.origin == Origin.RUNTIME_CONTEXT]
    results = [block for message in conversation.messages for block in message.blocks if block.kind == Kind.TOOL_RESULT]
    assert len(conversation.messages) == 10
    assert len(context) == 2
    assert [len(message.blocks) for message in humans] == [2]
    assert [kinds.count(kind) for kind in (Kind.ATTACHMENT, Kind.THINKING, Kind.TOOL_USE)] == [1, 1, 2]
    assert [(result.exit_code, result.is_error) for result in results] == [(0, False), (1, True)]
    assert conversation.messages[-1].origin == Origin.COMPACTION_SUMMARY
    assert conversation.warnings == {"unknown_type": 1}
    assert (conversation.usage.input_tokens, conversation.usage.cached_tokens) == (1900, 1700)
    assert conversation.usage.output_tokens == 50
    assert conversation.title == "list files"
    assert b"DO-NOT-SHOW" not in encode_conversation(conversation)
    assert len(parsed.extras) == 1


def test_the_sample_of_the_second_generation_has_all_that_its_readme_counts(samples):
    conversation = read_sample(samples, "composed_g2.jsonl").conversation

    assert tell(conversation) == [
        (Role.USER, Kind.TEXT, "rename the module"),
        (Role.ASSISTANT, Kind.THINKING, ""),
        (Role.ASSISTANT, Kind.TOOL_USE, None),
        (Role.TOOL, Kind.TOOL_RESULT, "old.py\n"),
        (Role.ASSISTANT, Kind.TEXT, "Renamed."),
    ]
    assert conversation.messages[3].blocks[0].exit_code == 0
    assert conversation.git == {"branch": "main", "commit": "ab12", "url": "https://example.org/r.git"}
    assert conversation.created == "2025-07-02T10:00:00Z"
    assert b"DO-NOT-SHOW" not in encode_conversation(conversation)


def test_the_samples_of_another_project_have_all_that_their_readme_counts(samples):
    stream = read_sample(samples, "polylogue_text_only_stream.jsonl").conversation
    script = read_sample(samples, "polylogue_functions_exec_single.jsonl").conversation

    assert [message.role for message in stream.messages] == [Role.USER, Role.ASSISTANT]
    assert (stream.usage.input_tokens, stream.usage.output_tokens) == (12, 8)
    assert [message.created for message in stream.messages] == ["2025-01-15T10:00:05Z", "2025-01-15T10:00:08Z"]
    assert [block.kind for message in script.messages for block in message.blocks] == [Kind.TOOL_USE, Kind.TOOL_RESULT]
    assert len(script.messages[1].blocks[0].extra["pieces"]) == 2


# Whose file it is


@pytest.mark.parametrize(
    "lines",
    [
        [envelope("session_meta", META)],
        [envelope("turn_context", {}), envelope("event_msg", {})],
        [{"id": "a", "timestamp": "2025-07-02T10:00:00Z", "instructions": None}],
        [{"id": "a", "timestamp": "2025-07-02T10:00:00Z", "git": {}}, {"record_type": "state"}],
        [{"record_type": "state"}, {"type": "message", "role": "user", "content": []}],
        [{"type": "message", "role": "user", "content": []}],
        [{"type": "function_call", "name": "shell", "call_id": "c", "arguments": "{}"}],
        [{"session": {"id": "a"}, "items": []}],
    ],
)
def test_a_session_is_recognised_by_its_shape(lines):
    content = "\n".join(json.dumps(line) for line in lines)

    assert CodexImporter().recognise(peek(make_member("any name", content))) is not None


@pytest.mark.parametrize(
    "line",
    [
        {"type": "user", "sessionId": "s", "uuid": "u", "message": {"role": "user", "content": "hi"}},
        {"type": "message", "role": "user", "content": "a text and no list"},
        {"type": "summary", "summary": "x", "leafUuid": "y"},
        {"id": "a", "timestamp": "2025-07-02T10:00:00Z"},
        {"role": "user", "content": "hi"},
    ],
)
def test_lines_of_others_are_not_taken_for_a_session(line):
    content = json.dumps(line) + "\n" + json.dumps(line)

    assert CodexImporter().recognise(peek(make_member("rollout-1.jsonl", content))) is None


def test_the_history_of_prompts_is_an_artifact():
    line = json.dumps({"session_id": "s", "ts": 1, "text": "hi"})

    assert CodexImporter().recognise(peek(make_member("history.jsonl", f"{line}\n{line}\n"))).is_artifact


def test_the_first_generation_is_one_object():
    session = {"session": {"id": "s1", "timestamp": "2025-05-01T00:00:00Z", "instructions": "Be brief."}}
    messages = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
    (parsed,) = parse_all(CodexImporter(), make_member("f", json.dumps({**session, "items": messages}, indent=2)))

    assert parsed.conversation.native_id == "s1"
    assert tell(parsed.conversation) == [(Role.USER, Kind.TEXT, "hi")]
    assert parsed.conversation.settings == {"instructions": "Be brief."}


def test_the_id_is_in_the_first_header_else_in_the_file_name_else_made_of_the_first_words():
    file_id = "0198c5a4-7c9e-7000-8000-0123456789ab"
    content = json.dumps(said("user", "hi")) + "\n"
    headed = json.dumps(meta()) + "\n" + content
    name = f"2026/03/05/rollout-2026-03-05T07-00-00-{file_id}.jsonl"

    ids = [
        import_file(text, name=file).conversation
        for text, file in [(headed, name), (content, name), (content, "a"), (content + content, "b")]
    ]

    assert [conversation.native_id for conversation in ids[:2]] == ["session-1", file_id]
    assert ids[2].native_id == ids[3].native_id
    assert [conversation.is_id_derived for conversation in ids] == [False, False, True, True]


# The header and the turns


def test_a_header_of_the_second_generation_may_have_nothing_but_its_id_and_time():
    words = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    conversation = import_lines({"id": "bare", "timestamp": "2025-07-02T10:00:00Z"}, words)

    assert (conversation.native_id, conversation.created) == ("bare", "2025-07-02T10:00:00Z")
    assert conversation.warnings == {}


def test_the_header_tells_where_the_session_ran():
    facts = {"originator": "codex_cli_rs", "base_instructions": {"text": "Be brief."}, "git": {"branch": "main"}}
    conversation = import_lines(meta(**facts))

    assert (conversation.cwd, conversation.git) == ("/repo", {"branch": "main"})
    assert conversation.created == "2026-03-05T07:00:00Z"
    assert conversation.settings == {"base_instructions": {"text": "Be brief."}}
    assert conversation.extra["session"] == {"originator": "codex_cli_rs"}


def test_each_answer_has_the_model_of_the_turn_it_belongs_to():
    conversation = import_lines(
        envelope("turn_context", {"model": "one", "cwd": "/repo"}),
        said("assistant", "a"),
        envelope("turn_context", {"model": "one", "cwd": "/repo"}),
        envelope("turn_context", {"turn_context": {"model": "two"}}),
        said("assistant", "b"),
    )

    assert [message.model for message in conversation.messages] == ["one", "two"]
    assert conversation.model == "one"
    assert conversation.settings == {"turn_contexts": [{"model": "one", "cwd": "/repo"}, {"model": "two"}]}


def test_a_sub_agent_names_the_session_that_started_it():
    source = {"subagent": {"thread_spawn": {"parent_thread_id": "p", "depth": 1}}}

    (link,) = import_lines(meta(source=source)).lineage

    assert (link.kind, link.native_id) == ("sub_agent", "p")


def test_context_that_the_program_put_under_the_user_is_hidden_and_never_the_title():
    injected = [
        said("user", "<environment_context>\n <cwd>/repo</cwd>\n</environment_context>"),
        said("user", "<user_instructions>Be brief.</user_instructions>"),
        said("user", "# AGENTS.md instructions for /repo\n\n<INSTRUCTIONS>"),
        said("user", "<permissions instructions>none</permissions instructions>"),
        said("user", "<turn_aborted>stopped</turn_aborted>"),
        said("developer", "Be careful."),
        said("system", "You are a model."),
    ]
    conversation = import_lines(*injected, said("user", "list files"))

    *context, human = conversation.messages
    assert {message.origin for message in context} == {Origin.RUNTIME_CONTEXT}
    assert {message.hidden for message in context} == {"context"}
    assert {block.kind for message in context for block in message.blocks} == {Kind.CONTEXT}
    assert (human.origin, human.hidden) == (Origin.HUMAN, None)
    assert conversation.title == "list files"


@pytest.mark.parametrize(
    ("text", "origin", "hidden"),
    [
        ("<skill>\n<name>x</name></skill>", Origin.RUNTIME_CONTEXT, "context"),
        ("<subagent_notification>{}</subagent_notification>", Origin.NOTIFICATION, "notification"),
        ("<user_shell_command>\n<command>\nls\n</command></user_shell_command>", Origin.COMMAND, None),
    ],
)
def test_what_the_program_says_for_a_person_is_nobodys_words(text, origin, hidden):
    conversation = import_lines(said("user", text), said("user", "hi"))

    assert [(message.origin, message.hidden) for message in conversation.messages] == [
        (origin, hidden),
        (Origin.HUMAN, None),
    ]
    assert conversation.title == "hi"


def test_what_an_editor_puts_above_a_persons_words_is_context():
    above = "# Context from my IDE setup:\n\n## Active file: a.py\n\n"
    text = f"{above}## My request for Codex:\nmend it\n"
    conversation = import_lines(said("user", text), event("user_message", message=text))

    (message,) = conversation.messages
    assert [(block.kind, block.text) for block in message.blocks] == [
        (Kind.CONTEXT, above.strip()),
        (Kind.TEXT, "mend it"),
    ]
    assert conversation.title == "mend it"


def test_words_and_context_in_one_message_are_told_apart():
    pieces = [{"type": "input_text", "text": text} for text in ("<environment_context>x", "list files")]
    conversation = import_lines(item("message", role="user", content=pieces))

    (message,) = conversation.messages
    assert message.origin == Origin.HUMAN
    assert [(block.kind, block.origin) for block in message.blocks] == [
        (Kind.CONTEXT, Origin.RUNTIME_CONTEXT),
        (Kind.TEXT, None),
    ]
    assert conversation.title == "list files"


# Items


def test_a_message_keeps_its_phase_and_whether_it_ended_the_turn():
    (message,) = import_lines(said("assistant", "Done.", id="m1", phase="final_answer", end_turn=True)).messages

    assert (message.native_id, message.end_turn) == ("m1", True)
    assert message.extra == {"phase": "final_answer", "line": 1}


def test_reasoning_is_its_summary_else_its_content_and_never_what_is_encrypted():
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    content = [{"type": "reasoning_text", "text": "all of it"}]
    conversation = import_lines(
        item("reasoning", summary=summary, content=None, encrypted_content="DO-NOT-SHOW"),
        item("reasoning", summary=[], content=content),
        item("reasoning", summary=[], encrypted_content="DO-NOT-SHOW"),
    )

    texts = [[block.text for block in message.blocks] for message in conversation.messages]
    assert texts == [["one", "two"], ["all of it"], [""]]
    assert [message.hidden for message in conversation.messages] == [None, None, "empty"]
    assert "encrypted" in conversation.messages[0].blocks[0].flags
    assert b"DO-NOT-SHOW" not in encode_conversation(conversation)


def test_what_is_encrypted_is_in_no_line_that_is_kept_as_it_was():
    secret = {"encrypted_content": "DO-NOT-SHOW", "other": [{"encrypted_content": "DO-NOT-SHOW"}]}
    conversation = import_lines(
        item("brand_new_item", **secret),
        event("brand_new_event", **secret),
        envelope("brand_new_line", secret),
        item("ghost_snapshot", **secret),
        item("function_call", name="x", call_id="c", arguments=json.dumps(secret)),
    )

    assert b"DO-NOT-SHOW" not in encode_conversation(conversation)


@pytest.mark.parametrize(
    ("arguments", "read", "flags"),
    [
        ('{"command": ["ls"]}', {"command": ["ls"]}, []),
        ({"command": "ls"}, {"command": "ls"}, []),
        ('{"command": ', '{"command": ', ["unparsed_arguments"]),
        ("", "", ["unparsed_arguments"]),
        ('"\\ud83d"', "\ufffd", []),
    ],
)
def test_the_arguments_of_a_call_are_read_and_stay_text_where_they_cannot_be(arguments, read, flags):
    line = item("function_call", name="shell", namespace="mcp", call_id="c", arguments=arguments)

    (block,) = import_lines(line).messages[0].blocks

    assert (block.kind, block.tool_name, block.call_id) == (Kind.TOOL_USE, "mcp.shell", "c")
    assert (block.input, block.flags) == (read, flags)


@pytest.mark.parametrize(
    ("line", "name", "given"),
    [
        (
            item("custom_tool_call", name="apply_patch", call_id="c", input='{"not": "json"'),
            "apply_patch",
            '{"not": "json"',
        ),
        (item("custom_tool_call", name="exec", call_id="c", input='{"a": 1}'), "exec", '{"a": 1}'),
        (
            item("local_shell_call", call_id="c", action={"type": "exec", "command": ["ls"]}),
            "local_shell",
            {"type": "exec", "command": ["ls"]},
        ),
        (
            item("web_search_call", action={"type": "search", "query": "boats"}, status="completed"),
            "web_search",
            {"type": "search", "query": "boats"},
        ),
        (item("tool_search_call", call_id="c", arguments={"query": "x"}), "tool_search_call", {"query": "x"}),
    ],
)
def test_every_kind_of_call_is_a_use_of_a_tool(line, name, given):
    (block,) = import_lines(line).messages[0].blocks

    assert (block.kind, block.tool_name, block.input) == (Kind.TOOL_USE, name, given)


@pytest.mark.parametrize(
    ("output", "text", "exit_code", "is_error"),
    [
        ("plain words", "plain words", None, None),
        ('{"output": "a\\n", "metadata": {"exit_code": 0, "duration_seconds": 0.1}}', "a\n", 0, False),
        ('{"output": "no", "metadata": {"exit_code": 1}}', "no", 1, True),
        ('{"output": 1}', '{"output": 1}', None, None),
        ('{"broken', '{"broken', None, None),
        ("Exit code: 2\nWall time: 0.1 seconds\nOutput:\nno such file\n", "no such file\n", 2, True),
        ("Exit code: 0\nWall time: 0 seconds\nTotal output lines: 9\nOutput:\n", "", 0, False),
        ("Chunk ID: 1\nWall time: 0.1 seconds\nProcess exited with code -1\nOutput:\nx", "x", -1, True),
        ("Listing\nOutput:\nnot a header", "Listing\nOutput:\nnot a header", None, None),
        ([{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}], "one\ntwo", None, None),
        ([{"type": "output_text", "text": "Exit code: 3\nOutput:\nx"}], "x", 3, True),
        ({"content": "words", "success": False}, "words", None, True),
        (None, "", None, None),
    ],
)
def test_an_output_of_any_form_is_read(output, text, exit_code, is_error):
    (block,) = import_lines(item("function_call_output", call_id="c", output=output)).messages[0].blocks

    assert (block.kind, block.call_id, block.text) == (Kind.TOOL_RESULT, "c", text)
    assert (block.exit_code, block.is_error) == (exit_code, is_error)


def test_what_the_header_of_an_output_says_is_kept_beside_it():
    output = "Exit code: 2\nWall time: 0.1 seconds\nOutput:\nx"

    (block,) = import_lines(item("function_call_output", call_id="c", output=output)).messages[0].blocks

    assert block.extra == {"header": "Exit code: 2\nWall time: 0.1 seconds\n"}


def test_pictures_become_attachments_and_their_urls_are_in_no_text():
    pieces = [{"type": "input_text", "text": "what is it?"}, {"type": "input_image", "image_url": PNG}]
    output = [{"type": "input_text", "text": "seen"}, {"type": "input_image", "image_url": "https://example.org/x.png"}]
    content = [item("message", role="user", content=pieces), item("function_call_output", call_id="c", output=output)]
    parsed = import_file("".join(json.dumps(line) + "\n" for line in content))

    question, result = parsed.conversation.messages
    picture, linked = question.blocks[1].attachment, result.blocks[1].attachment
    assert (picture.status, picture.mime_type, picture.size_bytes) == (AttachmentStatus.PRESENT, "image/png", 8)
    assert parsed.extras == {picture.extra_file: b"\x89PNG\r\n\x1a\n"}
    assert (linked.status, linked.url) == (AttachmentStatus.EXTERNAL, "https://example.org/x.png")
    assert b"base64" not in encode_conversation(parsed.conversation)


def test_a_picture_that_was_made_is_a_call_and_its_bytes():
    line = item("image_generation_call", id="ig1", status="completed", revised_prompt="a boat", result="iVBORw0KGgo=")
    parsed = import_file(json.dumps(line) + "\n")

    call, picture = parsed.conversation.messages[0].blocks
    assert (call.tool_name, call.input) == ("image_generation", "a boat")
    assert picture.attachment.purpose == "generated"
    assert parsed.extras[picture.attachment.extra_file] == b"\x89PNG\r\n\x1a\n"


def test_an_item_of_an_unknown_type_is_shown_raw_and_counted():
    conversation = import_lines(item("brand_new_item", payload_of_it=[1]))

    (block,) = conversation.messages[0].blocks
    assert (block.kind, block.flags) == (Kind.CONTEXT, ["unknown_type"])
    assert block.raw == {"type": "brand_new_item", "payload_of_it": [1]}
    assert conversation.warnings == {"unknown_type": 1}


def test_a_piece_of_an_unknown_type_with_a_text_is_text_and_counted():
    content = [{"type": "brand_new_piece", "text": "words"}]
    conversation = import_lines(item("message", role="user", content=content))

    (block,) = conversation.messages[0].blocks
    assert (block.kind, block.text, block.flags) == (Kind.TEXT, "words", ["unknown_type"])
    assert conversation.warnings == {"unknown_type": 1}


def test_lines_that_are_no_messages_are_kept_as_they_were():
    conversation = import_lines(
        envelope("world_state", {"a": 1}),
        envelope("inter_agent_communication", {"b": 2}),
        42,
        envelope("new", {"c": 3}),
    )

    kept = [(line["type"], line["payload"]) for line in conversation.extra["other_lines"]]
    assert kept == [
        ("world_state", {"a": 1}),
        ("inter_agent_communication", {"b": 2}),
        ("unknown", {"value": 42}),
        ("new", {"c": 3}),
    ]
    assert conversation.warnings == {"unknown_type": 2}
    assert conversation.messages == []


def test_a_compaction_is_one_block_of_context_without_the_history_it_replaces():
    history = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "list files"}]}]
    conversation = import_lines(
        said("user", "list files"),
        envelope("compacted", {"message": "Files were listed.", "replacement_history": history}),
    )

    human, summary = conversation.messages
    assert tell(conversation)[1:] == [(Role.SYSTEM, Kind.CONTEXT, "Files were listed.")]
    assert (summary.origin, summary.hidden) == (Origin.COMPACTION_SUMMARY, "context")
    assert summary.extra["replaced_items"] == 1
    assert human.origin == Origin.HUMAN


# Events


@pytest.mark.parametrize("is_before", [True, False])
def test_an_event_that_repeats_an_item_is_no_message(is_before):
    pairs = [
        (event("user_message", message="list  files\n"), said("user", "list files")),
        (event("agent_message", message="One file: a.txt"), said("assistant", "One file:\na.txt")),
    ]
    lines = [line for pair in pairs for line in (pair if is_before else reversed(pair))]

    assert [text for _, _, text in tell(import_lines(*lines))] == ["list files", "One file:\na.txt"]


def test_a_file_of_events_only_has_its_messages():
    conversation = import_lines(
        meta(),
        event("user_message", message="hello"),
        event("agent_reasoning", text="**Thinking**"),
        event("agent_message", message="hi"),
    )

    assert tell(conversation) == [
        (Role.USER, Kind.TEXT, "hello"),
        (Role.ASSISTANT, Kind.THINKING, "**Thinking**"),
        (Role.ASSISTANT, Kind.TEXT, "hi"),
    ]
    assert conversation.messages[0].origin == Origin.HUMAN


def test_equal_words_of_another_turn_are_no_repetition():
    conversation = import_lines(
        said("user", "go"),
        said("assistant", "Done."),
        event("agent_message", message="Done."),
        said("user", "again"),
        event("agent_message", message="Done."),
    )

    assert [text for _, _, text in tell(conversation)] == ["go", "Done.", "again", "Done."]


def test_words_that_an_item_of_an_earlier_turn_has_alone_are_said_again():
    conversation = import_lines(
        said("user", "yes"),
        said("assistant", "Done."),
        said("user", "go"),
        said("user", "on"),
        event("user_message", message="yes"),
        event("agent_message", message="Done."),
    )

    assert [text for _, _, text in tell(conversation)] == ["yes", "Done.", "go", "on", "yes", "Done."]


def test_words_that_an_item_of_a_later_turn_has_are_said_before():
    conversation = import_lines(
        said("user", "go"), event("agent_message", message="Done."), said("user", "again"), said("assistant", "Done.")
    )

    assert [text for _, _, text in tell(conversation)] == ["go", "Done.", "again", "Done."]


def test_events_repeat_as_many_items_as_there_are():
    event_of, item_of = event("agent_message", message="Done."), said("assistant", "Done.")

    assert len(import_lines(event_of, event_of, item_of, item_of).messages) == 2
    assert len(import_lines(item_of, item_of, event_of, event_of).messages) == 2
    assert len(import_lines(event_of, event_of, event_of, item_of, item_of).messages) == 3


def test_each_item_is_repeated_once():
    conversation = import_lines(
        said("assistant", "Done."), event("agent_message", message="Done."), event("agent_message", message="Done.")
    )

    assert [text for _, _, text in tell(conversation)] == ["Done.", "Done."]


def test_a_thought_event_repeats_one_piece_of_a_summary():
    summary = [{"type": "summary_text", "text": text} for text in ("**One**", "**Two**")]
    conversation = import_lines(
        event("agent_reasoning", text="**One**"),
        event("agent_reasoning", text="**Two**"),
        event("agent_reasoning", text="**Three**"),
        item("reasoning", summary=summary),
    )

    assert [text for _, _, text in tell(conversation)] == ["**Three**", "**One**", "**Two**"]


def test_the_end_of_a_command_gives_its_result_the_exit_code():
    conversation = import_lines(
        item("function_call", name="shell", call_id="c", arguments="{}"),
        event("exec_command_begin", call_id="c", command=["ls"]),
        event("exec_command_end", call_id="c", aggregated_output="a", exit_code=7),
        item("function_call_output", call_id="c", output="a"),
    )

    assert [block.kind for message in conversation.messages for block in message.blocks] == [
        Kind.TOOL_USE,
        Kind.TOOL_RESULT,
    ]
    assert (conversation.messages[1].blocks[0].exit_code, conversation.messages[1].blocks[0].is_error) == (7, True)


def test_a_command_that_only_the_display_log_has_is_a_call_and_a_result():
    conversation = import_lines(
        event("exec_command_begin", call_id="c", command=["ls"]),
        event("exec_command_end", call_id="c", aggregated_output="a", exit_code=0),
    )

    call, result = (message.blocks[0] for message in conversation.messages)
    assert (call.kind, call.tool_name, call.input, call.call_id) == (Kind.TOOL_USE, "exec_command", ["ls"], "c")
    assert (result.kind, result.text, result.call_id, result.exit_code) == (Kind.TOOL_RESULT, "a", "c", 0)


def test_a_tool_of_a_server_that_failed_is_an_error():
    invocation = {"server": "files", "tool": "read", "arguments": {"path": "a"}}
    end = event("mcp_tool_call_end", call_id="c", invocation=invocation, result={"Err": "no such file"})

    alone = import_lines(end)
    beside = import_lines(item("function_call_output", call_id="c", output="no such file"), end)

    call, result = (message.blocks[0] for message in alone.messages)
    assert (call.tool_name, call.input) == ("files.read", {"path": "a"})
    assert (result.text, result.is_error) == ("no such file", True)
    assert [block.is_error for message in beside.messages for block in message.blocks] == [True]


def test_a_web_search_event_repeats_the_search_with_its_action():
    action = {"type": "search", "query": "boats"}
    conversation = import_lines(
        item("web_search_call", action=action),
        event("web_search_end", call_id="ws", query="boats", action=action),
        event("web_search_end", call_id="ws2", query="ports"),
        event("web_search_end", call_id="ws3", query="boats", action=action),
    )

    calls = [block.input for message in conversation.messages for block in message.blocks]
    assert calls == [action, {"type": "search", "query": "ports"}, action]


def test_pictures_on_a_disk_are_missing_and_named_once():
    conversation = import_lines(
        said("user", "what is it?"),
        event("user_message", message="what is it?", local_images=["C:\\pictures\\boat.png"]),
    )

    picture = conversation.messages[0].blocks[1].attachment
    assert (picture.name, picture.status) == ("boat.png", AttachmentStatus.MISSING)
    assert picture.reason


def test_a_picture_that_the_item_has_is_not_named_again():
    content = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": PNG}]
    conversation = import_lines(
        item("message", role="user", content=content), event("user_message", message="x", local_images=["/a/boat.png"])
    )

    assert len(conversation.messages[0].blocks) == 2


@pytest.mark.parametrize("words", ["", "what is it?"])
def test_the_marks_around_a_picture_are_no_words_of_a_person_and_its_event_says_it_again(words):
    pieces = [{"type": "input_text", "text": text} for text in ("<image name=[Image #1]>", "</image>", words) if text]
    pieces.insert(1, {"type": "input_image", "image_url": PNG})
    conversation = import_lines(
        item("message", role="user", content=pieces), event("user_message", message=words, images=[PNG])
    )

    (message,) = conversation.messages
    assert [block.text for block in message.blocks if block.kind == Kind.TEXT] == ([words] if words else [])
    assert (message.origin, message.hidden, conversation.title) == (Origin.HUMAN, None, words or None)


def test_an_event_of_an_unknown_type_is_kept_and_counted():
    conversation = import_lines(event("brand_new", a=1), event("item_completed", b=2), event("collab_wait_end", c=3))

    assert [line["payload"]["type"] for line in conversation.extra["other_lines"]] == [
        "brand_new",
        "item_completed",
        "collab_wait_end",
    ]
    assert conversation.warnings == {"unknown_type": 1}


def test_what_a_shell_of_the_first_generation_brought_is_a_result():
    output = json.dumps({"output": "x", "metadata": {"exit_code": 1}})
    (message,) = import_lines(item("local_shell_call_output", call_id="c", output=output)).messages

    assert [(block.kind, block.text, block.exit_code) for block in message.blocks] == [(Kind.TOOL_RESULT, "x", 1)]


def test_an_aborted_turn_is_marked_and_an_error_is_shown():
    conversation = import_lines(
        said("assistant", "I will"), event("turn_aborted", reason="interrupted"), event("error", message="no network")
    )

    answer, error = conversation.messages
    assert answer.status == "interrupted"
    assert (error.blocks[0].text, error.blocks[0].flags) == ("no network", ["error"])
    assert conversation.extra["events"] == {"turn_aborted": 1}


def test_turns_that_were_rolled_back_stay_beside_the_path():
    conversation = import_lines(
        said("user", "one"),
        said("assistant", "first"),
        said("user", "two"),
        said("assistant", "second"),
        event("thread_rolled_back", num_turns=1),
        said("user", "three"),
    )

    messages = {message.blocks[0].text: message for message in conversation.messages}
    active = [message.blocks[0].text for message in conversation.messages if message.is_active]
    assert active == ["one", "first", "three"]
    assert messages["three"].parent == messages["first"].key
    assert messages["two"].parent == messages["first"].key
    assert not conversation.is_leaf_guessed


def test_a_session_rolled_back_to_its_beginning_has_no_active_path():
    conversation = import_lines(said("user", "one"), event("thread_rolled_back", num_turns=9))

    assert [message.is_active for message in conversation.messages] == [False]
    assert conversation.active_leaf is None


def test_a_name_that_a_person_gave_is_the_title():
    conversation = import_lines(said("user", "hi"), event("thread_name_updated", thread_id="t", thread_name="Boats"))

    assert (conversation.title, conversation.title_source) == ("Boats", "provider")


# Usage


def test_totals_are_not_added_up_and_repeated_ones_change_nothing():
    conversation = import_lines(
        meta(), totals(1, 900, 30), totals(2, 900, 30), totals(3, 1900, 50), totals(4, 1900, 50)
    )

    expected = Usage(input_tokens=1900, output_tokens=50, cached_tokens=950, input_includes_cached=True)
    assert conversation.usage == expected


def test_totals_that_begin_anew_are_added():
    conversation = import_lines(meta(), totals(1, 1000, 50), totals(2, 200, 10), totals(3, 300, 20))

    assert (conversation.usage.input_tokens, conversation.usage.output_tokens) == (1300, 70)


def test_a_count_without_info_is_about_limits_only():
    conversation = import_lines(meta(), event("token_count", info=None, rate_limits={"primary": {"used_percent": 1.0}}))

    assert conversation.usage is None


def test_requests_are_added_up_where_no_total_is_told():
    last = {"last_token_usage": {"input_tokens": 10, "output_tokens": 1}}

    conversation = import_lines(meta(), event("token_count", info=last), event("token_count", info=last))

    assert (conversation.usage.input_tokens, conversation.usage.output_tokens) == (20, 2)


# Growth, forks and resumed sessions


def keys_of(conversation: Conversation) -> list[str]:
    return [message.key for message in conversation.messages]


def test_a_longer_file_begins_with_the_same_keys():
    lines = [meta(), said("user", "yes"), said("assistant", "ok"), said("user", "yes")]

    shorter, longer = import_lines(*lines), import_lines(*lines, said("assistant", "ok"))

    assert keys_of(longer)[:3] == keys_of(shorter)
    assert len(set(keys_of(longer))) == 4
    assert shorter.is_append_only


def test_a_message_keeps_its_key_when_another_one_before_it_changes():
    old = import_lines(said("user", "one"), said("assistant", "two"))
    new = import_lines(said("user", "changed"), said("assistant", "two"))

    assert keys_of(old)[1] == keys_of(new)[1]
    assert keys_of(old)[0] != keys_of(new)[0]


def fork(*, at: float, pause: float = 0) -> Conversation:
    """Return a fork that repeats its ancestor's lines from that second on, and goes on ten seconds after the fork."""
    replay = [envelope("session_meta", {**META, "id": "old"}, at)]
    replay += [envelope("response_item", said("user", "one")["payload"], at + pause), totals(at + 2 * pause, 1000, 50)]
    own = [{**said("user", "two"), "timestamp": "2026-03-05T07:01:10Z"}, totals(71, 1200, 60)]
    header = envelope("session_meta", {**META, "id": "new", "forked_from_id": "old"}, 60)
    return import_lines(header, *replay, *own)


@pytest.mark.parametrize(("at", "pause"), [(60, 0), (3, 20)], ids=["at the moment of the fork", "with the old times"])
def test_a_fork_names_its_ancestor_and_what_it_copied_from_it(at, pause):
    conversation = fork(at=at, pause=pause)

    assert conversation.native_id == "new"
    assert [(link.kind, link.native_id) for link in conversation.lineage] == [("fork", "old")]
    assert [message.extra.get("copied_from") for message in conversation.messages] == ["old", None]


def test_a_copy_has_the_key_of_what_it_was_copied_from():
    ancestor = import_lines(envelope("session_meta", {**META, "id": "old"}), said("user", "one"))

    assert keys_of(fork(at=60))[0] == keys_of(ancestor)[0]


@pytest.mark.parametrize(("at", "pause"), [(60, 0), (3, 20)])
def test_a_fork_does_not_count_the_usage_of_its_ancestor(at, pause):
    conversation = fork(at=at, pause=pause)

    assert (conversation.usage.input_tokens, conversation.usage.output_tokens) == (200, 10)


def test_a_replay_ends_where_the_own_header_comes_again():
    conversation = import_lines(
        envelope("session_meta", {**META, "id": "new"}, 60),
        envelope("session_meta", {**META, "id": "old"}, 60),
        envelope("response_item", said("user", "one")["payload"], 60),
        envelope("session_meta", {**META, "id": "new"}, 60),
        envelope("response_item", said("user", "two")["payload"], 60),
    )

    assert [message.extra.get("copied_from") for message in conversation.messages] == ["old", None]
    assert [(link.kind, link.native_id) for link in conversation.lineage] == [("resume", "old")]


# Damage


def test_bad_lines_are_named_and_the_others_are_read():
    content = json.dumps(meta()) + '\n\n{"broken\n' + json.dumps(said("user", "hi")) + '\n{"type": "resp'
    records, skips = split_all(CodexImporter(), make_member("rollout.jsonl", content))

    conversation = CodexImporter().parse(records[0]).conversation
    assert [skip.place for skip in skips if not skip.is_info] == ["rollout.jsonl:3"]
    assert [skip.reason for skip in skips if skip.is_info] == ["truncated_tail"]
    assert [message.extra["line"] for message in conversation.messages] == [4]
    assert records[0].place == "lines 1-4"


def test_a_chain_of_20_000_messages_is_read():
    lines = [said("user" if number % 2 else "assistant", str(number)) for number in range(20_000)]

    conversation = import_lines(*lines)

    assert sum(message.is_active for message in conversation.messages) == 20_000


def test_messages_of_one_turn_are_one_group():
    conversation = import_lines(
        said("user", "one"),
        item("reasoning", summary=[]),
        said("assistant", "first"),
        said("user", "two"),
        said("assistant", "second"),
    )

    groups = [message.group for message in conversation.messages if message.role == Role.ASSISTANT]
    assert groups == ["turn 1", "turn 1", "turn 2"]


def test_the_key_of_a_message_is_pinned():
    (message,) = import_lines(said("user", "rename the module")).messages

    assert isinstance(message, Message)
    assert message.key == "5cb95ebeac908d2e8c7a"
