"""Times are read from all that exports write, and damage is told from absence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.archive.times import is_damaged_time, read_time


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1735689600, "2025-01-01T00:00:00Z"),
        (1735689600.5, "2025-01-01T00:00:00.500000Z"),
        (1735689600123, "2025-01-01T00:00:00.123000Z"),
        ("1735689600", "2025-01-01T00:00:00Z"),
        (" 1735689600.123456 ", "2025-01-01T00:00:00.123456Z"),
        ("1735689600123", "2025-01-01T00:00:00.123000Z"),
        ("1.7356896e9", "2025-01-01T00:00:00Z"),
        ("2026-03-01T09:00:02Z", "2026-03-01T09:00:02Z"),
        ("2026-03-01T09:00:02.000000Z", "2026-03-01T09:00:02Z"),
        ("2026-03-01T09:00:02.123456Z", "2026-03-01T09:00:02.123456Z"),
        ("2026-03-01T09:00:02.1Z", "2026-03-01T09:00:02.100000Z"),
        ("2026-03-01T09:00:02.123456789Z", "2026-03-01T09:00:02.123456Z"),
        ("2026-03-01T09:00:02,5+00:00", "2026-03-01T09:00:02.500000Z"),
        ("2026-03-01T11:00:02+02:00", "2026-03-01T09:00:02Z"),
        ("2026-03-01T05:30:02-0330", "2026-03-01T09:00:02Z"),
        ("2026-03-01T10:00:02+01", "2026-03-01T09:00:02Z"),
        ("2026-03-01 09:00:02", "2026-03-01T09:00:02Z"),
        ("2026-03-01 09:00:02 UTC", "2026-03-01T09:00:02Z"),
        ("2026-03-01T09:00", "2026-03-01T09:00:00Z"),
        ("2026-03-01", "2026-03-01T00:00:00Z"),
        ("2100-12-31T23:59:59Z", "2100-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_read_in_each_form(value, expected):
    assert read_time(value) == expected
    assert not is_damaged_time(value)


@pytest.mark.parametrize("value", [None, ""])
def test_no_time_is_no_damage(value):
    assert read_time(value) is None
    assert not is_damaged_time(value)


@pytest.mark.parametrize(
    "value",
    [
        *["2024-05-01T10:00:01.693863+", "2024-05-01T10:00:01.", "2024-05-01T1", "2024-13-01", "2024-02-30T00:00:00Z"],
        *["yesterday", "2024-05-01T10:00:01+99:99x", "0000-01-01", "9999-12-31T23:59:59-12:00", "１７３５６８９６００"],
        *[True, False, 0, 1, -5, 946684799, 4133980800, 1e300, float("nan"), float("inf"), 10**400, "1e999", [], {}],
    ],
)
def test_what_is_no_time_of_a_chat_is_damaged(value):
    assert read_time(value) is None
    assert is_damaged_time(value)


@given(st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30), timezones=st.timezones()))
def test_every_moment_comes_back_from_its_text(moment):
    text = read_time(moment.isoformat())

    assert text is not None
    assert datetime.fromisoformat(text) == moment.astimezone(UTC)


@given(st.floats(946684800, 4133980798) | st.integers(946684800, 4133980798).map(lambda second: second + 0.9999996))
def test_seconds_since_1970_are_the_time_that_datetime_makes_of_them(seconds):
    assert read_time(seconds) == f"{(datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()}Z"


@given(st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30)), st.sampled_from(["seconds", "microseconds"]))
def test_a_time_in_utc_reads_the_same_however_its_zone_is_written(moment, timespec):
    text = moment.isoformat(timespec=timespec)

    assert read_time(f"{text}Z") == read_time(f"{text}+00:00")


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
@example(-62_135_596_801)  # a second before the year 1
def test_no_value_makes_it_fail(value):
    text = read_time(value)

    assert text is None or read_time(text) == text
