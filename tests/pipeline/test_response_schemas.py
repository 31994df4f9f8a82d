"""Response schemas: a reply that is not as its schema asks is a parse_error that says where."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.diagnosis import diagnose
from pipeline.errors import DocumentFailed, ParseError
from pipeline.response_schemas import check_reply, find_schema_problem
from pipeline.stages import Stage, Status
from tests.pipeline.test_making import list_attempts, make, plan_of, workspace
from tests.provider_server import make_completion, reply_json

__all__ = ["workspace"]

SCHEMA = {
    "type": "object",
    "properties": {"score": {"$ref": "#/$defs/score"}, "reasons": {"type": "array", "items": {"type": "string"}}},
    "required": ["score"],
    "additionalProperties": False,
    "$defs": {"score": {"type": "integer", "minimum": 0, "maximum": 10}},
}


@pytest.mark.parametrize(
    "reply",
    [
        '{"score": 7}',
        ' {"reasons": [], "score": 10}\n',
        'Here it is:\n```json\n{"score": 7}\n```\n',
        '<think>{"score": "?"}</think>\n{"score": 7}',
        '{"score": 11} or rather {"score": 7}',
    ],
)
def test_a_reply_as_the_schema_asks_passes_also_in_a_fence(reply: str) -> None:
    check_reply(reply, SCHEMA)


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        ('{"score": 11}', "schema_violation", "at score: 11 is greater than the maximum of 10."),
        ('{"score": "7"}', "schema_violation", "at score: '7' is not of type 'integer'."),
        ('{"reasons": []}', "schema_violation", "at the top: 'score' is a required property."),
        ('{"score": 7, "reasons": ["a", 2]}', "schema_violation", "at reasons[1]: 2 is not of type 'string'."),
        ('{"score": 7, "more": 1}', "schema_violation", "at the top: Additional properties are not allowed"),
        ("7", "schema_violation", "at the top: 7 is not of type 'object'."),
        ("seven of ten", "invalid_json", "No JSON object in the reply; it begins 'seven of ten'."),
        ('{"score": 7', "invalid_json", "character"),
        (" ", "empty", "The reply is empty."),
        ("[" * 100_000, "invalid_json", ""),
    ],
)
def test_a_reply_that_is_not_says_where_and_why(reply: str, reason: str, detail: str) -> None:
    with pytest.raises(ParseError) as caught:
        check_reply(reply, SCHEMA)

    assert (caught.value.reason, detail in caught.value.detail) == (reason, True), caught.value


def test_a_list_may_be_asked_for() -> None:
    check_reply("[1, 2]", {"type": "array", "items": {"type": "integer"}})
    with pytest.raises(ParseError, match=r"at \[1\]: 'b' is not of type 'integer'"):
        check_reply('[1, "b"]', {"type": "array", "items": {"type": "integer"}})


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "number"}, None),
        (SCHEMA, None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, None),
        ({"type": "nummer"}, "type: 'nummer' is not valid"),
        ({"properties": {"a": {"minimum": "1"}}}, "properties.a.minimum: '1' is not of type 'number'"),
        ({"$ref": "https://example.org/schema.json"}, "nothing is fetched"),
        ({"items": [{"$ref": "other.json"}]}, "it refers to 'other.json'"),
    ],
)
def test_what_is_wrong_with_a_schema_is_said(schema: dict[str, object], problem: str | None) -> None:
    found = find_schema_problem(schema)

    assert found is None if problem is None else found is not None and problem in found


def test_a_reference_that_leads_nowhere_is_a_parse_error_and_fetches_nothing() -> None:
    with pytest.raises(ParseError, match="cannot be followed"):
        check_reply("{}", {"$ref": "#/$defs/none"})


def test_a_configuration_without_schemas_does_not_load_the_library() -> None:
    code = "import sys, pipeline.workspace; sys.exit('jsonschema' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def templates(workspace, tmp_path):
    """The draft's template has a schema."""
    file = tmp_path / "config" / "templates.toml"
    file.write_text(file.read_text().replace("[draft.plain]\n", '[draft.plain]\nresponse_schema = "s.json"\n'))
    (tmp_path / "config" / "templates" / "draft" / "s.json").write_text(json.dumps(SCHEMA))
    return file


def test_a_document_is_made_of_an_answer_that_keeps_its_schema(templates, workspace, provider):
    provider.reply = lambda _: reply_json(make_completion('{"score": 7}'))

    assert make(workspace, plan_of(workspace, Stage.DRAFT)).read_text("parsed.txt") == '{"score": 7}'
    assert provider.requests[0].body["response_format"]["json_schema"]["schema"]["required"] == ["score"]


def test_an_answer_that_breaks_its_schema_is_kept_and_not_asked_for_again(templates, workspace, provider):
    provider.reply = lambda _: reply_json(make_completion('{"score": 70}'))
    plan = plan_of(workspace, Stage.DRAFT)

    for _ in range(2):
        with pytest.raises(DocumentFailed, match="schema_violation") as caught:
            make(workspace, plan)

    assert caught.value.status == Status.PARSE_ERROR
    assert len(provider.requests) == len(list_attempts(workspace)) == 1
    found = diagnose(workspace.data, plan)
    assert (found.status, found.reason) == (Status.PARSE_ERROR, caught.value.reason)


def test_only_templates_with_a_schema_have_its_check_in_their_identity(templates, workspace):
    drafts, essays = (plan_of(workspace, stage).inputs["parser"] for stage in (Stage.DRAFT, Stage.ESSAY))

    assert drafts == {"name": "identity", "version": 1, "min_lines": 0, "scale": None, "schema_check": 1}
    assert "schema_check" not in essays
