"""Every sample of a provider's export becomes pages that hold together; and the Luigi task makes them, too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.importing import import_paths
from pipeline.archive.views import walk_views
from pipeline.cli import main
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from tests.archive.pages import Page, list_dangers, show_markdown
from tests.archive.test_import_commands import SAMPLES, elsewhere, export, run_luigi  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path) -> DataRoot:
    if not SAMPLES.is_dir():
        pytest.skip("the samples are not beside the repository")
    data = DataRoot(tmp_path / "data")
    import_paths(data, sorted(str(path) for path in SAMPLES.glob("*/*")))
    return data


def render(data: DataRoot, capsys, *words: str) -> dict[str, Any]:
    out = data.path.parent / "out"
    assert main(["render", "--data-root", str(data.path), "--out", str(out), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_sample_becomes_pages_without_a_dead_link_or_a_danger(data, capsys, tmp_path):
    result = render(data, capsys)
    render(data, capsys, "--format", "md")
    count = len(list(walk_views(Workspace(Roots(data.path, tmp_path / "config")))))

    assert (result["failures"], result["views"]) == ([], count)
    pages = [path for path in (tmp_path / "out").rglob("*") if path.suffix == ".html" or path.suffix == ".md"]
    transcripts = [path for path in pages if not path.parent.name.endswith(".files") and path.name != "index.html"]
    assert len(transcripts) == 2 * count
    for path in transcripts:
        source = path.read_text()
        shown = source if path.suffix == ".html" else show_markdown(source)
        page = Page(shown)
        assert list_dangers(shown) == [], path.name
        links = page.list_values("href", "src")
        assert {link[1:] for link in links if link.startswith("#")} <= set(page.list_values("id")), path.name
        beside = [link for link in links if not link.startswith(("#", "http", "data:"))]
        assert [link for link in beside if not (path.parent / link).is_file()] == [], path.name


def test_what_is_derived_comes_back_byte_for_byte(data, capsys, tmp_path):
    render(data, capsys)
    before = snapshot(data.path / "docs"), snapshot(tmp_path / "out")
    for stage in ("conversation", "transcript"):
        shutil.rmtree(data.path / "docs" / stage)

    assert main(["import", "--data-root", str(data.path), "--again", "--json"]) == 0
    capsys.readouterr()
    result = render(data, capsys)

    assert result["written"] == []
    assert (snapshot(data.path / "docs"), snapshot(tmp_path / "out")) == before


def test_the_task_makes_transcripts_and_does_nothing_twice(export, tmp_path):  # noqa: F811 - the fixture
    documents = DataRoot(tmp_path / "data").documents

    first = run_luigi(tmp_path, "Transcripts", "--path", export)
    assert "3 ran successfully" in first
    assert len(documents.list_ids("transcript")) == 2

    assert "Did not run any tasks" in run_luigi(tmp_path, "Transcripts", "--path", export)
    run_luigi(tmp_path, "Transcripts", "--format", "md")
    assert len(documents.list_ids("transcript")) == 4
