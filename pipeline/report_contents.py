"""What a report is about: the documents that rows ask for, how they hang together, and where they rank.

Rows that share a doc_id are one document with several names. Only documents with status ok are read.
Names of templates, models and tasks are those in the rows. Knows nothing of pages and CSV files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from pipeline.rankings import Maker, RankedDocument, Ranking, Scale, Score
from pipeline.stages import Mode, Stage, Status

MISSING = "missing"  # not a Status: a document that was never tried has none
SHOWN_TEXTS = 50  # documents whose text is on the page at all; every text is in essays.csv
NO_NAME = "–"

Metadata = Mapping[str, Any]


@dataclass(frozen=True)
class ReportRow:
    """One row of a task table, and how making its document ended. The columns of documents.csv."""

    stage: str
    doc_id: str
    parent_doc_id: str  # empty for drafts
    task_id: str
    template_id: str
    model_id: str
    combo_id: str
    replicate: int
    mode: str
    status: str  # a Status, or MISSING for a document that is not made yet
    reason: str  # empty when ok; otherwise "code: sentence", such as "context_overflow: the prompt has …"


class ReadableDocument(Protocol):
    """What a report needs of a document of the store."""

    @property
    def doc_id(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def metadata(self) -> Metadata: ...
    def read_text(self, name: str) -> str: ...


ReadDocument = Callable[[str, str], ReadableDocument]  # (stage, doc_id)


@dataclass(frozen=True)
class ReportedDocument:
    """A document that a cohort asks for, by one row or by several. `document` is None unless its status is ok."""

    row: ReportRow  # the first of the rows that ask for it
    task_ids: tuple[str, ...]
    document: ReadableDocument | None

    @property
    def doc_id(self) -> str:
        """Its doc_id."""
        return self.row.doc_id

    @property
    def metadata(self) -> Metadata:
        """What its metadata.json says; empty if it is not made."""
        return self.document.metadata if self.document else {}

    @property
    def maker(self) -> Maker:
        """Its template and model. A document in mode copy had no model, and may have no template."""
        return Maker(self.row.template_id or NO_NAME, self.row.model_id or self.row.mode)

    @property
    def concepts(self) -> Sequence[Mapping[str, Any]]:
        """The concepts of a draft, in the order in which its prompt names them."""
        return self.metadata.get("concepts") or ()

    @property
    def score(self) -> Mapping[str, Any] | None:
        """The score of an evaluation: {value, scale, strategy, line}."""
        return self.metadata.get("score")

    def find_text(self, name: str) -> str | None:
        """Return a file's text, or None if a document of its mode has no such file."""
        if self.document is None:
            return None
        files = self.metadata.get("files")
        has_file = name in files if files is not None else name == "parsed.txt" or self.row.mode != Mode.COPY
        return self.document.read_text(name) if has_file else None


@dataclass(frozen=True)
class DocumentSet:
    """The documents of a report, in the order of the rows."""

    documents: tuple[ReportedDocument, ...]

    @cached_property
    def by_doc_id(self) -> dict[str, ReportedDocument]:
        """Every document by its doc_id."""
        return {document.doc_id: document for document in self.documents}

    @cached_property
    def evaluations_by_target(self) -> dict[str, list[ReportedDocument]]:
        """The evaluations with status ok, by the doc_id of the document that they judge."""
        evaluations: dict[str, list[ReportedDocument]] = {}
        for document in self.of_stage(Stage.EVALUATION):
            if document.document:
                evaluations.setdefault(document.row.parent_doc_id, []).append(document)
        return evaluations

    def of_stage(self, stage: str) -> list[ReportedDocument]:
        """Return the documents of a stage."""
        return [document for document in self.documents if document.row.stage == stage]

    def find(self, doc_id: str) -> ReportedDocument | None:
        """Return a document, or None if no row asks for it."""
        return self.by_doc_id.get(doc_id)

    def find_draft(self, doc_id: str) -> ReportedDocument | None:
        """Return the draft at the root of a draft, essay or evaluation; None if no row asks for it."""
        document = self.find(doc_id)
        while document and document.row.stage != Stage.DRAFT:
            document = self.find(document.row.parent_doc_id)
        return document

    def name_concepts(self, doc_id: str) -> str:
        """Return the names of the concepts behind a document, or the name of their combo if the draft is not made."""
        draft = self.find_draft(doc_id)
        if draft and draft.concepts:
            return " + ".join(str(concept["name"]) for concept in draft.concepts)
        document = draft or self.find(doc_id)
        return document.row.combo_id if document else NO_NAME

    def stage_of(self, doc_id: str, *, evaluation: ReportedDocument) -> str:
        """Return the stage of the document that an evaluation judges, also if no row asks for that document."""
        target = self.find(doc_id)
        if target:
            return target.row.stage
        parents = evaluation.metadata.get("parents") or [{"stage": Stage.ESSAY}]
        return str(parents[0]["stage"])


@dataclass(frozen=True)
class Report:
    """All that the page, the CSV files and the summary are written from."""

    title: str
    documents: DocumentSet
    rankings: Sequence[Ranking]

    @cached_property
    def places_by_doc_id(self) -> dict[str, list[tuple[Ranking, RankedDocument]]]:
        """Where each scored document stands: one place for each scale."""
        places: dict[str, list[tuple[Ranking, RankedDocument]]] = {}
        for ranking in self.rankings:
            for ranked in ranking.documents:
                places.setdefault(ranked.doc_id, []).append((ranking, ranked))
        return places

    @cached_property
    def target_stage(self) -> str:
        """The stage that readers come for: what is ranked first; else essays, or drafts where none are asked for."""
        if self.rankings:
            return self.rankings[0].stage
        return Stage.ESSAY if self.documents.of_stage(Stage.ESSAY) else Stage.DRAFT

    @cached_property
    def reading_order(self) -> list[ReportedDocument]:
        """The made documents worth reading, each once: by rank in the first ranking, then the others, then unscored."""
        unscored = [document.doc_id for document in self.documents.of_stage(self.target_stage)]
        found = [self.documents.find(doc_id) for doc_id in dict.fromkeys([*self.places_by_doc_id, *unscored])]
        return [document for document in found if document and document.document]

    @cached_property
    def shown_ids(self) -> set[str]:
        """The documents whose text is on the page."""
        return {document.doc_id for document in self.reading_order[:SHOWN_TEXTS]}

    @property
    def judges(self) -> list[Maker]:
        """All judges that gave a score, each once."""
        return list(dict.fromkeys(summary.judge for ranking in self.rankings for summary in ranking.judges))

    @property
    def made_count(self) -> int:
        """How many documents have status ok."""
        return sum(document.document is not None for document in self.documents.documents)

    @property
    def hidden_count(self) -> int:
        """How many texts are in essays.csv only."""
        return max(0, len(self.reading_order) - SHOWN_TEXTS)

    def count_scored(self, stage: str) -> int:
        """Return how many documents of a stage have a score."""
        scored = [ranking.documents for ranking in self.rankings if ranking.stage == stage]
        return len({ranked.doc_id for documents in scored for ranked in documents})


def gather_documents(rows: Sequence[ReportRow], read_document: ReadDocument) -> DocumentSet:
    """Return each document once, with the task_ids of all rows that ask for it."""
    rows_by_doc_id: dict[str, list[ReportRow]] = {}
    for row in rows:
        rows_by_doc_id.setdefault(row.doc_id, []).append(row)
    return DocumentSet(
        tuple(
            ReportedDocument(
                same[0],
                tuple(dict.fromkeys(row.task_id for row in same)),
                read_document(same[0].stage, doc_id) if same[0].status == Status.OK else None,
            )
            for doc_id, same in rows_by_doc_id.items()
        )
    )


def read_scores(documents: DocumentSet) -> Iterator[Score]:
    """Yield the score of every evaluation that has one, in the order of the rows."""
    for target_id, evaluations in documents.evaluations_by_target.items():
        for evaluation in evaluations:
            if evaluation.score:
                stage = documents.stage_of(target_id, evaluation=evaluation)
                scale = Scale(*map(float, evaluation.score["scale"]))
                yield Score(stage, target_id, evaluation.maker, scale, float(evaluation.score["value"]))
