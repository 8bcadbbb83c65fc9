"""Blocks that optimizing passes look for: chains that do nothing, twins, and what exporters write for one operator."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from .strategies_scope import BOOL, DOUBLE, FLOAT, FLOAT16, INT64, STRING, Scope, Var
from .strategies_shapes import transpose

_SCALARS: dict[int, Any] = {FLOAT: np.float32, DOUBLE: np.float64, FLOAT16: np.float16}


def _number(scope: Scope, x: Var, value: float) -> Var:
    """A constant scalar of the type of `x`."""
    return scope.store(np.array(value, _SCALARS.get(x.dtype, np.int64)))


def _like(scope: Scope, op: str, *inputs: Var, **attributes: object) -> Var:
    """A node whose output is like its first input."""
    (made,) = scope.node(op, inputs, [(inputs[0].dtype, inputs[0].shape)], attributes)
    return made


def neutral(scope: Scope) -> None:
    """Arithmetic with the number that changes nothing, or that makes everything one number."""
    x = scope.pick(lambda v: v.dtype in (scope.real, INT64))
    if x is None:
        return
    op, value = scope.choose((("Add", 0), ("Mul", 1), ("Sub", 0), ("Div", 1), ("Mul", 0)))
    a, b = (x, _number(scope, x, value)) if op in ("Sub", "Div") or scope.draw(st.booleans()) else (None, x)
    scope.node(op, [a or _number(scope, x, value), b], [(x.dtype, x.shape)])


def there_and_back(scope: Scope) -> None:
    """Two nodes of which the second undoes the first."""
    x = scope.pick(lambda v: v.dtype == scope.real)
    if x is None:
        return
    match scope.choose(("neg", "transpose", "cast", "unsqueeze", "cast", "identity")):
        case "neg":
            _like(scope, "Neg", _like(scope, "Neg", x))
        case "identity":
            _like(scope, "Identity", _like(scope, "Identity", x))
        case "cast":
            wide = DOUBLE if scope.draw(st.booleans()) else FLOAT
            (middle,) = scope.node("Cast", [x], [(wide, x.shape)], {"to": wide})
            scope.node("Cast", [middle], [(x.dtype, x.shape)], {"to": x.dtype})
        case "unsqueeze":
            _squeeze_back(scope, x)
        case _ if len(x.shape) >= 2:
            order = list(range(len(x.shape)))[::-1]
            (middle,) = scope.node("Transpose", [x], [(x.dtype, x.shape[::-1])], {"perm": order})
            scope.node("Transpose", [middle], [(x.dtype, x.shape)], {"perm": order})
        case _:
            transpose(scope)


def _squeeze_back(scope: Scope, x: Var) -> None:
    wide = (1, *x.shape)
    if scope.opset < 13:
        (middle,) = scope.node("Unsqueeze", [x], [(x.dtype, wide)], {"axes": [0]})
        scope.node("Squeeze", [middle], [(x.dtype, x.shape)], {"axes": [0]})
    else:
        axes = scope.store(np.array([0]))
        (middle,) = scope.node("Unsqueeze", [x, axes], [(x.dtype, wide)])
        scope.node("Squeeze", [middle, axes], [(x.dtype, x.shape)])


def pad(scope: Scope) -> None:
    """Zeros around the last axis, or none at all."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) > 0 and isinstance(v.shape[-1], int))
    if x is None or 0 in x.shape:
        return
    count = scope.choose((0, 1))
    ends = [0] * (len(x.shape) * 2 - 1) + [count]
    last = x.shape[-1]
    assert isinstance(last, int)
    shape = (*x.shape[:-1], last + count)
    if scope.opset < 11:
        scope.node("Pad", [x], [(x.dtype, shape)], {"pads": ends})
    else:
        scope.node("Pad", [x, scope.store(np.array(ends))], [(x.dtype, shape)])


def whole(scope: Scope) -> None:
    """Operators that take everything as it is: a Concat of one value, a Slice of all, a Reshape to the same shape."""
    x = scope.pick(lambda v: len(v.shape) > 0 and isinstance(v.shape[-1], int) and v.dtype not in (BOOL, STRING))
    if x is None:
        return
    axis = len(x.shape) - 1
    match scope.choose(("Concat", "Reshape", "Slice")):
        case "Concat":
            _like(scope, "Concat", x, axis=axis)
        case "Reshape" if 0 not in x.shape:
            _like(scope, "Reshape", x, scope.store(np.array([0] * axis + [-1])))
        case _ if scope.opset < 10:
            _like(scope, "Slice", x, axes=[axis], starts=[0], ends=[1000])
        case _:
            _like(scope, "Slice", x, *(scope.store(np.array([number])) for number in (0, 1000, axis)))


def twins(scope: Scope) -> None:
    """The same computation twice, and its sum."""
    x = scope.pick(lambda v: v.dtype == scope.real)
    if x is None:
        return
    op = scope.choose(("Relu", "Exp", "Tanh", "Add"))
    other = [x] * (op == "Add")
    first, second = (_like(scope, op, x, *other) for _ in range(2))
    _like(scope, "Add", first, second)


def equal_constants(scope: Scope) -> None:
    """A constant with the elements of another one, of this graph, one around it or one beside it."""
    x = scope.pick(lambda v: v.dtype == scope.real)
    if x is None:
        return
    shape = scope.choose((x.shape[-1:], ()))
    if any(not isinstance(dim, int) for dim in shape):
        shape = ()
    again = [array for array in scope.world.arrays if array.shape == shape and array.dtype == _SCALARS[x.dtype]]
    if not again or scope.draw(st.booleans()):
        x = _like(scope, "Add", x, scope.constant(x.dtype, [dim for dim in shape if isinstance(dim, int)]))
        again = scope.world.arrays[-1:]
    _like(scope, "Mul", x, scope.store(scope.choose(again[::-1])))


def stored_again(scope: Scope) -> None:
    """A constant that is there already, in this graph or elsewhere, and a node that reads it."""
    again = [array for array in scope.world.arrays if array.dtype == _SCALARS[scope.real] and array.size > 1]
    if again:
        _like(scope, "Abs", scope.store(scope.choose(again[::-1]), forms=("initializer", "value")))


def normalized(scope: Scope) -> None:
    """A convolution, or what else has channels, and its BatchNormalization with constant statistics."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) == 4 and isinstance(v.shape[1], int))
    x = x or scope.constant(scope.real, (1, 2, 3, 3))
    if 0 in x.shape or not isinstance(x.shape[1], int):
        return
    channels = x.shape[1]
    if channels <= 8 and scope.choose((True, False)):
        weight = scope.operand(scope.real, (channels, channels, 1, 1))
        assert weight is not None
        x = _like(scope, "Conv", x, weight)
    three = [scope.operand(scope.real, (channels,)) for _ in range(3)]
    spread = np.random.default_rng(scope.draw(st.integers(0, 9))).uniform(0.1, 3, channels)
    variance = scope.store(spread.astype(_SCALARS[scope.real]))
    scope.node("BatchNormalization", [x, *three, variance], [(x.dtype, x.shape)])


def scaled_layer(scope: Scope) -> None:
    """A product with a constant weight, then a factor and a summand for each column."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) == 2 and isinstance(v.shape[1], int))
    x = x or scope.constant(scope.real, (2, 3))
    assert isinstance(x.shape[1], int)
    weight = scope.constant(x.dtype, (x.shape[1], 3))
    if scope.draw(st.booleans()):
        (y,) = scope.node("MatMul", [x, weight], [(x.dtype, (x.shape[0], 3))])
    else:
        (y,) = scope.node("Gemm", [x, weight, scope.constant(x.dtype, (3,))], [(x.dtype, (x.shape[0], 3))])
    for op in scope.choose((("Add",), ("Mul",), ("Mul", "Add"), ("Sub",), ("Div",))):
        y = _like(scope, op, y, scope.constant(x.dtype, scope.choose(((3,), (), (1, 3)))))


def layer_norm(scope: Scope) -> None:
    """LayerNormalization as exporters write it for older opsets."""
    x = scope.pick(lambda v: v.dtype == scope.real and len(v.shape) > 0 and isinstance(v.shape[-1], int))
    if x is None or 0 in x.shape or not isinstance(x.shape[-1], int):
        return
    centred = _like(scope, "Sub", x, _mean(scope, x))
    square = _like(scope, "Pow", centred, _number(scope, x, 2))
    raised = _like(scope, "Add", _mean(scope, square), _number(scope, x, 1e-3))
    y = _like(scope, "Div", centred, _like(scope, "Sqrt", raised))
    y = _like(scope, "Mul", y, scope.constant(x.dtype, (x.shape[-1],)))
    _like(scope, "Add", y, scope.constant(x.dtype, (x.shape[-1],)))


def _mean(scope: Scope, x: Var) -> Var:
    shape, axis = (*x.shape[:-1], 1), len(x.shape) - 1
    if scope.opset < 18:
        (made,) = scope.node("ReduceMean", [x], [(x.dtype, shape)], {"axes": [axis], "keepdims": 1})
    else:
        (made,) = scope.node("ReduceMean", [x, scope.store(np.array([axis]))], [(x.dtype, shape)], {"keepdims": 1})
    return made


def activation(scope: Scope) -> None:
    """GELU by Erf, or SiLU by Sigmoid, spelled out."""
    x = scope.pick(lambda v: v.dtype == scope.real)
    if x is None:
        return
    if scope.opset < 9 or scope.draw(st.booleans()):
        _like(scope, "Mul", x, _like(scope, "Sigmoid", x))
        return
    erf = _like(scope, "Erf", _like(scope, "Div", x, _number(scope, x, np.sqrt(2))))
    y = _like(scope, "Mul", x, _like(scope, "Add", erf, _number(scope, x, 1)))
    _like(scope, "Mul", y, _number(scope, x, 0.5))


PATTERNS = (
    neutral,
    there_and_back,
    pad,
    whole,
    twins,
    equal_constants,
    normalized,
    scaled_layer,
    layer_norm,
    activation,
)
