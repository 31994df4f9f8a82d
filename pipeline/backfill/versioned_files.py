"""Layout 1: text files, one for each answer and one for each text in use.

2_tasks/{draft_generation,essay_generation,evaluation}_tasks.csv
3_generation/{draft,essay}_responses_raw/<task_id>_v<N>.txt     every answer
3_generation/{draft,essay,links}_responses/<task_id>.txt        what was made of the latest; links are drafts
4_evaluation/evaluation_responses{_raw,}/                       likewise
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pipeline.backfill.sources import OldAnswer, OldDocument, OldStore
from pipeline.stages import Stage

LAYOUT = "versioned_files"
PARSED_FILE = "parsed.txt"
# Stage, the folder of its answers, the folder of what was made of them.
FOLDERS = (
    (Stage.DRAFT, "3_generation/draft_responses_raw", "3_generation/draft_responses"),
    (Stage.DRAFT, "3_generation/links_responses_raw", "3_generation/links_responses"),
    (Stage.ESSAY, "3_generation/essay_responses_raw", "3_generation/essay_responses"),
    (Stage.EVALUATION, "4_evaluation/evaluation_responses_raw", "4_evaluation/evaluation_responses"),
)
TABLES = (
    (Stage.DRAFT, "draft_generation_tasks.csv"),
    (Stage.ESSAY, "essay_generation_tasks.csv"),
    (Stage.EVALUATION, "evaluation_tasks.csv"),
)
TASK_ID_COLUMNS = {
    Stage.DRAFT: ("draft_task_id", "link_task_id"),
    Stage.ESSAY: ("essay_task_id",),
    Stage.EVALUATION: ("evaluation_task_id",),
}
COLUMNS = {  # by field of a document: the names that columns have had
    "template_id": ("{stage}_template_id", "{stage}_template", "link_template", "template_id"),
    "model_id": ("{stage}_model_id", "{stage}_model", "generation_model", "model_id"),
    "combo_id": ("combo_id",),
}
_VERSION = re.compile(r"(?P<task_id>.+)_v(?P<version>\d{1,9})")


def read_versioned_files(root: Path, store: OldStore) -> None:
    """Add what lies below `root` in this layout to `store`."""
    store.tables.update(_read_tables(root / "2_tasks", store))
    for stage, raw_name, parsed_name in FOLDERS:
        raw_folder, parsed_folder = root / raw_name, root / parsed_name
        if raw_folder.is_dir() or parsed_folder.is_dir():
            if LAYOUT not in store.layouts:
                store.layouts.append(LAYOUT)
            store.documents.extend(_read_folders(stage, raw_folder, parsed_folder, store))


def _read_folders(stage: Stage, raw_folder: Path, parsed_folder: Path, store: OldStore) -> Iterator[OldDocument]:
    answers: defaultdict[str, list[OldAnswer]] = defaultdict(list)
    for path in _list_texts(raw_folder, store):
        match = _VERSION.fullmatch(path.stem)
        task_id, version = (match["task_id"], int(match["version"])) if match else (path.stem, 0)
        answers[task_id].append(OldAnswer(version, path, {}))
    parsed = {path.stem: path for path in _list_texts(parsed_folder, store)}
    for task_id in sorted(answers.keys() | parsed.keys()):
        files = {PARSED_FILE: parsed[task_id]} if task_id in parsed else {}
        # Versions are numbers: v10 comes after v9. Equal ones (v1, v01) stay in the order of their names.
        ordered = tuple(sorted(answers.get(task_id, ()), key=lambda answer: (answer.version, answer.path.name)))
        yield _describe(stage, task_id, ordered, files, store)


def _describe(
    stage: Stage, task_id: str, answers: tuple[OldAnswer, ...], files: dict[str, Path], store: OldStore
) -> OldDocument:
    rows = store.tables.get((stage, task_id), [])
    known = {name: _find_value(rows, columns, stage) for name, columns in COLUMNS.items()}
    return OldDocument(
        str(stage),
        task_id,
        LAYOUT,
        answers,
        files,
        task_id,
        template_id=known["template_id"],
        model_id=known["model_id"],
        combo_id=known["combo_id"],
    )


def _find_value(rows: list[dict[str, str]], columns: tuple[str, ...], stage: Stage) -> str:
    """Return what the rows of a task say in the first of these columns that they have; "" if they do not agree."""
    for column in columns:
        values = {row.get(column.format(stage=stage), "").strip() for row in rows} - {""}
        if values:
            return values.pop() if len(values) == 1 else ""
    return ""


def _list_texts(folder: Path, store: OldStore) -> list[Path]:
    texts = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".txt" and path.is_file():
            texts.append(path)
        elif not path.name.startswith("."):
            store.add_problem(path, "it is no text file <task_id>.txt, so nothing was taken from it")
    return texts


def _read_tables(folder: Path, store: OldStore) -> dict[tuple[str, str], list[dict[str, str]]]:
    rows: defaultdict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for stage, name in TABLES:
        path = folder / name
        if path.is_file():
            for row in _read_table(path, store):
                task_id = next((row[column] for column in TASK_ID_COLUMNS[stage] if row.get(column)), "")
                if task_id:
                    rows[stage, task_id.strip()].append(row)
                else:
                    store.add_problem(path, f"a row has no {TASK_ID_COLUMNS[stage][0]}")
    return dict(rows)


def _read_table(path: Path, store: OldStore) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), restval="")
        return [{name: value for name, value in row.items() if name is not None} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        store.add_problem(path, f"it is not CSV in UTF-8 and was not used: {error}")
        return []
