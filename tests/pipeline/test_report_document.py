"""A report is a document like any other: made once, whoever comes to the end of a cohort at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.making import make_document
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.pipeline.config_folder import edit, write_config

COHORT = "first"
SCORED = edit("templates/evaluation/clarity.txt", "End with SCORE: <0-10>.", "SCORE: 7")
BUILDS = 8


def test_builds_that_come_to_the_end_at_once_make_one_report(tmp_path):
    workspaces = open_workspaces(tmp_path)
    for plan in workspaces[0].find_missing(COHORT):
        make_document(workspaces[0].maker, plan, cohort=COHORT)
    together = threading.Barrier(BUILDS)

    def end(workspace: Workspace) -> str | None:
        together.wait(60)
        return make_report(workspace, COHORT).metadata["run_id"]

    with ThreadPoolExecutor(BUILDS) as builds:
        makers = set(builds.map(end, workspaces))

    assert len(makers) == 1
    assert not (tmp_path / "data" / "quarantine").exists()


def open_workspaces(tmp_path: Path) -> list[Workspace]:
    """Return the workspace of each build; each has planned the cohort."""
    roots = Roots(tmp_path / "data", write_config(tmp_path, SCORED))
    workspaces = [Workspace(roots) for _ in range(BUILDS)]
    for workspace in workspaces:
        workspace.write_tables(COHORT)
    return workspaces
