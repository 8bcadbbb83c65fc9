"""The knapsack is exact: as all choices tried out say."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.quantize.budget import knapsack
from onnxpress.passes.quantize.budget.knapsack import Option, hull, solve

LOSSES = st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 10, allow_subnormal=False))
OPTIONS = st.lists(st.builds(Option, st.integers(-3, 20), LOSSES), min_size=1, max_size=4)


def brute(items, room):
    """The least loss within the room, None if nothing fits."""
    choices = ((sum(one.cost for one in choice), sum(one.loss for one in choice)) for choice in product(*items))
    return min((loss for cost, loss in choices if cost <= room), default=None)


@given(st.lists(OPTIONS, max_size=5), st.integers(-5, 60))
def test_no_choice_within_the_room_is_better(items, room):
    found, best = solve(items, room), brute(items, room)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert found.is_optimal
    picked = [options[pick] for options, pick in zip(items, found.picks, strict=True)]
    assert sum(one.cost for one in picked) == found.cost <= room
    assert sum(one.loss for one in picked) == pytest.approx(found.loss, rel=1e-12)
    assert found.loss == pytest.approx(best, rel=1e-9, abs=1e-300)


@given(st.lists(OPTIONS, min_size=1, max_size=5), st.integers(0, 60), st.integers(1, 3))
def test_a_search_that_gives_states_up_knows_how_far_it_may_be_from_the_best(items, room, states):
    best = brute(items, room)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knapsack, "STATES", states)
        found = solve(items, room)
    assert (found is None) == (best is None)
    if found is not None:
        assert found.cost <= room
        assert found.bound * (1 - 1e-9) <= best <= found.loss * (1 + 1e-9)


@given(OPTIONS)
def test_corners_of_the_hull_are_what_is_best_at_a_price(options):
    corners = hull(options)
    assert corners == sorted(corners)
    for price in (0.0, 0.01, 0.3, 1.0, 5.0):
        least = min(one.loss + price * one.cost for one in options)
        assert min(one.loss + price * one.cost for one in corners) == pytest.approx(least, abs=1e-9)


def test_as_many_weights_as_models_have():
    """Layers of like sizes and costs that grow with bits, where greedy choices leave room: proven best, in no time."""
    rng = np.random.default_rng(0)
    items = []
    for _ in range(150):
        size, loss = int(rng.choice([9216, 147456, 36864, 589824])), float(rng.lognormal(0, 2))
        items.append([Option(size * bits // 8 + int(rng.integers(500)), loss * 4.0**-bits) for bits in (2, 4, 8, 16)])
    least = sum(options[0].cost for options in items)
    for share in (0.1, 0.3, 0.9):
        room = int(least * (1 + 7 * share))
        found = solve(items, room)
        assert found is not None
        assert found.is_optimal
        assert found.cost <= room


@pytest.mark.parametrize("options", [[], [Option(1, -1.0)], [Option(1, float("nan"))], [Option(1, float("inf"))]])
def test_items_that_make_no_sense(options):
    with pytest.raises(ValueError, match="at least 0"):
        solve([options], 10)
