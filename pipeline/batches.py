"""Batches: calls that a provider answers together, within a day and for less. No call is ever submitted twice.

    with open_batches(data) as batches:      one process of a machine at a time
        batches.begin(maker)                 goes on with every batch that is not finished
        ... documents are made; maker.defer = batches.defer takes the calls that would be asked
        batches.submit(cohort)               as batches: an attempt of the ledger for each call
        batches.describe()                   what is under way

    _advance, by what the batch's folder holds, whichever process wrote it (store.batches has the order):
        no requests.jsonl     nothing was sent: its attempts are closed
        refused.json          there will be no such batch: its attempts are closed
        no submitted.json     _send      upload ▸ file.json ▸ asked.json ▸ create ▸ submitted.json
                                         asked.json is there? The provider is looked through for the batch first
        else                  _collect   has it ended? output.jsonl ▸ each line to its attempt ▸ finished.json

A result goes through the same reading as an answer that was asked for at once. A call that the batch brought no answer
to has a failed attempt with reason `batch`: it cost nothing, and is asked again by the next run.
"""

from __future__ import annotations

import json
import os
import secrets
import string
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline import gateway
from pipeline.answers import AS_ASKED, failed_answer
from pipeline.batch_interface import (
    ENDPOINT,
    BatchInterface,
    InterfaceFailed,
    InterfaceRefused,
    ListUnknown,
)
from pipeline.batch_results import Result, clean_errors, count_lines, read_results
from pipeline.errors import BudgetReached, GatewayError, InputInvalid
from pipeline.gateway import Answer, Call, Transport
from pipeline.keys import KeySource, drop_key
from pipeline.making import Maker, describe_outcome, find_batch
from pipeline.models import Model
from pipeline.planning import DocumentPlan
from pipeline.prices import FREE_PROVIDERS, Price
from pipeline.spending import cost_of_answer, describe_cost
from pipeline.stages import Status
from store.batches import ASKED, ERRORS, FINISHED, INTENT, OUTPUT, REFUSED, REQUESTS, SUBMITTED, UPLOADED, BatchStore
from store.calls import Attempt, call_id_of
from store.data_root import DataRoot
from store.identity import ID_LENGTH
from store.machine_locks import MachineLock

BATCH_SCHEMA = 1
MOST_CALLS = 10_000  # of a batch; OpenAI takes 50,000 and 200 MB. Its results have to fit into memory
MOST_BYTES = 64 * 2**20
THREADS = 16  # attempts that are begun or closed at a time: they share the flushes of the disk
# A batch that was asked for and is not listed may still come: the request, or the list, may be late.
UNSURE_SECONDS = 600
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
REASON = "batch"


class BatchesBusy(InputInvalid):
    """Two processes would submit the same calls."""

    def __init__(self) -> None:
        super().__init__("Another run works at the batches of this data folder. Wait until it has ended.")


@contextmanager
def open_batches(data: DataRoot) -> Iterator[Batches]:
    """Hold the batches of a data folder until the block ends. Raises BatchesBusy if another process does."""
    lock = MachineLock.try_to_get(data.temporary_folder / "batches.lock")
    if lock is None:
        raise BatchesBusy
    try:
        yield Batches(data)
    finally:
        lock.release()


class Deferred(NamedTuple):
    """A call that is to be asked in a batch, and the document it is for."""

    plan: DocumentPlan
    call: Call


class Written(NamedTuple):
    """A call as a batch holds it: what is sent of it."""

    deferred: Deferred
    address: str
    body: Mapping[str, Any]


@dataclass
class Batches:
    """The batches of a data folder, for one run. `errors` holds what a person has to see to, `problems` what passes."""

    data: DataRoot
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep
    submitted: int = 0  # calls
    collected: int = 0
    problems: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._maker = Maker(self.data)
        self._deferred: dict[str, Deferred] = {}
        self._tried: set[str] = set()  # calls that this run has submitted, or could not: once a run is enough
        self._states: dict[str, str] = {}
        self._guard = threading.Lock()

    @property
    def _store(self) -> BatchStore:
        return self.data.batches

    # A run

    def check(self, models: Iterable[Model]) -> None:
        """Raise InputInvalid if one of the models cannot be asked in batches. Those that are free are asked at once."""
        for model in models:
            if not _is_free(model.model):
                try:
                    gateway.check_batches(model.model)
                except GatewayError as error:
                    advice = "Build without --batch, or leave it out of the cohort."
                    raise InputInvalid(f"Model {model.model_id!r}: {error.detail} {advice}") from error

    def begin(self, maker: Maker) -> None:
        """Go on with every batch that is not finished: what has come goes into the ledger."""
        self._maker = maker
        self.problems, self.errors = [], []
        for batch in self._store.list_unfinished():
            self._advance(batch)

    def defer(self, plan: DocumentPlan, call: Call) -> bool:
        """Take a call, to be submitted later; return whether it was taken."""
        if _is_free(call.model):
            return False
        call_id = call_id_of(call.as_identity())
        with self._guard:
            if call_id not in self._tried:
                self._deferred[call_id] = Deferred(plan, call)
        return True

    def submit(self, cohort: str) -> None:
        """Submit the calls that were deferred. What a budget has no room for is left out."""
        with self._guard:
            deferred, self._deferred = list(self._deferred.values()), {}
            self._tried |= {call_id_of(found.call.as_identity()) for found in deferred}
        written = [found for each in deferred if (found := self._write(each, cohort)) is not None]
        for part in _divide(written):
            if (batch := self._prepare(part, cohort)) is not None:
                self._advance(batch)

    def wait(self, seconds: float) -> bool:
        """Wait until a batch may have more to bring, looking every so many seconds; return whether there is one."""
        while batches := self._store.list_unfinished():
            self.sleep(seconds)
            if any(self._has_news(batch) for batch in batches):
                return True
        return False

    def _has_news(self, batch: str) -> bool:
        submitted = self._store.find_record(batch, SUBMITTED)
        if submitted is None:
            return True
        try:
            return self._interface_of(batch).read(submitted["provider_batch_id"]).get("status") in ENDED
        except InterfaceRefused:
            return True
        except InterfaceFailed:
            return False

    def describe(self) -> dict[str, Any]:
        """Return what was done and what is under way, as plain JSON."""
        return {
            "submitted": self.submitted,
            "collected": self.collected,
            "under_way": [self._describe_batch(batch) for batch in self._store.list_unfinished()],
            "problems": self.problems,
        }

    def _describe_batch(self, batch: str) -> dict[str, Any]:
        intent = self._store.get_record(batch, INTENT)
        submitted = self._store.find_record(batch, SUBMITTED) or {}
        return {
            "batch": batch,
            "provider_batch_id": submitted.get("provider_batch_id"),
            "model": intent["model"],
            "cohort": intent["cohort"],
            "calls": len(self._read_requests(batch)),
            "state": self._states.get(batch, "submitted" if submitted else "not submitted"),
            "age_seconds": round(self._age_of(intent["created_at"])),
        }

    # Preparing: before anything is sent

    def _write(self, deferred: Deferred, cohort: str) -> Written | None:
        """Return what is sent of a call; None if nothing can be, which is then its attempt."""
        try:
            written = gateway.write_request(deferred.call, _transport_of(deferred.plan))
        except GatewayError as error:
            self._record_failure(deferred, failed_answer(error), cohort)
            return None
        return Written(deferred, written.address, written.body)

    def _record_failure(self, deferred: Deferred, answer: Answer, cohort: str) -> None:
        plan, call = deferred
        with (
            suppress(BudgetReached),
            self.data.calls.hold(call_id_of(call.as_identity())),
            self._maker.admission.admit_to_batch(plan, call, cohort=cohort) as ticket,
        ):
            attempt = self.data.calls.begin(*self._describe_attempt(call, ticket.as_record()))
            attempt.finish(describe_outcome(self._maker, answer, cost=ticket.describe_cost(answer), seconds=None))

    def _prepare(self, part: Sequence[Written], cohort: str) -> str | None:
        """Make a batch, so far that it can be sent; return it, None if there is nothing to send."""
        batch = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(ID_LENGTH))
        first = part[0].deferred
        intent = {
            "schema": BATCH_SCHEMA,
            "batch": batch,
            "created_at": self._now(),
            "run_id": self._maker.run_id,
            "cohort": cohort,
            "model": first.call.model,
            "address": part[0].address,
            "api_key_env": _transport_of(first.plan).api_key_env,
            "api_key_file": _transport_of(first.plan).api_key_file,
            "call_ids": [call_id_of(written.deferred.call.as_identity()) for written in part],
        }
        self._store.record(batch, INTENT, intent)
        with ThreadPoolExecutor(THREADS) as threads:
            lines = [line for line in threads.map(lambda written: self._begin(batch, written, cohort), part) if line]
        if not lines:
            self._finish(batch, "not submitted")
            return None
        self._store.keep(batch, REQUESTS, b"".join(lines))
        return batch

    def _begin(self, batch: str, written: Written, cohort: str) -> bytes | None:
        """Begin an attempt and return its line; None if its call needs none, or has no room in the budget."""
        plan, call = written.deferred
        call_id = call_id_of(call.as_identity())
        with self.data.calls.hold(call_id):
            attempts = self.data.calls.list_attempts(call_id)
            is_needed = not any(attempt.status == Status.OK for attempt in attempts)
            if not is_needed or (find_batch(attempts) is not None and not self._maker.ignores_batches):
                return None
            try:
                with self._maker.admission.admit_to_batch(plan, call, cohort=cohort) as ticket:
                    attempt = self.data.calls.begin(
                        *self._describe_attempt(call, {"batch": batch, **ticket.as_record()})
                    )
            except BudgetReached:  # the budget has noted it, and the build says it
                return None
        line = {
            "custom_id": f"{call_id}-{attempt.number:04d}",
            "method": "POST",
            "url": ENDPOINT,
            "body": written.body,
        }
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"

    def _describe_attempt(self, call: Call, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        request = {**call.as_inputs(), "asked_at": self._now(), "run_id": self._maker.run_id, "pid": os.getpid()}
        return call_id_of(call.as_identity()), {**request, **record}

    # Going on with a batch

    def _advance(self, batch: str) -> None:
        """Take a batch as far as it goes now."""
        try:
            if not self._store.has(batch, REQUESTS):
                self._give_up(batch)
            elif (refused := self._store.find_record(batch, REFUSED)) is not None:
                self._close_refused(batch, refused["detail"])
            elif not self._store.has(batch, SUBMITTED):
                self._send(batch)  # what it brings is for the next run, which makes documents of it
            else:
                self._collect(batch)
        except ListUnknown as error:
            self._states[batch] = "not confirmed"
            self.errors.append(
                f"Batch {batch} may have been submitted, and the provider does not say which batches it has ({error}) "
                "Nothing is submitted again. If it is not there, --ignore-batches asks its calls again."
            )
        except InterfaceRefused as error:
            self.errors.append(f"Batch {batch}: {error}")
        except InterfaceFailed as error:
            self.problems.append(f"Batch {batch}: {error}")

    def _give_up(self, batch: str) -> None:
        """Close the attempts of a batch whose process died before it could send anything."""
        never = Result(None, detail=f"Batch {batch} was never submitted. Run again.")
        for call_id in self._store.get_record(batch, INTENT)["call_ids"]:
            for attempt in self.data.calls.list_attempts(call_id):
                if find_batch([attempt]) == batch:
                    self._close_unanswered(attempt, never)
        self._finish(batch, "not submitted")

    def _send(self, batch: str) -> None:
        """Submit a batch that no process has submitted so far, if that is certain."""
        interface, asked = self._interface_of(batch), self._store.find_record(batch, ASKED)
        created = None if asked is None else interface.find(asked["file_id"], batch)
        if created is None and asked is not None and self._age_of(asked["asked_at"]) < UNSURE_SECONDS:
            self._states[batch] = "not confirmed"
            return
        if created is None:
            try:
                created = self._create(batch, interface)
            except InterfaceRefused as error:
                # Before its calls are free to go into another batch: this one is never to be created any more.
                self._store.record(batch, REFUSED, {"detail": str(error), "refused_at": self._now()})
                self._close_refused(batch, str(error))
                raise
        self._store.record(batch, SUBMITTED, {"provider_batch_id": created["id"], "submitted_at": self._now()})
        self.submitted += len(self._read_requests(batch))

    def _close_refused(self, batch: str, detail: str) -> None:
        self._close_all(batch, {}, Result(None, detail=f"Batch {batch} was refused: {detail}"))
        self._finish(batch, "refused")

    def _create(self, batch: str, interface: BatchInterface) -> dict[str, Any]:
        uploaded = self._store.find_record(batch, UPLOADED)
        if uploaded is None:
            content = self._store.find_content(batch, REQUESTS) or b""
            uploaded = {"file_id": interface.upload(f"{batch}.jsonl", content), "uploaded_at": self._now()}
            self._store.record(batch, UPLOADED, uploaded)
        asked = {"asked_at": self._now(), "file_id": uploaded["file_id"]}
        self._store.record(batch, ASKED, asked, replace=True)
        return interface.create(asked["file_id"], batch)

    def _collect(self, batch: str) -> None:
        """Bring the results of a batch into the ledger if it has ended."""
        interface = self._interface_of(batch)
        found = interface.read(self._store.get_record(batch, SUBMITTED)["provider_batch_id"])
        state = str(found.get("status"))
        counts = found.get("request_counts") or {}
        self._states[batch] = state + (f", {counts['completed']} answered" if counts.get("completed") else "")
        if state not in ENDED:
            return
        output = self._download(batch, interface, OUTPUT, found)
        results = read_results(output)
        missing = Result(None, detail=_describe_end(batch, state, found))
        if len(results) < count_lines(output):  # one of them may be its answer, and paid
            missing = Result(200, detail=f"{OUTPUT} of batch {batch} has lines that name no call. They are kept.")
        for custom_id, result in read_results(self._download(batch, interface, ERRORS, found)).items():
            results.setdefault(custom_id, result)
        self._close_all(batch, results, missing)
        self._finish(batch, state)

    def _download(self, batch: str, interface: BatchInterface, name: str, found: Mapping[str, Any]) -> bytes:
        """Return one of the two files of results, kept before anything reads it; b"" if there is none."""
        content = self._store.find_content(batch, name)
        if content is not None:
            return content
        file_id = found.get("output_file_id" if name == OUTPUT else "error_file_id")
        content = interface.download(str(file_id)) if file_id else b""
        answered = (found.get("request_counts") or {}).get("completed")
        if name == OUTPUT and isinstance(answered, int) and count_lines(content) < answered:
            lines = count_lines(content)
            raise InterfaceFailed(f"{answered} calls are answered, and the file has {lines} lines. Run again later.")
        content = clean_errors(content, lambda line: drop_key(line, interface.find_key()))
        if file_id:
            self._store.keep(batch, name, content)
        return content

    # Closing attempts

    def _close_all(self, batch: str, results: Mapping[str, Result], missing: Result) -> None:
        """Give every attempt of a batch its outcome; one that has one keeps it. `missing` is of calls without one."""
        bodies = self._read_requests(batch)
        intent = self._store.get_record(batch, INTENT)

        def close(custom_id: str) -> None:
            call_id, _, number = custom_id.partition("-")
            attempt = self.data.calls.read_attempt(call_id, int(number))
            if attempt.outcome is not None:
                return
            result = results.get(custom_id, missing)
            if result.body is None:
                self._close_unanswered(attempt, result)
            else:
                self._close_answered(attempt, result, bodies[custom_id], intent)

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(close, bodies))

    def _close_answered(
        self, attempt: Attempt, result: Result, body: Mapping[str, Any], intent: Mapping[str, Any]
    ) -> None:
        assert result.http_status is not None
        assert result.body is not None
        request = attempt.read_request()
        call = _call_of(request)
        key = _key_source_of(intent)
        transport = Transport(api_base=intent["address"], api_key_env=key.variable, api_key_file=key.file)
        self.data.calls.add_response(attempt, result.body)
        answer = gateway.read_answer(call, transport, http_status=result.http_status, body=result.body)
        is_as_asked = body.get("messages") == request["messages"]
        sent = {
            "method": "POST",
            "address": f"{intent['address']}/batches",
            "headers": {},
            "body": {**body, "messages": AS_ASKED} if is_as_asked else body,
        }
        headers = {"x-request-id": result.request_id} if result.request_id else {}
        self._close(attempt, replace(answer, sent=sent, response_headers=headers))

    def _close_unanswered(self, attempt: Attempt, result: Result) -> None:
        reason = REASON if result.http_status is None else "bad_body"
        self._close(attempt, failed_answer(GatewayError(reason, result.detail, http_status=result.http_status)))

    def _close(self, attempt: Attempt, answer: Answer) -> None:
        price = Price.from_record(attempt.read_request().get("price"))
        outcome = describe_outcome(self._maker, answer, cost=describe_cost(answer, price), seconds=None)
        self.data.calls.close_attempt(attempt, outcome)
        self._maker.admission.meter.add(cost_of_answer(answer, price))
        with self._guard:
            self.collected += answer.reason != REASON

    def _finish(self, batch: str, state: str) -> None:
        self._store.record(batch, FINISHED, {"state": state, "finished_at": self._now()})

    # Looking

    def _interface_of(self, batch: str) -> BatchInterface:
        intent = self._store.get_record(batch, INTENT)
        return BatchInterface(intent["address"], _key_source_of(intent))

    def _read_requests(self, batch: str) -> dict[str, dict[str, Any]]:
        """Return {custom_id: the body that is sent} of a batch; {} if it was never written."""
        content = self._store.find_content(batch, REQUESTS) or b""
        lines = [json.loads(line) for line in content.split(b"\n") if line]
        return {line["custom_id"]: line["body"] for line in lines}

    def _now(self) -> str:
        return self.clock().isoformat()

    def _age_of(self, moment: str) -> float:
        return (self.clock() - datetime.fromisoformat(moment)).total_seconds()


def _describe_end(batch: str, state: str, found: Mapping[str, Any]) -> str:
    """Return why a call of an ended batch has no result: "Batch x expired: …"."""
    errors = (found.get("errors") or {}).get("data") or []
    messages = [str(error.get("message")) for error in errors if isinstance(error, Mapping) and error.get("message")]
    why = f": {messages[0].rstrip('.')}" if messages else ""
    return f"Batch {batch} ended without an answer to this call ({state}{why}). Run again."


def _divide(written: Iterable[Written]) -> Iterator[list[Written]]:
    """Yield what goes into one batch: requests to one model at one address, not too many and not too long."""
    groups: dict[tuple[str, str, KeySource], list[Written]] = {}
    for found in written:
        key = found.deferred.call.model, found.address, KeySource.of(_transport_of(found.deferred.plan))
        groups.setdefault(key, []).append(found)
    for group in groups.values():
        part: list[Written] = []
        size_bytes = 0
        for found in group:
            length = len(json.dumps(found.body))
            if part and (len(part) == MOST_CALLS or size_bytes + length > MOST_BYTES):
                yield part
                part, size_bytes = [], 0
            part.append(found)
            size_bytes += length
        yield part


def _call_of(request: Mapping[str, Any]) -> Call:
    return Call(
        tuple(request["messages"]), request["model"], request["endpoint"], request["params"], request["replicate"]
    )


def _transport_of(plan: DocumentPlan) -> Transport:
    assert plan.model is not None
    return plan.model.transport


def _is_free(model: str) -> bool:
    return model.partition("/")[0] in FREE_PROVIDERS


def _key_source_of(intent: Mapping[str, Any]) -> KeySource:
    return KeySource(intent["api_key_env"], intent.get("api_key_file"))
