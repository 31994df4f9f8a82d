"""The commands `daybook verify`, `repair`, `attempts`, `log` and `reroll`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline import printing
from pipeline.command_line import EXIT_INTERRUPTED, add_command, existing_roots_of, open_workspace, print_result
from store.data_root import DataRoot

EXITS = {"clean": 0, "repairable": 1, "lost": 2}


def add_verify(commands: Any) -> None:
    parser = add_command(commands, "verify", _verify, "check every document and call against its record")
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--deep", action="store_true", help="read every byte; the default")
    level.add_argument("--quick", action="store_true", help="read the records, and of other files the size only")
    parser.add_argument("--resume", action="store_true", help="go on where a deep one was interrupted")


def _verify(arguments: argparse.Namespace) -> int:
    from pipeline.verification import verify

    roots = existing_roots_of(arguments)
    try:
        found = verify(
            DataRoot(roots.data),
            roots.config,
            deep=not arguments.quick,
            resume=arguments.resume,
            on_progress=printing.ProgressLine(sys.stderr),
        )
    except KeyboardInterrupt:
        way = "verify --quick begins anew" if arguments.quick else "daybook verify --resume goes on from there"
        print(f"\nInterrupted. Nothing was changed; {way}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    print_result(arguments, found.as_json(), printing.format_verification)
    return EXITS[found.state]


def add_repair(commands: Any) -> None:
    parser = add_command(commands, "repair", _repair, "show how what verify finds can be mended, or mend it")
    parser.add_argument("--apply", action="store_true", help="do it; without it nothing is changed")
    parser.add_argument(
        "--from",
        dest="bundles",
        action="append",
        default=[],
        metavar="BUNDLE",
        help="take bytes also from a file that daybook export wrote; may be given several times",
    )


def _repair(arguments: argparse.Namespace) -> int:
    from pipeline.bundles import open_source

    with ExitStack() as stack:
        sources = tuple(stack.enter_context(open_source(Path(bundle))) for bundle in arguments.bundles)
        return _repair_from(arguments, sources)


def _repair_from(arguments: argparse.Namespace, sources: tuple[Callable[[str], bytes | None], ...]) -> int:
    from pipeline.repair import Repairer
    from pipeline.verification import verify

    existing_roots_of(arguments)
    workspace = open_workspace(arguments)
    progress = printing.ProgressLine(sys.stderr)
    found = verify(workspace.data, workspace.roots.config, deep=True, sources=sources, on_progress=progress)
    repairer = Repairer(workspace, found, sources)
    repairs = repairer.plan()
    problems = [done.problem for done in repairer.apply(repairs)] if arguments.apply else [""] * len(repairs)
    rows = [
        {**repair.as_json(), "done": arguments.apply and not problem and repair.how != "leave", "problem": problem}
        for repair, problem in zip(repairs, problems, strict=True)
    ]
    print_result(arguments, {"applied": arguments.apply, "repairs": rows}, printing.format_repairs)
    if any(problems) or any(repair.is_loss for repair in repairs):
        return EXITS["lost"]
    return 0 if arguments.apply or found.state == "clean" else EXITS["repairable"]


def add_attempts(commands: Any) -> None:
    parser = add_command(commands, "attempts", _attempts, "show all attempts at a document")
    parser.add_argument("id", help="the start of a doc_id; a stage may stand before it: essay/7k3f")


def _attempts(arguments: argparse.Namespace) -> int:
    from pipeline.history import list_attempts

    print_result(arguments, list_attempts(open_workspace(arguments), arguments.id), printing.format_attempts)
    return 0


def add_log(commands: Any) -> None:
    parser = add_command(commands, "log", _log, "show what was attempted, committed, superseded and set aside")
    parser.add_argument("--since", default="", metavar="WHEN", help="a time in UTC, or an age: 2026-11-21T10:00, 3d")


def _log(arguments: argparse.Namespace) -> int:
    from pipeline.history import read_log

    records = read_log(DataRoot(existing_roots_of(arguments).data), since=arguments.since)
    print_result(arguments, records, printing.format_log)
    return 0


def add_reroll(commands: Any) -> None:
    parser = add_command(commands, "reroll", _reroll, "make another replicate of a document")
    parser.add_argument("id", help="the start of a doc_id; a stage may stand before it: essay/7k3f")


def _reroll(arguments: argparse.Namespace) -> int:
    from pipeline.rerolling import reroll

    print_result(arguments, reroll(open_workspace(arguments), arguments.id), printing.format_reroll)
    return 0
