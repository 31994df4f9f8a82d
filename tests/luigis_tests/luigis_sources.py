"""Luigi's own tests, fetched from the package index: the release that requirements.lock pins, held to its hash."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = Path(__file__).parent / "requirements.txt"
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--timeout", "20", "--retries", "1"]


def fetch_luigis_tests(cache: Path, folder: Path) -> Path:
    """Return a folder in `folder` that holds Luigi's tests, in test/. Skips if the index cannot be reached."""
    requirement = find_luigi_in_lock_file()
    archive = cache / f"{requirement.split()[0].replace('==', '-')}.tar.gz"
    if not is_archive_of(requirement, archive):
        pinned = folder / "luigi.txt"
        pinned.write_text(requirement)
        run_pip("download", "--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", pinned, "-d", cache)
    assert is_archive_of(requirement, archive), f"{archive} does not have the hash that requirements.lock asks for."
    with tarfile.open(archive) as members:
        tests = [member for member in members if "/test/" in member.name]  # without Luigi itself, which is installed
        members.extractall(folder, tests, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


def fetch_packages(cache: Path) -> Path:
    """Return a folder with the packages that Luigi's tests import besides."""
    python = f"{sys.implementation.cache_tag}-{hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:16]}"
    folder = cache / f"packages-{python}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        run_pip("install", "--no-deps", "--require-hashes", "--upgrade", "--target", partial, "-r", PACKAGES)
        partial.rename(folder)
    return folder


def find_luigi_in_lock_file() -> str:
    """Return the line of requirements.lock that pins Luigi, with its hashes."""
    found = re.search(r"^luigi==(.*\\\n)+.*\n", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found is not None
    return found[0]


def is_archive_of(requirement: str, archive: Path) -> bool:
    return archive.exists() and f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}" in requirement


def run_pip(command: str, *arguments: str | Path) -> None:
    """Run pip. Skips if it fails, unless that is because a hash does not match."""
    done = subprocess.run([*PIP, command, *arguments], capture_output=True, text=True)
    assert "DO NOT MATCH THE HASHES" not in done.stderr, done.stderr
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"pip {command} did not bring what Luigi's own tests need: {reason}")
