"""Adopt an existing workspace: turn its 1_raw/ folder into a config/ folder, and say what did not fit.

    1_raw/concepts_metadata.csv, concepts/descriptions-<level>/   ->  concepts.csv, concepts/<level>/
    1_raw/<stage>_templates.csv, templates/<stage>/               ->  templates.toml, templates/<stage>/
    1_raw/llm_models.csv                                          ->  models.toml
    1_raw/replication_config.csv                                  ->  cohorts/adopted.toml, a first small cohort

In this order: read everything and list every mistake at once; decide every file in memory; refuse if one of them
is already there with other content; only then write. The workspace itself is never changed. Ids decide and are
taken as they are: names are for people, and `-` and `_` are different characters.

Knows nothing of the store, of Luigi or of how config/ is read.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline.concepts import FALLBACK_LEVELS, LEVELS
from pipeline.errors import InputInvalid, Problem
from pipeline.prompts import find_includes, find_undefined
from pipeline.stages import MADE_STAGES, STAGE_RULES, Stage
from pipeline.toml_file import ID_EXPECTED, ID_FORM

STAGES = tuple(stage.value for stage in MADE_STAGES)

TomlValue = str | int | float | list[str] | list[int]
TomlSettings = dict[str, TomlValue]

CONCEPTS_FILE = "concepts_metadata.csv"
MODELS_FILE = "llm_models.csv"
REPLICATES_FILE = "replication_config.csv"
LINKS_FILE = "link_templates.csv"  # left over from an older form of the workspace
COLUMNS_BY_FILE = {
    CONCEPTS_FILE: ("concept_id", "name"),
    **{
        f"{stage}_templates.csv": ("template_id", "template_name", "description", "parser", "generator")
        for stage in STAGES
    },
    MODELS_FILE: ("id", "model", "provider", "display_name", "specialization"),
    REPLICATES_FILE: ("stage", "replicates"),
}  # the first column of each is its key

BARE_TOML_KEY = re.compile(r"[A-Za-z0-9_-]+")
TOML_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}

TEXT_PARSERS = ("identity", "essay_block", "essay_block_lenient", "essay_idea_last")
SCALE_BY_SCORE_PARSER = {"in_last_line": (0, 9), "complex": (0, 10)}
DRAFT_MIN_LINES = 3  # the workspace's own program refused shorter drafts

FREE_TIER = ":free"
# What the workspace's own program sent with every request; its files name neither.
TEMPERATURE, MAX_TOKENS = 0.7, 20480
FIRST_COHORT_COMMENT = """\
# A first small cohort on a model that runs here: the shortest templates, so that every prompt fits.
# A model this small often runs into max_tokens (truncated) and seldom ends with the score line that it is asked for
# (parse_error). To get real results, put a model of models.toml in its place."""
FIRST_COHORT_TEMPLATES = (("draft", 2), ("essay", 1), ("evaluation", 2))
FIRST_MODEL = "smollm2"  # runs on the processor, without a key
FIRST_MODEL_SETTINGS: TomlSettings = {
    "model": "local/smollm2-135m-instruct",
    "max_tokens": 1024,
    "temperature": 0.7,
    "repeat_penalty": 1.1,
    "seed": 1,
    "context_tokens": 8192,
    "label": "SmolLM2 135M Instruct (local)",
    "description": "small enough for any processor; needs no key",
}


Thing = TypeVar("Thing")


class Place(NamedTuple):
    """Where something was found: a file relative to 1_raw/, and the stage and the id where there is one."""

    file: str
    stage: str = ""
    name: str = ""


class Note(NamedTuple):
    """One thing a person should know. Equal cases have equal messages, so that they can be counted together."""

    kind: str
    place: Place
    message: str


@dataclass(frozen=True)
class Adoption:
    """What was adopted, what was written, and what did not fit."""

    source: Path
    config_root: Path
    written: list[str]  # relative to config_root
    unchanged: list[str]  # already there with the same content
    counts: dict[str, object]
    notes: list[Note]

    def as_json(self) -> dict[str, object]:
        """Return the report as plain JSON."""
        return {
            "source": str(self.source),
            "config_root": str(self.config_root),
            "written": list(self.written),
            "unchanged": list(self.unchanged),
            "counts": json.loads(json.dumps(self.counts)),
            "notes": [
                {
                    "kind": note.kind,
                    "stage": note.place.stage,
                    "id": note.place.name,
                    "file": note.place.file,
                    "message": note.message,
                }
                for note in self.notes
            ],
        }

    def lines(self) -> list[str]:
        """Return the report for people: what was written, the totals, then the notes, counted by kind."""
        return [self._describe_files(), "", *_describe_counts(self.counts), *_describe_notes(self.notes)]

    def _describe_files(self) -> str:
        if not self.written:
            return f"Nothing to do: all {len(self.unchanged)} files in {self.config_root} are unchanged."
        return (
            f"Adopted {self.source} into {self.config_root}: "
            f"{len(self.written)} files written, {len(self.unchanged)} unchanged."
        )


def adopt_workspace(source: Path, config_root: Path) -> Adoption:
    """Turn a workspace into a config folder and return what was written and what did not fit.

    `source` is the folder that holds 1_raw/, or 1_raw itself. Adopting the same again writes nothing.
    Raises InputInvalid, with nothing written, if the workspace has mistakes (all are listed, with file and
    line) or if a file to be written exists with other content (all are named).
    """
    raw_folder = _find_raw_folder(source)
    _refuse_config_in_workspace(raw_folder, config_root)
    workspace = read_workspace(raw_folder)
    contents = {
        path: content
        for part in (
            _concept_files(workspace),
            _template_files(workspace),
            _model_files(workspace),
            _cohort_files(workspace),
        )
        for path, content in part.items()
    }
    new_paths = _find_new_files(contents, config_root)
    for path in new_paths:
        _write_file(config_root / path, contents[path])
    return Adoption(
        source=source,
        config_root=config_root,
        written=new_paths,
        unchanged=sorted(set(contents) - set(new_paths)),
        counts=count_workspace(workspace),
        notes=_note_workspace(workspace),
    )


# What a workspace holds


class Concept(NamedTuple):
    concept_id: str
    name: str


@dataclass(frozen=True)
class Template:
    """A row of a template table, with the bytes of its file, None where there is none.

    `text_fault` says what Jinja2 finds wrong with the file; empty where it can be rendered.
    """

    stage: str
    template_id: str
    label: str
    description: str
    parser: str  # as the workspace calls it
    mode: str
    content: bytes | None
    text_fault: str

    @property
    def place(self) -> Place:
        return Place(f"{self.stage}_templates.csv", self.stage, self.template_id)

    @property
    def file(self) -> str:
        return f"templates/{self.stage}/{self.template_id}.txt"

    @property
    def is_usable(self) -> bool:
        return not self.fault and (self.content is not None or self.mode == "copy")

    @property
    def fault(self) -> str:
        """Return why the row cannot become a table of templates.toml, or an empty text."""
        if self.mode not in ("llm", "copy"):
            return f"Generator {self.mode!r} is not known. Known: llm, copy."
        if self.mode == "copy" and self.stage != "essay":
            return "Only essays can be copied from their parent; generator copy does not fit here."
        known_parsers = tuple(SCALE_BY_SCORE_PARSER) if self.stage == "evaluation" else TEXT_PARSERS
        if self.parser not in known_parsers:
            return (
                f"Parser {self.parser!r} does not fit {self.stage} templates. Known for them: "
                f"{', '.join(known_parsers)}."
            )
        return self.text_fault if self.mode == "llm" else ""


class Model(NamedTuple):
    model_id: str
    model: str
    label: str
    description: str

    @property
    def is_free_tier(self) -> bool:
        return self.model.endswith(FREE_TIER)


@dataclass
class Workspace:
    """Everything that 1_raw/ holds, in file order."""

    concepts: list[Concept] = field(default_factory=list)
    descriptions: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by (level, concept_id)
    descriptions_without_row: list[Place] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)
    templates_without_row: dict[Place, bytes] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    replicates_by_stage: dict[str, int] = field(default_factory=dict)
    link_rows: int = 0
    ignored_columns: list[tuple[str, str]] = field(default_factory=list)  # (file, column)
    ignored_files: list[str] = field(default_factory=list)

    def of_stage(self, stage: str) -> list[Template]:
        return [template for template in self.templates if template.stage == stage]

    def usable_of_stage(self, stage: str) -> list[Template]:
        return [template for template in self.of_stage(stage) if template.is_usable]

    def find_level(self, concept_id: str, level: str) -> str | None:
        """Return the level whose text stands in for the one asked for, or None where only the name is left."""
        return next(
            (each for each in (level, *FALLBACK_LEVELS) if self.descriptions.get((each, concept_id), b"").strip()), None
        )


# Reading


def read_workspace(raw_folder: Path) -> Workspace:
    """Return what the folder 1_raw/ holds. Raises InputInvalid, listing every mistake with file and line."""
    reader = _Reader(raw_folder)
    workspace = Workspace()
    for read_part in (_read_concepts, _read_templates, _read_models, _read_replicates, _read_rest):
        read_part(reader, workspace)
    if reader.problems:
        count = len(reader.problems)
        found = "1 mistake was found" if count == 1 else f"{count} mistakes were found"
        raise InputInvalid(
            "\n".join(
                [f"{found} in {raw_folder}; nothing was written.", *(f"  {problem}" for problem in reader.problems)]
            )
        )
    return workspace


class _Row(NamedTuple):
    line: int  # of the file, counted from 1
    cells: dict[str, str]


class _Reader:
    """Reads files of 1_raw/, remembers which ones, and collects mistakes instead of stopping at the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.files_read: set[str] = set()
        self.ignored_columns: list[tuple[str, str]] = []

    def refuse(self, file: str, line: int | None, message: str) -> None:
        self.problems.append(Problem(file, line, message))

    def read_bytes(self, file: str) -> bytes:
        """Return the bytes of a text file in UTF-8; empty, with a problem recorded, if they are not that."""
        self.files_read.add(file)
        try:
            content = (self.folder / file).read_bytes()
            content.decode()
        except OSError as error:
            self.refuse(file, None, f"The file cannot be read ({error.strerror}).")
        except UnicodeDecodeError as error:
            self.refuse(file, None, f"The file is not UTF-8 (byte {error.start}). Save it as UTF-8.")
        else:
            return content
        return b""

    def read_texts(self, folder: str) -> dict[str, bytes]:
        """Return the files `<id>.txt` of a folder by id. Version control drops empty folders, so it may be missing."""
        paths = sorted((self.folder / folder).glob("*.txt"))
        return {
            path.stem: self.read_bytes(f"{folder}/{path.name}")
            for path in paths
            if ID_FORM.fullmatch(path.stem) and path.is_file()
        }

    def read_table(self, file: str) -> list[_Row]:
        """Return the good rows of a table; each bad one is a problem."""
        if not (self.folder / file).is_file():
            self.refuse(file, None, f"The file is missing. Expected columns: {', '.join(COLUMNS_BY_FILE[file])}.")
            return []
        rows = list(self._read_rows(file, COLUMNS_BY_FILE[file]))
        self._refuse_bad_keys(file, rows, COLUMNS_BY_FILE[file][0])
        return rows

    def _read_rows(self, file: str, columns: tuple[str, ...]) -> Iterator[_Row]:
        records = self.read_records(file)
        header = [cell.strip() for cell in next(records, _Record(1, [])).cells]
        if not self._accepts_header(file, header, columns):
            return
        for line, cells in records:
            if len(cells) == len(header):
                yield _Row(line, dict(zip(header, cells, strict=True)))
            else:
                self.refuse(
                    file,
                    line,
                    f"The row has {len(cells)} cells, the header {len(header)}. "
                    "Put quotes around a text that contains a comma.",
                )

    def _accepts_header(self, file: str, header: list[str], columns: tuple[str, ...]) -> bool:
        missing = [column for column in columns if column not in header]
        repeated = sorted(column for column, count in Counter(header).items() if count > 1)
        if missing:
            self.refuse(file, 1, f"Missing columns: {', '.join(missing)}. Expected: {', '.join(columns)}.")
        if repeated:
            self.refuse(file, 1, f"Columns named twice: {', '.join(map(repr, repeated))}. Keep one of each.")
        if "active" in header:
            # Ignoring it would bring back rows that somebody had switched off.
            self.refuse(file, 1, "The column 'active' is not accepted. Remove it, and the rows that are not wanted.")
        self.ignored_columns += [(file, column) for column in header if column not in (*columns, "active")]
        return not (missing or repeated)

    def read_records(self, file: str) -> Iterator[_Record]:
        """Yield the records of a CSV file, each with the line on which it begins; empty lines are left out."""
        text = self.read_bytes(file).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        line = 1
        try:
            for cells in reader:
                if len(cells) > 1 or "".join(cells).strip():
                    yield _Record(line, cells)
                line = reader.line_num + 1
        except csv.Error as error:
            self.refuse(
                file, line, f"The row that begins here is not CSV ({error}). Look for a quote without its pair."
            )

    def _refuse_bad_keys(self, file: str, rows: list[_Row], key: str) -> None:
        """Strip the key of each row in place; refuse malformed and repeated ones."""
        line_by_name: dict[str, int] = {}
        for line, cells in rows:
            name = cells[key] = cells[key].strip()
            if not ID_FORM.fullmatch(name):
                self.refuse(file, line, f"{key} {name!r} is not an id. Expected {ID_EXPECTED}.")
            elif name in line_by_name:
                self.refuse(file, line, f"{key} {name!r} stands on line {line_by_name[name]} too. Keep one of them.")
            line_by_name.setdefault(name, line)


class _Record(NamedTuple):
    line: int
    cells: list[str]


def _read_concepts(reader: _Reader, workspace: Workspace) -> None:
    for line, cells in reader.read_table(CONCEPTS_FILE):
        if not cells["name"].strip():
            reader.refuse(CONCEPTS_FILE, line, f"Concept {cells['concept_id']!r} has no name. Every concept needs one.")
        workspace.concepts.append(Concept(cells["concept_id"], cells["name"]))
    known = {concept.concept_id for concept in workspace.concepts}
    for level in LEVELS:
        for name, content in reader.read_texts(f"concepts/descriptions-{level}").items():
            if name in known:
                workspace.descriptions[level, name] = content
            else:
                workspace.descriptions_without_row.append(Place(f"concepts/descriptions-{level}/{name}.txt", "", name))


def _read_templates(reader: _Reader, workspace: Workspace) -> None:
    for stage in STAGES:
        contents = reader.read_texts(f"templates/{stage}")
        rows = reader.read_table(f"{stage}_templates.csv")
        workspace.templates += [_make_template(stage, row.cells, contents) for row in rows]
        names = {row.cells["template_id"] for row in rows}
        workspace.templates_without_row |= {
            Place(f"templates/{stage}/{name}.txt", stage, name): content
            for name, content in contents.items()
            if name not in names
        }


def _make_template(stage: str, cells: Mapping[str, str], contents: Mapping[str, bytes]) -> Template:
    name = cells["template_id"]
    return Template(
        stage=stage,
        template_id=name,
        label=cells["template_name"],
        description=cells["description"],
        parser=cells["parser"].strip() or "identity",
        mode=cells["generator"].strip(),
        content=contents.get(name),
        text_fault=_find_text_fault(stage, name, contents) if name in contents else "",
    )


def _find_text_fault(stage: str, name: str, contents: Mapping[str, bytes]) -> str:
    """Return the first thing that Jinja2 finds wrong with a template or what it includes, or an empty text."""
    texts = {f"{other}.txt": content.decode(errors="replace") for other, content in contents.items()}
    included, problems = find_includes(f"{name}.txt", texts)
    used = {file: texts[file] for file in (f"{name}.txt", *included)}
    if not problems:
        problems = find_undefined(used, STAGE_RULES[Stage(stage)].variables)
    return next((str(Problem(problem.name, problem.line, problem.message)) for problem in problems), "")


def _read_models(reader: _Reader, workspace: Workspace) -> None:
    for line, cells in reader.read_table(MODELS_FILE):
        model = cells["model"].strip()
        if not model or re.search(r"\s", model):
            reader.refuse(
                MODELS_FILE,
                line,
                f"Model {cells['id']!r} is routed to {model!r}. Expected <provider>/<name>, without blanks.",
            )
        words = (cells["provider"].strip(), cells["specialization"].strip())
        workspace.models.append(Model(cells["id"], model, cells["display_name"], ", ".join(filter(None, words))))


def _read_replicates(reader: _Reader, workspace: Workspace) -> None:
    for line, cells in reader.read_table(REPLICATES_FILE):
        stage, replicates = cells["stage"], cells["replicates"].strip()
        if stage not in STAGES:
            reader.refuse(REPLICATES_FILE, line, f"Stage {stage!r} is not known. Known: {', '.join(STAGES)}.")
        if re.fullmatch(r"0*[1-9][0-9]{0,5}", replicates):
            workspace.replicates_by_stage[stage] = int(replicates)
        else:
            reader.refuse(REPLICATES_FILE, line, f"Replicates are {replicates!r}. Expected a whole number from 1.")


def _read_rest(reader: _Reader, workspace: Workspace) -> None:
    if (reader.folder / LINKS_FILE).is_file():
        workspace.link_rows = max(0, sum(1 for _ in reader.read_records(LINKS_FILE)) - 1)
    workspace.ignored_columns = reader.ignored_columns
    files = sorted(path.relative_to(reader.folder).as_posix() for path in reader.folder.rglob("*") if path.is_file())
    workspace.ignored_files = [file for file in files if file not in reader.files_read - {LINKS_FILE}]


def _find_raw_folder(source: Path) -> Path:
    for folder in (source / "1_raw", source):
        if (folder.name == "1_raw" and folder.is_dir()) or any((folder / file).is_file() for file in COLUMNS_BY_FILE):
            return folder
    raise InputInvalid(
        f"{source} is not a workspace: it holds neither 1_raw/ nor {CONCEPTS_FILE}. "
        "Give the folder that holds 1_raw/, or 1_raw itself."
    )


# Deciding the files: {path relative to the config folder: content}


def _concept_files(workspace: Workspace) -> dict[str, bytes]:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("concept_id", "name"), *workspace.concepts])
    texts = {f"concepts/{level}/{name}.txt": content for (level, name), content in workspace.descriptions.items()}
    return {"concepts.csv": table.getvalue().encode(), **texts}


def _template_files(workspace: Workspace) -> dict[str, bytes]:
    tables = [
        "# Templates, adopted from a workspace: one table for each template that can be used.",
        *map(_describe_template, workspace.templates),
        *(_describe_orphan(place) for place in workspace.templates_without_row),
    ]
    texts = {template.file: template.content for template in workspace.templates if template.content is not None}
    orphans = {place.file: content for place, content in workspace.templates_without_row.items()}
    return {"templates.toml": "\n\n".join(tables).encode() + b"\n", **texts, **orphans}


def _describe_template(template: Template) -> str:
    table = encode_toml_table((template.stage, template.template_id), _template_settings(template))
    if template.is_usable:
        return table
    reason = template.fault or "The workspace has this row without its file."
    step = "Mend the table" if template.fault else "Add the file"
    if template.fault and template.content is None:
        step += ", add the file"
    return f"# {' '.join(reason.split())}\n# {step} and remove the marks to use {template.file}.\n{_as_comment(table)}"


def _describe_orphan(place: Place) -> str:
    settings: TomlSettings = {"parser": "identity"}
    hint = f"# {place.file} came without a row. Remove the marks to use it"
    if place.stage == "evaluation":
        settings = {"parser": "score_last_line", "scale": [0, 9]}
        hint += "; look in its text for the scale it asks for"
    if place.stage == "draft":
        settings["min_lines"] = DRAFT_MIN_LINES
    return f"{hint}.\n{_as_comment(encode_toml_table((place.stage, place.name), settings))}"


def _template_settings(template: Template) -> TomlSettings:
    settings: TomlSettings = {"parser": _map_parser(template.parser)}
    if template.parser in SCALE_BY_SCORE_PARSER:
        settings["scale"] = list(SCALE_BY_SCORE_PARSER[template.parser])
    if template.mode != "llm":
        settings["mode"] = template.mode
    if template.stage == "draft":
        settings["min_lines"] = DRAFT_MIN_LINES
    return settings | _for_people(template.label, template.description)


def _map_parser(parser: str) -> str:
    return "score_last_line" if parser in SCALE_BY_SCORE_PARSER else parser


def _for_people(label: str, description: str) -> TomlSettings:
    return {key: text for key, text in (("label", label), ("description", description)) if text}


def _model_files(workspace: Workspace) -> dict[str, bytes]:
    tables = [
        "# Models, adopted from a workspace. Calls through OpenRouter need the environment variable OPENROUTER_API_KEY."
    ]
    for model in workspace.models:
        settings: TomlSettings = {
            "model": f"openrouter/{model.model}",
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "api_key_env": "OPENROUTER_API_KEY",
        }
        tables.append(encode_toml_table((model.model_id,), settings | _for_people(model.label, model.description)))
    tables.append(
        "# Not of the workspace: a model that runs here, so that a first cohort needs no key.\n"
        + encode_toml_table((_first_model_id(workspace),), FIRST_MODEL_SETTINGS)
    )
    return {"models.toml": "\n\n".join(tables).encode() + b"\n"}


def _first_model_id(workspace: Workspace) -> str:
    """Return a model id that the workspace does not use itself."""
    taken = {model.model_id for model in workspace.models}
    model_id = FIRST_MODEL
    while model_id in taken:
        model_id += "-local"
    return model_id


def _cohort_files(workspace: Workspace) -> dict[str, bytes]:
    """Return a first small cohort, or nothing where the workspace lacks a concept or a draft template."""
    concept_ids = _choose_concepts(workspace, count=3)
    chosen = {stage: _choose_templates(workspace, stage, count=count) for stage, count in FIRST_COHORT_TEMPLATES}
    if not concept_ids or not chosen["draft"]:
        return {}
    parts = [
        FIRST_COHORT_COMMENT,
        encode_toml_table((), {"description": "A first cohort of the adopted workspace."}),
        encode_toml_table(
            ("combos",), {"level": "paragraph", "concepts": concept_ids, "size": min(2, len(concept_ids))}
        ),
        *(encode_toml_table((stage,), _cohort_section(workspace, stage, chosen)) for stage in STAGES if chosen[stage]),
    ]
    return {"cohorts/adopted.toml": "\n\n".join(parts).encode() + b"\n"}


def _cohort_section(workspace: Workspace, stage: str, chosen: Mapping[str, list[Template]]) -> TomlSettings:
    section: TomlSettings = {"templates": [template.template_id for template in chosen[stage]]}
    if stage == "evaluation":
        section["target"] = "essay" if chosen["essay"] else "draft"
    if any(template.mode == "llm" for template in chosen[stage]):
        section["models"] = [_first_model_id(workspace)]
    return section | {"replicates": workspace.replicates_by_stage.get(stage, 1)}


def _choose_concepts(workspace: Workspace, *, count: int) -> list[str]:
    """Return the concepts with the shortest paragraphs, in file order; of two with one name only the first."""
    first_by_name = {concept.name: concept.concept_id for concept in reversed(workspace.concepts)}
    concept_ids = [
        concept.concept_id for concept in workspace.concepts if first_by_name[concept.name] == concept.concept_id
    ]

    def size_of(concept_id: str) -> tuple[bool, int]:
        text = workspace.descriptions.get(("paragraph", concept_id), b"").strip()
        return not text, len(text)

    shortest = sorted(concept_ids, key=size_of)[:count]
    return [concept_id for concept_id in concept_ids if concept_id in shortest]


def _choose_templates(workspace: Workspace, stage: str, *, count: int) -> list[Template]:
    """Return the shortest usable templates; before them all none that copies or wants a reply in a certain form."""

    def size_of(template: Template) -> tuple[bool, bool, int]:
        return template.mode == "copy", template.parser != "identity", len(template.content or b"")

    return sorted(workspace.usable_of_stage(stage), key=size_of)[:count]


# TOML: only what the files above need


def encode_toml_table(path: tuple[str, ...], settings: Mapping[str, TomlValue]) -> str:
    """Return a table without a newline at its end; an empty path gives the keys alone.

    >>> print(encode_toml_table(("draft", "v1.2"), {"min_lines": 3, "label": 'the "short" one'}))
    [draft."v1.2"]
    min_lines = 3
    label = "the \\"short\\" one"
    """
    header = [f"[{'.'.join(map(encode_toml_key, path))}]"] if path else []
    return "\n".join(
        [*header, *(f"{encode_toml_key(key)} = {encode_toml_value(value)}" for key, value in settings.items())]
    )


def encode_toml_key(key: str) -> str:
    return key if BARE_TOML_KEY.fullmatch(key) else encode_toml_value(key)


def encode_toml_value(value: TomlValue) -> str:
    """Return a text, a number or a list of them in TOML; any text comes back the same when it is read."""
    if isinstance(value, str):
        return '"' + "".join(map(_escape_character, value)) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(encode_toml_value, value))}]"
    return repr(value)


def _escape_character(character: str) -> str:
    if character < " " or character == "\x7f":
        return TOML_ESCAPES.get(character, f"\\u{ord(character):04x}")
    return TOML_ESCAPES.get(character, character)


def _as_comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in text.split("\n"))


# Writing


def _refuse_config_in_workspace(raw_folder: Path, config_root: Path) -> None:
    if config_root.resolve().is_relative_to(raw_folder.resolve()):
        raise InputInvalid(
            f"{config_root} lies in the workspace {raw_folder}, which is never changed. Give a folder outside it."
        )


def _find_new_files(contents: Mapping[str, bytes], config_root: Path) -> list[str]:
    """Return the paths that are not there yet. Raises InputInvalid if one is there with other content."""
    missing, differing = [], []
    for path in sorted(contents):
        blocker = _find_blocker(config_root / path)
        if blocker is None:
            missing.append(path)
        elif blocker != config_root / path or not blocker.is_file() or blocker.read_bytes() != contents[path]:
            differing.append(str(blocker))
    if differing:
        names = "\n".join(f"  {name}" for name in dict.fromkeys(differing))
        raise InputInvalid(
            f"{config_root} already holds other content under names that adopting would write; "
            f"nothing was written:\n{names}\nMove these away, or give an empty folder."
        )
    return missing


def _find_blocker(path: Path) -> Path | None:
    """Return the path itself where something is there, or the nearest thing above it that is not a folder."""
    if os.path.lexists(path):
        return path
    nearest = next(folder for folder in path.parents if os.path.lexists(folder))
    return None if nearest.is_dir() else nearest


def _write_file(path: Path, content: bytes) -> None:
    """Write beside, then rename: a half-written file would look like somebody's edit the next time."""
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path.write_bytes(content)
        partial_path.replace(path)
    except OSError as error:
        raise InputInvalid(
            f"{path} could not be written ({error.strerror}). What was written before it is kept; "
            "mend the folder and adopt again."
        ) from error


# The report


def count_workspace(workspace: Workspace) -> dict[str, object]:
    """Return the totals by which two adoptions can be compared; plain JSON."""
    return {
        "concepts": len(workspace.concepts),
        "distinct_names": len({concept.name for concept in workspace.concepts}),
        "duplicate_names": len(_find_shared(workspace.concepts, lambda concept: concept.name)),
        "description_files": len(workspace.descriptions) + len(workspace.descriptions_without_row),
        "description_files_without_row": len(workspace.descriptions_without_row),
        "descriptions": {level: _count_fallbacks(workspace, level) for level in LEVELS},
        "templates": {stage: _count_templates(workspace, stage) for stage in STAGES},
        "parsers": {
            stage: dict(Counter(template.parser for template in workspace.of_stage(stage))) for stage in STAGES
        },
        "models": len(workspace.models),
        "free_tier_models": sum(model.is_free_tier for model in workspace.models),
        "replicates": {stage: workspace.replicates_by_stage.get(stage, 1) for stage in STAGES},
        "legacy_link_rows": workspace.link_rows,
    }


def _count_fallbacks(workspace: Workspace, level: str) -> dict[str, int]:
    """Return how many concepts have a text of the level, and what stands in for it elsewhere."""
    found = Counter(workspace.find_level(concept.concept_id, level) for concept in workspace.concepts)
    others = {f"from_{other}": found[other] for other in FALLBACK_LEVELS if other != level}
    return {"own": found[level], **others, "name_only": found[None]}


def _count_templates(workspace: Workspace, stage: str) -> dict[str, int]:
    templates = workspace.of_stage(stage)
    files = sum(template.content is not None for template in templates)
    orphans = sum(place.stage == stage for place in workspace.templates_without_row)
    return {
        "rows": len(templates),
        "files": files + orphans,
        "rows_without_file": len(templates) - files,
        "files_without_row": orphans,
        "usable": len(workspace.usable_of_stage(stage)),
    }


def _note_workspace(workspace: Workspace) -> list[Note]:
    return [
        *_note_concepts(workspace),
        *_note_templates(workspace),
        *_note_orphans(workspace),
        *_note_models(workspace),
        *_note_ignored(workspace),
    ]


def _note_concepts(workspace: Workspace) -> Iterator[Note]:
    for concepts in _find_shared(workspace.concepts, lambda concept: concept.name):
        names = ", ".join(concept.concept_id for concept in concepts)
        yield Note(
            "duplicate_name",
            Place(CONCEPTS_FILE, "", names),
            f"Concepts that share the name {concepts[0].name!r}; all are kept, ids decide.",
        )
    for level in LEVELS:
        for concept in workspace.concepts:
            used = workspace.find_level(concept.concept_id, level)
            if used != level:
                stand_in = f"the {used} is used" if used else "the name stands in for it"
                yield Note(
                    "missing_level",
                    Place(f"concepts/descriptions-{level}/{concept.concept_id}.txt", "", concept.concept_id),
                    f"No {level} text: {stand_in}.",
                )


def _note_templates(workspace: Workspace) -> Iterator[Note]:
    for template in workspace.templates:
        if template.fault:
            yield Note("row_not_usable", template.place, f"{template.fault} The table in templates.toml is a comment.")
        elif template.content is None:
            yield Note(
                "row_without_file",
                template.place,
                "Mode copy is complete without a file."
                if template.mode == "copy"
                else "The table in templates.toml is a comment until the file is "
                "there; a cohort that uses it is refused.",
            )
        if template.parser in SCALE_BY_SCORE_PARSER and not template.fault:
            scale = list(SCALE_BY_SCORE_PARSER[template.parser])
            yield Note(
                "parser_mapped",
                template.place,
                f"Parser {template.parser} became {_map_parser(template.parser)} with scale {scale}.",
            )
    yield from _note_lookalikes(workspace)


def _note_lookalikes(workspace: Workspace) -> Iterator[Note]:
    for stage in STAGES:
        with_file = [template for template in workspace.of_stage(stage) if template.content is not None]
        for group in _find_shared(with_file, lambda template: template.content):
            yield Note("identical_templates", _joint_place(group), "The files are byte-identical; all ids are kept.")
        for group in _find_shared(workspace.of_stage(stage), lambda each: each.template_id.replace("-", "_").lower()):
            yield Note("similar_ids", _joint_place(group), "The ids look alike and are different templates.")


def _joint_place(templates: list[Template]) -> Place:
    return templates[0].place._replace(name=", ".join(template.template_id for template in templates))


def _note_orphans(workspace: Workspace) -> Iterator[Note]:
    for place in workspace.templates_without_row:
        needs = "parser and scale" if place.stage == "evaluation" else "its settings"
        yield Note(
            "file_without_row",
            place,
            "Copied, but only {% include %} can use it: to make it a template, add "
            f"a table with {needs} to templates.toml, where one stands ready as a comment.",
        )
    for place in workspace.descriptions_without_row:
        yield Note(
            "file_without_row",
            place,
            "Not copied: no concept has this id. To use it, add the concept to concepts.csv and copy the file.",
        )


def _note_models(workspace: Workspace) -> Iterator[Note]:
    if workspace.models:
        yield Note(
            "model_routed",
            Place(MODELS_FILE),
            f"All models are called as openrouter/<model> with temperature "
            f"{TEMPERATURE} and max_tokens {MAX_TOKENS}, as the workspace's own program did.",
        )
    yield Note(
        "model_added",
        Place(MODELS_FILE, "", _first_model_id(workspace)),
        "Not of the workspace: runs here, for a first cohort without a key.",
    )


def _note_ignored(workspace: Workspace) -> Iterator[Note]:
    for file, column in workspace.ignored_columns:
        yield Note("ignored_column", Place(file, "", column), "The column has no counterpart.")
    for file in workspace.ignored_files:
        message = (
            "Older form of the draft templates, used by nothing."
            if file == LINKS_FILE
            else "The file has no place in this layout."
        )
        yield Note("ignored_file", Place(file), message)
    if "cohorts/adopted.toml" not in _cohort_files(workspace):
        yield Note(
            "no_cohort",
            Place(f"{STAGES[0]}_templates.csv"),
            "No first cohort was written: it needs a concept and a usable draft template.",
        )


def _describe_counts(counts: Mapping[str, Any]) -> list[str]:
    lines = [
        "{concepts} concepts with {distinct_names} distinct names, {description_files} description files".format(
            **counts
        ),
        *(
            f"{stage} templates: {numbers['usable']} usable; {numbers['rows']} rows, {numbers['files']} files, "
            f"{numbers['rows_without_file']} rows without a file, {numbers['files_without_row']} files without a row"
            for stage, numbers in counts["templates"].items()
        ),
        f"{counts['models']} models, {counts['free_tier_models']} of them free tier",
        f"replicates: {', '.join(f'{stage} {number}' for stage, number in counts['replicates'].items())}",
    ]
    return [f"  {line}" for line in lines]


def _describe_notes(notes: list[Note]) -> Iterator[str]:
    """Yield one line per kind with its count, then each message with the names that it is about."""
    for of_kind in _group(notes, lambda note: note.kind):
        yield ""
        yield f"{of_kind[0].kind} ({len(of_kind)})"
        for alike in _group(of_kind, lambda note: (note.place.stage, note.message)):
            stage, message = alike[0].place.stage, alike[0].message
            yield f"  {stage}: {message}" if stage else f"  {message}"
            yield f"    {'; '.join(note.place.name or note.place.file for note in alike)}"


def _find_shared(things: Iterable[Thing], key_of: Callable[[Thing], object]) -> list[list[Thing]]:
    """Return the groups of two or more things that have the same key, in order."""
    return [group for group in _group(things, key_of) if len(group) > 1]


def _group(things: Iterable[Thing], key_of: Callable[[Thing], object]) -> list[list[Thing]]:
    """Return the things by their key; groups and things stay in the order in which they came."""
    groups: dict[object, list[Thing]] = {}
    for thing in things:
        groups.setdefault(key_of(thing), []).append(thing)
    return list(groups.values())
