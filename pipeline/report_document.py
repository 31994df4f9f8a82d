"""The report as a document: a pure function of the documents that a cohort's rows name, committed like any other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from pipeline.planning import RowOutcome, report_inputs
from pipeline.reports import REPORTED_FIELDS, ReportRow, render_report
from pipeline.stages import REPORT_VERSION, Mode, Stage, Status
from pipeline.workspace import Workspace
from store.documents import Document
from store.errors import DocumentMissing
from store.identity import digest_of, id_from_digest

SUMMARY_FILE = "parsed.txt"


def make_report(workspace: Workspace, cohort: str) -> Document:
    """Return the report over a cohort as it stands now: the complete one, or one that says what is missing."""
    documents = workspace.data.documents
    if not workspace.find_missing(cohort) and documents.is_present(Stage.REPORT, workspace.report_id(cohort)):
        return documents.read(Stage.REPORT, workspace.report_id(cohort))
    outcomes = list(workspace.list_outcomes(cohort))
    inputs, digest, doc_id = identify_report(outcomes)
    with documents.hold_stage(Stage.REPORT):  # builds that share a cohort come to its end at the same moment
        try:
            return documents.read(Stage.REPORT, doc_id, digest=digest)
        except DocumentMissing:
            pass
        read = functools.cache(lambda stage, doc_id: _shorten(documents.read(stage, doc_id)))
        files = render_report(_title_of(workspace, cohort), [report_row(outcome) for outcome in outcomes], read)
        metadata = {**_describe_report(workspace, cohort, outcomes, read), "digest": digest, "inputs": inputs}
        return documents.commit(Stage.REPORT, doc_id, files, {**metadata, "parsed_bytes": len(files[SUMMARY_FILE])})


def _shorten(document: Document) -> Document:
    """Return a document with those fields of its metadata that a report uses: all of them would fill the memory."""
    return replace(document, metadata={name: document.metadata.get(name) for name in REPORTED_FIELDS})


class ReportIdentity(NamedTuple):
    """What the report over some rows is made from, and its name."""

    inputs: dict[str, Any]
    digest: str
    doc_id: str


def identify_report(outcomes: Iterable[RowOutcome]) -> ReportIdentity:
    """Return the identity of the report over rows as they stand."""
    inputs = report_inputs(outcomes)
    digest = digest_of(Stage.REPORT, inputs)
    return ReportIdentity(inputs, digest, id_from_digest(digest))


def _title_of(workspace: Workspace, cohort: str) -> str:
    return workspace.plan(cohort).description or cohort


def report_row(outcome: RowOutcome) -> ReportRow:
    """Return what the report says of a row."""
    plan = outcome.plan
    return ReportRow(
        stage=str(plan.stage),
        doc_id=plan.doc_id,
        parent_doc_id=plan.parent_doc_id,
        task_id=plan.task_id,
        template_id=plan.template_id,
        model_id=plan.model_id,
        combo_id=plan.combo_id,
        replicate=plan.replicate,
        mode=str(plan.mode),
        status=outcome.status,
        reason=outcome.reason,
    )


def _describe_report(
    workspace: Workspace, cohort: str, outcomes: list[RowOutcome], read: Callable[[str, str], Document]
) -> dict[str, Any]:
    """Return the report's metadata. Its parents are all documents that it read, each once."""
    made = {(str(row.plan.stage), row.plan.doc_id) for row in outcomes if row.status == Status.OK}
    maker = workspace.maker
    parents = []
    for stage, doc_id in sorted(made):
        blake3 = read(stage, doc_id).file_blake3(SUMMARY_FILE)
        parents.append({"stage": stage, "doc_id": doc_id, "file": SUMMARY_FILE, "blake3": blake3})
    return {
        "mode": Mode.COPY,
        "parent_doc_id": None,
        "parents": parents,
        "task_id": cohort,
        "cohort": cohort,
        "title": _title_of(workspace, cohort),
        "status": Status.OK,
        "planned_rows": len(outcomes),
        "made_rows": sum(row.status == Status.OK for row in outcomes),
        "parser": {"name": "report", "version": REPORT_VERSION},
        "created_at": maker.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "run_id": maker.run_id,
    }
