"""The commands that look into the archive, as a person types them, after an import of two small exports."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess

import pytest

from pipeline.archive.conversation_printing import BOLD, format_hits
from pipeline.archive.conversations import Attachment, Block, Conversation, Message, Usage, to_json
from pipeline.archive.notes import Note
from pipeline.archive.search.listing import describe_view
from pipeline.archive.views import View
from tests.archive.imported_store import folder, ids_by_title, imported, run, run_json
from tests.archive.made_archive import make_view
from tests.archive.small_exports import ANSWER, PROMPT, write_exports
from tests.programs import BIN
from tests.programs import run as run_program

__all__ = ["folder", "imported"]


# search


def test_search_prints_hits_with_marks_around_what_was_found(folder):
    lines = run(folder, "search", "low", "tide").stdout.splitlines()

    assert lines[0].startswith("Tide tables · chatgpt · ")
    assert "    The **tide** is **low** at noon." in lines
    assert lines[-1] == "2 hits"


def test_search_shows_what_was_found_in_bold_on_a_terminal(folder):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.Popen([BIN / "daybook", "search", "noon"], cwd=folder, stdout=theirs, env=environment)
    os.close(theirs)
    text = b""
    while b"1 hit" not in text:
        text += os.read(ours, 4096)
    assert done.wait() == 0

    assert b"The tide is low at \x1b[1mnoon\x1b[0m." in text
    assert b"**" not in text


def test_nothing_that_a_message_holds_moves_a_terminal():
    view = make_view("Odd \x9b2J", user="before \x9b31m tide \u202e after")
    hit = {
        "conversation": view.conversation_id,
        "message": "user",
        "provider": "chatgpt",
        "role": "user",
        "model": None,
    }
    hit |= {"in": "messages", "title": view.conversation.title, "created": None, "is_active": True, "is_gone": False}
    hit |= {"snippet": view.conversation.messages[0].blocks[0].text, "ranges": [[12, 16]]}

    text = format_hits({"hits": [hit], "has_more": False}, marks=BOLD)

    assert "before \\x9b31m \x1b[1mtide\x1b[0m \\u202e after" in text
    assert "Odd \\x9b2J" in text
    assert "\x9b" not in text


def test_search_gives_ranges_and_places_as_json(folder):
    result = run_json(folder, "search", "bowline", "--role", "assistant")

    (hit,) = result["hits"]
    assert (result["query"], result["has_more"]) == ("bowline", False)
    assert (hit["in"], hit["message"], hit["provider"]) == ("messages", ANSWER, "claude_code")
    assert hit["conversation"] == ids_by_title(folder)["Knots that hold"]
    assert {hit["snippet"][begin:end] for begin, end in hit["ranges"]} == {"bowline"}


def test_a_word_that_must_not_be_there_needs_no_quotes(folder):
    both = run_json(folder, "search", "tide", "--in", "messages")
    without = run_json(folder, "search", "tide", "-harbour", "-low", "--in", "messages")

    assert without["query"] == "tide -harbour -low"
    assert 0 < len(without["hits"]) < len(both["hits"])


def test_search_says_when_there_is_more(folder):
    assert run_json(folder, "search", "the", "--limit", "1")["has_more"] is True
    assert "there are more: --limit" in run(folder, "search", "the", "--limit", "1").stdout
    assert run(folder, "search", "submarine").stdout == "Nothing was found.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", '"low tide'], "Expected a second quotation mark"),
        (["search", "tide", "--provider", "chatgtp"], "Unknown provider 'chatgtp'. Known: chatgpt, claude_code."),
        (["search", "tide", "--since", "Monday"], "'Monday' is no date"),
        (["conversations", "--tag", "sea"], "Unknown tag 'sea'. Known: none."),
        (["show", "zzzzzzzzzzzzzzzz"], "Unknown document 'zzzzzzzzzzzzzzzz'"),
        (["tag", "zzzzzzzz", "+x"], "Unknown conversation 'zzzzzzzz'"),
    ],
)
def test_a_mistake_is_told_in_words(folder, words, message):
    assert message in run(folder, *words, code=1).stderr


def test_an_empty_archive_has_nothing_and_no_error(tmp_path):
    found = run(tmp_path, "search", "tide")
    assert found.stdout == "Nothing was found.\n"
    assert "daybook import PATH" in found.stderr
    assert run_json(tmp_path, "conversations") == []


def test_conversations_that_were_deleted_are_missed(folder):
    shutil.rmtree(folder / "data/docs/conversation")

    assert "daybook import --again makes them" in run(folder, "conversations").stderr
    assert "daybook import --again makes them" in run(folder, "render", code=1).stderr


def test_luigis_task_leaves_an_index_that_is_up_to_date(tmp_path):
    write_exports(tmp_path)
    run_program(tmp_path, "luigi", "--module", "pipeline", "Conversations", "--path", "exports", "--local-scheduler")

    index = sqlite3.connect(tmp_path / "data/index.sqlite")
    titles = {title for (title,) in index.execute("SELECT title FROM conversations")}
    index.close()

    assert titles == {"Tide tables", "Knots that hold"}


# conversations


def test_conversations_are_listed_with_what_a_person_would_count(folder):
    knots, tides = run_json(folder, "conversations")

    assert [knots["title"], tides["title"]] == ["Knots that hold", "Tide tables"]
    assert (tides["created"], tides["updated"]) == ("2026-03-01T09:00:00Z", "2026-03-01T09:00:30Z")
    assert tides["models"] == ["gpt-4o", "o3"]
    assert tides["messages"] == {
        "all": {"total": 5, "user": 3, "assistant": 2},
        "active": {"total": 4, "user": 2, "assistant": 2},
        "gone": 0,
    }
    assert (tides["branches"], tides["attachments"]) == (2, {"with_bytes": 0, "without_bytes": 1})
    assert [knots[name] for name in ("thinking_blocks", "tool_uses", "tool_results")] == [1, 1, 0]


def test_a_short_list_says_that_there_are_more(folder):
    assert len(run_json(folder, "conversations", "--limit", "1")) == 1
    assert run(folder, "conversations", "--limit", "1").stdout.endswith("\n1 conversation; there are more: --limit\n")
    assert run(folder, "conversations", "--limit", "2").stdout.endswith("\n2 conversations\n")


def test_filters_choose_conversations(folder):
    def titles(*words: str) -> list[str]:
        return [found["title"] for found in run_json(folder, "conversations", *words)]

    assert titles("--provider", "chatgpt") == ["Tide tables"]
    assert titles("--model", "claude*") == ["Knots that hold"]
    assert titles("--since", "2026-03-02") == ["Knots that hold"]
    assert titles("--until", "2026-03-01") == ["Tide tables"]
    assert titles("--limit", "1") == ["Knots that hold"]
    assert run(folder, "conversations").stdout.splitlines()[-1] == "2 conversations"


# show


def test_show_gives_the_whole_neutral_structure(folder):
    shown = run_json(folder, "show", ids_by_title(folder)["Tide tables"])

    keys = [message["key"] for message in shown["messages"]]
    assert keys == ["u1", "a1", "u2", "u3", "a3"]
    assert shown["messages"][3]["blocks"][1]["attachment"]["status"] == "missing"
    assert (shown["active_leaf"], shown["is_gone"], shown["conflicts"], len(shown["versions"])) == ("a3", False, [], 1)


def test_show_leaves_out_no_field_of_the_neutral_structure():
    block = Block("text", "t", attachment=Attachment("a", extra={"x": 1}), raw={"y": 2}, extra={"z": 3})
    message = Message("m", role="user", blocks=[block], usage=Usage(1, usage_id="u"), extra={"w": 4})
    conversation = Conversation("chatgpt", "n", title="T", messages=[message], settings={"s": 5}, warnings={"odd": 1})
    view = View("c" * 16, conversation, ("v" * 16,), is_gone=True, conflicts=("m: two texts",))

    shown = describe_view(view, Note(("sea",), "mine"))

    assert shown == {
        **to_json(conversation),
        "id": "c" * 16,
        "versions": ["v" * 16],
        "is_gone": True,
        "conflicts": ["m: two texts"],
        "tags": ["sea"],
        "note": "mine",
    }


def test_show_prints_a_head_and_the_active_path(folder):
    text = run(folder, "show", ids_by_title(folder)["Tide tables"][:8]).stdout

    assert text.startswith("Tide tables\nid        ")
    assert "messages  5, of which 4 are on the active path" in text
    assert "And on Monday, as in the picture?\n[attachment: file_0001 (missing)]" in text.replace("sediment://", "")
    assert "And on Sunday?" not in text
    knots = run(folder, "show", ids_by_title(folder)["Knots that hold"]).stdout
    assert "[thinking: A knot that holds]" in knots
    assert '[tool use: Bash {"command": "grep -rn bowline"}]' in knots


def test_show_finds_a_conversation_by_any_of_its_versions(folder):
    (doc_id,) = run_json(folder, "conversations", "--provider", "chatgpt")[0]["versions"]

    assert run_json(folder, "show", doc_id)["title"] == run_json(folder, "show", f"conversation/{doc_id}")["title"]


def test_show_of_an_export_shows_the_document(folder):
    doc_id = sorted(path.name for path in folder.glob("data/docs/export/*") if (path / "content.bin").exists())[0]

    assert run_json(folder, "show", f"export/{doc_id}")["stage"] == "export"
    assert f"export {doc_id}" in run(folder, "show", f"export/{doc_id}").stdout


def test_lineage_of_a_conversation_reaches_its_export(folder):
    (doc_id,) = run_json(folder, "conversations", "--provider", "claude_code")[0]["versions"]

    text = run(folder, "lineage", f"conversation/{doc_id}").stdout

    assert text.splitlines()[0] == f"conversation {doc_id}  session.jsonl:1-3"
    assert text.splitlines()[1].startswith("   └─ export ")


# tag, note


def test_tags_are_added_and_taken_away_wherever_the_options_stand(folder):
    name = ids_by_title(folder)["Tide tables"]

    assert run_json(folder, "tag", name, "+sea", "+to-read")["tags"] == ["sea", "to-read"]
    assert run_json(folder, "tag", name, "-to-read", "+c++")["tags"] == ["c++", "sea"]
    assert run_json(folder, "tag", name)["tags"] == ["c++", "sea"]
    first = json.loads(run(folder, "tag", "--json", name, "-sea").stdout)
    assert first["tags"] == ["c++"]
    assert [found["title"] for found in run_json(folder, "conversations", "--tag", "c++")] == ["Tide tables"]
    assert "'sea' is no change of tags. Expected +sea" in run(folder, "tag", name, "sea", code=1).stderr
    assert "'two words' is not a tag" in run(folder, "tag", name, "+two words", code=1).stderr


def test_a_note_and_a_title_are_found_and_taken_away(folder):
    name = ids_by_title(folder)["Tide tables"]
    run(folder, "note", name, "Ask the harbour master", "--title", "When to sail")

    assert run_json(folder, "search", "master")["hits"][0]["title"] == "When to sail"
    assert run_json(folder, "show", name)["title_source"] == "note"
    run(folder, "note", name, "", "--title", "")
    assert run_json(folder, "note", name) == {"id": name, "title": "Tide tables", "tags": [], "note": None}


def test_what_people_wrote_outlives_everything_that_is_derived(folder, imported):
    name = ids_by_title(folder)["Tide tables"]
    run(folder, "tag", name, "+sea")
    before = run(folder, "conversations", "--json").stdout
    documents = sorted(path.name for path in (folder / "data/docs/conversation").iterdir())
    shutil.rmtree(folder / "data/docs/conversation")
    (folder / "data/index.sqlite").unlink()

    assert run_json(folder, "conversations") == []
    run(folder, "import", "--again")

    assert run(folder, "conversations", "--json").stdout == before
    assert sorted(path.name for path in (folder / "data/docs/conversation").iterdir()) == documents
    assert json.loads(before)[1]["tags"] == ["sea"]


def test_a_damaged_conversation_is_told_and_keeps_no_other_from_being_found(folder):
    (doc_id,) = run_json(folder, "conversations", "--provider", "chatgpt")[0]["versions"]
    path = folder / "data/docs/conversation" / doc_id / "conversation.json"
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content.replace(b"noon", b"moon"))
    (folder / "data/index.sqlite").unlink()

    found = run(folder, "search", "bowline", "--role", "assistant")

    assert found.stdout.endswith("1 hit\n")
    assert "cannot be read, so it may be missing here" in found.stderr
    path.write_bytes(content)
    assert run(folder, "search", "noon").stderr == ""


def test_prompts_of_two_sources_are_searched_together(folder):
    assert {hit["message"] for hit in run_json(folder, "search", "which OR when")["hits"]} == {PROMPT, "u1"}
