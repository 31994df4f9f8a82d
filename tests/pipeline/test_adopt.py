"""A workspace becomes a config folder: what is taken over, what is only noted, and what is refused."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.adoption import Adoption, adopt_workspace
from pipeline.adoption.toml_writer import encode_toml_key, encode_toml_table, encode_toml_value
from pipeline.cohorts import Cohort
from pipeline.configuration import load_configuration
from pipeline.errors import InputInvalid
from pipeline.prompts import render_prompt
from pipeline.scores import Scale
from pipeline.stages import Stage

REAL_WORKSPACE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "daydreaming"
needs_real_workspace = pytest.mark.skipif(
    not REAL_WORKSPACE.is_dir(), reason="the reference workspace does not lie beside this checkout"
)

TEMPLATE_HEADER = "template_id,template_name,description,parser,generator\n"
DRAFT_TEXT = "Combine:\n{% for concept in concepts %}{{ concept.name }}: {{ concept.content }}\n{% endfor %}"
SMALL_WORKSPACE = {
    "concepts_metadata.csv": "concept_id,name\nflywheel,Flywheel\nmoat,Moat\n",
    "concepts/descriptions-sentence/flywheel.txt": "A heavy wheel.\n",
    "concepts/descriptions-paragraph/flywheel.txt": "A heavy wheel that keeps turning.\n\n",
    "concepts/descriptions-paragraph/moat.txt": "Water around a castle.",
    "draft_templates.csv": f"{TEMPLATE_HEADER}short,Short,For a start,,llm\nlong,Long,,essay_idea_last,llm\n",
    "templates/draft/short.txt": DRAFT_TEXT,
    "templates/draft/long.txt": DRAFT_TEXT + "Take your time.",
    "essay_templates.csv": f"{TEMPLATE_HEADER}same,Same,,,copy\nplain,Plain,,,llm\n",
    "templates/essay/plain.txt": "Make an essay of:\r\n{{ links_block }}",
    "evaluation_templates.csv": f"{TEMPLATE_HEADER}old,Old,,complex,llm\nnew,New, a blank in front,in_last_line,llm\n",
    "templates/evaluation/old.txt": "Judge {{ response }}",
    "templates/evaluation/new.txt": "Judge again {{ response }}",
    "llm_models.csv": 'id,model,provider,display_name,specialization\nbig_2.5,maker/big:free,maker,"Big (Free)",all\n',
    "replication_config.csv": "stage,replicates\ndraft,1\nessay,1\nevaluation,2\n",
}


def make_workspace(folder: Path, changes: dict[str, str | None] | None = None) -> Path:
    """Write SMALL_WORKSPACE with `changes` (None leaves a file out) and return the folder that holds 1_raw/."""
    for file, text in (SMALL_WORKSPACE | (changes or {})).items():
        if text is not None:
            path = folder / "1_raw" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    return folder


def adopt_changed(folder: Path, changes: dict[str, str | None]) -> Adoption:
    return adopt_workspace(make_workspace(folder / "workspace", changes), folder / "config")


def refusal_of(folder: Path, changes: dict[str, str | None]) -> str:
    """Return why a changed workspace is refused; nothing may have been written."""
    with pytest.raises(InputInvalid) as refusal:
        adopt_changed(folder, changes)
    assert not (folder / "config").exists()
    return str(refusal.value)


def load_adopted(folder: Path) -> Cohort:
    return load_configuration(folder / "config").get_cohort("adopted")


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names_of(adoption: Adoption, kind: str, stage: str = "") -> list[str]:
    return [note.place.name for note in adoption.notes if note.kind == kind and note.place.stage == stage]


@pytest.fixture
def real(tmp_path: Path) -> Adoption:
    return adopt_workspace(REAL_WORKSPACE, tmp_path / "config")


# The reference workspace


@needs_real_workspace
def test_the_totals_of_the_reference_workspace(real):
    assert real.counts == {
        "concepts": 18,
        "distinct_names": 15,
        "duplicate_names": 3,
        "description_files": 34,
        "description_files_without_row": 0,
        "descriptions": {
            "sentence": {"own": 15, "from_paragraph": 1, "name_only": 2},
            "paragraph": {"own": 16, "from_sentence": 0, "name_only": 2},
            "article": {"own": 3, "from_paragraph": 13, "from_sentence": 0, "name_only": 2},
        },
        "templates": {
            "draft": {"rows": 22, "files": 11, "rows_without_file": 11, "files_without_row": 0, "usable": 11},
            "essay": {"rows": 8, "files": 7, "rows_without_file": 1, "files_without_row": 0, "usable": 8},
            "evaluation": {"rows": 17, "files": 10, "rows_without_file": 9, "files_without_row": 2, "usable": 8},
        },
        "parsers": {
            "draft": {"identity": 18, "essay_block_lenient": 2, "essay_idea_last": 2},
            "essay": {"identity": 8},
            "evaluation": {"in_last_line": 17},
        },
        "models": 24,
        "free_tier_models": 18,
        "replicates": {"draft": 1, "essay": 1, "evaluation": 2},
        "legacy_link_rows": 21,
    }


@needs_real_workspace
def test_the_quirks_of_the_reference_workspace_are_noted(real):
    kinds = Counter(note.kind for note in real.notes)

    assert kinds["row_without_file"] == 21
    assert names_of(real, "row_without_file", "essay") == ["parsed-from-links-v1"]
    assert names_of(real, "file_without_row", "evaluation") == ["daydreaming-verification", "iterative-loops"]
    assert names_of(real, "identical_templates", "essay") == [
        "creative-synthesis-v10, creative-synthesis-v8, creative-synthesis-v9"
    ]
    assert names_of(real, "similar_ids", "draft") == ["recursive_construction, recursive-construction"]
    assert "economic-moat, economic-moat-v1" in names_of(real, "duplicate_name")
    assert kinds["duplicate_name"] == 3
    assert kinds["parser_mapped"] == 17
    assert [note.place.file for note in real.notes if note.kind == "ignored_file"] == ["link_templates.csv"]


@needs_real_workspace
def test_three_concepts_of_the_reference_workspace_have_no_sentence(real):
    missing = [note.place.name for note in real.notes if note.place.file.startswith("concepts/descriptions-sentence/")]

    assert sorted(missing) == ["economic-moat-v1", "generate-and-test", "large-language-model-v1"]


@needs_real_workspace
def test_texts_are_taken_over_byte_for_byte(real):
    raw_folder = REAL_WORKSPACE / "1_raw"

    templates, raw_templates = read_folder(real.config_root / "templates"), read_folder(raw_folder / "templates")
    assert templates | raw_templates == templates
    assert sorted(set(templates) - set(raw_templates)) == [
        "evaluation/creativity-metrics-v2-as-json.txt",
        "evaluation/score-0-9.json",
        "evaluation/style-coherence-as-json.txt",
    ]
    for level in ("sentence", "paragraph", "article"):
        source = read_folder(raw_folder / "concepts" / f"descriptions-{level}")
        assert read_folder(real.config_root / "concepts" / level) == source


@needs_real_workspace
def test_only_usable_templates_of_the_reference_workspace_and_two_twins_have_a_table(real):
    tables = read_toml(real.config_root / "templates.toml")

    assert {stage: len(of_stage) for stage, of_stage in tables.items()} == {"draft": 11, "essay": 8, "evaluation": 10}
    assert {"recursive-construction", "recursive_construction"} <= set(tables["draft"])
    assert tables["essay"]["parsed-from-links-v1"]["mode"] == "copy"
    assert tables["draft"]["rolling-summary-simplified-v1"]["description"].startswith("Cumulative idea thread; 3–5 ")


@needs_real_workspace
def test_the_reference_workspace_becomes_a_configuration_that_loads(real):
    configuration = load_configuration(real.config_root)

    assert len(configuration.concepts) == 18
    assert len(configuration.templates) == 29
    assert len(configuration.models) == 26
    cohort = configuration.get_cohort("adopted")
    assert [len(combo.concepts) for combo in cohort.combos.values()] == [2, 2, 2]
    assert {str(stage): (len(request.templates), request.replicates) for stage, request in cohort.stages.items()} == {
        "draft": (2, 1),
        "essay": (1, 1),
        "evaluation": (2, 2),
    }


@needs_real_workspace
def test_the_reference_workspace_is_never_changed(tmp_path):
    workspace = shutil.copytree(REAL_WORKSPACE, tmp_path / "workspace")
    before = read_folder(workspace)

    adopt_workspace(workspace, tmp_path / "config")

    assert read_folder(workspace) == before


# What is taken over


def test_a_small_workspace_becomes_a_configuration_that_loads(tmp_path):
    adopt_changed(tmp_path, {})

    configuration = load_configuration(tmp_path / "config")

    assert list(configuration.concepts) == ["flywheel", "moat"]
    assert list(configuration.get_cohort("adopted").combos) == ["flywheel+moat"]


def test_template_settings_are_mapped(tmp_path):
    adopt_changed(tmp_path, {})

    tables = read_toml(tmp_path / "config" / "templates.toml")
    assert tables["evaluation"].pop("old-as-json")["scale"] == [0, 10]
    assert tables["evaluation"].pop("new-as-json")["scale"] == [0, 9]
    assert tables == {
        "draft": {
            "short": {"parser": "identity", "min_lines": 3, "label": "Short", "description": "For a start"},
            "long": {"parser": "essay_idea_last", "min_lines": 3, "label": "Long"},
        },
        "essay": {
            "same": {"parser": "identity", "mode": "copy", "label": "Same"},
            "plain": {"parser": "identity", "label": "Plain"},
        },
        "evaluation": {
            "old": {"parser": "score_last_line", "scale": [0, 10], "label": "Old"},
            "new": {
                "parser": "score_last_line",
                "scale": [0, 9],
                "label": "New",
                "description": " a blank in front",
            },
        },
    }


def test_models_are_called_as_the_workspace_called_them(tmp_path):
    adopt_changed(tmp_path, {})

    models = read_toml(tmp_path / "config" / "models.toml")
    assert models["big_2.5"] == {
        "model": "openrouter/maker/big:free",
        "temperature": 0.7,
        "max_tokens": 20480,
        "api_key_env": "OPENROUTER_API_KEY",
        "label": "Big (Free)",
        "description": "maker, all",
    }
    assert models["smollm2"]["model"] == "local/smollm2-135m-instruct"


def test_a_model_of_the_workspace_keeps_its_id_where_ours_has_the_same(tmp_path):
    adopt_changed(tmp_path, {"llm_models.csv": "id,model,provider,display_name,specialization\nsmollm2,a/b,,,\n"})

    models = read_toml(tmp_path / "config" / "models.toml")
    assert models["smollm2"]["model"] == "openrouter/a/b"
    assert models["smollm2-local"]["model"] == "local/smollm2-135m-instruct"


def test_the_first_cohort_takes_the_shortest_templates_without_a_form_first(tmp_path):
    adopt_changed(tmp_path, {})

    cohort = read_toml(tmp_path / "config" / "cohorts" / "adopted.toml")
    assert cohort["draft"] == {"templates": ["short", "long"], "models": ["smollm2"], "replicates": 1}
    assert cohort["essay"]["templates"] == ["plain"]
    assert cohort["evaluation"] == {
        "templates": ["old-as-json", "new-as-json"],
        "target": "essay",
        "models": ["smollm2-judge"],
        "replicates": 2,
    }


def test_a_judge_of_the_workspace_keeps_its_id_where_ours_has_the_same(tmp_path):
    row = "smollm2-judge,a/b,,,"
    adopt_changed(tmp_path, {"llm_models.csv": f"id,model,provider,display_name,specialization\n{row}\n"})

    models = read_toml(tmp_path / "config" / "models.toml")
    assert models["smollm2-judge"]["model"] == "openrouter/a/b"
    assert models["smollm2-judge-local"]["model"] == "local/smollm2-135m-instruct"
    assert load_adopted(tmp_path).stages[Stage.EVALUATION].models[0].model_id == "smollm2-judge-local"


@pytest.mark.parametrize(("name", "scale"), [("old", "0 to 10"), ("new", "0 to 9")])
def test_a_twin_asks_what_its_original_asks_and_then_for_json(tmp_path, name, scale):
    adopt_changed(tmp_path, {})

    templates = load_configuration(tmp_path / "config").templates
    original, twin = (
        render_prompt(template.file_name, template.texts, {"response": "An essay."})
        for template in (templates[Stage.EVALUATION, name], templates[Stage.EVALUATION, f"{name}-as-json"])
    )
    assert twin == (
        f"{original}\n\nInstead of the form that is asked for above, answer in JSON:\n"
        f'your "reason" in one sentence, then your "score", a whole number from {scale}.\n'
    )


def test_a_twin_takes_only_an_answer_of_its_form_on_the_scale_of_its_original(tmp_path):
    adopt_changed(tmp_path, {})

    twin = load_configuration(tmp_path / "config").templates[Stage.EVALUATION, "old-as-json"]
    assert (twin.parser, twin.scale) == ("json_score", Scale(0, 10))
    assert twin.response_schema == {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": 160},
            "score": {"type": "integer", "minimum": 0, "maximum": 10},
        },
        "required": ["reason", "score"],
        "additionalProperties": False,
    }


def test_twins_are_noted_and_counted_as_no_part_of_the_workspace(tmp_path):
    adoption = adopt_changed(tmp_path, {})

    assert names_of(adoption, "template_added", "evaluation") == ["old-as-json", "new-as-json"]
    assert names_of(adoption, "model_added") == ["smollm2", "smollm2-judge"]
    assert adoption.counts["templates"]["evaluation"]["usable"] == 2


def test_the_first_cohort_says_how_to_go_back_to_the_originals(tmp_path):
    adopt_changed(tmp_path, {})

    text = (tmp_path / "config" / "cohorts" / "adopted.toml").read_text(encoding="utf-8")
    assert '# templates = ["old", "new"]\n[evaluation]\n' in text


@pytest.mark.parametrize(
    "taken",
    [
        {"evaluation_templates.csv": f"{TEMPLATE_HEADER}old,Old,,complex,llm\nold-as-json,Mine,,complex,llm\n"},
        {"templates/evaluation/old-as-json.txt": "Mine"},
    ],
    ids=["by a row", "by a file"],
)
def test_a_template_of_the_workspace_keeps_its_id_where_a_twin_has_the_same(tmp_path, taken):
    adoption = adopt_changed(tmp_path, taken)

    assert "old-as-json-as-json" in names_of(adoption, "template_added", "evaluation")
    twin = load_configuration(tmp_path / "config").templates[Stage.EVALUATION, "old-as-json-as-json"]
    assert twin.text.startswith('{% include "old.txt" %}\n')


def test_the_twin_of_a_template_with_a_long_id_has_an_id_too(tmp_path):
    name = "long" * 25
    adoption = adopt_changed(
        tmp_path,
        {
            "evaluation_templates.csv": f"{TEMPLATE_HEADER}{name},Long,,complex,llm\n",
            f"templates/evaluation/{name}.txt": "Judge {{ response }}",
        },
    )

    assert names_of(adoption, "template_added", "evaluation") == [f"{name[:80]}-as-json"]
    load_configuration(tmp_path / "config")


def test_a_cohort_without_evaluations_needs_no_judge(tmp_path):
    adoption = adopt_changed(tmp_path, {"evaluation_templates.csv": TEMPLATE_HEADER})

    assert names_of(adoption, "model_added") == ["smollm2"]
    assert "smollm2-judge" not in read_toml(tmp_path / "config" / "models.toml")
    assert list(load_adopted(tmp_path).stages) == [Stage.DRAFT, Stage.ESSAY]


def test_a_cohort_without_usable_essays_evaluates_drafts(tmp_path):
    adopt_changed(tmp_path, {"essay_templates.csv": TEMPLATE_HEADER})

    cohort = load_configuration(tmp_path / "config").get_cohort("adopted")
    assert [str(stage) for stage in cohort.stages] == ["draft", "evaluation"]
    assert cohort.stages[next(reversed(cohort.stages))].target == "draft"


def test_a_cohort_that_only_copies_essays_asks_no_model_for_them(tmp_path):
    adopt_changed(tmp_path, {"essay_templates.csv": f"{TEMPLATE_HEADER}same,Same,,,copy\n"})

    assert "models" not in read_toml(tmp_path / "config" / "cohorts" / "adopted.toml")["essay"]
    load_configuration(tmp_path / "config")


def test_a_workspace_without_drafts_gets_no_cohort_and_a_note(tmp_path):
    adoption = adopt_changed(tmp_path, {"draft_templates.csv": TEMPLATE_HEADER})

    kinds = {note.kind for note in adoption.notes}
    assert "no_cohort" in kinds
    assert "template_added" not in kinds
    assert not (tmp_path / "config" / "cohorts").exists()


def test_ids_lose_blanks_and_a_mark_at_the_start_of_the_file_is_ignored(tmp_path):
    adopt_changed(tmp_path, {"concepts_metadata.csv": "\ufeffconcept_id,name\r\n flywheel ,Flywheel\r\nmoat,Moat\r\n"})

    assert list(load_configuration(tmp_path / "config").concepts) == ["flywheel", "moat"]


def test_a_blank_description_counts_as_missing(tmp_path):
    adoption = adopt_changed(tmp_path, {"concepts/descriptions-paragraph/flywheel.txt": " \n"})

    assert adoption.counts["descriptions"]["paragraph"] == {"own": 1, "from_sentence": 1, "name_only": 0}
    assert "No paragraph text: the sentence is used." in [note.message for note in adoption.notes]


@pytest.mark.parametrize("raw_folder_given", [True, False])
def test_either_the_workspace_or_its_raw_folder_can_be_given(tmp_path, raw_folder_given):
    workspace = make_workspace(tmp_path / "workspace")

    adoption = adopt_workspace(workspace / "1_raw" if raw_folder_given else workspace, tmp_path / "config")

    assert adoption.counts["concepts"] == 2


# What is only noted


def test_a_row_without_a_file_is_noted_and_stays_as_a_comment(tmp_path):
    adoption = adopt_changed(tmp_path, {"templates/draft/long.txt": None})

    text = (tmp_path / "config" / "templates.toml").read_text(encoding="utf-8")
    assert names_of(adoption, "row_without_file", "draft") == ["long"]
    assert "long" not in tomllib.loads(text)["draft"]
    assert '# [draft.long]\n# parser = "essay_idea_last"\n# min_lines = 3' in text


def test_the_comments_of_unusable_templates_become_tables_when_the_marks_are_removed(tmp_path):
    adopt_changed(
        tmp_path,
        {"templates/draft/long.txt": None, "templates/evaluation/loose.txt": "Judge {{ response }}"},
    )

    text = (tmp_path / "config" / "templates.toml").read_text(encoding="utf-8")
    unmarked = "\n".join(line.removeprefix("# ") for line in text.split("\n") if "=" in line or "[" in line)
    assert set(tomllib.loads(unmarked)["draft"]) == {"short", "long"}
    assert tomllib.loads(unmarked)["evaluation"]["loose"]["scale"] == [0, 9]


def test_a_file_without_a_row_is_copied_and_noted(tmp_path):
    adoption = adopt_changed(tmp_path, {"templates/essay/loose.txt": "{{ draft_block }}"})

    assert names_of(adoption, "file_without_row", "essay") == ["loose"]
    assert (tmp_path / "config" / "templates" / "essay" / "loose.txt").read_bytes() == b"{{ draft_block }}"
    assert "loose" not in read_toml(tmp_path / "config" / "templates.toml")["essay"]


def test_a_description_without_a_concept_is_noted_and_not_copied(tmp_path):
    adoption = adopt_changed(tmp_path, {"concepts/descriptions-sentence/ghost.txt": "Boo."})

    assert names_of(adoption, "file_without_row") == ["ghost"]
    assert adoption.counts["description_files_without_row"] == 1
    load_configuration(tmp_path / "config")


@pytest.mark.parametrize(
    ("file", "row", "text", "reason"),
    [
        ("draft", "odd,Odd,,essay_blok,llm", DRAFT_TEXT, "Parser 'essay_blok' does not fit draft templates."),
        ("draft", "odd,Odd,,in_last_line,llm", DRAFT_TEXT, "Parser 'in_last_line' does not fit draft templates."),
        ("evaluation", "odd,Odd,,,llm", "{{ response }}", "Parser 'identity' does not fit evaluation templates."),
        ("draft", "odd,Odd,,,copy", DRAFT_TEXT, "Only essays can be copied"),
        ("draft", "odd,Odd,,,magic", DRAFT_TEXT, "Generator 'magic' is not known. Known: llm, copy."),
        ("draft", "odd,Odd,,,llm", "{% for %}", "odd.txt, line 1: "),
        ("draft", "odd,Odd,,,llm", "{{ concpts }}", "uses 'concpts'. Provided: concepts."),
    ],
)
def test_a_row_that_cannot_work_is_noted_with_the_reason(tmp_path, file, row, text, reason):
    adoption = adopt_changed(
        tmp_path,
        {f"{file}_templates.csv": f"{TEMPLATE_HEADER}{row}\n", f"templates/{file}/odd.txt": text},
    )

    (note,) = [note for note in adoption.notes if note.kind == "row_not_usable"]
    assert reason in note.message
    assert adoption.counts["templates"][file]["usable"] == 0
    load_configuration(tmp_path / "config")


def test_a_template_may_include_a_file_that_has_no_row(tmp_path):
    adopt_changed(
        tmp_path,
        {
            "templates/draft/short.txt": "{% include 'tone.txt' %}" + DRAFT_TEXT,
            "templates/draft/tone.txt": "Be kind.\n",
        },
    )

    assert "short" in read_toml(tmp_path / "config" / "templates.toml")["draft"]


def test_files_and_columns_without_a_place_are_noted(tmp_path):
    adoption = adopt_changed(
        tmp_path,
        {
            "notes.md": "mine",
            "templates/links/old.txt": "old",
            "replication_config.csv": "stage,replicates,owner\ndraft,2,me\n",
        },
    )

    ignored = [note.place.file for note in adoption.notes if note.kind == "ignored_file"]
    assert ignored == ["notes.md", "templates/links/old.txt"]
    assert names_of(adoption, "ignored_column") == ["owner"]
    assert adoption.counts["replicates"] == {"draft": 2, "essay": 1, "evaluation": 1}


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llm_models.csv": None}, "llm_models.csv: The file is missing. Expected columns: id, model, provider"),
        ({"replication_config.csv": "stage\ndraft\n"}, "replication_config.csv, line 1: Missing columns: replicates."),
        ({"concepts_metadata.csv": ""}, "concepts_metadata.csv, line 1: Missing columns: concept_id, name."),
        ({"concepts_metadata.csv": "concept_id,name,name\n"}, "line 1: Columns named twice: 'name'."),
        (
            {"concepts_metadata.csv": "concept_id,name\na,A\nb,B, really\n"},
            "concepts_metadata.csv, line 3: The row has 3 cells, the header 2.",
        ),
        (
            {"concepts_metadata.csv": 'concept_id,name\na,"A\nB"\na,A\n'},
            "concepts_metadata.csv, line 4: concept_id 'a' stands on line 2 too.",
        ),
        ({"concepts_metadata.csv": "concept_id,name\na b,A\n"}, "line 2: concept_id 'a b' is not an id."),
        ({"concepts_metadata.csv": "concept_id,name\na__b,A\n"}, "line 2: concept_id 'a__b' is not an id."),
        ({"concepts_metadata.csv": "concept_id,name\na, \n"}, "line 2: Concept 'a' has no name."),
        ({"concepts_metadata.csv": 'concept_id,name\na,"A\n'}, "line 2: The row that begins here is not CSV"),
        (
            {"draft_templates.csv": "template_id,template_name,description,parser,generator,active\n"},
            "draft_templates.csv, line 1: The column 'active' is not accepted.",
        ),
        (
            {"replication_config.csv": "stage,replicates\ndraft,none\n"},
            "replication_config.csv, line 2: Replicates are 'none'. Expected a whole number from 1.",
        ),
        ({"replication_config.csv": "stage,replicates\nlink,1\n"}, "line 2: Stage 'link' is not known."),
        (
            {"llm_models.csv": "id,model,provider,display_name,specialization\na,,,,\n"},
            "llm_models.csv, line 2: Model 'a' is routed to ''.",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_file_and_line(tmp_path, changes, message):
    assert message in refusal_of(tmp_path, changes)


def test_every_mistake_is_listed_at_once(tmp_path):
    message = refusal_of(
        tmp_path,
        {"llm_models.csv": None, "concepts_metadata.csv": "concept_id,name\n-,A\na,A\na,A\n"},
    )

    assert message.startswith("3 mistakes were found in ")


def test_a_text_that_is_not_utf_8_is_refused(tmp_path):
    workspace = make_workspace(tmp_path / "workspace")
    (workspace / "1_raw" / "templates" / "draft" / "short.txt").write_bytes(b"caf\xe9 {{ concepts }}")

    with pytest.raises(InputInvalid, match=r"templates/draft/short\.txt: The file is not UTF-8 \(byte 3\)"):
        adopt_workspace(workspace, tmp_path / "config")


def test_a_folder_that_is_no_workspace_is_refused(tmp_path):
    with pytest.raises(InputInvalid, match="is not a workspace: it holds neither 1_raw/ nor "):
        adopt_workspace(tmp_path, tmp_path / "config")


def test_a_config_folder_inside_the_workspace_is_refused(tmp_path):
    workspace = make_workspace(tmp_path)

    with pytest.raises(InputInvalid, match="which is never changed"):
        adopt_workspace(workspace, workspace / "1_raw" / "config")


# Writing


def test_adopting_the_same_twice_changes_nothing_and_says_so(tmp_path):
    first = adopt_changed(tmp_path, {})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "config").rglob("*")}

    second = adopt_workspace(tmp_path / "workspace", tmp_path / "config")

    assert second.written == []
    assert second.unchanged == first.written
    assert second.lines()[0].endswith("are unchanged.")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "config").rglob("*")} == before


def test_nothing_is_written_where_a_file_has_other_content_and_all_such_files_are_named(tmp_path):
    config_root = tmp_path / "config"
    config_root.mkdir()
    (config_root / "models.toml").write_text("# mine\n", encoding="utf-8")
    (config_root / "templates").write_text("a file where a folder belongs", encoding="utf-8")
    (config_root / "concepts.csv").mkdir()
    before = sorted(config_root.rglob("*"))

    with pytest.raises(InputInvalid) as refusal:
        adopt_workspace(make_workspace(tmp_path / "workspace"), config_root)

    for name in ("models.toml", "templates", "concepts.csv"):
        assert f"  {config_root / name}\n" in str(refusal.value)
    assert str(refusal.value).count("\n") == 4  # the folder's name once, not once for each file below it
    assert sorted(config_root.rglob("*")) == before


def test_missing_files_are_added_and_other_files_left_alone(tmp_path):
    adopt_changed(tmp_path, {})
    (tmp_path / "config" / "models.toml").unlink()
    (tmp_path / "config" / "cohorts" / "mine.toml").write_text("# mine\n", encoding="utf-8")

    adoption = adopt_workspace(tmp_path / "workspace", tmp_path / "config")

    assert adoption.written == ["models.toml"]
    assert (tmp_path / "config" / "cohorts" / "mine.toml").exists()


def test_no_partial_files_stay_behind(tmp_path):
    adoption = adopt_changed(tmp_path, {})

    assert sorted(read_folder(tmp_path / "config")) == adoption.written


def test_what_is_written_depends_on_the_workspace_alone(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"

    adopt_changed(one, {})
    adopt_changed(other, {})

    assert read_folder(one / "config") == read_folder(other / "config")


# The report


def test_the_report_is_plain_json(tmp_path):
    adoption = adopt_changed(tmp_path, {"templates/draft/long.txt": None})

    report = adoption.as_json()

    assert json.loads(json.dumps(report)) == report
    assert set(report) == {"source", "config_root", "written", "unchanged", "counts", "notes"}
    (note,) = [note for note in report["notes"] if note["kind"] == "row_without_file" and note["stage"] == "draft"]
    assert (note["id"], note["file"]) == ("long", "draft_templates.csv")


def test_the_lines_for_people_count_notes_by_kind_and_list_names(tmp_path):
    lines = adopt_changed(tmp_path, {"templates/draft/long.txt": None}).lines()

    assert "  draft templates: 1 usable; 2 rows, 1 files, 1 rows without a file, 0 files without a row" in lines
    position = lines.index("row_without_file (2)")
    assert lines[position + 1].startswith("  draft: ")
    assert lines[position + 2] == "    long"


# TOML


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_toml_the_same(text):
    table = encode_toml_table(("stage", text), {"label": text, "list": [text]})

    assert tomllib.loads(table) == {"stage": {text: {"label": text, "list": [text]}}}


def test_numbers_come_back_from_toml_the_same():
    assert tomllib.loads(f"value = {encode_toml_value([0, 9])}")["value"] == [0, 9]
    assert tomllib.loads(f"value = {encode_toml_value(0.7)}")["value"] == 0.7


@pytest.mark.parametrize(("key", "encoded"), [("v1-a_b", "v1-a_b"), ("v1.2", '"v1.2"'), ("9", "9"), ("é", '"é"')])
def test_a_key_is_quoted_only_where_toml_needs_it(key, encoded):
    assert encode_toml_key(key) == encoded
