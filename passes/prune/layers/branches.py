"""Residual branches: what an Add puts on top of a value that passes by, and that nobody else reads.

An Add `y = x + f(x)` has a branch `f` if x, f(x) and y have the same shape, and among the operators that are
needed for f(x) alone are one that reads x, and a linear layer.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from ....ir import Model, Node, Value
from ....ir.analysis.linear import Linear, linear_of
from .agree import Agreement


@dataclass(frozen=True)
class Branch:
    """One branch: without it, `add` gives `skip`, and nobody needs `nodes`."""

    add: Node
    slot: int
    """Of the operand that passes by."""
    given: Value
    """What the branch adds."""
    nodes: frozenset[Node]
    layers: tuple[Linear, ...]

    @property
    def skip(self) -> Value:
        """What passes by, as long as the Add is there."""
        found = self.add.input(self.slot)
        assert found is not None
        return found

    @property
    def label(self) -> str:
        """The branch by its first and last layer."""
        names = [layer.node.label for layer in self.layers]
        return names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]}"

    @property
    def weights(self) -> list[Value]:
        """The constants that nobody else reads."""
        values = dict.fromkeys(value for node in self.nodes for value in node.inputs if value is not None)
        return [value for value in values if value.const is not None and _is_read_by(value, self.nodes)]


def branches(model: Model, shapes: Agreement) -> Iterator[Branch]:
    """All of the main graph and its bodies, in order; a branch may lie inside another."""
    for graph in model.graph.walk_graphs():
        for node in graph.nodes:
            if node.is_op("Add"):
                for slot in (0, 1):
                    found = _branch(node, slot, shapes)
                    if found is not None:
                        yield found


def _branch(add: Node, slot: int, shapes: Agreement) -> Branch | None:
    given, skip = add.input(slot), add.input(1 - slot)
    if given is None or skip is None or len(skip.uses) < 2 or skip.const is not None:
        return None
    if not shapes.holds(given, skip, add.outputs[0]):
        return None
    nodes = _needed_for(given, add, skip)
    layers = [layer for node in reversed(nodes) if (layer := linear_of(node)) is not None]
    if not layers or not any(use.user in nodes for use in skip.uses):
        return None
    return Branch(add, 1 - slot, given, frozenset(nodes), tuple(layers))


def _needed_for(value: Value, add: Node, skip: Value) -> list[Node]:
    """The operators that are needed for `value` alone, which `add` reads beside `skip`; the last one first."""
    found = {add: None}
    todo = [value]
    while todo:
        node = todo.pop().producer
        if node is None or node in found or node is skip.producer or node.graph is not add.graph:
            continue
        if all(_is_read_by(output, found) for output in node.outputs):
            found[node] = None
            todo += [read for read in node.inputs if read is not None]
    return list(found)[1:]


def _is_read_by(value: Value, nodes: Container[object]) -> bool:
    """Whether nothing but these reads a value."""
    return all(use.user in nodes for use in value.uses)
