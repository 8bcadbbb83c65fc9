"""Drawn models into which nodes are put that `canonicalize` looks at: such as it takes out, and others like them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper, numpy_helper, shape_inference

from onnxpress.ir.dtypes import numpy_dtype
from onnxpress.specs import models
from onnxpress.specs.validity import fault_of

T = TensorProto
FLOATS = (T.FLOAT, T.DOUBLE, T.FLOAT16)
INTS = (T.INT64, T.INT32)
CASTS = (T.FLOAT, T.DOUBLE, T.INT64, T.INT32, T.FLOAT16, T.BOOL)
FROM_INTS = (*CASTS, T.UINT8, T.INT8)
ALL = 2**63 - 1


@dataclass
class Here:
    """A value `x` of known type, and the nodes that are put behind it."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    x: str
    dtype: int
    shape: tuple[int | None, ...]
    opset: int
    ops: list[NodeProto] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.x}_{len(self.ops)}"
        self.ops.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        return self.node("Constant", value=numpy_helper.from_array(np.asarray(array)))

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def number(self, number: float, shape: Sequence[int] = ()) -> str:
        return self.constant(np.full(shape, number, numpy_dtype(self.dtype)))

    def view(self, op_type: str, x: str, axes: Sequence[int]) -> str:
        """Squeeze or Unsqueeze."""
        if self.opset < 13:
            return self.node(op_type, x, axes=list(axes))
        return self.node(op_type, x, self.ints(*axes))

    def axis(self, rank: int) -> int:
        """An axis below `rank`, counted from the front or, where that is known, from the end."""
        return int(self.draw(st.integers(-rank if self.opset >= 13 else 0, rank - 1)))


Block = Callable[[Here], str]


def unary(h: Here) -> str:
    names = ["Identity", *(["Dropout"] if h.dtype in FLOATS else [])]
    names += ["Max", "Sum", "Mean", "Min"] if h.dtype in FLOATS else []
    return h.node(h.choose(names), h.x)


def twice(h: Here) -> str:
    names = ["Not"] if h.dtype == T.BOOL else ["Neg", "Abs", "Sign"] if h.dtype in INTS else []
    names += ["Neg", "Abs", "Floor", "Ceil", "Relu", "Sign", "Sqrt"] if h.dtype in FLOATS else []
    first = h.choose(names or ["Identity"])
    return h.node(h.choose([first, first, *names]) if names else first, h.node(first, h.x))


def clips(h: Here) -> str:
    if h.dtype not in FLOATS:
        return unary(h)
    if h.opset < 11:
        return h.node("Clip", h.node("Clip", h.x, min=0.0), min=h.choose((0.0, -1.0)))
    low = h.number(0)
    return h.node("Clip", h.node("Clip", h.x, low), *h.choose(([low], [low], ["", low], [h.number(-1)])))


def casts(h: Here) -> str:
    to = FROM_INTS if h.dtype in (*INTS, T.BOOL) else FLOATS
    middle, last = h.choose(to), h.choose((h.dtype, *to))
    return h.node("Cast", h.node("Cast", h.x, to=middle), to=last if middle not in FLOATS or last in FLOATS else middle)


def cast(h: Here) -> str:
    return h.node("Cast", h.x, to=h.dtype)


def constants(h: Here) -> str:
    shape = h.choose(
        [(), (1,) * h.rank, (1,), *([h.shape[-1:]] if h.rank and h.shape[-1] else []), (1,) * (h.rank + 1)]
    )
    if h.dtype == T.BOOL:
        return h.node(h.choose(("And", "Or", "Xor")), h.x, h.number(h.choose((0, 1)), shape))
    if h.dtype not in (*FLOATS, *INTS):
        return unary(h)
    op = h.choose(("Mul", "Add", "Sub", "Div", *(["Pow"] if h.dtype in FLOATS else [])))
    numbers = (1,) if op == "Div" and h.dtype in INTS else (1, 0.0, -0.0, 2)
    operands = [h.x, h.number(h.choose(numbers), shape)]
    return h.node(op, *(operands[::-1] if op in ("Mul", "Add", "Sub") and h.draw(st.booleans()) else operands))


def where(h: Here) -> str:
    if h.opset < 9:
        return unary(h)
    condition = h.constant(np.full(h.choose(((), (1,) * h.rank, (2,))), h.draw(st.booleans())))
    other = h.number(0, h.choose(((), (1,) * h.rank, (2, 1)))) if h.dtype != T.STRING else h.x
    return h.node("Where", condition, *h.choose(([h.x, other], [other, h.x], [h.x, h.x])))


def reshape(h: Here) -> str:
    exact = [0 if size is None else size for size in h.shape]
    targets = [[0] * h.rank, exact, [-1], [1, -1], [*exact[:-1], -1], [-1, *exact[1:]], [0] * max(h.rank - 1, 0) + [-1]]
    first = h.node("Reshape", h.x, h.ints(*h.choose(targets)))
    return h.node("Reshape", first, h.ints(*h.choose(targets))) if h.draw(st.booleans()) else first


def flatten(h: Here) -> str:
    if h.opset < 9 and h.dtype not in FLOATS:
        return unary(h)
    first = h.node("Flatten", h.x, axis=h.draw(st.integers(0, h.rank)))
    exact = [0 if size is None else size for size in h.shape]
    return h.node("Reshape", first, h.ints(*exact)) if h.draw(st.booleans()) else first


def squeezes(h: Here) -> str:
    """Up to three of Squeeze and Unsqueeze in a row."""
    shape, x = list(h.shape), h.x
    for _ in range(h.draw(st.integers(1, 3))):
        ones = [axis for axis, size in enumerate(shape) if size == 1]
        if ones and h.draw(st.booleans()):
            axis = h.choose(ones)
            x = h.view("Squeeze", x, [axis - len(shape) if h.opset >= 13 and h.draw(st.booleans()) else axis])
            del shape[axis]
        else:
            axis = h.axis(len(shape) + 1)
            x = h.view("Unsqueeze", x, [axis])
            shape.insert(axis % (len(shape) + 1), 1)
    return x


def squeeze_all(h: Here) -> str:
    return h.node("Squeeze", h.x) if None not in h.shape else unary(h)


def transposes(h: Here) -> str:
    if h.rank < 2:
        return h.node("Transpose", h.x)
    orders = st.permutations(range(h.rank))
    first = h.draw(orders)
    back = [list(first).index(axis) for axis in range(h.rank)]
    x = h.node("Transpose", h.x, perm=first) if h.draw(st.booleans()) else h.node("Transpose", h.x)
    return h.node("Transpose", x, perm=h.choose((back, h.draw(orders))))


def slices(h: Here) -> str:
    """One or two Slices, of all or of a part."""
    if not h.rank:
        return unary(h)
    x = h.x
    for _ in range(h.choose((1, 2))):
        axis, start, end = h.axis(h.rank), h.choose((0, 0, 0, 1, -1, -2)), h.choose((ALL, 2**31 - 1, 3, 100, 2, -1))
        if h.opset < 10:
            x = h.node("Slice", x, starts=[start], ends=[end], axes=[axis])
        else:
            steps = h.choose(([], [1], [1], [2]))
            x = h.node("Slice", x, h.ints(start), h.ints(end), h.ints(axis), *([h.ints(*steps)] if steps else []))
    return x


def pad(h: Here) -> str:
    if h.dtype not in FLOATS or not h.rank:
        return unary(h)
    pads = [0] * (2 * h.rank)
    pads[h.draw(st.integers(0, 2 * h.rank - 1))] = h.choose((0, 0, 1))
    return h.node("Pad", h.x, pads=pads) if h.opset < 11 else h.node("Pad", h.x, h.ints(*pads))


def grows(h: Here) -> str:
    """Expand and Tile."""
    if h.opset >= 8 and h.draw(st.booleans()):
        return h.node("Expand", h.x, h.ints(*h.choose(([], [1], [1] * h.rank, [1] * (h.rank + 1), [2]))))
    return h.node("Tile", h.x, h.ints(*[1] * (h.rank - 1), *([h.choose((1, 1, 2))] if h.rank else [])))


def concats(h: Here) -> str:
    if not h.rank:
        return unary(h)
    axis = h.axis(h.rank)
    inner = h.node("Concat", *[h.x] * h.choose((1, 2)), axis=axis)
    if h.draw(st.booleans()):
        return h.node("Concat", *h.choose(([inner], [inner, inner])), axis=h.axis(h.rank))
    return h.node("Concat", *h.choose(([inner], [inner, h.x], [h.x, inner, h.x])), axis=axis)


def split(h: Here) -> str:
    if not h.rank:
        return unary(h)
    return h.node("Split", h.x, axis=h.axis(h.rank), **({"num_outputs": 1} if h.opset >= 18 else {}))


def reductions(h: Here) -> str:
    """A reduction and a Squeeze or Unsqueeze, most of them of the same axis."""
    if h.dtype not in FLOATS or not h.rank:
        return unary(h)
    op = h.choose(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ArgMax"))
    axis, keep = h.axis(h.rank), h.choose((0, 1))
    if op == "ArgMax":
        x = h.node(op, h.x, axis=axis, keepdims=keep)
    elif h.opset < (13 if op == "ReduceSum" else 18):
        x = h.node(op, h.x, axes=[axis], keepdims=keep)
    else:
        x = h.node(op, h.x, h.ints(axis), keepdims=keep)
    return h.view("Squeeze" if keep else "Unsqueeze", x, [axis if h.draw(st.booleans()) or keep else h.axis(h.rank)])


def reduces_nothing(h: Here) -> str:
    if h.dtype not in FLOATS or h.opset < 18:
        return unary(h)
    op = h.choose(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"))
    return h.node(op, h.x, *h.choose(([], [h.ints()])), noop_with_empty_axes=h.choose((1, 1, 0)))


def gather(h: Here) -> str:
    if not h.rank or h.opset < 11:
        return unary(h)
    axis = h.axis(h.rank)
    index = h.constant(np.full(h.choose(((), (), (1,))), h.choose((0, -1)), h.choose((np.int64, np.int32))))
    picked = h.node("Gather", h.x, index, axis=axis)
    return h.view("Unsqueeze", picked, [h.choose((axis, axis, 0))])


BLOCKS: tuple[Block, ...] = (
    unary, twice, clips, casts, cast, constants, constants, where, reshape, flatten, squeezes, squeeze_all, transposes,
    slices, pad, grows, concats, split, reductions, reduces_nothing, gather,
)  # fmt: skip

VIEWS = (unary, cast, reshape, flatten, squeezes, squeeze_all)
"""Blocks that keep the elements: integers may be sizes, of which the model says something elsewhere."""


def _types(model: ModelProto) -> dict[str, TypeProto]:
    inferred = shape_inference.infer_shapes(model).graph
    return {info.name: info.type for info in (*inferred.input, *inferred.value_info, *inferred.output)}


def _shape(type_: TypeProto) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in type_.tensor_type.shape.dim)


def _prefix(model: ModelProto, nodes: Sequence[NodeProto], result: str) -> ModelProto:
    """The model of these nodes alone; its one output has no type."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:], copy.graph.output[:], copy.graph.value_info[:]
    copy.graph.node.extend(nodes)
    copy.graph.output.append(ValueInfoProto(name=result))
    return copy


@st.composite
def with_blocks(draw: Callable[[st.SearchStrategy[Any]], Any]) -> ModelProto:
    """A drawn model with blocks behind some values: readers read what has the same type, all else is an output too."""
    proto: ModelProto = draw(models())
    types = _types(proto)
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    outputs: list[ValueInfoProto] = []

    def follow(name: str) -> None:
        type_ = types.get(name)
        if type_ is None or not type_.tensor_type.HasField("shape") or not draw(st.booleans()):
            return
        here = Here(draw, name, type_.tensor_type.elem_type, _shape(type_), opset)
        block = draw(st.sampled_from(BLOCKS))
        made = block(here)
        try:
            found = _types(_prefix(proto, [*nodes, *here.ops], made)).get(made)
        except shape_inference.InferenceError:
            return
        if found is None or not found.tensor_type.HasField("shape"):
            return
        nodes.extend(here.ops)
        is_same = (found.tensor_type.elem_type, _shape(found)) == (here.dtype, here.shape)
        if is_same and (here.dtype in FLOATS or block in VIEWS):
            renamed[name] = made
        else:
            sizes = [None] * len(_shape(found))
            outputs.append(helper.make_tensor_value_info(made, found.tensor_type.elem_type, sizes))

    for info in proto.graph.input:
        follow(info.name)
    for node in proto.graph.node:
        twin = NodeProto()
        twin.CopyFrom(node)
        twin.input[:] = [renamed.get(name, name) for name in twin.input]
        nodes.append(twin)
        for name in node.output:
            follow(name)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.output.extend(outputs)
    assume(not fault_of(proto))
    return proto
