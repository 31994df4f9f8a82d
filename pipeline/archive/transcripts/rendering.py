"""Rendering: the transcripts that a person asks for, made where they are missing.

Which views are meant is decided by the catalogue, without reading a conversation; a transcript that is there is not
made again. One view that cannot be rendered is named, and stops no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.archive.catalogue import Group, read_catalogue
from pipeline.archive.emptiness import NOT_MADE, explain_emptiness
from pipeline.archive.transcripts import (
    SHIPPED_FOLDER,
    TEMPLATE_FOLDER,
    TEMPLATE_NAMES,
    Draft,
    Format,
    TranscriptPlan,
    compose_transcript,
    plan_transcript,
    read_template,
)
from pipeline.archive.transcripts.index_page import write_index
from pipeline.archive.transcripts.placing import ViewKey, lacks_branch, place_transcripts
from pipeline.archive.transcripts.turns import Options
from pipeline.archive.views import View, find_view, outline_views, walk_views
from pipeline.errors import InputInvalid, PipelineError
from pipeline.stages import ArchiveStage
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.documents import Document
from store.errors import DocumentMissing, StoreError

DEFAULT_FOLDER = "transcripts"  # within the data folder
BATCH_DOCUMENTS, BATCH_BYTES = 200, 64 * 1024 * 1024  # that are committed together
SINCE_FORM = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\dZ?)?)?)?)?")


class Request(NamedTuple):
    """Which views are to be transcripts, and how. None and (): all of them."""

    format: Format = Format.HTML
    options: Options = Options()
    provider: str | None = None
    since: str | None = None  # the beginning of a time: conversations that changed then or later
    conversations: tuple[str, ...] = ()  # the beginnings of ids


class Failure(NamedTuple):
    """A view that could not be rendered."""

    conversation_id: str
    reason: str


class Renderings(NamedTuple):
    """What a request gave."""

    documents: list[Document]  # one for each view that could be rendered, in the order of their ids
    made: int
    failures: list[Failure]
    asked: list[ViewKey]  # what was asked for and did not fail


Watch = Callable[[int, int], None]  # is told how many are made, and of how many


def render_views(workspace: Workspace, request: Request, *, watch: Watch = lambda done, total: None) -> Renderings:
    """Make those transcripts of a request that are missing, and return all of them."""
    plans = plan_views(workspace, request)
    found = {conversation_id: find_transcript(workspace, plan) for conversation_id, plan in plans.items()}
    missing = {
        conversation_id: plans[conversation_id] for conversation_id, document in found.items() if document is None
    }
    failures = _make_all(workspace, missing, watch)
    failed = {failure.conversation_id for failure in failures}
    found |= {each: find_transcript(workspace, plan) for each, plan in missing.items() if each not in failed}
    branch = request.options.branch if isinstance(request.options.branch, int) else None
    asked = [
        (conversation_id, str(request.format), branch) for conversation_id in found if conversation_id not in failed
    ]
    return Renderings([each for each in found.values() if each], len(missing) - len(failed), failures, asked)


def _make_all(workspace: Workspace, plans: Mapping[str, TranscriptPlan], watch: Watch) -> list[Failure]:
    """Make transcripts, a batch with the flushes of one at a time; return those that could not be made."""
    documents, failures = workspace.data.documents, []
    batch: dict[str, Draft] = {}
    size_bytes = 0
    for number, (conversation_id, view) in enumerate(_read_views(workspace, plans)):
        watch(number, len(plans))
        try:
            if isinstance(view, Exception):
                raise view
            draft = compose_transcript(documents, view, plans[conversation_id])
        except (PipelineError, StoreError) as error:
            failures.append(Failure(conversation_id, str(error)))
            continue
        batch[plans[conversation_id].doc_id] = draft
        size_bytes += sum(map(len, draft.files.values()))
        if len(batch) == BATCH_DOCUMENTS or size_bytes > BATCH_BYTES:
            documents.commit_all(ArchiveStage.TRANSCRIPT, batch)
            batch, size_bytes = {}, 0
    documents.commit_all(ArchiveStage.TRANSCRIPT, batch)
    if plans:
        watch(len(plans), len(plans))
    return failures


def render_into(workspace: Workspace, request: Request, folder: Path, *, watch: Watch) -> dict[str, Any]:
    """Bring a folder up to date with a request; return what was done, as JSON. Raises InputInvalid for a bad folder."""
    _check_folder(workspace.data, folder)
    if explain_emptiness(workspace.data) == NOT_MADE:  # all pages would be removed
        raise InputInvalid(NOT_MADE)
    renderings = render_views(workspace, request, watch=watch)
    placement = place_transcripts(
        workspace.data,
        folder,
        renderings.documents,
        asked=renderings.asked,
        known_ids=read_catalogue(workspace.data).groups.keys(),
        write_page=write_index,
    )
    return {
        "folder": str(folder),
        "views": sum(not lacks_branch(document.metadata) for document in renderings.documents),
        "made": renderings.made,
        "written": placement.written,
        "unchanged": placement.unchanged,
        "removed": placement.removed,
        "refused": [refusal._asdict() for refusal in placement.refusals],
        "failures": [failure._asdict() for failure in renderings.failures],
    }


def _check_folder(data: DataRoot, folder: Path) -> None:
    """Refuse a folder among those of the store: what is placed there would be taken for a part of it."""
    path, root = folder.resolve(), data.path.resolve()
    if path == root or (path.is_relative_to(root) and path.relative_to(root).parts[0] != DEFAULT_FOLDER):
        raise InputInvalid(
            f"{folder} is a part of the store. Expected another folder, or {data.path / DEFAULT_FOLDER}."
        )


def copy_templates(config_root: Path) -> dict[str, list[str]]:
    """Copy the templates to config/transcripts/, where a person may change them; what is there stays."""
    folder = config_root / TEMPLATE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    copied, there = [], []
    for name in TEMPLATE_NAMES:
        try:
            with (folder / name).open("xb") as file:
                file.write((SHIPPED_FOLDER / name).read_bytes())
            copied.append(str(folder / name))
        except FileExistsError:
            there.append(str(folder / name))
    return {"copied": copied, "there": there}


def read_stamp(workspace: Workspace) -> Hashable:
    """Return what changes whenever other transcripts would be rendered: times of folders, and the templates."""
    folders = [workspace.data.documents.root / ArchiveStage.CONVERSATION, workspace.data.tasks_folder / "archive"]
    paths = [*folders, *sorted(folders[1].glob("*")), *sorted((workspace.roots.config / TEMPLATE_FOLDER).glob("*"))]
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists())


def plan_views(workspace: Workspace, request: Request) -> dict[str, TranscriptPlan]:
    """Return {conversation_id: plan} of the views that a request asks for. Raises ConfigInvalid, InputInvalid."""
    template = read_template(workspace.roots.config, request.format)
    chosen = choose_views(workspace, request)
    return {
        conversation_id: plan_transcript(outline, template, request.options)
        for conversation_id, outline in outline_views(workspace).items()
        if conversation_id in chosen
    }


def find_missing(workspace: Workspace, request: Request) -> list[str]:
    """Return the ids of the conversations whose transcripts are not there, with one look at the store."""
    there = set(workspace.data.documents.list_ids(ArchiveStage.TRANSCRIPT))
    plans = plan_views(workspace, request)
    return [conversation_id for conversation_id, plan in plans.items() if plan.doc_id not in there]


def choose_views(workspace: Workspace, request: Request) -> set[str]:
    """Return the ids of the conversations that a request asks for."""
    if request.since is not None and not SINCE_FORM.fullmatch(request.since):
        raise InputInvalid(f"{request.since!r} is no day. Expected 2026, 2026-03, 2026-03-01 or 2026-03-01T09:30.")
    groups = read_catalogue(workspace.data).groups
    providers = sorted({group.provider for group in groups.values()})
    if request.provider is not None and groups and request.provider not in providers:
        known = ", ".join(providers)
        raise InputInvalid(f"No conversation is from {request.provider!r}. Expected one of: {known}.")
    named = {find_view(workspace, prefix).conversation_id for prefix in request.conversations}
    return {
        conversation_id
        for conversation_id, group in groups.items()
        if (not named or conversation_id in named) and _is_asked_for(group, request)
    }


def _is_asked_for(group: Group, request: Request) -> bool:
    is_provider = request.provider in (None, group.provider)
    return is_provider and (request.since is None or group.updated >= request.since)


def find_transcript(workspace: Workspace, plan: TranscriptPlan) -> Document | None:
    try:
        return workspace.data.documents.read(ArchiveStage.TRANSCRIPT, plan.doc_id, digest=plan.digest)
    except DocumentMissing:
        return None


def _read_views(
    workspace: Workspace, conversation_ids: Collection[str]
) -> Iterator[tuple[str, View | PipelineError | StoreError]]:
    """Yield views with their ids; in the place of one that cannot be read, the reason."""
    waiting = sorted(conversation_ids)
    while waiting:
        done = 0
        try:
            for view in walk_views(workspace, only=set(waiting)):
                done += 1
                yield view.conversation_id, view
            return
        except (PipelineError, StoreError) as error:
            yield waiting[done], error  # the views come in the order of their ids, so it is the next one
            waiting = waiting[done + 1 :]
