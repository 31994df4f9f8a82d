"""What a build prints where nobody watches: enough to follow it, whatever its size."""

from __future__ import annotations

import io

import pytest

from pipeline import displays
from pipeline.admissions import Meter
from pipeline.displays import LINES_IN_FULL, PlainDisplay
from pipeline.planning import DocumentPlan
from pipeline.stages import Mode, Stage
from pipeline.tasks import Made


def plan(number: int) -> DocumentPlan:
    return DocumentPlan(Stage.DRAFT, f"task-{number}", number, Mode.LLM, None, None, None, "0" * 16, None)


def show_build(documents: int, *, failed: int = 0) -> list[str]:
    stream = io.StringIO()
    display = PlainDisplay(stream)
    plans = [plan(number) for number in range(documents)]
    display.start("trial", plans, 0, Meter())
    for one in plans[failed:]:
        display.made(one, Made(1, 2, None, "run"))
    for one in plans[:failed]:
        display.failed(one, "truncated: cut")
    return stream.getvalue().splitlines()


def test_each_of_a_few_documents_has_a_line():
    assert len(show_build(LINES_IN_FULL)) == 1 + LINES_IN_FULL


def test_many_documents_do_not_flood_the_log():
    assert len(show_build(LINES_IN_FULL + 100)) < 20


def test_every_failure_is_named_however_many_documents_there_are():
    lines = show_build(LINES_IN_FULL + 100, failed=30)

    assert sum("truncated: cut" in line for line in lines) == 30


def test_how_far_a_large_build_is_can_be_followed(monkeypatch):
    monkeypatch.setattr(displays, "SECONDS_BETWEEN_LINES", 0.0)

    last = show_build(LINES_IN_FULL + 100)[-1]

    assert last.startswith(f"[{LINES_IN_FULL + 100}/{LINES_IN_FULL + 100}] {LINES_IN_FULL + 100} made, 0 failed")


@pytest.mark.parametrize("documents", [1, 3])
def test_a_document_that_failed_first_and_was_made_then_counts_once(documents):
    stream = io.StringIO()
    display = PlainDisplay(stream)
    display.start("trial", [plan(number) for number in range(documents)], 0, Meter())
    display.failed(plan(0), "gen_error: down")
    display.made(plan(0), Made(1, 2, None, "run"))

    assert f"[1/{documents}]" in stream.getvalue().splitlines()[-1]
