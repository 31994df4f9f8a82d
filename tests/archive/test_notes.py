"""What people write beside conversations: durable, apart from what was imported, never lost to another writer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.archive.notes import Note, Notes
from pipeline.errors import InputInvalid
from store.data_root import DataRoot

NAME = "7k3f0q9x2m4b8z1c"


@pytest.fixture
def notes(tmp_path) -> Notes:
    return Notes(DataRoot(tmp_path))


def test_a_conversation_without_a_note_has_an_empty_one(notes):
    assert notes.read(NAME) == Note()
    assert notes.list_changes() == {}


def test_tags_note_and_title_are_kept_beside_each_other(notes):
    notes.change_tags(NAME, add=["b", "a"])
    notes.set_text(NAME, "Two\nlines")
    notes.set_title(NAME, "  One \n line ")
    notes.change_tags(NAME, add=["c"], remove=["a", "never"])

    assert notes.read(NAME) == Note(("b", "c"), "Two\nlines", "One line")
    assert list(notes.list_changes()) == [NAME]


def test_what_is_emptied_is_gone(notes):
    notes.set_text(NAME, "a")
    notes.set_title(NAME, "b")
    notes.set_text(NAME, "")

    assert notes.set_title(NAME, " ") == Note() == notes.read(NAME)


def test_a_note_is_a_readable_file_that_no_part_of_a_document_is(notes, tmp_path):
    notes.change_tags(NAME, add=["sea"])

    path = tmp_path / "notes" / f"{NAME}.json"
    assert json.loads(path.read_text()) == {"conversation_id": NAME, "note": None, "tags": ["sea"], "title": None}
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize("tag", ["", "-x", "+x", "two words", "a,b", '"', "a" * 61, "_x", "\n"])
def test_a_tag_that_could_not_be_typed_again_is_refused(notes, tag):
    with pytest.raises(InputInvalid, match=r"is not a tag\. Expected a letter or digit"):
        notes.change_tags(NAME, add=[tag])

    assert notes.list_changes() == {}


@pytest.mark.parametrize("tag", ["x", "to-read", "2026", "c++", "a/b", "Größe", "v1.0", "海"])
def test_a_tag_is_one_word_of_any_language(notes, tag):
    assert notes.change_tags(NAME, add=[tag]).tags == (tag,)


@pytest.mark.parametrize("name", ["../../etc/passwd", "short", "", "A" * 16])
def test_a_name_that_is_no_id_leads_nowhere(notes, name):
    with pytest.raises(InputInvalid, match="is not a conversation's id"):
        notes.set_text(name, "x")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"tags": ["two words"], "note": null, "title": null}', b"\xff", b"1"]
)
def test_a_file_that_is_no_note_is_told_and_never_replaced(notes, tmp_path, content):
    path = tmp_path / "notes" / f"{NAME}.json"
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(InputInvalid, match="cannot be read as a note"):
        notes.change_tags(NAME, add=["sea"])

    assert path.read_bytes() == content


def test_bytes_of_a_command_line_that_are_no_text_are_replaced(notes):
    assert notes.set_text(NAME, "caf\udce9").text == "caf?"


def test_of_several_that_write_at_once_none_is_lost(tmp_path):
    """Each opens the lock for itself, as processes do."""

    def add_tags(first: int) -> None:
        for number in range(first, first + 10):
            Notes(DataRoot(tmp_path)).change_tags(NAME, add=[f"tag-{number}"])

    with ThreadPoolExecutor(8) as writers:
        list(writers.map(add_tags, range(0, 80, 10)))

    assert len(Notes(DataRoot(tmp_path)).read(NAME).tags) == 80
