"""Concepts: ideas with a description at one or more levels of detail.

config/concepts.csv                        concept_id,name
config/concepts/<level>/<concept_id>.txt   level = sentence | paragraph | article
config/concepts/origins.csv                where texts from the archive came from; part of no identity
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import Problem
from pipeline.spreadsheets import unguard_text
from pipeline.toml_file import ID_EXPECTED, ID_FORM
from store.files import read_file
from store.identity import Encoded, encode_once, hash_bytes

LEVELS = ("sentence", "paragraph", "article")
FALLBACK_LEVELS = ("paragraph", "sentence")  # after the requested one; the concept's name comes last
COLUMNS = ["concept_id", "name"]
ORIGINS_FILE = "origins.csv"


class Description(NamedTuple):
    """What a prompt says about a concept, and where it was found: a level, or "name"."""

    level: str
    text: str


class Origin(NamedTuple):
    """Where the text of a concept was in the archive. `place` is that of the record or line in the export's file."""

    text_blake3: str  # of the text as it came: one that was edited since has another
    conversation: str  # conversation_id
    document: str  # doc_id of the conversation document
    message: str  # its key; "" for a whole conversation
    export: str  # doc_id of the export document
    member: str  # the name of the export's file
    place: str


ORIGIN_COLUMNS = ["concept_id", "level", *Origin._fields]


@dataclass(frozen=True)
class Concept:
    """`texts` maps each level that has a description to it, stripped; `origins` those from the archive."""

    concept_id: str
    name: str
    texts: Mapping[str, str]
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def describe(self, level: str) -> Description:
        """Return the description at `level`, or the nearest one: paragraph, sentence, then the name."""
        for candidate in (level, *FALLBACK_LEVELS):
            if self.texts.get(candidate):
                return Description(candidate, self.texts[candidate])
        return Description("name", self.name)

    def origin_at(self, level: str) -> dict[str, str | bool] | None:
        """Return where the description at `level` came from, and whether it was edited since; None: not recorded."""
        found = self.describe(level)
        origin = self.origins.get(found.level)
        if origin is None:
            return None
        facts = origin._asdict()
        is_edited = facts.pop("text_blake3") != hash_bytes(found.text.encode())
        return {**facts, "is_edited": is_edited}

    def inputs_at(self, level: str) -> dict[str, str]:
        return {"name": self.name, "text_blake3": hash_bytes(self.describe(level).text.encode())}


@dataclass(frozen=True)
class Combo:
    """An ordered set of concepts at one level."""

    concepts: tuple[Concept, ...]
    level: str

    @property
    def combo_id(self) -> str:
        """The readable name: concept ids in order, such as dmn+flywheel."""
        return "+".join(concept.concept_id for concept in self.concepts)

    @cached_property
    def inputs(self) -> Encoded:
        """What of the combo is part of an identity: names, and texts by their hash."""
        return encode_once([concept.inputs_at(self.level) for concept in self.concepts])


def load_concepts(config_root: Path, problems: list[Problem]) -> dict[str, Concept]:
    """Return {concept_id: Concept} in the order of concepts.csv."""
    names = _read_names(config_root / "concepts.csv", problems)
    texts = _read_texts(config_root / "concepts", names, problems)
    origins = _read_origins(config_root / "concepts" / ORIGINS_FILE, names, problems)
    return {
        concept_id: Concept(concept_id, name, texts[concept_id], origins[concept_id])
        for concept_id, name in names.items()
    }


def _read_names(path: Path, problems: list[Problem]) -> dict[str, str]:
    names: dict[str, str] = {}
    for line, row in read_csv_rows(path, COLUMNS, problems):
        concept_id, name = row["concept_id"], row["name"]
        if not ID_FORM.fullmatch(concept_id):
            problems.append(Problem(path.name, line, f"{concept_id!r} is not a concept id. Expected {ID_EXPECTED}."))
        elif concept_id in names:
            problems.append(Problem(path.name, line, f"concept {concept_id!r} is listed twice. Expected one row each."))
        elif not name:
            problems.append(Problem(path.name, line, f"concept {concept_id!r} has no name. Expected concept_id,name."))
        else:
            names[concept_id] = unicodedata.normalize("NFC", name)  # as identities hold it; texts go in by their bytes
    return names


def _read_texts(folder: Path, names: Mapping[str, str], problems: list[Problem]) -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = {concept_id: {} for concept_id in names}
    for path in sorted(folder.glob("*/[!.]*"), key=str):  # hidden files are a desktop's or an editor's
        level, concept_id, place = path.parent.name, path.stem, f"concepts/{path.parent.name}/{path.name}"
        if level not in LEVELS:
            problems.append(Problem(place, None, f"unknown level {level!r}. Expected one of: {', '.join(LEVELS)}."))
        elif path.suffix != ".txt" or concept_id not in names:
            problems.append(Problem(place, None, "no row of concepts.csv names this file. Expected <concept_id>.txt."))
        else:
            text = read_text_file(path, place, problems).strip()
            if text:
                texts[concept_id][level] = text
    return texts


def _read_origins(path: Path, names: Mapping[str, str], problems: list[Problem]) -> dict[str, dict[str, Origin]]:
    origins: dict[str, dict[str, Origin]] = {concept_id: {} for concept_id in names}
    for line, row in read_csv_rows(path, ORIGIN_COLUMNS, problems) if path.exists() else []:
        concept_id, level = row["concept_id"], row["level"]
        if concept_id not in names or level not in LEVELS:
            what = (
                f"no concept {concept_id!r} at level {level!r}" if concept_id in names else f"no concept {concept_id!r}"
            )
            problems.append(Problem(f"concepts/{path.name}", line, f"there is {what}. Expected a row of concepts.csv."))
        else:
            origins[concept_id][level] = Origin(**{name: unguard_text(row[name]) for name in Origin._fields})
    return origins


def read_text_file(path: Path, place: str, problems: list[Problem]) -> str:
    """Return a file's text, newlines as they are, without a byte order mark; "" with a Problem if it is not UTF-8."""
    try:
        return read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(place, None, f"the file is not UTF-8: {error}."))
    except IsADirectoryError:
        problems.append(Problem(place, None, "this is a folder. Expected a text file."))
    return ""


def read_csv_rows(path: Path, columns: list[str], problems: list[Problem]) -> list[tuple[int, dict[str, str]]]:
    """Return (line, {column: value}) of each row, values stripped.

    `columns` are those expected. [] takes any number of columns, whatever their words, and calls them "0", "1", …
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problems.append(Problem(path.name, None, f"the file does not exist. Expected {path}."))
        return []
    except UnicodeDecodeError as error:
        problems.append(Problem(path.name, None, f"the file is not UTF-8: {error}."))
        return []
    reader = csv.reader(io.StringIO(text, newline=""))  # splitlines would also cut at U+2028 and its like
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        problems.append(Problem(path.name, reader.line_num, f"not CSV: {error}."))
        return []
    return _check_cells(path.name, lines, columns, problems)


def _check_cells(
    file: str, lines: list[tuple[int, list[str]]], columns: list[str], problems: list[Problem]
) -> list[tuple[int, dict[str, str]]]:
    line, header = lines[0] if lines else (1, [])
    if columns and header != columns:
        found = f"the columns are {','.join(header)}." if header else "the file is empty."
        problems.append(Problem(file, line, f"{found} Expected the columns {','.join(columns)}."))
        return []
    rows = []
    names = columns or [str(number) for number in range(len(header))]  # words of a header may stand there twice
    for line, cells in lines[1:]:
        if len(cells) == len(header):
            rows.append((line, dict(zip(names, cells, strict=True))))
        else:
            found = f"the row has {len(cells)} cells. Expected {len(header)}: {','.join(header)}."
            problems.append(Problem(file, line, found))
    return rows
