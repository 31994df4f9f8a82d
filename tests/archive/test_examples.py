"""The examples in docstrings of what makes transcripts are true."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    *("file_names", "readable_texts", "transcripts"),
    *("transcripts.markdown_texts", "transcripts.pieces", "transcripts.turns"),
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    failed, attempted = doctest.testmod(importlib.import_module(f"pipeline.archive.{name}"))

    assert failed == 0
    assert attempted
