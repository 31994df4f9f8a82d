"""search: how long a query takes over an index of 100,000 messages, beside a scan of the same rows.

The floor is a plain LIKE over all texts, which is what a search without an index comes to. Queries are of eight kinds,
their words of all frequencies; the time is that of `search` within the process: ranking, snippets and facts of 20 hits.
"""

from __future__ import annotations

import json
import shutil
from statistics import median, quantiles
from typing import Any

from benchmarks.measure import Measurement, measure_python, median_of, repeat_measuring
from benchmarks.results import Result, Row, Settings

MESSAGES, QUICK_MESSAGES = 100_000, 10_000
MEDIAN_SECONDS = 0.030  # the aim
SECONDS_A_MESSAGE = 0.0008  # for the estimate


def estimate_seconds(settings: Settings) -> float:
    return settings.repeat * sum(_sizes_of(settings)) * SECONDS_A_MESSAGE


def run(settings: Settings) -> Result:
    result = Result()
    for messages in _sizes_of(settings):
        runs = repeat_measuring(settings.repeat, lambda number: _measure(settings, messages, number))  # noqa: B023  at once
        printed = [json.loads(one.output) for one in runs]
        middle = sorted(printed, key=lambda one: median(_list_all(one)))[len(printed) // 2]
        result.rows += _list_rows(middle)
        every, scan = median(_list_all(middle)), median(middle["scan"])
        name = f"{middle['messages']:,} messages, median of all queries"
        result.hold(f"{name}, ms", measured=1000 * every, limit=1000 * MEDIAN_SECONDS)
        result.hold(f"{name} / scan", measured=every / scan, limit=1)
        result.notes.append(_describe(middle, median_of(runs)))
    return result


def _sizes_of(settings: Settings) -> list[int]:
    return list(settings.sizes) or [QUICK_MESSAGES if settings.is_quick else MESSAGES]


def _measure(settings: Settings, messages: int, number: int) -> Measurement:
    folder = settings.work_folder / f"search-{messages}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    measured = measure_python("benchmarks.search_run", str(messages), str(folder))
    shutil.rmtree(folder)
    return measured


def _list_all(printed: dict[str, Any]) -> list[float]:
    return [seconds for kind in printed["seconds"].values() for seconds in kind]


def _list_rows(printed: dict[str, Any]) -> list[Row]:
    kinds = {**printed["seconds"], "one word, with a look at the store": printed["whole"], "scan": printed["scan"]}
    return [
        {
            "messages": printed["messages"],
            "query": kind,
            "queries": len(seconds),
            "median ms": round(1000 * median(seconds), 2),
            "p95 ms": round(1000 * quantiles(seconds, n=20)[-1], 2),
            "longest ms": round(1000 * max(seconds), 2),
        }
        for kind, seconds in kinds.items()
    ]


def _describe(printed: dict[str, Any], measured: Measurement) -> str:
    size = printed["index_bytes"] / 1e6
    return (
        f"The index of {printed['conversations']:,} conversations, {printed['messages']:,} messages: {size:,.0f} MB, "
        f"made anew in {printed['made_seconds']:.1f} s; peak memory {measured.peak_bytes / 1e6:,.0f} MB, "
        "of which the made views are the most."
    )
