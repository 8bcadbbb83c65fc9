"""What is added behind a layer takes up the mean of its error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from onnxpress.ir import emit

from .layers import model
from .test_layers import factorized, run


def feeds(count: int = 8) -> list[dict[str, Any]]:
    """Inputs far from zero, near a line."""
    random = np.random.default_rng(1)
    return [{"x": (5 + 0.3 * random.standard_normal((12, 30))).astype(np.float32)} for _ in range(count)]


def sums(*, row_is_shared: bool = False, row_first: bool = False) -> Any:
    random = np.random.default_rng(0)
    arrays = {"w": random.standard_normal((30, 20)), "b": random.standard_normal(20)}
    add = helper.make_node("Add", ["b", "h"] if row_first else ["h", "b"], ["y"])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), add]
    if row_is_shared:
        nodes = [nodes[0], helper.make_node("Add", ["h", "b"], ["s"]), helper.make_node("Mul", ["s", "b"], ["y"])]
    return model(nodes, {name: array.astype(np.float32) for name, array in arrays.items()}, ["N", 30], 2)


@pytest.mark.parametrize("settings", [{}, {"row_first": True}, {"row_is_shared": True}])
def test_a_row_that_is_added_takes_up_the_mean(settings: dict[str, bool]) -> None:
    proto = sums(**settings)
    made, report = factorized(proto, "rank=4 whiten=on", feeds())
    (row,) = report.layers
    assert float(row.cells["bias_moved"]) > 0
    x = np.concatenate([feed["x"] for feed in feeds()])
    change = run(emit(made), x).astype(np.float64) - run(proto, x)
    assert np.abs(change.mean(axis=0)).max() < 1e-3 * np.abs(change).max()
    moved = next(bound for bound in report.bounds if bound.form == "absolute")
    linear = next(bound for bound in report.bounds if bound.form == "linear")
    assert moved.value == ("s" if settings.get("row_is_shared") else "y")
    if not settings.get("row_is_shared"):
        assert (np.abs(change) <= moved.per_channel + linear.per_channel * np.abs(x).max() + 1e-4).all()


def test_a_sum_that_is_read_twice_or_is_no_row_stays() -> None:
    random = np.random.default_rng(0)
    for wide, reader in ((np.ones((12, 20)), "h"), (np.ones(20), "y")):
        arrays = {"w": random.standard_normal((30, 20)).astype(np.float32), "b": wide.astype(np.float32)}
        nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
        proto = model(nodes, arrays, [12, 30], 2)
        if reader == "y":
            proto.graph.output.append(helper.make_tensor_value_info("h", 1, [12, 20]))
        _, report = factorized(proto, "rank=4 whiten=on", feeds())
        assert report.layers[0].cells["bias_moved"] == 0
