"""A folder with good, bad and mad files: what is good is imported, what is not is named, and nothing else changes."""

from __future__ import annotations

import io
import json
import random
import socket
import zipfile
from pathlib import Path

import pytest

from pipeline.archive.importing import import_paths
from store.data_root import DataRoot
from tests.archive.test_import_commands import make_chat

RANDOM_FILES = 100


def draw_json(chooser: random.Random, depth: int = 4) -> object:
    """Return random JSON, with keys and words that importers look for."""
    words = [
        "mapping",
        "id",
        "uuid",
        "type",
        "message",
        "chat_messages",
        "role",
        "user",
        "content",
        "parts",
        "text",
        "\ud83d",
    ]
    kind = chooser.randrange(7 if depth else 5)
    if kind < 5:
        return [
            None,
            chooser.random() < 0.5,
            chooser.randint(-9, 2**70),
            chooser.random() * 1e9,
            chooser.choice(words),
        ][kind]
    if kind == 5:
        return [draw_json(chooser, depth - 1) for _ in range(chooser.randrange(5))]
    return {chooser.choice(words): draw_json(chooser, depth - 1) for _ in range(chooser.randrange(6))}


def make_bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("conversations.json", b"[" + b" " * 60_000_000 + b"]")
    return content.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    chooser = random.Random(7)
    good = json.dumps([make_chat(number, "hello", "yes", "more") for number in range(20)]).encode()
    (folder / "good.json").write_bytes(good)
    (folder / "cut.json").write_bytes(good.replace(b"chat-", b"cut-")[: len(good) // 2])
    flipped = bytearray(good.replace(b"chat-", b"bad-"))
    flipped[len(flipped) // 2] = 0
    (folder / "flipped.json").write_bytes(flipped)
    (folder / "deep.json").write_bytes(b"[" * 100_000)
    (folder / "not-utf8.json").write_bytes(b'[{"id": "\xff\xfe\xfa"}]')
    (folder / "empty.json").write_bytes(b"")
    (folder / "bomb.zip").write_bytes(make_bomb())
    (folder / "cut.zip").write_bytes(make_bomb()[:2000])
    (folder / "link.json").symlink_to("/etc/passwd")
    for number in range(RANDOM_FILES):
        (folder / f"random-{number}.json").write_text(json.dumps(draw_json(chooser)))
    return folder


def test_what_is_good_is_imported_what_is_not_is_named_and_nothing_else_changes(folder, tmp_path, monkeypatch):
    def refuse(*_arguments: object) -> None:
        raise AssertionError("an import asks no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *folder.rglob("*")]}
    data = DataRoot(tmp_path / "data")
    data.path.mkdir()
    before[tmp_path] = tmp_path.stat().st_mtime_ns

    coverage = import_paths(data, [str(folder)])

    assert coverage.list_mismatches() == []
    files = {file.name: file for file in coverage.sets[0].files}
    assert files["good.json"].imported == 20
    assert 5 <= files["cut.json"].imported < 20
    assert files["flipped.json"].imported + files["flipped.json"].unchanged >= 5
    named = {skip.place for skip in coverage.sets[0].refused} | {
        name for name, file in files.items() if file.skips or file.reason
    }
    for name in ("cut.json", "flipped.json", "deep.json", "not-utf8.json", "empty.json", "cut.zip", "link.json"):
        assert any(name in place for place in named), name
    assert any("bomb.zip" in place for place in named)
    assert len([name for name in files if name.startswith("random-")]) == RANDOM_FILES
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert list(data.temporary_folder.iterdir()) == [data.temporary_folder / "import.lock"]


def test_it_all_comes_back_the_same(folder, tmp_path):
    data = DataRoot(tmp_path / "data")
    first = import_paths(data, [str(folder)]).as_json()

    second = import_paths(data, [str(folder)]).as_json()

    assert second["totals"]["imported"] == 0
    assert second["totals"]["seen"] == first["totals"]["seen"]
    assert second["totals"]["skipped"] == first["totals"]["skipped"]
    assert len(data.documents.list_ids("conversation")) == first["totals"]["imported"]
