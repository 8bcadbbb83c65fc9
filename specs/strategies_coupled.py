"""Generated networks in which axes are coupled: residuals, concats, groups, shuffles, gates, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[st.SearchStrategy[Any]], Any]


class Net:
    """A model in the making."""

    def __init__(self, draw: Draw, outer: Net | None = None) -> None:
        self.draw = draw
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.random = np.random.default_rng(draw(st.integers(0, 1000)))
        self.count: int = outer.count if outer is not None else 0

    def name(self) -> str:
        """A fresh name."""
        self.count += 1
        return f"v{self.count}"

    def constant(self, array: Array) -> str:
        """A constant: an initializer or a Constant node."""
        name = self.name()
        as_node = self.draw(st.booleans())
        if as_node:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        else:
            self.weights.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *numbers: int) -> str:
        """A constant of integers."""
        return self.constant(np.array(numbers, np.int64))

    def weight(self, *shape: int) -> str:
        """A random weight."""
        scale = max(1, int(np.prod(shape[1:]))) ** -0.5
        return self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the names of its outputs."""
        names = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x: str, cin: int, cout: int, group: int = 1) -> str:
        """A convolution that keeps the size."""
        size = self.draw(st.sampled_from((1, 3)))
        inputs = [x, self.weight(cout, cin // group, size, size)] + (
            [self.weight(cout)] if self.draw(st.booleans()) else []
        )
        return str(self.op("Conv", *inputs, pads=[size // 2] * 4, group=group))

    def act(self, x: str) -> str:
        """An activation, or none."""
        kind = self.draw(st.sampled_from(("Relu", "Sigmoid", "HardSwish", "Tanh", "")))
        return str(self.op(kind, x)) if kind else x


def _norm(net: Net, x: str, c: int) -> tuple[str, int]:
    variance = net.constant(net.random.uniform(0.5, 2, c).astype(np.float32))
    return net.op("BatchNormalization", x, net.weight(c), net.weight(c), net.weight(c), variance), c


def _plain(net: Net, x: str, c: int) -> tuple[str, int]:
    cout = net.draw(st.sampled_from((4, 6, 8)))
    return net.act(net.conv(x, c, cout)), cout


def _residual(net: Net, x: str, c: int) -> tuple[str, int]:
    inner = net.act(net.conv(x, c, 6))
    return net.op("Add", net.conv(inner, 6, c), x), c


def _concat(net: Net, x: str, c: int) -> tuple[str, int]:
    other = net.act(net.conv(x, c, 4))
    return net.op("Concat", x, other, axis=1), c + 4


def _grouped(net: Net, x: str, c: int) -> tuple[str, int]:
    return net.conv(x, c, 2 * c, group=2), 2 * c


def _depthwise(net: Net, x: str, c: int) -> tuple[str, int]:
    times = net.draw(st.sampled_from((1, 2)))
    return net.act(net.conv(x, c, times * c, group=c)), times * c


def _shuffle(net: Net, x: str, c: int) -> tuple[str, int]:
    split = net.op("Reshape", x, net.ints(-1, 2, c // 2, 4, 4))
    turned = net.op("Transpose", split, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", turned, net.ints(-1, c, 4, 4)), c


def _gate(net: Net, x: str, c: int) -> tuple[str, int]:
    pooled = net.op("GlobalAveragePool", x)
    inner = net.op("Relu", net.conv(pooled, c, 4))
    return net.op("Mul", x, net.op("Sigmoid", net.conv(inner, 4, c))), c


def _split(net: Net, x: str, c: int) -> tuple[str, int]:
    if net.draw(st.booleans()):
        a, b = net.op("Split", x, axis=1, outputs=2)
    else:
        a, b = net.op("Split", x, net.ints(c // 2, c - c // 2), axis=1, outputs=2)
    return net.op("Concat", net.act(b), a, axis=1), c


def _slices(net: Net, x: str, c: int) -> tuple[str, int]:
    part = net.op("Slice", x, net.ints(1), net.ints(-1), net.ints(1))
    return net.op("Concat", part, net.op("Slice", x, net.ints(0), net.ints(2), net.ints(1)), axis=1), c


def _transposed(net: Net, x: str, c: int) -> tuple[str, int]:
    group = net.draw(st.sampled_from((1, 2, c)))
    per_group = 6 if group == 1 else 2
    weight = net.weight(c, per_group, 3, 3)
    cout = per_group * group
    return net.op("ConvTranspose", x, weight, net.weight(cout), pads=[1, 1, 1, 1], group=group), cout


def _branch(net: Net, x: str, c: int) -> tuple[str, int]:
    """If the mean is positive one convolution, else another one."""
    condition = net.op("Greater", net.op("ReduceMean", x, keepdims=0), net.constant(np.zeros((), np.float32)))
    bodies = []
    for _ in range(2):
        inside = Net(net.draw, net)
        y = inside.act(inside.conv(x, c, 6))
        out = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        bodies.append(helper.make_graph(inside.nodes, "body", [], [out], inside.weights))
        net.count = inside.count
    return net.op("If", condition, then_branch=bodies[0], else_branch=bodies[1]), 6


BLOCKS = (
    _plain,
    _residual,
    _concat,
    _grouped,
    _depthwise,
    _shuffle,
    _gate,
    _split,
    _slices,
    _norm,
    _transposed,
    _branch,
)


def _attention(net: Net, x: str, width: int) -> str:
    """Self-attention over `[batch, length, width]`, two heads, decomposed."""
    size = width // 2

    def heads(order: list[int]) -> str:
        y = net.op("Add", net.op("MatMul", x, net.weight(width, width)), net.weight(width))
        return str(net.op("Transpose", net.op("Reshape", y, net.ints(0, 0, 2, size)), perm=order))

    scores = net.op("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1]))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), heads([0, 2, 1, 3]))
    joined = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), net.ints(0, 0, width))
    return str(net.op("Add", x, net.op("MatMul", joined, net.weight(width, width))))


def _recurrent(net: Net, x: str, width: int) -> str:
    """A recurrent layer over `[batch, length, width]`, and a residual."""
    kind, gates = net.draw(st.sampled_from((("LSTM", 4), ("GRU", 3), ("RNN", 1))))
    ways = net.draw(st.sampled_from((1, 2)))
    hidden = 6
    inputs = [net.op("Transpose", x, perm=[1, 0, 2])]
    inputs += [net.weight(ways, gates * hidden, size) for size in (width, hidden)]
    inputs += [net.weight(ways, 2 * gates * hidden)] if net.draw(st.booleans()) else []
    direction = "bidirectional" if ways == 2 else "forward"
    y = net.op(kind, *inputs, hidden_size=hidden, direction=direction)
    flat = net.op("Reshape", net.op("Transpose", y, perm=[2, 0, 1, 3]), net.ints(0, 0, ways * hidden))
    return str(net.op("Add", x, net.op("MatMul", flat, net.weight(ways * hidden, width))))


def _finish(net: Net, y: str, classes: int) -> ModelProto:
    net.nodes.append(helper.make_node("Identity", [y], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(net.nodes, "net", [x], [out], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model


@st.composite
def convolutional(draw: Draw) -> ModelProto:
    """A network of a few blocks, with a dense head."""
    net = Net(draw)
    x, c = net.act(net.conv("x", 3, 6)), 6
    for block in draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5)):
        x, c = block(net, x, c)
    x = net.op("Relu", x)
    if draw(st.booleans()):
        flat, k = net.op("Flatten", net.op("GlobalAveragePool", x)), c
    else:
        flat, k = net.op("Reshape", x, net.ints(0, -1)), 16 * c
    return _finish(net, net.op("Gemm", flat, net.weight(k, 5), net.weight(5)), 5)


@st.composite
def transformer(draw: Draw) -> ModelProto:
    """Tokens of patches, attention or a recurrent layer, and a feed-forward layer."""
    net = Net(draw)
    flat = net.op("Reshape", net.conv("x", 3, 8), net.ints(0, 8, -1))
    x = str(net.op("Transpose", flat, perm=[0, 2, 1]))
    for _ in range(draw(st.integers(1, 2))):
        x = net.draw(st.sampled_from((_attention, _recurrent)))(net, x, 8)
        hidden = net.act(net.op("MatMul", x, net.weight(8, 12)))
        x = str(net.op("Add", x, net.op("MatMul", hidden, net.weight(12, 8))))
    return _finish(net, net.op("MatMul", net.op("ReduceMean", x, axes=[1], keepdims=0), net.weight(8, 3)), 3)
