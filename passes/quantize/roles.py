"""Which inputs of which operators are weights, and how an error of one reaches the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ...ir import Node


class Form(StrEnum):
    """How the error of a weight reaches the output: the forms of `LocalBound`."""

    LINEAR = "linear"
    TABLE = "table"
    WEIGHT = "weight"


@dataclass(frozen=True)
class Role:
    """What an operator does with a weight of a known rank; axes are those of the weight at its slot.

    `channels` are worth a scale for every index; None means that nothing is known. For LINEAR, y sums products over
    the axes `summed`, and axis `out` of the weight runs along axis `y_axis` of y (None: the bound is one number for all
    of y). `factor` scales the products. `groups` is for ConvTranspose alone: input channels fall into so many groups,
    each with output channels of its own. Every index of `input_axis` meets one channel of x (None: no axis does so).
    """

    form: Form
    channels: tuple[int, ...] | None
    summed: tuple[int, ...] = ()
    out: int | None = None
    y_axis: int = 0
    factor: float = 1.0
    groups: int = 1
    input_axis: int | None = None


def role_of(node: Node, slot: int, rank: int | None) -> Role | None:
    """The role of input `slot` of `node` if it is a weight of `rank` axes (None: unknown); None if it is no weight."""
    roles = STANDARD if node.domain == "" else MICROSOFT if node.domain == "com.microsoft" else {}
    find = roles.get((node.op_type, slot))
    if find is None:
        return None
    readable = rank is not None and not any(attribute.ref for attribute in node.attributes.values())
    return find(node, rank) if rank is not None and readable else Role(Form.WEIGHT, None)


Find = Callable[[Node, int], Role]


def _all_but(rank: int, *axes: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis not in axes)


def _matmul_right(node: Node, rank: int) -> Role:
    """y[.., m, n] = sum_k x[.., m, k] w[.., k, n]; a vector w leaves no n."""
    if rank < 2:
        return Role(Form.LINEAR, (), (0,))
    return Role(Form.LINEAR, _all_but(rank, rank - 2), (rank - 2,), rank - 1, -1, input_axis=rank - 2)


def _matmul_left(node: Node, rank: int) -> Role:
    """y[.., m, n] = sum_k w[.., m, k] x[.., k, n]. Where m lies in y depends on the rank of x: one number is stated."""
    return Role(Form.LINEAR, _all_but(rank, rank - 1), (rank - 1,), input_axis=rank - 1)


def _gemm(is_left: bool) -> Find:
    def find(node: Node, rank: int) -> Role:
        """y[m, n] = alpha sum_k a[m, k] b[k, n] + beta c, each of a and b transposed on request."""
        transposed = bool(node.attr("transA" if is_left else "transB", 0))
        summed = 0 if is_left == transposed else 1
        y_axis, factor = 0 if is_left else 1, abs(node.attr("alpha", 1.0))
        return Role(Form.LINEAR, (1 - summed,), (summed,), 1 - summed, y_axis, factor, input_axis=summed)

    return find


def _conv(node: Node, rank: int) -> Role:
    """W is [out, in / group, kernel...]; padding adds zeros, which add no error."""
    inputs = 1 if node.attr("group", 1) == 1 else None
    return Role(Form.LINEAR, (0,), tuple(range(1, rank)), 0, 1, input_axis=inputs)


def _conv_transpose(node: Node, rank: int) -> Role:
    """W is [in, out / group, kernel...]. Output channels lie along axis 1, with groups along both axes: a scale per
    input channel then keeps the groups apart (it is the output channel if the convolution is depthwise)."""
    groups = node.attr("group", 1)
    channels, inputs = ((1,), 0) if groups == 1 else ((0,), None)
    return Role(Form.LINEAR, channels, tuple(range(2, rank)), 1, 1, groups=groups, input_axis=inputs)


def _recurrent(node: Node, rank: int) -> Role:
    """W and R are [directions, gates * hidden, in]."""
    return Role(Form.WEIGHT, (0, 1))


def _first_axis(node: Node, rank: int) -> Role:
    return Role(Form.WEIGHT, (0,))


def _last_axis(node: Node, rank: int) -> Role:
    return Role(Form.WEIGHT, (rank - 1,))


def _any_axis(node: Node, rank: int) -> Role:
    return Role(Form.WEIGHT, None)


def _table(node: Node, rank: int) -> Role:
    """Either a scale per row or one per column, so no axis is given away here."""
    return Role(Form.TABLE, None)


STANDARD: dict[tuple[str, int], Find] = {
    ("MatMul", 0): _matmul_left,
    ("MatMul", 1): _matmul_right,
    ("Gemm", 0): _gemm(True),
    ("Gemm", 1): _gemm(False),
    ("Conv", 1): _conv,
    ("ConvTranspose", 1): _conv_transpose,
    ("DeformConv", 1): _first_axis,
    ("Gather", 0): _table,
    ("Einsum", 0): _any_axis,
    ("Einsum", 1): _any_axis,
    ("LSTM", 1): _recurrent,
    ("LSTM", 2): _recurrent,
    ("GRU", 1): _recurrent,
    ("GRU", 2): _recurrent,
    ("RNN", 1): _recurrent,
    ("RNN", 2): _recurrent,
}
"""Operators of the standard domain by name and input slot."""

MICROSOFT: dict[tuple[str, int], Find] = {
    ("FusedConv", 1): _first_axis,
    ("FusedGemm", 1): _any_axis,
    ("FusedMatMul", 1): _any_axis,
    ("Attention", 1): _last_axis,
}
"""Operators that onnxruntime's optimizer writes into saved models."""
