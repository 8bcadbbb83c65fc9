"""Scales along the input channels of a linear weight as well: w = q a_o b_i, from the weight alone.

Networks whose channels were rescaled against each other (by training, or by folded normalizations) compute the same
function, but a weight's columns then differ by orders of magnitude. One step per output channel suits the largest
column only, while activations make up for the small ones: there the error is as large as the signal.

The b_i are powers of two of at least 1, found by alternating a_o = max_i |w_oi| / b_i and b_i = max_o |w_oi| / a_o.
So the product a_o b_i is exact, and fl(fl(q a_o) b_i) = fl(q (a_o b_i)): the error is half a step a_o b_i as ever.

Whether they pay is judged without data. If every input channel adds the same energy to the output, the noise is
sum_o a_o^2 sum_i b_i^2 / E_i, with E_i the energy of column i. The scales are taken if that falls to a quarter or less
and the expected squared error of the weight, sum_o a_o^2 sum_i b_i^2, does not grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .blocks import part_of, parts
from .levels import Array, Grid, steps
from .sites import Site

ROUNDS = 3
SPAN = 24
"""The b_i span at most so many binary orders: what is smaller still is noise beside the rest."""
GAIN = 4.0
"""The noise must fall by so much: a scale per input channel takes room."""


def input_axis(shape: Sequence[int], sites: Sequence[Site]) -> int | None:
    """The axis of the constant that all readers have their input channels along, None if there is no such axis."""
    found = set()
    for site in sites:
        axis, axes = site.role.input_axis, site.layout.axes
        found.add(None if axis is None or axes is None or not site.layout.whole else axes[axis])
    axis = found.pop() if len(found) == 1 else None
    return axis if axis is not None and shape[axis] > 1 else None


def balanced(weight: Array, plain: Grid, axis: int) -> Grid:
    """Steps with factors along `axis` too, if they pay; else the `plain` ones."""
    if axis in plain.axes or not np.isfinite(plain.array).all():
        return plain
    factors = _powers(weight, plain, axis)
    rows = steps(weight, plain.axes, plain.array.dtype, factors, alphabet=plain.alphabet)
    energies = _energies(weight, axis).reshape(-1)
    before = np.square(plain.array, dtype=np.float64).sum()
    after = np.square(rows.array, dtype=np.float64).sum()
    squares = np.square(factors.reshape(-1), dtype=np.float64)
    live = energies > 0
    noise = after * (squares[live] / energies[live]).sum()
    if not noise * GAIN <= before * (1 / energies[live]).sum() or after * squares.mean() > before:
        return plain
    return replace(plain, array=rows.array * factors, factors=(rows.array, factors))


def _powers(weight: Array, plain: Grid, axis: int) -> Array:
    """b_i, of the rank of the weight."""
    factors = np.ones([n if at == axis else 1 for at, n in enumerate(weight.shape)], plain.array.dtype)
    rows = plain
    for _ in range(ROUNDS):
        columns = steps(weight, (axis,), plain.array.dtype, rows.array)
        exponents = np.rint(np.log2(columns.array.astype(np.float64)))
        exponents = np.where(_energies(weight, axis) > 0, exponents, -np.inf)
        if not np.isfinite(exponents).any():
            return factors
        lowest = max(exponents[np.isfinite(exponents)].min(), exponents.max() - SPAN)
        factors = np.exp2(np.maximum(exponents, lowest) - lowest).astype(factors.dtype)
        rows = steps(weight, plain.axes, plain.array.dtype, factors, alphabet=plain.alphabet)
    return factors


def _energies(weight: Array, axis: int) -> NDArray[np.float64]:
    """The sum of squares of every column, of the rank of the weight."""
    sums = np.zeros([n if at == axis else 1 for at, n in enumerate(weight.shape)])
    others = tuple(at for at in range(weight.ndim) if at != axis)
    with np.errstate(over="ignore", under="ignore"):
        for part in parts(weight.shape):
            squares = np.square(weight[part].astype(np.float64))
            sums[part_of(part, sums.shape)] += squares.sum(others, keepdims=True)
    return sums
