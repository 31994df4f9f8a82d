"""What all commands share: how one is added to the parser, finds its folders, and prints."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

from pipeline import printing
from pipeline.errors import InputInvalid
from pipeline.settings import Roots, find_roots

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_SKIPPED = 33  # all else is done, but something was passed over, and is named

Command = Callable[[argparse.Namespace], int]


def add_command(commands: Any, name: str, command: Command, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=description, description=f"{description[0].upper()}{description[1:]}."
    )
    parser.set_defaults(command=command)
    parser.add_argument("--data-root", metavar="DIR", help="folder that programs write")
    parser.add_argument("--config-root", metavar="DIR", help="folder that a person edits")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    return parser


def roots_of(arguments: argparse.Namespace) -> Roots:
    return find_roots(arguments.data_root, arguments.config_root)


def existing_roots_of(arguments: argparse.Namespace) -> Roots:
    """Return the folders, for a command that has nothing to say of a store that is not there: a mistyped one is told.

    Raises InputInvalid.
    """
    roots = roots_of(arguments)
    if not roots.data.is_dir():
        raise InputInvalid(f"There is no data folder {roots.data}. Expected the --data-root of a store that exists.")
    return roots


def open_workspace(arguments: argparse.Namespace) -> Any:
    from pipeline.workspace import Workspace  # brings Jinja2 with it, which `daybook --help` goes without

    return Workspace(roots_of(arguments))


def print_result(arguments: argparse.Namespace, value: Any, format_text: Callable[[Any], str]) -> None:
    if arguments.json:
        print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)
    else:
        print(printing.make_visible(format_text(value)), flush=True)


def read_amount(text: str, *, refusal: str) -> float:
    """Return a number above 0. Raises ArgumentTypeError with the text and the refusal."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} {refusal}")
    return amount


def read_whole_number(text: str, lowest: int, highest: float = math.inf, *, refusal: str) -> int:
    """Return a number between two, both included. Raises ArgumentTypeError with the text and the refusal."""
    if not text.isdecimal() or not lowest <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} {refusal}")
    return int(text)
