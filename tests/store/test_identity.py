"""Equal inputs give equal ids, on every machine; anything else gives another."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import NameInvalid, ValueNotEncodable
from store.identity import (
    check_file_name,
    check_id,
    check_stage,
    digest_of,
    encode_canonically,
    hash_bytes,
    id_from_digest,
    id_of,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abé😀"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("record_type", "inputs", "doc_id"),
    [
        ("draft", {"a": 1}, "68q0g3dqcuvxo8i0"),
        ("essay", {"a": 1}, "65e8kss42857hcfc"),
        ("draft", {}, "16sme50oppaoj3f0"),
        ("call", {"messages": [{"role": "user", "content": "Grüße 😀"}], "temperature": 0.7}, "0s2c6z4tpi8haoku"),
    ],
)
def test_ids_are_pinned(record_type, inputs, doc_id):
    """A change here changes every id of every store: it needs a new IDENTITY_VERSION."""
    assert id_of(record_type, inputs) == doc_id


def test_the_digest_is_pinned():
    assert digest_of("draft", {"a": 1}) == "fa7432d29ea7b9d17bd7ac6a2ef82aa7f55a32bc9b7853dcc478466280409f0a"


def test_the_canonical_encoding_is_pinned():
    value = {"b": [1, 1.0, -0.0, True, None], "a": "é\n", "ß": 1e21, "c": 0.1}

    assert encode_canonically(value) == '{"a":"é\\n","b":[1,1.0,0.0,true,null],"c":0.1,"ß":1e+21}'.encode()


@given(JSON)
def test_the_order_of_keys_does_not_matter(value):
    def reverse(item):
        if isinstance(item, dict):
            return {key: reverse(item[key]) for key in reversed(item)}
        return [reverse(part) for part in item] if isinstance(item, list) else item

    assert encode_canonically(value) == encode_canonically(reverse(value))


@given(JSON, JSON)
def test_different_values_have_different_encodings(a, b):
    """True and 1, 1 and 1.0 are different values here, though Python calls them equal."""
    if repr(a).replace("-0.0", "0.0") != repr(b).replace("-0.0", "0.0") and a != b:
        assert encode_canonically(a) != encode_canonically(b)


def test_two_unicode_forms_of_one_text_are_one_input():
    composed = "é"
    decomposed = unicodedata.normalize("NFD", composed)

    assert composed != decomposed
    assert encode_canonically(composed) == encode_canonically(decomposed)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (float("nan"), "inputs"),
        ({"a": [float("inf")]}, "inputs.a[0]"),
        ({"a": {"b": b"bytes"}}, "inputs.a.b"),
        ({"a": {1, 2}}, "inputs.a"),
        ("\ud800", "inputs"),
        ({1: "a"}, "A key of inputs"),
        ({"é": 1, unicodedata.normalize("NFD", "é"): 2}, "A key of inputs"),
    ],
)
def test_what_has_no_canonical_encoding_is_refused_with_its_place(value, place):
    with pytest.raises(ValueNotEncodable) as caught:
        encode_canonically(value)

    assert caught.value.place == place


@given(st.binary(min_size=32, max_size=32))
def test_an_id_is_sixteen_base36_characters_whatever_the_digest(digest):
    doc_id = id_from_digest(digest.hex())

    assert check_id("doc_id", doc_id) == doc_id


def test_an_id_is_the_start_of_the_digest_in_base36():
    digest = digest_of("draft", {"a": 1})
    start = int(id_from_digest(digest), 36)

    assert int(digest, 16) // 36 ** (50 - 16) == start


def test_small_digests_keep_their_leading_zeros():
    assert id_from_digest("0" * 63 + "1") == "0" * 16


def test_records_of_different_types_never_share_an_id():
    assert id_of("draft", {"a": 1}) != id_of("essay", {"a": 1})


def test_bytes_are_hashed_with_blake3():
    """The first test vector of the BLAKE3 paper's reference implementation: the hash of nothing."""
    assert hash_bytes(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


BAD_IDS = ["", "a", "../../etc/passwd", "0123456789abcdeF", "0123456789abcde", "0123456789abcdefg", "0123456789abcde\n"]


@pytest.mark.parametrize("name", [*BAD_IDS, "０１２３４５６７８９abcdef", None, 7])
def test_nothing_but_an_id_passes_as_one(name):
    with pytest.raises(NameInvalid) as caught:
        check_id("doc_id", name)

    assert (caught.value.kind, caught.value.name) == ("doc_id", name)


@pytest.mark.parametrize("name", ["", "..", "Draft", "a/b", "a.b", "_by_task", "9a", "draft\n", "d" * 33, None])
def test_nothing_but_a_stage_passes_as_one(name):
    with pytest.raises(NameInvalid):
        check_stage(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/x", "a/b", "extras/../x", "extras/a/b", ".hidden", "a\0", "x.", "-x", "a b", "ä"]
)
def test_nothing_but_a_plain_name_passes_as_a_file_name(name):
    with pytest.raises(NameInvalid):
        check_file_name(name)


@pytest.mark.parametrize("name", ["prompt.txt", "metadata.json", "extras/report.html", "a-b_c.1"])
def test_plain_names_pass(name):
    assert check_file_name(name) == name


@given(st.lists(JSON, max_size=4), JSON)
def test_a_generator_is_hashed_as_the_list_of_what_it_yields(items, other):
    streamed = digest_of("report", {"rows": (item for item in items), "é": other, "a": 1})

    assert streamed == digest_of("report", {"a": 1, "rows": items, "é": other})


def test_a_generator_with_what_cannot_be_encoded_is_refused():
    with pytest.raises(ValueNotEncodable):
        digest_of("report", {"rows": (item for item in [1, float("nan")])})


@given(JSON)
def test_what_needs_no_normalising_is_encoded_as_what_was_normalised(value):
    whole = encode_canonically([value, "é"])  # not ASCII: everything in the list is normalised

    assert whole == b"[" + encode_canonically(value) + ',"é"]'.encode()
