"""Elementwise affine maps, y = scale x + shift: Mul, Div, Add, Sub, Neg by constants, and BatchNormalization.

`Channels` says which axis of x the numbers may vary along; a constant that varies along another, or widens x, is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ....ir import Node, Tensor, Value
from ...rewriting.driver import QUIET
from ...rewriting.rule import Types
from .constants import MINUS_ONE, ONE, ZERO, Array, exact, is_usable

ELEMENTWISE = ("Mul", "Div", "Add", "Sub")
AFFINE = (*ELEMENTWISE, "BatchNormalization")


class Channels:
    """The axis (from the end) of a tensor that a layer sees as channels, how many they are, and the tensor's rank."""

    def __init__(self, axis: int, count: int, rank: int | None) -> None:
        self.axis = axis
        self.count = count
        self.rank = rank

    def of(self, tensor: Tensor) -> Array | None:
        """A constant that broadcasts to the tensor, as float64 of shape (count,) or (1,); None if it varies along
        another axis than the channels, or widens the tensor."""
        shape = tensor.shape
        if len(shape) > (max(1, -self.axis) if self.rank is None else self.rank):
            return None
        at = len(shape) + self.axis
        for axis, size in enumerate(shape):
            if size != 1 and (axis != at or size != self.count):
                return None
        return exact(tensor).reshape(-1)


class Affine(NamedTuple):
    """scale x + shift, both float64 of shape (count,) or (1,); `consts` are the values that they come from."""

    x: Value
    scale: Array
    shift: Array
    consts: tuple[Value, ...]

    @property
    def scales(self) -> bool:
        """Whether it does more than add."""
        return self.scale is not ONE and bool((self.scale != 1).any())

    @property
    def shifts(self) -> bool:
        """Whether it does more than multiply."""
        return self.shift is not ZERO and bool(self.shift.any())


def affine_of(node: Node, slot: int, channels: Channels) -> Affine | str:
    """The map that `node` applies to what it reads at `slot`; or why it is none."""
    x = node.input(slot)
    if node.domain or x is None or any(attribute.ref for attribute in node.attributes.values()):
        return QUIET
    if node.op_type == "BatchNormalization":
        return _normalization(node, x, channels) if slot == 0 else QUIET
    if node.op_type not in ELEMENTWISE or len(node.inputs) != 2:
        return QUIET
    other = node.input(1 - slot)
    tensor = None if other is None else other.const
    if other is None or tensor is None or not is_usable(tensor):
        return QUIET
    c = channels.of(tensor)
    if c is None:
        return f"{QUIET} the constant varies along another axis, or widens the result"
    match node.op_type:
        case "Mul":
            found = Affine(x, c, ZERO, (other,))
        case "Div" if slot == 0:
            with np.errstate(all="ignore"):
                found = Affine(x, 1 / c, ZERO, (other,))
        case "Add":
            found = Affine(x, ONE, c, (other,))
        case "Sub":
            found = Affine(x, ONE, -c, (other,)) if slot == 0 else Affine(x, MINUS_ONE, c, (other,))
        case _:
            return QUIET
    return found if _is_finite(found) else f"the constant of {node.label} holds NaN or Inf, or divides by zero"


def _is_finite(affine: Affine) -> bool:
    return all(numbers is ONE or numbers is ZERO or np.isfinite(numbers).all() for numbers in affine[1:3])


def _normalization(node: Node, x: Value, channels: Channels) -> Affine | str:
    """BatchNormalization in inference: scale (x - mean) / sqrt(var + epsilon) + bias."""
    if channels.rank is None or channels.rank + channels.axis != 1:
        return QUIET
    if reason := why_it_trains(node):
        return reason
    values = [value for value in node.inputs[1:] if value is not None]
    tensors = [value.const for value in values if value.const is not None and is_usable(value.const)]
    if len(tensors) != 4 or any(tensor.shape != (channels.count,) for tensor in tensors):
        return f"{node.label}: its parameters are no constants"
    gain, bias, mean, var = map(exact, tensors)
    with np.errstate(all="ignore"):
        scale = gain / np.sqrt(var + np.float64(node.attr("epsilon", 1e-5)))
        found = Affine(x, scale, bias - mean * scale, tuple(dict.fromkeys(values)))
    return found if _is_finite(found) else f"{node.label}: its parameters give NaN or Inf"


def why_it_trains(node: Node) -> str:
    """Why a BatchNormalization does more than normalize with given statistics; empty if it does not."""
    if node.attr("training_mode", 0) or any(value.name for value in node.outputs[1:]):
        return f"{node.label} is in training mode"
    return f"{node.label} normalizes every place apart" if not node.attr("spatial", 1) else ""


def slots_of(node: Node) -> Iterator[int]:
    """The inputs that a map may be applied to."""
    yield 0
    if node.op_type in ("Mul", "Add", "Sub"):
        yield 1


def keeps_shape(affine: Affine, channels: Channels, types: Types) -> bool:
    """Whether y provably has the shape of x, though nothing but y is known to be a layer's input."""
    ranks = [len(c.const.shape) for c in affine.consts if c.const is not None]
    shape = types.shape(affine.x)
    if all(size == 1 for c in affine.consts if c.const is not None for size in c.const.shape):
        return max(ranks, default=0) == 0 or (shape is not None and len(shape) >= max(ranks))
    return shape is not None and len(shape) >= max(ranks) and shape[channels.axis] == channels.count
