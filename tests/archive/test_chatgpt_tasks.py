"""Tasks of Codex in the cloud, from codex.json."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.archive.conversations import Kind, Role, encode_conversation
from pipeline.archive.importers.chatgpt_tasks import ChatGptTasksImporter
from pipeline.archive.reading import peek
from tests.archive.members import import_alone, list_damaged, make_member, split_all

IMPORTER = ChatGptTasksImporter()


def make_turn(role: str, *content: Any, **fields: Any) -> dict[str, Any]:
    field = "input_items" if role == "user" else "output_items"
    items = [{"type": "message", "role": role, "content": list(content)}]
    return {"id": f"{role}-turn", "role": role, field: items, **fields}


def make_task(*turns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "task_e_1", "title": "Fix the build", "turns": list(turns), **fields}


WORDS = {"content_type": "text", "text": "Fixed in"}
PLACE = {"content_type": "repo_file_citation", "path": "build.py", "line_range_start": 3, "line_range_end": 5}


def test_a_task_is_a_conversation_of_its_turns_without_times():
    task = make_task(make_turn("user", WORDS), make_turn("assistant", WORDS, PLACE, turn_status="completed"))

    chat = import_alone(IMPORTER, [task])

    assert (chat.provider, chat.native_id, chat.title, chat.flags) == (
        "chatgpt",
        "task_e_1",
        "Fix the build",
        ["codex_task"],
    )
    assert [(message.role, message.parent, message.created) for message in chat.messages] == [
        (Role.USER, None, None),
        (Role.ASSISTANT, "user-turn", None),
    ]
    assert chat.messages[1].status == "completed"
    assert [(block.kind, block.text) for block in chat.messages[1].blocks] == [
        (Kind.TEXT, "Fixed in"),
        (Kind.CITATION, "build.py:3-5"),
    ]


def test_the_words_none_and_null_mean_nothing():
    turn = make_turn("assistant", WORDS, pull_request_status="none", branch="fix", external_pull_request_id="null")

    chat = import_alone(IMPORTER, [{**make_task(turn), "title": "none"}])

    assert chat.title is None
    assert chat.messages[0].extra == {"branch": "fix"}


def test_unknown_items_are_kept_raw_and_counted():
    turn = {
        "id": "t",
        "role": "assistant",
        "output_items": [{"type": "new"}, {"type": "message", "content": [{"a": 1}]}],
    }

    chat = import_alone(IMPORTER, [make_task(turn)])

    assert [block.raw for block in chat.messages[0].blocks] == [{"type": "new"}, {"a": 1}]
    assert chat.warnings == {"unknown_type": 2}


def test_a_turn_that_is_none_is_kept_raw_and_a_null_is_nothing():
    chat = import_alone(IMPORTER, [make_task(make_turn("critic", WORDS), None, 5)])

    assert [message.extra for message in chat.messages] == [{"role": "critic"}, {}]
    assert chat.messages[1].blocks[0].raw == 5
    assert chat.warnings == {"unknown_role": 2, "unknown_type": 1}


def test_turns_with_one_id_are_both_kept():
    chat = import_alone(IMPORTER, [make_task(make_turn("user", WORDS), make_turn("user", WORDS))])

    assert [message.key for message in chat.messages] == ["user-turn", "user-turn~2"]


def test_tasks_are_recognised_and_what_is_none_is_skipped():
    file = make_member("anything", [make_task(make_turn("user", WORDS)), {"id": "other"}])

    records, skips = split_all(IMPORTER, file)

    assert IMPORTER.recognise(peek(file)) is not None
    assert [record.key for record in records] == ["task_e_1"]
    assert [(skip.reason, skip.place) for skip in skips] == [("not_a_task", "anything[1]")]


def test_a_task_belongs_to_the_account_of_its_export():
    file = make_member("codex.json", [make_task(make_turn("user", WORDS))])
    user = make_member("user.json", {"id": "user-1", "email": "x"})

    ((record,), _) = split_all(IMPORTER, file, [file, user])

    assert IMPORTER.parse(record).conversation.account == "user-1"
    assert record.sources == [user.export]


@pytest.mark.parametrize("odd", [[71023], {"odd": 71023}], ids=["list", "object"])
def test_any_field_of_a_turn_with_another_kind_of_value_is_kept(odd):
    for damaged in list_damaged(make_turn("user", WORDS, turn_status="done", previous_turn_id="x"), odd):
        assert b"71023" in encode_conversation(import_alone(IMPORTER, [make_task(damaged)])), damaged
