"""What the beginning of a file shows, however long the file is."""

from __future__ import annotations

import io
import json

import pytest

from pipeline.archive.reading.members import Member
from pipeline.archive.reading.peeking import PEEK_BYTES, PEEK_ELEMENTS, peek
from tests.archive.given_files import give


class CountedFile(io.BytesIO):
    """A file that knows how far it was read."""

    furthest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        CountedFile.furthest = max(CountedFile.furthest, self.tell())
        return data


def give_counted(content: str) -> Member:
    CountedFile.furthest = 0
    return give(content)._replace(open=lambda: CountedFile(content.encode()))


@pytest.mark.parametrize(
    ("content", "kind", "items"),
    [
        ("", "empty", []),
        (" \n\t", "empty", []),
        ("[]", "array", []),
        ('[{"a": 1}, 2]', "array", [{"a": 1}, 2]),
        ("{}", "object", [{}]),
        ('{\n  "a": [1, 2.5]\n}\n', "object", [{"a": [1, 2.5]}]),
        ('{"a": 1}\n', "object", [{"a": 1}]),
        ('{"a": 1}\n\n{"b": 2}\n', "lines", [{"a": 1}, {"b": 2}]),
        ('{"a": 1}\n{"b": 2, "cut', "lines", [{"a": 1}]),
        ('garbage\n{"a": 1}\n{"b": 2}\n', "lines", [{"a": 1}, {"b": 2}]),
        ('42\n{"a": 1}\n{"b": 2}\n', "lines", [42, {"a": 1}, {"b": 2}]),
        ('[\n{"a": 1},\n{"b": 2}\n]\n', "array", [{"a": 1}, {"b": 2}]),
        ("# Title\n\n## User\nHello\n", "text", []),
        ("42", "text", []),
        ("<!doctype html><p>{", "text", []),
        ('{"a": {"b": [1, {"c": "cut', "object", [{"a": {"b": [1, {}]}}]),
        ('{"a": NaN, "b": [-Infinity], "c": "NaN"}', "object", [{"a": None, "b": [None], "c": "NaN"}]),
        ('{"a": 1, "b" oh', "object", [{"a": 1}]),
        (json.dumps('{"a": 1}'), "object", [{"a": 1}]),
        (json.dumps('[{"a": 1}]')[:-2], "array", [{"a": 1}]),
        ('"only words"', "text", []),
    ],
)
def test_a_beginning_tells_the_kind_and_the_first_values(content, kind, items):
    seen = peek(give(content, "any.name"))

    assert (seen.kind, list(seen.items), seen.name) == (kind, items, "any.name")
    assert seen.text == content


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_encodings_make_no_difference(encoding):
    seen = peek(give('{"é": "😀"}'.encode(encoding)))

    assert (seen.kind, seen.items, seen.text) == ("object", [{"é": "😀"}], '{"é": "😀"}')


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 and more",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"%PDF-1.7\nwords",
        b"\x1f\x8b\x08words",
        b"SQLite format 3\0",
        b"RIFF\0\0\0\0WEBP",
        b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0",
    ],
)
def test_binaries_are_told_from_texts(content):
    assert peek(give(content)).kind == "binary"


@pytest.mark.parametrize("content", [b'\0\0{"a": 1}', b'{"a": "x\0\0\0\0"}', b'[{"a": "\xff\xfe"}]'])
def test_stray_bytes_make_no_binary_of_json(content):
    assert peek(give(content)).kind in ("object", "array")


def test_a_long_array_is_looked_at_no_further_than_its_first_elements():
    content = json.dumps([{"id": number, "text": "words " * 1000} for number in range(5000)])

    seen = peek(give_counted(content))

    assert seen.kind == "array"
    assert 1 <= len(seen.items) <= PEEK_ELEMENTS
    assert seen.items[0]["id"] == 0
    assert CountedFile.furthest <= 3 * 1024 * 1024
    assert len(seen.text) <= PEEK_BYTES


@pytest.mark.parametrize("head", ['{"conversations": [', '{"mapping": {"a": {"id": "a", "parent": null}, "b": '])
def test_a_huge_object_shows_its_keys_without_being_read(head):
    content = head + '{"id": "b", "text": "words"},' * 1_000_000

    seen = peek(give_counted(content))

    assert seen.kind == "object"
    assert list(seen.items[0]) == [head.split('"')[1]]
    assert CountedFile.furthest <= 3 * 1024 * 1024


def test_a_long_text_does_not_hide_the_keys_behind_it():
    content = json.dumps({"chunks": [{"inlineImage": {"data": "A" * 3_000_000}, "role": "user"}], "runSettings": {}})

    (found,) = peek(give(content)).items

    assert found["chunks"][0]["role"] == "user"
    assert len(found["chunks"][0]["inlineImage"]["data"]) == 1000
    assert "runSettings" in found


def test_a_first_line_longer_than_the_beginning_does_not_hide_that_there_are_lines():
    content = json.dumps({"sessionId": "s", "image": "A" * 500_000}) + '\n{"sessionId": "t"}\n'

    seen = peek(give(content))

    assert seen.kind == "lines"
    assert [item["sessionId"] for item in seen.items] == ["s", "t"]


def test_no_more_than_32_lines_are_looked_at():
    assert len(peek(give('{"a": 1}\n' * 100)).items) == 32


@pytest.mark.parametrize("content", ["[" * 1_000_000, '{"a":' * 500_000, "[" + "9" * 6000 + "]", "[1e999, 2]"])
def test_hostile_beginnings_are_looked_at_without_a_crash(content):
    assert peek(give(content)).kind in ("array", "object", "text")


def test_the_first_characters_of_a_cut_encoding_are_no_error():
    assert peek(give("é".encode() * PEEK_BYTES)).kind == "text"
