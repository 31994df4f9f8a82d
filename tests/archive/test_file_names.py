"""Names made of titles never collide, never lead out of their folder, and work on every file system."""

from __future__ import annotations

import re

import pytest

from pipeline.archive.file_names import GivenName, make_slug, name_attachments, name_view

HOSTILE = [
    "",
    "...",
    "../../etc/passwd",
    "C:\\Windows\\con",
    "con",
    "NUL.txt",
    "com1",
    "trailing dot. ",
    "a/b\x00c\n",
    "\u202egnp.exe",
    "港の写真",
    "🚢" * 100,
    "ﬁ ① Ⅷ ß İ",
    "x" * 5000,
    "---",
    "a%2e%2e%2fb",
]


@pytest.mark.parametrize("title", HOSTILE)
def test_a_slug_is_short_plain_and_never_empty(title):
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?", make_slug(title))


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Harbour photo: which port?", "harbour-photo-which-port"),
        ("Café", "cafe"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full-width"),
        ("港の写真", "untitled"),
        ("x" * 70, "x" * 60),
        ("a" * 59 + " b", "a" * 59),
    ],
)
def test_a_slug_is_what_a_reader_would_type(title, slug):
    assert make_slug(title) == slug


def test_titles_that_only_look_different_have_files_of_their_own():
    titles = ["Café", "CAFÉ", "cafe\u0301", "cafe", "Cafe."]

    names = {
        name_view(title, "2026-03-01T00:00:00Z", f"{number}abcdefghijklmno") for number, title in enumerate(titles)
    }

    assert len(names) == len(titles)


@pytest.mark.parametrize("title", HOSTILE)
def test_the_path_of_an_attachment_stays_short_and_in_its_folder(title):
    view = name_view(title, "2026-03-01T09:00:00Z", "3f9a1c2b7d8e4f60")
    (name,) = name_attachments([GivenName(title, "ab" * 32)]).values()

    path = f"provider-name/2026/{view}-branch-99.files/{name}"

    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
    assert ".." not in path
    assert len(path.encode()) < 200
    assert name.partition(".")[0] not in ("con", "nul", "com1", "aux", "prn")


def test_a_time_that_is_none_makes_an_undated_name():
    assert name_view("a", None, "3f9a1c2b7d8e4f60") == "undated-a-3f9a1c2b7d"
    assert name_view("a", "../../..", "3f9a1c2b7d8e4f60") == "undated-a-3f9a1c2b7d"


def test_attachments_with_equal_names_are_told_apart_whatever_their_order():
    first, second = GivenName("Photo.png", "aa" * 32), GivenName("photo.PNG", "bb" * 32)
    other = GivenName("notes.txt", "cc" * 32)

    names = name_attachments([first, second, other, first])

    assert names == {first: "photo-aaaaaaaa.png", second: "photo-bbbbbbbb.png", other: "notes.txt"}
    assert name_attachments([other, second, first]) == names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("report.final.PDF", "report-final.pdf"),
        ("page.html", "page.html.txt"),
        ("drawing.svg", "drawing.svg.txt"),
        ("start.desktop", "start.desktop.txt"),
        ("data.tar.gz", "data-tar.gz"),
        ("no ending", "no-ending"),
        ("odd.e x e", "odd-e-x-e"),
        (".gitignore", "gitignore"),
        ("folder/inner\\name.csv", "name.csv"),
        ("con.txt", "file-con.txt"),
        ("港.jpg", "file.jpg"),
    ],
)
def test_an_attachment_keeps_its_ending_unless_a_click_would_run_it(given, name):
    assert name_attachments([GivenName(given, "ab" * 32)]) == {GivenName(given, "ab" * 32): name}
