"""docs/transcripts.md says what is so: its commands run, its tables name what there is, its limits hold."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.archive.render_commands import add_render
from pipeline.archive.transcripts import (
    TEMPLATE_NAMES,
    Format,
    _make_environment,
    markdown_texts,
    pieces,
    read_template,
    render_transcript,
    safe_html,
)
from pipeline.archive.transcripts.pieces import Piece, ShownAttachment
from pipeline.archive.transcripts.turns import Options, Page, Turn
from pipeline.cli import main
from tests.archive.made_views import make_view, open_documents, say
from tests.archive.test_import_commands import make_chat

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "transcripts.md").read_text()
FILTERS_OF_ALL_TEMPLATES = {"markdown", "code", "line", "when", "number"}


def read_rows(head: str) -> dict[str, str]:
    """Return {first cell: second cell} of a table."""
    table = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0]
    rows = [re.split(r"(?<!\\) ?\|", line.strip("|")) for line in table.split("\n")[2:]]
    return {row[0].strip().replace("\\|", "|"): row[1].strip() for row in rows}


def list_words(cell: str) -> set[str]:
    return set(" ".join(re.findall("`([^`]*)`", cell)).split())


def test_every_option_of_the_command_is_documented():
    parser = argparse.ArgumentParser()
    add_render(parser.add_subparsers())
    (render,) = (action.choices["render"] for action in parser._actions if isinstance(action.choices, dict))
    options = {option for action in render._actions for option in action.option_strings if option.startswith("--")}

    documented = {row.strip("`").split()[0] for row in read_rows("option")}

    assert documented == options - {"--help", "--json", "--data-root", "--config-root"}


def test_the_variables_of_templates_are_those_that_are_documented(tmp_path):
    folder = tmp_path / "transcripts"
    folder.mkdir()
    (folder / "markdown.j2").write_text("{{ facts.keys() | list | tojson }}")
    documents = open_documents(tmp_path)
    rendered = render_transcript(
        documents, make_view(say("u1", "x")), read_template(tmp_path, Format.MARKDOWN), Options()
    )

    rows = read_rows("variable")

    assert list_words(rows["`facts`"]) == set(json.loads(rendered.content))
    assert list_words(rows["`page`"]) == {*Page._fields, "is_empty"}
    assert list_words(rows["each turn"]) == {each.name for each in fields(Turn)}
    assert list_words(rows["each piece"]) == set(Piece._fields)
    assert list_words(rows["each attachment"]) == set(ShownAttachment._fields)


@pytest.mark.parametrize("variable", ["provider_name", "front_matter", "style", "policy", "facts", "page"])
def test_each_variable_is_there_in_both_formats(tmp_path, variable):
    folder = tmp_path / "transcripts"
    folder.mkdir()
    for form, name in ((Format.MARKDOWN, "markdown.j2"), (Format.HTML, "html.j2")):
        (folder / name).write_text(f"{{{{ {variable} is defined }}}}")

        rendered = render_transcript(
            open_documents(tmp_path), make_view(say("u1", "x")), read_template(tmp_path, form), Options()
        )

        assert rendered.content == b"True\n"
        assert f"`{variable}`" in PAGE


def test_the_filters_of_templates_are_those_that_are_documented():
    documented = {re.search(r"\| ?(\w+)", row)[1] for row in read_rows("filter")}
    own = [set(_make_environment(form, ()).filters) for form in Format]

    assert documented == FILTERS_OF_ALL_TEMPLATES
    assert own[0] == own[1]
    assert own[0] >= FILTERS_OF_ALL_TEMPLATES
    assert not own[0] & {"random"}


def test_the_templates_that_are_copied_are_those_that_are_documented():
    assert all(f"`{name}`" in PAGE for name in TEMPLATE_NAMES)


def test_the_limits_are_those_of_the_program():
    assert f"{pieces.RESULT_LINES} lines or {pieces.RESULT_CHARACTERS:,} characters" in PAGE
    assert f"more than {markdown_texts.PARSED_CHARACTERS:,} characters" in PAGE
    assert (
        f"up to {safe_html.HIGHLIGHTED_CHARACTERS:,} characters and lines up to {safe_html.HIGHLIGHTED_LINE:,}" in PAGE
    )
    assert markdown_texts.HEADING_SHIFT == 2


def test_the_commands_run_and_place_files_with_names_as_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("DAYBOOK_DATA_ROOT", "DAYBOOK_CONFIG_ROOT", "LUIGI_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    Path("chats.json").write_text(json.dumps([make_chat(1, "hello")]))
    main(["import", "chats.json", "--json"])
    capsys.readouterr()
    commands = [shlex.split(line) for line in re.findall(r"^    \$ daybook (.*?)(?:  .*)?$", PAGE, re.MULTILINE)]
    assert len(commands) == 5

    for command in commands[:2]:
        assert main(command) == 0

    placed = sorted(str(path) for path in Path("data/transcripts").rglob("*.html"))
    assert re.fullmatch(r"data/transcripts/chatgpt/20\d\d/20\d\d-\d\d-\d\d-chat-1-[0-9a-z]{10}\.html", placed[0])
    assert placed[1] == "data/transcripts/index.html"
    assert len(list(Path("notes").rglob("*.md"))) == 1


def test_the_json_fields_are_documented(tmp_path, capsys):
    page = (ROOT / "docs" / "commands.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| `daybook render"))
    cells = re.findall("`([^`]*)`", re.split(r"(?<!\\)\|", row)[-2])
    roots = ["--data-root", str(tmp_path / "data"), "--config-root", str(tmp_path / "config"), "--json"]

    main(["render", *roots])
    rendered = json.loads(capsys.readouterr().out)
    main(["render", "--copy-templates", *roots])
    copied = json.loads(capsys.readouterr().out)

    assert cells == [" ".join(rendered), "--copy-templates", " ".join(copied)]
