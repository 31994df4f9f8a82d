"""Every sample, a damaged copy of each, a bomb and random files: what is good comes in, and the rest is named."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.identity import hash_bytes
from tests.archive.members import SAMPLES

SEED = 20
RANDOM_FILES = 100
BOMB_BYTES = 64 * 2**20  # deflated to about a thousandth
SKIPPED = 33


def run_daybook(*words: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words, "--data-root", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )


def hash_tree(folder: Path) -> dict[str, str]:
    """Return {path: hash} of all files but the notes that rendering keeps about times of files."""
    return {
        str(path.relative_to(folder)): hash_bytes(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != ".daybook"
    }


def damage(content: bytes, chance: random.Random) -> bytes:
    """Cut the last quarter off, and change a few bytes of the rest."""
    damaged = bytearray(content[: len(content) * 3 // 4])
    for _change in range(1 + len(damaged) // 2000):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(damaged)


def make_json(chance: random.Random, depth: int = 0) -> object:
    """Return any JSON, with names that the formats use, so that some of it is taken for theirs."""
    names = ["mapping", "chat_messages", "messages", "type", "uuid", "id", "parts", "content", "role", "chunks", "text"]
    kind = chance.randrange(8 if depth < 5 else 5)
    if kind == 5:
        return [make_json(chance, depth + 1) for _item in range(chance.randrange(5))]
    if kind > 5:
        return {chance.choice(names): make_json(chance, depth + 1) for _item in range(chance.randrange(6))}
    return [None, chance.random() * 1e12, chance.choice(names), chance.choice([True, False]), "\ud83d ½ \x00"][kind]


def write_everything(folder: Path) -> Iterator[Path]:
    """Write the damaged copies, the bomb and the random files into a folder; yield each."""
    chance = random.Random(SEED)
    for path in sorted(SAMPLES.rglob("*")):
        if path.is_file():
            copy = folder / "damaged" / path.relative_to(SAMPLES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(damage(path.read_bytes(), chance))
            yield copy
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bomb:
        bomb.writestr("conversations.json", bytes(BOMB_BYTES))
    yield folder / "bomb.zip"
    for number in range(RANDOM_FILES):
        path = folder / f"random-{number:03}.json"
        path.write_text(json.dumps(make_json(chance)))
        yield path


def list_documents(data: Path, stage: str) -> set[str]:
    return {entry.name for entry in os.scandir(data / "docs" / stage)}


@pytest.mark.slow
def test_what_is_good_comes_in_what_is_not_is_named_and_nothing_else_changes(tmp_path):
    if not SAMPLES.is_dir():
        pytest.skip(f"{SAMPLES} is absent: the samples are not part of the project")
    good, folder, data = tmp_path / "good", tmp_path / "all", tmp_path / "data"
    assert run_daybook("import", str(SAMPLES), data=good).returncode == 0
    shutil.copytree(SAMPLES, folder)
    added = list(write_everything(folder))
    given = hash_tree(folder)

    done = run_daybook("import", str(folder), "--json", data=data)

    assert done.returncode == SKIPPED, done.stderr
    assert "Traceback" not in done.stderr
    assert hash_tree(folder) == given
    assert list_documents(good, "conversation") <= list_documents(data, "conversation")
    assert [path.name for path in (data / ".tmp").iterdir()] == ["import.lock"]
    for path in added:
        assert path.name in done.stdout
    before = hash_tree(data / "docs")
    again = run_daybook("import", str(folder), "--json", data=data)
    assert again.returncode == SKIPPED
    assert hash_tree(data / "docs") == before


@pytest.mark.slow
def test_what_was_made_from_the_exports_comes_back_byte_for_byte(tmp_path):
    if not SAMPLES.is_dir():
        pytest.skip(f"{SAMPLES} is absent: the samples are not part of the project")
    data, site = tmp_path / "data", tmp_path / "site"
    run_daybook("import", str(SAMPLES), data=data)
    run_daybook("render", "--format", "html", "--out", str(site), data=data)
    run_daybook("search", "harbour", data=data)
    found = run_daybook("search", "harbour", "--json", data=data).stdout
    before, pages = hash_tree(data / "docs"), hash_tree(site)
    for stage in ("conversation", "transcript"):
        shutil.rmtree(data / "docs" / stage)
    (data / "index.sqlite").unlink()
    shutil.rmtree(site)

    assert run_daybook("import", str(SAMPLES), data=data).returncode == 0
    run_daybook("render", "--format", "html", "--out", str(site), data=data)

    assert hash_tree(data / "docs") == before
    assert hash_tree(site) == pages
    assert run_daybook("search", "harbour", "--json", data=data).stdout == found
