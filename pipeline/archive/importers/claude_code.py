"""Claude Code: sessions, one JSON value a line, as `~/.claude/projects` holds them; and what the web exports.

    <session>.jsonl          lines of a session, perhaps after those of the session that it resumed
    agent-<id>.jsonl         lines of a sub-agent, or a replay made to compact a session
    {"loglines": [line, …]}  the web's export

A record is one conversation's lines; see claude_code_sessions for which lines these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.archive.conversations import Json
from pipeline.archive.importers.claude_code_agents import SessionFiles, Start
from pipeline.archive.importers.claude_code_conversations import PROVIDER, parse_session
from pipeline.archive.importers.claude_code_lines import Numbered, is_line, is_wrapper, trim_line
from pipeline.archive.importers.claude_code_sessions import Session, group_lines
from pipeline.archive.importers.claude_code_summaries import Elsewhere, Summaries
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.values import first_text, object_of, objects_of
from pipeline.archive.reading import peek as peek_file
from pipeline.archive.reading import read_items, read_lines

# Folders of a session, and what in them is no talk: names tell these, for anything may stand in them.
FOLDERS = {"tool-results": "the whole text of a tool's result", "workflows": "the journal of a workflow"}
POINTER_FILE = "bridge-pointer.json"
TASK_STATUSES = ("pending", "in_progress", "completed")


class ClaudeCodeImporter:
    """Reads sessions of Claude Code."""

    name = "claude_code"
    provider = PROVIDER
    version = 2

    def __init__(self) -> None:
        self._summaries = Summaries()
        self._session_files = SessionFiles()

    def recognise(self, peek: Peek) -> Recognition | None:
        values = objects_of(list(peek.items))
        if any(is_wrapper(value) for value in values):
            return Recognition("loglines that look like a session's lines: the web export of Claude Code")
        if reason := _find_artifact(peek, values):
            return Recognition(reason, is_artifact=True)
        found = [value for value in values if is_line(value)]
        if found:
            reason = f"{len(found)} of {len(peek.items)} values looked at are lines of a Claude Code session"
            return Recognition(f"{reason} (parentUuid, sessionId, or type and message)")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        def find_elsewhere(session: str, agent: str, lines: Sequence[Numbered]) -> Start | None:
            return self._session_files.find_start(session, agent, lines, siblings)

        lines: list[Numbered] = []
        has_records = False
        for line in _read_values(file):
            if isinstance(line, Skip):
                yield line
            elif is_wrapper(line.value):
                has_records = True
                yield from _split_wrapper(line.value, file, line.number)
            else:
                lines.append(line)
        sessions = group_lines(lines, file_name=file.name, find_elsewhere=find_elsewhere)
        for session in sessions:
            place = f"{file.name}:{session.lines[0].number}-{session.lines[-1].number}"
            yield _make_record(session, place, elsewhere=self._summaries.look_up(session.lines, file, siblings))
        if lines and not sessions:
            detail = f"{len(lines)} lines beside the talk of sessions in other files"
            yield Skip("no_messages", file.name, detail, is_info=not has_records)

    def parse(self, record: Record) -> Parsed:
        return parse_session(record)


def _read_values(file: Member) -> Iterator[Numbered | Skip]:
    """Yield the values of a file of lines, and the elements of one that is a whole JSON value."""
    if peek_file(file).kind in ("object", "array"):
        for item in read_items(file, ("item",)):
            yield item if isinstance(item, Skip) else _number(item.index + 1, item.value)
        return
    for line in read_lines(file):
        yield line if isinstance(line, Skip) else _number(line.number, line.value)


def _number(number: int, value: Json) -> Numbered:
    return Numbered(number, trim_line(value) if isinstance(value, dict) else value)


def _split_wrapper(value: dict[str, Any], file: Member, number: int) -> Iterator[Record | Skip]:
    place = f"{file.name}[{number - 1}]"
    wrapper = {name: each for name, each in value.items() if name != "loglines"}
    lines = [_number(index, line) for index, line in enumerate(value["loglines"], start=1)]
    native_id = first_text(*(wrapper.get(name) for name in ("sessionId", "session_id", "uuid", "id")))
    sessions = group_lines(lines, file_name=file.name, native_id=native_id)
    for session in sessions:
        yield _make_record(session, place, wrapper=wrapper if session is sessions[0] else {})
    if not sessions:
        yield Skip("no_messages", place, f"{len(lines)} loglines without a message", is_info=not lines)


def _make_record(
    session: Session, place: str, *, wrapper: dict[str, Any] | None = None, elsewhere: Elsewhere | None = None
) -> Record:
    context: dict[str, Json] = {
        "is_id_derived": session.is_id_derived,
        "is_replay": session.is_replay,
        "is_agent": session.is_agent,
        "task": session.task,
        "links": session.links,
        "elsewhere": session.elsewhere,
        "wrapper": wrapper,
    }
    if elsewhere and not session.is_replay and not session.is_agent:
        context |= {"summary": elsewhere.summary, "foreign_leaves": elsewhere.foreign}
    value = {"lines": [[number, line] for number, line in session.lines]}
    return Record(session.native_id, place, value, {name: each for name, each in context.items() if each} or None)


def _find_artifact(peek: Peek, values: Sequence[dict[str, Any]]) -> str | None:
    """Return what a file of `~/.claude` is that holds no talk; None for any other."""
    path = PurePosixPath(peek.name)
    folder = next((folder for folder in FOLDERS if folder in path.parts[:-1]), None)
    if folder and not any(is_line(value) for value in values):
        return f"in a folder {folder}: {FOLDERS[folder]} in Claude Code"
    if not values:
        return None
    if peek.kind == "object" and any("sessionId" in entry for entry in objects_of(values[0].get("entries"))):
        return "entries with sessionId: the index of Claude Code's sessions"
    if peek.kind == "object" and "agentType" in values[0] and not is_line(values[0]):
        return "agentType: what a sub-agent of Claude Code is"
    if "sessionId" in values[0] and ("environmentId" in values[0] or path.name == POINTER_FILE):
        return "sessionId and environmentId: a pointer of Claude Code"
    if all({"display", "project"} <= value.keys() and "message" not in value for value in values):
        return "display and project: the history of prompts in Claude Code"
    if peek.kind == "array" and all(_is_task(value) for value in values):
        return "content and status: a list of tasks in Claude Code"
    return None


def _is_task(value: Json) -> bool:
    task = object_of(value)
    is_named = bool({"activeForm", "priority", "id"} & task.keys())
    return "content" in task and str(task.get("status")) in TASK_STATUSES and is_named and "role" not in task
