"""Damaged times: counted and kept by every importer, and no reason to lose anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.importers.ai_studio import AiStudioImporter
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
