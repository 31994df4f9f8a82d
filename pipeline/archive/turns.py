"""What a transcript shows of a view, in which order: turns, their pieces, and the branches beside the path. Pure.

    View ▸ branches, numbered ▸ the path to show ▸ turns ─ pieces ─ results of tools

A turn is what one side says until the other one does: the thinking of a model, its calls, their results and its
words are one turn. A branch is named by the message with which it begins, and numbered by when that was written, so
that its number is the same in every later export. Nothing here is Markdown or HTML; texts are clean.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.archive.conversations import Attachment, Block, Conversation, Json, Kind, Message, Origin, Role
from pipeline.archive.markdown_texts import clean_address
from pipeline.archive.readable_texts import clean_line, clean_text
from pipeline.archive.views import View
from store.identity import hash_bytes

RESULT_LINES = 80
RESULT_CHARACTERS = 12_000
RAW_LINES = 200
FIELD_CHARACTERS = 100  # a longer value of a call stands in lines of its own
PROMPT_CHARACTERS = 120  # of a line of the contents
ANCHOR_LENGTH = 12
THINKING = "Thinking"  # where the provider has no words for how long

ALL_BRANCHES, ACTIVE_BRANCH = "all", "active"

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
_UNSAID_ORIGINS = (Origin.RUNTIME_CONTEXT, Origin.NOTIFICATION)
_TOLD_STATUSES = ("interrupted", "in_progress", "finished_partial_completion", "error", "truncated", "incomplete")
_TOLD_FLAGS = {
    "interrupted": "interrupted",
    "error": "error",
    "redacted": "redacted by the provider",
    "ambiguous": "one of several drafts or pieces",
    "cut_off": "cut off",
    "truncated": "truncated",
    "refusal": "refusal",
    "paste": "pasted",
}
_MODELS_TURN = (Role.ASSISTANT, Role.TOOL)


class Options(NamedTuple):
    """What of a view is shown. `branch` is `all`, `active` or the number of one."""

    branch: str | int = ALL_BRANCHES
    shows_hidden: bool = False


class ShownAttachment(NamedTuple):
    """An attachment as a page shows it. Without `file` there are no bytes, and `reason` says why."""

    name: str
    facts: str  # such as "image/png, 12 KB"
    reason: str
    file: str | None  # where it lies, seen from the page, percent-encoded
    is_image: bool = False
    data_url: str | None = None  # of a small image
    width: int | None = None
    height: int | None = None
    preview: str | None = None  # of a text
    more: str = ""  # what the preview leaves out
    url: str | None = None  # of one that lies elsewhere


class Field(NamedTuple):
    """One value of a tool's input."""

    name: str
    text: str
    is_long: bool


class Piece(NamedTuple):
    """A block of a message as it is shown."""

    kind: str  # as Kind; "unknown" for what no importer knows
    text: str = ""
    title: str = ""
    language: str = ""
    anchors: tuple[str, ...] = ()  # of the messages that begin here, and not a turn
    notes: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    call_id: str | None = None
    results: tuple[Piece, ...] = ()  # of a tool_use
    more: str = ""  # what was cut, such as "12 more lines"
    is_error: bool = False
    attachment: ShownAttachment | None = None


class Source(NamedTuple):
    """What an answer cites."""

    title: str
    url: str | None
    quote: str


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


# Branches


class Tree:
    """The messages of a conversation with their children, and its branches.

    A branch begins with a root or with a later child of a message, and goes on with first children. So it never
    changes its beginning; a newer export can only add to its end, and add branches.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.messages = {message.key: message for message in conversation.messages}
        self.order = {message.key: number for number, message in enumerate(conversation.messages)}
        self.parents = self._link(conversation.messages)
        self.children: dict[str | None, list[Message]] = defaultdict(list)
        for message in sorted(conversation.messages, key=lambda each: (each.variant, self.order[each.key])):
            self.children[self.parents[message.key]].append(message)
        self.branches = self._list_branches()
        self.branch_by_key = {key: number for number, chain in enumerate(self.branches, 1) for key in chain}
        self.active_path = self._find_active_path(conversation)

    def _link(self, messages: Sequence[Message]) -> dict[str, str | None]:
        """Return each message's parent; None for a root, which is also where a circle is cut."""
        parents: dict[str, str | None] = {}
        for message in messages:
            path: dict[str, None] = {}
            key: str | None = message.key
            while key in self.messages and key not in parents and key not in path:
                path[key] = None
                key = self.messages[key].parent
            for step in reversed(path):
                parents[step] = key if key in parents else None
                key = step
        return parents

    def _list_branches(self) -> list[list[str]]:
        """Return the keys of each branch, by the time at which it begins."""
        heads = [message for siblings in self.children.values() for message in siblings[1:]]
        roots = self.children.get(None, [])
        heads.sort(key=lambda head: (self._time_of(head), self.order[head.key]))
        return [list(self._follow(head)) for head in [*roots[:1], *heads]]

    def _follow(self, head: Message) -> Iterator[str]:
        message: Message | None = head
        while message:
            yield message.key
            message = next(iter(self.children.get(message.key, ())), None)

    def _time_of(self, message: Message) -> str:
        """Return when a message was written; without a time of its own, when what it follows was."""
        key: str | None = message.key
        while key is not None:
            if created := self.messages[key].created:
                return created
            key = self.parents[key]
        return ""

    def path_to(self, key: str | None) -> list[str]:
        """Return the keys from the root to a message."""
        path = []
        while key in self.parents:
            path.append(key)
            key = self.parents[key]
        return path[::-1]

    def _find_active_path(self, conversation: Conversation) -> list[str]:
        marked = [message.key for message in conversation.messages if message.is_active]
        return self.path_to(conversation.active_leaf) or marked or (self.branches[0] if self.branches else [])

    def path_of_branch(self, number: int) -> list[str]:
        """Return the keys from the root through a branch to its end."""
        chain = self.branches[number - 1]
        return [*self.path_to(chain[0])[:-1], *chain]


# The page


def compose_page(view: View, options: Options, show_attachment: Callable[[Attachment], ShownAttachment]) -> Page:
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

    def __init__(self, tree: Tree, options: Options, show_attachment: Callable[[Attachment], ShownAttachment]) -> None:
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

    # Pieces

    def _list_pieces(self, message: Message) -> Iterator[Piece]:
        if _is_hidden(message) and not self.options.shows_hidden:
            return
        anchors: tuple[str, ...] = (anchor_of(message.key),)
        for block in message.blocks:
            for piece in self._show_block(block):
                yield piece._replace(anchors=anchors)
                anchors = ()

    def _show_block(self, block: Block) -> Iterator[Piece]:
        notes = tuple(_TOLD_FLAGS[flag] for flag in block.flags if flag in _TOLD_FLAGS)
        if "unknown_type" in block.flags:
            yield from _show_unknown(block, notes)
        elif block.kind == Kind.CITATION:
            return
        elif block.kind == Kind.CONTEXT or block.origin in _UNSAID_ORIGINS:
            if self.options.shows_hidden:
                yield _show_context(block, notes)
        elif block.kind == Kind.TOOL_USE:
            yield _show_call(block, notes)
        elif block.kind == Kind.TOOL_RESULT:
            yield _show_result(block, notes)
        elif block.kind == Kind.THINKING:
            yield from _show_thinking(block, notes)
        elif (text := clean_text(block.text or "").strip("\n")).strip():
            language = clean_line(block.language or "")
            yield Piece(block.kind if block.kind == Kind.CODE else Kind.TEXT, text, language=language, notes=notes)
        if block.attachment:
            yield Piece(Kind.ATTACHMENT, attachment=self.show_attachment(block.attachment), notes=notes)


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
        anchor_of(message.key), speaker, role, model, message.created, is_gone=message.is_gone, hidden=message.hidden
    )


def _continues(turn: Turn, message: Message, parent: Message | None) -> bool:
    """Whether a message belongs to the turn before it: pieces of one answer, its calls and their results."""
    if (turn.is_gone, turn.hidden) != (message.is_gone, message.hidden):
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
    turn.sources = list(dict.fromkeys([*turn.sources, *_list_sources(message)]))
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


def _list_sources(message: Message) -> Iterator[Source]:
    for block in message.blocks:
        if block.kind == Kind.CITATION:
            address = clean_line(_find_text(block.extra, ("url", "uri")))
            title, quote = clean_line(_find_text(block.extra, ("title", "name"))), clean_line(block.text or "")
            yield Source(title or address or quote, clean_address(address), quote)


def _find_text(values: Mapping[str, Json], names: Sequence[str]) -> str:
    """Return the first of some values that is a text; "" if none is."""
    return next((value for name in names if isinstance(value := values.get(name), str)), "")


def _show_thinking(block: Block, notes: tuple[str, ...]) -> Iterator[Piece]:
    text = clean_text(block.text or "").strip("\n")
    if "recap" in block.flags:
        yield Piece(Kind.THINKING, title=clean_line(text) or "Thought")
    elif text.strip() or notes:
        yield Piece(Kind.THINKING, text, title=THINKING, notes=notes)


def _show_call(block: Block, notes: tuple[str, ...]) -> Piece:
    title = clean_line(block.tool_name or "tool")
    text, fields = _read_input(block)
    language = clean_line(block.language or ("python" if title in ("python", "repl") else ""))
    return Piece(
        Kind.TOOL_USE, text, title, language, notes=notes, fields=fields, is_error=block.is_error is True,
        call_id=block.call_id,
    )  # fmt: skip


def _read_input(block: Block) -> tuple[str, tuple[Field, ...]]:
    """Return a call's input: text, or values by name."""
    value: Json = block.input
    if isinstance(value, dict):
        fields = tuple(_make_field(name, item) for name, item in value.items())
        return "", tuple(sorted(fields, key=lambda one: (one.is_long, one.name)))
    if value is None:
        return clean_text(block.text or ""), ()
    return (clean_text(value) if isinstance(value, str) else _write_json(value)), ()


def _make_field(name: str, value: Json) -> Field:
    text = clean_text(value) if isinstance(value, str) else _write_json(value)
    return Field(clean_line(name), text, is_long="\n" in text or len(text) > FIELD_CHARACTERS)


def _write_json(value: Json) -> str:
    return clean_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def _show_result(block: Block, notes: tuple[str, ...]) -> Piece:
    raw = block.text if block.text is not None or block.raw is None else _write_json(block.raw)
    text, more = cut_text(clean_text(raw or "").strip("\n"), lines=RESULT_LINES)
    if block.exit_code is not None:
        notes = (*notes, f"exit code {block.exit_code}")
    title = clean_line(block.tool_name or "")
    return Piece(
        Kind.TOOL_RESULT, text, title, notes=notes, more=more, is_error=block.is_error is True, call_id=block.call_id
    )


def _show_context(block: Block, notes: tuple[str, ...]) -> Piece:
    text, more = cut_text(clean_text(block.text or _write_raw(block)), lines=RESULT_LINES)
    return Piece(Kind.CONTEXT, text, "Context", notes=notes, more=more)


def _show_unknown(block: Block, notes: tuple[str, ...]) -> Iterator[Piece]:
    """Yield the words of a block that no importer knows, if it has any, and what it was."""
    if block.text and block.kind == Kind.TEXT:
        yield Piece(Kind.TEXT, clean_text(block.text).strip("\n"))
    name = block.raw.get("type") or block.raw.get("content_type") if isinstance(block.raw, dict) else None
    title = f"Unknown: {clean_line(name)}" if isinstance(name, str) else "Unknown"
    raw, more = cut_text(_write_raw(block), lines=RAW_LINES)
    yield Piece("unknown", raw, title, "json", notes=notes, more=more)


def _write_raw(block: Block) -> str:
    value = block.raw if block.raw is not None else block.extra
    return _write_json(value) if value else ""


class Cut(NamedTuple):
    """A text up to a limit, and what it leaves out in words."""

    text: str
    more: str


def cut_text(text: str, *, lines: int, characters: int = RESULT_CHARACTERS) -> Cut:
    r"""Return the beginning of a text.

    >>> cut_text("a\nb\nc", lines=1), cut_text("abc", lines=1, characters=2)
    (Cut(text='a', more='2 more lines'), Cut(text='ab', more='1 more character'))
    """
    all_lines = text.split("\n")
    shown = "\n".join(all_lines[:lines])
    if len(shown) > characters:
        left = len(text) - characters
        return Cut(shown[:characters], f"{left:,} more character{'s' * (left > 1)}")
    left = len(all_lines) - lines
    return Cut(shown, f"{left:,} more line{'s' * (left > 1)}" if left > 0 else "")
