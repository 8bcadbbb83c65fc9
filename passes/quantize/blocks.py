"""Arrays in parts that fit into a cache, so that work on a weight needs memory for a part and not for the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Part = tuple[slice, ...]
PART_SIZE = 1 << 15
"""Elements. Memory of larger temporary arrays goes back to the system each time, which costs more than arithmetic."""


def parts(shape: tuple[int, ...], limit: int = PART_SIZE) -> Iterator[Part]:
    """Indices that cut an array of `shape`, in order, into contiguous parts of at most `limit` elements."""
    if not shape:
        yield ()
        return
    inner = prod(shape[1:])
    if inner > limit:
        for index in range(shape[0]):
            for rest in parts(shape[1:], limit):
                yield (slice(index, index + 1), *rest)
        return
    rows = max(1, limit // max(1, inner))
    for start in range(0, shape[0], rows):
        yield (slice(start, start + rows), *(slice(None),) * (len(shape) - 1))


def part_of(part: Part, shape: tuple[int, ...]) -> Part:
    """The same part of an array of `shape` that is broadcast over the first: axes of length 1 stay whole."""
    return tuple(slice(None) if length == 1 else index for index, length in zip(part, shape, strict=True))


def sums_by_parts(
    shape: tuple[int, ...],
    of: Callable[[Part], np.ndarray[Any, np.dtype[Any]]],
    summed: tuple[int, ...],
    kept: tuple[int, ...],
) -> NDArray[np.float64]:
    """Numbers of at least 0, `of` a part of an array of `shape`, summed over the axes `summed`, then the largest over
    all axes but `kept`; the result has the axes `kept` in order."""
    others = tuple(axis for axis in range(len(shape)) if axis not in kept)
    if not summed:
        most = np.zeros([n if axis in kept else 1 for axis, n in enumerate(shape)])
        for part in parts(shape):
            here = part_of(part, most.shape)
            most[here] = np.maximum(most[here], of(part).max(others, keepdims=True, initial=0))
        return most.reshape([shape[axis] for axis in kept])
    total = np.zeros([1 if axis in summed else n for axis, n in enumerate(shape)])
    for part in parts(shape):
        total[part_of(part, total.shape)] += of(part).sum(summed, np.float64, keepdims=True)
    return np.asarray(total.max(others, initial=0))
