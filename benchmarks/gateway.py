"""gateway: what asking a model costs above a bare HTTP client, and how well the places at work are filled.

    no latency      CPU and calls a second at 1, 16, 64 and 256 at a time, beside one httpx client on the same server
    heavy tail      5,000 calls of lognormal latency (median 0.5 s, one in a hundred above 5 s), 256 at a time
                    ideal: each call goes, in order, to the first of 256 hands that is free

The server is a process of its own on this machine. The threads and the event loop of the gateway are counted, and the
ledger is not: what writing to disk costs, document_cost and chain3 tell.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.measure import measure_python, repeat_measuring
from benchmarks.results import Result, Row, Settings

CALLS, QUICK_CALLS = 2_000, 400  # a row without latency
TAIL_CALLS, QUICK_TAIL_CALLS = 5_000, 1_000
CONCURRENCIES, TAIL_CONCURRENCY = (1, 16, 64, 256), 256
CPU_MS_AIM = 3.0  # a call, over bare httpx
WALL_AIM = 1.15  # x ideal
BARE, GATEWAY = "bare", "gateway"
NAMES = {BARE: "bare httpx", GATEWAY: "gateway"}


def estimate_seconds(settings: Settings) -> float:
    return settings.repeat * (90.0 if settings.is_quick else 200.0)


def run(settings: Settings) -> Result:
    calls, tail_calls = (QUICK_CALLS, QUICK_TAIL_CALLS) if settings.is_quick else (CALLS, TAIL_CALLS)
    calls = settings.sizes[0] if settings.sizes else calls
    result = Result()
    for concurrency in CONCURRENCIES:
        bare, ours = (_measure(kind, calls, concurrency, "none", settings.repeat) for kind in (BARE, GATEWAY))
        result.rows += [bare, ours]
        above = ours["cpu ms a call"] - bare["cpu ms a call"]
        result.hold(f"{concurrency} at a time, CPU ms a call over bare httpx", measured=above, limit=CPU_MS_AIM)
    tail = settings.sizes[-1] if settings.sizes else tail_calls
    bare, ours = (_measure(kind, tail, TAIL_CONCURRENCY, "heavy", settings.repeat) for kind in (BARE, GATEWAY))
    result.rows += [bare, ours]
    result.hold(f"{tail:,} calls of heavy-tailed latency, wall / ideal", measured=ours["wall / ideal"], limit=WALL_AIM)
    result.notes.append(_describe_parts(calls))
    return result


def _measure(kind: str, calls: int, concurrency: int, latency: str, repeat: int) -> Row:
    arguments = [kind, str(calls), str(concurrency), latency]
    runs = repeat_measuring(repeat, lambda _number: measure_python("benchmarks.gateway_run", *arguments))
    middle = sorted((json.loads(one.output) for one in runs), key=_cpu_of)[len(runs) // 2]
    ideal = middle["ideal_seconds"]
    return {
        "asked by": NAMES[kind],
        "latency": latency,
        "at a time": concurrency,
        "calls": middle["calls"],
        "cpu ms a call": round(1000 * _cpu_of(middle), 3),
        "calls a second": round(middle["calls"] / middle["wall_seconds"], 1),
        "wall_seconds": round(middle["wall_seconds"], 3),
        "wall / ideal": round(middle["wall_seconds"] / ideal, 3) if ideal else "-",
    }


def _cpu_of(measured: dict[str, Any]) -> float:
    return float(measured["cpu_seconds"] / measured["calls"])


def _describe_parts(calls: int) -> str:
    parts = json.loads(measure_python("benchmarks.gateway_run", "parts", str(calls)).output)
    return "Where it goes, CPU ms a call: " + ", ".join(f"{name} {value:.2f}" for name, value in parts.items()) + "."
