"""No importer fails at any JSON: what it does not know it keeps or skips, and what it makes can be written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.archive.conversations import decode_conversation, encode_conversation
from pipeline.archive.importers.interface import Importer, Skip
from pipeline.archive.importers.known import IMPORTERS, NATIVES
from pipeline.archive.reading import UnreadableJson, peek
from tests.archive.members import make_member, split_all

# The words that importers look for, so that random values come near to what they read.
WORDS = [
    *["type", "payload", "session_meta", "response_item", "event_msg", "turn_context", "compacted", "message", "role"],
    *["user", "assistant", "developer", "content", "input_text", "text", "input_image", "image_url", "reasoning"],
    *["summary", "encrypted_content", "function_call", "arguments", "call_id", "function_call_output", "output", "id"],
    *["custom_tool_call", "local_shell_call", "action", "web_search_call", "web_search_end", "token_count", "info"],
    *["total_token_usage", "input_tokens", "exec_command_end", "exec_command_begin", "exit_code", "user_message"],
    *["agent_message", "images", "local_images", "thread_rolled_back", "num_turns", "timestamp", "session", "items"],
    *["record_type", "state", "git", "source", "subagent", "thread_spawn", "instructions", "result", "Ok", "Err"],
    *["chunkedPrompt", "chunks", "runSettings", "systemInstruction", "parts", "isThought", "executableCode", "code"],
    *["codeExecutionResult", "outcome", "driveImage", "inlineImage", "data", "mimeType", "errorMessage", "grounding"],
    *["groundingSources", "uri", "title", "branchParent", "branchChildren", "promptId", "pendingInputs", "model"],
    *["header", "products", "Gemini Apps", "time", "safeHtmlItem", "html", "subtitles", "name", "url", "imageFile"],
    *["sessionId", "projectHash", "messages", "thoughts", "subject", "tokens", "input", "toolCalls", "args", "status"],
    *["functionResponse", "response", "displayContent", "directories", "gemini", "$set", "$rewindTo"],
    *["conversation", "conversations", "responses", "sender", "tool_calls", "function", "thinking", "tool_use"],
    *["provenance", "turns", "raw_provider_payload", "attachments", "inline_base64", "2026-03-01T09:00:00Z"],
    *["data:image/png;base64,AAAA", "data:,x", "{}", '{"output": 1, "metadata": {}}', "Exit code: 1\nOutput:\n", "<p>"],
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=5), st.just("\ud83d")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=30,
)
SHAPES: dict[str, Any] = {
    "codex": st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    ["session_meta", "response_item", "event_msg", "turn_context", "compacted", "x"]
                ),
                "payload": st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6),
            },
            optional={"timestamp": SCALARS},
        ),
        min_size=1,
        max_size=6,
    ),
    "gemini_cli": st.fixed_dictionaries({"sessionId": SCALARS, "projectHash": SCALARS, "messages": VALUES}),
    "ai_studio": st.fixed_dictionaries(
        {"chunkedPrompt": st.fixed_dictionaries({"chunks": st.lists(VALUES, max_size=5)})},
        optional={"runSettings": VALUES, "systemInstruction": VALUES, "id": SCALARS},
    ),
    "gemini_takeout": st.lists(
        st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6).map(lambda item: {**item, "header": "Gemini Apps"}),
        max_size=5,
    ),
    "browser_capture": st.fixed_dictionaries(
        {
            "provenance": VALUES,
            "session": st.dictionaries(st.sampled_from(["turns", "attachments", "id", "provider"]), VALUES),
            "raw_provider_payload": VALUES,
        }
    ),
    "generic": st.fixed_dictionaries(
        {"messages": st.lists(st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=5), max_size=5)},
        optional={"responses": VALUES, "conversation": VALUES, "id": SCALARS},
    ),
}
MANY = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def import_anyway(importer: Importer, content: bytes) -> None:
    """Do what an import does, and look at what comes out."""
    file = make_member("file", content)
    seen = peek(file)
    importer.recognise(seen)
    if not seen.items:
        return
    try:
        records, skips = split_all(importer, file)
    except UnreadableJson:
        return
    assert all(isinstance(skip, Skip) and skip.reason and skip.place for skip in skips)
    for record in records:
        conversation = importer.parse(record).conversation
        assert isinstance(record.key, str)
        assert record.key
        keys = [message.key for message in conversation.messages]
        assert len(set(keys)) == len(keys)
        assert {message.parent for message in conversation.messages} <= {None, *keys}
        written = encode_conversation(conversation)
        assert encode_conversation(decode_conversation(written)) == written


def write(value: Any, *, as_lines: bool) -> bytes:
    values = value if as_lines and isinstance(value, list) else [value]
    return "\n".join(json.dumps(item) for item in values).encode()


@pytest.mark.parametrize("importer", IMPORTERS, ids=lambda importer: importer.name)
@MANY
@given(value=VALUES, as_lines=st.booleans())
def test_an_importer_survives_any_json(importer, value, as_lines):
    import_anyway(importer, write(value, as_lines=as_lines))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@MANY
@given(data=st.data())
def test_an_importer_survives_values_that_look_like_its_own(name, data):
    importer = next(importer for importer in IMPORTERS if importer.name == name)

    import_anyway(importer, write(data.draw(SHAPES[name]), as_lines=name == "codex"))


@pytest.mark.parametrize("importer", [*NATIVES, *IMPORTERS], ids=lambda importer: importer.name)
def test_an_importer_says_no_to_what_is_nobodys(importer):
    for content in (b"", b"[]", b"{}", b"null", b"42", b'"text"', b"[1, 2]", b'{"a": 1}', b"plain words\n"):
        assert importer.recognise(peek(make_member("file", content))) is None
