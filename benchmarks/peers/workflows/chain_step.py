"""The one step of all chains, for the tools whose steps are Python: as the shell pipeline of the others."""

import hashlib
import itertools

STEPS = ("one", "two", "three")
TEXT_BYTES = 2048


def make_next(text: bytes) -> bytes:
    return (hashlib.blake2b(text).hexdigest().encode() + b"\n" + text)[:TEXT_BYTES]


def make_file(source: str, target: str) -> None:
    with open(source, "rb") as file:
        text = file.read()
    with open(target, "wb") as file:
        file.write(make_next(text))


def list_steps(item: str) -> list[tuple[str, str]]:
    """Return (source, target) of the three steps of an item."""
    paths = [f"input/{item}", *(f"out/{step}/{item}" for step in STEPS)]
    return list(itertools.pairwise(paths))
