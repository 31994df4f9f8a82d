"""Values of ChatGPT's exports, where an empty text or list says as little as null."""

from __future__ import annotations

from typing import Any

from pipeline.archive.importers.values import parse_embedded


def keep_rest(record: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the fields that are not known and say something."""
    if known.issuperset(record):
        return {}  # nearly always
    return {
        name: value for name, value in record.items() if name not in known and (value or value is False or value == 0)
    }


def read_json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text holds; None if it is anything else."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = parse_embedded(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
