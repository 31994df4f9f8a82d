"""Views are found by ids that stay, walked one at a time, and tell what is gone, copied and counted."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.archive.importing import import_again, import_paths
from pipeline.archive.views import View, count_usage, find_view, outline_views, walk_views
from pipeline.errors import InputInvalid, UnknownName
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from tests.archive.notebooks import NotebookImporter, notebook

LONG = "0b2f7a52-5d5e-4a39-9a53-00000000000"  # the ids of messages that copies share


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


class Archive:
    """Imports notebooks as exports of a folder each; with an owner they are whole exports of that account."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self._folder, self._count = workspace, folder, 0

    def add(self, *notebooks: object, owner: str | None = None, broken: bool = False) -> None:
        self._count += 1
        path = self._folder / f"{self._count}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("books.json", json.dumps([*notebooks, 42] if broken else notebooks))
            if owner:
                archive.writestr("owner.json", json.dumps({"owner": owner}))
        import_paths(self.workspace.data, [str(path)], importers=[NotebookImporter()])

    def list_views(self) -> list[View]:
        return list(walk_views(self.workspace))

    def find(self, native_id: str) -> View:
        (view,) = (view for view in self.list_views() if view.conversation.native_id == native_id)
        return view


@pytest.fixture
def archive(workspace, tmp_path) -> Archive:
    return Archive(workspace, tmp_path)


def test_all_exports_of_a_conversation_are_one_view_with_the_newest_version_first(archive):
    archive.add(notebook("n1", "a", "b", updated="2026-01-02T00:00:00Z"))
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"), notebook("n2", "x"))

    view = archive.find("n1")

    assert len(archive.list_views()) == 2
    assert len(view.versions) == 2
    newest = archive.workspace.data.documents.read("conversation", view.versions[0])
    assert newest.metadata["facts"]["updated"] == "2026-01-02T00:00:00Z"


def test_an_older_export_imported_later_changes_nothing_but_the_versions(archive):
    archive.add(notebook("n1", "a", "b", updated="2026-01-02T00:00:00Z"))
    before = archive.find("n1")
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"))

    after = archive.find("n1")

    assert after.conversation == before.conversation
    assert after.conversation_id == before.conversation_id


def test_a_view_is_found_by_the_start_of_its_id_or_of_that_of_any_version(archive):
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"))
    archive.add(notebook("n1", "a", "b", updated="2026-01-02T00:00:00Z"))
    (view,) = archive.list_views()

    for name in (view.conversation_id, view.conversation_id[:5], *(version[:6] for version in view.versions)):
        assert find_view(archive.workspace, name) == view


def test_a_name_that_is_nobodys_or_of_several_is_refused(archive):
    for number in range(40):
        archive.add(notebook(f"n{number}", "a"))
    shared = next(
        view.conversation_id[0]
        for view in archive.list_views()
        if sum(other.conversation_id[0] == view.conversation_id[0] for other in archive.list_views()) > 1
    )

    with pytest.raises(UnknownName, match="conversation"):
        find_view(archive.workspace, "zzzzzzzz")
    with pytest.raises(UnknownName):
        find_view(archive.workspace, "")
    with pytest.raises(InputInvalid, match="Expected more characters"):
        find_view(archive.workspace, shared)


def test_the_id_stays_when_the_account_becomes_known(archive):
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"))
    (before,) = archive.list_views()
    archive.add(notebook("n1", "a", "b", updated="2026-01-02T00:00:00Z"), owner="ann")

    (after,) = archive.list_views()

    assert after.conversation_id == before.conversation_id
    assert after.conversation.account == "ann"


def test_one_native_id_in_two_accounts_is_two_conversations_and_the_older_keeps_the_id(archive):
    archive.add({**notebook("n1", "a"), "updated": "2026-01-01T00:00:00Z"}, owner="zoe")
    (zoes,) = archive.list_views()
    archive.add({**notebook("n1", "b"), "updated": "2026-02-01T00:00:00Z"}, owner="ann")

    views = archive.list_views()

    assert {view.conversation.account for view in views} == {"ann", "zoe"}
    assert zoes.conversation_id in {view.conversation_id for view in views if view.conversation.account == "zoe"}


# Outlines


def test_outlines_tell_which_views_changed(archive):
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"), notebook("n2", "a"))
    before = outline_views(archive.workspace)
    archive.add(notebook("n1", "a", "b", updated="2026-01-02T00:00:00Z"), notebook("n3", "x"))

    after = outline_views(archive.workspace)

    changed = {conversation_id for conversation_id in after if after[conversation_id] != before.get(conversation_id)}
    views = walk_views(archive.workspace, only=changed)
    assert [view.conversation.native_id for view in views] == [
        view.conversation.native_id for view in archive.list_views() if view.conversation.native_id != "n2"
    ]
    assert list(after) == sorted(after)


def test_without_record_tables_the_outlines_are_the_same(archive):
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"), notebook("n2", "a", forks=["n1"]))
    before = outline_views(archive.workspace)

    shutil.rmtree(archive.workspace.data.tasks_folder)

    assert outline_views(archive.workspace) == before


def test_only_the_newest_version_of_a_parser_counts_and_the_others_are_still_found(archive):
    archive.add(notebook("n1", "a"))
    (old,) = archive.list_views()
    import_again(archive.workspace.data, importers=[replace(NotebookImporter(), version=2)])

    (view,) = archive.list_views()

    assert view.conversation.extra == {"version": 2}
    assert len(view.versions) == 1
    assert find_view(archive.workspace, old.versions[0]) == view


# Gone


def test_a_conversation_that_a_newer_whole_export_of_its_account_lacks_is_gone_and_stays(archive):
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"), owner="ann")
    archive.add(notebook("n2", "b", updated="2026-01-02T00:00:00Z"), owner="ann")

    assert archive.find("n1").is_gone
    assert not archive.find("n2").is_gone
    assert archive.find("n1").conversation.messages


def test_it_is_not_gone_when_the_export_is_older_of_another_account_or_not_whole(archive):
    archive.add(notebook("n1", "a", updated="2026-01-05T00:00:00Z"), owner="ann")
    archive.add(notebook("n2", "b", updated="2026-01-02T00:00:00Z"), owner="ann")
    archive.add(notebook("n3", "b", updated="2026-02-02T00:00:00Z"), owner="bob")
    archive.add(notebook("n4", "b", updated="2026-02-02T00:00:00Z"))
    archive.add(notebook("n5", "b", updated="2026-02-02T00:00:00Z"), owner="ann", broken=True)

    assert not archive.find("n1").is_gone
    assert not archive.find("n5").is_gone  # it is newer than every whole export


def test_it_is_not_gone_any_more_when_a_newer_export_has_it_again(archive):
    archive.add(notebook("n1", "a", updated="2026-01-01T00:00:00Z"), owner="ann")
    archive.add(notebook("n2", "b", updated="2026-01-02T00:00:00Z"), owner="ann")
    returned = notebook("n1", "a", updated="2026-01-01T00:00:00Z")
    archive.add(returned, notebook("n2", "b", "c", updated="2026-01-03T00:00:00Z"), owner="ann")

    assert not archive.find("n1").is_gone


# Copies and usage


def lines(*texts: str, start: int = 0) -> list[dict[str, object]]:
    return [
        {
            "id": f"{LONG}{start + number}",
            "by": "assistant" if number % 2 else "user",
            "text": text,
            "at": f"2026-01-01T00:00:0{number}Z",
            **({"tokens": 10} if number % 2 else {}),
        }
        for number, text in enumerate(texts)
    ]


def test_messages_copied_into_a_fork_are_recognised_and_their_usage_is_counted_once(archive):
    archive.add({"id": "original", "lines": lines("a", "b", "c", "d"), "updated": "2026-01-01T00:00:09Z"})
    archive.add({"id": "branch", "lines": lines("a", "b"), "updated": "2026-01-03T00:00:00Z", "forks": ["original"]})
    own = {"id": "own-message-of-the-resumed", "by": "user", "text": "z", "at": "2026-01-02T00:00:00Z"}
    archive.add({"id": "resumed", "lines": [*lines("a", "b"), own], "updated": "2026-01-02T00:00:00Z"})

    original, branch, resumed = map(archive.find, ("original", "branch", "resumed"))

    assert [message.copy_of for message in original.conversation.messages] == [None] * 4
    assert [message.copy_of for message in branch.conversation.messages] == [original.conversation_id] * 2
    assert [message.copy_of for message in resumed.conversation.messages] == [original.conversation_id] * 2 + [None]
    assert count_usage(archive.list_views())["notebooks", ""].output_tokens == 20


def test_an_equal_first_message_with_another_id_is_no_copy(archive):
    archive.add({"id": "one", "lines": lines("hello", "yes")}, {"id": "two", "lines": lines("hello", "yes", start=5)})

    assert [message.copy_of for view in archive.list_views() for message in view.conversation.messages] == [None] * 4


def test_one_answer_on_several_lines_counts_with_its_most_tokens(archive):
    for number, tokens in enumerate((2, 88, 3)):
        line = {"id": f"{LONG}7", "by": "assistant", "text": "…" * number, "tokens": tokens}
        archive.add({"id": f"n{number}", "lines": [line]})

    assert count_usage(archive.list_views())["notebooks", ""].output_tokens == 88
