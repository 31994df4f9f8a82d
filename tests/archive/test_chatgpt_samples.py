"""The samples import with the counts that their README states."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.archive.conversations import AttachmentStatus, Conversation, Kind, Role
from pipeline.archive.importers.chatgpt import ChatGptImporter
from pipeline.archive.importers.chatgpt_tasks import ChatGptTasksImporter
from pipeline.archive.importers.interface import Skip
from pipeline.archive.reading import peek
from tests.archive.chatgpt_chats import list_blocks
from tests.archive.members import SAMPLES, make_member, read_zip, split_all

FOLDER = SAMPLES / "chatgpt"
IMPORTERS = (ChatGptImporter(), ChatGptTasksImporter())

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the samples of chats are not beside the repository")


def import_sample(name: str) -> tuple[dict[str, Conversation], list[Skip]]:
    """Return the conversations of a sample by title, and its skips. Each file goes to the importer that knows it."""
    path = FOLDER / name
    members = read_zip(path) if path.suffix == ".zip" else [make_member(name, path.read_bytes())]
    conversations: list[Conversation] = []
    skips: list[Skip] = []
    for member in members:
        for importer in IMPORTERS:
            recognition = importer.recognise(peek(member))
            if recognition and not recognition.is_artifact:
                records, skipped = split_all(importer, member, members)
                conversations += [importer.parse(record).conversation for record in records]
                skips += skipped
    return {str(conversation.title): conversation for conversation in conversations}, skips


def count_roles(conversation: Conversation) -> Counter[str]:
    """Return how many messages of each role are on the active path."""
    return Counter(str(message.role) for message in conversation.messages if message.is_active)


def count_active(conversation: Conversation) -> int:
    return sum(message.is_active for message in conversation.messages)


def count_leaves(conversation: Conversation) -> int:
    return len(
        {message.key for message in conversation.messages} - {message.parent for message in conversation.messages}
    )


def count_statuses(conversation: Conversation) -> Counter[str]:
    blocks = list_blocks(conversation, Kind.ATTACHMENT)
    return Counter(str(block.attachment.status) for block in blocks if block.attachment)


def test_the_classic_zip():
    conversations, skips = import_sample("composed_classic.zip")

    assert skips == []
    assert list(conversations) == [
        "Harbour photo: which port?",
        "Packing list",
        "Voice chat",
        "None",
        'Logo / "draft": v1',
    ]
    assert {conversation.account for conversation in conversations.values()} == {"user-demo"}


def test_the_harbour_photo():
    harbour = import_sample("composed_classic.zip")[0]["Harbour photo: which port?"]

    assert (len(harbour.messages), count_active(harbour), count_leaves(harbour)) == (11, 10, 2)
    assert count_roles(harbour) == {"system": 1, "user": 3, "assistant": 5, "tool": 1}
    assert count_statuses(harbour) == {"present": 1, "missing": 1}
    thoughts = list_blocks(harbour, Kind.THINKING)
    assert [block.text for block in thoughts] == ["Three blue cranes.", "Could be Lisbon.", "Thought for 6s"]
    assert [block.flags for block in thoughts] == [[], [], ["recap"]]
    (call,), (result,) = list_blocks(harbour, Kind.TOOL_USE), list_blocks(harbour, Kind.TOOL_RESULT)
    assert (call.tool_name, call.input, call.call_id) == ("python", "print(38.7, -9.1)", result.call_id)
    assert [block.text for block in list_blocks(harbour, Kind.CONTEXT)] == ["I sail a small boat.", "Answer briefly."]
    (citation,) = list_blocks(harbour, Kind.CITATION)
    assert (citation.extra["url"], citation.extra["tokens"]) == ("https://example.org/lisbon", ["cite", "turn0search2"])
    last = next(message for message in harbour.messages if message.key == harbour.active_leaf)
    assert (last.status, last.blocks[0].flags) == ("interrupted", ["interrupted"])


def test_the_upload_is_not_the_file_whose_name_only_begins_like_it():
    harbour = import_sample("composed_classic.zip")[0]["Harbour photo: which port?"]

    upload = next(block.attachment for block in list_blocks(harbour, Kind.ATTACHMENT) if block.attachment)

    assert (upload.name, upload.extra["member"]) == ("port view.png", "file-Hb7Photo-port view.png")
    assert (upload.size_bytes, upload.width, upload.height) == (107, 4, 3)


def test_the_canvas_has_two_versions_and_the_final_text():
    packing = import_sample("composed_classic.zip")[0]["Packing list"]

    versions = [block.attachment for block in list_blocks(packing, Kind.ATTACHMENT) if block.attachment]

    assert len(packing.messages) == 7
    assert [version.extra["version"] for version in versions] == [1, 2]
    assert [attachment.extra["version"] for attachment in packing.attachments] == ["final"]
    assert packing.attachments[0].blake3 == versions[1].blake3 != versions[0].blake3


def test_the_voice_chat_has_its_words_and_lacks_its_sound():
    voice = import_sample("composed_classic.zip")[0]["Voice chat"]

    assert [block.text for block in list_blocks(voice, Kind.TEXT)] == ["What is the tide today?", "High water at noon."]
    assert count_statuses(voice) == {"missing": 2}
    assert voice.created == "2026-01-01T09:33:20Z"  # it is a text in the file


def test_an_empty_chat_is_kept():
    empty = import_sample("composed_classic.zip")[0]["None"]

    assert [message.hidden for message in empty.messages] == ["empty system seed"]


def test_the_logo_is_found_among_the_generated_images():
    logo = import_sample("composed_classic.zip")[0]['Logo / "draft": v1']

    assert len(logo.messages) == 4
    assert logo.project_id == "g-p-boat"
    assert count_statuses(logo) == {"present": 1}


def test_the_sharded_zip():
    conversations, skips = import_sample("composed_sharded.zip")
    harbour = conversations["Harbour photo: which port?"]

    assert skips == []
    assert list(conversations) == ["Harbour photo: which port?", "None", "Voice chat", 'Logo / "draft": v1', "Knots"]
    assert (len(harbour.messages), count_active(harbour), count_leaves(harbour)) == (15, 12, 3)
    assert count_roles(harbour) == {"system": 1, "user": 3, "assistant": 6, "tool": 2}
    assert count_statuses(harbour) == {"present": 2, "missing": 1}
    assert count_statuses(conversations['Logo / "draft": v1']) == {"missing": 1}
    assert len(conversations["Knots"].messages) == 2


def test_what_a_later_export_holds_unchanged_gives_the_same_record():
    importer = IMPORTERS[0]
    classic, sharded = (read_zip(FOLDER / name) for name in ("composed_classic.zip", "composed_sharded.zip"))

    def voice_of(members, name):
        file = next(member for member in members if member.name == name)
        return next(each for each in split_all(importer, file, members)[0] if each.value["title"] == "Voice chat")

    before, after = voice_of(classic, "conversations.json"), voice_of(sharded, "conversations-001.json")

    assert (before.value, before.context) == (after.value, after.context)


def test_the_dat_zip():
    conversations, skips = import_sample("composed_dat.zip")
    depth, task = conversations["Depth table"], conversations["Fix the build"]

    assert skips == []
    assert len(depth.messages) == 4
    upload, made = (block.attachment for block in list_blocks(depth, Kind.ATTACHMENT))
    assert (upload.name, upload.extra["member"], upload.status) == ("ports.csv", "file-CsvIn.dat", "present")
    assert (made.name, made.size_bytes, made.status) == ("feet.csv", 24, AttachmentStatus.PRESENT)
    assert [message.role for message in task.messages] == [Role.USER, Role.ASSISTANT]
    assert {message.created for message in task.messages} == {None}


def test_a_mapping_without_children_and_current_node():
    conversations, _ = import_sample("composed_children_missing.json")
    (chat,) = conversations.values()

    active = [message for message in chat.messages if message.is_active]

    assert len(chat.messages) == 4
    assert chat.is_leaf_guessed
    assert [block.text for message in active for block in message.blocks] == ["first", "second"]
    assert len(active) == 3
    assert chat.warnings == {"missing_parent": 1}


def test_the_minimal_sample():
    (chat,) = import_sample("polylogue_minimal.json")[0].values()

    assert [(message.key, message.role, message.parent) for message in chat.messages] == [
        ("matrix-node", Role.USER, None)
    ]


def test_the_sample_of_rich_blocks():
    (chat,) = import_sample("polylogue_native-rich-blocks-v1.json")[0].values()

    assert (len(chat.messages), count_active(chat)) == (6, 6)
    assert count_roles(chat) == {"user": 1, "assistant": 4, "tool": 1}
    assert [block.input for block in list_blocks(chat, Kind.TOOL_USE)] == ["6 * 7", {"search_query": "synthetic"}]
    assert [block.text for block in list_blocks(chat, Kind.TOOL_RESULT)] == ["42"]
    assert len(list_blocks(chat, Kind.THINKING)) == 1
    ids = [block.attachment.id for block in list_blocks(chat, Kind.ATTACHMENT) if block.attachment]
    assert ids == ["file-AUDIO", "file-TRANSCRIPTION", "sandbox:/mnt/data/a.md"]
    assert count_statuses(chat) == {"missing": 3}
    assert chat.created is None


def test_the_sample_of_empty_messages():
    (chat,) = import_sample("polylogue_native-empty-messages-v1.json")[0].values()

    assert (len(chat.messages), count_active(chat), count_leaves(chat)) == (4, 3, 2)
    assert [message.role for message in chat.messages if message.is_active] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert all(message.native_id and message.native_id != message.key for message in chat.messages)


def test_the_sample_of_random_texts_is_kept_raw():
    (chat,) = import_sample("polylogue_schema_random.json")[0].values()

    assert (len(chat.messages), count_active(chat)) == (3, 2)
    assert all(block.raw for message in chat.messages for block in message.blocks)
    assert chat.warnings == {"unknown_type": 3}
    assert chat.title_source == "first_prompt"
    assert chat.extra["id"] != chat.native_id
