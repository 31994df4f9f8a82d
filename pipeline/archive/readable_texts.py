"""Texts of an export as a reader sees them: nothing hidden, nothing that changes the reading direction. Pure.

Every text goes through `clean_text` before it reaches a page. What a reader cannot see but a program obeys (controls,
bidi overrides, private characters) is written out; marks without a meaning outside their provider go.
"""

from __future__ import annotations

import json
import re

# What ChatGPT puts around references: U+E200 kind U+E202 token … U+E201. A start that is never ended goes alone.
_MARKER = re.compile("\ue200([^\ue200\ue201]*)\ue201")
_OLD_CITATION = re.compile(r"【\d{1,4}(?::\d{1,4})?†[^】\n]{0,80}】")
# Colours and cursor movements of terminals, as tools print them.
_TERMINAL = re.compile("\x1b(?:\\[[0-9;:?<=>]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)|[()][0-9A-B])")
_NEWLINES = re.compile("\r\n?|\u2028|\u2029")
# Zero-width characters that only hide; joiners (U+200C, U+200D) and direction marks stay: scripts and emoji need them.
_NOTHING = re.compile("[\u00ad\u115f\u1160\u180e\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff\ufff9-\ufffb]")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff"
    "\U000e0000-\U000e007f\U000f0000-\U0010ffff]"
)
_CONTROL_PICTURES = 0x2400  # U+2400 pictures U+0000, and so on up to U+001F
_WHITESPACE = re.compile(r"\s+")


def clean_text(text: str) -> str:
    r"""Return a text with LF only, without citation marks and terminal colours, its hidden characters written out.

    >>> clean_text("So.\ue200cite\ue202turn0search3\ue201 \x1b[31mred\x1b[0m a\u202eb\x00\r\n")
    'So. red a⟦U+202E⟧b␀\n'
    """
    if text.isascii() and text.isprintable():
        return text
    text = _MARKER.sub(_read_marker, _NEWLINES.sub("\n", text))
    text = _OLD_CITATION.sub("", _TERMINAL.sub("", text))
    return _HIDDEN.sub(_write_out, _NOTHING.sub("", text))


def clean_line(text: str) -> str:
    """Return a clean text in one line: for titles and names."""
    return _WHITESPACE.sub(" ", clean_text(text)).strip()


def _read_marker(match: re.Match[str]) -> str:
    """Return what a reader is to see of a marker: the words of a link or a name, and nothing of a mere reference."""
    kind, *tokens = match[1].split("\ue202")
    if kind == "url" and len(tokens) > 1:
        return f"{tokens[0]} ({tokens[1]})"
    if kind == "entity" and tokens:
        try:
            return str(json.loads(tokens[0])[1])
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
    return ""


def _write_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xE200 <= code <= 0xE20F:
        return ""  # a part of a marker that was cut
    return chr(_CONTROL_PICTURES + code) if code < ord(" ") else f"⟦U+{code:04X}⟧"
