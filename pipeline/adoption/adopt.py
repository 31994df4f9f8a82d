"""Adopt a workspace: read it, decide every file, refuse or write, and say what did not fit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.adoption.config_files import decide_files
from pipeline.adoption.counts import count_workspace, describe_counts
from pipeline.adoption.first_cohort import plan_first_cohort
from pipeline.adoption.notes import Note, describe_notes, note_workspace
from pipeline.adoption.reading import find_raw_folder, read_workspace
from pipeline.errors import InputInvalid


@dataclass(frozen=True)
class Adoption:
    """What was adopted, what was written, and what did not fit."""

    source: Path
    config_root: Path
    written: list[str]  # relative to config_root
    unchanged: list[str]  # already there with the same content
    counts: dict[str, object]
    notes: list[Note]

    def as_json(self) -> dict[str, object]:
        """Return the report as plain JSON."""
        return {
            "source": str(self.source),
            "config_root": str(self.config_root),
            "written": list(self.written),
            "unchanged": list(self.unchanged),
            "counts": json.loads(json.dumps(self.counts)),
            "notes": [
                {
                    "kind": note.kind,
                    "stage": note.place.stage,
                    "id": note.place.name,
                    "file": note.place.file,
                    "message": note.message,
                }
                for note in self.notes
            ],
        }

    def lines(self) -> list[str]:
        """Return the report for people: what was written, the totals, then the notes, counted by kind."""
        return [self._describe_files(), "", *describe_counts(self.counts), *describe_notes(self.notes)]

    def _describe_files(self) -> str:
        if not self.written:
            return f"Nothing to do: all {len(self.unchanged)} files in {self.config_root} are unchanged."
        return (
            f"Adopted {self.source} into {self.config_root}: "
            f"{len(self.written)} files written, {len(self.unchanged)} unchanged."
        )


def adopt_workspace(source: Path, config_root: Path) -> Adoption:
    """Turn a workspace into a config folder and return what was written and what did not fit.

    `source` is the folder that holds 1_raw/, or 1_raw itself. Adopting the same again writes nothing.
    Raises InputInvalid, with nothing written, if the workspace has mistakes (all are listed, with file and
    line) or if a file to be written exists with other content (all are named).
    """
    raw_folder = find_raw_folder(source)
    _refuse_config_in_workspace(raw_folder, config_root)
    workspace = read_workspace(raw_folder)
    cohort = plan_first_cohort(workspace)
    contents = decide_files(workspace, cohort)
    new_paths = _find_new_files(contents, config_root)
    for path in new_paths:
        _write_file(config_root / path, contents[path])
    return Adoption(
        source=source,
        config_root=config_root,
        written=new_paths,
        unchanged=sorted(set(contents) - set(new_paths)),
        counts=count_workspace(workspace),
        notes=note_workspace(workspace, cohort),
    )


def _refuse_config_in_workspace(raw_folder: Path, config_root: Path) -> None:
    if config_root.resolve().is_relative_to(raw_folder.resolve()):
        raise InputInvalid(
            f"{config_root} lies in the workspace {raw_folder}, which is never changed. Give a folder outside it."
        )


def _find_new_files(contents: Mapping[str, bytes], config_root: Path) -> list[str]:
    """Return the paths that are not there yet. Raises InputInvalid if one is there with other content."""
    missing, differing = [], []
    for path in sorted(contents):
        blocker = _find_blocker(config_root / path)
        if blocker is None:
            missing.append(path)
        elif blocker != config_root / path or not blocker.is_file() or blocker.read_bytes() != contents[path]:
            differing.append(str(blocker))
    if differing:
        names = "\n".join(f"  {name}" for name in dict.fromkeys(differing))
        raise InputInvalid(
            f"{config_root} already holds other content under names that adopting would write; "
            f"nothing was written:\n{names}\nMove these away, or give an empty folder."
        )
    return missing


def _find_blocker(path: Path) -> Path | None:
    """Return the path itself where something is there, or the nearest thing above it that is not a folder."""
    if os.path.lexists(path):
        return path
    nearest = next(folder for folder in path.parents if os.path.lexists(folder))
    return None if nearest.is_dir() else nearest


def _write_file(path: Path, content: bytes) -> None:
    """Write beside, then rename: a half-written file would look like somebody's edit the next time."""
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path.write_bytes(content)
        partial_path.replace(path)
    except OSError as error:
        raise InputInvalid(
            f"{path} could not be written ({error.strerror}). What was written before it is kept; "
            "mend the folder and adopt again."
        ) from error
