"""Parts of a message as Gemini's interfaces write them: `{"functionCall": …}` and `{"functionResponse": …}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.archive.conversations import Block, Kind
from pipeline.archive.importers.values import first_text, object_of, text_of, without_secrets


def read_functions(part: dict[str, Any]) -> Iterator[Block]:
    """Yield the call that a part is, or what a call brought."""
    call, answer = part.get("functionCall"), part.get("functionResponse")
    if isinstance(call, dict):
        arguments = without_secrets(call.get("args"))
        yield Block(
            Kind.TOOL_USE, tool_name=text_of(call.get("name")), call_id=text_of(call.get("id")), input=arguments
        )
    if isinstance(answer, dict):
        response = answer.get("response")
        words = words_of(response)
        yield Block(
            Kind.TOOL_RESULT,
            words,
            tool_name=text_of(answer.get("name")),
            call_id=text_of(answer.get("id")),
            is_error=True if "error" in object_of(response) else None,
            raw=without_secrets(response) if words is None else None,
        )


def words_of(part: Any) -> str | None:
    """Return the words of a response, of a part, or of a text."""
    record = object_of(part)
    return text_of(part) or first_text(record.get("output"), record.get("error"), record.get("text"))
