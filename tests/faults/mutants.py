"""Defects sown into a copy of the program, one at a time: each has to turn the tests red.

    python -m tests.faults.mutants              all of them; `make mutants`
    python -m tests.faults.mutants loser        those whose name holds a word

Each line says found, NOT FOUND, or that the code which the defect is in is not there (any more). The tests have to be
green without any defect first. Exits with 0 if every defect whose code is there was found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
COPIED = ["store", "pipeline", "tests", "config", "benchmarks", "luigi.cfg", "setup.cfg", "pyproject.toml"]

STORE = ("tests/store/test_durable.py", "tests/store/test_documents.py", "tests/store/test_calls.py")
SHARED = ("tests/store/test_flushing.py", "tests/store/test_durable.py")
CRASHES = ("tests/faults/test_crashes.py",)
REFUSALS = ("tests/faults/test_refusing_disks.py",)
POWER_CUTS = ("tests/faults/test_power_cuts.py",)
LEDGER = ("tests/faults/test_torn_attempts.py",)
DAMAGE = ("tests/faults/test_damage.py",)


class Mutant(NamedTuple):
    """A defect: in the file `path`, `before`, which is there once, becomes `after`. `tests` are to find it."""

    name: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    word: str
    is_good: bool
    seconds: float = 0.0


LIMIT_SECONDS = 600  # tests that hang are red too
FAILED = 1  # exit code of pytest when a test failed; others mean that none was run

FOUND, NOT_FOUND = "found", "NOT FOUND"
NOT_THERE = "its code is not there yet"
CHANGED = "its code is another now: mend it in tests/faults/mutants.py"

DURABLE, FLUSHING, DOCUMENTS, CALLS = "store/durable.py", "store/flushing.py", "store/documents.py", "store/calls.py"

MUTANTS = [
    # Each flush of a writer that is alone
    Mutant(
        "fsync of files dropped",
        FLUSHING,
        "descriptor: int) -> None:\n        os.fsync(descriptor)",
        "descriptor: int) -> None:\n        pass",
        POWER_CUTS,
    ),
    Mutant(
        "fsync of folders dropped",
        FLUSHING,
        "            try:\n                os.fsync(descriptor)",
        "            try:\n                pass",
        POWER_CUTS,
    ),
    Mutant(
        "fsync of the staged folders dropped",
        DURABLE,
        "        flush.finish(folders)\n        try:",
        "        flush.finish([])\n        try:",
        STORE,
    ),
    Mutant(
        "fsync of a batch's folders dropped",
        DURABLE,
        "flush.finish([folder for folders in",
        "([folder for folders in",
        STORE,
    ),
    Mutant(
        "fsync of what holds a batch dropped",
        DURABLE,
        "acknowledge(flush, [folder], ",
        "acknowledge(flush, [], ",
        STORE,
    ),
    Mutant("fsync of sub-folders dropped", DURABLE, "return folders[::-1]", "return folders[:1]", STORE),
    Mutant(
        "fsync of the folder that holds a document dropped",
        FLUSHING,
        "        self.finish(folders)\n        self.add_file(record())",
        "        self.add_file(record())",
        STORE,
    ),
    Mutant(
        "fsync of the folder that holds a new folder dropped",
        DURABLE,
        "    return [path.parent, *holders]",
        "    return []",
        STORE,
    ),
    Mutant(
        "fsync of a request's folders dropped",
        DURABLE,
        "        flush.finish([folder, *holders])",
        "        flush.finish([folder])",
        STORE,
    ),
    Mutant(
        "fsync of an answer's name dropped",
        DURABLE,
        "        file.finish(flush)\n        flush.finish([file.path.parent])",
        "        file.finish(flush)\n        flush.finish([])",
        STORE,
    ),
    Mutant(
        "fsync of the folder that holds an outcome dropped",
        DURABLE,
        "have died before\n            return False\n        flush.finish([path.parent])",
        "have died before\n            return False",
        POWER_CUTS,
    ),
    Mutant(
        "name of another writer's document relied on before it is flushed",
        DURABLE,
        "            flush.finish([final.parent])  # the other",
        "            pass  # the other",
        STORE,
    ),
    # The order
    Mutant(
        "rename before fsync",
        DURABLE,
        "        flush.finish(folders)\n        try:\n            rename_without_replacing(staged, final)",
        "        try:\n            rename_without_replacing(staged, final)",
        POWER_CUTS,
    ),
    Mutant(
        "metadata first",
        DOCUMENTS,
        "{**content, METADATA_FILE: record},  # last: a staged folder that has it is complete",
        "{METADATA_FILE: record, **content},",
        STORE,
    ),
    Mutant(
        "outcome before its answer is durable",
        CALLS,
        "        self.seal()\n        response",
        "        response",
        STORE,
    ),
    Mutant(
        "acknowledged before the shared flush",
        FLUSHING,
        "        if not leads:\n            waiter.turn.acquire()",
        "        if not leads:\n            return",
        SHARED,
    ),
    Mutant(
        "shared flush does nothing",
        FLUSHING,
        "                sync_filesystem(self._descriptor)",
        "                pass",
        POWER_CUTS,
    ),
    # Failures
    Mutant(
        "failed fsync tried again",
        FLUSHING,
        "descriptor: int) -> None:\n        os.fsync(descriptor)",
        "descriptor: int) -> None:\n        try:\n            os.fsync(descriptor)\n"
        "        except OSError:\n            os.fsync(descriptor)",
        REFUSALS,
    ),
    Mutant(
        "failure of a shared flush forgotten",
        FLUSHING,
        "            raise self._failure",
        "            failure, self._failure = self._failure, None\n            raise failure",
        SHARED + REFUSALS,
    ),
    Mutant(
        "interrupted leader leaves the others waiting",
        FLUSHING,
        "            raise\n        finally:\n            self._hand_on(served)",
        "            raise\n        self._hand_on(served)",
        SHARED,
    ),
    Mutant("short write taken for a whole one", DURABLE, "rest = rest[written:]", "rest = rest[len(rest) :]", STORE),
    Mutant("size on disk not looked at", DURABLE, "if found.st_size != self.size_bytes:", "if False:", STORE),
    Mutant(
        "broken disk not reported as such",
        DURABLE,
        "        return path.is_dir()\n    except OSError",
        "        return path.is_dir()\n    except KeyError",
        REFUSALS,
    ),
    # Races
    Mutant(
        "loser discarded",
        DOCUMENTS,
        "        move_folder(loser, self._superseded_folder / document.stage / loser.name)",
        "        import shutil; shutil.rmtree(loser)",
        STORE,
    ),
    Mutant(
        "rename replaces an empty folder",
        DURABLE,
        "os.fsencode(target), _RENAME_NOREPLACE)",
        "os.fsencode(target), 0)",
        STORE,
    ),
    Mutant("file written over", DURABLE, "os.O_CREAT | os.O_EXCL", "os.O_CREAT | os.O_TRUNC", STORE),
    # Looking
    Mutant("quick check skips sizes", DOCUMENTS, "        _check_sizes(document)\n", "", STORE),
    Mutant("reading skips hashes", DOCUMENTS, 'if hash_bytes(content) != record["blake3"]:', "if False:", STORE),
    Mutant(
        "deep check skips hashes",
        DOCUMENTS,
        "        if found != expected:\n            raise",
        "        if False:\n            raise",
        STORE,
    ),
    Mutant(
        "damaged document counts as missing",
        DOCUMENTS,
        '        raise DocumentInvalid(stage, doc_id, problem=f"{METADATA_FILE} is not JSON',
        "        raise DocumentMissing(stage, doc_id, folder=folder)\n"
        '        raise DocumentInvalid(stage, doc_id, problem=f"{METADATA_FILE} is not JSON',
        STORE,
    ),
    Mutant("torn request taken for an attempt", CALLS, " if attempt.was_begun()]", "]", LEDGER + CRASHES),
    Mutant(
        "answer not checked against its hash",
        CALLS,
        "if recorded is not None and recorded != hash_bytes(response):",
        "if False:",
        STORE,
    ),
    # What stands on the store
    Mutant(
        "pointer trusted blindly",
        "store/pointers.py",
        "    if pointer is None or not _is_true(documents, stage, pointer):\n",
        "    if pointer is None:\n",
        ("tests/store/test_pointers.py",),
    ),
    Mutant(
        "journal without checksum",
        "store/journal.py",
        "_read_payload(payload) if hash_bytes(payload) == head[2].decode() else None",
        "_read_payload(payload)",
        ("tests/store/test_journal.py",),
    ),
    Mutant(
        "gc without grace",
        "pipeline/garbage.py",
        "_find_overdue(data, now - grace, paid_answers=paid_answers)",
        "_find_overdue(data, now, paid_answers=paid_answers)",
        ("tests/pipeline/test_garbage.py",),
    ),
    Mutant(
        "repair that deletes",
        "store/data_root.py",
        "        move_folder(source, wrapper / source.name)\n",
        "        __import__('shutil').rmtree(source) if source.is_dir() else source.unlink()\n",
        ("tests/pipeline/test_repair.py",),
    ),
    Mutant(
        "repair that asks a model",
        "pipeline/repair.py",
        "make_document(_without_asking(self.workspace.maker),",
        "make_document(self.workspace.maker,",
        ("tests/pipeline/test_repair.py",),
    ),
    Mutant(
        "record of a document not flushed",
        FLUSHING,
        "        self.finish(folders)\n        self.add_file(record())",
        "        self.finish(folders)\n        record()",
        STORE,
    ),
    Mutant(
        "record of a document before its name is durable",
        FLUSHING,
        "        self.finish(folders)\n        self.add_file(record())",
        "        self.add_file(record())\n        self.finish(folders)",
        STORE,
    ),
    Mutant(
        "record after the shared flush",
        FLUSHING,
        "        record()\n        self.finish(folders)",
        "        self.finish(folders)\n        record()",
        STORE,
    ),
    Mutant(
        "removal not told",
        "store/trash.py",
        "        self._journal.append_all(Event.REMOVED,",
        "        (lambda *_: None)(Event.REMOVED,",
        ("tests/pipeline/test_verification_of_moves.py",),
    ),
    Mutant(
        "verify stops at the first error",
        "pipeline/comparison.py",
        "        self.found.documents += 1\n",
        "        if self.findings:\n            return\n        self.found.documents += 1\n",
        ("tests/pipeline/test_verification.py",),
    ),
]


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="daybook-mutants-") as folder:
        copy = Path(folder)
        copy_tree(copy)
        if not is_green_without_defects(copy, chosen):
            print("The tests are red without any defect: mend that first.")
            return 1
        outcomes = [show(mutant, try_mutant(copy, mutant)) for mutant in chosen]
    good = sum(outcome.word == FOUND for outcome in outcomes)
    print(f"{good} of {len(chosen)} defects found")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def copy_tree(copy: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)


def is_green_without_defects(copy: Path, mutants: list[Mutant]) -> bool:
    paths = {path for mutant in mutants if is_there(copy, mutant) for path in mutant.tests}
    return not paths or run_tests(copy, sorted(paths)) == 0


def is_there(copy: Path, mutant: Mutant) -> bool:
    return (copy / mutant.path).exists() and all((copy / path).exists() for path in mutant.tests)


def try_mutant(copy: Path, mutant: Mutant) -> Outcome:
    """Sow a defect, run the tests that are to find it, and take it out again."""
    if not is_there(copy, mutant):
        return Outcome(NOT_THERE, is_good=True)
    path = copy / mutant.path
    text = path.read_text()
    if text.count(mutant.before) != 1:
        return Outcome(CHANGED, is_good=False)
    started = time.monotonic()
    path.write_text(text.replace(mutant.before, mutant.after))
    try:
        code = run_tests(copy, mutant.tests)
    finally:
        path.write_text(text)
    is_found = code == FAILED
    return Outcome(FOUND if is_found else NOT_FOUND, is_found, time.monotonic() - started)


def run_tests(copy: Path, paths: list[str] | tuple[str, ...]) -> int:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            [*command, *paths], cwd=copy, env=environment, stdout=subprocess.DEVNULL, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED
    return run.returncode


def show(mutant: Mutant, outcome: Outcome) -> Outcome:
    seconds = f"{outcome.seconds:6.1f} s" if outcome.seconds else " " * 8
    print(f"{seconds}  {mutant.name}: {outcome.word}", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
