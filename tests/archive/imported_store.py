"""A folder in whose data the two small exports are, and commands that run in it, in this process.

run(folder, "search", "tide").stdout; run_json(folder, "conversations")
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.cli import main
from tests.archive.small_exports import write_exports


class Printed(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    write_exports(folder)
    run(folder, "import", "exports")
    return folder


@pytest.fixture
def folder(imported, tmp_path) -> Path:
    """A folder of one's own with the two conversations in its data."""
    shutil.copytree(imported / "data", tmp_path / "data")
    return tmp_path


def run(folder: Path, *words: str, code: int = 0) -> Printed:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        found = main(words)
    printed = Printed(output.getvalue(), errors.getvalue())
    assert found == code, printed
    return printed


def run_json(folder: Path, *words: str, code: int = 0) -> Any:
    return json.loads(run(folder, *words, "--json", code=code).stdout)


def ids_by_title(folder: Path) -> dict[str, str]:
    return {found["title"]: found["id"] for found in run_json(folder, "conversations")}
