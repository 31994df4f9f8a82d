"""planning: how time and memory grow with a cohort's rows: `daybook plan`, and the start of `daybook build`.

plan     loads the config, plans, writes the task tables, scans the stages' folders, estimates what it takes
build    plans and hands every missing document to the scheduler; stopped when the first one starts
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

from benchmarks.cohort_folder import COHORT, STAGES, WIDE_DOCUMENTS, Workplace, write_wide_config
from benchmarks.measure import Measurement, measure_command, measure_python, median_of, repeat_measuring
from benchmarks.results import Result, Row, Settings

ROWS, QUICK_ROWS = (100_000, 1_000_000), (1_000, 10_000)
MOST_BUILT_ROWS = 100_000  # missing documents at the start of a build
PEAK_BYTES = 1.5e9  # the aim, for a million rows
LINEAR_RATIO = 1.1  # the aim: time a row at the largest size / time a row at the smallest
SECONDS_A_ROW = 0.00015  # for the estimate


def estimate_seconds(settings: Settings) -> float:
    return settings.repeat * sum(_sizes_of(settings)) * 2 * SECONDS_A_ROW


def run(settings: Settings) -> Result:
    result = Result()
    for rows in _sizes_of(settings):
        folder = settings.work_folder / f"planning-{rows}"
        shutil.rmtree(folder, ignore_errors=True)
        place = write_wide_config(folder, rows // WIDE_DOCUMENTS)
        result.rows.append(_row("plan", rows, *_measure_plan(place, rows, settings.repeat)))
        if rows <= MOST_BUILT_ROWS:
            result.rows.append(_row("build", rows, *_measure_build(place, rows, settings.repeat)))
        shutil.rmtree(folder)
    _hold_aims(result)
    return result


def _sizes_of(settings: Settings) -> Sequence[int]:
    return settings.sizes or (QUICK_ROWS if settings.is_quick else ROWS)


def _measure_plan(place: Workplace, rows: int, repeat: int) -> tuple[Measurement, int]:
    """Return what planning takes, and the bytes of the task tables. The first run writes them, the others compare."""

    def plan(_number: int) -> Measurement:
        shutil.rmtree(place.data, ignore_errors=True)
        measured = measure_command(place.command("plan", COHORT))
        stages = json.loads(measured.output)["stages"]
        assert sum(stages[stage]["rows"] for stage in STAGES) == rows, stages
        return measured

    measured = median_of(repeat_measuring(repeat, plan))
    tables = sum(path.stat().st_size for path in (place.data / "tasks").glob("*/*.csv"))
    return measured, tables


def _measure_build(place: Workplace, rows: int, repeat: int) -> tuple[Measurement, int]:
    def start(_number: int) -> Measurement:
        shutil.rmtree(place.data, ignore_errors=True)
        measured = measure_python("benchmarks.add_phase", str(place.data), str(place.config), COHORT)
        assert json.loads(measured.output)["missing"] == rows, measured.output
        return measured

    measured = median_of(repeat_measuring(repeat, start))
    tables = sum(path.stat().st_size for path in (place.data / "tasks").glob("*/*.csv"))
    return measured, tables


def _row(command: str, rows: int, measured: Measurement, table_bytes: int) -> Row:
    return {
        "command": command,
        "rows": rows,
        "wall_seconds": round(measured.wall_seconds, 3),
        "cpu_seconds": round(measured.cpu_seconds, 3),
        "cpu us a row": round(1e6 * measured.cpu_seconds / rows, 1),
        "peak_bytes": measured.peak_bytes,
        "tables_bytes": table_bytes,
    }


def _hold_aims(result: Result) -> None:
    plans = [row for row in result.rows if row["command"] == "plan"]
    smallest, largest = plans[0], plans[-1]
    result.hold(
        f"plan, {largest['rows']:,} rows, peak MB", measured=largest["peak_bytes"] / 1e6, limit=PEAK_BYTES / 1e6
    )
    if largest is not smallest:
        name = f"plan, CPU a row at {largest['rows']:,} rows / at {smallest['rows']:,}"
        ratio = largest["cpu us a row"] / smallest["cpu us a row"]
        result.hold(name, measured=ratio, limit=LINEAR_RATIO)
