"""Exports of Claude and folders of Claude Code, imported with everything else that an import does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.importing import import_paths
from pipeline.archive.views import View, count_usage, find_view, outline_views, walk_views
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.archive.test_claude import make_chat, say
from tests.archive.test_claude_code import A, S, assistant, piece, task, user, write


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


def keep(workspace: Workspace, path: Path, files: dict[str, Any]) -> Any:
    """Write a folder, import it, and return the coverage as JSON."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return import_paths(workspace.data, [str(path)])


def find_views(workspace: Workspace) -> dict[str, View]:
    return {view.conversation.native_id: view for view in walk_views(workspace)}


def keys_of(view: View) -> list[str]:
    return [message.key for message in view.conversation.messages if not message.is_gone]


def test_a_folder_of_projects_becomes_linked_conversations(workspace, tmp_path):
    agent = {"isSidechain": True, "agentId": "ab12"}
    keep(
        workspace,
        tmp_path / "projects",
        {
            f"-repo/{S}.jsonl": write(user("u1", None), task("t1", "u1", "c1", "look")),
            f"-repo/{S}/subagents/agent-ab12.jsonl": write(user("s1", None, "look", **agent)),
            "-repo/agent-acompact-9.jsonl": write(user("r1", None)),
            "-repo/sessions-index.json": {"version": 1, "entries": [{"sessionId": S}]},
            "-repo/only-titles.jsonl": write({"type": "summary", "summary": "s", "leafUuid": "x"}),
        },
    )

    links = {
        native_id: [(link.kind, link.native_id) for link in view.conversation.lineage]
        for native_id, view in find_views(workspace).items()
    }

    assert links == {
        S: [("compaction", f"{S}:agent-acompact-9")],
        f"{S}:agent-ab12": [("sub_agent", S)],
    }


def test_an_agent_in_a_file_of_its_own_is_linked_to_the_call_that_started_it(workspace, tmp_path):
    agent = {"isSidechain": True, "agentId": "ab12"}
    result = user("r2", "t2", [{"type": "tool_result", "tool_use_id": "c2", "content": "done"}])
    files = {
        f"-repo/{S}.jsonl": write(
            user("u1", None),
            task("t1", "u1", "c1", "look"),
            task("t2", "t1", "c2", "look"),
            {**result, "toolUseResult": {"agentId": "ab12"}},
            "{broken Task",
        ),
        f"-repo/{S}/subagents/agent-ab12.jsonl": write(user("s1", None, "look", **agent)),
        f"-repo/{S}/subagents/agent-warm.jsonl": write(user("w1", None, "Warmup", **{**agent, "agentId": "warm"})),
    }
    keep(workspace, tmp_path / "projects", files)
    views = find_views(workspace)

    links = {native_id: [link.message for link in view.conversation.lineage] for native_id, view in views.items()}
    assert links == {S: [], f"{S}:agent-ab12": ["t2"], f"{S}:agent-warm": [None]}


def test_a_replay_is_a_conversation_only_where_its_session_is_not(workspace, tmp_path):
    replay = f"{S}:agent-acompact-9"
    keep(workspace, tmp_path / "one", {"-repo/agent-acompact-9.jsonl": write(user("r1", None))})
    (alone,) = walk_views(workspace)

    keep(workspace, tmp_path / "two", {f"-repo/{S}.jsonl": write(user("u1", None))})
    (session,) = walk_views(workspace)

    assert (alone.conversation.native_id, session.conversation.native_id) == (replay, S)
    assert find_view(workspace, alone.conversation_id).conversation.native_id == replay
    assert outline_views(workspace)[session.conversation_id].replays == (replay,)


def test_a_session_and_its_beginning_in_a_resumed_one_are_in_no_conflict(workspace, tmp_path):
    whole = [user("u0", None, sessionId=A), user("u1", "u0", sessionId=A), assistant("a1", "u1", sessionId=A)]
    resumed = [*whole[1:], user("u2", "a1")]  # what is before u1 was not copied
    keep(workspace, tmp_path / "one", {f"{A}.jsonl": write(*whole), f"{S}.jsonl": write(*resumed)})
    views = find_views(workspace)

    assert views[A].conflicts == ()
    assert [message.parent for message in views[A].conversation.messages] == [None, "u0", "u1"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_session_and_one_that_resumed_it_count_their_usage_once(workspace, tmp_path, order):
    first = [user("u1", None, sessionId=A), {**piece("a1", "u1", 40), "sessionId": A}]
    files = [
        {f"{A}.jsonl": write(*first, {"type": "custom-title", "customTitle": "First", "sessionId": A})},
        {f"{S}.jsonl": write(*first, user("u2", "a1"), assistant("a2", "u2"))},
    ]
    for number in order:
        keep(workspace, tmp_path / str(number), files[number])
    views = find_views(workspace)

    assert {native_id: keys_of(view) for native_id, view in views.items()} == {A: ["u1", "a1"], S: ["u2", "a2"]}
    assert views[A].conversation.title == "First"
    assert views[A].conflicts == ()
    assert sum(usage.output_tokens or 0 for usage in count_usage(views.values()).values()) == 40


def test_lines_that_an_old_version_copied_into_a_resumed_session_are_known_as_copies(workspace, tmp_path):
    first = [user("0b2f7a52-5d5e-4a39-9a53-000000000001", None), piece("0b2f7a52-5d5e-4a39-9a53-000000000002", "x", 40)]
    copied = [{**line, "sessionId": A} for line in first]
    later = {"timestamp": "2026-02-03T10:00:00Z", "sessionId": A}
    keep(
        workspace,
        tmp_path / "projects",
        {f"{S}.jsonl": write(*first), f"{A}.jsonl": write(*copied, user("u2", copied[1]["uuid"], **later))},
    )
    views = find_views(workspace)

    assert [bool(message.copy_of) for message in views[A].conversation.messages] == [True, True, False]
    assert sum(usage.output_tokens or 0 for usage in count_usage(views.values()).values()) == 40


def test_a_session_that_grew_is_extended(workspace, tmp_path):
    lines = [user("u1", None), assistant("a1", "u1"), user("u2", "a1")]
    keep(workspace, tmp_path / "1", {f"{S}.jsonl": write(*lines[:2]) + '{"type":"us'})
    keep(workspace, tmp_path / "2", {f"{S}.jsonl": write(*lines)})
    view = find_views(workspace)[S]

    assert keys_of(view) == ["u1", "a1", "u2"]
    assert len(view.versions) == 2
    assert view.conflicts == ()


def test_a_later_export_of_chats_extends_one_and_leaves_the_other_unchanged(workspace, tmp_path):
    still = make_chat(say("m", "human", "hi"), uuid="still")
    before = make_chat(say("a", "human", "1"))
    after = make_chat(say("a", "human", "1"), say("b", "assistant", "2"), updated_at="2026-01-03T00:00:00Z")
    keep(workspace, tmp_path / "1", {"conversations.json": [still, before]})
    coverage = keep(workspace, tmp_path / "2", {"conversations.json": [after, dict(reversed(still.items()))]})
    view = find_views(workspace)["c"]
    (file,) = coverage.sets[0].files

    assert (file.imported, file.unchanged) == (1, 1)
    assert (keys_of(view), len(view.versions)) == (["a", "b"], 2)


def test_two_forms_of_one_chat_are_one_conversation(workspace, tmp_path):
    """The API says which leaf is shown; the export has the texts twice."""
    messages = [say("a", "human", "1"), say("b", "assistant", "2", "a"), say("c", "assistant", "3", "a")]
    keep(workspace, tmp_path / "1", {"conversations.json": [make_chat(*messages, account={"uuid": "acct"})]})
    detail = make_chat(*({**each, "text": ""} for each in messages), current_leaf_message_uuid="b", model="x")
    keep(workspace, tmp_path / "2", {"chat.json": {**detail, "updated_at": "2026-01-04T00:00:00Z"}})
    view = find_views(workspace)["c"]

    assert [message.key for message in view.conversation.messages if message.is_active] == ["a", "b"]
    assert (view.conversation.account, view.conversation.model) == ("acct", "x")
    assert view.conflicts == ()


def test_a_summary_in_the_file_of_another_session_is_the_title_of_the_one_that_it_is_of(workspace, tmp_path):
    summary = {"type": "summary", "summary": "About the first", "leafUuid": "a1"}
    unknown = {"type": "summary", "summary": "About one that is gone", "leafUuid": "nowhere"}
    files = {
        f"-repo/{A}.jsonl": write(user("u1", None, "one", sessionId=A), assistant("a1", "u1", sessionId=A)),
        f"-repo/{S}.jsonl": write(summary, user("u2", None, "two")),
        "-other/x.jsonl": write(summary, unknown, user("u3", None, "three", sessionId="x")),
    }
    keep(workspace, tmp_path / "projects", files)

    titles = {native_id: view.conversation.title for native_id, view in find_views(workspace).items()}
    assert titles == {A: "About the first", S: "two", "x": "About the first"}  # in its own folder no other has the leaf


def test_a_file_that_is_no_session_or_is_damaged_hinders_no_look_for_summaries(workspace, tmp_path):
    files = {
        f"-repo/{S}.jsonl": write(user("u1", None, "hi")),
        "-repo/broken.jsonl": '{"type": "summary", "leafUuid": "u1", "summary": "cut',
        "-repo/only.jsonl": write("[1]", {"type": "summary", "summary": "Greeting \ud83d", "leafUuid": "u1"}),
        "-repo/picture": "\x89PNG",
    }
    keep(workspace, tmp_path / "projects", files)
    (view,) = walk_views(workspace)

    assert view.conversation.title == "Greeting \ufffd"
