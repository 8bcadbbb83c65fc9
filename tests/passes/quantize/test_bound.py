"""The local bound is never exceeded, whatever the operator, the weight and the input."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.ir import lower
from onnxpress.passes.manager.bounds import LocalBound
from onnxpress.passes.manager.weights import Outcome
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.specs import Trial, check_pass

from .options import quantizers

DTYPES = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.FLOAT16: np.float16}
MOST_TERMS = 1000
"""No sum of a drawn layer has more terms."""
Draw = st.DrawFn


class Layer(NamedTuple):
    """One operator: a node that reads x and w, the shapes of w, x and y."""

    op_type: str
    inputs: list[str]
    attributes: Mapping[str, Any]
    weight: tuple[int, ...]
    x: tuple[int, ...]
    y: tuple[int, ...]


@st.composite
def matmuls(draw: Draw) -> Layer:
    m, k, n = (draw(st.integers(1, 24)) for _ in range(3))
    batch = draw(st.sampled_from([(), (2,), (1,), (2, 3)]))
    if draw(st.booleans()):
        x_batch = draw(st.sampled_from([(), batch]))
        return Layer("MatMul", ["x", "w"], {}, (*batch, k * 8, n * 4), (*x_batch, m, k * 8), (*batch, m, n * 4))
    return Layer("MatMul", ["w", "x"], {}, (*batch, m * 4, k * 8), (k * 8, n), (*batch, m * 4, n))


@st.composite
def vectors(draw: Draw) -> Layer:
    k = draw(st.integers(300, 900))
    return draw(
        st.sampled_from(
            [
                Layer("MatMul", ["x", "w"], {}, (k,), (2, k), (2,)),
                Layer("MatMul", ["w", "x"], {}, (k,), (k, 3), (3,)),
                Layer("MatMul", ["w", "x"], {}, (4, k), (k,), (4,)),
            ]
        )
    )


@st.composite
def gemms(draw: Draw) -> Layer:
    m, k, n = (draw(st.integers(1, 40)) for _ in range(3))
    a, b = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    attributes = {"transA": a, "transB": b, "alpha": draw(st.sampled_from([1.0, -2.5, 0.125]))}
    left, right = ((k, m) if a else (m, k)), ((n, k) if b else (k, n))
    if draw(st.booleans()):
        return Layer("Gemm", ["x", "w", "c"], attributes, right, left, (m, n))
    return Layer("Gemm", ["w", "x", "c"], attributes, left, right, (m, n))


@st.composite
def convolutions(draw: Draw) -> Layer:
    rank = draw(st.integers(1, 2))
    groups, size = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([1, 2, 3]))
    each_in, each_out = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    transposed = draw(st.booleans())
    attributes = {"group": groups, "kernel_shape": [size] * rank, "strides": [draw(st.integers(1, 2))] * rank}
    attributes |= {"dilations": [draw(st.integers(1, 2))] * rank, "pads": [draw(st.integers(0, 1))] * 2 * rank}
    first, second = (groups * each_in, each_out) if transposed else (groups * each_out, each_in)
    x, y = (2, groups * each_in, *[8] * rank), (2, groups * each_out, *[None] * rank)
    return Layer(
        "ConvTranspose" if transposed else "Conv", ["x", "w"], attributes, (first, second, *[size] * rank), x, y
    )


@st.composite
def tables(draw: Draw) -> Layer:
    shape = tuple(draw(st.lists(st.integers(2, 40), min_size=1, max_size=3)))
    axis, rank = draw(st.integers(-len(shape), len(shape) - 1)), draw(st.integers(0, 2))
    at = axis % len(shape)
    indices = (3,) * rank
    return Layer("Gather", ["w", "x"], {"axis": axis}, shape, indices, shape[:at] + indices + shape[at + 1 :])


@st.composite
def recurrent(draw: Draw) -> Layer:
    op, gates = draw(st.sampled_from([("LSTM", 4), ("GRU", 3), ("RNN", 1)]))
    hidden, into = draw(st.integers(1, 16)), draw(st.integers(1, 40))
    directions = draw(st.integers(1, 2))
    attributes = {"hidden_size": hidden, "direction": ["forward", "bidirectional"][directions - 1]}
    shape = (directions, gates * hidden, into)
    return Layer(op, ["x", "w", "r"], attributes, shape, (3, 1, into), (3, directions, 1, hidden))


def weight_of(draw: Draw, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Numbers of a drawn spread, with outliers, zeros, and channels that differ by orders of magnitude."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from(["normal", "uniform", "outlier", "sparse", "scaled", "zero", "levels"]))
    weight = rng.standard_normal(shape)
    if kind == "uniform":
        weight = rng.uniform(-1, 1, shape)
    if kind == "outlier":
        weight.flat[rng.integers(weight.size)] = 30
    if kind == "sparse":
        weight *= rng.random(shape) < 0.1
    if kind == "scaled":
        weight *= 10.0 ** rng.integers(-4, 3, (shape[0],) + (1,) * (len(shape) - 1))
    if kind == "levels":  # every number half way between two levels, but for the largest
        weight = rng.integers(-127, 127, shape) + 0.5
        weight[..., 0] = 127
    return np.asarray(weight * (kind != "zero"), dtype)


def wrapped(draw: Draw, name: str, weight: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Nodes and initializers that give the value `name` a weight, in one of several ways."""
    how = draw(st.sampled_from(["initializer", "constant", "transposed", "reshaped", "identity"]))
    source = name if how in ("initializer", "constant") else f"{name}0"
    nodes = []
    stored = weight
    if how == "transposed":
        perm = draw(st.permutations(range(weight.ndim)))
        stored = weight.transpose(np.argsort(perm))
        nodes = [helper.make_node("Transpose", [source], [name], perm=list(perm))]
    elif how == "reshaped":
        stored = weight.reshape(draw(st.sampled_from([(-1,), (weight.shape[0], -1), (-1, weight.shape[-1])])))
        shape = numpy_helper.from_array(np.array(weight.shape, np.int64))
        constant = helper.make_node("Constant", [], [f"{name}_shape"], value=shape)
        nodes = [constant, helper.make_node("Reshape", [source, f"{name}_shape"], [name])]
    elif how == "identity":
        nodes = [helper.make_node("Identity", [source], [name])]
    tensor = numpy_helper.from_array(np.ascontiguousarray(stored), source)
    if how == "constant":
        return [helper.make_node("Constant", [], [name], value=tensor)], []
    return nodes, [tensor]


@st.composite
def models(draw: Draw, opsets: tuple[int, int]) -> ModelProto:
    """One layer, in the main graph or in both branches of an If; x goes straight in, y comes straight out."""
    layer = draw(st.one_of(matmuls(), vectors(), gemms(), convolutions(), tables(), recurrent()))
    narrow = layer.op_type in ("MatMul", "Gemm", "Gather")
    kind = draw(st.sampled_from(list(DTYPES) if narrow else [TensorProto.FLOAT]))
    nodes, initializers = wrapped(draw, "w", weight_of(draw, layer.weight, DTYPES[kind]))
    if "r" in layer.inputs:
        shape = (*layer.weight[:2], layer.attributes["hidden_size"])
        more, held = wrapped(draw, "r", weight_of(draw, shape, DTYPES[kind]))
        nodes, initializers = nodes + more, initializers + held
    if "c" in layer.inputs:
        initializers.append(numpy_helper.from_array(np.zeros((), DTYPES[kind]), "c"))
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64 if layer.op_type == "Gather" else kind, layer.x)]
    output = helper.make_tensor_value_info("y", kind, layer.y)
    made = helper.make_node(layer.op_type, layer.inputs, ["y"], **layer.attributes)
    if draw(st.booleans()):
        inputs.append(helper.make_tensor_value_info("b", TensorProto.BOOL, ()))
        bodies = {}
        for branch in ("then_branch", "else_branch"):
            inner = helper.make_node(layer.op_type, layer.inputs, [branch], **layer.attributes)
            info = helper.make_tensor_value_info(branch, kind, layer.y)
            bodies[branch] = helper.make_graph([inner], branch, [], [info])
        made = helper.make_node("If", ["b"], ["y"], **bodies)
    graph = helper.make_graph([*nodes, made], "g", inputs, [output], initializers)
    imports = [helper.make_opsetid("", draw(st.integers(*opsets)))]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def magnitudes(model: ModelProto) -> ModelProto:
    """The model with the magnitude of every weight: on |x| it gives the sum of the magnitudes of all products."""
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = [attribute.t for node in copy.graph.node for attribute in node.attribute if attribute.name == "value"]
    for tensor in (*copy.graph.initializer, *nodes):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(np.abs(array), tensor.name))
    return copy


def excess(trial: Trial) -> float:
    """The largest error over its bound. Whatever executor ran the pass, onnxruntime judges it."""
    quantized = {entry.name for entry in trial.report.weights if entry.outcome is Outcome.QUANTIZED}
    assert {bound.weight for bound in trial.report.bounds} >= quantized
    return max((_excess(trial, bound) for bound in trial.report.bounds), default=0.0)


def _excess(trial: Trial, bound: LocalBound) -> float:
    name = bound.value if bound.form == "weight" else "y"
    old, new = (_value(proto, name, trial.feed) for proto in (trial.before, trial.after))
    x = np.asarray(trial.feed["x"])
    if old.size == 0 or not np.isfinite(x).all():
        return 0.0
    if bound.form == "table":
        return _ratio(np.abs(new - old), bound.per_channel.max())
    along = np.moveaxis(np.broadcast_to(bound.per_channel, np.moveaxis(old, bound.axis, -1).shape), -1, bound.axis)
    if bound.form == "weight":
        return _ratio(np.abs(new - old), along)
    return _ratio(np.abs(new - old), along * np.abs(x).max(initial=0) + _rounding(trial, x))


def _rounding(trial: Trial, x: np.ndarray) -> np.ndarray:
    """What floating point adds, as both models round: twice gamma(k) sum |x| |w|. Half precision is computed in float
    and rounded once."""
    sizes = _value(magnitudes(trial.before), "y", {**trial.feed, "x": np.abs(x)})
    unit = 2.0**-53 if x.dtype == np.float64 else 2.0**-24
    gamma = MOST_TERMS * unit / (1 - MOST_TERMS * unit)
    half = 2.0**-10 if x.dtype == np.float16 else 0
    return 2 * (gamma + half) * np.abs(sizes) + (2.0**-24 if half else 1e-37)


def _value(proto: ModelProto, name: str, feed: Mapping[str, Any]) -> np.ndarray:
    session = OrtBackend().prepare(lower(proto), outputs=[name])
    return np.asarray(session.run(feed)[name], np.float64)


def _ratio(error: np.ndarray, limit: np.ndarray | float) -> float:
    """The largest quotient; an error of zero is within any limit."""
    limit = np.broadcast_to(limit, error.shape)
    where = error > 0
    return float((error[where] / np.maximum(limit[where], 1e-300)).max(initial=0))


@pytest.mark.parametrize(
    ("form", "backend", "oldest"),
    [
        ("cast", OrtBackend(), 9),
        ("cast", ReferenceBackend(), 13),
        ("dq", OrtBackend(), 10),
        ("dq", ReferenceBackend(), 19),  # it has no DequantizeLinear of opset 13
    ],
    ids=["cast-onnxruntime", "cast-reference", "dq-onnxruntime", "dq-reference"],
)
def test_bound_holds(form, backend, oldest):
    """From opset 10 to 12 `dq` raises the opset first."""
    drawn = models(opsets=(oldest, 21))
    checked = check_pass(QuantizeInsert(form=form, min_bytes=0), models=drawn, backend=backend, bound=excess)
    assert checked.changed > checked.examples / 3


def test_bound_holds_with_every_option():
    """Every type, granularity and kind of levels, in any form."""
    checked = check_pass(quantizers(), models=models(opsets=(10, 21)), backend=OrtBackend(), bound=excess)
    assert checked.changed > checked.examples / 4


def test_any_model_survives():
    """Over models of every kind only soundness is judged: here nothing is said about errors."""
    checked = check_pass(QuantizeInsert(min_bytes=0), backend=OrtBackend(), bound=lambda trial: 0.0)
    assert checked.compared
