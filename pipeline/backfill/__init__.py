"""Old stores: taking the documents and answers of an earlier program in, without changing a byte of its files.

    sources             what an old store holds, in whatever layout
    versioned_files     layout 1: text files, <task_id>_v1.txt, _v2.txt, …
    generation_folders  layout 2: a folder for each old id
    old_ids             how the old program named things
    parents             which document was made from which
    placing             as attempts and documents of this store

An answer becomes an attempt of the ledger, byte for byte; a text that was in use becomes a document. Its doc_id
follows from its bytes and its old names, never from paths or times, so a second run adds nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.backfill.generation_folders import read_generation_folders
from pipeline.backfill.old_ids import recompute_old_id
from pipeline.backfill.parents import link_parents
from pipeline.backfill.placing import Placing
from pipeline.backfill.sources import ALL_STAGES, OldDocument, OldStore
from pipeline.backfill.versioned_files import read_versioned_files
from pipeline.errors import InputInvalid
from pipeline.stages import MADE_STAGES
from store.data_root import DataRoot

Json = dict[str, Any]


def backfill_store(
    folder: Path,
    data: DataRoot,
    *,
    stage: str = ALL_STAGES,
    run_id: str | None = None,
    link: bool = False,
    dry_run: bool = False,
) -> Json:
    """Bring the documents of an old store in and return what became of them, by stage, and all that is in doubt.

    Raises InputInvalid if `folder` holds neither layout.
    """
    run_id = run_id or f"backfill-{datetime.now(UTC):%Y%m%d}"
    store = read_old_store(folder)
    links = link_parents(store)
    placing = Placing(data, folder, links, run_id=run_id, link=link, dry_run=dry_run)
    data.check_usable()
    for made_stage in MADE_STAGES:  # parents before children
        for document in store.documents_of(made_stage):
            placing.bring_in(document, is_wanted=stage in (ALL_STAGES, made_stage))
    return {
        "source": str(folder),
        "layouts": store.layouts,
        "run_id": run_id,
        "dry_run": dry_run,
        "stages": {str(each): placing.counts[each] for each in MADE_STAGES if stage in (ALL_STAGES, each)},
        "ambiguous": _without_other_stages(links.ambiguous, stage),
        "orphans": _without_other_stages(links.orphans, stage),
        "old_ids": _without_other_stages(_compare_old_ids(store), stage),
        "problems": _without_other_stages([*store.problems, *placing.problems], stage),
    }


def _without_other_stages(told: list[Json], stage: str) -> list[Json]:
    others = tuple(f"{each}/" for each in MADE_STAGES if stage not in (ALL_STAGES, each))
    return [each for each in told if not each["name"].startswith(others)]


def read_old_store(folder: Path) -> OldStore:
    """Return what an old store holds; `folder` is its data folder or the folder that has it. Changes nothing."""
    if not folder.is_dir():
        raise InputInvalid(f"{folder} is no folder. Expected the data folder of an old store.")
    roots = [root for root in (folder, folder / "data") if root.is_dir()]
    for root in roots:
        store = OldStore([], [], [], {})
        read_versioned_files(root, store)
        read_generation_folders(root, store)
        if store.layouts:
            return _tell_twins_apart(store)
    raise InputInvalid(
        f"{folder} holds no old store. Expected folders such as 3_generation/draft_responses_raw, "
        "or gens/draft/<id> with texts."
    )


def _tell_twins_apart(store: OldStore) -> OldStore:
    """Number documents of equal names, which two folders can hold; they stay two."""
    seen: Counter[tuple[str, str]] = Counter()
    documents = []
    for document in store.documents:
        seen[document.stage, document.name] += 1
        documents.append(replace(document, twin=seen[document.stage, document.name]))
    return store._replace(documents=documents)


def _compare_old_ids(store: OldStore) -> list[Json]:
    """Return the old ids that do not follow from what their metadata say, with the one that would."""
    differing = []
    for document in store.documents:
        if document.old_id:
            expected = recompute_old_id(document)
            if expected != document.old_id:
                differing.append({"name": f"{document.stage}/{document.name}", "expected": expected})
    return differing


__all__ = ["OldDocument", "backfill_store", "read_old_store"]
