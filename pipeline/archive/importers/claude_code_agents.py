"""Sub-agents of a session: which call of the session started each, in its own file or in that of the session."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.archive.importers.claude_code_lines import Numbered, calls_of, is_message, words_of
from pipeline.archive.importers.interface import Member
from pipeline.archive.importers.values import list_of, object_of, parse_embedded, text_of
from store.errors import StoreError

TOOLS = ("Task", "Agent")
TELLING = (b'"agentId"', *(f'"{name}"'.encode() for name in TOOLS))


class Start(NamedTuple):
    """A call that started an agent, and the line that it stands in."""

    line: dict[str, Any]
    call: dict[str, Any]


class AgentCalls:
    """The calls of one session's lines that start agents."""

    def __init__(self, lines: Sequence[Numbered]) -> None:
        self._by_id: dict[str, Start] = {}
        self._by_prompt: dict[str, Start] = {}
        self._call_by_agent: dict[str, str] = {}
        starts: list[tuple[str, Start]] = []
        for line in lines:
            if isinstance(line.value, dict):
                starts += self._add(line.value)
        starts.sort(key=lambda each: each[0])
        self._times = [time for time, _ in starts]
        self._starts = [start for _, start in starts]

    def find_start(self, agent: str, lines: Sequence[Numbered]) -> Start | None:
        """Return what started an agent, of which these are the lines.

        As the call's result says; else the call with the prompt that the agent begins with; else the last one before.
        """
        first = _first_message(lines)
        before = bisect_right(self._times, text_of(first.get("timestamp")) or "")
        return self.find_named(agent, lines) or (self._starts[before - 1] if before else None)

    def find_named(self, agent: str, lines: Sequence[Numbered]) -> Start | None:
        """Return what started an agent, as the call's result or the prompt says."""
        said = self._call_by_agent.get(agent, "")
        return self._by_id.get(said) or self._by_prompt.get(words_of(_first_message(lines)))

    def _add(self, line: dict[str, Any]) -> list[tuple[str, Start]]:
        """Take in the calls of a line, and the agent whose result it has; return the calls with their time."""
        starts = [Start(line, call) for call in calls_of(line) if call.get("name") in TOOLS]
        for start in starts:
            if call_id := text_of(start.call.get("id")):
                self._by_id[call_id] = start
            if prompt := text_of(object_of(start.call.get("input")).get("prompt")):
                self._by_prompt.setdefault(prompt, start)
        agent = text_of(object_of(line.get("toolUseResult")).get("agentId")) or text_of(line.get("agentId"))
        answered = _find_answered(line)
        if agent and answered:
            self._call_by_agent[agent] = answered
        time = text_of(line.get("timestamp"))
        return [(time, start) for start in starts] if time else []


class SessionFiles:
    """The calls of sessions that agents in files of their own belong to. Each session's file is looked into once."""

    def __init__(self) -> None:
        self._siblings: Sequence[Member] = ()
        self._file_by_session: dict[str, Member] = {}
        self._calls: dict[str, AgentCalls] = {}

    def find_start(
        self, session: str, agent: str, lines: Sequence[Numbered], siblings: Sequence[Member]
    ) -> Start | None:
        """Return what started an agent of a session that has its own file among these, or None."""
        if siblings is not self._siblings:
            self._siblings, self._calls = siblings, {}
            self._file_by_session = {PurePosixPath(member.name).stem: member for member in siblings}
        file = self._file_by_session.get(session)
        if file is None:
            return None
        if session not in self._calls:
            self._calls[session] = AgentCalls(list(_read_lines_of_agents(file)))
        return self._calls[session].find_named(agent, lines)


def _read_lines_of_agents(file: Member) -> Iterator[Numbered]:
    """Yield the lines that may tell of an agent. What cannot be read is told by the import of that file."""
    with suppress(StoreError, OSError), file.open() as stream:
        for number, line in enumerate(stream, 1):
            if any(word in line for word in TELLING):
                with suppress(ValueError):
                    yield Numbered(number, parse_embedded(line.decode("utf-8", "replace")))


def _first_message(lines: Sequence[Numbered]) -> dict[str, Any]:
    return next((line.value for line in lines if _is_message(line)), {})


def _is_message(line: Numbered) -> bool:
    return isinstance(line.value, dict) and is_message(line.value)


def _find_answered(line: dict[str, Any]) -> str | None:
    """Return the id of the call that a line has the result of."""
    for block in list_of(object_of(line.get("message")).get("content")):
        if object_of(block).get("type") == "tool_result":
            return text_of(block.get("tool_use_id"))
    return None
