"""Shapes over symbolic sizes, operator by operator, where onnx's inference gives up or invents a new symbol.

A rule gives the shapes of the outputs of a node; a dimension that it cannot tell is None. It may assume that the node
does not fail: what is said of a run that fails does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..node import Node
from .broadcasting import Found, ImpossibleError, Open, broadcast
from .dims import Dim, Unwieldy, divided, is_dimension, plus, product, times
from .elements import Known, Shape, blank, items, numbers, slice_bounds
from .layer_shapes import (
    conv_shape,
    gemm_shape,
    global_pool_shape,
    matmul_shape,
    pool_shape,
    recurrent_shape,
)


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


SAME = names(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization Bernoulli BitwiseNot Cast CastLike Ceil Celu Clip Cos
    Cosh CumSum DequantizeLinear Dropout Elu Erf Exp EyeLike Floor Gelu GroupNormalization HardSigmoid HardSwish
    Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization
    LRN MeanVarianceNormalization Mish Neg Not PRelu QuantizeLinear RandomNormalLike RandomUniformLike Reciprocal
    Relu ReverseSequence Round ScatterElements ScatterND Scatter Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus
    Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu
    """
)
"""Operators whose first output has the shape of the first input."""
BROADCAST = names(
    """
    Add And BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul
    Or Pow Sub Sum Where Xor
    """
)
REDUCE = names(
    """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare
    """
)
RANKS: dict[str, int] = {"LSTM": 3, "GRU": 3, "RNN": 3, "Gemm": 2}
"""The rank that the first input must have."""


def shapes_of(node: Node, known: Known, opset: int) -> Found:
    """The shapes of the outputs of a node of the standard domain; fewer, or None, where nothing is known."""
    first = known.shape(node.input(0))
    wanted = RANKS.get(node.op_type)
    if first is not None and wanted is not None and len(first) != wanted:
        raise ImpossibleError(f"{node.label} takes rank {wanted}, not {len(first)}")
    if node.op_type in SAME:
        return [first]
    if node.op_type in BROADCAST:
        return [first] if opset < 7 else [broadcast([known.shape(value) for value in node.inputs])]
    if node.op_type in REDUCE or node.op_type in ("ArgMax", "ArgMin"):
        return [_reduce(node, known)]
    rule = RULES.get(node.op_type)
    try:
        return () if rule is None else rule(node, known)
    except (Unwieldy, IndexError, ValueError):
        return ()


def _axis(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def _axes(node: Node, known: Known) -> list[int] | None:
    """The axes that a node names, in an attribute or its second input; empty if it names none, None if unknown."""
    if node.input(1) is None:
        return list(node.attr("axes") or [])
    return numbers(known.elements(node.input(1)))


def _reduce(node: Node, known: Known) -> Open | None:
    shape = known.shape(node.input(0))
    axes = [node.attr("axis", 0)] if node.op_type.startswith("Arg") else _axes(node, known)
    if shape is None or axes is None:
        return None
    if not axes and node.attr("noop_with_empty_axes", 0):
        return shape
    gone = {_axis(axis, len(shape)) for axis in axes} or set(range(len(shape)))
    if node.attr("keepdims", 1):
        return tuple(1 if place in gone else size for place, size in enumerate(shape))
    return tuple(size for place, size in enumerate(shape) if place not in gone)


def _reshape(node: Node, known: Known) -> Found:
    source, target = known.shape(node.input(0)), blank(node.input(1), known)
    if target is None:
        return ()
    keeps_zero = bool(node.attr("allowzero", 0))
    result: list[Dim | None] = []
    for place, size in enumerate(items(target)):
        if size is None or size == -1:
            result.append(None)
        elif size == 0 and not keeps_zero:
            result.append(None if source is None else source[place])
        elif isinstance(size, int) or _is_taken_literally(size, source, place, keeps_zero, known):
            result.append(size)
        else:
            result.append(None)
    if result.count(None) == 1 and source is not None:
        place = result.index(None)
        others = [size for size in result if size is not None]
        if items(target)[place] == -1 or all(isinstance(size, int) and size > 0 for size in others):
            result[place] = divided(product(source), product(others))
    return [tuple(result)]


def _is_taken_literally(size: Dim, source: Shape | None, place: int, keeps_zero: bool, known: Known) -> bool:
    """Whether a size is the size of the result even where it is 0, which stands for the size of the input there, and
    fails where the input has none."""
    if source is not None and place < len(source) and source[place] == size:
        return True
    if keeps_zero or (source is not None and place >= len(source)):
        return is_dimension(size)
    return known.is_positive(size)


def _squeeze(node: Node, known: Known) -> Found:
    shape, axes = known.shape(node.input(0)), _axes(node, known)
    if shape is None or axes is None:
        return ()
    if not axes:
        return [tuple(size for size in shape if size != 1)] if all(isinstance(size, int) for size in shape) else ()
    gone = {_axis(axis, len(shape)) for axis in axes}
    return [tuple(size for place, size in enumerate(shape) if place not in gone)]


def _unsqueeze(node: Node, known: Known) -> Found:
    shape, axes = known.shape(node.input(0)), _axes(node, known)
    if shape is None or axes is None:
        return ()
    rank = len(shape) + len(axes)
    new, rest = {_axis(axis, rank) for axis in axes}, iter(shape)
    return [tuple(1 if place in new else next(rest, None) for place in range(rank))]


def _flatten(node: Node, known: Known) -> Found:
    shape = known.shape(node.input(0))
    if shape is None:
        return ()
    axis = _axis(node.attr("axis", 1), len(shape))
    return [(product(shape[:axis]), product(shape[axis:]))]


def _transpose(node: Node, known: Known) -> Found:
    shape = known.shape(node.input(0))
    if shape is None:
        return ()
    return [tuple(shape[axis] for axis in node.attr("perm") or reversed(range(len(shape))))]


def _concat(node: Node, known: Known) -> Found:
    shapes = [known.shape(value) for value in node.inputs]
    found = [shape for shape in shapes if shape is not None]
    if len(found) < len(shapes) or not found or len({len(shape) for shape in found}) > 1:
        return ()
    axis = _axis(node.attr("axis", 1), len(found[0]))
    total: Dim = 0
    for shape in found:
        total = plus(total, shape[axis])
    columns = zip(*found, strict=True)
    agreed = (next((size for size in column if isinstance(size, int)), column[0]) for column in columns)
    return [tuple(total if place == axis else size for place, size in enumerate(agreed))]


def _slice(node: Node, known: Known) -> Found:
    shape, parts = known.shape(node.input(0)), slice_bounds(node, known)
    if shape is None:
        return ()
    if parts is None:
        return [(None,) * len(shape)]
    result: list[Dim | None] = list(shape)
    for axis, start, end, step in parts:
        result[axis] = _sliced(shape[axis], start, end, step)
    return [tuple(result)]


def _sliced(size: Dim, start: Dim | None, end: Dim | None, step: int) -> Dim | None:
    if is_everything(size, start, end, step):
        return size
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(*slice(start, max(end, -size - 1) if step > 0 else end, step).indices(size)))
    return None


def is_everything(size: Dim, start: Dim | None, end: Dim | None, step: int) -> bool:
    """Whether a slice takes all of an axis of that size."""
    if start != 0 or step != 1 or end is None:
        return False
    return end == size or (isinstance(end, int) and end >= (size if isinstance(size, int) else 2**31 - 1))


def _gather(node: Node, known: Known) -> Found:
    shape, indices = known.shape(node.input(0)), known.shape(node.input(1))
    if shape is None or indices is None:
        return ()
    axis = _axis(node.attr("axis", 0), len(shape))
    return [(*shape[:axis], *indices, *shape[axis + 1 :])]


def _of_second(node: Node, known: Known) -> Found:
    return [known.shape(node.input(1))]


def _split(node: Node, known: Known) -> Found:
    shape = known.shape(node.input(0))
    if shape is None:
        return ()
    axis = _axis(node.attr("axis", 0), len(shape))
    sizes: Sequence[Dim | None] | None = node.attr("split")
    if node.input(1) is not None:
        given = blank(node.input(1), known)
        sizes = None if given is None else items(given)
    elif sizes is None:
        total = shape[axis]
        count = node.attr("num_outputs", len(node.outputs))
        part = divided(total, count)
        sizes = None if part is None else [part] * count
    sizes = [None] * len(node.outputs) if sizes is None else sizes
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _from_elements(slot: int) -> Callable[[Node, Known], Found]:
    def rule(node: Node, known: Known) -> Found:
        target = blank(node.input(slot), known)
        return () if target is None else [tuple(items(target))]

    return rule


def _expand(node: Node, known: Known) -> Found:
    target = blank(node.input(1), known)
    if target is None:
        return ()
    sizes = tuple(None if isinstance(size, int) and size < 0 else size for size in items(target))
    return [broadcast([known.shape(node.input(0)), sizes])]


def _tile(node: Node, known: Known) -> Found:
    shape, repeats = known.shape(node.input(0)), blank(node.input(1), known)
    if shape is None:
        return ()
    if repeats is None or repeats.size != len(shape):
        return [(None,) * len(shape)]
    return [
        tuple(None if count is None else times(size, count) for size, count in zip(shape, items(repeats), strict=True))
    ]


def _pad(node: Node, known: Known) -> Found:
    shape = known.shape(node.input(0))
    if shape is None:
        return ()
    given = blank(node.input(1), known) if node.input(1) is not None else None
    pads = items(given) if given is not None else node.attr("pads", node.attr("paddings"))
    if pads is None or len(pads) != 2 * len(shape) or node.input(3) is not None:
        return [(None,) * len(shape)]
    rank = len(shape)
    return [
        tuple(
            None if low is None or high is None else plus(size, plus(low, high))
            for size, low, high in zip(shape, pads[:rank], pads[rank:], strict=True)
        )
    ]


def _range(node: Node, known: Known) -> Found:
    parts = [known.elements(value) for value in node.inputs]
    start, stop, step = (part.reshape(-1)[0] if part is not None and part.size == 1 else None for part in parts)
    if start is None or stop is None or step is None:
        return [(None,)]
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        return [(len(range(start, stop, step)),)]
    return [(stop,)] if start == 0 and step == 1 and is_dimension(stop) else [(None,)]


def _list_of_rank(node: Node, known: Known) -> Found:
    shape = known.shape(node.input(0))
    if shape is None:
        return [(None,)]
    return [(len(range(*slice(node.attr("start", 0), node.attr("end")).indices(len(shape)))),)]


def _scalar(node: Node, known: Known) -> Found:
    return [()]


RULES: dict[str, Callable[[Node, Known], Found]] = {
    "AveragePool": pool_shape,
    "Concat": _concat,
    "ConstantOfShape": _from_elements(0),
    "Conv": conv_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "GRU": recurrent_shape,
    "Gather": _gather,
    "GatherElements": _of_second,
    "Gemm": gemm_shape,
    "GlobalAveragePool": global_pool_shape,
    "GlobalMaxPool": global_pool_shape,
    "LSTM": recurrent_shape,
    "MatMul": matmul_shape,
    "MaxPool": pool_shape,
    "Pad": _pad,
    "RNN": recurrent_shape,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _list_of_rank,
    "Size": _scalar,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
