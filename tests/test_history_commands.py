"""Export, import, backfill, rm, undo and gc as a person types them, and as the documentation has them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.pipeline.test_backfill import GENERATIONS, write_files
from tests.programs import run, run_json
from tests.test_command_line import folder, list_documents
from tests.test_documentation import documented_fields
from tests.trial_folder import COHORT

__all__ = ["folder"]


def pick(folder: Path, stage: str) -> str:
    return min(path.name for path in folder.glob(f"data/docs/{stage}/*"))


def test_a_cohort_goes_into_another_data_folder_and_is_complete_there(built_folder):
    exported = run_json(built_folder, "export", COHORT, "-o", "b.tar.zst")
    told = run(built_folder, "daybook", "import-bundle", "b.tar.zst", "--dry-run", "--data-root", "other")
    imported = run_json(built_folder, "import-bundle", "b.tar.zst", "--data-root", "other")
    (status,) = run_json(built_folder, "status", COHORT, "--data-root", "other")["cohorts"]
    built = run_json(built_folder, "build", COHORT, "--data-root", "other")

    assert "Would be brought in:\n  texts:" in told.stdout
    assert imported["bundle"] == exported["bundle"]
    assert exported["documents"] == {"draft": 6, "essay": 12, "evaluation": 24, "report": 1}
    assert status["complete"]
    assert (built["made"], built["calls"]) == ({}, 0)
    assert set(exported) == documented_fields("export")
    assert set(imported) == documented_fields("import-bundle")


def test_a_bundle_with_a_flipped_byte_is_refused_in_one_sentence(built_folder):
    run(built_folder, "daybook", "export", COHORT, "-o", "b.tar")
    path = built_folder / "b.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)

    refused = run(built_folder, "daybook", "import-bundle", "b.tar", "--data-root", "other", code=1)

    assert re.fullmatch(
        r"b\.tar is no usable bundle: .*\. Nothing of it was brought in; get it anew\.\n", refused.stderr
    )
    assert not (built_folder / "other").exists()


def test_what_is_removed_comes_back_and_the_next_build_has_nothing_to_do(built_folder):
    before = list_documents(built_folder)

    refused = run(built_folder, "daybook", "rm", pick(built_folder, "draft"), code=1)
    removed = run_json(built_folder, "rm", pick(built_folder, "draft"), "--cascade")
    listed = run_json(built_folder, "undo", "--list")
    restored = run_json(built_folder, "undo")
    built = run_json(built_folder, "build", COHORT)

    assert "--cascade" in refused.stderr
    assert [entry["entry"] for entry in listed] == [removed["entry"]]
    assert list_documents(built_folder) == before
    assert built["made"] == {}
    assert run(built_folder, "daybook", "undo", "--list").stdout == "The trash is empty.\n"
    assert set(removed) == documented_fields("rm")
    assert set(restored) == documented_fields("undo")


def test_garbage_is_shown_and_nothing_moves_without_apply(built_folder):
    for table in built_folder.glob(f"data/tasks/{COHORT}/*"):
        table.unlink()
    before = list_documents(built_folder)

    shown = run(built_folder, "daybook", "gc", "--older-than", "0")
    unchanged = list_documents(built_folder)
    applied = run_json(built_folder, "gc", "--older-than", "0", "--apply")

    assert "43 documents, " in shown.stdout
    assert "42 calls, " in shown.stdout
    assert "$0.00" in shown.stdout
    assert "Nothing was changed. The same command with --apply does it." in shown.stdout
    assert unchanged == before
    assert list_documents(built_folder) == set()
    assert set(applied) == documented_fields("gc")
    assert "Expected a whole number" in run(built_folder, "daybook", "gc", "--grace", "soon", code=2).stderr


def test_an_old_store_is_brought_in_and_shown(folder):
    write_files(folder / "old", GENERATIONS)

    told = run(folder, "daybook", "backfill", "old", "--dry-run")
    brought = run_json(folder, "backfill", "old", "--run-id", "backfill-1")
    again = run_json(folder, "backfill", "old", "--stage", "essay")
    shown = run_json(folder, "show", pick(folder, "essay"))
    lineage = run_json(folder, "lineage", pick(folder, "essay"))

    assert "draft: would be brought in 1 document" in told.stdout
    assert brought["stages"]["essay"]["placed"] == again["stages"]["essay"]["present"] == 1
    assert re.fullmatch(r"backfill-\d{8}", again["run_id"])
    assert shown["texts"]["raw.txt"] == "raw essay"
    assert lineage["parents"][0]["state"] == "ok"
    assert set(brought) == documented_fields("backfill")
    run(folder, "daybook", "status")
    run(folder, "daybook", "usage")
