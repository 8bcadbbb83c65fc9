"""Rules for layers and normalizations: inputs end in a weight, and outputs begin in it, with factors of their own.

y = W x + b:   y / t = (W s / t) (x / s) + b / t
y = g (x - m) / d + b:   y / t = (g s / t) (x / s - m / s) / d + b / t,   with d = sqrt(var + epsilon)
"""

from __future__ import annotations

import numpy as np

from ...ir import Node, Value
from ...ir.analysis.coupling.axes import Axis
from ...ir.analysis.linear import linear_of
from ..graph.fuse.affine import why_it_trains
from .scales import Role, Scales, along, is_zero


def conv(node: Node, scales: Scales) -> None:
    """Conv and ConvTranspose, grouped ones too."""
    x, y, layer = node.input(0), node.outputs[0], linear_of(node)
    if x is None or layer is None or scales.size(x, 1) is None or scales.size(y, 1) is None:
        return
    whole, inner = np.arange(layer.shape[0]), np.arange(layer.shape[1])
    tail = (1,) * len(layer.kernel)
    first = whole.reshape(-1, 1, *tail)
    # the second axis of the weight runs inside a group: of inputs (Conv) or of outputs (ConvTranspose)
    group = whole // (layer.shape[0] // layer.groups)
    second = (group[:, None] * layer.shape[1] + inner).reshape(*layer.shape[:2], *tail)
    into, out = (first, second) if node.op_type == "ConvTranspose" else (second, first)
    scales.absorb(node, 1, scales.at(x, 1), into, 1, Role.READS)
    scales.absorb(node, 1, scales.at(y, 1), out, -1, Role.MAKES)
    _bias(node, 2, scales.at(y, 1), scales)


def gemm(node: Node, scales: Scales) -> None:
    """a W + c; rows stay because of c."""
    a, y, layer = node.input(0), node.outputs[0], linear_of(node)
    contracted = 0 if node.attr("transA", 0) else 1
    if a is None or layer is None or layer.slot != 1 or scales.size(a, contracted) is None or scales.size(y, 1) is None:
        return
    into = 1 if node.attr("transB", 0) else 0
    scales.absorb(node, 1, scales.at(a, contracted), along(into, layer.k, 2), 1, Role.READS)
    scales.absorb(node, 1, scales.at(y, 1), along(1 - into, layer.n, 2), -1, Role.MAKES)
    _bias(node, 2, scales.at(y, 1), scales)


def matmul(node: Node, scales: Scales) -> None:
    """A product with a matrix of weights on either side, or of two computed matrices."""
    a, b, y = node.input(0), node.input(1), node.outputs[0]
    if a is None or b is None:
        return
    shapes = scales.shape(a), scales.shape(b), scales.shape(y)
    if any(shape is None or len(shape) < 2 for shape in shapes):
        return
    layer = linear_of(node)
    if layer is None:
        reason = f"{node.label} sums over it"
        scales.freeze_at(a, -1, reason)
        scales.freeze_at(b, -2, reason)
        scales.tie_sizes(a, -2, y, -2)
        scales.tie_sizes(b, -1, y, -1)
        return
    back, other = (-1, -2) if layer.slot else (-2, -1)
    into = 0 if layer.slot else 1
    if scales.size(layer.x, back) is not None and scales.size(y, back) is not None:
        scales.absorb(node, layer.slot, scales.at(layer.x, back), along(into, layer.k, 2), 1, Role.READS)
        scales.absorb(node, layer.slot, scales.at(y, back), along(1 - into, layer.n, 2), -1, Role.MAKES)
    for axis in (other, *range(-len(shapes[2] or ()), -2)):
        scales.tie_sizes(layer.x, axis, y, axis)


def recurrent(node: Node, scales: Scales) -> None:
    """LSTM, GRU and RNN: features of the input end in the input matrix; states stay."""
    x, layer = node.input(0), linear_of(node)
    if x is not None and layer is not None and scales.size(x, 2) is not None:
        scales.absorb(node, 1, scales.at(x, 2), along(2, layer.k, 3), 1, Role.READS)


def batch_norm(node: Node, scales: Scales) -> None:
    """BatchNormalization with given statistics: the mean goes with the input, gain and bias with both."""
    x, y = node.input(0), node.outputs[0]
    if x is None or why_it_trains(node) or scales.size(x, 1) is None or scales.size(y, 1) is None:
        return
    for slot in (1, 2, 3):
        if not _is_vector(node.input(slot), scales.size(y, 1)):
            return
    index = np.arange(scales.size(y, 1) or 0)
    scales.absorb(node, 3, scales.at(x, 1), index, -1, Role.FOLLOWS)
    scales.absorb(node, 1, scales.at(x, 1), index, 1, Role.READS)
    scales.absorb(node, 1, scales.at(y, 1), index, -1, Role.MAKES)
    scales.absorb(node, 2, scales.at(y, 1), index, -1, Role.FOLLOWS)


def instance_norm(node: Node, scales: Scales) -> None:
    """InstanceNormalization: what it reads stays; gain and bias make what it gives."""
    _gain_and_bias(node, 1, scales)


def last_axis(node: Node, scales: Scales) -> None:
    """LayerNormalization and RMSNormalization: the same along the last axis."""
    _gain_and_bias(node, -1, scales)


def _gain_and_bias(node: Node, axis: int, scales: Scales) -> None:
    y, bias = node.outputs[0], node.input(2)
    size = scales.size(y, axis)
    if not _is_vector(node.input(1), size) or (bias is not None and not _is_vector(bias, size)):
        return
    scales.absorb(node, 1, scales.at(y, axis), np.arange(size or 0), -1, Role.MAKES)
    if bias is not None:
        scales.absorb(node, 2, scales.at(y, axis), np.arange(size or 0), -1, Role.FOLLOWS)


def _is_vector(value: Value | None, size: int | None) -> bool:
    return value is not None and value.const is not None and value.const.shape == (size,)


def _bias(node: Node, slot: int, axis: Axis, scales: Scales) -> None:
    """A bias that runs along the output channels follows; any other holds them."""
    bias = node.input(slot)
    if bias is None or is_zero(bias):
        return
    shape = bias.const.shape if bias.const is not None else ()
    if shape and shape[-1] == scales.sizes[axis]:
        scales.absorb(node, slot, axis, along(-1, shape[-1], len(shape)), -1, Role.FOLLOWS)
    else:
        scales.freeze(axis, f"the bias of {node.label} is no constant along its channels")
