"""Slices: a part of a model as a model of its own. No weight is copied.

What the part reads and does not compute becomes an input, constants come along, and what others read becomes an output.
So a slice that is fed what the model computes there gives what the model computes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, TypeProto, ValueInfoProto

from .analysis.view import captured
from .clone import clone_function, clone_node
from .graph import Function, Graph
from .model import Model
from .node import Node
from .proto.emit import shell
from .value import Use, Value

TypeOf = Callable[[Value], TypeProto | None]
"""What is known of the type of a value: `infer_shapes(model).type`, or anything better."""


@dataclass(frozen=True)
class Boundary:
    """Where a set of nodes meets the rest of its graph, each part in the order of the graph."""

    nodes: tuple[Node, ...]
    """The nodes, and the Constant nodes that they read."""
    inputs: tuple[Value, ...]
    """What they read and do not compute: the inputs of the graph first."""
    constants: tuple[Value, ...]
    """The initializers that they read, defaults of inputs included."""
    outputs: tuple[Value, ...]
    """What others read, constants left out; where nobody reads anything, all that they compute."""


def reads_of(node: Node) -> list[Value]:
    """The values that a node and its bodies read from the graph that it stands in and from those around it."""
    own = (value for value in node.inputs if value is not None)
    return list(dict.fromkeys((*own, *(captured(node) if node.bodies else ()))))


def boundary_of(graph: Graph, nodes: Iterable[Node]) -> Boundary:
    """The boundary of some nodes of `graph`."""
    chosen = set(nodes)
    for node in list(chosen):
        chosen.update(filter(None, map(_constant_node, reads_of(node))))
    ordered = tuple(node for node in graph.nodes if node in chosen)
    computed = {value: None for node in ordered for value in node.outputs if value.name}
    read = dict.fromkeys(value for node in ordered for value in reads_of(node) if value not in computed)
    free = [value for value in read if _is_free(value)]
    listed = {value: place for place, value in enumerate(graph.inputs)}
    free.sort(key=lambda value: listed.get(value, len(listed)))
    constants = tuple(value for value in graph.initializers if value in read)
    constants += tuple(value for value in read if value.tensor is not None and value.graph is not graph)
    leaving = [value for value in computed if _leaves(value, graph, chosen)]
    return Boundary(ordered, tuple(free), constants, tuple(leaving or computed))


def slice_of(model: Model, nodes: Iterable[Node], type_of: TypeOf, *, outputs: Sequence[Value] | None = None) -> Model:
    """The sub-model of some nodes of the main graph, with whole bodies; `outputs` names fewer outputs than its own.

    Inputs that it cuts are typed by `type_of`, or else as declared. An initializer that is an input stays both.
    """
    edge = boundary_of(model.graph, nodes)
    made = _Part(model, model.graph, type_of)
    made.take_inputs(edge.inputs)
    made.take_constants(edge.constants)
    for node in edge.nodes:
        clone_node(node, made.graph, made.mapping)
    infos = dict(zip(model.graph.outputs, model.graph.output_infos, strict=True))
    for value in edge.outputs if outputs is None else outputs:
        made.add_output(value, infos.get(value))
    return made.model()


def hoist(model: Model, body: Graph, type_of: TypeOf) -> Model:
    """The model whose main graph is `body`, the body of a node of the main graph.

    The inputs of the body come first, then what it reads from the main graph; constants come along.
    """
    holder = body.parent
    if holder is None or holder.graph is not model.graph:
        raise ValueError(f"{body.label} is no body of a node of the main graph")
    made = _Part(model, body, type_of)
    made.take_inputs(body.inputs)
    read = [value for value in captured(holder) if _is_read_in(body, value)]
    made.take_inputs(value for value in read if _is_free(value))
    made.take_constants(value for value in (*body.initializers, *read) if value.tensor is not None)
    for node in (*dict.fromkeys(filter(None, map(_constant_node, read))), *body.nodes):
        clone_node(node, made.graph, made.mapping)
    for value, info in zip(body.outputs, body.output_infos, strict=True):
        made.add_output(value, info)
    return made.model()


class _Part:
    """A graph in the making, with the values of the old one that stand in it."""

    def __init__(self, model: Model, source: Graph, type_of: TypeOf) -> None:
        self._model = model
        self._source = source
        self._type_of = type_of
        self.graph = Graph(source.name, _header_of(source))
        self.mapping: dict[Value, Value] = {}

    def take_inputs(self, values: Iterable[Value]) -> None:
        for value in values:
            made = Value(value.name, self.graph)
            made._is_input = True
            made._info = self._info(value, value._info if value.graph is self._model.graph and value.is_input else None)
            self.graph._inputs.append(made)
            self.mapping[value] = made

    def take_constants(self, values: Iterable[Value]) -> None:
        for value in dict.fromkeys(values):
            made = self.mapping.get(value)
            if made is None:
                made = self.mapping[value] = Value(value.name, self.graph)
                made._info = value._info
            made._tensor = value.tensor
            self.graph._initializers[made] = len(self.graph._initializers)

    def add_output(self, value: Value, info: ValueInfoProto | None) -> None:
        made = self.mapping[value]
        made._uses[Use(self.graph, len(self.graph._outputs))] = len(made._uses)
        self.graph._outputs.append(made)
        self.graph._output_infos.append(self._info(value, info))

    def _info(self, value: Value, info: ValueInfoProto | None) -> ValueInfoProto:
        """A declaration with a type: that of the file where it is an interface, else what is known, else a claim."""
        if info is not None and info.HasField("type"):
            return info
        known = self._type_of(value) or value.type
        return ValueInfoProto(name=value.name, type=known) if known is not None else ValueInfoProto(name=value.name)

    def model(self) -> Model:
        old = self._model
        self._keep_claims()
        for value in self.mapping.values():
            value.pinned = ""  # training information stays behind
        functions = [clone_function(function) for function in _called(self.graph, old)]
        made = Model(self.graph, functions, _without_training(old.source), old.path)
        made._ir_version, made._opset = old.ir_version, dict(old.opset)
        if made.ir_version < 4 and any(not value.is_input for value in self.graph.initializers):
            made._ir_version = 4  # a body's constants are no inputs
        return made

    def _keep_claims(self) -> None:
        """Keep what the file declares of the values inside: a pass may look at it."""
        interface = {*self.graph.inputs, *self.graph.outputs}
        for value, info in self._source.value_infos:
            made = None if value is None else self.mapping.get(value)
            if made is not None and made not in interface:
                self.graph._value_infos.append((made, info))


def _constant_node(value: Value) -> Node | None:
    """The Constant node that computes a value, if one does."""
    producer = value.producer
    return producer if producer is not None and producer.constant is not None else None


def _is_free(value: Value) -> bool:
    """Whether a value depends on the feed: an input, with a default or not, or something computed."""
    return value.is_input or (value.tensor is None and _constant_node(value) is None)


def _leaves(value: Value, graph: Graph, chosen: set[Node]) -> bool:
    """Whether others need a value; what else reads a constant is no matter, unless it is an output."""
    if _constant_node(value) is not None:
        return any(use.user is graph for use in value.uses)
    return any(_is_outside(use, graph, chosen) for use in value.uses)


def _is_outside(use: Use, graph: Graph, chosen: set[Node]) -> bool:
    """Whether a value of `graph` is read by anyone but the chosen nodes and their bodies."""
    if isinstance(use.user, Graph):
        if use.user is graph:
            return True
        reader = use.user.parent
    else:
        reader = use.user
    while reader is not None and reader.graph is not graph:
        reader = reader.graph.parent if reader.graph is not None else None
    return reader not in chosen


def _is_read_in(body: Graph, value: Value) -> bool:
    places = (use.user if isinstance(use.user, Graph) else use.user.graph for use in value.uses)
    return any(place is not None and place.is_inside(body) for place in places)


def _called(graph: Graph, model: Model) -> list[Function]:
    """The functions that a graph calls, directly or through others, in the order of the model."""
    found: set[Function] = set()
    todo: list[Graph] = [graph]
    while todo:
        for inner in todo.pop().walk_graphs():
            for key in _keys(inner):
                function = model.functions.get(key)
                if function is not None and function not in found:
                    found.add(function)
                    todo.append(function.body)
    return [function for function in model.functions.values() if function in found]


def _keys(graph: Graph) -> Iterator[tuple[str, str, str]]:
    yield from ((node.domain, node.op_type, node.overload) for node in graph.nodes)


def _header_of(graph: Graph) -> GraphProto:
    """What a graph says of itself as a whole; annotations of values stay behind."""
    source = GraphProto(name=graph.name)
    if graph.source is not None:
        source.metadata_props.extend(graph.source.metadata_props)
        if graph.source.doc_string:
            source.doc_string = graph.source.doc_string
    return source


def _without_training(source: ModelProto) -> ModelProto:
    """The message behind a slice: it keeps what is said of the model, and where external data are."""
    if not source.training_info:
        return source
    bare: ModelProto = shell(source, ("training_info",))
    return bare
