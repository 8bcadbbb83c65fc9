"""Refitting a layer to a changed input: least squares, from moments alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Model, Rewriter, Tensor, clone_model, lower, tensor
from onnxpress.ir.analysis.linear import Linear, linear_layers
from onnxpress.passes.calibrate.refit import Refit
from onnxpress.passes.calibrate.stream import observe_pairs
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.weights import WeightAccount
from onnxpress.specs import model_of


def layer(k: int, n: int) -> Linear:
    weight = numpy_helper.from_array(np.zeros((k, n), np.float32), "w")
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["r", k])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["r", n])]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", infos, outputs, [weight])
    (found,) = linear_layers(lower(helper.make_model(graph)).graph)
    return found


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_it_is_the_least_squares_solution(seed: int, k_new: int, n: int, bias: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 1
    new = x @ rng.normal(size=(6, k_new)) + 0.1 * rng.normal(size=(200, k_new))
    w = rng.normal(size=(6, n))
    refit = Refit(layer(6, n), layer(k_new, n))
    for part in (slice(0, 70), slice(70, 200)):
        refit.update(x[part], new[part])
    found, shift = refit.solve(w[None], ridge=0.0, bias=bias)
    design = np.hstack([new, np.ones((200, 1))]) if bias else new
    expected = np.linalg.lstsq(design, x @ w, rcond=None)[0]
    np.testing.assert_allclose(found[0], expected[:k_new], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(shift[0], expected[k_new] if bias else np.zeros(n), rtol=1e-5, atol=1e-6)


def test_an_unchanged_input_keeps_its_weights_and_so_do_directions_without_data() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(50, 4)), rng.normal(size=(4, 3))
    x[:, 3] = 0
    refit = Refit(layer(4, 3), layer(4, 3))
    assert np.array_equal(refit.solve(w[None])[0][0], w)
    refit.update(x, x)
    found, shift = refit.solve(w[None])
    np.testing.assert_allclose(found[0], w, rtol=1e-9)
    np.testing.assert_allclose(shift, 0, atol=1e-9)


def test_rows_that_are_not_finite_are_left_out_on_both_sides() -> None:
    refit = Refit(layer(2, 1), layer(2, 1))
    before, after = np.ones((4, 2)), np.ones((4, 2))
    before[0, 0], after[1, 1] = np.nan, np.inf
    refit.update(before, after)
    assert (refit.count, refit.left_out) == (2, 2)


def test_pairs_are_of_the_same_sample() -> None:
    proto = model_of("g (float[n, 2] x) => (float[n, 2] y) { a = Neg (x) y = Exp (a) }")
    model: Model = lower(proto)
    before = clone_model(model)
    rewriter = Rewriter(model)
    (neg, _) = model.graph.nodes
    half = rewriter.constant(model.graph, numpy_tensor(0.5), "half")
    made = rewriter.insert("Mul", [neg.inputs[0], half], before=neg)
    rewriter.set_input(neg, 0, made.outputs[0])
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Pairs:
        def update(self, before: np.ndarray, after: np.ndarray) -> None:
            seen.append((before, after))

    feeds = [{"x": np.full((i + 1, 2), i, np.float32)} for i in range(3)]
    ctx = Context(model, rewriter, OrtBackend(), Remarks(), WeightAccount(model), feeds)
    old = next(before.graph.nodes).outputs[0]
    assert not observe_pairs(ctx, before, {(old, neg.outputs[0]): [Pairs()]}, purpose="test")
    assert [a.shape for a, _ in seen] == [(1, 2), (2, 2), (3, 2)]
    assert all(np.array_equal(a, 2 * b) for a, b in seen)


def numpy_tensor(number: float) -> Tensor:

    return tensor(np.float32(number))


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_are_solved_one_by_one(groups: int) -> None:
    weight = numpy_helper.from_array(np.zeros((2 * groups, 3, 1, 1), np.float32), "w")
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3 * groups, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups)
    (conv,) = linear_layers(lower(helper.make_model(helper.make_graph([node], "g", infos, outputs, [weight]))).graph)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3 * groups, 4, 4))
    w = rng.normal(size=(groups, 3, 2))
    refit = Refit(conv, conv)
    refit.update(x, 2 * x)
    found, _ = refit.solve(w, ridge=0.0)
    np.testing.assert_allclose(found, w / 2, rtol=1e-9)
