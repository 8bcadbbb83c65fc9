"""Layers as fusing sees them: Conv, ConvTranspose, Gemm and MatMul by a constant weight, and BatchNormalization.

A layer computes y = W x + b. Its weight is seen in a shape `view` in which both the channels of y and those of x are
whole axes: [groups, y, x, *kernel] for Conv, [groups, x, y, *kernel] for ConvTranspose. So W' = scale W and
W' = W scale are products with factors that broadcast.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from ....ir import Node, Tensor, Value
from ...rewriting.driver import QUIET
from ...rewriting.rule import Types
from .affine import Channels
from .constants import ZERO, Array, exact, is_usable, scaled

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Layer(NamedTuple):
    """One layer. `out` and `into` are the axes of `view` that y's and x's channels lie along; `y` and `x` say how a
    constant beside the layer must be shaped."""

    node: Node
    weight: Value
    view: tuple[int, ...]
    out: tuple[int, ...]
    into: tuple[int, ...]
    y: Channels
    x: Channels

    @property
    def tensor(self) -> Tensor:
        """The weight."""
        assert self.weight.const is not None
        return self.weight.const

    @property
    def weight_label(self) -> str:
        """How messages call the weight."""
        return f"the weight of {self.node.label}"

    @property
    def bias(self) -> Value | None:
        """What is added to y, if anything."""
        return None if self.node.op_type == "MatMul" else self.node.input(2)

    @property
    def takes_bias(self) -> bool:
        """Whether the operator can add a bias."""
        return self.node.op_type != "MatMul"

    def bias_of(self) -> Array | None:
        """The bias in float64, of shape (1,) or (channels,); zeros where there is none, None if it is no constant of
        that kind."""
        value = self.bias
        if value is None:
            return ZERO
        tensor = value.const
        if tensor is None or not is_usable(tensor):
            return None
        if self.node.op_type != "Gemm":
            return exact(tensor) if tensor.shape == (self.y.count,) else None
        found = self.y.of(tensor)
        return None if found is None else found * float(self.node.attr("beta", 1.0))

    def scaled(self, scale: Array, axes: tuple[int, ...]) -> Tensor:
        """The weight times `scale` along `out` or `into`, of shape (channels,) or (1,)."""
        return scaled(self.tensor, self.view, self._factor(scale, axes))

    def _factor(self, numbers: Array, axes: tuple[int, ...]) -> Array:
        whole = np.broadcast_to(numbers, (prod(self.view[axis] for axis in axes),))
        return whole.reshape([size if axis in axes else 1 for axis, size in enumerate(self.view)])

    def sizes(self, axes: tuple[int, ...]) -> Array:
        """The greatest absolute weight for each channel along `out` or `into`; first over the axes between those, so
        that the rest lies in rows."""
        weight = np.abs(self.tensor.numpy()).reshape(self.view)
        if between := tuple(axis for axis in range(max(axes)) if axis not in axes):
            weight = weight.max(axis=between, initial=0)
        rows = weight.reshape(prod(self.view[axis] for axis in axes), -1)
        found: Array = rows.max(axis=1, initial=0).astype(np.float64)
        return found

    def applied_to(self, shift: Array) -> Array:
        """W times an x that is `shift` everywhere, of shape (channels of y,): right where nothing is padded."""
        weight = self.tensor.numpy().reshape(self.view)
        kernel = tuple(axis for axis in range(len(self.view)) if axis not in (*self.out, *self.into))
        if any(self.view[axis] != 1 for axis in kernel):
            weight = weight.sum(axis=kernel, dtype=np.float64)
        else:  # what there is nothing to add to is only converted, in less time
            weight = weight.squeeze(kernel).astype(np.float64)
        x = np.broadcast_to(shift, (self.x.count,)).reshape([self.view[axis] for axis in self.into])
        y: Array = np.einsum(weight, [*range(weight.ndim)], x, [*self.into], [*self.out])
        return y.reshape(-1) * float(self.node.attr("alpha", 1.0))

    @property
    def pads(self) -> bool:
        """Whether y sees anything but whole windows of x."""
        node = self.node
        if not node.is_op("Conv", "ConvTranspose"):
            return False
        if node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(node.attr("pads", ())):
            return True
        if node.op_type == "Conv":
            return False
        one = all(size == 1 for size in self.view[3:]) and all(step == 1 for step in node.attr("strides", ()))
        return not one or any(node.attr("output_padding", ())) or "output_shape" in node.attributes


def layer_of(node: Node, types: Types) -> Layer | str:
    """The view of a node as a layer; or why it is none."""
    if node.domain or any(attribute.ref for attribute in node.attributes.values()):
        return QUIET
    weight = node.input(1)
    if weight is None:
        return QUIET
    if weight.const is None:
        return f"the weight of {node.label} is a default that a feed can override" if weight.tensor else QUIET
    if not is_usable(weight.const) or not weight.const.size:
        return QUIET
    match node.op_type:
        case "Conv" | "ConvTranspose":
            return _convolution(node, weight, weight.const.shape)
        case "Gemm" | "MatMul":
            return _product(node, weight, weight.const.shape, types)
    return QUIET


def _convolution(node: Node, weight: Value, shape: tuple[int, ...]) -> Layer | str:
    groups: int = node.attr("group", 1)
    if len(shape) < 3 or groups < 1 or shape[0] % groups:
        return QUIET
    each, other, kernel, rank = shape[0] // groups, shape[1], shape[2:], len(shape)
    first, second = Channels(1 - rank, shape[0], rank), Channels(1 - rank, groups * other, rank)
    view = (groups, each, other, *kernel)
    if node.op_type == "Conv":
        return Layer(node, weight, view, (0, 1), (0, 2), y=first, x=second)
    return Layer(node, weight, view, (0, 2), (0, 1), y=second, x=first)


def _product(node: Node, weight: Value, shape: tuple[int, ...], types: Types) -> Layer | str:
    x = node.input(0)
    if len(shape) != 2 or x is None:
        return QUIET
    out = 0 if node.attr("transB", 0) else 1
    rank = 2 if node.op_type == "Gemm" else types.rank(x)
    y_side, x_side = (
        Channels(-1, shape[out], rank),
        Channels(-2 if node.attr("transA", 0) else -1, shape[1 - out], rank),
    )
    return Layer(node, weight, shape, (out,), (1 - out,), y=y_side, x=x_side)
