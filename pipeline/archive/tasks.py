"""The archive as Luigi tasks: what `daybook import` does, a step a task, each complete when its documents are there.

    luigi --module pipeline ImportExport --path export.zip --local-scheduler       the bytes
    luigi --module pipeline Conversations --path export.zip --local-scheduler      and the conversations
    luigi --module pipeline Conversations --local-scheduler                        of everything that is kept

    luigi --module pipeline Transcripts --format md --local-scheduler              the pages of all conversations

    Transcripts -> Conversations -> ImportExport

A task that was interrupted goes on, and a second one does nothing: to know that, ImportExport hashes the bytes.
"""

from __future__ import annotations

import functools

import luigi

from pipeline.archive.coverage import total_of
from pipeline.archive.exports import read_set
from pipeline.archive.importing import (
    KeptSet,
    identify_path,
    is_made,
    keep_path,
    make_conversations,
)
from pipeline.archive.search.index import update_index
from pipeline.archive.transcripts import Format
from pipeline.archive.transcripts.rendering import Failure, Request, find_missing, render_views
from pipeline.errors import InputInvalid, PipelineError
from pipeline.stages import ArchiveStage
from pipeline.tasks import DocumentTarget, find_workspace


class CoverageWrong(PipelineError):
    """The sums of an import do not match: records were lost."""

    def __init__(self, mismatches: list[str]) -> None:
        self.mismatches = mismatches
        super().__init__(f"A sum does not match, which is a mistake in this program: {mismatches[0]}.")


class TranscriptsFailed(PipelineError):
    """Some views could not be rendered; the others were."""

    def __init__(self, failures: list[Failure]) -> None:
        self.failures = failures
        first = failures[0]
        super().__init__(
            f"{len(failures)} transcripts could not be made. The first, of {first.conversation_id}: {first.reason}"
        )


class ImportExport(luigi.Task):  # type: ignore[misc]
    """The bytes of a path, kept for ever. Complete when the set that names them is there."""

    path = luigi.Parameter(description="A file, a ZIP or a folder.")

    @functools.cached_property
    def set_id(self) -> str:
        """The doc_id of the set that the path is now. Read once a process: every byte is hashed for it."""
        if self.path == "-":
            raise InputInvalid("A task cannot read standard input. Expected a path; daybook import takes -.")
        return identify_path(find_workspace().data, str(self.path))

    def output(self) -> DocumentTarget:
        return DocumentTarget(find_workspace().data, ArchiveStage.EXPORT, self.set_id)

    def run(self) -> None:
        self.set_id = keep_path(find_workspace().data, str(self.path)).export_set.doc_id


class Conversations(luigi.Task):  # type: ignore[misc]
    """The conversations of a path, of a set, or of everything that is kept."""

    path = luigi.Parameter(default="", description="A file, a ZIP or a folder; it is imported first.")
    set_id = luigi.Parameter(default="", description="A set, as daybook import prints it; default all.")

    def requires(self) -> list[luigi.Task]:
        return [ImportExport(path=self.path)] if self.path else []

    def complete(self) -> bool:
        data = find_workspace().data
        if not self.path:
            return is_made(data, str(self.set_id) or None)
        export = ImportExport(path=self.path)
        return export.complete() and is_made(data, export.set_id)

    def run(self) -> None:
        data = find_workspace().data
        set_id = ImportExport(path=self.path).set_id if self.path else str(self.set_id)
        asked = [KeptSet(read_set(data.documents, set_id), str(self.path), is_new=False)] if set_id else []
        coverage = make_conversations(data, asked)
        totals = total_of([*coverage.sets, *coverage.earlier])
        tell = self.set_status_message
        if tell is not None:
            tell(", ".join(f"{totals[name]:,} {name}" for name in ("seen", "imported", "unchanged", "skipped")))
        if mismatches := coverage.list_mismatches():
            raise CoverageWrong(mismatches)
        update_index(find_workspace())


class Transcripts(luigi.Task):  # type: ignore[misc]
    """The transcripts of all conversations, in one format; with a path, after it was imported."""

    path = luigi.Parameter(default="", description="A file, a ZIP or a folder; it is imported first.")
    format = luigi.ChoiceParameter(choices=tuple(map(str, Format)), default=str(Format.HTML))

    def requires(self) -> list[luigi.Task]:
        return [Conversations(path=self.path)]

    def complete(self) -> bool:
        return Conversations(path=self.path).complete() and not find_missing(find_workspace(), self._request)

    def run(self) -> None:
        renderings = render_views(find_workspace(), self._request)
        if tell := self.set_status_message:
            tell(f"{renderings.made:,} of {len(renderings.documents):,} transcripts made")
        if renderings.failures:
            raise TranscriptsFailed(renderings.failures)

    @property
    def _request(self) -> Request:
        return Request(Format(self.format))
