"""Operators that stay in float and that the target computes faster spelled out.

softmax(x) = e / sum(e), e = exp(x - max(x)), is what its kernel does, but one that knows the last axis alone transposes
before and behind it: over an axis with others between it and the last, by single numbers. Spelled out nothing is moved.
Both subtract the same maximum, and differ in the order in which e is summed up: ROUNDING, of n numbers within
2 gamma(n + 3) of y, on top of the exponential's own error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ....ir import Node, Rewriter, Value, tensor
from .alone import Shape
from .each_run import EachRun
from .emit import Emitter
from .units import Unit

STEPS = 5
"""Nodes of what is spelled out."""
_AXES_ARE_INPUTS = 18
"""The opset from which on ReduceMax reads its axes."""


def is_apart(unit: Unit, shapes: Mapping[Value, Shape]) -> bool:
    """Whether a unit is a Softmax over an axis that has others between it and the last one."""
    shape = shapes.get(unit.inputs[0][1], ())
    if not unit.node.is_op("Softmax") or not shape:
        return False
    axis = unit.node.attr("axis", -1) % len(shape)
    return prod(shape[axis + 1 : -1]) > 1 and shape[axis] > 1 and shape[-1] > 1


def spell_softmax(rewriter: Rewriter, node: Node) -> None:
    """Write a Softmax of opset 13 or later in single steps; its result keeps its name."""
    x, graph, axis = node.inputs[0], node.graph, node.attr("axis", -1)
    assert x is not None
    assert graph is not None
    axes = rewriter.constant(graph, tensor(np.array([axis], np.int64)), "axes", before=node)

    def step(op_type: str, *inputs: Value, **attributes: object) -> Value:
        made = rewriter.insert(op_type, inputs, attributes, before=node, outputs=[op_type.lower()], origin=[node])
        return made.outputs[0]

    reads_axes = graph.opset[""] >= _AXES_ARE_INPUTS
    greatest = step("ReduceMax", x, axes) if reads_axes else step("ReduceMax", x, axes=[axis])
    powers = step("Exp", step("Sub", x, greatest))
    result = step("Div", powers, step("ReduceSum", powers, axes))
    rewriter.take_over(node.outputs[0], result)
    rewriter.erase(node)


SPELLINGS: Mapping[str, Callable[[Rewriter, Node], None]] = {"Softmax": spell_softmax}


@dataclass(frozen=True)
class Spelling:
    """Writes units in integers, and spells out those of `slow` that stay in float."""

    emitter: Emitter | EachRun
    slow: Sequence[Unit]

    def follow(self, old: Value, new: Value) -> None:
        """Take note that the units read `new` now, which stands for `old`."""
        self.emitter.follow(old, new)

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do; spelling out is but rounding."""
        self.emitter.promise(units)

    def emit(self, units: Sequence[Unit]) -> None:
        """Change the model."""
        self.emitter.emit(units)
        taken = {unit.node for unit in units}
        for unit in self.slow:
            if unit.node not in taken:
                SPELLINGS[unit.node.op_type](self.emitter.ctx.rewriter, unit.node)
