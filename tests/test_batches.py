"""Batches as a person uses them: real processes, a real server, a kill at every step; each call is submitted once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.verification import verify
from store.batches import ASKED, FINISHED, INTENT, REQUESTS
from store.data_root import DataRoot
from tests.batch_server import BatchServer, answer_line
from tests.forked_builds import Build, Builds
from tests.money_provider import INPUT_USD, OUTPUT_USD, write_paid_config
from tests.provider_server import make_completion

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("batches")]

EXIT_INCOMPLETE, EXIT_BUDGET, EXIT_WAITING = 30, 31, 32
CALLS = 2
ANSWER_USD = (11 * INPUT_USD + 7 * OUTPUT_USD) / 1_000_000  # the usage of make_completion


@pytest.fixture(scope="module")
def builds() -> Builds:
    return Builds()


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    monkeypatch.setenv("TRIAL_KEY", "key-of-the-trial")
    for name in [name for name in os.environ if name.startswith(("DAYBOOK_", "LUIGI_"))]:
        monkeypatch.delenv(name)
    with BatchServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, provider: BatchServer) -> Path:
    write_paid_config(tmp_path, provider.api_base, cohorts={"one": CALLS})
    return tmp_path


def change_config(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / "config" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def add_essays(folder: Path) -> None:
    (folder / "config" / "templates" / "essay").mkdir()
    (folder / "config" / "templates" / "essay" / "told.txt").write_text("Retell: {{ draft_block }}")
    with (folder / "config" / "templates.toml").open("a") as templates:
        templates.write("[essay.told]\n")
    with (folder / "config" / "cohorts" / "one.toml").open("a") as cohort:
        cohort.write('[essay]\ntemplates = ["told"]\nmodels = ["paid"]\n')


def build(builds: Builds, folder: Path, *options: str, code: int, die_at: int = 0) -> Build:
    done = builds.run(folder, "build", "one", *options, die_at=die_at)
    assert done.code == code, done.output + done.errors
    return done


def read_attempts(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Return request and outcome of every attempt; None for one without."""
    attempts = sorted(path.parent for path in folder.glob("data/calls/*/*/*/request.json"))
    return [
        (
            json.loads((path / "request.json").read_bytes()),
            json.loads((path / "outcome.json").read_bytes()) if (path / "outcome.json").exists() else None,
        )
        for path in attempts
    ]


def count_documents(folder: Path, stage: str = "draft") -> int:
    return len([path for path in folder.glob(f"data/docs/{stage}/*") if len(path.name) == 16])


def let_time_pass(folder: Path) -> None:
    """Move the time at which batches were asked for into the past: the provider would list them by now."""
    for path in folder.glob(f"data/batches/*/{ASKED}"):
        record = json.loads(path.read_bytes())
        record["asked_at"] = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        path.chmod(0o644)
        path.write_text(json.dumps(record))


def assert_each_call_is_paid_once(folder: Path, provider: BatchServer) -> None:
    texts = Counter(line["body"]["messages"][-1]["content"] for line in provider.list_requests())
    assert set(texts.values()) == {1}
    assert len(texts) == CALLS == count_documents(folder)
    assert provider.steps["chat"] == 0
    outcomes = [outcome for _, outcome in read_attempts(folder)]
    assert None not in outcomes
    assert Counter(outcome["status"] for outcome in outcomes if outcome)["ok"] == CALLS
    assert_verified(folder)


def assert_verified(folder: Path) -> None:
    """A deep verification finds nothing."""
    assert verify(DataRoot(folder / "data"), folder / "config", deep=True).findings == []


# The usual way


def test_calls_are_submitted_once_collected_later_and_a_fourth_run_does_nothing(builds, folder, provider):
    first = build(builds, folder, "--batch", code=EXIT_WAITING).result
    second = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.answer_batches()
    third = build(builds, folder, "--batch", code=0).result
    fourth = build(builds, folder, "--batch", code=0).result

    (under_way,) = first["batches"]["under_way"]
    assert (under_way["provider_batch_id"], under_way["calls"]) == ("batch-1", CALLS)
    assert first["batches"]["submitted"] == CALLS
    assert [second["batches"][key] for key in ("submitted", "collected")] == [0, 0]
    assert third["batches"] == {"submitted": 0, "collected": CALLS, "under_way": [], "problems": []}
    assert third["made"]["draft"] == CALLS
    assert (fourth["made"], fourth["complete"]) == ({}, True)
    assert (provider.steps["upload"], provider.steps["create"], provider.steps["chat"]) == (1, 1, 0)
    assert provider.keys == {"Bearer key-of-the-trial"}
    assert_each_call_is_paid_once(folder, provider)


def test_an_answer_from_a_batch_is_kept_as_it_came_and_read_as_any_other(builds, folder, provider):
    body = b'{ "choices":[{"finish_reason":"stop","message":{"content":"a\\ud800b \\"body\\": {}"}}],\t"body" :1 }'

    def answer(line: dict[str, Any]) -> bytes:
        return (
            b'{"response": {"body" : '
            + body
            + b', "status_code": 200}, "custom_id": "%s"}' % line["custom_id"].encode()
        )

    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches(answer)
    build(builds, folder, "--batch", code=0)

    responses = [path.read_bytes() for path in folder.glob("data/calls/*/*/*/response.bin")]
    assert responses == [body] * CALLS
    (request, outcome), *_ = read_attempts(folder)
    assert outcome is not None
    assert outcome["text"] == 'a\ufffdb "body": {}'
    assert outcome["http_status"] == 200
    assert outcome["sent"]["body"]["messages"] == "as asked"
    assert outcome["usage"]["prompt_tokens"] is None
    assert outcome["cost"]["usd"] is None
    assert request["batch"] in {path.name for path in folder.glob("data/batches/*")}


def test_each_stage_is_submitted_when_its_parents_have_come(builds, folder, provider):
    add_essays(folder)

    drafts = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.answer_batches()
    essays = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.answer_batches()
    done = build(builds, folder, "--batch", code=0).result

    assert [run["batches"]["submitted"] for run in (drafts, essays, done)] == [CALLS, CALLS, 0]
    assert (essays["made"]["draft"], done["made"]["essay"]) == (CALLS, CALLS)
    assert len(provider.batches) == 2


def test_waiting_goes_on_until_every_stage_is_made(builds, folder, provider):
    add_essays(folder)
    provider.after = lambda step: provider.answer_batches() if step == "create" else None

    done = build(builds, folder, "--batch", "--wait", "0.05", code=0).result

    assert (done["made"]["draft"], done["made"]["essay"]) == (CALLS, CALLS)
    assert done["cost_usd"] == pytest.approx(2 * CALLS * ANSWER_USD)
    assert len(provider.batches) == 2


def test_a_call_in_a_batch_is_not_asked_by_a_plain_build_unless_it_is_told_to(builds, folder, provider):
    build(builds, folder, "--batch", code=EXIT_WAITING)

    plain = build(builds, folder, code=EXIT_INCOMPLETE).result
    asked_before = provider.steps["chat"]
    told = build(builds, folder, "--ignore-batches", code=0).result
    provider.answer_batches()
    late = build(builds, folder, "--batch", code=0).result

    assert {failure["status"] for failure in plain["failures"]} == {"skipped"}
    assert "is under way in batch" in plain["failures"][0]["reason"]
    assert (asked_before, told["calls"], provider.steps["chat"]) == (0, CALLS, CALLS)
    assert late["batches"]["collected"] == CALLS  # late answers are kept, and change nothing
    assert Counter(outcome and outcome["status"] for _, outcome in read_attempts(folder)) == {"ok": 2 * CALLS}


def test_models_that_cost_nothing_are_asked_at_once(builds, folder, provider):
    add_essays(folder)
    with (folder / "config" / "models.toml").open("a") as models:
        models.write('\n[echo]\nmodel = "echo/x"\nmax_tokens = 20\n')
    change_config(
        folder,
        "cohorts/one.toml",
        '[draft]\ntemplates = ["one"]\nmodels = ["paid"]',
        '[draft]\ntemplates = ["one"]\nmodels = ["echo"]',
    )

    first = build(builds, folder, "--batch", code=EXIT_WAITING).result

    assert first["made"]["draft"] == CALLS
    assert first["batches"]["submitted"] == CALLS


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "azure/gpt-4o"])
def test_a_model_whose_provider_has_no_batches_is_refused_before_anything_is_sent(builds, folder, provider, model):
    change_config(folder, "models.toml", "openai/loopback", model)

    refused = build(builds, folder, "--batch", code=1)

    assert f"Model 'paid': Calls of {model} cannot be submitted as a batch." in refused.errors
    assert "hosted_vllm, litellm_proxy, openai" in refused.errors
    assert provider.steps == {}
    assert read_attempts(folder) == []


# What does not work out


def test_what_a_batch_did_not_answer_is_a_failed_attempt_and_is_submitted_again(builds, folder, provider):
    answers = iter(["busy", "expired"])

    def answer(line: dict[str, Any]) -> dict[str, Any]:
        found = answer_line(line)
        match next(answers):
            case "busy":
                found["response"] = {"status_code": 500, "body": {"error": {"message": "busy key-of-the-trial"}}}
            case "expired":
                found |= {"response": None, "error": {"code": "batch_expired", "message": "It took too long"}}
        return found

    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches(answer, status="expired")
    again = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.answer_batches()
    build(builds, folder, "--batch", code=0)

    failures = {outcome["reason"]: outcome for _, outcome in read_attempts(folder) if outcome and outcome["reason"]}
    assert (again["batches"]["collected"], again["batches"]["submitted"]) == (1, CALLS)
    assert set(failures) == {"transport", "batch"}
    assert "batch_expired: It took too long" in failures["batch"]["detail"]
    assert {failure["cost"]["usd"] for failure in failures.values()} == {0.0}
    written = b"".join(path.read_bytes() for path in folder.glob("data/**/*") if path.is_file())
    assert b"busy <key" in written
    assert b"key-of-the-trial" not in written
    assert len(provider.list_requests()) == 2 * CALLS


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_a_batch_that_ends_without_answers_is_made_anew(builds, folder, provider, status):
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.end_batches(status, errors={"data": [{"message": "Too many tokens are queued."}]})
    again = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.answer_batches()
    done = build(builds, folder, "--batch", code=0).result

    details = [outcome["detail"] for _, outcome in read_attempts(folder) if outcome and outcome["status"] != "ok"]
    assert (again["batches"]["submitted"], done["made"]["draft"]) == (CALLS, CALLS)
    assert len(details) == CALLS
    assert all(f"({status}: Too many tokens are queued)" in detail for detail in details)
    assert len(provider.batches) == 2


def test_a_batch_that_the_provider_refuses_is_an_error_and_the_next_run_tries_again(builds, folder, provider):
    provider.refuse = {"create": 400}
    refused = build(builds, folder, "--batch", code=1).result
    provider.refuse = {}
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches()
    build(builds, folder, "--batch", code=0)

    assert "HTTP 400: no." in refused["errors"][0]
    assert_each_call_is_paid_once(folder, provider)


@pytest.mark.parametrize("step", ["upload", "read", "download"])
def test_a_step_that_the_provider_is_too_busy_for_is_taken_by_the_next_run(builds, folder, provider, step):
    if step != "upload":
        build(builds, folder, "--batch", code=EXIT_WAITING)
        provider.answer_batches()
    provider.refuse = {step: 503}
    busy = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.refuse = {}
    run_to_the_end(builds, folder, provider)

    assert "HTTP 503" in busy["batches"]["problems"][0]
    assert_each_call_is_paid_once(folder, provider)


def test_a_file_of_results_with_fewer_lines_than_answers_is_not_taken(builds, folder, provider):
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches()
    (batch,) = provider.batches.values()
    whole = provider.files[batch["output_file_id"]]
    provider.files[batch["output_file_id"]] = whole.splitlines()[0]
    short = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.files[batch["output_file_id"]] = whole
    build(builds, folder, "--batch", code=0)

    assert "2 calls are answered, and the file has 1 lines" in short["batches"]["problems"][0]
    assert_each_call_is_paid_once(folder, provider)


def test_a_line_that_names_no_call_may_have_been_paid_and_its_calls_are_submitted_again(builds, folder, provider):
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches(lambda _line: b'{"custom_id": "some')
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches()
    build(builds, folder, "--batch", code=0)

    failures = [outcome for _, outcome in read_attempts(folder) if outcome and outcome["reason"]]
    assert [(failure["reason"], failure["cost"]["usd"]) for failure in failures] == [("bad_body", None)] * CALLS
    (kept,) = {
        path.read_bytes() for path in folder.glob("data/batches/*/output.jsonl") if b"some\n" in path.read_bytes()
    }
    assert kept.count(b"some") == CALLS


# Never twice


def test_a_batch_whose_creation_was_not_heard_of_is_found_at_the_provider(builds, folder, provider):
    provider.batches = {f"other-{number}": {"id": f"other-{number}", "status": "completed"} for number in range(5)}

    def lose_the_answer(step: str) -> None:
        if step == "create":
            raise ConnectionError("the connection breaks before the answer is sent")

    provider.after = lose_the_answer
    build(builds, folder, "--batch", code=EXIT_WAITING)
    (name,) = set(provider.batches) - {f"other-{number}" for number in range(5)}
    provider.batches = {name: provider.batches.pop(name), **provider.batches}  # the oldest: on the last page
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.batches = {name: provider.batches[name]}
    provider.answer_batches()
    build(builds, folder, "--batch", code=0)

    assert provider.steps["create"] == 1
    assert_each_call_is_paid_once(folder, provider)


def test_a_batch_that_is_not_listed_is_waited_for_and_asked_for_again_only_much_later(builds, folder, provider):
    def die_before_creating(step: str) -> None:
        if step == "create":
            raise ConnectionError("the connection breaks before the batch is made")

    provider.before = die_before_creating
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.before = lambda _step: None
    soon = build(builds, folder, "--batch", code=EXIT_WAITING).result
    creations = provider.steps["create"]
    let_time_pass(folder)
    later = build(builds, folder, "--batch", code=EXIT_WAITING).result
    provider.answer_batches()
    build(builds, folder, "--batch", code=0)

    assert soon["batches"]["under_way"][0]["state"] == "not confirmed"
    assert (creations, later["batches"]["submitted"]) == (1, CALLS)
    assert_each_call_is_paid_once(folder, provider)


def test_where_the_provider_lists_no_batches_nothing_is_submitted_again(builds, folder, provider):
    def lose_the_answer(step: str) -> None:
        if step == "create":
            raise ConnectionError("the connection breaks before the answer is sent")

    provider.after = lose_the_answer
    provider.refuse = {"list": 404}
    build(builds, folder, "--batch", code=EXIT_WAITING)
    let_time_pass(folder)

    refused = build(builds, folder, "--batch", code=1).result

    assert "does not say which batches it has" in refused["errors"][0]
    assert "--ignore-batches asks its calls again" in refused["errors"][0]
    assert provider.steps["create"] == 1


def test_two_runs_do_not_work_at_batches_at_the_same_time(builds, folder, provider):
    refused: list[Build] = []

    def start_another(step: str) -> None:
        if step == "upload":
            refused.append(builds.run(folder, "build", "one", "--batch"))

    provider.before = start_another
    build(builds, folder, "--batch", code=EXIT_WAITING)

    assert refused[0].code == 1
    assert provider.steps["create"] == 1


MOST_STEPS = 40
FIRST_STEP_AFTER_UPLOAD = 13


def run_to_the_end(builds: Builds, folder: Path, provider: BatchServer) -> None:
    """Build until everything is made, as a person would: again, and again after a while."""
    for _ in range(4):
        if builds.run(folder, "build", "one", "--batch").code == 0:
            return
        let_time_pass(folder)
        provider.answer_batches()
    raise AssertionError("it does not come to an end")


def test_a_kill_at_any_step_of_submitting_submits_nothing_twice(builds, tmp_path_factory, provider):
    killed = 0
    for step in range(1, MOST_STEPS):
        folder = tmp_path_factory.mktemp(f"submitting-{step}")
        write_paid_config(folder, provider.api_base, cohorts={"one": CALLS})
        provider.batches, provider.files = {}, {}

        died = builds.run(folder, "build", "one", "--batch", die_at=step)
        killed += died.code == -signal.SIGKILL
        assert_verified(folder)
        run_to_the_end(builds, folder, provider)

        assert_each_call_is_paid_once(folder, provider)
        if died.code != -signal.SIGKILL:
            break
    assert killed > 5


def test_a_kill_at_any_step_of_collecting_loses_nothing_and_submits_nothing_twice(builds, tmp_path_factory, provider):
    killed = 0
    for step in range(1, MOST_STEPS):
        folder = tmp_path_factory.mktemp(f"collecting-{step}")
        write_paid_config(folder, provider.api_base, cohorts={"one": CALLS})
        provider.batches, provider.files = {}, {}
        build(builds, folder, "--batch", code=EXIT_WAITING)
        provider.answer_batches()

        died = builds.run(folder, "build", "one", "--batch", die_at=step)
        killed += died.code == -signal.SIGKILL
        assert_verified(folder)
        run_to_the_end(builds, folder, provider)

        assert_each_call_is_paid_once(folder, provider)
        assert len(read_attempts(folder)) == CALLS
        assert len(list(folder.glob(f"data/batches/*/{FINISHED}"))) == 1
        if died.code != -signal.SIGKILL:
            break
    assert killed > 5


def test_a_kill_after_a_refusal_submits_nothing_twice(builds, tmp_path_factory, provider):
    """From the refusal on its calls may go into another batch; then the refused one is never to be created."""
    killed = 0
    for step in range(1, MOST_STEPS):
        folder = tmp_path_factory.mktemp(f"refused-{step}")
        write_paid_config(folder, provider.api_base, cohorts={"one": CALLS})
        provider.batches, provider.files, provider.refuse = {}, {}, {"create": 400}

        died = builds.run(folder, "build", "one", "--batch", die_at=FIRST_STEP_AFTER_UPLOAD + step)
        killed += died.code == -signal.SIGKILL
        provider.refuse = {}
        run_to_the_end(builds, folder, provider)

        assert_each_call_is_paid_once(folder, provider)
        if died.code != -signal.SIGKILL:
            break
    assert killed > 3


@pytest.mark.parametrize("step", ["upload", "create"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_while_the_provider_works_submits_nothing_twice(builds, folder, provider, step, moment):
    def kill(found: str) -> None:
        if found == step and not killed:
            (intent,) = folder.glob(f"data/batches/*/{INTENT}")
            pid = json.loads(next(folder.glob("data/calls/*/*/*/request.json")).read_bytes())["pid"]
            assert (intent.parent / REQUESTS).exists()
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    killed: list[int] = []
    setattr(provider, moment, kill)
    died = builds.run(folder, "build", "one", "--batch")
    run_to_the_end(builds, folder, provider)

    assert (died.code, len(killed)) == (-signal.SIGKILL, 1)
    assert_each_call_is_paid_once(folder, provider)


# Money


def test_a_batch_costs_what_its_discount_leaves(builds, folder, provider):
    change_config(folder, "models.toml", "input_usd", "batch_discount = 0.5\ninput_usd")
    build(builds, folder, "--batch", code=EXIT_WAITING)
    provider.answer_batches()
    done = build(builds, folder, "--batch", code=0).result

    usage = builds.run(folder, "usage").result["total"]
    (request, _), *_ = read_attempts(folder)
    assert done["cost_usd"] == pytest.approx(CALLS * ANSWER_USD / 2)
    assert usage["cost_usd"] == pytest.approx(CALLS * ANSWER_USD / 2)
    assert request["price"]["source"] == "settings, batch"


def test_a_budget_is_reserved_before_a_batch_is_submitted_and_holds_across_runs(builds, folder, provider):
    reserve = ((len("one: Idea-00 and Idea-01") + 64) * INPUT_USD + 20 * OUTPUT_USD) / 1_000_000
    budget = ["--batch", "--budget-usd", str(1.5 * reserve)]

    first = build(builds, folder, *budget, code=EXIT_WAITING).result
    second = build(builds, folder, *budget, code=EXIT_WAITING).result
    provider.answer_batches()
    third = build(builds, folder, *budget, code=EXIT_WAITING).result

    assert (first["batches"]["submitted"], second["batches"]["submitted"], third["batches"]["submitted"]) == (1, 0, 1)
    assert first["budget"]["reached"]
    assert first["budget"]["spent_usd"] == second["budget"]["spent_usd"] == pytest.approx(reserve)
    assert first["budget"]["left"]["calls"] == 1
    assert third["budget"]["spent_usd"] == pytest.approx(ANSWER_USD + reserve)


def test_a_call_that_cannot_be_written_is_a_failed_attempt_and_the_others_are_submitted(builds, folder, provider):
    with (folder / "config" / "models.toml").open("a") as models:
        models.write(
            '\n[strange]\nmodel = "openai/loopback"\nmax_tokens = 20\nendpoint = "here"\n'
            f'api_base = "{provider.api_base}"\napi_key_env = "NO_SUCH_KEY"\n'
        )
    change_config(folder, "cohorts/one.toml", 'models = ["paid"]', 'models = ["paid", "strange"]')
    change_config(folder, "models.toml", "[strange]", "[strange]\nseed = 1")

    result = build(builds, folder, "--batch", code=EXIT_WAITING).result

    reasons = Counter(outcome["reason"] for _, outcome in read_attempts(folder) if outcome)
    assert result["batches"]["submitted"] == CALLS
    assert reasons == {"auth": CALLS}


def test_a_plan_does_not_count_what_is_in_a_batch(builds, folder, provider):
    build(builds, folder, "--batch", code=EXIT_WAITING)

    assert builds.run(folder, "plan", "one").result["total"]["calls"] == 0


def test_the_order_of_the_records_of_a_batch(builds, folder, provider):
    """Each file is on disk before the next step: when the provider hears of a step, what comes before it is there."""
    seen: dict[str, list[str]] = {}

    def look(step: str) -> None:
        (batch,) = folder.glob("data/batches/*")
        seen[step] = sorted(path.name for path in batch.iterdir())

    provider.before = look
    provider.after = lambda step: provider.answer_batches() if step == "create" else None
    build(builds, folder, "--batch", code=EXIT_WAITING)
    build(builds, folder, "--batch", code=0)

    prepared = ["batch.json", "requests.jsonl"]
    assert seen["upload"] == prepared
    assert seen["create"] == ["asked.json", prepared[0], "file.json", prepared[1]]
    assert seen["read"] == sorted([*seen["create"], "submitted.json"])
    assert DataRoot(folder / "data").batches.list_unfinished() == []


def test_the_completion_of_the_test_server_is_what_costs_are_counted_from():
    usage = make_completion("x")["usage"]

    assert (usage["prompt_tokens"] * INPUT_USD + usage["completion_tokens"] * OUTPUT_USD) / 1e6 == ANSWER_USD
