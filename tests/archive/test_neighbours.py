"""One damaged byte costs one chat."""

from __future__ import annotations

import json
import random

from pipeline.archive.reading import Item, read_items
from pipeline.archive.reading.neighbours import list_keys
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


def test_the_keys_of_an_object_are_its_own_and_only_those_before_the_end():
    window = '[{"a": 1, "b": {"c": [{"d": "e:"}]}, "f\\"": "g", "h": 2}]'

    assert list_keys(window, 1, window.index('"h"')) == ["a", "b", 'f"']
