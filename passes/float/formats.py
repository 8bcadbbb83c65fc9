"""The 16-bit formats, and what rounding to one takes from numbers.

float16 has 11 significant bits and reaches from 6e-8 (6e-5 with all its bits) to 65504; bfloat16 has 8 and the range of
float32. Rounding is to the nearest, ties to even: a number that keeps all its bits moves by at most 2^-11 of itself in
float16 and 2^-8 / 2 in bfloat16; one that float16 has fewer bits for, by at most 2^-25.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from onnx import TensorProto

from ...ir.dtypes import numpy_dtype
from ..quantize.blocks import parts, sums_by_parts
from ..quantize.error_bounds import Errors

Array = np.ndarray[Any, np.dtype[Any]]
COARSE = 2.0**-8
"""Numbers whose rounding errors make more than this share of their norm are not rounded: most of them lie where the
format has few bits left."""
STEP = 2.0**-8
"""Numbers that are all multiples of this were chosen rather than trained (positions, sizes, grids): they stay exact."""


@dataclass(frozen=True)
class Format:
    """A 16-bit format: its ONNX element type, the lowest opset with a Cast of it, and its largest number."""

    name: str
    dtype: int
    opset: int
    largest: float

    def rounded(self, numbers: Array) -> Array:
        """The nearest numbers of the format, in its type; what is beyond its range becomes infinite."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return numbers.astype(numpy_dtype(self.dtype))

    def errors(self, numbers: Array) -> Array:
        """How far rounding moves each number, in its type; nothing where both are NaN or the same infinity.

        The subtraction is exact: a number and its neighbour are at most a factor of 2 apart, or the latter is zero
        (Sterbenz).
        """
        there = self.rounded(numbers).astype(numbers.dtype)
        with np.errstate(invalid="ignore"):
            moved = np.asarray(np.abs(numbers - there))
        if not np.isfinite(moved).all():
            moved[(numbers == there) | (np.isnan(numbers) & np.isnan(there))] = 0
        return moved

    def error_sums(self, numbers: Array) -> Errors:
        """The errors of numbers, summed along axes."""
        return partial(sums_by_parts, numbers.shape, lambda part: self.errors(numbers[part]))


FORMATS = {
    one.name: one
    for one in (
        Format("float16", int(TensorProto.FLOAT16), 6, 65504.0),
        Format("bfloat16", int(TensorProto.BFLOAT16), 13, 3.3895313892515355e38),
    )
}


@dataclass
class Toll:
    """What rounding to a format takes from numbers, which may come one array after the other."""

    format: Format
    count: int = 0
    changed: int = 0
    overflowed: int = 0
    """Finite numbers that become infinite."""
    vanished: int = 0
    """Numbers that become 0."""
    energy: float = 0.0
    """The sum of squares of what is finite before and after."""
    error: float = 0.0
    """The sum of squared errors of those."""
    is_chosen: bool = True
    """Whether all are multiples of STEP."""

    def update(self, array: Array) -> None:
        """Take note of numbers."""
        numbers = np.asarray(array)
        for part in parts(numbers.shape):
            self._update(numbers[part])

    def _update(self, numbers: Array) -> None:
        errors = self.format.errors(numbers)
        finite = np.isfinite(errors)
        self.count += numbers.size
        self.changed += int(np.count_nonzero(errors))
        self.vanished += int(np.count_nonzero((errors == np.abs(numbers)) & (numbers != 0)))
        if not finite.all():
            self.overflowed += int(numbers.size - finite.sum())
            numbers, errors = numbers[finite], errors[finite]
        self.error += float(np.square(errors, dtype=np.float64).sum())
        numbers = numbers[np.isfinite(numbers)]
        with np.errstate(over="ignore"):
            self.energy += float(np.square(numbers, dtype=np.float64).sum())
            self.is_chosen = self.is_chosen and bool((np.fmod(numbers, STEP) == 0).all())

    @property
    def is_coarse(self) -> bool:
        """Whether the format has too few bits where the numbers lie."""
        return self.error > 0 and not self.error <= COARSE**2 * self.energy
