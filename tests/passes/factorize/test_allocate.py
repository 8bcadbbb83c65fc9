"""Allocation: goals are met, with no more error than a search through everything finds, or little more."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.factorize.allocate import Item, Pick, Search, picks_at, to_goal
from onnxpress.passes.factorize.study import Choice

NUMBERS = st.integers(1, 20)


def pick(cost: float, error: float) -> Pick:
    choice = Choice("svd", (1,), error, cost, cost, cost) if error else None
    return Pick((), choice, error, cost)


@st.composite
def items(draw: Any) -> list[Item]:
    """Sites that cost 20 as they are, with a few cheaper choices."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        choices = draw(st.lists(st.tuples(st.integers(1, 19), NUMBERS), max_size=3))
        found.append(Item(((pick(20, 0), *(pick(cost, error) for cost, error in choices)),)))
    return found


def total(picks: Any) -> tuple[float, float]:
    return sum(each.cost for each in picks), sum(each.error for each in picks)


@given(items(), st.floats(0.2, 1.0))
def test_a_goal_that_can_be_met_is_met_and_no_single_change_is_better(given: list[Item], share: float) -> None:
    goal = share * 20 * len(given)
    cost, error = total(to_goal(given, 0.0, goal))
    every = [total(picks) for picks in itertools.product(*(item.own[0] for item in given))]
    possible = [each for each in every if each[0] <= goal + 1e-9]
    assert (cost <= goal + 1e-9) == bool(possible)
    if possible:
        least = min(each[1] for each in possible)
        assert least <= error <= least + 20


def test_what_a_large_step_saved_too_much_is_given_back() -> None:
    large = Item(((pick(100, 0), pick(40, 10)),))
    small = [Item(((pick(10, 0), pick(5, 0.4)),)) for _ in range(4)]
    picks = to_goal([large, *small], 0.0, 90)
    assert total(picks) == (80, 10)


@given(items(), st.floats(0, 60))
def test_the_search_finds_what_is_within_an_error_and_measures_nothing_twice(given: list[Item], goal: float) -> None:
    measured: list[list[Pick]] = []

    def measure(picks: Any) -> float:
        measured.append(list(picks))
        return total(picks)[1]

    search = Search(given, measure)
    for bound in (goal, goal / 2, goal):
        assert total(search.cheapest(bound))[1] <= bound
    assert len(measured) <= len({tuple(picks) for picks in measured}) + 1
    assert total(picks_at(given, 0.0))[1] == 0
