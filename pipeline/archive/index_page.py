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
from pipeline.archive.transcripts import SHIPPED_FOLDER, make_policy, name_provider, show_time

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


class IndexGroup(NamedTuple):
    """The conversations of a month, the latest first."""

    month: str  # "2026-03", or "" for those without a time
    entries: Sequence[IndexEntry]


def write_index(entries: Sequence[IndexEntry]) -> bytes:
    """Return the page over some transcripts."""
    style = "".join(_read(name) for name in STYLE_FILES)
    script = _read(INDEX_SCRIPT)
    page = (
        _make_environment()
        .get_template(INDEX_TEMPLATE)
        .render(
            groups=group_entries(entries),
            total=len(entries),
            providers=sorted({entry.provider for entry in entries}),
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            policy=make_policy(style, script),
        )
    )
    return page.encode(errors="replace")


def group_entries(entries: Sequence[IndexEntry]) -> list[IndexGroup]:
    """Return entries by month, the latest month first."""
    by_month: dict[str, list[IndexEntry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.created or "", entry.path), reverse=True):
        by_month.setdefault((entry.created or "")[:7], []).append(entry)
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
        "address": quote,
        "line": clean_line,
    }
    return environment
