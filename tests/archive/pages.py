"""What a browser would find in a page: every element, every address, every handler."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import NamedTuple

from markdown_it import MarkdownIt


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str]


class Page(HTMLParser):
    """A parsed page. `text` is what is shown, without style and script."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.open: list[str] = []
        self.text = ""
        self.code = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(Element(tag, {name: value or "" for name, value in attributes}))
        if tag not in ("meta", "img", "br", "hr", "input", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.text += data
        if "code" in self.open:
            self.code += data

    def list_tags(self) -> set[str]:
        return {element.tag for element in self.elements}

    def list_values(self, *names: str) -> list[str]:
        return [element.attributes[name] for element in self.elements for name in names if name in element.attributes]


_HARMLESS = """
    html head meta title style body main header footer section article figure figcaption details summary dl dt dd
    h1 h2 h3 h4 h5 h6 p a b i em strong s del code pre blockquote ul ol li hr br img table thead tbody tr th td
    div span time
"""
HARMLESS_TAGS = set(_HARMLESS.split())


INDEX = "../../index.html"  # which an HTML transcript itself links to, and no text may


def list_dangers(source: str) -> list[str]:
    """Return everything in a page that could run, load, or lead to an unsafe address."""
    page = Page(source)
    dangers = [f"<{tag}>" for tag in page.list_tags() - HARMLESS_TAGS]
    for element in page.elements:
        for name, value in element.attributes.items():
            if name.startswith("on") or name in ("style", "srcdoc", "srcset", "formaction", "ping", "background"):
                dangers.append(f"{element.tag} {name}")
            if name == "src" and not re.match(
                r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,|[^:/]+\.files/", value
            ):
                dangers.append(f"src {value}")
            if (element.tag, name, value) == ("a", "href", INDEX) and element.attributes.get("class") == "home":
                continue
            if name == "href" and not re.match(r"https?://|mailto:|#|[^:/]+\.files/[^/]+$", value):
                dangers.append(f"href {value}")
    return dangers


def show_markdown(source: str) -> str:
    """Return Markdown as the most permissive of viewers shows it: raw HTML works, and any address."""
    viewer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    viewer.validateLink = lambda url: True
    body = source.removeprefix("---\n").partition("\n---\n")[2] if source.startswith("---\n") else source
    return viewer.render(body)
