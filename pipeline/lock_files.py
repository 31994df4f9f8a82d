"""Lock files: which documents a cohort asks for and what they hold, in a text file for version control.

    config/cohorts/<name>.lock

    daybook lock 1
    concept tide-pool 91ab…                what the ids are made from: each ingredient with a hash of its inputs
    draft 2m4b8z1c7k3f0q9x 07cd… <task_id>   each document: doc_id, content and name

A line each, sorted by stage and name, so that a diff shows what has changed. The content is the start of the
content_id, which hashes all files of a document but metadata.json; it is "-" for one that was not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputInvalid
from pipeline.planning import CohortPlan, DocumentPlan
from pipeline.stages import MADE_STAGES, REPORT_VERSION, STAGE_RULES, Stage
from store.durable import unique_path
from store.identity import ID_FORM, encode_canonically, hash_bytes

HEAD = "daybook lock 1"
INGREDIENT_KINDS = ("code", "concept", "model", "parser", "template")
INGREDIENT_CHARACTERS = 16  # of a hash: it says that something has changed, and is no promise
CONTENT_CHARACTERS = 32  # of a content_id: 128 bits
NO_CONTENT = "-"
STAGE_ORDER = (*MADE_STAGES, Stage.REPORT)


class LockedDocument(NamedTuple):
    """A document of a lock. `content` is "-" if it was not there when the lock was written."""

    stage: Stage
    doc_id: str
    content: str
    task_id: str


class LockFile(NamedTuple):
    """What a lock holds. `ingredients` maps "template draft/plain" to a hash."""

    ingredients: dict[str, str]
    documents: list[LockedDocument]


def lock_path(config_root: Path, cohort: str) -> Path:
    return config_root / "cohorts" / f"{cohort}.lock"


def list_ingredients(plan: CohortPlan) -> dict[str, str]:
    """Return {what the cohort's ids are made from: hash}: code, concepts, models, parsers and templates."""
    found = {f"code {stage}": str(STAGE_RULES[stage].version) for stage in plan.rows}
    found[f"code {Stage.REPORT}"] = str(REPORT_VERSION)
    for document in plan.walk():
        found.update(_list_own_ingredients(document))
    return found


def _list_own_ingredients(plan: DocumentPlan) -> Iterator[tuple[str, str]]:
    if plan.combo:
        for concept in plan.combo.concepts:
            yield f"concept {concept.concept_id}", _hash(encode_canonically(dict(concept.inputs_at(plan.combo.level))))
    if plan.model:
        yield f"model {plan.model_id}", _hash(plan.model.inputs.encoding)
    if plan.template:
        yield f"parser {plan.stage}/{plan.template_id}", _hash(plan.template.parser_inputs.encoding)
        if plan.template.texts:
            schema = encode_canonically(plan.template.response_schema)
            yield f"template {plan.stage}/{plan.template_id}", _hash(plan.template.inputs.encoding + schema)


def _hash(content: bytes) -> str:
    return hash_bytes(content)[:INGREDIENT_CHARACTERS]


def write_lock(path: Path, lock: LockFile) -> None:
    """Write a lock, whole or not at all."""
    staged = unique_path(path.parent, f".{path.name}")
    staged.write_bytes(format_lock(lock))
    staged.replace(path)


def format_lock(lock: LockFile) -> bytes:
    lines = [HEAD, *(f"{name} {digest}" for name, digest in sorted(lock.ingredients.items()))]
    for document in sorted(lock.documents, key=_place_of):
        task_id = " ".join(document.task_id.split())  # a line each, whatever a person wrote into a table
        lines.append(f"{document.stage} {document.doc_id} {document.content} {task_id}")
    return "\n".join([*lines, ""]).encode()


def _place_of(document: LockedDocument) -> tuple[int, str, str]:
    return STAGE_ORDER.index(document.stage), document.task_id, document.doc_id


def read_lock(path: Path) -> LockFile:
    """Return the lock in a file. Raises InputInvalid with the line that is none."""
    try:
        lines = path.read_bytes().decode().splitlines()
    except FileNotFoundError:
        raise InputInvalid(f"There is no {path}. Type daybook lock {path.stem} to write it.") from None
    except UnicodeDecodeError as error:
        raise InputInvalid(f"{path} is not UTF-8: {error}. Restore it, or type daybook lock {path.stem}.") from error
    if lines[:1] != [HEAD]:
        found = lines[0] if lines else ""
        raise InputInvalid(f"{path} begins with {found!r}. Expected {HEAD!r}: restore it, or lock the cohort again.")
    lock = LockFile({}, [])
    for number, line in enumerate(lines[1:], start=2):
        _read_line(path, number, line, lock)
    return lock


def _read_line(path: Path, number: int, line: str, lock: LockFile) -> None:
    kind, _, rest = line.partition(" ")
    words = rest.split(" ", 2)
    if kind in INGREDIENT_KINDS and len(words) == 2:
        lock.ingredients[f"{kind} {words[0]}"] = words[1]
    elif kind in STAGE_ORDER and len(words) == 3 and ID_FORM.fullmatch(words[0]):
        lock.documents.append(LockedDocument(Stage(kind), *words))
    else:
        expected = "Expected an ingredient with its hash, or a document with its doc_id, content and task_id."
        raise InputInvalid(f"{path}, line {number}: {line!r} is no line of a lock. {expected}")
