"""The Rewriter: the only way to change a model.

Every primitive change goes into a journal with its inverse. From the journal come the changed flag, undo for
transactions, provenance and statistics; listeners hear of every edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import RewriteError
from .attribute import Attribute
from .clone import Mapping as Copies
from .declarations import Declarations
from .graft import detached_copy
from .graph import Graph
from .links import Links, all_values, next_alive
from .model import Model
from .names import Names
from .node import Node
from .origin import Origin
from .tensor import Tensor
from .value import Use, Value


class Rewriter(Declarations):
    """Changes one model and remembers how.

    `by` names the pass (and rule) that acts; the pass manager sets it.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._names = Names(model.roots())
        self._links = Links(self._names)

    def rollback(self, mark: int) -> None:
        """Undo everything since `mark`."""
        super().rollback(mark)
        self._names.forget_hints()

    # ---- nodes

    def insert(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        before: Node | None = None,
        graph: Graph | None = None,
        outputs: Sequence[str] = ("",),
        domain: str = "",
        origin: Sequence[Node] = (),
    ) -> Node:
        """A new node before `before`, or at the end of `graph`.

        `outputs` are hints for names, made unique (`op_type` where empty); `attributes` are Python values (see
        `Attribute.of`) or Attributes; `origin` are the nodes that it stands for. The node itself has no name: names of
        nodes must not clash, and nothing refers to them.
        """
        graph = graph if before is None else before.graph
        if graph is None:
            raise RewriteError(f"insert of {op_type}: neither a graph nor a living node says where")
        made = {
            name: value if isinstance(value, Attribute) else Attribute.of(name, value)
            for name, value in (attributes or {}).items()
            if value is not None
        }
        values = [Value(name, graph) for name in self._names.fresh_all(graph, [hint or op_type for hint in outputs])]
        node = Node(
            op_type,
            list(inputs),
            values,
            made,
            domain=domain,
            origin=Origin.joined(node._origin for node in origin),
            made_by=self.by,
        )
        for value in values:
            value._producer = node
        _check_visible(node, graph, node.inputs)
        self._links.place(node, graph, before)

        def undo() -> None:
            self._links.take_out(node)

        self.record("insert", node, undo)
        return node

    def insert_copy(
        self,
        node: Node,
        copies: Copies,
        *,
        before: Node | None = None,
        graph: Graph | None = None,
        keep_names: bool = False,
    ) -> Node:
        """A copy of `node` and its bodies before `before`, or at the end of `graph`; the node may be of another model.

        `copies` says what stands for the values that it reads, and learns what stands for its outputs. All values of
        the copy get fresh names, near those of the originals. `keep_names` keeps names of nodes: for an original that
        will be erased, since they must not clash.
        """
        graph = graph if before is None else before.graph
        if graph is None:
            raise RewriteError(f"copy of {node.label!r}: neither a graph nor a living node says where")
        copy, reads = detached_copy(node, copies, keep_names=keep_names)
        named = [value for value in all_values(copy) if value.name]
        for value, name in zip(named, self._names.fresh_all(graph, [v.name for v in named]), strict=True):
            value._name = name
        copy.made_by = self.by
        _check_visible(copy, graph, (value for value, _ in reads))
        self._links.place(copy, graph, before, [(value, use, -1) for value, use in reads])

        def undo() -> None:
            self._links.take_out(copy)

        self.record("insert", copy, undo)
        return copy

    def erase(self, node: Node) -> None:
        """Remove a node whose outputs nobody uses."""
        graph = node.graph
        if graph is None:
            raise RewriteError(f"node {node.label!r} is erased already")
        self.check_touch(node)
        used = next((value for value in node.outputs if not value.is_dead), None)
        if used is not None:
            raise RewriteError(f"node {node.label!r} cannot be erased: {used.name!r} is still used")
        following = next_alive(node)
        released = self._links.take_out(node)

        def undo() -> None:
            self._links.place(node, graph, following, released)

        left = tuple(dict.fromkeys(value for value, _, _ in released))
        self.record("erase", node, undo, left, keeps_types=True)

    def set_input(self, node: Node, slot: int, value: Value | None, *, keeps_types: bool = False) -> None:
        """Let an existing input slot of a node read another value; `keeps_types` as for `replace`."""
        old = node._inputs[slot]
        if old is value:
            return
        if value is not None and (node.graph is None or value.graph is None or not node.graph.is_inside(value.graph)):
            raise RewriteError(f"node {node.label!r} cannot read {value.name!r}: it is out of scope")
        use = Use(node, slot)
        position = None if old is None else self._links.unlink(old, use)
        node._inputs[slot] = value
        if value is not None:
            self._links.link(value, use)

        def undo() -> None:
            if value is not None:
                self._links.unlink(value, use)
            node._inputs[slot] = old
            if old is not None:
                self._links.link(old, use, position)

        self.record("set-input", node, undo, () if old is None else (old,), keeps_types=keeps_types)

    def set_attribute(self, node: Node, name: str, value: Any) -> None:
        """Set an attribute from a Python value or an Attribute; None removes it. Graphs cannot be set."""
        self.check_touch(node)
        before, constant = node._attributes, node._constant
        after = {key: attribute for key, attribute in before.items() if key != name}
        if value is not None:
            after[name] = value if isinstance(value, Attribute) else Attribute.of(name, value)
        if (name in before and before[name].graphs) or (name in after and after[name].graphs):
            raise RewriteError(f"attribute {name!r} of {node.label!r} is a graph, which cannot be set")
        node._attributes, node._constant = after, None

        def undo() -> None:
            node._attributes, node._constant = before, constant

        self.record("set-attribute", node, undo)

    # ---- values

    def replace(self, old: Value, new: Value, *, keeps_types: bool = False) -> None:
        """Let every user of `old` read `new`. Output names of the main graph are kept: `new` takes the name over, or an
        Identity stands between where it cannot.

        `keeps_types` says that as much is known of the type of `new` as of `old`, and as much of its elements if they
        may be sizes: then inference says of all values that are left what it said before.
        """
        for use in old.uses:
            if isinstance(use.user, Node):
                self.set_input(use.user, use.slot, new, keeps_types=keeps_types)
            else:
                self._replace_output(use.user, use.slot, old, new)

    def take_over(self, old: Value, new: Value) -> None:
        """Let every user of `old` read `new`, which takes its name."""
        is_output = any(isinstance(use.user, Graph) and use.user.owner is not None for use in old.uses)
        self.replace(old, new)
        if not is_output:  # else it has the name already, or an Identity behind it has
            self.swap_names(old, new)

    def set_output(self, graph: Graph, slot: int, value: Value) -> None:
        """Let an output of a graph be another value of that graph."""
        old = graph._outputs[slot]
        if value.graph is not graph:
            raise RewriteError(f"output {slot} of {graph.label} cannot be {value.name!r}: another graph defines it")
        use = Use(graph, slot)
        position = self._links.unlink(old, use)
        graph._outputs[slot] = value
        self._links.link(value, use)

        def undo() -> None:
            self._links.unlink(value, use)
            graph._outputs[slot] = old
            self._links.link(old, use, position)

        self.record("set-output", graph, undo, (old,))

    def _replace_output(self, graph: Graph, slot: int, old: Value, new: Value) -> None:
        plain = new.graph is graph and not new.is_input and new not in graph._outputs and not new.pinned
        value = new if plain else self.insert("Identity", [new], graph=graph, outputs=[old.name]).outputs[0]
        self.set_output(graph, slot, value)
        if graph.owner is not None:
            self.swap_names(old, value)

    def swap_names(self, a: Value, b: Value) -> None:
        """Exchange the names of two values."""

        def swap() -> None:
            a._name, b._name = b._name, a._name

        swap()
        self.record("rename", a, swap, partner=b, keeps_types=True)

    def rename(self, value: Value, name: str, *, near: bool = False) -> None:
        """Give a value a name that is not taken; with `near`, one near `name` if that is taken."""
        graph, before = value.graph, value.name
        name = self._names.fresh(graph, name) if near and graph is not None else name
        if graph is None or self._names.taken(graph, name):
            raise RewriteError(f"{before!r} cannot be renamed to {name!r}: the name is taken, or the value erased")

        def change(old: str, new: str) -> None:
            self._names.release(graph, old)
            self._names.take(graph, new)
            value._name = new

        change(before, name)
        self.record("rename", value, lambda: change(name, before), keeps_types=True)

    def constant(
        self, graph: Graph, tensor: Tensor, name: str, *, before: Node | None = None, as_node: bool = False
    ) -> Value:
        """A new constant: an initializer of `graph`; or in a function, or `as_node`, a Constant node before `before`
        (default: at the start of the graph). A model below IR version 4 is raised to 4, where initializers need not be
        inputs."""
        if graph.is_function or as_node:
            place = before if before is not None and before.graph is graph else next(graph.nodes, None)
            return self.insert("Constant", [], {"value": tensor}, before=place, graph=graph, outputs=[name]).outputs[0]
        if self.model.ir_version < 4:
            self.set_ir_version(4)
        value = Value(self._names.fresh(graph, name), graph)
        self._names.take(graph, value.name)
        value._tensor = tensor
        graph._initializers[value] = self._links.next_position()

        def undo() -> None:
            del graph._initializers[value]
            self._names.release(graph, value.name)
            value._graph = None

        self.record("add-initializer", value, undo)
        return value

    def replace_by_constant(self, value: Value, tensor: Tensor) -> Value:
        """Let every user of `value` read a constant instead, which takes over its name: a Constant node where
        `value.needs_constant_node`, else an initializer."""
        if value.graph is None:
            raise RewriteError(f"{value.name!r} is erased already")
        as_node = value.needs_constant_node
        made = self.constant(value.graph, tensor, value.name, before=value.producer, as_node=as_node)
        self.take_over(value, made)
        return made

    def lift_constant(self, node: Node) -> Value:
        """Let an initializer hold what a Constant node does: the same value, with the same users and name, whose graph
        must be one that has initializers. What was claimed of it goes with the node."""
        graph, value, tensor = node.graph, node.outputs[0], node.constant
        if graph is None or tensor is None or value.pinned or value.needs_constant_node:
            raise RewriteError(f"node {node.label!r} holds nothing that an initializer could hold")
        self.check_touch(node)
        if self.model.ir_version < 4:
            self.set_ir_version(4)
        following, info = next_alive(node), value._info
        self._links.take_out(node)
        value._producer = value._info = None

        def put_back() -> None:
            value._producer, value._info = node, info
            self._links.place(node, graph, following, [])

        self.record("erase", node, put_back)
        self._names.take(graph, value.name)
        value._graph, value._tensor = graph, tensor
        graph._initializers[value] = self._links.next_position()

        def drop() -> None:
            del graph._initializers[value]
            value._graph = value._tensor = None
            self._names.release(graph, value.name)

        self.record("add-initializer", value, drop)
        return value

    def remove_initializer(self, value: Value) -> None:
        """Remove an initializer that nobody uses; of an input, only its default."""
        graph, tensor = value.graph, value.tensor
        if graph is None or tensor is None or value.pinned or (value._uses and not value.is_input):
            raise RewriteError(f"{value.name!r} is no unused initializer")
        position = graph._initializers.pop(value)
        value._tensor = None
        if not value.is_input:
            value._graph = None
            self._names.release(graph, value.name)

        def undo() -> None:
            value._tensor = tensor
            graph._initializers[value] = position
            graph._initializers_disordered = True
            if not value.is_input:
                value._graph = graph
                self._names.take(graph, value.name)

        self.record("remove-initializer", value, undo, keeps_types=not value.is_input)

    def set_tensor(self, value: Value, tensor: Tensor) -> None:
        """Let an initializer hold another tensor."""
        before = value.tensor
        if before is None:
            raise RewriteError(f"{value.name!r} is no initializer")
        value._tensor = tensor

        def undo() -> None:
            value._tensor = before

        self.record("set-tensor", value, undo)

    def unlist_input(self, value: Value) -> None:
        """Make an input with a default a constant: a change of the interface."""
        graph = value.graph
        if graph is None or not value.is_input or value.tensor is None or value.pinned:
            raise RewriteError(f"{value.name!r} is no input with a default")
        slot = graph._inputs.index(value)
        if self.model.ir_version < 4:
            self.set_ir_version(4)
        del graph._inputs[slot]
        value._is_input = False

        def undo() -> None:
            graph._inputs.insert(slot, value)
            value._is_input = True

        self.record("unlist-input", value, undo)


def _check_visible(node: Node, graph: Graph, reads: Iterable[Value | None]) -> None:
    for value in reads:
        if value is not None and (value.graph is None or not graph.is_inside(value.graph)):
            raise RewriteError(f"new node {node.label!r} cannot read {value.name!r}: it is out of scope")
