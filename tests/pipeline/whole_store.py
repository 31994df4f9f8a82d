"""A small store in which everything is: two drafts, essays by a model and by copy, evaluations, a report, tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.comparison import Verification
from pipeline.making import make_document
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.verification import verify
from pipeline.workspace import Workspace
from store.documents import encode_readably, hash_metadata
from tests.pipeline.config_folder import write_config

COHORT = "first"
FILES = {
    "templates/evaluation/clarity.txt": "Judge this:\n{{ response }}\nSCORE: 7\n",
    "cohorts/first.toml": (
        '[combos]\nlist = [["tide"], ["moat"]]\n[draft]\ntemplates = ["synthesis"]\nmodels = ["small"]\n'
        '[essay]\ntemplates = ["plain", "same"]\nmodels = ["small"]\n'
        '[evaluation]\ntemplates = ["clarity"]\nmodels = ["judge"]\n'
    ),
    "concepts/paragraph/tide.txt": "A pool that the sea leaves behind.\n",
}


def make_store(folder: Path) -> Workspace:
    """Return a workspace whose cohort is complete: 2 drafts, 4 essays, 4 evaluations and a report; 8 calls at most."""
    workspace = Workspace(Roots(folder / "data", write_config(folder, FILES)))
    workspace.write_tables(COHORT)
    for plan in workspace.plan(COHORT).walk():
        make_document(workspace.maker, plan, cohort=COHORT)
    make_report(workspace, COHORT)
    return workspace


def reopen(workspace: Workspace) -> Workspace:
    """Return the same folders as a new process sees them."""
    return Workspace(workspace.roots)


def verify_store(workspace: Workspace, *, deep: bool = True, **options: Any) -> Verification:
    return verify(workspace.data, workspace.roots.config, deep=deep, **options)


def find_folder(workspace: Workspace, stage: Stage, name: str = "") -> Path:
    """Return the folder of the first document of a stage whose task_id has `name` in it."""
    plan = next(row for row in workspace.plan(COHORT).rows[stage] if name in row.task_id)
    return workspace.data.documents.folder_of(stage, plan.doc_id)


def find_attempt_folder(workspace: Workspace, document: Path) -> Path:
    """Return the folder of the attempt that a document was made from."""
    metadata = json.loads((document / "metadata.json").read_bytes())
    return Path(workspace.data.calls.folder_of(metadata["call_id"]) / f"{metadata['attempt']:04d}")


def tell(found: Verification) -> set[tuple[str, str, str]]:
    """Return {(kind, place and file, state)}."""
    return {
        (one.finding.kind, f"{one.finding.place}/{one.finding.file}".rstrip("/"), one.state) for one in found.findings
    }


def write_over(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def flip(path: Path, position: int = -3) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    write_over(path, bytes(content))


def forge(document: Path, **changes: Any) -> None:
    """Change fields of metadata.json so that it is sound in itself."""
    metadata = json.loads((document / "metadata.json").read_bytes()) | changes
    metadata["self_blake3"] = hash_metadata(metadata)
    write_over(document / "metadata.json", encode_readably(metadata))
