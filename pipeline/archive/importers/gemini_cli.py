"""Gemini CLI: one file a session, which is written anew at every turn.

Source: `~/.gemini/tmp/<project hash>/chats/session-*.json`, as of mid 2026; of newer versions, sessions as lines: the
header, messages (the last of one id counts), `{"$set": …}` for the header and `{"$rewindTo": id}`. Beside them lie
`logs.json`, the prompts of all sessions once more, and checkpoints (gemini_cli_checkpoints).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.archive.conversations import Block, Conversation, Json, Kind, Message, Origin, Role, Usage
from pipeline.archive.importers.cut_files import PARTIAL, PARTIAL_KEY, read_beginning, read_file
from pipeline.archive.importers.gemini_cli_checkpoints import (
    PROVIDER,
    is_checkpoint,
    make_checkpoint_record,
    parse_checkpoint,
)
from pipeline.archive.importers.gemini_parts import read_functions, words_of
from pipeline.archive.importers.inline_files import attach_url, block_of, decode_base64, keep_inline
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.linear import DUPLICATE_ID, chain_messages, fill_times, give_keys, settle_path
from pipeline.archive.importers.odd_values import UNKNOWN_TYPE, read_noted_time, warn
from pipeline.archive.importers.values import (
    count_of,
    list_of,
    object_of,
    objects_of,
    rest_of,
    text_of,
    without_secrets,
)
from pipeline.archive.reading import hash_record, read_lines
from pipeline.archive.reading import peek as peek_at
from pipeline.archive.titles import choose_title

ROLES = {
    "user": Role.USER,
    "gemini": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "info": Role.SYSTEM,
    "error": Role.SYSTEM,
    "warning": Role.SYSTEM,
}
NOTICES = frozenset({"info", "error", "warning"})
TOP_KEYS = frozenset({"sessionId", "messages", "startTime", "lastUpdated", "summary", "directories"})
READ_KEYS = frozenset(
    {"id", "timestamp", "type", "content", "displayContent", "thoughts", "tokens", "model", "toolCalls"}
)
TOKENS = frozenset({"input", "output", "cached", "thoughts"})
CALL_KEYS = frozenset({"id", "name", "args", "result", "status", "timestamp"})


class GeminiCliImporter:
    """Sessions of the Gemini command line."""

    name = "gemini_cli"
    provider = PROVIDER
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        first = object_of(peek.items[0]) if peek.items else {}
        if peek.items and all(map(_is_log_entry, peek.items)):
            return Recognition("sessionId, messageId and message: the log of prompts", is_artifact=True)
        if peek.kind in ("object", "array") and is_checkpoint(first if peek.kind == "object" else list(peek.items)):
            return Recognition("contents with a role and parts: a checkpoint of Gemini CLI")
        if not text_of(first.get("sessionId")) or "projectHash" not in first:
            return None
        if peek.kind == "object":
            return Recognition("an object with sessionId and projectHash")
        if peek.kind == "lines":
            return Recognition("lines that begin with sessionId and projectHash")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:  # noqa: ARG002
        if peek_at(file).kind != "lines":
            read = read_file(file, ("messages.item", "history.item", "item"))
            yield from read.skips
            value = read.value if read.is_whole else _make_partial(file, read.elements)
            is_saved = is_checkpoint(value)
            yield make_checkpoint_record(value, file.name) if is_saved else Record(_id_of(value), file.name, value)
            return
        lines: list[Json] = []
        for line in read_lines(file):
            if isinstance(line, Skip):
                yield line
            else:
                lines.append(line.value)
        session = _read_session(lines)
        yield Record(_id_of(session), file.name, session)

    def parse(self, record: Record) -> Parsed:
        extras: dict[str, bytes] = {}
        if object_of(record.context).get("is_checkpoint"):
            return Parsed(parse_checkpoint(record, lambda piece: _read_piece(piece, extras)), extras)
        session = object_of(record.value)
        conversation = Conversation(self.provider, record.key)
        conversation.cwd = next((path for path in list_of(session.get("directories")) if isinstance(path, str)), None)
        conversation.extra = rest_of(session, TOP_KEYS | {"$leaf", PARTIAL_KEY})
        if session.get(PARTIAL_KEY) is True:
            warn(conversation, PARTIAL)
        conversation.created = read_noted_time(session.get("startTime"), conversation, conversation.extra)
        conversation.updated = read_noted_time(session.get("lastUpdated"), conversation, conversation.extra)
        if len(list_of(session.get("directories"))) > 1:
            conversation.extra["directories"] = session["directories"]
        for value in _without_copies(session, conversation):
            conversation.messages.append(_read_message(value, conversation, extras))
        models = [message.model for message in conversation.messages if message.model]
        conversation.model = models[0] if models else None
        _settle(conversation, session)
        choose_title(conversation, (text_of(session.get("summary")), "summary"))
        return Parsed(conversation, extras)


def _make_partial(file: Member, elements: list[Any]) -> Any:
    """Return what can be read of a file that is cut: its time of writing is left out, so that it counts as older."""
    begin = read_beginning(file, ["sessionId", "projectHash", "startTime", "kind", "directories"])
    return {**begin, "messages": elements, PARTIAL_KEY: True} if "sessionId" in begin else elements


def _is_log_entry(value: Any) -> bool:
    entry = object_of(value)
    return "messageId" in entry and "sessionId" in entry and isinstance(entry.get("message"), str)


def _id_of(session: Any) -> str:
    return text_of(object_of(session).get("sessionId")) or "unknown"


def _read_session(lines: Sequence[Any]) -> dict[str, Json]:
    """Return the session that lines add up to, as the object of the older form, with the places of parents and leaf."""
    session = dict(object_of(lines[0])) if lines else {}
    messages: list[Json] = []
    path: list[int] = []  # places in the list of messages
    place_by_id: dict[str, int] = {}  # of those on the path
    for line in map(object_of, lines[1:]):
        native_id, target = text_of(line.get("id")), text_of(line.get("$rewindTo"))
        if isinstance(line.get("$set"), dict):
            session |= {name: value for name, value in line["$set"].items() if name != "messages"}
        elif target in place_by_id:
            path = [place for place in path if place < place_by_id[target]]
            place_by_id = {found: place for found, place in place_by_id.items() if place < place_by_id[target]}
        elif native_id in place_by_id:
            place = place_by_id[native_id]
            messages[place] = {**line, "$parent": object_of(messages[place])["$parent"]}
        elif line and "$rewindTo" not in line:
            messages.append({**line, "$parent": path[-1] if path else None})
            path.append(len(messages) - 1)
            place_by_id |= {native_id: path[-1]} if native_id else {}
    return {**session, "messages": messages, "$leaf": path[-1] if path else None}


def _without_copies(session: dict[str, Any], conversation: Conversation) -> list[Any]:
    """Return the messages of a session, without those that repeat one under its id."""
    messages = list_of(session.get("messages"))
    if "$leaf" in session:  # from lines, whose places others name
        return messages
    known: set[tuple[str, str]] = set()
    kept = []
    for value in messages:
        native_id = text_of(object_of(value).get("id"))
        said = (native_id, hash_record(value)) if native_id else None
        if said in known:
            warn(conversation, DUPLICATE_ID)
            continue
        known |= {said} if said else set()
        kept.append(value)
    return kept


def _settle(conversation: Conversation, session: dict[str, Any]) -> None:
    messages = conversation.messages
    chain_messages(messages)
    leaf: Any = len(messages) - 1 if messages else None
    if "$leaf" in session:  # from lines, which say what was rewound
        leaf = session["$leaf"]
        for message, value in zip(messages, list_of(session.get("messages")), strict=True):
            parent = object_of(value).get("$parent")
            message.parent = None if parent is None else str(parent)
    keys = give_keys(conversation, has_ids=True)
    settle_path(conversation, leaf=keys.get(str(leaf)))
    fill_times(conversation)


def _read_message(value: Any, conversation: Conversation, extras: dict[str, bytes]) -> Message:
    record = object_of(value)
    kind = text_of(record.get("type")) or ""
    message = Message("", role=ROLES.get(kind, Role.UNKNOWN), native_id=text_of(record.get("id")))
    message.model = text_of(record.get("model"))
    message.origin = Origin.HUMAN if message.role == Role.USER else None
    message.hidden = "notice" if kind in NOTICES else None
    message.extra = rest_of(record, READ_KEYS | {"$parent"})
    message.created = read_noted_time(record.get("timestamp"), conversation, message.extra)
    tokens = rest_of(object_of(record.get("tokens")), TOKENS)
    message.extra |= {"tokens": tokens} if tokens else {}
    # An id names a message of its session only; some count from 1.
    usage_id = f"{conversation.native_id}/{message.native_id}" if message.native_id else None
    message.usage = _read_usage(record.get("tokens"), usage_id)
    message.blocks = [
        *_read_thoughts(record.get("thoughts")),
        *_read_shown(record, message, extras),
        *_read_calls(record.get("toolCalls")),
    ]
    if kind in ("error", "warning"):
        message.blocks = [_flag(block, kind) for block in message.blocks]
    if kind not in ROLES:
        warn(conversation, UNKNOWN_TYPE)
        message.blocks.append(Block(Kind.CONTEXT, flags=[UNKNOWN_TYPE], raw=without_secrets(value)))
    return message


def _flag(block: Block, flag: str) -> Block:
    block.flags.append(flag)
    return block


def _read_thoughts(thoughts: Any) -> Iterator[Block]:
    for thought in objects_of(thoughts):
        subject, description = text_of(thought.get("subject")), text_of(thought.get("description"))
        said = [f"**{subject}**"] if subject else []
        said += [description] if description else []
        yield Block(Kind.THINKING, " ".join(said), extra=rest_of(thought, {"subject", "description"}))


def _read_shown(record: dict[str, Any], message: Message, extras: dict[str, bytes]) -> list[Block]:
    """Return what the terminal showed; what the model was given instead is kept beside it."""
    said = _read_content(record.get("content"), extras)
    shown = _read_content(record.get("displayContent"), extras)
    if not shown:
        return said
    if [block.text for block in said] != [block.text for block in shown]:
        message.extra["content"] = without_secrets(record.get("content"))
    return shown


def _read_content(content: Any, extras: dict[str, bytes]) -> list[Block]:
    """Return the blocks of a content: a text, or a list of texts and parts."""
    pieces = content if isinstance(content, list) else [content]
    return [block for piece in pieces if piece is not None and (block := _read_piece(piece, extras))]


def _read_piece(piece: Any, extras: dict[str, bytes]) -> Block | None:
    if isinstance(piece, str):
        return Block(Kind.TEXT, piece) if piece else None
    part = object_of(piece)
    text = text_of(part.get("text"))
    if text:
        return Block(Kind.THINKING if part.get("thought") is True else Kind.TEXT, text)
    inline, linked = object_of(part.get("inlineData")), object_of(part.get("fileData"))
    if text_of(inline.get("data")):
        return block_of(keep_inline(extras, decode_base64(inline["data"]), text_of(inline.get("mimeType"))))
    if text_of(linked.get("fileUri")):
        return block_of(attach_url(extras, linked["fileUri"], mime_type=text_of(linked.get("mimeType"))))
    if function := next(read_functions(part), None):
        return function
    if part.keys() <= {"text", "thought", "thoughtSignature"} and isinstance(piece, dict):
        return None
    return Block(Kind.CONTEXT, flags=[UNKNOWN_TYPE], raw=without_secrets(piece))


def _read_usage(tokens: Any, usage_id: str | None) -> Usage | None:
    record = object_of(tokens)
    usage = Usage(
        input_tokens=count_of(record.get("input")),
        output_tokens=count_of(record.get("output")),
        cached_tokens=count_of(record.get("cached")),
        reasoning_tokens=count_of(record.get("thoughts")),
        input_includes_cached=True,
        usage_id=usage_id,
    )
    return usage if record else None


def _read_calls(calls: Any) -> Iterator[Block]:
    """Yield each call and what it brought, in the message that made it."""
    for call in objects_of(calls):
        call_id, name = text_of(call.get("id")), text_of(call.get("name"))
        arguments = without_secrets(call.get("args"))
        yield Block(Kind.TOOL_USE, tool_name=name, call_id=call_id, input=arguments, extra=rest_of(call, CALL_KEYS))
        result = _read_result(call)
        if result:
            yield result


def _read_result(call: dict[str, Any]) -> Block | None:
    result = call.get("result")
    parts = result if isinstance(result, list) else [] if result is None else [result]
    responses = [object_of(object_of(part).get("functionResponse")).get("response") for part in parts]
    words = [text for part in [*responses, *parts] if (text := words_of(part))]
    unread = [without_secrets(response) for response in responses if response and not words_of(response)]
    status = text_of(call.get("status"))
    if not words and text_of(call.get("resultDisplay")):
        words = [call["resultDisplay"]]
    if not words and not unread and status not in ("success", "error", "cancelled"):
        return None
    failed = status == "error" or any("error" in object_of(response) for response in responses)
    return Block(
        Kind.TOOL_RESULT,
        "\n".join(words),
        tool_name=text_of(call.get("name")),
        call_id=text_of(call.get("id")),
        is_error=True if failed else False if status == "success" else None,
        flags=["interrupted"] if status == "cancelled" else [],
        extra={"responses": unread} if unread else {},
    )
