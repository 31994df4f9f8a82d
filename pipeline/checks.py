"""Checks: does what lies in a document's or a call's folder match its own record? Findings, never exceptions.

    check_document   metadata.json against its own hash and the id, every file against metadata.json
    check_call       every attempt: the request against the call_id, the response against the outcome
    check_text       a kept text against its name

`python -m pipeline.checks DATA_ROOT` does it for another process: a batch a line on standard input, the results a
line on standard output; it ends with its input. What documents, calls and the journal say of each other is told
from the results (see verification).

A deep check reads every byte. A quick one reads the records, and of all other files the size only.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Container, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline.answers import Call
from store.calls import END_OF_RECORD, IMPORTED_FILE, call_id_of
from store.documents import METADATA_FILE, METADATA_SCHEMA, encode_readably, find_metadata_problem, hash_metadata
from store.errors import StoreError
from store.identity import IDENTITY_VERSION, encode_parsed, hash_bytes, id_from_digest, new_hasher

PIECE_BYTES = 1 << 20
FIRST_BYTES = 1 << 16  # of a file of unknown size; nearly all records are shorter
LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC  # a link is never followed: what it leads to was not committed
LOOK_FOLDER = LOOK | os.O_DIRECTORY
CALL_FIELDS = ("messages", "model", "endpoint", "params", "replicate")
REQUEST, RESPONSE, OUTCOME = "request.json", "response.bin", "outcome.json"
PARENT_FIELDS = ("stage", "doc_id", "file", "blake3")
KEY_IN_PROMPT = "key_in_prompt"  # the reason of an attempt that was not sent
ATTEMPT_FORM = re.compile(r"[0-9]{4,}")


class Finding(NamedTuple):
    """One thing that is not as it was recorded. `place` is a path below the data folder.

    docs/verify.md has all kinds.
    """

    kind: str
    place: str
    file: str
    detail: str


class CheckedDocument(NamedTuple):
    """What a document's folder holds. `files` and `parents` are empty if metadata.json cannot be read."""

    stage: str
    doc_id: str
    findings: list[Finding]
    metadata_blake3: str = ""
    files: dict[str, str] = {}  # noqa: RUF012  name: blake3, as recorded
    parents: list[list[str]] = []  # noqa: RUF012  stage, doc_id, file, blake3 of what was consumed
    call_id: str = ""
    attempt: int = 0
    size_bytes: int = 0  # read


class CheckedAttempt(NamedTuple):
    """What an attempt's folder holds: the hashes of its files as they are, "" where only the size was looked at."""

    number: int
    status: str  # "" without an outcome
    files: dict[str, str]


class CheckedCall(NamedTuple):
    call_id: str
    findings: list[Finding]
    attempts: list[CheckedAttempt]
    size_bytes: int


class _Size:
    """How many bytes a check has read."""

    def __init__(self) -> None:
        self.read = 0


class _Folder:
    """An open folder; a generator would take three times as long."""

    def __init__(self, name: str, folder: int | None = None) -> None:
        self._descriptor = os.open(name, LOOK_FOLDER, dir_fd=folder)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _read_all(name: str, folder: int, size: _Size) -> bytes:
    descriptor = os.open(name, LOOK, dir_fd=folder)
    try:
        content = os.read(descriptor, FIRST_BYTES)
        if len(content) == FIRST_BYTES:
            pieces = [content]
            while pieces[-1]:
                pieces.append(os.read(descriptor, PIECE_BYTES))
            content = b"".join(pieces)
    finally:
        os.close(descriptor)
    size.read += len(content)
    return content


def _hash_file(name: str, folder: int, size: _Size, *, expected_bytes: int) -> tuple[int, str]:
    """Return a file's size and hash. One read if it has the expected size and is no giant."""
    descriptor = os.open(name, LOOK, dir_fd=folder)
    try:
        content = os.read(descriptor, min(expected_bytes + 1, PIECE_BYTES))
        if len(content) == expected_bytes < PIECE_BYTES:
            size.read += expected_bytes
            return expected_bytes, hash_bytes(content)
        hasher, found = new_hasher(), 0
        while content:
            hasher.update(content)
            found += len(content)
            content = os.read(descriptor, PIECE_BYTES)
    finally:
        os.close(descriptor)
    size.read += found
    return found, hasher.hexdigest()


# Documents


def check_document(
    root: str, stage: str, doc_id: str, *, deep: bool, committed: Container[str] = ()
) -> CheckedDocument:
    """Return what a document's folder holds. `committed` are hashes of its metadata.json that the journal knows."""
    place, size = f"docs/{stage}/{doc_id}", _Size()
    try:
        with _Folder(f"{root}/{place}") as folder:
            return _check_folder(stage, doc_id, place, folder, size, deep=deep, committed=committed)
    except FileNotFoundError:  # moved away while the check was under way
        return CheckedDocument(stage, doc_id, [Finding("vanished", place, "", "its folder is gone")])
    except NotADirectoryError:
        return CheckedDocument(stage, doc_id, [Finding("not_a_folder", place, "", "a file or a link, not a folder")])
    except OSError as error:
        return CheckedDocument(stage, doc_id, [Finding("unreadable", place, "", str(error))], size_bytes=size.read)


def _check_folder(
    stage: str, doc_id: str, place: str, folder: int, size: _Size, *, deep: bool, committed: Container[str]
) -> CheckedDocument:
    try:
        content = _read_all(METADATA_FILE, folder, size)
    except OSError as error:
        kind = "metadata_missing" if isinstance(error, FileNotFoundError) else "unreadable"
        return CheckedDocument(stage, doc_id, [Finding(kind, place, METADATA_FILE, str(error))])
    metadata_blake3 = hash_bytes(content)
    is_vouched_for = metadata_blake3 in committed  # these are the bytes that were committed, for this document
    kind = "metadata_invalid"
    try:
        metadata = orjson.loads(content) if is_vouched_for else json.loads(content.decode())
        problem = None if is_vouched_for else find_metadata_problem(metadata, stage, doc_id)
        if (is_vouched_for or not committed) and _is_newer(metadata, is_vouched_for=is_vouched_for):
            kind, problem = "metadata_newer", f"has schema {metadata['schema']}, which a later version of Daybook wrote"
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON: {error}"
    if problem:
        return CheckedDocument(
            stage, doc_id, [Finding(kind, place, METADATA_FILE, f"it {problem}")], size_bytes=size.read
        )
    findings = _check_metadata(metadata, content, place) if deep and not is_vouched_for else []
    if not findings:  # a damaged record says nothing of the files
        findings = _check_files(metadata["files"], folder, place, size, deep=deep)
    return CheckedDocument(
        stage,
        doc_id,
        findings,
        metadata_blake3=metadata_blake3,
        files={name: record["blake3"] for name, record in metadata["files"].items()},
        parents=[[str(part.get(key)) for key in PARENT_FIELDS] for part in _parents(metadata)],
        call_id=str(metadata.get("call_id") or ""),
        attempt=_number(metadata.get("attempt")),
        size_bytes=size.read,
    )


def _is_newer(metadata: Any, *, is_vouched_for: bool) -> bool:
    """Whether a later version of this program wrote a record, and not a flipped bit: its own hash is right."""
    schema = metadata.get("schema") if isinstance(metadata, dict) else None
    if not isinstance(schema, int) or schema <= METADATA_SCHEMA:
        return False
    try:
        return is_vouched_for or metadata.get("self_blake3") == hash_metadata(metadata)
    except StoreError:
        return False


def _parents(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    parents = metadata.get("parents")
    return [part for part in parents if isinstance(part, dict)] if isinstance(parents, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _check_metadata(metadata: dict[str, Any], content: bytes, place: str) -> list[Finding]:
    own = metadata.pop("self_blake3")
    try:
        found = hash_bytes(encode_parsed(metadata))
        digest = hash_bytes(encode_parsed([metadata["stage"], IDENTITY_VERSION, metadata.get("inputs")]))
    except StoreError as error:
        return [Finding("metadata_altered", place, METADATA_FILE, str(error))]
    finally:
        metadata["self_blake3"] = own
    if own != found:
        return [Finding("metadata_altered", place, METADATA_FILE, f"its own hash is {own[:12]}, found {found[:12]}")]
    if (b"\\u" in content or not content.endswith(b"}\n")) and content != encode_readably(metadata):
        return [Finding("metadata_altered", place, METADATA_FILE, "its bytes are not as they are written")]
    if metadata["digest"] != digest or not _is_id_of(metadata["doc_id"], digest):
        return [Finding("inputs_altered", place, METADATA_FILE, f"its inputs give the digest {digest[:12]}")]
    return []


def _is_id_of(doc_id: str, digest: str) -> bool:
    return id_from_digest(digest) == doc_id


def _check_files(
    records: dict[str, dict[str, Any]], folder: int, place: str, size: _Size, *, deep: bool
) -> list[Finding]:
    findings = []
    try:
        found = _list_files(folder, records.keys() | {METADATA_FILE})
    except OSError as error:
        return [Finding("unreadable", place, "", str(error))]
    for name in sorted(records):
        problem = _check_file(name, records[name], folder, size, deep=deep)
        if problem:
            findings.append(Finding(problem[0], place, name, problem[1]))
    if len(found) <= len(records) + 1 and not findings:
        return findings  # none is missing, so none is too many
    for name in sorted(found - records.keys() - {METADATA_FILE}):
        findings.append(Finding("file_added", place, name, "metadata.json does not list it"))
    return findings


def _list_files(folder: int, expected: Set[str]) -> set[str]:
    """Return the names of all that lies in a document's folder, one folder below it as extras/page.html."""
    names = set(os.listdir(folder))
    if names == expected:
        return names
    for name in names - expected:
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            names.remove(name)
            with _Folder(name, folder) as inner:
                names |= {f"{name}/{inside}" for inside in os.listdir(inner)}
    return names


def _check_file(name: str, record: dict[str, Any], folder: int, size: _Size, *, deep: bool) -> tuple[str, str] | None:
    expected = record["size_bytes"]
    try:
        if deep:
            found_bytes, blake3 = _hash_file(name, folder, size, expected_bytes=expected)
        else:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return "file_altered", "it is not a file"
            found_bytes, blake3 = status.st_size, record["blake3"]
    except FileNotFoundError:
        return "file_missing", "metadata.json lists it"
    except OSError as error:
        return ("file_altered", "it is a link") if _is_link(name, folder) else ("unreadable", str(error))
    if found_bytes != expected:
        return "file_altered", f"expected {expected} bytes, found {found_bytes}"
    if blake3 != record["blake3"]:
        return "file_altered", f"expected {record['blake3'][:12]}, found {blake3[:12]}"
    return None


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


# Calls


def check_call(root: str, call_id: str, *, deep: bool, recorded: Mapping[str, Sequence[Any]] = {}) -> CheckedCall:
    """Return what a call's folder holds. `recorded` is {number: (status, {file: blake3})} of the journal."""
    place, size = f"calls/{call_id[:2]}/{call_id}", _Size()
    findings: list[Finding] = []
    attempts: list[CheckedAttempt] = []
    try:
        names = sorted(os.listdir(f"{root}/{place}"))
    except OSError as error:
        return CheckedCall(call_id, [Finding("unreadable", place, "", str(error))], [], 0)
    for name in filter(ATTEMPT_FORM.fullmatch, names):
        own = f"{place}/{name}"
        try:
            with _Folder(f"{root}/{own}") as folder:
                known = recorded.get(str(int(name)))
                if deep and known and _holds(folder, known[1], size):
                    attempts.append(CheckedAttempt(int(name), known[0], known[1]))
                    continue
                attempts.append(_check_attempt(call_id, int(name), own, folder, size, findings, deep=deep))
        except OSError as error:
            findings.append(Finding("unreadable", own, "", str(error)))
    return CheckedCall(call_id, findings, attempts, size.read)


def _holds(folder: int, files: Mapping[str, str], size: _Size) -> bool:
    """Whether a folder has these files with these hashes, and no other: then nothing need be parsed."""
    try:
        if set(os.listdir(folder)) != files.keys():
            return False
        for name, blake3 in files.items():
            if hash_bytes(_read_all(name, folder, size)) != blake3:
                return False
    except OSError:
        return False
    return True


def _check_attempt(
    call_id: str, number: int, place: str, folder: int, size: _Size, findings: list[Finding], *, deep: bool
) -> CheckedAttempt:
    names, files = set(os.listdir(folder)), {}
    request, outcome = None, None
    if REQUEST in names:
        request, files[REQUEST] = _read_record(REQUEST, place, folder, size, findings, may_be_torn=names == {REQUEST})
    elif names:
        findings.append(Finding("request_missing", place, REQUEST, "there is an answer, but not what was asked"))
    if OUTCOME in names:
        outcome, files[OUTCOME] = _read_record(OUTCOME, place, folder, size, findings)
    if IMPORTED_FILE in names:
        imported, files[IMPORTED_FILE] = _read_record(IMPORTED_FILE, place, folder, size, findings)
        number_there = _number((imported or {}).get("attempt"))
    else:
        number_there = number
    if request is not None and deep:
        is_whole = (outcome or {}).get("reason") != KEY_IN_PROMPT  # else the key was left out of it
        findings += _check_request(request, call_id, number_there, place, is_whole=is_whole)
    if RESPONSE in names or (outcome or {}).get("response_blake3"):
        files[RESPONSE] = _check_response(outcome, place, folder, size, findings, deep=deep)
    return CheckedAttempt(number, str((outcome or {}).get("status") or ""), files)


def _read_record(
    name: str, place: str, folder: int, size: _Size, findings: list[Finding], *, may_be_torn: bool = False
) -> tuple[dict[str, Any] | None, str]:
    """Return a record and the hash of its bytes. A torn request alone is what a crash leaves of one not sent."""
    try:
        content = _read_all(name, folder, size)
        if may_be_torn and not content.endswith(END_OF_RECORD):
            return None, ""
        record = json.loads(content)
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
    except OSError as error:
        findings.append(Finding("unreadable", place, name, str(error)))
        return None, ""
    except (ValueError, RecursionError) as error:
        kind = f"{name.partition('.')[0]}_invalid"
        findings.append(Finding(kind, place, name, f"it is no record: {error}"))
        return None, ""
    return record, hash_bytes(content)


def _check_request(request: dict[str, Any], call_id: str, number: int, place: str, *, is_whole: bool) -> list[Finding]:
    """`number` is that of the attempt in the store where it was made."""
    if (request.get("call_id"), request.get("attempt")) != (call_id, number):
        detail = f"it belongs to call {request.get('call_id')}, attempt {request.get('attempt')}"
        return [Finding("request_altered", place, REQUEST, detail)]
    if not is_whole or "backfill" in request or not all(field in request for field in CALL_FIELDS):
        return []  # its call_id is not a hash of what was asked
    try:
        call = Call(
            tuple(request["messages"]), request["model"], request["endpoint"], request["params"], request["replicate"]
        )
        found = call_id_of(call.as_identity())
    except (StoreError, TypeError, KeyError, AttributeError, ValueError) as error:
        return [Finding("request_altered", place, REQUEST, f"it defines no call: {error}")]
    return [] if found == call_id else [Finding("request_altered", place, REQUEST, f"what it asks is call {found}")]


def _check_response(
    outcome: dict[str, Any] | None, place: str, folder: int, size: _Size, findings: list[Finding], *, deep: bool
) -> str:
    """Return the hash of a response; "" if it was not read."""
    recorded = outcome or {}
    expected_bytes, expected = _number(recorded.get("response_bytes")), recorded.get("response_blake3")
    try:
        if deep:
            found_bytes, blake3 = _hash_file(RESPONSE, folder, size, expected_bytes=expected_bytes)
        else:
            found_bytes, blake3 = os.stat(RESPONSE, dir_fd=folder, follow_symlinks=False).st_size, ""
    except OSError as error:
        kind = "response_missing" if isinstance(error, FileNotFoundError) else "unreadable"
        findings.append(Finding(kind, place, RESPONSE, str(error)))
        return ""
    if outcome is None:
        return blake3
    if expected is None:
        findings.append(Finding("response_altered", place, RESPONSE, "the outcome tells of no response"))
    elif found_bytes != expected_bytes or (deep and blake3 != expected):
        detail = f"expected {expected_bytes} bytes, {str(expected)[:12]}; found {found_bytes} bytes, {blake3[:12]}"
        findings.append(Finding("response_altered", place, RESPONSE, detail))
    return blake3


# Texts


def check_text(root: str, digest: str) -> tuple[list[Finding], int]:
    """Return the findings about a kept text, and the bytes that were read."""
    place = f"texts/{digest[:2]}/{digest}.txt"
    try:
        content = (Path(root) / place).read_bytes()
    except OSError as error:
        return [Finding("unreadable", place, "", str(error))], 0
    if hash_bytes(content) != digest:
        return [Finding("text_altered", place, "", "its bytes are not those that its name says")], len(content)
    return [], len(content)


# For another process


def check_batch(root: str, batch: dict[str, Any]) -> list[Any]:
    """Return the results of {"kind": "documents" or "calls", "deep": true, "names": […]}, in order.

    A name is (stage, doc_id, committed) or (call_id, recorded), see `check_document` and `check_call`.
    """
    deep = bool(batch["deep"])
    if batch["kind"] == "documents":
        return [check_document(root, stage, name, deep=deep, committed=known) for stage, name, known in batch["names"]]
    return [check_call(root, call_id, deep=deep, recorded=known) for call_id, known in batch["names"]]


def read_results(kind: str, results: list[Any]) -> list[Any]:
    """Return results as `check_batch` gave them, from their JSON."""
    if kind == "documents":
        return [CheckedDocument(row[0], row[1], _read_findings(row[2]), *row[3:]) for row in results]
    return [
        CheckedCall(row[0], _read_findings(row[1]), [CheckedAttempt(*attempt) for attempt in row[2]], row[3])
        for row in results
    ]


def _read_findings(rows: list[list[str]]) -> list[Finding]:
    return [Finding(*row) for row in rows]


def main() -> None:
    root = sys.argv[1]
    try:
        for line in sys.stdin:
            print(json.dumps(check_batch(root, json.loads(line)), separators=(",", ":")), flush=True)
    except BrokenPipeError:  # whoever asked is gone
        os._exit(1)


if __name__ == "__main__":
    main()
