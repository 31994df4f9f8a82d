"""What holds for every conversation of ChatGPT, however damaged."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.archive.conversations import decode_conversation, encode_conversation
from pipeline.archive.importers.chatgpt_content import read_blocks
from pipeline.archive.reading import hash_record, peek
from tests.archive.chatgpt_chats import IMPORTER
from tests.archive.members import make_member, split_all


def shuffle(value: Any, order: random.Random) -> Any:
    """Return the same JSON with the keys of all objects in another order."""
    if isinstance(value, dict):
        items = [(key, shuffle(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)
    return [shuffle(item, order) for item in value] if isinstance(value, list) else value


NAMES = """
    id parent children message author role name content content_type parts text thoughts chunks summary metadata weight
    recipient attachments asset_pointer aggregate_result messages image_url finish_details type canvas textdoc_id status
    content_references matched_text citations start_ix end_ix user_context_message_data create_time size is_error result
    assets screenshot audio_asset_pointer frames_asset_pointers language updates url items message_type
"""
VALUES = """
    user assistant tool system all python text code multimodal_text thoughts image_asset_pointer canmore.create_textdoc
    sandbox:/mnt/data/a.csv file-service://file-A canmore.update_textdoc m1 m2 root interrupted success continue 【3†a】
    {"updates":[{"pattern":".*","replacement":"x"}]} {"content":"x"} \ue200cite\ue202turn0\ue201 data:,x https://x.org
"""
TYPES = "text code multimodal_text thoughts tether_quote computer_output user_editable_context new"

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = TEXTS | st.sampled_from(VALUES.split())
FIELDS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    SCALARS | WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | TEXTS, inner, max_size=6)
)
CONTENTS = st.fixed_dictionaries(
    {
        "content_type": st.sampled_from(
            [*["text", "code", "multimodal_text", "thoughts", "tether_quote", "computer_output", "new"], 1]
        )
    },
    optional={"parts": JSON, "text": JSON, "thoughts": JSON, "assets": JSON, "screenshot": JSON, "metadata": JSON},
)
MESSAGES = st.fixed_dictionaries(
    {"author": st.fixed_dictionaries({"role": WORDS | JSON}) | JSON, "content": CONTENTS | JSON},
    optional={"recipient": WORDS | JSON, "metadata": st.dictionaries(FIELDS, JSON, max_size=5) | JSON, "weight": JSON},
)
KEYS = st.sampled_from(["root", "m1", "m2", "m3", "m4"])
NODES = st.fixed_dictionaries({"message": MESSAGES | JSON, "parent": KEYS | JSON, "children": st.lists(KEYS) | JSON})
CHATS = st.fixed_dictionaries(
    {"mapping": st.dictionaries(KEYS, NODES | JSON, max_size=5), "conversation_id": WORDS | JSON},
    optional={"current_node": KEYS | JSON, "create_time": JSON, "title": JSON, "gizmo_id": JSON, "id": JSON},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(CHATS, st.randoms(use_true_random=False))
def test_no_conversation_crashes_and_the_order_of_keys_changes_nothing(chat, order):
    file, shuffled = make_member("f", [chat]), make_member("f", [shuffle(chat, order)])
    side = [make_member("user.json", {"id": "user-1", "email": "x"}), make_member("file-A.png", b"x")]

    before, after = (split_all(IMPORTER, each, [each, *side])[0] for each in (file, shuffled))

    for one, other in zip(before, after, strict=True):
        assert (one.key, hash_record(one.value), one.context, one.sources) == (
            other.key,
            hash_record(other.value),
            other.context,
            other.sources,
        )
        encoded = [encode_conversation(IMPORTER.parse(record).conversation) for record in (one, other)]
        assert encoded[0] == encoded[1]
        assert encode_conversation(decode_conversation(encoded[0])) == encoded[0]


TEXTUAL = st.sampled_from(["text", "multimodal_text"])
PLAIN = st.fixed_dictionaries({"content_type": TEXTUAL, "parts": st.lists(WORDS | JSON, max_size=2)})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(PLAIN, st.sampled_from(["user", "assistant", "tool"]), st.sampled_from(["all", "python"]))
def test_a_field_of_a_content_that_says_nothing_changes_nothing(content, role, recipient):
    message = {"author": {"role": role}, "recipient": recipient}

    plain = read_blocks({**message, "content": content})

    assert plain == read_blocks({**message, "content": {**content, "nothing": None}})  # is looked at more closely


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(JSON)
def test_any_json_is_recognised_or_not_and_split_without_a_crash(value):
    file = make_member("f", value)

    IMPORTER.recognise(peek(file))
    for record in split_all(IMPORTER, file, [file, make_member("g", value)])[0]:
        IMPORTER.parse(record)
