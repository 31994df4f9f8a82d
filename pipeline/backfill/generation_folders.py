"""Layout 2: a folder for each old id.

gens/<stage>/<old id>/     or docs/<stage>/<old id>/
    prompt.txt raw.txt parsed.txt metadata.json raw_metadata.json parsed_metadata.json    each where it applies
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.backfill.sources import OldAnswer, OldDocument, OldStore
from pipeline.stages import MADE_STAGES, Mode

LAYOUT = "generation_folders"
TEXTS = ("prompt.txt", "parsed.txt")
RECORDS = ("metadata.json", "raw_metadata.json", "parsed_metadata.json")
OWN_FIELDS = frozenset({"self_blake3", "digest", "files"})  # of our own metadata.json


def read_generation_folders(root: Path, store: OldStore) -> None:
    """Add what lies below `root` in this layout to `store`."""
    for holder in ("gens", "docs"):
        for stage in MADE_STAGES:
            folder = root / holder / stage
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_dir() and not path.name.startswith((".", "_")):
                    if LAYOUT not in store.layouts:
                        store.layouts.append(LAYOUT)
                    if document := _read_folder(str(stage), path, store):
                        store.documents.append(document)


def _read_folder(stage: str, folder: Path, store: OldStore) -> OldDocument | None:
    records = {name: _read_record(folder / name, store) for name in RECORDS}
    metadata = records["metadata.json"]
    if metadata.keys() >= OWN_FIELDS:
        store.add_problem(folder, "it is a document of Daybook itself; use daybook export and import-bundle")
        return None
    raw = folder / "raw.txt"
    answers = (OldAnswer(0, raw, records["raw_metadata.json"]),) if raw.is_file() else ()
    files = {name: folder / name for name in TEXTS if (folder / name).is_file()}
    files |= {f"extras/{name}": folder / name for name in RECORDS if (folder / name).is_file()}
    if not answers and "parsed.txt" not in files:
        store.add_problem(folder, "it has neither raw.txt nor parsed.txt")
        return None
    return OldDocument(
        stage,
        folder.name,
        LAYOUT,
        answers,
        files,
        task_id=_find_text(metadata, "task_id") or folder.name,
        template_id=_find_text(metadata, "template_id", f"{stage}_template"),
        model_id=_find_text(metadata, "llm_model_id", "model_id", "generation_model", "evaluation_model"),
        combo_id=_find_text(metadata, "combo_id"),
        replicate=_read_replicate(metadata),
        mode=str(Mode.COPY) if Mode.COPY in (metadata.get("mode"), metadata.get("generator")) else str(Mode.LLM),
        old_id=folder.name,
        old_parent_id=_find_text(metadata, "parent_gen_id", "parent_doc_id"),
    )


def _find_text(metadata: dict[str, Any], *names: str) -> str:
    return next((str(metadata[name]).strip() for name in names if metadata.get(name)), "")


def _read_replicate(metadata: dict[str, Any]) -> int:
    try:
        return int(metadata.get("replicate") or 1)
    except (TypeError, ValueError):
        return 1


def _read_record(path: Path, store: OldStore) -> dict[str, Any]:
    """Return what a JSON file says; {} if it is absent, or cannot be read, which is reported."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        store.add_problem(path, f"it cannot be read, so its document has no names from it: {error}")
        return {}
    if not isinstance(value, dict):
        store.add_problem(path, "it is no JSON object, so its document has no names from it")
        return {}
    return value
