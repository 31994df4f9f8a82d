"""embedded: tokens a second of a model inside the process, beside the bare library with the same number of slots.

Both write the same texts with the same settings, which differ from the library's own where equal bytes need it
(ARCHITECTURE.md says which and why). So the ratio is what the gateway costs, and not what those settings cost.
"""

from __future__ import annotations

import json
from statistics import median

from benchmarks.measure import measure_python
from benchmarks.results import Result, Row, Settings

CALLS, QUICK_CALLS = 24, 8
TOKENS, QUICK_TOKENS = 200, 40  # an answer, at most
SLOTS = (1, 4)
AIM = 0.9  # of the bare library's tokens a second
BARE, GATEWAY = "bare", "gateway"
NAMES = {BARE: "bare xllamacpp", GATEWAY: "gateway"}


def estimate_seconds(settings: Settings) -> float:
    return settings.repeat * (60.0 if settings.is_quick else 600.0)


def run(settings: Settings) -> Result:
    calls, tokens = (QUICK_CALLS, QUICK_TOKENS) if settings.is_quick else (CALLS, TOKENS)
    calls = settings.sizes[0] if settings.sizes else calls
    result = Result()
    for slots in SLOTS:
        runs: dict[str, list[dict[str, float]]] = {BARE: [], GATEWAY: []}
        for _ in range(settings.repeat):  # in turn, so that a machine that slows down slows both
            for kind, found in runs.items():
                arguments = [kind, str(calls), str(tokens), str(slots)]
                found.append(json.loads(measure_python("benchmarks.embedded_run", *arguments).output))
        rows = {kind: _row(kind, slots, calls, found) for kind, found in runs.items()}
        result.rows += rows.values()
        ratio = rows[GATEWAY]["tokens a second"] / rows[BARE]["tokens a second"]
        result.hold(f"{slots} slots, tokens a second / bare xllamacpp", measured=ratio, limit=AIM, at_least=True)
    return result


def _row(kind: str, slots: int, calls: int, runs: list[dict[str, float]]) -> Row:
    return {
        "asked by": NAMES[kind],
        "slots": slots,
        "calls": calls,
        "tokens": int(median(run["tokens"] for run in runs)),
        "wall_seconds": round(median(run["wall_seconds"] for run in runs), 3),
        "tokens a second": round(median(run["tokens"] / run["wall_seconds"] for run in runs), 1),
    }
