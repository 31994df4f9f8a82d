"""What chain3 needs to know of another tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WORKFLOWS = Path(__file__).parent / "workflows"
OUTPUTS = "out/*/*"


class PeerMissing(Exception):
    """A peer cannot be had on this machine, and is left out."""


@dataclass(frozen=True)
class Peer:
    """A tool, the version that is measured, and how it is called.

    `arguments` follow the program of the tool's environment, or of the machine if it has no `requirement`.
    `outputs` are the files that tell what was made; the tool's own, if it keeps results itself.
    """

    name: str
    requirement: str
    files: tuple[str, ...]  # of workflows/
    program: str
    arguments: tuple[str, ...] = ()
    outputs: str = OUTPUTS
    only_smallest: bool = False  # too slow for more
    changed_steps: int = 3
    seconds_a_step: float = 0.002  # for the estimate, measured on two cores

    def install(self, cache: Path) -> Path:
        """Return the folder of the tool's program, installing it the first time. Raises PeerMissing."""
        if not self.requirement:
            return self._find_program()
        environment = cache / self.requirement.replace("==", "-")
        ready = environment / ".ready"
        if not ready.exists():
            print(f"Installing {self.requirement} into {environment} (once) ...", file=sys.stderr, flush=True)
            try:
                self._install(environment)
            except subprocess.CalledProcessError as error:
                last = (error.stderr or b"").decode(errors="replace").strip().rpartition("\n")[2]
                raise PeerMissing(f"{self.name}: {self.requirement} could not be installed: {last}") from error
            ready.touch()
        return environment / "bin"

    def _find_program(self) -> Path:
        found = shutil.which(self.program)
        if found is None:
            raise PeerMissing(f"{self.name}: not on this machine.")
        return Path(found).parent

    def _install(self, environment: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True, capture_output=True)
        pip: list[str | Path] = [
            environment / "bin" / "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            self.requirement,
        ]
        subprocess.run(pip, check=True, capture_output=True)

    def command(self, environment: Path) -> list[str]:
        return [str(environment / self.program), *self.arguments]

    def prepare(self, folder: Path, texts: Sequence[str]) -> None:
        """Write the inputs and the workflow into a new folder."""
        (folder / "input").mkdir(parents=True)
        for step in ("one", "two", "three"):
            (folder / "out" / step).mkdir(parents=True)
        for number, text in enumerate(texts):
            self.change_input(folder, number, text)
        for name in self.files:
            shutil.copy(WORKFLOWS / name, folder / name)

    def change_input(self, folder: Path, number: int, text: str) -> None:
        (folder / "input" / f"item{number:06d}").write_text(text)

    def mark(self, folder: Path) -> int:
        """Return the time, by the filesystem's clock, after which everything counts as made by the next run."""
        mark = folder / "mark"
        mark.write_bytes(b"")
        os.utime(mark)
        return mark.stat().st_mtime_ns

    def count_made_since(self, folder: Path, time_ns: int) -> int:
        return sum(path.stat().st_mtime_ns > time_ns for path in folder.glob(self.outputs))
