"""What a person sees while a cohort is built: a moving display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TextIO

from pipeline.admissions import Meter
from pipeline.building import Display
from pipeline.planning import DocumentPlan
from pipeline.printing import format_count, format_duration, format_usd, make_visible
from pipeline.tasks import Made

LINES_IN_FULL = 500  # documents to make of which each still has a line
SECONDS_BETWEEN_LINES = 5.0

Key = tuple[str, str]  # stage and doc_id


class Costs:
    """The number and sum of some costs."""

    def __init__(self) -> None:
        self.count, self.usd = 0, 0.0

    def add(self, usd: float) -> None:
        self.count, self.usd = self.count + 1, self.usd + usd

    @property
    def mean(self) -> float:
        return self.usd / self.count


class Tally:
    """How far a build is: documents, tokens, speed and time left."""

    def __init__(self, missing: list[DocumentPlan], meter: Meter) -> None:
        self.meter = meter
        self._missing = Counter(str(plan.stage) for plan in missing)
        self._cost_by_stage: dict[str, Costs] = {}
        self.total = len(missing)
        self.completion_tokens = 0
        self._made: set[Key] = set()
        self._failed: set[Key] = set()
        self._done_by_stage = Counter[str]()
        self.started = time.monotonic()

    @property
    def made(self) -> int:
        return len(self._made)

    @property
    def failed(self) -> int:
        return len(self._failed)

    @property
    def done(self) -> int:
        return self.made + self.failed

    def add(self, plan: DocumentPlan, made: Made) -> None:
        if (plan.stage, plan.doc_id) in self._failed:  # it was tried again
            self._failed.remove((plan.stage, plan.doc_id))
        else:
            self._done_by_stage[plan.stage] += 1
        self._made.add((plan.stage, plan.doc_id))
        self.completion_tokens += made.completion_tokens
        if made.cost_usd is not None:
            self._cost_by_stage.setdefault(plan.stage, Costs()).add(made.cost_usd)

    def add_failure(self, plan: DocumentPlan) -> None:
        if (plan.stage, plan.doc_id) not in self._failed:
            self._done_by_stage[plan.stage] += 1
        self._failed.add((plan.stage, plan.doc_id))

    def count_done(self, stage: str) -> int:
        return self._done_by_stage[stage]

    @property
    def tokens_a_second(self) -> float:
        return self.completion_tokens / max(time.monotonic() - self.started, 1e-3)

    def time_left(self) -> str:
        """Return the time that the rest takes at the speed so far: 1:05; "?" before anything is done."""
        if not self.done:
            return "?"
        return format_duration((time.monotonic() - self.started) / self.done * (self.total - self.done))

    def cost(self) -> str:
        """Return what was spent and what the rest will cost: "$0.21, about $0.40 more"; "" where nothing is known."""
        if not self.meter.usd:
            return ""
        rest = self._estimate_rest()
        unknown = f" and {self.meter.unknown} unknown" if self.meter.unknown else ""
        return f"{format_usd(self.meter.usd)}{unknown}" + ("" if rest is None else f", about {format_usd(rest)} more")

    def _estimate_rest(self) -> float | None:
        """Return the cost of what is to go, at the mean of each stage; None before each stage has been seen."""
        rest = 0.0
        for stage, count in self._missing.items():
            left = count - self.count_done(stage)
            costs = self._cost_by_stage.get(stage)
            if left and not costs:
                return None
            rest += left * costs.mean if costs else 0.0
        return rest

    def describe(self) -> str:
        return (
            f"{self.made} made, {self.failed} failed, {self.total - self.done} to go, "
            f"{self.completion_tokens:,} tokens, {self.tokens_a_second:.0f} tokens/s, {self.time_left()} left"
            + (f", {cost}" if (cost := self.cost()) else "")
        )


class PlainDisplay:
    """A line for each document; of more than LINES_IN_FULL, one for each that failed and one every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def start(self, cohort: str, missing: list[DocumentPlan], present_count: int, meter: Meter) -> None:
        self._tally = Tally(missing, meter)
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._print(f"{cohort}: {format_count(len(missing), 'document')} to make, {present_count:,} there already.")

    def begin(self, plan: DocumentPlan) -> None:
        pass

    def made(self, plan: DocumentPlan, made: Made) -> None:
        self._tally.add(plan, made)
        if self._tally.total <= LINES_IN_FULL:
            self._print_document(plan, "ok")
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            self._print(f"[{self._tally.done}/{self._tally.total}] {self._tally.describe()}")

    def failed(self, plan: DocumentPlan, reason: str) -> None:
        self._tally.add_failure(plan)
        self._print_document(plan, reason)

    def say(self, line: str) -> None:
        self._print(line)

    def stop(self) -> None:
        pass

    def _print_document(self, plan: DocumentPlan, result: str) -> None:
        tally = self._tally
        speed = f"{tally.tokens_a_second:.0f} tokens/s, {tally.time_left()} left"
        speed += f", {cost}" if (cost := tally.cost()) else ""
        self._print(f"[{tally.done}/{tally.total}] {plan.stage} {plan.doc_id} {plan.task_id}: {result} ({speed})")

    def _print(self, line: str) -> None:
        print(make_visible(line), file=self._stream, flush=True)


class RichDisplay:
    """A bar a stage, with how many documents are at work."""

    def __init__(self) -> None:
        from rich.console import Console  # a command that shows no display goes without it
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )

    def start(self, cohort: str, missing: list[DocumentPlan], present_count: int, meter: Meter) -> None:
        self._tally = Tally(missing, meter)
        self._console.print(
            f"[bold]{cohort}[/]: {format_count(len(missing), 'document')} to make, {present_count:,} there already."
        )
        counts: dict[str, int] = {}
        for plan in missing:
            counts[plan.stage] = counts.get(plan.stage, 0) + 1
        self._bars = {stage: self._progress.add_task(stage, total=count, note="") for stage, count in counts.items()}
        self._all = self._progress.add_task("all", total=len(missing), note="")
        self._at_work: dict[str, set[str]] = {stage: set() for stage in counts}
        self._progress.start()

    def begin(self, plan: DocumentPlan) -> None:
        self._at_work[plan.stage].add(plan.task_id)
        self._show_work(plan)

    def made(self, plan: DocumentPlan, made: Made) -> None:
        self._tally.add(plan, made)
        self._advance(plan)

    def failed(self, plan: DocumentPlan, reason: str) -> None:
        from rich.text import Text

        self._tally.add_failure(plan)
        self._progress.console.print(Text(f"{plan.stage} {plan.doc_id} {plan.task_id}: {reason}", style="red"))
        self._advance(plan)

    def say(self, line: str) -> None:
        self._progress.console.print(make_visible(line), markup=False)

    def stop(self) -> None:
        self._progress.stop()

    def _advance(self, plan: DocumentPlan) -> None:
        self._at_work[plan.stage].discard(plan.task_id)
        self._show_work(plan)
        self._progress.update(self._bars[plan.stage], completed=self._tally.count_done(plan.stage))
        self._progress.update(self._all, completed=self._tally.done, note=self._tally.describe())

    def _show_work(self, plan: DocumentPlan) -> None:
        at_work = self._at_work[plan.stage]
        note = f"[dim]{len(at_work)} at work, such as {next(iter(at_work))[:50]}[/]" if at_work else ""
        self._progress.update(self._bars[plan.stage], note=note)


def choose_display(*, quiet: bool) -> Display:
    """Return the display for standard error: standard output is for results."""
    if sys.stderr.isatty() and not quiet:
        return RichDisplay()
    return PlainDisplay(sys.stderr)
