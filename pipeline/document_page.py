"""A document as a page for a browser, from the store alone: no configuration, no model; nothing is changed.

What a model wrote is shown as text. The page has no script and loads nothing, and its policy tells the
browser so: even markup that got through would not run. A report has a page of its own, which is sent as
it is, under the same policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.reports import hash_style, show_hidden
from pipeline.stages import MADE_STAGES, Stage
from pipeline.task_tables import find_cohorts_of
from store.data_root import DataRoot
from store.documents import Document, encode_readably
from store.errors import DocumentMissing, NameInvalid, StoreError

REPORT_FILE = "extras/report.html"
TEXT_TYPES = {".csv": "text/csv", ".html": "text/html"}  # all else is text/plain
# The names of texts in the order in which they are read, and what they hold.
TEXTS = {"parsed.txt": "Text", "raw.txt": "Reply", "prompt.txt": "Prompt"}


@dataclass(frozen=True)
class Page:
    """What a browser is sent."""

    content: bytes
    http_status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def find_link(family: str, params: Mapping[str, str]) -> str | None:
    """Return the way from the dashboard to the page of a task's document; None if the task makes none.

    >>> find_link("Essay", {"doc_id": "7k3f0q9x2m4b8z1c"})
    '../../document/essay/7k3f0q9x2m4b8z1c'
    """
    stage, doc_id = family.lower(), params.get("doc_id")
    if not doc_id or stage not in tuple(Stage):
        return None
    page = f"../../document/{stage}/{doc_id}"
    return f"{page}/{REPORT_FILE}" if stage == Stage.REPORT else page


def find_page(data: DataRoot, stage: str, doc_id: str, file_name: str | None) -> Page:
    """Return the page of a document or the content of one of its files."""
    try:
        document = data.documents.read(stage, doc_id)
        return _send_file(document, file_name) if file_name else _show_document(document)
    except NameInvalid as error:
        return _show_problem(404, stage, doc_id, str(error))
    except DocumentMissing:
        return _show_problem(404, stage, doc_id, _explain_absence(data, stage, doc_id))
    except StoreError as error:
        return _show_problem(500, stage, doc_id, str(error))


def _send_file(document: Document, name: str) -> Page:
    if name not in document.file_names:
        return _show_problem(404, document.stage, document.doc_id, f"It has no file {name!r}.")
    suffix = name[name.rfind(".") :]
    content_type = f"{TEXT_TYPES.get(suffix, 'text/plain')}; charset=UTF-8"
    headers = {"Content-Type": content_type, **_make_policy("unsafe-inline")}
    return Page(document.read_bytes(name), headers=headers)


def _explain_absence(data: DataRoot, stage: str, doc_id: str) -> str:
    cohorts = find_cohorts_of(data.tasks_folder, Stage(stage), doc_id) if stage in MADE_STAGES else []
    if not cohorts:
        return "No such document is there, and no task table asks for one."
    return f"It is not there yet. The task tables of {', '.join(cohorts)} ask for it; daybook show {doc_id} says more."


def _show_document(document: Document) -> Page:
    page = _render(
        stage=document.stage,
        doc_id=document.doc_id,
        facts=list(_list_facts(document.metadata)),
        parents=document.metadata.get("parents", []),
        texts=[(title, name, document.read_text(name)) for name, title in TEXTS.items() if name in document.file_names],
        files=document.file_names,
        metadata=encode_readably(document.metadata).decode(),
        problem=None,
    )
    return Page(page, headers=_html_headers())


def _list_facts(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a person looks for first: name, template, model, score, tokens."""
    for name in ("task_id", "cohort", "template_id", "model_id", "model"):
        if metadata.get(name):
            yield name, str(metadata[name])
    score = metadata.get("score")
    if score:
        yield "score", f"{score['value']:g} of {score['scale'][0]:g} to {score['scale'][1]:g}"
    if metadata.get("total_tokens"):
        yield "tokens", f"{metadata['prompt_tokens']:,} + {metadata['completion_tokens']:,}"
    yield "created_at", str(metadata.get("created_at", ""))


def _show_problem(http_status: int, stage: str, doc_id: str, problem: str) -> Page:
    page = _render(stage=stage, doc_id=doc_id, facts=[], parents=[], texts=[], files=[], metadata="", problem=problem)
    return Page(page, http_status, _html_headers())


def _render(**variables: Any) -> bytes:
    style = Markup(_read_style())  # noqa: S704 - our own file
    return _make_environment().get_template("document.html.j2").render(style=style, **variables).encode()


def _html_headers() -> dict[str, str]:
    return {"Content-Type": "text/html; charset=UTF-8", **_make_policy(hash_style(_read_style()))}


def _make_policy(style: str) -> dict[str, str]:
    policy = f"default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'; "
    return {"Content-Security-Policy": policy + "frame-ancestors 'none'"}


@lru_cache(maxsize=1)
def _read_style() -> str:
    environment = _make_environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, "document.css")[0]


@lru_cache(maxsize=1)
def _make_environment() -> Environment:
    """Return the environment of the page: its own, so that no template of an experiment can reach it."""
    return Environment(
        loader=PackageLoader("pipeline", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=show_hidden,
        trim_blocks=True,
        lstrip_blocks=True,
    )
