"""One run of gateway, in a process of its own: python -m benchmarks.gateway_run KIND CALLS CONCURRENCY [SECONDS…].

bare | gateway    ask so many calls, so many at a time, and print one JSON object
parts             the CPU time of the parts of the gateway, one call at a time
serve             the server: each prompt names the seconds that its answer takes
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter, process_time, thread_time
from typing import NamedTuple

HEAVY = "heavy"
MEDIAN_SECONDS, P99_SECONDS = 0.5, 5.0  # as providers answer
SEED = 7
ANSWER_WORDS = 300

Run = Callable[[str, Sequence[float], int], None]


class Measured(NamedTuple):
    """One measurement. CPU is of the whole process, import and warm-up left out."""

    calls: int
    cpu_seconds: float
    wall_seconds: float
    ideal_seconds: float


def measure(run: Run, address: str, latencies: Sequence[float], concurrency: int) -> Measured:
    run(address, [0.0] * min(200, 2 * concurrency), concurrency)  # imports, connections
    cpu, wall = process_time(), perf_counter()
    run(address, latencies, concurrency)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    return Measured(len(latencies), cpu, wall, find_ideal(latencies, concurrency))


def find_ideal(latencies: Sequence[float], hands: int) -> float:
    """Return the seconds that so many hands need, each taking the next call when it is free."""
    free_at = [0.0] * hands
    for seconds in latencies:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)


def draw_latencies(calls: int) -> list[float]:
    chance = random.Random(SEED)  # noqa: S311  latencies, no secrets
    spread = math.log(P99_SECONDS / MEDIAN_SECONDS) / 2.326
    return [chance.lognormvariate(math.log(MEDIAN_SECONDS), spread) for _ in range(calls)]


# What is measured


def ask_bare(address: str, latencies: Sequence[float], concurrency: int) -> None:
    """One httpx client with as many connections as calls at a time."""
    import httpx

    async def ask_all() -> None:
        gate = asyncio.Semaphore(concurrency)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def ask_one(seconds: float) -> None:
                async with gate:
                    body = {
                        "model": "x",
                        "max_tokens": 9,
                        "messages": [{"role": "user", "content": make_prompt(seconds)}],
                    }
                    response = await client.post(f"{address}/chat/completions", json=body)
                    assert response.json()["choices"]

            await asyncio.gather(*map(ask_one, latencies))

    asyncio.run(ask_all())


def ask_gateway(address: str, latencies: Sequence[float], concurrency: int) -> None:
    """The gateway, asked from as many threads as calls at a time, as making does."""
    from pipeline.gateway import Call, Transport, ask

    def ask_one(seconds: float) -> None:
        messages = ({"role": "user", "content": make_prompt(seconds)},)
        answer = ask(Call(messages, "openai/x", "here", {"max_tokens": 9}, 1), Transport(address), keep=lambda _: None)
        assert answer.status == "ok", answer

    with ThreadPoolExecutor(concurrency) as threads:
        list(threads.map(ask_one, latencies))


def measure_parts(address: str, calls: int) -> dict[str, float]:
    """Return the CPU milliseconds a call of the parts of the gateway, one call at a time."""
    from pipeline import keys, litellm_client, wire
    from pipeline.answers import Call, Transport, interpret

    call = Call(({"role": "user", "content": make_prompt(0)},), "openai/x", "here", {"max_tokens": 9}, 1)
    transport = Transport(address)
    bodies: list[bytes] = []

    def send() -> None:
        request = litellm_client.build_request(call, transport, key=None)
        cleaner = keys.KeyDropper(None)
        exchange = wire.send(request, keep=lambda _: None, connect_seconds=10, timeout_seconds=60, cleaner=cleaner)
        bodies.append(bytes(exchange.body))

    send()
    started = thread_time()
    for _ in range(calls):
        litellm_client.build_request(call, transport, key=None)
    build = thread_time() - started
    started = thread_time()
    for _ in range(calls):
        interpret(bodies[0])
    read = thread_time() - started
    started = process_time()
    for _ in range(calls):
        send()
    whole = process_time() - started
    parts = {"litellm writes the request": build, "the exchange": whole - build, "reading the answer": read}
    return {name: 1000 * seconds / calls for name, seconds in parts.items()}


def make_prompt(seconds: float) -> str:
    return f"{seconds:.4f} " + "Write about the sea. " * 50


# The server


@contextmanager
def serve() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gateway_run", "serve"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


async def _serve() -> None:
    message = {"role": "assistant", "content": "word " * ANSWER_WORDS}
    usage = {"prompt_tokens": 1, "completion_tokens": ANSWER_WORDS, "total_tokens": ANSWER_WORDS + 1}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = json.dumps({"object": "chat.completion", "model": "x", "choices": choices, "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
                request = json.loads(await reader.readexactly(length))
                await asyncio.sleep(float(request["messages"][-1]["content"].split()[0]))
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main(kind: str, calls: str = "0", concurrency: str = "1", lengths: str = "none") -> None:
    if kind == "serve":
        asyncio.run(_serve())
        return
    with serve() as address:
        if kind == "parts":
            print(json.dumps(measure_parts(address, int(calls))))
            return
        latencies = draw_latencies(int(calls)) if lengths == HEAVY else [0.0] * int(calls)
        print(json.dumps(measure(RUNS[kind], address, latencies, int(concurrency))._asdict()))


RUNS: dict[str, Run] = {"bare": ask_bare, "gateway": ask_gateway}

if __name__ == "__main__":
    main(*sys.argv[1:])
