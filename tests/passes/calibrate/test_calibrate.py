"""Calibration of a model: right ranges, whatever the method; progress; no more memory for more samples."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest

from onnxpress.errors import UserError
from onnxpress.ir import Value
from onnxpress.passes.calibrate.calibrate import calibrate, observed, saturation
from onnxpress.passes.calibrate.ranges import Range
from onnxpress.passes.calibrate.statistics import METHODS, Method, Statistics
from onnxpress.passes.manager.context import Counted

from .models import Feeds, context, model, values_of

T = TypeVar("T")


def by_hand(feeds: Feeds) -> dict[str, list[np.ndarray]]:
    """What the values are in each sample, computed here."""
    found: dict[str, list[np.ndarray]] = {}
    for feed in feeds:
        x, c = feed["x"], bool(feed["c"])
        a = np.maximum(x, 0)
        with np.errstate(divide="ignore"):
            here = {"0/a": a, "0/z": np.log(a)}
        here |= {"1/q": np.exp(a), "1/p": -np.exp(a)} if c else {"2/q": -x, "2/r": np.tanh(-x)}
        here["0/b"] = here["1/p"] if c else here["2/r"]
        here["0/y"] = here["0/b"] + x
        for name, array in here.items():
            found.setdefault(name, []).append(array)
    return found


def statistics_by_hand(feeds: Feeds) -> dict[str, Statistics]:
    made = {}
    for name, arrays in by_hand(feeds).items():
        made[name] = Statistics()
        for array in arrays:
            made[name].update(array)
    return made


def near(one: Range | None, other: Range | None) -> bool:
    assert one is not None
    assert other is not None
    return bool(np.allclose([one.low, one.high], [other.low, other.high], rtol=1e-5, atol=1e-6))


@pytest.mark.parametrize("method", METHODS)
def test_ranges_are_those_of_the_values_in_bodies_too(method: Method) -> None:
    values = values_of(model_ := model())
    found = calibrate(context(model_, Feeds(9)), values.values(), method=method)
    expected = statistics_by_hand(Feeds(9))
    assert found.keys() == {values[name] for name in expected}
    assert all(near(found[values[name]], expected[name].range(method)) for name in expected)
    assert all(within.low <= 0 <= within.high for within in found.values())


def test_infinities_are_left_out_and_counted() -> None:
    values = values_of(model_ := model())
    found = observed(context(model_, Feeds(9)), [values["0/z"]])[values["0/z"]]
    relu = np.concatenate(by_hand(Feeds(9))["0/a"])
    assert found.minmax.left_out == int((relu == 0).sum()) > 0


def test_a_branch_never_taken_has_no_range() -> None:
    values = values_of(model_ := model())
    found = calibrate(context(model_, Feeds(3, always=True)), values.values())
    assert {name for name, value in values.items() if value not in found} == {"2/q", "2/r"}


def test_options_reach_the_method() -> None:
    value = values_of(model_ := model())["0/y"]
    ctx = context(model_, Feeds(5, rows=500))

    def found(method: Method, **options: Any) -> Range:
        return calibrate(ctx, [value], method=method, **options)[value]

    assert found("percentile", percentile=90).low > found("percentile", percentile=99).low
    assert found("mse", bits=3).peak < found("mse", bits=8).peak
    assert found("percentile", percentile=90, symmetric=True).low > found("percentile", percentile=90).low
    for method in ("mse", "entropy"):
        assert found(method, symmetric=True) != found(method)


def test_saturation_is_counted_on_the_data() -> None:
    values = values_of(model_ := model())
    ctx = context(model_, Feeds(9))
    ranges = calibrate(ctx, values.values(), method="percentile", percentile=90)
    found = saturation(ctx, ranges)
    for name, arrays in by_hand(Feeds(9)).items():
        within, outside = ranges[values[name]], found[values[name]]
        numbers = np.concatenate(arrays)
        assert outside.count == numbers.size
        near_edge = 2  # results may differ in the last place from those of the executor
        assert abs(outside.below - int((numbers < within.low).sum())) <= near_edge
        assert abs(outside.above - int((numbers > within.high).sum())) <= near_edge
    assert 0 < found[values["0/y"]].share <= 0.1
    everything = saturation(ctx, calibrate(ctx, [values["0/y"]]))
    assert everything[values["0/y"]].share == 0


def test_without_data_the_user_is_told_what_to_give() -> None:
    with pytest.raises(UserError, match="calibration needs sample data: give --data"):
        calibrate(context(model(), None), [])


def test_statistics_merge_and_need_what_they_use() -> None:
    arrays = by_hand(Feeds(6))["0/y"]
    whole, first, second = Statistics(), Statistics(), Statistics()
    for index, array in enumerate(arrays):
        whole.update(array)
        (first if index < 3 else second).update(array)
    first.merge(second)
    assert all(near(first.range(method), whole.range(method)) for method in METHODS)
    small = Statistics(histogram=False)
    small.update(arrays[0])
    with pytest.raises(ValueError, match="mse needs a histogram"):
        small.range("mse")
    with pytest.raises(ValueError, match="cannot be merged"):
        small.merge(whole)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_nothing(method: Method) -> None:
    statistics = Statistics()
    assert statistics.range(method) is None
    statistics.update(np.array([np.nan, np.inf]))
    assert statistics.range(method) is None
    statistics.update(np.zeros(3, np.float32))
    assert statistics.range(method) == Range(0, 0)


@pytest.mark.parametrize("constant", [3.0, -0.7, 1e-45, -3e38])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_has_the_range_to_zero(method: Method, constant: float) -> None:
    statistics = Statistics()
    array = np.full((2, 50), constant, np.float32)
    statistics.update(array)
    found = statistics.range(method)
    assert found is not None
    number = float(array[0, 0])
    np.testing.assert_allclose(number / 2, (found.low + found.high) / 2, rtol=1e-2)
    assert min(-found.low, found.high) == 0


class Bar:
    """Progress that notes how long the bars were, and how far each came."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}

    def track(self, items: Sequence[T], label: str) -> Iterable[T]:
        self.seen[label] = [0, len(items)]
        for item in items:
            self.seen[label][0] += 1
            yield item


@pytest.mark.parametrize(("memory", "walks"), [(1 << 30, 1), (1, 7)])
def test_progress_counts_samples(memory: int, walks: int) -> None:
    model_ = model()
    values = [value for name, value in values_of(model_).items()]
    bar = Bar()
    ctx = context(model_, Feeds(7))
    ctx.progress = Counted(bar)
    calibrate(ctx, values, memory=memory)
    steps = bar.seen["calibration"]
    assert steps[0] == steps[1]
    assert steps[1] == (7 if walks == 1 else 6 * walks)  # in several walks the first sample tells the sizes


def peak(samples: int, method: Method, values: Sequence[str]) -> int:
    """Bytes that a calibration takes at most, but for cycles that wait for the collector, which are chance."""
    model_ = model()
    chosen: list[Value] = [values_of(model_)[name] for name in values]
    ctx = context(model_, Feeds(samples, rows=512))
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(10, 1, 1)
    tracemalloc.start()
    try:
        calibrate(ctx, chosen, method=method)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@pytest.mark.parametrize("method", METHODS)
def test_a_thousand_samples_take_no_more_memory_than_ten(method: Method) -> None:
    names = ["0/a", "1/q", "0/y"]
    peak(10, method, names)  # what is loaded once
    assert peak(1000, method, names) <= 1.05 * peak(10, method, names)
