"""Blocks that compute: elementwise operators, reductions, and layers with weights."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from .strategies_scope import BOOL, DOUBLE, FLOAT, FLOAT16, INT32, INT64, Scope, Shape, Var

_FLOATS = (FLOAT, DOUBLE, FLOAT16)
_NUMBERS = (FLOAT, DOUBLE, INT64, INT32)
_UNARY_FLOAT = ("Relu", "Neg", "Abs", "Exp", "Tanh", "Sigmoid", "Sqrt", "Floor", "Identity", "LeakyRelu", "Softmax")


def unary(scope: Scope) -> None:
    """An elementwise operator of one input."""
    x = scope.pick(lambda v: True)
    if x is None:
        return
    if x.dtype == scope.real:
        op = scope.choose([*_UNARY_FLOAT, *(["Erf", "Sign"] if scope.opset >= 9 else [])])
        if op == "Softmax" and len(x.shape) != 2:
            op = "Relu"  # before opset 13 other ranks mean something else
        attributes = {"alpha": 0.25} if op == "LeakyRelu" else {}
        scope.node(op, [x], [(x.dtype, x.shape)], attributes)
    elif x.dtype in (DOUBLE, INT64, INT32):
        scope.node(scope.choose(("Neg", "Abs", "Identity")), [x], [(x.dtype, x.shape)])
    elif x.dtype == BOOL:
        scope.node("Not", [x], [(x.dtype, x.shape)])
    else:
        scope.node("Identity", [x], [(x.dtype, x.shape)])


def binary(scope: Scope) -> None:
    """An elementwise operator of two inputs that are alike or broadcast."""
    x = scope.pick(lambda v: v.dtype in (*_FLOATS, INT64, INT32))
    if x is None:
        return
    y = _partner(scope, x)
    if y is None:
        return
    ops = ["Add", "Mul", "Sub"]
    if x.dtype in _FLOATS:
        ops += ["Div", "Max", "Min"]
    a, b = (y, x) if scope.draw(st.booleans()) else (x, y)
    scope.node(scope.choose(ops), [a, b], [(x.dtype, x.shape)])


def _partner(scope: Scope, x: Var) -> Var | None:
    """An operand that broadcasts to the shape of `x` and no further."""
    shapes: list[Shape] = [x.shape, (), x.shape[-1:], (1,) * len(x.shape)]
    return scope.operand(x.dtype, scope.choose(shapes))


def computed_constant(scope: Scope) -> None:
    """A sum with a constant that several nodes compute from others."""
    x = scope.pick(lambda v: v.dtype in (scope.real, INT64))
    if x is None:
        return
    last = x.shape[-1:]
    constant = scope.constant(x.dtype, [dim for dim in scope.choose((last, ())) if isinstance(dim, int)])
    ops = ["Neg", "Add", "Mul", "Identity", *(["Exp", "Sqrt"] if x.dtype == scope.real else [])]
    for _ in range(scope.choose((1, 2, 3))):
        op = scope.choose(ops)
        second = [scope.operand(x.dtype, constant.shape)] if op in ("Add", "Mul") else []
        (constant,) = scope.node(op, [constant, *second], [(x.dtype, constant.shape)])
    scope.node("Add", [x, constant], [(x.dtype, x.shape)])


def compare(scope: Scope) -> None:
    """A comparison, which gives booleans."""
    x = scope.pick(lambda v: v.dtype == scope.real if scope.opset < 9 else v.dtype in (scope.real, INT64))
    y = None if x is None else _partner(scope, x)
    if x is not None and y is not None:
        scope.node(scope.choose(("Less", "Greater")), [x, y], [(BOOL, x.shape)])


def where(scope: Scope) -> None:
    """A choice by booleans."""
    x = scope.pick(lambda v: v.dtype in (scope.real, INT64))
    if x is None or scope.opset < 9:
        return
    condition = scope.pick(lambda v: v.dtype == BOOL and v.shape in (x.shape, ())) or scope.operand(BOOL, ())
    y = _partner(scope, x)
    if condition is not None and y is not None:
        scope.node("Where", [condition, x, y], [(x.dtype, x.shape)])


def cast(scope: Scope) -> None:
    """A conversion; never from floats to integers, where NaN and large numbers have no defined result."""
    x = scope.pick(lambda v: v.dtype in (*_FLOATS, INT64, INT32, BOOL))
    if x is None:
        return
    to = [FLOAT, DOUBLE, FLOAT16] + ([INT64, INT32] if x.dtype in (INT64, INT32, BOOL) else [])
    dtype = scope.choose(to)
    scope.node("Cast", [x], [(dtype, x.shape)], {"to": dtype})


def clip(scope: Scope) -> None:
    """Limits, of which the lower is left out: an attribute before opset 11, then an omitted input."""
    x = scope.pick(lambda v: v.dtype == scope.real)
    if x is None:
        return
    if scope.opset < 11:
        scope.node("Clip", [x], [(scope.real, x.shape)], {"max": 0.5})
    else:
        low = None if scope.draw(st.booleans()) else scope.operand(scope.real, ())
        scope.node("Clip", [x, low, scope.operand(scope.real, ())], [(scope.real, x.shape)])


def dropout(scope: Scope) -> None:
    """Dropout at inference, which does nothing; its mask may be asked for. No feed can switch it to training."""
    x = scope.pick(lambda v: v.dtype == scope.real)
    if x is None:
        return
    inputs: list[Var | None] = [x]
    if scope.opset >= 12 and scope.draw(st.booleans()):
        inputs += [scope.store(np.float32(0.5)), scope.store(np.bool_(False), forms=["value"])]
    with_mask = scope.opset >= 10 and scope.draw(st.booleans())
    scope.node("Dropout", inputs, [(scope.real, x.shape)] + ([(BOOL, x.shape)] if with_mask else []))


def reduction(scope: Scope) -> None:
    """A reduction over the last axis: axes are an attribute at first and an input later."""
    x = scope.pick(lambda v: v.dtype in (scope.real, INT64) and len(v.shape) > 0)
    if x is None:
        return
    op, since = scope.choose((("ReduceSum", 13), ("ReduceMean", 18), ("ReduceMax", 18), ("ReduceL2", 18)))
    if x.dtype == INT64 and op != "ReduceSum":
        op, since = "ReduceSum", 13
    keep = scope.draw(st.booleans())
    axis = len(x.shape) - 1  # a negative axis is known from opset 11 on
    shape = x.shape[:-1] + ((1,) if keep else ())
    if 0 in x.shape:
        return  # what an empty maximum is differs between executors
    if scope.opset < since:
        scope.node(op, [x], [(x.dtype, shape)], {"axes": [axis], "keepdims": int(keep)})
    else:
        scope.node(op, [x, scope.store(np.array([axis]))], [(x.dtype, shape)], {"keepdims": int(keep)})


def argmax(scope: Scope) -> None:
    """The place of the largest element of each row."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) > 0 and v.shape[-1] != 0)
    if x is not None:
        axis = len(x.shape) - 1
        scope.node("ArgMax", [x], [(INT64, x.shape[:-1])], {"axis": axis, "keepdims": 0})


def matmul(scope: Scope) -> None:
    """A product with a weight, small or above a kilobyte."""
    x = scope.pick(lambda v: v.dtype in (scope.real, DOUBLE) and len(v.shape) >= 2 and isinstance(v.shape[-1], int))
    if x is None:
        return
    columns = scope.choose((300, 30) if scope.world.large else (2, 3, 300))
    weight = scope.operand(x.dtype, (x.shape[-1], columns))
    if weight is not None:
        scope.node("MatMul", [x, weight], [(x.dtype, (*x.shape[:-1], columns))])


def gemm(scope: Scope) -> None:
    """A linear layer, its weight transposed or not, with or without a bias."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) == 2 and isinstance(v.shape[1], int))
    if x is None:
        return
    transposed, with_bias = scope.draw(st.booleans()), scope.opset < 11 or scope.draw(st.booleans())
    columns = 200 if scope.world.large else 3
    weight = scope.operand(scope.real, (columns, x.shape[1]) if transposed else (x.shape[1], columns))
    bias = scope.operand(scope.real, (columns,)) if with_bias else None
    inputs = [x, weight] + ([bias] if with_bias else [])
    scope.node("Gemm", inputs, [(scope.real, (x.shape[0], columns))], {"transB": int(transposed)})


def conv(scope: Scope) -> None:
    """A convolution that keeps the size, and a pooling whose indices are left out."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) == 4 and v.shape[1] in (2, 32) and 0 not in v.shape)
    x = x or scope.constant(scope.real, (1, 2, 3, 3))
    assert isinstance(x.shape[1], int)
    inward, outward = x.shape[1], 32 if scope.world.large else 2
    groups = scope.choose((1, 2))
    weight = scope.operand(scope.real, (outward, inward // groups, 3, 3))
    bias = [scope.operand(scope.real, (outward,))] if scope.draw(st.booleans()) else []
    shape = (x.shape[0], outward, *x.shape[2:])
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    (y,) = scope.node("Conv", [x, weight, *bias], [(scope.real, shape)], {**window, "group": groups})
    if scope.draw(st.booleans()):
        scope.node("MaxPool", [y], [(scope.real, shape)], window)


def lstm(scope: Scope) -> None:
    """A recurrent layer of which the first output or the optional inputs in the middle are left out."""
    if scope.opset >= 22:
        return  # onnxruntime has no kernel for the later LSTM
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) == 3 and v.shape[2] == 4 and 0 not in v.shape)
    x = x or scope.constant(scope.real, (2, 1, 4))
    weight, recurrence = scope.operand(scope.real, (1, 8, 4)), scope.operand(scope.real, (1, 8, 2))
    batch = x.shape[1]
    last = (scope.real, (1, batch, 2))
    every = (scope.real, (x.shape[0], 1, batch, 2)) if scope.draw(st.booleans()) else None
    inputs: list[Var | None] = [x, weight, recurrence]
    if scope.draw(st.booleans()):
        inputs += [None, None, scope.operand(*last) if isinstance(batch, int) else None]
    scope.node("LSTM", inputs, [every, last], {"hidden_size": 2})


def embedding(scope: Scope) -> None:
    """Rows of a table, picked by numbers that a feed decides."""
    rows = scope.pick(lambda v: v.dtype == INT64 and len(v.shape) < 2)
    if rows is None or scope.opset < 10:
        return
    count = 100 if scope.world.large else 3
    table = scope.operand(scope.real, (count, 4))
    (rows,) = scope.node("Mod", [rows, scope.store(np.int64(count))], [(INT64, rows.shape)])
    scope.node("Gather", [table, rows], [(scope.real, (*rows.shape, 4))])
