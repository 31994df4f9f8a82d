"""Blocks of a ChatGPT message: what stands in `content`, by its content_type, and what `metadata` adds to it.

    read_blocks(message) ─▶ text, code, thinking, context, tool_use, tool_result, citation, attachment

A content_type that nobody knows is kept raw and flagged `unknown_type`; its words are shown, if it has any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.archive.conversations import Block, Kind, Role
from pipeline.archive.importers.chatgpt_attachments import Attachments, collect_pointers
from pipeline.archive.importers.chatgpt_citations import has_marks, take_citations
from pipeline.archive.importers.chatgpt_values import keep_rest, read_json_object
from pipeline.archive.importers.values import list_of, object_of, objects_of, text_of

NOT_A_TOOL = frozenset({"all", "assistant", "user"})  # recipients that are people and the model
SAYS_NOTHING = frozenset({"", "None", "none"})  # how exports write an empty profile
CONTEXT_TYPES = frozenset({"user_editable_context", "model_editable_context"})
KNOWN_BY_NAME = ("tether_browsing_code", "app_pairing_content", "super_widget")  # what is in them, nobody has said
FAILED = ("fail", "error")  # beginnings of aggregate_result.status

# By names of this module, since a member of an enumeration is looked up slowly, and this is done for every message.
USER, ASSISTANT, TOOL = Role.USER, Role.ASSISTANT, Role.TOOL
TEXT, CODE, TOOL_RESULT = Kind.TEXT, Kind.CODE, Kind.TOOL_RESULT

FLAG_BY_END = {"interrupted": "interrupted", "max_tokens": "truncated"}
KIND_BY_FIELD: dict[str, type] = {
    **dict.fromkeys(["text", "content", "language", "url", "title", "snippet", "result", "summary", "name"], str),
    **dict.fromkeys(["user_profile", "user_instructions", "model_set_context", "repo_summary", "output_str"], str),
    "parts": list,
    "thoughts": list,
    "chunks": list,
    "state": dict,
    "metadata": dict,
}
THOUGHT_FIELDS = frozenset({"content", "summary", "chunks", "finished"})
THOUGHTS = frozenset({"thoughts", "reasoning_recap"})  # never the input of a tool

Read = Callable[[dict[str, Any], Attachments], list[Block]]


class Reader(NamedTuple):
    """How a content_type is read, and the fields that this takes in. The rest goes into `extra`."""

    read: Read
    fields: frozenset[str]


def tool_of(message: dict[str, Any]) -> str | None:
    """Return the tool that an assistant's message calls, or None."""
    recipient = message.get("recipient")
    if not recipient or not isinstance(recipient, str) or recipient in NOT_A_TOOL:
        return None
    return recipient if object_of(message.get("author")).get("role") == ASSISTANT else None


def content_type_of(message: dict[str, Any]) -> str | None:
    content = message.get("content")
    return text_of(content.get("content_type")) if isinstance(content, dict) else None


def read_blocks(message: dict[str, Any]) -> list[Block]:
    """Return the blocks of a message. Pure; what becomes of attachments and which call is answered, others say."""
    author, metadata = object_of(message.get("author")), object_of(message.get("metadata"))
    attachments, content = Attachments(), message.get("content")
    text = _plain_text_of(content)
    blocks = _read_content(content, attachments) if text is None else [Block(TEXT, text)]
    role, tool = author.get("role"), tool_of(message)
    if tool is not None and content_type_of(message) not in THOUGHTS:
        blocks = _make_call(blocks, tool)
    elif role == TOOL:
        _make_results(blocks, author.get("name"), metadata)
    elif role == ASSISTANT and blocks:
        _add_what_answers_name(blocks, metadata, attachments)
    if metadata:
        _add_metadata(blocks, metadata, attachments)
    if attachments.blocks:
        purpose = "upload" if role == USER else "generated"
        for block in attachments.blocks.values():
            if block.attachment is not None and block.attachment.purpose is None:
                block.attachment.purpose = purpose
    return blocks


def _plain_text_of(content: Any) -> str | None:
    """Return the text that a content is, as nearly all are; None for one that needs a closer look."""
    if not isinstance(content, dict) or len(content) != 2 or content.get("content_type") != "text":
        return None
    parts = content.get("parts")
    return text_of(parts[0]) if isinstance(parts, list) and len(parts) == 1 else None


def _read_content(content: Any, attachments: Attachments) -> list[Block]:
    if content is None:
        return []
    if isinstance(content, str):
        content = {"parts": [content]}
    elif isinstance(content, list):
        content = {"parts": content}
    elif not isinstance(content, dict):
        return [_keep_unknown(content, None)]
    kind = content.get("content_type")
    reader = READERS.get(kind) if isinstance(kind, str) else None
    if kind in KNOWN_BY_NAME:
        return [Block(Kind.CONTEXT, text="\n".join(_list_texts(content)) or None, raw=content)]
    if reader is None:
        return _read_unknown(content, attachments)
    blocks = reader.read(content, attachments) or _read_texts(content, KIND_OF_TEXTS.get(str(kind), TEXT))
    is_plain = len(content) <= 2 and blocks and blocks[0].text  # nearly always
    if not is_plain and (rest := _list_rest(content, reader, blocks)):
        if not blocks:
            blocks.append(Block(Kind.CONTEXT))
        blocks[0].extra.update(rest)
    return blocks


def _list_rest(content: dict[str, Any], reader: Reader, blocks: list[Block]) -> dict[str, Any]:
    """Return the fields that no block shows."""
    rest = keep_rest(content, reader.fields) | keep_odd(content)
    shown = {line for block in blocks for line in (block.text or "").split("\n")}
    for name in ("parts", "text", "content"):  # read in place of other fields, where those are missing
        words = [line for text in _list_texts({name: rest.get(name)}) for line in text.split("\n")]
        if words and shown.issuperset(words) and not any(map(_is_odd_part, list_of(rest[name]))):
            del rest[name]
    return rest


def _is_odd_part(part: Any) -> bool:
    return part is not None and not isinstance(part, str)


def keep_odd(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are known, with another kind of value than can be read."""
    return {
        name: value
        for name, value in record.items()
        if name in KIND_BY_FIELD and value is not None and not isinstance(value, KIND_BY_FIELD[name])
    }


def _read_unknown(content: dict[str, Any], attachments: Attachments) -> list[Block]:
    if "content_type" not in content and content.keys() <= {"parts", "text"}:
        return _read_parts(content, attachments) or _read_texts(content, TEXT)
    texts = _list_texts(content)
    pointers = [block for part in objects_of(content.get("parts")) for block in collect_pointers(part, attachments)]
    return [_keep_unknown(content, "\n".join(texts) or None), *pointers]


def _keep_unknown(raw: Any, text: str | None) -> Block:
    return Block(TEXT if text else Kind.CONTEXT, text=text, raw=raw, flags=["unknown_type"])


def _list_texts(content: dict[str, Any]) -> list[str]:
    """Return the words of any content: those of `parts`, or else `text`, or else `content`."""
    parts = content.get("parts")
    texts = [part for part in parts if isinstance(part, str) and part] if isinstance(parts, list) else []
    if texts:
        return texts
    return next(([text] for text in map(text_of, (parts, content.get("text"), content.get("content"))) if text), [])


def _read_texts(content: dict[str, Any], kind: str) -> list[Block]:
    texts = _list_texts(content)
    return [Block(kind, text="\n".join(texts))] if texts else []


def _read_parts(content: dict[str, Any], attachments: Attachments) -> list[Block]:
    """Read `parts`: strings that follow one another are one text, objects stand where they are."""
    blocks: list[Block] = []
    texts: list[str] = []
    for part in list_of(content.get("parts")):
        if isinstance(part, str):
            if part:
                texts.append(part)
        elif part is not None:
            _end_text(blocks, texts)
            blocks += _read_part(part, attachments)
    _end_text(blocks, texts)
    return blocks


def _end_text(blocks: list[Block], texts: list[str]) -> None:
    if texts:
        blocks.append(Block(TEXT, text="\n".join(texts)))
        texts.clear()


def _read_part(part: Any, attachments: Attachments) -> list[Block]:
    kind = part.get("content_type") if isinstance(part, dict) else None
    if kind in ("image_asset_pointer", "audio_asset_pointer") and text_of(part.get("asset_pointer")):
        return collect_pointers(part, attachments)
    if kind == "audio_transcription":
        return _read_transcription(part, attachments)
    if kind == "real_time_user_audio_video_asset_pointer":
        return _read_live_recording(part, attachments)
    if not isinstance(part, dict):
        return [_keep_unknown(part, None)]
    return [_keep_unknown(part, "\n".join(_list_texts(part)) or None), *collect_pointers(part, attachments)]


def _read_transcription(part: dict[str, Any], attachments: Attachments) -> list[Block]:
    pointers = collect_pointers({"asset_pointer": part.get("asset_pointer")}, attachments)
    rest = keep_rest(part, frozenset({"content_type", "text", "asset_pointer"}))
    if text := text_of(part.get("text")):
        return [Block(TEXT, text=text, flags=["transcription"], extra=rest), *pointers]
    return [_keep_unknown(part, None), *pointers] if keep_odd(part) else pointers


def _read_live_recording(part: dict[str, Any], attachments: Attachments) -> list[Block]:
    fields = ("audio_asset_pointer", "frames_asset_pointers", "video_container_asset_pointer")
    if not any(part.get(field) for field in fields):
        return [_keep_unknown(part, None)]
    blocks = [block for field in fields for block in _take_pointers(part.get(field), attachments)]
    rest = keep_rest(part, frozenset({"content_type", *fields}))
    if rest and blocks and blocks[0].attachment is not None:
        blocks[0].attachment.extra.update(rest)
    return blocks


def _take_pointers(value: Any, attachments: Attachments) -> list[Block]:
    """Take the pointers of a field that has nothing else; what is none is kept raw."""
    items = [item for item in (value if isinstance(value, list) else [value]) if item]
    odd = [item for item in items if not text_of(item) and not text_of(object_of(item).get("asset_pointer"))]
    return [*collect_pointers(items, attachments), *(_keep_unknown(item, None) for item in odd)]


def _read_code(content: dict[str, Any], _: Attachments) -> list[Block]:
    language = text_of(content.get("language"))
    known = None if language == "unknown" else language
    return [Block(CODE, text="\n".join(_first_text(content)), language=known)]


def _first_text(content: dict[str, Any]) -> list[str]:
    text = content.get("text")
    return [text] if isinstance(text, str) else _list_texts(content)


def _read_output(content: dict[str, Any], _: Attachments) -> list[Block]:
    return [Block(TOOL_RESULT, text="\n".join(_first_text(content)))]


def _read_thoughts(content: dict[str, Any], _: Attachments) -> list[Block]:
    return [block for thought in list_of(content.get("thoughts")) for block in _read_thought(thought)]


def _read_thought(thought: Any) -> list[Block]:
    if isinstance(thought, str) and thought:
        return [Block(Kind.THINKING, text=thought)]
    if not isinstance(thought, dict):
        return [] if thought in (None, "") else [_keep_unknown(thought, None)]
    chunks = "".join(chunk for chunk in list_of(thought.get("chunks")) if isinstance(chunk, str))
    text, summary = text_of(thought.get("content")) or chunks, text_of(thought.get("summary"))
    if not text and not summary:
        return [_keep_unknown(thought, None)] if keep_rest(thought, THOUGHT_FIELDS) or keep_odd(thought) else []
    extra = keep_rest(thought, frozenset({"content", "summary", "chunks"})) | keep_odd(thought)
    is_more = chunks.strip() and chunks.strip() not in text
    if is_more or any(map(_is_odd_part, list_of(thought.get("chunks")))):
        extra["chunks"] = thought["chunks"]  # they repeat the content everywhere else
    if text and summary:
        extra["summary"] = summary
    return [Block(Kind.THINKING, text=text or summary, extra=extra)]


def _read_recap(content: dict[str, Any], _: Attachments) -> list[Block]:
    return [Block(Kind.THINKING, text=text, flags=["recap"]) for text in ["\n".join(_list_texts(content))] if text]


def _read_profile(content: dict[str, Any], _: Attachments) -> list[Block]:
    return _read_context(content, ("user_profile", "user_instructions"))


def _read_model_context(content: dict[str, Any], _: Attachments) -> list[Block]:
    return _read_context(content, ("model_set_context", "repo_summary"))


def _read_context(content: dict[str, Any], fields: tuple[str, ...]) -> list[Block]:
    texts = [(field, text_of(content.get(field))) for field in fields]
    return [
        Block(Kind.CONTEXT, text=text, extra={"field": field})
        for field, text in texts
        if text is not None and text.strip() not in SAYS_NOTHING
    ]


def _read_browsing(content: dict[str, Any], attachments: Attachments) -> list[Block]:
    text = text_of(content.get("result")) or text_of(content.get("summary")) or "\n".join(_list_texts(content))
    result = Block(TOOL_RESULT, text=text)
    if (summary := text_of(content.get("summary"))) and summary != text:
        result.extra["summary"] = summary
    return [result, *_take_pointers(content.get("assets"), attachments)]


def _read_page(content: dict[str, Any], _: Attachments) -> list[Block]:
    """Read a passage of a page: what it says, and where it stands."""
    text = text_of(content.get("text")) or text_of(content.get("snippet")) or "\n".join(_list_texts(content))
    blocks = [Block(TOOL_RESULT, text=text, flags=["quote"])]
    if (snippet := text_of(content.get("snippet"))) and snippet != text:
        blocks[0].extra["snippet"] = snippet
    if url := text_of(content.get("url")):
        blocks.append(Block(Kind.CITATION, text=text_of(content.get("title")), extra={"url": url}))
    elif title := text_of(content.get("title")):
        blocks[0].extra["title"] = title
    return blocks


def _read_system_error(content: dict[str, Any], _: Attachments) -> list[Block]:
    words = [text_of(content.get("name")), *_list_texts(content)]
    return [Block(TEXT, text=": ".join(word for word in words if word), is_error=True, flags=["error"])]


def _read_computer(content: dict[str, Any], attachments: Attachments) -> list[Block]:
    state = object_of(content.get("state"))
    words = [text_of(state.get("title")), text_of(state.get("url"))]
    result = Block(TOOL_RESULT, text="\n".join(word for word in words if word))
    if state:
        result.extra["state"] = state
    return [result, *_take_pointers(content.get("screenshot"), attachments)]


def _read_citable_output(content: dict[str, Any], _: Attachments) -> list[Block]:
    metadata = object_of(content.get("metadata"))
    text = text_of(content.get("output_str")) or "\n".join(_list_texts(content))
    blocks = [Block(TOOL_RESULT, text=text)]
    if metadata:
        blocks[0].extra["metadata"] = metadata
    if url := text_of(metadata.get("display_url")):
        blocks.append(Block(Kind.CITATION, text=text_of(metadata.get("display_title")), extra={"url": url}))
    return blocks


def _reader(read: Read, *fields: str) -> Reader:
    return Reader(read, frozenset({"content_type", *fields}))


READERS = {
    "text": _reader(_read_parts, "parts"),
    "multimodal_text": _reader(_read_parts, "parts"),
    "code": _reader(_read_code, "text", "language"),
    "execution_output": _reader(_read_output, "text"),
    "thoughts": _reader(_read_thoughts, "thoughts"),
    "reasoning_recap": _reader(_read_recap, "content"),
    "user_editable_context": _reader(_read_profile, "user_profile", "user_instructions"),
    "model_editable_context": _reader(_read_model_context, "model_set_context", "repo_summary"),
    "tether_browsing_display": _reader(_read_browsing, "result", "summary", "assets"),
    "tether_quote": _reader(_read_page, "text", "url", "title"),
    "sonic_webpage": _reader(_read_page, "text", "url", "title", "snippet"),
    "system_error": _reader(_read_system_error, "text", "name"),
    "computer_output": _reader(_read_computer, "state", "screenshot"),
    "citable_code_output": _reader(_read_citable_output, "output_str", "metadata"),
}
KIND_OF_TEXTS = {
    "thoughts": Kind.THINKING,
    "user_editable_context": Kind.CONTEXT,
    "model_editable_context": Kind.CONTEXT,
}


def _make_call(blocks: list[Block], tool: str) -> list[Block]:
    """Put a call in the place of the words that are sent to a tool."""
    words = [block for block in blocks if block.kind in (TEXT, CODE)]
    others = [block for block in blocks if block.kind not in (TEXT, CODE)]
    text = "\n".join(block.text or "" for block in words)
    arguments = read_json_object(text)
    call = Block(Kind.TOOL_USE, tool_name=tool, input=text if arguments is None else arguments)
    for block in words:
        call.language = call.language or block.language
        call.flags += [flag for flag in block.flags if flag not in call.flags]
        call.extra.update(block.extra)
        call.raw = block.raw if call.raw is None else call.raw
    if call.language is None and tool == "python" and arguments is None:
        call.language = "python"
    return [call, *others]


def _make_results(blocks: list[Block], tool: Any, metadata: dict[str, Any]) -> None:
    """Make results of the words of a tool. Whether code ran without an error, its aggregate_result says."""
    status = text_of(object_of(metadata.get("aggregate_result")).get("status"))
    for block in blocks:
        if block.kind in (TEXT, CODE):
            block.kind = TOOL_RESULT
        if block.kind == TOOL_RESULT:
            block.tool_name = text_of(tool)
            if status and block.is_error is None:
                block.is_error = _is_failure(status)


def _is_failure(status: str) -> bool | None:
    if status.startswith(FAILED):
        return True
    return False if status == "success" else None


def _add_what_answers_name(blocks: list[Block], metadata: dict[str, Any], attachments: Attachments) -> None:
    """Add the files in the sandbox and the citations of an answer."""
    texts = [block for block in blocks if block.kind == TEXT]
    is_cited = metadata.get("content_references") or metadata.get("citations")
    for block in texts:
        text = block.text or ""
        is_cited = is_cited or has_marks(text)
        if "sandbox:" in text:
            blocks += attachments.add_sandbox_files(text)
    if is_cited:
        blocks += take_citations(texts, metadata)


def _add_metadata(blocks: list[Block], metadata: dict[str, Any], attachments: Attachments) -> None:
    if entries := metadata.get("attachments"):
        blocks += [block for entry in list_of(entries) for block in _read_entry(entry, attachments)]
    if result := metadata.get("aggregate_result"):
        for shown in objects_of(object_of(result).get("messages")):
            blocks += collect_pointers(shown.get("image_url"), attachments)
    if data := metadata.get("user_context_message_data"):
        _add_instructions(blocks, object_of(data))
    if metadata.get("is_user_system_message"):
        for block in blocks:
            if block.kind == TEXT:
                block.kind = Kind.CONTEXT
    if details := metadata.get("finish_details"):
        _flag_end(blocks, object_of(details).get("type"))


def _read_entry(entry: Any, attachments: Attachments) -> list[Block]:
    """Read an item of metadata.attachments; a text alone is the id of a file."""
    if text_of(entry):
        entry = {"id": entry}
    if not isinstance(entry, dict):
        return [] if entry is None else [_keep_unknown(entry, None)]
    block = attachments.add_entry(entry)
    return [block] if block else []


def _add_instructions(blocks: list[Block], data: dict[str, Any]) -> None:
    """Add custom instructions, which most exports have in the metadata only."""
    said = "\n".join(block.text for block in blocks if block.text)
    for field in sorted(data, key=lambda name: (name != "about_user_message", name)):
        text = text_of(data[field])
        if text is not None and text.strip() not in SAYS_NOTHING and text.strip() not in said:
            blocks.append(Block(Kind.CONTEXT, text=text, extra={"field": field}))


def _flag_end(blocks: list[Block], end: Any) -> None:
    """Flag the last words of an answer that a person stopped, or that met the limit of its length."""
    flag = FLAG_BY_END.get(end) if isinstance(end, str) else None
    if flag is None:
        return
    words = [block for block in blocks if block.kind in (TEXT, CODE, Kind.THINKING, Kind.TOOL_USE)]
    if words:
        words[-1].flags.append(flag)
