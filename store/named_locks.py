"""Locks by name, for the threads of one process: what has the same name happens one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _Shared:
    """A lock, and how many threads hold or await it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0


class NamedLocks:
    """As many locks as there are names in use; one that nobody uses takes no memory."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._shared: dict[str, _Shared] = {}

    def __len__(self) -> int:
        return len(self._shared)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait until no other thread holds `name`, and hold it until the block ends."""
        with self._guard:
            shared = self._shared.setdefault(name, _Shared())
            shared.users += 1
        try:
            with shared.lock:
                yield
        finally:
            with self._guard:
                shared.users -= 1
                if not shared.users:
                    del self._shared[name]
