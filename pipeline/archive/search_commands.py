"""The commands that look into the archive: search, conversations, show, tag, note."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pipeline import printing
from pipeline.command_line import add_command, open_workspace, print_result
from pipeline.errors import InputInvalid
from pipeline.stages import ArchiveStage

DEFAULT_LIMIT, HIGHEST_LIMIT = 20, 10_000
_UNWANTED_WORD = re.compile(r'-(?!h$)(?:[^\W_]|")')  # -h asks for help
EXIT_OK = 0

Answer = TypeVar("Answer")


def add_filters(parser: argparse.ArgumentParser, *, has_roles: bool) -> None:
    parser.add_argument("--provider", help="only conversations with it, such as chatgpt")
    if has_roles:
        parser.add_argument("--role", help="only messages of it, such as user")
    parser.add_argument("--since", metavar="DATE", help="not before: 2026, 2026-03, 2026-03-01 or 2026-03-01T09:30")
    parser.add_argument("--until", metavar="DATE", help="not after; all of the year, month or day counts")
    parser.add_argument("--model", help="only what it wrote; * stands for any characters: gpt-4*")
    parser.add_argument("--tag", help="only conversations that have it")


def read_filters(arguments: argparse.Namespace) -> Any:
    from pipeline.archive.search import Filters

    names = ("provider", "role", "since", "until", "model", "tag")
    return Filters(**{name: getattr(arguments, name, None) for name in names})


def read_limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= HIGHEST_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit. Expected a whole number from 1 to {HIGHEST_LIMIT}.")
    return int(text)


def spare_unwanted_words(words: list[str]) -> list[str]:
    """Return a command line whose words like -moon argparse takes for words: it knows no option that begins so.

    >>> spare_unwanted_words(["search", "tide", "-moon", "--role", "user", "-h"])
    ['search', 'tide', ' -moon', '--role', 'user', '-h']
    """
    has_query = words[:1] == ["search"] or words[:2] == ["concepts", "from-archive"]
    return [f" {word}" if has_query and _UNWANTED_WORD.match(word) else word for word in words]


def join_query(words: Sequence[str]) -> str:
    return " ".join(word.strip() for word in words)


def ask_and_warn(workspace: Any, question: Callable[[Any], Answer]) -> Answer:
    """Return what the index answers; say on standard error how far it is made, and what it could not read."""
    from pipeline.archive.search.index import ask_index
    from pipeline.archive.search.listing import list_unreadable
    from pipeline.archive.step_display import open_step_display

    display = open_step_display()
    try:
        answer, unreadable = ask_index(
            workspace, lambda index: (question(index), list_unreadable(index)), watch=display
        )
    finally:
        display.stop()
    for conversation_id, problem in unreadable:
        text = f"Conversation {conversation_id} cannot be read, so it may be missing here: {problem}"
        print(printing.make_visible(text), file=sys.stderr)
    return answer


def _warn_if_empty(workspace: Any) -> None:
    """Say on standard error what to do, if no conversation is there at all."""
    from pipeline.archive.emptiness import explain_emptiness

    if reason := explain_emptiness(workspace.data):
        print(reason, file=sys.stderr)


# search


def add_search(commands: Any) -> None:
    parser = add_command(commands, "search", _search, "find messages and documents by their words")
    parser.add_argument("query", nargs="+", help='words, "phrases", beginnings*, -without, one OR another; quote it')
    parser.add_argument("--in", dest="place", choices=("messages", "documents"), help="only there; default both")
    add_filters(parser, has_roles=True)
    parser.add_argument("--limit", type=read_limit, default=DEFAULT_LIMIT, metavar="N", help="default 20")


def _search(arguments: argparse.Namespace) -> int:
    from pipeline.archive.conversation_printing import BOLD, PLAIN, format_hits
    from pipeline.archive.search import PLACES, search

    query = join_query(arguments.query)
    asked = partial(
        search,
        query=query,
        filters=read_filters(arguments),
        places=(arguments.place,) if arguments.place else PLACES,
        limit=arguments.limit + 1,
    )
    workspace = open_workspace(arguments)
    hits = [hit.as_json() for hit in ask_and_warn(workspace, asked)]
    result = {"query": query, "hits": hits[: arguments.limit], "has_more": len(hits) > arguments.limit}
    if not hits and arguments.place != "documents":
        _warn_if_empty(workspace)
    if arguments.json:
        print_result(arguments, result, str)
    else:
        print(format_hits(result, marks=BOLD if _is_terminal() else PLAIN), flush=True)
    return EXIT_OK


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


# conversations


def add_conversations(commands: Any) -> None:
    parser = add_command(commands, "conversations", _conversations, "list the conversations, the latest first")
    add_filters(parser, has_roles=False)
    parser.add_argument("--limit", type=read_limit, metavar="N", help="default: all")


def _conversations(arguments: argparse.Namespace) -> int:
    from pipeline.archive.conversation_printing import format_conversations
    from pipeline.archive.search.listing import list_conversations

    limit = arguments.limit
    asked = partial(list_conversations, filters=read_filters(arguments), limit=limit and limit + 1)
    workspace = open_workspace(arguments)
    found = ask_and_warn(workspace, asked)
    if not found:
        _warn_if_empty(workspace)
    has_more = limit is not None and len(found) > limit
    print_result(arguments, found[:limit], partial(format_conversations, has_more=has_more))
    return EXIT_OK


# show


def add_show(commands: Any) -> None:
    parser = add_command(
        commands, "show", _show, "show a conversation or another document, or how a planned one stands"
    )
    parser.add_argument("id", help="the start of a conversation's id or of a doc_id; a stage may stand before that")


def _show(arguments: argparse.Namespace) -> int:
    from pipeline.archive.conversation_printing import format_conversation
    from pipeline.archive.notes import Notes
    from pipeline.archive.search.listing import describe_view
    from pipeline.looking import describe_document

    workspace = open_workspace(arguments)
    view = _find_view(workspace, arguments.id)
    if view is None:
        print_result(arguments, describe_document(workspace, arguments.id), printing.format_document)
    else:
        described = describe_view(view, Notes(workspace.data).read(view.conversation_id))
        print_result(arguments, described, format_conversation)
    return EXIT_OK


def _find_view(workspace: Any, name: str) -> Any:
    """Return the view that a person means; None if it is no conversation that is meant.

    Raises InputInvalid if the name could be that of several, or of something else too.
    """
    from pipeline.archive.views import find_view
    from pipeline.errors import UnknownName

    stage, _, start = name.rpartition("/")
    documents = workspace.data.documents
    if stage not in ("", ArchiveStage.CONVERSATION) or not documents.list_ids(ArchiveStage.CONVERSATION):
        return None
    try:
        view = find_view(workspace, start)
    except UnknownName:
        return None
    others = [] if stage else [found for found in documents.find_ids(start) if found[0] != ArchiveStage.CONVERSATION]
    if others:
        shown = ", ".join(
            "/".join(found) for found in [(str(ArchiveStage.CONVERSATION), view.conversation_id), *others]
        )
        raise InputInvalid(f"{name!r} begins the ids of a conversation and of documents. Expected one of: {shown}.")
    return view


# tag, note


def add_tag(commands: Any) -> None:
    parser = add_command(commands, "tag", _tag, "show a conversation's tags; add some with +TAG, take away with -TAG")
    parser.add_argument("id", help="the start of a conversation's id")
    parser.add_argument("changes", nargs=argparse.REMAINDER, metavar="+TAG|-TAG", help="any number")
    parser.set_defaults(parser=parser)


def _tag(arguments: argparse.Namespace) -> int:
    from pipeline.archive.notes import Notes

    words = arguments.changes
    place = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    changes, options = words[:place], words[place:]
    if options:  # argparse takes all that stands behind -TAG for one more of them
        arguments = arguments.parser.parse_args([*options, arguments.id], arguments)
    for change in changes:
        if change[:1] not in ("+", "-"):
            raise InputInvalid(f"{change!r} is no change of tags. Expected +{change} to add it, or -{change}.")
    workspace = open_workspace(arguments)
    view = _get_view(workspace, arguments.id)
    notes = Notes(workspace.data)
    if changes:
        add, remove = ([change[1:] for change in changes if change[0] == sign] for sign in "+-")
        notes.change_tags(view.conversation_id, add=add, remove=remove)
    return _print_note(arguments, view, notes)


def add_note(commands: Any) -> None:
    parser = add_command(commands, "note", _note, "show or write what a person says of a conversation")
    parser.add_argument("id", help="the start of a conversation's id")
    parser.add_argument("text", nargs="?", help='the note, in the place of the one that is there; "" takes it away')
    parser.add_argument("--title", help='a title in the place of the imported one; "" brings that back')


def _note(arguments: argparse.Namespace) -> int:
    from pipeline.archive.notes import Notes

    workspace = open_workspace(arguments)
    view = _get_view(workspace, arguments.id)
    notes = Notes(workspace.data)
    if arguments.text is not None:
        notes.set_text(view.conversation_id, arguments.text)
    if arguments.title is not None:
        notes.set_title(view.conversation_id, arguments.title)
    return _print_note(arguments, view, notes)


def _get_view(workspace: Any, name: str) -> Any:
    """Return the view of an id. Raises UnknownName, InputInvalid."""
    from pipeline.archive.views import find_view

    return find_view(workspace, name.removeprefix(f"{ArchiveStage.CONVERSATION}/"))


def _print_note(arguments: argparse.Namespace, view: Any, notes: Any) -> int:
    from pipeline.archive.conversation_printing import format_note

    note = notes.read(view.conversation_id).as_json()
    title = note.pop("title") or view.conversation.title
    print_result(arguments, {"id": view.conversation_id, "title": title, **note}, format_note)
    return EXIT_OK
