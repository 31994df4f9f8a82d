"""Tables, plots, and the page that they stand on."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import page
from benchmarks.measure import ROOT
from benchmarks.plots import draw_lines
from benchmarks.results import Result
from benchmarks.tables import format_markdown_table, format_text_table

NAMES = [
    "chain3",
    "fan",
    "fetch",
    "gateway",
    "embedded",
    "dashboard",
    "planning",
    "two_workers",
    "archive",
    "search",
    "document_cost",
    "verification",
]
ROWS = [
    {"tool": "Daybook", "items": 1000, "wall_seconds": 12.3456, "peak_bytes": 55_400_000, "remark": ""},
    {"tool": "make", "items": 30000, "wall_seconds": None, "peak_bytes": None, "remark": "stopped"},
]


def test_a_text_table_has_its_numbers_to_the_right():
    assert format_text_table(ROWS).splitlines() == [
        "tool      items  wall s  peak MB  remark",
        "-------  ------  ------  -------  -------",
        "Daybook   1,000    12.3     55.4",
        "make     30,000       -        -  stopped",
    ]


def test_a_markdown_table_has_a_row_a_line():
    assert format_markdown_table(ROWS).splitlines()[:3] == [
        "| tool | items | wall s | peak MB | remark |",
        "| --- | ---: | ---: | ---: | --- |",
        "| Daybook | 1,000 | 12.3 | 55.4 |  |",
    ]


def test_an_aim_is_met_or_not():
    result = Result()

    result.hold("ratio", measured=1.99, limit=2)
    result.hold("ratio", measured=2.01, limit=2)
    result.hold("rate", measured=199, limit=200, at_least=True)

    assert [aim["met"] for aim in result.aims] == ["yes", "NO", "NO"]


def test_a_plot_is_an_svg_with_a_line_for_each_name():
    svg = draw_lines({"a & b": [(10, 1), (100, 10)], "c": [(10, 2)]}, title="T", x_label="x", y_label="y")

    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    lines = [element.get("points") for element in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert {"T", "x", "y", "a & b", "c", "10", "100"} <= set(texts)
    assert len(lines) == 2
    first, second = (tuple(map(float, point.split(","))) for point in lines[0].split())
    assert first[0] < second[0]
    assert first[1] > second[1], "more is higher"


def test_results_take_the_place_between_the_markers(tmp_path):
    target = tmp_path / "benchmarks.md"
    target.write_text(f"# Before\n\n{page.BEGIN}\nof last year\n{page.END}\n\nAfter.\n")
    rows = [{"tool": tool, "items": 10, "run": "cold", "wall_seconds": 2.0, "cpu_seconds": 1.0} for tool in "ab"]
    results = {
        "machine": {"cores": 2, "memory_bytes": 24_000_000_000},
        "repeat": 3,
        "benchmarks": {"chain3": {"rows": rows, "aims": [], "notes": ["A note."]}},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))

    for _ in range(2):
        assert page.main(tmp_path / "results.json", target) == 0

    text = target.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith(f"{page.END}\n\nAfter.\n")
    assert "of last year" not in text
    assert text.count("| a | 10 | cold | 2 | 1 |") == 1
    assert "A note." in text
    assert "(benchmarks/cold-cpu.svg)" in text
    assert {path.name for path in (tmp_path / "benchmarks").iterdir()} == {"cold-cpu.svg", "cold-wall.svg"}


def test_a_page_without_markers_is_left_alone():
    with pytest.raises(page.PageInvalid, match="lacks a marker"):
        page.insert_results("# Page\n", "results")


def test_the_page_names_every_benchmark_and_every_target_and_can_take_results():
    text = page.PAGE.read_text()
    makefile = (ROOT / "Makefile").read_text()

    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == NAMES
    assert page.insert_results(text, "new").count("\nnew\n") == 1
    for target in re.findall(r"\$ make ([\w-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
