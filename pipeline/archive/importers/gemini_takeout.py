"""Gemini Apps in Google Takeout: a list of activities, the newest first, in JSON or HTML. It knows no conversations.

Prompts that follow each other within a gap are taken for one conversation; its id is made of its first prompt, so
that a later export which adds to it keeps it. An activity that is no prompt is skipped and counted.

Source: `Takeout/My Activity/Gemini Apps/MyActivity.json` (names are localised), as of mid 2026.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.archive.conversations import Block, Conversation, Json, Kind, Message, Origin, Role
from pipeline.archive.importers.html_texts import to_markdown
from pipeline.archive.importers.inline_files import block_of
from pipeline.archive.importers.interface import Member, Parsed, Peek, Recognition, Record, Skip
from pipeline.archive.importers.linear import derive_id, settle_list
from pipeline.archive.importers.odd_values import read_noted_time
from pipeline.archive.importers.siblings import Siblings, attach_file, tell_files
from pipeline.archive.importers.takeout_pages import read_cards
from pipeline.archive.importers.values import list_of, object_of, objects_of, rest_of, text_of
from pipeline.archive.reading import peek as peek_at
from pipeline.archive.reading import read_items, read_text
from pipeline.archive.times import read_time
from pipeline.archive.titles import choose_title

# "Gemini Apps", "Gemini-apps", "Aplicaciones de Gemini", "Geminiアプリ"
PRODUCT = re.compile(r"(?<![a-z])gemini(?![a-z])", re.IGNORECASE)
# The verb of some languages goes on to a colon: "Eingegebener Prompt: …". One prompt may have a colon by chance.
WIDE_COLON = "："  # ends a verb without a space
VERB = re.compile(f"[^\\s{WIDE_COLON}]*{WIDE_COLON}?")
PHRASE = re.compile(r"\S+(?: [^\s:]+){0,3} ?:(?=\s|$)")
ENGLISH = "Prompted"  # alone
KNOWN_PHRASES = ("Eingegebener Prompt:",)
FEWEST_TITLES = 3
NOT_THERE = "the export does not hold it"
READ_KEYS = frozenset(
    {
        "header",
        "title",
        "time",
        "products",
        "activityControls",
        "safeHtmlItem",
        "imageFile",
        "attachedFiles",
        "subtitles",
    }
)
ITEMS_KEPT = 10_000  # of a file that is not in the order of its times


class _Activity(NamedTuple):
    """What grouping has to know of an item."""

    place: int
    time: str | None
    title: str
    has_answer: bool

    @property
    def verb(self) -> str:
        return VERB.match(self.title.lstrip())[0]  # type: ignore[index]  # it may be empty, and always matches


@dataclass(frozen=True)
class GeminiTakeoutImporter:
    """Activities of Gemini Apps. `gap`: prompts further apart begin a new conversation; None: those of another day."""

    gap: timedelta | None = timedelta(minutes=30)

    name = "gemini_takeout"
    provider = "gemini"
    version = 2

    def recognise(self, peek: Peek) -> Recognition | None:
        if peek.kind == "array" and any(map(_is_gemini, peek.items)):
            return Recognition("activities with the product Gemini Apps")
        if peek.kind != "text":
            return None
        if "outer-cell" in peek.text and PRODUCT.search(peek.text):
            return Recognition("a page of activity cards that names Gemini Apps")
        # The styles of such a page can be longer than what was looked at.
        head = peek.text.lower()
        if head.lstrip().startswith("<html") and "<title>" in head and "mdl-" in head and "<body" not in head:
            return Recognition("the head of a page of activities")
        return None

    def split(self, file: Member, siblings: Sequence[Member]) -> Iterator[Record | Skip]:
        """Yield the conversations that the prompts of a file make up. It is read twice, and never kept as a whole."""
        beside = Siblings(file, siblings)
        if self._is_beside_json(file, beside):
            yield Skip("same_as_json", file.name, "the JSON variant of these activities lies beside it", is_info=True)
            return
        activities: list[_Activity] = []
        for item in _read_activities(file):
            if isinstance(item, Skip):
                yield item
            elif _is_gemini(item[1]):
                activities.append(_note(*item))
            else:
                yield Skip("other_product", f"{file.name}[{item[0]}]", is_info=True)
        verb = _find_verb(activities)
        prompts = [activity for activity in activities if activity.has_answer or activity.verb == verb]
        for activity in activities:
            if not activity.has_answer and activity.verb != verb:
                yield Skip("activity", f"{file.name}[{activity.place}]", "not a prompt", is_info=True)
        phrase = _find_phrase(verb, prompts)
        yield from self._make_records(file, self._group(prompts), verb=phrase, beside=beside)

    def _is_beside_json(self, file: Member, beside: Siblings) -> bool:
        if peek_at(file).kind != "text":
            return False
        others = [member for member in beside.beside() if member.name.lower().endswith(".json")]
        return any(self.recognise(peek_at(member)) for member in others)

    def _group(self, prompts: Sequence[_Activity]) -> list[list[_Activity]]:
        """Return the prompts of each conversation by time; of those with one time, the later in the file first."""
        groups: list[list[_Activity]] = []
        for prompt in sorted(prompts, key=lambda prompt: (prompt.time or "", -prompt.place)):
            if groups and self._is_near(groups[-1][-1], prompt):
                groups[-1].append(prompt)
            else:
                groups.append([prompt])
        return groups

    def _is_near(self, before: _Activity, after: _Activity) -> bool:
        if before.time is None or after.time is None:
            return False
        if self.gap is None:
            return before.time[:10] == after.time[:10]
        return datetime.fromisoformat(after.time) - datetime.fromisoformat(before.time) <= self.gap

    def _make_records(
        self, file: Member, groups: list[list[_Activity]], *, verb: str, beside: Siblings
    ) -> Iterator[Record]:
        """Yield each group as soon as all of its items were read again."""
        group_by_place = {activity.place: group for group in groups for activity in group}
        waiting: dict[int, dict[str, Any]] = {}
        for item in _read_activities(file):
            group = None if isinstance(item, Skip) else group_by_place.get(item[0])
            if group is None or isinstance(item, Skip):
                continue
            waiting[item[0]] = item[1]
            if all(activity.place in waiting for activity in group):
                items = [waiting.pop(activity.place) for activity in group]
                yield _make_record(items, group, file=file, verb=verb, beside=beside)

    def parse(self, record: Record) -> Parsed:
        context = object_of(record.context)
        conversation = Conversation(self.provider, record.key, is_id_derived=True, is_append_only=True)
        for item in objects_of(record.value):
            conversation.messages.append(_read_prompt(item, context, conversation))
            answer = _read_answer(item)
            conversation.messages += [answer] if answer else []
        settle_list(conversation)
        choose_title(conversation)
        return Parsed(conversation)


def _is_gemini(item: Any) -> bool:
    record = object_of(item)
    names = [record.get("header"), *list_of(record.get("products"))]
    is_activity = "title" in record or "time" in record
    return is_activity and any(isinstance(name, str) and PRODUCT.search(name) for name in names)


def _read_activities(file: Member) -> Iterator[tuple[int, dict[str, Any]] | Skip]:
    """Yield the items of a file with their places, of JSON and of HTML."""
    if peek_at(file).kind == "text":
        text, skips = read_text(file)
        yield from skips
        yield from enumerate(read_cards(text))
        return
    for item in read_items(file, ("item",)):
        if isinstance(item, Skip):
            yield item
        elif isinstance(item.value, dict):
            yield item.index, item.value
        else:
            yield Skip("not_an_object", f"{file.name}[{item.index}]")


def _note(place: int, item: dict[str, Any]) -> _Activity:
    return _Activity(place, read_time(item.get("time")), text_of(item.get("title")) or "", bool(_answers_of(item)))


def _answers_of(item: dict[str, Any]) -> list[str]:
    return [html for part in objects_of(item.get("safeHtmlItem")) if (html := text_of(part.get("html")))]


def _find_verb(activities: Sequence[_Activity]) -> str:
    """Return the first word of most answered activities: "Prompted", in the language of the account."""
    words = Counter(activity.verb for activity in activities if activity.has_answer)
    return words.most_common(1)[0][0] if words else ENGLISH


def _find_phrase(verb: str, prompts: Sequence[_Activity]) -> str:
    """Return all that stands before a prompt: the verb, or what goes on from it to a colon in all prompts."""
    titles = [_plain(prompt.title) for prompt in prompts if prompt.verb == verb]
    begins = {found[0] for title in titles if (found := PHRASE.match(title))}
    is_shared = len(begins) == 1 and all(PHRASE.match(title) for title in titles)
    phrase = next(iter(begins)) if is_shared else verb
    is_enough = len(titles) >= FEWEST_TITLES and verb != ENGLISH
    return phrase if is_enough or phrase in KNOWN_PHRASES else verb


def _plain(title: str) -> str:
    return title.replace("\xa0", " ")


def _make_record(
    items: list[dict[str, Any]], group: list[_Activity], *, file: Member, verb: str, beside: Siblings
) -> Record:
    first = group[0]
    second = first.time[:19] if first.time else None  # the HTML variant has no fractions of it
    files = tell_files((name, beside.find(name)) for item in items for name in _file_names(item))
    context: dict[str, Json] = {"verb": verb, **({"files": files.facts} if files.facts else {})}
    places = sorted(activity.place for activity in group)
    where = f"{file.name}[{places[0]}]" if len(places) == 1 else f"{file.name}[{places[0]}-{places[-1]}]"
    key = derive_id("gemini_takeout", second, " ".join(first.title.split()))
    return Record(key, where, list(items), context=context, sources=files.exports)


def _read_prompt(item: dict[str, Any], context: dict[str, Any], conversation: Conversation) -> Message:
    title, verb = text_of(item.get("title")) or "", text_of(context.get("verb")) or ""
    rest = title[len(verb) :]
    is_whole = rest[:1].isspace() or not rest or verb.endswith(WIDE_COLON)
    has_verb = bool(verb) and is_whole and _plain(title).startswith(verb)
    prompt = (rest[1:] if rest[:1].isspace() else rest) if has_verb else title
    blocks = [Block(Kind.TEXT, prompt)] if prompt else []
    shown = _shown_names(item)
    for name in _file_names(item):
        facts = {"id": name, "purpose": "upload", "name": shown.get(name) or PurePosixPath(name).name}
        blocks.append(block_of(attach_file(context, name, reason=NOT_THERE, **facts)))
    extra = rest_of(item, READ_KEYS)
    time = read_noted_time(item.get("time"), conversation, extra)
    links = [part for part in objects_of(item.get("subtitles")) if not _is_file_line(part)]
    if any("url" in part for part in links):
        extra["subtitles"] = links  # such as the Gem that was asked
    return Message("", role=Role.USER, origin=Origin.HUMAN, created=time, blocks=blocks, extra=extra)


def _read_answer(item: dict[str, Any]) -> Message | None:
    """Return the answer. Several pieces may be drafts or parts of it; nobody knows, so all are there and flagged."""
    answers = _answers_of(item)
    if not answers:
        return None
    flags = ["ambiguous"] if len(answers) > 1 else []
    blocks = [Block(Kind.TEXT, to_markdown(html), flags=list(flags), extra={"html": html}) for html in answers]
    return Message("", role=Role.ASSISTANT, blocks=blocks)


def _file_names(item: dict[str, Any]) -> list[str]:
    """Return the files of an item, each once, although it may be named in three places."""
    named = [item.get("imageFile"), *list_of(item.get("attachedFiles"))]
    lines = [part for part in objects_of(item.get("subtitles")) if _is_file_line(part)]
    named += [part.get("url") for part in lines]
    names = list(dict.fromkeys(name for name in named if isinstance(name, str) and name))
    if not names:
        names = [_shown_name(part) for part in lines]
    return names


def _is_file_line(part: dict[str, Any]) -> bool:
    return (text_of(part.get("name")) or "").startswith("-")


def _shown_name(part: dict[str, Any]) -> str:
    return (text_of(part.get("name")) or "").lstrip("- \xa0")


def _shown_names(item: dict[str, Any]) -> dict[str, str]:
    lines = [part for part in objects_of(item.get("subtitles")) if _is_file_line(part)]
    return {part["url"]: _shown_name(part) for part in lines if text_of(part.get("url"))}
