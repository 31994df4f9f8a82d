"""Trying a parser on texts of one's own, as the authors of templates do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ParseError, UnknownName
from pipeline.parsers import PARSERS, parse_reply
from pipeline.scores import Scale
from pipeline.stages import Status

STANDARD_INPUT = "-"


def try_parser(parser: str, files: Sequence[str], *, scale: str, min_lines: int) -> list[dict[str, Any]]:
    """Return one object a file: file, status, parsed, score, reason, and where the score was found.

    A file that cannot be read has status gen_error; the others are parsed all the same. Raises UnknownName
    or InputInvalid if the parser or the scale is no such thing.
    """
    if parser not in PARSERS:
        raise UnknownName("parser", parser, list(PARSERS))
    parsed_scale = Scale.parse(scale)
    return [_try_file(parser, file, parsed_scale, min_lines) for file in files]


def _try_file(parser: str, file: str, scale: Scale, min_lines: int) -> dict[str, Any]:
    result: dict[str, Any] = {"file": file, "status": Status.OK, "parsed": None, "score": None, "reason": None}
    try:
        content = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
        parsed = parse_reply(parser, content.decode(), scale=scale, min_lines=min_lines)
    except (OSError, UnicodeDecodeError) as error:
        return {**result, "status": Status.GEN_ERROR, "reason": f"unreadable: {error}"}
    except ParseError as error:
        return {**result, "status": Status.PARSE_ERROR, "reason": str(error)}
    if parsed.score is None:
        return {**result, "parsed": parsed.text}
    score = parsed.score
    found = {"score": score.value, "scale": str(score.scale), "strategy": score.strategy, "line": score.line}
    return {**result, "parsed": parsed.text, **found}
