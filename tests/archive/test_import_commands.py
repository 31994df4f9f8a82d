"""`daybook import` and its Luigi tasks as a person starts them, with the importers that are shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.import_display import ImportDisplay
from pipeline.cli import main
from store.data_root import DataRoot

SAMPLES = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "chats"
LUIGI = str(Path(sys.executable).parent / "luigi")
EXIT_SKIPPED = 33


def make_chat(number: int, *texts: str) -> dict[str, Any]:
    """Return a conversation as ChatGPT exports it."""
    mapping: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
    parent = "root"
    for position, text in enumerate(texts):
        name, role = f"{number}-{position}", "assistant" if position % 2 else "user"
        content = {"content_type": "text", "parts": [text]}
        message = {"id": name, "author": {"role": role}, "create_time": 1_750_000_000 + position, "content": content}
        mapping[name] = {"id": name, "parent": parent, "children": [], "message": message}
        parent = name
    return {"conversation_id": f"chat-{number}", "title": f"Chat {number}", "mapping": mapping, "current_node": parent}


@pytest.fixture
def export(tmp_path) -> str:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", json.dumps([make_chat(1, "hello", "yes?"), make_chat(2, "bye")]))
        archive.writestr("user.json", json.dumps({"id": "user-1", "email": "ann@example.org"}))
        archive.writestr("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(20))
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing here depends on the folder of the repository."""
    monkeypatch.chdir(tmp_path)
    for name in ("DAYBOOK_DATA_ROOT", "DAYBOOK_CONFIG_ROOT", "LUIGI_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)


def run_json(capsys, *words: str, code: int = 0) -> Any:
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_an_import_ends_with_a_report_and_a_second_one_says_that_nothing_changed(export, capsys):
    assert main(["import", export]) == 0
    first = capsys.readouterr().out
    assert "2 records seen = 2 imported + 0 unchanged + 0 skipped" in first
    assert "kept, without conversations: 2 files" in first
    assert "example.org" not in first
    assert first.splitlines()[-1].startswith("Next: daybook conversations")

    assert main(["import", export]) == 0
    second = capsys.readouterr().out
    assert "2 records seen = 0 imported + 2 unchanged + 0 skipped" in second
    assert "Next:" not in second


def test_the_exit_code_says_that_something_was_skipped(tmp_path, capsys):
    (tmp_path / "c.json").write_text(json.dumps([make_chat(1, "hello"), 42]))
    report = run_json(capsys, "import", "c.json", code=EXIT_SKIPPED)

    totals = report["totals"]
    assert totals["seen"] == totals["imported"] + totals["unchanged"] + totals["skipped"] == 2
    assert all(skip["place"] for skip in report["sets"][0]["files"][0]["skips"])

    (tmp_path / "x.json").write_text('{"colour": 1}')
    assert run_json(capsys, "import", "x.json", code=EXIT_SKIPPED)["totals"]["unrecognised"] == 1
    assert run_json(capsys, "import", "not-there.json", code=EXIT_SKIPPED)["unread"][0]["place"] == "not-there.json"


@pytest.mark.parametrize("words", [["import"], ["import", "--explain"]])
def test_a_path_that_cannot_be_opened_is_told_in_words(words, capsys):
    assert main([*words, "not-there.zip"]) == EXIT_SKIPPED
    told = capsys.readouterr().out
    assert told.startswith("Not read: not-there.zip: There is no file or folder 'not-there.zip'. Expected an export")


@pytest.mark.parametrize("text", ['{"colour": 1}', ""])
def test_a_path_in_which_nothing_is_known_says_what_to_do(tmp_path, capsys, text):
    (tmp_path / "x.json").write_text(text)

    assert main(["import", "x.json"]) == EXIT_SKIPPED
    assert "daybook import --explain x.json" in capsys.readouterr().out


def test_explain_tells_what_takes_each_file_and_keeps_nothing(export, capsys, tmp_path):
    explanation = run_json(capsys, "import", "--explain", export)

    (source,) = explanation["sources"]
    found = {file["name"]: file for file in source["files"]}
    assert (found["conversations.json"]["importer"], found["conversations.json"]["peeked"]) == ("chatgpt", 2)
    assert found["conversations.json"]["reason"]
    assert found["user.json"]["artifact"]
    assert (found["photo.png"]["kind"], found["photo.png"]["artifact"]) == ("binary", True)
    assert not list((tmp_path / "data").glob("docs/*"))


def test_again_makes_what_was_deleted_and_needs_no_path(export, capsys, tmp_path):
    run_json(capsys, "import", export)
    shutil.rmtree(tmp_path / "data" / "docs" / "conversation")
    Path(export).unlink()

    report = run_json(capsys, "import", "--again")

    assert report["earlier"][0]["totals"]["imported"] == 2
    assert run_json(capsys, "import", "--again")["earlier"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import"], "Expected either paths to import, or --again"),
        (["import", "--again", "a.json"], "Expected either paths to import, or --again"),
        (["import", "--explain"], "Expected paths to explain"),
    ],
)
def test_neither_nothing_nor_both_can_be_asked_for(words, message, capsys):
    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_rebuild_makes_conversations_again_and_names_one_that_was_altered(export, capsys, tmp_path):
    run_json(capsys, "import", export)
    result = run_json(capsys, "rebuild", "--all")
    assert (result["documents"]["conversation"]["same"], result["documents"]["export"]["same"]) == (2, 4)

    path = next((tmp_path / "data" / "docs" / "conversation").glob("*/conversation.json"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"Chat", b"Chut"))

    (finding,) = run_json(capsys, "rebuild", "--all", code=1)["findings"]
    assert (finding["outcome"], finding["file"]) == ("different", "conversation.json")
    assert finding["line"] > 1


def test_rebuild_makes_transcripts_again_and_tells_altered_ones_from_those_of_another_template(
    export, capsys, tmp_path
):
    run_json(capsys, "import", export)
    run_json(capsys, "render", "--out", "site")
    assert run_json(capsys, "rebuild", "--all")["documents"]["transcript"]["same"] == 2

    path = next((tmp_path / "data" / "docs" / "transcript").glob("*/transcript.html"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"<html", b"<hxml"))
    (finding,) = run_json(capsys, "rebuild", "--all", code=1)["findings"]
    assert (finding["outcome"], finding["doc_id"]) == ("different", path.parent.name)

    (tmp_path / "config" / "transcripts").mkdir(parents=True)
    (tmp_path / "config" / "transcripts" / "html.j2").write_text("{{ title }}\n")
    assert run_json(capsys, "rebuild", "--all")["documents"]["transcript"]["other_version"] == 2


def test_nothing_of_the_archive_is_ever_garbage(export, capsys, tmp_path):
    run_json(capsys, "import", export)
    shutil.rmtree(tmp_path / "data" / "tasks")
    before = sorted((tmp_path / "data" / "docs").glob("*/*"))

    assert run_json(capsys, "gc", "--apply", "--older-than", "0")["documents"]["count"] == 0

    assert sorted((tmp_path / "data" / "docs").glob("*/*")) == before


def test_documents_of_the_archive_have_a_lineage_and_can_be_shown(export, capsys, tmp_path):
    run_json(capsys, "import", export)
    doc_id = DataRoot(tmp_path / "data").documents.list_ids("conversation")[0]

    assert run_json(capsys, "lineage", doc_id)["parents"][0]["stage"] == "export"


# Progress


class Terminal:
    """Text that is written to a terminal, or to something else."""

    def __init__(self, *, moves: bool) -> None:
        self.text, self._moves = "", moves

    def isatty(self) -> bool:
        return self._moves

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_progress_has_bytes_rate_and_time_left():
    display = ImportDisplay(Terminal(moves=True))  # type: ignore[arg-type]
    display.begin("reading", 10_000_000)
    display.read(2_500_000)
    display.make(7)

    assert display.describe(5.0) == "reading: 2 of 10 MB, 7 conversations, 0.5 MB/s, 0:15 left"


def test_nothing_moves_where_there_is_no_terminal():
    stream = Terminal(moves=False)
    display = ImportDisplay(stream)  # type: ignore[arg-type]
    display.begin("reading", 100)
    display.read(50)
    display.stop()

    assert stream.text == ""


# Luigi


def run_luigi(tmp_path: Path, *words: str) -> str:
    folder = ["--local-scheduler", "--daybook-data-root", str(tmp_path / "data")]
    command = [LUIGI, "--module", "pipeline", *words, *folder]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_the_tasks_keep_the_bytes_and_make_the_conversations_and_do_nothing_twice(export, tmp_path):
    documents = DataRoot(tmp_path / "data").documents

    run_luigi(tmp_path, "ImportExport", "--path", export)
    assert (len(documents.list_ids("export")), documents.list_ids("conversation")) == (4, [])

    first = run_luigi(tmp_path, "Conversations", "--path", export)
    assert "1 ran successfully" in first
    assert len(documents.list_ids("conversation")) == 2

    shutil.rmtree(tmp_path / "data" / "docs" / "conversation")
    run_luigi(tmp_path, "Conversations")
    assert len(documents.list_ids("conversation")) == 2
    assert "Did not run any tasks" in run_luigi(tmp_path, "Conversations", "--path", export)


# The samples


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside the repository")
@pytest.mark.slow
def test_every_sample_is_imported_and_comes_back_byte_for_byte(capsys, tmp_path):
    paths = sorted(str(path) for path in SAMPLES.glob("*/*"))
    report = run_json(capsys, "import", *paths)
    assert report["mismatches"] == report["unread"] == []
    assert all(each["totals"]["imported"] + each["totals"]["unchanged"] for each in report["sets"])
    documents = tmp_path / "data" / "docs"
    before = {path: path.read_bytes() for path in documents.rglob("*") if path.is_file()}

    shutil.rmtree(documents / "conversation")
    shutil.rmtree(tmp_path / "data" / "tasks")
    run_json(capsys, "import", *reversed(paths))

    assert {path: path.read_bytes() for path in documents.rglob("*") if path.is_file()} == before


# Takeout


def make_activity(text: str, time: str) -> dict[str, Any]:
    answer = {"safeHtmlItem": [{"html": "<p>yes</p>"}]}
    return {"header": "Gemini Apps", "title": f"Prompted {text}", "time": f"2026-02-03T{time}:00Z", **answer}


@pytest.fixture
def activities(tmp_path) -> str:
    path = tmp_path / "MyActivity.json"
    path.write_text(json.dumps([make_activity("c", "12:00"), make_activity("b", "10:00"), make_activity("a", "09:10")]))
    return str(path)


def list_titles(capsys) -> list[str]:
    return sorted(each["title"] for each in run_json(capsys, "conversations"))


def test_the_gap_of_takeout_is_part_of_an_import_and_the_latest_one_of_a_file_counts(activities, capsys):
    sets = [run_json(capsys, "import", activities)["sets"][0]["set"]]
    assert list_titles(capsys) == ["a", "b", "c"]

    for gap, titles in (("60", ["a", "c"]), ("day", ["a"]), ("30", ["a", "b", "c"])):
        sets.append(run_json(capsys, "import", "--takeout-gap", gap, activities)["sets"][0]["set"])
        assert list_titles(capsys) == titles

    assert len(set(sets)) == 4


def test_conversations_of_another_gap_are_made_again_as_they_were(activities, capsys, tmp_path):
    run_json(capsys, "import", "--takeout-gap", "60", activities)
    folder = tmp_path / "data" / "docs" / "conversation"
    before = {path.name for path in folder.iterdir()}
    DataRoot(tmp_path / "data").trash.throw_away(
        [f"docs/conversation/{name}" for name in sorted(before)], reason="rm", now=datetime.now(UTC)
    )
    shutil.rmtree(tmp_path / "data" / "tasks")

    run_json(capsys, "import", "--again")

    assert {path.name for path in folder.iterdir()} == before
    counts = run_json(capsys, "rebuild", "--all")["documents"]["conversation"]
    assert {outcome: count for outcome, count in counts.items() if count} == {"same": 2}


@pytest.mark.parametrize("words", [["--takeout-gap", "0", "x"], ["--takeout-gap", "soon", "x"]])
def test_a_gap_is_minutes_or_a_day(words, capsys):
    with pytest.raises(SystemExit):
        main(["import", *words])

    assert "Expected minutes" in capsys.readouterr().err


def test_a_gap_belongs_to_an_import(capsys):
    assert main(["import", "--again", "--takeout-gap", "60"]) != 0
    assert "--takeout-gap belongs to an import" in capsys.readouterr().err
