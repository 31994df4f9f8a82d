"""The program as a person starts it: every command in a process of its own, on the shipped demo.

Most are forked from a warm process: see programs. Those that are started anew say so, by the path of the program.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.task_tables import TABLE_COLUMNS
from tests.programs import BIN, run, run_json, start
from tests.provider_server import ProviderServer, make_completion, reply_json
from tests.trial_folder import COHORT, make_folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_folder(tmp_path)


def list_documents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("data/docs/*/*") if len(path.name) == 16}


def count_attempts(folder: Path) -> int:
    return len(list(folder.glob("data/calls/*/*/*/request.json")))


def read_texts(folder: Path) -> dict[str, bytes]:
    """Return {path: bytes} of everything in the documents but metadata.json, which holds times."""
    paths = (folder / "data" / "docs").glob("*/[0-9a-z]*/**/*")
    texts = [path for path in paths if path.is_file() and path.name != "metadata.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in texts}


# Building


def test_a_cohort_is_built_and_a_second_build_does_nothing(folder):
    first = run_json(folder, "build", COHORT)
    documents, attempts = list_documents(folder), count_attempts(folder)

    second = run_json(folder, "build", COHORT)

    assert first["complete"]
    assert first["made"] == {"draft": 6, "essay": 12, "evaluation": 24, "report": 1}
    assert Path(folder, first["report"]["page"]).read_text().startswith("<!DOCTYPE html>")
    assert second["made"] == {}
    assert second["calls"] == 0
    assert list_documents(folder) == documents
    assert count_attempts(folder) == attempts
    assert "nothing to do" in run(folder, "daybook", "build", COHORT).stdout


def test_luigi_and_daybook_make_the_same_documents(built_folder, tmp_path_factory):
    """Luigi is started anew: it has another hash seed than the process that built the other folder."""
    folder = make_folder(tmp_path_factory.mktemp("other"))

    run(folder, str(BIN / "luigi"), "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler")

    assert list_documents(folder) == list_documents(built_folder)
    assert read_texts(folder) == read_texts(built_folder)


def test_a_second_luigi_run_does_nothing(folder):
    command = ["luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler"]
    run(folder, *command)
    documents, attempts = list_documents(folder), count_attempts(folder)

    again = run(folder, *command)

    assert "Did not run any tasks" in again.stdout + again.stderr
    assert (list_documents(folder), count_attempts(folder)) == (documents, attempts)


def test_deleting_one_evaluation_makes_exactly_that_one_again_from_the_ledger(built_folder):
    before, attempts = read_texts(built_folder), count_attempts(built_folder)
    shutil.rmtree(next((built_folder / "data" / "docs" / "evaluation").glob("[0-9a-z]*")))

    result = run_json(built_folder, "build", COHORT)

    assert result["made"] == {"evaluation": 1}
    assert result["calls"] == 0
    assert read_texts(built_folder) == before
    assert count_attempts(built_folder) == attempts


def test_editing_a_template_makes_its_documents_and_their_children_and_taking_the_edit_back_costs_nothing(built_folder):
    before = list_documents(built_folder)
    template = built_folder / "config" / "templates" / "essay" / "letter.txt"
    original = template.read_text()
    template.write_text(original + "Keep it short.\n")

    edited = run_json(built_folder, "build", COHORT)
    template.write_text(original)
    back = run_json(built_folder, "build", COHORT)

    assert edited["made"] == {"essay": 6, "evaluation": 12, "report": 1}
    assert before < list_documents(built_folder)
    assert (back["made"], back["calls"]) == ({}, 0)


def test_renaming_a_template_makes_nothing(built_folder):
    config = built_folder / "config"
    (config / "templates" / "essay" / "letter.txt").rename(config / "templates" / "essay" / "postcard.txt")
    for name in ("templates.toml", f"cohorts/{COHORT}.toml", "cohorts/demo.toml"):
        text = (config / name).read_text()
        (config / name).write_text(text.replace("essay.letter", "essay.postcard").replace('"letter"', '"postcard"'))

    result = run_json(built_folder, "build", COHORT)

    assert (result["made"], result["calls"]) == ({}, 0)
    assert "postcard" in (built_folder / "data" / "tasks" / COHORT / "essay_tasks.csv").read_text()


def test_one_document_can_be_built_alone_with_what_it_needs(folder):
    run(folder, "daybook", "plan", COHORT)
    row = (folder / "data" / "tasks" / COHORT / "essay_tasks.csv").read_text().splitlines()[1]
    doc_id, parent_doc_id = row.split(",")[:2]

    run(folder, "luigi", "--module", "pipeline", "Essay", "--doc-id", doc_id, "--local-scheduler")

    assert list_documents(folder) == {f"data/docs/essay/{doc_id}", f"data/docs/draft/{parent_doc_id}"}


def test_a_document_that_nothing_plans_is_an_error(folder):
    run(folder, "daybook", "plan", COHORT)

    result = run(folder, "luigi", "--module", "pipeline", "Draft", "--doc-id", "0" * 16, "--local-scheduler", code=35)

    assert "Unknown draft in the task tables '0000000000000000'" in result.stdout + result.stderr


def test_a_damaged_document_stops_the_build_and_is_left_as_it_is(built_folder):
    draft = next((built_folder / "data" / "docs" / "draft").glob("[0-9a-z]*"))
    (draft / "raw.txt").unlink()

    result = run(built_folder, "daybook", "build", COHORT, code=1)

    assert f"draft/{draft.name}: raw.txt" in result.stderr
    assert not (draft / "raw.txt").exists()


def build_against(folder: Path, provider: ProviderServer) -> None:
    """Let the trial's drafts be written by a provider, with everything else by the echo."""
    models = folder / "config" / "models.toml"
    models.write_text(
        models.read_text() + f'\n[server]\nmodel = "openai/loopback"\nmax_tokens = 90\nendpoint = "here"\n'
        f'api_base = "{provider.api_base}"\napi_key_env = "TRIAL_KEY"\n'
    )
    cohort = folder / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text(cohort.read_text().replace('models = ["echo"]', 'models = ["server"]', 1))


def answer_but_truncate_one(request):
    text = str(request.body["messages"][-1]["content"])
    one = "Tide pool" in text and "Lending library" in text and "What if" in text
    return reply_json(make_completion(text, finish="length" if one else "stop"))


def test_a_failed_document_blocks_only_its_children_and_the_report_says_so(folder, monkeypatch):
    with ProviderServer() as provider:
        provider.reply = answer_but_truncate_one
        build_against(folder, provider)
        monkeypatch.setenv("TRIAL_KEY", "k")
        result = run_json(folder, "build", COHORT, code=30)
        allowed = run_json(folder, "build", COHORT, "--allow-missing")
        assert len(provider.requests) == 6

    assert not result["complete"]
    assert result["made"] == {"draft": 5, "essay": 10, "evaluation": 20, "report": 1}
    statuses = [failure["status"] for failure in result["failures"]]
    assert (statuses.count("truncated"), statuses.count("skipped"), result["missing"]) == (1, 6, 7)
    page = Path(folder, result["report"]["page"]).read_text()
    assert "truncated" in page
    assert "skipped" in page
    assert allowed["report"] == result["report"]
    assert run_json(folder, "status", COHORT)["cohorts"][0]["stages"]["essay"]["skipped"] == 2


def test_luigi_exits_with_an_error_after_a_failure_and_makes_the_report_if_told_to_allow_it(folder):
    command = ["luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler"]
    with ProviderServer() as provider:
        provider.reply = answer_but_truncate_one
        build_against(folder, provider)
        run(folder, *command, code=30, TRIAL_KEY="k")
        assert not list(folder.glob("data/docs/report/[0-9a-z]*"))
        run(folder, *command, "--allow-missing", TRIAL_KEY="k")

    assert len(list(folder.glob("data/docs/report/[0-9a-z]*"))) == 1


@pytest.mark.slow
def test_killed_at_any_time_a_build_goes_on_and_asks_for_no_answer_twice(folder):
    with ProviderServer() as provider:

        def answer_slowly(request):
            text = str(request.body["messages"][-1]["content"])
            time.sleep(0.05)
            return reply_json(make_completion(text))

        provider.reply = answer_slowly
        build_against(folder, provider)
        environment = {**os.environ, "TRIAL_KEY": "k"}
        for seconds in (3.0, 4.5, 5.0, 5.3):
            process = subprocess.Popen(
                [BIN / "daybook", "build", COHORT], cwd=folder, env=environment, stderr=subprocess.DEVNULL
            )
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            process.wait()
            for path in folder.glob("data/docs/*/[0-9a-z]*"):
                assert (path / "metadata.json").exists()
        run(folder, "daybook", "build", COHORT, TRIAL_KEY="k")

    for call in folder.glob("data/calls/*/*"):
        outcomes = [attempt / "outcome.json" for attempt in sorted(call.iterdir())]
        statuses = [json.loads(path.read_bytes())["status"] if path.exists() else None for path in outcomes]
        # Nothing is asked after an answer; before it, at most one request a kill was under way.
        assert statuses[-1] == "ok"
        assert set(statuses[:-1]) <= {None}
        assert len(statuses) <= 5
    assert len(list_documents(folder)) == 43


@pytest.mark.slow
def test_interrupting_says_that_nothing_is_lost(folder):
    with ProviderServer() as provider:
        is_over = threading.Event()
        provider.reply = lambda _: is_over.wait(60) and reply_json(make_completion("late"))
        build_against(folder, provider)
        process = start(folder, str(BIN / "daybook"), "build", COHORT, TRIAL_KEY="k")
        deadline = time.monotonic() + 60
        while not provider.requests and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        is_over.set()

    assert process.returncode == 130
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors


# Planning and looking


def test_plan_writes_the_tables_before_anything_runs_and_tells_what_it_takes(folder):
    plan = run_json(folder, "plan", COHORT)

    assert plan["stages"]["draft"] | {"prompt_tokens": 0} == {
        "rows": 6,
        "documents": 6,
        "present": 0,
        "missing": 6,
        "calls": 6,
        "prompt_tokens": 0,
        "completion_tokens": 6 * 4096,
        "expected_completion_tokens": 6 * 4096,
        "cost_usd": {"low": 0.0, "expected": 0.0, "high": 0.0},
        "unpriced_models": [],
    }
    assert plan["stages"]["draft"]["prompt_tokens"] > 300
    tables = sorted(path.name for path in (folder / "data" / "tasks" / COHORT).glob("*.csv"))
    assert tables == ["draft_tasks.csv", "essay_tasks.csv", "evaluation_tasks.csv"]
    header = (folder / "data" / "tasks" / COHORT / "draft_tasks.csv").read_text().splitlines()[0]
    assert header == ",".join(TABLE_COLUMNS)
    assert list_documents(folder) == set()


def test_plan_of_a_complete_cohort_needs_no_call(built_folder):
    plan = run_json(built_folder, "plan", COHORT)

    assert {stage: counts["missing"] for stage, counts in plan["stages"].items()} == {
        "draft": 0,
        "essay": 0,
        "evaluation": 0,
    }
    assert "No call is needed" in run(built_folder, "daybook", "plan", COHORT).stdout


def test_plan_knows_which_answers_are_in_the_ledger(built_folder):
    shutil.rmtree(built_folder / "data" / "docs")

    assert run_json(built_folder, "plan", COHORT)["stages"]["draft"]["calls"] == 0


def test_status_counts_documents_by_status(folder):
    before = run_json(folder, "status")
    run(folder, "daybook", "build", COHORT)
    after = run_json(folder, "status", COHORT)

    assert [cohort["cohort"] for cohort in before["cohorts"]] == ["demo", COHORT]
    assert before["cohorts"][1]["stages"]["essay"]["missing"] == 12
    (cohort,) = after["cohorts"]
    assert cohort["complete"]
    assert cohort["stages"]["essay"]["ok"] == 12
    assert Path(folder, cohort["report"]["page"]).exists()
    assert after["documents"] == {"draft": 6, "essay": 12, "evaluation": 24, "report": 1}


def test_show_takes_any_unique_prefix_and_prints_the_texts(built_folder):
    doc_id = next((built_folder / "data" / "docs" / "essay").glob("[0-9a-z]*")).name

    shown = run_json(built_folder, "show", f"essay/{doc_id[:10]}")
    text = run(built_folder, "daybook", "show", doc_id).stdout

    assert (shown["stage"], shown["doc_id"], shown["status"]) == ("essay", doc_id, "ok")
    assert set(shown["texts"]) == {"prompt.txt", "raw.txt", "parsed.txt"}
    assert shown["metadata"]["doc_id"] == doc_id
    assert "── parsed.txt" in text


def test_show_of_a_planned_document_tells_that_it_is_missing(folder):
    run(folder, "daybook", "plan", COHORT)
    row = (folder / "data" / "tasks" / COHORT / "draft_tasks.csv").read_text().splitlines()[1]

    shown = run_json(folder, "show", row.split(",")[0])

    assert (shown["status"], shown["metadata"]) == ("missing", None)
    assert shown["texts"]["prompt.txt"].startswith("Here are 2 ideas")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("zzzz", "Unknown document 'zzzz'"), ("../x", "is not the start of a doc_id"), ("", "not the start of a doc_id")],
)
def test_show_explains_what_is_wrong_with_an_id(prefix, expected, folder):
    assert expected in run(folder, "daybook", "show", prefix, code=1).stderr


def test_an_ambiguous_prefix_lists_what_it_begins(built_folder):
    first_characters = [Path(name).name[0] for name in list_documents(built_folder)]
    ambiguous = max(first_characters, key=first_characters.count)

    errors = run(built_folder, "daybook", "show", ambiguous, code=1).stderr

    assert "Expected more characters" in errors


def test_lineage_goes_down_to_the_concepts(built_folder):
    doc_id = next((built_folder / "data" / "docs" / "evaluation").glob("[0-9a-z]*")).name

    lineage = run_json(built_folder, "lineage", doc_id)

    essay = lineage["parents"][0]
    draft = essay["parents"][0]
    assert (lineage["stage"], essay["stage"], draft["stage"]) == ("evaluation", "essay", "draft")
    assert (essay["state"], draft["state"]) == ("ok", "ok")
    assert len(draft["concepts"]) == 2
    assert "└─ concept" in run(built_folder, "daybook", "lineage", doc_id).stdout


def test_lineage_tells_a_parent_that_is_gone(built_folder):
    doc_id = next((built_folder / "data" / "docs" / "essay").glob("[0-9a-z]*")).name
    shutil.rmtree(built_folder / "data" / "docs" / "draft")

    assert "is not in the store" in run_json(built_folder, "lineage", doc_id)["parents"][0]["state"]


def test_explain_names_the_inputs_that_differ_with_a_diff_of_the_texts(built_folder):
    before = list_documents(built_folder)
    template = built_folder / "config" / "templates" / "draft" / "what-if.txt"
    template.write_text(template.read_text().replace("step by step", "in one sentence"))
    concept = built_folder / "config" / "concepts" / "paragraph" / "tide-pool.txt"
    concept.write_text(concept.read_text().replace("cold water", "warm water"))
    run(built_folder, "daybook", "build", COHORT)
    task_id = "tide-pool+lending-library__what-if__echo__1"
    ids = sorted(
        (name not in before, Path(name).name)
        for name in list_documents(built_folder)
        if json.loads(Path(built_folder, name, "metadata.json").read_bytes())["task_id"] == task_id
    )

    explained = run_json(built_folder, "explain", ids[0][1], ids[1][1])

    by_input = {item["input"]: item for item in explained["differences"]}
    assert set(by_input) == {"template.text_blake3", "concepts.0.text_blake3"}
    assert any(line.startswith("+") and "in one sentence" in line for line in by_input["template.text_blake3"]["diff"])
    assert any(line.startswith("-") and "cold water" in line for line in by_input["concepts.0.text_blake3"]["diff"])
    assert "in one sentence" in run(built_folder, "daybook", "explain", ids[0][1], ids[1][1]).stdout


def test_explain_follows_the_parents(built_folder):
    rows = (built_folder / "data" / "tasks" / COHORT / "essay_tasks.csv").read_text().splitlines()[1:]
    plain = [row.split(",")[0] for row in rows if "__plain__" in row]

    explained = run_json(built_folder, "explain", plain[0], plain[1])

    inputs = [item["input"] for item in explained["differences"]]
    assert inputs[0] == "parent"
    assert "parent.template.text_blake3" in inputs
    same = run_json(built_folder, "explain", plain[0], plain[0])
    assert (same["same_document"], same["differences"]) == (True, [])


# Trying a parser, and bad input


def test_parse_prints_one_object_a_file(folder):
    (folder / "good.txt").write_text("Fine.\n**SCORE: 7.5/10**\nThanks!\n")
    (folder / "bad.txt").write_text("I would say seven")
    (folder / "latin.txt").write_bytes(b"\xe9")

    results = run_json(
        folder, "parse", "score_last_line", "good.txt", "bad.txt", "latin.txt", "gone.txt", "--scale", "0-10", code=1
    )

    assert [result["file"] for result in results] == ["good.txt", "bad.txt", "latin.txt", "gone.txt"]
    assert [result["status"] for result in results] == ["ok", "parse_error", "gen_error", "gen_error"]
    assert (results[0]["score"], results[0]["parsed"], results[0]["reason"]) == (7.5, "7.5\n", None)
    assert (results[1]["score"], results[1]["parsed"]) == (None, None)
    assert results[1]["reason"].startswith("missing_score")
    assert "unreadable" in results[3]["reason"]


def test_parse_exits_with_0_if_every_file_parses(folder):
    (folder / "essay.txt").write_text("Note. <ESSAY>\nText.\n</essay>")

    (result,) = run_json(folder, "parse", "essay_block", "essay.txt")

    assert (result["status"], result["parsed"], result["score"]) == ("ok", "Text.", None)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["build", "dmo"], "Unknown cohort 'dmo'"),
        (["plan", "../demo"], "Unknown cohort '../demo'"),
        (["parse", "essay", "x"], "Unknown parser 'essay'"),
        (["parse", "score_last_line", "x", "--scale", "ten"], "'ten'"),
        (["adopt", "nowhere"], "nowhere"),
        (["status", "--config-root", "nowhere"], "nowhere: there is no such folder"),
        (["build", COHORT, "--data-root", "luigi.cfg"], "luigi.cfg cannot be used: it is not a folder"),
    ],
)
def test_bad_input_is_explained_without_a_traceback(command, expected, folder):
    result = run(folder, "daybook", *command, code=1)

    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_all_mistakes_of_a_config_are_shown_at_once_with_file_and_line(folder):
    models, cohort = folder / "config" / "models.toml", folder / "config" / "cohorts" / f"{COHORT}.toml"
    models.write_text(models.read_text().replace("temperature", "temprature", 1))
    cohort.write_text(cohort.read_text().replace('"letter"', '"leter"'))

    errors = run(folder, "daybook", "plan", COHORT, code=1).stderr

    assert "2 mistakes" in errors
    assert "models.toml, line " in errors
    assert "Did you mean 'temperature'?" in errors
    assert f"cohorts/{COHORT}.toml, line " in errors
    assert "Did you mean 'letter'?" in errors


def test_folders_are_taken_from_option_environment_and_luigi_cfg_in_this_order(folder):
    (folder / "luigi.cfg").write_text("[daybook]\ndata_root = from-file\n")

    file = run_json(folder, "status")["data_root"]
    environment = json.loads(run(folder, "daybook", "status", "--json", DAYBOOK_DATA_ROOT="from-environment").stdout)
    option = run(folder, "daybook", "status", "--json", "--data-root", "from-option", DAYBOOK_DATA_ROOT="x").stdout

    assert (file, environment["data_root"]) == ("from-file", "from-environment")
    assert json.loads(option)["data_root"] == "from-option"


def test_luigi_takes_the_folders_from_its_options_and_the_environment_too(folder):
    command = ["luigi", "--module", "pipeline", "Cohort", "--name", COHORT, "--local-scheduler"]

    run(folder, *command, "--daybook-data-root", "by-option", DAYBOOK_DATA_ROOT="by-environment")
    assert (folder / "by-option" / "docs").is_dir()
    assert not (folder / "by-environment").exists()

    run(folder, *command, DAYBOOK_DATA_ROOT="by-environment")
    assert (folder / "by-environment" / "docs").is_dir()
    assert not (folder / "data").exists()


# What is loaded


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        (["build", COHORT], {"litellm", "xllamacpp", "openai"}),
        (["plan", COHORT], {"litellm", "xllamacpp", "luigi"}),
        (["status"], {"litellm", "xllamacpp", "luigi"}),
        (["show", "0"], {"litellm", "xllamacpp", "luigi"}),
        (["search", "tide"], {"litellm", "luigi", "pipeline.archive.importers.known"}),
        (["--help"], {"litellm", "xllamacpp", "luigi", "jinja2"}),
    ],
)
def test_nothing_is_loaded_that_a_command_does_not_need(command, unwanted, folder):
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        f"try:\n    main({command!r})\nexcept SystemExit:\n    pass\n"
        "print('\\nLOADED', *sorted(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)

    loaded = set(result.stdout.rpartition("LOADED")[2].split())
    assert "pipeline.cli" in loaded
    assert loaded & unwanted == set()


@pytest.mark.parametrize("program", ["daybook", "luigi"])
def test_the_installed_programs_start_and_explain_themselves(program, folder):
    """As a shell starts them: the console scripts are where an installation puts them."""
    words = ["--module", "pipeline", "Cohort"] if program == "luigi" else ["build"]

    text = run(folder, str(BIN / program), *words, "--help").stdout

    assert "--allow-missing" in text


@pytest.mark.parametrize("command", ["build", "plan", "status", "show", "lineage", "explain", "parse", "adopt"])
def test_every_command_explains_itself(command, folder):
    text = run(folder, "daybook", command, "--help").stdout

    assert "--data-root" in text
    assert "--json" in text


def test_output_that_is_piped_is_plain(folder):
    result = run(folder, "daybook", "build", COHORT)

    assert "\x1b" not in result.stdout + result.stderr
    assert "[42/42]" in result.stderr
