"""Markdown that people and models wrote, as a part of a page: as safe HTML, or as Markdown that keeps within its place.

    render_html      Markdown ▸ tokens ▸ HTML ▸ the list of safe_html
    contain          Markdown ▸ Markdown without raw HTML, unsafe links, remote images, and without what would reach
                     beyond the message: open fences, headings of the page's own levels, link definitions, front matter

Both read with the same parser, without HTML: what looks like a tag is text. A text that is too long to be parsed is
shown as it is, as code. Pure.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.common.utils import normalizeReference
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from pipeline.archive.transcripts.safe_html import ALLOWED_SCHEMES, clean_html, highlight_code

PARSED_CHARACTERS = 200_000  # of one text: honest prose takes the parser 0.4 s, what is made to be slow 5 s
DEEPEST_NESTING = 40  # of lists and quotations; the parser leaves out what lies deeper
HEADING_SHIFT = 2  # the page has the levels 1 and 2
LOWEST_HEADING = 6

_LANGUAGE = re.compile(r"[A-Za-z0-9+#._-]{1,40}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_INVISIBLE = re.compile("[\x00-\x20\x7f-\xa0\u2000-\u200f\u2028-\u202f\u3000\ufeff]")


def is_safe_address(address: str) -> bool:
    """Whether a link may lead there: a whole web or mail address. A reader decides whether to follow it.

    >>> is_safe_address("https://example.org/a"), is_safe_address("java&#115;cript:alert(1)"), is_safe_address("//host")
    (True, False, False)
    """
    match = _SCHEME.match(_INVISIBLE.sub("", html.unescape(address)))
    return match is not None and match[1].lower() in ALLOWED_SCHEMES


def clean_address(address: str) -> str | None:
    """Return an address that can stand in a link as it is; None if no link may lead there.

    >>> clean_address("https://example.org/a b>c"), clean_address("file:///etc/passwd")
    ('https://example.org/a%20b%3Ec', None)
    """
    return quote(address.strip(), safe="%/:?#[]@!$&()*+,;=~-._") if is_safe_address(address) else None


def name_language(info: str | None) -> str:
    """Return the language that the words after a fence name, if it is a plain name."""
    match = _LANGUAGE.match((info or "").strip())
    return match[0] if match else ""


# As HTML


def render_html(text: str) -> str:
    """Return a text as safe HTML. Formulas stay as they were written; images become links."""
    if len(text) > PARSED_CHARACTERS:
        return render_code(text, "")
    parser = _make_parser()
    tokens = parser.parse(text)
    if any(token.level >= DEEPEST_NESTING - 1 for token in tokens):
        return render_code(text, "")
    for token in tokens:
        _fit_token(token)
    _mark_tasks(tokens)
    return clean_html(parser.renderer.render(tokens, parser.options, {}))


def render_code(code: str, language: str) -> str:
    """Return code as safe HTML."""
    return f"<pre><code>{highlight_code(code, language)}</code></pre>\n"


def _fit_token(token: Token) -> None:
    """Lower a heading below those of the page; an alignment becomes a class, for the policy allows no style."""
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(int(token.tag[1]) + HEADING_SHIFT, LOWEST_HEADING)}"
    elif token.type in ("td_open", "th_open") and (style := token.attrs.pop("style", None)):
        token.attrs["class"] = str(style).removeprefix("text-align:")
    elif token.type == "inline" and token.children:
        token.children = list(_link_addresses(token.children))


_TASK_BOXES = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}


def _mark_tasks(tokens: Sequence[Token]) -> None:
    """Show the boxes at the beginnings of list items, as in "- [x] buy rope"."""
    for item, _paragraph, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if item.type == "list_item_open" and inline.type == "inline" and inline.children:
            first = inline.children[0]
            if box := _TASK_BOXES.get(first.content[:4]):
                first.content = box + first.content[4:]


_ADDRESS = re.compile(r"\bhttps?://[^\s<>\"'`\\^{|}\[\]]+", re.IGNORECASE)
_TRAILING = ".,;:!?*_~'\"»”’"


def _link_addresses(children: Sequence[Token]) -> Iterator[Token]:
    """Yield inline tokens; web addresses in the text become links, links that may not be followed become text."""
    links: list[Token] = []  # those that are open
    for child in children:
        if child.type == "link_open":
            links.append(child)
        opening = links[-1] if links else None
        if child.type == "link_close":
            links.pop()
        if child.type == "text" and opening is None and "://" in child.content:
            yield from _split_addresses(child.content)
        elif child.type in ("link_open", "link_close") and opening and not is_safe_address(_address_of(opening)):
            yield _text_token("" if child.type == "link_open" else _tell_address(_address_of(opening)))
        else:
            yield child


def _address_of(link: Token) -> str:
    return str(link.attrs["href"])


def _tell_address(address: str) -> str:
    """Return what stands behind the words of a link that leads nowhere; a file of a sandbox is shown by its name."""
    return "" if _is_sandbox(address) else f" ({address})"


def _split_addresses(text: str) -> Iterator[Token]:
    position = 0
    for match in _ADDRESS.finditer(text):
        address = _cut_address(match[0])
        yield _text_token(text[position : match.start()])
        yield Token("link_open", "a", 1, attrs={"href": address})
        yield _text_token(address)
        yield Token("link_close", "a", -1)
        position = match.start() + len(address)
    yield _text_token(text[position:])


def _cut_address(address: str) -> str:
    """Return an address without the punctuation of the sentence around it."""
    closed = address.count("(") - address.count(")")
    while address[-1] in _TRAILING or (address[-1] == ")" and closed < 0):
        closed += address[-1] == ")"
        address = address[:-1]
    return address


def _text_token(text: str) -> Token:
    return Token("text", "", 0, content=text)


def _render_fence(_renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return render_code(tokens[index].content, name_language(tokens[index].info))


def _render_code_block(_renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return render_code(tokens[index].content, "")


def _render_image(_renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    """Return a link in the place of an image: showing it would ask its server."""
    address = str(tokens[index].attrs["src"])
    words = f'<span class="remote">image: {html.escape(tokens[index].content or "no description")}</span>'
    if not is_safe_address(address):
        return words + html.escape(_tell_address(address))
    return f'<a href="{html.escape(address)}">{words}</a>'


# Formulas stay as they were written: Markdown would take their backslashes, underscores and asterisks.
_DOLLAR_FORMULA = re.compile(r"\$(?=[^\s$])[^\n$]{1,400}(?<=[^\s\\$])\$(?![\w$])")
_FORMULA_ENDS = {"\\(": "\\)", "\\[": "\\]", "$$": "$$"}
_FORMULA_CHARACTERS = 4_000


def _read_formula(state: StateInline, silent: bool) -> bool:
    """Take a formula at the present place: \\(…\\), \\[…\\], $$…$$, or $…$ where it cannot be a sum of money."""
    end = _find_formula_end(state)
    if end is None:
        return False
    if not silent:
        state.push("formula", "", 0).content = state.src[state.pos : end]
    state.pos = end
    return True


def _find_formula_end(state: StateInline) -> int | None:
    opener = state.src[state.pos : state.pos + 2]
    closer = _FORMULA_ENDS.get(opener)
    if closer is None:
        match = _DOLLAR_FORMULA.match(state.src, state.pos, state.posMax) if opener[:1] == "$" else None
        return match.end() if match else None
    end = state.src.find(closer, state.pos + 2, min(state.posMax, state.pos + _FORMULA_CHARACTERS))
    return end + 2 if end > state.pos + 2 else None


def _render_formula(_renderer: Any, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return f'<span class="formula">{html.escape(tokens[index].content)}</span>'


_RULES = {
    "fence": _render_fence,
    "code_block": _render_code_block,
    "image": _render_image,
    "formula": _render_formula,
}


# As Markdown


class Segment(NamedTuple):
    """Lines of the source that are one piece of running text, or rows of a table."""

    first: int
    end: int
    is_table: bool


def contain(text: str) -> str:
    """Return a text as Markdown that shows the same and cannot reach beyond its message. No newline at the end."""
    if len(text) > PARSED_CHARACTERS:
        return fence_code(text, "")
    lines = text.strip("\n").split("\n")
    env: dict[str, Any] = {}
    tokens = _make_parser().parse("\n".join(lines), env)
    links = {label: str(found["href"]) for label, found in env.get("references", {}).items()}
    written = _escape_lines(lines, tokens, links)
    for token in reversed(tokens):  # from the end, so that the places of earlier ones stay
        _rewrite_block(token, written)
    return "\n".join(written)


def _escape_lines(lines: list[str], tokens: Sequence[Token], links: Mapping[str, str]) -> list[str]:
    """Return the lines with all that is not code made harmless."""
    written = list(lines)
    done = {number for token in tokens if token.type in ("fence", "code_block") for number in _lines_of(token)}
    for first, end, is_table in _find_segments(tokens):
        if done.intersection(range(first, end)):
            continue  # no running text after all; its lines are taken one by one
        if is_table:
            written[first:end] = [_escape_row(line, links) for line in lines[first:end]]
        else:
            written[first:end] = escape_inline("\n".join(lines[first:end]), links).split("\n")
        done.update(range(first, end))
    others = set(range(len(lines))) - done  # link definitions, rules, bare list markers
    for token in tokens:
        before = _lines_of(token).start - 1
        if token.type == "code_block" and before in others and lines[before].strip():
            others.update(_lines_of(token))  # behind a definition that becomes text, it is no code
    for number in others:
        written[number] = escape_inline(lines[number], links)
    return written


def _find_segments(tokens: Sequence[Token]) -> Iterator[Segment]:
    for token in tokens:
        if token.map and token.type in ("inline", "table_open"):
            yield Segment(token.map[0], token.map[1], token.type == "table_open")


def _lines_of(token: Token) -> range:
    return range(*token.map) if token.map else range(0)


_CELL_BORDER = re.compile(r"(?<!\\)\|")


def _escape_row(line: str, links: Mapping[str, str]) -> str:
    """Return a row of a table; code does not reach from one cell into the next."""
    return "|".join(escape_inline(cell, links) for cell in _CELL_BORDER.split(line))


_FENCE = re.compile(r"(.*?(?:`{3,}|~{3,})).*")


def _rewrite_block(token: Token, written: list[str]) -> None:
    """Change a block that would reach beyond the message: an open fence, a heading, a rule of dashes."""
    first, end = token.map or (0, 0)
    if token.type == "fence":
        language = name_language(token.info)
        if token.level > 0:  # ends with the list or the quotation that it is in
            written[first] = _FENCE.sub(rf"\g<1>{language}", written[first])
        else:
            written[first:end] = fence_code(token.content.removesuffix("\n"), language).split("\n")
    elif token.type == "heading_open" and token.level == 0:
        level = min(int(token.tag[1]) + HEADING_SHIFT, LOWEST_HEADING)
        is_underlined = token.markup in ("=", "-")
        words = " ".join(line.strip() for line in written[first : end - is_underlined])
        written[first:end] = [f"{'#' * level} {words if is_underlined else words.lstrip('#').strip()}"]
    elif token.type == "hr" and token.level == 0:
        written[first:end] = ["* * *"]


def fence_code(code: str, language: str) -> str:
    """Return code between fences that are longer than any run of backticks within. No newline at the end."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.rstrip(chr(10))}\n{fence}"


_CODE_MARKS = re.compile("`+")
_TAG_ON_NEXT_LINE = re.compile(r"\n[ \t>]*<[A-Za-z/!?]")
_WEB_ADDRESS = re.compile(r"<https?://[^\s<>`\\]*>", re.IGNORECASE)
_DESTINATION = re.compile(r"\]\(\s*(<[^<>\n]*>|[^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)")
_SPECIAL = re.compile(r"[\\`<!\[\]{]")
_TAG_START = re.compile(r"<(?=[A-Za-z/!?])")
_DEFINITION = re.compile(r"\[(?:[^\[\]\\]|\\.){1,999}\]:", re.DOTALL)
_LIST_MARKS = " \t>*+-.)0123456789"
_REFERENCE = re.compile(r"\[([^\[\]\\]{1,200})\](?:\[([^\[\]\\]{0,200})\])?(?![(:])")


def escape_inline(text: str, links: Mapping[str, str]) -> str:
    """Return running text with tags and unsafe links as text, images as links, and references with their address.

    Code between backticks stays as it is. `links` has the address of each label, as the parser writes labels.

    >>> escape_inline("`<b>` <b> ![x](https://a.b/c) [y](javascript:z)", {})
    '`<b>` &lt;b> \\\\![x](https://a.b/c) [y\\\\](javascript:z)'
    """
    written: list[str] = []
    position, unmatched = 0, set[int]()
    while match := _SPECIAL.search(text, position):
        written.append(text[position : match.start()])
        piece, position = _escape_at(text, match.start(), links, unmatched)
        written.append(piece)
    return "".join([*written, text[position:]])


class Piece(NamedTuple):
    written: str
    end: int  # where the source goes on


def _escape_at(text: str, start: int, links: Mapping[str, str], unmatched: set[int]) -> Piece:
    """Return what is written for the special character at `start`, and for what belongs to it."""
    character = text[start]
    if character == "\\":
        following = text[start + 1 : start + 2]
        return Piece("&lt;" if following == "<" else character + following, start + 1 + len(following))
    if character == "`":
        return _copy_code(text, start, unmatched)
    if character == "<":
        address = _WEB_ADDRESS.match(text, start)
        if address and is_safe_address(address[0][1:-1]):
            return Piece(address[0], address.end())
        return Piece("&lt;" if _TAG_START.match(text, start) else "<", start + 1)
    if character == "!":
        return Piece("\\!" if text.startswith("[", start + 1) else "!", start + 1)
    if character == "[":
        return _write_reference(text, start, links)
    if character == "]":
        return _write_destination(text, start)
    return Piece("\\{" if text.startswith("`", start - 1) and start else "{", start + 1)


def _copy_code(text: str, start: int, unmatched: set[int]) -> Piece:
    """Copy code up to the backticks that end it; backticks that nothing ends are text, of any length only once.

    A tag at the beginning of a line is HTML where that works, in code too: such code becomes text.
    """
    marks = _CODE_MARKS.match(text, start)
    assert marks is not None
    length = len(marks[0])
    if length not in unmatched:
        for closing in _CODE_MARKS.finditer(text, marks.end()):
            if len(closing[0]) == length:
                if _TAG_ON_NEXT_LINE.search(text, marks.end(), closing.start()):
                    return Piece("\\`" * length, marks.end())
                return Piece(text[start : closing.end()], closing.end())
        unmatched.add(length)
    return Piece(marks[0], marks.end())


def _write_reference(text: str, start: int, links: Mapping[str, str]) -> Piece:
    """Write the address of a label into the link itself, for a definition would hold for the whole page."""
    if _DEFINITION.match(text, start) and not text[text.rfind("\n", 0, start) + 1 : start].strip(_LIST_MARKS):
        return Piece("\\[", start + 1)
    match = _REFERENCE.match(text, start) if links else None
    address = links.get(normalizeReference(match[2] or match[1])) if match else None
    if match is None or address is None:
        return Piece("[", start + 1)
    if not is_safe_address(address):
        return Piece(f"\\[{escape_inline(match[1], {})}\\]", match.end())
    return Piece(f"[{escape_inline(match[1], {})}](<{address}>)", match.end())


def _write_destination(text: str, start: int) -> Piece:
    """Copy the address of a link if it may be one; otherwise the link is broken up, and shows what it was."""
    match = _DESTINATION.match(text, start)
    if match is None:
        return Piece("]", start + 1)
    address = match[1].removeprefix("<").removesuffix(">")
    if is_safe_address(re.sub(r"\\(?=[!-/:-@\[-`{-~])", "", address)):
        return Piece(match[0], match.end())
    return Piece("\\]", match.end() + text.startswith(")", match.end()) if _is_sandbox(address) else start + 1)


def _is_sandbox(address: str) -> bool:
    """Whether a link names a file that a tool made; it is shown as an attachment."""
    return address.startswith("sandbox:")


@lru_cache(maxsize=1)
def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST_NESTING}).enable(["table", "strikethrough"])
    parser.validateLink = lambda address: True  # type: ignore[assignment, method-assign]  # see _link_addresses
    parser.inline.ruler.before("escape", "formula", _read_formula)
    for kind, rule in _RULES.items():
        parser.add_render_rule(kind, rule)
    return parser
