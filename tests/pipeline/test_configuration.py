"""The configuration as a whole: all mistakes in all files at once, each once, in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.configuration import load_configuration
from pipeline.errors import ConfigInvalid, UnknownName
from tests.pipeline.config_folder import CONCEPTS, MODELS, edit, load_changed, problems_of, write_config

ROOT = Path(__file__).resolve().parents[2]
MANY_MISTAKES = {
    **edit("models.toml", "max_tokens = 100", "max_token = 100"),
    **edit("templates.toml", "scale = [0, 10]", "scale = [10, 0]"),
    **edit("cohorts/first.toml", 'templates = ["synthesis", "list"]', 'templates = ["synthesis", "lst"]'),
    "concepts.csv": f"{CONCEPTS}moat,Moat\na b,Name\n",
    "concepts/paragraph/moot.txt": "A text.",
    "templates/draft/tone.txt": "{{ topic }}\n{{ topic }}\n{{ mood }}",
    "templates/draft/list.txt": '{% include "tone.txt" %}',
}


def test_a_valid_folder_loads(tmp_path: Path) -> None:
    configuration = load_changed(tmp_path)

    assert list(configuration.concepts) == ["flywheel", "moat", "tide"]
    assert [f"{stage}/{name}" for stage, name in configuration.templates] == [
        "draft/synthesis", "draft/list", "essay/plain", "essay/same", "evaluation/clarity"
    ]  # fmt: skip
    assert list(configuration.models) == ["small", "judge"]
    assert list(configuration.cohorts) == ["first"]


def test_the_folder_of_this_project_loads() -> None:
    assert "demo" in load_configuration(ROOT / "config").cohorts


def test_all_mistakes_in_all_files_are_reported_at_once_in_order_and_each_once(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, MANY_MISTAKES)

    assert [problem.split(" Expected")[0] for problem in problems] == [
        "cohorts/first.toml, line 8: unknown draft template 'lst'. Did you mean 'list'?",
        "concepts.csv, line 5: concept 'moat' is listed twice.",
        "concepts.csv, line 6: 'a b' is not a concept id.",
        "concepts/paragraph/moot.txt: no row of concepts.csv names this file.",
        "models.toml, line 7: the key 'max_tokens' is missing.",
        "models.toml, line 9: unknown key 'max_token'. Did you mean 'max_tokens'?",
        "templates.toml, line 13: scale is [10, 0].",
        "templates/draft/tone.txt, line 1: uses 'topic'. Provided: concepts.",
        "templates/draft/tone.txt, line 3: uses 'mood'. Provided: concepts.",
    ]


def test_mistakes_come_in_one_order_whatever_the_hash_seed(tmp_path: Path) -> None:
    root = write_config(tmp_path, {"models.toml": MODELS + "".join(f"[m{n}]\n" for n in range(9))})
    code = (
        "from pathlib import Path\nfrom pipeline.configuration import load_configuration\n"
        f"try: load_configuration(Path({str(root)!r}))\nexcept Exception as error: print(error)"
    )

    shown = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(shown) == 1
    assert shown.pop().startswith(b"The configuration has 18 mistakes:")


def test_the_message_counts_and_lists_the_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as invalid:
        load_changed(tmp_path, {"models.toml": MODELS + "[more]\nmodel = 'echo/x'\n"})

    assert str(invalid.value) == (
        "The configuration has 1 mistake:\n"
        "  models.toml, line 10: the key 'max_tokens' is missing. Expected max_tokens = a whole number of at least 1."
    )


def test_a_missing_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as invalid:
        load_configuration(tmp_path / "nowhere")

    assert "nowhere: there is no such folder. Expected the config folder." in str(invalid.value)


def test_an_unknown_cohort_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as unknown:
        load_changed(tmp_path).get_cohort("frist")

    assert str(unknown.value) == "Unknown cohort 'frist'. Known: first."


def test_a_folder_needs_no_cohorts(tmp_path: Path) -> None:
    assert load_changed(tmp_path, {"cohorts/first.toml": None}).cohorts == {}
