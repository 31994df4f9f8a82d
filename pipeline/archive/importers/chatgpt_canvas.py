"""Canvas documents of ChatGPT: a call writes one, later calls change it by patterns, so the versions can be made again.

Along each branch: canmore.create_textdoc gives version 1; each canmore.update_textdoc applies its patterns to the
version before. Patterns are regular expressions that a model wrote. Those that are used are plain words and gaps
(`.*`); they are applied here by searching for the words, so that no pattern, however built, can take long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.archive.conversations import Attachment, AttachmentStatus, Block, Conversation, Kind, Message
from pipeline.archive.importers.values import count_of, object_of, objects_of, text_of
from store.identity import hash_bytes

CREATE, UPDATE = "canmore.create_textdoc", "canmore.update_textdoc"
# Counted in the conversation's warnings:
UNMATCHED = "canvas_update_not_applied"
TOO_LARGE = "canvas_version_left_out"
LARGEST_CONTENT = 4 << 20  # characters of one version: patterns can make much of little
LARGEST_TOTAL = 64 << 20  # characters of all versions in one conversation
MOST_DOCUMENTS = 100  # of one branch that can still be changed
FORM_BY_TYPE = {  # of a document: its ending, and its type
    "document": ("md", "text/markdown"),
    "code/python": ("py", "text/x-python"),
    "code/javascript": ("js", "text/javascript"),
    "code/typescript": ("ts", "text/plain"),
    "code/html": ("html", "text/html"),
    "code/java": ("java", "text/plain"),
    "code/c": ("c", "text/plain"),
    "code/cpp": ("cpp", "text/plain"),
    "code/bash": ("sh", "text/plain"),
    "code/json": ("json", "application/json"),
}
GAP = re.compile(r"(?:\.|\[\\s\\S\]|\[\\S\\s\]|\(\.\|\\n\))([*+])(\?)?")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
OPERATORS = frozenset("^$*+?{}[]|()")  # of a regular expression; a dot alone is taken for itself


class Version(NamedTuple):
    """A canvas document after a call."""

    canvas_id: str
    title: str | None
    kind: str
    number: int
    content: str


Versions = dict[str, Version]  # the documents of a branch as they stand, the one touched last at the end


def add_canvas_versions(conversation: Conversation) -> dict[str, bytes]:
    """Add each version of each document to the message whose call made it; return their bytes by name in extras/.

    `messages` has every parent before its children.
    """
    if not any(_is_call(block) for message in conversation.messages for block in message.blocks):
        return {}
    facts_by_call = _list_facts(conversation)
    versions_by_message: dict[str, Versions] = {}
    extras: dict[str, bytes] = {}
    total = 0
    for message in conversation.messages:
        versions = versions_by_message.get(message.parent or "", {})
        for call in _list_calls(message):
            version = _apply(call, versions, facts_by_call.get(call.call_id or "", {}), conversation)
            if version is None:
                continue
            versions = _with_version(versions, version)
            total += len(version.content)
            if total > LARGEST_TOTAL:
                _warn(conversation, TOO_LARGE)
            else:
                message.blocks.append(Block(Kind.ATTACHMENT, attachment=_attach(version, extras)))
        versions_by_message[message.key] = versions
    return extras


def _with_version(versions: Versions, version: Version) -> Versions:
    others = [item for item in versions.items() if item[0] != version.canvas_id]
    return {**dict(others[1 - MOST_DOCUMENTS :]), version.canvas_id: version}


def _warn(conversation: Conversation, what: str) -> None:
    conversation.warnings[what] = conversation.warnings.get(what, 0) + 1


def attach_final_text(conversation: Conversation, canvas_id: str, document: dict[str, Any]) -> dict[str, bytes]:
    """Add the text that the export has of a document, as it stands now; return its bytes by name in extras/."""
    content = document.get("content")
    if not isinstance(content, str):
        return {}
    extras: dict[str, bytes] = {}
    kind, number = text_of(document.get("textdoc_type")) or "document", count_of(document.get("version")) or 0
    attachment = _attach(Version(canvas_id, text_of(document.get("title")), kind, number, content), extras)
    attachment.extra["version"] = "final"
    conversation.attachments.append(attachment)
    return extras


def list_canvas_ids(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the id of the document that a message is about."""
    if canvas_id := text_of(object_of(metadata.get("canvas")).get("textdoc_id")):
        yield canvas_id


def _list_calls(message: Message) -> list[Block]:
    return [block for block in message.blocks if _is_call(block)]


def _is_call(block: Block) -> bool:
    return block.tool_name in (CREATE, UPDATE) and block.kind == Kind.TOOL_USE and isinstance(block.input, dict)


def _list_facts(conversation: Conversation) -> dict[str, dict[str, Any]]:
    """Return what the answer to each call says of the document: its id, title and version."""
    facts_by_call: dict[str, dict[str, Any]] = {}
    for message in conversation.messages:
        canvas = object_of(object_of(message.extra.get("metadata")).get("canvas"))
        for block in message.blocks if canvas else ():
            if block.kind == Kind.TOOL_RESULT and block.call_id:
                facts_by_call.setdefault(block.call_id, canvas)
    return facts_by_call


def _apply(call: Block, versions: Versions, facts: dict[str, Any], conversation: Conversation) -> Version | None:
    arguments, number = object_of(call.input), count_of(facts.get("version"))
    title = text_of(facts.get("title")) or text_of(arguments.get("name"))
    if call.tool_name == CREATE:
        content = arguments.get("content")
        if not isinstance(content, str):
            return None
        canvas_id = text_of(facts.get("textdoc_id")) or str(call.call_id)
        kind = text_of(arguments.get("type")) or text_of(facts.get("textdoc_type")) or "document"
        return Version(canvas_id, title, kind, number or 1, content)
    before = _choose_document(versions, text_of(facts.get("textdoc_id")))
    updated = _update(before.content, objects_of(arguments.get("updates"))) if before else None
    if before is None or updated is None:
        _warn(conversation, UNMATCHED)
        return None
    return before._replace(content=updated, number=number or before.number + 1, title=title or before.title)


def _choose_document(versions: Versions, canvas_id: str | None) -> Version | None:
    if canvas_id is not None:
        return versions.get(canvas_id)
    return list(versions.values())[-1] if versions else None


def _update(content: str, updates: list[dict[str, Any]]) -> str | None:
    """Return the content after all updates; None if a pattern is not found, or what comes out is too large."""
    for update in updates:
        pattern, replacement = update.get("pattern"), update.get("replacement")
        if not isinstance(pattern, str) or not isinstance(replacement, str):
            return None
        spans = list(find_spans(pattern, content, is_multiple=update.get("multiple") is True))
        removed = sum(stop - start for start, stop in spans)
        if not spans or len(content) - removed + len(spans) * len(replacement) > LARGEST_CONTENT:
            return None
        ends = [0, *(stop for _, stop in spans)]
        kept = [content[end:start] for end, (start, _) in zip(ends, spans, strict=False)]
        content = replacement.join([*kept, content[ends[-1] :]])
    return content if updates else None


def find_spans(pattern: str, content: str, *, is_multiple: bool) -> Iterator[tuple[int, int]]:
    r"""Yield where a pattern is in a text, from left to right, the first place only unless it `is_multiple`.

    >>> list(find_spans(r"b.*?d\n", "ab cd\nab cd\n", is_multiple=True))
    [(1, 6), (7, 12)]
    """
    pieces = _read_pattern(pattern)
    if pieces is None:
        pieces = [pattern]  # models forget to escape: perhaps it stands there as it is
    at = 0
    while (span := _find(pieces, content, at)) is not None:
        yield span
        at = max(span[1], span[0] + 1)
        if not is_multiple or at > len(content):
            return


class _Gap(NamedTuple):
    fewest: int
    is_greedy: bool


def _read_pattern(pattern: str) -> list[str | _Gap] | None:
    """Return words and gaps by turns, or None for a regular expression that has more than these."""
    pieces: list[str | _Gap] = [""]
    at = 0
    while at < len(pattern):
        if gap := GAP.match(pattern, at):
            pieces += [_Gap(int(gap[1] == "+"), gap[2] is None), ""]
            at = gap.end()
            continue
        character = pattern[at]
        if character == "\\":
            at += 1
            escaped = pattern[at : at + 1]
            if not escaped or (escaped.isalnum() and escaped not in ESCAPES):
                return None
            character = ESCAPES.get(escaped, escaped)
        elif character in OPERATORS:
            return None
        pieces[-1] = f"{pieces[-1]}{character}"
        at += 1
    return pieces


def _find(pieces: list[str | _Gap], content: str, at: int) -> tuple[int, int] | None:
    """Return where words and gaps are met in their order, from `at` on. Gaps go over the ends of lines."""
    words = [piece for piece in pieces if isinstance(piece, str)]
    gaps = [piece for piece in pieces if isinstance(piece, _Gap)]
    start = content.find(words[0], at)
    if start < 0:
        return None
    stop = start + len(words[0])
    for number, (gap, word) in enumerate(zip(gaps, words[1:], strict=True), 1):
        is_last = number == len(gaps)
        earliest = stop + gap.fewest
        found = content.rfind(word, earliest) if gap.is_greedy and is_last else content.find(word, earliest)
        if found < 0:
            return None
        stop = found + len(word)
    return (start, stop) if stop > start or not content else None


def _attach(version: Version, extras: dict[str, bytes]) -> Attachment:
    content = version.content.encode("utf-8", "replace")
    ending, mime_type = FORM_BY_TYPE.get(version.kind, ("txt", "text/plain"))
    digest = hash_bytes(content)
    extra_file = f"canvas-{digest[:16]}.{ending}"
    extras[extra_file] = content
    return Attachment(
        id=version.canvas_id,
        name=f"{version.title or 'canvas'}.{ending}",
        mime_type=mime_type,
        size_bytes=len(content),
        purpose="document",
        status=AttachmentStatus.PRESENT,
        blake3=digest,
        extra_file=extra_file,
        extra={"version": version.number, "type": version.kind},
    )
