"""An OpenAI-compatible provider in a process of its own: python -m benchmarks.provider LATENCY_SECONDS.

    with serve_provider(0.2) as provider:
        provider.api_base           what models.toml is to name
        provider.read_counts()      what was asked and answered so far

Every answer is text of its own for each prompt, and the same for the same prompt; its last line is a score.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.measure import ROOT

COUNTS_PATH = "/counts"
WORDS = "What there is to say about it. " * 30
CONNECTIONS_AT_ONCE = 1024


class Counts(NamedTuple):
    """Requests that came, requests that were answered to the last byte, distinct ones, and the most of one."""

    requests: int
    answered: int
    calls: int
    most_of_a_call: int


class Provider(NamedTuple):
    """The server's process and where it listens."""

    process: subprocess.Popen[str]
    root: str

    @property
    def api_base(self) -> str:
        return f"{self.root}/v1"

    def read_counts(self) -> Counts:
        with urllib.request.urlopen(f"{self.root}{COUNTS_PATH}", timeout=30) as answer:  # noqa: S310  of this machine
            return Counts(**json.load(answer))


@contextmanager
def serve_provider(latency_seconds: float) -> Iterator[Provider]:
    """Serve until the block ends."""
    command = [sys.executable, "-m", "benchmarks.provider", str(latency_seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Provider(process, process.stdout.readline().strip())
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        process.stdout.close()


# The server


@dataclass
class Answering:
    """Answers each connection, one request after the other, and counts."""

    latency_seconds: float
    requests: Counter[bytes] = field(default_factory=Counter)  # {hash of the body: times}
    answered: int = 0

    async def serve(self) -> None:
        server = await asyncio.start_server(self._answer_connection, "127.0.0.1", 0, backlog=CONNECTIONS_AT_ONCE)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()

    async def _answer_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                if head[0].startswith(b"get "):
                    await _send(writer, self._describe_counts())
                else:
                    await self._answer(await reader.readexactly(_read_length(head)), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.requests[hashlib.blake2b(body).digest()] += 1
        await asyncio.sleep(self.latency_seconds)
        await _send(writer, _make_completion(json.loads(body)["messages"][-1]["content"]))
        self.answered += 1

    def _describe_counts(self) -> bytes:
        most = max(self.requests.values(), default=0)
        counts = Counts(self.requests.total(), self.answered, calls=len(self.requests), most_of_a_call=most)
        return json.dumps(counts._asdict()).encode()


def _read_length(head: list[bytes]) -> int:
    return next(int(line.partition(b":")[2]) for line in head if line.startswith(b"content-length:"))


async def _send(writer: asyncio.StreamWriter, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


def _make_completion(prompt: str) -> bytes:
    text = f"Answer {hashlib.blake2b(prompt.encode(), digest_size=8).hexdigest()}.\n{WORDS}\nSCORE: 7"
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4, "total_tokens": len(prompt) // 2}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return json.dumps({"object": "chat.completion", "model": "served", "choices": choices, "usage": usage}).encode()


if __name__ == "__main__":
    asyncio.run(Answering(float(sys.argv[1])).serve())
