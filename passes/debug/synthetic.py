"""Synthetic weights: seeded numbers of the same type, shape, mean, spread and range in the place of real ones."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ...ir import ArrayTensor, Model, Node, Rewriter, SparseTensor, Tensor, Value, clone_model
from ...ir.tensor import Array

BIG = 1024
"""Bytes from which a tensor is a weight, and no parameter of an operator."""


@dataclass(frozen=True)
class Place:
    """Where a weight stands: the number of its graph in the model and its own number there."""

    graph: int
    number: int
    in_node: bool


def weights_of(model: Model) -> list[Place]:
    """The places of all dense weights of numbers that have at least `BIG` bytes."""
    return [place for place, holder, tensor in _walk(model) if _is_replaceable(tensor)]


def with_synthetic(model: Model, places: Set[Place], seed: int) -> Model:
    """A copy of `model` with synthetic weights at `places`; the same seed gives the same numbers."""
    made = clone_model(model)
    rewriter = Rewriter(made)
    for index, (place, holder, tensor) in enumerate(list(_walk(made))):
        if place not in places:
            continue
        new = ArrayTensor(synthetic(tensor.numpy(), np.random.default_rng([seed, index])))
        if isinstance(holder, Node):
            rewriter.set_attribute(holder, "value", new)
        else:
            rewriter.set_tensor(holder, new)
    return made


def synthetic(array: Array, rng: np.random.Generator) -> Array:
    """Numbers drawn like those of `array`: normal with its mean and deviation for floats, even for integers and truth
    values, all within its range."""
    if array.dtype.kind == "b":
        return np.asarray(rng.random(array.shape) < array.mean())
    if array.dtype.kind == "c":
        made: Array = synthetic(array.real, rng) + 1j * synthetic(array.imag, rng)
        return made.astype(array.dtype)
    if array.dtype.kind in "iu" or "int" in array.dtype.name:
        wide = array.astype(object if array.dtype == np.uint64 else np.int64)
        return _integers(int(wide.min()), int(wide.max()), array, rng)
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return array
    drawn = np.clip(rng.normal(finite.mean(), finite.std(), array.shape), finite.min(), finite.max())
    return np.asarray(drawn.astype(array.dtype))


def _integers(low: int, high: int, array: Array, rng: np.random.Generator) -> Array:
    dtype = np.uint64 if high >= 2**63 else np.int64
    return np.asarray(rng.integers(low, high, array.shape, dtype=dtype, endpoint=True).astype(array.dtype))


def _walk(model: Model) -> Iterator[tuple[Place, Value | Node, Tensor]]:
    for number, graph in enumerate(model.walk_graphs()):
        for index, value in enumerate(graph.initializers):
            if value.tensor is not None:
                yield Place(number, index, False), value, value.tensor
        for index, node in enumerate(graph.nodes):
            attribute = node.attributes.get("value")
            if node.constant is not None and attribute is not None and attribute.tensor is not None:
                yield Place(number, index, True), node, attribute.tensor


def _is_replaceable(tensor: Tensor) -> bool:
    return tensor.nbytes >= BIG and not isinstance(tensor, SparseTensor) and tensor.dtype != TensorProto.STRING
