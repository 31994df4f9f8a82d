"""Templates: Jinja2 texts with their settings, and the fragments that they include.

config/templates.toml                        [<stage>.<template_id>]  parser, mode, min_lines, scale, …
config/templates/<stage>/<template_id>.txt   a file without a table is a fragment for includes
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.concepts import read_text_file
from pipeline.errors import Problem
from pipeline.parsers import PARSERS
from pipeline.prompts import RENDERING_VERSION, find_includes, find_undefined
from pipeline.response_schemas import CHECK_VERSION, find_schema_problem
from pipeline.scores import Scale
from pipeline.stages import MADE_STAGES, STAGE_RULES, Mode, Stage
from pipeline.toml_file import Table, TomlFile, check_config_id, is_finite_number, suggest
from store.errors import ValueNotEncodable
from store.identity import Encoded, encode_canonically, encode_once, hash_bytes

SETTINGS_FILE = "templates.toml"
KEYS = ("parser", "mode", "min_lines", "scale", "response_schema", "label", "description")


@dataclass(frozen=True)
class Template:
    """`texts` maps file names to texts: the template's own and those of all that it includes; {} in mode copy."""

    stage: Stage
    template_id: str
    mode: Mode
    parser: str
    min_lines: int
    scale: Scale | None
    response_schema: dict[str, Any] | None
    texts: Mapping[str, str]
    label: str
    description: str

    @property
    def file_name(self) -> str:
        return f"{self.template_id}.txt"

    @property
    def text(self) -> str:
        return self.texts[self.file_name]

    @cached_property
    def inputs(self) -> Encoded:
        """What of the template is part of an identity: texts by their hash, never its own name."""
        includes = {name: _hash_text(text) for name, text in self.texts.items() if name != self.file_name}
        return encode_once(
            {"text_blake3": _hash_text(self.text), "includes": includes, "rendering_version": RENDERING_VERSION}
        )

    @cached_property
    def parser_inputs(self) -> Encoded:
        """What of the parser is part of a document's identity, and not of its call's."""
        scale = None if self.scale is None else [self.scale.low, self.scale.high]
        version = PARSERS[self.parser].version
        inputs = {"name": self.parser, "version": version, "min_lines": self.min_lines, "scale": scale}
        # Only with a schema, so that the check changed no other id.
        return encode_once(inputs if self.response_schema is None else inputs | {"schema_check": CHECK_VERSION})


def load_templates(config_root: Path, problems: list[Problem]) -> dict[tuple[Stage, str], Template]:
    """Return {(stage, template_id): Template} in file order. An id may name a template of each stage."""
    file = TomlFile.read(config_root / SETTINGS_FILE, name=SETTINGS_FILE, problems=problems)
    file.table().check_keys(MADE_STAGES)
    templates: dict[tuple[Stage, str], Template] = {}
    for stage in MADE_STAGES:
        texts = _read_stage_texts(config_root / "templates" / stage, stage, problems)
        for template_id, table in file.tables(stage):
            if check_config_id(file, table.place, "template", template_id):
                templates[stage, template_id] = _read_template(stage, template_id, table, texts, config_root)
    return templates


def _read_stage_texts(folder: Path, stage: Stage, problems: list[Problem]) -> dict[str, str]:
    """Return {file name: text} of a stage's templates and fragments."""
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.suffix != ".json")
    return {path.name: read_text_file(path, f"templates/{stage}/{path.name}", problems) for path in paths}


def _read_template(
    stage: Stage, template_id: str, table: Table, stage_texts: Mapping[str, str], config_root: Path
) -> Template:
    table.check_keys(KEYS)
    mode = Mode(table.choice("mode", tuple(Mode), default=Mode.LLM))
    if mode is Mode.COPY and stage is not Stage.ESSAY:
        table.report("mode", f"mode is 'copy' in stage {stage}. Expected 'llm': only an essay can copy its draft.")
    parser = _read_parser(stage, table)
    return Template(
        stage,
        template_id,
        mode,
        parser,
        min_lines=table.integer("min_lines"),
        scale=_read_scale(stage, table),
        response_schema=_read_schema(config_root / "templates" / stage, table, mode),
        texts={} if mode is Mode.COPY else _collect_texts(stage, f"{template_id}.txt", table, stage_texts),
        label=table.text("label", default=template_id),
        description=table.text("description"),
    )


def _read_parser(stage: Stage, table: Table) -> str:
    gives_score = STAGE_RULES[stage].gives_score
    fitting = [name for name, parser in PARSERS.items() if parser.gives_score == gives_score]
    if gives_score and "parser" not in table.data:
        table.report(None, f"the key 'parser' is missing. Expected one of: {', '.join(fitting)}.")
        return fitting[0]
    return table.choice("parser", fitting, default=fitting[0])


def _read_scale(stage: Stage, table: Table) -> Scale | None:
    gives_score = STAGE_RULES[stage].gives_score
    if "scale" not in table.data:
        if gives_score:
            table.report(None, "the key 'scale' is missing. Expected scale = [lowest, highest], such as [0, 10].")
        return Scale(0.0, 10.0) if gives_score else None
    value = table.data["scale"]
    if not gives_score:
        table.report("scale", f"stage {stage} has no score. Expected no scale: it belongs to evaluation templates.")
        return None
    if not _is_scale(value):
        table.report("scale", f"scale is {value!r}. Expected [lowest, highest], such as [0, 10].")
        return Scale(0.0, 10.0)
    return Scale(float(value[0]), float(value[1]))


def _is_scale(value: Any) -> bool:
    numbers = isinstance(value, list) and all(is_finite_number(number) for number in value)
    return numbers and len(value) == 2 and value[0] < value[1]


def _read_schema(folder: Path, table: Table, mode: Mode) -> dict[str, Any] | None:
    name = table.text("response_schema")
    if not name:
        return None
    if mode is Mode.COPY:
        table.report("response_schema", 'a copy asks no model. Expected no response_schema beside mode = "copy".')
        return None
    known = sorted(path.name for path in folder.glob("*.json"))
    if name not in known:
        table.report("response_schema", f"no file {name!r} beside the template. {suggest(name, known)}")
        return None
    try:
        schema = json.loads(unicodedata.normalize("NFC", (folder / name).read_bytes().decode("utf-8-sig")))
        encode_canonically(schema)
    except (ValueError, ValueNotEncodable) as error:
        table.report("response_schema", f"{name} is not a JSON Schema: {error}")
        return None
    if not isinstance(schema, dict):
        table.report("response_schema", f"{name} is not a JSON Schema. Expected an object.")
        return None
    if (problem := find_schema_problem(schema)) is not None:
        table.report("response_schema", f"{name} is not a JSON Schema: {problem}")
        return None
    return schema


def _collect_texts(stage: Stage, name: str, table: Table, stage_texts: Mapping[str, str]) -> dict[str, str]:
    """Return {file name: text} of a template and all that it includes; reports what is wrong in them."""
    if name not in stage_texts:
        near = suggest(name, stage_texts)
        table.report(None, f"there is no file templates/{stage}/{name}. {near}")
        return {name: ""}
    included, found = find_includes(name, stage_texts)
    texts = {text_name: stage_texts[text_name] for text_name in (name, *included)}
    for problem in found + find_undefined(texts, STAGE_RULES[stage].variables):
        place = f"templates/{stage}/{problem.name}"
        table.file.problems.append(Problem(place, problem.line, problem.message))
    return texts


def _hash_text(text: str) -> str:
    return hash_bytes(text.encode())
