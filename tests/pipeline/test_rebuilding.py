"""What is deterministic can be made again from what is on disk, and any byte that is not so is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline import parsers
from pipeline.byte_differences import find_first_difference
from pipeline.making import make_document
from pipeline.parsers import Parsed
from pipeline.rebuilding import Outcome, rebuild, rebuild_all, rebuild_cohort
from pipeline.report_document import make_report
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from store.documents import complete_metadata, encode_readably
from tests.pipeline.built_store import copy_store
from tests.pipeline.config_folder import edit, write_config

COHORT = "first"
JUDGE = "Judge this:\n{{ response }}\nEnd with SCORE: <0-10>.\nSCORE: 7\n"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory) -> Roots:
    workspace = open_workspace(tmp_path_factory.mktemp("made"))
    for plan in workspace.plan(COHORT).walk():
        make_document(workspace.maker, plan, cohort=COHORT)
    make_report(workspace, COHORT)
    workspace.write_tables(COHORT)
    return workspace.roots


@pytest.fixture
def workspace(made_once, tmp_path) -> Workspace:
    """A complete cohort with its report."""
    return Workspace(copy_store(made_once, tmp_path))


def open_workspace(folder: Path, changes=None) -> Workspace:
    write_config(folder, {"templates/evaluation/clarity.txt": JUDGE, **(changes or {})})
    return Workspace(Roots(folder / "data", folder / "config"))


def folder_of(workspace: Workspace, stage: str, name: str = "raw.txt") -> Path:
    """Return the folder of the first document of a stage that has a file."""
    folders = sorted((workspace.roots.data / "docs" / stage).glob("[0-9a-z]*"))
    return next(folder for folder in folders if (folder / name).exists())


def overwrite(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def change_byte(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    overwrite(path, bytes(content))


def change_metadata(folder: Path, **changes) -> None:
    """Change metadata.json as somebody who knows its own hash would."""
    metadata = json.loads((folder / "metadata.json").read_bytes()) | changes
    files = {name: (folder / name).read_bytes() for name in metadata["files"]}
    complete = complete_metadata(metadata["stage"], metadata["doc_id"], files, metadata_without_hash(metadata))
    overwrite(folder / "metadata.json", encode_readably(complete))


def metadata_without_hash(metadata: dict) -> dict:
    return {name: value for name, value in metadata.items() if name != "self_blake3"}


def list_findings(workspace: Workspace) -> dict[str, tuple[str, str]]:
    """Return {doc_id: (outcome, file)} of everything that is not the same."""
    findings = rebuild_all(workspace.data).findings
    return {found.doc_id: (str(found.outcome), found.file) for found in findings if found.outcome is not Outcome.SAME}


def snapshot(workspace: Workspace) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in workspace.roots.data.rglob("*") if path.is_file()}


def snapshot_what_follows(workspace: Workspace) -> dict[str, bytes]:
    """Return the files that hold nothing of when they were made."""
    dated = ("metadata.json", "_by_task", "/journal/")
    return {path: content for path, content in snapshot(workspace).items() if not any(name in path for name in dated)}


def test_everything_that_was_made_is_the_same_when_it_is_made_again_and_nothing_is_written(workspace):
    before = snapshot(workspace)

    result = rebuild_all(workspace.data)

    assert result.is_same
    assert {found.outcome for found in result.findings} == {Outcome.SAME}
    assert {found.stage for found in result.findings} == {"draft", "essay", "evaluation", "report"}
    assert not any(found.is_from_raw for found in result.findings)
    assert snapshot(workspace) == before


def test_it_is_so_after_the_whole_config_has_been_removed(workspace):
    shutil.rmtree(workspace.roots.config)

    assert rebuild_all(Workspace(workspace.roots).data).is_same


def test_a_cohort_is_rebuilt_by_its_task_tables_also_after_an_edit_of_the_config(workspace, tmp_path):
    asked = {found.doc_id for found in rebuild_cohort(workspace, COHORT, makes_missing=False).findings}
    edited = open_workspace(tmp_path, {"templates/draft/list.txt": "Something else."})

    result = rebuild_cohort(edited, COHORT, makes_missing=False)

    assert {found.doc_id for found in result.findings} == asked
    assert len(asked) == len(list(workspace.data.documents.walk()))
    assert result.is_same


@pytest.mark.parametrize("stage", ["draft", "essay", "evaluation"])
@pytest.mark.parametrize("name", ["prompt.txt", "raw.txt", "parsed.txt"])
def test_one_changed_byte_of_any_file_is_found_with_its_place_and_both_sides(stage, name, workspace):
    folder = folder_of(workspace, stage)
    before = (folder / name).read_bytes()
    change_byte(folder / name, len(before) - 1)

    found = rebuild(workspace.data, stage, folder.name)

    assert (found.outcome, found.file) == (Outcome.DIFFERENT, name)
    assert found.place is not None
    assert found.place.offset == len(before) - 1
    assert found.place.line == before[:-1].count(b"\n") + 1
    assert found.place.stored != found.place.rebuilt


@pytest.mark.parametrize(
    "name", ["parsed.txt", "extras/report.html", "extras/essays.csv", "extras/evaluations.csv", "extras/documents.csv"]
)
def test_one_changed_byte_of_a_report_is_found(name, workspace):
    folder = folder_of(workspace, "report", "parsed.txt")
    change_byte(folder / name, len((folder / name).read_bytes()) // 2)

    ((doc_id, (outcome, file)),) = list_findings(workspace).items()

    assert doc_id == folder.name
    assert outcome in ("different", "damaged")
    assert file in (name, "")


def test_a_changed_copy_is_found(workspace):
    folder = next(
        folder
        for folder in sorted((workspace.roots.data / "docs" / "essay").glob("[0-9a-z]*"))
        if not (folder / "raw.txt").exists()
    )
    change_byte(folder / "parsed.txt", 3)

    assert list_findings(workspace)[folder.name] == ("different", "parsed.txt")


@pytest.mark.parametrize(
    "changes",
    [
        {"score": {"value": 9.0, "scale": [0.0, 10.0], "strategy": "labelled", "line": "SCORE: 9"}},
        {"call_id": "0" * 16},
        {"completion_tokens": 1},
        {"parsed_bytes": 1},
        {"digest": "1" * 64},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_fact_of_metadata_is_found_also_if_its_own_hash_was_made_to_fit(changes, workspace):
    folder = folder_of(workspace, "evaluation")
    change_metadata(folder, **changes)

    assert list_findings(workspace)[folder.name] == ("different", "metadata.json")


def test_a_changed_fact_that_is_not_made_again_is_found_by_the_hash_of_metadata(workspace):
    folder = folder_of(workspace, "evaluation")
    text = (folder / "metadata.json").read_text()
    overwrite(folder / "metadata.json", text.replace('"run_id": "2', '"run_id": "3').encode())

    assert list_findings(workspace)[folder.name] == ("different", "metadata.json")


def test_a_concept_that_was_changed_in_metadata_is_found(workspace):
    folder = folder_of(workspace, "draft")
    metadata = json.loads((folder / "metadata.json").read_bytes())
    change_metadata(folder, concepts=[{**concept, "name": "Another"} for concept in metadata["concepts"]])

    assert list_findings(workspace)[folder.name] == ("different", "metadata.json")


def test_the_answers_bytes_in_the_ledger_are_read_again_and_a_changed_one_is_found(workspace):
    folder = folder_of(workspace, "draft")
    call_id = json.loads((folder / "metadata.json").read_bytes())["call_id"]
    change_byte(workspace.data.calls.folder_of(call_id) / "0001" / "response.bin", 60)

    assert list_findings(workspace)[folder.name] == ("damaged", "")


def test_an_outcome_that_says_another_text_than_the_answers_bytes_changes_nothing(workspace):
    """The text of outcome.json is derived from response.bin, and it is response.bin that is read."""
    folder = folder_of(workspace, "draft")
    call_id = json.loads((folder / "metadata.json").read_bytes())["call_id"]
    path = workspace.data.calls.folder_of(call_id) / "0001" / "outcome.json"
    outcome = json.loads(path.read_bytes())
    overwrite(path, json.dumps(outcome | {"text": "Another."}).encode())

    assert list_findings(workspace) == {}


def test_without_the_ledger_the_raw_answers_are_parsed_again(workspace):
    shutil.rmtree(workspace.roots.data / "calls")
    whole = rebuild_all(workspace.data)
    folder = folder_of(workspace, "evaluation")
    change_byte(folder / "parsed.txt", 0)

    assert whole.is_same
    assert sum(found.is_from_raw for found in whole.findings) == len(
        list(workspace.roots.data.glob("docs/*/*/raw.txt"))
    )
    assert list_findings(workspace)[folder.name] == ("different", "parsed.txt")


def test_a_template_that_is_no_longer_kept_makes_a_rebuild_impossible_and_says_so(workspace):
    shutil.rmtree(workspace.roots.data / "texts")

    outcomes = {found.stage: found.outcome for found in rebuild_all(workspace.data).findings if found.stage != "essay"}

    assert outcomes == {"draft": Outcome.IMPOSSIBLE, "evaluation": Outcome.IMPOSSIBLE, "report": Outcome.SAME}


def test_a_template_text_that_was_altered_is_never_rendered(workspace):
    for path in (workspace.roots.data / "texts").rglob("*.txt"):
        change_byte(path, 0)

    assert "altered" in rebuild_all(workspace.data).findings[0].reason


def test_a_missing_parent_is_told_from_one_with_other_bytes(workspace):
    draft = folder_of(workspace, "draft")
    child = next(
        doc_id
        for stage, doc_id in workspace.data.documents.walk()
        if stage == "essay" and workspace.data.documents.read(stage, doc_id).metadata["parent_doc_id"] == draft.name
    )
    change_metadata_of_text(draft)
    other = rebuild(workspace.data, "essay", child)
    shutil.rmtree(draft)
    missing = rebuild(workspace.data, "essay", child)

    assert (other.outcome, missing.outcome) == (Outcome.DIFFERENT, Outcome.IMPOSSIBLE)
    assert "when it was used" in other.reason
    assert f"draft/{draft.name}" in missing.reason


def change_metadata_of_text(folder: Path) -> None:
    """Replace a document's parsed text and make its record fit: another document under the same id."""
    overwrite(folder / "parsed.txt", b"Another text.\n")
    change_metadata(folder)


def test_a_parser_that_gives_another_text_without_a_higher_version_shows(workspace, monkeypatch):
    identity = parsers.PARSERS["identity"]
    changed = identity._replace(function=lambda reply, _scale: Parsed(reply.upper()))
    monkeypatch.setattr(parsers, "PARSERS", {**parsers.PARSERS, "identity": changed})

    findings = [found for found in rebuild_all(workspace.data).findings if found.stage == "draft"]

    assert {(found.outcome, found.file) for found in findings} == {(Outcome.DIFFERENT, "parsed.txt")}


def test_a_parser_that_can_no_longer_read_an_answer_shows(workspace, monkeypatch):
    judge = parsers.PARSERS["score_last_line"]
    changed = judge._replace(function=parsers.PARSERS["json_score"].function)
    monkeypatch.setattr(parsers, "PARSERS", {**parsers.PARSERS, "score_last_line": changed})

    findings = [found for found in rebuild_all(workspace.data).findings if found.stage == "evaluation"]

    assert {found.outcome for found in findings} == {Outcome.DIFFERENT}
    assert "can no longer be parsed" in findings[0].reason


def test_a_parser_with_a_higher_version_is_told_and_not_compared(workspace, monkeypatch):
    changed = {name: parser._replace(version=parser.version + 1) for name, parser in parsers.PARSERS.items()}
    monkeypatch.setattr("pipeline.recorded_plans.PARSERS", changed)

    result = rebuild_all(workspace.data)

    assert result.is_same
    draft = next(found for found in result.findings if found.stage == "draft")
    assert (draft.outcome, draft.reason) == (Outcome.OTHER_VERSION, "made by parser identity 1, now 2")


def test_metadata_that_is_no_json_is_damaged_and_the_others_are_rebuilt(workspace):
    folder = folder_of(workspace, "evaluation")
    overwrite(folder / "metadata.json", b"{")

    findings = list_findings(workspace)

    assert findings[folder.name] == ("damaged", "")
    assert len(rebuild_all(workspace.data).findings) == len(list(workspace.data.documents.walk()))


def test_a_file_that_cannot_be_read_is_damage_and_the_others_are_rebuilt(workspace):
    """A folder in its place gives an error when it is read, as a bad disk does."""
    raw = folder_of(workspace, Stage.ESSAY) / "raw.txt"
    raw.unlink()
    raw.mkdir()

    found = rebuild_all(workspace.data)

    assert [finding.outcome for finding in found.findings if finding.doc_id == raw.parent.name] == [Outcome.DAMAGED]
    assert Outcome.SAME in {finding.outcome for finding in found.findings}


def test_inputs_without_what_they_need_are_damaged_and_no_crash(workspace):
    folder = folder_of(workspace, "draft")
    change_metadata(folder, inputs={})

    assert list_findings(workspace)[folder.name] == ("damaged", "")


# Missing documents


def test_what_is_missing_is_made_from_the_ledger_and_nothing_is_asked(workspace):
    before = snapshot_what_follows(workspace)
    shutil.rmtree(workspace.roots.data / "docs" / "essay")

    checked = rebuild_cohort(workspace, COHORT, makes_missing=False)
    made = rebuild_cohort(workspace, COHORT, makes_missing=True)

    assert {found.outcome for found in checked.findings if found.stage == "essay"} == {Outcome.MISSING}
    assert {stage for stage, _ in made.made} == {"essay"}
    assert made.is_same
    assert snapshot_what_follows(workspace) == before


def test_what_would_need_a_model_stays_missing_and_no_attempt_is_begun(workspace):
    shutil.rmtree(workspace.roots.data / "calls")
    shutil.rmtree(workspace.roots.data / "docs" / "evaluation")

    result = rebuild_cohort(workspace, COHORT, makes_missing=True)

    assert result.made == []
    assert {found.outcome for found in result.findings if found.stage == "evaluation"} == {Outcome.MISSING}
    assert not list((workspace.roots.data / "calls").rglob("request.json"))


def test_a_draft_from_a_source_document_is_rebuilt(workspace, tmp_path):
    source = folder_of(workspace, "draft").name
    changes = edit("cohorts/first.toml", 'templates = ["synthesis", "list"]', f'source_doc_ids = ["{source}"]')
    text = str(changes["cohorts/first.toml"]).replace(
        '[combos]\nconcepts = ["flywheel", "moat", "tide"]\nsize = 2\n', ""
    )
    again = open_workspace(tmp_path, {"cohorts/second.toml": text})
    (plan,) = again.plan("second").documents[Stage.DRAFT].values()
    make_document(again.maker, plan, cohort="second")

    assert rebuild(again.data, "draft", plan.doc_id).outcome is Outcome.SAME


@pytest.mark.parametrize(
    ("stored", "rebuilt", "offset", "line"),
    [(b"", b"a", 0, 1), (b"a\nb", b"a\nc", 2, 2), (b"a\n", b"a\nb", 2, 2), (b"\xff", b"\xfe", 0, 1)],
)
def test_the_first_difference_is_where_the_common_start_ends(stored, rebuilt, offset, line):
    place = find_first_difference(stored, rebuilt)

    assert place is not None
    assert (place.offset, place.line) == (offset, line)
    assert place.stored != place.rebuilt


def test_equal_files_have_no_difference():
    assert find_first_difference(b"a\x00b", b"a\x00b") is None
