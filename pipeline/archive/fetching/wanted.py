"""What is to be fetched: files named in a list, or found in a folder of Google Drive."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputInvalid

COLUMNS = ("url", "name", "size_bytes", "digest")
DIGEST_FORM = re.compile(r"(?:blake3|sha256):[0-9a-f]{64}|md5:[0-9a-f]{32}")
LONGEST_LIST = 50_000_000  # bytes


class Wanted(NamedTuple):
    """A file to fetch. `digest` is `sha256:…`, `md5:…` or `blake3:…`; a size or digest that is given is checked."""

    url: str
    name: str | None = None
    size_bytes: int | None = None
    digest: str | None = None


def read_list(path: Path) -> list[Wanted]:
    """Read a list: an address a line, or CSV with a header of COLUMNS (`url` is needed, the others are not).

    Blank lines and lines that begin with `#` are passed over. Raises InputInvalid with the line.
    """
    try:
        if path.stat().st_size > LONGEST_LIST:
            raise InputInvalid(f"{path} is longer than {LONGEST_LIST:,} bytes. Expected a list of addresses.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputInvalid(f"The list {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputInvalid(f"The list {path} is no UTF-8 text (byte {error.start}). Expected addresses.") from error
    lines = list(_list_lines(text))
    if lines and "url" in lines[0][1].replace(" ", "").lower().split(","):
        return [_read_row(path, number, row) for number, row in _read_csv(path, lines)]
    return [Wanted(check_url(line, f"{path}, line {number}")) for number, line in lines]


def check_url(url: str, place: str) -> str:
    """Return an address that can be fetched. Raises InputInvalid."""
    if not re.match(r"https?://[^/\s]+", url, re.IGNORECASE) or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise InputInvalid(f"{place}: {url!r} is no address. Expected one such as https://example.org/export.zip")
    return url


def _list_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _read_csv(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[int, Mapping[str, str]]]:
    header = [name.strip().lower() for name in next(csv.reader([lines[0][1]]))]
    if unknown := sorted(set(header) - set(COLUMNS)):
        raise InputInvalid(f"{path}: unknown column {unknown[0]!r}. Expected {', '.join(COLUMNS)}.")
    for number, line in lines[1:]:
        cells = next(csv.reader(io.StringIO(line)))
        if len(cells) != len(header):
            raise InputInvalid(f"{path}, line {number}: {len(cells)} cells. Expected {len(header)}, as in the header.")
        yield number, dict(zip(header, (cell.strip() for cell in cells), strict=True))


def _read_row(path: Path, number: int, row: Mapping[str, str]) -> Wanted:
    place = f"{path}, line {number}"
    size, digest = row.get("size_bytes") or None, (row.get("digest") or "").lower() or None
    if size is not None and not (size.isascii() and size.isdigit()):
        raise InputInvalid(f"{place}: size_bytes is {size!r}. Expected a whole number of bytes.")
    if digest is not None and not DIGEST_FORM.fullmatch(digest):
        raise InputInvalid(f"{place}: digest is {digest!r}. Expected sha256:, md5: or blake3: and hex digits.")
    return Wanted(check_url(row["url"], place), row.get("name") or None, int(size) if size else None, digest)
