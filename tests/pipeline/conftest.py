"""What the tests of the pipeline share."""

from __future__ import annotations

import pytest

from pipeline.settings import Roots
from tests.pipeline.built_store import build, make_roots


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    """A built cohort that no test may change: see copy_store."""
    roots = make_roots(tmp_path_factory.mktemp("built"))
    build(roots)
    return roots
