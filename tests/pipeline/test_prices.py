"""Prices: those of the settings first, never fetched, and what nobody knows is not zero."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.models import Model, load_models
from pipeline.prices import Price, find_batch_price, find_listed_price, find_price
from tests.pipeline.config_folder import write_config


def load_model(folder: Path, model: str, *settings: str) -> Model:
    lines = [f'[one]\nmodel = "{model}"\nmax_tokens = 100', *settings]
    return load_models(write_config(folder, {"models.toml": "\n".join(lines)}), [])["one"]


PRICED = ("input_usd_per_million_tokens = 3", "output_usd_per_million_tokens = 15")


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "local/x.gguf", "echo/x", "openai/nobody-knows"])
def test_the_settings_go_before_everything(model, tmp_path):
    assert find_price(load_model(tmp_path, model, *PRICED)) == Price(3.0, 15.0, "settings")


@pytest.mark.parametrize("model", ["local/x.gguf", "echo/x"])
def test_what_runs_in_this_process_costs_nothing(model, tmp_path):
    price = find_price(load_model(tmp_path, model))

    assert price is not None
    assert (price.is_free, price.source) == (True, "free")


def test_a_known_model_has_the_price_of_the_table(tmp_path):
    price = find_price(load_model(tmp_path, "openai/gpt-4o-mini"))

    assert price is not None
    assert price.source.startswith("litellm 1.")
    assert 0 < price.input_usd < price.output_usd < 100


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("openai/nobody-knows", ()),
        ("anthropic/gpt-4o-mini", ()),  # another provider's model
        ("openai/gpt-4o-mini", ('endpoint = "our-server"',)),
        ("openai/nobody-knows", PRICED[:1]),
    ],
    ids=["unknown", "of another provider", "at an endpoint of one's own", "half a price"],
)
def test_what_nobody_knows_is_unknown_and_not_zero(model, settings, tmp_path):
    assert find_price(load_model(tmp_path, model, *settings)) is None


def test_a_long_prompt_costs_more_where_the_table_says_so():
    price = find_listed_price("gemini/gemini-2.5-pro")

    assert price is not None
    assert price.long_prompt_tokens == 200_000
    assert price.cost_of(200_000, 0) == pytest.approx(0.2 * price.input_usd)
    assert price.cost_of(200_001, 0) > 1.5 * price.cost_of(200_000, 0)


def test_a_price_is_the_same_after_it_was_recorded():
    for price in (find_listed_price("gemini/gemini-2.5-pro"), Price(1.0, 2.0, "settings")):
        assert price is not None
        assert Price.from_record(price.as_record()) == price


def test_a_price_is_found_without_litellm():
    program = (
        "import sys; from pipeline.prices import find_listed_price as find; "
        "assert find('openai/gpt-4o-mini'); assert 'litellm' not in sys.modules; assert 'httpx' not in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# Batches


def test_a_batch_costs_the_price_less_the_discount_of_the_settings(tmp_path):
    model = load_model(tmp_path, "openai/gpt-4o-mini", *PRICED, "batch_discount = 0.25")

    assert find_batch_price(model) == Price(2.25, 11.25, "settings, batch")


def test_a_batch_of_a_listed_model_has_its_listed_price(tmp_path):
    model = load_model(tmp_path, "openai/gpt-4o-mini")
    price, batch_price = find_price(model), find_batch_price(model)

    assert price is not None
    assert batch_price is not None
    assert batch_price.input_usd == pytest.approx(price.input_usd / 2)
    assert batch_price.output_usd == pytest.approx(price.output_usd / 2)
    assert batch_price.source == f"{price.source}, batch"


def test_a_batch_without_a_price_of_its_own_costs_the_full_price(tmp_path):
    model = load_model(tmp_path, "openai/gpt-4o-mini", *PRICED)

    assert find_batch_price(model) == find_price(model)


def test_an_unknown_price_is_unknown_in_a_batch_too(tmp_path):
    assert find_batch_price(load_model(tmp_path, "openai/nobody-knows", "batch_discount = 0.5")) is None


def test_what_is_free_is_free_in_a_batch_too(tmp_path):
    model = load_model(tmp_path, "echo/x", "batch_discount = 0.5")

    assert find_batch_price(model) == find_price(model)
