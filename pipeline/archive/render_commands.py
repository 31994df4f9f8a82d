"""`daybook render`: conversations as Markdown or HTML in a folder."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.command_line import add_command, open_workspace, print_result
from pipeline.errors import PipelineError
from pipeline.printing import format_count, make_visible
from store.errors import StoreError

Json = dict[str, Any]

EXIT_OK, EXIT_ERROR = 0, 1
WATCH_SECONDS = 1.0
INDEX_FILE = "index.html"
SHOWN_IDS = 5  # of the conversations that could not be rendered for one reason


def add_render(commands: Any) -> None:
    parser = add_command(commands, "render", _render, "place conversations as Markdown or HTML in a folder")
    parser.add_argument("--format", choices=("html", "md"), default="html", help="default html")
    parser.add_argument("--out", metavar="DIR", help="default: transcripts in the data folder")
    parser.add_argument("--provider", help="only conversations with it, such as chatgpt")
    parser.add_argument("--since", metavar="DATE", help="only what changed then or later: 2026, 2026-03 or 2026-03-01")
    parser.add_argument(
        "--conversation",
        action="append",
        default=[],
        metavar="ID",
        help="only this one: the start of its id or of the doc_id of a version; may be given more than once",
    )
    parser.add_argument(
        "--branch",
        type=_read_branch,
        default="all",
        metavar="all|active|N",
        help="every branch, the active path alone, or the path through branch N; default all",
    )
    parser.add_argument("--hidden", action="store_true", help="show hidden messages and context, too")
    parser.add_argument("--watch", action="store_true", help="go on, and render again whenever the archive changes")
    parser.add_argument(
        "--copy-templates", action="store_true", help="only copy the templates to config/transcripts, to change them"
    )


def _read_branch(text: str) -> str | int:
    if text in ("all", "active"):
        return text
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no branch. Expected all, active or a number from 1.")
    return int(text)


def _render(arguments: argparse.Namespace) -> int:
    from pipeline.archive.transcripts.rendering import copy_templates, read_stamp

    workspace = open_workspace(arguments)
    if arguments.copy_templates:
        print_result(arguments, copy_templates(workspace.roots.config), format_copies)
        return EXIT_OK
    stamp = read_stamp(workspace)  # before the work: what changes meanwhile is seen afterwards
    code = _render_once(arguments, workspace)
    if arguments.watch:
        print("Watching the archive and the templates; Ctrl-C ends it.", file=sys.stderr, flush=True)
    while arguments.watch:
        time.sleep(WATCH_SECONDS)
        now = read_stamp(workspace)
        if now != stamp:
            stamp = now
            _render_again(arguments, workspace)
    return code


def _render_again(arguments: argparse.Namespace, workspace: Any) -> None:
    """Render while watching: a mistake, such as in a template that is being changed, is told and waited out."""
    try:
        _render_once(arguments, workspace)
    except (PipelineError, StoreError) as error:
        print(make_visible(str(error)), file=sys.stderr, flush=True)


def _render_once(arguments: argparse.Namespace, workspace: Any) -> int:
    from pipeline.archive.step_display import open_step_display
    from pipeline.archive.transcripts import Format
    from pipeline.archive.transcripts.rendering import DEFAULT_FOLDER, Request, render_into
    from pipeline.archive.transcripts.turns import Options

    request = Request(
        Format(arguments.format),
        Options(arguments.branch, arguments.hidden),
        provider=arguments.provider,
        since=arguments.since,
        conversations=tuple(arguments.conversation),
    )
    folder = Path(arguments.out) if arguments.out else workspace.roots.data / DEFAULT_FOLDER
    display = open_step_display()
    try:
        result = render_into(workspace, request, folder, watch=partial(display, "rendering"))
    finally:
        display.stop()
    print_result(arguments, result, format_rendering)
    return EXIT_ERROR if result["refused"] or result["failures"] else EXIT_OK


def format_rendering(result: Json) -> str:
    views, written = format_count(result["views"], "view"), format_count(len(result["written"]), "file")
    counts = f"{written} written, {result['unchanged']:,} unchanged, {len(result['removed']):,} removed"
    lines = [f"{views} in {result['folder']}: {counts}."]
    lines += [f"  not touched: {refusal['path']}: {refusal['reason']}" for refusal in result["refused"]]
    if result["refused"]:
        lines.append("  To have these files again, move yours away or delete them, and repeat the command.")
    lines += _format_failures(result["failures"])
    if not result["views"] and not result["failures"]:
        lines.append("No conversation is as it was asked for; daybook conversations lists what is there.")
    elif result["written"] and all(refusal["path"] != INDEX_FILE for refusal in result["refused"]):
        lines.append(f"Open {Path(result['folder'], INDEX_FILE)} in a browser.")
    return "\n".join(lines)


def _format_failures(failures: list[Json]) -> Iterator[str]:
    """Yield a line for each reason: a mistake in a template stops every conversation."""
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure["reason"], []).append(failure["conversation_id"])
    for reason, ids in by_reason.items():
        more = f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
        yield f"  not rendered: {', '.join(ids[:SHOWN_IDS])}{more}: {reason}"


def format_copies(result: Json) -> str:
    lines = [f"copied: {path}" for path in result["copied"]] + [f"already there: {path}" for path in result["there"]]
    return "\n".join(lines)
