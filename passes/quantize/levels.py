"""Symmetric int8: a number w becomes a level q = clip(rint(w / s), -127, 127), decoded as fl(q s).

The step s of a channel is max|w| / 127, so nothing is clipped but what division rounds over the edge, and
|w - q s| <= s / 2 up to floating-point rounding. Zero is level 0. A step is never below the smallest normal number, as
executors may flush what is smaller to zero; a channel of zeros has step 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import Part, part_of, parts, sums_by_parts

Array = np.ndarray[Any, np.dtype[Any]]
LEVELS = 127
"""The largest level; -128 is not used, so that levels and numbers are symmetric."""


@dataclass(frozen=True)
class Steps:
    """The steps of a weight: along `axes` every index has its own, along the others they are shared.

    `array` has the rank of the weight with length 1 along shared axes; its type is that of the decoding arithmetic.
    It may be the product of two `factors`, exactly: steps along `axes`, and powers of two along one axis more.
    """

    axes: tuple[int, ...]
    array: Array
    factors: tuple[Array, ...] = ()

    @property
    def stored(self) -> tuple[Array, ...]:
        """What is written: the factors, or the steps themselves."""
        return self.factors or (self.array,)

    @property
    def size(self) -> int:
        """How many numbers are written."""
        return sum(int(one.size) for one in self.stored)

    def squared_error(self, shape: tuple[int, ...]) -> float:
        """The expected sum of squared errors of a weight of `shape`, errors being uniform within a step: N s^2 / 12."""
        with np.errstate(over="ignore"):
            squares = float(np.square(self.array, dtype=np.float64).sum())
        return squares * prod(shape) / max(1, self.array.size) / 12


def steps(weight: Array, axes: tuple[int, ...], arithmetic: np.dtype[Any], divisor: Array | None = None) -> Steps:
    """The steps of `weight` along `axes`, in the type of `arithmetic`; NaN or Inf where the weight holds one. With a
    `divisor`, which is broadcast over the weight, those of the quotient."""
    peaks = np.zeros([n if axis in axes else 1 for axis, n in enumerate(weight.shape)], arithmetic)
    shared = tuple(axis for axis in range(weight.ndim) if axis not in axes)
    for part in parts(weight.shape):
        numbers = np.abs(weight[part].astype(arithmetic, copy=False))
        if divisor is not None:
            numbers = numbers / divisor[part_of(part, divisor.shape)]
        piece = numbers.max(shared, keepdims=True, initial=0)
        here = part_of(part, peaks.shape)
        peaks[here] = np.maximum(peaks[here], piece)
    array = np.where(peaks == 0, 1, np.maximum(peaks / LEVELS, np.finfo(arithmetic).tiny))
    return Steps(axes, array.astype(arithmetic))


def fit(steps: Steps, dtype: np.dtype[Any]) -> bool:
    """Whether every decoded number, in `dtype`, is finite."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite((steps.array * steps.array.dtype.type(LEVELS)).astype(dtype)).all())


def encode(weight: Array, steps: Array) -> NDArray[np.int8]:
    """The levels of `weight`, of its shape; `steps` is broadcast over it."""
    levels = np.empty(weight.shape, np.int8)
    for part in parts(weight.shape):
        levels[part] = _nearest(weight[part], steps[part_of(part, steps.shape)])
    return levels


def decode(levels: Array, steps: Array, dtype: np.dtype[Any]) -> Array:
    """What executors make of levels: the product in the arithmetic of `steps`, cast to `dtype`."""
    product = np.asarray(np.multiply(levels, steps, dtype=steps.dtype))
    return product.astype(dtype, copy=False)


def absolute_errors(weight: Array, steps: Array, summed: tuple[int, ...], kept: tuple[int, ...]) -> NDArray[np.float64]:
    """|weight - decode(encode(weight))|, exactly as the runtime will have it, summed over the axes `summed`, then the
    largest over all axes but `kept`; the result has the axes `kept` in order."""
    return sums_by_parts(weight.shape, lambda part: _error(weight, steps, part), summed, kept)


def _nearest(weight: Array, steps: Array) -> Array:
    """The levels of a part, as floats."""
    ratio = np.asarray(np.divide(weight, steps, dtype=steps.dtype))
    return np.clip(np.rint(ratio, out=ratio), -LEVELS, LEVELS, out=ratio)


def _error(weight: Array, steps: Array, part: Part) -> Array:
    """The errors of a part. The subtraction is exact in a type that holds both: a number and what it is decoded to are
    at most a factor of 2 apart, or the latter is zero (Sterbenz)."""
    here, step = weight[part], steps[part_of(part, steps.shape)]
    both = np.result_type(here.dtype, step.dtype)
    decoded = decode(_nearest(here, step), step, here.dtype).astype(both, copy=False)
    return np.asarray(np.abs(np.subtract(here, decoded, out=decoded), out=decoded))
