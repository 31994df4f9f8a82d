"""Cohorts: what one experiment asks for, as a person wrote it.

    config/cohorts/<name>.toml   [combos] [draft] [essay] [evaluation] [[rules]] [select]

Reading checks every name against the concepts, templates and models that exist; planning follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

from pipeline.concepts import LEVELS, Combo, Concept, read_csv_rows
from pipeline.errors import Problem
from pipeline.models import Model
from pipeline.rules import AXES, Rule, Sample, Selection
from pipeline.stages import EVALUATION_TARGETS, MADE_STAGES, Mode, Stage
from pipeline.templates import Template
from pipeline.toml_file import ID_EXPECTED, ID_FORM, Table, TomlFile, suggest
from store.identity import ID_FORM as DOC_ID_FORM

FOLDER = "cohorts"
KEYS = ("description", "combos", *MADE_STAGES, "rules", "select")
RULE_KINDS = ("subset", "tie", "pair", "tuple")
MOST_COMBOS = 1_000_000  # more is a mistake in size, not an experiment


@dataclass(frozen=True)
class StageRequest:
    """What a cohort asks for in one stage. `source_doc_ids` is for drafts, `target` for evaluations."""

    templates: tuple[Template, ...] = ()
    models: tuple[Model, ...] = ()
    replicates: int = 1
    source_doc_ids: tuple[str, ...] = ()
    target: Stage = Stage.ESSAY


@dataclass(frozen=True)
class Cohort:
    """An experiment. Stages that it does not ask for are absent from `stages`."""

    name: str
    description: str
    combos: Mapping[str, Combo]  # by combo_id, in order
    stages: Mapping[Stage, StageRequest]
    rules: tuple[Rule, ...]
    selection: Selection


class Catalog:
    """What a cohort can name."""

    def __init__(
        self,
        concepts: Mapping[str, Concept],
        templates: Mapping[tuple[Stage, str], Template],
        models: Mapping[str, Model],
    ) -> None:
        self.concepts, self.templates, self.models = concepts, templates, models

    def template_ids(self, stage: Stage) -> list[str]:
        return [template_id for template_stage, template_id in self.templates if template_stage is stage]


def load_cohorts(config_root: Path, catalog: Catalog, problems: list[Problem]) -> dict[str, Cohort]:
    """Return {name: Cohort} of all files in config/cohorts, sorted."""
    cohorts = {}
    for path in sorted((config_root / FOLDER).glob("*.toml")):
        if not ID_FORM.fullmatch(path.stem):
            problems.append(Problem(f"{FOLDER}/{path.name}", None, f"not a cohort name. Expected {ID_EXPECTED}."))
            continue
        cohorts[path.stem] = _CohortReader(path, catalog, problems).read()
    return cohorts


class _CohortReader:
    """Reads one cohort's file."""

    def __init__(self, path: Path, catalog: Catalog, problems: list[Problem]) -> None:
        self.path, self.catalog = path, catalog
        self.file = TomlFile.read(path, name=f"{FOLDER}/{path.name}", problems=problems)

    def read(self) -> Cohort:
        root = self.file.table()
        root.check_keys(KEYS)
        stages = {stage: self._read_stage(stage) for stage in MADE_STAGES if stage in root.data}
        combos = self._read_combos()
        if self.file.is_readable:
            self._check_whole(stages, combos, root)
        return Cohort(
            name=self.path.stem,
            description=root.text("description"),
            combos=combos,
            stages=stages,
            rules=tuple(self._read_rules(stages, combos)),
            selection=self._read_selection(self.file.table("select"), ("sample", "limit")),
        )

    def _check_whole(self, stages: Mapping[Stage, StageRequest], combos: Mapping[str, Combo], root: Table) -> None:
        draft, evaluation = stages.get(Stage.DRAFT), stages.get(Stage.EVALUATION)
        if draft is None:
            root.report(None, "there is no [draft] table. Expected one: all essays and evaluations begin with a draft.")
        elif draft.templates and not combos and not root.data.get("combos"):
            root.report("combos", "there are no [combos]. Expected the concepts that the drafts combine.")
        if evaluation is not None and evaluation.target is Stage.ESSAY and Stage.ESSAY not in stages:
            root.report(Stage.EVALUATION, 'evaluations target essays, but there is no [essay]. Set target = "draft".')

    # Combos

    def _read_combos(self) -> dict[str, Combo]:
        table = self.file.table("combos")
        table.check_keys(("level", "concepts", "size", "list", "sample", "limit"))
        level = table.choice("level", LEVELS, default="paragraph")
        if ("concepts" in table.data) == ("list" in table.data):
            if table.data:
                table.report(None, "expected either concepts with size, or list.")
            return {}
        if "list" in table.data and "size" in table.data:
            table.report("size", "size belongs to concepts. Expected list alone: its combos have their sizes.")
        id_tuples = self._enumerate_combos(table) if "concepts" in table.data else self._list_combos(table)
        chosen = self._read_selection(table, ("sample", "limit")).pick(len(id_tuples))
        return self._resolve_combos([id_tuples[index] for index in chosen], level, table)

    def _enumerate_combos(self, table: Table) -> list[tuple[str, ...]]:
        names = self._read_names(table, "concepts", self.catalog.concepts, "concept")
        size = table.integer("size", required=True, low=1, default=1)
        if size > len(names):
            table.report("size", f"size is {size}, but there are {len(names)} concepts. Expected at most that many.")
            return []
        count = comb(len(names), size)
        if count > MOST_COMBOS:
            found = f"size {size} of {len(names)} concepts gives {count:,} combos."
            table.report("size", f"{found} Expected at most {MOST_COMBOS:,}: choose fewer concepts or another size.")
            return []
        return list(combinations(names, size))

    def _list_combos(self, table: Table) -> list[tuple[str, ...]]:
        found = []
        rows = self._read_rows(table, "list", ())
        if table.data["list"] == []:
            table.report("list", 'list is empty. Expected combos, such as [["a", "b"], ["b", "c"]].')
        for ids in rows:
            unknown = [name for name in ids if name not in self.catalog.concepts]
            for name in unknown:
                table.report("list", f"unknown concept {name!r}. {suggest(name, self.catalog.concepts)}")
            if len(set(ids)) != len(ids):
                table.report("list", f"the combo {'+'.join(ids)} names a concept twice. Expected each concept once.")
            elif not unknown:
                found.append(ids)
        return found

    def _resolve_combos(self, id_tuples: list[tuple[str, ...]], level: str, table: Table) -> dict[str, Combo]:
        combos: dict[str, Combo] = {}
        for ids in id_tuples:
            combo = Combo(tuple(self.catalog.concepts[concept_id] for concept_id in ids), level)
            if combo.combo_id in combos:
                table.report("list", f"the combo {combo.combo_id} is listed twice. Expected it once.")
            combos[combo.combo_id] = combo
        return combos

    # Stages

    def _read_stage(self, stage: Stage) -> StageRequest:
        table = self.file.table(stage)
        own_keys = {Stage.DRAFT: ["source_doc_ids"], Stage.EVALUATION: ["target"]}.get(stage, [])
        table.check_keys(["templates", "models", "replicates", *own_keys])
        template_ids = self._read_names(table, "templates", self.catalog.template_ids(stage), f"{stage} template")
        templates = tuple(self.catalog.templates[stage, template_id] for template_id in template_ids)
        model_ids = self._read_names(table, "models", self.catalog.models, "model")
        sources = self._read_sources(table) if stage is Stage.DRAFT else ()
        if not templates and not sources:
            table.report("templates", "no templates. Expected templates = a list of template ids.")
        if not model_ids and (sources or any(template.mode is Mode.LLM for template in templates)):
            table.report("models", "no models. Expected models = a list of model ids.")
        return StageRequest(
            templates,
            tuple(self.catalog.models[model_id] for model_id in model_ids),
            table.integer("replicates", default=1, low=1),
            sources,
            Stage(table.choice("target", EVALUATION_TARGETS, default=Stage.ESSAY)),
        )

    def _read_sources(self, table: Table) -> tuple[str, ...]:
        sources = self._resolve_list(table, "source_doc_ids")
        for doc_id in sources:
            if not DOC_ID_FORM.fullmatch(doc_id):
                table.report("source_doc_ids", f"{doc_id!r} is not a doc_id. Expected 16 characters of 0-9 and a-z.")
        return tuple(doc_id for doc_id in sources if DOC_ID_FORM.fullmatch(doc_id))

    # Rules and selection

    def _read_rules(self, stages: Mapping[Stage, StageRequest], combos: Mapping[str, Combo]) -> Iterable[Rule]:
        values = axis_values(stages, combos)
        for index in range(self.file.count_tables("rules")):
            before = len(self.file.problems)
            table = self.file.table("rules", index)
            table.check_keys(RULE_KINDS)
            kinds = [kind for kind in RULE_KINDS if kind in table.data]
            if len(kinds) != 1:
                table.report(None, f"a rule names {len(kinds)} kinds. Expected one of: {', '.join(RULE_KINDS)}.")
                continue
            rule = self._read_tie(table) if kinds == ["tie"] else self._read_allowed(table, kinds[0])
            if rule is None or len(self.file.problems) > before:
                continue
            if self._check_rule(table, kinds[0], rule, values):
                yield rule

    def _read_tie(self, table: Table) -> Rule:
        return Rule(tuple(table.names("tie")), None)

    def _read_allowed(self, table: Table, kind: str) -> Rule | None:
        body = self.file.table(*table.place, kind)
        if kind == "subset":
            body.check_keys(("axis", "keep"))
            axis = body.text("axis", required=True)
            return Rule((axis,), frozenset((value,) for value in self._resolve_list(body, "keep")))
        body.check_keys(("axes", "allowed"))
        axes = tuple(body.names("axes"))
        if kind == "pair" and len(axes) != 2:
            body.report(None, f"a pair names {len(axes)} axes. Expected two; use tuple for more.")
            return None
        return Rule(axes, frozenset(self._read_rows(body, "allowed", axes)))

    def _check_rule(self, table: Table, kind: str, rule: Rule, values: Mapping[str, list[str]]) -> bool:
        """Report axes and values that the cohort does not have: a rule that cannot match is a mistake."""
        before = len(self.file.problems)
        if kind != "subset" and len(set(rule.axes)) < 2:
            table.report(kind, f"a {kind} names {len(set(rule.axes))} axes. Expected at least two.")
        elif len(set(rule.axes)) < len(rule.axes):
            table.report(kind, f"a {kind} names an axis twice: {', '.join(rule.axes)}. Expected each axis once.")
        for axis in rule.axes:
            if axis not in AXES:
                table.report(kind, f"unknown axis {axis!r}. {suggest(axis, AXES)}")
            elif axis not in values:
                table.report(kind, f"this cohort has no axis {axis!r}. It has: {', '.join(values)}.")
        if len(self.file.problems) == before:
            for row in sorted(rule.allowed or ()):
                for axis, value in zip(rule.axes, row, strict=False):
                    if value not in values[axis]:
                        table.report(kind, f"{axis} has no value {value!r} here. {suggest(value, values[axis])}")
            self._check_matches(table, kind, rule, values)
        return len(self.file.problems) == before

    def _check_matches(self, table: Table, kind: str, rule: Rule, values: Mapping[str, list[str]]) -> None:
        if rule.allowed is None and not set.intersection(*(set(values[axis]) for axis in rule.axes)):
            table.report(kind, f"{' and '.join(rule.axes)} have no value in common. Expected one that they can share.")
        elif rule.allowed is not None and not rule.allowed:
            key = "keep" if kind == "subset" else "allowed"
            table.report(kind, f"this {kind} lets nothing through. Expected {key} = a list of what it lets through.")

    def _read_selection(self, table: Table, keys: tuple[str, ...]) -> Selection:
        if table.place == ("select",):
            table.check_keys(keys)
        limit = table.integer("limit", low=1, default=1) if "limit" in table.data else None
        if "sample" not in table.data:
            return Selection(None, limit)
        sample = self.file.table(*table.place, "sample")
        sample.check_keys(("count", "seed"))
        count = sample.integer("count", required=True, low=1, default=1)
        return Selection(Sample(count, sample.integer("seed", required=True)), limit)

    # Lists, written here or in a CSV file

    def _read_names(self, table: Table, key: str, known: Iterable[str], kind: str) -> list[str]:
        """Return the names of a list that are known, each once; reports the others."""
        known = dict.fromkeys(known)
        names: dict[str, None] = {}
        for name in self._resolve_list(table, key):
            if name not in known:
                table.report(key, f"unknown {kind} {name!r}. {suggest(name, known)}")
            elif name in names:
                table.report(key, f"{kind} {name!r} is listed twice. Expected it once.")
            else:
                names[name] = None
        return list(names)

    def _resolve_list(self, table: Table, key: str) -> list[str]:
        if not isinstance(table.data.get(key), str):
            return table.names(key)
        return [row[0] for row in self._read_csv(table, key, width=1)]

    def _read_rows(self, table: Table, key: str, axes: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Return rows of values; each has as many as there are axes, or any number if none are given."""
        value: Any = table.data.get(key, [])
        if isinstance(value, str):
            return self._read_csv(table, key, width=len(axes))
        rows = []
        for row in value if isinstance(value, list) else [value]:
            if not isinstance(row, list) or not row or not all(isinstance(item, str) for item in row):
                table.report(key, f'{key} has the row {row!r}. Expected lists of names, such as [["a", "b"]].')
            elif axes and len(row) != len(axes):
                table.report(key, f"{key} has the row {row!r}. Expected {len(axes)} values: {', '.join(axes)}.")
            else:
                rows.append(tuple(row))
        return rows

    def _read_csv(self, table: Table, key: str, *, width: int) -> list[tuple[str, ...]]:
        reference = str(table.data[key])
        if not reference.startswith("@"):
            table.report(key, f'{key} is {reference!r}. Expected a list, or "@file.csv" for a file beside this one.')
            return []
        problems: list[Problem] = []
        rows = [tuple(row.values()) for _, row in read_csv_rows(self.path.parent / reference[1:], [], problems)]
        for problem in problems:
            table.report(key, str(problem))
        if not rows and not problems:
            table.report(key, f"{reference[1:]} has no rows. Expected a header and at least one row.")
        wrong = [row for row in rows if width and len(row) != width]
        if wrong:
            table.report(key, f"{reference[1:]} has {len(wrong[0])} columns. Expected {width}.")
            return []
        if width and not all(all(row) for row in rows):
            table.report(key, f"{reference[1:]} has an empty cell. Expected {width} values in each row.")
            return []
        return [tuple(cell for cell in row if cell) for row in rows]


def axis_values(stages: Mapping[Stage, StageRequest], combos: Mapping[str, Combo]) -> dict[str, list[str]]:
    """Return {axis: values} of the axes that a cohort has, in the order of AXES.

    An essay template in mode copy asks no model: if none of them does, there is no essay_model.
    """
    values: dict[str, list[str]] = {"combo": list(combos)}
    for stage in MADE_STAGES:
        if stage in stages:
            values[f"{stage}_template"] = [template.template_id for template in stages[stage].templates]
            values[f"{stage}_model"] = [model.model_id for model in stages[stage].models]
    return {axis: values[axis] for axis in AXES if values.get(axis)}
