"""What reading brings from good files, and what becomes of the rest."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive import reading
from pipeline.archive.reading import (
    Item,
    Line,
    UnreadableJson,
    hash_pair,
    hash_record,
    json_text,
    read_items,
    read_lines,
    read_text,
    read_value,
)
from pipeline.archive.reading.members import Skip
from tests.archive.given_files import give

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def values_of(read: Iterator[Item | Line | Skip]) -> list[Any]:
    return [found.value for found in read if not isinstance(found, Skip)]


def skips_of(read: Iterator[Item | Line | Skip]) -> list[tuple[str, str]]:
    return [(found.reason, found.place) for found in read if isinstance(found, Skip)]


def lost_of(read: Iterator[Item | Line | Skip]) -> list[str]:
    return [found.reason for found in read if isinstance(found, Skip) and not found.is_info]


@pytest.fixture
def small_pieces(monkeypatch):
    """Let texts be read in pieces so small that every value is cut by them."""
    monkeypatch.setattr("pipeline.archive.reading.decoding.PIECE_BYTES", 7)
    monkeypatch.setattr("pipeline.archive.reading.json_text.PIECE_BYTES", 7)


# Arrays


@settings(max_examples=50)
@given(st.lists(JSON_VALUES, max_size=6), st.sampled_from([None, 1, 4]), st.booleans())
def test_the_elements_of_an_array_come_as_they_were(values, indent, ascii_only):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)

    assert list(read_items(give(text))) == [Item(index, value) for index, value in enumerate(values)]


@settings(max_examples=50)
@given(st.lists(JSON_VALUES, max_size=6), st.integers(1, 9))
def test_where_a_piece_ends_makes_no_difference(values, piece_bytes):
    text = json.dumps(values, ensure_ascii=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.archive.reading.decoding.PIECE_BYTES", piece_bytes)
        patch.setattr("pipeline.archive.reading.json_text.PIECE_BYTES", piece_bytes)
        found = list(read_items(give(text, step_bytes=3)))

    assert found == [Item(index, value) for index, value in enumerate(values)]


@pytest.mark.parametrize(
    "text",
    [
        '{"conversations": [{"a": 1}, {"b": 2}]}',
        '{"version": 3, "nested": {"conversations": [0]}, "conversations": [{"a": 1}, {"b": 2}], "after": [9]}',
        '\ufeff {\n "conversations" : [ {"a": 1} , {"b": 2} ] }\n',
    ],
)
def test_an_array_within_an_object_is_found_by_its_key(text):
    assert list(read_items(give(text))) == [Item(0, {"a": 1}), Item(1, {"b": 2})]


def test_a_prefix_may_lead_through_several_objects():
    text = '{"data": {"skipped": {"chats": []}, "chats": [1, 2]}}'

    assert values_of(read_items(give(text), ["data.chats.item"])) == [1, 2]


@pytest.mark.parametrize("text", ['{"mapping": {"a": [1]}}', '{\n  "conversations": 7\n}', "{}", "42", '"words"'])
def test_a_bare_value_is_one_item(text):
    assert list(read_items(give(text))) == [Item(0, json.loads(text))]


@pytest.mark.parametrize("text", ["", "  \n", "null", "\ufeff"])
def test_a_file_without_a_value_has_no_items_and_says_so(text):
    found = list(read_items(give(text)))

    assert [(skip.reason, skip.is_info) for skip in found] == [("empty", True)]


@pytest.mark.parametrize("text", ["[]", '{"conversations": []}'])
def test_an_empty_array_has_no_items_and_is_nothing_odd(text):
    assert list(read_items(give(text))) == []


def test_values_on_lines_are_items_too():
    text = '{"a": 1}\r\n\r\n{"b": 2}\nbroken\n{"c": 3}'

    found = list(read_items(give(text)))

    assert [each for each in found if isinstance(each, Item)] == [
        Item(0, {"a": 1}),
        Item(1, {"b": 2}),
        Item(3, {"c": 3}),
    ]
    assert skips_of(iter(found)) == [("malformed_line", "given.json:4")]


def test_lines_are_known_also_if_the_first_is_longer_than_what_is_looked_at():
    first = {"text": "long " * 400_000}
    text = json.dumps(first) + '\n{"b": 2}\n'

    assert values_of(read_items(give(text))) == [first, {"b": 2}]


def test_json_within_a_json_text_is_read_one_level_deep():
    once = json.dumps(json.dumps([{"a": 1}, 2]))
    twice = json.dumps(once)

    assert values_of(read_items(give(once))) == [{"a": 1}, 2]
    assert values_of(read_items(give(twice))) == [once]
    assert read_value(give(once)) == ([{"a": 1}, 2], [])


# Damage


@pytest.mark.parametrize("broken", ['{"b": }', '{"b" 2}', "{'b': 2}", "{b}", '{"b": [}]', "truth", '{"b": 01x}'])
def test_a_broken_element_stops_no_other(broken, small_pieces):
    found = list(read_items(give('[{"a": 1}, ' + broken + ', {"c": 3}]')))

    assert values_of(iter(found)) == [{"a": 1}, {"c": 3}]
    assert set(lost_of(iter(found))) == {"malformed_item"}


@pytest.mark.parametrize(
    "broken",
    [
        '{"id": 1", "text": "t"}',
        '{"id": 1, "text": "a " b"}',
        '{"id": 1, text": "t"}',
        '{"id": 1, "text": "t}',
        '{"id"',
    ],
)
@pytest.mark.parametrize("piece_bytes", [9, 1_000_000])
def test_an_element_whose_quotes_do_not_match_stops_no_other(broken, piece_bytes, monkeypatch):
    monkeypatch.setattr("pipeline.archive.reading.decoding.PIECE_BYTES", piece_bytes)
    monkeypatch.setattr("pipeline.archive.reading.json_text.PIECE_BYTES", piece_bytes)
    good = [{"id": number, "text": "words", "list": [{"a": 1}, {"id": 2}]} for number in range(4)]
    texts = [json.dumps(value) for value in good]

    found = list(read_items(give(f"[{', '.join([*texts[:2], broken, *texts[2:]])}]")))

    assert values_of(iter(found)) == good
    assert skips_of(iter(found)) == [("malformed_item", "given.json[2]")]


def test_a_first_element_whose_quotes_do_not_match_stops_no_other():
    chats = [{"id": number, "name": "n", "list": [{"id": 7}, {"id": 8, "name": "m"}]} for number in range(4)]
    text = json.dumps(chats).replace('"n"', 'n"', 1)

    assert values_of(read_items(give(text))) == chats[1:]


@pytest.mark.parametrize("broken", ["{x}", '{"a" 1}', '{"a": ,{"a"', "x"])
@pytest.mark.parametrize("before", ['{"a": 1}, ', ""])
def test_an_array_of_broken_elements_is_given_up_after_a_thousand(before, broken):
    found = list(read_items(give(f"[{before}{', '.join([broken] * 300_000)}]")))

    assert values_of(iter(found)) == ([{"a": 1}] if before else [])
    assert len(found) < 1005
    assert lost_of(iter(found))[-1] in ("too_many_broken", "truncated")


def test_an_inner_object_is_not_taken_for_the_neighbour_of_a_broken_one():
    text = (
        '[{"id": 1, "name": "n", "list": []}, {"id": 2", "list": [0, {"id": 3}]}, {"id": 4, "name": "m", "list": []}]'
    )

    assert [value["id"] for value in values_of(read_items(give(text)))] == [1, 4]


def test_a_skip_tells_the_place_and_never_the_content():
    (skip,) = [each for each in read_items(give('[{"a": 1}, {"secret": words}]')) if isinstance(each, Skip)]

    assert skip.place == "given.json[1]"
    assert skip.detail == "expecting value, at character 12 of it"


@pytest.mark.parametrize("end", ["", ",", ', {"c": "cut', ", [[1]", ', {"c": "\\'])
@pytest.mark.parametrize("head", ["[", '{"conversations": ['])
def test_an_array_that_is_cut_gives_its_complete_items_and_tells_where_it_ends(head, end):
    whole = head + '{"a": "é"}, {"b": 2}'

    *items, skip = read_items(give(whole + end))

    assert items == [Item(0, {"a": "é"}), Item(1, {"b": 2})]
    assert skip.reason == "truncated"
    assert not skip.is_info
    assert skip.place == "given.json[2]"
    assert "after 2 items" in skip.detail


def test_the_place_of_a_cut_is_in_bytes():
    before = '["ééé", '

    (skip,) = [each for each in read_items(give(before + '{"cut')) if isinstance(each, Skip)]

    assert skip.detail.endswith(f"and {len(before.encode())} bytes")


@settings(max_examples=50)
@given(st.lists(JSON_VALUES, min_size=1, max_size=4), st.data())
def test_no_cut_passes_in_silence(values, data):
    whole = json.dumps(values).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))

    found = list(read_items(give(whole[:cut])))

    complete = [item.value for item in found if isinstance(item, Item)]
    assert complete[:-1] == values[: max(0, len(complete) - 1)]  # the last may be the beginning of a longer number
    assert "truncated" in lost_of(iter(found))


def test_what_is_behind_the_value_is_told():
    assert lost_of(read_items(give('[{"a": 1}] and more'))) == ["trailing_data"]
    assert lost_of(read_items(give('{"conversations": [1]} and more'))) == ["trailing_data"]
    assert [skip.reason for skip in read_value(give('{"a": 1} and more'))[1]] == ["trailing_data"]


def test_an_object_that_ends_behind_its_array_is_cut():
    assert lost_of(read_items(give('{"conversations": [1, 2], "more": {"a": '))) == ["truncated"]


@pytest.mark.parametrize("depth", [201, 1_000, 100_000])
def test_what_is_too_deep_is_left_out_and_its_neighbours_are_read(depth):
    deep = "[" * depth + "]" * depth

    found = list(read_items(give(f'[{{"a": 1}}, {deep}, {{"b": 2}}]')))

    assert values_of(iter(found)) == [{"a": 1}, {"b": 2}]
    assert skips_of(iter(found)) == [("too_deep", "given.json[1]")]


def test_the_deepest_that_is_read_is_exactly_200_levels():
    deep = "[" * 200 + "]" * 200

    assert lost_of(read_items(give(f"[{deep}]"))) == []
    assert lost_of(read_items(give(f"[[{deep}]]"))) == ["too_deep"]
    assert lost_of(read_items(give(f'[{{"a": {deep}}}]'))) == ["too_deep"]


def test_brackets_that_are_never_closed_are_a_cut_and_no_crash():
    assert lost_of(read_items(give("[" * 1_000_000))) == ["truncated"]


def test_a_value_that_is_too_large_is_left_out_and_its_neighbours_are_read(monkeypatch, small_pieces):
    monkeypatch.setattr(json_text, "LARGEST", 100)
    large = json.dumps({"text": '\\"{[' * 60})

    found = list(read_items(give(f'[{{"a": 1}}, {large}, {{"b": 2}}]')))

    assert values_of(iter(found)) == [{"a": 1}, {"b": 2}]
    assert skips_of(iter(found)) == [("too_large", "given.json[1]")]


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(content):
    for member in (give(content), give(b'[{"a": 1}, ' + content), give(b'{"conversations": [' + content)):
        list(read_items(member))
        list(read_lines(member))
        read_text(member)
        reading.peek(member)
        with suppress(UnreadableJson):
            read_value(member)


@given(st.text(alphabet='{}[]",:\\ \n1atrue.e-', max_size=60))
def test_no_scrap_of_json_makes_it_fail(text):
    for member in (give(text), give('[{"a": 1},' + text)):
        list(read_items(member))
        list(read_lines(member))
        reading.peek(member)


# Values that JSON has, and we have not


def test_lone_surrogates_are_replaced_everywhere_and_counted():
    text = r'[{"\ud83d": "a\udc00b", "list": ["\ud800", "\ud83d\ude00"]}]'

    item, note = read_items(give(text))

    assert item.value == {"\ufffd": "a\ufffdb", "list": ["\ufffd", "😀"]}
    assert note == Skip("lone_surrogate", "given.json", "3 times", is_info=True)
    assert hash_record(item.value)


def test_what_is_no_number_becomes_null_and_is_counted():
    item, note = read_items(give('[{"a": [NaN, Infinity, -Infinity, 1e999, 0.5], "b": "NaN"}]'))

    assert item.value == {"a": [None, None, None, None, 0.5], "b": "NaN"}
    assert (note.reason, note.detail) == ("not_a_number", "4 times")


def test_integers_beyond_64_bits_become_text_and_are_counted():
    huge = "9" * 5000
    text = f"[[{2**64 - 1}, {-(2**63)}, {2**64}, {-(2**63) - 1}, {huge}, -{huge}]]"

    item, note = read_items(give(text))

    assert item.value == [2**64 - 1, -(2**63), str(2**64), str(-(2**63) - 1), huge, "-" + huge]
    assert (note.reason, note.detail) == ("huge_integer", "4 times")


def test_of_two_equal_keys_the_last_wins_and_it_is_counted():
    item, note = read_items(give(r'[{"a": 1, "b": {"c": 1, "c": 2}, "a": "\u0022\u0022"}]'))

    assert item.value == {"a": '""', "b": {"c": 2}}
    assert (note.reason, note.detail) == ("duplicate_key", "2 times")


def test_quotes_in_the_place_of_lost_ones_do_not_hide_that_keys_are_equal():
    item, note = read_items(give(r'[{"a": 1, "a": "\u0022\u0022"}]'))

    assert item.value == {"a": '""'}
    assert (note.reason, note.detail) == ("duplicate_key", "1 times")


def test_keys_that_only_differ_in_what_is_replaced_are_equal_too():
    item, *notes = read_items(give(r'[{"\ud800": 1, "\ud801": 2}]'))

    assert item.value == {"\ufffd": 2}
    assert {note.reason for note in notes} == {"duplicate_key", "lone_surrogate"}


def test_control_characters_within_a_text_are_read():
    assert values_of(read_items(give('["a\tb\nc\x01"]'))) == ["a\tb\nc\x01"]


def test_clean_values_are_told_from_others_without_reading_them_twice(monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("read with care, without a reason")

    monkeypatch.setattr("pipeline.archive.reading.clean_values._decode_with_care", fail)
    text = json.dumps([{"a": ['say "x"', "back\\slash", 'both \\" of them', "é\u2028", 1e300, -0.0, None, True, {}]}])

    assert values_of(read_items(give(text))) == json.loads(text)


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_encodings_are_found_with_and_without_a_mark(encoding):
    member = give('[{"a": "é😀"}, [], 3]'.encode(encoding))

    assert list(read_items(member)) == [Item(0, {"a": "é😀"}), Item(1, []), Item(2, 3)]
    assert read_value(member) == ([{"a": "é😀"}, [], 3], [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_is_no_part_of_a_text(encoding):
    assert read_text(give("# Über\r\n".encode(encoding))) == ("# Über\r\n", [])


def test_invalid_bytes_are_replaced_and_counted_and_nothing_fails():
    item, note = read_items(give(b'[{"a": "x\xff\xfey \xef\xbf\xbd"}]'))

    assert item.value == {"a": "x\ufffd\ufffdy \ufffd"}
    assert note == Skip("invalid_text", "given.json", "2 times", is_info=True)


def test_a_character_that_is_cut_by_the_end_of_a_file_is_replaced():
    assert read_text(give("é".encode()[:1])) == (
        "\ufffd",
        [Skip("invalid_text", "given.json", "1 times", is_info=True)],
    )


def test_nul_bytes_are_left_out_and_counted():
    item, note = read_items(give(b'[{"a":\0 "x\0y"}]'))

    assert item.value == {"a": "xy"}
    assert (note.reason, note.detail) == ("nul_removed", "2 times")


# Lines


def test_lines_have_their_physical_numbers():
    text = '{"a": 1}\r\n\n   \n[2]\n"text"\n42\n'

    assert list(read_lines(give(text))) == [Line(1, {"a": 1}), Line(4, [2]), Line(5, "text"), Line(6, 42)]


@pytest.mark.parametrize("broken", ["{", "hello", '{"a": 1} {"b": 2}', '{"a": 1},', "\x01"])
def test_a_broken_line_is_told_by_its_number_and_stops_no_other(broken):
    found = list(read_lines(give(f'{{"a": 1}}\n\n{broken}\n{{"b": 2}}\n')))

    assert values_of(iter(found)) == [{"a": 1}, {"b": 2}]
    assert skips_of(iter(found)) == [("malformed_line", "given.json:3")]


def test_a_last_line_that_is_cut_is_normal():
    *lines, tail = read_lines(give('{"a": 1}\n{"b": {"c": "cu'))

    assert lines == [Line(1, {"a": 1})]
    assert (tail.reason, tail.place, tail.is_info) == ("truncated_tail", "given.json:2", True)


def test_a_last_line_that_is_broken_without_being_cut_is_lost():
    assert lost_of(read_lines(give('{"a": 1}\n{"b": }'))) == ["malformed_line"]


def test_a_line_that_is_too_deep_or_too_large_stops_no_other(monkeypatch):
    monkeypatch.setattr(reading, "LARGEST", 2000)
    text = '{"a": 1}\n' + "[" * 300 + "]" * 300 + '\n"' + "x" * 3000 + '"\n{"b": 2}\n'

    found = list(read_lines(give(text)))

    assert values_of(iter(found)) == [{"a": 1}, {"b": 2}]
    assert skips_of(iter(found)) == [("too_deep", "given.json:2"), ("too_large", "given.json:3")]


def test_only_line_feeds_end_lines():
    assert values_of(read_lines(give('"a\u2028b\x85c\x0bd"\n'))) == ["a\u2028b\x85c\x0bd"]


@settings(max_examples=50)
@given(st.lists(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3), max_size=5), st.integers(1, 50))
def test_lines_come_as_they_were_wherever_pieces_end(values, piece_bytes):
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.archive.reading.decoding.PIECE_BYTES", piece_bytes)
        found = list(read_lines(give(text)))

    assert found == [Line(number, value) for number, value in enumerate(values, start=1)]


# One value


@settings(max_examples=50)
@given(JSON_VALUES)
def test_a_value_comes_as_it_was(value):
    if not isinstance(value, str):
        assert read_value(give(json.dumps(value))) == (value, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [('{"a": [1, 2', "truncated"), ('{"a": words}', "malformed_item"), ("[" * 500 + "]" * 500, "too_deep")],
)
def test_a_value_that_cannot_be_read_says_why_and_not_what(text, reason):
    with pytest.raises(UnreadableJson) as caught:
        read_value(give(text))

    assert caught.value.reason == reason
    assert "words" not in str(caught.value)


def test_an_empty_file_has_no_value():
    assert read_value(give("")) == (None, [Skip("empty", "given.json", is_info=True)])


# Hashes


def test_equal_records_have_one_hash_whatever_the_order_of_their_keys():
    assert hash_record({"b": [1, {"d": 1.5, "c": "é"}], "a": None}) == hash_record(
        {"a": None, "b": [1, {"c": "é", "d": 1.5}]}
    )
    assert hash_record([1, 2]) != hash_record([2, 1])
    assert hash_record("1") != hash_record(1)
    assert hash_record(None) != hash_record("")


@pytest.mark.parametrize("context", [None, {"z": "é", "account": "a"}])
@pytest.mark.parametrize("value", ['{"b": [1, {"d": 1.50, "c": "é"}], "a": null}', "[[[]]]", '"x"', "1e2"])
def test_what_was_written_while_reading_gives_the_hash_of_its_record(value, context):
    (item,) = read_items(give(f"[{value}]"))

    assert item.written is not None
    expected = hash_record({"context": context, "value": json.loads(value)})
    assert hash_pair(item.value, context, item.written) == hash_pair(item.value, context, None) == expected


@pytest.mark.parametrize(
    "value", ['{"a": NaN}', '["\\ud800"]', '{"a": 1, "a": 2}', '{"a": "\\u0022\\u0022", "": 1, "": 2}']
)
def test_of_a_value_that_was_changed_nothing_is_written(value):
    item = next(read_items(give(f"[{value}]")))

    assert item.written is None


def test_what_was_written_of_a_long_value_is_not_held_beside_it(monkeypatch):
    monkeypatch.setattr("pipeline.archive.reading.clean_values.LONGEST_KEPT", 1000)

    written = [item.written for item in read_items(give(json.dumps(["short", "long " * 200])))]

    assert [each is not None for each in written] == [True, False]


def test_the_hash_of_a_record_is_the_same_in_every_version():
    record = {"b": [1, 2.5, -0.0, 1e22, True, None], "a": "é\n\u2028😀"}

    assert hash_record(record) == "c4889d81f08c9a1743b3510af52d56eb96125de8ad8e3987566e1276f7f16474"


# Size


@pytest.mark.parametrize("wrap", ["{}", '{{"conversations": {}}}'])
def test_a_long_array_needs_no_more_memory_than_a_short_one(wrap):
    element = json.dumps({"title": "t", "mapping": {str(number): {"text": "words " * 50} for number in range(100)}})
    text = wrap.format("[" + ", ".join([element] * 600) + "]")
    member = give(text)
    tracemalloc.start()

    count = sum(1 for _ in read_items(member))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 600
    assert len(text) > 18_000_000
    assert peak_bytes < 10_000_000
