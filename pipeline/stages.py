"""The stages of an experiment and the statuses of a document: the fixed words that everything compares."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """The kind of a document, and the name of its folder under data/docs/."""

    DRAFT = "draft"
    ESSAY = "essay"
    EVALUATION = "evaluation"
    REPORT = "report"


class ArchiveStage(StrEnum):
    """The stages of the archive. No cohort asks for them: an export is kept, what is made from it follows from it."""

    EXPORT = "export"
    CONVERSATION = "conversation"
    TRANSCRIPT = "transcript"


ARCHIVE_STAGES = frozenset(map(str, ArchiveStage))


class Status(StrEnum):
    """How making a document ended. A document that was never tried has none: it is missing."""

    OK = "ok"
    TRUNCATED = "truncated"  # the answer stopped at the token limit
    PARSE_ERROR = "parse_error"  # the answer came, but had not the expected form
    GEN_ERROR = "gen_error"  # no answer
    SKIPPED = "skipped"  # not tried, because its parent is not there


class Mode(StrEnum):
    """Where a document's text comes from."""

    LLM = "llm"  # ask a model
    COPY = "copy"  # take the parent's parsed text


class StageRules(NamedTuple):
    """What is fixed for a stage."""

    version: int  # raise it when the code that makes the stage gives another text for equal inputs: all ids change
    variables: frozenset[str]  # what its templates may use
    gives_score: bool


STAGE_RULES = {
    Stage.DRAFT: StageRules(1, frozenset({"concepts"}), gives_score=False),
    Stage.ESSAY: StageRules(1, frozenset({"draft_block", "links_block"}), gives_score=False),
    Stage.EVALUATION: StageRules(1, frozenset({"response"}), gives_score=True),
}
REPORT_VERSION = 1  # as StageRules.version

MADE_STAGES = tuple(STAGE_RULES)  # in the order in which they are made
EVALUATION_TARGETS = (Stage.ESSAY, Stage.DRAFT)
