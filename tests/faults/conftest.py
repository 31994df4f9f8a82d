"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

InSmallProcess = Callable[..., Any]


@pytest.fixture(scope="session")
def in_small_process() -> Iterator[InSmallProcess]:
    """Call a function of a module in another process, which has imported little: in_small_process(function, argument).

    For what forks often: the process of the tests has imported everything, and a fork of it takes ten times as long.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield lambda function, *arguments: process.submit(function, *arguments).result()
