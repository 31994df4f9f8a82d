"""What was tried for a document is told in order, and another replicate is one more document."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from pipeline.errors import DocumentFailed, InputInvalid, UnknownName
from pipeline.history import list_attempts, read_log
from pipeline.making import make_document
from pipeline.printing import format_attempts
from pipeline.rerolling import reroll
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.journal import encode_record
from tests.pipeline.test_making import COHORT as TRIAL
from tests.pipeline.test_making import workspace  # noqa: F401
from tests.pipeline.whole_store import COHORT, find_folder, make_store, reopen
from tests.provider_server import Reply

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_all_attempts_of_a_document_are_told_in_order_with_the_one_that_was_used(workspace, provider):  # noqa: F811
    replies = iter([Reply(503), Reply(503)])
    usual = provider.reply
    provider.reply = lambda request: next(replies, None) or usual(request)
    workspace.write_tables(TRIAL)
    (plan,) = workspace.plan(TRIAL).rows[Stage.DRAFT]
    document = make_document(workspace.maker, plan, cohort=TRIAL)

    told = list_attempts(workspace, plan.doc_id[:8])

    assert (told["stage"], told["doc_id"], told["call_id"]) == ("draft", plan.doc_id, document.metadata["call_id"])
    assert [one["attempt"] for one in told["attempts"]] == [1, 2, 3]
    assert [one["status"] for one in told["attempts"]] == ["gen_error", "gen_error", "ok"]
    assert [one["used"] for one in told["attempts"]] == [False, False, True]
    assert told["attempts"][0]["reason"].startswith("transport: ")
    assert told["attempts"][2]["prompt_tokens"] == 11
    assert {one["run_id"] for one in told["attempts"]} == {workspace.maker.run_id}


def test_the_attempts_of_a_document_that_is_not_there_are_told_too(workspace, provider):  # noqa: F811
    provider.reply = lambda _: Reply(400)
    workspace.write_tables(TRIAL)
    (plan,) = workspace.plan(TRIAL).rows[Stage.DRAFT]
    with pytest.raises(Exception, match="gen_error"):
        make_document(workspace.maker, plan, cohort=TRIAL)

    told = list_attempts(workspace, plan.doc_id)

    assert [(attempt["status"], attempt["used"]) for attempt in told["attempts"]] == [("gen_error", False)]
    assert told["status"] == "gen_error"


def test_an_answer_from_which_no_document_followed_is_told_as_that(workspace):  # noqa: F811
    """The attempt is ok, since it was answered; the document is not."""
    (workspace.roots.config / "templates" / "evaluation" / "judge.txt").write_text("Judge: {{ response }}")
    workspace.write_tables(TRIAL)
    for plan in workspace.plan(TRIAL).walk():
        with suppress(DocumentFailed):
            make_document(workspace.maker, plan, cohort=TRIAL)

    told = list_attempts(workspace, workspace.plan(TRIAL).rows[Stage.EVALUATION][0].doc_id)

    assert [attempt["status"] for attempt in told["attempts"]] == ["ok"]
    assert told["status"] == "parse_error"
    assert "The document is not there: parse_error: " in format_attempts(told)


def test_a_copy_has_no_attempts_and_an_unknown_name_is_said(tmp_path):
    store = make_store(tmp_path)

    assert list_attempts(store, find_folder(store, Stage.ESSAY, "same").name)["call_id"] is None
    with pytest.raises(UnknownName):
        list_attempts(store, "zzzzzzzzzzzzzzzz")


def test_the_log_tells_what_happened_in_order_and_since_when(tmp_path):
    store = make_store(tmp_path)

    records = read_log(store.data)

    assert [record["at"] for record in records] == sorted(record["at"] for record in records)
    events = [record["event"] for record in records]
    assert (events.count("attempted"), events.count("committed")) == (store_calls(store), 11)
    assert read_log(store.data, since=records[5]["at"]) == records[5:]
    assert read_log(store.data, since="1d") == records
    assert read_log(store.data, since="2999-01-01") == []


def store_calls(store: Workspace) -> int:
    return len(list(store.data.calls.walk()))


@pytest.mark.parametrize(
    ("since", "is_told"),
    [("90s", True), ("30s", False), ("2w", True), ("2026-11-21T11:59", True), ("2026-11-21T13:00+01:00", False)],
)
def test_since_is_an_age_or_a_time_in_utc(tmp_path, since, is_told):
    data = DataRoot(tmp_path)
    data.journal.folder.mkdir(parents=True)
    record = encode_record({"event": "committed", "at": "2026-11-21T11:59:00.000000Z"})
    (data.journal.folder / "a.journal").write_bytes(record)

    assert bool(read_log(data, since=since, now=NOW)) is is_told


@pytest.mark.parametrize("since", ["yesterday", "3x", "-1d", "99999999999w"])
def test_a_since_that_is_no_time_is_refused(tmp_path, since):
    store = make_store(tmp_path)

    with pytest.raises(InputInvalid, match="is no time"):
        read_log(store.data, since=since)


def test_a_reroll_makes_the_next_replicate_and_a_cohort_that_asks_for_it_has_it(tmp_path):
    store = make_store(tmp_path)
    draft = find_folder(store, Stage.DRAFT, "tide")

    second, third = (reroll(reopen(store), draft.name[:8]) for _ in range(2))

    assert (second["replicate"], third["replicate"]) == (2, 3)
    assert second["task_id"] == "tide__synthesis__small__2"
    assert store.data.documents.read_deeply("draft", second["doc_id"]).metadata["replicate"] == 2
    spec = store.roots.config / "cohorts" / "first.toml"
    spec.write_text(spec.read_text().replace("[draft]\n", "[draft]\nreplicates = 3\n"))
    planned = {row.doc_id for row in reopen(store).plan(COHORT).rows[Stage.DRAFT]}
    assert {second["doc_id"], third["doc_id"]} <= planned


def test_what_asks_no_model_cannot_be_rerolled(tmp_path):
    store = make_store(tmp_path)
    (report,) = (store.data.documents.root / "report").glob("[0-9a-z]*")

    for name in (find_folder(store, Stage.ESSAY, "same").name, report.name):
        with pytest.raises(InputInvalid, match="asks no model"):
            reroll(store, name)
