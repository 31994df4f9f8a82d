"""A transcript is a function of its view, its template and its options; nothing in it runs, loads or misleads."""

from __future__ import annotations

import base64
import itertools
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from pipeline.archive.conversations import Attachment, Block, Conversation, Lineage, Message
from pipeline.archive.transcripts import (
    SHIPPED_FOLDER,
    Format,
    Rendered,
    file_of,
    hash_source,
    make_transcript,
    plan_transcript,
    read_template,
    render_transcript,
)
from pipeline.archive.transcripts.turns import Options, anchor_of
from pipeline.archive.views import Outline, View
from pipeline.errors import ConfigInvalid
from tests.archive.made_views import (
    chain,
    keep,
    keep_file,
    make_conversation,
    make_png,
    make_view,
    open_documents,
    outline_of,
    say,
)
from tests.archive.pages import Page, list_dangers, show_markdown
from tests.archive.test_markdown_texts import ATTACKS

FORMATS = list(Format)


@pytest.fixture
def documents(tmp_path):
    return open_documents(tmp_path)


@pytest.fixture
def render(documents, tmp_path):
    """Return a function that renders a view, and gives the text of its transcript."""

    def render_text(view: View, form: Format = Format.HTML, **options: object) -> str:
        return render_view(view, form, **options).content.decode()

    def render_view(view: View, form: Format = Format.HTML, **options: object) -> Rendered:
        return render_transcript(documents, view, read_template(tmp_path / "config", form), Options(**options))

    render_text.view = render_view
    return render_text


def show(source: str, form: Format) -> str:
    """Return what a browser would be given, by a viewer of Markdown where it is that."""
    return source if form is Format.HTML else show_markdown(source)


# What it is made from


def test_the_id_follows_from_versions_template_and_options(tmp_path):
    template = read_template(tmp_path, Format.HTML)
    outline = Outline(("b" * 16, "a" * 16))

    plan = plan_transcript(outline, template, Options())

    assert plan.doc_id == plan_transcript(Outline(("a" * 16, "b" * 16)), template, Options()).doc_id
    others = [
        plan_transcript(Outline(("a" * 16,)), template, Options()),
        plan_transcript(outline._replace(is_gone=True), template, Options()),
        plan_transcript(outline._replace(origins=("c" * 16,)), template, Options()),
        plan_transcript(outline._replace(version=outline.version + 1), template, Options()),
        plan_transcript(outline, read_template(tmp_path, Format.MARKDOWN), Options()),
        plan_transcript(outline, template, Options(branch=1)),
        plan_transcript(outline, template, Options(shows_hidden=True)),
    ]
    assert len({plan.doc_id, *(other.doc_id for other in others)}) == 1 + len(others)


def test_the_id_of_a_transcript_is_pinned(tmp_path):
    template = read_template(tmp_path, Format.HTML)._replace(texts={"html.j2": "{{ facts.title }}\n"})

    plan = plan_transcript(Outline(("a" * 16,)), template, Options())

    assert plan.doc_id == "3sr7mxrrer04qjdg"


@pytest.mark.parametrize("form", FORMATS)
def test_rendering_again_gives_the_same_bytes_and_metadata(tmp_path, form):
    made = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        documents = open_documents(folder)
        photo = keep_file(documents, "photo.png", make_png(8, 8))
        view = keep(documents, make_view(say("u1", blocks=[Block("text", "x"), Block("attachment", attachment=photo)])))
        plan = plan_transcript(outline_of(view), read_template(tmp_path, form), Options())
        document = make_transcript(documents, view, plan)
        made.append({path.name: path.read_bytes() for path in document.folder.iterdir()})

    assert made[0] == made[1]
    assert made[0].keys() == {file_of(form), "metadata.json"}


def test_the_metadata_tells_what_it_was_made_from_and_no_time_of_the_making(documents, tmp_path):
    view = keep(documents, make_view(say("u1", "Where to moor?")))
    plan = plan_transcript(outline_of(view), read_template(tmp_path, Format.MARKDOWN), Options())

    metadata = make_transcript(documents, view, plan).metadata

    assert metadata["created_at"] == "2026-05-01T10:00:00.000000Z"  # of the version
    (parent,) = metadata["parents"]
    assert (parent["stage"], parent["doc_id"]) == ("conversation", view.versions[0])
    assert metadata["name"] == "2025-03-01-harbour-photo-3f9a1c2b7d"
    assert metadata["beginning"] == "Where to moor?"


@pytest.mark.parametrize("form", FORMATS)
def test_texts_end_with_one_newline_and_hold_no_carriage_returns(render, form):
    source = render(make_view(say("u1", "a\r\nb\rc\n\n\n")), form)

    assert source.endswith("\n")
    assert not source.endswith("\n\n")
    assert "\r" not in source


# Templates


def test_a_template_in_the_configuration_goes_before_the_shipped_one(documents, tmp_path):
    folder = tmp_path / "config" / "transcripts"
    folder.mkdir(parents=True)
    (folder / "markdown.j2").write_bytes(
        b"{% include 'head.j2' %}\r\n{{ page.turns[0].pieces[0].text | markdown }}\r\n"
    )
    (folder / "head.j2").write_text("Title: {{ facts.title | line }}\n")

    template = read_template(tmp_path / "config", Format.MARKDOWN)
    rendered = render_transcript(documents, make_view(say("u1", "# <b>")), template, Options())

    assert rendered.content == b"Title: Harbour photo\n### &lt;b>\n"
    assert set(template.texts) == {"markdown.j2", "head.j2"}
    assert read_template(tmp_path / "config", Format.HTML) == read_template(tmp_path / "none", Format.HTML)


def test_a_changed_style_or_include_is_another_template(tmp_path):
    folder = tmp_path / "transcripts"
    folder.mkdir()
    before = read_template(tmp_path, Format.HTML).blake3

    (folder / "style.css").write_text("body { color: red }\n")

    assert read_template(tmp_path, Format.HTML).blake3 != before
    assert read_template(tmp_path, Format.MARKDOWN).blake3 == read_template(tmp_path / "none", Format.MARKDOWN).blake3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n{% if %}", "line 2"),
        ("{{ facts.title | no_such_filter }}", "no_such_filter"),
        ("{% include 'gone.j2' %}", "'gone.j2'"),
        ("{% include facts.title %}", "Expected a name in quotes"),
    ],
)
def test_a_mistake_in_a_template_is_told_with_its_place(tmp_path, text, words):
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "markdown.j2").write_text(text)

    with pytest.raises(ConfigInvalid) as caught:
        read_template(tmp_path, Format.MARKDOWN)

    assert "transcripts/markdown.j2" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{{ facts.no_such_fact }}", "{{ ''.__class__.__mro__ }}", "{{ page.turns[5].role }}"])
def test_a_template_that_fails_names_itself(documents, tmp_path, text):
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "markdown.j2").write_text(text)

    with pytest.raises(ConfigInvalid, match=r"transcripts/markdown\.j2"):
        render_transcript(documents, make_view(say("u1", "x")), read_template(tmp_path, Format.MARKDOWN), Options())


def test_a_text_is_never_rendered_as_a_template(render):
    for form in FORMATS:
        assert (
            "{{ facts.title }} {% raw %}"
            in Page(show(render(make_view(say("u1", "{{ facts.title }} {% raw %}")), form), form)).text
        )


def test_the_shipped_templates_are_part_of_the_package():
    assert {path.name for path in SHIPPED_FOLDER.iterdir()} >= {"markdown.j2", "html.j2", "style.css"}


# Hostile texts, everywhere


def fill(attack: str) -> Conversation:
    """Return a conversation that has an attack in every field that holds a text."""
    attachment = Attachment(**dict.fromkeys(("id", "name", "mime_type", "purpose", "reason", "url"), attack))
    block_fields = {"language": attack, "tool_name": attack, "input": {attack: attack, "long": f"{attack}\n{attack}"}}
    kinds = ("text", "thinking", "tool_use", "tool_result", "code", "citation", "context", attack)
    blocks = [
        *(Block(kind, attack, call_id=str(number), **block_fields) for number, kind in enumerate(kinds)),
        Block("tool_use", input=attack, tool_name=attack),
        Block("tool_result", attack, tool_name=attack, is_error=True),
        Block("citation", attack, extra={"url": attack, "title": attack}),
        Block("text", attack, flags=["unknown_type", "interrupted"], raw={"type": attack, attack: attack}),
        Block("attachment", attachment=attachment),
    ]
    names = {"author": attack, "model": attack, "status": attack, "created": None}
    messages = [Message(attack, role="user", blocks=blocks, is_active=True, **names)]
    for number, role in enumerate(("assistant", "tool", "system", attack)):
        hidden = attack if number else None
        message = Message(f"{number}{attack}", attack, role, variant=number, blocks=blocks, hidden=hidden, **names)
        messages.append(message)
    conversation = make_conversation(
        *messages, title=attack, native_id=attack, provider=attack, created=attack, updated=attack
    )
    texts = {"account": attack, "model": attack, "project_id": attack, "project_name": attack, "gizmo_id": attack}
    return replace(
        conversation,
        **texts,
        cwd=attack,
        git={"branch": attack},
        flags=[attack],
        lineage=[Lineage(attack, attack)],
        attachments=[attachment],
        warnings={attack: 1},
        extra={attack: attack},
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_field_of_a_conversation_lets_markup_through(render, attack, form):
    view = View(attack, fill(attack), versions=("x" * 16,), is_gone=True, conflicts=(attack,))

    source = render(view, form, shows_hidden=True)

    assert list_dangers(show(source, form)) == []


def test_the_hostile_conversation_has_an_attack_in_every_field():
    conversation = fill("ATTACK")

    unfilled = [each.name for each in fields(Conversation) if "ATTACK" not in repr(getattr(conversation, each.name))]

    assert [name for name in unfilled if not name.startswith("is_")] == [
        "title_source", "settings", "active_leaf", "usage",
    ]  # fmt: skip


def test_the_policy_allows_one_style_no_script_and_pictures_beside_the_page_only(render):
    source = render(make_view(say("u1", "x")))

    policy = next(value for value in Page(source).list_values("content") if "default-src" in value)
    style = re.search("<style>(.*?)</style>", source, re.DOTALL)[1]
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'none'",
        "img-src": "'self' data:",
        "style-src": f"'{hash_source(style)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "script" not in Page(source).list_tags()
    assert "url(" not in style
    assert "@import" not in style


# Front matter and titles

TITLES = [
    "---",
    "a: b",
    '"x',
    "- y",
    "!!python/object:os.system",
    "a\nadmin: true",
    "{x}",
    "&a *a",
    "# c",
    "%",
    "null",
    "1.0",
]


@pytest.mark.parametrize("title", TITLES)
def test_no_title_breaks_out_of_the_front_matter(render, title):
    source = render(make_view(say("u1", "---\nadmin: true\n---\n"), title=title), Format.MARKDOWN)

    _, front, body = source.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["title"] == " ".join(title.split())
    assert "admin" not in facts
    assert facts["conversation_id"] == "3f9a1c2b7d8e4f60"
    assert "\n---" not in body


@pytest.mark.parametrize(("title", "shown"), [(None, "Untitled"), ("", "Untitled"), ("a\n\tb\u202e", "a b⟦U+202E⟧")])
def test_a_title_is_one_visible_line(render, title, shown):
    view = make_view(say("u1", "x"), title=title)

    assert f'<h1 dir="auto">{shown}</h1>' in render(view)
    assert f"\n# {shown}\n" in render(view, Format.MARKDOWN)


# Messages kept apart


def test_a_message_that_looks_like_a_heading_of_the_page_is_told_from_one(render):
    text = '## User\n\n## <a id="m-000000000000"></a>Assistant\n\n<!-- message -->'
    source = render(make_view(say("u1", text)), Format.MARKDOWN)

    page = Page(show_markdown(source))
    assert [element.attributes["id"] for element in page.elements if "id" in element.attributes] == [anchor_of("u1")]
    assert "h2" in page.list_tags()
    assert len([element for element in page.elements if element.tag == "h2"]) == 1
    assert "<!--" not in source


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "text", ["</details>", "```\nopen", "<details>", "</div></article>", "| a |\n|---|", "- a\n  - b", "x\n==="]
)
def test_no_message_closes_or_swallows_what_is_around_it(render, text, form):
    blocks = [Block("thinking", text), Block("tool_result", text), Block("text", text)]
    view = make_view(*chain(say("a1", blocks=blocks), say("u2", "the next message")))

    page = Page(show(render(view, form), form))

    assert "the next message" in page.text
    assert "the next message" not in page.code
    folds = [element for element in page.elements if element.tag == "details"]
    assert len(folds) == 2
    assert page.open == [] or page.open == ["html"]


@pytest.mark.parametrize("form", FORMATS)
def test_thinking_and_tools_are_folded_and_words_are_not(render, form):
    view = make_view(
        say("a1", blocks=[Block("thinking", "hm"), Block("tool_use", tool_name="ls"), Block("text", "So.")])
    )

    page = Page(show(render(view, form), form))

    assert [element.tag for element in page.elements if element.tag in ("details", "summary")] == [
        "details",
        "summary",
    ] * 2
    assert not any("open" in element.attributes for element in page.elements if element.tag == "details")
    assert "So." in page.text


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_result_says_how_much_follows(render, form):
    view = make_view(say("a1", blocks=[Block("tool_result", "\n".join(map(str, range(100))))]))

    assert "… 20 more lines" in Page(show(render(view, form), form)).text


# Branches


@pytest.mark.parametrize("form", FORMATS)
def test_every_link_within_a_page_has_its_target(render, form):
    view = make_view(
        say("u1", "one"),
        say("a1", "two", parent="u1"),
        say("u2", "three", parent="a1", is_active=False),
        say("u3", "four", parent="a1", variant=1),
        say("a3", "five", parent="u3", is_active=False),
        active_leaf="u3",
    )

    page = Page(show(render(view, form), form))

    links = [value[1:] for value in page.list_values("href") if value.startswith("#")]
    assert set(links) <= set(page.list_values("id"))
    assert {"branch-1", "branch-2"} & set(links)


def test_the_file_of_one_branch_has_a_name_of_its_own(render):
    view = make_view(say("u1", "x"))

    assert render.view(view, branch=1).name == f"{render.view(view).name}-branch-1"


# Attachments


def attach(*attachments: Attachment) -> View:
    return make_view(say("u1", blocks=[Block("attachment", attachment=attachment) for attachment in attachments]))


@pytest.mark.parametrize("form", FORMATS)
def test_attachments_lie_beside_the_page_under_plain_names(documents, render, form):
    photo = keep_file(documents, "Harbour photo.PNG", make_png(300, 200) + bytes(40_000), width=300, height=200)
    table = keep_file(documents, "../../ports.csv", b"port,depth\n", mime_type="text/csv")

    rendered = render.view(attach(photo, table), form)

    assert sorted(rendered.attachments) == ["harbour-photo.png", "ports.csv"]
    page = Page(show(rendered.content.decode(), form))
    folder = f"{rendered.name}.files"
    assert page.list_values("src") == [f"{folder}/harbour-photo.png"]
    assert f"{folder}/ports.csv" in page.list_values("href")
    assert "port,depth" in page.code


def test_the_words_of_a_pdf_are_placed_as_a_text(documents, render):
    words = keep_file(documents, "chart.pdf", b"depth 3 m\n", mime_type="application/pdf", is_derived=True)
    notes = keep_file(documents, "notes.md", b"# depth\n", is_derived=True)

    assert sorted(render.view(attach(words, notes), Format.HTML).attachments) == ["chart-pdf.txt", "notes.md"]


def test_a_small_picture_stands_in_the_page_itself(documents, render):
    content = make_png(4, 4)

    page = Page(render(attach(keep_file(documents, "dot.png", content))))

    assert page.list_values("src") == [f"data:image/png;base64,{base64.b64encode(content).decode()}"]


@pytest.mark.parametrize(
    ("name", "mime_type", "content"),
    [
        ("page.png", "image/png", b"<html><script>alert(1)</script>"),
        ("big.svg", "image/svg+xml", b"<svg onload='alert(1)'>" + b" " * 40_000),
        ("page.html", "text/html", b"<script>alert(1)</script>"),
    ],
)
def test_what_only_claims_to_be_a_picture_or_could_run_is_a_file(documents, render, name, mime_type, content):
    rendered = render.view(attach(keep_file(documents, name, content, mime_type=mime_type)))

    page = Page(rendered.content.decode())
    assert "img" not in page.list_tags()
    assert not any(file.endswith((".svg", ".html")) for file in rendered.attachments)


def test_a_small_drawing_is_shown_as_an_image_in_which_nothing_runs(documents, render):
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"

    page = Page(render(attach(keep_file(documents, "plan.svg", drawing))))

    (source,) = page.list_values("src")
    assert source.startswith("data:image/svg+xml;base64,")


def test_equal_names_with_other_bytes_are_two_files_and_equal_bytes_are_one(documents, render):
    first, second = keep_file(documents, "a.txt", b"one"), keep_file(documents, "A.txt", b"two")

    rendered = render.view(attach(first, second, first))

    assert len(rendered.attachments) == 2
    assert len(Page(rendered.content.decode()).list_values("href")) == 3


def test_bytes_from_inside_a_record_are_found_in_the_version_that_has_them(documents, render):
    from store.identity import hash_bytes

    content = b"inside"
    inline = Attachment(name="i.txt", status="present", blake3=hash_bytes(content), extra_file="i.bin")
    view = keep(documents, attach(inline), extras={"i.bin": content})

    rendered = render.view(view._replace(versions=(*view.versions,)))

    assert rendered.attachments["i.txt"].file == "extras/i.bin"


@pytest.mark.parametrize("form", FORMATS)
def test_a_missing_attachment_is_a_note_and_no_dead_link(render, form):
    page = Page(show(render(attach(Attachment(name="chart.pdf", reason="not in export")), form), form))

    assert "chart.pdf" in page.text
    assert "not in export" in page.text
    assert not [value for value in page.list_values("href", "src") if "chart" in value]


def test_an_attachment_that_lies_elsewhere_is_a_link_to_a_safe_address_only(render):
    safe = Attachment(name="film", status="external", url="https://example.org/a b")
    unsafe = Attachment(name="trap", status="external", url="file:///etc/passwd")

    links = Page(render(attach(safe, unsafe))).list_values("href")

    assert "https://example.org/a%20b" in links
    assert not [link for link in links if "passwd" in link]


# Facts


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_reader_should_know_stands_at_the_head(render, form):
    view = make_view(
        say("s1", "x", role="system", hidden="context"),
        say("u1", "hello", created="2026-03-01T09:00:02.5Z", parent="s1"),
        say("a1", "hi", model="gpt-4o", parent="u1", is_gone=True),
        project_name="Sailing",
        is_migrated=True,
    )

    text = Page(show(render(view._replace(is_gone=True, conflicts=("a1 differs",)), form), form)).text

    for words in (
        "ChatGPT", "gpt-4o", "2025-03-01 09:00 UTC", "3 messages", "no longer in the newest export", "a1 differs",
        "2026-03-01 09:00 UTC", "1 hidden message not shown", "Markdown of an earlier tool",
        "A newer export of the account does not have this conversation",
    ):  # fmt: skip
        assert words in text


def test_a_conversation_without_times_has_those_of_its_messages(render):
    messages = chain(say("u1", "x", created="2026-02-03T04:05:06Z"), say("a1", "y", created="2026-02-01T00:00:00Z"))
    view = make_view(*messages, created=None, updated=None)

    rendered = render.view(view, Format.MARKDOWN)

    facts = yaml.safe_load(rendered.content.decode().split("---\n")[1])
    assert (facts["created"], facts["updated"]) == ("2026-02-01T00:00:00Z", "2026-02-03T04:05:06Z")
    assert rendered.name.startswith("2026-02-01-")


def test_names_of_formats_and_options_cover_what_is_rendered(render):
    for form, branch, shows_hidden in itertools.product(FORMATS, ("all", "active", 1), (False, True)):
        assert render(make_view(say("u1", "hello")), form, branch=branch, shows_hidden=shows_hidden).count("hello") >= 1


def test_a_conversation_that_is_empty_says_so(render):
    for form in FORMATS:
        assert "no messages to show" in render(make_view(), form)


def test_the_folder_of_the_templates_is_not_the_working_folder():
    assert Path(SHIPPED_FOLDER).is_absolute()
