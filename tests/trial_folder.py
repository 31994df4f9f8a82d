"""A folder as a new user has it, with the shipped demo written by the echo: the cohort `trial`.

The fixtures are `folder`, in which nothing was made yet, and `built_folder`, in which `daybook build trial` was run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.programs import ROOT

COHORT = "trial"  # the demo, with the echo in the place of its models


def make_folder(path: Path) -> Path:
    """Fill a folder: the shipped config and luigi.cfg, and no data."""
    shutil.copytree(ROOT / "config", path / "config")
    shutil.copy(ROOT / "luigi.cfg", path)
    demo = (ROOT / "config" / "cohorts" / "demo.toml").read_text()
    trial = demo.replace('"smollm2"', '"echo"').replace('"smollm2-judge"', '"echo"')
    (path / "config" / "cohorts" / f"{COHORT}.toml").write_text(trial)
    settings = path / "config" / "templates.toml"
    prose = settings.read_text().replace('"json_score"', '"score_last_line"')
    settings.write_text(prose.replace('response_schema = "score.json"\n', ""))
    for judge in (path / "config" / "templates" / "evaluation").glob("*.txt"):
        judge.write_text(judge.read_text() + "\nSCORE: 7\n")
    return path
