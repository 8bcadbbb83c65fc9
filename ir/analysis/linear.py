"""Linear layers as matrices: a view of MatMul, Gemm, Conv, ConvTranspose and the input matrices of LSTM, GRU and RNN.

Whatever the operator, the weight is seen as matrices `[groups, k, n]` and the input as rows `[groups, r, k]`, so that

    rows(x) @ matrix  +  bias  =  the output, up to the order of its elements,

for ConvTranspose up to the sum of overlapping patches, for recurrent layers one term of the gates. What is said of a
matrix (its spectrum, its error on an input of known second moments) holds for all of them alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..graph import Graph
from ..model import Model
from ..node import Node
from ..value import Value

Array = np.ndarray[Any, np.dtype[Any]]
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Linear:
    """One layer: `node` reads the constant `weight` at `slot` and multiplies it with `x`.

    `shape` is that of the weight; `groups`, `k` (inputs) and `n` (outputs of a group) those of its matrices; `bias` is
    the slot of the bias that the operator can take, None if it can take none.
    """

    node: Node
    slot: int
    x: Value
    weight: Value
    shape: tuple[int, ...]
    groups: int
    k: int
    n: int
    bias: int | None

    @property
    def op_type(self) -> str:
        """The operator."""
        return self.node.op_type

    @property
    def kernel(self) -> tuple[int, ...]:
        """The spatial shape of a convolution's weight; () for the others."""
        return self.shape[2:] if self.op_type in ("Conv", "ConvTranspose") else ()

    @property
    def _is_stored_transposed(self) -> bool:
        """Whether the weight of a product is `[n, k]`."""
        if self.op_type == "Gemm":
            return bool(self.node.attr("transB", 0)) if self.slot else not self.node.attr("transA", 0)
        return self.slot == 0

    def matrices(self, weight: Array) -> Array:
        """The matrices `[groups, k, n]` of an array of the weight's shape."""
        match self.op_type:
            case "Conv":
                return weight.reshape(self.groups, self.n, self.k).swapaxes(1, 2)
            case "ConvTranspose":
                return weight.reshape(self.groups, self.k, self.n)
            case "MatMul" | "Gemm":
                return (weight.T if self._is_stored_transposed else weight)[None]
        return weight.swapaxes(1, 2)  # recurrent: [directions, gates * hidden, inputs]

    def weight_of(self, matrices: Array) -> Array:
        """The array of the weight's shape that has these matrices: the inverse of `matrices`."""
        match self.op_type:
            case "Conv":
                found = matrices.swapaxes(1, 2)
            case "ConvTranspose":
                found = matrices
            case "MatMul" | "Gemm":
                found = matrices[0].T if self._is_stored_transposed else matrices[0]
            case _:
                found = matrices.swapaxes(1, 2)
        return np.ascontiguousarray(found).reshape(self.shape)

    def batched(self, x: Array) -> Array:
        """An input of a convolution in many iterations of a loop, stacked, as one of as many batches."""
        rank = len(self.kernel)
        return x.reshape(-1, *x.shape[-1 - rank :]) if rank and x.ndim > rank + 2 else x

    def rows(self, x: Array, at_most: int | None = None) -> Array:
        """The rows `[groups, r, k]` that an input meets the matrices with: patches, for a convolution; `at_most` so
        many, evenly spaced."""
        x = self.batched(x)
        if self.op_type == "Conv":
            return _patches(self, x, at_most)
        rows = self.all_rows(x)
        return rows if at_most is None else rows[:, :: _spacing(rows.shape[1], at_most)]

    def all_rows(self, x: Array) -> Array:
        """The rows of what is no convolution."""
        match self.op_type:
            case "ConvTranspose":
                grouped = x.reshape(x.shape[0], self.groups, self.k, -1)
                return grouped.transpose(1, 0, 3, 2).reshape(self.groups, -1, self.k)
            case "MatMul" if self.slot == 0 and x.ndim > 1:
                return x.swapaxes(-1, -2).reshape(1, -1, self.k)
            case "Gemm" if bool(self.node.attr("transA" if self.slot else "transB", 0)) == (self.slot == 1):
                return x.T.reshape(1, -1, self.k)
        rows = x.reshape(1, -1, self.k)
        return np.broadcast_to(rows, (self.groups, *rows.shape[1:]))


def linear_layers(graph: Graph) -> Iterator[Linear]:
    """The linear layers of one graph whose weight is a constant and whose input is none."""
    for node in graph.nodes:
        found = linear_of(node)
        if found is not None:
            yield found


def all_linear_layers(model: Model) -> Iterator[Linear]:
    """Those of the main graph and of all bodies in it, in order."""
    for graph in model.graph.walk_graphs():
        yield from linear_layers(graph)


def linear_of(node: Node) -> Linear | None:
    """The view of a node; None if it is no linear layer with one constant operand of a plain shape."""
    for slot in (1, 0):
        weight = node.input(slot)
        found = None if weight is None or weight.const is None else linear_at(node, slot, weight.const.shape)
        if found is not None:
            return found
    return None


def linear_at(node: Node, slot: int, shape: tuple[int, ...]) -> Linear | None:
    """The view of a node whose input `slot`, of `shape`, is a constant or moved from one; None if there is none."""
    weight = node.input(slot)
    x = node.input(1 - slot) if slot in (0, 1) else None
    if weight is None or x is None or x.const is not None:
        return None
    if node.domain or any(attribute.ref for attribute in node.attributes.values()):
        return None
    if node.op_type in ("MatMul", "Gemm") and len(shape) == 2:
        transposed = node.op_type == "Gemm" and bool(node.attr("transB" if slot else "transA", 0))
        k, n = shape[::-1] if transposed == bool(slot) else shape
        return Linear(node, slot, x, weight, shape, 1, k, n, 2 if node.op_type == "Gemm" else None)
    if node.op_type in ("Conv", "ConvTranspose", *_RECURRENT) and slot == 1 and len(shape) >= 3:
        return _fixed(node, x, weight, shape)
    return None


def _fixed(node: Node, x: Value, weight: Value, shape: tuple[int, ...]) -> Linear | None:
    if node.op_type in _RECURRENT:
        if node.attr("layout", 0):
            return None
        return Linear(node, 1, x, weight, shape, shape[0], shape[2], shape[1], None)
    groups: int = node.attr("group", 1)
    if groups < 1 or shape[0] % groups:
        return None
    if node.op_type == "Conv":
        return Linear(node, 1, x, weight, shape, groups, prod(shape[1:]), shape[0] // groups, 2)
    return Linear(node, 1, x, weight, shape, groups, shape[0] // groups, prod(shape[1:]), 2)


# ---- convolutions


def conv_pads(node: Node, kernel: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """The padding (before, after) of every spatial axis of a Conv with inputs of `sizes`."""
    rank = len(kernel)
    mode = node.attr("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode == "NOTSET":
        pads = node.attr("pads", [0] * 2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * rank
    strides, dilations = node.attr("strides", [1] * rank), node.attr("dilations", [1] * rank)
    found = []
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (length - 1) + 1 - size)
        small = total // 2
        found.append((small, total - small) if mode == "SAME_UPPER" else (total - small, small))
    return found


def with_pads(node: Node, kernel: Sequence[int], x: Array) -> Array:
    """The input of a Conv between its zeros; itself if there are none."""
    pads = conv_pads(node, kernel, x.shape[2:])
    return np.pad(x, [(0, 0), (0, 0), *pads]) if any(map(any, pads)) else x


def _spacing(count: int, at_most: int) -> int:
    """Every how manieth of so many rows is taken."""
    return max(1, -(-count // at_most))


def _patches(layer: Linear, x: Array, at_most: int | None) -> Array:
    """Unfold: `[groups, positions, k]` of `x` of shape [batch, channels, *sizes], positions batch-first. Only what is
    taken is copied."""
    node, kernel = layer.node, layer.kernel
    rank = len(kernel)
    strides, dilations = node.attr("strides", [1] * rank), node.attr("dilations", [1] * rank)
    padded = with_pads(node, kernel, x)
    spans = [dilation * (length - 1) + 1 for dilation, length in zip(dilations, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, stride) for stride in strides)
    taps = tuple(slice(None, None, dilation) for dilation in dilations)
    windows = windows[(slice(None), slice(None), *steps, *taps)]
    batch, channels = x.shape[:2]
    places = windows.shape[2 : 2 + rank]
    count = batch * prod(places)
    if at_most is not None and count > at_most:
        taken = np.unravel_index(np.arange(0, count, _spacing(count, at_most)), (batch, *places))
        found = np.moveaxis(windows, 1, 1 + rank)[taken]
        return found.reshape(len(found), layer.groups, layer.k).swapaxes(0, 1)
    grouped = windows.reshape(batch, layer.groups, channels // layer.groups, *places, *kernel)
    front = [1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank)]
    return grouped.transpose(front).reshape(layer.groups, count, layer.k)
