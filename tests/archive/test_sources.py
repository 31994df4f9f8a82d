"""What a source lists of files, folders, ZIPs and standard input, and how it bears those that mean harm."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.archive.reading import sources
from pipeline.archive.reading.entries import FileRefused
from pipeline.archive.reading.sources import Source, open_source
from pipeline.archive.reading.zip_files import OPEN_ARCHIVES, Budget
from pipeline.errors import InputInvalid
from tests.archive.made_zips import add_entry, change_lists, encrypt, lie_about_size, make_zip, repeat_entry, write_zip

Look = Callable[..., "Seen"]


class Seen:
    """What was seen of a source, with the bytes of its files; a refused one has the reason."""

    def __init__(self, source: Source) -> None:
        self.container, self.size_bytes = source.container, source.size_bytes
        self.names = [entry.name for entry in source.entries]
        self.raw_names = {entry.name: entry.raw_name for entry in source.entries if entry.raw_name}
        self.contents: dict[str, Any] = {}
        for entry in source.entries:
            try:
                with entry.open() as file:
                    self.contents[entry.name] = file.read()
            except FileRefused as error:
                self.contents[error.place] = error.reason
        self.lost = [(skip.reason, skip.place) for skip in source.skips if not skip.is_info]
        self.notes = [(skip.reason, skip.place, skip.detail) for skip in source.skips if skip.is_info]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    def look(path: Path | str | bytes, **limits: int) -> Seen:
        if isinstance(path, bytes):
            given = tmp_path / "given.zip"
            given.write_bytes(path)
            path = given
        before = sorted(tmp_path.rglob("*"))
        with open_source(str(path), temporary_folder=tmp_path, budget=Budget(**limits)) as source:
            seen = Seen(source)
        assert sorted(tmp_path.rglob("*")) == before, "nothing is ever extracted"
        return seen

    return look


def count_open_files() -> int:
    return len(os.listdir("/dev/fd"))


# Files and standard input


def test_a_file_is_itself(look, tmp_path):
    (tmp_path / "a.json").write_text("[1]")

    seen = look(tmp_path / "a.json")

    assert (seen.container, seen.contents, seen.size_bytes) == ("file", {"a.json": b"[1]"}, 3)


def test_a_path_that_is_not_there_is_told_with_what_was_expected(look, tmp_path):
    with pytest.raises(InputInvalid, match=r"no file or folder '.*missing'. Expected"):
        look(tmp_path / "missing")


@pytest.mark.parametrize("content", [b'[{"a": 1}]', make_zip({"b.json": b"[2]"}), b""])
def test_standard_input_may_be_anything(content, tmp_path):
    program = (
        "import sys; from pathlib import Path; from pipeline.archive.reading.sources import open_source\n"
        "with open_source('-', temporary_folder=Path(sys.argv[1])) as source:\n"
        "    files = [(entry.name, entry.open(), entry.open()) for entry in source.entries]\n"
        "    print(source.container, [(name, one.read(3), two.read(), one.read()) for name, one, two in files])\n"
    )

    run = subprocess.run([sys.executable, "-c", program, tmp_path], input=content, capture_output=True, check=True)

    expected = [("b.json", b"[2]", b"[2]", b"")] if content[:2] == b"PK" else [("-", content[:3], content, content[3:])]
    assert run.stdout.decode() == f"stdin {expected}\n"
    assert list(tmp_path.iterdir()) == []


def test_standard_input_is_read_no_further_than_the_budget(look, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x" * 5000)))

    with pytest.raises(FileRefused, match="file_too_large"):
        look("-", member_bytes=4000)


# Folders


def test_a_folder_gives_its_files_by_their_relative_names_in_order(look, tmp_path):
    for name in ("b/2.json", "b/1.json", "a.json", "c/d/e"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)

    seen = look(tmp_path / "in")

    assert seen.container == "folder"
    assert seen.contents == {name: name.encode() for name in ("a.json", "b/1.json", "b/2.json", "c/d/e")}
    assert list(seen.contents) == seen.names


def test_what_systems_and_tools_put_into_folders_is_left_out_and_counted(look, tmp_path):
    for name in (".git/config", "x/.git/config", ".DS_Store", "x/Thumbs.db", "x/._chat.json", "x/chat.json"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)

    seen = look(tmp_path / "in")

    assert seen.names == ["x/chat.json"]
    assert seen.lost == []
    assert seen.notes == [("tool_folder", ".git", "and 1 more"), ("system_file", ".DS_Store", "and 2 more")]


def test_links_in_folders_are_not_followed_but_told(look, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("key")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "to_file").symlink_to(tmp_path / "secret" / "key")
    (folder / "to_folder").symlink_to(tmp_path / "secret")
    (folder / "to_nothing").symlink_to("nowhere")
    (folder / "circle").symlink_to(folder)
    os.mkfifo(folder / "pipe")

    seen = look(folder)

    assert seen.names == []
    assert sorted(seen.lost) == [
        *[("link", "circle"), ("link", "to_file"), ("link", "to_folder"), ("link", "to_nothing")],
        ("special_file", "pipe"),
    ]


def test_a_zip_in_a_folder_is_itself_and_what_is_in_it(look, tmp_path):
    (tmp_path / "in").mkdir()
    write_zip(tmp_path / "in" / "export.zip", {"conversations.json": b"[]", "files/a.png": b"png"})
    (tmp_path / "in" / "z.json").write_text("{}")

    seen = look(tmp_path / "in")

    assert seen.names == ["export.zip", "export.zip/conversations.json", "export.zip/files/a.png", "z.json"]
    assert seen.contents["export.zip/files/a.png"] == b"png"
    assert seen.lost == []


def test_a_big_zip_in_a_folder_is_only_what_is_in_it(look, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "WHOLE_ZIP_BYTES", 10)
    (tmp_path / "in").mkdir()
    write_zip(tmp_path / "in" / "export.zip", {"conversations.json": b"[]"})

    assert look(tmp_path / "in").names == ["export.zip/conversations.json"]


def test_a_broken_zip_in_a_folder_stops_no_other_file(look, tmp_path):
    (tmp_path / "in").mkdir()
    whole = make_zip({"a.json": b"[]" * 100})
    (tmp_path / "in" / "a.zip").write_bytes(whole[:-30])
    (tmp_path / "in" / "b.json").write_text("{}")

    seen = look(tmp_path / "in")

    assert seen.contents == {"a.zip": whole[:-30], "a.zip/a.json": b"[]" * 100, "b.json": b"{}"}
    assert seen.lost == [("truncated_zip", "a.zip")]


# ZIPs


def test_a_zip_gives_its_files_without_the_folder_that_all_share(look):
    seen = look(make_zip({"export/2026/": b"", "export/2026/a.json": b"[1]", "export/2026/b/c.json": b"[2]"}))

    assert (seen.container, seen.size_bytes) == ("zip", 6)
    assert seen.contents == {"a.json": b"[1]", "b/c.json": b"[2]"}
    assert seen.raw_names == {"a.json": "export/2026/a.json", "b/c.json": "export/2026/b/c.json"}


def test_resource_forks_in_a_zip_are_left_out_and_counted(look):
    seen = look(make_zip({"export/a.json": b"[]", "__MACOSX/export/._a.json": b"x", "export/.DS_Store": b"y"}))

    assert seen.names == ["a.json"]
    assert seen.notes == [("system_file", "__MACOSX/export/._a.json", "and 1 more")]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("C:\\chats\\..\\a.json", "chats/a.json"),
        ("a\x1b[31m\n.json", "a\ufffd[31m\ufffd.json"),
        ("gpj.\u202enosj", "gpj.\ufffdnosj"),
        ("./a//b/.", "a/b"),
        ("..", "unnamed"),
        ("CON", "CON"),
        ("x" * 5000, "x" * 5000),
    ],
)
def test_names_are_data_and_safe_to_show(look, raw, clean):
    seen = look(make_zip({"other.json": b"{}", raw: b"content"}))

    assert seen.contents[clean] == b"content"
    assert (clean in seen.raw_names) == (raw != clean)
    assert all(name.isprintable() for name in seen.raw_names.values())


def test_a_name_with_a_nul_byte_is_read_to_its_end(look):
    content = make_zip({"a.json?.exe": b"{}", "b": b""}).replace(b"a.json?.exe", b"a.json\0.exe")

    seen = look(content)

    assert seen.contents["a.json\ufffd.exe"] == b"{}"
    assert seen.raw_names == {"a.json\ufffd.exe": "a.json\\x00.exe"}


@pytest.mark.parametrize(
    ("in_zip", "name"),
    [("é.json".encode(), "é.json"), ("é.json".encode("cp437"), "é.json"), ("表".encode("shift-jis"), "ò\\")],
)
def test_names_without_a_mark_are_utf_8_or_else_of_the_old_code_page(look, in_zip, name):
    placeholder = b"n" * len(in_zip)

    seen = look(make_zip({placeholder.decode(): b"{}", "b": b""}).replace(placeholder, in_zip))

    assert seen.names == [name.replace("\\", ""), "b"]
    assert seen.lost == []


def test_files_with_one_name_are_all_kept_in_order_and_told(look, tmp_path):
    content = make_zip({"a.json": b"first", "./a.json": b"second", "b.json": b"third"}).replace(b"b.json", b"a.json")
    (tmp_path / "a.zip").write_bytes(content)

    with open_source(str(tmp_path / "a.zip"), temporary_folder=tmp_path) as source:
        contents = [entry.open().read() for entry in source.entries]

    assert contents == [b"first", b"second", b"third"]
    assert [(skip.reason, skip.place) for skip in source.skips] == [("duplicate_name", "a.json")]


def test_links_and_devices_in_a_zip_are_refused_one_by_one(look, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        add_entry(archive, "good.json", b"{}")
        add_entry(archive, "link", b"/etc/passwd", mode=0o120777)
        add_entry(archive, "device", mode=0o020666)
        add_entry(archive, "also good.json", b"[]", mode=0)

    seen = look(tmp_path / "a.zip")

    assert seen.contents == {"good.json": b"{}", "also good.json": b"[]"}
    assert seen.lost == [("link", "link"), ("special_file", "device")]


def test_encrypted_files_are_refused(look):
    seen = look(encrypt(make_zip({"a.json": b"{}", "b.json": b"[]"})))

    assert seen.names == []
    assert seen.lost == [("encrypted", "a.json"), ("encrypted", "b.json")]


def test_ways_of_packing_without_bounds_are_refused(look):
    assert look(make_zip({"a.json": b"{}" * 100}, method=zipfile.ZIP_BZIP2)).lost == [("unknown_packing", "a.json")]
    assert look(change_lists(make_zip({"a.json": b"{}"}), 10, "<H", 9)).lost == [("unknown_packing", "a.json")]


def test_a_bomb_is_refused_while_it_is_read(look):
    bomb = make_zip({"a.json": b"[]", "bomb": b"\0" * 20_000_000})

    seen = look(bomb)

    assert seen.contents == {"a.json": b"[]", "bomb": "packed_too_tightly"}


def test_a_bomb_that_hides_its_ratio_is_refused(look):
    """Its list of files gives it as many packed bytes as its ratio allows, which reach beyond the others'."""
    bomb = make_zip({"bomb": b"\0" * 20_000_000, "a.json": b"[]"})

    assert look(change_lists(bomb, 20, "<L", 40_000_000)).names == []


@pytest.mark.parametrize("size_bytes", [0, 1, 999, 2_000_000_000])
def test_lies_about_sizes_are_found_while_reading(look, size_bytes):
    content = os.urandom(1000)

    seen = look(lie_about_size(make_zip({"a": content}, method=zipfile.ZIP_DEFLATED), size_bytes))

    assert seen.contents["a"] in (("damaged",) if size_bytes < 1000 else (content, "damaged"))


def test_flipped_bytes_are_found_and_stop_no_other_file(look):
    content = make_zip({"a.json": b"[1, 2, 3]", "b.json": b"[4]"}, method=zipfile.ZIP_STORED)

    seen = look(content.replace(b"[1, 2, 3]", b"[1, 9, 3]"))

    assert seen.contents == {"a.json": "damaged", "b.json": b"[4]"}


def test_few_bytes_that_are_listed_many_times_are_refused(look):
    seen = look(repeat_entry(make_zip({"a": os.urandom(1000)}), 50))

    assert seen.names == []
    assert set(seen.lost) == {("overlapping", "a")}


def test_a_file_beyond_its_limit_is_refused_and_the_others_are_read(look):
    files = {"a": os.urandom(100), "b": os.urandom(5000), "c": os.urandom(100)}

    seen = look(make_zip(files), member_bytes=1000)

    assert seen.lost == [("file_too_large", "b")]
    assert seen.contents == {"a": files["a"], "c": files["c"]}


def test_a_file_beyond_its_limit_is_refused_also_if_its_size_is_a_lie(look):
    content = lie_about_size(make_zip({"b": os.urandom(5000)}), 900)

    assert look(content, member_bytes=1000).contents == {"b": "damaged"}


def test_files_together_beyond_the_limit_are_refused_from_there_on(look):
    files = {name: os.urandom(1000) for name in "abcd"}

    seen = look(make_zip(files), total_bytes=2500)

    assert seen.contents == {"a": files["a"], "b": files["b"], "c": "source_too_large", "d": "source_too_large"}


def test_a_file_that_is_opened_twice_counts_once(tmp_path):
    write_zip(tmp_path / "a.zip", {"a": os.urandom(1000), "b": os.urandom(1000)})

    with open_source(str(tmp_path / "a.zip"), temporary_folder=tmp_path, budget=Budget(total_bytes=2000)) as source:
        for entry in [*source.entries, *source.entries]:
            assert len(entry.open().read()) == 1000


@pytest.mark.parametrize("limit", [99, 98])
def test_a_zip_with_too_many_files_is_kept_as_it_is(look, limit):
    content = make_zip({f"{number}.json": b"" for number in range(100)})

    seen = look(content, entries=limit)

    assert seen.lost == [("too_many_files", "given.zip")]
    assert seen.contents == {"given.zip": content}


def test_a_zip_that_says_it_has_too_many_files_is_not_even_listed(look):
    content = bytearray(make_zip({"a.json": b"[1]"}))
    struct.pack_into("<2H", content, content.rindex(b"PK\x05\x06") + 8, 60_000, 60_000)

    assert look(bytes(content), entries=50_000).lost == [("too_many_files", "given.zip")]


@pytest.mark.slow
def test_sixty_thousand_files_are_listed(look):
    seen = look(make_zip({f"{number}": b"" for number in range(60_000)}, method=zipfile.ZIP_STORED))

    assert len(seen.names) == 60_000


def test_an_empty_zip_and_a_file_without_a_name_are_no_trouble(look):
    assert (look(make_zip({})).container, look(make_zip({})).names) == ("zip", [])
    assert look(make_zip({"Q": b"{}", "b": b""}).replace(b"Q", b"\0")).contents == {"\ufffd": b"{}", "b": b""}


def test_one_part_of_a_split_zip_is_kept_as_it_is_and_told(look):
    content = bytearray(make_zip({"a.json": b"[1]"}))
    content[content.rindex(b"PK\x05\x06") + 4] = 3

    assert look(bytes(content)).lost == [("split_zip", "given.zip")]


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_a_zip_makes_it_fail(look, seed):
    content = bytearray(make_zip({"a/b.json": b"[1]" * 50, "a/c.json": os.urandom(100), "é": b""}))
    for step in range(1 + seed % 3):
        content[(seed * 7919 + step * 104729) % len(content)] ^= 1 << (seed % 8)

    seen = look(bytes(content))

    assert seen.names or seen.lost


# ZIPs within ZIPs


def test_a_zip_within_a_zip_is_itself_and_what_is_in_it(look):
    inner = make_zip({"p/1.json": b"[1]", "p/2.json": b"[2]"})

    seen = look(make_zip({"projects.zip": inner, "users.json": b"[]"}))

    assert seen.contents == {
        "projects.zip": inner,
        "projects.zip/1.json": b"[1]",
        "projects.zip/2.json": b"[2]",
        "users.json": b"[]",
    }
    assert seen.lost == []


def test_zips_are_looked_into_two_levels_deep(look):
    content = b"[]"
    for name in ("d.json", "c.zip", "b.zip", "a.zip"):
        content = make_zip({name: content, "beside": b""})

    seen = look(content)

    assert "a.zip/b.zip/c.zip" in seen.names
    assert "a.zip/b.zip/c.zip/d.json" not in seen.names
    assert seen.lost == [("nested_too_deep", "a.zip/b.zip/c.zip")]


def test_zips_within_share_one_budget(look):
    inner = make_zip({"big": os.urandom(1000)}, method=zipfile.ZIP_STORED)
    outer = make_zip({f"{number}.zip": inner for number in range(5)}, method=zipfile.ZIP_STORED)

    seen = look(outer, total_bytes=4 * len(inner))

    assert "source_too_large" in seen.contents.values() or ("source_too_large", "4.zip") in seen.lost
    assert look(outer, entries=7).lost[-1] == ("too_many_files", "4.zip")


def test_many_zips_within_can_be_read_in_any_order(tmp_path):
    inner = {f"{number}.zip": make_zip({"n": str(number).encode()}) for number in range(20)}
    write_zip(tmp_path / "a.zip", inner)

    before = count_open_files()
    with open_source(str(tmp_path / "a.zip"), temporary_folder=tmp_path) as source:
        entries = {entry.name: entry for entry in source.entries}
        for number in [*range(20), *reversed(range(20))]:
            with entries[f"{number}.zip/n"].open() as file:
                assert file.read() == str(number).encode()
        assert count_open_files() - before <= OPEN_ARCHIVES
    assert count_open_files() == before


@pytest.mark.parametrize("sign", ["[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"])
def test_documents_and_programs_that_are_zips_are_not_looked_into(look, sign):
    document = make_zip({sign: b"", "word/document.xml": b"<w/>"})

    assert look(make_zip({"file-abc": document, "b": b""})).names == ["file-abc", "b"]


def test_a_zip_within_that_is_a_bomb_or_broken_is_kept_or_refused_alone(look):
    bomb = make_zip({"zeros": b"\0" * 3_000_000})
    broken = make_zip({"a": b"x" * 100})[:-5]

    seen = look(make_zip({"bomb.zip": bomb, "broken.zip": broken, "good.json": b"{}"}))

    assert seen.contents["bomb.zip/zeros"] == "packed_too_tightly"
    assert seen.contents["broken.zip"] == broken
    assert seen.contents["good.json"] == b"{}"
    assert seen.lost == [("truncated_zip", "broken.zip")]
