"""What a transcript shows of a view, in which order: turns, their pieces, and the branches beside the path. Pure.

    View ▸ branches, numbered ▸ the path to show ▸ turns ─ pieces ─ results of tools

A turn is what one side says until the other one does: the thinking of a model, its calls, their results and its
words are one turn. A branch is named by the message with which it begins, and numbered by when that was written, so
that its number is the same in every later export. Nothing here is Markdown or HTML; texts are clean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.archive.conversations import Kind, Message, Origin, Role
from pipeline.archive.readable_texts import clean_line
from pipeline.archive.transcripts.branches import Tree
from pipeline.archive.transcripts.pieces import (
    THINKING,
    Piece,
    ShowAttachment,
    ShownAttachment,
    Source,
    list_sources,
    show_block,
)
from pipeline.archive.views import View
from store.identity import hash_bytes

PROMPT_CHARACTERS = 120  # of a line of the contents
ANCHOR_LENGTH = 12

ALL_BRANCHES = "all"

_SPEAKERS = {
    Role.USER: "User",
    Role.ASSISTANT: "Assistant",
    Role.SYSTEM: "System",
    Role.TOOL: "Tool",
    Role.UNKNOWN: "Unknown",
}
_ORIGINS = {
    Origin.TOOL_RESULT: "Tool",
    Origin.RUNTIME_CONTEXT: "Context",
    Origin.COMMAND: "Command",
    Origin.COMPACTION_SUMMARY: "Summary of what came before",
    Origin.NOTIFICATION: "Notification",
}
_TOLD_STATUSES = ("interrupted", "in_progress", "finished_partial_completion", "error", "truncated", "incomplete")
_MODELS_TURN = (Role.ASSISTANT, Role.TOOL)


class Options(NamedTuple):
    """What of a view is shown. `branch` is `all`, `active` or the number of one."""

    branch: str | int = ALL_BRANCHES
    shows_hidden: bool = False


class BranchLink(NamedTuple):
    """The way from a fork to another version. Without an anchor it is not on this page."""

    label: str
    anchor: str | None


@dataclass
class Turn:
    """What one side says until the other one does."""

    anchor: str
    speaker: str
    role: str
    model: str | None
    created: str | None
    is_gone: bool = False
    hidden: str | None = None
    copy_of: str | None = None  # the conversation that it was copied from
    forks: tuple[BranchLink, ...] = ()  # other versions of what begins here
    pieces: list[Piece] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Section(NamedTuple):
    """What a branch has beside the path that is shown first."""

    number: int
    anchor: str
    begins_at: str | None  # the anchor of the message after which it leaves
    turns: Sequence[Turn]


class Prompt(NamedTuple):
    """A line of the contents."""

    anchor: str
    words: str


class Page(NamedTuple):
    """All that a transcript shows."""

    turns: Sequence[Turn]
    sections: Sequence[Section]
    goes_on: Sequence[BranchLink]  # what follows the last message of the path
    prompts: Sequence[Prompt]
    documents: Sequence[ShownAttachment]
    branch: int | None  # the one that is shown, where a number was asked for
    branch_count: int
    hidden_count: int  # messages that are not shown
    message_count: int
    shown_count: int  # messages on the path

    @property
    def is_empty(self) -> bool:
        return not self.turns and not self.sections


def anchor_of(key: str) -> str:
    """Return the anchor of a message, whatever its key holds.

    >>> anchor_of("msg-A")
    'm-faede9524c65'
    """
    return f"m-{hash_bytes(key.encode())[:ANCHOR_LENGTH]}"


# The page


def compose_page(view: View, options: Options, show_attachment: ShowAttachment) -> Page:
    """Return what a transcript of a view shows. A branch that the view does not have shows nothing."""
    tree = Tree(view.conversation)
    path, is_asked = _choose_path(tree, options)
    on_path = set(path)
    chains = {number: [key for key in chain if key not in on_path] for number, chain in enumerate(tree.branches, 1)}
    composer = _Composer(tree, options, show_attachment)
    turns = composer.compose(path)
    sections: list[Section] = []
    if options.branch == ALL_BRANCHES:
        for number, chain in chains.items():
            if chain and (found := composer.compose(chain)):
                begins_at = composer.find_shown(tree.messages[chain[0]].parent)
                sections.append(Section(number, f"branch-{number}", begins_at, found))
    shown = {key for key in path if key in composer.shown}
    page = Page(
        turns,
        sections,
        goes_on=composer.link_versions(tree.children.get(path[-1], ()) if path else (), sections, on_path),
        prompts=list(_list_prompts(turns)),
        documents=[show_attachment(attachment) for attachment in view.conversation.attachments],
        branch=int(options.branch) if is_asked else None,
        branch_count=len(tree.branches),
        hidden_count=sum(_is_hidden(message) for message in view.conversation.messages),
        message_count=len(tree.messages),
        shown_count=len(shown),
    )
    composer.link_forks(page, on_path)
    return page


def _choose_path(tree: Tree, options: Options) -> tuple[list[str], bool]:
    if isinstance(options.branch, int):
        has_it = 1 <= options.branch <= len(tree.branches)
        return (tree.path_of_branch(options.branch) if has_it else []), True
    return tree.active_path, False


def _list_prompts(turns: Sequence[Turn]) -> Iterator[Prompt]:
    for turn in turns:
        if turn.role == "user":
            words = next((clean_line(piece.text) for piece in turn.pieces if piece.kind == Kind.TEXT), "")
            names = ", ".join(piece.attachment.name for piece in turn.pieces if piece.attachment)
            line = words or names or "…"
            yield Prompt(turn.anchor, line if len(line) <= PROMPT_CHARACTERS else f"{line[: PROMPT_CHARACTERS - 1]}…")


class _Composer:
    """Makes turns of paths, and remembers where each message is shown."""

    def __init__(self, tree: Tree, options: Options, show_attachment: ShowAttachment) -> None:
        self.tree = tree
        self.options = options
        self.show_attachment = show_attachment
        self.shown: dict[str, Turn] = {}  # by a message's key
        self.versions: list[tuple[Turn, list[Message]]] = []  # turns at which something forks, with all children there

    def compose(self, path: Sequence[str]) -> list[Turn]:
        turns: list[Turn] = []
        waiting: list[Message] = []  # versions of hidden messages: told at the next turn
        for key in path:
            message = self.tree.messages[key]
            siblings = self._siblings_of(message)
            if len(siblings) > 1:
                waiting += siblings
            pieces = list(self._list_pieces(message))
            if not pieces and not _cites(message):
                continue
            if turns and not waiting and _continues(turns[-1], message, self.tree.messages.get(message.parent or "")):
                turn = turns[-1]
            else:
                turn = _open_turn(message)
                turns.append(turn)
                pieces = [piece._replace(anchors=()) for piece in pieces]  # the turn has it
            if waiting:
                self.versions.append((turn, waiting))
                waiting = []
            self.shown[key] = turn
            _add_message(turn, message, pieces)
        return turns

    def _siblings_of(self, message: Message) -> list[Message]:
        return self.tree.children[self.tree.parents[message.key]]

    def find_shown(self, key: str | None) -> str | None:
        """Return the anchor of the turn in which a message is, or the nearest one above it that is shown."""
        for candidate in reversed(self.tree.path_to(key)):
            if candidate in self.shown:
                return self.shown[candidate].anchor
        return None

    def link_forks(self, page: Page, on_path: set[str]) -> None:
        for turn, siblings in self.versions:
            others = [sibling for sibling in siblings if self.shown.get(sibling.key) is not turn]
            turn.forks = tuple(self.link_versions(others, page.sections, on_path))

    def link_versions(
        self, messages: Sequence[Message], sections: Sequence[Section], on_path: set[str]
    ) -> list[BranchLink]:
        """Return the ways to some versions; those that show nothing have none."""
        numbers = {section.number for section in sections}
        links = []
        for message in messages:
            number = self.tree.branch_by_key[message.key]
            if message.key in on_path:
                anchor = anchor_of(message.key) if message.key in self.shown else None
                links.append(BranchLink("the path shown first", anchor))
            elif number in numbers:
                links.append(BranchLink(f"branch {number}", f"branch-{number}"))
            elif self.options.branch != ALL_BRANCHES:
                links.append(BranchLink(f"branch {number}", None))
        return links

    def _list_pieces(self, message: Message) -> Iterator[Piece]:
        if _is_hidden(message) and not self.options.shows_hidden:
            return
        anchors: tuple[str, ...] = (anchor_of(message.key),)
        for block in message.blocks:
            for piece in show_block(block, self.show_attachment, shows_hidden=self.options.shows_hidden):
                yield piece._replace(anchors=anchors)
                anchors = ()


def _is_hidden(message: Message) -> bool:
    return message.hidden is not None


def _cites(message: Message) -> bool:
    return message.hidden is None and any(block.kind == Kind.CITATION for block in message.blocks)


def _open_turn(message: Message) -> Turn:
    role = str(message.role) if message.role in tuple(Role) else str(Role.UNKNOWN)
    speaker = _SPEAKERS[Role(role)]
    if role == Role.USER and message.origin in _ORIGINS:
        role, speaker = "context", _ORIGINS[Origin(message.origin)]
    if message.author and role in (Role.TOOL, Role.USER, Role.UNKNOWN):
        speaker = f"{speaker}: {clean_line(message.author)}"
    model = clean_line(message.model) if message.model else None
    return Turn(
        anchor_of(message.key),
        speaker,
        role,
        model,
        message.created,
        is_gone=message.is_gone,
        hidden=message.hidden,
        copy_of=message.copy_of,
    )


def _continues(turn: Turn, message: Message, parent: Message | None) -> bool:
    """Whether a message belongs to the turn before it: pieces of one answer, its calls and their results."""
    if (turn.is_gone, turn.hidden, turn.copy_of) != (message.is_gone, message.hidden, message.copy_of):
        return False
    if message.group and parent and parent.group == message.group:
        return True
    is_same_model = not message.model or not turn.model or clean_line(message.model) == turn.model
    return turn.role == Role.ASSISTANT and message.role in _MODELS_TURN and is_same_model


def _add_message(turn: Turn, message: Message, pieces: Sequence[Piece]) -> None:
    """Put a message into a turn. A result goes to its call, if the turn has it."""
    turn.model = turn.model or (clean_line(message.model) if message.model else None)
    for piece in pieces:
        if not _join_piece(turn, piece):
            turn.pieces.append(piece)
    turn.sources = list(dict.fromkeys([*turn.sources, *list_sources(message)]))
    told = {note for piece in pieces for note in piece.notes}
    if message.status in _TOLD_STATUSES and message.status not in told:
        turn.notes.append(message.status.replace("_", " "))


def _join_piece(turn: Turn, piece: Piece) -> bool:
    """Put a piece into one that the turn has: a result into its call, a thought into the one just before it."""
    if piece.kind == Kind.TOOL_RESULT:
        return _join_result(turn, piece)
    last = turn.pieces[-1] if turn.pieces else None
    if piece.kind != Kind.THINKING or last is None or last.kind != Kind.THINKING or last.title != THINKING:
        return False
    text = "\n\n".join(filter(None, [last.text, piece.text]))
    notes = tuple(dict.fromkeys([*last.notes, *piece.notes]))
    anchors = (*last.anchors, *piece.anchors)
    turn.pieces[-1] = last._replace(text=text, title=piece.title, notes=notes, anchors=anchors)
    return True


def _join_result(turn: Turn, result: Piece) -> bool:
    """Put a result to its call: the one with its id, or without an id the latest of that name that has no result."""
    for index in range(len(turn.pieces) - 1, -1, -1):
        call = turn.pieces[index]
        if call.kind == Kind.TOOL_USE and _is_result_of(result, call):
            is_error = call.is_error or result.is_error
            turn.pieces[index] = call._replace(results=(*call.results, result), is_error=is_error)
            return True
    return False


def _is_result_of(result: Piece, call: Piece) -> bool:
    if result.call_id or call.call_id:
        return result.call_id == call.call_id
    return not call.results and result.title in ("", call.title)
