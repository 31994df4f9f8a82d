"""Times as exports write them, read into texts in UTC: 2026-03-01T09:00:02.123456Z."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

FIRST_YEAR, LAST_YEAR = 2000, 2100  # what is outside is damage: no chat with a model is older
MILLISECONDS_FROM = 1e11  # as seconds, this is the year 5138
LAST_MILLISECOND = 1e13  # the year 2286

# All moments here are in UTC; a zone at each costs as much as the rest of the work.
_EPOCH = datetime(1970, 1, 1)
_MINUTES = [f"T{minute // 60:02}:{minute % 60:02}" for minute in range(24 * 60)]  # of a day
_SECONDS = [f":{second:02}" for second in range(60)]
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
# As this module writes times, days that every month has: nothing to do. Most exports have nearly only such times.
_WRITTEN = re.compile(
    r"20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.(?!000000)[0-9]{6})?Z"
)
_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"\s?([Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)


def read_time(value: Any) -> str | None:
    """Return a time in UTC, with a fraction only if it is not zero; None where there is none, or it is damaged.

    Seconds or milliseconds since 1970, as number or text, and ISO 8601; without a zone it is taken for UTC.

    >>> read_time(1735689600.5), read_time("2026-03-01T11:00:02+02:00"), read_time("2025-01-01T00:00:00.5+")
    ('2025-01-01T00:00:00.500000Z', '2026-03-01T09:00:02Z', None)
    """
    if type(value) is float:  # nearly always, in the longest exports
        return _read_number(value)
    if isinstance(value, str):
        return value if _WRITTEN.fullmatch(value) else _read_text(value.strip())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _read_number(value)
    return None


def is_damaged_time(value: Any) -> bool:
    """Whether a value is there, and yet no time can be read from it."""
    return value is not None and value != "" and read_time(value) is None


def order_of(time: str | None) -> str:
    """Return what a time of this module is sorted by: 09:00:02Z is before 09:00:02.5Z, and no time before all.

    >>> sorted(["2026-03-01T09:00:02.500000Z", "2026-03-01T09:00:02Z"], key=order_of)[0]
    '2026-03-01T09:00:02Z'
    """
    return time.removesuffix("Z") if time else ""


def lacks_zone(value: Any) -> bool:
    """Whether a time is a date or a clock that says nothing of its zone, and so was only taken for UTC.

    >>> lacks_zone("2026-03-01T09:00:02"), lacks_zone("2026-03-01T09:00:02Z"), lacks_zone(1735689600)
    (True, False, False)
    """
    if not isinstance(value, str) or value[-1:] in ("Z", "z"):
        return False
    found = _ISO.fullmatch(value.strip())
    return found is not None and found[8] is None and read_time(value) is not None


def _read_text(text: str) -> str | None:
    if _NUMBER.fullmatch(text):
        return _read_number(float(text))
    found = _ISO.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    microsecond = int((found[7] or "0").ljust(6, "0")[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, microsecond) - _read_offset(found[8] or "Z")
    except (ValueError, OverflowError):  # the 30th of February, or the year 0
        return None
    return f"{moment.isoformat()}Z" if FIRST_YEAR <= moment.year <= LAST_YEAR else None


def _read_offset(zone: str) -> timedelta:
    if zone.upper() in ("Z", "UTC"):
        return timedelta(0)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -offset if zone[0] == "-" else offset


def _read_number(number: float) -> str | None:
    """Return seconds or milliseconds as a time, put together from tables: datetime takes three times as long."""
    if not 0 <= number < LAST_MILLISECOND:  # nor what is no number at all
        return None
    fraction, seconds = math.modf(number / 1000 if number > MILLISECONDS_FROM else number)
    more, microsecond = divmod(round(fraction * 1_000_000), 1_000_000)
    minute, second = divmod(int(seconds) + more, 60)
    day, minute = divmod(minute, 24 * 60)
    if (date := _write_day(day)) is None:
        return None
    time = f"{date}{_MINUTES[minute]}{_SECONDS[second]}"
    return f"{time}.{str(microsecond).zfill(6)}Z" if microsecond else f"{time}Z"


@lru_cache(maxsize=10_000)
def _write_day(day: int) -> str | None:
    """Return the date that is so many days behind the epoch; None if it is damage."""
    date = (_EPOCH + timedelta(days=day)).date()
    return date.isoformat() if FIRST_YEAR <= date.year <= LAST_YEAR else None
