"""verify, repair, attempts, log and reroll as a person starts them: exit codes, fields, an interruption."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.test_verification import ATTEMPT_DAMAGES, EVALUATION_DAMAGES
from tests.programs import ROOT, run, run_json
from tests.test_command_line import folder
from tests.test_documentation import documented_fields
from tests.trial_folder import COHORT

__all__ = ["folder"]

pytestmark = pytest.mark.slow


@pytest.fixture
def built(built_folder: Path) -> Path:
    return built_folder


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(bytes(content))


def test_exit_codes_say_clean_repairable_and_lost(built):
    assert run_json(built, "verify")["state"] == "clean"
    assert run_json(built, "repair")["repairs"] == []

    essay = sorted(built.glob("data/docs/essay/*/parsed.txt"))[0]
    flip(essay)
    assert run_json(built, "verify", code=1)["state"] == "repairable"
    assert run_json(built, "verify", "--quick")["state"] == "clean"
    assert [repair["done"] for repair in run_json(built, "repair", code=1)["repairs"]] == [False]
    assert [repair["done"] for repair in run_json(built, "repair", "--apply")["repairs"]] == [True]
    assert run_json(built, "verify")["state"] == "clean"

    flip(sorted(built.glob("data/calls/*/*/*/response.bin"))[0])
    assert run_json(built, "verify", code=2)["state"] == "lost"
    assert [repair["how"] for repair in run_json(built, "repair", code=2)["repairs"]] == ["leave"]


def test_people_read_what_and_where(built):
    essay = sorted(built.glob("data/docs/essay/*/parsed.txt"))[0]
    flip(essay)

    shown = run(built, "daybook", "verify", code=1).stdout
    plan = run(built, "daybook", "repair", code=1).stdout

    assert f"docs/essay/{essay.parent.name}/parsed.txt: expected " in shown
    assert "repairable  file_altered" in shown
    assert f"restore          docs/essay/{essay.parent.name}: all its bytes can be had again" in plan
    assert "Nothing was changed." in plan


def test_the_documented_fields_are_those_that_are_printed(built):
    essay = sorted(path.name for path in built.glob("data/docs/essay/*"))[0]

    assert set(run_json(built, "verify")) == documented_fields("verify")
    assert set(run_json(built, "repair")) == documented_fields("repair")
    assert set(run_json(built, "attempts", essay)) == documented_fields("attempts")
    assert set(run_json(built, "reroll", essay)) == documented_fields("reroll")
    assert {"at", "event"} <= set(run_json(built, "log")[0])
    assert essay in run(built, "daybook", "log", "--since", "1h").stdout
    assert "used" in run(built, "daybook", "attempts", essay).stdout


def test_a_store_that_has_lost_its_documents_is_built_again_without_a_call(built):
    shutil.rmtree(built / "data" / "docs")

    assert run_json(built, "verify", code=1)["state"] == "repairable"
    run_json(built, "repair", "--apply")

    assert run_json(built, "verify")["state"] == "clean"
    assert run_json(built, "build", COHORT)["calls"] == 0


def test_ctrl_c_leaves_a_note_and_the_same_command_goes_on(built):
    """The first progress line is the moment: it is printed once a batch here."""
    script = (
        "import os, signal, sys; from pipeline import cli, printing\n"
        "printing.ProgressLine = lambda stream: lambda progress: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(cli.main(['verify', '--json']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    ended = subprocess.run([sys.executable, "-c", script], cwd=built, capture_output=True, text=True, env=environment)

    assert ended.returncode == 128 + signal.SIGINT
    assert json.loads((built / "data" / ".verification.json").read_bytes())["document"]
    assert run_json(built, "verify", "--resume")["state"] == "clean"
    assert not (built / "data" / ".verification.json").exists()


def test_too_little_room_stops_a_build_before_a_call(folder):
    ended = run(folder, "daybook", "build", COHORT, code=1, DAYBOOK_RESERVE_MB=str(10**12))

    assert "MB free" in ended.stdout + ended.stderr
    assert list(folder.glob("data/calls/*/*/*")) == []
    assert "Expected a whole number" in run(folder, "daybook", "status", code=1, DAYBOOK_RESERVE_MB="much").stderr


def test_every_kind_that_is_found_is_documented():
    page = (ROOT / "docs" / "verify.md").read_text()
    documented = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    kinds = {kind for _, found in [*EVALUATION_DAMAGES.values(), *ATTEMPT_DAMAGES.values()] for kind, _, _ in found}
    code = "".join((ROOT / "pipeline" / name).read_text() for name in ("checks.py", "comparison.py"))

    assert kinds | set(re.findall(r'Finding\(\s*"(\w+)"', code)) <= documented
