"""Straightening: a model whose control flow is decided, as a straight line of nodes. No weight is copied.

An If of which the taken branch is known gives way to the nodes of that branch, a Loop or Scan of which the number of
turns is known to that many copies of its body. What comes out computes what the model computes wherever the decisions
are right. Bodies inside a body that is inlined stay as they are: they are straightened in a next round, with decisions
of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper

from .attribute import Attribute
from .clone import clone_function, clone_model, clone_node, clone_value
from .graph import Graph
from .model import Model
from .node import Node
from .tensor import Tensor, tensor
from .value import Use, Value


@dataclass(frozen=True)
class Decision:
    """What a node with bodies does: `body` is run `turns` times, an If's branch once.

    With `whole` the node stays and computes its outputs itself: the copies of the body, fewer than it runs, stand
    beside it, and nothing but they themselves reads what they compute.
    """

    body: Graph
    turns: int = 1
    whole: bool = False


class Origin(NamedTuple):
    """Where a node of a straight model comes from: the path of the body that it stood in, and what it was called.

    Parts of a path are `NODE.ATTRIBUTE`, with the turn, from 0, where there are turns; the main graph's is empty.
    """

    body: str
    label: str


@dataclass(frozen=True)
class Straight:
    """A model with decided control flow; `origins` tells of its nodes, `names` what its values were called there.

    What is missing in either is called as it is and stands in the main graph.
    """

    model: Model
    origins: Mapping[Node, Origin] = field(default_factory=dict)
    names: Mapping[Value, Origin] = field(default_factory=dict)

    def origin(self, node: Node) -> Origin:
        """Where a node comes from."""
        return self.origins.get(node) or Origin("", node.label)

    def name(self, value: Value) -> Origin:
        """Where a value comes from, and its name there."""
        return self.names.get(value) or Origin("", value.name)


def straighten(source: Straight, decisions: Mapping[Node, Decision]) -> Straight:
    """The model with the decisions taken for nodes of its main graph; `source` is left as it is."""
    return _Builder(source).build(decisions)


def can_straighten(node: Node, version: int) -> bool:
    """Whether `straighten` knows the node: an If, or a Loop or Scan in an opset that can stack what they collect."""
    if node.is_op("If"):
        return len(node.bodies) == 2
    return node.is_op("Loop", "Scan") and version >= 11 and len(node.bodies) == 1 and None not in node.inputs[2:]


def counting(model: Model, nodes: Iterable[Node]) -> tuple[Model, dict[Node, Value]]:
    """A copy of `model` that tells what is to be decided for nodes of its main graph, and the value there that does.

    For an If that is its condition, for a Scan its first sequence; a Loop collects the numbers of its turns.
    """
    made, wanted, chosen = clone_model(model), dict[Node, Value](), set(nodes)
    taken = {value.name for graph in model.walk_graphs() for value in graph.values()}
    for node, copy in zip(model.graph.nodes, made.graph.nodes, strict=True):
        if node not in chosen:
            continue
        read = copy.input(0)
        if copy.is_op("Scan"):
            read = copy.inputs[-int(copy.attr("num_scan_inputs"))]
        if copy.is_op("Loop"):
            read = _count_turns(copy, taken)
        if read is not None:
            wanted[node] = read
    return made, wanted


def _count_turns(loop: Node, taken: set[str]) -> Value:
    """Let a loop collect the numbers of its turns, in an output of its own."""
    assert loop.graph is not None
    (body,) = loop.bodies
    inner, outer = (Value(_free(f"turns_{name}", taken), graph) for name, graph in (("in", body), ("out", loop.graph)))
    node = Node("Identity", [body.inputs[0]], [inner], {})
    inner._producer, outer._producer = node, loop
    body.inputs[0]._uses[Use(node, 0)] = len(body.inputs[0]._uses)
    body.append(node)
    inner._uses[Use(body, len(body.outputs))] = 0
    body._outputs.append(inner)
    body._output_infos.append(helper.make_tensor_value_info(inner.name, TensorProto.INT64, []))
    loop._outputs += [Value("", loop.graph) for _ in body.outputs[1 + len(loop.outputs) : -1]]
    loop._outputs.append(outer)
    return outer


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


class _Builder:
    def __init__(self, source: Straight) -> None:
        self._source = source
        old = source.model
        self.graph = Graph(old.graph.name)
        self.mapping: dict[Value, Value] = {}
        self.origins: dict[Node, Origin] = {}
        self.names: dict[Value, Origin] = {}
        self._node_names = {node.name for graph in old.walk_graphs() for node in graph.nodes}
        self._taken = {value.name for graph in old.walk_graphs() for value in graph.values()}

    def build(self, decisions: Mapping[Node, Decision]) -> Straight:
        old = self._source.model
        for value in old.graph.inputs:
            made = clone_value(value, self.graph, self.mapping)
            made._is_input = True
            self.graph._inputs.append(made)
        self._initializers(old.graph.initializers)
        for node in old.graph.nodes:
            decision = decisions.get(node)
            if decision is None or decision.whole:
                self._copy(node, self._source.origin(node))
            if decision is not None:
                self._inline(node, decision)
        for slot, value in enumerate(old.graph.outputs):
            made = self.mapping[value]
            self.graph._outputs.append(made)
            made._uses[Use(self.graph, slot)] = len(made._uses)
        self.graph._output_infos = list(old.graph.output_infos)
        functions = [clone_function(function) for function in old.functions.values()]
        model = Model(self.graph, functions, old.source, old.path)
        model._ir_version, model._opset = max(old.ir_version, 4), dict(old.opset)  # a body's constants are no inputs
        return Straight(model, self.origins, self.names)

    def _initializers(self, values: Iterable[Value], body: str = "") -> None:
        for value in values:
            made = self.mapping[value] if value.is_input else clone_value(value, self.graph, self.mapping)
            made._tensor = value.tensor
            if body:
                self._rename(made, Origin(body, value.name))
            self.graph._initializers[made] = len(self.graph._initializers)

    def _copy(self, node: Node, origin: Origin, body: str = "") -> Node:
        """A copy of a node at the end; `body` is where it stands if it comes out of a body now."""
        made = clone_node(node, self.graph, self.mapping)
        self.origins[made] = origin
        for before, after in zip(node.outputs, made.outputs, strict=True):
            if body and after.name:
                self._rename(after, Origin(body, before.name))
            elif before in self._source.names:
                self.names[after] = self._source.names[before]
        if body:
            made.name = _free(f"{body}/{node.label}", self._node_names)  # copies of one body would share it
            made.source = made._source_attributes = None  # it has the old name
        return made

    def _inline(self, node: Node, decision: Decision) -> None:
        body, path = decision.body, self._path(node, decision.body)
        if node.is_op("If"):
            self._body(body, path)
            results = [self.mapping[value] for value in body.outputs]
        elif node.is_op("Loop"):
            results = self._loop(node, decision, path)
        else:
            results = self._scan(node, decision, path)
        if not decision.whole:
            for value, result in zip(node.outputs, results, strict=True):
                if value.name:
                    self._call(value, node, "Identity", [result])

    def _loop(self, node: Node, decision: Decision, path: str) -> list[Value]:
        body = decision.body
        states: list[Value] = [self._mapped(value) for value in node.inputs[2:] if value is not None]
        collected: list[list[Value]] = [[] for _ in body.outputs[1 + len(states) :]]
        going = self._constant(np.array(True))
        for turn in range(decision.turns):
            starts = (self._constant(np.array(turn, np.int64)), going, *states)
            self.mapping.update(zip(body.inputs, starts, strict=True))
            self._body(body, f"{path}[{turn}]")
            going, *results = [self.mapping[value] for value in body.outputs]
            states = results[: len(states)]
            for row, value in zip(collected, results[len(states) :], strict=True):
                row.append(value)
        return [*states, *([] if decision.whole else [self._stack(row, 0) for row in collected])]

    def _scan(self, node: Node, decision: Decision, path: str) -> list[Value]:
        body, scanned = decision.body, int(node.attr("num_scan_inputs"))
        given = [self._mapped(value) for value in node.inputs if value is not None]
        states, sequences = given[: len(given) - scanned], given[len(given) - scanned :]
        collected: list[list[Value]] = [[] for _ in body.outputs[len(states) :]]
        axes = node.attr("scan_input_axes") or [0] * scanned
        backwards = node.attr("scan_input_directions") or [0] * scanned
        for turn in range(decision.turns):
            parts = [
                self._call(
                    None, node, "Gather", [sequence, self._constant(np.array(-1 - turn if back else turn))], axis
                )
                for sequence, axis, back in zip(sequences, axes, backwards, strict=True)
            ]
            self.mapping.update(zip(body.inputs, (*states, *parts), strict=True))
            self._body(body, f"{path}[{turn}]")
            results = [self.mapping[value] for value in body.outputs]
            states = results[: len(states)]
            for row, value in zip(collected, results[len(states) :], strict=True):
                row.append(value)
        if decision.whole:
            return states
        axes = node.attr("scan_output_axes") or [0] * len(collected)
        backwards = node.attr("scan_output_directions") or [0] * len(collected)
        rows = zip(collected, axes, backwards, strict=True)
        return [*states, *(self._stack(row[::-1] if back else row, axis) for row, axis, back in rows)]

    def _body(self, body: Graph, path: str) -> None:
        """The nodes of a body at the end, their inputs mapped already."""
        self._initializers((value for value in body.initializers if not value.is_input), path)
        for node in body.nodes:
            self._copy(node, Origin(path, node.label), path)

    def _path(self, node: Node, body: Graph) -> str:
        outer, label = self._source.origin(node)
        attribute = next(name for name, one in node.attributes.items() if body in one.graphs)
        return f"{outer}/{label}.{attribute}" if outer else f"{label}.{attribute}"

    def _mapped(self, value: Value) -> Value:
        return self.mapping.get(value, value)

    def _stack(self, row: Sequence[Value], axis: int) -> Value:
        sequence = self._call(None, None, "SequenceConstruct", row)
        return self._call(None, None, "ConcatFromSequence", [sequence], axis, new_axis=1)

    def _constant(self, array: Any) -> Value:
        made: Tensor = tensor(array)
        return self.graph.add_initializer(self._fresh("turn"), made)

    def _call(
        self,
        stands_for: Value | None,
        origin: Node | None,
        op_type: str,
        inputs: Sequence[Value],
        axis: int | None = None,
        **more: int,
    ) -> Value:
        """The output of a new node at the end; it stands for a value of the old model, or for none."""
        given = more if axis is None else {"axis": axis, **more}
        attributes = {name: Attribute.of(name, value) for name, value in given.items()}
        if stands_for is None:
            output = Value(self._fresh(op_type), self.graph)
        else:
            output = clone_value(stands_for, self.graph, self.mapping)
            if stands_for in self._source.names:
                self.names[output] = self._source.names[stands_for]
        node = Node(op_type, list(inputs), [output], attributes)
        output._producer = node
        for slot, value in enumerate(inputs):
            value._uses[Use(node, slot)] = len(value._uses)
        if origin is not None:
            self.origins[node] = self._source.origin(origin)
        self.graph.append(node)
        return output

    def _rename(self, value: Value, origin: Origin) -> None:
        self.names[value] = origin
        value._name = self._fresh(f"{origin.body}/{origin.label}")

    def _fresh(self, name: str) -> str:
        return _free(name, self._taken)
