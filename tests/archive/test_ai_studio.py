"""Prompts of Google AI Studio: chunks, their parts, their files, and what is kept beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.conversations import AttachmentStatus, Conversation, Kind, Origin, Role, encode_conversation
from pipeline.archive.importers.ai_studio import AiStudioImporter
from pipeline.archive.importers.interface import Parsed
from pipeline.archive.reading import peek
from tests.archive.members import SAMPLES, import_alone, make_member, parse_all, split_all

IMPORTER = AiStudioImporter()
PNG = "iVBORw0KGgo="
PNG_BYTES = b"\x89PNG\r\n\x1a\n"


def prompt_of(*chunks: Any, **facts: Any) -> dict[str, Any]:
    return {"chunkedPrompt": {"chunks": list(chunks)}, **facts}


def import_chunks(*chunks: Any, **facts: Any) -> Conversation:
    return import_alone(IMPORTER, prompt_of(*chunks, **facts))


def parse_chunks(*chunks: Any) -> Parsed:
    (parsed,) = parse_all(IMPORTER, make_member("chat", prompt_of(*chunks)))
    return parsed


def user(text: str, **facts: Any) -> dict[str, Any]:
    return {"text": text, "role": "user", **facts}


def model(text: str, **facts: Any) -> dict[str, Any]:
    return {"text": text, "role": "model", **facts}


def tell(conversation: Conversation) -> list[list[tuple[str, str | None]]]:
    """Return the kind and text of the blocks of each message."""
    return [[(block.kind, block.text) for block in message.blocks] for message in conversation.messages]


# The samples


def read_sample(name: str) -> Parsed:
    path = SAMPLES / "gemini_aistudio" / name
    if not path.exists():
        pytest.skip("the samples are not beside this repository")
    (parsed,) = parse_all(IMPORTER, make_member(name, path.read_bytes()))
    return parsed


def test_the_sample_without_an_extension_has_all_that_its_readme_counts():
    parsed = read_sample("composed_prompt_no_extension")

    conversation = parsed.conversation
    roles = [message.role for message in conversation.messages]
    document, question, thought, answer, code, picture, error, orphan = conversation.messages
    assert [roles.count(role) for role in (Role.USER, Role.ASSISTANT, Role.UNKNOWN)] == [2, 5, 1]
    assert document.blocks[-1].attachment.status == AttachmentStatus.MISSING
    assert question.blocks[0].text == "What is it?"
    assert [(block.kind, block.text) for block in thought.blocks] == [(Kind.THINKING, "Look. A boat.")]
    assert [block.kind for block in answer.blocks] == [Kind.TEXT, Kind.CITATION]
    assert [block.kind for block in code.blocks] == [Kind.TOOL_USE, Kind.TOOL_RESULT]
    assert list(parsed.extras) == [picture.blocks[0].attachment.extra_file]
    assert error.blocks[0].flags == ["error"]
    assert orphan.blocks[0].text == "no role here"
    assert conversation.extra["drafts"] == [{"text": "and the fl", "role": "user"}]
    assert (conversation.title, conversation.title_source) == ("composed_prompt_no_extension", "file_name")
    assert (conversation.created, conversation.updated) == (None, None)
    assert b"c2ln" not in encode_conversation(conversation)


def test_the_samples_of_another_project_have_all_that_their_readme_counts():
    session = read_sample("polylogue_text_only_session.json").conversation
    code = read_sample("polylogue_code_execution_prompt.json").conversation
    parts = read_sample("polylogue_text_and_parts_prompt.json").conversation

    assert [message.role for message in session.messages] == [Role.USER, Role.ASSISTANT]
    assert (session.native_id, session.title, session.created) == (
        "gemini-text-only-1",
        "Text-only Gemini session",
        "2025-02-01T10:00:00Z",
    )
    assert [kind for blocks in tell(code) for kind, _ in blocks] == [
        Kind.TEXT,
        Kind.THINKING,
        Kind.TOOL_USE,
        Kind.TOOL_RESULT,
        Kind.TEXT,
    ]
    assert [text for blocks in tell(parts) for _, text in blocks] == [
        "Name the two changes in the release notes.",
        "The notes list two changes. I will name both.",
        "Two changes shipped: a faster parser and a smaller cache.",
    ]
    assert {message.model for message in parts.messages if message.role == Role.ASSISTANT} == {"gemini-fixture-pro"}
    assert b"signature-fixture-part" not in encode_conversation(parts)


# Whose file it is


@pytest.mark.parametrize(
    "value",
    [
        prompt_of(user("hi")),
        {"chunks": [user("hi")]},
        [user("hi"), model("hello")],
        prompt_of({"role": "user", "driveImage": {"id": "1"}}),
        [{"id": "capture", **prompt_of(user("hi"))}],
    ],
)
def test_a_prompt_is_recognised_by_its_chunks(value):
    assert IMPORTER.recognise(peek(make_member("any name", value))) is not None
    assert len(parse_all(IMPORTER, make_member("any name", value))) == 1


@pytest.mark.parametrize("value", [{"chunks": []}, {"chunks": [{"text": "no role"}]}, {"messages": [{"role": "user"}]}])
def test_chunks_without_a_role_and_content_are_nobodys(value):
    assert IMPORTER.recognise(peek(make_member("f", value))) is None


@pytest.mark.parametrize("other", [{"testExamples": []}, {"inputBindings": {}}])
def test_a_prompt_of_another_kind_is_an_artifact(other):
    value = {"runSettings": {"model": "models/x"}, **other}

    assert IMPORTER.recognise(peek(make_member("f", value))).is_artifact


def test_a_capture_without_chunks_is_skipped_and_the_others_are_read():
    file = make_member("f", [prompt_of(user("hi")), {"other": 1}, prompt_of(user("ho"))])

    records, skips = split_all(IMPORTER, file)

    assert [record.place for record in records] == ["f[0]", "f[2]"]
    assert [(skip.reason, skip.place) for skip in skips] == [("no_chunks", "f[1]")]


# The prompt


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("Be brief.", "Be brief."),
        ({"text": "Be brief."}, "Be brief."),
        ({"parts": [{"text": "Be "}, {"text": "brief."}]}, "Be brief."),
    ],
)
def test_the_system_instruction_is_context_before_the_first_message(instruction, text):
    conversation = import_chunks(user("hi"), systemInstruction=instruction)

    (message,) = conversation.messages
    assert [(block.kind, block.text, block.origin) for block in message.blocks] == [
        (Kind.CONTEXT, text, Origin.RUNTIME_CONTEXT),
        (Kind.TEXT, "hi", None),
    ]
    assert conversation.settings == {"systemInstruction": instruction}


def test_an_empty_system_instruction_is_none():
    assert tell(import_chunks(user("hi"), systemInstruction={})) == [[(Kind.TEXT, "hi")]]


def test_answers_have_the_model_of_the_settings():
    settings = {"model": "models/gemini-2.5-flash", "temperature": 1.0}
    conversation = import_chunks(user("hi"), model("hello", tokenCount=5), runSettings=settings)

    assert [message.model for message in conversation.messages] == [None, "gemini-2.5-flash"]
    assert conversation.messages[1].usage.output_tokens == 5
    assert conversation.settings == {"runSettings": settings}


def test_a_draft_stays_beside_the_messages_and_is_no_part_of_the_id():
    prompt = prompt_of(user("hi"))
    prompt["chunkedPrompt"]["pendingInputs"] = [{"text": "and the fl", "role": "user"}, {"text": "", "role": "user"}]

    conversation = import_alone(IMPORTER, prompt)

    assert len(conversation.messages) == 1
    assert conversation.extra["drafts"] == [{"text": "and the fl", "role": "user"}]
    assert conversation.native_id == import_chunks(user("hi")).native_id


def test_the_title_of_a_capture_goes_before_the_name_of_the_file():
    named = parse_all(IMPORTER, make_member("folder/My chat", prompt_of(user("hi"))))[0].conversation
    titled = parse_all(IMPORTER, make_member("folder/a.json", prompt_of(user("hi"), displayName="Boats")))[
        0
    ].conversation
    piped = parse_all(IMPORTER, make_member("-", prompt_of(user("hi"))))[0].conversation

    assert (named.title, named.title_source) == ("My chat", "file_name")
    assert (titled.title, titled.title_source) == ("Boats", "provider")
    assert (piped.title, piped.title_source) == ("hi", "first_prompt")


def test_prompts_that_were_branched_are_linked():
    parent = {"promptId": "prompts/1Ab", "displayName": "Chat"}
    children = [{"promptId": "prompts/9Zz", "displayName": "Copy"}, {"id": "a chunk of a capture"}]
    conversation = import_chunks(user("hi", branchParent=parent), model("hello", branchChildren=children))

    first, second = conversation.messages
    links = [(link.kind, link.native_id, link.message) for link in conversation.lineage]
    assert links == [("branch", "1Ab", first.key), ("branch_child", "9Zz", second.key)]
    assert second.extra["branchChildren"] == children


def test_top_level_fields_that_are_not_read_are_kept():
    conversation = import_chunks(user("hi"), citations=[{"uri": "u", "text": "t"}], applets=[])

    assert conversation.extra == {"citations": [{"uri": "u", "text": "t"}], "applets": []}


# Chunks


def test_parts_are_read_only_where_there_is_no_text():
    pieces = [{"text": "En "}, {"text": "båd."}]
    conversation = import_chunks(model("En båd.", parts=pieces), model("", parts=pieces))

    assert tell(conversation) == [[(Kind.TEXT, "En båd.")], [(Kind.TEXT, "En båd.")]]


def test_thoughts_among_the_parts_are_thinking_in_their_order():
    parts = [{"text": "Look. ", "thought": True}, {"text": "A boat.", "thought": True}, {"text": "A boat it is."}]
    conversation = import_chunks(model("", parts=parts), model("A boat it is.", parts=parts))

    expected = [(Kind.THINKING, "Look. A boat."), (Kind.TEXT, "A boat it is.")]
    assert tell(conversation) == [expected, expected]


def test_a_thought_is_thinking_and_its_signature_is_nowhere():
    parts = [{"text": "Look.", "thought": True, "thoughtSignature": "c2ln"}]
    thought = model("", isThought=True, parts=parts, thoughtSignatures=["c2ln"], thinkingBudget=-1)
    conversation = import_chunks(thought)

    assert tell(conversation) == [[(Kind.THINKING, "Look.")]]
    assert conversation.messages[0].extra == {"thinkingBudget": -1}
    assert b"c2ln" not in encode_conversation(conversation)


def test_code_and_its_result_in_one_chunk_follow_the_text():
    code = {"language": "PYTHON", "code": "print(1)"}
    result = {"outcome": "OUTCOME_FAILED", "output": "boom"}
    text, use, output = (
        import_chunks(model("Let me see.", executableCode=code, codeExecutionResult=result)).messages[0].blocks
    )

    assert text.text == "Let me see."
    assert (use.kind, use.tool_name, use.language, use.input) == (
        Kind.TOOL_USE,
        "code_execution",
        "python",
        {"code": "print(1)"},
    )
    assert (output.kind, output.text, output.is_error) == (Kind.TOOL_RESULT, "boom", True)


@pytest.mark.parametrize(
    ("outcome", "is_error"), [("OUTCOME_OK", False), ("OUTCOME_DEADLINE_EXCEEDED", True), (None, None)]
)
def test_the_outcome_of_code_tells_whether_it_failed(outcome, is_error):
    (result,) = import_chunks({"role": "model", "codeExecutionResult": {"outcome": outcome}}).messages[0].blocks

    assert result.is_error is is_error


@pytest.mark.parametrize("name", ["inlineFile", "inlineImage", "inlineAudio"])
def test_bytes_within_a_chunk_are_kept(name):
    parsed = parse_chunks({"role": "user", name: {"mimeType": "image/png", "data": PNG}})

    attachment = parsed.conversation.messages[0].blocks[0].attachment
    assert (attachment.status, attachment.mime_type) == (AttachmentStatus.PRESENT, "image/png")
    assert parsed.extras == {attachment.extra_file: PNG_BYTES}


def test_bytes_that_are_only_among_the_parts_are_kept():
    parsed = parse_chunks(user("see", parts=[{"text": "see"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]))

    assert [kind for kind, _ in tell(parsed.conversation)[0]] == [Kind.TEXT, Kind.ATTACHMENT]
    assert list(parsed.extras.values()) == [PNG_BYTES]


def test_calls_of_functions_among_the_parts_and_what_they_brought_are_read():
    conversation = import_chunks(
        {"role": "model", "parts": [{"functionCall": {"name": "ask", "args": {"q": 1}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "ask", "response": {"rows": [1, 2]}}}]},
    )
    (call,), (answer,) = (message.blocks for message in conversation.messages)

    assert (call.kind, call.tool_name, call.input) == (Kind.TOOL_USE, "ask", {"q": 1})
    assert (answer.kind, answer.tool_name, answer.raw) == (Kind.TOOL_RESULT, "ask", {"rows": [1, 2]})


@pytest.mark.parametrize(
    "chunk", [{"role": "model", "parts": [{"hologram": {"id": 1}}]}, {"role": "model", "hologram": {"id": 1}}]
)
def test_content_that_nobody_knows_is_kept_counted_and_not_taken_for_nothing(chunk):
    conversation = import_chunks(user("hi"), chunk)
    message = conversation.messages[1]

    assert [block.raw for block in message.blocks] == [{"hologram": {"id": 1}}]
    assert (message.hidden, conversation.warnings) == (None, {"unknown_type": 1})


def test_bytes_that_cannot_be_decoded_are_missing_with_a_reason():
    parsed = parse_chunks({"role": "user", "inlineImage": {"mimeType": "image/png", "data": "%%%"}})

    attachment = parsed.conversation.messages[0].blocks[0].attachment
    assert (attachment.status, attachment.reason) == (AttachmentStatus.MISSING, "its base64 cannot be decoded")


@pytest.mark.parametrize("name", ["driveDocument", "driveImage", "driveAudio", "driveVideo"])
def test_a_file_on_drive_is_missing_until_it_lies_beside_the_prompt(name):
    chunk = user("what is it?", **{name: {"id": "1xYz", "name": "boat.png", "sizeBytes": "8"}})
    alone = make_member("Chats/chat", prompt_of(chunk))
    fetched = make_member("Chats/1xYz.png", PNG_BYTES)

    (missing,) = parse_all(IMPORTER, alone)
    (present,) = parse_all(IMPORTER, alone, [alone, fetched])
    (record,), _ = split_all(IMPORTER, alone, [alone, fetched])

    attachments = [parsed.conversation.messages[0].blocks[1].attachment for parsed in (missing, present)]
    assert [attachment.id for attachment in attachments] == ["1xYz", "1xYz"]
    assert [attachment.status for attachment in attachments] == [AttachmentStatus.MISSING, AttachmentStatus.PRESENT]
    assert [attachment.size_bytes for attachment in attachments] == [8, 8]
    assert attachments[0].reason
    assert (attachments[1].export, attachments[1].blake3) == (fetched.export, fetched.blake3)
    assert attachments[1].name == "boat.png"
    assert record.sources == [fetched.export]


def test_a_file_on_drive_is_found_by_the_name_that_a_capture_tells():
    chat = make_member("chat", prompt_of({"role": "user", "driveImage": {"id": "1xYz", "name": "boat.png"}}))

    (parsed,) = parse_all(IMPORTER, chat, [chat, make_member("boat.png", PNG_BYTES)])

    assert parsed.conversation.messages[0].blocks[0].attachment.status == AttachmentStatus.PRESENT


def test_the_chunks_of_one_answer_are_one_group():
    conversation = import_chunks(user("a"), model("b", isThought=True), model("c"), user("d"), model("e"))

    assert [message.group for message in conversation.messages] == [None, "turn 1", "turn 1", None, "turn 2"]


def test_a_video_and_a_linked_file_are_addresses_only():
    conversation = import_chunks(
        {"role": "user", "youtubeVideo": {"id": "abc"}, "fileData": {"fileUri": "https://example.org/f"}}
    )

    attachments = [block.attachment for block in conversation.messages[0].blocks]
    assert [attachment.status for attachment in attachments] == [AttachmentStatus.EXTERNAL] * 2
    assert [attachment.url for attachment in attachments] == [
        "https://www.youtube.com/watch?v=abc",
        "https://example.org/f",
    ]


def test_an_error_is_kept_without_any_text():
    (message,) = import_chunks({"role": "model", "errorMessage": "quota exceeded", "finishReason": "OTHER"}).messages

    assert (message.blocks[0].text, message.blocks[0].flags, message.status) == ("quota exceeded", ["error"], "OTHER")
    assert message.hidden is None


def test_sources_are_citations_and_what_they_support_is_kept():
    grounding = {
        "webSearchQueries": ["boat"],
        "groundingSources": [{"referenceNumber": 1, "title": "Boats", "uri": "https://example.org/boats"}],
        "groundingChunks": [{"web": {"uri": "https://example.org/ships", "title": "Ships"}}],
    }
    (message,) = import_chunks(model("A boat.", grounding=grounding)).messages

    assert [(block.text, block.extra) for block in message.blocks[1:]] == [
        ("Boats", {"url": "https://example.org/boats", "number": 1}),
        ("Ships", {"url": "https://example.org/ships"}),
    ]
    assert message.extra["grounding"] == {"webSearchQueries": ["boat"]}


def test_an_empty_chunk_is_kept_and_hidden():
    conversation = import_chunks(user("hi"), model(""), model("hello"))

    assert [message.hidden for message in conversation.messages] == [None, "empty", None]


def test_a_chunk_that_is_no_object_is_kept_and_counted():
    conversation = import_chunks(user("hi"), "what is this?")

    assert conversation.messages[1].blocks[0].raw == "what is this?"
    assert conversation.warnings == {"unknown_type": 1}


def test_a_chunk_keeps_its_time_and_its_id():
    conversation = import_chunks(user("hi", id="c1", createTime="2026-03-01T10:00:00.5Z"), model("ho", isEdited=True))

    first, second = conversation.messages
    assert (first.key, first.created) == ("c1", "2026-03-01T10:00:00.500000Z")
    assert second.extra == {"isEdited": True}
    assert second.parent == "c1"


# Identity


@pytest.mark.parametrize("is_list", [False, True])
def test_of_a_file_that_is_cut_the_whole_chunks_are_read(is_list):
    chunks = [user("a"), model("b")]
    content = json.dumps(chunks if is_list else {"runSettings": {"model": "models/m"}, **prompt_of(*chunks)})
    (record,), (skip,) = split_all(IMPORTER, make_member("chat", content[: content.index('"b"')]))
    conversation = IMPORTER.parse(record).conversation

    assert (skip.reason, skip.place) == ("truncated", "chat[1]")
    assert tell(conversation) == [[(Kind.TEXT, "a")]]
    assert (conversation.warnings, conversation.model) == ({"partial": 1}, None if is_list else "m")
    assert record.key == split_all(IMPORTER, make_member("chat", content))[0][0].key


def test_a_chat_that_grew_is_the_same_with_the_same_keys():
    short = import_chunks(user("hi"), model("hello"))
    grown = import_chunks(user("hi"), model("hello"), user("more"))

    assert short.native_id == grown.native_id
    assert [message.key for message in grown.messages[:2]] == [message.key for message in short.messages]
    assert short.is_id_derived
    assert short.is_append_only


def test_chats_that_begin_otherwise_are_others():
    chats = [
        import_chunks(user("hi")),
        import_chunks(user("ho")),
        import_chunks(user("hi", createTime="2026-03-01T10:00:00Z")),
        import_chunks(user("hi"), model("hello", branchParent={"promptId": "prompts/1"})),
        import_chunks(user("hi", driveImage={"id": "1"})),
    ]

    assert len({chat.native_id for chat in chats}) == len(chats)


def test_another_system_instruction_and_other_settings_change_no_id_and_no_key():
    one = import_chunks(user("hi"), systemInstruction="Be brief.", runSettings={"model": "models/a"})
    two = import_chunks(user("hi"), systemInstruction="Be long.", runSettings={"model": "models/b"})

    assert one.native_id == two.native_id
    assert [message.key for message in one.messages] == [message.key for message in two.messages]


def test_equal_chunks_have_keys_of_their_own():
    conversation = import_chunks(user("hi"), user("hi"), user("hi"))

    first, second, third = (message.key for message in conversation.messages)
    assert (second, third) == (f"{first}~2", f"{first}~3")


def test_equal_prompts_make_equal_conversations_whatever_the_order_of_their_keys():
    text = json.dumps(prompt_of(user("hi"), model("hello")))
    turned = json.dumps(prompt_of(dict(reversed(user("hi").items())), dict(reversed(model("hello").items()))))

    one, two = (parse_all(IMPORTER, make_member("f", content))[0].conversation for content in (text, turned))

    assert encode_conversation(one) == encode_conversation(two)
