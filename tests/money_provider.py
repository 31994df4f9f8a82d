"""A provider that charges: it counts what it answered, and when requests came.

with ChargingProvider() as provider:
    write_paid_config(folder, provider, cohorts={"one": 20})
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.provider_server import ProviderServer, Reply, Request, make_completion, reply_json

PROMPT_TOKENS, COMPLETION_TOKENS = 40, 20
INPUT_USD, OUTPUT_USD = 1000, 2000  # for a million tokens
ANSWER_USD = (PROMPT_TOKENS * INPUT_USD + COMPLETION_TOKENS * OUTPUT_USD) / 1_000_000  # 0.08
CONCEPTS = 24  # 276 pairs


class ChargingProvider(ProviderServer):
    """Answers after `seconds`, with the same usage each time."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        super().__init__()
        self._server.socket.listen(512)  # many connect at once, and none should wait for a second SYN
        self.seconds = seconds
        self.arrivals: list[float] = []
        self.most_at_work = 0
        self._at_work = 0
        self._guard = threading.Lock()
        self.reply = self._charge

    @property
    def charged_usd(self) -> float:
        """What its requests have cost, answered or about to be."""
        return len(self.arrivals) * ANSWER_USD

    def count_most_arrivals(self, seconds: float) -> int:
        """Return how many requests came in the fullest time of so many seconds."""
        times = sorted(self.arrivals)
        return max((sum(start <= time < start + seconds for time in times) for start in times), default=0)

    def _charge(self, request: Request) -> Reply:
        with self._guard:
            self.arrivals.append(time.monotonic())
            self._at_work += 1
            self.most_at_work = max(self.most_at_work, self._at_work)
        time.sleep(self.seconds)  # the work of a model
        with self._guard:
            self._at_work -= 1
        completion = make_completion(str(request.body["messages"][-1]["content"]))
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS}
        return reply_json({**completion, "usage": {**usage, "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS}})


def write_paid_config(folder: Path, api_base: str, *, cohorts: Mapping[str, int], settings: str = "") -> None:
    """Write a config folder with cohorts of so many drafts, all of one model that costs money."""
    names = [f"idea-{number:02d}" for number in range(CONCEPTS)]
    files = {
        "concepts.csv": "concept_id,name\n" + "".join(f"{name},{name.title()}\n" for name in names),
        "models.toml": (
            '[paid]\nmodel = "openai/loopback"\nmax_tokens = 20\nendpoint = "here"\n'
            f'api_base = "{api_base}"\napi_key_env = "TRIAL_KEY"\n'
            f"input_usd_per_million_tokens = {INPUT_USD}\noutput_usd_per_million_tokens = {OUTPUT_USD}\n{settings}\n"
        ),
        "templates.toml": "".join(f"[draft.{cohort}]\n" for cohort in cohorts),
    }
    for cohort, count in cohorts.items():
        files[f"templates/draft/{cohort}.txt"] = f"{cohort}: {{{{ concepts[0].name }}}} and {{{{ concepts[1].name }}}}"
        files[f"cohorts/{cohort}.toml"] = (
            f"[combos]\nconcepts = {names!r}\nsize = 2\nlimit = {count}\n"
            f'[draft]\ntemplates = ["{cohort}"]\nmodels = ["paid"]\n'
        )
    for name, text in files.items():
        path = folder / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
