"""A workspace as it was found in 1_raw/: concepts, templates, models, and what is wrong with them one by one.

Knows what fits, not where files lie on disk nor what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.concepts import FALLBACK_LEVELS
from pipeline.stages import MADE_STAGES

STAGES = tuple(stage.value for stage in MADE_STAGES)

CONCEPTS_FILE = "concepts_metadata.csv"
MODELS_FILE = "llm_models.csv"
REPLICATES_FILE = "replication_config.csv"
LINKS_FILE = "link_templates.csv"  # left over from an older form of the workspace

TEXT_PARSERS = ("identity", "essay_block", "essay_block_lenient", "essay_idea_last")
SCALE_BY_SCORE_PARSER = {"in_last_line": (0, 9), "complex": (0, 10)}
FREE_TIER = ":free"


class Place(NamedTuple):
    """Where something was found: a file relative to 1_raw/, and the stage and the id where there is one."""

    file: str
    stage: str = ""
    name: str = ""


class Concept(NamedTuple):
    concept_id: str
    name: str


@dataclass(frozen=True)
class Template:
    """A row of a template table, with the bytes of its file, None where there is none.

    `text_fault` says what Jinja2 finds wrong with the file; empty where it can be rendered.
    """

    stage: str
    template_id: str
    label: str
    description: str
    parser: str  # as the workspace calls it
    mode: str
    content: bytes | None
    text_fault: str

    @property
    def place(self) -> Place:
        return Place(f"{self.stage}_templates.csv", self.stage, self.template_id)

    @property
    def file(self) -> str:
        return f"templates/{self.stage}/{self.template_id}.txt"

    @property
    def is_usable(self) -> bool:
        return not self.fault and (self.content is not None or self.mode == "copy")

    @property
    def fault(self) -> str:
        """Return why the row cannot become a table of templates.toml, or an empty text."""
        if self.mode not in ("llm", "copy"):
            return f"Generator {self.mode!r} is not known. Known: llm, copy."
        if self.mode == "copy" and self.stage != "essay":
            return "Only essays can be copied from their parent; generator copy does not fit here."
        known_parsers = tuple(SCALE_BY_SCORE_PARSER) if self.stage == "evaluation" else TEXT_PARSERS
        if self.parser not in known_parsers:
            return (
                f"Parser {self.parser!r} does not fit {self.stage} templates. Known for them: "
                f"{', '.join(known_parsers)}."
            )
        return self.text_fault if self.mode == "llm" else ""


class Model(NamedTuple):
    model_id: str
    model: str
    label: str
    description: str

    @property
    def is_free_tier(self) -> bool:
        return self.model.endswith(FREE_TIER)


@dataclass
class Workspace:
    """Everything that 1_raw/ holds, in file order."""

    concepts: list[Concept] = field(default_factory=list)
    descriptions: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by (level, concept_id)
    descriptions_without_row: list[Place] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)
    templates_without_row: dict[Place, bytes] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    replicates_by_stage: dict[str, int] = field(default_factory=dict)
    link_rows: int = 0
    ignored_columns: list[tuple[str, str]] = field(default_factory=list)  # (file, column)
    ignored_files: list[str] = field(default_factory=list)

    def of_stage(self, stage: str) -> list[Template]:
        return [template for template in self.templates if template.stage == stage]

    def usable_of_stage(self, stage: str) -> list[Template]:
        return [template for template in self.of_stage(stage) if template.is_usable]

    def find_level(self, concept_id: str, level: str) -> str | None:
        """Return the level whose text stands in for the one asked for, or None where only the name is left."""
        return next(
            (each for each in (level, *FALLBACK_LEVELS) if self.descriptions.get((each, concept_id), b"").strip()), None
        )
