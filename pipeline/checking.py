"""Lock and check: does a cohort still give what it gave when it was locked?

    lock_cohort     write config/cohorts/<name>.lock
    check_cohort    1. ids         do config and code give the doc_ids of the lock?      needs no data
                    2. documents   do the documents that are here hold what the lock says?
                    3. rebuild     do they follow from what they were made from?

A check goes as far as there is data, and says how far. Nothing is written and no model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.lock_files import (
    CONTENT_CHARACTERS,
    NO_CONTENT,
    LockedDocument,
    LockFile,
    list_ingredients,
    lock_path,
    read_lock,
    write_lock,
)
from pipeline.planning import CohortPlan
from pipeline.rebuilding import Finding, Outcome, rebuild_documents
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from store.errors import DocumentMissing, StoreError

LEVELS = ("ids", "documents", "rebuild")  # each one includes those before it

Json = dict[str, Any]
Key = tuple[Stage, str]


# Lock


def lock_cohort(workspace: Workspace, cohort: str) -> Json:
    """Write a cohort's lock; return {"cohort", "file", "documents", "missing"}.

    Raises StoreError if a document is damaged, before anything is written.
    """
    plan = workspace.plan(cohort)
    documents = [
        document._replace(content=_read_content(workspace, document) or NO_CONTENT)
        for document in _list_documents(workspace, plan)
    ]
    path = lock_path(workspace.roots.config, cohort)
    write_lock(path, LockFile(list_ingredients(plan), documents))
    missing = sum(document.content == NO_CONTENT for document in documents)
    return {"cohort": cohort, "file": str(path), "documents": len(documents), "missing": missing}


def _list_documents(workspace: Workspace, plan: CohortPlan) -> Iterator[LockedDocument]:
    """Yield what a cohort asks for, each document once, and its report; without contents."""
    for document in plan.walk():
        yield LockedDocument(document.stage, document.doc_id, NO_CONTENT, document.task_id)
    yield LockedDocument(Stage.REPORT, workspace.report_id(plan.name), NO_CONTENT, plan.name)


def _read_content(workspace: Workspace, document: LockedDocument) -> str | None:
    """Return what a document holds after a deep check; None if it is not there."""
    try:
        found = workspace.data.documents.read_deeply(document.stage, document.doc_id)
    except DocumentMissing:
        return None
    return found.content_id[:CONTENT_CHARACTERS]


# Check


class Check(NamedTuple):
    """What a check found. `problems` are sentences; without one the check has passed."""

    cohort: str
    level: str
    locked: int
    same_ids: int
    present: int
    same: int
    rebuilt: int
    problems: list[str]

    @property
    def has_passed(self) -> bool:
        return not self.problems

    def as_json(self) -> Json:
        return {"passed": self.has_passed, **self._asdict()}


def check_cohort(workspace: Workspace, cohort: str, *, required: str = "ids") -> Check:
    """Compare a cohort with its lock; `required` names the level that all its documents have to be checked at.

    Raises InputInvalid if there is no lock, or it cannot be read.
    """
    plan = workspace.plan(cohort)
    lock = read_lock(lock_path(workspace.roots.config, cohort))
    locked = {(document.stage, document.doc_id): document for document in lock.documents}
    planned = {(document.stage, document.doc_id): document for document in _list_documents(workspace, plan)}
    problems = _explain_ids(workspace, plan, lock, planned)
    contents = {key: _compare_content(workspace, document) for key, document in locked.items()}
    problems += [problem for problem in contents.values() if problem]
    present = [key for key, problem in contents.items() if problem is not None]
    findings = rebuild_documents(workspace.data, present)
    problems += _describe_findings(findings)
    rebuilt = sum(finding.outcome is Outcome.SAME for finding in findings)
    level = LEVELS[2] if rebuilt else LEVELS[1] if present else LEVELS[0]
    reached = {"ids": len(locked), "documents": len(present), "rebuild": rebuilt}[required]
    if reached < len(locked) and not problems:
        what = "are here" if required == "documents" else "could be rebuilt"
        problems.append(f"Level {required} is required, and {reached:,} of {len(locked):,} documents {what}.")
    same = sum(problem == "" for problem in contents.values())
    same_ids = len(locked.keys() & planned.keys())
    return Check(cohort, level, len(locked), same_ids, len(present), same, rebuilt, problems)


def _compare_content(workspace: Workspace, document: LockedDocument) -> str | None:
    """Return None if a document is not here, "" if it holds what the lock says, and what is wrong otherwise."""
    try:
        found = _read_content(workspace, document)
    except StoreError as error:
        return str(error)
    if found is None:
        return None
    if document.content not in (NO_CONTENT, found):
        return (
            f"{document.stage} {document.doc_id} ({document.task_id}) holds other bytes than the lock says: "
            f"{found[:12]}…, not {document.content[:12]}…. The inputs are the same; the answer was another."
        )
    return ""


def _describe_findings(findings: list[Finding]) -> list[str]:
    """Return what a rebuild found wrong. What it could not make again for want of data is no problem of the cohort."""
    problems = []
    for finding in findings:
        if finding.outcome is Outcome.DIFFERENT:
            sides = f": stored {finding.place.stored!r}, rebuilt {finding.place.rebuilt!r}" if finding.place else ""
            place = f"{finding.file}, {finding.reason}{sides}"
            problems.append(f"{finding.stage} {finding.doc_id} differs when it is made again: {place}")
        elif finding.outcome is Outcome.DAMAGED:
            problems.append(f"{finding.stage} {finding.doc_id} cannot be made again: {finding.reason}")
    return list(dict.fromkeys(problems))


# Why ids differ


def _explain_ids(
    workspace: Workspace, plan: CohortPlan, lock: LockFile, planned: Mapping[Key, LockedDocument]
) -> list[str]:
    """Return why config and code no longer give the ids of the lock; [] if they do."""
    locked = {(document.stage, document.doc_id): document for document in lock.documents}
    gone = [document for key, document in locked.items() if key not in planned]
    new = [document for key, document in planned.items() if key not in locked]
    if not gone and not new:
        return []
    changes = _list_ingredient_changes(lock.ingredients, list_ingredients(plan))
    cause = f"What they are made from has changed: {'; '.join(changes)}." if changes else (
        "Nothing that they are made from has changed: the cohort asks for other combinations or replicates."
    )  # fmt: skip
    head = f"Config and code no longer give the ids of the lock: {len(gone):,} are gone, {len(new):,} are new. {cause}"
    return [head, *_describe_changes(workspace, plan, gone, new)]


def _list_ingredient_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    changes = []
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            changes.append(f"{name} is no longer used")
        elif name not in before:
            changes.append(f"{name} is new")
        elif before[name] != now[name]:
            versions = f" from version {before[name]} to {now[name]}" if name.startswith("code ") else ""
            changes.append(f"{name} has changed{versions}")
    return changes


def _describe_changes(
    workspace: Workspace, plan: CohortPlan, gone: list[LockedDocument], new: list[LockedDocument]
) -> list[str]:
    """Return a line for each document that has another id now, is gone, or is new."""
    ids_now = {(document.stage, document.task_id): document.doc_id for document in new}
    lines = []
    for document in gone:
        doc_id = ids_now.pop((document.stage, document.task_id), None)
        name = f"{document.stage} {document.task_id}"
        if doc_id is None:
            lines.append(f"{name} ({document.doc_id}) is no longer asked for.")
        else:
            why = _list_changed_inputs(workspace, plan, document, doc_id)
            lines.append(f"{name} was {document.doc_id}, and is {doc_id} now{why}.")
    lines += [f"{stage} {task_id} ({doc_id}) is new." for (stage, task_id), doc_id in ids_now.items()]
    return lines


def _list_changed_inputs(workspace: Workspace, plan: CohortPlan, document: LockedDocument, doc_id: str) -> str:
    """Return ": template.text_blake3 differs" if the document of the lock is here to be compared; "" otherwise."""
    planned = plan.find(document.stage, doc_id) if document.stage is not Stage.REPORT else None
    try:
        before = workspace.data.documents.read_metadata(document.stage, document.doc_id)["inputs"]
    except (StoreError, KeyError):
        return ""
    if planned is None or not isinstance(before, dict):
        return ""
    names = list(_compare_inputs(before, planned.inputs, ""))
    return f": {', '.join(names)} {'differs' if len(names) == 1 else 'differ'}" if names else ""


def _compare_inputs(before: Any, now: Any, place: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _compare_inputs(before.get(name), now.get(name), f"{place}.{name}" if place else name)
    elif before != now:
        yield place
