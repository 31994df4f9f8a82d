"""What is thrown away lies whole in its place or whole in the trash, and comes back as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.data_root import DataRoot
from store.errors import NameInvalid, TrashInvalid
from tests.store.killed import is_killed_at

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
IDS = ["a" * 16, "b" * 16]
FOLDERS = [f"docs/essay/{doc_id}" for doc_id in IDS]
FILES = {"raw.txt": b"an answer", "extras/a.csv": b"1,2"}


def make_data(folder: Path) -> DataRoot:
    data = DataRoot(folder)
    for doc_id in IDS:
        data.documents.commit("essay", doc_id, FILES, {"digest": "1" * 64, "inputs": {}})
    return data


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return make_data(tmp_path)


def throw_away(data: DataRoot, folders: list[str] = FOLDERS, now: datetime = NOW):
    return data.trash.throw_away(folders, reason="a test", now=now)


def test_what_was_thrown_away_is_gone_and_comes_back_as_it_was(data):
    entry = throw_away(data)
    gone = data.documents.list_ids("essay")
    restored = data.trash.restore(data.trash.read_entry(entry.entry_id))

    assert gone == []
    assert restored.back == FOLDERS[::-1]
    assert [data.documents.read_deeply("essay", doc_id).read_bytes("raw.txt") for doc_id in IDS] == [b"an answer"] * 2
    assert data.trash.list_entries() == []


def test_an_entry_says_when_why_and_what(data):
    entry = throw_away(data)

    (found,) = data.trash.list_entries()

    assert (found.reason, found.folders, found.thrown_at) == ("a test", tuple(FOLDERS), NOW)
    assert found.entry_id.startswith("20260131T120000.")
    assert found.list_present() == list(entry.folders)


def test_entries_are_in_the_order_of_time_within_a_second(data):
    later = NOW.replace(microsecond=5)
    entries = [throw_away(data, FOLDERS[:1], now=later), throw_away(data, FOLDERS[1:], now=NOW)]

    assert [entry.entry_id for entry in data.trash.list_entries()] == [entries[1].entry_id, entries[0].entry_id]


def test_what_meets_another_document_stays_in_the_trash(data):
    entry = throw_away(data)
    data.documents.commit("essay", IDS[0], {"raw.txt": b"another"}, {"digest": "1" * 64, "inputs": {}})

    restored = data.trash.restore(entry)

    assert restored == ([FOLDERS[1]], [FOLDERS[0]])
    assert data.documents.read_deeply("essay", IDS[0]).read_bytes("raw.txt") == b"another"
    assert (entry.folder / FOLDERS[0] / "raw.txt").read_bytes() == b"an answer"


def test_only_what_may_be_deleted_is_deleted(data):
    entry = throw_away(data)

    deleted = data.trash.delete(entry, lambda name: name == FOLDERS[0])

    assert deleted == FOLDERS[:1]
    assert data.trash.read_entry(entry.entry_id).list_present() == FOLDERS[1:]
    assert list((data.trash.root / ".deleting").iterdir()) == []


@pytest.mark.parametrize("name", ["docs/../../x", "/etc/passwd", "tasks/first", "docs/essay/short", ".tmp"])
def test_nothing_but_a_document_or_a_call_can_be_thrown_away(name, data):
    with pytest.raises(NameInvalid):
        throw_away(data, [name])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema": 2}', b'{"schema": 1, "folders": ["../x"], "reason": ""}'])
def test_an_entry_whose_record_is_damaged_is_named_and_left_alone(content, data):
    entry = throw_away(data)
    (entry.folder / "entry.json").chmod(0o644)
    (entry.folder / "entry.json").write_bytes(content)

    with pytest.raises(TrashInvalid, match=entry.entry_id):
        data.trash.list_entries()
    assert (entry.folder / FOLDERS[0] / "raw.txt").exists()


def test_a_throwing_away_that_is_killed_anywhere_leaves_each_folder_whole_and_can_be_undone(tmp_path):
    number = 0
    while True:
        data = make_data(tmp_path / str(number))
        was_killed = is_killed_at(number, lambda data=data: throw_away(data))
        places = [data.path, *(entry.folder for entry in data.trash.list_entries())]

        for folder in FOLDERS:
            (found,) = [place / folder for place in places if (place / folder).exists()]
            assert (found / "raw.txt").read_bytes() == b"an answer"
        for entry in data.trash.list_entries():
            data.trash.restore(entry)
        assert data.documents.list_ids("essay") == IDS

        number += 1
        if not was_killed:
            break
    assert number > 5


def test_a_deletion_that_is_killed_anywhere_never_lets_half_a_document_come_back(tmp_path):
    number = 0
    while True:
        data = make_data(tmp_path / str(number))
        entry = throw_away(data)
        was_killed = is_killed_at(number, lambda data=data, entry=entry: data.trash.delete(entry, lambda _: True))

        for left in data.trash.list_entries():
            data.trash.restore(left)
        for doc_id in data.documents.list_ids("essay"):
            data.documents.read_deeply("essay", doc_id)
        data.trash.finish_deleting()
        assert not (data.trash.root / ".deleting").exists() or not list((data.trash.root / ".deleting").iterdir())

        number += 1
        if not was_killed:
            break
    assert number > 5
