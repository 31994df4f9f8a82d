"""Google AI Studio: prompts as they lie on Drive, one file a chat, and captures that wrap them.

Source: the Drive folder "Google AI Studio", as of mid 2026. A file has no id and no title of its own: its name is the
title. Chunks are in order and have no ids; edits overwrite them in place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from pipeline.archive.conversations import (
    Attachment,
    AttachmentStatus,
    Block,
    Conversation,
    Json,
    Kind,
    Lineage,
    Message,
    Origin,
    Role,
    Usage,
)
from pipeline.archive.importers.cut_files import PARTIAL, PARTIAL_KEY, read_beginning, read_file
from pipeline.archive.importers.gemini_parts import read_functions
from pipeline.archive.importers.inline_files import block_of, decode_base64, keep_inline
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.linear import derive_id, settle_list
from pipeline.archive.importers.odd_values import UNKNOWN_TYPE, read_noted_time, warn
from pipeline.archive.importers.siblings import Siblings, attach_file, tell_files
from pipeline.archive.importers.values import (
    count_of,
    first_text,
    list_of,
    object_of,
    objects_of,
    rest_of,
    text_of,
    without_secrets,
)
from pipeline.archive.titles import choose_title

ROLES = {"user": Role.USER, "model": Role.ASSISTANT, "system": Role.SYSTEM}
DRIVE_FILES = {"driveDocument": "document", "driveImage": "image", "driveAudio": "audio", "driveVideo": "video"}
INLINE_FILES = ("inlineFile", "inlineImage", "inlineAudio", "inlineData")
CONTENT = frozenset(
    {
        "text",
        "parts",
        "executableCode",
        "codeExecutionResult",
        "errorMessage",
        "youtubeVideo",
        "fileData",
        *DRIVE_FILES,
        *INLINE_FILES,
    }
)
READ_KEYS = CONTENT | {
    "role",
    "id",
    "isThought",
    "finishReason",
    "createTime",
    "grounding",
}
# Fields that tell of a chunk, and hold none of its content.
ABOUT_CHUNKS = frozenset(
    {"tokenCount", "thinkingBudget", "thinkingLevel", "thoughtSignatures", "safetyRatings", "isEdited"}
    | {"branchParent", "branchChildren", "videoMetadata"}
)
KNOWN_OF_PART = CONTENT | {"thought", "functionCall", "functionResponse", "videoMetadata"}
TOP_KEYS = frozenset(
    {
        "id",
        "title",
        "displayName",
        "createTime",
        "updateTime",
        "chunkedPrompt",
        "chunks",
        "runSettings",
        "systemInstruction",
    }
)
CHUNK_PLACES = ("chunkedPrompt.chunks.item", "chunks.item", "item")
ON_DRIVE = "a file on Google Drive that is not in the export"
OTHER_PROMPTS = ("testExamples", "inputBindings", "freeformPrompt", "structuredPrompt")


class AiStudioImporter:
    """Prompts of Google AI Studio."""

    name = "ai_studio"
    provider = "ai_studio"
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        if peek.kind not in ("object", "array", "lines"):
            return None
        values = [value for value in peek.items if isinstance(value, dict)]
        if any(any(map(_is_chunk, _chunks_of(value))) for value in values):
            return Recognition("chunks with a role and content")
        if peek.kind == "array" and any(map(_is_chunk, values)):
            return Recognition("a list of chunks with a role and content")
        if peek.kind == "object" and any(map(_is_other_prompt, values)):
            return Recognition("a prompt of AI Studio that is no chat", is_artifact=True)
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        """Yield the chat of a file, or each of a list of captures."""
        read = read_file(file, CHUNK_PLACES)
        yield from read.skips
        value = read.value if read.is_whole else _make_partial(file, read.elements)
        beside = Siblings(file, siblings)
        prompts = value if isinstance(value, list) and not any(map(_is_chunk, value)) else [value]
        for place, prompt in enumerate(prompts):
            where = file.name if len(prompts) == 1 else f"{file.name}[{place}]"
            prompt = {"chunks": prompt} if isinstance(prompt, list) else prompt
            if not isinstance(prompt, dict) or not _chunks_of(prompt):
                yield Skip("no_chunks", where, "a prompt without a list of chunks")
                continue
            yield _make_record(prompt, where, file=file, beside=beside)

    def parse(self, record: Record) -> Parsed:
        prompt = object_of(record.value)
        context = object_of(record.context)
        conversation = Conversation(self.provider, record.key, is_append_only=True)
        conversation.is_id_derived = bool(context.get("is_id_derived"))
        _read_settings(conversation, prompt)
        extras: dict[str, bytes] = {}
        turn = 0
        for place, chunk in enumerate(_chunks_of(prompt)):
            message = _read_chunk(conversation, chunk, context=context, extras=extras)
            turn += message.role == Role.USER
            message.key, message.group = str(place), f"turn {turn}" if message.role == Role.ASSISTANT else None
            conversation.lineage += _read_branches(object_of(chunk), message.key)
            conversation.messages.append(message)
        _add_instruction(conversation, prompt)
        settle_list(conversation, has_ids=True)
        title = first_text(prompt.get("title"), prompt.get("displayName"))
        choose_title(conversation, (title, "provider"), (text_of(context.get("title")), "file_name"))
        return Parsed(conversation, extras)


def _make_partial(file: Member, elements: list[Any]) -> Any:
    """Return the prompt of a file of which only some chunks can be read, or the prompts of a list of such."""
    if not any(map(_is_chunk, elements)):
        return elements
    settings = object_of(read_beginning(file, ["runSettings"]).get("runSettings"))
    model = {"runSettings": {"model": settings["model"]}} if "model" in settings else {}
    return {**model, "chunkedPrompt": {"chunks": elements}, PARTIAL_KEY: True}


def _chunks_of(prompt: dict[str, Any]) -> list[Any]:
    return list_of(object_of(prompt.get("chunkedPrompt")).get("chunks")) or list_of(prompt.get("chunks"))


def _is_other_prompt(value: dict[str, Any]) -> bool:
    """Whether a value is a prompt with examples or variables, which has no chunks."""
    return len({"runSettings", *OTHER_PROMPTS} & value.keys()) > 1


def _is_chunk(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and bool(CONTENT & value.keys())


def _make_record(prompt: dict[str, Any], place: str, *, file: Member, beside: Siblings) -> Record:
    native_id = text_of(prompt.get("id"))
    drives = [drive for chunk in _chunks_of(prompt) for drive in _drive_files(object_of(chunk))]
    files = tell_files((drive["id"], _find_drive_file(drive, beside)) for drive in drives)
    context: dict[str, Json] = {"title": _title_of(file.name), "files": files.facts}
    if native_id is None:
        context["is_id_derived"] = True
    said = {name: value for name, value in context.items() if value}
    return Record(native_id or _derive_id(prompt), place, prompt, context=said, sources=files.exports)


def _title_of(name: str) -> str | None:
    base = name.rpartition("/")[2].removesuffix(".json")
    return None if base in ("", "-") else base


def _derive_id(prompt: dict[str, Any]) -> str:
    """Return an id made of the first turn of the user, which stays when the chat grows.

    A copy made by branching begins with the same turn, and names the prompt that it was made from.
    """
    chunks = [object_of(chunk) for chunk in _chunks_of(prompt)]
    turn: list[Json] = []
    for chunk in chunks:
        if turn and chunk.get("role") != "user":
            break
        turn.append({name: chunk[name] for name in sorted(CONTENT | {"role", "createTime"}) if name in chunk})
    parents = (_prompt_id(chunk.get("branchParent")) for chunk in chunks)
    return derive_id("ai_studio", without_secrets(turn), next((parent for parent in parents if parent), None))


def _drive_files(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in DRIVE_FILES:
        drive = object_of(chunk.get(name))
        if text_of(drive.get("id")):
            yield drive


def _find_drive_file(drive: dict[str, Any], beside: Siblings) -> Member | None:
    """Return the file beside the prompt that was fetched under its id, or that has the name that a capture tells."""
    name = text_of(drive.get("name"))
    return beside.find_by_id(drive["id"]) or (beside.find(name) if name else None)


def _read_settings(conversation: Conversation, prompt: dict[str, Any]) -> None:
    settings = {name: prompt[name] for name in ("systemInstruction", "runSettings") if prompt.get(name)}
    conversation.settings = without_secrets(settings) or None
    model = text_of(object_of(prompt.get("runSettings")).get("model"))
    conversation.model = model.removeprefix("models/") if model else None
    conversation.extra = rest_of(prompt, TOP_KEYS | {PARTIAL_KEY})
    if prompt.get(PARTIAL_KEY) is True:
        warn(conversation, PARTIAL)
    conversation.created = read_noted_time(prompt.get("createTime"), conversation, conversation.extra)
    conversation.updated = read_noted_time(prompt.get("updateTime"), conversation, conversation.extra)
    chunked = object_of(prompt.get("chunkedPrompt"))
    drafts = [draft for draft in objects_of(chunked.get("pendingInputs")) if text_of(draft.get("text"))]
    if drafts:
        conversation.extra["drafts"] = without_secrets(drafts)
    conversation.extra |= rest_of(chunked, {"chunks", "pendingInputs"})


def _add_instruction(conversation: Conversation, prompt: dict[str, Any]) -> None:
    """Put the system instruction before the first message, as context: it is no message of the chat."""
    text = _read_instruction(prompt.get("systemInstruction"))
    if text and conversation.messages:
        block = Block(Kind.CONTEXT, text, origin=Origin.RUNTIME_CONTEXT, flags=["system_instruction"])
        conversation.messages[0].blocks.insert(0, block)


def _read_instruction(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    record = object_of(value)
    parts = (text_of(part.get("text")) for part in objects_of(record.get("parts")))
    return text_of(record.get("text")) or "".join(part for part in parts if part) or None


def _read_chunk(conversation: Conversation, value: Any, *, context: Json, extras: dict[str, bytes]) -> Message:
    chunk = object_of(value)
    role = ROLES.get(text_of(chunk.get("role")) or "", Role.UNKNOWN)
    message = Message(key="", role=role, native_id=text_of(chunk.get("id")), extra=rest_of(chunk, READ_KEYS))
    message.origin = Origin.HUMAN if role == Role.USER else None
    message.created = read_noted_time(chunk.get("createTime"), conversation, message.extra)
    message.status = text_of(chunk.get("finishReason"))
    if role == Role.ASSISTANT:
        message.model = conversation.model
        tokens = count_of(chunk.get("tokenCount"))
        message.usage = Usage(output_tokens=tokens) if tokens is not None else None
    message.blocks = [*_read_texts(chunk, message), *_read_code(chunk), *_read_files(chunk, context, extras)]
    for part in objects_of(chunk.get("parts")):
        message.blocks += [*_read_code(part), *read_functions(part), *_read_files(part, context, extras)]
        message.blocks += _keep_unknown(part, KNOWN_OF_PART, conversation)
    error = text_of(chunk.get("errorMessage"))
    if error:
        message.blocks.append(Block(Kind.TEXT, error, flags=["error"]))
    message.blocks += _read_grounding(chunk, message)
    if not isinstance(value, dict):
        warn(conversation, UNKNOWN_TYPE)
        message.blocks.append(Block(Kind.CONTEXT, flags=[UNKNOWN_TYPE], raw=value))
    if not message.blocks:
        message.blocks += _keep_unknown(chunk, READ_KEYS | ABOUT_CHUNKS, conversation)
    message.hidden = None if message.blocks else "empty"
    return message


def _keep_unknown(part: dict[str, Any], known: Collection[str], conversation: Conversation) -> Iterator[Block]:
    """Yield what a chunk or a part holds in fields that nobody knows."""
    rest = {name: value for name, value in rest_of(part, known).items() if value not in ("", [], {})}
    if rest:
        warn(conversation, UNKNOWN_TYPE)
        yield Block(Kind.CONTEXT, flags=[UNKNOWN_TYPE], raw=rest)


def _read_texts(chunk: dict[str, Any], message: Message) -> list[Block]:
    """Return the words of a chunk: its text, or else its parts, which repeat it in pieces."""
    text = text_of(chunk.get("text"))
    kind = Kind.THINKING if chunk.get("isThought") is True else Kind.TEXT
    parts = _join_parts(chunk, kind)
    if text is None:
        return parts
    if "".join(part.text or "" for part in parts) not in ("", text):
        # The parts say more than the text: thoughts are shown, all else is kept.
        thoughts = [part for part in parts if part.kind == Kind.THINKING and (part.text or "") not in text]
        message.extra["parts"] = [{"kind": str(part.kind), "text": part.text} for part in parts]
        return [*thoughts, Block(kind, text)] if kind == Kind.TEXT else [Block(kind, text)]
    return [Block(kind, text)]


def _join_parts(chunk: dict[str, Any], kind: str) -> list[Block]:
    """Return the texts of the parts; neighbours of one kind are pieces of one block."""
    blocks: list[Block] = []
    for part in objects_of(chunk.get("parts")):
        text = text_of(part.get("text"))
        if text is None:
            continue
        own = Kind.THINKING if part.get("thought") is True else kind
        if blocks and blocks[-1].kind == own:
            blocks[-1].text = (blocks[-1].text or "") + text
        else:
            blocks.append(Block(own, text))
    return blocks


def _read_code(chunk: dict[str, Any]) -> Iterator[Block]:
    code, result = chunk.get("executableCode"), chunk.get("codeExecutionResult")
    if isinstance(code, dict):
        source = text_of(code.get("code"))
        language = (text_of(code.get("language")) or "").lower() or None
        extra = rest_of(code, {"code", "language"})
        yield Block(Kind.TOOL_USE, tool_name="code_execution", language=language, input={"code": source}, extra=extra)
    if isinstance(result, dict):
        outcome = text_of(result.get("outcome"))
        is_error = None if outcome is None else outcome != "OUTCOME_OK"
        text = text_of(result.get("output")) or ""
        extra = rest_of(result, {"output"})
        yield Block(Kind.TOOL_RESULT, text, tool_name="code_execution", is_error=is_error, extra=extra)


def _read_files(chunk: dict[str, Any], context: Json, extras: dict[str, bytes]) -> Iterator[Block]:
    for name, kind in DRIVE_FILES.items():
        drive = chunk.get(name)
        if isinstance(drive, dict):
            yield block_of(_read_drive_file(drive, kind, context))
    for name in INLINE_FILES:
        inline = chunk.get(name)
        if isinstance(inline, dict):
            content = decode_base64(text_of(inline.get("data")) or "") or None
            facts = {"purpose": "generated" if chunk.get("role") == "model" else "inline"}
            yield block_of(
                keep_inline(extras, content, first_text(inline.get("mimeType"), inline.get("mime_type")), **facts)
            )
    video, linked = chunk.get("youtubeVideo"), chunk.get("fileData")
    if isinstance(video, dict):
        yield block_of(_read_video(video))
    if isinstance(linked, dict):
        url, mime_type = text_of(linked.get("fileUri")), text_of(linked.get("mimeType"))
        yield block_of(Attachment(status=AttachmentStatus.EXTERNAL, purpose="link", url=url, mime_type=mime_type))


def _read_drive_file(drive: dict[str, Any], kind: str, context: Json) -> Attachment:
    drive_id = text_of(drive.get("id")) or ""
    facts: dict[str, Any] = {
        "id": drive_id or None,
        "mime_type": text_of(drive.get("mimeType")),
        "purpose": "upload",
        "extra": {"drive": kind, **rest_of(drive, {"id", "name", "mimeType", "sizeBytes"})},
    }
    if text_of(drive.get("name")):
        facts["name"] = drive["name"]
    attachment = attach_file(context, drive_id, reason=ON_DRIVE, **facts)
    attachment.size_bytes = attachment.size_bytes or count_of(drive.get("sizeBytes"))
    return attachment


def _read_video(video: dict[str, Any]) -> Attachment:
    video_id = text_of(video.get("id"))
    url = text_of(video.get("url")) or (f"https://www.youtube.com/watch?v={video_id}" if video_id else None)
    extra = rest_of(video, {"id", "url"})
    return Attachment(id=video_id, status=AttachmentStatus.EXTERNAL, purpose="link", url=url, extra=extra)


def _read_grounding(chunk: dict[str, Any], message: Message) -> Iterator[Block]:
    """Yield the sources of an answer, as citations. What they support is kept beside them."""
    grounding = object_of(chunk.get("grounding"))
    for source in objects_of(grounding.get("groundingSources")):
        yield _cite(source, number=source.get("referenceNumber"))
    for source in objects_of(grounding.get("groundingChunks")):
        yield _cite(object_of(source.get("web")) or source, number=None)
    rest = rest_of(grounding, {"groundingSources", "groundingChunks"})
    if rest:
        message.extra["grounding"] = rest


def _cite(source: dict[str, Any], *, number: Any) -> Block:
    url, title = text_of(source.get("uri")), text_of(source.get("title"))
    extra = {"url": url, "number": count_of(number), **rest_of(source, {"uri", "title", "referenceNumber"})}
    return Block(Kind.CITATION, title or url, extra={name: value for name, value in extra.items() if value is not None})


def _read_branches(chunk: dict[str, Any], key: str) -> Iterator[Lineage]:
    """Yield links to the prompt that this one was branched from, and to those that were branched from it."""
    parent = _prompt_id(chunk.get("branchParent"))
    if parent:
        yield Lineage("branch", parent, message=key)
    for child in list_of(chunk.get("branchChildren")):
        found = _prompt_id(child)
        if found:
            yield Lineage("branch_child", found, message=key)


def _prompt_id(link: Any) -> str | None:
    found = text_of(object_of(link).get("promptId"))
    return found.removeprefix("prompts/") if found else None
