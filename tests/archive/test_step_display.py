"""How far a step is: told where it takes time, and on a terminal cleared afterwards."""

from __future__ import annotations

import io
import re

from pipeline.archive import step_display
from pipeline.archive.step_display import StepDisplay
from tests.archive.made_archive import MadeArchive, make_view


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_that_takes_time_shows_how_far_it_is_and_clears_its_line(monkeypatch):
    monkeypatch.setattr(step_display, "SECONDS_BEFORE_FIRST", 0.0)
    terminal = Terminal()
    display = StepDisplay(terminal)

    display("indexing", 1_000, 4_000)
    display.stop()

    assert re.search(r"indexing: 1,000 of 4,000, [\d,]+ a second, 0:00 left\r\x1b\[2K$", terminal.getvalue())


def test_a_step_that_is_over_at_once_shows_nothing():
    for stream in (Terminal(), io.StringIO()):
        display = StepDisplay(stream)
        display("indexing", 0, 1)
        display.stop()
        assert stream.getvalue() == ""


def test_a_step_of_which_nobody_knows_how_long_it_is_shows_its_name():
    stream = io.StringIO()

    StepDisplay(stream)("waiting", 0, 0)

    assert stream.getvalue() == "waiting\n"


def test_making_the_index_tells_how_far_it_is(tmp_path):
    archive = MadeArchive(tmp_path)
    for name in ("a", "b", "c"):
        archive.put(make_view(name, user=name))
    told: list[tuple[str, int, int]] = []
    archive.source = archive.source._replace(watch=lambda *step: told.append(step))

    archive.ask(lambda index: None)

    steps = ("indexing conversation documents", "indexing conversations")
    assert told == [(step, done, 3) for step in steps for done in range(3)]
