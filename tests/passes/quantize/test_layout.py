"""The axes of a constant are followed through operators that move elements, against what those really do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxpress.ir import lower
from onnxpress.passes.quantize.layout import Layout, moved


def ints(values):
    return numpy_helper.from_array(np.asarray(values, np.int64), "p")


@st.composite
def moves(draw, shape):
    """A node that reads `x` of `shape`, its parameter and the shape of its output `y`."""
    rank = len(shape)
    op = draw(st.sampled_from(["Identity", "Cast", "Transpose", "Reshape", "Flatten", "Unsqueeze", "Squeeze", "Slice"]))
    if op == "Cast":
        return helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE), None, shape
    if op == "Transpose":
        perm = draw(st.permutations(range(rank)))
        named = {"perm": list(perm)} if draw(st.booleans()) or perm != list(range(rank))[::-1] else {}
        return helper.make_node("Transpose", ["x"], ["y"], **named), None, tuple(shape[i] for i in perm)
    if op == "Reshape":
        target = draw(st.permutations(shape)) + [1] * draw(st.integers(0, 2))
        while len(target) > 1 and draw(st.booleans()):
            target = [target[0] * target[1], *target[2:]]
        written = [-1 if n == max(target) and target.count(n) == 1 else n for n in target]
        return helper.make_node("Reshape", ["x", "p"], ["y"]), ints(written), tuple(target)
    if op == "Flatten":
        axis = draw(st.integers(-rank, rank))
        split = axis % rank if axis < 0 else axis
        node = helper.make_node("Flatten", ["x"], ["y"], axis=axis)
        return node, None, (int(np.prod(shape[:split])), int(np.prod(shape[split:])))
    if op == "Unsqueeze":
        axis = draw(st.integers(-rank - 1, rank))
        at = axis % (rank + 1)
        return helper.make_node("Unsqueeze", ["x", "p"], ["y"]), ints([axis]), (*shape[:at], 1, *shape[at:])
    if op == "Squeeze" and 1 in shape and rank > 1:
        axis = shape.index(1)
        if shape.count(1) == 1 and draw(st.booleans()):
            return helper.make_node("Squeeze", ["x"], ["y"]), None, (*shape[:axis], *shape[axis + 1 :])
        return helper.make_node("Squeeze", ["x", "p"], ["y"]), ints([axis]), (*shape[:axis], *shape[axis + 1 :])
    if op == "Slice":
        axis = draw(st.integers(0, rank - 1))
        start = draw(st.integers(0, shape[axis] - 1))
        node = helper.make_node("Slice", ["x", "p", "e", "a"], ["y"])
        ends = (ints([start]), ints([shape[axis]]), ints([axis]))
        return node, ends, (*shape[:axis], shape[axis] - start, *shape[axis + 1 :])
    return helper.make_node("Identity", ["x"], ["y"]), None, shape


@given(st.data())
def test_axes_are_what_they_say(data):
    first = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    array = np.arange(np.prod(first), dtype=np.float32).reshape(first)
    layout = Layout.of(first, TensorProto.FLOAT)
    shape = first
    for _ in range(data.draw(st.integers(1, 4))):
        made, parameter, shape = data.draw(moves(shape))
        parameters = parameter if isinstance(parameter, tuple) else () if parameter is None else (parameter,)
        for name, tensor in zip("pea", parameters, strict=False):
            tensor.name = name
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        x = helper.make_tensor_value_info("x", kind, None)
        y = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
        graph = helper.make_graph([made], "g", [x], [y], parameters)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        (array,) = ReferenceEvaluator(model).run(None, {"x": array})
        after = moved(next(lower(model).graph.nodes), 0, layout)
        assert after is not None
        layout = after
    assert array.shape == shape
    holds(layout, array, first)


def holds(layout, array, first):
    """`array` holds the flat index of every element in the constant of shape `first`."""
    assert layout.axes is None or len(layout.axes) == array.ndim
    if layout.whole:
        assert sorted(array.ravel().tolist()) == list(range(int(np.prod(first))))
    if layout.dims is not None:
        assert all(n is None or n == real for n, real in zip(layout.dims, array.shape, strict=True))
    places = np.unravel_index(array.astype(int), first)
    for axis, source in enumerate(layout.axes or ()):
        if source is not None:
            along = np.moveaxis(places[source], axis, 0).reshape(array.shape[axis], -1)
            assert (along == along[:, :1]).all(), "an axis runs along more than one of the constant"
            assert not layout.whole or along[:, 0].tolist() == list(range(first[source]))


def test_what_computes_is_no_move():
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2,))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,))],
    )
    node = next(lower(helper.make_model(graph)).graph.nodes)
    assert moved(node, 0, Layout.of((2,), TensorProto.FLOAT)) is None
