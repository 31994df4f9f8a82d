"""The HTML variant of Takeout's activities, read into the items that its JSON variant has.

<div class="outer-cell …"> header-cell: product · content-cell: verb and prompt <br> files <br> time <br> answer
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pipeline.archive.importers.html_texts import BLOCKS, Element, find_elements, parse_html, plain_text, write_html
from pipeline.archive.times import lacks_zone, read_time

CARD = re.compile(r'(?=<div[^>]{0,200}class="[^"]{0,200}\bouter-cell\b)')
# A time in any language: a year, and hours, minutes and seconds.
TIME_LINE = re.compile(r"(?=.*(?<!\d)(?:19|20)\d\d(?!\d)).*(?<!\d)\d{1,2}[:.]\d{2}[:.]\d{2}(?!\d).*", re.DOTALL)
LONGEST_TIME = 64  # characters of such a line
CLOCK = re.compile(r"(?<!\d)(\d{1,2})[:.](\d{2})[:.](\d{2})(?!\d)")
NOON = re.compile(
    r"(?<!\w)(?:(AM|A\. ?M\.|π\.μ\.|SA)|(PM|P\. ?M\.|μ\.μ\.|CH))(?!\w)|(오전|午前|上午)|(오후|午後|下午)", re.IGNORECASE
)
YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")
# Numbers only: the year first, or the day. Where slashes leave open which number is the day, it is the first, or the
# second beside AM or PM in capitals: so the United States write it.
AMERICAN_NOON = re.compile(r"(?<!\w)[AP]M(?!\w)")
YEAR_FIRST = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)\s?[-/.年년]\s?(?P<month>\d{1,2})\s?[-/.月월]\s?(?P<day>\d{1,2})(?!\d)"
)
DAY_FIRST = re.compile(
    r"(?<!\d)(?P<day>\d{1,2})(?P<by>\. ?|[-/])(?P<month>\d{1,2})(?:\. ?|[-/])(?P<year>(?:19|20)\d\d)(?!\d)"
)
NUMBERED_MONTH = re.compile(r"\b(?:thg|tháng) ?(\d{1,2})\b")
# How the names of the months begin in the languages of Takeout; of two that fit, the longer one.
MONTH_NAMES = [
    "jan ene gen ian янв січ sty led oca tam ιαν",
    "feb fév fev фев лют lut úno şub hel φεβ",
    "mar mär mrt már мар бер bře maa μαρ",
    "apr abr avr ápr апр кві kwi dub nis huh απρ",
    "may maj mai mei mag máj maí мая май тра kvě tou μαΐ μαι",
    "jun giu jún iun juin юн июн чер cze čvn haz kes ιουν",
    "jul lug júl iul juil июл лип lip čvc tem hei ιουλ",
    "aug ago aoû agu ágú авг сер sie srp ağu elo αυγ",
    "sep set sze сен вер wrz zář eyl syy σεπ",
    "oct okt ott out окт жов paź říj eki lok οκτ",
    "nov noi nóv ноя лис lis kas marr νοε",
    "dec dez des dic déc дек гру gru pro ara jou δεκ",
]
MONTHS = {begin: place for place, names in enumerate(MONTH_NAMES, 1) for begin in names.split()}
ZONES = {
    "UTC GMT Z WET WEZ": 0,
    "WEST BST CET MEZ WAT": 1,
    "CEST MESZ EET OEZ SAST CAT": 2,
    "EEST OESZ MSK TRT EAT": 3,
    "WIB ICT": 7,
    "AWST SGT HKT PHT WITA": 8,
    "JST KST WIT": 9,
    "AEST": 10,
    "AEDT": 11,
    "NZST": 12,
    "NZDT": 13,
    "BRT ART CLST ADT": -3,
    "EDT AST CLT": -4,
    "EST CDT COT PET": -5,
    "CST MDT": -6,
    "MST PDT": -7,
    "PST AKDT": -8,
    "AKST": -9,
    "HST": -10,
}
HOURS_BY_ZONE = {name: hours for names, hours in ZONES.items() for name in names.split()}
OFFSET = re.compile(r"(?:GMT|UTC)\s?([+\-−])(\d{1,2})(?::?(\d{2}))?|(?<!\S)([+\-−])(\d{2}):?(\d{2})(?!\S)")


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
    lines, time_line, below = _split_cell(cell.children)
    files = [line for line in lines if _link_of(line)]
    title = _join(line for line in lines if not _link_of(line))
    if files:
        title = title.rpartition("\n")[0]  # the line above the files counts them
    time, answer = _join([time_line]), write_html(below).strip()
    addresses = (node.attributes.get("href", "") for line in lines for node in _links_of(line) if line not in files)
    item: dict[str, Any] = {
        "title": title,
        "titleUrl": next((address for address in addresses if "://" in address), None),
        "time": read_page_time(time),
        "attachedFiles": list(map(_link_of, files)),
    }
    if time and not item["time"]:
        item["unreadTime"] = time
    if answer:
        item["safeHtmlItem"] = [{"html": answer}]
    return {name: value for name, value in item.items() if value}


Line = list[Element | str]


class _Cell(NamedTuple):
    """The lines above the time, the one with the time, and all below it."""

    above: list[Line]
    time: Line
    below: Line


def _split_cell(nodes: Line) -> _Cell:
    above: list[Line] = []
    line: Line = []
    for place, node in enumerate([*nodes, Element("br")]):  # it ends the last line
        is_break = isinstance(node, Element) and node.tag == "br"
        if not is_break and not _is_block(node):
            line.append(node)
            continue
        text = _join([line])
        if above and len(text) <= LONGEST_TIME and TIME_LINE.fullmatch(text):
            return _Cell(above, line, nodes[place + 1 if is_break else place :])
        above += [line] if is_break else [line, [node]]
        line = []
    return _Cell(above, [], [])


def _is_block(node: Element | str) -> bool:
    return isinstance(node, Element) and node.tag in BLOCKS


def _join(lines: Any) -> str:
    text = "\n".join(plain_text(line).replace("\xa0", " ").replace("\u202f", " ") for line in lines)
    return text.strip()


def _link_of(line: Line) -> str | None:
    """Return the file that a line names: `- <a href="boat.png">boat.png</a>`."""
    links = _links_of(line)
    before = plain_text(line).replace("\xa0", " ").lstrip()
    href = links[0].attributes.get("href", "") if len(links) == 1 and before.startswith("-") else ""
    return href if href and "://" not in href else None


def _links_of(line: Line) -> list[Element]:
    return [node for node in line if isinstance(node, Element) and node.tag == "a"]


def read_page_time(text: str) -> str | None:
    """Return the time of a card, such as `Feb 3, 2026, 9:20:00 AM UTC`, in UTC; None where it cannot be read.

    With a zone that is not known it is the time as it stands there, without one.
    """
    if plain := read_time(text):
        return plain.removesuffix("Z") if lacks_zone(text) else plain
    clock = CLOCK.search(text)
    if not clock:
        return None
    rest = f"{text[: clock.start()]} {text[clock.end() :]}"
    date = _read_date(NOON.sub(" ", OFFSET.sub(" ", rest)), is_american=bool(AMERICAN_NOON.search(rest)))
    hour, noon = int(clock[1]), NOON.search(rest)
    if noon:
        hour = hour % 12 + 12 * bool(noon[2] or noon[4])
    if date is None:
        return None
    try:
        local = datetime(*date, hour, int(clock[2]), int(clock[3]))
        offset = _find_offset(rest)
        return local.isoformat() if offset is None else read_time((local - offset).isoformat())
    except (ValueError, OverflowError):
        return None


def _read_date(text: str, *, is_american: bool) -> tuple[int, int, int] | None:
    """Return the year, month and day that a text names."""
    if found := YEAR_FIRST.search(text) or DAY_FIRST.search(text):
        year, month, day = (int(found[name]) for name in ("year", "month", "day"))
        is_month_first = found.groupdict().get("by") == "/" and (month > 12 or (is_american and day <= 12))
        return (year, day, month) if is_month_first else (year, month, day)
    found_year = YEAR.search(text)
    numbered = NUMBERED_MONTH.search(text.lower())
    month_found = int(numbered[1]) if numbered else next(filter(None, map(_read_month, _words_of(text))), None)
    text = NUMBERED_MONTH.sub(" ", text.lower())
    day_found = next((int(number) for number in re.findall(r"(?<!\d)\d{1,2}(?!\d)", text)), None)
    if not found_year or month_found is None or day_found is None:
        return None
    return int(found_year[1]), month_found, day_found


def _words_of(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _read_month(word: str) -> int | None:
    return MONTHS.get(word[:4]) or MONTHS.get(word[:3])


def _find_offset(text: str) -> timedelta | None:
    """Return how far a zone is before UTC, by its offset or its name; None for one that is not known."""
    if found := OFFSET.search(text):
        sign, hours, minutes = (found[1], found[2], found[3]) if found[1] else (found[4], found[5], found[6])
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return offset if sign == "+" else -offset
    names = [word for word in re.findall(r"[A-Z]+", text) if word in HOURS_BY_ZONE]
    return timedelta(hours=HOURS_BY_ZONE[names[-1]]) if names else None
