"""Twins of evaluation templates: the same text, but the answer is asked for in JSON and constrained to it.

A very small model never writes the score line that the original wants; held to a schema it gives a score every time.
The original stays as it is and can be used as before.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from pipeline.adoption.toml_writer import TomlSettings
from pipeline.adoption.workspace import SCALE_BY_SCORE_PARSER, Place, Template, Workspace

SUFFIX = "-as-json"
LONGEST_STEM = 80  # ids have at most 100 characters
LONGEST_REASON = 160  # characters
TWIN_TEXT = """\
{{% include "{original}.txt" %}}

Instead of the form that is asked for above, answer in JSON:
your "reason" in one sentence, then your "score", a whole number from {low} to {high}.
"""


class Twin(NamedTuple):
    original: Template
    template_id: str

    @property
    def place(self) -> Place:
        return self.original.place._replace(name=self.template_id)

    @property
    def scale(self) -> tuple[int, int]:
        return SCALE_BY_SCORE_PARSER[self.original.parser]

    @property
    def text(self) -> str:
        low, high = self.scale
        return TWIN_TEXT.format(original=self.original.template_id, low=low, high=high)

    @property
    def schema_name(self) -> str:
        """Return the name of the schema's file; twins with one scale share it."""
        low, high = self.scale
        return f"score-{low}-{high}.json"

    @property
    def settings(self) -> TomlSettings:
        return {
            "parser": "json_score",
            "scale": list(self.scale),
            "response_schema": self.schema_name,
            "description": f"{self.original.template_id} with a short answer in JSON, for very small models",
        }

    def files(self) -> dict[str, bytes]:
        """Return the twin's text and its schema, {path relative to the config folder: content}."""
        folder = f"templates/{self.original.stage}"
        return {
            f"{folder}/{self.template_id}.txt": self.text.encode(),
            f"{folder}/{self.schema_name}": _encode_schema(*self.scale),
        }


def make_twins(originals: list[Template], workspace: Workspace) -> list[Twin]:
    """Return a twin of each original, under ids that no row and no file of the workspace has."""
    taken = {template.template_id for original in originals for template in workspace.of_stage(original.stage)}
    taken |= {place.name for place in workspace.templates_without_row}
    twins = []
    for original in originals:
        twins.append(Twin(original, _find_free_id(original.template_id, taken)))
        taken.add(twins[-1].template_id)
    return twins


def _find_free_id(original_id: str, taken: set[str]) -> str:
    """Return "clarity-as-json" for "clarity", or "clarity-as-json-as-json" where that is taken."""
    template_id = original_id[:LONGEST_STEM] + SUFFIX
    while template_id in taken:
        template_id += SUFFIX
    return template_id


def _encode_schema(low: int, high: int) -> bytes:
    schema = {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": LONGEST_REASON},
            "score": {"type": "integer", "minimum": low, "maximum": high},
        },
        "required": ["reason", "score"],
        "additionalProperties": False,
    }
    return json.dumps(schema, indent=2).encode() + b"\n"
