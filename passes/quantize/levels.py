"""Grids: where the numbers lie that a weight may have once it is stored in codes.

A number w becomes the code of the number of the alphabet that is nearest to w / s, and is decoded as fl(number * s),
with a step s per tensor, per channel or per block. Without zero points s = max|w| / (largest number of the alphabet).
With zero points, for integers lowest..highest, s = (max - min) / (highest - lowest) with 0 between min and max, and
z = rint(lowest - min / s). `signed` steps are for integers -n..n-1 without zero points: with p the largest magnitude
and q that on the other side of 0, s = max(p / n, q / (n - 1/2)), and negative if p is that of a positive number. In any
case nothing is clipped by more than half a step, and of integers |w - decoded| is at most |s| / 2, up to floating-point
rounding. Zero is exact. No |s| is below the smallest normal number, as executors may flush what is smaller to zero;
where all is zero it is 1.

Codes need not be the nearest ones: `Grid.choose(codes)` gives a grid that encodes to `codes`, of the weight's shape,
whatever the weight is (for rounding by other rules: `Grid.spread` gives the step and the zero point of every element).
Bounds are always computed from what the codes decode to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .alphabet import INT8, Alphabet, Integers
from .blocks import Part, part_of, parts, sums_by_parts

Array = np.ndarray[Any, np.dtype[Any]]


class Block(NamedTuple):
    """So many neighbours along an axis share a step; the last block may be shorter."""

    axis: int
    size: int


@dataclass(frozen=True, eq=False)
class Grid:
    """The numbers that a weight of `shape` may have.

    `array` holds the steps and has the rank of the weight: along `axes` every index has its own (every block of them
    along the axis of `block`), along the others, of length 1, they are shared; its type is that of the decoding
    arithmetic. It may be the product of two `factors`, exactly: steps along `axes`, and powers of two along one axis
    more. `zeros` are zero points, of the shape of `array` and the type of codes; None where one is for all.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    array: Array
    factors: tuple[Array, ...] = ()
    alphabet: Alphabet = INT8
    zeros: Array | None = None
    block: Block | None = None
    chosen: Array | None = None
    """The codes, if another rule than the nearest number chose them."""

    @property
    def stored(self) -> tuple[Array, ...]:
        """What is written: the factors, or the steps themselves."""
        return self.factors or (self.array,)

    @property
    def size(self) -> int:
        """How many scales are written."""
        return sum(int(one.size) for one in self.stored)

    def choose(self, codes: Array) -> Grid:
        """This grid, with `codes` in place of the nearest; ValueError if they are of another shape or range."""
        held = codes.astype(self.alphabet.held)
        if codes.shape != self.shape or not np.array_equal(held, codes):
            raise ValueError(f"codes of shape {codes.shape} do not fit {self.alphabet.name} of shape {self.shape}")
        known = self.alphabet
        if isinstance(known, Integers) and not ((codes >= known.first) & (codes <= known.last)).all():
            raise ValueError(f"codes leave the range {known.first} to {known.last}")
        return replace(self, chosen=held)

    def spread(self, array: Array, part: Part | None = None) -> Array:
        """`array`, of the shape of the steps, such that it broadcasts over a part of the weight, or all of it."""
        index = tuple(slice(None) for _ in self.shape) if part is None else part
        here: list[slice | NDArray[np.intp]] = list(part_of(index, array.shape))
        if self.block is not None and array.shape[self.block.axis] > 1:
            at = self.block.axis
            here[at] = np.arange(self.shape[at])[index[at]] // self.block.size
        return np.asarray(array[tuple(here)])

    def codes(self, weight: Array, part: Part) -> Array:
        """The codes of a part of `weight`, in some type that holds them."""
        if self.chosen is not None:
            return np.asarray(self.chosen[part])
        steps = self.spread(self.array, part)
        ratio = np.asarray(np.divide(weight[part], steps, dtype=steps.dtype))
        return self.alphabet.nearest(ratio, None if self.zeros is None else self.spread(self.zeros, part))

    def decoded(self, codes: Array, dtype: np.dtype[Any], part: Part) -> Array:
        """What executors make of the codes of a part: the product in the arithmetic of the steps, cast to `dtype`."""
        zeros = None if self.zeros is None else self.spread(self.zeros, part)
        made = self.alphabet.numbers(codes, zeros, self.array.dtype)
        made *= self.spread(self.array, part)
        return made.astype(dtype, copy=False)

    def squared_error(self) -> float:
        """The expected sum of squared errors, were the numbers of the alphabet one apart and errors uniform between
        them: N s^2 / 12. It compares grids of one alphabet."""
        with np.errstate(over="ignore"):
            squares = float(np.square(self.array, dtype=np.float64).sum())
        return squares * prod(self.shape) / max(1, self.array.size) / 12


def steps(
    weight: Array,
    axes: tuple[int, ...],
    arithmetic: np.dtype[Any],
    divisor: Array | None = None,
    *,
    alphabet: Alphabet = INT8,
    block: Block | None = None,
    affine: bool = False,
    signed: bool = False,
    powers: bool = False,
) -> Grid:
    """The grid of `weight` with steps along `axes` (which name the axis of `block`, too), in the type of `arithmetic`;
    NaN or Inf where the weight holds one.

    With a `divisor`, which is broadcast over the weight, the grid of the quotient. `affine` gives zero points, and is
    for integers, as `signed` is; with `powers` every step is rounded up to a power of two.
    """
    if (affine or signed) and not isinstance(alphabet, Integers):
        raise ValueError(f"{alphabet.name} has no zero points")
    grid = Grid(
        weight.shape, axes, np.zeros(_lengths(weight.shape, axes, block), arithmetic), (), alphabet, None, block
    )
    if not affine and not signed:
        peaks = _extremes(weight, grid, divisor, np.maximum, np.abs)
        return replace(grid, array=_steps(peaks / arithmetic.type(alphabet.highest), powers))
    low, high = (_extremes(weight, grid, divisor, end) for end in (np.minimum, np.maximum))
    if signed:
        small, large = (arithmetic.type(number) for number in (alphabet.highest + 0.5, -alphabet.lowest))
        sizes = np.maximum(np.maximum(high, -low) / large, np.minimum(high, -low) / small)
        return replace(grid, array=_steps(sizes, powers) * np.where(high > -low, -1, 1).astype(arithmetic))
    span = arithmetic.type(alphabet.highest - alphabet.lowest)
    array = _steps(high / span - low / span, powers)
    assert isinstance(alphabet, Integers)
    with np.errstate(invalid="ignore"):
        zeros = np.clip(np.rint(alphabet.first - low / array), alphabet.first, alphabet.last)
    zeros = np.where(np.isfinite(zeros), zeros, alphabet.middle).astype(alphabet.held)
    return replace(grid, array=array, zeros=zeros)


def fit(grid: Grid, dtype: np.dtype[Any]) -> bool:
    """Whether every decoded number, in `dtype`, is finite."""
    alphabet, kind = grid.alphabet, grid.array.dtype.type
    shift = (
        0.0 if grid.zeros is None or not isinstance(alphabet, Integers) else grid.zeros.astype(kind) - alphabet.middle
    )
    with np.errstate(over="ignore"):
        ends = [(grid.array * (kind(end) - shift)).astype(dtype) for end in (alphabet.lowest, alphabet.highest)]
    return all(bool(np.isfinite(end).all()) for end in ends)


def encode(weight: Array, grid: Grid) -> Array:
    """The codes of `weight`, of its shape."""
    if grid.chosen is not None:
        return grid.chosen
    made = np.empty(weight.shape, grid.alphabet.held)
    for part in parts(weight.shape):
        made[part] = grid.codes(weight, part)
    return made


def decode(codes: Array, grid: Grid, dtype: np.dtype[Any]) -> Array:
    """What executors make of codes, of their shape."""
    made = np.empty(codes.shape, dtype)
    for part in parts(codes.shape):
        made[part] = grid.decoded(codes[part], dtype, part)
    return made


def absolute_errors(weight: Array, grid: Grid, summed: tuple[int, ...], kept: tuple[int, ...]) -> NDArray[np.float64]:
    """|weight - decode(encode(weight))|, exactly as the runtime will have it, summed over the axes `summed`, then the
    largest over all axes but `kept`; the result has the axes `kept` in order."""
    return sums_by_parts(weight.shape, lambda part: _error(weight, grid, part), summed, kept)


def _lengths(shape: tuple[int, ...], axes: tuple[int, ...], block: Block | None) -> list[int]:
    own = [n if axis in axes else 1 for axis, n in enumerate(shape)]
    if block is not None:
        own[block.axis] = -(-shape[block.axis] // block.size)
    return own


def _steps(made: Array, powers: bool) -> Array:
    """Of the type of `made`: 1 for 0, else nothing below the smallest normal number; powers of two if asked for."""
    dtype = made.dtype
    array = np.where(made == 0, 1, np.maximum(made, np.finfo(dtype).tiny))
    if powers:
        mantissa, exponent = np.frexp(array)
        with np.errstate(over="ignore"):
            up = np.ldexp(np.ones_like(array), exponent - (mantissa == 0.5))
        array = np.where(np.isfinite(array), up, array)
    return np.asarray(array.astype(dtype))


def _extremes(
    weight: Array, grid: Grid, divisor: Array | None, end: np.ufunc, of: Callable[[Array], Array] = np.asarray
) -> Array:
    """The least or the greatest of `of` the numbers that share a step, and 0; of the shape of the steps."""
    found = np.zeros_like(grid.array)
    shared = tuple(axis for axis, n in enumerate(found.shape) if n == 1)
    for part in parts(weight.shape):
        numbers = of(weight[part].astype(found.dtype, copy=False))
        if divisor is not None:
            numbers = numbers / divisor[part_of(part, divisor.shape)]
        here: list[slice | NDArray[np.intp]] = list(part_of(part, found.shape))
        if grid.block is not None and found.shape[grid.block.axis] > 1:
            at, size = grid.block
            index = np.arange(weight.shape[at])[part[at]] // size
            starts = np.flatnonzero(np.diff(index, prepend=-1))
            numbers, here[at] = end.reduceat(numbers, starts, at), index[starts]
        piece = end.reduce(numbers, shared, keepdims=True, initial=0)
        found[tuple(here)] = end(found[tuple(here)], piece)
    return found


def _error(weight: Array, grid: Grid, part: Part) -> NDArray[np.float64]:
    """The errors of a part, in float64."""
    decoded = grid.decoded(grid.codes(weight, part), weight.dtype, part)
    error = np.asarray(np.subtract(weight[part], decoded, dtype=np.float64))
    return np.asarray(np.abs(error, out=error))
