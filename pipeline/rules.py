"""Axes and rules: which combinations of concepts, templates and models a cohort asks for. Pure.

An experiment is the product of its axes, in their order, bounded by rules:

    subset   keep only some values of one axis
    tie      two or more axes always have the same value
    pair     two axes: only the pairs that are listed
    tuple    any number of axes: only the tuples that are listed
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from store.identity import hash_bytes

AXES = (
    "combo",
    "draft_template",
    "draft_model",
    "essay_template",
    "essay_model",
    "evaluation_template",
    "evaluation_model",
)

Combination = dict[str, str]  # axis -> value


@dataclass(frozen=True)
class Sample:
    """`count` items, chosen by `seed`."""

    count: int
    seed: int


@dataclass(frozen=True)
class Selection:
    """How many of a sequence are taken: the sample first, then the limit."""

    sample: Sample | None = None
    limit: int | None = None

    def pick(self, count: int) -> list[int]:
        """Return which of `count` items are taken, by index, in order.

        A sample takes the items with the smallest hash of seed and index: the same on every machine
        and Python, and indifferent to names.
        """
        indices = list(range(count))
        if self.sample is not None and self.sample.count < count:
            seed = self.sample.seed
            indices.sort(key=lambda index: hash_bytes(struct.pack(">qq", seed, index)))
            indices = sorted(indices[: self.sample.count])
        return indices[: self.limit]

    @property
    def is_everything(self) -> bool:
        return self.sample is None and self.limit is None


@dataclass(frozen=True)
class Rule:
    """`allowed` holds the tuples of values that `axes` may take together; None ties the axes to one another."""

    axes: tuple[str, ...]
    allowed: frozenset[tuple[str, ...]] | None

    def admits(self, combination: Mapping[str, str]) -> bool:
        """Whether the rule lets a combination through. Axes without a value are not held to it."""
        if any(axis not in combination for axis in self.axes):
            return True
        values = tuple(combination[axis] for axis in self.axes)
        if self.allowed is None:
            return len(set(values)) == 1
        return values in self.allowed


def expand_axes(axes: Mapping[str, Sequence[str]], rules: Sequence[Rule]) -> Iterator[Combination]:
    """Yield every combination of the axes' values that all rules admit; the last axis changes fastest.

    {"draft_template": ["a", "b"], "draft_model": ["m"]} -> {draft_template: a, draft_model: m}, {…: b, …: m}

    A rule is tried as soon as the last of its axes has a value, so that what it excludes is not expanded.
    """
    names = list(axes)
    rules_at = [[rule for rule in rules if _last_axis(rule, names) == position] for position in range(len(names))]
    yield from _expand({}, 0, names, axes, rules_at)


def _expand(
    chosen: Combination,
    position: int,
    names: list[str],
    axes: Mapping[str, Sequence[str]],
    rules_at: list[list[Rule]],
) -> Iterator[Combination]:
    if position == len(names):
        yield dict(chosen)
        return
    for value in axes[names[position]]:
        chosen[names[position]] = value
        if all(rule.admits(chosen) for rule in rules_at[position]):
            yield from _expand(chosen, position + 1, names, axes, rules_at)
    chosen.pop(names[position], None)


def _last_axis(rule: Rule, names: list[str]) -> int:
    """Return the position after which a rule can be tried; -1 if one of its axes is not used."""
    if any(axis not in names for axis in rule.axes):
        return -1
    return max(names.index(axis) for axis in rule.axes)
