"""daybook render: from what was imported to a folder of pages, and again when something has changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.archive.importing import import_paths
from pipeline.archive.render_commands import format_rendering
from pipeline.archive.transcripts import Format
from pipeline.archive.transcripts.rendering import Request, read_stamp, render_views
from pipeline.cli import main
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.archive.notebooks import NotebookImporter, notebook
from tests.archive.pages import INDEX


class Desk:
    """An archive, and the command line over it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys, self._count = folder, capsys, 0
        self.workspace = Workspace(Roots(folder / "data", folder / "config"))
        self.out = folder / "out"

    def add(self, *notebooks: object, importer: NotebookImporter | None = None) -> None:
        self._count += 1
        path = self.folder / f"{self._count}.json"
        path.write_text(json.dumps(notebooks))
        import_paths(self.workspace.data, [str(path)], importers=[importer or NotebookImporter()])

    def render(self, *arguments: str) -> tuple[int, dict]:
        roots = ["--data-root", str(self.folder / "data"), "--config-root", str(self.folder / "config")]
        code = main(["render", *roots, "--out", str(self.out), "--json", *arguments])
        return code, json.loads(self._capsys.readouterr().out)

    def list_pages(self) -> list[str]:
        return sorted(
            path.name for path in self.out.rglob("*") if path.suffix in (".html", ".md") and path.name != "index.html"
        )


@pytest.fixture
def desk(tmp_path, capsys) -> Desk:
    return Desk(tmp_path, capsys)


FIRST = notebook("n1", "Which knot?", "A bowline.", title="Knots", updated="2026-01-01T00:00:00Z")
SECOND = notebook("n2", "Which port?", title="Ports", updated="2026-03-01T00:00:00Z")


def test_what_was_imported_becomes_pages_and_a_second_time_nothing_happens(desk):
    desk.add(FIRST, SECOND)

    first_code, first = desk.render()
    second_code, second = desk.render()

    assert (first_code, second_code) == (0, 0)
    assert [page.rpartition("-")[0] for page in desk.list_pages()] == ["undated-knots", "undated-ports"]
    assert (first["views"], first["made"], len(first["written"])) == (2, 2, 3)
    assert (second["made"], second["written"], second["unchanged"], second["removed"]) == (0, [], 3, [])


def test_a_conversation_that_grew_is_written_again_and_no_other(desk):
    desk.add(FIRST, SECOND)
    desk.render()
    desk.add(notebook("n2", "Which port?", "Lisbon.", title="Ports of call", updated="2026-04-01T00:00:00Z"))

    _, result = desk.render()

    assert result["made"] == 1
    assert [page.rpartition("-")[0] for page in desk.list_pages()] == ["undated-knots", "undated-ports-of-call"]
    assert [Path(path).name.rpartition("-")[0] for path in result["removed"]] == ["undated-ports"]


def test_transcripts_come_back_byte_for_byte_after_they_were_deleted(desk):
    desk.add(FIRST, SECOND)
    render_views(desk.workspace, Request())
    folder = desk.workspace.data.documents.root / "transcript"
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder)

    render_views(desk.workspace, Request())

    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_markdown_is_placed_beside_html(desk):
    desk.add(FIRST)

    desk.render()
    desk.render("--format", "md")

    assert [page.rpartition(".")[2] for page in desk.list_pages()] == ["html", "md"]


def test_only_what_is_asked_for_is_rendered_and_the_rest_stays(desk):
    desk.add(FIRST, SECOND)

    _, result = desk.render("--since", "2026-02")
    assert [page.rpartition("-")[0] for page in desk.list_pages()] == ["undated-ports"]
    assert result["views"] == 1

    (first,) = (each for each in render_views(desk.workspace, Request()).documents if each.metadata["title"] == "Knots")
    desk.render("--conversation", first.metadata["conversation_id"][:9])
    assert len(desk.list_pages()) == 2

    desk.add(notebook("n3", "hello", kind="others"), importer=NotebookImporter("others", "others"))
    desk.render("--provider", "others")
    assert len(desk.list_pages()) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "chatgtp"], "Expected one of: notebooks"),
        (["--since", "yesterday"], "Expected 2026, 2026-03"),
        (["--conversation", "zzzz"], "Unknown conversation 'zzzz'"),
    ],
)
def test_a_wish_that_cannot_be_met_says_what_was_expected(desk, capsys, arguments, words):
    desk.add(FIRST)

    code = main(["render", "--data-root", str(desk.folder / "data"), "--out", str(desk.out), *arguments])

    assert code == 1
    assert words in capsys.readouterr().err
    assert not desk.out.exists()


@pytest.mark.parametrize("branch", ["0", "-1", "first"])
def test_a_branch_is_a_number_from_one(desk, capsys, branch):
    with pytest.raises(SystemExit):
        desk.render(f"--branch={branch}")

    assert "Expected all, active or a number from 1" in capsys.readouterr().err


def test_a_branch_is_a_file_of_its_own(desk):
    desk.add(FIRST)

    desk.render()
    desk.render("--branch", "1")

    assert len(desk.list_pages()) == 2
    assert any("-branch-1.html" in page for page in desk.list_pages())


def test_a_branch_that_no_conversation_has_is_no_view(desk):
    desk.add(FIRST)

    _, result = desk.render("--branch", "9")

    assert result["views"] == 0
    assert "No conversation is as it was asked for" in format_rendering(result)


def test_each_page_leads_to_the_index(desk):
    desk.add(FIRST)
    desk.render()
    (page,) = desk.out.rglob("*-*.html")

    assert f'href="{INDEX}"' in page.read_text()
    assert (page.parent / INDEX).resolve() == (desk.out / "index.html").resolve()


def test_the_page_to_open_is_named_if_it_was_placed(desk):
    desk.add(FIRST)
    desk.out.mkdir()
    index = desk.out / "index.html"
    index.write_text("mine")

    _, refused = desk.render()
    index.unlink()
    _, placed = desk.render()

    assert "Open" not in format_rendering(refused)
    assert format_rendering(placed).endswith(f"Open {index} in a browser.")


def test_a_mistake_in_a_template_is_told_once(desk):
    desk.add(*(notebook(f"n{number}", "x", title="x") for number in range(7)))
    folder = desk.folder / "config" / "transcripts"
    folder.mkdir(parents=True)
    (folder / "html.j2").write_text("{{ nope }}")

    code, result = desk.render()

    assert (code, len(result["failures"])) == (1, 7)
    told = format_rendering(result)
    assert told.count("'nope' is undefined") == 1
    assert "and 2 more" in told


def test_a_file_that_a_person_changed_is_named_and_the_command_fails(desk, capsys):
    desk.add(FIRST)
    desk.render()
    (page,) = (path for path in desk.out.rglob("*-*.html"))
    page.write_text("my notes")

    code, result = desk.render()

    assert code == 1
    assert [refusal["path"] for refusal in result["refused"]] == [str(page.relative_to(desk.out))]
    assert page.read_text() == "my notes"
    main(["render", "--data-root", str(desk.folder / "data"), "--out", str(desk.out)])
    told = capsys.readouterr().out
    assert "not touched" in told
    assert "somebody changed it" in told


def test_a_view_that_cannot_be_read_is_named_and_stops_no_other(desk):
    desk.add(FIRST, SECOND, notebook("n3", "x"))
    desk.render()
    documents = desk.workspace.data.documents
    shutil.rmtree(documents.root / "transcript")
    doc_id = documents.list_ids("conversation")[1]
    path = documents.folder_of("conversation", doc_id) / "conversation.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"user", b"uses"))

    code, result = desk.render()

    assert code == 1
    assert [doc_id in failure["reason"] for failure in result["failures"]] == [True]
    assert (result["views"], result["removed"], len(desk.list_pages())) == (2, [], 3)


def test_the_pages_of_a_view_that_failed_stay(desk):
    desk.add(FIRST)
    desk.render()
    documents = desk.workspace.data.documents
    shutil.rmtree(documents.root / "transcript")
    shutil.rmtree(
        documents.folder_of("conversation", documents.list_ids("conversation")[0]) / "extras", ignore_errors=True
    )
    (documents.folder_of("conversation", documents.list_ids("conversation")[0]) / "conversation.json").unlink()

    desk.render()

    assert len(desk.list_pages()) == 1


def test_templates_are_copied_once_and_then_used(desk):
    desk.add(FIRST)
    code, copied = desk.render("--copy-templates")
    style = desk.folder / "config" / "transcripts" / "style.css"
    assert (code, str(style) in copied["copied"]) == (0, True)
    _, before = desk.render()
    style.write_text("body { color: teal }\n")

    _, again = desk.render("--copy-templates")
    _, after = desk.render()

    assert (again["copied"], before["made"], after["made"]) == ([], 1, 1)
    assert style.read_text() == "body { color: teal }\n"
    (page,) = desk.out.rglob("*-*.html")
    assert "<style>body { color: teal }\n</style>" in page.read_text()


def test_a_shipped_template_that_was_copied_and_not_changed_makes_no_new_transcript(desk):
    desk.add(FIRST)
    desk.render()
    desk.render("--copy-templates")

    _, result = desk.render()

    assert (result["made"], result["written"]) == (0, [])


def test_the_stamp_changes_with_what_is_imported_and_with_the_templates(desk):
    desk.add(FIRST)
    before = read_stamp(desk.workspace)
    assert read_stamp(desk.workspace) == before

    desk.add(SECOND)
    imported = read_stamp(desk.workspace)
    desk.render("--copy-templates")

    assert len({before, imported, read_stamp(desk.workspace)}) == 3


def test_a_format_is_one_of_two():
    assert [str(form) for form in Format] == ["md", "html"]


@pytest.mark.parametrize("place", ["", "docs", "docs/transcript/x", "calls"])
def test_the_store_is_no_place_for_transcripts(desk, capsys, place):
    desk.add(FIRST)
    desk.out = desk.folder / "data" / place

    code = main(["render", "--data-root", str(desk.folder / "data"), "--out", str(desk.out)])

    assert code == 1
    assert "is a part of the store" in capsys.readouterr().err


def test_nothing_imported_is_an_empty_index(desk):
    code, result = desk.render()

    assert (code, result["views"], result["written"]) == (0, 0, ["index.html"])


@pytest.mark.slow
def test_watching_renders_again_when_the_archive_changes_and_ends_when_asked(desk):
    desk.add(FIRST)
    command = [
        sys.executable, "-m", "pipeline.cli", "render", "--watch", "--json",
        "--data-root", str(desk.folder / "data"), "--config-root", str(desk.folder / "config"), "--out", str(desk.out),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert process.stdout is not None
        first = read_json(process.stdout)
        (desk.folder / "config" / "transcripts").mkdir(parents=True)
        template = desk.folder / "config" / "transcripts" / "html.j2"
        template.write_text("{% if")
        assert process.stderr is not None
        told = process.stderr.readline()
        mistake = process.stderr.readline()
        template.unlink()
        read_json(process.stdout)
        desk.add(SECOND)
        second = read_json(process.stdout)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert (first["views"], second["views"]) == (1, 2)
    assert "Ctrl-C ends it" in told
    assert "The configuration has 1 mistake" in mistake
    assert len(desk.list_pages()) == 2
    assert process.returncode == 130


def read_json(stream) -> dict:
    """Return the next JSON object of a stream that goes on."""
    text = ""
    for line in stream:
        text += line
        if line == "}\n":
            return json.loads(text)
    raise AssertionError(f"the stream ended after {text!r}")
