"""Attachments of ChatGPT: each file of a message once, and its bytes where the export has them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from pipeline.archive.conversations import Attachment, Block, Kind
from pipeline.archive.importers.chatgpt_attachments import find_sandbox_paths, key_of
from tests.archive.chatgpt_chats import (
    IMPORTER,
    list_blocks,
    make_chat,
    make_message,
    make_text,
    read_blocks_of,
    read_chat,
)
from tests.archive.members import make_member, parse_all, split_all

PNG = b"\x89PNG\r\n\x1a\n rest"


def attachments_of(blocks: list[Block]) -> list[Attachment]:
    return [block.attachment for block in blocks if block.attachment]


def import_with(files: dict[str, Any], *messages: dict[str, Any]) -> list[Attachment]:
    """Return the attachments of a conversation that stands in an export beside files."""
    file = make_member("conversations.json", [make_chat(*messages)])
    members = [file, *(make_member(name, content) for name, content in files.items())]
    (parsed,) = parse_all(IMPORTER, file, members)
    return attachments_of(list_blocks(parsed.conversation, Kind.ATTACHMENT))


def point_at(asked: str, **fields: Any) -> dict[str, Any]:
    part = {"content_type": "image_asset_pointer", "asset_pointer": asked, **fields}
    return make_message("user", {"content_type": "multimodal_text", "parts": [part]})


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("file-service://file-AbC", "file-AbC"),
        ("sediment://file_00ff", "file_00ff"),
        ("sediment://file_00ff#page=2", "file_00ff"),
        ("file-AbC.dat", "file-AbC"),
    ],
)
def test_an_id_stands_without_scheme_page_and_ending(asked, key):
    assert key_of(asked) == key


def test_an_upload_that_two_places_name_is_one_attachment():
    blocks = read_blocks_of(
        "user",
        {
            "content_type": "multimodal_text",
            "parts": [
                {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-A", "size_bytes": 5},
                "What is this?",
            ],
        },
        metadata={"attachments": [{"id": "file-A", "name": "port.png", "mime_type": "image/png", "fileTokenSize": 3}]},
    )

    assert [block.kind for block in blocks] == [Kind.ATTACHMENT, Kind.TEXT]
    (attachment,) = attachments_of(blocks)
    assert (attachment.id, attachment.name, attachment.size_bytes) == ("file-A", "port.png", 5)
    assert (attachment.mime_type, attachment.purpose) == ("image/png", "upload")
    assert attachment.extra == {"fileTokenSize": 3}


FULL = {"asset_pointer": "file-A", "size_bytes": 5, "width": 4, "height": 3, "format": "wav"}


@pytest.mark.parametrize("name_field", ["file_name", "name"])
@pytest.mark.parametrize("is_full_first", [True, False])
def test_a_file_that_is_pointed_at_twice_has_what_either_says(name_field, is_full_first):
    full, bare = {**FULL, "metadata": {name_field: "a.wav"}}, {"asset_pointer": "file-A"}
    parts = [{"content_type": "audio_asset_pointer", **part} for part in (full, bare)]

    blocks = read_blocks_of(
        "user", {"content_type": "multimodal_text", "parts": parts if is_full_first else parts[::-1]}
    )

    (attachment,) = attachments_of(blocks)
    assert (attachment.size_bytes, attachment.width, attachment.height) == (5, 4, 3)
    assert (attachment.name, attachment.mime_type) == ("a.wav", "audio/wav")


def test_an_entry_that_says_less_than_a_pointer_takes_nothing_away_and_one_that_says_more_wins():
    part = {"content_type": "audio_asset_pointer", **FULL, "metadata": {"name": "a.wav"}}
    entries = [{"id": "file-A"}], [{"id": "file-A", "name": "real.bin", "mime_type": "x/y", "width": 9, "height": 9}]

    less, more = (
        attachments_of(
            read_blocks_of(
                "user", {"content_type": "multimodal_text", "parts": [part]}, metadata={"attachments": entry}
            )
        )[0]
        for entry in entries
    )

    assert (less.name, less.mime_type, less.width, less.height) == ("a.wav", "audio/wav", 4, 3)
    assert (more.name, more.mime_type, more.width, more.height) == ("real.bin", "x/y", 4, 3)


def test_an_entry_alone_has_a_size_in_pixels_too():
    entry = {"id": "file-A", "width": 9, "height": 8}

    (attachment,) = attachments_of(read_blocks_of("user", "see", metadata={"attachments": [entry]}))

    assert (attachment.width, attachment.height) == (9, 8)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"name": "a.txt"}, (None, "a.txt")),
        ({"id": "file-A"}, ("file-A", None)),
        ({"file_id": "file-A", "name": "a.txt"}, ("file-A", "a.txt")),
        ({"size": 3}, (None, None)),
    ],
)
def test_any_field_of_an_entry_may_be_absent(entry, found):
    (attachment,) = attachments_of(read_blocks_of("user", "see", metadata={"attachments": [entry]}))

    assert (attachment.id, attachment.name) == found
    assert (attachment.status, attachment.reason) == ("missing", "not_in_export")


def test_pictures_of_code_that_ran_are_attachments():
    metadata = {
        "aggregate_result": {
            "status": "success",
            "messages": [
                {"message_type": "image", "image_url": "file-service://file-Plot"},
                {"message_type": "stream", "text": "x"},
            ],
        }
    }

    blocks = read_blocks_of("tool", {"content_type": "execution_output", "text": "done"}, metadata=metadata)

    assert [attachment.id for attachment in attachments_of(blocks)] == ["file-Plot"]


@pytest.mark.parametrize(
    "message",
    [
        make_message(
            "tool",
            {"content_type": "execution_output", "text": ""},
            metadata={"aggregate_result": {"messages": [{"image_url": "file-service://file-A"}]}},
        ),
        make_message("tool", {"content_type": "computer_output", "screenshot": {"asset_pointer": "file-A"}}),
        make_message("tool", {"content_type": "tether_browsing_display", "assets": ["file-A"]}),
        make_message("user", {"content_type": "new", "parts": [{"asset_pointer": "file-A"}]}),
        make_message("user", make_text({"asset_pointer": "file-A"})),
        make_message("user", "see", metadata={"attachments": [{"id": "file-A"}]}),
    ],
)
def test_bytes_are_found_wherever_a_message_asks_for_them(message):
    (attachment,) = import_with({"file-A.png": PNG}, message)

    assert attachment.status == "present"


def test_an_address_on_the_network_is_external_and_never_fetched():
    (attachment,) = import_with({}, point_at("https://example.org/a.png"))

    assert (attachment.status, attachment.url, attachment.purpose) == ("external", "https://example.org/a.png", "link")


def test_bytes_in_the_place_of_an_address_go_into_extras():
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    file = make_member("conversations.json", [make_chat(point_at(url))])

    (parsed,) = parse_all(IMPORTER, file)

    (attachment,) = attachments_of(list_blocks(parsed.conversation, Kind.ATTACHMENT))
    assert (attachment.status, attachment.id) == ("present", None)
    assert parsed.extras[attachment.extra_file] == PNG


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("Files sandbox:/mnt/data/a.md. and sandbox:/mnt/data/a.md,", ["/mnt/data/a.md"]),
        ("[map](sandbox:/mnt/data/map.png).", ["/mnt/data/map.png"]),
        ("[x](sandbox:/mnt/data/my%20file.csv)", ["/mnt/data/my file.csv"]),
        ("[x](sandbox:/mnt/data/my file.csv)", ["/mnt/data/my file.csv"]),
        ("[x](sandbox:/mnt/data/report(1).csv)", ["/mnt/data/report(1).csv"]),
        ("`sandbox:/mnt/data/a.py`!", ["/mnt/data/a.py"]),
        ("sandbox:/mnt/data/ and sandbox:", []),
    ],
)
def test_files_in_the_sandbox_are_found_once_and_without_punctuation(text, paths):
    assert find_sandbox_paths(text) == paths


def test_a_file_in_the_sandbox_that_is_not_in_the_export_is_missing():
    (attachment,) = import_with({"other.bin": b"x"}, make_message("assistant", "See sandbox:/mnt/data/a.csv."))

    assert (attachment.id, attachment.name) == ("sandbox:/mnt/data/a.csv", "a.csv")
    assert (attachment.status, attachment.purpose, attachment.export) == ("missing", "generated", None)


@pytest.mark.parametrize(
    "name",
    [
        "file-A1",
        "file-A1.dat",
        "file-A1-port view.png",
        "file-A1_small.png",
        "file-A1.png",
        "dalle-generations/file-A1-9f.webp",
        "user-x/file-A1-9f.png",
        "elsewhere/file-A1-9f.png",
    ],
)
def test_bytes_are_found_under_each_kind_of_name(name):
    (attachment,) = import_with({name: PNG, "file-A12-other.png": b"other"}, point_at("file-service://file-A1"))

    assert (attachment.status, attachment.size_bytes, attachment.extra) == ("present", len(PNG), {"member": name})
    assert attachment.export == make_member(name, PNG).export
    assert attachment.blake3 == make_member(name, PNG).blake3


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("file-A1-port view.png", "port view.png"),
        ("file-A1.png", "file-A1.png"),
        ("file-A1", "file-A1"),
        ("file-A1.dat", None),
    ],
)
def test_a_file_whose_name_nobody_states_has_the_rest_of_its_members_name(name, shown):
    (attachment,) = import_with({name: PNG}, point_at("file-service://file-A1"))

    assert attachment.name == shown


def test_the_beginning_of_a_name_alone_is_not_enough():
    (attachment,) = import_with({"file-A12-other.png": b"other", "file-A1x": b"x"}, point_at("file-service://file-A1"))

    assert attachment.status == "missing"


def test_the_root_comes_before_generated_images_and_these_before_a_users_folder():
    files = {"user-x/file-A-1.png": b"user", "dalle-generations/file-A-1.webp": b"dalle", "file-A-1.png": b"root"}

    found = []
    while files:
        found += [attachment.extra["member"] for attachment in import_with(files, point_at("file-service://file-A"))]
        del files[found[-1]]

    assert found == ["file-A-1.png", "dalle-generations/file-A-1.webp", "user-x/file-A-1.png"]


def test_of_two_files_with_one_name_the_later_counts():
    file = make_member("conversations.json", [make_chat(point_at("file-service://file-A"))])
    members = [file, make_member("file-A.dat", b"first"), make_member("file-A.dat", b"second")]

    (parsed,) = parse_all(IMPORTER, file, members)

    (attachment,) = attachments_of(list_blocks(parsed.conversation, Kind.ATTACHMENT))
    assert attachment.size_bytes == len(b"second")


@pytest.mark.parametrize(("size", "status"), [(5, "present"), (6, "missing")])
def test_a_file_of_the_same_name_is_taken_only_with_the_same_size(size, status):
    message = make_message(
        "user", "see", metadata={"attachments": [{"id": "file-Z", "name": "notes.txt", "size": size}]}
    )

    (attachment,) = import_with({"files/notes.txt": b"hello"}, message)

    assert attachment.status == status


def test_a_file_of_another_size_than_stated_is_in_conflict_and_kept():
    (attachment,) = import_with({"file-A.png": PNG}, point_at("file-service://file-A", size_bytes=3))

    assert (attachment.status, attachment.reason) == ("conflict", "size_differs")
    assert (attachment.size_bytes, attachment.extra["stated_size_bytes"]) == (len(PNG), 3)
    assert attachment.export is not None


def test_either_of_two_stated_sizes_will_do():
    message = point_at("file-service://file-A", size_bytes=3)
    message["metadata"] = {"attachments": [{"id": "file-A", "name": "a.png", "size": len(PNG)}]}

    (attachment,) = import_with({"file-A-a.png": PNG}, message)

    assert attachment.status == "present"


def list_file(content: bytes, **fields: Any) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"file_id": "file-L", "file_name": "feet.csv", "sha256_digest": digest, **fields}


def test_names_come_from_the_library_then_the_flat_map_then_the_message():
    message = make_message("user", "see", metadata={"attachments": [{"id": "file-L", "name": "of the message.csv"}]})
    files = {"file-L.dat": b"x", "names.json": {"file-L.dat": "of the map.csv"}, "library.json": [list_file(b"x")]}

    names = []
    for gone in ("library.json", "names.json", None):
        names += [attachment.name for attachment in import_with(files, message)]
        files.pop(gone, None)

    assert names == ["feet.csv", "of the map.csv", "of the message.csv"]


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (PNG, "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"%PDF-1.7", "application/pdf"),
        (b"nothing known", None),
    ],
)
def test_a_dat_file_without_a_name_gets_its_type_from_its_first_bytes(beginning, kind):
    message = make_message("user", "see", metadata={"attachments": [{"id": "file-L"}]})

    (attachment,) = import_with({"file-L.dat": beginning}, message)

    assert attachment.mime_type == kind


def test_a_digest_that_does_not_match_is_a_conflict_and_the_bytes_are_kept():
    message = make_message("user", "see", metadata={"attachments": [{"id": "file-L"}]})

    (matching,) = import_with({"file-L.dat": b"x", "l.json": [list_file(b"x", file_size_bytes=9)]}, message)
    (other,) = import_with({"file-L.dat": b"x", "l.json": [list_file(b"y")]}, message)

    assert (matching.status, matching.reason) == ("present", None)
    assert (other.status, other.reason, other.size_bytes) == ("conflict", "sha256_differs", 1)
    assert other.export is not None


LINK = make_message("assistant", "Done: sandbox:/mnt/data/feet.csv.")


@pytest.mark.parametrize(
    ("entries", "status", "is_guess"),
    [
        ([list_file(b"x", origination_message_id="m1")], "present", False),
        ([list_file(b"x", origination_message_id="m1", file_name="renamed.csv")], "present", False),
        ([list_file(b"x", origination_thread_id="chat-1")], "present", False),
        ([list_file(b"x")], "present", True),
        ([list_file(b"x"), list_file(b"x", file_id="file-M")], "missing", False),
        (
            [list_file(b"x", origination_message_id="m1"), list_file(b"x", origination_message_id="m1")],
            "missing",
            False,
        ),
        ([list_file(b"x", file_name="other.csv")], "missing", False),
    ],
)
def test_files_in_the_sandbox_are_joined_to_the_library(entries, status, is_guess):
    (attachment,) = import_with({"file-L.dat": b"x", "library_files.json": entries}, LINK)

    assert attachment.status == status
    assert attachment.extra.get("is_guess", False) is is_guess


def test_a_file_that_is_joined_by_its_name_is_no_other_link_of_the_message():
    message = make_message("assistant", "sandbox:/mnt/data/feet.csv and sandbox:/mnt/data/inches.csv")
    library = [list_file(b"x", origination_message_id="m1")]

    feet, inches = import_with({"file-L.dat": b"x", "library_files.json": library}, message)

    assert (feet.status, inches.status) == ("present", "missing")


def test_a_file_in_the_sandbox_is_that_of_its_message():
    library = [
        list_file(f"of m{number}".encode(), file_id=f"file-{number}", origination_message_id=f"m{number}")
        for number in (1, 2)
    ]
    files = {"file-1.dat": b"of m1", "file-2.dat": b"of m2", "library_files.json": library}

    first, second = import_with(files, LINK, LINK)

    assert [first.extra["member"], second.extra["member"]] == ["file-1.dat", "file-2.dat"]


def test_what_the_library_knows_of_a_file_without_bytes_is_kept():
    message = make_message("user", "see", metadata={"attachments": [{"id": "file-L"}]})

    (attachment,) = import_with({"l.json": [list_file(b"x", file_size_bytes=7, mime_type="text/csv")]}, message)

    assert (attachment.status, attachment.reason) == ("missing", "not_in_export")
    assert (attachment.name, attachment.size_bytes, attachment.mime_type) == ("feet.csv", 7, "text/csv")


def test_a_record_names_the_exports_that_it_used():
    file = make_member("conversations.json", [make_chat(point_at("file-service://file-A"))])
    user, used, unused = (
        make_member("user.json", {"id": "user-1", "email": "x"}),
        make_member("file-A.png", PNG),
        make_member("file-B.png", b"x"),
    )

    ((record,), _) = split_all(IMPORTER, file, [file, user, used, unused])

    assert record.sources == sorted([user.export, used.export])


def test_an_id_means_a_file_in_whatever_part_of_an_import_and_a_name_only_in_its_own():
    entry = {"id": "file-Z", "name": "notes.txt", "size": 5}
    named = make_message("user", "see", metadata={"attachments": [entry]})
    file = make_member("one/conversations.json", [make_chat(point_at("file-service://file-A"), named)])
    members = [file, make_member("two/file-A.png", PNG), make_member("two/notes.txt", b"hello")]

    (parsed,) = parse_all(IMPORTER, file, members)

    found = attachments_of(list_blocks(parsed.conversation, Kind.ATTACHMENT))
    assert [attachment.status for attachment in found] == ["present", "missing"]


def test_side_files_of_another_folder_say_nothing():
    file = make_member("one/conversations.json", [make_chat()])
    user = make_member("two/user.json", {"id": "user-1", "email": "x"})

    (parsed,) = parse_all(IMPORTER, file, [file, make_member("one/chat.html", b"x"), user])

    assert parsed.conversation.account is None


def test_a_text_that_names_no_file_asks_for_none():
    assert import_with({"m1.png": PNG}, make_message("assistant", make_text("plain"))) == []


def test_one_file_with_two_stated_sizes_is_in_conflict_only_where_the_size_differs():
    right, wrong, silent = import_with(
        {"file-A.png": PNG},
        point_at("file-service://file-A", size_bytes=len(PNG)),
        point_at("file-service://file-A", size_bytes=3),
        point_at("file-service://file-A"),
    )

    assert [attachment.status for attachment in (right, wrong, silent)] == ["present", "conflict", "present"]
    assert ["stated_size_bytes" in attachment.extra for attachment in (right, wrong, silent)] == [False, True, False]


def test_an_entry_that_is_a_word_is_an_id_and_one_that_is_nothing_known_is_kept():
    blocks = read_blocks_of("user", "see", metadata={"attachments": ["file-A", None, 5]})

    assert [attachment.id for attachment in attachments_of(blocks)] == ["file-A"]
    assert [block.raw for block in blocks if "unknown_type" in block.flags] == [5]


def test_attachments_that_are_no_list_stay_in_the_metadata():
    (message,) = read_chat(make_message("user", "see", metadata={"attachments": {"id": "file-A"}})).messages

    assert message.extra == {"metadata": {"attachments": {"id": "file-A"}}}
