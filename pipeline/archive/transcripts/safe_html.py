"""HTML that can be put into a page: what is not on a short list does not come through. Pure.

Code is coloured by Pygments with classes, for known languages and up to a size: a lexer is written for honest code,
and some take quadratic time over lines that no person writes.
"""

from __future__ import annotations

import html
import re
from functools import cache

import nh3
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name

ALLOWED_SCHEMES = {"http", "https", "mailto"}
HIGHLIGHTED_CHARACTERS = 30_000
HIGHLIGHTED_LINE = 2_000  # characters

# Names that people write after ```; each is one that Pygments knows.
_LANGUAGES = """
    bash bat c c# c++ clojure cmake cpp cs csharp css csv dart diff docker dockerfile elixir erlang fortran fsharp go
    golang graphql groovy haskell hcl html ini java javascript js json jsonc jsx julia kotlin kt latex less lisp lua
    make makefile matlab nginx nix objective-c ocaml patch perl php powershell ps1 protobuf py py3 pycon python python3
    r racket rb rs ruby rust scala scheme scss sh shell sql svelte swift terraform tex toml ts tsx typescript udiff vb
    verilog vim vue xml yaml yml zig zsh
"""
HIGHLIGHTED_LANGUAGES = frozenset(_LANGUAGES.split())

_TAGS = "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul"
_ATTRIBUTES = {
    "a": {"href", "title"},
    "code": {"class"},
    "span": {"class"},
    "ol": {"start"},
    "td": {"class"},
    "th": {"class"},
}
_CLASS = re.compile(r"[A-Za-z0-9 _-]{1,60}")
_CLEANER = nh3.Cleaner(
    tags=set(_TAGS.split()),
    attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
    attribute_filter=lambda _tag, name, value: value if name != "class" or _CLASS.fullmatch(value) else None,
    url_schemes=ALLOWED_SCHEMES,
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
)
_FORMATTER = HtmlFormatter(nowrap=True)


def clean_html(fragment: str) -> str:
    """Return a fragment with the allowed tags and attributes only, and links to ALLOWED_SCHEMES only."""
    cleaned: str = _CLEANER.clean(fragment)
    return cleaned


def highlight_code(code: str, language: str) -> str:
    """Return code as escaped HTML with a class for each kind of token; plain where it is not coloured."""
    name = language.lower()
    if name not in HIGHLIGHTED_LANGUAGES or len(code) > HIGHLIGHTED_CHARACTERS or _has_long_line(code):
        return html.escape(code)
    coloured: str = highlight(code, _make_lexer(name), _FORMATTER)
    return coloured


@cache
def _make_lexer(name: str) -> Lexer:
    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


def _has_long_line(code: str) -> bool:
    return any(len(line) > HIGHLIGHTED_LINE for line in code.splitlines())
