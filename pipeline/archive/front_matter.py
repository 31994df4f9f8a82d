"""Front matter: the facts at the head of a Markdown file, written and read by a real YAML library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_HEAD = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_LONGEST_HEAD = 64 * 1024  # characters
_ENDLESS = 2**30  # characters in a line: a title is never folded into two


def write_front_matter(facts: Mapping[str, Any]) -> str:
    """Return facts between lines of `---`, in their order, without those that are None, empty or False."""
    said = {name: value for name, value in facts.items() if value not in (None, "", [], {}, False)}
    body = yaml.safe_dump(said, allow_unicode=True, sort_keys=False, default_flow_style=False, width=_ENDLESS)
    return f"---\n{body}---\n"


def read_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Return the facts at the head of a text, and the text below them; no facts if it has none that can be read.

    Values are texts as they stand there, and lists and mappings of them: a title `2026` or `no` stays a title. Aliases
    are refused, because a few lines of them stand for millions of values.
    """
    match = _HEAD.match(text)
    if not match or len(match[1]) > _LONGEST_HEAD:
        return {}, text
    try:
        facts = yaml.load(match[1], Loader=_TextLoader)  # noqa: S506 - it makes texts, lists and mappings only
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}, text
    return (facts, text[match.end() :]) if isinstance(facts, dict) else ({}, text)


class _TextLoader(yaml.BaseLoader):  # type: ignore[misc]  # yaml brings no types
    """Makes a text of every scalar."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)
