"""docs/statuses.md says what the function does: a case for each row, and no reason without a row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import answers
from pipeline.answers import decide_status
from pipeline.litellm_client import ADVICE_BY_REASON
from pipeline.retries import AGAIN_BY_REASON, classify

pytestmark = pytest.mark.xdist_group("litellm")

PAGE = (Path(__file__).parents[2] / "docs" / "statuses.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = {(status, reason or None): again for status, reason, _, again in ROW.findall(PAGE)}

# What decide_status is told, for each row.
CASES: dict[tuple[str, str | None], list[dict[str, Any]]] = {
    ("ok", None): [{"finish": word, "text": "Once"} for word in answers.FINISHED],
    ("truncated", "max_tokens"): [{"finish": word, "text": "Once"} for word in answers.AT_TOKEN_LIMIT],
    ("truncated", "reasoning_only"): [
        {"finish": "stop", "text": " ", "reasoning": "Hm."}, {"finish": "length", "reasoning": "Hm."}
    ],
    ("gen_error", "rate_limit"): [{"http_status": 429}, {"http_status": 429, "error_names": ["RateLimitError"]}],
    ("gen_error", "transport"): [
        {"error_names": ["connection"]}, {"error_names": ["timeout"]}, {"error_names": ["timeout"], "http_status": 200},
        *({"http_status": status} for status in (408, 425, 500, 502, 503, 529)),
    ],
    ("gen_error", "no_connection"): [{"error_names": ["unreached"]}],
    ("gen_error", "cut_body"): [{"error_names": ["cut"], "http_status": 200}],
    ("gen_error", "bad_body"): [
        {"error_names": [name], "http_status": 200} for name in ("bad_body", "too_long", "InternalServerError")
    ],
    ("gen_error", "no_choices"): [{"has_choice": False}],
    ("gen_error", "empty"): [{"finish": "stop"}, {"finish": "stop", "text": ""}, {"finish": "stop", "text": " \n"}],
    ("gen_error", "tool_calls"): [{"finish": word} for word in answers.CALLED_TOOLS],
    ("gen_error", "provider"): [
        {"error_names": ["error_object"], "http_status": 200},
        *({"finish": "stop", "native": word, "text": "Once"} for word in answers.FAILED),
    ],
    ("gen_error", "unknown_finish"): [
        {"finish": "stop", "native": "tomorrow", "text": "Once"}, {"text": "Once"}, {"finish": "tomorrow"}
    ],
    ("gen_error", "auth"): [{"http_status": 401}, {"http_status": 403, "error_names": ["APIError"]}],
    ("gen_error", "budget"): [
        {"http_status": 402}, {"http_status": 429, "error_text": "insufficient_quota"},
        {"http_status": 400, "error_text": "Your credit balance is too low"},
    ],
    ("gen_error", "key_in_prompt"): [{"error_names": ["key_in_prompt"]}],
    ("gen_error", "refused"): [
        *({"finish": "stop", "native": word, "text": "Once"} for word in answers.REFUSED),
        {"http_status": 400, "error_names": ["ContentPolicyViolationError", "BadRequestError"]},
    ],
    ("gen_error", "context_overflow"): [
        {"http_status": 400, "error_names": ["ContextWindowExceededError", "BadRequestError"]}
    ],
    ("gen_error", "bad_params"): [{"http_status": 400, "error_names": ["UnsupportedParamsError", "BadRequestError"]}],
    ("gen_error", "bad_request"): [
        {"error_names": ["BadRequestError"]}, *({"http_status": status} for status in (307, 400, 404, 413, 422))
    ],
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1] or row[0])
def test_each_row_of_the_table_is_what_the_function_says(row: tuple[str, str | None]) -> None:
    status, reason = row

    for facts in CASES[row]:
        assert decide_status(**facts) == row, facts
    assert ROWS[row].partition(":")[0] == classify(status, reason, was_sent=True).value


def test_the_table_has_every_reason_and_no_other() -> None:
    failures = {reason for status, reason in ROWS if status == "gen_error"}

    assert failures == set(AGAIN_BY_REASON) == set(ADVICE_BY_REASON)
    assert set(CASES) == set(ROWS)


def test_no_finish_reason_stands_in_two_lists() -> None:
    lists = [answers.FINISHED, answers.AT_TOKEN_LIMIT, answers.REFUSED, answers.FAILED, answers.CALLED_TOOLS]

    assert sum(map(len, lists)) == len(frozenset().union(*lists))


def test_nothing_but_a_finished_text_is_ok() -> None:
    """Whatever else is put together: an error or a missing finish reason is never ok."""
    for names in ([], ["connection"], ["AttributeError"]):
        for http_status in (None, 200, 302, 404, 500):
            for finish in (None, "stop", "length", "tomorrow"):
                for text in (None, "", "Once"):
                    verdict = decide_status(error_names=names, http_status=http_status, finish=finish, text=text)
                    is_well = not names and http_status in (None, 200) and finish == "stop" and text == "Once"
                    assert (verdict.status == "ok") == is_well, (names, http_status, finish, text, verdict)
