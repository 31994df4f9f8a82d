"""Hits, lists of conversations and one conversation as text for people. Pure: from the JSON of a command to lines."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pipeline.archive.conversations import AttachmentStatus, Kind
from pipeline.printing import format_columns, format_count, make_visible

Json = dict[str, Any]

UNTITLED = "Untitled"
TITLE_CHARACTERS = 60  # of a title in a list
LINE_CHARACTERS = 100  # of a block that is shown as one line
RULE_CHARACTERS = 60
BOLD = ("\x1b[1m", "\x1b[0m")
PLAIN = ("**", "**")  # around what was found, where there is no terminal
_TIME_CHARACTERS = len("2026-03-01T09:00")


def format_hits(result: Json, *, marks: tuple[str, str]) -> str:
    """Return hits as text; `marks` stand around what was found. All else is made visible, the marks are not."""
    hits = result["hits"]
    lines = []
    for hit in hits:
        lines += [make_visible(_describe_hit(hit)), "    " + _mark(hit["snippet"], hit["ranges"], marks), ""]
    count = format_count(len(hits), "hit")
    end = f"{count}; there are more: --limit" if result["has_more"] else count
    return "\n".join([*lines, end if hits else "Nothing was found."])


def _describe_hit(hit: Json) -> str:
    if hit["in"] == "documents":
        parts = [f"{hit['stage']} {hit['doc_id']}", hit["task_id"], hit["model"]]
    else:
        place = "/".join(part for part in (hit["conversation"], hit["message"]) if part)
        state = "gone" if hit["is_gone"] else None if hit["is_active"] else "on another branch"
        parts = [shorten(hit["title"]), hit["provider"], hit["role"] or "title or note", hit["model"], state]
        parts.append(place)
    return " · ".join(part for part in (*parts[:-1], show_time(hit["created"]), parts[-1]) if part)


def _mark(snippet: str, ranges: Sequence[Sequence[int]], marks: tuple[str, str]) -> str:
    text, end = "", 0
    for begin, next_end in ranges:
        text += make_visible(snippet[end:begin]) + marks[0] + make_visible(snippet[begin:next_end]) + marks[1]
        end = next_end
    return text + make_visible(snippet[end:])


def shorten(title: str | None) -> str:
    return textwrap.shorten(title or UNTITLED, TITLE_CHARACTERS, placeholder="…") or UNTITLED


def show_time(time: str | None) -> str:
    """ "2026-03-01T09:00:02.5Z" -> "2026-03-01 09:00" """
    return (time or "")[:_TIME_CHARACTERS].replace("T", " ")


def format_conversations(conversations: list[Json], *, has_more: bool = False) -> str:
    header = ["id", "updated", "provider", "messages", "active", "title"]
    rows = [_describe_conversation(conversation) for conversation in conversations]
    lines = format_columns([header, *rows]) if rows else []
    count = format_count(len(rows), "conversation")
    return "\n".join([*lines, f"{count}; there are more: --limit" if has_more else count])


def _describe_conversation(conversation: Json) -> list[str]:
    messages = conversation["messages"]
    tags = "".join(f" #{tag}" for tag in conversation["tags"])
    return [
        conversation["id"],
        show_time(conversation["updated"] or conversation["created"]),
        conversation["provider"],
        f"{messages['all']['total']:,}",
        f"{messages['active']['total']:,}",
        f"{shorten(conversation['title'])}{' (gone)' if conversation['is_gone'] else ''}{tags}",
    ]


# One conversation


def format_conversation(conversation: Json) -> str:
    """Return a head, and the messages of the active path."""
    messages = conversation.get("messages", [])
    active = [message for message in messages if message.get("is_active")]
    lines = [conversation.get("title") or UNTITLED, *_describe_head(conversation, len(messages), len(active))]
    for message in active:
        lines += ["", _describe_message(message), *_list_blocks(message)]
    return "\n".join(lines)


def _describe_head(conversation: Json, count: int, active: int) -> list[str]:
    models = dict.fromkeys(m["model"] for m in conversation.get("messages", []) if m.get("model"))
    times = [show_time(conversation.get(name)) for name in ("created", "updated")]
    facts = [
        ("id", conversation["id"]),
        ("provider", conversation["provider"]),
        ("time", " to ".join(dict.fromkeys(time for time in times if time))),
        ("models", ", ".join(models) or conversation.get("model")),
        ("project", conversation.get("project_name")),
        ("messages", f"{count:,}, of which {active:,} are on the active path"),
        ("versions", ", ".join(conversation["versions"])),
        ("state", "a newer export of the account lacks it" if conversation["is_gone"] else ""),
        ("conflicts", "; ".join(conversation["conflicts"])),
        ("tags", " ".join(conversation["tags"])),
        ("note", conversation["note"]),
    ]
    return [f"{name:<9} {value}" for name, value in facts if value]


def _describe_message(message: Json) -> str:
    parts = [message["role"], message.get("author"), message.get("model"), show_time(message.get("created"))]
    parts += [f"hidden: {message['hidden']}"] if message.get("hidden") else []
    parts += ["gone"] if message.get("is_gone") else []
    head = f"── {' · '.join(part for part in parts if part)} · {message['key']} "
    return head + "─" * max(0, RULE_CHARACTERS - len(head))


def _list_blocks(message: Json) -> list[str]:
    """Return texts in full, and what the model did besides in a line each: --json has all of it."""
    lines: list[str] = []
    for block in message.get("blocks", []):
        if block["kind"] in (Kind.TEXT, Kind.CODE):
            lines += (block.get("text") or "").rstrip("\n").split("\n")
        else:
            lines.append(f"[{_describe_block(block)}]")
    return lines


def _describe_block(block: Json) -> str:
    if attachment := block.get("attachment"):
        state = "" if attachment["status"] == AttachmentStatus.PRESENT else f" ({attachment['status']})"
        return f"attachment: {attachment.get('name') or attachment.get('id') or 'without a name'}{state}"
    words = [block.get("tool_name"), _as_text(block.get("input")), block.get("text")]
    text = textwrap.shorten(" ".join(word for word in words if word), LINE_CHARACTERS, placeholder="…")
    kind = block["kind"].replace("_", " ")
    return f"{kind}: {text}" if text else kind


def _as_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def format_concepts(result: Json) -> str:
    concepts = result["concepts"]
    rows = [[concept["state"], concept["concept_id"] or "", _name_choice(concept)] for concept in concepts]
    counts = Counter(concept["state"] for concept in concepts)
    summary = ", ".join(f"{count} {_CONCEPT_STATES[state]}" for state, count in counts.items())
    lines = [*(format_columns(rows) if rows else []), f"{result['folder']}: {summary or 'nothing was found'}"]
    if added := [concept["concept_id"] for concept in concepts if concept["state"] == "added"]:
        lines.append(f'Next: name them in a cohort, config/cohorts/NAME.toml: concepts = ["{added[0]}", …]')
    return "\n".join(lines)


_CONCEPT_STATES = {
    "added": "added",
    "unchanged": "there already",
    "differs": "left as they are, because their text is another one now",
    "empty": "without a text",
}


def _name_choice(concept: Json) -> str:
    return "/".join(part for part in (concept["conversation"], concept["message"]) if part)


def format_note(note: Json) -> str:
    lines = [
        f"{shorten(note['title'])}  {note['id']}",
        f"tags  {' '.join(note['tags']) or 'none'}",
        f"note  {note['note'] or 'none'}",
    ]
    return "\n".join(lines)
