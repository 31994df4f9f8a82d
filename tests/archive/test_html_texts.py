"""HTML as Markdown: what it says, and nothing of what it does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive.importers.html_texts import parse_html, to_markdown, write_html


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<p>A <b>diesel</b> engine.</p>", "A **diesel** engine."),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>one<br>two</p>", "one  \ntwo"),
        ("a <em>b </em>c <del>d</del>", "a *b* c ~~d~~"),
        ("<h2>Boats</h2><p>x</p>", "## Boats\n\nx"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>", "- a\n- b\n  - c"),
        ("<ol><li>a</li><li><p>b</p><p>c</p></li></ol>", "1. a\n2. b\n\n   c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<pre><code class='language-python'>if x:\n    y\n</code></pre>", "```python\nif x:\n    y\n```"),
        ("<pre>a ``` b</pre>", "````\na ``` b\n````"),
        ("<p>Use <code>a`b</code></p>", "Use `` a`b ``"),
        ("<table><tr><th>a</th><th>b|c</th></tr><tr><td>1</td></tr></table>", "| a | b\\|c |\n| --- | --- |\n| 1 |  |"),
        ('<a href="https://example.org/a (b)">boats</a>', "[boats](https://example.org/a%20%28b%29)"),
        ('<a href="javascript:alert(1)">boats</a>', "boats"),
        ('<a href="data:text/html,x">boats</a>', "boats"),
        ('<img src="https://example.org/x.png" alt="a boat">', "[a boat](https://example.org/x.png)"),
        ('<img src="x" onerror="alert(1)">', "image"),
        ("<p>a</p><hr><p>b</p>", "a\n\n---\n\nb"),
        ("<script>alert(1)</script><style>x</style><p>a</p>", "a"),
        ("<ul><script>alert(1)</script><li>a</li><p>b</p></ul>", "- a\n- b"),
        ("<response-element><p>a</p></response-element>", "a"),
        ("&lt;script&gt;", "\\<script>"),
        ("# no heading", "\\# no heading"),
        ("1. no list", "1\\. no list"),
        ("a*b*c _d_ e_f [x](y) `z`", "a\\*b\\*c \\_d\\_ e_f \\[x\\](y) \\`z\\`"),
        ("<p>a", "a"),
        ("a</p></div>b", "ab"),
        ("", ""),
        ("<p> </p>", ""),
    ],
)
def test_html_becomes_markdown(html, markdown):
    assert to_markdown(html) == markdown


def test_deep_html_is_read_without_recursion_and_loses_no_words():
    html = "<div>" * 20_000 + "words" + "</div>" * 20_000 + "<p>more</p>"

    assert to_markdown(html) == "words\n\nmore"


def test_a_tree_is_written_as_it_was():
    html = '<p class="a &amp; b">x &lt; y<br><a href="z">w</a></p>'

    assert write_html(parse_html(html).children) == html


@pytest.mark.parametrize(
    "piece",
    ["<", '<a href="', "<b>", "</b>", "<!--", "<div ", "<script>", "`", "* ", "<p>x", "<ul><li>", "<table><tr><td>"],
)
def test_html_of_any_shape_costs_no_more_than_its_length(piece):
    """The worst of them take a second; a parser that looks at every tag again and again takes minutes."""
    count = 100_000 // len(piece)

    assert len(to_markdown(piece * count)) < 50 * count * len(piece)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="<>/ab=\"'&;!-[]pulitr ", max_size=60))
def test_any_text_is_read(text):
    assert isinstance(to_markdown(text), str)
