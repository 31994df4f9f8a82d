"""One run of embedded, in a process of its own: python -m benchmarks.embedded_run bare|gateway CALLS TOKENS SLOTS."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from pipeline import embedded

MODEL = "local/smollm2-135m-instruct"
CONTEXT_TOKENS = 1024

Ask = Callable[[int], int]  # number of the call -> tokens that were written


def make_messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Story number {number}: write a long story about the sea and the tide."}]


def make_params(number: int, tokens: int) -> dict[str, Any]:
    return {"max_tokens": tokens, "temperature": 1.0, "seed": number}


def ask_bare(tokens: int, slots: int) -> Ask:
    """llama.cpp's server as xllamacpp gives it, started as the product starts it, asked without anything between."""
    key = embedded.LoadedKey(embedded.find_weights(MODEL), CONTEXT_TOKENS, embedded.count_threads(0), slots)
    folder = tempfile.TemporaryDirectory()
    server = embedded.start_server(key, Path(folder.name) / "llama.sock")

    def ask(number: int, _folder: object = folder) -> int:  # which lives as long as the server
        request = {"messages": make_messages(number), **make_params(number, tokens), "cache_prompt": False}
        return count_tokens(server.handle_chat_completions(request))

    return ask


def ask_gateway(tokens: int, slots: int) -> Ask:
    from pipeline.gateway import Call, Transport, ask

    transport = Transport(context_tokens=CONTEXT_TOKENS, slots=slots)

    def ask_one(number: int) -> int:
        call = Call(tuple(make_messages(number)), MODEL, None, make_params(number, tokens), 1)
        chunks: list[bytes] = []
        answer = ask(call, transport, keep=chunks.append)
        assert answer.status in ("ok", "truncated"), answer
        return answer.completion_tokens or 0

    return ask_one


def count_tokens(completion: Mapping[str, Any]) -> int:
    return int(completion["usage"]["completion_tokens"])


def main(kind: str, calls: str, tokens: str, slots: str) -> None:
    ask = {"bare": ask_bare, "gateway": ask_gateway}[kind](int(tokens), int(slots))
    ask(0)  # loads the weights
    with ThreadPoolExecutor(int(slots)) as threads:
        started = perf_counter()
        written = sum(threads.map(ask, range(1, int(calls) + 1)))
        seconds = perf_counter() - started
    print(json.dumps({"tokens": written, "wall_seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
