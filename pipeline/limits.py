"""Limits: how many requests and tokens a minute, and how many calls at a time, a server is asked for.

All processes of one machine that share a data folder keep them together. Whoever wants to ask passes four places:

    turn of the process    of its threads, one
    turn of the machine    a lock file: of all processes, one. Waiting there takes no CPU
    place                  one of `concurrency` lock files, held until the answer has come
    window                 a state file: when was the last request, how many tokens in the last minute?

Nothing is written ahead of time, and the kernel gives back the locks of a process that is killed: no place and no
turn is ever lost. The state file is replaced whole. After a restart of the machine it is void, which its times tell.

Requests are spread evenly, one every 60 / (0.97 R) seconds, instead of R at once and then none: many providers
count shorter windows than a minute. What counts is when a request arrives, and this module knows only when it
leaves. R + 1 requests leave within no less than 60 / 0.97 seconds less LATENESS_SECONDS, which is 61.3: any 60
seconds at the server hold at most R, as long as no request is 1.3 seconds longer on its way than another. The first
request of a process may be: clients and connections are made for it. So the others of the process wait until it was
answered, for WARM_UP_SECONDS at most.

Tokens are summed by the second. A request counts with what it may take until its answer tells what it took. A
request that alone exceeds the limit is let through when nothing else was sent for a minute.

Clocks: the monotonic clock is one for all processes of a machine, and does not jump.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from store.identity import hash_bytes
from store.machine_locks import MachineLock, hold_machine_lock

MINUTE = 60.0  # seconds
USED_SHARE = 0.97  # of the requests; the rest is the room for requests that take different times to arrive
LATENESS_SECONDS = 0.5  # a request that left late is made up for by the next ones, up to here
TOKEN_WINDOW = 61  # seconds; the same room for tokens
LONGEST_SLEEP = 0.25  # seconds; an answer may give tokens back, and then the wait is shorter
WARM_UP_SECONDS = 10.0  # more than a first request was seen to take on its way on a busy machine
PLACE_POLL = 0.05  # seconds between looks for a place that another process has left


@dataclass(frozen=True)
class Limits:
    """What a server may be asked for. None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    def __bool__(self) -> bool:
        return self != Limits()

    @property
    def has_window(self) -> bool:
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


class Limiter:
    """The limits of all servers, kept in a folder of small files."""

    def __init__(self, folder: Path, *, minute: float = MINUTE) -> None:
        """`minute` is shorter in tests only."""
        self._folder = folder / _name_file(socket.gethostname())  # the monotonic clock is the machine's own
        self._minute = minute
        self._gates: dict[str, _Gate] = {}
        self._guard = threading.Lock()
        self._first = threading.Lock()  # held by the first request of this process, and never given back
        self._is_warm = threading.Event()

    @contextmanager
    def admit(self, server: str, limits: Limits, *, tokens: int) -> Iterator[Passage]:
        """Wait until the server may be asked, for at most so many tokens; the block asks, and then settles."""
        gate = self._get_gate(server)
        place = None
        is_first = self._let_first_go_ahead() if limits.requests_per_minute else False
        try:
            with gate.turn, hold_machine_lock(gate.folder / "turn"):
                place = gate.wait_for_place(limits.concurrency) if limits.concurrency else None
                second = gate.wait_for_window(limits, tokens) if limits.has_window else 0
            yield Passage(gate, second, tokens, counts_tokens=limits.tokens_per_minute is not None)
        finally:
            if is_first:
                self._is_warm.set()
            if place:
                place.release()
                gate.place_is_free.set()

    def _let_first_go_ahead(self) -> bool:
        """Return whether this is the first request of the process; wait for that one if not."""
        is_first = self._first.acquire(blocking=False)
        if not is_first:
            self._is_warm.wait(timeout=WARM_UP_SECONDS)
        return is_first

    def _get_gate(self, server: str) -> _Gate:
        with self._guard:
            return self._gates.setdefault(server, _Gate(self._folder / _name_file(server), self._minute))


class Passage:
    """One request that was let through."""

    def __init__(self, gate: _Gate, second: int, tokens: int, *, counts_tokens: bool) -> None:
        self._gate, self._second, self._tokens, self._counts_tokens = gate, second, tokens, counts_tokens

    def settle(self, tokens: int) -> None:
        """Tell how many tokens it took in the end."""
        if self._counts_tokens:
            self._gate.correct_tokens(self._second, tokens - self._tokens)


class _State(NamedTuple):
    """What was sent: the time of the last request, {second: tokens}. Seconds of the monotonic clock."""

    last_request: float
    tokens: dict[int, int]


@dataclass
class _Gate:
    """The way to one server."""

    folder: Path
    minute: float
    turn: threading.Lock = field(default_factory=threading.Lock)
    place_is_free: threading.Event = field(default_factory=threading.Event)

    def wait_for_place(self, concurrency: int) -> MachineLock:
        while True:
            self.place_is_free.clear()
            for number in range(concurrency):
                if place := MachineLock.try_to_get(self.folder / f"place-{number}"):
                    return place
            self.place_is_free.wait(PLACE_POLL)

    def wait_for_window(self, limits: Limits, tokens: int) -> int:
        """Wait until the window has room, take it, and return the second in which the tokens are counted."""
        while True:
            with self._locked_state() as state:
                now = time.monotonic()
                wait = max(
                    self._wait_for_request(state, limits, now), self._wait_for_tokens(state, limits, tokens, now)
                )
                if wait <= 0:
                    return self._take(state, limits, tokens, now)
            time.sleep(min(wait, LONGEST_SLEEP))

    def correct_tokens(self, second: int, difference: int) -> None:
        with self._locked_state() as state:
            if second in state.tokens:
                self._write(state._replace(tokens={**state.tokens, second: max(0, state.tokens[second] + difference)}))

    def _wait_for_request(self, state: _State, limits: Limits, now: float) -> float:
        return state.last_request + self._spacing(limits) - now

    def _wait_for_tokens(self, state: _State, limits: Limits, tokens: int, now: float) -> float:
        """Return the seconds until so many tokens have left the window that these have room."""
        room = None if limits.tokens_per_minute is None else limits.tokens_per_minute - tokens
        counted = sum(state.tokens.values())
        if room is None or counted <= max(room, 0):
            return 0.0
        for second in sorted(state.tokens):
            counted -= state.tokens[second]
            if counted <= max(room, 0):
                return second + self._token_window - now
        raise AssertionError("without any counted tokens there is room")

    def _take(self, state: _State, limits: Limits, tokens: int, now: float) -> int:
        second = int(now)
        last_request = max(state.last_request + self._spacing(limits), now - LATENESS_SECONDS * self.minute / MINUTE)
        self._write(_State(last_request, {**state.tokens, second: state.tokens.get(second, 0) + tokens}))
        return second

    def _spacing(self, limits: Limits) -> float:
        return self.minute / (USED_SHARE * limits.requests_per_minute) if limits.requests_per_minute else 0.0

    @property
    def _token_window(self) -> float:
        return TOKEN_WINDOW * self.minute / MINUTE + 1  # tokens of one second count until the last of them are out

    @contextmanager
    def _locked_state(self) -> Iterator[_State]:
        with hold_machine_lock(self.folder / "state.lock"):
            yield self._read(time.monotonic())

    def _read(self, now: float) -> _State:
        """Return the state without what lies outside the window, or in the future: that was before a restart."""
        nothing = _State(-self.minute, {})
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            found = json.loads((self.folder / "state.json").read_bytes())
            tokens = {int(second): int(count) for second, count in found["tokens"].items()}
            counted = {second: count for second, count in tokens.items() if now - self._token_window < second <= now}
            last_request = float(found["last_request"])
            return _State(last_request if last_request <= now else nothing.last_request, counted)
        return nothing

    def _write(self, state: _State) -> None:
        """Replace the file. It is not synced: what a power cut takes from it is void then anyway."""
        path = self.folder / "state.json"
        staged = self.folder / f"state.{os.getpid()}.new"
        staged.write_text(json.dumps({"last_request": state.last_request, "tokens": state.tokens}))
        staged.replace(path)


def _name_file(name: str) -> str:
    """Return a safe file name that tells names apart: "openai/gpt-4o" -> "openai-gpt-4o-1c0f8a2e" """
    readable = "".join(character if character.isalnum() and character.isascii() else "-" for character in name)
    return f"{readable[:60]}-{hash_bytes(name.encode())[:8]}"
