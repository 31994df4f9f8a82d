"""A task table that a person edited is built as it is; every mistake in it is listed; a stale one is written anew."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import EditedTablesInvalid, TaskTableInvalid
from pipeline.making import make_document
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.task_tables import TABLE_COLUMNS, WRITTEN_FILE, table_path
from pipeline.validation import validate
from pipeline.workspace import Workspace
from tests.pipeline.config_folder import edit, write_config

COHORT = "first"
Rows = list[dict[str, str]]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """A planned cohort of which nothing is made."""
    workspace = open_workspace(tmp_path)
    workspace.write_tables(COHORT)
    return workspace


def open_workspace(folder: Path, changes=None) -> Workspace:
    judge = "Judge this:\n{{ response }}\nSCORE: 7\n"
    write_config(folder, {"templates/evaluation/clarity.txt": judge, **(changes or {})})
    return Workspace(Roots(folder / "data", folder / "config"))


def again(workspace: Workspace) -> Workspace:
    """Return the workspace as the next process opens it."""
    return Workspace(workspace.roots)


def path_of(workspace: Workspace, stage: str, cohort: str = COHORT) -> Path:
    return table_path(workspace.data.tasks_folder, cohort, Stage(stage))


def edit_table(workspace: Workspace, stage: str, change: Callable[[Rows], Rows | None]) -> None:
    """Change a table as a spreadsheet would."""
    path = path_of(workspace, stage)
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    changed = change(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, TABLE_COLUMNS)
    writer.writeheader()
    writer.writerows(rows if changed is None else changed)
    path.write_text(text.getvalue())


def make_all(workspace: Workspace) -> None:
    for plan in workspace.plan(COHORT).walk():
        make_document(workspace.maker, plan, cohort=COHORT)
    workspace.write_tables(COHORT)
    make_report(workspace, COHORT)


def ids_of(workspace: Workspace, stage: str) -> list[str]:
    return [row.doc_id for row in workspace.plan(COHORT).rows[Stage(stage)]]


def ids_alone(doc_id: str, **cells: str) -> dict[str, str]:
    return {**dict.fromkeys(TABLE_COLUMNS, ""), "doc_id": doc_id, **cells}


def problems_of(workspace: Workspace, name: str = COHORT) -> list[str]:
    return [str(problem) for problem in validate(again(workspace), name).problems]


# Which tables are edited


def test_a_table_that_the_program_wrote_is_written_anew_after_the_config_has_changed(workspace, tmp_path):
    before = path_of(workspace, "draft").read_text()
    edited = open_workspace(tmp_path, {"templates/draft/list.txt": "Another text."})

    edited.write_tables(COHORT)

    assert edited.plan(COHORT).edited == frozenset()
    assert path_of(workspace, "draft").read_text() != before
    assert again(edited).plan(COHORT).edited == frozenset()


def test_a_table_that_a_person_edited_is_never_overwritten(workspace):
    edit_table(workspace, "draft", lambda rows: rows[1:])
    content = path_of(workspace, "draft").read_bytes()

    opened = again(workspace)
    opened.write_tables(COHORT)

    assert path_of(workspace, "draft").read_bytes() == content
    assert opened.plan(COHORT).edited == {Stage.DRAFT}
    assert again(workspace).plan(COHORT).edited == {Stage.DRAFT}


def test_an_edit_that_is_taken_back_is_no_edit(workspace):
    content = path_of(workspace, "draft").read_bytes()
    edit_table(workspace, "draft", lambda rows: rows[1:])
    path_of(workspace, "draft").write_bytes(content)

    assert again(workspace).plan(COHORT).edited == frozenset()


def test_a_crash_between_the_record_and_the_table_makes_no_edit_of_it(workspace, tmp_path, monkeypatch):
    edited = open_workspace(tmp_path, {"templates/draft/list.txt": "Another text."})
    place = "pipeline.task_tables.place_file"

    def die_at_a_table(path, *arguments, **options):
        from store.durable import place_file

        if path.suffix == ".csv":
            raise KeyboardInterrupt
        return place_file(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(place, die_at_a_table)
        with pytest.raises(KeyboardInterrupt):
            edited.write_tables(COHORT)

    assert again(edited).plan(COHORT).edited == frozenset()


def test_where_nothing_says_who_wrote_a_table_the_person_is_asked(workspace):
    edit_table(workspace, "draft", lambda rows: rows[1:])
    (path_of(workspace, "draft").parent / WRITTEN_FILE).unlink()

    with pytest.raises(TaskTableInvalid, match=r"--from-config .* or daybook plan first --as-edited"):
        again(workspace).plan(COHORT)
    again(workspace).accept_tables(COHORT)

    assert again(workspace).plan(COHORT).edited == {Stage.DRAFT}


def test_a_table_without_a_record_that_is_what_the_config_gives_is_no_edit(workspace):
    (path_of(workspace, "draft").parent / WRITTEN_FILE).unlink()

    assert again(workspace).plan(COHORT).edited == frozenset()


def test_edited_tables_are_kept_when_those_of_the_config_are_written(workspace):
    original = path_of(workspace, "draft").read_bytes()
    edit_table(workspace, "draft", lambda rows: rows[1:])
    content = path_of(workspace, "draft").read_bytes()

    opened = again(workspace)
    (kept,) = opened.set_tables_aside(COHORT)
    opened.write_tables(COHORT)

    assert kept.read_bytes() == content
    assert path_of(workspace, "draft").read_bytes() == original


# What an edited table asks for


def test_rows_that_were_removed_are_not_asked_for_and_neither_are_their_children(workspace):
    whole = workspace.plan(COHORT)
    edit_table(workspace, "draft", lambda rows: rows[1:])

    plan = again(workspace).plan(COHORT)

    removed = whole.rows[Stage.DRAFT][0]
    assert [row.task_id for row in plan.rows[Stage.DRAFT]] == [row.task_id for row in whole.rows[Stage.DRAFT][1:]]
    for stage in (Stage.ESSAY, Stage.EVALUATION):
        expected = [row.task_id for row in whole.rows[stage] if not row.task_id.startswith(removed.task_id + "__")]
        assert [row.task_id for row in plan.rows[stage]] == expected
        assert len(expected) < len(whole.rows[stage])


def test_an_edited_cohort_is_made_and_complete_and_its_report_is_of_its_rows(workspace):
    edit_table(workspace, "essay", lambda rows: rows[:2])
    opened = again(workspace)

    make_all(opened)

    assert opened.find_missing(COHORT) == []
    report = opened.data.documents.read(Stage.REPORT, opened.report_id(COHORT))
    assert report.metadata["planned_rows"] == sum(len(rows) for rows in opened.plan(COHORT).rows.values())
    assert report.metadata["planned_rows"] < sum(len(rows) for rows in workspace.plan(COHORT).rows.values())


def test_a_document_of_the_store_can_be_added_by_its_id_alone_and_is_judged(workspace, tmp_path):
    make_all(workspace)
    old = workspace.plan(COHORT).rows[Stage.ESSAY][0]
    edited = open_workspace(tmp_path, {"templates/essay/plain.txt": "Quite another text: {{ draft_block }}"})
    edited.write_tables(COHORT)
    edit_table(edited, "essay", lambda rows: [*rows, ids_alone(old.doc_id)])

    opened = again(edited)
    plan = opened.plan(COHORT)
    make_all(opened)

    given = plan.rows[Stage.ESSAY][-1]
    assert (given.doc_id, given.task_id, given.template_id) == (old.doc_id, f"{old.task_id}@{old.doc_id}", "plain")
    judged = [row for row in plan.rows[Stage.EVALUATION] if row.parent_doc_id == old.doc_id]
    assert [row.replicate for row in judged] == [1, 2]
    assert {row.doc_id for row in judged} <= {row.doc_id for row in workspace.plan(COHORT).rows[Stage.EVALUATION]}
    assert opened.find_missing(COHORT) == []
    table = opened.data.documents.read(Stage.REPORT, opened.report_id(COHORT)).read_text("extras/documents.csv")
    assert old.doc_id in table


def test_a_row_of_another_cohort_can_be_added_with_its_names(workspace, tmp_path):
    changes = {
        "cohorts/second.toml": edit("cohorts/first.toml", '["flywheel", "moat", "tide"]', '["moat", "tide"]')[
            "cohorts/first.toml"
        ]
    }
    opened = open_workspace(tmp_path, changes)
    opened.write_tables("second")
    (row, *_) = workspace.plan(COHORT).rows[Stage.DRAFT]
    path = path_of(opened, "draft", "second")
    path.write_text(path.read_text() + ",".join(row.as_row().values()) + "\n")

    plan = again(opened).plan("second")

    assert plan.edited == {Stage.DRAFT}
    assert plan.rows[Stage.DRAFT][-1].doc_id == row.doc_id
    assert any(essay.parent_doc_id == row.doc_id for essay in plan.rows[Stage.ESSAY])
    assert problems_of(opened, "second") == []


# Mistakes


def test_a_cut_row_hides_no_other_mistake(workspace):
    edit_table(workspace, "draft", lambda rows: [*rows, ids_alone("../../etc")])
    path = path_of(workspace, "draft")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:1], "cut,row", *lines[1:]]) + "\n")

    first, second = problems_of(workspace)

    assert first == "draft_tasks.csv, line 2: the row has not 9 cells."
    assert f"draft_tasks.csv, line {len(lines) + 1}: doc_id is '../../etc'" in second


def test_a_table_that_cannot_be_read_is_a_mistake(workspace):
    path_of(workspace, "draft").unlink()
    path_of(workspace, "draft").mkdir()

    assert "draft_tasks.csv: it cannot be read: Is a directory. Plan the cohort again." in problems_of(workspace)


def change_first(**cells: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[0].update(cells)

    return change


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("draft", change_first(doc_id="0" * 16), "line 2: doc_id is '0000000000000000', but from the row follows "),
        ("draft", change_first(doc_id=""), "line 2: doc_id is '', but from the row follows "),
        ("draft", change_first(replicate="2"), "but from the row follows"),
        ("draft", change_first(replicate="x"), "replicate is 'x'. Expected a whole number from 1."),
        ("draft", change_first(template_id="synthesys"), "unknown draft template 'synthesys'."),
        ("draft", change_first(model_id="large"), "unknown model 'large'."),
        ("draft", change_first(combo_id="flywheel+mote"), "unknown concept 'mote'"),
        ("draft", change_first(mode="copy"), "mode is 'copy', but template synthesis has mode llm."),
        ("draft", change_first(task_id=""), "task_id is empty."),
        ("draft", change_first(parent_doc_id="0" * 16), "Expected none: a draft has no parent."),
        ("draft", lambda rows: [*rows, rows[0]], "task_id 'flywheel+moat__synthesis__small__1' is that of line 2"),
        ("draft", lambda rows: [*rows, ids_alone("z" * 16)], "doc_id zzzzzzzzzzzzzzzz: there is no such draft in"),
        ("draft", lambda rows: [*rows, ids_alone("../../etc")], "Expected 16 characters of 0-9 and a-z."),
        ("essay", change_first(parent_doc_id=""), "parent_doc_id is ''. Expected 16 characters of 0-9 and a-z."),
        ("essay", change_first(parent_doc_id="z" * 16), "there is no such draft in the tables or the store."),
        ("essay", change_first(combo_id="tide"), "combo_id is 'tide'. Expected 'flywheel+moat'"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_stops_the_build(stage, change, message, workspace):
    edit_table(workspace, stage, change)

    problems = problems_of(workspace)

    assert len(problems) == 1
    assert message in problems[0]
    assert problems[0].startswith(f"{stage}_tasks.csv, line ")
    with pytest.raises(EditedTablesInvalid) as caught:
        again(workspace).plan(COHORT)
    assert problems[0] in str(caught.value)


def test_a_parent_of_the_wrong_stage_is_told_from_a_missing_one(workspace):
    essay_id = ids_of(workspace, "essay")[0]
    edit_table(workspace, "essay", lambda rows: change_first(parent_doc_id=essay_id)(rows[1:]))

    assert problems_of(workspace) == [
        f"essay_tasks.csv, line 3: parent_doc_id {essay_id}: there is no such draft in the tables or the store."
    ]
    make_all_of(workspace)
    assert "is of stage essay. Expected one of stage draft." in problems_of(workspace)[0]


def make_all_of(workspace: Workspace) -> None:
    """Make what the config asks for, whatever the tables say."""
    for plan in workspace.plan(COHORT).walk():
        make_document(workspace.maker, plan, cohort=COHORT)


def test_an_id_alone_of_another_stage_is_named(workspace):
    make_all_of(workspace)
    draft_id = ids_of(workspace, "draft")[0]
    edit_table(workspace, "essay", lambda rows: [*rows, ids_alone(draft_id)])

    assert f"doc_id {draft_id} is of stage draft. Expected one of stage essay." in problems_of(workspace)[0]


def test_an_id_alone_that_another_row_has_is_a_duplicate(workspace):
    make_all_of(workspace)
    draft_id = ids_of(workspace, "draft")[0]
    edit_table(workspace, "draft", lambda rows: [*rows, ids_alone(draft_id, task_id="again")])

    assert f"doc_id {draft_id} is that of line 2, too." in problems_of(workspace)[0]


def test_an_edited_table_is_stale_when_the_config_changes_and_says_so(workspace, tmp_path):
    edit_table(workspace, "draft", lambda rows: rows[:2])
    edited = open_workspace(tmp_path, {"templates/draft/synthesis.txt": "Another text."})

    with pytest.raises(EditedTablesInvalid, match="daybook plan first --from-config") as caught:
        edited.plan(COHORT)

    assert "from the row follows" in str(caught.value)


def test_all_mistakes_are_listed_at_once(workspace):
    edit_table(workspace, "draft", lambda rows: [change_first(model_id="x")([row]) or row for row in rows])

    assert len(problems_of(workspace)) >= len(ids_of(workspace, "draft"))


def test_a_table_that_is_no_csv_is_a_mistake(workspace):
    path_of(workspace, "draft").write_bytes(b"\xff\xfe")

    assert "it is not CSV in UTF-8" in problems_of(workspace)[0]


def test_a_damaged_document_and_one_of_other_inputs_are_conflicts(workspace):
    make_all(workspace)
    first, second = ids_of(workspace, "draft")[:2]
    folder = workspace.data.documents.root / "draft"
    (folder / first / "raw.txt").unlink()
    metadata = folder / second / "metadata.json"
    text = metadata.read_text()
    metadata.unlink()
    metadata.write_text(
        text.replace(f'"digest": "{workspace.plan(COHORT).rows[Stage.DRAFT][1].digest[:8]}', '"digest": "00000000')
    )

    problems = problems_of(workspace)

    assert any(f"draft/{first}: raw.txt" in problem for problem in problems)
    assert any(f"draft/{second} was made from other inputs" in problem for problem in problems)


def test_tables_as_they_were_written_have_no_mistake_before_and_after_a_build(workspace):
    assert problems_of(workspace) == []
    make_all(workspace)
    assert problems_of(workspace) == []


def test_a_table_that_the_program_wrote_for_another_config_is_one_mistake(workspace, tmp_path):
    edited = open_workspace(tmp_path, {"templates/evaluation/clarity.txt": "Another text. {{ response }}"})

    assert problems_of(edited) == [
        "evaluation_tasks.csv: the config has changed since it was written. Type daybook plan first to write it anew."
    ]


def test_one_file_is_checked_with_the_tables_beside_it(workspace, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for stage in ("draft", "essay"):
        (elsewhere / f"{stage}_tasks.csv").write_bytes(path_of(workspace, stage).read_bytes())

    assert problems_of(workspace, str(elsewhere / "essay_tasks.csv")) == []
    (elsewhere / "draft_tasks.csv").unlink()
    problems = problems_of(workspace, str(elsewhere / "essay_tasks.csv"))
    assert len(problems) == len(ids_of(workspace, "essay"))
