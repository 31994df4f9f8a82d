"""Conversations of Claude Code: the lines of one session, or of an agent of it, become a tree of messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.archive.conversations import Conversation, Lineage, Origin, Role, Usage
from pipeline.archive.importers.claude_code_lines import Numbered, is_message, is_well_formed, session_of
from pipeline.archive.importers.claude_code_messages import LineReader, list_texts, list_usages
from pipeline.archive.importers.claude_code_trees import Ancestry, Talk
from pipeline.archive.importers.interface import Parsed, Record
from pipeline.archive.importers.values import count_of, first_text, list_of, object_of, objects_of, rest_of, text_of
from pipeline.archive.titles import choose_title
from pipeline.archive.trees import settle_tree

PROVIDER = "claude_code"
CONSTANT = ("cwd", "gitBranch", "version", "userType", "slug", "entrypoint")  # mostly the same on all lines
COUNTED_TYPES = frozenset(
    {"summary", "ai-title", "custom-title", "agent-name", "last-prompt", "queue-operation"}
    | {"init", "result", "progress", "mode", "permission-mode", "bridge-session"}
    | {"file-history-snapshot", "file-history-delta"}
)
USAGE_FIELDS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def parse_session(record: Record) -> Parsed:
    """Return the conversation of a session's lines, and the files that stood in them."""
    lines = [Numbered(number, value) for number, value in list_of(object_of(record.value).get("lines"))]
    context = object_of(record.context)
    warnings: Counter[str] = Counter()
    extras: dict[str, bytes] = {}
    objects = [line.value for line in lines if isinstance(line.value, dict)]
    talk = _choose_talk(lines, warnings)
    conversation = _read_facts(record.key, talk, context, warnings)
    reader = LineReader(extras, warnings, _find_constants(talk))
    conversation.messages = [reader.read_message(each.key, each.line) for each in talk]
    conversation.model = next((message.model for message in conversation.messages if message.model), None)
    _keep_others(conversation, lines, warnings)
    others = [line for line in objects if not is_message(line)]
    ancestry = Ancestry(talk, others, list_of(context.get("elsewhere")))
    for place, message in enumerate(conversation.messages):
        message.parent = ancestry.find_parent(place)
    _add_context(conversation, objects, talk, ancestry, reader)
    _add_usage(conversation, talk)
    settle_tree(conversation, leaf=conversation.messages[-1].key if conversation.messages else None)
    _choose_session_title(conversation, objects, context)
    if context.get("is_replay"):
        _hide_copies(conversation)
    if context.get("is_agent"):
        _disown_prompts(conversation)
    return Parsed(conversation, extras)


def _choose_talk(lines: Sequence[Numbered], warnings: Counter[str]) -> list[Talk]:
    """Return the messages in the order of the file. Of lines with one id, the first complete one counts."""
    chosen: dict[str, dict[str, Any]] = {}
    for number, line in lines:
        if not isinstance(line, dict) or not is_message(line):
            continue
        key = text_of(line.get("uuid")) or f"line-{number}"
        before = chosen.get(key)
        if before is not None and before != line:
            warnings["duplicate_uuid"] += 1
        if before is None or (not is_well_formed(before) and is_well_formed(line)):
            chosen.pop(key, None)
            chosen[key] = line
    return [Talk(key, line) for key, line in chosen.items()]


def _find_constants(talk: Sequence[Talk]) -> dict[str, str]:
    """Return the first value of each field that a session's lines repeat."""
    found = ((name, next(filter(None, (text_of(each.line.get(name)) for each in talk)), None)) for name in CONSTANT)
    return {name: value for name, value in found if value}


def _read_facts(key: str, talk: Sequence[Talk], context: dict[str, Any], warnings: Counter[str]) -> Conversation:
    constants = _find_constants(talk)
    branch = constants.get("gitBranch")
    return Conversation(
        PROVIDER,
        key,
        is_id_derived=context.get("is_id_derived") is True,
        cwd=constants.get("cwd"),
        git={"branch": branch} if branch else {},
        is_append_only=not any("uuid" in each.line for each in talk),
        lineage=_list_lineage(talk, context),
        warnings=warnings,
        extra={
            **{name: value for name, value in constants.items() if name not in ("cwd", "gitBranch")},
            **rest_of(object_of(context.get("wrapper")), ()),
        },
    )


def _list_lineage(talk: Sequence[Talk], context: dict[str, Any]) -> list[Lineage]:
    lineage = [
        Lineage(link["kind"], link["native_id"], link.get("message")) for link in objects_of(context.get("links"))
    ]
    forks: dict[str, str | None] = {}
    for each in talk:
        origin = object_of(each.line.get("forkedFrom"))
        if session := text_of(origin.get("sessionId")):
            forks[session] = text_of(origin.get("messageUuid"))  # of the last line that was copied
    return lineage + [Lineage("fork", session, message) for session, message in forks.items()]


def _keep_others(conversation: Conversation, lines: Sequence[Numbered], warnings: Counter[str]) -> None:
    """Fill the conversation's times, and say what stood between its messages."""
    times = sorted((each.created for each in conversation.messages if each.created), key=lambda time: time.rstrip("Z"))
    conversation.created, conversation.updated = (times[0], times[-1]) if times else (None, None)
    counts: Counter[str] = Counter()
    odd: dict[str, list[dict[str, Any]]] = {}
    for number, line in lines:
        if not isinstance(line, dict):
            warnings["not_an_object"] += 1
            odd.setdefault("other_values", []).append({"line": number, "value": line})
        elif line.get("type") == "pr-link":
            odd.setdefault("pull_requests", []).append(rest_of(line, ("type", "sessionId", "timestamp")))
        elif is_message(line) or _is_context(line):
            continue
        elif str(line.get("type")) in COUNTED_TYPES:
            counts[str(line["type"])] += 1
        else:
            warnings["unknown_line_type"] += 1
            odd.setdefault("unknown_lines", []).append({"line": number, "value": rest_of(line, ())})
    conversation.extra |= odd
    if counts:
        conversation.extra["lines_beside"] = dict(counts)


def _is_context(line: dict[str, Any]) -> bool:
    """Whether a line gave the model something: an attachment, or what a person or a task put into the queue."""
    kind = line.get("type")
    return not is_message(line) and (kind == "attachment" or (kind == "queue-operation" and bool(line.get("content"))))


def _add_context(
    conversation: Conversation,
    objects: Sequence[dict[str, Any]],
    talk: Sequence[Talk],
    ancestry: Ancestry,
    reader: LineReader,
) -> None:
    """Add what lines between messages gave to the model, to the message that they follow."""
    message_by_key = {message.key: message for message in conversation.messages}
    key_by_line = {id(each.line): each.key for each in talk}
    before = conversation.messages[0].key if conversation.messages else None
    for line in objects:
        before = key_by_line.get(id(line), before)
        if _is_context(line):
            key = ancestry.find_message(text_of(line.get("parentUuid"))) or before
            if key is not None:
                message_by_key[key].blocks.append(reader.read_context(line))


def _add_usage(conversation: Conversation, talk: Sequence[Talk]) -> None:
    message_by_key = {message.key: message for message in conversation.messages}
    for key, usage_id, usage in list_usages(talk):
        message = message_by_key[key]
        message.usage = Usage(
            input_tokens=count_of(usage.get("input_tokens")),
            output_tokens=count_of(usage.get("output_tokens")),
            cached_tokens=count_of(usage.get("cache_read_input_tokens")),
            cache_write_tokens=count_of(usage.get("cache_creation_input_tokens")),
            usage_id=usage_id,
        )
        if rest := rest_of(usage, USAGE_FIELDS):
            message.extra["usage"] = rest


def _hide_copies(conversation: Conversation) -> None:
    """Mark a replay that was made to compact a session: its messages are there, copied."""
    for message in conversation.messages:
        message.hidden = message.hidden or "compaction copy"
        if message.role != Role.SYSTEM:
            message.usage = None


def _disown_prompts(conversation: Conversation) -> None:
    """Claim no person for what a sub-agent was asked: another agent wrote it."""
    for message in conversation.messages:
        message.origin = None if message.origin == Origin.HUMAN else message.origin
        for block in message.blocks:
            block.origin = None if block.origin == Origin.HUMAN else block.origin


def _choose_session_title(
    conversation: Conversation, objects: Sequence[dict[str, Any]], context: dict[str, Any]
) -> None:
    own = [line for line in objects if session_of(line) in (None, conversation.native_id)]
    keys = {message.key for message in conversation.messages}
    foreign = list_of(context.get("foreign_leaves"))
    summaries = [line for line in own if line.get("type") == "summary" and line.get("leafUuid") not in foreign]
    of_this_file = [line for line in summaries if text_of(line.get("leafUuid")) in keys]
    own_summary = _find_last(list_texts(of_this_file, "summary", "summary"))
    other_summary = next(iter(list_texts(summaries, "summary", "summary")), None)
    names = (("custom-title", "customTitle"), ("ai-title", "aiTitle"), ("agent-name", "agentName"))
    wrapper = object_of(context.get("wrapper"))
    choose_title(
        conversation,
        *((_find_last(list_texts(own, kind, name)), "provider") for kind, name in names),
        (first_text(wrapper.get("title"), wrapper.get("name")), "provider"),
        (first_text(own_summary, context.get("summary"), other_summary, context.get("task")), "summary"),
    )


def _find_last(texts: Sequence[str]) -> str | None:
    return texts[-1] if texts else None
