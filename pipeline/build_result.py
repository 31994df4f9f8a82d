"""What a build did, as it is printed at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline.completeness import CompletionRecord
from pipeline.settings import Roots
from pipeline.stages import Stage

REPORT_PAGE = "extras/report.html"


@dataclass
class BuildResult:
    """What a build did. `failures` holds what could not be made, each with its status and reason."""

    cohort: str
    made: dict[str, int] = field(default_factory=dict)
    present: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0  # of this run; None if an attempt's is not known
    seconds: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)
    missing: int = 0
    report_doc_id: str = ""
    report_page: str = ""
    errors: list[str] = field(default_factory=list)
    is_budget_reached: bool = False
    budget: dict[str, Any] | None = None
    batches: dict[str, Any] | None = None

    @property
    def is_complete(self) -> bool:
        return self.missing == 0 and not self.errors

    @property
    def is_waiting(self) -> bool:
        """Whether something is missing while batches are under way."""
        return not self.is_complete and bool(self.batches and self.batches["under_way"])

    def add_earlier(self, earlier: BuildResult) -> None:
        """Count what an earlier build of the same run did."""
        for stage, count in earlier.made.items():
            self.made[stage] = self.made.get(stage, 0) + count
        self.present = earlier.present
        self.calls += earlier.calls
        self.prompt_tokens += earlier.prompt_tokens
        self.completion_tokens += earlier.completion_tokens
        self.seconds += earlier.seconds
        is_known = self.cost_usd is not None and earlier.cost_usd is not None
        self.cost_usd = (self.cost_usd or 0) + (earlier.cost_usd or 0) if is_known else None

    def as_json(self) -> dict[str, Any]:
        return {
            "cohort": self.cohort,
            "complete": self.is_complete,
            "made": self.made,
            "present_before": self.present,
            "missing": self.missing,
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "seconds": round(self.seconds, 3),
            "failures": self.failures,
            "errors": self.errors,
            "budget": self.budget,
            "batches": self.batches,
            "report": {"doc_id": self.report_doc_id, "page": self.report_page} if self.report_doc_id else None,
        }

    @classmethod
    def of_complete(cls, cohort: str, record: CompletionRecord, roots: Roots) -> BuildResult:
        """Return the result of a build that had nothing to do."""
        present = sum(len(documents) for stage, documents in record.folders.items() if stage != Stage.REPORT)
        page = roots.data / "docs" / Stage.REPORT / record.report_doc_id / REPORT_PAGE
        return cls(cohort, present=present, report_doc_id=record.report_doc_id, report_page=str(page))
