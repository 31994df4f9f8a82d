"""Old documents as attempts and documents of this store.

An answer is kept byte for byte as response.bin; the latest is the document's raw.txt, too. A text that is not UTF-8
is written with replacement characters, and its bytes are kept as they were in extras/.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.backfill.parents import Key, Links
from pipeline.backfill.sources import OldAnswer, OldDocument
from pipeline.stages import MADE_STAGES, Mode, Status
from store.calls import CALL_SCHEMA, RECORD_TYPE
from store.data_root import DataRoot
from store.documents import encode_readably
from store.durable import SharedBytes
from store.errors import StoreError
from store.identity import digest_of, hash_bytes, id_from_digest, id_of

BACKFILL_VERSION = 1  # raise it when equal old files shall give other documents: all their ids change
PARSED_FILE, RAW_FILE, PROMPT_FILE = "parsed.txt", "raw.txt", "prompt.txt"
UNKNOWN_MODEL = "unknown"
PARSER = {"name": "old_store", "version": BACKFILL_VERSION}  # it took the text over as the old program had parsed it
TOKEN_FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens")

Json = dict[str, Any]


class KeptAnswer(NamedTuple):
    """An answer in the ledger."""

    call_id: str
    number: int
    outcome: Json


class Placing:
    """Bringing the documents of one old store in, parents first; with `dry_run` only counting."""

    def __init__(self, data: DataRoot, folder: Path, links: Links, *, run_id: str, link: bool, dry_run: bool) -> None:
        self._data, self._folder, self._links = data, folder, links
        self._run_id, self._link, self._dry_run = run_id, link, dry_run
        self._placed: dict[Key, Json] = {}  # the records of documents as parents
        self._left_out: set[str] = set()  # doc_ids of stages that are not wanted
        self.problems: list[dict[str, str]] = []
        names = ("found", "placed", "present", "attempts", "attempts_present", "attempts_only", "bytes", "linked")
        self.counts: dict[str, dict[str, int]] = {str(stage): dict.fromkeys(names, 0) for stage in MADE_STAGES}

    def bring_in(self, document: OldDocument, *, is_wanted: bool) -> None:
        """Place a document and its answers; if it is not wanted, only find out what its children name it by."""
        try:
            answers = [self._read(answer.path) for answer in document.answers]
            files = self._read_files(document, answers)
        except OSError as error:
            self._report(document, f"it cannot be read: {error}")
            return
        parent = self._placed.get(self._links.parents.get(document.key, ("", "", 0)))
        inputs = self._describe_inputs(document, answers, files, parent)
        digest = digest_of(document.stage, inputs)
        doc_id = id_from_digest(digest)
        if PARSED_FILE in files:
            self._placed[document.key] = {
                "stage": document.stage,
                "doc_id": doc_id,
                "file": PARSED_FILE,
                "blake3": hash_bytes(files[PARSED_FILE]),
            }
        if not is_wanted:
            if not (self._data.documents.folder_of(document.stage, doc_id)).exists():
                self._left_out.add(doc_id)
            return
        self._count(document, answers, files, parent)
        kept = [
            self._keep(document, answer, content, doc_id)
            for answer, content in zip(document.answers, answers, strict=True)
        ]
        if PARSED_FILE in files:
            metadata = {"digest": digest, "inputs": inputs, **self._describe(document, files, parent, kept)}
            self._place(document, doc_id, files, metadata)

    def _read(self, path: Path) -> bytes:
        return SharedBytes.read(path) if self._link else path.read_bytes()

    def _read_files(self, document: OldDocument, answers: list[bytes]) -> dict[str, bytes]:
        """Return the files of the new document. Texts that are not UTF-8 are there twice."""
        files = {name: self._read(path) for name, path in document.files.items()}
        if answers:
            files[RAW_FILE] = answers[-1]
        for name in (PROMPT_FILE, RAW_FILE, PARSED_FILE):
            if name in files and not _is_utf8(files[name]):
                files[f"extras/{name}.bytes"] = files[name]
                files[name] = files[name].decode(errors="replace").encode()
        return files

    def _describe_inputs(
        self, document: OldDocument, answers: list[bytes], files: dict[str, bytes], parent: Json | None
    ) -> Json:
        return {
            "backfill_version": BACKFILL_VERSION,
            "layout": document.layout,
            "mode": document.mode,
            "old_id": document.old_id or None,
            "task_id": document.task_id,
            "template_id": document.template_id or None,
            "model_id": document.model_id or None,
            "combo_id": document.combo_id or None,
            "replicate": document.replicate,
            "answers": [hash_bytes(content) for content in answers],
            "files": {name: hash_bytes(content) for name, content in sorted(files.items())},
            "parents": [{"stage": parent["stage"], "doc_id": parent["doc_id"]}] if parent else [],
        }

    def _count(self, document: OldDocument, answers: list[bytes], files: dict[str, bytes], parent: Json | None) -> None:
        counts = self.counts[document.stage]
        counts["found"] += 1
        counts["bytes"] += sum(map(len, answers)) + sum(len(files[name]) for name in document.files)
        counts["linked"] += parent is not None
        if PARSED_FILE not in files:
            counts["attempts_only"] += 1
            problem = "it has answers and no parsed text, so they are in the ledger and it is no document"
            self._report(document, problem)
        elif self._links.parents.get(document.key) and parent is None:
            self._report(document, "its parent has no parsed text, so it is not linked")
        elif parent and parent["doc_id"] in self._left_out:
            problem = f"its parent {parent['stage']}/{parent['doc_id']} is not in the store; bring that stage in, too"
            self._report(document, problem)

    # The ledger

    def _keep(self, document: OldDocument, answer: OldAnswer, content: bytes, doc_id: str) -> KeptAnswer:
        """Keep an answer as an attempt of the document's call, unless it is there."""
        names = {"layout": document.layout, "stage": document.stage, "name": document.name}
        call_id = id_of(RECORD_TYPE, {"backfill": BACKFILL_VERSION, **names})
        origin = {"version": answer.version, "blake3": hash_bytes(content)}
        for attempt in self._data.calls.list_attempts(call_id):
            if {key: attempt.read_request().get("backfill", {}).get(key) for key in origin} == origin:
                self.counts[document.stage]["attempts_present"] += 1
                return KeptAnswer(call_id, attempt.number, dict(attempt.outcome or {}))
        self.counts[document.stage]["attempts"] += 1
        number = len(self._data.calls.list_attempts(call_id)) + 1
        head = {"schema": CALL_SCHEMA, "call_id": call_id, "attempt": number}
        source = {"source": str(self._folder), "path": self._name(answer.path), "old_id": document.old_id or None}
        request = {
            **head,
            **self._describe_request(document, answer, doc_id),
            "backfill": {**names, **origin, **source},
        }
        outcome = {**head, **self._describe_outcome(answer, content)}
        if not self._dry_run:
            files = {
                "request.json": encode_readably(request),
                "response.bin": content,
                "outcome.json": encode_readably(outcome),
            }
            number = self._data.calls.bring_in(call_id, number, files, origin={"backfill": str(self._folder)})
        return KeptAnswer(call_id, number, outcome)

    def _describe_request(self, document: OldDocument, answer: OldAnswer, doc_id: str) -> Json:
        prompt = document.files.get(PROMPT_FILE)
        messages = [{"role": "user", "content": prompt.read_bytes().decode(errors="replace")}] if prompt else []
        return {
            "messages": messages,
            "model": document.model_id or UNKNOWN_MODEL,
            "endpoint": None,
            "params": {},
            "replicate": document.replicate,
            "asked_at": _modified_at(answer.path),
            "run_id": self._run_id,
            "pid": None,
            "made_for": {
                "stage": document.stage,
                "doc_id": doc_id,
                "cohort": None,
                "template_id": document.template_id or None,
            },
        }

    def _describe_outcome(self, answer: OldAnswer, content: bytes) -> Json:
        finish_reason = answer.record.get("finish_reason")
        is_cut = finish_reason == "length" or answer.record.get("truncated") is True
        status = Status.TRUNCATED if is_cut else Status.OK if content.strip() else Status.GEN_ERROR
        return {
            "status": str(status),
            "reason": "empty" if status is Status.GEN_ERROR else None,
            "detail": None,
            "text": content.decode(errors="replace"),
            "reasoning": None,
            "finish_reason": finish_reason,
            "usage": _read_usage(answer.record),
            "cost": {"usd": None, "source": None},  # not known is not 0
            "model_reported": None,
            "system_fingerprint": None,
            "http_status": None,
            "sent": None,
            "response_headers": {},
            "seconds": None,
            "finished_at": _modified_at(answer.path),
            "run_id": self._run_id,
            "response_bytes": len(content),
            "response_blake3": hash_bytes(content),
        }

    # The document

    def _describe(
        self, document: OldDocument, files: dict[str, bytes], parent: Json | None, kept: list[KeptAnswer]
    ) -> Json:
        answer = kept[-1] if kept and document.mode != Mode.COPY else None
        usage = answer.outcome.get("usage") or {} if answer else {}
        first = document.files.get(PARSED_FILE) or document.answers[-1].path
        return {
            "mode": document.mode,
            "parent_doc_id": parent["doc_id"] if parent else None,
            "parents": [parent] if parent else [],
            "task_id": document.task_id,
            "cohort": None,
            "template_id": document.template_id or None,
            "model_id": document.model_id or None,
            "model": document.model_id or None,
            "combo_id": document.combo_id or None,
            "concepts": [],
            "replicate": document.replicate,
            "status": str(Status.OK),
            "parser": PARSER,
            "score": None,
            "call_id": answer.call_id if answer else None,
            "attempt": answer.number if answer else None,
            "finish_reason": answer.outcome.get("finish_reason") if answer else None,
            "model_reported": None,
            "system_fingerprint": None,
            **{name: usage.get(name) for name in TOKEN_FIELDS},
            "cost_usd": None,
            "max_tokens": None,
            "raw_bytes": len(files[RAW_FILE]) if RAW_FILE in files else None,
            "parsed_bytes": len(files[PARSED_FILE]),
            "created_at": _modified_at(first),
            "run_id": self._run_id,
            "backfill": {
                "source": str(self._folder),
                "layout": document.layout,
                "old_id": document.old_id or None,
                "old_parent_id": document.old_parent_id or None,
                "files": {name: self._name(path) for name, path in sorted(document.files.items())},
                "answers": [self._name(answer.path) for answer in document.answers],
            },
        }

    def _place(self, document: OldDocument, doc_id: str, files: dict[str, bytes], metadata: Json) -> None:
        counts = self.counts[document.stage]
        try:
            is_present = self._data.documents.is_present(document.stage, doc_id)
        except StoreError as error:
            self._report(document, str(error))
            return
        if not is_present and not self._dry_run:
            self._data.documents.commit(document.stage, doc_id, files, metadata)
        counts["present" if is_present else "placed"] += 1

    def _report(self, document: OldDocument, problem: str) -> None:
        self.problems.append({"name": f"{document.stage}/{document.name}", "problem": problem})

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _modified_at(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read_usage(record: Json) -> Json:
    """Return the tokens that were noted beside an answer; None where none are."""
    usage = record.get("usage") if isinstance(record.get("usage"), dict) else {}
    found = {name: usage.get(name) if usage else None for name in TOKEN_FIELDS}
    return {name: value if isinstance(value, int) else None for name, value in found.items()}
