"""document_cost: what one document costs in files, folders, flushes and bytes, its part of the call ledger included.

Flushes are counted by strace. Two cohorts of different size are built, and the difference is divided by the
number of documents between them, so that what a run costs once (task tables, texts, the report) drops out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cohort_folder import COHORT, Workplace, write_chain_config
from benchmarks.measure import ROOT, measure_command
from benchmarks.results import Result, Row, Settings

FEW_ITEMS, MANY_ITEMS = 40, 140
CONCURRENCIES = (1, 16, 64)  # documents made at a time
FLUSHES = ("fsync", "fdatasync", "syncfs", "sync_file_range")
RENAMES = ("rename", "renameat", "renameat2")
TRACED = (*FLUSHES, *RENAMES)
BLOCK_BYTES = 512  # the unit of st_blocks


class Cost(NamedTuple):
    """Counts over a number of documents."""

    files: int
    folders: int
    flushes: int
    renames: int
    apparent: int  # bytes as the files' lengths have them
    on_disk: int  # bytes of the blocks that files and folders take

    def per_document(self, other: Cost, documents: int) -> list[float]:
        return [(mine - its) / documents for mine, its in zip(self, other, strict=True)]


def estimate_seconds(_settings: Settings) -> float:
    return (3 + len(CONCURRENCIES)) * MANY_ITEMS * 0.4


def run(settings: Settings) -> Result:
    if not can_trace():
        return Result(notes=["document_cost: strace cannot be used here; nothing was counted."])
    folder = settings.work_folder / "document-cost"
    llm = {}
    for concurrency in CONCURRENCIES:
        chain = _cost_of_item(folder / f"llm-{concurrency}", essay_mode="llm", concurrency=concurrency)
        llm[concurrency] = [value / 3 for value in chain]
    rows = [_row(f"llm, {concurrency} at a time", values) for concurrency, values in llm.items()]
    chain = _cost_of_item(folder / "copy", essay_mode="copy", concurrency=1)
    rows.append(_row("copy, 1 at a time", [whole - 2 * each for whole, each in zip(chain, llm[1], strict=True)]))
    floor = [value / 3 for value in _floor_cost_of_item(folder / "floor")]
    shutil.rmtree(folder)
    return Result([*rows, _row("durable floor, llm", floor)])


def can_trace() -> bool:
    """Whether strace is here and allowed."""
    return (
        bool(shutil.which("strace")) and subprocess.run(["strace", "-c", "true"], capture_output=True).returncode == 0
    )


def _row(document: str, values: Sequence[float]) -> Row:
    files, folders, flushes, renames, apparent, on_disk = values
    return {
        "document": document,
        "files": round(files, 2),
        "folders": round(folders, 2),
        "flushes": round(flushes, 2),
        "renames": round(renames, 2),
        "bytes": round(apparent),
        "bytes on disk": round(on_disk),
    }


def _cost_of_item(folder: Path, *, essay_mode: str, concurrency: int) -> list[float]:
    """Return the cost of one chain of three."""
    costs = []
    for items in (FEW_ITEMS, MANY_ITEMS):
        place = write_chain_config(folder / str(items), items, essay_mode=essay_mode)
        costs.append(trace_cost(place.command("build", COHORT, "--concurrency", str(concurrency)), place))
    return costs[1].per_document(costs[0], MANY_ITEMS - FEW_ITEMS)


def _floor_cost_of_item(folder: Path) -> list[float]:
    sample = write_chain_config(folder / "sample", 1)
    measure_command(sample.command("build", COHORT))
    costs = []
    for items in (FEW_ITEMS, MANY_ITEMS):
        place = write_chain_config(folder / str(items), items)
        arguments = [str(place.config), str(sample.data), str(place.data)]
        costs.append(trace_cost([sys.executable, "-m", "benchmarks.floor", *arguments], place))
    return costs[1].per_document(costs[0], MANY_ITEMS - FEW_ITEMS)


def trace_cost(command: Sequence[str], place: Workplace) -> Cost:
    """Run a command under strace and return what it cost in all."""
    calls = count_system_calls(command, place.config.parent / "trace.txt")
    flushes, renames = sum(calls[name] for name in FLUSHES), sum(calls[name] for name in RENAMES)
    documents, ledger = measure_folder(place.data / "docs"), measure_folder(place.data / "calls")
    return Cost(
        files=documents.files + ledger.files,
        folders=documents.folders + ledger.folders,
        flushes=flushes,
        renames=renames,
        apparent=documents.apparent + ledger.apparent,
        on_disk=documents.on_disk + ledger.on_disk,
    )


def count_system_calls(command: Sequence[str], trace: Path) -> Counter[str]:
    """Return how often a command and its children made each call of TRACED. Raises CommandFailed if it fails."""
    strace = ["strace", "--follow-forks", "--seccomp-bpf", f"--trace={','.join(TRACED)}", "--output", str(trace)]
    measure_command([*strace, *command], folder=ROOT)
    names = (line.split("(")[0].split()[-1] for line in trace.read_text().splitlines() if "(" in line)
    return Counter(name for name in names if name in TRACED)


def measure_folder(folder: Path) -> Cost:
    """Return files, folders and bytes below a folder; reports are left out, a run has one of them."""
    files = folders = apparent = on_disk = 0
    for parent, names, file_names in os.walk(folder):
        names[:] = [name for name in names if name != "report"]
        sizes = [os.stat(os.path.join(parent, name)) for name in file_names]
        files, folders = files + len(sizes), folders + len(names)
        apparent += sum(size.st_size for size in sizes)
        on_disk += sum(size.st_blocks for size in [*sizes, os.stat(parent)]) * BLOCK_BYTES
    return Cost(files, folders, 0, 0, apparent, on_disk)
