"""Artifacts: documents that Claude wrote and rewrote by calls. Every version becomes a file, along each branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversations import Block, Kind, Message
from pipeline.archive.importers.claude_branches import follow_branches
from pipeline.archive.importers.inline_files import block_of, keep_inline
from pipeline.archive.importers.values import object_of, text_of

TOOL = "artifacts"
SUFFIX_BY_TYPE = {
    "text/markdown": ".md",
    "text/html": ".html",
    "image/svg+xml": ".svg",
    "application/vnd.ant.react": ".jsx",
    "application/vnd.ant.mermaid": ".mmd",
}
SUFFIX_BY_LANGUAGE = {
    "bash": ".sh",
    "c": ".c",
    "c++": ".cpp",
    "cpp": ".cpp",
    "css": ".css",
    "go": ".go",
    "html": ".html",
    "java": ".java",
    "javascript": ".js",
    "json": ".json",
    "python": ".py",
    "ruby": ".rb",
    "rust": ".rs",
    "sql": ".sql",
    "typescript": ".ts",
    "yaml": ".yaml",
}


class Version(NamedTuple):
    """An artifact as one call left it."""

    number: int
    text: str
    title: str | None
    type: str | None
    language: str | None


Versions = Mapping[str | None, Version]  # the latest of each artifact, by its id


def add_artifacts(messages: Sequence[Message], extras: dict[str, bytes], warnings: Counter[str]) -> None:
    """Put each version of an artifact as an attachment behind the call that made it."""
    if not any(_is_call(block) for message in messages for block in message.blocks):
        return

    def learn(message: Message, versions: Versions) -> Versions:
        if not any(_is_call(block) for block in message.blocks):
            return versions
        latest = dict(versions)
        blocks: list[Block] = []
        for block in message.blocks:
            blocks.append(block)
            if _is_call(block):
                blocks += _follow_call(block, latest, extras, warnings)
        message.blocks = blocks
        return latest

    none_written: Versions = {}
    follow_branches(messages, none_written, learn)


def _is_call(block: Block) -> bool:
    return block.kind == Kind.TOOL_USE and block.tool_name == TOOL


def _follow_call(
    call: Block, latest: dict[str | None, Version], extras: dict[str, bytes], warnings: Counter[str]
) -> list[Block]:
    fields = object_of(call.input)
    artifact_id = text_of(fields.get("id"))
    version = _make_version(fields, latest.get(artifact_id))
    if version is None:
        call.flags.append("artifact_not_rebuilt")
        warnings["artifact_not_rebuilt"] += 1
        return []
    latest[artifact_id] = version
    attachment = keep_inline(
        extras,
        version.text.encode(),
        version.type,
        id=text_of(fields.get("version_uuid")),
        name=_name_version(version, artifact_id),
        purpose="artifact",
        extra={"artifact": artifact_id, "version": version.number}
        | ({"language": version.language} if version.language else {}),
    )
    return [block_of(attachment)]


def _make_version(fields: dict[str, Any], before: Version | None) -> Version | None:
    """Return the artifact after a call, or None where the call does not fit what is there."""
    text = _write_text(fields, before)
    if text is None:
        return None
    return Version(
        number=before.number + 1 if before else 1,
        text=text,
        title=text_of(fields.get("title")) or (before.title if before else None),
        type=text_of(fields.get("type")) or (before.type if before else None),
        language=text_of(fields.get("language")) or (before.language if before else None),
    )


def _write_text(fields: dict[str, Any], before: Version | None) -> str | None:
    if fields.get("command") in ("create", "rewrite"):
        content = fields.get("content")
        return content if isinstance(content, str) else None
    old, new = fields.get("old_str"), fields.get("new_str")
    if fields.get("command") != "update" or before is None or not isinstance(old, str) or not isinstance(new, str):
        return None
    return before.text.replace(old, new) if before.text.count(old) == 1 else None


def _name_version(version: Version, artifact_id: str | None) -> str:
    name = version.title or artifact_id or "artifact"
    suffix = SUFFIX_BY_TYPE.get(version.type or "") or SUFFIX_BY_LANGUAGE.get((version.language or "").lower(), "")
    return name if not suffix or name.lower().endswith(suffix) else name + suffix
