"""What a query finds, in which order, and what is said of one that cannot be meant."""

from __future__ import annotations

import pytest

from pipeline.archive.conversations import Attachment, Block, Kind, Message
from pipeline.archive.search import SNIPPET_WORDS, parse_query, read_time_limit
from pipeline.errors import InputInvalid, UnknownName
from tests.archive.made_archive import MadeArchive, make_view


@pytest.fixture
def archive(tmp_path) -> MadeArchive:
    made = MadeArchive(tmp_path / "data")
    made.put(make_view("Tides", user="When is low tide?", assistant="The tide is low at noon, says the table."))
    made.put(make_view("Knots", provider="claude", user="Which knot holds?", assistant="A bowline; low friction."))
    made.put(make_view("Café", provider="claude", user="naïve TIDAL moorings", assistant="Tables of the moon"))
    return made


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("low", {"Tides", "Knots"}),
        ("low tide", {"Tides"}),
        ("LOW Tide", {"Tides"}),
        ('"low tide"', {"Tides"}),
        ('"tide low"', set()),
        ("tid*", {"Tides", "Café"}),
        ('"low fric"*', {"Knots"}),
        ("low -friction", {"Tides"}),
        ('low -"low friction"', {"Tides"}),
        ("-friction low", {"Tides"}),
        ("bowline OR noon", {"Knots", "Tides"}),
        ("low bowline OR noon", {"Knots", "Tides"}),
        ("naive", {"Café"}),
        ("cafe", {"Café"}),
        ("knots", {"Knots"}),
        ("or", set()),
        ("low-tide", {"Tides"}),
        ("NEAR(low tide)", set()),
        ("text:low", set()),
        ("(low", {"Tides", "Knots"}),
        ("it's", set()),
    ],
)
def test_a_query_finds_what_it_means(archive, query, titles):
    assert archive.find(query) == titles


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("写真", True),
        ("港の写真", True),
        ('"港の写真"', True),
        ("港 真", True),
        ("写真港", False),
        ("photo港", True),
        ("ท่าเรือ", True),
    ],
)
def test_languages_without_blanks_are_found_wherever_the_characters_stand(tmp_path, query, found):
    archive = MadeArchive(tmp_path)
    archive.put(make_view("あの港の写真", user="これはphoto港です", assistant="รูปท่าเรือเก่า"))

    hits = archive.search(query)

    assert bool(hits) is found
    assert {hit.facts["title"] for hit in hits} <= {"あの港の写真"}
    assert all("\u200b" not in hit.snippet for hit in hits)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ('"low tide', "second quotation mark"),
        ("-low", "only says what is not wanted"),
        ("low ++", r"nothing to look for in '\+\+'. Expected letters or digits"),
        ('""', "nothing to look for"),
        ("*", "nothing to look for"),
        ("OR low", "each side of OR"),
        ("low OR", "each side of OR"),
        ("low OR OR tide", "each side of OR"),
        ("low OR -tide", "without a minus"),
        (" ".join(["low"] * 65), "at most 64"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_in_words(archive, query, problem):
    with pytest.raises(InputInvalid, match=problem) as caught:
        archive.search(query)

    assert "fts5" not in str(caught.value)


def test_as_many_words_as_are_allowed_are_answered(archive):
    assert archive.find(" ".join(["low"] * 60 + ["-x", "tide", "OR", "y"])) == {"Tides"}


def test_no_character_of_a_query_reaches_sqlite_as_language():
    assert parse_query('a:b {c}* ^d NOT "e OR f" -g') == '("a:b" AND "{c}" * AND "^d" AND "NOT" AND "e OR f") NOT ("g")'


def test_filters_narrow_what_is_found(tmp_path):
    archive = MadeArchive(tmp_path)
    view = make_view("Tides", user="low water", assistant="low tide")
    view.conversation.messages[1].model = "gpt-4o-mini"
    for message, time in zip(view.conversation.messages, ("2026-03-01T09:00:02Z", "2026-03-02T00:00:00Z"), strict=True):
        message.created = time
    archive.put(view)
    archive.put(make_view("Knots", provider="claude", user="low friction"))
    archive.notes.change_tags(view.conversation_id, add=["sea"])

    def find(**filters: str) -> list[str]:
        return sorted(hit.facts["message"] for hit in archive.search("low", **filters))

    assert find() == ["assistant", "user", "user"]
    assert find(provider="chatgpt") == ["assistant", "user"]
    assert find(role="assistant") == ["assistant"]
    assert find(model="gpt-4o-mini") == find(model="GPT*") == find(model="gpt_4o*".replace("_", "-")) == ["assistant"]
    assert find(tag="sea") == ["assistant", "user"]
    assert find(since="2026-03-02") == find(since="2026-03-01T10") == ["assistant"]
    assert find(until="2026-03-01") == find(until="2026-03-01T09:00") == ["user"]
    assert find(since="2026", until="2026-03") == ["assistant", "user"]
    assert find(since="2027") == find(until="2025") == []


@pytest.mark.parametrize(
    ("filters", "known"),
    [
        ({"provider": "chatgtp"}, "Known: chatgpt, claude"),
        ({"role": "human"}, "Known: assistant, system"),
        ({"tag": "tidse"}, "Known: sea"),
        ({"model": "gpt-9*"}, "Known: gpt-4o"),
    ],
)
def test_a_value_that_nothing_has_is_refused_with_those_that_are_there(archive, filters, known):
    view = make_view("Models", user="low")
    view.conversation.messages.append(Message("a", "user", "assistant", model="gpt-4o"))
    archive.put(view)
    archive.notes.change_tags(view.conversation_id, add=["sea"])

    with pytest.raises(UnknownName, match=known):
        archive.search("low", **filters)


@pytest.mark.parametrize("text", ["yesterday", "2026-13", "2026-02-30", "01.03.2026", "2026-03-01T09:30:00+02:00", ""])
def test_a_date_that_is_none_is_refused(text):
    with pytest.raises(InputInvalid, match=r"is no date\. Expected a year"):
        read_time_limit(text)


def test_a_date_is_compared_as_far_as_it_is_known():
    assert [read_time_limit(text) for text in ("2026", "2026-03-01 09:30Z")] == ["2026", "2026-03-01T09:30"]


def test_what_was_said_goes_before_what_was_thought_and_titles_before_both(tmp_path):
    archive = MadeArchive(tmp_path)
    thought = make_view("A", assistant="other words here")
    thought.conversation.messages[0].blocks.append(Block(Kind.THINKING, text="a lantern perhaps"))
    archive.put(thought)
    archive.put(make_view("B", assistant="the lantern is here too"))
    archive.put(make_view("Lantern", assistant="something else"))
    for number in range(20):
        archive.put(make_view(f"Other {number}", user="words of other things"))

    assert [hit.facts["title"] for hit in archive.search("lantern")] == ["Lantern", "B", "A"]


def test_tool_calls_context_and_names_of_files_are_found(tmp_path):
    archive = MadeArchive(tmp_path)
    view = make_view("Work", user="do it")
    view.conversation.messages[0].blocks += [
        Block(Kind.TOOL_USE, tool_name="shell", input={"command": "grep -rn mooring"}),
        Block(Kind.TOOL_RESULT, text="no such harbour"),
        Block(Kind.CONTEXT, text="environment of the skipper"),
        Block(Kind.ATTACHMENT, attachment=Attachment(name="chart of depths.png")),
    ]
    archive.put(view)

    for query in ("shell", "mooring", "harbour", "skipper", "depths"):
        assert archive.find(query) == {"Work"}, query


def test_a_snippet_is_one_line_around_what_was_found_and_says_where(tmp_path):
    archive = MadeArchive(tmp_path)
    text = "word " * 300 + "\n\nthe low\ttide and another tide\n" + "word " * 300
    archive.put(make_view("Long", user=text))

    (hit,) = archive.search("tide")

    assert [hit.snippet[begin:end] for begin, end in hit.ranges] == ["tide", "tide"]
    assert "the low tide and another tide" in hit.snippet
    assert len(hit.snippet.split()) <= SNIPPET_WORDS + 2
    assert (hit.snippet[0], hit.snippet[-1]) == ("…", "…")


def test_a_limit_keeps_the_best(archive):
    every = archive.search("low", limit=20)

    assert archive.search("low", limit=1) == every[:1]
    assert [hit.relevance for hit in every] == sorted((hit.relevance for hit in every), reverse=True)


def test_a_place_that_is_not_asked_for_is_not_searched(archive):
    assert archive.search("low", places=("documents",)) == []
    with pytest.raises(InputInvalid, match="have no provider, role or tag"):
        archive.search("low", places=("documents",), role="user")
