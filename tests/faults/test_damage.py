"""Documents that came by other ways than a commit, or were damaged since: found, refused, and never made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.verification import verify
from store.data_root import DataRoot
from store.errors import DocumentCorrupt, DocumentInvalid, DocumentMissing, StoreError
from store.identity import digest_of, id_from_digest
from tests.faults.children import Acknowledge, run_child
from tests.faults.filesystems import mounted
from tests.faults.writing import DIGEST, DOC_ID, FILES, commit_document
from tests.pipeline.built_store import build, make_roots
from tests.pipeline.test_making import make, make_all, plan_of, workspace  # noqa: F401

NAMES = [*FILES, "metadata.json"]


@pytest.fixture
def data(tmp_path) -> DataRoot:
    data = DataRoot(tmp_path / "data")
    commit_document(data, lambda name: None)
    return data


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Roots:
    roots = make_roots(tmp_path_factory.mktemp("built"))
    build(roots)
    return roots


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_byte_anywhere_in_any_file_is_found_by_the_deep_check(name, data):
    path = data.documents.folder_of("draft", DOC_ID) / name
    whole = path.read_bytes()
    positions = range(0, len(whole), max(1, len(whole) // 60))

    for position in positions:
        overwrite(path, whole[:position] + bytes([whole[position] ^ 0x20]) + whole[position + 1 :])
        with pytest.raises(StoreError) as caught:
            data.documents.read_deeply("draft", DOC_ID)
        assert isinstance(caught.value, DocumentInvalid | DocumentCorrupt)
    overwrite(path, whole)
    data.documents.read_deeply("draft", DOC_ID)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "longer"])
def test_a_file_of_another_size_is_found_by_the_quick_check(name, damage, data):
    path = data.documents.folder_of("draft", DOC_ID) / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        overwrite(path, {"cut": whole[: len(whole) // 2], "emptied": b"", "longer": whole + b"}"}[damage])

    with pytest.raises((DocumentInvalid, DocumentCorrupt)):
        data.documents.is_present("draft", DOC_ID)


def test_a_document_that_is_copied_file_by_file_is_not_valid_before_it_is_whole(data, tmp_path):
    """As rsync restores a backup; in any order of the files, a reader raises, and takes nothing for missing."""
    source = data.documents.folder_of("draft", DOC_ID)
    for first in range(len(NAMES)):
        restored = DataRoot(tmp_path / f"restored-{first}")
        folder = restored.documents.folder_of("draft", DOC_ID)
        (folder / "extras").mkdir(parents=True)
        for name in NAMES[first:] + NAMES[:first]:
            with pytest.raises((DocumentInvalid, DocumentCorrupt)):
                restored.documents.is_present("draft", DOC_ID)
            shutil.copy2(source / name, folder / name)

        assert restored.documents.read_deeply("draft", DOC_ID).metadata["digest"] == DIGEST


@pytest.mark.parametrize("schema", [0, 2, 999, "1", None])
def test_a_document_of_a_schema_that_this_version_does_not_know_is_refused_with_its_number(schema, data):
    path = data.documents.folder_of("draft", DOC_ID) / "metadata.json"
    before = path.read_bytes()
    written = {None: b"null", "1": b'"1"'}.get(schema, str(schema).encode())
    overwrite(path, before.replace(b'"schema": 1', b'"schema": ' + written))

    with pytest.raises(DocumentInvalid, match=r"this version reads schema 1"):
        data.documents.is_present("draft", DOC_ID)


def test_a_child_of_a_damaged_parent_is_not_made_and_nobody_is_asked(workspace, provider):  # noqa: F811
    draft, essay = plan_of(workspace, Stage.DRAFT), plan_of(workspace, Stage.ESSAY, "told")
    folder = make(workspace, draft).folder
    overwrite(folder / "parsed.txt", b"\0" * (folder / "parsed.txt").stat().st_size)
    asked = len(provider.requests)

    with pytest.raises(DocumentCorrupt):
        make(workspace, essay)

    assert len(provider.requests) == asked
    with pytest.raises(DocumentMissing):
        workspace.data.documents.read(Stage.ESSAY, essay.doc_id)


def test_a_document_whose_folder_was_moved_away_is_made_again_from_the_ledger(workspace, provider):  # noqa: F811
    make_all(workspace)
    asked = len(provider.requests)
    before = workspace.data.documents.read_deeply(Stage.DRAFT, plan_of(workspace, Stage.DRAFT).doc_id)
    before.folder.rename(before.folder.with_name("moved-away"))

    after = make(workspace, plan_of(workspace, Stage.DRAFT))

    assert after.content_id == before.content_id
    assert len(provider.requests) == asked


# A whole store


def test_a_disk_that_cannot_read_a_file_is_told_and_the_rest_is_checked(tmp_path):
    """btrfs has a hash of each block of its own: where a bit is flipped on the disk, reading gives an error."""
    inputs = {"number": 2}
    digest = digest_of("essay", inputs)
    doc_id, files = id_from_digest(digest), {"parsed.txt": b"rest", "raw.txt": MARK * 2000}

    def commit_both(_: Acknowledge) -> None:
        data = DataRoot(disk.folder)
        commit_document(data, lambda name: None)
        data.documents.commit("essay", doc_id, files, {"digest": digest, "inputs": inputs})

    with mounted("btrfs", tmp_path) as disk:
        run_child(commit_both)  # which has the journal open to its end
        disk.unmount()
        damage_image(disk.image, MARK)
        disk.mount()
        with pytest.raises(OSError, match="Input/output error"):
            (disk.folder / "docs" / "essay" / doc_id / "raw.txt").read_bytes()

        found = verify(DataRoot(disk.folder), tmp_path / "config", deep=True)

    assert found.documents == 2
    assert [(judged.finding.kind, judged.finding.place, judged.finding.file) for judged in found.findings] == [
        ("unreadable", f"docs/essay/{doc_id}", "raw.txt")
    ]


MARK = b"a block on a disk that goes bad. "


def damage_image(image: Path, mark: bytes) -> None:
    """Flip a bit of every copy of some bytes on an unmounted disk."""
    content = bytearray(image.read_bytes())
    count, position = 0, content.find(mark)
    while position >= 0:
        content[position] ^= 1
        count, position = count + 1, content.find(mark, position + 1)
    assert count > 0
    image.write_bytes(content)


def test_no_two_names_of_a_store_differ_in_case_only(built):
    """So a filesystem that does not tell case holds the same store."""
    paths = [path.relative_to(built.data).as_posix() for path in built.data.rglob("*")]

    assert len({path.casefold() for path in paths}) == len(paths)
    names = [path for path in paths if not path.startswith(("journal/", ".tmp/"))]
    assert [path for path in names if path != path.lower()] == []
