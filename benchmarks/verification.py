"""verification: `daybook verify` of a store beside reading and hashing the same files with BLAKE3 alone.

Documents of two lengths, because for short ones opening a file takes longer than hashing it. Both in one run, the
files in the page cache, with as many processes: the floor once with a process a core, and once with one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable

from benchmarks.cohort_folder import COHORT, TEXT_BYTES, Workplace, write_chain_config
from benchmarks.measure import Measurement, measure_command, measure_python
from benchmarks.results import Result, Settings

ITEMS, QUICK_ITEMS = 1000, 100  # three documents and three calls each
TEXTS = (TEXT_BYTES, 25_000)  # bytes
FEWEST_PERCENT = 70  # the aim, of the speed of hashing alone
SECONDS_AN_ITEM = 0.15  # to build and verify, for the estimate


def estimate_seconds(settings: Settings) -> float:
    return sum(_sizes_of(settings)) * len(TEXTS) * SECONDS_AN_ITEM


def _sizes_of(settings: Settings) -> list[int]:
    return list(settings.sizes) or [QUICK_ITEMS if settings.is_quick else ITEMS]


def run(settings: Settings) -> Result:
    result = Result()
    for items in _sizes_of(settings):
        for text_bytes in TEXTS:
            folder = settings.work_folder / f"verification-{items}-{text_bytes}"
            shutil.rmtree(folder, ignore_errors=True)
            place = write_chain_config(folder, items, text_bytes=text_bytes)
            measure_command(place.command("build", COHORT))
            _measure(result, place, items, text_bytes, repeat=max(3, settings.repeat))
            shutil.rmtree(folder)
    return result


def _measure(result: Result, place: Workplace, items: int, text_bytes: int, *, repeat: int) -> None:
    """Measure in turns, so that what the machine does besides falls on all alike."""
    cores = os.cpu_count() or 1
    tools: dict[str, Callable[[], Measurement]] = {
        "daybook verify --deep": lambda: measure_command(place.command("verify", "--deep")),
        "daybook verify --quick": lambda: measure_command(place.command("verify", "--quick")),
        "blake3 alone, a process a core": lambda: measure_python("benchmarks.hashing", str(place.data), str(cores)),
        "blake3 alone, one process": lambda: measure_python("benchmarks.hashing", str(place.data), "1"),
    }
    runs: dict[str, list[Measurement]] = {tool: [] for tool in tools}
    for _ in range(repeat):
        for tool, measure in tools.items():
            runs[tool].append(measure())
    verified = json.loads(runs["daybook verify --deep"][-1].output)
    hashed = int(json.loads(runs["blake3 alone, one process"][-1].output)["size_bytes"])
    assert verified["state"] == "clean", verified
    assert verified["documents"] == 3 * items + 1, verified
    rates = {}
    for tool, found in runs.items():
        seconds = statistics.median(one.wall_seconds for one in found)
        rates[tool] = hashed / seconds
        result.rows.append(
            {
                "tool": tool,
                "items": items,
                "text_bytes": text_bytes,
                "megabytes": round(hashed / 1e6, 1),
                "wall_seconds": round(seconds, 3),
                "cpu_seconds": round(statistics.median(one.cpu_seconds for one in found), 3),
                "megabytes a second": round(rates[tool] / 1e6, 1),
            }
        )
    percent = 100 * rates["daybook verify --deep"] / rates["blake3 alone, one process"]
    aim = f"speed of verify in percent of blake3 alone, {text_bytes} bytes a text"
    result.hold(aim, measured=percent, limit=FEWEST_PERCENT, at_least=True)
