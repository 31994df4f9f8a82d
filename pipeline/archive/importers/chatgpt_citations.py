"""Citations in ChatGPT's answers: marks in the text become blocks, so that the text reads as its author saw it.

    "Probably Lisbon \\ue200cite\\ue202turn0search2\\ue201." -> "Probably Lisbon." + citation of turn0search2

Offsets beside the marks count characters of a text that may have been edited since: the marks themselves are what
is looked for.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline.archive.conversations import Block, Kind
from pipeline.archive.importers.chatgpt_values import read_json_object
from pipeline.archive.importers.values import list_of, object_of, objects_of, text_of

START, STOP, SEPARATOR = "\ue200", "\ue201", "\ue202"  # of the private-use area
OLD_START = "【"  # not the dagger: in a wide text each space would be looked at for it
# A mark that a cut answer left open ends with the text.
MARK = re.compile(rf"{START}([^{START}{STOP}]*)(?:{STOP}|\Z)")
LONGEST_OLD_MARK = 300  # characters
OLD_MARK = re.compile(r"【\d{1,4}(?::\d{1,4})?†[^【】\n]{0,280}】")
SPACE_BEFORE_END = re.compile(r"[ \t]+(?=[.,;:!?)]|\s|\Z)")
LINKED_ITEMS = ("items", "fallback_items", "sources", "supporting_websites")


def has_marks(text: str) -> bool:
    return START in text or OLD_START in text


def take_citations(blocks: list[Block], metadata: dict[str, Any]) -> list[Block]:
    """Take the marks out of text blocks; return a citation for each mark, and for each address without one."""
    sources = [*objects_of(metadata.get("content_references")), *objects_of(metadata.get("citations"))]
    citations = [citation for block in blocks for citation in _take_marks(block, sources)]
    cited = {id(citation.extra.get("source")) for citation in citations}
    for source in sources:
        # A footnote repeats the sources of all marks.
        if id(source) not in cited and source.get("type") != "sources_footnote" and (links := _list_links(source)):
            citations.append(_cite(source, links, None))
    return citations


def _take_marks(block: Block, sources: list[dict[str, Any]]) -> list[Block]:
    text = block.text or ""
    if not has_marks(text):
        return []
    source_by_mark = {mark: source for source in sources if (mark := _find_mark(text, source))}
    citations: list[Block] = []
    for pattern in (OLD_MARK, MARK):  # the old ones first: their offsets have been looked up
        text = _replace_marks(text, pattern, source_by_mark, citations)
    block.text = text
    return citations


def _replace_marks(
    text: str, pattern: re.Pattern[str], source_by_mark: dict[str, dict[str, Any]], citations: list[Block]
) -> str:
    pieces, end = [], 0
    for match in pattern.finditer(text):
        mark, source = match[0], source_by_mark.get(match[0], {})
        shown = _shown_in_place_of(mark, source)
        pieces.append(text[end : match.start()])
        if not shown and SPACE_BEFORE_END.match(_last_spaces(pieces[-1]) + text[match.end() : match.end() + 1]):
            pieces[-1] = pieces[-1].rstrip(" \t")
        pieces.append(shown)
        citations.append(_cite(source, _list_links(source), mark))
        end = match.end()
    return "".join([*pieces, text[end:]])


def _last_spaces(text: str) -> str:
    return text[len(text.rstrip(" \t")) :]


def _shown_in_place_of(mark: str, source: dict[str, Any]) -> str:
    """Return the words that a mark stands for: most stand for a small number, some for a part of the sentence."""
    if source.get("type") == "alt_text":
        return text_of(source.get("alt")) or ""
    tokens = mark.strip(START + STOP).split(SEPARATOR)
    if tokens[0] == "url" and len(tokens) > 1:
        return tokens[1]
    if tokens[0] == "entity" and len(tokens) > 1:
        values = list_of(object_of(read_json_object(f'{{"entity": {tokens[1]}}}')).get("entity"))
        return values[1] if len(values) > 1 and isinstance(values[1], str) else ""
    return ""


def _cite(source: dict[str, Any], linked: list[tuple[str | None, str]], mark: str | None) -> Block:
    """Return the block: its text is a title, `extra` has the address, all addresses, the mark and the source raw."""
    extra: dict[str, Any] = {"source": source} if source else {}
    if linked:
        extra["url"] = linked[0][1]
        extra["urls"] = [url for _, url in linked]
    if mark is not None:
        extra["mark"] = mark
        if mark.startswith(START):
            extra["tokens"] = [token for token in mark.strip(START + STOP).split(SEPARATOR) if token]
    return Block(Kind.CITATION, text=linked[0][0] if linked else text_of(source.get("alt")), extra=extra)


def _list_links(source: dict[str, Any]) -> list[tuple[str | None, str]]:
    """Return title and address of each page that a source names, each address once."""
    pages = [source, object_of(source.get("metadata"))]
    for name in LINKED_ITEMS:
        if items := source.get(name):
            pages += objects_of(items)
    title_by_url: dict[str, str | None] = {}
    for page in pages:
        if url := text_of(page.get("url")):
            title_by_url.setdefault(url, text_of(page.get("title")))
    return [(title, url) for url, title in title_by_url.items()]


def _find_mark(text: str, source: dict[str, Any]) -> str | None:
    """Return the mark that stands for a source: new ones are named, old ones stand at its offsets."""
    if matched := text_of(source.get("matched_text")):
        return matched
    start, stop = source.get("start_ix"), source.get("end_ix")
    if not isinstance(start, int) or not isinstance(stop, int) or not 0 <= start < stop <= start + LONGEST_OLD_MARK:
        return None
    match = OLD_MARK.search(text, max(0, start - 1), stop + 1)
    return match[0] if match else None
