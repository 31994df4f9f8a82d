"""The index of a folder of transcripts: one page with a search that works from the disk, without a server. Pure.

Every conversation is a line of the page itself, so the page is of use without its script, too. The script is our own,
is allowed by its hash, and shows or hides lines; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from pipeline.archive.readable_texts import clean_line
from pipeline.archive.transcripts import SHIPPED_FOLDER, Format, make_policy, name_provider, show_time

INDEX_TEMPLATE, INDEX_SCRIPT = "index.html.j2", "index.js"
STYLE_FILES = ("style.css", "index.css")


class IndexEntry(NamedTuple):
    """A transcript as the index shows it."""

    path: str
    title: str
    provider: str
    created: str | None
    updated: str | None
    models: tuple[str, ...]
    project: str | None
    messages: int
    beginning: str
    is_gone: bool


class IndexLine(NamedTuple):
    """A conversation with the address of its page, and of its Markdown if that is another file."""

    entry: IndexEntry
    address: str
    markdown: str | None


class IndexGroup(NamedTuple):
    """The conversations of a month, the latest first."""

    month: str  # "2026-03", or "" for those without a time
    lines: Sequence[IndexLine]


def write_index(entries: Sequence[IndexEntry]) -> bytes:
    """Return the page over some transcripts."""
    style = "".join(_read(name) for name in STYLE_FILES)
    script = _read(INDEX_SCRIPT)
    lines = join_formats(entries)
    page = (
        _make_environment()
        .get_template(INDEX_TEMPLATE)
        .render(
            groups=group_lines(lines),
            total=len(lines),
            providers=sorted({entry.provider for entry in entries}),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            policy=make_policy(style, script),
        )
    )
    return page.encode(errors="replace")


def join_formats(entries: Sequence[IndexEntry]) -> list[IndexLine]:
    """Return a line for each transcript, however many formats of it there are; the latest first."""
    by_stem: dict[str, dict[str, IndexEntry]] = {}
    for entry in entries:
        stem, _, form = entry.path.rpartition(".")
        by_stem.setdefault(stem, {})[form] = entry
    lines = []
    for forms in by_stem.values():
        entry = forms.get(Format.HTML) or next(iter(forms.values()))
        markdown = forms.get(Format.MARKDOWN)
        is_another = markdown is not None and markdown is not entry
        lines.append(IndexLine(entry, quote(entry.path), quote(markdown.path) if markdown and is_another else None))
    return sorted(lines, key=lambda line: (line.entry.created or "", line.entry.path), reverse=True)


def group_lines(lines: Sequence[IndexLine]) -> list[IndexGroup]:
    by_month: dict[str, list[IndexLine]] = {}
    for line in lines:
        by_month.setdefault((line.entry.created or "")[:7], []).append(line)
    return [IndexGroup(month, found) for month, found in by_month.items()]


@lru_cache(maxsize=8)
def _read(name: str) -> str:
    return (SHIPPED_FOLDER / name).read_text().replace("\r\n", "\n")


@lru_cache(maxsize=1)
def _make_environment() -> Environment:
    environment = Environment(
        loader=DictLoader({INDEX_TEMPLATE: _read(INDEX_TEMPLATE)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "when": show_time,
        "number": lambda number: f"{number:,}",
        "provider": name_provider,
        "line": clean_line,
    }
    return environment
