"""Plans: which documents a cohort asks for, by which ids, and what changes an id and what does not."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adoption import adopt_workspace
from pipeline.configuration import load_configuration
from pipeline.errors import TaskTableInvalid
from pipeline.planning import CohortPlan, RowOutcome, plan_cohort, plan_report, report_inputs
from pipeline.report_document import identify_report
from pipeline.rules import Selection
from pipeline.stages import Stage
from pipeline.task_tables import (
    TABLE_COLUMNS,
    find_cohorts_of,
    format_task_table,
    read_task_table,
    table_path,
    write_task_tables,
)
from store.identity import ID_FORM
from tests.pipeline.config_folder import Files, doc_ids_of, edit, load_changed, plan_changed, row_of, write_config

REAL_WORKSPACE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "daydreaming"
SOURCE = "0123456789abcdef"

# One document of each kind; what stands in the id of each is listed below.
TINY = f"""\
[combos]
list = [["moat", "tide"]]
[draft]
templates = ["synthesis"]
models = ["small"]
source_doc_ids = ["{SOURCE}"]
[essay]
templates = ["plain", "same"]
models = ["small"]
[evaluation]
templates = ["clarity"]
models = ["judge"]
"""
DRAFT = "moat+tide__synthesis__small__1"
ESSAY = f"{DRAFT}__plain__small__1"
COPY = f"{DRAFT}__same__copy__1"
EVALUATION = f"{ESSAY}__clarity__judge__1"
SOURCED = f"source-{SOURCE}__small__1"
KINDS = (DRAFT, ESSAY, COPY, EVALUATION, SOURCED)


def plan_tiny(folder: Path, changes: Files | None = None) -> CohortPlan:
    return plan_changed(folder, {"cohorts/first.toml": TINY} | dict(changes or {}))


def ids_of(plan: CohortPlan) -> dict[str, str]:
    return {task_id: row_of(plan, task_id).doc_id for task_id in KINDS}


# Pinned ids: a change of one of these needs a new version of the identity, the stage or the parser.


def test_ids_are_pinned(tmp_path: Path) -> None:
    assert ids_of(plan_tiny(tmp_path)) == {
        DRAFT: "1z863mmlnfexpu36",
        ESSAY: "1dq1an02j0io2xab",
        COPY: "2ag136jswq2gjj9q",
        EVALUATION: "1dhc4jx5jzkrdnd7",
        SOURCED: "53lyv6hbkkpxm23d",
    }


def test_the_digest_is_pinned(tmp_path: Path) -> None:
    draft = row_of(plan_tiny(tmp_path), DRAFT)

    assert draft.digest == "4f61f245e59d43bcbfb7acc43e9bb986ce3109d23f0f98748031becd3a90fbf7"


def test_inputs_are_pinned(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)

    assert row_of(plan, DRAFT).inputs == {
        "stage_version": 1,
        "mode": "llm",
        "replicate": 1,
        "parser": {"name": "identity", "version": 1, "min_lines": 1, "scale": None},
        "template": {
            "text_blake3": "d98f60540d25943f6431728f27123dd1703f2eb46283a1a29f5b55008e84c410",
            "includes": {"tone.txt": "ce1cec533391b1235f41701005690939d423af7056c60d2d63cc0581b447315d"},
            "rendering_version": 1,
        },
        "response_schema": None,
        "model": {
            "model": "echo/small",
            "endpoint": None,
            "params": {"max_tokens": 400, "temperature": 0.7, "seed": 11},
        },
        "concepts": [
            {
                "name": "Economic Moat",
                "text_blake3": "3caef27fd8950fbef885cc324fdb1364a6fa16f157d1b4e9a676ccee58f982ca",
            },
            {"name": "Tide Pool", "text_blake3": "baaa8813dd9a6e8c4710bfb20bc851f9f5d6e8346eee3eba2253a40c17fb46d4"},
        ],
    }
    assert row_of(plan, COPY).inputs == {
        "stage_version": 1,
        "mode": "copy",
        "replicate": 1,
        "parser": {"name": "identity", "version": 1, "min_lines": 0, "scale": None},
        "parents": [{"stage": "draft", "doc_id": "1z863mmlnfexpu36"}],
    }
    assert row_of(plan, SOURCED).inputs == {
        "stage_version": 1,
        "mode": "llm",
        "replicate": 1,
        "parser": {"name": "identity", "version": 1, "min_lines": 0, "scale": None},
        "model": {
            "model": "echo/small",
            "endpoint": None,
            "params": {"max_tokens": 400, "temperature": 0.7, "seed": 11},
        },
        "source_doc_id": "0123456789abcdef",
    }


def test_the_report_id_is_pinned(tmp_path: Path) -> None:
    assert plan_report(plan_tiny(tmp_path)) == "2j5rijvq2zazc3oq"


# What changes an id

EVERYTHING = frozenset(KINDS)
OF_COMBO = frozenset({DRAFT, ESSAY, COPY, EVALUATION})
OF_ESSAY = frozenset({ESSAY, EVALUATION})
JUDGED = frozenset({EVALUATION})
SMALL = 'model = "echo/small"\n'
SCORED = 'parser = "score_last_line"\nscale = [0, 10]\n'


def edit_tiny(old: str, new: str) -> dict[str, str]:
    assert TINY.count(old) == 1, f"{old!r} stands {TINY.count(old)} times"
    return {"cohorts/first.toml": TINY.replace(old, new)}


CHANGES: dict[str, tuple[Files, frozenset[str]]] = {
    "draft template's text": ({"templates/draft/synthesis.txt": "{{ concepts }}"}, OF_COMBO),
    "a blank at its end": (edit("templates/draft/synthesis.txt", '"tone.txt" %}', '"tone.txt" %} '), OF_COMBO),
    "included text": ({"templates/draft/tone.txt": "Be long.\n"}, OF_COMBO),
    "essay template's text": ({"templates/essay/plain.txt": "{{ draft_block }}"}, OF_ESSAY),
    "evaluation template's text": ({"templates/evaluation/clarity.txt": "{{ response }}"}, JUDGED),
    "concept's name": (edit("concepts.csv", "Tide Pool", "Tidal Pool"), OF_COMBO),
    "concept's text": ({"concepts/paragraph/moat.txt": "A ditch."}, OF_COMBO),
    "text it falls back to": ({"concepts/sentence/tide.txt": "A puddle."}, OF_COMBO),
    "order of concepts": (edit_tiny('["moat", "tide"]', '["tide", "moat"]'), OF_COMBO),
    "level": (edit_tiny("[combos]\n", '[combos]\nlevel = "sentence"\n'), OF_COMBO),
    "model string": (edit("models.toml", "echo/small", "echo/smaller"), EVERYTHING),
    "endpoint": (edit("models.toml", SMALL, f'{SMALL}endpoint = "gpu-1"\n'), EVERYTHING),
    "judge's model string": (edit("models.toml", "echo/judge", "echo/judges"), JUDGED),
    "max_tokens": (edit("models.toml", "max_tokens = 400", "max_tokens = 401"), EVERYTHING),
    "temperature": (edit("models.toml", "temperature = 0.7", "temperature = 0.8"), EVERYTHING),
    "no temperature": (edit("models.toml", "temperature = 0.7\n", ""), EVERYTHING),
    "seed": (edit("models.toml", "seed = 11", "seed = 12"), EVERYTHING),
    "top_p": (edit("models.toml", SMALL, f"{SMALL}top_p = 0.9\n"), EVERYTHING),
    "top_k": (edit("models.toml", SMALL, f"{SMALL}top_k = 9\n"), EVERYTHING),
    "min_p": (edit("models.toml", SMALL, f"{SMALL}min_p = 0.1\n"), EVERYTHING),
    "stop": (edit("models.toml", SMALL, f'{SMALL}stop = ["END"]\n'), EVERYTHING),
    "frequency_penalty": (edit("models.toml", SMALL, f"{SMALL}frequency_penalty = 1\n"), EVERYTHING),
    "presence_penalty": (edit("models.toml", SMALL, f"{SMALL}presence_penalty = 1\n"), EVERYTHING),
    "repeat_penalty": (edit("models.toml", SMALL, f"{SMALL}repeat_penalty = 1\n"), EVERYTHING),
    "reasoning_effort": (edit("models.toml", SMALL, f'{SMALL}reasoning_effort = "low"\n'), EVERYTHING),
    "extra_body": (edit("models.toml", SMALL, f"{SMALL}extra_body = {{ a = 1 }}\n"), EVERYTHING),
    "draft's parser": (edit("templates.toml", "min_lines = 1", 'min_lines = 1\nparser = "essay_block"'), OF_COMBO),
    "copy's parser": (
        edit("templates.toml", 'mode = "copy"', 'mode = "copy"\nparser = "essay_block"'),
        frozenset({COPY}),
    ),
    "evaluation's parser": (edit("templates.toml", "score_last_line", "json_score"), JUDGED),
    "min_lines": (edit("templates.toml", "min_lines = 1", "min_lines = 2"), OF_COMBO),
    "scale": (edit("templates.toml", "scale = [0, 10]", "scale = [0, 9]"), JUDGED),
    "schema": (
        edit("templates.toml", SCORED, f'{SCORED}response_schema = "score.json"\n')
        | {"templates/evaluation/score.json": "{}"},
        JUDGED,
    ),
    "source": (edit_tiny(SOURCE, SOURCE[::-1]), frozenset({SOURCED})),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_content_changes_the_ids_of_what_it_can_change(tmp_path: Path, change: str) -> None:
    changes, expected = CHANGES[change]
    before, after = plan_tiny(tmp_path / "before"), plan_tiny(tmp_path / "after", changes)

    rows = [zip(before.rows[stage], after.rows[stage], strict=True) for stage in before.rows]
    changed = {old.task_id for pairs in rows for old, new in pairs if old.doc_id != new.doc_id}
    assert changed & EVERYTHING == expected


def test_a_schema_changes_the_id_with_its_content_and_not_with_its_name(tmp_path: Path) -> None:
    def plan_with(name: str, content: str) -> str:
        changes = edit("templates.toml", SCORED, f'{SCORED}response_schema = "{name}"\n')
        plan = plan_tiny(tmp_path / f"{name}{len(content)}", changes | {f"templates/evaluation/{name}": content})
        return row_of(plan, EVALUATION).doc_id

    assert plan_with("a.json", '{"b":1,"a":2}') == plan_with("b.json", '{ "a": 2, "b": 1 }')
    assert plan_with("a.json", '{"b":1,"a":2}') != plan_with("a.json", '{"b":1,"a":20}')


def test_replicates_have_ids_of_their_own_and_adding_one_leaves_the_others(tmp_path: Path) -> None:
    one = plan_tiny(tmp_path / "one")
    two = plan_tiny(tmp_path / "two", edit_tiny('models = ["judge"]\n', 'models = ["judge"]\nreplicates = 2\n'))

    first, second = (row_of(two, EVALUATION[:-1] + str(replicate)) for replicate in (1, 2))
    assert first.doc_id == row_of(one, EVALUATION).doc_id
    assert second.doc_id != first.doc_id


def test_a_copy_and_an_answer_of_the_same_draft_have_two_ids(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)

    assert row_of(plan, COPY).doc_id != row_of(plan, ESSAY).doc_id


def test_an_id_follows_from_the_parent(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)
    essays = {row.parent_doc_id: row.doc_id for row in plan.rows[Stage.ESSAY] if row.template_id == "plain"}

    assert len(essays) == len(set(essays.values())) == 2
    assert row_of(plan, EVALUATION).inputs["parents"] == [{"stage": "essay", "doc_id": row_of(plan, ESSAY).doc_id}]


def test_a_draft_and_an_essay_that_are_evaluated_have_evaluations_of_their_own(tmp_path: Path) -> None:
    drafts = plan_tiny(tmp_path, edit_tiny('models = ["judge"]\n', 'models = ["judge"]\ntarget = "draft"\n'))

    parents = [row.parent for row in drafts.rows[Stage.EVALUATION]]
    assert [parent.stage for parent in parents if parent] == [Stage.DRAFT, Stage.DRAFT]
    assert drafts.rows[Stage.EVALUATION][0].task_id == f"{DRAFT}__clarity__judge__1"


@pytest.mark.parametrize("file", ["concepts/paragraph/moat.txt", "templates/draft/synthesis.txt"])
def test_texts_that_differ_only_in_their_unicode_form_have_two_ids(tmp_path: Path, file: str) -> None:
    composed, decomposed = (
        plan_tiny(tmp_path / form, {file: unicodedata.normalize(form, "Caf\u00e9")}) for form in ("NFC", "NFD")
    )

    assert row_of(composed, DRAFT).doc_id != row_of(decomposed, DRAFT).doc_id


def test_names_that_differ_only_in_their_unicode_form_give_one_id_and_one_prompt(tmp_path: Path) -> None:
    composed, decomposed = (
        plan_tiny(tmp_path / form, edit("concepts.csv", "Tide Pool", unicodedata.normalize(form, "Caf\u00e9")))
        for form in ("NFC", "NFD")
    )

    assert row_of(composed, DRAFT).doc_id == row_of(decomposed, DRAFT).doc_id
    assert row_of(composed, DRAFT).combo == row_of(decomposed, DRAFT).combo


# What does not change an id


RENAMED_TEMPLATE = {
    **edit("templates.toml", "[draft.synthesis]", "[draft.renamed]"),
    **edit_tiny('"synthesis"', '"renamed"'),
    "templates/draft/synthesis.txt": None,
    "templates/draft/renamed.txt": (
        "Combine:\n{% for concept in concepts %}\n{{ concept.name }}: {{ concept.content }}\n{% endfor %}\n"
        '{% include "tone.txt" %}'
    ),
}
RENAMED_CONCEPT = {
    **edit("concepts.csv", "moat,", "ditch,"),
    **edit_tiny('"moat"', '"ditch"'),
    "concepts/paragraph/moat.txt": None,
    "concepts/sentence/moat.txt": None,
    "concepts/paragraph/ditch.txt": "Water around a castle, and what it keeps out.\n",
}
NO_CHANGES: dict[str, Files] = {
    "template id": RENAMED_TEMPLATE,
    "concept id": RENAMED_CONCEPT,
    "model id": {
        **edit("models.toml", "[small]", "[renamed]"),
        "cohorts/first.toml": TINY.replace('"small"', '"renamed"'),
    },
    "cohort's description": {"cohorts/first.toml": f'description = "Another"\n{TINY}'},
    "labels": {
        **edit("models.toml", SMALL, f'{SMALL}label = "Small"\ndescription = "The small one"\n'),
        **edit("templates.toml", "min_lines = 1", 'min_lines = 1\nlabel = "S"\ndescription = "Synthesis"'),
    },
    "prices": edit("models.toml", SMALL, f"{SMALL}input_usd_per_million_tokens = 1\n"),
    "transport": edit("models.toml", SMALL, f'{SMALL}timeout_seconds = 5\nthreads = 1\nslots = 2\napi_key_env = "K"\n'),
    "order of keys": edit("models.toml", "temperature = 0.7\nseed = 11\n", "seed = 11\ntemperature = 0.7\n"),
    "a default that is written": edit(
        "templates.toml", "[essay.plain]\n", '[essay.plain]\nparser = "identity"\nmode = "llm"\nmin_lines = 0\n'
    ),
    "a whole number for its fraction": edit("templates.toml", "scale = [0, 10]", "scale = [0.0, 10.0]"),
    "blanks around a concept's text": {"concepts/sentence/tide.txt": "\n  A pool that the sea leaves behind.\n\n"},
    "a level that gives the same texts": {
        **edit_tiny("[combos]\n", '[combos]\nlevel = "article"\n'),
        "concepts/sentence/moat.txt": "A ditch.",
    },
    "a concept that is not used": {"concepts/paragraph/flywheel.txt": "A wheel."},
    "a fragment that is not used": {"templates/draft/unused.txt": "Unused."},
    "rules": {"cohorts/first.toml": f'{TINY}[[rules]]\ntie = ["draft_model", "essay_model"]\n'},
}


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_cannot_change_a_text_changes_no_id(tmp_path: Path, change: str) -> None:
    before, after = plan_tiny(tmp_path / "before"), plan_tiny(tmp_path / "after", NO_CHANGES[change])

    assert doc_ids_of(after) == doc_ids_of(before)
    assert plan_report(after) == plan_report(before)


def test_the_name_of_a_cohort_is_in_no_id(tmp_path: Path) -> None:
    changes = {"cohorts/first.toml": TINY, "cohorts/second.toml": TINY}

    first, second = (plan_changed(tmp_path, changes, cohort=name) for name in ("first", "second"))

    assert doc_ids_of(first) == doc_ids_of(second)


def test_inputs_hold_no_names_of_templates_models_concepts_or_cohorts(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)

    everything = json.dumps([row.inputs for rows in plan.rows.values() for row in rows])

    for name in ('"synthesis', '"plain', '"same', '"clarity', '"small', '"judge', '"moat', '"tide', '"first'):
        assert name not in everything


# Rows


def test_a_row_is_named_by_what_it_is_made_from(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)

    assert [row.task_id for row in plan.rows[Stage.DRAFT]] == [DRAFT, SOURCED]
    assert [row.task_id for row in plan.rows[Stage.ESSAY]] == [
        ESSAY, COPY, f"{SOURCED}__plain__small__1", f"{SOURCED}__same__copy__1"
    ]  # fmt: skip
    assert {row.combo_id for row in plan.rows[Stage.EVALUATION]} == {"moat+tide", ""}


def test_every_combination_is_planned_with_its_replicates(tmp_path: Path) -> None:
    plan = plan_changed(tmp_path, edit("cohorts/first.toml", "[essay]\n", "replicates = 2\n[essay]\nreplicates = 3\n"))

    # 3 combos x 2 templates x 2 replicates; each with 3 answers and one copy; each of those judged twice.
    assert {str(stage): len(rows) for stage, rows in plan.rows.items()} == {"draft": 12, "essay": 48, "evaluation": 96}
    assert len({row.task_id for rows in plan.rows.values() for row in rows}) == 156
    assert len({row.doc_id for rows in plan.rows.values() for row in rows}) == 156


def test_a_copy_is_made_once_whatever_models_and_replicates_are_asked_for(tmp_path: Path) -> None:
    essay = '[essay]\ntemplates = ["same"]\nmodels = ["small", "judge"]\nreplicates = 3\n'
    plan = plan_tiny(tmp_path, edit_tiny('[essay]\ntemplates = ["plain", "same"]\nmodels = ["small"]\n', essay))

    assert [row.task_id for row in plan.rows[Stage.ESSAY]] == [COPY, f"{SOURCED}__same__copy__1"]


def test_parents_come_before_children_and_each_document_once(tmp_path: Path) -> None:
    seen: set[str] = set()

    for document in plan_changed(tmp_path).walk():
        assert document.doc_id not in seen
        assert not document.parent or document.parent.doc_id in seen
        seen.add(document.doc_id)

    assert len(seen) == 6 + 12 + 24


def test_two_templates_with_one_text_are_two_rows_and_one_document(tmp_path: Path) -> None:
    changes = {
        **edit("templates.toml", "[essay.plain]\n", "[essay.plain]\n[essay.twin]\n"),
        **edit_tiny('["plain", "same"]', '["plain", "twin"]'),
        "templates/essay/twin.txt": "Make an essay of:\n{{ draft_block }}\n",
    }
    plan = plan_tiny(tmp_path, changes)

    assert len(plan.rows[Stage.ESSAY]) == len(plan.rows[Stage.EVALUATION]) == 4
    assert len(plan.documents[Stage.ESSAY]) == len(plan.documents[Stage.EVALUATION]) == 2
    assert plan.documents[Stage.ESSAY][row_of(plan, ESSAY).doc_id].template_id == "plain"


def test_a_document_is_found_by_stage_and_doc_id(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)
    essay = row_of(plan, ESSAY)

    assert plan.find("essay", essay.doc_id) == essay
    assert plan.find("draft", essay.doc_id) is None
    assert plan.find("report", essay.doc_id) is None


def test_rules_leave_out_combinations_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    rule = (
        '\n[[rules]]\ntuple = { axes = ["combo", "draft_template", "essay_template"], '
        'allowed = [["moat+tide", "list", "plain"], ["flywheel+moat", "list", "same"]] }\n'
    )
    plan = plan_changed(tmp_path, edit("cohorts/first.toml", "replicates = 2\n", f"replicates = 2\n{rule}"))

    assert [row.task_id for row in plan.rows[Stage.ESSAY]] == [
        "flywheel+moat__list__small__1__same__copy__1",
        "moat+tide__list__small__1__plain__small__1",
    ]
    assert [len(plan.rows[stage]) for stage in (Stage.DRAFT, Stage.EVALUATION)] == [2, 4]


def test_a_rule_on_a_draft_template_does_not_touch_sources(tmp_path: Path) -> None:
    rule = '[[rules]]\npair = { axes = ["draft_template", "draft_model"], allowed = [["synthesis", "small"]] }\n'
    models = TINY.replace('models = ["small"]\nsource', 'models = ["small", "judge"]\nsource')

    plan = plan_tiny(tmp_path, {"cohorts/first.toml": models + rule})

    assert [row.task_id for row in plan.rows[Stage.DRAFT]] == [DRAFT, SOURCED, f"source-{SOURCE}__judge__1"]


def test_the_selection_takes_whole_combinations(tmp_path: Path) -> None:
    cohort = load_changed(tmp_path).get_cohort("first")
    whole, selected = plan_cohort(cohort), plan_cohort(replace(cohort, selection=Selection(limit=3)))

    names = [row.task_id for row in selected.rows[Stage.ESSAY]]
    assert names == [row.task_id for row in whole.rows[Stage.ESSAY]][:3]
    assert len(selected.rows[Stage.DRAFT]) == 2
    assert len(selected.rows[Stage.EVALUATION]) == 6


def test_the_selection_is_indifferent_to_names(tmp_path: Path) -> None:
    sampled = TINY.replace('[["moat", "tide"]]', '[["moat", "tide"], ["tide"], ["moat"]]')
    select = "[select]\nsample = { count = 3, seed = 5 }\n"
    plain = plan_tiny(tmp_path / "plain", {"cohorts/first.toml": sampled + select})
    changes = {**RENAMED_TEMPLATE, "cohorts/first.toml": sampled.replace("synthesis", "renamed") + select}

    assert doc_ids_of(plan_tiny(tmp_path / "renamed", changes)) == doc_ids_of(plain)


# Task tables


def test_a_task_table_is_these_bytes(tmp_path: Path) -> None:
    essay = row_of(plan_tiny(tmp_path), ESSAY)

    assert format_task_table([essay.parent, essay] if essay.parent else []).decode() == (
        "doc_id,parent_doc_id,task_id,template_id,model_id,combo_id,replicate,mode,source_doc_id\n"
        "1z863mmlnfexpu36,,moat+tide__synthesis__small__1,synthesis,small,moat+tide,1,llm,\n"
        "1dq1an02j0io2xab,1z863mmlnfexpu36,moat+tide__synthesis__small__1__plain__small__1,plain,small,moat+tide,1,llm,\n"
    )


def test_task_tables_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)

    paths = write_task_tables(plan, tmp_path / "tasks", temporary_folder=tmp_path)

    assert paths == [tmp_path / "tasks" / "first" / f"{stage}_tasks.csv" for stage in ("draft", "essay", "evaluation")]
    for stage, path in zip(plan.rows, paths, strict=True):
        assert path == table_path(tmp_path / "tasks", "first", stage)
        assert read_task_table(path) == [row.as_row() for row in plan.rows[stage]]
        assert tuple(read_task_table(path)[0]) == TABLE_COLUMNS


def test_a_table_that_is_equal_stays_untouched(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)
    before = [path.stat() for path in write_task_tables(plan, tmp_path / "tasks", temporary_folder=tmp_path)]

    after = [path.stat() for path in write_task_tables(plan, tmp_path / "tasks", temporary_folder=tmp_path)]

    assert [(stat.st_ino, stat.st_mtime_ns) for stat in after] == [(stat.st_ino, stat.st_mtime_ns) for stat in before]


def test_a_table_that_differs_is_replaced(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)
    path = write_task_tables(plan, tmp_path / "tasks", temporary_folder=tmp_path)[0]
    path.chmod(0o644)
    path.write_text("something else")

    write_task_tables(plan, tmp_path / "tasks", temporary_folder=tmp_path)

    assert path.read_bytes() == format_task_table(plan.rows[Stage.DRAFT])


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda content: content.replace(b"doc_id,parent_doc_id", b"id,parent"),
            "the columns doc_id, parent_doc_id are",
        ),
        (
            lambda _content: b"",
            "the columns doc_id, parent_doc_id, task_id, template_id, model_id, combo_id, replicate",
        ),
        (lambda content: content[:-30], "line 3 has not 9 cells."),
        (lambda content: content[:-1] + b",more\n", "line 3 has not 9 cells."),
        (lambda content: content + b"\xff", "it is not CSV in UTF-8: "),
        (lambda content: content + b"a" * 200_000, "it is not CSV in UTF-8: field larger than field limit"),
    ],
)
def test_a_task_table_that_is_spoiled_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes], problem: str) -> None:
    path = tmp_path / "draft_tasks.csv"
    path.write_bytes(spoil(format_task_table(plan_tiny(tmp_path).rows[Stage.DRAFT])))

    with pytest.raises(TaskTableInvalid) as invalid:
        read_task_table(path)

    assert str(invalid.value).startswith(f"Task table {path}: {problem}")
    assert str(invalid.value).endswith("Plan the cohort again.")


def test_the_cohorts_of_a_document_are_those_whose_tables_name_it(tmp_path: Path) -> None:
    changes = {
        "cohorts/first.toml": TINY,
        "cohorts/second.toml": TINY,
        "cohorts/third.toml": TINY.replace("moat", "flywheel"),
    }
    plans = [plan_changed(tmp_path, changes, cohort=name) for name in ("third", "second", "first")]
    for plan in plans:
        write_task_tables(plan, tmp_path / "tasks", temporary_folder=tmp_path)
    draft = row_of(plans[2], DRAFT)

    assert find_cohorts_of(tmp_path / "tasks", Stage.DRAFT, draft.doc_id) == ["first", "second"]
    assert find_cohorts_of(tmp_path / "tasks", Stage.ESSAY, draft.doc_id) == []
    assert find_cohorts_of(tmp_path / "nowhere", Stage.DRAFT, draft.doc_id) == []


# The report


def outcomes_of(plan: CohortPlan, *, status: str = "ok", reason: str = "") -> list[RowOutcome]:
    return [RowOutcome(row, status, reason) for rows in plan.rows.values() for row in rows]


def test_the_reports_inputs_hold_no_names(tmp_path: Path) -> None:
    text = json.dumps(report_inputs(outcomes_of(plan_tiny(tmp_path))))

    for name in ("synthesis", "plain", "clarity", "small", "judge", "moat", "tide", "first"):
        assert name not in text


def test_a_status_or_a_reason_changes_the_report(tmp_path: Path) -> None:
    plan = plan_tiny(tmp_path)

    complete, failed = outcomes_of(plan), outcomes_of(plan)
    failed[-1] = RowOutcome(failed[-1].plan, "parse_error", "missing_score")
    otherwise = [*failed[:-1], RowOutcome(failed[-1].plan, "parse_error", "too_few_lines")]

    inputs = [report_inputs(outcomes) for outcomes in (complete, failed, otherwise)]
    assert inputs[0] != inputs[1] != inputs[2] != inputs[0]


def test_a_document_that_two_templates_name_makes_another_report(tmp_path: Path) -> None:
    settings = edit("templates.toml", "[essay.plain]\n", "[essay.plain]\n[essay.twin]\n")
    text = {"templates/essay/twin.txt": "Make an essay of:\n{{ draft_block }}\n"}
    one = plan_tiny(tmp_path / "one", {**settings, **text, **edit_tiny('["plain", "same"]', '["plain"]')})
    two = plan_tiny(tmp_path / "two", {**settings, **text, **edit_tiny('["plain", "same"]', '["plain", "twin"]')})

    assert set(one.documents[Stage.ESSAY]) == set(two.documents[Stage.ESSAY])
    assert plan_report(one) != plan_report(two)


def test_which_rows_share_a_template_or_a_model_changes_the_report(tmp_path: Path) -> None:
    """Two models with equal settings make the same documents; a report on one model is another than on two."""
    twin = '[twin]\nmodel = "echo/small"\nmax_tokens = 400\ntemperature = 0.7\nseed = 11\n\n[judge]'
    models = edit("models.toml", "[judge]", twin)
    same = plan_tiny(tmp_path / "same", models)
    other = plan_tiny(
        tmp_path / "other",
        models | edit_tiny('["plain", "same"]\nmodels = ["small"]', '["plain", "same"]\nmodels = ["twin"]'),
    )

    assert doc_ids_of(same) == doc_ids_of(other)
    assert plan_report(same) != plan_report(other)


# Size


def plan_large(folder: Path, *, concepts: int) -> CohortPlan:
    """Return the plan of a cohort with 106 rows for each pair of concepts."""
    names = [f"c{number}" for number in range(concepts)]
    text = (
        f"[combos]\nconcepts = {names}\nsize = 2\n"
        '[draft]\ntemplates = ["synthesis", "list"]\nmodels = ["small"]\n'
        '[essay]\ntemplates = ["plain", "same"]\nmodels = ["small"]\n'
        '[evaluation]\ntemplates = ["clarity"]\nmodels = ["judge"]\nreplicates = 25\n'
    )
    rows = "".join(f"{name},{name}\n" for name in [*names, "moat", "tide", "flywheel"])
    return plan_changed(folder, {"concepts.csv": f"concept_id,name\n{rows}", "cohorts/first.toml": text})


def count_calls(function: Callable[[], object]) -> int:
    """Return how many functions are called while a function runs."""
    count = 0

    def count_call(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count_call)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def test_the_work_of_a_plan_grows_with_its_rows(tmp_path: Path) -> None:
    roots = [write_config(tmp_path / name) for name in ("small", "large")]
    small, large = (plan_large(root, concepts=count) for root, count in zip(roots, (5, 9), strict=True))
    rows = [sum(map(len, plan.rows.values())) for plan in (small, large)]

    calls = [count_calls(lambda plan=plan: list(plan.walk())) for plan in (small, large)]  # type: ignore[misc]

    assert rows == [1060, 3816]
    assert all(row.digest is row.digest for row in large.rows[Stage.DRAFT]), "a digest is taken once, for all children"
    assert calls[1] / calls[0] == pytest.approx(rows[1] / rows[0], rel=0.1)


def test_twenty_thousand_rows_have_twenty_thousand_ids(tmp_path: Path) -> None:
    plan = plan_large(tmp_path, concepts=20)

    doc_ids = [document.doc_id for document in plan.walk()]

    assert len(doc_ids) == len(set(doc_ids)) == 190 * 106
    assert all(ID_FORM.fullmatch(doc_id) for doc_id in doc_ids)


# A workspace of someone else's


@pytest.mark.skipif(not REAL_WORKSPACE.is_dir(), reason="the reference workspace does not lie beside this checkout")
def test_a_real_workspace_is_adopted_loads_and_plans(tmp_path: Path) -> None:
    adopt_workspace(REAL_WORKSPACE, tmp_path / "config")

    configuration = load_configuration(tmp_path / "config")
    plan = plan_cohort(configuration.get_cohort("adopted"))

    assert len(plan.documents[Stage.DRAFT]) >= 6
    assert len(plan.documents[Stage.ESSAY]) >= 6
    assert len(plan.documents[Stage.EVALUATION]) >= 12
    assert len(configuration.concepts) >= 10


def test_a_report_is_identified_row_by_row_as_it_is_when_it_is_made(tmp_path):
    plan = plan_tiny(tmp_path)

    assert plan_report(plan) == identify_report(outcomes_of(plan)).doc_id


def test_a_row_of_a_plan_takes_little_memory(tmp_path):
    """There may be a million of them: no dictionary for each."""
    row = next(plan_tiny(tmp_path).walk())

    assert not hasattr(row, "__dict__")
    assert not hasattr(RowOutcome(row, "ok", ""), "__dict__")
