"""The groups of a model that hold channels or heads."""

from __future__ import annotations

from collections.abc import Iterator

from ....ir import Model, Node
from ....ir.analysis.coupling import Axis, Group, Mode, couple
from ....ir.analysis.linear import linear_of
from ....ir.analysis.shapes import Shapes, infer_shapes


def groups_of(model: Model, unit: Mode) -> Iterator[Group]:
    """Those of several units that `prune{unit=...}` looks at, free ones or not; the model should be folded."""
    shapes = infer_shapes(model)
    found = (group for group in couple(model, shapes, unit) if group.count > 1 and channels_in(group))
    return (group for group in found if holds(group, unit, shapes))


def holds(group: Group, unit: Mode, shapes: Shapes) -> bool:
    """Whether a group has weights of layers and, for heads, heads."""
    has_layer = any(linear_of(node) is not None for node in readers_of(group))
    return has_layer and (unit == "channel" or _holds_heads(group, shapes))


def channels_in(group: Group) -> list[Axis]:
    """The axes of weights of layers in it; those of the taps of kernels are none."""
    return [
        axis
        for axis in group.constants
        for use in axis.value.uses
        if isinstance(use.user, Node) and linear_of(use.user) is not None
        if use.user.op_type not in ("Conv", "ConvTranspose") or axis.axis < 2
    ]


def readers_of(group: Group) -> list[Node]:
    """The operators that read its constants."""
    return [use.user for axis in group.constants for use in axis.value.uses if isinstance(use.user, Node)]


def _holds_heads(group: Group, shapes: Shapes) -> bool:
    """Whether its units run along a batch axis of a product of two computed matrices."""
    for axis in group.axes:
        shape = shapes.shape(axis.value)
        is_batch = axis.value.const is None and shape is not None and axis.axis < len(shape) - 2
        for use in axis.value.uses if is_batch else ():
            if isinstance(use.user, Node) and use.user.is_op("MatMul") and linear_of(use.user) is None:
                return True
    return False
