"""ChatGPT's exports imported as people have them, one after another, and seen as views."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.conversations import Kind
from pipeline.archive.importing import import_again, import_paths
from pipeline.archive.views import View, walk_views
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.archive.chatgpt_chats import NOON, list_blocks, make_chat, make_message, make_node
from tests.archive.members import SAMPLES

FOLDER = SAMPLES / "chatgpt"
EXPORTS = ("composed_classic.zip", "composed_sharded.zip", "composed_dat.zip")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


def write_zip(path: Path, files: dict[str, Any]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return str(path)


def read_views(workspace: Workspace) -> dict[str | None, View]:
    return {view.conversation.title: view for view in walk_views(workspace)}


def count(view: View) -> tuple[int, int]:
    messages = view.conversation.messages
    return len(messages), sum(message.is_active for message in messages)


def test_a_conversation_in_two_shards_is_one(workspace, tmp_path):
    first = make_chat(make_message("user", "one"), make_message("assistant", "two"))
    second = make_chat(make_message("user", "one"), update_time=NOON + 9, current_node="m3")
    second["mapping"]["m3"] = make_node("m3", "m1", make_message("assistant", "another"))
    path = write_zip(tmp_path / "e.zip", {"conversations-000.json": [first], "conversations-001.json": [second]})

    coverage = import_paths(workspace.data, [path]).as_json()

    (view,) = walk_views(workspace)
    assert coverage["totals"]["seen"] == coverage["totals"]["imported"] == 2
    assert sorted(message.key for message in view.conversation.messages) == ["m1", "m2", "m3"]
    assert view.conversation.active_leaf == "m3"


def test_a_wrapped_folder_with_every_kind_of_file_imports_without_a_skip(workspace, tmp_path):
    folder = tmp_path / "My export"
    folder.mkdir()
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1", "size_bytes": 4}
    chat = make_chat(make_message("user", {"content_type": "multimodal_text", "parts": [picture]}))
    for name, content in {
        "renamed.txt": json.dumps([chat]),
        "also renamed": json.dumps({"id": "user-1", "email": "x"}),
        "file_1-picture.png": "\x89PNG",
        "chat.html": "<html><script>var jsonData = 1</script></html>",
    }.items():
        (folder / name).write_text(content, "latin-1")

    coverage = import_paths(workspace.data, [str(folder)])

    (view,) = walk_views(workspace)
    assert not coverage.has_skipped
    assert view.conversation.account == "user-1"
    (block,) = list_blocks(view.conversation, Kind.ATTACHMENT)
    assert block.attachment is not None
    assert workspace.data.documents.read("export", str(block.attachment.export)).read_bytes("content.bin") == b"\x89PNG"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the samples of chats are not beside the repository")
@pytest.mark.parametrize("order", [EXPORTS, EXPORTS[::-1]], ids=" ".join)
def test_the_samples_give_the_same_views_in_whatever_order_they_come(order, workspace):
    for name in order:
        coverage = import_paths(workspace.data, [str(FOLDER / name)])
        assert not coverage.has_skipped

    views = read_views(workspace)
    harbour, logo = views["Harbour photo: which port?"], views['Logo / "draft": v1']
    assert len(views) == 8
    assert views["Packing list"].is_gone
    assert count(harbour) == (15, 12)
    (image,) = list_blocks(logo.conversation, Kind.ATTACHMENT)
    assert image.attachment is not None
    assert image.attachment.status == "present"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the samples of chats are not beside the repository")
def test_a_second_import_changes_nothing(workspace):
    paths = [str(FOLDER / name) for name in EXPORTS]
    import_paths(workspace.data, paths)
    before = sorted(workspace.data.documents.list_ids("conversation"))

    totals = import_paths(workspace.data, paths).as_json()["totals"]

    assert (totals["imported"], totals["seen"]) == (0, totals["unchanged"])
    assert import_again(workspace.data).as_json()["totals"]["imported"] == 0
    assert sorted(workspace.data.documents.list_ids("conversation")) == before
