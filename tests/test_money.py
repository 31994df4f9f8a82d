"""Money and limits as a person uses them: real processes, a real server, and a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.money_provider import (
    ANSWER_USD,
    COMPLETION_TOKENS,
    INPUT_USD,
    OUTPUT_USD,
    PROMPT_TOKENS,
    ChargingProvider,
    write_paid_config,
)
from tests.programs import run, run_json, start

EXIT_BUDGET = 31


@pytest.fixture
def provider(monkeypatch) -> Iterator[ChargingProvider]:
    monkeypatch.setenv("TRIAL_KEY", "key-of-the-trial")
    with ChargingProvider() as server:
        yield server


def write_echo_config(folder: Path, count: int, *, prices: str = "") -> None:
    """The same, written by the echo, which needs no server; its price is made up."""
    write_paid_config(folder, "http://127.0.0.1:9/v1", cohorts={"one": count})
    models = f'[paid]\nmodel = "echo/x"\nmax_tokens = 20\n{prices}'
    (folder / "config" / "models.toml").write_text(models)


ECHO_PRICES = f"input_usd_per_million_tokens = {INPUT_USD}\noutput_usd_per_million_tokens = {OUTPUT_USD}\n"
# The echo counts words: "one: Idea-00 and Idea-01" are 4 words in and 4 out.
ECHO_USD = 4 * (INPUT_USD + OUTPUT_USD) / 1_000_000


def wait_until_answered(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.glob("data/calls/*/*/*/outcome.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def list_unfinished(folder: Path) -> list[Path]:
    attempts = [path.parent for path in folder.glob("data/calls/*/*/*/request.json")]
    return [path for path in attempts if not (path / "outcome.json").exists()]


# Budgets


def test_a_build_stops_at_its_budget_says_what_is_left_and_goes_on_with_a_larger_one(tmp_path):
    write_echo_config(tmp_path, 10, prices=ECHO_PRICES)
    reserve = len("one: Idea-00 and Idea-01") + 64
    room = 5 * ECHO_USD + (reserve * INPUT_USD + 20 * OUTPUT_USD) / 1_000_000

    stopped = run(tmp_path, "daybook", "build", "one", "--budget-usd", str(room), "--json", code=EXIT_BUDGET)
    again = run_json(tmp_path, "build", "one", "--budget-usd", str(room), code=EXIT_BUDGET)
    finished = run_json(tmp_path, "build", "one", "--budget-usd", "100")

    result = json.loads(stopped.stdout)
    assert result["budget"]["reached"]
    assert result["budget"]["spent_usd"] <= room
    assert result["calls"] == 6
    assert result["budget"]["left"]["calls"] == result["missing"] == 4
    assert result["budget"]["left"]["cost_usd"]["expected"] == pytest.approx(4 * ECHO_USD)
    assert result["failures"][0]["status"] == "missing"
    assert "The budget of cohort 'one'" in stopped.stderr
    assert (again["calls"], again["budget"]["spent_usd"]) == (0, result["budget"]["spent_usd"])
    assert (finished["calls"], finished["complete"]) == (4, True)
    assert finished["cost_usd"] == pytest.approx(4 * ECHO_USD)
    assert finished["budget"]["spent_usd"] == pytest.approx(10 * ECHO_USD)


def test_a_budget_in_tokens_needs_no_price(tmp_path):
    write_paid_config(tmp_path, "http://127.0.0.1:9/v1", cohorts={"one": 5})
    (tmp_path / "config" / "models.toml").write_text('[paid]\nmodel = "echo/x"\nmax_tokens = 20\n')

    result = run_json(tmp_path, "build", "one", "--budget-tokens", "125", code=EXIT_BUDGET)

    # A call reserves 24 bytes, 64 tokens around them and 20 for the answer; it takes 8.
    assert result["budget"]["spent_tokens"] == 24
    assert result["calls"] == 3


def test_a_budget_in_dollars_is_refused_where_a_price_is_unknown(tmp_path, provider):
    write_paid_config(tmp_path, provider.api_base, cohorts={"one": 3})
    models = tmp_path / "config" / "models.toml"
    models.write_text(models.read_text().replace("input_usd", "# input_usd"))

    result = run(tmp_path, "daybook", "build", "one", "--budget-usd", "1", code=1)

    assert "No price is known for model 'paid' (openai/loopback)" in result.stderr
    assert "input_usd_per_million_tokens" in result.stderr
    assert provider.requests == []


@pytest.mark.parametrize("option", [["--budget-usd", "0"], ["--budget-usd", "much"], ["--budget-tokens", "1.5"]])
def test_a_budget_that_is_none_is_refused(option, tmp_path):
    assert "is no budget. Expected" in run(tmp_path, "daybook", "build", "one", *option, code=2).stderr


def test_luigi_keeps_the_budget_of_its_settings(tmp_path):
    write_echo_config(tmp_path, 10, prices=ECHO_PRICES)
    command = ["luigi", "--module", "pipeline", "Cohort", "--name", "one", "--local-scheduler"]
    (tmp_path / "luigi.cfg").write_text(
        "[retcode]\ntask_failed = 30\nscheduling_error = 35\n[scheduler]\nretry_count = 1\n"
    )

    stopped = run(tmp_path, *command, "--daybook-budget-usd", "0.15", code=30)
    refused = run(tmp_path, *command, "--daybook-budget-usd", "-1", code=35)

    assert "The budget of cohort 'one'" in stopped.stdout + stopped.stderr
    assert "budget_usd is -1.0. Expected a number above 0" in refused.stdout + refused.stderr
    usage = run_json(tmp_path, "usage")["total"]
    assert 0 < usage["cost_usd"] <= 0.15


@pytest.mark.slow
def test_two_runs_do_not_spend_the_same_rest(tmp_path, provider):
    provider.seconds = 2.0
    write_paid_config(tmp_path, provider.api_base, cohorts={"one": 40})
    first = start(tmp_path, "daybook", "build", "one", "--budget-usd", "1", "--concurrency", "1")
    try:
        deadline = time.monotonic() + 60
        while not provider.arrivals:
            assert time.monotonic() < deadline
            time.sleep(0.02)

        refused = run(tmp_path, "daybook", "build", "one", "--budget-usd", "1", code=1)
    finally:
        first.kill()
        first.wait()

    assert "Another run keeps a budget of cohort 'one'" in refused.stderr


@pytest.mark.slow
def test_half_a_budget_holds_with_64_at_once_and_across_a_kill_and_a_full_one_pays_for_the_rest_only(
    tmp_path, provider
):
    count, needed = 150, 150 * ANSWER_USD
    provider.seconds = 0.1
    write_paid_config(tmp_path, provider.api_base, cohorts={"one": count})
    half = ["--concurrency", "64", "--budget-usd", str(needed / 2)]

    killed = start(tmp_path, "daybook", "build", "one", *half)
    wait_until_answered(tmp_path, 15)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    unfinished = len(list_unfinished(tmp_path))
    stopped = run_json(tmp_path, "build", "one", *half, code=EXIT_BUDGET)
    charged = provider.charged_usd
    finished = run_json(tmp_path, "build", "one", "--concurrency", "64", "--budget-usd", str(needed * 3))

    assert charged <= needed / 2
    assert charged <= stopped["budget"]["spent_usd"] + 1e-9 <= needed / 2 + 1e-9
    assert finished["complete"]
    assert len(provider.arrivals) - count <= unfinished  # what the kill left without an answer, and nothing else
    attempts = run_json(tmp_path, "usage")["total"]["attempts"]
    assert attempts >= len(provider.arrivals)  # one that was killed before it was sent is in the ledger, too


# Limits


@pytest.mark.slow
def test_two_processes_keep_to_the_requests_a_minute_and_use_them(tmp_path, provider):
    """77 seconds: the shortest that shows a whole minute, and what comes after it."""
    limit = 120
    write_paid_config(
        tmp_path, provider.api_base, cohorts={"one": 75, "two": 75}, settings=f"requests_per_minute = {limit}"
    )
    builds = [start(tmp_path, "daybook", "build", cohort, "--concurrency", "16") for cohort in ("one", "two")]

    assert [build.wait() for build in builds] == [0, 0]

    assert len(provider.arrivals) == 150
    assert provider.count_most_arrivals(60) <= limit
    first_minute = sum(arrival < min(provider.arrivals) + 60 for arrival in provider.arrivals)
    assert first_minute >= 0.95 * limit


@pytest.mark.slow
def test_two_processes_share_the_calls_at_a_time(tmp_path, provider):
    provider.seconds = 0.2
    write_paid_config(tmp_path, provider.api_base, cohorts={"one": 20, "two": 20}, settings="concurrency = 3")
    builds = [start(tmp_path, "daybook", "build", cohort, "--concurrency", "16") for cohort in ("one", "two")]

    assert [build.wait() for build in builds] == [0, 0]

    assert provider.most_at_work == 3
    assert len(provider.arrivals) == 40


# Plan and usage


def test_a_plan_shows_what_it_will_cost_and_learns_from_what_was_made(tmp_path):
    write_echo_config(tmp_path, 10, prices=ECHO_PRICES)
    before = run_json(tmp_path, "plan", "one")["total"]
    cohort = tmp_path / "config" / "cohorts" / "one.toml"
    text = cohort.read_text()
    cohort.write_text(text.replace("limit = 10", "limit = 6"))
    run(tmp_path, "daybook", "build", "one")
    cohort.write_text(text)

    after = run_json(tmp_path, "plan", "one")["total"]

    assert (before["calls"], after["calls"]) == (10, 4)
    assert before["cost_usd"]["expected"] == pytest.approx(10 * (6 * INPUT_USD + 20 * OUTPUT_USD) / 1e6)
    assert before["cost_usd"]["low"] == pytest.approx(10 * 6 * INPUT_USD / 1e6)
    assert after["cost_usd"]["low"] == after["cost_usd"]["expected"] == pytest.approx(4 * ECHO_USD)
    assert after["cost_usd"]["high"] == pytest.approx(4 * (4 * INPUT_USD + 20 * OUTPUT_USD) / 1e6)
    assert "4 calls, about $0.048" in run(tmp_path, "daybook", "plan", "one").stdout


def test_a_plan_without_prices_says_which_is_missing(tmp_path):
    write_paid_config(tmp_path, "http://127.0.0.1:9/v1", cohorts={"one": 3})
    models = tmp_path / "config" / "models.toml"
    models.write_text(models.read_text().replace("output_usd", "# output_usd"))

    total = run_json(tmp_path, "plan", "one")["total"]

    assert (total["calls"], total["cost_usd"], total["unpriced_models"]) == (3, None, ["paid"])
    assert "cost unknown: no price for paid" in run(tmp_path, "daybook", "plan", "one").stdout


def test_usage_counts_each_attempt_once_and_shows_what_was_saved(tmp_path):
    write_echo_config(tmp_path, 6, prices=ECHO_PRICES)
    run(tmp_path, "daybook", "build", "one")
    run(tmp_path, "daybook", "build", "one")
    before = run_json(tmp_path, "usage")["total"]
    settings = tmp_path / "config" / "templates.toml"
    settings.write_text("[draft.one]\nmin_lines = 1\n")  # other documents, of the same answers
    again = run_json(tmp_path, "build", "one")

    groups = {by: run_json(tmp_path, "usage", "--by", by) for by in ("model", "template", "stage", "cohort", "day")}
    by_run = run_json(tmp_path, "usage", "--by", "run")["groups"]

    assert (before["calls"], before["attempts"], before["reused"]) == (6, 6, 0)
    assert before["cost_usd"] == pytest.approx(6 * ECHO_USD)
    assert again["cost_usd"] == 0
    for by, name in {"model": "echo/x", "template": "one", "stage": "draft", "cohort": "one"}.items():
        assert list(groups[by]["groups"]) == [name]
    for usage in groups.values():
        assert (usage["total"]["attempts"], usage["total"]["reused"]) == (6, 6)
        assert usage["total"]["saved_usd"] == pytest.approx(6 * ECHO_USD)
    # Two runs of one second stand in any order.
    assert {(group["attempts"], group["reused"]) for group in by_run.values()} == {(6, 0), (0, 6)}
    assert "$0.072" in run(tmp_path, "daybook", "usage").stdout


def test_a_price_that_changes_later_does_not_change_what_was_paid(tmp_path):
    write_echo_config(tmp_path, 2, prices=ECHO_PRICES)
    run(tmp_path, "daybook", "build", "one")
    models = tmp_path / "config" / "models.toml"
    models.write_text(models.read_text().replace(str(OUTPUT_USD), "999999"))

    assert run_json(tmp_path, "usage")["total"]["cost_usd"] == pytest.approx(2 * ECHO_USD)


def test_a_document_and_its_build_show_what_it_cost(tmp_path):
    write_echo_config(tmp_path, 1, prices=ECHO_PRICES)
    built = run(tmp_path, "daybook", "build", "one")
    (doc_id,) = (path.name for path in tmp_path.glob("data/docs/draft/*") if len(path.name) == 16)

    assert "$0.012" in built.stdout
    assert "cost      $0.012" in run(tmp_path, "daybook", "show", doc_id).stdout
    assert "$0.012" in (next(tmp_path.glob("data/docs/report/*/extras/report.html"))).read_text()
    (status,) = run_json(tmp_path, "status")["cohorts"]
    assert status["cost_usd"] == pytest.approx(ECHO_USD)


def test_usage_of_failed_and_unknown_attempts_is_told_apart(tmp_path, provider):
    write_paid_config(tmp_path, provider.api_base, cohorts={"one": 2})
    provider.reply = lambda _request: type(provider)._charge(provider, _request)
    run(tmp_path, "daybook", "build", "one")
    outcome = next(tmp_path.glob("data/calls/*/*/*/outcome.json"))
    outcome.unlink()  # its process died; the response is there

    total = run_json(tmp_path, "usage")["total"]

    assert total["cost_usd"] == pytest.approx(2 * ANSWER_USD)
    assert total["prompt_tokens"] == 2 * PROMPT_TOKENS
    assert total["completion_tokens"] == 2 * COMPLETION_TOKENS
    assert (total["unfinished_attempts"], total["failed_attempts"]) == (1, 0)
