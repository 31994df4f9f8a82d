"""What a call of Codex brought: a text, JSON in a text, a list of texts, or a text under a header of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.archive.importers.codex_repeats import texts_of
from pipeline.archive.importers.values import first_text, object_of, objects_of, parse_embedded, text_of

HEADER = re.compile(r"(?:[A-Z][^\n]{0,200}\n){1,8}?Output:(?:\n|\Z)")
EXIT_CODE = re.compile(r"^(?:Exit code: |Process exited with code )(-?\d{1,10})$", re.MULTILINE)


class Output(NamedTuple):
    """A result, read. `rest`: what else it said of itself."""

    text: str
    exit_code: int | None = None
    is_error: bool | None = None
    rest: Mapping[str, Any] = MappingProxyType({})
    pictures: tuple[str, ...] = ()


def read_output(value: Any) -> Output:
    """Return the output of any form; an exit code that nobody stated is None, and so is whether it failed."""
    if isinstance(value, str):
        return _read_wrapped(value) or _read_headed(value) or Output(value)
    if isinstance(value, list):
        return _read_list(value)
    record = object_of(value)
    inner = first_text(record.get("content"), record.get("output"))
    output = read_output(inner if inner is not None else record.get("content") or "")
    success = record.get("success")
    return output._replace(is_error=not success) if isinstance(success, bool) else output


def _read_wrapped(text: str) -> Output | None:
    """Read `{"output": …, "metadata": {"exit_code": …}}`."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        record = object_of(parse_embedded(text))
    except ValueError:
        return None
    if not isinstance(record.get("output"), str) or not isinstance(record.get("metadata"), dict):
        return None
    metadata = record["metadata"]
    code = metadata.get("exit_code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    rest = {name: value for name, value in metadata.items() if name != "exit_code"}
    return Output(record["output"], code, None if code is None else code != 0, rest)


def _read_headed(text: str) -> Output | None:
    """Read `Exit code: 2`, `Wall time: …` and `Output:` above the words."""
    match = HEADER.match(text)
    if not match or not ("Wall time" in match[0] or EXIT_CODE.search(match[0])):
        return None
    code = EXIT_CODE.search(match[0])
    exit_code = int(code[1]) if code else None
    is_error = None if exit_code is None else exit_code != 0
    return Output(
        text[match.end() :], exit_code, is_error, {"header": match[0].removesuffix("\n").removesuffix("Output:")}
    )


def _read_list(pieces: list[Any]) -> Output:
    """Read one result in several pieces: a script that made several calls has one for each."""
    texts = texts_of(pieces)
    pictures = tuple(url for piece in objects_of(pieces) if (url := text_of(piece.get("image_url"))))
    first = _read_headed(texts[0]) if len(texts) == 1 else None
    if first:
        return first._replace(pictures=pictures)
    joined = "".join(text if text.endswith("\n") else text + "\n" for text in texts[:-1]) + "".join(texts[-1:])
    return Output(joined, rest={"pieces": texts} if len(texts) > 1 else {}, pictures=pictures)
