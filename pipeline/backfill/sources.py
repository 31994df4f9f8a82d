"""What an old store holds: documents with their answers, under their old names. Read, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.stages import MADE_STAGES

ALL_STAGES = "all"
STAGE_CHOICES = (ALL_STAGES, *map(str, MADE_STAGES))


class OldAnswer(NamedTuple):
    """A raw answer. `version` counts from 1; 0 for one without; `record` is what was noted beside it."""

    version: int
    path: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class OldDocument:
    """One document of an old store; `name` is its task_id or old id. `files` maps our names to where they lie."""

    stage: str
    name: str
    layout: str
    answers: tuple[OldAnswer, ...] = ()  # the latest last
    files: dict[str, Path] = field(default_factory=dict)
    task_id: str = ""
    template_id: str = ""
    model_id: str = ""
    combo_id: str = ""
    replicate: int = 1
    mode: str = "llm"
    old_id: str = ""
    old_parent_id: str = ""
    twin: int = 1  # of several with one name

    @property
    def key(self) -> tuple[str, str, int]:
        return self.stage, self.name, self.twin


class OldStore(NamedTuple):
    """All of an old store. `tables` maps (stage, task_id) to the rows of its task tables."""

    layouts: list[str]
    documents: list[OldDocument]
    problems: list[dict[str, str]]
    tables: dict[tuple[str, str], list[dict[str, str]]]

    def documents_of(self, stage: str) -> Iterator[OldDocument]:
        return (document for document in self.documents if document.stage == stage)

    def add_problem(self, name: object, problem: str) -> None:
        self.problems.append({"name": str(name), "problem": problem})
