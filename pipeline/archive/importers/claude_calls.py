"""Tool calls without ids: each result is joined to the nearest earlier call of the same tool that has none yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.archive.conversations import Block, Kind, Message
from pipeline.archive.importers.claude_branches import follow_branches

DERIVED = "derived_call_id"


class OpenCall(NamedTuple):
    """A call that waits for its result, and the one of the same tool before it."""

    block: Block
    order: int
    before: OpenCall | None


OpenCalls = Mapping[str | None, OpenCall]  # the last one of each tool


def pair_calls(messages: Sequence[Message]) -> None:
    """Give results without the id of their call one, in the same message or along the same branch."""
    blocks = [block for message in messages for block in message.blocks]
    answered = {block.call_id for block in blocks if block.kind == Kind.TOOL_RESULT and block.call_id}
    if not any(block.kind == Kind.TOOL_RESULT and block.call_id is None for block in blocks):
        return

    def pair(message: Message, open_calls: OpenCalls) -> OpenCalls:
        return _pair_message(message, open_calls, answered)

    none_open: OpenCalls = {}
    follow_branches(messages, none_open, pair)


def _pair_message(message: Message, open_calls: OpenCalls, answered: set[str]) -> OpenCalls:
    if not any(block.kind in (Kind.TOOL_USE, Kind.TOOL_RESULT) for block in message.blocks):
        return open_calls
    calls = dict(open_calls)
    for place, block in enumerate(message.blocks):
        if block.kind == Kind.TOOL_USE and (block.call_id is None or block.call_id not in answered):
            if block.call_id is None:
                block.call_id = f"{message.key}:{place}"
                block.flags.append(DERIVED)
            order = 1 + max((call.order for call in calls.values()), default=0)
            calls[block.tool_name] = OpenCall(block, order, calls.get(block.tool_name))
        elif block.kind == Kind.TOOL_RESULT and block.call_id is None:
            _join(block, message.blocks[place + 1 :], calls)
    return calls


def _join(result: Block, later: Sequence[Block], calls: dict[str | None, OpenCall]) -> None:
    """Join a result to the last open call of its tool; one that names no tool, to the last of all."""
    name = result.tool_name or max(calls, key=lambda tool: calls[tool].order, default=None)
    call = calls.pop(name, None)
    if call is None:
        return
    if call.before:
        calls[name] = call.before
    result.call_id = call.block.call_id
    result.flags.append(DERIVED)
    for block in later:
        if block.kind != Kind.ATTACHMENT or block.call_id is not None:
            break
        block.call_id = result.call_id  # the files of this result come right after it
