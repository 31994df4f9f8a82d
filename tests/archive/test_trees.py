"""Messages become one tree with one active path, whatever the file said."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from pipeline.archive.conversations import Conversation, Message
from pipeline.archive.trees import settle_tree


def settle(
    *messages: tuple[str, str | None] | tuple[str, str | None, str],
    leaf: str | None = None,
    links: dict[str, str | None] | None = None,
) -> Conversation:
    """Settle a tree of messages, each given as (key, parent) or (key, parent, created)."""
    made = [Message(each[0], parent=each[1], created=each[2] if len(each) > 2 else None) for each in messages]
    conversation = Conversation("p", "c", messages=made)
    settle_tree(conversation, leaf=leaf, links=links)
    return conversation


def active_of(conversation: Conversation) -> list[str]:
    return [message.key for message in conversation.messages if message.is_active]


def parents_of(conversation: Conversation) -> dict[str, str | None]:
    return {message.key: message.parent for message in conversation.messages}


@given(st.lists(st.integers(0, 9), min_size=2, max_size=10).flatmap(lambda ups: st.permutations([*enumerate(ups, 1)])))
def test_the_order_of_messages_changes_no_parent(messages):
    parents = {f"m{number}": f"m{up}" if up < number else None for number, up in messages}  # m0 is nowhere
    conversation = settle(*parents.items(), links={"m0": None})

    assert parents_of(conversation) == {key: None if parent == "m0" else parent for key, parent in parents.items()}
    assert "circle" not in conversation.warnings


def test_the_path_leads_to_the_leaf_that_is_declared():
    conversation = settle(("a", None), ("b", "a"), ("c", "b"), ("d", "b"), leaf="c")

    assert active_of(conversation) == ["a", "b", "c"]
    assert (conversation.active_leaf, conversation.is_leaf_guessed) == ("c", False)


def test_a_leaf_on_an_old_branch_or_within_the_tree_is_obeyed():
    old, new = ("b", "a", "2025-01-01T00:00:00Z"), ("c", "a", "2026-01-01T00:00:00Z")

    assert active_of(settle(("a", None), old, new, ("d", "c"), leaf="b")) == ["a", "b"]
    assert active_of(settle(("a", None), old, new, ("d", "c"), leaf="c")) == ["a", "c"]


def test_without_a_leaf_the_latest_end_is_guessed():
    conversation = settle(("a", None), ("b", "a", "2026-01-02T00:00:00Z"), ("c", "a", "2026-01-01T00:00:00Z"))

    assert active_of(conversation) == ["a", "b"]
    assert conversation.is_leaf_guessed


def test_a_part_of_a_second_is_later_than_the_whole_second():
    later, earlier = ("b", "a", "2026-01-01T00:00:00.500000Z"), ("c", "a", "2026-01-01T00:00:00Z")
    conversation = settle(("a", None), later, earlier)

    assert active_of(conversation) == ["a", "b"]
    assert [message.variant for message in conversation.messages] == [0, 1, 0]


def test_of_ends_without_a_time_the_deepest_is_guessed_and_then_the_last():
    assert active_of(settle(("a", None), ("b", "a"), ("c", "b"), ("d", "a"))) == ["a", "b", "c"]
    assert active_of(settle(("a", None), ("b", "a"), ("c", "a"))) == ["a", "c"]


def test_a_leaf_that_does_not_exist_is_guessed_and_no_message_is_lost():
    conversation = settle(("a", None), ("b", "a"), leaf="gone")

    assert conversation.active_leaf == "b"
    assert conversation.is_leaf_guessed
    assert len(conversation.messages) == 2


def test_a_parent_that_is_not_there_makes_a_root_and_is_counted():
    conversation = settle(("a", None), ("b", "gone"), ("c", "b"))

    assert parents_of(conversation) == {"a": None, "b": None, "c": "b"}
    assert conversation.warnings == {"missing_parent": 1}


def test_a_message_below_a_node_without_one_goes_to_the_nearest_above():
    links = {"root": None, "x": "a", "y": "x"}

    conversation = settle(("a", "root"), ("b", "y"), leaf="b", links=links)

    assert parents_of(conversation) == {"a": None, "b": "a"}
    assert conversation.warnings == {}


def test_a_leaf_that_is_no_message_stands_for_the_nearest_above():
    conversation = settle(("a", None), ("b", "a"), ("c", "a"), leaf="y", links={"y": "x", "x": "b"})

    assert (conversation.active_leaf, conversation.is_leaf_guessed) == ("b", False)


def test_circles_of_nodes_without_a_message_end():
    conversation = settle(("a", "x"), leaf="x", links={"x": "y", "y": "x"})

    assert parents_of(conversation) == {"a": None}
    assert conversation.warnings == {"circle": 1}
    assert conversation.is_leaf_guessed


def test_a_circle_is_opened_at_its_first_message():
    conversation = settle(("tail", "c"), ("b", "a"), ("a", "c"), ("c", "b"), leaf="tail")

    assert parents_of(conversation) == {"tail": "c", "b": None, "a": "c", "c": "b"} | {"a": "c", "b": None}
    assert conversation.warnings == {"circle": 1}
    assert active_of(conversation) == ["tail", "b", "c"]


def test_a_message_that_is_its_own_parent_is_a_root():
    assert parents_of(settle(("a", "a"), ("b", "a"))) == {"a": None, "b": "a"}


def test_variants_are_numbered_by_time_and_then_by_place():
    late, early = ("late", "a", "2026-01-02T00:00:00Z"), ("early", "a", "2026-01-01T00:00:00Z")

    conversation = settle(("a", None), ("none", "a"), late, early, ("none too", "a"))

    assert {message.key: message.variant for message in conversation.messages} == {
        "a": 0,
        "early": 0,
        "late": 1,
        "none": 2,
        "none too": 3,
    }
    assert [message.key for message in conversation.messages] == ["a", "none", "late", "early", "none too"]


def test_an_empty_conversation_has_no_leaf_and_guesses_none():
    conversation = settle(leaf="gone")

    assert (conversation.active_leaf, conversation.is_leaf_guessed) == (None, False)


def test_long_chains_do_not_recurse():
    length = 20_000
    keys = [str(number) for number in range(length)]
    pairs = list(zip(keys, [None, *keys[:-1]], strict=True))

    for messages in (pairs, pairs[::-1]):
        conversation = settle(*messages)
        assert len(active_of(conversation)) == length > sys.getrecursionlimit()


def test_a_long_circle_is_opened_once():
    keys = [str(number) for number in range(20_000)]
    conversation = settle(*zip(keys, [keys[-1], *keys[:-1]], strict=True))

    assert conversation.warnings == {"circle": 1}
    assert len(active_of(conversation)) == len(keys)


KEYS = st.sampled_from("abcdefgh")


@given(st.dictionaries(KEYS, st.none() | KEYS, max_size=8), st.none() | KEYS)
def test_whatever_the_links_every_message_leads_to_a_root(parents, leaf):
    conversation = settle(*parents.items(), leaf=leaf)

    by_key = {message.key: message for message in conversation.messages}
    assert list(by_key) == list(parents)
    for message in conversation.messages:
        steps = 0
        while message.parent is not None:
            message, steps = by_key[message.parent], steps + 1
            assert steps <= len(by_key)
    assert bool(conversation.active_leaf) == bool(parents)
