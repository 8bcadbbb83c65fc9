"""How operators compute the elements of small integer and boolean tensors, over unknown sizes.

Each rule is exact: an element that is not None has that value in every run in which the operator does not fail.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from ..node import Node
from .dims import Dim, Unwieldy, bounds, divided, minus, plus, product, times
from .elements import MAX_ELEMENTS, RANGES, Elements, Known, array, blank, numbers, slice_bounds

Rule = Callable[[Node, Known], Elements | None]


def elements_of(node: Node, known: Known) -> Elements | None:
    """What is known of the first output of a node of the standard domain."""
    rule = RULES.get(node.op_type)
    if rule is None or not node.outputs:
        return None
    dtype = known.dtype(node.outputs[0])
    if dtype not in RANGES:
        return None
    try:
        found = rule(node, known)
    except (Unwieldy, ValueError, IndexError, OverflowError):
        return None  # too much to follow, or a node that fails when it runs
    if found is None or found.size > MAX_ELEMENTS:
        return None
    low, high = RANGES[dtype]
    result: Elements = np.empty(found.shape, object)
    for index, item in np.ndenumerate(found):
        result[index] = item if item is None or _fits(item, low, high) else None
    return result if any(item is not None for item in result.flat) else None


def _fits(item: Dim, low: int, high: int) -> bool:
    """Whether arithmetic in the type cannot have wrapped around: of products of sizes, int32 holds too few."""
    if isinstance(item, int):
        return low <= item <= high
    return all(abs(factor) < 2**31 and len(atoms) <= (1 if high < 2**32 else 4) for atoms, factor in item.terms)


# ---- element by element


def _lifted(function: Callable[..., Dim | None], *arrays: Elements) -> Elements:
    def guarded(*items: Dim | None) -> Dim | None:
        if any(item is None for item in items):
            return None
        try:
            return function(*items)
        except Unwieldy:
            return None

    made = np.frompyfunc(guarded, len(arrays), 1)(*arrays)
    return made if isinstance(made, np.ndarray) else array(made)


def _elementwise(function: Callable[..., Dim | None]) -> Rule:
    def rule(node: Node, known: Known) -> Elements | None:
        parts = [blank(value, known) for value in node.inputs]
        found = [part for part in parts if part is not None]
        return _lifted(function, *found) if len(found) == len(parts) else None

    return rule


def _folded(function: Callable[[Dim, Dim], Dim | None]) -> Rule:
    def rule(node: Node, known: Known) -> Elements | None:
        result: Elements | None = None
        for value in node.inputs:
            part = blank(value, known)
            if part is None:
                return None
            result = part if result is None else _lifted(function, result, part)
        return result

    return rule


def _divide(a: Dim, b: Dim) -> Dim | None:
    if isinstance(a, int) and isinstance(b, int):
        return a // b if a >= 0 and b > 0 else None  # executors round negative quotients in different ways
    return divided(a, b)


def _remainder(a: Dim, b: Dim) -> Dim | None:
    if isinstance(b, int) and b > 0:
        if isinstance(a, int):
            return a % b if a >= 0 else None  # the sign of the result depends on an attribute
        return 0 if divided(a, b) is not None else None
    return None


def _greatest(a: Dim, b: Dim) -> Dim | None:
    low, high = bounds(minus(a, b))
    return a if low >= 0 else b if high <= 0 else None


def _least(a: Dim, b: Dim) -> Dim | None:
    low, high = bounds(minus(a, b))
    return b if low >= 0 else a if high <= 0 else None


def _equal(a: Dim, b: Dim) -> Dim | None:
    if a == b:
        return 1
    low, high = bounds(minus(a, b))
    return 0 if low > 0 or high < 0 else None


def _less(a: Dim, b: Dim) -> Dim | None:
    low, high = bounds(minus(a, b))
    return 1 if high < 0 else 0 if low >= 0 else None


def _less_or_equal(a: Dim, b: Dim) -> Dim | None:
    low, high = bounds(minus(a, b))
    return 1 if high <= 0 else 0 if low > 0 else None


def _negated(a: Dim) -> Dim | None:
    return 1 - a if isinstance(a, int) else None


def _absolute(a: Dim) -> Dim | None:
    low, high = bounds(a)
    return a if low >= 0 else times(-1, a) if high <= 0 else None


def _truth(a: Dim) -> Dim | None:
    low, high = bounds(a)
    return 1 if low > 0 or high < 0 else 0 if a == 0 else None


def _logical(stops_at: int) -> Callable[[Dim | None, Dim | None], Dim | None]:
    """And stops at 0, Or at 1: one such operand decides."""

    def decide(a: Dim | None, b: Dim | None) -> Dim | None:
        if stops_at in (a, b):
            return stops_at
        return None if a is None or b is None else 1 - stops_at

    return decide


def _logic(stops_at: int) -> Rule:
    decide = np.frompyfunc(_logical(stops_at), 2, 1)

    def rule(node: Node, known: Known) -> Elements | None:
        a, b = (blank(value, known) for value in node.inputs)
        if a is None or b is None:
            return None
        made = decide(a, b)
        return made if isinstance(made, np.ndarray) else array(made)

    return rule


def _cast(node: Node, known: Known) -> Elements | None:
    source = known.elements(node.input(0))
    if source is None:
        return None
    return _lifted(_truth, source) if node.attr("to") == TensorProto.BOOL else source


def _where(node: Node, known: Known) -> Elements | None:
    condition, yes, no = (blank(value, known) for value in node.inputs)
    if condition is None or yes is None or no is None:
        return None

    def pick(c: Dim | None, a: Dim | None, b: Dim | None) -> Dim | None:
        return (a if a == b else None) if c is None else (a if c else b)

    made = np.frompyfunc(pick, 3, 1)(condition, yes, no)
    return made if isinstance(made, np.ndarray) else array(made)


# ---- moving elements


def _shape(node: Node, known: Known) -> Elements | None:
    shape = known.shape(node.input(0))
    if shape is None:
        return None
    return array(list(shape))[slice(node.attr("start", 0), node.attr("end"))]


def _size(node: Node, known: Known) -> Elements | None:
    shape = known.shape(node.input(0))
    return None if shape is None else array(product(shape))


def _same(node: Node, known: Known) -> Elements | None:
    return known.elements(node.input(0))


def _reshaped(node: Node, known: Known) -> Elements | None:
    source, shape = known.elements(node.input(0)), known.shape(node.outputs[0])
    if source is None or shape is None:
        return None
    sizes = [dim for dim in shape if isinstance(dim, int)]
    if len(sizes) == len(shape):
        return source.reshape(sizes)
    return None


def _concat(node: Node, known: Known) -> Elements | None:
    parts = [blank(value, known) for value in node.inputs]
    found = [part for part in parts if part is not None]
    return np.concatenate(found, node.attr("axis", 1)) if len(found) == len(parts) else None


def _gather(node: Node, known: Known) -> Elements | None:
    source, indices = known.elements(node.input(0)), known.elements(node.input(1))
    where = numbers(indices)
    if source is None or indices is None or where is None:
        return None
    made = np.take(source, np.array(where, np.int64).reshape(indices.shape), node.attr("axis", 0))
    return made if isinstance(made, np.ndarray) else array(made)


def _slice(node: Node, known: Known) -> Elements | None:
    source, parts = known.elements(node.input(0)), slice_bounds(node, known)
    if source is None or parts is None:
        return None
    index = [slice(None)] * source.ndim
    for axis, start, end, step in parts:
        if not isinstance(start, int) or not isinstance(end, int) or step != 1:
            return None
        index[axis] = slice(start, end, step)
    return source[tuple(index)]


def _transposed(node: Node, known: Known) -> Elements | None:
    source = known.elements(node.input(0))
    return None if source is None else source.transpose(node.attr("perm"))


def _expanded(node: Node, known: Known) -> Elements | None:
    source, shape = known.elements(node.input(0)), known.shape(node.outputs[0])
    sizes = [dim for dim in shape or () if isinstance(dim, int)]
    if source is None or shape is None or len(sizes) != len(shape) or int(np.prod(sizes)) > MAX_ELEMENTS:
        return None
    return np.broadcast_to(source, sizes).copy()


def _filled(node: Node, known: Known) -> Elements | None:
    shape, value = known.shape(node.outputs[0]), node.attr("value")
    sizes = [dim for dim in shape or () if isinstance(dim, int)]
    if shape is None or len(sizes) != len(shape) or int(np.prod(sizes)) > MAX_ELEMENTS:
        return None
    return np.full(sizes, 0 if value is None else int(value.numpy().reshape(-1)[0]), object)


def _range(node: Node, known: Known) -> Elements | None:
    parts = [numbers(known.elements(value)) for value in node.inputs]
    if any(part is None or len(part) != 1 for part in parts):
        return None
    start, stop, step = (part[0] for part in parts if part)
    items = range(start, stop, step) if step else ()
    return array(list(items)) if len(items) <= MAX_ELEMENTS else None


def _reduced(function: Callable[[Dim, Dim], Dim | None], empty: int | None) -> Rule:
    """Over all elements of a list."""

    def rule(node: Node, known: Known) -> Elements | None:
        source = known.elements(node.input(0))
        given = node.attr("axes") if len(node.inputs) < 2 else numbers(known.elements(node.input(1)))
        asked = len(node.inputs) > 1 and node.input(1) is not None and given is None
        if source is None or source.ndim != 1 or asked or (not given and node.attr("noop_with_empty_axes", 0)):
            return None
        result: Dim | None = empty if not source.size else source[0]
        for item in source[1:]:
            result = None if result is None or item is None else function(result, item)
        return array([result]) if node.attr("keepdims", 1) else array(result)

    return rule


RULES: dict[str, Rule] = {
    "Abs": _elementwise(_absolute),
    "Add": _elementwise(plus),
    "And": _logic(0),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _elementwise(_divide),
    "Equal": _elementwise(_equal),
    "Expand": _expanded,
    "Flatten": _reshaped,
    "Gather": _gather,
    "Greater": _elementwise(lambda a, b: _less(b, a)),
    "GreaterOrEqual": _elementwise(lambda a, b: _less_or_equal(b, a)),
    "Identity": _same,
    "Less": _elementwise(_less),
    "LessOrEqual": _elementwise(_less_or_equal),
    "Max": _folded(_greatest),
    "Min": _folded(_least),
    "Mod": _elementwise(_remainder),
    "Mul": _elementwise(times),
    "Neg": _elementwise(lambda a: times(-1, a)),
    "Not": _elementwise(_negated),
    "Or": _logic(1),
    "Range": _range,
    "ReduceMax": _reduced(_greatest, None),
    "ReduceMin": _reduced(_least, None),
    "ReduceProd": _reduced(times, 1),
    "ReduceSum": _reduced(plus, 0),
    "Reshape": _reshaped,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _reshaped,
    "Sub": _elementwise(minus),
    "Transpose": _transposed,
    "Unsqueeze": _reshaped,
    "Where": _where,
}
"""By operator; broadcasting is that of opset 7 and above."""
DECIDE = frozenset({"And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"})
"""Those whose result is boolean."""
