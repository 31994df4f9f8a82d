"""Titles of conversations: the provider's, else what a person asked first."""

from __future__ import annotations

from pipeline.archive.conversations import Block, Conversation, Kind, Message, Origin, Role

LONGEST_PROMPT_TITLE = 80  # characters, of a title that is made from a prompt


def choose_title(conversation: Conversation, *candidates: tuple[str | None, str]) -> None:
    """Set the title, and its source, to the first candidate (title, source) that has any letters.

    Else the first prompt of a person becomes the title, cut at a word. Without one there is none.
    """
    for title, source in candidates:
        if isinstance(title, str) and title.strip():
            conversation.title, conversation.title_source = title, source
            return
    prompt = _find_first_prompt(conversation)
    conversation.title = _cut(prompt) if prompt else None
    conversation.title_source = "first_prompt" if prompt else None


def _find_first_prompt(conversation: Conversation) -> str | None:
    """Return the first words of a person, on the active path if there are any on it."""
    prompts = [message for message in conversation.messages if _is_by_a_person(message)]
    for message in sorted(prompts, key=lambda message: not message.is_active):
        for block in message.blocks:
            if _is_said(block):
                return block.text
    return None


def _is_by_a_person(message: Message) -> bool:
    return message.role == Role.USER and message.origin in (None, Origin.HUMAN) and message.hidden is None


def _is_said(block: Block) -> bool:
    """Whether a block is a person's own words: not a paste, of which the line has a placeholder only."""
    is_own = block.origin in (None, Origin.HUMAN) and "paste" not in block.flags
    return block.kind == Kind.TEXT and is_own and bool(block.text and block.text.strip())


def _cut(prompt: str) -> str:
    words = " ".join(prompt[: 20 * LONGEST_PROMPT_TITLE].split())
    if len(words) <= LONGEST_PROMPT_TITLE:
        return words
    head = words[: LONGEST_PROMPT_TITLE + 1].rpartition(" ")[0]
    return head or words[:LONGEST_PROMPT_TITLE]
