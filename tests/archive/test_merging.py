"""A view is the same in whatever order the exports came, and loses nothing that one of them had."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive.conversations import (
    Attachment,
    AttachmentStatus,
    Block,
    Conversation,
    Lineage,
    Message,
    Usage,
    encode_conversation,
)
from pipeline.archive.merging import Merged, Observation, Relation, merge, relate


def say(key: str, text: str, parent: str | None = None, **fields: object) -> Message:
    return Message(key, parent, "user", is_active=True, blocks=[Block("text", text=text)], **fields)  # type: ignore[arg-type]


def chain(*texts: str, start: str = "m") -> list[Message]:
    """Return messages in a chain, named m0, m1, … by their position."""
    return [
        say(f"{start}{number}", text, f"{start}{number - 1}" if number else None) for number, text in enumerate(texts)
    ]


def chat(updated: str | None, messages: list[Message], **fields: object) -> Conversation:
    leaf = messages[-1].key if messages else None
    return Conversation("chatgpt", "c1", updated=updated, active_leaf=leaf, messages=messages, **fields)  # type: ignore[arg-type]


def merge_in_all_orders(*conversations: Conversation) -> Merged:
    """Return the merged conversation, having seen that it is the same in all orders."""
    observations = [Observation(f"doc{number}", each) for number, each in enumerate(conversations)]
    before = [encode_conversation(each) for each in conversations]
    merged = [merge(order) for order in permutations(observations)]
    seen = {(encode_conversation(each.conversation), each.versions, each.conflicts) for each in merged}
    assert len(seen) == 1
    assert [encode_conversation(each) for each in conversations] == before
    return merged[0]


def texts_of(merged: Merged) -> dict[str, str | None]:
    return {message.key: message.blocks[0].text for message in merged.conversation.messages}


def list_gone(merged: Merged) -> list[str]:
    return [message.key for message in merged.conversation.messages if message.is_gone]


# Relations


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        (["a", "b"], ["a", "b"], Relation.EQUAL),
        (["a", "b"], ["a"], Relation.SUPERSET),
        (["a"], ["a", "b"], Relation.SUBSET),
        (["a", "b"], ["a", "c"], Relation.CONFLICT),
    ],
)
def test_the_relation_of_two_observations_is_that_of_their_messages(one, other, relation):
    assert relate(chat("2026-01-01T00:00:00Z", chain(*one)), chat(None, chain(*other))) == relation


def test_order_of_messages_update_time_and_ids_of_attachments_change_no_relation():
    one, other = chat("2026-01-01T00:00:00Z", chain("a", "é")), chat(None, chain("a", "e\u0301")[::-1])
    for name, each in (("file-1", one), ("file-2", other)):
        each.messages[0].blocks[0].attachment = Attachment(id=name)

    assert relate(one, other) == Relation.EQUAL


# Merging


def test_a_conversation_that_grew_is_extended():
    merged = merge_in_all_orders(
        chat("2026-01-01T00:00:00Z", chain("a", "b")), chat("2026-01-02T00:00:00Z", chain("a", "b", "c"))
    )

    assert texts_of(merged) == {"m0": "a", "m1": "b", "m2": "c"}
    assert (merged.versions, list_gone(merged), merged.conflicts) == (("doc1", "doc0"), [], ())


def test_messages_that_a_newer_export_lacks_stay_and_are_gone_and_off_the_active_path():
    older = chat("2026-01-01T00:00:00Z", chain("a", "b", "c"))
    newer = chat("2026-01-02T00:00:00Z", chain("a"))

    merged = merge_in_all_orders(older, newer)

    assert texts_of(merged) == {"m0": "a", "m1": "b", "m2": "c"}
    assert list_gone(merged) == ["m1", "m2"]
    assert [message.key for message in merged.conversation.messages if message.is_active] == ["m0"]
    assert merged.conversation.active_leaf == "m0"


def test_a_message_that_comes_back_is_not_gone():
    merged = merge_in_all_orders(
        chat("2026-01-01T00:00:00Z", chain("a", "b")),
        chat("2026-01-02T00:00:00Z", chain("a")),
        chat("2026-01-03T00:00:00Z", chain("a", "b")),
    )

    assert list_gone(merged) == []


def test_of_two_contents_the_newer_is_shown_and_the_conflict_is_told():
    merged = merge_in_all_orders(
        chat("2026-01-01T00:00:00Z", chain("a", "old")), chat("2026-01-02T00:00:00Z", chain("a", "new"))
    )

    assert texts_of(merged)["m1"] == "new"
    (conflict,) = merged.conflicts
    assert "message m1" in conflict
    assert "doc0" in conflict


def test_a_part_of_a_second_is_later_than_the_whole_second():
    merged = merge_in_all_orders(
        chat("2026-01-01T00:00:00Z", chain("a", "old")), chat("2026-01-01T00:00:00.500000Z", chain("a", "new"))
    )

    assert texts_of(merged)["m1"] == "new"


def test_a_beginning_never_replaces_the_whole_text():
    whole, cut = chat("2026-01-01T00:00:00Z", chain("a", "the answer")), chat("2026-01-02T00:00:00Z", chain("a", "the"))
    cut.messages[1].status = "in_progress"

    merged = merge_in_all_orders(whole, cut)

    assert texts_of(merged)["m1"] == "the answer"
    assert (merged.conflicts, list_gone(merged)) == ((), [])


def test_an_answer_that_was_still_being_written_is_completed_without_a_conflict():
    merged = merge_in_all_orders(
        chat("2026-01-01T00:00:00Z", chain("a", "the")), chat("2026-01-02T00:00:00Z", chain("a", "the answer"))
    )

    assert (texts_of(merged)["m1"], merged.conflicts) == ("the answer", ())


def test_fields_are_those_of_the_newest_and_what_it_does_not_know_those_of_the_others():
    older = chat("2026-01-01T00:00:00Z", chain("a"), title="Old", title_source="provider", account="ann", model="m-1")
    newer = chat("2026-01-02T00:00:00Z", chain("a"), title="a", title_source="first_prompt", model="m-2")

    merged = merge_in_all_orders(older, newer).conversation

    assert (merged.title, merged.account, merged.model) == ("Old", "ann", "m-2")


def attach(messages: list[Message], **fields: object) -> list[Message]:
    block = Block("attachment", attachment=Attachment(**fields))  # type: ignore[arg-type]
    return [replace(messages[0], blocks=[*messages[0].blocks, block]), *messages[1:]]


def test_bytes_of_an_attachment_come_from_any_export_that_has_them_and_are_never_lost():
    lacking = attach(chain("a"), id="file-1", name="x.png")
    having = attach(chain("a"), id="file-1", status=AttachmentStatus.PRESENT, blake3="ff", export="e" * 16)

    for first, second in ((lacking, having), (having, lacking)):
        merged = merge_in_all_orders(chat("2026-01-01T00:00:00Z", first), chat("2026-01-02T00:00:00Z", second))
        attachment = merged.conversation.messages[0].blocks[1].attachment
        assert attachment is not None
        assert (attachment.status, attachment.export) == ("present", "e" * 16)


def test_an_attachment_from_inside_a_record_names_the_document_that_has_its_bytes():
    inline = attach(chain("a"), id="i", status=AttachmentStatus.PRESENT, extra_file="image.png")

    merged = merge_in_all_orders(
        chat("2026-01-01T00:00:00Z", inline), chat("2026-01-02T00:00:00Z", attach(chain("a"), id="i"))
    )
    alone = merge_in_all_orders(chat("2026-01-01T00:00:00Z", inline))

    for each in (merged, alone):
        attachment = each.conversation.messages[0].blocks[1].attachment
        assert attachment is not None
        assert (attachment.extra_file, attachment.extra_document) == ("image.png", "doc0")


def test_documents_of_a_conversation_are_those_of_all_its_exports():
    older = chat("2026-01-01T00:00:00Z", chain("a"))
    older.attachments = [Attachment(id="d1", name="plan.txt"), Attachment(id="d2", name="map.txt")]
    newer = chat("2026-01-02T00:00:00Z", chain("a"))
    newer.attachments = [Attachment(id="d2", name="map.txt")]

    merged = merge_in_all_orders(older, newer)

    assert sorted(attachment.id or "" for attachment in merged.conversation.attachments) == ["d1", "d2"]


def test_without_message_ids_an_equal_beginning_is_growth_whatever_the_times_say():
    longer = chat("2026-01-01T00:00:00Z", chain("a", "b", "c"), is_append_only=True)
    shorter = chat("2026-01-02T00:00:00Z", chain("a", "b"), is_append_only=True)

    merged = merge_in_all_orders(longer, shorter)

    assert (len(merged.conversation.messages), list_gone(merged), merged.conflicts) == (3, [], ())
    assert merged.versions == ("doc0", "doc1")


def test_without_message_ids_another_beginning_is_another_version_that_stands_alone():
    first = chat("2026-01-01T00:00:00Z", chain("a", "b", "c"), is_append_only=True)
    edited = chat("2026-01-02T00:00:00Z", chain("a", "x"), is_append_only=True)

    merged = merge_in_all_orders(first, edited)

    assert texts_of(merged) == {"m0": "a", "m1": "x"}
    assert merged.versions == ("doc1", "doc0")
    assert "doc0" in merged.conflicts[0]


def test_what_was_migrated_gives_way_to_a_real_export_however_old_that_is():
    migrated = chat("2026-05-01T00:00:00Z", chain("a", "b", "c", start="line"), is_migrated=True)
    real = chat("2026-01-01T00:00:00Z", chain("a", "b"))

    merged = merge_in_all_orders(migrated, real, chat("2026-01-02T00:00:00Z", chain("a", "b")))

    assert list(texts_of(merged)) == ["m0", "m1"]
    assert merged.versions == ("doc2", "doc1", "doc0")
    assert merge_in_all_orders(migrated).conversation.is_migrated


def test_usage_that_only_an_older_export_has_is_kept():
    older = chat("2026-01-01T00:00:00Z", chain("a"))
    older.messages[0].usage = Usage(output_tokens=7)

    merged = merge_in_all_orders(older, chat("2026-01-02T00:00:00Z", chain("a")))

    assert merged.conversation.messages[0].usage == Usage(output_tokens=7)


def test_a_branch_that_only_an_older_export_has_keeps_its_place_in_the_tree():
    older = chat("2026-01-01T00:00:00Z", [*chain("a", "b"), say("x", "other", "m0", created="2026-01-01T00:00:00Z")])
    newer = chat("2026-01-02T00:00:00Z", chain("a", "b", "c"))

    merged = merge_in_all_orders(older, newer)

    found = {message.key: message for message in merged.conversation.messages}
    assert (found["x"].parent, found["x"].is_active) == ("m0", False)
    assert found["x"].variant != found["m1"].variant
    assert merged.conflicts == ("message x: 1 are only in version doc0, and the newest has others that it lacks",)


messages = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "ab", "b", ""])), max_size=6)
times = st.sampled_from([None, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
conversations = st.builds(
    lambda updated, found, append, migrated, seed: chat(
        updated,
        _link(dict(found), seed),
        is_append_only=append,
        is_migrated=migrated,
    ),
    times,
    messages,
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)


def _link(texts: dict[int, str], seed: int) -> list[Message]:
    chooser = random.Random(seed)
    linked: list[Message] = []
    for number, text in texts.items():
        linked.append(say(f"m{number}", text, chooser.choice(linked).key if linked else None))
    return linked


@settings(max_examples=200, deadline=None)
@given(st.lists(conversations, min_size=1, max_size=4))
def test_the_order_of_imports_changes_nothing_and_no_message_is_lost(found):
    merged = merge_in_all_orders(*found)

    assert sorted(merged.versions) == sorted(f"doc{number}" for number in range(len(found)))
    real = [each for each in found if not each.is_migrated] or found
    if not any(each.is_append_only for each in real):
        assert texts_of(merged).keys() == {message.key for each in real for message in each.messages}


def test_an_older_export_that_begins_later_is_in_no_conflict():
    whole, end = chain("a", "b", "c"), chain("a", "b", "c")[1:]
    end[0].parent = None
    merged = merge_in_all_orders(chat("2026-02-01", whole), chat("2026-01-01", end))

    assert merged.conflicts == ()
    assert [message.parent for message in merged.conversation.messages] == [None, "m0", "m1"]


def test_a_link_that_one_export_knows_the_message_of_is_one_link():
    links = [[Lineage("sub_agent", "s", message)] for message in (None, "m7")]
    merged = merge_in_all_orders(*(chat("2026-01-01", chain("a"), lineage=link) for link in links))

    assert merged.conversation.lineage == [Lineage("sub_agent", "s", "m7")]
