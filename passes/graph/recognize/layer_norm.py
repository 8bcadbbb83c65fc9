"""LayerNormalization, and RMSNormalization.

With m = mean(x) and d = x - m over the last axes: d / sqrt(mean(d^2) + e) is LayerNormalization (Ba, Kiros and Hinton,
Layer Normalization, 2016), and x / sqrt(mean(x^2) + e) is RMSNormalization (Zhang and Sennrich, Root Mean Square Layer
Normalization, 2019). The square may be Pow(d, 2) or d d, the quotient a product with the reciprocal. A product with
the scale and a sum with the bias that follow are drawn in. The epsilon is an attribute of type float32: it must be one.

Operation counts, of n elements: the mean n, d n + 1, the mean of squares 2 n + 4 relative to its own terms, the square
root and the quotient 2 more, scale and bias 2: k = 2 n + 8 on either side.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import TensorProto

from ....ir import Node, Value
from ....ir.dtypes import numpy_dtype
from ...rewriting.constants import array_of
from ...rewriting.pattern import Call, Pattern, any_of, const, maybe, op, scalar, var
from ...rewriting.rule import Builder, Match, Rule
from .extents import changes_rank, last_dim, least_rank
from .numbers import float32, number_of

LAYER_SINCE, RMS_SINCE = 17, 23
_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
"""Both operators compute mean and spread in float32, which is not enough for double."""
_MAX_ONES = 1 << 16
"""Elements of a scale of ones that is made where there is none."""

_X, _EPS = var("x"), const("eps")
_MEAN = op.ReduceMean(_X, maybe(const("axes1"))).named("mean")
_D = op.Sub(_X, _MEAN)


def _normalized(d: Pattern) -> tuple[Call, ...]:
    """d / sqrt(mean(d^2) + e) in its spellings."""
    square = any_of(op.Pow(d, scalar(2.0)), op.Mul(d, d))
    spread = op.Add(op.ReduceMean(square, maybe(const("axes2"))).named("spread"), _EPS)
    root = any_of(op.Sqrt(spread), op.Pow(spread, scalar(0.5)))
    inverse = any_of(op.Reciprocal(root), op.Div(scalar(1.0), root), op.Pow(spread, scalar(-0.5)))
    return op.Div(d, root), op.Mul(d, inverse)


def axes_of(node: Node) -> tuple[int, ...] | None:
    """The axes of a reduction, attribute or constant input; None if they are not known, or all."""
    given = node.attr("axes")
    if given is None:
        second = node.input(1)
        given = None if second is None or second.const is None else second.const.numpy().reshape(-1)
    return tuple(int(axis) for axis in given) if given is not None and len(given) else None


def _trailing(match: Match, label: str) -> int:
    """How many of the last axes a reduction runs over; 0 if over others, or not with `keepdims`."""
    node = match.node(label)
    axes, rank = axes_of(node), match.types.rank(match["x"])
    if axes is None or not node.attr("keepdims", 1):
        return 0
    if rank is None and max(axes) >= 0:
        return 0
    from_end = sorted(axis - rank if rank is not None and axis >= 0 else axis for axis in axes)
    return len(axes) if from_end == list(range(-len(axes), 0)) else 0


def _dims(match: Match, x: Value, count: int) -> tuple[int, ...] | None:
    """The last `count` dimensions of `x`, if they are known."""
    shape = match.types.shape(x)
    if count == 1:
        dim = last_dim(match.types, x)
        return None if dim is None else (dim,)
    dims = () if shape is None or len(shape) < count else shape[len(shape) - count :]
    numbers = tuple(dim for dim in dims if isinstance(dim, int))
    return numbers if count and len(numbers) == count else None


def _guard(match: Match) -> str:
    count, x = _trailing(match, "spread"), match["x"]
    if not count or ("mean" in match.bound.nodes and _trailing(match, "mean") != count):
        return "- not over the last axes"
    epsilon = number_of(match["eps"])
    if epsilon is None or epsilon < 0 or not np.isfinite(epsilon) or epsilon != float32(epsilon):
        return f"its epsilon {epsilon!r} is no float32"
    if match.types.dtype(x) not in _TYPES:
        return "- of another type"
    dims = _dims(match, x, count)
    if dims is None:
        return f"the size of the last {count} dimensions of {x.name!r} is not known"
    if not 0 < np.prod(dims) <= _MAX_ONES:
        return f"normalized over {dims}: its scale would take too much room"
    return changes_rank(match, x)


def _build(op_type: str, match: Match, b: Builder) -> Value:
    count, x, tensor = _trailing(match, "spread"), match["x"], match["eps"].const
    dims = _dims(match, x, count)
    assert dims is not None
    assert tensor is not None
    ones = b.constant(np.ones(dims, numpy_dtype(tensor.dtype)), f"{match.root.outputs[0].name}_scale")
    epsilon = number_of(match["eps"])
    return b(op_type, x, ones, attributes={"axis": -count, "epsilon": epsilon})


def _fits(match: Match, hole: str) -> str:
    """Why a factor or summand cannot be the scale or bias of the normalization beside it."""
    norm, value = match.node("norm"), match[hole]
    scale = norm.inputs[1]
    dims = None if scale is None else match.types.static_shape(scale)
    if dims is None or norm.attr("axis", -1) != -len(dims) or any(out.uses for out in norm.outputs[1:]):
        return "- not a normalization that is written with its scale over the last axes"
    if value.const is None:
        return "" if match.types.static_shape(value) == dims else "- not of the shape of the scale"
    shape = value.const.shape
    if len(shape) > max(len(dims), least_rank(match.types, norm.outputs[0])):
        return "- it would change the rank"
    trimmed = shape[max(0, len(shape) - len(dims)) :]
    broad = all(dim == 1 for dim in shape[: -len(dims)]) and all(
        a in (1, b) for a, b in zip(trimmed[::-1], dims[::-1], strict=False)
    )
    return "" if broad else "- not of the shape of the scale"


def _parameter(match: Match, b: Builder, hole: str) -> Value:
    """A factor or summand in the shape of the scale."""
    value, scale = match[hole], match.node("norm").inputs[1]
    dims = None if scale is None else match.types.static_shape(scale)
    if value.const is None or dims is None or value.const.shape == dims:
        return value
    array = value.const.numpy()
    return b.constant(np.broadcast_to(array.reshape(array.shape[-len(dims) :]), dims).copy(), value.name)


def _is_ones(match: Match) -> str:
    scale = match.node("norm").inputs[1]
    tensor = None if scale is None else scale.const
    array = None if tensor is None else array_of(tensor)
    return "" if array is not None and bool((array == 1).all()) else "- it has a scale"


def _scaled(match: Match, b: Builder) -> Value:
    norm = match.node("norm")
    return b.copy(norm, norm.inputs[0], _parameter(match, b, "p"))


def _biased(match: Match, b: Builder) -> Value:
    norm = match.node("norm")
    return b.copy(norm, *norm.inputs[:2], _parameter(match, b, "p"))


def _followed_by_scale(op_type: str, name: str) -> Rule:
    pattern = op.Mul(op[op_type,](var(), var()).named("norm"), var("p"))
    return Rule(name, pattern, _scaled, lambda match: _is_ones(match) or _fits(match, "p"))


LAYER_NORMALIZATION = (
    *(
        Rule(f"layer-norm-{n}", form, partial(_build, "LayerNormalization"), _guard)
        for n, form in enumerate(_normalized(_D), 1)
    ),
    _followed_by_scale("LayerNormalization", "layer-norm-scale"),
    Rule(
        "layer-norm-bias",
        op.Add(op.LayerNormalization(var(), var()).named("norm"), var("p")),
        _biased,
        lambda match: _fits(match, "p"),
    ),
)
RMS_NORMALIZATION = (
    *(
        Rule(f"rms-norm-{n}", form, partial(_build, "RMSNormalization"), _guard)
        for n, form in enumerate(_normalized(_X), 1)
    ),
    _followed_by_scale("RMSNormalization", "rms-norm-scale"),
)
