"""Answers to what people ask of a store: how a cohort stands, what a document is, where it came from, why two differ.

Every function returns plain JSON; the command line prints it as it is or as text.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from pipeline.build_result import REPORT_PAGE
from pipeline.diagnosis import diagnose
from pipeline.errors import InputInvalid, UnknownName
from pipeline.estimates import Estimate, add_up, estimate_stages
from pipeline.making import build_call, read_parent, render
from pipeline.planning import DocumentPlan, RowOutcome
from pipeline.prompts import RenderFailed
from pipeline.report_document import identify_report
from pipeline.stages import MADE_STAGES, ArchiveStage, Stage, Status
from pipeline.task_tables import read_task_table, table_path
from pipeline.workspace import MISSING, Workspace, count_statuses
from store.calls import call_id_of
from store.documents import Document
from store.errors import StoreError, TextMissing

PREFIX_CHARACTERS = set("0123456789abcdefghijklmnopqrstuvwxyz")

Json = dict[str, Any]


# Plan


def describe_plan(workspace: Workspace, cohort: str) -> Json:
    """Return what a cohort asks for and what it takes: documents, calls, tokens and dollars a stage; see estimates."""
    plan = workspace.plan(cohort)
    missing = workspace.find_missing(cohort)
    missing_counts = Counter(document.stage for document in missing)
    estimates = estimate_stages(workspace, missing)
    stages = {}
    for stage, documents in plan.documents.items():
        stages[str(stage)] = {
            "rows": len(plan.rows[stage]),
            "documents": len(documents),
            "present": len(documents) - missing_counts[stage],
            "missing": missing_counts[stage],
            **estimates.get(str(stage), Estimate()).as_json(),
        }
    total = add_up(estimates.values()).as_json()
    edited = [str(stage) for stage in plan.rows if stage in plan.edited]
    report_id = workspace.report_id(cohort)
    return {"cohort": cohort, "stages": stages, "total": total, "report": report_id, "edited": edited}


# Status


def describe_status(workspace: Workspace, cohort: str | None) -> Json:
    """Return how the cohorts stand: one, or all that have been planned or are in the configuration."""
    documents = workspace.data.documents
    names = [cohort] if cohort else sorted(workspace.configuration.cohorts)
    return {
        "data_root": str(workspace.roots.data),
        "documents": {stage: len(documents.list_ids(stage)) for stage in documents.list_stages()},
        "cohorts": [_describe_cohort(workspace, name) for name in names],
    }


def _describe_cohort(workspace: Workspace, name: str) -> Json:
    outcomes = list(workspace.list_outcomes(name))
    counts = count_statuses(outcomes)
    failures = {}
    for outcome in outcomes:
        if outcome.status not in (Status.OK, MISSING):
            failures[outcome.plan.stage, outcome.plan.doc_id] = {
                "stage": str(outcome.plan.stage),
                "doc_id": outcome.plan.doc_id,
                "task_id": outcome.plan.task_id,
                "status": outcome.status,
                "reason": outcome.reason,
            }
    report_id = identify_report(outcomes).doc_id
    has_report = workspace.data.documents.is_present(Stage.REPORT, report_id)
    page = workspace.data.documents.folder_of(Stage.REPORT, report_id) / REPORT_PAGE
    return {
        "cohort": name,
        "complete": all(outcome.status == Status.OK for outcome in outcomes),
        "stages": {str(stage): _describe_counts(counts[stage]) for stage in counts},
        "cost_usd": _sum_costs(workspace, outcomes),
        "failures": list(failures.values()),
        "report": {"doc_id": report_id, "page": str(page)} if has_report else None,
    }


def _sum_costs(workspace: Workspace, outcomes: list[RowOutcome]) -> float | None:
    """Return what the answers behind a cohort's documents cost, each once; None if that of one is not known."""
    costs: dict[str, float | None] = {}
    for stage, doc_id in {(row.plan.stage, row.plan.doc_id) for row in outcomes if row.status == Status.OK}:
        metadata = workspace.data.documents.read(stage, doc_id).metadata
        if metadata.get("call_id"):
            costs[metadata["call_id"]] = metadata.get("cost_usd")
    known = [cost for cost in costs.values() if cost is not None]
    return round(sum(known), 9) if len(known) == len(costs) else None


def _describe_counts(counts: dict[str, int]) -> dict[str, int]:
    words = [*(str(status) for status in Status), MISSING]
    return {"documents": sum(counts.values()), **{word: counts.get(word, 0) for word in words}}


# One document


def find_document(workspace: Workspace, prefix: str) -> Document:
    """Return the one document whose doc_id begins with `prefix`; a stage may stand before it: essay/7k3f.

    Raises UnknownName if there is none, InputInvalid if there are several.
    """
    stage, _, start = prefix.rpartition("/")
    if not start or set(start) - PREFIX_CHARACTERS or (stage and stage not in (*Stage, *ArchiveStage)):
        raise InputInvalid(
            f"{prefix!r} is not the start of a doc_id. Expected some of its characters (0-9 and a-z), "
            "after a stage or alone: essay/7k3f or 7k3f."
        )
    found = [(s, doc_id) for s, doc_id in workspace.data.documents.find_ids(start) if stage in ("", s)]
    if len(found) == 1:
        return workspace.data.documents.read(*found[0])
    if found:
        shown = ", ".join(f"{s}/{doc_id}" for s, doc_id in found[:8])
        raise InputInvalid(f"{prefix!r} begins {len(found)} doc_ids. Expected more characters: {shown}.")
    raise UnknownName("document", prefix, [f"{s}/{doc_id}" for s, doc_id in workspace.data.documents.walk()][:8])


def describe_document(workspace: Workspace, prefix: str) -> Json:
    """Return a document: where it is, its metadata and texts; or how a planned one that is not there stands."""
    try:
        document = find_document(workspace, prefix)
    except UnknownName:
        planned = find_planned(workspace, prefix)
        if planned is None:
            raise
        return _describe_absent(workspace, planned)
    names = [name for name in document.file_names if name.endswith(".txt")]
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "status": document.metadata["status"],
        "reason": "",
        "folder": str(document.folder),
        "task_id": document.metadata.get("task_id"),
        "metadata": document.metadata,
        "texts": {name: document.read_text(name) for name in names},
    }


def find_planned(workspace: Workspace, prefix: str) -> DocumentPlan | None:
    """Return the plan of the one planned document that begins with `prefix`; None unless there is just one."""
    stage, _, start = prefix.rpartition("/")
    found: dict[tuple[Stage, str], str] = {}
    for cohort in workspace.list_planned_cohorts():
        for planned_stage in MADE_STAGES:
            path = table_path(workspace.data.tasks_folder, cohort, planned_stage)
            for row in read_task_table(path) if path.exists() and stage in ("", planned_stage) else []:
                if row["doc_id"].startswith(start):
                    found[planned_stage, row["doc_id"]] = cohort
    if len(found) != 1:
        return None
    ((planned_stage, doc_id),) = found
    return workspace.get_plan(planned_stage, doc_id).plan


def _describe_absent(workspace: Workspace, plan: DocumentPlan) -> Json:
    diagnosis = diagnose(workspace.data, plan)
    return {
        "stage": str(plan.stage),
        "doc_id": plan.doc_id,
        "status": str(diagnosis.status or MISSING),
        "reason": diagnosis.reason,
        "folder": None,
        "task_id": plan.task_id,
        "metadata": None,
        "texts": _read_failed_texts(workspace, plan),
    }


def _read_failed_texts(workspace: Workspace, plan: DocumentPlan) -> dict[str, str]:
    """Return what there is of a document that could not be made: its prompt, and the last answer."""
    try:
        prompt = render(plan, read_parent(workspace.data, plan))
    except (StoreError, RenderFailed):
        return {}
    attempts = (
        workspace.data.calls.list_attempts(call_id_of(build_call(plan, prompt).as_identity())) if plan.model else []
    )
    answers = [str(attempt.outcome["text"]) for attempt in attempts if attempt.outcome and attempt.outcome.get("text")]
    return {"prompt.txt": prompt, **({"raw.txt": answers[-1]} if answers else {})}


# Lineage


def describe_lineage(workspace: Workspace, prefix: str) -> Json:
    """Return a document and, nested, the documents it was made from, down to the concepts."""
    return _describe_ancestors(workspace, find_document(workspace, prefix))


def _describe_ancestors(workspace: Workspace, document: Document) -> Json:
    metadata = document.metadata
    return {
        "stage": document.stage,
        "doc_id": document.doc_id,
        "task_id": metadata.get("task_id"),
        "mode": metadata.get("mode"),
        "template_id": metadata.get("template_id"),
        "model": metadata.get("model"),
        "call_id": metadata.get("call_id"),
        "concepts": [_describe_concept(workspace, concept) for concept in _concepts(document)],
        "parents": [_describe_parent(workspace, parent) for parent in metadata.get("parents", [])],
        **({"place": metadata["place"]} if "place" in metadata else {}),
    }


def _describe_concept(workspace: Workspace, concept: Json) -> Json:
    """Return a concept; of one from the archive also its origin, with the documents it came from, nested."""
    described = {key: concept[key] for key in ("concept_id", "name", "level")}
    if origin := concept.get("origin"):
        described["origin"] = {**origin, "documents": [_describe_origin(workspace, origin)]}
    return described


def _describe_origin(workspace: Workspace, origin: Json) -> Json:
    """Return the conversation document of an origin above the export that it was in, and whether both are there."""
    export = {"stage": str(ArchiveStage.EXPORT), "doc_id": origin["export"], "place": origin["place"]}
    conversation = {"stage": str(ArchiveStage.CONVERSATION), "doc_id": origin["document"], "place": origin["message"]}
    nodes = [{**node, "state": _describe_presence(workspace, node), "concepts": []} for node in (conversation, export)]
    return {**nodes[0], "parents": [{**nodes[1], "parents": []}]}


def _describe_presence(workspace: Workspace, node: Json) -> str:
    try:
        workspace.data.documents.read(node["stage"], node["doc_id"])
    except StoreError as error:
        return str(error)
    return "ok"


def _describe_parent(workspace: Workspace, record: Json) -> Json:
    """Return a parent with its own lineage, and whether its bytes are those that were used."""
    try:
        parent = workspace.data.documents.read(record["stage"], record["doc_id"])
    except StoreError as error:
        return {**record, "state": str(error), "parents": [], "concepts": []}
    same = parent.metadata["files"].get(record["file"], {}).get("blake3") == record["blake3"]
    described = _describe_ancestors(workspace, parent)
    return {**described, "file": record["file"], "state": "ok" if same else "stale: its bytes are not those used"}


def _concepts(document: Document) -> list[Json]:
    return list(document.metadata.get("concepts") or [])


# Explain


def explain_difference(workspace: Workspace, prefix_a: str, prefix_b: str) -> Json:
    """Return which inputs of two documents differ, with a diff where a text does; parents are followed."""
    a, b = find_document(workspace, prefix_a), find_document(workspace, prefix_b)
    return {
        "a": {"stage": a.stage, "doc_id": a.doc_id, "task_id": a.metadata.get("task_id")},
        "b": {"stage": b.stage, "doc_id": b.doc_id, "task_id": b.metadata.get("task_id")},
        "same_document": (a.stage, a.doc_id) == (b.stage, b.doc_id),
        "differences": list(_list_differences(workspace, a, b, "")),
    }


def _list_differences(workspace: Workspace, a: Document, b: Document, place: str) -> Iterator[Json]:
    if a.stage != b.stage:
        yield {"input": f"{place}stage", "a": a.stage, "b": b.stage, "diff": []}
        return
    values_a, values_b = _flatten(a.metadata["inputs"]), _flatten(b.metadata["inputs"])
    for name in sorted(values_a.keys() | values_b.keys()):
        if values_a.get(name) == values_b.get(name) or name.startswith("parents."):
            continue
        diff = _diff_texts(workspace, a, b, name)
        yield {"input": place + name, "a": values_a.get(name), "b": values_b.get(name), "diff": diff}
    for record_a, record_b in zip_longest(a.metadata.get("parents", []), b.metadata.get("parents", [])):
        yield from _list_parent_differences(workspace, record_a, record_b, place)


def _list_parent_differences(
    workspace: Workspace, record_a: Json | None, record_b: Json | None, place: str
) -> Iterator[Json]:
    ids = [record and f"{record['stage']}/{record['doc_id']}" for record in (record_a, record_b)]
    if ids[0] == ids[1]:
        return
    yield {"input": f"{place}parent", "a": ids[0], "b": ids[1], "diff": []}
    if record_a and record_b:
        a = workspace.data.documents.read(record_a["stage"], record_a["doc_id"])
        b = workspace.data.documents.read(record_b["stage"], record_b["doc_id"])
        yield from _list_differences(workspace, a, b, f"{place}parent.")


def _flatten(value: Any, place: str = "") -> Json:
    """{"model": {"params": {"seed": 1}}, "parents": [7]} -> {"model.params.seed": 1, "parents.0": 7}"""
    if isinstance(value, dict) and value:
        parts = value.items()
    elif isinstance(value, list) and value:
        parts = ((str(index), item) for index, item in enumerate(value))  # type: ignore[assignment]
    else:
        return {place: value}
    flat: Json = {}
    for key, item in parts:
        flat |= _flatten(item, f"{place}.{key}" if place else key)
    return flat


def _diff_texts(workspace: Workspace, a: Document, b: Document, name: str) -> list[str]:
    """Return the lines of a unified diff if an input names a text by its hash; [] otherwise."""
    texts = [_find_text(workspace, document, name) for document in (a, b)]
    if texts[0] is None or texts[1] is None:
        return []
    lines_a, lines_b = texts[0].splitlines(), texts[1].splitlines()
    return list(difflib.unified_diff(lines_a, lines_b, f"a/{name}", f"b/{name}", lineterm=""))


def _find_text(workspace: Workspace, document: Document, name: str) -> str | None:
    value = _flatten(document.metadata["inputs"]).get(name)
    if name.startswith(("template.text", "template.includes.")):
        try:
            return workspace.data.texts.read(str(value)) if value else None
        except TextMissing:
            return None
    if name.startswith("concepts.") and name.endswith(".text_blake3"):
        concepts = _concepts(document)
        index = int(name.split(".")[1])
        return str(concepts[index]["text"]) if index < len(concepts) else None
    return None
