"""Tasks of Codex in the cloud, as ChatGPT's exports list them in codex.json. They have no times.

[{id: "task_e_…", title, turns: [{id, role, input_items | output_items, previous_turn_id, …}]}]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.archive.conversations import Block, Conversation, Kind, Message, Origin, Role
from pipeline.archive.importers.chatgpt_files import files_around
from pipeline.archive.importers.chatgpt_side_files import is_task
from pipeline.archive.importers.chatgpt_values import keep_rest
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.odd_values import UNKNOWN_TYPE, warn
from pipeline.archive.importers.values import count_of, list_of, object_of, odd_of, text_of
from pipeline.archive.reading import read_items
from pipeline.archive.titles import choose_title
from pipeline.archive.trees import settle_tree

NULLS = frozenset({"none", "null"})  # how these files write that nothing is there
KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["id", "previous_turn_id", "turn_status"], str),
    **dict.fromkeys(["input_items", "output_items"], list),
}
ITEM_FIELDS = frozenset({"type", "role", "content"})
TASK_FIELDS = frozenset({"id", "title", "turns"})
TURN_FIELDS = frozenset({"id", "role", "input_items", "output_items", "previous_turn_id", "turn_status"})


class ChatGptTasksImporter:
    """The importer of codex.json."""

    name = "chatgpt_tasks"
    provider = "chatgpt"
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        if any(map(is_task, peek.items)):
            return Recognition("ids that begin with task_e_, and turns: tasks of Codex in the cloud")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        side = files_around(file, siblings).side_files
        context = {"account": side.account} if side.account else None
        sources = [side.account_export] if side.account_export else []
        for item in read_items(file):
            if isinstance(item, Skip):
                yield item
            elif is_task(item.value):
                yield Record(item.value["id"], f"{file.name}[{item.index}]", item.value, context, sources)
            else:
                yield Skip("not_a_task", f"{file.name}[{item.index}]", "expected an id task_e_… and turns")

    def parse(self, record: Record) -> Parsed:
        task = object_of(record.value)
        conversation = Conversation(
            provider=self.provider,
            native_id=record.key,
            account=text_of(object_of(record.context).get("account")),
            flags=["codex_task"],
            extra=_keep_said(task, TASK_FIELDS) | odd_of(task, {"title": str}),
        )
        previous: str | None = None
        for number, turn in enumerate(list_of(task.get("turns"))):
            if turn is None:
                continue
            message = _read_turn(turn, number, previous, conversation)
            conversation.messages.append(message)
            previous = message.key
        settle_tree(conversation, leaf=previous)
        choose_title(conversation, (_say(task.get("title")), "provider"))
        return Parsed(conversation)


def _read_turn(value: Any, number: int, previous: str | None, conversation: Conversation) -> Message:
    turn = object_of(value)
    key, taken = text_of(turn.get("id")) or f"turn-{number}", {message.key for message in conversation.messages}
    role = turn.get("role")
    message = Message(key if key not in taken else f"{key}~{number + 1}", role=Role.UNKNOWN)
    if role == Role.USER:
        message.role, message.origin = Role.USER, Origin.HUMAN
    elif role == Role.ASSISTANT:
        message.role = Role.ASSISTANT
    else:
        warn(conversation, "unknown_role")
        message.extra = {} if role is None else {"role": role}
    message.parent = previous if "previous_turn_id" not in turn else _say(turn["previous_turn_id"]) or previous
    message.status = _say(turn.get("turn_status"))
    items = [*list_of(turn.get("input_items")), *list_of(turn.get("output_items"))]
    for item in items if isinstance(value, dict) else [value]:
        message.blocks += [] if item is None else _read_item(item)
    message.extra |= _keep_said(turn, TURN_FIELDS) | odd_of(turn, KIND_BY_FIELD)
    for block in message.blocks:
        if UNKNOWN_TYPE in block.flags:
            warn(conversation, UNKNOWN_TYPE)
    return message


def _read_item(item: Any) -> list[Block]:
    content = object_of(item).get("content")
    if object_of(item).get("type") != "message" or not isinstance(content, list):
        return [Block(Kind.CONTEXT, raw=item, flags=[UNKNOWN_TYPE])]
    blocks = [block for piece in content if piece is not None for block in _read_piece(piece)]
    if rest := keep_rest(item, ITEM_FIELDS) | odd_of(item, {"role": str}):
        blocks = blocks or [Block(Kind.CONTEXT)]
        blocks[0].extra.update(rest)
    return blocks


def _read_piece(piece: Any) -> list[Block]:
    fields = object_of(piece)
    kind, text = fields.get("content_type"), text_of(piece) or text_of(fields.get("text"))
    if kind == "repo_file_citation" and (path := text_of(fields.get("path"))):
        return [Block(Kind.CITATION, text=_name_lines(path, fields), extra={"source": fields})]
    if kind in ("text", None) and text:
        return [Block(Kind.TEXT, text=text)]
    if kind == "text" and fields.get("text") in (None, ""):
        return []
    return [Block(Kind.TEXT if text else Kind.CONTEXT, text=text, raw=piece, flags=[UNKNOWN_TYPE])]


def _name_lines(path: str, fields: dict[str, Any]) -> str:
    first = count_of(fields.get("line_range_start"))
    last = count_of(fields.get("line_range_end"))
    if first is None:
        return path
    return f"{path}:{first}" if last in (None, first) else f"{path}:{first}-{last}"


def _say(value: Any) -> str | None:
    text = text_of(value)
    return None if text is None or _is_null(text) else text


def _keep_said(fields: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in keep_rest(fields, known).items() if not _is_null(value)}


def _is_null(value: Any) -> bool:
    return isinstance(value, str) and value in NULLS
