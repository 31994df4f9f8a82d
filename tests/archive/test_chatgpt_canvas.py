"""Canvas documents: their versions are made again from the calls that wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.archive.conversations import Kind
from pipeline.archive.importers.chatgpt_canvas import find_spans
from pipeline.archive.importers.interface import Parsed
from tests.archive.chatgpt_chats import IMPORTER, list_blocks, make_chat, make_message, make_node
from tests.archive.members import make_member, parse_all


def create(content: str, kind: str = "document") -> dict[str, Any]:
    call = json.dumps({"name": "List", "type": kind, "content": content})
    return make_message("assistant", {"content_type": "code", "text": call}, recipient="canmore.create_textdoc")


def update(*updates: tuple[str, str], multiple: bool = False) -> dict[str, Any]:
    listed = [{"pattern": pattern, "multiple": multiple, "replacement": text} for pattern, text in updates]
    return make_message("assistant", json.dumps({"updates": listed}), recipient="canmore.update_textdoc")


def answer(canvas_id: str = "doc-1", **facts: Any) -> dict[str, Any]:
    return make_message("tool", "Done", metadata={"canvas": {"textdoc_id": canvas_id, **facts}})


def read_versions(parsed: Parsed) -> list[tuple[str | None, Any, str]]:
    """Return document, version and text of each version, in order."""
    attachments = [block.attachment for block in list_blocks(parsed.conversation, Kind.ATTACHMENT)]
    return [
        (each.id, each.extra["version"], parsed.extras[each.extra_file].decode())
        for each in attachments
        if each and each.extra_file
    ]


def import_chat(chat: dict[str, Any]) -> Parsed:
    (parsed,) = parse_all(IMPORTER, make_member("file", chat))
    return parsed


def test_each_call_makes_a_version():
    parsed = import_chat(
        make_chat(
            create("- knife\n- rope\n"),
            answer(version=1),
            update((r"- rope\n", "- rope\n- lamp\n")),
            answer(version=2, title="Packing"),
            update((".*", "empty")),
            answer(version=5),
        )
    )

    assert read_versions(parsed) == [
        ("doc-1", 1, "- knife\n- rope\n"),
        ("doc-1", 2, "- knife\n- rope\n- lamp\n"),
        ("doc-1", 5, "empty"),
    ]
    names = [block.attachment.name for block in list_blocks(parsed.conversation, Kind.ATTACHMENT) if block.attachment]
    assert names == ["List.md", "Packing.md", "Packing.md"]


def test_calls_without_answers_count_on_from_the_document_touched_last():
    parsed = import_chat(make_chat(create("a"), update(("a", "b")), update(("b", "c"))))

    assert read_versions(parsed) == [("m1", 1, "a"), ("m1", 2, "b"), ("m1", 3, "c")]


def test_a_branch_goes_on_from_its_own_version():
    chat = make_chat(create("a"), update(("a", "b")))
    chat["mapping"]["m3"] = make_node("m3", "m1", update(("a", "other")))

    assert sorted(text for _, _, text in read_versions(import_chat(chat))) == ["a", "b", "other"]


def test_two_documents_are_told_apart_by_what_the_answers_say():
    parsed = import_chat(
        make_chat(
            create("one"), answer("d1"), create("two", "code/python"), answer("d2"), update(("one", "1")), answer("d1")
        )
    )

    assert [(canvas, text) for canvas, _, text in read_versions(parsed)] == [("d1", "one"), ("d2", "two"), ("d1", "1")]
    assert [name.rpartition(".")[2] for name in parsed.extras] == ["md", "py", "md"]


def test_an_update_without_an_answer_is_of_the_document_touched_last():
    parsed = import_chat(
        make_chat(
            create("a"), answer("d1"), create("b"), answer("d2"), update(("a", "c")), answer("d1"), update(("c", "d"))
        )
    )

    assert read_versions(parsed)[-1] == ("d1", 3, "d")


@pytest.mark.parametrize(
    "call",
    [
        update(("not there", "x")),
        update(("a|b", "x")),
        update(),
        make_message("assistant", '{"updates": [{"pattern": 1}]}', recipient="canmore.update_textdoc"),
    ],
)
def test_an_update_that_cannot_be_applied_stays_a_call_and_is_reported(call):
    parsed = import_chat(make_chat(create("a text"), call))

    assert len(read_versions(parsed)) == 1
    assert len(list_blocks(parsed.conversation, Kind.TOOL_USE)) == 2
    assert parsed.conversation.warnings == {"canvas_update_not_applied": 1}


def test_comments_are_calls_only():
    parsed = import_chat(
        make_chat(create("a"), make_message("assistant", '{"comments": []}', recipient="canmore.comment_textdoc"))
    )

    assert len(read_versions(parsed)) == 1
    assert parsed.conversation.warnings == {}


@pytest.mark.parametrize(
    ("pattern", "content", "spans"),
    [
        (".*", "two\nlines", [(0, 9)]),
        (r"[\s\S]*", "two\nlines", [(0, 9)]),
        (".*", "", [(0, 0)]),
        ("lines", "two\nlines", [(4, 9)]),
        (r"a\.b\(c\)", "x a.b(c)", [(2, 8)]),
        (r"b.*?d", "ab cd d", [(1, 5)]),
        (r"b.*d", "ab cd d", [(1, 7)]),
        (r"## One[\s\S]*?## Two", "## One\ntext\n## Two\n", [(0, 18)]),
        ("x+", "a x+ b", [(2, 4)]),
        ("none", "text", []),
        ("", "text", []),
    ],
)
def test_where_a_pattern_is(pattern, content, spans):
    assert list(find_spans(pattern, content, is_multiple=False)) == spans


def test_a_pattern_may_be_in_several_places():
    assert list(find_spans("a", "banana", is_multiple=True)) == [(1, 2), (3, 4), (5, 6)]


def test_no_pattern_takes_long_or_makes_much_of_little():
    content = "a" * 200_000  # as regular expressions these patterns would take years, and this test would not end
    hostile = [("(a+)+$", "x"), ("(a|aa)+b", "x"), ("a.*a.*a.*a.*b", "x"), ("a*a*a*a*a*b", "x")]

    many = import_chat(make_chat(create(content), *(update(each, multiple=True) for each in hostile)))
    large = import_chat(make_chat(create(content), update(("a", "b" * 100_000), multiple=True)))

    assert many.conversation.warnings == {"canvas_update_not_applied": 4}
    assert large.conversation.warnings == {"canvas_update_not_applied": 1}


def test_versions_beyond_what_a_conversation_may_hold_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr("pipeline.archive.importers.chatgpt_canvas.LARGEST_TOTAL", 10)

    parsed = import_chat(make_chat(create("12345678"), create("abcdefgh")))

    assert len(parsed.extras) == 1
    assert parsed.conversation.warnings == {"canvas_version_left_out": 1}


@pytest.mark.parametrize(
    ("fields", "name", "extra"),
    [
        ({}, "canvas.md", {"version": "final", "type": "document"}),
        ({"textdoc_type": "code/python", "title": "T"}, "T.py", {"version": "final", "type": "code/python"}),
        ({"textdoc_type": "code/new"}, "canvas.txt", {"version": "final", "type": "code/new"}),
    ],
)
def test_a_final_text_may_say_little_of_itself(fields, name, extra):
    file = make_member("conversations.json", [make_chat(create("a"), answer("doc-1"))])
    final = make_member("textdocs/doc-1.json", {"content": "text", **fields})

    (parsed,) = parse_all(IMPORTER, file, [file, final])

    (attachment,) = parsed.conversation.attachments
    assert (attachment.name, attachment.extra) == (name, extra)


def test_the_final_text_goes_to_the_conversation_whose_document_it_is():
    file = make_member("conversations.json", [make_chat(create("a"), answer("doc-1"))])
    document = {"id": "doc-1", "title": "List", "textdoc_type": "document", "version": 9, "content": "edited by hand"}
    final = make_member("textdocs/doc-1.json", document)
    other = make_member("textdocs/doc-2.json", {**document, "id": "doc-2"})

    (parsed,) = parse_all(IMPORTER, file, [file, final, other])

    (attachment,) = parsed.conversation.attachments
    assert (attachment.id, attachment.extra["version"], attachment.name) == ("doc-1", "final", "List.md")
    assert parsed.extras[attachment.extra_file] == b"edited by hand"
