"""Reading a workspace: every file of 1_raw/ once, with every mistake listed by file and line.

Ids decide and are taken as they are: `-` and `_` are different characters.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.adoption.workspace import (
    CONCEPTS_FILE,
    LINKS_FILE,
    MODELS_FILE,
    REPLICATES_FILE,
    STAGES,
    Concept,
    Model,
    Place,
    Template,
    Workspace,
)
from pipeline.concepts import LEVELS
from pipeline.errors import InputInvalid, Problem
from pipeline.prompts import find_includes, find_undefined
from pipeline.stages import STAGE_RULES, Stage
from pipeline.toml_file import ID_EXPECTED, ID_FORM

COLUMNS_BY_FILE = {
    CONCEPTS_FILE: ("concept_id", "name"),
    **{
        f"{stage}_templates.csv": ("template_id", "template_name", "description", "parser", "generator")
        for stage in STAGES
    },
    MODELS_FILE: ("id", "model", "provider", "display_name", "specialization"),
    REPLICATES_FILE: ("stage", "replicates"),
}  # the first column of each is its key


def find_raw_folder(source: Path) -> Path:
    for folder in (source / "1_raw", source):
        if (folder.name == "1_raw" and folder.is_dir()) or any((folder / file).is_file() for file in COLUMNS_BY_FILE):
            return folder
    raise InputInvalid(
        f"{source} is not a workspace: it holds neither 1_raw/ nor {CONCEPTS_FILE}. "
        "Give the folder that holds 1_raw/, or 1_raw itself."
    )


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


class _Record(NamedTuple):
    line: int
    cells: list[str]


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
