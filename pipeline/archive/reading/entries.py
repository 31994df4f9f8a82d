"""Entries: the files of a source before they are in the store, each with a name that is safe to show and compare."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from pipeline.errors import PipelineError

UNNAMED = "unnamed"  # for a name of which nothing is left

_DRIVE = re.compile(r"\A[A-Za-z]:")
# Control characters, line and paragraph separators, what turns the direction of writing, lone surrogates.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SYSTEM_NAMES = {"__macosx", ".ds_store", "thumbs.db", "desktop.ini", ".spotlight-v100", ".trashes", "$recycle.bin"}
_TOOL_FOLDERS = {".git", ".hg", ".svn", ".venv", "node_modules", "__pycache__"}


class Entry(NamedTuple):
    """A file of a source. `name` is data and never a path to open; `raw_name` is there where the source has another."""

    name: str
    raw_name: str | None
    size_bytes: int | None  # as the source says: it may be wrong
    open: Callable[[], BinaryIO]
    within: Entry | None = None  # the ZIP that has it, if that is not to be kept itself


DAMAGED_FILE = "damaged"


class FileRefused(PipelineError):
    """A file of a source was not read, or not to its end. `reason` is a word of the coverage report."""

    def __init__(self, place: str, *, reason: str, detail: str) -> None:
        self.place, self.reason, self.detail = place, reason, detail
        super().__init__(f"{place} was not imported ({reason}): {detail}.")


def clean_name(raw: str) -> str:
    r"""Return a name with `/` only, without `..`, drive or leading `/`, and with U+FFFD for what must not be shown.

    >>> clean_name("C:\\exports\\..\\chat\n.json")
    'exports/chat\ufffd.json'
    """
    parts = _DRIVE.sub("", raw.replace("\\", "/")).split("/")
    return _UNSHOWABLE.sub("\ufffd", "/".join(part for part in parts if part not in ("", ".", ".."))) or UNNAMED


def show_name(raw: str) -> str:
    r"""Return a name as it was, with escapes for what must not be shown: "a\x00b"."""
    return _UNSHOWABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), raw)


def is_system_file(name: str) -> bool:
    """Whether an operating system put the file there, beside those that a person meant."""
    parts = name.lower().split("/")
    return parts[-1].startswith("._") or any(part in _SYSTEM_NAMES for part in parts)


def is_tool_folder(name: str) -> bool:
    """Whether a folder of that name is a tool's own: the history of a repository, installed packages."""
    return name in _TOOL_FOLDERS


def find_common_folder(names: list[str]) -> str:
    """Return the folder, with its `/`, that all names begin with; "" if there is none."""
    folders = [name.split("/")[:-1] for name in names] or [[]]
    first, last = min(folders), max(folders)  # what these two share, all between them share
    common = [part for part, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))]
    return "".join(part + "/" for part in common)
