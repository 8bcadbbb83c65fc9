"""`fuse` stays within rounding: on drawn chains of layers and constants, whatever their shapes, against

    |after - before| <= (gamma(k_before) + gamma(k_after)) A + underflow,    gamma(k) = k u / (1 - k u)

A is the sum of absolute terms: what the chain gives for |x| if all constants are taken absolutely and Sub adds. k
counts the operations behind an element; each constant that the pass computes was rounded once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.ir import lower
from onnxpress.passes.graph.fuse.fuse import Fuse
from onnxpress.specs import Trial, check_pass

FLOAT, DOUBLE, FLOAT16 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
OPSETS = (7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 21)
SHAPES: tuple[tuple[Any, ...], ...] = (
    *((1, 2, 6, 5), ("N", 4, 5, 6), (2, 1, 4, 4), ("N", 3, 7)),
    *((2, 3), ("N", 4), (2, 3, 4), ("N", "T", 4)),
)
LARGE = {FLOAT: 1e30, DOUBLE: 1e30, FLOAT16: 1e3}
"""Absolute terms from which on something may have overflowed."""


class Chain:
    """Nodes one after the other, from x to y."""

    def __init__(self, draw: Any, dtype: int, opset: int, shape: tuple[Any, ...], grouped: bool = True) -> None:
        self.grouped = grouped
        self.draw, self.dtype, self.opset, self.input = draw, dtype, opset, shape
        self.shape = tuple(1 if isinstance(dim, str) else dim for dim in shape)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.rng = np.random.default_rng(draw(st.integers(0, 999)))

    def constant(self, shape: tuple[int, ...], *, low: float = -2.0) -> str:
        """Numbers with a few zeros, ones and large ones."""
        numbers = self.rng.uniform(low, 2, shape)
        if low < 0:
            numbers = np.where(self.rng.random(shape) < 0.1, self.rng.choice([0.0, 1.0, -1.0, 20.0], shape), numbers)
        array = numbers.astype(helper.tensor_dtype_to_np_dtype(self.dtype))
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return f"c{len(self.constants) - 1}"

    def node(self, op_type: str, inputs: list[str], **attributes: Any) -> None:
        """One more node; it is left out if onnx refuses its shapes."""
        value = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [value], **attributes))
        try:
            inferred = shape_inference.infer_shapes(self.model(sized=True), strict_mode=True, data_prop=True)
            dims = inferred.graph.output[0].type.tensor_type.shape.dim
            shape = tuple(dim.dim_value for dim in dims)
            if len(shape) != len(dims) or not all(shape) or prod(shape) > 4000:
                raise ValueError(shape)
            self.shape = shape
        except (shape_inference.InferenceError, ValueError):
            self.nodes.pop()

    @property
    def last(self) -> str:
        return f"v{len(self.nodes) - 1}" if self.nodes else "x"

    def model(self, *, sized: bool = False) -> ModelProto:
        """The chain as a model; `sized` with the sizes that it is built for."""
        shape = [1 if isinstance(dim, str) else dim for dim in self.input] if sized else self.input
        last = self.nodes[-1].output[0] if self.nodes else "x"
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", self.dtype, shape)],
            [helper.make_tensor_value_info(last, self.dtype, None)],
            self.constants,
        )
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)])


# ---- what a chain is made of


def some_map(chain: Chain) -> None:
    """An elementwise map by a constant of one of many shapes: along the channels, along others, wider than x."""
    shape, rank = chain.shape, len(chain.shape)
    channels = (shape[1], *[1] * (rank - 2)) if rank > 1 else (shape[0],)
    shapes = [channels, channels, (1, *channels)[-rank:], (), (1,), shape[-1:], shape[-2:], (1,) * rank, shape[1:]]
    shapes += [(1,) * (rank + 1), (2,) + (1,) * (rank - 1)]
    c = chain.constant(chain.draw(st.sampled_from(shapes)), low=0.3 if (div := chain.draw(st.booleans())) else -2.0)
    op_type = "Div" if div else chain.draw(st.sampled_from(["Mul", "Add", "Add", "Sub", "Mul"]))
    swapped = op_type != "Div" and chain.draw(st.booleans())
    chain.node(op_type, [c, chain.last] if swapped else [chain.last, c])


def normalization(chain: Chain) -> None:
    if len(chain.shape) < 2:
        return
    count = (chain.shape[1],)
    inputs = [chain.last, *(chain.constant(count) for _ in range(3)), chain.constant(count, low=0.1)]
    chain.node("BatchNormalization", inputs, epsilon=chain.draw(st.sampled_from([1e-5, 0.5])))


def convolution(chain: Chain) -> None:
    """Of any groups, steps and paddings, plain or transposed, with or without a bias."""
    draw, rank = chain.draw, len(chain.shape) - 2
    if rank < 1:
        return
    into = chain.shape[1]
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([g for g in (1, 1, 2, into) if into % g == 0]))
    groups = groups if chain.grouped or not transposed else 1
    each, size = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    op_type = "ConvTranspose" if transposed else "Conv"
    weight = chain.constant(
        (into, each, *[size] * rank) if transposed else (groups * each, into // groups, *[size] * rank)
    )
    bias = [chain.constant((groups * each,))] if draw(st.booleans()) else []
    attributes: dict[str, Any] = {"kernel_shape": [size] * rank, "group": groups}
    attributes["strides"] = [draw(st.sampled_from([1, 1, 2]))] * rank
    if draw(st.integers(0, 3)) == 3 and not transposed:
        attributes["auto_pad"] = draw(st.sampled_from(["VALID", "SAME_UPPER", "SAME_LOWER"]))
    else:
        attributes["pads"] = [draw(st.integers(0, min(1, size - 1))) for _ in range(2 * rank)]
        attributes["dilations"] = [draw(st.sampled_from([1, 1, 2]))] * rank
    chain.node(op_type, [chain.last, weight, *bias], **attributes)


def padding(chain: Chain) -> None:
    """Pad of zeros or others, at the spatial axes or elsewhere."""
    draw, rank = chain.draw, len(chain.shape)
    if rank < 3:
        return
    pads = [0] * 2 * rank
    for axis in (2, rank - 1, *([1] if draw(st.integers(0, 4)) == 4 else [])):
        pads[axis], pads[rank + axis] = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    value, mode = draw(st.sampled_from([0.0, 0.0, 1.5])), draw(st.sampled_from(["constant", "constant", "edge"]))
    if chain.opset < 11:
        chain.node("Pad", [chain.last], pads=pads, value=value, mode=mode)
        return
    name = f"p{len(chain.constants)}"
    chain.constants.append(numpy_helper.from_array(np.array(pads, np.int64), name))
    fill = f"f{len(chain.constants)}"
    chain.constants.append(numpy_helper.from_array(np.array(value, helper.tensor_dtype_to_np_dtype(chain.dtype)), fill))
    chain.node("Pad", [chain.last, name, fill], mode=mode)


def pooling(chain: Chain) -> None:
    rank = len(chain.shape) - 2
    if rank < 1:
        return
    attributes: dict[str, Any] = {"kernel_shape": [2] * rank, "count_include_pad": chain.draw(st.integers(0, 1))}
    attributes["pads"] = [chain.draw(st.integers(0, 1))] * 2 * rank
    if chain.opset >= 10:
        attributes["ceil_mode"] = chain.draw(st.integers(0, 1))
    chain.node("AveragePool", [chain.last], **attributes)


def product(chain: Chain) -> None:
    """MatMul by a matrix, or Gemm of two matrices."""
    draw, columns = chain.draw, chain.draw(st.integers(1, 4))
    k = chain.shape[-1]
    if len(chain.shape) != 2 or draw(st.booleans()):
        chain.node("MatMul", [chain.last, chain.constant((k, columns))])
        return
    transposed, flipped = draw(st.booleans()), draw(st.integers(0, 4)) == 4
    k = chain.shape[0] if flipped else k
    weight = chain.constant((columns, k) if transposed else (k, columns))
    bias = chain.constant(draw(st.sampled_from([(columns,), (1, columns), (1,), ()])))
    numbers = {"alpha": draw(st.sampled_from([1.0, -0.5])), "beta": draw(st.sampled_from([1.0, 3.0]))}
    chain.node("Gemm", [chain.last, weight, bias], transB=int(transposed), transA=int(flipped), **numbers)


@st.composite
def chains(draw: st.DrawFn, opsets: tuple[int, ...], *, grouped: bool = True) -> ModelProto:
    dtype = draw(st.sampled_from([FLOAT, FLOAT, FLOAT, DOUBLE, FLOAT16]))
    chain = Chain(draw, dtype, draw(st.sampled_from(opsets)), draw(st.sampled_from(SHAPES)), grouped)
    blocks = [some_map, some_map, some_map, normalization, convolution, convolution, product]
    blocks += [padding, padding, pooling]
    for _ in range(draw(st.integers(2, 7))):
        draw(st.sampled_from(blocks))(chain)
    if not chain.nodes:
        chain.node("Neg", ["x"])
    return chain.model()


# ---- the bound


def absolute(model: ModelProto) -> ModelProto:
    """The model in float32 on absolute terms."""
    twin = ModelProto()
    twin.CopyFrom(model)
    arrays = {c.name: numpy_helper.to_array(c) for c in twin.graph.initializer}
    del twin.graph.initializer[:], twin.graph.node[:]
    for port in (*twin.graph.input, *twin.graph.output):
        port.type.tensor_type.elem_type = FLOAT
    made = {name: np.abs(a).astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            gain, bias, mean, var = (arrays[name].astype(np.float64) for name in node.input[1:])
            scale = np.abs(gain / np.sqrt(var + node.attribute[0].f))
            shape = (-1, *[1] * 8)
            made[f"{node.output[0]}_s"], made[f"{node.output[0]}_t"] = (
                a.astype(np.float32).reshape(shape) for a in (scale, np.abs(bias) + scale * np.abs(mean))
            )
            made = {n: _at_channels(a, n, node.output[0], model) for n, a in made.items()}
            twin.graph.node.add(
                op_type="Mul", input=[node.input[0], f"{node.output[0]}_s"], output=[f"{node.output[0]}_m"]
            )
            twin.graph.node.add(op_type="Add", input=[f"{node.output[0]}_m", f"{node.output[0]}_t"], output=node.output)
            continue
        copy = twin.graph.node.add()
        copy.CopyFrom(node)
        copy.op_type = "Add" if node.op_type == "Sub" else "Abs" if node.op_type == "Neg" else node.op_type
        for attribute in copy.attribute:
            if attribute.name in ("alpha", "beta"):
                attribute.f = abs(attribute.f)
    twin.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in made.items())
    return twin


def _at_channels(array: np.ndarray, name: str, output: str, model: ModelProto) -> np.ndarray:
    """The numbers of a normalization in the shape that broadcasts to its output."""
    if name not in (f"{output}_s", f"{output}_t"):
        return array
    types = {info.name: info.type for info in shape_inference.infer_shapes(model).graph.value_info}
    types |= {info.name: info.type for info in shape_inference.infer_shapes(model).graph.output}
    rank = len(types[output].tensor_type.shape.dim)
    return array.reshape((-1, *[1] * (rank - 2)))


def operations(model: ModelProto) -> int:
    """Operations behind one element of y."""
    shapes = {c.name: tuple(c.dims) for c in model.graph.initializer}
    count = 0
    for node in model.graph.node:
        match node.op_type:
            case "Conv" | "ConvTranspose" | "Gemm" | "MatMul":
                count += prod(shapes[node.input[1]]) + 3
            case "AveragePool":
                count += 6
            case "BatchNormalization":
                count += 6
            case _:
                count += 1
    return count


def gamma(k: int, unit: float) -> float:
    return k * unit / (1 - k * unit)


def ratio(trial: Trial) -> float:
    """The largest error over its bound."""
    before, after = (trial.backend.prepare(lower(model)).run(trial.feed) for model in (trial.before, trial.after))
    (name,) = before
    a, b = np.asarray(before[name]), np.asarray(after[name])
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    dtype = trial.before.graph.input[0].type.tensor_type.elem_type
    limits = np.finfo(a.dtype)
    terms, ones = absolute_terms(trial)
    k = operations(trial.before)
    k_after = operations(trial.after) + 2 * len(trial.before.graph.initializer)
    unit = float(limits.eps) / 2
    share = gamma(k, unit) + gamma(k_after, unit)
    bound = share * terms * 1.01 + float(limits.smallest_subnormal) * (k + k_after) * (1 + ones)
    judged = np.isfinite(terms) & (terms < LARGE[dtype]) & np.isfinite(a.astype(np.float64))
    with np.errstate(invalid="ignore"):
        error = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.max(error[judged] / bound[judged], initial=0.0))


def absolute_terms(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """A for the feed, and for an x of ones."""
    session = trial.backend.prepare(lower(absolute(trial.before)))
    x = np.abs(np.asarray(trial.feed["x"]).astype(np.float32))
    found: list[Mapping[str, Any]] = [session.run({"x": one}) for one in (x, np.ones_like(x))]
    first, second = (np.asarray(next(iter(outputs.values()))).astype(np.float64) for outputs in found)
    return first, second


@pytest.mark.parametrize("backend", [OrtBackend(), ReferenceBackend()], ids=["onnxruntime", "reference"])
def test_fuse_stays_within_rounding(backend):
    """The reference evaluator takes every BatchNormalization before opset 14 for training, and adds the wrong bias in a
    ConvTranspose with groups."""
    is_ort = isinstance(backend, OrtBackend)
    drawn = chains(OPSETS if is_ort else tuple(opset for opset in OPSETS if opset >= 14), grouped=is_ort)
    checked = check_pass(
        Fuse,
        models=drawn,
        bound=ratio,
        backend=backend,
        max_examples=int(__import__("os").environ.get("EX", "0")) or None,
    )
    assert checked.changed > checked.examples // 2
    assert checked.compared > checked.examples // 4


def test_the_bound_can_be_broken():
    chain = Chain(lambda strategy: 0, FLOAT, 13, (1, 2, 4, 4))
    chain.node("Mul", ["x", chain.constant((2, 1, 1))])
    before = chain.model()
    after = chain.model()
    wrong = numpy_helper.to_array(after.graph.initializer[0]) * np.float32(1.00001)
    after.graph.initializer[0].CopyFrom(numpy_helper.from_array(wrong, "c0"))
    feed = {"x": np.ones((1, 2, 4, 4), np.float32)}
    assert ratio(Trial(before, after, None, OrtBackend(), feed)) > 1
    assert ratio(Trial(before, before, None, OrtBackend(), feed)) == 0
