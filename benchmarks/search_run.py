"""One run of search, in a process of its own: python -m benchmarks.search_run MESSAGES FOLDER.

Makes an index of made views, asks it, and prints how long everything took, in seconds, as JSON.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.made_views import TURNS, Words, make_views, outline_made
from pipeline.archive.search import PLACES, Filters, search
from pipeline.archive.search.index import INDEX_FILE, Archive, ask_index_of
from store.data_root import DataRoot

LIMIT = 20  # hits, as the command's default
QUERIES = 60  # of each kind
SCANS = 12  # of the floor, which takes longer
SEED = 5
FIRST_RANK = 10  # nobody looks for "the" but in a phrase

Query = tuple[str, Filters]


def main(messages: int, folder: Path) -> None:
    views = {view.conversation_id: view for view in make_views(round(messages / 2 / TURNS))}
    archive = Archive(lambda: outline_made(views), lambda only: (views[key] for key in sorted(only)))
    data = DataRoot(folder)
    (data.documents.root / "conversation").mkdir(parents=True)
    started = perf_counter()
    rows = ask_index_of(data, archive, lambda index: index.execute("SELECT count(*) FROM messages").fetchone()[0])
    made_seconds = perf_counter() - started
    queries = _draw_queries()
    seconds = ask_index_of(data, archive, lambda index: _measure_all(index, queries))
    words = [query for query, _ in queries["one word"]]
    print(
        json.dumps(
            {
                "conversations": len(views),
                "messages": rows,
                "made_seconds": made_seconds,
                "index_bytes": (folder / INDEX_FILE).stat().st_size,
                "seconds": seconds,
                "scan": ask_index_of(data, archive, lambda index: _scan(index, words)),
                "whole": [_time(partial(_ask_whole, data, archive, word)) for word in words],
            }
        )
    )


def _draw_queries() -> dict[str, list[Query]]:
    """Return {kind: queries}: words of all frequencies, a rare one as likely as one ten times as frequent."""
    chance = random.Random(SEED)  # noqa: S311  words, not secrets
    words = Words(chance)
    none = Filters()

    def draw() -> str:
        return words.words[int(FIRST_RANK * (len(words.words) / FIRST_RANK) ** chance.random()) - 1]

    makers: dict[str, Callable[[], Query]] = {
        "one word": lambda: (draw(), none),
        "two words": lambda: (f"{draw()} {draw()}", none),
        "a phrase": lambda: (f'"the {draw()}"', none),
        "a beginning": lambda: (f"{draw()[:4]}*", none),
        "one without another": lambda: (f"{draw()} -{draw()}", none),
        "of a role": lambda: (draw(), Filters(role="user")),
        "of a provider": lambda: (draw(), Filters(provider="claude")),
        "of a year": lambda: (draw(), Filters(since="2025", until="2025")),
    }
    return {kind: [make() for _ in range(QUERIES)] for kind, make in makers.items()}


def _measure_all(index: sqlite3.Connection, queries: dict[str, list[Query]]) -> dict[str, list[float]]:
    _search(index, "harbour", Filters())  # what SQLite reads once
    return {kind: [_time(partial(_search, index, *asked)) for asked in listed] for kind, listed in queries.items()}


def _search(index: sqlite3.Connection, query: str, filters: Filters) -> int:
    return len(search(index, query, filters, places=PLACES, limit=LIMIT))


def _ask_whole(data: DataRoot, archive: Archive, word: str) -> int:
    """As a command does: look whether the index is up to date, open it, search."""
    return ask_index_of(data, archive, lambda index: _search(index, word, Filters()))


def _scan(index: sqlite3.Connection, words: Sequence[str]) -> list[float]:
    """Look for words without the full-text index, in the same rows."""
    statement = "SELECT count(*) FROM messages WHERE text LIKE :like OR work LIKE :like"
    return [_time(partial(_count, index, statement, word)) for word in words[:SCANS]]


def _count(index: sqlite3.Connection, statement: str, word: str) -> int:
    (count,) = index.execute(statement, {"like": f"%{word}%"}).fetchone()
    return int(count)


def _time(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
