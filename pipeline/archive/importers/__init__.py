"""The importers, in the order in which they are asked. A new one is a module here, and a line in IMPORTERS."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.archive.importers.chatgpt import ChatGptImporter
from pipeline.archive.importers.chatgpt_tasks import ChatGptTasksImporter
from pipeline.archive.importers.claude import ClaudeImporter
from pipeline.archive.importers.claude_code import ClaudeCodeImporter
from pipeline.archive.importers.interface import Importer

IMPORTERS: Sequence[Importer] = (ChatGptImporter(), ChatGptTasksImporter(), ClaudeImporter(), ClaudeCodeImporter())
