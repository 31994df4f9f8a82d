"""ZIPs that lost the list of their files: what is in front of the cut is read, and what is not is named."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.archive.catalogue import read_catalogue
from pipeline.archive.coverage import Coverage
from pipeline.archive.importing import import_again, import_paths
from pipeline.archive.reading import sources
from pipeline.archive.reading.sources import open_source
from pipeline.archive.reading.zip_files import Budget
from pipeline.cli import main
from store.data_root import DataRoot
from tests.archive.made_zips import make_zip
from tests.archive.small_exports import make_chat, make_session

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
LIST, FILE, BEHIND = b"PK\1\2", b"PK\3\4", b"PK\7\b"


class Stream(io.RawIOBase):
    """A file that cannot be gone back in, as a server that makes a ZIP while it sends it."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.content += data
        return len(data)


def stream_zip(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, is_long: bool = False) -> bytes:
    """Return a ZIP in which the sizes stand behind the files, in 64 bits if it is long."""
    stream = Stream()
    fill_zip(stream, files, method, is_long=is_long)
    return bytes(stream.content)


def make_long_zip(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP in which the sizes stand in a field of 64 bits in front of the files."""
    content = io.BytesIO()
    fill_zip(content, files, zipfile.ZIP_DEFLATED, is_long=True)
    return content.getvalue()


def fill_zip(stream, files: Mapping[str, bytes], method: int, *, is_long: bool) -> None:
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            with archive.open(_info(name, method), "w", force_zip64=is_long) as file:
                file.write(data)


def _info(name: str, method: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = method
    return info


def cut_list(content: bytes) -> bytes:
    return content[: content.index(LIST)]


class Seen:
    def __init__(self, content: bytes, folder: Path, **limits: int) -> None:
        path = folder / "given.zip"
        path.write_bytes(content)
        with open_source(str(path), temporary_folder=folder, budget=Budget(**limits)) as source:
            self.contents = {}
            for entry in source.entries:
                try:
                    with entry.open() as file:
                        self.contents[entry.name] = file.read()
                except Exception as error:
                    self.contents[entry.name] = error.reason
            self.skips = [(skip.reason, skip.place) for skip in source.skips if not skip.is_info]
            self.details = {skip.place: skip.detail for skip in source.skips}
        assert self.contents.pop("given.zip") == content, "the ZIP is kept as it is"


@pytest.fixture
def look(tmp_path):
    return lambda content, **limits: Seen(content, tmp_path, **limits)


WAYS = {
    "packed": make_zip,
    "stored": lambda files: make_zip(files, method=zipfile.ZIP_STORED),
    "long": make_long_zip,
    "packed, sizes behind": stream_zip,
    "stored, sizes behind": lambda files: stream_zip(files, method=zipfile.ZIP_STORED),
    "long, sizes behind": lambda files: stream_zip(files, is_long=True),
    "long and stored, sizes behind": lambda files: stream_zip(files, method=zipfile.ZIP_STORED, is_long=True),
}
FILES = {
    "export/chats.json": json.dumps([{"id": number, "text": "word " * number} for number in range(60)]).encode(),
    "export/a/": b"",
    "export/a/picture.png": PNG,
    "export/a/é.txt": b"So, PK\3\4, is how a ZIP begins, PK\7\b stands behind " * 20,
    "export/empty.json": b"",
    "export/notes.txt": os.urandom(50).hex().encode() * 3,
}
CLEAN = {name.removeprefix("export/"): content for name, content in FILES.items() if not name.endswith("/")}


@pytest.mark.parametrize("way", WAYS)
def test_a_zip_without_its_list_gives_all_its_files_and_tells_that_it_is_missing(look, way):
    seen = look(cut_list(WAYS[way](FILES)))

    assert seen.contents == CLEAN
    assert seen.skips == [("truncated_zip", "given.zip")]
    assert "5 of its files could be found without it" in seen.details["given.zip"]


@pytest.mark.parametrize("way", WAYS)
def test_wherever_a_zip_is_cut_what_is_in_front_of_the_cut_is_read_and_nothing_else(look, way):
    content = WAYS[way](FILES)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        starts = {info.filename: info.header_offset for info in archive.infolist()}
    ends = dict(zip(starts, [*list(starts.values())[1:], content.index(LIST)], strict=True))
    cuts = sorted(random.Random(7).sample(range(22, len(content) - 1), 40))

    for cut in cuts:
        seen = look(content[:cut])

        for name, data in FILES.items():
            found = [value for key, value in seen.contents.items() if name.endswith(key)]
            if ends[name] <= cut and data:
                assert data in found, (cut, name)
        for key, value in seen.contents.items():
            original = next(data for name, data in FILES.items() if name.endswith(key))
            assert original.startswith(value)
            assert original == value or ("truncated", key) in seen.skips
        assert ("truncated_zip", "given.zip") in seen.skips


def test_the_mark_of_a_zip_that_was_to_be_split_is_passed_over(look):
    assert look(BEHIND + cut_list(make_zip({"a.json": b"[1]"}))).contents == {"a.json": b"[1]"}


def test_a_damaged_list_is_told_as_such_and_needs_no_list(look):
    content = bytearray(make_zip({"a.json": b"[1]" * 50, "b.json": b"[2]"}))
    content[content.index(LIST)] ^= 1

    seen = look(bytes(content))

    assert seen.contents == {"a.json": b"[1]" * 50, "b.json": b"[2]"}
    assert seen.skips == [("damaged_zip", "given.zip")]


def test_a_list_of_a_zip_within_is_not_taken_for_that_of_the_zip_that_is_cut(look):
    inner = make_zip({"inner.json": b"[1]"})
    content = make_zip({"a.json": b"[0]", "inner.zip": inner, "z.json": b"[2]"}, method=zipfile.ZIP_STORED)

    seen = look(content[: content.index(b"z.json") + 3])

    assert seen.contents == {"a.json": b"[0]", "inner.zip": inner, "inner.zip/inner.json": b"[1]"}
    assert seen.skips == [("truncated_zip", "given.zip")]


def test_a_zip_within_that_is_cut_is_read_up_to_the_cut(look):
    inner = make_zip({"inner.json": b"[1]" * 50, "other.json": os.urandom(300).hex().encode()})
    content = make_zip({"a.json": b"[0]", "inner.zip": inner}, method=zipfile.ZIP_STORED)

    seen = look(content[: content.index(b"other.json") + 100])

    assert seen.contents["inner.zip/inner.json"] == b"[1]" * 50
    assert inner.startswith(seen.contents["inner.zip"])
    assert ("truncated", "inner.zip/other.json") in seen.skips
    assert ("truncated_zip", "inner.zip") in seen.skips


def test_a_picture_that_is_cut_is_named_and_is_none(look):
    content = make_zip({"a.json": b"[0]", "picture.png": PNG}, method=zipfile.ZIP_STORED)

    seen = look(content[: content.index(PNG) + 500])

    assert seen.contents == {"a.json": b"[0]"}
    assert ("truncated", "picture.png") in seen.skips


@pytest.mark.parametrize("way", WAYS)
def test_a_file_with_another_checksum_is_named_and_its_neighbours_are_read(look, way):
    content = cut_list(WAYS[way]({"a.json": b"[0]", "b.json": b"[1, 2, 3]" * 3, "c.json": b"[4]"}))
    crc = struct.pack("<L", zlib.crc32(b"[1, 2, 3]" * 3))

    seen = look(content.replace(crc, b"\0\1\2\3"))

    assert seen.contents == {"a.json": b"[0]", "b.json": "damaged", "c.json": b"[4]"}


@pytest.mark.parametrize("behind", range(1, 16))
def test_a_file_is_whole_where_only_what_stands_behind_it_is_cut(look, behind):
    content = stream_zip({"a.json": b"[0]", "b.png": PNG})

    seen = look(content[: content.rindex(BEHIND) + behind])

    assert seen.contents == {"a.json": b"[0]", "b.png": PNG}
    assert seen.skips == [("truncated_zip", "given.zip")]


def test_a_file_of_another_length_than_it_says_is_named(look):
    content = bytearray(cut_list(make_zip({"a.json": b"[0]" * 50, "b.json": b"[1]"})))
    struct.pack_into("<L", content, 22, 151)

    assert look(bytes(content)).contents == {"a.json": "damaged", "b.json": b"[1]"}


def test_where_a_packed_file_of_unknown_length_is_broken_the_walk_ends_and_says_so(look):
    content = bytearray(cut_list(stream_zip({"a.json": b"[0]", "b.json": b"[1]" * 50, "c.json": b"[4]"})))
    content[content.index(b"b.json") + 6] = 0xFF  # a kind of block that does not exist

    seen = look(bytes(content))

    assert seen.contents == {"a.json": b"[0]"}
    assert seen.skips == [("truncated_zip", "given.zip"), ("damaged", "b.json")]


def test_encrypted_files_and_unknown_ways_of_packing_are_refused_and_passed_over(look):
    content = bytearray(cut_list(make_zip({"a.json": b"[0]", "b.json": b"[1]", "c.json": b"[2]"})))
    first, second = content.index(FILE), content.index(FILE, 4)
    content[first + 6] |= 1
    content[second + 8] = 12

    seen = look(bytes(content))

    assert seen.contents == {"c.json": b"[2]"}
    assert seen.skips == [("truncated_zip", "given.zip"), ("encrypted", "a.json"), ("unknown_packing", "b.json")]


def test_names_are_data_and_what_systems_put_there_is_left_out(look):
    content = make_zip({"../../etc/passwd": b"x", "__MACOSX/._a": b"y", "C:\\b\n.json": b"[1]"})

    seen = look(cut_list(content))

    assert seen.contents == {"etc/passwd": b"x", "b\ufffd.json": b"[1]"}


def test_bombs_are_refused_while_they_are_read(look):
    assert look(cut_list(make_zip({"bomb": b"\0" * 20_000_000})), ratio=900).contents == {"bomb": "packed_too_tightly"}
    seen = look(cut_list(stream_zip({"a": b"a", "bomb": b"\0" * 3_000_000})), member_bytes=2_000_000)
    assert (seen.contents, seen.skips[1:]) == ({"a": b"a"}, [("file_too_large", "bomb")])
    seen = look(cut_list(stream_zip({"a": b"a" * 999, "b": b"b" * 999, "c": b"c"})), total_bytes=1500)
    assert (seen.contents, seen.skips[1:]) == ({"a": b"a" * 999}, [("source_too_large", "b")])


def test_a_cut_zip_with_too_many_files_is_kept_as_it_is(look):
    seen = look(cut_list(make_zip({str(number): b"" for number in range(100)})), entries=99)

    assert (seen.contents, seen.skips) == ({}, [("too_many_files", "given.zip")])


def test_a_cut_zip_with_names_that_are_too_long_together_is_kept_as_it_is(look):
    seen = look(cut_list(make_zip({letter * 5000: b"" for letter in "abc"})), entries=10)

    assert (seen.contents, seen.skips) == ({}, [("too_many_files", "given.zip")])


def test_a_big_zip_within_a_folder_is_kept_if_it_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WHOLE_ZIP_BYTES", 10)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "export.zip").write_bytes(cut_list(make_zip({"a.json": b"[1]"})))

    with open_source(str(tmp_path / "in"), temporary_folder=tmp_path) as source:
        assert [entry.name for entry in source.entries] == ["export.zip", "export.zip/a.json"]


@pytest.mark.parametrize("flags", [0, 8, 9])
def test_sizes_beyond_all_bounds_are_no_trouble(look, flags):
    longest = 2**64 - 1
    fields = struct.pack("<2H2Q", 1, 16, longest, longest)
    header = struct.pack("<4s5H3L2H", FILE, 45, flags, 8, 0, 0, 0, 2**32 - 1, 2**32 - 1, 1, len(fields))

    seen = look(make_zip({"a.json": b"[1]"}).partition(LIST)[0] + header + b"n" + fields + b"\xff" * 50)

    assert seen.contents == {"a.json": b"[1]"}
    assert [place for _, place in seen.skips] == ["given.zip", "n"]


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_makes_the_walk_fail(look, seed):
    chooser = random.Random(seed)
    content = bytearray(cut_list(chooser.choice(list(WAYS.values()))(FILES)))
    for _ in range(3):
        content[chooser.randrange(4, len(content))] ^= 1 << chooser.randrange(8)

    first, second = look(bytes(content)), look(bytes(content))

    assert (first.contents, first.skips) == (second.contents, second.skips)
    assert first.skips[0] == ("truncated_zip", "given.zip")


def test_a_big_file_is_read_in_pieces(tmp_path):
    content = cut_list(stream_zip({"big": b"0123456789abcdef" * 2_000_000}, method=zipfile.ZIP_STORED))
    (tmp_path / "given.zip").write_bytes(content)

    tracemalloc.start()
    with open_source(str(tmp_path / "given.zip"), temporary_folder=tmp_path) as source:
        with source.entries[1].open() as file:
            size_bytes = sum(len(piece) for piece in iter(lambda: file.read(1 << 16), b""))
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size_bytes == 32_000_000
    assert peak < 4_000_000


# Imports


def make_export(chats: int = 12) -> bytes:
    """Return an export of which each chat is another one, with an account, a session and a picture beside them."""
    made = []
    for number in range(chats):
        chat = json.loads(json.dumps(make_chat()).replace("tide", f"tide{number} {random.Random(number).random()}"))
        made.append({**chat, "conversation_id": f"chat-{number}"})
    session = "".join(json.dumps(line) + "\n" for line in make_session())
    return make_zip(
        {
            "export/file_0001.png": PNG,
            "export/user.json": json.dumps({"id": "user-1", "email": "someone@example.org"}).encode(),
            "export/session.jsonl": session.encode(),
            "export/conversations.json": json.dumps(made).encode(),
        }
    )


def import_cut(folder: Path, content: bytes) -> tuple[DataRoot, Coverage]:
    data = DataRoot(folder / "data")
    data.path.mkdir(parents=True)
    (folder / "export.zip").write_bytes(content)
    return data, import_paths(data, [str(folder / "export.zip")])


def read_conversations(data: DataRoot) -> dict[str, bytes]:
    found = sorted((data.path / "docs" / "conversation").glob("*/conversation.json"))
    return {path.parent.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    data, coverage = import_cut(tmp_path_factory.mktemp("whole"), make_export())
    assert not coverage.has_skipped
    return read_conversations(data)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_of_an_export_that_is_cut_all_in_front_of_the_cut_is_imported_and_comes_back(tenth, whole, tmp_path):
    content = make_export()
    cut = len(content) * tenth // 10

    data, coverage = import_cut(tmp_path, content[:cut])

    first = read_conversations(data)
    assert coverage.has_skipped
    assert coverage.list_mismatches() == []
    is_within_session = content.index(b"export/session") < cut < content.index(b"export/conversations")
    assert len(first.keys() - whole.keys()) <= is_within_session, "what is whole is the same document"
    if cut > content.index(b"export/conversations"):
        assert {"session.jsonl"} <= {each.name for each in coverage.sets[0].files if each.imported == 1}
    if tenth == 7:
        assert 1 < len(first) < len(whole)
    shutil.rmtree(data.path / "docs" / "conversation", ignore_errors=True)
    shutil.rmtree(data.tasks_folder)
    import_again(data)
    assert read_conversations(data) == first
    assert import_paths(data, [str(tmp_path / "export.zip")]).as_json()["totals"]["imported"] == 0


def test_what_is_made_from_a_cut_export_can_be_made_again_byte_for_byte(tmp_path, monkeypatch, capsys):
    import_cut(tmp_path, make_export()[:-200])
    monkeypatch.chdir(tmp_path)

    assert main(["rebuild", "--all", "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["documents"]["conversation"]["same"] == 13


def test_what_a_cut_export_lacks_is_not_marked_as_gone_and_the_whole_one_completes_it(whole, tmp_path):
    data, _ = import_cut(tmp_path, make_export())
    newer = make_export(1)
    (tmp_path / "newer.zip").write_bytes(cut_list(newer))

    coverage = import_paths(data, [str(tmp_path / "newer.zip")])

    assert coverage.has_skipped
    assert not any(group.is_gone for group in read_catalogue(data).groups.values())
    assert read_conversations(data) == whole
