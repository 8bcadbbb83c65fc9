"""Random edits through the Rewriter, for tests of all that has to follow them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st

from onnxpress.ir import Graph, Model, Node, Rewriter, Value, tensor


class Editor:
    """Draws edits that keep a model sound if the Rewriter does what it says."""

    def __init__(self, draw: Callable[..., object], model: Model) -> None:
        self.draw = draw
        self.model = model
        self.rewriter = Rewriter(model)

    def choose(self, options: object) -> object:
        return self.draw(st.sampled_from(list(options)))  # type: ignore[call-overload]

    def graph(self) -> Graph:
        return self.choose(self.model.walk_graphs())

    def node(self) -> Node | None:
        nodes = [node for graph in self.model.walk_graphs() for node in graph.nodes]
        return self.choose(nodes) if nodes else None

    def value(self) -> Value:
        values = [value for graph in self.model.walk_graphs() for value in graph.values()]
        return self.choose(values)

    def edit(self) -> str:
        names = [name for name in dir(self) if name.startswith("do_")]
        name = self.choose(names)
        getattr(self, name)()
        return name

    def do_insert(self) -> None:
        if (node := self.node()) is not None:
            reads = list(readable(node.graph, node)) or [None]
            hint = self.choose(("", "v1", "v2", "new"))
            self.rewriter.insert("Identity", [self.choose(reads)], before=node, outputs=[hint])

    def do_append_multi(self) -> None:
        graph = self.graph()
        reads = list(readable(graph, None)) or [None]
        self.rewriter.insert(
            "Split", [self.choose(reads)], {"axis": 0}, graph=graph, outputs=["v1", "v1"], origin=list(graph.nodes)[:2]
        )

    def do_insert_copy(self) -> None:
        if (node := self.node()) is not None:
            place = self.choose((node, None))
            reads = [v for v in readable(node.graph, node) if v in node.inputs]
            copies = {value: self.choose(reads) for value in reads}
            self.rewriter.insert_copy(
                node, copies, before=place, graph=node.graph, keep_names=self.choose((True, False))
            )
            assert all(value in copies for value in node.outputs)

    def do_erase_dead(self) -> None:
        dead = [n for g in self.model.walk_graphs() for n in g.nodes if all(v.is_dead for v in n.outputs)]
        if dead:
            self.rewriter.erase(self.choose(dead))

    def do_set_input(self) -> None:
        node = self.node()
        if node is not None and node.inputs:
            slot = self.draw(st.integers(0, len(node.inputs) - 1))
            self.rewriter.set_input(node, slot, self.choose([None, *readable(node.graph, node)]))

    def do_set_attribute(self) -> None:
        if (node := self.node()) is not None:
            self.rewriter.set_attribute(node, self.choose(("extra", "axis")), self.choose((3, None, [1.5], "word")))

    def do_replace(self) -> None:
        old = self.value()
        place = old.producer or next(old.graph.nodes, None)
        earlier = [v for v in readable(old.graph, place) if v is not old]
        if earlier:
            self.rewriter.replace(old, self.choose(earlier))

    def do_replace_by_constant(self) -> None:
        self.rewriter.replace_by_constant(self.value(), tensor(np.float32(2)))

    def do_lift_constant(self) -> None:
        found = [node for graph in self.model.walk_graphs() for node in graph.nodes if node.constant is not None]
        found = [node for node in found if not node.outputs[0].pinned and not node.outputs[0].needs_constant_node]
        if found:
            self.rewriter.lift_constant(self.choose(found))

    def do_constant(self) -> None:
        self.rewriter.constant(self.graph(), tensor([1, 2]), self.choose(("v1", "weight")))

    def do_rename(self) -> None:
        value = self.value()
        roots = [root for root in self.model.roots() if value in (*root.inputs, *root.outputs)]
        if not roots:
            self.rewriter.rename(value, f"renamed{self.rewriter.mark()}")

    def do_remove_initializer(self) -> None:
        found = [v for g in self.model.walk_graphs() for v in g.initializers if not v.uses or v.is_input]
        if found:
            self.rewriter.remove_initializer(self.choose(found))

    def do_set_tensor(self) -> None:
        found = [v for g in self.model.walk_graphs() for v in g.initializers]
        if found:
            self.rewriter.set_tensor(self.choose(found), tensor(np.ones((2, 2), np.float32)))

    def do_set_info(self) -> None:
        self.rewriter.set_info(self.value(), None)

    def do_unlist(self) -> None:
        found = [v for v in self.model.graph.inputs if v.is_initializer]
        if found:
            self.rewriter.unlist_input(self.choose(found))

    def do_versions(self) -> None:
        self.rewriter.set_ir_version(self.model.ir_version + 1)
        self.rewriter.set_opset(self.model, "extra", self.choose((1, 2, None)))

    def do_remove_function(self) -> None:
        called = {(n.domain, n.op_type, n.overload) for g in self.model.walk_graphs() for n in g.nodes}
        unused = [function for key, function in self.model.functions.items() if key not in called]
        if unused:
            self.rewriter.remove_function(self.choose(unused))

    def do_describe(self) -> None:
        subject = self.node()
        if subject is not None:
            self.rewriter.set_metadata(subject, self.choose(("k", "other")), "words")
        self.rewriter.set_metadata(self.model, "k", "words")


def readable(graph: Graph | None, before: Node | None) -> Iterator[Value]:
    """Values that a node at that place could read: all of its graph before it, and the same of the graphs around."""
    assert graph is not None
    yield from graph.inputs
    yield from (value for value in graph.initializers if not value.is_input)
    for node in graph.nodes:
        if node is before:
            break
        yield from (value for value in node.outputs if value.name)
    if graph.parent is not None:
        yield from readable(graph.parent.graph, graph.parent)
