"""Config folders made for a benchmark, and the commands that work on them.

    write_chain_config   N concepts of 2 KB; each becomes a draft, an essay and an evaluation: 3 N documents
    write_wide_config    N combos of few concepts; each becomes 2 drafts, 4 essays and 4 evaluations: 10 N documents

The models are echoes, unless a wide config is told of a provider. An echo is recorded in the call ledger as a paid
call is, byte for byte and flush for flush.
"""

from __future__ import annotations

import json
import sys
from itertools import count
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

COHORT = "bench"
TEXT_BYTES = 2048  # of a concept, and so of each document's text
FILLER = "All that there is to say. "
STAGES = ("draft", "essay", "evaluation")
WIDE_DOCUMENTS = 10  # of a combo: 2 drafts, 2 essays of each, an evaluation of each
WIDE_CONCEPT = "An idea in some words. " * 40

MODELS = "".join(f'[{stage}-model]\nmodel = "echo/{stage}"\nmax_tokens = 4096\n\n' for stage in STAGES)
PROVIDED_MODEL = """\
[{stage}-model]
model = "openai/{stage}"
max_tokens = 4096
endpoint = "{stage}"
api_base = "{api_base}"
api_key_env = "BENCHMARK_KEY"

"""
EVALUATION_TEMPLATE = "{{ response }}\nSCORE: 7\n"
CHAIN_COHORT = """\
[combos]
concepts = "@items.csv"
size = 1

[draft]
templates = ["text"]
models = ["draft-model"]

[essay]
templates = ["text"]
models = ["essay-model"]

[evaluation]
templates = ["score"]
models = ["evaluation-model"]
"""
WIDE_COHORT = """\
[combos]
concepts = "@items.csv"
size = 2
limit = {combos}

[draft]
templates = ["text", "other"]
models = ["draft-model"]

[essay]
templates = ["text", "other"]
models = ["essay-model"]

[evaluation]
templates = ["score"]
models = ["evaluation-model"]
"""


class Workplace(NamedTuple):
    """A config folder and a data folder."""

    config: Path
    data: Path

    def command(self, *words: str) -> list[str]:
        """Return the command line of `daybook` with this interpreter: its start is part of what is measured."""
        folders = ["--data-root", str(self.data), "--config-root", str(self.config)]
        return [sys.executable, "-m", "pipeline.cli", *words, "--json", *folders]

    def concept_path(self, number: int) -> Path:
        return self.config / "concepts" / "paragraph" / f"{_item_id(number)}.txt"

    def read_made(self, output: str) -> dict[str, int]:
        """Return how many documents of each stage a build made, by what it printed; reports are left out."""
        printed: dict[str, Any] = json.loads(output)
        return {stage: made for stage, made in printed["made"].items() if stage in STAGES}


def write_chain_config(folder: Path, items: int, *, essay_mode: str = "llm", text_bytes: int = TEXT_BYTES) -> Workplace:
    """Write a config folder of `items` chains of three; a copied essay makes no call."""
    place = Workplace(folder / "config", folder / "data")
    _write_concepts(place, [(_item_id(number), make_text(number, size_bytes=text_bytes)) for number in range(items)])
    essay_text = "Essay.\n{{ draft_block }}"
    _write_stages(place, {"draft/text": "{{ concepts[0].content }}", "essay/text": essay_text}, essay_mode=essay_mode)
    _write(place.config / "cohorts" / f"{COHORT}.toml", CHAIN_COHORT)
    return place


def write_wide_config(folder: Path, combos: int, *, api_base: str | None = None) -> Workplace:
    """Write a config folder whose cohort has ten documents a combo, of as few concepts as give so many pairs.

    With `api_base` an OpenAI-compatible provider is asked for each document; the key in BENCHMARK_KEY can be any.
    """
    place = Workplace(folder / "config", folder / "data")
    concepts = next(number for number in count(2) if comb(number, 2) >= combos)
    _write_concepts(place, [(_item_id(number), f"{number}. {WIDE_CONCEPT}") for number in range(concepts)])
    texts = {
        "draft/text": "{% for concept in concepts %}{{ concept.content }}\n{% endfor %}",
        "draft/other": "Or:\n{% for concept in concepts %}{{ concept.content }}\n{% endfor %}",
        "essay/text": "Essay.\n{{ draft_block }}",
        "essay/other": "Other essay.\n{{ draft_block }}",
    }
    _write_stages(place, texts, essay_mode="llm")
    if api_base is not None:
        models = "".join(PROVIDED_MODEL.format(stage=stage, api_base=api_base) for stage in STAGES)
        _write(place.config / "models.toml", models)
    _write(place.config / "cohorts" / f"{COHORT}.toml", WIDE_COHORT.format(combos=combos))
    return place


def make_text(number: int, *, edition: int = 1, size_bytes: int = TEXT_BYTES) -> str:
    """Return a text that no other item and no other edition has."""
    text = f"Item {number}, edition {edition}. " + FILLER * (size_bytes // len(FILLER))
    return text[:size_bytes]


def _item_id(number: int) -> str:
    return f"item{number:06d}"


def _write_concepts(place: Workplace, texts: list[tuple[str, str]]) -> None:
    folder = place.config / "concepts" / "paragraph"
    folder.mkdir(parents=True)
    for item_id, text in texts:
        (folder / f"{item_id}.txt").write_text(text)
    _write(
        place.config / "concepts.csv", "concept_id,name\n" + "".join(f"{item},Name of {item}\n" for item, _ in texts)
    )
    _write(place.config / "cohorts" / "items.csv", "concept_id\n" + "".join(f"{item}\n" for item, _ in texts))


def _write_stages(place: Workplace, texts: dict[str, str], *, essay_mode: str) -> None:
    tables = ['[evaluation.score]\nparser = "score_last_line"\nscale = [0, 10]\n']
    for name, text in texts.items():
        stage, _, template_id = name.partition("/")
        mode = f'mode = "{essay_mode}"\n' if stage == "essay" else ""
        tables.append(f"[{stage}.{template_id}]\n{mode}")
        _write(place.config / "templates" / stage / f"{template_id}.txt", text)
    _write(place.config / "templates" / "evaluation" / "score.txt", EVALUATION_TEMPLATE)
    _write(place.config / "templates.toml", "\n".join(tables))
    _write(place.config / "models.toml", MODELS)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
