"""One damaged byte costs one chat."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive.reading import Item, neighbours, read_items
from pipeline.archive.reading.neighbours import Likeness, list_keys
from tests.archive.given_files import give

COPIES = 400


def make_chat(number: int) -> dict[str, object]:
    messages = [
        {"uuid": f"{number}-{place}", "text": f'He said "so": {{[{place}, \\n', "content": [{"type": "text"}]}
        for place in range(3)
    ]
    return {"uuid": str(number), "name": f"Chat {number}", "account": {"uuid": "a"}, "chat_messages": messages}


def damage(content: bytes, dice: random.Random) -> bytes:
    """Return a copy with one byte changed, gone or added; every other time one that is a part of the form."""
    damaged = bytearray(content)
    place = dice.randrange(len(damaged))
    if dice.random() < 0.5:
        place = dice.choice([at for at, byte in enumerate(content) if byte in b'"{}[]\\,:'])
    way = dice.choice(["change", "remove", "add"])
    if way == "change":
        damaged[place] ^= 1 << dice.randrange(8)
    elif way == "remove":
        del damaged[place]
    else:
        damaged[place:place] = bytes([dice.choice(b'"{}[]x\\')])
    return bytes(damaged)


def test_a_damaged_byte_costs_at_most_the_chat_that_it_hit_99_times_in_100():
    dice = random.Random(7)
    chats = [make_chat(number) for number in range(6)]
    content = json.dumps(chats).encode()

    lost = []
    for _ in range(COPIES):
        found = [item.value for item in read_items(give(damage(content, dice))) if isinstance(item, Item)]
        lost.append(sum(chat not in found for chat in chats))

    assert sum(count > 1 for count in lost) <= COPIES / 100


# What looks like an end within an element: in a text, and in a list of objects that begin as the elements do.
WORDS = st.sampled_from(["", "x", '}, {"a": "x", "b": 1', "🙂", "\ud83d", 'say "so"', 10**30, 1.5, float("inf"), None])
ELEMENTS = st.fixed_dictionaries(
    {"a": WORDS}, optional={"b": WORDS, "c": st.lists(st.fixed_dictionaries({"a": WORDS, "b": WORDS}) | WORDS)}
)


@settings(max_examples=200)
@given(st.lists(ELEMENTS | WORDS, max_size=12), st.sampled_from([None, 1]), st.booleans(), st.integers(0, 2**32))
def test_an_element_is_the_same_whether_its_end_was_seen_before_or_not(elements, indent, is_ascii, seed):
    content = json.dumps(elements, indent=indent, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    dice = random.Random(seed)
    for _ in range(dice.choice([0, 0, 1, 3]) if elements else 0):
        content = damage(content, dice)

    found = list(read_items(give(content)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "MOST_MISLED", 0)  # no end is looked for
        assert list(read_items(give(content))) == found


@pytest.mark.parametrize("indent", [None, 1])
def test_the_end_of_an_element_is_seen_before_it_is_read(indent):
    window = json.dumps([make_chat(number) for number in range(3)], indent=indent)
    likeness, decode = Likeness(list(make_chat(0))), json.JSONDecoder().raw_decode

    start, end = window.index("{"), None
    for _ in range(2):
        end = likeness.find_end(window, start)
        assert end == decode(window, start)[1]
        start = window.index("{", end)
    assert likeness.find_end(window, start) is None  # nothing follows the last


def test_the_keys_of_an_object_are_its_own_and_only_those_before_the_end():
    window = '[{"a": 1, "b": {"c": [{"d": "e:"}]}, "f\\"": "g", "h": 2}]'

    assert list_keys(window, 1, window.index('"h"')) == ["a", "b", 'f"']
