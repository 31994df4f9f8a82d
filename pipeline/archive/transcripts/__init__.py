"""Transcripts: a view as one Markdown or HTML document, by a template that a person may change.

    read_template     config/transcripts/<format>.j2 and style.css, else those that come with the program
    plan_transcript   outline + template + options ▸ doc_id; nothing is read for it
    render_transcript view ▸ turns ▸ template ▸ bytes; pure
    make_transcript   the same, committed: transcript.md or transcript.html, with what it was made from

Equal inputs give equal bytes: no present time, times in UTC, LF, a newline at the end. An HTML transcript is one file
without a script, and its policy lets it load nothing but pictures that lie beside it. Attachments are not copied into
the document: its metadata names the documents that keep their bytes, and whoever places a transcript copies them.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import DictLoader, StrictUndefined, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from pipeline.archive.conversation_documents import CONVERSATION_FILE
from pipeline.archive.conversations import Conversation, Lineage
from pipeline.archive.file_names import name_view
from pipeline.archive.front_matter import write_front_matter
from pipeline.archive.readable_texts import clean_line
from pipeline.archive.transcripts.attachment_files import AttachmentFile, AttachmentFiles, as_records
from pipeline.archive.transcripts.markdown_texts import contain, fence_code, name_language, render_code, render_html
from pipeline.archive.transcripts.turns import Options, Page, compose_page
from pipeline.archive.views import Outline, View
from pipeline.errors import ConfigInvalid, Problem
from pipeline.prompts import RANDOM_FILTERS, RANDOM_GLOBALS
from pipeline.stages import ArchiveStage, Mode, Status
from store.documents import Document, DocumentStore
from store.identity import digest_of, encode_canonically, hash_bytes, id_from_digest

TRANSCRIPT_VERSION = 2  # raise it when equal inputs give other bytes, such as by a change of what a page shows
TEMPLATE_FOLDER = "transcripts"  # within config/
STYLE_FILE = "style.css"
SHIPPED_FOLDER = Path(__file__).parents[2] / "pages" / TEMPLATE_FOLDER

_PROVIDER_NAMES = {"chatgpt": "ChatGPT", "ai_studio": "AI Studio", "gemini_cli": "Gemini CLI"}


class Format(StrEnum):
    """What a transcript is written in."""

    MARKDOWN = "md"
    HTML = "html"


_TEMPLATE_FILES = {Format.MARKDOWN: "markdown.j2", Format.HTML: "html.j2"}
TEMPLATE_NAMES = (*_TEMPLATE_FILES.values(), STYLE_FILE)


class TranscriptTemplate(NamedTuple):
    """A template with all that it includes. `texts` maps file names to texts."""

    format: Format
    texts: Mapping[str, str]

    @property
    def file_name(self) -> str:
        return _TEMPLATE_FILES[self.format]

    @property
    def blake3(self) -> str:
        return hash_bytes(encode_canonically({name: hash_bytes(text.encode()) for name, text in self.texts.items()}))


class TranscriptPlan(NamedTuple):
    """A transcript that should be there."""

    doc_id: str
    digest: str
    inputs: dict[str, Any]
    template: TranscriptTemplate
    options: Options


def read_template(config_root: Path, form: Format) -> TranscriptTemplate:
    """Return the template of a format: config/transcripts/ goes before what is shipped, file by file.

    Raises ConfigInvalid if one of its texts is no template, or includes what is not there.
    """
    texts = {**_read_folder(SHIPPED_FOLDER), **_read_folder(config_root / TEMPLATE_FOLDER)}
    used = [STYLE_FILE] if form is Format.HTML else []
    waiting = [_TEMPLATE_FILES[form]]
    while waiting:
        name = waiting.pop()
        used.append(name)
        waiting += [included for included in _find_includes(name, texts, form) if included not in used]
    return TranscriptTemplate(form, {name: texts[name] for name in used})


def _find_includes(name: str, texts: Mapping[str, str], form: Format) -> list[str]:
    """Return the names of what a template includes. Raises ConfigInvalid if it is none, or one is not there."""
    environment = _make_environment(form, ())
    try:
        environment.compile(texts[name])  # finds filters that do not exist
        included = list(meta.find_referenced_templates(environment.parse(texts[name])))
    except TemplateSyntaxError as error:
        raise _refuse_template(name, error.lineno, str(error.message)) from error
    for wanted in included:
        if wanted not in texts:
            known = ", ".join(sorted(texts))
            raise _refuse_template(name, None, f"includes {wanted!r}. Expected a name in quotes, one of: {known}.")
    return [wanted for wanted in included if wanted]


def _refuse_template(name: str, line: int | None, message: str) -> ConfigInvalid:
    return ConfigInvalid([Problem(f"{TEMPLATE_FOLDER}/{name}", line, message)])


def _read_folder(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".j2", ".css"))
    return {path.name: path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n") for path in paths}


def plan_transcript(outline: Outline, template: TranscriptTemplate, options: Options) -> TranscriptPlan:
    """Return what a transcript is made from, and its id."""
    inputs = {
        "version": TRANSCRIPT_VERSION,
        "merging": outline.version,
        "conversations": sorted(outline.versions),
        "origins": sorted(outline.origins),
        "is_gone": outline.is_gone,
        "format": str(template.format),
        "template": template.blake3,
        "options": options._asdict(),
    }
    digest = digest_of(ArchiveStage.TRANSCRIPT, inputs)
    return TranscriptPlan(id_from_digest(digest), digest, inputs, template, options)


class Rendered(NamedTuple):
    """A transcript before it is committed."""

    name: str  # of its file in a folder, without the ending
    content: bytes
    page: Page
    attachments: Mapping[str, AttachmentFile]


class Draft(NamedTuple):
    """All that is committed of a transcript."""

    files: dict[str, bytes]
    metadata: dict[str, Any]


def make_transcript(documents: DocumentStore, view: View, plan: TranscriptPlan) -> Document:
    """Render a view and commit it."""
    return documents.commit(ArchiveStage.TRANSCRIPT, plan.doc_id, *compose_transcript(documents, view, plan))


def compose_transcript(documents: DocumentStore, view: View, plan: TranscriptPlan) -> Draft:
    form = plan.template.format
    rendered = render_transcript(documents, view, plan.template, plan.options)
    metadata = {
        "digest": plan.digest,
        "inputs": plan.inputs,
        "mode": str(Mode.COPY),
        "status": str(Status.OK),
        **_describe_parents(documents, view),
        **describe_transcript(view, rendered, form),
    }
    return Draft({file_of(form): rendered.content}, metadata)


def file_of(form: Format) -> str:
    return f"transcript.{form}"


def _describe_parents(documents: DocumentStore, view: View) -> dict[str, Any]:
    """Return the observations that the view was made from. The time is the latest of theirs, not that of the making."""
    parents, times = [], []
    for doc_id in sorted(view.versions):
        metadata = documents.read_metadata(ArchiveStage.CONVERSATION, doc_id)
        parent = {"stage": str(ArchiveStage.CONVERSATION), "doc_id": doc_id, "file": CONVERSATION_FILE}
        parents.append({**parent, "blake3": metadata["files"][CONVERSATION_FILE]["blake3"]})
        times.append(str(metadata.get("created_at") or ""))
    return {"parents": parents, "created_at": max(times, default="")}


def describe_transcript(view: View, rendered: Rendered, form: Format) -> dict[str, Any]:
    """Return what an index of transcripts and the placing of them need to know, so that neither reads a view."""
    conversation, page = view.conversation, rendered.page
    return {
        "format": str(form),
        "name": rendered.name,
        "conversation_id": view.conversation_id,
        "provider": conversation.provider,
        "title": title_of(conversation),
        "created": created_of(conversation),
        "updated": updated_of(conversation),
        "models": list_models(conversation),
        "project": conversation.project_name,
        "messages": page.message_count,
        "beginning": page.prompts[0].words if page.prompts else "",
        "is_gone": view.is_gone,
        "branch": page.branch,
        "is_empty": page.is_empty,
        "attachments": as_records(rendered.attachments),
    }


def render_transcript(documents: DocumentStore, view: View, template: TranscriptTemplate, options: Options) -> Rendered:
    """Return a view as a template shows it. Reads the bytes of attachments, and nothing else."""
    conversation = view.conversation
    name = name_view(title_of(conversation), created_of(conversation), view.conversation_id)
    if isinstance(options.branch, int):
        name = f"{name}-branch-{options.branch}"
    files = AttachmentFiles(documents, view, folder=folder_of(name))
    page = compose_page(view, options, files.show)
    text = _render(template, _list_variables(view, page, template.format))
    return Rendered(name, f"{text.rstrip()}\n".encode(errors="replace"), page, files.placed)


def folder_of(name: str) -> str:
    """Return the folder of a transcript's attachments, beside it."""
    return f"{name}.files"


def _render(template: TranscriptTemplate, variables: Mapping[str, Any]) -> str:
    style = template.texts.get(STYLE_FILE, "")
    texts = tuple(sorted(template.texts.items()))
    try:
        jinja_template = _make_environment(template.format, texts).get_template(template.file_name)
        return jinja_template.render(
            **variables,
            style=Markup(style),  # noqa: S704 - a person's own file
            policy=make_policy(style),
        )
    except TemplateError as error:
        raise _refuse_template(template.file_name, getattr(error, "lineno", None), str(error.message)) from error


def make_policy(style: str, script: str | None = None) -> str:
    """Return a Content-Security-Policy: style and script by their hashes, pictures from beside the page or in it."""
    policy = f"default-src 'none'; img-src 'self' data:; style-src '{hash_source(style)}'; "
    if script is not None:
        policy += f"script-src '{hash_source(script)}'; "
    return policy + "base-uri 'none'; form-action 'none'"


def hash_source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _list_variables(view: View, page: Page, form: Format) -> dict[str, Any]:
    """Return what a template can use; docs/transcripts.md lists it."""
    conversation = view.conversation
    facts = {
        "title": title_of(conversation),
        "conversation_id": view.conversation_id,
        "provider": conversation.provider,
        "native_id": clean_line(conversation.native_id),
        "created": created_of(conversation),
        "updated": updated_of(conversation),
        "models": list_models(conversation),
        "project": clean_line(conversation.project_name or ""),
        "folder": clean_line(conversation.cwd or ""),
        "git_branch": clean_line(str(conversation.git.get("branch") or "")),
        "flags": sorted(conversation.flags),
        "messages": page.message_count,
        "branches": page.branch_count,
        "versions": len(view.versions),
        "gone": view.is_gone,
        "migrated": conversation.is_migrated,
        "leaf_guessed": conversation.is_leaf_guessed,
        "conflicts": [clean_line(conflict) for conflict in view.conflicts],
        "related": [_describe_link(link) for link in conversation.lineage],
    }
    return {
        "facts": facts,
        "page": page,
        "provider_name": name_provider(conversation.provider),
        "front_matter": write_front_matter(facts) if form is Format.MARKDOWN else "",
    }


def _describe_link(link: Lineage) -> dict[str, str]:
    return {"kind": clean_line(link.kind).replace("_", " "), "native_id": clean_line(link.native_id)}


def name_provider(provider: str) -> str:
    """("claude_code") -> "Claude Code" """
    return _PROVIDER_NAMES.get(provider) or clean_line(provider).replace("_", " ").title()


def title_of(conversation: Conversation) -> str:
    return clean_line(conversation.title or "") or "Untitled"


def created_of(conversation: Conversation) -> str | None:
    """Return when a conversation began; without a time of its own, the first of its messages'."""
    return conversation.created or min(_list_times(conversation), default=None)


def updated_of(conversation: Conversation) -> str | None:
    """Return when a conversation changed last; without a time of its own, the last of its messages'."""
    return conversation.updated or max(_list_times(conversation), default=None)


def _list_times(conversation: Conversation) -> list[str]:
    return [time for message in conversation.messages for time in (message.created, message.updated) if time]


def list_models(conversation: Conversation) -> list[str]:
    """Return the models that answered, in the order of their first answer; else the default one."""
    answered = dict.fromkeys(clean_line(message.model) for message in conversation.messages if message.model)
    return list(answered) or ([clean_line(conversation.model)] if conversation.model else [])


# What templates can do


@lru_cache(maxsize=8)
def _make_environment(form: Format, texts: tuple[tuple[str, str], ...]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=DictLoader(dict(texts)),
        undefined=StrictUndefined,
        autoescape=form is Format.HTML,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in RANDOM_GLOBALS:
        environment.globals.pop(name)
    for name in RANDOM_FILTERS:
        environment.filters.pop(name)
    environment.filters |= {"when": show_time, "number": lambda number: f"{number:,}", **_FILTERS[form]}
    return environment


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")


def show_time(time: str | None) -> str:
    """("2026-03-01T09:00:02.123456Z") -> "2026-03-01 09:00 UTC" """
    return f"{time[:10]} {time[11:16]} UTC" if time and _TIME.match(time) else ""


_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]#|~$])")


def escape_line(text: str) -> str:
    r"""Return a text as one line of Markdown that shows exactly it.

    >>> escape_line("a *b*\n<script> & c")
    'a \\*b\\* &lt;script&gt; &amp; c'
    """
    return _MARKDOWN_SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


_FILTERS: dict[Format, dict[str, Callable[..., Any]]] = {
    Format.MARKDOWN: {
        "markdown": contain,
        "code": lambda text, language="": fence_code(text, name_language(language)),
        "line": escape_line,
    },
    Format.HTML: {
        "markdown": lambda text: Markup(render_html(text)),  # noqa: S704 - cleaned
        "code": lambda text, language="": Markup(render_code(text, name_language(language))),  # noqa: S704 - escaped
        "line": lambda text: " ".join(text.split()),
    },
}
