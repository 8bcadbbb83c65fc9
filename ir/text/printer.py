"""Printing, one fact a line. The facts come from the message that emission makes, who defines what from the IR: both
are walked side by side, so the text shows the model as it would be written now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from onnx import FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto

from ..graph import Function, Graph
from ..model import Model
from ..node import Node
from ..proto.emit import emit
from ..tensor import DerivedTensor, SparseTensor, Tensor
from ..value import Value
from .attributes import attribute_head, attribute_text
from .extras import extras, inline
from .tensors import Style, sparse_text, tensor_text
from .types import type_text
from .words import name_text, quoted, utf8, word_text

Lines = Iterator[str]
Types = Callable[[Value], TypeProto | None]

MODEL_FIELDS = ("ir_version", "producer_name", "producer_version", "domain", "model_version")
_GRAPH_FIELDS = ("name", "node", "initializer", "sparse_initializer", "input", "output", "value_info")
_FUNCTION_FIELDS = (
    "name",
    "domain",
    "overload",
    "node",
    "input",
    "output",
    "value_info",
    "opset_import",
    "attribute",
    "attribute_proto",
)
_NODE_FIELDS = ("name", "domain", "op_type", "overload", "input", "output", "attribute")


class Printer:
    """Prints models and their parts in a style; people see what `types` says of results, else what is declared."""

    def __init__(self, style: Style, types: Types | None = None) -> None:
        self.style = style
        self.types = types

    def model(self, model: Model) -> Lines:
        """The lines of a whole model."""
        message = emit(model, self.style.emit)
        for field in MODEL_FIELDS:
            if value := getattr(message, field):
                yield f"{field} = {value if isinstance(value, int) else quoted(utf8(value))}"
        yield from _opsets(message)
        yield from self._extras(message, *MODEL_FIELDS, "opset_import", "graph", "functions")
        if message.HasField("graph"):
            yield ""
            yield from self.graph(model.graph, message.graph, "graph ")
        for function, part in zip(model.functions.values(), message.functions, strict=True):
            yield ""
            yield from self.function(function, part)

    def graph(self, graph: Graph, message: GraphProto, head: str = "") -> Lines:
        """The lines of a graph; `head` stands before its name."""
        yield f"{head}{word_text(message.name) + ' ' if message.name else ''}{{"
        first = [*self._extras(message, *_GRAPH_FIELDS), *_captures(graph)]
        first += [line for info in message.input for line in self._info("in", info)]
        last = [line for info in message.output for line in self._info("out", info)]
        yield from self._sections(graph, message, first, list(self._constants(graph, message)), last)
        yield "}"

    def function(self, function: Function, message: FunctionProto) -> Lines:
        """The lines of a function."""
        yield f"function {_operator(message.domain, message.name, message.overload)} {{"
        first = [*self._extras(message, *_FUNCTION_FIELDS), *_opsets(message)]
        first += [f"attr {word_text(name)}" for name in message.attribute]
        first += [f"attr {attribute_text(default, None, self.style)}" for default in message.attribute_proto]
        first += [f"in {self._defined(value, {})}" for value in function.body.inputs]
        last = [f"out %{name_text(name)}" for name in message.output]
        yield from self._sections(function.body, message, first, [], last)
        yield "}"

    def _sections(self, graph: Graph, message: Any, first: list[str], constants: list[str], last: list[str]) -> Lines:
        """What stands in the braces, in sections; blank lines part those of a graph that lies in no other."""
        beside_nodes = _types_beside_nodes(message) if self.style.full else {}
        infos: list[str] = []
        if self.style.full and len(beside_nodes) < len(message.value_info):
            beside_nodes = {}
            infos = [line for info in message.value_info for line in self._info("info", info)]
        parts = zip(graph.nodes, message.node, strict=True)
        nodes = [line for node, part in parts for line in self._node(node, part, beside_nodes)]
        is_later = False
        for section in filter(None, (first, constants, infos, nodes, last)):
            if is_later and graph.parent is None:
                yield ""
            yield from _indented(section)
            is_later = True

    def _constants(self, graph: Graph, message: GraphProto) -> Lines:
        dense, sparse = iter(message.initializer), iter(message.sparse_initializer)
        for value in graph.initializers:
            name, tensor = name_text(value.name), value.tensor
            if isinstance(tensor, SparseTensor):
                yield f"sparse %{name} = {sparse_text(next(sparse), self.style, value.name)}"
            elif tensor is not None:
                text = tensor_text(next(dense), tensor, self.style, value.name)
                yield f"{'default' if value.is_input else 'const'} %{name} = {text}{self._size(tensor)}"

    def _size(self, tensor: Tensor) -> str:
        """A comment on a tensor whose elements people do not see."""
        if self.style.full or self.style.shows(tensor):
            return ""
        return f"  # {_bytes_text(tensor.nbytes)}" + (f", {tensor.op}" if isinstance(tensor, DerivedTensor) else "")

    def _info(self, word: str, info: ValueInfoProto) -> Lines:
        type_ = f": {type_text(info.type, self.style.full)}" if info.HasField("type") else ""
        yield f"{word} %{name_text(info.name)}{type_}"
        yield from _indented(self._extras(info, "name", "type"), 2)

    def _node(self, node: Node, message: NodeProto, types: dict[str, str]) -> Lines:
        results = ", ".join(self._defined(value, types) for value in node.outputs) or "none"
        reads = ", ".join(f"%{name_text(name)}" if name else "_" for name in message.input)
        head = f"{results} = {_operator(message.domain, message.op_type, message.overload)}({reads})"
        tail = "" if self._goes_without_name(message) else f" @{name_text(message.name)}"
        if any(attribute.graphs for attribute in node.attributes.values()):
            yield f"{head} {{"
            yield from _indented(self._attribute_lines(node, message))
            yield f"}}{tail}"
        else:
            attributes = " ".join(self._attribute_lines(node, message))
            yield f"{head}{f' {{{attributes}}}' if attributes else ''}{tail}"
        yield from _indented(self._extras(message, *_NODE_FIELDS), 2)

    def _goes_without_name(self, message: NodeProto) -> bool:
        """Whether a node has no name, or none that people would not see in its first result."""
        result = message.output[0] if message.output else ""
        return not message.name or (not self.style.full and result in (message.name, f"{message.name}_output_0"))

    def _attribute_lines(self, node: Node, message: NodeProto) -> Lines:
        for attribute, part in zip(node.attributes.values(), message.attribute, strict=True):
            if not attribute.graphs:
                yield attribute_text(part, attribute.tensor, self.style)
            elif part.graphs:
                yield f"{attribute_head(part, 'graphs', self.style)}graphs ["
                for graph, body in zip(attribute.graphs, part.graphs, strict=True):
                    yield from _indented(self.graph(graph, body))
                yield "]"
            else:
                yield from self.graph(attribute.graphs[0], part.g, f"{attribute_head(part, 'g', self.style)}graph ")

    def _defined(self, value: Value, types: dict[str, str]) -> str:
        """A value where it is defined, with its type if that is to stand there."""
        if not value.name:
            return "_"
        text = types.get(value.name, "")
        if not self.style.full:
            inferred = self.types(value) if self.types else None
            type_ = value.type if inferred is None else inferred
            text = "" if type_ is None else type_text(type_, False)
        return f"%{name_text(value.name)}{text and ': '}{text}"

    def _extras(self, message: Any, *written: str) -> list[str]:
        return extras(message, written) if self.style.full else []


def _types_beside_nodes(message: GraphProto | FunctionProto) -> dict[str, str]:
    """The types by name, as far as they can stand, in their order, where nodes define the values."""
    results = (name for node in message.node for name in node.output if name)
    return {
        info.name: type_text(info.type)
        for info in message.value_info
        if info.HasField("type") and not extras(info, ("name", "type")) and info.name in results
    }


def _operator(domain: str, name: str, overload: str) -> str:
    before = f"{word_text(domain)}::" if domain else ""
    return f"{before}{word_text(name)}" + (f":{word_text(overload)}" if overload else "")


def _opsets(message: Any) -> Lines:
    for entry in message.opset_import:
        domain = f" {word_text(entry.domain)}" if entry.domain else ""
        yield f"opset{domain} = {entry.version}{inline(extras(entry, ('domain', 'version')))}"


def _captures(graph: Graph) -> list[str]:
    """A comment on what a body reads of the graphs around it."""
    names = [f"%{name_text(value.name)}" for value in _read_from_outside(graph)] if graph.parent else []
    return [f"# reads {', '.join(names)}"] if names else []


def _read_from_outside(graph: Graph) -> dict[Value, None]:
    found = dict.fromkeys(graph.outputs)
    for node in graph.nodes:
        found.update((value, None) for value in node.inputs if value is not None)
        for body in node.bodies:
            found.update(_read_from_outside(body))
    return {value: None for value in found if value.graph is not graph}


def _bytes_text(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def _indented(lines: Iterable[str], levels: int = 1) -> Lines:
    for line in lines:
        yield "  " * levels + line if line else line
