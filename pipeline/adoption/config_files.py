"""The files of the config folder that a workspace becomes: {path relative to that folder: content}.

    1_raw/concepts_metadata.csv, concepts/descriptions-<level>/   ->  concepts.csv, concepts/<level>/
    1_raw/<stage>_templates.csv, templates/<stage>/               ->  templates.toml, templates/<stage>/
    1_raw/llm_models.csv                                          ->  models.toml
    1_raw/replication_config.csv                                  ->  cohorts/adopted.toml, a first small cohort

Everything is decided in memory. Knows nothing of how the folder is read.
"""

from __future__ import annotations

import csv
import io

from pipeline.adoption.first_cohort import FirstCohort
from pipeline.adoption.first_models import JUDGE_SETTINGS, WRITER_SETTINGS, find_writer_id
from pipeline.adoption.toml_writer import TomlSettings, as_toml_comment, encode_toml_table
from pipeline.adoption.twins import Twin
from pipeline.adoption.workspace import SCALE_BY_SCORE_PARSER, Place, Template, Workspace

COHORT_FILE = "cohorts/adopted.toml"
DRAFT_MIN_LINES = 3  # the workspace's own program refused shorter drafts
# What the workspace's own program sent with every request; its files name neither.
TEMPERATURE, MAX_TOKENS = 0.7, 20480


def decide_files(workspace: Workspace, cohort: FirstCohort | None) -> dict[str, bytes]:
    """Return every file of the config folder."""
    twins = [] if cohort is None else cohort.twins
    cohort_files = {} if cohort is None else {COHORT_FILE: cohort.encode()}
    return (
        _concept_files(workspace) | _template_files(workspace, twins) | _model_files(workspace, cohort) | cohort_files
    )


def _concept_files(workspace: Workspace) -> dict[str, bytes]:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("concept_id", "name"), *workspace.concepts])
    texts = {f"concepts/{level}/{name}.txt": content for (level, name), content in workspace.descriptions.items()}
    return {"concepts.csv": table.getvalue().encode(), **texts}


def _template_files(workspace: Workspace, twins: list[Twin]) -> dict[str, bytes]:
    tables = [
        "# Templates, adopted from a workspace: one table for each template that can be used.",
        *map(_describe_template, workspace.templates),
        *(_describe_orphan(place) for place in workspace.templates_without_row),
        *map(_describe_twin, twins),
    ]
    texts = {template.file: template.content for template in workspace.templates if template.content is not None}
    orphans = {place.file: content for place, content in workspace.templates_without_row.items()}
    added = {path: content for twin in twins for path, content in twin.files().items()}
    return {"templates.toml": "\n\n".join(tables).encode() + b"\n", **texts, **orphans, **added}


def _describe_template(template: Template) -> str:
    table = encode_toml_table((template.stage, template.template_id), _template_settings(template))
    if template.is_usable:
        return table
    reason = template.fault or "The workspace has this row without its file."
    step = "Mend the table" if template.fault else "Add the file"
    if template.fault and template.content is None:
        step += ", add the file"
    return (
        f"# {' '.join(reason.split())}\n# {step} and remove the marks to use {template.file}.\n{as_toml_comment(table)}"
    )


def _describe_orphan(place: Place) -> str:
    settings: TomlSettings = {"parser": "identity"}
    hint = f"# {place.file} came without a row. Remove the marks to use it"
    if place.stage == "evaluation":
        settings = {"parser": "score_last_line", "scale": [0, 9]}
        hint += "; look in its text for the scale it asks for"
    if place.stage == "draft":
        settings["min_lines"] = DRAFT_MIN_LINES
    return f"{hint}.\n{as_toml_comment(encode_toml_table((place.stage, place.name), settings))}"


def _describe_twin(twin: Twin) -> str:
    table = encode_toml_table((twin.original.stage, twin.template_id), twin.settings)
    return f"# Not of the workspace: the first cohort asks for {twin.original.template_id} in this form.\n{table}"


def _template_settings(template: Template) -> TomlSettings:
    settings: TomlSettings = {"parser": map_parser(template.parser)}
    if template.parser in SCALE_BY_SCORE_PARSER:
        settings["scale"] = list(SCALE_BY_SCORE_PARSER[template.parser])
    if template.mode != "llm":
        settings["mode"] = template.mode
    if template.stage == "draft":
        settings["min_lines"] = DRAFT_MIN_LINES
    return settings | _for_people(template.label, template.description)


def map_parser(parser: str) -> str:
    return "score_last_line" if parser in SCALE_BY_SCORE_PARSER else parser


def _for_people(label: str, description: str) -> TomlSettings:
    return {key: text for key, text in (("label", label), ("description", description)) if text}


def _model_files(workspace: Workspace, cohort: FirstCohort | None) -> dict[str, bytes]:
    tables = [
        "# Models, adopted from a workspace. Calls through OpenRouter need the environment variable OPENROUTER_API_KEY."
    ]
    for model in workspace.models:
        settings: TomlSettings = {
            "model": f"openrouter/{model.model}",
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "api_key_env": "OPENROUTER_API_KEY",
        }
        tables.append(encode_toml_table((model.model_id,), settings | _for_people(model.label, model.description)))
    tables.append(
        "# Not of the workspace: a model that runs here, so that a first cohort needs no key.\n"
        + encode_toml_table((find_writer_id(workspace),), WRITER_SETTINGS)
    )
    if cohort is not None and cohort.twins:
        tables.append(
            "# Not of the workspace: the same model for the short answers of the first cohort's evaluations.\n"
            + encode_toml_table((cohort.judge_id,), JUDGE_SETTINGS)
        )
    return {"models.toml": "\n\n".join(tables).encode() + b"\n"}
