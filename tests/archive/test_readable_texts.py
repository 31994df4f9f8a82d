"""A reader sees all there is, and nothing that hides, moves or belongs to another program."""

from __future__ import annotations

import pytest

from pipeline.archive.readable_texts import clean_line, clean_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00b\x07c\x1bd\x7f", "a␀b␇c␛d⟦U+007F⟧"),
        ("safe\u202egnp.exe", "safe⟦U+202E⟧gnp.exe"),
        ("\u2066left\u2069", "⟦U+2066⟧left⟦U+2069⟧"),
        ("java\u200bscript\ufeff:\u2060", "javascript:"),
        ("\ue123 and \U000f1234", "⟦U+E123⟧ and ⟦U+F1234⟧"),
        ("tag\U000e0041", "tag⟦U+E0041⟧"),
        ("half \ud83d of it", "half ⟦U+D83D⟧ of it"),
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07", "red link"),
        ("tab\tstays", "tab\tstays"),
        ("family \U0001f468\u200d\U0001f469\u200d\U0001f467 and \u0915\u094d\u200d\u0937", None),
    ],
)
def test_what_cannot_be_seen_is_written_out_or_gone(text, shown):
    assert clean_text(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("So.\ue200cite\ue202turn0search3\ue202turn1search2\ue201", "So."),
        ("A\ue200filecite\ue202turn0file1\ue202L1-L4\ue201B", "AB"),
        ("never ended \ue200cite\ue202turn0", "never ended citeturn0"),
        ("old form【3†source】 and 【12:4†L1-L9】.", "old form and ."),
        ("see \ue200url\ue202the page\ue202https://example.org\ue201", "see the page (https://example.org)"),
        ('in \ue200entity\ue202["city","Lisbon","capital"]\ue201', "in Lisbon"),
        ("in \ue200entity\ue202[[[\ue201.", "in ."),
    ],
)
def test_marks_of_references_go_and_their_words_stay(text, shown):
    assert clean_text(text) == shown


def test_a_title_is_one_line():
    assert clean_line("  a\n\tb\r\n  c\u202e ") == "a b c⟦U+202E⟧"
