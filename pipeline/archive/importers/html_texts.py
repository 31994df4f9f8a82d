"""HTML as Markdown: what it says, without what it does. Nothing is fetched, run or passed on as HTML.

<p>A <b>diesel</b> engine.</p>  ->  A **diesel** engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape, unescape

DEEPEST = 64  # levels; below, elements add nothing to the tree but their text
# A value in quotes holds no `<`, so that a quote that is not closed ends at the next tag.
TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/<>]{0,60})((?:[^<>"']++|"[^"<]*+"|'[^'<]*+')*+)>""")
ATTRIBUTE = re.compile(r"""([^\s=/"'<>]++)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'<>]++)))?+""")
RAW = ("script", "style", "textarea", "title")
RAW_ENDS = {tag: re.compile(f"</{tag}[ />]", re.IGNORECASE) for tag in RAW}
SILENT = frozenset({"script", "style", "template", "iframe", "object", "embed", "svg", "noscript", "head", "title"})
VOID = frozenset({"br", "hr", "img", "input", "meta", "link", "col", "wbr", "source", "area", "base"})
BLOCKS = frozenset({"article", "aside", "blockquote", "details", "div", "dl", "dt", "dd", "figure", "footer", "form"})
BLOCKS |= {"h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"}
BLOCKS |= {"summary", "table", "tbody", "thead", "tfoot", "td", "th", "tr", "ul"}
MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*", "del": "~~", "s": "~~"}
SAFE_URL = re.compile(r"(?:https?|mailto):", re.IGNORECASE)
# What Markdown would read as its own; an underscore within a word is none.
SPECIAL = re.compile(r"[\\`*\[\]<]|(?<![^\W_])_|_(?![^\W_])")
LINE_START = re.compile(r"^( {0,3})(#{1,6}(?=\s|$)|[>+-]|={3,}|~{3,})", re.MULTILINE)
NUMBERED = re.compile(r"^( {0,3}\d{1,9})([.)])(?=\s|$)", re.MULTILINE)
LANGUAGE = re.compile(r"(?:^|\s)lang(?:uage)?-([A-Za-z0-9+#._-]{1,40})")


@dataclass(slots=True)
class Element:
    """An element of HTML."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)


class _TreeBuilder:
    """Builds a tree of tags as they come: what is not closed is closed at the end of its parent."""

    def __init__(self) -> None:
        self.root = Element("")
        self.open = [self.root]
        self.ignored: list[str] = []  # open tags beyond the deepest level

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in ("p", "li", "tr", "td", "th") and self.open[-1].tag == tag:
            self.open.pop()
        if len(self.open) >= DEEPEST:
            self.ignored += [] if tag in VOID else [tag]
            return
        element = Element(tag, attributes)
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def end(self, tag: str) -> None:
        if self.ignored and self.ignored[-1] == tag:
            self.ignored.pop()
        elif any(element.tag == tag for element in self.open[1:]):
            while self.open.pop().tag != tag:
                pass

    def add_text(self, text: str) -> None:
        if text:
            self.open[-1].children.append(unescape(text))


def parse_html(text: str) -> Element:
    """Return the tree of a piece of HTML; whatever is wrong with it.

    Every character is looked at a few times at most: the standard library's parser takes minutes for 200 KB of tags
    that are not closed.
    """
    builder = _TreeBuilder()
    at = 0
    while (start := text.find("<", at)) >= 0:
        builder.add_text(text[at:start])
        match = TAG.match(text, start)
        if match and match[1]:
            builder.end(match[2].lower())
            at = match.end()
        elif match:
            tag = match[2].lower()
            builder.begin(tag, _read_attributes(match[3]))
            at = _pass_raw_text(text, match.end(), tag) if tag in RAW else match.end()
        else:
            at = _pass_markup(text, start)
            builder.add_text("" if at > start + 1 else "<")
    builder.add_text(text[at:])
    return builder.root


def _read_attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in ATTRIBUTE.finditer(text):
        value = next((value for value in match.groups()[1:] if value is not None), "")
        found.setdefault(match[1].lower(), unescape(value))
    return found


def _pass_raw_text(text: str, at: int, tag: str) -> int:
    """Return where the text of a script ends, in which a tag is none: at its end tag, or nowhere."""
    match = RAW_ENDS[tag].search(text, at)
    return match.start() if match else len(text)


def _pass_markup(text: str, start: int) -> int:
    """Return where a comment or declaration ends; of a lone `<` the next character."""
    if text.startswith("<!--", start):
        end = text.find("-->", start + 4)
        return end + 3 if end >= 0 else len(text)
    if text.startswith(("<!", "<?"), start):
        end = text.find(">", start)
        return end + 1 if end >= 0 else len(text)
    return start + 1


def find_elements(element: Element, class_name: str) -> list[Element]:
    """Return the outermost elements of a class, in order."""
    found: list[Element] = []
    for child in element.children:
        if isinstance(child, Element):
            has_it = class_name in child.attributes.get("class", "").split()
            found += [child] if has_it else find_elements(child, class_name)
    return found


def plain_text(nodes: Iterable[Element | str]) -> str:
    """Return the words, a line break for each <br>."""
    return "".join(
        node if isinstance(node, str) else "\n" if node.tag == "br" else plain_text(node.children)
        for node in nodes
        if isinstance(node, str) or node.tag not in SILENT
    )


def write_html(nodes: Iterable[Element | str]) -> str:
    """Return nodes as HTML again."""
    return "".join(escape(node, quote=False) if isinstance(node, str) else _write_element(node) for node in nodes)


def _write_element(element: Element) -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attributes.items())
    if element.tag in VOID:
        return f"<{element.tag}{attributes}>"
    return f"<{element.tag}{attributes}>{write_html(element.children)}</{element.tag}>"


def to_markdown(html: str) -> str:
    """Return HTML as Markdown. Words that look like Markdown are escaped; scripts and styles are left out."""
    return "\n\n".join(_blocks(parse_html(html).children)).strip()


def _blocks(nodes: Sequence[Element | str]) -> list[str]:
    """Return the blocks of nodes: paragraphs, lists, tables."""
    blocks: list[str] = []
    line: list[Element | str] = []
    for node in nodes:
        if isinstance(node, Element) and _has_block(node):
            blocks += [*_paragraph(line), *_block(node)]
            line = []
        else:
            line.append(node)
    return [*blocks, *_paragraph(line)]


def _has_block(element: Element) -> bool:
    return element.tag in BLOCKS or any(
        isinstance(child, Element) and _has_block(child) for child in element.children if element.tag not in SILENT
    )


def _paragraph(nodes: Sequence[Element | str]) -> list[str]:
    text = _inline(nodes).strip()
    text = LINE_START.sub(r"\1\\\2", text)
    text = NUMBERED.sub(r"\1\\\2", text)
    return [text] if text else []


def _block(element: Element) -> list[str]:
    tag = element.tag
    if tag == "hr":
        return ["---"]
    if tag == "pre":
        return [_fence(element)]
    if tag in ("ul", "ol"):
        return [_list(element)]
    if tag == "table":
        return _table(element)
    if tag == "blockquote":
        quoted = "\n\n".join(_blocks(element.children))
        return ["\n".join(f"> {line}".rstrip() for line in quoted.split("\n"))] if quoted else []
    if tag[:1] == "h" and tag[1:].isdigit():
        text = " ".join(_inline(element.children).split())
        return [f"{'#' * int(tag[1:])} {text}"] if text else []
    return _blocks(element.children)


def _fence(element: Element) -> str:
    code = plain_text(element.children).strip("\n")
    classes = [element.attributes.get("class", "")]
    classes += [child.attributes.get("class", "") for child in element.children if isinstance(child, Element)]
    language = next((match[1] for name in classes if (match := LANGUAGE.search(name))), "")
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])
    return f"{fence}{language}\n{code}\n{fence}"


def _list(element: Element) -> str:
    items = [child for child in element.children if isinstance(child, Element) and child.tag not in SILENT]
    lines = []
    for number, item in enumerate(items, 1):
        mark = f"{number}." if element.tag == "ol" else "-"
        blocks = _blocks(item.children) if item.tag == "li" else _block(item)
        indent = " " * (len(mark) + 1)
        separator = "\n" if all(block.lstrip().startswith(("- ", "1. ")) for block in blocks[1:]) else "\n\n"
        text = re.sub(r"\n(?=[^\n])", f"\n{indent}", separator.join(blocks))
        lines.append(f"{mark} {text}".rstrip())
    return "\n".join(lines)


def _table(element: Element) -> list[str]:
    rows = [[_cell(cell) for cell in row] for row in _rows(element)]
    rows = [row for row in rows if row]
    if not rows:
        return []
    width = max(map(len, rows))
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows]
    return ["\n".join([lines[0], f"|{' --- |' * width}", *lines[1:]])]


def _rows(element: Element) -> list[list[Element]]:
    rows: list[list[Element]] = []
    for child in element.children:
        if isinstance(child, Element) and child.tag == "tr":
            rows.append([cell for cell in child.children if isinstance(cell, Element)])
        elif isinstance(child, Element):
            rows += _rows(child)
    return rows


def _cell(element: Element) -> str:
    return " ".join(" ".join(_blocks(element.children)).split()).replace("|", "\\|")


def _inline(nodes: Sequence[Element | str]) -> str:
    text = "".join(_write_inline(node) for node in nodes)
    return re.sub(r"[ \t]*  \n[ \t]*", "  \n", text)


def _write_inline(node: Element | str) -> str:
    if isinstance(node, str):
        return SPECIAL.sub(r"\\\g<0>", re.sub(r"\s+", " ", node))
    if node.tag in SILENT:
        return ""
    if node.tag == "br":
        return "  \n"
    if node.tag == "img":
        return _link(node.attributes.get("alt") or "image", node.attributes.get("src", ""))
    if node.tag in ("code", "tt", "kbd", "samp"):
        return _code(plain_text(node.children))
    text = _inline(node.children)
    if node.tag == "a":
        return _link(text, node.attributes.get("href", ""))
    mark = MARKS.get(node.tag)
    if mark and text.strip():
        before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        return f"{before}{mark}{text.strip()}{mark}{after}"
    return text


def _code(code: str) -> str:
    if not code.strip():
        return code
    ticks = "`" * max([1, *(len(run) + 1 for run in re.findall("`+", code))])
    space = " " if "`" in code else ""
    return f"{ticks}{space}{' '.join(code.split())}{space}{ticks}"


def _link(text: str, url: str) -> str:
    """Return a link; an address of any other kind than these is left out, its words stay."""
    if not SAFE_URL.match(url.strip()):
        return text
    target = re.sub(r"[\s<>()\\]", lambda match: f"%{ord(match[0]):02X}", url.strip())
    return f"[{text.strip() or target}]({target})"
