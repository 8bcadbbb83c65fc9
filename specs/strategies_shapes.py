"""Blocks that move elements or compute with shapes, and constants of rare kinds."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..ir.dtypes import dtype_named
from .strategies_scope import FLOAT, INT64, STRING, Dim, Scope, Var
from .strategies_weights import array_of, to_tensor

_NARROW = ("int4", "uint4", "bfloat16")


def transpose(scope: Scope) -> None:
    """The axes in reverse order."""
    x = scope.pick(lambda v: len(v.shape) >= 2 and v.dtype != STRING)
    if x is not None:
        order = list(range(len(x.shape)))[::-1]
        scope.node("Transpose", [x], [(x.dtype, x.shape[::-1])], {"perm": order})


def reshape(scope: Scope) -> None:
    """All axes but the first made one, with a constant target."""
    x = scope.pick(lambda v: len(v.shape) >= 2 and all(isinstance(d, int) and d for d in v.shape[1:]))
    if x is None:
        return
    rest = _product(x.shape[1:])
    target = scope.store(np.array([0 if x.shape[0] != 0 else -1, rest], np.int64))
    scope.node("Reshape", [x, target], [(x.dtype, (x.shape[0], rest))])


def shape_chain(scope: Scope) -> None:
    """Exporters' way to flatten: Shape, Gather, Unsqueeze, Concat, Reshape. Constant where the sizes are."""
    x = scope.pick(lambda v: len(v.shape) >= 2 and all(isinstance(d, int) and d for d in v.shape[1:]))
    if x is None:
        return
    (sizes,) = scope.node("Shape", [x], [(INT64, (len(x.shape),))])
    (first,) = scope.node("Gather", [sizes, scope.store(np.int64(0))], [(INT64, ())], {"axis": 0})
    (row,) = _unsqueeze(scope, first)
    rest = _product(x.shape[1:])
    (target,) = scope.node("Concat", [row, scope.store(np.array([rest]))], [(INT64, (2,))], {"axis": 0})
    scope.node("Reshape", [x, target], [(x.dtype, (x.shape[0], rest))])


def _unsqueeze(scope: Scope, x: Var) -> list[Var]:
    if scope.opset < 13:
        return scope.node("Unsqueeze", [x], [(x.dtype, (1, *x.shape))], {"axes": [0]})
    return scope.node("Unsqueeze", [x, scope.store(np.array([0]))], [(x.dtype, (1, *x.shape))])


def unsqueeze(scope: Scope) -> None:
    """A new first axis."""
    x = scope.pick(lambda v: len(v.shape) < 4)
    if x is not None:
        _unsqueeze(scope, x)


def concat(scope: Scope) -> None:
    """Two values alike, one after the other along the last axis."""
    x = scope.pick(lambda v: len(v.shape) > 0 and isinstance(v.shape[-1], int))
    y = None if x is None else scope.operand(x.dtype, x.shape)
    if x is not None and y is not None:
        last = x.shape[-1]
        assert isinstance(last, int)
        axis = len(x.shape) - 1
        scope.node("Concat", [x, y], [(x.dtype, (*x.shape[:-1], 2 * last))], {"axis": axis})


def slicing(scope: Scope) -> None:
    """The first element of the last axis: starts and ends are attributes before opset 10, inputs after."""
    x = scope.pick(lambda v: len(v.shape) > 0 and isinstance(v.shape[-1], int) and v.shape[-1] > 0)
    if x is None:
        return
    axis, shape = len(x.shape) - 1, (*x.shape[:-1], 1)
    if scope.opset < 10:
        scope.node("Slice", [x], [(x.dtype, shape)], {"axes": [axis], "starts": [0], "ends": [1]})
    else:
        bounds = [scope.store(np.array([number])) for number in (0, 1, axis)]
        scope.node("Slice", [x, *bounds], [(x.dtype, shape)])


def split(scope: Scope) -> None:
    """A node of two outputs, of which one often stays unused."""
    x = scope.pick(lambda v: len(v.shape) > 0 and isinstance(v.shape[-1], int) and v.shape[-1] >= 2)
    if x is None or not isinstance(x.shape[-1], int):
        return
    parts = [1, x.shape[-1] - 1]
    types = [(x.dtype, (*x.shape[:-1], part)) for part in parts]
    axis = len(x.shape) - 1
    if scope.opset < 13:
        scope.node("Split", [x], types, {"axis": axis, "split": parts})
    else:
        scope.node("Split", [x, scope.store(np.array(parts))], types, {"axis": axis})


def gather(scope: Scope) -> None:
    """Rows of a table by constant indices, or of a constant table by indices that a feed decides."""
    x = scope.pick(lambda v: len(v.shape) > 0 and isinstance(v.shape[0], int) and v.shape[0] > 0)
    if x is None or not isinstance(x.shape[0], int):
        return
    rows = scope.pick(lambda v: v.dtype == INT64 and len(v.shape) <= 1) if scope.opset >= 10 else None
    if rows is None or scope.draw(st.booleans()):
        rows = scope.store(np.zeros(scope.choose((2, ())), np.int64))
    else:
        (rows,) = scope.node("Mod", [rows, scope.store(np.int64(x.shape[0]))], [(INT64, rows.shape)])
    scope.node("Gather", [x, rows], [(x.dtype, (*rows.shape, *x.shape[1:]))], {"axis": 0})


def expand(scope: Scope) -> None:
    """A scalar or row spread out: small constants that become large ones."""
    x = scope.pick(lambda v: len(v.shape) < 2 and v.dtype in (scope.real, INT64))
    if x is None:
        return
    front = scope.choose((2, 1, 0, 50))
    sizes: list[Dim] = [front, *x.shape]
    target = scope.store(np.array([front] + [1] * len(x.shape), np.int64))
    scope.node("Expand", [x, target], [(x.dtype, tuple(sizes))])


def constant_of_shape(scope: Scope) -> None:
    """A tensor of one number: of constant sizes, or of those of a value."""
    if scope.opset < 9:
        return
    like = scope.pick(lambda v: len(v.shape) > 0) if scope.draw(st.booleans()) else None
    if like is not None:
        (sizes,) = scope.node("Shape", [like], [(INT64, (len(like.shape),))])
        shape = like.shape
    else:
        numbers = scope.choose(([2], [2, 3], [0], [], [20, 20]))
        sizes, shape = scope.store(np.array(numbers, np.int64)), tuple(numbers)
    value = np.array([scope.choose((0.0, 1.5))], np.float32)
    scope.node("ConstantOfShape", [sizes], [(FLOAT, shape)], {"value": to_tensor(value)})


def data_dependent(scope: Scope) -> None:
    """The places of non-zero elements: how many there are no inference can tell."""
    x = scope.pick(lambda v: v.dtype in (scope.real, INT64) and len(v.shape) > 0)
    if x is not None and scope.opset >= 9:
        scope.node("NonZero", [x], [(INT64, (len(x.shape), scope.world.symbol()))])


def sequence(scope: Scope) -> None:
    """A value through a sequence, which no initializer can hold."""
    x = scope.pick(lambda v: v.dtype in (scope.real, INT64))
    if x is None or scope.opset < 11:
        return
    name = scope.opaque("SequenceConstruct", [x])
    inside = Var(name, x.dtype, ())
    scope.node("SequenceAt", [inside, scope.store(np.int64(0))], [(x.dtype, x.shape)])


def strings(scope: Scope) -> None:
    """Words picked from a constant list."""
    words = scope.constant(STRING, (3,))
    rows = scope.store(np.array([2, 0]))
    scope.node("Gather", [words, rows], [(STRING, (2,))], {"axis": 0})


def narrow(scope: Scope) -> None:
    """A constant of elements narrower than a byte, or of a float type that numpy lacks, decoded by Cast."""
    kind = scope.choose(_NARROW)
    if scope.opset < 21 or scope.world.ir_version < 10:
        return
    stored = scope.store(array_of(dtype_named(kind), (3,), scope.draw(st.integers(0, 9))))
    scope.node("Cast", [stored], [(FLOAT, (3,))], {"to": FLOAT})


def _product(dims: tuple[Dim, ...]) -> int:
    count = 1
    for dim in dims:
        assert isinstance(dim, int)
        count *= dim
    return count
