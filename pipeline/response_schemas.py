"""Response schemas: what is wrong with a JSON Schema, and whether a reply is as it asks. Pure; nothing is fetched.

A provider is told the schema and promises to keep it. Whether it did is looked at here, because not all do: some take
the schema for a hint, and a server may leave out what it does not know.

jsonschema takes 80 ms to import, so commands that load neither Luigi, which imports it too, nor a schema go without.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pipeline.errors import ParseError
from pipeline.json_scores import find_last_object
from pipeline.scores import shorten

CHECK_VERSION = 1  # a rule that judges any reply otherwise needs a higher one; it is part of the doc_id
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def find_schema_problem(schema: dict[str, Any]) -> str | None:
    """Return what is wrong with a schema: "type: 'txt' is not valid under any of …"; None if nothing is."""
    from jsonschema.exceptions import SchemaError

    for reference in _list_references(schema):
        if not (isinstance(reference, str) and reference.startswith("#")):
            return f"it refers to {reference!r}, and nothing is fetched. Expected references within the file: #/$defs/…"
    try:
        _validator_of(schema).check_schema(schema)
    except SchemaError as error:
        return f"{_describe_path(error.absolute_path)}: {shorten(error.message)}"
    return None


def check_reply(reply: str, schema: dict[str, Any]) -> None:
    """Raise ParseError unless the reply is JSON as the schema asks: invalid_json, schema_violation.

    The reply may be the JSON alone or hold it, in a fence or between sentences: then its last object counts.
    """
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    value = _read_value(reply)
    try:
        error = best_match(_validator_of(schema).iter_errors(value))
    except (RecursionError, Unresolvable) as failure:
        raise ParseError("schema_violation", f"The schema cannot be followed: {shorten(str(failure))}.") from failure
    if error is not None:
        place = _describe_path(error.absolute_path)
        detail = f"The answer is not as its schema asks at {place}: {shorten(error.message)}."
        raise ParseError("schema_violation", detail)


def _validator_of(schema: dict[str, Any]) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    # A registry of our own: jsonschema's would ask the network for a schema that it does not know.
    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


def _read_value(reply: str) -> Any:
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        return find_last_object(reply)


def _list_references(schema: Any) -> Iterator[Any]:
    if isinstance(schema, list):
        for item in schema:
            yield from _list_references(item)
    elif isinstance(schema, dict):
        yield from (schema[name] for name in REFERENCES if name in schema)
        for item in schema.values():
            yield from _list_references(item)


def _describe_path(path: Any) -> str:
    """Return where in a JSON value: "scores[2].reason"; "the top" for the value itself."""
    found = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return shorten(found.removeprefix(".")) or "the top"
