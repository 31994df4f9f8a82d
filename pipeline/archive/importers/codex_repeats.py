"""What the display log of a Codex session says again, and what it alone knows.

Items (`response_item`) are the canonical log, events (`event_msg`) what the terminal showed of it. An event repeats
an item of the same role with the same words in the same turn, before or after it; each item is repeated once.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.archive.conversations import Origin
from pipeline.archive.importers.codex_lines import EVENT, ITEM, Entry
from pipeline.archive.importers.values import first_text, list_of, object_of, objects_of, text_of

# What texts under the role user begin with that no person wrote, and whose they are.
INJECTED = {
    "<environment_context>": Origin.RUNTIME_CONTEXT,
    "<user_instructions>": Origin.RUNTIME_CONTEXT,
    "# AGENTS.md instructions": Origin.RUNTIME_CONTEXT,
    "<permissions instructions>": Origin.RUNTIME_CONTEXT,
    "<turn_aborted>": Origin.RUNTIME_CONTEXT,
    "<skill>": Origin.RUNTIME_CONTEXT,
    "<recommended_plugins>": Origin.RUNTIME_CONTEXT,
    "<goal_context>": Origin.RUNTIME_CONTEXT,
    "<internal_model_context>": Origin.RUNTIME_CONTEXT,
    "<hook_prompt": Origin.RUNTIME_CONTEXT,
    "<subagent_notification>": Origin.NOTIFICATION,
    "<user_shell_command>": Origin.COMMAND,
}
# An editor puts what is open in it above a person's words.
EDITOR_CONTEXT = ("# Context from my IDE setup:", "# Files mentioned by the user")
REQUEST = "## My request for Codex:"
SPEAKERS = {
    "user_message": "user",
    "agent_message": "assistant",
    "agent_reasoning": "reasoning",
    "agent_reasoning_raw_content": "reasoning",
}
CALL_ITEMS = frozenset({"function_call", "custom_tool_call", "local_shell_call"})
RESULT_ITEMS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
PICTURE_TAG = re.compile(r"\s*</?image\b[^<>]*>\s*")  # stands before and behind a picture that a person sent


class Outcome(NamedTuple):
    """How a call ended, as its event says."""

    exit_code: int | None
    is_error: bool | None


class Repeats(NamedTuple):
    """What is known before an entry is turned into a message."""

    events: frozenset[int]  # places of events that repeat an item
    calls: frozenset[str]  # call_ids that have an item
    results: frozenset[str]  # call_ids whose result has an item
    outcomes: dict[str, Outcome]  # by call_id


class _Said(NamedTuple):
    place: int
    piece: int  # of the item at this place; each is repeated once


def find_repeats(entries: Sequence[Entry]) -> Repeats:
    items = [entry.payload for entry in entries if entry.kind == ITEM]
    return Repeats(
        events=frozenset(_find_repeating_events(entries)),
        calls=frozenset(_call_ids(items, CALL_ITEMS)),
        results=frozenset(_call_ids(items, RESULT_ITEMS)),
        outcomes=_read_outcomes(entry.payload for entry in entries if entry.kind == EVENT),
    )


def is_injected(text: str) -> bool:
    """Whether a text under the role user was put there by the program."""
    return find_origin(text) is not None


def find_origin(text: str) -> Origin | None:
    """Return whose a text under the role user is, if no person's."""
    begin = text.lstrip()
    return next((origin for word, origin in INJECTED.items() if begin.startswith(word)), None)


class EditorText(NamedTuple):
    """What an editor put above a person's words, and these."""

    context: str
    words: str


def split_editor_text(text: str) -> EditorText | None:
    """Return the two parts of a text that an editor sent; None for any other."""
    context, request, words = text.partition(REQUEST)
    if not request or not words.strip() or not text.lstrip().startswith(EDITOR_CONTEXT):
        return None
    return EditorText(context.strip(), words.strip())


def is_picture_tag(text: str) -> bool:
    """Whether a text is nothing but the mark of a picture beside it."""
    return PICTURE_TAG.fullmatch(text) is not None


def texts_of(content: Any) -> list[str]:
    """Return the texts of a content: a text, or a list of pieces."""
    if isinstance(content, str):
        return [content]
    return [text for item in list_of(content) if (text := item if isinstance(item, str) else _text_of_piece(item))]


def _text_of_piece(piece: Any) -> str | None:
    return text_of(object_of(piece).get("text"))


def _find_repeating_events(entries: Sequence[Entry]) -> Iterator[int]:
    said, turns = _list_what_items_say(entries)
    used: set[_Said] = set()
    for place, entry in enumerate(entries):
        speaker = SPEAKERS.get(entry.type) if entry.kind == EVENT else None
        text = _normalise(first_text(entry.payload.get("message"), entry.payload.get("text")) or "")
        if not speaker or not (text or _has_pictures(entry.payload)):
            continue
        # A person's words begin a turn, so the event before the item still counts as the turn before it.
        near = (turns[place], turns[place] + 1) if speaker == "user" else (turns[place],)
        found = _find_nearest([said.get((speaker, text, turn), []) for turn in near], place, used)
        if found:
            used.add(found)
            yield place


def _find_nearest(lists: Sequence[list[_Said]], place: int, used: set[_Said]) -> _Said | None:
    """Return what stands nearest to a place and is not used; what is used leaves its list."""
    near: list[_Said] = []
    for said in lists:
        at = bisect_left(said, (place,))
        while at > 0 and said[at - 1] in used:
            at -= 1
            del said[at]
        while at < len(said) and said[at] in used:
            del said[at]
        near += said[max(at - 1, 0) : at + 1]
    return min(near, key=lambda one: abs(one.place - place), default=None)


def _list_what_items_say(entries: Sequence[Entry]) -> tuple[dict[tuple[str, str, int], list[_Said]], list[int]]:
    """Return {(speaker, words, turn): where items say so, in order}, and the turn of each entry."""
    said: dict[tuple[str, str, int], list[_Said]] = defaultdict(list)
    turns, turn = [], 0
    for place, entry in enumerate(entries):
        if entry.kind == ITEM and entry.type == "message":
            texts = [text for text in texts_of(entry.payload.get("content")) if not is_picture_tag(text)]
            speaker = text_of(entry.payload.get("role")) or ""
            turn += speaker == "user" and not (texts and all(map(is_injected, texts)))
            for words in {_normalise(text) for text in ["\n".join(texts), "".join(texts), *texts]}:
                said[speaker, words, turn].append(_Said(place, 0))
        elif entry.kind == ITEM and entry.type == "reasoning":
            pieces = texts_of(entry.payload.get("summary")) + texts_of(entry.payload.get("content"))
            for piece, text in enumerate(pieces):
                said["reasoning", _normalise(text), turn].append(_Said(place, piece))
        turns.append(turn)
    return said, turns


def _normalise(text: str) -> str:
    return " ".join(text.split())


def _call_ids(items: Sequence[dict[str, Any]], types: frozenset[str]) -> Iterator[str]:
    for item in items:
        call_id = text_of(item.get("call_id"))
        if call_id and text_of(item.get("type")) in types:
            yield call_id


def _read_outcomes(events: Iterator[dict[str, Any]]) -> dict[str, Outcome]:
    outcomes = {}
    for event in events:
        call_id, kind = text_of(event.get("call_id")), text_of(event.get("type")) or ""
        if call_id and kind.endswith("_end"):
            outcomes[call_id] = read_outcome(event)
    return outcomes


def read_outcome(event: dict[str, Any]) -> Outcome:
    """Return how a call ended, from the event that says so."""
    code = event.get("exit_code")
    if isinstance(code, int) and not isinstance(code, bool):
        return Outcome(code, code != 0)
    success = event.get("success")
    if isinstance(success, bool):
        return Outcome(None, not success)
    result = object_of(event.get("result"))
    if "Err" in result:
        return Outcome(None, True)
    if "Ok" in result:
        return Outcome(None, bool(object_of(result["Ok"]).get("is_error") or object_of(result["Ok"]).get("isError")))
    return Outcome(None, None)


def words_of_result(event: dict[str, Any]) -> str | None:
    """Return what a call brought, from the event of its end."""
    result = event.get("result")
    if isinstance(result, str):
        return result
    answer = object_of(result)
    texts = texts_of(object_of(answer.get("Ok")).get("content")) + texts_of(answer.get("Err"))
    streams = [event.get("stdout"), event.get("stderr")]
    return first_text(
        event.get("aggregated_output"),
        event.get("formatted_output"),
        "\n".join(text for text in streams if isinstance(text, str) and text),
        "\n".join(texts),
    )


def _has_pictures(event: dict[str, Any]) -> bool:
    return bool(list_of(event.get("images")) or list_of(event.get("local_images")))


def pictures_of(event: dict[str, Any]) -> list[str]:
    """Return the data URLs and addresses of the pictures that a person sent."""
    urls = [url for url in list_of(event.get("images")) if isinstance(url, str)]
    return urls + [url for item in objects_of(event.get("images")) if (url := text_of(item.get("image_url")))]
