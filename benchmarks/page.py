"""Results on a page: tables and plots of a run's JSON between the markers of docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT
from benchmarks.plots import Points, draw_lines
from benchmarks.results import Row
from benchmarks.tables import format_cell, format_markdown_table

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
PLOTS = {
    "cold-cpu": ("cold", "cpu_seconds", "CPU of a cold run, in seconds"),
    "cold-wall": ("cold", "wall_seconds", "Wall time of a cold run, in seconds"),
    "again-wall": ("again", "wall_seconds", "Wall time of a run with nothing to do, in seconds"),
    "changed-wall": ("one changed", "wall_seconds", "Wall time of a run after one input changed, in seconds"),
}


class PageInvalid(Exception):
    """The page has not the two markers between which the results stand."""


def main(results: Path, page: Path = PAGE) -> int:
    """Write the results of a run into the page, and its plots beside it."""
    facts: dict[str, Any] = json.loads(results.read_text())
    plots = draw_plots(facts["benchmarks"])
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name, content in plots.items():
        (folder / f"{name}.svg").write_text(content)
    page.write_text(insert_results(page.read_text(), format_results(facts, list(plots), folder=folder.name)))
    return 0


def insert_results(page: str, results: str) -> str:
    """Return the page with the results between its markers. Raises PageInvalid."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise PageInvalid(f"The page lacks a marker. Expected {BEGIN} and, after it, {END}.")
    return f"{before}{BEGIN}\n\n{results}\n\n{END}{after}"


def format_results(facts: Mapping[str, Any], plots: Sequence[str], *, folder: str) -> str:
    parts = [_format_machine(facts["machine"], facts["repeat"])]
    for name, result in facts["benchmarks"].items():
        parts.append(f"### {name}")
        parts += [format_markdown_table(rows) for rows in (result["aims"], result["rows"]) if rows]
        if name == "chain3":
            parts += [f"![{PLOTS[plot][2]}]({folder}/{plot}.svg)" for plot in plots]
        parts += result["notes"]
    return "\n\n".join(parts)


def _format_machine(machine: Mapping[str, Any], repeat: int) -> str:
    said = ", ".join(f"{fact.replace('_bytes', '')} {format_cell(fact, value)}" for fact, value in machine.items())
    return f"Medians of {repeat}. Times in seconds, memory in MB. Measured on: {said}."


def draw_plots(benchmarks: Mapping[str, Any]) -> dict[str, str]:
    """Return {name: SVG} of the plots that a run's results allow."""
    rows = benchmarks.get("chain3", {}).get("rows", [])
    plots = {}
    for name, (run, measure, title) in PLOTS.items():
        lines = _lines_of(rows, run, measure)
        if lines:
            plots[name] = draw_lines(lines, title=title, x_label="items, of three steps each", y_label="seconds")
    return plots


def _lines_of(rows: Sequence[Row], run: str, measure: str) -> dict[str, Points]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["run"] == run and row[measure]:
            lines.setdefault(row["tool"], []).append((row["items"], row[measure]))
    return dict(lines)
