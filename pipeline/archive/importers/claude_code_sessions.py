"""Sessions in a file of Claude Code: which lines belong to which conversation, and how those hang together.

    session S        lines with its sessionId                       native id S
    sub-agent        lines of a sidechain, here or in its own file   S:agent-<id>       lineage sub_agent → S
    replay           made to compact a session                       S:agent-acompact…  lineage compaction → S
    ancestor A of S  lines replayed in front of a resumed session    native id A        lineage of S: resume → A

Every line goes into one of them. Knows nothing of what messages say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.archive.importers.claude_code_agents import AgentCalls, Start
from pipeline.archive.importers.claude_code_lines import UUID, Numbered, is_copied_summary, is_message, session_of
from pipeline.archive.importers.values import object_of, text_of
from pipeline.archive.reading import hash_record

AGENT_FILE = "agent-"
REPLAY = "acompact"


class Part(NamedTuple):
    """What a line belongs to: a session, or an agent of it."""

    session: str
    agent: str | None


@dataclass
class Session:
    """One conversation's lines, in the order of the file, and its links to others."""

    native_id: str
    is_id_derived: bool = False
    lines: list[Numbered] = field(default_factory=list)
    links: list[dict[str, str]] = field(default_factory=list)  # kind, native_id, message
    elsewhere: list[str] = field(default_factory=list)  # ids of lines of other conversations that lines here follow
    is_replay: bool = False
    is_agent: bool = False
    task: str | None = None  # what the call that started an agent said of it, in a few words


FindStart = Callable[[str, str, Sequence[Numbered]], Start | None]  # of a session, an agent, and the agent's lines


def group_lines(
    lines: Sequence[Numbered],
    *,
    file_name: str,
    native_id: str | None = None,
    find_elsewhere: FindStart = lambda session, agent, lines: None,
) -> list[Session]:
    """Return the conversations of a file's lines; none where no line is a message.

    `native_id`: what the file itself says that its session is called. `find_elsewhere` looks into other files for the
    call that started an agent.
    """
    objects = [line for line in lines if isinstance(line.value, dict)]
    if not any(is_message(line.value) for line in objects):
        return []
    file = _File(objects, PurePosixPath(file_name).name, native_id)
    parts = file.assign_parts(lines)
    by_part: dict[Part, list[Numbered]] = {}
    for line, part in zip(lines, parts, strict=True):
        by_part.setdefault(part, []).append(line)
    _move_talkless(by_part, file.main)
    sessions = {part.session for part in by_part}
    calls_by_session = {session: AgentCalls(by_part.get(Part(session, None), [])) for session in sessions}

    def find_start(part: Part) -> Start | None:
        session, agent = part.session, part.agent or ""
        found = calls_by_session[session].find_start(agent, by_part[part])
        return found or find_elsewhere(session, agent, by_part[part])

    return [_make_session(part, file, by_part[part], find_start) for part in by_part]


class _File:
    """What all lines of a file say together."""

    def __init__(self, lines: Sequence[Numbered], file_name: str, native_id: str | None) -> None:
        stem = file_name.partition(".")[0]
        messages = [line for line in lines if is_message(line.value)]
        sessions = [session for line in messages if (session := session_of(line.value))]
        sessions = sessions or [session for line in lines if (session := session_of(line.value))]
        self.stem = stem
        self.is_id_derived = not (native_id or sessions or UUID.fullmatch(stem))
        self.main = _choose_main(stem, sessions, native_id) or _derive_id(messages[0].value)
        self.agent = _find_agent(messages, stem)
        self.is_replay = is_copied_summary(messages[-1].value) or (self.agent or "").startswith(REPLAY)
        if self.is_replay and self.agent is None:
            self.agent = f"{REPLAY}-{text_of(messages[0].value.get('uuid')) or 'replay'}"
        self.part_by_uuid: dict[str, Part] = {}
        self._session_by_uuid = {
            uuid: session
            for line in reversed(lines)  # so that the first line with an id counts
            if (uuid := text_of(line.value.get("uuid"))) and (session := session_of(line.value))
        }

    def assign_parts(self, lines: Sequence[Numbered]) -> list[Part]:
        """Return the part of each line. One that does not say belongs with the line that it follows."""
        parts = []
        before = Part(self.main, self.agent)
        for line in lines:
            part = before if not isinstance(line.value, dict) else self._assign(line.value, before)
            uuid = text_of(object_of(line.value).get("uuid"))
            if uuid:
                self.part_by_uuid.setdefault(uuid, part)
            if isinstance(line.value, dict) and is_message(line.value):
                before = part
            parts.append(part)
        return parts

    def _assign(self, line: dict[str, Any], before: Part) -> Part:
        followed = self.part_by_uuid.get(text_of(line.get("parentUuid")) or "")
        session = session_of(line) or self._session_by_uuid.get(text_of(line.get("leafUuid")) or "")
        if session is None and is_message(line):
            session = (followed or before).session
        part = Part(session or self.main, None)
        if self.agent is not None:
            return Part(part.session, self.agent)
        if line.get("isSidechain") is not True:
            return part
        agent = text_of(line.get("agentId")) or (followed and followed.agent)
        if agent is None and "uuid" not in line and before.agent:
            agent = before.agent
        return Part(part.session, agent or text_of(line.get("uuid")) or "sidechain")


def _choose_main(stem: str, sessions: Sequence[str], native_id: str | None) -> str | None:
    """Return the session that a file is of: the one it is named after, else the last that it holds."""
    if native_id:
        return native_id
    if UUID.fullmatch(stem) and (stem in sessions or not sessions):
        return stem
    return sessions[-1] if sessions else None


def _find_agent(messages: Sequence[Numbered], stem: str) -> str | None:
    """Return the agent whose file this is, or None for a session's own file, which may hold sidechains."""
    agents = Counter(text_of(line.value.get("agentId")) for line in messages)
    if len(agents) == 1 and None not in agents:
        return next(iter(agents))
    return stem.removeprefix(AGENT_FILE) if stem.startswith(AGENT_FILE) and stem != AGENT_FILE else None


def _move_talkless(by_part: dict[Part, list[Numbered]], main: str) -> None:
    """Give lines of conversations that have no message here to the file's main one, or to the first that has."""
    talking = {part: None for part, lines in by_part.items() if any(_is_message(line) for line in lines)}
    target = next((part for part in talking if part.session == main), next(iter(talking)))
    silent = [part for part in by_part if part not in talking]
    moved = [line for part in silent for line in by_part.pop(part)]
    if moved:
        by_part[target] = sorted([*by_part[target], *moved], key=lambda line: line.number)


def _is_message(line: Numbered) -> bool:
    return isinstance(line.value, dict) and is_message(line.value)


def _make_session(
    part: Part, file: _File, lines: list[Numbered], find_start: Callable[[Part], Start | None]
) -> Session:
    native_id = part.session if part.agent is None else f"{part.session}:{AGENT_FILE}{part.agent}"
    is_id_derived = file.is_id_derived and part.session == file.main
    session = Session(native_id, is_id_derived, lines, is_replay=file.is_replay)
    if part.agent is not None:
        kind = "compaction" if file.is_replay else "sub_agent"
        start = None if file.is_replay else find_start(part)
        session.links.append(_make_link(kind, part.session, start and text_of(start.line.get("uuid"))))
        session.is_agent = not file.is_replay
        session.task = start and text_of(object_of(start.call.get("input")).get("description"))
        return session
    for line in session.lines:
        followed = _find_followed(line, file)
        if followed and followed.part != part and followed.part.agent is None:
            kind = "resume" if followed.name == "parentUuid" else "compaction"
            session.links += [] if session.links else [_make_link(kind, followed.part.session, followed.uuid)]
            session.elsewhere.append(followed.uuid)
    session.elsewhere = sorted(set(session.elsewhere))
    return session


class Followed(NamedTuple):
    """The line that a message follows: whose it is, its id, and the field that names it."""

    part: Part
    uuid: str
    name: str


def _find_followed(line: Numbered, file: _File) -> Followed | None:
    if not _is_message(line):
        return None
    for name in ("parentUuid", "logicalParentUuid"):
        uuid = text_of(line.value.get(name))
        if uuid and uuid in file.part_by_uuid:
            return Followed(file.part_by_uuid[uuid], uuid, name)
    return None


def _make_link(kind: str, native_id: str, message: str | None) -> dict[str, str]:
    link = {"kind": kind, "native_id": native_id}
    return {**link, "message": message} if message else link


def _derive_id(line: dict[str, Any]) -> str:
    """Return an id for a session without one, from its first message, which a longer file still begins with."""
    begin = [line.get(name) for name in ("uuid", "type", "timestamp", "message")]
    return f"derived-{hash_record(begin)[:32]}"
