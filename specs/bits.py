"""Equality of results to the bit, apart from what a NaN carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The outputs that `after` lacks or that differ."""
    return [name for name, value in before.items() if name not in after or not same_bits(value, after[name])]


def same_bits(a: Any, b: Any) -> bool:
    """Whether two results (arrays, lists of arrays, None) are of one type and shape and equal to the bit.

    A NaN equals every NaN; 0.0 and -0.0 differ.
    """
    if a is None or b is None:
        return a is b
    if isinstance(a, list) or isinstance(b, list):
        return isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and all(map(same_bits, a, b))
    left, right = np.asarray(a), np.asarray(b)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind == "O":
        return bool(np.array_equal(left, right))
    nan = left != left
    return bool(np.array_equal(nan, right != right)) and left[~nan].tobytes() == right[~nan].tobytes()
