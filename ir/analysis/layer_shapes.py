"""Shapes that layers give: products of matrices, convolutions, pools and recurrent networks."""

from __future__ import annotations

from collections.abc import Sequence

from ..node import Node
from .broadcasting import Found, ImpossibleError, Open, broadcast
from .dims import Dim, plus
from .elements import Known


def matmul_shape(node: Node, known: Known) -> Found:
    """The shape of a matrix product, batches broadcast."""
    a, b = known.shape(node.input(0)), known.shape(node.input(1))
    if not a or not b:
        return ()
    left: Open = a if len(a) > 1 else (1, *a)
    right: Open = b if len(b) > 1 else (*b, 1)
    outer = broadcast([left[:-2], right[:-2]]) or ()
    return [(*outer, *(left[-2:-1] if len(a) > 1 else ()), *(right[-1:] if len(b) > 1 else ()))]


def gemm_shape(node: Node, known: Known) -> Found:
    """Rows of the first matrix, columns of the second."""
    a, b = known.shape(node.input(0)), known.shape(node.input(1))
    rows = None if a is None else a[1 if node.attr("transA", 0) else 0]
    columns = None if b is None else b[0 if node.attr("transB", 0) else 1]
    return [(rows, columns)]


def conv_shape(node: Node, known: Known) -> Found:
    """Batch, channels of the weight, and what windows leave of the rest."""
    shape, weight = known.shape(node.input(0)), known.shape(node.input(1))
    if shape is None or weight is None:
        return ()
    if len(shape) != len(weight):
        raise ImpossibleError(f"{node.label} takes rank {len(weight)}, not {len(shape)}")
    return [(shape[0], weight[0], *_windows(node, shape[2:], weight[2:]))]


def pool_shape(node: Node, known: Known) -> Found:
    """As many channels as before, and what windows leave of the rest."""
    shape, window = known.shape(node.input(0)), node.attr("kernel_shape")
    if shape is None or window is None or len(shape) != len(window) + 2:
        return ()
    return [(*shape[:2], *_windows(node, shape[2:], window))] * len(node.outputs)


def _windows(node: Node, sizes: Open, window: Sequence[Dim | None]) -> Open:
    """The spatial sizes after a window of stride 1 has passed; others are left to onnx."""
    rank = len(sizes)
    strides, dilations = node.attr("strides") or [1] * rank, node.attr("dilations") or [1] * rank
    pads = node.attr("pads") or [0] * 2 * rank
    if node.attr("auto_pad", "NOTSET") != "NOTSET":
        return (None,) * rank
    result: list[Dim | None] = []
    for place, (size, width) in enumerate(zip(sizes, window, strict=True)):
        if size is None or not isinstance(width, int) or strides[place] != 1:
            result.append(None)
            continue
        reach = dilations[place] * (width - 1)
        result.append(plus(size, pads[place] + pads[place + rank] - reach))
    return tuple(result)


def global_pool_shape(node: Node, known: Known) -> Found:
    """One element a channel."""
    shape = known.shape(node.input(0))
    return () if shape is None else [(*shape[:2], *[1] * (len(shape) - 2))]


def recurrent_shape(node: Node, known: Known) -> Found:
    """All states, the last state, and the last cell of an LSTM, GRU or RNN."""
    shape, weight = known.shape(node.input(0)), known.shape(node.input(2))
    if shape is None or node.attr("layout", 0):
        return ()
    hidden = node.attr("hidden_size", None if weight is None else weight[2])
    directions = 2 if node.attr("direction", "forward") == "bidirectional" else 1
    last = (directions, shape[1], hidden)
    return [(shape[0], *last[:1], *last[1:]), last, last][: len(node.outputs)]
