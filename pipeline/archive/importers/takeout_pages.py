"""The HTML variant of Takeout's activities, read into the items that its JSON variant has.

<div class="outer-cell …"> header-cell: product · content-cell: verb and prompt <br> files <br> time <br> answer
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from pipeline.archive.importers.html_texts import Element, find_elements, parse_html, plain_text, write_html
from pipeline.archive.times import read_time

CARD = re.compile(r'(?=<div[^>]{0,200}class="[^"]{0,200}\bouter-cell\b)')
# A time in any language: a year, and hours, minutes and seconds.
TIME_LINE = re.compile(r"(?=.*(?<!\d)(?:19|20)\d\d(?!\d)).*(?<!\d)\d{1,2}[:.]\d{2}[:.]\d{2}(?!\d).*", re.DOTALL)
LONGEST_TIME = 64  # characters of such a line
CLOCK = re.compile(r"\b(\d{1,2})[:.](\d{2})[:.](\d{2})\s*(AM|PM)?\s*(.*)$", re.IGNORECASE)
YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
# The first three letters of the names that the languages of Europe give them.
MONTH_NAMES = [
    ("jan", "ene", "gen"),
    ("feb", "fév", "fev"),
    ("mar", "mär", "mrt"),
    ("apr", "abr", "avr"),
    ("may", "maj", "mai", "mei", "mag"),
    ("jun", "giu"),
    ("jul", "lug"),
    ("aug", "ago", "aoû"),
    ("sep", "set"),
    ("oct", "okt", "ott", "out"),
    ("nov",),
    ("dec", "dez", "des", "dic", "déc"),
]
MONTHS = {name: place for place, names in enumerate(MONTH_NAMES, 1) for name in names}
ZONES = {
    "WEST BST CET": 1,
    "CEST EET": 2,
    "EEST MSK": 3,
    "JST": 9,
    "EDT": -4,
    "EST CDT": -5,
    "CST MDT": -6,
    "MST PDT": -7,
    "PST": -8,
}
HOURS_BY_ZONE = {name: hours for names, hours in ZONES.items() for name in names.split()}
OFFSET = re.compile(r"(?:GMT|UTC)?([+-−])(\d{1,2})(?::?(\d{2}))?$")


def read_cards(text: str) -> Iterator[dict[str, Any]]:
    """Yield the activities of a page, as items of the JSON variant."""
    for piece in CARD.split(text)[1:]:
        cell = parse_html(piece)
        header = " ".join(plain_text(part.children).strip() for part in find_elements(cell, "header-cell"))
        content = next((part for part in find_elements(cell, "content-cell") if part.children), None)
        if content:
            yield {"header": header, **_read_content(content)}


def _read_content(cell: Element) -> dict[str, Any]:
    """Read the cell of an activity: lines up to the one with the time, and behind it the answer."""
    lines, rest = _take_lines(cell.children)
    files = [line for line in lines if _link_of(line)]
    title = _join(line for line in lines if not _link_of(line))
    if files:
        title = title.rpartition("\n")[0]  # the line above the files counts them
    time = _join([rest[0]]) if rest else ""
    answer = write_html(node for line in rest[1:] for node in line).strip()
    item: dict[str, Any] = {"title": title, "time": read_page_time(time), "attachedFiles": list(map(_link_of, files))}
    if time and not item["time"]:
        item["unreadTime"] = time
    if answer:
        item["safeHtmlItem"] = [{"html": answer}]
    return {name: value for name, value in item.items() if value}


Line = list[Element | str]


def _take_lines(nodes: list[Element | str]) -> tuple[list[Line], list[Line]]:
    """Return the lines above the time, and the time and all below it."""
    lines: list[Line] = [[]]
    for node in nodes:
        if isinstance(node, Element) and node.tag == "br":
            lines.append([])
        else:
            lines[-1].append(node)
    for place, line in enumerate(lines):
        text = _join([line])
        if place and len(text) <= LONGEST_TIME and TIME_LINE.fullmatch(text):
            below: list[Line] = [[*part, Element("br")] for part in lines[place + 1 : -1]]
            return lines[:place], [line, *below, *lines[max(place + 1, len(lines) - 1) :]]
    return lines, []


def _join(lines: Any) -> str:
    text = "\n".join(plain_text(line).replace("\xa0", " ").replace("\u202f", " ") for line in lines)
    return text.strip()


def _link_of(line: Line) -> str | None:
    """Return the file that a line names: `- <a href="boat.png">boat.png</a>`."""
    links = [node for node in line if isinstance(node, Element) and node.tag == "a"]
    before = plain_text(line).replace("\xa0", " ").lstrip()
    href = links[0].attributes.get("href", "") if len(links) == 1 and before.startswith("-") else ""
    return href if href and "://" not in href else None


def read_page_time(text: str) -> str | None:
    """Return the time of a card, such as `Feb 3, 2026, 9:20:00 AM UTC`, in UTC; None where it cannot be read.

    A zone that is not known is taken for UTC.
    """
    if plain := read_time(text):
        return plain
    clock, year = CLOCK.search(text), YEAR.search(text)
    if not clock or not year:
        return None
    date = text[: clock.start()]
    month = next((MONTHS[word[:3]] for word in re.findall(r"[^\W\d_]+", date.lower()) if word[:3] in MONTHS), None)
    day = next((int(number) for number in re.findall(r"\b\d{1,2}\b", date)), None)
    if month is None or day is None:
        return None
    hour = int(clock[1]) % 12 + 12 * (clock[4].upper() == "PM") if clock[4] else int(clock[1])
    try:
        local = datetime(int(year[1]), month, day, hour, int(clock[2]), int(clock[3]), tzinfo=_read_zone(clock[5]))
        return read_time(local.astimezone(UTC).isoformat())
    except (ValueError, OverflowError):
        return None


def _read_zone(name: str) -> timezone:
    offset = OFFSET.match(name.strip())
    if offset:
        hours = int(offset[2]) + int(offset[3] or 0) / 60
        return timezone(timedelta(hours=hours if offset[1] == "+" else -hours))
    return timezone(timedelta(hours=HOURS_BY_ZONE.get(name.strip().upper(), 0)))
