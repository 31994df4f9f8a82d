"""Where the data and the config lie.

A folder is taken from the first of these that names one:

    1. the command line              --data-root, --config-root
    2. the environment               DAYBOOK_DATA_ROOT, DAYBOOK_CONFIG_ROOT
    3. luigi.cfg, section [daybook]  data_root, config_root      (./luigi.cfg, or what LUIGI_CONFIG_PATH names)
    4. ./data and ./config

None of them is part of an id. What is to stay free on the disk comes from the environment, then
from section [store] of luigi.cfg: DAYBOOK_RESERVE_MB and reserve_mb, DAYBOOK_RESERVE_INODES and reserve_inodes.
"""

from __future__ import annotations

import os
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import InputInvalid
from store.preflight import Reserve

SECTION, STORE_SECTION = "daybook", "store"
HIGHEST_CONCURRENCY = 4096  # documents at work at the same time; each takes a thread
DEFAULT_FOLDERS = {"data_root": "data", "config_root": "config"}
DEFAULT_RESERVE = {"reserve_mb": "100", "reserve_inodes": "2000"}  # megabytes of 10**6; a document takes 11 inodes


class Roots(NamedTuple):
    """The two folders that everything happens in."""

    data: Path
    config: Path


def find_roots(data_root: str | None = None, config_root: str | None = None) -> Roots:
    """Return the folders; an argument is what the command line named."""
    return Roots(_find_folder("data_root", data_root), _find_folder("config_root", config_root))


def _find_folder(key: str, named: str | None) -> Path:
    return Path(named or os.environ.get(f"DAYBOOK_{key.upper()}") or _read_luigi_cfg(key) or DEFAULT_FOLDERS[key])


def find_reserve() -> Reserve:
    """Return what is to stay free on the store's filesystem. Raises InputInvalid."""
    return Reserve(_find_count("reserve_mb") * 1_000_000, _find_count("reserve_inodes"))


def _find_count(key: str) -> int:
    text = os.environ.get(f"DAYBOOK_{key.upper()}") or _read_luigi_cfg(key, STORE_SECTION) or DEFAULT_RESERVE[key]
    if not text.isdecimal():
        raise InputInvalid(
            f"{key} is {text!r}. Expected a whole number, 0 for none, in luigi.cfg, section [{STORE_SECTION}]."
        )
    return int(text)


def _read_luigi_cfg(key: str, section: str = SECTION) -> str | None:
    path = Path(os.environ.get("LUIGI_CONFIG_PATH", "luigi.cfg"))
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except ConfigParserError as error:
        raise InputInvalid(f"{path} cannot be read: {error}") from error
    return parser.get(section, key, fallback=None)
