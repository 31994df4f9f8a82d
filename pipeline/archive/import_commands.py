"""`daybook import`: chat exports into the archive, or what they would be taken for."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.command_line import EXIT_SKIPPED, add_command, print_result, roots_of
from pipeline.errors import InputInvalid
from store.data_root import DataRoot

EXIT_OK, EXIT_ERROR = 0, 1
LONGEST_GAP = 7 * 24 * 60  # minutes


def add_import(commands: Any) -> None:
    parser = add_command(commands, "import", _import, "keep chat exports for ever, and make their conversations")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file, ZIP or folder; - for standard input")
    parser.add_argument(
        "--again",
        action="store_true",
        help="make every conversation that is missing from the exports that are kept; without PATH",
    )
    parser.add_argument(
        "--takeout-gap",
        metavar="MINUTES",
        type=_read_gap,
        help="of Google Takeout: prompts further apart begin a new conversation; 30 unless told, or day",
    )
    parser.add_argument("--explain", action="store_true", help="say what each file is taken for and why; keep nothing")


def _read_gap(text: str) -> str | int:
    if text == "day":
        return text
    if text.isascii() and text.isdigit() and 0 < int(text) <= LONGEST_GAP:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no gap. Expected minutes, from 1 to {LONGEST_GAP}, or day.")


def _import(arguments: argparse.Namespace) -> int:
    if arguments.explain and not arguments.paths:
        raise InputInvalid("Expected paths to explain: files, ZIPs or folders; - for standard input.")
    if bool(arguments.paths) == arguments.again:
        raise InputInvalid("Expected either paths to import, or --again to make what is missing from what is kept.")
    if arguments.again and arguments.takeout_gap is not None:
        raise InputInvalid("--takeout-gap belongs to an import. Expected it with the paths, and not with --again.")
    if arguments.explain:
        return _explain(arguments)
    from pipeline.archive.coverage import format_coverage
    from pipeline.archive.import_display import open_display
    from pipeline.archive.importers.options import TAKEOUT_GAP
    from pipeline.archive.importing import import_again, import_paths

    options = {} if arguments.takeout_gap is None else {TAKEOUT_GAP: arguments.takeout_gap}
    data, display = DataRoot(roots_of(arguments).data), open_display()
    try:
        if arguments.again:
            coverage = import_again(data, watcher=display)
        else:
            coverage = import_paths(data, arguments.paths, options=options, watcher=display)
    finally:
        display.stop()
    print_result(arguments, coverage.as_json(), format_coverage)
    if coverage.list_mismatches():
        return EXIT_ERROR
    return EXIT_SKIPPED if coverage.has_skipped else EXIT_OK


def _explain(arguments: argparse.Namespace) -> int:
    from pipeline.archive.explaining import explain_paths, format_explanation

    explanation = explain_paths(DataRoot(roots_of(arguments).data), arguments.paths)
    print_result(arguments, explanation, format_explanation)
    return EXIT_SKIPPED if explanation["unread"] else EXIT_OK
