"""Each benchmark at a tiny size, as a person starts it: it checks the work, prints tables and writes its JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import chain3, document_cost
from benchmarks.cohort_folder import COHORT, make_text, write_chain_config
from benchmarks.fan_run import draw_lengths, ideal_seconds
from benchmarks.measure import ROOT, CommandFailed, measure_command
from benchmarks.peers import PEERS

can_trace = pytest.mark.skipif(not document_cost.can_trace(), reason="strace cannot be used here")


def run_benchmark(folder: Path, name: str, *options: str) -> dict[str, Any]:
    """Run a benchmark in a process of its own; return its results."""
    results = folder / "results.json"
    command = [sys.executable, "-m", "benchmarks", name, "--repeat", "1", "--folder", folder, "--json", results]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "This takes about" in done.stderr
    facts: dict[str, Any] = json.loads(results.read_text())
    assert facts["machine"]["cores"] >= 1
    for row in facts["benchmarks"][name]["rows"]:
        assert all(str(value) != "" for key, value in row.items() if key != "remark")
    return dict(facts["benchmarks"][name])


@pytest.mark.slow
def test_chain3_measures_daybook_its_floor_and_a_peer(tmp_path):
    result = run_benchmark(tmp_path, "chain3", "--sizes", "2,20", "--peers", "make")

    steps = {(row["tool"], row["items"], row["run"]): row["steps"] for row in result["rows"]}
    for items in (2, 20):
        assert steps["Daybook", items, "cold"] == steps["durable floor", items, "cold"] == 3 * items
        assert steps["Daybook", items, "again"] == steps["durable floor", items, "again"] == 0
        assert steps["Daybook", items, "one changed"] == 3
    if shutil.which("make"):
        assert (steps["make", 20, "cold"], steps["make", 20, "again"], steps["make", 20, "one changed"]) == (60, 0, 3)
    assert {aim["met"] for aim in result["aims"]} <= {"yes", "NO"}
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fan", "dashboard"])
def test_a_scheduling_benchmark_runs_all_its_tasks(tmp_path, name):
    result = run_benchmark(tmp_path, name, "--sizes", "20")

    assert {row["tasks"] for row in result["rows"]} == {20}
    assert all(row["wall_seconds"] > 0 for row in result["rows"])


@pytest.mark.slow
def test_gateway_measures_the_calls_of_both_and_holds_them_to_its_aims(tmp_path):
    result = run_benchmark(tmp_path, "gateway", "--sizes", "20")

    assert [row["asked by"] for row in result["rows"]] == ["bare httpx", "gateway"] * 5
    assert {row["calls"] for row in result["rows"]} == {20}
    assert [aim["limit"] for aim in result["aims"]] == ["<= 3"] * 4 + ["<= 1.15"]
    assert "litellm writes the request" in result["notes"][0]


@pytest.mark.slow
def test_search_measures_queries_of_every_kind_beside_a_scan(tmp_path):
    result = run_benchmark(tmp_path, "search", "--sizes", "300")

    assert len(result["rows"]) == 10
    assert result["rows"][-1]["query"] == "scan"
    assert all(row["messages"] > 200 and row["median ms"] > 0 for row in result["rows"])
    assert [aim["limit"] for aim in result["aims"]] == ["<= 30", "<= 1"]
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.slow
def test_embedded_writes_the_same_texts_through_the_gateway_and_without_it(tmp_path):
    result = run_benchmark(tmp_path, "embedded", "--sizes", "4", "--quick")

    bare, ours = result["rows"][:2]
    assert (bare["asked by"], ours["asked by"]) == ("bare xllamacpp", "gateway")
    assert bare["tokens"] == ours["tokens"] > 0
    assert [aim["limit"] for aim in result["aims"]] == [">= 0.9"] * 2


@pytest.mark.slow
def test_planning_measures_a_plan_and_the_start_of_a_build(tmp_path):
    result = run_benchmark(tmp_path, "planning", "--sizes", "100,300")

    assert [(row["command"], row["rows"]) for row in result["rows"]] == [
        ("plan", 100),
        ("build", 100),
        ("plan", 300),
        ("build", 300),
    ]


@pytest.mark.slow
def test_verification_is_measured_beside_hashing_alone(tmp_path):
    result = run_benchmark(tmp_path, "verification", "--sizes", "5")

    tools = {row["tool"] for row in result["rows"]}
    assert tools >= {"daybook verify --deep", "blake3 alone, one process", "blake3 alone, a process a core"}
    assert [aim["limit"] for aim in result["aims"]] == [">= 70", ">= 70"]


@can_trace
@pytest.mark.slow
def test_the_floor_writes_and_flushes_what_daybook_does(tmp_path):
    """Exactly: files and bytes. The folders that begin an id are shared by chance, so flushes to a twentieth."""
    result = run_benchmark(tmp_path, "document_cost")

    costs = {row["document"]: row for row in result["rows"]}
    daybook, floor = costs["llm, 1 at a time"], costs["durable floor, llm"]
    assert floor["files"] == daybook["files"]
    assert floor["flushes"] == pytest.approx(daybook["flushes"], rel=0.05)
    assert floor["bytes"] == pytest.approx(daybook["bytes"], rel=0.01)
    assert costs["copy, 1 at a time"]["files"] < daybook["files"]
    assert costs["llm, 64 at a time"]["flushes"] < daybook["flushes"] / 2


def test_a_run_that_made_something_else_is_not_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(chain3, "STAGES", ("draft", "essay"))

    with pytest.raises(chain3.WorkNotDone, match="'evaluation': 2"):
        chain3._measure_daybook(tmp_path, 2, repeat=1)


def test_a_changed_input_changes_one_chain(tmp_path):
    place = write_chain_config(tmp_path, 3)
    measure_command(place.command("build", COHORT))

    place.concept_path(1).write_text(make_text(1, edition=2))
    made = place.read_made(measure_command(place.command("build", COHORT)).output)

    assert made == {"draft": 1, "essay": 1, "evaluation": 1}


def test_what_measures_imports_nothing_big():
    """Its memory would be the least that a child can be seen to take."""
    code = "import sys, benchmarks.__main__; print({'luigi', 'pipeline', 'jinja2'} & set(sys.modules))"

    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert found.stdout == "set()\n"


def test_a_command_is_measured_with_its_children(tmp_path):
    busy = "import time; a = bytearray(60_000_000)\nwhile time.process_time() < 0.2: pass"

    measured = measure_command(["sh", "-c", f'{sys.executable} -c "{busy}"; echo done'], folder=tmp_path)

    assert measured.output == "done\n"
    assert measured.cpu_seconds >= 0.2
    assert measured.peak_bytes >= 60_000_000
    assert not measured.is_stopped


def test_a_command_is_stopped_at_its_limit_with_its_children(tmp_path):
    measured = measure_command(["sh", "-c", "sleep 600 & echo $!; wait"], folder=tmp_path, limit_seconds=0.3)

    assert measured.is_stopped
    deadline = time.monotonic() + 10  # for the system to take the child away
    while is_running(int(measured.output)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(int(measured.output))


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended: one that nobody waited for still has its number."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() not in ("", "Z")


def test_a_command_that_fails_is_not_measured(tmp_path):
    with pytest.raises(CommandFailed, match=r"ended with 3(.|\n)*no such thing"):
        measure_command(["sh", "-c", "echo no such thing >&2; exit 3"], folder=tmp_path)


def test_the_ideal_time_fills_every_place_as_soon_as_it_is_free():
    assert ideal_seconds([1.0] * 6, 3) == 2.0
    assert ideal_seconds([5.0, 1.0, 1.0, 1.0], 2) == 5.0
    assert ideal_seconds([1.0, 1.0, 1.0, 5.0], 2) == 6.0


def test_heavy_tailed_lengths_are_the_same_in_every_run():
    assert draw_lengths("heavy", 100) == draw_lengths("heavy", 100)
    assert max(draw_lengths("heavy", 5000)) > 10 * sorted(draw_lengths("heavy", 5000))[2500]


@pytest.mark.parametrize("options", [["--sizes", "0"], ["--sizes", "many"], ["--peers", "ninja"]])
def test_a_wrong_option_is_named(options):
    command = [sys.executable, "-m", "benchmarks", "chain3", *options]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert options[1] in done.stderr


def test_every_peer_has_its_version_and_its_files():
    workflows = ROOT / "benchmarks" / "peers" / "workflows"

    for peer in PEERS.values():
        assert "==" in peer.requirement or peer.name == "make"
        assert all((workflows / name).exists() for name in peer.files)


@pytest.mark.slow
def test_two_workers_ask_each_call_once_although_their_scheduler_is_killed_twice(tmp_path):
    result = run_benchmark(tmp_path, "two_workers", "--documents", "240")

    assert result["rows"][0]["restarts"] == 2
    assert result["rows"][0]["requests"] == 240
    assert [aim for aim in result["aims"] if aim["met"] != "yes"] == []
