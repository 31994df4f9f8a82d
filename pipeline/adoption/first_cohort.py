"""The first cohort of an adopted workspace: small, and complete on a model that runs here without a key."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.adoption.first_models import find_judge_id, find_writer_id
from pipeline.adoption.toml_writer import TomlSettings, encode_toml_table, encode_toml_value
from pipeline.adoption.twins import Twin, make_twins
from pipeline.adoption.workspace import STAGES, Template, Workspace

COHORT_COMMENT = """\
# A first small cohort on a model that runs here: the shortest templates, so that every prompt fits.
# A model this small often runs into max_tokens (truncated). To get real results, put a model of models.toml in its
# place."""
TWINS_COMMENT = """\
# These ask for the answer in JSON, because a model this small seldom ends with the score line that their originals
# want. When `models` names a larger one, go back to the originals:
# templates = {originals}"""
TEMPLATE_COUNTS = (("draft", 2), ("essay", 1), ("evaluation", 2))


@dataclass(frozen=True)
class FirstCohort:
    """What the first cohort asks for. Its evaluations are those of the twins, with a model of their own."""

    concept_ids: list[str]
    templates_by_stage: dict[str, list[Template]]  # stages without a template are left out
    twins: list[Twin]
    replicates_by_stage: dict[str, int]
    writer_id: str
    judge_id: str

    def encode(self) -> bytes:
        """Return the cohort's file."""
        combos: TomlSettings = {
            "level": "paragraph",
            "concepts": self.concept_ids,
            "size": min(2, len(self.concept_ids)),
        }
        parts = [
            COHORT_COMMENT,
            encode_toml_table((), {"description": "A first cohort of the adopted workspace."}),
            encode_toml_table(("combos",), combos),
            *(self._encode_stage(stage) for stage in STAGES if stage in self.templates_by_stage),
        ]
        return "\n\n".join(parts).encode() + b"\n"

    def _encode_stage(self, stage: str) -> str:
        templates = self.templates_by_stage[stage]
        template_ids = [template.template_id for template in templates]
        replicates: TomlSettings = {"replicates": self.replicates_by_stage.get(stage, 1)}
        if stage == "evaluation":
            comment = TWINS_COMMENT.format(originals=encode_toml_value(template_ids))
            settings: TomlSettings = {
                "templates": [twin.template_id for twin in self.twins],
                "target": "essay" if "essay" in self.templates_by_stage else "draft",
                "models": [self.judge_id],
            }
            return f"{comment}\n{encode_toml_table((stage,), settings | replicates)}"
        asks_model = any(template.mode == "llm" for template in templates)
        models: TomlSettings = {"models": [self.writer_id]} if asks_model else {}
        return encode_toml_table((stage,), {"templates": template_ids, **models, **replicates})


def plan_first_cohort(workspace: Workspace) -> FirstCohort | None:
    """Return a first small cohort, or None where the workspace lacks a concept or a usable draft template."""
    concept_ids = _choose_concepts(workspace, count=3)
    chosen = {stage: _choose_templates(workspace, stage, count=count) for stage, count in TEMPLATE_COUNTS}
    if not concept_ids or not chosen["draft"]:
        return None
    return FirstCohort(
        concept_ids,
        {stage: templates for stage, templates in chosen.items() if templates},
        twins=make_twins(chosen["evaluation"], workspace),
        replicates_by_stage=workspace.replicates_by_stage,
        writer_id=find_writer_id(workspace),
        judge_id=find_judge_id(workspace),
    )


def _choose_concepts(workspace: Workspace, *, count: int) -> list[str]:
    """Return the concepts with the shortest paragraphs, in file order; of two with one name only the first."""
    first_by_name = {concept.name: concept.concept_id for concept in reversed(workspace.concepts)}
    concept_ids = [
        concept.concept_id for concept in workspace.concepts if first_by_name[concept.name] == concept.concept_id
    ]

    def size_of(concept_id: str) -> tuple[bool, int]:
        text = workspace.descriptions.get(("paragraph", concept_id), b"").strip()
        return not text, len(text)

    shortest = sorted(concept_ids, key=size_of)[:count]
    return [concept_id for concept_id in concept_ids if concept_id in shortest]


def _choose_templates(workspace: Workspace, stage: str, *, count: int) -> list[Template]:
    """Return the shortest usable templates: first those that ask for free text, then parsed ones, then copies."""

    def size_of(template: Template) -> tuple[bool, bool, int]:
        return template.mode == "copy", template.parser != "identity", len(template.content or b"")

    return sorted(workspace.usable_of_stage(stage), key=size_of)[:count]
