"""What a batch says of its calls: the lines of its two files of results. Pure; bodies stay as they came.

output.jsonl -> read_results -> {custom_id: Result}
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

BODY_KEY = re.compile(r'"body"\s*:\s*')


class Result(NamedTuple):
    """What a batch says of one call. Without a body `detail` says why; without a status, too, it was not answered."""

    http_status: int | None
    body: bytes | None = None
    request_id: str | None = None
    detail: str = ""


def count_lines(content: bytes) -> int:
    """Return how many lines are not blank."""
    return sum(bool(line.strip()) for line in content.split(b"\n"))


def clean_errors(content: bytes, clean: Callable[[bytes], bytes]) -> bytes:
    """Return the lines, those of failed calls through `clean`, since some providers repeat the key in an error."""

    def is_answer(line: bytes) -> bool:
        results = read_results(line)
        return bool(results) and all(result.http_status == 200 for result in results.values())

    return b"\n".join(line if is_answer(line) else clean(line) for line in content.split(b"\n"))


def read_results(content: bytes) -> dict[str, Result]:
    """Return {custom_id: what came of it} of the lines of an output or error file; the first of two counts.

    Source: OpenAI's batch output, as of October 2026: {"custom_id", "response": {"status_code", "request_id", "body"},
    "error": {"code", "message"}}, where either response or error is null. A line that cannot be read names no call.
    """
    results: dict[str, Result] = {}
    for raw in content.split(b"\n"):
        line = raw.decode(errors="surrogateescape")  # a body with bytes that are no UTF-8 is kept as it came
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("custom_id"), str):
            results.setdefault(value["custom_id"], _read_result(value, line))
    return results


def _read_result(value: Mapping[str, Any], line: str) -> Result:
    response = value.get("response")
    if isinstance(response, Mapping) and response.get("body") is not None:
        status, request_id = response.get("status_code"), response.get("request_id")
        body = _cut_out(line, response["body"])
        return Result(
            status if isinstance(status, int) else 200, body, request_id if isinstance(request_id, str) else None
        )
    error = value.get("error")
    parts = [error.get("code"), error.get("message")] if isinstance(error, Mapping) else []
    detail = ": ".join(part for part in parts if isinstance(part, str) and part)
    return Result(None, detail=f"The batch has no answer to this call: {detail or 'it does not say why'}")


def _cut_out(line: str, body: Any) -> bytes:
    """Return the bytes of the body as they stand in the line."""
    decoder = json.JSONDecoder()
    for match in BODY_KEY.finditer(line):
        value, end = decoder.raw_decode(line, match.end())
        if value == body:
            return line[match.end() : end].encode(errors="surrogateescape")
    return json.dumps(body).encode()  # one with NaN equals nothing, and is no answer either
