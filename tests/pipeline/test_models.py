"""Models: every setting is part of the identity or named as not, and every mistake is found."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pipeline import models as reader
from pipeline.errors import Problem
from pipeline.gateway import Transport
from pipeline.models import Model, load_models
from store.identity import encode_canonically
from tests.pipeline.config_folder import Files, write_config

# Every key of models.toml, with another value than BASE has. A key in neither table fails a test below.
BASE = 'model = "echo/small"\nmax_tokens = 400\n'
IDENTITY_KEYS = {
    "model": '"echo/other"',
    "endpoint": '"gpu-1"',
    "max_tokens": "401",
    "temperature": "0.5",
    "top_p": "0.5",
    "top_k": "5",
    "min_p": "0.5",
    "seed": "5",
    "stop": '["END"]',
    "frequency_penalty": "-0.5",
    "presence_penalty": "0.5",
    "repeat_penalty": "1.5",
    "reasoning_effort": '"low"',
    "extra_body": "{ chat_template_kwargs = { enable_thinking = false } }",
}
OTHER_KEYS = {
    "api_base": '"http://gpu-1:8000/v1"',
    "api_key_env": '"MY_KEY"',
    "api_key_file": '"/keys/mine.key"',
    "timeout_seconds": "5",
    "connect_seconds": "5",
    "deadline_seconds": "50",
    "retries": "2",
    "backoff_seconds": "0.5",
    "context_tokens": "512",
    "threads": "2",
    "slots": "4",
    "input_usd_per_million_tokens": "1.25",
    "output_usd_per_million_tokens": "10",
    "batch_discount": "0.5",
    "requests_per_minute": "60",
    "tokens_per_minute": "100000",
    "concurrency": "8",
    "label": '"Small"',
    "description": '"The small one."',
}
MODEL_IDENTITY_FIELDS = {"model", "endpoint", "params"}
MODEL_OTHER_FIELDS = {
    "model_id", "transport", "limits", "label", "description",
    "input_usd_per_million_tokens", "output_usd_per_million_tokens", "batch_discount",
}  # fmt: skip
TRANSPORT_FIELDS = {
    "api_base", "api_key_env", "api_key_file", "timeout_seconds", "context_tokens", "threads", "slots",
    "connect_seconds", "deadline_seconds", "retries", "backoff_seconds",
}  # fmt: skip


def load_changed_models(folder: Path, changes: Files) -> tuple[dict[str, Model], list[str]]:
    """Return the models and the mistakes of a changed config folder."""
    problems: list[Problem] = []
    models = load_models(write_config(folder, changes), problems)
    return models, [str(problem) for problem in problems]


def load_one(folder: Path, settings: str) -> Model:
    """Return the model with these settings; there may be no mistake."""
    models, problems = load_changed_models(folder, {"models.toml": f"[one]\n{settings}"})
    assert not problems
    return models["one"]


def mistakes_of(folder: Path, settings: str) -> list[str]:
    return load_changed_models(folder, {"models.toml": f"[one]\n{settings}"})[1]


def with_key(key: str, value: str) -> str:
    """Return BASE with a key set, in place of the one that is there."""
    kept = [line for line in BASE.splitlines() if not line.startswith(f"{key} ")]
    return "\n".join([*kept, f"{key} = {value}"]) + "\n"


# What is part of the identity


def test_every_field_of_a_model_is_classified() -> None:
    assert {field.name for field in fields(Model)} == MODEL_IDENTITY_FIELDS | MODEL_OTHER_FIELDS
    assert not MODEL_IDENTITY_FIELDS & MODEL_OTHER_FIELDS


def test_every_field_of_a_transport_is_classified_as_no_identity() -> None:
    assert {field.name for field in fields(Transport)} == TRANSPORT_FIELDS
    assert set(OTHER_KEYS) >= TRANSPORT_FIELDS


def test_every_key_of_models_toml_is_classified(tmp_path: Path) -> None:
    (problem,) = mistakes_of(tmp_path / "one", f"{BASE}zzz = 1\n")

    assert "unknown key 'zzz'. Known: " in problem
    all_keys = "".join(f"{key} = {value}\n" for key, value in (IDENTITY_KEYS | OTHER_KEYS).items())
    assert mistakes_of(tmp_path / "all", all_keys) == []
    assert set(load_one(tmp_path / "same", all_keys).params) == set(IDENTITY_KEYS) - {"model", "endpoint"}
    assert {*IDENTITY_KEYS, *OTHER_KEYS} == list_known_keys()


def list_known_keys() -> set[str]:
    """Return every key that models.toml takes: those that the reader's own lists name."""
    transport = {*reader.TRANSPORT_KEYS, *reader.LIMIT_KEYS}
    money = {*reader.PRICE_KEYS, *reader.BATCH_KEYS}
    return {"model", "endpoint", *reader.PARAMETERS, *transport, *money, *reader.PEOPLE_KEYS}


def test_the_identity_holds_the_model_string_the_endpoint_and_the_parameters_that_are_set(tmp_path: Path) -> None:
    model = load_one(tmp_path, BASE + "temperature = 1\n")

    assert model.inputs.value == {
        "model": "echo/small",
        "endpoint": None,
        "params": {"max_tokens": 400, "temperature": 1.0},
    }


@pytest.mark.parametrize(("key", "value"), IDENTITY_KEYS.items())
def test_these_settings_change_the_identity(tmp_path: Path, key: str, value: str) -> None:
    plain = load_one(tmp_path / "plain", BASE)
    changed = load_one(tmp_path / "changed", with_key(key, value))

    assert encode_canonically(changed.inputs.value) != encode_canonically(plain.inputs.value)


@pytest.mark.parametrize(("key", "value"), OTHER_KEYS.items())
def test_these_settings_do_not_change_the_identity(tmp_path: Path, key: str, value: str) -> None:
    base = BASE + 'endpoint = "gpu-1"\n'  # api_base needs one
    plain = load_one(tmp_path / "plain", base)
    changed = load_one(tmp_path / "changed", f"{base}{key} = {value}\n")

    assert changed != plain
    assert changed.inputs.value == plain.inputs.value


def test_a_whole_number_and_its_fraction_are_one_setting(tmp_path: Path) -> None:
    whole = load_one(tmp_path / "whole", BASE + "temperature = 1\n")
    fraction = load_one(tmp_path / "fraction", BASE + "temperature = 1.0\n")

    assert encode_canonically(whole.inputs.value) == encode_canonically(fraction.inputs.value)


def test_the_order_of_settings_is_no_part_of_the_identity(tmp_path: Path) -> None:
    lines = [f"{key} = {value}" for key, value in IDENTITY_KEYS.items()]
    forwards = load_one(tmp_path / "forwards", "\n".join(lines))
    backwards = load_one(tmp_path / "backwards", "\n".join(reversed(lines)))

    assert encode_canonically(forwards.inputs.value) == encode_canonically(backwards.inputs.value)


# Settings


def test_a_setting_that_is_absent_is_not_sent(tmp_path: Path) -> None:
    model = load_one(tmp_path, BASE)

    assert model.params == {"max_tokens": 400}
    assert model.transport == Transport()
    assert (model.label, model.description) == ("one", "")
    assert (model.input_usd_per_million_tokens, model.output_usd_per_million_tokens) == (None, None)


def test_every_setting_is_read(tmp_path: Path) -> None:
    model = load_one(tmp_path, "".join(f"{key} = {value}\n" for key, value in (IDENTITY_KEYS | OTHER_KEYS).items()))

    assert (model.model_id, model.model, model.endpoint) == ("one", "echo/other", "gpu-1")
    assert model.params == {
        "max_tokens": 401,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "min_p": 0.5,
        "seed": 5,
        "stop": ["END"],
        "frequency_penalty": -0.5,
        "presence_penalty": 0.5,
        "repeat_penalty": 1.5,
        "reasoning_effort": "low",
        "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
    }
    assert model.transport == Transport("http://gpu-1:8000/v1", "MY_KEY", 5, 512, 2, 4, 5, 50, 2, 0.5, "/keys/mine.key")
    assert (model.input_usd_per_million_tokens, model.output_usd_per_million_tokens) == (1.25, 10)
    assert model.batch_discount == 0.5
    assert (model.label, model.description) == ("Small", "The small one.")


def test_each_replicate_is_sent_a_seed_of_its_own(tmp_path: Path) -> None:
    model = load_one(tmp_path, BASE + "seed = 11\n")

    assert [model.params_of_replicate(replicate)["seed"] for replicate in (1, 2, 3)] == [11, 12, 13]
    assert model.params["seed"] == 11


def test_without_a_seed_none_is_sent(tmp_path: Path) -> None:
    assert load_one(tmp_path, BASE).params_of_replicate(2) == {"max_tokens": 400}


# Mistakes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("temprature = 1", "unknown key 'temprature'. Did you mean 'temperature'?"),
        ("api_key = 'x'", "unknown key 'api_key'. Did you mean 'api_key_env'?"),
        ("temperature = '1'", "temperature is '1'. Expected a number."),
        ("temperature = true", "temperature is True. Expected a number."),
        ("temperature = nan", "temperature is nan. Expected a number."),
        ("top_p = inf", "top_p is inf. Expected a number."),
        ("top_k = 1.5", "top_k is 1.5. Expected a whole number of at least 0."),
        ("seed = -1", "seed is -1. Expected a whole number of at least 0."),
        ("stop = 'END'", "stop is 'END'. Expected a list of names"),
        ("stop = [1]", "stop is [1]. Expected a list of names"),
        ("reasoning_effort = 1", "reasoning_effort is 1. Expected a text in quotes."),
        ("extra_body = 'x'", "extra_body is 'x'. Expected a table."),
        ("extra_body = { a = nan }", "inputs.a is nan (float), which has no canonical encoding."),
        ("extra_body = { a = 2024-01-01 }", "inputs.a is datetime.date(2024, 1, 1) (date), which has no canonical"),
        ("endpoint = 1", "endpoint is 1. Expected a text in quotes."),
        ("api_base = 'http://x'", "api_base is set without an endpoint. Expected endpoint = a name of your own"),
        ("batch_discount = 50", "batch_discount is 50.0. Expected a part of the price, from 0 to 1."),
        ("batch_discount = -1", "batch_discount is -1. Expected a number of at least 0."),
        ("timeout_seconds = 0", "timeout_seconds is 0. Expected a number of at least 1."),
        ("context_tokens = 0", "context_tokens is 0. Expected a whole number of at least 1."),
        ("threads = -1", "threads is -1. Expected a whole number of at least 0."),
        ("slots = 0", "slots is 0. Expected a whole number of at least 1."),
        ("input_usd_per_million_tokens = -1", "input_usd_per_million_tokens is -1. Expected a number of at least 0."),
        (
            "output_usd_per_million_tokens = 'x'",
            "output_usd_per_million_tokens is 'x'. Expected a number of at least 0.",
        ),
        ("label = 1", "label is 1. Expected a text in quotes."),
        ("description = 1", "description is 1. Expected a text in quotes."),
    ],
)
def test_a_wrong_setting_is_reported_at_its_line(tmp_path: Path, line: str, message: str) -> None:
    problems = mistakes_of(tmp_path, f"{BASE}{line}\n")

    assert len(problems) == 1
    assert problems[0].startswith(f"models.toml, line 4: {message}")


@pytest.mark.parametrize("model", ["", "gpt-4o", "/gpt-4o", "openai/"])
def test_a_model_string_names_provider_and_model(tmp_path: Path, model: str) -> None:
    assert mistakes_of(tmp_path, f'model = "{model}"\nmax_tokens = 1\n') == [
        f"models.toml, line 2: model is {model!r}. Expected provider/name, such as openai/gpt-4o-mini, "
        "local/smollm2-135m-instruct or echo/anything."
    ]


def test_model_and_max_tokens_are_required(tmp_path: Path) -> None:
    assert mistakes_of(tmp_path, "") == [
        "models.toml, line 1: the key 'model' is missing. Expected model = a text in quotes.",
        "models.toml, line 1: the key 'max_tokens' is missing. Expected max_tokens = a whole number of at least 1.",
    ]


def test_max_tokens_is_at_least_one(tmp_path: Path) -> None:
    assert mistakes_of(tmp_path, 'model = "echo/x"\nmax_tokens = 0\n') == [
        "models.toml, line 3: max_tokens is 0. Expected a whole number of at least 1."
    ]


def test_a_key_in_place_of_the_name_of_a_variable_is_refused_without_showing_it(tmp_path: Path) -> None:
    (problem,) = mistakes_of(tmp_path, f'{BASE}api_key_env = "sk-12345"\n')

    assert "models.toml, line 4: api_key_env is no name of a variable. Expected the NAME of an environment" in problem
    assert "12345" not in problem


def test_an_endpoint_that_is_declared_may_have_an_address(tmp_path: Path) -> None:
    assert mistakes_of(tmp_path, f'{BASE}api_base = "http://x"\nendpoint = "x"\n') == []


def test_an_id_that_cannot_be_one_is_reported(tmp_path: Path) -> None:
    models, problems = load_changed_models(tmp_path, {"models.toml": f'["a b"]\n{BASE}["gemini_2.5"]\n{BASE}'})

    assert list(models) == ["gemini_2.5"]
    assert len(problems) == 1
    assert problems[0].startswith("models.toml, line 1: 'a b' is not a model id. Expected letters, digits")


@pytest.mark.parametrize("text", ["one = 3\n", f"[[one]]\n{BASE}"])
def test_what_should_be_a_table_and_is_none_is_reported(tmp_path: Path, text: str) -> None:
    problems = load_changed_models(tmp_path, {"models.toml": text})[1]

    assert problems[0].startswith("models.toml, line 1: one is ")
    assert problems[0].endswith("Expected a table.")


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    assert load_changed_models(tmp_path, {"models.toml": None}) == ({}, ["models.toml: the file does not exist."])
