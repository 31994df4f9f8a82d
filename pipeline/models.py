"""Models: a model string, the parameters it is asked with, and how it is reached.

    config/models.toml   [<model_id>]  model = "local/smollm2-135m-instruct", max_tokens = 300, temperature = 0.7, …

Every setting is part of the identity of what the model writes, unless it is listed as transport or as
for people: a deny-list, so that a setting added tomorrow cannot be forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Problem
from pipeline.gateway import Transport
from pipeline.limits import Limits
from pipeline.toml_file import Table, TomlFile, check_config_id
from store.errors import ValueNotEncodable
from store.identity import Encoded, encode_canonically, encode_once

SETTINGS_FILE = "models.toml"

# What the model is asked with, in the request and in the identity.
NUMBER_PARAMETERS = (
    "temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repeat_penalty",
)  # fmt: skip
INTEGER_PARAMETERS = ("top_k", "seed")
OTHER_PARAMETERS = ("stop", "reasoning_effort", "extra_body")
PARAMETERS = ("max_tokens", *NUMBER_PARAMETERS, *INTEGER_PARAMETERS, *OTHER_PARAMETERS)

# How the model is reached; none of it can change what it writes.
TRANSPORT_KEYS = tuple(field.name for field in fields(Transport))
LIMIT_KEYS = tuple(field.name for field in fields(Limits))
PRICE_KEYS = ("input_usd_per_million_tokens", "output_usd_per_million_tokens")
BATCH_KEYS = ("batch_discount",)
PEOPLE_KEYS = ("label", "description")
VARIABLE_FORM = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# The fields of Model that are no part of an identity. A test fails for a field that is in neither list.
NOT_IDENTITY = frozenset({"model_id", "transport", "limits", "label", "description", *PRICE_KEYS, *BATCH_KEYS})


class Project(NamedTuple):
    """The folders whose content is shown, copied or committed: no key may lie in one of them."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, config_root: Path, data_root: Path | None) -> Project:
        config = config_root.resolve()
        repositories = [folder for folder in (config, *config.parents) if (folder / ".git").exists()]
        return cls((config, *repositories, *([] if data_root is None else [data_root.resolve()])))

    def find_around(self, path: Path) -> Path | None:
        """Return the folder of the project that a path lies in."""
        return next((folder for folder in self.folders if path.resolve().is_relative_to(folder)), None)


@dataclass(frozen=True)
class Model:
    """`params` holds the parameters that are set, max_tokens always among them."""

    model_id: str
    model: str
    endpoint: str | None
    params: Mapping[str, Any]
    transport: Transport
    limits: Limits
    label: str
    description: str
    input_usd_per_million_tokens: float | None
    output_usd_per_million_tokens: float | None
    batch_discount: float | None = None  # of the price, in a batch: 0.5 is half

    @cached_property
    def inputs(self) -> Encoded:
        """What of the model is part of an identity: every field that is not in NOT_IDENTITY."""
        names = [field.name for field in fields(self) if field.name not in NOT_IDENTITY]
        return encode_once({name: getattr(self, name) for name in names})

    def params_of_replicate(self, replicate: int) -> dict[str, Any]:
        """Return the parameters to send: replicate r is sent seed + r - 1, so replicates are independent samples."""
        params = dict(self.params)
        if "seed" in params:
            params["seed"] += replicate - 1
        return params


def load_models(config_root: Path, problems: list[Problem], *, data_root: Path | None = None) -> dict[str, Model]:
    """Return {model_id: Model} in file order."""
    project = Project.of(config_root, data_root)
    file = TomlFile.read(config_root / SETTINGS_FILE, name=SETTINGS_FILE, problems=problems)
    return {
        model_id: _read_model(model_id, table, project)
        for model_id, table in file.tables()
        if check_config_id(file, table.place, "model", model_id)
    }


def _read_model(model_id: str, table: Table, project: Project) -> Model:
    table.check_keys(
        ("model", "endpoint", *PARAMETERS, *TRANSPORT_KEYS, *LIMIT_KEYS, *PRICE_KEYS, *BATCH_KEYS, *PEOPLE_KEYS)
    )
    model = table.text("model", required=True)
    _check_model_string(model, table)
    endpoint = table.text("endpoint") or None
    if "api_base" in table.data and endpoint is None:
        table.report("api_base", "api_base is set without an endpoint. Expected endpoint = a name of your own for it.")
    return Model(
        model_id,
        model,
        endpoint,
        _read_params(table),
        _read_transport(table, project),
        Limits(**{key: table.integer(key, low=1, default=1) for key in LIMIT_KEYS if key in table.data}),
        label=table.text("label", default=model_id),
        description=table.text("description"),
        input_usd_per_million_tokens=table.number(PRICE_KEYS[0], low=0),
        output_usd_per_million_tokens=table.number(PRICE_KEYS[1], low=0),
        batch_discount=_read_discount(table),
    )


def _read_discount(table: Table) -> float | None:
    discount = table.number("batch_discount", low=0)
    if discount is not None and discount > 1:
        table.report("batch_discount", f"batch_discount is {discount!r}. Expected a part of the price, from 0 to 1.")
        return None
    return discount


def _check_model_string(model: str, table: Table) -> None:
    provider, _, name = model.partition("/")
    expected = "Expected provider/name, such as openai/gpt-4o-mini, local/smollm2-135m-instruct or echo/anything."
    if "model" in table.data and not (provider and name):
        table.report("model", f"model is {model!r}. {expected}")


def _read_params(table: Table) -> dict[str, Any]:
    params: dict[str, Any] = {"max_tokens": table.integer("max_tokens", required=True, low=1, default=1)}
    for key in NUMBER_PARAMETERS:
        if (value := table.number(key)) is not None:
            params[key] = value
    for key in INTEGER_PARAMETERS:
        if key in table.data:
            params[key] = table.integer(key)
    if "stop" in table.data:
        params["stop"] = table.names("stop")
    if "reasoning_effort" in table.data:
        params["reasoning_effort"] = table.text("reasoning_effort")
    if "extra_body" in table.data:
        params["extra_body"] = _read_extra_body(table)
    return params


def _read_extra_body(table: Table) -> dict[str, Any]:
    value = table.data["extra_body"]
    try:
        encode_canonically(value)
    except ValueNotEncodable as error:
        table.report("extra_body", str(error))
        return {}
    if not isinstance(value, dict):
        table.report("extra_body", f"extra_body is {value!r}. Expected a table.")
        return {}
    return value


def _read_transport(table: Table, project: Project) -> Transport:
    given: dict[str, Any] = {}
    for key in TRANSPORT_KEYS:
        if key not in table.data:
            continue
        if key in ("api_base", "api_key_env", "api_key_file"):
            given[key] = table.text(key)
        elif key.endswith("_seconds"):
            given[key] = table.number(key, low=0 if key == "backoff_seconds" else 1)
        else:
            low = 0 if key in ("threads", "retries") else 1
            given[key] = table.integer(key, default=getattr(Transport(), key), low=low)
    _check_key_name(given.get("api_key_env"), table)
    _check_key_file(given.get("api_key_file"), table, project)
    return Transport(**{key: value for key, value in given.items() if value is not None})


def _check_key_name(name: str | None, table: Table) -> None:
    """Report what cannot be the name of a variable, without its value: it may be a key, and messages go into logs."""
    if name is not None and not VARIABLE_FORM.fullmatch(name):
        expected = "Expected the NAME of an environment variable, such as OPENAI_API_KEY; a key never stands here."
        table.report("api_key_env", f"api_key_env is no name of a variable. {expected}")


def _check_key_file(name: str | None, table: Table, project: Project) -> None:
    """Report a file that cannot be the place of a key; it is not opened before a model is asked."""
    if name is None:
        return
    expected = "Expected a file outside of the project, from / or ~ on, such as ~/.config/daybook/openai.key."
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # ~ of a user that there is not
        path = Path(name)
    if not path.is_absolute():
        table.report("api_key_file", f"api_key_file is no whole path. {expected}")  # without the value: see above
    elif (folder := project.find_around(path)) is not None:
        table.report("api_key_file", f"api_key_file lies in {folder}, which is part of the project. {expected}")
