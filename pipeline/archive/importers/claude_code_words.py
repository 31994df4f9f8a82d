"""Who really wrote a text of the role user in a session: a person, a command, the program, or another agent."""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.archive.conversations import Block, Kind, Origin

# What a text begins with, and whose it is then.
BEGINNINGS = {
    "<command-name>": Origin.COMMAND,
    "<command-message>": Origin.COMMAND,
    "<local-command-stdout>": Origin.COMMAND,
    "<local-command-stderr>": Origin.COMMAND,
    "<bash-input>": Origin.COMMAND,
    "<bash-stdout>": Origin.COMMAND,
    "<bash-stderr>": Origin.COMMAND,
    "<local-command-caveat>": Origin.RUNTIME_CONTEXT,
    "Caveat: The messages below": Origin.RUNTIME_CONTEXT,
    "<system-reminder>": Origin.RUNTIME_CONTEXT,
    "<task-notification>": Origin.NOTIFICATION,
    "[Request interrupted by user": Origin.NOTIFICATION,
}
INTERRUPTED = "[Request interrupted by user"
REMINDER, REMINDER_END = "<system-reminder>", "</system-reminder>"
# What stands for pasted matter that the line does not hold.
PASTE = re.compile(r"\[(?:Pasted text #\d+(?: \+\d+ lines)?|Image #\d+)\]")


class Words(NamedTuple):
    """A text, and what the program put behind it."""

    text: str
    reminders: list[str]


def attribute(block: Block) -> list[Block]:
    """Return a text block with its origin, and reminders that stood at its end as context of their own."""
    text = block.text or ""
    origin = find_origin(text)
    if origin is not None:
        block.origin = origin
        block.flags += ["interrupted"] if text.lstrip().startswith(INTERRUPTED) else []
        return [block]
    block.origin = Origin.HUMAN
    words = split_reminders(text)
    block.text = words.text
    block.flags += ["paste"] if PASTE.search(words.text) else []
    return [block, *(Block(Kind.CONTEXT, text=text, origin=Origin.RUNTIME_CONTEXT) for text in words.reminders)]


def find_origin(text: str) -> Origin | None:
    """Return who wrote a text that no person did; None for a person's."""
    begin = text.lstrip()
    return next((origin for word, origin in BEGINNINGS.items() if begin.startswith(word)), None)


def split_reminders(text: str) -> Words:
    """Split the reminders off that stand at the end of a person's text."""
    reminders: list[str] = []
    rest = text
    while rest.rstrip().endswith(REMINDER_END) and (start := rest.rfind(REMINDER)) >= 0:
        reminders.insert(0, rest[start:].strip())
        rest = rest[:start].rstrip()
    return Words(rest, reminders) if reminders else Words(text, [])
