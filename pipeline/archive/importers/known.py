"""All importers, in the order in which they are asked. A new one is a module beside this, and a line in NATIVES."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.archive.importers.ai_studio import AiStudioImporter
from pipeline.archive.importers.browser_captures import BrowserCaptureImporter
from pipeline.archive.importers.chatgpt import ChatGptImporter
from pipeline.archive.importers.chatgpt_tasks import ChatGptTasksImporter
from pipeline.archive.importers.claude import ClaudeImporter
from pipeline.archive.importers.claude_code import ClaudeCodeImporter
from pipeline.archive.importers.codex import CodexImporter
from pipeline.archive.importers.gemini_cli import GeminiCliImporter
from pipeline.archive.importers.gemini_takeout import GeminiTakeoutImporter
from pipeline.archive.importers.generic import GenericImporter
from pipeline.archive.importers.interface import Importer
from pipeline.archive.importers.markdown_folder import MarkdownImporter

NATIVES: Sequence[Importer] = (
    ChatGptImporter(),
    ChatGptTasksImporter(),
    ClaudeImporter(),
    CodexImporter(),
    GeminiCliImporter(),
    ClaudeCodeImporter(),
    AiStudioImporter(),
    GeminiTakeoutImporter(),
)
# What may hold the form of a native one, or be taken for it, is asked last.
IMPORTERS: Sequence[Importer] = (*NATIVES, BrowserCaptureImporter(NATIVES), MarkdownImporter(), GenericImporter())
