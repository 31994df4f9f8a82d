"""fan: many coroutines at once through the scheduler and the worker, beside the shortest time that is possible.

    steady    20,000 tasks of 0.2 s, 256 at a time        ideal: 20,000 x 0.2 s / 256
    heavy     5,000 tasks of lognormal length             ideal: each started, in the order in which the run
                                                          started them, as soon as one of 256 places is free
The wall time is that of luigi.build: adding the tasks, running them, and the summary.
"""

from __future__ import annotations

import json

from benchmarks.measure import measure_python, median_of, repeat_measuring
from benchmarks.results import Result, Row, Settings

CONCURRENCY = 256
STEADY, HEAVY = "steady", "heavy"
TASKS = {STEADY: 20_000, HEAVY: 5_000}
QUICK_TASKS = {STEADY: 4_000, HEAVY: 2_000}
AIMS = {STEADY: 1.25, HEAVY: 1.15}  # x ideal wall time
ESTIMATED_SECONDS = {True: 16.0, False: 45.0}  # of both, one run; by is_quick


def estimate_seconds(settings: Settings) -> float:
    return settings.repeat * ESTIMATED_SECONDS[settings.is_quick]


def run(settings: Settings) -> Result:
    result = Result()
    for kind, usual in (QUICK_TASKS if settings.is_quick else TASKS).items():
        for tasks in settings.sizes or [usual]:
            row = _measure(kind, tasks, settings.repeat)
            result.rows.append(row)
            result.hold(f"{kind}, {tasks:,} tasks, wall / ideal", measured=row["wall / ideal"], limit=AIMS[kind])
    return result


def _measure(kind: str, tasks: int, repeat: int) -> Row:
    arguments = [kind, str(tasks), str(CONCURRENCY)]
    runs = repeat_measuring(repeat, lambda _number: measure_python("benchmarks.fan_run", *arguments))
    middle = sorted((json.loads(one.output) for one in runs), key=_ratio_of)[len(runs) // 2]
    measured = median_of(runs)
    return {
        "kind": kind,
        "tasks": tasks,
        "concurrency": CONCURRENCY,
        "ideal_seconds": round(middle["ideal_seconds"], 3),
        "wall_seconds": round(middle["wall_seconds"], 3),
        "wall / ideal": round(_ratio_of(middle), 3),
        "cpu_seconds": round(measured.cpu_seconds, 2),
        "cpu ms a task": round(1000 * measured.cpu_seconds / tasks, 3),
        "peak_bytes": measured.peak_bytes,
    }


def _ratio_of(printed: dict[str, float]) -> float:
    return printed["wall_seconds"] / printed["ideal_seconds"]
