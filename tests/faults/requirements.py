"""What a machine must have for a test of a fault. Elsewhere the test is skipped, and pytest prints why.

With DAYBOOK_EVERY_FAULT=1 nothing may be skipped: what is missing is then a failure. `make faults` sets it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

import pytest


def require(is_there: object, what: str) -> None:
    """Skip the test that asks, saying what is not there; fail it where nothing may be skipped."""
    if is_there:
        return
    if os.environ.get("DAYBOOK_EVERY_FAULT") == "1":
        pytest.fail(f"{what}, and DAYBOOK_EVERY_FAULT=1 allows no test of a fault to be skipped")
    pytest.skip(what)


def require_program(*names: str) -> None:
    for name in names:
        require(shutil.which(name), f"{name} is not installed")


def require_root() -> None:
    require(os.geteuid() == 0, "needs root")


def require_mounts(kind: str) -> None:
    """Need the right to mount filesystems of a kind, from image files through loop devices if not a tmpfs."""
    require_root()
    if kind != "tmpfs":
        require_program(f"mkfs.{kind}", "mount", "umount")
        require(_run("losetup", "--find"), "no loop device is free, or there are none")
    require(_can_unshare("--mount"), "may not mount here")


def require_namespaces(*options: str) -> None:
    """Need `unshare` with options such as --net or --pid."""
    require_root()
    require_program("unshare")
    require(_can_unshare(*options), f"may not make namespaces here: unshare {' '.join(options)}")


@functools.cache
def _can_unshare(*options: str) -> bool:
    return _run("unshare", *options, "true")


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
