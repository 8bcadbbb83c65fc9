"""Units: what a target computes in integers as a whole, and why it does not where it does not.

A unit is one operator of the target's profile with the activation behind it that its Q makes redundant. It reads
activations, which need parameters, and constants: a weight (levels per channel), a bias, and others, which are
quantized like activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from ....ir import Graph, Model, Node, Value
from ....ir.analysis.shapes import Shapes
from ....ir.dtypes import is_float
from ...calibrate.ranges import Range
from ..targets.profile import OperatorRule, Profile, Role

FLOAT = int(TensorProto.FLOAT)


@dataclass(frozen=True, eq=False)
class Unit:
    """`node` and perhaps `tail` behind it. `inputs` are activations and constants that are quantized like them, in slot
    order; `weight` and `bias` are slots of constants of products, -1 if there is none."""

    node: Node
    rule: OperatorRule
    inputs: tuple[tuple[int, Value], ...]
    weight: int = -1
    bias: int = -1
    tail: Node | None = None

    def now(self) -> Unit:
        """The unit with what its node reads now."""
        inputs = [(slot, self.node.inputs[slot]) for slot, _ in self.inputs]
        return replace(self, inputs=tuple((slot, value) for slot, value in inputs if value is not None))

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What is quantized behind it."""
        return (self.tail or self.node).outputs

    @property
    def activations(self) -> tuple[Value, ...]:
        """The inputs that are no constants."""
        return tuple(dict.fromkeys(value for _, value in self.inputs if value.const is None))

    @property
    def is_mover(self) -> bool:
        """Whether its outputs have the parameters of its input."""
        return self.rule.role is Role.MOVER

    @property
    def leaves_float(self) -> bool:
        """Whether its output may stay in float at no cost."""
        return self.rule.output == "either"


class Units:
    """The units of a model for a target; `declined` says of every other operator that the profile names, why."""

    def __init__(
        self, model: Model, profile: Profile, shapes: Shapes, excluded: Callable[[Unit], str] = lambda unit: ""
    ) -> None:
        """`excluded` says why a unit is left out, if it is."""
        self._profile, self._shapes, self._excluded = profile, shapes, excluded
        self.declined: dict[Node, str] = {}
        self.found: list[Unit] = []
        self._static: set[Value] = set()
        """What is computed from constants alone."""
        for graph in model.graph.walk_graphs():
            for node in graph.nodes:
                self._look_at(graph, node)

    def known(self, ranges: Mapping[Value, Range], shapes: Mapping[Value, object]) -> list[Unit]:
        """The units all of whose activations were seen on the data; the others are declined."""
        found = []
        for unit in self.found:
            if all(value in ranges and value in shapes for value in (*unit.activations, *unit.outputs)):
                found.append(unit)
            else:
                self.declined[unit.node] = "its values were never seen on the data, or cannot be observed"
        return found

    def _look_at(self, graph: Graph, node: Node) -> None:
        if node.inputs and not node.bodies and all(value is None or self._is_static(value) for value in node.inputs):
            self._static.update(node.outputs)
            return
        rule = None if node.domain else self._profile.rule(node.op_type)
        if rule is None:
            return
        made = self._unit(graph, node, rule)
        if isinstance(made, Unit):
            made = self._excluded(made) or _unsound(made) or made
        if isinstance(made, str):
            if made:
                self.declined[node] = made
        else:
            self.found.append(made)

    def _unit(self, graph: Graph, node: Node, rule: OperatorRule) -> Unit | str:
        """The unit of a node; or why it is none, empty where that is a matter of course (integers)."""
        if graph.opset.get("", 0) < rule.since:
            return f"8-bit {node.op_type} needs opset {rule.since}"
        if rule.mode and _text(node.attr("mode", rule.mode)) != rule.mode:
            return f"the target has {node.op_type} in integers with mode {rule.mode} only"
        if any(attribute.ref for attribute in node.attributes.values()):
            return "it reads an attribute of a function"
        if any(self._shapes.dtype(value) not in (FLOAT, None) for value in node.outputs[:1]):
            return ""
        tail = self._tail(node)
        match rule.role:
            case Role.COMPUTE:
                made: Unit | str = _product(node, rule, tail)
            case Role.POINTWISE:
                values = tuple((slot, value) for slot, value in enumerate(node.inputs) if value is not None)
                made = Unit(node, rule, values, tail=tail)
            case Role.MOVER:
                first = node.input(0)
                made = "it has no input" if first is None else Unit(node, rule, ((0, first),))
        if isinstance(made, Unit):
            if not made.activations:
                return ""
            if any(value in self._static for value in made.activations):
                return "it reads what is still to be computed from constants: fold does that"
            if any(self._shapes.dtype(value) not in (FLOAT, None) for _, value in made.inputs):
                return ""
        return made

    def _is_static(self, value: Value) -> bool:
        return value.const is not None or value in self._static

    def _tail(self, node: Node) -> Node | None:
        """The activation behind a node that the range of a Q makes redundant."""
        output = node.outputs[0]
        if len(output.uses) != 1 or not isinstance(output.uses[0].user, Node) or output.uses[0].slot:
            return None
        user = output.uses[0].user
        return user if user.graph is node.graph and user.is_op(*self._profile.absorbed) else None


def _product(node: Node, rule: OperatorRule, tail: Node | None) -> Unit | str:
    a, b = node.input(0), node.input(1)
    if a is None or b is None:
        return "an operand is missing"
    bias = node.input(2)
    if bias is not None and bias.const is None:
        return "its bias is computed"
    bias_slot = -1 if bias is None else 2
    if node.op_type == "Conv":
        if b.const is None or a.const is not None:
            return "its weight is computed"
        return Unit(node, rule, ((0, a),), 1, bias_slot, tail)
    if node.op_type == "Gemm":
        if node.attr("alpha", 1.0) != 1 or node.attr("transA", 0) or (bias is not None and node.attr("beta", 1.0) != 1):
            return "integer Gemm has no alpha, beta or transA"
        if b.const is None or a.const is not None:
            return "its weight is computed"
        if bias is not None and bias.const is not None and bias.const.size != b.const.shape[not node.attr("transB", 0)]:
            return "its bias is not one number per output"
        return Unit(node, rule, ((0, a),), 1, bias_slot, tail)
    if b.const is not None and len(b.const.shape) == 2:
        return Unit(node, rule, ((0, a),), 1, -1, tail)
    return Unit(node, rule, ((0, a), (1, b)), tail=tail)


def channel_axis(node: Node) -> int:
    """The axis of a weight that its output channels run along."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and node.attr("transB", 0) else 1


def keeps_name(value: Value) -> bool:
    """Whether what is decoded cannot take over the name of an activation: it is called from outside, or it names the
    run of a body or function."""
    node = value.producer
    if node is not None and (node.bodies or node.domain):
        return True
    return value.is_input or any(isinstance(use.user, Graph) for use in value.uses)


def _unsound(unit: Unit) -> str:
    """Why a unit cannot be quantized at all; empty if it can."""
    constants = [value.const for value in unit.node.inputs if value is not None and value.const is not None]
    if any(is_float(one.dtype) and not (one.size and np.isfinite(one.numpy()).all()) for one in constants):
        return "a constant is empty, or holds NaN or Inf"
    weight = unit.node.input(unit.weight) if unit.weight >= 0 else None
    if weight is not None and weight.const is not None and min(weight.const.shape) < unit.rule.least:
        return f"a product with fewer than {unit.rule.least} terms or outputs stays in float"
    if unit.weight < 0 and unit.node.is_op("Mul", "MatMul"):
        if any(keeps_name(value) for value in unit.activations) and len(unit.activations) > 1:
            return "it multiplies an input or output of the model with an activation"
        if unit.node.is_op("MatMul") and len(unit.activations) < len(unit.inputs):
            return "its constant is no matrix"
    return ""


def values_of(units: list[Unit]) -> Iterator[Value]:
    """The activations that units read and make."""
    seen = dict.fromkeys(value for unit in units for value in (*unit.activations, *unit.outputs))
    yield from seen


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
