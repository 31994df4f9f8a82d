"""The folder of a batch: each record once, durably, and what is not finished is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.batches import ASKED, FINISHED, INTENT, REQUESTS, BatchStore
from store.errors import BatchInvalid, NameInvalid
from tests.store.recorder import record_system_calls

ONE, TWO = "a" * 16, "b" * 16


@pytest.fixture
def store(tmp_path: Path) -> BatchStore:
    return BatchStore(tmp_path / "batches", temporary_folder=tmp_path / ".tmp")


def test_unfinished_batches_come_in_the_order_they_were_made(store: BatchStore) -> None:
    store.record(ONE, INTENT, {"created_at": "2026-10-02"})
    store.record(TWO, INTENT, {"created_at": "2026-10-01"})
    before = store.list_unfinished()
    store.record(TWO, FINISHED, {})

    assert before == [TWO, ONE]
    assert store.list_unfinished() == [ONE]


def test_a_record_that_is_there_stays_unless_it_is_to_be_replaced(store: BatchStore) -> None:
    store.record(ONE, ASKED, {"asked_at": "first"})
    store.record(ONE, ASKED, {"asked_at": "second"})
    kept = store.get_record(ONE, ASKED)
    store.record(ONE, ASKED, {"asked_at": "third"}, replace=True)

    assert kept == {"asked_at": "first"}
    assert store.get_record(ONE, ASKED) == {"asked_at": "third"}


def test_what_has_not_come_is_none_or_an_error_where_it_has_to_be_there(store: BatchStore) -> None:
    assert store.find_record(ONE, INTENT) is None
    assert store.find_content(ONE, REQUESTS) is None
    assert store.list_unfinished() == []
    with pytest.raises(BatchInvalid, match=r"it has no batch\.json"):
        store.get_record(ONE, INTENT)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_record_that_cannot_be_read_is_an_error(store: BatchStore, content: bytes) -> None:
    store.keep(ONE, INTENT, content)

    with pytest.raises(BatchInvalid, match=r"batch\.json"):
        store.find_record(ONE, INTENT)


def test_the_name_of_a_batch_is_no_path(store: BatchStore) -> None:
    with pytest.raises(NameInvalid):
        store.record("../../elsewhere", INTENT, {})


def test_a_record_and_its_name_are_flushed(store: BatchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with record_system_calls(monkeypatch) as events:
        store.record(ONE, INTENT, {"created_at": "now"})

    names = [event.name for event in events]
    renamed = max(index for index, name in enumerate(names) if name == "rename")
    assert {"fsync", "syncfs"} & set(names[:renamed])
    assert {"fsync", "syncfs"} & set(names[renamed:])
