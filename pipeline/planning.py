"""Plans: from a cohort to the documents that it asks for, all ids known before anything runs. Pure.

    Cohort -> plan_cohort -> CohortPlan: rows per stage

A row is one name for a document. Rows with equal inputs share one doc_id, so they are made once;
every row is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.cohorts import Cohort, axis_values
from pipeline.concepts import Combo
from pipeline.models import Model
from pipeline.parsers import PARSERS
from pipeline.rules import Combination, expand_axes
from pipeline.stages import MADE_STAGES, REPORT_VERSION, STAGE_RULES, Mode, Stage
from pipeline.templates import Template
from store.identity import Encoded, digest_of, encode_once, id_from_digest

COPY_NAME = "copy"  # stands in a task_id where a model would
SOURCE_NAME = "source"  # stands in a task_id where combo and template would, before a source's doc_id
GIVEN_NAMES = ("template_id", "model_id", "combo_id", "parent_doc_id")
VERBATIM_PARSER = "identity"  # of drafts that reuse a prompt: they have no template that could name another
VERBATIM_INPUTS = encode_once(
    {"name": VERBATIM_PARSER, "version": PARSERS[VERBATIM_PARSER].version, "min_lines": 0, "scale": None}
)


@dataclass(frozen=True, slots=True)  # there may be a million of them
class DocumentPlan:
    """A document that should exist: one row of a task table, and what it is made from.

    `parent` is None for drafts; `template`, `model` and `combo` are None where they do not apply.
    """

    stage: Stage
    task_id: str
    replicate: int
    mode: Mode
    template: Template | None
    model: Model | None
    combo: Combo | None
    source_doc_id: str
    parent: DocumentPlan | None
    _digest: str = field(default="", init=False, repr=False, compare=False)  # worked out when first asked for
    _doc_id: str = field(default="", init=False, repr=False, compare=False)

    @property
    def digest(self) -> str:
        if not self._digest:
            object.__setattr__(self, "_digest", digest_of(self.stage, self._list_inputs()))
        return self._digest

    @property
    def doc_id(self) -> str:
        if not self._doc_id:
            object.__setattr__(self, "_doc_id", id_from_digest(self.digest))
        return self._doc_id

    @property
    def parent_doc_id(self) -> str:
        return self.parent.doc_id if self.parent else ""

    @property
    def template_id(self) -> str:
        return self.template.template_id if self.template else ""

    @property
    def model_id(self) -> str:
        return self.model.model_id if self.model else ""

    @property
    def combo_id(self) -> str:
        """The concepts at the root of the document's lineage; "" if it begins with a source document."""
        if self.parent:
            return self.parent.combo_id
        return self.combo.combo_id if self.combo else ""

    @property
    def inputs(self) -> dict[str, Any]:
        """Return everything that can change the document's content, as plain JSON. No names."""
        fields = self._list_inputs().items()
        return {name: field.value if isinstance(field, Encoded) else field for name, field in fields}

    def _list_inputs(self) -> dict[str, Any]:
        """Return the inputs; what many documents have in common is encoded already."""
        inputs: dict[str, Any] = {
            "stage_version": STAGE_RULES[self.stage].version,
            "mode": self.mode,
            "replicate": self.replicate,
            "parser": self.template.parser_inputs if self.template else VERBATIM_INPUTS,
        }
        if self.template and self.mode is Mode.LLM:
            inputs["template"] = self.template.inputs
            inputs["response_schema"] = self.template.response_schema
        if self.model:
            inputs["model"] = self.model.inputs
        if self.combo:
            inputs["concepts"] = self.combo.inputs
        if self.source_doc_id:
            inputs["source_doc_id"] = self.source_doc_id
        if self.parent:
            inputs["parents"] = [{"stage": self.parent.stage, "doc_id": self.parent.doc_id}]
        return inputs

    @property
    def parser(self) -> str:
        return self.template.parser if self.template else VERBATIM_PARSER

    def as_row(self) -> dict[str, str]:
        """Return the row of a task table."""
        return {
            "doc_id": self.doc_id,
            "parent_doc_id": self.parent_doc_id,
            "task_id": self.task_id,
            "template_id": self.template_id,
            "model_id": self.model_id,
            "combo_id": self.combo_id,
            "replicate": str(self.replicate),
            "mode": self.mode,
            "source_doc_id": self.source_doc_id,
        }


@dataclass(frozen=True, slots=True)
class GivenPlan(DocumentPlan):
    """A document of the store that is named by its id, whatever the config gives now: it is read and never made.

    `names` hold what its row says: template_id, model_id, combo_id, parent_doc_id.
    """

    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, stage: Stage, doc_id: str, task_id: str, *, metadata: Mapping[str, Any]) -> GivenPlan:
        """Return the plan of a document; its names are those of its first making."""
        names = {name: str(metadata.get(name) or "") for name in GIVEN_NAMES}
        mode, replicate = Mode(metadata.get("mode") or Mode.LLM), int(metadata.get("replicate") or 1)
        given = cls(stage, task_id, replicate, mode, None, None, None, "", None, names)
        object.__setattr__(given, "_doc_id", doc_id)
        object.__setattr__(given, "_digest", str(metadata.get("digest") or ""))
        return given

    @property
    def parent_doc_id(self) -> str:
        return self.names["parent_doc_id"]

    @property
    def template_id(self) -> str:
        return self.names["template_id"]

    @property
    def model_id(self) -> str:
        return self.names["model_id"]

    @property
    def combo_id(self) -> str:
        return self.names["combo_id"]


@dataclass(frozen=True)
class CohortPlan:
    """All rows of a cohort, by stage, in the order of its axes."""

    name: str
    description: str
    rows: Mapping[Stage, tuple[DocumentPlan, ...]]
    edited: frozenset[Stage] = frozenset()  # whose rows are those of a task table that a person edited

    @cached_property
    def documents(self) -> dict[Stage, dict[str, DocumentPlan]]:
        """{stage: {doc_id: the first row that names it}}"""
        found: dict[Stage, dict[str, DocumentPlan]] = {}
        for stage, rows in self.rows.items():
            documents = found.setdefault(stage, {})
            for row in rows:
                documents.setdefault(row.doc_id, row)
        return found

    def walk(self) -> Iterator[DocumentPlan]:
        """Yield each document once, parents before children."""
        for documents in self.documents.values():
            yield from documents.values()

    def find(self, stage: str, doc_id: str) -> DocumentPlan | None:
        return self.documents.get(Stage(stage), {}).get(doc_id)


def plan_cohort(cohort: Cohort) -> CohortPlan:
    """Return the documents that a cohort asks for."""
    planner = _Planner(cohort)
    for combination in _list_combinations(cohort):
        planner.add(combination)
    return CohortPlan(
        cohort.name, cohort.description, {stage: tuple(rows.values()) for stage, rows in planner.rows.items()}
    )


def _list_combinations(cohort: Cohort) -> Iterable[Combination]:
    combinations = _expand_cohort(cohort)
    if cohort.selection.is_everything:
        return combinations
    listed = list(combinations)
    return [listed[index] for index in cohort.selection.pick(len(listed))]


def _expand_cohort(cohort: Cohort) -> Iterator[Combination]:
    """Yield the combinations of concepts and templates, then those that begin with a source document."""
    axes = axis_values(cohort.stages, cohort.combos)
    if "combo" in axes and "draft_template" in axes:
        yield from expand_axes(axes, cohort.rules)
    sources = cohort.stages[Stage.DRAFT].source_doc_ids
    if sources:
        rest = {axis: values for axis, values in axes.items() if axis not in ("combo", "draft_template")}
        yield from expand_axes({"source_doc_id": sources, **rest}, cohort.rules)


def plan_children(cohort: Cohort, stage: Stage, parents: Sequence[DocumentPlan]) -> list[DocumentPlan]:
    """Return a stage's rows for parents that come from no combination: every template with every model of the stage.

    As for source documents, a rule holds where all its axes have a value, and here only the stage's own have one.
    """
    planner = _Planner(cohort)
    axes = axis_values(cohort.stages, cohort.combos)
    own = {axis: values for axis, values in axes.items() if axis in (f"{stage}_template", f"{stage}_model")}
    for combination in expand_axes(own, cohort.rules):
        planner.add_children(stage, parents, combination)
    return list(planner.rows[stage].values())


class _Planner:
    """Collects rows, each once, in the order in which combinations first ask for them."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self.rows: dict[Stage, dict[str, DocumentPlan]] = {stage: {} for stage in MADE_STAGES if stage in cohort.stages}
        self._templates = {
            (stage, template.template_id): template
            for stage, request in cohort.stages.items()
            for template in request.templates
        }
        self._models = {model.model_id: model for request in cohort.stages.values() for model in request.models}

    def add(self, combination: Combination) -> None:
        """Add the rows of one combination: its drafts, their essays, and the evaluations of what is evaluated."""
        by_stage: dict[Stage, list[DocumentPlan]] = {}
        by_stage[Stage.DRAFT] = self._add_drafts(combination)
        if Stage.ESSAY in self.rows:
            by_stage[Stage.ESSAY] = self.add_children(Stage.ESSAY, by_stage[Stage.DRAFT], combination)
        if Stage.EVALUATION in self.rows:
            targets = by_stage[self.cohort.stages[Stage.EVALUATION].target]
            self.add_children(Stage.EVALUATION, targets, combination)

    def _add_drafts(self, combination: Combination) -> list[DocumentPlan]:
        source_doc_id = combination.get("source_doc_id", "")
        if source_doc_id:
            name, combo, template = f"{SOURCE_NAME}-{source_doc_id}", None, None
        else:
            combo = self.cohort.combos[combination["combo"]]
            template = self._templates[Stage.DRAFT, combination["draft_template"]]
            name = f"{combo.combo_id}__{template.template_id}"
        model = self._models[combination["draft_model"]]
        return [
            self._row(
                DocumentPlan(
                    Stage.DRAFT,
                    f"{name}__{model.model_id}__{replicate}",
                    replicate,
                    Mode.LLM,
                    template,
                    model,
                    combo,
                    source_doc_id,
                    None,
                )
            )
            for replicate in self._replicates(Stage.DRAFT)
        ]

    def add_children(
        self, stage: Stage, parents: Sequence[DocumentPlan], combination: Combination
    ) -> list[DocumentPlan]:
        template = self._templates[stage, combination[f"{stage}_template"]]
        copies = template.mode is Mode.COPY
        model = None if copies else self._models[combination[f"{stage}_model"]]
        model_name = model.model_id if model else COPY_NAME
        return [
            self._row(
                DocumentPlan(
                    stage,
                    f"{parent.task_id}__{template.template_id}__{model_name}__{replicate}",
                    replicate,
                    template.mode,
                    template,
                    model,
                    None,
                    "",
                    parent,
                )
            )
            for parent in parents
            for replicate in ([1] if copies else self._replicates(stage))
        ]

    def _row(self, plan: DocumentPlan) -> DocumentPlan:
        return self.rows[plan.stage].setdefault(plan.task_id, plan)

    def _replicates(self, stage: Stage) -> range:
        return range(1, self.cohort.stages[stage].replicates + 1)


# The report


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of a row: its status, "missing" if it was never tried, and the reason if it is not ok."""

    plan: DocumentPlan
    status: str
    reason: str


def report_inputs(outcomes: Iterable[RowOutcome]) -> dict[str, Any]:
    """Return the inputs of the report over these rows."""
    return {"stage_version": REPORT_VERSION, "rows": list(_report_rows(outcomes))}


def _report_rows(outcomes: Iterable[RowOutcome]) -> Iterator[dict[str, Any]]:
    """Yield what of each row is an input of the report.

    Names are no inputs: each name is replaced by the number of its first appearance, so that renaming
    a template gives the same report, while naming one document by two templates gives another.
    """
    numbers: dict[str, dict[str, int]] = {}

    def number_of(kind: str, name: str) -> int:
        numbers_of_kind = numbers.setdefault(kind, {})
        return numbers_of_kind.setdefault(name, len(numbers_of_kind))

    for outcome in outcomes:
        plan = outcome.plan
        yield {
            "stage": plan.stage,
            "doc_id": plan.doc_id,
            "parent_doc_id": plan.parent_doc_id,
            "template": number_of(f"{plan.stage} template", plan.template_id),
            "model": number_of("model", plan.model_id),
            "status": outcome.status,
            "reason": outcome.reason,
        }


def plan_report(plan: CohortPlan) -> str:
    """Return the doc_id of the report of a complete cohort: the one that is made when every document is there."""
    complete = (RowOutcome(row, "ok", "") for rows in plan.rows.values() for row in rows)
    inputs: dict[str, Any] = {"stage_version": REPORT_VERSION, "rows": _report_rows(complete)}  # hashed row by row
    return id_from_digest(digest_of(Stage.REPORT, inputs))
