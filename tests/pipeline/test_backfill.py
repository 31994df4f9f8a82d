"""Old stores are taken in whole, under ids that follow from their bytes, with everything in doubt listed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.backfill import backfill_store
from pipeline.backfill.old_ids import old_combo_id, old_id_of
from pipeline.errors import InputInvalid
from pipeline.rebuilding import Outcome, rebuild_all
from pipeline.usage import describe_usage
from store.data_root import DataRoot
from store.durable import SharedBytes, commit_folder
from tests.pipeline.built_store import read_tree
from tests.store.killed import is_killed_at

SHARED = Path(__file__).parents[3] / "shared" / "data"
RUN_ID = "backfill-20260131"
needs_real_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data, ../shared/data, are not here")

DRAFT, OTHER_DRAFT = "combo_a__synthesis__model", "combo_b__synthesis__model"
ESSAY = f"{DRAFT}__plain"
EVALUATION = f"{ESSAY}__clarity__judge"
VERSIONED: dict[str, str | bytes] = {
    f"3_generation/draft_responses_raw/{DRAFT}_v1.txt": "first",
    f"3_generation/draft_responses_raw/{DRAFT}_v2.txt": "second",
    f"3_generation/draft_responses_raw/{DRAFT}_v10.txt": "tenth",
    f"3_generation/draft_responses/{DRAFT}.txt": "parsed of tenth",
    f"3_generation/links_responses/{OTHER_DRAFT}.txt": "links, parsed only",
    f"3_generation/essay_responses_raw/{ESSAY}_v1.txt": "essay",
    f"3_generation/essay_responses/{ESSAY}.txt": "essay",
    f"4_evaluation/evaluation_responses_raw/{EVALUATION}_v1.txt": "SCORE: 7",
    f"4_evaluation/evaluation_responses/{EVALUATION}.txt": "7.0\n",
    "2_tasks/draft_generation_tasks.csv": (
        f"draft_task_id,combo_id,draft_template,generation_model\n{DRAFT},combo_a,synthesis,model\n"
    ),
    "2_tasks/essay_generation_tasks.csv": (
        f"essay_task_id,draft_task_id,essay_template,generation_model\n{ESSAY},{DRAFT},plain,model\n"
    ),
    "2_tasks/evaluation_tasks.csv": (
        f"evaluation_task_id,essay_task_id,evaluation_template,evaluation_model\n{EVALUATION},{ESSAY},clarity,judge\n"
    ),
}
DRAFT_NAMES = ["combo_v1_f74195c24ea7", "creative-synthesis-v10", "gemini_25_pro", 1]
OLD_DRAFT, OLD_ESSAY = "d_3cxfemmhegfzaguo", "e_1cx6440bb5zj9466"


def make_generations() -> dict[str, str | bytes]:
    names = {"template_id": "creative-synthesis-v10", "llm_model_id": "gemini_25_pro", "replicate": 1}
    draft = {**names, "stage": "draft", "task_id": "a-draft", "combo_id": "combo_v1_f74195c24ea7"}
    essay = {**names, "stage": "essay", "task_id": "an-essay", "parent_gen_id": OLD_DRAFT}
    return {
        f"gens/draft/{OLD_DRAFT}/prompt.txt": "Combine.",
        f"gens/draft/{OLD_DRAFT}/raw.txt": "raw draft",
        f"gens/draft/{OLD_DRAFT}/parsed.txt": "parsed draft",
        f"gens/draft/{OLD_DRAFT}/metadata.json": json.dumps(draft),
        f"gens/draft/{OLD_DRAFT}/raw_metadata.json": '{"finish_reason": "stop", "usage": {"prompt_tokens": 5}}',
        f"gens/draft/{OLD_DRAFT}/parsed_metadata.json": "{}",
        f"gens/essay/{OLD_ESSAY}/raw.txt": "raw essay",
        f"gens/essay/{OLD_ESSAY}/parsed.txt": "parsed essay",
        f"gens/essay/{OLD_ESSAY}/metadata.json": json.dumps(essay),
    }


GENERATIONS = make_generations()


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def data(tmp_path) -> DataRoot:
    return DataRoot(tmp_path / "data")


def backfill(tmp_path: Path, data: DataRoot, files: Mapping[str, str | bytes], **options):
    old = write_files(tmp_path / "old", files)
    before = read_tree(old)
    result = backfill_store(old, data, run_id=RUN_ID, **options)
    assert read_tree(old) == before
    return result


def the_document(data: DataRoot, stage: str, task_id: str):
    found = [data.documents.read_deeply(stage, doc_id) for doc_id in data.documents.list_ids(stage)]
    (document,) = [each for each in found if each.metadata["task_id"] == task_id]
    return document


# Versioned files


def test_each_version_is_an_attempt_and_the_parsed_text_belongs_to_the_latest(tmp_path, data):
    backfill(tmp_path, data, VERSIONED)

    draft = the_document(data, "draft", DRAFT)
    attempts = data.calls.list_attempts(draft.metadata["call_id"])

    assert [attempt.read_response() for attempt in attempts] == [b"first", b"second", b"tenth"]
    assert draft.metadata["attempt"] == 3
    assert (draft.read_text("raw.txt"), draft.read_text("parsed.txt")) == ("tenth", "parsed of tenth")


def test_a_parsed_text_alone_makes_a_document_without_raw(tmp_path, data):
    backfill(tmp_path, data, VERSIONED)

    links = the_document(data, "draft", OTHER_DRAFT)

    assert links.file_names == ["parsed.txt"]
    assert links.metadata["call_id"] is None


def test_answers_without_a_parsed_text_are_kept_as_attempts_and_named(tmp_path, data):
    files = {f"3_generation/draft_responses_raw/{DRAFT}_v1.txt": "paid"}

    result = backfill(tmp_path, data, files)

    assert data.documents.list_ids("draft") == []
    (call_id,) = data.calls.walk()
    assert data.calls.read_attempt(call_id, 1).read_response() == b"paid"
    assert result["stages"]["draft"]["attempts_only"] == 1
    assert result["problems"][0]["name"] == f"draft/{DRAFT}"


def test_provenance_is_kept(tmp_path, data):
    backfill(tmp_path, data, VERSIONED)

    metadata = the_document(data, "draft", DRAFT).metadata
    request = data.calls.read_attempt(metadata["call_id"], 1).read_request()

    assert metadata["backfill"]["source"] == str(tmp_path / "old")
    assert metadata["backfill"]["files"] == {"parsed.txt": f"3_generation/draft_responses/{DRAFT}.txt"}
    assert metadata["run_id"] == RUN_ID
    assert (metadata["template_id"], metadata["model"], metadata["combo_id"]) == ("synthesis", "model", "combo_a")
    assert request["backfill"]["path"] == f"3_generation/draft_responses_raw/{DRAFT}_v1.txt"
    assert request["backfill"]["version"] == 1


def test_parents_are_those_of_the_tables_with_the_bytes_that_are_there(tmp_path, data):
    result = backfill(tmp_path, data, VERSIONED)
    draft, essay = the_document(data, "draft", DRAFT), the_document(data, "essay", ESSAY)
    evaluation = the_document(data, "evaluation", EVALUATION)

    assert essay.metadata["parents"] == [
        {"stage": "draft", "doc_id": draft.doc_id, "file": "parsed.txt", "blake3": draft.file_blake3("parsed.txt")}
    ]
    assert evaluation.metadata["parent_doc_id"] == essay.doc_id
    assert result["ambiguous"] == result["orphans"] == []


def without_tables(files: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
    return {name: content for name, content in files.items() if not name.startswith("2_tasks")}


def test_without_tables_the_one_name_that_fits_is_the_parent(tmp_path, data):
    result = backfill(tmp_path, data, without_tables(VERSIONED))

    assert the_document(data, "essay", ESSAY).metadata["parent_doc_id"] == the_document(data, "draft", DRAFT).doc_id
    assert result["stages"]["essay"]["linked"] == 1


def test_a_parent_in_doubt_is_not_linked_and_its_candidates_are_listed(tmp_path, data):
    shorter = {"3_generation/draft_responses/combo_a.txt": "a name that fits, too"}

    result = backfill(tmp_path, data, {**without_tables(VERSIONED), **shorter})

    assert the_document(data, "essay", ESSAY).metadata["parents"] == []
    (told,) = result["ambiguous"]
    assert told["name"] == f"essay/{ESSAY}"
    assert "draft/combo_a, " in told["problem"]
    assert f"draft/{DRAFT}" in told["problem"]


def test_two_documents_of_one_name_are_both_taken_in_and_no_child_is_linked_to_either(tmp_path, data):
    twin = {f"3_generation/links_responses/{DRAFT}.txt": "links of the same name"}

    result = backfill(tmp_path, data, {**VERSIONED, **twin})

    assert result["stages"]["draft"]["placed"] == 3
    assert result["ambiguous"][0]["name"] == f"essay/{ESSAY}"


def test_rows_that_contradict_each_other_and_a_parent_that_is_not_there_are_listed(tmp_path, data):
    rows = f"essay_task_id,draft_task_id\n{ESSAY},{DRAFT}\n{ESSAY},{OTHER_DRAFT}\n"
    absent = f"evaluation_task_id,essay_task_id\n{EVALUATION},gone\n"
    tables = {"2_tasks/essay_generation_tasks.csv": rows, "2_tasks/evaluation_tasks.csv": absent}

    result = backfill(tmp_path, data, {**VERSIONED, **tables})

    assert [each["name"] for each in result["ambiguous"]] == [f"essay/{ESSAY}"]
    assert result["orphans"] == [
        {"name": f"evaluation/{EVALUATION}", "problem": "its table names essay/gone, which is not there"}
    ]


def test_counts_and_sizes_are_told_by_stage(tmp_path, data):
    result = backfill(tmp_path, data, VERSIONED)

    draft = result["stages"]["draft"]
    assert (draft["found"], draft["placed"], draft["attempts"], draft["present"]) == (2, 2, 3, 0)
    texts = [content for name, content in VERSIONED.items() if "draft_responses" in name or "links_responses" in name]
    assert draft["bytes"] == sum(map(len, texts))


def test_a_text_that_is_not_utf8_is_kept_byte_for_byte(tmp_path, data):
    name = f"3_generation/draft_responses_raw/{DRAFT}_v11.txt"

    backfill(tmp_path, data, {**VERSIONED, name: b"caf\xe9\r\n\x00"})

    draft = the_document(data, "draft", DRAFT)
    assert draft.read_text("raw.txt") == "caf\ufffd\r\n\x00"
    assert draft.read_bytes("extras/raw.txt.bytes") == b"caf\xe9\r\n\x00"
    assert data.calls.read_attempt(draft.metadata["call_id"], 4).read_response() == b"caf\xe9\r\n\x00"


# Generation folders


def test_all_files_of_a_generation_folder_are_kept(tmp_path, data):
    backfill(tmp_path, data, GENERATIONS)

    draft, essay = the_document(data, "draft", "a-draft"), the_document(data, "essay", "an-essay")

    assert (draft.read_text("prompt.txt"), draft.read_text("raw.txt")) == ("Combine.", "raw draft")
    assert json.loads(draft.read_bytes("extras/metadata.json"))["combo_id"] == "combo_v1_f74195c24ea7"
    assert draft.read_bytes("extras/parsed_metadata.json") == b"{}"
    assert draft.metadata["backfill"]["old_id"] == OLD_DRAFT
    assert draft.metadata["prompt_tokens"] == 5
    assert essay.metadata["parent_doc_id"] == draft.doc_id


def test_a_rebuild_of_everything_tells_them_from_damage(tmp_path, data):
    backfill(tmp_path, data, {**GENERATIONS, **VERSIONED})

    found = rebuild_all(data)

    assert found.is_same
    assert {(finding.outcome, finding.reason) for finding in found.findings} == {
        (Outcome.OTHER_VERSION, "made by the program of an old store")
    }


def test_one_stage_is_told_of_without_the_others(tmp_path, data):
    files = {**GENERATIONS, "3_generation/essay_responses/nobodys.txt": "no parent"}

    told = backfill(tmp_path, data, files, stage="draft", dry_run=True)

    assert list(told["stages"]) == ["draft"]
    assert told["orphans"] == []


def test_old_ids_that_do_not_follow_from_their_metadata_are_listed_with_the_right_one(tmp_path, data):
    moved = {name.replace(OLD_ESSAY, "e_wrong"): content for name, content in GENERATIONS.items()}

    right = backfill(tmp_path / "right", DataRoot(tmp_path / "data-right"), GENERATIONS)
    wrong = backfill(tmp_path / "wrong", data, moved)

    assert right["old_ids"] == []
    assert wrong["old_ids"] == [{"name": "essay/e_wrong", "expected": OLD_ESSAY}]


def test_metadata_that_cannot_be_read_is_named_and_the_texts_are_taken_in(tmp_path, data):
    broken = {**GENERATIONS, f"gens/essay/{OLD_ESSAY}/metadata.json": b"{"}

    result = backfill(tmp_path, data, broken)

    assert result["stages"]["essay"]["placed"] == 1
    assert any("metadata.json" in each["name"] for each in result["problems"])
    assert result["old_ids"] == [{"name": f"essay/{OLD_ESSAY}", "expected": None}]
    assert the_document(data, "essay", OLD_ESSAY).read_bytes("extras/metadata.json") == b"{"


def test_a_truncated_answer_has_that_status(tmp_path, data):
    cut = {**GENERATIONS, f"gens/draft/{OLD_DRAFT}/raw_metadata.json": '{"finish_reason": "length"}'}
    backfill(tmp_path, data, cut)

    call_id = the_document(data, "draft", "a-draft").metadata["call_id"]

    assert data.calls.read_attempt(call_id, 1).status == "truncated"


def test_both_layouts_and_folders_named_docs_are_taken_in_at_once(tmp_path, data):
    renamed = {name.replace("gens/", "data/docs/"): content for name, content in GENERATIONS.items()}
    old = {**renamed, **{f"data/{name}": content for name, content in VERSIONED.items()}}

    result = backfill(tmp_path, data, old)

    assert result["layouts"] == ["versioned_files", "generation_folders"]
    assert {stage: count["placed"] for stage, count in result["stages"].items()} == {
        "draft": 3,
        "essay": 2,
        "evaluation": 1,
    }


# Twice, in part, and not at all


@pytest.mark.parametrize("files", [VERSIONED, GENERATIONS], ids=["versioned", "generations"])
def test_a_second_run_adds_nothing_whatever_its_name_and_place(files, tmp_path, data):
    first = backfill(tmp_path, data, files)
    before = read_tree(data.path)
    shutil.copytree(tmp_path / "old", tmp_path / "moved")

    second = backfill_store(tmp_path / "moved", data, run_id="another")

    assert read_tree(data.path) == before
    for stage, count in second["stages"].items():
        assert (count["placed"], count["attempts"]) == (0, 0)
        assert count["present"] == first["stages"][stage]["placed"]


def test_a_dry_run_counts_the_same_and_writes_nothing(tmp_path, data):
    told = backfill(tmp_path, data, {**VERSIONED, **GENERATIONS}, dry_run=True)
    wrote = data.path.exists()
    done = backfill(tmp_path, data, {**VERSIONED, **GENERATIONS})

    assert not wrote
    assert {**told, "dry_run": False} == done


def test_the_stages_can_be_taken_in_one_by_one_with_the_same_ids(tmp_path, data):
    other = DataRoot(tmp_path / "other")
    essays = backfill(tmp_path, data, VERSIONED, stage="essay")
    missing = list(data.documents.walk())
    for stage in ("draft", "evaluation"):
        backfill(tmp_path, data, VERSIONED, stage=stage)
    backfill(tmp_path, other, VERSIONED)

    assert [stage for stage, _ in missing] == ["essay"]
    assert "not in the store" in essays["problems"][0]["problem"]
    assert list(data.documents.walk()) == list(other.documents.walk())


def test_a_new_version_is_one_more_attempt_and_a_document_of_its_own(tmp_path, data):
    backfill(tmp_path, data, VERSIONED)

    result = backfill(tmp_path, data, {f"3_generation/draft_responses_raw/{DRAFT}_v11.txt": "eleventh"})

    assert (result["stages"]["draft"]["attempts"], result["stages"]["draft"]["attempts_present"]) == (1, 3)
    assert len(data.documents.list_ids("draft")) == 3


def test_a_backfill_that_is_killed_anywhere_goes_on(tmp_path):
    complete = DataRoot(tmp_path / "complete")
    backfill(tmp_path, complete, VERSIONED)
    number = 0
    while True:
        data = DataRoot(tmp_path / str(number))
        was_killed = is_killed_at(number, lambda data=data: backfill_store(tmp_path / "old", data, run_id=RUN_ID))
        for stage, doc_id in data.documents.walk():
            data.documents.read_deeply(stage, doc_id)
        backfill_store(tmp_path / "old", data, run_id=RUN_ID)

        for folder in ("docs", "calls"):
            assert read_tree(data.path / folder) == read_tree(complete.path / folder)
        if not was_killed:
            break
        number += 11
    assert number > 11


def test_a_folder_without_an_old_store_is_refused(tmp_path, data):
    with pytest.raises(InputInvalid, match="3_generation"):
        backfill_store(tmp_path, data)
    with pytest.raises(InputInvalid, match="is no folder"):
        backfill_store(tmp_path / "none", data)


def test_documents_of_daybook_itself_are_left_to_bundles(built, data):
    result = backfill_store(built.data, data)

    assert "import-bundle" in result["problems"][0]["problem"]
    assert not data.documents.list_stages()


def test_the_cost_of_old_answers_is_unknown_and_not_nothing(tmp_path, data):
    backfill(tmp_path, data, VERSIONED)

    total = describe_usage(data, "model")["total"]

    assert (total["attempts"], total["unknown_costs"]) == (5, 5)


def test_with_link_the_documents_are_the_same(tmp_path, data):
    other = DataRoot(tmp_path / "other")
    backfill(tmp_path, data, VERSIONED)
    backfill_store(tmp_path / "old", other, run_id=RUN_ID, link=True)

    assert read_tree(other.path / "docs") == read_tree(data.path / "docs")


def test_a_shared_file_never_changes_with_its_source(tmp_path):
    """Where blocks can be shared they are copied on write; where not, the bytes are copied at once."""
    source = tmp_path / "source.txt"
    source.write_bytes(b"as it was" * 1000)
    content = SharedBytes.read(source)

    commit_folder({"raw.txt": content}, tmp_path / "final", temporary_folder=tmp_path / ".tmp")
    with source.open("r+b") as file:
        file.write(b"CHANGED")

    assert (tmp_path / "final" / "raw.txt").read_bytes() == b"as it was" * 1000
    assert (tmp_path / "final" / "raw.txt").stat().st_nlink == 1


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.xfs"), reason="it mounts an xfs: that needs root and mkfs.xfs"
)
def test_where_the_filesystem_can_the_blocks_are_shared(tmp_path):
    image, mounted, size_bytes = tmp_path / "image", tmp_path / "mounted", 20_000_000
    mounted.mkdir()
    image.touch()
    os.truncate(image, 400_000_000)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        (mounted / "source").write_bytes(os.urandom(size_bytes))
        os.sync()
        free = os.statvfs(mounted).f_bfree
        commit_folder(
            {"raw.txt": SharedBytes.read(mounted / "source")}, mounted / "f", temporary_folder=mounted / ".tmp"
        )
        os.sync()
        taken = (free - os.statvfs(mounted).f_bfree) * os.statvfs(mounted).f_frsize
        assert (mounted / "f" / "raw.txt").read_bytes() == (mounted / "source").read_bytes()
        content = SharedBytes.read(mounted / "source")
        (mounted / "source").write_bytes(b"another")
        commit_folder({"raw.txt": content}, mounted / "g", temporary_folder=mounted / ".tmp")
        assert (mounted / "g" / "raw.txt").read_bytes() == content
    finally:
        subprocess.run(["umount", mounted], check=True)

    assert taken < size_bytes / 20


def test_a_source_that_changed_since_it_was_read_gives_the_bytes_that_were_read(tmp_path):
    source = tmp_path / "source.txt"
    source.write_bytes(b"as it was")
    content = SharedBytes.read(source)
    source.write_bytes(b"later, and longer")

    commit_folder({"raw.txt": content}, tmp_path / "final", temporary_folder=tmp_path / ".tmp")

    assert (tmp_path / "final" / "raw.txt").read_bytes() == b"as it was"


# The old scheme of names, and real data


def test_old_ids_are_those_of_the_old_program():
    """Golden vectors of the old program."""
    concepts = ["dearth-ai-discoveries", "default-mode-network", "economic-innovation-models", "economic-moat"]
    vectors = {
        "flywheel-effect": ("combo_v1_f74195c24ea7", OLD_DRAFT, OLD_ESSAY),
        "generator-verifier-gap": ("combo_v1_85128e4e5ef3", "d_5ezrffv9uf3lr37d", "e_sq5klak2lljyyom"),
    }
    for fifth, (combo, draft, essay) in vectors.items():
        assert old_combo_id([fifth, *concepts], "paragraph", 5) == combo
        assert old_id_of("draft", [combo, " Creative-Synthesis-v10 ", "gemini_25_pro", 1]) == draft
        assert old_id_of("essay", [draft, "creative-synthesis-v10", 1]) == essay
    assert old_id_of("draft", DRAFT_NAMES, collision=2).endswith("-2")
    assert old_id_of("draft", DRAFT_NAMES, collision=2) != f"{OLD_DRAFT}-2"


@needs_real_data
def test_real_evaluations_of_the_old_program_are_taken_in_byte_for_byte(tmp_path, data):
    """40 answers of judges; the score that each states stands for what the old program made of it."""
    folder = SHARED / "eval_responses"
    with (folder / "scores.csv").open(newline="") as file:
        scores = {row["file"]: row["expected_score"] for row in csv.DictReader(file)}
    essays = {f"3_generation/essay_responses/essay_{name[:3]}.txt": f"essay {name}" for name in scores}
    raws = {
        f"4_evaluation/evaluation_responses_raw/essay_{name[:3]}__verification__judge_v1.txt": (
            folder / name
        ).read_bytes()
        for name in scores
    }
    parsed = {
        f"4_evaluation/evaluation_responses/essay_{name[:3]}__verification__judge.txt": f"{score}\n"
        for name, score in scores.items()
    }

    result = backfill(tmp_path, data, {**essays, **raws, **parsed})

    evaluations = [data.documents.read_deeply("evaluation", doc_id) for doc_id in data.documents.list_ids("evaluation")]
    assert result["stages"]["evaluation"] == {
        "found": 40,
        "placed": 40,
        "present": 0,
        "attempts": 40,
        "attempts_present": 0,
        "attempts_only": 0,
        "bytes": 230_440 + sum(map(len, parsed.values())),
        "linked": 40,
    }
    assert sorted(each.read_bytes("raw.txt") for each in evaluations) == sorted(raws.values())
    assert sum(float(each.read_text("parsed.txt")) for each in evaluations) == pytest.approx(214.25)
    assert result["ambiguous"] == result["problems"] == []
    assert {each["name"].partition("/")[0] for each in result["orphans"]} == {"essay"}  # they have no drafts
