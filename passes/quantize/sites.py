"""Who reads a constant as a weight: found by following it forward, through whatever only moves its elements, into the
bodies of If, Loop and Scan and into functions and out of them again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ...ir import Graph, Model, Node, Tensor, Value
from ...ir.dtypes import bits_of, is_float
from ...ir.graph import Function
from .layout import Layout, moved
from .roles import Form, Role, role_of


@dataclass(frozen=True)
class Site:
    """One reading of a constant as a weight, at input `slot` of a node; `layout` is that of the value there.

    `is_direct` says that the node reads the constant itself, with nothing in between.
    """

    node: Node
    slot: int
    role: Role
    layout: Layout
    is_direct: bool

    @property
    def is_table(self) -> bool:
        """Whether single rows can be read from the constant in place of this reading."""
        return self.is_direct and self.role.form is Form.TABLE

    @property
    def gathered_axis(self) -> int:
        """Along which axis of the constant rows are read from it, where `is_table`."""
        axis: int = self.node.attr("axis", 0)
        return axis % (self.layout.rank or 1)


@dataclass
class Readers:
    """All that becomes of a constant."""

    sites: list[Site] = field(default_factory=list)
    others: list[Node | Graph] = field(default_factory=list)
    """Nodes that read it as something else, and graphs that it is an output of."""
    strangers: list[Node] = field(default_factory=list)
    """Operators of unknown domains, and ways that are not followed."""
    computed: list[Node] = field(default_factory=list)
    """Operators whose weight is computed from it and other constants."""


class Finder:
    """Finds the readers of the constants of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._static: set[Value] = set()
        self._calls: dict[Function, list[Node]] = defaultdict(list)
        for graph in model.walk_graphs():
            for node in graph.nodes:
                self._note(node)

    def _note(self, node: Node) -> None:
        function = self._function(node)
        if function is not None:
            self._calls[function].append(node)
        inputs = [value for value in node.inputs if value is not None]
        if inputs and all(value.const is not None or value in self._static for value in inputs) and not node.bodies:
            self._static.update(node.outputs)

    def _function(self, node: Node) -> Function | None:
        return self._model.functions.get((node.domain, node.op_type, node.overload))

    def readers(self, value: Value, tensor: Tensor) -> Readers:
        """Who reads `value`, which holds `tensor`."""
        walk = _Walk(self, value)
        walk.follow(value, Layout.of(tensor.shape, tensor.dtype))
        return walk.found


class _Walk:
    """One constant's way through the model."""

    def __init__(self, finder: Finder, start: Value) -> None:
        self.found = Readers()
        self._finder = finder
        self._start = start
        self._seen: set[tuple[Value, bool]] = set()

    def follow(self, value: Value, layout: Layout, computed: bool = False) -> None:
        """Look at every reader of `value`; `computed` says that it is no longer the constant but made from it."""
        todo = [(value, layout, computed)]
        while todo:
            value, layout, computed = todo.pop()
            if (value, computed) in self._seen:
                continue
            self._seen.add((value, computed))
            ahead: list[tuple[Value, Layout, bool]] = []
            for user, slot in value.uses:
                if isinstance(user, Graph):
                    ahead += [(out, layout.partial(), computed) for out in self._leave(user, slot)]
                else:
                    ahead += self._enter(value, user, slot, layout, computed)
            todo += ahead[::-1]

    def _leave(self, graph: Graph, slot: int) -> list[Value]:
        """What an output of `graph` is outside it."""
        self.found.others.append(graph)
        if isinstance(graph.owner, Function):
            return [node.outputs[slot] for node in self._finder._calls[graph.owner] if slot < len(node.outputs)]
        if graph.parent is None:
            return []
        if not graph.parent.is_op("If"):
            self.found.strangers.append(graph.parent)
            return []
        return [graph.parent.outputs[slot]]

    def _enter(
        self, value: Value, node: Node, slot: int, layout: Layout, computed: bool
    ) -> list[tuple[Value, Layout, bool]]:
        """Where `value` goes on from `node`."""
        if scales_levels(node, slot):
            self.found.others.append(node)
            return []
        role = role_of(node, slot, layout.rank)
        if role is not None:
            if computed:
                self.found.computed.append(node)
            else:
                self.found.sites.append(Site(node, slot, role, layout, value is self._start))
            return []
        after = moved(node, slot, layout)
        if after is not None:
            return [(out, after, computed) for out in node.outputs]
        self.found.others.append(node)
        inner = self._inside(node, slot, layout)
        if inner is not None:
            return [(*inner, computed)]
        if node.outputs and node.outputs[0] in self._finder._static and not _is_about_it(node):
            return [(out, layout.unknown(), True) for out in node.outputs]
        if node.domain not in ("", "ai.onnx.ml"):
            self.found.strangers.append(node)
        return []

    def _inside(self, node: Node, slot: int, layout: Layout) -> tuple[Value, Layout] | None:
        """What an input of `node` is inside its body, if the node is a call or hands it through unchanged."""
        function = self._finder._function(node)
        if function is not None:
            return (function.body.inputs[slot], layout.partial()) if slot < len(function.body.inputs) else None
        if node.is_op("Loop") and slot >= 2:
            body = node.bodies[0]
            return (body.inputs[slot], layout.partial()) if _same(body.inputs[slot], body.outputs[slot - 1]) else None
        if node.is_op("Scan") and len(node.inputs) == len(node.bodies[0].inputs):
            body, states = node.bodies[0], len(node.inputs) - node.attr("num_scan_inputs", 0)
            if slot >= states:
                return body.inputs[slot], layout.unknown()
            return (body.inputs[slot], layout.partial()) if _same(body.inputs[slot], body.outputs[slot]) else None
        return None


def _is_about_it(node: Node) -> bool:
    """Whether the output holds no numbers like those of the input, but says something about them."""
    return node.is_op(*_ABOUT) or (node.is_op("Cast") and not is_float(node.attr("to", 0)))


_ABOUT = ("Shape", "Size", "ArgMax", "ArgMin", "NonZero", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")


def _same(value: Value, other: Value) -> bool:
    """Whether `other` is `value`, perhaps through Identity."""
    while other.producer is not None and other.producer.is_op("Identity"):
        inner = other.producer.input(0)
        if inner is None:
            return False
        other = inner
    return other is value


def scales_levels(node: Node, slot: int) -> bool:
    """Whether input `slot` of `node` is the scale of integers that are decoded there, or a book that they are looked up
    in: it is never encoded again."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.domain in ("", "com.microsoft"):
        return slot > 0
    if node.domain == "com.microsoft" and node.op_type == "MatMulNBits":
        return slot > 1
    if node.op_type.startswith("QLinear") or node.op_type in ("QGemm", "MatMulIntegerToFloat"):
        return True
    if node.is_op("Gather") and slot == 0:
        if _bits_of_codes(node.input(1)) in range(1, 9):  # more is an index into a table, as of positions
            return True
        uses = node.outputs[0].uses
        return bool(uses) and all(isinstance(user, Node) and scales_levels(user, at) for user, at in uses)
    if not node.is_op("Mul"):
        return False
    other = node.input(1 - slot)  # codes as they are stored are no floats, and nothing that scales multiplies them
    return other is not None and other.const is None and _bits_of_codes(other) > 0


def _bits_of_codes(value: Value | None) -> int:
    """The bits of the integer constant that `value` is decoded from as this pass does it; 0 if it is not."""
    for _ in range(_LONGEST):
        if value is None:
            return 0
        if value.const is not None:
            return 0 if is_float(value.const.dtype) else bits_of(value.const.dtype)
        node = value.producer
        if node is None or not node.is_op("Cast", "Sub", "Mul", "Reshape", "Slice", "Gather"):
            return 0
        table = node.input(0)
        is_book = node.is_op("Gather") and table is not None and table.const is not None and is_float(table.const.dtype)
        value = node.input(1) if is_book else table
    return 0


_LONGEST = 12
"""More nodes than decode a weight one after the other."""
