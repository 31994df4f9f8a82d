"""Axes and rules: which combinations stay, in which order, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rules import AXES, Combination, Rule, Sample, Selection, expand_axes

THREE_AXES = {"draft_template": ["a", "b"], "draft_model": ["m", "n"], "essay_model": ["m", "n", "o"]}


def subset(axis: str, *keep: str) -> Rule:
    return Rule((axis,), frozenset((value,) for value in keep))


def only(axes: Sequence[str], *allowed: tuple[str, ...]) -> Rule:
    return Rule(tuple(axes), frozenset(allowed))


def expand(axes: Mapping[str, Sequence[str]], *rules: Rule) -> list[tuple[str, ...]]:
    return [tuple(combination.values()) for combination in expand_axes(axes, rules)]


# Rules


def test_without_rules_every_combination_comes_and_the_last_axis_changes_fastest() -> None:
    axes = {"draft_template": ["b", "a"], "draft_model": ["m", "n"]}

    assert list(expand_axes(axes, [])) == [
        {"draft_template": "b", "draft_model": "m"},
        {"draft_template": "b", "draft_model": "n"},
        {"draft_template": "a", "draft_model": "m"},
        {"draft_template": "a", "draft_model": "n"},
    ]


def test_subset_keeps_some_values_of_an_axis() -> None:
    axes = {"draft_template": ["a", "b", "c"]}

    assert expand(axes, subset("draft_template", "c", "a")) == [("a",), ("c",)]


def test_tie_keeps_what_has_one_value_on_its_axes() -> None:
    tie = Rule(("draft_model", "essay_model"), None)

    assert expand(THREE_AXES, tie) == [("a", "m", "m"), ("a", "n", "n"), ("b", "m", "m"), ("b", "n", "n")]


def test_pair_keeps_the_listed_pairs_in_the_order_of_its_own_axes() -> None:
    pair = only(("essay_model", "draft_template"), ("o", "a"), ("m", "b"))

    assert expand(THREE_AXES, pair) == [("a", "m", "o"), ("a", "n", "o"), ("b", "m", "m"), ("b", "n", "m")]


def test_tuple_keeps_the_listed_tuples() -> None:
    allowed = only(tuple(THREE_AXES), ("a", "n", "o"), ("b", "m", "m"), ("b", "m", "z"))

    assert expand(THREE_AXES, allowed) == [("a", "n", "o"), ("b", "m", "m")]


def test_rules_hold_together() -> None:
    tie = Rule(("draft_model", "essay_model"), None)
    pair = only(("draft_template", "draft_model"), ("a", "n"), ("b", "m"), ("b", "n"))

    assert expand(THREE_AXES, tie, pair, subset("draft_template", "b")) == [("b", "m", "m"), ("b", "n", "n")]


def test_a_rule_that_allows_nothing_leaves_nothing() -> None:
    assert expand(THREE_AXES, subset("draft_template")) == []


def test_an_axis_without_a_value_is_not_held_to_a_rule() -> None:
    axes = {"source_doc_id": ["x"], "draft_model": ["m", "n"]}

    rule = only(("combo", "draft_model"), ("a+b", "m"))

    assert expand(axes, rule) == [("x", "m"), ("x", "n")]
    assert rule.admits({"source_doc_id": "x", "draft_model": "n"})


def test_an_axis_without_values_leaves_nothing() -> None:
    assert expand({"draft_template": [], "draft_model": ["m"]}) == []


def test_each_combination_is_a_dictionary_of_its_own() -> None:
    first, second = expand_axes({"draft_model": ["m", "n"]}, [])
    first["draft_model"] = "changed"

    assert second == {"draft_model": "n"}


class CountingValues(list[str]):
    """Values of an axis that count how often they are gone through."""

    rounds = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.rounds += 1
        return super().__iter__()


def test_what_a_rule_excludes_is_not_expanded_further() -> None:
    last = CountingValues(["x", "y"])
    axes = {"combo": [str(n) for n in range(100)], "draft_template": ["a", "b"], "draft_model": last}

    found = expand(axes, subset("combo", "7"), subset("draft_template", "b"))

    assert found == [("7", "b", "x"), ("7", "b", "y")]
    assert last.rounds == 1


def test_combinations_come_one_at_a_time() -> None:
    axes = {axis: [str(n) for n in range(100)] for axis in AXES}

    assert next(expand_axes(axes, [])) == dict.fromkeys(AXES, "0")


VALUES = ["m", "n", "o"]


@st.composite
def draw_axes_and_rules(draw: st.DrawFn) -> tuple[dict[str, list[str]], list[Rule]]:
    names = draw(st.lists(st.sampled_from(AXES), unique=True, max_size=4))
    axes = {name: draw(st.lists(st.sampled_from(VALUES), unique=True, max_size=3)) for name in names}
    rules = []
    for _ in range(draw(st.integers(0, 3))):
        bound = tuple(draw(st.lists(st.sampled_from(AXES), unique=True, min_size=1, max_size=3)))
        rows = st.frozensets(st.tuples(*[st.sampled_from(VALUES)] * len(bound)))
        rules.append(Rule(bound, draw(st.none() | rows)))
    return axes, rules


def filter_product(axes: Mapping[str, Sequence[str]], rules: Sequence[Rule]) -> list[Combination]:
    whole = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return [combination for combination in whole if all(admits(rule, combination) for rule in rules)]


def admits(rule: Rule, combination: Combination) -> bool:
    if not set(rule.axes) <= set(combination):
        return True
    row = tuple(combination[axis] for axis in rule.axes)
    return row in rule.allowed if rule.allowed is not None else row == (row[0],) * len(row)


@settings(max_examples=150, deadline=None)
@given(draw_axes_and_rules())
def test_expanding_gives_the_filtered_product(given_axes: tuple[dict[str, list[str]], list[Rule]]) -> None:
    axes, rules = given_axes

    assert list(expand_axes(axes, rules)) == filter_product(axes, rules)


# Selection


def test_a_sample_is_the_same_on_every_machine() -> None:
    assert Selection(Sample(count=5, seed=1)).pick(20) == [0, 8, 9, 12, 17]
    assert Selection(Sample(count=5, seed=2)).pick(20) == [5, 8, 12, 14, 15]


@pytest.mark.parametrize("count", [0, 1, 5, 200])
def test_without_sample_and_limit_everything_is_taken(count: int) -> None:
    assert Selection().pick(count) == list(range(count))
    assert Selection().is_everything


def test_a_limit_takes_the_first() -> None:
    assert Selection(limit=3).pick(10) == [0, 1, 2]
    assert Selection(limit=3).pick(2) == [0, 1]
    assert not Selection(limit=3).is_everything


def test_a_sample_keeps_the_order_and_takes_each_item_once() -> None:
    picked = Selection(Sample(count=30, seed=7)).pick(100)

    assert picked == sorted(set(picked))
    assert len(picked) == 30
    assert not Selection(Sample(30, 7)).is_everything


@pytest.mark.parametrize("count", [10, 11])
def test_a_sample_as_large_as_the_whole_takes_everything(count: int) -> None:
    assert Selection(Sample(count=count, seed=1)).pick(10) == list(range(10))


def test_the_limit_comes_after_the_sample() -> None:
    sample = Sample(count=5, seed=1)

    assert Selection(sample, limit=2).pick(20) == Selection(sample).pick(20)[:2]


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small, large = (set(Selection(Sample(count, 3)).pick(100)) for count in (10, 20))

    assert small < large


def test_seeds_choose_differently() -> None:
    picks = {tuple(Selection(Sample(5, seed)).pick(100)) for seed in range(20)}

    assert len(picks) == 20


def test_the_highest_seed_of_a_file_can_be_used() -> None:
    assert len(Selection(Sample(5, 2**63 - 1)).pick(100)) == 5
