"""The index says what the store says: however it came about, whoever breaks it, however many ask at once."""

from __future__ import annotations

import json
import os
import queue
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.made_views import make_views
from pipeline.archive.conversations import Attachment, Block, Conversation, Kind, Message, Usage
from pipeline.archive.search.index import INDEX_FILE, WAITING, WRITER_LOCK, IndexUnusable, Places
from pipeline.archive.search.index_tables import SCHEMA_VERSION, find_fault
from pipeline.archive.views import View
from store.errors import DocumentCorrupt
from store.machine_locks import hold_machine_lock
from tests.archive.made_archive import STAGE, MadeArchive, commit_conversation, make_id, make_view


@pytest.fixture
def archive(tmp_path) -> MadeArchive:
    made = MadeArchive(tmp_path / "data")
    for view in make_views(12, seed=3, turns=4):
        made.put(view)
    return made


def count(table: str):
    return lambda index: index.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# What it says


def test_every_message_of_every_view_is_a_row(archive):
    messages = sum(len(view.conversation.messages) for view in archive.views.values())

    assert archive.ask(count("messages")) == messages
    assert archive.ask(count("conversations")) == archive.ask(count("versions")) == len(archive.views)
    assert archive.ask(count("documents")) == len(archive.views)


def test_a_conversation_is_counted_as_a_person_would_count_it(tmp_path):
    archive = MadeArchive(tmp_path)
    call = [Block(Kind.TOOL_USE, tool_name="ls", call_id="1"), Block(Kind.TOOL_RESULT, text="a", call_id="1")]
    there = Attachment(name="a.png", status="present", blake3="ab")
    messages = [
        Message("1", None, "user", is_active=True, blocks=[Block(Kind.ATTACHMENT, attachment=there)]),
        Message("2", "1", "assistant", is_active=True, model="m-1", blocks=[Block(Kind.THINKING, text="hm"), *call]),
        Message("3", "1", "assistant", model="m-2", is_gone=True, usage=Usage(7, 9, usage_id="u")),
        Message("4", "2", "user", is_active=True, blocks=[Block(Kind.ATTACHMENT, attachment=Attachment(name="b"))]),
    ]
    conversation = Conversation("claude", "n", messages=messages, attachments=[Attachment(status="external", url="u")])
    archive.put(View(make_id("it"), conversation, (make_id("v"),)))

    names = "messages active_messages gone_messages branches attachments_with_bytes attachments_without_bytes"
    names += " thinking_blocks tool_uses tool_results models messages_by_role active_messages_by_role"
    row = archive.ask(lambda index: index.execute(f"SELECT {', '.join(names.split())} FROM conversations").fetchone())
    found = dict(zip(names.split(), row, strict=True))

    assert [json.loads(found.pop(name)) for name in ("models", "messages_by_role", "active_messages_by_role")] == [
        ["m-1", "m-2"],
        {"assistant": 2, "user": 2},
        {"assistant": 1, "user": 2},
    ]
    assert list(found.values()) == [4, 3, 1, 2, 1, 2, 1, 1, 1]
    rows = archive.ask(lambda index: index.execute("SELECT message, name, status FROM attachments").fetchall())
    assert rows == [("1", "a.png", "present"), ("4", "b", "missing"), (None, None, "external")]


def test_texts_that_sqlite_could_not_hold_are_held(tmp_path):
    archive = MadeArchive(tmp_path)
    view = archive.put(make_view("Odd", user="before\x00after \x01mark\x02 end"))

    assert archive.find("after") == {"Odd"}
    (hit,) = archive.search("end")
    assert hit.snippet == "before\ufffdafter \ufffdmark\ufffd end"
    assert [hit.snippet[slice(*found)] for found in hit.ranges] == ["end"]
    assert view.conversation.messages[0].blocks[0].text.startswith("before\x00")


def test_rows_lead_to_their_conversation_in_programs_that_show_tables(archive):
    def list_ways(index):
        listed = 'SELECT m.name, k."from", k."table", k."to" FROM sqlite_master m, pragma_foreign_key_list(m.name) k'
        return {(table, own): (other, key) for table, own, other, key in index.execute(listed)}

    ways = archive.ask(list_ways)

    assert {table for table, own in ways if own == "conversation_id"} == {
        *("messages", "versions", "attachments", "notes", "tags")
    }
    assert set(ways.values()) == {("conversations", "conversation_id")}
    assert archive.ask(lambda index: index.execute("PRAGMA foreign_key_check").fetchall()) == []


# Keeping it up to date


def test_what_has_not_changed_is_not_read_again(archive, tmp_path):
    archive.ask(count("messages"))
    archive.walked.clear()
    new = archive.put(make_view("New", user="Hello"))

    archive.ask(count("messages"))

    assert archive.walked == [new.conversation_id]


def test_a_store_that_is_as_it_was_is_not_even_listed(archive):
    folder = archive.data.documents.root / STAGE
    os.utime(folder, ns=(1, 1))  # long ago: what changes now is told by the time
    archive.ask(count("messages"))
    archive.source = archive.source._replace(outline=None, walk=None)

    assert archive.ask(count("conversations")) == 12


def test_an_index_kept_up_to_date_says_what_one_made_anew_says(archive, tmp_path):
    """After every step of a random history: conversations come, grow, change their state and go; notes too."""
    chance = random.Random(5)
    for step in range(25):
        ids = sorted(archive.views)
        chosen = chance.choice(ids)
        match chance.randrange(6):
            case 0:
                archive.remove(chosen)
            case 1:
                view = archive.views[chosen]
                archive.put(view._replace(is_gone=not view.is_gone, versions=(make_id(str(step)), *view.versions)))
            case 2:
                longer = make_view(f"Grown {step}", user="more words", assistant="and an answer")
                archive.put(longer._replace(conversation_id=chosen))
            case 3:
                archive.notes.change_tags(chosen, add=[f"tag-{step % 3}"], remove=["tag-0"])
            case 4:
                archive.notes.set_title(chosen, f"Title {step}" if step % 2 else "")
                archive.notes.set_text(chosen, f"Note {step}")
            case _:
                archive.put(make_view(f"New {step}", user="words of a new one"))
        archive.ask(count("messages"))

    kept = archive.dump()

    assert kept == archive.dump_anew(tmp_path / "anew")
    assert sum(line.startswith('["tags"') for line in kept) > 0
    assert archive.ask(find_fault) is None


def test_a_note_is_there_before_and_after_its_conversation(tmp_path):
    archive = MadeArchive(tmp_path)
    archive.notes.set_title(make_id("Tides"), "Of the sea")
    archive.notes.change_tags(make_id("Tides"), add=["water"])
    view = archive.put(make_view("Tides", user="low"))

    assert archive.find("low", tag="water") == {"Of the sea"}
    archive.remove(view.conversation_id)
    assert archive.search("low") == []
    archive.put(view)
    assert archive.find("low", tag="water") == {"Of the sea"}


def test_a_note_that_is_taken_away_brings_the_imported_title_back(tmp_path):
    archive = MadeArchive(tmp_path)
    view = archive.put(make_view("Tides", user="low"))
    archive.notes.set_title(view.conversation_id, "Of the sea")
    assert archive.find("low") == {"Of the sea"}
    (archive.notes.root / f"{view.conversation_id}.json").unlink()

    assert archive.find("low") == {"Tides"}


def test_a_view_that_changes_with_a_record_table_only_is_read_again(archive):
    """As one does that a newer export lacks: no document comes for it."""
    folder = archive.data.documents.root / STAGE
    os.utime(folder, ns=(1, 1))
    archive.ask(count("messages"))
    view = next(iter(archive.views.values()))
    archive.views[view.conversation_id] = view._replace(is_gone=True)

    (archive.data.tasks_folder / "archive" / "set").mkdir(parents=True)

    gone = "SELECT conversation_id FROM conversations WHERE is_gone"
    assert archive.ask(lambda index: index.execute(gone).fetchall()) == [(view.conversation_id,)]


def test_a_view_that_cannot_be_read_keeps_no_other_one_out_and_is_tried_again(archive):
    views = dict(archive.views)
    damaged = sorted(views)[3]
    walk = archive.source.walk

    def walk_or_fail(only):
        for view in walk(only):
            if view.conversation_id == damaged:
                raise DocumentCorrupt(STAGE, damaged, "conversation.json", expected="a", found="b")
            yield view

    archive.source = archive.source._replace(walk=walk_or_fail)
    os.utime(archive.data.documents.root / STAGE, ns=(1, 1))
    found = archive.ask(lambda index: index.execute("SELECT conversation_id FROM conversations").fetchall())
    told = archive.ask(lambda index: index.execute("SELECT * FROM unreadable").fetchall())
    archive.source = archive.source._replace(walk=walk)

    assert {name for (name,) in found} == views.keys() - {damaged}
    assert [(name, "conversation.json" in problem) for name, problem in told] == [(damaged, True)]
    assert archive.ask(count("conversations")) == 12
    assert archive.ask(count("unreadable")) == 0


def test_a_document_that_cannot_be_read_is_told_and_tried_again(archive):
    archive.ask(count("documents"))
    doc_id = make_id("damaged")
    commit_conversation(archive.data, doc_id, Conversation("chatgpt", "d"))
    path = archive.data.documents.folder_of(STAGE, doc_id) / "metadata.json"
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"{")

    problems = "SELECT doc_id, problem FROM documents WHERE problem IS NOT NULL"
    ((found, problem),) = archive.ask(lambda index: index.execute(problems).fetchall())
    path.write_bytes(content)
    os.utime(path.parent.parent, ns=(1, 1))

    assert (found, "metadata.json" in problem) == (doc_id, True)
    assert archive.ask(lambda index: index.execute(problems).fetchall()) == []


# Damage


def flip(path: Path, *offsets: int) -> None:
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset] ^= 0xFF
    path.write_bytes(content)


def change_one_letter(path: Path) -> None:
    """Of a text, where SQLite's own check sees nothing."""
    content = path.read_bytes()
    offset = content.rindex(b"harbour")
    path.write_bytes(content[:offset] + b"hxrbour" + content[offset + 7 :])


def drop_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE messages")
    connection.close()


def set_version(path: Path, version: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5000]),
    "no header": lambda path: flip(path, *range(100)),
    "another file": lambda path: path.write_bytes(random.Random(1).randbytes(50_000)),
    "200 flipped bytes": lambda path: flip(path, *random.Random(2).sample(range(100, path.stat().st_size), 200)),
    "one letter": change_one_letter,
    "a table less": drop_table,
    "an older schema": lambda path: set_version(path, SCHEMA_VERSION - 1),
    "a later schema": lambda path: set_version(path, SCHEMA_VERSION + 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_anew_and_says_the_same(archive, damage):
    before, path = archive.dump(), archive.data.path / INDEX_FILE
    DAMAGES[damage](path)

    assert archive.dump() == before
    assert not [found for found in archive.data.temporary_folder.iterdir() if INDEX_FILE in found.name]


def test_a_log_that_was_left_beside_a_deleted_index_is_not_taken_for_its_own(archive):
    before = archive.dump()
    places = Places.of(archive.data)
    with sqlite3.connect(places.file) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("DELETE FROM conversations")
    logs = {log: log.read_bytes() for log in places.logs}
    other.close()
    places.file.unlink()
    for log, content in logs.items():
        log.write_bytes(content)

    assert archive.dump() == before


def test_an_edit_by_another_program_is_kept_as_long_as_the_file_is_sound(archive):
    """It is derived: nobody promises an edit anything, but nothing is made anew for it either."""
    archive.ask(count("messages"))
    inode = (archive.data.path / INDEX_FILE).stat().st_ino
    set_version(archive.data.path / INDEX_FILE, SCHEMA_VERSION)

    archive.ask(count("messages"))

    assert (archive.data.path / INDEX_FILE).stat().st_ino == inode


def test_a_question_that_sqlite_cannot_answer_is_told_as_such(archive):
    with pytest.raises(IndexUnusable, match=r"no such table: absent.*Delete it"):
        archive.ask(count("absent"))


def test_what_lies_in_the_place_of_the_index_and_is_no_file_is_told(archive):
    (archive.data.path / INDEX_FILE).mkdir(parents=True)

    with pytest.raises(IndexUnusable, match=r"Is a directory.*Delete it"):
        archive.ask(count("messages"))


# Several at once


def test_who_finds_a_writer_at_work_reads_what_is_there(archive):
    archive.ask(count("messages"))
    archive.put(make_view("New", user="Hello"))

    with hold_machine_lock(archive.data.path / WRITER_LOCK):
        assert archive.ask(count("conversations")) == 12

    assert archive.ask(count("conversations")) == 13


def test_who_finds_the_first_index_being_made_waits_for_it(archive):
    found: list[int] = []
    told = queue.Queue[str]()
    archive.source = archive.source._replace(watch=lambda step, _done, _total: told.put(step))
    asking = threading.Thread(target=lambda: found.append(archive.ask(count("conversations"))))

    with hold_machine_lock(archive.data.path / WRITER_LOCK):
        asking.start()
        assert told.get(timeout=60) == WAITING
        assert found == []
    asking.join()

    assert found == [12]


ASKING = """
import sys
from pathlib import Path
from benchmarks.made_views import make_views
from pipeline.archive.search.index import INDEX_FILE
from tests.archive.made_archive import MadeArchive

archive = MadeArchive(Path(sys.argv[1]))
archive.views = {view.conversation_id: view for view in make_views(12, seed=3, turns=4)}
number = int(sys.argv[2])
for step in range(12):
    if number == 0 and step % 4 == 2:
        (archive.data.path / INDEX_FILE).write_bytes(b"broken")
    if number == 1:
        archive.notes.set_text(sorted(archive.views)[step], f"note {step}")
    (found,) = archive.ask(lambda index: index.execute("SELECT count(*) FROM conversations").fetchone())
    assert found == 12, found
"""


@pytest.mark.slow
def test_processes_that_ask_change_and_break_it_at_once_all_get_the_truth(archive, tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", ASKING, archive.data.path, str(number)], stderr=subprocess.PIPE)
        for number in range(4)
    ]
    errors = [process.communicate()[1].decode() for process in processes]

    assert errors == [""] * 4
    assert archive.dump() == archive.dump_anew(tmp_path / "anew")
    assert archive.ask(count("notes")) == 12


DYING = """
import os, signal, sys
from pathlib import Path
from benchmarks.made_views import make_views
from tests.archive.made_archive import MadeArchive

archive = MadeArchive(Path(sys.argv[1]))
archive.views = {view.conversation_id: view for seed in (3, 4) for view in make_views(12, seed=seed, turns=4)}
walk = archive.source.walk

def walk_and_die(only):
    for number, view in enumerate(walk(only)):
        if number == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield view

archive.source = archive.source._replace(walk=walk_and_die)
archive.dump()
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_there", [True, False])
def test_a_writer_that_is_killed_leaves_an_index_that_is_whole(archive, tmp_path, is_there):
    if is_there:
        archive.dump()
    for view in make_views(12, seed=4, turns=4):
        archive.put(view)
    for number in (0, 5, 11):
        killed = subprocess.run([sys.executable, "-c", DYING, archive.data.path, str(number)], stderr=subprocess.PIPE)
        assert killed.returncode == -9, killed.stderr

    assert archive.dump() == archive.dump_anew(tmp_path / "anew")
    assert archive.ask(find_fault) is None
