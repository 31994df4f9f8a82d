"""Coverage: what became of everything that an import saw. For each file

    records seen = imported + unchanged + skipped

and a sum that does not match is an error. Each skip has a reason and a place; what was normal, such as the cut last
line of a file that is still written to, is noted and is no skip. A report holds names, places and counts, and no
contents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.archive.importers.interface import Skip

SHOWN_SKIPS = 1000  # of one file that are kept with their places; all are counted
SHOWN_PLACES = 5  # of one reason, in the text for people
SHOWN_FILES = 50  # without anything to say of them; of more there is a line for each importer
SHOWN_OTHERS = 500
NEXT_STEP = "Next: daybook conversations lists them, daybook search WORDS finds messages, daybook render makes pages."
NOT_RECOGNISED = "not recognised"

Json = dict[str, Any]


@dataclass(slots=True)
class FileCoverage:
    """What became of one file of a set."""

    name: str
    export: str
    size_bytes: int
    importer: str | None = None  # None: not recognised
    version: int | None = None  # of the importer
    reason: str = ""  # why it is taken for what it is
    is_artifact: bool = False  # known, and without conversations of its own
    keys: list[str] = field(default_factory=list)  # seen in a file that was not recognised
    seen: int = 0
    imported: int = 0
    unchanged: int = 0
    skip_counts: Counter[str] = field(default_factory=Counter)  # {reason: count}
    note_counts: Counter[str] = field(default_factory=Counter)  # what was normal
    skips: list[Skip] = field(default_factory=list)  # the first ones, notes among them

    @property
    def skipped(self) -> int:
        return self.skip_counts.total()

    @property
    def is_complete(self) -> bool:
        return self.seen == self.imported + self.unchanged + self.skipped

    def add_skip(self, skip: Skip) -> None:
        """Count a skip; one that lost something is a record that was seen."""
        if skip.is_info:
            self.note_counts[skip.reason] += 1
        else:
            self.seen += 1
            self.skip_counts[skip.reason] += 1
        if len(self.skips) < SHOWN_SKIPS:
            self.skips.append(skip)

    def as_json(self) -> Json:
        return {
            "name": self.name,
            "export": self.export,
            "bytes": self.size_bytes,
            "importer": self.importer,
            "version": self.version,
            "reason": self.reason,
            "artifact": self.is_artifact,
            "keys": self.keys,
            "seen": self.seen,
            "imported": self.imported,
            "unchanged": self.unchanged,
            "skipped": self.skipped,
            "skips_by_reason": dict(sorted(self.skip_counts.items())),
            "notes_by_reason": dict(sorted(self.note_counts.items())),
            "skips": [skip_as_json(skip) for skip in self.skips],
        }

    @classmethod
    def from_json(cls, record: Json) -> FileCoverage:
        """Read what `as_json` wrote."""
        return cls(
            name=record["name"],
            export=record["export"],
            size_bytes=record["bytes"],
            importer=record["importer"],
            version=record["version"],
            reason=record["reason"],
            is_artifact=record["artifact"],
            keys=record["keys"],
            seen=record["seen"],
            imported=record["imported"],
            unchanged=record["unchanged"],
            skip_counts=Counter(record["skips_by_reason"]),
            note_counts=Counter(record["notes_by_reason"]),
            skips=[skip_from_json(skip) for skip in record["skips"]],
        )


@dataclass(slots=True)
class SetCoverage:
    """What became of one set. `source` is what the command line named; "" for one that was imported earlier."""

    set_id: str
    source: str
    is_new: bool  # its bytes were not in the store
    refused: list[Skip]  # files that could not be taken in at all, and what was passed over
    files: list[FileCoverage]

    @property
    def has_recognised(self) -> bool:
        return any(file.importer is not None for file in self.files)

    def as_json(self) -> Json:
        return {
            "set": self.set_id,
            "source": self.source,
            "new": self.is_new,
            "totals": total_of([self]),
            "refused": [skip_as_json(skip) for skip in self.refused],
            "files": [file.as_json() for file in self.files],
        }


@dataclass(slots=True)
class Coverage:
    """What became of everything that an import saw. `earlier`: sets of which something was missing."""

    sets: list[SetCoverage]
    earlier: list[SetCoverage] = field(default_factory=list)
    unread: list[Skip] = field(default_factory=list)  # paths that could not be opened

    @property
    def has_skipped(self) -> bool:
        """Whether anything could not be imported: a record, a file, a path, or a set in which nothing is known."""
        totals = total_of([*self.sets, *self.earlier])
        has_unknown = any(not each.has_recognised for each in self.sets)
        return bool(totals["skipped"] or totals["refused"] or self.unread or has_unknown)

    def list_mismatches(self) -> list[str]:
        """Return the files whose sums do not match, in words. There are none unless this program has a mistake."""
        return [
            f"{file.name} (export/{file.export}): {file.seen} records were seen, but {file.imported} imported, "
            f"{file.unchanged} unchanged and {file.skipped} skipped"
            for each in (*self.sets, *self.earlier)
            for file in each.files
            if not file.is_complete
        ]

    def as_json(self) -> Json:
        return {
            "totals": total_of(self.sets),
            "sets": [each.as_json() for each in self.sets],
            "earlier": [each.as_json() for each in self.earlier],
            "unread": [skip_as_json(skip) for skip in self.unread],
            "mismatches": self.list_mismatches(),
        }


def total_of(sets: Iterable[SetCoverage]) -> Json:
    """Return the sums over sets: {"files": 13, "artifacts": 7, "unrecognised": 1, "refused": 0, "seen": 5, …}."""
    listed = list(sets)
    files = [file for each in listed for file in each.files]
    totals = {name: sum(getattr(file, name) for file in files) for name in ("seen", "imported", "unchanged", "skipped")}
    return {
        "files": len(files),
        "bytes": sum(file.size_bytes for file in files),
        "artifacts": sum(file.is_artifact for file in files),
        "unrecognised": sum(file.importer is None and not file.is_artifact for file in files),
        "refused": sum(not skip.is_info for each in listed for skip in each.refused),
        **totals,
    }


def skip_as_json(skip: Skip) -> Json:
    return {"reason": skip.reason, "place": skip.place, "detail": skip.detail, "info": skip.is_info}


def skip_from_json(record: Json) -> Skip:
    return Skip(record["reason"], record["place"], record["detail"], record["info"])


# Text for people


def format_coverage(report: Json) -> str:
    """Return a report, as `Coverage.as_json` gives it, as text."""
    lines: list[str] = []
    for each in report["sets"]:
        lines += _format_set(each, "")
    for each in report["earlier"]:
        lines += _format_set(each, "imported earlier, and not complete: ")
    lines += [format_unread(skip) for skip in report["unread"]]
    lines += [f"A sum does not match, which is a mistake in this program: {text}" for text in report["mismatches"]]
    if any(each["totals"]["imported"] for each in (*report["sets"], *report["earlier"])):
        lines.append(NEXT_STEP)
    return "\n".join(lines)


def format_unread(skip: Json) -> str:
    """Return why a path could not be opened."""
    return f"Not read: {skip['place']}: {skip['detail'] or skip['reason']}"


def _format_set(each: Json, title: str) -> Iterator[str]:
    totals = each["totals"]
    name = each["source"] or f"export/{each['set']}"
    yield f"{title}{name}: {_count(totals['files'], 'file')}, {totals['bytes']:,} bytes, set {each['set']}"
    yield (
        f"  {totals['seen']:,} records seen = {totals['imported']:,} imported + {totals['unchanged']:,} unchanged "
        f"+ {totals['skipped']:,} skipped"
    )
    artifacts = [file["name"] for file in each["files"] if file["artifact"]]
    if artifacts:
        names = ", ".join(artifacts[:SHOWN_PLACES]) + (" …" if len(artifacts) > SHOWN_PLACES else "")
        yield f"  kept, without conversations: {_count(len(artifacts), 'file')}: {names}"
    smooth = [file for file in each["files"] if file["importer"] and not file["skips"] and not file["artifact"]]
    others = each["files"]
    if len(smooth) > SHOWN_FILES:
        yield from _sum_up(smooth)
        told = {file["name"] for file in smooth}
        others = [file for file in others if file["name"] not in told]
    for file in others[:SHOWN_OTHERS]:
        yield from _format_file(file)
    if len(others) > SHOWN_OTHERS:
        yield f"  … and {_count(len(others) - SHOWN_OTHERS, 'more file')}: --json names all"
    if each["files"] and not any(file["importer"] for file in each["files"]):
        yield f"  Nothing in it is known. daybook import --explain {each['source'] or 'PATH'} says what was looked at."
    lost, noted = _split_skips(each["refused"])
    yield from _format_skips(lost, "  refused")
    yield from _format_skips(noted, "  passed over")


def _sum_up(files: list[Json]) -> Iterator[str]:
    """Yield a line for each importer, for files of which there is nothing else to say."""
    by_importer: dict[str, list[Json]] = {}
    for file in files:
        by_importer.setdefault(f"{file['importer']} {file['version']}", []).append(file)
    for importer, its_files in sorted(by_importer.items()):
        imported, unchanged = (sum(file[name] for file in its_files) for name in ("imported", "unchanged"))
        number = _count(len(its_files), "file")
        yield f"  {importer}: {number}: {imported:,} imported, {unchanged:,} unchanged, 0 skipped"


def _format_file(file: Json) -> Iterator[str]:
    if file["importer"] is None and not file["artifact"]:
        keys = f"; keys: {', '.join(file['keys'])}" if file["keys"] else ""
        yield f"  {file['name']}: {file['reason']}, kept{keys}"
    elif not file["artifact"]:
        yield (
            f"  {file['name']}: {file['importer']} {file['version']}: {file['imported']:,} imported, "
            f"{file['unchanged']:,} unchanged, {file['skipped']:,} skipped"
        )
    lost, noted = _split_skips(file["skips"])
    yield from _format_skips(lost, "    skipped", file["skips_by_reason"])
    yield from _format_skips(noted, "    noted", file["notes_by_reason"])


def _split_skips(skips: list[Json]) -> tuple[list[Json], list[Json]]:
    return [skip for skip in skips if not skip["info"]], [skip for skip in skips if skip["info"]]


def _format_skips(skips: list[Json], word: str, counts: dict[str, int] | None = None) -> Iterator[str]:
    found = counts if counts is not None else Counter(skip["reason"] for skip in skips)
    for reason, count in sorted(found.items()):
        places = [_say_place(skip) for skip in skips if skip["reason"] == reason]
        more = " …" if count > SHOWN_PLACES else ""
        yield f"{word}: {count:,} × {reason}: {', '.join(places[:SHOWN_PLACES])}{more}"


def _say_place(skip: Json) -> str:
    return f"{skip['place']} ({skip['detail']})" if skip["detail"] else str(skip["place"])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
