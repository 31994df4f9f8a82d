"""Reports: from the documents that a cohort asks for to one HTML page, three CSV files and a plain summary. Pure.

render_report
├── gather_documents, read_scores    the documents that the rows ask for (pipeline.report_contents)
├── rank_documents                   one ranking for each stage and scale (pipeline.rankings)
└── render_page, write_essays_csv, write_evaluations_csv, write_documents_csv, write_summary

Equal rows and equal documents give equal bytes: no time, path or run reaches a report, order is the order of
the rows or of values, numbers have fixed forms. What a model wrote is untrusted: the page escapes everything,
shows texts as plain text, makes hidden characters visible, runs no script and loads nothing.

Names of templates, models and tasks are those in the rows. Knows nothing of Luigi, configuration or the store.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.printing import format_usd
from pipeline.rankings import Heatmap, Maker, RankedDocument, Ranking, draw_heatmap, rank_documents
from pipeline.report_contents import (
    MISSING,
    NO_NAME,
    SHOWN_TEXTS,
    DocumentSet,
    ReadableDocument,
    ReadDocument,
    Report,
    ReportedDocument,
    ReportRow,
    gather_documents,
    read_scores,
)
from pipeline.spreadsheets import Cell, write_csv
from pipeline.stages import MADE_STAGES, Stage, Status

OPEN_TEXTS = 5  # documents whose text is open on the page
SHOWN_RANKS = 25  # lines of a ranking before the rest is folded
SHOWN_ID_LENGTH = 8
STATUS_ORDER = (*map(str, Status), MISSING)
SUMMARY_RANKS = 10  # lines of a ranking in the plain summary

REASON_CODE = re.compile(r"([a-z][a-z0-9_]*)(?::\s*|$)")

# Characters that a reader cannot see, but that change what is read: controls, bidi embeddings, overrides and
# isolates, tag characters. Left-to-right marks and joiners stay: honest text in many scripts needs them.
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f]")
CONTROL_PICTURES = 0x2400  # U+2400 pictures U+0000, and so on up to U+001F

__all__ = ["ReadDocument", "ReadableDocument", "ReportRow", "render_report"]


class StageSummary(NamedTuple):
    """One line of the first table."""

    stage: str
    planned: int
    count_by_status: Counter[str]
    tokens: int


class Problem(NamedTuple):
    """The documents that are not there for one reason."""

    status: str
    code: str  # the fixed part of the reason; empty if there is none
    detail: str  # the sentence of the first; may be empty
    is_shared: bool  # whether the sentence is the same for all of them
    documents: tuple[tuple[ReportedDocument, str], ...]  # with the sentence of each


class MeanMap(NamedTuple):
    """A heatmap with what it shows, such as "Essays by what wrote them"."""

    stage: str  # the templates and models of this stage
    ranking: Ranking
    heatmap: Heatmap


class Judgement(NamedTuple):
    """An evaluation that is shown in full."""

    evaluation: ReportedDocument
    raw_text: str | None


class FullText(NamedTuple):
    """A document that is shown in full, with what it was made from."""

    document: ReportedDocument
    places: tuple[tuple[Ranking, RankedDocument], ...]  # one for each scale on which it was scored
    text: str
    prompt: str | None
    draft: ReportedDocument | None  # None if the document is a draft itself
    draft_text: str | None
    draft_prompt: str | None
    concepts: Sequence[Mapping[str, Any]]
    judgements: tuple[Judgement, ...]


def render_report(title: str, rows: Sequence[ReportRow], read_document: ReadDocument) -> dict[str, bytes]:
    """Return the files of a report: {"extras/report.html": …, "extras/essays.csv": …, …, "parsed.txt": …}.

    `read_document(stage, doc_id)` is called once for each document with status ok, and never for another.
    """
    documents = gather_documents(rows, read_document)
    report = Report(title, documents, rank_documents(read_scores(documents)))
    return {
        "extras/report.html": render_page(report),
        "extras/essays.csv": write_essays_csv(report),
        "extras/evaluations.csv": write_evaluations_csv(documents),
        "extras/documents.csv": write_documents_csv(rows, documents),
        "parsed.txt": write_summary(report),
    }


# What the page shows


def summarize_stages(documents: DocumentSet) -> list[StageSummary]:
    """Return one line for each stage that a row asks for. A call that several documents share is counted once."""
    summaries = []
    for stage in MADE_STAGES:
        found = documents.of_stage(stage)
        if found:
            count_by_status = Counter(document.row.status for document in found)
            summaries.append(StageSummary(stage, len(found), count_by_status, count_tokens(found)))
    return summaries


def count_tokens(documents: Sequence[ReportedDocument]) -> int:
    """Return the tokens of the calls behind documents, each call once: two parsers can share one paid answer."""
    tokens_by_call = {
        document.metadata.get("call_id") or document.doc_id: document.metadata.get("total_tokens") or 0
        for document in documents
    }
    return sum(tokens_by_call.values())


def describe_cost(documents: Sequence[ReportedDocument]) -> str:
    """Return what the calls behind documents cost, each call once: "$0.21", "$0.21 + unknown"; "" if it is nothing."""
    costs = {
        document.metadata["call_id"]: document.metadata.get("cost_usd")
        for document in documents
        if document.metadata.get("call_id")
    }
    known = sum(cost for cost in costs.values() if cost is not None)
    unknown = " + unknown" if None in costs.values() else ""
    return f"{format_usd(known)}{unknown}" if known else ""


def group_problems(documents: DocumentSet) -> list[Problem]:
    """Return why documents are not there: by status, then the most frequent reason first."""
    groups: dict[tuple[str, str], list[tuple[ReportedDocument, str]]] = {}
    for document in documents.documents:
        if document.row.status != Status.OK:
            code, detail = split_reason(document.row.reason)
            groups.setdefault((document.row.status, code), []).append((document, detail))
    found = sorted(groups.items(), key=lambda group: (STATUS_ORDER.index(group[0][0]), -len(group[1])))
    return [_describe_problem(status, code, members) for (status, code), members in found]


def find_drifts(documents: DocumentSet) -> list[str]:
    """Return a sentence for each model for which another one answered, or that changed between two answers.

    "gpt-4o" may be answered by "gpt-4o-2024-08-06": the name of a version begins with the name that was asked for.
    Documents that do not say which model answered say nothing here.
    """
    found: dict[str, tuple[set[str], set[str]]] = {}
    for document in documents.documents:
        if model := document.metadata.get("model"):
            reported, fingerprints = found.setdefault(model, (set(), set()))
            reported.update(filter(None, [document.metadata.get("model_reported")]))
            fingerprints.update(filter(None, [document.metadata.get("system_fingerprint")]))
    return [line for model, facts in sorted(found.items()) for line in _describe_drift(model, *map(sorted, facts))]


def _describe_drift(model: str, reported: Sequence[str], fingerprints: Sequence[str]) -> Iterator[str]:
    asked = model.partition("/")[2]
    if len(reported) > 1:
        yield f"{model} was answered by {len(reported)} models: {', '.join(reported)}."
    elif reported and not reported[0].rpartition("/")[2].startswith(asked.rpartition("/")[2]):
        yield f"{model} was answered by another model: {reported[0]}."
    if len(fingerprints) > 1:
        yield f"{model} changed between answers; its fingerprints: {', '.join(fingerprints)}."


def split_reason(reason: str) -> tuple[str, str]:
    """Return the code of a reason and its sentence; a reason without a code is a sentence.

    >>> split_reason("budget: no money is left"), split_reason("rate_limit"), split_reason("It broke: badly")
    (('budget', 'no money is left'), ('rate_limit', ''), ('', 'It broke: badly'))
    """
    match = REASON_CODE.match(reason)
    return (match[1], reason[match.end() :]) if match else ("", reason)


def _describe_problem(status: str, code: str, members: list[tuple[ReportedDocument, str]]) -> Problem:
    details = list(dict.fromkeys(detail for _, detail in members))
    return Problem(status, code, details[0], len(details) == 1, tuple(members))


def draw_mean_maps(report: Report) -> list[MeanMap]:
    """Return a heatmap of what was ranked; and for essays one of the drafts, if more than one thing wrote drafts."""
    maps = []
    for ranking in report.rankings:
        for stage in dict.fromkeys([ranking.stage, Stage.DRAFT]):
            heatmap = draw_heatmap(list(_list_means(report.documents, ranking, stage)), ranking.scale)
            if heatmap.cell_count > (stage != ranking.stage):
                maps.append(MeanMap(stage, ranking, heatmap))
    return maps


def _list_means(documents: DocumentSet, ranking: Ranking, stage: str) -> Iterator[tuple[Maker, float]]:
    """Yield the mean of each ranked document with the maker of its ancestor of a stage, in the order of the rows."""
    mean_by_doc_id = {ranked.doc_id: ranked.mean for ranked in ranking.documents}
    for document in documents.documents:
        if document.doc_id in mean_by_doc_id:
            ancestor = documents.find_draft(document.doc_id) if stage == Stage.DRAFT else document
            if ancestor:
                yield ancestor.maker, mean_by_doc_id[document.doc_id]


def read_full_texts(report: Report) -> list[FullText]:
    """Return the documents that are shown in full, best first."""
    return [_read_full_text(report, document) for document in report.reading_order[:SHOWN_TEXTS]]


def _read_full_text(report: Report, document: ReportedDocument) -> FullText:
    draft = report.documents.find_draft(document.doc_id)
    is_draft = draft is document
    evaluations = report.documents.evaluations_by_target.get(document.doc_id, [])
    return FullText(
        document,
        tuple(report.places_by_doc_id.get(document.doc_id, ())),
        text=document.find_text("parsed.txt") or "",
        prompt=document.find_text("prompt.txt"),
        draft=None if is_draft else draft,
        draft_text=draft.find_text("parsed.txt") if draft and not is_draft else None,
        draft_prompt=draft.find_text("prompt.txt") if draft and not is_draft else None,
        concepts=draft.concepts if draft else (),
        judgements=tuple(Judgement(evaluation, evaluation.find_text("raw.txt")) for evaluation in evaluations),
    )


# The page


def render_page(report: Report) -> bytes:
    """Return the HTML page: one file, no script, nothing loaded; its one style is allowed by its hash."""
    environment = _make_environment()
    loader = environment.loader
    assert loader is not None
    style = loader.get_source(environment, "report.css")[0].replace("\r\n", "\n")
    page = environment.get_template("report.html.j2").render(
        report=report,
        documents=report.documents,
        stages=summarize_stages(report.documents),
        tokens=count_tokens(report.documents.documents),
        cost=describe_cost(report.documents.documents),
        statuses=_list_statuses(report.documents),
        problems=group_problems(report.documents),
        drifts=find_drifts(report.documents),
        mean_maps=draw_mean_maps(report),
        full_texts=read_full_texts(report),
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=hash_style(style),
        open_texts=OPEN_TEXTS,
        shown_ranks=SHOWN_RANKS,
        missing=MISSING,
    )
    return page.encode()


def hash_style(style: str) -> str:
    """Return the source expression of a Content-Security-Policy that allows exactly this style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}"


def show_hidden(value: Any) -> Any:
    r"""Return a text with its hidden characters made visible. Anything but text is returned as it is.

    >>> show_hidden("a\x00b\u202ec\r\n")
    'a␀b⟦U+202E⟧c\n'
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return HIDDEN.sub(_picture_hidden, value.replace("\r\n", "\n"))


def _picture_hidden(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(CONTROL_PICTURES + code) if code < ord(" ") else f"⟦U+{code:04X}⟧"


@lru_cache(maxsize=1)
def _make_environment() -> Environment:
    """Return the environment of the page: its own, so that no template of an experiment can reach it."""
    environment = Environment(
        loader=PackageLoader("pipeline", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_hidden,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "fixed": lambda number: f"{number:.2f}",
        "number": lambda number: f"{number:g}",
        "first_characters": lambda doc_id: doc_id[:SHOWN_ID_LENGTH],
        "plural": count_things,
    }
    return environment


def count_things(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> count_things(1, "essay"), count_things(1200, "document")
    ('1 essay', '1,200 documents')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _list_statuses(documents: DocumentSet) -> list[str]:
    """Return the statuses that occur, in their fixed order, with MISSING last."""
    found = {document.row.status for document in documents.documents}
    return [status for status in STATUS_ORDER if status in found]


# The CSV files

ESSAYS_HEADER = (
    "stage", "doc_id", "parent_doc_id", "task_ids",
    "scale_low", "scale_high", "rank", "mean_score", "judges", "evaluations",
    "combo_id", "concepts", "template_id", "model_id", "draft_template_id", "draft_model_id", "replicate", "mode",
    "parsed_text",
)  # fmt: skip
EVALUATIONS_HEADER = (
    "doc_id", "parent_stage", "parent_doc_id", "task_ids", "template_id", "model_id", "replicate",
    "score", "scale_low", "scale_high", "score_line",
    "combo_id", "essay_template_id", "essay_model_id", "draft_template_id", "draft_model_id",
)  # fmt: skip
ROW_COLUMNS = tuple(column.name for column in fields(ReportRow))
COUNT_COLUMNS = ("finish_reason", "prompt_tokens", "completion_tokens", "total_tokens", "max_tokens", "call_id")
# What a report uses of a document's metadata.
REPORTED_FIELDS = (
    *COUNT_COLUMNS, "concepts", "cost_usd", "files", "model", "model_reported", "parents", "score",
    "system_fingerprint",
)  # fmt: skip
TASK_ID_SEPARATOR = "; "


def write_essays_csv(report: Report) -> bytes:
    """Return a line for each made document worth reading and each scale on which it was scored, in reading order."""
    return write_csv(ESSAYS_HEADER, _list_essay_lines(report))


def _list_essay_lines(report: Report) -> Iterator[list[Cell]]:
    for document in report.reading_order:
        text = document.find_text("parsed.txt")
        for place in _list_places(report, document.doc_id):
            yield [*_name_document(document), *place, *_name_lineage(report.documents, document), text]


def _list_places(report: Report, doc_id: str) -> list[list[Cell]]:
    """Return the place on each scale; one empty place for a document without a score."""
    places = report.places_by_doc_id.get(doc_id, [])
    return [
        [*ranking.scale, ranked.rank, ranked.mean, ranked.judge_count, ranked.evaluation_count]
        for ranking, ranked in places
    ] or [[None] * 6]


def _name_document(document: ReportedDocument) -> list[Cell]:
    row = document.row
    return [row.stage, row.doc_id, row.parent_doc_id, TASK_ID_SEPARATOR.join(document.task_ids)]


def _name_lineage(documents: DocumentSet, document: ReportedDocument) -> list[Cell]:
    row, draft = document.row, documents.find_draft(document.doc_id)
    draft_names: list[Cell] = [draft.row.template_id, draft.row.model_id] if draft else [None, None]
    concepts = documents.name_concepts(document.doc_id)
    return [row.combo_id, concepts, row.template_id, row.model_id, *draft_names, row.replicate, row.mode]


def write_evaluations_csv(documents: DocumentSet) -> bytes:
    """Return a line for each evaluation with status ok, with what wrote the document that it judges."""
    evaluations = [document for document in documents.of_stage(Stage.EVALUATION) if document.document]
    return write_csv(EVALUATIONS_HEADER, [_list_evaluation_cells(documents, evaluation) for evaluation in evaluations])


def _list_evaluation_cells(documents: DocumentSet, evaluation: ReportedDocument) -> list[Cell]:
    row, score = evaluation.row, evaluation.score or {}
    low, high = map(float, score["scale"]) if score else (None, None)
    value = float(score["value"]) if score else None
    stage = documents.stage_of(row.parent_doc_id, evaluation=evaluation)
    target, draft = documents.find(row.parent_doc_id), documents.find_draft(row.parent_doc_id)
    essay = target if target and target.row.stage == Stage.ESSAY else None
    makers = [name for maker in (essay, draft) for name in _name_maker(maker)]
    task_ids = TASK_ID_SEPARATOR.join(evaluation.task_ids)
    names: list[Cell] = [row.doc_id, stage, row.parent_doc_id, task_ids, row.template_id, row.model_id, row.replicate]
    return [*names, value, low, high, score.get("line"), row.combo_id, *makers]


def _name_maker(document: ReportedDocument | None) -> list[Cell]:
    return [document.row.template_id, document.row.model_id] if document else [None, None]


def write_documents_csv(rows: Sequence[ReportRow], documents: DocumentSet) -> bytes:
    """Return a line for each row, as given, with the counts of the document where it is made."""
    return write_csv((*ROW_COLUMNS, *COUNT_COLUMNS), [_list_row_cells(row, documents) for row in rows])


def _list_row_cells(row: ReportRow, documents: DocumentSet) -> list[Cell]:
    metadata = documents.by_doc_id[row.doc_id].metadata
    return [*(getattr(row, name) for name in ROW_COLUMNS), *(metadata.get(name) for name in COUNT_COLUMNS)]


# The plain summary


def write_summary(report: Report) -> bytes:
    """Return the report in a few lines of plain text, for terminals and logs."""
    sections = [
        [report.title],
        [describe_progress(report)],
        [_summarize_stage_line(summary) for summary in summarize_stages(report.documents)],
        *(_summarize_ranking(report.documents, ranking) for ranking in report.rankings),
        [_summarize_problem(problem) for problem in group_problems(report.documents)],
        find_drifts(report.documents),
    ]
    texts = ["\n".join(map(_fit_on_one_line, section)) for section in sections if section]
    return ("\n\n".join(texts) + "\n").encode()


def describe_progress(report: Report) -> str:
    """Return the first sentence of a report: "5 of 9 documents made; 2 essays scored by 1 judge; 1,234 tokens"."""
    documents = report.documents.documents
    made = f"{report.made_count:,} of {count_things(len(documents), 'document')} made"
    scored = count_things(report.count_scored(report.target_stage), report.target_stage)
    judges = count_things(len(report.judges), "judge")
    cost = f", {spent}" if (spent := describe_cost(documents)) else ""
    return f"{made}; {scored} scored by {judges}; {count_things(count_tokens(documents), 'token')}{cost}"


def _summarize_stage_line(summary: StageSummary) -> str:
    found = [status for status in STATUS_ORDER if summary.count_by_status[status]]
    counts = ", ".join(f"{summary.count_by_status[status]:,} {status}" for status in found)
    return f"{summary.stage}: {summary.planned:,} planned, {counts}"


def _summarize_ranking(documents: DocumentSet, ranking: Ranking) -> list[str]:
    heading = f"{ranking.stage}s, scored from {ranking.scale.low:g} to {ranking.scale.high:g}"
    lines = []
    for ranked in ranking.documents[:SUMMARY_RANKS]:
        document = documents.find(ranked.doc_id)
        makers = " x ".join(document.maker) if document else NO_NAME
        concepts = documents.name_concepts(ranked.doc_id)
        lines.append(f"{ranked.rank}. {ranked.mean:.2f}  {ranked.doc_id}  {concepts}  {makers}")
    rest = len(ranking.documents) - len(lines)
    return [heading, *lines, *([f"and {rest:,} more"] if rest else [])]


def _summarize_problem(problem: Problem) -> str:
    words = [f"{len(problem.documents):,} {problem.status}", problem.code, problem.detail]
    return ": ".join(word for word in words if word)


def _fit_on_one_line(text: str) -> str:
    return " ".join(str(show_hidden(text)).splitlines())
