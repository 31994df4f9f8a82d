"""Cohorts: everything that one can say, and every mistake in saying it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cohorts import Cohort
from pipeline.rules import Rule, Sample, Selection
from pipeline.stages import Stage
from tests.pipeline.config_folder import CONFIG, Files, load_changed, problems_of

DOC_ID = "0123456789abcdef"


def line_of(text: str, start: str) -> int:
    """Return the number of the first line that starts so."""
    return next(number for number, line in enumerate(text.split("\n"), start=1) if line.startswith(start))


def load_cohort(folder: Path, text: str, files: Files | None = None) -> Cohort:
    return load_changed(folder, {"cohorts/first.toml": text, **(files or {})}).get_cohort("first")


def cohort_with(**sections: str) -> str:
    """Return the text of a cohort; a section that is given replaces the plain one, and "" leaves it out."""
    plain = {
        "combos": 'list = [["moat", "tide"]]',
        "draft": 'templates = ["list"]\nmodels = ["small"]',
        "essay": 'templates = ["plain"]\nmodels = ["small"]',
        "evaluation": 'templates = ["clarity"]\nmodels = ["judge"]',
    }
    whole = plain | sections
    return "".join(f"[{name}]\n{text}\n" for name, text in whole.items() if text)


def mistakes_of(folder: Path, text: str, files: Files | None = None) -> list[str]:
    """Return the mistakes in the cohort's file, without its name."""
    problems = problems_of(folder, {"cohorts/first.toml": text, **(files or {})})
    assert all(problem.startswith("cohorts/first.toml") for problem in problems), problems
    return [problem.removeprefix("cohorts/first.toml").removeprefix(", ").removeprefix(": ") for problem in problems]


# Everything one can say


def test_a_cohort_is_named_by_its_file(tmp_path: Path) -> None:
    cohort = load_changed(tmp_path).get_cohort("first")

    assert (cohort.name, cohort.description) == ("first", "A first cohort")


def test_all_subsets_of_a_size_come_in_the_order_of_the_list(tmp_path: Path) -> None:
    cohort = load_cohort(tmp_path, cohort_with(combos='concepts = ["tide", "flywheel", "moat"]\nsize = 2'))

    assert list(cohort.combos) == ["tide+flywheel", "tide+moat", "flywheel+moat"]
    assert {combo.level for combo in cohort.combos.values()} == {"paragraph"}


def test_listed_combos_keep_their_order_and_sizes(tmp_path: Path) -> None:
    text = cohort_with(combos='list = [["tide", "moat"], ["moat", "tide"], ["moat"]]\nlevel = "article"')

    cohort = load_cohort(tmp_path, text)

    assert list(cohort.combos) == ["tide+moat", "moat+tide", "moat"]
    assert {combo.level for combo in cohort.combos.values()} == {"article"}


def test_combos_are_sampled_first_and_then_limited(tmp_path: Path) -> None:
    everything = 'concepts = ["flywheel", "moat", "tide"]\nsize = 2\n'
    sampled = list(load_cohort(tmp_path, cohort_with(combos=everything + "sample = { count = 2, seed = 4 }")).combos)
    limited = load_cohort(tmp_path, cohort_with(combos=everything + "sample = { count = 2, seed = 4 }\nlimit = 1"))

    whole = ["flywheel+moat", "flywheel+tide", "moat+tide"]
    assert sampled == [whole[index] for index in Selection(Sample(2, 4)).pick(3)]
    assert list(limited.combos) == sampled[:1]


def test_stages_hold_what_is_asked_for(tmp_path: Path) -> None:
    stages = load_changed(tmp_path).get_cohort("first").stages

    draft, evaluation = stages[Stage.DRAFT], stages[Stage.EVALUATION]
    assert [template.template_id for template in draft.templates] == ["synthesis", "list"]
    assert [model.model_id for model in evaluation.models] == ["judge"]
    assert (draft.replicates, evaluation.replicates) == (1, 2)
    assert (draft.source_doc_ids, evaluation.target) == ((), Stage.ESSAY)


def test_essays_and_evaluations_may_be_absent(tmp_path: Path) -> None:
    assert list(load_cohort(tmp_path, cohort_with(essay="", evaluation="")).stages) == [Stage.DRAFT]


def test_evaluations_may_target_drafts(tmp_path: Path) -> None:
    text = cohort_with(essay="", evaluation='templates = ["clarity"]\nmodels = ["judge"]\ntarget = "draft"')

    assert load_cohort(tmp_path, text).stages[Stage.EVALUATION].target is Stage.DRAFT


def test_copies_need_no_model(tmp_path: Path) -> None:
    cohort = load_cohort(tmp_path, cohort_with(essay='templates = ["same"]'))

    assert cohort.stages[Stage.ESSAY].models == ()


def test_sources_need_no_combo_and_no_template(tmp_path: Path) -> None:
    cohort = load_cohort(tmp_path, cohort_with(combos="", draft=f'source_doc_ids = ["{DOC_ID}"]\nmodels = ["small"]'))

    assert cohort.stages[Stage.DRAFT].source_doc_ids == (DOC_ID,)
    assert cohort.combos == {}


def test_rules_are_read(tmp_path: Path) -> None:
    rules = """
[[rules]]
subset = { axis = "combo", keep = ["moat+tide"] }
[[rules]]
tie = ["draft_model", "essay_model"]
[[rules]]
pair = { axes = ["draft_template", "essay_template"], allowed = [["list", "plain"]] }
[[rules]]
tuple = { axes = ["draft_template", "essay_template", "evaluation_template"], allowed = [["list", "plain", "clarity"]] }
"""
    assert load_cohort(tmp_path, cohort_with() + rules).rules == (
        Rule(("combo",), frozenset({("moat+tide",)})),
        Rule(("draft_model", "essay_model"), None),
        Rule(("draft_template", "essay_template"), frozenset({("list", "plain")})),
        Rule(("draft_template", "essay_template", "evaluation_template"), frozenset({("list", "plain", "clarity")})),
    )


def test_the_selection_is_read(tmp_path: Path) -> None:
    text = cohort_with(select="limit = 5\nsample = { count = 9, seed = 0 }")

    assert load_cohort(tmp_path, text).selection == Selection(Sample(9, 0), 5)
    assert load_cohort(tmp_path, cohort_with()).selection.is_everything


# Lists in files


def test_every_list_may_be_a_file(tmp_path: Path) -> None:
    text = """
[combos]
concepts = "@lists/concepts.csv"
size = 1
[draft]
templates = "@templates.csv"
models = "@models.csv"
source_doc_ids = "@sources.csv"
[[rules]]
subset = { axis = "combo", keep = "@keep.csv" }
[[rules]]
pair = { axes = ["draft_template", "draft_model"], allowed = "@allowed.csv" }
"""
    files = {
        "cohorts/lists/concepts.csv": "concept\nmoat\ntide\n",
        "cohorts/templates.csv": "\ufefftemplate\r\nlist\r\n\r\nsynthesis\r\n",
        "cohorts/models.csv": "model\nsmall",
        "cohorts/sources.csv": f"doc_id\n{DOC_ID}\n",
        "cohorts/keep.csv": "combo\nmoat\n",
        "cohorts/allowed.csv": "any,word\nlist,small\nsynthesis,small\n",
    }

    cohort = load_cohort(tmp_path, text, files)

    draft = cohort.stages[Stage.DRAFT]
    assert list(cohort.combos) == ["moat", "tide"]
    assert [template.template_id for template in draft.templates] == ["list", "synthesis"]
    assert [model.model_id for model in draft.models] == ["small"]
    assert draft.source_doc_ids == (DOC_ID,)
    assert cohort.rules == (
        Rule(("combo",), frozenset({("moat",)})),
        Rule(("draft_template", "draft_model"), frozenset({("list", "small"), ("synthesis", "small")})),
    )


@pytest.mark.parametrize("header", ["first,second,third", "concept,concept,concept", "concept,,"])
def test_combos_of_different_sizes_fit_into_one_file(tmp_path: Path, header: str) -> None:
    files = {"cohorts/combos.csv": f"{header}\nmoat,tide,\nflywheel,moat,tide\n,tide,\n"}

    cohort = load_cohort(tmp_path, cohort_with(combos='list = "@combos.csv"'), files)

    assert list(cohort.combos) == ["moat+tide", "flywheel+moat+tide", "tide"]


@pytest.mark.parametrize(
    ("reference", "content", "message"),
    [
        ("list.csv", None, "templates is 'list.csv'. Expected a list, or \"@file.csv\" for a file beside this one."),
        ("@gone.csv", None, "gone.csv: the file does not exist. Expected "),
        ("@list.csv", "template\n", "list.csv has no rows. Expected a header and at least one row."),
        ("@list.csv", "", "list.csv has no rows. Expected a header and at least one row."),
        ("@list.csv", "template,note\nlist,good\n", "list.csv has 2 columns. Expected 1."),
        ("@list.csv", "template\nlist,good\n", "list.csv, line 2: the row has 2 cells. Expected 1: template."),
        ("@list.csv", "template\nlst\n", "unknown draft template 'lst'. Did you mean 'list'?"),
        ("@list.csv", "template\nlist\nlist\n", "draft template 'list' is listed twice. Expected it once."),
        ("@list.csv", b"template\n\xff\n", "list.csv: the file is not UTF-8: "),
    ],
)
def test_a_file_that_gives_no_list_is_a_mistake(
    tmp_path: Path, reference: str, content: str | bytes | None, message: str
) -> None:
    text = cohort_with(draft=f'templates = "{reference}"\nmodels = ["small"]')

    problems = mistakes_of(tmp_path, text, {"cohorts/list.csv": content})

    line = line_of(text, "templates")
    assert any(
        problem.removeprefix(f"line {line}: ").removeprefix("cohorts/").startswith(message) for problem in problems
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,c\nlist,plain,x\n", "allowed.csv has 3 columns. Expected 2."),
        ("a,b\nlist,\n", "allowed.csv has an empty cell. Expected 2 values in each row."),
    ],
)
def test_a_file_of_tuples_has_a_value_for_each_axis(tmp_path: Path, content: str, message: str) -> None:
    rule = '[[rules]]\npair = { axes = ["draft_template", "essay_template"], allowed = "@allowed.csv" }\n'
    text = cohort_with() + rule

    problems = mistakes_of(tmp_path, text, {"cohorts/allowed.csv": content})

    assert problems == [f"line {line_of(text, 'pair')}: {message}"]


# Mistakes in combos


@pytest.mark.parametrize(
    ("combos", "line", "message"),
    [
        ('concepts = ["moat"]', 1, "the key 'size' is missing. Expected size = a whole number of at least 1."),
        ('concepts = ["moat"]\nsize = 0', 3, "size is 0. Expected a whole number of at least 1."),
        ('concepts = ["moat"]\nsize = 2', 3, "size is 2, but there are 1 concepts. Expected at most that many."),
        ('concepts = ["moat", "mote"]\nsize = 1', 2, "unknown concept 'mote'. Did you mean 'moat'?"),
        ('concepts = ["moat", "moat"]\nsize = 1', 2, "concept 'moat' is listed twice. Expected it once."),
        ("concepts = 3\nsize = 1", 2, 'concepts is 3. Expected a list of names, such as ["a", "b"].'),
        ('list = [["moat"]]\nconcepts = ["moat"]', 1, "expected either concepts with size, or list."),
        (
            'list = [["moat"]]\nsize = 1',
            3,
            "size belongs to concepts. Expected list alone: its combos have their sizes.",
        ),
        ('level = "paragraph"', 1, "expected either concepts with size, or list."),
        ("", 1, "there are no [combos]. Expected the concepts that the drafts combine."),
        ("list = []", 2, 'list is empty. Expected combos, such as [["a", "b"], ["b", "c"]].'),
        ('list = ["moat"]', 2, 'list has the row \'moat\'. Expected lists of names, such as [["a", "b"]].'),
        ("list = [[]]", 2, 'list has the row []. Expected lists of names, such as [["a", "b"]].'),
        ("list = 3", 2, 'list has the row 3. Expected lists of names, such as [["a", "b"]].'),
        ('list = [["mote"]]', 2, "unknown concept 'mote'. Did you mean 'moat'?"),
        ('list = [["moat", "moat"]]', 2, "the combo moat+moat names a concept twice. Expected each concept once."),
        ('list = [["moat"], ["moat"]]', 2, "the combo moat is listed twice. Expected it once."),
        (
            'list = [["moat"]]\nlevel = "paragraf"',
            3,
            "level is 'paragraf'. Expected one of: sentence, paragraph, article.",
        ),
        ('list = [["moat"]]\nlimit = 0', 3, "limit is 0. Expected a whole number of at least 1."),
        ('list = [["moat"]]\nsample = 3', 3, "sample is 3. Expected a table."),
        ('list = [["moat"]]\nsample = { count = 1 }', 3, "the key 'seed' is missing. Expected seed = a whole number"),
        ('list = [["moat"]]\nsample = { seed = 1 }', 3, "the key 'count' is missing. Expected count = a whole number"),
        ('list = [["moat"]]\nsample = { count = 1, sed = 1 }', 3, "unknown key 'sed'. Did you mean 'seed'?"),
        ('list = [["moat"]]\nlimt = 1', 3, "unknown key 'limt'. Did you mean 'limit'?"),
    ],
)
def test_a_mistake_in_combos_is_reported_at_its_line(tmp_path: Path, combos: str, line: int, message: str) -> None:
    text = f"[combos]\n{combos}\n" + cohort_with(combos="")

    problems = mistakes_of(tmp_path, text)

    assert any(problem.startswith(f"line {line}: {message}") for problem in problems), problems


def test_a_size_that_gives_too_many_combos_is_a_mistake(tmp_path: Path) -> None:
    ids = [f"c{number}" for number in range(60)]
    table = "concept_id,name\n" + "".join(f"{name},{name}\n" for name in [*ids, "flywheel", "moat", "tide"])
    text = cohort_with(combos=f"concepts = {ids}\nsize = 30")

    assert mistakes_of(tmp_path, text, {"concepts.csv": table}) == [
        "line 3: size 30 of 60 concepts gives 118,264,581,564,861,424 combos. "
        "Expected at most 1,000,000: choose fewer concepts or another size."
    ]


# Mistakes in stages


@pytest.mark.parametrize(
    ("sections", "start", "message"),
    [
        (
            {"draft": 'templates = ["lst"]\nmodels = ["small"]'},
            "templates",
            "unknown draft template 'lst'. Did you mean",
        ),
        (
            {"draft": 'templates = ["plain"]\nmodels = ["small"]'},
            "templates",
            "unknown draft template 'plain'. Known: ",
        ),
        ({"draft": 'templates = ["list"]\nmodels = ["smal"]'}, "models", "unknown model 'smal'. Did you mean 'small'?"),
        ({"draft": 'templates = ["list"]'}, "[draft]", "no models. Expected models = a list of model ids."),
        ({"draft": 'models = ["small"]'}, "[draft]", "no templates. Expected templates = a list of template ids."),
        ({"draft": 'templates = []\nmodels = ["small"]'}, "templates", "no templates. Expected templates = a list of"),
        (
            {"draft": 'templates = ["list"]\nmodels = ["small"]\nreplicates = 0'},
            "replicates",
            "replicates is 0. Expected a whole number of at least 1.",
        ),
        (
            {"draft": 'templates = ["list"]\nmodels = ["small"]\nreplicate = 2'},
            "replicate",
            "unknown key 'replicate'. Did you mean 'replicates'?",
        ),
        (
            {"draft": 'templates = ["list"]\nmodels = ["small"]\ntarget = "draft"'},
            "target",
            "unknown key 'target'. Known: models, replicates, source_doc_ids, templates.",
        ),
        (
            {"draft": 'models = ["small"]\nsource_doc_ids = ["ABC"]'},
            "source_doc_ids",
            "'ABC' is not a doc_id. Expected 16 characters of 0-9 and a-z.",
        ),
        ({"draft": f'source_doc_ids = ["{DOC_ID}"]'}, "[draft]", "no models. Expected models = a list of model ids."),
        (
            {"evaluation": 'templates = ["clarity"]\nmodels = ["judge"]\ntarget = "esay"'},
            "target",
            "target is 'esay'. Expected one of: essay, draft. Did you mean 'essay'?",
        ),
        ({"essay": ""}, "[evaluation]", 'evaluations target essays, but there is no [essay]. Set target = "draft".'),
    ],
)
def test_a_mistake_in_a_stage_is_reported_at_its_line(
    tmp_path: Path, sections: dict[str, str], start: str, message: str
) -> None:
    text = cohort_with(**sections)

    problems = mistakes_of(tmp_path, text)

    assert any(problem.startswith(f"line {line_of(text, start)}: {message}") for problem in problems), problems


@pytest.mark.parametrize("text", ["", "# nothing yet\n", 'description = "Nothing yet"\n', "[combos]\n"])
def test_a_cohort_without_drafts_is_a_mistake(tmp_path: Path, text: str) -> None:
    assert any("there is no [draft] table. Expected one: " in problem for problem in mistakes_of(tmp_path, text))


def test_drafts_without_combos_are_a_mistake(tmp_path: Path) -> None:
    assert mistakes_of(tmp_path, cohort_with(combos="")) == [
        "there are no [combos]. Expected the concepts that the drafts combine."
    ]


def test_an_unknown_table_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    text = cohort_with(evalution='templates = ["clarity"]')

    assert mistakes_of(tmp_path, text) == [
        f"line {line_of(text, '[evalution]')}: unknown key 'evalution'. Did you mean 'evaluation'?"
    ]


@pytest.mark.parametrize("key", ["combos", "draft", "essay", "evaluation", "select"])
@pytest.mark.parametrize("value", ["3", "[]", "['x']"])
def test_what_should_be_a_table_and_is_none_is_reported(tmp_path: Path, key: str, value: str) -> None:
    text = f"{key} = {value}\n" + cohort_with(**{key: ""})

    problems = mistakes_of(tmp_path, text)

    assert any(problem.startswith(f"line 1: {key} is ") and "Expected a table." in problem for problem in problems)


def test_a_file_that_is_not_toml_is_one_mistake(tmp_path: Path) -> None:
    problems = mistakes_of(tmp_path, "[combos\n")

    assert len(problems) == 1
    assert problems[0].startswith("line 1: not TOML: ")


@pytest.mark.parametrize("name", ["a b", "a__b", "-a"])
def test_a_name_that_cannot_be_one_is_reported(tmp_path: Path, name: str) -> None:
    problems = problems_of(tmp_path, {f"cohorts/{name}.toml": CONFIG["cohorts/first.toml"]})

    assert len(problems) == 1
    assert problems[0].startswith(f"cohorts/{name}.toml: not a cohort name. Expected letters, digits")


# Mistakes in rules and selection


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "a rule names 0 kinds. Expected one of: subset, tie, pair, tuple."),
        (
            'tie = ["draft_model", "essay_model"]\nsubset = { axis = "draft_model", keep = ["small"] }',
            "a rule names 2 kinds. Expected one of: subset, tie, pair, tuple.",
        ),
        ('tye = ["draft_model", "essay_model"]', "unknown key 'tye'. Did you mean 'tie'?"),
        ("subset = 3", "subset is 3. Expected a table."),
        ('subset = { keep = ["small"] }', "the key 'axis' is missing. Expected axis = a text in quotes."),
        (
            'subset = { axis = "draft_modl", keep = ["small"] }',
            "unknown axis 'draft_modl'. Did you mean 'draft_model'?",
        ),
        (
            'subset = { axis = "draft_model", keep = ["smal"] }',
            "draft_model has no value 'smal' here. Did you mean 'small'?",
        ),
        (
            'subset = { axis = "draft_model", keep = ["judge"] }',
            "draft_model has no value 'judge' here. Known: small.",
        ),
        (
            'subset = { axis = "draft_model", keep = [] }',
            "this subset lets nothing through. Expected keep = a list of what it lets through.",
        ),
        ('subset = { axis = "draft_model" }', "this subset lets nothing through. Expected keep = a list"),
        ('subset = { axis = "draft_model", kep = ["small"] }', "unknown key 'kep'. Did you mean 'keep'?"),
        ('tie = "draft_model"', "tie is 'draft_model'. Expected a list of names"),
        ('tie = ["draft_model"]', "a tie names 1 axes. Expected at least two."),
        ('tie = ["draft_model", "draft_model"]', "a tie names 1 axes. Expected at least two."),
        (
            'tie = ["draft_model", "essay_model", "draft_model"]',
            "a tie names an axis twice: draft_model, essay_model, draft_model. Expected each axis once.",
        ),
        (
            'tie = ["draft_template", "essay_template"]',
            "draft_template and essay_template have no value in common. Expected one that they can share.",
        ),
        (
            'pair = { axes = ["draft_model"], allowed = [["small"]] }',
            "a pair names 1 axes. Expected two; use tuple for more.",
        ),
        (
            'pair = { axes = ["draft_model", "essay_model"], allowed = [["small"]] }',
            "allowed has the row ['small']. Expected 2 values: draft_model, essay_model.",
        ),
        (
            'pair = { axes = ["draft_model", "essay_model"] }',
            "this pair lets nothing through. Expected allowed = a list",
        ),
        (
            'pair = { axes = ["draft_model", "essay_model"], alowed = [["small", "small"]] }',
            "unknown key 'alowed'. Did you mean 'allowed'?",
        ),
        (
            'tuple = { axes = ["draft_model", "essay_model"], allowed = [["small", "smal"]] }',
            "essay_model has no value 'smal' here. Did you mean 'small'?",
        ),
        ('tuple = { axes = ["draft_model"], allowed = [["small"]] }', "a tuple names 1 axes. Expected at least two."),
        ('tuple = { axes = 3, allowed = [["small"]] }', "axes is 3. Expected a list of names"),
    ],
)
def test_a_mistake_in_a_rule_is_reported_at_its_line(tmp_path: Path, rule: str, message: str) -> None:
    text = cohort_with() + f"[[rules]]\n{rule}\n"
    first = line_of(text, "[[rules]]")

    problems = mistakes_of(tmp_path, text)

    assert any(problem.split(": ", 1)[1].startswith(message) for problem in problems), problems
    assert {problem.split(": ", 1)[0] for problem in problems} <= {f"line {first}", f"line {first + 1}"}


def test_a_rule_on_an_axis_that_the_cohort_does_not_have_is_a_mistake(tmp_path: Path) -> None:
    text = cohort_with(essay='templates = ["same"]') + '[[rules]]\ntie = ["draft_model", "essay_model"]\n'

    assert mistakes_of(tmp_path, text) == [
        f"line {line_of(text, 'tie')}: this cohort has no axis 'essay_model'. It has: combo, draft_template, "
        "draft_model, essay_template, evaluation_template, evaluation_model."
    ]


def test_each_rule_is_reported_at_its_own_line(tmp_path: Path) -> None:
    text = (
        cohort_with()
        + '[[rules]]\ntie = ["draft_modl", "essay_model"]\n\n[[rules]]\ntie = ["draft_model", "esay_model"]\n'
    )

    problems = mistakes_of(tmp_path, text)

    last = len(text.splitlines())
    assert [problem.split(":")[0] for problem in problems] == [f"line {last - 3}", f"line {last}"]


@pytest.mark.parametrize("rules", ["rules = 3\n", "rules = {}\n", "[rules]\n"])
def test_rules_are_an_array_of_tables(tmp_path: Path, rules: str) -> None:
    text = rules + cohort_with() if "=" in rules else cohort_with() + rules

    (problem,) = mistakes_of(tmp_path, text)

    assert problem.endswith("Expected tables, each below a line [[rules]].")


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("limt = 3", "unknown key 'limt'. Did you mean 'limit'?"),
        ("limit = 0", "limit is 0. Expected a whole number of at least 1."),
        ("sample = { count = 0, seed = 1 }", "count is 0. Expected a whole number of at least 1."),
        ("sample = { count = 5, seed = -1 }", "seed is -1. Expected a whole number of at least 0."),
        (f"sample = {{ count = 5, seed = {2**70} }}", f"seed is {2**70}. Expected a whole number"),
    ],
)
def test_a_mistake_in_the_selection_is_reported_at_its_line(tmp_path: Path, select: str, message: str) -> None:
    text = cohort_with(select=select)

    (problem,) = mistakes_of(tmp_path, text)

    assert problem.startswith(f"line {line_of(text, '[select]') + 1}: {message}")
