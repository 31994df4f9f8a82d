"""Each answer is paid for once, kept whatever happens next, and only a good one makes a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import gateway
from pipeline.diagnosis import diagnose
from pipeline.errors import DocumentFailed
from pipeline.making import Maker, encode_reply, make_document
from pipeline.planning import DocumentPlan
from pipeline.settings import Roots
from pipeline.stages import Stage, Status
from pipeline.workspace import Workspace
from store.errors import DigestCollision, DocumentCorrupt, DocumentInvalid, DocumentMissing
from tests.provider_server import Reply, make_completion, reply_json

COHORT = "trial"


def write_config(
    folder: Path,
    *,
    api_base: str = "",
    settings: str = "backoff_seconds = 0\n",
    draft_text: str = "Connect {{ concepts[0].name }}.\n",
) -> None:
    """Write a config of one concept: one draft, an essay by a model, an essay by copy, and their evaluations."""
    files = {
        "concepts.csv": "concept_id,name\ntide,Tide\n",
        "concepts/paragraph/tide.txt": "Water that comes and goes.\n",
        "templates.toml": (
            "[draft.plain]\n[essay.told]\n"
            '[essay.same]\nmode = "copy"\n'
            '[evaluation.judge]\nparser = "score_last_line"\nscale = [0, 10]\n'
        ),
        "templates/draft/plain.txt": draft_text,
        "templates/essay/told.txt": "Retell: {{ draft_block }}",
        "templates/evaluation/judge.txt": "Judge: {{ response }}\nSCORE: 7\n",
        "models.toml": (
            f'[server]\nmodel = "openai/loopback"\nmax_tokens = 50\nendpoint = "here"\n{settings}'
            f'api_base = "{api_base or "http://127.0.0.1:9/v1"}"\napi_key_env = "TRIAL_KEY"\n'
            '[echo]\nmodel = "echo/x"\nmax_tokens = 50\n'
        ),
        f"cohorts/{COHORT}.toml": (
            '[combos]\nlist = [["tide"]]\n[draft]\ntemplates = ["plain"]\nmodels = ["server"]\n'
            '[essay]\ntemplates = ["told", "same"]\nmodels = ["echo"]\n'
            '[evaluation]\ntemplates = ["judge"]\nmodels = ["echo"]\n'
        ),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def workspace(tmp_path, provider) -> Workspace:
    write_config(tmp_path / "config", api_base=provider.api_base)
    return Workspace(Roots(tmp_path / "data", tmp_path / "config"))


def plan_of(workspace: Workspace, stage: Stage, name: str = "") -> DocumentPlan:
    return next(row for row in workspace.plan(COHORT).rows[stage] if name in row.task_id)


def make(workspace: Workspace, plan: DocumentPlan, **options):
    return make_document(Maker(workspace.data, **options), plan, cohort=COHORT)


def make_all(workspace: Workspace) -> None:
    for plan in workspace.plan(COHORT).walk():
        make(workspace, plan)


def list_attempts(workspace: Workspace) -> list:
    ledger = workspace.data.calls
    return [attempt for call_id in ledger.walk() for attempt in ledger.list_attempts(call_id)]


# A document


def test_a_draft_holds_prompt_answer_parsed_text_and_a_full_record(workspace):
    plan = plan_of(workspace, Stage.DRAFT)

    document = make(workspace, plan, run_id="run-1")

    assert document.read_bytes("prompt.txt") == b"Connect Tide.\n"
    assert document.read_bytes("raw.txt") == document.read_bytes("parsed.txt") == b"Connect Tide.\n"
    metadata = document.metadata
    assert metadata["doc_id"] == plan.doc_id
    assert metadata["digest"] == plan.digest
    assert metadata["inputs"] == json.loads(json.dumps(plan.inputs))
    assert metadata["stage"] == "draft"
    assert metadata["mode"] == "llm"
    assert metadata["status"] == "ok"
    assert metadata["cohort"] == COHORT
    assert metadata["task_id"] == "tide__plain__server__1"
    assert (metadata["template_id"], metadata["model_id"], metadata["model"]) == ("plain", "server", "openai/loopback")
    assert (metadata["prompt_tokens"], metadata["completion_tokens"], metadata["total_tokens"]) == (11, 7, 18)
    assert metadata["max_tokens"] == 50
    assert metadata["finish_reason"] == "stop"
    assert (metadata["raw_bytes"], metadata["parsed_bytes"]) == (14, 14)
    assert metadata["run_id"] == "run-1"
    assert metadata["created_at"].endswith("Z")
    assert metadata["parser"] == {"name": "identity", "version": 1, "min_lines": 0, "scale": None}
    assert metadata["parents"] == []
    assert metadata["concepts"] == [
        {"concept_id": "tide", "name": "Tide", "level": "paragraph", "text": "Water that comes and goes."}
    ]
    attempt = workspace.data.calls.read_attempt(metadata["call_id"], metadata["attempt"])
    assert attempt.outcome["text"] == "Connect Tide.\n"


def test_a_child_records_the_parent_and_the_hash_of_what_it_consumed(workspace):
    make_all(workspace)

    draft, essay = plan_of(workspace, Stage.DRAFT), plan_of(workspace, Stage.ESSAY, "told")
    parent = workspace.data.documents.read(Stage.DRAFT, draft.doc_id)
    child = workspace.data.documents.read(Stage.ESSAY, essay.doc_id)
    assert child.metadata["parent_doc_id"] == draft.doc_id
    assert child.metadata["parents"] == [
        {"stage": "draft", "doc_id": draft.doc_id, "file": "parsed.txt", "blake3": parent.file_blake3("parsed.txt")}
    ]
    assert child.read_text("prompt.txt") == "Retell: Connect Tide.\n"


def test_a_copy_takes_the_parents_text_and_makes_no_call(workspace):
    make(workspace, plan_of(workspace, Stage.DRAFT))
    calls = len(list_attempts(workspace))

    document = make(workspace, plan_of(workspace, Stage.ESSAY, "same"))

    assert document.file_names == ["parsed.txt"]
    assert document.read_bytes("parsed.txt") == b"Connect Tide.\n"
    assert (document.metadata["mode"], document.metadata["call_id"]) == ("copy", None)
    assert len(list_attempts(workspace)) == calls


def test_an_evaluation_holds_its_score_and_where_it_was_read(workspace):
    make_all(workspace)

    plan = plan_of(workspace, Stage.EVALUATION)
    document = workspace.data.documents.read(Stage.EVALUATION, plan.doc_id)
    assert document.read_text("parsed.txt") == "7\n"
    score = document.metadata["score"]
    assert (score["value"], score["scale"], score["line"]) == (7.0, [0.0, 10.0], "SCORE: 7")


def test_no_absolute_path_and_no_key_is_written_anywhere(workspace, tmp_path):
    make_all(workspace)

    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path
            assert b"key-of-the-trial" not in path.read_bytes(), path


# Paid for once


def test_making_again_asks_nobody(workspace, provider):
    make_all(workspace)
    make_all(workspace)

    assert len(provider.requests) == 1


def test_a_deleted_document_is_made_again_from_the_ledger_byte_for_byte(workspace, provider):
    plan = plan_of(workspace, Stage.DRAFT)
    first = make(workspace, plan)
    texts = {name: first.read_bytes(name) for name in first.file_names}
    remove_folder(first.folder)

    again = make(workspace, plan)

    assert {name: again.read_bytes(name) for name in again.file_names} == texts
    assert again.metadata["attempt"] == 1
    assert len(provider.requests) == 1


def remove_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_an_edit_that_renders_to_the_same_prompt_makes_a_new_document_from_the_same_answer(
    workspace, provider, tmp_path
):
    first = make(workspace, plan_of(workspace, Stage.DRAFT))
    write_config(tmp_path / "config", api_base=provider.api_base, draft_text="Connect {{ concepts[0]['name'] }}.\n")
    edited = Workspace(workspace.roots)

    second = make(edited, plan_of(edited, Stage.DRAFT))

    assert first.doc_id != second.doc_id
    assert first.metadata["call_id"] == second.metadata["call_id"]
    assert len(provider.requests) == 1


@pytest.mark.parametrize("finished", [False, True])
def test_an_answer_whose_process_died_before_the_outcome_is_used_and_not_asked_for_again(finished, workspace, provider):
    """The process dies when every byte of the answer is on disk, or (finished) before the document is committed."""
    plan = plan_of(workspace, Stage.DRAFT)
    first = make(workspace, plan)
    attempt = workspace.data.calls.read_attempt(first.metadata["call_id"], 1)
    remove_folder(first.folder)
    if not finished:
        (attempt.folder / "outcome.json").unlink()

    again = make(workspace, plan)

    assert again.read_bytes("raw.txt") == b"Connect Tide.\n"
    assert len(provider.requests) == 1
    assert [attempt.status for attempt in list_attempts(workspace)] == ["ok"]


def test_an_answer_that_was_cut_by_a_kill_is_asked_for_again_and_its_bytes_are_kept(workspace, provider):
    plan = plan_of(workspace, Stage.DRAFT)
    first = make(workspace, plan)
    attempt = workspace.data.calls.read_attempt(first.metadata["call_id"], 1)
    cut = attempt.read_response()[:-5]
    remove_folder(first.folder)
    (attempt.folder / "outcome.json").unlink()
    (attempt.folder / "response.bin").unlink()
    (attempt.folder / "response.bin").write_bytes(cut)

    again = make(workspace, plan)

    assert again.metadata["attempt"] == 2
    assert len(provider.requests) == 2
    assert workspace.data.calls.read_attempt(first.metadata["call_id"], 1).read_response() == cut


def test_nothing_is_lost_when_the_process_dies_between_answer_and_outcome(workspace):
    """The real order: the answer's bytes are on disk before anything interprets them."""
    plan = plan_of(workspace, Stage.DRAFT)

    def ask_and_die(call, transport, *, keep):
        gateway.ask(call, transport, keep=keep)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(workspace, plan, ask=ask_and_die)

    assert make(workspace, plan, ask=refuse_to_ask).read_bytes("raw.txt") == b"Connect Tide.\n"


def refuse_to_ask(*_arguments, **_options):
    raise AssertionError("a model was asked")


# Statuses


def test_a_truncated_answer_is_kept_blocks_its_children_and_is_not_asked_for_again(workspace, provider):
    provider.reply = lambda _: reply_json(make_completion("Half a sent", finish="length"))
    plan = plan_of(workspace, Stage.DRAFT)

    for _ in range(2):
        with pytest.raises(DocumentFailed) as caught:
            make(workspace, plan)

    assert caught.value.status == Status.TRUNCATED
    assert len(provider.requests) == 1
    assert list_attempts(workspace)[0].outcome["text"] == "Half a sent"
    assert diagnose(workspace.data, plan).status is Status.TRUNCATED
    child = diagnose(workspace.data, plan_of(workspace, Stage.EVALUATION))
    assert child.status is Status.SKIPPED
    assert child.reason.startswith("its draft is truncated: max_tokens")


def test_an_answer_that_cannot_be_parsed_is_kept_and_not_asked_for_again(workspace, provider, tmp_path):
    (tmp_path / "config" / "templates.toml").write_text(
        (tmp_path / "config" / "templates.toml")
        .read_text()
        .replace("[draft.plain]", '[draft.plain]\nparser = "essay_block"')
    )
    plan = plan_of(workspace, Stage.DRAFT)

    for _ in range(2):
        with pytest.raises(DocumentFailed) as caught:
            make(workspace, plan)

    assert (caught.value.status, caught.value.stage, caught.value.task_id) == ("parse_error", "draft", plan.task_id)
    assert caught.value.reason.startswith("missing_essay_block")
    assert len(provider.requests) == 1
    assert list_attempts(workspace)[0].outcome["text"] == "Connect Tide.\n"
    diagnosis = diagnose(workspace.data, plan)
    assert (diagnosis.status, diagnosis.reason) == (Status.PARSE_ERROR, caught.value.reason)


def test_a_call_without_an_answer_is_a_gen_error_and_is_tried_again_next_time(workspace, provider, tmp_path):
    write_config(tmp_path / "config", api_base=provider.api_base, settings="retries = 0\n")
    provider.reply = lambda _: Reply(500, b'{"error": {"message": "out of order"}}')
    plan = plan_of(workspace, Stage.DRAFT)

    with pytest.raises(DocumentFailed) as caught:
        make(workspace, plan, run_id="run-1")

    assert caught.value.status == Status.GEN_ERROR
    assert "transport" in caught.value.reason
    assert diagnose(workspace.data, plan).run_id == "run-1"
    provider.reply = lambda _: reply_json(make_completion("Now it works."))
    assert make(workspace, plan).metadata["attempt"] == 2
    assert [attempt.status for attempt in list_attempts(workspace)] == ["gen_error", "ok"]


def test_a_template_that_cannot_be_rendered_fails_before_any_call(workspace, provider, tmp_path):
    write_config(tmp_path / "config", api_base=provider.api_base, draft_text="{{ concepts[3].name }}")
    plan = plan_of(workspace, Stage.DRAFT)

    with pytest.raises(DocumentFailed) as caught:
        make(workspace, plan)

    assert (caught.value.status, caught.value.reason.split(":")[0]) == ("gen_error", "template_error")
    assert provider.requests == []
    assert diagnose(workspace.data, plan).status is Status.GEN_ERROR


def test_a_document_that_was_never_tried_has_no_status(workspace):
    for stage in (Stage.DRAFT, Stage.EVALUATION):
        assert diagnose(workspace.data, plan_of(workspace, stage)).status is None


def test_half_a_surrogate_pair_never_stops_a_document(workspace, provider):
    body = json.dumps(make_completion("PLACE")).replace("PLACE", "a\\ud800b").encode()
    provider.reply = lambda _: Reply(200, body)

    document = make(workspace, plan_of(workspace, Stage.DRAFT))

    assert document.read_text("raw.txt") == "a\ufffdb"
    assert list_attempts(workspace)[0].read_response() == body


def test_newlines_and_marks_of_an_answer_are_stored_as_they_came(workspace, provider):
    text = "\ufeffone\r\ntwo\rthree\n\n  four\u2028five\x00"
    provider.reply = lambda _: reply_json(make_completion(text))

    document = make(workspace, plan_of(workspace, Stage.DRAFT))

    assert document.read_bytes("raw.txt") == document.read_bytes("parsed.txt") == text.encode()


def test_a_reply_without_surrogates_is_encoded_as_it_is():
    assert encode_reply("a😀é\r\n") == "a😀é\r\n".encode()


# Before any call


def test_a_missing_parent_is_an_error_before_any_call(workspace, provider):
    with pytest.raises(DocumentMissing):
        make(workspace, plan_of(workspace, Stage.ESSAY, "told"), ask=refuse_to_ask)


@pytest.mark.parametrize(("name", "error"), [("parsed.txt", DocumentCorrupt), ("metadata.json", DocumentInvalid)])
def test_a_damaged_parent_is_an_error_before_any_call(name, error, workspace):
    parent = make(workspace, plan_of(workspace, Stage.DRAFT))
    path = parent.folder / name
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    with pytest.raises(error):
        make(workspace, plan_of(workspace, Stage.ESSAY, "told"), ask=refuse_to_ask)


def test_a_damaged_document_is_not_made_again(workspace):
    document = make(workspace, plan_of(workspace, Stage.DRAFT))
    (document.folder / "raw.txt").unlink()

    with pytest.raises(DocumentCorrupt):
        make(workspace, plan_of(workspace, Stage.DRAFT), ask=refuse_to_ask)


def test_a_document_of_other_inputs_under_the_same_id_fails_loudly(workspace):
    plan = plan_of(workspace, Stage.DRAFT)
    workspace.data.documents.commit(Stage.DRAFT, plan.doc_id, {"parsed.txt": b"x"}, {"digest": "0" * 64, "inputs": {}})

    with pytest.raises(DigestCollision):
        make(workspace, plan, ask=refuse_to_ask)


# A prompt reused word for word


def test_a_draft_with_a_source_reuses_its_prompt_word_for_word(workspace, provider, tmp_path):
    source = make(workspace, plan_of(workspace, Stage.DRAFT))
    cohort = tmp_path / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text(f'[draft]\nsource_doc_ids = ["{source.doc_id}"]\nmodels = ["echo"]\n')
    reusing = Workspace(workspace.roots)

    document = make(reusing, plan_of(reusing, Stage.DRAFT))

    assert document.read_bytes("prompt.txt") == source.read_bytes("prompt.txt")
    assert document.metadata["parents"][0]["file"] == "prompt.txt"
    assert document.metadata["inputs"]["source_doc_id"] == source.doc_id


def test_a_source_that_is_not_there_is_an_error_before_any_call(workspace, tmp_path):
    cohort = tmp_path / "config" / "cohorts" / f"{COHORT}.toml"
    cohort.write_text('[draft]\nsource_doc_ids = ["0000000000000000"]\nmodels = ["server"]\n')

    with pytest.raises(DocumentMissing):
        make(workspace, plan_of(workspace, Stage.DRAFT), ask=refuse_to_ask)
