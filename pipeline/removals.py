"""Removals: taking documents out of the store by hand, and bringing them back.

    remove_document(ID)      the document, and with cascade all that was made from it → an entry of the trash
    undo_removal(entry)      that entry, or the latest, back in its place

The answers stay in the call ledger: a build that still asks for such a document makes it again without a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import InputInvalid, UnknownName
from pipeline.lineages import DocumentKey, read_lineages
from store.data_root import DataRoot
from store.identity import ID_FORM
from store.pointers import point_to, withdraw_from
from store.trash import TrashEntry

SHOWN_NAMES = 8

Json = dict[str, Any]


def remove_document(data: DataRoot, prefix: str, *, cascade: bool, now: datetime | None = None) -> Json:
    """Move a document into the trash; with `cascade` all its descendants, too, children before parents.

    Raises InputInvalid if it has children and `cascade` is not given: they would stand there without a parent.
    """
    key = find_key(data, prefix)
    lineages = read_lineages(data)
    keys = lineages.list_descendants(key)
    if len(keys) > 1 and not cascade:
        shown = ", ".join(map(str, keys[:-1][:SHOWN_NAMES]))
        raise InputInvalid(
            f"{len(keys) - 1} documents were made from {key}: {shown}{' …' if len(keys) > SHOWN_NAMES + 1 else ''}. "
            "Add --cascade to remove them with it."
        )
    costs = [lineages.metadata.get(each, {}).get("cost_usd") for each in keys]
    size_bytes = sum(measure_folder(data.documents.folder_of(*each)) for each in keys)
    folders = [f"docs/{each}" for each in keys]
    entry = throw_away(data, folders, reason=f"rm {key}", now=now or datetime.now(UTC), record={"bytes": size_bytes})
    return {
        "entry": entry.entry_id,
        "removed": [str(each) for each in keys],
        "bytes": size_bytes,
        "cost_usd": round(sum(cost for cost in costs if cost is not None), 9),
        "may_miss": sorted(map(str, lineages.unreadable.keys() - set(keys))),
    }


def throw_away(
    data: DataRoot, folders: list[str], *, reason: str, now: datetime, record: Mapping[str, Any]
) -> TrashEntry:
    """Move folders of documents and calls into the trash, children before parents, after the pointers to them."""
    for name in folders:
        area, stage, doc_id = name.split("/")
        if area == "docs":
            withdraw_from(data.documents, stage, doc_id)
    return data.trash.throw_away(folders, reason=reason, now=now, record=record)


def undo_removal(data: DataRoot, entry_id: str | None = None) -> Json:
    """Bring an entry of the trash back, the latest if none is named. Raises UnknownName, InputInvalid."""
    entries = {entry.entry_id: entry for entry in data.trash.list_entries()}
    if not entries:
        raise InputInvalid("The trash is empty: there is nothing to bring back.")
    if entry_id is not None and entry_id not in entries:
        raise UnknownName("entry of the trash", entry_id, list(entries))
    entry = entries[entry_id or max(entries)]
    restored = data.trash.restore(entry)
    for name in restored.back:
        folder, _, doc_id = name.rpartition("/")
        if folder.startswith("docs/"):
            point_to(data.documents, folder.removeprefix("docs/"), doc_id)
    return {
        "entry": entry.entry_id,
        "reason": entry.reason,
        "restored": [name.removeprefix("docs/") for name in restored.back],
        "occupied": [name.removeprefix("docs/") for name in restored.occupied],
    }


def list_removals(data: DataRoot) -> list[Json]:
    """Return what lies in the trash, the latest first."""
    return [
        {
            "entry": entry.entry_id,
            "reason": entry.reason,
            "folders": len(present),
            "bytes": sum(measure_folder(entry.folder / name) for name in present),
        }
        for entry in reversed(data.trash.list_entries())
        if (present := entry.list_present())
    ]


def find_key(data: DataRoot, prefix: str) -> DocumentKey:
    """Return the one document whose doc_id begins with `prefix`, readable or not; a stage may stand before it.

    Raises UnknownName if there is none, InputInvalid if there are several.
    """
    stage, _, start = prefix.rpartition("/")
    found = [DocumentKey(s, doc_id) for s, doc_id in data.documents.find_ids(start) if start and stage in ("", s)]
    if not found:
        raise UnknownName("document", prefix, _name_first(data.documents.walk()))
    if len(found) > 1 and not ID_FORM.fullmatch(start):
        shown = ", ".join(map(str, found[:SHOWN_NAMES]))
        raise InputInvalid(f"{prefix!r} begins {len(found)} doc_ids. Expected more characters: {shown}.")
    if len(found) > 1:
        raise InputInvalid(f"{prefix!r} names {len(found)} documents. Expected a stage before it: {found[0]}.")
    return found[0]


def _name_first(keys: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{stage}/{doc_id}" for _, (stage, doc_id) in zip(range(SHOWN_NAMES), keys, strict=False)]


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 if it is gone."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
