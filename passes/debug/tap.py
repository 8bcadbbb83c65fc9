"""The tap: values from inside a model, which feed the slices that are cut out of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from onnx import TypeProto, helper

from ...errors import ExecutionError
from ...ir import Backend, Graph, Model, Node, Value
from ...ir.analysis.shapes import infer_shapes
from ...ir.dtypes import onnx_dtype
from ...ir.slice import boundary_of, hoist, slice_of
from ..manager.context import Feed
from .lab import Feeds


class Tap:
    """A model and its values on some feeds. What slices need is computed when they need it, by the whole model, once.

    Without feeds nothing is run: slices then have no feeds either.
    """

    def __init__(self, model: Model, feeds: Feeds, backend: Backend) -> None:
        self.model = model
        self._backend = backend
        self._known: list[dict[str, Any]] = [dict(feed) for feed in feeds]
        self._shapes = infer_shapes(model)

    def cut(self, nodes: Iterable[Node], outputs: Iterable[Value] | None = None) -> tuple[Model, Feeds] | None:
        """The slice of some nodes with its feeds; None where the executor cannot tell what they would be."""
        edge = boundary_of(self.model.graph, nodes)
        feeds = self.feeds(edge.inputs)
        if feeds is None:
            return None
        chosen = None if outputs is None else list(outputs)
        return slice_of(self.model, edge.nodes, self.type_of, outputs=chosen), feeds

    def lift(self, body: Graph) -> tuple[Model, Feeds] | None:
        """The body of an If or a Loop of the main graph as a model, with its feeds: those of the first iteration.

        None for other nodes, and where the executor cannot tell what would be fed.
        """
        node = body.parent
        if node is None or not node.is_op("If", "Loop"):
            return None
        lifted = hoist(self.model, body, self.type_of)
        if not self._known:
            return lifted, ()
        own = {value.name for value in body.inputs}
        captured = [value for value in self._values(lifted) if value.name not in own]
        outer = self.feeds(captured)
        inner = self._first_iteration(node, body)
        if outer is None or inner is None:
            return None
        return lifted, tuple({**one, **other} for one, other in zip(inner, outer, strict=True))

    def feeds(self, inputs: Iterable[Value]) -> Feeds | None:
        """For each feed of the model the given values by name; a default that the feed leaves alone is left out."""
        wanted = [value for value in inputs if self._known]
        missing = [v.name for v in wanted if not v.is_input and v.tensor is None and v.name not in self._known[0]]
        try:
            if missing:
                self._run(list(dict.fromkeys(missing)))
        except ExecutionError:
            return None
        return tuple({v.name: known[v.name] for v in wanted if v.name in known} for known in self._known)

    def type_of(self, value: Value) -> TypeProto | None:
        """The type that inference knows, else that of the array that was seen, its sizes left open."""
        inferred = self._shapes.type(value)
        if inferred is not None:
            return inferred
        seen = self._known[0].get(value.name) if self._known and value.graph is self.model.graph else None
        if not isinstance(seen, np.ndarray):
            return None
        return helper.make_tensor_type_proto(onnx_dtype(seen.dtype), [None] * seen.ndim)

    def _run(self, names: list[str]) -> None:
        session = self._backend.prepare(self.model, outputs=names)
        fed = [port.name for port in session.inputs]
        for known in self._known:
            known |= session.run({name: known[name] for name in fed if name in known})

    def _values(self, lifted: Model) -> list[Value]:
        """The values of the main graph that became inputs of a hoisted body."""
        names = {value.name for value in lifted.graph.inputs}
        return [value for value in self.model.graph.values() if value.name in names]

    def _first_iteration(self, node: Node, body: Graph) -> list[Feed] | None:
        """What the inputs of a body are when it first runs; an If's body has none."""
        if not body.inputs:
            return [{} for _ in self._known]
        if len(body.inputs) != len(node.inputs):
            return None
        states = list(zip(body.inputs[2:], node.inputs[2:], strict=True))
        starts = self.feeds([start for _, start in states if start is not None and start.const is None])
        if starts is None:
            return None
        first = {body.inputs[0].name: np.array(0, np.int64), body.inputs[1].name: np.array(True)}
        feeds: list[Feed] = []
        for known in starts:
            feed: dict[str, Any] = dict(first)
            for state, start in states:
                if start is None:
                    return None
                feed[state.name] = start.const.numpy() if start.const is not None else known.get(start.name)
            feeds.append(feed)
        return feeds
