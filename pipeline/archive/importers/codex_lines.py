"""The lines of a Codex session, of any generation, as entries of one form.

    G1  {"session": {…}, "items": […]}                      one object
    G2  {"id": …, "timestamp": …, "git": {…}}, then items   bare
    G3  {"timestamp": …, "type": …, "payload": {…}}         an envelope on every line

A record's value is a list of [line, value], or the object of G1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pipeline.archive.importers.odd_values import read_odd_time
from pipeline.archive.importers.values import first_text, list_of, object_of, text_of

META, ITEM, EVENT, TURN, COMPACTED = "session_meta", "response_item", "event_msg", "turn_context", "compacted"
ENVELOPES = frozenset({META, ITEM, EVENT, TURN, COMPACTED, "world_state", "inter_agent_communication"})
ITEMS = frozenset(
    {
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "local_shell_call",
        "web_search_call",
    }
)
UNKNOWN = "unknown"
MARKER = "state"  # of G2; says nothing
PAUSE = timedelta(seconds=1)  # a replay is written at one moment; a person needs longer


class Entry(NamedTuple):
    """One line. `payload` of an unknown line is the whole line."""

    line: int | None  # 1-based; None in G1
    time: str | None
    kind: str
    payload: dict[str, Any]
    odd_time: Any = None  # as it stands there, where it is damaged or has no zone
    oddness: str | None = None

    @property
    def type(self) -> str:
        return text_of(self.payload.get("type")) or UNKNOWN


def is_header(value: Any) -> bool:
    """Whether a value is the first line of G2."""
    return (
        isinstance(value, dict)
        and bool(text_of(value.get("id")) and text_of(value.get("timestamp")))
        and "type" not in value
        and ("instructions" in value or "git" in value)
    )


def _is_bare_header(value: Any) -> bool:
    """Whether a first line is a header of G2, also one without git and instructions."""
    named = object_of(value)
    return bool(text_of(named.get("id")) and text_of(named.get("timestamp"))) and not {"type", "role"} & named.keys()


def is_item(value: Any) -> bool:
    """Whether a value is a bare item of G1 or G2."""
    kind = text_of(object_of(value).get("type"))
    if kind == "message":
        return isinstance(value.get("content"), list) and text_of(value.get("role")) is not None
    return kind in ITEMS and bool({"call_id", "summary", "action"} & value.keys())


def is_envelope(value: Any) -> bool:
    return (
        isinstance(value, dict) and text_of(value.get("type")) in ENVELOPES and isinstance(value.get("payload"), dict)
    )


def is_whole_session(value: Any) -> bool:
    """Whether a value is a file of G1."""
    return isinstance(value, dict) and isinstance(value.get("session"), dict) and isinstance(value.get("items"), list)


def read_entries(value: Any) -> Iterator[Entry]:
    """Yield the entries of a record's value, in the order of the file."""
    if isinstance(value, dict):
        header = object_of(value.get("session"))
        yield _make_entry(None, META, header, time=header.get("timestamp"))
        yield from (_read_line(None, item) for item in list_of(value.get("items")))
    else:
        for place, (line, said) in enumerate(value):
            is_bare = place == 0 and _is_bare_header(said)
            yield _make_entry(line, META, said, time=said["timestamp"]) if is_bare else _read_line(line, said)


def _read_line(line: int | None, value: Any) -> Entry:
    record = object_of(value)
    payload, kind = record.get("payload"), text_of(record.get("type"))
    if kind and isinstance(payload, dict):
        time = record.get("timestamp")
        return _make_entry(line, kind, payload, time=payload.get("timestamp") if time is None else time)
    if is_header(record):
        return _make_entry(line, META, record, time=record["timestamp"])
    if "record_type" in record:
        return Entry(line, None, MARKER, record)
    if kind:
        return _make_entry(line, ITEM, record, time=record.get("timestamp"))
    return Entry(line, None, UNKNOWN, record if record else {"value": value})


def _make_entry(line: int | None, kind: str, payload: dict[str, Any], *, time: Any) -> Entry:
    read, oddness = read_odd_time(time)
    return Entry(line, read, kind, payload, time if oddness else None, oddness)


def find_session_id(entries: Iterable[Entry]) -> str | None:
    """Return the id of the conversation: that of the first header, because forks repeat their ancestor's."""
    headers = (entry.payload for entry in entries if entry.kind == META)
    return next((found for header in headers if (found := id_of_header(header))), None)


def id_of_header(header: dict[str, Any]) -> str | None:
    return first_text(header.get("id"), header.get("session_id"))


def find_replays(entries: Sequence[Entry], own_id: str | None) -> dict[int, str]:
    """Return {place of an entry: id of the ancestor that it was copied from}.

    A fork repeats its ancestor's header and history, at one moment or with their old times, and then goes on. So a
    replay begins at another's header, and ends at the own header, at a pause, or where no time is known.
    """
    replays: dict[int, str] = {}
    ancestor: str | None = None
    began = _to_datetime(entries[0].time) if entries else None
    before = began
    for place, entry in enumerate(entries):
        now = _to_datetime(entry.time)
        if entry.kind == META:
            found = id_of_header(entry.payload)
            ancestor = found if found != own_id else None
        elif ancestor and not _is_replayed(now, before, began):
            ancestor = None
        if ancestor:
            replays[place] = ancestor
        before = now
    return replays


def _is_replayed(now: datetime | None, before: datetime | None, began: datetime | None) -> bool:
    if now is None or began is None:
        return False
    return now < began or (before is not None and abs(now - before) <= PAUSE)


def _to_datetime(time: str | None) -> datetime | None:
    return datetime.fromisoformat(time) if time else None


def other_headers(entries: Sequence[Entry], own_id: str | None) -> Iterator[tuple[int, str]]:
    """Yield the place and id of each header that is not this conversation's."""
    for place, entry in enumerate(entries):
        found = id_of_header(entry.payload) if entry.kind == META else None
        if found and found != own_id:
            yield place, found
