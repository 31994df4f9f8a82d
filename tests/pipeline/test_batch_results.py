"""What a batch's file of results says, line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.batch_results import Result, clean_errors, read_results


def make_line(custom_id: str = "one", **fields: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "response": None, "error": None, **fields}).encode()


def answered(body: Any, status: Any = 200) -> dict[str, Any]:
    return {"status_code": status, "request_id": "req-1", "body": body}


def test_an_answer_is_its_body_with_its_status() -> None:
    results = read_results(make_line(response=answered({"choices": []})) + b"\n")

    assert results == {"one": Result(200, b'{"choices": []}', "req-1")}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":  1,"b":\t[ ] }',
        b'{"text": "\\"body\\": {}", "body": {"body": 1}}',
        b'{"text": "\xff\xfe"}',
        b'{"text": "\\ud800 \xe2\x80\xa8"}',
        b'"<html>"',
    ],
    ids=["spaces", "bodies within", "no UTF-8", "half a pair and a line separator", "a text"],
)
def test_a_body_is_kept_byte_for_byte(body: bytes) -> None:
    line = b'{"custom_id": "one", "response": {"body": ' + body + b', "status_code": 200}}'

    assert read_results(line)["one"].body == body


def test_an_error_of_the_provider_has_its_status() -> None:
    results = read_results(make_line(response=answered({"error": {"message": "no"}}, status=429)))

    assert results["one"].http_status == 429


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        ({"code": "batch_expired", "message": "Too late."}, "batch_expired: Too late."),
        ({"code": None}, "it does not say why"),
        (None, "it does not say why"),
    ],
)
def test_a_call_without_a_response_was_not_answered(error: Any, detail: str) -> None:
    result = read_results(make_line(error=error))["one"]

    assert result.http_status is None
    assert result.detail == f"The batch has no answer to this call: {detail}"


def test_the_first_of_two_lines_counts_and_what_names_no_call_is_left_out() -> None:
    lines = [
        make_line(response=answered(1)),
        make_line(response=answered(2)),
        b"",
        b"{",
        b"[]",
        b'{"custom_id": 7}',
        b"[" * 100_000,
        make_line("two", response=answered(3)),
    ]

    assert {name: result.body for name, result in read_results(b"\n".join(lines)).items()} == {"one": b"1", "two": b"3"}


def test_lines_of_failed_calls_are_cleaned_and_answers_stay_as_they_came() -> None:
    good, bad, unanswered = (
        make_line("one", response=answered("secret")),
        make_line("two", response=answered("secret", status=401)),
        make_line("three", error={"message": "secret"}),
    )

    cleaned = clean_errors(b"\n".join([good, bad, unanswered, b""]), lambda line: line.replace(b"secret", b"<key>"))

    assert cleaned.split(b"\n") == [
        good, bad.replace(b"secret", b"<key>"), unanswered.replace(b"secret", b"<key>"), b"",
    ]  # fmt: skip
