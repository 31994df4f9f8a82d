"""Writing a bundle: every document checked deeply, every file hashed, then written in one fixed order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.bundles.archives import Member, check_output, make_manifest, write_archive
from pipeline.bundles.contents import Contents, find_contents, sort_key
from pipeline.errors import InputInvalid
from pipeline.settings import Roots
from store.files import read_file
from store.identity import hash_bytes

Json = dict[str, Any]


def export_bundle(roots: Roots, names: list[str], path: Path) -> Json:
    """Write what the named cohorts and documents are made of to `path`; return what is in it and what is not.

    The same store gives the same bytes. A document that is damaged is left out and named. Raises InputInvalid,
    UnknownName.
    """
    check_output(path)
    contents = find_contents(roots, names)
    if not contents.documents and not contents.calls:
        raise InputInvalid(f"Nothing of {', '.join(names)} is there to export. Build it first.")
    members = [_describe_file(name, contents.files[name]) for name in sorted(contents.files, key=sort_key)]
    counts = _count_documents(contents)
    about = {"names": sorted(set(names)), "documents": counts, "calls": len(contents.calls)}
    manifest = make_manifest(about, members)
    file_bytes = write_archive(path, manifest, lambda member: contents.files[member.path])
    return {
        "file": str(path),
        "bundle": manifest.bundle_id,
        "documents": counts,
        "calls": len(contents.calls),
        "content_bytes": manifest.size_bytes,
        "file_bytes": file_bytes,
        "missing": contents.missing,
        "damaged": contents.damaged,
        "left_out": contents.left_out,
    }


def _count_documents(contents: Contents) -> dict[str, int]:
    return dict(sorted(Counter(key.stage for key in contents.documents).items()))


def _describe_file(name: str, path: Path) -> Member:
    content = read_file(path)
    return Member(name, len(content), hash_bytes(content))
