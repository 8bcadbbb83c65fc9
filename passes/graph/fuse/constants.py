"""Constants in float64 that are rounded once, however many rewrites they go through.

A constant that a rule computes is a `DerivedTensor` that keeps its exact source: for weights the factors to scale the
original with, for small constants the float64 numbers. The next rule goes on from there, so that a weight which takes
in three scales is rounded to its type once, not three times.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto

from ....ir import DerivedTensor, SparseTensor, Tensor
from ....ir.dtypes import numpy_dtype

Array = np.ndarray[Any, np.dtype[Any]]
ONE, ZERO, MINUS_ONE = (np.broadcast_to(float(number), 1) for number in (1, 0, -1))
"""Scales and shifts of most maps."""
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16})
"""The element types that rules compute with. bfloat16 is left out: no executor computes layers in it."""


class Rounded:
    """Rounds float64 numbers to an element type."""

    def __init__(self, exact: Array, dtype: int) -> None:
        self.exact = exact
        self.dtype = dtype

    def __call__(self) -> Array:
        """The rounded numbers."""
        return self.exact.astype(numpy_dtype(self.dtype))


class Scaled:
    """Multiplies a weight, seen in the shape `view`, with factors that broadcast to it, in float64."""

    def __init__(self, view: tuple[int, ...], factors: tuple[Array, ...]) -> None:
        self.view = view
        self.factors = factors

    def __call__(self, weight: Array) -> Array:
        """The product, rounded to the type of `weight`."""
        with np.errstate(under="ignore"):
            found = weight.reshape(self.view).astype(np.float64)
            for factor in self.factors:
                found *= factor
            return found.reshape(weight.shape).astype(weight.dtype)

    def times(self, factor: Array) -> Scaled:
        """This with one more factor; factors of one shape become one."""
        for at, known in enumerate(self.factors):
            if known.shape == factor.shape:
                return Scaled(self.view, (*self.factors[:at], known * factor, *self.factors[at + 1 :]))
        return Scaled(self.view, (*self.factors, factor))


def exact(tensor: Tensor) -> Array:
    """The numbers in float64, before they were rounded if a rule computed them."""
    if isinstance(tensor, DerivedTensor) and isinstance(tensor.compute, Rounded):
        return tensor.compute.exact
    return tensor.numpy().astype(np.float64)


def rounded(numbers: Array, dtype: int) -> Tensor:
    """A constant that is `numbers` rounded to an element type."""
    return DerivedTensor("round", Rounded(numbers, dtype), (), dtype, numbers.shape)


def scaled(tensor: Tensor, view: tuple[int, ...], factor: Array) -> Tensor:
    """A weight times a factor that broadcasts to its `view`."""
    source, how = tensor, Scaled(view, ())
    if isinstance(tensor, DerivedTensor) and isinstance(tensor.compute, Scaled) and tensor.compute.view == view:
        (source,), how = tensor.sources, tensor.compute
    return DerivedTensor("scale", how.times(factor), (source,), tensor.dtype, tensor.shape)


def is_usable(tensor: Tensor | None) -> bool:
    """Whether a constant is dense and of an element type that rules compute with."""
    return tensor is not None and tensor.dtype in FLOATS and not isinstance(tensor, SparseTensor)


def fault(sizes: Array, scale: Array, dtype: int, what: str) -> str:
    """Why channels whose greatest absolute numbers are `sizes` cannot be scaled in an element type; empty if they can.

    A channel underflows if all its numbers become subnormal: then its precision is gone.
    """
    greatest, tiny = _limits(dtype)
    with np.errstate(all="ignore"):
        after = sizes * np.abs(scale)
    if not (after <= greatest).all():  # NaN is no number below
        is_sound = bool(np.isfinite(sizes).all())
        return f"{what} would overflow {numpy_dtype(dtype)}" if is_sound else f"{what} holds NaN or Inf"
    low = after < tiny
    if low.any() and (low & (sizes >= tiny) & (scale != 0)).any():
        return f"{what} would underflow {numpy_dtype(dtype)}"
    return ""


def overflows(numbers: Array, dtype: int) -> bool:
    """Whether not all numbers are finite in an element type."""
    return not bool((np.abs(numbers) <= _limits(dtype)[0]).all())


@cache
def _limits(dtype: int) -> tuple[float, float]:
    """The greatest number of an element type, and the least that is not subnormal."""
    limits = np.finfo(numpy_dtype(dtype))
    return float(limits.max), float(limits.tiny)
