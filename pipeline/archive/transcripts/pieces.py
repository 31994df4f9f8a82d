"""Pieces: blocks of messages as a page shows them, with clean texts. Knows neither Markdown nor HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.archive.conversations import Attachment, Block, Json, Kind, Message, Origin
from pipeline.archive.readable_texts import clean_line, clean_text
from pipeline.archive.transcripts.markdown_texts import clean_address

RESULT_LINES = 80
RESULT_CHARACTERS = 12_000
RAW_LINES = 200
FIELD_CHARACTERS = 100  # a longer value of a call stands in lines of its own
HINT_CHARACTERS = 80
PATCH_HEAD = "*** Begin Patch"  # with which every patch of Codex begins
THINKING = "Thinking"  # where the provider has no words for how long

_UNSAID_ORIGINS = (Origin.RUNTIME_CONTEXT, Origin.NOTIFICATION)
_TOLD_FLAGS = {
    "interrupted": "interrupted",
    "error": "error",
    "redacted": "redacted by the provider",
    "ambiguous": "one of several drafts or pieces",
    "cut_off": "cut off",
    "truncated": "truncated",
    "refusal": "refusal",
    "paste": "pasted",
}


class ShownAttachment(NamedTuple):
    """An attachment as a page shows it. Without `file` there are no bytes, and `reason` says why."""

    name: str
    facts: str  # such as "image/png, 12 KB"
    reason: str
    file: str | None  # where it lies, seen from the page, percent-encoded
    is_image: bool = False
    data_url: str | None = None  # of a small image
    width: int | None = None
    height: int | None = None
    preview: str | None = None  # of a text
    more: str = ""  # what the preview leaves out
    url: str | None = None  # of one that lies elsewhere


class Field(NamedTuple):
    """One value of a tool's input."""

    name: str
    text: str
    is_long: bool


class Piece(NamedTuple):
    """A block of a message as it is shown."""

    kind: str  # as Kind; "unknown" for what no importer knows
    text: str = ""
    title: str = ""
    hint: str = ""  # of a tool_use: words of its input that tell it from others, such as "pytest -x"
    language: str = ""
    anchors: tuple[str, ...] = ()  # of the messages that begin here, and not a turn
    notes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    call_id: str | None = None
    results: tuple[Piece, ...] = ()  # of a tool_use
    more: str = ""  # what was cut, such as "12 more lines"
    is_error: bool = False
    attachment: ShownAttachment | None = None


class Source(NamedTuple):
    """What an answer cites."""

    title: str
    url: str | None
    quote: str


ShowAttachment = Callable[[Attachment], ShownAttachment]


def show_block(block: Block, show_attachment: ShowAttachment, *, shows_hidden: bool) -> Iterator[Piece]:
    """Yield the pieces of a block: none, if nothing of it is to be seen."""
    notes = tuple(_TOLD_FLAGS[flag] for flag in block.flags if flag in _TOLD_FLAGS)
    if "unknown_type" in block.flags:
        yield from _show_unknown(block, notes)
    elif block.kind == Kind.CITATION:
        return
    elif block.kind == Kind.CONTEXT or block.origin in _UNSAID_ORIGINS:
        if shows_hidden:
            yield _show_context(block, notes)
    elif block.kind == Kind.TOOL_USE:
        yield _show_call(block, notes)
    elif block.kind == Kind.TOOL_RESULT:
        yield _show_result(block, notes)
    elif block.kind == Kind.THINKING:
        yield from _show_thinking(block, notes)
    elif block.origin == Origin.COMMAND and (texts := _read_command(block.text or "")):
        yield from (Piece(Kind.CODE, text, notes=notes) for text in texts)
    elif (text := clean_text(block.text or "").strip("\n")).strip():
        language = clean_line(block.language or "")
        yield Piece(block.kind if block.kind == Kind.CODE else Kind.TEXT, text, language=language, notes=notes)
    if block.attachment:
        yield Piece(Kind.ATTACHMENT, attachment=show_attachment(block.attachment), notes=notes)


# What a command of Claude Code stands in; the message repeats the name.
_COMMAND = re.compile(
    r"\s*<(command-name|command-args|command-message|bash-input|(?:bash|local-command)-(?:stdout|stderr))>(.*?)</\1>\s*",
    re.DOTALL,
)


def _read_command(text: str) -> list[str]:
    """Return a command as it was typed, or what it printed: [] if anything stands beside their marks.

    "<command-name>/review</command-name><command-args>berth.py</command-args>" -> ["/review berth.py"]
    """
    found: list[tuple[str, str]] = []
    position = 0
    while position < len(text):  # each match goes on where the last one ended, so that no text makes it slow
        match = _COMMAND.match(text, position)
        if match is None:
            return []
        found.append((match[1], clean_text(match[2]).strip()))
        position = match.end()
    names = [value for name, value in found if name in ("command-name", "command-args") and value]
    others = [value for name, value in found if not name.startswith("command-") and value]
    return [*([" ".join(names)] if names else []), *others]


def list_sources(message: Message) -> Iterator[Source]:
    """Yield what a message cites. The text of a citation is its title, and a quote where there is a title beside it."""
    for block in message.blocks:
        if block.kind == Kind.CITATION:
            address = clean_line(_find_text(block.extra, ("url", "uri")))
            title, text = clean_line(_find_text(block.extra, ("title", "name"))), clean_line(block.text or "")
            if title or text or address:
                yield Source(title or text or address, clean_address(address), text if title else "")


def _find_text(values: Mapping[str, Json], names: Sequence[str]) -> str:
    """Return the first of some values that is a text; "" if none is."""
    return next((value for name in names if isinstance(value := values.get(name), str)), "")


def _show_thinking(block: Block, notes: tuple[str, ...]) -> Iterator[Piece]:
    text = clean_text(block.text or "").strip("\n")
    if "recap" in block.flags:
        yield Piece(Kind.THINKING, title=clean_line(text) or "Thought")
    elif text.strip() or notes:
        title = clean_line(_find_text(block.extra, ("summary",))) or THINKING
        yield Piece(Kind.THINKING, text, title=title, notes=notes)


def _show_call(block: Block, notes: tuple[str, ...]) -> Piece:
    title = clean_line(block.tool_name or "tool")
    text, fields = _read_input(block)
    language = clean_line(block.language or ("python" if title in ("python", "repl") else ""))
    return Piece(
        Kind.TOOL_USE, text, title, _find_hint(block, text), language, notes=notes, fields=fields,
        is_error=block.is_error is True, call_id=block.call_id,
    )  # fmt: skip


def _find_hint(block: Block, text: str) -> str:
    """Return the first line of a call's input that says something: of several values that of the first short one."""
    values = [block.input[name] for name in sorted(block.input)] if isinstance(block.input, dict) else [text]
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    lines = min(texts, key=_is_long, default="").split("\n")
    line = clean_line(next((line for line in lines if line.strip() not in ("", PATCH_HEAD)), ""))
    return line if len(line) <= HINT_CHARACTERS else f"{line[:HINT_CHARACTERS]}…"


def _read_input(block: Block) -> tuple[str, tuple[Field, ...]]:
    """Return a call's input: text, or values by name."""
    value: Json = block.input
    if isinstance(value, dict):
        fields = tuple(_make_field(name, item) for name, item in value.items())
        return "", tuple(sorted(fields, key=lambda one: (one.is_long, one.name)))
    if value is None:
        return clean_text(block.text or ""), ()
    return (clean_text(value) if isinstance(value, str) else _write_json(value)), ()


def _make_field(name: str, value: Json) -> Field:
    text = clean_text(value) if isinstance(value, str) else _write_json(value)
    return Field(clean_line(name), text, is_long=_is_long(text))


def _is_long(text: str) -> bool:
    return "\n" in text or len(text) > FIELD_CHARACTERS


def _write_json(value: Json) -> str:
    return clean_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def _show_result(block: Block, notes: tuple[str, ...]) -> Piece:
    text, more = cut_text(clean_text(_read_result(block)).strip("\n"), lines=RESULT_LINES)
    if block.exit_code is not None:
        notes = (*notes, f"exit code {block.exit_code}")
    title = clean_line(block.tool_name or "")
    return Piece(
        Kind.TOOL_RESULT, text, title, notes=notes, more=more, is_error=block.is_error is True, call_id=block.call_id
    )


def _read_result(block: Block) -> str:
    """Return what a tool gave back: in words, or else as it was."""
    if block.text is not None:
        return block.text
    value = block.extra.get("content") if block.raw is None else block.raw
    return "" if value is None else _write_json(value)


def _show_context(block: Block, notes: tuple[str, ...]) -> Piece:
    text, more = cut_text(clean_text(block.text or _write_raw(block)), lines=RESULT_LINES)
    return Piece(Kind.CONTEXT, text, "Context", notes=notes, more=more)


def _show_unknown(block: Block, notes: tuple[str, ...]) -> Iterator[Piece]:
    """Yield the words of a block that no importer knows, if it has any, and what it was."""
    if block.text and block.kind == Kind.TEXT:
        yield Piece(Kind.TEXT, clean_text(block.text).strip("\n"))
    name = block.raw.get("type") or block.raw.get("content_type") if isinstance(block.raw, dict) else None
    title = f"Unknown: {clean_line(name)}" if isinstance(name, str) else "Unknown"
    raw, more = cut_text(_write_raw(block), lines=RAW_LINES)
    yield Piece("unknown", raw, title, "json", notes=notes, more=more)


def _write_raw(block: Block) -> str:
    value = block.raw if block.raw is not None else block.extra
    return _write_json(value) if value else ""


class Cut(NamedTuple):
    """A text up to a limit, and what it leaves out in words."""

    text: str
    more: str


def cut_text(text: str, *, lines: int, characters: int = RESULT_CHARACTERS) -> Cut:
    r"""Return the beginning of a text.

    >>> cut_text("a\nb\nc", lines=1), cut_text("abc", lines=1, characters=2)
    (Cut(text='a', more='2 more lines'), Cut(text='ab', more='1 more character'))
    """
    all_lines = text.split("\n")
    shown = "\n".join(all_lines[:lines])
    if len(shown) > characters:
        left = len(text) - characters
        return Cut(shown[:characters], f"{left:,} more character{'s' * (left > 1)}")
    left = len(all_lines) - lines
    return Cut(shown, f"{left:,} more line{'s' * (left > 1)}" if left > 0 else "")
