"""A small cohort of every stage, built with the echo: 3 drafts of a template each, essays, evaluations, a report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.making import make_document
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.pipeline.config_folder import edit, write_config

COHORT = "first"
SCORED = edit("templates/evaluation/clarity.txt", "End with SCORE: <0-10>.", "SCORE: 7")


def make_roots(folder: Path, changes: Mapping[str, str] | None = None) -> Roots:
    return Roots(folder / "data", write_config(folder, {**SCORED, **(changes or {})}))


def build(roots: Roots) -> Workspace:
    workspace = Workspace(roots)
    workspace.write_tables(COHORT)
    for plan in workspace.find_missing(COHORT):
        make_document(workspace.maker, plan, cohort=COHORT)
    make_report(workspace, COHORT)
    return workspace


def copy_store(roots: Roots, folder: Path) -> Roots:
    """Return a copy of a data and a config folder below `folder`."""
    shutil.copytree(roots.data, folder / "data")
    shutil.copytree(roots.config, folder / "config")
    return Roots(folder / "data", folder / "config")


# Under way, pointers, and which tables a program wrote: all of it can be missing.
NOT_KEPT = {".tmp", "_by_task", "written.json"}


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return {path: bytes} of all files below a folder but those under way, and those that can be made again."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not NOT_KEPT & set(path.relative_to(folder).parts)
    }
