"""Gemini Apps in Google Takeout: activities become conversations, in JSON and in HTML."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from pipeline.archive.conversations import AttachmentStatus, Conversation, Kind, Role
from pipeline.archive.importers.gemini_takeout import GeminiTakeoutImporter
from pipeline.archive.reading import peek
from tests.archive.members import SAMPLES, make_member, parse_all, read_zip, split_all

IMPORTER = GeminiTakeoutImporter()


def prompt(text: str, time: str, *answers: str, verb: str = "Prompted", **facts: Any) -> dict[str, Any]:
    item = {
        "header": "Gemini Apps",
        "title": f"{verb} {text}",
        "time": f"2026-02-03T{time}Z",
        "products": ["Gemini Apps"],
    }
    return {**item, **({"safeHtmlItem": [{"html": answer} for answer in answers]} if answers else {}), **facts}


def activity(title: str, time: str = "09:00:00") -> dict[str, Any]:
    return {"header": "Gemini Apps", "title": title, "time": f"2026-02-03T{time}Z"}


def import_items(*items: Any, importer: GeminiTakeoutImporter = IMPORTER) -> list[Conversation]:
    """Return the conversations of a file that has these items, the newest first."""
    return [parsed.conversation for parsed in parse_all(importer, make_member("MyActivity.json", list(items)))]


def texts_of(conversation: Conversation) -> list[str | None]:
    return [block.text for message in conversation.messages for block in message.blocks if block.kind == Kind.TEXT]


# The samples


@pytest.fixture
def samples():
    folder = SAMPLES / "gemini_takeout"
    if not folder.is_dir():
        pytest.skip("the samples are not beside this repository")
    return folder


def test_the_sample_has_all_that_its_readme_counts(samples):
    members = read_zip(samples / "composed_takeout.zip")
    (file,) = (member for member in members if IMPORTER.recognise(peek(member)))
    records, skips = split_all(IMPORTER, file, members)

    conversations = [IMPORTER.parse(record).conversation for record in records]
    messages = [message for conversation in conversations for message in conversation.messages]
    files = [block.attachment for message in messages for block in message.blocks if block.attachment]
    drafts = [message for message in messages if any("ambiguous" in block.flags for block in message.blocks)]
    assert len(conversations) == 2
    assert [message.role for message in messages].count(Role.USER) == 3
    assert [message.role for message in messages].count(Role.ASSISTANT) == 2
    assert [(skip.reason, skip.is_info) for skip in skips] == [("activity", True)]
    assert [[block.text for block in message.blocks] for message in drafts] == [["A ketch.", "A yawl."]]
    assert [(file.name, file.status) for file in files] == [("boat.png", AttachmentStatus.PRESENT)]
    assert files[0].blake3 == next(member.blake3 for member in members if member.name.endswith("boat-0a1b.png"))


def test_the_localised_sample_has_all_that_its_readme_counts(samples):
    file = make_member("composed_localised.json", (samples / "composed_localised.json").read_bytes())
    records, skips = split_all(IMPORTER, file)

    (conversation,) = (IMPORTER.parse(record).conversation for record in records)
    assert texts_of(conversation) == ["hvad er klokken?", "Kl. 11."]
    assert [skip.place for skip in skips] == ["composed_localised.json[1]"]


# Whose file it is


@pytest.mark.parametrize(
    "item",
    [
        {"header": "Gemini Apps", "title": "x"},
        {"header": "Other", "products": ["Gemini Apps"], "time": "x"},
        {"header": "Gemini-apps", "title": "x"},
        {"header": "Aplicaciones de Gemini", "title": "x"},
        {"header": "Geminiアプリ", "title": "x"},
    ],
)
def test_activities_are_recognised_by_their_product(item):
    assert IMPORTER.recognise(peek(make_member("any name", [item]))) is not None


@pytest.mark.parametrize(
    "item", [{"header": "Search", "title": "x", "time": "y"}, {"header": "Gemini Apps"}, "Gemini Apps"]
)
def test_activities_of_other_products_are_nobodys(item):
    assert IMPORTER.recognise(peek(make_member("MyActivity.json", [item]))) is None


def test_other_products_in_the_file_are_named():
    other = {"header": "Search", "title": "Searched for boats", "time": "2026-02-03T09:00:00Z"}
    file = make_member("MyActivity.json", [other, prompt("hi", "09:00:00", "<p>ho</p>"), 42])

    records, skips = split_all(IMPORTER, file)

    assert [record.place for record in records] == ["MyActivity.json[1]"]
    assert [(skip.reason, skip.place) for skip in skips] == [
        ("other_product", "MyActivity.json[0]"),
        ("not_an_object", "MyActivity.json[2]"),
    ]


# Prompts


def test_the_verb_is_the_word_that_most_answered_activities_begin_with():
    items = [
        activity("Brugte Canvas"),
        prompt("tre", "09:03:00", verb="Spurgte"),
        prompt("Spurgte", "09:02:00", "<p>b</p>", verb="Spurgte"),
        prompt("en\nto linjer", "09:01:00", "<p>a</p>", verb="Spurgte"),
        prompt("a canvas", "09:00:00", "<p>c</p>", verb="Oprettede"),
    ]
    (conversation,) = import_items(*items)

    assert texts_of(conversation) == ["Oprettede a canvas", "c", "en\nto linjer", "a", "Spurgte", "b", "tre"]


@pytest.mark.parametrize(
    ("verb", "titles", "first"),
    [
        ("Eingegebener Prompt:", ["Was ist das?"], "Was ist das?"),
        ("Eingegebener\xa0Prompt:", ["Eins: zwei"], "Eins: zwei"),
        ("Requête envoyée :", ["un", "deux", "trois"], "un"),
        ("Spurgte", ["en: to", "tre"], "en: to"),
        ("Spurgte", ["en: to"] * 2, "en: to"),
        ("Prompted", ["Note: x"] * 3, "Note: x"),
    ],
)
def test_a_verb_that_goes_on_to_a_colon_is_taken_off_as_a_whole(verb, titles, first):
    items = [prompt(title, f"09:0{9 - place}:00", "<p>x</p>", verb=verb) for place, title in enumerate(titles)]
    (conversation,) = import_items(*items[::-1])

    assert first in texts_of(conversation)


def test_a_verb_may_end_with_a_wide_colon_and_no_space():
    titles = [("提示：三", ()), ("提示：二", ("<p>b</p>",)), ("提示：一", ("<p>a</p>",))]
    items = [prompt("", f"09:0{2 - n}:00", *said, title=title) for n, (title, said) in enumerate(titles)]
    (conversation,) = import_items(activity("已提供反馈"), *items)

    assert texts_of(conversation) == ["一", "a", "二", "b", "三"]


def test_a_verb_before_a_hard_space_is_taken_off():
    (conversation,) = import_items(prompt("", "09:00:00", "<p>x</p>", title="Prompted\xa0hi"))

    assert texts_of(conversation)[0] == "hi"


def test_a_prompt_without_an_answer_is_one_message():
    (conversation,) = import_items(prompt("hi", "09:00:00"))

    assert [message.role for message in conversation.messages] == [Role.USER]


def test_every_activity_that_is_no_prompt_is_skipped_and_counted():
    titles = [
        "Created Gemini Canvas titled x",
        "Used Gemini",
        "Gave feedback: Good response",
        "Selected preferred draft",
    ]
    file = make_member("f", [*map(activity, titles), prompt("hi", "09:00:00", "<p>x</p>")])

    _, skips = split_all(IMPORTER, file)

    assert [(skip.reason, skip.place, skip.is_info) for skip in skips] == [
        ("activity", f"f[{place}]", True) for place in range(4)
    ]


def test_an_answer_is_markdown_and_its_html_is_kept():
    html = '<p>A <b>diesel</b> engine.</p><script>alert("x")</script><p onclick="x()">Old.</p>'
    (conversation,) = import_items(prompt("hi", "09:00:00", html))

    (block,) = conversation.messages[1].blocks
    assert block.text == "A **diesel** engine.\n\nOld."
    assert block.extra == {"html": html}
    assert conversation.messages[1].created is None


def test_several_answers_are_all_there_and_flagged():
    (conversation,) = import_items(prompt("hi", "09:00:00", "<p>a</p>", "<p>b</p>"))

    assert [(block.text, block.flags) for block in conversation.messages[1].blocks] == [
        ("a", ["ambiguous"]),
        ("b", ["ambiguous"]),
    ]


def test_a_gem_and_fields_that_are_not_read_are_kept():
    gem = [{"name": "Boat builder", "url": "https://gemini.google.com/gem/1"}]
    (conversation,) = import_items(prompt("hi", "09:00:00", subtitles=gem, details=[{"name": "From a phone"}]))

    assert conversation.messages[0].extra == {"subtitles": gem, "details": [{"name": "From a phone"}]}


# Files


def names_of(item: dict[str, Any], *beside: str) -> list[tuple[str | None, str | None, str]]:
    """Return id, name and status of the attachments of an item with files beside its file."""
    file = make_member("Takeout/MyActivity.json", [item])
    (parsed,) = parse_all(IMPORTER, file, [file, *(make_member(name, b"\x89PNG") for name in beside)])
    attachments = [block.attachment for block in parsed.conversation.messages[0].blocks if block.attachment]
    return [(attachment.id, attachment.name, attachment.status) for attachment in attachments]


def test_a_file_that_is_named_in_three_places_is_one_attachment():
    subtitles = [{"name": "Attached 1 file."}, {"name": "-  boat.png", "url": "boat-0a1b.png"}]
    item = prompt("hi", "09:00:00", imageFile="boat-0a1b.png", attachedFiles=["boat-0a1b.png"], subtitles=subtitles)

    assert names_of(item, "Takeout/boat-0a1b.png") == [("boat-0a1b.png", "boat.png", AttachmentStatus.PRESENT)]


def test_a_file_is_found_beside_the_activities_first_and_else_where_only_one_has_its_name():
    item = prompt("hi", "09:00:00", attachedFiles=["a.png", "b%20c.png", "d.png", "e.png"])
    beside = ["other/a.png", "Takeout/a.png", "other/b c.png", "other/d.png", "third/d.png"]

    file = make_member("Takeout/MyActivity.json", [item])
    members = [file, *(make_member(name, name) for name in beside)]
    (parsed,) = parse_all(IMPORTER, file, members)
    assert parsed.conversation.messages[0].blocks[1].attachment.blake3 == members[2].blake3
    assert [status for _, _, status in names_of(item, *beside)] == [
        AttachmentStatus.PRESENT,
        AttachmentStatus.PRESENT,
        AttachmentStatus.MISSING,
        AttachmentStatus.MISSING,
    ]


def test_a_file_that_is_only_told_of_is_missing_with_a_reason():
    item = prompt("hi", "09:00:00", subtitles=[{"name": "Attached 1 file."}, {"name": "-  boat.png"}])
    (conversation,) = import_items(item)

    attachment = conversation.messages[0].blocks[1].attachment
    assert (attachment.name, attachment.status) == ("boat.png", AttachmentStatus.MISSING)
    assert attachment.reason


# Conversations


def test_prompts_within_the_gap_are_one_conversation_in_the_order_of_time():
    items = [prompt("three", "10:00:01"), prompt("two", "09:30:00"), prompt("one", "09:00:00")]

    conversations = import_items(*items)

    assert sorted(texts_of(conversation) for conversation in conversations) == [["one", "two"], ["three"]]
    assert min(conversation.created for conversation in conversations) == "2026-02-03T09:00:00Z"


def test_the_gap_can_be_another_one_or_a_day():
    items = [prompt("three", "10:00:01"), prompt("two", "09:30:00"), prompt("one", "09:00:00")]

    minutes = import_items(*items, importer=GeminiTakeoutImporter(gap=timedelta(minutes=10)))
    hours = import_items(*items, importer=GeminiTakeoutImporter(gap=timedelta(hours=2)))
    day = import_items(*items, importer=GeminiTakeoutImporter(gap=None))

    next_day = {**prompt("four", "00:10:00"), "time": "2026-02-04T00:10:00Z"}
    days = import_items(next_day, prompt("late", "23:59:00"), importer=GeminiTakeoutImporter(gap=None))
    assert [len(minutes), len(hours), len(day), len(days)] == [3, 1, 1, 2]


def test_prompts_of_one_time_are_in_the_reverse_of_the_file():
    (conversation,) = import_items(prompt("two", "09:00:00"), prompt("one", "09:00:00"))

    assert texts_of(conversation) == ["one", "two"]


def test_an_export_with_later_prompts_keeps_all_ids():
    old = [prompt("two", "09:10:00"), prompt("one", "09:00:00"), prompt("before", "07:00:00")]
    new = [prompt("new", "12:00:00"), prompt("three", "09:20:00"), *old]

    ids_of_old = {conversation.native_id: texts_of(conversation) for conversation in import_items(*old)}
    ids_of_new = {conversation.native_id: texts_of(conversation) for conversation in import_items(*new)}

    grown = next(native_id for native_id, texts in ids_of_old.items() if "one" in texts)
    assert ids_of_old.keys() < ids_of_new.keys()
    assert ids_of_new[grown] == ["one", "two", "three"]
    assert all(conversation.is_append_only and conversation.is_id_derived for conversation in import_items(*old))


def test_prompts_without_a_time_are_conversations_of_their_own():
    items = [{**prompt(text, "09:00:00"), "time": "no time"} for text in ("a", "b")]

    assert len(import_items(*items)) == 2


def test_a_file_in_another_order_gives_the_same_conversations():
    items = [prompt("three", "12:00:01"), prompt("two", "09:10:00"), prompt("one", "09:00:00")]

    ids = [sorted((c.native_id, *texts_of(c)) for c in import_items(*order)) for order in (items, items[::-1])]

    assert ids[0] == ids[1]


# HTML


def card(body: str, header: str = "Gemini Apps") -> str:
    """Return a card as Takeout's pages have it."""
    return (
        '<div class="outer-cell mdl-cell mdl-cell--12-col mdl-shadow--2dp"><div class="mdl-grid">'
        f'<div class="header-cell mdl-cell"><p class="mdl-typography--title">{header}<br></p></div>'
        f'<div class="content-cell mdl-cell mdl-cell--6-col mdl-typography--body-1">{body}</div>'
        '<div class="content-cell mdl-cell mdl-typography--text-right"></div>'
        '<div class="content-cell mdl-cell mdl-typography--caption"><b>Products:</b><br>&emsp;Gemini Apps<br></div>'
        "</div></div>"
    )


def page_of(*cards: str, styles: str = "") -> str:
    head = f"<html><head><title>My Activity History</title><style>.mdl-grid{{}}{styles}</style></head>"
    return f'{head}<body><div class="mdl-grid">{"".join(cards)}</div></body></html>'


PAGE = page_of(
    card("Prompted&nbsp;and its engine?<br>Feb 3, 2026, 9:20:00\u202fAM UTC<br><p>A <b>diesel</b> engine.</p>"),
    card("Gave feedback: Good response<br>Feb 3, 2026, 9:05:00 AM UTC"),
    card(
        'Prompted what boat is this?<br>second line<br>Attached 1 file.<br>-&nbsp; <a href="boat-0a1b.png">boat.png</a>'
        "<br>Feb 3, 2026, 10:00:00 AM CET<br><p>A ketch.</p><ul><li>old</li></ul>"
    ),
    card("Prompted no reply here<br>Jan 1, 2026, 12:00:00 AM UTC"),
)


def test_a_page_of_cards_is_the_same_as_the_list_of_activities():
    beside = make_member("boat-0a1b.png", b"\x89PNG")
    file = make_member("MyActivity.html", PAGE)
    records, skips = split_all(IMPORTER, file, [file, beside])

    conversations = [IMPORTER.parse(record).conversation for record in records]
    chat = next(conversation for conversation in conversations if len(conversation.messages) == 4)
    assert len(conversations) == 2
    assert texts_of(chat) == [
        "what boat is this?\nsecond line",
        "A ketch.\n\n- old",
        "and its engine?",
        "A **diesel** engine.",
    ]
    assert [message.created for message in chat.messages] == [
        "2026-02-03T09:00:00Z",
        None,
        "2026-02-03T09:20:00Z",
        None,
    ]
    assert chat.messages[0].blocks[1].attachment.blake3 == beside.blake3
    assert chat.messages[1].blocks[0].extra["html"] == "<p>A ketch.</p><ul><li>old</li></ul>"
    assert [(skip.reason, skip.place) for skip in skips] == [("activity", "MyActivity.html[1]")]


def test_a_conversation_has_the_same_id_from_a_page_and_from_a_list():
    items = [
        prompt("and its engine?", "09:20:00.123", "<p>A <b>diesel</b> engine.</p>"),
        prompt("what boat is this?\nsecond line", "09:00:00.5", "<p>A ketch.</p>"),
    ]
    from_page = parse_all(IMPORTER, make_member("MyActivity.html", PAGE))

    assert {c.native_id for c in import_items(*items)} < {parsed.conversation.native_id for parsed in from_page}


def test_a_page_beside_its_list_is_left_to_the_list():
    page, listed = make_member("T/MyActivity.html", PAGE), make_member("T/MyActivity.json", [prompt("hi", "09:00:00")])

    records, skips = split_all(IMPORTER, page, [page, listed])

    assert records == []
    assert [(skip.reason, skip.is_info) for skip in skips] == [("same_as_json", True)]


def test_a_page_is_recognised_by_its_cards_and_where_styles_hide_them_by_its_head():
    other = page_of(card("Searched for boats", header="Search"))
    hidden = page_of(card("Prompted hi"), styles=".mdl-x{}" * 20_000)

    assert IMPORTER.recognise(peek(make_member("MyActivity.html", PAGE))) is not None
    assert IMPORTER.recognise(peek(make_member("MyActivity.html", hidden))) is not None
    assert IMPORTER.recognise(peek(make_member("a.html", "<html><body>Gemini</body></html>"))) is None
    assert all(skip.reason == "other_product" for skip in split_all(IMPORTER, make_member("f", other))[1])


def test_a_list_is_read_again_and_not_kept_as_a_whole():
    """Of a file in the order of its times, no more than one conversation waits for its items."""
    items = [prompt(str(n), f"{23 - n // 60:02}:{59 - n % 60:02}:00", "<p>x</p>") for n in range(600)]
    file = make_member("f", json.dumps(items))

    records, _ = split_all(GeminiTakeoutImporter(gap=timedelta(seconds=1)), file)

    assert [record.place for record in records] == [f"f[{place}]" for place in range(600)]
