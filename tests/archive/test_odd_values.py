"""Damaged times, and times without a zone: counted and kept by every importer, and no reason to lose anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.importers.ai_studio import AiStudioImporter
from pipeline.archive.importers.claude_code import ClaudeCodeImporter
from pipeline.archive.importers.codex import CodexImporter
from pipeline.archive.importers.gemini_cli import GeminiCliImporter
from pipeline.archive.importers.gemini_takeout import GeminiTakeoutImporter
from pipeline.archive.importers.generic import GenericImporter
from pipeline.archive.importers.markdown_folder import MarkdownImporter
from tests.archive.members import import_alone

DAMAGED = "2026-03-01T09:00:01.693863+"  # the offset is cut
OLD = "1970-01-01T00:00:00Z"
MESSAGE = {"type": "message", "role": "user", "content": []}
CLI = {"sessionId": "s", "projectHash": "p", "lastUpdated": OLD}


@pytest.mark.parametrize(
    ("importer", "content", "count"),
    [
        (CodexImporter(), json.dumps({"timestamp": DAMAGED, "type": "response_item", "payload": MESSAGE}), 1),
        (AiStudioImporter(), {"createTime": OLD, "chunks": [{"role": "user", "text": "hi", "createTime": DAMAGED}]}, 2),
        (GeminiCliImporter(), {**CLI, "messages": [{"type": "user", "content": "hi", "timestamp": DAMAGED}]}, 2),
        (GeminiTakeoutImporter(), [{"header": "Gemini Apps", "title": "Prompted hi", "time": DAMAGED}], 1),
        (GenericImporter(), {"created_at": OLD, "messages": [{"role": "user", "content": "hi", "date": DAMAGED}]}, 2),
        (MarkdownImporter(), f"---\nid: x\ncreated: {DAMAGED}\nupdated: {OLD}\n---\n## User\n\nhi\n", 2),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_damaged_time_is_counted_and_kept_as_it_was(importer, content: Any, count: int):
    conversation = import_alone(importer, content)

    assert conversation.warnings == {"damaged_time": count}
    assert [message.created for message in conversation.messages] == [None]
    assert (conversation.created, conversation.updated) == (None, None)
    if not conversation.is_migrated:
        assert conversation.messages[0].extra["damaged_time"] == DAMAGED


BARE = "2026-03-01T09:00:01"  # no zone, so it is taken for UTC


@pytest.mark.parametrize(
    ("importer", "content", "count"),
    [
        (ClaudeCodeImporter(), {"type": "user", "uuid": "u", "message": {"content": "hi"}, "timestamp": BARE}, 1),
        (CodexImporter(), json.dumps({"timestamp": BARE, "type": "response_item", "payload": MESSAGE}), 1),
        (AiStudioImporter(), {"createTime": BARE, "chunks": [{"role": "user", "text": "hi", "createTime": BARE}]}, 2),
        (GeminiCliImporter(), {**CLI, "lastUpdated": BARE, "messages": [{"type": "user", "timestamp": BARE}]}, 2),
        (GeminiTakeoutImporter(), [{"header": "Gemini Apps", "title": "Prompted hi", "time": BARE}], 1),
        (GenericImporter(), {"created_at": BARE, "messages": [{"role": "user", "content": "hi", "date": BARE}]}, 2),
        (MarkdownImporter(), f"---\nid: x\ncreated: {BARE}\n---\n## User ({BARE})\n\nhi\n", 2),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_time_without_a_zone_is_taken_for_utc_counted_and_kept_as_it_was(importer, content: Any, count: int):
    conversation = import_alone(importer, content)

    assert conversation.warnings == {"time_without_zone": count}
    assert [message.created for message in conversation.messages] == [f"{BARE}Z"]
    assert BARE in json.dumps(conversation.messages[0].extra)


def test_several_odd_times_of_one_conversation_are_all_kept():
    conversation = import_alone(GeminiCliImporter(), {**CLI, "startTime": BARE, "lastUpdated": "2026-03-01"})

    assert conversation.extra["time_without_zone"] == [BARE, "2026-03-01"]
