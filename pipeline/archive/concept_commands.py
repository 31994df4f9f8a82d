"""The command that makes concepts from the archive: daybook concepts from-archive."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.archive.search_commands import (
    DEFAULT_LIMIT,
    add_filters,
    ask_and_warn,
    join_query,
    read_filters,
    read_limit,
)
from pipeline.command_line import add_command, open_workspace, print_result, roots_of
from pipeline.concepts import LEVELS
from pipeline.errors import InputInvalid

EXIT_OK = 0
DEFAULT_LEVEL = "paragraph"  # the one that every other level falls back to


def add_concepts(commands: Any) -> None:
    description = "make concepts for the experiments"
    parser = commands.add_parser("concepts", help=description, description=f"{description.capitalize()}.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_from_archive(actions)


def _add_from_archive(actions: Any) -> None:
    description = "turn chosen messages or conversations into concepts that say where they came from"
    parser = add_command(actions, "from-archive", _make_concepts, description)
    parser.add_argument("query", nargs="*", help="the messages that it finds, as daybook search does")
    parser.add_argument("--conversation", action="append", default=[], metavar="ID", help="a whole conversation")
    parser.add_argument(
        "--message", action="append", default=[], metavar="ID/KEY", help="a message, as search shows it"
    )
    add_filters(parser, has_roles=True)
    parser.add_argument(
        "--limit", type=read_limit, default=DEFAULT_LIMIT, metavar="N", help="most messages of a query; default 20"
    )
    parser.add_argument("--level", choices=LEVELS, default=DEFAULT_LEVEL, help=f"default {DEFAULT_LEVEL}")
    parser.add_argument("--out", metavar="DIR", help="the folder concepts of a config folder; default: of this one")


def _make_concepts(arguments: argparse.Namespace) -> int:
    from pipeline.archive.conversation_printing import format_concepts
    from pipeline.archive.from_archive import CONCEPTS_FOLDER, add_concepts

    workspace = open_workspace(arguments)
    folder = Path(arguments.out) if arguments.out else roots_of(arguments).config / CONCEPTS_FOLDER
    choices = _list_choices(arguments, workspace)
    outcomes = add_concepts(workspace, choices, folder, level=arguments.level)
    result = {"folder": str(folder), "level": arguments.level, "concepts": [outcome.as_json() for outcome in outcomes]}
    print_result(arguments, result, format_concepts)
    return EXIT_OK


def _list_choices(arguments: argparse.Namespace, workspace: Any) -> list[Any]:
    """Return what is named, then what the query finds; without a query the conversations that the filters let pass."""
    from pipeline.archive.from_archive import Choice, read_choice
    from pipeline.archive.search import Filters, search
    from pipeline.archive.search.listing import list_conversations
    from pipeline.archive.views import find_view

    filters = read_filters(arguments)
    named = [Choice(conversation) for conversation in arguments.conversation]
    named += [read_choice(message) for message in arguments.message]
    choices = [Choice(find_view(workspace, name).conversation_id, message) for name, message in named]
    if arguments.query:
        query = join_query(arguments.query)
        asked = partial(search, query=query, filters=filters, places=("messages",), limit=arguments.limit)
        hits = [hit.facts for hit in ask_and_warn(workspace, asked)]
        choices += [Choice(hit["conversation"], hit["message"]) for hit in hits if hit["message"]]
    elif filters != Filters():
        if filters.role:
            raise InputInvalid("--role chooses among messages. Expected a query with it.")
        listed = ask_and_warn(workspace, partial(list_conversations, filters=filters))
        choices += [Choice(conversation["id"]) for conversation in listed]
    elif not named:
        raise InputInvalid("Nothing is chosen. Expected a query, --tag or another filter, --conversation or --message.")
    return choices
