"""A folder of transcripts holds what was asked for; what a person put there or changed is never touched."""

from __future__ import annotations

import functools
import itertools
import os
import resource
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.archive.conversations import Block
from pipeline.archive.transcripts import Format, make_transcript, plan_transcript
from pipeline.archive.transcripts.index_page import write_index
from pipeline.archive.transcripts.placing import (
    CHANGED,
    CHANGED_AND_STALE,
    NO_FOLDER,
    NOT_OURS,
    Placement,
    place_transcripts,
)
from pipeline.archive.transcripts.turns import Options
from pipeline.archive.views import View
from pipeline.errors import InputInvalid
from store.data_root import DataRoot
from store.documents import Document
from store.errors import DocumentCorrupt, WriteFailed
from tests.archive.made_views import keep, keep_file, make_png, make_view, outline_of, read_shipped_template, say
from tests.archive.pages import Page

PAGE = "chatgpt/2025/2025-03-01-harbour-photo-3f9a1c2b7d.html"
PICTURE = "chatgpt/2025/2025-03-01-harbour-photo-3f9a1c2b7d.files/photo.png"
OTHER_ID = "0000000000000000"


class Folder:
    """A folder that transcripts are placed in, and the store that they come from."""

    def __init__(self, path: Path) -> None:
        self.data = DataRoot(path / "data")
        self.path = path / "out"
        self.known = {"3f9a1c2b7d8e4f60", OTHER_ID}

    def make(self, view: View, form: Format = Format.HTML, **options: object) -> Document:
        if not self.data.documents.is_present("conversation", view.versions[0]):
            keep(self.data.documents, view)
        plan = plan_transcript(outline_of(view), read_shipped_template(form), Options(**options))
        if self.data.documents.is_present("transcript", plan.doc_id):
            return self.data.documents.read("transcript", plan.doc_id)
        return make_transcript(self.data.documents, view, plan)

    def place(self, *documents: Document, asked: set | None = None) -> Placement:
        keys = {
            (each.metadata["conversation_id"], each.metadata["format"], each.metadata["branch"]) for each in documents
        }
        asked = keys if asked is None else asked
        return place_transcripts(
            self.data, self.path, documents, asked=asked, known_ids=self.known, write_page=write_index
        )

    def copy(self, name: str) -> Folder:
        """Return a copy of the folder, over the same store."""
        copied = Folder(self.path.parent)
        copied.path, copied.known = self.path.parent / name, self.known
        shutil.copytree(self.path, copied.path)
        return copied

    def list_files(self) -> list[str]:
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.parts[0] != ".daybook")

    def snapshot(self) -> dict[str, tuple[bytes, int]]:
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.path)): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(files)
        }


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def view(folder) -> View:
    photo = keep_file(folder.data.documents, "photo.png", make_png(300, 200) + bytes(40_000))
    return make_view(say("u1", blocks=[Block("text", "Where to moor?"), Block("attachment", attachment=photo)]))


# What is placed


def test_a_transcript_its_attachments_and_an_index_are_placed(folder, view):
    document = folder.make(view)

    placement = folder.place(document)

    assert folder.list_files() == [PICTURE, PAGE, "index.html"]
    assert sorted(placement.written) == folder.list_files()
    assert (folder.path / PAGE).read_bytes() == document.read_bytes("transcript.html")
    links = Page((folder.path / PAGE).read_text()).list_values("src")
    assert [(folder.path / PAGE).parent / link for link in links] == [folder.path / PICTURE]
    assert Page((folder.path / "index.html").read_text()).list_values("href") == [PAGE]


def test_a_second_time_nothing_is_written(folder, view):
    folder.place(folder.make(view))
    before = folder.snapshot()

    placement = folder.place(folder.make(view))

    assert placement == Placement([], 3, [], [])
    assert folder.snapshot() == before


def test_only_what_changed_is_written(folder, view):
    other = make_view(say("u1", "Knots"), conversation_id=OTHER_ID, native_id="c-2", title="Knots")
    folder.place(folder.make(view), folder.make(other))

    grown = make_view(
        say("u1", "Knots"), say("a1", "Yes", parent="u1"), conversation_id=OTHER_ID, native_id="c-2", title="Knots"
    )
    placement = folder.place(folder.make(view), folder.make(grown))

    assert sorted(placement.written) == ["chatgpt/2025/2025-03-01-knots-0000000000.html", "index.html"]


def test_files_have_the_time_of_the_conversation(folder, view):
    folder.place(folder.make(view))

    times = {(folder.path / name).stat().st_mtime for name in (PAGE, PICTURE)}

    assert times == {datetime(2025, 3, 1, 9, 14, 30, 500_000, tzinfo=UTC).timestamp()}


def test_a_person_can_change_what_is_placed(folder, view):
    folder.place(folder.make(view))

    assert os.access(folder.path / PAGE, os.W_OK)
    assert (folder.path / PAGE).stat().st_mode & 0o200


def test_both_formats_lie_beside_each_other_and_share_their_attachments(folder, view):
    folder.place(folder.make(view))
    folder.place(folder.make(view, Format.MARKDOWN))

    assert folder.list_files() == [PICTURE, PAGE, PAGE.replace(".html", ".md"), "index.html"]
    assert Page((folder.path / "index.html").read_text()).list_values("href") == [PAGE, PAGE.replace(".html", ".md")]


# What is removed


def test_a_new_title_takes_the_old_file_away(folder, view):
    folder.place(folder.make(view))
    renamed = make_view(*view.conversation.messages, title="Quay")

    placement = folder.place(folder.make(renamed))

    assert folder.list_files() == [name.replace("harbour-photo", "quay") for name in (PICTURE, PAGE)] + ["index.html"]
    assert sorted(placement.removed) == [PICTURE, PAGE]
    assert not (folder.path / PICTURE).parent.exists()


def test_what_was_not_asked_for_stays(folder, view):
    other = make_view(say("u1", "Knots"), conversation_id=OTHER_ID, native_id="c-2", title="Knots")
    folder.place(folder.make(view), folder.make(other))

    placement = folder.place(folder.make(other))

    assert placement.removed == []
    assert PAGE in folder.list_files()
    assert len(Page((folder.path / "index.html").read_text()).list_values("href")) == 2


def test_what_the_archive_no_longer_has_goes_in_every_format(folder, view):
    folder.place(folder.make(view))
    folder.place(folder.make(view, Format.MARKDOWN))
    folder.known = set()

    folder.place()

    assert folder.list_files() == ["index.html"]


def test_what_was_asked_for_and_is_no_longer_there_goes(folder, view):
    folder.place(folder.make(view))

    folder.place(asked={("3f9a1c2b7d8e4f60", "html", None)})

    assert folder.list_files() == ["index.html"]


def test_a_branch_that_a_view_does_not_have_is_not_placed(folder, view):
    placement = folder.place(folder.make(view, branch=7))

    assert placement.written == ["index.html"]


# What belongs to a person


def test_a_file_that_a_person_changed_is_not_written_over(folder, view):
    folder.place(folder.make(view))
    (folder.path / PAGE).write_text("my notes")
    view.conversation.messages[0].blocks[0].text = "Changed"
    changed = make_view(*view.conversation.messages)

    placement = folder.place(folder.make(changed))

    assert [(refusal.path, refusal.reason) for refusal in placement.refusals] == [(PAGE, CHANGED)]
    assert (folder.path / PAGE).read_text() == "my notes"


def test_a_file_that_a_person_changed_is_told_even_if_nothing_else_is_new(folder, view):
    folder.place(folder.make(view))
    (folder.path / PICTURE).write_bytes(b"painted over")

    placement = folder.place(folder.make(view))

    assert [refusal.path for refusal in placement.refusals] == [PICTURE]
    assert placement.written == []


def test_a_change_of_equal_length_is_seen_by_its_time_and_before_every_writing_by_its_bytes(folder, view):
    folder.place(folder.make(view))
    path = folder.path / PAGE
    stamp = path.stat().st_mtime_ns
    content = path.read_bytes()
    path.write_bytes(content.replace(b"moor", b"MOOR"))
    os.utime(path, ns=(stamp, stamp))
    view.conversation.messages[0].blocks[0].text = "Changed"

    placement = folder.place(folder.make(make_view(*view.conversation.messages)))

    assert [refusal.path for refusal in placement.refusals] == [PAGE]
    assert b"MOOR" in path.read_bytes()


def test_a_file_that_no_longer_belongs_but_was_changed_stays_and_is_told_each_time(folder, view):
    folder.place(folder.make(view))
    (folder.path / PAGE).write_text("my notes")
    folder.known = set()

    first, second = folder.place(), folder.place()

    assert folder.list_files() == [PAGE, "index.html"]
    expected = [(PAGE, CHANGED_AND_STALE)]
    assert [[tuple(refusal) for refusal in placement.refusals] for placement in (first, second)] == [expected, expected]


def test_a_file_that_was_there_before_is_not_written_over(folder, view):
    (folder.path / PAGE).parent.mkdir(parents=True)
    (folder.path / PAGE).write_text("mine")
    (folder.path / "index.html").write_text("my index")

    placement = folder.place(folder.make(view))

    assert {tuple(refusal) for refusal in placement.refusals} == {(PAGE, NOT_OURS), ("index.html", NOT_OURS)}
    assert (folder.path / PAGE).read_text() == "mine"
    assert (folder.path / "index.html").read_text() == "my index"


def test_a_link_in_the_place_of_a_file_is_a_persons_whatever_it_leads_to(folder, view, tmp_path):
    document = folder.make(view)
    outside = tmp_path / "outside.html"
    outside.write_bytes(document.read_bytes("transcript.html"))
    (folder.path / PAGE).parent.mkdir(parents=True)
    (folder.path / PAGE).symlink_to(outside)

    placement = folder.place(document)

    assert [refusal.path for refusal in placement.refusals] == [PAGE]
    assert (folder.path / PAGE).is_symlink()


def test_files_of_a_person_beside_ours_are_left_alone(folder, view):
    folder.place(folder.make(view))
    notes = (folder.path / PICTURE).parent / "notes.txt"
    notes.write_text("mine")
    folder.known = set()

    folder.place()

    assert folder.list_files() == [str(notes.relative_to(folder.path)), "index.html"]


def test_a_file_that_a_person_removed_is_placed_again(folder, view):
    folder.place(folder.make(view))
    (folder.path / PAGE).unlink()

    assert folder.place(folder.make(view)).written == [PAGE]


def test_a_file_with_the_same_bytes_is_taken_over(folder, view):
    document = folder.make(view)
    (folder.path / PAGE).parent.mkdir(parents=True)
    (folder.path / PAGE).write_bytes(document.read_bytes("transcript.html"))

    assert folder.place(document).refusals == []
    folder.known = set()
    folder.place()
    assert folder.list_files() == ["index.html"]


def test_a_file_that_is_touched_but_the_same_is_no_change(folder, view):
    folder.place(folder.make(view))
    (folder.path / PAGE).touch()

    assert folder.place(folder.make(view)) == Placement([], 3, [], [])


# Kills and damage


TOUCHES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime", "os.truncate"}
KILLED = 9


def run_child(action: Callable[[], object]) -> int:
    """Run an action in a process of its own, and return its exit code: 0 if it ended well."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_until(step: int, action: Callable[[], object]) -> bool:
    """Run an action in a process that dies just before it touches the disk for the `step`th time; whether it died."""

    def run() -> None:
        touches = itertools.count(1)

        def watch(event: str, _arguments: object) -> None:
            if event in TOUCHES and next(touches) == step:
                os._exit(KILLED)

        sys.addaudithook(watch)
        action()

    return run_child(run) == KILLED


@pytest.mark.slow
def test_after_a_kill_at_any_point_a_repetition_or_another_wish_ends_as_if_there_had_been_none(folder, view):
    """One view is placed; then it has a new title, and another one comes with a picture."""
    old, new = (
        make_view(say("u1", title), conversation_id=OTHER_ID, native_id="c-2", title=title) for title in ("Old", "New")
    )
    folder.place(folder.make(old))
    documents = [folder.make(view), folder.make(new)]
    name = "chatgpt/2025/2025-03-01-new-0000000000.html"
    for step in itertools.count(1):
        killed = folder.copy(f"killed-{step}")
        was_killed = run_until(step, functools.partial(killed.place, *documents))
        emptied = killed.copy(f"emptied-{step}")
        emptied.known = set()

        placements = killed.place(*documents), emptied.place()

        assert [placement.refusals for placement in placements] == [[], []]
        assert killed.list_files() == sorted([PICTURE, PAGE, name, "index.html"])
        assert (killed.path / name).read_bytes() == documents[1].read_bytes("transcript.html")
        assert emptied.list_files() == ["index.html"]
        for each in (killed, emptied):
            assert [path.name for path in (each.path / ".daybook").iterdir()] == ["manifest.json"]
        if not was_killed:
            break
    assert step > 20


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 9}', '{"schema": 1, "files": {"../x": [["a"], 1, 2]}, "views": []}']
)
def test_a_damaged_manifest_is_told_and_nothing_is_touched(folder, view, content):
    folder.place(folder.make(view))
    (folder.path / ".daybook" / "manifest.json").write_text(content)
    before = folder.snapshot()

    with pytest.raises(InputInvalid, match=r"manifest\.json cannot be read"):
        folder.place()

    assert folder.snapshot() == before


def test_without_its_manifest_a_folder_is_taken_over_again(folder, view):
    folder.place(folder.make(view))
    shutil.rmtree(folder.path / ".daybook")

    assert folder.place(folder.make(view)) == Placement([], 3, [], [])


def test_an_attachment_whose_bytes_are_damaged_is_not_placed(folder, view):
    document = folder.make(view)
    (attachment,) = document.metadata["attachments"]
    content = folder.data.documents.folder_of("export", attachment["doc_id"]) / "content.bin"
    content.chmod(0o644)
    content.write_bytes(b"x" * attachment["size_bytes"])

    with pytest.raises(DocumentCorrupt):
        folder.place(document)

    assert PICTURE not in folder.list_files()


def test_a_folder_that_is_a_file_is_refused(folder, view):
    folder.path.write_text("mine")

    with pytest.raises(InputInvalid, match="is no folder"):
        folder.place(folder.make(view))


def test_a_disk_that_refuses_is_told_and_a_repetition_goes_on(folder, view):
    document = folder.make(view)

    def place_with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(WriteFailed, match="File too large"):
            folder.place(document)

    assert run_child(place_with_little_room) == 0
    folder.place(document)
    assert folder.list_files() == [PICTURE, PAGE, "index.html"]


def test_a_file_in_the_place_of_a_folder_is_told_and_the_rest_is_placed(folder, view):
    folder.path.mkdir()
    (folder.path / "chatgpt").write_text("mine")

    placement = folder.place(folder.make(view))

    assert {tuple(refusal) for refusal in placement.refusals} == {(PAGE, NO_FOLDER), (PICTURE, NO_FOLDER)}
    assert folder.list_files() == ["chatgpt", "index.html"]
