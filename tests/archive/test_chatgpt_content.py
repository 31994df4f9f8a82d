"""What a ChatGPT message becomes: a test for each content_type, and for each kind of part."""

from __future__ import annotations

import pytest

from pipeline.archive.conversations import Kind, Origin, encode_conversation
from tests.archive.chatgpt_chats import (
    NOON,
    list_blocks,
    list_kinds,
    make_message,
    make_text,
    read_blocks_of,
    read_chat,
    read_message,
)
from tests.archive.members import list_damaged


def test_texts_of_parts_are_lines_of_one_block():
    (block,) = read_blocks_of("user", make_text("one", None, "two", ""))

    assert (block.kind, block.text) == (Kind.TEXT, "one\ntwo")


@pytest.mark.parametrize("content", [make_text(""), {"content_type": "text", "parts": None}, None])
def test_a_message_that_says_nothing_is_kept_without_blocks(content):
    message = read_message("assistant", content)

    assert (message.key, message.blocks) == ("m1", [])


@pytest.mark.parametrize(
    "content",
    [
        {"content_type": "text", "text": "words"},
        {"content_type": "text", "parts": "words"},
        {"parts": ["words"]},
        "words",
        ["words"],
    ],
)
def test_words_are_found_where_older_and_broken_files_have_them(content):
    (message,) = read_chat({"author": {"role": "user"}, "content": content}).messages

    assert [(block.kind, block.text, block.flags) for block in message.blocks] == [(Kind.TEXT, "words", [])]


def test_a_part_of_a_text_may_be_an_object():
    blocks = read_blocks_of("user", make_text("before", {"odd": 1}, "after"))

    assert [block.text for block in blocks] == ["before", None, "after"]
    assert (blocks[1].raw, blocks[1].flags) == ({"odd": 1}, ["unknown_type"])


def test_code_for_a_tool_is_a_call_and_other_code_is_shown():
    content = {"content_type": "code", "language": "unknown", "text": "print(1)", "response_format_name": None}

    (call,) = read_blocks_of("assistant", content, recipient="python")
    (shown,) = read_blocks_of("assistant", {**content, "language": "json"}, recipient="all")

    assert (call.kind, call.tool_name, call.input, call.language) == (Kind.TOOL_USE, "python", "print(1)", "python")
    assert (shown.kind, shown.text, shown.language) == (Kind.CODE, "print(1)", "json")


@pytest.mark.parametrize("recipient", [None, "all", "", "user", "assistant", 5, ["python"]])
def test_a_message_to_all_is_no_call(recipient):
    (block,) = read_blocks_of("assistant", '{"a": 1}', recipient=recipient)

    assert block.kind == Kind.TEXT


def test_only_the_model_calls_tools():
    message = read_message("user", "hello", recipient="python")

    assert list_kinds(message) == ["text"]
    assert message.extra["recipient"] == "python"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"query": "tide"}', {"query": "tide"}),
        ('["tide"]', '["tide"]'),
        ("tide {", "tide {"),
        ('{"n": NaN, "big": 123456789012345678901234567890}', {"n": None, "big": "123456789012345678901234567890"}),
        ('{"n": 1e999}', {"n": None}),
        ('{"a": ' * 300 + "1" + "}" * 300, '{"a": ' * 300 + "1" + "}" * 300),
    ],
)
def test_a_call_takes_an_object_of_json_or_the_text_as_it_is(text, found):
    conversation = read_chat(make_message("assistant", text, recipient="web.run"))
    ((call,),) = [message.blocks for message in conversation.messages]

    assert (call.kind, call.tool_name, call.input) == (Kind.TOOL_USE, "web.run", found)
    assert encode_conversation(conversation)


def test_a_call_may_have_a_picture_and_a_language_of_its_own():
    parts = ["look", {"content_type": "image_asset_pointer", "asset_pointer": "file-A"}]

    call, picture = read_blocks_of("assistant", {"content_type": "multimodal_text", "parts": parts}, recipient="web")
    (of_python,) = read_blocks_of("assistant", '{"code": 1}', recipient="python")
    (of_other,) = read_blocks_of("assistant", {"content_type": "code", "language": "sql", "text": "x"}, recipient="db")

    assert (call.kind, call.input, picture.kind) == (Kind.TOOL_USE, "look", Kind.ATTACHMENT)
    assert [block.language for block in (call, of_python, of_other)] == [None, None, "sql"]


def test_words_in_a_field_that_is_not_shown_are_kept():
    (block,) = read_blocks_of("user", {"content_type": "text", "parts": ["one"], "text": "two"})

    assert (block.text, block.extra) == ("one", {"text": "two"})


def test_a_call_without_words_is_one_with_empty_input():
    (call,) = read_blocks_of("assistant", make_text(""), recipient="browser")

    assert (call.kind, call.input) == (Kind.TOOL_USE, "")


def test_the_output_of_code_is_the_result_of_the_call_above():
    chat = read_chat(
        make_message("assistant", {"content_type": "code", "text": "6 * 7"}, recipient="python"),
        make_message(
            "tool", {"content_type": "execution_output", "text": "42"}, author={"role": "tool", "name": "python"}
        ),
    )

    (call,), (result,) = (message.blocks for message in chat.messages)
    assert (result.kind, result.text, result.tool_name) == (Kind.TOOL_RESULT, "42", "python")
    assert call.call_id == result.call_id == "m1"


@pytest.mark.parametrize(
    ("status", "is_error"), [("success", False), ("failed_with_in_kernel_exception", True), ("running", None)]
)
def test_whether_code_failed_is_read_from_its_aggregate_result(status, is_error):
    (result,) = read_blocks_of(
        "tool", {"content_type": "execution_output", "text": ""}, metadata={"aggregate_result": {"status": status}}
    )

    assert result.is_error is is_error


def test_results_go_to_the_call_they_hang_on_or_the_nearest_of_their_tool():
    chat = read_chat(
        make_message("assistant", '{"q": 1}', recipient="web.search"),
        make_message("assistant", "code", recipient="python"),
        make_message("tool", "of python", author={"role": "tool", "name": "python"}),
        make_message("tool", "of web", author={"role": "tool", "name": "web"}),
        make_message("tool", "of web again", author={"role": "tool", "name": "web"}),
    )

    assert [block.call_id for block in list_blocks(chat, Kind.TOOL_RESULT)] == ["m2", "m1", "m1"]


def test_a_result_on_a_call_is_that_calls_whatever_its_name_and_takes_its_tool_if_it_has_none():
    chat = read_chat(
        make_message("assistant", "code", recipient="python"),
        make_message("assistant", "words", recipient="web"),
        make_message("tool", "of web", author={"role": "tool", "name": "python"}),
        make_message("tool", "of the nearest"),
    )

    results = list_blocks(chat, Kind.TOOL_RESULT)
    assert [(block.call_id, block.tool_name) for block in results] == [("m2", "python"), ("m2", "web")]


def test_a_result_after_a_persons_words_answers_no_earlier_call():
    chat = read_chat(
        make_message("assistant", "code", recipient="python"),
        make_message("user", "stop"),
        make_message("tool", "late"),
    )

    assert [block.call_id for block in list_blocks(chat, Kind.TOOL_RESULT)] == [None]


def test_a_picture_alone_answers_a_call_too():
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1"}
    chat = read_chat(
        make_message("assistant", '{"prompt": "x"}', recipient="dalle.text2im"),
        make_message("tool", {"content_type": "multimodal_text", "parts": [picture]}),
    )

    assert list_kinds(chat.messages[1]) == ["tool_result", "attachment"]
    assert {block.call_id for block in chat.messages[1].blocks} == {"m1"}


def test_each_thought_is_a_block_and_its_chunks_are_not_said_twice():
    thoughts = [
        {"summary": "Looking", "content": "Blue cranes.", "chunks": ["Blue ", "cranes."], "finished": True},
        {"content": "", "chunks": ["Only ", "chunks"]},
        {"summary": "Only a summary"},
        {"content": "Short", "chunks": ["something", " else"]},
        {},
        "Plain",
        "",
    ]

    blocks = read_blocks_of("assistant", {"content_type": "thoughts", "thoughts": thoughts})

    assert [block.text for block in blocks] == ["Blue cranes.", "Only chunks", "Only a summary", "Short", "Plain"]
    assert {block.kind for block in blocks} == {Kind.THINKING}
    assert [block.extra for block in blocks] == [
        {"summary": "Looking", "finished": True},
        {},
        {},
        {"chunks": ["something", " else"]},
        {},
    ]


@pytest.mark.parametrize("kind", ["thoughts", "reasoning_recap"])
@pytest.mark.parametrize("field", [{"parts": ["words"]}, {"text": "words"}, {"content": "words"}])
def test_thoughts_and_recaps_are_read_from_other_fields_too(kind, field):
    blocks = read_blocks_of("assistant", {"content_type": kind, **field}, recipient="python")

    assert [(block.kind, block.text) for block in blocks] == [(Kind.THINKING, "words")]
    assert "parts" not in blocks[0].extra


def test_a_recap_is_flagged():
    (block,) = read_blocks_of("assistant", {"content_type": "reasoning_recap", "content": "Denkpause: 15 s"})

    assert (block.text, block.flags) == ("Denkpause: 15 s", ["recap"])


def test_custom_instructions_are_read_from_the_metadata():
    message = read_message(
        "user",
        {"content_type": "user_editable_context", "user_profile": "None", "user_instructions": ""},
        metadata={"user_context_message_data": {"about_user_message": "I sail.", "about_model_message": "Be brief."}},
    )

    assert [(block.kind, block.text) for block in message.blocks] == [
        (Kind.CONTEXT, "I sail."),
        (Kind.CONTEXT, "Be brief."),
    ]
    assert (message.hidden, message.origin) == ("context", Origin.RUNTIME_CONTEXT)


def test_instructions_that_are_no_text_stay_in_the_metadata():
    data = {"about_user_message": "I sail.", "about_model_message": "None", "enabled": True}

    message = read_message("system", "", metadata={"user_context_message_data": data})

    assert [block.text for block in message.blocks] == ["I sail."]
    assert message.extra["metadata"]["user_context_message_data"] == data


def test_custom_instructions_in_both_places_are_said_once():
    blocks = read_blocks_of(
        "user",
        {"content_type": "user_editable_context", "user_profile": "Profile: I sail.", "user_instructions": "Be brief."},
        metadata={"user_context_message_data": {"about_user_message": "I sail.", "about_model_message": "Be brief."}},
    )

    assert [block.text for block in blocks] == ["Profile: I sail.", "Be brief."]


def test_a_system_message_of_the_user_is_custom_instructions():
    message = read_message("system", "Be brief.", metadata={"is_user_system_message": True})

    assert (list_kinds(message), message.hidden) == (["context"], "context")


def test_what_the_model_keeps_in_mind_is_context():
    message = read_message(
        "assistant",
        {"content_type": "model_editable_context", "model_set_context": "Sails.", "structured_context": {"a": 1}},
    )

    (block,) = message.blocks
    assert (block.kind, block.text, message.hidden) == (Kind.CONTEXT, "Sails.", "context")
    assert block.extra["structured_context"] == {"a": 1}


def test_browsing_gives_a_result_with_its_assets():
    blocks = read_blocks_of(
        "tool",
        {
            "content_type": "tether_browsing_display",
            "result": "Page text",
            "summary": None,
            "assets": ["file-service://file-A"],
            "tether_id": 7,
        },
    )

    assert [block.kind for block in blocks] == [Kind.TOOL_RESULT, Kind.ATTACHMENT]
    assert (blocks[0].text, blocks[0].extra) == ("Page text", {"tether_id": 7})


@pytest.mark.parametrize(
    ("content", "text", "extra"),
    [
        ({"content_type": "tether_browsing_display", "summary": "S"}, "S", {}),
        ({"content_type": "tether_browsing_display", "result": "R", "summary": "S"}, "R", {"summary": "S"}),
        ({"content_type": "sonic_webpage", "snippet": "S", "title": "T"}, "S", {"title": "T"}),
        ({"content_type": "sonic_webpage", "text": "X", "snippet": "S"}, "X", {"snippet": "S"}),
        ({"content_type": "execution_output", "parts": ["X"]}, "X", {}),
        ({"content_type": "citable_code_output", "parts": ["X"]}, "X", {}),
        ({"content_type": "code", "parts": ["X"]}, "X", {}),
    ],
)
def test_a_result_is_read_from_the_fields_that_it_has(content, text, extra):
    (result,) = read_blocks_of("tool", content)

    assert (result.kind, result.text, result.extra) == (Kind.TOOL_RESULT, text, extra)


@pytest.mark.parametrize("kind", ["tether_quote", "sonic_webpage"])
def test_a_quoted_page_is_a_result_and_its_link(kind):
    content = {"content_type": kind, "url": "https://example.org", "domain": "example.org", "title": "T", "text": "Q"}

    result, link = read_blocks_of("tool", content)

    assert (result.kind, result.text, result.extra) == (Kind.TOOL_RESULT, "Q", {"domain": "example.org"})
    assert (link.kind, link.text, link.extra["url"]) == (Kind.CITATION, "T", "https://example.org")


def test_an_error_of_a_tool_is_a_result_that_failed():
    content = {"content_type": "system_error", "name": "ToolTimeout", "text": "too slow"}

    (of_tool,), (of_system,) = read_blocks_of("tool", content), read_blocks_of("system", content)

    assert (of_tool.kind, of_tool.text, of_tool.is_error) == (Kind.TOOL_RESULT, "ToolTimeout: too slow", True)
    assert (of_system.kind, of_system.flags) == (Kind.TEXT, ["error"])


def test_the_screen_of_a_computer_is_a_result_with_a_picture():
    result, picture = read_blocks_of(
        "tool",
        {
            "content_type": "computer_output",
            "computer_id": "c",
            "screenshot": {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_s", "width": 9},
            "state": {"title": "Page", "url": "https://example.org", "dom": None},
        },
    )

    assert (result.kind, result.text) == (Kind.TOOL_RESULT, "Page\nhttps://example.org")
    assert (result.extra["computer_id"], result.extra["state"]["title"]) == ("c", "Page")
    assert picture.attachment is not None
    assert (picture.attachment.id, picture.attachment.width) == ("file_s", 9)


def test_output_with_a_source_is_a_result_with_a_citation():
    result, link = read_blocks_of(
        "tool",
        {
            "content_type": "citable_code_output",
            "output_str": "rows",
            "metadata": {"display_title": "Table", "display_url": "https://example.org/t"},
        },
    )

    assert (result.text, link.text, link.extra["url"]) == ("rows", "Table", "https://example.org/t")
    assert result.extra["metadata"]["display_title"] == "Table"


@pytest.mark.parametrize("kind", ["tether_browsing_code", "app_pairing_content", "super_widget"])
def test_types_known_by_name_are_context_with_their_raw_value(kind):
    (block,) = read_blocks_of("assistant", {"content_type": kind, "inside": [1]})

    assert (block.kind, block.raw, block.flags) == (Kind.CONTEXT, {"content_type": kind, "inside": [1]}, [])


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        ({"content_type": "new_thing", "parts": ["a", "b"]}, Kind.TEXT, "a\nb"),
        ({"content_type": "new_thing", "text": "a"}, Kind.TEXT, "a"),
        ({"content_type": "new_thing", "deep": {"a": 1}}, Kind.CONTEXT, None),
        ({"content_type": ["list"], "text": "a"}, Kind.TEXT, "a"),
        ({"parts": ["a"], "odd": 1}, Kind.TEXT, "a"),
        (17, Kind.CONTEXT, None),
    ],
)
def test_unknown_content_is_kept_raw_its_words_shown_and_counted(content, kind, text):
    conversation = read_chat(make_message("assistant", content))

    (block,) = conversation.messages[0].blocks
    assert (block.kind, block.text, block.raw, block.flags) == (kind, text, content, ["unknown_type"])
    assert conversation.warnings == {"unknown_type": 1}


def test_fields_that_nobody_knows_are_kept_with_the_block():
    (block,) = read_blocks_of("user", {**make_text("hello"), "new_field": {"a": 1}, "empty": None})

    assert block.extra == {"new_field": {"a": 1}}


def test_texts_pictures_and_transcriptions_keep_their_order():
    parts = [
        None,
        {
            "content_type": "image_asset_pointer",
            "asset_pointer": "sediment://file_00ff",
            "size_bytes": 77,
            "width": 4,
            "height": 4,
            "metadata": {"dalle": None, "generation": {"gen_id": "g1", "seed": None}},
        },
        {"content_type": "audio_transcription", "text": "and this one", "direction": "in"},
        "caption",
    ]

    picture, spoken, caption = read_blocks_of("user", {"content_type": "multimodal_text", "parts": parts})

    assert picture.attachment is not None
    assert (picture.attachment.id, picture.attachment.size_bytes, picture.attachment.width) == ("file_00ff", 77, 4)
    assert picture.attachment.extra["metadata"]["generation"]["gen_id"] == "g1"
    assert (spoken.text, spoken.flags, spoken.extra) == ("and this one", ["transcription"], {"direction": "in"})
    assert caption.text == "caption"


def test_a_message_with_a_picture_only_survives():
    part = {
        "content_type": "image_asset_pointer",
        "asset_pointer": "file-service://file-A",
        "metadata": {"dalle": None},
    }

    message = read_message("user", {"content_type": "multimodal_text", "parts": [part]})

    assert list_kinds(message) == ["attachment"]


def test_the_prompt_of_a_generated_picture_is_kept():
    part = {
        "content_type": "image_asset_pointer",
        "asset_pointer": "file-service://file-A",
        "metadata": {"dalle": {"prompt": "a blue harbour", "seed": 7}},
    }

    (block,) = read_blocks_of("tool", {"content_type": "multimodal_text", "parts": [part]})

    assert block.attachment is not None
    assert block.attachment.extra["metadata"]["dalle"]["prompt"] == "a blue harbour"
    assert block.attachment.purpose == "generated"


def test_a_live_recording_has_its_sound_its_frames_and_its_film():
    part = {
        "content_type": "real_time_user_audio_video_asset_pointer",
        "frames_asset_pointers": [{"asset_pointer": "sediment://file_f1"}, "sediment://file_f2"],
        "video_container_asset_pointer": {"asset_pointer": "sediment://file_v"},
        "audio_start_timestamp": 1.25,
        "audio_asset_pointer": {"asset_pointer": "sediment://file_a", "format": "wav", "size_bytes": 3},
    }

    blocks = read_blocks_of("user", {"content_type": "multimodal_text", "parts": [part]})

    found = [block.attachment for block in blocks if block.attachment]
    assert [attachment.id for attachment in found] == ["file_a", "file_f1", "file_f2", "file_v"]
    assert (found[0].mime_type, found[0].size_bytes) == ("audio/wav", 3)
    assert found[0].extra["audio_start_timestamp"] == 1.25


@pytest.mark.parametrize(
    "part",
    [
        {"content_type": "real_time_user_audio_video_asset_pointer", "audio_start_timestamp": 1.25},
        {"content_type": "image_asset_pointer", "asset_pointer": None, "width": 4},
        17,
    ],
)
def test_a_part_that_points_at_nothing_is_kept_raw(part):
    (block,) = read_blocks_of("user", {"content_type": "multimodal_text", "parts": [part]})

    assert (block.raw, block.flags) == (part, ["unknown_type"])


def test_a_transcription_without_words_still_names_its_sound():
    part = {"content_type": "audio_transcription", "asset_pointer": "sediment://file_t"}

    (block,) = read_blocks_of("assistant", {"content_type": "multimodal_text", "parts": [part]})

    assert block.attachment is not None
    assert block.attachment.id == "file_t"


@pytest.mark.parametrize(
    ("end", "flag", "status"),
    [
        ({"type": "interrupted", "reason": "client_stopped"}, ["interrupted"], "interrupted"),
        ({"type": "max_tokens"}, ["truncated"], "finished_successfully"),
        ({"type": "stop"}, [], "finished_successfully"),
    ],
)
def test_an_answer_that_was_cut_says_so(end, flag, status):
    message = read_message("assistant", "About 15", status="finished_successfully", metadata={"finish_details": end})

    assert (message.blocks[0].flags, message.status) == (flag, status)


def test_metadata_that_no_field_takes_is_kept():
    message = read_message(
        "assistant",
        "x",
        metadata={"model_slug": "m", "reasoning_title": "Stage", "thinking_effort": "high", "none": None},
    )

    assert message.model == "m"
    assert message.extra["metadata"] == {"reasoning_title": "Stage", "thinking_effort": "high"}


def test_an_answer_that_goes_on_is_one_group_with_what_it_continues():
    chat = read_chat(
        make_message("assistant", "first half"),
        make_message("assistant", "second half", metadata={"message_type": "continue"}),
        make_message("assistant", "another", metadata={"turn_exchange_id": "t-1"}),
        make_message("assistant", "one more", metadata={"request_id": "r-1"}),
    )

    assert [message.group for message in chat.messages] == ["m1", "m1", "t-1", "r-1"]


def test_what_a_tool_says_as_the_assistant_is_marked():
    message = read_message(
        "assistant", "x", author={"role": "assistant", "name": "web", "metadata": {"real_author": "tool:web"}}
    )

    assert message.extra["author"] == {"metadata": {"real_author": "tool:web"}}
    assert message.author == "web"


@pytest.mark.parametrize(
    ("role", "fields"),
    [
        ("user", {"recipient": "all", "weight": 1.0, "channel": None, "author": {"role": "user", "metadata": {}}}),
        ("assistant", {"recipient": "python", "weight": 0, "status": "in_progress"}),
    ],
)
def test_what_other_fields_hold_is_not_kept_twice(role, fields):
    assert read_message(role, "x", **fields).extra == {}


def test_a_weight_between_is_kept():
    assert read_message("user", "x", weight=0.5).extra == {"weight": 0.5}


def test_the_channel_and_new_fields_of_a_message_are_kept():
    message = read_message("assistant", "x", channel="commentary", brand_new=[1], update_time=NOON + 1)

    assert message.extra == {"channel": "commentary", "brand_new": [1]}
    assert message.updated == "2026-01-01T12:00:01Z"


def test_a_thought_of_a_form_that_nobody_knows_is_kept():
    content = {
        "content_type": "thoughts",
        "thoughts": [{"summary": "", "content": "", "finished": True}, {"idea": 1}, 5],
    }

    blocks = read_blocks_of("assistant", content)

    assert [(block.kind, block.raw) for block in blocks] == [("context", {"idea": 1}), ("context", 5)]


POINTER = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1", "size_bytes": 3, "width": 1}
CONTENTS = [
    {"content_type": "text", "parts": ["a"]},
    {"content_type": "code", "text": "a", "language": "json"},
    {"content_type": "thoughts", "thoughts": [{"summary": "a", "content": "b", "chunks": []}]},
    {"content_type": "reasoning_recap", "content": "a"},
    {"content_type": "user_editable_context", "user_profile": "a", "user_instructions": "b"},
    {"content_type": "tether_browsing_display", "result": "a", "summary": "b", "assets": ["file-service://file-1"]},
    {"content_type": "sonic_webpage", "url": "https://a", "title": "a", "text": "b", "snippet": "c"},
    {"content_type": "system_error", "name": "a", "text": "b"},
    {"content_type": "computer_output", "screenshot": POINTER, "state": {"title": "a"}},
    {"content_type": "citable_code_output", "output_str": "a", "metadata": {"display_url": "https://a"}},
    {"content_type": "multimodal_text", "parts": ["a", POINTER, {"content_type": "audio_transcription", "text": "b"}]},
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content["content_type"])
@pytest.mark.parametrize("odd", [71023, [71023], {"odd": 71023}], ids=["number", "list", "object"])
def test_any_field_with_another_kind_of_value_is_kept(content, odd):
    for damaged in list_damaged(content, odd):
        conversation = read_chat(make_message("assistant", damaged))

        assert b"71023" in encode_conversation(conversation), damaged
