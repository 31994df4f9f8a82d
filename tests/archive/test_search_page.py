"""What docs/search.md says is true: its tables, its queries, its commands' fields; in plain SQLite, too."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.search.index import INDEX_FILE, update_index
from pipeline.archive.views import count_usage, walk_views
from pipeline.library import Library
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.archive.imported_store import folder, ids_by_title, imported, run, run_json
from tests.pipeline.built_store import build, make_roots
from tests.programs import BIN, ROOT
from tests.programs import run as run_program
from tests.test_documentation import documented_fields

__all__ = ["folder", "imported"]

PAGE = (ROOT / "docs" / "search.md").read_text()
MODEL_USAGE, LINEAGE, LATEST, TOKENS, SHARED, WORDS = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def ask(data: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(data / INDEX_FILE)
    rows = connection.execute(statement).fetchall()
    connection.close()
    return rows


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A store in which the experiment was built twice, the second time with another model's name of one template."""
    roots = make_roots(tmp_path_factory.mktemp("experiment"))
    build(roots)
    workspace = Workspace(roots)
    update_index(workspace)
    return workspace


def test_every_table_of_the_index_is_on_the_page(experiment):
    section = PAGE[PAGE.index("| table |") : PAGE.index("`documents_fts`")]
    listed = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    found = ask(experiment.roots.data, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%_fts%'")

    assert {name for (name,) in found} == listed


def test_the_columns_of_documents_are_the_fields_of_metadata(experiment):
    columns = ask(experiment.roots.data, "SELECT name FROM pragma_table_info('documents')")
    library = Library(experiment.roots.data)
    essay = next(library.walk("essay"))

    for name in {name for (name,) in columns} - {"size_bytes", "problem", "text", "score"}:
        ((value,),) = ask(experiment.roots.data, f"SELECT {name} FROM documents WHERE doc_id = '{essay.doc_id}'")
        assert value == essay.metadata.get(name), name
    ((text, size),) = ask(
        experiment.roots.data, f"SELECT text, size_bytes FROM documents WHERE doc_id = '{essay.doc_id}'"
    )
    assert text == library.read_parsed(essay)
    assert size == sum(record["size_bytes"] for record in essay.metadata["files"].values())


def test_usage_by_model_counts_each_answer_once(experiment):
    answers: dict[str, dict[Any, Any]] = {}
    for document in Library(experiment.roots.data).walk():
        metadata = document.metadata
        if metadata.get("call_id"):
            answers.setdefault(metadata["model"], {})[metadata["call_id"], metadata["attempt"]] = metadata
    expected = [
        (
            model,
            len(found),
            *(sum(one[name] for one in found.values()) for name in ("prompt_tokens", "completion_tokens")),
            sum(one["cost_usd"] for one in found.values()),
        )
        for model, found in sorted(answers.items())
    ]

    assert ask(experiment.roots.data, MODEL_USAGE) == expected
    assert len(expected) == 2


def test_the_lineage_of_a_document_is_one_query(experiment):
    evaluation = next(Library(experiment.roots.data).walk("evaluation"))
    rows = ask(experiment.roots.data, LINEAGE.replace("7k3f", evaluation.doc_id))

    node, expected = run_json_of(experiment.roots, evaluation.doc_id), []
    while node:
        expected.append((node["stage"], node["doc_id"]))
        node = node["parents"][0] if node["parents"] else None
    assert [(stage, doc_id) for _, stage, doc_id, *_ in rows] == expected
    assert [stage for stage, _ in expected] == ["evaluation", "essay", "draft"]


def run_json_of(roots: Roots, doc_id: str) -> Any:
    from pipeline.looking import describe_lineage

    return describe_lineage(Workspace(roots), doc_id)


def test_the_latest_documents_are_those_of_the_library(experiment):
    library = Library(experiment.roots.data)
    rows = ask(experiment.roots.data, LATEST)

    assert len(rows) > 20
    for stage, task_id, doc_id, created_at in rows:
        latest = library.read_latest(stage, task_id)
        assert (latest.doc_id, latest.metadata["created_at"]) == (doc_id, created_at)


def test_tokens_of_the_archive_are_those_of_its_views(folder):
    workspace = Workspace(Roots(folder / "data", folder / "config"))
    update_index(workspace)
    expected = [
        (provider, model, usage.input_tokens, usage.output_tokens)
        for (provider, model), usage in sorted(count_usage(walk_views(workspace)).items())
    ]

    found = [(provider, model, *tokens) for provider, model, _, *tokens in ask(folder / "data", TOKENS)]

    assert found == expected == [("claude_code", "claude-opus-4", 10, 5)]


def test_queries_over_words_and_files_run(folder):
    run(folder, "conversations")

    assert ask(folder / "data", SHARED) == []
    titles = {title for title, *_ in ask(folder / "data", WORDS)}
    assert titles == {"Tide tables"}


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="the program sqlite3 is not installed")
def test_the_index_opens_in_plain_sqlite(folder):
    run(folder, "conversations")

    done = subprocess.run(
        ["sqlite3", "data/index.sqlite", WORDS], cwd=folder, capture_output=True, text=True, check=True
    )

    assert "Tide tables|assistant|The [tide] is low at noon." in done.stdout


def test_a_full_text_index_has_the_form_by_which_datasette_finds_it(experiment):
    for table in ("documents", "conversations", "messages"):
        ((statement,),) = ask(
            experiment.roots.data, f"SELECT sql FROM sqlite_master WHERE name = '{table}_fts' AND rootpage = 0"
        )
        assert "VIRTUAL TABLE" in statement
        assert "USING fts" in statement
        assert f'content="{table}"' in statement


def test_documents_of_experiments_are_found_by_their_words(experiment):
    """By what they say, and not by their prompts: those of evaluations hold the word, too."""
    folder = experiment.roots.data.parent
    found = run_json(folder, "search", "castle", "--in", "documents", "--limit", "100")["hits"]
    lines = run(folder, "search", "castle", "--limit", "1").stdout.splitlines()

    assert {hit["stage"] for hit in found} == {"draft", "essay"}
    assert lines[0].startswith(f"{found[0]['stage']} {found[0]['doc_id']} · {found[0]['task_id']} · ")


def test_the_documented_fields_are_those_that_are_printed(folder):
    name = ids_by_title(folder)["Tide tables"]
    made = run_json(folder, "concepts", "from-archive", "noon")

    assert set(run_json(folder, "search", "tide")) == documented_fields("search")
    assert set(run_json(folder, "conversations")[0]) == documented_fields("conversations")
    assert set(run_json(folder, "tag", name)) == documented_fields("tag")
    assert set(run_json(folder, "note", name)) == documented_fields("note")
    assert set(made) == documented_fields("concepts")
    hit = run_json(folder, "search", "tide")["hits"][0]
    section = (ROOT / "docs" / "commands.md").read_text().split("- `search`: ")[1].split("\n- ")[0]
    assert set(hit) <= set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", section))))


@pytest.mark.slow
def test_every_command_of_the_page_runs(folder):
    """7k3f and 2m4b stand for conversations, a1 for a message of the first."""
    ids = ids_by_title(folder)
    names = {"7k3f": ids["Tide tables"], "2m4b": ids["Knots that hold"]}
    run(folder, "tag", ids["Tide tables"], "+to-read")
    commands = [line.partition("#")[0].strip() for line in re.findall(r"^    (daybook .*)$", PAGE, re.MULTILINE)]
    assert len(commands) >= 12

    for command in commands:
        typed = re.sub("|".join(names), lambda match: names[match[0]], command)
        run_program(folder, "bash", "-c", typed, PATH=f"{BIN}:{os.environ['PATH']}")
