"""What every test can count on."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import run
from tests.provider_server import ProviderServer
from tests.trial_folder import COHORT, make_folder

MOST_WORKERS = 8  # each takes up to a gigabyte: it imports LiteLLM, and may load the model
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914  # from linux/sockios.h
IFF_UP = 1


def pytest_xdist_auto_num_workers() -> int | None:
    """Two workers for each core: tests wait much, for disks, servers and other processes."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min(2 * (os.cpu_count() or 1), MOST_WORKERS)


def pytest_configure() -> None:
    _take_interruptions()
    _start_loopback()


def _take_interruptions() -> None:
    """Let tests interrupt what they start, also if they run in the background of a shell and were made deaf to it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _start_loopback() -> None:
    """Start the loopback interface, if this is a network namespace of our own in which it is down.

    Tests talk to servers on 127.0.0.1 and nowhere else, so they pass with the network cut off:
    `unshare -n make test`.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sh14x", b"lo", 0)
            (flags,) = struct.unpack_from("h", fcntl.ioctl(control, SIOCGIFFLAGS, request), 16)
            if not flags & IFF_UP:
                fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
    except OSError:
        pass  # not Linux, or not ours to start: the tests that need it fail and say so


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    """A model provider on this machine; its key is in TRIAL_KEY."""
    monkeypatch.setenv("TRIAL_KEY", "key-of-the-trial")
    with ProviderServer() as server:
        yield server


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("trial"))
    run(folder, "daybook", "build", COHORT)
    return folder


@pytest.fixture
def built_folder(_built_once: Path, tmp_path: Path) -> Path:
    """The folder of a new user in which the cohort `trial` was built: see trial_folder."""
    return shutil.copytree(_built_once, tmp_path, dirs_exist_ok=True)
