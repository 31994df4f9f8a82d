"""A small config folder for tests: every kind of file once, all valid.

root = write_config(tmp_path, {"concepts.csv": None, "templates/essay/plain.txt": "Write: {{ draft_block }}"})
problems = problems_of(tmp_path, edit("models.toml", "max_tokens = 400", 'max_tokens = "many"'))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.configuration import Configuration, load_configuration
from pipeline.errors import ConfigInvalid
from pipeline.planning import CohortPlan, DocumentPlan, plan_cohort
from pipeline.stages import Stage

Files = Mapping[str, str | bytes | None]

MODELS = """\
[small]
model = "echo/small"
max_tokens = 400
temperature = 0.7
seed = 11

[judge]
model = "echo/judge"
max_tokens = 100
"""
TEMPLATES = """\
[draft.synthesis]
min_lines = 1

[draft.list]

[essay.plain]

[essay.same]
mode = "copy"

[evaluation.clarity]
parser = "score_last_line"
scale = [0, 10]
"""
CONCEPTS = "concept_id,name\nflywheel,Flywheel Effect\nmoat,Economic Moat\ntide,Tide Pool\n"
COHORT = """\
description = "A first cohort"

[combos]
concepts = ["flywheel", "moat", "tide"]
size = 2

[draft]
templates = ["synthesis", "list"]
models = ["small"]

[essay]
templates = ["plain", "same"]
models = ["small"]

[evaluation]
templates = ["clarity"]
models = ["judge"]
replicates = 2
"""
CONFIG: dict[str, str | bytes | None] = {
    "concepts.csv": CONCEPTS,
    "concepts/sentence/moat.txt": "Water around a castle.\n",
    "concepts/paragraph/moat.txt": "Water around a castle, and what it keeps out.\n",
    "concepts/paragraph/flywheel.txt": "A heavy wheel that keeps turning.\n",
    "concepts/sentence/tide.txt": "A pool that the sea leaves behind.\n",
    "templates.toml": TEMPLATES,
    "templates/draft/synthesis.txt": (
        "Combine:\n{% for concept in concepts %}\n{{ concept.name }}: {{ concept.content }}\n{% endfor %}\n"
        '{% include "tone.txt" %}'
    ),
    "templates/draft/list.txt": "{% for concept in concepts %}- {{ concept.name }}\n{% endfor %}",
    "templates/draft/tone.txt": "Be brief.\n",
    "templates/essay/plain.txt": "Make an essay of:\n{{ draft_block }}\n",
    "templates/evaluation/clarity.txt": "Judge this:\n{{ response }}\nEnd with SCORE: <0-10>.\n",
    "models.toml": MODELS,
    "cohorts/first.toml": COHORT,
}


def write_config(folder: Path, changes: Files | None = None) -> Path:
    """Write CONFIG with `changes` (None leaves a file out) and return the config folder."""
    root = folder / "config"
    root.mkdir(parents=True, exist_ok=True)
    for name, content in (CONFIG | dict(changes or {})).items():
        if content is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def edit(name: str, old: str, new: str) -> dict[str, str]:
    """Return the change that replaces `old`, which must stand once in a file of CONFIG."""
    content = CONFIG[name]
    assert isinstance(content, str)
    assert content.count(old) == 1, f"{old!r} stands {content.count(old)} times in {name}"
    return {name: content.replace(old, new)}


def load_changed(folder: Path, changes: Files | None = None) -> Configuration:
    return load_configuration(write_config(folder, changes))


def problems_of(folder: Path, changes: Files) -> list[str]:
    """Return the mistakes of a changed config, as they are shown; [] if it loads."""
    try:
        load_changed(folder, changes)
    except ConfigInvalid as error:
        return [str(problem) for problem in error.problems]
    return []


def plan_changed(folder: Path, changes: Files | None = None, *, cohort: str = "first") -> CohortPlan:
    return plan_cohort(load_changed(folder, changes).get_cohort(cohort))


def doc_ids_of(plan: CohortPlan) -> dict[str, list[str]]:
    """Return {stage: doc_ids of its rows, in order}."""
    return {str(stage): [row.doc_id for row in rows] for stage, rows in plan.rows.items()}


def row_of(plan: CohortPlan, task_id: str) -> DocumentPlan:
    """Return the row of a name; its stage follows from the name's length."""
    return next(row for stage in plan.rows for row in plan.rows[Stage(stage)] if row.task_id == task_id)
