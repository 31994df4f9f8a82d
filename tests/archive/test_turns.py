"""What a transcript shows of a view: turns, calls with their results, branches with numbers that stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.archive.conversations import Attachment, Block, Conversation, Lineage, Message
from pipeline.archive.transcripts.attachment_files import AttachmentFiles
from pipeline.archive.transcripts.branches import Tree
from pipeline.archive.transcripts.pieces import cut_text
from pipeline.archive.transcripts.turns import Options, Page, anchor_of, compose_page
from pipeline.archive.views import View
from tests.archive.made_views import chain, make_view, open_documents, say


def compose(view: View, **options: object) -> Page:
    files = AttachmentFiles(open_documents(Path("/nowhere")), view, folder="x.files")
    return compose_page(view, Options(**options), files.show)


def texts(turns) -> list[str]:
    return [piece.text for turn in turns for piece in turn.pieces]


def forked(*, active: str = "a3") -> View:
    """u1 ─ a1 ─ u2 ─ a2, and from a1 also u3 ─ a3; a2 has another version a4."""
    messages = [
        say("u1", "one", created="2026-01-01T00:00:01Z"),
        say("a1", "two", parent="u1", created="2026-01-01T00:00:02Z"),
        say("u2", "three", parent="a1", created="2026-01-01T00:00:03Z", variant=0),
        say("a2", "four", parent="u2", created="2026-01-01T00:00:04Z", variant=0),
        say("u3", "five", parent="a1", created="2026-01-01T00:00:05Z", variant=1),
        say("a3", "six", parent="u3", created="2026-01-01T00:00:06Z"),
        say("a4", "seven", parent="u2", created="2026-01-01T00:00:07Z", variant=1),
    ]
    view = make_view(*messages, active_leaf=active)
    path = Tree(view.conversation).active_path
    for message in messages:
        message.is_active = message.key in path
    return view


# Turns


def test_thinking_calls_results_and_words_of_one_answer_are_one_turn():
    view = make_view(
        *chain(
            say("u1", "Which port?"),
            say(
                "a1", blocks=[Block("thinking", "hm"), Block("thinking", "Thought for 6s", flags=["recap"])], model="m"
            ),
            say("a2", blocks=[Block("tool_use", tool_name="python", input="1+1", call_id="c")], model="m"),
            say("t1", role="tool", blocks=[Block("tool_result", "2", call_id="c")]),
            say("a3", "Lisbon.", model="m"),
        )
    )

    page = compose(view)

    user, answer = page.turns
    assert [piece.kind for piece in answer.pieces] == ["thinking", "tool_use", "text"]
    assert (answer.pieces[0].title, answer.pieces[0].text) == ("Thought for 6s", "hm")
    assert [result.text for result in answer.pieces[1].results] == ["2"]
    assert (user.speaker, answer.speaker, answer.model) == ("User", "Assistant", "m")


def test_another_model_or_a_gone_message_begins_a_turn():
    view = make_view(
        *chain(
            say("u1", "x"),
            say("a1", "y", model="m"),
            say("a2", "z", model="n"),
            say("a3", "w", model="n", is_gone=True),
        )
    )

    page = compose(view)

    assert [(turn.model, turn.is_gone) for turn in page.turns[1:]] == [("m", False), ("n", False), ("n", True)]


def test_a_message_that_was_copied_from_another_conversation_says_so():
    view = make_view(*chain(say("a1", "x", copy_of="other"), say("a2", "y")))

    assert [turn.copy_of for turn in compose(view).turns] == ["other", None]


def test_pieces_of_one_answer_stay_together_and_separate_prompts_apart():
    view = make_view(*chain(say("u1", "x", group="g"), say("u2", "y", group="g"), say("u3", "z")))

    assert [texts([turn]) for turn in compose(view).turns] == [["x", "y"], ["z"]]


def test_a_result_without_an_id_goes_to_the_call_before_it():
    blocks = [
        Block("tool_use", tool_name="search", input={"q": "a"}),
        Block("tool_result", "found", tool_name="search", is_error=True, exit_code=2),
    ]

    (turn,) = compose(make_view(say("a1", blocks=blocks))).turns

    (call,) = turn.pieces
    assert call.is_error
    assert call.results[0].notes == ("exit code 2",)


def test_a_call_shows_a_few_words_of_its_input():
    inputs = [{"command": "pytest -x", "timeout": 9}, {"content": "a\nb", "path": "b.py"}, "x = 1\nprint(x)", {"n": 1}]
    calls = [Block("tool_use", tool_name="t", input=each) for each in [*inputs, {"q": "w" * 90}, None]]
    calls.append(Block("tool_use", tool_name="t", input="*** Begin Patch\n*** Add File: b.py\n+hi"))

    (turn,) = compose(make_view(say("a1", blocks=calls))).turns

    assert [piece.hint for piece in turn.pieces] == [
        "pytest -x",
        "b.py",
        "x = 1",
        "",
        "w" * 80 + "…",
        "",
        "*** Add File: b.py",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<command-name>/review</command-name>\n <command-message>review</command-message>", ["/review"]),
        ("<command-name>/review</command-name><command-args>a.py b.py</command-args>", ["/review a.py b.py"]),
        ("<bash-stdout>a.txt\n\x1b[1mb.txt\x1b[0m</bash-stdout><bash-stderr></bash-stderr>", ["a.txt\nb.txt"]),
        ("<command-name>/review</command-name> and more", ["<command-name>/review</command-name> and more"]),
        ("<bash-stdout></bash-stdout>", ["<bash-stdout></bash-stdout>"]),
    ],
)
def test_a_command_is_shown_as_it_was_typed(text, shown):
    (turn,) = compose(make_view(say("u1", blocks=[Block("text", text, origin="command")], origin="command"))).turns

    assert [piece.text for piece in turn.pieces] == shown


def test_a_result_without_its_call_stands_alone():
    (turn,) = compose(make_view(say("t1", role="tool", author="python", blocks=[Block("tool_result", "2")]))).turns

    assert (turn.speaker, turn.pieces[0].kind) == ("Tool: python", "tool_result")


def test_a_result_without_words_is_shown_as_it_was():
    result = Block("tool_result", extra={"content": [{"rows": 3}]})

    (turn,) = compose(make_view(say("a1", blocks=[result]))).turns

    assert '"rows": 3' in turn.pieces[0].text


def test_a_long_result_is_cut_and_says_how_much_follows():
    text = "\n".join(map(str, range(100)))

    (turn,) = compose(make_view(say("a1", blocks=[Block("tool_result", text)]))).turns

    assert turn.pieces[0].text.endswith("\n79")
    assert turn.pieces[0].more == "20 more lines"
    assert cut_text("x" * 20_000, lines=3).more == "8,000 more characters"


def test_what_is_hidden_and_context_is_shown_only_when_asked_for():
    messages = chain(
        say("s1", "You are …", role="system", hidden="context"),
        say("u1", blocks=[Block("text", "hello"), Block("text", "<system-reminder>", origin="runtime_context")]),
        say("u2", "environment", origin="runtime_context", hidden="context"),
        say("u3", "resumed", origin="compaction_summary"),
    )

    plain, full = compose(make_view(*messages)), compose(make_view(*messages), shows_hidden=True)

    assert texts(plain.turns) == ["hello", "resumed"]
    assert plain.hidden_count == 2
    assert texts(full.turns) == ["You are …", "hello", "<system-reminder>", "environment", "resumed"]
    assert [turn.speaker for turn in full.turns] == ["System", "User", "Context", "Summary of what came before"]


def test_a_block_that_no_importer_knows_is_shown_with_what_it_was():
    raw = {"type": "hologram", "z": 1, "a": "b"}
    (turn,) = compose(make_view(say("a1", blocks=[Block("text", "words", flags=["unknown_type"], raw=raw)]))).turns

    words, unknown = turn.pieces
    assert words.text == "words"
    assert unknown.title == "Unknown: hologram"
    assert unknown.text == '{\n  "a": "b",\n  "type": "hologram",\n  "z": 1\n}'


def test_empty_thinking_is_not_shown_and_redacted_thinking_says_so():
    blocks = [Block("thinking", ""), Block("thinking", None, flags=["redacted"]), Block("text", "x")]

    (turn,) = compose(make_view(say("a1", blocks=blocks))).turns

    assert [(piece.kind, piece.notes) for piece in turn.pieces] == [
        ("thinking", ("redacted by the provider",)),
        ("text", ()),
    ]


def test_sources_are_listed_once_and_lead_to_safe_addresses_only():
    cites = [
        Block("citation", "Tides", extra={"url": "https://example.org/t", "title": "Tides"}),
        Block("citation", "Tides", extra={"url": "https://example.org/t", "title": "Tides"}),
        Block("citation", extra={}),
        Block("citation", "Trap", extra={"uri": "javascript:alert(1)"}),
    ]

    (turn,) = compose(make_view(say("a1", blocks=[Block("text", "x"), *cites]))).turns

    assert [(source.title, source.url) for source in turn.sources] == [
        ("Tides", "https://example.org/t"),
        ("Trap", None),
    ]


def test_an_interrupted_answer_says_so_once():
    flagged = say("a1", blocks=[Block("text", "cut", flags=["interrupted"])], status="interrupted")
    unflagged = say("a2", "cut", status="in_progress", parent="a1", model="n")

    page = compose(make_view(flagged, unflagged))

    notes = [note for turn in page.turns for note in [*turn.notes, *turn.pieces[0].notes]]
    assert sorted(notes) == ["in progress", "interrupted"]


def test_a_conversation_without_messages_shows_that():
    page = compose(View("x" * 16, Conversation("claude", "empty"), versions=("y" * 16,)))

    assert page.is_empty
    assert page.message_count == 0


def test_attachments_without_bytes_say_why():
    attachment = Attachment(name="chart.pdf", mime_type="application/pdf", size_bytes=2048, reason="not_in_export")

    (turn,) = compose(make_view(say("u1", blocks=[Block("attachment", attachment=attachment)]))).turns

    shown = turn.pieces[0].attachment
    assert (shown.name, shown.facts, shown.reason, shown.file) == (
        "chart.pdf", "application/pdf, 2 KB", "not in export", None,
    )  # fmt: skip


# Branches


def test_the_active_path_comes_first_and_each_other_branch_once():
    page = compose(forked())

    assert texts(page.turns) == ["one", "two", "five", "six"]
    assert {section.number: texts(section.turns) for section in page.sections} == {1: ["three", "four"], 3: ["seven"]}


def test_a_fork_leads_to_each_other_version_and_back():
    page = compose(forked())

    fork = page.turns[2]
    assert [(link.label, link.anchor) for link in fork.forks] == [("branch 1", "branch-1")]
    back = page.sections[0].turns[0]
    assert [link.anchor for link in back.forks] == [anchor_of("u3")]
    assert page.sections[0].begins_at == page.turns[1].anchor == anchor_of("a1")


def test_a_branch_that_leaves_in_the_midst_of_a_turn_leads_to_that_turn():
    messages = chain(say("u1", "one"), say("a1", "two"), say("a2", "three"), say("a3", "four"))
    branch = say("u2", "five", parent="a2", is_active=False, variant=1)

    page = compose(make_view(*messages, branch, active_leaf="a3"))

    assert texts(page.turns) == ["one", "two", "three", "four"]
    assert page.sections[0].begins_at == page.turns[1].anchor


def test_a_path_that_ends_early_says_where_it_goes_on():
    page = compose(forked(active="u2"))

    assert texts(page.turns) == ["one", "two", "three"]
    assert [link.label for link in page.goes_on] == ["branch 1", "branch 3"]


@pytest.mark.parametrize(("number", "shown"), [(1, "four"), (2, "six"), (3, "seven")])
def test_a_branch_can_be_shown_alone_from_its_beginning(number, shown):
    page = compose(forked(), branch=number)

    assert texts(page.turns)[0] == "one"
    assert texts(page.turns)[-1] == shown
    assert page.sections == []


def test_a_branch_that_is_not_there_shows_nothing():
    assert compose(forked(), branch=4).is_empty


def test_the_active_path_alone_tells_of_other_versions_without_leading_to_them():
    page = compose(forked(), branch="active")

    assert page.sections == []
    assert [(link.label, link.anchor) for link in page.turns[2].forks] == [("branch 1", None)]


def test_numbers_of_branches_stay_when_an_export_brings_more():
    before = Tree(forked().conversation)
    grown = forked(active="a6")
    grown.conversation.messages += [
        say("a5", "eight", parent="a4", created="2026-02-01T00:00:00Z"),
        say("a6", "nine", parent="u3", created="2026-02-01T00:00:01Z", variant=1),
    ]
    grown.conversation.messages.reverse()  # the order of a file means nothing

    after = Tree(grown.conversation)

    assert {key: after.branch_by_key[key] for key in before.branch_by_key} == before.branch_by_key
    assert after.branch_by_key["a6"] == 4


def test_other_roots_are_branches_too():
    view = make_view(say("u1", "one"), say("u2", "two", is_active=False, variant=1), active_leaf="u1")

    page = compose(view)

    assert texts(page.turns) == ["one"]
    assert [(section.number, section.begins_at, texts(section.turns)) for section in page.sections] == [
        (2, None, ["two"])
    ]


def test_a_version_that_shows_nothing_is_not_told_of():
    messages = [
        say("u1", "one"),
        say("a1", "two", parent="u1"),
        say("x", None, parent="u1", is_active=False, variant=1),
    ]

    page = compose(make_view(*messages, active_leaf="a1"))

    assert page.sections == []
    assert [turn.forks for turn in page.turns] == [(), ()]


def test_twenty_thousand_messages_in_a_chain_are_no_recursion():
    messages = chain(*(say(f"u{number}" if number % 2 else f"a{number}", str(number)) for number in range(20_000)))

    page = compose(make_view(*messages, active_leaf="u19999"))

    assert len(page.turns) == 20_000


def test_a_circle_of_messages_ends():
    messages = [say("a", "one", parent="b"), say("b", "two", parent="a")]

    assert compose(make_view(*messages, active_leaf="a")).message_count == 2


def test_lineage_is_no_part_of_the_path():
    view = make_view(say("u1", "x"), lineage=[Lineage("fork", "other")])

    assert texts(compose(view).turns) == ["x"]


def test_a_message_without_a_known_role_is_shown():
    (turn,) = compose(make_view(Message("k", role="narrator", blocks=[Block("text", "once")], is_active=True))).turns

    assert (turn.speaker, turn.role) == ("Unknown", "unknown")
