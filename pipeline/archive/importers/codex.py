"""Codex sessions: rollout files of all generations, one conversation each.

Source: `~/.codex/sessions/…/rollout-<time>-<id>.jsonl` and archived_sessions, as of mid 2026. codex_lines has the
generations, codex_messages what each line becomes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.archive.conversations import Conversation, Lineage
from pipeline.archive.importers.codex_lines import (
    META,
    Entry,
    find_replays,
    find_session_id,
    is_envelope,
    is_header,
    is_item,
    is_whole_session,
    other_headers,
    read_entries,
)
from pipeline.archive.importers.codex_messages import MessageBuilder
from pipeline.archive.importers.codex_repeats import find_repeats
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.linear import derive_id, fill_times, give_keys, settle_path
from pipeline.archive.importers.values import first_text, object_of, rest_of, text_of, without_secrets
from pipeline.archive.reading import peek, read_lines, read_value
from pipeline.archive.titles import choose_title

FILE_ID = re.compile(r"rollout-[^/]*?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})[^/]*$")
INSTRUCTIONS = ("instructions", "base_instructions", "user_instructions", "developer_instructions")


class CodexImporter:
    """Sessions of the Codex command line and its editors."""

    name = "codex"
    provider = "codex"
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        values = [value for value in peek.items if isinstance(value, dict)]
        if peek.kind == "object" and any(map(is_whole_session, values)):
            return Recognition("an object with session and items")
        if peek.kind not in ("lines", "object") or not values:
            return None
        if any(map(is_envelope, values)):
            return Recognition("lines with a type of Codex and a payload")
        if is_header(values[0]):
            return Recognition("a first line with id, timestamp and instructions or git")
        if any(value.get("record_type") == "state" for value in values):
            return Recognition('lines with record_type "state"')
        if any(map(is_item, values)):
            return Recognition("lines that are items of a Codex session")
        if all(value.keys() >= {"session_id", "ts", "text"} for value in values):
            return Recognition("lines with session_id, ts and text: the history of prompts", is_artifact=True)
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:  # noqa: ARG002
        """Yield the one session of a file: all its lines, with their numbers."""
        if any(map(is_whole_session, peek(file).items)):
            value, skips = read_value(file)
            yield from skips
            yield _make_record(file, value)
            return
        lines: list[Any] = []
        for line in read_lines(file):
            if isinstance(line, Skip):
                yield line
            else:
                lines.append([line.number, line.value])
        if lines:
            yield _make_record(file, lines)

    def parse(self, record: Record) -> Parsed:
        entries = list(read_entries(record.value))
        conversation = Conversation(self.provider, record.key, is_append_only=True)
        conversation.is_id_derived = bool(object_of(record.context).get("is_id_derived"))
        builder = MessageBuilder(conversation, find_repeats(entries))
        replays = find_replays(entries, find_session_id(entries))
        for place, entry in enumerate(entries):
            if place - 1 in replays and place not in replays:
                builder.usage.leave_behind()
            builder.take(place, entry, ancestor=replays.get(place))
        _read_header(conversation, entries)
        _add_lineage(conversation, entries)
        _settle(builder)
        return Parsed(conversation, builder.extras)


def _make_record(file: Member, value: Any) -> Record:
    named = FILE_ID.search(file.name)
    key = find_session_id(read_entries(value)) or (named and named[1])
    place = "session" if isinstance(value, dict) else f"lines {value[0][0]}-{value[-1][0]}"
    if key:
        return Record(key, place, value)
    return Record(_derive_session_id(list(read_entries(value))), place, value, context={"is_id_derived": True})


def _derive_session_id(entries: Sequence[Entry]) -> str:
    """Return an id made of what a session without one begins with; it stays when the session grows."""
    first = next((entry for entry in entries if entry.payload.get("role") == "user"), entries[0])
    return derive_id("codex", first.time, without_secrets(first.payload))


def _read_header(conversation: Conversation, entries: Sequence[Entry]) -> None:
    first = next((entry for entry in entries if entry.kind == META), None)
    if first is None:
        return
    header = first.payload
    git = object_of(header.get("git"))
    names = {"branch": "branch", "commit_hash": "commit", "repository_url": "url"}
    conversation.git = {ours: value for theirs, ours in names.items() if (value := text_of(git.get(theirs)))}
    conversation.cwd = text_of(header.get("cwd"))
    conversation.created = first.time
    known = {"id", "timestamp", "cwd", "git", *INSTRUCTIONS}
    conversation.extra |= {name: value for name, value in [("session", rest_of(header, known))] if value}
    instructions = {name: header[name] for name in INSTRUCTIONS if header.get(name) is not None}
    if instructions:
        conversation.settings = without_secrets(instructions)


def _add_lineage(conversation: Conversation, entries: Sequence[Entry]) -> None:
    header = next((entry.payload for entry in entries if entry.kind == META), {})
    spawned = object_of(object_of(object_of(header.get("source")).get("subagent")).get("thread_spawn"))
    links = [
        ("fork", text_of(header.get("forked_from_id"))),
        ("sub_agent", first_text(spawned.get("parent_thread_id"), header.get("parent_thread_id"))),
    ]
    links += [("resume", ancestor) for _, ancestor in other_headers(entries, conversation.native_id)]
    for kind, native_id in links:
        if native_id and native_id not in {link.native_id for link in conversation.lineage}:
            conversation.lineage.append(Lineage(kind, native_id))


def _settle(builder: MessageBuilder) -> None:
    conversation = builder.conversation
    for name, value in [("other_lines", builder.other_lines), ("events", dict(builder.events))]:
        if value:
            conversation.extra[name] = value
    if builder.turn_contexts:
        conversation.settings = {**object_of(conversation.settings), "turn_contexts": builder.turn_contexts}
    conversation.usage = builder.usage.usage()
    give_keys(conversation)
    settle_path(conversation, leaf=builder.path[-1].key if builder.path else None)
    fill_times(conversation)
    choose_title(conversation, (conversation.title, "provider"))
