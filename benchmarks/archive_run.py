"""One step of the benchmark archive, in a process of its own: python -m benchmarks.archive_run STEP EXPORT DATA."""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PIECE_CHARACTERS = 1 << 20  # as pipeline.archive.reading reads


def parse_with_json(export: Path, _data: Path) -> dict[str, Any]:
    """Go through the items with the decoder of the standard library, and keep none."""
    decode, count = json.JSONDecoder().raw_decode, 0
    with export.open(encoding="utf-8") as file:
        window, at = file.read(PIECE_CHARACTERS), 1  # behind the bracket
        while True:
            try:
                _, end = decode(window, at)
            except ValueError:
                if not (more := file.read(PIECE_CHARACTERS)):
                    break
                window, at = window[at:] + more, 0
                continue
            count += 1
            at = end + 2 if window.startswith(", ", end) else end
    return {"conversations": count}


def parse_with_ijson(export: Path, _data: Path) -> dict[str, Any]:
    import ijson.backends.yajl2_c as ijson

    with export.open("rb") as file:
        return {"conversations": sum(1 for _ in ijson.items(file, "item", use_float=True))}


def hash_bytes(export: Path, _data: Path) -> dict[str, Any]:
    from blake3 import blake3

    hasher = blake3()
    with export.open("rb") as file:
        while piece := file.read(PIECE_CHARACTERS):
            hasher.update(piece)
    return {"conversations": None, "blake3": hasher.hexdigest()}


def read_peak_bytes() -> int:
    """Return the most memory that this program had. What getrusage tells begins with that of whoever started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024  # type: ignore[index]


def import_export(export: Path, data: Path) -> dict[str, Any]:
    from pipeline.archive.importing import import_paths
    from store.data_root import DataRoot

    coverage = import_paths(DataRoot(data), [str(export)])
    totals = coverage.as_json()["totals"]
    return {"conversations": totals["seen"], "imported": totals["imported"]}


RUN: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "parse only, json": parse_with_json,
    "parse only, ijson": parse_with_ijson,
    "hash only": hash_bytes,
    "import": import_export,
    "again": import_export,
}


def load_modules() -> None:
    """Import what the steps use, so that their times are those of the work."""
    import blake3  # noqa: F401
    import ijson.backends.yajl2_c  # noqa: F401

    import pipeline.archive.importing  # noqa: F401


def use_cpu() -> float:
    """Return the CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    step, export, data = sys.argv[1:]
    load_modules()
    before = use_cpu()
    told = RUN[step](Path(export), Path(data))
    print(json.dumps({**told, "cpu_seconds": use_cpu() - before, "peak_bytes": read_peak_bytes()}))


if __name__ == "__main__":
    main()
