"""Templates: every setting, every mistake in one, and what of a template is part of an identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Problem
from pipeline.parsers import PARSERS
from pipeline.scores import Scale
from pipeline.stages import Mode, Stage
from pipeline.templates import KEYS, Template, load_templates
from store.identity import hash_bytes
from tests.pipeline.config_folder import Files, edit, write_config

SCHEMA = '{"type": "object", "required": ["score"]}'


def load_changed_templates(folder: Path, changes: Files) -> tuple[dict[tuple[Stage, str], Template], list[str]]:
    """Return the templates and the mistakes of a changed config folder."""
    problems: list[Problem] = []
    templates = load_templates(write_config(folder, changes), problems)
    return templates, [str(problem) for problem in problems]


def load_one(folder: Path, settings: str, changes: Files | None = None, *, stage: str = "draft") -> Template:
    """Return the template <stage>.one with these settings; there may be no mistake."""
    templates, problems = load_changed_templates(folder, one_template(settings, stage=stage) | dict(changes or {}))
    assert not problems
    return templates[Stage(stage), "one"]


def mistakes_of(folder: Path, settings: str, changes: Files | None = None, *, stage: str = "draft") -> list[str]:
    return load_changed_templates(folder, one_template(settings, stage=stage) | dict(changes or {}))[1]


def one_template(settings: str, *, stage: str) -> dict[str, str | bytes | None]:
    return {"templates.toml": f"[{stage}.one]\n{settings}\n", f"templates/{stage}/one.txt": "Go."}


# Settings


def test_settings_have_defaults(tmp_path: Path) -> None:
    template = load_one(tmp_path, "")

    assert (template.mode, template.parser, template.min_lines) == (Mode.LLM, "identity", 0)
    assert (template.scale, template.response_schema) == (None, None)
    assert (template.label, template.description) == ("one", "")
    assert template.text == "Go."


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = (
        'parser = "json_score"\nmode = "llm"\nmin_lines = 3\nscale = [0, 9.5]\nresponse_schema = "score.json"\n'
        'label = "One"\ndescription = "The first."'
    )

    template = load_one(tmp_path, settings, {"templates/evaluation/score.json": SCHEMA}, stage="evaluation")

    assert {line.split(" ")[0] for line in settings.splitlines()} == set(KEYS)
    assert (template.parser, template.mode, template.min_lines) == ("json_score", Mode.LLM, 3)
    assert template.scale == Scale(0.0, 9.5)
    assert template.response_schema == {"type": "object", "required": ["score"]}
    assert (template.label, template.description) == ("One", "The first.")


def test_an_id_may_name_a_template_of_each_stage(tmp_path: Path) -> None:
    changes = {
        "templates.toml": '[draft."v1.0"]\n[essay."v1.0"]\n',
        "templates/draft/v1.0.txt": "Draft.",
        "templates/essay/v1.0.txt": "Essay.",
    }

    templates, problems = load_changed_templates(tmp_path, changes)

    assert {key: template.text for key, template in templates.items()} == {
        (Stage.DRAFT, "v1.0"): "Draft.",
        (Stage.ESSAY, "v1.0"): "Essay.",
    }
    assert not problems


def test_a_file_without_a_table_is_a_fragment(tmp_path: Path) -> None:
    templates, problems = load_changed_templates(tmp_path, {"templates/draft/unused.txt": "{{ topic }}"})

    assert not problems
    assert (Stage.DRAFT, "tone") not in templates
    assert list(templates[Stage.DRAFT, "synthesis"].texts) == ["synthesis.txt", "tone.txt"]


def test_a_copy_needs_no_file(tmp_path: Path) -> None:
    templates, problems = load_changed_templates(tmp_path, {})

    assert not problems
    assert templates[Stage.ESSAY, "same"].mode is Mode.COPY
    assert templates[Stage.ESSAY, "same"].texts == {}


def test_hidden_files_are_no_fragments(tmp_path: Path) -> None:
    assert load_changed_templates(tmp_path, {"templates/draft/.tone.txt.swp": b"\xff"})[1] == []


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, mark: bytes) -> None:
    assert load_one(tmp_path, "", {"templates/draft/one.txt": mark + b"Go.\r\n"}).text == "Go.\r\n"


# Mistakes


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("draft", "parsr = 'identity'", "line 2: unknown key 'parsr'. Did you mean 'parser'?"),
        ("draft", "parser = 1", "line 2: parser is 1. Expected a text in quotes."),
        ("draft", "parser = 'essay_blok'", "line 2: parser is 'essay_blok'. Expected one of: identity, essay_block, "),
        ("draft", "parser = 'json_score'", "line 2: parser is 'json_score'. Expected one of: identity, essay_block, "),
        (
            "essay",
            "mode = 'copy'\nresponse_schema = 'score.json'",
            "line 3: a copy asks no model. Expected no response_schema",
        ),
        ("draft", "mode = 'copy'", "line 2: mode is 'copy' in stage draft. Expected 'llm': only an essay can copy"),
        ("draft", "mode = 'cpy'", "line 2: mode is 'cpy'. Expected one of: llm, copy. Did you mean 'copy'?"),
        ("draft", "min_lines = -1", "line 2: min_lines is -1. Expected a whole number of at least 0."),
        ("draft", "min_lines = 1.5", "line 2: min_lines is 1.5. Expected a whole number of at least 0."),
        ("draft", "scale = [0, 10]", "line 2: stage draft has no score. Expected no scale: it belongs to evaluation"),
        ("essay", "scale = [0, 10]", "line 2: stage essay has no score."),
        ("draft", "label = 1", "line 2: label is 1. Expected a text in quotes."),
        ("draft", "description = []", "line 2: description is []. Expected a text in quotes."),
        ("draft", "response_schema = 1", "line 2: response_schema is 1. Expected a text in quotes."),
        (
            "evaluation",
            "scale = [0, 1]",
            "line 1: the key 'parser' is missing. Expected one of: score_last_line, json_",
        ),
        (
            "evaluation",
            "parser = 'json_score'",
            "line 1: the key 'scale' is missing. Expected scale = [lowest, highest]",
        ),
        (
            "evaluation",
            "parser = 'identity'\nscale = [0, 1]",
            "line 2: parser is 'identity'. Expected one of: score_last_line, json_score.",
        ),
        (
            "evaluation",
            "mode = 'copy'\nparser = 'json_score'\nscale = [0, 1]",
            "line 2: mode is 'copy' in stage evaluation. Expected 'llm'",
        ),
    ],
)
def test_a_wrong_setting_is_reported_at_its_line(tmp_path: Path, stage: str, settings: str, message: str) -> None:
    problems = mistakes_of(tmp_path, settings, stage=stage)

    assert problems
    assert problems[0].startswith(f"templates.toml, {message}")
    assert all("line 2" in problem for problem in problems) or len(problems) == 1


@pytest.mark.parametrize(
    "scale",
    ["5", "[]", "[0]", "[0, 5, 10]", "[10, 0]", "[1, 1]", "['0', '10']", "[false, true]", "[0, inf]", "[nan, 1]"],
)
def test_a_scale_is_two_numbers_the_lower_first(tmp_path: Path, scale: str) -> None:
    problems = mistakes_of(tmp_path, f"parser = 'json_score'\nscale = {scale}", stage="evaluation")

    assert len(problems) == 1
    assert problems[0].startswith("templates.toml, line 3: scale is ")
    assert problems[0].endswith("Expected [lowest, highest], such as [0, 10].")


@pytest.mark.parametrize("stage", ["draft", "essay", "evaluation"])
def test_each_stage_takes_the_parsers_that_fit_it(tmp_path: Path, stage: str) -> None:
    scale = "scale = [0, 10]" if stage == "evaluation" else ""

    fitting = [
        name
        for name in PARSERS
        if not mistakes_of(tmp_path / name, f"parser = '{name}'\n{scale}", stage=stage)
    ]  # fmt: skip

    scored = ["score_last_line", "json_score"]
    texts = ["identity", "essay_block", "essay_block_lenient", "essay_idea_last"]
    assert sorted(fitting) == sorted(scored if stage == "evaluation" else texts)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (None, "no file 'score.json' beside the template. Did you mean 'scores.json'?"),
        ("{", "score.json is not a JSON Schema: "),
        ("[1]", "score.json is not a JSON Schema. Expected an object."),
        ('{"type": "nummer"}', "score.json is not a JSON Schema: type: 'nummer' is not valid"),
        ('{"maximum": NaN}', "score.json is not a JSON Schema: "),
        (b'{"a": "\xe9"}', "score.json is not a JSON Schema: "),
    ],
)
def test_a_schema_that_cannot_be_used_is_a_mistake(tmp_path: Path, schema: str | bytes | None, message: str) -> None:
    files: Files = {"templates/draft/score.json": schema, "templates/draft/scores.json": "{}"}

    problems = mistakes_of(tmp_path, 'response_schema = "score.json"', files)

    assert len(problems) == 1
    assert problems[0].startswith(f"templates.toml, line 2: {message}")


def test_a_schema_lies_beside_its_template(tmp_path: Path) -> None:
    problems = mistakes_of(tmp_path, 'response_schema = "../score.json"', {"templates/score.json": SCHEMA})

    assert problems == ["templates.toml, line 2: no file '../score.json' beside the template. Known: none."]


def test_a_template_without_a_file_is_reported_with_the_nearest_file(tmp_path: Path) -> None:
    changes = edit("templates.toml", "[draft.list]", "[draft.lists]")

    assert load_changed_templates(tmp_path, changes)[1] == [
        "templates.toml, line 4: there is no file templates/draft/lists.txt. Did you mean 'list.txt'?"
    ]


def test_an_unknown_stage_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    problems = load_changed_templates(tmp_path, edit("templates.toml", "[draft.list]", "[drafts.list]"))[1]

    assert problems == ["templates.toml, line 4: unknown key 'drafts'. Did you mean 'draft'?"]


def test_an_id_that_cannot_be_one_is_reported(tmp_path: Path) -> None:
    problems = load_changed_templates(tmp_path, edit("templates.toml", "[draft.list]", '[draft."a__b"]'))[1]

    assert len(problems) == 1
    assert problems[0].startswith("templates.toml, line 4: 'a__b' is not a template id. Expected letters, digits")


def test_a_setting_where_a_table_belongs_is_reported(tmp_path: Path) -> None:
    problems = load_changed_templates(tmp_path, {"templates.toml": "draft = 3\n[essay]\nplain = 'x'\n"})[1]

    assert problems == [
        "templates.toml, line 1: draft is 3. Expected a table.",
        "templates.toml, line 3: plain is 'x'. Expected a table.",
    ]


@pytest.mark.parametrize(
    ("stage", "text", "message"),
    [
        ("draft", "One\n{{ topic }}", "line 2: uses 'topic'. Provided: concepts."),
        ("essay", "{{ response }}", "line 1: uses 'response'. Provided: draft_block, links_block."),
        ("evaluation", "{{ draft_block }}", "line 1: uses 'draft_block'. Provided: response."),
        ("draft", "One\n{% if %}", "line 2: Expected an expression, got 'end of statement block'."),
        ("draft", '{% include "gone.txt" %}', "line 1: includes 'gone.txt', which is not in this folder."),
        ("essay", '{% include "tone.txt" %}', "line 1: includes 'tone.txt', which is not in this folder."),
        ("draft", "{% include concepts %}", "line 1: an include must name its file literally, in quotes."),
    ],
)
def test_a_wrong_text_is_reported_in_its_file(tmp_path: Path, stage: str, text: str, message: str) -> None:
    scored = "parser = 'json_score'\nscale = [0, 1]" if stage == "evaluation" else ""

    problems = mistakes_of(tmp_path, scored, {f"templates/{stage}/one.txt": text}, stage=stage)

    assert len(problems) == 1
    assert problems[0].startswith(f"templates/{stage}/one.txt, {message}")


@pytest.mark.parametrize("stage", ["draft", "essay", "evaluation"])
def test_each_stage_provides_its_variables(tmp_path: Path, stage: str) -> None:
    texts = {"draft": "{{ concepts }}", "essay": "{{ draft_block }}{{ links_block }}", "evaluation": "{{ response }}"}
    scored = "parser = 'json_score'\nscale = [0, 1]" if stage == "evaluation" else ""

    assert not mistakes_of(tmp_path, scored, {f"templates/{stage}/one.txt": texts[stage]}, stage=stage)


def test_a_text_that_is_not_utf_8_is_a_mistake(tmp_path: Path) -> None:
    problems = mistakes_of(tmp_path, "", {"templates/draft/one.txt": b"Caf\xe9"})

    assert len(problems) == 1
    assert problems[0].startswith("templates/draft/one.txt: the file is not UTF-8: ")


# Identity


def test_texts_go_into_the_identity_by_hash_and_without_the_templates_own_name(tmp_path: Path) -> None:
    template = load_one(tmp_path, 'label = "One"', {"templates/draft/one.txt": '{% include "tone.txt" %}'})

    assert template.inputs.value == {
        "text_blake3": hash_bytes(b'{% include "tone.txt" %}'),
        "includes": {"tone.txt": hash_bytes(b"Be brief.\n")},
        "rendering_version": 1,
    }


def test_the_parser_goes_into_the_identity_with_its_version_and_scale(tmp_path: Path) -> None:
    settings = "parser = 'json_score'\nscale = [1, 5]\nmin_lines = 2"

    template = load_one(tmp_path, settings, stage="evaluation")

    version = PARSERS["json_score"].version
    assert template.parser_inputs.value == {
        "name": "json_score", "version": version, "min_lines": 2, "scale": [1.0, 5.0]
    }  # fmt: skip
