"""What can go wrong in the pipeline. Command lines catch the base, print the message and exit non-zero.

PipelineError
├── ConfigInvalid        one or more mistakes in config/, all listed with file and line
├── UnknownName          a command or task names a cohort, document or parser that does not exist
├── PlanStale            a task table names a document that the present config no longer gives
├── TaskTableInvalid     a task table cannot be read
├── EditedTablesInvalid  task tables that a person edited have mistakes, all listed with file and line
├── ParseError           a reply came, but had not the expected form
├── DocumentFailed       a document could not be made; carries its status and reason
│   └── PlaceLeft        because its model's provider refuses this run: a wrong key, an account without money
├── GatewayError         a model gave no usable answer
├── BudgetReached        the next call might exceed what its cohort may cost
├── BundleInvalid        a file is no bundle, or not as its manifest says; nothing of it was brought in
└── InputInvalid         a value on the command line or in a file to adopt is not usable
"""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """One mistake in something a person wrote. `line` is None where the file as a whole is meant."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.message}"


class PipelineError(Exception):
    """Base of every error that a person can do something about."""


class ParseError(PipelineError):
    """A reply has not the form that its parser expects.

    `reason` is a short fixed code for tables and tests, such as `missing_essay_block`;
    `detail` is a sentence for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class GatewayError(PipelineError):
    """A model gave no usable answer.

    `reason` is a short fixed code: rate_limit, budget, transport, auth, bad_request, bad_params,
    context_overflow, refused, bad_body, cut_body, provider, tool_calls, unknown_finish, no_choices, empty,
    no_connection, key_in_prompt.
    docs/statuses.md explains them. `detail` is a sentence for people.
    """

    def __init__(self, reason: str, detail: str, *, http_status: int | None = None) -> None:
        self.reason, self.detail, self.http_status = reason, detail, http_status
        super().__init__(f"{reason}: {detail}")


class BudgetReached(PipelineError):
    """The next call might exceed what its cohort may cost; it was not made."""

    def __init__(self, cohort: str, *, cap: str, spent: str) -> None:
        self.cohort, self.cap, self.spent = cohort, cap, spent
        super().__init__(
            f"The budget of cohort {cohort!r}, {cap}, has no room for the next call: {spent} are spent or may have "
            "been. Raise the budget to go on."
        )


class UnknownName(PipelineError):
    """A name that nothing goes by. The message lists the nearest or all known names."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        choices = ", ".join(self.known) or "none"
        super().__init__(f"Unknown {kind} {name!r}. Known: {choices}.")


class InputInvalid(PipelineError):
    """A value from a command line or a file is not usable; the message says what was expected."""


class BundleInvalid(PipelineError):
    """A file is no bundle, or not as its manifest says."""

    def __init__(self, path: object, *, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path} is no usable bundle: {problem}. Nothing of it was brought in; get it anew.")


class ConfigInvalid(PipelineError):
    """One or more mistakes in config/: all of them, each with file and line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        super().__init__("\n".join([f"The configuration has {count}:", *(f"  {problem}" for problem in problems)]))


class PlanStale(PipelineError):
    """A task table names a document that the present config no longer gives."""

    def __init__(self, stage: str, doc_id: str, *, cohort: str) -> None:
        self.stage, self.doc_id, self.cohort = stage, doc_id, cohort
        super().__init__(
            f"The task tables of cohort {cohort!r} name {stage} {doc_id}, which the present config no longer gives: "
            "a concept, template or model has changed since they were written."
        )


class TaskTableInvalid(PipelineError):
    """A task table cannot be read."""

    def __init__(self, path: object, *, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"Task table {path}: {problem}")


class EditedTablesInvalid(PipelineError):
    """Task tables that a person edited have one or more mistakes: all of them, each with file and line."""

    def __init__(self, cohort: str, problems: list[Problem]) -> None:
        self.cohort, self.problems = cohort, problems
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        head = f"The task tables of cohort {cohort!r} were edited and have {count}:"
        end = f"Correct them, or write them anew from the config: daybook plan {cohort} --from-config."
        super().__init__("\n".join([head, *(f"  {problem}" for problem in problems), end]))


class DocumentFailed(PipelineError):
    """A document could not be made. The attempt, if one was made, is kept in the call ledger."""

    def __init__(self, stage: str, doc_id: str, task_id: str, *, status: str, reason: str) -> None:
        self.stage, self.doc_id, self.task_id, self.status, self.reason = stage, doc_id, task_id, status, reason
        super().__init__(f"{stage} {doc_id} ({task_id}): {status}: {reason}")


class PlaceLeft(DocumentFailed):
    """A document's call was not sent: its provider has refused the last ones, because of the key or of the account."""

    def __init__(self, stage: str, doc_id: str, task_id: str, *, status: str, place: str, why: str) -> None:
        self.place, self.why = place, why
        super().__init__(stage, doc_id, task_id, status=status, reason=f"{why} {place} is not asked again in this run.")
