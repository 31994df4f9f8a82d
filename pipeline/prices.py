"""Prices: what a million tokens of a model cost. Never fetched; a price that nobody knows is None, never zero.

    find_price(model)    1. its settings in models.toml
                         2. zero, for models inside this process and the echo
                         3. the price table in litellm's package, for models without an endpoint of one's own
       (what the provider itself reports as the cost of an answer goes before the table; see spending)

    find_batch_price(model)    less for calls that are submitted as a batch

litellm is not imported for it: that takes four seconds, and the table is one JSON file.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import InputInvalid
from pipeline.models import PRICE_KEYS, SETTINGS_FILE, Model

FROM_SETTINGS, FREE = "settings", "free"
FREE_PROVIDERS = ("local", "echo")
MILLION = 1_000_000
TABLE_FILE = "model_prices_and_context_window_backup.json"
_LONG_PROMPT_KEY = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens.

    Some models cost more where the prompt is longer than `long_prompt_tokens`, and less for the part of a prompt that
    the provider has read before. Without a price for that part it costs as much as the rest.
    """

    input_usd: float
    output_usd: float
    source: str  # "settings", "free", or the release of litellm whose table it is from: "litellm 1.106.2"
    long_prompt_tokens: int | None = None
    long_input_usd: float | None = None
    long_output_usd: float | None = None
    cached_input_usd: float | None = None
    long_cached_input_usd: float | None = None

    def cost_of(self, prompt_tokens: float, completion_tokens: float, *, cached_tokens: float = 0) -> float:
        """Return the cost in US dollars; `cached_tokens` are a part of the prompt's."""
        input_usd, output_usd, cached_usd = self.input_usd, self.output_usd, self.cached_input_usd
        if self.long_prompt_tokens is not None and prompt_tokens > self.long_prompt_tokens:
            input_usd = self.input_usd if self.long_input_usd is None else self.long_input_usd
            output_usd = self.output_usd if self.long_output_usd is None else self.long_output_usd
            cached_usd = self.long_cached_input_usd
        cached_tokens = min(cached_tokens, prompt_tokens) if cached_usd is not None else 0
        prompt_usd = (prompt_tokens - cached_tokens) * input_usd + cached_tokens * (cached_usd or 0.0)
        return (prompt_usd + completion_tokens * output_usd) / MILLION

    def reduce(self, factor: float, *, source: str) -> Price:
        """Return the price times a factor."""
        long = (None if usd is None else usd * factor for usd in (self.long_input_usd, self.long_output_usd))
        return Price(self.input_usd * factor, self.output_usd * factor, source, self.long_prompt_tokens, *long)

    @property
    def is_free(self) -> bool:
        return self.input_usd == self.output_usd == 0

    def as_record(self) -> dict[str, Any]:
        """Return the price as request.json keeps it, so that a later price does not rewrite what was paid."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Price | None:
        return cls(**record) if record else None


def find_price(model: Model) -> Price | None:
    """Return the model's price; None if it is not known."""
    settings = model.input_usd_per_million_tokens, model.output_usd_per_million_tokens
    if settings[0] is not None and settings[1] is not None:
        return Price(settings[0], settings[1], FROM_SETTINGS)
    provider = model.model.partition("/")[0]
    if provider in FREE_PROVIDERS:
        return Price(0.0, 0.0, FREE)
    if model.endpoint is not None:
        return None  # somebody else's server, whatever its model is called
    return find_listed_price(model.model)


@functools.cache
def find_listed_price(model: str) -> Price | None:
    """Return the price in litellm's table; None for a model that is not there, or there without a price."""
    entry = _find_entry(model)
    input_usd, output_usd = (entry.get(f"{kind}_cost_per_token") for kind in ("input", "output"))
    if not isinstance(input_usd, int | float) or not isinstance(output_usd, int | float):
        return None
    if input_usd == output_usd == 0:
        return None  # such entries are of models whose price nobody has entered
    source = f"litellm {importlib.metadata.version('litellm')}"
    rest = _find_long_prompt_price(entry) | _find_cached_price(entry, "cache_read_input_token_cost", "cached_input_usd")
    return Price(input_usd * MILLION, output_usd * MILLION, source, **rest)


def find_batch_price(model: Model) -> Price | None:
    """Return the model's price in a batch; None if its price is not known.

    Less batch_discount of its settings, else the listed price for batches, else the full price: rather too high.
    """
    price = find_price(model)
    if price is None or price.is_free:
        return price
    source = f"{price.source}, batch"
    if model.batch_discount is not None:
        return price.reduce(1 - model.batch_discount, source=source)
    entry = {} if price.source == "settings" else _find_entry(model.model)
    input_usd, output_usd = (entry.get(f"{kind}_cost_per_token_batches") for kind in ("input", "output"))
    if not isinstance(input_usd, int | float) or not isinstance(output_usd, int | float):
        return price
    return replace(price, input_usd=input_usd * MILLION, output_usd=output_usd * MILLION, source=source)


def _find_entry(model: str) -> Mapping[str, Any]:
    """Return what litellm's table has of a model; {} if nothing."""
    table = _read_table()
    provider, _, name = model.partition("/")
    entry = table.get(model)
    if entry is None and table.get(name, {}).get("litellm_provider") == provider:
        entry = table[name]
    return entry or {}


def _find_long_prompt_price(entry: Mapping[str, Any]) -> dict[str, Any]:
    for key in entry:
        if match := _LONG_PROMPT_KEY.fullmatch(key):
            output = entry.get(key.replace("input", "output", 1))
            return {
                "long_prompt_tokens": int(match[1]) * 1000,
                "long_input_usd": entry[key] * MILLION,
                "long_output_usd": None if output is None else output * MILLION,
                **_find_cached_price(
                    entry, f"cache_read_input_token_cost_above_{match[1]}k_tokens", "long_cached_input_usd"
                ),
            }
    return {}


def _find_cached_price(entry: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    usd = entry.get(key)
    return {name: usd * MILLION} if isinstance(usd, int | float) and usd >= 0 else {}


@functools.cache
def _read_table() -> dict[str, Any]:
    """Return litellm's table of prices; {} if litellm is not installed or has none."""
    found = importlib.util.find_spec("litellm")
    for folder in (found.submodule_search_locations or ()) if found else ():
        try:
            table = json.loads((Path(folder) / TABLE_FILE).read_bytes())
        except (OSError, ValueError):
            continue
        return table if isinstance(table, dict) else {}
    return {}


class PriceUnknown(InputInvalid):
    """A budget in dollars needs prices."""

    def __init__(self, model: Model) -> None:
        self.model_id = model.model_id
        super().__init__(
            f"No price is known for model {model.model_id!r} ({model.model}), so a budget in dollars cannot be kept. "
            f"Add {' and '.join(f'{key} = …' for key in PRICE_KEYS)} to [{model.model_id}] in {SETTINGS_FILE}, "
            "or give a budget in tokens: --budget-tokens."
        )
