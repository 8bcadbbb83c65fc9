"""Calibration of real models: every value that is a float has its range, and what is promised of ranges holds there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

import onnxpress
from onnxpress.api import samples_for
from onnxpress.backends.interface import Pins
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Model, Rewriter, Value
from onnxpress.passes.calibrate.calibrate import observed
from onnxpress.passes.calibrate.ranges import Range
from onnxpress.passes.calibrate.statistics import METHODS, Statistics
from onnxpress.passes.calibrate.stream import observe
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.weights import WeightAccount

from .conftest import RealModel

SAMPLES = 2
FLOAT = 1
MANY = 1000
"""Different numbers, from which on chance leaves something to be tested."""
QUICK = [method for method in METHODS if method not in ("mse", "entropy")]
EVERY = 1 if os.environ.get("ONNXPRESS_FUZZ") == "1" else 3
"""What is searched for, at 30 ms a value, is searched for the first of so many values."""


class Kept:
    """All numbers of a value, as doubles."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []

    def update(self, array: np.ndarray) -> None:
        numbers = array.astype(np.float64).ravel()
        self.parts.append(numbers[np.isfinite(numbers)])

    @property
    def numbers(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.concatenate(self.parts)


def context(model: Model) -> Context:
    backend = OrtBackend()
    samples = list(samples_for(model, "random", backend, Pins(), 0))[:SAMPLES]
    return Context(model, Rewriter(model), backend, Remarks(), WeightAccount(model), samples)


def squared_error(numbers: np.ndarray, within: Range) -> float:
    """Of an affine quantizer of 8 bits, in the mean."""
    scale = (within.high - within.low) / 255
    least = round(within.low / scale)
    return float(np.square(numbers - scale * np.clip(np.rint(numbers / scale), least, least + 255)).mean())


def check(statistics: Statistics, numbers: np.ndarray, methods: Sequence[str]) -> None:
    """The ranges of methods, against the numbers that were observed."""
    ranges = {method: statistics.range(method) for method in methods}
    whole = ranges["minmax"]
    assert whole == Range(min(numbers.min(), 0), max(numbers.max(), 0))
    for method, within in ranges.items():
        assert within is not None, method
        assert whole.low <= within.low <= 0 <= within.high <= whole.high, method
    different = np.unique(numbers).size
    if different >= MANY and "mse" in methods:
        assert ranges["mse"] is not None
        # the histogram knows where numbers lie, but not to the step: squared errors of n numbers differ from what it
        # expects by a share of sqrt(4 / 5 n) in the mean, and here are two of them
        chance = 5 * np.sqrt(2 * 4 / 5 / different)
        assert squared_error(numbers, ranges["mse"]) <= (1 + chance) * squared_error(numbers, whole)


def test_ranges_of_all_values(real_model: RealModel) -> None:
    model = onnxpress.load(real_model.path)
    ctx = context(model)
    shapes = ctx.shapes()
    values: list[Value] = [
        value
        for graph in model.graph.walk_graphs()
        for node in graph.nodes
        if node.op_type != "Constant"
        for value in node.outputs
        if shapes.dtype(value) == FLOAT
    ]
    kept = {value: Kept() for value in values}
    observe(ctx, {value: [each] for value, each in kept.items()}, purpose="test")
    found = observed(ctx, values)
    seen = {value for value, each in kept.items() if each.parts and each.numbers.size}
    assert {value for value in values if value.graph is model.graph} <= seen <= found.keys()
    for number, value in enumerate(value for value in values if value in seen):
        check(found[value], kept[value].numbers, METHODS if number % EVERY == 0 else QUICK)
