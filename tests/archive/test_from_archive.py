"""Messages and conversations become concepts, and an essay's lineage reaches the line that it began with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.archive.conversations import Block, Kind, Message
from pipeline.archive.from_archive import read_choice, write_text
from pipeline.concepts import load_concepts
from pipeline.errors import InputInvalid
from tests.archive.imported_store import imported, run, run_json
from tests.archive.small_exports import ANSWER, PROMPT
from tests.archive.test_search_page import LINEAGE, ask
from tests.pipeline.config_folder import problems_of, write_config
from tests.programs import run as run_program

__all__ = ["imported"]

MAKE = ("concepts", "from-archive")


@pytest.fixture
def folder(imported, tmp_path) -> Path:
    shutil.copytree(imported / "data", tmp_path / "data")
    write_config(tmp_path)
    return tmp_path


def concepts_of(folder: Path):
    problems: list = []
    concepts = load_concepts(folder / "config", problems)
    assert problems == []
    return concepts


def made_of(result) -> dict[str, str]:
    return {concept["concept_id"]: concept["state"] for concept in result["concepts"]}


def test_the_messages_that_a_query_finds_become_concepts(folder):
    result = run_json(folder, *MAKE, "bowline", "--role", "assistant")

    ((concept_id, state),) = made_of(result).items()
    concept = concepts_of(folder)[concept_id]
    assert state == "added"
    assert concept.name == "A bowline holds the mooring."
    assert concept.texts == {"paragraph": "A bowline holds the mooring."}
    assert concept_id.startswith("a-bowline-holds-the-mooring-")


def test_a_conversation_becomes_one_concept_of_its_active_path(folder):
    conversation = run_json(folder, "conversations", "--provider", "chatgpt")[0]["id"]

    result = run_json(folder, *MAKE, "--conversation", conversation[:8], "--level", "article")

    (concept_id,) = made_of(result)
    assert concepts_of(folder)[concept_id].name == "Tide tables"
    assert (folder / "config/concepts/article" / f"{concept_id}.txt").read_text() == (
        "User: When is low tide in the harbour?\n\n"
        "Assistant: The tide is low at noon.\n\n"
        "User: And on Monday, as in the picture?\n\n"
        "Assistant: An hour later, says the table.\n"
    )


def test_filters_without_a_query_choose_conversations(folder):
    tagged = run_json(folder, "conversations", "--provider", "claude_code")[0]["id"]
    run(folder, "tag", tagged, "+keep")

    by_tag = run_json(folder, *MAKE, "--tag", "keep")

    assert [concept["conversation"] for concept in by_tag["concepts"]] == [tagged]
    assert made_of(run_json(folder, *MAKE, "--provider", "claude_code")) == dict.fromkeys(made_of(by_tag), "unchanged")


def test_what_is_there_stays_as_it_is(folder):
    """A second making adds nothing, and an edited text is left alone."""
    words = (*MAKE, "bowline", "--role", "assistant")
    (concept_id,) = made_of(run_json(folder, *words))
    table, path = folder / "config/concepts.csv", folder / "config/concepts/paragraph" / f"{concept_id}.txt"
    before = {found: found.read_bytes() for found in (folder / "config").rglob("*") if found.is_file()}

    again = made_of(run_json(folder, *words))
    path.write_text("My own words.\n")
    edited = made_of(run_json(folder, *words))

    assert (again, edited) == ({concept_id: "unchanged"}, {concept_id: "differs"})
    assert path.read_text() == "My own words.\n"
    assert table.read_bytes() == before[table]
    assert concepts_of(folder)[concept_id].origin_at("paragraph")["is_edited"] is True


def test_concepts_are_made_in_a_folder_that_is_named(folder):
    result = run_json(folder, *MAKE, "noon", "--out", "other/concepts")

    assert result["folder"] == "other/concepts"
    assert (folder / "other/concepts.csv").read_text().startswith("concept_id,name\n")
    assert list((folder / "other/concepts/paragraph").iterdir())
    assert "Expected a folder named concepts" in run(folder, *MAKE, "noon", "--out", "other", code=1).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Nothing is chosen"),
        (["--message", "7k3f"], "'7k3f' names no message"),
        (["--message", "{knots}/nobody"], "Unknown message of conversation"),
        (["--role", "user"], "Expected a query with it"),
        (["--conversation", "zzzz"], "Unknown conversation 'zzzz'"),
    ],
)
def test_a_choice_that_is_none_is_told_and_nothing_is_written(folder, words, message):
    knots = run_json(folder, "conversations", "--provider", "claude_code")[0]["id"]
    before = sorted(folder.glob("config/**/*"))

    done = run(folder, *MAKE, *(word.format(knots=knots) for word in words), code=1)

    assert message in done.stderr
    assert sorted(folder.glob("config/**/*")) == before


def test_code_stands_in_a_fence_that_no_line_of_it_closes():
    blocks = [Block(Kind.TEXT, " Look: "), Block(Kind.CODE, "a\n```\nb\n", language="md"), Block(Kind.THINKING, "hm")]

    assert write_text(Message("m", blocks=blocks)) == "Look:\n\n````md\na\n```\nb\n````"


def test_a_message_is_named_by_conversation_and_key():
    assert read_choice("7k3f/a/b") == ("7k3f", "a/b")
    with pytest.raises(InputInvalid, match="names no message"):
        read_choice("/a")


# Origins


def add_origin(concept_id: str, level: str = "paragraph") -> dict[str, str]:
    header = "concept_id,level,text_blake3,conversation,document,message,export,member,place\n"
    return {"concepts/origins.csv": f"{header}{concept_id},{level},00,c,d,m,e,chats.json,chats.json[0]\n"}


def test_an_origin_changes_no_identity(tmp_path):
    plain = load_concepts(write_config(tmp_path / "plain"), [])["moat"]
    known = load_concepts(write_config(tmp_path / "known", add_origin("moat")), [])["moat"]

    assert known.origin_at("paragraph") == {
        "conversation": "c",
        "document": "d",
        "message": "m",
        "export": "e",
        "member": "chats.json",
        "place": "chats.json[0]",
        "is_edited": True,
    }
    assert plain.origin_at("paragraph") is known.origin_at("sentence") is None
    assert known.inputs_at("paragraph") == plain.inputs_at("paragraph")


def test_an_origin_of_no_concept_is_a_mistake(tmp_path):
    assert problems_of(tmp_path, add_origin("castle")) == [
        "concepts/origins.csv, line 2: there is no concept 'castle'. Expected a row of concepts.csv."
    ]
    assert "at level 'word'" in problems_of(tmp_path, add_origin("moat", "word"))[0]


@pytest.mark.slow
def test_the_lineage_of_an_essay_reaches_the_line_of_the_export_that_it_began_with(folder):
    """From an import through a concept and a build to the line; and the documents are those of the texts alone."""
    knots = run_json(folder, "conversations", "--provider", "claude_code")[0]
    message = f"{knots['id']}/{ANSWER}"
    made = run_json(folder, *MAKE, "--message", message, "--conversation", run_tides(folder))
    names = json.dumps(sorted(made_of(made)))
    cohort = (folder / "config/cohorts/first.toml").read_text()
    cohort = cohort.replace('["flywheel", "moat", "tide"]', names)
    (folder / "config/cohorts/first.toml").write_text(cohort)
    judge = folder / "config/templates/evaluation/clarity.txt"
    judge.write_text(judge.read_text() + "SCORE: 7\n")
    run_program(folder, "daybook", "build", "first")
    essay = sorted(path.name for path in (folder / "data/docs/essay").iterdir() if len(path.name) == 16)[0]

    lineage = run_json(folder, "lineage", essay)
    text = run(folder, "lineage", essay).stdout

    origins = {found["concept_id"]: found["origin"] for found in lineage["parents"][0]["concepts"]}
    by_line = next(origin for origin in origins.values() if origin["message"] == ANSWER)
    assert (by_line["place"], by_line["is_edited"]) == ("session.jsonl:3", False)
    (conversation,) = by_line["documents"]
    (export,) = conversation["parents"]
    content = (folder / "data/docs/export" / export["doc_id"] / "content.bin").read_text()
    assert json.loads(content.splitlines()[2])["uuid"] == ANSWER
    assert (conversation["doc_id"], conversation["state"], export["state"]) == (knots["versions"][0], "ok", "ok")
    assert f"└─ conversation {knots['versions'][0]}  {ANSWER}" in text
    assert f"└─ export {export['doc_id']}  session.jsonl:3" in text
    assert "chats.json[0]" in text

    run(folder, "conversations")
    reached = ask(folder / "data", LINEAGE.replace("7k3f", essay))
    assert {"essay", "draft", "conversation", "export"} == {stage for _, stage, *_ in reached}
    assert export["doc_id"] in {doc_id for _, _, doc_id, *_ in reached}

    before = sorted(path.name for path in (folder / "data/docs/draft").iterdir())
    (folder / "config/concepts/origins.csv").unlink()
    assert json.loads(run_program(folder, "daybook", "build", "first", "--json").stdout)["made"] == {}
    assert sorted(path.name for path in (folder / "data/docs/draft").iterdir()) == before


def run_tides(folder: Path) -> str:
    return run_json(folder, "conversations", "--provider", "chatgpt")[0]["id"]


def test_the_line_is_that_of_the_message_and_not_of_one_that_names_it(folder):
    knots = run_json(folder, "conversations", "--provider", "claude_code")[0]["id"]

    run(folder, *MAKE, "--message", f"{knots}/{PROMPT}", "--message", f"{knots}/{ANSWER}")

    rows = (folder / "config/concepts/origins.csv").read_text().splitlines()[1:]
    assert [row.rpartition(",")[2] for row in rows] == ["session.jsonl:2", "session.jsonl:3"]
