"""Rules: a pattern, a guard that may decline with a reason, and what is built in place of the match."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TypeProto

from ...ir import Graph, Node, Tensor, Value, tensor
from ...ir.analysis.shapes import Shape, Shapes
from ...ir.dtypes import is_float
from ..manager.context import Context
from .pattern import Bound, Call

Results = Value | Sequence[Value | None]
"""The value for the root's only output, or one for each of its outputs (None where nothing reads it)."""


class Types:
    """What is known of values: inferred at the start of a round, plus what replaced a value and so has its type."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._same: dict[Value, Value] = {}

    def note(self, new: Value, old: Value) -> None:
        """`new` stands where `old` stood."""
        self._same.setdefault(new, old)

    def _known(self, value: Value) -> Value:
        while value.const is None and self._shapes.type(value) is None and value in self._same:
            value = self._same[value]
        return value

    def type(self, value: Value) -> TypeProto | None:
        """The type of a value, or None if unknown."""
        return self._shapes.type(self._known(value))

    def dtype(self, value: Value) -> int | None:
        """The element type, or None if unknown."""
        return self._shapes.dtype(self._known(value))

    def shape(self, value: Value) -> Shape | None:
        """The shape with names for symbols and None for unknown dimensions; None if the rank is unknown."""
        return self._shapes.shape(self._known(value))

    def agree(self, a: Value, b: Value) -> bool:
        """Whether inference says the same of two values, which hold no sizes that it would follow."""
        found = self._shapes.type(a)
        return found is not None and found == self._shapes.type(b) and is_float(found.tensor_type.elem_type)

    def rank(self, value: Value) -> int | None:
        """The number of dimensions, or None if unknown."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def static_shape(self, value: Value) -> tuple[int, ...] | None:
        """The shape if every dimension is a known number."""
        return self._shapes.static_shape(self._known(value))


class Match:
    """One place where a pattern fits: `m["x"]` is the value of a hole, `m.node("conv")` a named node."""

    def __init__(self, bound: Bound, types: Types, ctx: Context) -> None:
        self.bound = bound
        self.types = types
        self.ctx = ctx

    def __getitem__(self, hole: str) -> Value:
        return self.bound.values[hole]

    def get(self, hole: str) -> Value | None:
        """The value of a hole that may be empty."""
        return self.bound.values.get(hole)

    def node(self, label: str) -> Node:
        """A named node."""
        return self.bound.nodes[label]

    @property
    def root(self) -> Node:
        """The node whose outputs are replaced."""
        return self.bound.matched[0]

    @property
    def graph(self) -> Graph:
        """The graph that it lies in."""
        graph = self.root.graph
        assert graph is not None
        return graph

    @property
    def opset(self) -> int:
        """The version of the standard domain."""
        return self.graph.opset.get("", 0)

    @property
    def inner(self) -> tuple[Node, ...]:
        """The matched nodes but the root."""
        return self.bound.matched[1:]

    @cached_property
    def going(self) -> list[Node]:
        """The nodes of a match that go with its root, which comes first: those that only such nodes read."""
        gone = [self.root]
        for node in self.inner:
            if all(value.is_read_only_by(gone) for value in node.outputs):
                gone.append(node)
        return gone


class Builder:
    """Makes nodes and constants in front of the root of a match."""

    def __init__(self, match: Match) -> None:
        self.match = match
        self.made: list[Node] = []
        self.constants: list[Value] = []

    def made_here(self, value: Value) -> bool:
        """Whether `value` is new."""
        return value in self.constants or value.producer in self.made

    def __call__(
        self,
        op_type: str,
        *inputs: Value | None,
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
        domain: str = "",
        origin: Sequence[Node] = (),
    ) -> Value:
        """A new node; its first output. It stands for the nodes of the match, or for those of `origin`."""
        match = self.match
        node = match.ctx.rewriter.insert(
            op_type,
            inputs,
            attributes,
            before=match.root,
            outputs=("",) * outputs,
            domain=domain,
            origin=origin or match.bound.matched,
        )
        self.made.append(node)
        return node.outputs[0]

    def copy(
        self,
        node: Node,
        *inputs: Value | None,
        attributes: Mapping[str, Any] | None = None,
        origin: Sequence[Node] = (),
    ) -> Value:
        """A node of the same operator and attributes (some of them changed; None removes one) with other inputs."""
        kept: dict[str, Any] = {**node.attributes, **(attributes or {})}
        return self(node.op_type, *inputs, attributes=kept, domain=node.domain, origin=origin)

    def constant(self, content: Tensor | NDArray[Any] | Sequence[int], hint: str = "c") -> Value:
        """A new constant; a sequence of integers becomes int64 of shape (n,)."""
        if not isinstance(content, Tensor):
            content = tensor(content if isinstance(content, np.ndarray) else np.array(content, np.int64))
        self.constants.append(self.match.ctx.rewriter.constant(self.match.graph, content, hint, before=self.match.root))
        return self.constants[-1]


Guard = Callable[[Match], str]
"""Why a match is not rewritten; empty where it is."""
Build = Callable[[Match, Builder], Results]


def _always(match: Match) -> str:
    return ""


class Rule(NamedTuple):
    """One rewrite.

    `since` and `until` (included) are the versions of the standard domain in which it holds. `exclusive` says that the
    inner nodes of the match must have no other readers. A guard's reason is shown to people if it is not empty; one
    that begins with `-` declines without a remark.
    """

    name: str
    pattern: Call
    build: Build
    guard: Guard = _always
    since: int = 1
    until: int = 1000
    exclusive: bool = True
