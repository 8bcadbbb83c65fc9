"""Scaling the constants: by powers of two, so that every number can be scaled back to the bit.

Values that are scaled get another name, since what one name means in two models is taken to be equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...ir import DerivedTensor, Tensor, Value
from ..manager.context import Context
from ..manager.weights import Outcome
from .choose import LIMIT
from .units import Units

Array = np.ndarray[Any, np.dtype[Any]]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class TimesPowers:
    """Multiplies a constant by powers of two that broadcast to it."""

    powers: Int64

    def __call__(self, array: Array) -> Array:
        """The product; numbers that leave the range of the element type become infinite or lose digits."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(array, self.powers)


def powers_of(units: Units, powers: Int64) -> dict[Value, Int64]:
    """The power of two for every number of each constant that changes, in a shape that broadcasts to it."""
    found: dict[Value, Int64] = {}
    for touch in units.once:
        own = touch.power * powers[units.of(touch)]
        found[touch.constant] = found[touch.constant] + own if touch.constant in found else own
    return {constant: own for constant, own in found.items() if own.any()}


def out_of_range(units: Units, powers: Int64) -> Int64:
    """The units of which a constant could not be scaled back, or that have factors beyond the limit."""
    bad = np.abs(powers) > LIMIT
    changed = powers_of(units, powers)
    for touch in units.touches:
        own = changed.get(touch.constant)
        if own is not None:
            places = np.broadcast_to(units.of(touch), touch.tensor.shape)
            bad[places[losing(touch.constant, own)]] = True
    return np.flatnonzero(bad & (powers != 0))


def losing(constant: Value, powers: Int64) -> NDArray[np.bool_]:
    """Which numbers of a constant come not back from being scaled."""
    assert constant.const is not None
    array = constant.const.numpy()
    back = TimesPowers(-powers)(TimesPowers(powers)(array))
    return np.asarray((back != array) & (array == array))


def rename(ctx: Context, units: Units, powers: Int64) -> None:
    """Name the values anew that are scaled along one of their axes."""
    values = {axis.value: None for axis, numbers in units.numbers.items() if powers[numbers].any()}
    for value in values:
        if value.const is None and value.name:
            ctx.rewriter.rename(value, re.sub(r"_scaled(_\d+)?$", "", value.name) + "_scaled", near=True)


def scale(ctx: Context, changed: Mapping[Value, Int64]) -> None:
    """Scale the constants."""
    for constant, powers in changed.items():
        old = constant.const
        assert old is not None
        new: Tensor = DerivedTensor("scale", TimesPowers(powers), (old,), old.dtype, old.shape)
        if constant.tensor is not None:
            ctx.rewriter.set_tensor(constant, new)
        else:
            ctx.rewriter.replace_by_constant(constant, new)
        ctx.weights.became(old, [new], Outcome.FOLDED)
