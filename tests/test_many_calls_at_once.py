"""Hundreds of calls in flight in one process: connections are used again; memory and threads do not grow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.provider_server import ProviderServer, Reply, Request, make_completion

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("many calls at once")]

AT_ONCE, ROUNDS = 256, 3
TEXT = "Once upon a tide. " * 8
# A process of its own, which prints how it stood after each round. Its threads are those that ask, one a call at work.
ASK = """
import json, resource, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pipeline import wire
from pipeline.gateway import Call, Transport, ask

address, at_once, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def ask_one(number):
    call = Call(({"role": "user", "content": str(number)},), "openai/x", "here", {"max_tokens": 9}, 1)
    kept = []
    answer = ask(call, Transport(address), keep=kept.append)
    return answer.status, len(b"".join(kept)), len(kept), threading.active_count()

def read_memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

ask_one(0)
before = threading.active_count()
with ThreadPoolExecutor(at_once) as threads:
    for _ in range(rounds):
        found = list(threads.map(ask_one, range(at_once)))
        print(json.dumps({
            "statuses": sorted({status for status, *_ in found}),
            "bytes": sum(size for _, size, *_ in found),
            "pieces": min(pieces for _, _, pieces, _ in found),
            "threads": max(count for *_, count in found) - before - at_once,
            "memory": read_memory(),
            "clients": len(wire._lanes()._lanes),
        }), flush=True)
"""


class Gate:
    """Lets the replies of a round begin when all its requests are there, so that all are in flight at once."""

    def __init__(self, size: int) -> None:
        self.most = self._waiting = 0
        self._size, self._changed = size, threading.Condition()

    def wait(self) -> None:
        with self._changed:
            self._waiting += 1
            self.most = max(self.most, self._waiting)
            if self._waiting == self._size:
                self._waiting = 0
                self._changed.notify_all()
            else:
                self._changed.wait(60)


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


def test_hundreds_of_dripping_answers_share_connections_and_leave_nothing_behind(provider: ProviderServer) -> None:
    gate, body = Gate(AT_ONCE), json.dumps(make_completion(TEXT)).encode()

    def drip(request: Request) -> Reply:
        if request.body["messages"][0]["content"] != "0" or len(provider.requests) > 1:
            gate.wait()
        return Reply(body=body, drip_seconds=0.001)

    provider.reply = drip
    done = subprocess.run(
        [sys.executable, "-c", ASK, provider.api_base, str(AT_ONCE), str(ROUNDS)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=300,
    )

    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rounds) == ROUNDS, done.stderr[-2000:]
    assert gate.most == AT_ONCE
    for found in rounds:
        assert found["statuses"] == ["ok"]
        assert found["bytes"] == AT_ONCE * len(body)
        assert found["pieces"] > 1  # handed on as they came, and not at the end
        assert found["threads"] <= 0  # besides those that ask
        assert found["clients"] == AT_ONCE // 8
    assert len(provider.requests) == ROUNDS * AT_ONCE + 1
    assert len(provider.connections) <= AT_ONCE + 1
    assert rounds[-1]["memory"] - rounds[0]["memory"] < 20_000_000
