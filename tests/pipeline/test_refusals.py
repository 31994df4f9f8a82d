"""What people read when a command cannot do what it was told: one sentence, never a traceback, and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import comparison, printing
from pipeline.cli import main
from pipeline.settings import Roots
from tests.pipeline.built_store import copy_store


@pytest.fixture
def store(built: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a built store, in which commands are typed."""
    copy_store(built, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["verify", "repair", "gc", "log", "pointers verify"])
def test_a_store_that_is_not_there_is_not_called_clean(command, store, capsys):
    assert main([*command.split(), "--data-root", "dta", "--json"]) == 1

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "There is no data folder dta. Expected the --data-root of a store that exists.\n"


def test_a_folder_that_the_system_refuses_is_told_without_a_traceback(store, capsys):
    for path in sorted((store / "data" / "docs").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (store / "data" / "docs").rmdir()
    (store / "data" / "docs").write_text("a file in its place")

    assert main(["status"]) == 1

    told = capsys.readouterr()
    assert told.err == "data/docs: Not a directory. Mend that, and type the same command again.\n"


def test_an_interrupted_verification_says_how_it_goes_on(store, capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(printing, "ProgressLine", lambda _: interrupt)
    monkeypatch.setattr(comparison, "BATCH_SIZE", 1)

    assert main(["verify"]) == 130

    assert "daybook verify --resume goes on from there" in capsys.readouterr().err
    assert json.loads((store / "data" / ".verification.json").read_bytes())["document"]


def test_a_failed_check_says_what_can_be_typed_next(store, capsys):
    main(["lock", "first"])
    template = store / "config" / "templates" / "essay" / "plain.txt"
    template.write_text(template.read_text() + "More.")

    assert main(["check", "first"]) == 1

    assert "If new ids or bytes are meant: daybook lock first." in capsys.readouterr().out


def test_a_rebuild_of_nothing_does_not_say_that_all_is_the_same(store, capsys):
    (store / "data").rename(store / "moved")

    assert main(["rebuild", "first", "--check"]) == 0

    assert "Nothing was made again, so nothing was compared." in capsys.readouterr().out


def test_damage_leads_to_repair(store, capsys):
    essay = next((store / "data" / "docs" / "essay").glob("[0-9a-z]*/parsed.txt"))
    essay.chmod(0o644)
    essay.write_text("other")

    assert main(["show", essay.parent.name]) == 1

    assert "daybook repair shows what can be done" in capsys.readouterr().err


def test_what_can_only_be_left_is_not_promised_to_be_mended(store, capsys):
    for path in (store / "data" / "calls").rglob("response.bin"):
        path.chmod(0o644)
        path.write_bytes(b"other")

    assert main(["repair"]) == 2

    told = capsys.readouterr().out
    assert "daybook repair --from BUNDLE" in told
    assert "--apply" not in told
