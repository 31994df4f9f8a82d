"""Names of providers as people and other tools write them, as the importers have them."""

from __future__ import annotations

import re

UNKNOWN = "unknown"
NAMES = {
    "aistudio": "ai_studio",
    "anthropic": "claude",
    "bard": "gemini",
    "chatgpt": "chatgpt",
    "claude": "claude",
    "claudeai": "claude",
    "claudecode": "claude_code",
    "codex": "codex",
    "codexcli": "codex",
    "gemini": "gemini",
    "geminicli": "gemini_cli",
    "geminiapps": "gemini",
    "googleaistudio": "ai_studio",
    "openai": "chatgpt",
    "openaicodex": "codex",
}
HOSTS = {
    "aistudio.google.com": "ai_studio",
    "chat.openai.com": "chatgpt",
    "chatgpt.com": "chatgpt",
    "claude.ai": "claude",
    "gemini.google.com": "gemini",
}
HOST = re.compile(r"https?://(?:www\.)?([^/:?#\s]+)", re.IGNORECASE)
LONGEST = 40  # characters; a name is a word or two


def name_provider(said: str | None) -> str:
    """Return the provider that a name or an address means; a name that is not known as it is, in small letters.

    >>> [name_provider(said) for said in ("ChatGPT", "https://claude.ai/chat/1", "Le Chat", None)]
    ['chatgpt', 'claude', 'le_chat', 'unknown']
    """
    host = HOST.match(said or "")
    if host:
        return HOSTS.get(host[1].lower(), UNKNOWN)
    words = re.findall(r"[a-z0-9]+", (said or "").lower())
    name = "_".join(words)
    return NAMES.get("".join(words)) or (name if 0 < len(name) <= LONGEST else UNKNOWN)
