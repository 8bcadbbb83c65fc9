"""Integer operators spelled out: DequantizeLinear, the float operator and QuantizeLinear in their place.

    y_quantized = QLinearOp(a, s_a, z_a, ..., s, z)
    y_quantized = QuantizeLinear(op(DequantizeLinear(a, s_a, z_a), ...), s, z)

What operators on levels mean, from the definitions of ONNX and of onnxruntime's contrib operators alone. Levels called
`y_quantized` are decoded under the name `y`, if that is free: under it the judge finds them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, helper, numpy_helper

SUFFIX = "_quantized"
MOVERS = frozenset(
    [
        "DepthToSpace",
        "Expand",
        "Flatten",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
FLOATS = {"QGemm": "Gemm", "MatMulIntegerToFloat": "MatMul"}
"""The float operators of integer operators that are not called `QLinear` and the name of that."""
UNKNOWN_TO_FLOATS = ("channels_last", "opset")
"""Attributes of integer operators alone."""
Coding = tuple[str, str]
"""The names of a scale and a zero point."""
Decoding = tuple[str | int | None, ...]
"""Levels, scale, zero point and axis."""


def is_qoperator(node: NodeProto) -> bool:
    """Whether a node computes on levels with scales and zero points as inputs."""
    return node.op_type in FLOATS or node.op_type.startswith("QLinear")


def spelled_out(model: ModelProto) -> ModelProto:
    """A copy of `model` without integer operators; the model itself if nothing in it has levels."""
    nodes = [node for graph in _graphs(model.graph) for node in graph.node]
    if not any(is_qoperator(node) or node.op_type == "QuantizeLinear" for node in nodes):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    taken = {name for node in nodes for name in (*node.input, *node.output)}
    names = _Names(taken | {value.name for value in copy.graph.input})
    _Speller(names, _alike(copy.graph)).rewrite(copy.graph)
    return copy


def _alike(graph: GraphProto) -> dict[str, str]:
    """For the name of each initializer that of the first one with the same content."""
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    found = {}
    for one in _graphs(graph):
        for tensor in one.initializer:
            content = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            found[tensor.name] = first.setdefault(content, tensor.name)
    return found


class _Names:
    def __init__(self, taken: set[str]) -> None:
        self._taken, self._count = taken, count()

    def of(self, hint: str) -> str:
        """`hint`, or a name near it if that is taken."""
        name = hint
        while not name or name in self._taken:
            name = f"{hint}_spelled_{next(self._count)}"
        self._taken.add(name)
        return name


class _Speller:
    """Writes one graph anew. What is known of levels it knows from the graph around it, too; what these stand for is
    decoded where they are, once for all scales and zero points that are `alike`."""

    def __init__(self, names: _Names, alike: Mapping[str, str], outer: _Speller | None = None) -> None:
        self._names, self._alike, self._outer = names, alike, outer
        self._codings: dict[str, Coding] = {}
        self._decoded: dict[Decoding, str] = {}
        self._nodes: list[NodeProto] = []

    def rewrite(self, graph: GraphProto) -> None:
        for node in list(graph.node):
            for body in _bodies(node):
                _Speller(self._names, self._alike, self).rewrite(body)
            self._spell(node)
        del graph.node[:]
        graph.node.extend(self._nodes)

    def _spell(self, node: NodeProto) -> None:
        if is_qoperator(node):
            self._operator(node)
        elif node.op_type in MOVERS and self._home(node.input[0]) is not None:
            self._mover(node)
        elif node.op_type == "DequantizeLinear" and self._home(node.input[0]) not in (None, self):
            levels, scale, zero = node.input
            self._nodes.append(helper.make_node("Identity", [self._decode(levels, (scale, zero))], node.output))
        else:
            self._note(node)
            self._nodes.append(node)

    def _home(self, levels: str) -> _Speller | None:
        """Who writes the graph that makes levels; None if they are none, or constants."""
        if levels in self._codings:
            return self
        return None if self._outer is None else self._outer._home(levels)

    def _note(self, node: NodeProto) -> None:
        """Remember what is said about levels."""
        if node.op_type == "QuantizeLinear":
            self._codings[node.output[0]] = (node.input[1], node.input[2])
        elif node.op_type == "DequantizeLinear" and len(node.input) == 3:
            self._decoded[self._key(node.input[0], (node.input[1], node.input[2]), None)] = node.output[0]
        elif node.op_type == "Clip" and node.input[0] in self._codings:
            self._codings[node.output[0]] = self._codings[node.input[0]]

    def _mover(self, node: NodeProto) -> None:
        home = self._home(node.input[0])
        assert home is not None
        coding = home._codings[node.input[0]]
        inputs = [self._decode(node.input[0], coding), *node.input[1:]]
        made = [self._names.of("moved") for _ in node.output]
        self._nodes.append(self._copy(node, node.op_type, inputs, made))
        for old, new in zip(node.output, made, strict=True):
            self._quantize(new, coding, old)

    def _operator(self, node: NodeProto) -> None:
        op_type = FLOATS.get(node.op_type, node.op_type.removeprefix("QLinear"))
        operands, bias, output = _parts(node)
        # what a graph computes has one scale, a constant may have one for each index of an axis
        reads = [
            self._decode(levels, (scale, zero), _axis(node) if slot == 1 and self._home(levels) is None else None)
            for slot, (levels, scale, zero) in enumerate(operands)
        ]
        if bias:
            step = self._add("Mul", [operands[0][1], operands[1][1]], "step")
            reads.append(self._add("DequantizeLinear", [bias, step], "bias", 0))
        made = self._names.of(op_type) if output else node.output[0]
        self._nodes.append(self._copy(node, op_type, reads, [made]))
        if output:
            self._quantize(made, output, node.output[0])

    def _copy(self, node: NodeProto, op_type: str, inputs: Sequence[str], outputs: Sequence[str]) -> NodeProto:
        made = helper.make_node(op_type, inputs, outputs)
        made.attribute.extend(one for one in node.attribute if one.name not in UNKNOWN_TO_FLOATS)
        return made

    def _decode(self, levels: str, coding: Coding, axis: int | None = None) -> str:
        home = self._home(levels) or self
        key = self._key(levels, coding, axis)
        if key not in home._decoded:
            hint = levels.removesuffix(SUFFIX) if levels.endswith(SUFFIX) else f"{levels}_decoded"
            home._decoded[key] = home._add("DequantizeLinear", [levels, *coding], hint, axis)
        return home._decoded[key]

    def _key(self, levels: str, coding: Coding, axis: int | None) -> Decoding:
        return (levels, *(self._alike.get(name, name) for name in coding), axis)

    def _quantize(self, value: str, coding: Coding, levels: str) -> None:
        self._nodes.append(helper.make_node("QuantizeLinear", [value, *coding], [levels]))
        self._codings[levels] = coding

    def _add(self, op_type: str, inputs: Sequence[str], hint: str, axis: int | None = None) -> str:
        name = self._names.of(hint)
        self._nodes.append(helper.make_node(op_type, inputs, [name], axis=axis))
        return name


def _parts(node: NodeProto) -> tuple[list[tuple[str, str, str]], str, Coding | None]:
    """Levels, scale and zero point of each operand; the bias; scale and zero point of the output, None if it is in
    float."""
    given = list(node.input)
    match node.op_type:
        case "MatMulIntegerToFloat":
            a, b, scale, other, zero, last = given
            return [(a, scale, zero), (b, other, last)], "", None
        case "QLinearConcat":
            return _triples(given[2:]), "", (given[0], given[1])
        case "QGemm":
            output = (given[7], given[8]) if len(given) > 7 else None
            return _triples(given[:6]), given[6] if len(given) > 6 else "", output
        case "QLinearConv":
            return _triples(given[:6]), given[8] if len(given) > 8 else "", (given[6], given[7])
        case _:
            return _triples(given[:-2]), "", (given[-2], given[-1])


def _triples(names: Sequence[str]) -> list[tuple[str, str, str]]:
    return [(names[at], names[at + 1], names[at + 2]) for at in range(0, len(names), 3)]


def _axis(node: NodeProto) -> int:
    """The axis of the second operand that its scales run along, where it is a weight."""
    if node.op_type == "QLinearConv":
        return 0
    return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [one.g for one in node.attribute if one.type == AttributeProto.GRAPH]
