"""Weights handed to onnxruntime from memory: placeholders in the message, tensors beside it.

onnxruntime takes data for EXTERNAL tensors (`SessionOptions.add_external_initializers`) for initializers of the main
graph alone. So large weights of bodies and Constant nodes are lifted there, under fresh names, and functions with
large constants are inlined first if the message would be too large with them.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, inliner

from ..errors import ExecutionError
from ..ir import Tensor
from .messages import bodies_of, is_constant, walk_graphs, walk_inside
from .ort_words import in_its_words
from .reading import PROTOBUF_LIMIT
from .skeleton import Skeleton


def lift(skeleton: Skeleton, above: int) -> dict[str, Tensor]:
    """Let placeholders stand for the weights of a message of more than `above` bytes; the weights by their names.

    Raises ExecutionError if more than a message can hold is left in functions that cannot be inlined, or in attributes.
    """
    if skeleton.pieces().nbytes <= above:
        return {}
    lifter = _Lifter(skeleton)
    lifter.main()
    if skeleton.pieces().nbytes > above:
        _inline(skeleton)
        lifter.main()
    lifter.drop_unread()
    left = skeleton.pieces().nbytes
    if left > PROTOBUF_LIMIT:
        raise ExecutionError(f"{left} bytes lie in attributes or functions, where onnxruntime takes none from memory")
    return lifter.lifted


class _Lifter:
    def __init__(self, skeleton: Skeleton) -> None:
        self.lifted: dict[str, Tensor] = {}
        self._skeleton = skeleton
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()

    def main(self) -> None:
        """Lift from the main graph, where names stay as they are, and from the bodies inside it."""
        graph = self._skeleton.proto.graph
        self._taken |= {name for inside in walk_graphs(self._skeleton.proto) for name in _names_in(inside)}
        for tensor in graph.initializer:
            weight = self._skeleton.weight_of(tensor)
            if weight is not None:
                tensor.CopyFrom(self._placeholder(tensor.name, weight))
        for index in range(len(graph.node) - 1, -1, -1):
            node = graph.node[index]
            weight = self._constant(node)
            if weight is not None:
                graph.initializer.append(self._placeholder(node.output[0], weight))
                del graph.node[index]
                continue
            for body in bodies_of(node):
                self._body(body)

    def drop_unread(self) -> None:
        """Leave out weights that nothing reads: onnxruntime forgets their names before it looks for the data.

        One that a feed may override stays; below IR version 4 none may, though all are listed as inputs.
        """
        listed, is_old = self._skeleton.proto.graph.input, self._skeleton.proto.ir_version < 4
        read = set() if is_old else {info.name for info in listed}
        for inside in walk_graphs(self._skeleton.proto):
            read.update(name for node in inside.node for name in node.input)
            if isinstance(inside, GraphProto):
                read.update(info.name for info in inside.output)
        unread = self.lifted.keys() - read
        for field in (self._skeleton.proto.graph.initializer, listed):
            for index in range(len(field) - 1, -1, -1):
                if field[index].name in unread:
                    del field[index]
        for name in unread:
            del self.lifted[name]

    def _body(self, graph: GraphProto) -> None:
        renamed: dict[str, str] = {}
        for index in range(len(graph.initializer) - 1, -1, -1):
            weight = self._skeleton.weight_of(graph.initializer[index])
            if weight is not None:
                renamed[graph.initializer[index].name] = self._above(weight)
                del graph.initializer[index]
        for index in range(len(graph.node) - 1, -1, -1):
            node = graph.node[index]
            weight = self._constant(node)
            if weight is not None:
                renamed[node.output[0]] = self._above(weight)
                del graph.node[index]
                continue
            for body in bodies_of(node):
                self._body(body)
        if renamed:
            _rename(graph, renamed)
            for info in graph.output:
                if info.name in renamed:
                    graph.node.add(op_type="Identity", input=[renamed[info.name]], output=[info.name])

    def _constant(self, node: NodeProto) -> Tensor | None:
        """The weight in a Constant node that is to leave, if it is one."""
        if not is_constant(node) or not node.attribute or not node.attribute[0].HasField("t"):
            return None
        return self._skeleton.weight_of(node.attribute[0].t)

    def _above(self, weight: Tensor) -> str:
        """The name of a weight that is lifted from a body into the main graph, once for all its places."""
        if id(weight) not in self._names:
            name = f"onnxpress_weight_{len(self._names)}"
            while name in self._taken:
                name += "_"
            self._names[id(weight)] = name
            self._skeleton.proto.graph.initializer.append(self._placeholder(name, weight))
        return self._names[id(weight)]

    def _placeholder(self, name: str, weight: Tensor) -> TensorProto:
        self.lifted[name] = weight
        proto = TensorProto(name=name, data_type=weight.dtype, dims=weight.shape, data_location=TensorProto.EXTERNAL)
        proto.external_data.add(key="location", value="memory")
        return proto


def _names_in(graph: GraphProto | FunctionProto) -> set[str]:
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    if isinstance(graph, GraphProto):
        names |= {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    return names


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Let the nodes of a graph and of the bodies inside it read other names."""
    for node in graph.node:
        for slot, name in enumerate(node.input):
            if name in renamed:
                node.input[slot] = renamed[name]
        for body in bodies_of(node):
            own = {name for inner in body.node for name in inner.output} | {info.name for info in body.input}
            own |= {tensor.name for tensor in body.initializer}
            _rename(body, {old: new for old, new in renamed.items() if old not in own})


def _inline(skeleton: Skeleton) -> None:
    """Inline the functions that hold weights, and those that call them."""
    functions = {(f.domain, f.name): list(walk_inside(f)) for f in skeleton.proto.functions}
    heavy = {key for key, graphs in functions.items() if any(_holds_weight(skeleton, graph) for graph in graphs)}
    calls = {key: {(n.domain, n.op_type) for graph in graphs for n in graph.node} for key, graphs in functions.items()}
    while callers := {key for key in calls if key not in heavy and calls[key] & heavy}:
        heavy |= callers
    if not heavy:
        return
    with in_its_words("onnx cannot inline functions"):
        skeleton.proto = inliner.inline_selected_functions(skeleton.proto, sorted(heavy))


def _holds_weight(skeleton: Skeleton, graph: GraphProto | FunctionProto) -> bool:
    tensors = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    if isinstance(graph, GraphProto):
        tensors.extend(graph.initializer)
    return any(skeleton.weight_of(tensor) is not None for tensor in tensors)
