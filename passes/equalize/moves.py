"""Rules for operators without weights of their own: those that a positive factor passes through, and those with
constants that take it in.

    f(x / s) = f(x) / s  for Relu and its kind, pools, and what moves elements
    (x + c) / s = x / s + c / s;  max, min, mean and Where likewise
    x c / t = (x / s) (c s / t)
"""

from __future__ import annotations

import numpy as np

from ...ir import Node, Value
from ...ir.analysis.coupling import moves
from ...ir.analysis.coupling.axes import Axis, constant_ints
from .scales import Role, Scales, along, is_zero

Dim = int | None


def homogeneous(node: Node, scales: Scales) -> None:
    """Relu and its kind, of one operand; of PRelu's slopes the factor leaves the sign, which alone matters."""
    x, y = node.input(0), node.outputs[0]
    shape = scales.shape(y)
    if x is not None and shape is not None and scales.shape(x) is not None:
        for axis in range(len(shape)):
            scales.tie_sizes(x, axis, y, axis)


def clip(node: Node, scales: Scales) -> None:
    """Clip is a Relu if it has no upper end, and 0 for the lower one."""
    ends = [node.input(slot) for slot in (1, 2)]
    if {"min", "max"} & node.attributes.keys():
        if node.attr("min") == 0 and node.attr("max") is None:
            homogeneous(node, scales)
    elif ends[1] is None and (ends[0] is None or is_zero(ends[0])):
        homogeneous(node, scales)


def additive(node: Node, scales: Scales) -> None:
    """Add, Sub, Max, Min, Sum, Mean: all operands have the factor of the result."""
    _added(node, range(len(node.inputs)), scales)


def where(node: Node, scales: Scales) -> None:
    """Where chooses between two operands with one factor."""
    _added(node, (1, 2), scales)


def _added(node: Node, slots: range | tuple[int, ...], scales: Scales) -> None:
    y, out = node.outputs[0], scales.shape(node.outputs[0])
    operands = [(slot, value) for slot in slots if (value := node.input(slot)) is not None and not is_zero(value)]
    shapes = [scales.shape(value) for _, value in operands]
    if out is None or any(shape is None for shape in shapes):
        return
    for back in range(1, len(out) + 1):
        sizes = [_size(shape or (), back) for shape in shapes]
        if out[-back] is None or None in sizes:
            continue
        for (slot, value), size in zip(operands, sizes, strict=True):
            if size is None or size != out[-back]:
                scales.freeze_at(y, -back, f"{value.name} is the same for all elements ({node.label})")
            elif value.const is None:
                scales.tie(scales.at(value, -back), scales.at(y, -back))
            else:
                index = along(-back, size, len(value.const.shape))
                scales.absorb(node, slot, scales.at(y, -back), index, -1, Role.FOLLOWS)


def _size(shape: tuple[Dim, ...], back: int) -> Dim:
    """The size of an axis counted from the end; -1 where broadcasting adds it."""
    return shape[-back] if len(shape) >= back else -1


def product(node: Node, scales: Scales) -> None:
    """Mul and Div by a constant."""
    numbers = [slot for slot in (0, 1) if (value := node.input(slot)) is not None and value.const is not None]
    if numbers == [1] or (numbers == [0] and node.op_type == "Mul"):
        _by_constant(node, numbers[0], scales)


def _by_constant(node: Node, slot: int, scales: Scales) -> None:
    """Where the constant has one number an element the factors on its two sides are independent."""
    x, c, y = node.input(1 - slot), node.input(slot), node.outputs[0]
    assert x is not None
    assert c is not None
    assert c.const is not None
    shape, out, own = scales.shape(x), scales.shape(y), c.const.shape
    if shape is None or out is None:
        return
    sign = -1 if node.op_type == "Div" else 1
    for back in range(1, len(out) + 1):
        size = _size(shape, back)
        if size is None or out[-back] != size:
            continue
        if len(own) >= back and own[-back] == size:
            index = along(-back, size, len(own))
            scales.absorb(node, slot, scales.at(x, -back), index, sign, Role.READS)
            scales.absorb(node, slot, scales.at(y, -back), index, -sign, Role.MAKES)
        else:
            scales.tie(scales.at(x, -back), scales.at(y, -back))


def is_open(node: Node) -> bool:
    """Whether both operands of a Mul or Div are computed: which of them has the factor has to be decided."""
    return node.is_op("Mul", "Div") and all(value is not None and value.const is None for value in node.inputs)


def decide(node: Node, scales: Scales, stuck: set[Axis]) -> None:
    """Let the factor of the result be that of the first operand, or of the second of a Mul if the first is held."""
    y = node.outputs[0]
    slot = 0
    if node.op_type == "Mul" and all(axis in stuck for axis in scales.axes(_operand(node, 0))):
        slot = 1
    kept, held = _operand(node, slot), _operand(node, 1 - slot)
    scales.freeze_value(held, f"{node.label} multiplies by it")
    out, shape = scales.shape(y), scales.shape(kept)
    if kept is held or out is None or shape is None:
        return
    for back in range(1, len(shape) + 1):
        scales.tie_sizes(kept, -back, y, -back)


def _operand(node: Node, slot: int) -> Value:
    value = node.input(slot)
    assert value is not None
    return value


def pad(node: Node, scales: Scales) -> None:
    """Axes that are not padded pass, if what is padded is zero or taken from the value."""
    constant = node.attr("mode", b"constant") in (b"constant", "constant")
    filler = node.input(2)
    filled = not is_zero(filler) if filler is not None else bool(node.attr("value", 0.0))
    if not (constant and filled):
        moves.pad(node, scales)


def resize(node: Node, scales: Scales) -> None:
    """The first two axes pass where they are not resized; nothing may be filled in."""
    x, y = node.input(0), node.outputs[0]
    shape = scales.shape(x)
    fills = node.attr("coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    if x is None or shape is None or scales.shape(y) is None or node.attr("axes") is not None or fills:
        return
    sizes = node.input(3) if node.op_type == "Resize" else None
    factors = node.input(1 if node.op_type == "Upsample" or len(node.inputs) < 3 else 2)
    for axis in range(min(2, len(shape))):
        if sizes is not None or _is_one(factors, axis):
            scales.tie_sizes(x, axis, y, axis)


def _is_one(factors: Value | None, axis: int) -> bool:
    return factors is not None and factors.const is not None and bool(factors.const.numpy().reshape(-1)[axis] == 1)


def reduce(node: Node, scales: Scales) -> None:
    """Axes that are not reduced pass."""
    x, y = node.input(0), node.outputs[0]
    shape = scales.shape(x)
    if x is None or shape is None or scales.shape(y) is None:
        return
    axes = constant_ints(node.input(1)) if node.input(1) is not None else node.attr("axes")
    if axes is None:
        return
    gone = {axis % len(shape) for axis in axes}
    stay = [axis for axis in range(len(shape)) if axis not in gone]
    for place, axis in enumerate(stay):
        scales.tie_sizes(x, axis, y, axis if node.attr("keepdims", 1) else place)


def shape_of(node: Node, scales: Scales) -> None:
    """Shape and Size: numbers do not matter."""
    for value in node.inputs:
        for axis in scales.axes(value) if value is not None else ():
            scales.allow(axis)


def gather(node: Node, scales: Scales) -> None:
    """Axes that are not indexed pass, and those that constants index."""
    x, picks, y = node.input(0), node.input(1), node.outputs[0]
    shape = scales.shape(x)
    if x is None or shape is None or scales.shape(y) is None:
        return
    moves.gather(node, scales)
    along_axis = node.attr("axis", 0) % len(shape)
    numbers = constant_ints(picks)
    size = scales.size(x, along_axis)
    if numbers is None or picks is None or picks.const is None or size is None:
        return
    inside = all(-size <= number < size for number in numbers)
    if inside and len(picks.const.shape) == 1 and scales.size(y, along_axis) == len(numbers):
        where_ = np.arange(size)[numbers]
        scales.tie(scales.at(x, along_axis), scales.at(y, along_axis), where_, np.arange(len(numbers)))
