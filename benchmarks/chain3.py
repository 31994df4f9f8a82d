"""chain3: N items, three dependent steps each, 2 KB a step, no model: cold, again, and with one input changed.

floor       benchmarks.floor: a plain loop of the same durable writes. For a run with nothing to do: the start of
            the interpreter and one scan of the three stages' folders
peers       the same work as each tool does it; see benchmarks/peers
checked     cold makes 3 N, again makes none, one changed input makes three: otherwise nothing is reported
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cohort_folder import COHORT, STAGES, make_text, write_chain_config
from benchmarks.measure import CommandFailed, Measurement, measure_command, median_of, repeat_measuring
from benchmarks.peers import PEERS, Peer, PeerMissing
from benchmarks.results import Result, Row, Settings

SIZES, QUICK_SIZES = (1_000, 3_000, 10_000, 30_000), (100, 300)
DAYBOOK, FLOOR = "Daybook", "durable floor"
COLD, AGAIN, CHANGED = "cold", "again", "one changed"
NOTES = (
    "Daybook and its floor flush every document to disk. Of the peers only redun does, in its database.",
    "Luigi as it comes asks only whether an output exists: a changed input makes nothing.",
    "From 10,000 items on, a cold run is measured once.",
)
SCAN_CODE = (
    "import os, sys\n"
    "stages = ('draft', 'essay', 'evaluation')\n"
    "print(sum(len([entry.name for entry in os.scandir(f'{sys.argv[1]}/docs/{stage}')]) for stage in stages))"
)

# The aims.
COLD_CPU_RATIO, COLD_WALL_RATIO = 2.0, 1.5  # of the durable floor
TENFOLD_RATIO = 11.0
AGAIN_SECONDS, AGAIN_RATIO, AGAIN_ITEMS = 1.0, 3.0, 10_000
CHANGED_SECONDS = 0.5  # above a run with nothing to do

ONE_COLD_RUN_ITEMS = 10_000  # from here on a cold run, which takes many minutes, is measured once
SECONDS_A_DOCUMENT = 0.025  # Daybook's and the floor's together, for the estimate; measured on two cores, ext4


class WorkNotDone(Exception):
    """A run did not make what it should have: its time says nothing."""


def estimate_seconds(settings: Settings) -> float:
    """Return about how long `run` takes."""
    return sum(_estimate_size(items, settings) for items in _sizes_of(settings))


def _estimate_size(items: int, settings: Settings) -> float:
    peers = [PEERS[name] for name in settings.peers]
    if items > _sizes_of(settings)[0]:
        peers = [peer for peer in peers if not peer.only_smallest]
    one_run = 3 * items * SECONDS_A_DOCUMENT
    one_run += sum(min(3 * items * peer.seconds_a_step, settings.limit_seconds) for peer in peers)
    return one_run * _cold_runs(items, settings.repeat)


def run(settings: Settings) -> Result:
    result = Result()
    for items in _sizes_of(settings):
        folder = settings.work_folder / f"chain3-{items}"
        _clear(folder)
        result.rows += _measure_floor(folder, items, settings.repeat)
        result.rows += _measure_daybook(folder, items, settings.repeat)
        _clear(folder)
    for name in settings.peers:
        result.rows += _measure_peer(PEERS[name], settings, result.notes)
    _hold_aims(result)
    result.notes += NOTES
    return result


def _cold_runs(items: int, repeat: int) -> int:
    return 1 if items >= ONE_COLD_RUN_ITEMS else repeat


def _sizes_of(settings: Settings) -> Sequence[int]:
    return settings.sizes or (QUICK_SIZES if settings.is_quick else SIZES)


# Daybook and its floor


def _measure_floor(folder: Path, items: int, repeat: int) -> list[Row]:
    sample = write_chain_config(folder / "sample", 1)
    measure_command(sample.command("build", COHORT))
    place = write_chain_config(folder / "floor", items)

    def make_cold(_number: int) -> Measurement:
        _clear(place.data)
        arguments = [str(place.config), str(sample.data), str(place.data)]
        return measure_command([sys.executable, "-m", "benchmarks.floor", *arguments])

    def scan(_number: int) -> Measurement:
        return measure_command([sys.executable, "-c", SCAN_CODE, str(place.data)])

    cold = median_of(repeat_measuring(_cold_runs(items, repeat), make_cold))
    again = median_of(repeat_measuring(repeat, scan))
    _expect(f"{FLOOR}, scan", int(again.output), 3 * items + len(STAGES))  # each stage's folder holds its pointers, too
    _clear(folder / "floor")
    return [_row(FLOOR, items, COLD, cold, steps=3 * items), _row(FLOOR, items, AGAIN, again, steps=0)]


def _measure_daybook(folder: Path, items: int, repeat: int) -> list[Row]:
    place = write_chain_config(folder / "daybook", items)

    def build(steps: int) -> Measurement:
        measured = measure_command(place.command("build", COHORT))
        _expect(f"{DAYBOOK} with {items} items", place.read_made(measured.output), _made_of(steps))
        return measured

    def build_cold(_number: int) -> Measurement:
        _clear(place.data)
        return build(items)

    def build_changed(number: int) -> Measurement:
        place.concept_path(number % items).write_text(make_text(number, edition=2 + number))
        return build(1)

    return [
        _row(DAYBOOK, items, COLD, median_of(repeat_measuring(_cold_runs(items, repeat), build_cold)), steps=3 * items),
        _row(DAYBOOK, items, AGAIN, median_of(repeat_measuring(repeat, lambda _number: build(0))), steps=0),
        _row(DAYBOOK, items, CHANGED, median_of(repeat_measuring(repeat, build_changed)), steps=3),
    ]


def _made_of(chains: int) -> dict[str, int]:
    return dict.fromkeys(STAGES, chains) if chains else {}


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise WorkNotDone(f"{what} made {found}. Expected {expected}.")


# Peers


def _measure_peer(peer: Peer, settings: Settings, notes: list[str]) -> list[Row]:
    """Measure a peer at each size until it takes longer than the limit."""
    rows: list[Row] = []
    try:
        environment = peer.install(settings.work_folder.parent / "peers")
    except PeerMissing as error:
        notes.append(str(error))
        return []
    for items in _sizes_of(settings):
        if rows and (peer.only_smallest or rows[-1]["wall_seconds"] is None):
            notes.append(f"{peer.name}: not run with {items:,} items.")
            break
        folder = settings.work_folder / f"peer-{peer.name}-{items}"
        try:
            rows += _PeerRuns(peer, environment, folder, items, settings).measure()
        except (CommandFailed, WorkNotDone) as error:  # a peer's failure is no reason to lose the other results
            notes.append(f"{peer.name}: {error}")
            break
        _clear(folder)
    return rows


class _PeerRuns:
    """A peer's runs with one number of items. Its runs with nothing and with one thing to do need a whole cold run."""

    def __init__(self, peer: Peer, environment: Path, folder: Path, items: int, settings: Settings) -> None:
        self.peer, self.environment, self.folder, self.items = peer, environment, folder, items
        self.repeat, self.limit_seconds = settings.repeat, settings.limit_seconds

    def measure(self) -> list[Row]:
        cold = median_of(repeat_measuring(_cold_runs(self.items, self.repeat), self.run_cold))
        if cold.is_stopped:
            return [_row(self.peer.name, self.items, COLD, cold, steps=None)]
        again = median_of(repeat_measuring(self.repeat, self.run_again))
        changed = median_of(repeat_measuring(self.repeat, self.run_changed))
        return [
            _row(self.peer.name, self.items, COLD, cold, steps=3 * self.items),
            _row(self.peer.name, self.items, AGAIN, again, steps=0),
            _row(self.peer.name, self.items, CHANGED, changed, steps=self.peer.changed_steps),
        ]

    def run_cold(self, _number: int) -> Measurement:
        _clear(self.folder)
        self.peer.prepare(self.folder, [make_text(number) for number in range(self.items)])
        return self._run(3 * self.items)

    def run_again(self, _number: int) -> Measurement:
        return self._run(0)

    def run_changed(self, number: int) -> Measurement:
        self.peer.change_input(self.folder, number % self.items, make_text(number, edition=2 + number))
        return self._run(self.peer.changed_steps)

    def _run(self, steps: int) -> Measurement:
        newest = self.peer.mark(self.folder)
        command = self.peer.command(self.environment)
        measured = measure_command(command, folder=self.folder, limit_seconds=self.limit_seconds)
        if not measured.is_stopped:
            made = self.peer.count_made_since(self.folder, newest)
            _expect(f"{self.peer.name} with {self.items} items", made, steps)
        return measured


# Rows and aims


def _row(tool: str, items: int, run: str, measured: Measurement, *, steps: int | None) -> Row:
    stopped = measured.is_stopped
    return {
        "tool": tool,
        "items": items,
        "run": run,
        "steps": steps,
        "wall_seconds": None if stopped else round(measured.wall_seconds, 4),
        "cpu_seconds": None if stopped else round(measured.cpu_seconds, 4),
        "peak_bytes": None if stopped else measured.peak_bytes,
        "remark": f"stopped at its limit of {measured.wall_seconds:.0f} s" if stopped else "",
    }


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _hold_aims(result: Result) -> None:
    found = {(row["tool"], row["items"], row["run"]): row for row in result.rows}
    sizes = sorted({items for tool, items, _ in found if tool == DAYBOOK})
    for items in sizes:
        _hold_against_floor(
            result, items, {(tool, run): row for (tool, size, run), row in found.items() if size == items}
        )
    for items in sizes:
        if items * 10 in sizes:
            for measure in ("cpu_seconds", "wall_seconds"):
                ratio = found[DAYBOOK, items * 10, COLD][measure] / found[DAYBOOK, items, COLD][measure]
                name = f"cold, {items * 10:,} items / {items:,} items, {measure.removesuffix('_seconds')}"
                result.hold(name, measured=ratio, limit=TENFOLD_RATIO)


def _hold_against_floor(result: Result, items: int, rows: dict[tuple[str, str], Row]) -> None:
    cold, cold_floor, again = rows[DAYBOOK, COLD], rows[FLOOR, COLD], rows[DAYBOOK, AGAIN]
    at = f"{items:,} items"
    for measure, limit in (("cpu", COLD_CPU_RATIO), ("wall", COLD_WALL_RATIO)):
        ratio = cold[f"{measure}_seconds"] / cold_floor[f"{measure}_seconds"]
        result.hold(f"cold, {at}, {measure} / floor", measured=ratio, limit=limit)
    ratio = again["wall_seconds"] / rows[FLOOR, AGAIN]["wall_seconds"]
    result.hold(f"again, {at}, wall / (interpreter + scan)", measured=ratio, limit=AGAIN_RATIO)
    if items == AGAIN_ITEMS:
        result.hold(f"again, {at}, wall seconds", measured=again["wall_seconds"], limit=AGAIN_SECONDS)
    more = rows[DAYBOOK, CHANGED]["wall_seconds"] - again["wall_seconds"]
    result.hold(f"one changed, {at}, wall seconds above again", measured=more, limit=CHANGED_SECONDS)
