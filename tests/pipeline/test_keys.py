"""Keys: where they may come from, and every form in which they are found and dropped."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.errors import ConfigInvalid, DocumentFailed, GatewayError
from pipeline.keys import KeyDropper, KeySource, drop_key, drop_keys, holds_key, read_key, read_keys
from pipeline.making import Maker, make_document
from pipeline.settings import Roots
from pipeline.stages import Stage
from pipeline.workspace import Workspace
from tests.pipeline.test_making import COHORT, list_attempts, plan_of, workspace, write_config
from tests.provider_server import Reply

__all__ = ["workspace"]

KEY = 'sk-canary+/"0123456789.abc_XYZ'
ESCAPED = json.dumps(KEY)[1:-1]
FORMS = {
    "plain": KEY,
    "URL-encoded": quote(KEY, safe=""),
    "URL-encoded in small letters": quote(KEY, safe="").replace("%2B", "%2b"),
    "JSON": ESCAPED,
    "JSON with escaped slashes": ESCAPED.replace("/", "\\/"),
    "JSON with codes": "".join(f"\\u{ord(character):04X}" for character in KEY),
    "JSON, half of it codes": KEY[:9] + "".join(f"\\u{ord(character):04x}" for character in KEY[9:]),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a pair": base64.b64encode(f"me:{KEY}\n".encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"x{KEY}".encode()).decode(),
}


def drop_in_pieces(content: bytes, size: int) -> tuple[bytes, int]:
    dropper = KeyDropper(KEY)
    pieces = [dropper.feed(content[start : start + size]) for start in range(0, len(content), size)]
    return b"".join([*pieces, dropper.end()]), dropper.count


# Dropping


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_in_any_form_and_in_any_pieces_becomes_a_mark_of_equal_length(form: str, size: int) -> None:
    content = b'{"before": "' + FORMS[form].encode() + b'", "after": 1}'

    dropped, count = drop_in_pieces(content, size)

    assert count == 1
    assert len(dropped) == len(content)
    assert b"<key***" in dropped
    assert FORMS[form].encode() not in dropped
    assert not any(FORMS[form][start : start + 12].encode() in dropped for start in range(len(FORMS[form]) - 12))
    assert dropped.startswith(b'{"before": "')
    assert dropped.endswith(b'", "after": 1}')


@pytest.mark.parametrize("size", [1, 7, 64])
def test_what_holds_no_key_is_handed_on_unchanged(size: int) -> None:
    content = f"{KEY[:20]} Once, said the sk-can {KEY[3:]} %2 \\u00 ".encode() * 40

    assert drop_in_pieces(content, size) == (content, 0)


def test_a_key_that_was_cut_at_the_end_is_dropped_too() -> None:
    assert drop_in_pieces(b"x" * 900 + KEY[:-1].encode(), 100) == (
        b"x" * 900 + b"<key".ljust(len(KEY) - 2, b"*") + b">",
        1,
    )


def test_a_body_keeps_its_structure_so_that_it_can_still_be_read() -> None:
    body = json.dumps({"model": KEY, "choices": [f"Your key is {KEY}."]}).encode()

    read = json.loads(drop_key(body, KEY))

    assert read["choices"][0].startswith("Your key is <key")
    assert KEY not in str(read)


def test_a_short_key_of_a_local_server_is_no_secret() -> None:
    assert drop_key(b"x marks the spot", "x") == b"x marks the spot"
    assert KeyDropper("x").feed(b"x") == b"x"
    assert not holds_key("x marks the spot", ["x"])


def test_plain_json_loses_keys_in_texts_and_names_and_nothing_else() -> None:
    value = {"a": [f"<{KEY}>", 7, None, True], KEY: {"b": 1.5}, "c": "Once"}

    dropped = drop_keys(value, [KEY])

    assert holds_key(value, [KEY])
    assert not holds_key(dropped, [KEY])
    assert dropped["a"][1:] == [7, None, True]
    assert dropped["c"] == "Once"


# Reading


def write_key(folder: Path, content: str, *, mode: int = 0o600) -> KeySource:
    path = folder / "my.key"
    path.write_text(content)
    path.chmod(mode)
    return KeySource(file=str(path))


def problem_of(source: KeySource) -> str:
    with pytest.raises(GatewayError) as caught:
        read_key(source)
    assert caught.value.reason == "auth"
    assert KEY not in str(caught.value)
    return str(caught.value)


def test_a_key_is_read_from_a_file_without_its_newline(tmp_path: Path) -> None:
    assert read_key(write_key(tmp_path, f"{KEY}\n")) == KEY


def test_a_variable_goes_before_a_file_and_none_of_both_is_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_key(tmp_path, "from-the-file")._replace(variable="MY_KEY")
    assert read_key(source) == "from-the-file"

    monkeypatch.setenv("MY_KEY", "from-the-variable")
    assert read_key(source) == "from-the-variable"
    assert read_key(KeySource()) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    problem = problem_of(write_key(tmp_path, KEY, mode=mode))

    assert f"its mode is {mode:o}" in problem
    assert "chmod 600" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not set or empty"),
        ("\n", "not set or empty"),
        (f"KEY={KEY}\nOTHER={KEY}\n", "can be no key"),
        (f"my {KEY}", "can be no key"),
        (f"ключ{KEY}", "can be no key"),
    ],
)
def test_what_can_be_no_key_is_refused_without_being_shown(tmp_path: Path, content: str, message: str) -> None:
    assert message in problem_of(write_key(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.key cannot be read: No such file" in problem_of(KeySource(file=str(tmp_path / "none.key")))
    assert "cannot be read: Is a directory" in problem_of(KeySource(file=str(tmp_path)))


def test_keys_that_cannot_be_read_or_are_no_secrets_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT_KEY", "x")
    sources = [KeySource("SHORT_KEY"), KeySource("NO_SUCH_KEY"), KeySource(), write_key(tmp_path, KEY)]

    assert read_keys(sources) == {KEY}


# A key file and the project


def mistakes_with_file(tmp_path: Path, path: object) -> str:
    write_config(tmp_path / "project" / "config", settings=f'api_key_file = "{path}"\n')
    try:
        configuration = open_workspace(tmp_path).configuration
    except ConfigInvalid as error:
        return str(error)
    assert configuration.models["server"].transport.api_key_file == str(path)
    return ""


def open_workspace(tmp_path: Path) -> Workspace:
    return Workspace(Roots(tmp_path / "elsewhere" / "data", tmp_path / "project" / "config"))


def test_a_key_file_outside_of_the_project_is_taken(tmp_path: Path) -> None:
    assert mistakes_with_file(tmp_path, tmp_path / "keys" / "my.key") == ""
    assert mistakes_with_file(tmp_path, "~/.config/daybook/my.key") == ""


def test_a_key_file_in_the_config_the_data_or_their_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "way").symlink_to(tmp_path / "project")

    for path in ("project/config/my.key", "elsewhere/data/my.key", "project/my.key", "way/my.key", "x/../project/k"):
        mistakes = mistakes_with_file(tmp_path, tmp_path / path)
        assert "which is part of the project. Expected a file outside" in mistakes, path
        assert "models.toml, line 5" in mistakes


@pytest.mark.parametrize("path", ["my.key", "../my.key", KEY.replace('"', "")])
def test_a_path_that_is_not_whole_is_refused_without_being_shown(tmp_path: Path, path: str) -> None:
    mistakes = mistakes_with_file(tmp_path, path)

    assert "api_key_file is no whole path" in mistakes
    assert path not in mistakes.replace("my.key", "") or path.endswith("my.key")


# Prompts


def test_a_prompt_with_a_key_of_any_model_is_refused_before_it_is_sent(workspace, provider, tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", KEY)
    models = tmp_path / "config" / "models.toml"
    models.write_text(
        models.read_text() + '[other]\nmodel = "openai/other"\nmax_tokens = 5\napi_key_env = "OTHER_KEY"\n'
    )
    (tmp_path / "config" / "concepts" / "paragraph" / "tide.txt").write_text("Water.\n")
    (tmp_path / "config" / "templates" / "draft" / "plain.txt").write_text(
        f"Connect {KEY} with {{{{ concepts[0].name }}}}."
    )
    plan = plan_of(workspace, Stage.DRAFT)

    with pytest.raises(DocumentFailed, match="key_in_prompt") as caught:
        make_document(workspace.maker, plan, cohort=COHORT)

    (attempt,) = list_attempts(workspace)
    assert provider.requests == []
    assert KEY not in str(caught.value)
    assert attempt.read_request()["messages"][0]["content"].startswith("Connect <key*")
    assert (attempt.outcome["reason"], attempt.outcome["sent"], attempt.outcome["cost"]["usd"]) == (
        "key_in_prompt", None, 0.0,
    )  # fmt: skip
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []

    monkeypatch.setenv("OTHER_KEY", "another-key")
    assert make_document(workspace.maker, plan, cohort=COHORT).metadata["attempt"] == 2


def test_a_key_in_a_parameter_is_refused_like_one_in_a_prompt(workspace, provider, tmp_path):
    models = tmp_path / "config" / "models.toml"
    models.write_text(models.read_text().replace("[echo]", 'extra_body = { user = "key-of-the-trial" }\n[echo]'))

    with pytest.raises(DocumentFailed, match="key_in_prompt"):
        make_document(Maker(workspace.data), plan_of(workspace, Stage.DRAFT), cohort=COHORT)

    assert provider.requests == []


# Answers


@pytest.mark.parametrize("form", ["plain", "JSON with codes", "base64 of a header"])
def test_an_answer_with_the_key_is_paid_for_and_kept_without_it(form, workspace, provider, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIAL_KEY", KEY)
    completion = {"choices": [{"finish_reason": "stop", "message": {"content": "Your key: MARK. Once."}}]}
    form_in_json = FORMS[form] if "JSON" in form else json.dumps(FORMS[form])[1:-1]
    body = json.dumps(completion).replace("MARK", form_in_json).encode()
    provider.reply = lambda _: Reply(body=body)

    document = make_document(workspace.maker, plan_of(workspace, Stage.DRAFT), cohort=COHORT)

    (attempt,) = list_attempts(workspace)
    kept = attempt.read_response()
    assert kept is not None
    assert len(kept) == len(body)
    assert KEY not in str(json.loads(kept))
    assert attempt.outcome["dropped_keys"] == 1
    text = document.read_text("raw.txt")
    assert text.startswith("Your key: ")
    assert text.endswith(". Once.")
    assert "<key***" in text
