"""What small constants hold, as rules ask for it."""

from __future__ import annotations

import math

import numpy as np

from ...ir import SparseTensor, Tensor, Value

_SMALL = 1 << 16
"""Bytes up to which a constant is looked into by a pattern."""


def array_of(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """The elements of a small constant; None if it is large or sparse."""
    return None if isinstance(tensor, SparseTensor) or tensor.nbytes > _SMALL else tensor.numpy()


def scalar_of(value: Value) -> float | None:
    """The one element of a constant as a float; None if it is no constant of one number."""
    tensor = value.const
    numbers = None if tensor is None or tensor.size != 1 else numbers_of(tensor)
    return numbers[0] if numbers else None


def same_number(value: Value, wanted: float) -> bool:
    """Whether each element of a small constant is this number; of zeros the sign counts, for floats."""
    tensor = value.const
    numbers = None if tensor is None else numbers_of(tensor)
    return numbers is not None and all(
        number == wanted and math.copysign(1, number) == math.copysign(1, wanted) for number in numbers
    )


def may_be_zeros(value: Value) -> bool:
    """Whether each element of a constant is 0 or -0, or it is too large to be looked into."""
    tensor = value.const
    if tensor is None or tensor.nbytes > _SMALL:
        return tensor is not None
    numbers = numbers_of(tensor)
    return numbers is not None and not any(numbers)


def numbers_of(tensor: Tensor) -> tuple[float, ...] | None:
    """The one number that each element of a small constant is, (0, -0) if they are zeros of both signs, () if there are
    no elements; None if they differ, or are no real numbers. Tensors never change: what was found stays with them."""
    try:
        return tensor._numbers
    except AttributeError:
        tensor._numbers = found = _numbers_of(tensor)
        return found


def _numbers_of(tensor: Tensor) -> tuple[float, ...] | None:
    array = array_of(tensor)
    if array is None or array.dtype.kind in "OSUc":
        return None
    if not array.size:
        return ()
    first = array.reshape(-1)[0]
    if array.size > 1 and not bool((array == first).all()):
        return None
    if first == 0 and array.dtype.kind == "f" and len(np.unique(np.signbit(array))) == 2:
        return (0.0, -0.0)
    return (float(first),)
