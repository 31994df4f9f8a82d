"""Front matter: the facts at the head of a Markdown file, written and read by a real YAML library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

_ENDLESS = 2**30  # characters in a line: a title is never folded into two


def write_front_matter(facts: Mapping[str, Any]) -> str:
    """Return facts between lines of `---`, in their order, without those that are None, empty or False."""
    said = {name: value for name, value in facts.items() if value not in (None, "", [], {}, False)}
    body = yaml.safe_dump(said, allow_unicode=True, sort_keys=False, default_flow_style=False, width=_ENDLESS)
    return f"---\n{body}---\n"
