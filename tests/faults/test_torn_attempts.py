"""What a power cut can leave of an attempt, and that everything which reads the ledger copes with it."""

from __future__ import annotations

import resource

import pytest

from pipeline.budgets import count_spent
from pipeline.diagnosis import diagnose
from pipeline.gateway import Call
from pipeline.making import build_call, render
from pipeline.stages import Stage, Status
from pipeline.usage import describe_usage
from store.calls import call_id_of
from store.errors import CallInvalid
from tests.faults.children import run_child
from tests.pipeline.test_making import COHORT, list_attempts, make, plan_of, workspace  # noqa: F401

REQUEST = b'{\n  "attempt": 1,\n  "messages": [],\n  "price": {\n    "usd": 1\n  }\n}\n'

TORN = {
    "no request": {},
    "an empty request": {"request.json": b""},
    "half a request": {"request.json": REQUEST[:30]},
    "a request cut behind an inner brace": {"request.json": REQUEST[:-3]},
    "a request of zeros": {"request.json": b"\0" * len(REQUEST)},
}


@pytest.fixture(params=TORN)
def torn(request, workspace):  # noqa: F811
    """A workspace whose draft's call has an attempt that a power cut has torn."""
    plan = plan_of(workspace, Stage.DRAFT)
    call: Call = build_call(plan, render(plan, None))
    folder = workspace.data.calls.folder_of(call_id_of(call.as_identity())) / "0001"
    folder.mkdir(parents=True)
    for name, content in TORN[request.param].items():
        (folder / name).write_bytes(content)
    return workspace


def test_it_is_no_attempt_and_costs_nothing(torn):
    plan = plan_of(torn, Stage.DRAFT)

    assert list_attempts(torn) == []
    assert describe_usage(torn.data, "model")["total"]["attempts"] == 0
    assert count_spent(torn.data, torn.plan(COHORT)).tokens == 0
    assert diagnose(torn.data, plan).status is None


def test_the_call_is_asked_and_the_torn_folder_is_left_as_it_is(torn, provider):
    make(torn, plan_of(torn, Stage.DRAFT))

    assert len(provider.requests) == 1
    (attempt,) = list_attempts(torn)
    assert (attempt.number, attempt.status) == (2, "ok")
    assert (attempt.folder.parent / "0001").is_dir()


@pytest.mark.parametrize("response", [b"", b'{"choices": [{"mess'])
def test_an_answer_of_which_little_was_on_disk_is_asked_for_again_and_kept(response, workspace, provider):  # noqa: F811
    plan = plan_of(workspace, Stage.DRAFT)
    call = build_call(plan, render(plan, None))
    attempt = workspace.data.calls.begin(
        call_id_of(call.as_identity()),
        {**call.as_inputs(), "run_id": "killed", "asked_at": "2026-11-21T10:00:00.000000Z"},
    )
    (attempt.folder / "response.bin").write_bytes(response)

    assert diagnose(workspace.data, plan).status in (None, Status.GEN_ERROR)
    assert describe_usage(workspace.data, "model")["total"]["attempts"] == 1
    make(workspace, plan)

    assert len(provider.requests) == 1
    assert (attempt.folder / "response.bin").read_bytes() == response
    assert [found.status for found in list_attempts(workspace)] == [None, "ok"]


def test_a_whole_request_whose_bytes_were_altered_is_damage_and_not_a_torn_one(workspace):  # noqa: F811
    plan = plan_of(workspace, Stage.DRAFT)
    call_id = call_id_of(build_call(plan, render(plan, None)).as_identity())
    attempt = workspace.data.calls.begin(call_id, {"messages": []})
    path = attempt.folder / "request.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b":", b";", 1))

    (found,) = workspace.data.calls.list_attempts(call_id)
    with pytest.raises(CallInvalid):
        found.read_request()


def test_a_process_without_memory_keeps_what_had_come_and_another_goes_on(workspace, provider):  # noqa: F811
    plan = plan_of(workspace, Stage.DRAFT)

    def ask(call, transport, *, keep):
        keep(b'{"choices": [')
        return bytearray(1 << 34)

    def work(tell) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 33), used + (1 << 33)))
        try:
            make(workspace, plan, ask=ask)
        except MemoryError:
            tell("no memory")

    assert run_child(work).acknowledged == ["no memory"]
    assert provider.requests == []
    make(workspace, plan)

    first, second = list_attempts(workspace)
    assert (first.outcome, first.read_response()) == (None, b'{"choices": [')
    assert second.status == "ok"
