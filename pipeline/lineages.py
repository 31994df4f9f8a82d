"""The lineage of all documents of a store at once: who was made from whom. Told from their metadata."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from pipeline.stages import Stage
from store.data_root import DataRoot
from store.errors import DocumentMissing, StoreError


class DocumentKey(NamedTuple):
    """What a document goes by: essay/7k3f0q9x2m4b8z1c."""

    stage: str
    doc_id: str

    def __str__(self) -> str:
        return f"{self.stage}/{self.doc_id}"


class Lineages(NamedTuple):
    """Every document with its metadata, and both directions between them; and those that cannot be read, with why."""

    metadata: dict[DocumentKey, Mapping[str, Any]]
    parents: dict[DocumentKey, tuple[DocumentKey, ...]]
    children: dict[DocumentKey, set[DocumentKey]]
    unreadable: dict[DocumentKey, str]

    def list_descendants(self, key: DocumentKey) -> list[DocumentKey]:
        """Return a document and all that was made from it, children always before their parents."""
        ordered: dict[DocumentKey, None] = {}
        waiting = [(key, False)]
        while waiting:
            found, are_children_listed = waiting.pop()
            if are_children_listed:
                ordered.setdefault(found)
            elif found not in ordered:
                waiting.append((found, True))
                waiting += [(child, False) for child in sorted(self.children.get(found, ()), reverse=True)]
        return list(ordered)

    def find_ancestors(self, keys: Iterable[DocumentKey]) -> set[DocumentKey]:
        """Return documents with all that they were made from, there or not."""
        found: set[DocumentKey] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.parents.get(key, ())
        return found

    def find_reports(self, keys: Set[DocumentKey]) -> set[DocumentKey]:
        """Return the reports over some documents: those that read nothing else."""
        reports = (key for key in self.metadata if key.stage == Stage.REPORT)
        return {key for key in reports if self.parents[key] and keys >= set(self.parents[key])}


def read_lineages(data: DataRoot) -> Lineages:
    """Return the lineage of every document, after the quick check of each."""
    lineages = Lineages({}, {}, defaultdict(set), {})
    for key in map(DocumentKey._make, data.documents.walk()):
        try:
            metadata = data.documents.read(*key).metadata
            parents = list_parents(metadata)
        except DocumentMissing:
            continue  # thrown away since the scan
        except StoreError as error:
            lineages.unreadable[key] = str(error)
            continue
        lineages.metadata[key] = metadata
        lineages.parents[key] = parents
        for parent in parents:
            lineages.children[parent].add(key)
    return lineages


def list_parents(metadata: Mapping[str, Any]) -> tuple[DocumentKey, ...]:
    """Return the documents that a document was made from, in order."""
    return tuple(DocumentKey(str(parent["stage"]), str(parent["doc_id"])) for parent in metadata.get("parents") or ())
