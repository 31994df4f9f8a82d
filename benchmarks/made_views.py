"""Views of conversations that nobody had: as many as asked for, of realistic shape, the same every time.

views = list(make_views(300, seed=7))       words by Zipf's law, answers, thinking, tool calls, branches, files
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from pipeline.archive.conversations import (
    Attachment,
    AttachmentStatus,
    Block,
    Conversation,
    Kind,
    Message,
    Origin,
    Role,
    Usage,
)
from pipeline.archive.views import Outline, View
from store.identity import hash_bytes, id_from_digest

VOCABULARY = 20_000
PROVIDERS = {"chatgpt": ["gpt-4o", "o3"], "claude": ["claude-sonnet-4"], "claude_code": ["claude-opus-4"]}
SYLLABLES = ["".join(pair) for pair in zip("bcdfghjklmnprstvwxyz", "aeiouaeiouaeiouaeiou", strict=True)]
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 700
TURNS = 12  # of a conversation, on average
HEAD_WORDS = ["the", "tide", "harbour", "knot", "rope", "wind", "lantern", "chart"]  # the most frequent ones


class Words:
    """A vocabulary in which the word of rank n is n times rarer than the first, as in natural texts."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.words = HEAD_WORDS + [_make_word(number) for number in range(VOCABULARY - len(HEAD_WORDS))]
        self._weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))

    def draw(self, count: int) -> str:
        return " ".join(self._chance.choices(self.words, cum_weights=self._weights, k=count))


def _make_word(number: int) -> str:
    """17 -> "yoba": each number has a word of its own."""
    word, rest = "", number + len(SYLLABLES)
    while rest:
        rest, digit = divmod(rest, len(SYLLABLES))
        word += SYLLABLES[digit]
    return word


def make_views(count: int, *, seed: int = 1, turns: int = TURNS) -> Iterator[View]:
    """Yield conversations of two messages a turn on average."""
    chance = random.Random(seed)  # noqa: S311  made-up texts
    words = Words(chance)
    for number in range(count):
        yield _make_view(f"{seed}-{number}", chance, words, turns=chance.randint(1, 2 * turns - 1))


def outline_made(views: Mapping[str, View]) -> dict[str, Outline]:
    return {view.conversation_id: Outline(tuple(sorted(view.versions)), view.is_gone) for view in views.values()}


def _make_view(name: str, chance: random.Random, words: Words, *, turns: int) -> View:
    provider = chance.choice(list(PROVIDERS))
    started = FIRST_DAY + timedelta(minutes=chance.randrange(DAYS * 24 * 60))
    conversation = Conversation(
        provider=provider,
        native_id=f"made-{name}",
        title=words.draw(4).capitalize() if chance.random() < 0.95 else None,
        title_source="provider",
        created=_write_time(started),
        updated=_write_time(started + timedelta(minutes=turns)),
    )
    for turn in range(turns):
        _add_turn(conversation, turn, chance, words, started + timedelta(minutes=turn))
    if conversation.messages:
        conversation.active_leaf = conversation.messages[-1].key
    versions = (_make_id(f"version-{name}"),)
    return View(_make_id(f"conversation-{name}"), conversation, versions)


def _add_turn(conversation: Conversation, turn: int, chance: random.Random, words: Words, time: datetime) -> None:
    parent = conversation.messages[-1].key if conversation.messages else None
    asked = Block(Kind.TEXT, text=words.draw(chance.randint(4, 60)))
    prompt = Message(f"u{turn}", parent, Role.USER, Origin.HUMAN, created=_write_time(time), blocks=[asked])
    if chance.random() < 0.05:
        prompt.blocks.append(Block(Kind.ATTACHMENT, attachment=_make_attachment(turn, chance)))
    if chance.random() < 0.04:
        prompt.is_active = True
        other = Message(f"v{turn}", parent, Role.USER, Origin.HUMAN, variant=1, blocks=[Block(Kind.TEXT, text="Or so")])
        conversation.messages.append(other)
    model = chance.choice(PROVIDERS[conversation.provider])
    answer = Message(f"a{turn}", prompt.key, Role.ASSISTANT, model=model, created=_write_time(time), is_active=True)
    answer.usage = Usage(chance.randint(10, 4000), chance.randint(5, 900), usage_id=f"{conversation.native_id}-{turn}")
    if chance.random() < 0.3:
        answer.blocks.append(Block(Kind.THINKING, text=words.draw(chance.randint(20, 150))))
    if chance.random() < 0.15:
        call = Block(Kind.TOOL_USE, tool_name="shell", call_id=f"c{turn}", input={"command": words.draw(6)})
        result = Block(Kind.TOOL_RESULT, text=words.draw(chance.randint(10, 300)), call_id=f"c{turn}", is_error=False)
        answer.blocks += [call, result]
    answer.blocks.append(Block(Kind.TEXT, text=words.draw(chance.randint(20, 250))))
    prompt.is_active = True
    conversation.messages += [prompt, answer]


def _make_attachment(turn: int, chance: random.Random) -> Attachment:
    if chance.random() < 0.5:
        return Attachment(f"f{turn}", f"chart-{turn}.png", "image/png", status=AttachmentStatus.MISSING, reason="none")
    content = f"picture {turn}".encode()
    return Attachment(
        f"f{turn}", f"chart-{turn}.png", "image/png", len(content), status="present", blake3=hash_bytes(content)
    )


def _write_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _make_id(name: str) -> str:
    return id_from_digest(hash_bytes(name.encode()))
