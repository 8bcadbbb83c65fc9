"""The stream of calibration values: right, whatever fits into memory at a time, and no larger with more samples."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import Model, Rewriter, lower
from onnxpress.ir.analysis.linear import linear_layers
from onnxpress.passes.calibrate.moments import Moments
from onnxpress.passes.calibrate.stream import observe
from onnxpress.passes.manager.context import Context, Feed
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.weights import WeightAccount
from onnxpress.specs import model_of

WIDTH, LAYERS = 64, 6


class Seen:
    """Keeps what it is shown, for tests."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def update(self, array: np.ndarray) -> None:
        self.arrays.append(array.copy())


class Counted:
    """Keeps a number."""

    def __init__(self) -> None:
        self.total = 0.0

    def update(self, array: np.ndarray) -> None:
        self.total += float(array.sum())


def chain(width: int = WIDTH, layers: int = LAYERS) -> Model:
    rng = np.random.default_rng(0)
    names = [f"h{i}" for i in range(layers + 1)]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)]
    weights = [
        numpy_helper.from_array(rng.normal(size=(width, width)).astype(np.float32), f"w{i}") for i in range(layers)
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], weights)
    return lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def context(model: Model, samples: object) -> Context:
    return Context(model, Rewriter(model), OrtBackend(), Remarks(), WeightAccount(model), samples)  # type: ignore[arg-type]


class Feeds:
    """Samples that are made when they are asked for."""

    def __init__(self, count: int, rows: int) -> None:
        self.count, self.rows = count, rows

    def __iter__(self) -> Iterator[Feed]:
        for seed in range(self.count):
            yield {"h0": np.random.default_rng(seed).normal(size=(self.rows, WIDTH)).astype(np.float32)}


@pytest.mark.parametrize("memory", [1, 3 * 8 * WIDTH * 4, 1 << 30])
def test_every_value_is_seen_once_a_sample_however_little_fits(memory: int) -> None:
    model = chain()
    watched = {node.outputs[0]: [Seen()] for node in model.graph.nodes}
    assert not observe(context(model, Feeds(5, 8)), watched, purpose="test", memory=memory)
    session = OrtBackend().prepare(model, outputs=[value.name for value in watched], optimize=True)
    expected = [session.run(dict(feed)) for feed in Feeds(5, 8)]
    for value, (seen,) in watched.items():
        assert len(seen.arrays) == 5
        assert all(np.array_equal(a, run[value.name]) for a, run in zip(seen.arrays, expected, strict=True))


class Counting(OrtBackend):
    """Counts sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def prepare(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        return super().prepare(*args, **options)


@pytest.mark.parametrize("at_a_time", [1, 5, 100])
def test_no_run_is_needed_for_sizes_that_are_inferred(at_a_time: int) -> None:
    """However many rows the samples have: the first says it."""
    model, backend = chain(layers=20), Counting()
    watched = {node.outputs[0]: [Seen()] for node in model.graph.nodes}
    told = replace(context(model, Feeds(3, 8)), backend=backend)
    observe(told, watched, purpose="test", memory=at_a_time * 8 * WIDTH * 4)
    assert backend.count == -(-20 // at_a_time)
    assert {len(seen.arrays) for (seen,) in watched.values()} == {3}


def test_more_samples_take_no_more_memory() -> None:
    def peak(count: int) -> int:
        model = chain()
        watched = {node.outputs[0]: [Counted()] for node in model.graph.nodes}
        tracemalloc.start()
        observe(context(model, Feeds(count, 1024)), watched, purpose="test")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)  # what is loaded once
    assert peak(200) <= 1.05 * peak(4)


def test_values_of_functions_are_named_and_not_seen() -> None:
    text = """
        g (float[2] x) => (float[2] y) { y = local.twice (x) }
        <opset_import: ["" : 17], domain: "local"> twice (a) => (b) { c = Neg (a) b = Neg (c) }"""
    model = lower(model_of(text))
    inside = next(next(iter(model.functions.values())).body.nodes).outputs[0]
    seen = Seen()
    feeds = [{"x": np.ones(2, np.float32)}]
    assert observe(context(model, feeds), {inside: [seen]}, purpose="test") == [inside]
    assert not seen.arrays


def test_without_data_the_user_is_told_what_to_give() -> None:
    model = chain()
    with pytest.raises(UserError, match="test needs sample data: give --data"):
        observe(context(model, None), {}, purpose="test")


def test_moments_are_those_of_the_rows_and_give_the_error_of_a_change() -> None:
    model = chain()
    layers = list(linear_layers(model.graph))
    moments = {layer.x: [Moments(layer)] for layer in layers[1:]}
    observe(context(model, Feeds(3, 50)), moments, purpose="test")
    session = OrtBackend().prepare(model, outputs=[layer.x.name for layer in layers[1:]], optimize=True)
    runs = [session.run(dict(feed)) for feed in Feeds(3, 50)]
    change = np.random.default_rng(1).normal(size=(1, WIDTH, WIDTH))
    for layer in layers[1:]:
        (found,) = moments[layer.x]
        x = np.concatenate([run[layer.x.name] for run in runs]).astype(np.float64)
        assert found.count == 150
        np.testing.assert_allclose(found.gram[0], x.T @ x / 150, rtol=1e-9)
        np.testing.assert_allclose(found.mean[0], x.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.squared_error(change)[0], ((x @ change[0]) ** 2).mean(0), rtol=1e-9)


def test_moments_leave_out_rows_that_are_not_finite_and_take_a_part_of_many() -> None:
    (layer, *_) = linear_layers(chain().graph)
    moments = Moments(layer, rows=10)
    rows = np.ones((40, WIDTH), np.float32)
    rows[4, 0] = np.nan  # row 1 of those that are taken, every fourth
    moments.update(rows)
    assert (moments.count, moments.left_out) == (9, 1)
    other = Moments(layer, rows=10)
    other.update(np.full((3, WIDTH), 2, np.float32))
    moments.merge(other)
    assert moments.count == 12
    assert moments.gram[0, 0, 0] == (9 + 3 * 4) / 12


def test_rows_that_wait_take_little_memory_beside_a_wide_second_moment() -> None:
    width = 1024
    (layer, *_) = linear_layers(chain(width).graph)
    moments = Moments(layer)
    row = np.ones((1, width), np.float32)
    tracemalloc.start()
    most = 0
    for _ in range(width):
        moments.update(row)
        most = max(most, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert most < 0.3 * Moments.nbytes_for(layer)
    assert moments.gram[0, 0, 0] == 1
