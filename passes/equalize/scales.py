"""Scales of channels: through which axes a factor passes, and which constants take it in.

Element `i` of an axis of a value may be divided by a factor s_i > 0 everywhere if what makes it can be divided too and
what reads it multiplies it back. `Scales` is what the rules (`layers`, `moves`) say of a model: *ties* between elements
that have one factor, *touches* by which a constant takes a factor in, and *frozen* elements, whose factor is 1. As in
the analysis of coupling, an axis that no rule speaks of is frozen: an operator that is not known keeps its channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from onnx import TensorProto

from ...ir import Node, SparseTensor, Tensor, Value
from ...ir.analysis.coupling.axes import Axis, Facts, Index

TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE)
"""Element types with room for factors; activations in float16 could overflow."""


class Role(StrEnum):
    """What a constant is to the channels that it is scaled for."""

    MAKES = "makes"
    READS = "reads"
    FOLLOWS = "follows"
    """It has to be scaled, but its size says nothing: a bias, a mean."""


@dataclass(frozen=True, eq=False)
class Touch:
    """The constant at `slot` of `node` is multiplied by s ** `power`, s being the factors of `axis`.

    `index` broadcasts to the shape of the constant and holds the element of the axis that each number belongs to.
    """

    node: Node
    slot: int
    constant: Value
    axis: Axis
    index: Index
    power: int
    role: Role

    @property
    def tensor(self) -> Tensor:
        """What the constant is."""
        assert self.constant.const is not None
        return self.constant.const


@dataclass
class Scales(Facts):
    """What the rules have said of one model."""

    touches: list[Touch] = field(default_factory=list)

    def at(self, value: Value, axis: int) -> Axis:
        """An axis of known size, counted from the end if negative; it takes note of it."""
        found = super().at(value, axis)
        self.graph.add_node(found)
        return found

    def absorb(self, node: Node, slot: int, axis: Axis, index: Index, power: int, role: Role) -> None:
        """Let a constant take in the factors of an axis."""
        constant = node.input(slot)
        assert constant is not None
        assert constant.const is not None
        if constant.const.dtype not in TYPES or isinstance(constant.const, SparseTensor):
            self.freeze(axis, f"{constant.name} is not dense and of float32 or float64")
            return
        self.touches.append(Touch(node, slot, constant, axis, index, power, role))
        self.allow(axis)

    def tie_sizes(self, a: Value, i: int, b: Value, j: int) -> None:
        """Tie two axes of the same known size; leave both unsaid (so frozen) if they are not."""
        if self.size(a, i) is not None and self.size(a, i) == self.size(b, j):
            self.tie(self.at(a, i), self.at(b, j))

    def freeze_at(self, value: Value, axis: int, reason: str) -> None:
        """All elements of an axis, if its size is known, must stay."""
        if self.size(value, axis) is not None:
            self.freeze(self.at(value, axis), reason)


def along(axis: int, size: int, rank: int) -> Index:
    """The numbers of the elements along one axis of a constant, in a shape that broadcasts to it."""
    return np.arange(size).reshape([size if place == axis % rank else 1 for place in range(rank)])


def is_zero(value: Value | None) -> bool:
    """Whether a value is a constant of zeros alone, to which factors do nothing."""
    return value is not None and value.const is not None and not value.const.numpy().any()
