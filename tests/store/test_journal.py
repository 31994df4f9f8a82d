"""The journal tells what happened, wherever a crash has cut it, and never what did not."""

from __future__ import annotations

import errno
import json
import os
import threading

import pytest

from store.data_root import DataRoot
from store.errors import WriteFailed
from store.identity import hash_bytes
from store.journal import Event, Journal, encode_record, list_expected, read_records

DOC_ID = "0123456789abcdef"
CALL_ID = "fedcba9876543210"
FILES = {"parsed.txt": b"text"}


def write_journal(folder, count: int) -> Journal:
    journal = Journal(folder)
    for number in range(count):
        journal.append(Event.COMMITTED, stage="draft", doc_id=f"{number:016d}", content_id="c" * 8)
    return journal


def numbers_of(records) -> list[int]:
    return [int(record.facts["doc_id"]) for record in records]


def test_a_cut_at_any_byte_gives_the_records_before_it_and_no_wrong_one(tmp_path):
    (path,) = write_journal(tmp_path / "journal", 3).list_paths()
    content = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    cut = tmp_path / "cut.journal"

    for size in range(len(content) + 1):
        cut.write_bytes(content[:size])
        records, gaps = read_records(cut)
        whole = sum(end - 1 <= size for end in ends)  # the line end itself may be missing
        assert numbers_of(records) == list(range(whole))
        assert [gap.is_tail for gap in gaps] == (
            [True] if size > 0 and size not in {*ends, *(e - 1 for e in ends)} else []
        )


def test_a_record_after_a_torn_one_is_read_wherever_the_first_was_cut(tmp_path):
    first, second = (encode_record({"event": "committed", "at": "t", "doc_id": f"{n}"}) for n in (1, 2))
    path = tmp_path / "torn.journal"

    for size in range(1, len(first) - 1):
        path.write_bytes(first[:size] + second)
        records, gaps = read_records(path)
        assert numbers_of(records) == [2]
        assert [(gap.offset, gap.size_bytes, gap.is_tail) for gap in gaps] == [(0, size, False)]
    path.write_bytes(first[:-1] + second)  # only the line end was cut off
    records, gaps = read_records(path)
    assert (numbers_of(records), gaps) == ([1, 2], [])


def test_what_a_slow_clock_records_follows_what_a_fast_one_did(tmp_path):
    """The order of what happened decides what should be there: a document that was removed is not missed."""
    fast = {"event": "committed", "at": "2999-01-01T00:00:00.000000Z", "stage": "draft", "doc_id": "1", "n": 1}
    (tmp_path / "29990101T000000-fast-1-00000000.journal").write_bytes(encode_record(fast))
    names = {"stage": "draft", "doc_id": "1"}

    Journal(tmp_path).append(Event.REMOVED, **names)
    removed = list_expected(Journal(tmp_path).read()[0])
    Journal(tmp_path).append(Event.COMMITTED, **names, n=2)
    made_again = list_expected(Journal(tmp_path).read()[0])

    assert removed == {}
    assert [record.facts["n"] for record in made_again.values()] == [2]
    assert [record.at < "2999" for record in Journal(tmp_path).read()[0]] == [False, True, True]


def test_a_flipped_bit_takes_one_record_and_no_other(tmp_path):
    (path,) = write_journal(tmp_path / "journal", 3).list_paths()
    content = path.read_bytes()
    flipped = tmp_path / "flipped.journal"
    second = range(content.index(b"\n") + 1, content.index(b"\n", content.index(b"\n") + 1))

    for position in second:
        for bit in (0, 5):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            flipped.write_bytes(damaged)
            records, gaps = read_records(flipped)
            assert numbers_of(records) == [0, 2]
            assert len(gaps) == 1


def test_a_record_quoted_within_a_torn_one_is_not_believed(tmp_path):
    quoted = encode_record({"event": "committed", "at": "t", "doc_id": "9"}).decode()
    outer = encode_record({"event": "attempted", "at": "t", "reason": quoted})
    path = tmp_path / "quoted.journal"

    path.write_bytes(outer[:-5])

    assert read_records(path)[0] == []


def test_threads_append_whole_records_to_one_file(tmp_path):
    journal = Journal(tmp_path / "journal")

    def append(thread: int) -> None:
        for number in range(50):
            journal.append(Event.COMMITTED, stage="draft", doc_id=f"{thread * 50 + number}")

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    records, gaps = journal.read()
    assert sorted(numbers_of(records)) == list(range(400))
    assert gaps == []
    assert len(journal.list_paths()) == 1


def test_a_forked_child_writes_a_file_of_its_own(tmp_path):
    journal = write_journal(tmp_path / "journal", 1)

    child = os.fork()
    if child == 0:
        journal.append(Event.COMMITTED, stage="draft", doc_id="7")
        os._exit(0)
    os.waitpid(child, 0)
    journal.append(Event.COMMITTED, stage="draft", doc_id="8")

    paths = journal.list_paths()
    assert len(paths) == 2
    assert sorted(numbers_of(journal.read()[0])) == [0, 7, 8]


def test_after_the_disk_has_refused_a_flush_nothing_more_goes_into_that_file(tmp_path, monkeypatch):
    journal = write_journal(tmp_path / "journal", 1)
    flushed: list[int] = []

    def refuse(descriptor: int) -> None:
        flushed.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(WriteFailed, match="EIO"):
            journal.append(Event.COMMITTED, stage="draft", doc_id="1")
    journal.append(Event.COMMITTED, stage="draft", doc_id="2")

    assert len(flushed) == 1  # a second flush would report success and have lost the bytes
    assert len(journal.list_paths()) == 2
    assert 2 in numbers_of(journal.read()[0])


def test_a_commit_and_its_loser_are_recorded_with_what_they_hold(tmp_path):
    data = DataRoot(tmp_path)
    metadata = {"digest": "0" * 64, "call_id": CALL_ID, "attempt": 2, "run_id": "run-1"}

    document = data.documents.commit("draft", DOC_ID, FILES, metadata)
    data.documents.commit("draft", DOC_ID, {"parsed.txt": b"other"}, metadata)

    committed, superseded, again = data.journal.read()[0]
    assert (committed.event, superseded.event) == ("committed", "superseded")
    assert again.facts == committed.facts  # the one that came second cannot know that it was told
    own = {"stage": "draft", "doc_id": DOC_ID, "call_id": CALL_ID, "attempt": 2, "run_id": "run-1"}
    record = hash_bytes((document.folder / "metadata.json").read_bytes())
    assert committed.facts == {**own, "content_id": document.content_id, "metadata_blake3": record}
    assert superseded.facts["content_id"] != document.content_id
    assert (tmp_path / "quarantine" / "superseded" / "draft" / superseded.facts["kept"]).is_dir()


def test_a_finished_attempt_is_recorded_with_the_hashes_of_its_files(tmp_path):
    data = DataRoot(tmp_path)
    attempt = data.calls.begin(CALL_ID, {"messages": []})
    attempt.keep(b"answer")
    attempt.finish({"status": "ok", "reason": None, "cost": {"usd": 0.5}, "run_id": "run-1"})

    (record,) = data.journal.read()[0]

    assert record.event == "attempted"
    assert {key: record.facts[key] for key in ("call_id", "attempt", "status", "usd")} == {
        "call_id": CALL_ID,
        "attempt": 1,
        "status": "ok",
        "usd": 0.5,
    }
    assert record.facts["files"].keys() == {"request.json", "response.bin", "outcome.json"}


def test_what_was_taken_away_is_not_expected(tmp_path):
    journal = write_journal(tmp_path / "journal", 3)
    journal.append(Event.QUARANTINED, stage="draft", doc_id=f"{1:016d}")
    journal.append(Event.REMOVED, stage="draft", doc_id=f"{2:016d}")
    journal.append(Event.COMMITTED, stage="draft", doc_id=f"{2:016d}", content_id="d")

    expected = list_expected(journal.read()[0])

    assert [int(doc_id) for _, doc_id in expected] == [0, 2]
    assert expected["draft", f"{2:016d}"].facts["content_id"] == "d"


def test_a_record_is_one_line_of_ascii(tmp_path):
    record = encode_record({"event": "attempted", "at": "t", "reason": "Grüße\n\x00\ud800"})

    assert record.count(b"\n") == 1
    assert record.isascii()
    assert json.loads(record.split(b" ", 2)[2])["reason"] == "Grüße\n\x00\ud800"
