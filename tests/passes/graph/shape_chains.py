"""A strategy for models that compute shapes: what exporters write around Reshape, Expand and Slice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

MAX_RANK = 4


class Chain:
    """A model in the making: tensors of floats and of sizes, by name."""

    def __init__(self, draw: Callable[..., object], opset: int) -> None:
        self.draw, self.opset = draw, opset
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, list[int]] = {}
        self.data = [("x", 3), ("z", 2)]
        self.vectors: list[str] = []
        self.scalars: list[str] = []

    def pick(self, options: object) -> object:
        return self.draw(st.sampled_from(options))  # type: ignore[arg-type]

    def constant(self, *numbers: int) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = list(numbers)
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    # ---- sizes

    def shape(self) -> None:
        name, _ = self.pick(self.data)  # type: ignore[misc]
        self.vectors.append(self.node("Shape", [name]))

    def size_at(self) -> None:
        """One size of a tensor, as a vector of one."""
        name, rank = self.pick(self.data)  # type: ignore[misc]
        place = self.draw(st.integers(0, max(rank - 1, 0)))
        shape = self.node("Shape", [name])
        self.scalars.append(self.node("Gather", [shape, self.constant(place)]))  # type: ignore[arg-type]

    def number(self) -> None:
        self.scalars.append(self.constant(self.draw(st.sampled_from((-1, 0, 1, 2, 3, 6)))))  # type: ignore[arg-type]

    def arithmetic(self) -> None:
        if self.scalars:
            a, b = self.pick(self.scalars), self.pick(self.scalars)
            op = self.pick(("Add", "Sub", "Mul", "Div"))
            if op == "Div":
                b = self.constant(self.draw(st.sampled_from((1, 2, 3))))  # type: ignore[arg-type]
            self.scalars.append(self.node(str(op), [str(a), str(b)]))

    def concat(self) -> None:
        if self.scalars:
            parts = self.draw(st.lists(st.sampled_from(self.scalars), min_size=1, max_size=3))
            self.vectors.append(self.node("Concat", list(parts), axis=0))  # type: ignore[call-overload]

    # ---- data

    def add(self, name: str, rank: int) -> None:
        if rank <= MAX_RANK:
            self.data.append((name, rank))

    def reshape(self) -> None:
        name, _ = self.pick(self.data)  # type: ignore[misc]
        if self.scalars:
            parts = self.draw(st.lists(st.sampled_from(self.scalars), min_size=1, max_size=4))
            target = self.node("Concat", list(parts), axis=0)  # type: ignore[call-overload]
            zero = {"allowzero": 1} if self.opset >= 14 and self.draw(st.booleans()) else {}
            self.add(self.node("Reshape", [name, target], **zero), len(parts))  # type: ignore[arg-type]

    def respelled(self) -> None:
        """To its own sizes, each computed alone, with more sizes of 1 or some of them left out."""
        name, rank = self.pick(self.data)  # type: ignore[misc]
        shape = self.node("Shape", [name])
        parts = [self.node("Gather", [shape, self.constant(axis)]) for axis in range(rank)]
        for part in list(parts):
            if self.draw(st.integers(0, 3)) == 0:
                parts.remove(part)
        for _ in range(int(self.draw(st.integers(0, 2)))):  # type: ignore[call-overload]
            parts.insert(int(self.draw(st.integers(0, len(parts)))), self.constant(1))  # type: ignore[call-overload]
        self.scalars += parts[:1]
        if parts and len(parts) <= MAX_RANK:
            target = self.node("Concat", parts, axis=0)
            self.add(self.node("Reshape", [name, target]), len(parts))

    def to_shape(self) -> None:
        """Back to the shape of some tensor."""
        name, old = self.pick(self.data)  # type: ignore[misc]
        other, rank = self.pick(self.data)  # type: ignore[misc]
        op = self.pick(("Reshape", "Expand"))
        made = self.node(str(op), [name, self.node("Shape", [other])])
        self.add(made, rank if op == "Reshape" else max(rank, old))

    def cut(self) -> None:
        name, rank = self.pick(self.data)  # type: ignore[misc]
        if rank:
            axis = int(self.draw(st.integers(0, rank - 1)))  # type: ignore[call-overload]
            shape = self.node("Shape", [name])
            end = self.node("Gather", [shape, self.constant(axis)])
            if self.draw(st.booleans()):
                end = self.constant(int(self.draw(st.sampled_from((1, 6, 2**63 - 1)))))  # type: ignore[call-overload]
            start = self.constant(int(self.draw(st.sampled_from((0, 0, 1)))))  # type: ignore[call-overload]
            self.add(self.node("Slice", [name, start, end, self.constant(axis)]), rank)

    def pointwise(self) -> None:
        (a, rank), (b, other) = self.pick(self.data), self.pick(self.data)  # type: ignore[misc]
        self.add(self.node("Add", [a, b]), max(rank, other))

    def turned(self) -> None:
        name, rank = self.pick(self.data)  # type: ignore[misc]
        self.add(self.node("Transpose", [name], perm=list(reversed(range(rank)))), rank)

    def branch(self) -> None:
        """Take one of two tensors of one rank, depending on a size."""
        name, rank = self.pick(self.data)  # type: ignore[misc]
        if self.scalars:
            a, b = self.pick(self.scalars), self.pick(self.scalars)
            same = self.node(str(self.pick(("Equal", "Less", "Greater"))), [str(a), str(b)])
            bodies = {}
            for label, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
                out = f"{label[0]}{len(self.nodes)}"
                bodies[label] = helper.make_graph(
                    [helper.make_node(op, [name], [out])],
                    label,
                    [],
                    [helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * rank)],
                )
            self.add(self.node("If", [same], **bodies), rank)

    def model(self) -> ModelProto:
        out, rank = self.data[-1]
        outputs = [helper.make_tensor_value_info(self.identity(out), TensorProto.FLOAT, [None] * rank)]
        for vector in self.vectors[-1:]:
            outputs.append(helper.make_tensor_value_info(self.identity(vector), TensorProto.INT64, [None]))
        graph = helper.make_graph(
            self.nodes,
            "g",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", 6]),
                helper.make_tensor_value_info("z", TensorProto.FLOAT, ["b", "c"]),
            ],
            outputs,
            [numpy_helper.from_array(np.array(numbers, np.int64), name) for name, numbers in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def identity(self, name: str) -> str:
        return self.node("Identity", [name])


STEPS = (
    Chain.shape, Chain.size_at, Chain.size_at, Chain.number, Chain.arithmetic, Chain.concat, Chain.reshape,
    Chain.reshape, Chain.respelled, Chain.to_shape, Chain.cut, Chain.pointwise, Chain.turned, Chain.branch,
)  # fmt: skip


@st.composite
def shape_chains(draw: Callable[..., object]) -> ModelProto:
    """Models over x [a, b, 6] and z [b, c] that compute shapes and use them."""
    chain = Chain(draw, draw(st.sampled_from((13, 17, 18))))  # type: ignore[arg-type]
    chain.size_at()
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=3, max_size=12)):  # type: ignore[attr-defined]
        step(chain)
    return chain.model()
