"""From the entries of a Codex session to its messages, in the order of the file.

Each canonical item is one message: a call and its result are two. What the display log repeats is left out; what it
alone knows becomes a message. A rollback takes turns off the active path and keeps them beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from pipeline.archive.conversations import (
    Attachment,
    AttachmentStatus,
    Block,
    Conversation,
    Json,
    Kind,
    Message,
    Origin,
    Role,
)
from pipeline.archive.importers.codex_lines import COMPACTED, EVENT, ITEM, MARKER, META, TURN, UNKNOWN, Entry
from pipeline.archive.importers.codex_outputs import read_output
from pipeline.archive.importers.codex_repeats import (
    Repeats,
    find_origin,
    is_picture_tag,
    pictures_of,
    read_outcome,
    split_editor_text,
    texts_of,
    words_of_result,
)
from pipeline.archive.importers.codex_usage import UsageCounter
from pipeline.archive.importers.inline_files import attach_url, block_of, decode_base64, keep_inline
from pipeline.archive.importers.odd_values import UNKNOWN_TYPE, warn
from pipeline.archive.importers.values import (
    count_of,
    first_text,
    flag_of,
    list_of,
    object_of,
    parse_embedded,
    rest_of,
    text_of,
    without_secrets,
)

ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "developer": Role.SYSTEM, "system": Role.SYSTEM}
TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
NOTHING = frozenset({"state", "ghost_snapshot"})
# Events that say how the work went, or repeat what items say: they are counted.
PROGRESS = frozenset(
    {
        "agent_message_delta",
        "agent_reasoning_delta",
        "agent_reasoning_section_break",
        "context_compacted",
        "exec_approval_request",
        "exec_command_output_delta",
        "mcp_startup_complete",
        "mcp_startup_update",
        "patch_apply_begin",
        "plan_update",
        "session_configured",
        "task_complete",
        "task_started",
        "turn_complete",
        "turn_diff",
        "turn_started",
        "web_search_begin",
    }
)
# Further events that are known, say nothing that is shown, and are kept as they are.
KEPT_EVENTS = frozenset(
    {
        "apply_patch_approval_request",
        "background_event",
        "deprecation_notice",
        "elicitation_request",
        "entered_review_mode",
        "exited_review_mode",
        "item_completed",
        "item_started",
        "request_user_input",
        "shutdown_complete",
        "stream_error",
        "stream_info",
        "undo_completed",
        "undo_started",
        "view_image_tool_call",
        "warning",
    }
)
COLLABORATION = "collab_"  # events of agents that work together
HIDDEN_CONTEXT = "context"
HIDDEN_NOTIFICATION = "notification"
HIDDEN_EMPTY = "empty"
LOCAL_PATH = "a path on the computer where it was sent; its bytes are not in the session"


class MessageBuilder:
    """Takes entries one after another. Keys are places until `settle` in codex.py gives the real ones."""

    def __init__(self, conversation: Conversation, repeats: Repeats) -> None:
        self.conversation = conversation
        self.repeats = repeats
        self.calls = set(repeats.calls)  # call_ids that have a message
        self.extras: dict[str, bytes] = {}
        self.usage = UsageCounter()
        self.path: list[Message] = []  # the active one
        self.model: str | None = None
        self.turn = 0
        self.turn_contexts: list[Json] = []
        self.other_lines: list[Json] = []
        self.events: Counter[str] = Counter()
        self.searches: list[Json] = []  # actions of web searches that an event may repeat

    def take(self, place: int, entry: Entry, *, ancestor: str | None) -> None:
        before = len(self.conversation.messages)
        self._read(place, entry)
        if entry.oddness:
            warn(self.conversation, entry.oddness)
        for message in self.conversation.messages[before:]:
            message.created = message.created or entry.time
            if entry.line is not None:
                message.extra["line"] = entry.line
            if entry.oddness:
                message.extra[entry.oddness] = entry.odd_time
            if ancestor:
                message.extra["copied_from"] = ancestor

    def _read(self, place: int, entry: Entry) -> None:
        if entry.kind == ITEM:
            read = ITEM_READERS.get(entry.type, MessageBuilder.read_unknown_item)
            read(self, entry.payload)
        elif entry.kind == EVENT:
            self._read_event(place, entry)
        elif entry.kind == TURN:
            self.read_turn_context(entry.payload)
        elif entry.kind == COMPACTED:
            self.read_compaction(entry.payload)
        elif entry.kind not in (META, MARKER):
            self.keep_line(entry)

    def _read_event(self, place: int, entry: Entry) -> None:
        if place in self.repeats.events:
            self._add_pictures(entry.payload)
            return
        read = EVENT_READERS.get(entry.type)
        if read:
            read(self, entry.payload)
        elif entry.type in PROGRESS:
            self.events[entry.type] += 1
        else:
            self.keep_line(entry)

    def add(self, role: str, blocks: list[Block], **facts: Any) -> Message:
        """Put a message at the end of the path. `facts` are further fields of it."""
        message = Message(key=str(len(self.conversation.messages)), role=role, blocks=blocks, **facts)
        message.parent = self.path[-1].key if self.path else None
        if role == Role.USER and message.origin == Origin.HUMAN:
            self.turn += 1
        if role == Role.ASSISTANT:
            message.model = self.model
            message.group = f"turn {self.turn}"
        self.path.append(message)
        self.conversation.messages.append(message)
        return message

    def keep_line(self, entry: Entry) -> None:
        """Keep a line that is no message, as it was."""
        is_known_event = entry.type in KEPT_EVENTS or entry.type.startswith(COLLABORATION)
        if entry.kind not in KNOWN_LINES or (entry.kind == EVENT and not is_known_event):
            warn(self.conversation, UNKNOWN_TYPE)
        line: dict[str, Json] = {"type": entry.kind, "payload": without_secrets(entry.payload)}
        self.other_lines.append(line if entry.line is None else {"line": entry.line, **line})

    # What is said.

    def read_message(self, item: dict[str, Any]) -> None:
        blocks = self._read_content(item.get("content"))
        role = ROLES.get(text_of(item.get("role")) or "", Role.UNKNOWN)
        facts = self._facts_of(item, {"content", "role", "end_turn"})
        facts["end_turn"] = flag_of(item.get("end_turn"))
        if role == Role.SYSTEM:
            self.add(role, [_as_context(block) for block in blocks], **_HIDDEN, **facts)
        elif role == Role.USER:
            self._add_user(blocks, **facts)
        else:
            self.add(role, blocks, **facts)

    def _add_user(self, blocks: list[Block], **facts: Any) -> None:
        """Add a message of the role user: what the program put there is context, what a person wrote is theirs."""
        blocks = [part for block in blocks for part in _split_block(block)]
        origins = [find_origin(block.text or "") if block.kind == Kind.TEXT else None for block in blocks]
        if blocks and all(origins):
            self._add_injected(blocks, Origin(origins[0] or Origin.RUNTIME_CONTEXT), **facts)
            return
        said = [
            block if origin is None else _as_context(block, origin)
            for block, origin in zip(blocks, origins, strict=True)
        ]
        self.add(Role.USER, said, origin=Origin.HUMAN, **facts)

    def _add_injected(self, blocks: list[Block], origin: Origin, **facts: Any) -> None:
        """Add what the program put under the role user. Only a command that a person gave themselves is shown."""
        if origin == Origin.COMMAND:
            self.add(Role.USER, blocks, origin=origin, **facts)
        else:
            hidden = HIDDEN_NOTIFICATION if origin == Origin.NOTIFICATION else HIDDEN_CONTEXT
            self.add(Role.USER, [_as_context(block) for block in blocks], origin=origin, hidden=hidden, **facts)

    def _read_content(self, content: Any) -> list[Block]:
        if isinstance(content, str):
            return [Block(Kind.TEXT, content)]
        return [self._read_piece(piece) for piece in list_of(content)]

    def _read_piece(self, piece: Any) -> Block:
        if isinstance(piece, str):
            return Block(Kind.TEXT, piece)
        record = object_of(piece)
        kind, text = text_of(record.get("type")), record.get("text")
        if kind in TEXTS and isinstance(text, str):
            return Block(Kind.TEXT, text, extra=rest_of(record, {"type", "text"}))
        picture = first_text(record.get("image_url"), object_of(record.get("image_url")).get("url"))
        if picture:
            return block_of(attach_url(self.extras, picture, purpose="upload"))
        refusal = text_of(record.get("refusal"))
        if refusal:
            return Block(Kind.TEXT, refusal, flags=["refusal"])
        warn(self.conversation, UNKNOWN_TYPE)
        return _unknown_block(piece)

    def read_reasoning(self, item: dict[str, Any]) -> None:
        texts = texts_of(item.get("summary")) or texts_of(item.get("content"))
        flags = ["encrypted"] if item.get("encrypted_content") else []
        blocks = [Block(Kind.THINKING, text, flags=list(flags)) for text in texts or [""]]
        facts = self._facts_of(item, {"summary", "content"})
        self.add(Role.ASSISTANT, blocks, hidden=None if texts else HIDDEN_EMPTY, **facts)

    def read_compaction(self, payload: dict[str, Any]) -> None:
        """Keep the summary. The history that replaces the messages is theirs again, and not imported."""
        extra = rest_of(payload, {"message", "replacement_history"})
        replaced = list_of(payload.get("replacement_history"))
        extra |= {"replaced_items": len(replaced)} if replaced else {}
        block = Block(Kind.CONTEXT, text_of(payload.get("message")) or "", flags=["compaction"])
        self.add(Role.SYSTEM, [block], origin=Origin.COMPACTION_SUMMARY, hidden=HIDDEN_CONTEXT, extra=extra)

    # Calls and what they brought.

    def read_call(self, item: dict[str, Any]) -> None:
        arguments = item.get("arguments") if "arguments" in item else item.get("input")
        flags = []
        if isinstance(arguments, str) and item.get("type") == "function_call":
            try:
                arguments = parse_embedded(arguments)
            except ValueError:
                flags.append("unparsed_arguments")
        name = first_text(item.get("name"), item.get("type"))
        namespace = text_of(item.get("namespace"))
        block = Block(
            Kind.TOOL_USE,
            tool_name=f"{namespace}.{name}" if namespace else name,
            call_id=text_of(item.get("call_id")),
            input=without_secrets(arguments),
            flags=flags,
        )
        self.add(
            Role.ASSISTANT, [block], **self._facts_of(item, {"name", "namespace", "call_id", "arguments", "input"})
        )

    def read_action(self, item: dict[str, Any]) -> None:
        """Read a call that has an action in the place of arguments: a shell of old, a search."""
        name = (text_of(item.get("type")) or "").removesuffix("_call")
        action = without_secrets(item.get("action"))
        if name == "web_search":
            self.searches.append(action)
        block = Block(Kind.TOOL_USE, tool_name=name, call_id=text_of(item.get("call_id")), input=action)
        self.add(Role.ASSISTANT, [block], **self._facts_of(item, {"action", "call_id"}))

    def read_picture(self, item: dict[str, Any]) -> None:
        """Read a picture that was made: a call, and its bytes."""
        facts = self._facts_of(item, {"result", "call_id", "revised_prompt"})
        call = Block(
            Kind.TOOL_USE,
            tool_name="image_generation",
            call_id=first_text(item.get("call_id"), item.get("id")),
            input=text_of(item.get("revised_prompt")),
        )
        data = text_of(item.get("result"))
        file = keep_inline(self.extras, decode_base64(data), "image/png", purpose="generated") if data else None
        self.add(Role.ASSISTANT, [call, *([block_of(file)] if file else [])], **facts)

    def read_result(self, item: dict[str, Any]) -> None:
        output = read_output(item.get("output"))
        call_id = text_of(item.get("call_id"))
        known = self.repeats.outcomes.get(call_id or "")
        is_error = output.is_error
        exit_code = output.exit_code
        if known:
            exit_code = known.exit_code if known.exit_code is not None else exit_code
            is_error = known.is_error if known.is_error is not None else is_error
        pictures = [block_of(attach_url(self.extras, url, purpose="generated")) for url in output.pictures]
        block = Block(
            Kind.TOOL_RESULT,
            output.text,
            tool_name=text_of(item.get("name")),
            call_id=call_id,
            is_error=is_error,
            exit_code=exit_code,
            extra=without_secrets(dict(output.rest)),
        )
        self.add(Role.TOOL, [block, *pictures], **self._facts_of(item, {"output", "call_id", "name"}))

    def read_token_count(self, payload: dict[str, Any]) -> None:
        self.usage.add(payload)

    def read_nothing(self, item: dict[str, Any]) -> None:
        self.other_lines.append({"type": ITEM, "payload": without_secrets(item)})

    def read_unknown_item(self, item: dict[str, Any]) -> None:
        """Keep an item of the canonical log that nobody told us of, and show it."""
        warn(self.conversation, UNKNOWN_TYPE)
        role = ROLES.get(text_of(item.get("role")) or "", Role.UNKNOWN)
        self.add(role, [_unknown_block(item)], native_id=text_of(item.get("id")))

    # What only the display log knows.

    def read_user_event(self, event: dict[str, Any]) -> None:
        text = text_of(event.get("message"))
        blocks = [Block(Kind.TEXT, text)] if text else []
        blocks += [block_of(attach_url(self.extras, url, purpose="upload")) for url in pictures_of(event)]
        blocks += [_local_picture(path) for path in list_of(event.get("local_images"))]
        self._add_user(blocks, extra={"event": "user_message"})

    def read_agent_event(self, event: dict[str, Any]) -> None:
        extra = {"event": "agent_message", **rest_of(event, {"type", "message"})}
        self.add(Role.ASSISTANT, [Block(Kind.TEXT, text_of(event.get("message")) or "")], extra=extra)

    def read_thought_event(self, event: dict[str, Any]) -> None:
        text = text_of(event.get("text"))
        if text:
            self.add(Role.ASSISTANT, [Block(Kind.THINKING, text)], extra={"event": text_of(event.get("type"))})

    def read_begin(self, event: dict[str, Any]) -> None:
        """A command or tool that began: a call, where no item has it."""
        call_id = text_of(event.get("call_id"))
        if call_id is None or call_id in self.calls:
            self.events[text_of(event.get("type")) or UNKNOWN] += 1
            return
        self._add_call(event, call_id)

    def _add_call(self, event: dict[str, Any], call_id: str | None) -> None:
        kind = (text_of(event.get("type")) or "").rpartition("_")[0]
        invocation = object_of(event.get("invocation"))
        given = invocation.get("arguments") if invocation else event.get("command") or event.get("changes")
        named = ".".join(name for part in ("server", "tool") if (name := text_of(invocation.get(part))))
        block = Block(Kind.TOOL_USE, tool_name=named or kind, call_id=call_id, input=without_secrets(given))
        self.add(Role.ASSISTANT, [block], extra={"event": text_of(event.get("type"))})
        if call_id:
            self.calls.add(call_id)

    def read_end(self, event: dict[str, Any]) -> None:
        """A command or tool that ended: its result, where no item has it; else the item took the exit code from it."""
        call_id = text_of(event.get("call_id"))
        if call_id in self.repeats.results:
            self.events[text_of(event.get("type")) or UNKNOWN] += 1
            return
        if call_id not in self.calls:
            self._add_call(event, call_id)
        outcome = read_outcome(event)
        block = Block(
            Kind.TOOL_RESULT,
            words_of_result(event) or "",
            call_id=call_id,
            is_error=outcome.is_error,
            exit_code=outcome.exit_code,
        )
        self.add(Role.TOOL, [block], extra={"event": text_of(event.get("type"))})

    def read_search_end(self, event: dict[str, Any]) -> None:
        """A web search that ended. It repeats the item with the same action, and brings no words of its own."""
        action = without_secrets(event.get("action")) or {"type": "search", "query": text_of(event.get("query"))}
        call_id = text_of(event.get("call_id"))
        same = [said for said in self.searches if said == action or _query_of(said) == _query_of(action)]
        if same:
            self.searches.remove(same[0])
        else:
            block = Block(Kind.TOOL_USE, tool_name="web_search", call_id=call_id, input=action)
            self.add(Role.ASSISTANT, [block], extra={"event": "web_search_end"})
        found = first_text(event.get("result"), event.get("output")) or "\n".join(texts_of(event.get("results")))
        if found:
            self.add(Role.TOOL, [Block(Kind.TOOL_RESULT, found, tool_name="web_search", call_id=call_id)])

    def read_abort(self, event: dict[str, Any]) -> None:
        self.events["turn_aborted"] += 1
        if self.path:
            self.path[-1].status = text_of(event.get("reason")) or "interrupted"

    def read_error(self, event: dict[str, Any]) -> None:
        block = Block(Kind.TEXT, text_of(event.get("message")) or "", flags=["error"])
        self.add(Role.SYSTEM, [block], extra=rest_of(event, {"type", "message"}))

    def read_rollback(self, event: dict[str, Any]) -> None:
        """Leave the last turns beside the path: what follows continues from before them."""
        self.events["thread_rolled_back"] += 1
        for _ in range(min(count_of(event.get("num_turns")) or 0, len(self.path))):
            while self.path and not _begins_turn(self.path.pop()):
                pass

    def read_name(self, event: dict[str, Any]) -> None:
        self.conversation.title = first_text(event.get("thread_name"), event.get("name")) or self.conversation.title

    def read_turn_context(self, payload: dict[str, Any]) -> None:
        context = object_of(payload.get("turn_context")) or payload
        self.model = text_of(context.get("model")) or self.model
        self.conversation.model = self.conversation.model or self.model
        plain = {name: value for name, value in without_secrets(context).items() if name != "turn_id"}
        if plain not in self.turn_contexts[-1:]:  # it is repeated before every round of tools
            self.turn_contexts.append(plain)

    def _add_pictures(self, event: dict[str, Any]) -> None:
        """Name the pictures of an event whose item has fewer of them."""
        spoken = next((said for said in reversed(self.path) if _begins_turn(said)), None)
        paths = list_of(event.get("local_images"))
        if not paths or spoken is None:
            return
        there = sum(block.kind == Kind.ATTACHMENT for block in spoken.blocks)
        spoken.blocks += [_local_picture(path) for path in paths[there:]]

    def _facts_of(self, item: dict[str, Any], known: set[str]) -> dict[str, Any]:
        """Return the fields that any item may have, and what is not known of it."""
        extra = rest_of(item, known | {"type", "id", "status", "timestamp"})
        return {"native_id": text_of(item.get("id")), "status": text_of(item.get("status")), "extra": extra}


_HIDDEN = {"origin": Origin.RUNTIME_CONTEXT, "hidden": HIDDEN_CONTEXT}
KNOWN_LINES = frozenset({EVENT, "world_state", "inter_agent_communication"})
Reader = Callable[[MessageBuilder, dict[str, Any]], None]
ITEM_READERS: dict[str, Reader] = {
    "message": MessageBuilder.read_message,
    "reasoning": MessageBuilder.read_reasoning,
    "function_call": MessageBuilder.read_call,
    "custom_tool_call": MessageBuilder.read_call,
    "tool_search_call": MessageBuilder.read_call,
    "local_shell_call": MessageBuilder.read_action,
    "web_search_call": MessageBuilder.read_action,
    "image_generation_call": MessageBuilder.read_picture,
    "function_call_output": MessageBuilder.read_result,
    "custom_tool_call_output": MessageBuilder.read_result,
    "local_shell_call_output": MessageBuilder.read_result,
    "tool_search_output": MessageBuilder.read_result,
    "token_count": MessageBuilder.read_token_count,
    "ghost_snapshot": MessageBuilder.read_nothing,
}
EVENT_READERS: dict[str, Reader] = {
    "user_message": MessageBuilder.read_user_event,
    "agent_message": MessageBuilder.read_agent_event,
    "agent_reasoning": MessageBuilder.read_thought_event,
    "agent_reasoning_raw_content": MessageBuilder.read_thought_event,
    "token_count": MessageBuilder.read_token_count,
    "exec_command_begin": MessageBuilder.read_begin,
    "mcp_tool_call_begin": MessageBuilder.read_begin,
    "exec_command_end": MessageBuilder.read_end,
    "mcp_tool_call_end": MessageBuilder.read_end,
    "patch_apply_end": MessageBuilder.read_end,
    "web_search_end": MessageBuilder.read_search_end,
    "turn_aborted": MessageBuilder.read_abort,
    "error": MessageBuilder.read_error,
    "thread_rolled_back": MessageBuilder.read_rollback,
    "thread_name_updated": MessageBuilder.read_name,
}


def _begins_turn(message: Message) -> bool:
    return message.role == Role.USER and message.origin == Origin.HUMAN


def _split_block(block: Block) -> list[Block]:
    """Return a person's text without what an editor or the program put around it, and that as context."""
    text = block.text or ""
    if block.kind == Kind.TEXT and is_picture_tag(text):
        return [_as_context(block, Origin.RUNTIME_CONTEXT)]
    editor = split_editor_text(text) if block.kind == Kind.TEXT else None
    if editor is None:
        return [block]
    block.text = editor.words
    return [Block(Kind.CONTEXT, editor.context, origin=Origin.RUNTIME_CONTEXT), block]


def _as_context(block: Block, origin: str | None = None) -> Block:
    if block.kind == Kind.TEXT:
        block.kind, block.origin = Kind.CONTEXT, origin
    return block


def _unknown_block(value: Any) -> Block:
    record = object_of(value)
    text = first_text(record.get("text"), record.get("message"), record.get("content"))
    kind = Kind.TEXT if text else Kind.CONTEXT
    return Block(kind, text, flags=[UNKNOWN_TYPE], raw=without_secrets(value))


def _local_picture(path: Any) -> Block:
    name = text_of(path) or text_of(object_of(path).get("path"))
    facts: dict[str, Any] = {"name": name.replace("\\", "/").rpartition("/")[2]} if name else {}
    return block_of(Attachment(status=AttachmentStatus.MISSING, reason=LOCAL_PATH, purpose="upload", **facts))


def _query_of(action: Json) -> Json:
    record = object_of(action)
    return first_text(record.get("query"), *list_of(record.get("queries")), record.get("url"))
