"""A text that somebody wrote can neither run anything nor reach beyond its place, as HTML and as Markdown."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.archive.transcripts.markdown_texts import (
    PARSED_CHARACTERS,
    contain,
    fence_code,
    name_language,
    render_html,
)
from pipeline.archive.transcripts.safe_html import highlight_code
from tests.archive.pages import Page, list_dangers, show_markdown

# One or more of each way in which markup gets through somewhere.
ATTACKS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<img src='http://169.254.169.254/latest/meta-data'>",
    "<svg/onload=alert(1)><a xlink:href='javascript:alert(1)'>x</a></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<style>@import '//evil.example/x.css';</style>",
    "<link rel=stylesheet href=//evil.example><base href=//evil.example><meta http-equiv=refresh content='0;//e'>",
    "<details open ontoggle=alert(1)>",
    "<a href='javascript:alert(1)'>x</a><form action=//evil.example><button formaction=javascript:alert(1)>",
    "</code></pre></details></div></article><script>alert(1)</script>",
    "<!-- --><!--><script>alert(1)</script>-->",
    "<?php echo 1 ?><![CDATA[<script>alert(1)</script>]]>",
    "[x](javascript:alert(1)) [x](JaVaScRiPt:alert(1)) [x](java&#115;cript:alert(1)) [x](java\tscript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1)) [x](<javascript:alert(1)>) [x]( javascript:alert(1) 'y')",
    "[x](data:text/html;base64,PHNjcmlwdD4=) [x](vbscript:x) [x](file:///etc/passwd) [x](//evil.example) [x](\\\\h\\s)",
    "[x][r] [r] [r][]\n\n[r]: javascript:alert(1)",
    "[x]\n\n[x]:\njavascript:alert(1)\n'title'",
    "> [q]: javascript:alert(1)\n\n[q]",
    "- [l]: data:text/html,x\n\n[l]",
    "![x](javascript:alert(1)) ![x](http://169.254.169.254/) ![x](file:///etc/passwd) ![x](//host/share)",
    "![r]\n\n[r]: http://169.254.169.254/",
    "[![x](http://127.0.0.1/p.png)](javascript:alert(1))",
    "<javascript:alert(1)> <data:text/html,x> <file:///etc/passwd>",
    "`<script>`<script>alert(1)</script>`",
    "``` `<img src=x onerror=alert(1)> ```",
    "\\`<script>alert(1)</script>\\`",
    '<a title="`">`<img src=x onerror=alert(1)>`',
    "`a\n\n<script>alert(1)</script>\n\n`",
    "\\<script>alert(1)</script>",
    "| a | b |\n|---|---|\n| ` | <img src=x onerror=alert(1)> |\n| x | ` |",
    "| a | b | c |\n|---|---|---|\n| ` | <img src=x onerror=alert(1)> | ` |",
    "~~~html onload=alert(1)\n<script>\n~~~\n<script>alert(1)</script>",
    '```{=html}\n<script>alert(1)</script>\n```\n`<b onclick="x">`{=html}',
    "- ```\n<script>alert(1)</script>\n  ```",
    "> ```\n<script>alert(1)</script>",
    "1. a\n\n       <script>alert(1)</script>\n\n   <script>alert(1)</script>",
    "\tcode\n<script>alert(1)</script>",
    "# <script>alert(1)</script>\n<script>\n===\n",
    "*<script>*alert(1)**</script>**",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
    "`code\n<script>alert(1)</script>` and > `more\n> <img src=x onerror=alert(1)>`",
    "- ``code\n<script>alert(1)</script>`` `\n  <!-- `",
    "$<script>alert(1)</script>$ \\(<img src=x onerror=alert(1)>\\) $$<svg onload=alert(1)>$$",
    'https://evil.example/<script>alert(1)</script> https://evil.example/"onmouseover=alert(1)',
]


@pytest.mark.parametrize("text", ATTACKS)
def test_html_of_a_text_runs_and_loads_nothing(text):
    assert list_dangers(render_html(text)) == []


@pytest.mark.parametrize("text", ATTACKS)
def test_markdown_of_a_text_runs_and_loads_nothing_even_where_html_works(text):
    source = contain(text)

    shown = show_markdown(f"before\n\n{source}\n\nafter")

    assert list_dangers(shown) == []


def test_markdown_of_a_text_is_harmless_to_viewers_with_rules_of_their_own():
    assert contain("\\<script>") == "&lt;script>"  # the first Markdown had no such escape
    assert contain("`<b>`{=html}") == "`<b>`\\{=html}"  # Pandoc takes such code for raw HTML
    assert contain("```{=html}\n<b>\n```") == "```\n<b>\n```"


MARKS = "< > ` `` ``` ~~~ \\ [ ] ( ) ! | # x $ * |---| {=html} <!-- <script> </details> javascript:"
PIECES = st.sampled_from([*MARKS.split(), "\n", "\n\n", "- ", "> ", "    ", "[a]: ", "<img src=x onerror=y>"])


@settings(max_examples=400, deadline=None)
@example("`\n<script>`")
@example("- `\n<script>`")
@example("> `\n> <script>`")
@example("[a]: x\n    <script>")
@given(st.lists(PIECES, max_size=25).map("".join))
def test_no_mixture_of_marks_lets_markup_through(text):
    for source in (render_html(text), show_markdown(f"before\n\n{contain(text)}\n\nafter")):
        assert list_dangers(source) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_a_text_never_swallows_what_follows_it(text):
    shown = show_markdown(f'{contain(text)}\n\n## <a id="m-1"></a>Next\n\nwords')

    page = Page(shown)
    assert {"id": "m-1"} in [element.attributes for element in page.elements if element.tag == "a"]
    assert page.text.rstrip().endswith("words")


def test_a_fence_is_longer_than_any_run_of_backticks_in_the_code():
    code = "a\n````\nb\n```\n~~~~~~~"

    source = fence_code(code, "python")

    assert source.startswith("`````python\n")
    assert Page(show_markdown(source)).code == f"{code}\n"


@pytest.mark.parametrize("text", ["```python\nx = 1", "~~~\nx", "````\n```\nx", "```\n~~~\nx"])
def test_an_open_fence_ends_with_its_message(text):
    shown = Page(show_markdown(f"{contain(text)}\n\nnext message"))

    assert "next message" not in shown.code
    assert "x" in shown.code


@pytest.mark.parametrize("info", ["{=html}", "py<thon", "a b", '"onload=x', "py{.x onclick=y}", "`", "\u202e"])
def test_a_language_is_a_plain_name(info):
    assert not set(name_language(info)) & set("<>\"'={}` \u202e")


def test_headings_lie_below_those_of_the_page():
    text = "# One\n\nTwo\n---\n\n## Three ##\n\n###### Six\n\nlong\nwords\n===\n\n- # in a list"

    assert contain(text) == "### One\n\n#### Two\n\n#### Three ##\n\n###### Six\n\n### long words\n\n- # in a list"
    assert Page(render_html(text)).list_tags() >= {"h3", "h4", "h6"}
    assert not Page(render_html(text)).list_tags() & {"h1", "h2"}


@pytest.mark.parametrize("text", ["---\ntitle: x\n---\n\nwords", "words\n\n---\ntitle: x\n...\n"])
def test_lines_of_dashes_are_no_front_matter(text):
    assert "---" not in contain(text).split("\n")


def test_link_definitions_hold_for_their_message_only():
    text = 'See [the tides][1], [1] and [2].\n\n[1]: https://example.org/tides "Tides"\n[^2]: a note'

    source = contain(text)

    assert "[the tides](<https://example.org/tides>), [1](<https://example.org/tides>) and [2]." in source
    following = Page(show_markdown(f"{source}\n\nanother message: [1] and [^2]"))
    assert following.list_values("href") == ["https://example.org/tides"] * 2


def test_images_of_the_net_are_links():
    page = Page(render_html("![a boat](https://example.org/boat.png)"))

    assert "img" not in page.list_tags()
    assert page.list_values("href") == ["https://example.org/boat.png"]
    assert "image: a boat" in page.text
    assert "img" not in Page(show_markdown(contain("![a boat](https://example.org/boat.png)"))).list_tags()


def test_a_link_that_leads_nowhere_shows_where_it_led():
    assert Page(render_html("[notes](file:///etc/passwd)")).text.strip() == "notes (file:///etc/passwd)"
    assert Page(render_html("[map](sandbox:/mnt/data/map.png).")).text.strip() == "map."
    assert "javascript" not in "".join(Page(render_html("[x](javascript:a)")).list_values("href"))


def test_web_addresses_in_a_text_are_links_without_the_punctuation_around_them():
    page = Page(render_html("(see https://example.org/a_(b)), https://example.org/c?d=1&e=2. `https://no.example`"))

    assert page.list_values("href") == ["https://example.org/a_(b)", "https://example.org/c?d=1&e=2"]


@pytest.mark.parametrize("formula", ["\\(a_1 * b_2\\)", "\\[x^{2}_i\\]", "$a_1 + b_1$", "$$\n\\sum_i x_i\n$$"])
def test_formulas_stay_as_they_were_written(formula):
    assert formula in Page(render_html(f"So {formula} holds.")).text
    assert formula in contain(f"So {formula} holds.")


def test_a_list_of_tasks_shows_its_boxes():
    page = Page(render_html("- [ ] rope\n- [x] book\n- [y] else\n\n[ ] no list"))

    assert " ".join(page.text.split()) == "☐ rope ☑ book [y] else [ ] no list"


def test_sums_of_money_and_code_are_no_formulas():
    page = render_html("between $5 and $10, `\\(x\\)`")

    assert "formula" not in page
    assert "<code>\\(x\\)</code>" in page


def test_code_between_backticks_stays_as_it_is():
    assert contain("use `<div>` and ``a ` <b>``") == "use `<div>` and ``a ` <b>``"


def test_what_is_nested_too_deeply_is_shown_as_it_is():
    text = "> " * 60 + "deep"

    assert "deep" in Page(render_html(text)).code


def test_a_text_too_long_to_be_parsed_is_shown_as_it_is():
    text = "**a** " * (PARSED_CHARACTERS // 6 + 1)

    assert Page(render_html(text)).code == text
    assert contain(text) == fence_code(text, "")


def test_code_is_coloured_where_its_language_is_known():
    assert '<span class="k">def</span>' in highlight_code("def f(): pass", "python")
    assert highlight_code("def <f>", "no-such-language") == "def &lt;f&gt;"
    assert highlight_code("x" * 3000, "python") == "x" * 3000
