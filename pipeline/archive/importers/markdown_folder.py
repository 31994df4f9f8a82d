"""Markdown of earlier tools: front matter, and a heading for each message. Migrated: the real export takes its place.

---
title: Tide tables                       provider and id come from the front matter, or from a link in it,
source: https://chatgpt.com/c/1b2c…      so that the real export is recognised as the same conversation
---
## User                                  also "You", "**Human:**", "### ChatGPT (2024-03-01 10:00)"
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversations import Block, Conversation, Json, Kind, Message, Origin, Role
from pipeline.archive.front_matter import read_front_matter
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.linear import derive_id, fill_times, settle_list
from pipeline.archive.importers.odd_values import read_noted_time
from pipeline.archive.importers.provider_names import UNKNOWN, name_provider
from pipeline.archive.importers.values import clean_value, first_text, object_of
from pipeline.archive.reading import read_text
from pipeline.archive.times import read_time
from pipeline.archive.titles import choose_title

SPEAKERS = {
    Role.USER: ["user", "you", "human", "me", "prompt"],
    Role.ASSISTANT: [
        *["assistant", "ai", "ai assistant", "model", "bot", "response", "chatgpt", "gpt", "claude", "claude code"],
        *["gemini", "bard", "codex", "copilot", "grok", "mistral", "deepseek", "llama", "perplexity"],
    ],
    Role.SYSTEM: ["system", "system message", "system prompt"],
    Role.TOOL: ["tool", "tool output", "tool result", "tool call"],
}
ROLE_BY_NAME = {name: role for role, names in SPEAKERS.items() for name in names}
HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t#]*")
LABEL = re.compile(r"\*\*([^*]{1,60})\*\*[ \t]*(:?)[ \t]*(.*)")
# A name, and perhaps a colon, a time or a model: "User:", "ChatGPT (gpt-4)", "You - 2024-03-01 10:00".
SPOKEN = re.compile(
    r"([A-Za-z][A-Za-z ]{0,20}?)\s*(?::|：)?\s*(?:[(\[]([^)\]]*)[)\]])?\s*(?:[-–—|·•@,]\s*(.*?))?\s*(?::|：)?"
)
SAID = re.compile(r" (?:said|says|asked|wrote|replied)$", re.IGNORECASE)
ORNAMENT = re.compile(r"^(?:[\W_]|\d{1,5}[.):])+|[*_\s]+$|\*+|__+")  # around a name: emoji, stars, a number
FACT = re.compile(r"[\s>*_-]*([A-Za-z][A-Za-z _]{1,30}?)[*_\s]*[:：][*_\s]*(\S.*?)[*_\s]*")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
FIELD = re.compile(
    r"\[?\b([a-z_]{1,30})::\s*([^\]]*)\]?"
)  # `[created:: 2026-03-01]`, as some tools write facts in a line
TITLE = re.compile(r"^# +([^\n]{1,300}?)[ #]*$", re.MULTILINE)
LONGEST_NAME_LINE = 200  # characters; a longer line is no name of a speaker
LINK_ID = re.compile(r"/(?:c|chat|app|share|prompts|g/[^/\s]+/c)/([0-9A-Za-z][0-9A-Za-z_-]{7,})")

IDS = ("conversation_id", "native_id", "chat_id", "session_id", "thread_id", "uuid", "id")
LINKS = ("source", "url", "link", "chat_link", "chat_url", "source_url", "conversation_url", "permalink")
PROVIDERS = ("provider", "service", "platform", "source", "origin")
CREATED = ("created", "create_time", "created_at", "created_time", "date")
UPDATED = ("updated", "update_time", "updated_at", "modified", "last_updated")
FACTS_ABOVE = frozenset({"conversation_id", "chat_id", "provider", "model", *LINKS, *CREATED, *UPDATED})
OWN_FACTS = frozenset({"conversation_id", "provider", "native_id", "versions", "messages"})


class Spoken(NamedTuple):
    """A line that says who speaks from here on."""

    role: str
    level: int  # of the heading; 0 for a label in bold
    name: str
    detail: str  # a time or a model
    words: str  # what a label is followed by on its line


class MarkdownImporter:
    """Markdown with a heading for each message."""

    name = "markdown"
    provider = UNKNOWN
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        if peek.kind != "text":
            return None
        facts, body = read_front_matter(peek.text)
        if facts.keys() >= OWN_FACTS:
            return Recognition("a transcript that Daybook made", is_artifact=True)
        roles = {spoken.role for spoken, _ in _split_turns(body)[1]}
        if {Role.USER, Role.ASSISTANT} <= roles:
            return Recognition("headings for a person and for a model")
        if roles & {Role.USER, Role.ASSISTANT} and facts and (_find_id(facts) or _find_provider(facts) != UNKNOWN):
            return Recognition("front matter with a provider or an id, and headings with roles")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:  # noqa: ARG002
        text, skips = read_text(file)
        yield from skips
        facts, body = read_front_matter(text)
        head, turns = _split_turns(body)
        facts = _read_facts_above(head) | facts
        provider = _find_provider(facts)
        if provider == UNKNOWN:
            provider = next((name for spoken, _ in turns if (name := _provider_of(spoken)) != UNKNOWN), UNKNOWN)
        native_id = _find_id(facts)
        context: dict[str, Json] = {"provider": provider, "file_name": _stem(file.name)}
        if native_id is None:
            context["is_id_derived"] = True
        yield Record(native_id or _derive_id(facts, turns), file.name, text, context)

    def parse(self, record: Record) -> Parsed:
        context = object_of(record.context)
        facts, body = read_front_matter(record.value if isinstance(record.value, str) else "")
        head, turns = _split_turns(body)
        front_matter, facts = facts, _read_facts_above(head) | facts
        conversation = Conversation(str(context.get("provider") or UNKNOWN), record.key, is_migrated=True)
        conversation.is_id_derived = bool(context.get("is_id_derived"))
        conversation.is_append_only = True
        conversation.model = _text(facts, "model")
        conversation.messages = [_make_message(spoken, text, conversation) for spoken, text in turns]
        settle_list(conversation)
        heading = TITLE.search(head)
        title = first_text(_text(facts, "title"), FIELD.sub("", heading[1]).strip() if heading else None)
        choose_title(conversation, (title, "provider"), (_as_text(context.get("file_name")), "file_name"))
        kept = {"front_matter": clean_value(front_matter), "preamble": TITLE.sub("", head, count=1).strip()}
        conversation.extra = {name: value for name, value in kept.items() if value}
        conversation.created = read_noted_time(_find_text(facts, CREATED), conversation, {})
        conversation.updated = read_noted_time(_find_text(facts, UPDATED), conversation, {})
        fill_times(conversation)
        return Parsed(conversation)


def _split_turns(body: str) -> tuple[str, list[tuple[Spoken, str]]]:
    """Return the text above the first message, and each message with its words.

    A heading within a block of code is none; one whose level is not that of the first heading of its role belongs
    to the words. Labels in bold count only where there are no headings.
    """
    lines = list(_mark_speakers(body))
    has_headings = any(spoken and spoken.level for _, spoken in lines)
    levels: dict[str, int] = {}
    head: list[str] = []
    turns: list[tuple[Spoken, list[str]]] = []
    for line, spoken in lines:
        if (
            spoken
            and bool(spoken.level) == has_headings
            and levels.setdefault(spoken.role, spoken.level) == spoken.level
        ):
            turns.append((spoken, [spoken.words] if spoken.words else []))
        else:
            (turns[-1][1] if turns else head).append(line)
    return "\n".join(head), [(spoken, _trim("\n".join(words))) for spoken, words in turns]


def _mark_speakers(body: str) -> Iterator[tuple[str, Spoken | None]]:
    fence = ""
    for line in body.replace("\r\n", "\n").split("\n"):
        match = FENCE.match(line)
        if fence:
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
            yield line, None
        elif match:
            fence = match[1]
            yield line, None
        else:
            yield line, _read_speaker(line)


def _read_speaker(line: str) -> Spoken | None:
    if len(line) > LONGEST_NAME_LINE and not line.startswith("**"):
        return None
    heading = HEADING.fullmatch(line)
    if heading:
        return _read_name(heading[2], len(heading[1]), "")
    label = LABEL.fullmatch(line.strip())
    if label and (label[2] or label[1].rstrip().endswith((":", "："))):
        return _read_name(label[1], 0, label[3])
    return None


def _read_name(text: str, level: int, words: str) -> Spoken | None:
    said = SPOKEN.fullmatch(ORNAMENT.sub("", text))
    if not said:
        return None
    name = SAID.sub("", said[1].strip())
    role = ROLE_BY_NAME.get(" ".join(name.lower().split()))
    detail = " · ".join(part.strip() for part in said.groups()[1:] if part and part.strip())
    return Spoken(role, level, name, detail, words) if role else None


def _read_facts_above(head: str) -> dict[str, Any]:
    """Return what some tools write above the first message in place of front matter: `**Link:** https://…`."""
    found = (FACT.fullmatch(line) for line in head.split("\n") if len(line) <= LONGEST_NAME_LINE)
    facts: dict[str, Any] = dict(FIELD.findall(head))
    facts |= {"_".join(line[1].lower().split()): line[2] for line in found if line}
    return {name: value for name, value in facts.items() if name in FACTS_ABOVE}


def _trim(text: str) -> str:
    """Return a message's words without the empty lines around them, and without the rule that ends many."""
    text = text.strip("\n")
    return re.sub(r"\n+[ ]{0,3}(?:-{3,}|\*{3,}|_{3,})[ ]*\Z", "", text).rstrip()


def _make_message(spoken: Spoken, text: str, conversation: Conversation) -> Message:
    time, named = _read_detail(spoken.detail)
    message = Message("", role=spoken.role, extra={"heading": f"{spoken.name} {spoken.detail}".strip()})
    message.created = read_noted_time(time, conversation, {})
    message.origin = Origin.HUMAN if spoken.role == Role.USER else None
    message.hidden = "context" if spoken.role == Role.SYSTEM else None
    if spoken.role == Role.ASSISTANT:
        message.model = named or conversation.model
    kind = Kind.TOOL_RESULT if spoken.role == Role.TOOL else Kind.TEXT
    message.blocks = [Block(kind, text)] if text else []
    return message


def _read_detail(detail: str) -> tuple[str | None, str | None]:
    """Return the time, as it stands there, and the model beside a name, such as `gpt-4 · 2026-03-01 10:00`."""
    detail = FIELD.sub(r"\2", detail)
    pieces = [detail, *re.split(r"\s*[·•|,]\s*", detail)]
    times = [piece if read_time(piece) else None for piece in pieces]
    others = [piece for piece, time in zip(pieces[1:], times[1:], strict=True) if piece and not time]
    return next(filter(None, times), None), None if times[0] else next(iter(others), None)


def _find_id(facts: dict[str, Any]) -> str | None:
    links = (match[1] for name in LINKS if (match := LINK_ID.search(_text(facts, name) or "")))
    return first_text(next(links, None), *(_text(facts, name) for name in IDS))


def _find_provider(facts: dict[str, Any]) -> str:
    named = (name_provider(_text(facts, name)) for name in (*PROVIDERS, *LINKS))
    return next((name for name in named if name != UNKNOWN), UNKNOWN)


def _provider_of(spoken: Spoken) -> str:
    """Return the provider that the name of a speaker tells: "ChatGPT" does, "Assistant" does not."""
    name = name_provider(spoken.name)
    return (
        name
        if spoken.role == Role.ASSISTANT and name in ("chatgpt", "claude", "claude_code", "codex", "gemini")
        else UNKNOWN
    )


def _derive_id(facts: dict[str, Any], turns: Sequence[tuple[Spoken, str]]) -> str:
    prompts = (text for spoken, text in turns if spoken.role == Role.USER)
    return derive_id("markdown", _find_text(facts, CREATED), next(prompts, None), _text(facts, "title"))


def _find_text(facts: dict[str, Any], names: Sequence[str]) -> str | None:
    return first_text(*(_text(facts, name) for name in names))


def _text(facts: dict[str, Any], name: str) -> str | None:
    value = _as_text(facts.get(name))
    return str(clean_value(value)) if value else None


def _as_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _stem(name: str) -> str | None:
    base = name.rpartition("/")[2]
    return re.sub(r"\.(?:md|markdown|txt)$", "", base, flags=re.IGNORECASE) or None
