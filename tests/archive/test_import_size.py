"""Big exports: in bounded memory, and without recursion."""

from __future__ import annotations

import json

import pytest

from benchmarks import archive
from benchmarks.chat_export import write_export
from benchmarks.measure import measure_python
from pipeline.archive.importing import import_paths
from pipeline.archive.views import walk_views
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.archive.notebooks import NotebookImporter
from tests.archive.test_import_commands import make_chat

MANY_MESSAGES = 20_000


@pytest.mark.slow
def test_a_conversation_of_20000_messages_in_a_chain_is_imported_and_viewed(tmp_path):
    path = tmp_path / "long.json"
    path.write_text(json.dumps([make_chat(1, *(f"message {number}" for number in range(MANY_MESSAGES)))]))
    workspace = Workspace(Roots(tmp_path / "data", tmp_path / "config"))

    coverage = import_paths(workspace.data, [str(path)])

    assert coverage.as_json()["totals"]["imported"] == 1
    (view,) = walk_views(workspace)
    assert sum(message.is_active for message in view.conversation.messages) == MANY_MESSAGES


def test_two_versions_of_a_long_conversation_are_merged(tmp_path):
    workspace = Workspace(Roots(tmp_path / "data", tmp_path / "config"))
    for count in (3000, 4000):
        lines = [{"id": f"m{number}", "by": "user", "text": "x"} for number in range(count)]
        path = tmp_path / f"{count}.json"
        path.write_text(json.dumps([{"id": "long", "lines": lines, "updated": f"{count}-01-01T00:00:00Z"}]))
        import_paths(workspace.data, [str(path)], importers=[NotebookImporter()])

    (view,) = walk_views(workspace)
    assert len(view.conversation.messages) == 4000
    assert not any(message.is_gone for message in view.conversation.messages)


@pytest.mark.slow
def test_an_export_of_200_megabytes_is_imported_in_less_than_300_megabytes_of_memory(tmp_path):
    with (tmp_path / "conversations.json").open("wb") as file:
        conversations = write_export(file, 200_000_000)

    words = (str(tmp_path / "conversations.json"), str(tmp_path / "data"))
    first = json.loads(measure_python("benchmarks.archive_run", "import", *words).output)
    second = json.loads(measure_python("benchmarks.archive_run", "again", *words).output)

    assert (first["imported"], second["imported"]) == (conversations, 0)
    assert max(first["peak_bytes"], second["peak_bytes"]) < archive.PEAK_BYTES


def test_equal_sizes_give_equal_exports(tmp_path):
    for name in ("a", "b"):
        with (tmp_path / name).open("wb") as file:
            assert write_export(file, 300_000) > 1

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert isinstance(json.loads((tmp_path / "a").read_bytes()), list)
