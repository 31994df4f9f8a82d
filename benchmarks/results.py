"""What a benchmark gives: rows of measurements, and the aims that they are held to. Plain JSON both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How much to measure. `sizes` is empty for a benchmark's own; `peers` names those that chain3 also runs."""

    work_folder: Path
    sizes: Sequence[int] = ()
    repeat: int = 3
    is_quick: bool = False
    peers: Sequence[str] = ()
    limit_seconds: float = 300.0  # wall, for one run of one peer


@dataclass
class Result:
    """Rows have the same keys; a key ends in its unit: _seconds, _bytes. `notes` say what a reader must know."""

    rows: list[Row] = field(default_factory=list)
    aims: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def hold(self, aim: str, *, measured: float, limit: float, at_least: bool = False) -> None:
        """Record whether an aim is met: `measured` at most `limit`, or at least."""
        met = measured >= limit if at_least else measured <= limit
        sign = ">=" if at_least else "<="
        verdict = "yes" if met else "NO"
        self.aims.append({"aim": aim, "measured": round(measured, 3), "limit": f"{sign} {limit:g}", "met": verdict})

    def as_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "aims": self.aims, "notes": self.notes}
