"""What a weight gets in the end: never worse than nearest rounding on held-out samples, and clipped where that pays."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnxpress.ir import lower
from onnxpress.ir.analysis.linear import linear_layers
from onnxpress.passes.quantize.alphabet import AFFINE, SYMMETRIC
from onnxpress.passes.quantize.levels import Block, Grid, decode, encode, steps
from onnxpress.passes.quantize.rounding.choice import Task
from onnxpress.passes.quantize.rounding.clip import FACTORS, clipped, shrunk
from onnxpress.passes.quantize.rounding.seen import Grams, Seen
from onnxpress.passes.quantize.rounding.view import View

Array = np.ndarray[Any, np.dtype[Any]]
FLOAT = np.dtype(np.float32)


def view(op_type: str, shape: tuple[int, ...], **attributes: Any) -> View:
    """Of a weight that is read as it is."""
    weight = numpy_helper.from_array(np.zeros(shape, np.float32), "w")
    rank = len(shape)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in "xy"]
    node = helper.make_node(op_type, ["x", "w"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    (layer,) = linear_layers(lower(helper.make_model(graph)).graph)
    return View(layer, tuple(range(rank)))


VIEWS = {
    "matmul": (view("MatMul", (24, 5)), (24, 5), 0, 1),
    "gemm": (view("Gemm", (5, 24), transB=1), (5, 24), 1, 0),
    "conv": (view("Conv", (6, 4, 3, 1), group=2), (6, 4, 3, 1), 1, 0),
    "transposed": (view("ConvTranspose", (24, 2, 2, 3), group=2), (24, 2, 2, 3), 0, 1),
}
"""A view, the weight's shape, and the axes of its inputs and outputs."""


def grid_of(weight: Array, name: str, symmetric: bool, how: str, inner: int, outer: int) -> Grid:
    axes = {"tensor": (), "channel": (outer,), "block": tuple(range(weight.ndim))}[how]
    block = Block(inner, 2 if weight.shape[inner] < 8 else 8) if how == "block" else None
    alphabet = (SYMMETRIC if symmetric else AFFINE)[name]
    return steps(weight, axes, FLOAT, alphabet=alphabet, block=block, affine=not symmetric)


def grams(rng: np.random.Generator, seen: View, rows: int) -> Array:
    """E[x'x] of correlated inputs, `[groups, k, k]`."""
    k = seen.layer.k
    mixing = rng.standard_normal((seen.layer.groups, max(1, k // 3), k)) + 0.1
    x = rng.standard_normal((seen.layer.groups, rows, mixing.shape[1])) @ mixing
    return x.swapaxes(1, 2) @ x / rows


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    seen, shape, inner, outer = draw(st.sampled_from(list(VIEWS.values())))
    weight = (rng.standard_t(3, shape) * 10.0 ** rng.integers(-3, 3)).astype(np.float32)
    name = draw(st.sampled_from(["int8", "int4", "uint2", "float8e4m3fn"]))
    symmetric = name.startswith("float") or draw(st.booleans())
    grid = grid_of(weight, name, symmetric, draw(st.sampled_from(["tensor", "channel", "block"])), inner, outer)
    rows = draw(st.sampled_from([1, 2, 40]))
    fit, held = grams(rng, seen, rows), grams(rng, seen, 30)
    kind = draw(st.sampled_from(["alike", "strange", "zero fit", "zero held"]))
    fit, held = {"alike": held, "zero fit": 0 * fit}.get(kind, fit), 0 * held if kind == "zero held" else held
    return Task(weight, grid, seen, both(fit, held))


def both(fit: Array, held: Array) -> Grams:
    return Grams(*(Seen.same(gram, np.zeros(gram.shape[:2])) for gram in (fit, held)), held)


def held_error(task: Task, grid: Grid) -> float:
    """By its definition."""
    off = task.view.matrices(decode(encode(task.weight, grid), grid, FLOAT).astype(np.float64) - task.weight)
    return float(sum(np.trace(change.T @ gram @ change) for change, gram in zip(off, task.moments.was, strict=True)))


@given(tasks(), st.sampled_from(["auto", "nearest", "gptq", "adaround"]), st.sampled_from(["auto", "none"]))
def test_never_worse_than_nearest_on_held_out_samples(task, rounding, clip):
    best = task.best(rounding, clip)
    before, after = held_error(task, task.grid), held_error(task, best.grid)
    assert after <= before * (1 + 1e-12)
    assert best.error <= best.nearest
    whole = float(sum(np.sum(w * (g @ w)) for w, g in zip(task.matrices, task.moments.was, strict=True)))
    np.testing.assert_allclose(best.error * whole, after, rtol=1e-9)
    if best.how == "nearest":
        assert best.grid is task.grid
    if clip == "none":
        np.testing.assert_array_equal(best.grid.array, task.grid.array)
    if rounding == "nearest":
        assert best.grid.chosen is None


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("how", ["tensor", "channel", "block"])
def test_data_that_are_alike_make_every_method_pay(kind, how):
    rng = np.random.default_rng(3)
    seen, shape, inner, outer = VIEWS[kind]
    weight = rng.standard_t(3, shape).astype(np.float32)
    gram = grams(rng, seen, 40)
    task = Task(weight, grid_of(weight, "int4", True, how, inner, outer), seen, both(gram, gram))
    errors = {rounding: task.best(rounding, "none").error for rounding in ("nearest", "gptq", "adaround", "auto")}
    assert max(errors["gptq"], errors["adaround"]) < 0.8 * errors["nearest"]
    assert errors["auto"] <= min(errors.values())
    assert task.best("auto", "auto").error <= errors["auto"]


@given(tasks())
def test_clipping_makes_no_block_worse_and_keeps_zero(task):
    """By the part of H that belongs to a block, where blocks lie one after the other."""
    grid = clipped(task.matrices, task.grid, task.view, task.moments.fit.now)
    ratio = grid.array / task.grid.array
    assert ((ratio <= 1) & (ratio >= min(FACTORS) * 0.999)).all()
    zeros = np.zeros(task.weight.shape, np.float32)
    assert not decode(encode(zeros, grid), grid, FLOAT).any()
    if task.grid.axes == () and task.view.layer.op_type == "MatMul":
        costs = [
            np.sum(off * (task.moments.fit.now[0] @ off)) for off in (_change(task, task.grid), _change(task, grid))
        ]
        assert costs[1] <= costs[0] * (1 + 1e-5)


def _change(task: Task, grid: Grid) -> Array:
    return decode(encode(task.weight, grid), grid, FLOAT).astype(np.float64) - task.weight


@pytest.mark.parametrize("kind", ["matmul", "gemm"])
def test_an_outlier_is_clipped_in_its_own_block_alone(kind):
    """An outlier costs all of its block their precision; where inputs meet it rarely, it is not worth that."""
    seen, shape, inner, outer = VIEWS[kind]
    matrix = np.random.default_rng(7).uniform(-1, 1, (24, 5)).astype(np.float32)
    matrix[8, 2] = 2
    weight = seen.array(matrix[None])
    gram = np.eye(24)
    gram[8, 8] = 1e-3
    grid = grid_of(weight, "int4", True, "block", inner, outer)
    ratio = seen.matrices(np.broadcast_to((g := clipped(matrix[None], grid, seen, gram[None])).spread(g.array), shape))
    ratio = ratio / seen.matrices(np.broadcast_to(grid.spread(grid.array), shape))
    assert (ratio[0, 8:16, 2] < 0.65).all()
    assert ratio[0].min(where=np.arange(5) != 2, initial=1) > 0.65


def test_steps_that_are_powers_of_two_stay_so():
    seen, shape, inner, outer = VIEWS["matmul"]
    weight = np.random.default_rng(8).standard_t(2, shape).astype(np.float32)
    plain = grid_of(weight, "int4", True, "channel", inner, outer)
    powers = steps(weight, plain.axes, FLOAT, alphabet=plain.alphabet, powers=True)
    assert (np.frexp(clipped(weight[None], powers, seen, np.eye(24)[None]).array)[0] == 0.5).all()


def test_steps_of_input_channels_are_not_touched():
    """They are powers of two, so that the product of both steps is exact."""
    weight = np.ones((6, 4), np.float32)
    rows, factors = np.full((1, 4), 0.3, np.float32), np.exp2(np.arange(6, dtype=np.float32))[:, None]
    grid = Grid((6, 4), (1,), rows * factors, (rows, factors), SYMMETRIC["int8"])
    narrow = shrunk(grid, np.array([[1, 0.5, 0.9, 1]]))
    np.testing.assert_array_equal(narrow.factors[1], factors)
    np.testing.assert_array_equal(narrow.array, narrow.factors[0] * factors)
    np.testing.assert_allclose(narrow.array, grid.array * [1, 0.5, 0.9, 1], rtol=1e-6)
    assert encode(weight, narrow).shape == weight.shape
