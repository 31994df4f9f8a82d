"""archive: the CPU time and memory of importing a conversations.json of 1 GB, beside only parsing and only hashing it.

import        into an empty store: keep the bytes, split, parse, write a document for each conversation
again         the same file a second time: nothing is to be made
parse only    the floors: a bare loop over its items with the standard library's decoder, and with ijson
hash only     the floor of the second import: BLAKE3 of the same bytes

CPU times are those of the work, without the start of the interpreter.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chat_export import MEGABYTE, write_export
from benchmarks.measure import Measurement, measure_python
from benchmarks.results import Result, Row, Settings

MEGABYTES, QUICK_MEGABYTES = (1000,), (50,)
IMPORT_RATIO = 3.0  # the aims: CPU of an import to that of only parsing,
AGAIN_RATIO = 1.3  # of a second import to that of only hashing,
PEAK_BYTES = 300e6  # and the memory of an import
SECONDS_A_MEGABYTE = 0.5  # for the estimate
STEPS = ("parse only, json", "parse only, ijson", "hash only", "import", "again")


def estimate_seconds(settings: Settings) -> float:
    return settings.repeat * sum(_sizes_of(settings)) * SECONDS_A_MEGABYTE


def run(settings: Settings) -> Result:
    result = Result()
    for megabytes in _sizes_of(settings):
        folder = settings.work_folder / f"archive-{megabytes}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        export = folder / "conversations.json"
        with export.open("wb") as file:
            conversations = write_export(file, megabytes * MEGABYTE)
        measured = [_measure_all(export, folder / "data", conversations) for _ in range(settings.repeat)]
        shutil.rmtree(folder)
        result.rows += _list_rows(megabytes, conversations, measured)
        _hold_aims(result, megabytes, measured)
    result.notes.append(
        "archive: the import is held to the floor of the decoder that it uses, the standard library's. "
        "Flushing counts as CPU time of the kernel, and is more where other programs write to the same disk. An ext4 "
        "without a journal looks at each file that was deleted in the last minutes whenever it makes one: there, the "
        "kernel takes up to three times as long after a big folder was deleted."
    )
    return result


def _sizes_of(settings: Settings) -> Sequence[int]:
    return settings.sizes or (QUICK_MEGABYTES if settings.is_quick else MEGABYTES)


Measured = dict[str, tuple[Measurement, dict[str, Any]]]  # {step: the process, and what it says of its work}


def _measure_all(export: Path, data: Path, conversations: int) -> Measured:
    """Measure each step once, in turn. Raises AssertionError if one did not do its work."""
    shutil.rmtree(data, ignore_errors=True)
    measured: Measured = {}
    for step in STEPS:
        process = measure_python("benchmarks.archive_run", step, str(export), str(data))
        told = json.loads(process.output)
        assert told["conversations"] in (conversations, None), told
        measured[step] = process, told
    assert measured["import"][1]["imported"] == conversations
    assert measured["again"][1]["imported"] == 0
    return measured


def _cpu_of(measured: Sequence[Measured], step: str) -> float:
    return median(float(each[step][1]["cpu_seconds"]) for each in measured)


def _list_rows(megabytes: int, conversations: int, measured: Sequence[Measured]) -> list[Row]:
    return [
        {
            "megabytes": megabytes,
            "conversations": conversations,
            "step": step,
            "wall_seconds": round(median(each[step][0].wall_seconds for each in measured), 2),
            "cpu_seconds": round(_cpu_of(measured, step), 2),
            "peak_bytes": max(each[step][1]["peak_bytes"] for each in measured),
        }
        for step in STEPS
    ]


def _hold_aims(result: Result, megabytes: int, measured: Sequence[Measured]) -> None:
    title = f"{megabytes} MB"
    parse, hashing = _cpu_of(measured, "parse only, json"), _cpu_of(measured, "hash only")
    result.hold(f"{title}: import / parse only", measured=_cpu_of(measured, "import") / parse, limit=IMPORT_RATIO)
    result.hold(f"{title}: again / hash only", measured=_cpu_of(measured, "again") / hashing, limit=AGAIN_RATIO)
    peak = max(each["import"][1]["peak_bytes"] for each in measured)
    result.hold(f"{title}: peak bytes of the import", measured=peak, limit=PEAK_BYTES)


if __name__ == "__main__":
    sys.exit("Start it with: python -m benchmarks archive")
