"""Nodes: one application of an ONNX operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto

from .attribute import Attribute
from .origin import Origin
from .tensor import ArrayTensor, SparseTensor, Tensor, tensor
from .value import Value

if TYPE_CHECKING:
    from .graph import Graph


class Node:
    """An operator with its inputs, outputs and attributes. Only the Rewriter changes one.

    An omitted input is None; an omitted output is a Value with an empty name.
    """

    __slots__ = (
        "_attributes",
        "_bodies",
        "_constant",
        "_graph",
        "_inputs",
        "_metadata",
        "_next",
        "_origin",
        "_outline",
        "_outputs",
        "_prev",
        "_source_attributes",
        "domain",
        "made_by",
        "name",
        "op_type",
        "overload",
        "source",
    )

    def __init__(
        self,
        op_type: str,
        inputs: list[Value | None],
        outputs: list[Value],
        attributes: dict[str, Attribute],
        *,
        domain: str = "",
        overload: str = "",
        name: str = "",
        source: NodeProto | None = None,
        origin: Origin | None = None,
        made_by: str = "",
    ) -> None:
        self.op_type = op_type
        self.domain = "" if domain == "ai.onnx" else domain
        self.overload = overload
        self.name = name
        self.source = source
        self._origin = origin or Origin()
        self.made_by = made_by
        self._inputs = inputs
        self._outputs = outputs
        self._attributes = attributes
        self._source_attributes = attributes if source is not None else None
        self._metadata: dict[str, str] = {}
        self._bodies: tuple[Graph, ...] | None = None
        self._constant: Tensor | None = None
        self._outline: tuple[list[str], list[str], Mapping[str, Attribute], bytes] | None = None
        """What `proto.outline` last wrote of it: of which inputs, outputs and attributes, and what."""
        self._graph: Graph | None = None
        self._prev: Node | None = None
        self._next: Node | None = None

    @property
    def origin(self) -> tuple[str, ...]:
        """The labels of the source nodes that it stands for."""
        return self._origin.labels()

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """What it reads."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """What it computes."""
        return tuple(self._outputs)

    @property
    def graph(self) -> Graph | None:
        """The graph it stands in; None once it is erased."""
        return self._graph

    @property
    def attributes(self) -> Mapping[str, Attribute]:
        """Its attributes by name."""
        return self._attributes

    @property
    def is_touched(self) -> bool:
        """Whether its attributes differ from those of its source message (or it has none)."""
        return self._attributes is not self._source_attributes

    @property
    def metadata(self) -> Mapping[str, str]:
        """Its metadata: those of the source message, and what a pass set."""
        given = {} if self.source is None else {entry.key: entry.value for entry in self.source.metadata_props}
        return {**given, **self._metadata}

    def attr(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or `default`."""
        found = self._attributes.get(name)
        return default if found is None else found.value

    def input(self, slot: int) -> Value | None:
        """The value at an input slot; None if it is omitted or beyond the last."""
        return self._inputs[slot] if slot < len(self._inputs) else None

    def is_op(self, *op_types: str) -> bool:
        """Whether it is one of these operators of the standard domain."""
        return self.domain == "" and self.op_type in op_types

    @property
    def bodies(self) -> tuple[Graph, ...]:
        """The graphs in its attributes, in order. They are the same for as long as the node lives."""
        if self._bodies is None:
            self._bodies = tuple(graph for attribute in self._attributes.values() for graph in attribute.graphs)
        return self._bodies

    @property
    def label(self) -> str:
        """How messages call it: its name, else its operator and first output."""
        return self.name or f"{self.op_type}:{self._outputs[0].name if self._outputs else ''}"

    @property
    def constant(self) -> Tensor | None:
        """The tensor of a Constant node; None for all other nodes, and if it reads an attribute of a function."""
        if self.op_type != "Constant" or self.domain or not self._attributes:
            return None
        if self._constant is None:
            self._constant = _constant_of(next(iter(self._attributes.values())))
        return self._constant

    def walk_bodies(self) -> Iterator[Graph]:
        """All graphs inside it, at any depth."""
        for body in self.bodies:
            yield from body.walk_graphs()

    def __repr__(self) -> str:
        reads = ", ".join("_" if v is None else repr(v) for v in self._inputs)
        return f"{', '.join(map(repr, self._outputs))} = {self.op_type}({reads})"


def _constant_of(attribute: Attribute) -> Tensor | None:
    if attribute.ref:
        return None
    value = attribute.value
    match attribute.name:
        case "value":
            return value if isinstance(value, Tensor) else None
        case "sparse_value":
            return SparseTensor(value)
        case "value_float" | "value_floats":
            return tensor(np.asarray(value, np.float32))
        case "value_int" | "value_ints":
            return tensor(np.asarray(value, np.int64))
        case "value_string" | "value_strings":
            return ArrayTensor(np.asarray(value, object))
    return None
