"""Admission: what stands between a document that is to be made and the model that is asked.

    with admission.admit(plan, call, cohort=cohort) as ticket:    waits for the limits, reserves of the budget
        attempt = ledger.begin(call_id, {…, **ticket.as_record()})
        answer = ask(…)
        ticket.settle(answer)

`admit` may raise, and then nothing is sent. What is never settled stays reserved in this process; the next one reads
from the ledger what became of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from pipeline import gateway
from pipeline.budgets import Budgets, Reservation
from pipeline.gateway import Answer, Call
from pipeline.limits import Limiter, Passage
from pipeline.models import Model
from pipeline.planning import DocumentPlan
from pipeline.prices import Price, find_batch_price, find_price
from pipeline.spending import Amount, bound_amount, cost_of_answer, count_answer, describe_cost
from store.data_root import DataRoot


class Meter:
    """What this process has spent so far, and how many of its attempts have an unknown cost."""

    def __init__(self) -> None:
        self.attempts = 0
        self.usd = 0.0
        self.unknown = 0
        self._guard = threading.Lock()

    def add(self, usd: float | None) -> None:
        with self._guard:
            self.attempts += 1
            if usd is None:
                self.unknown += 1
            else:
                self.usd += usd


@dataclass
class Ticket:
    """One attempt that may be made."""

    price: Price | None
    reserved: Amount
    made_for: dict[str, str]
    _meter: Meter
    _passage: Passage | None = None
    _reservation: Reservation | None = None

    def as_record(self) -> dict[str, Any]:
        """Return what request.json keeps: for whom, at which price, and the most that it may take."""
        price = None if self.price is None else self.price.as_record()
        return {"made_for": self.made_for, "price": price, "reserved": self.reserved._asdict()}

    def describe_cost(self, answer: Answer) -> dict[str, Any]:
        """Return the field `cost` of the outcome."""
        return describe_cost(answer, self.price)

    def settle(self, answer: Answer) -> None:
        """Count what was taken in the place of what was reserved."""
        counted = count_answer(answer, self.price, reserved=self.reserved)
        self._meter.add(cost_of_answer(answer, self.price))
        if self._passage:
            self._passage.settle(counted.tokens)
        if self._reservation:
            self._reservation.settle(counted)


@dataclass(frozen=True)
class Admission:
    """Admits calls. Without limiter and budgets it admits every one at once."""

    limiter: Limiter | None = None
    budgets: Budgets | None = None
    prepare: Callable[[str], None] = gateway.prepare
    meter: Meter = field(default_factory=Meter)

    @contextmanager
    def admit(self, plan: DocumentPlan, call: Call, *, cohort: str) -> Iterator[Ticket]:
        """Hold what an attempt of the plan's call needs while the block makes it.

        Raises BudgetReached, BudgetBusy or PriceUnknown; then nothing may be sent.
        """
        assert plan.model is not None
        price = find_price(plan.model)
        reserved = bound_amount(call, price)
        ticket = Ticket(price, reserved, describe_purpose(plan, cohort), self.meter)
        # The budget first: who waits for the limits need not wait only to hear that there is no money.
        with (
            self._reserve(plan.model, reserved, cohort) as ticket._reservation,
            self._pass_limits(plan.model, reserved) as ticket._passage,
        ):
            yield ticket

    @contextmanager
    def admit_to_batch(self, plan: DocumentPlan, call: Call, *, cohort: str) -> Iterator[Ticket]:
        """Reserve what the plan's call takes at most in a batch. It stays counted until its attempt has an outcome.

        Raises as `admit` does. No limit is waited for: a batch is one request, which the provider works off by itself.
        """
        assert plan.model is not None
        price = find_batch_price(plan.model)
        reserved = bound_amount(call, price)
        with self._reserve(plan.model, reserved, cohort):
            yield Ticket(price, reserved, describe_purpose(plan, cohort), self.meter)

    def _reserve(self, model: Model, amount: Amount, cohort: str) -> Any:
        if self.budgets is None or not self.budgets.caps:
            return nullcontext()
        return self.budgets.get(cohort).reserve(model, amount)

    def _pass_limits(self, model: Model, amount: Amount) -> Any:
        if self.limiter is None or not model.limits:
            return nullcontext()
        self.prepare(model.model)  # what takes seconds at the first call must not lie between the wait and the request
        return self.limiter.admit(model.endpoint or model.model, model.limits, tokens=amount.tokens)


def open_admission(data: DataRoot, budgets: Budgets | None = None) -> Admission:
    """Return the admission of a data folder."""
    return Admission(Limiter(data.temporary_folder / "limits"), budgets)


def describe_purpose(plan: DocumentPlan, cohort: str) -> dict[str, str]:
    """Return what the call is made for, in names of today: for accounts only."""
    return {
        "cohort": cohort,
        "stage": str(plan.stage),
        "doc_id": plan.doc_id,
        "template_id": plan.template_id,
        "model_id": plan.model_id,
    }
