"""What a person should know about an adoption: what did not fit, what was mapped, what was added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.adoption.config_files import MAX_TOKENS, TEMPERATURE, map_parser
from pipeline.adoption.first_cohort import FirstCohort
from pipeline.adoption.first_models import find_writer_id
from pipeline.adoption.grouping import find_shared, group_by
from pipeline.adoption.workspace import (
    CONCEPTS_FILE,
    LINKS_FILE,
    MODELS_FILE,
    SCALE_BY_SCORE_PARSER,
    STAGES,
    Place,
    Template,
    Workspace,
)
from pipeline.concepts import LEVELS


class Note(NamedTuple):
    """One thing a person should know. Equal cases have equal messages, so that they can be counted together."""

    kind: str
    place: Place
    message: str


def note_workspace(workspace: Workspace, cohort: FirstCohort | None) -> list[Note]:
    """Return all notes on a workspace and the first cohort that it gets."""
    return [
        *_note_concepts(workspace),
        *_note_templates(workspace),
        *_note_orphans(workspace),
        *_note_models(workspace),
        *_note_cohort(workspace, cohort),
        *_note_ignored(workspace),
    ]


def describe_notes(notes: list[Note]) -> Iterator[str]:
    """Yield one line per kind with its count, then each message with the names that it is about."""
    for of_kind in group_by(notes, lambda note: note.kind):
        yield ""
        yield f"{of_kind[0].kind} ({len(of_kind)})"
        for alike in group_by(of_kind, lambda note: (note.place.stage, note.message)):
            stage, message = alike[0].place.stage, alike[0].message
            yield f"  {stage}: {message}" if stage else f"  {message}"
            yield f"    {'; '.join(note.place.name or note.place.file for note in alike)}"


def _note_concepts(workspace: Workspace) -> Iterator[Note]:
    for concepts in find_shared(workspace.concepts, lambda concept: concept.name):
        names = ", ".join(concept.concept_id for concept in concepts)
        yield Note(
            "duplicate_name",
            Place(CONCEPTS_FILE, "", names),
            f"Concepts that share the name {concepts[0].name!r}; all are kept, ids decide.",
        )
    for level in LEVELS:
        for concept in workspace.concepts:
            used = workspace.find_level(concept.concept_id, level)
            if used != level:
                stand_in = f"the {used} is used" if used else "the name stands in for it"
                yield Note(
                    "missing_level",
                    Place(f"concepts/descriptions-{level}/{concept.concept_id}.txt", "", concept.concept_id),
                    f"No {level} text: {stand_in}.",
                )


def _note_templates(workspace: Workspace) -> Iterator[Note]:
    for template in workspace.templates:
        if template.fault:
            yield Note("row_not_usable", template.place, f"{template.fault} The table in templates.toml is a comment.")
        elif template.content is None:
            yield Note(
                "row_without_file",
                template.place,
                "Mode copy is complete without a file."
                if template.mode == "copy"
                else "The table in templates.toml is a comment until the file is "
                "there; a cohort that uses it is refused.",
            )
        if template.parser in SCALE_BY_SCORE_PARSER and not template.fault:
            scale = list(SCALE_BY_SCORE_PARSER[template.parser])
            yield Note(
                "parser_mapped",
                template.place,
                f"Parser {template.parser} became {map_parser(template.parser)} with scale {scale}.",
            )
    yield from _note_lookalikes(workspace)


def _note_lookalikes(workspace: Workspace) -> Iterator[Note]:
    for stage in STAGES:
        with_file = [template for template in workspace.of_stage(stage) if template.content is not None]
        for group in find_shared(with_file, lambda template: template.content):
            yield Note("identical_templates", _joint_place(group), "The files are byte-identical; all ids are kept.")
        for group in find_shared(workspace.of_stage(stage), lambda each: each.template_id.replace("-", "_").lower()):
            yield Note("similar_ids", _joint_place(group), "The ids look alike and are different templates.")


def _joint_place(templates: list[Template]) -> Place:
    return templates[0].place._replace(name=", ".join(template.template_id for template in templates))


def _note_orphans(workspace: Workspace) -> Iterator[Note]:
    for place in workspace.templates_without_row:
        needs = "parser and scale" if place.stage == "evaluation" else "its settings"
        yield Note(
            "file_without_row",
            place,
            "Copied, but only {% include %} can use it: to make it a template, add "
            f"a table with {needs} to templates.toml, where one stands ready as a comment.",
        )
    for place in workspace.descriptions_without_row:
        yield Note(
            "file_without_row",
            place,
            "Not copied: no concept has this id. To use it, add the concept to concepts.csv and copy the file.",
        )


def _note_models(workspace: Workspace) -> Iterator[Note]:
    if workspace.models:
        yield Note(
            "model_routed",
            Place(MODELS_FILE),
            f"All models are called as openrouter/<model> with temperature "
            f"{TEMPERATURE} and max_tokens {MAX_TOKENS}, as the workspace's own program did.",
        )


def _note_cohort(workspace: Workspace, cohort: FirstCohort | None) -> Iterator[Note]:
    yield _note_added_model(find_writer_id(workspace))
    if cohort is None:
        yield Note(
            "no_cohort",
            Place(f"{STAGES[0]}_templates.csv"),
            "No first cohort was written: it needs a concept and a usable draft template.",
        )
        return
    if cohort.twins:
        yield _note_added_model(cohort.judge_id)
    for twin in cohort.twins:
        yield Note(
            "template_added",
            twin.place,
            "Not of the workspace: an evaluation template of the first cohort with its answer in JSON, which a very "
            "small model can give. The original is unchanged and can be used instead.",
        )


def _note_added_model(model_id: str) -> Note:
    return Note(
        "model_added",
        Place(MODELS_FILE, "", model_id),
        "Not of the workspace: runs here, for a first cohort without a key.",
    )


def _note_ignored(workspace: Workspace) -> Iterator[Note]:
    for file, column in workspace.ignored_columns:
        yield Note("ignored_column", Place(file, "", column), "The column has no counterpart.")
    for file in workspace.ignored_files:
        message = (
            "Older form of the draft templates, used by nothing."
            if file == LINKS_FILE
            else "The file has no place in this layout."
        )
        yield Note("ignored_file", Place(file), message)
