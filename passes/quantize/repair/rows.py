"""Sums of the rows that meet the matrices of a layer; of a convolution, without unfolding its input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....ir.analysis.linear import Linear, with_pads

Array = np.ndarray[Any, np.dtype[Any]]
Float64 = NDArray[np.float64]


def row_sums(layer: Linear, x: Array) -> tuple[Float64, int]:
    """The sum of the rows of `layer.rows(x)`, of shape `[groups, k]`, and how many they are."""
    if layer.op_type != "Conv":
        rows = layer.rows(x)
        return rows.sum(axis=1, dtype=np.float64), rows.shape[1]
    node, kernel, x = layer.node, layer.kernel, layer.batched(x)
    rank = len(kernel)
    strides, dilations = node.attr("strides", [1] * rank), node.attr("dilations", [1] * rank)
    padded = with_pads(node, kernel, x)
    spans = [dilation * (length - 1) + 1 for dilation, length in zip(dilations, kernel, strict=True)]
    places = [
        max(0, (size - span) // step + 1) for size, span, step in zip(padded.shape[2:], spans, strides, strict=True)
    ]
    sums = np.zeros((x.shape[1], *kernel))
    for tap in np.ndindex(*kernel):
        starts = [place * dilation for place, dilation in zip(tap, dilations, strict=True)]
        where = tuple(
            slice(start, start + count * step, step) for start, count, step in zip(starts, places, strides, strict=True)
        )
        seen = padded[(slice(None), slice(None), *where)]
        sums[(slice(None), *tap)] = seen.sum(axis=(0, *range(2, 2 + rank)), dtype=np.float64)
    return sums.reshape(layer.groups, layer.k), x.shape[0] * int(np.prod(places))
