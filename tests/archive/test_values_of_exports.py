"""Values whose shapes nobody promises, JSON within texts, and files within records."""

from __future__ import annotations

import pytest

from pipeline.archive.conversations import AttachmentStatus
from pipeline.archive.importers.inline_files import attach_url, decode_base64, decode_data_url, keep_inline
from pipeline.archive.importers.values import count_of, parse_embedded, rest_of


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (3, 3),
        (3.0, 3),
        ("300", 300),
        (3.5, None),
        (-1, None),
        (True, None),
        ("x", None),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_a_count_is_a_whole_number_however_it_is_written(value, count):
    assert count_of(value) == count


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, "b", null]}', {"a": [1, "b", None]}),
        ('"\\ud83d"', "\ufffd"),
        ('{"\\udc00": 1}', {"\ufffd": 1}),
        ("[NaN, -Infinity, 1e999]", [None, None, None]),
        ("18446744073709551615", 18446744073709551615),
        ("18446744073709551616", "18446744073709551616"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_json_within_a_text_comes_out_clean(text, value):
    assert parse_embedded(text) == value


@pytest.mark.parametrize("text", ["", "{", "words", "[" * 100_000, "[" * 300 + "]" * 300])
def test_what_is_no_json_or_too_deep_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_embedded(text)


def test_the_rest_of_a_record_is_what_is_not_known_and_no_secret():
    record = {
        "a": 1,
        "b": {"signature": "x", "c": [{"thoughtSignature": "y", "d": 2}]},
        "e": None,
        "encrypted_content": "z",
    }

    assert rest_of(record, {"a"}) == {"b": {"c": [{"d": 2}]}}


@pytest.mark.parametrize("data", ["aGk_", "aGk/", "aG\nk/", "aGk/\n"])
def test_base64_of_any_alphabet_is_read(data):
    assert decode_base64(data) == b"hi?"


def test_base64_without_its_padding_is_read():
    assert decode_base64("aA") == b"h"


@pytest.mark.parametrize("data", ["a", "%%%", "aGk/aGk/a", "ä"])
def test_what_is_no_base64_is_nothing(data):
    assert decode_base64(data) is None


@pytest.mark.parametrize(
    ("url", "content", "mime_type"),
    [
        ("data:image/PNG;base64,aGk/", b"hi?", "image/png"),
        ("DATA:text/plain;charset=utf-8;base64,aGk/", b"hi?", "text/plain"),
        ("data:text/plain,hi%3F", b"hi?", "text/plain"),
        ("data:,hi", b"hi", None),
    ],
)
def test_a_data_url_is_taken_apart(url, content, mime_type):
    assert decode_data_url(url) == (content, mime_type)


@pytest.mark.parametrize("url", ["https://example.org/x.png", "data:image/png;base64", "data:image/png;base64,%%%"])
def test_what_is_no_data_url_is_nothing(url):
    assert decode_data_url(url) is None


def test_equal_bytes_are_kept_once_under_their_hash():
    extras: dict[str, bytes] = {}

    one, two, other = (keep_inline(extras, content, "image/png") for content in (b"a", b"a", b"b"))

    assert one.extra_file == two.extra_file != other.extra_file
    assert sorted(extras.values()) == [b"a", b"b"]
    assert one.extra_file.endswith(".png")
    assert one.blake3.startswith(one.extra_file.removesuffix(".png"))


def test_an_address_is_kept_and_not_fetched():
    attachment = attach_url({}, "https://example.org/x.png")

    assert (attachment.status, attachment.url) == (AttachmentStatus.EXTERNAL, "https://example.org/x.png")


def test_a_data_url_that_is_damaged_is_missing_with_a_reason_and_not_kept():
    attachment = attach_url({}, "data:image/png;base64,%%%")

    assert (attachment.status, attachment.url) == (AttachmentStatus.MISSING, None)
    assert attachment.reason
