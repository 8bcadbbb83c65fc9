"""Arithmetic with constants that change nothing: x * 1, x + -0, x and true.

x + 0 is not x: -0 + 0 is 0. But x - 0 is, and so is x + -0. Of a NaN only that it is one is kept. The constant must not
make the result larger than x.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from ....ir import Graph, tensor
from ....ir.dtypes import numpy_dtype
from ....ir.proto import constant_size, node_size
from ...rewriting.driver import QUIET
from ...rewriting.pattern import every, op, var
from ...rewriting.rule import Builder, Guard, Match, Results, Rule
from .facts import NO, merger, released, removal

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
INTEGERS = (TensorProto.INT32, TensorProto.INT64)
NUMBERS = (*FLOATS, *INTEGERS)
MOST_ZEROS = 64
X, ONE, ZERO = var("x"), every(1, "c"), every(0, "c")


def _neutral(dtypes: tuple[int, ...]) -> Guard:
    def guard(match: Match) -> str:
        return "" if match.types.dtype(match["x"]) in dtypes and keeps_size(match) else NO

    return guard


def keeps_size(match: Match) -> bool:
    """Whether broadcasting with the constant `c` leaves the shape of `x`."""
    shape, constant = match.types.shape(match["x"]), match["c"].const
    if constant is None or not constant.shape:
        return constant is not None
    if shape is None or len(constant.shape) > len(shape):
        return False
    tail = shape[len(shape) - len(constant.shape) :]
    return all(size in (1, own) for size, own in zip(constant.shape, tail, strict=True))


def _times_zero(match: Match) -> str:
    dtype, shape = match.types.dtype(match["x"]), match.types.static_shape(match.root.outputs[0])
    if dtype not in INTEGERS or shape is None or math.prod(shape) > MOST_ZEROS:
        return NO
    old = match.root.outputs[0]
    if any(isinstance(use.user, Graph) for use in old.uses):
        return f"{QUIET} an output cannot be a constant"
    size = constant_size(dtype, shape, old.name, match.graph, as_node=match.graph.is_function)
    freed = node_size(match.root) + released(match.root.inputs, [match.root])
    return "" if size <= freed else f"{QUIET} the zeros take more bytes than the product"


def _zeros(match: Match, b: Builder) -> Results:
    dtype, shape = match.types.dtype(match["x"]), match.types.static_shape(match.root.outputs[0])
    assert dtype is not None
    assert shape is not None
    return b.constant(tensor(np.zeros(shape, numpy_dtype(dtype))), match.root.outputs[0].name)


def _where(match: Match) -> str:
    """A constant condition that picks `x` everywhere, if the other choice does not make the result larger."""
    sizes = match.types.static_shape(match["x"])
    return "" if sizes is not None and sizes == match.types.static_shape(match.root.outputs[0]) else NO


NEUTRAL: tuple[Rule, ...] = (
    removal("times-one", op.Mul(X, ONE), _neutral(NUMBERS), since=7),
    removal("by-one", op.Div(X, ONE), _neutral(NUMBERS), since=7),
    removal("minus-zero", op.Sub(X, ZERO), _neutral(NUMBERS), since=7),
    removal("plus-minus-zero", op.Add(X, every(-0.0, "c")), _neutral(FLOATS), since=7),
    removal("plus-zero", op.Add(X, ZERO), _neutral(INTEGERS), since=7),
    removal("to-the-first", op.Pow(X, ONE), _neutral(FLOATS), since=7),
    removal("and-true", op.And(X, ONE), _neutral((TensorProto.BOOL,)), since=7),
    removal("or-false", op["Or", "Xor"](X, ZERO), _neutral((TensorProto.BOOL,)), since=7),
    removal("where-true", op.Where(ONE, X, var()), _where, since=9),
    removal("where-false", op.Where(ZERO, var(), X), _where, since=9),
    merger("times-zero", op.Mul(X, ZERO), _times_zero, _zeros, since=7),
)
