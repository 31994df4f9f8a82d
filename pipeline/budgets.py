"""Budgets: what the documents of a cohort may cost in all. Reserved before each call, settled after it.

Counted is every attempt ever made for a document of the cohort as it is planned now, whichever run made it. So the
same command can be given again, after a crash or on purpose: together its runs stay within the budget. The ledger
is the truth; nothing else is kept. One process at a time keeps the budget of a cohort, so that no two spend the
same rest.

    reserve    the most that the call can take. No room, and others are on their way? Wait for what they leave.
               No room at all? BudgetReached, for this call and every later one
    settle     what it took instead. Where nobody knows, the reserve stays counted
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pipeline.errors import BudgetReached, InputInvalid
from pipeline.models import Model
from pipeline.planning import CohortPlan
from pipeline.prices import PriceUnknown, find_price
from pipeline.spending import Amount, read_spending
from store.data_root import DataRoot
from store.machine_locks import MachineLock


class Caps(NamedTuple):
    """The most dollars and tokens; None: no cap."""

    usd: float | None = None
    tokens: int | None = None

    def __bool__(self) -> bool:
        return self != (None, None)

    def admit(self, tokens: int, usd: float) -> bool:
        return (self.tokens is None or tokens <= self.tokens) and (self.usd is None or usd <= self.usd)

    def describe(self) -> str:
        usd = [] if self.usd is None else [f"${self.usd:,.4g}"]
        return " and ".join([*usd, *([] if self.tokens is None else [f"{self.tokens:,} tokens"])])


class Reservation:
    """What is held for one call until it is settled. One that never is stays counted."""

    def __init__(self, amount: Amount) -> None:
        self.reserved = self.counted = amount

    def settle(self, amount: Amount) -> None:
        self.counted = amount


class Budget:
    """The budget of one cohort, for the threads of this process."""

    def __init__(self, cohort: str, caps: Caps, spent: Amount, lock: MachineLock) -> None:
        self.cohort, self.caps = cohort, caps
        self.is_reached = False
        self._tokens, self._usd = spent.tokens, spent.usd or 0.0
        self._reserved_tokens, self._reserved_usd = 0, 0.0
        self._in_flight = 0
        self._changed = threading.Condition()
        self._lock = lock

    @property
    def spent(self) -> Amount:
        """What is spent, or may have been."""
        return Amount(self._tokens, self._usd)

    @contextmanager
    def reserve(self, model: Model, amount: Amount) -> Iterator[Reservation]:
        """Hold an amount while the block makes the call.

        Raises BudgetReached if there is no room for it and nothing on its way that could make some; PriceUnknown.
        """
        if self.caps.usd is not None and amount.usd is None:
            raise PriceUnknown(model)
        tokens, usd = amount.tokens, amount.usd or 0.0
        with self._changed:
            self._wait_for_room(tokens, usd)
            self._move(tokens, usd, calls=1)
        reservation = Reservation(amount)
        try:
            yield reservation
        finally:
            with self._changed:
                self._move(-tokens, -usd, calls=-1)
                self._tokens += reservation.counted.tokens
                self._usd += reservation.counted.usd or 0.0
                self._changed.notify_all()

    def close(self) -> None:
        """Let another process keep the budget."""
        self._lock.release()

    def _wait_for_room(self, tokens: int, usd: float) -> None:
        while not self.is_reached:
            all_tokens, all_usd = self._tokens + self._reserved_tokens + tokens, self._usd + self._reserved_usd + usd
            if self.caps.admit(all_tokens, all_usd):
                return
            if not self._in_flight:
                self.is_reached = True
                self._changed.notify_all()
            else:
                self._changed.wait()
        raise BudgetReached(self.cohort, cap=self.caps.describe(), spent=self._describe_spent())

    def _move(self, tokens: int, usd: float, *, calls: int) -> None:
        self._in_flight += calls
        self._reserved_tokens += tokens
        # Nothing in flight, nothing reserved: no rounding is left over.
        self._reserved_usd = self._reserved_usd + usd if self._in_flight else 0.0

    def _describe_spent(self) -> str:
        if self.caps.usd is None:
            return f"{self._tokens:,} tokens"
        return f"${self._usd:,.4g}" + ("" if self.caps.tokens is None else f" and {self._tokens:,} tokens")


class BudgetBusy(InputInvalid):
    """Two processes would spend the same rest."""

    def __init__(self, cohort: str) -> None:
        super().__init__(
            f"Another run keeps a budget of cohort {cohort!r}. Two cannot: both would spend what is left. "
            "Wait until it has ended."
        )


class Budgets:
    """The budgets of the cohorts of a data folder, each read from the ledger when it is first asked for."""

    def __init__(self, data: DataRoot, caps: Caps, plan_of: Callable[[str], CohortPlan]) -> None:
        self.caps = caps
        self._data, self._plan_of = data, plan_of
        self._guard = threading.Lock()
        self._budgets: dict[str, Budget] = {}

    def get(self, cohort: str) -> Budget:
        """Return a cohort's budget. Raises BudgetBusy if another process keeps it."""
        with self._guard:
            if cohort not in self._budgets:
                lock = MachineLock.try_to_get(self._data.temporary_folder / "budgets" / f"{cohort}.lock")
                if lock is None:
                    raise BudgetBusy(cohort)
                spent = count_spent(self._data, self._plan_of(cohort))
                self._budgets[cohort] = Budget(cohort, self.caps, spent, lock)
            return self._budgets[cohort]

    def close(self) -> None:
        with self._guard:
            for budget in self._budgets.values():
                budget.close()
            self._budgets.clear()


def count_spent(data: DataRoot, plan: CohortPlan) -> Amount:
    """Return what the documents of a plan have cost so far, or may have. Looks through the whole ledger."""
    tokens, usd = 0, 0.0
    for call_id in data.calls.walk():
        for attempt in data.calls.list_attempts(call_id):
            request = attempt.read_request()
            made_for = request.get("made_for") or {}
            document = plan.find(made_for["stage"], made_for["doc_id"]) if made_for else None
            if document is None:
                continue
            counted = read_spending(attempt, request).most
            tokens += counted.tokens
            usd += counted.usd if counted.usd is not None else _price_now(document.model, counted.tokens)
    return Amount(tokens, usd)


def _price_now(model: Model | None, tokens: int) -> float:
    """Return what tokens cost at most that were paid before a price was known; 0 if there is none now either."""
    price = None if model is None else find_price(model)
    return 0.0 if price is None else max(price.cost_of(tokens, 0), price.cost_of(0, tokens))
