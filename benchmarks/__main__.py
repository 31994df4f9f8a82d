"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import chain3, dashboard, document_cost, embedded, fan, fetch, gateway, page, planning, two_workers
from benchmarks.machine import describe_machine
from benchmarks.measure import ROOT
from benchmarks.peers import PEERS
from benchmarks.results import Result, Settings
from benchmarks.tables import format_text_table

CACHE = ROOT / ".benchmarks"
BENCHMARKS: dict[str, ModuleType] = {
    "document_cost": document_cost,
    "fan": fan,
    "gateway": gateway,
    "embedded": embedded,
    "dashboard": dashboard,
    "planning": planning,
    "chain3": chain3,
    "two_workers": two_workers,
    "fetch": fetch,
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _make_parser().parse_args(argv)
    if arguments.name == "page":
        return page.main(arguments.file or CACHE / "results.json")
    names = list(BENCHMARKS) if arguments.name == "all" else [arguments.name]
    settings = _read_settings(arguments)
    expected = sum(BENCHMARKS[name].estimate_seconds(settings) for name in names)
    print(f"This takes about {_say_duration(expected)}.", file=sys.stderr, flush=True)
    run_benchmarks(names, settings, arguments.json)
    print(f"\nWritten: {arguments.json}", file=sys.stderr)
    return 0


def run_benchmarks(names: Sequence[str], settings: Settings, json_path: Path) -> None:
    """Run benchmarks one after the other. When one ends, its tables are printed and the JSON file is written anew."""
    json_path.parent.mkdir(parents=True, exist_ok=True)
    settings.work_folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine(settings.work_folder)
    print(format_text_table([{"fact": fact, "value": str(value)} for fact, value in machine.items()]))
    results: dict[str, Any] = {"machine": machine, "repeat": settings.repeat, "benchmarks": {}}
    for name in names:
        started = time.monotonic()
        result: Result = BENCHMARKS[name].run(settings)
        print(f"\n{name}, {_say_duration(time.monotonic() - started)}, medians of {settings.repeat}\n")
        _print_result(result)
        results["benchmarks"][name] = result.as_json()
        json_path.write_text(json.dumps(results, indent=1) + "\n")


def _print_result(result: Result) -> None:
    for rows in (result.rows, result.aims):
        if rows:
            print(format_text_table(rows), end="\n\n")
    for note in result.notes:
        print(note)
    sys.stdout.flush()


def _say_duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _read_settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        arguments.folder / "work",
        sizes=arguments.sizes,
        repeat=arguments.repeat or (1 if arguments.quick else 3),
        is_quick=arguments.quick,
        peers=arguments.peers if arguments.peers is not None else ([] if arguments.quick else list(PEERS)),
        limit_seconds=arguments.limit,
    )


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Daybook beside floors and peers."
    )
    parser.add_argument("name", nargs="?", default="all", choices=[*BENCHMARKS, "all", "page"])
    parser.add_argument("file", nargs="?", type=Path, help="page: the results; default .benchmarks/results.json")
    parser.add_argument(
        "--sizes", "--documents", type=_read_sizes, default=(), metavar="N,N", help="instead of the usual sizes"
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of which the median is taken; default 3, quick 1")
    parser.add_argument("--quick", action="store_true", help="small sizes, one run, no peers: about two minutes")
    parser.add_argument("--peers", type=_read_peers, metavar="all|none|NAME,NAME", help=f"of {', '.join(PEERS)}")
    parser.add_argument(
        "--limit", type=float, default=300, metavar="SECONDS", help="for one run of a peer; default 300"
    )
    parser.add_argument("--json", type=Path, default=CACHE / "results.json", metavar="FILE", help="where results go")
    parser.add_argument(
        "--folder", type=Path, default=CACHE, help="for everything that is written; default .benchmarks"
    )
    return parser


def _read_sizes(text: str) -> list[int]:
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} are no sizes. Expected whole numbers from 1, such as 1000,3000.")
    return sorted(sizes)


def _read_peers(text: str) -> list[str]:
    names = {"all": list(PEERS), "none": []}.get(text, text.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown peer {unknown[0]!r}. Known: {', '.join(PEERS)}, all, none.")
    return names


if __name__ == "__main__":
    sys.exit(main())
