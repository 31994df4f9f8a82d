"""Repair: what a verification has found, mended with what is on disk. No model is asked, and nothing is deleted.

Least loss first; the first that can be done is done:

    restore           every file of a document or an attempt can be had again with the bytes of its record (see sources)
    make_again        the document is made again from its parents and the answer in the ledger
    interpret_again   an outcome, from the bytes of the response
    rewrite           what is derived: pointers, task tables; a journal file without its damaged bytes
    record            sound documents that the journal does not know are written into it
    set_aside         beyond repair: moved to quarantine/ with reason.json, and what it costs to make it again is told
    leave             beyond repair, and in nobody's way where it is

Whatever is replaced is moved to quarantine/damaged/ first, with reason.json; moving it back undoes the repair.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pipeline.checks import Finding
from pipeline.comparison import OF_ANOTHER, WHOLE_DOCUMENT, Verification
from pipeline.errors import PipelineError
from pipeline.judging import (
    OutcomeSource,
    attempt_at,
    find_cause,
    find_outcome_source,
    find_record_blake3,
    list_wanted_files,
)
from pipeline.making import Maker, make_document, salvage_attempts
from pipeline.report_document import make_report
from pipeline.sources import Source, find_attempt_files, find_files, find_text
from pipeline.stages import MADE_STAGES, Stage
from pipeline.workspace import Workspace
from store.data_root import DataRoot
from store.durable import place_file
from store.errors import StoreError
from store.journal import encode_record, read_records
from store.pointers import rebuild_pointers

MENDED_WITH_ANOTHER = ("parent_missing", "parent_altered")
POINTERS = "pointers"  # the place of all of them
PARTS_OF_PLACE = {"docs": 2, "calls": 3, "texts": 2, "tasks": 2, "journal": 1}  # slashes in a place that is no folder
ORDER = ("calls", "texts", *(f"docs/{stage}" for stage in MADE_STAGES), "docs", POINTERS, "tasks", "journal")


class Repair(NamedTuple):
    """What is to be done about the findings at one place. `cost_usd` is that of making it again; None if unknown."""

    how: str
    place: str
    why: str
    cost_usd: float | None
    findings: list[Finding]

    @property
    def is_loss(self) -> bool:
        """Whether something was lost that no repair brings back."""
        return self.how == "leave" or (self.how == "set_aside" and self.cost_usd != 0.0)

    def as_json(self) -> dict[str, Any]:
        kinds = sorted({finding.kind for finding in self.findings})
        return {"how": self.how, "place": self.place, "why": self.why, "cost_usd": self.cost_usd, "kinds": kinds}


class Repaired(NamedTuple):
    """A repair that was tried. `problem` says why it could not be done; "" if it was."""

    repair: Repair
    problem: str


@dataclass
class Repairer:
    """What repairing needs: a workspace, what was found in it, and further places that may have bytes."""

    workspace: Workspace
    found: Verification
    sources: Sequence[Source] = ()

    @property
    def data(self) -> DataRoot:
        return self.workspace.data

    # What is to be done

    def plan(self) -> list[Repair]:
        """Return the repairs in the order in which they are to be done: parents before children. Changes nothing."""
        self._disregard_damaged_tables()
        by_place: dict[str, list[Finding]] = {}
        for judged in self.found.findings:
            place = POINTERS if judged.finding.kind.startswith("pointer_") else judged.finding.place
            by_place.setdefault(place, []).append(judged.finding)
        planned = [
            self._plan_place(place, [finding for finding in findings if not _is_mended_with_another(finding, by_place)])
            for place, findings in by_place.items()
        ]
        restored = {repair.place for repair in planned if repair and repair.how == "restore"}
        repairs = [repair for repair in planned if repair and not _follows(repair, restored)]
        unrecorded = len(self.found.unrecorded_documents)
        if unrecorded:
            documents = "sound document is" if unrecorded == 1 else "sound documents are"
            repairs.append(Repair("record", "journal", f"{unrecorded:,} {documents} not in it", 0.0, []))
        return sorted(repairs, key=lambda repair: (_order_of(repair.place), repair.place))

    def _disregard_damaged_tables(self) -> None:
        """Plan from the config where a task table is damaged: it is derived, and no reason to give a document up."""
        tables = (judged.finding for judged in self.found.findings if judged.finding.kind == "table_invalid")
        for cohort in sorted({finding.place.split("/")[1] for finding in tables}):
            with suppress(PipelineError):  # the config may have it no more
                self.workspace.plan_without_tables(cohort)

    def _plan_place(self, place: str, own: list[Finding]) -> Repair | None:
        if not own:
            return None
        area = place.partition("/")[0]
        if place == POINTERS:
            return Repair("rewrite", place, "they follow from the documents", 0.0, own)
        if own[0].kind == "unreadable" and (area == "journal" or place.count("/") < PARTS_OF_PLACE[area]):
            return Repair("leave", place, own[0].detail, 0.0, own)
        if area == "docs" and own[0].kind != "not_a_document":
            return self._plan_document(place, own)
        if area == "calls":
            return self._plan_attempt(place, own)
        if area == "texts":
            text = find_text(self.workspace.roots.config, place.split("/")[-1].partition(".")[0])
            how, why = (
                ("restore", "a template has these bytes") if text is not None else ("set_aside", "no file has it")
            )
            return Repair(how, place, why, None if text is None else 0.0, own)
        if area in ("tasks", "journal") and "/" in place:
            return Repair(
                "rewrite", place, "it is derived" if area == "tasks" else "its whole records are kept", 0.0, own
            )
        return Repair("set_aside", place, "nothing is lost with it", 0.0, own)

    def _plan_document(self, place: str, findings: list[Finding]) -> Repair:
        _, stage, doc_id = place.split("/")
        kinds = {finding.kind for finding in findings}
        if "metadata_newer" in kinds:
            return Repair("leave", place, findings[0].detail, 0.0, findings)
        if kinds <= OF_ANOTHER:
            why = "the document is sound; what it was made from is not there any more"
            return Repair("leave", place, why, self._cost_of(stage, doc_id), findings)
        if self._find_files(stage, doc_id, findings) is not None:
            return Repair("restore", place, "all its bytes can be had again", 0.0, findings)
        problem = self._find_obstacle(stage, doc_id)
        if not problem:
            return Repair("make_again", place, "its answer and its parents are there", 0.0, findings)
        how = "leave" if kinds == {"vanished"} else "set_aside"
        return Repair(how, place, problem, self._cost_of(stage, doc_id), findings)

    def _plan_attempt(self, place: str, findings: list[Finding]) -> Repair:
        cost = self._cost_of_attempt(*attempt_at(place))
        if self._find_attempt_files(place, findings) is not None:
            return Repair("restore", place, "all its bytes can be had again", 0.0, findings)
        if any(finding.file == "outcome.json" for finding in findings):
            if self._find_outcome_source(place) is not None:
                return Repair("interpret_again", place, "its response is whole", 0.0, findings)
            return Repair("set_aside", place, "no whole answer can be read from its response", cost, findings)
        why = "what is left of it stays in the ledger, so that the call is not asked and paid again"
        if any(finding.kind == "vanished" for finding in findings):
            why = "nothing of it is left; the next build that needs its answer asks for it again"
        return Repair("leave", place, why, cost, findings)

    def _find_files(self, stage: str, doc_id: str, findings: list[Finding]) -> dict[str, bytes] | None:
        """Return all files of a document with the bytes of its record; None if they are not to be had."""
        own = [finding for finding in findings if finding.kind not in OF_ANOTHER]
        record_blake3 = None
        if any(finding.kind in WHOLE_DOCUMENT or not finding.file for finding in own):
            record_blake3 = find_record_blake3(self.found, (stage, doc_id))
            if record_blake3 is None:
                return None
        return find_files(self.data, stage, doc_id, record_blake3=record_blake3, sources=self.sources)

    def _find_attempt_files(self, place: str, findings: list[Finding]) -> dict[str, bytes] | None:
        """Return those files of an attempt that are damaged, as they were; None if they are not to be had."""
        key = attempt_at(place)
        wanted = list_wanted_files(self.data, self.found, key, findings)
        return find_attempt_files(self.data, *key, wanted, sources=self.sources) if wanted else None

    def _find_obstacle(self, stage: str, doc_id: str) -> str:
        """Return why a document cannot be made again without a model; "" if it can."""
        record = self.found.committed.get((stage, doc_id))
        try:
            if stage == Stage.REPORT:
                self.workspace.find_cohort_of_report(doc_id)
                return ""
            if stage not in MADE_STAGES:
                return f"documents of stage {stage} are not made by a plan"
            self.workspace.get_plan(Stage(stage), doc_id)
        except (PipelineError, StoreError) as error:
            return str(error)
        call_id = record.facts.get("call_id") if record else None
        if record is None:
            return "the journal does not know which answer it was made from"
        try:
            if call_id is not None and self.data.calls.find_answer(str(call_id)) is None:
                return "its answer is not in the ledger"
        except StoreError as error:
            return str(error)
        return ""

    def _cost_of(self, stage: str, doc_id: str) -> float | None:
        record = self.found.committed.get((stage, doc_id))
        if record is None:
            return None
        if record.facts.get("call_id") is None:
            return 0.0
        return self._cost_of_attempt(str(record.facts["call_id"]), int(record.facts.get("attempt") or 0))

    def _cost_of_attempt(self, call_id: str, number: int) -> float | None:
        record = self.found.attempted.get((call_id, number))
        return record.facts.get("usd") if record else None

    def _find_outcome_source(self, place: str) -> OutcomeSource | None:
        return find_outcome_source(self.data, place, self.found.attempted.get(attempt_at(place)))

    # Doing it

    def apply(self, repairs: Sequence[Repair]) -> Iterator[Repaired]:
        """Do the repairs one after the other, and go on after one that fails."""
        for repair in repairs:
            try:
                problem = self._apply_one(repair)
            except (PipelineError, StoreError, OSError) as error:
                problem = str(error)
            yield Repaired(repair, problem)
        if any(repair.place.startswith("docs/") and repair.how == "set_aside" for repair in repairs):
            rebuild_pointers(self.data.documents)  # some may name what is not there any more

    def _apply_one(self, repair: Repair) -> str:
        """Do a repair. Return why it could not be done; "" if it was."""
        if repair.how == "leave":
            return ""
        if repair.how == "record":
            self._record()
        elif repair.how == "set_aside":
            self._set_aside(repair)
        elif repair.how == "rewrite":
            self._rewrite(repair)
        elif repair.how == "interpret_again":
            return self._interpret_again(repair)
        elif repair.place.startswith("texts/"):
            return self._restore_text(repair)
        elif repair.place.startswith("calls/"):
            return self._restore_attempt(repair)
        elif repair.how == "restore":
            return self._restore(repair)
        else:
            return self._make_again(repair)
        return ""

    def _restore(self, repair: Repair) -> str:
        _, stage, doc_id = repair.place.split("/")
        files = self._find_files(stage, doc_id, repair.findings)
        if files is None:
            return "its bytes could be had when this was planned, and cannot now"
        if os.path.lexists(self.data.path / repair.place):
            self._set_aside(repair)
        self.data.documents.restore(stage, doc_id, files)
        return ""

    def _restore_attempt(self, repair: Repair) -> str:
        files = self._find_attempt_files(repair.place, repair.findings)
        if files is None:
            return "its bytes could be had when this was planned, and cannot now"
        for name in files:
            if os.path.lexists(self.data.path / repair.place / name):
                self.data.set_aside(f"{repair.place}/{name}", _reason(repair))
        self.data.calls.restore(*attempt_at(repair.place), files)
        return ""

    def _restore_text(self, repair: Repair) -> str:
        text = find_text(self.workspace.roots.config, repair.place.split("/")[-1].partition(".")[0])
        if text is None:
            return "the template has changed since this was planned"
        self._set_aside(repair)
        place_file(self.data.path / repair.place, text, temporary_folder=self.data.temporary_folder)
        return ""

    def _make_again(self, repair: Repair) -> str:
        _, stage, doc_id = repair.place.split("/")
        cohort = self.workspace.find_cohort_of_report(doc_id) if stage == Stage.REPORT else ""
        if cohort and (missing := self.workspace.find_missing(cohort)):
            return f"{missing[0].stage}/{missing[0].doc_id}, which it is about, is not there: daybook build {cohort}"
        if os.path.lexists(self.data.path / repair.place):
            self._set_aside(repair)
        if cohort:
            make_report(self.workspace, cohort)
            return ""
        planned = self.workspace.get_plan(Stage(stage), doc_id)
        make_document(_without_asking(self.workspace.maker), planned.plan, cohort=planned.cohort)
        return ""

    def _interpret_again(self, repair: Repair) -> str:
        source = self._find_outcome_source(repair.place)
        if source is None:
            return "its response could be read when this was planned, and cannot now"
        attempt = source.attempt
        if (attempt.folder / "outcome.json").exists():
            self.data.set_aside(f"{repair.place}/outcome.json", _reason(repair))
        salvage_attempts(self.workspace.maker, source.call, attempt.call_id)
        return ""

    def _rewrite(self, repair: Repair) -> None:
        if repair.place == POINTERS:
            rebuild_pointers(self.data.documents)
            return
        path = self.data.path / repair.place
        if repair.place.startswith("journal/"):
            whole = b"".join(
                encode_record({**record.facts, "event": record.event, "at": record.at})
                for record in read_records(path)[0]
            )
            mended = path.with_name(f"{path.stem}-mended{path.suffix}")
            place_file(mended, whole, temporary_folder=self.data.temporary_folder)  # first: no record is ever missing
            self.data.set_aside(repair.place, _reason(repair))
            return
        cohort = path.parent.name
        self.workspace.configuration.get_cohort(cohort)  # before anything is moved: the config may have it no more
        self.data.set_aside(repair.place, _reason(repair))
        self.workspace.write_tables(cohort)

    def _record(self) -> None:
        for stage, doc_id in self.found.unrecorded_documents:
            self.data.documents.record(stage, doc_id)

    def _set_aside(self, repair: Repair) -> None:
        area, *names = repair.place.split("/")
        known: dict[str, str | int] = {}
        if area == "docs" and len(names) == 2:
            known = {"stage": names[0], "doc_id": names[1]}
        elif area == "calls" and len(names) == 3:
            known = {"call_id": names[1], "attempt": int(names[2])}
        self.data.set_aside(repair.place, _reason(repair), **known)


def _follows(repair: Repair, restored: Set[str]) -> bool:
    """Whether a document is sound as soon as the attempts are back that it was made from."""
    kinds = {finding.kind for finding in repair.findings}
    return kinds == {"answer_missing"} and all(find_cause(finding) in restored for finding in repair.findings)


def _is_mended_with_another(finding: Finding, places: Container[str]) -> bool:
    """Whether a child has nothing else than a parent that is repaired itself; nobody may know of that one any more."""
    return finding.kind in MENDED_WITH_ANOTHER and find_cause(finding) in places


def _reason(repair: Repair) -> dict[str, Any]:
    findings = [finding._asdict() for finding in repair.findings]
    return {"repair": repair.how, "why": repair.why, "cost_usd": repair.cost_usd, "findings": findings}


def _order_of(place: str) -> int:
    """Return when a place is mended: what documents are made from first."""
    return min((ORDER.index(start) for start in ORDER if place == start or place.startswith(start + "/")), default=99)


def _without_asking(maker: Maker) -> Maker:
    """Return a maker that takes answers from the ledger only: for one that is to stop, nothing is sent."""
    silent = replace(maker, stopping=type(maker.stopping)())
    silent.stopping.set()
    return silent
