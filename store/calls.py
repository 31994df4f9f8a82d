"""The call ledger: every distinct request to a model, and every attempt to have it answered.

    calls/<hh>/<call_id>/<attempt>/  request.json  response.bin  outcome.json     hh = first two of call_id

An attempt is written in this order, each step durable before the next:

    request.json    before anything is sent: what is asked, of which model. Proves that the store can be written
    response.bin    the bytes of the answer as they arrive, before anything interprets them
    outcome.json    status, text, usage: what was made of the bytes

So a process that dies leaves one of three things: a request without an answer (nobody knows whether
it was paid), bytes without an outcome (they can be interpreted again), or a finished attempt. Nothing
here is ever changed or removed; a later attempt gets the next number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.documents import encode_readably
from store.durable import NewFile, create_folder, create_folder_exclusively, place_file, sync_folder
from store.errors import CallInvalid
from store.identity import ID_FORM, check_id, hash_bytes, id_of

CALL_SCHEMA = 1
RECORD_TYPE = "call"
FIRST_ATTEMPT = 1


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
        return _read_json(self, "request.json")

    def read_response(self) -> bytes | None:
        """Return the bytes of the answer as they came; None if none came.

        Raises CallInvalid if they are not the bytes that the outcome recorded.
        """
        try:
            response = (self.folder / "response.bin").read_bytes()
        except FileNotFoundError:
            return None
        recorded = (self.outcome or {}).get("response_blake3")
        if recorded is not None and recorded != hash_bytes(response):
            raise CallInvalid(self.call_id, str(self.number), problem="response.bin does not match its recorded hash")
        return response


class OpenAttempt:
    """An attempt under way: its request is on disk; the answer's bytes are appended as they come."""

    def __init__(self, call_id: str, number: int, folder: Path, *, temporary_folder: Path) -> None:
        self.call_id, self.number, self.folder = call_id, number, folder
        self._temporary_folder = temporary_folder
        self._response: NewFile | None = None

    def keep(self, chunk: bytes) -> None:
        """Append bytes of the answer. They are on disk for good after `seal`."""
        if self._response is None:
            self._response = NewFile(self.folder / "response.bin")
        self._response.append(chunk)

    def seal(self) -> None:
        """Make the bytes of the answer durable. To be called before anybody relies on them."""
        if self._response is not None:
            self._response.finish()
            sync_folder(self.folder)
            self._response = None

    def finish(self, outcome: Mapping[str, Any]) -> Attempt:
        """Record what became of the attempt, after sealing its bytes."""
        self.seal()
        return _write_outcome(self.call_id, self.number, self.folder, outcome, self._temporary_folder)


class CallLedger:
    """The folder data/calls."""

    def __init__(self, root: Path, *, temporary_folder: Path) -> None:
        self.root = root
        self._temporary_folder = temporary_folder

    def begin(self, call_id: str, request: Mapping[str, Any]) -> OpenAttempt:
        """Start a new attempt: its request is durable when this returns.

        Raises WriteFailed if the store cannot be written, before anything has been paid for.
        """
        folder, number = self._claim_folder(call_id)
        record = {"schema": CALL_SCHEMA, "call_id": call_id, "attempt": number, **request}
        content = encode_readably(record)
        place_file(folder / "request.json", content, temporary_folder=self._temporary_folder)
        return OpenAttempt(call_id, number, folder, temporary_folder=self._temporary_folder)

    def _claim_folder(self, call_id: str) -> tuple[Path, int]:
        """Make the folder of the next attempt; of two processes that try the same number, one gets it."""
        call_folder = self.folder_of(call_id)
        create_folder(call_folder)
        number = max(self._numbers(call_id), default=FIRST_ATTEMPT - 1) + 1
        while not create_folder_exclusively(call_folder / _attempt_name(number)):
            number += 1
        return call_folder / _attempt_name(number), number

    def list_attempts(self, call_id: str) -> list[Attempt]:
        """Return the attempts of a call in order; [] if it was never tried."""
        return [self.read_attempt(call_id, number) for number in self._numbers(call_id)]

    def read_attempt(self, call_id: str, number: int) -> Attempt:
        """Return one attempt. Raises CallInvalid if its outcome cannot be read."""
        folder = self.folder_of(call_id) / _attempt_name(number)
        attempt = Attempt(call_id, number, folder, None)
        if not (folder / "outcome.json").exists():
            return attempt
        return Attempt(call_id, number, folder, _read_json(attempt, "outcome.json"))

    def find_answer(self, call_id: str) -> Attempt | None:
        """Return the first attempt that was answered well; None if there is none.

        The first and not the newest: a document made again must get the same answer.
        """
        return next((attempt for attempt in self.list_attempts(call_id) if attempt.status == "ok"), None)

    def close_attempt(self, attempt: Attempt, outcome: Mapping[str, Any]) -> Attempt:
        """Record the outcome of an attempt whose process died before it could."""
        return _write_outcome(attempt.call_id, attempt.number, attempt.folder, outcome, self._temporary_folder)

    def folder_of(self, call_id: str) -> Path:
        """Return the folder that holds a call's attempts."""
        return self.root / check_id("call_id", call_id)[:2] / call_id

    def walk(self) -> Iterator[str]:
        """Yield every call_id, sorted."""
        for shard in sorted(self.root.glob("??")):
            yield from sorted(path.name for path in shard.iterdir() if ID_FORM.fullmatch(path.name))

    def _numbers(self, call_id: str) -> list[int]:
        try:
            names = [path.name for path in self.folder_of(call_id).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if name.isdecimal())


def _attempt_name(number: int) -> str:
    return f"{number:04d}"


def _write_outcome(
    call_id: str, number: int, folder: Path, outcome: Mapping[str, Any], temporary_folder: Path
) -> Attempt:
    response = folder / "response.bin"
    content = response.read_bytes() if response.exists() else None
    record = {
        "schema": CALL_SCHEMA,
        "call_id": call_id,
        "attempt": number,
        **outcome,
        "response_bytes": None if content is None else len(content),
        "response_blake3": None if content is None else hash_bytes(content),
    }
    path = folder / "outcome.json"
    if place_file(path, encode_readably(record), temporary_folder=temporary_folder):
        return Attempt(call_id, number, folder, record)
    # Another process interpreted the same bytes a moment ago, while this one was still at work.
    return Attempt(call_id, number, folder, _read_json(Attempt(call_id, number, folder, None), "outcome.json"))


def _read_json(attempt: Attempt, name: str) -> dict[str, Any]:
    try:
        value = json.loads((attempt.folder / name).read_bytes())
    except (OSError, ValueError) as error:
        raise CallInvalid(attempt.call_id, str(attempt.number), problem=f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CallInvalid(attempt.call_id, str(attempt.number), problem=f"{name} is not an object")
    return value
