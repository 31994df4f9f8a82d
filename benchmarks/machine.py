"""What was measured on: the machine, its filesystem and the versions of what ran."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT

PACKAGES = ("luigi", "jinja2", "blake3")


def describe_machine(work_folder: Path) -> dict[str, Any]:
    """Return the facts that a number means nothing without."""
    return {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": _find_commit(),
        "cores": os.cpu_count(),
        "processor": _find_processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _find_filesystem(work_folder),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),  # of the last minute: near 0, or the numbers are too high
    }


def _find_commit() -> str:
    if not shutil.which("git"):
        return "unknown"
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def _find_processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _find_filesystem(folder: Path) -> str:
    """Return the type of the filesystem that a folder lies on, as /proc/mounts has it."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    entries = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    place = folder.resolve()
    holding = [(len(point), kind) for point, kind in entries if place.is_relative_to(point)]
    return max(holding, default=(0, "unknown"))[1]
