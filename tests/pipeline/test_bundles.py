"""A bundle brings documents into another store as they were; what meets other content is kept beside it."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.bundles import export_bundle, import_bundle
from pipeline.errors import InputInvalid, UnknownName
from pipeline.looking import describe_status
from pipeline.settings import Roots
from pipeline.workspace import Workspace
from store.calls import IMPORTED_FILE
from store.data_root import DataRoot
from store.identity import digest_of, id_from_digest
from tests.pipeline.built_store import COHORT, build, copy_store, make_roots, read_tree
from tests.store.killed import is_killed_at

IMPORTED_FOLDERS = ("calls", "docs", "tasks", "texts")


@pytest.fixture(scope="module")
def bundle(built, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "first.tar.zst"
    export_bundle(built, [COHORT], path)
    return path


def store_of(data_folder: Path) -> dict[str, bytes]:
    """Return what a bundle is to bring along."""
    return {name: content for folder in IMPORTED_FOLDERS for name, content in read_tree(data_folder / folder).items()}


def placed(result: dict[str, dict[str, dict[str, int]]]) -> int:
    return sum(count["placed"] + count["kept_beside"] for count in result["counts"].values())


# Export


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.zst"])
def test_the_same_store_gives_the_same_bytes_and_an_empty_store_gets_all_of_it(suffix, built, tmp_path):
    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    results = [export_bundle(built, [COHORT], path) for path in paths]

    imported = import_bundle(DataRoot(tmp_path / "data"), paths[0])

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert results[0]["bundle"] == imported["bundle"]
    assert results[0]["file_bytes"] == paths[0].stat().st_size
    assert store_of(tmp_path / "data") == store_of(built.data)


def test_any_tar_program_can_unpack_it(built, tmp_path):
    export_bundle(built, [COHORT], tmp_path / "b.tar.gz")

    subprocess.run(["tar", "xf", "b.tar.gz"], cwd=tmp_path, check=True)

    lines = [json.loads(line) for line in (tmp_path / "MANIFEST.jsonl").read_text().splitlines()]
    assert lines[0]["names"] == [COHORT]
    assert read_tree(tmp_path / "docs") == read_tree(built.data / "docs")
    assert read_tree(tmp_path / "config") == read_tree(built.config)


def test_a_document_is_exported_with_its_lineage_its_answers_and_its_texts_and_no_configuration(built, tmp_path):
    data = DataRoot(built.data)
    essay = next(
        doc_id
        for doc_id in data.documents.list_ids("essay")
        if data.documents.read("essay", doc_id).metadata["call_id"]
    )
    metadata = data.documents.read("essay", essay).metadata

    result = export_bundle(built, [f"essay/{essay[:8]}"], tmp_path / "one.tar.zst")
    import_bundle(DataRoot(tmp_path / "data"), tmp_path / "one.tar.zst")

    assert result["documents"] == {"draft": 1, "essay": 1}
    assert result["calls"] == 2
    assert (
        tmp_path / "data" / "calls" / metadata["call_id"][:2] / metadata["call_id"] / "0001" / "response.bin"
    ).exists()
    assert (tmp_path / "data" / "texts").is_dir()
    assert not (tmp_path / "data" / "bundles").exists()


def test_what_is_missing_and_what_is_damaged_is_named_and_the_rest_exported(built, tmp_path):
    roots = copy_store(built, tmp_path)
    data = DataRoot(roots.data)
    gone, damaged = data.documents.list_ids("evaluation")[:2]
    shutil.rmtree(data.documents.folder_of("evaluation", gone))
    (data.documents.folder_of("evaluation", damaged) / "raw.txt").chmod(0o644)
    raw = data.documents.folder_of("evaluation", damaged) / "raw.txt"
    raw.write_bytes(raw.read_bytes()[::-1])

    result = export_bundle(roots, [COHORT], tmp_path / "b.tar.zst")

    assert f"evaluation/{gone}" in result["missing"]
    assert any(damaged in problem and "raw.txt" in problem for problem in result["damaged"])
    assert result["documents"]["evaluation"] == len(data.documents.list_ids("evaluation")) - 1


def test_answers_of_documents_that_could_not_be_made_are_exported_too(tmp_path):
    """No answer to an evaluation has a score."""
    roots = make_roots(tmp_path, {"templates/evaluation/clarity.txt": "No score: {{ response }}"})
    workspace = Workspace(roots)
    workspace.write_tables(COHORT)
    with pytest.raises(Exception, match="parse_error"):
        build(roots)

    export_bundle(roots, [COHORT], tmp_path / "b.tar.zst")
    import_bundle(DataRoot(tmp_path / "other"), tmp_path / "b.tar.zst")

    assert read_tree(tmp_path / "other" / "calls") == read_tree(roots.data / "calls")


@pytest.mark.parametrize("name", ["b.zip", "b", ".tar.zst"])
def test_a_suffix_that_names_no_format_is_refused(name, built, tmp_path):
    with pytest.raises(InputInvalid, match=r"tar\.zst"):
        export_bundle(built, [COHORT], tmp_path / name)


def test_a_file_that_is_there_is_not_overwritten(built, tmp_path):
    (tmp_path / "b.tar").write_text("mine")

    with pytest.raises(InputInvalid, match="exists already"):
        export_bundle(built, [COHORT], tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "mine"


def test_an_unknown_name_and_a_cohort_without_tables_are_refused(built, tmp_path):
    roots = Roots(tmp_path / "empty", built.config)

    with pytest.raises(UnknownName, match="zzzz"):
        export_bundle(built, ["zzzz"], tmp_path / "b.tar")
    with pytest.raises(InputInvalid, match="daybook plan first"):
        export_bundle(roots, [COHORT], tmp_path / "b.tar")


def test_an_export_that_is_killed_anywhere_leaves_a_whole_bundle_or_none(built, tmp_path):
    essay = DataRoot(built.data).documents.list_ids("essay")[0]
    number = 0
    while True:
        path = tmp_path / f"{number}.tar"
        was_killed = is_killed_at(number, lambda path=path: export_bundle(built, [essay], path))
        if path.exists():
            import_bundle(DataRoot(tmp_path / "data"), path)
        if not was_killed:
            break
        number += 7
    assert path.exists()
    assert number > 7


# Import


def test_a_second_import_changes_nothing(bundle, tmp_path):
    data = DataRoot(tmp_path / "data")
    import_bundle(data, bundle)
    before = read_tree(data.path)

    again = import_bundle(data, bundle)

    assert read_tree(data.path) == before
    assert placed(again) == 0


def test_imports_at_the_same_time_bring_each_attempt_in_once(bundle, built, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: import_bundle(DataRoot(tmp_path / "data"), bundle), range(2)))

    assert store_of(tmp_path / "data") == store_of(built.data)


def test_a_dry_run_says_what_an_import_does_and_writes_nothing(bundle, tmp_path):
    data = DataRoot(tmp_path / "data")

    told = import_bundle(data, bundle, dry_run=True)
    nothing = data.path.exists()
    done = import_bundle(data, bundle)

    assert not nothing
    assert told["counts"] == done["counts"]
    assert placed(told) > 20


def test_an_imported_cohort_is_complete_with_the_configuration_of_the_bundle(bundle, tmp_path):
    data = DataRoot(tmp_path / "data")

    config = import_bundle(data, bundle)["config"]
    status = describe_status(Workspace(Roots(data.path, Path(config) / "config")), COHORT)

    assert status["cohorts"][0]["complete"]


def test_nothing_is_written_into_the_config_folder(bundle, built, tmp_path):
    roots = copy_store(built, tmp_path)
    (roots.config / "cohorts" / f"{COHORT}.toml").write_text("mine")

    import_bundle(DataRoot(roots.data), bundle)

    assert (roots.config / "cohorts" / f"{COHORT}.toml").read_text() == "mine"


@pytest.mark.slow
def test_an_import_that_is_killed_anywhere_has_placed_whole_documents_and_goes_on(bundle, built, tmp_path):
    number = 0
    while True:
        data = DataRoot(tmp_path / str(number))
        was_killed = is_killed_at(number, lambda data=data: import_bundle(data, bundle))

        for stage, doc_id in data.documents.walk():
            data.documents.read_deeply(stage, doc_id)
        import_bundle(data, bundle)
        assert store_of(data.path) == store_of(built.data)

        if not was_killed:
            break
        number += 67
    assert number > 67


# Other content under one name


def change_a_document(roots: Roots, stage: str, doc_id: str) -> bytes:
    """Put a document with another answer in the place of one, and return what it says."""
    documents = DataRoot(roots.data).documents
    document = documents.read(stage, doc_id)
    files = {name: document.read_bytes(name) for name in document.file_names}
    shutil.rmtree(document.folder)
    documents.commit(stage, doc_id, {**files, "raw.txt": b"another answer"}, document.metadata)
    return b"another answer"


def test_a_document_that_meets_another_one_is_kept_beside_it_once(bundle, built, tmp_path):
    roots = copy_store(built, tmp_path)
    data = DataRoot(roots.data)
    essay = data.documents.list_ids("essay")[0]
    original = read_tree(data.documents.folder_of("essay", essay))
    other = change_a_document(roots, "essay", essay)

    (told,) = import_bundle(data, bundle)["kept_beside"]
    (again,) = import_bundle(data, bundle)["kept_beside"]

    assert told == again
    assert told["name"] == f"docs/essay/{essay}"
    assert read_tree(Path(told["place"])) == original
    assert data.documents.read_deeply("essay", essay).read_bytes("raw.txt") == other
    assert len(list(Path(told["place"]).parent.iterdir())) == 1


def test_a_document_that_meets_a_damaged_one_is_kept_beside_it(bundle, built, tmp_path):
    roots = copy_store(built, tmp_path)
    data = DataRoot(roots.data)
    essay = data.documents.list_ids("essay")[0]
    original = read_tree(data.documents.folder_of("essay", essay))
    (data.documents.folder_of("essay", essay) / "parsed.txt").unlink()

    (told,) = import_bundle(data, bundle)["kept_beside"]

    assert read_tree(Path(told["place"])) == original


def test_an_attempt_whose_number_is_taken_gets_the_next_one_and_is_found_as_the_answer(bundle, built, tmp_path):
    """Here the same call failed; in the other store it was answered."""
    roots = copy_store(built, tmp_path)
    data = DataRoot(roots.data)
    call_id = next(iter(data.calls.walk()))
    response = data.calls.read_attempt(call_id, 1).read_response()
    shutil.rmtree(data.calls.folder_of(call_id))
    failed = data.calls.begin(call_id, {"model": "echo/small"}).finish({"status": "gen_error", "reason": "transport"})
    before = read_tree(failed.folder)

    (told,) = import_bundle(data, bundle)["kept_beside"]
    placed_again = placed(import_bundle(data, bundle))
    answer = data.calls.find_answer(call_id)

    assert told["place"] == "attempt 0002"
    assert read_tree(failed.folder) == before
    assert answer is not None
    assert answer.read_response() == response
    assert json.loads((answer.folder / IMPORTED_FILE).read_bytes())["attempt"] == 1
    assert placed_again == 0


def test_task_tables_that_differ_stay_and_those_of_the_bundle_lie_beside(bundle, built, tmp_path):
    roots = copy_store(built, tmp_path)
    table = roots.data / "tasks" / COHORT / "essay_tasks.csv"
    original = table.read_bytes()
    table.write_bytes(original.splitlines(keepends=True)[0])
    (roots.data / "tasks" / COHORT / "draft_tasks.csv").unlink()

    kept = import_bundle(DataRoot(roots.data), bundle)["kept_beside"]

    assert table.read_bytes() == original.splitlines(keepends=True)[0]
    assert [each["name"] for each in kept] == [f"tasks/{COHORT}/draft_tasks.csv", f"tasks/{COHORT}/essay_tasks.csv"]
    assert Path(kept[1]["place"]).read_bytes() == original
    assert not (roots.data / "tasks" / COHORT / "draft_tasks.csv").exists()


def test_a_bundle_of_a_store_that_imported_is_the_same_as_that_of_the_first(bundle, built, tmp_path):
    roots = Roots(tmp_path / "data", built.config)
    import_bundle(DataRoot(roots.data), bundle)

    result = export_bundle(roots, [COHORT], tmp_path / "again.tar.zst")

    assert (tmp_path / "again.tar.zst").read_bytes() == bundle.read_bytes()
    assert not result["missing"]


def test_the_identity_of_every_document_follows_from_its_inputs(built):
    """What an import asks of a document holds for all that are made."""
    documents = DataRoot(built.data).documents

    for stage, doc_id in documents.walk():
        assert id_from_digest(digest_of(stage, documents.read(stage, doc_id).metadata["inputs"])) == doc_id


def test_what_a_bundle_is_compressed_with_is_told_by_its_bytes(built, tmp_path):
    export_bundle(built, [COHORT], tmp_path / "b.tar")
    renamed = tmp_path / "b.tar.zst"
    renamed.write_bytes(gzip.compress((tmp_path / "b.tar").read_bytes()))

    assert placed(import_bundle(DataRoot(tmp_path / "data"), renamed)) > 20
    assert tarfile.is_tarfile(tmp_path / "b.tar")
