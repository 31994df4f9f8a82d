"""Remaking: conversations made again from exports, transcripts from conversations, and compared with their documents.

In memory, and byte for byte. What cannot be made again is told: a document of another version of its importer, of a
record that is not there, of a view as it was before, or of another template.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversation_documents import Composed, compose, identify_record, read_facts
from pipeline.archive.exports import ExportReader, ExportSet, list_sets, read_set
from pipeline.archive.importers.interface import Importer, Member, Record
from pipeline.archive.importers.known import IMPORTERS
from pipeline.archive.importers.options import configure
from pipeline.archive.importing import ask_importers
from pipeline.archive.reading import peek
from pipeline.archive.transcripts import Draft, Format, compose_transcript, plan_transcript, read_template
from pipeline.archive.transcripts.turns import Options
from pipeline.archive.views import Outline, View, outline_views, walk_views
from pipeline.byte_differences import find_first_difference
from pipeline.errors import PipelineError
from pipeline.rebuilding import Finding, Outcome
from pipeline.stages import ArchiveStage
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.documents import METADATA_FILE, complete_metadata, encode_readably
from store.errors import DocumentMissing, StoreError
from store.files import read_file

CONVERSATION, TRANSCRIPT = str(ArchiveStage.CONVERSATION), str(ArchiveStage.TRANSCRIPT)


class SourcedRecord(NamedTuple):
    """A record, the file that has it, and the importer that split it off."""

    importer: Importer
    member: Member
    record: Record


def rebuild_archive(workspace: Workspace) -> Iterator[Finding]:
    """Yield what a rebuild of each export, conversation and transcript finds. Writes nothing."""
    yield from rebuild_conversations(workspace.data)
    yield from rebuild_transcripts(workspace)


def rebuild_conversations(data: DataRoot, importers: Sequence[Importer] = IMPORTERS) -> Iterator[Finding]:
    """Yield what a rebuild of each export and each conversation finds. Writes nothing."""
    yield from _check_exports(data)
    rebuilt: set[str] = set()
    for listed in list_sets(data.documents):
        try:
            export_set = read_set(data.documents, listed.doc_id)
        except StoreError:  # told by _check_exports
            continue
        for sourced in list_records(ExportReader(data.documents), export_set, importers):
            identity = identify_record(sourced.importer, sourced.record)
            if identity.doc_id not in rebuilt:
                rebuilt.add(identity.doc_id)
                yield _rebuild(data, export_set, sourced)
    for doc_id in data.documents.list_ids(ArchiveStage.CONVERSATION):
        if doc_id not in rebuilt:
            yield _explain_unmade(data, doc_id, importers)


def _check_exports(data: DataRoot) -> Iterator[Finding]:
    for doc_id in data.documents.list_ids(ArchiveStage.EXPORT):
        try:
            data.documents.read_deeply(ArchiveStage.EXPORT, doc_id)
        except StoreError as error:
            yield Finding(str(ArchiveStage.EXPORT), doc_id, Outcome.DAMAGED, str(error))
        else:
            yield Finding(str(ArchiveStage.EXPORT), doc_id, Outcome.SAME)


def list_records(reader: ExportReader, export_set: ExportSet, importers: Sequence[Importer]) -> Iterator[SourcedRecord]:
    """Yield the records of a set. A file that cannot be read ends where it cannot, as it does in an import."""
    members = reader.list_members(export_set)
    importers = configure(importers, export_set.options)
    for member in members:
        try:
            found = ask_importers(peek(member), importers)
            if found is None or found[1].is_artifact:
                continue
            for item in found[0].split(member, members):
                if isinstance(item, Record):
                    yield SourcedRecord(found[0], member, item)
        except Exception:  # noqa: S112  the import has told it, and what is damaged is told by _check_exports
            continue


def _rebuild(data: DataRoot, export_set: ExportSet, sourced: SourcedRecord) -> Finding:
    importer, member, record = sourced
    identity = identify_record(importer, record)
    try:
        parsed = importer.parse(record)
        blake3s = {each.export: each.blake3 for each in export_set.members}
        made = compose(
            importer, identity, record, parsed, member=member, blake3s=blake3s, created_at=export_set.created_at
        )
    except Exception as error:  # as in an import, where it is a skip
        reason = f"its record cannot be parsed: {type(error).__name__}"
        return Finding(CONVERSATION, identity.doc_id, Outcome.IMPOSSIBLE, reason)
    return _compare(data, CONVERSATION, identity.doc_id, made)


def _compare(data: DataRoot, stage: str, doc_id: str, made: Composed | Draft) -> Finding:
    """Return where a document on disk differs from what was made again."""
    metadata = complete_metadata(stage, doc_id, made.files, made.metadata)
    try:
        document = data.documents.read(stage, doc_id)
        for name, content in [*sorted(made.files.items()), (METADATA_FILE, encode_readably(metadata))]:
            place = find_first_difference(read_file(document.folder / name), content)
            if place:
                reason = f"byte {place.offset:,}, line {place.line:,}"
                return Finding(stage, doc_id, Outcome.DIFFERENT, reason, name, place)
    except DocumentMissing as error:
        return Finding(stage, doc_id, Outcome.MISSING, str(error))
    except (StoreError, OSError) as error:
        return Finding(stage, doc_id, Outcome.DAMAGED, str(error))
    return Finding(stage, doc_id, Outcome.SAME)


def _explain_unmade(data: DataRoot, doc_id: str, importers: Sequence[Importer]) -> Finding:
    versions = {importer.name: importer.version for importer in importers}
    try:
        facts = read_facts(data.documents, doc_id)
    except StoreError as error:
        return Finding(CONVERSATION, doc_id, Outcome.DAMAGED, str(error))
    present = versions.get(facts.importer, "none")
    if present != facts.version:
        reason = f"made by importer {facts.importer} {facts.version}, now {present}"
        return Finding(CONVERSATION, doc_id, Outcome.OTHER_VERSION, reason)
    return Finding(CONVERSATION, doc_id, Outcome.IMPOSSIBLE, "no export that is here has its record")


def rebuild_transcripts(workspace: Workspace) -> Iterator[Finding]:
    """Yield what a rebuild of each transcript finds. Writes nothing."""
    documents, outlines = workspace.data.documents, outline_views(workspace)
    waiting: dict[str, list[Mapping[str, Any]]] = defaultdict(
        list
    )  # {conversation_id: what is recorded of transcripts}
    for doc_id in documents.list_ids(TRANSCRIPT):
        try:
            metadata = documents.read_metadata(TRANSCRIPT, doc_id)
        except StoreError as error:
            yield Finding(TRANSCRIPT, doc_id, Outcome.DAMAGED, str(error))
            continue
        if metadata["conversation_id"] in outlines:
            waiting[metadata["conversation_id"]].append(metadata)
        else:
            yield Finding(TRANSCRIPT, doc_id, Outcome.IMPOSSIBLE, "its conversation is not here")
    for view in walk_views(workspace, only=waiting.keys()):
        for metadata in waiting[view.conversation_id]:
            yield _rebuild_transcript(workspace, view, outlines[view.conversation_id], metadata)


def _rebuild_transcript(workspace: Workspace, view: View, outline: Outline, metadata: Mapping[str, Any]) -> Finding:
    doc_id, inputs = metadata["doc_id"], metadata["inputs"]
    try:
        template = read_template(workspace.roots.config, Format(inputs["format"]))
        plan = plan_transcript(outline, template, Options(**inputs["options"]))
        if plan.doc_id != doc_id:
            changed = sorted(name for name in plan.inputs if plan.inputs[name] != inputs.get(name))
            return Finding(TRANSCRIPT, doc_id, Outcome.OTHER_VERSION, f"another one is made now: {', '.join(changed)}")
        made = compose_transcript(workspace.data.documents, view, plan)
    except (StoreError, PipelineError) as error:
        return Finding(TRANSCRIPT, doc_id, Outcome.IMPOSSIBLE, str(error))
    return _compare(workspace.data, TRANSCRIPT, doc_id, made)
