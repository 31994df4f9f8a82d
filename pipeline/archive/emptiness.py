"""Why no conversation is there, and what to do about it."""

from __future__ import annotations

from pipeline.stages import ArchiveStage
from store.data_root import DataRoot

NOTHING_IMPORTED = "No conversation is imported. daybook import PATH takes exports of chats in."
NOT_MADE = "No conversation is there, but exports are kept that have some: daybook import --again makes them."


def explain_emptiness(data: DataRoot) -> str:
    """Return why no conversation is there; "" if one is."""
    if data.documents.list_ids(ArchiveStage.CONVERSATION):
        return ""
    if not data.documents.list_ids(ArchiveStage.EXPORT):
        return NOTHING_IMPORTED
    from pipeline.archive.importing import is_made  # loads every importer

    return NOTHING_IMPORTED if is_made(data, None) else NOT_MADE
