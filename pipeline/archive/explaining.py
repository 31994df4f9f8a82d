"""Explaining: what each file of a path would be taken for, and why. Reads beginnings only, and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.archive.coverage import format_unread, skip_as_json
from pipeline.archive.importers.interface import Importer, Member, Skip
from pipeline.archive.importers.known import IMPORTERS
from pipeline.archive.importing import WITHOUT_RECORDS, describe_failure, is_empty, list_keys
from pipeline.archive.reading import peek
from pipeline.archive.reading.entries import Entry
from pipeline.archive.reading.sources import open_source
from pipeline.errors import PipelineError
from pipeline.printing import format_count
from store.data_root import DataRoot

NO_TEXT = "no text; kept, for it may be an attachment"

Json = dict[str, Any]


def explain_paths(data: DataRoot, paths: Sequence[str], importers: Sequence[Importer] = IMPORTERS) -> Json:
    """Return {"sources": […], "unread": […]}: for each file what its beginning shows, and which importer takes it."""
    sources, unread = [], []
    for path in paths:
        try:
            with open_source(path, temporary_folder=data.temporary_folder) as source:
                files = [_explain_entry(entry, importers) for entry in source.entries]
                passed_over = [skip_as_json(skip) for skip in source.skips]
        except (PipelineError, OSError) as error:
            unread.append(skip_as_json(describe_failure(error, "unreadable_path", path)))
            continue
        sources.append({"source": path, "container": source.container, "files": files, "passed_over": passed_over})
    return {"sources": sources, "unread": unread}


def _explain_entry(entry: Entry, importers: Sequence[Importer]) -> Json:
    explained: Json = {"name": entry.name, "kind": None, "peeked": 0, "importer": None, "reason": "", "artifact": False}
    explained |= {"asked": [], "keys": []}
    try:
        seen = peek(Member(entry.name, entry.size_bytes or 0, "", "", entry.open))
        explained |= {"kind": seen.kind, "peeked": len(seen.items)}
        for importer in importers:
            recognition = importer.recognise(seen)
            explained["asked"].append(importer.name)
            if recognition:
                found = {"importer": importer.name, "reason": recognition.reason, "artifact": recognition.is_artifact}
                return explained | found
    except Exception as error:  # whatever is wrong with a file must not stop its siblings
        failure: Skip = describe_failure(error, "unreadable_file", entry.name)
        return explained | {"reason": failure.reason}
    if is_empty(seen):
        return explained | {"reason": "nothing is in it", "keys": []}
    if seen.kind in WITHOUT_RECORDS:
        return explained | {"reason": NO_TEXT, "artifact": True}
    return explained | {"reason": "no importer takes it", "keys": list_keys(seen)}


def format_explanation(explanation: Json) -> str:
    """Return an explanation as text."""
    lines: list[str] = []
    for source in explanation["sources"]:
        lines.append(f"{source['source']}: {source['container']}, {format_count(len(source['files']), 'file')}")
        for file in source["files"]:
            lines += _format_file(file)
        lines += [
            f"  passed over: {skip['place']}: {skip['reason']}{_say_detail(skip)}" for skip in source["passed_over"]
        ]
    lines += [format_unread(skip) for skip in explanation["unread"]]
    return "\n".join(lines)


def _say_detail(skip: Json) -> str:
    return f" ({skip['detail']})" if skip["detail"] else ""


def _format_file(file: Json) -> Iterator[str]:
    name = f"  {file['name']}: {file['kind'] or 'unreadable'}, {file['peeked']} peeked"
    if file["importer"]:
        kept = ", kept beside the conversations" if file["artifact"] else ""
        yield f"{name}: {file['importer']}, {file['reason']}{kept}"
    else:
        keys = f"; keys: {', '.join(file['keys'])}" if file["keys"] else ""
        yield f"{name}: {file['reason']}{keys}"
    if file["importer"] and len(file["asked"]) > 1:
        yield f"    asked before, and it is none of theirs: {', '.join(file['asked'][:-1])}"
