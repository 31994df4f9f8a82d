"""A lock says what a cohort gave; a check says whether it still does, how far it looked, and why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.checking import LEVELS, check_cohort, lock_cohort
from pipeline.cli import CHECK_LEVELS
from pipeline.errors import InputInvalid
from pipeline.lock_files import LockFile, format_lock, lock_path, read_lock
from pipeline.making import make_document
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.stages import STAGE_RULES, Stage
from pipeline.workspace import Workspace
from store.errors import DocumentCorrupt
from tests.pipeline.built_store import copy_store
from tests.pipeline.config_folder import edit, write_config

COHORT = "first"
JUDGE = "Judge this:\n{{ response }}\nSCORE: 7\n"


@pytest.fixture(scope="module")
def locked_once(tmp_path_factory) -> Roots:
    workspace = open_workspace(tmp_path_factory.mktemp("locked"))
    for plan in workspace.plan(COHORT).walk():
        make_document(workspace.maker, plan, cohort=COHORT)
    make_report(workspace, COHORT)
    lock_cohort(workspace, COHORT)
    return workspace.roots


@pytest.fixture
def workspace(locked_once, tmp_path) -> Workspace:
    """A complete cohort with its report, locked."""
    return Workspace(copy_store(locked_once, tmp_path))


def open_workspace(folder: Path, changes=None) -> Workspace:
    write_config(folder, {"templates/evaluation/clarity.txt": JUDGE, **(changes or {})})
    return Workspace(Roots(folder / "data", folder / "config"))


def path_of(workspace: Workspace) -> Path:
    return lock_path(workspace.roots.config, COHORT)


def remove_data(workspace: Workspace) -> None:
    shutil.rmtree(workspace.roots.data)


def overwrite(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


# Lock


def test_a_lock_has_a_line_for_each_document_and_each_ingredient_sorted_and_no_other(workspace):
    lines = path_of(workspace).read_text().splitlines()
    plan = workspace.plan(COHORT)

    documents = [line for line in lines if line.split()[0] in tuple(Stage)]
    assert lines[0] == "daybook lock 1"
    assert len(documents) == sum(map(len, plan.documents.values())) + 1
    drafts = [line.split()[3] for line in documents if line.startswith("draft ")]
    assert drafts == sorted(drafts)
    assert {line.split()[0] for line in lines[1:]} == {"code", "concept", "model", "parser", "template", *Stage}
    assert max(map(len, lines)) < 160


def test_the_same_cohort_gives_the_same_lock_and_it_is_read_back_as_it_was(workspace):
    content = path_of(workspace).read_bytes()

    lock_cohort(Workspace(workspace.roots), COHORT)

    assert path_of(workspace).read_bytes() == content
    assert format_lock(read_lock(path_of(workspace))) == content
    assert [path.name for path in path_of(workspace).parent.iterdir() if path.suffix not in (".toml", ".lock")] == []


def test_a_lock_lies_beside_its_cohort_and_is_no_cohort(workspace):
    assert path_of(workspace) == workspace.roots.config / "cohorts" / "first.lock"
    assert set(Workspace(workspace.roots).configuration.cohorts) == {COHORT}


def test_a_cohort_that_is_not_made_is_locked_by_its_ids(tmp_path):
    workspace = open_workspace(tmp_path)

    result = lock_cohort(workspace, COHORT)

    assert result["missing"] == result["documents"]
    assert {document.content for document in read_lock(path_of(workspace)).documents} == {"-"}
    assert check_cohort(workspace, COHORT).has_passed


def test_a_damaged_document_is_not_locked(workspace):
    before = path_of(workspace).read_bytes()
    folder = next(workspace.roots.data.glob("docs/draft/[0-9a-z]*"))
    overwrite(folder / "raw.txt", (folder / "raw.txt").read_bytes()[::-1])

    with pytest.raises(DocumentCorrupt):
        lock_cohort(Workspace(workspace.roots), COHORT)

    assert path_of(workspace).read_bytes() == before


def test_a_name_with_a_line_break_takes_one_line(workspace, tmp_path):
    lock = read_lock(path_of(workspace))
    document = lock.documents[0]._replace(task_id="two\nlines\u2028three")

    (tmp_path / "x.lock").write_bytes(format_lock(LockFile({}, [document])))

    assert read_lock(tmp_path / "x.lock").documents[0].task_id == "two lines three"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with ''. Expected 'daybook lock 1'"),
        (b"daybook lock 2\n", "begins with 'daybook lock 2'"),
        (b"\xff", "is not UTF-8"),
        (b"daybook lock 1\nsomething else\n", "line 2: 'something else' is no line of a lock."),
        (b"daybook lock 1\ndraft ../../x - name\n", "line 2:"),
        (b"daybook lock 1\n<<<<<<< HEAD\n", "line 2:"),
    ],
)
def test_a_lock_that_cannot_be_read_is_refused_with_its_line(content, message, workspace):
    path_of(workspace).write_bytes(content)

    with pytest.raises(InputInvalid) as caught:
        check_cohort(workspace, COHORT)

    assert message in str(caught.value)


def test_a_cohort_without_a_lock_says_how_to_write_one(workspace):
    path_of(workspace).unlink()

    with pytest.raises(InputInvalid, match="Type daybook lock first"):
        check_cohort(workspace, COHORT)


# Check


def test_what_was_locked_passes_at_the_level_of_a_rebuild(workspace):
    check = check_cohort(Workspace(workspace.roots), COHORT, required="rebuild")

    assert check.has_passed
    assert check.level == "rebuild"
    assert check.locked == check.same_ids == check.present == check.same == check.rebuilt > 20


def test_without_any_data_the_ids_are_checked_and_nothing_is_written(workspace):
    remove_data(workspace)

    check = check_cohort(Workspace(workspace.roots), COHORT)

    assert (check.has_passed, check.level, check.present) == (True, "ids", 0)
    assert check.same_ids == check.locked
    assert not workspace.roots.data.exists()


@pytest.mark.parametrize("required", ["documents", "rebuild"])
def test_a_level_that_is_required_and_not_reached_fails(required, workspace):
    remove_data(workspace)

    check = check_cohort(Workspace(workspace.roots), COHORT, required=required)

    assert check.problems[0].startswith(f"Level {required} is required, and 0 of ")


def test_some_of_the_documents_are_checked_as_far_as_they_go(workspace):
    shutil.rmtree(workspace.roots.data / "calls")
    shutil.rmtree(workspace.roots.data / "texts")
    shutil.rmtree(workspace.roots.data / "docs" / "draft")

    check = check_cohort(Workspace(workspace.roots), COHORT)

    assert check.has_passed
    assert 0 < check.rebuilt < check.present < check.locked or check.level == "documents"


CHANGES = [
    ({"templates/essay/plain.txt": "Another: {{ draft_block }}"}, "template essay/plain has changed", "essay"),
    (edit("models.toml", "temperature = 0.7", "temperature = 0.8"), "model small has changed", "draft"),
    ({"concepts/paragraph/moat.txt": "Another moat."}, "concept moat has changed", "draft"),
    (edit("concepts.csv", "Tide Pool", "Rock Pool"), "concept tide has changed", "draft"),
    (edit("templates.toml", "min_lines = 1", "min_lines = 2"), "parser draft/synthesis has changed", "draft"),
    (edit("cohorts/first.toml", "replicates = 2", "replicates = 3"), "asks for other combinations", "evaluation"),
]


@pytest.mark.parametrize("has_data", [True, False], ids=["with documents", "without documents"])
@pytest.mark.parametrize(("changes", "cause", "stage"), CHANGES, ids=[cause for _, cause, _ in CHANGES])
def test_a_changed_config_fails_and_what_has_changed_is_named(changes, cause, stage, has_data, workspace, tmp_path):
    if not has_data:
        remove_data(workspace)

    check = check_cohort(open_workspace(tmp_path, changes), COHORT)

    assert not check.has_passed
    assert check.problems[0].startswith("Config and code no longer give the ids of the lock:")
    assert cause in check.problems[0]
    assert any(problem.startswith(f"{stage} ") for problem in check.problems[1:])


def test_with_the_documents_the_inputs_that_differ_are_named(workspace, tmp_path):
    edited = open_workspace(tmp_path, {"templates/essay/plain.txt": "Another: {{ draft_block }}"})

    problems = check_cohort(edited, COHORT).problems

    assert any("plain__small__1 was " in line and ": template.text_blake3 differs." in line for line in problems)
    assert any(line.startswith("evaluation ") and ": parents differs." in line for line in problems)


def test_a_changed_version_of_the_code_fails_and_is_named(workspace, monkeypatch):
    rules = {stage: rule._replace(version=rule.version + (stage is Stage.ESSAY)) for stage, rule in STAGE_RULES.items()}
    for module in ("planning", "lock_files"):
        monkeypatch.setattr(f"pipeline.{module}.STAGE_RULES", rules)

    check = check_cohort(Workspace(workspace.roots), COHORT)

    assert "code essay has changed from version 1 to 2" in check.problems[0]


def test_renaming_what_ids_do_not_name_passes(workspace, tmp_path):
    renamed = edit("cohorts/first.toml", "A first cohort", "Another description")

    assert check_cohort(open_workspace(tmp_path, renamed), COHORT).has_passed


def test_a_document_that_holds_other_bytes_than_were_locked_fails(workspace):
    """Somebody else's answer to the same inputs: the document is whole, and is not the one of the lock."""
    lock = path_of(workspace).read_text()
    line = next(line for line in lock.splitlines() if line.startswith("draft "))
    content = line.split()[2]
    path_of(workspace).write_text(lock.replace(content, content[::-1]))

    check = check_cohort(Workspace(workspace.roots), COHORT)

    (problem,) = check.problems
    assert problem.startswith(f"draft {line.split()[1]} ({line.split()[3]}) holds other bytes than the lock says:")


def test_a_damaged_document_fails_and_the_others_are_checked(workspace):
    folder = next(workspace.roots.data.glob("docs/draft/[0-9a-z]*"))
    (folder / "raw.txt").unlink()

    check = check_cohort(Workspace(workspace.roots), COHORT)

    assert any(f"draft/{folder.name}: raw.txt" in problem for problem in check.problems)
    assert check.rebuilt > 5


def test_a_document_that_differs_when_it_is_made_again_fails_with_the_first_difference(workspace, monkeypatch):
    from pipeline import parsers

    identity = parsers.PARSERS["identity"]
    changed = identity._replace(function=lambda reply, _scale: parsers.Parsed(reply + "!"))
    monkeypatch.setattr(parsers, "PARSERS", {**parsers.PARSERS, "identity": changed})

    problems = check_cohort(Workspace(workspace.roots), COHORT).problems

    assert any("differs when it is made again: parsed.txt, byte" in problem for problem in problems)
    assert any("(the end)" in problem for problem in problems)


def test_the_command_line_offers_the_levels_of_a_check():
    assert CHECK_LEVELS == LEVELS
