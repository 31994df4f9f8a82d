"""ChatGPT's conversations: how they are recognised, where they stand, their fields and their tree."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.conversations import Role
from pipeline.archive.importers.interface import Recognition
from pipeline.archive.reading import peek
from tests.archive.chatgpt_chats import (
    IMPORTER,
    NOON,
    list_blocks,
    make_chat,
    make_message,
    make_node,
    message_of,
    read_chat,
    read_message,
)
from tests.archive.members import import_alone, make_member, parse_all, split_all

CHAT = make_chat(make_message("user", "Which knot?"), make_message("assistant", "A bowline."))
EMPTY = make_chat()


def recognise(content: Any, name: str = "anything") -> Recognition | None:
    return IMPORTER.recognise(peek(make_member(name, content)))


# Recognising


@pytest.mark.parametrize(
    "content",
    [
        CHAT,
        [CHAT],
        [EMPTY],
        {"mapping": EMPTY["mapping"], "current_node": None},
        {"mapping": EMPTY["mapping"], "conversation_id": "c"},
        {"mapping": CHAT["mapping"]},
        {"conversations": [CHAT]},
        {"chats": [CHAT]},
        json.dumps(CHAT) + "\n" + json.dumps(CHAT) + "\n",
        [{"odd": 1}, CHAT],
        {"shared_conversation_id": "s", "messages": [{"node_id": "a", "role": "user", "text": "hi"}]},
    ],
)
def test_conversations_are_recognised_in_every_container(content):
    recognition = recognise(content)

    assert recognition is not None
    assert not recognition.is_artifact


@pytest.mark.parametrize(
    "content",
    [
        {"mapping": {}},
        {"mapping": {"a": 1}, "current_node": "a"},
        {"mapping": {"a": {"id": "a", "message": None}}},
        {"mapping": {"en": {"de": "word"}}},
        {"mapping": [{"id": "a", "message": None}], "current_node": "a"},
        {"messages": [{"role": "user", "content": "hi"}]},
        {"messages": [{"node_id": "a", "role": "user", "text": "hi"}]},
        {"shared_conversation_id": "s", "messages": []},
        [],
        {},
        "words",
    ],
)
def test_what_only_looks_like_one_is_not_recognised(content):
    assert recognise(content) is None


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ([{"id": "s", "conversation_id": "c", "title": "t", "is_anonymous": True}], "shared links"),
        ({"file-A.dat": "a.png"}, "names of attachments"),
        ({"file-A.dat": None, "file-B.dat": "b.png"}, "names of attachments"),
        ([{"file_id": "file-A", "file_name": None}], "list of files"),
        ([{"id": "m", "conversation_id": "c", "rating": "thumbs_up"}], "ratings"),
        ({"id": "user-1", "email": "x", "chatgpt_plus_user": True}, "account"),
        ({"id": "d", "textdoc_type": "document", "content": "text"}, "canvas document"),
        ({"version": 1, "files": ["conversations-000.json"]}, "list of what the export has"),
        ({"files": [{"name": "conversations-000.json", "size": 1}]}, "list of what the export has"),
        ({"chats": []}, "group chats, of which no form is known"),
        ("<html><script>var jsonData = []</script></html>", "page that shows the same conversations"),
    ],
)
def test_side_files_are_recognised_by_their_shape_and_are_no_conversations(content, name):
    recognition = recognise(content)

    assert recognition == Recognition(f"ChatGPT's {name}", is_artifact=True)


# Containers


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (CHAT, ["f[0]"]),
        ([CHAT, EMPTY], ["f[0]", "f[1]"]),
        ({"conversations": [CHAT, CHAT]}, ["f[0]", "f[1]"]),
        (json.dumps(CHAT) + "\n" + json.dumps(EMPTY), ["f[0]", "f[1]"]),
    ],
)
def test_each_conversation_of_a_container_is_a_record(content, places):
    records, skips = split_all(IMPORTER, make_member("f", content))

    assert [record.place for record in records] == places
    assert skips == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (17, "not_a_conversation"),
        ({"id": "share-1", "conversation_id": "c-1", "title": "Tide tables", "is_anonymous": True}, "no_mapping"),
        ({"title": "very old", "messages": [{"role": "user"}]}, "no_mapping"),
        ({"conversation_id": "c", "mapping": None}, "no_mapping"),
    ],
)
def test_what_is_no_conversation_is_skipped_with_its_place_and_its_siblings_are_imported(value, reason):
    records, skips = split_all(IMPORTER, make_member("f", [CHAT, value, EMPTY]))

    assert [record.place for record in records] == ["f[0]", "f[2]"]
    assert [(skip.reason, skip.place, skip.is_info) for skip in skips] == [(reason, "f[1]", False)]


def test_group_chats_of_a_form_that_nobody_knows_are_each_told():
    file = make_member("f", {"chats": [{"topic": "boats"}, {"topic": "knots"}]})

    recognition = IMPORTER.recognise(peek(file))
    records, skips = split_all(IMPORTER, file)

    assert recognition is not None
    assert not recognition.is_artifact
    assert records == []
    assert [(skip.reason, skip.place) for skip in skips] == [("no_mapping", "f[0]"), ("no_mapping", "f[1]")]


def test_an_export_that_begins_with_chats_without_nodes_is_recognised():
    hollow = {"conversation_id": "c", "title": "gone", "mapping": {}, "current_node": None}

    assert recognise([None, "odd", *[hollow] * 20, CHAT]) is not None


def test_a_skip_tells_names_of_fields_and_no_contents():
    _, (skip,) = split_all(IMPORTER, make_member("f", [CHAT, {"title": "a secret", "id": "x"}]))

    assert "title" in skip.detail
    assert "secret" not in str(skip)


def test_missing_shards_are_told_once():
    names = ["conversations-001.json", "conversations-003.json"]
    manifest = make_member("export_manifest.json", {"files": ["conversations-001.json", "conversations-005.json"]})
    members = [*(make_member(name, [make_chat(conversation_id=name)]) for name in names), manifest]

    found = [split_all(IMPORTER, member, members) for member in members[:2]]

    assert [record.key for records, _ in found for record in records] == names
    assert [[(skip.reason, skip.place) for skip in skips] for _, skips in found] == [
        [("missing_shard", f"conversations-00{number}.json") for number in (0, 2, 5)],
        [],
    ]


def test_shards_without_a_gap_miss_nothing():
    members = [make_member(f"export/conversations-00{number}.json", [CHAT]) for number in range(3)]

    assert [split_all(IMPORTER, member, members)[1] for member in members] == [[], [], []]


def test_a_shared_page_becomes_a_conversation():
    page = {
        "shared_conversation_id": "share-1",
        "title": "Tides",
        "messages": [
            {"node_id": "a", "parent": None, "children": ["b"], "role": "user", "text": "When?"},
            {"node_id": "b", "parent": "a", "children": [], "role": "assistant", "text": "At noon.", "model": "x"},
        ],
    }

    chat = import_alone(IMPORTER, page)

    assert (chat.native_id, chat.title, chat.is_id_derived) == ("share-1", "Tides", False)
    assert [(message.key, message.parent, message.role) for message in chat.messages] == [
        ("a", None, Role.USER),
        ("b", "a", Role.ASSISTANT),
    ]
    assert [message.blocks[0].text for message in chat.messages] == ["When?", "At noon."]
    assert chat.messages[1].extra == {"model": "x"}


def test_every_message_of_a_shared_page_is_kept():
    one = {"node_id": "a", "parent": None, "children": [], "role": "user", "text": "When?"}
    page = {"shared_conversation_id": "share-1", "messages": [one, dict(one), {**one, "text": "Where?"}, None, "bare"]}

    chat = import_alone(IMPORTER, page)

    assert {message.key: message.blocks[0].text for message in chat.messages if message.role == Role.USER} == {
        "a": "When?",
        "a~2": "Where?",
    }
    assert [message.blocks[0].raw for message in chat.messages if message.role == Role.UNKNOWN] == ["bare"]


# Side files


def test_the_account_is_that_of_the_export():
    file = make_member("conversations.json", [CHAT])
    user = make_member("renamed.json", {"id": "user-1", "email": "x", "phone_number": None})

    (parsed,) = parse_all(IMPORTER, file, [file, user])

    assert parsed.conversation.account == "user-1"
    assert "email" not in str(split_all(IMPORTER, file, [file, user])[0][0].context)


def test_two_accounts_at_one_place_say_nothing():
    file = make_member("conversations.json", [CHAT])
    users = [make_member(f"{name}.json", {"id": f"user-{name}", "email": "x"}) for name in ("a", "b")]

    (parsed,) = parse_all(IMPORTER, file, [file, *users])

    assert parsed.conversation.account is None


def test_ratings_and_shared_links_stand_with_what_they_are_of():
    file = make_member("conversations.json", [CHAT, make_chat(conversation_id="chat-2")])
    ratings = [
        {"id": "m2", "conversation_id": "chat-1", "rating": "thumbs_up"},
        {"id": "gone", "conversation_id": "chat-1", "rating": "thumbs_down", "content": "no"},
    ]
    shared = [{"id": "share-1", "conversation_id": "chat-1", "title": "A chat"}]

    first, second = parse_all(
        IMPORTER, file, [file, make_member("feedback.json", ratings), make_member("shared.json", shared)]
    )

    assert message_of(first.conversation, "m2").extra["feedback"] == ratings[:1]
    assert first.conversation.extra["feedback"] == ratings[1:]
    assert first.conversation.extra["shared_links"] == shared
    assert second.conversation.extra == {}


def test_a_side_file_that_cannot_be_read_is_noted_and_the_rest_is_imported():
    file = make_member("conversations.json", [CHAT])
    broken = make_member("user.json", '{"id": "user-1", "email": "x"')

    records, skips = split_all(IMPORTER, file, [file, broken])

    assert len(records) == 1
    assert [(skip.reason, skip.place, skip.is_info) for skip in skips] == [("unreadable_side_file", "user.json", True)]


# Fields


@pytest.mark.parametrize(
    ("ids", "native_id", "extra"),
    [
        ({"conversation_id": "c", "id": "c"}, "c", {}),
        ({"conversation_id": "c", "id": "other"}, "c", {"id": "other"}),
        ({"conversation_id": None, "id": "i"}, "i", {}),
    ],
)
def test_the_id_is_conversation_id_and_then_id(ids, native_id, extra):
    chat = read_chat(**ids)

    assert (chat.native_id, chat.is_id_derived, chat.extra) == (native_id, False, extra)


def test_a_conversation_without_an_id_gets_one_that_stays_when_it_grows():
    short, long = (
        read_chat(*messages, conversation_id=None)
        for messages in (
            [make_message("user", "one")],
            [make_message("user", "one"), make_message("assistant", "two", create_time=NOON + 9)],
        )
    )
    other = read_chat(make_message("user", "one"), conversation_id=None, create_time=NOON + 1)

    assert short.is_id_derived
    assert short.native_id == long.native_id != other.native_id


def test_the_title_is_the_providers_or_the_first_prompt():
    named, unnamed = read_chat(title='Logo / "draft"'), read_chat(make_message("user", "Which knot?"), title=None)

    assert (named.title, named.title_source) == ('Logo / "draft"', "provider")
    assert (unnamed.title, unnamed.title_source) == ("Which knot?", "first_prompt")


@pytest.mark.parametrize("value", [NOON, float(NOON), str(NOON), f"{NOON}.0"])
def test_times_are_numbers_or_texts(value):
    assert read_chat(create_time=value, update_time=value).updated == "2026-01-01T12:00:00Z"


def test_a_damaged_time_is_kept_as_it_was_and_counted():
    chat = read_chat(make_message("user", "x", create_time=True), update_time="2026-01-01T…")

    assert (chat.updated, chat.messages[0].created) == (None, None)
    assert chat.warnings == {"damaged_time": 2}
    assert read_chat(create_time="").warnings == {}
    assert (chat.extra["update_time"], chat.messages[0].extra["create_time"]) == ("2026-01-01T…", True)


def test_a_time_without_a_zone_is_utc_and_counted():
    chat = read_chat(create_time="2026-01-01T12:00:00", update_time="2026-01-01T12:00:00+02:00")

    assert (chat.created, chat.updated) == ("2026-01-01T12:00:00Z", "2026-01-01T10:00:00Z")
    assert chat.warnings == {"time_without_zone": 1}


def test_fields_with_another_kind_of_value_are_kept_as_they_were():
    odd = {"title": 7, "gizmo_id": 12, "is_archived": "true", "default_model_slug": ["x"], "current_node": 5}

    assert read_chat(**odd).extra == odd


def test_an_id_may_be_a_number():
    chat = read_chat(conversation_id=17, id=None)

    assert (chat.native_id, chat.is_id_derived) == ("17", False)


def test_a_second_name_of_a_model_is_kept():
    assert read_chat(default_model_slug="a", model_slug="b").extra == {"model_slug": "b"}


def test_flags_are_those_that_are_true():
    chat = read_chat(is_archived=True, is_starred=None, is_temporary=True, is_read_only=False, is_study_mode=True)

    assert chat.flags == ["archived", "temporary", "study_mode"]


@pytest.mark.parametrize(
    ("fields", "project", "gizmo"),
    [
        ({"gizmo_id": "g-p-boat"}, "g-p-boat", None),
        ({"conversation_template_id": "g-p-boat", "gizmo_id": "g-knots"}, "g-p-boat", "g-knots"),
        ({"conversation_template_id": "g-p-boat", "gizmo_id": "g-p-boat"}, "g-p-boat", None),
        ({"gizmo_id": "g-knots", "gizmo_type": "gpt"}, None, "g-knots"),
    ],
)
def test_projects_and_custom_gpts_are_told_apart(fields, project, gizmo):
    chat = read_chat(**fields)

    assert (chat.project_id, chat.gizmo_id) == (project, gizmo)


@pytest.mark.parametrize("field", ["default_model_slug", "model_slug"])
def test_the_default_model(field):
    assert read_chat(**{field: "gpt-5"}).model == "gpt-5"


def test_all_other_fields_that_say_something_are_kept():
    chat = read_chat(
        voice="ember", memory_scope="global_enabled", pinned_time=1.5, safe_urls=[], owner=None, new={"a": 1}
    )

    assert chat.extra == {"voice": "ember", "memory_scope": "global_enabled", "pinned_time": 1.5, "new": {"a": 1}}


# Messages


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({"weight": 0}, "weight 0"),
        ({"weight": 0.0}, "weight 0"),
        ({"weight": 1.0}, None),
        ({"weight": False}, None),
        ({"weight": "0"}, "weight 0"),
        ({"metadata": {"is_visually_hidden_from_conversation": True}}, "vendor flag"),
        ({"metadata": None}, None),
    ],
)
def test_hidden_messages_are_kept_with_the_reason(fields, hidden):
    message = read_message("system", "words", **fields)

    assert (message.hidden, len(message.blocks)) == (hidden, 1)


@pytest.mark.parametrize(
    ("role", "text", "hidden"),
    [("system", "", "empty system seed"), ("system", "words", "weight 0"), ("assistant", "", "weight 0")],
)
def test_only_an_empty_system_message_is_a_seed(role, text, hidden):
    assert read_message(role, text, weight=0).hidden == hidden


@pytest.mark.parametrize(("author", "extra"), [({}, {}), (None, {}), ({"role": "critic"}, {"role": "critic"})])
def test_a_message_whose_author_nobody_knows_is_kept(author, extra):
    chat = read_chat({"author": author, "content": {"content_type": "text", "parts": ["words"]}})

    (message,) = chat.messages
    assert (message.role, message.extra) == (Role.UNKNOWN, extra)
    assert chat.warnings == {"unknown_role": 1}


def test_a_message_that_is_no_object_is_kept_raw():
    chat = make_chat(make_message("user", "words"))
    chat["mapping"]["m2"] = {"id": "m2", "parent": "m1", "children": [], "message": "not an object"}
    chat["mapping"]["m3"] = 17

    conversation = import_alone(IMPORTER, chat)

    assert message_of(conversation, "m2").blocks[0].raw == "not an object"
    assert message_of(conversation, "m3").blocks[0].raw == 17
    assert conversation.warnings == {"damaged_message": 2, "unknown_type": 2}


# The tree


def test_nodes_without_a_message_are_no_messages_and_break_no_chain():
    chat = make_chat(make_message("user", "one"))
    chat["mapping"]["gap"] = make_node("gap", "m1", None)
    chat["mapping"]["m2"] = make_node("m2", "gap", make_message("assistant", "two"))
    chat["current_node"] = "m2"

    conversation = import_alone(IMPORTER, chat)

    assert [(message.key, message.parent) for message in conversation.messages] == [("m1", None), ("m2", "m1")]
    assert conversation.warnings == {}


def test_messages_are_known_by_their_nodes_and_keep_their_own_ids():
    chat = make_chat(make_message("user", "one", id="msg-A"), make_message("assistant", "two", id="msg-A"))

    conversation = import_alone(IMPORTER, chat)

    assert [(message.key, message.native_id) for message in conversation.messages] == [("m1", "msg-A"), ("m2", "msg-A")]


def test_a_leaf_on_an_old_branch_is_obeyed():
    chat = make_chat(make_message("user", "one"), make_message("assistant", "old"))
    chat["mapping"]["new"] = make_node("new", "m1", make_message("assistant", "new", create_time=NOON + 99))

    conversation = import_alone(IMPORTER, chat)

    assert {message.key: (message.is_active, message.variant) for message in conversation.messages} == {
        "m1": (True, 0),
        "m2": (True, 0),
        "new": (False, 1),
    }
    assert not conversation.is_leaf_guessed


@pytest.mark.parametrize("current", [None, "nowhere", 17])
def test_without_a_leaf_the_latest_is_guessed_and_all_nodes_are_kept(current):
    chat = make_chat(make_message("user", "one"), make_message("assistant", "old"), current_node=current)
    chat["mapping"]["new"] = make_node("new", "m1", make_message("assistant", "new", create_time=NOON + 99))

    conversation = import_alone(IMPORTER, chat)

    assert (conversation.active_leaf, conversation.is_leaf_guessed) == ("new", True)
    assert len(conversation.messages) == 3


def test_a_leaf_without_a_message_means_the_nearest_one_above():
    chat = make_chat(make_message("user", "one"), current_node="gap")
    chat["mapping"]["gap"] = make_node("gap", "m1", None)

    assert import_alone(IMPORTER, chat).active_leaf == "m1"


def test_a_node_that_names_no_parent_is_where_another_lists_it():
    chat = make_chat(make_message("user", "one"), make_message("assistant", "two"))
    del chat["mapping"]["m2"]["parent"]

    assert message_of(import_alone(IMPORTER, chat), "m2").parent == "m1"


def test_parents_are_trusted_where_children_are_stale():
    chat = make_chat(make_message("user", "one"), make_message("assistant", "two"))
    chat["mapping"]["root"]["children"] = ["m2", "m1", 5, None]
    chat["mapping"]["m1"]["children"] = []

    conversation = import_alone(IMPORTER, chat)

    assert [(message.key, message.parent) for message in conversation.messages] == [("m1", None), ("m2", "m1")]


def test_a_node_whose_id_is_not_its_key_is_found_by_both():
    chat = make_chat(make_message("user", "one"), make_message("assistant", "two"), current_node="id-2")
    chat["mapping"]["m1"]["id"], chat["mapping"]["m2"]["id"] = "id-1", "id-2"
    chat["mapping"]["m2"]["parent"] = "id-1"

    conversation = import_alone(IMPORTER, chat)

    assert message_of(conversation, "m2").parent == "m1"
    assert conversation.active_leaf == "m2"


def test_circles_dangling_parents_and_several_roots_keep_every_node():
    chat = make_chat(*(make_message("user", str(number)) for number in range(4)))
    chat["mapping"]["m1"]["parent"], chat["mapping"]["m3"]["parent"] = "m2", "nowhere"
    chat["mapping"]["m4"]["parent"] = None

    conversation = import_alone(IMPORTER, chat)

    assert sorted(message.key for message in conversation.messages) == ["m1", "m2", "m3", "m4"]
    assert conversation.warnings == {"circle": 1, "missing_parent": 1}


def test_a_chain_of_20000_messages_is_read():
    chat = make_chat(*(make_message("user", "x") for _ in range(20_000)))

    conversation = import_alone(IMPORTER, chat)

    assert sum(message.is_active for message in conversation.messages) == 20_000


def test_no_message_is_lost():
    chat = make_chat(*(make_message(role, "x") for role in ("system", "user", "assistant", "tool", "new")))

    conversation = import_alone(IMPORTER, chat)

    assert len(conversation.messages) == sum(node["message"] is not None for node in chat["mapping"].values())
    assert len([block for kind in ("text", "tool_result") for block in list_blocks(conversation, kind)]) == 5


def test_an_author_that_is_a_word_is_a_role():
    message = read_message("user", "hi", author="assistant")

    assert (message.role, message.extra) == (Role.ASSISTANT, {})


def test_fields_of_a_message_with_another_kind_of_value_are_kept_as_they_were():
    message = read_message("user", "hi", id=77, metadata=["x"], end_turn="yes", author=[1])

    assert message.extra == {"id": 77, "metadata": ["x"], "end_turn": "yes", "author": [1]}
