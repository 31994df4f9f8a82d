"""Which old document was made from which: as a table or its metadata say, or by the one name that fits.

A task_id begins with that of its parent. If several documents could be the parent, or tables contradict each
other, nothing is linked and the candidates are listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.backfill.sources import OldDocument, OldStore
from pipeline.stages import Stage

# By stage: the columns that name the parent, and the stage of what they name.
PARENT_COLUMNS: dict[str, tuple[tuple[str, Stage], ...]] = {
    Stage.ESSAY: (("draft_task_id", Stage.DRAFT), ("link_task_id", Stage.DRAFT)),
    Stage.EVALUATION: (
        ("essay_task_id", Stage.ESSAY),
        ("draft_task_id", Stage.DRAFT),
        ("generation_task_id", Stage.DRAFT),
    ),
}
PARENT_STAGES: dict[str, tuple[Stage, ...]] = {
    Stage.DRAFT: (),
    Stage.ESSAY: (Stage.DRAFT,),
    Stage.EVALUATION: (Stage.ESSAY, Stage.DRAFT),
}
SHOWN_CANDIDATES = 5

Key = tuple[str, str, int]


class Links(NamedTuple):
    """The parent of each document that has one, and the documents for which it is in doubt or not there."""

    parents: dict[Key, Key]
    ambiguous: list[dict[str, str]]
    orphans: list[dict[str, str]]


def link_parents(store: OldStore) -> Links:
    """Return who was made from whom."""
    links = Links({}, [], [])
    by_name: defaultdict[tuple[str, str], list[OldDocument]] = defaultdict(list)
    for document in store.documents:
        by_name[document.stage, document.name].append(document)
    names = {stage: {name for found, name in by_name if found == stage} for stage in PARENT_STAGES}
    for document in store.documents:
        if PARENT_STAGES[document.stage]:
            _link(links, store, by_name, names, document)
    return links


def _link(
    links: Links,
    store: OldStore,
    by_name: dict[tuple[str, str], list[OldDocument]],
    names: dict[str, set[str]],
    document: OldDocument,
) -> None:
    wanted, how = _find_wanted(store, names, document)
    found = [parent for key in sorted(wanted) for parent in by_name.get(key, ())]
    shown = f"{document.stage}/{document.name}"
    if len(wanted) > 1 or len(found) > 1:
        candidates = sorted({f"{stage}/{name}" for stage, name in wanted})[:SHOWN_CANDIDATES]
        counted = f"{max(len(found), len(wanted))} candidates by {how}: {', '.join(candidates)}"
        links.ambiguous.append({"name": shown, "problem": counted})
    elif found:
        links.parents[document.key] = found[0].key
    elif wanted:
        ((stage, name),) = wanted
        links.orphans.append({"name": shown, "problem": f"{how} names {stage}/{name}, which is not there"})
    else:
        links.orphans.append({"name": shown, "problem": "no table names a parent, and no name fits"})


def _find_wanted(
    store: OldStore, names: dict[str, set[str]], document: OldDocument
) -> tuple[set[tuple[str, str]], str]:
    """Return (stage, name) of all that could be the parent, and how that is known."""
    if document.old_id:
        stages = PARENT_STAGES[document.stage]
        known = [stage for stage in stages if document.old_parent_id in names[stage]]
        stage = (known or list(stages))[0]
        return ({(str(stage), document.old_parent_id)} if document.old_parent_id else set()), "its metadata"
    rows = store.tables.get((document.stage, document.name), [])
    if wanted := set(_read_rows(document.stage, rows)):
        return wanted, "its table"
    for stage in PARENT_STAGES[document.stage]:
        if fitting := {(str(stage), name) for name in _list_beginnings(document.name) if name in names[stage]}:
            return fitting, "its name"
    return set(), "its name"


def _read_rows(stage: str, rows: list[dict[str, str]]) -> Iterable[tuple[str, str]]:
    """Yield what the rows of a task name as its parent, each by the first of its columns that is filled."""
    for row in rows:
        for column, parent_stage in PARENT_COLUMNS[stage]:
            if name := row.get(column, "").strip():
                yield str(parent_stage), name
                break


def _list_beginnings(name: str) -> Iterable[str]:
    """ "a_b__c" -> "a", "a_b", "a_b_" """
    return (name[:index] for index, character in enumerate(name) if character == "_" and index)
