"""Rerolling: another replicate of a document, made now.

It is the document that the cohort would ask for with more replicates in its spec, under the id that it would have
there: raising `replicates` later takes it in without another call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.errors import InputInvalid, UnknownName
from pipeline.looking import find_document, find_planned
from pipeline.making import make_document
from pipeline.planning import DocumentPlan
from pipeline.stages import MADE_STAGES, Stage
from pipeline.workspace import Workspace


def reroll(workspace: Workspace, prefix: str) -> dict[str, Any]:
    """Make the first replicate of a document that is not there, and return what it is.

    Raises UnknownName, PlanStale, InputInvalid for a document that asks no model, DocumentFailed.
    """
    plan, cohort = _find_plan(workspace, prefix)
    if plan.model is None:
        raise InputInvalid(f"{plan.stage}/{plan.doc_id} asks no model: another replicate of it would be the same.")
    new = _find_first_missing(workspace, plan)
    document = make_document(workspace.maker, new, cohort=cohort)
    metadata = document.metadata
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "task_id": new.task_id,
        "replicate": new.replicate,
        "of": plan.doc_id,
        "folder": str(document.folder),
        "cost_usd": metadata.get("cost_usd"),
    }


def _find_plan(workspace: Workspace, prefix: str) -> tuple[DocumentPlan, str]:
    try:
        document = find_document(workspace, prefix)
    except UnknownName:
        found = find_planned(workspace, prefix)
        if found is None:
            raise
        stage, doc_id = found.stage, found.doc_id
    else:
        if document.stage not in MADE_STAGES:
            raise InputInvalid(f"{document.stage}/{document.doc_id} asks no model, so there is no replicate of it.")
        stage, doc_id = Stage(document.stage), document.doc_id
    planned = workspace.get_plan(stage, doc_id)
    return planned.plan, planned.cohort


def _find_first_missing(workspace: Workspace, plan: DocumentPlan) -> DocumentPlan:
    """Return the plan of the next replicate after this one that the store does not hold."""
    name = plan.task_id.rpartition("__")[0]
    replicate = plan.replicate
    while True:
        replicate += 1
        new = replace(plan, replicate=replicate, task_id=f"{name}__{replicate}")
        if not workspace.data.documents.is_present(new.stage, new.doc_id):
            return new
