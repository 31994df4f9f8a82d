"""Bytes first, then conversations; what fails, fails alone; a second import does nothing."""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.archive import exports, importing
from pipeline.archive.catalogue import read_catalogue
from pipeline.archive.conversation_documents import Facts
from pipeline.archive.coverage import SHOWN_FILES, Coverage, FileCoverage, SetCoverage, format_coverage
from pipeline.archive.exports import keep_file, keep_set, list_sets
from pipeline.archive.importers.interface import Member, Parsed, Record, Skip
from pipeline.archive.importing import import_again, import_paths
from pipeline.archive.record_tables import RecordRow, RecordTable, read_table, write_table
from pipeline.spreadsheets import FORMULA_START, guard_text, unguard_text
from store.data_root import DataRoot
from store.documents import DocumentStore
from store.errors import DocumentCorrupt, WriteFailed
from tests.archive.notebooks import NotebookImporter, notebook


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return DataRoot(tmp_path / "data")


@pytest.fixture
def importer() -> NotebookImporter:
    return NotebookImporter()


def write(path: Path, *notebooks: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebooks))
    return str(path)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def totals(coverage: Coverage) -> tuple[int, int, int, int]:
    counted = coverage.as_json()["totals"]
    return tuple(counted[name] for name in ("seen", "imported", "unchanged", "skipped"))  # type: ignore[return-value]


def delete_derived(data: DataRoot) -> None:
    shutil.rmtree(data.path / "docs" / "conversation")
    shutil.rmtree(data.tasks_folder)


# What an import does


class Circle:
    """An object that only the garbage collector can free."""

    itself: Circle


class CyclicImporter(NotebookImporter):
    """Leaves a circle of objects behind for each record, and tells how many of them were there at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.circles: weakref.WeakSet[Circle] = weakref.WeakSet()
        self.most = 0

    def parse(self, record: Record) -> Parsed:
        circle = Circle()
        circle.itself = circle
        self.circles.add(circle)
        self.most = max(self.most, len(self.circles))
        return super().parse(record)


def test_circles_of_objects_are_collected_while_records_are_read_and_as_before_afterwards(data, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "COLLECT_EACH", 4)
    importer = CyclicImporter()

    import_paths(
        data, [write(tmp_path / "a.json", *(notebook(f"n{number}") for number in range(40)))], importers=[importer]
    )

    assert 1 < importer.most <= 4
    assert gc.isenabled()


def test_each_record_is_a_conversation_or_a_skip_with_reason_and_place(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n1", "hello"), notebook("n2", "x", fail=True), 42)

    coverage = import_paths(data, [path], importers=[importer])

    assert totals(coverage) == (3, 1, 0, 2)
    (file,) = coverage.sets[0].files
    assert [(skip.reason, skip.place, skip.detail) for skip in file.skips] == [
        ("unreadable_record", "a.json[1]", "KeyError"),
        ("not_a_notebook", "a.json[2]", ""),
    ]
    assert len(data.documents.list_ids("conversation")) == 1


def test_a_report_holds_nothing_of_what_the_export_says(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n2", "x", fail=True))

    coverage = import_paths(data, [path], importers=[importer])

    assert "a secret" not in json.dumps(coverage.as_json()) + format_coverage(coverage.as_json())


def test_a_second_import_parses_nothing_and_writes_nothing(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n1", "hello"), notebook("n2", "x", fail=True), 42)
    import_paths(data, [path], importers=[importer])
    before, parsed = snapshot(data.path), importer.parsed

    coverage = import_paths(data, [path], importers=[importer])

    assert totals(coverage) == (3, 0, 1, 2)
    assert importer.parsed == parsed
    assert snapshot(data.path) == before


def test_equal_bytes_are_one_document_however_often_and_under_whatever_names_they_come(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n1", "hello"))
    other = shutil.copy(path, tmp_path / "b.json")

    import_paths(data, [path, other, path], importers=[importer])
    import_paths(data, [other], importers=[importer])

    contents = list((data.path / "docs" / "export").rglob("content.bin"))
    assert [path.read_bytes() for path in contents] == [Path(other).read_bytes()]
    assert len(data.documents.list_ids("conversation")) == 1


def test_a_conversation_that_a_newer_export_holds_unchanged_is_not_parsed_again(data, importer, tmp_path):
    first = write(tmp_path / "1.json", notebook("n1", "hello"), notebook("n2", "good", "morning"))
    import_paths(data, [first], importers=[importer])
    reordered = dict(reversed(notebook("n1", "hello").items()))
    second = write(tmp_path / "2.json", notebook("n3", "new"), reordered, notebook("n2", "good", "morning", "again"))

    coverage = import_paths(data, [second], importers=[importer])

    assert totals(coverage) == (3, 2, 1, 0)
    assert importer.parsed == 4


def test_a_record_twice_in_one_file_is_one_conversation(data, importer, tmp_path):
    path = write(tmp_path / "1.json", notebook("n1", "hello"), notebook("n1", "hello"))

    assert totals(import_paths(data, [path], importers=[importer])) == (2, 1, 1, 0)


def test_a_zip_a_folder_and_standard_input_are_sources(data, importer, tmp_path, monkeypatch):
    write(tmp_path / "export" / "books" / "a.json", notebook("n1", "hello"))
    (tmp_path / "export" / "owner.json").write_text('{"owner": "ann"}')
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b.json", json.dumps([notebook("n2", "hello")]))
    piped = json.dumps([notebook("n3", "hello")]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))

    coverage = import_paths(data, [str(tmp_path / "export"), str(tmp_path / "b.zip"), "-"], importers=[importer])

    assert totals(coverage) == (3, 3, 0, 0)
    assert not coverage.has_skipped
    assert {file.name for file in coverage.sets[0].files if file.is_artifact} == {"owner.json"}


def test_a_zip_with_a_damaged_file_is_kept_too_so_that_no_byte_is_lost(data, importer, tmp_path):
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", json.dumps([notebook("n1", "hello")]))
        archive.writestr("b.json", json.dumps([notebook("n2", "hello")]))
    path.write_bytes(path.read_bytes().replace(b"n1", b"n9", 1))

    coverage = import_paths(data, [str(path)], importers=[importer])
    again = import_paths(data, [str(path)], importers=[importer])

    assert totals(coverage) == (1, 1, 0, 0)
    assert [(skip.reason, skip.place) for skip in coverage.sets[0].refused] == [("damaged", "a.json")]
    assert [file.name for file in coverage.sets[0].files] == ["b.json", "export.zip"]
    assert path.read_bytes() in snapshot(data.path / "docs" / "export").values()
    assert again.sets[0].set_id == coverage.sets[0].set_id


def test_a_path_that_is_not_there_is_named_and_the_others_are_imported(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n1", "hello"))

    coverage = import_paths(data, [str(tmp_path / "none.json"), path], importers=[importer])

    assert totals(coverage) == (1, 1, 0, 0)
    assert [skip.place for skip in coverage.unread] == [str(tmp_path / "none.json")]
    assert coverage.has_skipped


@pytest.mark.parametrize("content", ["", "[]", "{ }\n", "null"])
def test_a_file_with_nothing_in_it_is_empty_and_not_unrecognised(data, importer, tmp_path, content):
    (tmp_path / "x.json").write_text(content)

    coverage = import_paths(data, [str(tmp_path / "x.json")], importers=[importer])

    (file,) = coverage.sets[0].files
    assert (file.reason, coverage.as_json()["totals"]["unrecognised"]) == ("empty", 0)


def test_a_file_that_nobody_knows_is_kept_and_named_with_its_keys(data, importer, tmp_path):
    (tmp_path / "x.json").write_text('{"colour": 1, "shape": [2]}')

    coverage = import_paths(data, [str(tmp_path / "x.json")], importers=[importer])

    (file,) = coverage.sets[0].files
    assert (file.importer, file.keys) == (None, ["colour", "shape"])
    assert coverage.as_json()["totals"]["unrecognised"] == 1
    assert coverage.has_skipped
    assert "colour, shape" in format_coverage(coverage.as_json())


def test_bytes_of_attachments_from_inside_a_record_lie_in_extras(data, importer, tmp_path):
    import_paths(data, [write(tmp_path / "a.json", notebook("n1", "hello", cover="blue"))], importers=[importer])

    (doc_id,) = data.documents.list_ids("conversation")
    assert data.documents.read_deeply("conversation", doc_id).read_bytes("extras/cover.bin") == b"blue"


def test_a_conversation_names_the_export_file_and_place_it_came_from(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n0", "x"), notebook("n1", "hello"))
    import_paths(data, [path], importers=[importer])

    ids = data.documents.list_ids("conversation")
    found = {data.documents.read("conversation", doc_id).metadata["place"]: doc_id for doc_id in ids}
    metadata = data.documents.read("conversation", found["a.json[1]"]).metadata
    (parent,) = metadata["parents"]
    assert metadata["member"] == "a.json"
    export = data.documents.read_deeply(parent["stage"], parent["doc_id"])
    assert export.read_bytes(parent["file"]) == Path(path).read_bytes()
    assert export.file_blake3(parent["file"]) == parent["blake3"]


def test_a_sum_that_does_not_match_is_an_error():
    file = FileCoverage("a.json", "x" * 16, 7, "notebooks", 1, seen=3, imported=1)
    file.add_skip(Skip("malformed_line", "line 7"))
    coverage = Coverage([SetCoverage("s" * 16, "a.json", is_new=True, refused=[], files=[file])])

    (mismatch,) = coverage.list_mismatches()
    assert "4 records were seen, but 1 imported, 0 unchanged and 1 skipped" in mismatch
    assert mismatch in format_coverage(coverage.as_json())


# Again, from what is kept


def test_what_is_deleted_comes_back_byte_for_byte(data, importer, tmp_path):
    first = write(tmp_path / "1.json", notebook("n1", "hello"), notebook("n2", "good", cover="red"))
    second = write(tmp_path / "2.json", notebook("n1", "hello"), notebook("n2", "good", "morning"))
    import_paths(data, [first], importers=[importer])
    import_paths(data, [second], importers=[importer])
    before = snapshot(data.path / "docs")

    delete_derived(data)
    import_again(data, importers=[importer])
    assert snapshot(data.path / "docs") == before

    delete_derived(data)
    import_paths(data, [second, first], importers=[importer])
    assert snapshot(data.path / "docs") == before


def test_of_many_sets_only_those_are_looked_into_that_may_lack_something(data, importer, tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{number}.json", notebook(f"n{number}", "hello")) for number in range(4)]
    import_paths(data, paths, importers=[importer])
    read: list[str] = []
    monkeypatch.setattr(
        importing, "read_table", lambda folder, set_id: read.append(set_id) or read_table(folder, set_id)
    )

    import_paths(data, paths[:1], importers=[importer])
    assert read == []

    data.trash.throw_away(
        [f"docs/conversation/{data.documents.list_ids('conversation')[0]}"], reason="rm", now=datetime.now(UTC)
    )
    assert len(import_again(data, importers=[importer]).earlier) == 1
    assert len(read) == 4


def test_a_new_version_of_a_parser_makes_only_its_own_conversations_again(data, tmp_path):
    books, logs = NotebookImporter(), NotebookImporter("logs", "logs")
    write(tmp_path / "in" / "books.json", notebook("n1", "hello"), notebook("n2", "good"))
    write(tmp_path / "in" / "logs.json", notebook("l1", "hello", kind="logs"))
    import_paths(data, [str(tmp_path / "in")], importers=[books, logs])
    shutil.rmtree(tmp_path / "in")

    newer = replace(books, version=2, parsed=0)
    coverage = import_again(data, importers=[newer, logs])

    assert (newer.parsed, logs.parsed) == (2, 1)
    (earlier,) = coverage.earlier
    assert [(file.name, file.imported, file.unchanged) for file in earlier.files] == [
        ("books.json", 2, 0),
        ("logs.json", 0, 1),
    ]
    assert import_again(data, importers=[newer, logs]).earlier == []


class Renaming(NotebookImporter):
    """Gives its notebooks other ids."""

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        for record in super().split(file, siblings):
            yield replace(record, value={**record.value, "id": "other"}) if isinstance(record, Record) else record


def test_a_conversation_that_a_later_version_of_its_importer_does_not_find_is_none_any_more(data, importer, tmp_path):
    import_paths(data, [write(tmp_path / "in.json", notebook("n1", "hello"))], importers=[importer])
    import_again(data, importers=[Renaming(version=2)])

    assert [group.native_id for group in read_catalogue(data).groups.values()] == ["other"]
    assert len(data.documents.list_ids("conversation")) == 2

    shutil.rmtree(data.tasks_folder)
    assert len(read_catalogue(data).groups) == 2  # as long as nobody knows what the export holds now


def test_a_new_importer_finds_its_files_among_those_that_nobody_knew(data, importer, tmp_path):
    path = write(tmp_path / "logs.json", notebook("l1", "hello", kind="logs"))
    import_paths(data, [path], importers=[importer])

    coverage = import_again(data, importers=[importer, NotebookImporter("logs", "logs")])

    assert [file.imported for file in coverage.earlier[0].files] == [1]


class Interrupting(NotebookImporter):
    """Is interrupted after a few records."""

    def parse(self, record):
        if self.parsed == 5:
            raise KeyboardInterrupt
        return super().parse(record)


def test_an_interrupted_import_goes_on_where_it_was(data, importer, tmp_path):
    path = write(tmp_path / "a.json", *(notebook(f"n{number}", "hello") for number in range(9)))
    with pytest.raises(KeyboardInterrupt):
        import_paths(data, [path], importers=[Interrupting()])

    coverage = import_paths(data, [path], importers=[importer])

    made_before = coverage.sets[0].files[0].unchanged
    assert totals(coverage) == (9, 9 - made_before, made_before, 0)
    assert importer.parsed == 9 - made_before < 9


KILLED = """
from pathlib import Path
import sys
from pipeline.archive.importing import import_paths
from store.data_root import DataRoot
from tests.archive.notebooks import NotebookImporter
import_paths(DataRoot(Path(sys.argv[1])), [sys.argv[2]], importers=[NotebookImporter()])
"""


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path, importer):
    path = write(tmp_path / "a.json", *(notebook(f"n{number}", "hello " * 50) for number in range(600)))
    data = DataRoot(tmp_path / "data")
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(data.path.absolute()), path])
    conversations = data.path / "docs" / "conversation"
    while killed.poll() is None and not (conversations.is_dir() and any(conversations.iterdir())):
        time.sleep(0.001)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    import_paths(data, [path], importers=[importer])
    after_kill = snapshot(data.path / "docs")
    delete_derived(data)
    import_again(data, importers=[importer])

    assert len(data.documents.list_ids("conversation")) == 600
    assert snapshot(data.path / "docs") == after_kill


def test_an_earlier_set_that_was_interrupted_is_completed_first(data, importer, tmp_path):
    first = write(tmp_path / "1.json", *(notebook(f"n{number}", "hello") for number in range(9)))
    second = write(tmp_path / "2.json", notebook("n8", "hello"))
    with pytest.raises(KeyboardInterrupt):
        import_paths(data, [first], importers=[Interrupting()])

    coverage = import_paths(data, [second], importers=[importer])

    assert [each.set_id for each in coverage.earlier] == [list_sets(data.documents)[0].doc_id]
    assert totals(coverage) == (1, 0, 1, 0)


# What fails, fails alone


def test_a_member_that_cannot_be_read_does_not_stop_the_others(data, importer, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.json", json.dumps([notebook("n1", "the words to damage")]))
        archive.writestr("b.json", json.dumps([notebook("n2", "hello")]))
    content = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(content.replace(b"the words to damage", b"the words in damage"))

    coverage = import_paths(data, [str(tmp_path / "x.zip")], importers=[importer])

    assert totals(coverage) == (1, 1, 0, 0)
    assert [skip.place for skip in coverage.sets[0].refused] == ["a.json"]
    assert coverage.has_skipped


def test_a_damaged_export_is_told_and_imported_when_it_is_whole_again(data, importer, tmp_path):
    write(tmp_path / "in" / "a.json", notebook("n1", "hello"))
    write(tmp_path / "in" / "b.json", notebook("n2", "hello"))
    import_paths(data, [str(tmp_path / "in")], importers=[importer])
    delete_derived(data)
    damaged = next(path for path in data.path.rglob("content.bin") if b"n1" in path.read_bytes())
    whole = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(whole.replace(b"n1", b"n9"))

    coverage = import_again(data, importers=[importer])
    assert [file.skip_counts["unreadable_file"] for file in coverage.earlier[0].files] == [1, 0]
    assert len(data.documents.list_ids("conversation")) == 1

    damaged.write_bytes(whole)
    import_again(data, importers=[importer])
    assert len(data.documents.list_ids("conversation")) == 2


def test_a_damaged_conversation_is_never_taken_for_one_that_is_not_there(data, importer, tmp_path):
    path = write(tmp_path / "a.json", notebook("n1", "hello"))
    import_paths(data, [path], importers=[importer])
    (doc_id,) = data.documents.list_ids("conversation")
    conversation = data.documents.folder_of("conversation", doc_id) / "conversation.json"
    conversation.chmod(0o644)
    conversation.write_bytes(conversation.read_bytes().replace(b"hello", b"hullo"))

    coverage = import_paths(data, [path], importers=[importer])

    assert totals(coverage) == (1, 0, 1, 0)
    with pytest.raises(DocumentCorrupt):
        data.documents.read_deeply("conversation", doc_id)


def test_a_disk_that_refuses_ends_the_import_and_is_no_skip(data, importer, tmp_path, monkeypatch):
    path = write(tmp_path / "a.json", notebook("n1", "hello"))

    def refuse(*_arguments, **_options):
        raise WriteFailed(data.path, problem="No space left on device (ENOSPC)")

    monkeypatch.setattr(DocumentStore, "commit_in_steps", refuse)
    with pytest.raises(WriteFailed):
        import_paths(data, [path], importers=[importer])
    monkeypatch.undo()

    assert totals(import_paths(data, [path], importers=[importer])) == (1, 1, 0, 0)


# Bytes and sets


def test_a_file_that_changes_while_it_is_kept_is_kept_as_it_was_written(data, monkeypatch):
    monkeypatch.setattr(exports, "READ_AT_ONCE_BYTES", 4)
    contents = iter([b"first form", b"second form!"])

    kept = keep_file(data.documents, lambda: io.BytesIO(next(contents)))

    found = data.documents.read_deeply("export", kept.export)
    assert found.read_bytes("content.bin") == b"second form!"
    assert (kept.size_bytes, kept.is_new) == (12, True)


def test_a_big_file_that_is_there_is_read_once_and_not_written(data, monkeypatch):
    monkeypatch.setattr(exports, "READ_AT_ONCE_BYTES", 4)
    keep_file(data.documents, lambda: io.BytesIO(b"many bytes"))
    contents = iter([b"many bytes"])

    kept = keep_file(data.documents, lambda: io.BytesIO(next(contents)))

    assert not kept.is_new


def test_a_big_file_with_a_size_that_no_export_has_is_read_once(data, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "READ_AT_ONCE_BYTES", 4)
    monkeypatch.setattr(exports, "READ_ONCE_FROM_BYTES", 4)
    opened = []

    def keep(content: bytes) -> tuple[bool, int]:
        """Return whether the bytes are new, and how often they were opened."""
        (tmp_path / "file").write_bytes(content)
        opened.clear()
        kept = keep_file(data.documents, lambda: opened.append(1) or (tmp_path / "file").open("rb"))
        assert data.documents.read_deeply("export", kept.export).read_bytes("content.bin") == content
        return kept.is_new, len(opened)

    assert keep(b"many bytes") == (True, 1)
    assert keep(b"many bytes") == (False, 1)  # it is not written again
    assert keep(b"more bytes") == (True, 2)  # of the same size
    assert keep(b"still more bytes") == (True, 1)


def test_a_set_is_later_than_every_other_one_also_when_the_clock_was_put_back(data):
    late, early = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    keep_set(data.documents, "file", [], [Skip("a", "b")], now=late)

    second, _ = keep_set(data.documents, "file", [], [], now=early)

    assert second.created_at == "2026-06-01T00:00:00.000001Z"
    assert [each.doc_id for each in list_sets(data.documents)][1] == second.doc_id


def test_of_many_files_without_a_skip_the_text_has_a_line_an_importer_and_names_the_others():
    smooth = [
        FileCoverage(f"s{number}.jsonl", "e" * 16, 10, "claude_code", 1, seen=1, imported=1)
        for number in range(SHOWN_FILES + 1)
    ]
    unknown = FileCoverage("x.bin", "e" * 16, 10, reason="not recognised")

    coverage = Coverage([SetCoverage("s" * 16, "sessions", is_new=True, refused=[], files=[*smooth, unknown])])
    text = format_coverage(coverage.as_json())

    assert f"claude_code 1: {SHOWN_FILES + 1} files: {SHOWN_FILES + 1} imported" in text
    assert "s7.jsonl" not in text
    assert "x.bin: not recognised, kept" in text


@pytest.mark.parametrize("text", ["=1+1", "'=1+1", "'", "-5", "@a", "\tx", "＝1", "plain", ""])
def test_a_text_that_no_spreadsheet_runs_is_the_same_when_it_is_read_again(text):
    guarded = guard_text(text)

    assert not FORMULA_START.match(guarded)
    assert unguard_text(guarded) == text


def test_a_record_table_holds_no_formula_and_reads_as_it_was_written(tmp_path):
    facts = Facts("c" * 16, "chatgpt", "=account", "@native", "chatgpt", 1, "", "", "", ())
    table = RecordTable({"chatgpt": 1}, [], [RecordRow("d" * 16, 0, "=cmd.json[0]", facts)], is_whole=True)

    write_table(tmp_path, "s" * 16, table, temporary_folder=tmp_path / ".tmp")

    cells = (tmp_path / "archive" / ("s" * 16) / "records.csv").read_text().replace("\n", ",").split(",")
    assert not [cell for cell in cells if FORMULA_START.match(cell)]
    assert read_table(tmp_path, "s" * 16) == table
