"""The commands that check, as a person types them: exit codes, texts, and an edited table through Luigi."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.programs import run, run_json
from tests.test_command_line import count_attempts, folder, list_documents, read_texts
from tests.trial_folder import COHORT

__all__ = ["folder"]


def table_of(folder: Path, stage: str) -> Path:
    return folder / "data" / "tasks" / COHORT / f"{stage}_tasks.csv"


def remove_last_rows(path: Path, count: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-count]))


def test_an_edited_table_is_built_as_it_is_and_a_second_build_does_nothing(folder):
    run(folder, "daybook", "plan", COHORT)
    remove_last_rows(table_of(folder, "draft"), 4)
    table = table_of(folder, "draft").read_bytes()

    plan = run_json(folder, "plan", COHORT)
    built = run_json(folder, "build", COHORT)
    luigi = run(folder, "luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler")

    assert plan["edited"] == ["draft"]
    assert built["complete"]
    assert built["made"] == {"draft": 2, "essay": 4, "evaluation": 8, "report": 1}
    assert "Did not run any tasks" in luigi.stdout + luigi.stderr
    assert table_of(folder, "draft").read_bytes() == table
    assert len(table_of(folder, "evaluation").read_text().splitlines()) == 1 + 8
    assert "draft_tasks.csv was edited by hand" in run(folder, "daybook", "plan", COHORT).stdout
    assert "nothing to do" in run(folder, "daybook", "build", COHORT).stdout


def test_a_curated_document_is_judged_by_luigi_and_an_edit_can_be_set_aside(built_folder):
    curated = table_of(built_folder, "essay").read_text().splitlines()[-1].split(",")[0]
    template = built_folder / "config" / "templates" / "essay" / "letter.txt"
    template.write_text(template.read_text() + "Keep it short.\n")
    run(built_folder, "daybook", "plan", COHORT)
    with table_of(built_folder, "essay").open("a") as table:
        table.write(f"{curated},,,,,,,,\n")

    built = run_json(built_folder, "build", COHORT)
    aside = run(built_folder, "daybook", "plan", COHORT, "--from-config")
    again = run_json(built_folder, "build", COHORT)

    assert built["complete"]
    assert built["made"] == {"essay": 6, "evaluation": 12, "report": 1}
    (kept,) = (built_folder / "data" / "quarantine" / "tables" / COHORT).iterdir()
    assert str(kept.relative_to(built_folder)) in aside.stderr
    assert curated not in table_of(built_folder, "essay").read_text()
    assert again["made"] == {"report": 1}


def test_an_edited_table_with_a_mistake_stops_the_build_before_anything_is_made(folder):
    run(folder, "daybook", "plan", COHORT)
    path = table_of(folder, "draft")
    path.write_text(path.read_text().replace(",echo,", ",eco,"))

    refused = run(folder, "daybook", "build", COHORT, code=1)
    validated = run(folder, "daybook", "validate", COHORT, code=1)

    for shown in (refused.stderr, validated.stdout):
        assert "draft_tasks.csv, line 2: unknown model 'eco'." in shown
    assert list_documents(folder) == set()
    assert count_attempts(folder) == 0


def test_validate_says_that_there_is_no_mistake(folder):
    assert "no task tables yet" in run(folder, "daybook", "validate", COHORT, code=1).stderr
    run(folder, "daybook", "plan", COHORT)

    assert run(folder, "daybook", "validate", COHORT).stdout.endswith(f"{COHORT}: no mistake.\n")
    assert "draft_tasks.csv: no mistake." in run(folder, "daybook", "validate", str(table_of(folder, "draft"))).stdout
    assert "Expected a file named" in run(folder, "daybook", "validate", "notes.csv", code=1).stderr


def test_a_rebuild_shows_the_first_difference_and_exits_with_1(built_folder):
    assert "is the same, byte for byte" in run(built_folder, "daybook", "rebuild", "--all", "--check").stdout
    essay = next((built_folder / "data" / "docs" / "essay").glob("[0-9a-z]*"))
    content = (essay / "parsed.txt").read_bytes()
    (essay / "parsed.txt").unlink()
    (essay / "parsed.txt").write_bytes(content[:30] + b"#" + content[31:])

    shown = run(built_folder, "daybook", "rebuild", COHORT, "--check", code=1).stdout

    assert f"different: essay {essay.name}: parsed.txt: byte 30, line " in shown
    assert "stored:  " in shown
    assert "rebuilt: " in shown


def test_a_rebuild_makes_what_is_missing_without_a_model_unless_it_only_checks(built_folder):
    before, attempts = read_texts(built_folder), count_attempts(built_folder)
    shutil.rmtree(built_folder / "data" / "docs" / "essay")

    checked = run_json(built_folder, "rebuild", COHORT, "--check", code=1)
    assert checked["documents"]["essay"]["missing"] == 12
    made = run_json(built_folder, "rebuild", COHORT)

    assert len(made["made"]) == 12
    assert made["same"]
    assert read_texts(built_folder) == before
    assert count_attempts(built_folder) == attempts


def test_pointers_are_verified_and_made_again(built_folder):
    assert run_json(built_folder, "pointers", "verify") == {"drifts": []}
    paths = sorted((built_folder / "data" / "docs").glob("*/_by_task/*/*.json"))
    before = {path: path.read_bytes() for path in paths}
    assert len(before) == 43
    shutil.rmtree(built_folder / "data" / "docs" / "draft" / "_by_task")

    shown = run(built_folder, "daybook", "pointers", "verify", code=1).stdout
    rebuilt = run_json(built_folder, "pointers", "rebuild")

    assert "6 pointers to be made again: daybook pointers rebuild." in shown
    assert rebuilt == {"kept": 37, "written": 6, "removed": 0, "unreadable": 0}
    assert {path: path.read_bytes() for path in paths} == before
