"""docs/faults.md names every fault, and the test that holds the store to it, or why there is none."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "faults.md").read_text()
ROWS = dict(re.findall(r"^\| ([CRH]\d+) \|(.*)\|$", PAGE, re.MULTILINE))
FAULTS = [f"C{number}" for number in range(1, 27)] + [f"R{number}" for number in range(1, 13)]
FAULTS += [f"H{number}" for number in range(1, 10)]  # what an import may be given


def list_tests(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_a_test_that_is_there_or_a_reason(fault):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", ROWS[fault])

    assert named or "no test:" in ROWS[fault]
    for path, name in named:
        assert name in list_tests(ROOT / path), f"{fault}: {path} has no {name}"


def test_no_fault_is_listed_that_is_not_one():
    assert sorted(ROWS) == sorted(FAULTS)
