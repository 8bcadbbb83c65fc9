"""Constants of a formula, and what they do to ranks.

A constant stands for a number if it is that number rounded to its own type, to the last bit: the square root of two is
1.4142135 in a float32 and nothing else; 1.4142 is another function.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....ir import Value
from ...rewriting.constants import array_of, scalar_of
from ...rewriting.pattern import NUMBER, Bound, Hole


class Rounded(Hole):
    """A constant of one element that is `number`, rounded to the type of the constant."""

    def __init__(self, number: float) -> None:
        self.number = number

    def fill(self, value: Value, bound: Bound) -> Bound | None:
        """Compare the element."""
        tensor = value.const
        array = None if tensor is None or tensor.size != 1 else array_of(tensor)
        if array is None or array.dtype.kind in "OSUb":
            return None
        return bound if is_rounded(array.reshape(1)[0], self.number) else None

    def may_match(self, head: str) -> bool:
        """Whether it is a constant of one element."""
        return head == NUMBER

    def may_be(self, value: Value | None) -> bool:
        """Whether it is a number that a type of few bits may have made of it."""
        number = None if value is None else scalar_of(value)
        return number is not None and math.isclose(number, self.number, rel_tol=0.25)


def is_rounded(element: Any, number: float) -> bool:
    """Whether an element is a number rounded to the type of the element."""
    return bool(element == np.asarray(number).astype(element.dtype)) and (
        element.dtype.kind not in "iu" or number == int(number)
    )


def float32(number: float) -> float:
    """A number as an attribute holds it."""
    return float(np.float32(number))


def number_of(value: Value | None) -> float | None:
    """The element of a constant of one number."""
    tensor = None if value is None else value.const
    array = None if tensor is None or tensor.size != 1 else array_of(tensor)
    return None if array is None or array.dtype.kind in "OSUbc" else float(array.reshape(()).astype(np.float64))
