"""The way from a file to a view, for formats whose messages have no ids, and for Markdown that gives way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.importing import import_paths
from pipeline.archive.views import View, walk_views
from pipeline.settings import Roots
from pipeline.workspace import Workspace


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


def write_session(path: Path, native_id: str, minute: int, *lines: tuple[str, Any], **facts: Any) -> str:
    """Write a Codex session whose lines are a second apart, and return its path."""
    header = ("session_meta", {"id": native_id, "timestamp": f"2026-03-05T07:{minute:02}:00Z", **facts})
    values = [
        {"timestamp": f"2026-03-05T07:{minute:02}:{second:02}Z", "type": kind, "payload": payload}
        for second, (kind, payload) in enumerate([header, *lines])
    ]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


def said(role: str, text: str) -> tuple[str, Any]:
    return "response_item", {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def import_all(workspace: Workspace, *paths: str) -> dict[str, View]:
    """Import paths one after another; return the views by native id."""
    for path in paths:
        assert import_paths(workspace.data, [path]).unread == []
    return {view.conversation.native_id: view for view in walk_views(workspace)}


def texts_of(view: View) -> list[str | None]:
    return [message.blocks[0].text for message in view.conversation.messages]


@pytest.mark.parametrize("turned", [False, True])
def test_a_session_that_grew_is_one_conversation_in_whatever_order_it_came(tmp_path, workspace, turned):
    short = write_session(tmp_path / "a.jsonl", "s", 0, said("user", "one"), said("assistant", "two"))
    grown = write_session(
        tmp_path / "b.jsonl", "s", 0, said("user", "one"), said("assistant", "two"), said("user", "three")
    )

    views = import_all(workspace, *([grown, short] if turned else [short, grown]))

    assert texts_of(views["s"]) == ["one", "two", "three"]
    assert len(views["s"].versions) == 2
    assert views["s"].conflicts == ()


def test_what_a_fork_copied_is_marked_although_it_has_the_time_of_the_fork(tmp_path, workspace):
    old = write_session(tmp_path / "a.jsonl", "old", 0, said("user", "one"), said("assistant", "two"))
    header = ("session_meta", {"id": "old"})
    replay = [header, said("user", "one"), said("assistant", "two")]
    new = write_session(tmp_path / "b.jsonl", "new", 9, *replay, said("user", "three"), forked_from_id="old")

    views = import_all(workspace, new, old)

    copies = [message.copy_of for message in views["new"].conversation.messages]
    assert copies == [views["old"].conversation_id, views["old"].conversation_id, None]


def test_markdown_of_an_earlier_tool_gives_way_to_the_session(tmp_path, workspace):
    markdown = tmp_path / "notes.md"
    markdown.write_text("---\nprovider: codex\nsession_id: s\n---\n## User\n\nold words\n\n## Assistant\n\nyes\n")
    session = write_session(tmp_path / "a.jsonl", "s", 0, said("user", "one"))

    before = import_all(workspace, str(markdown))["s"]
    after = import_all(workspace, session)["s"]

    assert (texts_of(before), before.conversation.is_migrated) == (["old words", "yes"], True)
    assert (texts_of(after), after.conversation.is_migrated) == (["one"], False)
    assert after.conversation_id == before.conversation_id
    assert len(after.versions) == 2
