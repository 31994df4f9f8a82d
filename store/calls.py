"""The call ledger: every distinct request to a model, and every attempt to have it answered.

    calls/<hh>/<call_id>/<attempt>/  request.json  response.bin  outcome.json     hh = first two of call_id

An attempt is written in this order, each step durable before the next:

    request.json    before anything is sent: what is asked, of which model. Proves that the store can be written
    response.bin    the bytes of the answer as they arrive, before anything interprets them
    outcome.json    status, text, usage: what was made of the bytes

So a process that dies leaves one of three things: a request without an answer (nobody knows whether
it was paid), bytes without an outcome (they can be interpreted again), or a finished attempt. A folder
without a whole request, as a crash or a power cut leaves it, is no attempt: nothing was sent. Nothing
here is ever changed or removed; a later attempt gets the next number.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from store.documents import encode_readably
from store.durable import (
    NewFile,
    commit_folder,
    create_folder,
    delete_folder,
    make_folder,
    make_numbered_folder,
    place_file,
    seal_file,
    write_in_new_folder,
)
from store.errors import CallInvalid
from store.files import lock_folder, read_file
from store.identity import ID_FORM, check_id, hash_bytes, id_of, new_hasher
from store.journal import Event, Journal
from store.named_locks import NamedLocks
from store.preflight import Preflight

CALL_SCHEMA = 1
RECORD_TYPE = "call"
END_OF_RECORD = b"\n}\n"  # of what encode_readably writes; nowhere else in it is a brace at the start of a line
IMPORTED_FILE = "imported.json"  # only of an attempt that had another number in the store it came from


def call_id_of(request: Mapping[str, Any]) -> str:
    """Return the id of the call that a request defines: messages, model, endpoint, params, replicate."""
    return id_of(RECORD_TYPE, dict(request))


@dataclass(frozen=True)
class Attempt:
    """One try of a call as it stands on disk. `outcome` is None while it runs, or if its process died."""

    call_id: str
    number: int
    folder: Path
    outcome: Mapping[str, Any] | None

    @property
    def status(self) -> str | None:
        return None if self.outcome is None else str(self.outcome.get("status"))

    def read_request(self) -> dict[str, Any]:
        """Return what was asked. Raises CallInvalid if the record cannot be read."""
        try:
            return _read_json(self, "request.json")
        except FileNotFoundError as error:
            raise CallInvalid(self.call_id, str(self.number), problem="it has no request.json") from error

    def read_response(self) -> bytes | None:
        """Return the bytes of the answer as they came; None if none came.

        Raises CallInvalid if they are not the bytes that the outcome recorded.
        """
        try:
            response = _read_bytes(self, "response.bin")
        except FileNotFoundError:
            return None
        recorded = (self.outcome or {}).get("response_blake3")
        if recorded is not None and recorded != hash_bytes(response):
            raise CallInvalid(self.call_id, str(self.number), problem="response.bin does not match its recorded hash")
        return response

    def was_begun(self) -> bool:
        """Whether its request came to the disk whole; if not, nothing was sent."""
        if self.outcome is not None or (self.folder / "response.bin").exists():
            return True
        try:
            return _read_bytes(self, "request.json").endswith(END_OF_RECORD)
        except FileNotFoundError:
            return False


class OpenAttempt:
    """An attempt under way: its request is on disk; the answer's bytes are appended as they come."""

    def __init__(self, attempt: Attempt, ledger: CallLedger, *, request_blake3: str) -> None:
        self.call_id, self.number, self.folder = attempt.call_id, attempt.number, attempt.folder
        self._attempt, self._ledger, self._request_blake3 = attempt, ledger, request_blake3
        self._file: NewFile | None = None
        self._hasher = new_hasher()

    def keep(self, chunk: bytes) -> None:
        """Append bytes of the answer. They are on disk for good after `seal`."""
        if self._file is None:
            self._file = NewFile(self.folder / "response.bin")
        self._file.append(chunk)
        self._hasher.update(chunk)

    def seal(self) -> None:
        """Make the bytes of the answer durable. To be called before anybody relies on them."""
        if self._file is not None and not self._file.is_finished:
            seal_file(self._file)

    def finish(self, outcome: Mapping[str, Any]) -> Attempt:
        """Record what became of the attempt, after sealing its bytes."""
        self.seal()
        response = None if self._file is None else _Response(self._file.size_bytes, self._hasher.hexdigest())
        return self._ledger._write_outcome(self._attempt, outcome, response, request_blake3=self._request_blake3)


class CallLedger:
    """The folder data/calls."""

    def __init__(self, root: Path, *, temporary_folder: Path, journal: Journal, preflight: Preflight) -> None:
        self.root = root
        self._temporary_folder, self._journal, self._preflight = temporary_folder, journal, preflight
        self._locks = NamedLocks()

    def begin(self, call_id: str, request: Mapping[str, Any]) -> OpenAttempt:
        """Start a new attempt: its request is durable when this returns.

        Raises NoRoom, StoreNotUsable or WriteFailed if the store cannot be written, before anything has been paid for.
        """
        self._preflight.check()
        call_folder = self._make_call_folder(call_id)
        folder, number = make_numbered_folder(call_folder, max(self._numbers(call_id), default=0) + 1)
        record = {"schema": CALL_SCHEMA, "call_id": call_id, "attempt": number, **request}
        content = encode_readably(record)
        write_in_new_folder(folder, "request.json", content, holders=[call_folder, call_folder.parent])
        return OpenAttempt(Attempt(call_id, number, folder, None), self, request_blake3=hash_bytes(content))

    @contextmanager
    def hold(self, call_id: str) -> Iterator[None]:
        """Let nobody else work at a call until the block ends: no thread, and no process of this machine.

        Two that make documents of one call then ask once. It saves money; no promise rests on it.
        """
        with self._locks.hold(call_id), lock_folder(self._make_call_folder(call_id)):
            yield

    def _make_call_folder(self, call_id: str) -> Path:
        """Make the folder of a call. Its name becomes durable with the first attempt in it."""
        folder = self.folder_of(call_id)
        create_folder(folder.parent)
        make_folder(folder)
        return folder

    def list_attempts(self, call_id: str) -> list[Attempt]:
        """Return the attempts of a call in order; [] if it was never tried."""
        attempts = [self.read_attempt(call_id, number) for number in self._numbers(call_id)]
        return [attempt for attempt in attempts if attempt.was_begun()]

    def read_attempt(self, call_id: str, number: int) -> Attempt:
        """Return one attempt. Raises CallInvalid if its outcome cannot be read."""
        attempt = Attempt(call_id, number, self.folder_of(call_id) / f"{number:04d}", None)
        try:
            return replace(attempt, outcome=_read_json(attempt, "outcome.json"))
        except FileNotFoundError:
            return attempt

    def find_answer(self, call_id: str) -> Attempt | None:
        """Return the first attempt that was answered well; None if there is none.

        The first and not the newest: a document made again must get the same answer.
        """
        return next((attempt for attempt in self.list_attempts(call_id) if attempt.status == "ok"), None)

    def add_response(self, attempt: Attempt, response: bytes) -> None:
        """Keep the bytes of an answer that came after the process of its attempt had ended: whole, and once."""
        place_file(attempt.folder / "response.bin", response, temporary_folder=self._temporary_folder)

    def close_attempt(self, attempt: Attempt, outcome: Mapping[str, Any]) -> Attempt:
        """Record the outcome of an attempt whose process died before it could."""
        content = attempt.read_response()
        response = None if content is None else _Response(len(content), hash_bytes(content))
        request_blake3 = hash_bytes(read_file(attempt.folder / "request.json"))
        return self._write_outcome(attempt, outcome, response, request_blake3=request_blake3)

    def _write_outcome(
        self, attempt: Attempt, outcome: Mapping[str, Any], response: _Response | None, *, request_blake3: str
    ) -> Attempt:
        record = {
            "schema": CALL_SCHEMA,
            "call_id": attempt.call_id,
            "attempt": attempt.number,
            **outcome,
            "response_bytes": response and response.size_bytes,
            "response_blake3": response and response.blake3,
        }
        content = encode_readably(record)
        if not place_file(attempt.folder / "outcome.json", content, temporary_folder=self._temporary_folder):
            # Another process interpreted the same bytes a moment ago, while this one was still at work.
            return replace(attempt, outcome=_read_json(attempt, "outcome.json"))
        files = {"request.json": request_blake3, "outcome.json": hash_bytes(content)}
        if response is not None:
            files["response.bin"] = response.blake3
        self._journal.append_unflushed(
            Event.ATTEMPTED, **_describe_attempt(attempt.call_id, attempt.number, outcome, files)
        )
        return replace(attempt, outcome=record)

    def find_attempt_with(self, call_id: str, files: Mapping[str, bytes]) -> int | None:
        """Return the number of the attempt that holds these files, byte for byte; None if there is none.

        Which number it once had elsewhere does not matter.
        """
        wanted = {name: content for name, content in files.items() if name != IMPORTED_FILE}
        for number in self._numbers(call_id):
            folder = self.folder_of(call_id) / f"{number:04d}"
            if all(_read_if_there(folder / name) == content for name, content in wanted.items()):
                return number
        return None

    def bring_in(self, call_id: str, number: int, files: Mapping[str, bytes], *, origin: Mapping[str, Any]) -> int:
        """Place an attempt that another store made, byte for byte and durably; return its number here.

        If another attempt has its number, it gets the next free one, and imported.json tells `origin` and the number
        that it had.
        """
        call_folder = self._make_call_folder(call_id)
        free, content = number, dict(files)
        while True:
            final = call_folder / f"{free:04d}"
            if not final.exists():
                loser = commit_folder(content, final, temporary_folder=self._temporary_folder)
                if loser is None:
                    self._record_brought_in(call_id, free, content, origin)
                    return free
                delete_folder(loser)  # its bytes are still at hand
            free = max(self._numbers(call_id)) + 1
            record = {"schema": CALL_SCHEMA, "call_id": call_id, "attempt": number, **origin}
            content = {**files, IMPORTED_FILE: encode_readably(record)}

    def _record_brought_in(
        self, call_id: str, number: int, files: Mapping[str, bytes], origin: Mapping[str, Any]
    ) -> None:
        outcome = json.loads(files.get("outcome.json", b"{}"))
        hashes = {name: hash_bytes(content) for name, content in files.items()}
        facts = _describe_attempt(call_id, number, outcome, hashes)
        self._journal.append_unflushed(Event.ATTEMPTED, **facts, origin=dict(origin))

    def restore(self, call_id: str, number: int, files: Mapping[str, bytes]) -> None:
        """Put files of an attempt back that are gone; the journal knows that it had them with these bytes."""
        folder = self._make_call_folder(call_id) / f"{number:04d}"
        if not folder.exists():
            commit_folder(files, folder, temporary_folder=self._temporary_folder)
            return
        for name, content in files.items():
            place_file(folder / name, content, temporary_folder=self._temporary_folder)

    def folder_of(self, call_id: str) -> Path:
        """Return the folder that holds a call's attempts."""
        return Path(f"{self.root}/{check_id('call_id', call_id)[:2]}/{call_id}")

    def walk(self) -> Iterator[str]:
        """Yield every call_id, sorted."""
        for shard in sorted(self.root.glob("??")):
            yield from sorted(filter(ID_FORM.fullmatch, os.listdir(shard)))

    def _numbers(self, call_id: str) -> list[int]:
        try:
            names = os.listdir(self.folder_of(call_id))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CallInvalid(call_id, "any", problem=f"its folder cannot be read: {error}") from error
        return sorted(int(name) for name in names if name.isdecimal())


def _describe_attempt(
    call_id: str, number: int, outcome: Mapping[str, Any], files: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the journal keeps of an attempt; `files` are the hashes of its files."""
    return {
        "call_id": call_id,
        "attempt": number,
        "status": outcome.get("status"),
        "reason": outcome.get("reason"),
        "usd": (outcome.get("cost") or {}).get("usd"),
        "run_id": outcome.get("run_id"),
        "files": dict(files),
    }


def _read_if_there(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None


class _Response(NamedTuple):
    size_bytes: int
    blake3: str


def _read_bytes(attempt: Attempt, name: str) -> bytes:
    try:
        return read_file(attempt.folder / name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CallInvalid(attempt.call_id, str(attempt.number), problem=f"{name} cannot be read: {error}") from error


def _read_json(attempt: Attempt, name: str) -> dict[str, Any]:
    content = _read_bytes(attempt, name)
    try:
        value = json.loads(content)
    except ValueError as error:
        raise CallInvalid(attempt.call_id, str(attempt.number), problem=f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CallInvalid(attempt.call_id, str(attempt.number), problem=f"{name} is not an object")
    return value
