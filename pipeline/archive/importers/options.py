"""Options of an import that decide which conversations an export is taken for. They stand in the import's set.

takeout_gap    minutes between prompts of Takeout that begin a new conversation, or "day": those of another day
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from pipeline.archive.importers.gemini_takeout import GeminiTakeoutImporter
from pipeline.archive.importers.interface import Importer

TAKEOUT_GAP = "takeout_gap"
DAY = "day"

Options = Mapping[str, str | int]


def configure(importers: Sequence[Importer], options: Options) -> Sequence[Importer]:
    """Return importers as the options of a set want them."""
    if TAKEOUT_GAP not in options:
        return importers
    gap = None if options[TAKEOUT_GAP] == DAY else timedelta(minutes=int(options[TAKEOUT_GAP]))
    return [replace(each, gap=gap) if isinstance(each, GeminiTakeoutImporter) else each for each in importers]
