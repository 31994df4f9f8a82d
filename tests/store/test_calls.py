"""Every request and every byte of an answer is kept, in order, whatever happens next."""

from __future__ import annotations

import json

import pytest

from store.calls import CallLedger, call_id_of
from store.data_root import DataRoot
from store.errors import CallInvalid, NameInvalid

CALL_ID = "0123456789abcdef"
REQUEST = {"messages": [{"role": "user", "content": "Grüße"}], "model": "m", "replicate": 1}


@pytest.fixture
def ledger(tmp_path) -> CallLedger:
    return DataRoot(tmp_path).calls


def test_a_call_id_is_pinned():
    assert call_id_of(REQUEST) == "3vcp8ose54ferq5n"


def test_any_change_of_a_request_makes_another_call():
    changed = [{**REQUEST, "model": "n"}, {**REQUEST, "replicate": 2}, {**REQUEST, "params": {}}]

    assert len({call_id_of(request) for request in [REQUEST, *changed]}) == 4


def test_a_request_is_on_disk_before_anything_is_asked(ledger):
    attempt = ledger.begin(CALL_ID, REQUEST)

    record = json.loads((ledger.root / "01" / CALL_ID / "0001" / "request.json").read_bytes())
    assert record == {**REQUEST, "schema": 1, "call_id": CALL_ID, "attempt": 1}
    assert attempt.folder == ledger.root / "01" / CALL_ID / "0001"


def test_the_answers_bytes_are_kept_exactly_and_before_the_outcome(ledger):
    attempt = ledger.begin(CALL_ID, REQUEST)
    attempt.keep(b"\xff\xfe{cut")
    attempt.keep(b"\r\n\x00")

    assert (attempt.folder / "response.bin").read_bytes() == b"\xff\xfe{cut\r\n\x00"
    assert ledger.list_attempts(CALL_ID)[0].outcome is None
    finished = attempt.finish({"status": "gen_error"})
    assert finished.read_response() == b"\xff\xfe{cut\r\n\x00"


def test_an_outcome_with_half_a_surrogate_pair_is_kept_and_read_back(ledger):
    ledger.begin(CALL_ID, REQUEST).finish({"status": "ok", "text": "a\ud800b"})

    assert ledger.find_answer(CALL_ID).outcome["text"] == "a\ud800b"


def test_attempts_are_listed_in_order_and_the_first_good_one_answers(ledger):
    for status in ("gen_error", "truncated", "ok", "ok"):
        ledger.begin(CALL_ID, REQUEST).finish({"status": status})
    ledger.begin(CALL_ID, REQUEST)

    assert [attempt.status for attempt in ledger.list_attempts(CALL_ID)] == ["gen_error", "truncated", "ok", "ok", None]
    assert ledger.find_answer(CALL_ID).number == 3


def test_a_call_that_was_never_tried_has_no_attempts(ledger):
    assert ledger.list_attempts(CALL_ID) == []
    assert ledger.find_answer(CALL_ID) is None
    assert list(ledger.walk()) == []


def test_an_answer_without_an_outcome_can_be_closed_later(ledger):
    attempt = ledger.begin(CALL_ID, REQUEST)
    attempt.keep(b"whole answer")
    attempt.seal()
    (left,) = ledger.list_attempts(CALL_ID)

    ledger.close_attempt(left, {"status": "ok"})

    assert ledger.find_answer(CALL_ID).read_response() == b"whole answer"


def test_an_outcome_is_never_written_over(ledger):
    attempt = ledger.begin(CALL_ID, REQUEST)
    attempt.finish({"status": "ok", "text": "first"})

    (left,) = ledger.list_attempts(CALL_ID)
    again = ledger.close_attempt(left, {"status": "gen_error"})

    assert (again.status, again.outcome["text"]) == ("ok", "first")


def test_altered_bytes_of_an_answer_are_noticed(ledger):
    attempt = ledger.begin(CALL_ID, REQUEST)
    attempt.keep(b"answer")
    finished = attempt.finish({"status": "ok"})
    (attempt.folder / "response.bin").chmod(0o644)
    (attempt.folder / "response.bin").write_bytes(b"Answer")

    with pytest.raises(CallInvalid, match="does not match its recorded hash"):
        finished.read_response()


def test_an_outcome_that_cannot_be_read_raises_and_is_not_taken_for_an_unfinished_attempt(ledger):
    attempt = ledger.begin(CALL_ID, REQUEST)
    attempt.finish({"status": "ok"})
    (attempt.folder / "outcome.json").chmod(0o644)
    (attempt.folder / "outcome.json").write_bytes(b"{")

    with pytest.raises(CallInvalid) as caught:
        ledger.find_answer(CALL_ID)

    assert (caught.value.call_id, caught.value.attempt) == (CALL_ID, "1")


def test_two_attempts_at_once_get_two_numbers(ledger):
    first, second = ledger.begin(CALL_ID, REQUEST), ledger.begin(CALL_ID, REQUEST)

    assert (first.number, second.number) == (1, 2)


@pytest.mark.parametrize("call_id", ["../x", "", "ABCDEF0123456789"])
def test_no_path_can_be_built_from_anything_but_a_call_id(call_id, ledger):
    with pytest.raises(NameInvalid):
        ledger.begin(call_id, REQUEST)


def test_a_walk_lists_every_call(ledger):
    for call_id in ("f" * 16, "0" * 16):
        ledger.begin(call_id, REQUEST)

    assert list(ledger.walk()) == ["0" * 16, "f" * 16]
