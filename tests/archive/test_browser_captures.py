"""Captures of a browser: the provider's own payload first, what the page showed only where there is none."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pipeline.archive.conversations import AttachmentStatus, Conversation, Role
from pipeline.archive.importers.ai_studio import AiStudioImporter
from pipeline.archive.importers.browser_captures import BrowserCaptureImporter
from pipeline.archive.importers.gemini_cli import GeminiCliImporter
from pipeline.archive.importers.interface import Parsed
from pipeline.archive.reading import peek
from tests.archive.members import make_member, parse_all, split_all

IMPORTER = BrowserCaptureImporter([GeminiCliImporter(), AiStudioImporter()])
PAYLOAD = {"id": "chat-1", "chunkedPrompt": {"chunks": [{"role": "user", "text": "from the payload"}]}}
TURNS = [
    {"role": "user", "text": "from the page", "timestamp": "2026-03-01T10:00:00Z"},
    {"role": "model", "text": "yes"},
]


def capture_of(**facts: Any) -> dict[str, Any]:
    return {"provenance": {"source_url": "https://claude.ai/chat/1"}, "session": {"turns": TURNS}, **facts}


def read_capture(**facts: Any) -> Parsed:
    (parsed,) = parse_all(IMPORTER, make_member("capture.json", capture_of(**facts)))
    return parsed


def texts_of(conversation: Conversation) -> list[str | None]:
    return [message.blocks[0].text for message in conversation.messages]


def test_the_payload_is_read_by_the_importer_of_its_provider():
    conversation = read_capture(raw_provider_payload=PAYLOAD).conversation

    assert (conversation.provider, conversation.native_id) == ("ai_studio", "chat-1")
    assert texts_of(conversation) == ["from the payload"]
    assert conversation.extra["capture"]["provenance"] == {"source_url": "https://claude.ai/chat/1"}


def test_the_turns_are_read_where_there_is_no_payload():
    session = {"turns": TURNS, "provider_session_id": "s1", "title": "Boats"}
    conversation = read_capture(session=session).conversation

    assert (conversation.provider, conversation.native_id, conversation.title) == ("claude", "s1", "Boats")
    assert [(message.role, message.created) for message in conversation.messages] == [
        (Role.USER, "2026-03-01T10:00:00Z"),
        (Role.ASSISTANT, None),
    ]
    assert texts_of(conversation) == ["from the page", "yes"]
    assert not conversation.is_id_derived


def test_the_turns_are_read_where_nobody_knows_the_payload_and_that_is_told():
    file = make_member("capture.json", capture_of(raw_provider_payload={"brand": "new"}))

    records, skips = split_all(IMPORTER, file)

    assert [skip.reason for skip in skips] == ["payload_not_recognised"]
    assert texts_of(IMPORTER.parse(records[0]).conversation) == ["from the page", "yes"]


def test_a_capture_of_nothing_is_named():
    file = make_member("capture.json", {"provenance": {}, "session": {"turns": []}})

    records, skips = split_all(IMPORTER, file)

    assert records == []
    assert [skip.reason for skip in skips] == ["empty_capture"]


def test_the_session_gives_attachments_their_bytes():
    chunk = {"role": "user", "driveImage": {"id": "1xYz", "name": "boat.png"}}
    payload = {"id": "c", "chunkedPrompt": {"chunks": [chunk, {"role": "user", "driveImage": {"id": "other"}}]}}
    files = [{"name": "boat.png", "mime_type": "image/png", "inline_base64": base64.b64encode(b"bytes").decode()}]
    parsed = read_capture(raw_provider_payload=payload, session={"turns": TURNS, "attachments": files})

    given, missing = (message.blocks[0].attachment for message in parsed.conversation.messages)
    assert (given.status, given.reason, given.size_bytes) == (AttachmentStatus.PRESENT, None, 5)
    assert parsed.extras == {given.extra_file: b"bytes"}
    assert missing.status == AttachmentStatus.MISSING


def test_a_newer_version_of_any_importer_is_a_newer_version_of_captures():
    class Newer(GeminiCliImporter):
        version = GeminiCliImporter.version + 1

    newer = BrowserCaptureImporter([Newer(), AiStudioImporter()])

    assert newer.version == IMPORTER.version + 1


@pytest.mark.parametrize("value", [{"session": {"turns": []}}, {"provenance": {}}, {"provenance": {}, "session": {}}])
def test_what_is_no_capture_is_nobodys(value):
    assert IMPORTER.recognise(peek(make_member("f", value))) is None


def test_a_capture_is_recognised():
    assert IMPORTER.recognise(peek(make_member("f", capture_of()))) is not None
    assert IMPORTER.recognise(peek(make_member("f", [capture_of(raw_provider_payload=PAYLOAD)]))) is not None


def test_files_of_the_session_that_no_message_names_are_the_conversations():
    files = [{"name": "boat.csv", "inline_base64": "YSxi", "kind": "x"}, {"name": "bad.bin", "inline_base64": "!"}]
    session = {"turns": TURNS, "attachments": [*files, {"name": "no bytes"}]}
    parsed = read_capture(raw_provider_payload=PAYLOAD, session=session)

    kept, damaged = parsed.conversation.attachments
    assert (kept.name, kept.status, kept.extra) == ("boat.csv", AttachmentStatus.PRESENT, {"kind": "x"})
    assert parsed.extras == {kept.extra_file: b"a,b"}
    assert (damaged.name, damaged.status) == ("bad.bin", AttachmentStatus.MISSING)
    assert parsed.conversation.extra["capture"]["attachments"] == [{"name": "no bytes"}]
