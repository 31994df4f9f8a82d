"""TOML files that people write: every mistake is found, at its line, and reading goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Problem
from pipeline.toml_file import HIGHEST_INTEGER, ID_FORM, Table, TomlFile, check_config_id, suggest


def read_text(folder: Path, text: str | bytes) -> TomlFile:
    path = folder / "some.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return TomlFile.read(path, name="some.toml", problems=[])


def table_of(folder: Path, line: str) -> Table:
    """Return the table [here] of a file whose second line is `line`."""
    return read_text(folder, f"[here]\n{line}\n").table("here")


def shown(file: TomlFile) -> list[str]:
    return [str(problem) for problem in file.problems]


# Files


def test_a_missing_file_is_a_mistake_and_reads_as_empty(tmp_path: Path) -> None:
    file = TomlFile.read(tmp_path / "models.toml", name="models.toml", problems=[])

    assert file.problems == [Problem("models.toml", None, "the file does not exist.")]
    assert file.data == {}
    assert not file.is_readable


def test_what_is_not_toml_is_reported_at_its_line(tmp_path: Path) -> None:
    file = read_text(tmp_path, "[a]\nb = 1\nc = = 2\n")

    assert [(problem.line, problem.message[:9]) for problem in file.problems] == [(3, "not TOML:")]
    assert not file.is_readable


def test_a_file_that_is_not_utf_8_is_a_mistake(tmp_path: Path) -> None:
    file = read_text(tmp_path, b'[a]\nb = "\xe9"\n')

    assert "some.toml: the file is not UTF-8" in shown(file)[0]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[a]\nb = 1\n", b"[a]\r\nb = 1\r\n"])
def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path: Path, content: bytes) -> None:
    file = read_text(tmp_path, content)

    assert file.data == {"a": {"b": 1}}
    assert file.lines == {("a",): 1, ("a", "b"): 2}
    assert not file.problems


def test_an_empty_file_is_readable(tmp_path: Path) -> None:
    assert read_text(tmp_path, "").is_readable


def test_texts_come_back_in_one_unicode_form(tmp_path: Path) -> None:
    assert read_text(tmp_path, 'a = "e\u0301"').data == read_text(tmp_path, 'a = "\u00e9"').data


# Lines

MANY_KINDS = """\
# a comment
title = 1

[plain]
key = 1
"quoted key" = 2
'with.dot' = 3
dotted.key = 4

["name.with.dot".inner] # a comment behind
key = 1

[[rules]]
tie = []
[[ rules ]]
pair = 1
[rules.inner]
key = 1
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("title",), 2),
        (("plain",), 4),
        (("plain", "key"), 5),
        (("plain", "quoted key"), 6),
        (("plain", "with.dot"), 7),
        (("plain", "dotted"), 8),
        (("plain", "dotted", "key"), 8),
        (("name.with.dot",), 10),
        (("name.with.dot", "inner"), 10),
        (("name.with.dot", "inner", "key"), 11),
        (("rules", 0), 13),
        (("rules", 0, "tie"), 14),
        (("rules", 1), 15),
        (("rules", 1, "pair"), 16),
        (("rules", 1, "inner"), 17),
        (("rules", 1, "inner", "key"), 18),
    ],
)
def test_a_mistake_is_reported_at_the_line_of_its_key_or_table(
    tmp_path: Path, place: tuple[str | int, ...], line: int
) -> None:
    file = read_text(tmp_path, MANY_KINDS)

    file.report(place, "wrong.")

    assert file.problems == [Problem("some.toml", line, "wrong.")]


def test_a_mistake_without_a_line_of_its_own_is_reported_at_the_nearest_table(tmp_path: Path) -> None:
    file = read_text(tmp_path, "[here]\na = { b = 1 }\n")

    file.report(("here", "a", "b"), "wrong.")
    file.report(("here", "missing"), "wrong.")
    file.report(("nowhere",), "wrong.")

    assert [problem.line for problem in file.problems] == [2, 1, None]


def test_lines_within_lists_and_texts_are_no_tables_or_keys(tmp_path: Path) -> None:
    text = '[a]\nlist = [\n  ["x"],\n  ["y"]\n]\ntext = """\nlimit = 5\n[b]\n"""\nlimit = 1\n[b]\nc = 1\n'
    file = read_text(tmp_path, text)

    assert file.lines == {
        ("a",): 1, ("a", "list"): 2, ("a", "text"): 6, ("a", "limit"): 10, ("b",): 11, ("b", "c"): 12
    }  # fmt: skip


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    assert read_text(tmp_path, "# one\u2028line\x85\n[a]\n").lines == {("a",): 2}


# Keys


@pytest.mark.parametrize(
    ("line", "read", "message"),
    [
        ("key = 1", lambda table: table.text("key"), "key is 1. Expected a text in quotes."),
        ("key = true", lambda table: table.integer("key"), "key is True. Expected a whole number of at least 0."),
        ("key = 1.5", lambda table: table.integer("key"), "key is 1.5. Expected a whole number of at least 0."),
        ("key = 0", lambda table: table.integer("key", low=1), "key is 0. Expected a whole number of at least 1."),
        ("key = '1'", lambda table: table.number("key"), "key is '1'. Expected a number."),
        ("key = nan", lambda table: table.number("key"), "key is nan. Expected a number."),
        ("key = inf", lambda table: table.number("key"), "key is inf. Expected a number."),
        ("key = -1", lambda table: table.number("key", low=0), "key is -1. Expected a number of at least 0."),
        (
            "key = 'a'",
            lambda table: table.names("key"),
            """key is 'a'. Expected a list of names, such as ["a", "b"].""",
        ),
        (
            "key = [1]",
            lambda table: table.names("key"),
            """key is [1]. Expected a list of names, such as ["a", "b"].""",
        ),
        (
            "key = 'lmm'",
            lambda table: table.choice("key", ("llm", "copy"), default="llm"),
            "key is 'lmm'. Expected one of: llm, copy. Did you mean 'llm'?",
        ),
    ],
)
def test_a_wrong_value_is_reported_with_what_was_expected(tmp_path: Path, line: str, read: Any, message: str) -> None:
    table = table_of(tmp_path, line)

    read(table)

    assert shown(table.file) == [f"some.toml, line 2: {message}"]


def test_a_wrong_value_reads_as_its_default(tmp_path: Path) -> None:
    table = table_of(tmp_path, "key = {}")

    assert table.text("key", default="a") == "a"
    assert table.integer("key", default=7) == 7
    assert table.number("key") is None
    assert table.names("key") == []
    assert table.choice("key", ("llm", "copy"), default="copy") == "copy"


def test_a_right_value_is_read_without_a_mistake(tmp_path: Path) -> None:
    table = table_of(tmp_path, "text = 'a'\nwhole = 3\nnumber = 1\nnames = ['a', 'b']\nchoice = 'copy'")

    values = [table.text("text"), table.integer("whole"), table.number("number"), table.names("names")]

    assert values == ["a", 3, 1.0, ["a", "b"]]
    assert isinstance(values[2], float)
    assert table.choice("choice", ("llm", "copy"), default="llm") == "copy"
    assert not table.file.problems


def test_a_whole_number_beyond_64_bits_is_a_mistake(tmp_path: Path) -> None:
    table = table_of(tmp_path, f"most = {HIGHEST_INTEGER}\nmore = {HIGHEST_INTEGER + 1}")

    assert table.integer("most") == HIGHEST_INTEGER
    assert table.integer("more") == 0
    assert [problem.line for problem in table.file.problems] == [3]


def test_a_missing_key_is_a_mistake_only_if_it_is_required(tmp_path: Path) -> None:
    table = table_of(tmp_path, "")

    assert table.integer("max_tokens", default=5) == 5
    assert not table.file.problems
    assert table.integer("max_tokens", required=True, low=1, default=1) == 1
    assert shown(table.file) == [
        "some.toml, line 1: the key 'max_tokens' is missing. Expected max_tokens = a whole number of at least 1."
    ]


def test_an_unknown_key_is_reported_with_the_nearest_known_one(tmp_path: Path) -> None:
    table = table_of(tmp_path, "temprature = 1")

    table.check_keys(["model", "temperature"])

    assert shown(table.file) == ["some.toml, line 2: unknown key 'temprature'. Did you mean 'temperature'?"]


def test_a_choice_that_is_near_to_none_is_answered_with_the_choices_once(tmp_path: Path) -> None:
    table = table_of(tmp_path, "key = 'zzz'")

    table.choice("key", ("llm", "copy"), default="llm")

    assert shown(table.file) == ["some.toml, line 2: key is 'zzz'. Expected one of: llm, copy."]


# Tables


@pytest.mark.parametrize("value", ["3", "'a'", "[1]", "[{ b = 1 }]", "[]"])
def test_what_should_be_a_table_and_is_none_is_reported_and_reads_as_empty(tmp_path: Path, value: str) -> None:
    file = read_text(tmp_path, f"a = {value}\n")

    assert file.table("a").data == {}
    assert file.table("a", "b").data == {}
    assert all(message.startswith("some.toml, line 1: a is ") for message in shown(file))
    assert all(message.endswith("Expected a table.") for message in shown(file))


def test_tables_come_in_file_order(tmp_path: Path) -> None:
    file = read_text(tmp_path, "[z]\nk = 1\n[a]\nk = 2\n")

    assert [(name, table.data, table.line) for name, table in file.tables()] == [("z", {"k": 1}, 1), ("a", {"k": 2}, 3)]


@pytest.mark.parametrize(
    ("text", "count", "messages"),
    [
        ("", 0, []),
        ("[[rules]]\n[[rules]]\n", 2, []),
        ("[rules]\n", 0, ["some.toml, line 1: rules is {}. Expected tables, each below a line [[rules]]."]),
        ("rules = 1\n", 0, ["some.toml, line 1: rules is 1. Expected tables, each below a line [[rules]]."]),
    ],
)
def test_tables_of_an_array_are_counted(tmp_path: Path, text: str, count: int, messages: list[str]) -> None:
    file = read_text(tmp_path, text)

    assert file.count_tables("rules") == count
    assert shown(file) == messages


def test_an_item_of_an_array_that_is_no_table_is_reported_by_its_number(tmp_path: Path) -> None:
    file = read_text(tmp_path, "rules = [1]\n")

    assert file.table("rules", 0).data == {}
    assert shown(file) == ["some.toml, line 1: number 1 is 1. Expected a table."]


# Names


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("essy", ["essay", "draft"], "Did you mean 'essay'?"),
        ("x", ["b", "a"], "Known: a, b."),
        ("x", [], "Known: none."),
        (
            "x",
            [f"long-name-{n:02}" for n in range(13)],
            "Known: " + ", ".join(f"long-name-{n:02}" for n in range(12)) + " ….",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_or_the_known_ones(
    name: str, known: list[str], expected: str
) -> None:
    assert suggest(name, known) == expected


@pytest.mark.parametrize("name", ["a", "A", "0", "gemini_2.5", "a-b", "a_b", "a" * 100, "a."])
def test_these_can_be_ids(name: str) -> None:
    assert ID_FORM.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", "_a", "-a", ".a", "a__b", "a b", "a/b", "a+b", "é", "a\n", "a" * 101, "..", "a__"]
)
def test_these_cannot_be_ids(tmp_path: Path, name: str) -> None:
    file = read_text(tmp_path, "")

    assert not check_config_id(file, (), "model", name)
    assert f"{name!r} is not a model id. Expected letters, digits" in shown(file)[0]
