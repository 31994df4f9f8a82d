"""Task tables that a person edited: what each row asks for, and everything that is wrong with it.

    a row with names       template_id, model_id, combo_id, …: its doc_id has to follow from them
    a row with ids alone   a curated document: it has to be in the store, and is taken as it is. task_id and
                           parent_doc_id may stand beside the doc_id; all other cells are empty. Without a
                           task_id it goes by that of its first making with @doc_id

A table of a later stage that nobody edited follows: rows whose parents were removed are gone, and parents that were
added get children by every template and model of the stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.cohorts import Cohort
from pipeline.concepts import LEVELS, Combo
from pipeline.configuration import Configuration
from pipeline.errors import EditedTablesInvalid, Problem, TaskTableInvalid
from pipeline.models import Model
from pipeline.planning import CohortPlan, DocumentPlan, GivenPlan, plan_children
from pipeline.stages import EVALUATION_TARGETS, MADE_STAGES, Mode, Stage
from pipeline.task_tables import CUT_ROW, read_table_rows
from pipeline.templates import Template
from pipeline.toml_file import suggest
from store.documents import DocumentStore
from store.errors import DocumentMissing, StoreError
from store.identity import ID_FORM

PARENT_STAGES = {Stage.DRAFT: (), Stage.ESSAY: (Stage.DRAFT,), Stage.EVALUATION: EVALUATION_TARGETS}
NAMED_COLUMNS = ("template_id", "model_id", "combo_id", "replicate", "mode", "source_doc_id")  # empty: ids alone

Row = Mapping[str, str]


class TableReader:
    """Reads tables against the config and the store. `problems` collects what is wrong, with file and line."""

    def __init__(self, configuration: Configuration, documents: DocumentStore, planned: CohortPlan | None) -> None:
        self.configuration, self.documents = configuration, documents
        self.problems: list[Problem] = []
        self.levels = _order_levels(configuration, planned)
        self._planned = planned
        self._read: dict[Stage, dict[str, DocumentPlan]] = {}  # by doc_id

    def read(self, stage: Stage, path: Path) -> tuple[DocumentPlan, ...]:
        """Return the plans of a table's rows, without those that have a mistake."""
        try:
            rows = read_table_rows(path)
        except TaskTableInvalid as error:
            self.problems.append(Problem(path.name, None, error.problem))
            rows = []
        reader = _RowReader(self, stage, path.name)
        plans = tuple(plan for line, row in enumerate(rows, start=2) if (plan := reader.read(line, row)))
        self.add(stage, plans)
        return plans

    def add(self, stage: Stage, plans: Sequence[DocumentPlan]) -> None:
        """Let rows of later tables name these plans as parents."""
        self._read.setdefault(stage, {}).update({plan.doc_id: plan for plan in reversed(plans)})

    def find_planned(self, stage: Stage, doc_id: str) -> DocumentPlan | None:
        return self._planned.find(stage, doc_id) if self._planned else None

    def find_read(self, stage: Stage, doc_id: str) -> DocumentPlan | None:
        return self._read.get(stage, {}).get(doc_id)

    def find_stored(self, stage: Stage, doc_id: str, task_id: str = "") -> GivenPlan | None:
        """Return the plan of a document that is in the store; None if it is not. Raises StoreError if it is damaged."""
        try:
            metadata = self.documents.read(stage, doc_id).metadata
        except DocumentMissing:
            return None
        # the name alone may be that of a row: an older document of the same templates and models
        task_id = task_id or f"{metadata.get('task_id') or stage}@{doc_id}"
        return GivenPlan.of(stage, doc_id, task_id, metadata=metadata)


def _order_levels(configuration: Configuration, planned: CohortPlan | None) -> list[str]:
    """Return the levels of concepts, that of the cohort's combos first."""
    cohort = configuration.cohorts.get(planned.name) if planned else None
    own = {combo.level for combo in cohort.combos.values()} if cohort else set()
    return sorted(LEVELS, key=lambda level: level not in own)


class _Mistake(Exception):
    """What is wrong with a row."""


class _RowReader:
    """Reads the rows of one table."""

    def __init__(self, tables: TableReader, stage: Stage, file: str) -> None:
        self.tables, self.stage, self.file = tables, stage, file
        self._lines_by_task_id: dict[str, int] = {}
        self._given_lines: dict[str, int] = {}
        self._lines_by_doc_id: dict[str, int] = {}

    def read(self, line: int, row: Row | None) -> DocumentPlan | None:
        """Return the plan of a row; None, with a Problem, if something is wrong with it."""
        try:
            if row is None:
                raise _Mistake(f"the row {CUT_ROW}.")
            plan = self._read_given(row) if self._has_ids_alone(row) else self._read_named(row)
            self._check_duplicates(line, row, plan)
        except (_Mistake, StoreError) as mistake:
            self.tables.problems.append(Problem(self.file, line, str(mistake)))
            return None
        return plan

    def _has_ids_alone(self, row: Row) -> bool:
        return not any(row[column] for column in NAMED_COLUMNS)

    def _check_duplicates(self, line: int, row: Row, plan: DocumentPlan) -> None:
        before = self._lines_by_task_id.setdefault(plan.task_id, line)
        if before != line:
            raise _Mistake(f"task_id {plan.task_id!r} is that of line {before}, too. Expected each name once.")
        before = self._lines_by_doc_id.setdefault(plan.doc_id, line)
        is_given = self._has_ids_alone(row)
        if before != line and (is_given or plan.doc_id in self._given_lines):  # two rows with names may share an id
            raise _Mistake(f"doc_id {plan.doc_id} is that of line {before}, too. Expected it once.")
        if is_given:
            self._given_lines[plan.doc_id] = line

    # A row with ids alone

    def _read_given(self, row: Row) -> DocumentPlan:
        doc_id = self._check_doc_id(row["doc_id"], "doc_id")
        given = self.tables.find_stored(self.stage, doc_id, row["task_id"])
        if given is None:
            raise _Mistake(self._explain_absent(doc_id, "doc_id", (self.stage,)))
        if row["parent_doc_id"] not in ("", given.parent_doc_id):
            found = f"parent_doc_id is {row['parent_doc_id']!r}; the document was made from {given.parent_doc_id!r}."
            raise _Mistake(f"{found} Expected that, or an empty cell.")
        return given

    def _explain_absent(self, doc_id: str, column: str, expected: Sequence[Stage]) -> str:
        """Say why an id is none of these stages: it is of another one, or nowhere."""
        for stage in Stage:
            if stage not in expected and (self.tables.find_read(stage, doc_id) or self._is_stored(stage, doc_id)):
                return f"{column} {doc_id} is of stage {stage}. Expected one of stage {' or '.join(expected)}."
        where = "the tables or the store" if column == "parent_doc_id" else "the store"
        hint = "" if column == "parent_doc_id" else " Expected one that is there, or a row that says what makes it."
        return f"{column} {doc_id}: there is no such {' or '.join(expected)} in {where}.{hint}"

    def _is_stored(self, stage: Stage, doc_id: str) -> bool:
        return self.tables.documents.folder_of(stage, doc_id).is_dir()

    # A row with names

    def _read_named(self, row: Row) -> DocumentPlan:
        planned = self.tables.find_planned(self.stage, row["doc_id"])
        if planned is not None and planned.as_row() == row:
            return planned
        if not row["task_id"]:
            raise _Mistake("task_id is empty. Expected a name for the row.")
        candidates = list(self._list_plans(row))
        plan = next((plan for plan in candidates if plan.doc_id == row["doc_id"]), candidates[0])
        if plan.doc_id != row["doc_id"]:
            raise _Mistake(
                f"doc_id is {row['doc_id']!r}, but from the row follows {plan.doc_id} with the present config. Write "
                "that; or leave the doc_id and empty the other cells, to take a document of the store as it is."
            )
        self._check_cells(row, plan)
        return plan

    def _list_plans(self, row: Row) -> Iterator[DocumentPlan]:
        """Yield the plans that a row may mean: a combo's level is not in the row."""
        parent = self._find_parent(row)
        template, model = self._find_template(row), self._find_model(row)
        mode = template.mode if template else Mode.LLM
        for combo in self._list_combos(row, parent):
            yield DocumentPlan(
                self.stage,
                row["task_id"],
                self._read_replicate(row),
                mode,
                template,
                model,
                combo,
                row["source_doc_id"],
                parent,
            )

    def _find_parent(self, row: Row) -> DocumentPlan | None:
        stages = PARENT_STAGES[self.stage]
        if not stages:
            if row["parent_doc_id"]:
                raise _Mistake(
                    f"parent_doc_id is {row['parent_doc_id']!r}. Expected none: a {self.stage} has no parent."
                )
            return None
        doc_id = self._check_doc_id(row["parent_doc_id"], "parent_doc_id")
        for find in (self.tables.find_read, self.tables.find_stored):
            for stage in stages:
                if parent := find(stage, doc_id):
                    return parent
        raise _Mistake(self._explain_absent(doc_id, "parent_doc_id", stages))

    def _find_template(self, row: Row) -> Template | None:
        if row["source_doc_id"]:
            self._check_doc_id(row["source_doc_id"], "source_doc_id")
            return None
        templates = self.tables.configuration.templates
        template = templates.get((self.stage, row["template_id"]))
        if template is None:
            known = [template_id for stage, template_id in templates if stage is self.stage]
            raise _Mistake(
                f"unknown {self.stage} template {row['template_id']!r}. {suggest(row['template_id'], known)}"
            )
        if row["mode"] != template.mode:
            raise _Mistake(f"mode is {row['mode']!r}, but template {template.template_id} has mode {template.mode}.")
        return template

    def _find_model(self, row: Row) -> Model | None:
        if row["mode"] == Mode.COPY:
            if row["model_id"]:
                raise _Mistake(f"model_id is {row['model_id']!r}. Expected none: a copy asks no model.")
            return None
        models = self.tables.configuration.models
        if row["model_id"] not in models:
            raise _Mistake(f"unknown model {row['model_id']!r}. {suggest(row['model_id'], models)}")
        return models[row["model_id"]]

    def _list_combos(self, row: Row, parent: DocumentPlan | None) -> Iterator[Combo | None]:
        if parent is not None or row["source_doc_id"]:
            yield None
            return
        known = self.tables.configuration.concepts
        names = row["combo_id"].split("+")
        for name in names:
            if name not in known:
                raise _Mistake(f"combo_id names the unknown concept {name!r}. {suggest(name, known)}")
        for level in self.tables.levels:
            yield Combo(tuple(known[name] for name in names), level)

    def _read_replicate(self, row: Row) -> int:
        if not row["replicate"].isdecimal() or int(row["replicate"]) < 1:
            raise _Mistake(f"replicate is {row['replicate']!r}. Expected a whole number from 1.")
        return int(row["replicate"])

    def _check_cells(self, row: Row, plan: DocumentPlan) -> None:
        """Report a cell that the id does not depend on and that is not what the row's document has."""
        for column, expected in plan.as_row().items():
            if row[column] != expected and not (column == "combo_id" and not expected):
                raise _Mistake(f"{column} is {row[column]!r}. Expected {expected!r}, which the document has.")

    def _check_doc_id(self, doc_id: str, column: str) -> str:
        if not ID_FORM.fullmatch(doc_id):
            raise _Mistake(f"{column} is {doc_id!r}. Expected 16 characters of 0-9 and a-z.")
        return doc_id


def plan_edited(
    planned: CohortPlan,
    cohort: Cohort,
    tables: Mapping[Stage, Path],
    *,
    configuration: Configuration,
    documents: DocumentStore,
) -> CohortPlan:
    """Return the plan of a cohort in which the rows of `tables` stand for those of the config.

    Raises EditedTablesInvalid with everything that is wrong in them.
    """
    reader = TableReader(configuration, documents, planned)
    plan = read_edits(reader, planned, cohort, tables)
    if reader.problems:
        raise EditedTablesInvalid(planned.name, reader.problems)
    return plan


def read_edits(reader: TableReader, planned: CohortPlan, cohort: Cohort, tables: Mapping[Stage, Path]) -> CohortPlan:
    """Return the plan as `plan_edited` does, without the rows that have a mistake; `reader` has the mistakes."""
    rows: dict[Stage, tuple[DocumentPlan, ...]] = {}
    for stage in MADE_STAGES:
        if stage in tables:
            rows[stage] = reader.read(stage, tables[stage])
        elif stage in planned.rows:
            rows[stage] = _follow_parents(planned, cohort, stage, rows)
            reader.add(stage, rows[stage])
    return replace(planned, rows=rows, edited=frozenset(tables))


def _follow_parents(
    planned: CohortPlan, cohort: Cohort, stage: Stage, rows: Mapping[Stage, Sequence[DocumentPlan]]
) -> tuple[DocumentPlan, ...]:
    """Return a stage's rows whose parents are still asked for, and the children of parents that were added."""
    present = {(parent_stage, plan.doc_id) for parent_stage, plans in rows.items() for plan in plans}
    kept = [
        row for row in planned.rows[stage] if row.parent is None or (row.parent.stage, row.parent.doc_id) in present
    ]
    if stage is Stage.DRAFT:
        return tuple(kept)
    parent_stage = cohort.stages[stage].target if stage is Stage.EVALUATION else Stage.DRAFT
    known = planned.documents.get(parent_stage, {})
    added = [plan for plan in rows.get(parent_stage, ()) if plan.doc_id not in known]
    return (*kept, *plan_children(cohort, stage, added))
