"""The main job on the model inside this process: the same bytes in every folder, with the network cut off."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.programs import BIN, ROOT, run, run_json
from tests.test_command_line import list_documents, read_texts

COHORT = "small"


def find_network_cut() -> list[str]:
    """Return the command that runs another without network; [] where that is not allowed."""
    command = ["unshare", "--net"]
    allowed = shutil.which(command[0]) and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return [shutil.which(command[0]) or "", *command[1:]] if allowed else []


NETWORK_CUT_OFF = find_network_cut()

pytestmark = pytest.mark.xdist_group("embedded")


def make_folder(folder: Path) -> Path:
    """The shipped config with a cohort of one combo and short answers."""
    shutil.copytree(ROOT / "config", folder / "config")
    shutil.copy(ROOT / "luigi.cfg", folder)
    models = folder / "config" / "models.toml"
    models.write_text(
        models.read_text()
        + '\n[short]\nmodel = "local/smollm2-135m-instruct"\nmax_tokens = 60\nseed = 3\nstop = ["."]\n'
        + '\n[tight]\nmodel = "local/smollm2-135m-instruct"\nmax_tokens = 200\nseed = 3\ncontext_tokens = 256\n'
    )
    (folder / "config" / "cohorts" / f"{COHORT}.toml").write_text(
        '[combos]\nlist = [["tide-pool", "night-shift"]]\n'
        '[draft]\ntemplates = ["what-if"]\nmodels = ["short"]\nreplicates = 2\n'
        '[essay]\ntemplates = ["plain"]\nmodels = ["short"]\n'
        '[evaluation]\ntemplates = ["clarity"]\nmodels = ["smollm2-judge"]\n'
    )
    return folder


def read_answers(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("data/calls/**/response.bin")}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder in which the cohort was built, with the network cut off where that is possible."""
    folder = make_folder(tmp_path_factory.mktemp("built"))
    run(folder, *NETWORK_CUT_OFF, "daybook", "build", COHORT)
    return folder


@pytest.mark.slow
def test_a_build_needs_no_network(built):
    if not NETWORK_CUT_OFF:
        pytest.skip("the network cannot be cut off here: unshare --net needs root")

    assert len(list_documents(built)) == 7


@pytest.mark.slow
def test_a_second_run_into_another_folder_gives_the_same_ids_and_bytes(built, tmp_path):
    other = make_folder(tmp_path / "other")

    run(other, "luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler")

    assert list_documents(built) == list_documents(other)
    assert read_texts(built) == read_texts(other)
    assert read_answers(built) == read_answers(other)
    assert len(read_answers(built)) == 6


@pytest.mark.slow
def test_replicates_are_independent_samples(built):
    drafts = {path.read_bytes() for path in built.glob("data/docs/draft/*/raw.txt")}

    assert len(drafts) == 2


@pytest.mark.slow
def test_the_judge_answers_in_its_schema(tmp_path):
    """Of drafts and essays that cost nothing: this is the one build with the model that quick runs make."""
    folder = make_folder(tmp_path / "judged")
    cohort = folder / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text(cohort.read_text().replace('"short"', '"echo"').replace("replicates = 2\n", ""))

    run(folder, "daybook", "build", COHORT)

    evaluations = list(folder.glob("data/docs/evaluation/[0-9a-z]*"))
    assert evaluations
    for path in evaluations:
        answer = json.loads((path / "raw.txt").read_bytes())
        assert 1 <= answer["score"] <= 9
        assert (path / "parsed.txt").read_text() == f"{answer['score']}\n"


@pytest.mark.slow
def test_a_prompt_that_does_not_fit_is_an_error_before_the_call_with_what_to_do(tmp_path):
    folder = make_folder(tmp_path / "a")
    cohort = folder / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text(cohort.read_text().replace('"short"', '"tight"', 1))

    result = run_json(folder, "build", COHORT, code=30)

    reasons = {failure["status"]: failure["reason"] for failure in result["failures"]}
    assert reasons["gen_error"].startswith("context_overflow: ")
    assert "256" in reasons["gen_error"]
    assert "context_tokens" in reasons["gen_error"]
    assert reasons["skipped"].startswith("its draft is gen_error: context_overflow")
    assert read_answers(folder) == {}


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_with_the_bytes_of_a_run_that_was_not(built, tmp_path):
    killed = make_folder(tmp_path / "killed")
    answered = 0
    for seconds in (4, 6, 8):
        process = subprocess.Popen([BIN / "daybook", "build", COHORT], cwd=killed, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(read_answers(killed)) >= answered
        answered = len(read_answers(killed))
    run(killed, "daybook", "build", COHORT)

    assert read_texts(built) == read_texts(killed)
    statuses = [json.loads(path.read_bytes())["status"] for path in killed.glob("data/calls/**/outcome.json")]
    assert statuses.count("ok") == 6
