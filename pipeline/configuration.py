"""The whole of config/, read and checked at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.cohorts import Catalog, Cohort, load_cohorts
from pipeline.concepts import Concept, load_concepts
from pipeline.errors import ConfigInvalid, Problem, UnknownName
from pipeline.models import Model, load_models
from pipeline.stages import Stage
from pipeline.templates import Template, load_templates


@dataclass(frozen=True)
class Configuration:
    """Concepts, templates, models and cohorts, each by its id."""

    concepts: Mapping[str, Concept]
    templates: Mapping[tuple[Stage, str], Template]
    models: Mapping[str, Model]
    cohorts: Mapping[str, Cohort]

    def get_cohort(self, name: str) -> Cohort:
        """Return a cohort. Raises UnknownName."""
        if name not in self.cohorts:
            raise UnknownName("cohort", name, list(self.cohorts))
        return self.cohorts[name]


def load_configuration(config_root: Path, *, data_root: Path | None = None) -> Configuration:
    """Return the configuration. Raises ConfigInvalid with every mistake in every file.

    `data_root` is where no key may lie either.
    """
    problems: list[Problem] = []
    if not config_root.is_dir():
        raise ConfigInvalid([Problem(str(config_root), None, "there is no such folder. Expected the config folder.")])
    concepts = load_concepts(config_root, problems)
    templates = load_templates(config_root, problems)
    models = load_models(config_root, problems, data_root=data_root)
    cohorts = load_cohorts(config_root, Catalog(concepts, templates, models), problems)
    if problems:
        raise ConfigInvalid(sorted(set(problems), key=_place_of))
    return Configuration(concepts, templates, models, cohorts)


def _place_of(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line or 0, problem.message  # the message, because a set has no order of its own
